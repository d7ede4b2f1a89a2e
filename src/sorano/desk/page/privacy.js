// What the desk stores, how long, and how it is erased; for whoever asks, signed in or not.

import { t } from './i18n.js';
import { html, inner, nothing, View } from './view.js';
import { get } from './web/api.js';

const HELD = ['request', 'person', 'passkey', 'code', 'payee', 'session', 'call', 'picture', 'verdict', 'question', 'receipt'];

class Privacy extends View {
	static properties = { held: inner };

	connectedCallback() {
		super.connectedCallback();
		this.act(async () => (this.held = await get('/privacy')));
	}

	render() {
		if (!this.held) return nothing;
		const values = { days: this.held.keep_days, minutes: this.held.session_minutes };
		return html`<section><h1>${t('privacy')}</h1><p class="dim">${t('privacy.text')}</p>
			<p>${t(this.held.has_endpoint ? 'privacy.endpoint' : 'privacy.no_endpoint')}</p></section>
			${HELD.map((one) => html`<section class="sheet"><h2>${t(`privacy.${one}`)}</h2><dl class="facts">
				<div><dt>${t('privacy.long')}</dt><dd>${t(`privacy.${one}.long`, values)}</dd></div>
				<div><dt>${t('privacy.erased')}</dt><dd>${t(`privacy.${one}.erased`, values)}</dd></div></dl></section>`)}`;
	}
}

customElements.define('desk-privacy', Privacy);
