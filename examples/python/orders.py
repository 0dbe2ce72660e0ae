"""The orders and the stock, in SQLite. Each change is one transaction."""

import logging
import os
import secrets
import sqlite3
import time
from contextlib import closing, contextmanager

FILE = os.environ.get("SHOP_DATA", "shop.db")
LIFETIME = int(os.environ.get("SHOP_LIFETIME", 72 * 60 * 60))  # of a barcode, in seconds

SCHEMA = """
CREATE TABLE IF NOT EXISTS products (id TEXT PRIMARY KEY, name TEXT, price INTEGER, stock INTEGER);
CREATE TABLE IF NOT EXISTS orders (
    id TEXT PRIMARY KEY, product TEXT, name TEXT, amount INTEGER, state TEXT DEFAULT 'waiting', expires INTEGER,
    barcode TEXT, imp_uid TEXT, paid_at INTEGER, refunded INTEGER DEFAULT 0,
    held INTEGER DEFAULT 0);  -- whether an item was taken out of the stock for it
INSERT OR IGNORE INTO products VALUES ('umbrella', '접이식 우산', 15000, 100), ('lamp', '한정판 램프', 30000, 1);
"""


@contextmanager
def database():
    # The till waits 3 seconds: a file that somebody else has locked for longer is a failure at once.
    with closing(sqlite3.connect(FILE, timeout=2)) as db, db:  # the second one commits, or rolls back
        db.row_factory = sqlite3.Row
        yield db


with database() as first:
    first.executescript(SCHEMA)


def products():
    with database() as db:
        return db.execute("SELECT * FROM products ORDER BY price").fetchall()


def product(product_id):
    with database() as db:
        return db.execute("SELECT * FROM products WHERE id = ?", (product_id,)).fetchone()


def find(order_id):
    with database() as db:
        return db.execute("SELECT * FROM orders WHERE id = ?", (order_id,)).fetchone()


def overdue(order):
    return order["state"] == "waiting" and order["expires"] <= time.time()


def create(bought):
    """Returns the number of a new order. Whoever knows it can open the order's page, so it is random."""
    order_id = f"order-{secrets.token_hex(8)}"
    with database() as db:
        db.execute(
            "INSERT INTO orders (id, product, name, amount, expires) VALUES (?, ?, ?, ?, ?)",
            (order_id, bought["id"], bought["name"], bought["price"], int(time.time()) + LIFETIME),
        )
    return order_id


def reopen(order_id):
    """Gives an order that is to get a barcode a deadline that has not passed."""
    now = int(time.time())
    with database() as db:
        db.execute(
            "UPDATE orders SET state = 'waiting', expires = ?, barcode = NULL, imp_uid = NULL"
            " WHERE id = ? AND (state = 'expired' OR state = 'waiting' AND barcode IS NULL AND expires <= ?)",
            (now + LIFETIME, order_id, now),
        )
    return find(order_id)


def issued(order_id, imp_uid, barcode):
    """Keeps the barcode, unless the order was paid meanwhile."""
    with database() as db:
        db.execute(
            "UPDATE orders SET imp_uid = ?, barcode = ? WHERE id = ? AND state = 'waiting'",
            (imp_uid, barcode, order_id),
        )


def take(db, order_id, state):
    """Takes an item out of the stock for an order in this state, once. Returns whether the order has one."""
    taken = db.execute(
        "UPDATE orders SET held = 1 WHERE id = ? AND state = ? AND NOT held"
        " AND EXISTS (SELECT 1 FROM products WHERE id = product AND stock > 0)",
        (order_id, state),
    )
    if taken.rowcount == 1:
        db.execute(
            "UPDATE products SET stock = stock - 1 WHERE id = (SELECT product FROM orders WHERE id = ?)", (order_id,)
        )
    held = db.execute("SELECT 1 FROM orders WHERE id = ? AND state = ? AND held", (order_id, state))
    return held.fetchone() is not None


def hold(order_id):
    """Returns whether an order that waits for its payment has an item. It is taken out of the stock."""
    with database() as db:
        return take(db, order_id, "waiting")


def paid(order_id, imp_uid, paid_at):
    """Also takes an order whose barcode had expired: the money is there. Its item may be gone; somebody must see to that."""
    with database() as db:
        changed = db.execute(
            "UPDATE orders SET state = 'paid', imp_uid = ?, paid_at = ? WHERE id = ? AND state IN ('waiting', 'expired')",
            (imp_uid, paid_at, order_id),
        )
        if changed.rowcount == 1:
            if not take(db, order_id, "paid"):
                product_id = db.execute("SELECT product FROM orders WHERE id = ?", (order_id,)).fetchone()["product"]
                logging.error("order %s is paid, and there is no %s left for it", order_id, product_id)
        elif db.execute("SELECT 1 FROM orders WHERE id = ? AND imp_uid <> ?", (order_id, imp_uid)).fetchone():
            logging.error("order %s was paid a second time, by %s: pay it back", order_id, imp_uid)


def cancelled(order_id, imp_uid, refunded):
    """Notes what was paid back until now of the payment that paid the order. Only all of it makes the order a cancelled one."""
    with database() as db:
        db.execute(
            "UPDATE orders SET refunded = ?, state = CASE WHEN ? < amount THEN 'paid' ELSE 'cancelled' END"
            " WHERE id = ? AND imp_uid = ? AND state = 'paid' AND refunded < ?",
            (refunded, refunded, order_id, imp_uid, refunded),
        )


def expired(order_id, imp_uid):
    """Concerns the order's present barcode only. An item that was held goes back into the stock."""
    with database() as db:
        changed = db.execute(
            "UPDATE orders SET state = 'expired' WHERE id = ? AND imp_uid = ? AND state = 'waiting'",
            (order_id, imp_uid),
        )
        if changed.rowcount == 1:
            db.execute(
                "UPDATE products SET stock = stock + 1 WHERE id = (SELECT product FROM orders WHERE id = ? AND held)",
                (order_id,),
            )
            db.execute("UPDATE orders SET held = 0 WHERE id = ?", (order_id,))
