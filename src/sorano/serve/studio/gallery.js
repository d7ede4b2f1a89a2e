// The finished videos: they play while one hovers over them or has them in focus, if they do not flash.

import { form, slotOf, slotOfFile } from './form.js';
import { duration, t } from './i18n.js';
import { surprise } from './prompt.js';
import { isCalm, store } from './store.js';
import { arrange, button, html, icon, inner, nothing, round, VIDEO_TYPE, View } from './view.js';

/** Makes the last frame of a video the first one of a new one. */
export async function continueFrom(video) {
	try {
		const { frameOf } = await import('./frames.js');
		const first = await slotOfFile(await frameOf(video.id, 1));
		form.set({ mode: 'new', prompt: video.prompt ?? '', size: video.size === store.model?.own ? '' : video.size, first, last: null, loop: false });
		store.note(t('continued'));
		toComposer();
	} catch (error) {
		store.fail(error);
	}
}

export function toComposer() {
	const composer = document.querySelector('sorano-composer');
	composer.scrollIntoView({ block: 'start', behavior: isCalm() ? 'auto' : 'smooth' });
	composer.prompt?.focusEnd();
}

export const open = (id, withRecord = false) => dispatchEvent(new CustomEvent('sorano-open', { detail: { id, withRecord } }));

class Card extends View {
	static properties = { value: { attribute: false }, plays: inner, sure: inner };

	constructor() {
		super();
		this.plays = false;
		this.sure = false;
	}

	get video() {
		return this.value;
	}

	async #start() {
		if (this.plays || this.video.status !== 'completed' || isCalm()) return;
		this.wants = true;
		if ((await store.isSafe(this.video.id)) && this.wants) this.plays = true;
	}

	/** Another card that is dropped here: the gap between both is filled. */
	dropped(_, other) {
		if (!other || other === this.video) return;
		form.use(this.video, 'blend');
		form.set({ second: slotOf(other) });
		toComposer();
	}

	#stop() {
		this.wants = this.plays = this.sure = false;
	}

	/** A drawing may replace the button that has the focus. */
	#out() {
		setTimeout(() => this.contains(document.activeElement) || this.#stop());
	}

	async #ask(isSure) {
		this.sure = isSure;
		await this.updateComplete;
		this.querySelector(isSure ? '.card-tools .danger' : '.card-tools :last-child')?.focus();
	}

	render() {
		const { video } = this;
		const prompt = video.prompt ?? video.id;
		if (video.status === 'failed') return this.#failed(prompt);
		const isUnsafe = store.knownSafe(video.id) === false;
		const [width, height] = video.size.split('x').map(Number);
		return html`<article class="card" draggable="true" @dragstart=${(event) => event.dataTransfer.setData(VIDEO_TYPE, video.id)}
			@dragover=${this.drag} @drop=${this.drag} @mouseenter=${() => this.#start()} @mouseleave=${this.#stop} @focusin=${() => this.#start()} @focusout=${this.#out}>
			<div class="card-frame"><button type="button" class="card-picture" aria-label=${isUnsafe ? `${t('flash')}: ${prompt}` : t('open', { prompt })} @click=${() => open(video.id)}
				.style=${`aspect-ratio:${width}/${height}`}>
				${video.variants[1] ? html`<img class=${isUnsafe ? 'blurred' : ''} src=${this.url(video.id, 'thumbnail')} alt="" loading="lazy" draggable="false" width=${width} height=${height} />` : html`<video src=${this.url(video.id)} preload="metadata" .muted=${true}></video>`}
				${this.plays ? html`<video src=${this.url(video.id)} .muted=${true} autoplay loop playsinline></video>` : nothing}
			</button>${isUnsafe ? html`<span class="flag">${icon('warn')}${t('flash')}</span>` : html`<span class="length">${duration(Number(video.seconds))}</span>`}</div>
			${video.verdict ? html`<button type="button" class="seal ${video.verdict}" title=${t('credentials')} aria-label=${t('credentials.of', { prompt })}
				@click=${() => open(video.id, true)}></button>` : nothing}
			<div class="card-text"><p title=${prompt}>${prompt}</p><small>${video.size.replace('x', '×')} · ${t('seed')} ${video.seed}</small></div>
			<div class="card-tools">${this.#tools(prompt)}</div>
		</article>`;
	}

	#tools(prompt) {
		const { video } = this;
		if (this.sure) {
			return html`<span class="sure">${t('delete.sure')}</span>
				${button(t('delete'), () => store.delete(video.id), null, 'danger')}${button(t('keep'), () => this.#ask(false))}`;
		}
		const tool = (name, picture, act) => round(t(name), picture, act, { of: prompt });
		return html`${tool('continue', 'next', () => continueFrom(video))}
			${tool('verb.extend', 'film', () => (form.use(video, 'extend'), toComposer()))}
			${tool('verb.remix', 'again', () => (form.use(video, 'remix'), toComposer()))}
			${tool('compare', 'compare', () => dispatchEvent(new CustomEvent('sorano-compare', { detail: video.id })))}
			<a class="round" title=${t('download')} aria-label="${t('download')}: ${prompt}" href=${this.url(video.id)} download="${video.id}.mp4">${icon('down')}</a>
			${tool('delete', 'trash', () => this.#ask(true))}`;
	}

	#failed(prompt) {
		const { video } = this;
		const isCancelled = video.error?.code === 'cancelled';
		return html`<article class="card broken">
			<div class="broken-picture"><b>${isCancelled ? t('cancelled') : html`${icon('warn')}${t('failed')}`}</b>${isCancelled ? nothing : html`<p>${video.error?.message}</p>`}</div>
			<div class="card-text"><p title=${prompt}>${prompt}</p><small>${video.error?.code}</small></div>
			<div class="card-tools">${button(t('again'), () => form.again(video).then(toComposer, (error) => store.fail(error)), 'again')}
				${round(t('delete'), 'trash', () => store.delete(video.id), { of: prompt })}</div>
		</article>`;
	}
}

