import { beforeAll, describe, expect, it } from 'vitest'
import { ClusterError } from '../../../src/cluster/cluster.ts'
import type { Plan } from '../../../src/rotation.ts'
import {
  gateOver,
  look,
  type Material,
  type Mesh,
  material,
  meshAt,
  planePod,
  planOf,
  podObject,
  stateAt,
  written,
} from './mesh.ts'

let plan: Plan
let ca: Material
let both: string

beforeAll(async () => {
  plan = await planOf()
  ca = await material()
  both = ca.next.root.pem + ca.old.root.pem
}, 60_000)

const trustGates = ['linkerd/consumers-seen', 'linkerd/control-plane-trusts', 'linkerd/proxies-trust'] as const

async function verdicts(mesh: Mesh, place: string): Promise<Readonly<Record<string, string>>> {
  const seen = await look(plan, mesh, place)
  return Object.fromEntries(trustGates.map(id => [id, gateOver(plan, seen, place, id).verdict]))
}

const allHold = Object.fromEntries(trustGates.map(id => [id, 'holds']))

describe('a mesh that has taken a step up', () => {
  const places = ['adopt/adopt', 'trust-both/data-plane', 'issue-new/data', 'trust-new/data-plane'] as const
  it.each(places)('holds every gate of trust and leaves at %s', async place => {
    const mesh = await meshAt(plan, place)
    expect(await verdicts(mesh, place)).toEqual(allHold)
    const seen = await look(plan, mesh, place)
    expect(seen.exceptions).toEqual([])
    expect(seen.complete).toBe(true)
    expect(gateOver(plan, seen, place, 'linkerd/leaves-issued').verdict).toBe('holds')
  })

  it('is asked for each leaf on port linkerd-admin by the proxy’s own name, every variable of it expanded', async () => {
    const mesh = await meshAt(plan, 'adopt/adopt')
    await look(plan, mesh, 'adopt/adopt')
    expect(mesh.asked.get('emojivoto/web-1')).toEqual({
      port: 4191,
      serverName: 'web.emojivoto.serviceaccount.identity.linkerd.cluster.local',
    })
    expect(mesh.asked.size).toBe(mesh.pods.size)
  })
})

