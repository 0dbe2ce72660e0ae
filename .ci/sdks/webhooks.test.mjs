// What the shop is told, as the module sends it, verified by the npm package of the
// Standard Webhooks. The file is written and compared by the tests of client/tell.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { Webhook, WebhookVerificationError } from 'standardwebhooks';

const attempts = JSON.parse(await readFile(new URL('../../client/tell/testdata/signed.json', import.meta.url), 'utf8'));
const unknown = 'whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcY';

// The package refuses what is older than five minutes, by this clock.
Date.now = () => attempts[0]['webhook-timestamp'] * 1000;

// verify returns the members of a body that the secret verifies. The package parses JSON
// alone: a form needs an option.
function verify(secret, attempt, body = attempt.body) {
	const { 'webhook-id': id, 'webhook-timestamp': at, 'webhook-signature': signature } = attempt;
	const headers = { 'webhook-id': id, 'webhook-timestamp': String(at), 'webhook-signature': signature };
	const json = attempt['content-type'] === 'application/json';
	const members = new Webhook(secret).verify(body, headers, { jsonParse: json });
	return json ? members : Object.fromEntries(new URLSearchParams(body));
}

for (const attempt of attempts) {
	const { secrets, body } = attempt;
	test(`${body}, ${secrets.length === 1 ? 'one secret' : 'two secrets'}`, () => {
		for (const secret of secrets) {
			const { imp_uid, merchant_uid, amount, event } = verify(secret, attempt);
			assert.match(imp_uid, /^imp_\d+$/);
			assert.ok(merchant_uid);
			assert.ok(Number(amount) >= 15000);
			assert.match(event, /^(paid|cancelled|expired)$/);
			const changed = body.replace(/(?<=amount\W+)\d/, (digit) => 9 - digit);
			assert.notEqual(changed, body);
			assert.throws(() => verify(secret, attempt, changed), WebhookVerificationError);
			assert.throws(() => verify(secret, { ...attempt, 'webhook-id': 'cvs_another' }), WebhookVerificationError);
			assert.throws(() => verify(secret, { ...attempt, 'webhook-timestamp': attempt['webhook-timestamp'] + 1 }), WebhookVerificationError);
		}
		assert.throws(() => verify(unknown, attempt), WebhookVerificationError);
	});
}

test('each kind of body, with one secret and with two', () => {
	const kinds = new Set(attempts.map((attempt) => `${attempt['content-type']} ${attempt.secrets.length}`));
	assert.deepEqual([...kinds].sort(), [
		'application/json 1', 'application/json 2', 'application/x-www-form-urlencoded 1', 'application/x-www-form-urlencoded 2',
	]);
});
