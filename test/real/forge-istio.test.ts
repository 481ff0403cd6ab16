/** Istio from `init` to the closed rotation with no hand in between: a real Gitea, Flux and API server, real istiods, agents and Envoys. */
import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isForetold, type SeenRefusal } from '../../src/safety/price.ts'
import { fingerprintOf } from './rig/fingerprint.ts'
import { foretold, pairTexts } from './rig/foretold.ts'
import { type ForgeFleet, makeForgeFleet } from './rig/forge-fleet.ts'
import { itInAll } from './rig/in-all.ts'
import { emergencyDeclared, issuerDeclared, issuingUnder } from './rig/issuing.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { mustSay, reanchor, told } from './rig/reanchor.ts'
import { copyStep, nextOf, report, shortGates } from './rig/rotation.ts'
import { fluxShopFiles, hasReached, shopInit, shopNamespace, shopSite, shopSteps, startFluxShop } from './rig/shop.ts'
import type { TrafficFailure } from './rig/traffic.ts'
import { gatesMerged, type UnattendedOptions, unattended } from './rig/unattended.ts'
import { byStep, failuresText, flowing, held, plannedTrust, recordOf } from './rig/watch.ts'
import type { FluxCluster } from './rig/world.ts'

const workloads = ['frontend', 'cart', 'orders']

