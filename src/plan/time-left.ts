import type { GateSettings, Instant, Plan, SitePosition, Strategy, TrustState } from '../rotation.ts'
import { instantOf } from '../verify/values.ts'
import { progressOf } from './advance.ts'

/** One phase as far as time is concerned: which CAs are trusted and issue after each of its steps. */
export interface CoursePhase {
  readonly name: string
  readonly steps: readonly Pick<TrustState, 'bundle' | 'issuer'>[]
}

/** What a rotation's length depends on. */
export interface Course {
  readonly strategy: Strategy
  /** From `adopt` on. */
  readonly phases: readonly CoursePhase[]
  /** How many groups of sites enter each step one after the other. */
  readonly batches: number
  readonly gates: Pick<GateSettings, 'hold' | 'settle'>
  /** Hours that a leaf lives, which the proof waits for at the end of each phase. */
  readonly leafHours: number
  /** Hours until every holder has renewed by itself once another CA issues. */
  readonly renewalHours: number
}

/** How long there is to start, or to go on: plain data, and its own JSON. */
export interface TimeLeft {
  readonly strategy: Strategy
  /** Milliseconds that it takes at the least until nobody needs the old CA: every pull request merged at once, holders told to renew. */
  readonly least: number
  /** Milliseconds that it takes where holders renew by themselves and people have a day for each pull request. */
  readonly usual: number
  /** Pull requests still to be merged until nobody needs the old CA; 0: the gates of the step that is merged are all that is left. */
  readonly requests: number
  /** When the old CA ends; null: the rotation does not need it any more, or it is not known. */
  readonly ends: Instant | null
  /** The last instant at which there is the usual time. */
  readonly startBy: Instant | null
  /** The last instant at which there is the least time; after it this strategy has no way without an outage. */
  readonly lastStart: Instant | null
  /** Whole days until `startBy`, below 0 once that is past; null where `ends` is. */
  readonly daysLeft: number | null
  /** `none-needed`: the old CA may end, nobody needs it. */
  readonly state: 'in-time' | 'hurry' | 'too-late' | 'none-needed'
}

const hour = 3_600_000
const day = 24 * hour

/** What a person has for one pull request: to see it, to review it, and to look after the roll-out. */
const reviewed = day

/**
 * The least time, in ms, that a step takes, or its undo: its hold, and where a phase ends, as with an undo, the life of a leaf that renews only by
 * itself.
 */
export function leastTime(of: Pick<Course, 'gates' | 'leafHours'>, closesPhase: boolean): number {
  return of.gates.hold + of.gates.settle + (closesPhase ? Math.round(of.leafHours * hour) : 0)
}

export interface StandingAt {
  /** When the CA in use ends; null: not known. */
  readonly ends: Date | null
  /** How many steps every site has behind it. @default 0 */
  readonly done?: number
  /** The step after those is merged, and its gates are still to hold. @default false */
  readonly running?: boolean
}

/** Pure. */
export function timeLeft(course: Course, of: StandingAt, now: Date): TimeLeft {
  const { strategy, batches } = course
  const ahead = stepsNeeding(course).slice(of.done ?? 0)
  const least = ahead.reduce((sum, step) => sum + batches * leastTime(course, step.closes), 0)
  const requests = Math.max(0, ahead.length - (of.running === true ? 1 : 0)) * batches
  const own = Math.round(Math.max(0, course.renewalHours - course.leafHours) * hour)
  const usual = least + ahead.filter(({ renews }) => renews).length * batches * own + requests * reviewed
  const base = { strategy, least, usual, requests }
  if (ahead.length === 0)
    return { ...base, ends: null, startBy: null, lastStart: null, daysLeft: null, state: 'none-needed' }
  if (of.ends === null) return { ...base, ends: null, startBy: null, lastStart: null, daysLeft: null, state: 'in-time' }
  const startBy = of.ends.getTime() - usual
  const lastStart = of.ends.getTime() - least
  const at = now.getTime()
  return {
    ...base,
    ends: instantOf(of.ends),
    startBy: instantOf(new Date(startBy)),
    lastStart: instantOf(new Date(lastStart)),
    daysLeft: Math.floor((startBy - at) / day),
    state: at <= startBy ? 'in-time' : at <= lastStart ? 'hurry' : 'too-late',
  }
}

