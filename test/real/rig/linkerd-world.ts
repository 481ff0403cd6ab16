import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LinkerdFlow } from '../../../src/systems/linkerd/version.ts'
import { startArgoCd } from './argocd.ts'
import { output, rustlsProxy } from './components.ts'
import { type ControlPlane, startControlPlane } from './control-plane.ts'
import { fingerprintOf } from './fingerprint.ts'
import { type Flux, startFlux } from './flux.ts'
import { type Kubelet, startKubelet } from './kubelet.ts'
import {
  documents,
  type IssuerScheme,
  type LinkerdWorkload,
  linkerdMesh,
  linkerdNamespace,
  shopNamespace,
  shopObjects,
  trustDomain,
} from './linkerd-fleet.ts'
import type { Network } from './network.ts'
import { type Manifest, secretData } from './objects.ts'
import {
  argoApplication,
  decryptionSecret,
  type FleetRepository,
  fluxKustomization,
  kustomization,
  type RepositoryMaker,
  syncOf,
} from './repository.ts'
import { startSealedSecrets } from './sealed-secrets.ts'
import { startServiceProxy } from './service-proxy.ts'
import { sourceOf, startSourceController } from './source-controller.ts'
import { type TrafficWatch, watchTraffic } from './traffic.ts'
import { ready } from './watch.ts'

export const linkerdSite = 'eu-1'

/** A whole `graceful` rotation, step by step, by whatever flow. */
export const linkerdSteps: readonly string[] = [
  'plan',
  '0-adopt/1-adopt',
  '1-trust-both/1-data',
  '1-trust-both/2-control-plane',
  '1-trust-both/3-data-plane',
  '2-issue-new/1-data',
  '3-trust-new/1-data',
  '3-trust-new/2-control-plane',
  '3-trust-new/3-data-plane',
  '4-close',
]

/** A cluster with the rig's stand-ins of Linkerd's control plane and proxies, and nobody who delivers. */
export interface LinkerdCluster {
  readonly plane: ControlPlane
  readonly kubelet: Kubelet
  readonly traffic: TrafficWatch
  /** What `linkerd install` was given. */
  readonly starting: StartingMaterial
  /** Ends with the cluster, before what was started earlier. */
  onStop(stop: () => Promise<void>): void
  stop(): Promise<void>
}

/** A cluster whose mesh and workloads come from a repository. */
export interface DeliveredLinkerd extends LinkerdCluster {
  /** kubeconfig of the verifier: the ServiceAccount of roles/, and nothing besides. */
  readonly verifier: string
}

/** A cluster, delivered by the real Flux. */
export interface LinkerdWorld extends DeliveredLinkerd {
  readonly flux: Flux
}

export interface LinkerdClusterOptions {
  readonly network: Network
  readonly scheme: IssuerScheme
  /** In the repository: a step restarts them. */
  readonly owned: readonly LinkerdWorkload[]
  /** Applied by hand, by a team that keeps its manifests elsewhere. */
  readonly foreign?: readonly LinkerdWorkload[]
}

export interface LinkerdWorldOptions extends LinkerdClusterOptions {
  /** Which flow rotates it, and so which release it is of. @default trust-roots */
  readonly flow?: LinkerdFlow
  /** As `-identity-issuance-lifetime` takes it. */
  readonly leafLife: string
  /** Milliseconds between two requests of one workload to one peer. */
  readonly interval: number
}

const controlPlaneDeployments = ['linkerd-identity', 'linkerd-destination', 'linkerd-proxy-injector'] as const

