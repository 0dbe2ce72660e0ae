// The two-minute walk of the README, in both languages, on a phone and on a
// desktop, and everything that the till's page can do.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { assertPage, decode, desktop, gateway, launch, payments, phone, picture, quickstart, sandbox, shop, visitor } from './harness.mjs';

const words = {
	ko: {
		order: '주문하기', restock: '재입고', convenience: '편의점에서 결제', again: '다시 시도', print: '인쇄', stop: '계산대에 응답한 뒤 멈추기', start: '다시 시작하기', turnedAway: /응답하지 못한 횟수/,
		cashier: /점원이 되어 보기/, received: /^주문 접수/, waiting: /^결제 대기/, done: /^결제 완료/,
		umbrella: '접이식 우산', mug: '머그컵', lamp: '한정판 램프', price: '15,000원', deadline: /^\d{4}년 \d{1,2}월 \d{1,2}일 \d\d:\d\d까지$/,
		scan: '바코드 번호', cash: '현금', card: '카드', pay: '결제', paid: '결제되었습니다', refused: '게이트웨이가 거절했습니다',
		search: '주문번호, 상품, 바코드 번호', find: '찾기', other: 'English',
	},
	en: {
		order: 'Order', restock: 'Restock', convenience: 'Pay at a convenience store', again: 'Try again', print: 'Print', stop: 'Stop once the till has asked', start: 'Start it again', turnedAway: /Not answered/,
		cashier: /be the cashier/, received: /^Order received/, waiting: /^Waiting for payment/, done: /^Paid/,
		umbrella: 'Folding umbrella', mug: 'Mug', lamp: 'Limited lamp', price: '15,000 KRW', deadline: /^until \d{1,2} \w{3} \d{4}, \d\d:\d\d KST$/,
		scan: 'Barcode number', cash: 'Cash', card: 'Card', pay: 'Pay', paid: 'Paid', refused: 'The gateway refused',
		search: 'Order, name or barcode number', find: 'Find', other: '한국어',
	},
};

let started, browser;
before(async () => {
	started = await quickstart();
	browser = await launch();
});
after(async () => {
	await browser?.close();
	await started?.stop(); // unless the last test has ended it
});

// order orders a product in the shop and stops at its order page.
async function order(page, w, product) {
	await page.goto(shop);
	const button = (action) => page.getByRole('listitem').filter({ hasText: product }).getByRole('button', { name: action });
	if (await button(w.restock).count()) await button(w.restock).click();
	await button(w.order).click();
	await page.getByRole('status').filter({ hasText: w.received }).waitFor();
}

// voucher asks for the order's barcode and returns its number.
async function voucher(page, w) {
	await page.getByRole('button', { name: w.convenience }).click();
	await page.getByRole('status').filter({ hasText: w.waiting }).waitFor();
	return (await page.locator('.number').textContent()).replaceAll(' ', '');
}

// askAgain presses the button that asks again until there is a voucher: while the outcome of an earlier attempt is open, the
// gateway says so.
async function askAgain(page, w) {
	const again = page.getByRole('button', { name: w.again });
	do {
		await again.click();
		await again.or(page.getByRole('status').filter({ hasText: w.waiting })).waitFor();
	} while (await again.count());
}

// cashier follows the voucher's link to the till.
async function cashier(page, w) {
	const opened = page.context().waitForEvent('page');
	await page.getByRole('link', { name: w.cashier }).click();
	const till = await opened;
	await till.waitForLoadState();
	return till;
}

// atTheTill is a customer with a barcode, and the till that it is shown at.
async function atTheTill(product, options) {
	const v = await visitor(browser, desktop, 'en', options);
	await order(v.page, words.en, product);
	return { v, number: await voucher(v.page, words.en), till: await cashier(v.page, words.en) };
}

// pay presses a button of the till and returns the entry of the new scan.
async function pay(till, button) {
	const newest = till.locator('#exchanges > :first-child');
	const id = await newest.getAttribute('id');
	await till.getByRole('button', { name: button, exact: true }).click();
	await till.locator(`#exchanges > :first-child:not(#${id})`).waitFor();
	return newest;
}

const title = (exchange) => exchange.locator('summary strong').textContent();
const detail = (exchange) => exchange.locator('summary .detail').textContent();

