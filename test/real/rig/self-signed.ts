import { join } from 'node:path'
import { output } from './components.ts'

/** PEM files of a certificate that signs itself, and that no machine trusts by itself. */
export interface CertificateFiles {
  readonly cert: string
  readonly key: string
}

/** Makes one for an address, in a folder that is there. */
export async function selfSigned(folder: string, address: string): Promise<CertificateFiles> {
  const files = { cert: join(folder, 'cert.pem'), key: join(folder, 'key.pem') }
  await output('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30'],
    ...['-subj', '/CN=servers of the tests', '-addext', `subjectAltName=IP:${address}`],
    ...['-keyout', files.key, '-out', files.cert],
  ])
  return files
}
