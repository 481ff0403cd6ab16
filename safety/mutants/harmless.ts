import { type PlanStep, stepFolder } from '../../src/plan/steps.ts'
import type { Evidence, Plan, PlannedCertificate, TrustState } from '../../src/rotation.ts'
import type { Random } from '../random.ts'
import { changeAnswer, liveAt, seenAt } from './changes.ts'
import { evidenceAnswer, momentOf, optionsOf } from './evidence.ts'
import type { Harmless } from './mutant.ts'
import { answerOf, changed, type Mutator } from './plans.ts'
import type { Recording } from './recordings.ts'
import type { World } from './world.ts'

/** Variants of plans and changes that mean what the original means: refusing one is as much a fault as letting a mutant through. */
export const harmlessOfWorlds: Readonly<Record<string, Mutator<Harmless>>> = {
  'plan/order-of-sets': reorderedPlan,
  'plan/repeats-in-bundles': repeatedRoots,
  'plan/unrelated-certificate': moreCertificates,
  'plan/longer-wait': longerWait,
  'change/next-step': nextStep,
  'change/undo': undone,
  'change/unrelated-files': unrelatedFiles,
  'change/comments': commented,
  'change/whitespace': whitespace,
  'change/order-of-files': reorderedFiles,
  'change/order-of-sets': reorderedLive,
}

export const harmlessOfRecordings: Readonly<Record<string, (recording: Recording, random: Random) => Harmless>> = {
  'evidence/order-of-sets': reorderedEvidence,
  'evidence/order-of-fields': turnedFields,
  'evidence/other-words': otherWords,
  'evidence/pods-come-and-go': otherPods,
}

// ------------------------------------------------------------------------------------------------------ plans

function ofPlan(world: World, kind: string, what: string, plan: Plan): Harmless {
  return { system: world.system, kind, name: `${world.name}: ${what}`, answer: () => answerOf(plan) }
}

function reorderedPlan(world: World, random: Random): Harmless {
  const plan = changed(world.plan, state => ({ ...state, bundle: random.shuffled(state.bundle) }))
  return ofPlan(world, 'plan/order-of-sets', 'bundles, certificates, sites and parties in another order', {
    ...plan,
    certificates: random.shuffled(plan.certificates),
    sites: random.shuffled(plan.sites),
    parties: random.shuffled(plan.parties),
  })
}

function repeatedRoots(world: World, random: Random): Harmless {
  const plan = changed(world.plan, (state): TrustState => {
    const again = random.pick(state.bundle)
    return random.chance(0.6) ? { ...state, bundle: [...state.bundle, again] } : state
  })
  return ofPlan(world, 'plan/repeats-in-bundles', 'roots stand twice, beside all others', plan)
}

function moreCertificates(world: World, random: Random): Harmless {
  const stranger: PlannedCertificate = { ...world.stranger, role: 'chain', sites: [], file: 'certificates/other.pem' }
  const at = random.pick(world.steps).index
  const trusted = random.chance(0.5)
  const plan = changed(world.plan, (state, step) =>
    trusted && step.index === at ? { ...state, chain: [...state.chain, stranger.sha256] } : state,
  )
  return ofPlan(world, 'plan/unrelated-certificate', trusted ? `served at step ${at}` : 'held', {
    ...plan,
    certificates: [...plan.certificates, stranger],
  })
}

function longerWait(world: World, random: Random): Harmless {
  const hold = world.plan.gates.hold + random.whole(60) * 60_000
  return ofPlan(world, 'plan/longer-wait', `hold ${hold}`, { ...world.plan, gates: { ...world.plan.gates, hold } })
}

// ------------------------------------------------------------------------------------------------------ changes

type Files = Readonly<Record<string, string>>

function ofChange(world: World, kind: string, what: string, before: Files, after: Files, at: PlanStep): Harmless {
  const live = liveAt(world, at)
  return { system: world.system, kind, name: `${world.name}: ${what}`, answer: () => changeAnswer(before, after, live) }
}

function stepsOf(world: World): readonly PlanStep[] {
  return world.steps.filter(({ step }) => Object.keys(step.sites).length > 0)
}

function everywhere(world: World, at: PlanStep): Record<string, string> {
  return Object.assign({}, ...world.plan.sites.map(({ name }) => world.folder(name, at)))
}

/** A step and the one after it. */
function pair(world: World, random: Random): readonly [PlanStep, PlanStep] {
  const steps = stepsOf(world)
  const place = random.whole(steps.length - 1)
  const [from, to] = [steps[place], steps[place + 1]]
  if (from === undefined || to === undefined) throw new Error(`${world.name} has fewer than two steps`)
  return [from, to]
}

function nextStep(world: World, random: Random): Harmless {
  const [from, to] = pair(world, random)
  return ofChange(world, 'change/next-step', stepFolder(to), everywhere(world, from), everywhere(world, to), from)
}

function undone(world: World, random: Random): Harmless | null {
  const at = random.pick(stepsOf(world))
  const site = random.pick(world.plan.sites).name
  const way = random.pick(['undo', 'nudge'] as const)
  if (Object.values(at.step.sites)[0]?.[way] == null) return null
  const after = world.folder(site, at, way)
  if (Object.keys(after).length === 0) return null
  return ofChange(world, 'change/undo', `${way} of ${stepFolder(at)} at ${site}`, world.folder(site, at), after, at)
}

