import { ReanchorError } from '../errors.ts'
import { applyWiring } from '../gitops/yaml-edit.ts'
import { changeOf, describePlaces, type PlaceChange, rolesOf, type TrustChange } from '../report/trust-diff.ts'
import { type FoundPlace, placeName, readTrustPlaces } from '../report/trust-places.ts'
import { fingerprintsByPlace, readTrustText } from '../report/trust-txt.ts'
import { treeDigest } from '../repository/tree-digest.ts'
import type {
  CertificateFacts,
  Counterexample,
  Digest,
  Evidence,
  Fingerprint,
  Instant,
  Plan,
  TrustState,
} from '../rotation.ts'
import type { System } from '../systems/system.ts'
import { systemOf } from '../systems/systems.ts'
import { type Holding, holdingKey, modelOf, type Trusting, trustingKey } from './model.ts'
import { type PathJudge, pathJudge } from './paths.ts'
import { instant, judgeLinks, type Mix, siteGroupName, stepLabel } from './prove.ts'
import { buildsOtherwise, resourcesOf, saysTheSame } from './same-meaning.ts'

/** What parties of one site present and trust now, as seen or as far as Git tells. */
export interface LiveSite {
  /** Planned step that its folder holds on the base branch, such as `2-trust-both/1-data`; null or absent: not known. */
  readonly at?: string | null
  /** Issuer first, then what is served with it; one entry per distinct observation. */
  readonly presents: readonly (readonly Fingerprint[])[]
  /** Distinct sets of roots. */
  readonly trusts: readonly (readonly Fingerprint[])[]
  /** False: not every consumer was seen, so some may be as far behind as Git allows. True unless said otherwise. */
  readonly complete?: boolean
}

export interface LiveTrust {
  readonly at: Instant
  /** The plan on the base branch, or null where no rotation is open. */
  readonly plan: Plan | null
  /** By site. A site that is absent is taken to be anywhere between the last phase it has finished and its folder. */
  readonly sites: Readonly<Record<string, LiveSite>>
  /** Certificates named above that neither the plan nor the files hold. */
  readonly certificates: readonly CertificateFacts[]
}

/** Why a change is safe or not; stable, for scripts. */
export type ChangeReason =
  | 'no-change'
  | 'next-step'
  | 'every-mix-holds'
  | 'only-widens'
  | 'breaks'
  | 'skips'
  | 'out-of-order'
  | 'removes'
  | 'key-in-the-clear'
  | 'contradiction'
  | 'unreadable'
  | 'unknown'

export interface SiteChange {
  /** Names of sites that change alike. */
  readonly sites: readonly string[]
  /** Planned step that the folder holds before and after, or null where it holds none. */
  readonly from: string | null
  readonly to: string | null
  readonly safe: boolean
  readonly reason: ChangeReason
  readonly sentence: string
  readonly counterexample: Counterexample | null
  readonly goodUntil: Instant | null
}

export interface ChangeVerdict {
  readonly safe: boolean
  readonly reason: ChangeReason
  /** The gravest finding, one sentence. */
  readonly sentence: string
  readonly sites: readonly SiteChange[]
  readonly change: TrustChange
  /** Until when the verdict holds if nothing else moves; null: no end is known, or it is not safe. */
  readonly goodUntil: Instant | null
}

type Files = Readonly<Record<string, string>>

/**
 * Whether a change of files is safe for trust as it is live: planned steps, hand edits and reverts alike. `before` and `after`
 * hold the files that the change touches, and every file of a site's folder that it touches. Copies under `rotations/` are
 * not deployed and count for nothing. What cannot be judged is not safe.
 */
