import { istioOf } from '../../systems/istio/settings.ts'
import { companyRoot, issuingCa, type Pair } from '../certificates.ts'
import type { ClusterFault } from '../faults.ts'
import type { Handshakes } from '../handshakes.ts'
import { secretOf } from '../manifests.ts'
import { listAt, type Manifest, type StoredObject, textAt } from '../objects.ts'
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
} from '../system.ts'
import { Agent, rootVolume } from './agent.ts'
import { demoFleet, type FleetInstall, fleetInstalls } from './fleet.ts'
import { Injector } from './injection.ts'
import { ControlPlane, Istiod, rootConfigMap } from './istiod.ts'
import { istioNamespace } from './names.ts'
import { Installer } from './sail.ts'

const tenYears = 10 * 365 * 24
/** The second of two: replicas are spread over both. */
const laggingNode = 'node-2'

/** istiod, its injector and its installers, and the proxies of one site. */
export class IstioSite implements SiteSystem {
  readonly plane: ControlPlane
  readonly #site: Site
  readonly #injector: Injector
  readonly #sealing: boolean
  readonly #plugged: { readonly issuing: Pair; readonly root: Pair } | null
  readonly #processes = new Set<Agent | Istiod>()

  constructor(site: Site, options: WorldOptions, root: Pair | null) {
    this.#site = site
    this.#sealing = options.sealing
    this.plane = new ControlPlane(site)
    this.#injector = new Injector(site, this.plane)
    new Installer(site)
    this.#plugged = root === null ? null : { issuing: issuingCa(root, site.name, options.life(tenYears / 2)), root }
    site.handshakes.addControls(() => this.#controls())
  }

  bootstrap(): void {
    if (this.#plugged === null) return
    const { store } = this.#site
    const { issuing, root } = this.#plugged
    store.put({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: istioNamespace } }, 'kubectl-create')
    const secret = secretOf('cacerts', istioNamespace, {
      'ca-cert.pem': issuing.certificate,
      'ca-key.pem': issuing.key,
      'cert-chain.pem': issuing.certificate + root.certificate,
      'root-cert.pem': root.certificate,
    })
    // A Secret that its controller did not make is taken over only where its owner allows it.
    if (this.#sealing) secret.metadata.annotations = { 'sealedsecrets.bitnami.com/managed': 'true' }
    store.put(secret, 'kubectl-create')
  }

  process(pod: StoredObject, { files, ready }: PodMeans): PodProcess | null {
    const made = this.#processOf(pod, files, ready)
    if (made !== null) this.#processes.add(made)
    return made
  }

  #processOf(pod: StoredObject, files: PodMeans['files'], ready: () => void): Agent | Istiod | null {
    if (pod.metadata.labels?.app === 'istiod')
      return new Istiod(this.#site, this.plane, pod, () => files('cacerts'), ready)
    const containers = [...listAt(pod, 'spec', 'containers'), ...listAt(pod, 'spec', 'initContainers')]
    if (!containers.some(container => textAt(container, 'name') === 'istio-proxy')) return null
    return new Agent(this.#site, this.plane, pod, () => files(rootVolume), ready)
  }

  async admit(pod: Manifest): Promise<boolean> {
    return !this.#injector.concerns(pod) || (await this.#injector.inject(pod))
  }

  startingCa(): StartingCa {
    if (this.#plugged !== null) {
      const { issuing, root } = this.#plugged
      return { ...issuing, source: 'plugged', root: root.certificate }
    }
    const secret = this.#site.store.get('', 'Secret', istioNamespace, 'istio-ca-secret')
    const text = (key: string): string => Buffer.from(textAt(secret, 'data', key) ?? '', 'base64').toString('utf8')
    return { source: 'own', certificate: text('ca-cert.pem'), key: text('ca-key.pem'), root: text('ca-cert.pem') }
  }

  up(): boolean {
    return this.#agents().length > 0
  }

  strike(fault: ClusterFault, target: string | undefined): Struck | null {
    const { faults, handshakes, name, store } = this.#site
    if (fault === 'never-reloads') {
      const struck = target ?? firstSidecar(handshakes, name)
      if (struck !== null) faults.frozen.add(struck)
      return { culprit: () => struck, recover: () => void (struck !== null && faults.frozen.delete(struck)) }
    }
    if (fault !== 'replica-lags') return null
    const before = store.get('', 'Secret', istioNamespace, 'cacerts')
    const remembered = before === null ? null : structuredClone(before)
    faults.staleNodes.set(laggingNode, new Map([[`Secret/${istioNamespace}/cacerts`, remembered]]))
    return {
      culprit: () => {
        const replica = this.plane.serving.find(entry => nodeOf(entry.pod) === laggingNode)
        return replica === undefined ? null : podKey(replica.pod)
      },
      recover: () => void faults.staleNodes.delete(laggingNode),
    }
  }

  /** The root with which an agent verifies istiod: Envoy's admin port shows what workloads trust, and not this file. */
  readsUnseen(source: string): boolean {
    return source.startsWith('ConfigMap/') && source.endsWith(`/${rootConfigMap}`)
  }

  /** Proxies that run; those that have stopped are forgotten. */
  #agents(): readonly Agent[] {
    const agents: Agent[] = []
    for (const process of this.#processes) {
      if (!(process instanceof Agent)) continue
      if (process.running) agents.push(process)
      else this.#processes.delete(process)
    }
    return agents
  }

  /** Every proxy against every istiod. */
  #controls() {
    const { name } = this.#site
    return this.#agents().flatMap(agent =>
      agent.endpoint === null || agent.projectedRoots === ''
        ? []
        : this.plane.serving.flatMap(replica =>
            replica.endpoint === null
              ? []
              : [
                  {
                    link: 'istiod',
                    client: `${name}/${podKey(agent.pod)}`,
                    server: `${name}/${podKey(replica.pod)}`,
                    endpoint: replica.endpoint,
                    roots: agent.projectedRoots,
                    serverName: `istiod.${istioNamespace}.svc`,
                  },
                ],
          ),
    )
  }
}

