import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  clockOff,
  containerOf,
  expiredToken,
  foreignToken,
  moments,
  stateOf,
  verifierWithout,
  type Wire,
  wireTo,
} from './rig/faults.ts'
import { isRolledOut, istioNamespace, istioResource, rolledOut } from './rig/istio.ts'
import type { RunningPod } from './rig/kubelet.ts'
import { meshManifests } from './rig/mesh.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { type RunOptions, reanchor, type Said, told } from './rig/reanchor.ts'
import { type FleetRepository, fluxApps, fluxFleet, makeRepository } from './rig/repository.ts'
import {
  declare,
  merge,
  nextOf,
  planAndMerge,
  type RotationOptions,
  report,
  shortGates,
  stepOf,
} from './rig/rotation.ts'
import { until } from './rig/server.ts'
import { type TrafficFailure, trafficText } from './rig/traffic.ts'
import { flowing, held, plannedTrust, ready } from './rig/watch.ts'
import { type FluxCluster, startFluxCluster } from './rig/world.ts'

const namespace = 'shop'
const workloads = ['frontend', 'cart', 'stock']
const pairs = workloads.length * (workloads.length - 1)
const name = 'faults'
const twoHours = 2 * 3_600_000

interface Fault {
  readonly what: string
  readonly from: number
  readonly to: number
}

/**
 * One rotation, from the CA of istiod to a new root, and something else is broken at each of its steps. Every test ends with the fault: what comes
 * after it is expected to go on as if nothing had been. Each test needs those before it.
 */
