import { createPrivateKey } from 'node:crypto'
import { beforeAll, describe, expect, it } from 'vitest'
import { privateKeyPem } from '../../../src/pki/authority.ts'
import { anchorText } from '../../../src/systems/linkerd/go-pem.ts'
import { issuerData, readIssuer } from '../../../src/systems/linkerd/issuer-secret.ts'
import type { LinkerdIssuer } from '../../../src/systems/linkerd/next-ca.ts'
import { linkerdCa } from './material.ts'

let old: LinkerdIssuer
let next: LinkerdIssuer

beforeAll(async () => {
  ;[old, next] = await Promise.all([linkerdCa('CN=old'), linkerdCa('CN=new')])
})

describe('the two forms of linkerd-identity-issuer (trap 8)', () => {
  it('are crt.pem and key.pem, or ca.crt, tls.crt and tls.key with the whole bundle in ca.crt', () => {
    const anchors = anchorText([old.root.pem, next.root.pem])
    const material = { certificates: [next.issuer.pem], key: next.key, anchors }
    expect(issuerData('linkerd.io/tls', material)).toEqual({ 'crt.pem': next.issuer.pem, 'key.pem': next.key })
    expect(issuerData('kubernetes.io/tls', material)).toEqual({
      'ca.crt': anchors,
      'tls.crt': next.issuer.pem,
      'tls.key': next.key,
    })
  })

  it('are told by their keys, and read with the key that belongs to the certificate', () => {
    for (const scheme of ['linkerd.io/tls', 'kubernetes.io/tls'] as const) {
      const data = issuerData(scheme, { certificates: [old.issuer.pem], key: old.key, anchors: old.root.pem })
      const read = readIssuer(data, 'linkerd')
      expect([read.scheme, read.issuer.sha256, read.chain]).toEqual([scheme, old.issuer.sha256, []])
    }
  })

  it('name a missing key as linkerd does, and refuse a key of another certificate without quoting either', () => {
    expect(() => readIssuer({ 'tls.crt': old.issuer.pem, 'tls.key': old.key }, 'linkerd')).toThrow(
      'key ca.crt containing the trust anchors needs to exist in secret linkerd-identity-issuer if --identity-external-issuer=true',
    )
    const mixed = { 'crt.pem': old.issuer.pem, 'key.pem': next.key }
    expect(() => readIssuer(mixed, 'linkerd')).toThrow('tls: Public and private key do not match')
    try {
      readIssuer(mixed, 'linkerd')
    } catch (error) {
      expect(String(error)).not.toContain(next.key.split('\n')[1])
    }
    expect(() => readIssuer({ ...mixed, 'tls.crt': old.issuer.pem }, 'linkerd')).toThrow(/keys of both forms/)
  })
})

describe('the private key', () => {
  it('is SEC1, which identity reads in every version: up to 2.8.1 it crashes on PKCS#8', () => {
    expect(next.key).toMatch(/^-----BEGIN EC PRIVATE KEY-----\n/)
    expect(privateKeyPem(createPrivateKey(next.key))).toMatch(/^-----BEGIN PRIVATE KEY-----\n/)
  })
})
