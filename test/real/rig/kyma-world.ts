import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { stringify } from 'yaml'
import { startArgoCd } from './argocd.ts'
import { output } from './components.ts'
import { type ControlPlane, startControlPlane } from './control-plane.ts'
import { type Flux, startFlux } from './flux.ts'
import { isRolledOut } from './istio.ts'
import { applyKinds, bareKind } from './kinds.ts'
import { type Kubelet, startKubelet } from './kubelet.ts'
import { type KymaClient, type KymaClients, startKymaClients } from './kyma-clients.ts'
import { startConnector } from './kyma-connector.ts'
import { gatewayObjects, kymaNames, startCredentialPusher } from './kyma-gateway.ts'
import type { Network } from './network.ts'
import { type Place, secretData } from './objects.ts'
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
import { until } from './server.ts'
import { sourceOf, startSourceController } from './source-controller.ts'

export const centralSite = 'central'
/** The one runtime, and the name of its cluster's context. */
export const runtimeName = 'shop'

/** Kyma's central cluster and the cluster of one runtime, and nobody who delivers. */
export interface KymaClusters {
  readonly central: ControlPlane
  readonly runtime: ControlPlane
  readonly kubelet: Kubelet
  readonly clients: KymaClients
  /** kubeconfigs of the verifier, of both clusters. */
  readonly verifier: readonly string[]
  readonly administrator: readonly string[]
  /** `renewNow: true`, as the gate's hint has it, where it is not asked for already. */
  askToRenew(): Promise<void>
  client(name: string): KymaClient
  stop(): Promise<void>
}

export interface KymaWorld extends KymaClusters {
  readonly flux: Flux
}

/** The Gateway of Kyma 1.11. */
function gateway(): string {
  return stringify({
    apiVersion: 'networking.istio.io/v1beta1',
    kind: 'Gateway',
    metadata: { name: 'kyma-gateway-application-connector', namespace: 'kyma-system' },
    spec: {
      selector: { istio: 'ingressgateway' },
      servers: [
        {
          hosts: ['gateway.kyma.example.com'],
          port: { name: 'https', number: 443, protocol: 'HTTPS' },
          tls: { mode: 'MUTUAL', minProtocolVersion: 'TLSV1_2', credentialName: kymaNames.credential },
        },
      ],
    },
  })
}

/** A repository as `flux bootstrap` begins it. */
export function kymaFleet(recipient: string): Record<string, string> {
  return {
    'README.md': '# Fleet\n\nThe central cluster of Kyma.\n',
    '.sops.yaml': `creation_rules:
  - path_regex: ^(trust|kyma|rotations)/.*\\.yaml$
    encrypted_regex: ^(ca\\.key|canary|password)$
    mac_only_encrypted: true
    age: ${recipient}
`,
    [`clusters/${centralSite}/flux-system/gotk-sync.yaml`]: syncOf(centralSite),
    [`clusters/${centralSite}/flux-system/kustomization.yaml`]: kustomization(['gotk-sync.yaml']),
    [`clusters/${centralSite}/kyma.yaml`]: fluxKustomization(
      'kyma',
      `./kyma/${centralSite}`,
      'Kyma’s own settings.',
      '',
    ),
    [`kyma/${centralSite}/kustomization.yaml`]: kustomization(['gateway.yaml']),
    [`kyma/${centralSite}/gateway.yaml`]: gateway(),
  }
}

/** A repository as an app of apps has it: `root` is applied by hand, once. */
function kymaArgoFleet(url: string, sealingCertificate: string): Record<string, string> {
  return {
    'README.md': '# Fleet\n\nThe central cluster of Kyma.\n',
    'sealed-secrets.pem': sealingCertificate,
    [`clusters/${centralSite}/root.yaml`]: argoApplication('root', url, `clusters/${centralSite}`, 'argocd', {}),
    [`clusters/${centralSite}/kyma.yaml`]: argoApplication('kyma', url, `kyma/${centralSite}`, 'kyma-system', {}),
    [`kyma/${centralSite}/kustomization.yaml`]: kustomization(['gateway.yaml']),
    [`kyma/${centralSite}/gateway.yaml`]: gateway(),
  }
}

const namespaces = [kymaNames.gatewayNamespace, kymaNames.signer.namespace, 'kyma-system', 'kyma-installer']
const connectionGroup = 'applicationconnector.kyma-project.io'
const connection: Place = { apiVersion: `${connectionGroup}/v1alpha1`, kind: 'CentralConnection', name: runtimeName }

