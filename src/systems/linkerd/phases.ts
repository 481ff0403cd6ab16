import { createHash } from 'node:crypto'
import { exitCodes, ReanchorError } from '../../errors.ts'
import type { Fingerprint, Strategy, TrustState } from '../../rotation.ts'
import type { MissingStrategy, PhaseDraft, StepDraft } from '../system.ts'
import type { LinkerdFlow } from './version.ts'

/**
 * The phases of Linkerd's rotation, as states of trust: what the site's folder declares after each step.
 *
 * Who trusts what, who presents what, and which ways lead out (old, new: the roots):
 *
 * | phase      | step          | control plane trusts | data plane trusts | holders present     | out                            |
 * |------------|---------------|----------------------|-------------------|---------------------|--------------------------------|
 * | adopt      | adopt         | old                  | old               | leaves of old       | forward; abandon               |
 * | trust-both | data          | old                  | old               | leaves of old       | forward; undo                  |
 * |            | control-plane | old, then both       | old               | leaves of old       | forward; undo                  |
 * |            | data-plane    | both                 | old, then both    | leaves of old       | forward; undo                  |
 * | issue-new  | data          | both                 | both              | of old, then of new | forward; undo; nudge           |
 * | trust-new  | data          | both                 | both              | leaves of new       | forward; undo                  |
 * |            | control-plane | both, then new       | both              | leaves of new       | forward; undo                  |
 * |            | data-plane    | new                  | both, then new    | leaves of new       | close; undo                    |
 *
 * Data goes before every restart, because the injector reads its mounted bundle at each admission and the kubelet brings a change there
 * only after a while: a pod that is made too early keeps the old anchors for good (linkerd2 controller/proxy-injector/webhook.go).
 * Where a chart restarts the control plane in the apply that brings the anchors, `data` and `control-plane` are one step, `data`: Helm and Argo CD
 * apply ConfigMaps before Deployments, so a container that starts finds the new anchors, and pods of before keep the old ones, as in two steps.
 * Workloads still come after its gate, which has seen every injector pod started with the new bundle.
 *
 * Between `issue-new` and `trust-new` stands the gate that probes every leaf. Both runbooks lack it: they drop the old root while leaves of
 * the old issuer live on for up to a day, which was an outage (linkerd2#4287, F1).
 */

/** Material of one site, by fingerprint. */
export interface LinkerdMaterial {
  readonly current: {
    readonly issuer: Fingerprint
    readonly chain: readonly Fingerprint[]
    readonly roots: readonly Fingerprint[]
    /** Those of `roots` that the CA in use has nothing to do with, such as another cluster's: they stay trusted. @default [] */
    readonly others?: readonly Fingerprint[]
    readonly settings: Readonly<Record<string, string>>
    /** Tokens of an earlier rotation's restarts, which stay. */
    readonly restarts: Readonly<Record<string, string>>
  }
  readonly next: { readonly root: Fingerprint; readonly issuer: Fingerprint; readonly chain: readonly Fingerprint[] }
}

export interface LinkerdPhaseOptions {
  readonly flow: LinkerdFlow
  /** Number of batches of reload targets; 0: reanchor restarts no workload itself. */
  readonly workloadBatches: number
  /** `restart`: proxies take up leaves of the new issuer by a restart; `renewal`: by themselves, within a leaf's life. */
  readonly leaves: 'restart' | 'renewal'
  /** The chart restarts the control plane in the very apply that brings new anchors: then one step carries both. @default false */
  readonly chartRestarts?: boolean
  /** False: nothing puts a restart token on the control plane's pods, as charts up to 2.8 have no value for it. @default true */
  readonly controlPlaneToken?: boolean
}

/** Key of `restarts` for the control plane: identity, destination, proxy-injector, with their proxies. */
export const controlPlaneKey = 'control-plane'

/** Key of `restarts`, and name of the step, for a batch of workloads, 1-based. */
export function dataPlaneKey(batch: number): string {
  return batch === 1 ? 'data-plane' : `data-plane-${batch}`
}

