// The path in the tab: words -> text -> noise -> steps -> frames. The twin of src/sorano/export/run.py.

import { Failure, bytesOf, jsonOf } from './files.js';
import { fromPatches, numTokens, rotaryTable, toPatches } from './latents.js';
import { framesOf } from './pictures.js';
import { normal } from './random.js';
import { TIMESTEPS, schedule, solve } from './sampler.js';
import { Tokenizer } from './tokenizer.js';

const BEYOND = -1e9; // added to the attention scores of what is not attended to (`sorano.export.networks`)

/** A model's graphs in ONNX Runtime. */
export class Engine {
	/** `ort` is the module onnxruntime-web. Throws a Failure for files that are not as they were exported. */
	static async load(ort, say = () => {}) {
		const engine = new Engine();
		Object.assign(engine, { ort, card: await jsonOf('model/model.json'), sessions: {}, webgpu: { on: [], reason: null } });
		engine.tokenizer = new Tokenizer(await jsonOf('model/tokenizer.json'));
		engine.rope = rotaryTable(engine.card.shapes);
		const names = ['text_encoder', 'transformer', 'decoder'];
		for (const [at, name] of names.entries()) {
			say(at, names.length);
			engine.sessions[name] = await engine.create(name);
		}
		say(names.length, names.length);
		return engine;
	}

	/** A network in a runtime, by one of its providers: {provider, run, release}, `run` from named inputs to the result's numbers. */
	async create(name, ort = this.ort, provider = 'wasm') {
		const session = await ort.InferenceSession.create(await bytesOf(`model/${name}.onnx`), {
			executionProviders: [provider], graphOptimizationLevel: 'all', enableCpuMemArena: false,
		});
		return {
			provider,
			async run(inputs) {
				const own = Object.entries(inputs).map(([key, { type, data, dims }]) => [key, new ort.Tensor(type, data, dims)]);
				return (await session.run(Object.fromEntries(own)))[session.outputNames[0]].data;
			},
			release: () => session.release(),
		};
	}

	/** The result of a network. One that fails on WebGPU, as when its device is lost, runs in WebAssembly from then on. */
	async run(name, inputs) {
		const session = (this.sessions[name] ??= await this.create(name));
		try {
			return await session.run(inputs);
		} catch (error) {
			if (session.provider === 'wasm') throw error;
			this.webgpu = { on: this.webgpu.on.filter((one) => one !== name), reason: 'failed' };
			await this.replace(name, await this.create(name));
			return this.run(name, inputs);
		}
	}

	/** Puts another session in the place of a network's. */
	async replace(name, session) {
		const before = this.sessions[name];
		this.sessions[name] = session;
		await before.release().catch(() => {}); // of a lost device
	}

	/** Inputs of a network that are alike everywhere, to compare runtimes with: numbers of seed 0, halfway through the steps. */
	async sample(name) {
		const { shapes } = this.card, half = shapes.head_dim / 2, tokens = numTokens(shapes);
		const noise = normal(shapes.latent_CTHW.reduce((product, one) => product * one, 1), 0);
		if (name === 'decoder') return { latent: this.#floats(noise, 1, ...shapes.latent_CTHW) };
		const patches = toPatches(noise, shapes);
		return {
			...(await this.encodeText('')), patches: this.#floats(patches, tokens, patches.length / tokens), timestep: this.#floats(Float32Array.of(500, 0), 2),
			known: this.#floats(new Float32Array(tokens), tokens), rope_cos: this.#floats(this.rope.cos, tokens, half),
			rope_sin: this.#floats(this.rope.sin, tokens, half),
		};
	}

	#floats(data, ...dims) {
		return new this.ort.Tensor('float32', data, dims);
	}

