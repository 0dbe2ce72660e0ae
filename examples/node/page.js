// This file holds the pages.

// html is a template whose values are escaped, except for parts that are HTML already.
function html(strings, ...values) {
	const text = (value) => {
		if (Array.isArray(value)) return value.map(text).join('');
		if (value instanceof HTML) return value.toString();
		return String(value).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
	};
	return new HTML(String.raw({ raw: strings }, ...values.map(text)));
}

class HTML extends String {}

const won = (amount) => `${amount.toLocaleString('ko-KR')}원`;
const groups = (number) => number.replace(/.{4}(?=.)/g, '$& ');
const seoul = new Intl.DateTimeFormat('ko-KR', {
	timeZone: 'Asia/Seoul', year: 'numeric', month: 'long', day: 'numeric', hour: '2-digit', minute: '2-digit', hourCycle: 'h23',
});
const until = (seconds) => `${seoul.format(seconds * 1000)}까지`;

const layout = (title, main) => html`<!doctype html>
<html lang="ko">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title} | 모퉁이 상점</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/static/shop.css">
<script src="/static/shop.js" defer></script>
</head>
<body>
<header><a href="/">모퉁이 상점</a></header>
${main}
<footer>예제 상점입니다. 샌드박스에서는 실제로 결제되지 않습니다.</footer>
</body>
</html>
`.toString();

export const home = (products) => layout('상품', html`<main>
<h1>여기서 주문하고, 가까운 편의점에서 결제하세요</h1>
<ul class="products">
${products.map((p) => html`<li class="card">
<div>
<h2>${p.name}</h2>
<p class="price">${won(p.price)}</p>
<p class="muted">${p.stock ? `재고 ${p.stock}개` : '품절'}</p>
</div>
${p.stock ? html`<form method="post" action="/orders"><button name="product" value="${p.id}">주문하기</button></form>` : ''}
</li>
`)}</ul>
</main>`);

export const problem = (text) => layout(text, html`<main>
<h1>${text}</h1>
<p><a href="/">상품 보기</a></p>
</main>`);

// order is an order's page. While the customer waits at the till, shop.js loads it anew when the state changes.
export const order = (o, overdue) => layout('주문', html`<main data-order="${o.id}" data-state="${o.state}">
<h1>주문 내역</h1>
${status(o, overdue)}
${o.state === 'waiting' && o.barcode && !overdue ? voucher(o) : html`<section class="card">${details(o)}</section>`}
<p><a href="/">다른 상품 보기</a></p>
</main>`);

function status(o, overdue) {
	const is = (kind, word, text) => html`<p role="status" class="${kind}"><strong>${word}</strong> ${text}</p>`;
	switch (o.state) {
	case 'paid':
		if (o.refunded) return is('paid', '일부 환불', `결제하신 금액 중 ${refund(o)}`);
		return is('paid', '결제 완료', '감사합니다. 상품을 준비하겠습니다.');
	case 'cancelled': return is('cancelled', '환불 완료', refund(o));
	case 'expired': return html`${is('expired', '결제 기한 만료', '결제 기한이 지났습니다.')}
<form method="post" action="/orders/${o.id}/barcode"><button>새 바코드 받기</button></form>`;
	}
	if (overdue) return is('expired', '결제 기한 만료', '결제 기한이 지났습니다. 기한 안에 결제하셨는지 확인하고 있습니다.');
	if (o.barcode) return is('waiting', '결제 대기', '편의점 계산대에서 아래 바코드를 보여 주세요.');
	return html`${is('waiting', '결제 대기', '바코드를 발급받지 못했습니다. 다시 시도하셔도 두 번 결제되지 않습니다.')}
<p><a class="button" href="/orders/${o.id}">다시 시도</a></p>`;
}

const refund = (o) => `${won(o.refunded)}을 환불해 드렸습니다.`;

const details = (o) => html`<dl>
<div class="amount"><dt>결제 금액</dt><dd>${won(o.amount)}</dd></div>
${o.state === 'waiting' ? html`<div><dt>결제 기한</dt><dd>${until(o.expires)}</dd></div>` : ''}
<div><dt>상품</dt><dd>${o.name}</dd></div>
<div><dt>주문 번호</dt><dd>${o.id}</dd></div>
</dl>`;

const voucher = (o) => html`<section class="card voucher">
<h2>편의점 결제 바코드</h2>
<img src="/barcode/${o.barcode}.svg" alt="바코드 ${groups(o.barcode)}">
<p class="number">${groups(o.barcode)}</p>
${details(o)}
<ol>
<li>기한 안에 가까운 편의점으로 가 주세요.</li>
<li>계산대에서 “바코드로 결제할게요”라고 말씀하시고 바코드를 보여 주세요.</li>
<li>카드나 현금으로 결제해 주세요. 이 화면에 바로 표시됩니다.</li>
</ol>
</section>`;