for (const lang of ['ko', 'en']) {
	for (const device of [phone, desktop]) {
		for (const way of ['cash', 'card']) {
			test(`walk: ${lang}, ${device.name}, ${way}`, async () => {
				const w = words[lang];
				const v = await visitor(browser, device, lang);
				const { page } = v;
				await page.goto(shop);
				await assertPage(page);
				await order(page, w, w.umbrella);
				await assertPage(page);
				const number = await voucher(page, w);
				assert.match(number, /^\d{20}$/);
				await assertPage(page);
				assert.equal(await decode(page.locator('.barcode')), number);
				assert.equal(await page.locator('.amount dd').textContent(), w.price);
				assert.match(await page.locator('.voucher time').textContent(), w.deadline);
				if (lang === 'ko' && device === phone && way === 'cash') await picture(page, 'voucher');

				const till = await cashier(page, w);
				assert.equal(await till.getByLabel(w.scan, { exact: true }).inputValue(), number);
				assert.equal(await decode(till.locator('#payment svg')), number);
				await assertPage(till);
				await till.getByRole('radio', { name: w[way] }).check();
				const exchange = await pay(till, w.pay);
				assert.equal(await title(exchange), w.paid);
				assert.equal(await till.locator('#said').textContent(), w.paid, 'a screen reader hears it');
				assert.match(await exchange.locator('ol').textContent(), new RegExp(`Galaxia\\.Cvs\\.Confirm.*"payType": "${way}".*200 OK`, 's'));
				await assertPage(till);
				if (lang === 'en' && device === desktop && way === 'cash') await picture(till, 'till');

				await page.getByRole('status').filter({ hasText: w.done }).waitFor();
				assert.equal(await page.locator('.barcode').count(), 0, 'a paid barcode is not shown');
				await assertPage(page);
				assert.equal((await payments()).find((p) => p.barcode === number).pay_type, way);
				await v.close();
			});
		}

		test(`sold out: ${lang}, ${device.name}`, async () => {
			const w = words[lang];
			const v = await visitor(browser, device, lang);
			await order(v.page, w, w.lamp);
			const number = await voucher(v.page, w);
			const till = await cashier(v.page, w);
			const exchange = await pay(till, w.pay);
			assert.equal(await title(exchange), w.refused);
			assert.equal(await detail(exchange), '품절되었습니다', "the shop's own words");
			assert.equal((await payments()).find((p) => p.barcode === number).status, 'ready');
			await assertPage(till);
			if (lang === 'ko' && device === phone) await picture(till, 'refused');
			await v.page.goto(shop);
			await assertPage(v.page);
			await v.close();
		});
	}
}

test('the voucher prints, and nothing else of the page', async () => {
	const w = words.ko;
	const v = await visitor(browser);
	await order(v.page, w, w.mug);
	const number = await voucher(v.page, w);
	await v.page.getByRole('button', { name: w.print }).waitFor();
	await v.page.emulateMedia({ media: 'print' });
	assert.equal(await decode(v.page.locator('.barcode')), number);
	for (const role of ['button', 'banner', 'contentinfo']) assert.equal(await v.page.getByRole(role).count(), 0, role);
	await v.close();
});

test('the language is chosen on the page, for shop and till', async () => {
	const v = await visitor(browser, desktop, 'en');
	await v.page.goto(shop);
	await v.page.getByRole('link', { name: words.en.other }).click();
	await order(v.page, words.ko, words.ko.mug);
	const number = await voucher(v.page, words.ko);
	const till = await cashier(v.page, words.ko);
	await till.getByRole('button', { name: words.ko.pay, exact: true }).waitFor();
	await till.getByRole('link', { name: words.ko.other }).click();
	await till.getByRole('button', { name: words.en.pay, exact: true }).waitFor();
	assert.equal(await till.getByLabel(words.en.scan, { exact: true }).inputValue(), number, 'the barcode stays on the till');
	await v.close();
});

