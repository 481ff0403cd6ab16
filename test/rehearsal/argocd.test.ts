import { describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { observeDelivery } from '../../src/delivery/delivery.ts'
import { ArgoCd } from '../../src/rehearsal/argocd.ts'
import { at, listAt, type StoredObject, textAt } from '../../src/rehearsal/objects.ts'
import { bareSite, objectsOf, second } from './site.ts'

// Times and orders as the real Argo CD 3.5.7 showed them with its own defaults.

const path = 'trust/eu-1'
const annotation = (name: string): string => `argocd.argoproj.io/${name}`

type Files = Readonly<Record<string, string | null>>

function configMap(name: string, data: object, annotations: object = {}): string {
  return stringify({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, annotations }, data })
}

function sealedSecret(name: string, annotations: object = {}): string {
  const metadata = { name, annotations }
  return stringify({ apiVersion: 'bitnami.com/v1alpha1', kind: 'SealedSecret', metadata, spec: { encryptedData: {} } })
}

/** Too long for client-side apply, so the API server refuses it. */
const refused = configMap('refused', { a: 'x'.repeat(300_000) })

function world() {
  const { site, clock, store } = bareSite()
  const files = new Map<string, string>()
  let commits = 0
  const head = (): string => commits.toString(16).padStart(40, '0')
  const argo = new ArgoCd(site, async () => ({ commit: head(), files: new Map(files) }))
  const source = { repoURL: 'https://example.com/fleet.git', path }
  const application = (): StoredObject => {
    const found = store.get('argoproj.io', 'Application', 'argocd', 'trust')
    if (found === null) throw new Error('no Application')
    return found
  }
  return {
    clock,
    store,
    argo,
    head,
    application,
    commit(changes: Files): string {
      for (const [file, text] of Object.entries(changes)) {
        if (text === null) files.delete(`${path}/${file}`)
        else files.set(`${path}/${file}`, text)
      }
      commits += 1
      return head()
    },
    deliver(spec: object = { syncPolicy: { automated: {} } }): void {
      const metadata = { name: 'trust', namespace: 'argocd' }
      const own = { ...('sources' in spec ? {} : { source }), destination: { namespace: 'mesh' }, ...spec }
      store.put({ apiVersion: 'argoproj.io/v1alpha1', kind: 'Application', metadata, spec: own }, 'kubectl')
    },
    refresh(): void {
      store.update(application(), 'kubectl-annotate', next => {
        next.metadata.annotations = { ...next.metadata.annotations, [annotation('refresh')]: 'normal' }
      })
    },
    seconds: (count: number): Promise<void> => clock.advance(count * second),
    /** Seconds until it is so; looked at ten times a second. */
    async until(is: () => boolean, limit = 600): Promise<number> {
      const began = clock.millis()
      while (!is()) {
        if (clock.millis() - began > limit * second) throw new Error(JSON.stringify(application().status))
        await clock.advance(100)
      }
      return (clock.millis() - began) / second
    },
    sync: (): string | undefined => textAt(application(), 'status', 'sync', 'status'),
    health: (): string | undefined => textAt(application(), 'status', 'health', 'status'),
    revision: (): string | undefined => textAt(application(), 'status', 'sync', 'revision'),
    phase: (): string | undefined => textAt(application(), 'status', 'operationState', 'phase'),
    message: (): string => textAt(application(), 'status', 'operationState', 'message') ?? '',
    arrived(commit: string): boolean {
      const { status } = application()
      const is = [textAt(status, 'sync', 'status'), textAt(status, 'health', 'status')].join(' ') === 'Synced Healthy'
      return is && textAt(status, 'sync', 'revision') === commit && application().operation === undefined
    },
    get: (kind: string, name: string): StoredObject | null =>
      store.get(kind === 'SealedSecret' ? 'bitnami.com' : '', kind, 'mesh', name),
    unsealed(name: string, status = 'True'): void {
      const found = store.get('bitnami.com', 'SealedSecret', 'mesh', name)
      if (found === null) throw new Error(`no SealedSecret ${name}`)
      const conditions = [{ type: 'Synced', status }]
      store.setStatus(found, 'controller', { observedGeneration: found.metadata.generation, conditions })
    },
    edit(name: string, data: object): void {
      const found = store.get('', 'ConfigMap', 'mesh', name)
      if (found === null) throw new Error(`no ConfigMap ${name}`)
      store.update(found, 'kubectl-edit', next => {
        next.data = data
      })
    },
    observe: () =>
      observeDelivery({
        cluster: objectsOf(store),
        delivery: {
          kind: 'argocd',
          namespace: 'argocd',
          name: 'trust',
          file: null,
          repoURL: null,
          project: 'default',
        },
        path,
        repository: { treeDigestAt: async commit => `tree of ${commit}`, isDescendant: async () => true },
        merged: null,
        now: clock.now(),
      }),
  }
}

