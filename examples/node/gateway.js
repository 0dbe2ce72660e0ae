// This file holds everything that communicates with Caddy: the shop asks for a barcode, answers the order check, and is told
// what happened to a payment. It is what an existing shop copies. `orders` is the shop's own database.
import { Router, raw } from 'express';
import iamport from 'iamport-rest-client-nodejs';
import { Webhook } from 'standardwebhooks';
import * as orders from './orders.js';

export const gateway = Router();

// The client needs no key: Caddy adds the access token.
const client = new iamport.Iamport({ baseUrl: process.env.CVS_URL || 'http://127.0.0.1:8081' });
const api = client.getApiInstance();
api.defaults.timeout = 15_000; // longer than Caddy takes, so that its answer arrives first
api.defaults.proxy = false; // the gateway is on this machine, whatever HTTP_PROXY says

// ---- 1. Ask ----
// ask gets the order's barcode. It may be called again at any time, after a time-out or when the page is reloaded: Caddy answers
// with the order's one barcode. So the shop needs no lock. The deadline is the order's own, the same each time, because the
// answer does not contain it.
export async function ask(order) {
	const { data } = await api.post('/cvs', {
		merchant_uid: order.id,
		amount: order.amount,
		name: order.name,
		expired_at: order.expires,
	});
	const payment = data.response;
	if (data.code !== 0 || !payment?.vbank_num) throw new Error(data.message || 'the answer has no barcode');
	orders.issued(order.id, payment.imp_uid, payment.vbank_num);
}

// ---- 2. Check ----
// Caddy asks this while the customer stands at the till, and compares the total with the barcode's amount. It may ask twice.
// Whoever is told yes has his item: it is taken out of the stock here, for two tills may ask at once for the last one. It goes
// back when the barcode expires. If the change fails, Express answers 500, and the till takes no money.
gateway.post('/orders/:id/payable', (req, res) => {
	const order = orders.find(req.params.id);
	const reason = refusal(order, req.get('X-Cvs-Imp-Uid'));
	if (reason) res.status(409).json({ payable: false, reason });
	else res.json({ payable: true, total: order.amount });
});

function refusal(order, impUid) {
	if (!order) return '없는 주문입니다';
	if (order.state === 'paid') return '이미 결제된 주문입니다';
	if (order.state === 'cancelled') return '환불된 주문입니다';
	if (order.state === 'expired') return '결제 기한이 지났습니다';
	if (order.impUid !== impUid) return '다른 바코드로 결제해 주세요';
	return orders.hold(order.id) ? '' : '품절되었습니다';
}

// ---- 3. Told ----
// Caddy tells what happened to a payment until it is answered {"heard":true}, so the shop may be told twice: each event changes
// only an order that it has not changed yet. The order number is the body's: the signature does not cover the path.
const webhook = new Webhook(process.env.CVS_TELL_SECRET);
if (webhook.key.length < 24) throw new Error('CVS_TELL_SECRET is whsec_ and at least 24 bytes in base64');

gateway.post('/payments/:id', raw({ type: () => true, limit: '64kb' }), (req, res) => {
	try {
		webhook.verify(req.body, req.headers, { jsonParse: false }); // the bytes as they came, not JSON that was written anew
	} catch {
		return res.status(401).json({ reason: '서명이 올바르지 않습니다' });
	}
	const news = parse(req.body);
	if (typeof news?.merchant_uid !== 'string') return res.status(400).json({ reason: '내용을 읽을 수 없습니다' });
	if (news.test) return res.json({ heard: true }); // from caddy cvs trigger, about no payment
	const order = orders.find(news.merchant_uid);
	if (!order) return res.status(404).json({ reason: '없는 주문입니다' });
	if (news.amount !== order.amount) return res.status(409).json({ reason: '금액이 주문과 다릅니다' });
	if (news.event === 'paid') orders.paid(order.id, news.imp_uid, news.paid_at);
	if (news.event === 'cancelled') orders.cancelled(order.id, news.imp_uid, news.cancel_amount);
	if (news.event === 'expired') orders.expired(order.id, news.imp_uid);
	res.json({ heard: true }); // only now, when it is on disk
});

// parse returns undefined for what is no JSON. An error would be a 500, and Caddy would take the whole shop for down.
function parse(body) {
	try {
		return JSON.parse(body);
	} catch {
		return undefined;
	}
}
