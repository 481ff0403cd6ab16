/** How a rotation's pull requests look on a real Gitea: its own rendering, kept in docs/pull-requests. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { afterEach, expect, test } from 'vitest'
import type { PullRequest } from '../../src/forge/forge.ts'
import { noSettings } from '../forge/contract.ts'
import { type GiteaWorld, giteaWorld } from './gitea-world.ts'

let open: GiteaWorld | null = null

afterEach(async () => {
  await open?.close()
  open = null
})

const folder = new URL('../../docs/pull-requests/', import.meta.url)
/** The plan, a step that widens trust, and one that takes trust away. */
const kept: Readonly<Record<string, RegExp>> = {
  plan: /plan$/,
  'trust-both': /trust-both-1/,
  'trust-new': /trust-new-1/,
}

/** `REANCHOR_WRITE_DOCS=1` writes the pages; else what they are made of is looked at: headings, tables, folded parts, no markup of others. */
test('Gitea renders what a reviewer is to see', { timeout: 900_000 }, async () => {
  const here = await giteaWorld({ system: 'istio', seed: 'pages' }, noSettings)
  open = here
  const runner = await here.runner()
  const seen: string[] = []
  let request: PullRequest | null = await here.planned(runner)
  while (request !== null && seen.length < Object.keys(kept).length) {
    const { branch, body, title } = request
    const [name] = Object.entries(kept).find(([, pattern]) => pattern.test(branch)) ?? []
    if (name !== undefined) {
      seen.push(name)
      // Without a repository around it: Gitea 1.26.0 ends where it is to look for commits in one from here. Pages look for them in another way.
      const { text } = await here.api<{ readonly text: string }>('POST', '/markdown', { Text: body, Mode: 'gfm' })
      expect(text).toContain('<table>')
      expect(text).toMatch(/<h[23]/)
      // The marker is a comment, which a page does not show.
      expect(text).not.toContain('reanchor:plan=')
      expect(text).not.toMatch(/\|---|\*\*[A-Za-z]/)
      if (process.env.REANCHOR_WRITE_DOCS === '1') write(name, title, text)
      expect(readFileSync(new URL(`${name}.html`, folder), 'utf8')).toContain('<table>')
    }
    await here.merge(request, 'merge')
    request = await here.nextRequest(runner)
  }
  expect(seen).toEqual(Object.keys(kept))
})

function write(name: string, title: string, text: string): void {
  mkdirSync(folder, { recursive: true })
  const head = `<!doctype html>\n<meta charset="utf-8">\n<title>${title.replaceAll('<', '&lt;')}</title>\n`
  const page = `${head}<h1>${title.replaceAll('<', '&lt;')}</h1>\n${text}`
  // Addresses of the server that it was rendered on lead nowhere.
  writeFileSync(
    new URL(`${name}.html`, folder),
    page.replaceAll(/https:\/\/127\.0\.0\.1:\d+/g, 'https://git.example.com'),
  )
}
