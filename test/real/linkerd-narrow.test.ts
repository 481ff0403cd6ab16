import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { GateResult } from '../../src/rotation.ts'
import { type LinkerdWorkload, linkerdFleet, shopNamespace } from './rig/linkerd-fleet.ts'
import { heldByProxies, refusals } from './rig/linkerd-held.ts'
import { type LinkerdWorld, linkerdSite, startLinkerdWorld } from './rig/linkerd-world.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { reanchor, told } from './rig/reanchor.ts'
import { type FleetRepository, makeRepository } from './rig/repository.ts'
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
import type { TrafficFailure } from './rig/traffic.ts'
import { flowing, plannedTrust, ready, restart } from './rig/watch.ts'

const owned: readonly LinkerdWorkload[] = [
  { name: 'frontend', proxy: 'rustls' },
  { name: 'cart', proxy: 'go' },
]
/** Their team keeps its manifests elsewhere, so no step restarts them. */
const foreign: readonly LinkerdWorkload[] = [
  { name: 'ledger', proxy: 'rustls' },
  { name: 'stock', proxy: 'go' },
]
const names = [...owned, ...foreign].map(({ name }) => name)
const pairs = names.length * (names.length - 1)
const behind = foreign.map(({ name }) => name)
const site = { name: linkerdSite, path: `trust/${linkerdSite}` }
const narrow = '3-trust-new/3-data-plane'

/** linkerd2#4287: the old root was taken out of the anchors a moment after the issuer had changed, while leaves of the old one live for a day. */
describe('the old root dropped before every leaf is of the new issuer', () => {
  let network: Network
  let repository: FleetRepository
  let world: LinkerdWorld
  let options: RotationOptions

  beforeAll(async () => {
    network = await createNetwork()
    repository = await makeRepository((_url, recipient) => linkerdFleet(linkerdSite, recipient))
    world = await startLinkerdWorld(
      { network, scheme: 'linkerd.io/tls', leafLife: '24h', owned, foreign, interval: 500 },
      repository,
    )
    await flowing([world], pairs)
    options = {
      system: 'linkerd',
      name: 'first',
      repository,
      administrator: [world.plane.kubeconfig],
      verifier: [world.verifier],
      init: ['--site', `${site.name}=${site.path}`, '--context', site.name],
      edit: shortGates,
    }
  }, 900_000)

  afterAll(async () => {
    await world?.stop()
    await repository?.close()
    await network?.close()
  })

  const verifier = () => ({ cwd: repository.clone, kubeconfig: [world.verifier] })

  it('is what the gate and check forbid beforehand, in words that name who is behind', async () => {
    await declare(options)
    await planAndMerge(options)
    const restarted = new Set<string>()
    let last: readonly GateResult[] = []
    let rounds = 0
    const stopped = advance({
      ...options,
      async onWaiting(step, gates) {
        if (step === '1-trust-both/3-data-plane') {
          for (const name of behind) {
            const named = gates.some(({ because }) => because.some(text => text.includes(`${shopNamespace}/${name}-`)))
            if (!named || restarted.has(name)) continue
            restarted.add(name)
            await restart(world, shopNamespace, name)
          }
        }
        if (step !== '2-issue-new/1-data') return
        last = gates
        // Until Flux has delivered the Secret and identity has it, other gates wait too.
        const others = gates.filter(({ id }) => id !== 'linkerd/leaves-issued' && /^(linkerd|delivery)\//.test(id))
        if (others.length > 0 || !gates.some(({ id }) => id === 'linkerd/leaves-issued')) return
        rounds += 1
        if (rounds >= 5) throw new Error('shut as it should be')
      },
    })
    await expect(stopped).rejects.toThrow('shut as it should be')
    expect([...restarted].sort()).toEqual(behind)
    const gate = last.find(({ id }) => id === 'linkerd/leaves-issued')
    expect(gate).toMatchObject({ verdict: 'pending', counted: { of: 9, conform: 0 } })
    const because = gate?.because.join('\n') ?? ''
    for (const name of names) expect(because).toContain(`${shopNamespace}/${name}-`)

    const next = await reanchor(['next', '--rotation', 'first', '--output', 'json'], verifier())
    expect(next.exit).toBe(3)
    expect(nextOf(next).kind).toBe('waiting')
    const early = await copyStep({ repository }, 'first', narrow, site, 'early')
    const checked = await reanchor(['check', `origin/main..${early}`], verifier())
    expect(checked.exit, told(checked)).toBe(5)
    expect(checked.stdout).toMatch(/NOT SAFE: eu-1: 3-trust-new\/3-data-plane breaks proxy to proxy/)
    expect(checked.stdout).toContain('no path to a trusted root')
    await report({ what: 'control: the early narrow of Linkerd, check', exit: checked.exit, said: checked.stdout })
  }, 900_000)

  it('fails requests where it is pushed all the same, refused by Go and by rustls, and only until those behind restart', async () => {
    const { kubelet, starting } = world
    const since = Date.now()
    await pushToMain({ repository }, (await repository.git('rev-parse', 'early')).trim())
    const apart = names.flatMap(from =>
      names.flatMap(to => (behind.includes(from) === behind.includes(to) ? [] : [`${from} → ${to}`])),
    )
    await ready(
      world,
      shopNamespace,
      owned.map(({ name }) => name),
    )
    let sent = 0
    const failures: TrafficFailure[] = []
    let from = since
    await until(
      'requests fail between those that went on and those that did not, both ways',
      async () => {
        const to = Date.now() - 1500
        const read = await world.traffic.read(from, to)
        from = to + 1
        sent += read.sent
        failures.push(...read.failures)
        const failed = failures.map(failure => `${failure.from} → ${failure.to}`)
        return apart.every(pair => failed.filter(each => each === pair).length >= 10)
      },
      240_000,
      2000,
    )
    const seen = await refusals(kubelet, shopNamespace, since)
    const by = (workloads: readonly string[], where: string, words: RegExp): number =>
      seen.filter(
        ({ pod, refused, error }) =>
          refused === where && words.test(error) && workloads.some(name => pod.startsWith(`${name}-`)),
      ).length
    const goWords = /certificate signed by unknown authority/
    const rustWords = /invalid peer certificate: UnknownIssuer/
    const counts = {
      'Go refuses a client': by(['cart'], 'inbound', goWords),
      'Go refuses a server': by(['cart'], 'outbound', goWords),
      'rustls refuses a client': by(['frontend'], 'inbound', rustWords),
      'rustls refuses a server': by(['frontend'], 'outbound', rustWords),
    }
    await report({
      what: 'control: the early narrow of Linkerd',
      sent,
      failed: failures.length,
      pairs: [...new Set(failures.map(failure => `${failure.from} → ${failure.to}`))].sort(),
      counts,
      failures: failures.slice(0, 3),
    })
    for (const [what, count] of Object.entries(counts)) expect(count, what).toBeGreaterThan(0)
    // Those that were left behind still understand each other.
    const left = failures.filter(failure => behind.includes(failure.from) && behind.includes(failure.to))
    expect(left).toEqual([])
    expect(await heldByProxies(kubelet)).toMatchObject({ sets: 2 })
    expect((await heldByProxies(kubelet)).roots).toContain(starting.rootSha256)

    for (const name of behind) await restart(world, shopNamespace, name)
    await ready(world, shopNamespace, names)
    await flowing([world], pairs)
    const closed = await advance(options)
    expect(closed.steps.map(({ step }) => step)).toEqual(['4-close'])
    expect(await heldByProxies(kubelet)).toMatchObject({ sets: 1, ...(await plannedTrust(repository, 'first')) })
  }, 900_000)
})
