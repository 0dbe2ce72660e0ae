// Keeps the till's page up to date, and pays without leaving it. The server
// renders everything: this takes the parts marked data-live from a fresh copy
// of the page. Without JavaScript the page works by reloading.
'use strict';

const interval = 1000; // milliseconds between two looks at the sandbox
const served = new Map(); // what the server last sent, by id: the reader's own changes, such as an opened entry, are kept
let etag = '';
let busy = false;

function remember(region) {
	served.set(region.id, region.innerHTML);
	if (region.dataset.live === 'list') {
		for (const item of region.children) served.set(item.id, item.outerHTML);
	}
}

function update(fresh) {
	const region = document.getElementById(fresh.id);
	if (served.get(fresh.id) === fresh.innerHTML) return;
	const items = fresh.dataset.live === 'list' ? [...fresh.children] : null;
	if (!items) {
		region.replaceChildren(...fresh.cloneNode(true).childNodes);
	} else {
		const kept = new Set(items.map((item) => item.id));
		for (const old of [...region.children]) if (!kept.has(old.id)) old.remove();
		items.forEach((item, i) => {
			let node = document.getElementById(item.id);
			if (!node) {
				node = item.cloneNode(true);
			} else if (served.get(item.id) !== item.outerHTML) {
				const changed = item.cloneNode(true);
				node.replaceWith(changed);
				node = changed;
			}
			if (region.children[i] !== node) region.insertBefore(node, region.children[i] ?? null);
		});
	}
	remember(fresh);
}

// show takes over what is new, and reports whether a barcode was scanned.
function show(html) {
	const page = new DOMParser().parseFromString(html, 'text/html');
	const focused = document.activeElement?.id;
	const newest = document.querySelector('#exchanges > [id]')?.id;
	page.querySelectorAll('[data-live]').forEach(update);
	if (focused && document.activeElement?.id !== focused) document.getElementById(focused)?.focus();
	const exchange = document.querySelector('#exchanges > [id]');
	if (exchange.id !== newest) {
		for (const other of document.querySelectorAll('#exchanges > [open]')) other.open = other === exchange;
		say([...exchange.querySelectorAll('summary > :not(small)')].map((e) => e.textContent).join('. '));
	}
	return exchange.id !== newest;
}

function bringIntoView(heading) {
	const { top, bottom } = heading.getBoundingClientRect();
	if (top < 0 || bottom > innerHeight / 2) heading.scrollIntoView();
}

function say(text) {
	document.getElementById('said').textContent = text;
}

async function refresh() {
	try {
		const response = await fetch(location.href, { headers: { 'If-None-Match': etag } });
		document.getElementById('offline').hidden = true;
		if (response.status !== 200) return;
		etag = response.headers.get('ETag');
		show(await response.text());
	} catch {
		document.getElementById('offline').hidden = false;
	}
}

async function send(form, button) {
	form.setAttribute('aria-busy', 'true');
	if (form.dataset.busy) say(form.dataset.busy);
	const url = new URL(form.action);
	url.search = location.search; // the form was written before other barcodes were scanned
	const body = new URLSearchParams(new FormData(form, button));
	try {
		const response = await fetch(url, { method: 'POST', headers: { Accept: 'text/html' }, body });
		if (response.redirected) history.replaceState(null, '', response.url);
		if (show(await response.text())) bringIntoView(document.getElementById('exchange-title'));
	} catch {
		document.getElementById('offline').hidden = false;
	} finally {
		form.removeAttribute('aria-busy');
	}
}

// An effect that the chosen requests cannot have is not offered.
function offer() {
	const kind = document.getElementById('endpoint').selectedOptions[0].dataset.kind;
	const effects = [...document.querySelectorAll('#fault [name=effect]')];
	for (const effect of effects) {
		effect.disabled = !effect.dataset.kind.split(' ').includes(kind) && kind !== 'all';
	}
	if (effects.some((effect) => effect.checked && effect.disabled)) effects[0].checked = true;
}

document.addEventListener('submit', async (event) => {
	const form = event.target;
	if (form.method !== 'post') return;
	event.preventDefault();
	if (busy) return;
	busy = true;
	await send(form, event.submitter);
	busy = false;
});

document.querySelectorAll('[data-live]').forEach(remember);
document.getElementById('endpoint').addEventListener('change', offer);
offer();
(async () => {
	for (;;) {
		await new Promise((resume) => setTimeout(resume, interval));
		if (!busy && document.visibilityState === 'visible') await refresh();
	}
})();
