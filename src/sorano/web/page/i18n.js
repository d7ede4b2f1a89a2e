// A text is a line [English, Chinese]; {name} is filled in.

const TEXTS = {
	'language': ['中文', 'English'],
	'theme': ['Light or dark', '浅色或深色'],
	'skip': ['Skip to the content', '跳到内容'],
	'close': ['Close', '关闭'],
	'second': ['{n} s', '{n} 秒'], 'minute': ['{n} min', '{n} 分'], 'hour': ['{n} h', '{n} 小时'],
};

export const add = (texts) => Object.assign(TEXTS, texts);

const KEY = 'sorano.language';
let language = localStorage.getItem(KEY) ?? (navigator.language?.toLowerCase().startsWith('zh') ? 'zh' : 'en');
document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';

export const current = () => language;

export function setLanguage(value) {
	language = value;
	localStorage.setItem(KEY, value);
	document.documentElement.lang = value === 'zh' ? 'zh-CN' : 'en';
	dispatchEvent(new Event('sorano-language'));
}

export const has = (name) => name in TEXTS;

export function t(name, values = {}) {
	const text = TEXTS[name]?.[language === 'zh' ? 1 : 0] ?? name;
	return text.replace(/\{(\w+)\}/g, (all, word) => values[word] ?? all);
}

export function duration(seconds) {
	if (seconds == null) return '';
	const [name, n] = seconds < 90 ? ['second', seconds] : seconds < 5400 ? ['minute', seconds / 60] : ['hour', seconds / 3600];
	return t(name, { n: n < 10 ? Math.round(n * 10) / 10 : Math.round(n) });
}

export const bytes = (n) => (n >= 1e9 ? `${(n / 1e9).toFixed(1)} GB` : `${Math.round(n / 1e6)} MB`);
export const moment = (at) =>
	new Date(at * 1000).toLocaleString(language === 'zh' ? 'zh-CN' : 'en', { dateStyle: 'medium', timeStyle: 'short' });
