import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startArgoCd } from './argocd.ts'
import { cassandraNames } from './cassandra-fleet.ts'
import { startCassandraOperator } from './cassandra-operator.ts'
import { output } from './components.ts'
import type { ControlPlane } from './control-plane.ts'
import { startControlPlane } from './control-plane.ts'
import { fingerprintOf } from './fingerprint.ts'
import { type Flux, startFlux } from './flux.ts'
import { applyKinds } from './kinds.ts'
import { type Kubelet, type RunningPod, startKubelet } from './kubelet.ts'
import type { Network } from './network.ts'
import type { Manifest } from './objects.ts'
import { keptAs } from './pod.ts'
import { decryptionSecret, type FleetRepository, syncOf } from './repository.ts'
import { until } from './server.ts'
import { sourceOf, startSourceController } from './source-controller.ts'
import { type TrafficWatch, watchTraffic } from './traffic.ts'

const { cluster, namespace, serverCa, clientCa } = cassandraNames

/** One region of a Cassandra cluster: real nodes on a real control plane. */
export interface CassandraRegion {
  readonly name: string
  readonly plane: ControlPlane
  readonly kubelet: Kubelet
  readonly traffic: TrafficWatch
  /** kubeconfig of the verifier: the ServiceAccount of roles/, and nothing besides. */
  readonly verifier: string
  /** When its nodes answer to CQL and its CassandraCluster is ready. */
  ready(): Promise<void>
  nodes(): readonly RunningPod[]
  /** Starts its CQL client, which asks at QUORUM over all regions. */
  ask(copies: Readonly<Record<string, number>>): Promise<void>
  stop(): Promise<void>
}

export interface FluxCassandraRegion extends CassandraRegion {
  readonly flux: Flux
}

/** Starts what delivers a region, and lets it have the repository. */
type Deliver<D> = (name: string, plane: ControlPlane) => Promise<{ readonly with: D; stop(): Promise<void> }>

/** CA pairs as utils/tls.sh of the operator makes them, by hand, the same for every region: `O=ca` for nodes, another for CQL. */
interface CassandraAuthorities {
  readonly folder: string
  secret(name: string): Promise<Manifest>
  close(): Promise<void>
}

async function makeCassandraAuthorities(): Promise<CassandraAuthorities> {
  const folder = await mkdtemp(join(tmpdir(), 'ra-cas-'))
  const openssl = (...args: string[]): Promise<string> => output('openssl', args, { cwd: folder })
  for (const [name, subject] of [
    [serverCa, '/O=ca'],
    [clientCa, '/O=clients-ca'],
  ] as const) {
    await openssl('genrsa', '-traditional', '-out', `${name}.key`, '4096')
    const asked = ['-new', '-nodes', '-sha256', '-days', '3650', '-subj', subject, '-key', `${name}.key`]
    await openssl('req', '-x509', ...asked, '-out', `${name}.crt`)
  }
  await openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'app.key', '-out', 'app.csr', '-subj', '/CN=app')
  const signer = ['-CA', `${clientCa}.crt`, '-CAkey', `${clientCa}.key`, '-CAcreateserial', '-days', '90']
  await writeFile(join(folder, 'app.ext'), 'extendedKeyUsage=clientAuth\n')
  await openssl('x509', '-req', '-in', 'app.csr', ...signer, '-out', 'app.crt', '-extfile', 'app.ext')
  const read = async (file: string): Promise<string> => (await readFile(join(folder, file))).toString('base64')
  return {
    folder,
    async secret(name) {
      const data =
        name === 'app-tls'
          ? {
              'ca.crt': await read(`${clientCa}.crt`),
              'tls.crt': await read('app.crt'),
              'tls.key': await read('app.key'),
            }
          : { 'ca.crt': await read(`${name}.crt`), 'ca.key': await read(`${name}.key`) }
      return {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name, namespace: name === 'app-tls' ? 'default' : namespace },
        type: 'Opaque',
        data,
      }
    },
    close: () => rm(folder, { recursive: true, force: true }),
  }
}

interface CassandraRegionOptions {
  readonly name: string
  readonly network: Network
  readonly number: number
  readonly authorities: CassandraAuthorities
  /** Names of all regions. */
  readonly regions: readonly string[]
  readonly replicas: number
}

const nodeName = (region: string, index: number): string => `${cluster}-cassandra-${region}-${index}`

