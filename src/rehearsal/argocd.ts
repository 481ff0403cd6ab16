import { createHash } from 'node:crypto'
import { type ArgoApplication, type ArgoSource, applicationOf } from '../gitops/argocd.ts'
import { applicationValues, istiodInApplication, valueAt } from '../gitops/helm.ts'
import { buildKustomization } from '../gitops/kustomize.ts'
import type { ManifestObject } from '../gitops/manifests.ts'
import { fromRoot, inRepository, isUnder, join } from '../gitops/paths.ts'
import type { FileTree } from '../rotation.ts'
import type { Timer } from './clock.ts'
import type { ReadBase } from './flux.ts'
import {
  at,
  type Fields,
  groupOf,
  isNamespaced,
  isRecord,
  listAt,
  type Manifest,
  numberAt,
  type StoredObject,
  textAt,
} from './objects.ts'
import { installIstiod, legacyRoot } from './sail.ts'
import type { Site } from './site.ts'

const controller = 'argocd-controller'
const group = 'argoproj.io'
const trackingId = 'argocd.argoproj.io/tracking-id'
const syncWave = 'argocd.argoproj.io/sync-wave'
const manifestPaths = 'argocd.argoproj.io/manifest-generate-paths'

// timeout.reconciliation and its jitter; a sync attempt of self-healing waits this long (argo-cd, docs/operator-manual).
const poll = 120_000
const jitter = 60_000
const selfHealPause = 5_000
/** What the API server takes as annotations, and so the end of client-side apply. */
const annotationLimit = 262_144

interface Chart {
  readonly namespace: string
  readonly values: Fields
  readonly digest: string
}

/** What an Application is to be, from one state of the repository. */
interface Target {
  readonly commit: string
  readonly files: FileTree
  readonly manifests: readonly Manifest[]
  readonly chart: Chart | null
  /** One for each source; a chart's is its version. */
  readonly revisions: readonly string[]
}

/** What the controller remembers of an Application besides its status. */
interface Known {
  target: Target | null
  /** Digest of the values that the chart was installed with last. */
  installed: string | null
  attempted: { readonly commit: string; readonly digest: string; readonly ok: boolean; readonly retries: number } | null
  syncing: boolean
}

/**
 * Argo CD's application controller: looks at Git every two to three minutes, compares, and syncs by itself where an Application says
 * so, once for each commit and set of parameters (argo-cd controller/appcontroller.go, autoSync). Charts are Istio's istiod only.
 */
export class ArgoCd {
  readonly #site: Site
  readonly #readBase: ReadBase
  readonly #known = new Map<string, Known>()
  readonly #timers = new Map<string, Timer>()

  constructor(site: Site, readBase: ReadBase) {
    this.#site = site
    this.#readBase = readBase
    site.store.onChange(change => {
      const { object, before, what } = change
      if (isApplication(object)) {
        if (what === 'created' || (what === 'changed' && before?.metadata.generation !== object.metadata.generation)) {
          this.#later(object, this.#lag(object, 500, 2_000), () => this.#refresh(object))
        }
        return
      }
      this.#touched(object)
    })
  }

