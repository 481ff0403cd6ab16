import { X509Certificate } from 'node:crypto'
import fc from 'fast-check'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { type Cluster, ClusterError, type ClusterFailure, type KubernetesObject } from '../../../src/cluster/cluster.ts'
import { nodeMaterial } from '../../../src/rehearsal/cassandra/certificates.ts'
import type { Evidence, Plan } from '../../../src/rotation.ts'
import { type CaSecret, dataOf, type NewCa } from '../../../src/systems/cassandra/ca-secret.ts'
import { cassandraRules } from '../../../src/systems/cassandra/gates.ts'
import type { CassandraCa } from '../../../src/systems/cassandra/model.ts'
import { observeCassandra } from '../../../src/systems/cassandra/observe.ts'
import { entriesOf } from '../../../src/systems/cassandra/phases.ts'
import { crash, lies, lying, runs } from '../../fuzz/damage.ts'
import { caSecret, cassandraCa } from './material.ts'
import { evidenceOf, placeIn, planOf } from './plan.ts'

// RSA keys take their time on a busy machine.
vi.setConfig({ testTimeout: 120_000 })

const delivered = '2026-11-22T11:00:00Z'
const signed = '2026-11-22T11:00:10Z'
const started = '2026-11-22T11:02:00Z'
const ready = '2026-11-22T11:03:00Z'
const now = '2026-11-22T11:10:00Z'

let old: NewCa
let secret: CaSecret
let plan: Plan
/** DER of the certificate that nodes serve after the operator took phase n up. */
let leaves: readonly Buffer[]
/** One that the operator has made hours before, of the CA of phase 2. */
let replaced: Buffer

beforeAll(async () => {
  const [first, next] = await Promise.all([cassandraCa('O=ca'), cassandraCa('O=example-db-2026')])
  old = first
  secret = caSecret(old)
  plan = planOf({ secret, old: old.certificate, next })
  const made: Buffer[] = []
  for (const [phase, { steps }] of plan.phases.entries()) {
    const state = steps[0]?.sites['eu-1']?.state
    if (state === undefined) throw new Error('no state')
    const data = dataOf({ entries: entriesOf(state), issuer: state.issuer }, secret, next)
    const node = await nodeMaterial(data, secret, new Date(Date.UTC(2026, 10, 22, 10, 59, 10 * phase)))
    made.push(new X509Certificate(node['tls.crt']).raw)
  }
  leaves = made
  const state = placeIn(plan, 2).tree.state
  const data = dataOf({ entries: entriesOf(state), issuer: state.issuer }, secret, next)
  const node = await nodeMaterial(data, secret, new Date(Date.UTC(2026, 10, 22, 8)))
  replaced = new X509Certificate(node['tls.crt']).raw
}, 120_000)

/** What the API holds, to be changed by a test; a node's name leads to what it serves. */
interface World {
  readonly objects: Map<string, KubernetesObject>
  readonly served: Map<string, readonly Buffer[]>
  readonly failing: { readonly asked: RegExp; readonly failure: ClusterFailure }[]
  /** What stands between a look and the API. */
  through?: (cluster: Cluster) => Cluster
}

const dcs = ['dc1', 'dc2'] as const
const annotation = 'cassandra-cluster-checksum'