export function checkChange(before: Files, after: Files, live: LiveTrust): ChangeVerdict {
  const paths = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter(path => !isCopy(path)).sort()
  const plan = live.plan
  const sitePaths = new Map((plan?.sites ?? []).map(site => [site.path.replace(/\/+$/, ''), site.name]))
  const folders = new Map<string, Folders>()
  const loose: string[] = []
  const places: PlaceChange[] = []
  const read = new Map<string, readonly [readonly FoundPlace[], readonly FoundPlace[]]>()
  for (const path of paths) {
    const [old, now] = [textAt(before, path), textAt(after, path)]
    const site = siteOf(path, sitePaths)
    const earlier = old === undefined ? [] : readTrustPlaces(path, old)
    const known: readonly [readonly FoundPlace[], readonly FoundPlace[]] = [
      earlier,
      old === now ? earlier : now === undefined ? [] : readTrustPlaces(path, now),
    ]
    read.set(path, known)
    if (old !== now) places.push(...describePlaces(known[0], known[1]))
    if (site === null) {
      if (old !== now) loose.push(path)
      continue
    }
    const folder = folders.get(site.name) ?? emptyFolders(site.path)
    if (old !== undefined) folder.before.set(path.slice(site.path.length + 1), old)
    if (now !== undefined) folder.after.set(path.slice(site.path.length + 1), now)
    folder.placesBefore.push(...known[0])
    folder.placesAfter.push(...known[1])
    folders.set(site.name, folder)
  }
  const change = changeOf(places, rolesOf(before, after))
  const judge = pathJudge(
    uniqueCertificates([
      ...(plan?.certificates ?? []),
      ...live.certificates,
      ...[...read.values()].flat(2).flatMap(place => place.certificates),
    ]),
  )
  const sites = plan === null ? [] : judgeSites(plan, folders, live, judge)
  const others = loose.filter(path => plan === null || !isWiredOnly(plan, folders, live, before, after, path))
  return verdictOf(
    [...cleartext(change), ...sites, ...judgeLoose(others, read, sites.length > 0 ? plan : null, live, judge)],
    change,
  )
}

/**
 * Whether a file outside of the sites' folders changes by the plan's own wiring alone, while the folder that it wires holds a planned step: trust that
 * goes from there has moved into the folder, which is judged by itself.
 */
function isWiredOnly(
  plan: Plan,
  folders: ReadonlyMap<string, Folders>,
  live: LiveTrust,
  before: Files,
  after: Files,
  file: string,
): boolean {
  const wiring = plan.wiring.filter(point => point.file === file)
  const [old, now] = [textAt(before, file), textAt(after, file)]
  if (wiring.length === 0 || old === undefined || now === undefined) return false
  const stands = wiring.every(({ site }) => {
    const folder = folders.get(site)
    if (folder === undefined) return (live.sites[site]?.at ?? null) !== null
    return placeAt(timelineOf(plan, site), folder.after, plan) !== null
  })
  if (!stands) return false
  try {
    return wiring.reduce((text, { edit }) => applyWiring(text, edit, file).text, old) === now
  } catch (error) {
    if (error instanceof ReanchorError) return false
    throw error
  }
}

/** What evidence says of a site of the plan, for `checkChange`. */
export function liveSite(plan: Pick<Plan, 'system'>, evidence: Evidence): LiveSite {
  const { apart = [] } = modelOf(plan)
  const groups = evidence.groups.filter(({ consumer }) => !apart.includes(consumer))
  const presents = groups.flatMap(group => (group.presents === null ? [] : [group.presents]))
  const trusts = groups.flatMap(group => (group.trusts === null ? [] : [group.trusts]))
  const unique = (lists: readonly (readonly string[])[]): string[][] => [
    ...new Map(lists.map(list => [list.join(), [...list]])).values(),
  ]
  return {
    presents: unique(presents),
    trusts: unique(trusts),
    complete: evidence.complete && evidence.exceptions.length === 0,
  }
}

// ------------------------------------------------------------------------------------------------------- sites

interface Folders {
  readonly path: string
  readonly before: Map<string, string>
  readonly after: Map<string, string>
  readonly placesBefore: FoundPlace[]
  readonly placesAfter: FoundPlace[]
}

function emptyFolders(path: string): Folders {
  return { path, before: new Map(), after: new Map(), placesBefore: [], placesAfter: [] }
}

