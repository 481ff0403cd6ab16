import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import type { KubernetesObject, ListOptions, ResourceType } from '../../src/cluster/cluster.ts'
import { resources } from '../../src/cluster/resources.ts'
import { certificatesIn, fingerprintOf } from '../../src/rehearsal/certificates.ts'
import { textAt } from '../../src/rehearsal/objects.ts'
import { type Rehearsal, startingRoot } from '../../src/rehearsal/rehearsal.ts'
import { envoySecretsPath, readEnvoySecrets } from '../../src/systems/istio/observe-envoy.ts'
import { meshPod } from '../../src/systems/istio/observe-pods.ts'
import { readSync, readWatchers, syncPath, watchesPath } from '../../src/systems/istio/observe-sync.ts'
import { readZtunnelCertificates, ztunnelDumpPath } from '../../src/systems/istio/observe-ztunnel.ts'
import { clusterContract } from '../cluster/contract.ts'
import {
  agentsOf,
  Base,
  bothFlags,
  everyAgent,
  istiodsOf,
  minute,
  newCa,
  onlySite,
  restartWorkloads,
  setFlags,
  sopsCustody,
  start,
  trustFolder,
} from './support.ts'

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 })

let rehearsal: Rehearsal
const base = new Base({ ambient: true })
setFlags(base, bothFlags)

beforeAll(async () => {
  rehearsal = await start(base)
})
afterAll(() => rehearsal.close())
afterEach(() => {
  const { faults } = onlySite(rehearsal)
  faults.api.length = 0
  faults.clockSkew = 0
  faults.staleReads = null
})

async function all(type: ResourceType, options: ListOptions = {}): Promise<KubernetesObject[]> {
  const found: KubernetesObject[] = []
  for await (const page of onlySite(rehearsal).cluster.list(type, options)) found.push(...page)
  return found
}

function named(pod: { metadata: { namespace?: string; name: string } }): { namespace: string; name: string } {
  return { namespace: pod.metadata.namespace ?? '', name: pod.metadata.name }
}

clusterContract('the rehearsal cluster', async () => {
  const site = onlySite(rehearsal)
  return {
    cluster: site.cluster,
    namespace: 'shop',
    podCount: 3,
    secret: { namespace: 'istio-system', name: 'istio-ca-secret' },
    istiod: named(istiodsOf(site)[0]!.pod),
    istiodRoot: 'O=cluster.local',
    proxy: named(agentsOf(site, 'shop/Deployment/cart')[0]!.pod),
    everywhere: 'istio-ca-root-cert',
    close: async () => {},
  }
})

describe('what the verifier reads of the rehearsal cluster', () => {
  it('sees every kind of consumer among the pods', async () => {
    const pods = (await all(resources.pods)).map(pod => meshPod(pod, 'istio-system')).filter(pod => pod !== null)
    const counts = Object.fromEntries(
      ['istiod', 'sidecar', 'gateway', 'ztunnel'].map(kind => [kind, pods.filter(pod => pod.consumer === kind).length]),
    )
    expect(counts).toEqual({ istiod: 2, sidecar: 6, gateway: 1, ztunnel: 2 })
    expect(pods.filter(pod => pod.notRunning !== null)).toEqual([])
    expect(pods.find(pod => pod.namespace === 'shop' && pod.name.startsWith('cart-store'))?.owner).toBe(
      'shop/StatefulSet/cart-store',
    )
    expect(pods.find(pod => pod.namespace === 'httpbin')?.owner).toBe('httpbin/Deployment/httpbin')
    for (const pod of pods.filter(entry => ['sidecar', 'gateway'].includes(entry.consumer)))
      expect(pod.facts.xdsAgent).toBe('true')
  })

  it('reads roots and leaf of each proxy, once as Envoy shows them, with the key redacted', async () => {
    const site = onlySite(rehearsal)
    for (const agent of everyAgent(site).filter(entry => entry.proxyType !== 'ztunnel')) {
      const answer = await site.cluster.httpGet(named(agent.pod), 15000, envoySecretsPath)
      const secrets = readEnvoySecrets(answer)
      expect([secrets.bundles.length, secrets.chains.length]).toEqual([1, 1])
      expect(certificatesIn(secrets.bundles[0]!).map(fingerprintOf)).toEqual([startingRoot(site)])
      expect(fingerprintOf(certificatesIn(secrets.chains[0]!)[0]!)).toBe(agent.endpoint?.material.leaf)
      expect(answer).toContain('W3JlZGFjdGVkXQ==')
      expect(answer).not.toContain(Buffer.from('PRIVATE KEY').toString('base64').slice(0, 12))
    }
  })

  it('reads a ztunnel’s certificates and roots', async () => {
    const site = onlySite(rehearsal)
    const ztunnel = everyAgent(site).find(agent => agent.proxyType === 'ztunnel')
    const [certificate] = readZtunnelCertificates(
      await site.cluster.httpGet(named(ztunnel!.pod), 15000, ztunnelDumpPath),
    )
    expect(certificate?.state).toBe('Available')
    expect(certificatesIn(certificate?.roots ?? '').map(fingerprintOf)).toEqual([startingRoot(site)])
  })

  it('finds every proxy at exactly one replica of istiod, subscribed where the flag is set', async () => {
    const site = onlySite(rehearsal)
    const connected: string[] = []
    for (const replica of istiodsOf(site)) {
      const answer = await site.cluster.httpGet(named(replica.pod), 15014, syncPath)
      for (const proxy of readSync(answer)) {
        connected.push(proxy.name)
        const ztunnel = proxy.name.startsWith('ztunnel/')
        expect(proxy.subscribed === true).toBe(!ztunnel)
      }
      readWatchers(await site.cluster.httpGet(named(replica.pod), 15014, watchesPath))
    }
    expect(connected.sort()).toEqual(
      everyAgent(site)
        .map(agent => `${agent.pod.metadata.namespace}/${agent.pod.metadata.name}`)
        .sort(),
    )
  })

  it('shows Flux’s status with revision, inventory and the observed generation', async () => {
    const site = onlySite(rehearsal)
    const found = await site.cluster.get(resources.kustomizations, 'flux-system', 'apps')
    expect(found?.status).toMatchObject({
      observedGeneration: found?.metadata.generation,
      lastAppliedRevision: expect.stringMatching(/^main@sha1:[0-9a-f]{40}$/),
      conditions: [expect.objectContaining({ type: 'Ready', status: 'True' })],
    })
    expect(JSON.stringify(found?.status)).toContain('shop_cart-store_apps_StatefulSet')
  })

  it('gives the CA’s whole Secret to whoever may read it', async () => {
    const secret = await onlySite(rehearsal).cluster.get(resources.secrets, 'istio-system', 'istio-ca-secret')
    expect(Object.keys(secret?.data as object).sort()).toEqual([
      'ca-cert.pem',
      'ca-key.pem',
      'cert-chain.pem',
      'key.pem',
      'root-cert.pem',
    ])
  })
})

