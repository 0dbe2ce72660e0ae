"""The orders and the stock, in SQLite. Each change is one transaction."""

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
    barcode TEXT, imp_uid TEXT, paid_at INTEGER, refunded INTEGER DEFAULT 0);
INSERT OR IGNORE INTO products VALUES ('umbrella', '접이식 우산', 15000, 100), ('lamp', '한정판 램프', 30000, 1);
"""


@contextmanager
def database():
    with closing(sqlite3.connect(FILE)) as db, db:  # the second one commits, or rolls back
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


def paid(order_id, imp_uid, paid_at):
    """Also takes an order whose barcode had expired: the money is there."""
    with database() as db:
        changed = db.execute(
            "UPDATE orders SET state = 'paid', imp_uid = ?, paid_at = ? WHERE id = ? AND state IN ('waiting', 'expired')",
            (imp_uid, paid_at, order_id),
        )
        if changed.rowcount == 1:
            db.execute(
                "UPDATE products SET stock = max(0, stock - 1) WHERE id = (SELECT product FROM orders WHERE id = ?)",
                (order_id,),
            )


def cancelled(order_id, imp_uid, refunded):
    """Notes what was paid back until now of the payment that paid the order. Only all of it makes the order a cancelled one."""
    with database() as db:
        db.execute(
            "UPDATE orders SET refunded = ?, state = CASE WHEN ? < amount THEN 'paid' ELSE 'cancelled' END"
            " WHERE id = ? AND imp_uid = ? AND state = 'paid' AND refunded < ?",
            (refunded, refunded, order_id, imp_uid, refunded),
        )


def expired(order_id, imp_uid):
    """Concerns the order's present barcode only."""
    with database() as db:
        db.execute(
            "UPDATE orders SET state = 'expired' WHERE id = ? AND imp_uid = ? AND state = 'waiting'",
            (order_id, imp_uid),
        )
