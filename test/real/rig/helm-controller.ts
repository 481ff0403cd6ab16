import { createHash } from 'node:crypto'
import { appendFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parse } from 'yaml'
import { output, program } from './components.ts'
import type { ControlPlane } from './control-plane.ts'
import { applyKinds, bareKind } from './kinds.ts'
import type { Manifest, Place } from './objects.ts'
import { milliseconds } from './source-controller.ts'

/** One install or upgrade that was run to its end. */
export interface HelmRun {
  /** `<namespace>/<name>` of the HelmRelease. */
  readonly release: string
  readonly version: number
  /** What the chart was installed with: the merged values. */
  readonly values: Values
  readonly began: Date
  readonly ended: Date
}

/** Stand-in for Flux's helm-controller, which cannot be had as a Go module: its decisions, with the real `helm` doing the work. */
export interface HelmController {
  readonly runs: readonly HelmRun[]
  stop(): Promise<void>
}

export interface HelmControllerOptions {
  /** Folder of the chart that a HelmRelease names, whatever its source. */
  readonly chart: (name: string) => Promise<string>
}

export type Values = { [key: string]: unknown }

const apiVersion = 'helm.toolkit.fluxcd.io/v2'
const pause = 250
/** Retries begin with this delay and double (fluxcd/pkg runtime, --min-retry-delay). */
const firstRetry = 750

interface ValuesReference {
  readonly kind: 'ConfigMap' | 'Secret'
  readonly name: string
  readonly valuesKey?: string
  readonly targetPath?: string
  readonly optional?: boolean
}

interface ReleaseSpec {
  readonly interval: string
  readonly suspend?: boolean
  readonly releaseName?: string
  readonly targetNamespace?: string
  readonly timeout?: string
  readonly chart?: { readonly spec: { readonly chart: string } }
  readonly chartRef?: { readonly name: string }
  readonly values?: Values
  readonly valuesFrom?: readonly ValuesReference[]
}

interface Snapshot {
  readonly version: number
  readonly chartVersion: string
  readonly configDigest: string
  readonly status: string
}

interface Metadata {
  readonly name: string
  readonly namespace: string
  readonly generation: number
  readonly annotations?: Readonly<Record<string, string>>
}

/** Of one HelmRelease: what it was reconciled for last, and when it is due again. */
interface Seen {
  readonly wanted: string
  readonly due: number
  readonly failures: number
}

/**
 * Reconciles every HelmRelease when its spec, an annotation `reconcile.fluxcd.io/requestedAt`, or a ConfigMap or Secret of its valuesFrom with label
 * `reconcile.fluxcd.io/watch: Enabled` changes, and at its interval. Upgrades where chart or merged values differ from what was released
 * last. Honours chart, releaseName, targetNamespace, values, valuesFrom, timeout and suspend; nothing else of the spec.
 */
