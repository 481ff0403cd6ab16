import type { LocalForge } from '../../forge/local.ts'
import type { Plan } from '../../rotation.ts'
import { foretoldPairs, isForetold } from '../../safety/price.ts'
import { gatewayRestart } from '../../systems/kyma/phases.ts'
import type { KymaProfile } from '../../systems/kyma/profile.ts'
import { applicationsAttested, type KymaRuntime, kymaOf } from '../../systems/kyma/settings.ts'
import type { Pair } from '../certificates.ts'
import type { ControlLink, HandshakeFailure } from '../handshakes.ts'
import { namespaceOf, secretOf } from '../manifests.ts'
import type { ObjectStore } from '../objects.ts'
import type { Site } from '../site.ts'
import {
  type DemoMoment,
  type RehearsalSystem,
  type SiteSystem,
  type StartingCa,
  type WorldOptions,
  withoutFirst,
} from '../system.ts'
import { gatewayServer, setupJobCa } from './certificates.ts'
import { Application, Runtime } from './clients.ts'
import { Connector, type Issued, signerOf } from './connector.ts'
import {
  demoApplications,
  demoKyma,
  demoRuntimes,
  isByArgo,
  kymaFleet,
  profileOf,
  scenarioOf,
  scenarios,
} from './fleet.ts'
import { GatewayPod } from './gateway.ts'
import { type RuntimeCluster, runtimeCluster } from './runtime-cluster.ts'

const day = 24
const leafHours = 92 * day
const host = `gateway.${demoKyma.domain}`

/** One simulated central cluster, with those who hold its certificates. */
export interface KymaSite {
  readonly connector: Connector
  readonly runtimes: readonly Runtime[]
  readonly applications: readonly Application[]
  readonly gateways: readonly GatewayPod[]
}

const sitesByStore = new WeakMap<ObjectStore, KymaSite>()

/** The Kyma of a rehearsal's site. */
export function kymaSiteOf(store: ObjectStore): KymaSite {
  const found = sitesByStore.get(store)
  if (found === undefined) throw new Error('no Kyma runs in this site')
  return found
}

/** The connector, the ingress gateway, runtimes in clusters of their own, and applications. */
export const kymaRehearsal: RehearsalSystem = {
  name: 'kyma',
  startWorld(options) {
    const names = partiesOf(options).map(({ name }) => name)
    const clusters = new Map(names.map(name => [name, runtimeCluster(name, options.clock)]))
    const startingCa = startingCas(options)
    return {
      crossSite: false,
      clusters: new Map([...clusters].map(([name, { cluster }]) => [name, cluster])),
      startSite: site => startSite(site, options, clusters, startingCa),
    }
  },
  demo: {
    rotation: 'kyma-2026',
    sites: ['central', 'central-2'],
    usualSites: 1,
    variantFlag: 'scenario',
    variants: scenarios,
    variantOf(declaration) {
      const { compromised } = kymaOf(declaration)
      if (declaration.strategy === 'graceful') return 'graceful'
      if (declaration.strategy === 'emergency') return `compromised-${compromised ?? 'key'}`
      return 'soon-to-expire'
    },
    byArgo: isByArgo,
    // Under one key old and new leaves chain to old and new roots alike, and an emergency has no way to leave: faults need a new key.
    faults: variant =>
      scenarioOf(variant) !== 'graceful'
        ? null
        : {
            widening: 'trust-both',
            switching: 'issue-new',
            cluster: {
              'never-reloads': {
                phase: 'issue-new',
                what: 'one runtime renews its certificate neither by itself nor when told',
              },
              'replica-lags': { phase: 'trust-both', what: 'one pod of the gateway misses the push of the new bundle' },
            },
            edit: folder => withoutFirst(folder, 'gateway-ca.pem'),
          },
    start: () => "the setup job's CA, two runtimes and two applications",
    fleet: kymaFleet,
    async declare(fleet, { rotation, sites, paths, ageRecipient, variant, now }) {
      const { runInit } = await import('../../declaration/init.ts')
      const written = await runInit({
        system: 'kyma',
        files: fleet,
        flags: {
          name: rotation,
          site: sites.map(name => `${name}=${paths[name] ?? `trust/${name}`}`),
          context: sites.map(name => `${name}=${name}`),
          delivery: sites.map(
            name => `${name}=${isByArgo(variant) ? 'argocd:argocd/trust' : 'flux:flux-system/trust'}`,
          ),
          age: [ageRecipient],
          forge: 'local',
        },
        existing: () => null,
        now,
        ask: null,
      })
      return { path: written.path, text: await engineersTouch(written.text, variant, sites) }
    },
    acceptsOutage: variant => scenarioOf(variant).startsWith('compromised-'),
    foretells,
    meanwhile,
    vouches: true,
    bundles(variant) {
      const { namespace, secret, key } = profileOf(variant).profile.gateway
      return [{ kind: 'Secret', namespace, name: secret, key }]
    },
    patience: 3 * 86_400_000,
    plansRestart(consumer, before, after) {
      if (!consumer.endsWith('/istio-ingressgateway')) return false
      return before.restarts[gatewayRestart] !== after.restarts[gatewayRestart]
    },
  },
}

