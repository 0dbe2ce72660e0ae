// Keeps the page of an order up to date while somebody looks at it. Without it the page must be reloaded.
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

// update takes what is known of the order over from the page as it is now. The status itself stays, so that screen readers
// announce a new text.
async function update() {
	const answer = await fetch(main.dataset.order);
	const now = new DOMParser().parseFromString(await answer.text(), "text/html");
	const fresh = now.querySelector("main[data-order]");
	if (!fresh) return; // an error's page
	const focused = document.activeElement;
	for (const id of ["stopped", "details"]) document.getElementById(id).replaceWith(now.getElementById(id));
	const [status, next] = [main, fresh].map((page) => page.querySelector("[role=status]"));
	if (status.textContent !== next.textContent) {
		status.className = next.className;
		status.replaceChildren(...next.childNodes);
	}
	Object.assign(main.dataset, fresh.dataset);
	if (!focused.isConnected) main.querySelector("h1").focus();
	prepare();
}

async function watch() {
	try {
		if (!document.hidden) {
			const answer = await fetch(main.dataset.order + "/state");
			const now = answer.ok ? await answer.json() : main.dataset;
			if (["state", "told", "stopped"].some((what) => String(now[what]) !== main.dataset[what])) await update();
		}
	} catch {
		// The shop cannot be reached: asked again in a second.
	}
	setTimeout(watch, 1000);
}

prepare();
if (main) {
	history.replaceState(null, "", main.dataset.order); // what was posted is not to be posted again by a reload
	watch();
}
