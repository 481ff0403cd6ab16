import { createHash } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { decryptSopsSecret } from '../custody/sops.ts'
import { type BuildOptions, type BuildResult, buildKustomization } from '../gitops/kustomize.ts'
import { Remembered } from '../remember.ts'
import type { FileTree } from '../rotation.ts'
import type { Timer } from './clock.ts'
import {
  at,
  groupOf,
  isNamespaced,
  isRecord,
  listAt,
  type Manifest,
  numberAt,
  recordAt,
  type StoredObject,
  textAt,
  textsAt,
} from './objects.ts'
import type { Site } from './site.ts'

/** What is on the base branch now. */
export type ReadBase = () => Promise<{ readonly commit: string; readonly files: FileTree }>

interface Artifact {
  readonly commit: string
  readonly revision: string
  readonly files: FileTree
}

const controller = 'kustomize-controller'
const pruneDisabled = 'kustomize.toolkit.fluxcd.io/prune'
const group = 'kustomize.toolkit.fluxcd.io'
// kustomize-controller --requeue-dependency
const dependencyRetry = 30_000
// Its health checks look every 5 s and last 30 s at the least, whatever `timeout` says (checkHealth, Kustomization.GetTimeout).
const healthPoll = 5_000
const shortestTimeout = 30_000

/**
 * Milliseconds, as measured with the real kustomize-controller 1.9.5, SOPS and a source of its own: objects are applied 0.15 to 0.6 s after
 * the artifact is there, and Ready follows 0.02 to 0.2 s later. The artifact itself waits for the source's next poll.
 */
const lags = { queued: [50, 200], build: [100, 400], report: [20, 200] } as const

/**
 * source-controller and kustomize-controller: polls the base branch, builds each Kustomization from one artifact, and applies it
 * server-side. The order is the real one: a dry run of everything, apply, prune, health checks, then lastAppliedRevision, Ready and, only with
 * that, observedGeneration (fluxcd/kustomize-controller 1.9.5, internal/controller/kustomization_controller.go).
 */
export class Flux {
  readonly #site: Site
  readonly #readBase: ReadBase
  readonly #base: string
  readonly #artifacts = new Map<string, Artifact>()
  /** What Secrets held when they were opened, by key and ciphertext: they are opened at every reconcile. */
  readonly #opened = new Remembered<Readonly<Record<string, string>>>(64)
  readonly #timers = new Map<string, Timer>()
  /** Kustomizations that a worker is at, and those of them that something new has come up for: they have their turn afterwards. */
  readonly #busy = new Set<string>()
  readonly #again = new Set<string>()

  constructor(site: Site, readBase: ReadBase, base: string) {
    this.#site = site
    this.#readBase = readBase
    this.#base = base
    site.store.onChange(change => {
      const { object, before } = change
      if (object.kind === 'GitRepository' && change.what === 'created')
        this.#later(object, 500, () => this.#poll(object))
      if (object.kind !== 'Kustomization' || groupOf(object.apiVersion) !== group) return
      if (change.what === 'deleted') this.#finalise(object)
      else if (change.what !== 'status' && before?.metadata.generation !== object.metadata.generation)
        this.#soon(object)
    })
  }