/** Two datacenters in one region, rolled out to `phase` and still for minutes. */
function rolledOut(phase: number): World {
  const state = placeIn(plan, phase).tree.state
  const world: World = { objects: new Map(), served: new Map(), failing: [] }
  const put = (object: KubernetesObject) => world.objects.set(`${object.kind}/${object.metadata.name}`, object)
  put({
    kind: 'CassandraCluster',
    metadata: { name: 'example', namespace: 'anton', creationTimestamp: '2025-01-01T00:00:00Z' },
    spec: {
      dcs: dcs.map(name => ({ name, replicas: 3 })),
      encryption: {
        server: { internodeEncryption: 'all', caTLSSecret: { name: secret.name } },
        client: { enabled: true, caTLSSecret: { name: secret.name } },
      },
    },
    status: { ready: true },
  })
  put({
    kind: 'Secret',
    metadata: {
      name: secret.name,
      namespace: 'anton',
      annotations: { [annotation]: state.settings.checksum ?? '', 'cassandra-cluster-instance': 'example' },
      managedFields: [
        {
          manager: 'kustomize-controller',
          operation: 'Apply',
          time: delivered,
          fieldsV1: {
            'f:data': Object.fromEntries((state.settings.keys ?? '').split(' ').map(key => [`f:${key}`, {}])),
          },
        },
      ],
    },
  })
  for (const name of ['example-cluster-tls-node', 'example-client-tls-node'])
    put({
      kind: 'Secret',
      metadata: {
        name,
        namespace: 'anton',
        managedFields: [
          { manager: 'manager', operation: 'Update', time: signed, fieldsV1: { 'f:data': { 'f:tls.crt': {} } } },
        ],
      },
    })
  const env = [{ name: 'POD_RESTART_CHECKSUM', value: `restart-${phase}` }]
  for (const dc of dcs) {
    const name = `example-cassandra-${dc}`
    put({
      kind: 'StatefulSet',
      metadata: { name, namespace: 'anton', generation: 4, managedFields: [{ manager: 'manager', time: signed }] },
      spec: { template: { spec: { containers: [{ name: 'cassandra', env }] } } },
      status: {
        observedGeneration: 4,
        replicas: 3,
        readyReplicas: 3,
        updatedReplicas: 3,
        currentRevision: `${name}-r${phase}`,
        updateRevision: `${name}-r${phase}`,
      },
    })
    for (const index of [0, 1, 2]) {
      const labels = {
        ...ours('cassandra'),
        'cassandra-cluster-dc': dc,
        'controller-revision-hash': `${name}-r${phase}`,
      }
      const owner = { kind: 'StatefulSet', name, controller: true }
      put(pod(`${name}-${index}`, labels, owner, { containers: [{ name: 'cassandra', env }] }))
      world.served.set(`${name}-${index}`, [leaves[phase] ?? Buffer.alloc(0)])
    }
  }
  return world
}

function ours(component: string): Readonly<Record<string, string>> {
  return { 'cassandra-cluster-instance': 'example', 'cassandra-cluster-component': component }
}

function pod(
  name: string,
  labels: Readonly<Record<string, string>>,
  owner: { readonly kind: string; readonly name: string; readonly controller: boolean },
  spec: unknown,
): KubernetesObject {
  const conditions = [{ type: 'Ready', status: 'True', lastTransitionTime: ready }]
  const metadata = { name, namespace: 'anton', creationTimestamp: started, labels, ownerReferences: [owner] }
  return { kind: 'Pod', metadata, spec, status: { conditions } }
}

/** Changes an object in place of the whole. */
function edit(world: World, id: string, change: (object: Editable) => void): void {
  const object = structuredClone(world.objects.get(id)) as Editable | undefined
  if (object === undefined) throw new Error(`no ${id}`)
  change(object)
  world.objects.set(id, object as KubernetesObject)
}

// biome-ignore lint/suspicious/noExplicitAny: tests reach into objects of every kind
type Editable = { metadata: any; spec: any; status: any }

function clusterOf({ objects, served, failing }: World): Cluster {
  const ask = (asked: string): void => {
    const fault = failing.find(each => each.asked.test(asked))
    if (fault !== undefined) throw new ClusterError(fault.failure, asked, 'the test says so')
  }
  const found = (kind: string, name: string): KubernetesObject | null => {
    ask(`get ${kind} ${name}`)
    return objects.get(`${kind}/${name}`) ?? null
  }
  const kinds: Readonly<Record<string, string>> = {
    cassandraclusters: 'CassandraCluster',
    secrets: 'Secret',
    statefulsets: 'StatefulSet',
  }
  return {
    identity: async () => ({ uid: 'uid', now }),
    get: async (type, _namespace, name) => found(kinds[type.plural] ?? type.plural, name),
    metadata: async (type, _namespace, name) => found(kinds[type.plural] ?? type.plural, name),
    async *list() {
      ask('list pods')
      const pods = [...objects.values()].filter(({ kind }) => kind === 'Pod')
      yield pods.slice(0, 2)
      ask('list more pods')
      yield pods.slice(2)
    },
    httpGet: async () => '',
    async servedTls({ name }, port) {
      ask(`handshake ${name}:${port}`)
      return { chain: served.get(name) ?? [], authorities: null }
    },
    close: async () => {},
  }
}

async function look(world: World, phase: number, at = now, ca: CassandraCa = 'server'): Promise<Evidence> {
  const of = ca === 'server' ? plan : clientPlan()
  const place = placeIn(of, phase)
  const seen = await observeCassandra({
    cluster: (world.through ?? (cluster => cluster))(clusterOf(world)),
    plan: of,
    site: 'eu-1',
    place,
    cassandra: { namespace: 'anton', name: 'example', ca },
    concurrency: 4,
  })
  return evidenceOf(seen, place, at)
}

