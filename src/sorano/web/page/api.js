// Calls of the server; a key where it asks for one.

export class ApiError extends Error {
	constructor(message, { status = 0, code = null, param = null } = {}) {
		super(message);
		Object.assign(this, { status, code, param });
	}
}

const KEY = 'sorano.key';
export const key = () => sessionStorage.getItem(KEY);
export const setKey = (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY));

export async function ask(method, path, { body, signal, headers: more, keepalive } = {}) {
	const headers = { 'accept-language': document.documentElement.lang, ...(key() && { authorization: `Bearer ${key()}` }), ...more };
	if (body !== undefined && !(body instanceof FormData)) {
		headers['content-type'] = 'application/json';
		body = JSON.stringify(body);
	}
	let answer;
	try {
		answer = await fetch(path, { method, headers, body, signal, keepalive });
	} catch (error) {
		if (error.name === 'AbortError') throw error;
		throw new ApiError('', { code: 'offline' });
	}
	if (answer.ok) return answer;
	const said = (await answer.json().catch(() => ({}))).error ?? {};
	if (answer.status === 401) dispatchEvent(new Event('sorano-key'));
	throw new ApiError(said.message ?? `HTTP ${answer.status}`, { status: answer.status, ...said });
}

/** JSON whose seeds of more digits than a number of JavaScript keeps are text; the server takes either. */
export const parse = (text) => JSON.parse(text.replace(/"seed": ?(\d{16,})/g, '"seed":"$1"'));
export const call = async (method, path, body, signal) => parse(await (await ask(method, path, { body, signal })).text());
export const get = (path, signal) => call('GET', path, undefined, signal);
export const post = (path, body, signal) => call('POST', path, body, signal);
export const remove = (path) => call('DELETE', path);
