import { generateKeyPairSync } from 'node:crypto'
import { checkChange, type LiveSite, type LiveTrust } from '../../src/index.ts'
import { type PlanStep, stepFolder } from '../../src/plan/steps.ts'
import type { TrustState } from '../../src/rotation.ts'
import { systemOf } from '../../src/systems/systems.ts'
import type { Random } from '../random.ts'
import { exchanged, type Files, without } from './edits.ts'
import { mixReasons, type Needs } from './expect.ts'
import type { Answer, Mutant } from './mutant.ts'
import type { Mutator } from './plans.ts'
import { stateAt, type World } from './world.ts'

/** By class: pull requests as people and mistakes make them, at a moment when every consumer has been seen at some step. */
export const changeMutators: Readonly<Record<string, Mutator>> = {
  'change/phases-squashed': squashed,
  'change/reverted': reverted,
  'change/other-steps-undo': otherUndo,
  'change/edited-bundle': editedBundle,
  'change/edited-copy': editedCopy,
  'change/key-in-the-clear': keyInTheClear,
  'change/object-removed': objectRemoved,
  'change/not-listed': notListed,
  'change/patched': patched,
  'change/site-order': siteOrder,
  'change/stale-leaf': staleLeaf,
  'change/narrowed-unseen': narrowedUnseen,
  'change/wrong-issuer': wrongIssuer,
}

export function changeAnswer(before: Files, after: Files, live: LiveTrust): Answer {
  const { safe, reason } = checkChange(before, after, live)
  return { passed: safe, reasons: [reason] }
}

/** Where every site stands, by its folder and by what was seen. */
export function liveAt(
  world: World,
  at: PlanStep,
  seen: (site: string) => LiveSite | null = () => seenAt(at),
): LiveTrust {
  const sites = world.plan.sites.flatMap(({ name }) => {
    const found = seen(name)
    return found === null ? [] : [[name, found] as const]
  })
  return { at: world.plan.createdAt, plan: world.plan, sites: Object.fromEntries(sites), certificates: [] }
}

export function seenAt(at: PlanStep): LiveSite {
  const { issuer, chain, bundle } = stateAt(at)
  return {
    at: stepFolder(at),
    presents: [[issuer, ...chain.filter(each => each !== issuer)]],
    trusts: [bundle],
    complete: true,
  }
}

function foldersAt(world: World, sites: readonly string[], at: PlanStep): Record<string, string> {
  return Object.assign({}, ...sites.map(site => world.folder(site, at)))
}

function needsOf(world: World): Needs {
  return new Map([
    [world.oldIssuer, world.oldRoot],
    [world.newIssuer, world.newRoot],
    [world.oldRoot, world.oldRoot],
    [world.newRoot, world.newRoot],
  ])
}

function breaks(world: World, ...states: readonly TrustState[]): boolean {
  return mixReasons(world.system, new Map([['here', states]]), needsOf(world)).size > 0
}

function moving(world: World): readonly PlanStep[] {
  return world.steps.filter(({ step }) => Object.keys(step.sites).length > 0)
}

function someSites({ plan }: World, random: Random): readonly string[] {
  const names = random.shuffled(plan.sites.map(({ name }) => name))
  return names.slice(0, 1 + random.whole(names.length))
}

function mutantOf(
  world: World,
  kind: string,
  what: string,
  expected: string | readonly string[],
  before: Files,
  after: Files,
  live: LiveTrust,
): Mutant {
  return {
    system: world.system,
    kind,
    name: `${world.name}: ${what}`,
    expected: new Set(typeof expected === 'string' ? [expected] : expected),
    answer: () => changeAnswer(before, after, live),
  }
}

// ------------------------------------------------------------------------------------------------------ other steps

function squashed(world: World, random: Random): Mutant | null {
  const steps = moving(world)
  const from = random.pick(steps.slice(0, -2))
  const to = random.pick(steps.slice(steps.indexOf(from) + 2))
  const sites = world.plan.sites.map(({ name }) => name)
  const expected = breaks(world, stateAt(from), stateAt(to)) ? 'breaks' : 'skips'
  const what = `${stepFolder(from)} to ${stepFolder(to)}`
  return mutantOf(
    world,
    'change/phases-squashed',
    what,
    expected,
    foldersAt(world, sites, from),
    foldersAt(world, sites, to),
    liveAt(world, from),
  )
}

