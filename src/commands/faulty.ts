import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Cluster } from '../cluster/cluster.ts'
import { exitCodes, ReanchorError } from '../errors.ts'
import type { PullRequest } from '../forge/forge.ts'
import type { MergeMethod } from '../forge/local.ts'
import { openForgeOf } from '../forge/open.ts'
import { pointerParts } from '../gitops/json-patch.ts'
import { stepFolder, stepsOf, treeFolder } from '../plan/steps.ts'
import { type SeededRandom, seededRandom } from '../rehearsal/clock.ts'
import { type FaultActor, faultActor, restart } from '../rehearsal/fault-actor.ts'
import {
  atShare,
  type Crash,
  type Deed,
  deedKinds,
  drawFaults,
  type FaultPlan,
  type FaultScope,
  troubleKinds,
} from '../rehearsal/fault-plan.ts'
import type { HandshakeFailure } from '../rehearsal/handshakes.ts'
import type { SiteControls } from '../rehearsal/rehearsal.ts'
import { ownerOf } from '../rehearsal/site.ts'
import { openRepository } from '../repository/repository.ts'
import type { WriteHook } from '../repository/write-hook.ts'
import type { GateResult, Plan, Site } from '../rotation.ts'
import { check } from './check.ts'
import type { Context } from './context.ts'
import { findDeclaration } from './declared.ts'
import {
  demoAuthor,
  type FleetRehearsal,
  makeWorld,
  type Place,
  pauseFor,
  placeOf,
  rootKeyFile,
  type World,
} from './demo.ts'
import { next } from './next.ts'
import { plan } from './plan.ts'
import { positionsAt } from './rotation.ts'

export interface TraceLine {
  /** Virtual time since the run began: `01:23:45`. */
  readonly at: string
  readonly what: string
}

/** The first handshake that failed and that no plan had foretold, with what led to it. */
export interface FirstFailure {
  readonly at: string
  /** The step that was merged last, as `2-trust-both/data`. */
  readonly step: string
  readonly handshake: HandshakeFailure
  /** What was out of order then. */
  readonly faults: readonly string[]
  /** What led to it, from the beginning. */
  readonly trace: readonly TraceLine[]
}

export interface FaultyOutcome {
  /** The rotation was closed. */
  readonly finished: boolean
  /** Where it was not: what it waited for, or what stopped it. */
  readonly stoppedBy: string | null
  /** Steps as they were merged. */
  readonly steps: readonly string[]
  /** Each thing that a person did because a message said so. */
  readonly waitedFor: readonly string[]
  readonly handshakes: { readonly attempted: number; readonly failed: number }
  readonly firstFailure: FirstFailure | null
  /** All that happened, in its order. */
  readonly trace: readonly TraceLine[]
}

const minute = 60_000
const hour = 60 * minute
/** Virtual milliseconds that a run may wait in one place: the longest trouble, and half a day more. */
const patience = 15 * hour
/** How often the same refusal is met before a run counts as stopped by it. */
const enough = 6

/** A whole rotation while things go wrong, with people who do what reanchor's messages say. */
async function rotateUnderFaults(world: World, faults: FaultPlan): Promise<FaultyOutcome> {
  const { declaration } = await findDeclaration(world.context, { rotation: world.rotation, base: null })
  return await new FaultyRun(world, faults, declaration.gates.hold).run()
}

const hintedDeletion = /kubectl --namespace (\S+) delete pod ([\w.-]+)/g
const hintedRestart = /kubectl --namespace (\S+) rollout restart deployment ([\w.-]+)/g
const hintedPatch = /kubectl --namespace (\S+) patch deployment (\S+) --type=json --patch '(\[[^']*\])'/g

class Killed extends Error {}

/** Another run has ended; what it says is told to whoever asked for it. */
class Stopped extends Error {}

