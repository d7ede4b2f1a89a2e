// What is being made and what waits: steps, a preview, the order, pause and cancel.

import { fileUrl } from './api.js';
import { duration, has, t } from './i18n.js';
import { store } from './store.js';
import { View, arrange, html, nothing, round } from './view.js';

class Queue extends View {
	render() {
		const active = store.active;
		if (!active.length) return nothing;
		return html`<section class="queue" aria-labelledby="queue-title">
			<h2 id="queue-title">${t('queue')}<span class="count">${active.length}</span></h2>
			<div class="jobs" role="list"></div>
		</section>`;
	}

	updated() {
		const place = this.querySelector('.jobs');
		if (place) arrange(place, store.active, (one) => one.id, () => 'sorano-job');
	}
}

class Job extends View {
	static properties = { value: { attribute: false } };

	connectedCallback() {
		super.connectedCallback();
		this.role = 'listitem';
	}

	render() {
		const video = this.value;
		const prompt = video.prompt ?? video.id;
		const isRunning = video.status === 'in_progress';
		const preview = video.preview_url && fileUrl(video.preview_url, () => this.requestUpdate());
		const button = (name, picture, act) => round(t(name), picture, act, { of: prompt });
		return html`<div class="job ${isRunning ? 'running' : video.is_paused ? 'held' : ''}">
			<div class="queue-picture">${preview ? html`<img src=${preview} alt=${t('preview', { prompt })} />` : html`<div class="shimmer"></div>`}</div>
			<div class="queue-text">
				<p class="queue-prompt">${prompt}</p>
				<p class="dim queue-said"><span>${said(video)}</span><span>${left(video)}</span></p>
				${isRunning ? html`<div class="bar" role="progressbar" aria-label=${t('progress', { prompt })} aria-valuemin="0" aria-valuemax="100" aria-valuenow=${video.progress}><i .style=${`transform:scaleX(${video.progress / 100})`}></i></div>` : nothing}
			</div>
			<div class="queue-tools">
				${isRunning ? nothing : html`${button('up', 'up', () => store.move(video.id, 'up'))}${button('top', 'top', () => store.move(video.id, 'top'))}
					${video.is_paused ? button('resume', 'play', () => store.resume(video.id)) : button('pause', 'pause', () => store.pause(video.id))}`}
				${button('cancel', 'close', () => store.cancel(video.id))}
			</div>
		</div>`;
	}
}

function said(video) {
	if (video.is_paused) return t('paused');
	if (video.status === 'queued') return video.queue_position ? t('queue.position', { position: video.queue_position }) : t('starting');
	if (!video.stage) return t('starting');
	const name = `stage.${video.stage}`;
	return has(name) ? t(name, { step: video.step ?? 0, steps: video.num_steps ?? '' }) : video.stage;
}

const left = (video) => (!video.seconds_left || video.is_paused ? '' : t('left', { time: duration(video.seconds_left) }));

customElements.define('sorano-job', Job);
customElements.define('sorano-queue', Queue);
