import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { type Fixture, fixtureSite, istioFixtures } from '../../phases/fixtures/istio.ts'
import { applyWiring } from '../../src/gitops/yaml-edit.ts'
import type { Plan, TrustState } from '../../src/rotation.ts'

interface Built {
  readonly kind: string
  readonly metadata: { readonly name: string; readonly annotations?: Record<string, string> }
  readonly data?: Record<string, string>
  readonly spec?: {
    readonly values?: unknown
    readonly template?: { readonly metadata?: { readonly annotations?: Record<string, string> } }
  }
}

let folder = ''

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'reanchor-builds-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function build(path: string): readonly Built[] {
  const text = execFileSync('kubectl', ['kustomize', path], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  return parseAllDocuments(text).map(document => document.toJS() as Built)
}

/** Every folder of a site that output/ holds for this fixture, with the state that plan.yaml says it declares. */
function siteFolders(fixture: Fixture): readonly { readonly path: string; readonly state: TrustState }[] {
  const plan = parse(readFileSync(`output/${fixture.name}/plan.yaml`, 'utf8')) as Plan
  const folders: { path: string; state: TrustState }[] = []
  for (const phase of plan.phases) {
    for (const step of phase.steps) {
      const base = `output/${fixture.name}/${phase.number}-${phase.name}/${step.number}-${step.name}`
      const site = step.sites[fixtureSite]
      if (site === undefined) throw new Error(`no ${fixtureSite} in ${base}`)
      folders.push({ path: `${base}/${fixtureSite}`, state: site.state })
      if (!fixture.waysBack) continue
      for (const way of ['undo', 'nudge'] as const) {
        const planned = site[way]
        if (planned !== null) folders.push({ path: `${base}/${way}/${fixtureSite}`, state: planned.state })
      }
    }
  }
  return folders
}

/** The user's repository as it is once this step is merged. */
function mergedRepository(fixture: Fixture, plan: Plan, siteFolder: string): string {
  const root = mkdtempSync(join(folder, 'repository-'))
  const files = new Map(fixture.files)
  for (const { file, edit } of plan.wiring) {
    const { text } = applyWiring(files.get(file) ?? null, edit, file)
    if (text !== null) files.set(file, text)
  }
  for (const [path, text] of files) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), text)
  }
  cpSync(siteFolder, join(root, 'trust', fixtureSite), { recursive: true })
  return root
}

const workloadKinds = ['Deployment', 'StatefulSet', 'DaemonSet']

describe.each(istioFixtures())('$name', fixture => {
  test('kubectl builds every site folder, and what comes out is what the plan says', () => {
    const folders = siteFolders(fixture)
    const { declaration } = fixture
    const sealed = declaration.includes('sealedSecrets')
      ? 'SealedSecret'
      : declaration.includes('externalSecrets')
        ? 'ExternalSecret'
        : 'Secret'
    const there = readdirSync(`output/${fixture.name}`, { recursive: true, encoding: 'utf8' }).filter(path =>
      path.endsWith(`/${fixtureSite}`),
    )
    expect(folders.map(each => each.path).sort()).toEqual(there.map(path => `output/${fixture.name}/${path}`).sort())
    for (const { path, state } of folders) {
      const names = build(path)
        .filter(object => object.kind === sealed)
        .map(object => object.metadata.name)
      expect(names.sort(), path).toEqual(
        state.source === 'plugged' ? ['cacerts', 'reanchor-canary'] : ['reanchor-canary'],
      )
    }
  })

  test('the user’s own kustomizations carry the patches of every step', () => {
    const plan = parse(readFileSync(`output/${fixture.name}/plan.yaml`, 'utf8')) as Plan
    const kustomized = !fixture.declaration.includes('install: helmRelease')
    for (const { path, state } of siteFolders(fixture)) {
      const root = mergedRepository(fixture, plan, path)
      const workloads = build(join(root, 'apps', fixtureSite)).filter(object => workloadKinds.includes(object.kind))
      expect(workloads.length, path).toBeGreaterThan(4)
      for (const { kind, metadata, spec } of workloads) {
        const name = `${path} ${kind} ${metadata.name}`
        expect(metadata.annotations?.['reanchor.dev/rotation'], name).toBe('mesh-2026')
        expect(spec?.template?.metadata?.annotations?.['reanchor.dev/trust'], name).toBe(state.restarts.workloads)
      }
      if (fixture.declaration.includes('install: sail')) {
        const istio = build(join(root, 'istio', fixtureSite)).find(object => object.kind === 'Istio')
        expect(istio?.metadata.annotations?.['reanchor.dev/rotation'], path).toBe('mesh-2026')
        expect(istio?.spec?.values, path).toMatchObject(istiodValues(state))
      }
      if (!kustomized) {
        const map = build(join(root, 'trust', fixtureSite)).find(object => object.kind === 'ConfigMap')
        expect(parse(map?.data?.['values.yaml'] ?? '') ?? {}, path).toMatchObject(istiodValues(state))
      }
    }
  })
})

/** What istiod's chart is told of a state; written out here, apart from the code under test. */
function istiodValues(state: TrustState): object {
  const values: { pilot?: { env?: object; podAnnotations?: object }; meshConfig?: object } = {}
  if (state.settings.ISTIO_MULTIROOT_MESH !== undefined)
    values.pilot = { env: { ISTIO_MULTIROOT_MESH: state.settings.ISTIO_MULTIROOT_MESH } }
  if (state.restarts.istiod !== undefined)
    values.pilot = { ...values.pilot, podAnnotations: { 'reanchor.dev/trust': state.restarts.istiod } }
  const agent = state.settings.PROXY_CONFIG_XDS_AGENT
  if (agent !== undefined) values.meshConfig = { defaultConfig: { proxyMetadata: { PROXY_CONFIG_XDS_AGENT: agent } } }
  return values
}
