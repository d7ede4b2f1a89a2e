// What the page knows: the videos, the models, what it is told while videos are made.

import { ApiError, events, get, post, remove } from './api.js';
import { t } from './i18n.js';

const MOST_LISTENERS = 3; // browsers open six connections to a server, and pictures need some
const POLL_MS = 2000;
const PAGE = 60;

class Store extends EventTarget {
	videos = new Map(); // by id, newest first
	hasMore = false;
	isLoaded = false;
	isLost = false;
	models = [];
	model = null;
	words = null; // of the model
	live = ''; // what a screen reader is told
	toast = null;
	#listening = new Map();
	#flashes = new Map();
	#said = new Map();

	change() {
		this.dispatchEvent(new Event('change'));
	}

	get list() {
		return [...this.videos.values()];
	}

	get active() {
		const found = this.list.filter((one) => one.status === 'queued' || one.status === 'in_progress');
		const rank = (one) => (one.status === 'in_progress' ? -1 : one.queue_position ?? 1e6);
		return found.sort((one, other) => rank(one) - rank(other) || one.created_at - other.created_at);
	}

	get finished() {
		return this.list.filter((one) => one.status === 'completed' || one.status === 'failed');
	}

	async start() {
		await Promise.all([this.#loadModels(), this.refresh()]).catch((error) => this.fail(error));
		const look = async () => {
			if (!document.hidden && (this.active.length || this.isLost || !this.isLoaded || this.list.some(isFresh))) await this.refresh().catch(() => {});
			setTimeout(look, POLL_MS);
		};
		setTimeout(look, POLL_MS);
		document.addEventListener('visibilitychange', () => document.hidden || this.refresh().catch(() => {}));
	}

	async #loadModels() {
		this.models = (await get('/v1/models')).data;
		await this.choose(this.models[0]?.id);
	}

	async choose(id) {
		this.model = this.models.find((one) => one.id === id) ?? this.models[0] ?? null;
		this.words = await get(`/v1/studio/words?model=${encodeURIComponent(this.model?.id ?? '')}`);
		this.change();
		const plan = await post('/v1/plan', { prompt: 'a red ball', model: this.model?.id }).catch(() => null);
		if (plan) this.model.own = plan.size; // of what it makes unless told
	}

	async refresh() {
		let page;
		try {
			page = await get(`/v1/videos?limit=${PAGE}`);
		} catch (error) {
			if (error.code === 'offline' || error.status >= 500) this.#lose(true);
			throw error;
		}
		this.#lose(false);
		const older = this.list.slice(page.data.length ? this.list.findIndex((one) => one.id === page.last_id) + 1 : 0);
		const rest = page.has_more ? older.filter((one) => !page.data.some((other) => other.id === one.id)) : [];
		if (!this.isLoaded || !rest.length) this.hasMore = page.has_more;
		for (const one of page.data) this.#tell(one);
		this.videos = new Map([...page.data, ...rest].map((one) => [one.id, one]));
		this.isLoaded = true;
		this.#listen();
		this.change();
	}

	async loadMore() {
		const page = await get(`/v1/videos?limit=${PAGE}&after=${this.list.at(-1).id}`);
		for (const one of page.data) this.videos.set(one.id, one);
		this.hasMore = page.has_more;
		this.change();
	}

	put(video) {
		this.#tell(video);
		if (this.videos.has(video.id)) this.videos.set(video.id, video);
		else this.videos = new Map([[video.id, video], ...this.videos]);
		this.change();
	}

	childrenOf(id) {
		return this.list.filter((one) => sourcesOf(one).includes(id));
	}

	#lose(isLost) {
		if (this.isLost === isLost) return;
		this.isLost = isLost;
		this.say(t(isLost ? 'lost' : 'back'));
		this.change();
	}