type World = ReturnType<typeof world>

/** An Application that is Synced at its first commit. */
async function delivered(files: Files, spec?: object): Promise<World> {
  const argo = world()
  const first = argo.commit(files)
  argo.deliver(spec)
  await argo.until(() => argo.arrived(first))
  return argo
}

const public1 = { 'public.yaml': configMap('public', { bundle: 'old' }) }
const public2 = { 'public.yaml': configMap('public', { bundle: 'old new' }) }
const bundle = (argo: World): unknown => at(argo.get('ConfigMap', 'public'), 'data', 'bundle')

describe('a look at Git', () => {
  it('brings a new Application to Synced and Healthy within seconds', async () => {
    const argo = world()
    const first = argo.commit(public1)
    argo.deliver()
    expect(await argo.until(() => argo.arrived(first))).toBeLessThan(5)
  })

  it('comes every two to three minutes, and sees the branch as it was kept for three', async () => {
    const argo = await delivered(public1)
    const first = argo.revision()
    await argo.seconds(5)
    const looked = textAt(argo.application(), 'status', 'reconciledAt')
    const next = argo.commit(public2)
    const stale = await argo.until(() => textAt(argo.application(), 'status', 'reconciledAt') !== looked)
    expect(argo.revision()).toBe(first)
    expect(argo.sync()).toBe('Synced')
    const lag = stale + (await argo.until(() => argo.arrived(next)))
    expect(lag).toBeGreaterThan(180)
    expect(lag).toBeLessThan(370)
    // The verifier's own reckoning is no shorter.
    const due = Date.parse((await argo.observe()).nextDue ?? '') - argo.clock.millis()
    expect(due).toBeGreaterThanOrEqual(355 * second)
  })

  it('comes at once, and at the newest commit, where someone asks with the annotation', async () => {
    const argo = await delivered(public1)
    const second = argo.commit(public2)
    argo.refresh()
    expect(await argo.until(() => argo.arrived(second))).toBeLessThan(3)
    expect(argo.application().metadata.annotations).not.toHaveProperty([annotation('refresh')])
  })

  it('keeps an error of the folder to itself for three minutes, unless it is asked', async () => {
    const argo = await delivered(public1)
    const broken = { 'kustomization.yaml': stringify({ resources: ['public.yaml', 'missing.yaml'] }) }
    argo.commit(broken)
    const hidden = await argo.until(() => argo.sync() === 'Unknown', 1_200)
    expect(hidden).toBeGreaterThan(360)
    expect((await argo.observe()).message).toContain('ComparisonError')
    argo.commit({ 'kustomization.yaml': null })
    argo.refresh()
    await argo.until(() => argo.arrived(argo.head()))

    const before = argo.revision()
    argo.commit(broken)
    await argo.seconds(300)
    expect([argo.sync(), argo.revision()]).toEqual(['Synced', before])
    argo.refresh()
    expect(await argo.until(() => argo.sync() === 'Unknown')).toBeLessThan(2)
    expect(argo.revision()).toBeUndefined()
  })

  it('writes the status as any other field: each time the generation rises', async () => {
    const argo = await delivered(public1)
    const { generation } = argo.application().metadata
    argo.refresh()
    await argo.seconds(5)
    expect(argo.application().metadata.generation).toBeGreaterThan(generation)
  })
})

