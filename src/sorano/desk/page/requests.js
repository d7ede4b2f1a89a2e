// Requests: those that wait for one's answer, large and to be read; all others as a list; and a form for a new one.

import { moment, t } from './i18n.js';
import { sign } from './passkeys.js';
import { button, html, icon, inner, nothing, say, values, View, warning } from './view.js';
import { get, post } from './web/api.js';

const EVERY = 4000; // ms between two looks
const ACTIONS = ['transfer', 'payment', 'change_account', 'other'];

const money = (one) => `${one.currency} ${one.amount.replace(/\B(?=(\d{3})+(?!\d))/g, (all, _, at, text) => (text.indexOf('.') > 0 && at > text.indexOf('.') ? '' : ','))}`;
const needed = (one) => one.needs.requester + one.needs.independent;
const fact = (name, value, kind = '') => (value ? html`<div class=${kind}><dt>${t(name)}</dt><dd>${value}</dd></div>` : nothing);

class Requests extends View {
	static properties = { rows: inner, me: {} };

	connectedCallback() {
		super.connectedCallback();
		this.rows = null;
		this.#look();
		this.timer = setInterval(() => this.#look(), EVERY);
	}

	disconnectedCallback() {
		super.disconnectedCallback();
		clearInterval(this.timer);
	}

	async #look() {
		if (this.isBusy || document.hidden) return;
		try {
			this.rows = (await get('/requests')).data;
		} catch (error) {
			if (error.code === 'not_signed_in') dispatchEvent(new Event('desk-signed-out'));
		}
	}

