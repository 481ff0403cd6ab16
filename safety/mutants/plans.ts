import { ReanchorError } from '../../src/errors.ts'
import { provePlan } from '../../src/index.ts'
import { type PlanStep, stepFolder, stepsOf } from '../../src/plan/steps.ts'
import type { CertificateFacts, Plan, PlannedCertificate, PlannedSite, TrustState } from '../../src/rotation.ts'
import type { Random } from '../random.ts'
import { anonymousRoot, forgedIssuing, rootNamed, subjectOf } from './certificates.ts'
import { planReasons } from './expect.ts'
import type { Answer, Mutant } from './mutant.ts'
import { stateAt, type World } from './world.ts'

/** Null: this world has nothing that could be broken so. */
export type Mutator<Made = Mutant> = (world: World, random: Random) => Promise<Made | null> | Made | null

/** By class. Each breaks one thing of a valid plan; what must come of it is told by `planReasons`, or by what was broken itself. */
export const planMutators: Readonly<Record<string, Mutator>> = {
  'plan/steps-swapped': swapped,
  'plan/steps-merged': merged,
  'plan/step-left-out': leftOut,
  'plan/early-narrow': earlyNarrow,
  'plan/early-issue': earlyIssue,
  'plan/site-order': siteBehind,
  'plan/certificate-dropped': dropped,
  'plan/certificate-doubled': doubled,
  'plan/empty-bundle': emptied,
  'plan/wrong-key': wrongKey,
  'plan/equal-subjects': equalSubjects,
  'plan/name-without-identifier': indistinct,
  'plan/ends-too-early': endsEarly,
  'plan/unknown-certificate': unknownCertificate,
  'plan/damaged-certificate': otherBytes,
  'plan/undo-too-far': undoTooFar,
}

/** What the reasons of a proof are called here. One that matches nothing is told as it stands, and so is never expected. */
const reasonNames: readonly (readonly [name: string, pattern: RegExp])[] = [
  ['no-path', /^no path to a trusted root$/],
  ['trusts-nothing', /^it trusts nothing$/],
  ['moves-both', /^trusted roots and issuer change in one step$/],
  ['expired', / ended (on |at )?\d{4}-/],
  ['ends', / ends (on |at )?\d{4}-.*, and the step cannot be over before /],
  ['not-yet-valid', / (begins|is not valid before|starts) /],
  ['indistinct', / share a subject, and no key identifier tells a verifier which of them signed$/],
  ['other-key', /^its authorityKeyIdentifier is /],
  ['refused', / is refused: /],
]

export function answerOf(plan: Plan, options: Parameters<typeof provePlan>[1] = {}): Answer {
  try {
    const proof = provePlan(plan, options)
    const reasons = proof.transitions.flatMap(({ counterexample }) =>
      counterexample === null ? [] : [nameOf(counterexample.reason)],
    )
    return { passed: proof.safe, reasons: [...new Set(reasons)] }
  } catch (error) {
    if (!(error instanceof ReanchorError)) throw error
    return { passed: false, reasons: [`input: ${error.what}`] }
  }
}

function nameOf(reason: string): string {
  return reasonNames.find(([, pattern]) => pattern.test(reason))?.[0] ?? reason
}

// ------------------------------------------------------------------------------------------------------ how plans are changed

type Change = (state: TrustState, at: PlanStep, site: string) => TrustState

export function changed(plan: Plan, change: Change): Plan {
  const steps = stepsOf(plan)
  return {
    ...plan,
    phases: plan.phases.map(phase => ({
      ...phase,
      steps: phase.steps.map(step => {
        const at = steps.find(found => found.step === step)
        if (at === undefined) return step
        const sites = Object.entries(step.sites).map(([site, own]): [string, PlannedSite] => [
          site,
          { ...own, state: change(own.state, at, site) },
        ])
        return { ...step, sites: Object.fromEntries(sites) }
      }),
    })),
  }
}

function phasesOf(plan: Plan, order: readonly number[]): Plan {
  const phases = order.flatMap(number => plan.phases.filter(phase => phase.number === number))
  return { ...plan, phases: phases.map((phase, number) => ({ ...phase, number })) }
}

function withCertificate(plan: Plan, certificate: PlannedCertificate): Plan {
  return { ...plan, certificates: [...plan.certificates, certificate] }
}

function needsOf(world: World): ReadonlyMap<string, string> {
  return new Map([
    [world.oldIssuer, world.oldRoot],
    [world.newIssuer, world.newRoot],
  ])
}

