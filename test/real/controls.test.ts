import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { output } from './rig/components.ts'
import { isRolledOut, istiodService, istioResource, rolledOut } from './rig/istio.ts'
import { meshManifests } from './rig/mesh.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { reanchor } from './rig/reanchor.ts'
import { type FleetRepository, fluxApps, fluxFleet, makeRepository } from './rig/repository.ts'
import {
  advance,
  copyStep,
  declare,
  nextOf,
  planAndMerge,
  pushToMain,
  type RotationOptions,
  report,
  shortGates,
} from './rig/rotation.ts'
import { until } from './rig/server.ts'
import type { ProxyCertificates, TrafficFailure } from './rig/traffic.ts'
import { flowing, ready, restart } from './rig/watch.ts'
import { type FluxCluster, startFluxCluster } from './rig/world.ts'

const namespace = 'shop'
const owned = ['frontend', 'cart', 'orders']
/** Its team keeps its manifests elsewhere, so no step restarts it. */
const foreign = 'stock'
const workloads = [...owned, foreign]
const pairs = workloads.length * (workloads.length - 1)
const site = { name: 'eu-1', path: 'trust/eu-1' }

/** Without these a count of no failures would say nothing: what must break here does break, and is seen to. */
describe('what the rig must see fail', () => {
  let network: Network
  let repository: FleetRepository
  let cluster: FluxCluster

  beforeAll(async () => {
    network = await createNetwork()
    const all = meshManifests({ namespace, interval: 500, workloads: workloads.map(name => ({ name })) }).split(
      /^---\n/m,
    )
    const isForeign = (text: string): boolean => text.includes(`\n  name: ${foreign}\n`)
    const shop = all.filter(text => !isForeign(text)).join('---\n')
    repository = await makeRepository((_url, recipient) =>
      fluxFleet({
        recipient,
        sites: [{ name: site.name, istio: istioResource({ cluster: site.name }) }],
      }),
    )
    cluster = await startFluxCluster({ name: site.name, network, repository })
    await rolledOut(cluster.plane, 'istio-system', 'istiod')
    await repository.commit(fluxApps(site.name, { 'shop.yaml': shop }), 'The shop')
    await ready(cluster, namespace, owned)
    await cluster.plane.objects.applyYaml(all.filter(isForeign).join('---\n'), 'kubectl-client-side-apply')
    await ready(cluster, namespace, workloads)
    await flowing([cluster], pairs)
  }, 900_000)

  afterAll(async () => {
    await cluster?.stop()
    await repository?.close()
    await network?.close()
  })

  function options(name: string): RotationOptions {
    return {
      name,
      repository,
      administrator: [cluster.plane.kubeconfig],
      verifier: [cluster.verifier],
      init: ['--site', `${site.name}=${site.path}`, '--context', site.name],
      edit: shortGates,
    }
  }
  const verifier = () => ({ cwd: repository.clone, kubeconfig: [cluster.verifier] })

  it('the whole swap in one step: check refuses it, and where it is pushed all the same requests fail', async () => {
    await declare(options('first'))
    await planAndMerge(options('first'))
    // Through adopt, so that the folder is wired.
    const record = await advance({ ...options('first'), onOpened: async step => step.startsWith('0-') })
    expect(record.stoppedAt).toBe('1-enable-multiroot/1-data')

    const hurry = await copyStep({ repository }, 'first', '4-trust-new/2-restart', site, 'hurry')
    const checked = await reanchor(['check', `origin/main..${hurry}`], verifier())
    expect(checked.exit, checked.stdout).toBe(5)
    expect(checked.stdout).toContain('NOT SAFE')
    const next = await reanchor(['next', '--rotation', 'first', '--output', 'json'], verifier())
    expect(nextOf(next).kind).toBe('open')

    const since = Date.now()
    await pushToMain({ repository }, hurry)
    // The certificates of both ends tell why: neither trusts a root of the other.
    const seen = await failing(cluster, since, ({ client, server }) => apart(client, server), 20)
    await until('istiod is replaced', () => isRolledOut(cluster.plane, 'istio-system', 'istiod'), 180_000, 1000)
    await ready(cluster, namespace, owned)
    await report({ what: 'control: the whole swap in one step', ...summary(seen) })
    // Only the team of the last workload can end it.
    await restart(cluster, namespace, foreign)
    await ready(cluster, namespace, workloads)
    await flowing([cluster], pairs)
    // Nothing is left to be done but to close.
    const closed = await advance(options('first'))
    expect(closed.steps.map(({ step }) => step)).toEqual(['5-close'])
  }, 900_000)

  it('the early narrow: next keeps the step shut for one proxy without the new root, and where it is pushed its requests fail', async () => {
    const behind = 'stock'
    await declare(options('second'))
    await planAndMerge(options('second'))
    // Its proxy no longer reaches istiod; its peers it does.
    const cutOff = async (): Promise<void> => {
      const service = await cluster.plane.objects.get({ apiVersion: 'v1', kind: 'Service', ...istiodService })
      const { clusterIP = '' } = (service?.spec ?? {}) as { readonly clusterIP?: string }
      for (const { netns } of cluster.kubelet.find(namespace, `${behind}-`)) {
        await output('ip', ['-n', netns, 'route', 'add', 'unreachable', `${clusterIP}/32`])
      }
      // Streams that are open would live on.
      for (const istiod of cluster.kubelet.find('istio-system', 'istiod-')) {
        await cluster.kubelet.kill(istiod, 'discovery')
        await sleep(3000)
        await ready(cluster, 'istio-system', ['istiod'])
      }
    }
    const named: string[] = []
    let rounds = 0
    const stopped = advance({
      ...options('second'),
      async onOpened(step) {
        if (step === '1-trust-both/1-data') await cutOff()
        return !step.includes('issue-new')
      },
      async onWaiting(_step, gates) {
        const about = gates.flatMap(gate => gate.because).filter(because => because.includes(behind))
        named.push(...about)
        if (about.length > 0) rounds += 1
        if (rounds >= 10) throw new Error('shut as it should be')
      },
    })
    await expect(stopped).rejects.toThrow('shut as it should be')
    expect(named.join('\n')).toContain('no replica of istiod has a connection from it')

    const verdicts: Record<string, number> = {}
    const failures: TrafficFailure[] = []
    for (const step of ['2-issue-new/2-restart', '3-trust-new/2-restart']) {
      const early = await copyStep({ repository }, 'second', step, site, 'early')
      verdicts[step] = (await reanchor(['check', `origin/main..${early}`], verifier())).exit
      const since = Date.now()
      await pushToMain({ repository }, early)
      const seen = await failing(cluster, since, ({ from, to }) => from === behind || to === behind, 20)
      await report({ what: `control: the early narrow, ${step}`, ...summary(seen), check: verdicts[step] })
      failures.push(...seen.failures)
    }
    expect(verdicts).toEqual({ '2-issue-new/2-restart': 5, '3-trust-new/2-restart': 5 })
    // Nobody else suffers: it is the one that was left behind.
    expect(failures.filter(({ from, to }) => from !== behind && to !== behind)).toEqual([])
  }, 900_000)
})

