import { createHash } from 'node:crypto'
import { parse } from 'yaml'
import { milliseconds } from './flux.ts'
import { at, type Fields, groupOf, isRecord, listAt, recordAt, type StoredObject, textAt } from './objects.ts'
import type { Site } from './site.ts'

/** Milliseconds, as measured with the real `helm` and istiod's chart: about 2.3 s until it starts, about 5 s for an upgrade. */
const lags = { start: [1_800, 2_800], upgrade: [4_000, 6_000] } as const

/** A chart that the rehearsal knows, as far as a rotation reads what it makes. */
export interface RehearsedChart {
  readonly version: string
  is(release: StoredObject): boolean
  install(values: Fields, namespace: string): void
}

/**
 * Flux's helm-controller for HelmReleases of one chart: values from `valuesFrom` in order, whole or at a `targetPath`, then inline ones, which win. It looks
 * anew at once where what a release takes values from carries the label for it.
 */
export class HelmController {
  readonly #site: Site
  readonly #chart: RehearsedChart
  readonly #scheduled = new Set<string>()
  /** Releases that Helm is at. */
  readonly #upgrading = new Set<string>()

  constructor(site: Site, chart: RehearsedChart) {
    this.#site = site
    this.#chart = chart
    site.store.onChange(({ object, what }) => {
      if (what !== 'status' && chart.is(object)) this.#soon(object)
      const { kind, metadata } = object
      if (!/^(ConfigMap|Secret)$/.test(kind) || metadata.labels?.['reconcile.fluxcd.io/watch'] !== 'Enabled') return
      for (const release of site.store.list('helm.toolkit.fluxcd.io', 'HelmRelease', metadata.namespace ?? ''))
        this.#soon(release)
    })
  }

  #soon(release: StoredObject): void {
    const key = keyOf(release)
    if (this.#scheduled.has(key)) return
    this.#scheduled.add(key)
    this.#site.clock.after(this.#lag(`sail/${key}`, 'start'), () => {
      this.#scheduled.delete(key)
      if (this.#upgrading.has(key)) {
        this.#soon(release)
        return
      }
      const live = this.#live(release)
      if (live !== null) this.#release(live)
    })
  }

  #live({ apiVersion, metadata }: StoredObject): StoredObject | null {
    return this.#site.store.get(groupOf(apiVersion), 'HelmRelease', metadata.namespace ?? null, metadata.name)
  }

  #lag(label: string, of: keyof typeof lags): number {
    const [least, most] = lags[of]
    return this.#site.random.fork(`${label}/${this.#site.clock.elapsed()}`).between(least, most)
  }

  #release(release: StoredObject): void {
    if (at(release, 'spec', 'suspend') === true) return
    const namespace = textAt(release, 'spec', 'targetNamespace') ?? release.metadata.namespace ?? ''
    let values: Fields = {}
    for (const reference of listAt(release, 'spec', 'valuesFrom')) {
      const kind = textAt(reference, 'kind') ?? 'ConfigMap'
      const source = this.#site.store.get('', kind, release.metadata.namespace ?? '', textAt(reference, 'name') ?? '')
      if (source === null) {
        if (at(reference, 'optional') === true) continue
        const missing = `could not find ${kind} '${release.metadata.namespace}/${textAt(reference, 'name')}'`
        this.#status(release, false, missing, null)
        this.#site.clock.after(60_000, () => this.#soon(release))
        return
      }
      const stored = textAt(source, 'data', textAt(reference, 'valuesKey') ?? 'values.yaml') ?? ''
      values = merged(
        values,
        taken(kind === 'Secret' ? decoded(stored) : stored, textAt(reference, 'targetPath') ?? null),
      )
    }
    // Inline values win over valuesFrom, in whatever order they stand.
    values = merged(values, recordAt(release, 'spec', 'values'))
    const digest = `sha256:${createHash('sha256').update(JSON.stringify(values)).digest('hex')}`
    const done = (live: StoredObject): void => {
      this.#status(live, true, 'Helm upgrade succeeded', digest)
      this.#site.clock.after(milliseconds(textAt(live, 'spec', 'interval'), 600_000), () => this.#soon(live))
    }
    if (textAt(release, 'status', 'history', 0, 'configDigest') === digest) {
      done(release)
      return
    }
    const key = keyOf(release)
    this.#upgrading.add(key)
    this.#upgradeStatus(release)
    if (this.#chart.is(release)) this.#chart.install(values, namespace)
    this.#site.clock.after(this.#lag(`helm/${key}`, 'upgrade'), () => {
      this.#upgrading.delete(key)
      const live = this.#live(release)
      // What it was given is what it upgraded to, whatever has been declared since.
      if (live !== null) done({ ...live, metadata: { ...live.metadata, generation: release.metadata.generation } })
    })
  }

  #upgradeStatus(release: StoredObject): void {
    const message = "Running 'upgrade' action with timeout of 5m0s"
    const common = { reason: 'Progressing', message, observedGeneration: release.metadata.generation }
    const lastTransitionTime = this.#site.clock.instant()
    this.#site.store.setStatus(release, 'helm-controller', {
      ...recordAt(release, 'status'),
      conditions: [
        { type: 'Ready', status: 'Unknown', ...common, lastTransitionTime },
        { type: 'Reconciling', status: 'True', ...common, lastTransitionTime },
      ],
    })
  }

  #status(release: StoredObject, ready: boolean, message: string, configDigest: string | null): void {
    const before = listAt(release, 'status', 'history')
    const latest = textAt(before[0], 'configDigest')
    const now = this.#site.clock.instant()
    const changed = configDigest !== null && configDigest !== latest
    const entry = {
      version: before.length + 1,
      chartVersion: this.#chart.version,
      configDigest,
      digest: configDigest,
      status: 'deployed',
      lastDeployed: now,
    }
    const condition = listAt(release, 'status', 'conditions').find(
      known => textAt(known, 'type') === 'Ready' && textAt(known, 'status') === (ready ? 'True' : 'False'),
    )
    this.#site.store.setStatus(release, 'helm-controller', {
      observedGeneration: release.metadata.generation,
      lastAttemptedRevision: this.#chart.version,
      ...(configDigest === null ? {} : { lastAttemptedConfigDigest: configDigest }),
      history: changed ? [entry, ...before].slice(0, 5) : before,
      conditions: ['Ready', 'Released'].map(type => ({
        type,
        status: ready ? 'True' : 'False',
        reason: ready ? 'UpgradeSucceeded' : 'ValuesError',
        message,
        lastTransitionTime: textAt(condition, 'lastTransitionTime') ?? now,
        observedGeneration: release.metadata.generation,
      })),
    })
  }
}

function keyOf({ kind, metadata }: StoredObject): string {
  return `${kind}/${metadata.namespace ?? ''}/${metadata.name}`
}

function decoded(text: string): string {
  return Buffer.from(text, 'base64').toString('utf8')
}

/** What one entry of valuesFrom adds: a document of values, or its text at a path of keys. */
function taken(text: string, targetPath: string | null): Fields {
  if (targetPath === null) {
    const parsed: unknown = parse(text)
    return isRecord(parsed) ? parsed : {}
  }
  const keys = targetPath.split(/(?<!\\)\./).map(key => key.replaceAll('\\.', '.'))
  return keys.reduceRight<unknown>((inner, key) => ({ [key]: inner }), text) as Fields
}

export function merged(base: Fields, over: Fields): Fields {
  const result: Fields = { ...base }
  for (const [key, value] of Object.entries(over)) {
    const own = result[key]
    result[key] = isRecord(own) && isRecord(value) ? merged(own, value) : value
  }
  return result
}