describe('pods with a proxy', () => {
  it('are found by label in any namespace: extensions whose namespace says nothing of injection (viz, multicluster)', async () => {
    const mesh = await meshAt(plan, 'trust-both/data-plane')
    const viz = podObject('tap-1', {
      namespace: 'linkerd-viz',
      anchors: ca.old.root.pem,
      labels: { 'linkerd.io/extension': 'viz' },
    })
    const gateway = podObject('linkerd-gateway-1', {
      namespace: 'linkerd-multicluster',
      anchors: ca.old.root.pem,
      labels: { app: 'linkerd-gateway', 'linkerd.io/extension': 'multicluster' },
    })
    for (const object of [viz, gateway])
      mesh.pods.set(`${object.metadata.namespace}/${object.metadata.name}`, { object, chain: ca.old.served })
    const seen = await look(plan, mesh, 'trust-both/data-plane')
    const gate = gateOver(plan, seen, 'trust-both/data-plane', 'linkerd/proxies-trust')
    expect(gate.verdict).toBe('pending')
    expect(gate.because.join('\n')).toContain('proxy linkerd-viz/tap-1')
    expect(gate.because.join('\n')).toContain('gateway linkerd-multicluster/linkerd-gateway-1')
  })

  it('of another control plane in the cluster are not ours', async () => {
    const mesh = await meshAt(plan, 'adopt/adopt')
    const object = podObject('other-1', { anchors: 'rubbish', labels: { 'linkerd.io/control-plane-ns': 'linkerd-2' } })
    mesh.pods.set('emojivoto/other-1', { object, chain: new Error('never asked') })
    expect(await verdicts(mesh, 'adopt/adopt')).toEqual(allHold)
    expect(mesh.asked.has('emojivoto/other-1')).toBe(false)
  })

  it.each(['Succeeded', 'Failed'])('that are %s keep their old anchors for ever and count for nothing', async phase => {
    const mesh = await meshAt(plan, 'trust-new/data-plane')
    const object = podObject('migrate-1', { phase, anchors: ca.old.root.pem, owner: { kind: 'Job', name: 'migrate' } })
    mesh.pods.set('emojivoto/migrate-1', { object, chain: new Error('never asked') })
    expect(await verdicts(mesh, 'trust-new/data-plane')).toEqual(allHold)
  })

  it('are native sidecars too: the proxy stands among the init containers, and is held to the same', async () => {
    const place = 'trust-both/data-plane'
    const mesh = await meshAt(plan, place)
    const native = (name: string, anchors: string) =>
      mesh.pods.set(`emojivoto/${name}`, { object: podObject(name, { native: true, anchors }), chain: ca.old.served })
    native('new-1', both)
    expect(await verdicts(mesh, place)).toEqual(allHold)
    native('stale-1', ca.old.root.pem)
    expect(await verdicts(mesh, place)).toMatchObject({ 'linkerd/proxies-trust': 'pending' })
    mesh.pods.set('emojivoto/stale-1', {
      object: podObject('stale-1', { native: true, anchors: both, state: { waiting: { reason: 'CrashLoopBackOff' } } }),
      chain: ca.old.served,
    })
    const seen = await look(plan, mesh, place)
    expect(seen.exceptions).toMatchObject([
      {
        name: 'emojivoto/stale-1',
        reason: 'not-ready',
        detail: 'container linkerd-proxy: CrashLoopBackOff',
        verdict: 'pending',
      },
    ])
  })

  it('of an old ReplicaSet are named one by one while the roll-out goes on, and the step is not through (F14)', async () => {
    const place = 'trust-both/data-plane'
    const mesh = await meshAt(plan, place)
    for (const name of ['web-3', 'web-4']) {
      const object = podObject(name, { anchors: ca.old.root.pem, hash: '5c9f7b6d44' })
      mesh.pods.set(`emojivoto/${name}`, { object, chain: ca.old.served })
    }
    const gate = gateOver(plan, await look(plan, mesh, place), place, 'linkerd/proxies-trust')
    expect(gate.verdict).toBe('pending')
    expect(gate.because).toHaveLength(2)
    expect(gate.because.join('\n')).toMatch(/proxy emojivoto\/web-3: trusts .+\n.*proxy emojivoto\/web-4: trusts/)
    expect(gate.counted).toEqual({ of: 5, conform: 3 })
  })

  it('that nothing makes anew are named as that: bare pods, Jobs, ReplicaSets without a Deployment', async () => {
    const place = 'trust-both/data-plane'
    const mesh = await meshAt(plan, place)
    const stuck = {
      'bare-1': [null, 'a pod without a controller'],
      'import-1': [{ kind: 'Job', name: 'import' }, 'a pod of a Job: it keeps its anchors until it is done'],
      'lone-1': [{ kind: 'ReplicaSet', name: 'lone' }, 'of a ReplicaSet without a Deployment'],
    } as const
    for (const [name, [owner]] of Object.entries(stuck)) {
      const object = podObject(name, { owner, anchors: ca.old.root.pem })
      mesh.pods.set(`emojivoto/${name}`, { object, chain: ca.old.served })
    }
    const gate = gateOver(plan, await look(plan, mesh, place), place, 'linkerd/proxies-trust')
    expect(gate.verdict).toBe('pending')
    for (const [name, [, why]] of Object.entries(stuck))
      expect(
        gate.because.find(line => line.includes(name)),
        name,
      ).toContain(why)
  })

  it('have their anchors compared as a set: another order, CRLF, a blank and a missing newline make no difference (F30)', async () => {
    const place = 'trust-both/data-plane'
    const mesh = await meshAt(plan, place)
    const texts = [
      ca.old.root.pem + ca.next.root.pem,
      both.replaceAll('\n', '\r\n'),
      `\n${both.trimEnd()}`,
      both + ca.old.root.pem,
    ]
    for (const [index, anchors] of texts.entries()) {
      const name = `spelt-${index}`
      mesh.pods.set(`emojivoto/${name}`, { object: podObject(name, { anchors }), chain: ca.old.served })
    }
    expect(await verdicts(mesh, place)).toEqual(allHold)
  })

  it('with a root that no plan knows are a violation, whatever its name says (F10)', async () => {
    const place = 'trust-both/data-plane'
    const mesh = await meshAt(plan, place)
    const object = podObject('web-9', { anchors: both.replace(ca.next.root.pem, ca.foreign.root.pem) })
    mesh.pods.set('emojivoto/web-9', { object, chain: ca.old.served })
    const seen = await look(plan, mesh, place)
    expect(gateOver(plan, seen, place, 'linkerd/proxies-trust').verdict).toBe('violated')
    // It stands in the evidence, which is read without the cluster.
    expect(seen.certificates.map(({ sha256 }) => sha256)).toContain(ca.foreign.root.sha256)
  })

  it('without anchors in their environment, or with broken ones, are unknown', async () => {
    const place = 'adopt/adopt'
    const mesh = await meshAt(plan, place)
    mesh.pods.set('emojivoto/odd-1', { object: podObject('odd-1', { anchors: null }), chain: ca.old.served })
    mesh.pods.set('emojivoto/odd-2', { object: podObject('odd-2', { anchors: 'no PEM' }), chain: ca.old.served })
    expect(await verdicts(mesh, place)).toMatchObject({
      'linkerd/consumers-seen': 'unknown',
      'linkerd/proxies-trust': 'unknown',
    })
  })
})

