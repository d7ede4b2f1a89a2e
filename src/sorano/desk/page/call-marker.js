// Marks what the camera shows before it is coded: another pattern each second, from the tiles that the desk sends.
// The pattern is that of sorano.desk.call.marks: chips of 1/90 of the short side, a tile of 64 x 64, bicubic edges.

const TILE = 64;
const SHORT_CHIPS = 90;
const SCALE = 32;
const [ROWS, COLUMNS] = [9, 16]; // of what the desk is told of the pictures beside their mark

/** Weights of the four neighbours at a fraction, as OpenCV's cubic interpolation has them. */
function cubic(x) {
	const a = -0.75;
	const near = (t) => ((a + 2) * t - (a + 3)) * t * t + 1;
	const far = (t) => ((a * t - 5 * a) * t + 8 * a) * t - 4 * a;
	return [far(1 + x), near(x), near(1 - x), far(2 - x)];
}

/** For each pixel of a side: four chips of the tile, and their weights. */
function places(side, chip) {
	return Array.from({ length: side }, (_, pixel) => {
		const at = (pixel + 0.5) / chip - 0.5;
		const first = Math.floor(at);
		return [-1, 0, 1, 2].map((step) => (((first + step) % TILE) + TILE) % TILE).concat(cubic(at - first));
	});
}

/** What is added to luma, [height * width], of a strength in levels. */
export function pattern(tile, height, width, strength) {
	const chip = Math.min(height, width) / SHORT_CHIPS;
	const across = places(width, chip);
	const wide = new Float32Array(TILE * width);
	for (let row = 0; row < TILE; row++) {
		for (let x = 0; x < width; x++) {
			const [a, b, c, d, wa, wb, wc, wd] = across[x];
			const of = row * TILE;
			wide[row * width + x] = (tile[of + a] * wa + tile[of + b] * wb + tile[of + c] * wc + tile[of + d] * wd) / SCALE;
		}
	}
	const made = new Float32Array(height * width);
	let sum = 0;
	let squares = 0;
	places(height, chip).forEach(([a, b, c, d, wa, wb, wc, wd], y) => {
		for (let x = 0; x < width; x++) {
			const value = wide[a * width + x] * wa + wide[b * width + x] * wb + wide[c * width + x] * wc + wide[d * width + x] * wd;
			made[y * width + x] = value;
			sum += value;
			squares += value * value;
		}
	});
	const mean = sum / made.length;
	const factor = strength / Math.max(Math.sqrt(squares / made.length - mean * mean), 1e-9);
	return made.map((value) => value * factor);
}

/** Marks frames of a track; `slots` is kept up to date by whoever asks the desk. */
export class Marker {
	constructor() {
		this.tiles = new Map();
		this.drawn = new Map();
		this.began = 0;
		this.strength = 2.5;
		this.marked = 0;
		this.thumbs = new Map();
	}

	/** What the pictures of the seconds that are over looked like: {slot: 144 bytes in base64}. */
	seen() {
		const now = Math.floor(performance.now() / 1000 - this.began);
		const over = [...this.thumbs].filter(([slot]) => slot < now);
		for (const [slot] of over) this.thumbs.delete(slot);
		return Object.fromEntries(over.slice(-8).map(([slot, { sums, counts }]) => [slot, btoa(String.fromCharCode(...sums.map((sum, at) => Math.round(sum / Math.max(counts[at], 1)))))]));
	}

	#note(slot, pixels, offset, stride, width, height) {
		if (!this.thumbs.has(slot)) this.thumbs.set(slot, { sums: new Array(ROWS * COLUMNS).fill(0), counts: new Array(ROWS * COLUMNS).fill(0) });
		const { sums, counts } = this.thumbs.get(slot);
		for (let y = 0; y < height; y += 2) {
			const row = Math.floor((y * ROWS) / height) * COLUMNS;
			for (let x = 0; x < width; x += 2) {
				const cell = row + Math.floor((x * COLUMNS) / width);
				sums[cell] += pixels[offset + y * stride + x];
				counts[cell]++;
			}
		}
	}

	/** What the desk says of the next seconds; `middle` is when it said it, by performance.now(). */
	hear(told, middle) {
		this.began = middle / 1000 - told.seconds;
		this.strength = told.strength;
		for (const { slot, tile } of told.slots) this.tiles.set(slot, Int8Array.from(atob(tile), (one) => one.charCodeAt(0)));
		const oldest = Math.floor(told.seconds) - 1;
		for (const slot of this.tiles.keys()) if (slot < oldest) this.tiles.delete(slot);
		for (const name of this.drawn.keys()) if (Number(name.split(' ')[0]) < oldest) this.drawn.delete(name);
	}

	#pattern(slot, height, width) {
		const name = `${slot} ${height} ${width}`;
		if (!this.drawn.has(name) && this.tiles.has(slot)) this.drawn.set(name, pattern(this.tiles.get(slot), height, width, this.strength));
		return this.drawn.get(name);
	}

	/** A track of marked frames. */
	track(camera) {
		const reader = new MediaStreamTrackProcessor({ track: camera });
		const writer = new MediaStreamTrackGenerator({ kind: 'video' });
		const marking = new TransformStream({ transform: (frame, out) => this.#frame(frame, out) });
		reader.readable.pipeThrough(marking).pipeTo(writer.writable).catch(() => {});
		return writer;
	}

	async #frame(frame, out) {
		const { width, height } = frame.visibleRect;
		const slot = Math.floor(performance.now() / 1000 - this.began);
		const added = this.#pattern(slot, height, width);
		if (!added || !['I420', 'NV12'].includes(frame.format)) return out.enqueue(frame);
		const pixels = new Uint8ClampedArray(frame.allocationSize());
		const layout = await frame.copyTo(pixels);
		const { offset, stride } = layout[0];
		this.#note(slot, pixels, offset, stride, width, height);
		for (let y = 0; y < height; y++) {
			const row = offset + y * stride;
			for (let x = 0; x < width; x++) pixels[row + x] += added[y * width + x]; // clamped and rounded by its type
		}
		const { format, timestamp, duration } = frame;
		frame.close();
		this.marked++;
		out.enqueue(new VideoFrame(pixels, { format, codedWidth: width, codedHeight: height, layout, timestamp, duration: duration ?? undefined }));
	}
}
