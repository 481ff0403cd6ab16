import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseAllDocuments } from 'yaml'
import { moduleFolder, output, program } from './components.ts'
import type { ControlPlane } from './control-plane.ts'
import type { Manifest, Objects } from './objects.ts'

/**
 * Stand-in for the Sail operator, which cannot be had as a Go module. It renders `spec.values` of every Istio resource with the real `helm` and the
 * real istio-discovery chart, applies the result, and reports as Sail's controllers do (istio-ecosystem/sail-operator, controllers/istio and
 * controllers/istiorevision). What differs: no IstioRevision objects; the chart is the one of the Istio module that the rig runs, whatever
 * `spec.version` says; server-side apply where Sail lets Helm merge; nothing is rendered anew unless the resource changes or it failed before.
 */
export interface Sail {
  stop(): Promise<void>
}

export interface SailOptions {
  /** Milliseconds between looks at the cluster. @default 300 */
  readonly interval?: number
}

/** As whom Sail writes. */
const manager = 'sail-operator'
const api = 'sailoperator.io/v1'

/** What failed is tried again, as controllers do; theirs is a growing pause. */
const retryPause = 3000

interface Rendered {
  readonly generation: number
  readonly error: string | null
  readonly made: readonly Manifest[]
  /** Milliseconds since 1970. */
  readonly againAt: number
}

interface Condition {
  readonly type: string
  readonly status: 'True' | 'False' | 'Unknown'
  readonly reason?: string
  readonly message?: string
  readonly lastTransitionTime: string
}

interface Status {
  readonly observedGeneration?: number
  readonly conditions?: readonly Condition[]
  readonly [field: string]: unknown
}

interface Istio extends Manifest {
  readonly metadata: Manifest['metadata'] & { readonly generation: number; readonly uid: string }
  readonly spec: {
    readonly version: string
    readonly namespace: string
    readonly updateStrategy?: { readonly type?: string }
    readonly values?: Readonly<Record<string, unknown>>
  }
  readonly status?: Status
}

export async function startSail(plane: ControlPlane, options: SailOptions = {}): Promise<Sail> {
  const helm = await program('helm')
  const charts = join(await moduleFolder('istio', 'istio.io/istio'), 'manifests', 'charts')
  const chart = join(charts, 'istio-control', 'istio-discovery')
  const { objects } = plane
  /** Per Istio resource: the generation rendered last, how that ended, and what it made. */
  const rendered = new Map<string, Rendered>()
  let stopped = false

  async function reconcile(istio: Istio): Promise<void> {
    const { name, generation, uid } = istio.metadata
    const before = rendered.get(uid)
    let status = istio.status
    if (before?.generation !== generation || Date.now() > before.againAt) {
      // The Istio controller observes, copies the conditions that the revision still has from before, and only then is the revision rendered:
      // for a moment the newest generation is observed and Ready stands for the one before.
      if (status?.conditions !== undefined) {
        status = { ...status, observedGeneration: generation }
        await objects.mergeStatus({ apiVersion: api, kind: 'Istio', name }, status)
      }
      const { made, error } = await install(istio)
      const kept = error === null ? made : (before?.made ?? [])
      await removeStale(objects, before?.made ?? [], kept)
      const againAt = error === null ? Number.POSITIVE_INFINITY : Date.now() + retryPause
      rendered.set(uid, { generation, error, made: kept, againAt })
    }
    const next = await statusOf(objects, istio, rendered.get(uid)?.error ?? null, status?.conditions ?? [])
    if (JSON.stringify(comparable(status)) === JSON.stringify(comparable(next))) return
    await objects.mergeStatus({ apiVersion: api, kind: 'Istio', name }, next)
  }

  async function install(istio: Istio): Promise<{ made: readonly Manifest[]; error: string | null }> {
    const made: Manifest[] = []
    try {
      const { namespace } = istio.spec
      const args = ['template', `${revisionOf(istio)}-istiod`, chart, '--namespace', namespace, '--values', '-']
      const text = await output(helm, args, { input: JSON.stringify(valuesOf(istio)) })
      for (const document of parseAllDocuments(text)) {
        const manifest = document.toJS() as Manifest | null
        if (manifest?.kind === undefined) continue
        await objects.apply(manifest, manager)
        made.push(manifest)
      }
      return { made, error: null }
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause)
      return { made, error: `error reconciling resource: failed to install/update Helm chart "istiod": ${reason}` }
    }
  }

  async function loop(): Promise<void> {
    while (!stopped) {
      try {
        const istios = (await objects.list(api, 'Istio')) as unknown as readonly Istio[]
        for (const istio of istios) await reconcile(istio)
        for (const [uid, { made }] of rendered) {
          if (istios.some(({ metadata }) => metadata.uid === uid)) continue
          rendered.delete(uid)
          await removeStale(objects, made, [])
        }
      } catch {
        // The API server is away, or the object changed meanwhile: the next look comes soon.
      }
      await sleep(options.interval ?? 300)
    }
  }

  const running = loop()
  return {
    async stop() {
      stopped = true
      await running
    },
  }
}