describe('the leaf of each proxy', () => {
  it('is probed, in the control plane too: one that kept the old one holds the old root back (F1, F3)', async () => {
    const place = 'issue-new/data'
    const mesh = await meshAt(plan, place)
    const pod = mesh.pods.get('linkerd/linkerd-destination-1')
    if (pod === undefined) throw new Error('no pod')
    pod.chain = ca.old.served
    const gate = gateOver(plan, await look(plan, mesh, place), place, 'linkerd/leaves-issued')
    expect(gate.verdict).toBe('pending')
    expect(gate.because[0]).toMatch(/^control-plane linkerd\/linkerd-destination-1: leaf is signed by/)
    expect(gate.because[1]).toBe(`at the latest at ${ca.old.leaf.notAfter} the last of these leaves has ended`)
  })

  it('that an owner’s annotation calls new is old all the same: a workload with a stale volume (F3, F19)', async () => {
    const place = 'issue-new/data'
    const mesh = await meshAt(plan, place)
    const object = podObject('stateful-0', {
      anchors: both,
      owner: { kind: 'StatefulSet', name: 'stateful' },
      annotations: { 'reanchor.dev/trust': stateAt(plan, place).restarts['data-plane'] ?? '' },
    })
    mesh.pods.set('emojivoto/stateful-0', { object, chain: ca.old.served })
    const gate = gateOver(plan, await look(plan, mesh, place), place, 'linkerd/leaves-issued')
    expect([gate.verdict, gate.because[0]]).toEqual(['pending', expect.stringContaining('emojivoto/stateful-0')])
  })

  it('that has ended, as one does whose issuer ended before its life was over, is a violation and named (F28)', async () => {
    const place = 'issue-new/data'
    const mesh = await meshAt(plan, place)
    mesh.pods.set('emojivoto/web-9', { object: podObject('web-9', { anchors: both }), chain: ca.next.ended })
    const seen = await look(plan, mesh, place)
    expect(seen.exceptions).toMatchObject([{ name: 'emojivoto/web-9', reason: 'leaf-expired', verdict: 'violated' }])
    expect(gateOver(plan, seen, place, 'linkerd/consumers-seen')).toMatchObject({
      verdict: 'violated',
      because: [expect.stringContaining('it gets no new one')],
    })
  })

  it('of a CA that no plan knows is a violation', async () => {
    const mesh = await meshAt(plan, 'issue-new/data')
    mesh.pods.set('emojivoto/web-9', { object: podObject('web-9', { anchors: both }), chain: ca.foreign.served })
    const seen = await look(plan, mesh, 'issue-new/data')
    expect(gateOver(plan, seen, 'issue-new/data', 'linkerd/leaves-issued').verdict).toBe('violated')
  })

  it.each([
    ['a port-forward that is refused', new ClusterError('forbidden', 'TLS handshake', 'pods "web-1" is forbidden')],
    ['silence', new ClusterError('timeout', 'TLS handshake', 'no answer within 15 s')],
    ['a port that is closed', new ClusterError('unreachable', 'TLS handshake', 'connection refused')],
  ])('behind %s is unknown, and never a pass (F27)', async (_what, failure) => {
    const place = 'issue-new/data'
    const mesh = await meshAt(plan, place)
    const pod = mesh.pods.get('emojivoto/web-1')
    if (pod === undefined) throw new Error('no pod')
    pod.chain = failure
    const seen = await look(plan, mesh, place)
    expect(seen.exceptions).toMatchObject([{ name: 'emojivoto/web-1', reason: 'unreadable', verdict: 'unknown' }])
    expect(gateOver(plan, seen, place, 'linkerd/leaves-issued').verdict).toBe('unknown')
    expect(gateOver(plan, seen, place, 'linkerd/consumers-seen').verdict).toBe('unknown')
  })

  it('of a pod that went away meanwhile counts no more, and its successor’s does', async () => {
    const place = 'issue-new/data'
    const mesh = await meshAt(plan, place)
    mesh.onHandshake = name => {
      if (name !== 'emojivoto/web-1') return
      mesh.pods.delete(name)
      mesh.pods.set('emojivoto/web-5', { object: podObject('web-5', { anchors: both }), chain: ca.old.served })
    }
    const seen = await look(plan, mesh, place)
    expect(seen.exceptions).toMatchObject([{ name: 'emojivoto/web-5', reason: 'old-issuer' }])
  })

  it('of a pod that is going away is waited for', async () => {
    const place = 'issue-new/data'
    const mesh = await meshAt(plan, place)
    const object = podObject('web-6', { anchors: both, terminating: true })
    mesh.pods.set('emojivoto/web-6', { object, chain: new ClusterError('unreachable', 'TLS', 'connection refused') })
    const seen = await look(plan, mesh, place)
    expect(seen.exceptions).toMatchObject([{ name: 'emojivoto/web-6', reason: 'terminating', verdict: 'pending' }])
    expect(gateOver(plan, seen, place, 'linkerd/leaves-issued').verdict).toBe('pending')
  })
})

