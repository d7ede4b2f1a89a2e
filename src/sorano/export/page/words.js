// A prompt in the words of a small vocabulary: the twin of `read` in src/sorano/world/synonyms.py, with its tables as
// data (model/words.json, written by `sorano.captions.CaptionVocabulary.rules`).

const HAN = '\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff';
const PIECE = new RegExp(`[${HAN}]|(?:(?![${HAN}])[\\p{L}\\p{N}])+|[^\\p{L}\\p{N}\\s]`, 'gu');
const WORD = new RegExp(`[${HAN}]|(?:(?![${HAN}])[\\p{L}\\p{N}_'-])+|\\s+|.`, 'gsu');

export class Words {
	/** `rules` is a parsed words.json. */
	constructor(rules) {
		this.rules = rules;
		this.vocabulary = new Set(rules.vocabulary);
		this.ignored = new Set(rules.ignored);
		this.table = new Map(Object.entries(rules.synonyms));
		this.things = new Set(rules.things.map((pieces) => pieces.join('\0')));
		this.shaded = new RegExp(rules.shaded, 'gu');
		this.counted = new RegExp(rules.counted, 'gu');
		this.countedChinese = new RegExp(rules.countedChinese, 'gu');
	}

	/** {text: only words that the model knows, readAs: [[said, taken as]], unknown: words that are left out, hasThing}. */
	read(prompt) {
		const clean = prompt.replace(/\x1b\[[0-9;]*[A-Za-z]/g, '').replace(/\p{Cf}/gu, '').replace(/[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/g, ' ');
		const plain = clean.normalize('NFKC').toLowerCase();
		const readAs = new Map();
		let text = this.#oneByOne(this.#withoutShades(this.#withSynonyms(plain, readAs), readAs));
		const pieces = text.match(PIECE) ?? [];
		const unknown = pieces.filter((piece) => !this.vocabulary.has(piece));
		const named = [...new Set(unknown)].filter((one) => /[\p{L}\p{N}]/u.test(one) && !this.ignored.has(one));
		if (!readAs.size && !unknown.length && text === plain) text = clean;
		else if (unknown.length) text = text.replace(PIECE, (piece) => (this.vocabulary.has(piece) ? piece : ' ')).split(/\s+/u).filter(Boolean).join(' ');
		return { text, readAs: [...readAs], unknown: named, hasThing: this.#hasThing(text) };
	}

	/** Whether a text names a thing that the model can make. */
	#hasThing(text) {
		const pieces = text.match(PIECE) ?? [];
		return pieces.some((_, at) => [3, 2, 1].some((length) => this.things.has(pieces.slice(at, at + length).join('\0'))));
	}

	#withSynonyms(text, readAs) {
		const pieces = text.match(WORD) ?? [];
		let read = '', at = 0;
		while (at < pieces.length) {
			let found = pieces[at], end = at + 1, phrase = '';
			for (let i = at; i < Math.min(pieces.length, at + this.rules.mostPieces); i++) {
				phrase += /^\s+$/u.test(pieces[i]) ? ' ' : pieces[i];
				if (this.table.has(phrase)) [found, end] = [phrase, i + 1];
			}
			const entry = this.table.get(found);
			const [target, isSaid] = entry === undefined ? [found, 0] : typeof entry === 'string' ? [entry, 1] : entry;
			if (isSaid) readAs.set(found, target.replace(/\*+$/, ''));
			read += target;
			at = end;
		}
		return read;
	}

	#withoutShades(text, readAs) {
		return text.replace(this.shaded, (...found) => {
			const { shade, color, size } = found.at(-1);
			if (shade) readAs.set(`${shade} ${color}`, color);
			return color ?? size;
		});
	}

	#oneByOne(text) {
		const english = text.replace(this.counted, (...found) => {
			const { count, words, kind, verb } = found.at(-1);
			const number = this.rules.counts[(count ?? 'two').split(/\s+/).filter(Boolean).join(' ')] ?? 2;
			const one = ['a', (words ?? '').trim(), kind, (verb ?? '').split(/\s+/).filter(Boolean).join(' ')].filter(Boolean).join(' ');
			return Array(number).fill(one).join(' and ');
		});
		return english.replace(this.countedChinese, (all, count, words, kind) => Array(this.rules.counts[count]).fill(`一个${words}${kind}`).join(','));
	}
}
