<?php

// 1. ASK. An existing shop copies this file.
//
// cvs_ask asks Caddy for the barcode of an order, without any credential. It may be called again at any time, after a time-out
// or when the page is reloaded: Caddy answers with the order's one barcode. So the shop needs no lock, and no look-up first.
// The deadline is the order's own, the same each time, because the answer does not contain it.

declare(strict_types=1);

/** @return array{imp_uid: string, barcode: string} */
function cvs_ask(string $id, int $amount, string $name, int $expires): array
{
    $body = @file_get_contents(getenv('CVS_URL') . '/cvs', false, stream_context_create(['http' => [
        'method' => 'POST',
        'header' => 'Content-Type: application/json',
        'content' => json_encode([
            'merchant_uid' => $id,
            'amount' => $amount,
            'name' => $name,
            'expired_at' => $expires,
        ], JSON_THROW_ON_ERROR),
        'timeout' => 15, // seconds; longer than Caddy takes, so that its answer arrives first
        'ignore_errors' => true, // the body of a 4xx or 5xx says what is wrong
        'follow_location' => 0,
    ]]));
    if ($body === false) {
        throw new RuntimeException('Caddy does not answer');
    }
    $answer = json_decode($body, true, 32, JSON_THROW_ON_ERROR);
    $number = $answer['response']['vbank_num'] ?? '';
    if (($answer['code'] ?? null) !== 0 || $number === '') {
        throw new RuntimeException($answer['message'] ?? 'the answer has no barcode');
    }
    return ['imp_uid' => $answer['response']['imp_uid'], 'barcode' => $number];
}
