import type { Cluster } from '../cluster/cluster.ts'
import { readBundle } from '../pki/bundle.ts'
import { type Certificate, certificateFacts } from '../pki/certificate.ts'
import type { CurrentCa } from '../plan/ca.ts'
import type { InspectedCertificate, InspectView } from '../report/inspect-text.ts'
import type { ClusterChoice, EvidenceGroup, GateSettings, Plan, SystemPart, TrustState } from '../rotation.ts'
import { systemOf } from '../systems/systems.ts'
import { unreadable } from './unreadable.ts'

export interface InspectedSite {
  readonly name: string
  readonly cluster: Cluster
  readonly declared: SystemPart
  /** Opens a cluster beside it, such as that of a runtime. @default none can be opened */
  readonly openCluster?: (name: string, choice: ClusterChoice) => Promise<Cluster>
}

const day = 24 * 60 * 60 * 1000

/**
 * How long a graceful rotation takes from its first pull request: about nine steps, each with its hold, the slowest renewal of a
 * leaf twice (before and after the issuer moves), and a week for people to review.
 */
function gracefulDuration(gates: Pick<GateSettings, 'hold'>, leafHours: number): number {
  return 9 * (gates.hold + 30 * 60_000) + 2 * leafHours * 60 * 60_000 + 7 * day
}

const usualHold = 10 * 60_000

/** Certificates of PEM files, strictly read. */
export async function inspectFiles(
  files: readonly { readonly file: string; readonly text: string }[],
  options: { readonly now: Date; readonly within: number | null },
): Promise<InspectView> {
  const found = new Map<string, Found>()
  const remarks: string[] = []
  for (const { file, text } of files) {
    const bundle = readBundle(text, { file, allowRepeats: true, requireCa: false })
    remarks.push(...bundle.remarks.map(remark => `${file}: ${remark}`))
    for (const certificate of bundle.certificates)
      note(found, certificate, certificate.ca ? 'anchor' : 'issuer', file, [])
  }
  return view(found, remarks, [], options, usualHold, 24)
}

/** Every anchor and issuer in use at the sites, by who uses it. */
export async function inspectSites(
  sites: readonly InspectedSite[],
  options: { readonly now: Date; readonly within: number | null },
): Promise<InspectView> {
  const found = new Map<string, Found>()
  const remarks: string[] = []
  const currents: CurrentCa[] = []
  const [first] = sites
  let leafHours = 24
  for (const site of sites) {
    const system = systemOf(site.declared.system)
    const current = await system.currentFromCluster(site.cluster, site.declared, site).catch(error => {
      throw unreadable(error, site.name)
    })
    currents.push(current)
    leafHours = system.leafHours(site.declared)
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
  return view(found, remarks, strategies, options, usualHold, leafHours)
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
  strategies: InspectView['strategies'],
  options: { readonly now: Date; readonly within: number | null },
  hold: number,
  leafHours: number,
): InspectView {
  const certificates = [...found.values()].map(({ certificate, uses, places, usedBy }): InspectedCertificate => {
    const { sha256, subject, key, notBefore, notAfter } = certificate
    const startBy = Date.parse(notAfter) - gracefulDuration({ hold }, leafHours)
    return {
      sha256,
      subject,
      key,
      notBefore,
      notAfter,
      use: uses.size === 2 ? 'anchor and issuer' : uses.has('anchor') ? 'anchor' : 'issuer',
      places: [...places].sort(),
      usedBy: [...usedBy].sort(),
      startBy: startBy <= options.now.getTime() ? null : new Date(startBy).toISOString().replace(/\.\d+Z$/, 'Z'),
      remarks: startBy <= options.now.getTime() ? ['it is too late for a graceful rotation that needs no haste'] : [],
    }
  })
  return {
    now: options.now.toISOString().replace(/\.\d+Z$/, 'Z'),
    within: options.within,
    certificates,
    strategies,
    remarks,
  }
}
