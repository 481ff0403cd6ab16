/** The draws of `npm run safety --parts wire`, and one small run of it against Node's own OpenSSL. */
import { describe, expect, it } from 'vitest'
import { randomFrom } from '../../safety/random.ts'
import { type Family, type Keys, makeFamily } from '../../safety/wire/families.ts'
import { linksOf, makeMix, type Side, verifiersOf } from '../../safety/wire/mixes.ts'
import { wire } from '../../safety/wire/wire.ts'
import type { Certificate } from '../../src/pki/certificate.ts'
import type { SystemName } from '../../src/rotation.ts'
import { newKey } from '../pki/family.ts'

const now = Date.parse('2026-06-01T00:00:00Z')
const systems: readonly SystemName[] = ['istio', 'cassandra']

async function keys(): Promise<Keys> {
  const make = (count: number) => Promise.all(Array.from({ length: count }, newKey))
  return { cas: await make(6), leaves: await make(2) }
}

/** Who is who in ten mixes of each of two systems, without anything that a key goes into. */
async function drawn(seed: number): Promise<readonly unknown[]> {
  const made = await keys()
  const random = randomFrom(seed)
  const all: unknown[] = []
  for (const system of systems) {
    const family = await makeFamily(system, random, made, now)
    const [leaf] = family.leaves
    if (leaf === undefined) throw new Error('a family without leaves')
    const control: Side = { leaf, chain: [], trusts: [leaf.issuer] }
    const links = linksOf(system).filter(link => verifiersOf(link, system) !== null)
    for (let count = 10; count > 0; count--) {
      const link = random.pick(links)
      const verifier = random.pick(verifiersOf(link, system) ?? [])
      const mix = makeMix(family, link, verifier, random, control)
      all.push([
        system,
        mix.link,
        mix.verifier,
        mix.direction,
        placesOf(family, mix.server),
        placesOf(family, mix.client),
      ])
    }
  }
  return all
}

function placesOf(family: Family, { leaf, chain, trusts }: Side): readonly unknown[] {
  const place = (one: Certificate) => family.cas.indexOf(one)
  return [
    place(leaf.issuer),
    chain.map(place),
    trusts.map(place),
    trusts.map(one => [one.subject, one.notAfter, one.pathLength]),
  ]
}

describe('mixes for the wire', () => {
  it('are the same for one seed, whatever the keys and with them the fingerprints are', async () => {
    const [one, again, other] = [await drawn(5), await drawn(5), await drawn(6)]
    expect(again).toEqual(one)
    expect(other).not.toEqual(one)
  })

  it('come out in real handshakes of OpenSSL as foretold, and links whose stack is not there are named (F8, F12)', async () => {
    const lines: string[] = []
    const found = await wire({ seed: 3, scale: 0.005, say: line => lines.push(line), without: ['go', 'java'] })
    expect(found.examples.filter(example => example.startsWith('DISAGREES'))).toEqual([])
    expect(found.disagreements).toBe(0)
    expect(found.mixes).toBe(30)
    expect(found.accepted).toBeGreaterThan(5)
    expect(found.accepted).toBeLessThan(25)
    // rustls, of which there is no stack here, and Go, which was left out.
    expect(found.notShaken).toEqual(
      expect.arrayContaining(['istio: sidecar to ztunnel', 'linkerd: proxy to proxy', 'istio: sidecar to istiod']),
    )
  })
})
