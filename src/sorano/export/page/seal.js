// What leaves the tab: the AIGC label, and C2PA's manifest signed with this browser's key.
//
// The same words as the engine's (src/sorano/trust/provenance/label.py and credentials.py). Signing is c2pa-rs, compiled
// to WebAssembly (@contentauth/c2pa-wasm); the signature itself, a COSE_Sign1, is made here.

import init, { WasmBuilder, WasmReader } from './runtime/c2pa/c2pa.js';
import { base64, compressedPoint, signed } from './keys.js';
import { digestLeftOut, hex, joined } from './mp4.js';

const encoder = new TextEncoder();
const SOURCE = 'http://cv.iptc.org/newscodes/digitalsourcetype/';
const MOST_INGREDIENT_BYTES = 200e6;
const RESERVED = 2400; // bytes of the signature with its two certificates

/** The id of a mark: the first 40 bits of SHA-256 of the latent, as in `release.id_of`. */
export async function markId(latent, shape, shownAs) {
	const text = `sorano mark 1\0${shape} ${shownAs}\0`;
	const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', joined([text, new Uint8Array(latent.buffer, latent.byteOffset, latent.byteLength)])));
	return digest.subarray(0, 5).reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
}

export const idName = (id) => id.toString(16).padStart(10, '0');

/** The AIGC object (GB 45438-2025), its producer's fields signed. */
export async function label(own, id, producer) {
	const fields = { ContentProducer: producer, Label: '1', ProduceID: `sorano-${idName(id)}` };
	const words = {
		Type: 'ES256',
		Key: base64(compressedPoint(own)),
		Sig: base64(await signed(own, encoder.encode(`sorano aigc 1\0${JSON.stringify(fields)}`))),
	};
	return JSON.stringify({
		Label: fields.Label, ContentProducer: fields.ContentProducer, ProduceID: fields.ProduceID,
		ReservedCode1: JSON.stringify(words), ContentPropagator: '', PropagateID: '', ReservedCode2: '',
	});
}

/** JSON in one spelling, that of RFC 8785: keys by their UTF-16 code units (`sorano.files.canonical`). */
function canonical(value) {
	if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
	if (value === null || typeof value !== 'object') return JSON.stringify(value);
	return `{${Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`).join(',')}}`;
}

/** A manifest's definition, as `credentials._definition` writes it. */
export async function definition({ version, title, id, model, prompt, request, bytes, given }) {
	const agent = { name: 'Sorano', version };
	const value = new Uint8Array(8);
	new DataView(value.buffer).setBigUint64(0, id);
	const identifier = base64(Uint8Array.from(model.sha256.match(/../g), (pair) => parseInt(pair, 16))).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
	const assertions = [
		['c2pa.actions.v2', { actions: [...actions(agent, given), { action: 'c2pa.watermarked.bound', softwareAgent: agent }], allActionsIncluded: true }],
		['c2pa.soft-binding', { alg: 'org.sorano.mark.1', blocks: [{ scope: {}, value: base64(value) }] }],
		['c2pa.ai-disclosure', { modelType: 'c2pa.types.model', contentProfile: { humanOversightLevel: 'prompt_guided' }, modelName: model.name, modelIdentifier: `ni:///sha-256;${identifier}` }],
		['org.sorano.record', { request: { sha256: hex(await crypto.subtle.digest('SHA-256', encoder.encode(canonical(request)))) }, model, ...(prompt ? { prompt } : {}), where: 'a browser tab' }],
		['org.sorano.container', { sha256: await digestLeftOut(bytes) }],
	];
	return {
		claim_generator_info: [{ ...agent, specVersion: '2.4.0' }],
		title: title.slice(0, 200),
		assertions: assertions.map(([name, data]) => ({ label: name, data, created: true })),
	};
}

