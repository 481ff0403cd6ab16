import { mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { output } from './rig/components.ts'
import { istioResource, rolledOut } from './rig/istio.ts'
import { meshManifests } from './rig/mesh.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { type FleetRepository, fluxApps, fluxFleet, makeRepository } from './rig/repository.ts'
import { report, rotate, shortGates } from './rig/rotation.ts'
import { byStep, failuresText, flowing, held, plannedTrust, ready, recordOf } from './rig/watch.ts'
import { type FluxCluster, startFluxCluster } from './rig/world.ts'

const namespace = 'shop'
const sites = ['eu-1', 'us-1'] as const
type SiteName = (typeof sites)[number]
const own: Readonly<Record<SiteName, readonly string[]>> = { 'eu-1': ['frontend', 'cart'], 'us-1': ['orders', 'stock'] }
const workloads = sites.flatMap(site => own[site])

/** Evidence of one site at one step. */
interface Seen {
  readonly site: string
  readonly phase: number
  readonly step: number
  readonly to: string
}

describe('two clusters of one mesh', () => {
  let network: Network
  let repository: FleetRepository
  const clusters: FluxCluster[] = []

  beforeAll(async () => {
    network = await createNetwork()
    // Each cluster knows every service; a workload runs in one of them.
    const shop = (site: SiteName): string =>
      meshManifests({
        namespace,
        interval: 1000,
        workloads: workloads.map(name => ({ name, replicas: own[site].includes(name) ? 1 : 0 })),
      })
    repository = await makeRepository((_url, recipient) =>
      fluxFleet({
        recipient,
        sites: sites.map(name => ({ name, istio: istioResource({ cluster: name }) })),
      }),
    )
    const pki = join(repository.outside, 'pki')
    await makeAuthority(pki)
    for (const [number, name] of sites.entries()) {
      clusters.push(
        await startFluxCluster({
          name,
          network,
          number,
          repository,
          before: plane => plugIn(plane.kubeconfig, pki, name),
        }),
      )
    }
    for (const [index, cluster] of clusters.entries()) {
      const other = clusters[1 - index]
      if (other === undefined) throw new Error('one cluster is missing')
      await introduce(cluster, other)
    }
    for (const { plane } of clusters) await rolledOut(plane, 'istio-system', 'istiod')
    for (const name of sites)
      await repository.commit(fluxApps(name, { 'shop.yaml': shop(name) }), `The shop of ${name}`)
    for (const [index, cluster] of clusters.entries()) await ready(cluster, namespace, own[sites[index] ?? 'eu-1'])
    await flowing(clusters, workloads.length * (workloads.length - 1))
  }, 900_000)

  afterAll(async () => {
    for (const cluster of clusters) await cluster.stop()
    await repository?.close()
    await network?.close()
  })

  it('moves both to a new root, and neither begins a phase before the other has ended the one before', async () => {
    const since = Date.now()
    const slow = clusters[1]
    if (slow === undefined) throw new Error('one cluster is missing')
    let aloneFor = 0
    const record = await rotate({
      name: 'first',
      repository,
      administrator: clusters.map(({ plane }) => plane.kubeconfig),
      verifier: clusters.map(({ verifier }) => verifier),
      init: sites.flatMap(name => ['--site', `${name}=trust/${name}`, '--context', `${name}=${name}`]),
      edit: shortGates,
      async onOpened(step) {
        // The second cluster does not hear of the new bundle for a while.
        if (step.endsWith('trust-both/1-data')) slow.source.hold(true)
        return true
      },
      async onWaiting(step, gates) {
        if (!step.endsWith('trust-both/1-data') || aloneFor >= 3) return
        // The first cluster has finished, and the next step stays shut for the sake of the second.
        aloneFor = gates.every(gate => gate.site === 'us-1') ? aloneFor + 1 : 0
        if (aloneFor === 3) slow.source.hold(false)
      },
    })
    const traffic = await byStep(clusters, record, since)
    await report(recordOf('Flux, Sail, SOPS: graceful, two clusters under one root', record, traffic))
    expect(failuresText(traffic)).toEqual([])
    expect(aloneFor).toBe(3)

    // What was seen of each step was seen in both clusters before the next one was merged.
    await repository.pull()
    const folder = join(repository.clone, 'rotations/first/evidence')
    const evidence: Seen[] = []
    for (const file of await readdir(folder)) {
      for (const document of parseAllDocuments(await readFile(join(folder, file), 'utf8')))
        evidence.push(document.toJS())
    }
    const steps = record.steps.filter(({ step }) => step.includes('/'))
    expect(steps).toHaveLength(9)
    for (const [index, { step }] of steps.entries()) {
      const next = record.steps[index + 2]
      const seen = evidence.filter(each => step.startsWith(`${each.phase}-`) && step.includes(`/${each.step}-`))
      expect(seen.map(each => each.site).sort(), step).toEqual([...sites])
      for (const each of seen) expect(Date.parse(each.to), step).toBeLessThanOrEqual(Date.parse(next?.mergedAt ?? ''))
    }
    // Each asked each, most of them across the clusters.
    const asked = new Set<string>()
    for (const { traffic: watch } of clusters) {
      for (const { from, to, sent } of (await watch.read(since)).pairs) if (sent > 0) asked.add(`${from} ${to}`)
    }
    expect(asked.size).toBe(workloads.length * (workloads.length - 1))
    const { roots, issuers } = await plannedTrust(repository, 'first')
    expect(issuers).toHaveLength(2)
    const ends = await Promise.all(clusters.map(cluster => held(cluster, namespace)))
    expect(ends.map(end => end.roots)).toEqual([roots, roots])
    expect(ends.flatMap(end => end.issuers).sort()).toEqual(issuers)
  }, 1_800_000)
})

/** A root, and an issuing CA for each cluster, as Istio's documentation has people make them. */
async function makeAuthority(folder: string): Promise<void> {
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