/** Null where, by sets alone, nothing is wrong with it: then it is no mutant. */
function mutantOf(world: World, kind: string, what: string, plan: Plan, expected?: readonly string[]): Mutant | null {
  const reasons = new Set<string>(expected ?? planReasons(plan, needsOf(world)))
  if (reasons.size === 0) return null
  return { system: world.system, kind, name: `${world.name}: ${what}`, expected: reasons, answer: () => answerOf(plan) }
}

function movingPhases({ plan }: World): readonly number[] {
  return plan.phases
    .filter(({ number, steps }) => number > 0 && steps.some(s => Object.keys(s.sites).length > 0))
    .map(({ number }) => number)
}

function stepsWhere(world: World, is: (state: TrustState) => boolean): readonly PlanStep[] {
  return world.steps.filter(at => Object.keys(at.step.sites).length > 0 && is(stateAt(at)))
}

/** At least one site. */
function someSites({ plan }: World, random: Random): readonly string[] {
  const names = random.shuffled(plan.sites.map(({ name }) => name))
  return names.slice(0, 1 + random.whole(names.length))
}

// ------------------------------------------------------------------------------------------------------ the classes

function swapped(world: World, random: Random): Mutant | null {
  const moving = movingPhases(world)
  const place = random.whole(moving.length - 1)
  const other = place + 1 + random.whole(moving.length - place - 1)
  const order = [...moving]
  ;[order[place], order[other]] = [moving[other] ?? 0, moving[place] ?? 0]
  return mutantOf(
    world,
    'plan/steps-swapped',
    `phases in the order ${order.join()}`,
    phasesOf(world.plan, [0, ...order]),
  )
}

function merged(world: World, random: Random): Mutant | null {
  const moving = movingPhases(world)
  const first = random.whole(moving.length - 1)
  const last = first + 1 + random.whole(moving.length - first - 1)
  const [from, to] = [moving[first] ?? 0, moving[last] ?? 0]
  const { phases } = world.plan
  const steps = phases
    .filter(({ number }) => number >= from && number <= to)
    .flatMap(phase => phase.steps)
    .map((step, index) => ({ ...step, number: index + 1 }))
  const kept = phases.filter(({ number }) => number <= from || number > to)
  const plan = { ...world.plan, phases: kept.map(phase => (phase.number === from ? { ...phase, steps } : phase)) }
  return mutantOf(world, 'plan/steps-merged', `phases ${from} to ${to} are one`, plan)
}

function leftOut(world: World, random: Random): Mutant | null {
  const moving = movingPhases(world)
  const out = new Set(random.shuffled(moving).slice(0, 1 + random.whole(2)))
  const kept = moving.filter(number => !out.has(number))
  return mutantOf(world, 'plan/step-left-out', `without phases ${[...out].join()}`, phasesOf(world.plan, [0, ...kept]))
}

function earlyNarrow(world: World, random: Random): Mutant | null {
  const sites = someSites(world, random)
  const at = random.pick(
    stepsWhere(world, ({ bundle }) => bundle.includes(world.oldRoot) && bundle.includes(world.newRoot)),
  )
  const plan = changed(world.plan, (state, each, site) =>
    each.index >= at.index && sites.includes(site)
      ? { ...state, bundle: state.bundle.filter(root => root !== world.oldRoot) }
      : state,
  )
  return mutantOf(world, 'plan/early-narrow', `${sites.join()} from ${stepFolder(at)} on`, plan)
}

function earlyIssue(world: World, random: Random): Mutant | null {
  const sites = someSites(world, random)
  const to = stateAt(stepsWhere(world, ({ issuer }) => issuer === world.newIssuer)[0])
  const at = random.pick(stepsWhere(world, ({ issuer }) => issuer === world.oldIssuer).slice(1))
  const plan = changed(world.plan, (state, each, site) =>
    each.index >= at.index && state.issuer === world.oldIssuer && sites.includes(site)
      ? { ...state, issuer: to.issuer, chain: to.chain }
      : state,
  )
  return mutantOf(world, 'plan/early-issue', `${sites.join()} from ${stepFolder(at)} on`, plan)
}

/** One site, or some, never enter a phase that the others go through. */
function siteBehind(world: World, random: Random): Mutant | null {
  const sites = someSites(world, random)
  const phase = random.pick(movingPhases(world))
  const plan: Plan = {
    ...world.plan,
    phases: world.plan.phases.map(each =>
      each.number !== phase
        ? each
        : {
            ...each,
            steps: each.steps.map(step => ({
              ...step,
              sites: Object.fromEntries(Object.entries(step.sites).filter(([site]) => !sites.includes(site))),
            })),
          },
    ),
  }
  return mutantOf(world, 'plan/site-order', `${sites.join()} without phase ${phase}`, plan)
}

