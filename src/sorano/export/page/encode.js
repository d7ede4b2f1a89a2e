// Marked frames to an MP4: WebCodecs, H.264 where the browser codes it, else VP9 or AV1.

import { Failure } from './files.js';
import { mp4 } from './mp4.js';
import { toI420 } from './pictures.js';

const KINDS = [ // of codecs: WebCodecs' name, the sample entry, the box of its configuration
	['avc1.64001f', 'avc1', 'avcC'], ['avc1.42001f', 'avc1', 'avcC'], ['vp09.00.20.08', 'vp09', 'vpcC'], ['av01.0.04M.08', 'av01', 'av1C'],
];
const BITS_PER_PIXEL = 3; // of a frame: the mark must outlive the coder, and the file stays below half a megabyte
const KEY_EVERY = 12; // frames

/** {bytes, codec} of a file. Throws a Failure where the browser codes none of these. */
export async function encoded(frames, { height, width, fps, texts }) {
	const shared = { width, height, framerate: fps, bitrate: Math.round(width * height * fps * BITS_PER_PIXEL), latencyMode: 'quality' };
	for (const [codec, kind, configuration] of KINDS) {
		const config = { ...shared, codec, ...(kind === 'avc1' ? { avc: { format: 'avc' } } : {}) };
		const { supported } = await VideoEncoder.isConfigSupported(config).catch(() => ({ supported: false }));
		if (!supported) continue;
		const { samples, description } = await coded(frames, config);
		const words = kind === 'vp09' ? vp9() : kind === 'av01' && !description ? av1() : new Uint8Array(description);
		return { codec: kind, bytes: mp4({ samples, width, height, fps, texts, codec: { kind, configuration, description: words } }) };
	}
	throw new Failure('codec');
}

async function coded(frames, config) {
	const samples = [];
	let description, failed;
	const encoder = new VideoEncoder({
		output(chunk, about) {
			const data = new Uint8Array(chunk.byteLength);
			chunk.copyTo(data);
			description ??= about?.decoderConfig?.description;
			samples.push({ data, isKey: chunk.type === 'key', at: chunk.timestamp });
		},
		error(error) { failed = error; },
	});
	encoder.configure(config);
	const { width, height, framerate } = config;
	frames.forEach((frame, index) => {
		const picture = new VideoFrame(toI420(frame, height, width), {
			format: 'I420', codedWidth: width, codedHeight: height, timestamp: Math.round((index * 1e6) / framerate), duration: Math.round(1e6 / framerate),
			colorSpace: { primaries: 'bt709', transfer: 'bt709', matrix: 'bt709', fullRange: false },
		});
		encoder.encode(picture, { keyFrame: index % KEY_EVERY === 0 });
		picture.close();
	});
	await encoder.flush().catch((error) => { failed ??= error; });
	if (encoder.state !== 'closed') encoder.close();
	// the file has one time for a frame: frames that the coder would show in another order than it sends them have two
	if (failed || samples.length !== frames.length || samples.some((one, at) => at && one.at <= samples[at - 1].at)) {
		throw new Failure('coder', { message: String(failed ?? samples.length) });
	}
	return { samples, description };
}

const vp9 = () => Uint8Array.of(1, 0, 0, 0, 0, 20, 8 << 4 | 1 << 1, 1, 1, 1, 0, 0); // profile 0, level 2.0, 8 bits, BT.709
const av1 = () => Uint8Array.of(0x81, 4, 0x0c, 0); // profile 0, level 3.0, 8 bits, 4:2:0