/**
 * Settings that name, in order, the anchors that stand as a literal in manifests: those of the control plane up to 2.10, and those of
 * workloads that were injected by hand. They follow the ConfigMap one step behind, with the restart that they cause.
 */
export function anchorsSetting(key: string): string {
  return `anchors/${key}`
}

/** Anchors that a step's manifests have as a literal for a class of pods; the adopted ones where it never changed them. */
export function literalAnchors(state: Pick<TrustState, 'settings'>, key: string): readonly Fingerprint[] {
  const text = state.settings[anchorsSetting(key)]
  return text === undefined || text === '' ? [] : text.split(' ')
}

/**
 * Both roots in the order of the flow's runbook: `step certificate bundle ca-new.crt original-trust.crt` puts the new one first, the hand edit
 * of config-map appends it. What leaves at the end is told by fingerprint, never by place: config-map's “remove the first” would
 * take the new root out of an upgrade's bundle. An order says nothing to proxies.
 */
export function bothRoots(flow: LinkerdFlow, old: readonly Fingerprint[], next: Fingerprint): readonly Fingerprint[] {
  const others = old.filter(root => root !== next)
  return [...new Set(flow === 'config-map' ? [...others, next] : [next, ...others])]
}

/** The phases of one site, from `adopt` on. The closing phase changes no folder and is the plan's to add. */
export function linkerdPhases(
  strategy: Strategy,
  material: LinkerdMaterial,
  options: LinkerdPhaseOptions,
): readonly PhaseDraft[] {
  refuseStrategy(strategy)
  const before = adoptedState(material, options)
  const adopt: PhaseDraft = {
    name: 'adopt',
    title: 'adopt',
    steps: [
      {
        name: 'adopt',
        what: "Wires the repository and takes over today's anchors and issuer unchanged. Nothing that verifies or presents a certificate changes.",
        state: before,
        undo: null,
        nudge: null,
      },
    ],
  }
  if (strategy === 'issuer') return [adopt, ...chained(before, [issueNew(material, options, true)])]
  if (strategy === 'emergency') return [adopt, ...chained(before, [replaceAtOnce(material, options)])]
  return [
    adopt,
    ...chained(before, [trustBoth(material, options), issueNew(material, options, false), trustNew(material, options)]),
  ]
}

type PhaseMaker = (before: TrustState) => PhaseDraft

function chained(start: TrustState, makers: readonly PhaseMaker[]): readonly PhaseDraft[] {
  const phases: PhaseDraft[] = []
  let state = start
  for (const make of makers) {
    const phase = make(state)
    phases.push(phase)
    state = phase.steps.at(-1)?.state ?? state
  }
  return phases
}

function adoptedState(material: LinkerdMaterial, options: LinkerdPhaseOptions): TrustState {
  const { issuer, chain, roots, settings, restarts } = material.current
  const literal = roots.join(' ')
  const literals = Object.fromEntries(placesOf(options).map(key => [anchorsSetting(key), literal]))
  return {
    bundle: roots,
    issuer,
    chain,
    source: 'plugged',
    settings: { ...settings, ...literals },
    restarts: { ...restarts },
  }
}

function placesOf(options: LinkerdPhaseOptions): readonly string[] {
  return [controlPlaneKey, ...batchKeys(options)]
}

function batchKeys(options: LinkerdPhaseOptions): readonly string[] {
  return Array.from({ length: options.workloadBatches }, (_, index) => dataPlaneKey(index + 1))
}

function trustBoth(material: LinkerdMaterial, options: LinkerdPhaseOptions): PhaseMaker {
  return before => {
    const { current, next } = material
    const both = { ...before, bundle: bothRoots(options.flow, current.roots, next.root) }
    return trustPhase(before, both, options, {
      name: 'trust-both',
      title: 'trust both roots',
      data: 'Puts both roots where the injector and the control plane read their anchors. Nothing restarts, and nothing is issued by the new CA yet.',
      chart:
        'Puts both roots into the chart’s values. The chart restarts the control plane in the same apply, its ConfigMap first; workloads keep what they have, and nothing is issued by the new CA yet.',
      controlPlane:
        'Restarts the control plane, which reads its anchors only at its start. From then on identity accepts an issuer of either root.',
      dataPlane: 'Restarts the workloads, whose proxies then get both roots. Leaves are still issued by the old CA.',
    })
  }
}

