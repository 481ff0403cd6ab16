/** The data types of SSH (RFC 4251 section 5), as far as keys and signatures need them. */

/** Bytes that are no SSH data of the expected form. The message never quotes them: they may be a private key's. */
export class WireError extends Error {
  override name = 'WireError'
}

export interface WireReader {
  uint32(): number
  /** `string`: a length and as many bytes. */
  string(): Buffer
  text(): string
  /** `mpint` of a number that is not negative: its bytes without leading zeros. */
  unsigned(): Buffer
  /** So many bytes as they are. */
  bytes(count: number): Buffer
  rest(): Buffer
  /** Throws where bytes are left over. */
  end(): void
}

export function wireReader(data: Buffer): WireReader {
  let at = 0
  const bytes = (count: number): Buffer => {
    if (count > data.length - at) throw new WireError('it is cut off')
    at += count
    return data.subarray(at - count, at)
  }
  const uint32 = (): number => bytes(4).readUInt32BE()
  const string = (): Buffer => bytes(uint32())
  return {
    uint32,
    string,
    text: () => string().toString('latin1'),
    unsigned() {
      const number = string()
      if (((number[0] ?? 0) & 0x80) !== 0) throw new WireError('it holds a negative number')
      return withoutZeros(number)
    },
    bytes,
    rest: () => bytes(data.length - at),
    end() {
      if (at !== data.length) throw new WireError('bytes follow its end')
    },
  }
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

export function string(value: Uint8Array | string): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value, 'latin1') : value
  return Buffer.concat([uint32(bytes.length), bytes])
}

export function unsigned(value: Buffer): Buffer {
  const bytes = withoutZeros(value)
  return string(((bytes[0] ?? 0) & 0x80) === 0 ? bytes : Buffer.concat([Buffer.from([0]), bytes]))
}

function withoutZeros(bytes: Buffer): Buffer {
  const first = bytes.findIndex(byte => byte !== 0)
  return first < 0 ? bytes.subarray(bytes.length) : bytes.subarray(first)
}

/** Left padded with zeros to so many bytes. Throws where it does not fit. */
export function padded(bytes: Buffer, length: number): Buffer {
  if (bytes.length > length) throw new WireError('it holds a number that is too large')
  return Buffer.concat([Buffer.alloc(length - bytes.length), bytes])
}
