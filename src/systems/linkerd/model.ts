import type { Plan } from '../../rotation.ts'
import type { Link } from '../../safety/model.ts'
import type { ForetoldPair } from '../../safety/price.ts'
import type { SafetyModel } from '../system.ts'

/**
 * Who meets whom in a Linkerd mesh, and when each takes up what it trusts and presents.
 *
 * A proxy has its anchors in its environment: the injector writes them into the pod, or the pod refers to a ConfigMap; either way they
 * are read once, at the start of the container. Its leaf it renews by itself, after 70 % of what is left of the leaf's life. Between
 * proxies both ends verify, with the same anchors. Identity checks its issuer with the anchors that it read at its own start, and a
 * proxy checks every leaf that it gets with those that it has: that is the same question as a handshake, so it is counted as one.
 */

export type LinkerdParty = 'proxy' | 'control-plane' | 'identity' | 'gateway' | 'external'

export type LinkerdUptake = 'on restart' | 'on renewal' | 'by kubelet sync' | 'by hand' | 'never'

export interface LinkerdPartyModel {
  /** As in a sentence. */
  readonly name: string
  readonly trust: LinkerdUptake
  readonly leaf: LinkerdUptake
  /** Where the fact is read: file of the upstream project. */
  readonly source: string
}

const linkerdParties: Readonly<Record<LinkerdParty, LinkerdPartyModel>> = {
  proxy: {
    name: 'proxy',
    trust: 'on restart',
    leaf: 'on renewal',
    source: 'linkerd2-proxy linkerd/meshtls/src/creds.rs, linkerd/proxy/identity-client/src/certify.rs',
  },
  'control-plane': {
    name: 'proxy of the control plane',
    trust: 'on restart',
    leaf: 'on renewal',
    source: 'linkerd2 charts/partials/templates/_proxy.tpl (configMapKeyRef from 2.11, a literal before)',
  },
  identity: {
    name: 'identity',
    // Anchors are parsed once; the issuer follows the mounted Secret.
    trust: 'on restart',
    leaf: 'by kubelet sync',
    source: 'linkerd2 controller/cmd/identity/main.go, pkg/identity/service.go, pkg/tls/creds_watcher.go',
  },
  gateway: {
    name: 'multicluster gateway',
    trust: 'on restart',
    leaf: 'on renewal',
    source: 'linkerd2 multicluster/charts/linkerd-multicluster/templates/gateway.yaml (an injected pod like any other)',
  },
  external: {
    name: 'external workload',
    trust: 'by hand',
    leaf: 'by hand',
    source: 'linkerd2 workload.linkerd.io ExternalWorkload: a proxy on a machine, seen by no pod list',
  },
}

const meshed: readonly LinkerdParty[] = ['proxy', 'gateway', 'external']

/** Parties of a plan: always proxies, the control plane and identity; gateways and machines where they were seen. */
function linkerdPartiesOf(names: readonly string[]): readonly LinkerdParty[] {
  const found = new Set<string>([...names, 'proxy', 'control-plane', 'identity'])
  return (Object.keys(linkerdParties) as LinkerdParty[]).filter(name => found.has(name))
}

/**
 * Every link between the parties, the plainest first. Between clusters traffic goes through gateways, or straight from pod to pod on a
 * flat network, so links of the mesh cross sites; the control plane serves its own.
 */
function linkerdLinksOf(parties: readonly LinkerdParty[]): readonly Link[] {
  const mesh = meshed.filter(party => parties.includes(party))
  const links: Link[] = []
  for (const holder of mesh)
    for (const verifier of mesh) links.push({ name: `${holder} to ${verifier}`, holder, verifier, acrossSites: true })
  for (const proxy of mesh) {
    links.push({ name: `control plane to ${proxy}`, holder: 'control-plane', verifier: proxy, acrossSites: false })
    links.push({ name: `${proxy} to control plane`, holder: proxy, verifier: 'control-plane', acrossSites: false })
    links.push({ name: `leaf from identity to ${proxy}`, holder: 'identity', verifier: proxy, acrossSites: false })
  }
  // Its components speak with one another by their proxies too, and roll one after the other.
  const own = { holder: 'control-plane', verifier: 'control-plane', acrossSites: false }
  links.push({ name: 'control plane to control plane', ...own })
  links.push({
    name: 'leaf from identity to control plane',
    holder: 'identity',
    verifier: 'control-plane',
    acrossSites: false,
  })
  links.push({ name: 'issuer to identity', holder: 'identity', verifier: 'identity', acrossSites: false })
  return links
}

export const linkerdModel: SafetyModel = {
  links: parties => linkerdLinksOf(linkerdPartiesOf(parties)),
  partyName: party => (isParty(party) ? linkerdParties[party].name : party),
  // The injector's certificate is signed by a CA of its own, which its webhook configuration carries (linkerd2 charts/linkerd-control-plane/templates).
  apart: ['webhook'],
  notes: (plan, _proven, price) => (plan.strategy === 'emergency' ? priceNotes(price()) : reloadNotes(plan)),
}

function reloadNotes(plan: Plan): readonly string[] {
  return [...chartNotes(plan), ...unrestartedNotes(plan)]
}

/** The chart's own restart, which no step can be put between: its hash of the anchors from 2.12 on, and their literal up to 2.10. */
function chartNotes(plan: Plan): readonly string[] {
  const phase = plan.phases.find(({ name }) => name === 'trust-both')
  if (phase === undefined || phase.steps.some(({ name }) => name === 'control-plane')) return []
  return [
    'The chart restarts the control plane in the very apply that brings new anchors: Helm applies ConfigMaps before Deployments, and the gate holds every container that started before the ConfigMap was written.',
  ]
}

function unrestartedNotes(plan: Plan): readonly string[] {
  const restarted = plan.phases.some(({ steps }) => steps.some(({ name }) => name.startsWith('data-plane')))
  if (restarted || plan.strategy === 'issuer') return []
  return [
    'No reload target is declared, so no step restarts a workload: each gate waits until all workloads were restarted by their owners.',
  ]
}

/** One line for each pair that breaks. Identity that refuses the new issuer by its old anchors cuts nobody off: it goes on with the old one. */
function priceNotes(pairs: readonly ForetoldPair[]): readonly string[] {
  const broken = pairs.filter(({ client, server }) => client !== server || client !== 'identity')
  if (broken.length === 0) return ['the price: nobody is refused.']
  return broken.map(({ client, server, from, to }) => {
    const names = [client, server].map(party => linkerdModel.partyName(party))
    return `the price: ${names[0]} with a leaf of ${from} is refused by ${names[1]} with the trust of ${to}, at every handshake until both have restarted.`
  })
}

function isParty(name: string): name is LinkerdParty {
  return Object.hasOwn(linkerdParties, name)
}