function issueNew(material: LinkerdMaterial, options: LinkerdPhaseOptions, sameRoot: boolean): PhaseMaker {
  return before => {
    const { current, next } = material
    const issuing = { ...before, issuer: next.issuer, chain: servedChain(next) }
    const back = (state: TrustState): TrustState => ({ ...state, issuer: current.issuer, chain: current.chain })
    const token = restartToken(issuing)
    const restartable = placesOf(options).filter(key => key !== controlPlaneKey || options.controlPlaneToken !== false)
    // Identity misses a change of its Secret now and then (linkerd2#15109): a restart reads it. Proxies then renew within a day, or restart too.
    const nudge = (state: TrustState): TrustState => ({
      ...state,
      restarts: { ...state.restarts, ...Object.fromEntries(restartable.map(key => [key, token])) },
    })
    const steps: StepDraft[] = [
      {
        name: 'data',
        what: sameRoot
          ? 'Puts the new issuing CA into `linkerd-identity-issuer`. The root stays, so no one trusts anything new. Identity reloads by itself, and proxies renew within a leaf’s life.'
          : 'Puts the new issuing CA into `linkerd-identity-issuer`. Identity reloads by itself, and proxies renew within a leaf’s life. Every leaf is probed before the old root goes.',
        state: issuing,
        undo: back(issuing),
        nudge: nudge(issuing),
      },
    ]
    if (options.leaves === 'restart') {
      let state = issuing
      for (const key of restartable) {
        state = { ...state, restarts: { ...state.restarts, [key]: token } }
        steps.push({
          name: key === controlPlaneKey ? `leaves-${key}` : key.replace('data-plane', 'leaves'),
          what:
            key === controlPlaneKey
              ? 'Restarts the control plane: identity reads the new issuer, and its proxies ask for a leaf of the new CA at once.'
              : 'Restarts the workloads, whose proxies then ask for a leaf of the new CA at once.',
          state,
          undo: back(state),
          nudge: nudge(state),
        })
      }
    }
    const title = sameRoot ? 'issue from a new CA under the same root' : 'issue from the new CA'
    return { name: 'issue-new', title, steps }
  }
}

function trustNew(material: LinkerdMaterial, options: LinkerdPhaseOptions): PhaseMaker {
  return before => {
    const others = (material.current.others ?? []).filter(root => root !== material.next.root)
    const only = { ...before, bundle: [material.next.root, ...others] }
    return trustPhase(before, only, options, {
      name: 'trust-new',
      title: 'trust the new root only',
      data: 'Takes the old root out of where the injector and the control plane read their anchors. Nothing restarts, so every proxy still trusts both.',
      chart:
        'Takes the old root out of the chart’s values. The chart restarts the control plane in the same apply, its ConfigMap first, and that then trusts the new root only; every workload still trusts both.',
      controlPlane: 'Restarts the control plane, which then trusts the new root only.',
      dataPlane: 'Restarts the workloads, whose proxies then trust the new root only.',
    })
  }
}

