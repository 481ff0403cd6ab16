import { afterEach, describe, expect, it, vi } from 'vitest'
import { certificatesIn, fingerprintOf } from '../../src/rehearsal/certificates.ts'
import type { IstioSite } from '../../src/rehearsal/istio/system.ts'
import type { Rehearsal } from '../../src/rehearsal/rehearsal.ts'
import {
  Base,
  bothFlags,
  cacerts,
  everyAgent,
  heldBy,
  hour,
  istiodsOf,
  minute,
  newCa,
  onlySite,
  restartIstiod,
  rootConfigMapOf,
  set,
  setFlags,
  start,
  withoutAgentFlag,
} from './support.ts'

// The table that was measured with the real pilot-discovery, pilot-agent and Envoy: what each of them does when the files of
// ROOT_CA_DIR change. A and B are roots with an issuing CA each; `sleep` is a proxy that was injected without the flag.
vi.setConfig({ testTimeout: 120_000 })

let rehearsal: Rehearsal | null = null

afterEach(async () => {
  await rehearsal?.close()
  rehearsal = null
})

async function plugged(flags = bothFlags, seed?: string) {
  const base = new Base()
  setFlags(base, flags)
  withoutAgentFlag(base, 'apps/eu-1/sleep.yaml')
  rehearsal = await start(base, { sharedRoot: true, roundLimit: 20, ...(seed === undefined ? {} : { seed }) })
  const site = onlySite(rehearsal)
  site.faults.kubeletLag.set('istio-system/Deployment/istiod', 1_000)
  const a = site.startingCa()
  const oldChain = a.certificate + a.root
  const b = newCa()
  const newChain = b.issuing.certificate + b.root
  return { base, rehearsal, site, a, b, oldChain, newChain }
}

const web = 'httpbin/Deployment/httpbin'
const old = 'sleep/Deployment/sleep'

