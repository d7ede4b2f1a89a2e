// A worker that appends a MAC to each encoded frame, between the browser's coder and the network.
//
// payload || counter (8 bytes) || HMAC-SHA256(key, "sorano frame 1" || counter || payload)[:16] || "SRF1"

const LABEL = new TextEncoder().encode('sorano frame 1');
const MAGIC = new TextEncoder().encode('SRF1');

async function seal(key, counter, payload) {
	const number = new Uint8Array(8);
	new DataView(number.buffer).setBigUint64(0, counter);
	const told = new Uint8Array(LABEL.length + 8 + payload.length);
	told.set(LABEL);
	told.set(number, LABEL.length);
	told.set(payload, LABEL.length + 8);
	const tag = new Uint8Array(await crypto.subtle.sign('HMAC', key, told)).subarray(0, 16);
	const sealed = new Uint8Array(payload.length + 28);
	sealed.set(payload);
	sealed.set(number, payload.length);
	sealed.set(tag, payload.length + 8);
	sealed.set(MAGIC, payload.length + 24);
	return sealed;
}

addEventListener('rtctransform', async ({ transformer }) => {
	const raw = transformer.options.key;
	const key = await crypto.subtle.importKey('raw', raw, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
	let counter = 0n;
	const sealing = new TransformStream({
		async transform(frame, out) {
			const sealed = await seal(key, counter++, new Uint8Array(frame.data));
			frame.data = sealed.buffer;
			out.enqueue(frame);
		},
	});
	transformer.readable.pipeThrough(sealing).pipeTo(transformer.writable);
});
