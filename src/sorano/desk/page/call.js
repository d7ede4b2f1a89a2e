// The page of a call: who is there, and what is said of each tile.

import { Room } from './call-room.js';
import { current, setLanguage, t } from './i18n.js';
import { button, html, icon, inner, nothing, Page, round, switchTheme, values } from './view.js';
import { post } from './web/api.js';

const CAMERA = { video: { width: 640, height: 360, frameRate: 15 }, audio: true };
const WEAK = 0.35; // of the mark's strength elsewhere: below it a block is painted

class Call extends Page {
	static properties = { room: inner, made: inner, light: inner };

	constructor() {
		super();
		const [id, code] = location.hash.slice(1).split('?guest=');
		this.id = id;
		this.code = code && decodeURIComponent(code);
		document.title = `Sorano · ${t('call')}`;
	}

	#open() {
		return this.act(async () => {
			this.made = await post('/rooms', {});
			this.id = location.hash = this.made.id;
		});
	}

	#enter(how) {
		return this.act(async () => {
			this.said = null;
			const camera = await navigator.mediaDevices.getUserMedia(CAMERA).catch(() => navigator.mediaDevices.getUserMedia({ ...CAMERA, audio: false }));
			let room;
			try {
				room = await how(() => this.#changed());
				await room.start(camera);
			} catch (error) {
				for (const track of camera.getTracks()) track.stop();
				await room?.leave();
				throw error;
			}
			this.room = room;
		});
	}

	#changed() {
		const mine = this.room?.shown?.tiles.find((one) => one.id === this.room.tile);
		if (mine?.challenge && !this.light) this.#shine(mine.challenge);
		this.requestUpdate();
	}

	/** Fills the page with the colours of a challenge, step by step. */
	#shine({ in_seconds, step_seconds, colours }) {
		const began = performance.now() / 1000 + in_seconds;
		const next = () => {
			const step = Math.floor((performance.now() / 1000 - began) / step_seconds);
			if (step >= colours.length) return (this.light = null);
			this.light = `rgb(${(colours[step] ?? [140, 140, 140]).join(' ')})`;
			requestAnimationFrame(next);
		};
		next();
	}

	#mute() {
		this.room.microphone.enabled = !this.room.microphone.enabled;
		this.requestUpdate();
	}

	#checkWords(tile) {
		const told = ({ heard, agree }) => (agree ? t('call.words.yes') : heard ? t('call.words.no').replace('{heard}', heard) : t('call.words.none'));
		return this.act(() => this.room.checkWords(tile), told);
	}

	async #leave() {
		await this.room.leave();
		this.room = null;
	}

	updated() {
		for (const video of this.querySelectorAll('video')) {
			const stream = this.room?.streams.get(video.dataset.tile);
			if (stream && video.srcObject !== stream) video.srcObject = stream;
		}
		for (const canvas of this.querySelectorAll('canvas')) {
			paint(canvas, this.room?.shown?.tiles.find((one) => one.id === canvas.dataset.tile));
		}
		const light = this.querySelector('.light');
		if (light) light.style.background = this.light;
	}

	#door() {
		if (this.code) {
			const enter = (event) => (event.preventDefault(), this.#enter((changed) => Room.joinGuest(this.id, this.code, values(event.target).name, changed)));
			return html`<form class="sheet" @submit=${enter}><h1>${t('call')}</h1><p class="dim">${t('call.guest.text')}</p>
				<label class="field"><span class="label">${t('name')}</span><input name="name" required maxlength="40" autocomplete="off" /></label>
				<button class="primary wide" ?disabled=${this.isBusy}>${t('call.guest.join')}</button></form>`;
		}
		if (this.me === undefined) return nothing;
		if (this.me === null) return html`<div class="sheet"><h1>${t('call')}</h1><p class="dim">${t('sign.in.text')}</p>${button(t('sign.in'), () => this.signIn(), null, 'primary wide', this.isBusy)}</div>`;
		return html`<div class="sheet"><h1>${t('call')}</h1><p class="dim">${t('call.text')}</p>
			${this.id ? button(t('call.join'), () => this.#enter((changed) => Room.join(this.id, changed)), 'seal', 'primary wide', this.isBusy) : button(t('call.new'), () => this.#open(), 'plus', 'primary wide', this.isBusy)}
			${this.made ? html`<p>${t('call.link')} <code>${location.origin}/call#${this.made.id}</code></p><p>${t('call.guest.link')} <code>${location.origin}/call#${this.made.id}?guest=${this.made.guest_code}</code></p>` : nothing}</div>`;
	}

	#tile(one) {
		const isMine = one.id === this.room.tile;
		const state = one.state;
		return html`<article class="sheet tile ${state}" aria-label="${one.name}: ${t(`call.${state}`)}">
			<div class="view"><video data-tile=${one.id} autoplay playsinline .muted=${isMine}></video><canvas data-tile=${one.id} width="160" height="90" aria-hidden="true"></canvas></div>
			<div class="about"><h2>${one.name}${isMine ? ` (${t('call.you')})` : ''}</h2>
				<p class="verdict" role="status">${icon(state === 'confirmed' ? 'seal' : 'warn')}${t(`call.${state}`)}</p>
				${one.sound && one.sound !== 'none' ? html`<p class="heard ${one.sound}">${t(`call.sound.${one.sound}`)}</p>` : nothing}
				${one.words ? html`<p>${t('call.say')} <span class="spoken">${current() === 'zh' ? one.words.zh : one.words.en}</span></p>` : nothing}
				${one.words && this.room.shown.hears_words ? button(t('call.words'), () => this.#checkWords(one.id)) : nothing}
				${one.light ? html`<p class="dim">${t(one.light.passed ? 'call.light.yes' : 'call.light.no')}</p>` : nothing}
				${!isMine && this.room.key ? button(t('call.light'), () => this.act(() => this.room.challenge(one.id), t('call.light.asked'))) : nothing}</div>
		</article>`;
	}

	render() {
		const shown = this.room?.shown;
		return html`<header class="top"><a class="brand" href="/" aria-label="Sorano"><img src="web/icon.svg" alt="" /><b>Sorano</b></a>
				<div class="top-end">${this.room?.microphone ? button(t(this.room.microphone.enabled ? 'call.mute' : 'call.unmute'), () => this.#mute()) : nothing}${this.room ? button(t('call.leave'), () => this.#leave()) : nothing}
					<button type="button" class="text" lang=${current() === 'zh' ? 'en' : 'zh-CN'} @click=${() => setLanguage(current() === 'zh' ? 'en' : 'zh')}>${t('language')}</button>
					${round(t('theme'), 'moon', switchTheme)}</div></header>
			<main id="content" tabindex="-1">${this.room ? html`<section><h1>${t('call')}</h1><p class="dim">${t('call.confirm')}</p>${shown?.recorders ? html`<p role="status">${icon('film')} ${t('call.recorded')}</p>` : nothing}</section><div class="tiles">${(shown?.tiles ?? []).map((one) => this.#tile(one))}</div>` : html`<section class="narrow">${this.#door()}</section>`}</main>
			<footer class="dim"><a href="./#privacy" target="_blank">${t('privacy')}</a></footer>
			<div class="say" role="status" aria-live="polite">${this.said ? html`<p class=${this.said.kind}>${this.said.text}</p>` : nothing}</div>
			${this.light ? html`<div class="light"><p>${t('call.light.look')}</p></div>` : nothing}`;
	}
}

/** Paints where a tile that is not confirmed lacks the mark. */
function paint(canvas, tile) {
	const pen = canvas.getContext('2d');
	pen.clearRect(0, 0, canvas.width, canvas.height);
	if (!tile?.map || tile.state !== 'not_confirmed') return;
	const [tall, wide] = [canvas.height / tile.map.length, canvas.width / tile.map[0].length];
	pen.fillStyle = 'rgb(220 30 30 / 45%)';
	tile.map.forEach((row, y) => row.forEach((value, x) => value < WEAK && pen.fillRect(x * wide, y * tall, wide, tall)));
}

customElements.define('sorano-call', Call);
