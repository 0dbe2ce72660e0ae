// This file holds the orders and the stock. They are in a JSON file, because the Node of Debian 12 has no node:sqlite. A real shop
// has its database here, in which each change below is one transaction.
import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';

const file = process.env.SHOP_DATA || 'orders.json';
const lifetime = Number(process.env.SHOP_LIFETIME || 72 * 60 * 60); // of a barcode, in seconds

let data = {
	products: {
		umbrella: { name: '접이식 우산', price: 15000, stock: 100 },
		lamp: { name: '한정판 램프', price: 30000, stock: 1 },
	},
	orders: {},
};
if (existsSync(file)) data = JSON.parse(readFileSync(file, 'utf8'));

// change makes a change on disk first: if that fails, it has not happened, and Caddy tells it again.
function change(edit) {
	const next = structuredClone(data);
	edit(next);
	const fd = openSync(`${file}.new`, 'w');
	try {
		writeFileSync(fd, JSON.stringify(next));
		fsyncSync(fd);
	} finally {
		closeSync(fd);
	}
	renameSync(`${file}.new`, file);
	data = next;
}

// changeOrder changes an order if the condition holds.
function changeOrder(id, condition, edit) {
	if (condition(data.orders[id])) change((next) => edit(next.orders[id], next));
}

const now = () => Math.floor(Date.now() / 1000);
const own = (object, key) => (Object.hasOwn(object, key) ? object[key] : undefined);

export const products = () => Object.entries(data.products).map(([id, p]) => ({ id, ...p }));
export const product = (id) => own(data.products, id);
export const find = (id) => own(data.orders, id);
export const overdue = (order) => order.state === 'waiting' && order.expires <= now();

// create returns a new order of a product. Whoever knows its number can open its page, so the number is random.
export function create(productID) {
	const { name, price } = data.products[productID];
	const id = `order-${randomBytes(8).toString('hex')}`;
	change((next) => {
		next.orders[id] = {
			id, product: productID, name, amount: price, state: 'waiting', expires: now() + lifetime,
			barcode: null, impUid: null, paidAt: null, refunded: 0, held: false,
		};
	});
	return find(id);
}

// reopen gives an order that is to get a barcode a deadline that has not passed.
export function reopen(id) {
	changeOrder(id, (o) => o.state === 'expired' || (overdue(o) && !o.barcode), (o) => {
		Object.assign(o, { state: 'waiting', expires: now() + lifetime, barcode: null, impUid: null });
	});
	return find(id);
}

// issued keeps the barcode, unless the order was paid meanwhile.
export function issued(id, impUid, barcode) {
	changeOrder(id, (o) => o.state === 'waiting', (o) => Object.assign(o, { impUid, barcode }));
}

// take takes an item out of the stock for the order, once, if there is one.
function take(o, next) {
	const p = next.products[o.product];
	if (o.held || p.stock === 0) return;
	p.stock--;
	o.held = true;
}

// hold returns whether the order has an item. It is taken out of the stock.
export function hold(id) {
	changeOrder(id, (o) => !o.held && product(o.product).stock > 0, take);
	return find(id).held;
}

// paid also takes an order whose barcode had expired: the money is there. Its item may be gone; somebody must see to that.
export function paid(id, impUid, paidAt) {
	const open = (o) => o.state === 'waiting' || o.state === 'expired';
	if (!open(find(id))) {
		if (find(id).impUid !== impUid) console.error(`order ${id} was paid a second time, by ${impUid}: pay it back`);
		return;
	}
	changeOrder(id, open, (o, next) => {
		take(o, next);
		Object.assign(o, { state: 'paid', impUid, paidAt });
	});
	if (!find(id).held) console.error(`order ${id} is paid, and there is no ${find(id).product} left for it`);
}

// cancelled notes what was paid back until now of the payment that paid the order. Only all of it makes the order a cancelled one.
export function cancelled(id, impUid, refunded) {
	const more = (o) => o.state === 'paid' && o.impUid === impUid && refunded > o.refunded;
	changeOrder(id, more, (o) => Object.assign(o, { state: refunded < o.amount ? 'paid' : 'cancelled', refunded }));
}

// expired concerns the order's present barcode only. An item that was held goes back into the stock.
export function expired(id, impUid) {
	changeOrder(id, (o) => o.state === 'waiting' && o.impUid === impUid, (o, next) => {
		if (o.held) next.products[o.product].stock++;
		Object.assign(o, { state: 'expired', held: false });
	});
}
