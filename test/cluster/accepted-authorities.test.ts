import { generateKeyPairSync } from 'node:crypto'
import { type AddressInfo, connect as connectTcp } from 'node:net'
import { Duplex } from 'node:stream'
import { connect, createServer, type Server, type TlsOptions } from 'node:tls'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { acceptedAuthorities } from '../../src/cluster/accepted-authorities.ts'
import { createLeaf, createRoot } from '../../src/pki/authority.ts'
import type { Certificate } from '../../src/pki/certificate.ts'

let roots: readonly Certificate[]
let material: { readonly cert: string; readonly key: string }
let server: Server | null = null

beforeAll(async () => {
  const dated = { notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + 3_600_000) }
  const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
  const made: Certificate[] = []
  // As many as need a CertificateRequest of more than one record of 16 KiB.
  for (let number = 0; number < 400; number++) {
    const subject = `CN=root ${number},O=${'a long name of an organization '.repeat(2)}`
    made.push(await createRoot({ ...dated, subject, key, serial: (number + 256).toString(16).padStart(4, '0') }))
  }
  roots = made
  const leafKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
  const issuer = { certificate: made[0]!, key }
  const leaf = await createLeaf({ ...dated, key: leafKey, serial: '02', issuer, dns: ['istiod'] })
  material = { cert: leaf.pem, key: leafKey.export({ type: 'pkcs8', format: 'pem' }) as string }
})

afterEach(() => {
  server?.close()
  server = null
})

async function named(options: TlsOptions): Promise<readonly Buffer[] | null> {
  const listening = createServer({ ...material, rejectUnauthorized: false, ...options }, socket => {
    socket.on('error', () => {})
  })
  server = listening
  listening.on('tlsClientError', () => {})
  await new Promise<void>(resolve => listening.listen(0, '127.0.0.1', resolve))
  const tcp = connectTcp((listening.address() as AddressInfo).port, '127.0.0.1')
  const stream = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      tcp.write(chunk, () => done())
    },
  })
  tcp.on('data', (chunk: Buffer) => stream.push(chunk))
  tcp.on('error', () => {})
  stream.on('error', () => {})
  const secure = connect({ socket: stream, servername: 'istiod', rejectUnauthorized: false })
  const names = acceptedAuthorities(stream, secure)
  await new Promise<void>(resolve => {
    secure.once('secureConnect', resolve)
    secure.once('error', () => resolve())
    secure.once('close', () => resolve())
  })
  const found = names()
  secure.destroy()
  tcp.destroy()
  return found
}

const versions = [
  ['TLS 1.2', { maxVersion: 'TLSv1.2' }],
  ['TLS 1.3, AES 128', { ciphers: 'TLS_AES_128_GCM_SHA256', minVersion: 'TLSv1.3' }],
  ['TLS 1.3, AES 256', { ciphers: 'TLS_AES_256_GCM_SHA384', minVersion: 'TLSv1.3' }],
  ['TLS 1.3, ChaCha20', { ciphers: 'TLS_CHACHA20_POLY1305_SHA256', minVersion: 'TLSv1.3' }],
] as const satisfies readonly (readonly [string, TlsOptions])[]

describe.each(versions)('the CAs that a server names, over %s', (_, options) => {
  it.each([1, 2, 400])('are %i, each with the DER of its Subject', async count => {
    const chosen = roots.slice(0, count)
    const found = await named({ ...options, requestCert: true, ca: chosen.map(({ pem }) => pem).join('') })
    expect(found?.map(der => der.toString('hex')).sort()).toEqual(
      chosen.map(({ parts }) => parts.subject.der.toString('hex')).sort(),
    )
  })

  it('are none where it asks for a certificate of anybody', async () => {
    expect(await named({ ...options, requestCert: true, ca: [] })).toEqual([])
  })

  it('are not known where it asks for no certificate', async () => {
    expect(await named({ ...options, requestCert: false, ca: roots[0]!.pem })).toBeNull()
  })

  it('are told also by a server that then refuses a client without one', async () => {
    const demanding = { ...options, requestCert: true, rejectUnauthorized: true, ca: roots[0]!.pem }
    expect(await named(demanding)).toHaveLength(1)
  })
})