	/** Listens to what is made now and to what comes next. */
	#listen() {
		const wanted = this.active.slice(0, MOST_LISTENERS).map((one) => one.id);
		for (const [id, aborting] of this.#listening) {
			if (!wanted.includes(id)) {
				aborting.abort();
				this.#listening.delete(id);
			}
		}
		for (const id of wanted) if (!this.#listening.has(id)) this.#follow(id);
	}

	async #follow(id) {
		const aborting = new AbortController();
		this.#listening.set(id, aborting);
		try {
			for await (const [kind, video] of events(id, aborting.signal)) {
				if (kind === 'video.deleted') this.videos.delete(id);
				else if (this.videos.has(id)) this.put(video);
			}
		} catch (error) {
			if (error.name !== 'AbortError') await new Promise((done) => setTimeout(done, 1000));
		} finally {
			if (this.#listening.get(id) === aborting) this.#listening.delete(id);
		}
		if (!aborting.signal.aborted) this.refresh().catch(() => {});
	}

	/** Tells screen readers of a step, at most every tenth of the way. */
	#tell(video) {
		const before = this.videos.get(video.id);
		const tenth = Math.floor(video.progress / 10);
		if (!before && video.status !== 'queued') return;
		const now = `${video.status} ${tenth}`;
		if (this.#said.get(video.id) === now) return;
		this.#said.set(video.id, now);
		const prompt = video.prompt ?? '';
		if (video.status === 'completed' && before?.status !== 'completed') this.say(t('said.done', { prompt }));
		else if (video.status === 'failed' && before?.status !== 'failed') this.say(t('said.failed', { why: video.error?.message }));
		else if (video.status === 'in_progress') this.say(t('said.progress', { percent: tenth * 10, prompt }));
	}

	say(text) {
		this.live = text;
		this.change();
	}

	note(text, kind = 'info') {
		this.toast = { text, kind };
		clearTimeout(this.timer);
		this.timer = setTimeout(() => ((this.toast = null), this.change()), kind === 'error' ? 9000 : 4000);
		this.change();
	}

	fail(error) {
		if (error.name === 'AbortError' || error.status === 401) return;
		this.note(error instanceof ApiError && error.code === 'offline' ? t('lost') : error.message, 'error');
	}

	async #act(promise) {
		try {
			const video = await promise;
			if (video?.object === 'video') this.put(video);
		} catch (error) {
			this.fail(error);
			return false;
		}
		await this.refresh().catch((error) => this.fail(error));
		return true;
	}

	cancel = (id) => this.#act(post(`/v1/videos/${id}/cancel`));
	pause = (id) => this.#act(post(`/v1/videos/${id}/pause`));
	resume = (id) => this.#act(post(`/v1/videos/${id}/resume`));
	move = (id, to) => this.#act(post(`/v1/videos/${id}/move?to=${to}`));

	async delete(id) {
		const kept = this.videos;
		this.videos = new Map([...kept].filter(([one]) => one !== id));
		this.change();
		if (await this.#act(remove(`/v1/videos/${id}`))) return this.say(t('deleted'));
		this.videos = kept;
		this.change();
	}

	/** Whether a video may start by itself: it flashes at most three times in a second. */
	async isSafe(id) {
		if (!this.#flashes.has(id)) {
			const found = get(`/v1/studio/videos/${id}/flashes`).then((one) => one.is_safe, () => false);
			this.#flashes.set(id, found);
			this.#flashes.set(`${id} known`, await found);
			this.change();
		}
		return this.#flashes.get(id);
	}

	/** The same, if it is known already; else undefined. */
	knownSafe(id) {
		return this.#flashes.get(`${id} known`);
	}
}

const isFresh = (video) => video.status === 'completed' && !video.variants[2] && Date.now() / 1000 - video.completed_at < 60;

/** The ids of the videos that one was made from. */
export const sourcesOf = (video) => [video.remixed_from_video_id, ...video.made_from].filter(Boolean);

export const store = new Store();
export const isCalm = () => matchMedia('(prefers-reduced-motion: reduce)').matches;
