/** Linkerd's trust anchors through a real Gitea and the real Argo CD, the issuer as a SealedSecret that the real controller unseals; identity and proxies are stand-ins. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type ForgeFleet, makeForgeFleet } from './rig/forge-fleet.ts'
import { leaveToTakeOver } from './rig/leave.ts'
import type { LinkerdWorkload } from './rig/linkerd-fleet.ts'
import { heldByProxies } from './rig/linkerd-held.ts'
import { type DeliveredLinkerd, linkerdSite, linkerdSteps, startLinkerdUnderArgo } from './rig/linkerd-world.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { report, shortGates } from './rig/rotation.ts'
import { until } from './rig/server.ts'
import { gatesMerged, unattended } from './rig/unattended.ts'
import { byStep, failuresText, flowing, plannedTrust, recordOf } from './rig/watch.ts'

const owned: readonly LinkerdWorkload[] = [
  { name: 'frontend', proxy: 'rustls' },
  { name: 'cart', proxy: 'go', replicas: 2 },
  { name: 'orders', proxy: 'rustls', nativeSidecar: true },
]
const count = { 'control-plane': 5, identity: 2, proxy: 4, configmap: 1 }

describe('Linkerd through a real Gitea and Argo CD, with nobody who looks', () => {
  let network: Network
  let fleet: ForgeFleet
  let world: DeliveredLinkerd

  beforeAll(async () => {
    network = await createNetwork()
    // An Application takes values from Git alone, so reanchor asks for this form.
    const options = { network, scheme: 'kubernetes.io/tls', leafLife: '2m', owned, interval: 1000 } as const
    ;({ world, repository: fleet } = await startLinkerdUnderArgo(options, makeForgeFleet))
    await flowing([world], owned.length * (owned.length - 1))
    const quiet = async (): Promise<boolean> => (await world.traffic.read(Date.now() - 5000)).early === 0
    await until('no pod is new any more', quiet, 60_000, 500)
  }, 900_000)

  afterAll(async () => {
    await world?.stop()
    await fleet?.close()
    await network?.close()
  })

  it('goes from init to the closed rotation: no request fails, and all end with the planned trust', async () => {
    const { starting, kubelet, plane } = world
    const proxies = count['control-plane'] + count.proxy
    const before = { proxies, sets: 1, roots: [starting.rootSha256], issuers: [starting.issuerSha256] }
    expect(await heldByProxies(kubelet)).toEqual(before)

    const since = Date.now()
    const leave = leaveToTakeOver(fleet, 'first', plane.kubeconfig)
    const record = await unattended({
      system: 'linkerd',
      name: 'first',
      fleet,
      administrator: [plane.kubeconfig],
      verifier: [world.verifier],
      init: ['--site', `${linkerdSite}=trust/${linkerdSite}`, '--context', linkerdSite, '--age', fleet.recipient],
      edit: shortGates,
      presses: leave.presses,
      onRound: () => leave.give(),
    })
    const traffic = await byStep([world], record, since)
    const what = 'Linkerd through a real Gitea, Argo CD and SealedSecrets, unattended: graceful'
    await report({ ...recordOf(what, record, traffic), refused: record.refused })
    expect(leave.given).toEqual([expect.stringMatching(/^kubectl .*annotate secret linkerd-identity-issuer /)])
    expect(record.steps.map(step => step.step)).toEqual(linkerdSteps)
    expect(gatesMerged(record)).toEqual(['success'])
    expect(record.refused).toBeGreaterThan(0)
    for (const step of record.steps.slice(1, -1)) expect(step.consumers, step.step).toMatchObject(count)
    expect(failuresText(traffic)).toEqual([])
    expect(traffic.every(step => step.sent > 0)).toBe(true)
    expect(await heldByProxies(kubelet)).toEqual({ proxies, sets: 1, ...(await plannedTrust(fleet, 'first')) })
  }, 1_800_000)
})