test('the till by keyboard alone', async () => {
	const w = words.en;
	const v = await visitor(browser, desktop, 'en');
	await order(v.page, w, w.mug);
	const number = await voucher(v.page, w);
	const till = await v.context.newPage();
	await till.goto(`${sandbox}/till`);
	while (!(await till.evaluate(() => document.activeElement.id === 'barcode'))) await till.keyboard.press('Tab');
	await till.keyboard.type(number.replace(/(\d{4})/g, '$1 '));
	await till.keyboard.press('Enter');
	const exchange = till.locator('#exchanges > :first-child');
	await exchange.getByRole('link', { name: number.slice(-4) }).waitFor();
	assert.equal(await title(exchange), w.paid);
	assert.ok(await till.evaluate(() => document.activeElement.id === 'barcode'), 'the focus stays');

	// The focused element changes: the entry of the list when it is paid, the button "back to normal" when it disappears.
	await order(v.page, w, w.mug);
	const id = new URL(v.page.url()).pathname.split('/').pop();
	const next = await voucher(v.page, w);
	await till.getByRole('link', { name: id }).focus();
	await fetch(`${sandbox}/till`, { method: 'POST', body: new URLSearchParams({ barcode: next }) });
	await till.getByRole('listitem').filter({ hasText: id }).getByText('Paid', { exact: true }).waitFor();
	assert.equal(await till.evaluate(() => document.activeElement.textContent), id);
	await injectFault(till, 'prepare', 'delay', 1);
	await till.locator('header').getByRole('button', { name: 'Back to normal' }).focus();
	await till.keyboard.press('Enter');
	await till.locator('.trouble').waitFor({ state: 'detached' });
	assert.equal(await till.locator('#said').textContent(), 'Back to normal.');
	assert.equal(await till.evaluate(() => document.activeElement.id), 'scan-title');
	await v.close();
});

test('a slow webhook holds nothing else up', async () => {
	const w = words.en;
	const { v, till } = await atTheTill(w.mug);
	await injectFault(till, 'confirm', 'delay', 3600);
	await till.getByRole('button', { name: w.pay, exact: true }).click();
	await till.locator('.busy').waitFor(); // which says that the gateway is being asked
	const { response } = await api({ merchant_uid: `meanwhile-${Date.now()}`, amount: 1 });
	await till.getByRole('link', { name: response.merchant_uid }).waitFor();
	await injectFault(till, 'prepare', 'delay', 1);
	await till.locator('header').getByRole('button', { name: 'Back to normal' }).click();
	await till.locator('.trouble').waitFor({ state: 'detached' });
	await v.close();
});

test('a page that the sandbox refuses, and one that is not its own, are told', async () => {
	const v = await visitor(browser, desktop, 'en');
	const till = v.page;
	await till.goto(`${sandbox}/till`);
	await till.locator('#faults summary').click();
	await till.locator('[name=delay_value]').evaluate((input) => (input.max = ''));
	await till.locator('[name=delay_value]').fill('3601');
	v.expect(400);
	await till.getByRole('button', { name: 'Make it go wrong' }).click();
	await till.getByRole('alert').filter({ hasText: 'delay must be between 0 and 1h0m0s' }).waitFor();
	const { response } = await api({ merchant_uid: `told-${Date.now()}`, amount: 1 });
	await till.getByRole('link', { name: response.merchant_uid }).waitFor();
	assert.equal(await till.locator('.problem').count(), 1, 'still there when something else has changed');
	v.expect(502);
	await till.route('**/till', (route) => route.fulfill({ status: 502, body: 'Bad Gateway' }));
	await till.getByRole('alert').filter({ hasText: 'cannot be reached' }).waitFor();
	await till.unroute('**/till');
	await till.getByRole('alert').filter({ hasText: 'cannot be reached' }).waitFor({ state: 'hidden' });
	await v.close();
});

test('what is shown is never older than what was', async () => {
	const w = words.en;
	const { v, till } = await atTheTill(w.mug);
	// The page asks the sandbox for changes, and something is paid before the answer arrives.
	let release, held;
	const arrived = new Promise((resolve) => (held = resolve));
	await till.route('**/till?*', async (route) => {
		if (route.request().method() !== 'GET' || release || route.request().isNavigationRequest()) return route.continue();
		const response = await route.fetch();
		const wait = new Promise((resolve) => (release = resolve));
		held();
		await wait;
		await route.fulfill({ response }).catch(() => {});
	});
	await arrived;
	const exchange = await pay(till, w.pay);
	const id = await exchange.getAttribute('id');
	release();
	const { response } = await api({ merchant_uid: `newer-${Date.now()}`, amount: 1 });
	const seen = [];
	while (!(await till.getByRole('link', { name: response.merchant_uid }).count())) seen.push(await till.locator('#exchanges > :first-child').getAttribute('id'));
	assert.ok(seen.every((x) => x === id), `the newest exchange was ${seen}`);
	await till.unrouteAll({ behavior: 'ignoreErrors' });

	// A fault that is used up before the page asks for changes again does not change the page.
	await injectFault(till, 'prepare', 'delay', 1);
	await fetch(`${sandbox}/sandbox/faults`, { method: 'DELETE' });
	await till.locator('.trouble').waitFor({ state: 'detached' });
	await v.close();
});

