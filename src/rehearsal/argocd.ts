import { createHash } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { durationOf } from '../delivery/flux.ts'
import { type ArgoApplication, type ArgoSource, applicationOf } from '../gitops/argocd.ts'
import { applicationValues, chartInApplication, valueAt } from '../gitops/helm.ts'
import { buildKustomization } from '../gitops/kustomize.ts'
import type { ManifestObject } from '../gitops/manifests.ts'
import { fromRoot, inRepository, isUnder, join } from '../gitops/paths.ts'
import type { FileTree } from '../rotation.ts'
import { istiodCharts } from '../systems/istio/istiod-chart.ts'
import type { Timer } from './clock.ts'
import type { ReadBase } from './flux.ts'
import { installIstiod, legacyRoot } from './istio/sail.ts'
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
import type { Site } from './site.ts'

/** Field manager of what it applies, and of what it writes of its Applications. */
const controller = 'argocd-controller'
const ownManager = 'argocd-application-controller'
const group = 'argoproj.io'
const trackingId = 'argocd.argoproj.io/tracking-id'
const syncWave = 'argocd.argoproj.io/sync-wave'
const manifestPaths = 'argocd.argoproj.io/manifest-generate-paths'
const refreshNow = 'argocd.argoproj.io/refresh'

// argo-cd v3.5.7: timeout.reconciliation and its jitter; what the repository server keeps of a branch (revision-cache-expiration);
// for how long an error of the repository is kept quiet (repo.error.grace.period.seconds); the pause between two waves.
const poll = 120_000
const jitter = 60_000
const branchKept = 180_000
const errorGrace = 180_000
const wavePause = 2_000
/** Automatic syncs that fail are tried again this often, where the Application says nothing of it (controller/appcontroller.go, autoSync). */
const defaultRetries = 5
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
  readonly multiSource: boolean
  /** Digest of the Application's sources. */
  readonly sources: string
  /** Commit that the manifests were made from: an older one where no path that the Application names has changed since. */
  readonly madeAt: string
}

/** A sync under way; one that failed stays the same operation while it is tried again. */
interface Operation {
  target: Target
  readonly startedAt: string
  readonly byHand: boolean
  readonly selfHeals: number
  retries: number
  results: SyncedResource[]
}

interface SyncedResource {
  readonly resource: Resource
  readonly status: 'Synced' | 'SyncFailed' | 'Pruned' | 'PruneSkipped'
  readonly message: string
}

/** How the last operation ended. */
interface Ended {
  readonly madeAt: string
  readonly sources: string
  readonly ok: boolean
  readonly message: string
  readonly selfHeals: number
  readonly at: number
}

/** What the controller remembers of an Application besides its status. */
interface Known {
  target: Target | null
  /** Digest of the values that the chart was installed with last. */
  installed: string | null
  operation: Operation | null
  ended: Ended | null
  /** Digest of the sources that it was compared with last. */
  compared: string | null
  /** Since when its folder cannot be built. */
  failingSince: number | null
}

/**
 * Argo CD's application controller and repository server: looks at Git every two to three minutes, and sees there what it has kept of the
 * branch for up to three more; compares; and syncs by itself where an Application says so, once for each commit and declaration of the sources
 * (argo-cd v3.5.7, controller/appcontroller.go, autoSync). Charts are Istio's istiod only.
 */
export class ArgoCd {
  readonly #site: Site
  readonly #readBase: ReadBase
  readonly #known = new Map<string, Known>()
  readonly #timers = new Map<string, Timer>()
  #branch: { readonly base: Awaited<ReturnType<ReadBase>>; readonly until: number } | null = null

  constructor(site: Site, readBase: ReadBase) {
    this.#site = site
    this.#readBase = readBase
    site.store.onChange(change => {
      const { object, before, what } = change
      if (!isApplication(object)) {
        this.#touched(object)
        return
      }
      if (what === 'deleted') {
        this.#known.delete(keyOf(object))
        return
      }
      const asked = object.metadata.annotations?.[refreshNow]
      if (asked !== undefined && asked !== before?.metadata.annotations?.[refreshNow]) {
        this.#later(object, this.#lag(object, 200, 800), () => this.#refresh(object))
      } else if (what === 'created' || !isDeepStrictEqual(before?.spec, object.spec)) {
        this.#later(object, this.#lag(object, 500, 1_500), () => this.#refresh(object))
      }
      if (object.operation !== undefined) this.#startByHand(object)
    })
  }

