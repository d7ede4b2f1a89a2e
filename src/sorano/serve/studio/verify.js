// Where a file came from: the verdict, the evidence, and a map of what was changed while it plays.

import './player.js';
import { contentBlob, post } from './api.js';
import { t } from './i18n.js';
import { evidenceList, verdictLine } from './record.js';
import { store } from './store.js';
import { check, html, icon, inner, nothing, View, warning } from './view.js';

class Verify extends View {
	static properties = { file: inner, report: inner, busy: inner, problem: inner, over: inner, shows: inner };

	constructor() {
		super();
		Object.assign(this, { file: null, report: null, busy: false, problem: null, over: false, shows: true });
	}

	async look(file) {
		Object.assign(this, { file: { name: file.name, type: file.type, url: URL.createObjectURL(file) }, report: null, problem: null, busy: true });
		const form = new FormData();
		form.set('map', 'true');
		form.set('file', file, file.name);
		const { file: mine } = this;
		const report = await post('/v1/verify', form).catch((error) => error);
		if (this.file !== mine) return; // the verdict of an earlier file
		this.busy = false;
		if (report instanceof Error) return (this.problem = report);
		this.report = report;
		store.say(`${t(`verdict.${report.verdict}`)}: ${report.summary}`);
	}

	async dropped(file, video) {
		this.look(file ?? new File([await contentBlob(video.id)], `${video.id}.mp4`, { type: 'video/mp4' }));
	}

	/** The map as bytes, 0 (as it was) to 255 (changed). */
	get #map() {
		const map = this.report?.map;
		if (!map || map.bytes) return map;
		map.bytes = Uint8Array.from(atob(map.data), (one) => one.charCodeAt(0));
		return map;
	}

	#draw = (media, time = 0) => {
		const canvas = this.querySelector('.over-video');
		if (!canvas || !this.report) return;
		const width = (canvas.width = media.videoWidth || media.naturalWidth || 1);
		const height = (canvas.height = media.videoHeight || media.naturalHeight || 1);
		if (!this.shows) return;
		const layer = canvas.getContext('2d');
		const map = this.#map;
		const slot = map?.starts.findLastIndex((start) => start <= time + 1e-3) ?? -1;
		if (slot >= 0) layer.drawImage(heat(map, slot), 0, 0, width, height);
		Object.assign(layer, { strokeStyle: '#ff5a1e', fillStyle: '#ff5a1e55', lineWidth: Math.max(2, width / 150) });
		for (const { box, start_s: start, end_s: end } of this.report.regions) {
			if (time < start - 0.1 || time > end + 0.1) continue;
			const place = [box[0] * width, box[1] * height, (box[2] - box[0]) * width, (box[3] - box[1]) * height];
			layer.fillRect(...place);
			layer.strokeRect(...place);
		}
	};

	updated() {
		const media = this.querySelector('video, img.seen');
		if (media) this.#draw(media, media.currentTime ?? 0);
	}

	#choose() {
		return html`<label class="primary file"><input type="file" class="hidden" accept="video/*,image/*" @change=${(event) => event.target.files[0] && this.look(event.target.files[0])} />${icon('upload')}${t(this.file ? 'verify.another' : 'verify.choose')}</label>`;
	}

	render() {
		return html`<section class="verify ${this.over ? 'over' : ''}" aria-labelledby="verify-title" @dragover=${this.drag} @dragleave=${this.drag} @drop=${this.drag}>
			<h1 id="verify-title">${t('verify.title')}</h1><p class="dim lead">${t('verify.text')}</p>
			${this.file ? this.#result() : html`<div class="drop">${icon('seal')}<p>${t('verify.drop')}</p>${this.#choose()}</div>`}
		</section>`;
	}

	#result() {
		const isPicture = this.file.type.startsWith('image/') && this.file.type !== 'image/gif';
		const { report } = this;
		return html`<div class="result">
			<div class="result-stage">
				${isPicture ? html`<div class="screen"><img class="seen" src=${this.file.url} alt="" /><canvas class="over-video" aria-hidden="true"></canvas></div>`
					: html`<sorano-player .src=${this.file.url} .fps=${report?.media?.fps || 24} .starts=${false} .onFrame=${this.#draw}></sorano-player>`}
				${report?.map || report?.regions.length ? check(html`${t('verify.map')}<span class="key" aria-hidden="true"></span><small class="dim">${t('verify.changed')}</small>`, this.shows, (shows) => (this.shows = shows))
					: report ? html`<p class="dim">${t('verify.map.none')}</p>` : nothing}
			</div>
			<div class="result-side" role="status">
				<p class="dim file-name">${this.file.name}</p>
				${this.busy ? html`<div class="busy"><div class="bar endless"><i></i></div><p class="dim">${t('verify.busy', { name: this.file.name })}</p></div>` : nothing}
				${this.problem ? warning(this.problem.message || t('lost'), 'bad') : nothing}
				${report ? html`${verdictLine(report)}<h2>${t('verify.evidence')}</h2>${evidenceList(report)}` : nothing}
				${this.busy ? nothing : this.#choose()}
			</div>
		</div>`;
	}
}

/** A slot of the map as a picture: the warmer, the less of the mark is left. */
function heat({ shape, bytes }, slot) {
	const [, rows, columns] = shape;
	const canvas = Object.assign(document.createElement('canvas'), { width: columns, height: rows });
	const layer = canvas.getContext('2d');
	const picture = layer.createImageData(columns, rows);
	for (let at = 0; at < rows * columns; at += 1) {
		const value = bytes[slot * rows * columns + at];
		picture.data.set([255, 140 - value / 3, 30, value * 0.75], at * 4);
	}
	layer.putImageData(picture, 0, 0);
	return canvas;
}

customElements.define('sorano-verify', Verify);
