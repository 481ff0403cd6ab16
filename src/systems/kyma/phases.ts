import { createHash } from 'node:crypto'
import { exitCodes, ReanchorError } from '../../errors.ts'
import type { Fingerprint, Strategy, TrustState } from '../../rotation.ts'
import type { PhaseDraft, StepDraft } from '../system.ts'
import type { GatewayForm, KymaProfile } from './profile.ts'

/**
 * The phases of Kyma's rotation, as states of trust: what the gateway's Secret and the connector's Secret hold (old, new: the CAs).
 *
 * | phase      | gateway trusts | connector issues from | runtimes, applications present | out                                   |
 * |------------|----------------|-----------------------|--------------------------------|---------------------------------------|
 * | adopt      | old            | old                   | leaves of old                  | forward; abandon leaves all as it was |
 * | trust-both | old, then both | old                   | leaves of old                  | forward; back to adopt                |
 * | issue-new  | both           | new                   | of old, then of new            | forward; back to trust-both           |
 * | trust-new  | both, then new | new                   | leaves of new                  | close; back to issue-new              |
 *
 * `renew` and `graceful` are these four; with `renew` old and new have one key, one Subject and one key identifier, so that a leaf of either verifies
 * with either. The runbook lets the connector issue before the gateway trusts (its step 4 before step 8): a runtime that renews in between would be
 * refused, so trust comes first here.
 *
 * `emergency` is one phase, `replace`: the gateway trusts new alone and the connector issues from it, in one pull request.
 *
 * Where the gateway reads its CA from mounted files, a step `restart` follows the data in each phase that changes them; in `replace` both stand in one step. Either has a
 * nudge that restarts once more, for a pod that was made while its node still had the old file.
 */

/** Names of `settings` in a state: where the material of this state lies. */
export const kymaSetting = {
  signerNamespace: 'signer/namespace',
  signer: 'signer/secret',
  signerCertificate: 'signer/certificate-key',
  signerKey: 'signer/private-key',
  gatewayNamespace: 'gateway/namespace',
  gateway: 'gateway/secret',
  gatewayKey: 'gateway/key',
  gatewayForm: 'gateway/form',
  gatewayDeployment: 'gateway/deployment',
} as const

/** Class of consumer in `restarts`. */
export const gatewayRestart = 'gateway'

export interface KymaMaterial {
  readonly profile: KymaProfile
  readonly current: {
    readonly issuer: Fingerprint
    /** What the gateway trusts now, in order. */
    readonly bundle: readonly Fingerprint[]
    /** Tokens of an earlier rotation, which stay. */
    readonly restarts: Readonly<Record<string, string>>
  }
  readonly next: Fingerprint
}

/** The phases of one site, from `adopt` on. The closing phase changes no folder and is the plan's to add. */
export function kymaPhases(strategy: Strategy, material: KymaMaterial): readonly PhaseDraft[] {
  if (strategy === 'issuer') throw strategyRefused()
  const { current, next, profile } = material
  const adopted: TrustState = {
    // A repeat says nothing to a gateway; one certificate stands once.
    bundle: unique(current.bundle),
    issuer: current.issuer,
    chain: [],
    source: 'plugged',
    settings: kymaPlaceSettings(profile),
    restarts: { ...current.restarts },
  }
  const adopt: PhaseDraft = {
    name: 'adopt',
    title: 'adopt',
    steps: [
      step(
        'adopt',
        "Takes today's material over as it is: the connector's CA and key, and the one key of the gateway's Secret. Nothing that verifies or signs changes.",
        adopted,
        null,
      ),
    ],
  }
  if (strategy === 'emergency') return [adopt, replaceAtOnce(adopted, next, profile)]
  const renew = strategy === 'renew'
  const both: TrustState = { ...adopted, bundle: unique([...adopted.bundle, next]) }
  const trustBoth = trustPhase(profile, {
    name: 'trust-both',
    title: renew ? 'trust the renewed certificate too' : 'trust both CAs',
    data: renew
      ? "Adds the renewed certificate to what the gateway trusts. The connector still issues from the old one: trust comes first, which the runbook's order leaves out."
      : 'Adds the new CA to what the gateway trusts. The connector still issues from the old one.',
    before: adopted,
    after: both,
  })
  const trusting = lastState(trustBoth)
  const issuing: TrustState = { ...trusting, issuer: next }
  const issueNew: PhaseDraft = {
    name: 'issue-new',
    title: renew ? 'issue from the renewed certificate' : 'issue from the new CA',
    steps: [
      step(
        'data',
        renew
          ? 'Gives the connector the renewed certificate, with the key that it has. It reads its Secret at every request, so that nothing restarts.'
          : 'Gives the connector the new CA and its key. It reads its Secret at every request, so that nothing restarts.',
        issuing,
        trusting,
      ),
    ],
  }
  const only: TrustState = { ...issuing, bundle: [next] }
  const trustNew = trustPhase(profile, {
    name: 'trust-new',
    title: renew ? 'trust the renewed certificate only' : 'trust the new CA only',
    data: renew
      ? 'Takes the old certificate out of what the gateway trusts. Key and subject stay, so a leaf that was not renewed still verifies.'
      : 'Takes the old CA out of what the gateway trusts: whoever has not renewed is refused, and could then renew only with a new token.',
    before: issuing,
    after: only,
  })
  return [adopt, trustBoth, issueNew, trustNew]
}