	/** {text, bias} of a prompt. Throws a Failure for one longer than the graph reads. */
	async encodeText(prompt) {
		const ids = this.tokenizer.encode(prompt), size = this.card.shapes.text_tokens, count = ids.length;
		if (count >= size) throw new Failure('long', { count, most: size - 1 });
		const padded = BigInt64Array.from({ length: size }, (_, at) => BigInt(ids[at] ?? 0));
		const real = Float32Array.from({ length: size }, (_, at) => (at < count ? 1 : 0));
		const text = await this.run('text_encoder', { ids: new this.ort.Tensor('int64', padded, [size]), real: this.#floats(real, size) });
		const bias = real.map((one) => (one ? 0 : BEYOND));
		bias[count] = Math.log(this.card.text_positions - count); // the pad key stands for all padded positions
		return { text: this.#floats(text, size, text.length / size), bias: this.#floats(bias, size) };
	}

	/** {latents, values} of the 1 + 4k frames (4: `temporal` of the shapes), RGB bytes of the model's size, that a clip begins with. */
	async encodeGiven(given) {
		const { num_frames: count, height, width, temporal, latent_CTHW: [channels, frames, rows, columns] } = this.card.shapes;
		const plane = height * width, video = new Float32Array(3 * count * plane);
		for (let channel = 0; channel < 3; channel++) for (let frame = 0; frame < count; frame++) {
			const picture = given[Math.min(frame, given.length - 1)]; // causal: what comes later does not matter
			for (let at = 0; at < plane; at++) video[(channel * count + frame) * plane + at] = picture[3 * at + channel] / 127.5 - 1;
		}
		const latent = await this.run('encoder', { video: this.#floats(video, 1, 3, count, height, width) });
		const latents = 1 + Math.floor((given.length - 1) / temporal), size = latents * rows * columns, values = new Float32Array(channels * size);
		for (let channel = 0; channel < channels; channel++) {
			const start = channel * frames * rows * columns;
			values.set(latent.subarray(start, start + size), channel * size);
		}
		return { latents, values };
	}

	/** Denoises: yields the latent (C, T, H, W in a row) after each step. */
	async *steps({ prompt, negativePrompt = '', seed, numSteps, guidance, given = null }) {
		const { card, rope } = this, { shapes } = card;
		const plan = schedule(card.solver, numSteps, card.shift);
		const texts = [await this.encodeText(prompt)];
		if (guidance > 1) texts.push(await this.encodeText(negativePrompt));
		const known = given && (await this.encodeGiven(given));
		const tokens = numTokens(shapes), half = shapes.head_dim / 2;
		const isKnown = new Float32Array(tokens);
		if (known) isKnown.fill(1, 0, (known.latents * tokens) / (shapes.latent_CTHW[1] / shapes.patch_size[0]));
		const common = { known: this.#floats(isKnown, tokens), rope_cos: this.#floats(rope.cos, tokens, half), rope_sin: this.#floats(rope.sin, tokens, half) };
		const velocity = async (x, sigma, index) => {
			const latent = toPatches(withKnown(x, known, shapes), shapes);
			const inputs = { ...common, patches: this.#floats(latent, tokens, latent.length / tokens) };
			inputs.timestep = this.#floats(Float32Array.of(plan.timesteps[index] ?? sigma * TIMESTEPS, 0), 2);
			const made = [];
			for (const one of texts) made.push(await this.run('transformer', { ...inputs, ...one }));
			const [withPrompt, without] = made;
			return fromPatches(without ? withPrompt.map((value, at) => without[at] + guidance * (value - without[at])) : withPrompt, shapes);
		};
		const noise = normal(shapes.latent_CTHW.reduce((product, one) => product * one, 1), seed);
		for await (const x of solve(card.solver, velocity, noise, plan.sigmas)) {
			if (!x.every(Number.isFinite)) throw new Failure('numbers');
			yield withKnown(x, known, shapes);
		}
	}

	/** The frames of a latent, RGB bytes. */
	async decode(latent) {
		const { shapes } = this.card;
		const video = await this.run('decoder', { latent: this.#floats(latent, 1, ...shapes.latent_CTHW) });
		return framesOf(video, shapes.num_frames, shapes.height, shapes.width);
	}
}

/** The latent with its known latent frames, the first ones, in place. */
function withKnown(x, known, { latent_CTHW: [channels, frames, rows, columns] }) {
	if (!known) return x;
	const plane = rows * columns, size = known.latents * plane, out = x.slice();
	for (let channel = 0; channel < channels; channel++) out.set(known.values.subarray(channel * size, channel * size + size), channel * frames * plane);
	return out;
}
