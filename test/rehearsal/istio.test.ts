import { afterEach, describe, expect, it, vi } from 'vitest'
import { certificatesIn, fingerprintOf } from '../../src/rehearsal/certificates.ts'
import type { Rehearsal, SiteControls } from '../../src/rehearsal/rehearsal.ts'
import { envoySecretsPath, readEnvoySecrets } from '../../src/systems/istio/observe-envoy.ts'
import { readSync, syncPath } from '../../src/systems/istio/observe-sync.ts'
import {
  agentsOf,
  Base,
  bothFlags,
  cacerts,
  heldBy,
  istiodsOf,
  minute,
  newCa,
  onlySite,
  restartIstiod,
  set,
  setFlags,
  start,
} from './support.ts'

// Each was believed to be otherwise, or not known, until it was seen with the real pilot-discovery, pilot-agent and Envoy.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 })

let rehearsal: Rehearsal | null = null
afterEach(async () => {
  await rehearsal?.close()
  rehearsal = null
})

const web = 'httpbin/Deployment/httpbin'

async function secretsOf(site: SiteControls, owner: string) {
  const { name, namespace = '' } = agentsOf(site, owner)[0]!.pod.metadata
  return readEnvoySecrets(await site.cluster.httpGet({ namespace, name }, 15000, envoySecretsPath))
}

async function chainOf(site: SiteControls): Promise<number> {
  const { name, namespace = '' } = istiodsOf(site)[0]!.pod.metadata
  return (await site.cluster.servedTls({ namespace, name }, 15012, 'istiod.istio-system.svc')).chain.length
}

describe('what istiod serves on 15012', () => {
  it('is its leaf alone where it made its CA itself, and the chain of cacerts where that is plugged in', async () => {
    rehearsal = await start(new Base(), { roundLimit: 1 })
    expect(await chainOf(onlySite(rehearsal))).toBe(1)
    await rehearsal.close()
    rehearsal = await start(new Base(), { sharedRoot: true, roundLimit: 1 })
    expect(await chainOf(onlySite(rehearsal))).toBe(3)
  })
})

describe('the secrets that an Envoy shows', () => {
  it('stand twice only with a metrics port of its own, whose roots may stay behind those of the other entry', async () => {
    const base = new Base()
    setFlags(base, bothFlags)
    base.edit('apps/eu-1/httpbin.yaml', text =>
      text.replace(
        '    metadata:\n      labels:',
        '    metadata:\n      annotations:\n        proxy.istio.io/config: \'{"proxyMetadata": {"ENVOY_SECURE_METRICS_PORT": "15091"}}\'\n      labels:',
      ),
    )
    rehearsal = await start(base, { sharedRoot: true, roundLimit: 1 })
    const site = onlySite(rehearsal)
    expect((await secretsOf(site, 'sleep/Deployment/sleep')).bundles).toHaveLength(1)
    const twice = await secretsOf(site, web)
    expect([twice.bundles.length, new Set(twice.bundles).size, twice.chains.length]).toEqual([2, 1, 2])

    const a = site.startingCa()
    const b = newCa()
    site.faults.splitEntries.add(web)
    const roots = a.root + b.root
    site.kubectlApply(cacerts({ signer: a, chain: a.certificate + a.root, roots }))
    await rehearsal.run(3 * minute)
    const apart = (await secretsOf(site, web)).bundles.map(bundle => certificatesIn(bundle).map(fingerprintOf).sort())
    expect(apart).toEqual([set(a.root, b.root), set(a.root)])
    site.faults.splitEntries.clear()
    expect(new Set((await secretsOf(site, web)).bundles).size).toBe(1)
  })
})

describe('a proxy whose root file is stale when istiod restarts', () => {
  it('stays away, and comes back by itself within the longest pause of its back-off', async () => {
    const base = new Base()
    setFlags(base, bothFlags)
    rehearsal = await start(base, { sharedRoot: true, roundLimit: 1 })
    const site = onlySite(rehearsal)
    const a = site.startingCa()
    const b = newCa()
    site.faults.kubeletLag.set('istio-system/Deployment/istiod', 1_000)
    site.faults.kubeletLag.set(web, 10 * minute)
    site.kubectlApply(cacerts({ signer: a, chain: a.certificate + a.root, roots: a.root + b.root }))
    await rehearsal.run(2 * minute)
    const chain = b.issuing.certificate + b.root
    site.kubectlApply(cacerts({ signer: b.issuing, chain, roots: a.root + b.root + b.root }))
    await rehearsal.run(1 * minute)
    restartIstiod(base, 'stale')
    await rehearsal.run(5 * minute)
    const connected = async (): Promise<boolean> => {
      const answers = istiodsOf(site).map(({ pod: { metadata } }) =>
        site.cluster.httpGet({ namespace: metadata.namespace ?? '', name: metadata.name }, 15014, syncPath),
      )
      const names = (await Promise.all(answers)).flatMap(answer => readSync(answer).map(proxy => proxy.name))
      return names.some(name => name.startsWith('httpbin/'))
    }
    expect(await connected()).toBe(false)
    // Ten minutes after the first change of its ConfigMap, its files are right.
    await rehearsal.run(3 * minute)
    expect(await connected()).toBe(true)
    expect(heldBy(site, web).trusts).toEqual(set(a.root, b.root))
  })
})