  async #poll(repository: StoredObject): Promise<void> {
    const live = this.#site.store.get(
      'source.toolkit.fluxcd.io',
      'GitRepository',
      repository.metadata.namespace ?? '',
      repository.metadata.name,
    )
    if (live === null) return
    this.#later(live, milliseconds(textAt(live, 'spec', 'interval'), 60_000), () => this.#poll(live))
    if (at(live, 'spec', 'suspend') === true || this.#site.faults.sourceStalled) return
    const { commit, files } = await this.#readBase()
    const key = sourceKey(live)
    if (this.#artifacts.get(key)?.commit === commit) return
    const revision = `${this.#base}@sha1:${commit}`
    this.#artifacts.set(key, { commit, revision, files })
    const now = this.#site.clock.instant()
    this.#site.store.setStatus(live, 'source-controller', {
      observedGeneration: live.metadata.generation,
      artifact: {
        revision,
        digest: `sha256:${createHash('sha256').update(revision).digest('hex')}`,
        lastUpdateTime: now,
        path: `gitrepository/${live.metadata.namespace}/${live.metadata.name}/${commit}.tar.gz`,
        url: `http://source-controller.flux-system.svc.cluster.local./gitrepository/${live.metadata.namespace}/${live.metadata.name}/${commit}.tar.gz`,
      },
      conditions: [
        {
          type: 'Ready',
          status: 'True',
          reason: 'Succeeded',
          message: `stored artifact for revision '${revision}'`,
          lastTransitionTime: now,
          observedGeneration: live.metadata.generation,
        },
        {
          type: 'ArtifactInStorage',
          status: 'True',
          reason: 'Succeeded',
          message: `stored artifact for revision '${revision}'`,
          lastTransitionTime: now,
          observedGeneration: live.metadata.generation,
        },
      ],
    })
    for (const kustomization of this.#site.store.list(group, 'Kustomization')) {
      if (sourceOf(kustomization) === key) this.#soon(kustomization)
    }
  }

  /** A new revision or declaration ends nothing that is under way, health checks included (feature gate CancelHealthCheckOnNewRevision). */
  #soon(kustomization: StoredObject): void {
    const key = keyOf(kustomization)
    if (this.#busy.has(key)) this.#again.add(key)
    else this.#later(kustomization, this.#lag(kustomization, 'queued'), () => this.#reconcile(kustomization))
  }

  #lag(kustomization: StoredObject, of: keyof typeof lags): number {
    const label = `flux/${of}/${keyOf(kustomization)}/${this.#site.clock.elapsed()}`
    const [least, most] = lags[of]
    return this.#site.random.fork(label).between(least, most)
  }

  #later(object: StoredObject, delay: number, action: () => void | Promise<void>): void {
    const key = `${object.kind}/${keyOf(object)}`
    this.#timers.get(key)?.cancel()
    this.#timers.set(key, this.#site.clock.after(delay, action))
  }

  /** Works on the object as it is now: what changes in it meanwhile is for the next time. */
  #reconcile(kustomization: StoredObject): void {
    const live = this.#live(kustomization)
    if (live === null || at(live, 'spec', 'suspend') === true) return
    const source = sourceOf(live)
    const artifact = this.#artifacts.get(source)
    if (artifact === undefined) {
      const message = `Source artifact not found, retrying in ${goDuration(dependencyRetry)}`
      this.#write(live, {}, [this.#condition(live, 'Ready', 'False', 'ArtifactFailed', message)])
      this.#later(live, dependencyRetry, () => this.#reconcile(live))
      return
    }
    const unmet = this.#unmetDependency(live)
    if (unmet !== null) {
      this.#write(live, {}, [this.#condition(live, 'Ready', 'False', 'DependencyNotReady', unmet)])
      this.#later(live, dependencyRetry, () => this.#reconcile(live))
      return
    }
    this.#busy.add(keyOf(live))
    this.#progress(live, `Fetching manifests for ${about(live, artifact)}`)
    const folder = folderOf(live)
    if (folder !== '' && ![...artifact.files.keys()].some(path => path.startsWith(`${folder}/`))) {
      const message = `kustomization path not found: stat ${folder}: no such file or directory`
      this.#end(live, 'ArtifactFailed', message)
      return
    }
    this.#progress(live, `Building manifests for ${about(live, artifact)}`, {
      lastAttemptedRevision: artifact.revision,
    })
    this.#later(live, this.#lag(live, 'build'), () => this.#apply(live, artifact))
  }

  async #apply(kustomization: StoredObject, artifact: Artifact): Promise<void> {
    if (this.#live(kustomization) === null) return
    let manifests: Manifest[]
    try {
      manifests = await this.#build(kustomization, artifact)
    } catch (error) {
      this.#end(kustomization, 'BuildFailed', messageOf(error))
      return
    }
    this.#progress(kustomization, `Detecting drift for ${about(kustomization, artifact)}`)
    let applied: StoredObject[]
    try {
      applied = this.#applyStaged(manifests)
    } catch (error) {
      this.#end(kustomization, 'ReconciliationFailed', messageOf(error))
      return
    }
    const inventory = applied.map(inventoryEntry)
    if (at(kustomization, 'spec', 'prune') === true) this.#prune(kustomization, inventory)
    this.#write(kustomization, { inventory: { entries: inventory } }, [])
    const checked =
      at(kustomization, 'spec', 'wait') === true ? applied.filter(object => !isSame(object, kustomization)) : []
    if (checked.length > 0) {
      const message = `Running health checks for ${about(kustomization, artifact)}`
      this.#progress(kustomization, message)
      this.#write(kustomization, {}, [this.#condition(kustomization, 'Healthy', 'Unknown', 'Progressing', message)])
      this.#checkHealth(kustomization, artifact, inventory, checked, 0)
      return
    }
    this.#write(kustomization, {}, [], ['Healthy'])
    this.#later(kustomization, this.#lag(kustomization, 'report'), () =>
      this.#succeed(kustomization, artifact, inventory),
    )
  }

  /** All objects of a stage are tried before one of them is written, so a refusal changes none of them; what does not differ is not written. */
  #applyStaged(manifests: readonly Manifest[]): StoredObject[] {
    const { store } = this.#site
    for (const { kind, metadata, ...rest } of manifests) {
      if (!('sops' in rest)) continue
      const name = nameOf(kind, metadata.namespace, metadata.name)
      throw new Error(`${name} is SOPS encrypted, configuring decryption is required for this secret to be reconciled`)
    }
    const applied: StoredObject[] = []
    for (const number of [0, 1, 2]) {
      const staged = manifests.filter(manifest => stage(manifest) === number)
      for (const manifest of staged) this.#dryRun(manifest)
      for (const manifest of staged) {
        const live = this.#liveOf(manifest)
        const written =
          live !== null && !store.drifted(manifest, controller, takenOver)
            ? live
            : store.apply(manifest, controller, { takeOver: takenOver })
        applied.push(written)
      }
    }
    return applied
  }

  #dryRun(manifest: Manifest): void {
    const namespace = manifest.metadata.namespace ?? 'default'
    const namespaced = isNamespaced(manifest.apiVersion, manifest.kind)
    const name = nameOf(manifest.kind, namespaced ? namespace : undefined, manifest.metadata.name)
    if (namespaced && this.#site.store.get('', 'Namespace', null, namespace) === null)
      throw new Error(`${name} not found: namespaces "${namespace}" not found`)
    const live = this.#liveOf(manifest)
    const changed = immutableField(manifest, live)
    if (changed !== null) {
      const invalid = `${manifest.kind} "${manifest.metadata.name}" is invalid: ${changed}: field is immutable`
      throw new Error(`${name} dry-run failed (Invalid): ${invalid}`)
    }
  }

  #checkHealth(
    kustomization: StoredObject,
    artifact: Artifact,
    inventory: readonly InventoryEntry[],
    checked: readonly StoredObject[],
    waited: number,
  ): void {
    if (this.#live(kustomization) === null) return
    const timeout = timeoutOf(kustomization)
    const states = checked.map(object => ({ object, state: this.#health(object) }))
    const open = states.filter(({ state }) => state !== 'Current')
    if (open.length === 0) {
      const passed = `Health check passed in ${goDuration(waited)}`
      this.#write(kustomization, {}, [this.#condition(kustomization, 'Healthy', 'True', 'Succeeded', passed)])
      this.#later(kustomization, this.#lag(kustomization, 'report'), () =>
        this.#succeed(kustomization, artifact, inventory),
      )
      return
    }
    // What is stalled never gets well by itself, and is not waited for.
    const stalled = open.filter(({ state }) => state === 'Failed')
    if (stalled.length > 0 || waited >= timeout) {
      const why = stalled.length > 0 ? 'failed early due to stalled resources' : 'timeout waiting for'
      const named = (stalled.length > 0 ? stalled : open).map(
        ({ object: { kind, metadata }, state }) =>
          `${nameOf(kind, metadata.namespace, metadata.name)} status: '${state}'`,
      )
      const message = `health check failed after ${goDuration(waited)}: ${why}: [${named.join(', ')}]`
      this.#write(kustomization, {}, [this.#condition(kustomization, 'Healthy', 'False', 'HealthCheckFailed', message)])
      this.#end(kustomization, 'HealthCheckFailed', message)
      return
    }
    const pause = Math.min(healthPoll, timeout - waited)
    this.#later(kustomization, pause, () =>
      this.#checkHealth(kustomization, artifact, inventory, checked, waited + pause),
    )
  }

  #succeed(kustomization: StoredObject, artifact: Artifact, inventory: readonly InventoryEntry[]): void {
    if (this.#live(kustomization) === null) return
    const { revision } = artifact
    // The generation counts as observed once this one is Ready, and no sooner (finalizeStatus).
    const status = {
      observedGeneration: kustomization.metadata.generation,
      lastAppliedRevision: revision,
      history: this.#history(kustomization, artifact, inventory),
    }
    const ready = this.#condition(
      kustomization,
      'Ready',
      'True',
      'ReconciliationSucceeded',
      `Applied revision: ${revision}`,
    )
    this.#write(kustomization, status, [ready], ['Reconciling'])
    this.#rest(kustomization, intervalOf(kustomization))
  }

  #end(kustomization: StoredObject, reason: string, message: string): void {
    this.#site.log(`Kustomization ${keyOf(kustomization)}`, message)
    const said = message.split('\n').slice(0, 4).join(' ')
    const reconciling = conditionOf(this.#live(kustomization), 'Reconciling')
    this.#write(kustomization, {}, [
      this.#condition(kustomization, 'Ready', 'False', reason, said),
      ...(reconciling === undefined
        ? []
        : [
            this.#condition(
              kustomization,
              'Reconciling',
              'True',
              'ProgressingWithRetry',
              textAt(reconciling, 'message') ?? '',
            ),
          ]),
    ])
    this.#rest(kustomization, milliseconds(textAt(kustomization, 'spec', 'retryInterval'), intervalOf(kustomization)))
  }

  /** The worker is done with it; what came up meanwhile is taken up at once. */
  #rest(live: StoredObject, delay: number): void {
    const key = keyOf(live)
    this.#busy.delete(key)
    if (this.#again.delete(key)) this.#soon(live)
    else this.#later(live, delay, () => this.#reconcile(live))
  }

  async #build(kustomization: StoredObject, artifact: Artifact): Promise<Manifest[]> {
    const spec = recordAt(kustomization, 'spec')
    const folder = folderOf(kustomization)
    const targetNamespace = textAt(spec, 'targetNamespace')
    const built = builtOnce(artifact.files, folder, {
      directory: 'flux',
      components: listAt(spec, 'components').map(String),
      ignoreMissingComponents: spec.ignoreMissingComponents === true,
      patches: listAt(spec, 'patches').filter(isRecord),
      images: listAt(spec, 'images').filter(isRecord),
      commonLabels: textsAt(spec, 'commonMetadata', 'labels'),
      commonAnnotations: textsAt(spec, 'commonMetadata', 'annotations'),
      ...(targetNamespace === undefined ? {} : { targetNamespace }),
    })
    const manifests: Manifest[] = []
    for (const { object, file } of built.objects) {
      const manifest = structuredClone(object) as unknown as Manifest
      // A sealed Secret that nobody is to open is no fault of the build: the apply refuses it.
      const opened =
        'sops' in manifest && textAt(spec, 'decryption', 'provider') === 'sops'
          ? await this.#decrypt(kustomization, manifest, artifact.files.get(file) ?? '', file)
          : manifest
      opened.metadata.labels = {
        ...opened.metadata.labels,
        'kustomize.toolkit.fluxcd.io/name': kustomization.metadata.name,
        'kustomize.toolkit.fluxcd.io/namespace': kustomization.metadata.namespace ?? '',
      }
      manifests.push(opened)
    }
    return manifests
  }

  async #decrypt(kustomization: StoredObject, manifest: Manifest, text: string, file: string): Promise<Manifest> {
    const secretName = textAt(kustomization, 'spec', 'decryption', 'secretRef', 'name') ?? ''
    const secret = this.#site.store.get('', 'Secret', kustomization.metadata.namespace ?? '', secretName)
    if (secret === null)
      throw new Error(`cannot get decryption Secret '${kustomization.metadata.namespace}/${secretName}'`)
    const identities = Object.entries(textsAt(secret, 'data'))
      .filter(([key]) => key.endsWith('.agekey'))
      .map(([, value]) => Buffer.from(value, 'base64').toString('utf8'))
    const { sops: _sops, ...rest } = manifest
    try {
      const key = [...identities, text].join('\n')
      const data = this.#opened.peek(key) ?? (await decryptSopsSecret(text, identities.join('\n'), file)).data
      this.#opened.set(key, data)
      return { ...rest, data: { ...data } } as Manifest
    } catch (error) {
      throw new Error(`decryption failed for 'Secret.v1.[noGrp]/${manifest.metadata.name}': ${messageOf(error)}`)
    }
  }

  #prune(kustomization: StoredObject, inventory: readonly InventoryEntry[]): void {
    const kept = new Set(inventory.map(entry => entry.id))
    for (const entry of listAt(kustomization, 'status', 'inventory', 'entries')) {
      const id = textAt(entry, 'id') ?? ''
      if (!kept.has(id)) this.#pruneOne(id, kustomization)
    }
  }

  #pruneOne(id: string, kustomization: StoredObject): void {
    const [namespace = '', name = '', objectGroup = '', kind = ''] = id.split('_')
    const object = this.#site.store.get(objectGroup, kind, namespace === '' ? null : namespace, name)
    if (object === null || object.metadata.annotations?.[pruneDisabled] === 'disabled') return
    // An object that another Kustomization has taken over carries that one's labels and is left alone.
    if (object.metadata.labels?.['kustomize.toolkit.fluxcd.io/name'] !== kustomization.metadata.name) return
    this.#site.store.delete(object)
  }

  #finalise(kustomization: StoredObject): void {
    const key = keyOf(kustomization)
    this.#timers.get(`Kustomization/${key}`)?.cancel()
    this.#busy.delete(key)
    this.#again.delete(key)
    if (at(kustomization, 'spec', 'prune') !== true) return
    for (const entry of listAt(kustomization, 'status', 'inventory', 'entries'))
      this.#pruneOne(textAt(entry, 'id') ?? '', kustomization)
  }

  /** What the first dependency that keeps it waiting lacks. */
  #unmetDependency(kustomization: StoredObject): string | null {
    for (const reference of listAt(kustomization, 'spec', 'dependsOn')) {
      const namespace = textAt(reference, 'namespace') ?? kustomization.metadata.namespace ?? ''
      const name = textAt(reference, 'name') ?? ''
      const dependency = this.#site.store.get(group, 'Kustomization', namespace, name)
      if (dependency === null) return `dependency '${namespace}/${name}' not found`
      const ready = textAt(conditionOf(dependency, 'Ready'), 'status') === 'True'
      if (!ready || numberAt(dependency, 'status', 'observedGeneration') !== dependency.metadata.generation)
        return `dependency '${namespace}/${name}' is not ready`
      const revision = this.#artifacts.get(sourceOf(kustomization))?.revision
      const sameSource = sourceOf(dependency) === sourceOf(kustomization)
      if (sameSource && textAt(dependency, 'status', 'lastAppliedRevision') !== revision)
        return `dependency '${namespace}/${name}' revision is not up to date`
    }
    return null
  }

  /** As kstatus names it. */
  #health(object: StoredObject): 'Current' | 'InProgress' | 'Failed' | 'NotFound' {
    const live = this.#liveOf(object)
    if (live === null) return 'NotFound'
    if (textAt(conditionOf(live, 'Stalled'), 'status') === 'True') return 'Failed'
    if (textAt(conditionOf(live, 'Progressing'), 'reason') === 'ProgressDeadlineExceeded') return 'Failed'
    return this.#isCurrent(live) ? 'Current' : 'InProgress'
  }

  #isCurrent(live: StoredObject): boolean {
    if (['Deployment', 'StatefulSet'].includes(live.kind)) {
      const wanted = numberAt(live, 'spec', 'replicas') ?? 1
      return (
        numberAt(live, 'status', 'observedGeneration') === live.metadata.generation &&
        numberAt(live, 'status', 'updatedReplicas') === wanted &&
        numberAt(live, 'status', 'readyReplicas') === wanted &&
        numberAt(live, 'status', 'replicas') === wanted
      )
    }
    if (live.kind === 'DaemonSet') {
      const wanted = numberAt(live, 'status', 'desiredNumberScheduled')
      return (
        numberAt(live, 'status', 'updatedNumberScheduled') === wanted &&
        numberAt(live, 'status', 'numberReady') === wanted
      )
    }
    if (['Kustomization', 'HelmRelease', 'Istio', 'GitRepository'].includes(live.kind)) {
      return (
        numberAt(live, 'status', 'observedGeneration') === live.metadata.generation &&
        textAt(conditionOf(live, 'Ready'), 'status') === 'True'
      )
    }
    // Without an observedGeneration kstatus goes by the condition alone, whichever generation it is of.
    if (live.kind === 'ExternalSecret') return textAt(conditionOf(live, 'Ready'), 'status') === 'True'
    return true
  }

  /** While it works, Ready says no more than that; what it is at stands in Reconciling. */
  #progress(kustomization: StoredObject, message: string, status: Record<string, unknown> = {}): void {
    this.#write(kustomization, status, [
      this.#condition(kustomization, 'Ready', 'Unknown', 'Progressing', 'Reconciliation in progress'),
      this.#condition(kustomization, 'Reconciling', 'True', 'Progressing', message),
    ])
  }

  #write(
    kustomization: StoredObject,
    status: Record<string, unknown>,
    conditions: readonly Condition[],
    dropped: readonly string[] = [],
  ): void {
    const live = this.#live(kustomization)
    if (live === null) return
    const gone = [...dropped, ...conditions.map(({ type }) => type)]
    const kept = listAt(live, 'status', 'conditions').filter(entry => !gone.includes(textAt(entry, 'type') ?? ''))
    this.#site.store.setStatus(live, controller, {
      ...recordAt(live, 'status'),
      ...status,
      conditions: [...conditions, ...kept],
    })
  }

  #condition(kustomization: StoredObject, type: string, status: string, reason: string, message: string): Condition {
    const before = conditionOf(this.#live(kustomization), type)
    const lastTransitionTime = textAt(before, 'status') === status ? textAt(before, 'lastTransitionTime') : undefined
    return {
      type,
      status,
      reason,
      message,
      lastTransitionTime: lastTransitionTime ?? this.#site.clock.instant(),
      observedGeneration: kustomization.metadata.generation,
    }
  }

  #history(kustomization: StoredObject, artifact: Artifact, inventory: readonly InventoryEntry[]): unknown[] {
    const now = this.#site.clock.instant()
    const digest = `sha256:${createHash('sha256')
      .update(JSON.stringify([artifact.revision, inventory]))
      .digest('hex')}`
    const before = [...listAt(kustomization, 'status', 'history')]
    const known = before.find(entry => textAt(entry, 'digest') === digest)
    if (known !== undefined) return before
    const entry = {
      digest,
      firstReconciled: now,
      lastReconciled: now,
      lastReconciledStatus: 'ReconciliationSucceeded',
      totalReconciliations: 1,
      metadata: { revision: artifact.revision },
    }
    return [entry, ...before].slice(0, 5)
  }

  #liveOf({ apiVersion, kind, metadata }: Manifest | StoredObject): StoredObject | null {
    const namespace = isNamespaced(apiVersion, kind) ? (metadata.namespace ?? 'default') : null
    return this.#site.store.get(groupOf(apiVersion), kind, namespace, metadata.name)
  }

  #live(kustomization: StoredObject): StoredObject | null {
    return this.#site.store.get(
      group,
      'Kustomization',
      kustomization.metadata.namespace ?? '',
      kustomization.metadata.name,
    )
  }
}

