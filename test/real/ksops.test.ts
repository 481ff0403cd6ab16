/**
 * The generator that a site's folder has under Argo CD, built by the real repo-server with KSOPS, which no registry of Go modules has: by hand, where REANCHOR_KSOPS names the program.
 */
import { randomBytes } from 'node:crypto'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createSopsCustody } from '../../src/custody/sops.ts'
import { renderFolder } from '../../src/render/folder.ts'
import { type ArgoCd, startArgoCd } from './rig/argocd.ts'
import { type ControlPlane, startControlPlane } from './rig/control-plane.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { secretData } from './rig/objects.ts'
import { argoApplication, type FleetRepository, makeRepository } from './rig/repository.ts'

const ksops = process.env.REANCHOR_KSOPS ?? ''
const namespace = 'cassandra'
const path = 'trust/eu-1'
const place = { apiVersion: 'v1', kind: 'Secret', namespace, name: 'example-ca' } as const

/** A site's folder with a CA Secret and a ConfigMap, sealed to this recipient. */
async function folderOf(recipient: string, key: string, map: string): Promise<Record<string, string>> {
  const custody = createSopsCustody({ recipients: [recipient], now: new Date(), random: randomBytes })
  const { apiVersion, kind, name } = place
  const authority = { apiVersion, kind, metadata: { name, namespace }, type: 'Opaque' }
  const seen = { apiVersion, kind: 'ConfigMap', metadata: { name: 'seen', namespace }, data: { seen: map } }
  const files = await renderFolder({
    header: {
      ...{ rotation: 'first', phase: 0, phaseName: 'adopt', step: 1, stepName: 'adopt' },
      ...{ variant: 'step', site: 'eu-1' },
    },
    objects: [
      {
        manifest: { ...authority, data: secretData({ 'ca.crt': 'public', 'ca.key': key }) },
        file: { path: 'ca.yaml', privateKeys: ['ca.key'] },
      },
      { manifest: seen, file: { path: 'seen.yaml', privateKeys: [] } },
    ],
    others: new Map(),
    places: [],
    custody,
    path,
    delivery: 'argocd',
  })
  return Object.fromEntries([...files].map(([file, text]) => [`${path}/${file}`, text]))
}

describe('a folder that KSOPS opens', () => {
  let network: Network
  let plane: ControlPlane
  let argo: ArgoCd
  let fleet: FleetRepository

  beforeAll(async () => {
    network = await createNetwork()
    plane = await startControlPlane({ name: 'eu-1', network, fakeNodes: 1 })
    fleet = await makeRepository(() => ({ 'README.md': '# Fleet\n' }))
    argo = await startArgoCd(plane, { ksops: { program: ksops, identity: fleet.identity } })
  })

  afterAll(async () => {
    await argo?.stop()
    await plane?.stop()
    await fleet?.close()
    await network?.close()
  })

  it('reaches the cluster in the clear, with what lies beside it', async () => {
    const commit = await fleet.commit(await folderOf(fleet.recipient, 'the key', 'one'), 'Adopt')
    await plane.objects.applyYaml(argoApplication('trust', fleet.url, path, namespace, {}))
    await argo.settled(
      'trust',
      ({ sync, health, revisions }) => sync === 'Synced' && health === 'Healthy' && revisions.includes(commit),
      `is at ${commit}`,
    )
    expect((await plane.objects.get(place))?.data).toEqual(secretData({ 'ca.crt': 'public', 'ca.key': 'the key' }))
    expect(await seen()).toBe('one')
  })

  it('changes nothing at all where it cannot be opened', async () => {
    const before = await plane.objects.get(place)
    const other = await identityToRecipient(await generateX25519Identity())
    await fleet.commit(await folderOf(other, 'another key', 'two'), 'Sealed to somebody else')
    const { object } = await argo.settled('trust', ({ sync }) => sync === 'Unknown', 'cannot be built')
    const { conditions = [] } = object.status as {
      readonly conditions?: readonly { readonly type: string; readonly message: string }[]
    }
    expect(conditions.find(({ type }) => type === 'ComparisonError')?.message).toMatch(/decrypt/)
    expect(await plane.objects.get(place)).toEqual(before)
    expect(await seen()).toBe('one')
  })

  async function seen(): Promise<string | undefined> {
    const found = await plane.objects.get({ apiVersion: 'v1', kind: 'ConfigMap', namespace, name: 'seen' })
    return (found?.data as Readonly<Record<string, string>> | undefined)?.seen
  }
})
