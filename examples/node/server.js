// A small shop in Node. What it does with Caddy is in gateway.js; the rest is an ordinary shop.
import express from 'express';
import { fileURLToPath } from 'node:url';
import { ask, gateway } from './gateway.js';
import * as orders from './orders.js';
import * as page from './page.js';

const app = express();
app.disable('x-powered-by');
app.use('/static', express.static(fileURLToPath(new URL('static', import.meta.url))));
app.use((req, res, next) => {
	res.set({
		'Cache-Control': 'no-store', // a reload shows the order's present state
		'Content-Security-Policy': "default-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'",
		'Referrer-Policy': 'same-origin', // whoever knows the address of an order can open it
	});
	next();
});
app.use(gateway);

app.get('/', (req, res) => res.send(page.home(orders.products())));

app.post('/orders', express.urlencoded({ limit: '4kb' }), (req, res) => {
	const product = orders.product(req.body?.product);
	if (!product) return res.status(400).send(page.problem('없는 상품입니다'));
	if (product.stock === 0) return res.status(409).send(page.problem('품절되었습니다'));
	res.redirect(303, `/orders/${orders.create(req.body.product).id}`);
});

app.get('/orders/:id.json', (req, res) => {
	const order = orders.find(req.params.id);
	if (!order) return res.status(404).json({ reason: '없는 주문입니다' });
	const { id, product, amount, state, paidAt } = order;
	res.json({ id, product, amount, state, paid_at: paidAt });
});

// The page of an order without a barcode asks for one. A reload asks again if that failed.
app.get('/orders/:id', async (req, res) => {
	let order = orders.find(req.params.id);
	if (!order) return res.status(404).send(page.problem('없는 주문입니다'));
	if (order.state === 'waiting' && !order.barcode) {
		await ask(orders.reopen(order.id)).catch((error) => {
			console.error(`asking for the barcode of ${order.id}: ${error.response?.data?.message ?? error.message}`);
		});
		order = orders.find(order.id);
	}
	res.send(page.order(order, orders.overdue(order)));
});

// A new barcode for an order whose last one has expired. Nobody is to go to the till in vain.
app.post('/orders/:id/barcode', (req, res) => {
	const order = orders.find(req.params.id);
	if (!order) return res.status(404).send(page.problem('없는 주문입니다'));
	if (!order.held && orders.product(order.product).stock === 0) return res.status(409).send(page.problem('품절되었습니다'));
	res.redirect(303, `/orders/${orders.reopen(order.id).id}`);
});

app.use((req, res) => res.status(404).send(page.problem('없는 페이지입니다')));

app.use((error, req, res, next) => {
	if (res.headersSent) return next(error);
	const status = error.status ?? 500;
	if (status >= 500) console.error(error);
	res.status(status).send(page.problem(status >= 500 ? '잠시 후 다시 시도해 주세요' : '잘못된 요청입니다'));
});

const port = Number(process.env.PORT || 3000);
app.listen(port, '127.0.0.1', (error) => {
	if (error) throw error;
	console.log(`the shop's app listens on 127.0.0.1:${port}`);
});
