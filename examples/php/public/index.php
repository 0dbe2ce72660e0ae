<?php

// A small shop in PHP. What it does with Caddy is in gateway/; the rest is an ordinary shop.

declare(strict_types=1);

require __DIR__ . '/../gateway/ask.php';
require __DIR__ . '/../gateway/check.php';
require __DIR__ . '/../gateway/told.php';
require __DIR__ . '/../shop/orders.php';
require __DIR__ . '/../shop/pages.php';

set_exception_handler(function (Throwable $error): void {
    error_log($error->getMessage() . " in {$error->getFile()}:{$error->getLine()}");
    while (ob_get_level() > 0) {
        ob_end_clean(); // half a page
    }
    send_problem(500, '잠시 후 다시 시도해 주세요'); // Caddy takes it as no answer: the till takes no money, and Caddy tells again
});

header('Cache-Control: no-store'); // a reload shows the order's present state
header("Content-Security-Policy: default-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'");
header('Referrer-Policy: same-origin'); // whoever knows the address of an order can open it

$method = $_SERVER['REQUEST_METHOD'] === 'HEAD' ? 'GET' : $_SERVER['REQUEST_METHOD']; // PHP leaves the body of the answer out
$request = $method . ' ' . strtok($_SERVER['REQUEST_URI'], '?');
$id = ''; // of the order in the path
$is = function (string $pattern) use ($request, &$id): bool {
    $matches = preg_match("#^$pattern$#D", $request, $parts) === 1;
    $id = rawurldecode($parts[1] ?? '');
    return $matches;
};
$db = database();

match (true) {
    $is('GET /') => send_page(200, 'home', '상품', ['products' => products($db)]),
    $is('POST /orders') => create($db),
    $is('GET /orders/([^/]+)\.json') => show_json($db, $id),
    $is('GET /orders/([^/]+)') => show($db, $id),
    $is('POST /orders/([^/]+)/barcode') => reopen($db, $id),
    // Caddy's own requests, which come through a site that only this machine reaches.
    $is('(?:GET|POST) /orders/([^/]+)/payable') => send_json(...cvs_check($db, $id, $_SERVER['HTTP_X_CVS_IMP_UID'] ?? '')),
    $is('POST /payments/[^/]+') => send_json(...cvs_told($db, file_get_contents('php://input', length: 64 * 1024))),
    default => send_problem(404, '없는 페이지입니다'),
};

function create(PDO $db): void
{
    $product = product_find($db, (string) ($_POST['product'] ?? ''));
    match (true) {
        $product === null => send_problem(400, '없는 상품입니다'),
        $product['stock'] === 0 => send_problem(409, '품절되었습니다'),
        default => redirect('/orders/' . order_create($db, $product)),
    };
}

/** Shows an order. If it has no barcode, the page asks for one: a reload asks again if that failed. */
function show(PDO $db, string $id): void
{
    $order = order_find($db, $id);
    if ($order === null) {
        send_problem(404, '없는 주문입니다');
        return;
    }
    if ($order['state'] === 'waiting' && $order['barcode'] === null) {
        order_reopen($db, $id);
        ask($db, order_find($db, $id));
        $order = order_find($db, $id);
    }
    send_page(200, 'order', '주문', ['order' => $order]);
}

function ask(PDO $db, array $order): void
{
    try {
        $payment = cvs_ask($order['id'], $order['amount'], $order['name'], $order['expires']);
        order_issued($db, $order['id'], $payment['imp_uid'], $payment['barcode']);
    } catch (RuntimeException | JsonException $error) {
        error_log("asking for the barcode of {$order['id']}: {$error->getMessage()}"); // the page says so, too
    }
}

function show_json(PDO $db, string $id): void
{
    $order = order_find($db, $id);
    if ($order === null) {
        send_json(404, ['reason' => '없는 주문입니다']);
        return;
    }
    $seen = ['id', 'product', 'amount', 'state', 'paid_at'];
    send_json(200, array_intersect_key($order, array_flip($seen)));
}

/** Lets an order whose barcode has expired get a new one. Nobody is to go to the till in vain. */
function reopen(PDO $db, string $id): void
{
    $order = order_find($db, $id);
    if ($order === null) {
        send_problem(404, '없는 주문입니다');
        return;
    }
    if (!$order['held'] && product_find($db, $order['product'])['stock'] === 0) {
        send_problem(409, '품절되었습니다');
        return;
    }
    order_reopen($db, $id);
    redirect('/orders/' . rawurlencode($id));
}
