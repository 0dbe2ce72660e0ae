// What the users of the npm SDKs of PortOne V1 see, with "serve all" and without
// "serve", and the reference's table of it.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { start } from './harness.mjs';
import { calls, sdks } from './sdks.mjs';

const reference = new URL('../../docs/reference.md', import.meta.url);

// rows are the table's. A row makes a call for an order in a state, perhaps under a
// fault of the sandbox, and its result is either a response, which `sees` judges
// and describes in the table's words, or an `error`. Without `serve` the gateway serves
// only what is `always` served.
const rows = [
	{ call: 'POST /users/getToken', by: calls.getToken, order: 'none', always: true, sees: token },
	{ call: 'POST /cvs', by: calls.issue, order: 'none', always: true, sees: payment('ready') },
	{
		call: 'POST /cvs', of: 'without an amount', by: calls.issueWithoutAmount, order: 'none', always: true,
		error: gateway(400, 'amount is required, as one number'),
	},
	{ call: 'DELETE /cvs/{imp_uid}', by: calls.void, order: 'ready', always: true, sees: payment('cancelled') },
	{
		call: 'DELETE /cvs/{imp_uid}', of: 'of a paid barcode', by: calls.void, order: 'paid', always: true,
		error: portOne(200, '이미 수납이 완료되어 말소할 수 없습니다.'),
	},
	{ call: 'GET /payments/{imp_uid}', by: calls.payment, order: 'paid', always: true, sees: payment('paid') },
	{
		call: 'GET /payments/{imp_uid}', of: 'that PortOne does not know', by: calls.payment, order: 'none', always: true,
		error: portOne(404, '존재하지 않는 결제정보입니다.'),
	},
	{
		call: 'GET /payments/{imp_uid}', of: 'while PortOne answers 503', by: calls.payment, order: 'paid', always: true,
		fault: { endpoint: 'payment', status: 503, message: '점검 중입니다.' },
		error: portOne(503, '점검 중입니다.'),
	},
	{
		call: 'GET /payments/{imp_uid}', of: 'while an HTML page answers', by: calls.payment, order: 'paid', always: true,
		fault: { endpoint: 'payment', garbage: true },
		error: gateway(502, /^The answer.* was not PortOne's.* any proxy between the gateway and PortOne\.$/),
	},
	{ call: 'GET /payments/find/{merchant_uid}', by: calls.find, order: 'paid', always: true, sees: payment('paid') },
	{ call: 'GET /payments/status/paid', by: calls.list, order: 'paid', sees: list },
	{ call: 'GET /payments/findAll/{merchant_uid}/', by: calls.findAll, order: 'paid', sees: list },
	{ call: 'GET /payments/findAll/{merchant_uid}/paid', by: calls.findAllByStatus, order: 'paid', sees: list },
	{ call: 'GET /payments', of: 'with `imp_uid[]`', by: calls.payments, order: 'paid', sees: payments },
	{ call: 'GET /payments/{imp_uid}/balance', by: calls.balance, order: 'paid', sees: balance },
	{ call: 'POST /payments/cancel', by: calls.cancel(), order: 'paid', sees: payment('cancelled', 15000) },
	{ call: 'POST /payments/cancel', of: 'of a part', by: calls.cancel({ amount: 5000, checksum: 15000 }), order: 'paid', sees: payment('cancelled', 5000) },
	{
		call: 'POST /payments/cancel', of: 'of an unpaid order', by: calls.cancel(), order: 'ready',
		error: portOne(200, '결제가 완료되지 않은 주문은 취소할 수 없습니다.'),
	},
	{
		call: 'POST /payments/cancel', of: 'while an HTML page answers', by: calls.cancel(), order: 'paid',
		fault: { endpoint: 'cancel', garbage: true },
		error: gateway(504, /^Outcome unknown: .* may or may not have been done\. Look the payment up before you ask again\.$/),
	},
	{ call: 'POST /payments/prepare', by: calls.prepare, order: 'none', sees: preparation },
	{
		call: 'POST /payments/prepare', of: 'a second time', by: calls.prepare, order: 'prepared',
		error: portOne(200, '이미 등록된 merchant_uid입니다.'),
	},
	{ call: 'GET /payments/prepare/{merchant_uid}', by: calls.prepared, order: 'prepared', sees: preparation },
];

function gateway(status, text) { return { from: "the gateway's", status, text }; }
function portOne(status, text) { return { from: "PortOne's", status, text }; }

// unserved is what the gateway answers to a call that no option lets through.
function unserved(call) {
	const text = `The gateway does not serve "${call}", and nothing was done. If the app is to call it, add "serve ${call}" to cvs_proxy, with * in the place of a value.`;
	return gateway(403, text);
}

function token({ access_token: accessToken }) {
	assert.equal(accessToken, 'held-by-caddy-cvs');
	return 'the placeholder token';
}

// payment expects the order's payment in a status that the sandbox has seen, too.
function payment(status, cancelled = 0) {
	return (p, order, kept) => {
		assert.deepEqual([p.merchant_uid, p.amount, p.cancel_amount, p.status, kept.status], [order.merchant_uid, order.amount, cancelled, status, status]);
		return `the payment, ${cancelled ? `${cancelled} of ${order.amount} won cancelled` : `\`${status}\``}`;
	};
}

function payments([only], order) {
	assert.equal(only.imp_uid, order.imp_uid);
	return 'the payments';
}

function list({ list: [newest] }, order) {
	assert.equal(newest.imp_uid, order.imp_uid);
	return 'the list';
}

function preparation(p, order) {
	assert.deepEqual([p.merchant_uid, p.amount], [order.merchant_uid, order.amount]);
	return 'the amount';
}

function balance(b, order) {
	assert.equal(b.amount, order.amount);
	return 'the balance';
}

const at = (seen, path) => path.split('.').filter(Boolean).reduce((value, name) => value?.[name], seen);

// failure returns the table's words for an error. It fails if the user could take it
// for a success, or is not told why, unless the SDK itself drops that.
function failure(sdk, { resolved, rejected }, { from, status, text }) {
	const seen = resolved ?? rejected;
	assert.equal(sdk.status.map((path) => at(seen, path)).find(Boolean) ?? status, status);
	if (sdk.dropsTextOf.includes(status)) {
		assert.equal(rejected?.message, String(status));
		return `an error, which only says “${status}”`;
	}
	const where = sdk.texts.find((path) => typeof text === 'string' ? at(seen, path) === text : text.test(at(seen, path)));
	assert.ok(where, `${text} is not in ${seen.message}`);
	if (rejected) return `${from} error, in \`${where}\``;
	assert.equal(at(resolved, sdk.response), null, 'a success that did not happen');
	return `**no error**, \`${sdk.response}\` is null; ${from} text in \`${where}\``;
}

// see makes a row's call and returns the table's words for what its user sees.
async function see(row, sdk, site) {
	const served = row.always || site === 'serveAll';
	const order = await caddy.order(row.order);
	const before = await caddy.payment(order);
	if (row.fault && served) await caddy.inject(row.fault);
	const outcome = await row.by[sdk.name](sdk.client(caddy[site]), order).then((resolved) => ({ resolved }), (rejected) => ({ rejected }));
	assert.deepEqual(await caddy.faults(), [], 'a fault did not strike');
	const kept = await caddy.payment(order);
	if (!served) {
		assert.deepEqual(kept, before, 'something was done');
		assert.ok(outcome.rejected, 'its user could take it for a success');
		return failure(sdk, outcome, unserved(row.call.replace(/\/$/, '').replace(/{(\w+)}/g, (_, name) => order[name])));
	}
	if (row.error) return failure(sdk, outcome, row.error);
	assert.ok(outcome.resolved, outcome.rejected);
	return row.sees(at(outcome.resolved, sdk.response), order, kept);
}

let caddy;
before(async () => { caddy = await start(); });
after(() => caddy?.stop());

const lines = [
	`| call | without \`serve\` | ${sdks.map((sdk) => `\`${sdk.name}\` ${sdk.version}`).join(' | ')} |`,
	'|---|---|---|---|---|',
];
const line = (...cells) => lines.push(`| ${cells.join(' | ')} |`);
const unservedWords = sdks.map(() => new Set());

for (const row of rows) {
	const name = `\`${row.call}\`${row.of ? ` ${row.of}` : ''}`;
	test(name, async () => {
		const cells = [];
		for (const [i, sdk] of sdks.entries()) {
			if (!row.by[sdk.name]) {
				cells.push('–');
				continue;
			}
			cells.push(await see(row, sdk, 'serveAll'));
			const without = await see(row, sdk, 'byDefault');
			if (row.always) assert.equal(without, cells[i]);
			else unservedWords[i].add(without);
		}
		line(name, row.always ? 'the same' : 'not served', ...cells);
	});
}

test("the reference's table is this one", async () => {
	assert.equal(lines.length, 2 + rows.length, 'a call failed');
	line('a call that is not served', '', ...unservedWords.map((words) => {
		assert.equal(words.size, 1, [...words].join('; '));
		return [...words][0];
	}));
	const text = await readFile(reference, 'utf8');
	const table = /(<!-- sdks: .*-->\n)[^]*(<!-- \/sdks -->)/;
	assert.match(text, table);
	const written = text.replace(table, (_, begin, end) => `${begin}\n${lines.join('\n')}\n\n${end}`);
	if (process.env.UPDATE_DOCS) await writeFile(reference, written);
	else assert.equal(text, written, 'UPDATE_DOCS=1 .ci/sdks/run CADDY writes it');
});