/** Runtimes that hold a certificate: those that a user declared, else those of the demo. */
function partiesOf({
  declared,
  sites,
}: Pick<WorldOptions, 'declared' | 'sites'>): readonly Pick<KymaRuntime, 'name' | 'kind' | 'connection' | 'site'>[] {
  return declared === null ? demoRuntimesAt(sites) : kymaOf(declared).runtimes
}

/** With several central clusters, each runtime belongs to one of them. */
function demoRuntimesAt(sites: readonly string[]) {
  return demoRuntimes.map((runtime, index) => ({
    ...runtime,
    site: sites.length === 1 ? null : (sites[index % sites.length] ?? null),
  }))
}

/** What an engineer writes into what `init` wrote: the strategy, the runtimes, and who vouches for applications. */
async function engineersTouch(text: string, variant: string | null, sites: readonly string[]): Promise<string> {
  const { parseDocument } = await import('yaml')
  const document = parseDocument(text)
  const scenario = scenarioOf(variant)
  const strategy = { 'soon-to-expire': 'renew', graceful: 'graceful' }[scenario as string] ?? 'emergency'
  document.setIn(['spec', 'strategy'], strategy)
  if (strategy === 'emergency') document.setIn(['spec', 'kyma', 'compromised'], scenario.replace('compromised-', ''))
  document.setIn(
    ['spec', 'kyma', 'runtimes'],
    demoRuntimesAt(sites).map(({ site, ...runtime }) => ({
      ...runtime,
      context: runtime.name,
      ...(site === null ? {} : { site }),
    })),
  )
  document.setIn(
    ['spec', 'gates', 'attest'],
    [{ name: applicationsAttested, why: 'owners of crm and billing have renewed their certificates' }],
  )
  return document.toString()
}

/** A CA for each site. Central clusters that renew theirs in one rotation have one and the same. */
function startingCas({ variant, sharedRoot, life }: WorldOptions): () => Promise<Pair> {
  const soon = scenarioOf(variant) === 'soon-to-expire'
  const make = (): Promise<Pair> => setupJobCa(life(soon ? 12 * day : leafHours))
  if (!soon || !sharedRoot) return make
  let common: Promise<Pair> | null = null
  return () => {
    common ??= make()
    return common
  }
}

