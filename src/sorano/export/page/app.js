// The page: one form, one worker.

import { jsonOf, saidOf } from './files.js';
import { begunWith } from './given.js';
import { TEXTS } from './texts.js';
import { add, current, setLanguage, t } from './web/i18n.js';

add(TEXTS);
const at = (id) => document.getElementById(id);
const EXAMPLES = {
	en: ['a red ball bounces on the grass at sunset', 'a large blue cube spins on the snow at night', 'a yellow cone falls on the stone at dawn'],
	zh: ['日落时，一个红色的球在草地上弹跳', '夜里，一个巨大的蓝色方块在雪地上旋转', '黎明时，一个黄色圆锥在石地上落下'],
};
const SIMD = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11);

let card, worker, shown = null;
const messages = { stage: null, failed: null, notes: null, verdict: null, state: null }; // what is said, so that another language can say it

/** The first thing that this browser lacks, by the name of its sentence; null where it lacks nothing. */
export async function lacking() {
	if (!isSecureContext || !crypto.subtle) return 'lack.secure';
	if (typeof WebAssembly !== 'object' || !WebAssembly.validate(SIMD)) return 'lack.simd';
	if (typeof VideoEncoder !== 'function' || typeof VideoFrame !== 'function') return 'lack.codec';
	if (!takesModules()) return 'lack.worker';
	return (await keepsKeys()) ? null : 'lack.store';
}

/** Whether workers take modules: a browser that knows them asks for their kind. */
function takesModules() {
	let asked = false;
	const nothing = URL.createObjectURL(new Blob([''], { type: 'text/javascript' }));
	new Worker(nothing, { get type() { asked = true; return 'module'; } }).terminate();
	URL.revokeObjectURL(nothing);
	return asked;
}

const keepsKeys = () => new Promise((resolve) => {
	try {
		const request = indexedDB.open('sorano-probe');
		request.onsuccess = () => { request.result.close(); indexedDB.deleteDatabase('sorano-probe'); resolve(true); };
		request.onerror = () => resolve(false);
	} catch { resolve(false); }
});

/** Says something in a place; a null hides it. */
function say(place, lines, kind = '') {
	messages[place] = lines && { lines, kind };
	const element = at(place);
	element.textContent = lines ? lines.map(([name, values]) => t(name, values)).join(' ') : '';
	if (place === 'stage' || place === 'state') return;
	element.hidden = !lines;
	element.classList.toggle('good', kind === 'good');
	element.classList.toggle('bad', kind === 'bad');
}

function draw() {
	for (const element of document.querySelectorAll('[data-text]')) element.textContent = t(element.dataset.text);
	for (const [place, said] of Object.entries(messages)) if (said) say(place, said.lines, said.kind);
	const names = EXAMPLES[current()] ?? EXAMPLES.en;
	at('examples').replaceChildren(...names.map((text) => {
		const item = document.createElement('li'), button = document.createElement('button');
		button.type = 'button';
		button.textContent = text;
		button.onclick = () => { at('prompt').value = text; at('prompt').focus(); };
		item.append(button);
		return item;
	}));
	if (!at('prompt').value) at('prompt').placeholder = names[0];
	drawResult();
}

function drawResult() {
	if (!shown) return;
	const { made, seed } = shown;
	at('said').textContent = t('said', { seed, seconds: made.total.toFixed(1), id: made.id, signer: made.signer });
	const facts = [['load', `${made.seconds.load.toFixed(1)} s`], ['steps', `${made.seconds.steps.toFixed(1)} s`], ['decode', `${made.seconds.decode.toFixed(1)} s`],
		['seal', `${made.seconds.seal.toFixed(1)} s`], ['codec', made.codec], ['runtime', ranOn(made.webgpu)]];
	at('facts').replaceChildren(...facts.map(([name, value]) => {
		const pair = document.createElement('div'), term = document.createElement('dt'), detail = document.createElement('dd');
		term.textContent = t(`fact.${name}`);
		detail.textContent = value;
		pair.append(term, detail);
		return pair;
	}));
}

/** Where the networks ran, and why not all on WebGPU. */
const ranOn = ({ on, reason }) => t(on.length ? 'runtime.webgpu' : 'runtime.wasm', { names: on.join(', '), reason: reason ? t(`runtime.${reason}`) : '' });

const blobUrl = (element, data, type, name) => {
	if (element.href) URL.revokeObjectURL(element.href);
	element.href = URL.createObjectURL(new Blob([data], { type }));
	element.download = name;
};

const slug = ({ prompt, isPrivate }) => (isPrivate ? '' : prompt.slice(0, 40).replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-|-$/g, '')) || 'video';

function busy(is) {
	at('create').disabled = is;
	at('cancel').hidden = at('working').hidden = !is;
}

