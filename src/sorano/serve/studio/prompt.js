// The prompt: the words that the model knows are offered as one types, and those that it does not know are underlined.

import { post } from './api.js';
import { t } from './i18n.js';
import { store } from './store.js';
import { button, html, inner, nothing, View, warning } from './view.js';

const READ_MS = 250;
const MOST_OFFERED = 6;
const ORDER = ['color', 'kind', 'motion', 'ground', 'time', 'camera'];
let count = 0;

const isChinese = (text) => /[\u3400-\u9fff]/.test(text);
const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

/** All phrases of a model, with the field and the language of each. */
function phrases() {
	const groups = store.words?.groups ?? {};
	return Object.entries(groups).flatMap(([language, fields]) =>
		Object.entries(fields).flatMap(([field, words]) => words.flatMap((found) => found.map((text, at) => ({ text, field, language, isFirst: !at })))),
	);
}

/** The phrases that what stands before the cursor may become, and how much of it they replace. */
export function offered(before, known = phrases()) {
	const english = before.match(/[a-z]+(?: [a-z]*){0,4}$/i)?.[0].toLowerCase() ?? '';
	const starts = [...english].flatMap((one, at) => (at === 0 || english[at - 1] === ' ' ? [at] : []));
	const fragments = starts.map((at) => english.slice(at)).filter((one) => one.trim());
	const chinese = before.match(/[\u3400-\u9fff]{1,4}$/)?.[0] ?? '';
	for (let at = 0; at < chinese.length; at += 1) fragments.push(chinese.slice(at));
	for (const fragment of fragments) {
		const found = known.filter((one) => one.text.startsWith(fragment) && one.text !== fragment);
		if (found.length) return { replaces: fragment.length, found: found.slice(0, MOST_OFFERED) };
	}
	return { replaces: 0, found: [] };
}

/** The first field that a prompt says nothing of, with its phrases: what may come next. */
export function missing(text, known = phrases(), readAs = []) {
	const language = isChinese(text) || (!text.trim() && document.documentElement.lang.startsWith('zh')) ? 'zh' : 'en';
	const lower = readAs.reduce((said, [one, other]) => said.replace(one.toLowerCase(), other), text.toLowerCase());
	const says = (one) => (isChinese(one.text) ? lower.includes(one.text) : new RegExp(`\\b${escaped(one.text)}\\b`).test(lower));
	for (const field of ORDER) {
		const found = known.filter((one) => one.field === field);
		if (found.length && !found.some(says)) return { field, language, found: found.filter((one) => one.language === language && one.isFirst) };
	}
	return null;
}

export function surprise(known = phrases()) {
	const language = document.documentElement.lang.startsWith('zh') ? 'zh' : 'en';
	const one = (field) => {
		const found = known.filter((phrase) => phrase.field === field && phrase.language === language && phrase.isFirst);
		return found[Math.floor(Math.random() * found.length)]?.text ?? '';
	};
	if (language === 'zh') return `${one('color').replace(/的$/, '')}的${one('kind')}${one('ground')}${one('motion')}，${one('time')}`;
	const color = one('color');
	return `${/^[aeiou]/.test(color) ? 'an' : 'a'} ${color} ${one('kind')} ${one('motion')} ${one('ground')} ${one('time')}`;
}

class Prompt extends View {
	static properties = {
		value: {}, label: {}, placeholder: {}, rows: { type: Number }, small: { type: Boolean },
		reading: inner, offer: inner, chosen: inner,
	};

	constructor() {
		super();
		Object.assign(this, { value: '', label: '', placeholder: '', rows: 3, small: false, reading: null, offer: null, chosen: -1 });
		this.name = `prompt-${(count += 1)}`;
	}

	get area() {
		return this.querySelector('textarea');
	}

	focusEnd() {
		this.area.focus();
		this.area.setSelectionRange(this.value.length, this.value.length);
	}

	willUpdate(changed) {
		// One can write before the model's words have come, and another model knows other words.
		if (changed.has('value') || this.words !== store.words) this.#read();
		this.words = store.words;
	}

	#read() {
		clearTimeout(this.timer);
		const prompt = this.value;
		if (!prompt.trim() || !store.words?.is_small) this.reading = null;
		else this.timer = setTimeout(() => this.#ask(prompt), READ_MS);
	}

