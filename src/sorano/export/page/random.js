// torch's CPU generator: `torch.randn(size, generator=torch.Generator().manual_seed(seed))` in float32.
//
// MT19937 (Matsumoto and Nishimura 1998); 24-bit uniforms and Box-Muller in blocks of 16 for 16 numbers or more, and
// pairs of 53-bit uniforms below, as ATen's `normal_fill` and `normal_distribution` do.

const N = 624, M = 397;

export class MersenneTwister {
	/** `seed` is a whole number; as in torch, its lowest 32 bits count. */
	constructor(seed) {
		this.state = new Uint32Array(N);
		this.state[0] = Number(BigInt.asUintN(32, BigInt(seed)));
		for (let i = 1; i < N; i++) {
			const before = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
			this.state[i] = Math.imul(1812433253, before) + i;
		}
		this.at = N;
	}

	/** The next 32 bits. */
	next() {
		if (this.at === N) this.refill();
		let y = this.state[this.at++];
		y ^= y >>> 11;
		y ^= (y << 7) & 0x9d2c5680;
		y ^= (y << 15) & 0xefc60000;
		return (y ^ (y >>> 18)) >>> 0;
	}

	refill() {
		const { state } = this;
		for (let i = 0; i < N; i++) {
			const mixed = (state[i] & 0x80000000) | (state[(i + 1) % N] & 0x7fffffff);
			state[i] = state[(i + M) % N] ^ (mixed >>> 1) ^ (mixed & 1 ? 0x9908b0df : 0);
		}
		this.at = 0;
	}

	/** A float32 in [0, 1): 24 bits. */
	uniform() {
		return (this.next() & 0xffffff) / 0x1000000;
	}

	/** A double in [0, 1): 53 bits, the high word first. */
	uniformDouble() {
		const high = this.next() & 0x1fffff;
		return (high * 0x100000000 + this.next()) / 0x20000000000000;
	}
}

/** `size` numbers of the normal distribution, as torch draws them from a seed. */
export function normal(size, seed) {
	const source = new MersenneTwister(seed);
	const out = new Float32Array(size);
	if (size < 16) {
		for (let i = 0; i < size; i += 2) {
			const turn = 2 * Math.PI * source.uniformDouble();
			const radius = Math.sqrt(-2 * Math.log1p(-source.uniformDouble()));
			out[i] = radius * Math.cos(turn);
			if (i + 1 < size) out[i + 1] = radius * Math.sin(turn);
		}
		return out;
	}
	for (let i = 0; i < size; i++) out[i] = source.uniform();
	for (let i = 0; i + 16 <= size; i += 16) transform(out, i);
	if (size % 16) { // the last block is drawn anew, and overlaps the one before
		for (let i = size - 16; i < size; i++) out[i] = source.uniform();
		transform(out, size - 16);
	}
	return out;
}

/** Sixteen uniforms to sixteen normal numbers, in place (Box and Muller 1958). */
function transform(out, start) {
	for (let j = start; j < start + 8; j++) {
		const radius = Math.sqrt(-2 * Math.log(1 - out[j]));
		const turn = 2 * Math.PI * out[j + 8];
		out[j] = radius * Math.cos(turn);
		out[j + 8] = radius * Math.sin(turn);
	}
}
