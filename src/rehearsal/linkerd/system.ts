import type { Plan } from '../../rotation.ts'
import { type ForetoldPair, foretoldPairs, isForetold } from '../../safety/price.ts'
import { issuerData, issuerSecretName } from '../../systems/linkerd/issuer-secret.ts'
import { controlPlaneKey } from '../../systems/linkerd/phases.ts'
import { linkerdOf } from '../../systems/linkerd/settings.ts'
import { type LinkerdFlow, linkerdFlows } from '../../systems/linkerd/version.ts'
import type { ClusterFault } from '../faults.ts'
import type { HandshakeFailure } from '../handshakes.ts'
import { namespaceOf, secretOf } from '../manifests.ts'
import type { StoredObject } from '../objects.ts'
import { nodeOf, type PodProcess, podKey, type Site } from '../site.ts'
import {
  type DemoSystem,
  type PodMeans,
  type RehearsalSystem,
  type SiteSystem,
  type StartingCa,
  type Struck,
  type WorldOptions,
  withoutFirst,
  withoutLast,
} from '../system.ts'
import { linkerdCharts } from './chart.ts'
import { linkerdDeclaration } from './declaration.ts'
import { linkerdFleet } from './fleet.ts'
import { signerOf } from './identity.ts'
import { Injector } from './injector.ts'
import { controlPlaneNamespace, flowOf, isByArgo, isByHelm, proxyContainer, variantFor, vaultSecret } from './names.ts'
import { LinkerdPlane } from './plane.ts'
import { LinkerdPod } from './proxy.ts'
import { type StartingIssuer, startingIssuer } from './starting-ca.ts'
import { Webhook } from './webhook.ts'

/** Identity, the injector and the proxies of one site. */
class LinkerdSite implements SiteSystem {
  readonly plane: LinkerdPlane
  readonly #site: Site
  readonly #injector: Injector
  readonly #webhook: Webhook
  readonly #starting: StartingIssuer
  readonly #sealing: boolean
  readonly #byHelm: boolean

