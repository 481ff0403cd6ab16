import { describe, expect, it } from 'vitest'
import type { Cluster, KubernetesObject } from '../../src/cluster/cluster.ts'
import { commitOf, type DeliveredRepository, observeDelivery } from '../../src/delivery/delivery.ts'
import { durationOf, inventoryId } from '../../src/delivery/flux.ts'
import type { DeliveryChoice } from '../../src/rotation.ts'
import { delivery as flux } from '../verify/mesh.ts'

const commit = 'c'.repeat(40)
const digest = 'd'.repeat(64)
const now = new Date('2026-11-22T12:00:00Z')
const argo: DeliveryChoice = {
  kind: 'argocd',
  namespace: 'argocd',
  name: 'trust',
  file: null,
  repoURL: null,
  project: 'default',
}

function clusterWith(objects: Readonly<Record<string, KubernetesObject>>): Cluster {
  const refuse = async (): Promise<never> => {
    throw new Error('not asked for')
  }
  return {
    identity: refuse,
    get: async type => objects[type.plural] ?? null,
    metadata: refuse,
    async *list() {},
    httpGet: refuse,
    servedChain: refuse,
    close: async () => {},
  }
}

const here: DeliveredRepository = {
  treeDigestAt: async (asked, path) => (asked === commit && path === 'trust/eu-1' ? digest : null),
  isDescendant: async (one, of) => one === of || of === 'a'.repeat(40),
}

async function observe(
  objects: Readonly<Record<string, KubernetesObject>>,
  choice = flux,
  merged: string | null = null,
) {
  return await observeDelivery({
    cluster: clusterWith(objects),
    delivery: choice,
    path: 'trust/eu-1',
    repository: here,
    merged,
    now,
  })
}

function kustomization(status: object = {}, spec: object = {}): Readonly<Record<string, KubernetesObject>> {
  return {
    kustomizations: {
      metadata: { name: 'trust', namespace: 'flux-system', generation: 4 },
      spec: { path: './trust/eu-1', sourceRef: { kind: 'GitRepository', name: 'flux-system' }, ...spec },
      status: {
        observedGeneration: 4,
        lastAppliedRevision: `main@sha1:${commit}`,
        lastAttemptedRevision: `main@sha1:${commit}`,
        conditions: [{ type: 'Ready', status: 'True', message: `Applied revision: main@sha1:${commit}` }],
        inventory: { entries: [{ id: 'istio-system_cacerts__Secret', v: 'v1' }] },
        ...status,
      },
    },
    gitrepositories: {
      metadata: { name: 'flux-system', namespace: 'flux-system' },
      spec: { interval: '1m30s' },
      status: { artifact: { revision: `main@sha1:${commit}`, lastUpdateTime: '2026-11-22T11:59:00Z' } },
    },
  }
}

describe('Flux', () => {
  it('shows which tree it applied, what is in it, and when it looks at Git again', async () => {
    expect(await observe(kustomization())).toMatchObject({
      kind: 'flux',
      object: 'Kustomization/flux-system/trust',
      suspended: false,
      observed: true,
      ready: true,
      revision: commit,
      treeDigest: digest,
      inventory: ['Secret/istio-system/cacerts'],
      nextDue: '2026-11-22T12:00:30Z',
      hurry: 'flux reconcile kustomization trust --namespace flux-system --with-source',
    })
  })

  it.each([
    ['suspended', kustomization({}, { suspend: true }), { suspended: true }],
    ['behind its own declaration (F23)', kustomization({ observedGeneration: 3 }), { observed: false }],
    [
      'not ready',
      kustomization({ conditions: [{ type: 'Ready', status: 'False', message: 'health check failed' }] }),
      { ready: false, message: 'health check failed' },
    ],
    ['without a word of readiness', kustomization({ conditions: [] }), { ready: false }],
    ['at nothing yet', kustomization({ lastAppliedRevision: undefined }), { revision: null, treeDigest: null }],
    [
      'pointed at another folder',
      kustomization({}, { path: './apps' }),
      { treeDigest: null, message: 'applies apps, not trust/eu-1' },
    ],
    [
      'at a commit that is not in this clone',
      kustomization({ lastAppliedRevision: `main@sha1:${'e'.repeat(40)}` }),
      { revision: 'e'.repeat(40), treeDigest: null },
    ],
  ])('is %s', async (_what, objects, expected) => {
    expect(await observe(objects)).toMatchObject(expected)
  })

  it('is ready at an old revision while a new one waits: the applied one counts (F23)', async () => {
    const old = 'e'.repeat(40)
    const found = await observe(
      kustomization({ lastAppliedRevision: `main@sha1:${old}`, lastAttemptedRevision: `main@sha1:${old}` }),
    )
    expect(found).toMatchObject({ ready: true, revision: old, treeDigest: null, nextDue: '2026-11-22T12:00:00Z' })
  })

  it('does not count a commit that does not contain the merge', async () => {
    expect((await observe(kustomization(), flux, 'a'.repeat(40))).treeDigest).toBe(digest)
    expect(await observe(kustomization(), flux, 'b'.repeat(40))).toMatchObject({
      treeDigest: null,
      message: expect.stringContaining('does not contain'),
    })
  })

  it('applies a folder above the site as well', async () => {
    expect((await observe(kustomization({}, { path: './' }))).treeDigest).toBe(digest)
    expect((await observe(kustomization({}, { path: 'trust' }))).treeDigest).toBe(digest)
  })

  it('does not exist', async () => {
    expect(await observe({})).toMatchObject({ ready: false, revision: null, message: 'does not exist' })
  })

  it('tells no due time where the source cannot be read, and nothing else is lost', async () => {
    const { kustomizations } = kustomization()
    expect(await observe({ kustomizations: kustomizations! })).toMatchObject({ nextDue: null, treeDigest: digest })
  })
})

