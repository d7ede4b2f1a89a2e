// The page: head, studio, verify, what is said to the user.

import './composer.js';
import './queue.js';
import './gallery.js';
import './viewer.js';
import './compare.js';
import { setKey } from './api.js';
import { current, setLanguage, t } from './i18n.js';
import { store } from './store.js';
import { html, icon, inner, nothing, round, switchTheme, View } from './view.js';

class Studio extends View {
	static properties = { page: inner };

	constructor() {
		super();
		this.page = location.hash === '#verify' ? 'verify' : 'studio';
		addEventListener('hashchange', () => this.#go());
		addEventListener('sorano-key', () => this.#askKey());
		addEventListener('sorano-language', () => store.refresh().catch(() => {})); // what jobs say is in its language
		this.#go();
	}

	createRenderRoot() {
		this.replaceChildren();
		return this;
	}

	#go() {
		this.page = location.hash === '#verify' ? 'verify' : 'studio';
		document.title = `Sorano · ${t(this.page)}`;
		if (this.page === 'verify') import('./verify.js');
	}

	async #askKey() {
		await this.updateComplete;
		const dialog = this.querySelector('.key-dialog');
		if (!dialog.open) dialog.showModal();
	}

	#useKey(event) {
		setKey(new FormData(event.target).get('key').trim());
		location.reload();
	}

	render() {
		return html`
			<header class="top">
				<a class="skip" href="#content" @click=${(event) => (event.preventDefault(), document.getElementById('content').focus())}>${t('skip')}</a>
				<a class="brand" href="#studio" aria-label="Sorano"><img src="web/icon.svg" alt="" /><b>Sorano</b></a>
				<nav aria-label="Sorano">${['studio', 'verify'].map((one) => html`<a href="#${one}" aria-current=${this.page === one ? 'page' : nothing}>${t(one)}</a>`)}</nav>
				<div class="top-end">
					<button type="button" class="text" lang=${current() === 'zh' ? 'en' : 'zh-CN'} @click=${() => setLanguage(current() === 'zh' ? 'en' : 'zh')}>${t('language')}</button>
					${round(t('theme'), 'moon', switchTheme)}
				</div>
			</header>
			${store.isLost ? html`<p class="lost">${icon('warn')}${t('lost')}</p>` : nothing}
			<main class=${this.page} id=${this.page === 'verify' ? 'content' : nothing} tabindex="-1">
				${this.page === 'verify' ? html`<sorano-verify></sorano-verify>` : html`<h1 class="hidden">${t('studio')}</h1>
					<div class="side"><sorano-composer></sorano-composer></div>
					<div class="stage" id="content" tabindex="-1"><sorano-queue></sorano-queue><sorano-gallery></sorano-gallery></div>`}
			</main>
			<footer class="dim">${t('local')}</footer>
			<sorano-viewer></sorano-viewer><sorano-compare></sorano-compare>
			<dialog class="key-dialog" aria-label=${t('key.title')}><form method="dialog" @submit=${this.#useKey}><h2>${t('key.title')}</h2><p class="dim">${t('key.text')}</p>
				<label class="field"><span class="label">${t('key')}</span><input name="key" type="password" autocomplete="off" required /></label><button class="primary">${t('key.use')}</button></form></dialog>
			<div class="hidden" role="status" aria-live="polite" id="live">${store.live}</div>
			${store.toast ? html`<div class="toast ${store.toast.kind}" role=${store.toast.kind === 'error' ? 'alert' : 'status'}>${store.toast.text}${round(t('close'), 'close', () => ((store.toast = null), store.change()))}</div>` : nothing}`;
	}
}

customElements.define('sorano-studio', Studio);
store.start();
