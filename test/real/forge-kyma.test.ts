/** Kyma's root CA from `init` to the closed rotation through a real Gitea: nobody merges but who presses every button, and people do only what a gate asks of them. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { foretold, pairTexts } from './rig/foretold.ts'
import { type ForgeFleet, makeForgeFleet } from './rig/forge-fleet.ts'
import {
  everybodyIsTaken,
  kymaGateways,
  kymaPeople,
  kymaRotation,
  lagUntilAllRefused,
  meetingsSince,
  onceRefused,
  presentedFirstAndLast,
  refusedPairs,
} from './rig/kyma-people.ts'
import { type KymaWorld, kymaFleet, runtimeName, startKymaWorld } from './rig/kyma-world.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { mustSay } from './rig/reanchor.ts'
import { report } from './rig/rotation.ts'
import { type UnattendedOptions, unattended } from './rig/unattended.ts'

describe('Kyma through a real Gitea, with nobody who looks', () => {
  let network: Network
  let fleet: ForgeFleet
  let kyma: KymaWorld

  beforeEach(async () => {
    network = await createNetwork()
    fleet = await makeForgeFleet((_url, recipient) => kymaFleet(recipient))
    kyma = await startKymaWorld(network, fleet)
    await everybodyIsTaken(kyma)
  }, 900_000)

  afterEach(async () => {
    await kyma?.stop()
    await fleet?.close()
    await network?.close()
  })

  function options(name: string, strategy: 'graceful' | 'emergency'): UnattendedOptions {
    return { fleet, ...kymaRotation(kyma, name, strategy) }
  }

  /** Opens a person's word from a clone without any kubeconfig; it is merged as everything else is, once `reanchor/gate` lets it. */
  function people(name: string, renew: (client: string) => Promise<void>): ReturnType<typeof kymaPeople> {
    return kymaPeople({
      renew,
      async vouch(phase) {
        const desk = await fleet.runner([])
        await mustSay(['attest', 'applications', '--rotation', name, '--phase', phase, '--by', 'Grace'], desk)
      },
    })
  }

  it('goes from init to the closed rotation: everybody renews while both CAs are trusted, and nobody is refused', async () => {
    const since = Date.now()
    const act = people('first', async client => {
      if (client === runtimeName) await kyma.askToRenew()
      else await kyma.client(client).renew()
    })
    const record = await unattended({
      ...options('first', 'graceful'),
      async onRound({ step, kind, gates }) {
        if (kind === 'waiting') await act(step ?? 'plan', gates)
      },
    })
    const { sent, refused } = meetingsSince(kyma, since)
    await report({ what: 'Kyma through a real Gitea, unattended: graceful', ...record, sent, failed: refused.length })
    expect(record.steps.map(step => step.step)).toEqual([
      'plan',
      '0-adopt/1-adopt',
      '1-trust-both/1-data',
      '2-issue-new/1-data',
      '3-trust-new/1-data',
      '4-close',
    ])
    expect(words(record)).toEqual(['reanchor/first/attest-2-applications'])
    expect(record.merges.map(({ gate }) => gate.replace(/:.*/, ''))).toEqual(record.merges.map(() => 'success'))
    expect(record.refused).toBeGreaterThan(0)
    for (const step of record.steps.slice(1, -1))
      expect(step.consumers, step.step).toMatchObject({ gateway: kymaGateways, runtime: 1 })
    expect(refused).toEqual([])
    expect(sent).toBeGreaterThan(100)
    const { first, last } = presentedFirstAndLast(kyma)
    expect(last.size).toBe(1)
    expect(last.has(first)).toBe(false)
  }, 1_500_000)

  it('replaces one that is compromised: exactly the foretold pairs are refused, and no others', async () => {
    const since = Date.now()
    const act = people('second', async client => await kyma.client(client).onboard())
    const closed = lagUntilAllRefused(kyma, since)
    const record = await unattended({
      ...options('second', 'emergency'),
      plan: ['--accept-outage'],
      async onRound({ step, kind, gates }) {
        const at = step ?? 'plan'
        if (kind === 'waiting') await onceRefused(kyma, since, at, () => act(at, gates))
      },
    })
    await closed
    const { sent, refused } = meetingsSince(kyma, since)
    const seen = refusedPairs(refused)
    await report({
      what: 'Kyma through a real Gitea, unattended: emergency for a compromised key',
      ...record,
      ...{ sent, failed: refused.length, pairs: seen.length },
    })
    const expected = pairTexts(await foretold(fleet, 'second'))
    expect(record.steps.map(step => step.step)).toEqual(['plan', '0-adopt/1-adopt', '1-replace/1-data', '2-close'])
    expect(words(record)).toEqual(['reanchor/second/attest-1-applications'])
    expect(record.merges.map(({ gate }) => gate.replace(/:.*/, ''))).toEqual(record.merges.map(() => 'success'))
    expect(expected).toHaveLength(4)
    expect(seen).toEqual(expected)
    await everybodyIsTaken(kyma)
  }, 1_500_000)
})

function words({ merges }: { readonly merges: readonly { readonly branch: string }[] }): readonly string[] {
  return merges.map(({ branch }) => branch).filter(branch => branch.includes('/attest-'))
}
