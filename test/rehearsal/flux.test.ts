import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { stringify } from 'yaml'
import { listAt, recordAt, type StoredObject, textAt } from '../../src/rehearsal/objects.ts'
import type { Rehearsal, SiteControls } from '../../src/rehearsal/rehearsal.ts'
import { Base, newCa, onlySite, sopsCustody, start, trustFolder } from './support.ts'

// Each was believed to be otherwise until it was seen with the real kustomize-controller 1.9.5.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 })

let base: Base
let rehearsal: Rehearsal
let site: SiteControls

beforeEach(async () => {
  base = new Base()
  rehearsal = await start(base, { roundLimit: 1 })
  site = onlySite(rehearsal)
})
afterEach(() => rehearsal.close())

const second = 1_000
/** Longer than a poll of the source. */
const fetched = 61 * second

/** A Kustomization of its own for the folder `notes`, and what lies in that folder. */
function notes(objects: readonly object[], spec: object = {}): Record<string, string> {
  const kustomization = {
    apiVersion: 'kustomize.toolkit.fluxcd.io/v1',
    kind: 'Kustomization',
    metadata: { name: 'notes', namespace: 'flux-system' },
    spec: {
      interval: '10m',
      path: './notes',
      prune: true,
      sourceRef: { kind: 'GitRepository', name: 'flux-system' },
      ...spec,
    },
  }
  return {
    'clusters/eu-1/notes.yaml': stringify(kustomization),
    'notes/kustomization.yaml': stringify({
      apiVersion: 'kustomize.config.k8s.io/v1beta1',
      kind: 'Kustomization',
      resources: ['objects.yaml'],
    }),
    'notes/objects.yaml': objects.map(object => stringify(object)).join('---\n'),
  }
}

function configMap(data: Record<string, string>, name = 'notes'): object {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: 'default' }, data }
}

/** Nothing here ever runs it, so it never gets well by itself. */
function release(name = 'tool'): object {
  const metadata = { name, namespace: 'default' }
  return { apiVersion: 'helm.toolkit.fluxcd.io/v2', kind: 'HelmRelease', metadata, spec: { suspend: true } }
}

function kustomization(name = 'notes'): StoredObject {
  const found = site.store.get('kustomize.toolkit.fluxcd.io', 'Kustomization', 'flux-system', name)
  if (found === null) throw new Error(`no Kustomization ${name}`)
  return found
}

function condition(type: string, name = 'notes'): { status?: string; reason?: string; message?: string } {
  const found = listAt(kustomization(name), 'status', 'conditions').find(entry => textAt(entry, 'type') === type)
  return found === undefined ? {} : (found as object)
}

function commitOf(field: 'lastAppliedRevision' | 'lastAttemptedRevision', name = 'notes'): string | undefined {
  return textAt(kustomization(name), 'status', field)?.slice(-4)
}

function live(name = 'notes'): StoredObject {
  const found = site.store.get('', 'ConfigMap', 'default', name)
  if (found === null) throw new Error(`no ConfigMap ${name}`)
  return found
}

/** Runs in small steps until it holds, so that what follows begins at a known moment. */
async function until(holds: () => boolean): Promise<void> {
  for (let tries = 0; tries < 3_000 && !holds(); tries += 1) await rehearsal.run(100)
  if (!holds()) throw new Error('it never came')
}

async function startCheck(spec: object): Promise<void> {
  base.merge(notes([release()], { wait: true, ...spec }))
  const exists = (): boolean =>
    site.store.get('kustomize.toolkit.fluxcd.io', 'Kustomization', 'flux-system', 'notes') !== null
  await until(() => exists() && condition('Healthy').status === 'Unknown')
}

function heal(): void {
  const found = site.store.get('helm.toolkit.fluxcd.io', 'HelmRelease', 'default', 'tool')
  if (found === null) throw new Error('no HelmRelease')
  const conditions = [{ type: 'Ready', status: 'True' }]
  site.store.setStatus(found, 'helm-controller', { observedGeneration: found.metadata.generation, conditions })
}