	async #ask(prompt) {
		const found = await post('/v1/studio/reading', { prompt, model: store.model?.id }).catch(() => null);
		if (prompt === this.value) this.reading = found;
	}

	#input(event) {
		this.#set(event.target.value);
		this.#suggest();
	}

	#set(value) {
		this.value = value;
		this.dispatchEvent(new CustomEvent('prompt', { detail: value, bubbles: true }));
	}

	#suggest() {
		const at = this.area.selectionStart;
		const offer = offered(this.value.slice(0, at));
		this.offer = offer.found.length && at === this.area.selectionEnd ? { ...offer, at } : null;
		this.chosen = -1;
	}

	#accept(one) {
		const { at, replaces } = this.offer;
		const rest = this.value.slice(at);
		const space = one.language === 'en' && !rest.startsWith(' ') ? ' ' : '';
		const head = this.value.slice(0, at - replaces) + one.text + space;
		this.#place(head, rest);
	}

	async #place(head, rest = '') {
		this.offer = null;
		this.#set(head + rest);
		await this.updateComplete;
		this.area.focus();
		this.area.setSelectionRange(head.length, head.length);
	}

	/** Puts a phrase at the end, as the next words of the sentence. */
	#append(one) {
		const text = this.value.trimEnd();
		if (one.language === 'zh') return this.#place(text + (one.field === 'time' && text ? '，' : '') + one.text);
		const article = !text ? (/^[aeiou]/.test(one.text) ? 'an ' : 'a ') : '';
		return this.#place(`${text}${text ? ' ' : ''}${article}${one.text} `);
	}

	#replace(word, near) {
		this.#place(this.value.replace(new RegExp(escaped(word), 'i'), near));
	}

	#key(event) {
		if (event.isComposing) return;
		if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
			event.preventDefault();
			this.dispatchEvent(new CustomEvent('submit-prompt', { bubbles: true }));
		} else if (!this.offer) return;
		else if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
			event.preventDefault();
			const many = this.offer.found.length;
			this.chosen = event.key === 'ArrowDown' ? (this.chosen + 1) % many : (this.chosen + many) % (many + 1) - 1;
			if (this.chosen < 0) this.chosen = many - 1;
		} else if (event.key === 'Escape') this.offer = null;
		else if ((event.key === 'Tab' || event.key === 'Enter') && this.chosen >= 0) {
			event.preventDefault();
			this.#accept(this.offer.found[this.chosen]);
		}
	}

	#scroll(event) {
		this.querySelector('.prompt-ink').scrollTop = event.target.scrollTop;
	}

	render() {
		const known = phrases();
		return html`
			<div class="prompt ${this.small ? 'small' : ''}">
				<label class=${this.small ? 'hidden' : 'label'} for=${this.name}>${this.label}</label>
				<div class="prompt-box">
					<div class="prompt-ink" aria-hidden="true">${this.#ink()}</div>
					<textarea id=${this.name} rows=${this.rows} .value=${this.value} placeholder=${this.placeholder}
						spellcheck="false" autocomplete="off" maxlength="32000" aria-autocomplete="list"
						aria-controls=${this.offer ? `${this.name}-list` : nothing}
						aria-activedescendant=${this.offer && this.chosen >= 0 ? `${this.name}-${this.chosen}` : nothing}
						aria-describedby="${this.name}-said" @input=${this.#input} @keydown=${this.#key} @scroll=${this.#scroll}
						@blur=${() => setTimeout(() => (this.offer = null), 150)}></textarea>
					${this.offer ? this.#list() : nothing}
				</div>
				<div class="said" id="${this.name}-said" role="status">${this.#said()}</div>
				${this.small || !known.length ? nothing : this.#chips(missing(this.value, known, this.reading?.read_as))}
			</div>`;
	}

	#ink() {
		const unknown = this.reading?.unknown ?? [];
		if (!unknown.length) return html`${this.value}\n`;
		const parts = this.value.split(new RegExp(`(${unknown.map(escaped).join('|')})`, 'gi'));
		return html`${parts.map((part, at) => (at % 2 ? html`<mark>${part}</mark>` : part))}\n`;
	}

	#list() {
		return html`<ul class="offer" id="${this.name}-list" role="listbox" aria-label=${t('suggestions')}>
			${this.offer.found.map(
				(one, at) => html`<li id="${this.name}-${at}" role="option" aria-selected=${at === this.chosen ? 'true' : 'false'}
					@pointerdown=${(event) => (event.preventDefault(), this.#accept(one))}>
					<span>${one.text}</span><small>${t(`field.${one.field}`)}</small></li>`,
			)}
		</ul>`;
	}

	#said() {
		const found = this.reading;
		if (this.offer) return html`<span class="hidden">${t('suggested', { count: this.offer.found.length })}</span>`;
		if (!found) return nothing;
		const list = (words) => words.map((word) => `“${word}”`).join(', ');
		const lines = [];
		if (found.unknown.length) {
			const near = Object.entries(found.near).map(([word, one]) => button(t('unknown.near', { word: one }), () => this.#replace(word, one), null, 'text'));
			lines.push(warning(html`${t('unknown', { words: list(found.unknown) })} ${near}`));
		}
		if (!this.small && found.read_as.length) {
			const said = found.read_as.map(([one, other]) => t('reads', { one, other })).join(' · ');
			lines.push(html`<p class="dim">${store.model?.id} ${said}</p>`);
		}
		return lines;
	}

	#chips(next) {
		if (!next) return nothing;
		return html`<div class="chips" role="group" aria-label=${t('suggestions')}>
			<span class="chips-name">${t(`field.${next.field}`)}</span>
			${next.found.map(
				(one) => button(html`${next.field === 'color' ? html`<i class="dot" .style=${`background:${english(one)}`}></i>` : nothing}${one.text}`, () => this.#append(one), null, 'chip'),
			)}
		</div>`;
	}
}

/** The English name of a colour of any language, which is CSS's too. */
function english(one) {
	if (one.language === 'en') return one.text;
	const names = { 红: 'red', 绿: 'green', 蓝: 'blue', 黄: 'yellow', 紫: 'purple', 橙: 'orange', 白: 'white', 黑: 'black' };
	return names[one.text[0]];
}

customElements.define('sorano-prompt', Prompt);