function dropped(world: World, random: Random): Mutant | null {
  const sites = someSites(world, random)
  const at = random.pick(world.steps.filter(each => Object.keys(each.step.sites).length > 0))
  const root = random.pick(stateAt(at).bundle)
  const plan = changed(world.plan, (state, each, site) =>
    each.index === at.index && sites.includes(site)
      ? { ...state, bundle: state.bundle.filter(other => other !== root) }
      : state,
  )
  return mutantOf(
    world,
    'plan/certificate-dropped',
    `${root.slice(0, 8)} at ${sites.join()} in ${stepFolder(at)}`,
    plan,
  )
}

/** One root stands twice where both should stand once. */
function doubled(world: World, random: Random): Mutant | null {
  const sites = someSites(world, random)
  const [kept, lost] = random.shuffled([world.oldRoot, world.newRoot]) as [string, string]
  const at = random.pick(stepsWhere(world, ({ bundle }) => bundle.includes(kept) && bundle.includes(lost)))
  const plan = changed(world.plan, (state, each, site) =>
    each.index === at.index && sites.includes(site)
      ? { ...state, bundle: state.bundle.map(root => (root === lost ? kept : root)) }
      : state,
  )
  return mutantOf(
    world,
    'plan/certificate-doubled',
    `${kept.slice(0, 8)} at ${sites.join()} in ${stepFolder(at)}`,
    plan,
  )
}

function emptied(world: World, random: Random): Mutant | null {
  const sites = someSites(world, random)
  const at = random.pick(world.steps.filter(each => Object.keys(each.step.sites).length > 0))
  const plan = changed(world.plan, (state, each, site) =>
    each.index === at.index && sites.includes(site) ? { ...state, bundle: [] } : state,
  )
  return mutantOf(world, 'plan/empty-bundle', `${sites.join()} in ${stepFolder(at)}`, plan)
}

/** The new issuer is one that no trusted key has signed, though it has the names of one that was. */
async function wrongKey(world: World, random: Random): Promise<Mutant | null> {
  const sites = someSites(world, random)
  const { plan, newIssuer, newRoot } = world
  const forged = await forgedIssuing(subjectOf(plan, newIssuer), subjectOf(plan, newRoot), random)
  const mutant = changed(withCertificate(plan, forged), (state, _at, site) =>
    state.issuer === newIssuer && sites.includes(site)
      ? { ...state, issuer: forged.sha256, chain: state.chain.map(each => (each === newIssuer ? forged.sha256 : each)) }
      : state,
  )
  return mutantOf(world, 'plan/wrong-key', `issuer at ${sites.join()}`, mutant, ['no-path', 'refused'])
}

/** Another root with the new one's Subject stands in its place in the bundles. */
async function equalSubjects(world: World, random: Random): Promise<Mutant | null> {
  const sites = someSites(world, random)
  const twin = await rootNamed(subjectOf(world.plan, world.newRoot), random)
  const from = random.pick(stepsWhere(world, ({ bundle }) => bundle.includes(world.newRoot)))
  const mutant = changed(withCertificate(world.plan, twin), (state, at, site) =>
    at.index >= from.index && sites.includes(site)
      ? { ...state, bundle: state.bundle.map(root => (root === world.newRoot ? twin.sha256 : root)) }
      : state,
  )
  const expected = planReasons(mutant, needsOf(world))
  if (!expected.has('no-path')) return null
  // A twin that matches by name is tried and then refused, by its key: which of the two is said is the path search's affair.
  return mutantOf(world, 'plan/equal-subjects', `from ${stepFolder(from)} at ${sites.join()}`, mutant, [
    ...expected,
    'refused',
    'other-key',
  ])
}

/** A second root with the Subject of one that leaves need, and no key identifier that would tell them apart. */
async function indistinct(world: World, random: Random): Promise<Mutant | null> {
  const sites = someSites(world, random)
  const root = random.pick([world.oldRoot, world.newRoot])
  const twin = await anonymousRoot(subjectOf(world.plan, root), random)
  const at = random.pick(stepsWhere(world, ({ bundle }) => bundle.includes(root)))
  // Old leaves meet the new root's twin in vain: it is only tried where leaves that need its double are about.
  const issues = stateAt(at).issuer === world.oldIssuer ? world.oldRoot : world.newRoot
  if (issues !== root) return null
  const mutant = changed(withCertificate(world.plan, twin), (state, each, site) =>
    each.index === at.index && sites.includes(site) ? { ...state, bundle: [...state.bundle, twin.sha256] } : state,
  )
  return mutantOf(
    world,
    'plan/name-without-identifier',
    `${root.slice(0, 8)} in ${stepFolder(at)} at ${sites.join()}`,
    mutant,
    ['indistinct'],
  )
}

