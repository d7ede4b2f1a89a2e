// Files of this folder, each checked against the SHA-256 that files.json names before it is used.

import { hex } from './mp4.js';

let listed;

/** {name: {sha256, bytes}} of every file. */
export const list = () => (listed ??= fetch(new URL('./files.json', import.meta.url)).then((answer) => answer.json()).catch(() => {
	listed = undefined;
	throw new Failure('missing', { name: 'files.json' });
}));

/** What went wrong, by a name that the page has words for. */
export class Failure extends Error {
	constructor(code, values = {}) {
		super(`${code} ${JSON.stringify(values)}`);
		Object.assign(this, { code, values });
	}
}

/** The bytes of a file. Throws a Failure for one that is missing or is not the one that was exported. */
export async function bytesOf(name) {
	const known = (await list())[name];
	let answer;
	try {
		answer = await fetch(new URL(`./${name}`, import.meta.url));
	} catch {
		throw new Failure('missing', { name });
	}
	if (!known || !answer.ok) throw new Failure('missing', { name });
	const bytes = new Uint8Array(await answer.arrayBuffer());
	if (hex(await crypto.subtle.digest('SHA-256', bytes)) !== known.sha256) throw new Failure('corrupt', { name });
	return bytes;
}

const parsed = new Map();

/** The value of a file of JSON, read once; what could not be read is tried again. */
export function jsonOf(name) {
	if (!parsed.has(name)) {
		const read = bytesOf(name).then((bytes) => JSON.parse(new TextDecoder().decode(bytes)));
		parsed.set(name, read);
		read.catch(() => parsed.delete(name));
	}
	return parsed.get(name);
}

/** {code, values} of an error for the page's sentences: its own where it is a Failure, else `code`. */
export const saidOf = (error, code = 'unknown') =>
	(error instanceof Failure ? { code: error.code, values: error.values } : { code, values: { message: String(error?.message ?? error) } });
