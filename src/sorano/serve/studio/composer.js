// Where a video is asked for: what to make, from what, how large, and what that takes before anything is pressed.

import './prompt.js';
import './slot.js';
import { VERBS, form, newShot } from './form.js';
import { bytes, duration, money, t } from './i18n.js';
import { surprise } from './prompt.js';
import { store } from './store.js';
import { button, check, choice, html, icon, inner, nothing, round, select, View, warning } from './view.js';

const SIZES = ['448x256', '256x448', '512x512', '1280x720', '720x1280'];
const SAVED = 'sorano.prompts';

const savedPrompts = () => JSON.parse(localStorage.getItem(SAVED) ?? '[]');

class Composer extends View {
	static properties = { saved: inner, over: inner };

	constructor() {
		super();
		this.saved = savedPrompts();
		this.over = false;
		form.addEventListener('change', () => this.requestUpdate());
		addEventListener('sorano-language', () => form.set({})); // the plan's notes come in the reader's language
	}

	get prompt() {
		return this.querySelector('sorano-prompt');
	}

	async #send() {
		if (!form.isComplete || form.isSending) return;
		try {
			await form.send();
			if (innerWidth < 900) document.querySelector('sorano-queue')?.scrollIntoView({ block: 'start' });
		} catch (error) {
			store.fail(error);
		}
	}

	async #copy(what) {
		try {
			await navigator.clipboard.writeText(form.copies()[what]);
			store.note(t('copied', { what }));
		} catch {
			store.note(t('copied.none'), 'error');
		}
	}

	#save(prompt, keep = true) {
		this.saved = [...(keep ? [prompt] : []), ...this.saved.filter((one) => one !== prompt)].slice(0, 50);
		localStorage.setItem(SAVED, JSON.stringify(this.saved));
	}

	/** What is dropped beside a slot: a picture is a first frame, a video what a verb starts from. */
	async dropped(file, video) {
		if (video) return form.use(video, form.mode === 'change' ? form.verb : 'extend');
		if (!file) return;
		const isVideo = file.type.startsWith('video/');
		form.set({ mode: isVideo ? 'change' : 'new' });
		await this.updateComplete;
		this.querySelector(`sorano-slot[takes="${isVideo ? 'video' : 'picture'}"]`).take(file);
	}

	render() {
		return html`<form class="composer ${this.over ? 'over' : ''}" aria-label=${t('studio')} @submit=${(event) => (event.preventDefault(), this.#send())}
			@submit-prompt=${this.#send} @dragover=${this.drag} @dragleave=${this.drag} @drop=${this.drag}>
			${choice(t('mode'), ['new', 'change', 'board'].map((one) => [one, t(`mode.${one}`)]), form.mode, (mode) => form.set({ mode }), 'modes')}
			<div class="composer-body">
				${form.mode === 'change' ? this.#change() : nothing}
				${form.mode === 'board' ? this.#board() : this.#prompt()}
				${form.mode === 'new' ? this.#pictures() : nothing}
				${this.#settings()}
			</div>
			<div class="composer-end">
				${this.#plan()}
				<div class="send">
					<button class="primary" ?disabled=${!form.isComplete || form.isSending} aria-keyshortcuts="Control+Enter">
						${icon('spark')}${form.n > 1 ? t('create.many', { count: form.n }) : t('create')}</button>
					${this.#copies()}
				</div>
			</div>
		</form>`;
	}

	#prompt() {
		const isOptional = !form.needsPrompt;
		const hint = form.mode === 'new' ? t(store.words?.is_small ? 'prompt.hint' : 'prompt.free') : isOptional ? form.video?.prompt ?? '' : t('prompt.change');
		return html`<div class="ask">
			<sorano-prompt .value=${form.prompt} .label=${t(isOptional ? 'prompt.optional' : 'prompt')} .placeholder=${hint}
				@prompt=${(event) => form.set({ prompt: event.detail })}></sorano-prompt>
			<div class="ask-tools">
				${store.words?.is_small && form.mode === 'new' ? button(t('surprise'), () => form.set({ prompt: surprise() }), 'dice', 'text') : nothing}
				${button(t('save'), () => this.#save(form.prompt.trim()), 'star', 'text', !form.prompt.trim())}
				${this.#saved()}
			</div>
		</div>`;
	}

	#saved() {
		const close = (event) => event.currentTarget.closest('details').removeAttribute('open');
		return html`<details class="menu"><summary>${t('saved')}</summary><div class="menu-list">
			${this.saved.length ? this.saved.map((one) => html`<div class="menu-row">
				<button type="button" @click=${(event) => (close(event), form.set({ prompt: one }))}>${one}</button>
				${round(t('saved.remove', { prompt: one }), 'close', () => this.#save(one, false))}
			</div>`) : html`<p class="dim">${t('saved.none')}</p>`}
		</div></details>`;
	}

	#pictures() {
		return html`<div class="slots">${this.#slot('first', 'first', 'picture')}${this.#slot('last', 'last', 'picture')}</div>`;
	}

	#check(name, text) {
		return check(t(text), form[name], (value) => form.set({ [name]: value }));
	}

	#slot(name, text, takes) {
		return html`<sorano-slot takes=${takes} .label=${t(text)} .value=${form[name]} @slot=${(event) => form.set({ [name]: event.detail })}></sorano-slot>`;
	}

	#input(name, text, more = {}) {
		const { kind = '', type = 'text', hint = '', read = (value) => value } = more;
		return html`<label class="field ${kind}"><span class="label">${t(text)}</span><input type=${type} step="any" min="0" inputmode=${more.mode ?? nothing} maxlength=${more.most ?? 2000} placeholder=${hint} .value=${form[name]} @input=${(event) => form.set({ [name]: read(event.target.value) })} /></label>`;
	}

	#change() {
		const isBlend = form.verb === 'blend';
		const one = (verb) => [verb, t(`verb.${verb}`)];
		return html`${choice(t('verb'), VERBS.map(one), form.verb, (verb) => form.set({ verb }))}
			<p class="dim about">${t(`about.${form.verb}`)}</p>
			<div class="slots ${isBlend ? '' : 'one'}">${this.#slot('video', isBlend ? 'source.first' : 'source', 'video')}${isBlend ? this.#slot('second', 'source.second', 'video') : nothing}</div>
			${form.verb === 'extend' ? choice(t('direction'), ['forward', 'backward'].map((way) => [way, t(way)]), form.direction, (direction) => form.set({ direction })) : nothing}
			${form.verb === 'edit' ? this.#range('strength', 0.1, 1, 0.05, form.strength, `${Math.round(form.strength * 100)} %`) : nothing}
			${form.verb === 'region' ? button(html`${form.mask ? html`<img class="mask-thumb" src=${form.mask.url} alt="" />` : nothing}${t(form.mask ? 'mask.again' : 'mask.draw')}`, () => this.#paint(), form.mask ? null : 'brush', 'quiet wide', !form.video) : nothing}`;
	}

	async #paint() {
		const { paint } = await import('./mask.js');
		const mask = await paint(form.video).catch((error) => store.fail(error));
		if (mask) form.set({ mask });
	}

	#range(name, least, most, step, value, said, text = name) {
		return html`<label class="field range"><span class="label">${t(text)}<output>${said}</output></span>
			<input type="range" min=${least} max=${most} step=${step} .value=${String(value)} aria-valuetext=${said}
				@input=${(event) => form.set({ [name]: Number(event.target.value) })} /></label>`;
	}

	#board() {
		const seconds = form.shots.reduce((sum, one) => sum + (one.file?.seconds ?? one.seconds), 0);
		return html`<div class="board">
			<div class="timeline" aria-hidden="true">${form.shots.map((one, index) => html`<i class=${one.prompt || one.file ? 'on' : ''} .style=${`flex-grow:${one.file?.seconds ?? one.seconds}`}>${index + 1}</i>`)}</div>
			<p class="dim">${t('board.length', { shots: form.shots.length, seconds: Math.round(seconds * 10) / 10 })}</p>
			<ol class="shots">${form.shots.map((one, index) => this.#shot(one, index))}</ol>
			${button(t('shot.add'), () => form.set({ shots: [...form.shots, newShot({ join: 'blend' })] }), 'plus', 'quiet wide')}
		</div>`;
	}

	#move(from, to) {
		if (to < 0 || to >= form.shots.length) return;
		form.moveShot(from, to);
		store.say(t('board.moved', { from: from + 1, to: to + 1 }));
	}

	#shot(one, index) {
		const number = index + 1;
		const tool = (name, picture, act, off) => round(t(name, { number }), picture, act, { off });
		return html`<li class="shot" @dragover=${(event) => event.dataTransfer.types.includes('application/x-sorano-shot') && event.preventDefault()}
			@drop=${(event) => { const from = event.dataTransfer.getData('application/x-sorano-shot'); if (from !== '') { event.preventDefault(); event.stopPropagation(); this.#move(Number(from), index); } }}>
			<div class="shot-head">
				<span class="grip" draggable="true" aria-hidden="true" @dragstart=${(event) => event.dataTransfer.setData('application/x-sorano-shot', String(index))}>${icon('grip')}</span>
				<b>${t('shot', { number })}</b>
				${tool('shot.up', 'up', () => this.#move(index, index - 1), index === 0)}
				${tool('shot.down', 'lower', () => this.#move(index, index + 1), index === form.shots.length - 1)}
				${tool('shot.remove', 'close', () => form.set({ shots: form.shots.filter((_, at) => at !== index) }), form.shots.length === 1)}
			</div>
			${one.file?.type === 'video' ? nothing : html`<sorano-prompt small rows="2" .value=${one.prompt} .label=${`${t('shot', { number })}: ${t('prompt')}`} .placeholder=${t(store.words?.is_small ? 'prompt.hint' : 'prompt.free')}
				@prompt=${(event) => form.setShot(index, { prompt: event.detail })}></sorano-prompt>`}
			<div class="shot-row">
				${one.file?.type === 'video' ? nothing : html`<label class="field short"><span class="label">${t('seconds')}</span><input type="number" min="0.5" max="60" step="0.5" .value=${String(one.seconds)} @input=${(event) => form.setShot(index, { seconds: Number(event.target.value) || 2 })} /></label>`}
				${index ? select(t('shot.join'), ['cut', 'blend'].map((join) => [join, t(`join.${join}`)]), one.join, (join) => form.setShot(index, { join })) : nothing}
				<sorano-slot takes="both" .label=${t('shot.picture')} .of=${t('shot', { number })} .value=${one.file} @slot=${(event) => form.setShot(index, { file: event.detail })}></sorano-slot>
			</div>
		</li>`;
	}

	#settings() {
		const model = store.model;
		const isSourced = form.mode === 'change' && form.verb !== 'remix';
		const hasSeconds = form.mode === 'new' || (form.mode === 'change' && ['extend', 'blend'].includes(form.verb));
		const isRemix = form.mode === 'change' && form.verb === 'remix';
		const own = isRemix ? t('size.source') : model?.own ?? model?.size ?? '';
		const sizes = [...new Set([...(model?.small_vocabulary ? [] : model?.sizes ?? []), ...SIZES])].filter((one) => one !== own);
		const seconds = form.seconds ?? (form.mode === 'new' ? model?.seconds ?? 2 : 1);
		return html`<div class="settings">
			${hasSeconds ? this.#range('seconds', 0.5, 12, 0.5, seconds, duration(seconds), form.mode === 'change' ? 'seconds.more' : 'seconds') : nothing}
			<div class="field"><span class="label">${t('variations')}</span>${choice(t('variations'), [1, 2, 3, 4].map((one) => [one, one]), form.n, (n) => form.set({ n }), 'pills even')}</div>
			${isSourced ? nothing : select(t('size'), [['', own.replace('x', '×')], ...sizes.map((one) => [one, one.replace('x', '×')])], form.size, (size) => form.set({ size }))}
			${this.#input('seed', 'seed', { mode: 'numeric', most: 19, hint: t('seed.any'), read: (value) => value.replace(/\D/g, '') })}
			${form.mode === 'new' ? this.#check('loop', 'loop.new') : nothing}
		</div>
		<details class="more"><summary>${t('more')}</summary><div class="settings">
			${store.models.length > 1 ? select(t('model'), store.models.map((one) => [one.id, one.id]), model.id, async (id) => (await store.choose(id), form.set({})), 'all') : nothing}
			${this.#input('steps', 'steps', { type: 'number', hint: model?.num_steps })}${this.#input('guidance', 'guidance', { type: 'number', hint: model?.guidance })}
			${this.#input('negative', 'negative', { kind: 'all' })}
			<div class="all">${this.#check('draft', 'draft')}${this.#check('private', 'private')}</div>
		</div></details>`;
	}

	#plan() {
		const { plan, problem } = form;
		const cell = (name, value) => html`<div><dt>${t(name)}</dt><dd>${value}</dd></div>`;
		const planned = plan?.planned;
		const queue = plan?.queue;
		return html`<div class="plan ${form.isPlanning ? 'waiting' : ''}" role="status">
			${problem ? warning(problem.code === 'offline' ? t('lost') : problem.message, 'bad') : nothing}
			${!plan && !problem ? html`<p class="dim">${t(form.isPlanning ? 'plan.wait' : 'plan.empty')}</p>` : nothing}
			${plan ? html`<dl>
					${cell('plan.time', planned ? `≈ ${duration(planned.total_seconds)}` : '–')}
					${cell('plan.memory', planned ? bytes(planned.peak_bytes) : '–')}
					${cell('plan.cost', planned ? (planned.cost ? `≈ ${money(planned.cost)}` : `${duration(planned.total_seconds)} ${planned.device.toUpperCase()}`) : '–')}
					${cell('plan.video', html`${plan.size.replace('x', '×')}<small>${duration(plan.seconds)}</small>`)}
				</dl>
				${!planned ? html`<p class="dim">${t('plan.none')}</p>` : !planned.fits ? warning(`${planned.problem}; ${planned.hint}`, 'bad') : nothing}
				${queue.jobs ? html`<p class="dim">${t('plan.queue', { jobs: queue.jobs, seconds: duration(queue.seconds) })}</p>` : nothing}
				${plan.notes.length ? html`<details class="notes"><summary>${t('plan.notes')} · ${plan.notes.length}</summary><ul>${plan.notes.map((one) => html`<li>${one}</li>`)}</ul></details>` : nothing}` : nothing}
		</div>`;
	}

	#copies() {
		return html`<details class="menu up"><summary class=${form.isComplete ? '' : 'off'}>${t('copy')}</summary><div class="menu-list">
			${['curl', 'Python', 'CLI'].map((one) => html`<div class="menu-row"><button type="button" ?disabled=${!form.isComplete} @click=${(event) => (event.currentTarget.closest('details').removeAttribute('open'), this.#copy(one))}>${one}</button></div>`)}
		</div></details>`;
	}
}

customElements.define('sorano-composer', Composer);
