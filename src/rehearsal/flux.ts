import { createHash } from 'node:crypto'
import { decryptSopsSecret } from '../custody/sops.ts'
import { buildKustomization } from '../gitops/kustomize.ts'
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

/**
 * source-controller and kustomize-controller: polls the base branch, builds each Kustomization from one artifact, and applies it
 * server-side. The order is the real one: apply, then prune, then health checks, then lastAppliedRevision and Ready
 * (fluxcd/kustomize-controller internal/controller/kustomization_controller.go).
 */
export class Flux {
  readonly #site: Site
  readonly #readBase: ReadBase
  readonly #base: string
  readonly #artifacts = new Map<string, Artifact>()
  readonly #timers = new Map<string, Timer>()

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
    if (at(live, 'spec', 'suspend') === true) return
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

  #soon(kustomization: StoredObject): void {
    const lag = this.#site.random.fork(`flux/${keyOf(kustomization)}/${this.#site.clock.elapsed()}`).between(300, 2_000)
    this.#later(kustomization, lag, () => this.#reconcile(kustomization))
  }

  #later(object: StoredObject, delay: number, action: () => Promise<void>): void {
    const key = `${object.kind}/${keyOf(object)}`
    this.#timers.get(key)?.cancel()
    this.#timers.set(key, this.#site.clock.after(delay, action))
  }

  async #reconcile(kustomization: StoredObject): Promise<void> {
    const live = this.#live(kustomization)
    if (live === null || at(live, 'spec', 'suspend') === true) return
    const interval = milliseconds(textAt(live, 'spec', 'interval'), 600_000)
    const artifact = this.#artifacts.get(sourceOf(live))
    if (artifact === undefined) {
      this.#fail(live, null, 'ArtifactFailed', 'Source artifact not found, retrying in 30s')
      this.#later(live, dependencyRetry, () => this.#reconcile(live))
      return
    }
    const waitsFor = this.#unmetDependency(live)
    if (waitsFor !== null) {
      this.#fail(live, artifact.revision, 'DependencyNotReady', `dependency '${waitsFor}' is not ready`)
      this.#later(live, dependencyRetry, () => this.#reconcile(live))
      return
    }
    let applied: StoredObject[]
    try {
      const manifests = await this.#build(live, artifact)
      this.#checkNamespaces(manifests)
      applied = manifests.map(manifest => this.#site.store.apply(manifest, controller, { takeOver: kubectlManagers }))
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      this.#site.log(`Kustomization ${keyOf(live)}`, message)
      this.#fail(live, artifact.revision, 'ReconciliationFailed', message.split('\n').slice(0, 4).join(' '))
      this.#later(live, Math.min(milliseconds(textAt(live, 'spec', 'retryInterval'), interval), interval), () =>
        this.#reconcile(live),
      )
      return
    }
    const inventory = applied.map(inventoryEntry)
    if (at(live, 'spec', 'prune') === true) this.#prune(live, inventory)
    await this.#waitForHealth(live, artifact, inventory, applied, 0)
  }

  async #waitForHealth(
    kustomization: StoredObject,
    artifact: Artifact,
    inventory: readonly InventoryEntry[],
    applied: readonly StoredObject[],
    waited: number,
  ): Promise<void> {
    const live = this.#live(kustomization)
    if (live === null) return
    const interval = milliseconds(textAt(live, 'spec', 'interval'), 600_000)
    const unhealthy = at(live, 'spec', 'wait') === true ? applied.find(object => !this.#healthy(object)) : undefined
    if (unhealthy === undefined) {
      this.#succeed(live, artifact, inventory)
      this.#later(live, interval, () => this.#reconcile(live))
      return
    }
    if (waited >= milliseconds(textAt(live, 'spec', 'timeout'), Math.max(60_000, interval - 30_000))) {
      const name = `${unhealthy.kind}/${unhealthy.metadata.namespace ?? ''}/${unhealthy.metadata.name}`
      this.#fail(
        live,
        artifact.revision,
        'HealthCheckFailed',
        `health check failed: timeout waiting for: [${name} status: 'InProgress']`,
        inventory,
      )
      this.#later(live, milliseconds(textAt(live, 'spec', 'retryInterval'), interval), () => this.#reconcile(live))
      return
    }
    this.#fail(live, artifact.revision, 'Progressing', 'Running health checks', inventory)
    this.#later(live, 3_000, () => this.#waitForHealth(live, artifact, inventory, applied, waited + 3_000))
  }

  async #build(kustomization: StoredObject, artifact: Artifact): Promise<Manifest[]> {
    const spec = recordAt(kustomization, 'spec')
    const folder = (textAt(spec, 'path') ?? '').replace(/^\.?\/+|\/+$/g, '').replace(/^\.$/, '')
    const targetNamespace = textAt(spec, 'targetNamespace')
    const built = buildKustomization(artifact.files, folder, {
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
      const opened =
        'sops' in manifest
          ? await this.#decrypt(kustomization, manifest, artifact.files.get(file) ?? '', file)
          : manifest
      opened.metadata.labels = {
        ...opened.metadata.labels,
        'kustomize.toolkit.fluxcd.io/name': kustomization.metadata.name,
        'kustomize.toolkit.fluxcd.io/namespace': kustomization.metadata.namespace ?? '',
      }
      manifests.push(opened)
    }
    return manifests.sort((a, b) => stage(a) - stage(b))
  }

  async #decrypt(kustomization: StoredObject, manifest: Manifest, text: string, file: string): Promise<Manifest> {
    const name = `${manifest.kind}/${manifest.metadata.namespace ?? ''}/${manifest.metadata.name}`
    if (textAt(kustomization, 'spec', 'decryption', 'provider') !== 'sops') {
      throw new Error(`${name} is SOPS encrypted, configuring decryption is required for this secret to be reconciled`)
    }
    const secretName = textAt(kustomization, 'spec', 'decryption', 'secretRef', 'name') ?? ''
    const secret = this.#site.store.get('', 'Secret', kustomization.metadata.namespace ?? '', secretName)
    if (secret === null)
      throw new Error(`cannot get decryption Secret '${kustomization.metadata.namespace}/${secretName}'`)
    const identities = Object.entries(textsAt(secret, 'data'))
      .filter(([key]) => key.endsWith('.agekey'))
      .map(([, value]) => Buffer.from(value, 'base64').toString('utf8'))
    const opened = await decryptSopsSecret(text, identities.join('\n'), file)
    const { sops: _sops, ...rest } = manifest
    return { ...rest, data: { ...opened.data } } as Manifest
  }

  #checkNamespaces(manifests: readonly Manifest[]): void {
    const made = new Set(
      manifests.filter(manifest => manifest.kind === 'Namespace').map(manifest => manifest.metadata.name),
    )
    for (const manifest of manifests) {
      if (!isNamespaced(manifest.apiVersion, manifest.kind)) continue
      const namespace = manifest.metadata.namespace ?? 'default'
      if (made.has(namespace) || this.#site.store.get('', 'Namespace', null, namespace) !== null) continue
      throw new Error(
        `${manifest.kind}/${namespace}/${manifest.metadata.name} namespace not specified or not found: namespaces "${namespace}" not found`,
      )
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
    this.#timers.get(`Kustomization/${keyOf(kustomization)}`)?.cancel()
    if (at(kustomization, 'spec', 'prune') !== true) return
    for (const entry of listAt(kustomization, 'status', 'inventory', 'entries'))
      this.#pruneOne(textAt(entry, 'id') ?? '', kustomization)
  }

  #unmetDependency(kustomization: StoredObject): string | null {
    for (const reference of listAt(kustomization, 'spec', 'dependsOn')) {
      const namespace = textAt(reference, 'namespace') ?? kustomization.metadata.namespace ?? ''
      const name = textAt(reference, 'name') ?? ''
      const dependency = this.#site.store.get(group, 'Kustomization', namespace, name)
      const ready = listAt(dependency, 'status', 'conditions').some(
        entry => textAt(entry, 'type') === 'Ready' && textAt(entry, 'status') === 'True',
      )
      const observed = numberAt(dependency, 'status', 'observedGeneration') === dependency?.metadata.generation
      const revision = this.#artifacts.get(sourceOf(kustomization))?.revision
      const sameRevision =
        dependency === null ||
        sourceOf(dependency) !== sourceOf(kustomization) ||
        textAt(dependency, 'status', 'lastAppliedRevision') === revision
      if (!ready || !observed || !sameRevision) return `${namespace}/${name}`
    }
    return null
  }

  #healthy(object: StoredObject): boolean {
    const live = this.#site.store.get(
      groupOf(object.apiVersion),
      object.kind,
      object.metadata.namespace ?? null,
      object.metadata.name,
    )
    if (live === null) return false
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
        listAt(live, 'status', 'conditions').some(
          entry => textAt(entry, 'type') === 'Ready' && textAt(entry, 'status') === 'True',
        )
      )
    }
    return true
  }

  #succeed(kustomization: StoredObject, artifact: Artifact, inventory: readonly InventoryEntry[]): void {
    const message = `Applied revision: ${artifact.revision}`
    this.#write(kustomization, {
      lastAppliedRevision: artifact.revision,
      lastAttemptedRevision: artifact.revision,
      inventory: { entries: inventory },
      conditions: [this.#condition(kustomization, 'Ready', 'True', 'ReconciliationSucceeded', message)],
      history: this.#history(kustomization, artifact, inventory),
    })
  }

  #fail(
    kustomization: StoredObject,
    revision: string | null,
    reason: string,
    message: string,
    inventory?: readonly InventoryEntry[],
  ): void {
    const status = reason === 'Progressing' ? 'Unknown' : 'False'
    this.#write(kustomization, {
      ...(revision === null ? {} : { lastAttemptedRevision: revision }),
      ...(inventory === undefined ? {} : { inventory: { entries: inventory } }),
      conditions: [
        this.#condition(kustomization, 'Ready', status, reason, message),
        ...(reason === 'Progressing' ? [this.#condition(kustomization, 'Reconciling', 'True', reason, message)] : []),
      ],
    })
  }

  #write(kustomization: StoredObject, status: Record<string, unknown>): void {
    const live = this.#live(kustomization)
    if (live === null) return
    this.#site.store.setStatus(live, controller, {
      ...recordAt(live, 'status'),
      observedGeneration: live.metadata.generation,
      ...status,
    })
  }

  #condition(kustomization: StoredObject, type: string, status: string, reason: string, message: string): unknown {
    const before = listAt(this.#live(kustomization), 'status', 'conditions').find(
      entry => textAt(entry, 'type') === type,
    )
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

  #live(kustomization: StoredObject): StoredObject | null {
    return this.#site.store.get(
      group,
      'Kustomization',
      kustomization.metadata.namespace ?? '',
      kustomization.metadata.name,
    )
  }
}

interface InventoryEntry {
  readonly id: string
  readonly v: string
}

// Fields that kubectl wrote are taken over, those of other managers stay (kustomize-controller, "kubectl" and "before-first-apply").
const kubectlManagers = /^(kubectl|before-first-apply)/

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

function stage(manifest: Manifest): number {
  if (manifest.kind === 'CustomResourceDefinition') return 0
  return manifest.kind === 'Namespace' ? 1 : 2
}

/** A Go duration such as `1m30s` in milliseconds. */
export function milliseconds(text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise
  const units: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1_000, ms: 1 }
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|h|m|s)/g)]
  return parts.length === 0 ? otherwise : parts.reduce((sum, part) => sum + Number(part[1]) * (units[part[2]!] ?? 0), 0)
}
