import { type KeyObject, randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { basicConstraints, createCertificate, keyUsage, type Signer, serialFrom } from '../../src/pki/authority.ts'
import { pkixAccepts } from '../../src/pki/java.ts'
import { accepts, opensslDeadEnd } from '../../src/pki/verifiers.ts'
import { pathJudge } from '../../src/safety/paths.ts'
import { at, cross, dates, issuing, leaf, newKey, root } from './family.ts'

describe('OpenSSL, which does not turn back', () => {
  it('refuses a self-signed CA that is sent before its cross-certificate, and takes the reverse', async () => {
    const [own, next] = [await root('CN=Own'), await root('CN=Next')]
    const crossed = await cross(own, next)
    const peer = { leaf: await leaf(own), anchors: [next.certificate] }
    const wrong = { ...peer, chain: [own.certificate, crossed.certificate] }
    const right = { ...peer, chain: [crossed.certificate, own.certificate] }
    expect(accepts('openssl', wrong, at)).toBe(false)
    expect(accepts('openssl', right, at)).toBe(true)
    expect(accepts('go', wrong, at)).toBe(true)
    expect(opensslDeadEnd(wrong, at)).not.toBeNull()
    expect(opensslDeadEnd(right, at)).toBeNull()
  })

  it('makes the proof refuse what a search would find a path for', async () => {
    const [own, next] = [await root('CN=Own'), await root('CN=Next')]
    const crossed = await cross(own, next)
    const judge = pathJudge([own.certificate, next.certificate, crossed.certificate])
    const trusting = { at: 'new', anchors: [next.certificate.sha256] }
    const answer = (issuer: string, chain: readonly string[]) =>
      judge.until({ at: 'old', issuer, chain }, trusting, at.getTime())
    const [ownId, crossId] = [own.certificate.sha256, crossed.certificate.sha256]
    expect(answer(ownId, [crossId]).until).toBeLessThan(at.getTime())
    expect(answer(ownId, [crossId]).why).toContain('does not turn back')
    expect(answer(crossId, [ownId]).until).toBeGreaterThan(at.getTime())
  })

  it('wants a self-signed anchor where partial chains are off', async () => {
    const top = await root('CN=Root')
    const ca = await issuing('CN=Issuing', top)
    const peer = { leaf: await leaf(ca), chain: [ca.certificate], anchors: [ca.certificate] }
    expect(accepts('openssl', peer, at)).toBe(true)
    expect(accepts('openssl-whole-chain', peer, at)).toBe(false)
  })
})

describe('Go', () => {
  it('refuses a critical constraint on directory names, and so does the proof', async () => {
    const top = await root('CN=Root', { nameConstraints: { permitted: { directories: ['O=Example'] } } })
    const ca = await issuing('CN=Issuing,O=Example', top)
    const peer = { leaf: await leaf(ca), chain: [ca.certificate], anchors: [top.certificate] }
    expect([accepts('openssl', peer, at), accepts('go', peer, at)]).toEqual([true, false])
    const judge = pathJudge([top.certificate, ca.certificate])
    const holding = { at: '', issuer: ca.certificate.sha256, chain: [] }
    const answer = judge.until(holding, { at: '', anchors: [top.certificate.sha256] }, at.getTime())
    expect(answer.until).toBeLessThan(at.getTime())
    expect(answer.why).toContain('Go refuses')
  })

  it('reads no host out of a common name, which a constraint on DNS names could be about', async () => {
    const top = await root('CN=Root', { nameConstraints: { permitted: { dns: ['good.svc'] } } })
    const ca = await issuing('CN=issuing.bad.svc', top)
    const peer = {
      leaf: await leaf(ca, { uris: ['spiffe://a/b'] }),
      chain: [ca.certificate],
      anchors: [top.certificate],
    }
    expect(accepts('go', peer, at)).toBe(true)
    const named = { ...peer, leaf: await leaf(ca, { dns: ['x.bad.svc'] }) }
    expect(accepts('go', named, at)).toBe(false)
  })
})

describe('Java', () => {
  it('does not look at the dates of an anchor', async () => {
    const top = await root('CN=Root', { notAfter: new Date('2026-05-01T00:00:00Z') })
    const peer = { leaf: await leaf(top), chain: [top.certificate], anchors: [top.certificate] }
    expect(accepts('java-pkix', peer, at)).toBe(true)
    expect(accepts('java-sunx509', peer, at)).toBe(true)
    expect(accepts('openssl', peer, at)).toBe(false)
  })

  it('takes the chain as it was sent with SunX509, and searches with PKIX', async () => {
    const [top, other] = [await root('CN=Root'), await root('CN=Other')]
    const ca = await issuing('CN=Issuing', top)
    const peer = { leaf: await leaf(ca), chain: [other.certificate, ca.certificate], anchors: [top.certificate] }
    expect([accepts('java-sunx509', peer, at), accepts('java-pkix', peer, at)]).toEqual([false, true])
  })

  it('validates a chain as it was sent where it ends below a trusted name, though the key of that name has not signed it', async () => {
    const [own, twin] = [await root('CN=Root'), await root('CN=Root')]
    const ca = await issuing('CN=Issuing', own)
    // A search would come to `ca` by its own trust; as sent, the chain ends at a name that is trusted with another key.
    const sent = { leaf: await leaf(ca), chain: [ca.certificate, own.certificate] }
    expect(accepts('java-pkix', { ...sent, anchors: [twin.certificate] }, at)).toBe(false)
    expect(accepts('java-pkix', { ...sent, anchors: [twin.certificate, own.certificate] }, at)).toBe(true)
  })

  it('gives a place up where one self-issued CA follows another, so that what it finds can hang on the order of a hash set', async () => {
    const [other, top] = [await root('CN=Other'), await root('CN=Top')]
    const first = await unidentified('CN=Same', null)
    const between = await issuing('CN=Between', top, { pathLength: null })
    const [second, third] = [await unidentified('CN=Same', first), await unidentified('CN=Same', between)]
    const renewed = await unidentified('CN=Same', third, first.key)
    const peer = {
      leaf: await leaf(renewed),
      chain: [other.certificate, renewed.certificate, second.certificate, third.certificate, between.certificate],
      anchors: [top.certificate],
    }
    expect(pkixAccepts(peer, at, 'luckiest')).toBe(true)
    expect(pkixAccepts(peer, at, 'unluckiest')).toBe(false)
    expect(accepts('java-pkix', peer, at)).toBe(false)
  })

  it('asks for the dates of an anchor in a search, but for the place right above the leaf', async () => {
    const top = await root('CN=Root', { notAfter: new Date('2026-05-01T00:00:00Z') })
    const twin = await root('CN=Root')
    const ca = await unidentified('CN=Issuing', top)
    const other = await root('CN=Other')
    const direct = { leaf: await leaf(top), chain: [other.certificate, twin.certificate], anchors: [top.certificate] }
    const below = { leaf: await leaf(ca), chain: [other.certificate, ca.certificate], anchors: [top.certificate] }
    expect([accepts('java-pkix', direct, at), accepts('java-pkix', below, at)]).toEqual([true, false])
  })
})

/** A CA without key identifiers. */
async function unidentified(subject: string, by: Signer | null, key?: KeyObject): Promise<Signer> {
  const own = key ?? (await newKey())
  const certificate = await createCertificate({
    ...dates,
    serial: serialFrom(randomBytes),
    subject,
    issuer: by === null ? subject : by.certificate.parts.subject,
    publicKey: own,
    signingKey: by?.key ?? own,
    extensions: [basicConstraints(null), keyUsage(['keyCertSign'])],
  })
  return { certificate, key: own }
}
