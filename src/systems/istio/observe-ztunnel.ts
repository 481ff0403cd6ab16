import { either, list, record, text } from '../../verify/values.ts'

export const ztunnelDumpPath = '/config_dump'

/** One identity that a ztunnel holds a certificate for. */
export interface ZtunnelCertificate {
  readonly identity: string
  /** `Available`, `Initializing` or `Unavailable: …`. */
  readonly state: string
  /** PEM, leaf first. */
  readonly chain: string
  /** PEM of the roots; older ztunnels show none, and then the last of the chain is one. */
  readonly roots: string
}

/** Reads `certificates[]` of ztunnel's /config_dump (istio/ztunnel src/admin.rs). Throws `SyntaxError` for what is not JSON. */
export function readZtunnelCertificates(answer: string): readonly ZtunnelCertificate[] {
  return list(record(JSON.parse(answer)).certificates).map(entry => {
    const chain = pems(either(entry, 'certChain', 'cert_chain'))
    const roots = pems(either(entry, 'rootCerts', 'root_certs'))
    return {
      identity: text(either(entry, 'identity')) ?? '',
      state: text(either(entry, 'state')) ?? '',
      chain: chain.join(''),
      roots: (roots.length > 0 ? roots : chain.slice(1).slice(-1)).join(''),
    }
  })
}

function pems(value: unknown): readonly string[] {
  return list(value).map(certificate => {
    const written = text(either(certificate, 'pem')) ?? ''
    // Base64 of the PEM text in every release seen; plain PEM is taken as well.
    const pem = written.includes('-----BEGIN') ? written : Buffer.from(written, 'base64').toString('latin1')
    return pem.endsWith('\n') ? pem : `${pem}\n`
  })
}
