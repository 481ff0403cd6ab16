import type { Cluster } from '../cluster/cluster.ts'
import { millisecondsOf } from '../declaration/values.ts'
import { readBundle } from '../pki/bundle.ts'
import { type Certificate, certificateFacts } from '../pki/certificate.ts'
import type { CurrentCa } from '../plan/ca.ts'
import { type Course, type TimeLeft, timeLeft } from '../plan/time-left.ts'
import type { InspectedCertificate, InspectedStrategy, InspectView } from '../report/inspect-text.ts'
import { spanText } from '../report/span.ts'
import type {
  ClusterChoice,
  Declaration,
  EvidenceGroup,
  GateSettings,
  Plan,
  Strategy,
  SystemPart,
  TrustState,
} from '../rotation.ts'
import type { CourseScene, FittingStrategy } from '../systems/system.ts'
import { systemOf } from '../systems/systems.ts'
import { unreadable } from './unreadable.ts'

export interface InspectedSite {
  readonly name: string
  readonly cluster: Cluster
  readonly declared: SystemPart
  /** @default the system's usual gates, all sites at once, no restart of workloads */
  readonly course?: DeclaredCourse
  /** Opens a cluster beside it, such as that of a runtime. @default none can be opened */
  readonly openCluster?: (name: string, choice: ClusterChoice) => Promise<Cluster>
}

/** How a rotation of these sites would go, where a declaration says more than the system's defaults. */
export interface DeclaredCourse {
  readonly gates: Pick<GateSettings, 'hold' | 'settle'>
  readonly batches: number
  readonly workloadBatches: number
}

export interface InspectOptions {
  readonly now: Date
  /** Milliseconds of --within; null: not asked. */
  readonly within: number | null
  /** Milliseconds of --start-within. @default null, not asked */
  readonly startWithin?: number | null
}

/** Certificates of PEM files, strictly read. */
export async function inspectFiles(
  files: readonly { readonly file: string; readonly text: string }[],
  declared: SystemPart,
  options: InspectOptions,
): Promise<InspectView> {
  const found = new Map<string, Found>()
  const remarks: string[] = []
  for (const { file, text } of files) {
    const bundle = readBundle(text, { file, allowRepeats: true, requireCa: false })
    remarks.push(...bundle.remarks.map(remark => `${file}: ${remark}`))
    for (const certificate of bundle.certificates)
      note(found, certificate, certificate.ca ? 'anchor' : 'issuer', file, [])
  }
  // Whose CA it is a file does not say: the longest course of the system is counted.
  const current = { issuer: 'today', roots: ['today'], source: 'plugged' as const, settings: {} }
  return view(found, remarks, [], coursesOf(declared, [current], usualCourse(declared)), options)
}

/** Every anchor and issuer in use at the sites, by who uses it. */
export async function inspectSites(sites: readonly InspectedSite[], options: InspectOptions): Promise<InspectView> {
  const found = new Map<string, Found>()
  const remarks: string[] = []
  const currents: CurrentCa[] = []
  const [first] = sites
  for (const site of sites) {
    const system = systemOf(site.declared.system)
    const current = await system.currentFromCluster(site.cluster, site.declared, site).catch(error => {
      throw unreadable(error, site.name)
    })
    currents.push(current)
    const places = system.words.places(site.declared, site, current)
    const { groups, exceptions } = await consumers(site, current, options.now)
    const usedBy = (sha256: string) =>
      usersText(groups.filter(({ trusts, presents }) => trusts?.includes(sha256) === true || presents?.[0] === sha256))
    for (const root of current.roots)
      note(found, root, 'anchor', `${site.name}: ${places.anchors}`, usedBy(root.sha256))
    note(found, current.issuer, 'issuer', `${site.name}: ${places.issuer}`, usedBy(current.issuer.sha256))
    remarks.push(...exceptions.map(each => `${site.name}: ${each.name}: ${each.detail}`))
  }
  const strategies = first === undefined ? [] : systemOf(first.declared.system).words.fitting(currents, options.now)
  const courses =
    first === undefined
      ? []
      : coursesOf(first.declared, currents.map(sceneOf), first.course ?? usualCourse(first.declared))
  return view(found, remarks, strategies, courses, options)
}

type Scene = CourseScene['current']

function sceneOf({ issuer, roots, source, settings }: CurrentCa): Scene {
  return { issuer: issuer.sha256, roots: roots.map(({ sha256 }) => sha256), source, settings }
}

