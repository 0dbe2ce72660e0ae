<?php

// 3. TOLD. An existing shop copies this file. The functions order_… are its own database.
//
// Caddy tells what happened to a payment until it is answered {"heard":true}, so the shop may be told twice: each event changes
// only an order that it has not changed yet. The order's number is the body's: the signature does not cover the path.

declare(strict_types=1);

/** @return array{int, array<string, mixed>} the status and the JSON to answer */
function cvs_told(PDO $db, string $body): array
{
    if (!cvs_genuine($body)) {
        return [401, ['reason' => '서명이 올바르지 않습니다']];
    }
    $news = json_decode($body, true, 8);
    if (!is_string($news['merchant_uid'] ?? null)) { // a 500 would make Caddy take the whole shop for down
        return [400, ['reason' => '내용을 읽을 수 없습니다']];
    }
    if ($news['test'] ?? false) { // from caddy cvs trigger, about no payment
        return [200, ['heard' => true]];
    }
    $db->beginTransaction();
    $order = order_lock($db, $news['merchant_uid']);
    $answer = [200, ['heard' => true]];
    if ($order === null) {
        $answer = [404, ['reason' => '없는 주문입니다']];
    } elseif ((float) ($news['amount'] ?? 0) !== (float) $order['amount']) {
        $answer = [409, ['reason' => '금액이 주문과 다릅니다']];
    } else {
        match ($news['event']) {
            'paid' => order_paid($db, $order, $news['imp_uid'], $news['paid_at']),
            'cancelled' => order_refunded($db, $order, $news['imp_uid'], (int) $news['cancel_amount']),
            'expired' => order_expired($db, $order, $news['imp_uid']),
            default => null, // an event of a later version
        };
    }
    $db->commit();
    return $answer; // only now, when it is committed
}

/** Verifies the signature of the Standard Webhooks. An old message could be somebody's repetition. */
function cvs_genuine(string $body): bool
{
    $key = base64_decode(substr((string) getenv('CVS_TELL_SECRET'), strlen('whsec_')), true);
    if ($key === false || strlen($key) < 24) {
        throw new RuntimeException('CVS_TELL_SECRET is not whsec_ and at least 24 bytes in base64');
    }
    $time = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    $signed = ($_SERVER['HTTP_WEBHOOK_ID'] ?? '') . ".$time.$body";
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', $signed, $key, true));
    $signatures = explode(' ', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? ''); // several while the secret is changed
    $same = array_filter($signatures, fn (string $signature): bool => hash_equals($expected, $signature));
    return $same !== [] && abs(time() - (int) $time) <= 300;
}