function clientPlan(): Plan {
  return { ...plan, parties: ['node', 'client', 'prober', 'reaper'] }
}

/** Gates that do not hold: `pending: …`, without the prefix of their names. */
async function open(
  world: World,
  phase: number,
  at = now,
  ca: CassandraCa = 'server',
): Promise<Readonly<Record<string, string>>> {
  const of = ca === 'server' ? plan : clientPlan()
  const place = placeIn(of, phase)
  const evidence = await look(world, phase, at, ca)
  const said: Record<string, string> = {}
  for (const rule of cassandraRules(of, place)) {
    if (!rule.id.startsWith('cassandra/') || rule.id === 'cassandra/canary' || rule.id === 'cassandra/attested')
      continue
    const { verdict, because, hint } = rule.judge({ plan: of, place, evidence, now: new Date(at), attestations: [] })
    if (verdict !== 'holds')
      said[rule.id.replace('cassandra/', '')] = `${verdict}: ${because.join('; ')} ${hint ?? ''}`.trim()
  }
  return said
}

const first = 'Pod/example-cassandra-dc1-0'

describe('a look at one region', () => {
  it.each([0, 1, 2, 3])(
    'finds every gate of phase %i holding where two datacenters have rolled out to it',
    async phase => {
      expect(await open(rolledOut(phase), phase)).toEqual({})
      const { groups, complete, exceptions } = await look(rolledOut(phase), phase)
      expect(groups.map(({ owner, count }) => `${owner} ${count}`)).toEqual([
        'anton/StatefulSet/example-cassandra-dc1 3',
        'anton/StatefulSet/example-cassandra-dc2 3',
      ])
      expect([complete, exceptions]).toEqual([true, []])
    },
  )

  it('takes neither of two neighbouring phases for the other', async () => {
    for (const phase of [1, 2, 3]) {
      expect(Object.keys(await open(rolledOut(phase - 1), phase))).toContain('taken-up')
      expect(Object.keys(await open(rolledOut(phase), phase - 1))).toContain('taken-up')
    }
  })
})

describe('where a node is reached that listens on its own address alone', () => {
  it.each([
    ['on its pod’s', undefined, '10.1.0.7'],
    ['on its host’s, with hosts’ ports', { enabled: true }, '192.0.2.7'],
    [
      'nowhere else, where others know it by an external address',
      { enabled: true, useExternalHostIP: true },
      undefined,
    ],
  ] as const)('is %s', async (_, hostPort, expected) => {
    const world = rolledOut(1)
    edit(world, 'CassandraCluster/example', object => {
      object.spec.hostPort = hostPort
    })
    edit(world, first, object => {
      Object.assign(object.status, { podIP: '10.1.0.7', hostIP: '192.0.2.7' })
    })
    const asked: (string | undefined)[] = []
    await look(
      {
        ...world,
        through: cluster => ({
          ...cluster,
          async servedTls(pod, port, serverName) {
            if (`Pod/${pod.name}` === first) asked.push(pod.address)
            return await cluster.servedTls(pod, port, serverName)
          },
        }),
      },
      1,
    )
    expect(asked).toEqual([expected])
  })
})

