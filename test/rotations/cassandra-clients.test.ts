import { randomBytes, X509Certificate } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { attest } from '../../src/commands/attest.ts'
import { findDeclaration } from '../../src/commands/declared.ts'
import { advanceUntil, makeWorld, planAndMerge, recordMerge, type World } from '../../src/commands/demo.ts'
import { rehearse } from '../../src/commands/rehearse.ts'
import { demoCluster, outsidersOf } from '../../src/rehearsal/cassandra/fleet.ts'
import { cassandraRehearsal } from '../../src/rehearsal/cassandra/system.ts'
import { textsAt } from '../../src/rehearsal/objects.ts'
import { commitWord, waiting } from './cassandra-words.ts'
import { abandonBefore, isClosed } from './drive.ts'

const folders: string[] = []
let world: World | null = null

afterEach(async () => {
  await world?.rehearsal.close()
  world?.repository.close()
  world = null
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

/** The demo's cluster with TLS for clients, its client CA about to be rotated. */
async function clientWorld(seed: string): Promise<World> {
  const folder = mkdtempSync(join(tmpdir(), 'reanchor-cql-'))
  folders.push(folder)
  const { demo } = cassandraRehearsal
  const options = (ageRecipient: string) => ({
    sites: ['eu-1'],
    ageRecipient,
    sealingCertificate: '',
    variant: 'client-ca',
  })
  world = await makeWorld(
    {
      dir: folder,
      fault: null,
      seed,
      random: size => randomBytes(size),
      say: () => {},
      system: cassandraRehearsal,
      variant: 'client-ca',
      rotation: demo.rotation,
      siteNames: ['eu-1'],
      fleet: recipient => demo.fleet(options(recipient)),
      declare: (files, recipient, now) =>
        demo.declare(files, { ...options(recipient), rotation: demo.rotation, paths: { 'eu-1': 'trust/eu-1' }, now }),
      sharedRoot: false,
    },
    folder,
  )
  return world
}

function clientSecret({ rehearsal }: World): Readonly<Record<string, string>> {
  const secret = rehearsal.sites.get('eu-1')?.store.get('', 'Secret', demoCluster.namespace, demoCluster.clientSecret)
  return Object.fromEntries(
    Object.entries(textsAt(secret ?? null, 'data')).map(([key, value]) => [
      key,
      Buffer.from(value, 'base64').toString(),
    ]),
  )
}

describe('the client CA of a Cassandra cluster', () => {
  it('rotates with CQL clients, prober and reaper and no failed handshake; add and swap wait for a word about that very bundle (F20)', async () => {
    const here = await clientWorld('clients')
    const { rehearsal } = here
    const old = clientSecret(here)
    await planAndMerge(here)
    const add = await advanceUntil(here, place => place.name === 'add')
    if (add === null) throw new Error('add was not reached')
    // Nor can it be given for what has not begun: it would open a gate that nobody has looked behind.
    for (const phase of [1, 2])
      await expect(
        attest(here.context, {
          rotation: here.rotation,
          base: null,
          name: outsidersOf['client-ca'].attested,
          phase,
          by: 'someone',
        }),
      ).rejects.toThrow(`phase ${phase} (${phase === 1 ? 'add' : 'swap'}) has not begun at any site`)
    // A word for another bundle is no word for this one.
    await commitWord(here, { name: outsidersOf['client-ca'].attested, phase: 1, bundle: '0'.repeat(64) })
    await recordMerge(here, add)
    await rehearsal.run(15 * 60_000)
    const held = await waiting(here)
    expect(Object.keys(held).sort()).toEqual(['cassandra/attested', 'cassandra/helpers-restarted'])
    expect(held['cassandra/attested']).toContain(`${outsidersOf['client-ca'].attested}: no word yet for bundle`)
    expect(held['cassandra/helpers-restarted']).toContain(
      'kubectl --namespace cassandra rollout restart deployment example-cassandra-prober',
    )
    expect(held['cassandra/helpers-restarted']).toContain('deployment example-cassandra-eu-1-reaper')

    await advanceUntil(here, () => false)
    expect(rehearsal.handshakes.counts).toMatchObject({ failed: 0, foretold: 0 })
    expect(rehearsal.handshakes.counts.attempted).toBeGreaterThan(200)
    expect(await isClosed(here)).toBe(true)
    const last = clientSecret(here)
    expect(Object.keys(last)).toEqual(['ca.crt', 'ca.key'])
    expect(last['ca.crt']).not.toBe(old['ca.crt'])
    expect(new X509Certificate(last['ca.crt'] ?? '').subject).toBe('O=example-db-2026')
    // Three restarts of nodes, prober and reaper each, and none of anybody else (F5).
    expect(rehearsal.restarts().map(({ consumer, count }) => `${consumer} ${count}`)).toEqual([
      'cassandra/Deployment/example-cassandra-eu-1-reaper 3',
      'cassandra/Deployment/example-cassandra-prober 3',
      'cassandra/StatefulSet/example-cassandra-eu-1 3',
    ])
    // The CA between nodes is another one, and was not touched.
    const between = rehearsal.sites.get('eu-1')?.store.get('', 'Secret', demoCluster.namespace, demoCluster.secret)
    expect(Object.keys(textsAt(between ?? null, 'data'))).toEqual(['ca.crt', 'ca.key'])
    expect(new X509Certificate(Buffer.from(textsAt(between ?? null, 'data')['ca.crt'] ?? '', 'base64')).subject).toBe(
      'O=ca',
    )
  }, 300_000)

  it('is abandoned from swap, but not before clients who were told to present the new CA take certificates of the old one again (F26)', async () => {
    const here = await clientWorld('clients-back')
    const before = clientSecret(here)
    await planAndMerge(here)
    await abandonBefore(here, 'drop')
    expect(here.rehearsal.handshakes.counts.failed).toBe(0)
    expect(await isClosed(here)).toBe(true)
    expect(clientSecret(here)).toEqual(before)
  }, 300_000)

  it('can be rehearsed as declared: people and their words are acted out', async () => {
    const here = await clientWorld('clients-rehearse')
    const declared = await findDeclaration(here.context, { rotation: here.rotation, base: null })
    const outcome = await rehearse(here.context, declared, {
      seed: '1',
      random: size => randomBytes(size),
      say: () => {},
    })
    expect(outcome.exit).toBe(0)
    expect(outcome.result.handshakes).toMatchObject({ failed: 0 })
  }, 300_000)
})
