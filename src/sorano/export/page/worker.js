// Everything that takes time, away from the page. In: {kind: 'create', request}, {kind: 'cancel'}, {kind: 'verify', file}.
// Out: {kind: 'progress'}, then {kind: 'made'}, {kind: 'failed', code, values} or {kind: 'cancelled'}; and
// {kind: 'verified', found} or {kind: 'unverified', code, values}.

import * as ort from './runtime/ort/ort.wasm.min.mjs';
import { encoded } from './encode.js';
import { Engine } from './engine.js';
import { Failure, bytesOf, jsonOf, saidOf } from './files.js';
import { identity, rootPem } from './keys.js';
import { resized, withErrorFaded } from './pictures.js';
import * as seal from './seal.js';
import { Marker } from './watermark.js';
import { adopt } from './webgpu.js';
import { Words } from './words.js';

const channel = new MessageChannel();
let waiting, cancelled = false, loading, vocabulary, webgpu = {};
channel.port1.onmessage = () => waiting?.();

/** Lets messages in: one that says cancel is heard here. */
async function pause() {
	await new Promise((resolve) => { waiting = resolve; channel.port2.postMessage(0); });
	if (cancelled) throw new Failure('cancelled');
}

const progress = (stage, done, total) => postMessage({ kind: 'progress', stage, done, total });

/** The words of a small vocabulary; null where the model takes any. */
async function words() {
	if (vocabulary === undefined) {
		const { words: has } = await jsonOf('model/model.json');
		vocabulary = has ? new Words(await jsonOf('model/words.json')) : null;
	}
	return vocabulary;
}

async function loaded() {
	ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.max(1, Math.min(4, Math.floor(navigator.hardwareConcurrency / 2))) : 1;
	ort.env.wasm.wasmPaths = new URL('./runtime/ort/', import.meta.url).href;
	ort.env.wasm.wasmBinary = (await bytesOf('runtime/ort/ort-wasm-simd-threaded.wasm')).buffer;
	ort.env.logLevel = 'error';
	const engine = await Engine.load(ort, (done, total) => progress('load', done, total));
	ort.env.wasm.wasmBinary = undefined; // it is compiled by now
	engine.webgpu = await adopt(engine, webgpu);
	return engine;
}

/** The loaded engine; what could not be loaded is tried again. */
const engineOf = () => (loading ??= loaded().catch((error) => { loading = undefined; throw error; }));

/** The prompt in the model's words, and what was made of it. */
async function readPrompt(prompt) {
	const known = await words();
	const reading = known ? known.read(prompt) : { text: prompt.trim(), readAs: [], unknown: [] };
	const named = { words: reading.unknown.join(', '), makes: known?.rules.makes.join(', ') };
	if (!/[\p{L}\p{N}]/u.test(reading.text)) throw new Failure(named.words ? 'words' : 'prompt', named);
	if (named.words && named.makes && !reading.hasThing) throw new Failure('thing', named);
	return reading;
}

async function create(request) {
	const began = performance.now(), seconds = {};
	let before = began;
	const measured = (stage) => { seconds[stage] = (performance.now() - before) / 1000; before = performance.now(); };
	const reading = await readPrompt(request.prompt);
	const engine = await engineOf();
	measured('load');
	let latent, index = 0;
	progress('steps', 0, request.numSteps);
	await pause();
	for await (latent of engine.steps({ ...request, prompt: reading.text })) {
		progress('steps', ++index, request.numSteps);
		await pause();
	}
	measured('steps');
	progress('decode', 0, 1);
	await pause();
	const frames = await engine.decode(latent);
	measured('decode');
	await pause();
	const made = await finished(engine, request, latent, frames);
	measured('seal');
	return { ...made, reading, seconds, webgpu: engine.webgpu, total: (performance.now() - began) / 1000 };
}

