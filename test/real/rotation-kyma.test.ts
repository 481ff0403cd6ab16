/** Whole rotations of Kyma's root CA: real Envoys verify the clients, on real API servers of the central cluster and of a runtime's. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { foretold, pairTexts } from './rig/foretold.ts'
import {
  everybodyIsTaken,
  type KymaStrategy,
  kymaGateways,
  kymaPeople,
  kymaRotation,
  kymaSteps,
  lagUntilAllRefused,
  meetingsSince,
  onceRefused,
  presentedFirstAndLast,
  refusedPairs,
  renewAt,
} from './rig/kyma-people.ts'
import { type KymaWorld, kymaFleet, startKymaWorld } from './rig/kyma-world.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { mustSay } from './rig/reanchor.ts'
import { type FleetRepository, makeRepository } from './rig/repository.ts'
import { merge, type RotationOptions, report, rotate } from './rig/rotation.ts'

describe('Kyma’s gateway', () => {
  let network: Network
  let repository: FleetRepository
  let kyma: KymaWorld

  beforeEach(async () => {
    network = await createNetwork()
    repository = await makeRepository((_url, recipient) => kymaFleet(recipient))
    kyma = await startKymaWorld(network, repository)
    await everybodyIsTaken(kyma)
  }, 600_000)

  afterEach(async () => {
    await kyma?.stop()
    await repository?.close()
    await network?.close()
  })

  function options(name: string, strategy: KymaStrategy): Omit<RotationOptions, 'onWaiting' | 'onOpened' | 'onMerged'> {
    return { repository, ...kymaRotation(kyma, name, strategy) }
  }

  function people(name: string, renew: (client: string) => Promise<void>): ReturnType<typeof kymaPeople> {
    return kymaPeople({
      renew,
      async vouch(phase) {
        const flags = ['--rotation', name, '--phase', phase, '--by', 'Grace', '--output', 'json']
        const said = await mustSay(['attest', 'applications', ...flags], { cwd: repository.clone })
        const { pullRequest } = said.json as { readonly pullRequest: { readonly number: number } }
        await merge({ repository }, pullRequest.number)
      },
    })
  }

  it('gets a new key in peace: everybody renews while both are trusted, nobody is refused, and a Flux that is down holds the next step', async () => {
    const since = Date.now()
    const renew = people('first', client => renewAt(kyma, client))
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
    const { sent, refused } = meetingsSince(kyma, since)
    await report({
      what: 'Kyma 1.11, file SDS: graceful, Flux down for 20 s',
      ...record,
      sent,
      failed: refused.length,
    })
    expect(record.steps.map(step => step.step)).toEqual(kymaSteps)
    expect(up).toBeGreaterThan(down)
    // What is opened while Flux is down is trust-both itself, which is then merged.
    expect(whileDown).toEqual([])
    const issued = record.steps.find(({ step }) => step === '2-issue-new/1-data')
    expect(Date.parse(issued?.mergedAt ?? '')).toBeGreaterThan(up)
    for (const step of record.steps.slice(1, -1))
      expect(step.consumers, step.step).toMatchObject({ gateway: kymaGateways, runtime: 1 })
    expect(refused).toEqual([])
    expect(sent).toBeGreaterThan(100)
    const { first, last } = presentedFirstAndLast(kyma)
    expect(last.size).toBe(1)
    expect(last.has(first)).toBe(false)
  }, 1_200_000)

  it('gets another for one that is compromised: exactly the foretold pairs are refused, and no others', async () => {
    const since = Date.now()
    const onboard = people('second', async client => await kyma.client(client).onboard())
    let closed: Promise<unknown> = Promise.resolve()
    const record = await rotate({
      ...options('second', 'emergency for the key'),
      plan: ['--accept-outage'],
      async onOpened(step) {
        if (step === '1-replace/1-data') closed = lagUntilAllRefused(kyma, since)
        return true
      },
      onWaiting: (step, gates) => onceRefused(kyma, since, step, () => onboard(step, gates)),
    })
    await closed
    const { sent, refused } = meetingsSince(kyma, since)
    const seen = refusedPairs(refused)
    await report({
      what: 'Kyma 1.11, file SDS: emergency for a compromised key',
      ...record,
      ...{ sent, failed: refused.length, pairs: seen.length },
    })
    const expected = pairTexts(await foretold(repository, 'second'))
    expect(record.steps.map(step => step.step)).toEqual(['plan', '0-adopt/1-adopt', '1-replace/1-data', '2-close'])
    expect(expected).toHaveLength(4)
    expect(seen).toEqual(expected)
    await everybodyIsTaken(kyma)
  }, 1_200_000)
})