describe('a sync that fails', () => {
  it('is tried five times more while it keeps newer commits waiting, and has applied all but what was refused (F23)', async () => {
    const argo = world()
    argo.commit({ ...public1, 'a-refused.yaml': refused })
    argo.deliver()
    await argo.until(() => argo.message().includes('Retrying attempt #1'))
    expect(bundle(argo)).toBe('old')
    expect(argo.phase()).toBe('Running')
    argo.commit({ ...public2, 'a-refused.yaml': null })
    argo.refresh()
    await argo.until(() => argo.revision() === argo.head())
    const seen = await argo.observe()
    expect(seen).toMatchObject({ observed: false, ready: false })
    expect(seen.message).toContain(
      'a sync is running: one or more objects failed to apply, reason: ConfigMap "refused"',
    )
    expect(bundle(argo)).toBe('old')
    const waited = await argo.until(() => argo.arrived(argo.head()))
    // 5 s, 10 s, 20 s, 40 s and 80 s.
    expect(waited).toBeGreaterThan(140)
    expect(bundle(argo)).toBe('old new')
  })

  it('is given up in the end: nothing is tried again until the next commit', async () => {
    const retry = { limit: 1, backoff: { duration: '3s' } }
    const argo = world()
    argo.commit({ ...public1, 'refused.yaml': refused })
    argo.deliver({ syncPolicy: { automated: { selfHeal: true }, retry } })
    await argo.until(() => argo.phase() === 'Failed')
    expect(argo.message()).toContain('(retried 1 times)')
    await argo.seconds(5)
    const { finishedAt } = argo.application().status as { readonly finishedAt?: string }
    await argo.seconds(900)
    expect((argo.application().status as { readonly finishedAt?: string }).finishedAt).toBe(finishedAt)
    expect(argo.phase()).toBe('Failed')
    expect(argo.argo.settled).toBe(true)
    const seen = await argo.observe()
    expect(seen.ready).toBe(false)
    expect(seen.message).toContain('sync is OutOfSync: ConfigMap/mesh/refused')
    expect(seen.message).toContain('the last sync ended as Failed')
    expect(seen.message).toContain('SyncError: Failed last sync attempt')
    argo.commit({ 'refused.yaml': null })
    argo.refresh()
    await argo.until(() => argo.arrived(argo.head()))
  })

  it('has no revision of its own where there are several sources, and is not taken for ready', async () => {
    const argo = world()
    argo.commit({ ...public1, 'refused.yaml': refused })
    const repoURL = 'https://example.com/fleet.git'
    argo.deliver({
      sources: [
        { repoURL, path },
        { repoURL, ref: 'values' },
      ],
      syncPolicy: { automated: {}, retry: { limit: 0 } },
    })
    await argo.until(() => argo.phase() === 'Failed')
    await argo.seconds(2)
    const { status } = argo.application()
    expect(at(status, 'operationState', 'syncResult', 'revisions')).toEqual([argo.head(), argo.head()])
    for (const holder of ['sync', 'operationState']) {
      expect(at(status, holder, 'revision')).toBeUndefined()
      expect(at(status, holder, 'syncResult', 'revision')).toBeUndefined()
    }
    const seen = await argo.observe()
    expect(seen).toMatchObject({ ready: false, revision: argo.head() })
    expect(seen.message).toContain('the last sync ended as Failed')
  })
})

