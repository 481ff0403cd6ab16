import { X509Certificate } from 'node:crypto'
import { afterEach, describe, expect, it } from 'vitest'
import { advanceUntil, merge, planAndMerge, recordMerge, rotate } from '../../src/commands/demo.ts'
import { plan } from '../../src/commands/plan.ts'
import { scriptCa } from '../../src/rehearsal/cassandra/certificates.ts'
import { operatorChecksum } from '../../src/systems/cassandra/checksum.ts'
import { type CassandraTestWorld, cassandraWorld } from '../rehearsal/cassandra/world.ts'
import { abandonBefore, closeRequest, goOn, isClosed, openStep, undoBefore } from './drive.ts'

let test: CassandraTestWorld | null = null

afterEach(async () => {
  await test?.close()
  test = null
})

describe('a whole rotation of Cassandra', () => {
  it('goes from init to the closed rotation in two regions by the runbook’s twelve steps, without a failed handshake', async () => {
    test = await cassandraWorld({ sites: ['eu-1', 'us-1'] })
    const { world, secret, pods } = test
    const old = secret('eu-1')
    expect(secret('us-1')).toEqual(old)
    await planAndMerge(world)
    /** Each step of ours with what the Secrets of both regions hold, and which nodes have restarted, when the next one opens. */
    const steps: string[] = []
    let born = new Map<string, readonly string[]>()
    const look = () => new Map(['eu-1', 'us-1'].map(site => [site, pods(site).map(pod => pod.metadata.uid)]))
    const held = (site: string) => {
      const keys = Object.entries(secret(site)).map(([key, text]) => {
        const which = text === old['ca.crt'] || text === old['ca.key'] ? 1 : 2
        return `${key}=${which}`
      })
      return keys.sort().join(' ')
    }
    let request = await advanceUntil(world, () => true)
    for (let round = 0; request !== null && round < 12; round += 1) {
      const title = request.title.replace(/^first: /, '')
      born = look()
      await recordMerge(world, request)
      request = await advanceUntil(world, () => true)
      const now = look()
      const restarted = ['eu-1', 'us-1'].filter(site => born.get(site)?.every(uid => !now.get(site)?.includes(uid)))
      steps.push(`${title} | ${held('eu-1')} | ${held('us-1')} | restarted: ${restarted.join(', ') || 'none'}`)
      if (title.startsWith('close')) break
    }
    expect(steps).toEqual([
      'adopt (phase 0 of 3) · eu-1 | ca.crt=1 ca.key=1 | ca.crt=1 ca.key=1 | restarted: none',
      'adopt (phase 0 of 3) · us-1 | ca.crt=1 ca.key=1 | ca.crt=1 ca.key=1 | restarted: none',
      // 2, 3: add ca2.crt in region 1, wait until all pods of region 1 are restarted.
      'add the new CA (phase 1 of 3) · eu-1 | ca.crt=1 ca.key=1 ca2.crt=2 | ca.crt=1 ca.key=1 | restarted: eu-1',
      // 4, 5: the same in region 2.
      'add the new CA (phase 1 of 3) · us-1 | ca.crt=1 ca.key=1 ca2.crt=2 | ca.crt=1 ca.key=1 ca2.crt=2 | restarted: us-1',
      // 6, 7: the new pair as main entries, the previous CA as ca2.crt, in region 1; wait.
      'sign with the new CA (phase 2 of 3) · eu-1 | ca.crt=2 ca.key=2 ca2.crt=1 | ca.crt=1 ca.key=1 ca2.crt=2 | restarted: eu-1',
      // 8, 9: the same in region 2.
      'sign with the new CA (phase 2 of 3) · us-1 | ca.crt=2 ca.key=2 ca2.crt=1 | ca.crt=2 ca.key=2 ca2.crt=1 | restarted: us-1',
      // 10, 11: remove ca2.crt in region 1; wait.
      'drop the old CA (phase 3 of 3) · eu-1 | ca.crt=2 ca.key=2 | ca.crt=2 ca.key=2 ca2.crt=1 | restarted: eu-1',
      // 12, 13: the same in region 2.
      'drop the old CA (phase 3 of 3) · us-1 | ca.crt=2 ca.key=2 | ca.crt=2 ca.key=2 | restarted: us-1',
      'close the rotation · eu-1, us-1 | ca.crt=2 ca.key=2 | ca.crt=2 ca.key=2 | restarted: none',
    ])
    const { counts } = world.rehearsal.handshakes
    expect(counts.failed).toBe(0)
    expect(counts.attempted).toBeGreaterThan(200)
    expect(await isClosed(world)).toBe(true)

    // One pair of keys for all regions, the operator's annotations still there, and each set restarted three times.
    expect(secret('us-1')).toEqual(secret('eu-1'))
    expect(new X509Certificate(secret('eu-1')['ca.crt'] ?? '').subject).toBe('O=example-first')
    expect(secret('eu-1')['ca.key']).toMatch(/^-----BEGIN RSA PRIVATE KEY-----\n/)
    for (const site of ['eu-1', 'us-1']) {
      expect(test.annotations(site)['cassandra-cluster-checksum']).toBe(operatorChecksum(secret(site)))
      expect(test.annotations(site)['cassandra-cluster-instance']).toBe('example')
    }
    const restarts = world.rehearsal.restarts().filter(({ consumer }) => consumer.includes('StatefulSet'))
    expect(restarts.map(({ site, count }) => `${site} ${count}`)).toEqual(['eu-1 3', 'us-1 3'])

    // And nothing of the operator's in Git, nor any key in the clear (F29).
    const snapshot = world.repository.snapshot(await world.repository.head('main'))
    const files = await snapshot.readMany([...(await snapshot.list()).keys()])
    for (const text of files.values()) {
      expect(text).not.toContain('cassandra-cluster-checksum')
      expect(text).not.toContain('PRIVATE KEY')
      expect(text).not.toContain('stringData')
    }
  }, 900_000)
})