test('the till without JavaScript', async () => {
	const w = words.en;
	const { v, till } = await atTheTill(w.mug, { javaScriptEnabled: false });
	const exchange = await pay(till, w.pay);
	assert.equal(await title(exchange), w.paid);
	await v.page.reload();
	await v.page.getByRole('status').filter({ hasText: w.done }).waitFor();
	await v.close();
});

test('picking, searching, and a number that nobody issued', async () => {
	const w = words.en;
	const v = await visitor(browser, desktop, 'en');
	await order(v.page, w, w.mug);
	const id = new URL(v.page.url()).pathname.split('/').pop();
	const number = await voucher(v.page, w);
	const till = await v.context.newPage();
	await till.goto(`${sandbox}/till`);
	await till.getByLabel(w.search).fill(id);
	await till.getByRole('button', { name: w.find }).click();
	await till.getByRole('link', { name: id }).click();
	assert.equal(await till.getByLabel(w.scan, { exact: true }).inputValue(), number);
	assert.equal(await decode(till.locator('#list svg')), number, 'also the small one in the list');
	await till.getByLabel(w.scan, { exact: true }).fill('12345678');
	assert.equal(await title(await pay(till, w.pay)), 'No such barcode was issued');
	await till.getByRole('button', { name: w.find }).click();
	await till.waitForLoadState();
	assert.equal(await till.getByLabel(w.scan, { exact: true }).inputValue(), '12345678', 'searching leaves the till as it is');
	await assertPage(till);
	await v.close();
});

// What the README says of each scenario.
const scenarios = [
	['At two tills at once', 'Paid', /The second till: Acceptable, but not paid.*The other till was faster/s, 'paid'],
	['Voided while scanning', 'Acceptable, but not paid', /Void/, 'cancelled'],
	['After the deadline', 'The deadline has passed', /^\s*$/, 'ready'],
	['Paid in spite of the void', 'Paid', /200 OK/, 'paid'], // this one is not void
	['Lose the notice', 'Paid', /the webhook was not sent/, 'paid'],
	['Notice twice', 'Paid', /Notice webhook, again/, 'paid'],
	['Forged signature', 'The gateway refused', /403 Forbidden/, 'ready'],
	['Wrong amount', 'The gateway refused', /cvs_amount=1?[^9]\d*.*403 Forbidden/s, 'ready'],
	['Another order', 'The gateway refused', /403 Forbidden/, 'ready'],
	['No signature', 'Paid', /200 OK/, 'paid'], // the quickstart looks an unsigned webhook up, and this one is genuine
];
for (const [button, outcome, steps, status] of scenarios) {
	test(`what happens in life: ${button}`, async () => {
		const w = words.en;
		const { v, number, till } = await atTheTill(w.mug);
		const exchange = await pay(till, button);
		assert.equal(await title(exchange), outcome);
		assert.match(await exchange.locator('ol').textContent(), steps);
		assert.equal((await payments()).find((p) => p.barcode === number).status, status);
		await assertPage(till);
		await v.close();
	});
}