describe('while Flux works on a Kustomization', () => {
  it('says so in Reconciling and Healthy, where Ready only says that it is under way', async () => {
    await startCheck({ timeout: '2m' })
    expect(condition('Ready')).toMatchObject({ status: 'Unknown', message: 'Reconciliation in progress' })
    const message = expect.stringMatching(/^Running health checks for revision main@sha1:.* with a timeout of 2m0s$/)
    expect(condition('Reconciling')).toMatchObject({ status: 'True', reason: 'Progressing', message })
    expect(condition('Healthy')).toMatchObject({ status: 'Unknown', message })
    expect(commitOf('lastAttemptedRevision')).toBe('0002')
    expect(commitOf('lastAppliedRevision')).toBeUndefined()
    heal()
    await rehearsal.run(6 * second)
    expect(condition('Ready')).toMatchObject({ status: 'True', reason: 'ReconciliationSucceeded' })
    expect(condition('Healthy')).toMatchObject({ status: 'True' })
    expect(condition('Reconciling')).toEqual({})
  })

  it('counts a declaration as observed only once it is Ready', async () => {
    base.merge(notes([configMap({ a: '1' })]))
    await rehearsal.run(fetched + 5 * second)
    expect(recordAt(kustomization(), 'status').observedGeneration).toBe(1)
    base.merge(
      notes([{ ...configMap({ a: '1' }), metadata: { name: 'notes', namespace: 'nowhere' } }], { force: true }),
    )
    await rehearsal.run(fetched + 5 * second)
    expect(kustomization().metadata.generation).toBe(2)
    expect(condition('Ready')).toMatchObject({ status: 'False' })
    expect(recordAt(kustomization(), 'status').observedGeneration).toBe(1)
    base.merge(notes([configMap({ a: '2' })], { force: true }))
    await rehearsal.run(fetched + 5 * second)
    expect(recordAt(kustomization(), 'status').observedGeneration).toBe(2)
  })
})

describe('a health check of Flux', () => {
  it('lasts 30 s at the least, whatever timeout says', async () => {
    await startCheck({ timeout: '5s' })
    await rehearsal.run(28 * second)
    expect(condition('Ready').status).toBe('Unknown')
    await rehearsal.run(3 * second)
    const message = expect.stringContaining("timeout waiting for: [HelmRelease/default/tool status: 'InProgress']")
    expect(condition('Ready')).toMatchObject({ status: 'False', reason: 'HealthCheckFailed', message })
    expect(condition('Healthy')).toMatchObject({ status: 'False', reason: 'HealthCheckFailed' })
    expect(condition('Reconciling')).toMatchObject({ status: 'True', reason: 'ProgressingWithRetry' })
    expect(commitOf('lastAppliedRevision')).toBeUndefined()
  })

  it('looks every 5 s', async () => {
    await startCheck({})
    heal()
    await rehearsal.run(4 * second)
    expect(condition('Ready').status).toBe('Unknown')
    await rehearsal.run(2 * second)
    expect(condition('Ready').status).toBe('True')
  })

  it('fails early on an object that is stalled', async () => {
    await startCheck({ timeout: '10m' })
    const found = site.store.get('helm.toolkit.fluxcd.io', 'HelmRelease', 'default', 'tool')
    const stalled = { type: 'Stalled', status: 'True', reason: 'RetriesExceeded' }
    site.store.setStatus(found!, 'helm-controller', { conditions: [stalled] })
    await rehearsal.run(6 * second)
    const message = expect.stringContaining('failed early due to stalled resources: [HelmRelease/default/tool status')
    expect(condition('Ready')).toMatchObject({ status: 'False', reason: 'HealthCheckFailed', message })
  })

  it('is not interrupted by a new revision, which is taken up when it ends', async () => {
    await startCheck({ timeout: '3m' })
    base.merge(notes([release(), configMap({ a: '1' })], { wait: true, timeout: '3m' }))
    await rehearsal.run(2 * fetched)
    expect(commitOf('lastAttemptedRevision')).toBe('0002')
    expect(site.store.get('', 'ConfigMap', 'default', 'notes')).toBeNull()
    expect(commitOf('lastAppliedRevision', 'istio')).toBe('0003')
    heal()
    await rehearsal.run(15 * second)
    expect(live().data).toEqual({ a: '1' })
    expect(commitOf('lastAppliedRevision')).toBe('0003')
  })
})

