// Light DOM (one style sheet, labels across parts), and news.

import { contentUrl, fileUrl } from './api.js';
import { store } from './store.js';
import { LitElement, nothing } from './web/parts.js';

export * from './web/parts.js';

export class View extends LitElement {
	createRenderRoot() {
		return this;
	}

	#update = () => this.requestUpdate();

	connectedCallback() {
		super.connectedCallback();
		store.addEventListener('change', this.#update);
		addEventListener('sorano-language', this.#update);
	}

	disconnectedCallback() {
		super.disconnectedCallback();
		store.removeEventListener('change', this.#update);
		removeEventListener('sorano-language', this.#update);
	}

	/** The address of a finished video's file, for an attribute. */
	url(id, variant) {
		return fileUrl(contentUrl(id, variant), this.#update) || nothing;
	}

	/** Of elements that take what is dropped on them: `dropped` gets a file, or a card's video. */
	drag = (event) => {
		if (!isDrop(event) || event.defaultPrevented) return;
		event.preventDefault();
		this.over = event.type === 'dragover';
		const video = store.videos.get(event.dataTransfer.getData(VIDEO_TYPE));
		if (event.type === 'drop') this.dropped(video ? null : event.dataTransfer.files[0], video);
	};
}

/** Puts an element for each item, by its key, into a place in this order, and moves none that is there already. */
export function arrange(place, items, keyOf, make) {
	place.known ??= new Map();
	const elements = items.map((one) => {
		const name = keyOf(one);
		if (!place.known.has(name)) place.known.set(name, document.createElement(make(one)));
		return Object.assign(place.known.get(name), { value: one });
	});
	for (const [name, one] of place.known) if (!elements.includes(one)) (one.remove(), place.known.delete(name));
	elements.forEach((one, at) => place.children[at] !== one && place.insertBefore(one, place.children[at] ?? null));
}

export const VIDEO_TYPE = 'application/x-sorano-video';

const isDrop = (event) => [...event.dataTransfer.types].some((one) => one === 'Files' || one === VIDEO_TYPE);