interface PlannedPlace {
  readonly index: number
  readonly label: string
  readonly variant: 'step' | 'undo' | 'nudge'
  readonly state: TrustState
}

/** Planned trees of one site by digest, and its steps in order. */
interface Timeline {
  readonly byDigest: ReadonlyMap<Digest, PlannedPlace>
  readonly steps: readonly PlannedPlace[]
  /** Index of each step → index of the last step of the phase before. */
  readonly floors: readonly number[]
}

function judgeSites(
  plan: Plan,
  folders: ReadonlyMap<string, Folders>,
  live: LiveTrust,
  judge: PathJudge,
): readonly SiteChange[] {
  const system = systemOf(plan.system)
  const touched: {
    site: string
    from: PlannedPlace | null
    to: PlannedPlace | null
    mix: Mix
    /** As it would be if the phase that the folder is in were seen complete. */
    finished: Mix
    finding: Finding | null
  }[] = []
  for (const [site, folder] of folders) {
    if (sameFiles(folder.before, folder.after)) continue
    const timeline = timelineOf(plan, site)
    const from = placeAt(timeline, folder.before, plan)
    const to = placeAt(timeline, folder.after, plan)
    // Comments and format alone: what was declared still is, though the folder's digest is no step's any more.
    const meant = to ?? (saysTheSame(folder.before, folder.after) ? from : null)
    const declared = declaredState(system, folder.placesAfter, meant)
    const present = declaredState(system, folder.placesBefore, from)
    const mix = mixOf(site, timeline, from, to, present, declared, live)
    const finished = mixOf(site, timeline, from, to, present, declared, live, true)
    touched.push({ site, from, to, mix, finished, finding: orderFinding(system, folder, from, to, timeline, declared) })
  }
  if (touched.length === 0) return []
  const { model } = system
  const links = model.links(plan.parties)
  const at = Date.parse(live.at)
  const end = at + plan.gates.hold + plan.gates.settle

  const groups = new Map<string, { sites: string[]; first: (typeof touched)[number] }>()
  for (const one of touched) {
    const key = JSON.stringify([
      one.from?.label,
      one.from?.variant,
      one.to?.label,
      one.to?.variant,
      one.finding?.reason,
      one.finding?.sentence,
      one.mix.holdings.map(holdingKey),
      one.mix.trustings.map(trustingKey),
    ])
    const group = groups.get(key)
    if (group === undefined) groups.set(key, { sites: [one.site], first: one })
    else group.sites.push(one.site)
  }
  const own = [...groups.values()].map(({ sites, first }): SiteChange => {
    const mix = { ...first.mix, site: siteGroupName(sites) }
    const verdict = judgeLinks(model, links, mix, mix, judge, at, end)
    const change = siteChange(sites, first.from, first.to, first.finding, verdict.counterexample, verdict.until)
    if (verdict.counterexample === null || first.from === null || first.finding !== null) return change
    const finished = { ...first.finished, site: mix.site }
    if (judgeLinks(model, links, finished, finished, judge, at, end).counterexample !== null) return change
    const sentence = `${mix.site}: ${change.to ?? 'this change'} is safe only once every consumer has taken up ${wayLabel(first.from)}, and that was not seen: ${verdict.counterexample.sentence}`
    return { ...change, reason: 'unknown', sentence }
  })

  // Sites that the change leaves alone still meet those that it changes.
  const quiet = plan.sites.filter(site => !folders.has(site.name)).map(site => site.name)
  const others = quiet.flatMap(site => {
    const seen = live.sites[site]
    if (seen === undefined) return []
    const timeline = timelineOf(plan, site)
    const at = timeline.steps.find(step => step.label === seen.at) ?? null
    return [{ site, index: at?.index ?? null, mix: mixOf(site, timeline, at, null, at?.state ?? null, null, live) }]
  })
  const all = mergeMixes('*', [
    ...[...groups.values()].map(group => owned({ ...group.first.mix, site: siteGroupName(group.sites) })),
    ...others.map(other => owned(other.mix)),
  ])
  const behind = barrierFinding(touched, others)
  if (behind !== null) own.push(siteChange([behind.site], behind.from, behind.to, behind, null, Number.NaN))
  if (groups.size + others.length < 2) return own
  const across = judgeLinks(
    model,
    links.filter(link => link.acrossSites),
    all,
    all,
    judge,
    at,
    end,
  )
  if (across.counterexample === null || own.some(one => one.counterexample !== null)) return own
  return [...own, siteChange(['*'], null, null, null, across.counterexample, across.until)]
}

