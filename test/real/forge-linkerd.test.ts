/** Linkerd's trust anchors from `init` to the closed rotation through a real Gitea, with nobody who looks: real API server and Flux; identity and proxies are stand-ins. */

import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseDocument } from 'yaml'
import type { LinkerdFlow } from '../../src/systems/linkerd/version.ts'
import { fingerprintOf } from './rig/fingerprint.ts'
import { foretold, pairTexts } from './rig/foretold.ts'
import { type ForgeFleet, makeForgeFleet } from './rig/forge-fleet.ts'
import { emergencyDeclared, issuerDeclared, issuingUnder } from './rig/issuing.ts'
import {
  type IssuerScheme,
  type LinkerdWorkload,
  linkerdFleet,
  linkerdNamespace,
  shopNamespace,
  trustDomain,
} from './rig/linkerd-fleet.ts'
import { heldByProxies, refusals, unverified } from './rig/linkerd-held.ts'
import {
  type LinkerdWorld,
  type LinkerdWorldOptions,
  linkerdSite,
  linkerdSteps,
  startLinkerdWorld,
} from './rig/linkerd-world.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { reanchor, told } from './rig/reanchor.ts'
import { report, shortGates } from './rig/rotation.ts'
import { until } from './rig/server.ts'
import { gatesMerged, type UnattendedOptions, unattended } from './rig/unattended.ts'
import { byStep, failuresText, flowing, plannedTrust, recordOf, restart } from './rig/watch.ts'

/** In the repository. Up to 2.8 no proxy is a native sidecar; what `linkerd inject --manual` has written is the flow `config-map`’s to edit. */
function ownedIn(flow: LinkerdFlow): readonly LinkerdWorkload[] {
  return [
    { name: 'frontend', proxy: 'rustls' },
    { name: 'cart', proxy: 'go', replicas: 2 },
    { name: 'orders', proxy: 'rustls', nativeSidecar: flow === 'trust-roots', injectedByHand: flow === 'config-map' },
  ]
}
/** Applied by hand, by a team that keeps its manifests elsewhere: no step restarts it. */
const foreign: readonly LinkerdWorkload[] = [{ name: 'legacy', proxy: 'go' }]
const pairs = 4 * 3
const count = { 'control-plane': 5, identity: 2, proxy: 5, configmap: 1 }
const proxies = count['control-plane'] + count.proxy

interface Scene {
  readonly fleet: ForgeFleet
  readonly world: LinkerdWorld
}

/** What the tests of a `describe` share: one mesh that talks, and its repository on Gitea. */
function shared(options: Pick<LinkerdWorldOptions, 'flow' | 'scheme' | 'leafLife'>): () => Scene {
  let network: Network | null = null
  let fleet: ForgeFleet | null = null
  let world: LinkerdWorld | null = null
  const owned = ownedIn(options.flow ?? 'trust-roots')
  beforeAll(async () => {
    network = await createNetwork()
    fleet = await makeForgeFleet((_url, recipient) => linkerdFleet(linkerdSite, recipient))
    world = await startLinkerdWorld({ ...options, network, owned, foreign, interval: 1000 }, fleet)
    const { traffic } = world
    await flowing([world], pairs)
    await until('no pod is new any more', async () => (await traffic.read(Date.now() - 5000)).early === 0, 60_000, 500)
  }, 900_000)
  afterAll(async () => {
    await world?.stop()
    await fleet?.close()
    await network?.close()
  })
  return () => {
    if (fleet === null || world === null) throw new Error('no mesh was started')
    return { fleet, world }
  }
}

