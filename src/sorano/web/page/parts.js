// Icons, buttons, fields.

import { t } from './i18n.js';
import { LitElement, html, nothing, svg } from './lit/lit-element.js';

/** Of a property that is the element's own. */
export const inner = { state: true };

const PATHS = {
	play: 'M7 4.5v15l12-7.5z',
	pause: 'M7 5h3.5v14H7zM13.5 5H17v14h-3.5z',
	close: 'M6 6l12 12M18 6L6 18',
	down: 'M12 4v12m-5-5l5 5 5-5M5 20h14',
	trash: 'M4 7h16M9 7V4h6v3m3 0l-1 13H7L6 7m4 4v5m4-5v5',
	next: 'M4 5h9v14H4zM16 12h5m-2-2l2 2-2 2',
	seal: 'M12 3l7 3v5c0 4.6-2.9 8-7 10-4.1-2-7-5.4-7-10V6zM8.5 12l2.5 2.5 4.5-5',
	up: 'M12 19V5m-6 6l6-6 6 6',
	top: 'M12 20V9m-5 5l5-5 5 5M5 4h14',
	lower: 'M12 5v14m-6-6l6 6 6-6',
	plus: 'M12 5v14M5 12h14',
	dice: 'M4 4h16v16H4zM8.5 8.5h.01M15.5 15.5h.01M12 12h.01M15.5 8.5h.01M8.5 15.5h.01',
	star: 'M12 4l2.5 5.2 5.5.8-4 4 1 5.7-5-2.8-5 2.8 1-5.7-4-4 5.5-.8z',
	again: 'M19 12a7 7 0 1 1-2.2-5.1M19 3v5h-5',
	warn: 'M12 4l9 16H3zM12 10v4m0 3h.01',
	moon: 'M20 14.5A8 8 0 0 1 9.5 4a8 8 0 1 0 10.5 10.5z',
	compare: 'M12 3v18M5 6h4v12H5zM15 6h4v12h-4z',
	film: 'M4 5h16v14H4zM8 5v14M16 5v14M4 12h16',
	picture: 'M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4',
	grip: 'M9 6h.01M15 6h.01M9 12h.01M15 12h.01M9 18h.01M15 18h.01',
	brush: 'M4 20c3 0 5-1 5-4l3 3c-2 2-5 2-8 1zM10 15l9-10 1 1-9 10',
	back: 'M14 6l-6 6 6 6',
	on: 'M10 6l6 6-6 6',
	spark: 'M12 3l2 6 6 2-6 2-2 6-2-6-6-2 6-2z',
	upload: 'M12 16V5m-5 5l5-5 5 5M5 20h14',
};

export const icon = (name) =>
	html`<svg class="icon ${name === 'play' || name === 'pause' ? 'solid' : ''}" viewBox="0 0 24 24" aria-hidden="true">${svg`<path d=${PATHS[name]} />`}</svg>`;

/** Switches between light and dark. */
export function switchTheme() {
	const { dataset } = document.documentElement;
	const isDark = dataset.theme ? dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
	localStorage.setItem('sorano.theme', (dataset.theme = isDark ? 'light' : 'dark'));
}

/** A button of an icon alone. */
export const round = (name, picture, act, { of = '', off = false, kind = '' } = {}) =>
	html`<button type="button" class="round ${kind}" title=${name} aria-label=${of ? `${name}: ${of}` : name} ?disabled=${off} @click=${act}>${icon(picture)}</button>`;

export const button = (text, act, picture = null, kind = 'quiet', off = false) =>
	html`<button type="button" class=${kind} ?disabled=${off} @click=${act}>${picture ? icon(picture) : nothing}${text}</button>`;

/** One of a few values, each with its text. */
export const choice = (label, options, chosen, choose, kind = 'pills') =>
	html`<div class=${kind} role="radiogroup" aria-label=${label}>${options.map(
		([value, text]) => html`<label><input type="radio" name=${label} .checked=${chosen === value} @change=${() => choose(value)} /><span>${text}</span></label>`,
	)}</div>`;

export const select = (label, options, chosen, choose, kind = '') =>
	html`<label class="field ${kind}"><span class="label">${label}</span><select @change=${(event) => choose(event.target.value)}>${options.map(
		([value, text]) => html`<option value=${value} ?selected=${value === chosen}>${text}</option>`,
	)}</select></label>`;

export const check = (text, checked, choose) =>
	html`<label class="check"><input type="checkbox" .checked=${checked} @change=${(event) => choose(event.target.checked)} />${text}</label>`;

/** The head of a dialog. */
export const head = (title) =>
	html`<div class="compare-head"><h2>${title}</h2>${round(t('close'), 'close', (event) => event.target.closest('dialog').close())}</div>`;

export const warning = (text, kind = 'warn') => html`<p class=${kind}>${icon('warn')}<span>${text}</span></p>`;

export { LitElement, html, nothing };
