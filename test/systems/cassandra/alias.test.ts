import { describe, expect, it, vi } from 'vitest'
import type { ReanchorError } from '../../../src/errors.ts'
import { aliasOf, refuseEqualAliases } from '../../../src/systems/cassandra/alias.ts'
import { cassandraCa } from './material.ts'

// RSA keys take their time on a busy machine.
vi.setConfig({ testTimeout: 120_000 })

async function refusal(present: Readonly<Record<string, string>>, next: string): Promise<ReanchorError | null> {
  const entries = await Promise.all(
    Object.entries(present).map(async ([key, subject]) => ({
      key,
      certificate: (await cassandraCa(subject)).certificate,
    })),
  )
  try {
    refuseEqualAliases(entries, (await cassandraCa(next)).certificate, 'Secret anton/ca')
    return null
  } catch (error) {
    return error as ReanchorError
  }
}

describe('aliases of a truststore (F8, F9)', () => {
  it.each([
    ['the same Subject', 'O=ca2', 'O=ca2'],
    ['one that differs only in case', 'O=CA2', 'O=ca2'],
    ['one whose attributes stand in another order, which Go does not keep', 'CN=ca,O=acme', 'O=acme,CN=ca'],
    ['one that differs in white space', 'O=ca  2', 'O=ca 2'],
  ])('refuse %s up front', async (_, present, next) => {
    const error = await refusal({ 'ca.crt': 'O=ca', 'ca2.crt': present }, next)
    expect(error?.exit).toBe(5)
    expect(error?.message).toContain('in ca2.crt')
  })

  it('take a Subject that no *.crt has, whatever the others are', async () => {
    expect(await refusal({ 'ca.crt': 'O=ca', 'ca2.crt': 'O=ca2' }, 'O=example-cluster-ca-20261122')).toBeNull()
  })

  it('refuse two CAs that collide in the Secret already: which one nodes trust is chance', async () => {
    const error = await refusal({ 'ca.crt': 'O=ca', old_crt: 'O=CA' }, 'O=new')
    expect(error?.exit).toBe(5)
    expect(error?.what).toContain('two CAs in the Secret have one Subject')
  })

  it('are told apart by what names a CA, not by its key', async () => {
    const [one, two] = await Promise.all([cassandraCa('O=ca2'), cassandraCa('O=CA2')])
    expect(one.certificate.sha256).not.toBe(two.certificate.sha256)
    expect(aliasOf(one.certificate)).toBe(aliasOf(two.certificate))
  })
})
