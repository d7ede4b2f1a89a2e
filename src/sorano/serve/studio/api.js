// Files and server-sent events.

import { ask, call, key, parse } from './web/api.js';

export * from './web/api.js';

export async function upload(file, purpose = 'vision') {
	const form = new FormData();
	form.set('purpose', purpose);
	form.set('file', file, file.name || 'upload.png');
	return call('POST', '/v1/files', form);
}

/** The events of a video, each as [kind, video], until its end. Raises ApiError where the connection is lost. */
export async function* events(id, signal) {
	const answer = await ask('GET', `/v1/videos/${id}/events`, { signal });
	const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
	let held = '';
	for (;;) {
		const { done, value } = await reader.read();
		if (done) return;
		held += value;
		for (let end = held.indexOf('\n\n'); end >= 0; end = held.indexOf('\n\n')) {
			const lines = held.slice(0, end).split('\n');
			held = held.slice(end + 2);
			const of = (name) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
			if (of('data')) yield [of('event'), parse(of('data'))];
		}
	}
}

const blobs = new Map();

/** An address for <img> and <video>; with a key, which these cannot send, that of a copy ('' until it is here). */
export function fileUrl(path, whenHere = () => {}) {
	if (!key()) return path;
	if (!blobs.has(path)) {
		blobs.set(path, '');
		ask('GET', path)
			.then((answer) => answer.blob())
			.then((blob) => {
				blobs.set(path, URL.createObjectURL(blob));
				whenHere();
			})
			.catch(() => blobs.delete(path));
	}
	return blobs.get(path);
}

export const contentUrl = (id, variant = 'video') =>
	`/v1/videos/${id}/content${variant === 'video' ? '' : `?variant=${variant}`}`;

export async function contentBlob(id) {
	return (await ask('GET', contentUrl(id))).blob();
}
