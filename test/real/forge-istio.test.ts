/** Istio from `init` to the closed rotation with no hand in between: a real Gitea, Flux and API server, real istiods, agents and Envoys. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type ForgeFleet, makeForgeFleet } from './rig/forge-fleet.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { reanchor, told } from './rig/reanchor.ts'
import { copyStep, report, shortGates } from './rig/rotation.ts'
import { fluxShopFiles, hasReached, shopInit, shopNamespace, shopSite, shopSteps, startFluxShop } from './rig/shop.ts'
import { unattended } from './rig/unattended.ts'
import { byStep, failuresText, held, plannedTrust, recordOf } from './rig/watch.ts'
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
      system: 'istio',
      name: 'first',
      fleet,
      administrator: [cluster.plane.kubeconfig],
      verifier: [cluster.verifier],
      init: shopInit,
      edit: shortGates,
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
    expect(record.merges.map(({ gate }) => gate.replace(/:.*/, ''))).toEqual(record.merges.map(() => 'success'))
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
})
