// A place for a picture or a video: a file is chosen or dropped, a card is dropped, what is there is shown.

import { slotOf, slotOfFile } from './form.js';
import { t } from './i18n.js';
import { store } from './store.js';
import { html, icon, inner, nothing, round, View } from './view.js';

class Slot extends View {
	static properties = { value: { attribute: false }, label: {}, takes: {}, of: {}, busy: inner, over: inner };

	constructor() {
		super();
		Object.assign(this, { value: null, label: '', of: '', takes: 'picture', busy: false, over: false });
	}

	#give(value) {
		this.dispatchEvent(new CustomEvent('slot', { detail: value }));
	}

	async take(file) {
		this.busy = true;
		try {
			const slot = await slotOfFile(file);
			if (this.takes === 'picture' && slot.type === 'video') throw new Error(t('slot.picture'));
			if (this.takes === 'video' && slot.type !== 'video') throw new Error(t('slot.video'));
			this.#give(slot);
		} catch (error) {
			store.fail(error);
		} finally {
			this.busy = false;
		}
	}

	async dropped(file, video) {
		if (file) await this.take(file);
		else if (video && this.takes !== 'picture') this.#give(slotOf(video));
		else if (video) {
			const { frameOf } = await import('./frames.js');
			this.take(await frameOf(video.id, 1).catch((error) => store.fail(error)));
		}
	}

	render() {
		const accept = { picture: 'image/*', video: 'video/*,image/gif', both: 'image/*,video/*' }[this.takes];
		const hint = t(this.takes === 'picture' ? 'slot.picture' : this.takes === 'video' ? 'slot.video' : 'slot.both');
		return html`<div class="slot ${this.value ? 'full' : ''} ${this.over ? 'over' : ''}" @dragover=${this.drag} @dragleave=${this.drag} @drop=${this.drag}>
			<label>
				<input type="file" class="hidden" accept=${accept} aria-label=${this.of ? `${this.of}: ${this.label}` : this.label}
					@change=${(event) => (event.target.files[0] && this.take(event.target.files[0]), (event.target.value = ''))} />
				${this.value ? this.#shown() : html`${icon(this.takes === 'video' ? 'film' : 'picture')}`}
				<span class="slot-text"><b>${this.label}</b><small>${this.busy ? t('slot.busy') : this.value ? this.value.name : hint}</small></span>
			</label>
			${this.value ? round(t('slot.clear', { name: `${this.of} ${this.label}`.trim() }), 'close', () => this.#give(null)) : nothing}
		</div>`;
	}

	#shown() {
		const { kind, type, id, url } = this.value;
		if (kind === 'video') return html`<img src=${this.url(id, 'thumbnail')} alt="" />`;
		return type === 'video' ? html`<video src=${url} muted playsinline preload="metadata"></video>` : html`<img src=${url} alt="" />`;
	}
}

customElements.define('sorano-slot', Slot);
