// What is being asked for: its fields, the body that they make, and that body as curl, Python and a command.

import { key, post, upload, get } from './api.js';
import { store } from './store.js';

const PLAN_MS = 350, WORKER_MS = 2000;
const BLANK = {
	mode: 'new', verb: 'extend', prompt: '', size: '', seconds: null, n: 1, seed: '', steps: '', guidance: '',
	negative: '', draft: false, private: false, loop: false, direction: 'forward', strength: 0.8, mask: null,
	first: null, last: null, video: null, second: null,
};
export const VERBS = ['extend', 'edit', 'region', 'loop', 'blend', 'remix'];
const OWN_PROMPT = ['edit', 'region', 'remix']; // verbs that need words

export const newShot = (words = {}) => ({ key: crypto.randomUUID(), prompt: '', seconds: 2, join: 'cut', file: null, ...words });

class Form extends EventTarget {
	constructor() {
		super();
		Object.assign(this, BLANK, { shots: [newShot(), newShot({ join: 'blend' })] });
		this.plan = null;
		this.problem = null;
		this.isPlanning = false;
		this.isSending = false;
		this.base = null; // of a remix: the request of its source
	}

	set(words) {
		Object.assign(this, words);
		if ('video' in words || 'second' in words) this.mask = null;
		this.dispatchEvent(new Event('change'));
		this.#schedule();
	}

	setShot(index, words) {
		this.set({ shots: this.shots.map((one, at) => (at === index ? { ...one, ...words } : one)) });
	}

	moveShot(from, to) {
		if (to < 0 || to >= this.shots.length) return;
		const shots = [...this.shots];
		shots.splice(to, 0, ...shots.splice(from, 1));
		this.set({ shots });
	}

	get needsPrompt() {
		return this.mode === 'new' || (this.mode === 'change' && OWN_PROMPT.includes(this.verb));
	}

	get isComplete() {
		if (this.mode === 'board') return this.shots.every((one) => one.prompt.trim() || one.file);
		if (this.mode === 'new') return !!this.prompt.trim();
		const prompt = this.prompt.trim() || (!this.needsPrompt && this.video?.prompt);
		if (!this.video || !prompt) return false;
		if (this.verb === 'blend') return !!this.second;
		return this.verb !== 'region' || !!this.mask;
	}

	/** The address and the body of the request. */
	request() {
		const body = { ...this.#settings(), ...this.#content() };
		if (this.mode === 'change' && this.verb === 'remix') {
			const { model, size, n, seed } = body;
			return ['/v1/videos/' + this.video.id + '/remix', clean({ prompt: this.prompt.trim(), model, size, n, seed })];
		}
		return ['/v1/videos', clean(body)];
	}

	#settings() {
		const isOther = store.model && store.model !== store.models[0];
		const hasSize = this.mode !== 'change' || this.verb === 'remix';
		return {
			model: isOther ? store.model.id : null,
			size: (hasSize && this.size) || null,
			seconds: this.mode === 'board' ? null : this.seconds,
			seed: this.seed > 2 ** 53 ? this.seed : this.seed ? Number(this.seed) : null,
			n: this.n > 1 ? this.n : null,
			num_steps: this.steps ? Number(this.steps) : null,
			guidance: this.guidance ? Number(this.guidance) : null,
			negative_prompt: this.negative.trim() || null,
			draft: this.draft || null,
			private: this.private || null,
		};
	}

	#content() {
		const prompt = this.prompt.trim();
		if (this.mode === 'board') {
			const shots = this.shots.map((one, index) =>
				clean({
					prompt: one.prompt.trim() || null,
					seconds: one.file?.type === 'video' ? null : one.seconds,
					join: index ? one.join : null,
					[one.file?.type === 'video' ? 'video' : 'image']: one.file && nameOf(one.file),
				}),
			);
			return { storyboard: shots };
		}
		if (this.mode === 'new') {
			return {
				prompt,
				input_reference: this.first && { file_id: this.first.id },
				last_frame: this.last && { file_id: this.last.id },
				conditions: this.loop ? [{ kind: 'loop' }] : null,
			};
		}
		return { prompt: prompt || this.video?.prompt || '', ...this.#change() };
	}

