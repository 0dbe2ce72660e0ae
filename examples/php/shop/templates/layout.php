<!doctype html>
<html lang="ko">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title><?= e($title) ?> | 모퉁이 상점</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/static/shop.css">
<script src="/static/shop.js" defer></script>
</head>
<body>
<header><a href="/">모퉁이 상점</a></header>
<?= $main ?>
<footer>예제 상점입니다. 샌드박스에서는 실제로 결제되지 않습니다.</footer>
</body>
</html>
