import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { createRoot } from '../../src/pki/authority.ts'
import { isSameKey } from '../../src/pki/keys.ts'

const curve = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const other = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })

describe('whether two keys are one', () => {
  it('is told of keys of one type and of two', () => {
    expect(isSameKey(curve.publicKey, curve.publicKey)).toBe(true)
    expect(isSameKey(curve.publicKey, other.publicKey)).toBe(false)
    expect(isSameKey(curve.publicKey, rsa.publicKey)).toBe(false)
    expect(isSameKey(rsa.publicKey, curve.publicKey)).toBe(false)
  })

  it('leaves nothing behind for which a certificate that is made next is refused', async () => {
    isSameKey(rsa.publicKey, curve.publicKey)
    const dated = { notBefore: new Date('2026-01-01T00:00:00Z'), notAfter: new Date('2036-01-01T00:00:00Z') }
    await expect(
      createRoot({ ...dated, subject: 'CN=next', key: curve.privateKey, serial: '01' }),
    ).resolves.toBeTruthy()
  })
})
