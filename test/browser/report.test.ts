import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { AxeResults, RunOptions } from 'axe-core'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { reportPage } from '../../src/report/html/page.ts'
import { report, spoiled } from '../report/report-fixture.ts'
import { picture, schemes, show, sizes, startBrowser } from './page.ts'

let browser: Browser
beforeAll(async () => {
  browser = await startBrowser()
})
afterAll(async () => {
  await browser?.close()
})

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const source = reportPage(report)
const ways = (['phone', 'desk'] as const).flatMap(size => schemes.map(scheme => ({ size, scheme })))

/** The page's policy forbids scripts, so axe comes in by the browser's own hand, as an extension would. */
async function audited(page: Page): Promise<AxeResults> {
  await page.evaluate(axe)
  return await page.evaluate(async options => {
    const { axe: run } = globalThis as unknown as { axe: { run(options: RunOptions): Promise<AxeResults> } }
    return await run.run(options)
  }, {} as RunOptions)
}

async function unfoldAll(page: Page): Promise<void> {
  for (const details of await page.locator('details').all())
    await details.evaluate(element => element.setAttribute('open', ''))
}

describe.each(ways)('the report at $size size, $scheme', way => {
  it('has no serious finding of accessibility, folded and unfolded', async () => {
    const shown = await show(browser, source, way)
    await picture(shown.page, `${way.size}-${way.scheme}`)
    for (const unfolded of [false, true]) {
      if (unfolded) await unfoldAll(shown.page)
      const { violations, passes } = await audited(shown.page)
      const bad = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical')
      expect(bad.map(({ id, nodes }) => `${id}: ${nodes[0]?.html} ${nodes[0]?.failureSummary}`)).toEqual([])
      expect(passes.map(({ id }) => id)).toEqual(expect.arrayContaining(['color-contrast', 'region', 'html-has-lang']))
    }
    await picture(shown.page, `${way.size}-${way.scheme}-unfolded`)
    await shown.close()
  })

  it('does not scroll sideways; what is wider scrolls within', async () => {
    const shown = await show(browser, source, way)
    await unfoldAll(shown.page)
    const page = await shown.page.evaluate<number>(
      'document.documentElement.scrollWidth - document.documentElement.clientWidth',
    )
    const wide = await shown.page.evaluate<number>(
      "[...document.querySelectorAll('.scroll')].filter(each => each.scrollWidth > each.clientWidth).length",
    )
    expect(page).toBe(0)
    if (way.size === 'phone') expect(wide).toBeGreaterThan(3)
    expect(await shown.page.evaluate('innerWidth')).toBe(sizes[way.size].width)
    await shown.close()
  })

  it('says nothing on the console and asks for nothing', async () => {
    const shown = await show(browser, source, way)
    await unfoldAll(shown.page)
    expect(shown.said).toEqual([])
    expect(shown.asked).toEqual([])
    await shown.close()
  })
})

describe('the report', () => {
  it('makes nothing of markup in names, even by the browser’s own reading', async () => {
    const attack = `</style></code></table><script>document.title='taken'</script><img src=x onerror="document.title='taken'">`
    const shown = await show(browser, reportPage(spoiled(report, attack)), { size: 'desk', scheme: 'light' })
    expect(await shown.page.locator('img, script').count()).toBe(0)
    expect(await shown.page.title()).toContain('<img src=x')
    expect(await shown.page.title()).not.toBe('taken')
    expect(await shown.page.locator('section').count()).toBe(8)
    expect(shown.asked).toEqual([])
    await shown.close()
  })

  it('applies its own style, and no script even where one got in', async () => {
    const broken = source.replace(
      '<footer>',
      `<script>document.title='taken'</script><img src="https://example.invalid/x.png"><footer>`,
    )
    const shown = await show(browser, broken, { size: 'desk', scheme: 'light' })
    expect(await shown.page.evaluate('getComputedStyle(document.body).marginTop')).toBe('0px')
    expect(await shown.page.title()).toBe('mesh-2026: rotation of trust in Istio')
    expect(shown.said.join('\n')).toMatch(/Content Security Policy/)
    await shown.close()
  })

  it('has landmarks, and a way past the header by keyboard', async () => {
    const shown = await show(browser, source, { size: 'desk', scheme: 'light' })
    for (const role of ['banner', 'navigation', 'main', 'contentinfo'] as const)
      expect(await shown.page.getByRole(role).count(), role).toBe(1)
    await shown.page.keyboard.press('Tab')
    await shown.page.keyboard.press('Enter')
    expect(await shown.page.evaluate('document.activeElement?.id')).toBe('main')
    await shown.close()
  })

  it('is read as a table by a screen reader: every cell has its headers', async () => {
    const shown = await show(browser, source, { size: 'desk', scheme: 'light' })
    const table = shown.page.getByRole('table', { name: /once each step has reached everyone/ })
    expect(await table.getByRole('columnheader').allTextContents()).toEqual([
      'Step',
      'State',
      'Holders present',
      'Verifiers trust',
    ])
    expect(await table.getByRole('rowheader').count()).toBe(report.steps.length)
    await shown.close()
  })

  it('prints what is folded, in black on white, without its navigation', async () => {
    const shown = await show(browser, source, { size: 'desk', scheme: 'dark' })
    await shown.page.emulateMedia({ media: 'print', colorScheme: 'light' })
    const folded = shown.page.locator('#evidence details').first().locator('table').first()
    expect(await folded.evaluate(element => element.checkVisibility({ contentVisibilityAuto: true }))).toBe(true)
    expect((await folded.boundingBox())?.height).toBeGreaterThan(20)
    expect(await shown.page.getByRole('navigation').count()).toBe(0)
    expect(await shown.page.evaluate('getComputedStyle(document.body).backgroundColor')).toBe('rgb(255, 255, 255)')
    expect((await shown.page.pdf({ format: 'A4' })).length).toBeGreaterThan(20_000)
    await picture(shown.page, 'print')
    await shown.close()
  })
})