  /** The controller watches what it has applied: a change of it is seen without a look at Git. */
  #touched(object: StoredObject): void {
    const owner = object.metadata.annotations?.[trackingId]?.split(':')[0]
    const isPlane = object.metadata.name === 'istiod' && object.kind === 'Deployment'
    if (owner === undefined && !isPlane) return
    for (const application of this.#site.store.list(group, 'Application')) {
      const known = this.#known.get(keyOf(application))
      if (known?.target === undefined || known.target === null) continue
      if (application.metadata.name !== owner && !(isPlane && known.target.chart !== null)) continue
      this.#timers.get(`watch/${keyOf(application)}`)?.cancel()
      const look = async (): Promise<void> => this.#judge(application, known.target)
      this.#timers.set(`watch/${keyOf(application)}`, this.#site.clock.after(1_000, look))
    }
  }

  #lag(application: StoredObject, from: number, to: number): number {
    return this.#site.random.fork(`argocd/${keyOf(application)}/${this.#site.clock.elapsed()}`).between(from, to)
  }

  #later(application: StoredObject, delay: number, action: () => Promise<void>): void {
    const key = keyOf(application)
    this.#timers.get(key)?.cancel()
    this.#timers.set(key, this.#site.clock.after(delay, action))
  }

  #live(application: StoredObject): StoredObject | null {
    return this.#site.store.get(group, 'Application', application.metadata.namespace ?? '', application.metadata.name)
  }

  #knownOf(application: StoredObject): Known {
    const key = keyOf(application)
    const known = this.#known.get(key) ?? { target: null, installed: null, attempted: null, syncing: false }
    this.#known.set(key, known)
    return known
  }

  async #refresh(application: StoredObject): Promise<void> {
    const live = this.#live(application)
    if (live === null) return
    this.#later(live, poll + this.#lag(live, 0, jitter), () => this.#refresh(live))
    const { commit, files } = await this.#readBase()
    const known = this.#knownOf(live)
    try {
      known.target = this.#target(live, known.target, commit, files)
    } catch (error) {
      const message = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)
      this.#site.log(`Application ${keyOf(live)}`, message)
      this.#write(live, {
        sync: { status: 'Unknown', revision: commit },
        conditions: [{ type: 'ComparisonError', message, lastTransitionTime: this.#site.clock.instant() }],
      })
      return
    }
    this.#judge(live, known.target)
  }

  /** Renders every source. An Application that names the paths it is made from keeps what it has while none of them changed. */
  #target(live: StoredObject, before: Target | null, commit: string, files: FileTree): Target {
    const application = applicationOf(live as unknown as ManifestObject, '', 0)
    if (application === null) throw new Error('this is no Application')
    const revisions = application.sources.map(source =>
      source.chart === null ? commit : (source.targetRevision ?? ''),
    )
    const paths = live.metadata.annotations?.[manifestPaths]
    const sameSpec =
      before !== null && sourcesDigest(application) === sourcesDigest(this.#madeFrom.get(keyOf(live)) ?? null)
    this.#madeFrom.set(keyOf(live), application)
    if (before !== null && sameSpec && paths !== undefined && !pathsChanged(application, paths, before.files, files)) {
      return { ...before, commit, revisions }
    }
    const istiod = istiodInApplication(files, application)
    const manifests: Manifest[] = []
    for (const source of application.sources) {
      if (source.ref !== null || source.chart !== null || source.path === null) continue
      if (istiod?.source === source || files.has(join(source.path, 'Chart.yaml'))) continue
      manifests.push(...this.#manifests(application, source, files))
    }
    const chart = istiod === null ? null : chartOf(files, application, istiod)
    return { commit, files, manifests, chart, revisions }
  }

  readonly #madeFrom = new Map<string, ArgoApplication>()

  #manifests(application: ArgoApplication, source: ArgoSource, files: FileTree): Manifest[] {
    const { objects } = buildKustomization(files, source.path ?? '', {
      ...source.overlay,
      directory: source.recurse ? 'recurse' : 'flat',
    })
    return objects.map(({ object, file }) => {
      if ('sops' in object) throw new Error(`${file}: SOPS encrypted, and Argo CD decrypts nothing by itself`)
      const manifest = structuredClone(object) as unknown as Manifest
      if (isNamespaced(manifest.apiVersion, manifest.kind))
        manifest.metadata.namespace ??= application.destination.namespace ?? 'default'
      const id = `${application.name}:${groupOf(manifest.apiVersion)}/${manifest.kind}:${manifest.metadata.namespace ?? ''}/${manifest.metadata.name}`
      manifest.metadata.annotations = { ...manifest.metadata.annotations, [trackingId]: id }
      return manifest
    })
  }

  /** Compares with the cluster, reports, and starts a sync where one is due. */
  #judge(application: StoredObject, target: Target | null): void {
    const live = this.#live(application)
    if (live === null || target === null) return
    const known = this.#knownOf(live)
    const resources = this.#resources(live, known, target)
    const synced = resources.every(resource => resource.status === 'Synced')
    const { multiSource } = applicationOf(live as unknown as ManifestObject, '', 0) ?? { multiSource: false }
    const revision = multiSource ? { revisions: target.revisions } : { revision: target.revisions[0] ?? target.commit }
    this.#write(live, {
      sync: { status: synced ? 'Synced' : 'OutOfSync', ...revision },
      health: { status: worstHealth(resources.map(resource => this.#healthOf(resource))) },
      resources,
      conditions: [],
      reconciledAt: this.#site.clock.instant(),
    })
    if (!synced && at(live, 'spec', 'syncPolicy', 'automated') !== undefined) this.#autoSync(live, known, target)
  }

  #autoSync(live: StoredObject, known: Known, target: Target): void {
    if (known.syncing) return
    const digest = digestOf([live.metadata.generation, target.chart?.digest ?? ''])
    const { attempted } = known
    const again = attempted !== null && attempted.commit === target.commit && attempted.digest === digest
    const limit = numberAt(live, 'spec', 'syncPolicy', 'retry', 'limit') ?? 0
    if (again && !attempted.ok && attempted.retries >= limit) return
    if (again && attempted.ok && at(live, 'spec', 'syncPolicy', 'automated', 'selfHeal') !== true) return
    const retries = again && !attempted.ok ? attempted.retries + 1 : 0
    // The default back-off: 5 s, doubled up to 3 minutes.
    const pause = !again ? 300 : attempted.ok ? selfHealPause : Math.min(5_000 * 2 ** (retries - 1), 180_000)
    known.syncing = true
    this.#site.clock.after(pause, () => {
      known.syncing = false
      const now = this.#live(live)
      if (now === null || known.target === null) return
      const ok = this.#sync(now, known, known.target)
      known.attempted = { commit: target.commit, digest, ok, retries }
      this.#judge(now, known.target)
    })
  }

  /** Applies in waves, each in the order of kinds; then prunes where it may. False where the sync failed. */
  #sync(live: StoredObject, known: Known, target: Target): boolean {
    const startedAt = this.#site.clock.instant()
    const before = listAt(live, 'status', 'resources')
    let failure: string | null = null
    try {
      const options = listAt(live, 'spec', 'syncPolicy', 'syncOptions').map(String)
      const namespace = textAt(live, 'spec', 'destination', 'namespace') ?? 'default'
      if (options.includes('CreateNamespace=true') && this.#site.store.get('', 'Namespace', null, namespace) === null) {
        this.#site.store.put({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } }, controller)
      }
      if (target.chart !== null) {
        this.#checkNamespace(target.chart.namespace, 'istiod', target)
        installIstiod(this.#site, target.chart.values, target.chart.namespace, controller)
        known.installed = target.chart.digest
      }
      for (const manifest of [...target.manifests].sort(inOrder)) {
        if (isNamespaced(manifest.apiVersion, manifest.kind))
          this.#checkNamespace(manifest.metadata.namespace ?? '', `${manifest.kind} ${manifest.metadata.name}`, target)
        this.#apply(manifest, options)
      }
      if (at(live, 'spec', 'syncPolicy', 'automated', 'prune') === true) this.#prune(before, target)
    } catch (error) {
      failure = error instanceof Error ? error.message : String(error)
      this.#site.log(`Application ${keyOf(live)}`, failure)
    }
    this.#write(live, {
      operationState: {
        phase: failure === null ? 'Succeeded' : 'Failed',
        message: failure ?? 'successfully synced (all tasks run)',
        startedAt,
        finishedAt: this.#site.clock.instant(),
        syncResult: { revision: target.revisions[0] ?? target.commit, revisions: target.revisions },
      },
    })
    return failure === null
  }

  #checkNamespace(namespace: string, what: string, target: Target): void {
    if (this.#site.store.get('', 'Namespace', null, namespace) !== null) return
    if (target.manifests.some(({ kind, metadata }) => kind === 'Namespace' && metadata.name === namespace)) return
    throw new Error(`${what}: namespaces "${namespace}" not found`)
  }

  /** Client-side apply keeps a copy of the manifest in an annotation, which ends at 256 KiB. */
  #apply(manifest: Manifest, options: readonly string[]): void {
    const own = manifest.metadata.annotations?.['argocd.argoproj.io/sync-options'] ?? ''
    const serverSide = options.includes('ServerSideApply=true') || own.includes('ServerSideApply=true')
    if (!serverSide && Buffer.byteLength(JSON.stringify(manifest)) > annotationLimit) {
      throw new Error(
        `${manifest.kind} "${manifest.metadata.name}" is invalid: metadata.annotations: Too long: must have at most ${annotationLimit} bytes`,
      )
    }
    this.#site.store.apply(manifest, controller)
  }

  #prune(before: readonly unknown[], target: Target): void {
    for (const entry of before) {
      const object = this.#found(entry)
      if (object === null || isWanted(entry, target) || object.metadata.annotations?.[trackingId] === undefined)
        continue
      if (!keepsFromPruning(object)) this.#site.store.delete(object)
    }
  }

  #found(resource: unknown): StoredObject | null {
    const namespace = textAt(resource, 'namespace')
    return this.#site.store.get(
      textAt(resource, 'group') ?? '',
      textAt(resource, 'kind') ?? '',
      namespace === undefined ? null : namespace,
      textAt(resource, 'name') ?? '',
    )
  }

  #resources(live: StoredObject, known: Known, target: Target): Resource[] {
    const wanted = target.manifests.map((manifest): Resource => {
      const found = this.#site.store.get(
        groupOf(manifest.apiVersion),
        manifest.kind,
        isNamespaced(manifest.apiVersion, manifest.kind) ? (manifest.metadata.namespace ?? null) : null,
        manifest.metadata.name,
      )
      return resourceOf(manifest, found !== null && covers(found, manifest))
    })
    const chart = target.chart === null ? [] : this.#chartResources(known, target.chart)
    const named = new Set([...wanted, ...chart].map(resourceKey))
    // What it applied once and Git no longer names stays in the list until it is gone.
    const left = listAt(live, 'status', 'resources').flatMap((entry): Resource[] => {
      const object = this.#found(entry)
      if (object === null || named.has(resourceKey(entry as unknown as Resource))) return []
      return [{ ...(entry as unknown as Resource), status: 'OutOfSync', requiresPruning: true }]
    })
    return [...wanted, ...chart, ...left].sort((a, b) => (resourceKey(a) < resourceKey(b) ? -1 : 1))
  }

  #chartResources(known: Known, chart: Chart): Resource[] {
    const places: readonly [string, string, string][] = [
      ['', 'ConfigMap', 'istio'],
      ['', 'Service', 'istiod'],
      ['apps', 'Deployment', 'istiod'],
    ]
    return places.map(([objectGroup, kind, name]) => {
      const there = this.#site.store.get(objectGroup, kind, chart.namespace, name) !== null
      const synced = there && known.installed === chart.digest
      const part = objectGroup === '' ? {} : { group: objectGroup }
      return { ...part, version: 'v1', kind, namespace: chart.namespace, name, status: synced ? 'Synced' : 'OutOfSync' }
    })
  }

  #healthOf(resource: Resource): Health {
    const object = this.#found(resource)
    if (object === null) return 'Missing'
    if (object.kind === 'SealedSecret') return sealedHealth(object)
    if (!['Deployment', 'StatefulSet', 'DaemonSet'].includes(object.kind)) return 'Healthy'
    if (numberAt(object, 'status', 'observedGeneration') !== object.metadata.generation) return 'Progressing'
    const [wanted, updated, ready] =
      object.kind === 'DaemonSet'
        ? ['desiredNumberScheduled', 'updatedNumberScheduled', 'numberAvailable'].map(key =>
            numberAt(object, 'status', key),
          )
        : [
            numberAt(object, 'spec', 'replicas') ?? 1,
            ...['updatedReplicas', 'readyReplicas'].map(key => numberAt(object, 'status', key) ?? 0),
          ]
    const total = object.kind === 'DaemonSet' ? wanted : numberAt(object, 'status', 'replicas')
    const available = object.kind === 'DaemonSet' ? numberAt(object, 'status', 'numberReady') : ready
    return updated === wanted && available === wanted && total === wanted ? 'Healthy' : 'Progressing'
  }

  #write(application: StoredObject, part: Fields): void {
    const live = this.#live(application)
    if (live === null) return
    this.#site.store.setStatus(live, controller, { ...(isRecord(live.status) ? live.status : {}), ...part })
  }

  /** Whether every Application that syncs by itself is in the state that Git declares, or has given up. */
  get settled(): boolean {
    return this.#site.store.list(group, 'Application').every(application => {
      const known = this.#known.get(keyOf(application))
      if (known === undefined || known.syncing) return false
      if (at(application, 'spec', 'syncPolicy', 'automated') === undefined) return true
      const sync = textAt(application, 'status', 'sync', 'status')
      if (sync === 'Synced') return textAt(application, 'status', 'health', 'status') !== 'Progressing'
      return sync !== undefined && known.attempted?.ok === false
    })
  }
}

