// One video, large: scrubber, details, where it came from and what came of it, its record, and every verb.

import './player.js';
import { post } from './api.js';
import { VERBS, form } from './form.js';
import { continueFrom, toComposer } from './gallery.js';
import { duration, moment, t } from './i18n.js';
import { evidenceList, kindOf, verdictLine } from './record.js';
import { isCalm, sourcesOf, store } from './store.js';
import { button, html, icon, inner, nothing, round, View, warning } from './view.js';

class Viewer extends View {
	static properties = { videoId: inner, report: inner, sure: inner, isSafe: inner };

	constructor() {
		super();
		this.videoId = null;
		addEventListener('sorano-open', (event) => this.show(event.detail.id, event.detail.withRecord));
	}

	async show(id, withRecord = false) {
		Object.assign(this, { videoId: id, report: null, sure: false, isSafe: null });
		await this.updateComplete;
		const dialog = this.querySelector('dialog');
		if (!dialog.open) dialog.showModal();
		dialog.scrollTop = 0;
		const record = this.querySelector('.record');
		record.open = false;
		const isSafe = await store.isSafe(id);
		if (this.videoId !== id) return;
		this.isSafe = isSafe;
		if (withRecord) {
			await this.updateComplete;
			record.open = true;
			record.querySelector('summary').focus();
			record.scrollIntoView({ block: 'nearest' });
		}
	}

	close() {
		this.querySelector('dialog').close();
	}

	async #read(event) {
		if (!event.target.open || this.report) return;
		const body = new FormData();
		const { videoId } = this;
		body.set('id', videoId);
		const report = await post('/v1/verify', body).catch((error) => (store.fail(error), null));
		if (this.videoId === videoId) this.report = report;
	}

	#use(verb, video) {
		this.close();
		form.use(video, verb);
		toComposer();
	}

	render() {
		const video = store.videos.get(this.videoId);
		return html`<dialog class="viewer" aria-label=${video?.prompt ?? t('details')} @close=${() => (this.videoId = null)} @click=${(event) => event.target.matches('dialog') && this.close()}>
			${video ? this.#inside(video) : nothing}</dialog>`;
	}

	#inside(video) {
		const sheet = video.spritesheet;
		return html`<div class="viewer-inside">
			${round(t('close'), 'close', () => this.close(), { kind: 'close' })}
			<div class="viewer-stage">
				${this.isSafe === null ? html`<div class="screen waiting shimmer"></div>` : html`<sorano-player .src=${this.url(video.id)} .poster=${this.url(video.id, 'thumbnail')} .fps=${video.fps} .starts=${this.isSafe && !isCalm()}
					.sheet=${sheet} .sheetUrl=${sheet ? this.url(video.id, 'spritesheet') : ''}></sorano-player>`}
				${this.isSafe === false ? warning(t('flash')) : nothing}
			</div>
			<div class="viewer-side">
				<h2>${video.prompt ?? video.id}</h2>
				<div class="verbs">
					${VERBS.map((verb) => button(t(`verb.${verb}`), () => this.#use(verb, video)))}
					${button(t('continue'), () => (this.close(), continueFrom(video)), 'next')}
					${button(t('reuse'), () => (this.close(), form.reuse(video).then(toComposer, (error) => store.fail(error))), 'again')}
					${button(t('compare'), () => (this.close(), dispatchEvent(new CustomEvent('sorano-compare', { detail: video.id }))), 'compare')}
				</div>
				${this.#details(video)}
				${this.#lineage(video)}
				<details class="record" @toggle=${this.#read}><summary><span class="seal ${video.verdict} ${kindOf(video.verdict)}"></span>${t('credentials')}</summary>
					${this.report ? html`${verdictLine(this.report)}${evidenceList(this.report)}<p class="dim">${t('credentials.note')}</p>` : html`<p class="dim">${t('credentials.read')}</p>`}
				</details>
				<div class="viewer-end">
					<a class="quiet" href=${this.url(video.id)} download="${video.id}.mp4">${icon('down')}${t('download')}</a>
					${this.sure ? button(t('delete.sure'), () => (this.close(), store.delete(video.id)), null, 'danger') : button(t('delete'), () => (this.sure = true), 'trash')}
				</div>
			</div>
		</div>`;
	}

	#details(video) {
		const row = (name, value) => (value == null || value === '' ? nothing : html`<div><dt>${t(name)}</dt><dd>${value}</dd></div>`);
		return html`<dl class="facts">
			${row('size', video.size.replace('x', '×'))}${row('frames', `${video.num_frames} · ${video.fps} fps · ${duration(Number(video.seconds))}`)}
			${row('seed', video.seed)}${row('made.with', video.model)}
			${row('made.in', video.measured && `${duration(video.measured.seconds)} · ${video.measured.device}`)}
			${row('native', video.native_size?.replace('x', '×'))}${row('made.at', video.completed_at && moment(video.completed_at))}
		</dl>`;
	}

	#lineage(video) {
		const from = [...new Set(sourcesOf(video))].map((id) => store.videos.get(id)).filter(Boolean);
		const to = store.childrenOf(video.id).filter((one) => one.status === 'completed');
		if (!from.length && !to.length) return nothing;
		const row = (name, videos) => videos.length ? html`<div class="lineage-row"><span class="label">${t(name)}</span>${videos.map(
			(one) => html`<button type="button" aria-label=${t('open', { prompt: one.prompt })} title=${one.prompt} @click=${() => this.show(one.id)}><img src=${this.url(one.id, 'thumbnail')} alt="" /></button>`)}</div>` : nothing;
		return html`<section class="lineage" aria-label=${t('lineage')}>${row('lineage.from', from)}${row('lineage.to', to)}</section>`;
	}
}

customElements.define('sorano-viewer', Viewer);
