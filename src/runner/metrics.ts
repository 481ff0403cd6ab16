import { Counter, Gauge, Registry } from 'prom-client'
import type { GateResult, Plan, SitePosition } from '../rotation.ts'

/** What a round told of one rotation, as far as metrics go. */
export interface RoundFacts {
  readonly rotation: string
  readonly outcome: 'opened' | 'open' | 'waiting' | 'done' | 'later' | 'failed' | 'dry-run'
  /** Seconds since 1970. */
  readonly at: number
  /** Seconds. */
  readonly took: number
  /** Null: the round did not come so far. Then what was told before stays. */
  readonly seen: RoundSeen | null
}

export interface RoundSeen {
  readonly plan: Plan
  readonly paused: boolean
  readonly positions: Readonly<Record<string, SitePosition>>
  readonly gates: readonly GateResult[]
  /** By site: consumers that evidence names as behind. */
  readonly behind: Readonly<Record<string, number>>
  /** Open ones of the rotation, with the time of their newest commit in seconds since 1970. */
  readonly pullRequests: readonly { readonly number: number; readonly since: number }[]
}

export interface Metrics {
  round(facts: RoundFacts): void
  /** Text format of Prometheus. */
  text(): Promise<string>
  readonly contentType: string
  /** When the last round ended, in seconds since 1970; null: none has yet. */
  lastRound(): number | null
}

const day = 86_400

/** Gauges are made anew with each round of a rotation, so that nothing stays of a site, a gate or a pull request that is gone. */
export function runnerMetrics(version: string): Metrics {
  const registry = new Registry()
  const gauge = <Label extends string>(name: string, help: string, labelNames: readonly Label[]): Gauge<Label> =>
    new Gauge({ name: `reanchor_${name}`, help, labelNames, registers: [registry] })
  const counter = <Label extends string>(name: string, help: string, labelNames: readonly Label[]): Counter<Label> =>
    new Counter({ name: `reanchor_${name}`, help, labelNames, registers: [registry] })

  const phase = gauge('site_phase', 'Phase that the folder of a site holds; -1: none, or none of the plan', [
    'rotation',
    'site',
  ])
  const step = gauge('site_step', 'Step of that phase; 0: none', ['rotation', 'site'])
  const offPlan = gauge('site_off_plan', '1 where the folder of a site matches no planned step', ['rotation', 'site'])
  const phases = gauge('phases', 'Phases of the rotation, the closing pull request included', ['rotation'])
  const gate = gauge('gate_verdict', '1 for the verdict that a gate has at a site', [
    'rotation',
    'site',
    'gate',
    'verdict',
  ])
  const behind = gauge('consumers_behind', 'Consumers that the last look names as behind', ['rotation', 'site'])
  const ends = gauge('certificate_not_after_seconds', 'When a CA of the plan ends, in seconds since 1970', [
    'rotation',
    'role',
    'sha256',
  ])
  const days = gauge('certificate_days_left', 'Days until a CA of the plan ends, at the last round', [
    'rotation',
    'role',
    'sha256',
  ])
  const age = gauge('pull_request_age_seconds', 'Since the newest commit of an open pull request, at the last round', [
    'rotation',
    'number',
  ])
  const paused = gauge('paused', '1 where the rotation is paused', ['rotation'])
  const last = gauge('last_round_timestamp_seconds', 'When the last round ended, in seconds since 1970', ['rotation'])
  const lastGood = gauge('last_good_round_timestamp_seconds', 'When the last round ended that did not fail', [
    'rotation',
  ])
  const took = gauge('last_round_duration_seconds', 'How long the last round took', ['rotation'])
  const rounds = counter('rounds_total', 'Rounds by how they ended', ['rotation', 'outcome'])
  const errors = counter('errors_total', 'Rounds that failed', ['rotation'])
  gauge('build_info', 'Version of reanchor', ['version']).set({ version }, 1)

  const known = new Map<string, RoundSeen>()
  let ended: number | null = null

  /** What depends on the look, of every rotation: a registry cannot forget by one label. */
  function seenAgain(at: number): void {
    for (const each of [phase, step, offPlan, phases, gate, behind, ends, days, age, paused]) each.reset()
    for (const [rotation, seen] of known) {
      phases.set({ rotation }, seen.plan.phases.length + 1)
      paused.set({ rotation }, seen.paused ? 1 : 0)
      for (const { name: site } of seen.plan.sites) {
        const position = seen.positions[site]
        phase.set({ rotation, site }, position?.kind === 'at' ? position.phase : -1)
        step.set({ rotation, site }, position?.kind === 'at' ? position.step : 0)
        offPlan.set({ rotation, site }, position?.kind === 'mixed' || position?.kind === 'unknown' ? 1 : 0)
        behind.set({ rotation, site }, seen.behind[site] ?? 0)
      }
      for (const { id, site, verdict } of seen.gates) gate.set({ rotation, site, gate: id, verdict }, 1)
      for (const { role, sha256, notAfter } of seen.plan.certificates) {
        const labels = { rotation, role, sha256: sha256.slice(0, 16) }
        ends.set(labels, Date.parse(notAfter) / 1000)
        days.set(labels, Math.floor((Date.parse(notAfter) / 1000 - at) / day))
      }
      for (const { number, since } of seen.pullRequests) age.set({ rotation, number }, Math.max(0, at - since))
    }
  }

  return {
    round({ rotation, outcome, at, took: seconds, seen }) {
      if (seen !== null) known.set(rotation, seen)
      seenAgain(at)
      last.set({ rotation }, at)
      took.set({ rotation }, seconds)
      rounds.inc({ rotation, outcome })
      errors.inc({ rotation }, outcome === 'failed' ? 1 : 0)
      if (outcome !== 'failed') lastGood.set({ rotation }, at)
      ended = at
    },
    text: () => registry.metrics(),
    contentType: registry.contentType,
    lastRound: () => ended,
  }
}
