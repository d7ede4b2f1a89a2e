// People: the directory, enrolments that two vouch for, and the enrolment of this device.

import { t } from './i18n.js';
import { make, sign } from './passkeys.js';
import { button, check, html, inner, nothing, values, View } from './view.js';
import { get, post } from './web/api.js';

const KINDS = ['enrol', 'recover', 'totp'];
const ROLES = ['file', 'approve', 'admin'];

class People extends View {
	static properties = { people: inner, tickets: inner, half: inner, me: {} };

	connectedCallback() {
		super.connectedCallback();
		this.people = this.tickets = [];
		this.roles = new Set(['file']);
		this.#look();
	}

	#look() {
		return this.act(async () => {
			[this.people, this.tickets] = [(await get('/people')).data, (await get('/tickets')).data];
		});
	}

	async #open(event) {
		event.preventDefault();
		const form = event.target;
		const body = { ...values(form), roles: [...this.roles] };
		if (await this.act(() => post('/tickets', body))) form.reset();
		this.#look();
	}

	async #vouch(one) {
		const made = await this.act(async () => post(`/tickets/${one.id}/sponsor`, await sign(`/tickets/${one.id}/ceremony`)));
		if (made) this.half = made;
		this.#look();
	}

	render() {
		const isAdmin = this.me?.roles.includes('admin');
		return html`<section><h1>${t('people')}</h1><ul class="sheet lines">${this.people.map(
			(one) => html`<li class="line"><span class="what"><b>${one.name}</b> ${one.handle}${one.roles ? html`<small>${one.roles.map((role) => t(`role.${role}`)).join(' · ')} · ${t('passkeys')}: ${one.passkeys}</small>` : nothing}</span></li>`,
		)}</ul></section>
		<section><h2>${t('tickets')}</h2>${this.half ? html`<p class="sheet half" role="status">${t('half')} <code>${this.half.half}</code></p>` : nothing}
			<ul class="sheet lines">${this.tickets.length ? this.tickets.map(
				(one) => html`<li class="line"><span class="what"><b>${one.name}</b> ${t(`kind.${one.kind}`)} <code>${one.id}</code><small>${t('vouch.text', one)}</small></span>${one.can_vouch ? button(t('vouch'), () => this.#vouch(one), 'seal') : nothing}</li>`,
			) : html`<li class="line dim">${t('tickets.none')}</li>`}</ul></section>
		${isAdmin ? html`<form class="sheet" @submit=${this.#open}><h2>${t('ticket.title')}</h2><div class="settings">
			<label class="field"><span class="label">${t('ticket.kind')}</span><select name="kind">${KINDS.map((one) => html`<option value=${one}>${t(`kind.${one}`)}</option>`)}</select></label>
			<label class="field"><span class="label">${t('handle')}</span><input name="handle" required maxlength="40" autocomplete="off" /></label>
			<label class="field all"><span class="label">${t('name')}</span><input name="name" maxlength="100" autocomplete="off" /></label>
			<fieldset class="all"><legend class="label">${t('roles')}</legend>${ROLES.map((one) => check(t(`role.${one}`), this.roles.has(one), (on) => this.roles[on ? 'add' : 'delete'](one)))}</fieldset>
			</div><button class="primary" ?disabled=${this.isBusy}>${t('ticket.open')}</button></form>` : nothing}`;
	}
}

class Enrol extends View {
	static properties = { asked: inner };

	async #begin(event) {
		event.preventDefault();
		const { code } = values(event.target);
		const done = await this.act(async () => {
			const asked = await post('/enrol/ceremony', { code });
			if (asked.kind === 'totp') return (this.asked = asked), null;
			return make(code, asked);
		});
		if (done) this.#end();
	}

	async #prove(event) {
		event.preventDefault();
		const code = this.querySelector('[name=code]').value;
		if (await this.act(() => post('/enrol', { code, digits: values(event.target).digits }))) this.#end();
	}

	#end() {
		dispatchEvent(new CustomEvent('desk-say', { detail: { text: t('enrol.done'), kind: 'said' } }));
		location.hash = '#requests';
	}

	render() {
		return html`<section class="narrow"><form class="sheet" @submit=${this.#begin}><h1>${t('enrol')}</h1><p class="dim">${t('enrol.text')}</p>
			<label class="field"><span class="label">${t('enrol.code')}</span><input name="code" required autocomplete="off" spellcheck="false" placeholder="tic_….ABCDEFGHJK.LMNPQRSTUV" /></label>
			<button class="primary" ?disabled=${this.isBusy}>${t('enrol.go')}</button></form>
			${this.asked ? html`<form class="sheet" @submit=${this.#prove}><p>${t('secret', this.asked)}</p><label class="field"><span class="label">${t('six')}</span><input name="digits" required inputmode="numeric" maxlength="6" autocomplete="one-time-code" /></label><button class="primary">${t('enrol.go')}</button></form>` : nothing}</section>`;
	}
}

customElements.define('desk-people', People);
customElements.define('desk-enrol', Enrol);
