import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { output } from './components.ts'
import type { ControlPlane } from './control-plane.ts'
import { kymaNames } from './kyma-gateway.ts'
import type { Manifest } from './objects.ts'

export interface ClientCertificate {
  readonly certificate: string
  readonly key: string
  /** The CA that came with it, PEM. */
  readonly authority: string
  readonly notBefore: string
  readonly notAfter: string
}

/**
 * Stand-in for Kyma's connector-service, as far as a CA is concerned: at every request it reads its Secret through the API, of the certificate the first
 * PEM block; leaves have the serial 2 and live for 92 days (connector-service certificates.go).
 */
export interface Connector {
  sign(commonName: string): Promise<ClientCertificate>
}

const subject = '/C=DE/ST=Waldorf/L=Waldorf/O=Organization/OU=OrgUnit'

export async function startConnector(plane: ControlPlane): Promise<Connector> {
  const folder = join(plane.folder, 'connector')
  await mkdir(folder, { recursive: true })
  let requests = 0
  return {
    async sign(commonName) {
      const { namespace, name } = kymaNames.signer
      const found = (await plane.objects.get({ apiVersion: 'v1', kind: 'Secret', namespace, name })) as
        | (Manifest & { readonly data?: Readonly<Record<string, string>> })
        | null
      const text = (key: string): string => Buffer.from(found?.data?.[key] ?? '', 'base64').toString('utf8')
      const [first = ''] = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----\n?/.exec(text('ca.crt')) ?? []
      const own = join(folder, String(requests++))
      await mkdir(own)
      const openssl = (...args: string[]): Promise<string> => output('openssl', args, { cwd: own })
      await writeFile(join(own, 'ca.crt'), first)
      await writeFile(join(own, 'ca.key'), text('ca.key'), { mode: 0o600 })
      await writeFile(join(own, 'ext'), 'keyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n')
      const asked = ['-newkey', 'rsa:2048', '-nodes', '-keyout', 'tls.key', '-out', 'csr']
      await openssl('req', ...asked, '-subj', `${subject}/CN=${commonName}`)
      const signer = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-set_serial', '2', '-days', '92', '-sha256']
      await openssl('x509', '-req', '-in', 'csr', ...signer, '-extfile', 'ext', '-out', 'tls.crt')
      const { X509Certificate } = await import('node:crypto')
      const certificate = await readFile(join(own, 'tls.crt'), 'utf8')
      const read = new X509Certificate(certificate)
      return {
        certificate,
        key: await readFile(join(own, 'tls.key'), 'utf8'),
        authority: first,
        notBefore: new Date(read.validFrom).toISOString(),
        notAfter: new Date(read.validTo).toISOString(),
      }
    },
  }
}