describe('anchors that the control plane reads from the ConfigMap at its start (F11)', () => {
  const place = 'trust-both/control-plane'
  const changed = '2026-11-22T05:00:00Z'
  const before = '2026-11-22T04:59:59Z'
  const after = '2026-11-22T05:00:30Z'
  const gates = ['linkerd/control-plane-trusts', 'linkerd/consumers-seen'] as const

  async function judged(mesh: Mesh, at = place): Promise<readonly string[]> {
    const seen = await look(plan, mesh, at)
    return gates.map(id => gateOver(plan, seen, at, id).verdict)
  }

  it('are the present ones for what started later, in both containers of every pod', async () => {
    expect(await judged(await meshAt(plan, place, { changed, started: after }))).toEqual(['holds', 'holds'])
  })

  it('are not told by the restart token: a pod that carries it and started earlier is unknown', async () => {
    const mesh = await meshAt(plan, place, { changed, started: after })
    const { token } = { token: stateAt(plan, place).restarts['control-plane'] }
    const object = planePod('linkerd-destination-1', 'destination', { token, started: before })
    mesh.pods.set('linkerd/linkerd-destination-1', { object, chain: ca.old.served })
    const seen = await look(plan, mesh, place)
    expect(gates.map(id => gateOver(plan, seen, place, id).verdict)).toEqual(['unknown', 'unknown'])
    expect(seen.exceptions).toMatchObject([
      {
        consumer: 'control-plane',
        name: 'linkerd/linkerd-destination-1',
        detail: expect.stringContaining(
          `container linkerd-proxy started at ${before}, and linkerd/linkerd-identity-trust-roots was written ${changed}`,
        ),
      },
    ])
  })

  it('are those of identity’s own start, not of its proxy’s: a lone restart of one container is not enough', async () => {
    const mesh = await meshAt(plan, place, { changed, started: after })
    const token = stateAt(plan, place).restarts['control-plane']
    const object = planePod('linkerd-identity-2', 'identity', { token, started: after, besideStarted: before })
    mesh.pods.set('linkerd/linkerd-identity-2', { object, chain: ca.old.served })
    const seen = await look(plan, mesh, place)
    expect(seen.exceptions).toMatchObject([{ consumer: 'identity', name: 'linkerd/linkerd-identity-2' }])
    expect(gateOver(plan, seen, place, gates[0]).verdict).toBe('unknown')
  })

  it('reach a container that is restarted in its pod with the kubelet’s delay', async () => {
    const token = stateAt(plan, place).restarts['control-plane']
    const restarted = async (besideStarted: string) => {
      const mesh = await meshAt(plan, place, { changed, started: after })
      const object = planePod('linkerd-identity-2', 'identity', {
        token,
        started: after,
        besideStarted,
        besideRestarts: 1,
      })
      mesh.pods.set('linkerd/linkerd-identity-2', { object, chain: ca.old.served })
      return await judged(mesh)
    }
    expect(await restarted('2026-11-22T05:01:30Z')).toEqual(['unknown', 'unknown'])
    expect(await restarted('2026-11-22T05:02:01Z')).toEqual(['holds', 'holds'])
  })

  it('are the old ones, by their token, for what has not restarted since: so the data step opens the restart', async () => {
    const mesh = await meshAt(plan, 'trust-both/data', { changed, started: before })
    expect(await judged(mesh, 'trust-both/data')).toEqual(['holds', 'holds'])
    const seen = await look(plan, mesh, 'trust-both/data')
    const plane = seen.groups.filter(({ consumer }) => consumer === 'control-plane' || consumer === 'identity')
    for (const { trusts } of plane) expect(trusts).toEqual([ca.old.root.sha256])
    // The restart itself has not happened.
    expect(gateOver(plan, await look(plan, mesh, place), place, gates[0]).verdict).toBe('pending')
  })

  it('are not told where there is no plan, as in inspect, of what started before them: neither none nor those of now', async () => {
    const [adopt] = plan.phases
    const [step] = adopt?.steps ?? []
    const planned = step?.sites['eu-1']
    if (adopt === undefined || step === undefined || planned === undefined) throw new Error('no adopt')
    const state = { ...planned.state, settings: { scheme: 'linkerd.io/tls' }, restarts: {} }
    const sites = { 'eu-1': { ...planned, state } }
    const today: Plan = { ...plan, phases: [{ ...adopt, steps: [{ ...step, sites }] }] }
    const mesh = await meshAt(plan, 'adopt/adopt', { changed, started: before })
    const seen = await look(today, mesh, 'adopt/adopt')
    const plane = seen.groups.filter(({ consumer }) => consumer === 'control-plane' || consumer === 'identity')
    expect([...new Set(plane.map(({ trusts }) => trusts))]).toEqual([null])
    const why = seen.exceptions.find(({ name }) => name === 'linkerd/linkerd-destination-1')
    expect(why).toMatchObject({
      verdict: 'unknown',
      detail: expect.stringContaining('may hold the anchors from before'),
    })
    const settled = await look(today, await meshAt(plan, 'adopt/adopt', { changed, started: after }), 'adopt/adopt')
    expect(settled.exceptions).toEqual([])
  })

  it('may be the new ones in a pod that was made anew by itself before the restart', async () => {
    const mesh = await meshAt(plan, 'trust-both/data', { changed, started: before })
    const object = planePod('linkerd-identity-2', 'identity', { started: after })
    mesh.pods.set('linkerd/linkerd-identity-2', { object, chain: ca.old.served })
    expect(await judged(mesh, 'trust-both/data')).toEqual(['holds', 'holds'])
    const seen = await look(plan, mesh, 'trust-both/data')
    const own = seen.groups.find(({ consumer, trusts }) => consumer === 'identity' && trusts?.length === 2)
    expect(own?.count).toBe(1)
  })

  it('are unknown where the ConfigMap does not say when it was written, or cannot be read', async () => {
    const mesh = await meshAt(plan, place, { changed, started: after })
    const [map] = mesh.objects.get('configmaps') ?? []
    mesh.objects.set('configmaps', [
      { ...map, metadata: { name: 'linkerd-identity-trust-roots', namespace: 'linkerd' } },
    ])
    expect(await judged(mesh)).toEqual(['unknown', 'unknown'])
    mesh.failures.set('get configmaps linkerd-identity-trust-roots', new ClusterError('forbidden', 'get', 'no'))
    expect(await judged(mesh)).toEqual(['unknown', 'unknown'])
  })

  it('count from when their key was written, not from when somebody labelled the ConfigMap', async () => {
    const mesh = await meshAt(plan, place, { changed, started: after })
    const [map] = mesh.objects.get('configmaps') ?? []
    if (map === undefined) throw new Error('no ConfigMap')
    const managedFields = [
      ...written('ca-bundle.crt', changed),
      { manager: 'kubectl-label', operation: 'Update', time: '2026-11-22T05:50:00Z', fieldsV1: { 'f:metadata': {} } },
    ]
    mesh.objects.set('configmaps', [{ ...map, metadata: { ...map.metadata, managedFields } }])
    expect(await judged(mesh)).toEqual(['holds', 'holds'])
  })

  it('of a token that is of no step are unknown', async () => {
    const mesh = await meshAt(plan, place, { changed, started: before })
    const object = planePod('linkerd-destination-1', 'destination', { token: 'stranger', started: before })
    mesh.pods.set('linkerd/linkerd-destination-1', { object, chain: ca.old.served })
    expect((await judged(mesh))[1]).toBe('unknown')
  })

  it('are literals up to 2.10 in proxies, while identity reads the JSON of linkerd-config at its start', async () => {
    const upgrade = await planOf('upgrade')
    const mesh = await meshAt(upgrade, place, { flow: 'upgrade', changed, started: after })
    const held = async () => {
      const seen = await look(upgrade, mesh, place, { flow: 'upgrade' })
      return gateOver(upgrade, seen, place, gates[0]).verdict
    }
    expect(await held()).toBe('holds')
    const token = stateAt(upgrade, place).restarts['control-plane']
    const object = planePod('linkerd-identity-1', 'identity', {
      token,
      anchors: both,
      started: after,
      besideStarted: before,
    })
    mesh.pods.set('linkerd/linkerd-identity-1', { object, chain: ca.old.served })
    expect(await held()).toBe('unknown')
  })
})

