import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ConsumerClass, GateResult, SystemName } from '../../../src/rotation.ts'
import { readEvidence } from '../../../src/verify/evidence-file.ts'
import type { ButtonPresser, ForgeFleet, PressedMerge } from './forge-fleet.ts'
import { mustSay, type RunOptions, reanchor, type Said, told } from './reanchor.ts'
import { type RotationRecord, recordOfSteps, type StepRecord, seconds, stepOf } from './rotation.ts'

export interface UnattendedOptions {
  readonly system: SystemName
  readonly name: string
  readonly fleet: ForgeFleet
  /** kubeconfigs of the clusters' administrators: `plan` reads today's CA from there. */
  readonly administrator: readonly string[]
  /** kubeconfigs of the verifier, with the rights of roles/ and none besides. */
  readonly verifier: readonly string[]
  /** Flags of `init` besides `--name` and `--forge`. */
  readonly init: readonly string[]
  /** Flags of `plan` besides `--rotation` and `--root-key-out`. */
  readonly plan?: readonly string[]
  /** What the user changes in rotation.yaml before committing it. */
  readonly edit?: (text: string) => string
  /** Whose merge button is pressed, by branch. @default everybody's, all the time */
  readonly presses?: (branch: string) => boolean
  /** Milliseconds after which the runner of this round is killed with all that it started; null: it lives. It then takes no lock. @default it lives */
  readonly killed?: (round: number) => number | null
  /** More flags of `run`, such as `--lock-for 1m`. */
  readonly run?: readonly string[]
  /** Folder of the runner's clone, which must be empty. @default a new one */
  readonly folder?: string
  /** Environment of the runner, besides its token. */
  readonly env?: Readonly<Record<string, string>>
  /** Whether a round may have ended so, with another exit code than of a round that went well. @default none may */
  readonly tolerates?: (said: Said) => boolean
  /** After each round of `run --once`: the world may be disturbed, or looked at. */
  readonly onRound?: (round: Round) => Promise<void>
  /** Longest time without a merge, in milliseconds. @default 300000 */
  readonly patience?: number
}

export interface Round {
  /** What was merged last; null before the plan is. */
  readonly step: string | null
  readonly kind: string
  readonly gates: readonly GateResult[]
  readonly said: Said
  readonly runner: RunOptions
  readonly buttons: ButtonPresser
}

export interface UnattendedRecord extends RotationRecord {
  /** In order; people's words among them. */
  readonly merges: readonly PressedMerge[]
  /** Presses of the merge button that Gitea refused, all pull requests together. */
  readonly refused: number
}

interface RunJson {
  readonly kind: 'opened' | 'open' | 'waiting' | 'done'
  readonly gates?: readonly GateResult[]
}

/** Exit codes with which a round may end while another hand merges, and nothing is wrong: done, waiting, evidence missing. */
const fine: readonly number[] = [0, 3, 4]

/**
 * A whole rotation with no hand in between: `init`, `plan`, then `run --once` again and again, while somebody presses the merge button of whatever is
 * open without looking. Only the protected branch keeps that from doing harm. Ends when the rotation is closed.
 */
