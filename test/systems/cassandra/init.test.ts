import { describe, expect, it } from 'vitest'
import { type InitFlags, type InitResult, runInit } from '../../../src/declaration/init.ts'
import { readDeclaration } from '../../../src/declaration/read.ts'
import { ReanchorError } from '../../../src/errors.ts'
import { cassandraFleet } from '../../../src/rehearsal/cassandra/fleet.ts'
import type { FileTree } from '../../../src/rotation.ts'
import { cassandraOf } from '../../../src/systems/cassandra/settings.ts'

const recipient = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p'
const sites = ['eu-1', 'us-1']

async function init(files: FileTree, flags: InitFlags = {}, names = sites): Promise<InitResult> {
  return await runInit({
    system: 'cassandra',
    files,
    flags: {
      site: names,
      context: names.map(name => `${name}=${name}`),
      delivery: names.map(name => `${name}=flux:flux-system/trust`),
      age: [recipient],
      forge: 'local',
      ...flags,
    },
    existing: () => null,
    now: new Date('2026-11-22T08:00:00Z'),
    ask: null,
  })
}

function fleet(change: (path: string, text: string) => string = (_, text) => text, names = sites): FileTree {
  const files = cassandraFleet({ sites: names, ageRecipient: recipient, scenario: 'client-ca' })
  return new Map([...files].map(([path, text]) => [path, change(path, text)]))
}

describe('init cassandra', () => {
  it('finds the cluster of each region, names the rotation, and goes region by region', async () => {
    const { path, text, remarks } = await init(fleet())
    expect(path).toBe('rotations/db-2026/rotation.yaml')
    const declaration = await readDeclaration(text, path)
    expect(cassandraOf(declaration)).toEqual({
      cluster: 'example',
      namespace: 'cassandra',
      namespaces: {},
      ca: 'server',
    })
    expect(declaration.rollout).toEqual({ kind: 'serial' })
    expect(text).toContain('Clients connect by TLS too: their CA is a rotation of its own, after this one.')
    expect(remarks.join('\n')).not.toMatch(/gates.attest|regions with an operator/)
  })

  it('proposes the client CA where nodes do not encrypt, or bring certificates of their own, and asks for who speaks for CQL clients', async () => {
    for (const off of ['internodeEncryption: none', 'internodeEncryption: all\n      nodeTLSSecret: {name: own}']) {
      const { path, text, remarks } = await init(fleet((_, each) => each.replace('internodeEncryption: all', off)))
      expect(cassandraOf(await readDeclaration(text, path)).ca).toBe('client')
      expect(remarks).toContain('declare your CQL clients under gates.attest: no API shows what they trust')
    }
  })

  it('says at once which regions a rotation would leave out, and for which a person must speak', async () => {
    const three = fleet((_, text) => text, ['eu-1', 'us-1', 'ap-1'])
    expect((await init(three)).remarks).toContain(
      'eu-1: its CassandraCluster has 3 regions with an operator, and 2 are declared: `plan` takes all of them or none',
    )
    const unmanaged = fleet((_, text) =>
      text.replace('    managed:', '    unmanaged: [{seeds: [10.0.0.1]}]\n    managed:'),
    )
    expect((await init(unmanaged)).remarks.filter(remark => remark.includes('unmanaged regions'))).toHaveLength(2)
  })

  it('takes a region in another namespace, and remarks on one of another name', async () => {
    const moved = fleet((path, text) =>
      path.startsWith('databases/us-1') ? text.replace('namespace: cassandra', 'namespace: db') : text,
    )
    const { path, text } = await init(moved)
    expect(cassandraOf(await readDeclaration(text, path)).namespaces).toEqual({ 'us-1': 'db' })
    const renamed = fleet((file, each) =>
      file.startsWith('databases/us-1') ? each.replace('name: example\n', 'name: other\n') : each,
    )
    expect((await init(renamed)).remarks.join('\n')).toContain('regions of one cluster have one name')
  })

  it('asks which one where a file has two clusters, and takes the answer as a flag', async () => {
    const two = fleet((path, text) =>
      path.endsWith('/cassandra.yaml') ? `${text}---\n${text.replace('name: example\n', 'name: metrics\n')}` : text,
    )
    const error = await init(two).catch((cause: unknown) => cause)
    if (!(error instanceof ReanchorError)) throw new Error('not refused')
    expect(error.exit).toBe(2)
    expect(error.message).toContain('--control-plane eu-1=')
    expect(error.message).toContain('databases/eu-1/cassandra.yaml#metrics')
    const controlPlane = sites.map(site => `${site}=databases/${site}/cassandra.yaml#metrics`)
    const { path, text } = await init(two, { controlPlane })
    expect(cassandraOf(await readDeclaration(text, path)).cluster).toBe('metrics')
  })
})

describe('spec.cassandra', () => {
  const file = 'rotations/db-2026/rotation.yaml'

  async function refusal(cassandra: string): Promise<string> {
    const text = `apiVersion: reanchor.dev/v1alpha1
kind: TrustRotation
metadata: {name: db-2026}
spec:
  system: cassandra
  forge: local
  custody: {sops: {age: [${recipient}]}}
  sites:
    - {name: eu-1, path: trust/eu-1, delivery: {flux: {kustomization: flux-system/trust}}}
  cassandra: ${cassandra}
`
    const error = await readDeclaration(text, file).catch((cause: unknown) => cause)
    return error instanceof Error ? error.message : 'taken'
  }

  it.each([
    ['{cluster: Example_1, namespace: cassandra}', /cluster/, /example/],
    ['{cluster: example, namespace: cassandra, ca: both}', /server/, /both/],
    ['{cluster: example}', /namespace/, /cassandra/],
    ['{cluster: example, namespace: cassandra, namespaces: {us-1: db}}', /us-1/, /eu-1/],
    ['{cluster: example, namespace: cassandra, secret: x}', /secret/, /namespaces/],
  ])('%s is refused with file, line, what was expected and found', async (cassandra, ...patterns) => {
    const message = await refusal(cassandra)
    expect(message).toContain(`${file}:10`)
    for (const pattern of patterns) expect(message).toMatch(pattern)
  })

  it('is taken as it should be', async () => {
    expect(await refusal('{cluster: example, namespace: cassandra, ca: server}')).toBe('taken')
  })
})
