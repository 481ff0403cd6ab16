import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { parse } from 'yaml'
import { renderOutput } from '../../phases/fixtures/render.ts'
import type { FileTree, Plan } from '../../src/rotation.ts'

let rendered: FileTree

beforeAll(async () => {
  rendered = await renderOutput()
})

function committed(): ReadonlyMap<string, string> {
  const files = readdirSync('output', { recursive: true, withFileTypes: true }).filter(entry => entry.isFile())
  const paths = files.map(entry => relative('output', join(entry.parentPath, entry.name)).replaceAll('\\', '/'))
  return new Map(paths.sort().map(path => [path, readFileSync(join('output', path), 'utf8')]))
}

function text(path: string): string {
  const found = rendered.get(path)
  if (found === undefined) throw new Error(`output/ has no ${path}`)
  return found
}

const pems = (bundle: string) => bundle.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n/g) ?? []
const graceful = ['istio-graceful-sail', 'istio-graceful-helm-release', 'istio-graceful-argo-sealed-secrets']

test('output/ is what the fixtures render to, file by file: run `npx cdk8s synth` where it is not', () => {
  const there = committed()
  expect([...rendered.keys()].sort()).toEqual([...there.keys()])
  for (const [path, content] of rendered) expect(content, path).toBe(there.get(path))
})

test('rendering again gives the same bytes', async () => {
  expect(await renderOutput()).toEqual(rendered)
})

test.each(graceful)(
  '%s: each bundle grows at its end, byte for byte, and the last one is part of the one before',
  name => {
    const bundle = (step: string) => text(`${name}/${step}/1-data/eu-1/root-cert.pem`)
    const old = text(`${name}/0-adopt/1-adopt/eu-1/root-cert.pem`)
    expect(bundle('2-trust-both').startsWith(old)).toBe(true)
    expect(bundle('3-issue-new').startsWith(bundle('2-trust-both'))).toBe(true)
    expect(bundle('3-issue-new')).toContain(bundle('4-trust-new'))
    expect(bundle('4-trust-new').length).toBeLessThan(bundle('2-trust-both').length)
  },
)

test.each(graceful)('%s: the new root stands once while both are trusted, twice while the new CA issues', name => {
  const [oldRoot, ...more] = pems(text(`${name}/0-adopt/1-adopt/eu-1/root-cert.pem`))
  expect(more).toEqual([])
  const [newRoot] = pems(text(`${name}/4-trust-new/2-restart/eu-1/root-cert.pem`))
  expect(pems(text(`${name}/2-trust-both/2-restart/eu-1/root-cert.pem`))).toEqual([oldRoot, newRoot])
  expect(pems(text(`${name}/3-issue-new/2-restart/eu-1/root-cert.pem`))).toEqual([oldRoot, newRoot, newRoot])
})

test.each(graceful)(
  '%s: a private value that does not change keeps its ciphertext, and a new key has another',
  name => {
    const sealed = (step: string): string => {
      const manifest = parse(text(`${name}/${step}/eu-1/cacerts.yaml`)) as {
        data?: Record<string, string>
        spec?: { encryptedData: Record<string, string> }
      }
      return manifest.spec?.encryptedData['ca-key.pem'] ?? manifest.data?.['ca-key.pem'] ?? ''
    }
    expect(sealed('2-trust-both/1-data')).toMatch(/^(ENC\[AES256_GCM,|[A-Za-z0-9+/]{300})/)
    expect(sealed('2-trust-both/2-restart')).toBe(sealed('2-trust-both/1-data'))
    expect(sealed('3-issue-new/1-data')).not.toBe(sealed('2-trust-both/1-data'))
    for (const step of ['3-issue-new/2-restart', '4-trust-new/1-data', '4-trust-new/2-restart']) {
      expect(sealed(step), step).toBe(sealed('3-issue-new/1-data'))
    }
  },
)

test('from the self-signed CA no `cacerts` is delivered before trust-both: a restart would plug it in too early', () => {
  const paths = [...rendered.keys()].filter(
    path => path.endsWith('cacerts.yaml') && path.startsWith('istio-graceful-sail/'),
  )
  expect(paths.filter(path => /\/(0-adopt|1-enable-multiroot)\//.test(path))).toEqual([])
  expect(paths.length).toBeGreaterThan(0)
})

test('undoing trust-both leaves `cacerts` with the old root alone', () => {
  const undo = 'istio-graceful-sail/2-trust-both/2-restart/undo/eu-1'
  expect(text(`${undo}/root-cert.pem`)).toBe(text('istio-graceful-sail/0-adopt/1-adopt/eu-1/root-cert.pem'))
  expect(text(`${undo}/kustomization.yaml`)).toContain('cacerts.yaml')
})

test('line 1 of trust.txt names the step, so that no two folders are equal', () => {
  const plans = [...rendered].filter(([path]) => path.endsWith('/plan.yaml'))
  expect(plans.length).toBeGreaterThan(5)
  for (const [path, content] of plans) {
    const { phases } = parse(content) as Plan
    const trees = phases.flatMap(phase => phase.steps.flatMap(step => Object.values(step.sites)))
    const digests = trees
      .flatMap(({ digest, undo, nudge }) => [digest, undo?.digest, nudge?.digest])
      .filter(each => each !== undefined)
    expect(new Set(digests).size, path).toBe(digests.length)
  }
})

test('nothing in output/ or its fixtures is a private key', () => {
  for (const [path, content] of rendered) expect(content, path).not.toMatch(/PRIVATE KEY/)
  for (const name of readdirSync('phases/fixtures/certificates')) {
    expect(readFileSync(join('phases/fixtures/certificates', name), 'utf8'), name).not.toMatch(/PRIVATE KEY/)
  }
})
