// The mark in frames: the twin of `Marker` in src/sorano/trust/watermark/embed.py, for frames of up to 405 lines, in
// which a chip measures three pixels. What the public key draws is data (model/mark.json).
//
// A pixel in some hundreds may differ from Python's by a level; with OpenCV before 5, which draws a pattern's edges at
// 1/32 of a pixel, one in twenty.

import { rounded } from './pictures.js';

export class Marker {
	/** `data` is a parsed mark.json; `id` a BigInt of 40 bits. */
	constructor(data, id, height, width) {
		if (Math.min(height, width) > data.mostLines || height % 2 || width % 2) throw new RangeError(`frames of ${width}x${height} are not marked here`);
		Object.assign(this, { data, height, width, count: 0, detail: [0, 0] });
		const word = codeWord(data, id);
		this.luma = even(drawn(sharpened(tile(data.luma, word), data.luma.side, data.highPass), data.luma.side, height, width, data.chip));
		this.colour = new Float32Array(3 * height * width);
		const blue = Math.min(Math.max(data.chromaRms * (540 / Math.min(height, width)) ** 0.5, data.chromaRange[0]), data.chromaRange[1]);
		[['blue', blue], ['red', blue * data.redShare]].forEach(([name, rms], row) => {
			const source = data[name];
			const plane = even(drawn(tile(source, word), source.side, height, width, (data.chip * data.luma.side) / source.side));
			const rgb = data.rgbOfChroma[row];
			for (let at = 0; at < plane.length; at++) for (let k = 0; k < 3; k++) this.colour[3 * at + k] += plane[at] * rms * rgb[k];
		});
	}

	/** A marked copy of the next frame, RGB bytes. */
	mark(frame) {
		const { height, width } = this;
		const grey = new Float32Array(height * width);
		for (let at = 0; at < grey.length; at++) grey[at] = (9798 * frame[3 * at] + 19235 * frame[3 * at + 1] + 3735 * frame[3 * at + 2] + 16384) >> 15;
		const half = halved(grey, height, width), rows = height >> 1, columns = width >> 1;
		this.#watch(half, rows, columns);
		const rms = this.#rms();
		const share = doubled(textured(half, rows, columns, this.data), rows, columns);
		const out = new Uint8Array(frame.length);
		for (let at = 0; at < grey.length; at++) for (let k = 0; k < 3; k++) {
			out[3 * at + k] = rounded(frame[3 * at + k] + this.luma[at] * rms + this.colour[3 * at + k] * share[at]);
		}
		this.count++;
		return out;
	}

	#watch(half, rows, columns) {
		const old = this.count ? 0.95 : 0;
		const quarter = halved(half, rows, columns);
		[[half, rows, columns], [quarter, rows >> 1, columns >> 1]].forEach(([picture, r, c], index) => {
			this.detail[index] = old * this.detail[index] + (1 - old) * detailOf(picture, r, c);
		});
	}

	#rms() {
		const { psnr: { base, fine, coarse, least, most } } = this.data;
		const [a, b] = this.detail.map((value) => 20 * Math.log10(Math.max(value, 1)));
		return 255 / 10 ** (Math.min(Math.max(base + fine * a + coarse * b, least), most) / 20);
	}
}

/** The polar code word of a message: version, kind, id, then a CRC (src/sorano/trust/watermark/polar.py). */
export function codeWord(data, id) {
	const bits = (value, count) => Array.from({ length: count }, (_, at) => Number((BigInt(value) >> BigInt(count - 1 - at)) & 1n));
	const message = [...bits(data.version, 2), ...bits(data.kind, 2), ...bits(id, data.idBits)];
	const packed = Array.from({ length: Math.ceil(message.length / 8) }, (_, at) => message.slice(8 * at, 8 * at + 8).reduce((sum, bit, k) => sum | (bit << (7 - k)), 0));
	const checked = [...message, ...bits(crc32(packed) >>> (32 - data.crcBits), data.crcBits)];
	const word = new Uint8Array(data.codeBits);
	data.free.forEach((place, at) => { word[place] = checked[at]; });
	for (let half = 1; half < word.length; half *= 2) {
		for (let at = 0; at < word.length; at++) if (!(at & half)) word[at] ^= word[at + half];
	}
	return word;
}

