import { createHash } from 'node:crypto'
import type { Fingerprint, Strategy, TrustState } from '../../rotation.ts'
import type { PhaseDraft, StepDraft } from '../system.ts'

/**
 * The phases of Istio's rotation, as states of trust: what the site's folder declares after each step.
 *
 * Who trusts what, who presents what, and which ways lead out (old, new: the roots):
 *
 * | phase            | verifiers trust | holders present      | out                                            |
 * |------------------|-----------------|----------------------|------------------------------------------------|
 * | adopt            | old             | leaves of old        | forward; abandon leaves everything as it was   |
 * | enable-multiroot | old             | leaves of old        | forward; back to adopt                         |
 * | trust-both       | old, then both  | leaves of old        | forward; back: `cacerts` stays, with old alone |
 * | issue-new        | both            | of old, then of new  | forward; back to trust-both with a nudge       |
 * | trust-new        | both, then new  | leaves of new        | close; back to issue-new                       |
 *
 * Between data and restart the folder's material is in the cluster, and every replica of istiod has it in its files, before
 * a pod is made that reads it only once.
 */

/** Material of one site, by fingerprint: certificates themselves are looked up where bytes are needed. */
export interface SiteMaterial {
  readonly current: {
    readonly issuer: Fingerprint
    readonly chain: readonly Fingerprint[]
    readonly roots: readonly Fingerprint[]
    readonly source: TrustState['source']
    /** Settings that the control plane has already: a second rotation finds both flags set. */
    readonly settings: Readonly<Record<string, string>>
    /** Tokens of an earlier rotation's restarts, which stay. */
    readonly restarts: Readonly<Record<string, string>>
  }
  readonly next: { readonly root: Fingerprint; readonly issuer: Fingerprint; readonly chain: readonly Fingerprint[] }
}

export interface PhaseOptions {
  /** Number of batches of reload targets; 0: reanchor restarts no workload itself. */
  readonly workloadBatches: number
  readonly ztunnel: boolean
}

/** istiod: without it a root that changed is refused on hot reload (istio pilot/pkg/features/pilot.go). */
export const multirootSetting = 'ISTIO_MULTIROOT_MESH'
/** pilot-agent: subscribes to pushed trust; read once, at injection (istio pilot/cmd/pilot-agent/options/options.go). */
export const xdsAgentSetting = 'PROXY_CONFIG_XDS_AGENT'

const multirootSettings: Readonly<Record<string, string>> = { [multirootSetting]: 'true', [xdsAgentSetting]: 'true' }

/** Key of `restarts` for a batch of workloads, 1-based. */
export function workloadsKey(batch: number): string {
  return batch === 1 ? 'workloads' : `workloads-${batch}`
}

/** The phases of one site, from `adopt` on. The closing phase changes no folder and is the plan's to add. */
export function istioPhases(strategy: Strategy, material: SiteMaterial, options: PhaseOptions): readonly PhaseDraft[] {
  const before = adoptedState(material)
  const adopt: PhaseDraft = {
    name: 'adopt',
    title: 'adopt',
    steps: [
      {
        name: 'adopt',
        what: "Wires the repository and takes over today's material unchanged. Nothing that verifies or presents a certificate changes.",
        state: before,
        undo: null,
        nudge: null,
      },
    ],
  }
  if (strategy === 'issuer') return [adopt, ...chainPhases(before, [issueUnderSameRoot(material, options)])]
  if (strategy === 'emergency') return [adopt, ...chainPhases(before, [replaceAtOnce(material, options)])]
  const phases = [trustBoth(material, options), issueNew(material, options), trustNew(material, options)]
  const flagged = Object.entries(multirootSettings).every(([name, value]) => material.current.settings[name] === value)
  return [adopt, ...chainPhases(before, flagged ? phases : [enableMultiroot(options), ...phases])]
}

type PhaseMaker = (before: TrustState) => PhaseDraft

