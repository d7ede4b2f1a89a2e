// WebGPU, for networks whose results there agree with WebAssembly's: accelerators have been wrong without a word.

import { bytesOf } from './files.js';

export const MOST_DIFFERENCE = 1e-3; // of the largest number of a result
const TESTED = ['transformer', 'decoder']; // the text encoder takes a hundredth of a clip

/** {ort} with WebGPU, or {reason}: 'browser', 'adapter', 'software'. `software` takes adapters that run on the processor, for tests. */
export async function runtime({ software = false } = {}) {
	if (!('Suspending' in WebAssembly) || !navigator.gpu) return { reason: 'browser' };
	const adapter = await navigator.gpu.requestAdapter().catch(() => null);
	if (!adapter) return { reason: 'adapter' };
	if (!software && (adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter)) return { reason: 'software' };
	const ort = await import('./runtime/ort/ort.jspi.min.mjs');
	ort.env.wasm.numThreads = 1;
	ort.env.wasm.wasmPaths = new URL('./runtime/ort/', import.meta.url).href;
	ort.env.wasm.wasmBinary = (await bytesOf('runtime/ort/ort-wasm-simd-threaded.jspi.wasm')).buffer;
	ort.env.logLevel = 'error';
	return { ort };
}

/** Whether two results agree; numbers that are not finite agree with nothing. */
export function agree(found, wanted) {
	if (found.length !== wanted.length) return false;
	const most = MOST_DIFFERENCE * wanted.reduce((largest, one) => Math.max(largest, Math.abs(one)), 0);
	return wanted.every((one, at) => Math.abs(found[at] - one) <= most); // false of NaN
}

async function timed(run) {
	await run(); // the first one compiles
	const began = performance.now(), data = await run();
	return { data, took: performance.now() - began };
}

/**
 * Moves an engine's networks to WebGPU, each after it was run on both with the same input, agreed and took less time; returns
 * {on: names, reason}: why no more of them, null where all are.
 */
export async function adopt(engine, { find = runtime, any = false, ...options } = {}) {
	const on = [];
	try {
		const { ort, reason } = await find(options);
		if (!ort) return { on, reason };
		for (const name of TESTED) {
			const inputs = await engine.sample(name);
			const wanted = await timed(() => engine.run(name, inputs));
			const session = await engine.create(name, ort, 'webgpu');
			const found = await timed(() => session.run(inputs));
			const why = !agree(found.data, wanted.data) ? 'differs' : !any && found.took >= wanted.took ? 'slower' : null;
			if (why) {
				await session.release();
				return { on, reason: why };
			}
			await engine.replace(name, session);
			on.push(name);
		}
		return { on, reason: null };
	} catch (error) {
		console.warn('WebGPU is not used:', error);
		return { on, reason: 'failed' };
	}
}
