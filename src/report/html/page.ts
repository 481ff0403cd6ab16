import { createHash } from 'node:crypto'
import type { ReportView } from '../report-view.ts'
import { behindPart } from './behind.ts'
import { certificatesPart } from './certificates.ts'
import { consumers } from './consumers.ts'
import { evidencePart } from './evidence.ts'
import { constant, html, type Markup } from './markup.ts'
import { matrix } from './matrix.ts'
import { overview, undoPart } from './overview.ts'
import { section, time } from './parts.ts'
import { style } from './style.ts'
import { requestsPart, sitesPart, timeline } from './timeline.ts'

/**
 * One page that needs nothing but itself: no script, no network, no font. Its policy allows one style sheet, by its digest, and nothing else, so that
 * even markup that got past the escaping would do nothing. Pure.
 */
export function reportPage(view: ReportView): string {
  const digest = createHash('sha256').update(style).digest('base64')
  const policy = `default-src 'none'; style-src 'sha256-${digest}'; img-src data:; base-uri 'none'; form-action 'none'`
  const { status } = view
  const parts: readonly (readonly [id: string, title: string, content: Markup])[] = [
    ['timeline', 'Timeline', timeline(view)],
    ['sites', 'Sites', html`${sitesPart(view)}${requestsPart(view)}`],
    ['trust', 'Who presents and who trusts what', matrix(view)],
    ['behind', 'Who is behind', behindPart(view)],
    ['consumers', 'Consumers over time', consumers(view)],
    ['undo', 'Until when it can be undone', undoPart(view)],
    ['certificates', 'When every CA ends', certificatesPart(view)],
    ['evidence', 'Evidence', evidencePart(view)],
  ]
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>${status.rotation}: rotation of trust in ${view.system}</title>
<style>${constant(style)}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header>
<h1>${status.rotation}</h1>
<p class="soft">${view.system}, strategy ${status.strategy}. Planned ${time(view.plannedAt)}; read ${time(status.now)} from <code>${view.base}</code> at <code>${view.commit.slice(0, 12)}</code>.</p>
${overview(view)}
<nav aria-label="Parts of this report"><ul>${parts.map(([id, title]) => html`<li><a href="#${id}">${title}</a></li>`)}</ul></nav>
</header>
<main id="main" tabindex="-1">
${parts.map(([id, title, content]) => section(id, title, content))}
</main>
<footer>
<p>Made by <code>reanchor report</code>. It holds public certificates’ names and digests, and no key.</p>
</footer>
</body>
</html>
`
  return page.markup
}