export function crc32(bytes) {
	let crc = 0xffffffff;
	for (const byte of bytes) {
		crc ^= byte;
		for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return (crc ^ 0xffffffff) >>> 0;
}

/** A key's tile of a code word: sync chips have the bit -1. */
function tile({ sign, bit }, word) {
	return Float32Array.from(bit, (which, at) => (sign[at] === '-' ? -1 : 1) * (which < 0 ? 1 : 1 - 2 * word[which]));
}

/** OpenCV's Gaussian kernel for float32 pictures. */
function kernel(deviation) {
	const size = Math.round(deviation * 8 + 1) | 1, middle = size >> 1;
	const raw = Array.from({ length: size }, (_, at) => Math.exp(-((at - middle) ** 2) / (2 * deviation ** 2)));
	const total = raw.reduce((sum, one) => sum + one, 0);
	return raw.map((one) => one / total);
}

const mirrored = (at, size) => { // OpenCV's BORDER_REFLECT_101
	if (size === 1) return 0;
	while (at < 0 || at >= size) at = at < 0 ? -at : 2 * size - 2 - at;
	return at;
};
const wrapped = (at, size) => ((at % size) + size) % size;

function blurred(picture, rows, columns, deviation, border = mirrored) {
	const own = kernel(deviation), middle = own.length >> 1;
	const across = new Float32Array(picture.length), out = new Float32Array(picture.length);
	const place = (count) => Array.from({ length: count + 2 * middle }, (_, at) => border(at - middle, count));
	const xs = place(columns), ys = place(rows);
	for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++) {
		let sum = 0;
		for (let k = 0; k < own.length; k++) sum += own[k] * picture[y * columns + xs[x + k]];
		across[y * columns + x] = sum;
	}
	for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++) {
		let sum = 0;
		for (let k = 0; k < own.length; k++) sum += own[k] * across[ys[y + k] * columns + x];
		out[y * columns + x] = sum;
	}
	return out;
}

function sharpened(values, side, deviation) {
	const soft = blurred(values, side, side, deviation, wrapped);
	return values.map((value, at) => value - soft[at]);
}

/** OpenCV's cubic weights of the four neighbours at a share of a pixel. */
function cubic(x) {
	const a = -0.75;
	const first = ((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a;
	const second = ((a + 2) * x - (a + 3)) * x * x + 1;
	const third = ((a + 2) * (1 - x) - (a + 3)) * (1 - x) * (1 - x) + 1;
	return [first, second, third, 1 - first - second - third];
}

/** The tile repeated over a frame, each chip `chip` pixels wide, with cubic edges. */
function drawn(values, side, height, width, chip) {
	const places = (count) => Array.from({ length: count }, (_, at) => {
		const place = at / chip + 0.5 / chip - 0.5, whole = Math.floor(place), drawnTo = Math.floor(count / chip) + 2;
		const taps = [-1, 0, 1, 2].map((k) => whole + k); // beyond a chip of margin there is nothing
		return { at: taps.map((k) => wrapped(k, side)), weights: cubic(place - whole).map((one, k) => (taps[k] < -1 || taps[k] >= drawnTo ? 0 : one)) };
	});
	const xs = places(width), ys = places(height);
	const out = new Float32Array(height * width);
	for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
		let sum = 0;
		for (let i = 0; i < 4; i++) {
			const row = ys[y].at[i] * side;
			let line = 0;
			for (let j = 0; j < 4; j++) line += xs[x].weights[j] * values[row + xs[x].at[j]];
			sum += ys[y].weights[i] * line;
		}
		out[y * width + x] = sum;
	}
	return out;
}

/** A pattern with deviation 1. */
function even(pattern) {
	let sum = 0, square = 0;
	for (const value of pattern) sum += value;
	const mean = sum / pattern.length;
	for (const value of pattern) square += (value - mean) ** 2;
	const deviation = Math.max(Math.sqrt(square / pattern.length), 1e-9);
	return pattern.map((value) => value / deviation);
}

function halved(picture, rows, columns) {
	const r = rows >> 1, c = columns >> 1, out = new Float32Array(r * c);
	for (let y = 0; y < r; y++) for (let x = 0; x < c; x++) {
		const at = 2 * y * columns + 2 * x;
		out[y * c + x] = (picture[at] + picture[at + 1] + picture[at + columns] + picture[at + columns + 1]) / 4;
	}
	return out;
}

/** A picture at twice the size, with OpenCV's linear interpolation. */
function doubled(picture, rows, columns) {
	const out = new Float32Array(4 * rows * columns);
	const places = (count) => Array.from({ length: 2 * count }, (_, at) => {
		const place = Math.min(Math.max((at + 0.5) / 2 - 0.5, 0), count - 1), low = Math.min(Math.floor(place), Math.max(count - 2, 0));
		return { low, high: Math.min(low + 1, count - 1), share: place - low };
	});
	const xs = places(columns), ys = places(rows);
	for (let y = 0; y < 2 * rows; y++) for (let x = 0; x < 2 * columns; x++) {
		const line = (row) => (1 - xs[x].share) * picture[row * columns + xs[x].low] + xs[x].share * picture[row * columns + xs[x].high];
		out[y * 2 * columns + x] = (1 - ys[y].share) * line(ys[y].low) + ys[y].share * line(ys[y].high);
	}
	return out;
}

function detailOf(picture, rows, columns) {
	const soft = blurred(picture, rows, columns, 1.2);
	let square = 0, cube = 0;
	for (let at = 0; at < picture.length; at++) {
		const size = Math.abs(picture[at] - soft[at]);
		square += size * size;
		cube += size * size * size;
	}
	return cube / Math.max(square, 1e-9);
}

/** The share of the mark in colour at each place: less on flat ground, where it is seen. */
function textured(picture, rows, columns, { flatShare, fullDetail }) {
	const soft = blurred(picture, rows, columns, 1.5);
	const around = blurred(picture.map((value, at) => Math.abs(value - soft[at])), rows, columns, 4);
	return around.map((value) => flatShare + (1 - flatShare) * Math.min(value / fullDetail, 1));
}