// This test calls the sandbox directly, because the gateway would fill in its own confirm_url.
for (const [lang, device, outcome, warning] of [
	['ko', phone, 'cvs_confirm의 승인 없이 결제되었습니다', /^주의: 이 200 응답은 cvs_confirm이 보낸 것이 아닙니다/],
	['en', desktop, 'Paid, but cvs_confirm did not accept it', /^Warning: This 200 did not come from cvs_confirm/],
]) {
	test(`a 200 that cvs_confirm did not send: ${lang}, ${device.name}`, async () => {
		const w = words[lang];
		const app = createServer((_, response) => response.end('OK')).listen(0, '127.0.0.1');
		await once(app, 'listening');
		const call = (path, fields, headers) => fetch(sandbox + path, { method: 'POST', headers, body: new URLSearchParams(fields) })
			.then((r) => r.json()).then((r) => r.response);
		const { access_token: token } = await call('/users/getToken', { imp_key: 'app', imp_secret: 'app' });
		const { vbank_num: number } = await call('/cvs', {
			merchant_uid: `astray-${Date.now()}`, amount: 15000, confirm_url: `http://127.0.0.1:${app.address().port}/confirm`,
		}, { Authorization: token });

		const v = await visitor(browser, device, lang);
		await v.page.goto(`${sandbox}/till?barcode=${number}`);
		const exchange = await pay(v.page, w.pay);
		assert.equal(await title(exchange), outcome);
		assert.match(await exchange.locator('.warning').textContent(), warning);
		assert.ok(await exchange.locator('.warning').isVisible());
		assert.match(await v.page.locator('#said').textContent(), /confirm_url/, 'a screen reader hears it');
		assert.equal((await payments()).find((p) => p.barcode === number).status, 'paid', 'as the real sender would make it');
		await assertPage(v.page);
		app.close();
		await v.close();
	});
}

// injectFault injects a fault by the form of the page, for so many requests as times says.
async function injectFault(till, endpoint, effect, value, times = 1) {
	if (!(await till.locator('#faults').evaluate((e) => e.open))) await till.locator('#faults summary').click();
	await till.locator('#endpoint').selectOption(endpoint);
	await till.locator('#times').fill(String(times));
	await till.locator(`[name=effect][value=${effect}]`).check();
	if (value !== undefined) await till.locator(`[name=${effect}_value]`).fill(String(value));
	await till.getByRole('button', { name: 'Make it go wrong' }).click();
	await till.locator('.trouble').waitFor();
}

const issued = async (id) => (await payments()).filter((p) => p.merchant_uid === id).length;

// Faults of the API while the shop asks for a barcode. What the gateway mends
// is a voucher as if nothing had happened; the rest the shop is told.
const issueFaults = [
	['delay', 1, 'voucher'], ['drop_before', undefined, /Outcome unknown/], ['drop_after', undefined, 'voucher'], ['drop_body', undefined, 'voucher'],
	['garbage', undefined, 'voucher'], ['oversized', undefined, 'voucher'], ['expired_token', undefined, 'voucher'],
	['status', 503, /요청을 처리할 수 없습니다/], ['code', 1, /요청을 처리할 수 없습니다/],
];
for (const [effect, value, outcome] of issueFaults) {
	test(`fault: POST /cvs, ${effect}`, async () => {
		const w = words.en;
		const v = await visitor(browser, desktop, 'en');
		const till = await v.context.newPage();
		await till.goto(`${sandbox}/till`);
		await order(v.page, w, w.mug);
		const id = new URL(v.page.url()).pathname.split('/').pop();
		await injectFault(till, 'issue', effect, value);
		await assertPage(till);
		if (outcome === 'voucher') {
			await voucher(v.page, w);
		} else {
			v.expect(502);
			await v.page.getByRole('button', { name: w.convenience }).click();
			await v.page.getByRole('alert').filter({ hasText: outcome }).waitFor();
			await assertPage(v.page);
			assert.equal(await issued(id), 0);
			await askAgain(v.page, w);
		}
		assert.equal(await issued(id), 1, 'one barcode');
		await till.locator('.trouble').waitFor({ state: 'detached' }); // the page sees that the fault is used up
		await v.close();
	});
}

test('fault: an outcome that nobody knows, and the way back to normal', async () => {
	const w = words.en;
	const v = await visitor(browser, desktop, 'en');
	const till = await v.context.newPage();
	await till.goto(`${sandbox}/till`);
	await order(v.page, w, w.mug);
	const id = new URL(v.page.url()).pathname.split('/').pop();
	await injectFault(till, 'issue', 'drop_after', undefined);
	await injectFault(till, 'find', 'status', 500, 0);
	v.expect(502);
	await v.page.getByRole('button', { name: w.convenience }).click();
	await v.page.getByRole('alert').filter({ hasText: id }).waitFor();
	await till.locator('header').getByRole('button', { name: 'Back to normal' }).click();
	await till.locator('.trouble').waitFor({ state: 'detached' });
	await askAgain(v.page, w);
	assert.equal(await issued(id), 1, 'the barcode of the first attempt was found');
	await v.close();
});