export async function startHelmController(
  plane: ControlPlane,
  options: HelmControllerOptions,
): Promise<HelmController> {
  const { objects } = plane
  const helm = await program('helm')
  const folder = await mkdtemp(join(plane.folder, 'helm-'))
  const log = join(plane.folder, 'log', 'helm-controller.log')
  const env: NodeJS.ProcessEnv = { ...process.env, KUBECONFIG: plane.kubeconfig }
  for (const kind of ['CACHE', 'CONFIG', 'DATA']) env[`HELM_${kind}_HOME`] = join(folder, kind.toLowerCase())
  const repositories = bareKind('source.toolkit.fluxcd.io', 'HelmRepository', 'helmrepositories')
  await applyKinds(plane, ['helm.toolkit.fluxcd.io_helmreleases'], [repositories])

  const runs: HelmRun[] = []
  const seen = new Map<string, Seen>()
  const busy = new Map<string, Promise<void>>()
  let stopped = false

  async function reconcile(object: Manifest, wanted: string): Promise<void> {
    const { name, namespace, generation, annotations } = object.metadata as unknown as Metadata
    const key = `${namespace}/${name}`
    const spec = object.spec as ReleaseSpec
    const place: Place = { apiVersion, kind: 'HelmRelease', namespace, name }
    const requested = annotations?.['reconcile.fluxcd.io/requestedAt']
    const handled = requested === undefined ? {} : { lastHandledReconcileAt: requested }
    const done = (failures: number): void => {
      const delay = failures === 0 ? (milliseconds(spec.interval) ?? 60_000) : firstRetry * 2 ** (failures - 1)
      seen.set(key, { wanted, due: Date.now() + delay, failures })
    }
    const fail = async (reason: string, message: string, more: object = {}): Promise<void> => {
      const conditions = [condition('Ready', 'False', reason, message, generation)]
      await objects.mergeStatus(place, { ...handled, ...more, conditions })
      done((seen.get(key)?.failures ?? 0) + 1)
    }

    let values: Values
    try {
      values = await valuesOf(namespace, spec)
    } catch (cause) {
      return await fail('ValuesError', cause instanceof Error ? cause.message : String(cause))
    }
    const chart = await options.chart(spec.chart?.spec.chart ?? spec.chartRef?.name ?? '')
    const about = parse(await output(helm, ['show', 'chart', chart], { env })) as { name: string; version: string }
    const configDigest = `sha256:${createHash('sha256').update(sorted(values)).digest('hex')}`
    // As it is now: the list may be older than the end of the run before.
    const status = (await objects.get(place))?.status as { readonly history?: readonly Snapshot[] } | undefined
    const history = status?.history ?? []
    const last = history[0]
    const attempted = {
      lastAttemptedGeneration: generation,
      lastAttemptedRevision: about.version,
      lastAttemptedConfigDigest: configDigest,
      storageNamespace: namespace,
    }
    const target = spec.targetNamespace ?? namespace
    const title = spec.releaseName ?? (spec.targetNamespace === undefined ? name : `${spec.targetNamespace}-${name}`)
    const inSync =
      last?.status === 'deployed' && last.configDigest === configDigest && last.chartVersion === about.version
    if (inSync) {
      await objects.mergeStatus(place, {
        ...handled,
        ...attempted,
        observedGeneration: generation,
        conditions: releasedConditions(last, `${target}/${title}`, about, generation),
      })
      return done(0)
    }
    const action = last === undefined ? 'install' : 'upgrade'
    const running = `Running '${action}' action with timeout of ${spec.timeout ?? '5m0s'}`
    await objects.mergeStatus(place, {
      ...attempted,
      lastAttemptedReleaseAction: action,
      conditions: [
        condition('Reconciling', 'True', 'Progressing', running, generation),
        condition('Ready', 'Unknown', 'Progressing', running, generation),
      ],
    })
    const began = new Date()
    const file = join(folder, `${namespace}-${name}.json`)
    await writeFile(file, JSON.stringify(values))
    const flags = ['--namespace', target, '--values', file, '--wait', '--timeout', spec.timeout ?? '5m0s']
    let release: { readonly version: number; readonly info: { readonly first_deployed: string; last_deployed: string } }
    try {
      release = JSON.parse(
        await output(helm, ['upgrade', '--install', title, chart, ...flags, '--output', 'json'], { env }),
      )
    } catch (cause) {
      const said = String(cause).split('\n').slice(1).join(' ')
      const failed = action === 'install' ? 'InstallFailed' : 'UpgradeFailed'
      const what = `Helm ${action} failed for release ${target}/${title} with chart ${about.name}@${about.version}: ${said}`
      // A failed action counts as observed: another try would be the same one.
      return await fail(failed, what, { observedGeneration: generation })
    }
    const snapshot = {
      name: title,
      namespace: target,
      version: release.version,
      status: 'deployed',
      chartName: about.name,
      chartVersion: about.version,
      configDigest,
      digest: `sha256:${createHash('sha256').update(JSON.stringify(release)).digest('hex')}`,
      firstDeployed: release.info.first_deployed,
      lastDeployed: release.info.last_deployed,
    }
    await objects.mergeStatus(place, {
      ...handled,
      observedGeneration: generation,
      history: [snapshot, ...history.map(each => ({ ...each, status: 'superseded' }))].slice(0, 5),
      conditions: releasedConditions(snapshot, `${target}/${title}`, about, generation),
    })
    runs.push({ release: key, version: release.version, values, began, ended: new Date() })
    done(0)
  }

  /**
   * The order of fluxcd/pkg, chartutil ChartValuesFromReferences: references as they stand, inline values last. A targetPath takes the inline values in
   * first and then sets its one value in maps that it shares with them, so that it outlasts them where its parent is a map there too.
   */
  async function valuesOf(namespace: string, spec: ReleaseSpec): Promise<Values> {
    const inline = structuredClone(spec.values ?? {})
    let result: Values = {}
    for (const reference of spec.valuesFrom ?? []) {
      const { kind, name, valuesKey = 'values.yaml', targetPath, optional = false } = reference
      const found = await objects.get({ apiVersion: 'v1', kind, namespace, name })
      const stored = (found?.data as Readonly<Record<string, string>> | undefined)?.[valuesKey]
      if (stored === undefined) {
        if (optional) continue
        const why = found === null ? `${kind.toLowerCase()}s "${name}" not found` : 'key not found'
        const which = `${kind} chart values reference '${namespace}/${name}' with key '${valuesKey}'`
        throw new Error(`could not resolve ${which}: ${why}`)
      }
      const text = kind === 'Secret' ? Buffer.from(stored, 'base64').toString('utf8') : stored
      if (targetPath === undefined) {
        result = merged(result, (parse(text) ?? {}) as Values)
        continue
      }
      result = merged(result, inline)
      setInPlace(result, targetPath, text)
    }
    return merged(result, inline)
  }

  async function look(): Promise<void> {
    const releases = await objects.list(apiVersion, 'HelmRelease')
    if (releases.length === 0) return
    const watched = new Map<string, string>()
    for (const kind of ['ConfigMap', 'Secret']) {
      const labels = 'reconcile.fluxcd.io/watch=Enabled'
      for (const { metadata } of await objects.list('v1', kind, { labels })) {
        watched.set(`${kind} ${metadata.namespace}/${metadata.name}`, String(metadata.resourceVersion))
      }
    }
    for (const object of releases) {
      const { name, namespace, generation, annotations } = object.metadata as unknown as Metadata
      const key = `${namespace}/${name}`
      const spec = object.spec as ReleaseSpec
      if (spec.suspend === true || busy.has(key)) continue
      const references = (spec.valuesFrom ?? []).map(
        each => watched.get(`${each.kind} ${namespace}/${each.name}`) ?? '',
      )
      const requested = annotations?.['reconcile.fluxcd.io/requestedAt'] ?? ''
      const wanted = JSON.stringify([generation, requested, references])
      const before = seen.get(key)
      if (before?.wanted === wanted && Date.now() < before.due) continue
      const work = reconcile(object, wanted)
        .catch(cause => note(cause))
        .finally(() => busy.delete(key))
      busy.set(key, work)
    }
  }

  async function note(cause: unknown): Promise<void> {
    await mkdir(join(log, '..'), { recursive: true })
    await appendFile(log, `${new Date().toISOString()} ${String(cause)}\n`)
  }

  async function run(): Promise<void> {
    while (!stopped) {
      // The API server may be away: the next look finds out.
      await look().catch(note)
      await sleep(pause)
    }
    await Promise.all(busy.values())
  }
  const running = run()

  return {
    runs,
    async stop() {
      stopped = true
      await running
      await rm(folder, { recursive: true, force: true })
    },
  }
}