function chainPhases(start: TrustState, makers: readonly PhaseMaker[]): readonly PhaseDraft[] {
  const phases: PhaseDraft[] = []
  let state = start
  for (const make of makers) {
    const phase = make(state)
    phases.push(phase)
    state = phase.steps[phase.steps.length - 1]?.state ?? state
  }
  return phases
}

function adoptedState(material: SiteMaterial): TrustState {
  const { issuer, chain, roots, source, settings, restarts } = material.current
  return { bundle: roots, issuer, chain, source, settings: { ...settings }, restarts: { ...restarts } }
}

/** Both flags, then every proxy made anew once: the agent's flag is an environment variable written at injection. */
function enableMultiroot(options: PhaseOptions): PhaseMaker {
  return before => {
    const flagged = { ...before, settings: { ...before.settings, ...multirootSettings } }
    const steps: StepDraft[] = [
      {
        name: 'data',
        what: 'Lets istiod take a second root while it runs, and tells the injector to subscribe every new proxy to pushed trust. istiod restarts once.',
        state: flagged,
        undo: before,
        nudge: null,
      },
      ...workloadRestarts(flagged, options).map(step => ({ ...step, name: step.name.replace('workloads', 'restart') })),
    ]
    return { name: 'enable-multiroot', title: 'let proxies hold two roots', steps }
  }
}

function trustBoth(material: SiteMaterial, options: PhaseOptions): PhaseMaker {
  return before => {
    const { current, next } = material
    // An earlier bundle is a prefix, byte for byte: istiod 1.20 to 1.29 hot-reloads only when one bundle contains the other.
    const both = plugged(before, {
      bundle: [...current.roots, next.root],
      issuer: current.issuer,
      chain: current.chain,
    })
    const back = plugged(before, { bundle: current.roots, issuer: current.issuer, chain: current.chain })
    return phase('trust-both', 'trust both roots', both, options, {
      data: 'Puts the old CA with both roots into `cacerts`. Leaves are still issued by the old CA.',
      restart: 'Restarts istiod, which then hands both roots to every proxy. Nothing is issued by the new CA yet.',
      undo: state => ({ ...back, restarts: state.restarts }),
      nudge: null,
    })
  }
}

function issueNew(material: SiteMaterial, options: PhaseOptions): PhaseMaker {
  return before => {
    const { current, next } = material
    // The repeated root is the trigger: agents renew their leaf when the pushed bundle's bytes change, and only then
    // (istio security/pkg/nodeagent/cache/secretcache.go, UpdateConfigTrustBundle).
    const repeated = [...current.roots, next.root, next.root]
    const nudged = [...repeated, next.root]
    const issuing = plugged(before, { bundle: repeated, issuer: next.issuer, chain: next.chain })
    return phase('issue-new', 'issue from the new CA', issuing, options, {
      data: 'Puts the new issuing CA into `cacerts`; the new root stands twice in the bundle, which makes every proxy renew its leaf now.',
      restart: 'Restarts istiod, so that every replica issues from the new CA.',
      // Back to leaves of the old CA: its bundle must change once more, or proxies keep the leaves they have.
      undo: state => ({ ...state, bundle: nudged, issuer: current.issuer, chain: current.chain }),
      nudge: state => ({ ...state, bundle: nudged }),
    })
  }
}

function trustNew(material: SiteMaterial, options: PhaseOptions): PhaseMaker {
  return before => {
    const { current, next } = material
    const only = plugged(before, { bundle: [next.root], issuer: next.issuer, chain: next.chain })
    return phase('trust-new', 'trust the new root only', only, options, {
      data: 'Takes the old root out of the bundle.',
      restart: 'Restarts istiod, so that every replica hands out the new root alone.',
      undo: state => ({ ...state, bundle: [...current.roots, next.root, next.root] }),
      // A leaf that a lagging replica signed brings the old root along; another push of the bundle asks for a new one.
      nudge: state => ({ ...state, bundle: [next.root, next.root] }),
    })
  }
}

