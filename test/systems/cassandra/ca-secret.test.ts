import { beforeAll, describe, expect, it } from 'vitest'
import { privateKeyPem, systemKeys } from '../../../src/pki/authority.ts'
import {
  entryName,
  isTrustedKey,
  type NewCa,
  pkcs1Pem,
  refuseUnreadableKey,
  trustedEntries,
} from '../../../src/systems/cassandra/ca-secret.ts'
import { caSecret, cassandraCa } from './material.ts'

let one: NewCa
let two: NewCa

beforeAll(async () => {
  ;[one, two] = await Promise.all([cassandraCa('O=ca'), cassandraCa('O=ca2')])
}, 120_000)

describe('which keys of the Secret nodes trust', () => {
  it.each([
    ['ca.crt', true],
    ['ca2.crt', true],
    ['old_crt', true],
    ['ca.crt.bak', true],
    ['ca.crt.sha256', true],
    ['.crt', true],
    ['crt', false],
    ['ca.key', false],
    ['ca.pem', false],
  ])('%s: %s, as the operator’s own pattern has it', (key, trusted) => {
    expect(isTrustedKey(key)).toBe(trusted)
  })

  it('are all read, in the order in which Go sorts them', () => {
    const secret = caSecret(one, { old_crt: two.certificate.pem, 'note.txt': 'x' })
    expect([...trustedEntries(secret)].map(([key, { sha256 }]) => [key, sha256])).toEqual([
      ['ca.crt', one.certificate.sha256],
      ['old_crt', two.certificate.sha256],
    ])
  })

  it('are refused with a bundle under one key: the operator would drop all but the first in silence', () => {
    const secret = caSecret(one, { 'ca.crt': one.certificate.pem + two.certificate.pem })
    expect(() => trustedEntries(secret)).toThrow(/more than one PEM block under one key/)
  })

  it('are refused with a key that only looks like a certificate, at which the operator stops', () => {
    expect(() => trustedEntries(caSecret(one, { 'ca.crt.sha256': 'd2a8…' }))).toThrow(/no certificate under a key/)
    expect(() => trustedEntries(caSecret(one, { 'ca2.crt': two.key }))).toThrow(/no certificate under a key/)
  })

  it('are refused without the one that the CassandraCluster names', () => {
    const secret = { ...caSecret(one), certificateKey: 'tls.crt' }
    expect(() => trustedEntries(secret)).toThrow(/holds no CA under the key/)
  })

  it('name no private key in the error, whatever stands in the Secret', () => {
    const secret = caSecret(one, { 'ca2.crt': two.key })
    let message = ''
    try {
      trustedEntries(secret)
    } catch (error) {
      message = (error as Error).message
    }
    expect(message).not.toBe('')
    const body = two.key.split('\n')[1] ?? ''
    expect(body.length).toBeGreaterThan(40)
    expect(message).not.toContain(body)
  })
})

describe('the name for the second CA', () => {
  it('is ca2.crt as in the runbook, and never one that is taken', () => {
    expect(entryName(caSecret(one))).toBe('ca2.crt')
    expect(entryName(caSecret(one, { 'ca2.crt': two.certificate.pem }))).toBe('ca3.crt')
  })
})

describe('the signing key', () => {
  it('is taken as PKCS#1 only: the operator parses nothing else', async () => {
    const key = await systemKeys.generate('rsa-2048')
    expect(pkcs1Pem(key)).toMatch(/^-----BEGIN RSA PRIVATE KEY-----\n/)
    expect(() => refuseUnreadableKey(one.key, one.certificate, 'x')).not.toThrow()
    expect(() => refuseUnreadableKey(privateKeyPem(key), one.certificate, 'x')).toThrow(
      /cannot read[\s\S]*PRIVATE KEY[\s\S]*openssl rsa/,
    )
  })

  it('is refused encrypted, and where it is not the certificate’s', () => {
    const encrypted = one.key.replace('\n', '\nProc-Type: 4,ENCRYPTED\n')
    expect(() => refuseUnreadableKey(encrypted, one.certificate, 'x')).toThrow(/encrypted/)
    expect(() => refuseUnreadableKey(two.key, one.certificate, 'x')).toThrow(/do not match/)
  })
})