	#change() {
		const video = this.video && nameOf(this.video);
		const made = {
			extend: { kind: 'continue', video, direction: this.direction },
			edit: { kind: 'edit', video, strength: this.strength },
			region: { kind: 'region', video, mask: this.mask?.id },
			loop: { kind: 'loop', video },
			blend: { kind: 'blend', first: video, second: this.second && nameOf(this.second) },
		}[this.verb];
		const isLong = this.verb === 'extend' || this.verb === 'blend';
		return { conditions: made ? [made] : null, ...(isLong ? {} : { seconds: null }) };
	}

	#schedule() {
		clearTimeout(this.timer);
		this.aborting?.abort();
		this.isPlanning = this.isComplete;
		if (!this.isComplete) this.plan = this.problem = null;
		else this.timer = setTimeout(() => this.#ask(), PLAN_MS);
	}

	async #ask() {
		const aborting = (this.aborting = new AbortController());
		try {
			let body = this.request()[1];
			if (this.mode === 'change' && this.verb === 'remix') {
				if (this.base?.id !== this.video.id) this.base = await get(`/v1/studio/videos/${this.video.id}/request`);
				body = { ...this.base.body, ...body };
			}
			this.plan = await post('/v1/plan', body, aborting.signal);
			this.problem = null;
			if (!this.plan.planned) this.timer = setTimeout(() => this.#ask(), WORKER_MS); // no worker has said what it is
		} catch (error) {
			if (error.name === 'AbortError') return;
			this.plan = null;
			this.problem = error;
		}
		this.isPlanning = false;
		this.dispatchEvent(new Event('change'));
	}

	async send() {
		this.isSending = true;
		this.dispatchEvent(new Event('change'));
		try {
			const [path, body] = this.request();
			const video = await post(path, body);
			store.put(video);
			await store.refresh().catch(() => {});
			return video.variations ?? [video.id];
		} catch (error) {
			this.problem = error;
			throw error;
		} finally {
			this.isSending = false;
			this.dispatchEvent(new Event('change'));
		}
	}

	/** A finished video as what a verb starts from. */
	async use(video, verb) {
		this.set({ mode: 'change', verb, video: slotOf(video), prompt: OWN_PROMPT.includes(verb) ? '' : this.prompt, seconds: null });
	}

	/** A request that failed once more: as it was where it has files, else to be changed first. */
	async again(video) {
		const { body } = await get(`/v1/studio/videos/${video.id}/request`);
		if (!/"(file|video)_/.test(JSON.stringify(body))) return this.reuse(video);
		store.put(await post('/v1/videos', body));
	}

	/** The settings of a video for a new one. */
	async reuse(video) {
		const { body } = await get(`/v1/studio/videos/${video.id}/request`);
		await store.choose(body.model);
		const text = (value) => (value == null ? '' : String(value));
		const common = {
			size: text(body.size), seconds: body.seconds ?? null, seed: text(body.seed), steps: text(body.num_steps),
			guidance: text(body.guidance), negative: text(body.negative_prompt), draft: !!body.draft, private: !!body.private, n: 1,
		};
		if (body.storyboard?.length) {
			const shots = body.storyboard.map((one) => newShot({ prompt: one.prompt ?? '', seconds: one.seconds ?? 2, join: one.join ?? 'cut' }));
			this.set({ ...common, mode: 'board', shots });
		} else {
			this.set({ ...common, mode: 'new', prompt: body.prompt ?? '', first: null, last: null, loop: false });
		}
	}

	copies() {
		const [path, body] = this.request();
		return { curl: curl(path, body), Python: python(path, body), CLI: this.#command(body) };
	}

	#command(body) {
		const flags = [];
		const flag = (name, value) => value != null && value !== false && flags.push(value === true ? name : `${name} ${quoted(value)}`);
		const file = (slot) => slot && quoted(slot.kind === 'video' ? `${slot.id}.mp4` : slot.name);
		flag('--preset', body.model);
		flag('--size', body.size);
		flag('--seconds', body.seconds);
		flag('--seed', body.seed);
		flag('-n', body.n);
		flag('--num-steps', body.num_steps);
		flag('--guidance', body.guidance);
		flag('--negative-prompt', body.negative_prompt);
		flag('--draft', body.draft);
		flag('--private', body.private);
		const words = this.prompt.trim() ? [quoted(this.prompt.trim())] : [];
		let command = ['generate', ...words];
		if (this.mode === 'board') command = ['film', 'board.toml'];
		else if (this.mode === 'change') {
			command = [this.verb === 'region' ? 'edit' : this.verb, file(this.video), ...(this.verb === 'blend' ? [file(this.second)] : []), ...words];
			if (this.verb === 'extend' && this.direction === 'backward') flags.push('--backward');
			if (this.verb === 'edit') flag('--strength', this.strength);
			if (this.verb === 'region') flags.push('--mask mask.png');
		} else {
			if (this.first) flags.push(`--image ${file(this.first)}`);
			if (this.last) flags.push(`--last ${file(this.last)}`);
			if (this.loop) flags.push('--loop');
		}
		return ['sorano', ...command, ...flags, '-o', 'video.mp4'].join(' ');
	}
}

