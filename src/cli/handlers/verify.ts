import { readFileSync } from 'node:fs'
import type { SiteAuthorship } from '../../commands/judge-written.ts'
import { loadRotation, type OpenRotation, positionsAt } from '../../commands/rotation.ts'
import { lookAtSites } from '../../commands/verify.ts'
import { exitCodes, ReanchorError } from '../../errors.ts'
import type { Evidence, GateResult, Plan, Verdict } from '../../rotation.ts'
import { authorshipOf, authorshipText } from '../../verify/authorship.ts'
import type { Drain } from '../../verify/drain.ts'
import { type CommonOptions, duration } from '../options.ts'
import type { CommandResult, Terminal } from '../output.ts'
import { chosen, contextFor } from './common.ts'
import { gatesText, waitingExit } from './next.ts'

interface VerifyFlags extends CommonOptions {
  readonly wait: boolean
  readonly timeout: string
  readonly evidence?: string
  readonly at?: string
}

export async function verifyHandler(options: VerifyFlags, terminal: Terminal): Promise<CommandResult> {
  if (options.evidence !== undefined) return await judgeFile(options, options.evidence, terminal)
  const context = await contextFor(options, terminal)
  await context.repository.fetch()
  const until = context.now().getTime() + duration(options.timeout, '--timeout')
  for (;;) {
    const rotation = await loadRotation(context.repository, chosen(options))
    const positions = await positionsAt(rotation.snapshot, rotation.plan)
    const looks = await lookAtSites(context, rotation, positions)
    const gates = looks.flatMap(look => look.verdict.gates)
    const absent = rotation.plan.sites.filter(site => positions[site.name]?.kind !== 'at')
    if (absent.length > 0 && looks.length === 0) {
      throw new ReanchorError({
        what: 'no site is at a step yet, so there is nothing to verify',
        where: { object: `rotation ${rotation.name}` },
        expected: 'a merged adopt pull request',
        found: absent.map(site => `${site.name}: ${positions[site.name]?.kind}`).join(', '),
        todo: 'run `reanchor next` and merge what it opens',
        exit: exitCodes.waiting,
      })
    }
    const verdict = worstOf(looks.map(look => look.verdict.verdict))
    const retry = gates
      .flatMap(gate => (gate.retryAt === null ? [] : [Date.parse(gate.retryAt)]))
      .sort((a, b) => a - b)[0]
    if (options.wait && verdict !== 'holds' && verdict !== 'violated' && context.now().getTime() < until) {
      const pause = Math.min(Math.max((retry ?? 0) - context.now().getTime(), 5_000), 60_000)
      const open = gates.filter(gate => gate.verdict !== 'holds')
      context.progress(
        `${open.length} of ${gates.length} gates do not hold yet: ${open[0]?.claim} (${open[0]?.because[0] ?? ''})`,
      )
      await context.sleep(pause)
      await context.repository.fetch()
      continue
    }
    const evidence = looks.map(look => look.evidence)
    const drains = await drainsOf(
      rotation.plan,
      looks.flatMap(look => (look.unseen === null ? [look.evidence] : [])),
      () => context.now(),
    )
    const { signers } = rotation.declaration.evidence
    const authorship = looks.flatMap(({ site, evidence: seen, reported }) =>
      reported === undefined ? [] : [{ site, ...authorshipOf(seen, reported.signature, signers) }],
    )
    return await answer(rotation, { verdict, gates, drain: drains, evidence, authorship }, terminal)
  }
}

/** Judges committed evidence, offline, to the verdict that it supports at the time it was gathered; or as of `--at`. */
async function judgeFile(options: VerifyFlags, file: string, terminal: Terminal): Promise<CommandResult> {
  const { readWrittenEvidence } = await import('../../verify/evidence-file.ts')
  const { judgeWritten } = await import('../../commands/judge-written.ts')
  const context = await contextFor(options, terminal, true)
  const rotation = await loadRotation(context.repository, chosen(options))
  const written = readWrittenEvidence(readFileSync(file, 'utf8'), file)
  const { gates, authorship } = await judgeWritten(context, rotation, written, asOf(options.at, context.now()))
  const evidence = written.map(each => each.evidence)
  const verdict = worstOf(gates.map(gate => gate.verdict))
  const drains = await drainsOf(rotation.plan, evidence, each => new Date(each.to))
  return await answer(rotation, { verdict, gates, drain: drains, evidence, authorship }, terminal)
}

function asOf(text: string | undefined, now: Date): Date | null {
  if (text === undefined) return null
  if (text === 'now') return now
  const at = new Date(text)
  if (/^\d{4}-\d\d-\d\dT/.test(text) && !Number.isNaN(at.getTime())) return at
  throw new ReanchorError({
    what: '--at is no instant',
    expected: 'now, or RFC 3339',
    found: text,
    example: '--at 2026-11-22T06:00:00Z',
    todo: 'correct the option',
  })
}

async function drainsOf(
  plan: Plan,
  evidence: readonly Evidence[],
  at: (each: Evidence) => Date,
): Promise<readonly Drain[]> {
  const { drainOf } = await import('../../verify/drain.ts')
  return evidence.flatMap(each => drainOf(plan, each, at(each)) ?? [])
}

const order: readonly Verdict[] = ['holds', 'pending', 'unknown', 'violated']

function worstOf(verdicts: readonly Verdict[]): Verdict {
  if (verdicts.length === 0) return 'unknown'
  return order[Math.max(...verdicts.map(verdict => order.indexOf(verdict)))] ?? 'unknown'
}

interface Answer {
  readonly verdict: Verdict
  readonly gates: readonly GateResult[]
  readonly drain: readonly Drain[]
  readonly evidence: readonly Evidence[]
  readonly authorship: readonly SiteAuthorship[]
}

async function answer(rotation: OpenRotation, result: Answer, terminal: Terminal): Promise<CommandResult> {
  const { verdict, gates, drain, evidence, authorship } = result
  const whose = authorship.map(one => `${one.site}: evidence ${authorshipText(one)}\n`).join('')
  return {
    rotation: rotation.name,
    exit: verdict === 'holds' ? exitCodes.done : waitingExit(verdict),
    result,
    text: `${whose}${whose === '' ? '' : '\n'}${await gatesText(gates, evidence, terminal, { of: drain, certificates: rotation.plan.certificates })}`,
  }
}