function startSite(
  site: Site,
  options: WorldOptions,
  clusters: ReadonlyMap<string, RuntimeCluster>,
  startingCa: () => Promise<Pair>,
): SiteSystem {
  const profile: KymaProfile = options.declared === null ? profileOf(options.variant).profile : kymaOf(options.declared)
  const pods = new Set<GatewayPod>()
  const connector = new Connector(site, profile.signer)
  const changed = (): void => site.handshakes.controlChanged()
  let server: (Pair & { readonly root: string }) | null = null
  let ca: Pair | null = null

  const serving = (): readonly GatewayPod[] => [...pods].filter(pod => pod.endpoint !== null)
  const link = (kind: 'runtime' | 'application', name: string, identity: Issued, pod: GatewayPod): ControlLink => ({
    link: kind,
    client: `${site.name}/${kind}/${name}`,
    server: pod.id,
    endpoint: pod.endpoint as NonNullable<typeof pod.endpoint>,
    roots: server?.root ?? '',
    serverName: host,
    identity: { chain: identity.certificate, key: identity.key },
    alpn: 'h2',
  })
  // A client reaches whichever pod the service picks.
  let turn = 0
  const meets =
    (kind: 'runtime' | 'application', name: string) =>
    async (identity: Issued): Promise<string | null> => {
      const up = serving()
      const pod = up[turn++ % Math.max(1, up.length)]
      if (pod === undefined) return 'connection refused'
      const ok = await site.handshakes.control(link(kind, name, identity, pod))
      return ok ? null : 'remote error: tls: bad certificate'
    }
  const own = partiesOf(options).filter(runtime => runtime.site === null || runtime.site === site.name)
  const runtimes = own.map(({ name, kind, connection }) => {
    const own = clusters.get(name)
    if (own === undefined) throw new Error(`runtime ${name} has no cluster`)
    return new Runtime({
      site,
      connector,
      changed,
      name,
      kind,
      connection,
      store: own.store,
      meets: meets('runtime', name),
      // Compass hands out certificates for a day (compass#1562).
      hours: kind === 'compass' ? day : leafHours,
    })
  })
  // Whoever declares that no application holds a certificate is taken at their word.
  const none = options.declared !== null && !kymaOf(options.declared).applications
  const applications = (none ? [] : demoApplications).map(
    name => new Application({ site, connector, changed, name, meets: meets('application', name), hours: leafHours }),
  )
  site.handshakes.addControls(() =>
    serving().flatMap(pod =>
      [
        ...runtimes.map(each => ['runtime', each] as const),
        ...applications.map(each => ['application', each] as const),
      ].flatMap(([kind, { name, identity }]) => (identity === null ? [] : [link(kind, name, identity, pod)])),
    ),
  )
  site.store.onChange(({ what, object }) => {
    if (what === 'status' || object.kind !== 'Secret' || object.metadata.namespace !== profile.gateway.namespace) return
    for (const pod of pods) pod.secretChanged()
  })
  sitesByStore.set(site.store, {
    connector,
    runtimes,
    applications,
    get gateways() {
      return serving()
    },
  })

  return {
    async bootstrap() {
      server = await gatewayServer(host, options.life(365 * day), size => Buffer.alloc(size, 5))
      ca = await startingCa()
      const { signer, gateway } = profile
      for (const namespace of new Set([gateway.namespace, signer.namespace, 'kyma-system']))
        site.store.put(namespaceOf(namespace), 'kubectl-create')
      const job = 'application-connectivity-certs-setup-job'
      const signing = secretOf(signer.secret, signer.namespace, {
        [signer.certificateKey]: ca.certificate,
        [signer.privateKey]: ca.key,
      })
      if (options.sealing) signing.metadata.annotations = { 'sealedsecrets.bitnami.com/managed': 'true' }
      site.store.put(signing, job)
      const certificates = secretOf(gateway.secret, gateway.namespace, { [gateway.key]: ca.certificate })
      site.store.put(certificates, job)
      if (gateway.form === 'sds') {
        // certs-sync of Kyma 1.18 patches the server certificate into the same Secret.
        const live = site.store.get('', 'Secret', gateway.namespace, gateway.secret)
        if (live !== null)
          site.store.update(live, 'certs-sync', next => {
            const encoded = (text: string): string => Buffer.from(text).toString('base64')
            next.data = {
              ...(next.data as Record<string, string>),
              'tls.crt': encoded(server?.certificate ?? ''),
              'tls.key': encoded(server?.key ?? ''),
            }
          })
      }
      site.store.put(gatewayDeployment(profile.gateway), 'istio-operator')
      for (const runtime of runtimes) await runtime.onboard(runtime.kind === 'compass' ? 15.5 : 30 * day)
      for (const application of applications) await application.onboard()
    },
    process(pod, { files, ready }) {
      if (pod.metadata.labels?.app !== 'istio-ingressgateway' || server === null) return null
      const { form, credential, key, secret } = profile.gateway
      const process = new GatewayPod(site, pod, {
        form,
        credential,
        key,
        secret,
        server,
        files: () => files('ca'),
        ready,
        changed,
      })
      pods.add(process)
      return process
    },
    startingCa(): StartingCa {
      const { certificate, key } = ca ?? { certificate: '', key: '' }
      return { source: 'plugged', certificate, key, root: certificate }
    },
    up: () => serving().length > 0,
    strike(fault) {
      if (fault === 'never-reloads') {
        const [runtime] = runtimes
        if (runtime !== undefined) runtime.stubborn = true
        return {
          culprit: () => (runtime === undefined ? null : `${runtime.name}/CentralConnection/${runtime.connection}`),
          recover() {
            if (runtime !== undefined) runtime.stubborn = false
          },
        }
      }
      const [pod] = serving()
      if (pod !== undefined) pod.deaf = true
      return {
        culprit: () => pod?.id.slice(site.name.length + 1) ?? null,
        recover() {
          if (pod === undefined) return
          pod.deaf = false
          pod.secretChanged()
        },
      }
    },
  }
}