type Health = 'Healthy' | 'Progressing' | 'Degraded' | 'Missing'

interface Resource {
  readonly group?: string
  readonly version: string
  readonly kind: string
  readonly namespace?: string
  readonly name: string
  readonly status: 'Synced' | 'OutOfSync'
  readonly requiresPruning?: boolean
}

function isApplication(object: StoredObject): boolean {
  return object.kind === 'Application' && groupOf(object.apiVersion) === group
}

function keyOf(application: StoredObject): string {
  return `${application.metadata.namespace ?? ''}/${application.metadata.name}`
}

function chartOf(
  files: FileTree,
  application: ArgoApplication,
  { source, under }: { readonly source: ArgoSource; readonly under: readonly string[] },
): Chart {
  const missing = source.helm.valueFiles.find(entry => {
    const { opaque } = applicationValues(files, application, {
      ...source,
      helm: { ...source.helm, valueFiles: [entry] },
    })
    return opaque.includes(`values file ${entry}`)
  })
  if (missing !== undefined && at(source, 'helm', 'ignoreMissingValueFiles') !== true)
    throw new Error(`helm template failed: open ${missing}: no such file or directory`)
  const { values } = applicationValues(files, application, source)
  const own = valueAt(values, under)
  const rooted = legacyRoot(isRecord(own) ? own : {})
  return { namespace: application.destination.namespace ?? 'istio-system', values: rooted, digest: digestOf(rooted) }
}