describe('faults of the API', () => {
  it.each(['forbidden', 'unreachable', 'timeout'] as const)(
    '%s: throws ClusterError that names what was asked',
    async failure => {
      onlySite(rehearsal).faults.api.push({ asked: /^list pods/, failure })
      await expect(all(resources.pods)).rejects.toMatchObject({ name: 'ClusterError', failure, asked: 'list pods' })
      await expect(all(resources.deployments)).resolves.not.toHaveLength(0)
    },
  )

  it('partial: yields some and then throws, never an end that looks whole', async () => {
    onlySite(rehearsal).faults.api.push({ asked: /^list pods/, failure: 'partial', times: 1 })
    const seen: KubernetesObject[] = []
    const reading = (async () => {
      for await (const page of onlySite(rehearsal).cluster.list(resources.pods)) seen.push(...page)
    })()
    await expect(reading).rejects.toMatchObject({ failure: 'partial' })
    expect(seen.length).toBeGreaterThan(0)
    expect((await all(resources.pods)).length).toBeGreaterThan(seen.length)
  })

  it('tells a skewed time and stale objects when told to', async () => {
    const site = onlySite(rehearsal)
    const { now } = await site.cluster.identity()
    site.faults.clockSkew = 3_600_000
    expect(Date.parse((await site.cluster.identity()).now) - Date.parse(now)).toBe(3_600_000)
    site.faults.staleReads = []
    expect(await all(resources.pods)).toEqual([])
  })
})