describe('every replica of identity (F21)', () => {
  const place = 'issue-new/data'
  const metric = (end: string): string =>
    `# TYPE issuer_cert_ttl_seconds gauge\nissuer_cert_ttl_seconds ${(Date.parse(end) - Date.parse('2026-11-22T06:00:00Z')) / 1000}\n`

  it('must hold the new issuer: one that missed its Secret holds the old root back, though no leaf of it was seen (linkerd2#15109)', async () => {
    const mesh = await meshAt(plan, place)
    const replica = (name: string, signer: Material['old']) => {
      const pod = mesh.pods.get(`linkerd/${name}`)
      if (pod !== undefined) pod.metrics = metric(signer.issuer.notAfter)
    }
    replica('linkerd-identity-1', ca.next)
    replica('linkerd-identity-2', ca.next)
    const gate = async () => gateOver(plan, await look(plan, mesh, place), place, 'linkerd/issuer-loaded')
    expect(await gate()).toMatchObject({ verdict: 'holds', counted: { of: 2, conform: 2 } })
    const pod = mesh.pods.get('linkerd/linkerd-identity-2')
    if (pod !== undefined) pod.metrics = metric(ca.old.root.notAfter)
    const behind = await gate()
    expect(behind.counted).toEqual({ of: 2, conform: 1 })
    expect(behind.verdict).not.toBe('holds')
    expect(behind.because.join('\n')).toContain('linkerd/linkerd-identity-2')
  })

  it('that shows no issuer (before edge-25.2.1) is not counted: the leaves are', async () => {
    const mesh = await meshAt(plan, place)
    const gate = gateOver(plan, await look(plan, mesh, place), place, 'linkerd/issuer-loaded')
    expect([gate.verdict, gate.counted]).toEqual(['holds', { of: 0, conform: 0 }])
  })

  it('is missed where there is none: unknown', async () => {
    const mesh = await meshAt(plan, place)
    for (const name of ['linkerd-identity-1', 'linkerd-identity-2']) mesh.pods.delete(`linkerd/${name}`)
    const seen = await look(plan, mesh, place)
    expect(seen.exceptions).toMatchObject([{ consumer: 'identity', reason: 'missing', verdict: 'unknown' }])
  })

  it('whose own container crashes is not ready, though its proxy answers', async () => {
    const mesh = await meshAt(plan, place)
    const pod = mesh.pods.get('linkerd/linkerd-identity-2')
    if (pod === undefined) throw new Error('no pod')
    const status = pod.object.status as { containerStatuses: { name: string; state: unknown }[] }
    const own = status.containerStatuses.find(({ name }) => name === 'identity')
    if (own !== undefined) own.state = { waiting: { reason: 'CrashLoopBackOff' } }
    const seen = await look(plan, mesh, place)
    expect(seen.exceptions).toMatchObject([{ consumer: 'identity', reason: 'not-ready', verdict: 'pending' }])
    expect(gateOver(plan, seen, place, 'linkerd/control-plane-trusts').verdict).toBe('pending')
  })
})

