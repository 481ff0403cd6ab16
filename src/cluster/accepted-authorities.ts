import { createDecipheriv, createHmac, type DecipherChaCha20Poly1305, type DecipherGCM } from 'node:crypto'
import type { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'

/**
 * The CAs that a server names in its CertificateRequest: those of which it takes a client's certificate (RFC 8446 section 4.2.4, RFC 5246 section
 * 7.4.4). Node has no call that gives them, so they are read from the bytes of the handshake: under TLS 1.2 they are in the clear, under
 * TLS 1.3 the traffic secret that Node tells as `keylog` opens them.
 *
 * Call it before the first byte arrives: it listens to `stream` beside `secure`, and takes nothing from it. What it gives is asked once the
 * handshake is over: the DER of each name, in the server's order; null where no certificate was asked for, or the handshake could not be read.
 */
export function acceptedAuthorities(stream: Duplex, secure: TLSSocket): () => readonly Buffer[] | null {
  const chunks: Buffer[] = []
  let size = 0
  // First of all who listen: a chunk that ends the handshake is told of as such while it is being handed round.
  stream.prependListener('data', (chunk: Buffer) => {
    if (size < largestHandshake) chunks.push(chunk)
    size += chunk.length
  })
  let secret: Buffer | null = null
  secure.on('keylog', (line: Buffer) => {
    const [label, , hex] = line.toString('latin1').trim().split(' ')
    if (label === 'SERVER_HANDSHAKE_TRAFFIC_SECRET' && hex !== undefined) secret = Buffer.from(hex, 'hex')
  })
  return () => {
    try {
      const records = recordsOf(Buffer.concat(chunks))
      if (secure.getProtocol() !== 'TLSv1.3') return namesIn(plainMessages(records), namesOfTls12)
      return secret === null ? null : namesIn(sealedMessages(records, secret, secure.getCipher().name), namesOfTls13)
    } catch (error) {
      if (error instanceof RangeError) return null
      throw error
    }
  }
}

/** A chain of certificates and a few hundred names fit; what a server sends beyond is not read. */
const largestHandshake = 256 * 1024

const recordType = { changeCipherSpec: 20, handshake: 22, applicationData: 23 } as const
const messageType = { certificateRequest: 13, finished: 20 } as const
/** RFC 8446 section 4.2: the extension certificate_authorities. */
const certificateAuthoritiesExtension = 47

interface TlsRecord {
  readonly type: number
  /** The five bytes that stand before it, which AEAD covers under TLS 1.3. */
  readonly header: Buffer
  readonly body: Buffer
}

function recordsOf(bytes: Buffer): readonly TlsRecord[] {
  const records: TlsRecord[] = []
  for (let at = 0; at + 5 <= bytes.length; ) {
    const end = at + 5 + bytes.readUInt16BE(at + 3)
    if (end > bytes.length) break
    records.push({ type: bytes.readUInt8(at), header: bytes.subarray(at, at + 5), body: bytes.subarray(at + 5, end) })
    at = end
  }
  return records
}

function plainMessages(records: readonly TlsRecord[]): Buffer {
  const ciphered = records.findIndex(({ type }) => type === recordType.changeCipherSpec)
  const plain = ciphered === -1 ? records : records.slice(0, ciphered)
  return Buffer.concat(plain.filter(({ type }) => type === recordType.handshake).map(({ body }) => body))
}

/** RFC 8446 section 5.2: what follows the ServerHello, up to Finished, after which another key is used. */
function sealedMessages(records: readonly TlsRecord[], secret: Buffer, cipher: string): Buffer {
  const suite = suites[cipher]
  if (suite === undefined) throw new RangeError(`${cipher} is no cipher suite of TLS 1.3`)
  const key = expandLabel(suite.hash, secret, 'key', suite.keyBytes)
  const iv = expandLabel(suite.hash, secret, 'iv', 12)
  let messages = Buffer.alloc(0)
  let sequence = 0
  for (const { header, body } of records.filter(({ type }) => type === recordType.applicationData)) {
    const nonce = Buffer.from(iv)
    nonce.writeUInt32BE((nonce.readUInt32BE(8) ^ sequence++) >>> 0, 8)
    const tag = body.length - 16
    if (tag < 0) throw new RangeError('a record is shorter than its tag')
    const decipher = suite.decipher(key, nonce)
    decipher.setAAD(header, { plaintextLength: tag })
    decipher.setAuthTag(body.subarray(tag))
    const inner = opened(decipher, body.subarray(0, tag))
    let end = inner.length
    while (end > 0 && inner[end - 1] === 0) end -= 1
    if (inner[end - 1] !== recordType.handshake) continue
    messages = Buffer.concat([messages, inner.subarray(0, end - 1)])
    if (messagesOf(messages).some(({ type }) => type === messageType.finished)) return messages
  }
  return messages
}

function opened(decipher: DecipherGCM | DecipherChaCha20Poly1305, sealed: Buffer): Buffer {
  try {
    return Buffer.concat([decipher.update(sealed), decipher.final()])
  } catch {
    throw new RangeError('a record does not open with the key of its handshake')
  }
}

const suites: Readonly<Record<string, Suite>> = {
  TLS_AES_128_GCM_SHA256: {
    keyBytes: 16,
    hash: 'sha256',
    decipher: (key, nonce) => createDecipheriv('aes-128-gcm', key, nonce),
  },
  TLS_AES_256_GCM_SHA384: {
    keyBytes: 32,
    hash: 'sha384',
    decipher: (key, nonce) => createDecipheriv('aes-256-gcm', key, nonce),
  },
  TLS_CHACHA20_POLY1305_SHA256: {
    keyBytes: 32,
    hash: 'sha256',
    decipher: (key, nonce) => createDecipheriv('chacha20-poly1305', key, nonce, { authTagLength: 16 }),
  },
}

interface Suite {
  readonly keyBytes: 16 | 32
  readonly hash: 'sha256' | 'sha384'
  decipher(key: Buffer, nonce: Buffer): DecipherGCM | DecipherChaCha20Poly1305
}

/** HKDF-Expand-Label of RFC 8446 section 7.1 without a context. One block of HMAC is enough for a key and for an IV. */
function expandLabel(hash: Suite['hash'], secret: Buffer, label: string, length: number): Buffer {
  const full = Buffer.from(`tls13 ${label}`, 'latin1')
  const info = Buffer.concat([Buffer.from([0, length, full.length]), full, Buffer.from([0, 1])])
  return createHmac(hash, secret).update(info).digest().subarray(0, length)
}

interface Message {
  readonly type: number
  readonly body: Buffer
}

function messagesOf(bytes: Buffer): readonly Message[] {
  const messages: Message[] = []
  for (let at = 0; at + 4 <= bytes.length; ) {
    const end = at + 4 + bytes.readUIntBE(at + 1, 3)
    if (end > bytes.length) break
    messages.push({ type: bytes.readUInt8(at), body: bytes.subarray(at + 4, end) })
    at = end
  }
  return messages
}

function namesIn(messages: Buffer, namesOf: (request: Buffer) => readonly Buffer[]): readonly Buffer[] | null {
  const request = messagesOf(messages).find(({ type }) => type === messageType.certificateRequest)
  return request === undefined ? null : namesOf(request.body)
}

/** Types of certificates, algorithms of signatures, names. */
function namesOfTls12(request: Buffer): readonly Buffer[] {
  const algorithms = 1 + request.readUInt8(0)
  const names = algorithms + 2 + request.readUInt16BE(algorithms)
  return vectors(vectorAt(request, names))
}

/** A context, then extensions; without the one of names the server takes whatever it can verify, and names nobody. */
function namesOfTls13(request: Buffer): readonly Buffer[] {
  const extensions = vectorAt(request, 1 + request.readUInt8(0))
  for (let at = 0; at < extensions.length; ) {
    const data = vectorAt(extensions, at + 2)
    if (extensions.readUInt16BE(at) === certificateAuthoritiesExtension) return vectors(vectorAt(data, 0))
    at += 4 + data.length
  }
  return []
}

/** A length of two bytes, and as many bytes. Throws RangeError where there are fewer. */
function vectorAt(bytes: Buffer, at: number): Buffer {
  const end = at + 2 + bytes.readUInt16BE(at)
  if (end > bytes.length) throw new RangeError('a vector ends beyond its message')
  return bytes.subarray(at + 2, end)
}

function vectors(bytes: Buffer): readonly Buffer[] {
  const found: Buffer[] = []
  for (let at = 0; at < bytes.length; ) {
    const vector = vectorAt(bytes, at)
    found.push(Buffer.from(vector))
    at += 2 + vector.length
  }
  return found
}
