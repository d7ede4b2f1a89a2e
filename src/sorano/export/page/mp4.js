// MP4 files of one video track, the index before the pictures, with texts in moov/udta/meta/keys (ISO/IEC 14496-12).

const TIMESCALE = 90000;
const encoder = new TextEncoder();

export const joined = (parts) => {
	const flat = parts.flat(Infinity).map((part) => (typeof part === 'string' ? encoder.encode(part) : part));
	const out = new Uint8Array(flat.reduce((sum, part) => sum + part.length, 0));
	let at = 0;
	for (const part of flat) { out.set(part, at); at += part.length; }
	return out;
};
export const u32 = (...values) => Uint8Array.from(values.flatMap((one) => [(one >>> 24) & 255, (one >>> 16) & 255, (one >>> 8) & 255, one & 255]));
const u16 = (...values) => Uint8Array.from(values.flatMap((one) => [(one >>> 8) & 255, one & 255]));
const zeros = (count) => new Uint8Array(count);
export function box(kind, ...content) {
	const body = joined(content);
	return joined([u32(body.length + 8), kind, body]);
}
const full = (kind, flags, ...content) => box(kind, u32(flags), ...content);
const MATRIX = u32(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000);

/**
 * The bytes of a file. `samples` are {data, isKey} in order; `codec` is {kind: 'avc1', configuration: 'avcC', description}
 * of the sample entry; `texts` are [key, text].
 */
export function mp4({ samples, width, height, fps, codec, texts = [] }) {
	const step = Math.round(TIMESCALE / fps), duration = step * samples.length;
	const head = box('ftyp', 'isom', u32(0x200), 'isom', 'iso2', codec.kind === 'avc1' ? 'avc1' : 'iso6', 'mp41');
	const moov = (start) => box('moov',
		full('mvhd', 0, u32(0, 0, TIMESCALE, duration, 0x10000), u16(0x100), zeros(10), MATRIX, zeros(24), u32(2)),
		box('trak',
			full('tkhd', 3, u32(0, 0, 1, 0, duration), zeros(8), u16(0, 0, 0, 0), MATRIX, u32(width << 16, height << 16)),
			box('mdia',
				full('mdhd', 0, u32(0, 0, TIMESCALE, duration), u16(0x55c4, 0)),
				full('hdlr', 0, u32(0), 'vide', zeros(12), 'VideoHandler\0'),
				box('minf', full('vmhd', 1, zeros(8)), box('dinf', full('dref', 0, u32(1), full('url ', 1))),
					box('stbl',
						full('stsd', 0, u32(1), sampleEntry(codec, width, height)),
						full('stts', 0, u32(1, samples.length, step)),
						full('stss', 0, u32(samples.filter((one) => one.isKey).length), samples.flatMap((one, at) => (one.isKey ? [u32(at + 1)] : []))),
						full('stsc', 0, u32(1, 1, samples.length, 1)),
						full('stsz', 0, u32(0, samples.length), samples.map((one) => u32(one.data.length))),
						full('stco', 0, u32(1, start)))))),
		texts.length ? box('udta', metadata(texts)) : []);
	const start = head.length + moov(0).length + 8;
	return joined([head, moov(start), box('mdat', samples.map((one) => one.data))]);
}

function sampleEntry({ kind, configuration, description }, width, height) {
	return box(kind, zeros(6), u16(1), zeros(16), u16(width, height), u32(0x480000, 0x480000, 0), u16(1), zeros(32), u16(0x18, 0xffff),
		box(configuration, description),
		box('colr', 'nclx', u16(1, 1, 1), Uint8Array.of(0)), // ITU-R BT.709, limited range
		box('pasp', u32(1, 1)));
}

function metadata(texts) {
	return full('meta', 0,
		full('hdlr', 0, u32(0), 'mdta', zeros(12), '\0'),
		full('keys', 0, u32(texts.length), texts.map(([key]) => box('mdta', key))),
		box('ilst', texts.map(([, text], at) => joined([u32(24 + encoder.encode(text).length, at + 1), box('data', u32(1, 0), text)]))));
}

/** SHA-256 of the boxes that C2PA's hash leaves out of an MP4 (`embedding.digest_left_out`), hexadecimal. */
export async function digestLeftOut(bytes) {
	const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
	const parts = [];
	for (let at = 0; at + 8 <= bytes.length; at += view.getUint32(at)) {
		const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
		if (['ftyp', 'free', 'skip', 'mfra'].includes(kind)) parts.push(bytes.subarray(at, at + view.getUint32(at)));
		if (view.getUint32(at) < 8) break;
	}
	return hex(await crypto.subtle.digest('SHA-256', joined(parts)));
}

export const hex = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, '0')).join('');