/** Starts what Linkerd runs on, with what is in the cluster by hand; who declares it is up to the caller. */
export async function startLinkerdCluster(options: LinkerdClusterOptions): Promise<LinkerdCluster> {
  const { network, scheme, owned, foreign = [] } = options
  const stops: (() => Promise<void>)[] = []
  const stop = async (): Promise<void> => {
    for (const each of stops.splice(0).reverse()) await each()
  }
  try {
    // Cargo takes its time, and no pod should have to wait for it.
    await rustlsProxy()
    const folder = await mkdtemp(join(tmpdir(), 'ra-linkerd-'))
    stops.push(() => rm(folder, { recursive: true, force: true }))
    const starting = await makeMaterial(folder)
    const plane = await startControlPlane({ name: linkerdSite, network })
    stops.push(() => plane.stop())
    const kubelet = await startKubelet(plane, {})
    stops.push(() => kubelet.stop())
    const traffic = await watchTraffic(kubelet, null)
    stops.push(() => traffic.stop())
    await install(plane, starting, scheme)
    const proxy = await startServiceProxy(plane, [
      { namespace: linkerdNamespace, name: 'linkerd-identity' },
      { namespace: linkerdNamespace, name: 'linkerd-proxy-injector' },
      ...[...owned, ...foreign].map(({ name }) => ({ namespace: shopNamespace, name })),
    ])
    stops.push(() => proxy.stop())
    return { plane, kubelet, traffic, starting, onStop: each => void stops.push(each), stop }
  } catch (cause) {
    await stop()
    throw cause
  }
}

/** `linkerd install | kubectl apply`, and the workloads likewise. */
export async function applyByHand(cluster: LinkerdCluster, options: LinkerdWorldOptions): Promise<void> {
  const { plane, starting } = cluster
  const files = meshOf(starting, options)
  for (const file of ['config', 'control-plane', 'webhook']) {
    await plane.objects.applyYaml(files[`linkerd/${linkerdSite}/${file}.yaml`] ?? '', 'kubectl-client-side-apply')
  }
  await ready(cluster, linkerdNamespace, controlPlaneDeployments)
  await plane.objects.applyYaml(documents(shopOf(starting, options, options.owned)), 'kubectl-client-side-apply')
  await ready(
    cluster,
    shopNamespace,
    options.owned.map(({ name }) => name),
  )
}

/** A cluster with Flux, which applies this repository: it is the caller's, as `linkerdFleet` begins it. */
export async function startLinkerdWorld(
  options: LinkerdWorldOptions,
  repository: FleetRepository,
): Promise<LinkerdWorld> {
  const cluster = await startLinkerdCluster(options)
  try {
    const { plane } = cluster
    const flux = await startFlux(plane, { flags: ['--requeue-dependency=2s'] })
    cluster.onStop(() => flux.stop())
    await plane.objects.apply(decryptionSecret(repository))
    const source = await startSourceController(plane, sourceOf(repository))
    cluster.onStop(() => source.stop())
    await plane.objects.applyYaml(syncOf(linkerdSite), 'flux')
    const sync = (name: string, more: string): string =>
      fluxKustomization(name, `./${name}/${linkerdSite}`, 'Brought by Flux.', more)
    return {
      ...(await populate(cluster, options, repository, {
        mesh: sync('linkerd', '  wait: true\n'),
        apps: sync('apps', '  dependsOn:\n    - name: linkerd\n'),
      })),
      flux,
    }
  } catch (cause) {
    await cluster.stop()
    throw cause
  }
}

/** The same under Argo CD, with the Sealed Secrets controller. The repository, which is the caller's to close, is made when there is a certificate to seal to. */
export async function startLinkerdUnderArgo<R extends FleetRepository>(
  options: LinkerdWorldOptions,
  make: RepositoryMaker<R>,
): Promise<{ readonly world: DeliveredLinkerd; readonly repository: R }> {
  const cluster = await startLinkerdCluster(options)
  let repository: R | null = null
  try {
    const { plane } = cluster
    const sealedSecrets = await startSealedSecrets(plane)
    cluster.onStop(() => sealedSecrets.stop())
    const argo = await startArgoCd(plane)
    cluster.onStop(() => argo.stop())
    const certificate = await sealedSecrets.certificate()
    repository = await make(url => ({
      'README.md':
        '# Fleet\n\nArgo CD applies `clusters/<cluster>`, whose Applications lead to the mesh and the apps.\n',
      'sealed-secrets.pem': certificate,
      [`clusters/${linkerdSite}/root.yaml`]: argoApplication('root', url, `clusters/${linkerdSite}`, 'argocd', {}),
    }))
    await argo.reads(repository)
    const { url, clone } = repository
    await plane.objects.applyFile(join(clone, `clusters/${linkerdSite}/root.yaml`), 'kubectl-client-side-apply')
    const application = (name: string, namespace: string): string =>
      argoApplication(name, url, `${name}/${linkerdSite}`, namespace, {})
    const declared = { mesh: application('linkerd', linkerdNamespace), apps: application('apps', shopNamespace) }
    return { world: await populate(cluster, options, repository, declared), repository }
  } catch (cause) {
    await repository?.close()
    await cluster.stop()
    throw cause
  }
}

