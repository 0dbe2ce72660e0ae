<?php
// The order check of a PHP shop, and the ways in which one goes wrong: the
// order's number chooses.
$order = $_SERVER['HTTP_X_CVS_MERCHANT_UID'];
$amount = $_SERVER['HTTP_X_CVS_AMOUNT'];
$webhook = json_decode(file_get_contents('php://input'), true);
header('Content-Type: application/json');
switch ($order) {
    case 'no':
        http_response_code(409);
        echo json_encode(['reason' => '품절되었습니다']);
        exit;
    case 'fatal':
        shop_is_open(); // which no file defines
        break;
    case 'warning':
        echo $undefined;
        break;
    case 'slow':
        sleep(10);
        break;
}
echo json_encode(['payable' => $webhook['merchant_uid'] === $order && $amount === '15000']);