describe('rotations in a row (F4, F22)', () => {
  it('go from A to B to C: the second takes the first one’s final folder as its phase 0, and no node restarts for it', async () => {
    test = await cassandraWorld({ seed: 'row' })
    const { world, secret } = test
    await rotate(world)
    const first = secret('eu-1')
    const second = await test.declare('second')
    const made = await planAndMerge(second)
    expect(made.follows).toBe('first')
    await goOn(second)
    const { counts } = world.rehearsal.handshakes
    expect(counts.failed).toBe(0)
    const last = secret('eu-1')
    expect(Object.keys(last)).toEqual(['ca.crt', 'ca.key'])
    expect(last['ca.crt']).not.toBe(first['ca.crt'])
    expect(new X509Certificate(last['ca.crt'] ?? '').subject).toBe('O=example-second')
    const restarts = world.rehearsal.restarts().filter(({ consumer }) => consumer.includes('StatefulSet'))
    expect(restarts.map(({ count }) => count)).toEqual([6])
  }, 900_000)

  it('refuse a second CA with the Subject of the first, before anything is sealed (F9)', async () => {
    test = await cassandraWorld({ seed: 'twin' })
    const { world } = test
    await rotate(world)
    const second = await test.declare('second', declaration => ({
      ...declaration,
      next: { ...declaration.next, subject: 'O=EXAMPLE-first' } as typeof declaration.next,
    }))
    await expect(planAndMerge(second)).rejects.toMatchObject({ exit: 5, what: expect.stringContaining('Subject') })
    const refs = await world.repository.branches('reanchor/second/')
    expect(refs.size).toBe(0)
  }, 900_000)
})

describe('ways back', () => {
  it('lead from swap to add and forward again, without a failed handshake', async () => {
    test = await cassandraWorld({ seed: 'back' })
    const { world, secret } = test
    await planAndMerge(world)
    const old = secret('eu-1')['ca.crt']
    await undoBefore(world, 'drop')
    await world.rehearsal.run(10 * 60_000)
    expect(secret('eu-1')['ca.crt']).toBe(old)
    expect(Object.keys(secret('eu-1'))).toEqual(['ca.crt', 'ca.key', 'ca2.crt'])
    await advanceUntil(world, () => false)
    expect(await isClosed(world)).toBe(true)
    expect(world.rehearsal.handshakes.counts.failed).toBe(0)
  }, 900_000)

  it('lead from add to what was adopted, by which the rotation is abandoned: the Secret is as it was', async () => {
    test = await cassandraWorld({ seed: 'abandon' })
    const { world, secret } = test
    const before = secret('eu-1')
    await planAndMerge(world)
    await abandonBefore(world, 'swap')
    expect(await isClosed(world)).toBe(true)
    expect(secret('eu-1')).toEqual(before)
    expect(world.rehearsal.handshakes.counts.failed).toBe(0)
  }, 900_000)
})