function unrelatedFiles(world: World, random: Random): Harmless {
  const [from, to] = pair(world, random)
  const step = random.chance(0.5)
  const files: Files = {
    'README.md': `# Fleet\n\n${random.bytes(12).toString('hex')}\n`,
    [`apps/${random.whole(9)}/deployment.yaml`]: `apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: cart-${random.whole(99)}\nspec:\n  replicas: ${random.whole(9)}\n`,
    [`rotations/${world.plan.metadata.name}/notes.md`]: 'waiting for the weekend\n',
  }
  const before = step ? everywhere(world, from) : {}
  const after = { ...(step ? everywhere(world, to) : {}), ...files }
  return ofChange(world, 'change/unrelated-files', step ? `beside ${stepFolder(to)}` : 'alone', before, after, from)
}

function commented(world: World, random: Random): Harmless {
  const at = random.pick(stepsOf(world))
  const site = random.pick(world.plan.sites).name
  const before = world.folder(site, at)
  const manifests = Object.keys(before).filter(path => path.endsWith('.yaml'))
  const path = random.pick(manifests)
  const text = `# ${random.bytes(6).toString('hex')}: see the runbook\n${before[path]}`
  return ofChange(world, 'change/comments', `in ${path} at ${stepFolder(at)}`, before, { ...before, [path]: text }, at)
}

function whitespace(world: World, random: Random): Harmless {
  const at = random.pick(stepsOf(world))
  const site = random.pick(world.plan.sites).name
  const before = world.folder(site, at)
  const path = `trust/${site}/kustomization.yaml`
  const text = before[path] ?? ''
  const spaced = random.chance(0.5)
    ? text.replace(/^ {2}- /gm, '    -   ')
    : `${text}${'\n'.repeat(1 + random.whole(5))}`
  return ofChange(
    world,
    'change/whitespace',
    `in ${path} at ${stepFolder(at)}`,
    before,
    { ...before, [path]: spaced },
    at,
  )
}

function reorderedFiles(world: World, random: Random): Harmless {
  const [from, to] = pair(world, random)
  const turned = (files: Files): Files => Object.fromEntries(random.shuffled(Object.entries(files)))
  return ofChange(
    world,
    'change/order-of-files',
    stepFolder(to),
    turned(everywhere(world, from)),
    turned(everywhere(world, to)),
    from,
  )
}

function reorderedLive(world: World, random: Random): Harmless {
  const [from, to] = pair(world, random)
  const [before, after] = [everywhere(world, from), everywhere(world, to)]
  const live = liveAt(world, from, () => {
    const seen = seenAt(from)
    return { ...seen, trusts: seen.trusts.flatMap(set => [random.shuffled(set), random.shuffled([...set, ...set])]) }
  })
  const turned = { ...live, sites: Object.fromEntries(random.shuffled(Object.entries(live.sites))) }
  return {
    system: world.system,
    kind: 'change/order-of-sets',
    name: `${world.name}: ${stepFolder(to)}`,
    answer: () => changeAnswer(before, after, turned),
  }
}

// ------------------------------------------------------------------------------------------------------ evidence

function ofEvidence(
  recording: Recording,
  random: Random,
  kind: string,
  change: (evidence: Evidence) => Evidence,
): Harmless {
  const look = random.pick(recording.looks)
  const now = momentOf(recording, look.evidence, random)
  const evidence = random.shuffled(look.evidence).map(change)
  return {
    system: recording.system,
    kind,
    name: `${look.file} at ${now.toISOString()}`,
    answer: () => evidenceAnswer(recording, evidence, now, optionsOf(look)),
  }
}

function reorderedEvidence(recording: Recording, random: Random): Harmless {
  return ofEvidence(recording, random, 'evidence/order-of-sets', one => ({
    ...one,
    groups: random.shuffled(one.groups),
    objects: random.shuffled(one.objects),
    certificates: random.shuffled(one.certificates),
  }))
}

function turnedFields(recording: Recording, random: Random): Harmless {
  const turned = <T extends object>(value: T): T => Object.fromEntries(random.shuffled(Object.entries(value))) as T
  return ofEvidence(recording, random, 'evidence/order-of-fields', one =>
    turned({
      ...one,
      groups: one.groups.map(turned),
      objects: one.objects.map(turned),
      delivery: turned(one.delivery),
    }),
  )
}

function otherWords(recording: Recording, random: Random): Harmless {
  const message = `Applied revision ${random.bytes(4).toString('hex')}`
  return ofEvidence(recording, random, 'evidence/other-words', one => ({
    ...one,
    delivery: { ...one.delivery, message, hurry: null, nextDue: null },
  }))
}

/** More or fewer pods of an owner that are all alike, under other names. */
function otherPods(recording: Recording, random: Random): Harmless {
  return ofEvidence(recording, random, 'evidence/pods-come-and-go', one => ({
    ...one,
    groups: one.groups.map(group => ({
      ...group,
      count: group.count + random.whole(3),
      members: random.bytes(32).toString('hex'),
    })),
  }))
}
