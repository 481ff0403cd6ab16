import { X509Certificate } from 'node:crypto'

/** SHA-256 of DER, lower-case hex, read past the product. A text is PEM. */
export function fingerprintOf(certificate: X509Certificate | string): string {
  const read = typeof certificate === 'string' ? new X509Certificate(certificate) : certificate
  return read.fingerprint256.replaceAll(':', '').toLowerCase()
}
