<?php

// The orders and the stock, in MariaDB. What changes an order that was read before runs in a transaction of the caller, after
// order_lock: so two requests about one order come one after the other.

declare(strict_types=1);

function database(): PDO
{
    return new PDO(getenv('SHOP_DB_DSN'), getenv('SHOP_DB_USER'), getenv('SHOP_DB_PASSWORD'), [
        PDO::ATTR_DEFAULT_FETCH_MODE => PDO::FETCH_ASSOC,
        PDO::ATTR_EMULATE_PREPARES => false,
        PDO::ATTR_TIMEOUT => 2,
        // The till waits 3 seconds: an order that somebody else has locked for longer is a failure at once.
        PDO::MYSQL_ATTR_INIT_COMMAND => 'SET NAMES utf8mb4, innodb_lock_wait_timeout = 2',
    ]);
}

function query(PDO $db, string $sql, mixed ...$values): PDOStatement
{
    $statement = $db->prepare($sql);
    $statement->execute($values);
    return $statement;
}

function products(PDO $db): array
{
    return query($db, 'SELECT * FROM products ORDER BY price')->fetchAll();
}

function product_find(PDO $db, string $id): ?array
{
    return query($db, 'SELECT * FROM products WHERE id = ?', $id)->fetch() ?: null;
}

function order_find(PDO $db, string $id): ?array
{
    return query($db, 'SELECT * FROM orders WHERE id = ?', $id)->fetch() ?: null;
}

/** Returns the order, which nobody else can change until the transaction ends. */
function order_lock(PDO $db, string $id): ?array
{
    return query($db, 'SELECT * FROM orders WHERE id = ? FOR UPDATE', $id)->fetch() ?: null;
}

/** The lifetime of a barcode, in seconds. */
function lifetime(): int
{
    return (int) getenv('SHOP_LIFETIME') ?: 72 * 60 * 60;
}

/** Returns the number of a new order. Whoever knows it can open the order's page, so it is random. */
function order_create(PDO $db, array $product): string
{
    $id = 'order-' . bin2hex(random_bytes(8));
    query(
        $db,
        'INSERT INTO orders (id, product, name, amount, expires) VALUES (?, ?, ?, ?, ?)',
        $id,
        $product['id'],
        $product['name'],
        $product['price'],
        time() + lifetime(),
    );
    return $id;
}

/** Gives an order that is to get a barcode a deadline that has not passed. */
function order_reopen(PDO $db, string $id): void
{
    query(
        $db,
        "UPDATE orders SET state = 'waiting', expires = ?, barcode = NULL, imp_uid = NULL
         WHERE id = ? AND (state = 'expired' OR state = 'waiting' AND barcode IS NULL AND expires <= ?)",
        time() + lifetime(),
        $id,
        time(),
    );
}

/** Keeps the barcode, unless the order was paid meanwhile. */
function order_issued(PDO $db, string $id, string $impUid, string $barcode): void
{
    query($db, "UPDATE orders SET imp_uid = ?, barcode = ? WHERE id = ? AND state = 'waiting'", $impUid, $barcode, $id);
}

/** Takes an item out of the stock for the order, once. Returns whether it has one. */
function order_hold(PDO $db, array $order): bool
{
    if ($order['held']) {
        return true;
    }
    $taken = query($db, 'UPDATE products SET stock = stock - 1 WHERE id = ? AND stock > 0', $order['product']);
    if ($taken->rowCount() === 0) {
        return false;
    }
    query($db, 'UPDATE orders SET held = TRUE WHERE id = ?', $order['id']);
    return true;
}

/** Also takes an order whose barcode had expired: the money is there. Its item may be gone; somebody must see to that. */
function order_paid(PDO $db, array $order, string $impUid, ?int $paidAt): void
{
    if (!in_array($order['state'], ['waiting', 'expired'], true)) {
        if ($order['imp_uid'] !== $impUid) {
            error_log("order {$order['id']} was paid a second time, by $impUid: pay it back");
        }
        return;
    }
    if (!order_hold($db, $order)) {
        error_log("order {$order['id']} is paid, and there is no {$order['product']} left for it");
    }
    query($db, "UPDATE orders SET state = 'paid', imp_uid = ?, paid_at = ? WHERE id = ?", $impUid, $paidAt, $order['id']);
}

/**
 * Notes what was paid back until now of the payment that paid the order. Only all of it makes the order a cancelled one. Whether
 * the item goes back into the stock, somebody decides who has seen it.
 */
function order_refunded(PDO $db, array $order, string $impUid, int $refunded): void
{
    if ($order['state'] !== 'paid' || $order['imp_uid'] !== $impUid || $refunded <= $order['refunded']) {
        return;
    }
    $state = $refunded < $order['amount'] ? 'paid' : 'cancelled';
    query($db, 'UPDATE orders SET state = ?, refunded = ? WHERE id = ?', $state, $refunded, $order['id']);
}

/** Concerns the order's present barcode only. An item that was held goes back into the stock. */
function order_expired(PDO $db, array $order, string $impUid): void
{
    if ($order['state'] !== 'waiting' || $order['imp_uid'] !== $impUid) {
        return;
    }
    if ($order['held']) {
        query($db, 'UPDATE products SET stock = stock + 1 WHERE id = ?', $order['product']);
    }
    query($db, "UPDATE orders SET state = 'expired', held = FALSE WHERE id = ?", $order['id']);
}
