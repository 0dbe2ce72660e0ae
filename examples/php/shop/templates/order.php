<?php
// The page of an order. While the customer waits at the till, shop.js loads it anew when the state changes.
$refund = won($order['refunded']) . '을 환불해 드렸습니다.';
$overdue = $order['state'] === 'waiting' && $order['expires'] <= time();
[$kind, $word, $text] = match (true) {
    $order['state'] === 'paid' && $order['refunded'] > 0 => ['paid', '일부 환불', "결제하신 금액 중 $refund"],
    $order['state'] === 'paid' => ['paid', '결제 완료', '감사합니다. 상품을 준비하겠습니다.'],
    $order['state'] === 'cancelled' => ['cancelled', '환불 완료', $refund],
    $order['state'] === 'expired' => ['expired', '결제 기한 만료', '결제 기한이 지났습니다.'],
    $overdue => ['expired', '결제 기한 만료', '결제 기한이 지났습니다. 기한 안에 결제하셨는지 확인하고 있습니다.'],
    $order['barcode'] === null => ['waiting', '결제 대기', '바코드를 발급받지 못했습니다. 다시 시도하셔도 두 번 결제되지 않습니다.'],
    default => ['waiting', '결제 대기', '편의점 계산대에서 아래 바코드를 보여 주세요.'],
};
$voucher = $order['state'] === 'waiting' && $order['barcode'] !== null && !$overdue;
?>
<main data-order="<?= e($order['id']) ?>" data-state="<?= e($order['state']) ?>">
<h1>주문 내역</h1>
<p role="status" class="<?= $kind ?>"><strong><?= $word ?></strong> <?= $text ?></p>
<?php if ($order['state'] === 'expired'): ?>
<form method="post" action="/orders/<?= e($order['id']) ?>/barcode"><button>새 바코드 받기</button></form>
<?php elseif ($order['state'] === 'waiting' && $order['barcode'] === null): ?>
<p><a class="button" href="/orders/<?= e($order['id']) ?>">다시 시도</a></p>
<?php endif ?>
<section class="card<?= $voucher ? ' voucher' : '' ?>">
<?php if ($voucher): ?>
<h2>편의점 결제 바코드</h2>
<img src="/barcode/<?= e(rawurlencode($order['barcode'])) ?>.svg" alt="바코드 <?= e(groups($order['barcode'])) ?>">
<p class="number"><?= e(groups($order['barcode'])) ?></p>
<?php endif ?>
<dl>
<div class="amount"><dt>결제 금액</dt><dd><?= won($order['amount']) ?></dd></div>
<?php if ($order['state'] === 'waiting'): ?>
<div><dt>결제 기한</dt><dd><?= until($order['expires']) ?></dd></div>
<?php endif ?>
<div><dt>상품</dt><dd><?= e($order['name']) ?></dd></div>
<div><dt>주문 번호</dt><dd><?= e($order['id']) ?></dd></div>
</dl>
<?php if ($voucher): ?>
<ol>
<li>기한 안에 가까운 편의점으로 가 주세요.</li>
<li>계산대에서 “바코드로 결제할게요”라고 말씀하시고 바코드를 보여 주세요.</li>
<li>카드나 현금으로 결제해 주세요. 이 화면에 바로 표시됩니다.</li>
</ol>
<?php endif ?>
</section>
<p><a href="/">다른 상품 보기</a></p>
</main>
