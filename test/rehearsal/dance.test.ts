import { randomUUID } from 'node:crypto'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { fingerprintOf } from '../../src/rehearsal/certificates.ts'
import type { Rehearsal } from '../../src/rehearsal/rehearsal.ts'
import {
  agentsOf,
  Base,
  bothFlags,
  everyAgent,
  heldBy,
  istiodsOf,
  minute,
  newCa,
  onlySite,
  restartIstiod,
  restartWorkloads,
  set,
  setFlags,
  sopsCustody,
  start,
  trustFolder,
} from './support.ts'

vi.setConfig({ testTimeout: 180_000 })

let rehearsal: Rehearsal | null = null

afterEach(async () => {
  await rehearsal?.close()
  rehearsal = null
})

/** The runbook through Git, each step given the time that a gate would give it. */
async function dance(seed: number, faults: Parameters<typeof start>[1] = {}) {
  const base = new Base()
  // A token is a digest of certificates, and so another one in each run.
  const token = randomUUID()
  rehearsal = await start(base, { seed, ...faults })
  const site = onlySite(rehearsal)
  const custody = sopsCustody()
  const own = site.startingCa()
  const b = newCa()
  const chain = b.issuing.certificate + b.root

  rehearsal.setPhase('enable-multiroot')
  setFlags(base, bothFlags)
  await rehearsal.run(5 * minute)
  restartWorkloads(base, `one-${token}`)
  await rehearsal.run(5 * minute)

  rehearsal.setPhase('trust-both')
  base.merge(await trustFolder(custody, { signer: own, chain: own.certificate, roots: own.root + b.root }))
  await rehearsal.run(5 * minute)
  restartIstiod(base, `both-${token}`)
  await rehearsal.run(5 * minute)
  const both = heldBy(site, 'httpbin/Deployment/httpbin').trusts

  rehearsal.setPhase('issue-new')
  base.merge(await trustFolder(custody, { signer: b.issuing, chain, roots: own.root + b.root + b.root }))
  await rehearsal.run(5 * minute)
  restartIstiod(base, `new-${token}`)
  await rehearsal.run(5 * minute)
  const issuers = everyAgent(site).map(
    agent => heldBy(site, `${agent.pod.metadata.namespace}/any/${agent.pod.metadata.name.split('-')[0]}`).issuer,
  )

  rehearsal.setPhase('trust-new')
  base.merge(await trustFolder(custody, { signer: b.issuing, chain, roots: b.root }))
  await rehearsal.run(5 * minute)
  restartIstiod(base, `done-${token}`)
  await rehearsal.run(5 * minute)
  return { site, own, b, both, issuers, rehearsal }
}

