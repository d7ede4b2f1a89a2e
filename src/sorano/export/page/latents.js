// Between latents and tokens: the twins of `to_patches`, `from_patches` and `rotary_table` in src/sorano/export/run.py.

/** The latent (C, T, H, W in a row) as one row for each token. */
export const toPatches = (latent, shapes) => rearranged(latent, shapes, false);

/** The latent of which the rows are the transformer's result: there, the channels come last in a patch. */
export const fromPatches = (patches, shapes) => rearranged(patches, shapes, true);

function rearranged(values, { latent_CTHW: [c, t, h, w], patch_size: [p, q, r] }, isBack) {
	const out = new Float32Array(values.length);
	let at = 0;
	for (let i = 0; i < t; i += p) for (let y = 0; y < h; y += q) for (let x = 0; x < w; x += r) {
		const place = (channel, a, b, d) => ((channel * t + i + a) * h + y + b) * w + x + d;
		if (isBack) {
			for (let a = 0; a < p; a++) for (let b = 0; b < q; b++) for (let d = 0; d < r; d++) for (let k = 0; k < c; k++) out[place(k, a, b, d)] = values[at++];
		} else {
			for (let k = 0; k < c; k++) for (let a = 0; a < p; a++) for (let b = 0; b < q; b++) for (let d = 0; d < r; d++) out[at++] = values[place(k, a, b, d)];
		}
	}
	return out;
}

export function numTokens({ latent_CTHW: [, t, h, w], patch_size: [p, q, r] }) {
	return (t / p) * (h / q) * (w / r);
}

/** Cosines and sines [L, K/2] of the tokens' places in time, rows and columns (RoPE, arXiv:2104.09864). */
export function rotaryTable(shapes) {
	const { latent_CTHW: [, t, h, w], patch_size: [p, q, r], head_dim: width } = shapes;
	const side = 2 * Math.floor(width / 6);
	const axes = [width - 2 * side, side, side];
	const cos = new Float32Array((numTokens(shapes) * width) / 2), sin = new Float32Array(cos.length);
	let at = 0;
	for (let i = 0; i < t / p; i++) for (let y = 0; y < h / q; y++) for (let x = 0; x < w / r; x++) {
		[i, y, x].forEach((place, axis) => {
			for (let k = 0; k < axes[axis]; k += 2, at++) {
				const angle = place / 10000 ** (k / axes[axis]);
				cos[at] = Math.cos(angle);
				sin[at] = Math.sin(angle);
			}
		});
	}
	return { cos, sin };
}