describe('an apply of Flux', () => {
  it('tries all objects before it writes one, so a refusal changes none of them', async () => {
    const secret = (type: string): object => ({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'zeta', namespace: 'default' },
      type,
    })
    base.merge(notes([configMap({ a: '1' }), secret('Opaque')]))
    await rehearsal.run(fetched + 5 * second)
    base.merge(notes([configMap({ a: '2' }), configMap({}, 'more'), secret('example.com/other')]))
    await rehearsal.run(fetched + 5 * second)
    const message = expect.stringContaining('Secret/default/zeta dry-run failed (Invalid)')
    expect(condition('Ready')).toMatchObject({ reason: 'ReconciliationFailed', message })
    expect(condition('Ready').message).toContain('field is immutable')
    expect(live().data).toEqual({ a: '1' })
    expect(site.store.get('', 'ConfigMap', 'default', 'more')).toBeNull()
    expect([commitOf('lastAppliedRevision'), commitOf('lastAttemptedRevision')]).toEqual(['0002', '0003'])
  })

  it('writes nothing where nothing differs: cleared managedFields stay cleared', async () => {
    base.merge(notes([configMap({ a: '1' })], { interval: '10s' }))
    await rehearsal.run(fetched + 5 * second)
    const { resourceVersion } = live().metadata
    await rehearsal.run(30 * second)
    expect(live().metadata.resourceVersion).toBe(resourceVersion)
    site.store.clearManagers(live())
    await rehearsal.run(30 * second)
    expect(live().metadata.managedFields).toEqual([])
    // What differs makes it apply. Then what was there before has an owner, whom the reconcile after that replaces.
    site.store.update(live(), 'kubectl-edit', next => {
      next.data = { a: '2', stale: 'x' }
    })
    site.store.clearManagers(live())
    await until(() => live().metadata.managedFields.length > 0)
    expect(live().metadata.managedFields.map(entry => entry.manager)).toEqual([
      'before-first-apply',
      'kustomize-controller',
    ])
    expect(live().data).toEqual({ a: '1', stale: 'x' })
    await rehearsal.run(15 * second)
    expect(live().metadata.managedFields.map(entry => entry.manager)).toEqual(['kustomize-controller'])
    expect(live().data).toEqual({ a: '1' })
  })

  it('keeps a key that left Git while another manager has it too, and goes on listing it as its own', async () => {
    base.merge(notes([configMap({ a: '1', b: '1' })], { interval: '10s' }))
    await rehearsal.run(fetched + 5 * second)
    site.store.apply(configMap({ b: '1' }) as Parameters<typeof site.store.apply>[0], 'vault')
    base.merge(notes([configMap({ a: '1' })], { interval: '10s' }))
    await rehearsal.run(fetched + 15 * second)
    expect(commitOf('lastAppliedRevision')).toBe('0003')
    expect(live().data).toEqual({ a: '1', b: '1' })
    const own = live().metadata.managedFields.find(entry => entry.manager === 'kustomize-controller')
    expect(Object.keys(recordAt(own?.fieldsV1, 'f:data'))).toEqual(['f:a', 'f:b'])
  })
})

describe('why Flux says that it failed', () => {
  it('ArtifactFailed: the path is not in the artifact, which then does not count as attempted', async () => {
    base.merge(notes([], { path: './elsewhere' }))
    await rehearsal.run(fetched + 5 * second)
    const message = expect.stringContaining('kustomization path not found')
    expect(condition('Ready')).toMatchObject({ status: 'False', reason: 'ArtifactFailed', message })
    expect(commitOf('lastAttemptedRevision')).toBeUndefined()
  })

  it('BuildFailed: a folder that does not build', async () => {
    base.merge({ ...notes([]), 'notes/kustomization.yaml': 'resources: [nothing.yaml]\n' })
    await rehearsal.run(fetched + 5 * second)
    expect(condition('Ready')).toMatchObject({ status: 'False', reason: 'BuildFailed' })
    expect(commitOf('lastAttemptedRevision')).toBe('0002')
  })

  it('BuildFailed where it cannot open what is sealed, ReconciliationFailed where nobody told it to', async () => {
    const b = newCa()
    const sealed = await trustFolder(sopsCustody(), { signer: b.issuing, chain: b.root, roots: b.root })
    const file = 'clusters/eu-1/trust.yaml'
    base.merge({ ...sealed, [file]: sealed[file]?.replace('name: sops-age', 'name: sops-other') ?? '' })
    await rehearsal.run(2 * fetched)
    expect(condition('Ready', 'trust')).toMatchObject({ status: 'False', reason: 'BuildFailed' })
    base.merge({ [file]: sealed[file]?.replace(/ {2}decryption:\n( {4}.*\n)+/, '') ?? '' })
    await rehearsal.run(2 * fetched)
    expect(condition('Ready', 'trust')).toMatchObject({ status: 'False', reason: 'ReconciliationFailed' })
  })

  it('DependencyNotReady: without a word about the revision that waits', async () => {
    base.merge(notes([configMap({ a: '1' })], { dependsOn: [{ name: 'never' }] }))
    await rehearsal.run(fetched + 5 * second)
    const message = "dependency 'flux-system/never' not found"
    expect(condition('Ready')).toMatchObject({ status: 'False', reason: 'DependencyNotReady', message })
    expect(commitOf('lastAttemptedRevision')).toBeUndefined()
  })
})