function reverted(world: World, random: Random): Mutant | null {
  const steps = moving(world)
  const from = random.pick(steps.slice(1))
  const to = random.pick(steps.slice(0, steps.indexOf(from)))
  if (!breaks(world, stateAt(from), stateAt(to))) return null
  const sites = someSites(world, random)
  const what = `${stepFolder(from)} back to ${stepFolder(to)} at ${sites.join()}`
  return mutantOf(
    world,
    'change/reverted',
    what,
    'breaks',
    foldersAt(world, sites, from),
    foldersAt(world, sites, to),
    liveAt(world, from),
  )
}

function otherUndo(world: World, random: Random): Mutant | null {
  const steps = moving(world)
  const from = random.pick(steps)
  const other = random.pick(steps)
  const undo = Object.values(other.step.sites)[0]?.undo
  if (other === from || undo == null) return null
  const site = random.pick(world.plan.sites).name
  const expected = breaks(world, stateAt(from), undo.state) ? 'breaks' : null
  const after = world.folder(site, other, 'undo')
  // Not every rendering has its ways back.
  if (Object.keys(after).length === 0) return null
  const gone = Object.keys(world.folder(site, from)).some(
    path => systemOf(world.system).keptFiles.some(kept => path.endsWith(`/${kept}`)) && !Object.hasOwn(after, path),
  )
  const reason = expected ?? (gone ? 'removes' : 'out-of-order')
  return mutantOf(
    world,
    'change/other-steps-undo',
    `${stepFolder(from)} to the undo of ${stepFolder(other)}`,
    reason,
    world.folder(site, from),
    after,
    liveAt(world, from),
  )
}

// ------------------------------------------------------------------------------------------------------ edited folders

/** An edited folder of Linkerd matches no step, and then nobody tells which of its places its proxies read; that two of them differ may be told before. */
const unreadableEdit = ['unreadable', 'contradiction']

function pemOf({ plan }: World, sha256: string): string {
  return plan.certificates.find(certificate => certificate.sha256 === sha256)?.pem ?? ''
}

function exchangedState(state: TrustState, from: string, to: string): TrustState {
  const turn = (sha256: string): string => (sha256 === from ? to : sha256)
  return { ...state, bundle: state.bundle.map(turn), issuer: turn(state.issuer), chain: state.chain.map(turn) }
}

/** In the open pull request of the next step, or in the folder as it is, one root stands where the other did. */
function editedBundle(world: World, random: Random): Mutant | null {
  const steps = moving(world)
  const from = random.pick(steps)
  const to = random.chance(0.5) ? from : (steps[steps.indexOf(from) + 1] ?? from)
  const [lost, put] = random.shuffled([world.oldRoot, world.newRoot]) as [string, string]
  const edited = exchangedState(stateAt(to), lost, put)
  // Without `cacerts` the folder declares nothing that Istio would read.
  if (stateAt(to).source !== 'plugged' || isSealed(world)) return null
  const site = random.pick(world.plan.sites).name
  const before = world.folder(site, from)
  const planned = world.folder(site, to)
  const texts = exchanged(planned, pemOf(world, lost), pemOf(world, put))
  const after = random.chance(0.5) ? swapText(texts, lost, put) : texts
  if (Object.keys(planned).every(path => planned[path] === after[path])) return null
  if (!breaks(world, stateAt(from), edited)) return null
  const expected = world.system === 'linkerd' ? unreadableEdit : 'breaks'
  return mutantOf(
    world,
    'change/edited-bundle',
    `${lost.slice(0, 8)} by ${put.slice(0, 8)} in ${stepFolder(to)} after ${stepFolder(from)}`,
    expected,
    before,
    after,
    liveAt(world, from),
  )
}

function swapText(files: Files, lost: string, put: string): Record<string, string> {
  const entries = Object.entries(files).map(([path, text]): [string, string] => [
    path,
    path.endsWith('/trust.txt') ? text.replaceAll(lost, put) : text,
  ])
  return Object.fromEntries(entries)
}

/** Public certificates that are sealed along with the key cannot be edited by hand. */
function isSealed({ name }: World): boolean {
  return name.includes('sealed-secrets')
}

/** The Secret stays, but what people read beside it says something else. */
function editedCopy(world: World, random: Random): Mutant | null {
  const steps = moving(world)
  const at = random.pick(steps)
  if (stateAt(at).source !== 'plugged' || isSealed(world)) return null
  const site = random.pick(world.plan.sites).name
  const before = world.folder(site, at)
  const listed = `trust/${site}/trust.txt`
  const lines = (before[listed] ?? '').split('\n')
  const places = lines.flatMap((line, index) => (/^\S+\.yaml:\S+ .*[0-9a-f]{64}/.test(line) ? [index] : []))
  if (places.length === 0) return null
  const chosen = random.pick(places)
  const other = random.pick(world.plan.certificates).sha256
  const written = lines.map((line, index) => (index === chosen ? line.replace(/[0-9a-f]{64}/, other) : line)).join('\n')
  if (written === before[listed]) return null
  return mutantOf(
    world,
    'change/edited-copy',
    `line ${chosen + 1} of trust.txt in ${stepFolder(at)} says ${other.slice(0, 8)}`,
    world.system === 'linkerd' ? unreadableEdit : 'contradiction',
    before,
    { ...before, [listed]: written },
    liveAt(world, at),
  )
}

