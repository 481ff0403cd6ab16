import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { html, sentence } from '../../../src/report/html/markup.ts'
import { reportPage } from '../../../src/report/html/page.ts'
import { reportText } from '../../../src/report/report-text.ts'
import { report, spoiled } from '../report-fixture.ts'
import { newRoot, oldRoot } from '../runbook.ts'

const page = reportPage(report)

/** What a reader reads: without style and tags, entities resolved. */
function wordsOf(source: string): string {
  return source
    .replace(/<style>[\s\S]*?<\/style>/g, '')
    .replace(/<[^>]*>/g, ' ')
    .replace(/&lt;/g, '<')
    .replace(/&gt;/g, '>')
    .replace(/&quot;/g, '"')
    .replace(/&#39;/g, "'")
    .replace(/&amp;/g, '&')
    .replace(/\s+/g, ' ')
}

/** Part of the page under a heading. */
function part(id: string, source = page): string {
  const found = new RegExp(`<section id="${id}"[\\s\\S]*?</section>`).exec(source)
  if (found === null) throw new Error(`no part ${id}`)
  return wordsOf(found[0])
}

describe('html', () => {
  it('takes every value for text, in lists too, unless html made it', () => {
    expect(html`<p title="${'"><b>'}">${['<i>', html`<b>${'&'}</b>`, 3]}</p>`.markup).toBe(
      '<p title="&quot;&gt;&lt;b&gt;">&lt;i&gt;<b>&amp;</b>3</p>',
    )
  })

  it('shows characters that hide or reorder text', () => {
    expect(html`${'a\u202eb\u0000c'}`.markup).toBe('a\\u202eb\\u0000c')
  })

  it('makes code of what is in backticks, and text of what is in that', () => {
    expect(sentence('run `a <b>` now').markup).toBe('run <code>a &lt;b&gt;</code> now')
  })
})

describe('the page', () => {
  it('makes no markup of anything that others chose', () => {
    const attack = `</style></code></td><script>alert(1)</script><img src=x onerror='alert(1)'>"'\`\u202e&amp;`
    const attacked = reportPage(spoiled(report, attack))
    expect(attacked).not.toMatch(/<script|<img|onerror='|\u202e/)
    expect(wordsOf(attacked)).toContain(`<script>alert(1)</script>`)
    // Every word that was spoiled is there as text, and the tags are those of the page without it.
    const tags = (source: string) => source.replace(/<style>[\s\S]*?<\/style>/g, '').match(/<\/?(script|img|style)\b/g)
    expect(tags(attacked)).toBeNull()
    expect(attacked.match(/<\/style>/g)).toHaveLength(1)
  })

  it('allows its own style sheet by digest and nothing else, and asks for nothing outside itself', () => {
    const [, style = ''] = /<style>([\s\S]*?)<\/style>/.exec(page) ?? []
    const digest = createHash('sha256').update(style).digest('base64')
    expect(page).toContain(`content="default-src &#39;none&#39;; style-src &#39;sha256-${digest}&#39;;`)
    expect(page).not.toMatch(/\b(src|srcset|action|poster)=|@import|url\(| style=/)
    for (const [, target] of page.matchAll(/href="([^"]*)"/g)) expect(target).toMatch(/^(#|data:,$)/)
  })

  it('has one h1, headings in order, unique ids, and targets for all its links', () => {
    const levels = [...page.matchAll(/<h([1-6])/g)].map(([, level]) => Number(level))
    expect(levels.filter(level => level === 1)).toHaveLength(1)
    for (const [index, level] of levels.entries()) expect(level - (levels[index - 1] ?? 0)).toBeLessThanOrEqual(1)
    const ids = [...page.matchAll(/ id="([^"]*)"/g)].map(([, id]) => id)
    expect(new Set(ids).size).toBe(ids.length)
    for (const [, target] of page.matchAll(/href="#([^"]*)"/g)) expect(ids).toContain(target)
    for (const [, target] of page.matchAll(/aria-labelledby="([^"]*)"/g)) expect(ids).toContain(target)
  })

  it('says of every table what it is, and of every header what it is of', () => {
    const tables = page.match(/<table>[\s\S]*?<\/table>/g) ?? []
    expect(tables.length).toBeGreaterThan(10)
    for (const table of tables) {
      expect(table).toContain('<caption')
      expect(table).not.toMatch(/<th(?! scope="(col|row)")[\s>]/)
    }
  })

  it('tells the course of trust in words, by step', () => {
    const [old, next] = [`old root ${oldRoot.sha256.slice(0, 8)}`, `new root ${newRoot.sha256.slice(0, 8)}`]
    const trust = part('trust').replaceAll(/[○●◇] /g, '')
    expect(trust).toContain(`0-adopt/1-adopt done leaves of ${old} ${old}`)
    expect(trust).toContain(`2-trust-both/1-data now leaves of ${old} ${old} and ${next}`)
    expect(trust).toContain(`3-issue-new/1-data ahead leaves of ${next} ${old} and ${next}`)
    expect(trust).toContain(`4-trust-new/1-data ahead leaves of ${next} ${next}`)
  })

  it('tells what was seen beside what is planned, with numbers', () => {
    const [old, next] = [`old root ${oldRoot.sha256.slice(0, 8)}`, `new root ${newRoot.sha256.slice(0, 8)}`]
    const trust = part('trust').replaceAll(/[○●◇] /g, '')
    const anchors = [oldRoot, newRoot].sort((a, b) => (a.sha256 < b.sha256 ? -1 : 1))
    const both = anchors.map(({ sha256 }) => (sha256 === oldRoot.sha256 ? old : next)).join(' and ')
    expect(trust.replaceAll(/\s+,/g, ',')).toContain(`38 consumers presenting leaves of ${old}, trusting ${both}`)
    expect(trust.replaceAll(/\s+,/g, ',')).toContain(`2 consumers presenting leaves of ${old}, trusting ${old}`)
  })

  it('names who is behind, why, and when their old leaf ends', () => {
    expect(part('behind')).toContain(
      'shop/cart-6d4cf56db6-b2xkq sidecar eu-1 … pending it trusts the old root alone 2026-11-23',
    )
    expect(part('behind')).toContain(
      'shop/cart-6d4cf56db6-zv9wm sidecar eu-1 ? unknown port-forward was refused not told',
    )
  })

  it('counts consumers look by look, copies of bundles left out', () => {
    expect(part('consumers')).toMatch(/2-trust-both\/1-data at eu-1, just now, 2026-11-22 06:00 UTC 40 0 2 40 0 42 2/)
  })

  it('tells of every CA when it ends and how many days are left, in words', () => {
    const ends = part('certificates')
    expect(ends).toContain('2026-12-10 ! soon, in 17 days')
    expect(ends).toContain('2026-11-01 ✕ ended 22 days ago')
    expect(ends).toContain(oldRoot.sha256)
  })

  it('tells until when it can be undone, and how long phases take that are ahead', () => {
    expect(part('undo')).toContain('at the latest until 2035-06-21T05:45:00Z')
    expect(part('timeline')).toContain('Takes usually 1 day 10 minutes, 10 minutes of it gates')
  })

  it('names a site that is off the plan with its files', () => {
    expect(part('sites')).toMatch(/ap-1 ✕ off the plan mixed|ap-1 ✕ off the plan trust\/ap-1 matches no planned step/)
    expect(part('sites')).toContain('changed cacerts.yaml')
  })

  it('of a fleet sums consumers by step, and unfolds only looks that are worth it', () => {
    const [look] = report.evidence
    const count = report.consumers.at(-1)
    if (look === undefined || count === undefined) throw new Error('the fixture has looks')
    const sites = Array.from({ length: 1000 }, (_, index) => `site-${index}`)
    const whole = reportPage({
      ...report,
      consumers: sites.map(site => ({ ...count, site })),
      evidence: [...sites.map(site => ({ ...look, site })), ...report.evidence.slice(-1)],
    })
    expect(part('consumers', whole)).toMatch(
      /at 1000 sites, just now, 2026-11-22 06:00 UTC 40000 0 2000 40000 0 42000 2000/,
    )
    expect(whole.match(/<details><summary>2-trust-both\/1-data at eu-1/g)).toHaveLength(1)
    expect(part('evidence', whole)).toContain('0-adopt/1-adopt at site-999')
    expect(whole.length).toBeLessThan(1_000_000)
  })

  it('says so where there is no evidence, nobody behind, and no pull request', () => {
    const bare = reportPage({
      ...report,
      status: { ...report.status, seen: null, gates: [], pullRequests: [] },
      evidence: [],
      consumers: [],
      behind: [],
      moves: [],
    })
    expect(part('evidence', bare)).toContain('No evidence is committed yet.')
    expect(part('behind', bare)).toContain('reanchor report --live')
    expect(part('sites', bare)).not.toContain('Open pull requests')
  })
})

describe('the text', () => {
  it('adds the course of trust, the looks and who is behind to what status shows', () => {
    const text = reportText(report, { width: 200 })
    expect(text).toMatch(
      /2-trust-both\/1-data +now +present old root [0-9a-f]{8} +trust old root [0-9a-f]{8} and new root/,
    )
    expect(text).toMatch(
      /eu-1, just now +2026-11-22T06:00 +42 consumers +present old 40, new 0 +trust old 2, both 40, new 0 +2 exceptions/,
    )
    expect(text).toContain('eu-1: sidecar shop/cart-6d4cf56db6-b2xkq: it trusts the old root alone (pending)')
  })
})
