// A worker that appends a MAC to each encoded frame, between the browser's coder and the network.
//
// payload || counter (8 bytes) || HMAC-SHA256(key, label || counter || payload)[:16] || "SRF1"

const MAGIC = new TextEncoder().encode('SRF1');

async function seal(key, label, counter, payload) {
	const number = new Uint8Array(8);
	new DataView(number.buffer).setBigUint64(0, counter);
	const told = new Uint8Array(label.length + 8 + payload.length);
	told.set(label);
	told.set(number, label.length);
	told.set(payload, label.length + 8);
	const tag = new Uint8Array(await crypto.subtle.sign('HMAC', key, told)).subarray(0, 16);
	const sealed = new Uint8Array(payload.length + 28);
	sealed.set(payload);
	sealed.set(number, payload.length);
	sealed.set(tag, payload.length + 8);
	sealed.set(MAGIC, payload.length + 24);
	return sealed;
}

addEventListener('rtctransform', async ({ transformer }) => {
	const { key: raw, kind } = transformer.options;
	const label = new TextEncoder().encode(`sorano ${kind} 1`);
	const key = await crypto.subtle.importKey('raw', raw, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
	let counter = 0n;
	const sealing = new TransformStream({
		async transform(frame, out) {
			const sealed = await seal(key, label, counter++, new Uint8Array(frame.data));
			frame.data = sealed.buffer;
			out.enqueue(frame);
		},
	});
	transformer.readable.pipeThrough(sealing).pipeTo(transformer.writable);
});