describe('a rotation while things break', () => {
  let network: Network
  let repository: FleetRepository
  let cluster: FluxCluster
  let wire: Wire
  let began = 0
  /** The pull request that is open and not merged yet. */
  let open = 0
  const faults: Fault[] = []
  /** The roll-out of the workloads themselves, that the API server was away in. */
  let rollOut = { from: 0, to: 0 }

  beforeAll(async () => {
    network = await createNetwork()
    const shop = meshManifests({ namespace, interval: 500, workloads: workloads.map(each => ({ name: each })) })
    repository = await makeRepository((_url, recipient) =>
      fluxFleet({
        recipient,
        sites: [{ name: 'eu-1', istio: istioResource({ cluster: 'eu-1' }) }],
      }),
    )
    cluster = await startFluxCluster({ name: 'eu-1', network, repository })
    wire = await wireTo(cluster.plane, cluster.verifier)
    await rolledOut(cluster.plane, istioNamespace, 'istiod')
    await repository.commit(fluxApps('eu-1', { 'shop.yaml': shop }), 'The shop')
    await ready(cluster, namespace, workloads)
    await flowing([cluster], pairs)
    began = Date.now()
    await declare(options())
    await planAndMerge(options())
  })

  afterAll(async () => {
    await wire?.stop()
    await cluster?.stop()
    await repository?.close()
    await network?.close()
  })

  function options(): RotationOptions {
    return {
      name,
      repository,
      administrator: [cluster.plane.kubeconfig],
      verifier: [cluster.verifier],
      init: ['--site', 'eu-1=trust/eu-1', '--context', 'eu-1'],
      edit: shortGates,
    }
  }

  const verifier = (kubeconfig = cluster.verifier): RunOptions => ({ cwd: repository.clone, kubeconfig: [kubeconfig] })
  const run = (command: string, how: RunOptions = verifier()): Promise<Said> =>
    reanchor([command, '--rotation', name], how)

  async function openRequests(): Promise<readonly { readonly number: number; readonly branch: string }[]> {
    const said = await reanchor(['pr', 'list', '--output', 'json'], { cwd: repository.clone })
    return said.json as readonly { readonly number: number; readonly branch: string }[]
  }

  /** From the fault's begin to its end, which comes whatever was found: what is sent meanwhile is counted. */
  async function during(what: string, act: () => Promise<unknown>, end: () => unknown = () => {}): Promise<void> {
    const from = Date.now()
    try {
      await act()
    } finally {
      await end()
      faults.push({ what, from, to: Date.now() })
    }
  }

  /** `next` waits, says all of this, and has changed nothing at all. */
  async function shut(exit: 3 | 4, texts: readonly string[], how: RunOptions = verifier()): Promise<Said> {
    const before = await stateOf(repository)
    const said = await run('next', how)
    expect(said.exit, told(said)).toBe(exit)
    for (const text of texts) expect(told(said)).toContain(text)
    expect(await stateOf(repository)).toBe(before)
    if (process.env.REANCHOR_REAL_TOLD !== undefined) console.log(told(said), said.seconds)
    return said
  }

  /** Every gate holds: `next` would open the step that follows. */
  async function holds(): Promise<Said> {
    let last: Said | null = null
    return await until(
      'every gate holds',
      async () => {
        last = await run('verify')
        return last.exit === 0 ? last : null
      },
      240_000,
      500,
    ).catch(cause => {
      throw new Error(`${String(cause)}\n${last === null ? '' : told(last)}`)
    })
  }

  /** `next`, again and again, until it opens this step and no other; it is not merged. */
  async function opens(step: string): Promise<void> {
    let last: Said | null = null
    await until(
      `next opens ${step}`,
      async () => {
        last = await reanchor(['next', '--rotation', name, '--output', 'json'], verifier())
        const answer = nextOf(last)
        if (answer.kind === 'waiting') return null
        expect(answer.kind, told(last)).toBe('opened')
        expect(stepOf(answer.branch ?? '', name)).toBe(step)
        open = answer.pullRequest?.number ?? 0
        return true
      },
      240_000,
      500,
    ).catch(cause => {
      throw new Error(`${String(cause)}\n${last === null ? '' : told(last)}`)
    })
  }

  const mergeOpen = (): Promise<void> => merge({ repository }, open)

  const rolling = async (where: string, deployment: string): Promise<boolean> =>
    !(await isRolledOut(cluster.plane, where, deployment))

  const istiods = (): readonly RunningPod[] => cluster.kubelet.find(istioNamespace, 'istiod-')

  /** Ends every process of istiod in these pods, as often as one is started. */
  async function keepDown(pods: readonly RunningPod[], goOn: () => boolean): Promise<void> {
    while (goOn()) {
      // Between two of them there is none to end.
      for (const pod of pods) await cluster.kubelet.kill(pod, 'discovery').catch(() => {})
      await sleep(200)
    }
  }

  // ------------------------------------------------------------------------------------------ 0-adopt

  it('waits for adopt while source-controller is down, and names the Kustomization that is not there', async () => {
    await opens('0-adopt/1-adopt')
    await during(
      'source-controller stopped, at adopt',
      async () => {
        cluster.source.hold(true)
        await mergeOpen()
        await shut(4, [
          'Kustomization/flux-system/trust: shows no applied commit (does not exist; GitRepository/flux-system/flux-system has not fetched the merge',
          'flux reconcile source git flux-system --namespace flux-system',
        ])
      },
      () => cluster.source.hold(false),
    )
    await holds()
  })

  it.each([
    {
      missing: { resource: 'pods/portforward' },
      texts: [
        'sidecar shop/',
        'the role lacks verb get (and create) on pods/portforward',
        'the port-forwards of its system in roles/ grant both',
      ],
    },
    {
      missing: { resource: 'secrets' },
      texts: [
        'Secret/istio-system/reanchor-canary',
        'the role lacks verb get on secrets',
        'the file of its system in roles/ grants it',
      ],
    },
    {
      missing: { resource: 'kustomizations' },
      texts: [
        'Kustomization/flux-system/trust',
        'the role lacks verb get on kustomizations',
        'the file of its system in roles/ grants it',
      ],
    },
    {
      missing: { resource: 'pods' },
      texts: ['list pods', 'the role lacks verb list on pods', 'the file of its system in roles/ grants it'],
    },
    {
      missing: { resource: 'namespaces' },
      texts: ['site eu-1', 'the role lacks verb get on namespaces', 'apply roles/istio.yaml'],
    },
  ])(
    'opens nothing with a token that lacks the right to $missing.resource, and says who grants it',
    async ({ missing, texts }) => {
      const kubeconfig = await verifierWithout(cluster.plane, `no-${missing.resource.replace('/', '-')}`, missing)
      await during(`no right to ${missing.resource}`, () => shut(4, texts, verifier(kubeconfig)))
    },
  )

  it('opens nothing with a token that has ended or that no cluster gave, and says that credentials are refused', async () => {
    for (const make of [expiredToken, foreignToken]) {
      const kubeconfig = await make(cluster.plane, cluster.verifier)
      const texts = ['site eu-1', 'does not accept these credentials', 'token']
      await during(make.name, () => shut(4, texts, verifier(kubeconfig)))
    }
  })

  it.each([
    { off: twoHours, words: 'ahead' },
    { off: -twoHours, words: 'behind' },
  ])(
    'opens nothing on a machine whose clock is two hours $words, and says that clocks disagree (F27)',
    async ({ off, words }) => {
      const env = await clockOff(repository.outside, off)
      await during(`clock ${words}`, () => shut(4, ['clock', 'API server'], { ...verifier(), env }))
    },
  )

  it('ends in the same place wherever next is killed, and opens one pull request (F2, F25)', async () => {
    const { seconds } = await reanchor(['next', '--rotation', name, '--dry-run'], verifier())
    const main = await repository.git('ls-remote', 'origin', 'refs/heads/main')
    const branch = `refs/heads/reanchor/${name}/1-enable-multiroot-1-data`
    const pushed = async (): Promise<string> => await repository.git('ls-remote', 'origin', `${branch}*`)
    await during('next killed while it looks', async () => {
      for (const lost of moments(3, 100, seconds * 600)) {
        const said = await run('next', { ...verifier(), lost })
        expect(said.exit, `killed after ${lost} ms of ${seconds} s: ${told(said)}`).toBe(137)
        expect(await repository.git('ls-remote', 'origin', 'refs/heads/main')).toBe(main)
        expect(await pushed()).toBe('')
        expect(await openRequests()).toEqual([])
      }
    })
    await during('next killed while it writes', async () => {
      const said = await run('next', { ...verifier(), lost: () => existsSync(join(repository.bare, branch)) })
      expect(said.exit, told(said)).toBe(137)
      expect(await openRequests(), 'killed between its two writes').toEqual([])
    })
    const left = await pushed()
    expect(left).toContain(branch)
    // What was left behind, the next run finishes.
    const said = await until('next finds or opens it', async () => {
      const answer = await reanchor(['next', '--rotation', name, '--output', 'json'], verifier())
      return ['opened', 'open'].includes(nextOf(answer).kind) ? answer : null
    })
    const requests = await openRequests()
    expect(
      requests.map(({ branch }) => stepOf(branch, name)),
      told(said),
    ).toEqual(['1-enable-multiroot/1-data'])
    open = requests[0]?.number ?? 0
    expect(await pushed()).toBe(left)
    expect(await repository.git('ls-remote', 'origin', 'refs/heads/main')).toBe(main)
    expect(await repository.git('status', '--porcelain')).toBe('')
  })

  // --------------------------------------------------------------------------------- 1-enable-multiroot

  it('waits while kustomize-controller is stopped, says that the merge is fetched and not applied, and goes on when it is back', async () => {
    await during(
      'kustomize-controller stopped',
      async () => {
        await cluster.flux.kill()
        await mergeOpen()
        await until('the merge is fetched', async () => {
          const head = (await repository.git('ls-remote', 'origin', 'refs/heads/main')).split('\t')[0]
          return cluster.source.published.some(({ commit }) => commit === head)
        })
        await shut(3, [
          'Kustomization/flux-system/trust: applied tree',
          'GitRepository/flux-system/flux-system has fetched the merge, and kustomize-controller has not applied it',
          'flux reconcile kustomization trust',
        ])
      },
      () => cluster.flux.start(),
    )
    await opens('1-enable-multiroot/2-restart')
  })

  it('waits while the API server is away in the middle of a roll-out of all workloads, and goes on when it is back', async () => {
    const from = Date.now()
    await mergeOpen()
    await until('the workloads roll', () => rolling(namespace, 'frontend'), 60_000)
    await during(
      'API server stopped in mid roll-out',
      async () => {
        await cluster.plane.stopApiServer()
        await shut(4, ['the cluster does not answer', 'site eu-1', 'ECONNREFUSED', 'API server'])
      },
      () => cluster.plane.startApiServer(),
    )
    await opens('2-trust-both/1-data')
    rollOut = { from, to: Date.now() }
  })

  // --------------------------------------------------------------------------------------- 2-trust-both

  it('calls nothing seen when the API server ends in the middle of verify, and sees all of it afterwards', async () => {
    await mergeOpen()
    await during(
      'API server stopped in mid verify',
      async () => {
        const before = await stateOf(repository)
        wire.at(4, () => cluster.plane.stopApiServer())
        const said = await run('verify', verifier(wire.kubeconfig))
        expect(wire.acted()).toBe(true)
        expect(said.exit, told(said)).toBe(4)
        expect(told(said)).toContain('the cluster does not answer')
        expect(await stateOf(repository)).toBe(before)
      },
      () => cluster.plane.startApiServer(),
    )
    await opens('2-trust-both/2-restart')
  })

  it('turns an open pull request pending while no istiod runs, names both replicas, and takes what they read when they are back', async () => {
    await during('both istiods killed, again and again', async () => {
      const killed = istiods()
      expect(killed).toHaveLength(2)
      let down = true
      const kept = keepDown(killed, () => down)
      let said: Said
      try {
        for (const pod of killed) {
          await until(
            `${pod.name} is not ready`,
            async () => !(await containerOf(cluster.plane, pod, 'discovery')).ready,
          )
        }
        said = await run('next')
      } finally {
        down = false
        await kept
      }
      expect([3, 4], told(said)).toContain(said.exit)
      for (const pod of killed) expect(told(said)).toContain(`istiod ${istioNamespace}/${pod.name}`)
      const shown = await reanchor(['pr', 'show', String(open)], { cwd: repository.clone })
      expect(shown.stdout).toContain('reanchor/gate: pending')
    })
    await until(
      'it is found open',
      async () => nextOf(await reanchor(['next', '--rotation', name, '--output', 'json'], verifier())).kind === 'open',
      120_000,
    )
    const shown = await reanchor(['pr', 'show', String(open)], { cwd: repository.clone })
    expect(shown.stdout).toContain('reanchor/gate: success')
  })

  it('waits out an istiod that is killed in the middle of its roll-out, until every replica is the new one (F11, F21)', async () => {
    await mergeOpen()
    await until('istiod rolls', () => rolling(istioNamespace, 'istiod'), 60_000, 20)
    await during('istiod killed in mid roll-out', async () => {
      const [one] = istiods()
      if (one === undefined) throw new Error('no istiod')
      await cluster.kubelet.kill(one, 'discovery')
      await holds()
    })
    const missing = { resource: 'configmaps', name: 'istio-ca-root-cert' }
    const kubeconfig = await verifierWithout(cluster.plane, 'no-root-configmaps', missing)
    const texts = [
      'list ConfigMaps istio-ca-root-cert',
      'the role lacks verb list on configmaps',
      'the file of its system in roles/ grants it',
    ]
    await during('no right to istio-ca-root-cert', () => shut(4, texts, verifier(kubeconfig)))
    await opens('3-issue-new/1-data')
  })

  // ---------------------------------------------------------------------------------------- 3-issue-new

  it('gives up on an API server whose etcd stands still, says so, and goes on when etcd does', async () => {
    await mergeOpen()
    await during(
      'etcd paused',
      async () => {
        cluster.plane.etcd().pause()
        await shut(4, ['the cluster does not answer', 'no answer within', 'API server'])
      },
      () => cluster.plane.etcd().resume(),
    )
    await until('the API server answers', () => cluster.plane.objects.list('v1', 'Node').then(() => true), 60_000)
    await opens('3-issue-new/2-restart')
  })

  it('outlasts an etcd that pauses in the middle of verify', async () => {
    await during('etcd paused in mid verify', async () => {
      wire.at(3, async () => {
        cluster.plane.etcd().pause()
        void sleep(5000).then(() => cluster.plane.etcd().resume())
      })
      const said = await run('verify', verifier(wire.kubeconfig))
      expect(wire.acted()).toBe(true)
      expect([0, 3, 4], told(said)).toContain(said.exit)
      expect(said.seconds).toBeGreaterThan(4)
    })
  })

  it('leaves nothing behind where verify is killed, in the middle of the renewal of all leaves', async () => {
    await mergeOpen()
    await during('verify killed', async () => {
      const before = await stateOf(repository)
      for (const lost of moments(4, 200, 3000)) {
        const said = await run('verify', { ...verifier(), lost })
        expect([137, 0, 3, 4], told(said)).toContain(said.exit)
        expect(await stateOf(repository), `killed after ${lost} ms`).toBe(before)
      }
    })
    await opens('4-trust-new/1-data')
  })

  // ---------------------------------------------------------------------------------------- 4-trust-new

  it('waits while source-controller is down, says that the merge is not fetched, and goes on when it is back', async () => {
    await during(
      'source-controller stopped',
      async () => {
        cluster.source.hold(true)
        await mergeOpen()
        await shut(3, [
          'Kustomization/flux-system/trust: applied tree',
          'GitRepository/flux-system/flux-system has not fetched the merge',
          'flux reconcile kustomization trust',
        ])
      },
      () => cluster.source.hold(false),
    )
    await opens('4-trust-new/2-restart')
  })

  it('keeps every connection where neither istiod nor the API server is there in the middle of the last roll-out', async () => {
    await mergeOpen()
    await until('istiod rolls', () => rolling(istioNamespace, 'istiod'), 60_000, 20)
    await during(
      'API server stopped and every istiod killed',
      async () => {
        await cluster.plane.stopApiServer()
        for (const pod of istiods()) await cluster.kubelet.kill(pod, 'discovery').catch(() => {})
        await shut(4, ['the cluster does not answer', 'ECONNREFUSED'])
        await sleep(5000)
      },
      () => cluster.plane.startApiServer(),
    )
    await opens('5-close')
  })

  // ---------------------------------------------------------------------------------------------- close

  it('is done all the same: one root, no request lost, and nothing left to do (F4)', async () => {
    await mergeOpen()
    const before = await stateOf(repository)
    const done = await run('next')
    expect(done.exit, told(done)).toBe(0)
    expect(done.stdout).toContain('the rotation is closed')
    expect(await stateOf(repository)).toBe(before)
    expect(await held(cluster, namespace)).toEqual({
      proxies: workloads.length,
      ...(await plannedTrust(repository, name)),
    })
    const lines: string[] = []
    for (const { what, from, to } of faults) {
      const traffic = await cluster.traffic.read(from, to)
      const seconds = Math.round((to - from) / 100) / 10
      lines.push(`${what}: ${seconds} s, ${traffic.failed} of ${traffic.sent} requests failed`)
      await report({ what: `fault: ${what}`, seconds, sent: traffic.sent, failed: traffic.failed })
    }
    const traffic = await cluster.traffic.read(began)
    const seconds = Math.round((Date.now() - began) / 1000)
    console.log([...lines, `in all: ${seconds} s, ${traffic.failed} of ${traffic.sent} requests failed`].join('\n'))
    await report({ what: 'a rotation while things break', seconds, sent: traffic.sent, failed: traffic.failed })
    expect(traffic.sent).toBeGreaterThan(1000)
    // What an API server's absence in a roll-out does to any cluster, whatever it trusts: clients learn late which pods are gone, and dial one
    // of them. There was one root alone, then.
    const elsewhere = traffic.failures.filter(failure => {
      const at = Date.parse(failure.at)
      return at < rollOut.from || at > rollOut.to || rootsOf(failure).size !== 1
    })
    expect(elsewhere, trafficText(traffic)).toEqual([])
    expect(traffic.failed, trafficText(traffic)).toBeLessThan(10)
  })
})

/** All that the proxies at both ends trusted and presented then. */
function rootsOf({ client, server }: TrafficFailure): ReadonlySet<string> {
  const held = [...(client === null ? [] : [client]), ...server]
  const roots = held.flatMap(proxy => proxy.roots.flat())
  const issuers = held.flatMap(proxy => proxy.leaves.map(leaf => leaf.issuer ?? 'nobody'))
  return new Set([...roots, ...issuers])
}
