/** Whole rotations of Kyma's root CA: real Envoys verify the clients, on real API servers of the central cluster and of a runtime's. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { parseDocument } from 'yaml'
import { loadRotation } from '../../src/commands/rotation.ts'
import { openRepository } from '../../src/repository/repository.ts'
import type { GateResult } from '../../src/rotation.ts'
import { foretoldPairs } from '../../src/safety/price.ts'
import { centralSite, type KymaWorld, kymaFleet, runtimeName, startKymaWorld } from './rig/kyma-world.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { mustSay } from './rig/reanchor.ts'
import { type FleetRepository, makeRepository } from './rig/repository.ts'
import { merge, type RotationOptions, report, rotate, shortGates } from './rig/rotation.ts'
import { until } from './rig/server.ts'

const gateways = 2
const clients = 3

describe('Kyma’s gateway', () => {
  let network: Network
  let repository: FleetRepository
  let kyma: KymaWorld

  beforeEach(async () => {
    network = await createNetwork()
    repository = await makeRepository((_url, recipient) => kymaFleet(recipient))
    kyma = await startKymaWorld(network, repository)
    await until(
      'every client is taken by every gateway pod',
      () => {
        const lately = kyma.clients.meetings.filter(({ at }) => at > Date.now() - 5000)
        const pairs = new Set(lately.map(({ client, gateway }) => `${client} ${gateway}`))
        return pairs.size === clients * gateways && lately.every(({ error }) => error === null)
      },
      60_000,
    )
  }, 600_000)

  afterEach(async () => {
    await kyma?.stop()
    await repository?.close()
    await network?.close()
  })

  function options(
    name: string,
    strategy: 'graceful' | 'emergency',
  ): Omit<RotationOptions, 'onWaiting' | 'onOpened' | 'onMerged'> {
    return {
      system: 'kyma',
      name,
      repository,
      administrator: kyma.administrator,
      verifier: kyma.verifier,
      init: ['--site', `${centralSite}=trust/${centralSite}`, '--context', `${centralSite}=${centralSite}`],
      edit(text) {
        const document = parseDocument(shortGates(text))
        document.setIn(['spec', 'strategy'], strategy)
        document.setIn(['spec', 'kyma', 'applications'], 'attested')
        if (strategy === 'emergency') document.setIn(['spec', 'kyma', 'compromised'], 'key')
        const runtime = { name: runtimeName, kind: 'central', connection: runtimeName, context: runtimeName }
        document.setIn(['spec', 'kyma', 'runtimes'], [runtime])
        document.setIn(['spec', 'gates', 'attest'], [{ name: 'applications', why: 'the owners of crm and billing' }])
        return document.toString()
      },
    }
  }

  /** What people do where a gate asks them: clients get new certificates, and the owners of applications say so. */
  function people(name: string, renew: (client: string) => Promise<void>) {
    let asked = 0
    let told = false
    return async (step: string, gates: readonly GateResult[]): Promise<void> => {
      const waits = (id: string): boolean => gates.some(gate => gate.id === id)
      // Soon after the connector's Secret has changed a renewal proves nothing, so it takes another.
      if (waits('kyma/runtimes-renewed') && Date.now() - asked > 15_000) {
        asked = Date.now()
        await renew(runtimeName)
      }
      if (!waits('kyma/attested') || told) return
      told = true
      for (const client of ['crm', 'billing']) await renew(client)
      const phase = /^(\d+)-/.exec(step)?.[1] ?? ''
      const flags = ['--rotation', name, '--phase', phase, '--by', 'Grace', '--output', 'json']
      const said = await mustSay(['attest', 'applications', ...flags], { cwd: repository.clone })
      const { pullRequest } = said.json as { readonly pullRequest: { readonly number: number } }
      await merge({ repository }, pullRequest.number)
    }
  }

  const refusedSince = (since: number) => kyma.clients.meetings.filter(({ at, error }) => at >= since && error !== null)
  const metSince = (since: number): number => kyma.clients.meetings.filter(({ at }) => at >= since).length

  it('gets a new key in peace: everybody renews while both are trusted, nobody is refused, and a Flux that is down holds the next step', async () => {
    const since = Date.now()
    const renew = people('first', async client => {
      if (client === runtimeName) await kyma.askToRenew()
      else await kyma.client(client).renew()
    })
    let down = 0
    let up = 0
    const whileDown: string[] = []
    const record = await rotate({
      ...options('first', 'graceful'),
      async onOpened(step) {
        if (down > 0 && up === 0) whileDown.push(step)
        if (step !== '1-trust-both/1-data') return true
        await kyma.flux.kill()
        down = Date.now()
        return true
      },
      async onWaiting(step, gates) {
        if (down > 0 && up === 0 && Date.now() - down > 20_000) {
          await kyma.flux.start()
          up = Date.now()
        }
        await renew(step, gates)
      },
    })
    const refused = refusedSince(since)
    const requests = { sent: metSince(since), failed: refused.length }
    await report({ what: 'Kyma 1.11, file SDS: graceful, Flux down for 20 s', ...record, ...requests })
    expect(record.steps.map(step => step.step)).toEqual([
      'plan',
      '0-adopt/1-adopt',
      '1-trust-both/1-data',
      '2-issue-new/1-data',
      '3-trust-new/1-data',
      '4-close',
    ])
    expect(up).toBeGreaterThan(down)
    // What is opened while Flux is down is trust-both itself, which is then merged.
    expect(whileDown).toEqual([])
    const issued = record.steps.find(({ step }) => step === '2-issue-new/1-data')
    expect(Date.parse(issued?.mergedAt ?? '')).toBeGreaterThan(up)
    for (const step of record.steps.slice(1, -1))
      expect(step.consumers, step.step).toMatchObject({ gateway: gateways, runtime: 1 })
    expect(refused).toEqual([])
    expect(requests.sent).toBeGreaterThan(100)
    const [first] = kyma.clients.meetings
    const last = new Set(kyma.clients.meetings.slice(-clients * gateways).map(({ presents }) => presents))
    expect(last.size).toBe(1)
    expect(last.has(first?.presents ?? '')).toBe(false)
  }, 1_200_000)

  it('gets another for one that is compromised: exactly the foretold pairs are refused, and no others', async () => {
    const since = Date.now()
    const onboard = people('second', async client => await kyma.client(client).onboard())
    let closed: Promise<unknown> = Promise.resolve()
    const record = await rotate({
      ...options('second', 'emergency'),
      plan: ['--accept-outage'],
      async onOpened(step) {
        if (step !== '1-replace/1-data') return true
        // The node of one gateway pod lags behind, so that new leaves meet the old trust too.
        const [late] = kyma.kubelet.find('istio-system', 'istio-ingressgateway-')
        kyma.kubelet.holdProjection(pod => pod.uid === late?.uid)
        closed = until(
          'clients of both kinds were refused with old and with new leaves',
          () => new Set(refusedSince(since).map(({ kind, presents }) => `${kind} ${presents}`)).size === 4,
          400_000,
        ).finally(() => kyma.kubelet.holdProjection(null))
        closed.catch(() => {})
        return true
      },
      async onWaiting(step, gates) {
        const refused = new Set(refusedSince(since).map(({ kind }) => kind))
        // With the key in foreign hands people bring new tokens once clients are refused, past the gateway.
        if (refused.size < 2) return
        if (step.startsWith('1-')) for (const client of ['shop', 'crm', 'billing']) await kyma.client(client).onboard()
        await onboard(step, gates)
      },
    })
    await closed
    const repositoryOpened = await openRepository(repository.clone, { remote: 'origin' })
    const { plan } = await loadRotation(repositoryOpened, { rotation: 'second', base: 'main' })
    const pair = (client: string, presents: string, trusts: readonly string[]): string =>
      `${client} with a leaf of ${presents} at a gateway that trusts ${trusts.join(', ')}`
    const foretold = foretoldPairs(plan).map(({ client, presents, trusts }) => pair(client, presents, trusts))
    const refused = refusedSince(since)
    const seen = new Set(refused.map(({ kind, presents, trusts }) => pair(kind, presents, trusts)))
    const requests = { sent: metSince(since), failed: refused.length, pairs: seen.size }
    await report({ what: 'Kyma 1.11, file SDS: emergency for a compromised key', ...record, ...requests })
    expect(record.steps.map(step => step.step)).toEqual(['plan', '0-adopt/1-adopt', '1-replace/1-data', '2-close'])
    expect(foretold).toHaveLength(4)
    expect([...seen].sort()).toEqual([...foretold].sort())
    await until(
      'nobody is refused any more',
      () => {
        const lately = kyma.clients.meetings.filter(({ at }) => at > Date.now() - 3000)
        return lately.length >= clients * gateways && lately.every(({ error }) => error === null)
      },
      60_000,
    )
  }, 1_200_000)
})