/** As Kyma's production profile has it: three replicas, which a roll-out never reduces. */
function gatewayDeployment(gateway: ReturnType<typeof profileOf>['profile']['gateway']) {
  const labels = { app: 'istio-ingressgateway', istio: 'ingressgateway' }
  const volumes =
    gateway.form === 'mount'
      ? { volumes: [{ name: 'ca', secret: { secretName: gateway.secret, optional: true } }] }
      : {}
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: gateway.deployment, namespace: gateway.namespace, labels },
    spec: {
      replicas: 3,
      selector: { matchLabels: labels },
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: '100%', maxUnavailable: 0 } },
      template: {
        metadata: { labels },
        spec: { containers: [{ name: 'istio-proxy', image: 'istio/proxyv2:1.11' }], ...volumes },
      },
    },
  }
}

/** Whoever renews by itself within two hours is not told. */
const patienceWithRuntimes = 2 * 3_600_000

const toldBy = new WeakMap<DemoMoment['rehearsal'], Set<string>>()

/** When each runtime was last told, in milliseconds of the rehearsal. */
const askedAt = new WeakMap<Runtime, number>()
const askedAgainAfter = 3_600_000

/**
 * What people do while `next` waits: they renew in the runtime of the older kind, or bring it a new token where it is refused; the owners of applications renew, and then
 * somebody vouches for them. A runtime that the gate still names an hour later is told once more, as it may have hung when it was told first. A runtime that soon renews by itself, as that of Compass does in the demo, is left to it unless it is refused. Each is done once for each CA
 * that the connector is given.
 */
async function meanwhile({ context, rotation, rehearsal, gates }: DemoMoment): Promise<void> {
  const { loadRotation } = await import('../../commands/rotation.ts')
  const opened = await loadRotation(context.repository, { rotation, base: 'main' })
  const refused = foretoldPairs(opened.plan).length > 0
  const waitsFor = (id: string): boolean => gates.some(gate => gate.id === id && gate.verdict !== 'holds')
  const rolling = ['delivery/applied', 'kyma/secrets', 'kyma/gateway-rolled', 'kyma/gateway-trusts'].some(waitsFor)
  if (rolling || !(waitsFor('kyma/runtimes-renewed') || waitsFor('kyma/attested'))) return
  const named = gates
    .filter(({ id, verdict }) => id === 'kyma/runtimes-renewed' && verdict !== 'holds')
    .map(({ because, hint }) => [...because, hint].join())
    .join()
  const done = toldBy.get(rehearsal) ?? new Set<string>()
  toldBy.set(rehearsal, done)
  for (const { name, store } of rehearsal.sites.values()) {
    const { runtimes, applications, connector } = kymaSiteOf(store)
    const given = `${name}/${connector.version}`
    for (const runtime of runtimes) {
      const id = `${given}/${runtime.name}`
      const told = askedAt.get(runtime) ?? 0
      const again = named.includes(runtime.name) && rehearsal.clock.elapsed() - told >= askedAgainAfter
      if (done.has(id) && !again) continue
      done.add(id)
      askedAt.set(runtime, rehearsal.clock.elapsed())
      if (refused) runtime.request()
      else if (runtime.renewsIn > patienceWithRuntimes) runtime.ask()
    }
    for (const application of applications) {
      const id = `${given}/${application.name}`
      if (done.has(id)) continue
      if ((!refused && (await application.renew())) || (await application.onboard())) done.add(id)
    }
  }
  const issuing = [...rehearsal.sites.values()].map(({ store }) => kymaSiteOf(store).connector.version).join(' ')
  if (!waitsFor('kyma/attested') || done.has(`${rotation}/${issuing}/attested`)) return
  done.add(`${rotation}/${issuing}/attested`)
  const phase = opened.plan.phases.find(({ name }) => name === 'issue-new' || name === 'replace')?.number ?? 0
  const { attest } = await import('../../commands/attest.ts')
  // Rehearsals have the forge of this machine, on which people merge by a command too.
  const forge = (await context.openForge(opened.declaration)) as LocalForge
  for (const { name } of opened.plan.gates.attest) {
    const { pullRequest } = await attest(context, { rotation, base: null, name, phase, by: context.author.name })
    if (pullRequest !== null)
      await forge.merge(pullRequest.number, { method: 'merge', by: context.author, at: context.now() })
  }
}

/** Whether the plan's price names this failure: which class of client met the gateway, with a leaf of which CA, and what the gateway trusted. */
function foretells(plan: Plan, failure: HandshakeFailure): boolean {
  const [, client = ''] = failure.client.split('/')
  const presents = failure.clientLeaf === null ? null : signerOf(failure.clientLeaf)
  if (presents === null) return false
  return isForetold(foretoldPairs(plan), { client, server: 'gateway', presents, trusts: failure.serverTrusts })
}
