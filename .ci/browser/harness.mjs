// What the walks share: the quickstart, the browser, and what must hold on
// every page: no console error, no request to another host, no accessibility
// violation, no horizontal scrolling.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { prepareZXingModule, readBarcodes } from 'zxing-wasm/reader';

const require = createRequire(import.meta.url);
const root = fileURLToPath(new URL('../..', import.meta.url));
const pictures = path.join(root, 'examples/quickstart/pictures');
const axe = await readFile(require.resolve('axe-core/axe.min.js'), 'utf8');
// Without this the decoder would fetch its WebAssembly from the network.
prepareZXingModule({ overrides: { wasmBinary: (await readFile(require.resolve('zxing-wasm/reader/zxing_reader.wasm'))).buffer } });

export const shop = process.env.SHOP_URL ?? 'http://127.0.0.1:8080';
export const sandbox = process.env.SANDBOX_URL ?? 'http://127.0.0.1:8480';
export const gateway = 'http://127.0.0.1:8081';

// quickstart runs the README's command until stop is called.
export async function quickstart() {
	const child = spawn('go', ['run', './examples/quickstart'], { cwd: root, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
	let output = '';
	const ended = new Promise((resolve) => child.on('exit', resolve));
	await new Promise((resolve, reject) => {
		const read = (chunk) => {
			output += chunk;
			if (output.includes('Ctrl-C ends everything')) resolve();
		};
		child.stdout.on('data', read);
		child.stderr.on('data', read);
		ended.then(() => reject(new Error(`the quickstart ended:\n${output}`)));
	});
	return {
		async stop() {
			process.kill(-child.pid, 'SIGINT');
			await ended;
		},
	};
}

export const launch = () => chromium.launch({
	executablePath: '/usr/bin/chromium',
	// Without Chromium's own sandbox, because CI runs as root, and without features that contact other hosts.
	args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});

export const phone = { name: 'phone', viewport: { width: 360, height: 780 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
export const desktop = { name: 'desktop', viewport: { width: 1280, height: 900 } };

// visitor opens a browser window of its own. Its close() must be called at the
// end: it fails if something went wrong. expect() names an HTTP status that the next page
// may have.
export async function visitor(browser, device = desktop, lang = 'ko', options = {}) {
	const { name, ...settings } = device;
	const context = await browser.newContext({ ...settings, locale: lang === 'ko' ? 'ko-KR' : 'en-US', ...options });
	context.setDefaultTimeout(15_000);
	const wrong = [];
	const expected = new Set();
	context.on('console', (message) => {
		const status = /status of (\d+)/.exec(message.text())?.[1];
		if (message.type() === 'error' && !expected.has(status)) wrong.push(`console: ${message.text()}`);
	});
	context.on('weberror', (error) => wrong.push(`error: ${error.error()}`));
	context.on('dialog', (dialog) => {
		wrong.push(`dialog: ${dialog.message()}`);
		dialog.dismiss();
	});
	context.on('request', (request) => {
		const url = new URL(request.url());
		if (url.protocol !== 'data:' && ![shop, sandbox].includes(url.origin)) wrong.push(`request to ${url}`);
	});
	return {
		context,
		wrong,
		page: await context.newPage(),
		expect: (status) => expected.add(String(status)),
		async close() {
			await context.close();
			assert.deepEqual(wrong, []);
		},
	};
}

// assertPage fails on an accessibility violation or on horizontal scrolling in a page as it is
// now.
export async function assertPage(page) {
	await page.evaluate(axe);
	const { violations } = await page.evaluate(() =>
		globalThis.axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
	const found = violations.flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.target.join(' ')}: ${n.failureSummary}`));
	assert.deepEqual(found, [], page.url());
	const [wide, width] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
	assert.ok(wide <= width, `${page.url()} is ${wide} px wide on a screen of ${width}`);
}

// decode reads the barcode in a picture as a till's scanner would.
export async function decode(locator) {
	await locator.page().bringToFront(); // the browser does not draw a page that is behind another
	const results = await readBarcodes(await locator.screenshot(), { formats: ['Code128'] });
	assert.equal(results.length, 1, 'one barcode in the picture');
	return results[0].text;
}

export const payments = async () => (await (await fetch(`${sandbox}/sandbox/payments`)).json()).payments;

// picture renews one of the README's pictures if PICTURES is set, and else
// compares it with what the page looks like now, except for barcodes and texts
// with digits: those differ from run to run.
export async function picture(page, name) {
	const file = path.join(pictures, `${name}.png`);
	await page.bringToFront();
	const now = await page.screenshot({ animations: 'disabled', caret: 'hide' });
	if (process.env.PICTURES) {
		await mkdir(pictures, { recursive: true });
		await writeFile(file, now);
		return;
	}
	const changing = await page.evaluate(changingParts);
	const blank = await page.context().browser().newPage();
	const urls = [await readFile(file), now].map((png) => `data:image/png;base64,${png.toString('base64')}`);
	const part = await blank.evaluate(difference, [urls, changing]);
	await blank.close();
	assert.ok(part <= 0.0007, `${(part * 100).toFixed(2)} % of ${name}.png differ from the page: renew it with PICTURES=1 .ci/browser/run`);
}

// changingParts runs in the browser. It returns the places of barcodes and
// digits, with the whole width of their elements, because other digits may be wider.
function changingParts() {
	const rects = [...document.querySelectorAll('svg[shape-rendering], input')].map((e) => e.getBoundingClientRect());
	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (texts.nextNode()) {
		if (!/\d|order-/.test(texts.currentNode.data)) continue;
		const range = document.createRange();
		range.selectNodeContents(texts.currentNode);
		const { x, width } = texts.currentNode.parentElement.getBoundingClientRect();
		rects.push(...[...range.getClientRects()].map(({ y, height }) => ({ x, y, width, height })));
	}
	return rects.map(({ x, y, width, height }) => [x - 8, y - 4, width + 16, height + 8].map((n) => n * devicePixelRatio));
}

// difference runs in the browser. It reduces the pictures to a quarter of their
// size and returns the share of pixels that differ visibly.
async function difference([urls, changing]) {
	const [a, b] = await Promise.all(urls.map(async (url) => {
		const image = new Image();
		image.src = url;
		await image.decode();
		const canvas = new OffscreenCanvas(Math.round(image.width / 4), Math.round(image.height / 4));
		const context = canvas.getContext('2d');
		context.imageSmoothingQuality = 'high';
		context.drawImage(image, 0, 0, canvas.width, canvas.height);
		for (const part of changing) context.fillRect(...part.map((n) => n / 4));
		return context.getImageData(0, 0, canvas.width, canvas.height);
	}));
	if (a.width !== b.width || a.height !== b.height) return 1;
	let differ = 0;
	for (let i = 0; i < a.data.length; i += 4) {
		if ([0, 1, 2].some((j) => Math.abs(a.data[i + j] - b.data[i + j]) > 24)) differ++;
	}
	return differ / (a.data.length / 4);
}
