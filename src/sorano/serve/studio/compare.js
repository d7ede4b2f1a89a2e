// Two videos under one slider, in step.

import { t } from './i18n.js';
import { isCalm, store } from './store.js';
import { head, html, inner, nothing, round, select, View } from './view.js';

class Compare extends View {
	static properties = { left: inner, right: inner, share: inner, plays: inner };

	constructor() {
		super();
		Object.assign(this, { left: null, right: null, share: 50 });
		addEventListener('sorano-compare', (event) => this.#take(...event.detail.split(' ')));
	}

	async #take(one, other = null) {
		this.left = one;
		this.right = other ?? store.finished.find((video) => video.status === 'completed' && video.id !== one)?.id ?? null;
		if (!this.right) return store.note(t('compare.pick'));
		this.share = 50;
		await this.updateComplete;
		this.querySelector('dialog').showModal();
		const safe = await Promise.all([store.isSafe(this.left), store.isSafe(this.right)]);
		if (safe.every(Boolean) && !isCalm()) this.#play();
	}

	get #videos() {
		return [...this.querySelectorAll('video')];
	}

	#play() {
		for (const one of this.#videos) Object.assign(one, { currentTime: 0 }).play().catch(() => {});
	}

	#toggle() {
		const [one, other] = this.#videos;
		if (one.paused) this.#play();
		else [one, other].forEach((video) => video.pause());
	}

	#follow() {
		const [one, other] = this.#videos;
		if (other?.duration && Math.abs(other.currentTime - (one.currentTime % other.duration)) > 0.08) other.currentTime = one.currentTime % other.duration;
	}

	render() {
		const choices = store.finished.filter((one) => one.status === 'completed');
		const pick = (side) => select(t(`compare.${side}`), choices.map((one) => [one.id, `${one.prompt} · ${one.seed}`]), this[side], (id) => (this[side] = id));
		return html`<dialog class="compare" aria-label=${t('compare')} @close=${() => (this.left = this.right = null)} @click=${(event) => event.target.matches('dialog') && event.target.close()}>
			${this.left ? html`<div class="compare-inside">
				${head(t('compare'))}
				<div class="compare-stage" .style=${`--share:${this.share}%`}>
					<video src=${this.url(this.left)} .muted=${true} loop playsinline preload="auto" @timeupdate=${this.#follow} @play=${() => (this.plays = true)} @pause=${() => (this.plays = false)}></video>
					<video class="second" src=${this.url(this.right)} .muted=${true} loop playsinline preload="auto"></video>
					<i class="handle" aria-hidden="true"></i>
					<input type="range" min="0" max="100" .value=${String(this.share)} aria-label=${t('compare.slider')} @input=${(event) => (this.share = Number(event.target.value))} />
				</div>
				<div class="compare-end">${pick('left')}${round(t(this.plays ? 'pause' : 'play'), this.plays ? 'pause' : 'play', () => this.#toggle(), { kind: 'solid' })}${pick('right')}</div>
			</div>` : nothing}
		</dialog>`;
	}
}

customElements.define('sorano-compare', Compare);
