import { ipBytes } from './addresses.ts'
import type { Certificate } from './certificate.ts'
import { isDnsName } from './profile.ts'

/** What a verifier expects the other end to be called. */
export interface ExpectedName {
  readonly kind: 'DNS' | 'IP' | 'URI'
  readonly value: string
}

/**
 * Whether a subjectAltName is the expected name (RFC 9525 §6). The common name never counts. A URI is compared as text:
 * SPIFFE IDs have one form (SPIFFE-ID §2).
 */
export function nameMatches(certificate: Certificate, expected: ExpectedName): boolean {
  const names = certificate.parts.extensions.names ?? []
  switch (expected.kind) {
    case 'URI':
      return names.some(name => name.kind === 'URI' && name.value === expected.value)
    case 'IP': {
      const bytes = ipBytes(expected.value)
      return bytes !== null && names.some(name => name.kind === 'IP' && name.bytes.equals(bytes))
    }
    case 'DNS': {
      const host = expected.value.toLowerCase().replace(/\.$/, '')
      if (!isDnsName(host.replaceAll('_', 'x')) || host.startsWith('*')) return false
      return names.some(name => name.kind === 'DNS' && hostMatches(name.value.toLowerCase(), host))
    }
  }
}

/** RFC 9525 §6.3: `*` only as the whole left-most label, and it stands for exactly one label. */
function hostMatches(pattern: string, host: string): boolean {
  if (!pattern.includes('*')) return pattern === host
  const [first, ...rest] = pattern.split('.')
  if (first !== '*' || rest.length < 2 || rest.some(label => label.includes('*') || label === '')) return false
  return host.split('.').slice(1).join('.') === rest.join('.')
}
