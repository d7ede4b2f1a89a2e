// Keeps the folder for use without a network: every file once, by the SHA-256 that files.json names.
//
// Answers carry what plain servers of files do not send: the headers that let the page use several threads (COOP, COEP),
// and the page's policy, which workers have from their own answer alone.

const NAME = 'sorano-__VERSION__';
const HEADERS = {
	'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp', 'cross-origin-resource-policy': 'same-origin',
	'content-security-policy': "__POLICY__",
};

const isLater = (name) => name.includes('.jspi.'); // for WebGPU, which few devices use: kept when it is asked for
const hex = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, '0')).join('');
const place = (name) => new URL(`./${name}`, self.registration.scope).href;

async function fill() {
	const cache = await caches.open(NAME);
	const answer = await fetch(place('files.json'), { cache: 'no-cache' });
	const files = await answer.clone().json();
	for (const [name, { sha256 }] of Object.entries(files)) {
		if (isLater(name) || (await cache.match(place(name)))) continue;
		const found = await fetch(place(name), { cache: 'no-cache' });
		const bytes = await found.clone().arrayBuffer();
		if (!found.ok || hex(await crypto.subtle.digest('SHA-256', bytes)) !== sha256) throw new Error(`${name} is not the file that was exported`);
		await cache.put(place(name), found);
	}
	await cache.put(place('files.json'), answer);
}

self.addEventListener('install', (event) => event.waitUntil(fill())); // a newer version waits until no page uses this one
self.addEventListener('activate', (event) => event.waitUntil((async () => {
	for (const name of await caches.keys()) if (name.startsWith('sorano-') && name !== NAME) await caches.delete(name);
	await self.clients.claim();
})()));

self.addEventListener('fetch', (event) => {
	const url = new URL(event.request.url);
	if (event.request.method !== 'GET' || url.origin !== location.origin) return;
	const name = url.href.split(/[?#]/)[0];
	const kept = name === self.registration.scope ? place('index.html') : name;
	event.respondWith((async () => {
		const cache = await caches.open(NAME);
		const match = await cache.match(kept), found = match ?? (await fetch(event.request));
		if (!match && found.ok && isLater(kept)) await cache.put(kept, found.clone());
		if (found.type === 'opaque' || !found.ok) return found;
		const headers = new Headers(found.headers);
		for (const [header, value] of Object.entries(HEADERS)) headers.set(header, value);
		return new Response(found.body, { status: found.status, statusText: found.statusText, headers });
	})());
});