/** What was done: made; made with a picture; or a video opened and gone on with (C2PA 2.4, 18.15.2). */
function actions(agent, given) {
	const parameters = given && { parameters: { ingredientIds: ['ingredient0'] } };
	if (given?.moves) {
		return [{ action: 'c2pa.opened', ...parameters }, { action: 'c2pa.edited', digitalSourceType: `${SOURCE}compositeWithTrainedAlgorithmicMedia`, softwareAgent: agent }];
	}
	return [{ action: 'c2pa.created', digitalSourceType: `${SOURCE}trainedAlgorithmicMedia`, softwareAgent: agent, ...parameters }];
}

// CBOR (RFC 8949), as much as a COSE_Sign1 (RFC 9052) takes.
function header(major, count) {
	const first = major << 5;
	return count < 24 ? Uint8Array.of(first | count) : count < 256 ? Uint8Array.of(first | 24, count) : Uint8Array.of(first | 25, count >> 8, count & 255);
}
const byteString = (bytes) => joined([header(2, bytes.length), bytes]);
const textString = (text) => joined([header(3, encoder.encode(text).length), text]);
const list = (...items) => joined([header(4, items.length), ...items]);
const NIL = Uint8Array.of(0xf6), COSE_SIGN1 = Uint8Array.of(0xd2);
const ALGORITHM = Uint8Array.of(1, 0x26), X5CHAIN = header(0, 33); // ES256; RFC 9360

/** A COSE_Sign1 of exactly `size` bytes over a claim, with the certificates in its protected header. */
export async function coseSign1(own, claim, size) {
	const whole = joined([header(5, 2), ALGORITHM, X5CHAIN, list(...own.chain.map(byteString))]);
	const toSign = list(textString('Signature1'), byteString(whole), byteString(new Uint8Array(0)), byteString(claim));
	const signature = await signed(own, toSign);
	const padded = (count) => joined([COSE_SIGN1, header(4, 4), byteString(whole), header(5, 1), textString('pad'), byteString(new Uint8Array(count)), NIL, byteString(signature)]);
	const spare = size - padded(256).length;
	if (spare < 0) throw new RangeError(`a signature of ${size} bytes has no room for its certificates`);
	return padded(256 + spare);
}

let ready;
const settings = { verify: { remote_manifest_fetch: false, ocsp_fetch: false }, builder: { thumbnail: { enabled: false } } };

/** Loads c2pa-rs once, from the bytes of its WebAssembly, which `bytes` gives. */
export const load = (bytes) => (ready ??= bytes().then((wasm) => init({ module_or_path: wasm })).catch((error) => { ready = undefined; throw error; }));

/** A file that went in, with its own manifest where it has one that can be taken along. */
async function addIngredient(builder, { file, moves, name }) {
	const words = { title: name.slice(0, 200), relationship: moves ? 'parentOf' : 'inputTo', label: 'ingredient0' };
	try {
		if (file.size > MOST_INGREDIENT_BYTES) throw new RangeError('too large to be read whole');
		await builder.addIngredientFromBlob(JSON.stringify(words), file.type, file);
	} catch {
		builder.addIngredient(JSON.stringify({ ...words, format: file.type || 'application/octet-stream' }));
	}
}

/** The file with its manifest; `given` is {file, moves, name}, what it was made of. */
export async function sealed(own, bytes, words, given) {
	const builder = WasmBuilder.fromJson(JSON.stringify(words), JSON.stringify(settings));
	try {
		if (given) await addIngredient(builder, given);
		const signer = { alg: 'es256', reserveSize: RESERVED, sign: (claim) => coseSign1(own, claim, RESERVED) };
		return await builder.sign(signer, 'video/mp4', new Blob([bytes], { type: 'video/mp4' }));
	} finally {
		builder.free();
	}
}

/** What c2pa-rs reads in a file, as an object; null where there is no manifest. */
export async function read(bytes, type) {
	try {
		const reader = await WasmReader.fromBlob(type, new Blob([bytes], { type }), JSON.stringify(settings));
		try {
			return JSON.parse(reader.json());
		} finally {
			reader.free();
		}
	} catch (error) {
		if (/JumbfNotFound|no manifest|not found/i.test(String(error))) return null;
		throw error;
	}
}
