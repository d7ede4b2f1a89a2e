// A call's connections: what this page sends and shows, and what the desk says.

import { Marker } from './call-marker.js';
import { sign } from './passkeys.js';
import { ask, post } from './web/api.js';

const LOOK = 500; // ms between two questions to the desk

export class Room {
	constructor(id, joined, changed) {
		Object.assign(this, { id, tile: joined.tile, token: joined.token, changed, shown: null, streams: new Map(), links: new Map() });
		this.key = joined.frame_key ? Uint8Array.from(atob(joined.frame_key), (one) => one.charCodeAt(0)) : null;
		this.marker = this.key ? new Marker() : null;
	}

	static async join(id, changed) {
		return new Room(id, await post(`/rooms/${id}/join`, await sign(`/rooms/${id}/ceremony`)), changed);
	}

	static async joinGuest(id, code, name, changed) {
		return new Room(id, await post(`/rooms/${id}/guest`, { code, name }), changed);
	}

	async #ask(method, path, body) {
		const given = { body, headers: { 'x-call-token': this.token }, keepalive: method === 'DELETE' };
		return (await ask(method, `/rooms/${this.id}${path}`, given)).json();
	}

	/** Sends the camera, marked where this tile has a key, and looks at the others from then on. */
	async start(camera) {
		let [track] = camera.getVideoTracks();
		this.streams.set(this.tile, camera);
		if (this.marker) {
			await this.#slots();
			this.slotTimer = setInterval(() => this.#slots().catch(() => {}), 1000);
			track = this.marker.track(track);
		}
		const link = new RTCPeerConnection();
		this.links.set(this.tile, link);
		const { sender } = link.addTransceiver(track, { direction: 'sendonly' });
		if (this.key && 'RTCRtpScriptTransform' in window) { // at once: what is set later is passed by in Chromium
			this.worker = new Worker('call-frames.js');
			sender.transform = new RTCRtpScriptTransform(this.worker, { key: this.key });
		}
		const parameters = sender.getParameters();
		parameters.degradationPreference = 'maintain-resolution';
		for (const one of parameters.encodings) one.maxBitrate = 500_000;
		await sender.setParameters(parameters).catch(() => {});
		await this.#offer(link, this.tile, 'send');
		this.timer = setInterval(() => this.#look().catch(() => {}), LOOK);
		addEventListener('pagehide', () => this.leave());
	}

	async #offer(link, tile, verb) {
		await link.setLocalDescription(await link.createOffer());
		if (link.iceGatheringState !== 'complete') {
			await new Promise((done) => {
				link.addEventListener('icegatheringstatechange', () => link.iceGatheringState === 'complete' && done());
				setTimeout(done, 2000);
			});
		}
		await link.setRemoteDescription(await this.#ask('POST', `/tiles/${tile}/${verb}`, { sdp: link.localDescription.sdp }));
	}

	async #slots() {
		const asked = performance.now();
		const told = await this.#ask('GET', `/tiles/${this.tile}/slots`);
		this.marker.hear(told, (asked + performance.now()) / 2);
		const slots = this.marker.seen();
		if (Object.keys(slots).length) await this.#ask('POST', `/tiles/${this.tile}/content`, { slots });
	}

	async #look() {
		this.shown = await this.#ask('GET', '');
		for (const { id, state } of this.shown.tiles) {
			if (!this.links.has(id) && state !== 'no_picture') this.#watch(id).catch(() => this.#drop(id));
		}
		const here = new Set(this.shown.tiles.map(({ id }) => id));
		for (const id of this.links.keys()) if (!here.has(id) && id !== this.tile) this.#drop(id);
		this.changed();
	}

	#drop(tile) {
		this.links.get(tile)?.close();
		this.links.delete(tile);
		this.streams.delete(tile);
	}

	async #watch(tile) {
		const link = new RTCPeerConnection();
		this.links.set(tile, link);
		link.onconnectionstatechange = () => link.connectionState === 'failed' && this.#drop(tile);
		link.addTransceiver('video', { direction: 'recvonly' });
		link.ontrack = ({ track }) => {
			this.streams.set(tile, new MediaStream([track]));
			this.changed();
		};
		await this.#offer(link, tile, 'watch');
	}

	challenge(tile) {
		return this.#ask('POST', `/tiles/${tile}/light`);
	}

	async leave() {
		clearInterval(this.timer);
		clearInterval(this.slotTimer);
		for (const link of this.links.values()) link.close();
		for (const track of this.streams.get(this.tile)?.getTracks() ?? []) track.stop();
		this.worker?.terminate();
		await this.#ask('DELETE', `/tiles/${this.tile}`).catch(() => {});
	}
}
