import { X509Certificate } from 'node:crypto'
import { beforeAll, describe, expect, it } from 'vitest'
import { companyRoot, issuingCa, type Pair } from '../../../src/rehearsal/certificates.ts'
import { Identity, signerOf } from '../../../src/rehearsal/linkerd/identity.ts'
import { textAt } from '../../../src/rehearsal/objects.ts'
import type { Site } from '../../../src/rehearsal/site.ts'
import { bareSite } from '../site.ts'

const hour = 3_600_000
const start = Date.parse('2026-11-22T08:00:00Z')
const life = (hours: number) => ({ notBefore: new Date(start - hour), notAfter: new Date(start + hours * hour) })

let old: { root: Pair; issuer: Pair; short: Pair }
let next: { root: Pair; issuer: Pair }

beforeAll(() => {
  const [one, other] = [companyRoot('one', life(1000)), companyRoot('other', life(1000))]
  old = { root: one, issuer: issuingCa(one, 'eu-1', life(500)), short: issuingCa(one, 'eu-1', life(2)) }
  next = { root: other, issuer: issuingCa(other, 'eu-1', life(500)) }
})

/** One replica of identity whose mounted files a test sets. */
function replica() {
  const { site: bare, store } = bareSite()
  const site: Site = { ...bare, life }
  const files: Record<string, Record<string, string>> = {
    'trust-roots': { 'ca-bundle.crt': old.root.certificate },
    'identity-issuer': { 'crt.pem': old.issuer.certificate, 'key.pem': old.issuer.key },
  }
  const identity = new Identity(site, 'linkerd/linkerd-identity-1', 24, volume => files[volume] ?? {})
  const issuer = (pair: Pair): void => {
    files['identity-issuer'] = { 'crt.pem': pair.certificate, 'key.pem': pair.key }
    identity.issuerChanged()
  }
  const anchors = (text: string): void => {
    files['trust-roots'] = { 'ca-bundle.crt': text }
  }
  const reasons = (): readonly unknown[] => store.list('', 'Event', 'linkerd').map(event => textAt(event, 'reason'))
  return { identity, issuer, anchors, reasons }
}

function issuerOf(identity: Identity): string | null {
  const signed = identity.sign('web.emojivoto.serviceaccount.identity.linkerd.cluster.local')
  if (signed === null) return null
  return signerOf(new X509Certificate(signed.certificate).fingerprint256.replaceAll(':', '').toLowerCase())
}

function fingerprint(pair: Pair): string {
  return new X509Certificate(pair.certificate).fingerprint256.replaceAll(':', '').toLowerCase()
}

describe('identity of the rehearsal', () => {
  it('refuses an issuer that the anchors of its start do not verify, says so, and goes on with the old one (trap 6)', () => {
    const { identity, issuer, anchors, reasons } = replica()
    identity.start()
    issuer(next.issuer)
    expect(reasons()).toEqual(['IssuerUpdateSkipped'])
    expect(issuerOf(identity)).toBe(fingerprint(old.issuer))
    // Anchors are read at the start alone: both of them in the ConfigMap change nothing for a process that runs.
    anchors(old.root.certificate + next.root.certificate)
    identity.issuerChanged()
    expect(issuerOf(identity)).toBe(fingerprint(old.issuer))
    identity.start()
    expect(issuerOf(identity)).toBe(fingerprint(next.issuer))
  })

  it('does not come up with that issuer, nor with anchors that Go cannot read (linkerd2#3414)', () => {
    const { identity, issuer, anchors } = replica()
    identity.start()
    issuer(next.issuer)
    expect(() => identity.start()).toThrow(
      /^Failed to initialize identity service: failed to verify issuer credentials/,
    )
    anchors(`${old.root.certificate}\n`)
    expect(() => identity.start()).toThrow('Failed to read trust anchors: not a PEM certificate')
  })

  it('makes no leaf that outlives its issuer (F28)', () => {
    const { identity, issuer } = replica()
    identity.start()
    expect(identity.sign('web')?.notAfter).toBe(start + 24 * hour)
    issuer(old.short)
    const signed = identity.sign('web')
    expect(signed?.notAfter).toBe(start + 2 * hour)
    expect(Date.parse(new X509Certificate(signed?.certificate ?? '').validTo)).toBe(start + 2 * hour)
  })

  it('that is deaf goes on with what it has, and its metric tells (linkerd2#15109)', () => {
    const { identity, issuer, reasons } = replica()
    identity.start()
    identity.deaf = true
    issuer(old.short)
    expect(reasons()).toEqual([])
    expect(issuerOf(identity)).toBe(fingerprint(old.issuer))
    expect(identity.metrics()).toContain(`issuer_cert_ttl_seconds ${500 * 3600}\n`)
  })
})