test('fault: no token to be had', async () => {
	const w = words.en;
	const v = await visitor(browser, desktop, 'en');
	const till = await v.context.newPage();
	await till.goto(`${sandbox}/till`);
	await order(v.page, w, w.mug);
	const id = new URL(v.page.url()).pathname.split('/').pop();
	await injectFault(till, 'issue', 'expired_token', undefined);
	await injectFault(till, 'token', 'status', 503, 0);
	v.expect(502);
	await v.page.getByRole('button', { name: w.convenience }).click();
	const alert = v.page.getByRole('alert');
	await alert.filter({ hasText: /token/ }).waitFor();
	const state = till.getByRole('status').filter({ hasText: 'Gateway' });
	await state.filter({ hasText: "Gateway: not ready No access token: not the API's answer, or a 5xx" }).waitFor();
	await assertPage(till);
	await till.locator('header').getByRole('button', { name: 'Back to normal' }).click();
	await till.locator('.trouble').waitFor({ state: 'detached' });
	await askAgain(v.page, w); // the gateway waits a moment before it asks for a token
	await state.filter({ hasText: 'Gateway: ready' }).waitFor();
	await assertPage(till);
	assert.equal(await issued(id), 1);
	await v.close();
});

// Faults of the webhooks: what the till then says, and the order.
const confirmFaults = [
	['delay', 1, 'Paid', /200 OK/, 'paid'],
	['drop_before', undefined, 'No answer from the gateway', /not sent/, 'ready'],
	['drop_after', undefined, 'No answer from the gateway', /the answer was lost/, 'ready'],
	['garbage', undefined, 'The gateway refused', /415 Unsupported Media Type/, 'ready'],
	// The answer leaves while the 2 MiB are still being sent, and may be lost with the connection.
	['oversized', undefined, ['The gateway refused', 'No answer from the gateway'], /413 Request Entity Too Large|No answer/, 'ready'],
	['duplicate', undefined, 'Paid', /Confirm webhook, again/, 'paid'],
];
for (const [effect, value, outcome, steps, status] of confirmFaults) {
	test(`fault: confirm webhook, ${effect}`, async () => {
		const w = words.en;
		const { v, number, till } = await atTheTill(w.umbrella);
		await injectFault(till, 'confirm', effect, value);
		const exchange = await pay(till, w.pay);
		const said = await title(exchange);
		assert.ok([outcome].flat().includes(said), said);
		assert.match(await exchange.textContent(), steps);
		assert.equal((await payments()).find((p) => p.barcode === number).status, status);
		await assertPage(till);
		await v.close();
	});
}

// Whatever becomes of the notice, or of the look-up after it, the shop hears of the payment: at once, or by the sweep.
const noticeFaults = [
	['delay', 'notice', 1, /is sent after 1s/], ['duplicate', 'notice', undefined, /Notice webhook, again/], ['drop_after', 'notice', undefined, /the answer was lost/],
	['drop_before', 'notice', undefined, /was not sent/], ['garbage', 'notice', undefined, /<!DOCTYPE html>/], ['oversized', 'notice', undefined, /Notice webhook/],
	['forged_signature', 'notice', undefined, /Forged signature/], ['forged_merchant_uid', 'notice', undefined, /Another order/],
	['status', 'payment', 503, /200 OK/], ['drop_before', 'payment', undefined, /200 OK/], ['stale', 'payment', 3, /200 OK/],
];
for (const [effect, endpoint, value, steps] of noticeFaults) {
	test(`fault: ${endpoint}, ${effect}`, async () => {
		const w = words.en;
		const { v, till } = await atTheTill(w.mug);
		await injectFault(till, endpoint, effect, value);
		const exchange = await pay(till, w.pay);
		assert.equal(await title(exchange), 'Paid');
		assert.match(await exchange.textContent(), steps);
		await heard(v.page, w.done);
		await v.close();
	});
}

// heard waits until the shop's page says that the shop has heard of something: within seconds, or a minute if it was down.
const heard = (page, text) => page.getByRole('status').filter({ hasText: text }).waitFor({ timeout: 90_000 });

