import { createHash } from 'node:crypto'

/**
 * What the operator writes into the annotation `cassandra-cluster-checksum` of the CA Secret once it has taken its data up:
 * `sha1hex(fmt.Sprintf("%v", secret.Data))` (mr-cassop controllers/cassandra_tls.go).
 *
 * Go prints a map with sorted keys and a byte slice as decimal numbers: `map[ca.crt:[65 10] ca.key:[107]]`. Names of keys count,
 * metadata does not. A value is text here, as a CA Secret holds PEM; it is hashed as UTF-8.
 */
export function operatorChecksum(data: Readonly<Record<string, string>>): string {
  const hash = createHash('sha1')
  hash.update('map[')
  for (const [index, key] of keysInGoOrder(data).entries()) {
    hash.update(`${index === 0 ? '' : ' '}${key}:[${Buffer.from(data[key] ?? '').join(' ')}]`)
  }
  return hash.update(']').digest('hex')
}

/** By bytes, as Go sorts strings: `ca.crt` < `ca.key` < `ca2.crt`. */
export function keysInGoOrder(data: Readonly<Record<string, unknown>>): readonly string[] {
  return Object.keys(data).sort((one, other) => Buffer.compare(Buffer.from(one), Buffer.from(other)))
}
