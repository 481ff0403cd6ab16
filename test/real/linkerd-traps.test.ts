import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readAsGo } from '../../src/systems/linkerd/go-pem.ts'
import { output, program } from './rig/components.ts'
import type { RunningPod } from './rig/kubelet.ts'
import { type LinkerdWorkload, linkerdNamespace, shopNamespace } from './rig/linkerd-fleet.ts'
import { heldByProxies } from './rig/linkerd-held.ts'
import {
  applyByHand,
  issuerSecret,
  type LinkerdCluster,
  makeMaterial,
  type StartingMaterial,
  startLinkerdCluster,
} from './rig/linkerd-world.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { until } from './rig/server.ts'
import { flowing, ready, restart } from './rig/watch.ts'

const owned: readonly LinkerdWorkload[] = [
  { name: 'frontend', proxy: 'rustls' },
  { name: 'cart', proxy: 'go' },
]

let folder: string
let other: StartingMaterial
let another: StartingMaterial

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ra-traps-'))
  other = await makeMaterial(folder)
  another = await makeMaterial(folder)
})

afterAll(async () => {
  await rm(folder, { recursive: true, force: true })
})

describe('anchors as Go reads them', () => {
  it('are what reanchor takes them for, in every row of up to four pieces that people glue together', async () => {
    const first = other.root
    const second = another.root
    const cutOff = first.slice(0, 120)
    const pieces = [
      first,
      first.trimEnd(),
      second,
      '\n',
      '# the old root\n',
      'Bag Attributes: <none>\nsubject=CN = root\n',
      other.issuerKey,
      first.replaceAll('\n', '\r\n'),
      cutOff,
    ]
    const isCut = (text: string): boolean => text.replaceAll(first, '').replaceAll(first.trimEnd(), '').includes(cutOff)
    let texts: readonly string[] = ['']
    let rows: readonly string[] = ['']
    for (let length = 1; length <= 4; length += 1) {
      rows = rows.flatMap(row => pieces.map(piece => row + piece))
      texts = [...texts, ...rows]
    }
    const said = await output(await program('linkerd-rig'), ['anchors'], {
      input: texts.map(text => `${text}\0`).join(''),
    })
    const answers = said
      .trimEnd()
      .split('\n')
      .map(line => (JSON.parse(line) as { readonly anchors?: readonly string[] }).anchors ?? null)
    expect(answers).toHaveLength(texts.length)
    const wrong = texts.filter((text, place) => {
      const read = readAsGo(text)
      // What stands behind a block that is cut off some versions of Go read, and others do not.
      if (!read.ok && isCut(text)) return false
      return JSON.stringify(read.ok ? read.anchors : null) !== JSON.stringify(answers[place])
    })
    expect(wrong.slice(0, 3)).toEqual([])
    // Both answers are among them, or nothing would have been compared.
    expect(answers.filter(answer => answer !== null).length).toBeGreaterThan(100)
    expect(answers.filter(answer => answer === null).length).toBeGreaterThan(100)
  })
})

