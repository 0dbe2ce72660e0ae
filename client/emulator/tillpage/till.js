// Keeps the till's page up to date, and pays without leaving it. The server
// renders everything: this takes the parts marked data-live from a fresh copy
// of the page. Without JavaScript the page works by reloading.
'use strict';

const interval = 1000; // milliseconds between two looks at the sandbox
const patience = 10_000; // for one look
const served = new Map(); // what the server last sent, by id: the reader's own changes, such as an opened entry, are kept
let etag = '';
let answers = 0; // to forms; a look that began before one is out of date

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

// updateList keeps the entries that are the same where they are.
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

// keepFocus does what changes the page, and puts the focus back on what has
// taken the place of the focused element, or else on the till.
function keepFocus(change) {
	const active = document.activeElement;
	const holder = active.closest('[id]');
	const place = holder && [...holder.querySelectorAll(focusable)].indexOf(active);
	change();
	if (active.isConnected) return;
	const again = byID(holder?.id);
	const heir = active === holder ? again : again?.querySelectorAll(focusable)[place];
	(heir ?? byID('scan-title')).focus({ preventScroll: true });
}

// show takes over what is new, and reports whether a barcode was scanned.
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
		const response = await fetch(location.href, { headers: { 'If-None-Match': etag }, signal: AbortSignal.timeout(patience) });
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

// An effect that the chosen requests cannot have is not offered.
function offer() {
	const kind = byID('endpoint').selectedOptions[0].dataset.kind;
	const effects = [...document.querySelectorAll('#fault [name=effect]')];
	for (const effect of effects) {
		effect.disabled = !effect.dataset.kind.split(' ').includes(kind) && kind !== 'all';
	}
	if (effects.some((effect) => effect.checked && effect.disabled)) effects[0].checked = true;
}

// One form's answer may take long, as a fault can delay it. The others, the way
// back to normal above all, and the looks at the sandbox go on meanwhile.
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
