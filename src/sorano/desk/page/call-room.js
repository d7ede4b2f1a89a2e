// A call's connections: what this page sends and shows, and what the desk says.

import { Marker } from './call-marker.js';
import { sign } from './passkeys.js';
import { ask, post } from './web/api.js';

const LOOK = 500; // ms between two questions to the desk
const RATES = { frame: 500_000, sound: 32_000 }; // bits a second, at most

const bytes = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));

export class Room {
	constructor(id, joined, changed) {
		Object.assign(this, { id, tile: joined.tile, token: joined.token, changed, shown: null, streams: new Map(), links: new Map() });
		this.key = joined.frame_key ? bytes(joined.frame_key) : null;
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

	/** Sends camera and microphone, marked where this tile has a key, and looks at the others from then on. */
	async start(camera) {
		let [[track], [sound]] = [camera.getVideoTracks(), camera.getAudioTracks()];
		this.microphone = sound;
		this.streams.set(this.tile, camera);
		if (this.marker) {
			if (sound) sound = await this.#marked(sound);
			await this.#slots();
			this.slotTimer = setInterval(() => this.#slots().catch(() => {}), 1000);
			track = this.marker.track(track);
		}
		const link = new RTCPeerConnection();
		this.links.set(this.tile, link);
		if (this.key && 'RTCRtpScriptTransform' in window) this.worker = new Worker('call-frames.js');
		const sending = this.#add(link, track, 'frame');
		if (sound) await this.#add(link, sound, 'sound');
		await sending;
		await this.#offer(link, this.tile, 'send');
		this.timer = setInterval(() => this.#look().catch(() => {}), LOOK);
		addEventListener('pagehide', () => this.leave());
	}

	/** Begins to send a track: `kind` is frame or sound. */
	async #add(link, track, kind) {
		const { sender } = link.addTransceiver(track, { direction: 'sendonly' });
		if (this.worker) sender.transform = new RTCRtpScriptTransform(this.worker, { key: this.key, kind }); // at once: what is set later is passed by in Chromium
		const parameters = sender.getParameters();
		parameters.degradationPreference = 'maintain-resolution';
		for (const one of parameters.encodings) one.maxBitrate = RATES[kind];
		await sender.setParameters(parameters).catch(() => {});
	}

	/** A track of a microphone's marked sound. */
	async #marked(microphone) {
		const mono = { channelCount: 1, channelCountMode: 'explicit' };
		this.audio = new AudioContext({ sampleRate: 48_000 });
		await this.audio.audioWorklet.addModule('call-sound.js');
		this.sound = new AudioWorkletNode(this.audio, 'sound-marker', { ...mono, outputChannelCount: [1] });
		const end = new MediaStreamAudioDestinationNode(this.audio, mono);
		this.audio.createMediaStreamSource(new MediaStream([microphone])).connect(this.sound).connect(end);
		return end.stream.getAudioTracks()[0];
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
		this.sound?.port.postMessage({
			offset: performance.now() / 1000 - this.marker.began - this.audio.currentTime,
			slots: told.slots.map(({ slot, cells }) => ({ slot, cells: bytes(cells) })),
		});
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
		for (const kind of ['video', 'audio']) link.addTransceiver(kind, { direction: 'recvonly' });
		link.ontrack = ({ track }) => {
			this.streams.set(tile, new MediaStream([...(this.streams.get(tile)?.getTracks() ?? []), track]));
			this.changed();
		};
		await this.#offer(link, tile, 'watch');
	}

	challenge(tile) {
		return this.#ask('POST', `/tiles/${tile}/light`);
	}

	/** Whether a tile just said the two words: {heard, agree}. */
	checkWords(tile) {
		return this.#ask('POST', `/tiles/${tile}/words`);
	}

	async leave() {
		clearInterval(this.timer);
		clearInterval(this.slotTimer);
		for (const link of this.links.values()) link.close();
		for (const track of this.streams.get(this.tile)?.getTracks() ?? []) track.stop();
		this.worker?.terminate();
		this.audio?.close();
		await this.#ask('DELETE', `/tiles/${this.tile}`).catch(() => {});
	}
}