describe('Argo CD', () => {
  const application = (
    status: object = {},
    spec: object = {},
    more: object = {},
  ): Readonly<Record<string, KubernetesObject>> => ({
    applications: {
      metadata: { name: 'trust', namespace: 'argocd' },
      spec: { source: { path: 'trust/eu-1' }, syncPolicy: { automated: {} }, ...spec },
      status: {
        sync: { status: 'Synced', revision: commit },
        health: { status: 'Healthy' },
        operationState: { phase: 'Succeeded', syncResult: { revision: commit } },
        reconciledAt: '2026-11-22T11:58:00Z',
        resources: [{ kind: 'SealedSecret', group: 'bitnami.com', namespace: 'istio-system', name: 'cacerts' }],
        ...status,
      },
      ...more,
    },
  })

  it('shows which tree it synced', async () => {
    expect(await observe(application(), argo)).toMatchObject({
      kind: 'argocd',
      suspended: false,
      observed: true,
      ready: true,
      revision: commit,
      treeDigest: digest,
      inventory: ['SealedSecret/istio-system/cacerts'],
      nextDue: '2026-11-22T12:01:00Z',
      hurry: 'kubectl --namespace argocd annotate application trust argocd.argoproj.io/refresh=normal --overwrite',
    })
  })

  it.each([
    [
      'out of sync',
      application({ sync: { status: 'OutOfSync', revision: commit } }),
      { ready: false, message: 'sync is OutOfSync' },
    ],
    ['unhealthy', application({ health: { status: 'Degraded' } }), { ready: false }],
    ['without automatic sync', application({}, { syncPolicy: {} }), { suspended: true }],
    [
      'in the middle of an operation',
      application({}, {}, { operation: { sync: {} } }),
      { observed: false, ready: false },
    ],
    [
      'failed at this revision',
      application({ operationState: { phase: 'Failed', message: 'no', syncResult: { revision: commit } } }),
      { ready: false },
    ],
    [
      'at an older failure, which no longer counts',
      application({ operationState: { phase: 'Failed', syncResult: { revision: 'e'.repeat(40) } } }),
      { ready: true },
    ],
    [
      'finished without a sync result, as a known defect leaves it',
      application({ operationState: { phase: 'Succeeded', syncResult: null } }),
      { ready: true },
    ],
  ])('is %s', async (_what, objects, expected) => {
    expect(await observe(objects, argo)).toMatchObject(expected)
  })

  it('takes the revision of the source whose path is the folder', async () => {
    const revisions = ['e'.repeat(40), commit]
    const sources = [{ chart: 'istiod' }, { path: './trust/eu-1/' }]
    expect(await observe(application({ sync: { status: 'Synced', revisions } }, { sources }), argo)).toMatchObject({
      revision: commit,
      treeDigest: digest,
    })
    expect(
      await observe(application({ sync: { status: 'Synced', revisions } }, { sources: [{ path: 'apps' }] }), argo),
    ).toMatchObject({ revision: null })
  })
})

describe('revisions and ids', () => {
  it.each([
    [`main@sha1:${commit}`, commit],
    [`refs/heads/main@sha1:${commit}`, commit],
    [`sha1:${commit}`, commit],
    [`main/${commit}`, commit],
    [commit, commit],
    ['v1.2@sha256:abc', null],
    ['main', null],
    ['', null],
    [`main@sha1:${commit}0`, null],
    [null, null],
  ])('reads %s', (revision, expected) => {
    expect(commitOf(revision)).toBe(expected)
  })

  it('reads inventory ids, cluster-scoped and RBAC ones too', () => {
    expect(inventoryId('istio-system_cacerts__Secret')).toBe('Secret/istio-system/cacerts')
    expect(inventoryId('_default_sailoperator.io_Istio')).toBe('Istio/default')
    expect(inventoryId('_system__node_rbac.authorization.k8s.io_ClusterRole')).toBe('ClusterRole/system:node')
  })

  it.each([
    ['1h30m', 5_400_000],
    ['90s', 90_000],
    ['500ms', 500],
    ['1.5m', 90_000],
    ['0s', null],
    ['5', null],
    ['1m!', null],
  ])('reads the duration %s', (text, expected) => {
    expect(durationOf(text)).toBe(expected)
  })
})