describe('istiod and proxies while the files of a plugged CA change', () => {
  it('step 1, root A then A+B: roots are pushed, leaves are renewed by A, a proxy without the flag changes nothing', async () => {
    const { rehearsal, site, a, b, oldChain } = await plugged()
    const before = { web: heldBy(site, web), old: heldBy(site, old) }
    site.kubectlApply(cacerts({ signer: a, chain: oldChain, roots: a.root + b.root }))
    await rehearsal.run(10_000)
    expect(heldBy(site, web).trusts).toEqual(set(a.root, b.root))
    expect(heldBy(site, web).leaf).not.toBe(before.web.leaf)
    expect(heldBy(site, web).issuer).toBe(fingerprintOf(a.certificate))
    expect(heldBy(site, old)).toEqual(before.old)
    for (const namespace of ['httpbin', 'kube-system', 'default'])
      expect(rootConfigMapOf(site, namespace)).toBe(a.root + b.root)
    expect(site.logs.some(line => line.endsWith('Updating new ROOT-CA'))).toBe(true)
    expect(rehearsal.handshakes.counts.failed).toBe(0)
  })

  it('step 2a, issuer B under the same bytes A+B: leaves stay on A', async () => {
    const { rehearsal, site, a, b, oldChain, newChain } = await plugged()
    site.kubectlApply(cacerts({ signer: a, chain: oldChain, roots: a.root + b.root }))
    await rehearsal.run(10_000)
    const before = heldBy(site, web)
    site.kubectlApply(cacerts({ signer: b.issuing, chain: newChain, roots: a.root + b.root }))
    await rehearsal.run(30_000)
    expect(heldBy(site, web)).toEqual(before)
    expect(site.logs.some(line => line.includes('detected the newly added intermediate CA'))).toBe(true)
    expect(rootConfigMapOf(site, 'httpbin')).toBe(a.root + b.root)
  })

  it('step 2a and a restart of istiod: an equal bundle moves no leaf either, a proxy only does at half of its life', async () => {
    const { base, rehearsal, site, a, b, oldChain, newChain } = await plugged()
    site.kubectlApply(cacerts({ signer: a, chain: oldChain, roots: a.root + b.root }))
    await rehearsal.run(2 * minute)
    const before = heldBy(site, web)
    site.kubectlApply(cacerts({ signer: b.issuing, chain: newChain, roots: a.root + b.root }))
    await rehearsal.run(10_000)
    restartIstiod(base, 'one')
    await rehearsal.run(5 * minute)
    expect(istiodsOf(site).map(replica => replica.ca?.signer.certificate)).toEqual([
      b.issuing.certificate,
      b.issuing.certificate,
    ])
    expect(heldBy(site, web)).toEqual(before)
    expect(rehearsal.handshakes.counts.failed).toBe(0)
  })

  it('a new issuer before the projected root has followed breaks the link to istiod alone (F12)', async () => {
    const { rehearsal, site, a, b, oldChain, newChain } = await plugged()
    site.kubectlApply(cacerts({ signer: a, chain: oldChain, roots: a.root + b.root }))
    await rehearsal.run(4_000)
    site.kubectlApply(cacerts({ signer: b.issuing, chain: newChain, roots: a.root + b.root }))
    await rehearsal.run(4_000)
    expect(rehearsal.handshakes.failures.length).toBeGreaterThan(0)
    expect(new Set(rehearsal.handshakes.failures.map(failure => failure.link))).toEqual(new Set(['istiod']))
    const failed = rehearsal.handshakes.counts.failed
    await rehearsal.run(2 * minute)
    const { counts } = rehearsal.handshakes
    await rehearsal.run(5 * minute)
    expect(failed).toBeGreaterThan(0)
    expect(rehearsal.handshakes.counts.failed).toBe(counts.failed)
  })

  it('a proxy whose CA channel is at another replica than its stream is left on the old issuer until the next repeat', async () => {
    // A seed under which some proxy's CA channel is at the replica that takes the files last.
    const { rehearsal, site, a, b, oldChain, newChain } = await plugged(bothFlags, 'split')
    site.faults.splitReplicas = true
    site.kubectlApply(cacerts({ signer: a, chain: oldChain, roots: a.root + b.root }))
    await rehearsal.run(40 * minute)
    // The replicas take the files at different times.
    site.faults.kubeletLag.clear()
    site.kubectlApply(cacerts({ signer: b.issuing, chain: newChain, roots: a.root + b.root + b.root }))
    await rehearsal.run(5 * minute)
    const issuers = (): string[] =>
      everyAgent(site).map(agent => fingerprintOf(certificatesIn(agent.endpoint!.material.chain)[1]!))
    const subscribed = everyAgent(site).map(agent => agent.subscribed)
    const left = issuers().filter((issuer, index) => subscribed[index] && issuer === fingerprintOf(a.certificate))
    expect(left.length).toBeGreaterThan(0)
    site.kubectlApply(cacerts({ signer: b.issuing, chain: newChain, roots: a.root + b.root + b.root + b.root }))
    await rehearsal.run(5 * minute)
    const after = issuers().filter((issuer, index) => subscribed[index] && issuer === fingerprintOf(a.certificate))
    expect(after).toEqual([])
  })

  it('step 2b, A+B+B: the repeat makes every subscribed proxy renew at once, and one without the flag breaks (F31)', async () => {
    const { rehearsal, site, a, b, oldChain, newChain } = await plugged()
    site.kubectlApply(cacerts({ signer: a, chain: oldChain, roots: a.root + b.root }))
    await rehearsal.run(10_000)
    const before = heldBy(site, old)
    expect(rehearsal.handshakes.counts.failed).toBe(0)
    rehearsal.setPhase('2b')
    site.kubectlApply(cacerts({ signer: b.issuing, chain: newChain, roots: a.root + b.root + b.root }))
    await rehearsal.run(minute)
    expect(heldBy(site, web).issuer).toBe(fingerprintOf(b.issuing.certificate))
    expect(heldBy(site, web).trusts).toEqual(set(a.root, b.root))
    expect(rootConfigMapOf(site, 'shop')).toBe(a.root + b.root + b.root)
    expect(heldBy(site, old)).toEqual(before)
    const failures = rehearsal.handshakes.failures
    // Each side refuses by itself: `sleep` refuses the others' new leaves both as a client and as a server.
    expect(failures.some(failure => failure.error.startsWith('client: '))).toBe(true)
    expect(failures.some(failure => failure.error.startsWith('server: '))).toBe(true)
    expect(failures.length).toBeGreaterThan(0)
    for (const failure of failures.filter(entry => entry.link === 'workload')) {
      expect([failure.client, failure.server].some(party => party.startsWith('eu-1/sleep/'))).toBe(true)
      expect(failure.phase).toBe('2b')
      expect(failure.error).toMatch(/SELF_SIGNED_CERT_IN_CHAIN|unknown ca|self-signed/i)
    }
  })

  it('step 3, root B alone: everything that is subscribed moves to B', async () => {
    const { rehearsal, site, a, b, oldChain, newChain } = await plugged()
    for (const roots of [a.root + b.root]) site.kubectlApply(cacerts({ signer: a, chain: oldChain, roots }))
    await rehearsal.run(10_000)
    site.kubectlApply(cacerts({ signer: b.issuing, chain: newChain, roots: a.root + b.root + b.root }))
    await rehearsal.run(10_000)
    const before = heldBy(site, web)
    site.kubectlApply(cacerts({ signer: b.issuing, chain: newChain, roots: b.root }))
    await rehearsal.run(10_000)
    expect(heldBy(site, web).trusts).toEqual(set(b.root))
    expect(heldBy(site, web).leaf).not.toBe(before.leaf)
    expect(heldBy(site, web).issuer).toBe(fingerprintOf(b.issuing.certificate))
    expect(heldBy(site, old).trusts).toEqual(set(a.root))
    expect(rootConfigMapOf(site, 'httpbin')).toBe(b.root)
  })

  it('without ISTIO_MULTIROOT_MESH a changed root is dropped whole, the new signer with it', async () => {
    const { rehearsal, site, a, b, newChain } = await plugged({ multiroot: false, xdsAgent: true })
    const before = heldBy(site, web)
    site.kubectlApply(cacerts({ signer: b.issuing, chain: newChain, roots: a.root + b.root }))
    await rehearsal.run(30_000)
    expect(site.logs.some(line => line.endsWith('Multi root is disabled, updating new ROOT-CA not supported'))).toBe(
      true,
    )
    expect(heldBy(site, web)).toEqual(before)
    expect(rootConfigMapOf(site, 'httpbin')).toBe(a.root)
    expect(istiodsOf(site).map(replica => replica.ca?.signer.certificate)).toEqual([a.certificate, a.certificate])
  })

  it.each([
    ['a direct swap A to B', (a: string, b: string) => [a, b]],
    ['A+B to B+A+B, where neither text holds the other', (a: string, b: string) => [a + b, b + a]],
  ])('%s is refused by a running istiod, which keeps what it had', async (_name, bundles) => {
    const { rehearsal, site, a, b, oldChain, newChain } = await plugged()
    const [first, second] = bundles(a.root, b.root) as [string, string]
    if (first !== a.root) site.kubectlApply(cacerts({ signer: a, chain: oldChain, roots: first }))
    await rehearsal.run(10_000)
    const before = heldBy(site, web)
    site.kubectlApply(cacerts({ signer: b.issuing, chain: newChain, roots: second }))
    await rehearsal.run(30_000)
    expect(site.logs.some(line => line.endsWith('Updating new ROOT-CA not supported'))).toBe(true)
    expect(heldBy(site, web)).toEqual(before)
    expect(rootConfigMapOf(site, 'httpbin')).toBe(first)
  })

  it('a proxy without the flag takes roots and issuer with its renewal at half of its leaf’s life', async () => {
    const { rehearsal, site, a, b, oldChain } = await plugged()
    site.kubectlApply(cacerts({ signer: a, chain: oldChain, roots: a.root + b.root }))
    await rehearsal.run(11 * hour)
    expect(heldBy(site, old).trusts).toEqual(set(a.root))
    await rehearsal.run(2 * hour)
    expect(heldBy(site, old).trusts).toEqual(set(a.root, b.root))
  })

  it('an incomplete cacerts is fatal for an istiod that starts with it, and harmless for one that runs', async () => {
    const { base, rehearsal, site, a } = await plugged()
    const broken = cacerts({ signer: a, chain: a.certificate, roots: a.root })
    delete (broken.data as Record<string, string>)['root-cert.pem']
    site.kubectlApply(broken)
    await rehearsal.run(2 * minute)
    expect(heldBy(site, web).trusts).toEqual(set(a.root))
    restartIstiod(base, 'one')
    await rehearsal.run(5 * minute)
    expect(site.logs.some(line => line.includes('incomplete signing CA bundle detected: root-cert.pem'))).toBe(true)
    expect((site.system as IstioSite).plane.serving.length).toBeGreaterThan(0)
    expect(rehearsal.handshakes.counts.failed).toBe(0)
  })
})