describe('machines outside the cluster (F20)', () => {
  it('are ExternalWorkloads, which a person must have declared', async () => {
    const mesh = await meshAt(plan, 'trust-both/data-plane')
    mesh.objects.set('externalworkloads', [{ metadata: { name: 'till', namespace: 'shop' } }])
    const seen = await look(plan, mesh, 'trust-both/data-plane')
    const gate = gateOver(plan, seen, 'trust-both/data-plane', 'linkerd/machines-declared')
    expect([gate.verdict, gate.because]).toEqual([
      'violated',
      ['ExternalWorkload shop/till is not declared under gates.attest'],
    ])
    // What vouches for them is a gate of its own: they are not “not seen”.
    expect(gateOver(plan, seen, 'trust-both/data-plane', 'linkerd/consumers-seen').verdict).toBe('holds')
    const declared: Plan = { ...plan, gates: { ...plan.gates, attest: [{ name: 'shop/*', why: 'tills' }] } }
    expect(gateOver(declared, seen, 'trust-both/data-plane', 'linkerd/machines-declared').verdict).toBe('holds')
    expect(gateOver(declared, seen, 'trust-both/data-plane', 'linkerd/attested').verdict).toBe('pending')
    // Going back is asked of them as well: whoever dropped the old root has to take it again.
    const back = await look(declared, mesh, 'trust-new/data-plane', { variant: 'undo' })
    expect(gateOver(declared, back, 'trust-new/data-plane', 'linkerd/attested', 'undo').verdict).toBe('pending')
  })
})