function siteChange(
  sites: readonly string[],
  from: PlannedPlace | null,
  to: PlannedPlace | null,
  finding: Finding | null,
  counterexample: Counterexample | null,
  until: number,
): SiteChange {
  const labels = { from: from === null ? null : wayLabel(from), to: to === null ? null : wayLabel(to) }
  const name = siteGroupName(sites)
  if (counterexample !== null) {
    const back = from !== null && to !== null && to.variant === 'step' && to.index < from.index
    const move = back ? `going back from ${labels.from} to ${labels.to}` : `${labels.to ?? 'the edited folder'}`
    return {
      sites,
      ...labels,
      safe: false,
      reason: 'breaks',
      sentence: `${name}: ${move} breaks ${counterexample.link}: ${counterexample.sentence}`,
      counterexample,
      goodUntil: null,
    }
  }
  if (finding !== null)
    return {
      sites,
      ...labels,
      safe: false,
      reason: finding.reason,
      sentence: `${name}: ${finding.sentence}`,
      counterexample: null,
      goodUntil: null,
    }
  const next = from !== null && to !== null && to.index === from.index + 1 && to.variant === 'step'
  const what = to === null ? 'a folder that matches no planned step' : labels.to
  return {
    sites,
    ...labels,
    safe: true,
    reason: next ? 'next-step' : 'every-mix-holds',
    sentence: `${name}: from ${labels.from ?? 'what is there now'} to ${what}, every handshake holds in every mix`,
    counterexample: null,
    goodUntil: instant(until),
  }
}

/** Between steps there is a barrier: no site enters one before every other site has reached the step before it. */
function barrierFinding(
  touched: readonly { readonly site: string; readonly from: PlannedPlace | null; readonly to: PlannedPlace | null }[],
  others: readonly { readonly site: string; readonly index: number | null }[],
): (Finding & { readonly site: string; readonly from: PlannedPlace | null; readonly to: PlannedPlace | null }) | null {
  const reached = [...others, ...touched.map(one => ({ site: one.site, index: one.to?.index ?? null }))]
  for (const one of touched) {
    const { to, from } = one
    if (to === null || to.variant !== 'step' || (from !== null && to.index <= from.index)) continue
    const late = reached.find(other => other.index !== null && other.index < to.index - 1)
    if (late !== undefined)
      return {
        ...one,
        from,
        to,
        reason: 'out-of-order',
        sentence: `enters ${wayLabel(to)} while ${late.site} has not finished the step before it`,
      }
  }
  return null
}

interface Finding {
  readonly reason: ChangeReason
  readonly sentence: string
}