/** Each with what is done to a region that has rolled out to `add`, and what the gates then say. */
const cases: readonly (readonly [
  name: string,
  change: (world: World) => void,
  expected: Readonly<Record<string, RegExp>>,
])[] = [
  [
    'the checksum annotation is not there: the operator has not taken up the data, and what nodes trust is not known',
    world => edit(world, `Secret/${secret.name}`, ({ metadata }) => delete metadata.annotations[annotation]),
    { 'taken-up': /^pending: .*checksum is absent/, 'roots-trusted': /^unknown: .*of no step/ },
  ],
  [
    'the checksum annotation is that of the phase before: nodes trust what they trusted',
    world =>
      edit(world, `Secret/${secret.name}`, ({ metadata }) => {
        metadata.annotations[annotation] = placeIn(plan, 0).tree.state.settings.checksum
      }),
    { 'taken-up': /^pending/, 'roots-trusted': /^pending: .*trusts [0-9a-f]{12}, expected [0-9a-f]{12}\+/ },
  ],
  [
    'datacenters differ in POD_RESTART_CHECKSUM',
    world =>
      edit(world, 'StatefulSet/example-cassandra-dc2', ({ spec }) => {
        spec.template.spec.containers[0].env[0].value = 'another'
      }),
    { rolled: /differ in POD_RESTART_CHECKSUM/, 'nodes-restarted': /-dc2-0: is not of the newest revision/ },
  ],
  [
    'a StatefulSet has no POD_RESTART_CHECKSUM',
    world =>
      edit(world, 'StatefulSet/example-cassandra-dc2', ({ spec }) => {
        spec.template.spec.containers[0].env = []
      }),
    { rolled: /no POD_RESTART_CHECKSUM/ },
  ],
  [
    'a pod was started with the POD_RESTART_CHECKSUM of before',
    world =>
      edit(world, first, ({ spec }) => {
        spec.containers[0].env[0].value = 'restart-0'
      }),
    { 'nodes-restarted': /^pending: node anton\/example-cassandra-dc1-0: is not of the newest revision/ },
  ],
  [
    'the StatefulSet’s generation is ahead of what its controller has observed (F23)',
    world =>
      edit(world, 'StatefulSet/example-cassandra-dc1', ({ metadata }) => {
        metadata.generation = 5
      }),
    { rolled: /dc1: its newest declaration is not observed yet/ },
  ],
  [
    'its current revision is behind the newest one (F23)',
    world =>
      edit(world, 'StatefulSet/example-cassandra-dc1', ({ status }) => {
        status.currentRevision = 'example-cassandra-dc1-r0'
      }),
    { rolled: /^pending: StatefulSet\/anton\/example-cassandra-dc1: 3 of 3/ },
  ],
  [
    'one replica of three is not updated: half a roll-out (F14)',
    world =>
      edit(world, 'StatefulSet/example-cassandra-dc1', ({ status }) => {
        status.updatedReplicas = 2
      }),
    { rolled: /dc1: 2 of 3 of the newest revision/ },
  ],
  [
    'a replica is not ready: evidence is needed of each (F21)',
    world =>
      edit(world, first, ({ status }) => {
        status.conditions[0].status = 'False'
      }),
    { 'nodes-restarted': /^pending: node anton\/example-cassandra-dc1-0: is not ready/, 'roots-trusted': /^pending/ },
  ],
  [
    'a pod hangs on its way out',
    world =>
      edit(world, first, ({ metadata }) => {
        metadata.deletionTimestamp = now
      }),
    { 'nodes-restarted': /-dc1-0: is going away/ },
  ],
  [
    'a pod was started before its certificate was made anew: its restart hung (F3)',
    world =>
      edit(world, first, ({ metadata }) => {
        metadata.creationTimestamp = delivered
      }),
    {
      'nodes-restarted': /-dc1-0: has not restarted since/,
      'roots-trusted': /^pending: 1 of 6 nodes have not come that far/,
    },
  ],
  [
    'a node restarted and kept an old keystore, as from a volume of its own: found by what it serves (F19)',
    world => world.served.set('example-cassandra-dc1-0', [leaves[0] ?? Buffer.alloc(0)]),
    {
      'nodes-restarted':
        /^pending: node anton\/example-cassandra-dc1-0: has restarted, but presents another certificate/,
      'roots-trusted': /^pending: 1 of 6 nodes have not come that far/,
    },
  ],
  [
    'all nodes restarted and kept an old keystore alike, as their kubelets saw no change: found by when it was made (F19, F24)',
    world => {
      for (const name of world.served.keys()) world.served.set(name, [replaced])
    },
    {
      'nodes-restarted': /^pending: .*presents a certificate that the operator has replaced since/,
      'roots-trusted': /^pending: 6 of 6 nodes have not come that far/,
    },
  ],
  [
    'the list of pods has one node less than was declared',
    world => world.objects.delete(first),
    { 'consumers-seen': /^pending: node datacenter dc1: 2 of 3 nodes/ },
  ],
  [
    'a datacenter has no StatefulSet',
    world => world.objects.delete('StatefulSet/example-cassandra-dc2'),
    { rolled: /StatefulSet\/anton\/example-cassandra-dc2 does not exist/ },
  ],
  [
    'status.ready is absent, which is how the operator says false',
    world =>
      edit(world, 'CassandraCluster/example', object => {
        object.status = {}
      }),
    { cluster: /^pending: .*status.ready is not true/ },
  ],
  [
    'nodes are held down for maintenance',
    world =>
      edit(world, 'CassandraCluster/example', ({ spec }) => {
        spec.maintenance = [{ dc: 'dc1', pods: ['example-cassandra-dc1-0'] }]
      }),
    { cluster: /^pending: .*maintenance: dc1/ },
  ],
  [
    'someone else owns the key that drop takes away',
    world =>
      edit(world, `Secret/${secret.name}`, ({ metadata }) => {
        const fieldsV1 = { 'f:data': { 'f:ca2.crt': {} } }
        metadata.managedFields.push({ manager: 'kubectl-edit', operation: 'Update', time: delivered, fieldsV1 })
      }),
    { secret: /^violated: .*key ca2.crt is also owned by kubectl-edit, kustomize-controller/ },
  ],
  [
    'somebody put a key into the Secret that no step plans, with the command that takes it out',
    world =>
      edit(world, `Secret/${secret.name}`, ({ metadata }) => {
        const fieldsV1 = { 'f:data': { 'f:ca3.crt': {} } }
        metadata.managedFields.push({ manager: 'someone', operation: 'Update', time: delivered, fieldsV1 })
      }),
    { secret: /^violated: .*key ca3.crt is not planned \(owned by someone\).*"path":"\/data\/ca3.crt"/ },
  ],
  [
    'the deliverer has not yet taken away a key of the step before, which nobody else holds',
    world =>
      edit(world, `Secret/${secret.name}`, ({ metadata }) => {
        metadata.managedFields[0].fieldsV1['f:data']['f:ca3.crt'] = {}
      }),
    { secret: /^pending: .*key ca3.crt is still there \(owned by kustomize-controller\)/ },
  ],
  [
    'the planned key is not in the Secret yet',
    world =>
      edit(world, `Secret/${secret.name}`, ({ metadata }) => {
        delete metadata.managedFields[0].fieldsV1['f:data']['f:ca2.crt']
      }),
    { secret: /^pending: .*key ca2.crt is missing/ },
  ],
  [
    'the Secret is gone: the operator makes a CA up (F17)',
    world => world.objects.delete(`Secret/${secret.name}`),
    { secret: /^violated: .*does not exist/, 'taken-up': /^pending/ },
  ],
  [
    'the Sealed Secrets controller only ever adds keys to it',
    world =>
      edit(world, `Secret/${secret.name}`, ({ metadata }) => {
        metadata.annotations['sealedsecrets.bitnami.com/patch'] = 'true'
      }),
    { secret: /^violated: .*only adds keys/ },
  ],
  [
    'the CassandraCluster names another Secret, or is gone',
    world =>
      edit(world, 'CassandraCluster/example', ({ spec }) => {
        spec.encryption.server.caTLSSecret.name = 'another'
      }),
    { cluster: /^violated: .*caTLSSecret is another/ },
  ],
  [
    'the Secret shows no managedFields: which keys it has is not known',
    world => edit(world, `Secret/${secret.name}`, ({ metadata }) => delete metadata.managedFields),
    { secret: /^unknown: .*no managedFields/ },
  ],
  [
    'another pod mounts the nodes’ Secret (F20)',
    world =>
      world.objects.set(
        'Pod/backup',
        pod(
          'backup',
          {},
          { kind: 'Job', name: 'backup', controller: true },
          {
            volumes: [{ secret: { secretName: 'example-cluster-tls-node' } }],
          },
        ),
      ),
    { 'strangers-declared': /^violated: client anton\/backup/ },
  ],
]

