import { beforeAll, describe, expect, it } from 'vitest'
import { type ForetoldPair, foretoldPairs, isForetold, priceText } from '../../src/safety/price.ts'
import { authority, type Material, material, planOf, state } from './material.ts'

let made: Material
beforeAll(async () => {
  made = await material()
})

/** An emergency at all sites at once; sites of `late` keep what they have. */
function replaced(sites: readonly string[], late: readonly string[] = []) {
  const [old, next, issuing] = [made.oldRoot, made.newRoot, made.issuing].map(each => each.facts.sha256) as [
    string,
    string,
    string,
  ]
  const before = state({ bundle: [old], issuer: old })
  const after = state({ bundle: [next], issuer: issuing, chain: [issuing, next] })
  const of = (later: boolean) =>
    Object.fromEntries(sites.map(site => [site, later && !late.includes(site) ? after : before]))
  return planOf({
    strategy: 'emergency',
    certificates: [made.oldRoot.facts, made.newRoot.facts, made.issuing.facts],
    sites,
    parties: ['sidecar', 'istiod'],
    phases: [
      { name: 'adopt', steps: [{ name: 'adopt', sites: of(false) }] },
      { name: 'replace', steps: [{ name: 'data', sites: of(true) }] },
    ],
  })
}

const mixes = (pairs: readonly ForetoldPair[]) =>
  [...new Set(pairs.map(({ from, to }) => `${from} meets ${to}`))].sort()

describe('the price of a plan', () => {
  it('is every pair of old and new that meets while the phase lasts, in both directions, and none of equals', () => {
    const pairs = foretoldPairs(replaced(['eu-1']))
    expect(mixes(pairs)).toEqual(['0-adopt/1-adopt meets 1-replace/1-data', '1-replace/1-data meets 0-adopt/1-adopt'])
    expect(priceText(pairs)[0]).toBe(
      `${pairs[0]?.client} with a leaf of 0-adopt/1-adopt is refused by ${pairs[0]?.server} with the trust of 1-replace/1-data`,
    )
  })

  it('is the same for a thousand sites as for one, and where one of two is late', () => {
    const one = foretoldPairs(replaced(['eu-1']))
    const many = Array.from({ length: 1000 }, (_, index) => `site-${index}`)
    expect(foretoldPairs(replaced(many))).toEqual(one)
    expect(foretoldPairs(replaced(['eu-1', 'us-1'], ['us-1']))).toEqual(one)
  })

  it('is nothing where both were trusted before', async () => {
    const twin = await authority({ subject: made.oldRoot.facts.subject, keys: made.oldRoot.keys })
    const [old, next] = [made.oldRoot.facts.sha256, twin.facts.sha256]
    const plan = planOf({
      strategy: 'emergency',
      certificates: [made.oldRoot.facts, twin.facts],
      sites: ['eu-1'],
      phases: [
        { name: 'adopt', steps: [{ name: 'adopt', sites: { 'eu-1': state({ bundle: [old], issuer: old }) } }] },
        { name: 'replace', steps: [{ name: 'data', sites: { 'eu-1': state({ bundle: [next], issuer: next }) } }] },
      ],
    })
    expect(foretoldPairs(plan)).toEqual([])
  })

  it('does not take a refusal for foretold that has another client, leaf or trust', () => {
    const pairs = foretoldPairs(replaced(['eu-1']))
    const [pair] = pairs
    if (pair === undefined) throw new Error('nothing breaks')
    expect(isForetold(pairs, { ...pair, trusts: [...pair.trusts, ...pair.trusts] })).toBe(true)
    expect(isForetold(pairs, { ...pair, client: 'stranger' })).toBe(false)
    expect(isForetold(pairs, { ...pair, presents: made.newRoot.facts.sha256 })).toBe(false)
    expect(isForetold(pairs, { ...pair, trusts: [made.oldRoot.facts.sha256, made.newRoot.facts.sha256] })).toBe(false)
  })
})