class Gallery extends View {
	static properties = { query: inner };

	constructor() {
		super();
		this.query = '';
	}

	get #found() {
		const words = this.query.toLowerCase().split(/\s+/).filter(Boolean);
		return store.finished.filter((one) => {
			const text = `${one.prompt} ${one.seed} ${one.id} ${one.size} ${one.model}`.toLowerCase();
			return words.every((word) => text.includes(word));
		});
	}

	/** Runs of variations of one request, and single videos. */
	#groups(videos) {
		const groups = new Map();
		for (const one of videos) {
			const name = one.group_id ?? one.id;
			groups.set(name, [...(groups.get(name) ?? []), one]);
		}
		return [...groups.values()].map((found) => (found.length > 1 ? found.sort((one, other) => one.seed - other.seed) : found[0]));
	}

	render() {
		const found = this.#found;
		const isEmpty = store.isLoaded && !store.finished.length;
		if (isEmpty && store.active.length) return nothing;
		return html`<section class="gallery" aria-labelledby="gallery-title">
			<div class="gallery-head"><h2 id="gallery-title">${t('gallery')}${store.finished.length ? html`<span class="count">${store.finished.length}${store.hasMore ? '+' : ''}</span>` : nothing}</h2>
				${isEmpty || !store.isLoaded ? nothing : html`<input type="search" class="search" aria-label=${t('search')} placeholder=${t('search')} .value=${this.query} @input=${(event) => (this.query = event.target.value)} />`}</div>
			${store.isLoaded ? nothing : html`<div class="grid" aria-label=${t('loading')} role="img">${[0, 1, 2, 3].map(() => html`<div class="ghost shimmer"></div>`)}</div>`}
			${isEmpty ? this.#empty() : nothing}
			${this.query && !found.length ? html`<p class="dim none">${t('search.none', { query: this.query })}</p>` : nothing}
			<div class="grid cards"></div>
			${store.hasMore ? button(t('load.more'), () => store.loadMore().catch((error) => store.fail(error)), null, 'quiet more-button') : nothing}
		</section>`;
	}

	#empty() {
		const tries = store.words?.is_small ? [surprise(), surprise(), surprise()] : [];
		this.tries ??= tries.length ? tries : null;
		return html`<div class="empty">
			<div class="sky" aria-hidden="true"><i></i></div>
			<h3>${t('empty.title')}</h3><p class="dim">${t('empty.text')}</p>
			<div class="chips">${(this.tries ?? []).map((one) => button(one, () => (form.set({ mode: 'new', prompt: one }), toComposer()), null, 'chip big'))}</div>
		</div>`;
	}

	updated() {
		const place = this.querySelector('.cards');
		if (place) arrange(place, this.#groups(this.#found), (one) => one.id ?? `set ${one[0].group_id}`, (one) => (one.id ? 'sorano-card' : 'sorano-set'));
	}
}

class Variations extends View {
	static properties = { value: { attribute: false } };

	updated() {
		arrange(this.querySelector('.set-grid'), this.value, (one) => one.id, () => 'sorano-card');
	}

	render() {
		const videos = this.value;
		const done = videos.filter((one) => one.status === 'completed');
		return html`<div class="set" role="group" aria-label=${t('variations.of', { count: videos.length })}>
			<div class="set-head"><span>${t('variations.of', { count: videos.length })}</span>${done.length > 1 ? button(t('compare'), () => dispatchEvent(new CustomEvent('sorano-compare', { detail: `${done[0].id} ${done[1].id}` })), 'compare', 'text') : nothing}</div>
			<div class="set-grid"></div>
		</div>`;
	}
}

customElements.define('sorano-card', Card);
customElements.define('sorano-set', Variations);
customElements.define('sorano-gallery', Gallery);
