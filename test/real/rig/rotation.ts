import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ConsumerClass, Evidence, GateResult, SystemName } from '../../../src/rotation.ts'
import { mustSay, type RunOptions, reanchor, type Said, told } from './reanchor.ts'
import type { FleetRepository } from './repository.ts'

/** Who does what in a rotation: a user with a clone, an administrator who may read today's CA, and the verifier. */
export interface Actors {
  readonly repository: FleetRepository
  /** kubeconfigs of the clusters' administrators: `plan` reads today's CA from there. */
  readonly administrator: readonly string[]
  /** kubeconfigs of the verifier, with the rights of roles/ and none besides. */
  readonly verifier: readonly string[]
}

export interface RotationOptions extends Actors {
  readonly name: string
  /** @default istio */
  readonly system?: SystemName
  /** Flags of `init` besides `--name` and `--forge local`. */
  readonly init: readonly string[]
  /** Flags of `plan` besides `--rotation` and `--root-key-out`. */
  readonly plan?: readonly string[]
  /** What the user changes in rotation.yaml before committing it. */
  readonly edit?: (text: string) => string
  /** Called whenever `next` waits, with the gates that do not hold: a person who reads them may act. */
  readonly onWaiting?: (step: string, gates: readonly GateResult[]) => Promise<void>
  /** Called before each merge. False: leave it open and stop there. */
  readonly onOpened?: (step: string, number: number) => Promise<boolean>
  /** Called after each merge. */
  readonly onMerged?: (step: string) => Promise<void>
  /** Longest wait for one step, in milliseconds. @default 300000 */
  readonly patience?: number
}

/** One step, from its merge until every gate held. */
export interface StepRecord {
  /** `2-trust-both/1-data`, `close`, `plan`. */
  readonly step: string
  readonly pullRequest: number
  readonly mergedAt: string
  /** From its merge until `next` had opened what follows; null for the closing one. */
  seconds: number | null
  /** How often `next` was run until then. */
  rounds: number
  /** Claims of gates that were seen open meanwhile, with the first reason seen for each. */
  readonly waitedFor: Record<string, string>
  /** Gates that held, and what the evidence counted, when the next step opened. */
  gates: number
  consumers: Partial<Record<ConsumerClass, number>>
}

export interface RotationRecord {
  readonly rotation: string
  readonly strategy: string
  readonly pullRequests: number
  readonly seconds: number
  readonly steps: readonly StepRecord[]
  /** Where it stopped because `onOpened` said so. */
  readonly stoppedAt: string | null
}

interface NextJson {
  readonly kind: 'opened' | 'open' | 'waiting' | 'done'
  readonly pullRequest?: { readonly number: number; readonly title: string }
  readonly branch?: string
  readonly gates?: readonly GateResult[]
  readonly verdict?: string
}

/** `init`, as a user, and a look at what it wrote; committed to main. */
export async function declare(options: RotationOptions): Promise<Said> {
  const { repository, name, edit, system = 'istio' } = options
  await repository.pull()
  const said = await mustSay(['init', system, '--yes', '--name', name, '--forge', 'local', ...options.init], {
    cwd: repository.clone,
  })
  const file = join('rotations', name, 'rotation.yaml')
  const written = await repository.git('show', `:${file}`).catch(() => null)
  if (written !== null) throw new Error(`${file} is committed already`)
  const { readFile } = await import('node:fs/promises')
  const text = await readFile(join(repository.clone, file), 'utf8')
  const edited = edit === undefined ? text : edit(text)
  await repository.commit({ [file]: edited }, `Declare rotation ${name}`)
  return said
}

/** Short gates: how long a person wants to watch is no matter of what is right. */
export function shortGates(text: string): string {
  const edited = text.replace(/^( *)hold: .*$/m, '$1hold: 3s\n$1settle: 2s')
  if (edited === text) throw new Error(`no gates.hold in\n${text}`)
  return edited
}