for (const [lang, device] of [['ko', phone], ['en', desktop]]) {
	test(`a shop that goes down hears of the payment when it is back: ${lang}, ${device.name}`, async () => {
		const w = words[lang];
		const v = await visitor(browser, device, lang);
		await order(v.page, w, w.mug);
		await voucher(v.page, w);
		const till = await cashier(v.page, w);
		const staff = await v.context.newPage();
		await staff.goto(shop);
		await staff.getByRole('button', { name: w.stop }).click();
		await staff.getByRole('button', { name: w.start }).waitFor();
		await assertPage(staff);
		assert.equal(await title(await pay(till, w.pay)), w.paid);
		await v.page.bringToFront(); // a page that is behind another one does not look for changes
		await v.page.getByText(w.turnedAway).waitFor();
		assert.match(await v.page.getByRole('status').textContent(), w.waiting, 'it is paid, and the shop does not know');
		await assertPage(v.page);
		await v.page.getByRole('button', { name: w.start }).click();
		await heard(v.page, w.done);
		await v.page.locator('#details').getByText('paid', { exact: true }).waitFor();
		assert.equal(await v.page.getByRole('button', { name: w.start }).count(), 0);
		await assertPage(v.page);
		await v.close();
	});
}

test('a stopped shop takes no money', async () => {
	const w = words.en;
	const { v, till } = await atTheTill(w.mug);
	const staff = await v.context.newPage();
	await staff.goto(shop);
	await staff.getByRole('button', { name: 'Stop the shop' }).click();
	await staff.getByRole('button', { name: w.start }).waitFor();
	const refused = await pay(till, w.pay);
	assert.equal(await title(refused), w.refused);
	assert.match(await refused.textContent(), /502 Bad Gateway/);
	await staff.getByRole('button', { name: w.start }).click();
	await staff.getByRole('button', { name: 'Stop the shop' }).waitFor();
	assert.equal(await title(await pay(till, w.pay)), w.paid);
	await v.page.bringToFront();
	await heard(v.page, w.done);
	await v.close();
});

test('a refund, in part without a notice, and the rest with one', async () => {
	const w = words.en;
	const { v, till } = await atTheTill(w.umbrella);
	await pay(till, w.pay);
	const refund = async (amount, button) => {
		await till.bringToFront();
		await till.getByLabel('Amount to refund (KRW)').fill(amount);
		await assertPage(till);
		return title(await pay(till, button));
	};
	assert.equal(await refund('4000', 'Refund without a notice'), 'Refunded 4,000 KRW');
	await v.page.bringToFront();
	await heard(v.page, /^Refunded in part/);
	await assertPage(v.page);
	assert.equal(await refund('11000', 'Refund, and send the notice'), 'Refunded 11,000 KRW');
	await v.page.bringToFront();
	await heard(v.page, /^Refunded We/);
	await v.page.getByText('15,000 KRW').first().waitFor();
	await v.close();
});

// Faults of the calls by number: what the gateway answers. A look-up whose connection breaks is repeated if the connection
// was an old one.
const callFaults = [
	['delay', 1, 200], ['status', 503, 503], ['code', 1, 200], ['drop_before', undefined, 502], ['drop_after', undefined, 502], ['drop_body', undefined, 502],
	['garbage', undefined, 502], ['oversized', undefined, 502], ['expired_token', undefined, 200],
];
for (const endpoint of ['payment', 'find', 'void']) {
	test(`faults: ${endpoint}`, async () => {
		const v = await visitor(browser, desktop, 'en');
		await v.page.goto(`${sandbox}/till`);
		for (const [effect, value, status] of callFaults) {
			const id = `${endpoint}-${effect}-${Date.now()}`.slice(0, 40);
			const { response } = await api({ merchant_uid: id, amount: 1 });
			await injectFault(v.page, endpoint, effect, value);
			const [method, path] = { payment: ['GET', `payments/${response.imp_uid}?include_sandbox=true`], find: ['GET', `payments/find/${id}`], void: ['DELETE', `cvs/${response.imp_uid}`] }[endpoint];
			const answer = await fetch(`${gateway}/${path}`, { method });
			const repeated = method === 'GET' && ['drop_before', 'drop_after'].includes(effect) && answer.status === 200;
			if (!repeated) assert.equal(answer.status, status, effect);
			const { code } = await answer.json();
			assert.equal(code, { status: -1, code: 1 }[effect] ?? (answer.status === 200 ? 0 : -1), effect);
			await v.page.locator('.trouble').waitFor({ state: 'detached' });
		}
		await v.close();
	});
}