class FaultyRun {
  readonly #world: World
  readonly #faults: FaultPlan
  readonly #random: SeededRandom
  readonly #actor: FaultActor
  readonly #context: Context
  readonly #began: number
  readonly #trace: TraceLine[] = []
  readonly #steps: string[] = []
  readonly #waitedFor: string[] = []
  readonly #crashes: Crash[]
  readonly #deeds: Deed[]
  #first: FirstFailure | null = null
  /** Pull requests that were merged; the plan's is the first. */
  #merged = 0
  /** Pull requests that the whole rotation has, as far as is known. */
  #expected = 1
  #said = ''

  constructor(world: World, faults: FaultPlan, hold: number) {
    this.#world = world
    this.#faults = faults
    this.#random = seededRandom(`people/${faults.seed}`)
    const bundles = world.system.demo.bundles?.(world.variant) ?? []
    this.#actor = faultActor(world.rehearsal, bundles, hold, line => this.#tell(line))
    this.#began = world.rehearsal.clock.millis()
    this.#crashes = [...faults.crashes]
    this.#deeds = [...faults.deeds]
    const { context } = world
    this.#context = {
      ...context,
      openCluster: site => this.#openCluster(site),
      now: () => new Date(this.#millis() + this.#actor.runnerSkew),
    }
  }

