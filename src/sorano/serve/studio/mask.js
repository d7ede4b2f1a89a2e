// A region is painted over the first frame of a video; white is what is made again.

import { contentBlob } from './api.js';
import { slotOfFile } from './form.js';
import { canvasOf } from './frames.js';
import { t } from './i18n.js';
import { store } from './store.js';
import { button, check, head, html, inner, View } from './view.js';

const PAINT = '#ff4fa3';

class MaskEditor extends View {
	static properties = { brush: inner, erases: inner };

	constructor() {
		super();
		Object.assign(this, { brush: 0.12, erases: false, cursor: [0.5, 0.5], isDown: false });
	}

	/** Shows a frame (a canvas), and gives the mask's canvas, or null where none was wanted. */
	async paint(frame) {
		await this.updateComplete;
		this.canvas = this.querySelector('canvas');
		Object.assign(this.canvas, { width: frame.width, height: frame.height });
		this.canvas.parentNode.style.backgroundImage = `url(${frame.toDataURL()})`;
		this.layer = this.canvas.getContext('2d');
		this.querySelector('dialog').showModal();
		return new Promise((done) => (this.done = done));
	}

	get #size() {
		return this.brush * Math.min(this.canvas.width, this.canvas.height);
	}

	#dot([x, y], [toX, toY] = [x, y]) {
		const { layer, canvas } = this;
		layer.globalCompositeOperation = this.erases ? 'destination-out' : 'source-over';
		Object.assign(layer, { strokeStyle: PAINT, lineWidth: this.#size, lineCap: 'round' });
		layer.beginPath();
		layer.moveTo(x * canvas.width, y * canvas.height);
		layer.lineTo(toX * canvas.width + 0.01, toY * canvas.height);
		layer.stroke();
	}

	#at(event) {
		const box = this.canvas.getBoundingClientRect();
		return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
	}

	#down(event) {
		this.isDown = true;
		this.canvas.setPointerCapture(event.pointerId);
		this.cursor = this.#at(event);
		this.#dot(this.cursor);
		this.#show();
	}

	#move(event) {
		const before = this.cursor;
		this.cursor = this.#at(event);
		if (this.isDown) this.#dot(before, this.cursor);
		this.#show();
	}

	#show() {
		const box = this.canvas.getBoundingClientRect();
		const ring = this.querySelector('.brush-ring');
		const size = (this.#size / this.canvas.width) * box.width;
		ring.style.cssText = `left:${this.cursor[0] * 100}%;top:${this.cursor[1] * 100}%;width:${size}px;height:${size}px`;
	}

	#key(event) {
		const [x, y] = this.cursor;
		const step = event.shiftKey ? 0.1 : 0.03;
		const moved = { ArrowLeft: [x - step, y], ArrowRight: [x + step, y], ArrowUp: [x, y - step], ArrowDown: [x, y + step] }[event.key];
		if (moved) this.cursor = moved.map((one) => Math.max(0, Math.min(1, one)));
		else if (event.key === ' ') this.#dot(this.cursor);
		else if (event.key === 'e' || event.key === 'E') this.erases = !this.erases;
		else return;
		event.preventDefault();
		this.#show();
	}

	#use() {
		const { canvas, layer } = this;
		const painted = layer.getImageData(0, 0, canvas.width, canvas.height);
		let isEmpty = true;
		for (let at = 0; at < painted.data.length; at += 4) {
			const value = painted.data[at + 3] > 127 ? 255 : 0;
			if (value) isEmpty = false;
			painted.data.set([value, value, value, 255], at);
		}
		if (isEmpty) return store.note(t('mask.none'), 'error');
		layer.putImageData(painted, 0, 0);
		this.done(canvas);
		this.querySelector('dialog').close();
	}

	render() {
		return html`<dialog class="mask" aria-label=${t('mask.title')} @close=${() => (this.done(null), this.remove())}>
			${head(t('mask.title'))}
			<p class="dim" id="mask-help">${t('mask.help')}</p>
			<div class="mask-stage"><div><canvas tabindex="0" role="img" aria-label=${t('mask.canvas')} aria-describedby="mask-help"
				@pointerdown=${this.#down} @pointermove=${this.#move} @pointerup=${() => (this.isDown = false)} @pointercancel=${() => (this.isDown = false)} @keydown=${this.#key}></canvas><i class="brush-ring"></i></div></div>
			<div class="mask-tools">
				<label class="field range"><span class="label">${t('mask.brush')}</span><input type="range" min="0.03" max="0.5" step="0.01" .value=${String(this.brush)} @input=${(event) => (this.brush = Number(event.target.value))} /></label>
				${check(t('mask.erase'), this.erases, (erases) => (this.erases = erases))}
				${button(t('mask.clear'), () => this.layer.clearRect(0, 0, this.canvas.width, this.canvas.height))}
				${button(t('mask.use'), () => this.#use(), null, 'primary')}
			</div>
		</dialog>`;
	}
}

customElements.define('sorano-mask', MaskEditor);

/** Lets the user paint a mask over the first frame of what is in a slot. Returns the mask as a slot, or null. */
export async function paint(slot) {
	const url = slot.kind === 'file' ? slot.url : URL.createObjectURL(await contentBlob(slot.id));
	const editor = document.createElement('sorano-mask');
	document.body.append(editor);
	const canvas = await editor.paint(await canvasOf(url));
	if (!canvas) return null;
	const blob = await new Promise((done) => canvas.toBlob(done, 'image/png'));
	return slotOfFile(new File([blob], 'mask.png', { type: 'image/png' }));
}
