// Marks what the microphone hears before it is coded: the twin of SoundMarker in sorano.desk.call.sound.
// Steps of 16 ms with windows of two; 98 bands from 375 Hz on are raised or lowered by 1.5 dB, as the slot's cells say.

const RATE = 48_000;
const HOP = 768;
const SIZE = 2 * HOP;
const [FIRST, BANDS] = [12, 98]; // of RATE / SIZE = 31.25 Hz
const UP = 10 ** (1.5 / 20);

const WINDOW = Float64Array.from({ length: SIZE }, (_, n) => Math.sqrt(0.5 - 0.5 * Math.cos((2 * Math.PI * n) / SIZE)));
const TURN = new Float64Array(2 * SIZE); // exp(-2 pi i n / SIZE)
for (let n = 0; n < SIZE; n++) TURN.set([Math.cos((2 * Math.PI * n) / SIZE), -Math.sin((2 * Math.PI * n) / SIZE)], 2 * n);

/** The discrete Fourier transform of `size` = 3 * 2^n complex numbers (real and imaginary in turn), each `step` apart. */
function transform(given, at, step, made, to, size) {
	const half = size / 2;
	if (size === 3) {
		for (let k = 0; k < 3; k++) {
			let [real, imaginary] = [0, 0];
			for (let n = 0; n < 3; n++) {
				const [x, y] = [given[2 * (at + n * step)], given[2 * (at + n * step) + 1]];
				const turn = 2 * (((n * k) % 3) * (SIZE / 3));
				real += x * TURN[turn] - y * TURN[turn + 1];
				imaginary += x * TURN[turn + 1] + y * TURN[turn];
			}
			made[2 * (to + k)] = real;
			made[2 * (to + k) + 1] = imaginary;
		}
		return;
	}
	transform(given, at, 2 * step, made, to, half);
	transform(given, at + step, 2 * step, made, to + half, half);
	for (let k = 0; k < half; k++) {
		const [one, two, turn] = [2 * (to + k), 2 * (to + k + half), 2 * k * (SIZE / size)];
		const real = made[two] * TURN[turn] - made[two + 1] * TURN[turn + 1];
		const imaginary = made[two] * TURN[turn + 1] + made[two + 1] * TURN[turn];
		made[two] = made[one] - real;
		made[two + 1] = made[one + 1] - imaginary;
		made[one] += real;
		made[one + 1] += imaginary;
	}
}

/** Takes and gives blocks that divide a step, 32 ms late. */
export class SoundMarker {
	constructor() {
		this.cells = new Map(); // of each slot: 63 x 98 bits
		this.offset = 0; // seconds of the session at frame 0
		this.given = new Float64Array(SIZE);
		this.sum = new Float64Array(SIZE);
		this.done = new Float64Array(HOP);
		for (const name of ['heard', 'spectrum', 'change']) this[name] = new Float64Array(2 * SIZE); // complex
		this.at = 0;
	}

	hear({ offset, slots }) {
		if (Math.abs(offset - this.offset) > 0.25) this.offset = offset; // else the steps go on as they were
		for (const { slot, cells } of slots) this.cells.set(slot, cells);
		for (const slot of this.cells.keys()) if (slot < slots[0].slot - 1) this.cells.delete(slot);
	}

	/** `frame` is the number of the block's first sample. */
	take(given, made, frame) {
		this.given.set(given, HOP + this.at);
		made.set(this.done.subarray(this.at, this.at + given.length));
		this.at += given.length;
		if (this.at < HOP) return;
		this.at = 0;
		this.#step(Math.round(((frame + given.length - SIZE) / RATE + this.offset) / (HOP / RATE)));
		this.done.set(this.sum.subarray(0, HOP));
		this.sum.copyWithin(0, HOP).fill(0, HOP);
		this.given.copyWithin(0, HOP);
	}

	#step(step) {
		const slot = Math.floor((step * 2) / 125);
		const cells = this.cells.get(slot);
		const row = (step - Math.floor((slot * 125 + 1) / 2)) * BANDS;
		for (let n = 0; n < SIZE; n++) this.heard[2 * n] = this.given[n] * WINDOW[n];
		transform(this.heard, 0, 1, this.spectrum, 0, SIZE);
		for (let band = 0; band < BANDS; band++) { // what each band changes by, its conjugate: the inverse is a transform too
			const [at, bit] = [2 * (FIRST + band), row + band];
			const gain = cells ? ((cells[bit >> 3] >> (7 - (bit & 7))) & 1 ? UP : 1 / UP) : 0; // muted, rather than unmarked
			this.change[at] = this.spectrum[at] * (gain - 1);
			this.change[at + 1] = -this.spectrum[at + 1] * (gain - 1);
		}
		transform(this.change, 0, 1, this.spectrum, 0, SIZE);
		for (let n = 0; n < SIZE; n++) this.sum[n] += (this.heard[2 * n] + (2 * this.spectrum[2 * n]) / SIZE) * WINDOW[n];
	}
}

if (globalThis.registerProcessor) {
	registerProcessor('sound-marker', class extends AudioWorkletProcessor {
		constructor() {
			super();
			this.marker = new SoundMarker();
			this.port.onmessage = ({ data }) => this.marker.hear(data);
		}

		process([[given]], [[made]]) {
			this.marker.take(given ?? new Float32Array(made.length), made, currentFrame);
			return true;
		}
	});
}
