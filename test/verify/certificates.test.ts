import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { authorityKey, createCertificate } from '../../src/pki/authority.ts'
import { certificateFacts } from '../../src/pki/certificate.ts'
import { certificateBook, factsOf, UnreadableCertificate } from '../../src/verify/certificates.ts'
import { authorities, now, planOf } from './mesh.ts'

const plan = await planOf()
const { old, fresh, issuing, foreign, leaf } = await authorities()

describe('who signed a leaf', () => {
  it('is told with its way up to the root', () => {
    const book = certificateBook(plan)
    expect(book.leaf(leaf.old).issuers).toEqual([old.certificate.sha256])
    expect(book.leaf(leaf.new).issuers).toEqual([issuing.certificate.sha256, fresh.certificate.sha256])
  })

  it('is found with the certificates of the plan where the chain is not served', () => {
    const [alone = ''] = leaf.new.split(/(?<=-----END CERTIFICATE-----\n)/)
    expect(certificateBook(plan).leaf(alone).issuers).toEqual([issuing.certificate.sha256, fresh.certificate.sha256])
  })

  it('is decided by the signature, not by names or key identifiers, which anybody can write (F10)', async () => {
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const forged = await createCertificate({
      subject: '',
      issuer: old.certificate.subject,
      publicKey,
      signingKey: foreign.key,
      notBefore: new Date(now.getTime() - 1000),
      notAfter: new Date(now.getTime() + 1000),
      serial: '77',
      extensions: [authorityKey(old.certificate.ski ?? '')],
    })
    expect(certificateBook(plan).leaf(forged.pem + old.certificate.pem).issuers).toEqual([])
  })

  it('is a certificate seen live where the plan has none, and then it is remembered', () => {
    const book = certificateBook(plan)
    expect(book.leaf(leaf.foreign).issuers).toEqual([foreign.certificate.sha256])
    expect(book.unplanned().map(({ sha256 }) => sha256)).toEqual([foreign.certificate.sha256])
  })

  it('is written into evidence as plain facts, which are read back: nothing of the parser is among them', async () => {
    const [facts] = await factsOf([foreign.certificate.pem])
    expect(facts).toEqual(certificateFacts(foreign.certificate))
    expect(Object.keys(facts ?? {}).sort()).toEqual(Object.keys(certificateFacts(foreign.certificate)).sort())
  })

  it('is not a leaf that is served as a CA', () => {
    const [first = ''] = leaf.old.split(/(?<=-----END CERTIFICATE-----\n)/)
    expect(certificateBook({ certificates: [] }).leaf(first + first).issuers).toEqual([])
  })
})

describe('a live bundle', () => {
  it('is a set, whatever its order and repeats', () => {
    const book = certificateBook(plan)
    const [a, b] = [old.certificate.pem, fresh.certificate.pem]
    const set = [old.certificate.sha256, fresh.certificate.sha256].sort()
    for (const pem of [a + b, b + a, a + b + b, `# comment\r\n${a.replaceAll('\n', '\r\n')}${b.trimEnd()}`])
      expect(book.roots(pem)).toEqual(set)
  })

  it.each([
    '',
    'nothing',
    '-----BEGIN CERTIFICATE-----\nnot base64\n-----END CERTIFICATE-----',
    '-----BEGIN CERTIFICATE-----\nTUlJ',
  ])('is unreadable as %j', pem => {
    expect(() => certificateBook(plan).roots(pem)).toThrow(UnreadableCertificate)
    expect(() => certificateBook(plan).leaf(pem)).toThrow(UnreadableCertificate)
  })
})