test('only what can go wrong is offered', async () => {
	const v = await visitor(browser, desktop, 'en');
	const till = v.page;
	await till.goto(`${sandbox}/till`);
	await till.locator('#faults summary').click();
	const offered = async (endpoint) => {
		await till.locator('#endpoint').selectOption(endpoint);
		return till.locator('[name=effect]:enabled').evaluateAll((all) => all.map((e) => e.value).join(' '));
	};
	assert.equal(await offered('issue'), 'delay status code drop_before drop_after drop_body garbage oversized done late omit expired_token');
	assert.equal(await offered('find'), 'delay status code drop_before drop_after drop_body garbage oversized stale omit expired_token');
	assert.equal(await offered('token'), 'delay status code drop_before drop_after drop_body garbage oversized');
	await till.locator('[value=status]').check();
	assert.equal(await offered('confirm'), 'delay drop_before drop_after garbage oversized duplicate forged_signature forged_amount forged_merchant_uid forged_unsigned');
	assert.ok(await till.locator('[value=delay]').isChecked(), 'what is not offered is not chosen');
	await v.close();
});

// api calls the gateway as an app would.
const api = (fields) => fetch(`${gateway}/cvs`, { method: 'POST', body: new URLSearchParams(fields) }).then((r) => r.json());

test('script in a field stays text', async () => {
	const evil = '<img src=x onerror=alert(1)>';
	const { response } = await api({ merchant_uid: `evil-${Date.now()}"><script>`, name: evil, amount: 1, barcode: `"><script>alert(1)</script>${Date.now()}` });
	const v = await visitor(browser, desktop, 'en');
	await v.page.goto(`${sandbox}/till?${new URLSearchParams({ barcode: response.vbank_num })}`);
	await v.page.locator('#payment').getByText(evil).waitFor();
	await pay(v.page, 'Pay');
	await assertPage(v.page);
	await v.close();
});

test('10,000 barcodes leave the page quick', async () => {
	const few = await time('with few barcodes');
	for (let i = 0; i < 10_000; i += 50) {
		await Promise.all(Array.from({ length: 50 }, (_, j) => api({ merchant_uid: `many-${i + j}`, name: '머그컵', amount: 9000 })));
	}
	assert.equal((await payments()).length, 10_000, 'the sandbox keeps the newest');
	const many = await time('with 10,000 barcodes');
	assert.ok(many.size < 1.1 * few.size, `the page has grown from ${few.size} to ${many.size} bytes`);
	console.log(`first paint ${(many.paint / few.paint).toFixed(2)} times, update ${(many.update / few.update).toFixed(2)} times`);
});

// time measures the first paint, and what one look for changes costs.
async function time(what) {
	const paints = [], updates = [];
	for (let i = 0; i < 9; i++) {
		const v = await visitor(browser);
		await v.page.goto(`${sandbox}/till`);
		paints.push(await v.page.evaluate(() => new Promise((resolve) => {
			new PerformanceObserver((list) => resolve(list.getEntries()[0].startTime)).observe({ type: 'paint', buffered: true });
		})));
		await api({ merchant_uid: `new-${what}-${i}`.replaceAll(' ', '').slice(0, 40), name: '머그컵', amount: 9000 });
		updates.push(await v.page.evaluate(async () => {
			etag = ''; // the page may have looked by itself meanwhile
			const start = performance.now();
			await refresh(); // the page's own, which it calls each second
			return performance.now() - start;
		}));
		assert.ok(await v.page.locator('#list > li').first().getByText('new-').count(), 'the new barcode is there');
		assert.equal(await v.page.locator('#list > li').count(), 20, 'no more than a page of them');
		await v.close();
	}
	const median = (all) => all.sort((a, b) => a - b)[all.length >> 1];
	const size = (await (await fetch(`${sandbox}/till`)).text()).length;
	const figures = { paint: median(paints), update: median(updates), size };
	console.log(`${what}: first paint ${figures.paint.toFixed(0)} ms, update ${figures.update.toFixed(0)} ms (medians of 9)`);
	return figures;
}

test('a sandbox that ends is noticed', async () => {
	const v = await visitor(browser, desktop, 'en');
	await v.page.goto(`${sandbox}/till`);
	await started.stop();
	await v.page.getByRole('alert').filter({ hasText: 'cannot be reached' }).waitFor();
	v.wrong.length = 0; // the browser tells of the refused connections
	await v.close();
	started = undefined;
});