function condition(
  type: string,
  status: string,
  reason: string,
  message: string,
  observedGeneration: number,
): Readonly<Record<string, unknown>> {
  return { type, status, reason, message, observedGeneration, lastTransitionTime: new Date().toISOString() }
}

function releasedConditions(
  last: { readonly version: number },
  release: string,
  chart: { readonly name: string; readonly version: string },
  generation: number,
): readonly object[] {
  const [what, reason] = last.version === 1 ? ['install', 'InstallSucceeded'] : ['upgrade', 'UpgradeSucceeded']
  const message = `Helm ${what} succeeded for release ${release}.v${last.version} with chart ${chart.name}@${chart.version}`
  return [
    condition('Ready', 'True', reason, message, generation),
    condition('Released', 'True', reason, message, generation),
  ]
}

function isMap(value: unknown): value is Values {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** As fluxcd/pkg's MergeMaps: a new map at every level that both have; all else is shared with what it came from. */
function merged(base: Values, over: Values): Values {
  const result: Values = { ...base }
  for (const [key, value] of Object.entries(over)) {
    const own = result[key]
    result[key] = isMap(own) && isMap(value) ? merged(own, value) : value
  }
  return result
}

/** One value at `a.b\.c`, typed as `helm --set` does unless it is quoted. Lists in the path are not supported. */
function setInPlace(values: Values, path: string, text: string): void {
  if (/[[\],{}=]/.test(path)) throw new Error(`targetPath ${path} is not supported here`)
  const keys = path.split(/(?<!\\)\./).map(key => key.replaceAll('\\.', '.'))
  const quoted = /^(['"])([\s\S]*)\1$/.exec(text)
  let here = values
  for (const key of keys.slice(0, -1)) {
    const known = here[key]
    const next: Values = isMap(known) ? known : {}
    here[key] = next
    here = next
  }
  here[keys.at(-1) ?? ''] = quoted === null ? typed(text) : quoted[2]
}

function typed(text: string): unknown {
  if (text === 'true' || text === 'false') return text === 'true'
  if (text === 'null') return null
  return /^(0|-?[1-9]\d*)$/.test(text) ? Number(text) : text
}

function sorted(value: unknown): string {
  return JSON.stringify(value, (_key, each: unknown) =>
    isMap(each) ? Object.fromEntries(Object.entries(each).sort(([a], [b]) => (a < b ? -1 : 1))) : each,
  )
}