/** As people begin: the mesh first, for what is applied before the injector is asked stays without a proxy. */
async function populate(
  cluster: LinkerdCluster,
  options: LinkerdWorldOptions,
  repository: FleetRepository,
  /** What tells the deliverer of the folders `linkerd/<cluster>` and `apps/<cluster>`. */
  declared: { readonly mesh: string; readonly apps: string },
): Promise<DeliveredLinkerd> {
  const { plane, starting } = cluster
  const { owned, foreign = [] } = options
  const clusters = `clusters/${linkerdSite}`
  await repository.commit({ [`${clusters}/linkerd.yaml`]: declared.mesh, ...meshOf(starting, options) }, 'The mesh')
  await ready(cluster, linkerdNamespace, controlPlaneDeployments)
  const objects = shopOf(starting, options, [...owned, ...foreign])
  const names = new Set(foreign.map(({ name }) => name))
  const isForeign = (object: Manifest): boolean => names.has(object.metadata.name)
  const shop = {
    [`${clusters}/apps.yaml`]: declared.apps,
    [`apps/${linkerdSite}/kustomization.yaml`]: kustomization(['shop.yaml']),
    [`apps/${linkerdSite}/shop.yaml`]: documents(objects.filter(object => !isForeign(object))),
  }
  await repository.commit(shop, 'The shop')
  await ready(
    cluster,
    shopNamespace,
    owned.map(({ name }) => name),
  )
  await plane.objects.applyYaml(documents(objects.filter(isForeign)), 'kubectl-client-side-apply')
  await ready(cluster, shopNamespace, [...names])
  return { ...cluster, verifier: await plane.kubeconfigOf('reanchor', 'reanchor-verifier') }
}

function meshOf(
  { root, webhook }: StartingMaterial,
  { flow = 'trust-roots', scheme, leafLife }: Pick<LinkerdWorldOptions, 'flow' | 'scheme' | 'leafLife'>,
): Record<string, string> {
  return linkerdMesh({ site: linkerdSite, flow, scheme, leafLife, root, webhookCa: webhook.ca })
}

function shopOf(
  { root }: StartingMaterial,
  { flow = 'trust-roots', interval }: Pick<LinkerdWorldOptions, 'flow' | 'interval'>,
  workloads: readonly LinkerdWorkload[],
): readonly Manifest[] {
  return shopObjects(workloads, interval, { flow, root })
}

/** What is in the cluster by hand: the namespace, keys that stand in no repository, and the verifier's rights. */
async function install(plane: ControlPlane, starting: StartingMaterial, scheme: IssuerScheme): Promise<void> {
  const { objects } = plane
  const labels = { 'config.linkerd.io/admission-webhooks': 'disabled', 'linkerd.io/is-control-plane': 'true' }
  await objects.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: linkerdNamespace, labels } })
  const secret = (name: string, type: string, data: Readonly<Record<string, string>>) => ({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name, namespace: linkerdNamespace },
    type,
    data: secretData(data),
  })
  await objects.apply(issuerSecret(scheme, starting), 'kubectl-create')
  const { certificate, key } = starting.webhook
  const webhook = { 'tls.crt': certificate, 'tls.key': key }
  await objects.apply(secret('linkerd-proxy-injector-k8s-tls', 'kubernetes.io/tls', webhook), 'kubectl-create')
  await objects.applyFile('roles/linkerd.yaml')
  await objects.applyFile('roles/linkerd-portforward.yaml')
}