function sourcesDigest(application: ArgoApplication | null): string {
  return digestOf(application?.sources ?? null)
}

/** `.` is the source's own folder, `/x` counts from the repository's root. */
function pathsChanged(application: ArgoApplication, paths: string, before: FileTree, now: FileTree): boolean {
  const roots = paths.split(';').flatMap(path =>
    application.sources.flatMap(source => {
      const root = path.startsWith('/') ? fromRoot(path) : inRepository(source.path ?? '', path)
      return root === null || (source.path === null && !path.startsWith('/')) ? [] : [root]
    }),
  )
  const under = (path: string): boolean => roots.some(root => isUnder(path, root))
  for (const [path, text] of now) if (before.get(path) !== text && under(path)) return true
  for (const path of before.keys()) if (!now.has(path) && under(path)) return true
  return false
}

function digestOf(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex')
}

function inOrder(a: Manifest, b: Manifest): number {
  const wave = (manifest: Manifest): number => Number(manifest.metadata.annotations?.[syncWave] ?? '0')
  const stage = ({ kind }: Manifest): number => ['CustomResourceDefinition', 'Namespace'].indexOf(kind)
  const late = (manifest: Manifest): number => (stage(manifest) === -1 ? 2 : stage(manifest) === 1 ? 0 : 1)
  return wave(a) - wave(b) || late(a) - late(b)
}

