// Frames, RGB bytes in rows: from the decoder, enlarged as Pillow's Lanczos filter does, and as I420 for encoders.

/** The decoder's video [3, F, H, W], -1..1, as frames of RGB bytes. */
export function framesOf(video, count, height, width) {
	const plane = height * width;
	return Array.from({ length: count }, (_, frame) => {
		const out = new Uint8Array(3 * plane);
		for (let channel = 0; channel < 3; channel++) {
			const from = (channel * count + frame) * plane;
			for (let at = 0; at < plane; at++) out[3 * at + channel] = rounded((video[from + at] + 1) * 127.5);
		}
		return out;
	});
}

/** Rounded to a byte, halves to the even number. */
export function rounded(value) {
	const down = Math.floor(value), rest = value - down;
	const whole = rest > 0.5 || (rest === 0.5 && down & 1) ? down + 1 : down;
	return whole < 0 ? 0 : whole > 255 ? 255 : whole;
}

const BITS = 22; // of Pillow's fixed-point weights
const sinc = (x) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));
const lanczos = (x) => (x > -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0);

/** For every pixel of the new size, where its source pixels begin, and their weights. */
function weights(size, newSize) {
	const scale = size / newSize, wide = Math.max(1, scale), support = 3 * wide;
	return Array.from({ length: newSize }, (_, at) => {
		const centre = (at + 0.5) * scale;
		const first = Math.max(0, Math.trunc(centre - support + 0.5));
		const last = Math.min(size, Math.trunc(centre + support + 0.5));
		const raw = Array.from({ length: last - first }, (__, i) => lanczos((i + first - centre + 0.5) / wide));
		const total = raw.reduce((sum, one) => sum + one, 0);
		return { first, weights: raw.map((one) => { const k = (one / total) * (1 << BITS); return Math.trunc(k < 0 ? k - 0.5 : k + 0.5); }) };
	});
}

/** A larger frame, with Lanczos' filter: across, then down, bytes between (Pillow's `Image.resize`). */
export function resized(frame, height, width, newHeight, newWidth) {
	if (height === newHeight && width === newWidth) return frame;
	const across = filtered(frame, weights(width, newWidth), height, newWidth, (y, x) => 3 * (y * width + x), (y, x) => 3 * (y * newWidth + x));
	return filtered(across, weights(height, newHeight), newWidth, newHeight, (x, y) => 3 * (y * newWidth + x), (x, y) => 3 * (y * newWidth + x));
}

function filtered(from, table, lines, size, source, target) {
	const out = new Uint8Array(3 * lines * size);
	for (let line = 0; line < lines; line++) for (let at = 0; at < size; at++) {
		const { first, weights: own } = table[at];
		for (let channel = 0; channel < 3; channel++) {
			let sum = 1 << (BITS - 1);
			for (let i = 0; i < own.length; i++) sum += from[source(line, first + i) + channel] * own[i];
			const value = sum >> BITS;
			out[target(line, at) + channel] = value < 0 ? 0 : value > 255 ? 255 : value;
		}
	}
	return out;
}

/** Frames that begin where others ended: what the coding of those lost is added, less and less (`frames.fade_out_error`). */
export function withErrorFaded(frames, coded, last, count) {
	return frames.map((frame, index) => {
		const share = 1 - (index + 1) / (count + 1);
		return share > 0 ? frame.map((value, at) => rounded(value + share * (last[at] - coded[at]))) : frame;
	});
}

/** A frame as I420 of ITU-R BT.709 in the limited range; sides must be even. */
export function toI420(frame, height, width) {
	const out = new Uint8Array((height * width * 3) / 2);
	const blue = height * width, red = blue + blue / 4;
	for (let y = 0; y < height; y += 2) for (let x = 0; x < width; x += 2) {
		let r = 0, g = 0, b = 0;
		for (let dy = 0; dy < 2; dy++) for (let dx = 0; dx < 2; dx++) {
			const at = 3 * ((y + dy) * width + x + dx);
			r += frame[at]; g += frame[at + 1]; b += frame[at + 2];
			out[(y + dy) * width + x + dx] = 16.5 + (219 / 255) * (0.2126 * frame[at] + 0.7152 * frame[at + 1] + 0.0722 * frame[at + 2]);
		}
		const luma = 0.2126 * r + 0.7152 * g + 0.0722 * b, at = (y / 2) * (width / 2) + x / 2;
		out[blue + at] = 128.5 + ((224 / 255) * (b - luma)) / 4 / 1.8556;
		out[red + at] = 128.5 + ((224 / 255) * (r - luma)) / 4 / 1.5748;
	}
	return out;
}
