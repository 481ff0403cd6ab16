/** Linkerd's trust anchors from `init` to the closed rotation through a real Gitea, with nobody who looks: real API server and Flux; identity and proxies are stand-ins. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type ForgeFleet, makeForgeFleet } from './rig/forge-fleet.ts'
import { type IssuerScheme, type LinkerdWorkload, linkerdFleet, shopNamespace } from './rig/linkerd-fleet.ts'
import { heldByProxies } from './rig/linkerd-held.ts'
import { type LinkerdWorld, linkerdSite, startLinkerdWorld } from './rig/linkerd-world.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { reanchor, told } from './rig/reanchor.ts'
import { report, shortGates } from './rig/rotation.ts'
import { until } from './rig/server.ts'
import { type UnattendedOptions, unattended } from './rig/unattended.ts'
import { byStep, failuresText, flowing, plannedTrust, recordOf, restart } from './rig/watch.ts'

const owned: readonly LinkerdWorkload[] = [
  { name: 'frontend', proxy: 'rustls' },
  { name: 'cart', proxy: 'go', replicas: 2 },
  { name: 'orders', proxy: 'rustls', nativeSidecar: true },
]
/** Applied by hand, by a team that keeps its manifests elsewhere: no step restarts it. */
const foreign: readonly LinkerdWorkload[] = [{ name: 'legacy', proxy: 'go' }]
const workloads = [...owned, ...foreign]
const pairs = workloads.length * (workloads.length - 1)
const count = { 'control-plane': 5, identity: 2, proxy: 5, configmap: 1 }
const proxies = count['control-plane'] + count.proxy

describe.each<{ readonly scheme: IssuerScheme }>([{ scheme: 'linkerd.io/tls' }, { scheme: 'kubernetes.io/tls' }])(
  'Linkerd through a real Gitea, with nobody who looks, and the issuer in a Secret of the form $scheme',
  ({ scheme }) => {
    let network: Network
    let fleet: ForgeFleet
    let world: LinkerdWorld

    beforeAll(async () => {
      network = await createNetwork()
      fleet = await makeForgeFleet((_url, recipient) => linkerdFleet(linkerdSite, recipient))
      world = await startLinkerdWorld({ network, scheme, leafLife: '2m', owned, foreign, interval: 1000 }, fleet)
      await flowing([world], pairs)
      await until(
        'no pod is new any more',
        async () => (await world.traffic.read(Date.now() - 5000)).early === 0,
        60_000,
        500,
      )
    }, 900_000)

    afterAll(async () => {
      await world?.stop()
      await fleet?.close()
      await network?.close()
    })

    /** The team of `legacy` acts where a gate names its pods, once in each step, and never otherwise. */
    function options(name: string, restarted: string[]): UnattendedOptions {
      return {
        system: 'linkerd',
        name,
        fleet,
        administrator: [world.plane.kubeconfig],
        verifier: [world.verifier],
        init: ['--site', `${linkerdSite}=trust/${linkerdSite}`, '--context', linkerdSite],
        edit: shortGates,
        async onRound({ step, kind, gates }) {
          const named = gates.some(({ because }) => because.some(text => text.includes(`${shopNamespace}/legacy-`)))
          if (kind !== 'waiting' || step?.endsWith('/3-data-plane') !== true) return
          if (!named || restarted.includes(step)) return
          restarted.push(step)
          await restart(world, shopNamespace, 'legacy')
        },
      }
    }

    it('goes from init to the closed rotation: no request fails, and all end with the planned trust', async () => {
      const { starting, kubelet } = world
      const before = { proxies, sets: 1, roots: [starting.rootSha256], issuers: [starting.issuerSha256] }
      expect(await heldByProxies(kubelet)).toEqual(before)

      const since = Date.now()
      const restarted: string[] = []
      const record = await unattended(options('first', restarted))
      const traffic = await byStep([world], record, since)
      await report({
        ...recordOf(`Linkerd through a real Gitea, unattended, issuer in ${scheme}: graceful`, record, traffic),
        refused: record.refused,
      })
      expect(record.steps.map(step => step.step)).toEqual([
        'plan',
        '0-adopt/1-adopt',
        '1-trust-both/1-data',
        '1-trust-both/2-control-plane',
        '1-trust-both/3-data-plane',
        '2-issue-new/1-data',
        '3-trust-new/1-data',
        '3-trust-new/2-control-plane',
        '3-trust-new/3-data-plane',
        '4-close',
      ])
      expect(restarted).toEqual(['1-trust-both/3-data-plane', '3-trust-new/3-data-plane'])
      expect(record.merges.map(({ gate }) => gate.replace(/:.*/, ''))).toEqual(record.merges.map(() => 'success'))
      expect(record.refused).toBeGreaterThan(0)
      for (const step of record.steps.slice(1, -1)) expect(step.consumers, step.step).toMatchObject(count)
      expect(failuresText(traffic)).toEqual([])
      expect(traffic.every(step => step.sent > 0)).toBe(true)
      expect(await heldByProxies(kubelet)).toEqual({ proxies, sets: 1, ...(await plannedTrust(fleet, 'first')) })
      const checked = await reanchor(['verify', '--rotation', 'first'], await fleet.runner([world.verifier]))
      expect(checked.exit, told(checked)).toBe(0)
    }, 1_800_000)
  },
)