/** Kyma with Flux in its central cluster, which applies this repository. */
export async function startKymaWorld(network: Network, repository: FleetRepository): Promise<KymaWorld> {
  const clusters = await startKyma(network)
  const stops = [clusters.stop]
  const stop = async (): Promise<void> => {
    for (const each of stops.splice(0).reverse()) await each()
  }
  try {
    const { central } = clusters
    const flux = await startFlux(central, { flags: ['--requeue-dependency=2s'] })
    stops.push(() => flux.stop())
    await central.objects.apply(decryptionSecret(repository))
    const source = await startSourceController(central, sourceOf(repository))
    stops.push(() => source.stop())
    await central.objects.applyYaml(syncOf(centralSite), 'flux')
    return { ...clusters, flux, stop }
  } catch (cause) {
    await stop()
    throw cause
  }
}

/** Kyma with Argo CD and the Sealed Secrets controller in its central cluster. The repository is the caller's to close. */
export async function startKymaUnderArgo<R extends FleetRepository>(
  network: Network,
  make: RepositoryMaker<R>,
): Promise<{ readonly kyma: KymaClusters; readonly repository: R }> {
  const clusters = await startKyma(network)
  const stops = [clusters.stop]
  const stop = async (): Promise<void> => {
    for (const each of stops.splice(0).reverse()) await each()
  }
  let repository: R | null = null
  try {
    const { central } = clusters
    const sealedSecrets = await startSealedSecrets(central)
    stops.push(() => sealedSecrets.stop())
    const argo = await startArgoCd(central)
    stops.push(() => argo.stop())
    const certificate = await sealedSecrets.certificate()
    repository = await make(url => kymaArgoFleet(url, certificate))
    await argo.reads(repository)
    const root = join(repository.clone, `clusters/${centralSite}/root.yaml`)
    await central.objects.applyFile(root, 'kubectl-client-side-apply')
    return { kyma: { ...clusters, stop }, repository }
  } catch (cause) {
    await repository?.close()
    await stop()
    throw cause
  }
}

async function startKyma(network: Network): Promise<KymaClusters> {
  const stops: (() => Promise<void>)[] = []
  const stop = async (): Promise<void> => {
    for (const each of stops.splice(0).reverse()) await each()
  }
  try {
    const folder = await mkdtemp(join(tmpdir(), 'ra-kyma-'))
    stops.push(() => rm(folder, { recursive: true, force: true }))
    const material = await makeMaterial(folder)
    const central = await startControlPlane({ name: centralSite, network, number: 0 })
    stops.push(() => central.stop())
    const runtime = await startControlPlane({ name: runtimeName, network, number: 1 })
    stops.push(() => runtime.stop())
    for (const { objects } of [central, runtime]) {
      for (const name of namespaces) await objects.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
      // As its reader is told to: the names of another release put in.
      const role = await readFile('roles/kyma.yaml', 'utf8')
      await objects.applyYaml(role.replaceAll('kyma-gateway-ca-certs', kymaNames.trust.name))
    }
    await central.objects.applyFile('roles/kyma-portforward.yaml')
    await applyKinds(central, ['istio.io_all'])
    // Its definition in Kyma is of v1beta1, which API servers serve no longer, and has no status subresource.
    const kind = bareKind(connectionGroup, 'CentralConnection', 'centralconnections', {
      version: 'v1alpha1',
      scope: 'Cluster',
      status: false,
    })
    await applyKinds(runtime, [], [kind])
    const { signer, trust, gatewayNamespace, credential } = kymaNames
    const secret = (name: string, namespace: string, data: Readonly<Record<string, string>>) => ({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name, namespace },
      type: 'Opaque',
      data: secretData(data),
    })
    const setupJob = 'application-connectivity-certs-setup-job'
    await central.objects.apply(
      secret(signer.name, signer.namespace, { 'ca.crt': material.ca, 'ca.key': material.caKey }),
      setupJob,
    )
    await central.objects.apply(secret(trust.name, gatewayNamespace, { [trust.key]: material.ca }), setupJob)
    await central.objects.apply(
      secret(credential, gatewayNamespace, { 'tls.crt': material.server, 'tls.key': material.serverKey }),
    )
    const kubelet = await startKubelet(central, {})
    stops.push(() => kubelet.stop())
    const pusher = startCredentialPusher(central)
    stops.push(() => pusher.stop())
    for (const manifest of gatewayObjects(2)) await central.objects.apply(manifest, 'istio-operator')
    await until(
      'the gateway is rolled out',
      () => isRolledOut(central, gatewayNamespace, kymaNames.gateway),
      180_000,
      500,
    )
    const connector = await startConnector(central)
    const clients = await startKymaClients({
      kubelet,
      connector,
      serverRoot: material.serverRoot,
      names: [
        { name: runtimeName, kind: 'runtime' },
        { name: 'crm', kind: 'application' },
        { name: 'billing', kind: 'application' },
      ],
    })
    stops.push(() => clients.stop())
    const client = (name: string): KymaClient => {
      const found = clients.clients.find(each => each.name === name)
      if (found === undefined) throw new Error(`no client ${name}`)
      return found
    }
    const agent = startAgent(runtime, client(runtimeName), clients)
    stops.push(() => agent.stop())
    return {
      central,
      runtime,
      kubelet,
      clients,
      verifier: [
        await central.kubeconfigOf('reanchor', 'reanchor-verifier'),
        await runtime.kubeconfigOf('reanchor', 'reanchor-verifier'),
      ],
      administrator: [central.kubeconfig, runtime.kubeconfig],
      askToRenew: () => runtime.objects.merge(connection, { spec: { renewNow: true } }),
      client,
      stop,
    }
  } catch (cause) {
    await stop()
    throw cause
  }
}