/** How long one phase may be expected to take, from the first pull request of it: milliseconds. */
export interface PhaseTime {
  /** What its gates wait by themselves where everybody is ready at once: hold and settle, step by step and batch by batch. */
  readonly gates: number
  /** Holders renew by themselves, and people have a day for each pull request. */
  readonly usual: number
}

/** How long one step lasts from the last change that it makes, in milliseconds. */
export interface StepTime {
  /** Hold and settle: before these are over no gate can hold. */
  readonly gates: number
  /** What holders take to renew by themselves, where the gate waits for that; else 0. */
  readonly renewal: number
}

/** Pure. */
export function stepTime(course: Course, phase: number, step: number): StepTime {
  const renews =
    course.strategy !== 'renew' &&
    course.strategy !== 'emergency' &&
    phase === movingPhase(course) &&
    step === course.phases[phase]?.steps.length
  return { gates: leastTime(course, false), renewal: renews ? Math.round(course.renewalHours * hour) : 0 }
}

/** Of every phase of a course, from `adopt` on. How long nodes or workloads take to restart is known to nobody here. Pure. */
export function phaseTimes(course: Course): readonly PhaseTime[] {
  const { batches, strategy } = course
  const own = Math.round(Math.max(0, course.renewalHours - course.leafHours) * hour)
  const moves = movingPhase(course)
  return course.phases.map(({ steps }, phase) => {
    const gates = steps.length * batches * leastTime(course, false)
    const leaves = steps.length === 0 ? 0 : batches * (leastTime(course, true) - leastTime(course, false))
    const renews = phase === moves && strategy !== 'renew' && strategy !== 'emergency'
    return { gates, usual: gates + leaves + (renews ? batches * own : 0) + steps.length * batches * reviewed }
  })
}

/** How long a whole rotation may be expected to take, its closing pull request with it: milliseconds. Pure. */
export function wholeTime(course: Course): number {
  return [...phaseTimes(course), closingTime].reduce((sum, { usual }) => sum + usual, 0)
}

/** Of the closing pull request: nothing waits for it. */
export const closingTime: PhaseTime = { gates: 0, usual: reviewed }

interface NeedingStep {
  readonly closes: boolean
  /** The last step of a phase in which another CA comes to issue: its gate waits for every holder. */
  readonly renews: boolean
}

/**
 * The steps while which someone still needs the CA of today: up to the end of the phase in which another comes to issue, whose gate has seen every leaf
 * renewed. With `renew` the key stays, so that an old leaf verifies with the new certificate as soon as that is trusted. An emergency waits for nobody.
 */
function stepsNeeding({ strategy, phases }: Pick<Course, 'strategy' | 'phases'>): readonly NeedingStep[] {
  if (strategy === 'emergency') return []
  const moved = movingPhase({ strategy, phases })
  return phases.slice(0, moved + 1).flatMap(({ steps }, phase) =>
    steps.map((_, index) => {
      const closes = index === steps.length - 1
      return { closes, renews: closes && phase === moved && strategy !== 'renew' }
    }),
  )
}

/** The phase in which another CA comes to issue, or, with `renew`, in which its new certificate comes to be trusted; -1: none. */
function movingPhase({ strategy, phases }: Pick<Course, 'strategy' | 'phases'>): number {
  const first = phases[0]?.steps[0]
  if (first === undefined) return -1
  return phases.findIndex(({ steps }) => {
    const last = steps.at(-1)
    if (last === undefined) return false
    if (strategy === 'renew') return last.bundle.some(root => !first.bundle.includes(root))
    return last.issuer !== first.issuer
  })
}

/** The course of a plan that is made, as its first site goes it: all sites have the same steps. */
export function courseOf(plan: Plan, renewalHours: number): Course {
  const site = plan.sites[0]?.name ?? ''
  const phases = plan.phases.map(({ name, steps }) => ({
    name,
    steps: steps.flatMap(step => step.sites[site]?.state ?? []),
  }))
  const { strategy, gates, leafHours, batches } = plan
  return { strategy, phases, batches: batches.length, gates, leafHours, renewalHours }
}

/** From the site that is furthest behind. Its step is not behind it: whether the gates hold is not asked here. */
export function standingAt(
  plan: Plan,
  positions: Readonly<Record<string, SitePosition>>,
): { readonly done: number; readonly running: boolean } {
  const reached = plan.sites.map(({ name }) => progressOf(plan, positions[name] ?? { kind: 'absent' }) ?? -1)
  const furthestBehind = Math.min(...reached)
  return { done: Math.max(0, furthestBehind), running: furthestBehind >= 0 }
}
