// What every part of the desk shares: light DOM, the language, and what is said to the user.

import { problem } from './i18n.js';
import { sign } from './passkeys.js';
import { get, post } from './web/api.js';
import { inner, LitElement } from './web/parts.js';

export * from './web/parts.js';

export class View extends LitElement {
	createRenderRoot() {
		this.replaceChildren();
		return this;
	}

	#update = () => this.requestUpdate();

	connectedCallback() {
		super.connectedCallback();
		addEventListener('sorano-language', this.#update);
	}

	disconnectedCallback() {
		super.disconnectedCallback();
		removeEventListener('sorano-language', this.#update);
	}

	/** Does something once at a time, and says what came of it: `done` is a sentence, or nothing. */
	async act(what, done = '') {
		if (this.isBusy) return;
		this.isBusy = true;
		this.requestUpdate();
		try {
			const found = await what();
			if (done) say(typeof done === 'function' ? done(found) : done);
			return found;
		} catch (error) {
			say(problem(error), 'error');
			if (error.code === 'not_signed_in') dispatchEvent(new Event('desk-signed-out'));
		} finally {
			this.isBusy = false;
			this.requestUpdate();
		}
	}
}

const SAID = 8000; // ms that a sentence stays

/** A page: who is signed in (undefined: not known yet; null: nobody), and what is said to the user. */
export class Page extends View {
	static properties = { me: inner, said: inner };

	constructor() {
		super();
		addEventListener('desk-say', ({ detail }) => {
			this.said = detail;
			clearTimeout(this.timer);
			this.timer = setTimeout(() => (this.said = null), SAID);
		});
		addEventListener('desk-signed-out', () => this.#look());
		this.#look();
	}

	#look() {
		get('/session').then((me) => (this.me = me), () => (this.me = null));
	}

	signIn() {
		return this.act(async () => ((this.me = await post('/session', await sign('/session/ceremony'))), (this.said = null)));
	}
}

export const say = (text, kind = 'said') => dispatchEvent(new CustomEvent('desk-say', { detail: { text, kind } }));

/** A field of a form. */
export const values = (form) => Object.fromEntries(new FormData(form));