describe('what is read once, and what is read again', () => {
  let network: Network
  let cluster: LinkerdCluster

  beforeAll(async () => {
    network = await createNetwork()
    const options = { network, scheme: 'linkerd.io/tls', leafLife: '2m', owned, interval: 500 } as const
    cluster = await startLinkerdCluster(options)
    await applyByHand(cluster, options)
    await flowing([cluster], 2)
  }, 600_000)

  afterAll(async () => {
    await cluster?.stop()
    await network?.close()
  })

  const identities = (): readonly RunningPod[] => cluster.kubelet.find(linkerdNamespace, 'linkerd-identity-')
  const said = async (pod: RunningPod): Promise<string> => await readFile(pod.log('identity'), 'utf8')

  async function publish(anchors: string): Promise<void> {
    const map = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      namespace: linkerdNamespace,
      name: 'linkerd-identity-trust-roots',
    }
    await cluster.plane.objects.merge(map, { data: { 'ca-bundle.crt': anchors } })
    // Until every mount has it.
    await sleep(3000)
  }

  async function events(reason: string): Promise<number> {
    const found = await cluster.plane.objects.list('v1', 'Event', { namespace: linkerdNamespace })
    return found.filter(event => event.reason === reason).length
  }

  it('an issuer that the anchors of its start do not verify is skipped: identity signs on, and would not come up again', async () => {
    const { starting } = cluster
    const replicas = identities()
    expect(replicas).toHaveLength(2)
    await cluster.plane.objects.apply(issuerSecret('linkerd.io/tls', other), 'kubectl-create')
    await until('both replicas skip it', async () => (await events('IssuerUpdateSkipped')) >= 2, 30_000)
    expect(await events('IssuerUpdated')).toBe(0)
    // A proxy that is made now gets its leaf from the old one.
    await restart(cluster, shopNamespace, 'cart')
    await ready(cluster, shopNamespace, ['cart'])
    expect((await heldByProxies(cluster.kubelet)).issuers).toEqual([starting.issuerSha256])
    const [replica] = replicas
    if (replica === undefined) throw new Error('no identity')
    await cluster.kubelet.kill(replica, 'identity')
    await until(
      'the restarted replica gives up',
      async () =>
        (await said(replica)).includes('Failed to initialize identity service: failed to verify issuer credentials'),
      30_000,
    )
    await cluster.plane.objects.apply(issuerSecret('linkerd.io/tls', starting), 'kubectl-create')
    await until('the other replica takes the old one again', async () => (await events('IssuerUpdated')) >= 1, 30_000)
    await ready(cluster, linkerdNamespace, ['linkerd-identity'])
  })

  it('new anchors in the ConfigMap reach nobody who runs, neither on Go’s TLS nor on rustls, and whoever is made anew', async () => {
    const { starting, kubelet } = cluster
    await publish(`${other.root}${starting.root}`)
    expect(await heldByProxies(kubelet)).toMatchObject({ roots: [starting.rootSha256], sets: 1 })
    for (const name of ['frontend', 'cart']) await restart(cluster, shopNamespace, name)
    await ready(cluster, shopNamespace, ['frontend', 'cart'])
    await until('the pods from before are gone', () => kubelet.find(shopNamespace, '').length === 2, 60_000)
    const both = [other.rootSha256, starting.rootSha256].sort()
    expect(await heldByProxies(kubelet)).toMatchObject({ roots: both, sets: 2 })
  })

  it('a pod that is made before the injector’s mount has caught up keeps the anchors from before', async () => {
    const { starting, kubelet } = cluster
    kubelet.holdProjection(pod => pod.name.startsWith('linkerd-proxy-injector-'))
    try {
      await publish(`${another.root}${starting.root}`)
      await restart(cluster, shopNamespace, 'cart')
      await ready(cluster, shopNamespace, ['cart'])
      await until('the pod from before is gone', () => kubelet.find(shopNamespace, 'cart-').length === 1, 60_000)
      const { roots } = await heldByProxies(kubelet)
      expect(roots).toContain(other.rootSha256)
      expect(roots).not.toContain(another.rootSha256)
    } finally {
      kubelet.holdProjection(null)
    }
  })

  it('a blank line behind the last anchor keeps identity from starting, and a key between two hides the second', async () => {
    const { starting, kubelet } = cluster
    const [replica] = identities()
    if (replica === undefined) throw new Error('no identity')
    await publish(`${starting.root}\n`)
    await kubelet.kill(replica, 'identity')
    await until(
      'identity does not start',
      async () => (await said(replica)).includes('Failed to read trust anchors: not a PEM certificate'),
      30_000,
    )
    await publish(`${starting.root}${other.issuerKey}${other.root}`)
    const last = async (): Promise<{ readonly anchors: readonly string[] }> =>
      JSON.parse((await said(replica)).split('\n').findLast(line => line.startsWith('{')) ?? '{}')
    const starts = async (): Promise<number> =>
      (await said(replica)).split('\n').filter(line => line.startsWith('{')).length
    const before = await starts()
    await until('identity starts again', async () => (await starts()) > before, 60_000)
    expect((await last()).anchors).toEqual([starting.rootSha256])
  })
})