function firstSidecar(handshakes: Handshakes, site: string): string | null {
  return (
    handshakes.parties.find(
      party => party.site === site && party.owner.includes('/Deployment/') && !party.owner.startsWith('ingress/'),
    )?.owner ?? null
  )
}

const demo: DemoSystem = {
  rotation: 'mesh-2026',
  sites: ['eu-1', 'us-1', 'ap-1', 'eu-2', 'us-2', 'ap-2'],
  usualSites: 1,
  variantFlag: 'install',
  variants: fleetInstalls,
  variantOf(declaration) {
    if (declaration.sites.some(site => site.delivery.kind === 'argocd')) return 'argocd'
    return istioOf(declaration).install === 'helmRelease' ? 'helmRelease' : 'sail'
  },
  byArgo: variant => variant === 'argocd' || variant === 'argocdMultiSource',
  faults: () => ({
    widening: 'trust-both',
    switching: 'issue-new',
    cluster: {
      'never-reloads': { phase: 'trust-both', what: 'the agent of one workload hangs' },
      'replica-lags': { phase: 'issue-new', what: `the kubelet of ${laggingNode} no longer sees changes of cacerts` },
    },
    edit: folder => withoutFirst(folder, 'root-cert.pem'),
  }),
  troubles: ['split-replicas', 'split-entries'],
  bundles: () => [{ kind: 'Secret', namespace: istioNamespace, name: 'cacerts', key: 'root-cert.pem' }],
  start: sharedRoot => (sharedRoot ? 'one plugged root' : "istiod's self-signed CA"),
  fleet: ({ variant, ...options }) => demoFleet({ ...options, install: installOf(variant) }),
  async declare(fleet, options) {
    const { runInit } = await import('../../declaration/init.ts')
    const byArgo = demo.byArgo(options.variant)
    const { sites, paths } = options
    return await runInit({
      files: fleet,
      flags: {
        name: options.rotation,
        site: sites.map(name => `${name}=${paths[name] ?? `trust/${name}`}`),
        context: sites.map(name => `${name}=${name}`),
        delivery: sites.map(name => `${name}=${deliveryOf(name, sites.length, byArgo)}`),
        age: [options.ageRecipient],
        forge: 'local',
      },
      existing: () => null,
      now: options.now,
      ask: null,
    })
  },
  /** istiod restarts where its flags or its token change; a workload where its token does. */
  plansRestart(consumer, before, after) {
    if (/\/istiod[^/]*$/.test(consumer))
      return !equal(before.settings, after.settings) || before.restarts.istiod !== after.restarts.istiod
    const workloads = (of: typeof before) => Object.entries(of.restarts).filter(([key]) => key.startsWith('workloads'))
    return !equal(workloads(before), workloads(after))
  },
}

function equal(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other)
}

function installOf(variant: string | null): FleetInstall {
  return fleetInstalls.find(name => name === variant) ?? 'sail'
}

/** One Argo CD may serve several clusters, so its Applications differ by name. */
function deliveryOf(site: string, sites: number, byArgo: boolean): string {
  if (!byArgo) return 'flux:flux-system/trust'
  return sites === 1 ? 'argocd:argocd/trust' : `argocd:argocd/trust-${site}`
}

export const istioRehearsal: RehearsalSystem = {
  name: 'istio',
  startWorld(options) {
    const root = options.sharedRoot ? companyRoot('Fleet Root 1', options.life(tenYears)) : null
    return {
      crossSite: options.sharedRoot && options.sites.length > 1,
      startSite: site => new IstioSite(site, options, root),
    }
  },
  demo,
}