/** A whole rotation: declared, planned, then pull request by pull request until it is closed, or until `onOpened` stops it. */
export async function rotate(options: RotationOptions): Promise<RotationRecord> {
  const began = Date.now()
  await declare(options)
  const planned = await planAndMerge(options)
  const rest = await advance(options)
  return {
    ...rest,
    steps: [planned, ...rest.steps],
    pullRequests: rest.pullRequests + 1,
    seconds: seconds(Date.now() - began),
  }
}

export async function planAndMerge(options: RotationOptions): Promise<StepRecord> {
  const { repository, administrator, name } = options
  const key = join(repository.outside, `${name}-root.key.age`)
  const inClone: RunOptions = { cwd: repository.clone, kubeconfig: administrator }
  const flags = [...(options.plan ?? []), '--output', 'json']
  const plan = await mustSay(['plan', '--rotation', name, '--root-key-out', key, ...flags], {
    ...inClone,
    env: { SOPS_AGE_KEY: repository.identity },
  })
  const { pullRequest } = plan.json as { readonly pullRequest: { readonly number: number } }
  await merge(options, pullRequest.number)
  return {
    step: 'plan',
    pullRequest: pullRequest.number,
    mergedAt: new Date().toISOString(),
    seconds: null,
    rounds: 1,
    waitedFor: {},
    gates: 0,
    consumers: {},
  }
}

/** From where the rotation stands: `next` until it opens, look, merge, again; until it is closed. */
export async function advance(options: RotationOptions): Promise<RotationRecord> {
  const { repository, verifier, name, patience = 300_000 } = options
  const began = Date.now()
  const inClone: RunOptions = { cwd: repository.clone, kubeconfig: verifier }
  const steps: StepRecord[] = []
  let stoppedAt: string | null = null
  for (;;) {
    const current = steps.at(-1)
    const deadline = Date.now() + patience
    let answer: NextJson
    for (;;) {
      const said = await reanchor(['next', '--rotation', name, '--output', 'json'], inClone)
      answer = nextOf(said)
      if (current !== undefined) current.rounds += 1
      if (answer.kind !== 'waiting') break
      const gates = answer.gates ?? []
      if (current !== undefined) for (const gate of gates) current.waitedFor[gate.claim] ??= gate.because[0] ?? ''
      if (Date.now() > deadline)
        throw new Error(`not within ${patience / 1000} s: ${current?.step}\n${gatesText(gates)}`)
      await options.onWaiting?.(current?.step ?? 'plan', gates)
      await sleep(1000)
    }
    if (answer.kind === 'done') break
    const number = answer.pullRequest?.number
    if (number === undefined) throw new Error(`next answered ${answer.kind} after ${current?.step ?? 'the plan'}`)
    // One that was left open by an earlier round is found again.
    const shown = await mustSay(['pr', 'show', String(number), '--output', 'json'], { cwd: repository.clone })
    const step = stepOf((shown.json as { readonly branch: string }).branch, name)
    if (current !== undefined) {
      current.seconds = seconds(Date.now() - Date.parse(current.mergedAt))
      current.gates = (answer.gates ?? []).length
      // What `verify` sees now is what the pull request was opened on.
      const verified = await reanchor(['verify', '--rotation', name, '--output', 'json'], inClone)
      current.consumers = consumersOf(verified)
    }
    if ((await options.onOpened?.(step, number)) === false) {
      stoppedAt = step
      break
    }
    await merge(options, number)
    steps.push({
      step,
      pullRequest: number,
      mergedAt: new Date().toISOString(),
      seconds: null,
      rounds: 0,
      waitedFor: {},
      gates: 0,
      consumers: {},
    })
    await options.onMerged?.(step)
  }
  return await recordOfSteps(repository, { name, began, steps, stoppedAt })
}