/** What is wrong with a move whatever its handshakes do; null: nothing. */
function orderFinding(
  system: System,
  folder: Folders,
  from: PlannedPlace | null,
  to: PlannedPlace | null,
  timeline: Timeline,
  declared: TrustState | null,
): Finding | null {
  const gone = [...folder.before.keys()].filter(path => system.keptFiles.includes(path) && !folder.after.has(path))
  if (folder.after.size === 0)
    return {
      reason: 'removes',
      sentence:
        'the folder is removed, and with it what Flux or Argo CD delivers; a step back is an undo, which removes no object',
    }
  if (gone.length > 0)
    return {
      reason: 'removes',
      sentence: `${gone.join(', ')} is removed: an undo keeps the object and takes back what it holds`,
    }
  const listed = resourcesOf(folder.after)
  const left = [...resourcesOf(folder.before)].filter(path => system.keptFiles.includes(path) && !listed.has(path))
  if (to === null && left.length > 0)
    return {
      reason: 'removes',
      sentence: `kustomization.yaml does not list ${left.join(', ')} any more, so nobody delivers it`,
    }
  if (to === null && buildsOtherwise(folder.before, folder.after))
    return {
      reason: 'unreadable',
      sentence: 'kustomization.yaml does more than list files, or other than before, so what it builds cannot be told',
    }
  if (to === null) {
    const broken = contradiction(folder)
    if (broken !== null) return broken
    if (declared === null)
      return {
        reason: 'unreadable',
        sentence: 'the folder matches no planned step, and what it trusts and issues from cannot be read',
      }
    if (declared.bundle.length === 0)
      return { reason: 'breaks', sentence: 'the bundle is empty: every handshake fails' }
    return null
  }
  if (from === null) {
    if (folder.before.size === 0 && to.index > 0)
      return { reason: 'skips', sentence: `enters ${wayLabel(to)} without the steps before it` }
    return null
  }
  if (to.variant === 'step' && to.index > from.index + 1) {
    const missing = timeline.steps.slice(from.index + 1, to.index).map(step => step.label)
    return {
      reason: 'skips',
      sentence: `goes from ${wayLabel(from)} to ${wayLabel(to)} and skips ${missing.join(', ')}`,
    }
  }
  // What was undone goes on back by the undo of the phase before (plan/way-back.ts).
  const further = from.variant === 'undo' && to.variant === 'undo' && to.index === timeline.floors[from.index]
  if (to.variant !== 'step' && to.index !== from.index && !further)
    return { reason: 'out-of-order', sentence: `${wayLabel(to)} does not follow ${wayLabel(from)}` }
  if (to.variant === 'step' && from.variant === 'undo' && to.index === from.index + 1)
    return { reason: 'out-of-order', sentence: `${wayLabel(to)} does not follow ${wayLabel(from)}` }
  return null
}

function sameCertificates(one: FoundPlace, other: FoundPlace): boolean {
  const of = ({ certificates }: FoundPlace): string => certificates.map(({ sha256 }) => sha256).join()
  return of(one) === of(other)
}

/**
 * Of a PEM file that is not named as a key: the values of the manifest of its name (Kyma's `gateway-ca.pem`, Linkerd's `issuer.pem`), or
 * whatever the folder holds as trusted (Linkerd's `anchors.pem`, which stands in other files by flow and chart).
 */
function toldBy(file: FoundPlace, places: readonly FoundPlace[]): readonly FoundPlace[] {
  const values = places.filter(place => place.object !== null && place.certificates.length > 0)
  const manifest = file.file.replace(/\.pem$/, '.yaml')
  const beside = values.filter(place => place.file === manifest)
  if (beside.length > 0 || places.some(place => place.file === manifest)) return beside
  return file.role === 'trusted' ? values.filter(place => place.role === 'trusted') : []
}

