// What every part of the desk shares: light DOM, the language, and what is said to the user.

import { problem } from './i18n.js';
import { LitElement } from './web/parts.js';

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

export const say = (text, kind = 'said') => dispatchEvent(new CustomEvent('desk-say', { detail: { text, kind } }));

/** A field of a form. */
export const values = (form) => Object.fromEntries(new FormData(form));
