import { parseDocument } from 'yaml'
import type { GateResult } from '../../../src/rotation.ts'
import { pairTexts } from './foretold.ts'
import type { ForgeFleet } from './forge-fleet.ts'
import type { Meeting } from './kyma-clients.ts'
import { centralSite, type KymaClusters, type KymaWorld, runtimeName } from './kyma-world.ts'
import { mustSay } from './reanchor.ts'
import { shortGates } from './rotation.ts'
import { until } from './server.ts'

export const kymaGateways = 2
/** A rotation in which both CAs are trusted for a while, step by step: `graceful`, and `renew`. */
export const kymaSteps: readonly string[] = [
  'plan',
  '0-adopt/1-adopt',
  '1-trust-both/1-data',
  '2-issue-new/1-data',
  '3-trust-new/1-data',
  '4-close',
]
/** The runtime and two applications. */
const kymaClients = [runtimeName, 'crm', 'billing'] as const
const applications = kymaClients.filter(name => name !== runtimeName)

export type KymaStrategy = 'graceful' | 'renew' | 'emergency for the certificate' | 'emergency for the key'

/** What everybody says who rotates it, whatever the forge. */
export function kymaRotation(kyma: KymaClusters, name: string, strategy: KymaStrategy) {
  return {
    system: 'kyma' as const,
    name,
    administrator: kyma.administrator,
    verifier: kyma.verifier,
    init: ['--site', `${centralSite}=trust/${centralSite}`, '--context', `${centralSite}=${centralSite}`],
    edit: kymaDeclared(strategy),
  }
}

/** What the user writes into rotation.yaml: the runtime, and who vouches for the applications. */
function kymaDeclared(strategy: KymaStrategy): (text: string) => string {
  return text => {
    const document = parseDocument(shortGates(text))
    const [word, compromised] = strategy.split(' for the ')
    document.setIn(['spec', 'strategy'], word)
    document.setIn(['spec', 'kyma', 'applications'], 'attested')
    if (compromised !== undefined) document.setIn(['spec', 'kyma', 'compromised'], compromised)
    const runtime = { name: runtimeName, kind: 'central', connection: runtimeName, context: runtimeName }
    document.setIn(['spec', 'kyma', 'runtimes'], [runtime])
    document.setIn(['spec', 'gates', 'attest'], [{ name: 'applications', why: 'the owners of crm and billing' }])
    return document.toString()
  }
}

/** Waits until every client was taken by every gateway pod within the last seconds, and nobody was refused. */
export async function everybodyIsTaken(kyma: KymaClusters): Promise<void> {
  await until(
    'every client is taken by every gateway pod',
    () => {
      const lately = kyma.clients.meetings.filter(({ at }) => at > Date.now() - 5000)
      const pairs = new Set(lately.map(({ client, gateway }) => `${client} ${gateway}`))
      return pairs.size === kymaClients.length * kymaGateways && lately.every(({ error }) => error === null)
    },
    60_000,
  )
}

export interface KymaPeopleOptions {
  /** A new certificate for a client. */
  readonly renew: (client: string) => Promise<void>
  /** `reanchor attest applications`, for the phase of this number. */
  readonly vouch: (phase: string) => Promise<void>
}

/** What people do where a gate asks them: clients get new certificates, and the owners of applications say so. */
export function kymaPeople({
  renew,
  vouch,
}: KymaPeopleOptions): (step: string, gates: readonly GateResult[]) => Promise<void> {
  let asked = 0
  let told = false
  return async (step, gates) => {
    const waits = (id: string): boolean => gates.some(gate => gate.id === id)
    // Soon after the connector's Secret has changed a renewal proves nothing, so it takes another.
    if (waits('kyma/runtimes-renewed') && Date.now() - asked > 15_000) {
      asked = Date.now()
      await renew(runtimeName)
    }
    if (!waits('kyma/attested') || told) return
    told = true
    for (const client of applications) await renew(client)
    await vouch(/^(\d+)-/.exec(step)?.[1] ?? '')
  }
}

/** With the key in foreign hands people bring new tokens once clients of both kinds are refused, past the gateway; then they do what they do otherwise. */
export async function onceRefused(
  kyma: KymaWorld,
  since: number,
  step: string,
  act: () => Promise<void>,
): Promise<void> {
  const refused = new Set(meetingsSince(kyma, since).refused.map(({ kind }) => kind))
  if (refused.size < 2) return
  if (step.startsWith('1-')) for (const client of kymaClients) await kyma.client(client).onboard()
  await act()
}

/** Who signed what clients present: at the first meeting, and at the last of every client with every gateway pod. */
export function presentedFirstAndLast({ clients: { meetings } }: KymaClusters): {
  readonly first: string
  readonly last: ReadonlySet<string>
} {
  const latest = meetings.slice(-kymaClients.length * kymaGateways)
  return { first: meetings[0]?.presents ?? '', last: new Set(latest.map(({ presents }) => presents)) }
}

/** The same on a forge: a person's word is opened from a clone without any kubeconfig, and merged as everything else is, once `reanchor/gate` lets it. */
export function kymaPeopleOnForge(
  fleet: ForgeFleet,
  name: string,
  renew: (client: string) => Promise<void>,
): ReturnType<typeof kymaPeople> {
  return kymaPeople({
    renew,
    async vouch(phase) {
      const desk = await fleet.runner([])
      await mustSay(['attest', 'applications', '--rotation', name, '--phase', phase, '--by', 'Grace'], desk)
    },
  })
}

/** With the certificate that they have, through the gateway: an error where that does not take it. */
export async function renewAt(kyma: KymaClusters, client: string): Promise<void> {
  if (client === runtimeName) await kyma.askToRenew()
  else await kyma.client(client).renew()
}

/** Who was met since, and who of them was refused. */
export function meetingsSince(
  kyma: KymaClusters,
  since: number,
): { readonly sent: number; readonly refused: readonly Meeting[] } {
  const met = kyma.clients.meetings.filter(({ at }) => at >= since)
  return { sent: met.length, refused: met.filter(({ error }) => error !== null) }
}

/** `runtime old, runtime new, …`: which kinds of clients were refused with whose leaves. */
function refusedSorts(refused: readonly Meeting[]): ReadonlySet<string> {
  return new Set(refused.map(({ kind, presents }) => `${kind} ${presents}`))
}

/** The node of one gateway pod lags behind, so that new leaves meet the old trust too, until clients of both kinds were refused with both sorts of leaves. */
export function lagUntilAllRefused(kyma: KymaClusters, since: number): Promise<unknown> {
  const [late] = kyma.kubelet.find('istio-system', 'istio-ingressgateway-')
  kyma.kubelet.holdProjection(pod => pod.uid === late?.uid)
  const closed = until(
    'clients of both kinds were refused with old and with new leaves',
    () => refusedSorts(meetingsSince(kyma, since).refused).size === 4,
    600_000,
  ).finally(() => kyma.kubelet.holdProjection(null))
  closed.catch(() => {})
  return closed
}

/** Which pairs were refused, by what the clients presented and what the Envoys that refused them held. */
export function refusedPairs(refused: readonly Meeting[]): readonly string[] {
  return pairTexts(refused.map(({ kind, presents, trusts }) => ({ client: kind, server: 'gateway', presents, trusts })))
}