let spilled: string | null = null

/** Of no use to anybody: made for this run, and thrown away with it. */
function spilledKey(): string {
  spilled ??= generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({
    type: 'pkcs8',
    format: 'pem',
  }) as string
  return spilled
}

function keyInTheClear(world: World, random: Random): Mutant | null {
  const at = random.pick(moving(world))
  const site = random.pick(world.plan.sites).name
  const before = world.folder(site, at)
  const key = spilledKey()
  const form = random.pick(['value', 'block', 'pem', 'elsewhere'] as const)
  const secret = (value: string): string =>
    `apiVersion: v1\nkind: Secret\nmetadata:\n  name: spilled\n  namespace: default\n${value}`
  const texts: Readonly<Record<typeof form, readonly [string, string]>> = {
    value: [`trust/${site}/more.yaml`, secret(`data:\n  tls.key: ${Buffer.from(key).toString('base64')}\n`)],
    block: [`trust/${site}/more.yaml`, secret(`stringData:\n  tls.key: |\n${key.trimEnd().replace(/^/gm, '    ')}\n`)],
    pem: [`trust/${site}/key.pem`, key],
    elsewhere: [`apps/${site}/secret.yaml`, secret(`data:\n  tls.key: ${Buffer.from(key).toString('base64')}\n`)],
  }
  const [path, text] = texts[form]
  return mutantOf(
    world,
    'change/key-in-the-clear',
    `${form} in ${path} at ${stepFolder(at)}`,
    'key-in-the-clear',
    before,
    { ...before, [path]: text },
    liveAt(world, at),
  )
}

function keptFile(world: World, site: string, at: PlanStep, random: Random): string | null {
  const folder = world.folder(site, at)
  const kept = systemOf(world.system).keptFiles.map(file => `trust/${site}/${file}`)
  const present = kept.filter(path => Object.hasOwn(folder, path))
  return present.length === 0 ? null : random.pick(present)
}

function objectRemoved(world: World, random: Random): Mutant | null {
  const at = random.pick(moving(world))
  const site = random.pick(world.plan.sites).name
  const before = world.folder(site, at)
  const file = random.chance(0.3) ? null : keptFile(world, site, at, random)
  const after = file === null ? {} : without(before, file)
  return mutantOf(
    world,
    'change/object-removed',
    `${file ?? 'the folder'} at ${stepFolder(at)} of ${site}`,
    'removes',
    before,
    after,
    liveAt(world, at),
  )
}

/** The file stays where it is, but nothing is built from it any more. */
function notListed(world: World, random: Random): Mutant | null {
  const at = random.pick(moving(world))
  const site = random.pick(world.plan.sites).name
  const before = world.folder(site, at)
  const file = keptFile(world, site, at, random)
  const list = `trust/${site}/kustomization.yaml`
  const name = file?.slice(file.lastIndexOf('/') + 1)
  const text = (before[list] ?? '').replace(`  - ${name}\n`, '')
  if (file === null || text === before[list]) return null
  return mutantOf(
    world,
    'change/not-listed',
    `${file} at ${stepFolder(at)} of ${site}`,
    'removes',
    before,
    { ...before, [list]: text },
    liveAt(world, at),
  )
}

/** The kustomization makes something else of the very same files. */
function patched(world: World, random: Random): Mutant | null {
  const at = random.pick(moving(world))
  const site = random.pick(world.plan.sites).name
  const before = world.folder(site, at)
  const list = `trust/${site}/kustomization.yaml`
  const addition = random.pick([
    'patches:\n  - target: {kind: Secret}\n    patch: |\n      - {op: remove, path: /data}\n',
    'namePrefix: old-\n',
    'namespace: elsewhere\n',
    'secretGenerator:\n  - name: more\n    behavior: merge\n    literals: [a=b]\n',
  ])
  return mutantOf(
    world,
    'change/patched',
    `${addition.split('\n')[0]} at ${stepFolder(at)} of ${site}`,
    'unreadable',
    before,
    { ...before, [list]: `${before[list]}${addition}` },
    liveAt(world, at),
  )
}