/**
 * Stand-in for the runtime's controller (connectivity-certs-controller, centralconnection): it synchronises through the gateway, here every two seconds in place of
 * five minutes, and renews when it is told; on success and on failure `renewNow` is false again.
 */
function startAgent(runtime: ControlPlane, client: KymaClient, clients: KymaClients): { stop(): Promise<void> } {
  const { objects } = runtime
  const log = join(runtime.folder, 'log', 'runtime-agent.log')
  let stopped = false
  async function tell(error: string | null): Promise<void> {
    const { certificate, key, authority, notBefore, notAfter } = client.held()
    await objects.apply(
      {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name: 'cluster-client-certificates', namespace: kymaNames.signer.namespace },
        stringData: { crt: certificate, key, crtChain: certificate + authority },
      },
      'runtime-agent',
    )
    const now = new Date().toISOString().replace(/\.\d+Z$/, 'Z')
    const whole = (time: string): string => time.replace(/\.\d+Z$/, 'Z')
    await objects.merge(connection, {
      spec: { renewNow: false },
      status:
        error === null
          ? {
              error: null,
              synchronizationStatus: { lastSync: now, lastSuccess: now },
              certificateStatus: { notBefore: whole(notBefore), notAfter: whole(notAfter) },
            }
          : { error: { message: error }, synchronizationStatus: { lastSync: now }, certificateStatus: null },
    })
  }
  async function run(): Promise<void> {
    await objects.apply({
      apiVersion: connection.apiVersion,
      kind: connection.kind,
      metadata: { name: connection.name },
      spec: { managementInfoUrl: 'https://gateway.kyma.example.com/v1/runtimes/management/info', renewNow: false },
    })
    while (!stopped) {
      try {
        const found = await objects.get(connection)
        const { renewNow = false } = (found?.spec ?? {}) as { readonly renewNow?: boolean }
        if (renewNow) {
          await tell(await client.renew().then(() => null, String))
        } else {
          const last = clients.meetings.findLast(meeting => meeting.client === client.name)
          if (last !== undefined) await tell(last.error)
        }
      } catch (cause) {
        await appendFile(log, `${new Date().toISOString()} ${String(cause)}\n`).catch(() => {})
      }
      await sleep(2000)
    }
  }
  const running = run()
  return {
    async stop() {
      stopped = true
      await running
    },
  }
}

interface KymaMaterial {
  readonly ca: string
  readonly caKey: string
  readonly server: string
  readonly serverKey: string
  readonly serverRoot: string
}

/** The CA as the setup job makes it (CN=Kyma, serial 2, RSA 4096, PKCS#1), and the gateway's server certificate, which is another CA's. */
async function makeMaterial(folder: string): Promise<KymaMaterial> {
  const openssl = (...args: string[]): Promise<string> => output('openssl', args, { cwd: folder })
  await openssl('genrsa', '-traditional', '-out', 'ca.key', '4096')
  const usage = ['-addext', 'keyUsage=critical,keyEncipherment,keyCertSign,digitalSignature']
  const self = ['-new', '-sha256', '-days', '92', '-subj', '/CN=Kyma', '-set_serial', '2', '-key', 'ca.key']
  await openssl('req', '-x509', ...self, ...usage, '-out', 'ca.crt')
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  await openssl(
    'req',
    '-x509',
    ...ec,
    '-keyout',
    'root.key',
    '-out',
    'root.crt',
    '-days',
    '92',
    '-subj',
    '/CN=Public Root',
  )
  await openssl('req', ...ec, '-keyout', 'server.key', '-out', 'server.csr', '-subj', '/CN=gateway.kyma.example.com')
  await writeFile(join(folder, 'ext'), 'subjectAltName=DNS:gateway.kyma.example.com\nextendedKeyUsage=serverAuth\n')
  const signer = ['-CA', 'root.crt', '-CAkey', 'root.key', '-CAcreateserial', '-days', '92', '-extfile', 'ext']
  await openssl('x509', '-req', '-in', 'server.csr', ...signer, '-out', 'server.crt')
  const read = (file: string): Promise<string> => readFile(join(folder, file), 'utf8')
  return {
    ca: await read('ca.crt'),
    caKey: await read('ca.key'),
    server: await read('server.crt'),
    serverKey: await read('server.key'),
    serverRoot: await read('root.crt'),
  }
}