/** trust.txt and the PEM files are what people read; they must say what the Secret holds. */
function contradiction(folder: Folders): Finding | null {
  const bySecret = new Map(
    folder.placesAfter.filter(place => place.object !== null).map(place => [place.key ?? '', place]),
  )
  for (const place of folder.placesAfter) {
    if (place.object !== null) continue
    const file = place.file.slice(place.file.lastIndexOf('/') + 1)
    // Named as the key, it has its bytes; with `.pem` after a key that has no such end, the certificates alone.
    const copy = bySecret.get(file)
    const twin = copy ?? bySecret.get(file.replace(/\.pem$/, ''))
    if (twin === undefined) {
      const [told, ...others] = toldBy(place, folder.placesAfter)
      if (told === undefined || [told, ...others].some(each => sameCertificates(each, place))) continue
      return { reason: 'contradiction', sentence: `${place.file} does not hold what ${placeName(told)} holds` }
    }
    if (twin.sealed !== null) continue
    if (copy === undefined ? sameCertificates(twin, place) : twin.bytes === place.bytes) continue
    return { reason: 'contradiction', sentence: `${place.file} does not hold what ${placeName(twin)} holds` }
  }
  const text = folder.after.get('trust.txt')
  if (text === undefined) return null
  try {
    const listed = fingerprintsByPlace(readTrustText(text, `${folder.path}/trust.txt`).certificates)
    for (const [place, fingerprints] of listed) {
      // Two objects of a folder may call their keys alike: the file tells them apart (Kyma's two Secrets, both with `ca.crt`).
      const [, file, key] = /^([^:]+\.ya?ml):(.+)$/.exec(place) ?? []
      const twin = folder.placesAfter.find(
        each => each.object !== null && each.key === key && each.file === `${folder.path}/${file}`,
      )
      if (
        twin !== undefined &&
        twin.sealed === null &&
        twin.certificates.map(certificate => certificate.sha256).join() !== fingerprints.join()
      ) {
        return { reason: 'contradiction', sentence: `trust.txt does not list what ${placeName(twin)} holds` }
      }
    }
  } catch (error) {
    return {
      reason: 'contradiction',
      sentence:
        error instanceof Error
          ? (error.message.split('\n')[0] ?? 'trust.txt cannot be read')
          : 'trust.txt cannot be read',
    }
  }
  return null
}

function timelineOf(plan: Plan, site: string): Timeline {
  const steps: PlannedPlace[] = []
  const floors: number[] = []
  const byDigest = new Map<Digest, PlannedPlace>()
  let floor = 0
  for (const phase of plan.phases) {
    const first = steps.length
    for (const step of phase.steps) {
      const own = Object.hasOwn(step.sites, site) ? step.sites[site] : undefined
      if (own === undefined) continue
      const index = steps.length
      const label = stepLabel(phase, step)
      const place: PlannedPlace = { index, label, variant: 'step', state: own.state }
      steps.push(place)
      floors.push(floor)
      byDigest.set(own.digest, place)
      for (const variant of ['undo', 'nudge'] as const) {
        const tree = own[variant]
        if (tree !== null) byDigest.set(tree.digest, { index, label, variant, state: tree.state })
      }
    }
    if (steps.length > first) floor = steps.length - 1
  }
  return { byDigest, steps, floors }
}

function placeAt(timeline: Timeline, folder: ReadonlyMap<string, string>, plan: Plan): PlannedPlace | null {
  if (folder.size === 0) return null
  let digest = treeDigest(folder)
  for (let hop = 0; hop <= Object.keys(plan.formerDigests).length; hop++) {
    const place = timeline.byDigest.get(digest)
    if (place !== undefined) return place
    const newer = Object.hasOwn(plan.formerDigests, digest) ? plan.formerDigests[digest] : undefined
    if (newer === undefined) return null
    digest = newer
  }
  return null
}

/** What the folder's own bytes say, which an edit may have changed; for one without `cacerts` the planned state. */
function declaredState(system: System, places: readonly FoundPlace[], planned: PlannedPlace | null): TrustState | null {
  return system.declaredState(places, planned?.state ?? null) ?? planned?.state ?? null
}

/** All that parties of the site may present and trust while the change rolls out. `finished`: as if the folder's phase were over. */
function mixOf(
  site: string,
  timeline: Timeline,
  from: PlannedPlace | null,
  to: PlannedPlace | null,
  before: TrustState | null,
  after: TrustState | null,
  live: LiveTrust,
  finished = false,
): Mix {
  const states: { label: string; state: TrustState }[] = []
  const found = live.sites[site]
  const seen = found !== undefined && found.presents.length > 0 && found.trusts.length > 0 ? found : undefined
  const whole = seen !== undefined && (seen.complete ?? true)
  if (!whole && !finished && from !== null) {
    const floor = timeline.floors[from.index] ?? 0
    for (const step of timeline.steps.slice(floor, from.index + 1))
      states.push({ label: step.label, state: step.state })
  }
  if (before !== null) states.push({ label: from === null ? 'the folder as it is' : wayLabel(from), state: before })
  if (after !== null) states.push({ label: to === null ? 'the folder as changed' : wayLabel(to), state: after })
  const declared: Mix = {
    site,
    holdings: states.map(({ label, state }) => ({ at: label, issuer: state.issuer, chain: state.chain })),
    trustings: states.map(({ label, state }) => ({ at: label, anchors: [...new Set(state.bundle)].sort() })),
  }
  return mergeMixes(site, seen === undefined ? [declared] : [liveMix(site, seen), declared])
}