describe('plan, asked again', () => {
  it('changes nothing where nothing changed, and renders what lies ahead again where the gates did', async () => {
    test = await cassandraWorld({ seed: 'again' })
    const { world } = test
    const options = { rotation: 'first', base: null, rootKeyOut: null, chain: null, acceptOutage: false }
    const made = await planAndMerge(world)
    expect((await plan(world.context, options)).kind).toBe('unchanged')
    const open = await openStep(world, 'swap')
    // The live Secret has a second CA by now; the plan is still about the first.
    expect((await plan(world.context, options)).kind).toBe('unchanged')
    await closeRequest(world, open)
    await test.declare('first', declaration => ({ ...declaration, gates: { ...declaration.gates, hold: 180_000 } }))
    const again = await plan(world.context, options)
    expect(again.kind).toBe('planned')
    const states = (of: typeof made) => of.phases.map(phase => phase.steps[0]?.sites['eu-1']?.state)
    expect(states(again.plan)).toEqual(states(made))
    if (again.pullRequest === null) throw new Error('no pull request')
    await merge(world, again.pullRequest)
    await advanceUntil(world, () => false)
    expect(await isClosed(world)).toBe(true)
    expect(world.rehearsal.handshakes.counts.failed).toBe(0)
  }, 600_000)
})

describe('what people do wrong', () => {
  it('fails handshakes in the rehearsal where the new CA comes in one change, as between regions: the rehearsal can tell', async () => {
    test = await cassandraWorld({ sites: ['eu-1', 'us-1'], seed: 'one-step' })
    const { world } = test
    const made = await scriptCa('other', {
      notBefore: new Date(Date.now() - 48 * 3_600_000),
      notAfter: new Date(Date.now() + 1000 * 3_600_000),
    })
    const eu = world.rehearsal.sites.get('eu-1')
    const secret = eu?.store.get('', 'Secret', 'cassandra', 'example-cluster-manual-tls-ca')
    if (eu === undefined || secret === undefined || secret === null) throw new Error('no Secret')
    eu.store.update(secret, 'kubectl-edit', changed => {
      changed.data = {
        'ca.crt': Buffer.from(made.certificate).toString('base64'),
        'ca.key': Buffer.from(made.key).toString('base64'),
      }
    })
    await world.rehearsal.run(15 * 60_000)
    expect(world.rehearsal.handshakes.counts.failed).toBeGreaterThan(0)
    const [failure] = world.rehearsal.handshakes.failures
    expect(failure?.error).toMatch(/self.signed|unable|verify/i)
  }, 600_000)

  it('is refused at plan where another file of the repository delivers the CA Secret', async () => {
    test = await cassandraWorld({
      seed: 'in-git',
      fleet: fleet =>
        new Map([
          ...fleet,
          [
            'databases/eu-1/ca.yaml',
            'apiVersion: v1\nkind: Secret\nmetadata:\n  name: example-cluster-manual-tls-ca\n  namespace: cassandra\n',
          ],
        ]),
    })
    await expect(planAndMerge(test.world)).rejects.toMatchObject({
      exit: 5,
      what: 'the CA Secret is delivered from another file of this repository',
    })
  }, 600_000)

  it('is refused at plan where a region is left out', async () => {
    test = await cassandraWorld({
      sites: ['eu-1', 'us-1'],
      seed: 'left-out',
      change: declaration => ({ ...declaration, sites: declaration.sites.slice(0, 1) }),
    })
    await expect(planAndMerge(test.world)).rejects.toMatchObject({
      exit: 5,
      what: expect.stringContaining('does not cover every region'),
    })
  }, 600_000)

  it.each(['renew', 'issuer'] as const)(
    'is refused as strategy %s, with what to use',
    async strategy => {
      test = await cassandraWorld({ seed: strategy, change: declaration => ({ ...declaration, strategy }) })
      await expect(planAndMerge(test.world)).rejects.toThrow(/does not exist for Cassandra[\s\S]*graceful/)
    },
    200_000,
  )
})

describe('emergency', () => {
  it('is refused without its price, and with it replaces the CA in one step', async () => {
    test = await cassandraWorld({
      seed: 'emergency',
      acceptOutage: true,
      change: declaration => ({ ...declaration, strategy: 'emergency' }),
    })
    const { world, secret } = test
    const old = secret('eu-1')['ca.crt']
    await expect(planAndMerge({ ...world, acceptOutage: false })).rejects.toMatchObject({ exit: 5 })
    await rotate(world)
    expect(await isClosed(world)).toBe(true)
    expect(Object.keys(secret('eu-1'))).toEqual(['ca.crt', 'ca.key'])
    expect(secret('eu-1')['ca.crt']).not.toBe(old)
    const { counts } = world.rehearsal.handshakes
    expect(counts.failed).toBe(0)
    expect(counts.foretold).toBeGreaterThan(0)
  }, 900_000)
})
