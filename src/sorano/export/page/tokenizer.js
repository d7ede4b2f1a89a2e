// The tokenizers of small vocabularies (`sorano.models.wan.text_encoder.build_tokenizer`): lower case, split at white
// space and punctuation, Chinese by character.

const PIECE = /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[\p{P}!-/:-@[-`{-~]|(?:(?![\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\p{P}!-/:-@[-`{-~])\S)+/gu;

export class Tokenizer {
	/** `file` is a parsed tokenizer.json. Throws for a kind that this is not. */
	constructor(file) {
		if (file.model?.type !== 'WordLevel') throw new Error(`a tokenizer of the kind ${file.model?.type} is not known here`);
		this.ids = new Map(Object.entries(file.model.vocab));
		this.unknown = this.ids.get(file.model.unk_token);
		this.end = this.ids.get('</s>');
		this.special = new Map((file.added_tokens ?? []).map((one) => [one.content, one.id]));
	}

	/** The ids of a prompt, with the end token. */
	encode(prompt) {
		const clean = prompt.split(/\s+/u).filter(Boolean).join(' ');
		const ids = [];
		for (const part of this.#parts(clean)) {
			if (this.special.has(part)) ids.push(this.special.get(part));
			else for (const [piece] of part.normalize('NFKC').toLowerCase().matchAll(PIECE)) ids.push(this.ids.get(piece) ?? this.unknown);
		}
		return [...ids, this.end];
	}

	/** The text cut at special tokens that are written out in it. */
	#parts(text) {
		const names = [...this.special.keys()].map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
		return names.length ? text.split(new RegExp(`(${names.join('|')})`, 'u')) : [text];
	}
}
