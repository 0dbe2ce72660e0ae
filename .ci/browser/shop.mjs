// A customer on a phone at one of the shops of examples/: internal/shops starts the shop, and this script with SHOP_URL, SANDBOX_URL and, in
// EXPIRED, the path of an order whose barcode has expired. PICTURES is a folder for what the customer sees.
import assert from 'node:assert/strict';
import path from 'node:path';
import { assertPage, decode, launch, payments, phone, sandbox, shop, visitor } from './harness.mjs';

const browser = await launch();
const v = await visitor(browser, phone, 'ko');
const { page } = v;

// seen asserts what must hold on every page, on small and large phones, and keeps a picture of it.
async function seen(name) {
	for (const width of [320, 390, phone.viewport.width]) {
		await page.setViewportSize({ ...phone.viewport, width });
		await assertPage(page);
	}
	assert.equal(await page.getAttribute('html', 'lang'), 'ko');
	if (process.env.PICTURES) await page.screenshot({ path: path.join(process.env.PICTURES, `${name}.png`), fullPage: true });
}

const status = (word) => page.getByRole('status').filter({ hasText: word }).waitFor();

const button = (product) => page.getByRole('listitem').filter({ hasText: product }).getByRole('button', { name: '주문하기' });

const shownNumber = async () => (await page.locator('.number').textContent()).replaceAll(' ', '');

// order orders a product, and stops where its barcode is shown.
async function order(product) {
	await page.goto(shop);
	await button(product).click();
	const convenience = page.getByRole('button', { name: '편의점에서 결제' }); // in the Go demo
	await page.locator('.number').or(convenience).first().waitFor();
	if (await convenience.count()) await convenience.click();
	await status('결제 대기');
}

// otherLamp orders a lamp as another customer, unless it is sold out: in the Go demo so that the till refuses the first one.
async function otherLamp() {
	await page.goto(shop);
	if (!(await button('램프').count())) return undefined;
	await order('램프');
	return { number: await shownNumber(), url: page.url() };
}

// till reads the whole answer: else the process does not end.
const till = async (action, form) => {
	const answer = await fetch(`${sandbox}/${action}`, {
		method: 'POST', headers: { Accept: 'application/json' }, body: new URLSearchParams(form), redirect: 'manual',
	});
	return answer.text();
};

try {
	await page.goto(shop);
	await seen('1-products');

	await order('우산');
	await seen('2-voucher');
	const number = await shownNumber();
	const bars = page.locator('main img[src^="/barcode/"], main .barcode svg').first();
	assert.equal(await decode(bars), number, 'the till reads the number from the phone');
	const box = await bars.boundingBox();
	assert.ok(box.y + box.height <= phone.viewport.height, `the customer sees the whole barcode without scrolling: it ends at ${box.y + box.height}`);

	await page.setViewportSize({ width: 320, height: 568 });
	assert.equal(await decode(bars), number, 'also from a small phone');
	await page.setViewportSize(phone.viewport);

	// The page shows by itself that it is paid.
	assert.equal(JSON.parse(await till('till', { barcode: number, pay_type: 'cash' })).accepted, true);
	await status('결제 완료');
	await seen('3-paid');

	const { imp_uid } = (await payments()).find((p) => p.barcode === number);
	await till('till-refund', { imp_uid, amount: '15000', enable_webhook: 'true' });
	await status('환불 완료');
	await seen('4-paid-back');

	await page.goto(shop + process.env.EXPIRED);
	await status('결제 기한 만료');
	await page.getByRole('button', { name: '새 바코드 받기' }).waitFor();
	await seen('5-expired');

	// The last lamp is sold while a second customer stands at another till, and a third one looks at the products.
	await order('램프');
	const first = await shownNumber();
	const second = await otherLamp();
	await page.goto(shop);
	assert.equal(JSON.parse(await till('till', { barcode: first, pay_type: 'card' })).accepted, second !== undefined);
	if (second) {
		const refused = JSON.parse(await till('till', { barcode: second.number, pay_type: 'card' }));
		assert.deepEqual([refused.accepted, refused.reason], [false, '품절되었습니다']);
		v.expect(409);
		await button('램프').click();
		await page.getByRole('heading', { name: '품절되었습니다' }).waitFor();
		await seen('6-sold-out');
		await page.goto(second.url);
		await status('결제 대기'); // the till says why
		await seen('7-refused');
		await page.goto(shop);
	}
	await page.getByRole('listitem').filter({ hasText: '램프' }).getByText('품절', { exact: true }).waitFor();
	await seen('8-products-sold-out');

	v.expect(404);
	await page.goto(`${shop}/orders/none`);
	await page.getByRole('heading', { name: '없는 주문입니다' }).waitFor();
	await seen('9-no-such-order');

	await v.close();
} finally {
	await browser.close(); // else the process does not end
}