  /** The controller watches what it has applied: a change of it is seen at once, without a look at Git. */
  #touched(object: StoredObject): void {
    const owner = object.metadata.annotations?.[trackingId]?.split(':')[0]
    const isPlane = object.metadata.name === 'istiod' && object.kind === 'Deployment'
    if (owner === undefined && !isPlane) return
    for (const application of this.#site.store.list(group, 'Application')) {
      const known = this.#known.get(keyOf(application))
      if (known?.target === undefined || known.target === null) continue
      if (application.metadata.name !== owner && !(isPlane && known.target.chart !== null)) continue
      const key = `watch/${keyOf(application)}`
      if (this.#timers.has(key)) continue
      const look = (): void => {
        this.#timers.delete(key)
        this.#judge(application, known.target)
      }
      this.#timers.set(key, this.#site.clock.after(100, look))
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
    const known = this.#known.get(key) ?? {
      target: null,
      installed: null,
      operation: null,
      ended: null,
      compared: null,
      failingSince: null,
    }
    this.#known.set(key, known)
    return known
  }

  /** One repository server keeps what the branch points to, for all Applications; who asks for it gets the newest. */
  async #read(fresh: boolean): Promise<Awaited<ReturnType<ReadBase>>> {
    const now = this.#site.clock.millis()
    if (!fresh && this.#branch !== null && now < this.#branch.until) return this.#branch.base
    const base = await this.#readBase()
    this.#branch = { base, until: now + branchKept }
    return base
  }

  /** The newest of the branch is asked for where a person asks, or where the sources are others. */
  async #refresh(application: StoredObject, asked = false): Promise<void> {
    const live = this.#live(application)
    if (live === null) return
    this.#later(live, poll + this.#lag(live, 0, jitter), () => this.#refresh(live))
    if (this.#site.faults.sourceStalled) return
    const known = this.#knownOf(live)
    const sources = sourcesOf(live)
    const fresh = asked || live.metadata.annotations?.[refreshNow] !== undefined || known.compared !== sources
    const { commit, files } = await this.#read(fresh)
    known.compared = sources
    try {
      known.target = this.#target(live, known.target, commit, files)
      known.failingSince = null
    } catch (error) {
      this.#cannotCompare(live, known, fresh, error)
      return
    }
    this.#answered(live)
    this.#judge(live, known.target, true)
  }

