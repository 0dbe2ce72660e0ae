<?php

// 2. CHECK. An existing shop copies this file. The functions order_… are its own database.
//
// Caddy asks this while the customer stands at the till, and compares the total with the barcode's amount. It may ask twice.
// Whoever is told yes has his item: it is taken out of the stock here, for two tills may ask at once for the last one. It goes
// back when the barcode expires. If the database fails, PHP answers 500, and the till takes no money.

declare(strict_types=1);

/**
 * @param string $id     the order's number, from the path
 * @param string $impUid the payment at the till, from the header field X-Cvs-Imp-Uid
 * @return array{int, array<string, mixed>} the status and the JSON to answer
 */
function cvs_check(PDO $db, string $id, string $impUid): array
{
    $db->beginTransaction();
    $order = order_lock($db, $id);
    $reason = match (true) { // what the cashier reads; null is a yes
        $order === null => '없는 주문입니다',
        $order['state'] === 'paid' => '이미 결제된 주문입니다',
        $order['state'] === 'cancelled' => '환불된 주문입니다',
        $order['state'] === 'expired' => '결제 기한이 지났습니다',
        $order['imp_uid'] !== $impUid => '다른 바코드로 결제해 주세요',
        order_hold($db, $order) => null,
        default => '품절되었습니다',
    };
    $db->commit();
    if ($reason !== null) {
        return [409, ['payable' => false, 'reason' => $reason]];
    }
    return [200, ['payable' => true, 'total' => $order['amount']]];
}