/** Name of the active revision: the resource's own, or with the version where each version has a revision. */
function revisionOf({ metadata, spec }: Istio): string {
  if (spec.updateStrategy?.type !== 'RevisionBased') return metadata.name
  return `${metadata.name}-${spec.version.replaceAll('.', '-')}`
}

function valuesOf(istio: Istio): Readonly<Record<string, unknown>> {
  const revision = revisionOf(istio)
  const values = istio.spec.values ?? {}
  const global = (values.global ?? {}) as object
  return {
    ...values,
    revision: revision === 'default' ? '' : revision,
    global: { ...global, istioNamespace: istio.spec.namespace },
  }
}

async function removeStale(objects: Objects, before: readonly Manifest[], now: readonly Manifest[]): Promise<void> {
  const kept = new Set(now.map(keyOf))
  for (const manifest of before) {
    if (kept.has(keyOf(manifest))) continue
    const { apiVersion, kind, metadata } = manifest
    const { name, namespace } = metadata
    await objects.delete({ apiVersion, kind, name, ...(namespace === undefined ? {} : { namespace }) })
  }
}

function keyOf({ apiVersion, kind, metadata }: Manifest): string {
  return [apiVersion, kind, metadata.namespace ?? '', metadata.name].join('/')
}

/** Ready compares ready replicas with replicas and nothing else, so it is true while old pods still run. */
async function statusOf(
  objects: Objects,
  istio: Istio,
  error: string | null,
  before: readonly Condition[],
): Promise<Status> {
  const revision = revisionOf(istio)
  const name = revision === 'default' ? 'istiod' : `istiod-${revision}`
  const { namespace } = istio.spec
  const found = await objects.get({ apiVersion: 'apps/v1', kind: 'Deployment', namespace, name })
  const { replicas = 0, readyReplicas = 0 } = (found?.status ?? {}) as { replicas?: number; readyReplicas?: number }
  function notReady(message: string): Omit<Condition, 'lastTransitionTime'> {
    return { type: 'Ready', status: 'False', reason: 'IstiodNotReady', message }
  }
  let ready: Omit<Condition, 'lastTransitionTime'> = { type: 'Ready', status: 'True' }
  if (found === null) ready = notReady('istiod Deployment not found')
  else if (replicas === 0) ready = notReady('istiod Deployment is scaled to zero replicas')
  else if (readyReplicas < replicas) ready = notReady('not all istiod pods are ready')
  const reconciled: Omit<Condition, 'lastTransitionTime'> =
    error === null
      ? { type: 'Reconciled', status: 'True' }
      : { type: 'Reconciled', status: 'False', reason: 'ReconcileError', message: error }
  const healthy: Omit<Condition, 'lastTransitionTime'> = { type: 'DependenciesHealthy', status: 'True' }
  const all = [reconciled, ready, healthy]
  const conditions = all.map(condition => {
    const old = before.find(({ type }) => type === condition.type)
    const since = old?.status === condition.status ? old.lastTransitionTime : new Date().toISOString()
    return { ...condition, lastTransitionTime: since.replace(/\.\d+Z$/, 'Z') }
  })
  const bad = all.find(({ status }) => status !== 'True')
  return {
    observedGeneration: istio.metadata.generation,
    conditions,
    state: bad?.reason ?? 'Healthy',
    activeRevisionName: revision,
    revisions: { total: 1, ready: ready.status === 'True' ? 1 : 0, inUse: 1 },
  }
}

function comparable(status: Status | undefined): unknown {
  const { observedGeneration, conditions = [], state, activeRevisionName, revisions } = status ?? {}
  const said = conditions.map(({ type, status: value, reason, message }) => [type, value, reason, message])
  const counted = revisions as { total?: number; ready?: number; inUse?: number } | undefined
  const numbers = [counted?.total, counted?.ready, counted?.inUse]
  return [observedGeneration, said.sort(), state, activeRevisionName, numbers]
}