/** The plan begins when a CA that it needs has ended, or so late that one ends before the rotation can be over. */
function endsEarly(world: World, random: Random): Mutant | null {
  const needed = new Set([world.oldRoot, world.newRoot, world.oldIssuer, world.newIssuer])
  const first = earliest(world.plan.certificates.filter(({ sha256 }) => needed.has(sha256)))
  const end = Date.parse(first.notAfter)
  const hold = world.plan.gates.hold + world.plan.gates.settle
  // `adopt` alone takes the hold, so from later than this on it cannot be over before the end.
  const gone = random.chance(0.5)
  const begun = gone ? end + 1_000 + random.whole(30) * 86_400_000 : end - random.whole(Math.max(1, hold - 1_000))
  const plan = { ...world.plan, createdAt: new Date(begun).toISOString() }
  return mutantOf(
    world,
    'plan/ends-too-early',
    `begun ${plan.createdAt}, ${first.subject} ends ${first.notAfter}`,
    plan,
    [...(gone ? ['expired'] : ['ends'])],
  )
}

function earliest(certificates: readonly CertificateFacts[]): CertificateFacts {
  const [first] = [...certificates].sort((one, other) => Date.parse(one.notAfter) - Date.parse(other.notAfter))
  if (first === undefined) throw new Error('a plan without certificates')
  return first
}

function unknownCertificate(world: World, random: Random): Mutant | null {
  const sites = someSites(world, random)
  const at = random.pick(world.steps.filter(each => Object.keys(each.step.sites).length > 0))
  const stranger = random.bytes(32).toString('hex')
  const where = random.pick(['bundle', 'issuer', 'chain'] as const)
  const mutant = changed(world.plan, (state, each, site) => {
    if (each.index !== at.index || !sites.includes(site)) return state
    return where === 'issuer' ? { ...state, issuer: stranger } : { ...state, [where]: [...state[where], stranger] }
  })
  return mutantOf(world, 'plan/unknown-certificate', `${where} of ${stepFolder(at)} at ${sites.join()}`, mutant, [
    'input: a step names a certificate that the plan does not hold',
  ])
}

/** Under one fingerprint stand the bytes of another certificate. */
function otherBytes(world: World, random: Random): Mutant | null {
  const used = new Set([world.oldRoot, world.newRoot, world.oldIssuer, world.newIssuer])
  const victim = random.pick([...used])
  const other = random.pick(world.plan.certificates.filter(({ sha256 }) => sha256 !== victim))
  const certificates = world.plan.certificates.map(each =>
    each.sha256 === victim ? { ...each, pem: other.pem } : each,
  )
  return mutantOf(
    world,
    'plan/damaged-certificate',
    `${victim.slice(0, 8)} with the bytes of ${other.sha256.slice(0, 8)}`,
    {
      ...world.plan,
      certificates,
    },
    ['input: a certificate that is not the one its fingerprint names'],
  )
}

/** A way back that takes away what is still presented. */
function undoTooFar(world: World, random: Random): Mutant | null {
  const sites = someSites(world, random)
  const at = random.pick(
    stepsWhere(world, () => true).filter(({ step }) => Object.values(step.sites).some(({ undo }) => undo !== null)),
  )
  const roots = [...new Set(stateAt(at).bundle)]
  const lost = random.pick(roots)
  const plan: Plan = {
    ...world.plan,
    phases: world.plan.phases.map(phase => ({
      ...phase,
      steps: phase.steps.map(step => {
        if (step !== at.step) return step
        const own = Object.entries(step.sites).map(([site, planned]): [string, PlannedSite] => {
          if (!sites.includes(site) || planned.undo === null) return [site, planned]
          const bundle = planned.undo.state.bundle.filter(root => root !== lost)
          return [site, { ...planned, undo: { ...planned.undo, state: { ...planned.undo.state, bundle } } }]
        })
        return { ...step, sites: Object.fromEntries(own) }
      }),
    })),
  }
  return mutantOf(world, 'plan/undo-too-far', `${stepFolder(at)} without ${lost.slice(0, 8)} at ${sites.join()}`, plan)
}
