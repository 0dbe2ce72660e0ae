<?php
// What a PHP shop does when it is told of a payment. The order's number chooses a script that fails
// half-way, once.
$told = json_decode(file_get_contents('php://input'), true);
$file = __DIR__ . '/told-' . $told['merchant_uid'];
if ($told['merchant_uid'] === 'again' && !file_exists("$file-before")) {
    touch("$file-before");
    mark_as_paid(); // which no file defines
}
file_put_contents($file, $told['event'] . ' ' . $told['amount'] . "\n", FILE_APPEND);
header('Content-Type: application/json');
echo json_encode(['heard' => true]);