/** Waits until so many requests have failed as asked. Each second of traffic is looked at once: a failure is costly to tell. */
async function failing(
  cluster: FluxCluster,
  since: number,
  asAsked: (failure: TrafficFailure) => boolean,
  count: number,
): Promise<Seen> {
  const seen = { sent: 0, failed: 0, early: 0, asAsked: 0, failures: [] as TrafficFailure[] }
  let from = since
  await until(
    `${count} requests fail as they must`,
    async () => {
      // A moment back, so that logs are whole.
      const to = Date.now() - 1500
      const read = await cluster.traffic.read(from, to)
      from = to + 1
      seen.sent += read.sent
      seen.failed += read.failed
      seen.early += read.early
      seen.failures.push(...read.failures)
      seen.asAsked += read.failures.filter(asAsked).length
      return seen.asAsked >= count
    },
    240_000,
    2000,
  )
  return seen
}

interface Seen {
  readonly sent: number
  readonly failed: number
  readonly early: number
  readonly asAsked: number
  readonly failures: readonly TrafficFailure[]
}

function summary({ failures, ...counts }: Seen) {
  const pairs = new Set(failures.map(({ from, to }) => `${from} → ${to}`))
  return { ...counts, pairs: [...pairs].sort(), failures: failures.slice(0, 3) }
}

/** Whether no root of the one end is a root of the other, at one of the peer's pods. */
function apart(client: ProxyCertificates | null, servers: readonly ProxyCertificates[]): boolean {
  if (client === null) return false
  const roots = new Set(client.roots.flat())
  return servers.some(server => server.roots.length > 0 && !server.roots.flat().some(root => roots.has(root)))
}
