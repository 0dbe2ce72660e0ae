// Keeps the page of an order up to date while somebody looks at it. Without it the button for checking the payment remains.
"use strict";

const main = document.querySelector("main[data-order]");

// prepare makes the buttons work that need a script.
function prepare() {
	for (const button of document.querySelectorAll("[data-print]")) {
		button.hidden = false;
		button.addEventListener("click", () => window.print());
	}
	for (const button of document.querySelectorAll("[data-busy]")) {
		button.form.addEventListener("submit", () => {
			button.disabled = true;
			button.textContent = button.dataset.busy;
		});
	}
}

// update takes the state and the details over from the page as it is now. The status itself stays, so that screen readers
// announce its new text.
async function update() {
	const answer = await fetch(main.dataset.order);
	const now = new DOMParser().parseFromString(await answer.text(), "text/html");
	const fresh = now.querySelector("main[data-order]");
	if (!fresh) return; // an error's page
	const details = document.getElementById("details");
	const focused = details.contains(document.activeElement);
	details.replaceWith(now.getElementById("details"));
	const status = main.querySelector("[role=status]");
	status.className = fresh.querySelector("[role=status]").className;
	status.replaceChildren(...fresh.querySelector("[role=status]").childNodes);
	main.dataset.state = fresh.dataset.state;
	if (focused) main.querySelector("h1").focus();
	prepare();
}

async function watch() {
	try {
		if (!document.hidden) {
			const answer = await fetch(main.dataset.order + "/state");
			if (answer.ok && (await answer.json()).state !== main.dataset.state) await update();
		}
	} catch {
		// The shop cannot be reached: asked again in a second.
	}
	if (main.dataset.state === "new" || main.dataset.state === "waiting") setTimeout(watch, 1000);
}

prepare();
if (main) {
	history.replaceState(null, "", main.dataset.order); // what was posted is not to be posted again by a reload
	watch();
}
