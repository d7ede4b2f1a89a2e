// The page: head, who is signed in, the part that the address names, what is said to the user.

import './people.js';
import './privacy.js';
import './requests.js';
import { current, setLanguage, t } from './i18n.js';
import { html, inner, nothing, Page, round, switchTheme } from './view.js';
import { remove } from './web/api.js';

class Desk extends Page {
	static properties = { part: inner };

	constructor() {
		super();
		this.#go();
		addEventListener('hashchange', () => this.#go());
	}

	#go() {
		this.part = location.hash.slice(1) || 'requests';
		document.title = `Sorano · ${t('desk')}`;
	}

	#signOut() {
		return this.act(async () => (await remove('/session'), (this.me = null)));
	}

	#body() {
		if (this.part === 'enrol') return html`<desk-enrol></desk-enrol>`;
		if (this.part === 'privacy') return html`<desk-privacy></desk-privacy>`;
		if (this.me === undefined) return nothing;
		if (this.me === null) return html`<section class="narrow"><div class="sheet"><h1>${t('desk')}</h1><p class="dim">${t('sign.in.text')}</p>
			<button type="button" class="primary wide" ?disabled=${this.isBusy} @click=${this.signIn}>${t('sign.in')}</button></div></section>`;
		if (this.part === 'new') return html`<desk-new></desk-new>`;
		if (this.part === 'people') return html`<desk-people .me=${this.me}></desk-people>`;
		return html`<desk-requests .me=${this.me}></desk-requests>`;
	}

	render() {
		const parts = this.me ? ['requests', ...(this.me.roles.includes('file') ? ['new'] : []), 'people'] : ['requests', 'enrol'];
		return html`<header class="top">
				<a class="skip" href="#content" @click=${(event) => (event.preventDefault(), document.getElementById('content').focus())}>${t('skip')}</a>
				<a class="brand" href="#requests" aria-label="Sorano"><img src="web/icon.svg" alt="" /><b>Sorano</b></a>
				<nav aria-label=${t('desk')}>${parts.map((one) => html`<a href="#${one}" aria-current=${this.part === one ? 'page' : nothing}>${t(one)}</a>`)}${this.me ? html`<a href="call">${t('call')}</a>` : nothing}</nav>
				<div class="top-end">${this.me ? html`<span class="me">${this.me.name}</span><button type="button" class="text" @click=${this.#signOut}>${t('sign.out')}</button>` : nothing}
					<button type="button" class="text" lang=${current() === 'zh' ? 'en' : 'zh-CN'} @click=${() => setLanguage(current() === 'zh' ? 'en' : 'zh')}>${t('language')}</button>
					${round(t('theme'), 'moon', switchTheme)}</div>
			</header>
			<main id="content" tabindex="-1">${this.#body()}</main>
			<footer class="dim">${t('footer')} <a href="#privacy">${t('privacy')}</a></footer>
			<div class="say" role="status" aria-live="polite">${this.said ? html`<p class=${this.said.kind}>${this.said.text}</p>` : nothing}</div>`;
	}
}

customElements.define('sorano-desk', Desk);
