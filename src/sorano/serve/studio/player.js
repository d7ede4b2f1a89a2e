// A video with a scrubber: frame by frame, with pictures of the sprite sheet over it, and whatever is drawn over each frame.

import { t } from './i18n.js';
import { html, inner, nothing, round, View } from './view.js';

class Player extends View {
	static properties = {
		src: {}, fps: { type: Number }, starts: { type: Boolean }, sheet: { attribute: false }, sheetUrl: {}, poster: {}, onFrame: { attribute: false },
		time: inner, length: inner, isPlaying: inner, hover: inner,
	};

	constructor() {
		super();
		Object.assign(this, { src: '', fps: 12, starts: true, sheet: null, sheetUrl: '', poster: nothing, onFrame: null, time: 0, length: 0, isPlaying: false, hover: null });
	}

	get video() {
		return this.querySelector('video');
	}

	updated(changed) {
		if (changed.has('src')) this.#watch();
	}

	/** Follows the frames that are shown, each as it is shown. */
	#watch() {
		const { video } = this;
		if (!video) return;
		const shown = (_, frame) => {
			this.time = frame?.mediaTime ?? video.currentTime;
			this.onFrame?.(video, this.time);
			if (video.isConnected) video.requestVideoFrameCallback?.(shown);
		};
		video.requestVideoFrameCallback?.(shown);
	}

	toggle() {
		if (this.video.paused) this.video.play().catch(() => {});
		else this.video.pause();
	}

	seek(seconds) {
		this.video.currentTime = Math.max(0, Math.min(this.length - 0.001, seconds));
		this.time = this.video.currentTime;
	}

	step(frames) {
		this.video.pause();
		this.seek((Math.round(this.time * this.fps) + frames + 0.5) / this.fps);
	}

	#key(event) {
		if (event.target.matches('input, textarea, select')) return;
		if (event.key === ' ' && !event.target.matches('button, a, summary')) this.toggle();
		else if (event.key === ',') this.step(-1);
		else if (event.key === '.') this.step(1);
		else return;
		event.preventDefault();
	}

	#point(event) {
		const box = event.currentTarget.getBoundingClientRect();
		const share = Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
		this.hover = this.sheet && event.pointerType !== 'touch' ? share : null;
	}

	render() {
		const frame = Math.min(Math.round(this.time * this.fps), Math.max(0, Math.round(this.length * this.fps) - 1));
		return html`<div class="player" @keydown=${this.#key}>
			<div class="screen">
				<video src=${this.src || nothing} poster=${this.poster} .muted=${true} loop playsinline preload="auto" ?autoplay=${this.starts}
					@loadedmetadata=${(event) => (this.length = event.target.duration)} @play=${() => (this.isPlaying = true)} @pause=${() => (this.isPlaying = false)}
					@timeupdate=${(event) => (this.time = event.target.currentTime)} @click=${this.toggle}></video>
				<canvas class="over-video" aria-hidden="true"></canvas>
			</div>
			<div class="controls">
				${round(t(this.isPlaying ? 'pause' : 'play'), this.isPlaying ? 'pause' : 'play', () => this.toggle(), { kind: 'solid' })}
				${round(t('step.back'), 'back', () => this.step(-1))}${round(t('step.on'), 'on', () => this.step(1))}
				<div class="scrub" @pointermove=${this.#point} @pointerleave=${() => (this.hover = null)}>
					${this.hover == null ? nothing : this.#tile()}
					<input type="range" min="0" max=${this.length || 1} step="0.001" .value=${String(this.time)} aria-label=${t('scrub')}
						aria-valuetext="${this.time.toFixed(2)} / ${this.length.toFixed(2)}" @input=${(event) => this.seek(Number(event.target.value))} />
				</div>
				<span class="clock">${this.time.toFixed(2)} s<small>${frame + 1} / ${Math.round(this.length * this.fps) || 0}</small></span>
			</div>
		</div>`;
	}

	#tile() {
		const { frames, columns, gap, frame_width: width, frame_height: height } = this.sheet;
		const at = Math.round(this.hover * (frames - 1));
		const x = gap + (at % columns) * (width + gap), y = gap + Math.floor(at / columns) * (height + gap);
		return html`<i class="tile" .style=${`left:${this.hover * 100}%;width:${width}px;height:${height}px;background-image:url("${this.sheetUrl}");background-position:-${x}px -${y}px`}></i>`;
	}
}

customElements.define('sorano-player', Player);
