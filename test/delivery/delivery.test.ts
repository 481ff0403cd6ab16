import { describe, expect, it } from 'vitest'
import type { Cluster, KubernetesObject } from '../../src/cluster/cluster.ts'
import { syncingNow } from '../../src/delivery/argocd.ts'
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
    metadata: async type => objects[type.plural] ?? null,
    async *list() {},
    httpGet: refuse,
    servedTls: refuse,
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
  repository = here,
) {
  return await observeDelivery({
    cluster: clusterWith(objects),
    delivery: choice,
    path: 'trust/eu-1',
    repository,
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
    const merged = 'b'.repeat(40)
    // The merge brought the tree that was applied at an earlier time too.
    const again = {
      ...here,
      treeDigestAt: async (asked: string) => (asked === commit || asked === merged ? digest : null),
    }
    expect(await observe(kustomization(), flux, merged, again)).toMatchObject({
      treeDigest: null,
      message: expect.stringContaining('does not contain'),
    })
  })

  it('shows the tree of before where the merge has not reached it yet', async () => {
    const merged = 'b'.repeat(40)
    const moved = {
      ...here,
      treeDigestAt: async (asked: string) => ({ [commit]: digest, [merged]: 'e'.repeat(64) })[asked] ?? null,
    }
    expect(await observe(kustomization(), flux, merged, moved)).toMatchObject({
      treeDigest: digest,
      message: expect.stringContaining('does not contain'),
    })
  })

  it.each([
    ['d', 'has fetched the merge, and kustomize-controller has not applied it'],
    ['e', 'has not fetched the merge: it holds main@sha1:eeee'],
  ])('says which controller is behind: the source holds %s', async (held, expected) => {
    const merged = 'b'.repeat(40)
    const repository = { ...here, isDescendant: async (one: string) => one === 'd'.repeat(40) }
    const gitrepositories: KubernetesObject = {
      metadata: { name: 'flux-system', namespace: 'flux-system' },
      spec: { interval: '1m' },
      status: { artifact: { revision: `main@sha1:${held.repeat(40)}` } },
    }
    const source = `GitRepository/flux-system/flux-system ${expected}`
    const behind = await observe({ ...kustomization(), gitrepositories }, flux, merged, repository)
    expect(behind.message).toContain(source)
    const absent = await observe({ gitrepositories }, flux, merged, repository)
    expect(absent.message).toContain(`does not exist; ${source}`)
    expect(absent.hurry).toBe(held === 'e' ? 'flux reconcile source git flux-system --namespace flux-system' : null)
  })

  it('applies a folder above the site as well', async () => {
    expect((await observe(kustomization({}, { path: './' }))).treeDigest).toBe(digest)
    expect((await observe(kustomization({}, { path: 'trust' }))).treeDigest).toBe(digest)
  })

  it('does not exist, and names the file that it comes from', async () => {
    expect(await observe({})).toMatchObject({ ready: false, revision: null, message: 'does not exist' })
    const found = await observe({}, { ...flux, file: 'clusters/eu-1/trust.yaml' } as DeliveryChoice)
    expect(found.message).toBe('does not exist; it comes from clusters/eu-1/trust.yaml: look at what applies that file')
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
      nextDue: '2026-11-22T12:04:00Z',
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
    [
      'synced by hand',
      application({}, { syncPolicy: {} }),
      { suspended: true, ready: true, message: 'synced by hand: automatic sync is off' },
    ],
    [
      'with automatic sync switched off',
      application({}, { syncPolicy: { automated: { enabled: false } } }),
      { suspended: true },
    ],
    [
      'of several sources, one of them above the folder',
      application(
        { sync: { status: 'Synced', revisions: ['1.0.0', 'a'.repeat(40), commit] } },
        { sources: [{ chart: 'istiod', targetRevision: '1.0.0' }, { ref: 'values' }, { path: './trust/' }] },
      ),
      { ready: true, revision: commit, treeDigest: digest },
    ],
    [
      'of several sources, failed at these revisions',
      application(
        {
          sync: { status: 'Synced', revisions: [commit, commit] },
          operationState: { phase: 'Failed', message: 'no', syncResult: { revisions: [commit, commit] } },
        },
        { sources: [{ path: 'trust/eu-1' }, { ref: 'values' }] },
      ),
      { ready: false, message: 'the last sync ended as Failed: no' },
    ],
    [
      'where its folder does not build',
      application({
        sync: { status: 'Unknown', revision: commit },
        conditions: [{ type: 'ComparisonError', message: 'kustomize build failed' }],
      }),
      { ready: false, message: 'sync is Unknown; ComparisonError: kustomize build failed' },
    ],
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

describe('an Application that is OutOfSync', () => {
  type Part = Readonly<Record<string, unknown>>
  const here1 = { group: 'bitnami.com', version: 'v1alpha1', kind: 'SealedSecret', namespace: 'istio-system' }
  const synced = { ...here1, name: 'reanchor-canary', status: 'Synced' }
  const hook = { group: 'batch', version: 'v1', kind: 'Job', namespace: 'istio-system', name: 'after', hook: true }
  const left = { ...here1, name: 'cacerts', status: 'OutOfSync', requiresPruning: true }
  const foreign = { version: 'v1', kind: 'ConfigMap', namespace: 'apps', name: 'theirs', status: 'OutOfSync' }
  const skipped = { ...here1, name: 'cacerts', status: 'PruneSkipped', message: 'ignored (no prune)' }

  function outOfSync(
    resources: readonly Part[],
    result: Part | null = null,
    options: string | null = null,
    more: Part = {},
  ) {
    const annotations = options === null ? {} : { 'argocd.argoproj.io/sync-options': options }
    return {
      applications: {
        metadata: { name: 'trust', namespace: 'argocd' },
        spec: { source: { path: 'trust/eu-1' }, syncPolicy: { automated: {} } },
        status: {
          sync: { status: 'OutOfSync', revision: commit },
          health: { status: 'Healthy' },
          operationState: { phase: 'Succeeded', syncResult: result },
          resources,
          ...more,
        },
      },
      sealedsecrets: { metadata: { name: 'cacerts', namespace: 'istio-system', annotations } },
    } as unknown as Readonly<Record<string, KubernetesObject>>
  }
  const kept = 'SealedSecret/istio-system/cacerts left the folder and stays, by Prune=false'
  const atCommit = { revision: commit, resources: [skipped] }

  it.each<[string, Readonly<Record<string, KubernetesObject>>, string]>([
    ['its last sync passed over', outOfSync([synced, hook, left], atCommit), kept],
    ['the live object asks to be kept', outOfSync([synced, left], null, 'ServerSideApply=true, Prune=false'), kept],
  ])('is delivered where all that keeps it so left the folder, and %s', async (_what, objects, message) => {
    expect(await observe(objects, argo)).toMatchObject({
      ready: true,
      revision: commit,
      treeDigest: digest,
      message,
      inventory: expect.not.arrayContaining(['SealedSecret/istio-system/cacerts']),
    })
  })

  it.each<[string, Readonly<Record<string, KubernetesObject>>, string]>([
    ['names nothing that differs', outOfSync([synced]), 'sync is OutOfSync'],
    [
      'has an object that differs',
      outOfSync([{ ...synced, status: 'OutOfSync' }]),
      'SealedSecret/istio-system/reanchor-canary',
    ],
    [
      'has an object that differs besides',
      outOfSync([foreign, left], atCommit, 'Prune=false'),
      `sync is OutOfSync: ConfigMap/apps/theirs; ${kept}`,
    ],
    [
      'has an object of which nothing is known',
      outOfSync([{ ...left, status: 'Unknown' }], atCommit, 'Prune=false'),
      'OutOfSync',
    ],
    ['is not allowed to prune what asks for nothing', outOfSync([left], null, 'Prune=confirm'), 'is not pruned'],
    [
      'passed over it for another reason',
      outOfSync([left], { revision: commit, resources: [{ ...skipped, message: 'ignored (requires pruning)' }] }),
      'is not pruned',
    ],
    [
      'passed over it at another revision',
      outOfSync([left], { ...atCommit, revision: 'e'.repeat(40) }),
      'is not pruned',
    ],
    [
      'passed over an object of the same name in another namespace',
      outOfSync([{ ...left, namespace: 'other' }], atCommit),
      'is not pruned',
    ],
    [
      'is in the middle of a sync',
      outOfSync([left], null, 'Prune=false', { operationState: { phase: 'Running' } }),
      'a sync is running',
    ],
    ['is not healthy', outOfSync([left], atCommit, null, { health: { status: 'Degraded' } }), 'health is Degraded'],
    [
      'says of an error',
      outOfSync([left], atCommit, null, { conditions: [{ type: 'SyncError', message: 'no' }] }),
      'SyncError: no',
    ],
  ])('is not delivered where it %s', async (_what, objects, message) => {
    const seen = await observe(objects, argo)
    expect(seen.ready).toBe(false)
    expect(seen.message).toContain(message)
  })

  it('names a few of many', async () => {
    const many = Array.from({ length: 9 }, (_, index) => ({ ...foreign, name: `c${index}` }))
    expect((await observe(outOfSync(many), argo)).message).toBe(
      'sync is OutOfSync: ConfigMap/apps/c0, ConfigMap/apps/c1, ConfigMap/apps/c2, ConfigMap/apps/c3, ConfigMap/apps/c4 and 4 more',
    )
  })

  it('is not taken for delivered where the object that left may not be read', async () => {
    const objects = outOfSync([left], null, 'Prune=false')
    const cluster: Cluster = {
      ...clusterWith(objects),
      metadata: async () => {
        throw new Error('forbidden')
      },
    }
    const question = { cluster, delivery: argo, path: 'trust/eu-1', repository: here, merged: null, now }
    expect((await observeDelivery(question)).ready).toBe(false)
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

describe('what an Application is syncing, as its own hook asks', () => {
  const other = 'e'.repeat(40)
  const syncing = (operationState: object | undefined, spec: object): KubernetesObject => ({
    metadata: { name: 'trust', namespace: 'argocd' },
    spec: { source: { path: 'trust/eu-1' }, ...spec },
    status: { sync: { status: 'Synced', revision: other }, operationState },
  })
  const asked = async (operationState: object | undefined, spec: object = {}) =>
    await syncingNow(clusterWith({ applications: syncing(operationState, spec) }), argo, 'trust/eu-1')

  it('is the commit of the sync under way, whatever it compares with meanwhile', async () => {
    expect(await asked({ phase: 'Running', syncResult: { revision: commit } })).toBe(commit)
  })

  it('is, of several sources, that of the site’s folder', async () => {
    const sources = [{ path: 'gates/eu-1' }, { path: 'trust/eu-1' }]
    expect(await asked({ phase: 'Running', syncResult: { revisions: [other, commit] } }, { sources })).toBe(commit)
  })

  it.each([
    ['where no sync was', undefined],
    ['where the last sync is over', { phase: 'Succeeded', syncResult: { revision: commit } }],
    ['where it failed', { phase: 'Failed', syncResult: { revision: commit } }],
    ['where it does not say', { phase: 'Running' }],
    ['where what it says is no commit', { phase: 'Running', syncResult: { revision: '1.2.3' } }],
  ])('is nothing %s', async (_name, operationState) => {
    expect(await asked(operationState)).toBeNull()
  })
})