describe('sync waves', () => {
  const wave = (number: number): object => ({ [annotation('sync-wave')]: String(number) })
  const files = {
    'canary.yaml': sealedSecret('reanchor-canary', wave(0)),
    'after.yaml': configMap('after', { a: '1' }, wave(1)),
  }

  it('wait for the health of the wave before, and the sync is seen to run all the while', async () => {
    const argo = world()
    const first = argo.commit(files)
    argo.deliver()
    await argo.until(() => argo.get('SealedSecret', 'reanchor-canary') !== null)
    await argo.seconds(60)
    expect(argo.get('ConfigMap', 'after')).toBeNull()
    expect(argo.application().operation).toBeDefined()
    expect(argo.argo.settled).toBe(false)
    const seen = await argo.observe()
    expect(seen).toMatchObject({ ready: false, observed: false, revision: first })
    expect(seen.message).toContain(
      'a sync is running: waiting for healthy state of bitnami.com/SealedSecret/reanchor-canary',
    )
    argo.unsealed('reanchor-canary')
    expect(await argo.until(() => argo.arrived(first))).toBeLessThan(5)
    expect(argo.get('ConfigMap', 'after')).not.toBeNull()
  })

  it('end with the first that is degraded', async () => {
    const argo = world()
    argo.commit(files)
    argo.deliver({ syncPolicy: { automated: {}, retry: { limit: 0 } } })
    await argo.until(() => argo.get('SealedSecret', 'reanchor-canary') !== null)
    argo.unsealed('reanchor-canary', 'False')
    await argo.until(() => argo.phase() === 'Failed')
    expect(argo.message()).toBe('one or more synchronization tasks completed unsuccessfully')
    expect(argo.get('ConfigMap', 'after')).toBeNull()
  })
})

describe('the health of a SealedSecret', () => {
  it('is that of its newest generation', async () => {
    const argo = world()
    argo.commit({ 'canary.yaml': sealedSecret('reanchor-canary') })
    argo.deliver()
    await argo.until(() => argo.sync() === 'Synced')
    expect(argo.health()).toBe('Progressing')
    argo.unsealed('reanchor-canary')
    await argo.until(() => argo.health() === 'Healthy')
    argo.commit({
      'canary.yaml': sealedSecret('reanchor-canary').replace('encryptedData: {}', 'encryptedData: {canary: AgB}'),
    })
    argo.refresh()
    await argo.until(() => argo.sync() === 'Synced' && argo.revision() === argo.head())
    expect(argo.health()).toBe('Progressing')
    expect((await argo.observe()).ready).toBe(false)
    argo.unsealed('reanchor-canary', 'False')
    await argo.until(() => argo.health() === 'Degraded')
  })
})

describe('drift', () => {
  it('is seen at once, and stays where nothing heals it', async () => {
    const argo = await delivered(public1)
    argo.edit('public', { bundle: 'edited' })
    expect(await argo.until(() => argo.sync() === 'OutOfSync')).toBeLessThan(0.5)
    await argo.seconds(600)
    expect(bundle(argo)).toBe('edited')
    expect(await argo.observe()).toMatchObject({ ready: false, message: 'sync is OutOfSync: ConfigMap/mesh/public' })
  })

  it('is healed, at once the first time and later and later when it comes again', async () => {
    const argo = await delivered(public1, { syncPolicy: { automated: { selfHeal: true } } })
    const healed: number[] = []
    for (let time = 0; time < 5; time++) {
      argo.edit('public', { bundle: 'edited' })
      healed.push(await argo.until(() => bundle(argo) === 'old'))
      await argo.until(() => argo.sync() === 'Synced' && argo.application().operation === undefined)
    }
    const [first = 0, second = 0, third = 0, fourth = 0, fifth = 0] = healed
    expect(first).toBeLessThan(3.5)
    expect(second).toBeGreaterThan(1)
    expect(third).toBeGreaterThan(4)
    expect(fourth).toBeGreaterThan(15)
    expect(fifth).toBeGreaterThan(50)
    expect(fifth).toBeLessThan(60)
  })
})

