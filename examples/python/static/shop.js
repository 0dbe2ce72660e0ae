// Loads the page anew when the order's state changes, so that the customer at the till sees the payment at once.
const { order, state } = document.querySelector('main').dataset;
if (order) {
	setInterval(async () => {
		const answer = await fetch(`/orders/${order}.json`).catch(() => null); // the shop may be down for a moment
		if (answer?.ok && (await answer.json()).state !== state) location.reload();
	}, 2000);
}
