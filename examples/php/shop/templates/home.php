<main>
<h1>여기서 주문하고, 가까운 편의점에서 결제하세요</h1>
<ul class="products">
<?php foreach ($products as $product): ?>
<li class="card">
<div>
<h2><?= e($product['name']) ?></h2>
<p class="price"><?= won($product['price']) ?></p>
<p class="muted"><?= $product['stock'] > 0 ? "재고 {$product['stock']}개" : '품절' ?></p>
</div>
<?php if ($product['stock'] > 0): ?>
<form method="post" action="/orders"><button name="product" value="<?= e($product['id']) ?>">주문하기</button></form>
<?php endif ?>
</li>
<?php endforeach ?>
</ul>
</main>