describe('what leaves the folder', () => {
  const stay = { [annotation('sync-options')]: 'Prune=false' }
  const files = {
    ...public1,
    'cacerts.yaml': sealedSecret('cacerts', stay),
    'pruned.yaml': configMap('pruned', { a: '1' }),
  }

  async function leaves(spec: object, gone: Files): Promise<World> {
    const argo = world()
    argo.commit(files)
    argo.deliver(spec)
    await argo.until(() => argo.get('SealedSecret', 'cacerts') !== null)
    argo.unsealed('cacerts')
    await argo.until(() => argo.arrived(argo.head()))
    argo.commit(gone)
    argo.refresh()
    await argo.until(() => argo.revision() === argo.head())
    await argo.seconds(10)
    return argo
  }

  it('stays by Prune=false and keeps the Application OutOfSync: that is delivered, and said by name', async () => {
    const argo = await leaves(
      { syncPolicy: { automated: { prune: true } } },
      { 'cacerts.yaml': null, 'pruned.yaml': null },
    )
    expect(argo.get('ConfigMap', 'pruned')).toBeNull()
    expect(argo.get('SealedSecret', 'cacerts')).not.toBeNull()
    expect(argo.sync()).toBe('OutOfSync')
    expect(listAt(argo.application(), 'status', 'operationState', 'syncResult', 'resources')).toContainEqual(
      expect.objectContaining({ name: 'cacerts', status: 'PruneSkipped', message: 'ignored (no prune)' }),
    )
    expect(await argo.observe()).toMatchObject({
      ready: true,
      revision: argo.head(),
      inventory: ['ConfigMap/mesh/public'],
      message: 'SealedSecret/mesh/cacerts left the folder and stays, by Prune=false',
    })
    expect(argo.argo.settled).toBe(true)
  })

  it('is known to stay by the live object where nothing is pruned anyway, and no sync ran', async () => {
    const argo = await leaves({ syncPolicy: { automated: {} } }, { 'cacerts.yaml': null })
    expect(await argo.observe()).toMatchObject({ ready: true, revision: argo.head() })
  })

  it('is not delivered where it is only not pruned', async () => {
    const argo = await leaves({ syncPolicy: { automated: {} } }, { 'cacerts.yaml': null, 'pruned.yaml': null })
    expect(await argo.observe()).toMatchObject({
      ready: false,
      message:
        'sync is OutOfSync: ConfigMap/mesh/pruned left the folder and is not pruned: delete it, or sync with prune; SealedSecret/mesh/cacerts left the folder and stays, by Prune=false',
    })
  })

  it('is not delivered while something that is declared differs too', async () => {
    const argo = await leaves({ syncPolicy: { automated: {} } }, { 'cacerts.yaml': null })
    argo.edit('public', { bundle: 'edited' })
    await argo.seconds(1)
    const seen = await argo.observe()
    expect(seen.ready).toBe(false)
    expect(seen.message).toContain('sync is OutOfSync: ConfigMap/mesh/public')
  })
})

describe('an Application that syncs only by hand', () => {
  it('is compared all the same, and says that someone synced it', async () => {
    const argo = world()
    const first = argo.commit(public1)
    argo.deliver({})
    await argo.until(() => argo.sync() === 'OutOfSync')
    await argo.seconds(60)
    expect(argo.get('ConfigMap', 'public')).toBeNull()
    expect(await argo.observe()).toMatchObject({
      suspended: true,
      ready: false,
      message: 'sync is OutOfSync: ConfigMap/mesh/public; health is Missing; automatic sync is off',
    })
    argo.store.update(argo.application(), 'argocd-server', next => {
      next.operation = { initiatedBy: { username: 'robin' }, sync: { revision: first } }
    })
    await argo.until(() => argo.arrived(first))
    expect(await argo.observe()).toMatchObject({
      suspended: true,
      ready: true,
      revision: first,
      message: 'synced by hand: automatic sync is off',
    })
  })
})