describe('Flux', () => {
  it('takes a workload away that left the tree, and keeps what is protected from pruning (F18)', async () => {
    const own = new Base()
    const run = await start(own)
    const site = onlySite(run)
    own.merge(
      await trustFolder(sopsCustody(), {
        signer: site.startingCa(),
        chain: site.startingCa().certificate,
        roots: site.startingCa().root,
      }),
    )
    await run.run(5 * minute)
    const sealed = site.store.get('', 'Secret', 'istio-system', 'cacerts')
    expect(Buffer.from(textAt(sealed, 'data', 'ca-key.pem') ?? '', 'base64').toString()).toBe(site.startingCa().key)
    expect(sealed?.metadata.managedFields.map(entry => entry.manager)).toEqual(['kustomize-controller'])

    own.edit('apps/eu-1/kustomization.yaml', text => text.replace('  - sleep.yaml\n', ''))
    own.edit(
      'trust/eu-1/kustomization.yaml',
      () => 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: []\n',
    )
    await run.run(5 * minute)
    expect(site.store.get('apps', 'Deployment', 'sleep', 'sleep')).toBeNull()
    expect(agentsOf(site, 'sleep/Deployment/sleep')).toEqual([])
    expect(site.store.get('', 'Secret', 'istio-system', 'cacerts')).not.toBeNull()
    await run.close()
  })

  it('refuses a sealed Secret where the Kustomization has no decryption, and applies nothing of it', async () => {
    const own = new Base()
    const run = await start(own)
    const site = onlySite(run)
    const b = newCa()
    own.merge(await trustFolder(sopsCustody(), { signer: b.issuing, chain: b.root, roots: b.root }))
    own.edit('clusters/eu-1/trust.yaml', text => text.replace(/ {2}decryption:\n( {4}.*\n)+/, ''))
    await run.run(5 * minute)
    expect(site.store.get('', 'Secret', 'istio-system', 'cacerts')).toBeNull()
    const trust = await site.cluster.get(resources.kustomizations, 'flux-system', 'trust')
    expect(JSON.stringify(trust?.status)).toContain('SOPS encrypted, configuring decryption is required')
    await run.close()
  })

  it('keeps a key of cacerts that another manager wrote, and takes over what kubectl wrote', async () => {
    const own = new Base()
    const run = await start(own)
    const site = onlySite(run)
    const ca = site.startingCa()
    const stale = {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'cacerts', namespace: 'istio-system' },
      type: 'Opaque',
    }
    site.kubectlApply({ ...stale, data: { 'ca.crt': 'a3ViZWN0bA==' } })
    site.store.update(site.store.get('', 'Secret', 'istio-system', 'cacerts')!, 'cert-manager', next => {
      next.data = { ...(next.data as object), 'tls.crt': 'Y2VydC1tYW5hZ2Vy' }
    })
    own.merge(await trustFolder(sopsCustody(), { signer: ca, chain: ca.certificate, roots: ca.root }))
    await run.run(5 * minute)
    const live = site.store.get('', 'Secret', 'istio-system', 'cacerts')
    expect(Object.keys(live?.data as object).sort()).toEqual([
      'ca-cert.pem',
      'ca-key.pem',
      'cert-chain.pem',
      'root-cert.pem',
      'tls.crt',
    ])
    await run.close()
  })
})

describe('how Istio is installed', () => {
  it('comes up from a HelmRelease too, where inline values win over valuesFrom', async () => {
    const own = new Base({ install: 'helmRelease' })
    own.edit('istio/eu-1/istio.yaml', text =>
      text
        .replace('  values:\n', '  valuesFrom:\n    - kind: ConfigMap\n      name: reanchor-values\n  values:\n')
        .concat(
          '---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: reanchor-values\n  namespace: istio-system\n  labels:\n    reconcile.fluxcd.io/watch: Enabled\ndata:\n  values.yaml: |\n    pilot:\n      env:\n        ISTIO_MULTIROOT_MESH: "true"\n        PILOT_ENABLE_STATUS: "false"\n',
        ),
    )
    const run = await start(own)
    const site = onlySite(run)
    const env = JSON.stringify(istiodsOf(site)[0]!.pod.spec)
    expect(env).toContain('{"name":"ISTIO_MULTIROOT_MESH","value":"true"}')
    expect(env).toContain('{"name":"PILOT_ENABLE_STATUS","value":"true"}')
    await run.close()
  })

  it('injects what the injector knows then: a pod that is made before keeps the old settings for good', async () => {
    const own = new Base()
    const run = await start(own)
    const site = onlySite(run)
    // One merge carries both: the workloads roll before the injector has read the new mesh settings.
    own.edit('clusters/eu-1/apps.yaml', text => text.replace(/ {2}dependsOn:\n {4}- name: istio\n/, ''))
    await run.run(2 * minute)
    setFlags(own, bothFlags)
    restartWorkloads(own, 'too-early')
    await run.run(10 * minute)
    const flagged = everyAgent(site).filter(agent => agent.subscribed).length
    expect(flagged).toBeLessThan(everyAgent(site).length)
    restartWorkloads(own, 'again')
    await run.run(10 * minute)
    expect(everyAgent(site).every(agent => agent.subscribed)).toBe(true)
    await run.close()
  })
})

describe('several sites', () => {
  it('speak to each other under one root, and not where each has a CA of its own', async () => {
    const sites = ['eu-1', 'us-1']
    const own = new Base({ sites })
    const run = await start(own, { sites, sharedRoot: true, roundLimit: 1_000 })
    const cross = run.handshakes.counts.attempted
    expect(run.handshakes.counts.failed).toBe(0)
    await run.close()
    const apart = await start(own, { sites, roundLimit: 1_000 })
    expect(apart.handshakes.counts.attempted).toBe(2 * (7 * 6 + 7 * 2 + 2))
    expect(cross).toBe(apart.handshakes.counts.attempted + 2 * 7 * 7)
    expect(apart.handshakes.counts.failed).toBe(0)
    const [eu, us] = [...apart.clusters.values()]
    expect((await eu!.identity()).uid).not.toBe((await us!.identity()).uid)
    await apart.close()
  })
})