/** The next step's folder, with an issuer that nobody trusts. */
function wrongIssuer(world: World, random: Random): Mutant | null {
  const steps = moving(world)
  const at = random.pick(steps)
  if (stateAt(at).source !== 'plugged' || isSealed(world)) return null
  const { issuer } = stateAt(at)
  const site = random.pick(world.plan.sites).name
  const planned = world.folder(site, at)
  const [first] = steps
  const from = steps[steps.indexOf(at) - 1] ?? first ?? at
  const foreign = world.stranger.pem
  const after = exchanged(planned, pemOf(world, issuer), foreign)
  if (Object.keys(planned).every(path => planned[path] === after[path])) return null
  const bundle = stateAt(at).bundle.map(root => (root === issuer ? world.stranger.sha256 : root))
  const edited = { ...stateAt(at), issuer: world.stranger.sha256, bundle }
  const needs = new Map([...needsOf(world), [world.stranger.sha256, world.stranger.sha256]])
  if (mixReasons(world.system, new Map([['here', [stateAt(from), edited]]]), needs).size === 0) return null
  const expected = world.system === 'linkerd' ? unreadableEdit : 'breaks'
  return mutantOf(
    world,
    'change/wrong-issuer',
    `${stepFolder(at)} of ${site}`,
    expected,
    world.folder(site, from),
    after,
    liveAt(world, from),
  )
}

// ------------------------------------------------------------------------------------------------------ other moments

/** One site goes on to a step while another has not even reached the one before it. */
function siteOrder(world: World, random: Random): Mutant | null {
  const steps = moving(world)
  const names = random.shuffled(world.plan.sites.map(({ name }) => name))
  const [late] = names
  if (late === undefined || names.length < 2 || steps.length < 3) return null
  const to = random.pick(steps.slice(2))
  const from = steps[steps.indexOf(to) - 1] ?? to
  const behind = random.pick(steps.slice(0, steps.indexOf(from)))
  const hasty = names.slice(1, 2 + random.whole(names.length - 1))
  const live = liveAt(world, from, site => seenAt(site === late ? behind : from))
  return mutantOf(
    world,
    'change/site-order',
    `${hasty.join()} to ${stepFolder(to)} while ${late} is at ${stepFolder(behind)}`,
    'out-of-order',
    foldersAt(world, hasty, from),
    foldersAt(world, hasty, to),
    live,
  )
}

/** The next step in its turn, but somebody was seen with a leaf that it does not accept. */
function staleLeaf(world: World, random: Random): Mutant | null {
  const steps = moving(world)
  const to = random.pick(steps.slice(1))
  const from = steps[steps.indexOf(to) - 1] ?? to
  const issuer = stateAt(to).bundle.includes(world.oldRoot) ? world.newIssuer : world.oldIssuer
  if (!breaks(world, { ...stateAt(to), issuer }, stateAt(from))) return null
  const sites = world.plan.sites.map(({ name }) => name)
  const struck = random.pick(sites)
  const seen = seenAt(from)
  const chain = issuer === world.oldIssuer ? [world.oldRoot] : [world.newRoot]
  const live = liveAt(world, from, site =>
    site === struck ? { ...seen, presents: [...seen.presents, [issuer, ...chain]] } : seen,
  )
  return mutantOf(
    world,
    'change/stale-leaf',
    `${issuer.slice(0, 8)} at ${struck} before ${stepFolder(to)}`,
    'breaks',
    foldersAt(world, [struck], from),
    foldersAt(world, [struck], to),
    live,
  )
}

/** A step that is safe only once the phase before is over, and nobody has seen that it is. */
function narrowedUnseen(world: World, random: Random): Mutant | null {
  const steps = moving(world)
  const site = random.pick(world.plan.sites).name
  const to = random.pick(steps.slice(1))
  const from = steps[steps.indexOf(to) - 1] ?? to
  // Anywhere from the end of the phase before the one that the folder is in.
  const floor = steps.filter(at => at.phase.number < from.phase.number).at(-1) ?? steps[0]
  const window = steps.slice(floor === undefined ? 0 : steps.indexOf(floor), steps.indexOf(from) + 1)
  if (!breaks(world, ...window.map(stateAt), stateAt(to))) return null
  const blind = random.chance(0.5)
  const live = liveAt(world, from, name =>
    name !== site ? seenAt(from) : blind ? null : { ...seenAt(from), complete: false },
  )
  return mutantOf(
    world,
    'change/narrowed-unseen',
    `${stepFolder(from)} to ${stepFolder(to)} at ${site}`,
    'unknown',
    world.folder(site, from),
    world.folder(site, to),
    live,
  )
}