describe('workloads that take the restart', () => {
  const place = 'trust-both/data-plane'

  it.each([
    ['an OnDelete set', { updateStrategy: { type: 'OnDelete' } }, 'its update strategy is OnDelete'],
    ['a paused Deployment', { paused: true }, 'it is paused'],
  ])('are named where they never roll: %s', async (_what, more, words) => {
    const mesh = await meshAt(plan, place)
    const token = stateAt(plan, place).restarts['data-plane']
    const object = {
      metadata: {
        name: 'stuck',
        namespace: 'shop',
        generation: 2,
        annotations: { 'reanchor.dev/rotation': 'mesh-2026' },
      },
      spec: { replicas: 2, template: { metadata: { annotations: { 'reanchor.dev/trust': token } } }, ...more },
      status: { observedGeneration: 2, replicas: 2, updatedReplicas: 0, readyReplicas: 2, availableReplicas: 2 },
    }
    const kind = 'paused' in more ? 'deployments' : 'statefulsets'
    mesh.objects.set(kind, [...(mesh.objects.get(kind) ?? []), object])
    const gate = gateOver(plan, await look(plan, mesh, place), place, 'linkerd/workloads-restarted')
    expect(gate.verdict).toBe('pending')
    expect(gate.because.join('\n')).toContain(words)
    expect(gate.because.join('\n')).toContain('shop/')
  })

  it('are judged by the newest generation, not by a Ready of the one before (F23)', async () => {
    const mesh = await meshAt(plan, place)
    const deployments = mesh.objects.get('deployments') ?? []
    const web = deployments.find(({ metadata }) => metadata.name === 'web')
    if (web === undefined) throw new Error('no web')
    mesh.objects.set('deployments', [
      ...deployments.filter(each => each !== web),
      { ...web, metadata: { ...web.metadata, generation: 2 } },
    ])
    const gate = gateOver(plan, await look(plan, mesh, place), place, 'linkerd/workloads-restarted')
    expect([gate.verdict, gate.because[0]]).toEqual([
      'pending',
      expect.stringContaining('its controller has not taken up the newest template'),
    ])
  })

  it('make the last change known, from which a hold is counted (F24)', async () => {
    const mesh = await meshAt(plan, place)
    const late = podObject('web-7', {
      anchors: both,
      started: '2026-11-22T05:58:00Z',
      owner: { kind: 'ReplicaSet', name: 'late-6d4cf56db6' },
    })
    mesh.pods.set('emojivoto/web-7', { object: late, chain: ca.old.served })
    expect((await look(plan, mesh, place)).lastChange).toBe('2026-11-22T05:58:00Z')
  })
})