/** The team of `legacy` acts where a gate names its pods, once in each step, and never otherwise. */
function unattendedOn({ fleet, world }: Scene, name: string, restarted: string[]): UnattendedOptions {
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

/** `graceful` from `init` to the closed rotation. */
async function replacePeacefully(scene: Scene, what: string, edit = shortGates): Promise<void> {
  const { fleet, world } = scene
  const { starting, kubelet } = world
  const before = { proxies, sets: 1, roots: [starting.rootSha256], issuers: [starting.issuerSha256] }
  expect(await heldByProxies(kubelet)).toEqual(before)

  const since = Date.now()
  const restarted: string[] = []
  const record = await unattended({ ...unattendedOn(scene, 'first', restarted), edit })
  const traffic = await byStep([world], record, since)
  await report({
    ...recordOf(`Linkerd through a real Gitea, unattended, ${what}: graceful`, record, traffic),
    refused: record.refused,
  })
  expect(record.steps.map(step => step.step)).toEqual(linkerdSteps)
  expect(restarted).toEqual(['1-trust-both/3-data-plane', '3-trust-new/3-data-plane'])
  expect(gatesMerged(record)).toEqual(['success'])
  expect(record.refused).toBeGreaterThan(0)
  for (const step of record.steps.slice(1, -1)) expect(step.consumers, step.step).toMatchObject(count)
  expect(failuresText(traffic)).toEqual([])
  expect(traffic.every(step => step.sent > 0)).toBe(true)
  expect(await heldByProxies(kubelet)).toEqual({ proxies, sets: 1, ...(await plannedTrust(fleet, 'first')) })
  const checked = await reanchor(['verify', '--rotation', 'first'], await fleet.runner([world.verifier]))
  expect(checked.exit, told(checked)).toBe(0)
}

describe.each<{ readonly scheme: IssuerScheme }>([{ scheme: 'linkerd.io/tls' }, { scheme: 'kubernetes.io/tls' }])(
  'Linkerd through a real Gitea, with nobody who looks, and the issuer in a Secret of the form $scheme',
  ({ scheme }) => {
    const mesh = shared({ scheme, leafLife: '2m' })

    it('goes from init to the closed rotation: no request fails, and all end with the planned trust', async () => {
      await replacePeacefully(mesh(), `issuer in ${scheme}`)
    }, 1_800_000)

    it('replaces the issuer alone, under the root that the first one brought: nobody restarts, and no request fails', async () => {
      const { fleet, world } = mesh()
      const { kubelet, traffic: watch } = world
      const before = await heldByProxies(kubelet)
      const pods = new Set(kubelet.pods().map(({ uid }) => uid))
      const name = `identity.${linkerdNamespace}.${trustDomain}`
      const files = await issuingUnder(fleet, 'first', { subject: `/CN=${name}`, dns: name })
      const since = Date.now()
      const restarted: string[] = []
      const record = await unattended({
        ...unattendedOn(mesh(), 'second', restarted),
        edit: issuerDeclared(files),
      })
      const traffic = await byStep([world], record, since)
      await report({
        ...recordOf(`Linkerd through a real Gitea, unattended, issuer in ${scheme}: issuer`, record, traffic),
        refused: record.refused,
      })
      expect(record.steps.map(step => step.step)).toEqual(['plan', '1-issue-new/1-data', '2-close'])
      expect(gatesMerged(record)).toEqual(['success'])
      expect(failuresText(traffic)).toEqual([])
      expect((await watch.read(since)).sent).toBeGreaterThan(100)
      expect(restarted).toEqual([])
      expect(new Set(kubelet.pods().map(({ uid }) => uid))).toEqual(pods)
      const issued = fingerprintOf(await readFile(files.certificate, 'utf8'))
      expect(before.issuers).not.toContain(issued)
      expect(await heldByProxies(kubelet)).toEqual({ ...before, issuers: [issued] })
    }, 1_200_000)
  },
)

describe('Linkerd through a real Gitea, with its CA in foreign hands', () => {
  // So that nobody renews, and no leaf ends, while those behind have not restarted.
  const mesh = shared({ scheme: 'kubernetes.io/tls', leafLife: '24h' })

  it('refuses exactly the pairs that the plan foretells, as often as requests fail, and nobody once all have restarted', async () => {
    const { fleet, world } = mesh()
    const { kubelet } = world
    const since = Date.now()
    const restarted: string[] = []
    const people = unattendedOn(mesh(), 'first', restarted)
    const record = await unattended({
      ...people,
      edit: emergencyDeclared,
      plan: ['--accept-outage'],
      async onRound(round) {
        // The last team is late enough for old and new proxies to have met both ways.
        const met = (await unverified(kubelet, since)).filter(({ server }) => server === 'proxy')
        if (pairTexts(met).length === 2) await people.onRound?.(round)
      },
    })
    const traffic = await byStep([world], record, since)
    const untrusted = await unverified(kubelet, since)
    const seen = pairTexts(untrusted)
    const shop = await refusals(kubelet, shopNamespace, since)
    const sum = (key: 'sent' | 'failed' | 'early'): number => traffic.reduce((total, step) => total + step[key], 0)
    await report({
      ...recordOf('Linkerd through a real Gitea, unattended: emergency', record, traffic),
      ...{ refused: record.refused, pairs: seen },
    })
    expect(record.steps.map(step => step.step)).toEqual([
      'plan',
      '0-adopt/1-adopt',
      '1-replace/1-data',
      '1-replace/2-control-plane',
      '1-replace/3-data-plane',
      '2-close',
    ])
    expect(gatesMerged(record)).toEqual(['success'])
    expect(restarted).toEqual(['1-replace/3-data-plane'])
    const price = await foretold(fleet, 'first')
    // Of the control plane only identity is dialled here: by new proxies that meet a replica from before. The other way round somebody would have to renew.
    const meets = price.filter(
      ({ client, server, from }) =>
        (client === 'proxy' && server === 'proxy') ||
        (client === 'control-plane' && server === 'control-plane' && from === '0-adopt/1-adopt'),
    )
    expect(meets).toHaveLength(3)
    expect(seen).toEqual(pairTexts(meets))
    // One refusal for each failed request, of new pods too, by the words of Go and of rustls, and an alert at the other end.
    const refused = untrusted.filter(({ server }) => server === 'proxy').length
    const of = (where: 'inbound' | 'outbound'): readonly string[] =>
      shop.filter(refusal => refusal.refused === where).map(({ error }) => error)
    expect(refused).toBeGreaterThan(0)
    expect({
      failed: sum('failed') + sum('early'),
      clients: of('outbound').length,
      servers: of('inbound').length,
    }).toEqual({
      failed: refused,
      clients: refused,
      servers: refused,
    })
    expect(
      of('outbound').filter(error => !/certificate signed by unknown authority|UnknownIssuer/.test(error)),
    ).toEqual([])
    expect(of('inbound').filter(error => !/alert|remote error/.test(error))).toEqual([])
    await flowing([world], pairs)
    expect(await heldByProxies(kubelet)).toEqual({ proxies, sets: 1, ...(await plannedTrust(fleet, 'first')) })
  }, 1_200_000)
})

describe.each<{ readonly flow: LinkerdFlow; readonly release: string }>([
  { flow: 'upgrade', release: '2.8' },
  { flow: 'config-map', release: '2.7' },
])('Linkerd $release through a real Gitea, with nobody who looks: flow $flow', ({ flow, release }) => {
  const mesh = shared({ flow, scheme: 'linkerd.io/tls', leafLife: '120s' })

  it('goes from init to the closed rotation, with anchors in linkerd-config and in literals: no request fails', async () => {
    const declared = (text: string): string => {
      const document = parseDocument(shortGates(text))
      document.setIn(['spec', 'linkerd', 'flow'], flow)
      return document.toString()
    }
    await replacePeacefully(mesh(), `flow ${flow} of ${release}`, declared)
  }, 1_800_000)
})