  /** Keeps it to itself at first, unless it was asked (controller/state.go, repoErrorCache): nothing of the status changes. */
  #cannotCompare(live: StoredObject, known: Known, fresh: boolean, error: unknown): void {
    const message = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)
    this.#site.log(`Application ${keyOf(live)}`, message)
    const now = this.#site.clock.millis()
    if (!fresh && (known.failingSince === null || now - known.failingSince <= errorGrace)) {
      known.failingSince ??= now
      return
    }
    this.#answered(live)
    const instant = this.#site.clock.instant()
    this.#write(live, {
      sync: { status: 'Unknown' },
      resources: listAt(live, 'status', 'resources').map(entry => ({
        ...(isRecord(entry) ? entry : {}),
        status: 'Unknown',
      })),
      conditions: [{ type: 'ComparisonError', message, lastTransitionTime: instant }],
      reconciledAt: instant,
    })
  }

  /** The annotation asks once. */
  #answered(application: StoredObject): void {
    this.#site.store.update(application, ownManager, ({ metadata }) => {
      if (metadata.annotations !== undefined) delete metadata.annotations[refreshNow]
    })
  }

  /** Renders every source. An Application that names the paths it is made from keeps what it has while none of them changed. */
  #target(live: StoredObject, before: Target | null, commit: string, files: FileTree): Target {
    const application = applicationOf(live as unknown as ManifestObject, '', 0)
    if (application === null) throw new Error('this is no Application')
    const { multiSource } = application
    const revisions = application.sources.map(source =>
      source.chart === null ? commit : (source.targetRevision ?? ''),
    )
    const paths = live.metadata.annotations?.[manifestPaths]
    const sources = sourcesOf(live)
    const sameSources = before !== null && before.sources === sources
    if (sameSources && paths !== undefined && !pathsChanged(application, paths, before.files, files)) {
      return { ...before, commit, revisions }
    }
    const istiod = chartInApplication(files, application, istiodCharts)
    const manifests: Manifest[] = []
    for (const source of application.sources) {
      if (source.ref !== null || source.chart !== null || source.path === null) continue
      if (istiod?.source === source || files.has(join(source.path, 'Chart.yaml'))) continue
      manifests.push(...this.#manifests(application, source, files))
    }
    const chart = istiod === null ? null : chartOf(files, application, istiod)
    return { commit, files, manifests, chart, revisions, multiSource, sources, madeAt: commit }
  }

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

  /** Compares with the cluster, reports, and starts a sync where one is due. `looked`: after a look at Git. */
  #judge(application: StoredObject, target: Target | null, looked = false): void {
    const live = this.#live(application)
    if (live === null || target === null) return
    const known = this.#knownOf(live)
    const resources = this.#resources(live, known, target)
    const synced = resources.every(resource => resource.status === 'Synced')
    const error = synced ? null : this.#autoSync(live, known, target, resources)
    this.#write(live, {
      sync: { status: synced ? 'Synced' : 'OutOfSync', ...revisionsOf(target) },
      health: { status: worstHealth(resources.map(resource => this.#healthOf(resource))) },
      resources,
      conditions:
        error === null ? [] : [{ type: 'SyncError', message: error, lastTransitionTime: this.#site.clock.instant() }],
      ...(looked ? { reconciledAt: this.#site.clock.instant() } : {}),
    })
  }

  /** Why it does not sync though it should, if it says so. */
  #autoSync(live: StoredObject, known: Known, target: Target, resources: readonly Resource[]): string | null {
    const automated = automatedOf(live)
    if (automated === null || known.operation !== null) return null
    const prune = at(automated, 'prune') === true
    const onlyPruning = resources.every(({ status, requiresPruning }) => status === 'Synced' || requiresPruning)
    if (!prune && onlyPruning) return null
    const { ended } = known
    const again = ended !== null && ended.madeAt === target.madeAt && ended.sources === target.sources
    if (again && !ended.ok) return `Failed last sync attempt to [${target.revisions.join(' ')}]: ${ended.message}`
    if (again && at(automated, 'selfHeal') !== true) return null
    const selfHeals = again ? ended.selfHeals : 0
    const wait = again ? selfHealBackOff(selfHeals) - (this.#site.clock.millis() - ended.at) : 0
    if (wait > 0) {
      const key = `heal/${keyOf(live)}`
      this.#timers.get(key)?.cancel()
      this.#timers.set(
        key,
        this.#site.clock.after(wait, () => this.#judge(live, known.target)),
      )
      return null
    }
    if (prune && resources.length > 0 && resources.every(({ requiresPruning }) => requiresPruning === true)) {
      return `Skipping sync attempt to [${target.revisions.join(' ')}]: auto-sync will wipe out all resources`
    }
    const startedAt = this.#site.clock.instant()
    const count = again ? selfHeals + 1 : 0
    this.#begin(live, known, { target, startedAt, byHand: false, selfHeals: count, retries: 0, results: [] })
    return null
  }

  /** A person, or the command line, puts the operation on the object. */
  #startByHand(application: StoredObject): void {
    const known = this.#knownOf(application)
    const { target } = known
    if (known.operation !== null || target === null) return
    const startedAt = this.#site.clock.instant()
    this.#begin(application, known, { target, startedAt, byHand: true, selfHeals: 0, retries: 0, results: [] })
  }

  #begin(live: StoredObject, known: Known, operation: Operation): void {
    known.operation = operation
    if (!operation.byHand) {
      this.#site.store.update(live, ownManager, next => {
        next.operation = this.#operationFields(next, operation)
      })
    }
    this.#step(live, this.#lag(live, 200, 600), now => this.#attempt(now, operation))
  }

  #operationFields(live: StoredObject, operation: Operation): Fields {
    const prune = at(automatedOf(live), 'prune') === true
    return {
      initiatedBy: operation.byHand ? {} : { automated: true },
      retry: { limit: retryOf(live, operation).limit },
      sync: {
        ...revisionsOf(operation.target),
        ...(prune ? { prune } : {}),
        ...(operation.selfHeals > 0 ? { autoHealAttemptsCount: operation.selfHeals } : {}),
      },
    }
  }

  /** `action` with the Application as it is now; where it is gone, so is its operation. */
  #step(application: StoredObject, delay: number, action: (live: StoredObject, known: Known) => void): void {
    const known = this.#knownOf(application)
    this.#site.clock.after(delay, () => {
      const live = this.#live(application)
      if (live === null) known.operation = null
      else action(live, known)
    })
  }

  #attempt(live: StoredObject, operation: Operation): void {
    operation.results = []
    const again = operation.retries > 0
    this.#writeOperation(live, operation, 'Running', again ? `Retrying operation. Attempt #${operation.retries}` : '')
    const waves = wavesOf(operation.target)
    this.#createNamespace(live)
    this.#step(live, this.#lag(live, 300, 1_000), now => this.#wave(now, operation, waves))
  }

  /** Applies the first of the waves, object by object: one that is refused keeps none of the others from being applied, but the waves behind. */
  #wave(live: StoredObject, operation: Operation, [wave, ...behind]: readonly Wave[]): void {
    const known = this.#knownOf(live)
    const { target } = operation
    const failures: string[] = []
    const attempt = (resource: Resource, action: () => void): void => {
      try {
        action()
        operation.results.push({ resource, status: 'Synced', message: `${resource.name} configured` })
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error)
        failures.push(message)
        operation.results.push({ resource, status: 'SyncFailed', message })
        this.#site.log(`Application ${keyOf(live)}`, message)
      }
    }
    if (behind.length === 0 && at(automatedOf(live), 'prune') === true) this.#prune(live, operation)
    const chart = wave?.chart ?? null
    if (chart !== null) {
      const { namespace } = chart
      attempt({ group: 'apps', version: 'v1', kind: 'Deployment', namespace, name: 'istiod', status: 'Synced' }, () => {
        this.#checkNamespace(namespace, 'istiod', target)
        installIstiod(this.#site, chart.values, namespace, controller)
        known.installed = chart.digest
      })
    }
    const options = listAt(live, 'spec', 'syncPolicy', 'syncOptions').map(String)
    for (const manifest of wave?.manifests ?? []) {
      attempt(resourceOf(manifest, true), () => {
        if (isNamespaced(manifest.apiVersion, manifest.kind))
          this.#checkNamespace(manifest.metadata.namespace ?? '', `${manifest.kind} ${manifest.metadata.name}`, target)
        this.#apply(manifest, options)
      })
    }
    if (failures.length > 0) {
      this.#failed(live, operation, `one or more objects failed to apply, reason: ${failures.join(',')}`)
    } else if (behind.length === 0) this.#end(live, operation, true, 'successfully synced (all tasks run)')
    else {
      this.#writeOperation(live, operation, 'Running', 'one or more tasks are running')
      this.#step(live, wavePause, now => this.#whenHealthy(now, operation, behind))
    }
  }

  /** Goes on to the waves behind once all that is applied is healthy. */
  #whenHealthy(live: StoredObject, operation: Operation, behind: readonly Wave[]): void {
    const applied = operation.results.filter(({ status }) => status === 'Synced').map(({ resource }) => resource)
    const healths = applied.map(resource => this.#healthOf(resource))
    if (healths.some(health => health === 'Degraded' || health === 'Missing')) {
      this.#failed(live, operation, 'one or more synchronization tasks completed unsuccessfully')
      return
    }
    const waiting = applied.filter((_, index) => healths[index] === 'Progressing')
    const [first] = waiting
    if (first === undefined) {
      this.#wave(live, operation, behind)
      return
    }
    const more = waiting.length > 1 ? ` and ${waiting.length - 1} more resources` : ''
    const message = `waiting for healthy state of ${first.group ?? ''}/${first.kind}/${first.name}${more}`
    this.#writeOperation(live, operation, 'Running', message)
    this.#step(live, 1_000, now => this.#whenHealthy(now, operation, behind))
  }

  /** The operation stays as it is while it waits to be tried again, and keeps everything newer waiting. */
  #failed(live: StoredObject, operation: Operation, message: string): void {
    const { limit, pause, refresh } = retryOf(live, operation)
    if (limit >= 0 && operation.retries >= limit) {
      const tried = operation.retries > 0 ? ` (retried ${operation.retries} times).` : ''
      this.#end(live, operation, false, `${message}${tried}`)
      return
    }
    operation.retries += 1
    const due = new Date(this.#site.clock.millis() + pause).toISOString().slice(11, 19)
    const retrying = `${message}. Retrying attempt #${operation.retries} at ${due}.`
    this.#writeOperation(live, operation, 'Running', retrying, true)
    this.#step(live, pause, (now, known) => {
      if (refresh && known.target !== null) operation.target = known.target
      this.#attempt(now, operation)
    })
  }

  #end(live: StoredObject, operation: Operation, ok: boolean, message: string): void {
    const known = this.#knownOf(live)
    const { madeAt, sources } = operation.target
    known.ended = { madeAt, sources, ok, message, selfHeals: operation.selfHeals, at: this.#site.clock.millis() }
    known.operation = null
    this.#site.store.update(live, ownManager, next => {
      delete next.operation
    })
    this.#writeOperation(live, operation, ok ? 'Succeeded' : 'Failed', message, true)
    this.#later(live, this.#lag(live, 100, 500), () => this.#refresh(live, operation.byHand))
  }

  #writeOperation(
    live: StoredObject,
    operation: Operation,
    phase: 'Running' | 'Succeeded' | 'Failed',
    message: string,
    finished = false,
  ): void {
    const { target, retries, startedAt } = operation
    const resources = operation.results.map(
      ({ resource: { status: _status, requiresPruning: _own, ...named }, ...result }) => ({
        ...named,
        ...result,
      }),
    )
    this.#write(live, {
      operationState: {
        phase,
        message,
        operation: this.#operationFields(live, operation),
        ...(retries > 0 ? { retryCount: retries } : {}),
        startedAt,
        ...(finished ? { finishedAt: this.#site.clock.instant() } : {}),
        // Of several sources `revision` stays empty.
        syncResult: { ...revisionsOf(target), resources },
      },
    })
  }

  #createNamespace(live: StoredObject): void {
    const namespace = textAt(live, 'spec', 'destination', 'namespace') ?? 'default'
    if (!listAt(live, 'spec', 'syncPolicy', 'syncOptions').includes('CreateNamespace=true')) return
    if (this.#site.store.get('', 'Namespace', null, namespace) !== null) return
    this.#site.store.put({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } }, controller)
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

  #prune(live: StoredObject, operation: Operation): void {
    for (const entry of listAt(live, 'status', 'resources')) {
      const object = this.#found(entry)
      if (
        object === null ||
        isWanted(entry, operation.target) ||
        object.metadata.annotations?.[trackingId] === undefined
      )
        continue
      const resource = entry as Resource
      if (keepsFromPruning(object)) {
        operation.results.push({ resource, status: 'PruneSkipped', message: 'ignored (no prune)' })
        continue
      }
      this.#site.store.delete(object)
      operation.results.push({ resource, status: 'Pruned', message: 'pruned' })
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
    if (object.kind === 'ExternalSecret') return externalHealth(object)
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
    this.#site.store.setStatus(live, ownManager, { ...(isRecord(live.status) ? live.status : {}), ...part })
  }

  /** Whether every Application that syncs by itself is in the state that Git declares, or has given up. */
  get settled(): boolean {
    return this.#site.store.list(group, 'Application').every(application => {
      const known = this.#known.get(keyOf(application))
      if (known === undefined || known.operation !== null) return false
      if (automatedOf(application) === null) return true
      const sync = textAt(application, 'status', 'sync', 'status')
      if (sync === 'Synced') return textAt(application, 'status', 'health', 'status') !== 'Progressing'
      if (sync === undefined || known.ended === null) return false
      const resources = listAt(application, 'status', 'resources')
      const kept = resources.every(
        entry => textAt(entry, 'status') === 'Synced' || at(entry, 'requiresPruning') === true,
      )
      return !known.ended.ok || (sync === 'OutOfSync' && kept)
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

function sourcesOf(application: StoredObject | null): string {
  return digestOf([at(application, 'spec', 'source') ?? null, at(application, 'spec', 'sources') ?? null])
}

/** As `status.sync` and a sync's result hold it: several sources have no `revision`. */
function revisionsOf({ multiSource, revisions, commit }: Target): Fields {
  return multiSource ? { revisions } : { revision: revisions[0] ?? commit }
}

/** `automated: {}` switches it on, and `enabled: false` in it off again. */
function automatedOf(application: StoredObject): unknown {
  const automated = at(application, 'spec', 'syncPolicy', 'automated') ?? null
  return at(automated, 'enabled') === false ? null : automated
}

/** How often a failed sync is tried again, and how long it waits for the next time (pkg/apis/application/v1alpha1, RetryStrategy). */
function retryOf(application: StoredObject, { byHand, retries }: Operation) {
  const retry = byHand ? {} : at(application, 'spec', 'syncPolicy', 'retry')
  const length = (key: string, otherwise: number): number => {
    const written = textAt(retry, 'backoff', key) ?? ''
    return /^\d+$/.test(written) ? Number(written) * 1_000 : (durationOf(written) ?? otherwise)
  }
  const factor = numberAt(retry, 'backoff', 'factor') ?? 2
  return {
    limit: retry === undefined ? defaultRetries : (numberAt(retry, 'limit') ?? 0),
    pause: Math.min(length('duration', 5_000) * factor ** retries, length('maxDuration', 180_000)),
    refresh: at(retry, 'refresh') === true,
  }
}

/** Nothing before the first time, then 2 s, three times as much each time, at most 5 minutes (self-heal-backoff-…). */
function selfHealBackOff(attempts: number): number {
  return attempts === 0 ? 0 : Math.min(2_000 * 3 ** (attempts - 1), 300_000)
}

/** What is applied together; the next wave waits for its health. */
interface Wave {
  readonly manifests: readonly Manifest[]
  readonly chart: Chart | null
}

function wavesOf({ manifests, chart }: Target): readonly Wave[] {
  const sorted = [...manifests].sort(inOrder)
  const numbers = [...new Set([...sorted.map(waveOf), ...(chart === null ? [] : [0])])].sort((a, b) => a - b)
  return numbers.map(number => ({
    manifests: sorted.filter(manifest => waveOf(manifest) === number),
    chart: number === 0 ? chart : null,
  }))
}

function waveOf(manifest: Manifest): number {
  return Number(manifest.metadata.annotations?.[syncWave] ?? '0')
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
  const stage = ({ kind }: Manifest): number => ['CustomResourceDefinition', 'Namespace'].indexOf(kind)
  const late = (manifest: Manifest): number => (stage(manifest) === -1 ? 2 : stage(manifest) === 1 ? 0 : 1)
  return waveOf(a) - waveOf(b) || late(a) - late(b)
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

/**
 * argo-cd resource_customizations/bitnami.com/SealedSecret/health.lua, as of 3.4.13 and 3.5.7: a condition of an older generation does not
 * count. Releases before took it for that of the newest.
 */
function sealedHealth(object: StoredObject): Health {
  if (numberAt(object, 'status', 'observedGeneration') !== object.metadata.generation) return 'Progressing'
  const synced = listAt(object, 'status', 'conditions').find(entry => textAt(entry, 'type') === 'Synced')
  const status = textAt(synced, 'status')
  if (status === 'False') return 'Degraded'
  return status === 'True' ? 'Healthy' : 'Progressing'
}

/** argo-cd resource_customizations/external-secrets.io/ExternalSecret/health.lua: the condition alone, whichever generation it is of. */
function externalHealth(object: StoredObject): Health {
  const ready = listAt(object, 'status', 'conditions').find(entry => textAt(entry, 'type') === 'Ready')
  const status = textAt(ready, 'status')
  if (status === 'False') return 'Degraded'
  return status === 'True' ? 'Healthy' : 'Progressing'
}

/** What is missing counts only where everything is (controller/health.go, setApplicationHealth). */
function worstHealth(all: readonly Health[]): Health {
  if (all.length > 0 && all.every(health => health === 'Missing')) return 'Missing'
  const order: readonly Health[] = ['Degraded', 'Progressing']
  return order.find(health => all.includes(health)) ?? 'Healthy'
}