export async function unattended(options: UnattendedOptions): Promise<UnattendedRecord> {
  const { fleet, name, patience = 300_000 } = options
  const began = Date.now()
  await declareOnForge(options)
  const desk = await fleet.runner(options.administrator)
  const made = await fleet.runner(options.verifier, options.folder)
  const runner: RunOptions = { ...made, env: { ...made.env, ...options.env } }
  const rootKey = join(fleet.outside, `${name}-root.key.age`)
  const asked = ['plan', '--rotation', name, '--root-key-out', rootKey, ...(options.plan ?? []), '--output', 'json']
  await mustSay(asked, { ...desk, env: { ...desk.env, SOPS_AGE_KEY: fleet.identity } })

  const buttons = fleet.pressButtons(options.presses ?? (() => true))
  const waited = new Map<string, Record<string, string>>()
  const rounds = new Map<string, number>()
  const gatesHeld = new Map<string, number>()
  let count = 0
  try {
    for (;;) {
      const last = buttons.merges.findLast(isStep)
      const step = last === undefined ? null : stepOf(last.branch, name)
      const since = last === undefined ? began : Date.parse(last.mergedAt)
      const after = options.killed?.(count++) ?? null
      const command = ['run', '--once', '--rotation', name, '--output', 'json', ...(options.run ?? [])]
      const unlocked = options.killed === undefined ? [] : ['--no-lock']
      const said = await reanchor([...command, ...unlocked], { ...runner, ...(after === null ? {} : { lost: after }) })
      const answer = said.json as RunJson | null
      const lost = after !== null && said.exit === 137
      if (!fine.includes(said.exit) && !lost && options.tolerates?.(said) !== true) throw new Error(told(said))
      const gates = answer?.gates ?? []
      const at = step ?? 'plan'
      rounds.set(at, (rounds.get(at) ?? 0) + 1)
      const reasons = waited.get(at) ?? {}
      waited.set(at, reasons)
      if (answer?.kind === 'waiting') for (const gate of gates) reasons[gate.claim] ??= gate.because[0] ?? ''
      if (answer?.kind === 'opened') gatesHeld.set(at, gates.length)
      await options.onRound?.({ step, kind: answer?.kind ?? 'later', gates, said, runner, buttons })
      if (answer?.kind === 'done') break
      if (Date.now() - since > patience) throw new Error(`nothing merged for ${patience / 1000} s\n${told(said)}`)
      await sleep(500)
    }
  } finally {
    await buttons.stop()
  }
  await fleet.pull()
  const steps: StepRecord[] = []
  const merged = buttons.merges.filter(isStep)
  for (const [index, merge] of merged.entries()) {
    const step = stepOf(merge.branch, name)
    const next = merged[index + 1]
    const consumers = next === undefined ? {} : await consumersIn(fleet, name, next.head)
    steps.push({
      step,
      pullRequest: merge.number,
      mergedAt: merge.mergedAt,
      seconds: next === undefined ? null : seconds(Date.parse(next.mergedAt) - Date.parse(merge.mergedAt)),
      rounds: rounds.get(step) ?? 0,
      waitedFor: waited.get(step) ?? {},
      gates: gatesHeld.get(step) ?? 0,
      consumers,
    })
  }
  return {
    ...(await recordOfSteps(fleet, { name, began, steps, stoppedAt: null })),
    merges: [...buttons.merges],
    refused: [...buttons.refusals.values()].reduce((sum, count) => sum + count, 0),
  }
}

/** What `reanchor/gate` said of the commits that were merged, each word once. */
export function gatesMerged({ merges }: Pick<UnattendedRecord, 'merges'>): readonly string[] {
  return [...new Set(merges.map(({ gate }) => gate.replace(/:.*/, '')))]
}

/** A person's word comes by a pull request too, and moves nothing. */
function isStep({ branch }: PressedMerge): boolean {
  return !branch.includes('/attest-')
}

async function declareOnForge({ fleet, system, name, init, edit }: UnattendedOptions): Promise<void> {
  await fleet.pull()
  await mustSay(['init', system, '--yes', '--name', name, '--forge', fleet.forgeFlag, ...init], { cwd: fleet.clone })
  const file = join('rotations', name, 'rotation.yaml')
  const text = await readFile(join(fleet.clone, file), 'utf8')
  await fleet.commit({ [file]: edit === undefined ? text : edit(text) }, `Declare rotation ${name}`)
}

/** What the evidence counted that came into main with this commit of a pull request. */
async function consumersIn(
  fleet: ForgeFleet,
  rotation: string,
  commit: string,
): Promise<Partial<Record<ConsumerClass, number>>> {
  const counts: Partial<Record<ConsumerClass, number>> = {}
  const folder = `rotations/${rotation}/evidence`
  const changed = await fleet.git('show', '--name-only', '--format=', commit, '--', folder)
  for (const file of changed.split('\n').filter(line => line !== '')) {
    for (const { groups } of readEvidence(await fleet.git('show', `${commit}:${file}`), file))
      for (const { consumer, count } of groups) counts[consumer] = (counts[consumer] ?? 0) + count
  }
  return counts
}