	async #answer(event, one, how) {
		const digits = event.target.closest('form').elements.digits.value;
		await this.act(async () => {
			const signed = await sign(`/requests/${one.id}/ceremony`);
			await post(`/requests/${one.id}/${how}`, { ...signed, digits });
		}, t('recorded'));
		this.#look();
	}

	async #code(event, one) {
		const { digits, code } = event.target.closest('form').elements;
		await this.act(() => post(`/requests/${one.id}/code`, { digits: digits.value, code: code.value }), t('recorded'));
		this.#look();
	}

	async #deny(one) {
		await this.act(() => post(`/requests/${one.id}/deny`, {}), t('denied'));
		this.#look();
	}

	#card(one) {
		const same = new Set(one.account.replace(/[^\p{L}\p{N}]/gu, '').slice(-4)).size < 2;
		const minutes = Math.max(0, Math.ceil((one.expires_at - Date.now() / 1000) / 60));
		return html`<article class="sheet ask" aria-label="${money(one)} · ${one.payee}">
			<p class="part">${t(`your.part.${one.my_part}`)}</p>
			<dl class="big">${fact('amount', money(one), 'sum')}${fact('payee', one.payee)}${fact('account', html`<code>${one.account}</code>`)}</dl>
			<dl class="facts">${fact('action', t(`action.${one.action}`))}${fact('requested_by', one.requested_by)}${fact('filed_by', one.filed_by)}${fact('call_id', one.call_id)}${fact('note', one.note, 'all')}</dl>
			${one.reasons.length ? html`<div class="reasons"><h2>${t('why')}</h2><ul>${one.reasons.map((reason) => html`<li>${icon('warn')}${t(`reason.${reason.code}`)}</li>`)}</ul></div>` : nothing}
			<form @submit=${(event) => (event.preventDefault(), this.#answer(event, one, 'approve'))}>
				<label class="field"><span class="label">${t(same ? 'type.amount' : 'type.account')}</span><input name="digits" required autocomplete="off" maxlength="16" spellcheck="false" /></label>
				<button class="primary wide" ?disabled=${this.isBusy}>${icon('seal')}${t('approve')}</button>
				${one.takes_codes ? html`<details><summary>${t('code')}</summary><div class="row"><label class="field"><span class="label">${t('six')}</span><input name="code" inputmode="numeric" autocomplete="one-time-code" maxlength="6" /></label>${button(t('code.use'), (event) => this.#code(event, one))}</div></details>` : nothing}
				<div class="row ends"><button type="button" class="danger" ?disabled=${this.isBusy} @click=${() => this.#deny(one)}>${t('deny')}</button>
					<button type="button" class="quiet" title=${t('duress.text')} ?disabled=${this.isBusy} @click=${(event) => this.#answer(event, one, 'duress')}>${t('duress')}</button></div>
			</form>
			<p class="dim">${t('until', { minutes })} · ${t('approvals', { done: one.approvals.length, needed: needed(one) })}</p>
		</article>`;
	}

	#line(one) {
		const cools = one.status === 'cleared' && one.release_from > Date.now() / 1000;
		return html`<li class="line"><span class="state ${one.status}">${t(`status.${one.status}`)}</span>
			<span class="what"><b>${one.amount ? money(one) : '—'}</b> ${one.payee ?? ''}<small>${moment(one.created_at)} · ${t('requested_by')}: ${one.requested_by} · ${t('approvals', { done: one.approvals.length, needed: needed(one) })}${cools ? ` · ${t('cooling', { at: moment(one.release_from) })}` : ''}</small>
			${one.is_duress ? warning(t('alarm'), 'bad') : nothing}</span>
			${['pending', 'cleared'].includes(one.status) ? button(t('deny'), () => this.#deny(one)) : nothing}</li>`;
	}

	render() {
		if (this.rows === null) return nothing;
		const mine = this.rows.filter((one) => one.my_part);
		const others = this.rows.filter((one) => !one.my_part);
		return html`<section aria-labelledby="waiting"><h1 id="waiting">${t('waiting')}</h1><p class="dim">${t('about')}</p>
				${mine.length ? mine.map((one) => this.#card(one)) : html`<p class="sheet empty">${t('none')}</p>`}</section>
			${others.length ? html`<section aria-labelledby="others"><h2 id="others">${t('others')}</h2><ul class="sheet lines">${others.map((one) => this.#line(one))}</ul></section>` : nothing}`;
	}
}

class NewRequest extends View {
	static properties = { people: inner, made: inner };

	connectedCallback() {
		super.connectedCallback();
		this.people = [];
		this.act(async () => (this.people = (await get('/people')).data));
	}

	async #file(event) {
		event.preventDefault();
		const form = event.target;
		const made = await this.act(() => post('/requests', values(form)));
		if (!made) return;
		this.made = made;
		say(t(made.status === 'denied' ? 'filed.denied' : 'filed'), made.status === 'denied' ? 'error' : 'said');
		form.reset();
	}

	render() {
		const text = (name, more = {}) => html`<label class="field ${more.all ? 'all' : ''}"><span class="label">${t(name)}</span><input name=${name} ?required=${!more.free} maxlength=${more.most ?? 140} inputmode=${more.mode ?? nothing} value=${more.value ?? ''} placeholder=${more.hint ?? ''} autocomplete="off" /></label>`;
		return html`<form class="sheet" @submit=${this.#file}><h1>${t('new')}</h1><p class="dim">${t('file.text')}</p>
			<div class="settings">
				<label class="field"><span class="label">${t('action')}</span><select name="action">${ACTIONS.map((one) => html`<option value=${one}>${t(`action.${one}`)}</option>`)}</select></label>
				<label class="field"><span class="label">${t('requested_by')}</span><select name="requested_by">${this.people.map((one) => html`<option value=${one.handle}>${one.name} (${one.handle})</option>`)}</select></label>
				${text('amount', { mode: 'decimal', hint: '13300000.00', most: 20 })}${text('currency', { most: 3, value: 'HKD' })}
				${text('payee', { all: true })}${text('account', { all: true, most: 64 })}${text('note', { all: true, free: true, most: 1000 })}${text('call_id', { all: true, free: true, most: 100 })}
			</div>
			<button class="primary" ?disabled=${this.isBusy}>${t('file')}</button>
			${this.made ? html`<div class="reasons" role="status"><h2>${t(`status.${this.made.status}`)}</h2><ul>${this.made.reasons.map((one) => html`<li>${icon('warn')}${t(`reason.${one.code}`)}</li>`)}</ul></div>` : nothing}
		</form>`;
	}
}

customElements.define('desk-requests', Requests);
customElements.define('desk-new', NewRequest);
