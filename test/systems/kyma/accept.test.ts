import { beforeAll, describe, expect, it } from 'vitest'
import type { Cluster } from '../../../src/cluster/cluster.ts'
import type { CurrentCa, NewCa } from '../../../src/plan/ca.ts'
import type { Declaration, Strategy } from '../../../src/rotation.ts'
import { acceptKyma, newKymaCa } from '../../../src/systems/kyma/accept.ts'
import { carried } from '../../../src/systems/kyma/material.ts'
import { generateKymaCa, type KymaCa, renewKymaCa } from '../../../src/systems/kyma/next-ca.ts'
import { overridesIn } from '../../../src/systems/kyma/overrides.ts'
import { kymaProfiles } from '../../../src/systems/kyma/profile.ts'
import { kymaWords } from '../../../src/systems/kyma/words.ts'
import { type FakeCluster, fakeCluster } from './cluster.ts'
import { kymaCa, now, quickKeys, random } from './material.ts'

const day = 86_400_000
let old: KymaCa
let renewed: KymaCa
let fresh: KymaCa
const means = { now, random, keys: quickKeys }

beforeAll(async () => {
  old = await kymaCa()
  renewed = await renewKymaCa(old, 365, means)
  fresh = await generateKymaCa({ subject: 'CN=Kyma 2', validityDays: 365 }, means)
}, 120_000)

function declared(strategy: Strategy, compromised: 'certificate' | 'key' | null = null, attest = true): Declaration {
  return {
    system: 'kyma',
    kyma: { ...kymaProfiles.runbook, profile: 'runbook', runtimes: [], applications: true, compromised, leafDays: 92 },
    strategy,
    sites: [{ name: 'central' }],
    gates: { attest: attest ? [{ name: 'applications', why: 'their owners' }] : [] },
  } as unknown as Declaration
}

function current(ca: KymaCa, settings: Readonly<Record<string, string>> = {}): CurrentCa {
  const { certificate, key } = ca
  return { issuer: certificate, chain: [], roots: [certificate], key, source: 'plugged', settings, restarts: {} }
}

function nextOf({ certificate, key }: KymaCa): NewCa {
  const ca = { root: certificate, issuer: certificate, chain: [], key }
  return { sites: { central: ca }, rootKey: null, root: certificate }
}

describe('a CA that has expired (F15)', () => {
  const late = new Date(now.getTime() + 13 * day)

  it.each(['renew', 'graceful'] as const)(
    'is told apart, and %s refused: nobody can renew through a gateway that refuses everybody',
    strategy => {
      const next = nextOf(strategy === 'renew' ? renewed : fresh)
      expect(() => acceptKyma(declared(strategy), { central: current(old) }, next, late)).toThrow(
        /has expired[\s\S]*it ended[\s\S]*compromised: certificate/,
      )
      expect(() => acceptKyma(declared(strategy), { central: current(old) }, next, now)).not.toThrow()
    },
  )

  it('is replaced by an emergency, with the key kept or with a new one', () => {
    const accept = (compromised: 'certificate' | 'key', next: KymaCa) =>
      acceptKyma(declared('emergency', compromised), { central: current(old) }, nextOf(next), late)
    expect(() => accept('certificate', renewed)).not.toThrow()
    expect(() => accept('key', fresh)).not.toThrow()
  })

  it('is what inspect says, with the one strategy that is left', () => {
    const fits = (at: Date) =>
      kymaWords.fitting([current(old)], at).map(({ strategy, fits: is }) => `${strategy} ${is}`)
    expect(fits(now)).toEqual(['renew true', 'graceful true', 'emergency true'])
    expect(fits(late)).toEqual(['renew false', 'graceful false', 'emergency true'])
  })
})

describe('who holds certificates', () => {
  it('is asked for where applications may: no resource lists them, so somebody vouches or says that there are none (F20)', () => {
    expect(() => acceptKyma(declared('graceful', null, false), { central: current(old) }, nextOf(fresh), now)).toThrow(
      'nobody vouches for the applications',
    )
  })
})

describe('sites', () => {
  it('with CAs of their own are not renewed in one rotation, nor without the key in use', async () => {
    const make = (all: Readonly<Record<string, CurrentCa>>) =>
      newKymaCa(
        declared('renew'),
        { from: 'generate', algorithm: 'rsa-4096', subject: 'CN=x', validityDays: 365, issuing: null } as never,
        { ...means, read: () => '', current: all },
      )
    await expect(make({ a: current(old), b: current(fresh) })).rejects.toThrow('CAs of their own')
    await expect(make({ a: { ...current(old), key: null } })).rejects.toThrow('not at hand')
  })

  it('take an RSA key alone', async () => {
    const next = {
      from: 'generate',
      algorithm: 'ecdsa-p256',
      subject: 'CN=x',
      validityDays: 365,
      issuing: null,
    } as never
    await expect(
      newKymaCa(declared('graceful'), next, { ...means, read: () => '', current: { a: current(old) } }),
    ).rejects.toMatchObject({ where: { field: 'spec.next.generate.algorithm' } })
  })
})

describe('overrides of Kyma’s installer', () => {
  const labels = { installer: 'overrides' }
  const name = 'application-connector-certificate-overrides'
  const cluster = (data: Readonly<Record<string, string>>, more: Partial<FakeCluster> = {}): Cluster =>
    fakeCluster({
      now: now.toISOString(),
      ...more,
      objects: {
        [`secrets/kyma-installer/${name}`]: { metadata: { namespace: 'kyma-installer', name, labels }, data },
        'secrets/kyma-installer/other': {
          metadata: { namespace: 'kyma-installer', name: 'other' },
          data: { 'global.applicationConnectorCa': 'LS0t' },
        },
      },
    })

  it('are found where they hold a CA, be it in a Secret, and are none where their keys are empty, as Kyma brings them', async () => {
    const filled = { 'global.applicationConnectorCa': 'LS0t', 'global.applicationConnectorCaKey': 'LS0t' }
    expect(await overridesIn(cluster(filled))).toEqual([
      `Secret kyma-installer/${name}: global.applicationConnectorCa, global.applicationConnectorCaKey`,
    ])
    expect(
      await overridesIn(cluster({ 'global.applicationConnectorCa': '', 'global.applicationConnectorCaKey': '' })),
    ).toEqual([])
  })

  it('are not looked for where there is no installer (Kyma 2), and not taken for none where they may not be read', async () => {
    const failures = { 'list secrets': 'forbidden', 'list configmaps': 'forbidden' } as const
    expect(await overridesIn(cluster({}, { failures }))).toEqual([])
    await expect(
      overridesIn(cluster({}, { failures: { ...failures, 'namespaces//kyma-installer': 'forbidden' } })),
    ).rejects.toThrow('list')
  })

  it('make plan refuse, with the command that takes them out; inspect says it of every strategy', () => {
    const found = { [carried.overrides]: `Secret kyma-installer/${name}: global.applicationConnectorCa` }
    const accept = () => acceptKyma(declared('renew'), { central: current(old, found) }, nextOf(renewed), now)
    expect(accept).toThrow(
      /the rotation would be undone[\s\S]*kubectl --namespace kyma-installer patch secret application-connector-certificate-overrides --type=merge --patch .*"global.applicationConnectorCa":null/,
    )
    for (const { why } of kymaWords.fitting([current(old, found)], now)) expect(why).toContain(name)
  })
})