function liveMix(site: string, seen: LiveSite): Mix {
  return {
    site,
    holdings: seen.presents.flatMap(([issuer, ...chain]) =>
      issuer === undefined ? [] : [{ at: 'what was seen', issuer, chain }],
    ),
    trustings: seen.trusts.map(set => ({ at: 'what was seen', anchors: [...new Set(set)].sort() })),
  }
}

function owned(mix: Mix): Mix {
  return {
    site: mix.site,
    holdings: mix.holdings.map(holding => ({ ...holding, site: mix.site })),
    trustings: mix.trustings.map(trusting => ({ ...trusting, site: mix.site })),
  }
}

function mergeMixes(site: string, mixes: readonly Mix[]): Mix {
  const holdings = new Map<string, Holding>()
  const trustings = new Map<string, Trusting>()
  for (const mix of mixes) {
    for (const holding of mix.holdings)
      if (!holdings.has(holdingKey(holding))) holdings.set(holdingKey(holding), holding)
    for (const trusting of mix.trustings)
      if (!trustings.has(trustingKey(trusting))) trustings.set(trustingKey(trusting), trusting)
  }
  return { site, holdings: [...holdings.values()], trustings: [...trustings.values()] }
}

function wayLabel(place: PlannedPlace): string {
  return place.variant === 'step' ? place.label : `${place.label} ${place.variant}`
}

// --------------------------------------------------------------------------------------- trust outside of the sites

/** Bundles and issuers that no rotation owns: adding trust is safe; taking it away needs to know who still relies on it. */
function judgeLoose(
  paths: readonly string[],
  read: ReadonlyMap<string, readonly [readonly FoundPlace[], readonly FoundPlace[]]>,
  plan: Plan | null,
  live: LiveTrust,
  judge: PathJudge,
): readonly SiteChange[] {
  const at = Date.parse(live.at)
  const found: SiteChange[] = []
  const say = (safe: boolean, reason: ChangeReason, sentence: string): void => {
    found.push({ sites: [], from: null, to: null, safe, reason, sentence, counterexample: null, goodUntil: null })
  }
  const presented = Object.entries(live.sites).flatMap(([site, seen]) => liveMix(site, seen).holdings)
  for (const path of paths) {
    const [olds, news] = read.get(path) ?? [[], []]
    for (const change of describePlaces(olds, news)) {
      // A server's own certificate is no trust: whoever must accept it is told by the anchors that stay.
      if (change.role === 'presented') continue
      if (change.sealed !== null && !mayHoldTrust(change, [...olds, ...news])) continue
      const name = placeName(change)
      const now = news.find(place => placeName(place) === name)
      const removed = change.certificates.filter(certificate => certificate.fate === 'removed')
      const added = change.certificates.filter(certificate => certificate.fate === 'added')
      if (change.sealed !== null)
        say(
          change.sealed === 'added',
          change.sealed === 'added' ? 'only-widens' : 'unknown',
          `${name}: a sealed value is ${change.sealed}, and what it holds cannot be told`,
        )
      else if (change.role === 'issuer' && change.fate !== 'added' && change.setChanged)
        say(
          false,
          'unknown',
          `${name}: the issuing CA changes outside of a rotation, and nobody looked who trusts the new one`,
        )
      else if (removed.length > 0) {
        const anchors = [...new Set(now?.certificates.map(certificate => certificate.sha256) ?? [])].sort()
        const needed = presented.find(holding => judge.until(holding, { at: name, anchors }, at).until < at)
        if (needed !== undefined)
          say(
            false,
            'breaks',
            `${name}: takes away ${judge.name(removed[0]?.sha256 ?? '')}, and leaves of ${judge.name(needed.issuer)} are still presented`,
          )
        else if (presented.length === 0)
          say(
            false,
            'unknown',
            `${name}: takes away ${judge.name(removed[0]?.sha256 ?? '')}, and nobody looked whether a leaf still needs it`,
          )
        else
          say(
            true,
            'every-mix-holds',
            `${name}: takes away ${judge.name(removed[0]?.sha256 ?? '')}, which no leaf that was seen needs${plan === null ? '' : ' at the sites of the rotation'}`,
          )
      } else if (added.length > 0)
        say(true, 'only-widens', `${name}: trusts ${added.length} more, and takes nothing away`)
      else say(true, 'every-mix-holds', `${name}: the set of certificates stays`)
    }
  }
  return found
}

