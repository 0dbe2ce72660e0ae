// A customer on a phone at one of the shops of examples/: internal/shops starts the shop, and this script with SHOP_URL and SANDBOX_URL. PICTURES is
// a folder for what the customer sees.
import assert from 'node:assert/strict';
import path from 'node:path';
import { assertPage, decode, launch, payments, phone, sandbox, shop, visitor } from './harness.mjs';

const browser = await launch();
const v = await visitor(browser, phone, 'ko');
const { page } = v;

// seen asserts what must hold on every page, and keeps a picture of it.
async function seen(name) {
	await assertPage(page);
	assert.equal(await page.getAttribute('html', 'lang'), 'ko');
	if (process.env.PICTURES) await page.screenshot({ path: path.join(process.env.PICTURES, `${name}.png`), fullPage: true });
}

const status = (word) => page.getByRole('status').filter({ hasText: word }).waitFor();

// order orders a product, and stops where its barcode is shown.
async function order(product) {
	await page.goto(shop);
	await page.getByRole('listitem').filter({ hasText: product }).getByRole('button', { name: '주문하기' }).click();
	const convenience = page.getByRole('button', { name: '편의점에서 결제' }); // in the Go demo
	await page.locator('.number').or(convenience).first().waitFor();
	if (await convenience.count()) await convenience.click();
	await status('결제 대기');
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
	const number = (await page.locator('.number').textContent()).replaceAll(' ', '');
	const bars = page.locator('main img[src^="/barcode/"], main .barcode svg').first();
	assert.equal(await decode(bars), number, 'the till reads the number from the phone');
	const box = await bars.boundingBox();
	assert.ok(box.y + box.height <= phone.viewport.height, `the customer sees the whole barcode without scrolling: it ends at ${box.y + box.height}`);

	// The page shows by itself that it is paid.
	assert.equal(JSON.parse(await till('till', { barcode: number, pay_type: 'cash' })).accepted, true);
	await status('결제 완료');
	await seen('3-paid');

	const { imp_uid } = (await payments()).find((p) => p.barcode === number);
	await till('till-refund', { imp_uid, amount: '15000', enable_webhook: 'true' });
	await status('환불 완료');
	await seen('4-paid-back');

	await v.close();
} finally {
	await browser.close(); // else the process does not end
}