/** What came of a rotation that began at `began`, milliseconds since 1970. */
export async function recordOfSteps(
  repository: Pick<FleetRepository, 'git'>,
  so: {
    readonly name: string
    readonly began: number
    readonly steps: readonly StepRecord[]
    readonly stoppedAt: RotationRecord['stoppedAt']
  },
): Promise<RotationRecord> {
  const { name, began, steps, stoppedAt } = so
  const text = await repository.git('show', `origin/main:rotations/${name}/rotation.yaml`)
  return {
    rotation: name,
    strategy: /^ {2}strategy: (\S+)/m.exec(text)?.[1] ?? 'graceful',
    pullRequests: steps.length,
    seconds: seconds(Date.now() - began),
    steps,
    stoppedAt,
  }
}

export async function merge({ repository }: Pick<Actors, 'repository'>, number: number): Promise<void> {
  await mustSay(['pr', 'merge', String(number)], { cwd: repository.clone })
}

/** What `next` answered; throws where it did not answer as documented. */
export function nextOf(said: Said): NextJson {
  const answer = said.json as NextJson | null
  const expected: Readonly<Record<NextJson['kind'], readonly number[]>> = {
    opened: [0],
    done: [0],
    open: [3],
    waiting: [3, 4],
  }
  if (answer?.kind === undefined || !expected[answer.kind]?.includes(said.exit)) throw new Error(told(said))
  return answer
}

/** `reanchor/mesh/1-trust-both-3-data-plane` → `1-trust-both/3-data-plane` */
export function stepOf(branch: string, rotation: string): string {
  const own = branch.replace(`reanchor/${rotation}/`, '')
  const found = /^(\d+-.*?)-(\d+-[a-z][a-z0-9-]*(?:\.\d+)?)$/.exec(own)
  return found === null ? own : `${found[1]}/${found[2]}`
}

function consumersOf(verified: Said): Partial<Record<ConsumerClass, number>> {
  const { evidence } = verified.json as { readonly evidence: readonly Evidence[] }
  const counts: Partial<Record<ConsumerClass, number>> = {}
  for (const { groups } of evidence) {
    for (const { consumer, count } of groups) counts[consumer] = (counts[consumer] ?? 0) + count
  }
  return counts
}

function gatesText(gates: readonly GateResult[]): string {
  return gates.map(gate => `${gate.site}: ${gate.verdict}: ${gate.claim}: ${gate.because.join('; ')}`).join('\n')
}

export function seconds(milliseconds: number): number {
  return Math.round(milliseconds / 100) / 10
}

/** Adds a line to the report that $REANCHOR_REAL_REPORT names, if it names one: one JSON object for each rotation. */
export async function report(entry: Readonly<Record<string, unknown>>): Promise<void> {
  const file = process.env.REANCHOR_REAL_REPORT
  if (file !== undefined && file !== '') await appendFile(file, `${JSON.stringify(entry)}\n`)
}

/**
 * What a person in a hurry does: the files of a planned step into the site's folder, by hand, on a branch. Nothing is pushed.
 * `step` as the folder under phases/ has it: `4-trust-new/2-restart`. Returns the branch's commit.
 */
export async function copyStep(
  { repository }: Pick<Actors, 'repository'>,
  rotation: string,
  step: string,
  site: { readonly name: string; readonly path: string },
  branch: string,
): Promise<string> {
  const { git } = repository
  await repository.pull()
  await git('checkout', '--quiet', '-B', branch, 'origin/main')
  await git('rm', '--quiet', '-r', site.path)
  const { cp } = await import('node:fs/promises')
  const from = join(repository.clone, 'rotations', rotation, 'phases', step, site.name)
  await cp(from, join(repository.clone, site.path), { recursive: true })
  await git('add', '--all')
  await git('commit', '--quiet', '--message', `Hurry: ${step}`)
  const commit = (await git('rev-parse', 'HEAD')).trim()
  await git('checkout', '--quiet', '-B', 'main', 'origin/main')
  return commit
}

/** Straight to main, with nobody looking. */
export async function pushToMain({ repository }: Pick<Actors, 'repository'>, commit: string): Promise<void> {
  await repository.git('push', '--quiet', 'origin', `${commit}:refs/heads/main`)
  await repository.pull()
}