  constructor(site: Site, options: Pick<WorldOptions, 'sealing' | 'variant'>, starting: StartingIssuer) {
    this.#site = site
    this.#sealing = options.sealing
    this.#starting = starting
    this.plane = new LinkerdPlane(site)
    this.#webhook = new Webhook(site)
    this.#injector = new Injector(site, this.plane, this.#webhook)
    this.#byHelm = isByHelm(options.variant)
    if (this.#byHelm) linkerdCharts(site)
  }

  /** The person who installed Linkerd made the namespace and put the issuer into it. */
  bootstrap(): void {
    const { store } = this.#site
    const { issuer, root } = this.#starting
    store.put(namespaceOf(controlPlaneNamespace), 'kubectl-create')
    this.#webhook.install()
    const material = { certificates: [issuer.certificate], key: issuer.key, anchors: root }
    const name = this.#byHelm ? vaultSecret : issuerSecretName
    const secret = secretOf(name, controlPlaneNamespace, issuerData('linkerd.io/tls', material))
    secret.metadata.labels = { 'linkerd.io/control-plane-component': 'identity' }
    // A Secret that its controller did not make is taken over only where its owner allows it.
    if (this.#sealing) secret.metadata.annotations = { 'sealedsecrets.bitnami.com/managed': 'true' }
    store.put(secret, 'kubectl-create')
  }

  process(pod: StoredObject, means: PodMeans): PodProcess | null {
    return proxyContainer(pod) === null ? null : new LinkerdPod(this.#site, this.plane, this.#webhook, pod, means)
  }

  async admit(pod: Parameters<Injector['admit']>[0]): Promise<boolean> {
    return await this.#injector.admit(pod)
  }

  startingCa(): StartingCa {
    const { issuer, root } = this.#starting
    return { ...issuer, source: 'plugged', root }
  }

  up(): boolean {
    return this.plane.pods.some(pod => pod.pod.metadata.namespace !== controlPlaneNamespace)
  }

  strike(fault: ClusterFault, target: string | undefined): Struck | null {
    const { faults, handshakes, name } = this.#site
    if (fault === 'never-reloads') {
      const struck =
        target ??
        handshakes.parties.find(party => party.site === name && party.owner.startsWith('emojivoto/'))?.owner ??
        null
      if (struck !== null) faults.frozen.add(struck)
      return { culprit: () => struck, recover: () => void (struck !== null && faults.frozen.delete(struck)) }
    }
    if (fault !== 'replica-lags') return null
    // One replica of identity no longer hears of its Secret (linkerd2#15109).
    const replica = this.plane.identities.find(pod => nodeOf(pod.pod) !== '') ?? null
    if (replica?.identity != null) replica.identity.deaf = true
    return {
      culprit: () => (replica === null ? null : podKey(replica.pod)),
      recover() {
        if (replica?.identity == null) return
        replica.identity.deaf = false
        replica.identity.issuerChanged()
      },
    }
  }
}

/** The rehearsal of Linkerd. The CA that the fleets begin with is made when it is first asked for. */
export async function linkerdRehearsal(): Promise<RehearsalSystem> {
  const made = await Promise.all(linkerdFlows.map(async flow => [flow, await startingIssuer(flow)] as const))
  const starting = new Map<LinkerdFlow, StartingIssuer>(made)
  const startingOf = (variant: string | null): StartingIssuer => {
    const found = starting.get(flowOf(variant))
    if (found === undefined) throw new Error('every flow has a CA to begin with')
    return found
  }
  const demo: DemoSystem = {
    rotation: 'mesh-2026',
    sites: ['eu-1', 'us-1', 'ap-1'],
    usualSites: 1,
    variantFlag: 'flow',
    variants: linkerdFlows,
    variantOf: declaration =>
      variantFor(
        linkerdOf(declaration).flow,
        declaration.sites.some(({ delivery }) => delivery.kind === 'argocd'),
        linkerdOf(declaration).install === 'helmRelease',
      ),
    byArgo: isByArgo,
    faults: variant => ({
      widening: 'trust-both',
      switching: 'issue-new',
      cluster: {
        'never-reloads': { phase: 'issue-new', what: 'one workload’s proxy asks for no leaf any more' },
        'replica-lags': { phase: 'issue-new', what: 'one replica of identity no longer sees its Secret change' },
      },
      // The old root stands first in one flow alone: the others write new, then old.
      edit: folder => (flowOf(variant) === 'config-map' ? withoutFirst : withoutLast)(folder, 'anchors.pem'),
    }),
    // Leaves of the demo live for an hour.
    patience: 3 * 3_600_000,
    start: sharedRoot => (sharedRoot ? 'one root for all clusters' : 'a root and an issuer made with step'),
    fleet: ({ sites, ageRecipient, sealingCertificate, variant }) => {
      const fleet = {
        sites,
        ageRecipient,
        flow: flowOf(variant),
        root: startingOf(variant).root,
        helm: isByHelm(variant),
      }
      return linkerdFleet(isByArgo(variant) ? { ...fleet, sealingCertificate } : fleet)
    },
    declare: async (_fleet, options) => linkerdDeclaration(flowOf(options.variant), options),
    foretells,
    bundles: () => [
      {
        kind: 'ConfigMap',
        namespace: controlPlaneNamespace,
        name: 'linkerd-identity-trust-roots',
        key: 'ca-bundle.crt',
      },
    ],
    /** The control plane restarts where its token changes; a workload where one of the data plane's does. */
    plansRestart(consumer, before, after) {
      if (consumer.startsWith(`${controlPlaneNamespace}/`))
        return before.restarts[controlPlaneKey] !== after.restarts[controlPlaneKey]
      return Object.entries(after.restarts).some(
        ([key, token]) => key.startsWith('data-plane') && before.restarts[key] !== token,
      )
    },
  }
  return {
    name: 'linkerd',
    startWorld(options) {
      return {
        crossSite: options.sites.length > 1,
        startSite: site => new LinkerdSite(site, options, startingOf(options.variant)),
      }
    },
    demo,
  }
}

/**
 * Whether the plan's price names this failure: which classes of parties met, with leaves of which issuers, and what each trusted. Proxies verify each
 * other both ways, so one refused direction is enough; the requests for leaves show the client's certificate to nobody.
 */
function foretells(plan: Plan, failure: HandshakeFailure): boolean {
  // The API server and the injector have a CA of their own: nothing of it is the plan's.
  if (failure.link === 'webhook') return false
  const pairs = priceOf(plan)
  const client = classOf(failure.client)
  const server = failure.link === 'identity' ? 'identity' : classOf(failure.server)
  const refuses = (holder: string, leaf: string | null, verifier: string, trusts: readonly string[]): boolean => {
    const presents = leaf === null ? null : signerOf(leaf)
    return presents !== null && isForetold(pairs, { client: holder, server: verifier, presents, trusts })
  }
  if (refuses(server, failure.serverLeaf, client, failure.clientTrusts)) return true
  return failure.link !== 'identity' && refuses(client, failure.clientLeaf, server, failure.serverTrusts)
}

const prices = new WeakMap<Plan, readonly ForetoldPair[]>()

function priceOf(plan: Plan): readonly ForetoldPair[] {
  const known = prices.get(plan) ?? foretoldPairs(plan)
  prices.set(plan, known)
  return known
}

/** `site/namespace/pod` to the class of parties that the model knows. */
function classOf(party: string): string {
  const [, namespace = '', name = ''] = party.split('/')
  if (namespace === controlPlaneNamespace) return 'control-plane'
  return name.startsWith('linkerd-gateway-') ? 'gateway' : 'proxy'
}