const HEARD = {
	progress({ stage, done, total }) {
		say('stage', [[`stage.${stage}`, { done, total }]]);
		at('progress').value = total ? done / total : 0;
	},
	made(made) {
		if (isCancelled) { // the worker had nothing left to do when it was told
			HEARD.cancelled();
			return;
		}
		busy(false);
		shown = { made, seed: asked.seed };
		const { reading } = made;
		const notes = reading.readAs.map(([said, target]) => ['note.read', { said, target }]);
		if (reading.unknown.length) notes.push(['note.unknown', { words: reading.unknown.join(', ') }]);
		say('notes', notes.length ? notes : null);
		blobUrl(at('download'), made.bytes, 'video/mp4', `${slug(asked)}-${asked.seed}.mp4`);
		blobUrl(at('root'), made.root, 'application/x-pem-file', 'sorano-browser.pem');
		at('video').src = at('download').href;
		at('result').hidden = false;
		drawResult();
		at('video').play().catch(() => {}); // where a browser forbids it, the button is there
	},
	cancelled() {
		busy(false);
		say('notes', [['cancelled', {}]]);
	},
	failed({ code, values }) {
		busy(false);
		say('failed', [[`fail.${code}`, values]], 'bad');
	},
	verified({ found }) { say('verdict', ...verdict(found)); },
	unverified({ code, values }) { say('verdict', [[`fail.${code}`, values]], 'bad'); },
};

function verdict(found) {
	if (!found) return [[['verdict.none', {}]]];
	const manifest = found.manifests?.[found.active_manifest] ?? {};
	const results = found.validation_results?.activeManifest ?? {};
	if (!['Valid', 'Trusted'].includes(found.validation_state)) {
		const codes = (results.failure ?? []).map((one) => one.code).filter((code) => code !== 'signingCredential.untrusted'); // nobody is trusted here
		return [[['verdict.invalid', { codes: codes.join(', ') || found.validation_state }]], 'bad'];
	}
	const generator = (manifest.claim_generator_info ?? []).map((one) => `${one.name} ${one.version ?? ''}`.trim()).join(', ');
	return [[['verdict.valid', { signer: manifest.signature_info?.common_name ?? manifest.signature_info?.issuer ?? '?', generator }]], 'good'];
}

let asked, unsent = null, isCancelled = false; // the last request; the one whose file is being read, before the worker has it

async function create(event) {
	event.preventDefault();
	const [file] = at('given').files;
	say('failed', null);
	say('notes', null);
	const seed = at('seed').value === '' ? crypto.getRandomValues(new Uint32Array(1))[0] : Number(at('seed').value);
	const request = asked = unsent = {
		prompt: at('prompt').value, seed, numSteps: Number(at('steps').value), guidance: Number(at('guidance').value),
		producer: 'Sorano', isPrivate: at('private').checked,
	};
	isCancelled = false;
	busy(true);
	say('stage', [['stage.load', { done: 0, total: 3 }]]);
	at('progress').value = 0;
	if (file) {
		try {
			Object.assign(request, await begunWith(file, card));
		} catch (error) {
			if (unsent !== request) return; // cancelled, which has been said
			unsent = null;
			const { code, values } = saidOf(error, 'given');
			HEARD.failed({ code, values: { name: file.name, ...values } });
			return;
		}
	}
	if (unsent !== request) return;
	unsent = null;
	worker.postMessage({ kind: 'create', request });
}

function cancel() {
	isCancelled = true;
	if (!unsent) {
		worker.postMessage({ kind: 'cancel' });
		return;
	}
	unsent = null;
	HEARD.cancelled();
}

async function keep() {
	if (!navigator.serviceWorker) return;
	try {
		const registration = await navigator.serviceWorker.register('sw.js');
		const coming = registration.installing ?? registration.waiting;
		if (!registration.active) {
			say('state', [['device.keeping', {}]]);
			await new Promise((resolve, reject) => coming.addEventListener('statechange', () => {
				if (coming.state === 'activated') resolve();
				if (coming.state === 'redundant') reject(new Error('the service worker could not keep the files'));
			}));
		}
		say('state', [['device.offline', {}]]);
	} catch {
		say('state', [['device.unkept', {}]]);
	}
}

async function begin() {
	at('language').onclick = () => setLanguage(current() === 'zh' ? 'en' : 'zh');
	addEventListener('sorano-language', draw);
	draw();
	const lack = await lacking();
	if (lack) {
		at('lacking').textContent = t(lack);
		at('lacking').dataset.text = lack;
		at('lacking').hidden = false;
		at('create').disabled = true;
		return;
	}
	try {
		card = await jsonOf('model/model.json');
		start();
	} catch (error) {
		HEARD.failed(saidOf(error));
		at('create').disabled = true; // there is nothing that could make a video
		return;
	}
	await keep();
}

/** Fills the form with the model's own settings, and starts the worker. */
function start() {
	at('steps').value = card.num_steps;
	at('guidance').value = card.guidance;
	worker = new Worker('worker.js', { type: 'module' });
	worker.onmessage = ({ data }) => HEARD[data.kind]?.(data);
	worker.onerror = (event) => HEARD.failed({ code: 'unknown', values: { message: event.message ?? '' } });
	at('form').addEventListener('submit', create);
	at('cancel').onclick = cancel;
	at('file').onchange = () => at('file').files[0] && worker.postMessage({ kind: 'verify', file: at('file').files[0] });
	at('given-row').hidden = !card.known.includes('first');
	document.documentElement.dataset.ready = 'yes';
}

begin();
