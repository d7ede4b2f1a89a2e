// Noise levels and solvers: the twins of src/sorano/sampling/schedule.py and solver.py, which say where they are from.

const TRAIN_TIMESTEPS = 1000;
const shifted = (sigma, shift) => (shift * sigma) / (1 + (shift - 1) * sigma);

/** {sigmas: numSteps + 1 noise levels that end in 0, timesteps: what the network is told at each but the last}. */
export function schedule(solver, numSteps, shift) {
	return { unipc: unipcSchedule, euler: eulerSchedule }[solver](numSteps, shift);
}

function unipcSchedule(numSteps, shift) {
	const last = 1 / TRAIN_TIMESTEPS;
	const sigmas = [];
	for (let i = 0; i < numSteps; i++) sigmas.push(shifted(1 + (i * (last - 1)) / numSteps, shift));
	if (Math.abs(sigmas[0] - 1) < 1e-6) sigmas[0] -= 1e-6; // the solver takes the logarithm of 1 - sigma
	return { sigmas: [...sigmas.map(Math.fround), 0], timesteps: sigmas.map((one) => Math.trunc(one * TRAIN_TIMESTEPS)) };
}

function eulerSchedule(numSteps, shift) {
	const first = Math.fround(1 / TRAIN_TIMESTEPS);
	const last = Math.fround(Math.fround(shift) * first) / (1 + (shift - 1) * first);
	const sigmas = [];
	for (let i = 0; i < numSteps; i++) {
		const time = numSteps === 1 ? TRAIN_TIMESTEPS : TRAIN_TIMESTEPS + (i * (last * TRAIN_TIMESTEPS - TRAIN_TIMESTEPS)) / (numSteps - 1);
		sigmas.push(Math.fround(shifted(time / TRAIN_TIMESTEPS, shift)));
	}
	return { sigmas: [...sigmas, 0], timesteps: sigmas.map((one) => Math.fround(one * TRAIN_TIMESTEPS)) };
}

/** Solves from noise `x` (Float32Array); `velocity(x, sigma, index)` may be asynchronous. Yields x after each step. */
export function solve(solver, velocity, x, sigmas) {
	return { unipc, euler }[solver](velocity, x, sigmas);
}

async function* euler(velocity, x, sigmas) {
	for (let i = 0; i + 1 < sigmas.length; i++) {
		const change = sigmas[i + 1] - sigmas[i];
		const along = await velocity(x, sigmas[i], i);
		x = x.map((value, at) => value + change * along[at]);
		yield x;
	}
}

const lambda = (sigma) => (sigma === 0 ? Infinity : Math.log1p(-sigma) - Math.log(sigma));

/** UniPC-2, B2(h), data-predicting: one evaluation a step (arXiv:2302.04867). */
async function* unipc(velocity, x, sigmas) {
	const numSteps = sigmas.length - 1;
	let seen = [], start = x, order = 0;
	for (let i = 0; i < numSteps; i++) {
		const sigma = sigmas[i], along = await velocity(x, sigma, i);
		const m = x.map((value, at) => value - sigma * along[at]);
		if (i > 0) x = corrected(start, sigmas[i - 1], sigma, seen, m, order);
		seen = [...seen.slice(-1), [lambda(sigma), m]];
		start = x;
		order = Math.min(2, i + 1, numSteps - i);
		x = predicted(start, sigma, sigmas[i + 1], seen, order);
		yield x;
	}
}

function predicted(x, sigma, next, seen, order) {
	const [lambda0, m0] = seen.at(-1);
	const h = lambda(next) - lambda0, b = Math.expm1(-h);
	const keep = next / sigma, add = (1 - next) * b;
	if (order < 2) return x.map((value, at) => keep * value - add * m0[at]);
	const [lambda1, m1] = seen.at(-2);
	const ratio = (lambda1 - lambda0) / h;
	return x.map((value, at) => keep * value - add * m0[at] - (add * 0.5 * (m1[at] - m0[at])) / ratio);
}

function corrected(x, sigma, next, seen, mNext, order) {
	const [lambda0, m0] = seen.at(-1);
	const h = lambda(next) - lambda0, b = Math.expm1(-h);
	const keep = next / sigma, add = (1 - next) * b;
	if (order === 1) return x.map((value, at) => keep * value - add * m0[at] - add * 0.5 * (mNext[at] - m0[at]));
	const [lambda1, m1] = seen.at(-2);
	const ratio = (lambda1 - lambda0) / h;
	const phi2 = b / -h - 1, phi3 = phi2 / -h - 0.5; // Eq. 10 of the paper
	const right1 = phi2 / b, right2 = (2 * phi3) / b;
	const weight1 = (right1 - right2) / (1 - ratio), weight2 = right1 - weight1;
	return x.map((value, at) => keep * value - add * m0[at]
		- add * ((weight1 * (m1[at] - m0[at])) / ratio + weight2 * (mNext[at] - m0[at])));
}

export const TIMESTEPS = TRAIN_TIMESTEPS;
