import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { type Browser, chromium, type Page } from 'playwright-core'

/** Debian's; or another one that CHROMIUM names. */
const executable = process.env.CHROMIUM ?? '/usr/bin/chromium'

export async function startBrowser(): Promise<Browser> {
  if (!existsSync(executable)) throw new Error(`no ${executable}: apt-get install chromium, or set CHROMIUM`)
  return await chromium.launch({
    executablePath: executable,
    // Root, as in most containers, has no sandbox; the rest keeps the browser itself off the network.
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking', '--disable-sync'],
  })
}

export const sizes = { phone: { width: 360, height: 740 }, desk: { width: 1280, height: 900 } } as const
export const schemes = ['light', 'dark'] as const

export interface Shown {
  readonly page: Page
  /** Everything that the page wrote to the console, and every error in it. */
  readonly said: readonly string[]
  /** Addresses that it asked for, itself aside. */
  readonly asked: readonly string[]
  close(): Promise<void>
}

/** Opens a page from a file, as whoever is sent a report does. */
export async function show(
  browser: Browser,
  source: string,
  { size, scheme }: { readonly size: keyof typeof sizes; readonly scheme: (typeof schemes)[number] },
): Promise<Shown> {
  const folder = mkdtempSync(join(tmpdir(), 'reanchor-page-'))
  const file = join(folder, 'report.html')
  writeFileSync(file, source)
  const address = pathToFileURL(file).href
  const context = await browser.newContext({
    viewport: sizes[size],
    colorScheme: scheme,
    deviceScaleFactor: 1,
    isMobile: size === 'phone',
    hasTouch: size === 'phone',
  })
  const page = await context.newPage()
  const said: string[] = []
  const asked: string[] = []
  page.on('console', message => said.push(`${message.type()}: ${message.text()}`))
  page.on('pageerror', error => said.push(String(error)))
  page.on('request', request => {
    if (request.url() !== address) asked.push(request.url())
  })
  await page.goto(address)
  return {
    page,
    said,
    asked,
    async close() {
      await context.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** A picture of the whole page, where SCREENSHOTS names a folder for them. */
export async function picture(page: Page, name: string): Promise<void> {
  const folder = process.env.SCREENSHOTS
  if (folder === undefined) return
  mkdirSync(folder, { recursive: true })
  await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true })
}
