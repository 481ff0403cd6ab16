import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { buildKustomization } from '../../../src/gitops/kustomize.ts'
import { demoFleet } from '../../../src/rehearsal/istio/fleet.ts'

let folder = ''

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fleet-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

it.each(['sail', 'helmRelease'] as const)(
  'kubectl kustomize builds every folder of the demo fleet (%s), to what our own build gives',
  install => {
    const files = demoFleet({
      sites: ['eu-1', 'us-1'],
      ageRecipient: 'age1example',
      install,
      ambient: install === 'sail',
    })
    for (const [path, text] of files) {
      mkdirSync(dirname(join(folder, path)), { recursive: true })
      writeFileSync(join(folder, path), text)
    }
    for (const path of ['istio/eu-1', 'istio/us-1', 'apps/eu-1', 'apps/us-1', 'clusters/eu-1/flux-system']) {
      const built = execFileSync('kubectl', ['kustomize', join(folder, path)], { encoding: 'utf8' })
      const theirs = parseAllDocuments(built).map(document => JSON.stringify(ordered(document.toJS())))
      const ours = buildKustomization(files, path).objects.map(({ object }) => JSON.stringify(ordered(object)))
      expect([...ours].sort()).toEqual([...theirs].sort())
    }
  },
)

function ordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(ordered)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, entry]) => [key, ordered(entry)]),
  )
}