describe('a list that ends half way', () => {
  it('is no whole look, and says so', async () => {
    const mesh = await meshAt(plan, 'adopt/adopt')
    mesh.pageSize = 2
    mesh.failures.set('next page of pods', new ClusterError('partial', 'list pods', 'stopped half way'))
    const seen = await look(plan, mesh, 'adopt/adopt')
    expect(seen.complete).toBe(false)
    expect(seen.exceptions).toMatchObject([{ name: 'list pods', verdict: 'unknown' }])
  })
})

describe('the anchors’ ConfigMap', () => {
  it('in which Linkerd could read nothing is a violation before anything restarts with it', async () => {
    const mesh = await meshAt(plan, 'trust-both/data')
    const [map] = mesh.objects.get('configmaps') ?? []
    if (map === undefined) throw new Error('no ConfigMap')
    mesh.objects.set('configmaps', [{ ...map, data: { 'ca-bundle.crt': `${both}\n` } }])
    const seen = await look(plan, mesh, 'trust-both/data')
    expect(seen.exceptions[0]).toMatchObject({
      consumer: 'configmap',
      reason: 'broken-bundle',
      detail: expect.stringContaining('not a PEM certificate'),
    })
    expect(gateOver(plan, seen, 'trust-both/data', 'linkerd/consumers-seen').verdict).toBe('violated')
  })
})

describe('a big fleet', () => {
  it('of which most are silent neither stalls nor passes: the silent are unknown by name, those not asked too', async () => {
    const place = 'issue-new/data'
    const mesh = await meshAt(plan, place)
    const silence = new ClusterError('timeout', 'TLS handshake', 'no answer within 15 s')
    const owners = 40
    for (let index = 0; index < 2000; index += 1) {
      const name = `quiet${index % owners}-${index}`
      mesh.pods.set(`emojivoto/${name}`, { object: podObject(name, { anchors: both }), chain: silence })
    }
    let open = 0
    let most = 0
    mesh.onHandshake = async name => {
      if (!name.includes('quiet')) return
      open += 1
      most = Math.max(most, open)
      await new Promise(resolve => setTimeout(resolve, 5))
      open -= 1
    }
    const began = performance.now()
    const patience = { first: 8, least: 5, all: 100, open: 16 }
    const seen = await look(plan, mesh, place, { patience, concurrency: 4 })
    expect(performance.now() - began).toBeLessThan(8000)
    expect(most).toBeLessThanOrEqual(16)
    // After the first ones each gets little time, and after all of it the rest is not asked.
    expect([...mesh.asked].filter(([name]) => name.includes('quiet')).length).toBeLessThan(1000)
    const unread = seen.exceptions.filter(({ reason }) => reason === 'unreadable')
    expect(unread).toHaveLength(2000)
    expect(unread.some(({ detail }) => detail.startsWith('not asked, one of'))).toBe(true)
    // Something is known of every owner, and those that answer were all read.
    expect([...mesh.asked.keys()].filter(name => /quiet\d+-\d$|quiet[1-3]\d-[1-3]\d$/.test(name))).toHaveLength(owners)
    expect(mesh.asked.has('emojivoto/web-1')).toBe(true)
    const gate = gateOver(plan, seen, place, 'linkerd/leaves-issued')
    expect([gate.verdict, gate.counted]).toEqual(['unknown', { of: 2007, conform: 7 }])
  }, 30_000)

  it('says alike what is alike, without each pod’s name in it', async () => {
    const place = 'issue-new/data'
    const mesh = await meshAt(plan, place)
    for (const name of ['mute-1', 'mute-2']) {
      const failure = new ClusterError(
        'unreachable',
        `TLS handshake with pod emojivoto/${name}:4191`,
        'connection refused',
      )
      mesh.pods.set(`emojivoto/${name}`, { object: podObject(name, { anchors: both }), chain: failure })
    }
    const seen = await look(plan, mesh, place)
    expect(new Set(seen.exceptions.map(({ detail }) => detail)).size).toBe(1)
  })
})