/** How the strategies of a system would go from what its sites have now; of sites that differ the longest counts. */
function coursesOf(declared: SystemPart, scenes: readonly Scene[], like: DeclaredCourse): readonly Course[] {
  const system = systemOf(declared.system)
  const leafHours = system.leafHours(declared)
  return strategyNames.flatMap((strategy): readonly Course[] => {
    const all = scenes.map(current =>
      system.course(strategy, declared, { current, workloadBatches: like.workloadBatches }),
    )
    const phases = all.reduce(
      (most, each) =>
        each.flatMap(({ steps }) => steps).length > most.flatMap(({ steps }) => steps).length ? each : most,
      [],
    )
    if (phases.length === 0) return []
    const { gates, batches } = like
    return [{ strategy, phases, batches, gates, leafHours, renewalHours: system.renewalHours?.(declared) ?? leafHours }]
  })
}

const strategyNames: readonly Strategy[] = ['graceful', 'renew', 'issuer', 'emergency']

/** What rotation.yaml counts where it says nothing (src/declaration/schema.ts). */
function usualCourse(declared: SystemPart): DeclaredCourse {
  const { hold } = systemOf(declared.system).settings.defaults
  return { gates: { hold: millisecondsOf(hold ?? '10m'), settle: 15_000 }, batches: 1, workloadBatches: 0 }
}

/** What a declaration says of it. */
export function declaredCourse({ gates, rollout, sites, reload }: Declaration): DeclaredCourse {
  const batches = rollout.kind === 'parallel' ? 1 : rollout.kind === 'serial' ? sites.length : rollout.batches.length
  const bySite = sites.map(
    ({ name }) => new Set(reload.filter(({ site }) => site === name).map(({ batch }) => batch)).size,
  )
  return { gates, batches, workloadBatches: Math.max(0, ...bySite) }
}

interface Found {
  readonly certificate: Certificate
  readonly uses: Set<'anchor' | 'issuer'>
  readonly places: Set<string>
  readonly usedBy: Set<string>
}

function note(
  found: Map<string, Found>,
  certificate: Certificate,
  use: 'anchor' | 'issuer',
  place: string,
  usedBy: readonly string[],
): void {
  const known = found.get(certificate.sha256) ?? { certificate, uses: new Set(), places: new Set(), usedBy: new Set() }
  known.uses.add(use)
  known.places.add(place)
  for (const each of usedBy) known.usedBy.add(each)
  found.set(certificate.sha256, known)
}

/** Consumers of one owner that differ in something stand in groups of their own. */
function usersText(groups: readonly EvidenceGroup[]): readonly string[] {
  const counts = new Map<string, number>()
  for (const { consumer, owner, count } of groups) {
    const users = `${consumer} of ${owner}`
    counts.set(users, (counts.get(users) ?? 0) + count)
  }
  return [...counts].map(([users, count]) => `${count} ${count === 1 ? users : users.replace(/(y?) of /, plural)}`)
}

/** proxies, identities; but gateways. */
function plural(_found: string, y: string, at: number, users: string): string {
  return y === '' ? 's of ' : /[aeiou]$/.test(users.slice(0, at)) ? 'ys of ' : 'ies of '
}

/** What runs today, looked at as if `adopt` had just been merged. */
async function consumers(site: InspectedSite, current: CurrentCa, now: Date) {
  const { plannedAt } = await import('../verify/planned.ts')
  const plan = todaysPlan(site, current, now)
  const place = plannedAt(plan, site.name, 0, 1)
  if (place === null) throw new Error('the plan of today has no step')
  return await systemOf(site.declared.system).observe({
    cluster: site.cluster,
    plan,
    site: site.name,
    place,
    declared: site.declared,
    now,
    concurrency: 16,
    onProgress: () => {},
    ...(site.openCluster === undefined ? {} : { openCluster: site.openCluster }),
  })
}

