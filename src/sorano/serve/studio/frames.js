// Frames of a finished video as pictures, taken by the browser.

import { contentBlob } from './api.js';

/** The frame at a share of a video's length, 0 to 1, as a PNG file of its own size. */
export async function frameOf(id, share) {
	const canvas = await canvasOf(URL.createObjectURL(await contentBlob(id)), share);
	const blob = await new Promise((done) => canvas.toBlob(done, 'image/png'));
	return new File([blob], `frame-of-${id}.png`, { type: 'image/png' });
}

/** A canvas with that frame of the video at an address. */
export async function canvasOf(url, share = 0) {
	const video = Object.assign(document.createElement('video'), { muted: true, preload: 'auto', src: url });
	await new Promise((done, fail) => {
		video.onloadeddata = done;
		video.onerror = () => fail(new Error(video.error?.message || 'the video cannot be shown'));
	});
	const seconds = Math.max(0, video.duration * share - (share === 1 ? 0.001 : 0));
	if (seconds > 0) {
		await new Promise((done) => {
			video.onseeked = done;
			video.currentTime = seconds;
		});
	}
	const canvas = Object.assign(document.createElement('canvas'), { width: video.videoWidth, height: video.videoHeight });
	canvas.getContext('2d').drawImage(video, 0, 0);
	return canvas;
}