describe('the whole rotation through Git', () => {
  it.each([1, 2, 3])('breaks no handshake under seed %i and ends on the new root alone', async seed => {
    const { site, own, b, both, issuers, rehearsal } = await dance(seed, { roundLimit: 20 })
    expect(rehearsal.handshakes.failures).toEqual([])
    expect(rehearsal.handshakes.counts.failed).toBe(0)
    expect(rehearsal.handshakes.counts.attempted).toBeGreaterThan(1_000)
    expect(both).toEqual(set(own.root, b.root))
    expect(new Set(issuers)).toEqual(new Set([fingerprintOf(b.issuing.certificate)]))
    for (const agent of everyAgent(site)) expect(agent.endpoint?.material.trusts).toEqual(set(b.root))
    // F5: istiod by its environment and by three tokens; each workload once.
    const restarts = Object.fromEntries(rehearsal.restarts().map(({ consumer, count }) => [consumer, count]))
    expect(restarts).toEqual({
      'httpbin/Deployment/httpbin': 1,
      'ingress/Deployment/ingress': 1,
      'istio-system/Deployment/istiod': 4,
      'shop/Deployment/cart': 1,
      'shop/Deployment/frontend': 1,
      'shop/StatefulSet/cart-store': 1,
      'sleep/Deployment/sleep': 1,
    })
  })

  it('has the same counts and the same restarts for the same seed', async () => {
    const runs: unknown[] = []
    for (let index = 0; index < 2; index += 1) {
      const { rehearsal: one } = await dance(7, { roundLimit: 5 })
      runs.push({
        phases: [...one.handshakes.countsByPhase],
        restarts: one.restarts(),
        time: one.clock.instant(),
        pods: one.handshakes.parties.map(party => party.owner),
      })
      await one.close()
    }
    expect(runs[1]).toEqual(runs[0])
  })

  it('breaks where one workload never reloads and nobody looks (never-reloads, F14)', async () => {
    const { rehearsal } = await dance(1, { faults: ['never-reloads'], faultTarget: 'shop/Deployment/cart' })
    expect(rehearsal.culprit()).toBe('shop/Deployment/cart')
    expect(rehearsal.handshakes.counts.failed).toBeGreaterThan(0)
    for (const failure of rehearsal.handshakes.failures)
      expect(`${failure.client} ${failure.server}`).toContain('eu-1/shop/cart-')
  })

  it('keeps one istiod replica on its old files, restarted or not (replica-lags, F21)', async () => {
    const base = new Base()
    setFlags(base, bothFlags)
    rehearsal = await start(base, { faults: ['replica-lags'] })
    const site = onlySite(rehearsal)
    const own = site.startingCa()
    const b = newCa()
    base.merge(await trustFolder(sopsCustody(), { signer: own, chain: own.certificate, roots: own.root + b.root }))
    await rehearsal.run(5 * minute)
    restartIstiod(base, 'both')
    await rehearsal.run(5 * minute)
    const sources = istiodsOf(site)
      .map(replica => replica.ca?.source)
      .sort()
    expect(sources).toEqual(['own', 'plugged'])
    const lagging = istiodsOf(site).find(replica => replica.ca?.source === 'own')
    expect(rehearsal.culprit()).toBe(`istio-system/${lagging?.pod.metadata.name}`)
    expect(rehearsal.handshakes.counts.failed).toBe(0)
  })
})

describe('the naive swap that people do (one-step)', () => {
  it('breaks handshakes: the rehearsal can tell the difference', async () => {
    const base = new Base()
    rehearsal = await start(base)
    const site = onlySite(rehearsal)
    const b = newCa()
    rehearsal.setPhase('swap')
    base.merge(
      await trustFolder(sopsCustody(), { signer: b.issuing, chain: b.issuing.certificate + b.root, roots: b.root }),
    )
    await rehearsal.run(5 * minute)
    expect(rehearsal.handshakes.counts.failed).toBe(0)
    restartIstiod(base, 'swap')
    await rehearsal.run(5 * minute)
    restartWorkloads(base, 'swap')
    await rehearsal.run(10 * minute)
    const { failures, counts } = rehearsal.handshakes
    expect(counts.failed).toBeGreaterThan(0)
    expect(new Set(failures.map(failure => failure.link))).toContain('workload')
    expect(failures.every(failure => failure.phase === 'swap' && failure.error !== '')).toBe(true)
    for (const agent of agentsOf(site, 'httpbin/Deployment/httpbin'))
      expect(agent.endpoint?.material.trusts).toEqual(set(b.root))
  })

  it('counts apart what a plan had foretold', async () => {
    const base = new Base()
    rehearsal = await start(base)
    const b = newCa()
    rehearsal.handshakes.foretells = failure => failure.link === 'workload'
    base.merge(
      await trustFolder(sopsCustody(), { signer: b.issuing, chain: b.issuing.certificate + b.root, roots: b.root }),
    )
    await rehearsal.run(5 * minute)
    restartIstiod(base, 'swap')
    restartWorkloads(base, 'swap')
    await rehearsal.run(10 * minute)
    expect(rehearsal.handshakes.counts.foretold).toBeGreaterThan(0)
    expect(
      rehearsal.handshakes.failures.filter(failure => failure.foretold).every(failure => failure.link === 'workload'),
    ).toBe(true)
    expect(
      rehearsal.handshakes.failures.filter(failure => !failure.foretold).some(failure => failure.link === 'workload'),
    ).toBe(false)
  })
})