async function startCassandraRegion<D extends object>(
  options: CassandraRegionOptions,
  deliver: Deliver<D>,
): Promise<CassandraRegion & D> {
  const { name, network, number, authorities, regions, replicas } = options
  const stops: (() => Promise<void>)[] = []
  const stop = async (): Promise<void> => {
    for (const each of stops.splice(0).reverse()) await each()
  }
  try {
    const plane = await startControlPlane({ name, network, number })
    stops.push(() => plane.stop())
    const { objects } = plane
    const kubelet = await startKubelet(plane, {})
    stops.push(() => kubelet.stop())
    // No pod here has a proxy.
    const traffic = await watchTraffic(kubelet, 10_000)
    stops.push(() => traffic.stop())
    await objects.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } })
    await applyKinds(plane, ['db.ibm.com_cassandraclusters'])
    for (const secret of [serverCa, clientCa]) {
      await objects.apply(await authorities.secret(secret), 'kubectl-create')
    }
    await objects.apply(await authorities.secret('app-tls'))
    await objects.applyFile('roles/cassandra.yaml')
    await objects.applyFile('roles/cassandra-portforward.yaml')
    const verifier = await plane.kubeconfigOf('reanchor', 'reanchor-verifier')
    const seeds = regions.map(region => network.keep(keptAs(region, namespace, nodeName(region, 0))))
    const operator = await startCassandraOperator(plane, { region: name, seeds })
    stops.push(() => operator.stop())
    const delivery = await deliver(name, plane)
    stops.push(() => delivery.stop())
    const hosts = Array.from({ length: replicas }, (_, index) =>
      network.keep(keptAs(name, namespace, nodeName(name, index))),
    )
    return {
      ...delivery.with,
      name,
      plane,
      kubelet,
      traffic,
      verifier,
      async ready() {
        await until(
          `CassandraCluster of ${name} is ready`,
          async () => {
            const found = await objects.get({
              apiVersion: 'db.ibm.com/v1alpha1',
              kind: 'CassandraCluster',
              namespace,
              name: cluster,
            })
            return (found?.status as { readonly ready?: boolean } | undefined)?.ready === true
          },
          600_000,
          1000,
        )
      },
      nodes: () => kubelet.find(namespace, `${cluster}-cassandra-${name}-`),
      ask: copies => objects.apply(client(name, hosts, copies)).then(() => {}),
      stop,
    }
  } catch (cause) {
    await stop()
    throw cause
  }
}

/** One Cassandra cluster over some regions, with a CQL client in each. */
export interface CassandraRing<R extends CassandraRegion = CassandraRegion> {
  readonly regions: readonly R[]
  readonly authorities: CassandraAuthorities
  /** Throws where a node, asked by the client of each region, does not write and read with the word of every copy in all regions. */
  whole(): Promise<void>
  stop(): Promise<void>
}

export interface CassandraRingOptions {
  readonly network: Network
  readonly repository: FleetRepository
  readonly regions: readonly string[]
  /** Nodes of each region, and copies that each has of everything. */
  readonly replicas: number
}

/** Starts a ring that Flux delivers, and its clients; returns when their queries are answered. */
export async function startCassandraRing(options: CassandraRingOptions): Promise<CassandraRing<FluxCassandraRegion>> {
  return await startRing(options, (name, plane) => deliverByFlux(name, plane, options.repository))
}

/** The same under Argo CD, whose repository server runs KSOPS: `ksops` is that program. */
export async function startCassandraRingUnderArgo(
  options: CassandraRingOptions,
  ksops: string,
): Promise<CassandraRing> {
  return await startRing(options, (name, plane) => deliverByArgo(name, plane, options.repository, ksops))
}

async function deliverByFlux(name: string, plane: ControlPlane, repository: FleetRepository) {
  const flux = await startFlux(plane, { flags: ['--requeue-dependency=2s'] })
  const stops = [() => flux.stop()]
  const stop = async (): Promise<void> => {
    for (const each of stops.splice(0).reverse()) await each()
  }
  try {
    await plane.objects.apply(decryptionSecret(repository))
    const source = await startSourceController(plane, sourceOf(repository))
    stops.push(() => source.stop())
    await plane.objects.applyYaml(syncOf(name), 'flux')
    return { with: { flux }, stop }
  } catch (cause) {
    await stop()
    throw cause
  }
}

async function deliverByArgo(name: string, plane: ControlPlane, repository: FleetRepository, ksops: string) {
  const argo = await startArgoCd(plane, { ksops: { program: ksops, identity: repository.identity } })
  try {
    await argo.reads(repository)
    await plane.objects.applyFile(join(repository.clone, `clusters/${name}/root.yaml`), 'kubectl-client-side-apply')
    return { with: {}, stop: () => argo.stop() }
  } catch (cause) {
    await argo.stop()
    throw cause
  }
}