function trustPhase(
  profile: KymaProfile,
  parts: {
    readonly name: string
    readonly title: string
    readonly data: string
    readonly before: TrustState
    readonly after: TrustState
  },
): PhaseDraft {
  const { name, title, data, before, after } = parts
  const steps = [step('data', data, after, before)]
  if (profile.gateway.form === 'mount') {
    // Back is a restart too: a gateway that has read its files once reads them at no other time.
    steps.push(
      step(
        'restart',
        'Rolls the ingress gateway, which reads its CA from files and only when it starts. New pods come up before old ones go.',
        restarted(after),
        restarted(before),
        restarted(after, 'again'),
      ),
    )
  }
  return { name, title, steps }
}

function replaceAtOnce(before: TrustState, next: Fingerprint, profile: KymaProfile): PhaseDraft {
  const replaced: TrustState = { ...before, bundle: [next], issuer: next }
  const mount = profile.gateway.form === 'mount'
  const state = mount ? restarted(replaced) : replaced
  const what = mount
    ? 'Replaces the CA of connector and gateway at once, and rolls the gateway, which reads its CA only when it starts.'
    : 'Replaces the CA of connector and gateway at once. istiod pushes it to the gateway; nothing restarts.'
  return {
    name: 'replace',
    title: 'replace the compromised CA',
    steps: [step('data', what, state, null, mount ? restarted(state, 'again') : null)],
  }
}

function step(
  name: string,
  what: string,
  state: TrustState,
  undo: TrustState | null,
  nudge: TrustState | null = null,
): StepDraft {
  return { name, what, state, undo, nudge }
}

function lastState(phase: PhaseDraft): TrustState {
  const last = phase.steps.at(-1)
  if (last === undefined) throw new Error(`phase ${phase.name} has no step`)
  return last.state
}

function restarted(state: TrustState, salt = ''): TrustState {
  return { ...state, restarts: { ...state.restarts, [gatewayRestart]: gatewayToken(state.bundle, salt) } }
}

/** Digest of what the gateway is to read: equal trust never restarts it twice. */
function gatewayToken(bundle: readonly Fingerprint[], salt: string): string {
  return createHash('sha256')
    .update([...bundle, salt].join('\n'))
    .digest('hex')
    .slice(0, 16)
}

/** Where a state's material lies, as its settings say. */
export function kymaPlaceSettings({ signer, gateway }: KymaProfile): Readonly<Record<string, string>> {
  return {
    [kymaSetting.signerNamespace]: signer.namespace,
    [kymaSetting.signer]: signer.secret,
    [kymaSetting.signerCertificate]: signer.certificateKey,
    [kymaSetting.signerKey]: signer.privateKey,
    [kymaSetting.gatewayNamespace]: gateway.namespace,
    [kymaSetting.gateway]: gateway.secret,
    [kymaSetting.gatewayKey]: gateway.key,
    [kymaSetting.gatewayForm]: gateway.form,
    [kymaSetting.gatewayDeployment]: gateway.deployment,
  }
}

/** Where a state's material lies, read back from what the state declares. */
export interface KymaPlaces {
  readonly signer: KymaProfile['signer']
  readonly gateway: Omit<KymaProfile['gateway'], 'credential'>
}

export function placesOf(state: Pick<TrustState, 'settings'>): KymaPlaces {
  const at = (name: string): string => state.settings[name] ?? ''
  const form: GatewayForm = at(kymaSetting.gatewayForm) === 'mount' ? 'mount' : 'sds'
  return {
    signer: {
      namespace: at(kymaSetting.signerNamespace),
      secret: at(kymaSetting.signer),
      certificateKey: at(kymaSetting.signerCertificate),
      privateKey: at(kymaSetting.signerKey),
    },
    gateway: {
      namespace: at(kymaSetting.gatewayNamespace),
      secret: at(kymaSetting.gateway),
      key: at(kymaSetting.gatewayKey),
      form,
      deployment: at(kymaSetting.gatewayDeployment),
    },
  }
}

function unique(fingerprints: readonly Fingerprint[]): readonly Fingerprint[] {
  return [...new Set(fingerprints)]
}

/** The one strategy that has no meaning for Kyma. */
export const issuerMissing = {
  what: 'strategy issuer does not exist for Kyma: its gateway trusts the very CA that signs, and there is no root above it whose trust could stay',
  expected: 'renew, graceful or emergency',
  todo: 'choose renew, which keeps key and subject, or graceful for a new key',
} as const

function strategyRefused(): ReanchorError {
  return new ReanchorError({
    ...issuerMissing,
    where: { field: 'spec.strategy' },
    found: 'issuer',
    exit: exitCodes.refused,
  })
}
