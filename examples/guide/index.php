<?php

// The guide's shop: one lamp, and no pages. What it does with Caddy is in ask.php, check.php and told.php, which are copied from
// examples/php/gateway. The functions order_… are what a shop writes for its own database.

declare(strict_types=1);

require 'ask.php';
require 'check.php';
require 'told.php';

$db = new PDO('sqlite:shop.db');
$db->exec('CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, amount INT, state TEXT, expires INT, imp_uid TEXT, barcode TEXT, held INT)');

function order_lock(PDO $db, string $id): ?array
{
    $query = $db->prepare('SELECT * FROM orders WHERE id = ?'); // in MySQL with FOR UPDATE
    $query->execute([$id]);
    return $query->fetch(PDO::FETCH_ASSOC) ?: null;
}

// order_hold gives the order the lamp, unless another order has it. It may be asked twice.
function order_hold(PDO $db, array $order): bool
{
    return order_change($db, 'held = 1 WHERE id = ? AND NOT EXISTS (SELECT 1 FROM orders WHERE held = 1 AND id <> ?)', $order['id'], $order['id']);
}

// order_paid also takes an order whose barcode had expired: the money is there.
function order_paid(PDO $db, array $order, string $impUid, int $paidAt): void
{
    order_change($db, "state = 'paid', imp_uid = ? WHERE id = ? AND state IN ('waiting', 'expired')", $impUid, $order['id']);
}

// order_refunded cancels the order when all of the money was paid back.
function order_refunded(PDO $db, array $order, string $impUid, int $refunded): void
{
    order_change($db, "state = 'cancelled' WHERE id = ? AND imp_uid = ? AND amount <= ?", $order['id'], $impUid, $refunded);
}

// order_expired gives the lamp back. It concerns the order's present barcode only.
function order_expired(PDO $db, array $order, string $impUid): void
{
    order_change($db, "state = 'expired', held = 0 WHERE id = ? AND imp_uid = ? AND state = 'waiting'", $order['id'], $impUid);
}

function order_change(PDO $db, string $set, mixed ...$values): bool
{
    $query = $db->prepare("UPDATE orders SET $set");
    $query->execute($values);
    return $query->rowCount() > 0;
}

// order_create makes an order of the number that the customer names, and asks for its barcode. Called again, it asks again.
function order_create(PDO $db, string $id): array
{
    $db->prepare("INSERT OR IGNORE INTO orders VALUES (?, 15000, 'waiting', ?, NULL, NULL, 0)")->execute([$id, time() + 72 * 3600]);
    $order = order_lock($db, $id);
    $issued = cvs_ask($id, $order['amount'], '한정판 램프', $order['expires']);
    order_change($db, "imp_uid = ?, barcode = ? WHERE id = ? AND state = 'waiting'", $issued['imp_uid'], $issued['barcode'], $id);
    return order_lock($db, $id);
}

$request = $_SERVER['REQUEST_METHOD'] . ' ' . parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
[$status, $answer] = match (1) {
    preg_match('#^POST /orders/([\w-]{1,40})$#', $request, $m) => [200, order_create($db, $m[1])],
    preg_match('#^GET /orders/([\w-]{1,40})$#', $request, $m) => [200, order_lock($db, $m[1])],
    preg_match('#^POST /orders/([\w-]{1,40})/payable$#', $request, $m) => cvs_check($db, $m[1], $_SERVER['HTTP_X_CVS_IMP_UID'] ?? ''),
    preg_match('#^POST /payments/#', $request) => cvs_told($db, file_get_contents('php://input')),
    default => [404, ['reason' => '없는 페이지입니다']],
};
http_response_code($status);
header('Content-Type: application/json');
echo json_encode($answer, JSON_UNESCAPED_UNICODE), "\n";