/** The old key is in foreign hands: trust in it ends with this one phase, and what still presents it is cut off. */
function replaceAtOnce(material: LinkerdMaterial, options: LinkerdPhaseOptions): PhaseMaker {
  return before => {
    const { current, next } = material
    const others = (current.others ?? []).filter(root => root !== next.root)
    const replaced: TrustState = {
      ...before,
      bundle: [next.root, ...others],
      issuer: next.issuer,
      chain: servedChain(next),
    }
    const phase = trustPhase(before, replaced, options, {
      name: 'replace',
      title: 'replace the compromised CA',
      data: 'Replaces anchors and issuer at once. A running identity refuses an issuer that its anchors do not verify, so nothing breaks yet.',
      chart:
        'Replaces anchors and issuer in the chart’s values at once. The chart restarts the control plane in the same apply: from now on proxies that have not restarted get no leaf.',
      controlPlane:
        'Restarts the control plane with the new CA. From now on proxies that have not restarted get no leaf.',
      dataPlane:
        'Restarts the workloads. Those that have and those that have not refuse one another until the last one is done.',
    })
    return { ...phase, steps: phase.steps.map(step => ({ ...step, undo: null })) }
  }
}

/** What the issuer's PEM holds: not the root, which verifiers have and peers need not be sent. */
function servedChain({ chain, root, issuer }: LinkerdMaterial['next']): readonly Fingerprint[] {
  return chain.filter(sha256 => sha256 !== root || sha256 === issuer)
}

interface TrustWords {
  readonly name: string
  readonly title: string
  readonly data: string
  /** In the place of `data` and `controlPlane`, where the chart brings both at once. */
  readonly chart: string
  readonly controlPlane: string
  readonly dataPlane: string
}

/** Data, then the control plane, then the data plane, batch by batch. An undo gives everyone back what stood before the phase. */
function trustPhase(
  before: TrustState,
  after: TrustState,
  options: LinkerdPhaseOptions,
  words: TrustWords,
): PhaseDraft {
  const token = restartToken(after)
  const back = restartToken(before)
  const literal = after.bundle.join(' ')
  const steps: StepDraft[] = []
  const touched: string[] = []
  const add = (name: string, what: string, state: TrustState) => {
    // What this phase restarted must restart once more to read what stood before; what it did not is left alone.
    const restarts = Object.fromEntries(touched.map(key => [key, back]))
    steps.push({ name, what, state, undo: { ...before, restarts: { ...before.restarts, ...restarts } }, nudge: null })
  }
  let state = after
  const move = (key: string) => {
    const carries = key !== controlPlaneKey || options.controlPlaneToken !== false
    if (carries) touched.push(key)
    state = {
      ...state,
      settings: { ...state.settings, [anchorsSetting(key)]: literal },
      restarts: carries ? { ...state.restarts, [key]: token } : state.restarts,
    }
  }
  const restart = (key: string, what: string) => {
    move(key)
    add(key, what, state)
  }
  if (options.chartRestarts === true) {
    move(controlPlaneKey)
    add('data', words.chart, state)
  } else {
    add('data', words.data, state)
    restart(controlPlaneKey, words.controlPlane)
  }
  for (const key of batchKeys(options)) restart(key, words.dataPlane)
  return { name: words.name, title: words.title, steps }
}

/** Digest of the public material that a restart is for: equal material never restarts anything twice. */
function restartToken(state: Pick<TrustState, 'bundle' | 'issuer' | 'chain'>): string {
  const hash = createHash('sha256')
  for (const part of [...state.bundle, '', state.issuer, '', ...state.chain]) hash.update(`${part}\n`)
  return hash.digest('hex').slice(0, 16)
}

/** Strategies that Linkerd has no place for, with what to use in their place. */
export const missingStrategies: Readonly<Record<Strategy, null | MissingStrategy>> = {
  graceful: null,
  issuer: null,
  emergency: null,
  renew: {
    what: 'strategy renew does not exist for Linkerd: a proxy keeps the anchors that it started with, so a renewed root costs the same restarts as a new one',
    expected: 'graceful, issuer where the root stays, or emergency for a key that is in foreign hands',
    todo: 'choose issuer if only the issuer ends soon and the root’s key is at hand, else graceful',
  },
}

function refuseStrategy(strategy: Strategy): void {
  const missing = missingStrategies[strategy]
  if (missing === null) return
  throw new ReanchorError({ ...missing, where: { field: 'spec.strategy' }, found: strategy, exit: exitCodes.refused })
}
