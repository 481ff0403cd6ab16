/** Kyma's root CA from `init` to the closed rotation through a real Gitea: nobody merges but who presses every button, and people do only what a gate asks of them. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { fingerprintOf } from './rig/fingerprint.ts'
import { foretold, pairTexts } from './rig/foretold.ts'
import { type ForgeFleet, makeForgeFleet } from './rig/forge-fleet.ts'
import { kymaNames } from './rig/kyma-gateway.ts'
import {
  everybodyIsTaken,
  type KymaStrategy,
  kymaGateways,
  kymaPeopleOnForge,
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
import { report } from './rig/rotation.ts'
import { gatesMerged, type UnattendedOptions, unattended } from './rig/unattended.ts'

let network: Network
let fleet: ForgeFleet
let kyma: KymaWorld

async function start(): Promise<void> {
  network = await createNetwork()
  fleet = await makeForgeFleet((_url, recipient) => kymaFleet(recipient))
  kyma = await startKymaWorld(network, fleet)
  await everybodyIsTaken(kyma)
}

async function stop(): Promise<void> {
  await kyma?.stop()
  await fleet?.close()
  await network?.close()
}

function options(name: string, strategy: KymaStrategy): UnattendedOptions {
  return { fleet, ...kymaRotation(kyma, name, strategy) }
}

describe('Kyma through a real Gitea, with nobody who looks', () => {
  beforeEach(start, 900_000)
  afterEach(stop)

  it('goes from init to the closed rotation: everybody renews while both CAs are trusted, and nobody is refused', async () => {
    const since = Date.now()
    const act = kymaPeopleOnForge(fleet, 'first', client => renewAt(kyma, client))
    const record = await unattended({
      ...options('first', 'graceful'),
      async onRound({ step, kind, gates }) {
        if (kind === 'waiting') await act(step ?? 'plan', gates)
      },
    })
    const { sent, refused } = meetingsSince(kyma, since)
    await report({ what: 'Kyma through a real Gitea, unattended: graceful', ...record, sent, failed: refused.length })
    expect(record.steps.map(step => step.step)).toEqual(kymaSteps)
    expect(words(record)).toEqual(['reanchor/first/attest-2-applications'])
    expect(gatesMerged(record)).toEqual(['success'])
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
    const act = kymaPeopleOnForge(fleet, 'second', async client => await kyma.client(client).onboard())
    const closed = lagUntilAllRefused(kyma, since)
    const record = await unattended({
      ...options('second', 'emergency for the key'),
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
    expect(gatesMerged(record)).toEqual(['success'])
    expect(expected).toHaveLength(4)
    expect(seen).toEqual(expected)
    await everybodyIsTaken(kyma)
  }, 1_500_000)
})

describe('Kyma’s key stays, through a real Gitea, with nobody who looks', () => {
  beforeAll(start, 900_000)
  afterAll(stop)

  it.each<{ readonly name: string; readonly strategy: KymaStrategy; readonly steps: readonly string[] }>([
    {
      name: 'third',
      strategy: 'renew',
      steps: kymaSteps.slice(1),
    },
    {
      name: 'fourth',
      strategy: 'emergency for the certificate',
      steps: ['1-replace/1-data', '2-close'],
    },
  ])(
    'and $strategy refuses nobody: everybody renews with the certificate that they have',
    async ({ name, strategy, steps }) => {
      const since = Date.now()
      const before = await signer()
      const act = kymaPeopleOnForge(fleet, name, client => renewAt(kyma, client))
      const record = await unattended({
        ...options(name, strategy),
        async onRound({ step, kind, gates }) {
          if (kind === 'waiting') await act(step ?? 'plan', gates)
        },
      })
      const { sent, refused } = meetingsSince(kyma, since)
      await report({
        what: `Kyma through a real Gitea, unattended: ${strategy}`,
        ...record,
        sent,
        failed: refused.length,
      })
      expect(record.steps.map(step => step.step)).toEqual(['plan', ...steps])
      expect(words(record)).toEqual([`reanchor/${name}/attest-${strategy === 'renew' ? 2 : 1}-applications`])
      expect(gatesMerged(record)).toEqual(['success'])
      expect(await foretold(fleet, name)).toEqual([])
      expect(refused).toEqual([])
      expect(sent).toBeGreaterThan(50)
      const after = await signer()
      expect(after.key).toBe(before.key)
      const { last } = presentedFirstAndLast(kyma)
      expect(before.certificate).not.toBe(after.certificate)
      expect([...last]).toEqual([after.certificate])
    },
    1_200_000,
  )

  /** What the connector signs with: its certificate by SHA-256 of DER. */
  async function signer(): Promise<{ readonly certificate: string; readonly key: string }> {
    const { namespace, name } = kymaNames.signer
    const found = await kyma.central.objects.get({ apiVersion: 'v1', kind: 'Secret', namespace, name })
    const data = (found?.data ?? {}) as Readonly<Record<string, string>>
    const text = (key: string): string => Buffer.from(data[key] ?? '', 'base64').toString('utf8')
    return { certificate: fingerprintOf(text('ca.crt')), key: text('ca.key') }
  }
})

function words({ merges }: { readonly merges: readonly { readonly branch: string }[] }): readonly string[] {
  return merges.map(({ branch }) => branch).filter(branch => branch.includes('/attest-'))
}
