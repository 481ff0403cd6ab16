import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { output } from './components.ts'
import { istioResource, rolledOut } from './istio.ts'
import { meshManifests } from './mesh.ts'
import type { Network } from './network.ts'
import { type FleetRepository, fluxApps, fluxFleet } from './repository.ts'
import { flowing, ready } from './watch.ts'
import { type FluxCluster, startFluxCluster } from './world.ts'

/** A cluster of a mesh, and what runs there; every other one knows its services. */
export interface MeshSite {
  readonly name: string
  readonly workloads: readonly string[]
}

export const meshNamespace = 'shop'

/** The repository of a mesh over several clusters, each served by Flux, with Sail. */
export function meshFleet(recipient: string, sites: readonly MeshSite[]): Record<string, string> {
  return fluxFleet({ recipient, sites: sites.map(({ name }) => ({ name, istio: istioResource({ cluster: name }) })) })
}

/** Several clusters of one mesh under one root, each with an issuing CA of its own; returns when every workload gets answers from every other one. */
export async function startMesh(
  network: Network,
  repository: FleetRepository,
  sites: readonly MeshSite[],
): Promise<readonly FluxCluster[]> {
  const workloads = sites.flatMap(site => site.workloads)
  // Each cluster knows every service; a workload runs in one of them.
  const shop = (site: MeshSite): string =>
    meshManifests({
      namespace: meshNamespace,
      interval: 1000,
      workloads: workloads.map(name => ({ name, replicas: site.workloads.includes(name) ? 1 : 0 })),
    })
  const pki = join(repository.outside, 'pki')
  const names = sites.map(({ name }) => name)
  await makeAuthority(pki, names)
  const clusters: FluxCluster[] = []
  try {
    for (const [number, { name }] of sites.entries()) {
      const before = (plane: FluxCluster['plane']): Promise<void> => plugIn(plane.kubeconfig, pki, name)
      clusters.push(await startFluxCluster({ name, network, number, repository, before }))
    }
    for (const cluster of clusters) for (const other of clusters) if (other !== cluster) await introduce(cluster, other)
    for (const { plane } of clusters) await rolledOut(plane, 'istio-system', 'istiod')
    for (const site of sites)
      await repository.commit(fluxApps(site.name, { 'shop.yaml': shop(site) }), `The shop of ${site.name}`)
    for (const [index, cluster] of clusters.entries())
      await ready(cluster, meshNamespace, sites[index]?.workloads ?? [])
    await flowing(clusters, workloads.length * (workloads.length - 1))
    return clusters
  } catch (cause) {
    for (const cluster of clusters) await cluster.stop()
    throw cause
  }
}

/** A root, and an issuing CA for each cluster, as Istio's documentation has people make them. */
async function makeAuthority(folder: string, sites: readonly string[]): Promise<void> {
  await mkdir(folder)
  const openssl = (...args: string[]): Promise<string> => output('openssl', args, { cwd: folder })
  const usage = 'keyUsage=critical,digitalSignature,keyCertSign,cRLSign'
  const rsa = ['-newkey', 'rsa:2048', '-nodes']
  const root = ['-keyout', 'root-key.pem', '-out', 'root-cert.pem', '-days', '3650', '-subj', '/O=Istio/CN=Root CA']
  await openssl('req', '-x509', ...rsa, ...root, '-addext', 'basicConstraints=critical,CA:TRUE', '-addext', usage)
  for (const site of sites) {
    await mkdir(join(folder, site))
    const subject = ['-subj', `/O=Istio/CN=Intermediate CA/L=${site}`]
    await openssl(
      'req',
      ...rsa,
      '-keyout',
      `${site}/ca-key.pem`,
      '-out',
      `${site}/ca.csr`,
      ...subject,
      '-addext',
      usage,
      '-addext',
      'basicConstraints=critical,CA:TRUE,pathlen:0',
    )
    await openssl(
      'x509',
      '-req',
      '-in',
      `${site}/ca.csr`,
      '-CA',
      'root-cert.pem',
      '-CAkey',
      'root-key.pem',
      '-CAcreateserial',
      '-days',
      '3650',
      '-copy_extensions',
      'copyall',
      '-out',
      `${site}/ca-cert.pem`,
    )
    await output('sh', ['-c', `cat ${site}/ca-cert.pem root-cert.pem > ${site}/cert-chain.pem`], { cwd: folder })
  }
}

/** `cacerts` as Istio's documentation has people make it: by kubectl. */
async function plugIn(kubeconfig: string, pki: string, site: string): Promise<void> {
  const file = (key: string, path = `${site}/${key}`): string => `--from-file=${key}=${path}`
  const files = [
    file('ca-cert.pem'),
    file('ca-key.pem'),
    file('cert-chain.pem'),
    file('root-cert.pem', 'root-cert.pem'),
  ]
  const command = ['--kubeconfig', kubeconfig, '--namespace', 'istio-system', 'create', 'secret', 'generic', 'cacerts']
  await output('kubectl', [...command, ...files], { cwd: pki })
}

/** What `istioctl create-remote-secret` makes: istiod of one cluster may read the services of the other. */
async function introduce(cluster: FluxCluster, other: FluxCluster): Promise<void> {
  const { name } = other.plane
  // Its roles come with istiod's chart, it itself with the chart `base`, which nobody installs here.
  const account = { name: 'istio-reader-service-account', namespace: 'istio-system' }
  await other.plane.objects.apply({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: account })
  const reader = await other.plane.kubeconfigOf(account.namespace, account.name)
  await cluster.plane.objects.apply({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: {
      name: `istio-remote-secret-${name}`,
      namespace: 'istio-system',
      labels: { 'istio/multiCluster': 'true' },
      annotations: { 'networking.istio.io/cluster': name },
    },
    stringData: { [name]: await readFile(reader, 'utf8') },
  })
}