/** Frames to a marked, labelled and signed file, and what reading it back says. */
async function finished(engine, request, latent, frames) {
	const { shapes, fps, preset, sorano, output: { width, height }, handover_frames: handover, weights_sha256: sha256 } = engine.card;
	const id = await seal.markId(latent, `(1, ${shapes.latent_CTHW.join(', ')})`, `(${fps}, ${width}, ${height})`);
	const marker = new Marker(await jsonOf('model/mark.json'), id, height, width);
	const whole = wholeVideo(request, frames.map((frame) => resized(frame, shapes.height, shapes.width, height, width)), handover);
	const marked = [];
	for (const [at, frame] of whole.entries()) {
		marked.push(marker.mark(frame));
		if (at % 4 === 0) { progress('mark', at, whole.length); await pause(); }
	}
	progress('seal', 0, 1);
	const own = await identity('Sorano in a browser');
	const prompt = request.isPrivate ? null : request.prompt, title = prompt ?? 'video';
	const said = { ...(prompt ? { prompt } : {}), seed: request.seed, num_steps: request.numSteps, guidance: request.guidance, preset };
	const record = { sorano, request: said, made: { size: `${width}x${height}`, num_frames: marked.length, fps }, preset: { name: preset }, machine: { device: 'browser' } };
	const { bytes, codec } = await encoded(marked, {
		height, width, fps,
		texts: [['title', title.slice(0, 200)], ['comment', JSON.stringify(record)], ['AIGC', await seal.label(own, id, request.producer)]],
	});
	await seal.load(() => bytesOf('runtime/c2pa/c2pa_bg.wasm'));
	const signed = await seal.sealed(own, bytes, await seal.definition({
		version: sorano, title, id, model: { name: preset, sha256 }, prompt, request: said, bytes, given: request.source,
	}), request.source && { ...request.source, name: request.isPrivate ? 'input 1' : request.source.file.name });
	const read = await seal.read(signed, 'video/mp4');
	if (!['Valid', 'Trusted'].includes(read?.validation_state)) throw new Failure('signature', { state: read?.validation_state ?? 'none' });
	return { bytes: signed, codec, id: seal.idName(id), size: [width, height], root: rootPem(own), signer: own.name };
}

/** The frames of a given video, where there is one, and what was made after those that the model saw. */
function wholeVideo({ before, given }, made, handover) {
	if (!before?.length) return made;
	const coded = made[given.length - 1];
	return [...before, ...withErrorFaded(made.slice(given.length), coded, before.at(-1), handover)];
}

/** What a file's credential says, for the page that verifies. */
async function verified(file) {
	await seal.load(() => bytesOf('runtime/c2pa/c2pa_bg.wasm'));
	return seal.read(new Uint8Array(await file.arrayBuffer()), file.type || 'video/mp4');
}

const TASKS = {
	cancel() { cancelled = true; },
	async create({ request }) {
		cancelled = false;
		const made = await create(request);
		postMessage({ kind: 'made', ...made }, [made.bytes.buffer]);
	},
	async verify({ file }) {
		try {
			postMessage({ kind: 'verified', found: await verified(file) });
		} catch (error) {
			postMessage({ kind: 'unverified', ...saidOf(error) });
		}
	},
	/** For tests: the latent and the frames as they are, before marking, and where they were made; `webgpu` is options of `adopt`. */
	async latent({ request, webgpu: options }) {
		webgpu = options ?? webgpu;
		const engine = await engineOf();
		let latent;
		for await (latent of engine.steps(request));
		postMessage({ kind: 'latent', latent, frames: await engine.decode(latent), webgpu: engine.webgpu });
	},
};

self.onmessage = async ({ data }) => {
	try {
		await TASKS[data.kind](data);
	} catch (error) {
		const memory = error instanceof RangeError && /allocation|memory/i.test(error.message);
		const said = saidOf(error, memory ? 'memory' : 'unknown');
		postMessage(said.code === 'cancelled' ? { kind: 'cancelled' } : { kind: 'failed', ...said });
	}
};