const clean = (body) => Object.fromEntries(Object.entries(body).filter(([, value]) => value != null));
const nameOf = (slot) => slot.id;
const quoted = (value) => (/^[\w./:-]+$/.test(String(value)) ? String(value) : `'${String(value).replaceAll("'", "'\\''")}'`);

function curl(path, body) {
	const auth = key() ? ' -H "Authorization: Bearer $SORANO_KEY"' : '';
	return `curl ${location.origin}${path}${auth} \\\n  -H 'Content-Type: application/json' \\\n  -d ${quoted(JSON.stringify(body))}`;
}

function literal(value) {
	if (value === true) return 'True';
	if (value === false) return 'False';
	if (Array.isArray(value)) return `[${value.map(literal).join(', ')}]`;
	if (value && typeof value === 'object') return `{${Object.entries(value).map(([name, one]) => `"${name}": ${literal(one)}`).join(', ')}}`;
	return JSON.stringify(value);
}

function python(path, body) {
	const head = `from openai import OpenAI\n\nclient = OpenAI(base_url="${location.origin}/v1", api_key="${key() ? '...' : 'local'}")\n`;
	const tail = '\nclient.videos.download_content(video.id).write_to_file("video.mp4")\n';
	const { prompt = '', size, seconds, model, ...rest } = body;
	if (path.endsWith('/remix')) {
		const more = clean({ size, model, ...rest });
		const extra = Object.keys(more).length ? `, extra_body=${literal(more)}` : '';
		return `${head}video = client.videos.remix("${path.split('/')[3]}", prompt=${literal(prompt)}${extra})\nvideo = client.videos.poll(video.id)${tail}`;
	}
	const words = clean({ prompt, model, size, seconds: seconds == null ? null : String(seconds) });
	const given = Object.entries(words).map(([name, one]) => `    ${name}=${literal(one)},\n`);
	if (Object.keys(rest).length) {
		given.push(`    extra_body=${literal(rest)},\n`);
		given.push('    extra_headers={"Content-Type": "application/json"},\n');
	}
	return `${head}video = client.videos.create_and_poll(\n${given.join('')})${tail}`;
}

/** A video of the server as what a verb starts from. */
export const slotOf = (video) => ({
	kind: 'video', type: 'video', id: video.id, name: video.prompt ?? video.id, prompt: video.prompt, size: video.size, seconds: Number(video.seconds),
});

/** A file of the user's, sent to the server. */
export async function slotOfFile(file) {
	const row = await upload(file);
	return {
		kind: 'file', type: row.kind, id: row.id, name: file.name || 'picture.png', url: URL.createObjectURL(file),
		size: `${row.width}x${row.height}`, seconds: row.seconds,
	};
}

export const form = new Form();
