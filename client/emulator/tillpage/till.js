// Refreshes the till's page and submits its forms without leaving it. The server
// renders everything: this script replaces the parts marked data-live with those
// of a fresh copy of the page. Without JavaScript the page reloads instead.
'use strict';

const interval = 1000; // milliseconds between two refreshes
const timeout = 10_000; // milliseconds for one refresh
const served = new Map(); // the HTML that the server last sent, by id: what is equal to it is not replaced, which keeps entries open that the reader opened
let etag = '';
let answers = 0; // the number of responses to forms: a refresh that began before one is out of date

const byID = (id) => document.getElementById(id);
const focusable = 'a, button, input, select, summary, [tabindex]';

function remember(region) {
	served.set(region.id, region.innerHTML);
	if (region.dataset.live === 'list') {
		for (const item of region.children) served.set(item.id, item.outerHTML);
	}
}

function update(fresh) {
	const region = byID(fresh.id);
	if (served.get(fresh.id) === fresh.innerHTML) return;
	if (fresh.dataset.live === 'list') {
		updateList(region, [...fresh.children]);
	} else {
		region.replaceChildren(...fresh.cloneNode(true).childNodes);
	}
	remember(fresh);
}

// updateList replaces only the entries that changed.
function updateList(region, items) {
	const kept = new Set(items.map((item) => item.id));
	for (const old of [...region.children]) {
		if (kept.has(old.id)) continue;
		old.remove();
		served.delete(old.id);
	}
	items.forEach((item, i) => {
		let node = byID(item.id);
		if (!node || served.get(item.id) !== item.outerHTML) {
			const changed = item.cloneNode(true);
			node?.replaceWith(changed);
			node = changed;
		}
		if (region.children[i] !== node) region.insertBefore(node, region.children[i] ?? null);
	});
}

// keepFocus calls change, which replaces elements, and moves the focus to the
// element that replaced the focused one, or else to the till.
function keepFocus(change) {
	const active = document.activeElement;
	const holder = active.closest('[id]');
	const place = holder && [...holder.querySelectorAll(focusable)].indexOf(active);
	change();
	if (active.isConnected) return;
	const again = byID(holder?.id);
	const successor = active === holder ? again : again?.querySelectorAll(focusable)[place];
	(successor ?? byID('scan-title')).focus({ preventScroll: true });
}

// show replaces what changed, and reports whether a barcode was scanned.
function show(html, regions) {
	const page = new DOMParser().parseFromString(html, 'text/html');
	if (!page.getElementById('exchanges')) throw new Error('this is not the page');
	const first = () => document.querySelector('#exchanges > [id]');
	const newest = first().id;
	keepFocus(() => page.querySelectorAll(regions).forEach(update));
	if (first().id === newest) return false;
	for (const open of document.querySelectorAll('#exchanges > [open]')) open.open = open === first();
	say([...first().querySelectorAll('summary > :not(small), .warning')].map((e) => e.textContent).join('. '));
	return true;
}

function say(text) {
	byID('said').textContent = text;
}

async function refresh() {
	const began = answers;
	try {
		const response = await fetch(location.href, { headers: { 'If-None-Match': etag }, signal: AbortSignal.timeout(timeout) });
		const html = await response.text();
		if (began !== answers) return;
		if (response.status !== 304) {
			show(html, '[data-live]:not([data-live=answer])');
			etag = response.headers.get('ETag');
		}
		byID('offline').hidden = true;
	} catch {
		byID('offline').hidden = false;
	}
}

async function send(form, button) {
	const url = new URL(form.action);
	url.search = location.search; // the form was written before other barcodes were scanned
	const body = new URLSearchParams(new FormData(form, button));
	try {
		const response = await fetch(url, { method: 'POST', headers: { Accept: 'text/html' }, body });
		const html = await response.text();
		answers++;
		etag = '';
		if (response.redirected) history.replaceState(null, '', response.url);
		if (show(html, '[data-live]')) bringIntoView(byID('exchange-title'));
		else if (form.dataset.done) say(form.dataset.done);
		byID('offline').hidden = true;
	} catch {
		say('');
		byID('offline').hidden = false;
	}
}

function bringIntoView(heading) {
	const { top, bottom } = heading.getBoundingClientRect();
	if (top < 0 || bottom > innerHeight / 2) heading.scrollIntoView();
}

// Disables the effects that the chosen requests cannot have.
function offer() {
	const kind = byID('endpoint').selectedOptions[0].dataset.kind;
	const effects = [...document.querySelectorAll('#fault [name=effect]')];
	for (const effect of effects) {
		effect.disabled = !effect.dataset.kind.split(' ').includes(kind) && kind !== 'all';
	}
	if (effects.some((effect) => effect.checked && effect.disabled)) effects[0].checked = true;
}

// A fault can delay the response to a form. Meanwhile the other forms, above all
// the one that clears the faults, and the refreshes continue.
document.addEventListener('submit', async (event) => {
	const form = event.target;
	if (form.method !== 'post') return;
	event.preventDefault();
	if (form.ariaBusy) return;
	form.ariaBusy = 'true';
	const busy = form.querySelector('.busy');
	if (busy) {
		busy.hidden = false;
		say(busy.textContent);
	}
	await send(form, event.submitter);
	form.ariaBusy = null;
	if (busy) busy.hidden = true;
});

document.querySelectorAll('[data-live]').forEach(remember);
byID('endpoint').addEventListener('change', offer);
offer();
(async () => {
	for (;;) {
		await new Promise((resume) => setTimeout(resume, interval));
		if (document.visibilityState === 'visible') await refresh();
	}
})();
