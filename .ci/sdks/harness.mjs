// What the test runs against: a Caddy with the sandbox and two gateways, and orders
// that are issued, paid and looked at without any SDK.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

// freePorts returns ports of this machine that nobody listens on.
async function freePorts(n) {
	const servers = Array.from({ length: n }, () => createServer().listen(0, '127.0.0.1'));
	await Promise.all(servers.map((server) => once(server, 'listening')));
	const ports = servers.map((server) => server.address().port);
	await Promise.all(servers.map((server) => once(server.close(), 'close')));
	return ports;
}

// start runs the Caddyfile beside this file.
export async function start() {
	const home = await mkdtemp(path.join(tmpdir(), 'sdks-'));
	const [SANDBOX, DEFAULT, SERVE_ALL] = await freePorts(3);
	const caddy = spawn(process.env.CADDY, ['run', '--config', fileURLToPath(new URL('Caddyfile', import.meta.url))], {
		env: {
			...process.env, HOME: home, XDG_DATA_HOME: home, XDG_CONFIG_HOME: home,
			SANDBOX, DEFAULT, SERVE_ALL, PORTONE_IMP_KEY: 'gateway-key', PORTONE_IMP_SECRET: 'gateway-secret',
		},
		stdio: ['ignore', 'ignore', 'pipe'],
	});
	let log = '';
	const ended = once(caddy, 'exit');
	await new Promise((resolve, reject) => {
		caddy.stderr.on('data', (chunk) => {
			log += chunk;
			if (log.includes('serving initial configuration')) resolve();
		});
		caddy.on('error', reject);
		caddy.on('exit', () => reject(new Error(`Caddy ended:\n${log}`)));
	});
	const [sandbox, byDefault, serveAll] = [SANDBOX, DEFAULT, SERVE_ALL].map((port) => `http://127.0.0.1:${port}`);
	return {
		byDefault,
		serveAll,
		...controls(sandbox, serveAll),
		async stop() {
			caddy.kill();
			await ended;
			await rm(home, { recursive: true });
		},
	};
}

// controls are what the test does without an SDK.
function controls(sandbox, gateway) {
	async function call(method, url, body) {
		const response = await fetch(url, { method, body: body && JSON.stringify(body), headers: { 'Content-Type': 'application/json' } });
		const answer = await response.json();
		assert.equal(response.status, 200, JSON.stringify(answer));
		return answer;
	}
	let orders = 0;
	return {
		// order returns a new order: "none", "prepared", "ready" with a barcode, or "paid".
		async order(state) {
			const order = { merchant_uid: `order-${++orders}`, imp_uid: `imp_none_${orders}`, amount: 15000 };
			const { merchant_uid, amount } = order;
			if (state === 'none') return order;
			if (state === 'prepared') {
				await call('POST', `${gateway}/payments/prepare`, { merchant_uid, amount });
				return order;
			}
			const { response: payment } = await call('POST', `${gateway}/cvs`, { merchant_uid, amount });
			if (state === 'paid') await call('POST', `${sandbox}/till`, { barcode: payment.vbank_num });
			return { ...order, imp_uid: payment.imp_uid };
		},
		// payment returns an order's payment as the sandbox keeps it.
		async payment({ merchant_uid }) {
			const { payments } = await call('GET', `${sandbox}/sandbox/payments`);
			return payments.find((p) => p.merchant_uid === merchant_uid);
		},
		// inject injects a fault for one request.
		inject: (fault) => call('POST', `${sandbox}/sandbox/faults`, { ...fault, times: 1 }),
		faults: async () => (await call('GET', `${sandbox}/sandbox/faults`)).faults,
	};
}