describe('an istiod that started with a CA of its own', () => {
  it('ignores files that appear later (F11), and takes them at its next start, its own key first', async () => {
    const base = new Base()
    setFlags(base, bothFlags)
    rehearsal = await start(base)
    const site = onlySite(rehearsal)
    const own = site.startingCa()
    const b = newCa()
    const before = heldBy(site, web)
    site.kubectlApply(cacerts({ signer: own, chain: own.certificate, roots: own.root + b.root }))
    await rehearsal.run(10 * minute)
    expect(heldBy(site, web)).toEqual(before)
    expect(rootConfigMapOf(site, 'httpbin')).toBe(own.root)

    restartIstiod(base, 'one')
    await rehearsal.run(10 * minute)
    expect(heldBy(site, web).trusts).toEqual(set(own.root, b.root))
    expect(heldBy(site, web).issuer).toBe(fingerprintOf(own.certificate))
    expect(rootConfigMapOf(site, 'httpbin')).toBe(own.root + b.root)

    site.kubectlApply(
      cacerts({ signer: b.issuing, chain: b.issuing.certificate + b.root, roots: own.root + b.root + b.root }),
    )
    await rehearsal.run(5 * minute)
    expect(heldBy(site, web).issuer).toBe(fingerprintOf(b.issuing.certificate))
    site.kubectlApply(cacerts({ signer: b.issuing, chain: b.issuing.certificate + b.root, roots: b.root }))
    await rehearsal.run(5 * minute)
    expect(heldBy(site, web).trusts).toEqual(set(b.root))
    expect(rehearsal.handshakes.counts.failed).toBe(0)
    expect(rehearsal.handshakes.counts.attempted).toBeGreaterThan(500)
  })

  it('makes RSA 2048 with an organisation alone and keeps it in istio-ca-secret', async () => {
    rehearsal = await start(new Base())
    const site = onlySite(rehearsal)
    const { X509Certificate } = await import('node:crypto')
    const root = new X509Certificate(site.startingCa().certificate)
    expect(root.subject).toBe('O=cluster.local')
    expect(root.publicKey.asymmetricKeyDetails?.modulusLength).toBe(2048)
    expect(site.store.get('', 'Secret', 'istio-system', 'istio-ca-secret')?.type).toBe('istio.io/ca-root')
    expect(istiodsOf(site)).toHaveLength(2)
    expect(new Set(istiodsOf(site).map(replica => replica.ca?.signer.certificate)).size).toBe(1)
  })
})