describe('a step stays shut where', () => {
  it.each(cases)('%s', async (_, change, expected) => {
    const world = rolledOut(1)
    change(world)
    const said = await open(world, 1)
    for (const [gate, pattern] of Object.entries(expected)) expect(said[gate] ?? 'holds').toMatch(pattern)
  })

  it('nodes were seen to present the old CA’s certificates after the swap, and which ones', async () => {
    const world = rolledOut(2)
    world.served.set('example-cassandra-dc2-1', [leaves[1] ?? Buffer.alloc(0)])
    expect((await open(world, 2))['leaves-presented']).toMatch(
      /^pending: node anton\/example-cassandra-dc2-1: presents a leaf of [0-9a-f]{12}, expected/,
    )
  })

  it('something changed less than 90 seconds ago, with the time from which it may open; not a second longer (F24)', async () => {
    const world = rolledOut(1)
    expect((await open(world, 1, '2026-11-22T11:04:29Z')).stable).toBe(
      `pending: last change at ${ready}, stable from 2026-11-22T11:04:30Z`,
    )
    expect((await open(world, 1, '2026-11-22T11:04:30Z')).stable).toBeUndefined()
  })

  it.each([
    ['the CassandraCluster', /^get CassandraCluster/],
    ['the CA Secret', /^get Secret example-cluster-manual-tls-ca/],
    ['the nodes’ Secret', /^get Secret example-cluster-tls-node/],
    ['one StatefulSet of two', /^get StatefulSet example-cassandra-dc2/],
    ['the list of pods', /^list pods/],
    ['the rest of the list of pods', /^list more pods/],
    ['the port of one node', /^handshake example-cassandra-dc2-2:7001/],
    ['everything', /./],
  ] as const)('%s cannot be read, for whatever reason: unknown is never holding (F27)', async (_, asked) => {
    for (const failure of ['unreachable', 'forbidden', 'timeout'] as const) {
      const world = rolledOut(1)
      world.failing.push({ asked, failure })
      const said = await open(world, 1)
      expect(said['consumers-seen']).toMatch(/^unknown/)
    }
  })

  it('port-forwards are not granted: what nodes serve is said to be unseen, by the name of each', async () => {
    const world = rolledOut(1)
    world.failing.push({ asked: /^handshake/, failure: 'forbidden' })
    const said = await open(world, 1)
    expect(said['leaves-presented']).toMatch(/^unknown: /)
    expect(said['consumers-seen']?.match(/node anton\/example-cassandra-dc[12]-[012]: forbidden/g)).toHaveLength(6)
    expect(said['nodes-restarted']).toBeUndefined()
  })
})