  async run(): Promise<FaultyOutcome> {
    let stoppedBy: string | null = null
    try {
      await this.#rotate()
    } catch (error) {
      if (!(error instanceof Stopped)) throw error
      stoppedBy = error.message
      this.#tell(`it stops here: ${stoppedBy}`)
    }
    const { attempted, failed } = this.#world.rehearsal.handshakes.counts
    return {
      finished: stoppedBy === null,
      stoppedBy,
      steps: this.#steps,
      waitedFor: [...new Set(this.#waitedFor)],
      handshakes: { attempted, failed },
      firstFailure: this.#first,
      trace: this.#trace,
    }
  }

  async #rotate(): Promise<void> {
    const { rehearsal } = this.#world
    this.#watchHandshakes(() => false)
    this.#beginTroubles(0)
    // Between the declaration and the plan some time passes, in which things may go wrong already.
    await rehearsal.run(5 * minute)
    const made = await this.#plan()
    const { demo } = this.#world.system
    this.#watchHandshakes(failure => this.#world.acceptOutage && (demo.foretells?.(made, failure) ?? true))
    let until = this.#millis() + patience
    for (;;) {
      const request = await this.#nextRequest()
      if (request === null) break
      const merged = this.#merged
      if (await this.#people(request, made)) await this.#merge(request)
      if (this.#merged > merged) until = this.#millis() + patience
      else if (this.#millis() > until) throw new Stopped(`#${request.number} is never merged: ${this.#said}`)
    }
    // Whoever is late, or was struck at the end, is met once more.
    await rehearsal.run(2 * hour)
    await rehearsal.handshakes.round()
  }

  // ------------------------------------------------------------------------------------------------ commands

  async #plan(): Promise<Plan> {
    const { rotation, folder, acceptOutage } = this.#world
    const options = { rotation, base: null, rootKeyOut: rootKeyFile(folder, rotation), chain: null, acceptOutage }
    const until = this.#millis() + patience
    for (;;) {
      const outcome = await this.#attempt('plan', context => plan(context, options))
      if (outcome !== null && outcome.pullRequest !== null) {
        this.#expected = stepsOf(outcome.plan).length * outcome.plan.batches.length + 2
        await this.#mergeNow(outcome.pullRequest, [])
        return outcome.plan
      }
      if (this.#millis() > until) throw new Stopped('plan never opened a pull request')
      await this.#world.rehearsal.run(5 * minute)
    }
  }

  /** `next` until its pull request is open; null where the rotation is done. */
  async #nextRequest(): Promise<PullRequest | null> {
    const { rotation, rehearsal, system } = this.#world
    // A runner: what takes trust away is green only while one observes.
    const options = { rotation, base: null, variant: 'step', runner: true } as const
    let until = this.#millis() + Math.max(patience, system.demo.patience ?? 0)
    let since = this.#millis()
    for (;;) {
      const outcome = await this.#attempt('next', async context => (await next(context, options)).outcome)
      if (outcome?.kind === 'done') return null
      if (outcome !== null && outcome.kind !== 'waiting') {
        if (outcome.pullRequest === null) throw new Error('next opened no pull request')
        return outcome.pullRequest
      }
      if (this.#millis() > until) throw new Stopped(`next waits: ${this.#said}`)
      if (outcome === null) {
        await rehearsal.run(2 * minute)
        continue
      }
      this.#waits(outcome.gates)
      // Most stragglers catch up by themselves, and while something is still out of order nobody knows who will.
      if (this.#millis() - since > hour && this.#actor.active.length === 0) {
        since = this.#millis()
        if (this.#deleteHinted(outcome.gates)) {
          await rehearsal.run(5 * minute)
          continue
        }
        if (outcome.gates.some(gate => gate.hint?.includes('next --nudge') === true)) {
          if (await this.#variant('nudge')) until = this.#millis() + patience
          continue
        }
        if (this.#restartHinted(outcome.gates)) {
          await rehearsal.run(5 * minute)
          continue
        }
        this.#patchHinted(outcome.gates)
        this.#restartNamed(outcome.gates)
      }
      await system.demo.meanwhile?.({ context: this.#context, rotation, rehearsal, gates: outcome.gates })
      await rehearsal.run(Math.min(pauseFor(outcome.gates, this.#world), hour))
    }
  }

  /** What hints of open gates say to do, each once: the site, and what the pattern has picked out of the words. */
  #hinted(gates: readonly GateResult[], pattern: RegExp): readonly { site: SiteControls; picked: readonly string[] }[] {
    const found = new Map<string, { site: SiteControls; picked: readonly string[] }>()
    for (const { site: name, verdict, hint } of gates) {
      const site = this.#world.rehearsal.sites.get(name)
      if (verdict === 'holds' || site === undefined) continue
      for (const [words, ...picked] of hint?.matchAll(pattern) ?? []) found.set(`${name} ${words}`, { site, picked })
    }
    return [...found.values()]
  }

  /** Pods that a hint says to delete: whether there are any. */
  #deleteHinted(gates: readonly GateResult[]): boolean {
    let deleted = false
    for (const { site, picked } of this.#hinted(gates, hintedDeletion)) {
      const [namespace = '', name = ''] = picked
      const pod = site.store.get('', 'Pod', namespace, name)
      if (pod === null || pod.metadata.deletionTimestamp !== undefined) continue
      const owner = ownerOf(site.store, pod)
      this.#tell(`a pod of ${owner} is deleted, as the hint says`)
      this.#waitedFor.push(`a pod of ${owner}: deleted, as the hint says`)
      site.workloads.evict(pod)
      deleted = true
    }
    return deleted
  }

  /** Deployments that a hint says to restart: whether there are any. */
  #restartHinted(gates: readonly GateResult[]): boolean {
    const hinted = this.#hinted(gates, hintedRestart)
    for (const { site, picked } of hinted) {
      const [namespace = '', name = ''] = picked
      const live = site.store.get('apps', 'Deployment', namespace, name)
      if (live === null) continue
      this.#tell(`${site.name}: ${namespace}/${name} is restarted, as the hint says`)
      this.#waitedFor.push(`${namespace}/${name}: restarted, as the hint says`)
      site.store.update(live, 'kubectl-rollout', next => restart(next, this.#elapsed()))
    }
    return hinted.length > 0
  }

  /** Annotations that a hint says to take off a pod template. */
  #patchHinted(gates: readonly GateResult[]): void {
    for (const { site, picked } of this.#hinted(gates, hintedPatch)) {
      const [namespace = '', name = '', patch = ''] = picked
      const live = site.store.get('apps', 'Deployment', namespace, name)
      if (live === null) continue
      const [{ path = '' } = {}] = JSON.parse(patch) as { path?: string }[]
      const key = pointerParts(path).at(-1) ?? ''
      this.#tell(`${key} is taken off the pods of ${namespace}/${name}, as the hint says`)
      this.#waitedFor.push(`${key}: taken off ${namespace}/${name}, as the hint says`)
      site.store.update(live, 'kubectl-patch', next => {
        const { template } = next.spec as { template: { metadata?: { annotations?: Record<string, string> } } }
        delete template.metadata?.annotations?.[key]
      })
    }
  }

  /** Pods that a gate names as staying behind: their owner restarts them, which is all that can be done about a pod that reads trust at its start. */
  #restartNamed(gates: readonly GateResult[]): void {
    for (const [name, site] of this.#world.rehearsal.sites) {
      const said = gates.filter(gate => gate.site === name && gate.verdict !== 'holds').flatMap(gate => gate.because)
      for (const pod of site.store.list('', 'Pod')) {
        const named = new RegExp(`\\b${pod.metadata.namespace}/${pod.metadata.name}\\b`)
        if (!said.some(line => named.test(line))) continue
        const owner = ownerOf(site.store, pod)
        this.#tell(`a pod of ${owner} is named as staying behind, and restarted`)
        this.#waitedFor.push(`a pod of ${owner} that stays behind: restarted`)
        site.workloads.evict(pod)
      }
    }
  }

  /** Runs a command, and again where it was killed; null where it says that it cannot go on now. */
  async #attempt<T>(command: string, run: (context: Context) => Promise<T>): Promise<T | null> {
    const crash = this.#crashes.find(({ place }) => Math.floor(place * this.#expected) <= this.#merged)
    try {
      if (crash === undefined) return await run(this.#context)
      return await this.#killing(crash, run)
    } catch (error) {
      if (error instanceof Killed) {
        this.#crashes.splice(this.#crashes.indexOf(crash as Crash), 1)
        this.#tell(`${command} is killed ${error.message}`)
        return null
      }
      if (!(error instanceof ReanchorError)) throw error
      await this.#refused(command, error)
      return null
    }
  }

  async #killing<T>(crash: Crash, run: (context: Context) => Promise<T>): Promise<T> {
    let writes = 0
    const onWrite: WriteHook = (_what, when) => {
      if (when === 'before') writes += 1
      if (writes === crash.write && when === crash.when) throw new Killed(`${when} write ${crash.write}`)
    }
    const repository = await openRepository(this.#world.repository.gitDir, { onWrite })
    try {
      const forge = await openForgeOf(repository, { now: this.#context.now })
      return await run({ ...this.#context, repository, openForge: async () => forge })
    } finally {
      repository.close()
    }
  }

  readonly #refusals = new Map<string, number>()

  /** What a person does about a message that is no wait. */
  async #refused(command: string, error: ReanchorError): Promise<void> {
    const said = `${command}: ${error.what}${error.found === undefined ? '' : `: ${error.found}`}`
    if (said !== this.#said) this.#tell(said)
    this.#said = said
    const edited = /^pull request #(\d+) was edited by hand$/.exec(error.what)
    if (edited !== null) {
      await this.#withdraw(Number(edited[1]))
      this.#waitedFor.push('a pull request that was edited by hand: closed, its branch deleted')
      return
    }
    if (error.exit === exitCodes.waiting || error.exit === exitCodes.violated) return
    // Whoever reads it sets right what is out of order, as a kubeconfig, and that lasts as long as the trouble.
    if (this.#actor.active.length > 0) return
    const times = (this.#refusals.get(said) ?? 0) + 1
    this.#refusals.set(said, times)
    if (times >= enough) throw new Stopped(said)
  }

  /** `next --nudge` or `undo`, merged; false where it was refused or waits. */
  async #variant(variant: 'nudge' | 'undo'): Promise<boolean> {
    const { rotation } = this.#world
    const outcome = await this.#attempt(
      variant,
      async context => (await next(context, { rotation, base: null, variant })).outcome,
    )
    if (outcome === null || outcome.kind === 'waiting' || outcome.kind === 'done') {
      this.#tell(`${variant}: ${outcome === null ? 'not now' : outcome.kind}`)
      return false
    }
    if (outcome.pullRequest === null) return false
    this.#waitedFor.push(variant === 'nudge' ? 'stragglers: a nudge, as the gate says' : 'an undo that somebody wanted')
    return await this.#mergeNow(outcome.pullRequest, [])
  }

  // ------------------------------------------------------------------------------------------------ people

  /** What people do while a pull request is open; false where it is not the one to merge any more. */
  async #people(request: PullRequest, made: Plan): Promise<boolean> {
    const due = this.#deeds.find(({ place }) => Math.floor(place * this.#expected) <= this.#merged)
    if (due === undefined) return true
    this.#deeds.splice(this.#deeds.indexOf(due), 1)
    switch (due.kind) {
      case 'commits-elsewhere':
        await this.#commit(
          'main',
          new Map([['README.md', `# Fleet\n\nEdited at ${this.#elapsed()}.\n`]]),
          'Edit README',
        )
        this.#tell('somebody commits to README.md on the base branch')
        return true
      case 'closes-request':
        await this.#world.forge.close(request.number)
        this.#tell(`somebody closes #${request.number}`)
        return false
      case 'merges-late': {
        const wait = Math.round((1 + due.share * 5) * hour)
        this.#tell(`#${request.number} stays open for ${Math.round(wait / minute)} min`)
        await this.#world.rehearsal.run(wait)
        return false
      }
      case 'edits-request':
        return await this.#edit(request, due, made)
      case 'undoes':
        if (this.#merged < 2) return true
        await this.#world.forge.close(request.number)
        this.#tell(`somebody closes #${request.number} and asks for an undo`)
        await this.#variant('undo')
        return false
      case 'skips-ahead':
      case 'reverts':
        return !(await this.#jump(due, made))
    }
  }

  /** Takes one certificate out of the folder on the request's branch. */
  async #edit(request: PullRequest, deed: Deed, made: Plan): Promise<boolean> {
    const { repository } = this.#world
    const head = await repository.commitAt(request.branch)
    const snapshot = repository.snapshot(head)
    for (const { path } of made.sites) {
      const folder = await snapshot.readFolder(path)
      const bundles = [...folder].filter(([file, text]) => file.endsWith('.pem') && certificates(text).length > 1)
      const [file, text] = atShare(bundles, deed.share) ?? []
      if (file === undefined || text === undefined) continue
      const kept = certificates(text).slice(deed.share < 0.5 ? 1 : 0, deed.share < 0.5 ? undefined : -1)
      await this.#commit(request.branch, new Map([[`${path}/${file}`, kept.join('')]]), 'Drop a root already')
      this.#tell(`somebody edits #${request.number}: a certificate goes from ${path}/${file}`)
      return false
    }
    return true
  }

  /** A pull request with another step's files, merged where `check` calls it safe: whether it was. */
  async #jump(deed: Deed, made: Plan): Promise<boolean> {
    const { repository, rotation } = this.#world
    const base = await repository.head('main')
    const positions = await positionsAt(repository.snapshot(base), made)
    const steps = stepsOf(made)
    const at = Math.max(
      ...made.sites.map(({ name }) => {
        const position = positions[name]
        if (position?.kind !== 'at') return -1
        return steps.findIndex(each => each.phase.number === position.phase && each.step.number === position.step)
      }),
    )
    const others = deed.kind === 'reverts' ? steps.slice(0, Math.max(at, 0)) : steps.slice(at + 2)
    const to = atShare(others, deed.share)
    if (at < 0 || to === undefined) return false
    const snapshot = repository.snapshot(base)
    const changes = new Map<string, string | null>()
    for (const { name, path } of made.sites) {
      for (const file of (await snapshot.list(path)).keys()) changes.set(file, null)
      for (const [file, text] of await snapshot.readFolder(treeFolder(rotation, to, 'step', name)))
        changes.set(`${path}/${file}`, text)
    }
    const branch = `somebody-${this.#merged}`
    const title = `${deed.kind === 'reverts' ? 'Back to' : 'Straight to'} ${stepFolder(to)}`
    const head = await this.#commit(branch, changes, title, base)
    const request = await this.#world.forge.open({ title, body: '', branch, base: 'main' })
    const verdict = await this.#attempt(
      'check',
      async context => (await check(context, { range: `${base}..${head}`, rotation, base: null })).verdict,
    )
    this.#tell(`somebody opens “${title}”; check: ${verdict === null ? 'no answer' : verdict.sentence}`)
    if (verdict?.safe === true && (await this.#mergeNow(request, []))) return true
    await this.#world.forge.close(request.number)
    return false
  }

  // ------------------------------------------------------------------------------------------------ merging

  async #merge(request: PullRequest): Promise<void> {
    await this.#mergeNow(request, ['reanchor/gate'])
  }

  /** Merges as the forge permits it; false where it does not. */
  async #mergeNow(request: PullRequest, required: readonly string[]): Promise<boolean> {
    const { forge, rehearsal } = this.#world
    const method = this.#random.pick<MergeMethod>(['merge', 'merge', 'squash', 'rebase']) ?? 'merge'
    const delay = this.#random.between(0, 5 * minute)
    const place = this.#merged === 0 ? null : await placeOf(this.#world, request)
    const step = place === null ? 'plan' : labelOf(place, request)
    await rehearsal.run(delay)
    try {
      await forge.merge(request.number, { method, by: demoAuthor, at: this.#context.now(), required })
    } catch (error) {
      if (!(error instanceof ReanchorError)) throw error
      const said = `#${request.number} cannot be merged: ${error.what}: ${error.found}`
      if (said !== this.#said) this.#tell(said)
      this.#said = said
      // The message says to close what conflicts, and to have it opened anew.
      if (error.what.includes('conflicts with')) await this.#withdraw(request.number)
      return false
    }
    this.#tell(`#${request.number} ${step} is merged (${method})`)
    this.#steps.push(step)
    rehearsal.setPhase(step)
    this.#said = ''
    this.#merged += 1
    this.#beginTroubles(this.#merged)
    return true
  }

  /** Closed, and its branch deleted, as messages say. */
  async #withdraw(number: number): Promise<void> {
    const { forge, repository } = this.#world
    const request = await forge.get(number)
    await forge.close(number)
    const from = await repository.branch(request.branch)
    if (from !== null) await repository.publish([{ ref: `refs/heads/${request.branch}`, from, to: null }])
    this.#tell(`#${number} is closed and its branch deleted`)
  }

  async #commit(
    branch: string,
    changes: ReadonlyMap<string, string | null>,
    message: string,
    parent: string | null = null,
  ): Promise<string> {
    const { repository } = this.#world
    const from = await repository.branch(branch)
    const at = this.#context.now()
    const on = parent ?? from
    const commit = await repository.commit({ parent: on, changes, message, trailers: {}, author: demoAuthor, at })
    await repository.publish([{ ref: `refs/heads/${branch}`, from, to: commit }])
    return commit
  }

  // ------------------------------------------------------------------------------------------------ troubles

  /** Those whose place is this many merges; before the plan it is not known yet how many there will be. */
  #beginTroubles(merged: number): void {
    if (merged === 0) {
      this.#actor.begin(this.#faults.cluster.filter(({ place }) => place < atOnce))
      return
    }
    this.#actor.begin(this.#faults.cluster.filter(({ place }) => place >= atOnce && this.#placeOf(place) === merged))
  }

  #placeOf(place: number): number {
    return 1 + Math.floor(((place - atOnce) / (1 - atOnce)) * (this.#expected - 1))
  }

  async #openCluster(site: Site): Promise<Cluster> {
    const name = this.#actor.clusterOf(site.name)
    return await this.#world.context.openCluster(name === site.name ? site : { ...site, name })
  }

  #watchHandshakes(foretold: (failure: HandshakeFailure) => boolean): void {
    this.#world.rehearsal.handshakes.foretells = failure => {
      if (foretold(failure)) return true
      this.#first ??= {
        at: this.#elapsed(),
        step: this.#steps.at(-1) ?? 'start',
        handshake: failure,
        faults: this.#actor.active,
        trace: [...this.#trace],
      }
      return false
    }
  }

  // ------------------------------------------------------------------------------------------------ the trace

  /** What holds a step up, told once for each set of gates. */
  #waits(gates: readonly GateResult[]): void {
    const open = gates.filter(gate => gate.verdict !== 'holds')
    const said = `next waits: ${[...new Set(open.map(gate => `${gate.site} ${gate.id} ${gate.verdict}`))].sort().join(', ')}`
    if (said === this.#said) return
    this.#said = said
    this.#tell(said)
  }

  #tell(what: string): void {
    this.#trace.push({ at: this.#elapsed(), what })
    this.#world.say(`    ${this.#elapsed()} ${what}`)
  }

  #millis(): number {
    return this.#world.rehearsal.clock.millis()
  }

  #elapsed(): string {
    const seconds = Math.floor((this.#millis() - this.#began) / 1000)
    const two = (value: number): string => String(value).padStart(2, '0')
    return `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`
  }
}

/** Troubles of this share of a rotation begin before its plan is made. */
const atOnce = 0.08

function labelOf(place: Place, request: PullRequest): string {
  const step = `${place.phase}-${place.name}/${place.stepName}`
  const variant = ['undo', 'nudge'].find(each => request.branch.includes(each))
  return variant === undefined ? step : `${step} ${variant}`
}

function certificates(text: string): readonly string[] {
  return text.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----\n?/g) ?? []
}

export interface FaultyRehearsal extends FaultyOutcome {
  readonly seed: number
  readonly faults: FaultPlan
  /** Virtual milliseconds that it took. */
  readonly virtualTime: number
}

/** One run in clusters and a repository of its own, which go away with it. */
export async function rehearseUnderFaults(
  options: Omit<FleetRehearsal, 'dir' | 'fault' | 'seed'>,
  seed: number,
): Promise<FaultyRehearsal> {
  const folder = mkdtempSync(join(tmpdir(), 'reanchor-rehearsal-'))
  try {
    const world = await makeWorld({ ...options, dir: null, fault: null, seed: String(seed), repeats: false }, folder)
    try {
      const faults = drawFaults(seed, scopeOf(world))
      const began = world.rehearsal.clock.millis()
      const outcome = await rotateUnderFaults(world, faults)
      return { seed, faults, virtualTime: world.rehearsal.clock.millis() - began, ...outcome }
    } finally {
      await world.rehearsal.close()
      world.repository.close()
    }
  } finally {
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  }
}

/** What can go wrong in these clusters. */
function scopeOf({ rehearsal, system, variant }: World): FaultScope {
  const sites = rehearsal.sites.size
  const own = system.demo.troubles ?? []
  const troubles = troubleKinds.filter(kind => {
    if (kind === 'wrong-cluster') return sites > 1
    if (kind === 'trust-edit') return (system.demo.bundles?.(variant).length ?? 0) > 0
    return kind === 'split-replicas' || kind === 'split-entries' ? own.includes(kind) : true
  })
  return { sites, troubles, deeds: deedKinds }
}
