import type { Plan, TrustState } from '../../rotation.ts'
import type { Link } from '../../safety/model.ts'
import type { SafetyModel } from '../system.ts'

/**
 * Who meets whom in an Istio mesh, and when each takes up what it trusts and what it presents.
 *
 * A handshake joins one holder's leaf with one verifier's anchors; mutual TLS is two of them. Uptake differs per class and
 * per replica, so within a transition every holder may present any issuer of it, and every verifier may hold any set of
 * anchors of it, independently of each other. That product is what the proof walks.
 */

/** A class of party that holds leaves, verifies, or both. */
export type PartyClass = 'sidecar' | 'gateway' | 'waypoint' | 'ztunnel' | 'istiod' | 'webhook' | 'vm'

/** How a change reaches a party. Every one but `at once` leaves parties of one class in different states for a time. */
export type Uptake = 'at once' | 'on restart' | 'on renewal' | 'by kubelet sync' | 'by hand' | 'never'

export interface PartyModel {
  /** As in a sentence: `the API server`. */
  readonly name: string
  /** What it verifies peers of the mesh with. */
  readonly trust: Uptake
  /** What it presents. */
  readonly leaf: Uptake
  /** What it verifies istiod with. */
  readonly controlTrust: Uptake
  /** Where the fact is read: file of the upstream project. */
  readonly source: string
}

const partyModels: Readonly<Record<PartyClass, PartyModel>> = {
  sidecar: {
    name: 'sidecar',
    // Roots of the last CSR answer joined with the pushed bundle; a changed bundle also drops the leaf.
    trust: 'at once',
    leaf: 'on renewal',
    // The ConfigMap istio-ca-root-cert as a volume, re-read by a file watcher.
    controlTrust: 'by kubelet sync',
    source: 'istio security/pkg/nodeagent/cache/secretcache.go, pkg/istio-agent/xds_proxy.go',
  },
  gateway: {
    name: 'gateway',
    trust: 'at once',
    leaf: 'on renewal',
    controlTrust: 'by kubelet sync',
    source: 'istio security/pkg/nodeagent/cache/secretcache.go (a gateway runs the same agent)',
  },
  waypoint: {
    name: 'waypoint',
    trust: 'at once',
    leaf: 'on renewal',
    controlTrust: 'by kubelet sync',
    source: 'istio security/pkg/nodeagent/cache/secretcache.go (a waypoint runs the same agent)',
  },
  ztunnel: {
    name: 'ztunnel',
    // No subscription to pushed trust: roots come with the answer to a CSR.
    trust: 'on renewal',
    leaf: 'on renewal',
    // Re-read while it runs from 1.28.6, 1.29.2 and 1.30; before that only at start (istio/ztunnel#1775).
    controlTrust: 'on restart',
    source: 'ztunnel src/tls/certificate.rs, src/identity/caclient.rs',
  },
  istiod: {
    name: 'istiod',
    // Watches /etc/cacerts only if it started with a complete plugged bundle; so from its own CA always a restart.
    trust: 'on restart',
    leaf: 'on restart',
    controlTrust: 'never',
    source: 'istio pilot/pkg/bootstrap/istio_ca.go (initCACertsAndCRLWatcher)',
  },
  webhook: {
    name: 'API server',
    // istiod writes caBundle into its webhook configurations; the API server uses it with the next call.
    trust: 'never',
    leaf: 'never',
    controlTrust: 'at once',
    source: 'istio pkg/webhooks/webhookpatch.go',
  },
  vm: {
    name: 'virtual machine',
    trust: 'at once',
    leaf: 'on renewal',
    // root-cert.pem was copied to the machine when it was onboarded.
    controlTrust: 'by hand',
    source: 'istio pkg/istio-agent/agent.go; istio.io documentation of virtual machine installation',
  },
}

const meshClasses: ReadonlySet<PartyClass> = new Set(['sidecar', 'gateway', 'waypoint', 'ztunnel', 'vm'])

/** Parties of a plan: what it names, and always a proxy, istiod and the API server that calls its webhook. Unknown names are sidecars. */
function partiesOf(names: readonly string[]): readonly PartyClass[] {
  const found = new Set<PartyClass>(names.filter(isPartyClass))
  const proxies = [...found].filter(name => meshClasses.has(name))
  if (proxies.length === 0 || names.some(name => !isPartyClass(name) && name !== 'configmap')) found.add('sidecar')
  found.add('istiod')
  found.add('webhook')
  return (Object.keys(partyModels) as PartyClass[]).filter(name => found.has(name))
}

function isPartyClass(name: string): name is PartyClass {
  return Object.hasOwn(partyModels, name)
}

/**
 * Every link between the parties, the plainest first. Mesh links are symmetric (both ends verify), and cross sites; a proxy
 * talks to its own site's istiod, which verifies the proxy's leaf in turn; the API server calls the webhook of its own.
 */
function linksOf(parties: readonly PartyClass[]): readonly Link[] {
  const mesh = parties.filter(party => meshClasses.has(party))
  const links: Link[] = []
  for (const holder of mesh)
    for (const verifier of mesh) links.push({ name: `${holder} to ${verifier}`, holder, verifier, acrossSites: true })
  for (const proxy of mesh) {
    links.push({ name: `istiod to ${proxy}`, holder: 'istiod', verifier: proxy, acrossSites: false })
    links.push({ name: `${proxy} to istiod`, holder: proxy, verifier: 'istiod', acrossSites: false })
  }
  if (parties.includes('webhook'))
    links.push({ name: 'istiod to API server', holder: 'istiod', verifier: 'webhook', acrossSites: false })
  return links
}

export const istioModel: SafetyModel = {
  links: parties => linksOf(partiesOf(parties)),
  partyName: party => (isPartyClass(party) ? partyModels[party].name : party),
  notes: notesOf,
}

function notesOf(plan: Plan): readonly string[] {
  const notes: string[] = []
  const { widens, flagged } = widening(plan)
  if (widens && !flagged)
    notes.push(
      'ISTIO_MULTIROOT_MESH is not set while two roots are trusted: proxies learn the new root only with their next leaf, so each gate may wait for half the life of a leaf.',
    )
  if (plan.parties.includes('ztunnel'))
    notes.push(
      'ztunnel before 1.28.6 and 1.29.2 reads the root for istiod only when it starts: it must be restarted while both roots are trusted.',
    )
  if (plan.parties.includes('vm'))
    notes.push(
      'virtual machines keep the root-cert.pem that was copied to them: a person attests that both roots are there before the new CA issues.',
    )
  return notes
}

/** Whether a step adds a root anywhere, and whether the flag for it is set wherever two are trusted. */
function widening(plan: Plan): { readonly widens: boolean; readonly flagged: boolean } {
  const before = new Map<string, TrustState>()
  let widens = false
  let flagged = true
  for (const step of plan.phases.flatMap(phase => phase.steps)) {
    for (const [site, { state }] of Object.entries(step.sites)) {
      const last = before.get(site)
      if (last !== undefined && state.bundle.some(root => !last.bundle.includes(root))) widens = true
      if (new Set(state.bundle).size > 1 && state.settings.ISTIO_MULTIROOT_MESH !== 'true') flagged = false
      before.set(site, state)
    }
  }
  return { widens, flagged }
}
