<main>
<h1><?= e($title) ?></h1>
<p><a href="/">상품 보기</a></p>
</main>
