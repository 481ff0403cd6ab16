import type { Timer } from './clock.ts'
import { isRecord, listAt, type StoredObject, textAt, textsAt } from './objects.ts'
import { nodeOf, ownerOf, podKey, type Site } from './site.ts'

interface Source {
  readonly volume: string
  readonly kind: 'Secret' | 'ConfigMap'
  readonly name: string
  readonly optional: boolean
}

interface Mounted {
  readonly pod: StoredObject
  readonly sources: readonly Source[]
  readonly files: Map<string, Readonly<Record<string, string>>>
  readonly pending: Map<string, Timer>
  readonly changed: (volume: string) => void
}

/** Content of one volume: file name → text. A volume of an optional source that does not exist is empty. */
export type VolumeFiles = Readonly<Record<string, string>>

/**
 * Milliseconds until a change is in a pod's files: kubelet's --sync-frequency of a minute with half of it as jitter, and its cache. Not measured:
 * the kubelet that the real components were run under is a stand-in.
 */
const lags = { files: [1_000, 90_000] } as const

/**
 * The kubelets of a site: Secrets and ConfigMaps become files of pods.
 *
 * At a pod's start the content is what the API holds then. A later change reaches each pod by itself, at its next sync: up to a
 * minute plus the cache's delay, so two replicas on two nodes differ for that long (kubernetes/kubernetes pkg/kubelet/util/manager).
 */
export class Kubelets {
  readonly #site: Site
  readonly #mounted = new Map<string, Mounted>()

  constructor(site: Site) {
    this.#site = site
    site.store.onChange(change => {
      if (change.what === 'status') return
      const { kind } = change.object
      if (kind === 'Secret' || kind === 'ConfigMap') this.#sourceChanged(kind, change.object)
    })
  }

  /** Mounts the pod's volumes; false where a source that is not optional does not exist yet. */
  mount(pod: StoredObject, changed: (volume: string) => void): boolean {
    const sources = sourcesOf(pod)
    const files = new Map<string, VolumeFiles>()
    for (const source of sources) {
      const content = this.#read(pod, source)
      if (content === null && !source.optional) return false
      files.set(source.volume, content ?? {})
    }
    this.#mounted.set(podKey(pod), { pod, sources, files, pending: new Map(), changed })
    return true
  }

  unmount(pod: StoredObject): void {
    const mounted = this.#mounted.get(podKey(pod))
    for (const timer of mounted?.pending.values() ?? []) timer.cancel()
    this.#mounted.delete(podKey(pod))
  }

  files(pod: StoredObject, volume: string): VolumeFiles {
    return this.#mounted.get(podKey(pod))?.files.get(volume) ?? {}
  }

  /** A kubelet that saw no changes sees them again: every volume of its pods is looked at anew, each with its lag. */
  resync(node: string): void {
    for (const mounted of this.#mounted.values())
      if (nodeOf(mounted.pod) === node) for (const source of mounted.sources) this.#schedule(mounted, source)
  }

  #sourceChanged(kind: 'Secret' | 'ConfigMap', object: StoredObject): void {
    for (const mounted of this.#mounted.values()) {
      if (mounted.pod.metadata.namespace !== object.metadata.namespace) continue
      for (const source of mounted.sources) {
        if (source.kind === kind && source.name === object.metadata.name) this.#schedule(mounted, source)
      }
    }
  }

  #schedule(mounted: Mounted, source: Source): void {
    // A sync that is due already will read whatever is there by then.
    if (mounted.pending.has(source.volume)) return
    const owner = ownerOf(this.#site.store, mounted.pod)
    const lag =
      this.#site.faults.kubeletLag.get(owner) ??
      this.#site.random.fork(`kubelet/${mounted.pod.metadata.uid}/${this.#site.clock.elapsed()}`).between(...lags.files)
    const timer = this.#site.clock.after(lag, () => {
      mounted.pending.delete(source.volume)
      const content = this.#read(mounted.pod, source) ?? {}
      if (same(content, mounted.files.get(source.volume) ?? {})) return
      mounted.files.set(source.volume, content)
      mounted.changed(source.volume)
    })
    mounted.pending.set(source.volume, timer)
  }

  #read(pod: StoredObject, source: Source): VolumeFiles | null {
    const namespace = pod.metadata.namespace ?? ''
    const stale = this.#site.faults.staleNodes.get(nodeOf(pod))
    const remembered = stale?.get(`${source.kind}/${namespace}/${source.name}`)
    const object = remembered !== undefined ? remembered : this.#site.store.get('', source.kind, namespace, source.name)
    if (object === null) return null
    const data = textsAt(object, 'data')
    if (source.kind === 'ConfigMap') return data
    return Object.fromEntries(
      Object.entries(data).map(([key, value]) => [key, Buffer.from(value, 'base64').toString('utf8')]),
    )
  }
}

export function sourcesOf(pod: StoredObject): readonly Source[] {
  return listAt(pod, 'spec', 'volumes').flatMap((volume): Source[] => {
    const name = textAt(volume, 'name') ?? ''
    const secret = textAt(volume, 'secret', 'secretName')
    if (secret !== undefined)
      return [{ volume: name, kind: 'Secret', name: secret, optional: optional(volume, 'secret') }]
    const configMap = textAt(volume, 'configMap', 'name')
    if (configMap !== undefined)
      return [{ volume: name, kind: 'ConfigMap', name: configMap, optional: optional(volume, 'configMap') }]
    return []
  })
}

function optional(volume: unknown, kind: string): boolean {
  return isRecord(volume) && isRecord(volume[kind]) && volume[kind].optional === true
}

function same(a: VolumeFiles, b: VolumeFiles): boolean {
  const keys = Object.keys(a)
  return keys.length === Object.keys(b).length && keys.every(key => a[key] === b[key])
}