function resourceOf(manifest: Manifest, synced: boolean): Resource {
  const slash = manifest.apiVersion.indexOf('/')
  return {
    ...(slash === -1 ? {} : { group: manifest.apiVersion.slice(0, slash) }),
    version: manifest.apiVersion.slice(slash + 1),
    kind: manifest.kind,
    ...(isNamespaced(manifest.apiVersion, manifest.kind)
      ? { namespace: manifest.metadata.namespace ?? 'default' }
      : {}),
    name: manifest.metadata.name,
    status: synced ? 'Synced' : 'OutOfSync',
  }
}

function resourceKey({ group: own, kind, namespace, name }: Resource): string {
  return `${own ?? ''}/${kind}/${namespace ?? ''}/${name}`
}

function isWanted(entry: unknown, target: Target): boolean {
  if (
    target.chart !== null &&
    textAt(entry, 'namespace') === target.chart.namespace &&
    textAt(entry, 'name') !== undefined
  ) {
    if (['istio', 'istiod'].includes(textAt(entry, 'name') ?? '')) return true
  }
  return target.manifests.some(manifest => resourceKey(resourceOf(manifest, true)) === resourceKey(entry as Resource))
}

function keepsFromPruning(object: StoredObject): boolean {
  const options = object.metadata.annotations?.['argocd.argoproj.io/sync-options'] ?? ''
  return options.split(',').some(option => ['Prune=false', 'Prune=confirm'].includes(option.trim()))
}

/** Whether the live object has every field of the manifest; what others added is no difference. */
function covers(live: unknown, wanted: unknown): boolean {
  if (isRecord(wanted)) {
    return (
      isRecord(live) && Object.entries(wanted).every(([key, value]) => key === 'status' || covers(live[key], value))
    )
  }
  if (Array.isArray(wanted)) {
    return (
      Array.isArray(live) && live.length === wanted.length && wanted.every((item, index) => covers(live[index], item))
    )
  }
  return live === wanted || (live === undefined && wanted === null)
}

/** argo-cd resource_customizations/bitnami.com/SealedSecret/health.lua: no look at observedGeneration. */
function sealedHealth(object: StoredObject): Health {
  if (object.status === undefined) return 'Progressing'
  const refused = listAt(object, 'status', 'conditions').some(
    entry => textAt(entry, 'type') === 'Synced' && textAt(entry, 'status') === 'False',
  )
  return refused ? 'Degraded' : 'Healthy'
}

function worstHealth(all: readonly Health[]): Health {
  const order: readonly Health[] = ['Missing', 'Degraded', 'Progressing']
  return order.find(health => all.includes(health)) ?? 'Healthy'
}
