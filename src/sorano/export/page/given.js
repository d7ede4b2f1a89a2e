// What a clip begins with: a picture, or a video that is gone on with. Read by the browser's own decoders.

import { Failure } from './files.js';

const MOST_SECONDS = 20;
const WAIT = 15e3; // ms for one frame of a video

/** {given, before, source} of a file: frames for the model, frames of the output's size, and the file for the manifest. */
export async function begunWith(file, card) {
	if (!file.type.startsWith('video/')) return { given: [drawn(await createImageBitmap(file), card.shapes)], source: { file, moves: false } };
	const { shapes, output } = card, context = card.known.includes('prefix') ? 1 + shapes.temporal : 1; // frames of its end that the model sees
	const video = await opened(file);
	try {
		if (video.duration > MOST_SECONDS) throw new Failure('longVideo', { most: MOST_SECONDS });
		const count = Math.floor(video.duration * card.fps + 0.01);
		if (!(count >= context)) throw new Failure('shortVideo', { least: (context / card.fps).toFixed(1) });
		const given = [], before = [];
		for (let index = 0; index < count; index++) {
			await seeked(video, (index + 0.5) / card.fps);
			before.push(drawn(video, output));
			if (index >= count - context) given.push(drawn(video, shapes));
		}
		return { given, before, source: { file, moves: true } };
	} finally {
		URL.revokeObjectURL(video.src);
		video.removeAttribute('src');
	}
}

/** A picture or a video's frame, scaled to fill a size and cropped evenly, as RGB bytes. */
function drawn(picture, { width, height }) {
	const columns = picture.videoWidth ?? picture.width, rows = picture.videoHeight ?? picture.height;
	const scale = Math.max(width / columns, height / rows);
	const canvas = new OffscreenCanvas(width, height), pen = canvas.getContext('2d', { willReadFrequently: true });
	pen.imageSmoothingQuality = 'high';
	pen.drawImage(picture, (width - columns * scale) / 2, (height - rows * scale) / 2, columns * scale, rows * scale);
	const { data } = pen.getImageData(0, 0, width, height), out = new Uint8Array(3 * width * height);
	for (let from = 0, to = 0; to < out.length; from += 4, to += 3) { out[to] = data[from]; out[to + 1] = data[from + 1]; out[to + 2] = data[from + 2]; }
	return out;
}

const happened = (video, event) => new Promise((resolve, reject) => {
	const late = setTimeout(() => reject(new Failure('given')), WAIT);
	video.addEventListener(event, () => { clearTimeout(late); resolve(); }, { once: true });
	video.addEventListener('error', () => { clearTimeout(late); reject(new Failure('given')); }, { once: true });
});

async function opened(file) {
	const video = document.createElement('video');
	video.muted = true;
	video.preload = 'auto';
	const ready = happened(video, 'loadeddata');
	video.src = URL.createObjectURL(file);
	await ready;
	return video;
}

async function seeked(video, at) {
	const there = happened(video, 'seeked');
	video.currentTime = Math.min(at, Math.max(0, video.duration - 0.001));
	await there;
}