interface Condition {
  readonly type: string
  readonly status: string
  readonly reason: string
  readonly message: string
  readonly lastTransitionTime: string
  readonly observedGeneration: number
}

interface InventoryEntry {
  readonly id: string
  readonly v: string
}

// Fields that kubectl wrote are taken over, those of other managers stay (kustomize-controller, "kubectl" and "before-first-apply").
const takenOver = /^(kubectl|before-first-apply)/

const builds = new WeakMap<FileTree, Map<string, BuildResult>>()

/** What a Kustomization builds of one revision is built at every interval, and is the same. What fails is tried again. */
function builtOnce(files: FileTree, folder: string, options: BuildOptions): BuildResult {
  const known = builds.get(files) ?? new Map<string, BuildResult>()
  builds.set(files, known)
  const key = JSON.stringify([folder, options])
  const built = known.get(key) ?? buildKustomization(files, folder, options)
  known.set(key, built)
  return built
}

function conditionOf(object: StoredObject | null, type: string): unknown {
  return listAt(object, 'status', 'conditions').find(entry => textAt(entry, 'type') === type)
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function nameOf(kind: string, namespace: string | undefined, name: string): string {
  return namespace === undefined ? `${kind}/${name}` : `${kind}/${namespace}/${name}`
}

function isSame(one: StoredObject, other: StoredObject): boolean {
  return one.kind === other.kind && keyOf(one) === keyOf(other)
}

function folderOf(kustomization: StoredObject): string {
  return (textAt(kustomization, 'spec', 'path') ?? '').replace(/^\.?\/+|\/+$/g, '').replace(/^\.$/, '')
}

function intervalOf(kustomization: StoredObject): number {
  return milliseconds(textAt(kustomization, 'spec', 'interval'), 600_000)
}

function timeoutOf(kustomization: StoredObject): number {
  return Math.max(
    shortestTimeout,
    milliseconds(textAt(kustomization, 'spec', 'timeout'), intervalOf(kustomization) - 30_000),
  )
}

function about(kustomization: StoredObject, { revision }: Artifact): string {
  return `revision ${revision} with a timeout of ${goDuration(timeoutOf(kustomization))}`
}

/** The field that the API server refuses to change, of those that a GitOps tree holds: type of a Secret, selector of a workload. */
function immutableField(manifest: Manifest, live: StoredObject | null): string | null {
  if (live === null) return null
  if (manifest.kind === 'Secret' && groupOf(manifest.apiVersion) === '') {
    const type = textAt(manifest, 'type') ?? 'Opaque'
    return type === (textAt(live, 'type') ?? 'Opaque') ? null : `type: Invalid value: "${type}"`
  }
  if (groupOf(manifest.apiVersion) !== 'apps') return null
  const selector = at(manifest, 'spec', 'selector')
  // Server-side apply of a part of an object leaves alone what it does not name.
  const same = selector === undefined || isDeepStrictEqual(selector, at(live, 'spec', 'selector'))
  return same ? null : 'spec.selector: Invalid value'
}

function inventoryEntry(object: StoredObject): InventoryEntry {
  const version = object.apiVersion.includes('/') ? (object.apiVersion.split('/')[1] ?? '') : object.apiVersion
  return {
    id: `${object.metadata.namespace ?? ''}_${object.metadata.name}_${groupOf(object.apiVersion)}_${object.kind}`,
    v: version,
  }
}

function keyOf(object: StoredObject): string {
  return `${object.metadata.namespace ?? ''}/${object.metadata.name}`
}

function sourceKey(repository: StoredObject): string {
  return `GitRepository/${keyOf(repository)}`
}

function sourceOf(kustomization: StoredObject): string {
  const namespace = textAt(kustomization, 'spec', 'sourceRef', 'namespace') ?? kustomization.metadata.namespace ?? ''
  return `${textAt(kustomization, 'spec', 'sourceRef', 'kind') ?? 'GitRepository'}/${namespace}/${textAt(kustomization, 'spec', 'sourceRef', 'name') ?? ''}`
}

/** Definitions of the cluster, then classes, then the rest (fluxcd/pkg ssa, ApplyAllStaged). */
function stage({ kind }: Manifest): number {
  if (['CustomResourceDefinition', 'Namespace', 'ClusterRole'].includes(kind)) return 0
  return kind.endsWith('Class') ? 1 : 2
}

/** As Go prints a duration of whole milliseconds. */
function goDuration(duration: number): string {
  const seconds = Number(((duration % 60_000) / 1_000).toFixed(3))
  const minutes = Math.floor(duration / 60_000)
  const hours = Math.floor(minutes / 60)
  const parts = [...(hours > 0 ? [`${hours}h`] : []), ...(minutes > 0 ? [`${minutes % 60}m`] : []), `${seconds}s`]
  return parts.join('')
}

/** A Go duration such as `1m30s` in milliseconds. */
export function milliseconds(text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise
  const units: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1_000, ms: 1 }
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|h|m|s)/g)]
  return parts.length === 0 ? otherwise : parts.reduce((sum, part) => sum + Number(part[1]) * (units[part[2]!] ?? 0), 0)
}
