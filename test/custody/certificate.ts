import { createPrivateKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'

/** A self-signed certificate in plain DER, enough for what custody reads of one: its key, its dates and its bytes. */
export function selfSigned(
  privateKey: KeyObject,
  publicKey: KeyObject,
  from: Date,
  to: Date,
  name = 'test root',
): string {
  const rsa = privateKey.asymmetricKeyType === 'rsa'
  const algorithm = tlv(0x30, Buffer.from(rsa ? '06092a864886f70d01010b0500' : '06082a8648ce3d040302', 'hex'))
  const attribute = tlv(0x30, Buffer.concat([Buffer.from('0603550403', 'hex'), tlv(0x0c, Buffer.from(name))]))
  const subject = tlv(0x30, tlv(0x31, attribute))
  const dates = tlv(0x30, Buffer.concat([time(from), time(to)]))
  const serial = Buffer.from('020107', 'hex')
  const spki = publicKey.export({ format: 'der', type: 'spki' })
  const body = tlv(
    0x30,
    Buffer.concat([Buffer.from('a003020102', 'hex'), serial, algorithm, subject, dates, subject, spki]),
  )
  const signature = tlv(0x03, Buffer.concat([Buffer.from([0]), sign('sha256', body, privateKey)]))
  const der = tlv(0x30, Buffer.concat([body, algorithm, signature]))
  const lines = der.toString('base64').match(/.{1,64}/g) ?? []
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`
}

export function rsaPair(bits = 2048) {
  return generateKeyPairSync('rsa', { modulusLength: bits })
}

export function ecPair(curve = 'P-256') {
  return generateKeyPairSync('ec', { namedCurve: curve })
}

export function pem(key: KeyObject): string {
  return createPrivateKey(key.export({ format: 'pem', type: 'pkcs8' }))
    .export({ format: 'pem', type: 'pkcs8' })
    .toString()
}

function time(date: Date): Buffer {
  return tlv(0x18, Buffer.from(date.toISOString().replaceAll(/[-:T]|\.\d+/g, '')))
}

function tlv(tag: number, content: Buffer): Buffer {
  if (content.length < 0x80) return Buffer.concat([Buffer.from([tag, content.length]), content])
  const length = Buffer.from(content.length.toString(16).padStart(4, '0'), 'hex')
  return Buffer.concat([Buffer.from([tag, 0x82]), length, content])
}