async function startRing<D extends object>(
  options: CassandraRingOptions,
  deliver: Deliver<D>,
): Promise<CassandraRing<CassandraRegion & D>> {
  const { network, regions: names, replicas } = options
  const authorities = await makeCassandraAuthorities()
  const regions: (CassandraRegion & D)[] = []
  const stop = async (): Promise<void> => {
    for (const region of regions.splice(0)) await region.stop()
    await authorities.close()
  }
  try {
    for (const [number, name] of names.entries())
      regions.push(
        await startCassandraRegion({ name, network, number, authorities, regions: names, replicas }, deliver),
      )
    for (const region of regions) await region.ready()
    for (const region of regions) await region.ask(Object.fromEntries(names.map(name => [name, replicas])))
    await until(
      'queries are answered',
      async () => {
        for (const { traffic } of regions) {
          const { sent, failed } = await traffic.read(Date.now() - 10_000)
          if (sent < 10 || failed > 0) return false
        }
        return true
      },
      300_000,
      1000,
    )
  } catch (cause) {
    await stop()
    throw cause
  }
  return {
    regions: [...regions],
    authorities,
    async whole() {
      const nodes = regions.flatMap(region => region.nodes().map(({ address }) => address))
      if (nodes.length !== names.length * replicas) throw new Error(`${nodes.length} nodes`)
      for (const { kubelet } of regions) {
        const [app] = kubelet.find('default', 'app-')
        await app?.execIn('app', ['/usr/local/bin/cassandra-rig', 'whole', nodes.join(',')])
      }
    },
    stop,
  }
}

/** An application with the CQL driver `gocql`: mutual TLS, near nodes first, three more tries of a query at other nodes. */
function client(region: string, hosts: readonly string[], copies: Readonly<Record<string, number>>): Manifest {
  const env = {
    FROM: `app-${region}`,
    HOSTS: hosts.join(','),
    DC: region,
    CA: '/etc/app-tls/ca.crt',
    CERT: '/etc/app-tls/tls.crt',
    KEY: '/etc/app-tls/tls.key',
    INTERVAL: '250',
    COPIES: Object.entries(copies)
      .map(([dc, count]) => `${dc}=${count}`)
      .join(),
  }
  const labels = { app: 'app' }
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'app', namespace: 'default', labels },
    spec: {
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          containers: [
            {
              name: 'app',
              image: 'rig/cassandra-client',
              env: Object.entries(env).map(([key, value]) => ({ name: key, value })),
              volumeMounts: [{ name: 'tls', mountPath: '/etc/app-tls' }],
            },
          ],
          volumes: [{ name: 'tls', secret: { secretName: 'app-tls' } }],
        },
      },
    },
  }
}

/** Which CAs the truststore of a region's nodes holds, as Java reads it, by alias. */
export async function aliasesOf(plane: ControlPlane, folder: string): Promise<readonly string[]> {
  const listed = await keytool(await truststoreOf(plane, folder), '-list')
  return [...listed.matchAll(/^(\S.*?), .*trustedCertEntry/gm)].map(([, alias]) => alias ?? '').sort()
}

/** SHA-256 of the certificate that Java finds there under an alias. */
export async function certificateUnder(plane: ControlPlane, folder: string, alias: string): Promise<string> {
  return fingerprintOf(await keytool(await truststoreOf(plane, folder), '-exportcert', '-rfc', '-alias', alias))
}

/** What stands in a Secret of the region, decoded. */
export async function secretOf(plane: ControlPlane, name: string): Promise<Readonly<Record<string, Buffer>>> {
  const found = (await plane.objects.get({ apiVersion: 'v1', kind: 'Secret', namespace, name })) as
    | (Manifest & { readonly data?: Readonly<Record<string, string>> })
    | null
  return Object.fromEntries(Object.entries(found?.data ?? {}).map(([key, text]) => [key, Buffer.from(text, 'base64')]))
}

async function truststoreOf(plane: ControlPlane, folder: string): Promise<string> {
  const { 'truststore.p12': bytes = Buffer.of() } = await secretOf(plane, `${cluster}-cluster-tls-node`)
  const file = join(folder, `truststore-${plane.name}.p12`)
  await writeFile(file, bytes)
  return file
}

function keytool(store: string, ...asked: string[]): Promise<string> {
  return output('keytool', [...asked, '-keystore', store, '-storetype', 'PKCS12', '-storepass', 'cassandra'])
}

/** Who signed what a node presents to other nodes, past the product: `O = example-first`. */
export async function issuerServed(address: string): Promise<string> {
  const said = await output('bash', ['-c', `openssl s_client -connect ${address}:7001 </dev/null 2>/dev/null || true`])
  return /^issuer=(.*)$/m.exec(said)?.[1] ?? said
}
