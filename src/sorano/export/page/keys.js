// The key of this browser: made by WebCrypto, never extractable, kept in IndexedDB; and the certificates that go with it.
//
// A root signs the leaf once, and only its certificate is kept: its private key is gone when this returns. Fields are
// those of `sorano keys init` (src/sorano/trust/provenance/keys.py): X.509 v3, ECDSA P-256, SHA-256.

import { joined } from './mp4.js';

const CURVE = { name: 'ECDSA', namedCurve: 'P-256' }, SIGN = { name: 'ECDSA', hash: 'SHA-256' };
const OID = {
	organisation: [0x55, 4, 10], commonName: [0x55, 4, 3], ecdsa: [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
	constraints: [0x55, 0x1d, 0x13], usage: [0x55, 0x1d, 0x0f], subjectKey: [0x55, 0x1d, 0x0e], authorityKey: [0x55, 0x1d, 0x23],
	extendedUsage: [0x55, 0x1d, 0x25], email: [0x2b, 6, 1, 5, 5, 7, 3, 4], claimSigning: [0x2b, 6, 1, 4, 1, 0x83, 0xe8, 0x5e, 2, 1],
};
const DAY = 86400e3, SLACK = 3600e3;

// DER (ITU-T X.690).
function der(tag, ...content) {
	const body = joined(content);
	const size = body.length < 128 ? [body.length] : body.length < 256 ? [0x81, body.length] : [0x82, body.length >> 8, body.length & 255];
	return joined([Uint8Array.of(tag, ...size), body]);
}
const sequence = (...content) => der(0x30, ...content);
const oid = (bytes) => der(6, Uint8Array.from(bytes));
const octets = (...content) => der(4, ...content);
const bits = (unused, ...content) => der(3, Uint8Array.of(unused), ...content);
const integer = (bytes) => {
	let at = 0;
	while (at < bytes.length - 1 && bytes[at] === 0) at++;
	const rest = bytes.subarray(at);
	return der(2, rest[0] & 0x80 ? Uint8Array.of(0, ...rest) : rest);
};
const time = (at) => der(0x18, `${new Date(at).toISOString().replace(/\.\d+Z/, 'Z').replace(/[-:T]/g, '')}`); // GeneralizedTime from 2050
const utcTime = (at) => der(0x17, new Date(at).toISOString().replace(/\.\d+Z/, 'Z').replace(/[-:T]/g, '').slice(2));
const dated = (at) => (new Date(at).getUTCFullYear() >= 2050 ? time(at) : utcTime(at));
const named = (name, suffix = '') => sequence(
	der(0x31, sequence(oid(OID.organisation), der(0x0c, name))), der(0x31, sequence(oid(OID.commonName), der(0x0c, name.slice(0, 60 - suffix.length) + suffix))));
const extension = (which, isCritical, value) => sequence(oid(which), isCritical ? der(1, Uint8Array.of(255)) : [], octets(value));

/** A signature of WebCrypto, r and s in a row, as DER. */
export const signatureDer = (raw) => sequence(integer(raw.subarray(0, raw.length / 2)), integer(raw.subarray(raw.length / 2)));

const keyId = async (spki) => new Uint8Array(await crypto.subtle.digest('SHA-1', spki.subarray(-65))); // RFC 5280, 4.2.1.2 (1)

async function certificate({ subject, issuer, spki, issuerSpki, key, from, until, isRoot }) {
	const serial = crypto.getRandomValues(new Uint8Array(19));
	serial[0] |= 1;
	const extensions = isRoot
		? [extension(OID.constraints, true, sequence(der(1, Uint8Array.of(255)), integer(Uint8Array.of(0)))), extension(OID.usage, true, bits(1, Uint8Array.of(6)))]
		: [extension(OID.constraints, true, sequence()), extension(OID.usage, true, bits(7, Uint8Array.of(0x80))),
			extension(OID.extendedUsage, false, sequence(oid(OID.email), oid(OID.claimSigning))),
			extension(OID.authorityKey, false, sequence(der(0x80, await keyId(issuerSpki))))];
	extensions.push(extension(OID.subjectKey, false, octets(await keyId(spki))));
	const algorithm = sequence(oid(OID.ecdsa));
	const body = sequence(der(0xa0, integer(Uint8Array.of(2))), integer(serial), algorithm, issuer, sequence(dated(from), dated(until)), subject, spki, der(0xa3, sequence(...extensions)));
	const signature = signatureDer(new Uint8Array(await crypto.subtle.sign(SIGN, key, body)));
	return sequence(body, algorithm, bits(0, signature));
}

async function made(name) {
	const root = await crypto.subtle.generateKey(CURVE, false, ['sign', 'verify']);
	const leaf = await crypto.subtle.generateKey(CURVE, false, ['sign', 'verify']);
	const [rootSpki, spki] = await Promise.all([root, leaf].map(async (pair) => new Uint8Array(await crypto.subtle.exportKey('spki', pair.publicKey))));
	const from = Date.now() - SLACK, issuer = named(name, ' root');
	const common = { issuer, issuerSpki: rootSpki, key: root.privateKey, from };
	return {
		name, key: leaf.privateKey, spki,
		chain: [
			await certificate({ ...common, subject: named(name), spki, until: from + 730 * DAY, isRoot: false }),
			await certificate({ ...common, subject: issuer, spki: rootSpki, until: from + 3650 * DAY, isRoot: true }),
		],
		until: from + 730 * DAY,
	};
}

const asked = (request) => new Promise((resolve, reject) => {
	request.onsuccess = () => resolve(request.result);
	request.onerror = () => reject(request.error);
});

async function store() {
	const request = indexedDB.open('sorano', 1);
	request.onupgradeneeded = () => request.result.createObjectStore('keys');
	return asked(request);
}

/** {name, key, spki, chain} of this browser: kept, or made where there is none or its certificate has ended. */
export async function identity(name) {
	const database = await store();
	try {
		const kept = await asked(database.transaction('keys').objectStore('keys').get('identity'));
		if (kept && kept.until > Date.now()) return kept;
		const own = await made(name);
		await asked(database.transaction('keys', 'readwrite').objectStore('keys').put(own, 'identity'));
		return own;
	} finally {
		database.close();
	}
}

/** The root certificate as PEM, for `sorano trust add`. */
export function rootPem({ chain }) {
	const text = base64(chain.at(-1)).replace(/.{64}/g, '$&\n').trimEnd();
	return `-----BEGIN CERTIFICATE-----\n${text}\n-----END CERTIFICATE-----\n`;
}

/** The public key as a compressed point of 33 bytes (SEC 1). */
export function compressedPoint({ spki }) {
	const point = spki.subarray(-65);
	return Uint8Array.of(2 + (point[64] & 1), ...point.subarray(1, 33));
}

/** The signature of some bytes, r and s in a row. */
export const signed = async (own, bytes) => new Uint8Array(await crypto.subtle.sign(SIGN, own.key, bytes));

export const base64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