/**
 * Whether a sealed value may be trust or a CA: by what stands in the clear beside it, else by names. A password, or the key of a server, must
 * not hold up the pull request that changes it.
 */
function mayHoldTrust(change: PlaceChange, places: readonly FoundPlace[]): boolean {
  const beside = places.filter(place => place.object === change.object && place.certificates.length > 0)
  if (beside.length > 0) return beside.some(place => place.role !== 'presented')
  if (change.role === 'trusted' || change.role === 'chain') return true
  return /(^|[^a-z])(ca|cacerts?|root|issuer|anchors?|trust)([^a-z]|$)/i.test(`${change.object} ${change.key}`)
}

/** A private key that stands in the clear in what a change brings: nothing else about it matters. */
function cleartext(change: TrustChange): readonly SiteChange[] {
  return change.places
    .filter(place => place.problems.some(problem => problem.startsWith('a private key')))
    .map(place => ({
      sites: [],
      from: null,
      to: null,
      safe: false,
      reason: 'key-in-the-clear',
      sentence: `${placeName(place)}: a private key stands in the clear; it counts as known to everyone who can read this repository`,
      counterexample: null,
      goodUntil: null,
    }))
}

/** `found` has the gravest first: a key in the clear, then the sites, then the rest. */
function verdictOf(found: readonly SiteChange[], change: TrustChange): ChangeVerdict {
  const worst = found.find(one => !one.safe)
  const first = worst ?? found[0]
  if (first === undefined)
    return { safe: true, reason: 'no-change', sentence: 'no change of trust', sites: [], change, goodUntil: null }
  const dates = found.flatMap(one => (one.goodUntil === null ? [] : [one.goodUntil])).sort()
  return {
    safe: worst === undefined,
    reason: first.reason,
    sentence: first.sentence,
    sites: found,
    change,
    goodUntil: worst === undefined ? (dates[0] ?? null) : null,
  }
}

function siteOf(
  path: string,
  sites: ReadonlyMap<string, string>,
): { readonly name: string; readonly path: string } | null {
  for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1)) {
    const name = sites.get(path.slice(0, end))
    if (name !== undefined) return { name, path: path.slice(0, end) }
  }
  return null
}

/** Sealed copies that wait for their step; `certificates` and evidence beside them are not deployed either. */
function isCopy(path: string): boolean {
  return /^(.*\/)?rotations\/[^/]+\//.test(path)
}

function sameFiles(one: ReadonlyMap<string, string>, other: ReadonlyMap<string, string>): boolean {
  return one.size === other.size && [...one].every(([path, text]) => other.get(path) === text)
}

function uniqueCertificates(certificates: readonly CertificateFacts[]): readonly CertificateFacts[] {
  return [...new Map(certificates.map(certificate => [certificate.sha256, certificate])).values()]
}

function textAt(files: Files, path: string): string | undefined {
  return Object.hasOwn(files, path) ? files[path] : undefined
}