/** The issuer's Secret in either of its two forms. `linkerd.io/tls` is a scheme, and no type: such a Secret is Opaque. */
export function issuerSecret(
  scheme: IssuerScheme,
  { root, issuer, issuerKey }: Pick<StartingMaterial, 'root' | 'issuer' | 'issuerKey'>,
) {
  const external = scheme === 'kubernetes.io/tls'
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: {
      name: 'linkerd-identity-issuer',
      namespace: linkerdNamespace,
      labels: { 'linkerd.io/control-plane-component': 'identity', 'linkerd.io/control-plane-ns': linkerdNamespace },
    },
    type: external ? 'kubernetes.io/tls' : 'Opaque',
    data: secretData(
      external
        ? { 'ca.crt': root, 'tls.crt': issuer, 'tls.key': issuerKey }
        : { 'crt.pem': issuer.trimEnd(), 'key.pem': issuerKey.trimEnd() },
    ),
  }
}

export interface StartingMaterial {
  readonly root: string
  readonly issuer: string
  readonly issuerKey: string
  /** SHA-256 of DER, lower-case hex. */
  readonly rootSha256: string
  readonly issuerSha256: string
  /** The API server's way to the injector: a CA and a certificate of their own. */
  readonly webhook: { readonly ca: string; readonly certificate: string; readonly key: string }
}

/** Root and issuer as the guide has them made with `step`: P-256, path lengths of 1 and 0, the key as SEC1. */
export async function makeMaterial(folder: string): Promise<StartingMaterial> {
  const openssl = (...args: string[]): Promise<string> => output('openssl', args, { cwd: folder })
  const authority = (pathLength: number): string =>
    `basicConstraints=critical,CA:TRUE,pathlen:${pathLength}\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n`
  const pair = async (name: string, subject: string, extensions: string, signer: string | null): Promise<void> => {
    await openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', `${name}.key`)
    await openssl('req', '-new', '-sha256', '-key', `${name}.key`, '-subj', subject, '-out', `${name}.csr`)
    await writeFile(join(folder, `${name}.ext`), extensions)
    const by =
      signer === null
        ? ['-signkey', `${name}.key`]
        : ['-CA', `${signer}.crt`, '-CAkey', `${signer}.key`, '-CAcreateserial']
    await openssl(
      'x509',
      '-req',
      '-sha256',
      '-in',
      `${name}.csr`,
      ...by,
      '-days',
      '365',
      '-extfile',
      `${name}.ext`,
      '-out',
      `${name}.crt`,
    )
  }
  const identity = `identity.${linkerdNamespace}.${trustDomain}`
  await pair('root', `/CN=root.${linkerdNamespace}.${trustDomain}`, authority(1), null)
  await pair('issuer', `/CN=${identity}`, `${authority(0)}subjectAltName=DNS:${identity}\n`, 'root')
  const injector = `linkerd-proxy-injector.${linkerdNamespace}.svc`
  await pair('webhook-ca', `/CN=${injector}`, authority(0), null)
  await pair(
    'webhook',
    `/CN=${injector}`,
    `subjectAltName=DNS:${injector}\nextendedKeyUsage=serverAuth\n`,
    'webhook-ca',
  )
  const read = (file: string): Promise<string> => readFile(join(folder, file), 'utf8')
  const root = await read('root.crt')
  const issuer = await read('issuer.crt')
  return {
    root,
    issuer,
    issuerKey: await read('issuer.key'),
    rootSha256: fingerprintOf(root),
    issuerSha256: fingerprintOf(issuer),
    webhook: {
      ca: await read('webhook-ca.crt'),
      certificate: await read('webhook.crt'),
      key: await read('webhook.key'),
    },
  }
}