function todaysPlan(site: InspectedSite, current: CurrentCa, now: Date): Plan {
  const of = (list: readonly Certificate[]) => list.map(certificate => certificate.sha256)
  const state: TrustState = {
    bundle: of(current.roots),
    issuer: current.issuer.sha256,
    chain: of(current.chain),
    source: current.source,
    settings: current.settings,
    restarts: {},
  }
  const all = [current.issuer, ...current.chain, ...current.roots]
  return {
    apiVersion: 'reanchor.dev/v1alpha1',
    kind: 'TrustPlan',
    metadata: { name: 'today' },
    createdAt: now.toISOString(),
    system: site.declared.system,
    strategy: 'graceful',
    base: '',
    inputs: { declaration: '', material: '', next: '' },
    certificates: [...new Map(all.map(each => [each.sha256, each])).values()].map(each => ({
      ...certificateFacts(each),
      role: 'old-root',
      sites: [],
      file: '',
    })),
    sites: [{ name: site.name, path: '' }],
    batches: [[site.name]],
    phases: [
      {
        number: 0,
        name: 'adopt',
        title: 'adopt',
        steps: [
          {
            number: 1,
            name: 'adopt',
            what: '',
            sites: { [site.name]: { digest: '', state, undo: null, nudge: null } },
          },
        ],
      },
    ],
    wiring: [],
    canaries: {},
    gates: { hold: 0, fresh: 0, settle: 0, attest: [] },
    leafHours: systemOf(site.declared.system).leafHours(site.declared),
    parties: [],
    formerDigests: {},
  }
}

function view(
  found: ReadonlyMap<string, Found>,
  remarks: readonly string[],
  strategies: readonly FittingStrategy[],
  courses: readonly Course[],
  options: InspectOptions,
): InspectView {
  const { now, within, startWithin = null } = options
  const graceful = courses.find(({ strategy }) => strategy === 'graceful')
  const certificates = [...found.values()].map(({ certificate, uses, places, usedBy }): InspectedCertificate => {
    const { sha256, subject, key, notBefore, notAfter } = certificate
    const time = graceful === undefined ? null : timeLeft(graceful, { ends: new Date(notAfter) }, now)
    return {
      sha256,
      subject,
      key,
      notBefore,
      notAfter,
      use: uses.size === 2 ? 'anchor and issuer' : uses.has('anchor') ? 'anchor' : 'issuer',
      places: [...places].sort(),
      usedBy: [...usedBy].sort(),
      startBy: time?.startBy ?? null,
      lastStart: time?.lastStart ?? null,
      daysLeft: time?.daysLeft ?? null,
      remarks: [],
    }
  })
  const ends = certificates.map(({ notAfter }) => Date.parse(notAfter)).sort((a, b) => a - b)[0]
  const times = courses.map(course => timeLeft(course, { ends: ends === undefined ? null : new Date(ends) }, now))
  const root = certificates.some(({ use, notAfter }) => use !== 'issuer' && Date.parse(notAfter) === ends)
  return {
    now: now.toISOString().replace(/\.\d+Z$/, 'Z'),
    within,
    startWithin,
    certificates,
    due: certificates.flatMap(each => dueOf(each, options)),
    strategies: strategies.map(each => timed(each, times, root)),
    remarks,
  }
}

/** What of a certificate is due within the times that were asked for. */
function dueOf(
  { sha256, notAfter, startBy }: InspectedCertificate,
  { now, within, startWithin = null }: InspectOptions,
) {
  const before = (instant: string | null, span: number | null): boolean =>
    instant !== null && span !== null && Date.parse(instant) <= now.getTime() + span
  return [
    ...(before(notAfter, within) ? [{ sha256, what: 'ends' as const, at: notAfter }] : []),
    ...(startBy !== null && before(startBy, startWithin) ? [{ sha256, what: 'start-by' as const, at: startBy }] : []),
  ]
}

/** A strategy with what it takes: one that would not be over in time does not fit, whatever the material allows. */
function timed(fitting: FittingStrategy, times: readonly TimeLeft[], root: boolean): InspectedStrategy {
  const time = times.find(({ strategy }) => strategy === fitting.strategy) ?? null
  if (time === null || !fitting.fits || time.state === 'none-needed') return { ...fitting, time }
  if (time.state === 'too-late') {
    const why = `too late: it takes ${spanText(time.least)} at the least until nobody needs the CA that ends ${time.ends}`
    return { ...fitting, fits: false, why, time }
  }
  if (
    fitting.strategy === 'issuer' &&
    root &&
    times.some(({ strategy, state }) => strategy === 'graceful' && state !== 'in-time')
  )
    return {
      ...fitting,
      fits: false,
      why: `the root itself ends ${time.ends}, and whatever is issued under it ends with it`,
      time,
    }
  if (time.state === 'in-time') return { ...fitting, time }
  return { ...fitting, why: `${fitting.why}; in haste: ${haste}`, time }
}

const haste = 'merge each pull request when it opens, and have holders renew at once'