describe('Istio through a real Gitea, with nobody who looks', () => {
  let network: Network
  let fleet: ForgeFleet
  let cluster: FluxCluster

  beforeAll(async () => {
    network = await createNetwork()
    fleet = await makeForgeFleet((_url, recipient) => fluxShopFiles(recipient))
    cluster = await startFluxShop(network, fleet, workloads)
  }, 900_000)

  afterAll(async () => {
    await cluster?.stop()
    await fleet?.close()
    await network?.close()
  })

  it('goes from init to the closed rotation; what is not green is pressed at all the time and never merged', async () => {
    const since = Date.now()
    let hurried: number | null = null
    let hurriedGate = ''
    const record = await unattended({
      ...options('first'),
      async onRound({ step, buttons }) {
        const { api, name } = fleet
        if (hurried === null) {
          if (!hasReached(step, '0-adopt/1-adopt')) return
          // A person in a hurry asks for the last step at once.
          const site = { name: shopSite, path: `trust/${shopSite}` }
          await copyStep({ repository: fleet }, 'first', '4-trust-new/1-data', site, 'hurry')
          await fleet.git('push', '--quiet', 'origin', 'hurry')
          const asked = { title: 'Be done with it', head: 'hurry', base: 'main' }
          hurried = (await api<{ readonly number: number }>('POST', `/repos/${name}/pulls`, asked)).number
        } else if (hurriedGate === '' && hasReached(step, '1-enable-multiroot/1-data')) {
          const { head } = await api<{ readonly head: { readonly sha: string } }>(
            'GET',
            `/repos/${name}/pulls/${hurried}`,
          )
          const statuses = await api<readonly { readonly status: string; readonly description: string }[]>(
            'GET',
            `/repos/${name}/commits/${head.sha}/statuses`,
          )
          const [newest] = statuses
          expect(buttons.refusals.get(hurried)).toBeGreaterThan(0)
          hurriedGate = `${newest?.status}: ${newest?.description}`
          await api('PATCH', `/repos/${name}/pulls/${hurried}`, { state: 'closed' })
        }
      },
    })
    const traffic = await byStep([cluster], record, since)
    await report({ ...recordOf('Istio through a real Gitea, unattended', record, traffic), refused: record.refused })
    expect(record.steps.map(step => step.step)).toEqual(shopSteps)
    expect(gatesMerged(record)).toEqual(['success'])
    expect(hurriedGate).toMatch(/^failure: /)
    expect(record.refused).toBeGreaterThan(0)
    for (const step of record.steps.slice(1, -1)) {
      expect(step.consumers, step.step).toMatchObject({ istiod: 2, sidecar: workloads.length })
    }
    expect(failuresText(traffic)).toEqual([])
    expect(traffic.every(step => step.sent > 0)).toBe(true)
    const { roots, issuers } = await plannedTrust(fleet, 'first')
    expect(await held(cluster, shopNamespace)).toEqual({ proxies: workloads.length, roots, issuers })
    const runner = await fleet.runner([cluster.verifier])
    const checked = await reanchor(['verify', '--rotation', 'first'], runner)
    expect(checked.exit, told(checked)).toBe(0)
    // Nothing came to main but by a merge, and by Robin's own commits: the runner's token cannot push there.
    await expect(fleet.pushAsBot('origin/hurry', 'main')).rejects.toThrow(/branch main is protected/)
  }, 1_800_000)

  function options(name: string): UnattendedOptions {
    return {
      system: 'istio',
      name,
      fleet,
      administrator: [cluster.plane.kubeconfig],
      verifier: [cluster.verifier],
      init: shopInit,
      edit: shortGates,
    }
  }

  itInAll(
    'replaces the issuing CA alone, under the root of the first one; a nudge is merged as steps are',
    async () => {
      const since = Date.now()
      const files = await issuingUnder(fleet, 'first', { subject: '/O=cluster.local/CN=second issuing' })
      let waited = 0
      let nudged = false
      const record = await unattended({
        ...options('second'),
        edit: issuerDeclared(files),
        async onRound({ step, kind, gates, runner }) {
          const old = gates.some(({ id }) => id === 'istio/leaves-issued')
          if (kind !== 'waiting' || step !== '1-issue-new/2-restart' || !old || nudged || ++waited < 5) return
          const said = await mustSay(['next', '--nudge', '--rotation', 'second', '--output', 'json'], runner)
          expect(nextOf(said).kind).toBe('opened')
          nudged = true
        },
      })
      const traffic = await byStep([cluster], record, since)
      await report({
        ...recordOf('Istio through a real Gitea, unattended: issuer, with a nudge', record, traffic),
        refused: record.refused,
      })
      // Subscribed proxies keep their leaves until the bundle's bytes change.
      expect(nudged).toBe(true)
      expect(record.steps.map(step => step.step)).toEqual([
        'plan',
        '1-issue-new/1-data',
        '1-issue-new/2-restart',
        '1-issue-new/2-restart-nudge',
        '2-close',
      ])
      expect(gatesMerged(record)).toEqual(['success'])
      expect(failuresText(traffic)).toEqual([])
      const issued = fingerprintOf(await readFile(files.certificate, 'utf8'))
      const { roots } = await plannedTrust(fleet, 'first')
      expect(await held(cluster, shopNamespace)).toEqual({ proxies: workloads.length, roots, issuers: [issued] })
    },
    1_200_000,
  )

  itInAll(
    'replaces a CA that is in foreign hands: requests fail between the pairs that the plan foretells alone, and none once all have restarted',
    async () => {
      const since = Date.now()
      const record = await unattended({
        ...options('third'),
        edit: emergencyDeclared,
        plan: ['--accept-outage'],
      })
      const traffic = await byStep([cluster], record, since)
      const failures = traffic.flatMap(step => step.failures)
      const price = (await foretold(fleet, 'third')).filter(
        ({ client, server }) => client === 'sidecar' && server === 'sidecar',
      )
      const met = new Set<string>()
      const strange: TrafficFailure[] = []
      for (const failure of failures) {
        const pairs = (await meetings(failure)).filter(pair => isForetold(price, pair))
        if (pairs.length === 0) strange.push(failure)
        for (const text of pairTexts(pairs)) met.add(text)
      }
      await report({
        ...recordOf('Istio through a real Gitea, unattended: emergency', record, traffic),
        ...{ refused: record.refused, pairs: [...met].sort(), foretold: pairTexts(price) },
      })
      expect(record.steps.map(step => step.step)).toEqual([
        'plan',
        '1-replace/1-data',
        '1-replace/2-restart',
        '1-replace/3-workloads',
        '2-close',
      ])
      expect(gatesMerged(record)).toEqual(['success'])
      expect(failures.length).toBeGreaterThan(0)
      expect(strange).toEqual([])
      expect([...met].sort()).toEqual(pairTexts(price))
      await flowing([cluster], workloads.length * (workloads.length - 1))
      const { roots, issuers } = await plannedTrust(fleet, 'third')
      expect(await held(cluster, shopNamespace)).toEqual({ proxies: workloads.length, roots, issuers })
    },
    1_200_000,
  )

  /** Both directions of a request that failed, by what the Envoys of its ends held then: a look at one is some 200 ms old. */
  async function meetings({ at, ms, pod, server }: TrafficFailure): Promise<readonly SeenRefusal[]> {
    const time = Date.parse(at)
    const around = (name: string) => cluster.traffic.between(name, time - ms - 500, time + 500)
    const asks = await around(pod)
    const answers = (await Promise.all(server.map(peer => around(peer.pod)))).flat()
    const between = (holders: typeof asks, verifiers: typeof asks): readonly SeenRefusal[] =>
      holders.flatMap(({ leaves }) =>
        leaves.flatMap(({ issuer }) =>
          verifiers.flatMap(({ roots }) =>
            roots.map(trusts => ({ client: 'sidecar', server: 'sidecar', presents: issuer ?? '', trusts })),
          ),
        ),
      )
    return [...between(asks, answers), ...between(answers, asks)]
  }
})
