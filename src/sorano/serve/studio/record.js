// A verdict with its evidence, in the words of the server.

import { t } from './i18n.js';
import { html, icon, nothing } from './view.js';

export const kindOf = (verdict) => ({ VERIFIED: 'good', MATCHED: 'good', TAMPERED: 'bad', SUSPICIOUS: 'warn' })[verdict] ?? 'plain';

export const verdictLine = (report) => html`<div class="verdict ${kindOf(report.verdict)}">
	${icon(kindOf(report.verdict) === 'good' ? 'seal' : 'warn')}
	<div><b>${t(`verdict.${report.verdict}`)}</b><p>${report.summary}</p></div>
</div>`;

export const evidenceList = (report) => html`<ul class="evidence">
	${report.evidence.map(
		(one) => html`<li><details ?open=${report.evidence.length < 3}><summary><b>${one.about}</b><span>${one.found}</span></summary>
			<dl><dt>${t('verify.proves')}</dt><dd>${one.proves}</dd><dt>${t('verify.not')}</dt><dd>${one.does_not_prove}</dd>
				${one.next_step ? html`<dt>${t('verify.next')}</dt><dd>${one.next_step}</dd>` : nothing}</dl></details></li>`,
	)}
</ul>
${report.notes?.length ? html`<ul class="dim">${report.notes.map((one) => html`<li>${one}</li>`)}</ul>` : nothing}`;
