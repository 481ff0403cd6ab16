/** Whole rotations of Linkerd's trust anchors, by the real command line on a real API server with the real Flux; identity and proxies are stand-ins. */
import { afterEach, describe, expect, it } from 'vitest'
import { type IssuerScheme, type LinkerdWorkload, shopNamespace } from './rig/linkerd-fleet.ts'
import { heldByProxies } from './rig/linkerd-held.ts'
import { type LinkerdWorld, linkerdSite, startLinkerdWorld } from './rig/linkerd-world.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { reanchor, told } from './rig/reanchor.ts'
import { report, rotate, shortGates } from './rig/rotation.ts'
import { until } from './rig/server.ts'
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

describe('trust anchors of Linkerd', () => {
  let network: Network
  let world: LinkerdWorld

  afterEach(async () => {
    await world?.stop()
    await network?.close()
  })

  it.each<{ readonly scheme: IssuerScheme }>([{ scheme: 'linkerd.io/tls' }, { scheme: 'kubernetes.io/tls' }])(
    'are replaced in peace, with the issuer in a Secret of the form $scheme: no request fails, and all end with the planned trust',
    async ({ scheme }) => {
      network = await createNetwork()
      world = await startLinkerdWorld({ network, scheme, leafLife: '2m', owned, foreign, interval: 1000 })
      await flowing([world], pairs)
      await until(
        'no pod is new any more',
        async () => (await world.traffic.read(Date.now() - 5000)).early === 0,
        60_000,
        500,
      )
      const { starting, kubelet, repository, verifier } = world
      const before = { roots: [starting.rootSha256], issuers: [starting.issuerSha256], sets: 1 }
      expect(await heldByProxies(kubelet)).toMatchObject(before)

      const since = Date.now()
      const restarted: string[] = []
      const record = await rotate({
        system: 'linkerd',
        name: 'first',
        repository,
        administrator: [world.plane.kubeconfig],
        verifier: [verifier],
        init: ['--site', `${linkerdSite}=trust/${linkerdSite}`, '--context', linkerdSite],
        edit: shortGates,
        // Its team acts on what it is told, and on nothing else.
        async onWaiting(step, gates) {
          const named = gates.some(({ because }) => because.some(text => text.includes('shop/legacy-')))
          if (!step.endsWith('/3-data-plane') || !named || restarted.includes(step)) return
          restarted.push(step)
          await restart(world, shopNamespace, 'legacy')
        },
      })
      const traffic = await byStep([world], record, since)
      await report(recordOf(`Linkerd, Flux, SOPS, issuer in ${scheme}: graceful`, record, traffic))
      expect(record.stoppedAt).toBeNull()
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
      for (const step of record.steps.slice(1, -1)) expect(step.consumers, step.step).toMatchObject(count)
      expect(failuresText(traffic)).toEqual([])
      expect(traffic.every(step => step.sent > 0)).toBe(true)
      const planned = await plannedTrust(repository, 'first')
      const proxies = count['control-plane'] + count.proxy
      expect(await heldByProxies(kubelet)).toEqual({ proxies, sets: 1, ...planned })
      const checked = await reanchor(['verify', '--rotation', 'first'], {
        cwd: repository.clone,
        kubeconfig: [verifier],
      })
      expect(checked.exit, told(checked)).toBe(0)
    },
    1_800_000,
  )
})