describe('the client CA', () => {
  const helper = (component: string, born: string): KubernetesObject => {
    const found = pod(`example-cassandra-${component}-5d4f-x`, ours(component), replicaSet(component), {})
    return { ...found, metadata: { ...found.metadata, creationTimestamp: born } }
  }
  const replicaSet = (component: string) => ({
    kind: 'ReplicaSet',
    name: `example-cassandra-${component}-5d4f9`,
    controller: true,
  })

  it('is seen on port 9042, and prober and reaper must have started after the nodes’ Secret: the operator never restarts them', async () => {
    const world = rolledOut(1)
    world.failing.push({ asked: /:7001$/, failure: 'unreachable' })
    for (const component of ['prober', 'reaper']) world.objects.set(`Pod/${component}`, helper(component, delivered))
    const said = await open(world, 1, now, 'client')
    expect(Object.keys(said)).toEqual(['helpers-restarted'])
    expect(said['helpers-restarted']).toMatch(/^pending: prober anton\/.*has not restarted.*reaper anton\/.*has not/)
    const rule = cassandraRules(clientPlan(), placeIn(clientPlan(), 1)).find(({ id }) =>
      id.endsWith('helpers-restarted'),
    )
    const evidence = await look(world, 1, now, 'client')
    const judged = rule?.judge({
      plan: clientPlan(),
      place: placeIn(clientPlan(), 1),
      evidence,
      now: new Date(now),
      attestations: [],
    })
    expect(judged?.hint).toContain('kubectl --namespace anton rollout restart deployment example-cassandra-prober')
    for (const component of ['prober', 'reaper']) world.objects.set(`Pod/${component}`, helper(component, started))
    expect(await open(world, 1, now, 'client')).toEqual({})
  })

  it('asks no restart of prober and reaper for what is adopted, as nothing changes by it (F5)', async () => {
    const world = rolledOut(0)
    for (const component of ['prober', 'reaper']) world.objects.set(`Pod/${component}`, helper(component, delivered))
    expect(await open(world, 0, now, 'client')).toEqual({})
  })
})

describe('a damaged answer', () => {
  it('is never a crash, and never makes a region of one that one node has not reached (F19, F27)', async () => {
    const world = rolledOut(2)
    world.served.set('example-cassandra-dc1-0', [leaves[1] ?? Buffer.alloc(0)])
    await fc.assert(
      fc.asyncProperty(lies, async lie => {
        world.through = cluster => lying(cluster, lie)
        expect(Object.keys(await open(world, 2))).not.toEqual([])
        for (const { detail } of (await look(world, 2)).exceptions) expect(detail).not.toMatch(crash)
      }),
      { numRuns: runs },
    )
  })
})