/** A new issuing CA under the root that everyone trusts already: peers send it in the handshake, so no trust moves. */
function issueUnderSameRoot(material: SiteMaterial, options: PhaseOptions): PhaseMaker {
  return before => {
    const { current, next } = material
    const state = plugged(before, { bundle: current.roots, issuer: next.issuer, chain: next.chain })
    const repeated = [...current.roots, ...current.roots]
    return phase('issue-new', 'issue from a new CA under the same root', state, options, {
      data: 'Puts the new issuing CA into `cacerts`. The root stays, so no one trusts anything new.',
      restart:
        'Restarts istiod, so that every replica issues from the new CA. Proxies renew at half the life of their leaf.',
      undo: now => ({ ...now, issuer: current.issuer, chain: current.chain }),
      nudge: now => ({ ...now, bundle: repeated }),
    })
  }
}

/** The old key is in foreign hands: trust in it ends with this one phase, and what still presents it is cut off. */
function replaceAtOnce(material: SiteMaterial, options: PhaseOptions): PhaseMaker {
  return before => {
    const { next } = material
    const replaced = plugged(before, { bundle: [next.root], issuer: next.issuer, chain: next.chain })
    const replace = phase('replace', 'replace the compromised CA', replaced, options, {
      data: 'Replaces root and issuing CA in `cacerts`. A running istiod refuses the swap, so nothing breaks yet.',
      restart: 'Restarts istiod with the new CA. Proxies that have not restarted are cut off from those that have.',
      undo: null,
      nudge: null,
    })
    return {
      ...replace,
      steps: [...replace.steps, ...workloadRestarts(replace.steps.at(-1)?.state ?? replaced, options)],
    }
  }
}

function workloadRestarts(before: TrustState, options: PhaseOptions): readonly StepDraft[] {
  const steps: StepDraft[] = []
  let state = before
  for (let batch = 1; batch <= options.workloadBatches; batch++) {
    state = withRestarts(state, [workloadsKey(batch)])
    steps.push({
      name: workloadsKey(batch),
      what: 'Restarts the workloads once, so that their proxies start with what istiod and the injector now say.',
      state,
      undo: null,
      nudge: null,
    })
  }
  return steps
}

interface PhaseWords {
  readonly data: string
  readonly restart: string
  readonly undo: ((state: TrustState) => TrustState) | null
  readonly nudge: ((state: TrustState) => TrustState) | null
}

/** Data first, then the restart that depends on it. Undo relies on hot reload, so it never restarts anything. */
function phase(name: string, title: string, state: TrustState, options: PhaseOptions, words: PhaseWords): PhaseDraft {
  const steps: StepDraft[] = []
  const add = (stepName: string, what: string, at: TrustState) =>
    steps.push({ name: stepName, what, state: at, undo: words.undo?.(at) ?? null, nudge: words.nudge?.(at) ?? null })
  add('data', words.data, state)
  const restarted = withRestarts(state, ['istiod'])
  add('restart', words.restart, restarted)
  // ztunnel has no subscription to pushed trust: it takes up roots and issuer with a new leaf, at half its life or at a start.
  if (options.ztunnel)
    add(
      'ztunnel',
      'Restarts ztunnel, node by node, which takes up new roots only with a new leaf.',
      withRestarts(restarted, ['ztunnel']),
    )
  return { name, title, steps }
}

function plugged(before: TrustState, material: Pick<TrustState, 'bundle' | 'issuer' | 'chain'>): TrustState {
  return { ...before, ...material, source: 'plugged' }
}

function withRestarts(state: TrustState, keys: readonly string[]): TrustState {
  const token = restartToken(state)
  return { ...state, restarts: { ...state.restarts, ...Object.fromEntries(keys.map(key => [key, token])) } }
}

/** Digest of the public material and settings that a restart is for: equal material never restarts anything twice. */
export function restartToken(state: TrustState): string {
  const hash = createHash('sha256')
  for (const part of [state.source, ...state.bundle, '', state.issuer, '', ...state.chain]) hash.update(`${part}\n`)
  for (const [name, value] of Object.entries(state.settings).sort()) hash.update(`${name}=${value}\n`)
  return hash.digest('hex').slice(0, 16)
}
