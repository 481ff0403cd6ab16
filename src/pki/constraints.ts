import { type Certificate, isSelfIssued } from './certificate.ts'
import type { GeneralName } from './extensions.ts'
import { attributeTexts, commonName, comparableRdn, emailAddress } from './names.ts'
import { isDnsName } from './profile.ts'

/** Counts comparisons: names times constraints is quadratic in what a stranger sends. */
export interface Counter {
  left: number
}

export type ConstraintResult = 'inside' | 'outside' | 'too-much-work'

/**
 * Whether the names of a certificate lie within the name constraints of a CA above it (RFC 5280 §4.2.1.10, §6.1.3 (b)
 * and (c)). A self-issued certificate is exempt unless it is the last of the path.
 */
export function withinConstraints(
  ca: Certificate,
  below: Certificate,
  last: boolean,
  counter: Counter,
): ConstraintResult {
  if (ca.parts.extensions.nameConstraints === null || (!last && isSelfIssued(below))) return 'inside'
  const names = constrainedNames(below)
  return namesWithin(ca, last ? [...names, ...hostsInCommonName(below, names)] : names, counter)
}

/** The same as Go has it (crypto/x509 verify.go): self-issued certificates too, and no host in a common name, which it has not read since 1.15. */
export function withinConstraintsOfGo(ca: Certificate, below: Certificate, counter: Counter): ConstraintResult {
  return namesWithin(ca, constrainedNames(below), counter)
}

function namesWithin(ca: Certificate, names: readonly GeneralName[], counter: Counter): ConstraintResult {
  const constraints = ca.parts.extensions.nameConstraints
  if (constraints === null) return 'inside'
  for (const name of names) {
    const excluded = constraints.excluded.filter(base => sameKind(base, name))
    const permitted = constraints.permitted.filter(base => sameKind(base, name))
    counter.left -= constraints.excluded.length + constraints.permitted.length
    if (counter.left < 0) return 'too-much-work'
    // RFC 5280 §4.2.1.10: a constraint that cannot be judged must refuse names of its kind.
    if (name.kind === 'other' && excluded.length + permitted.length > 0) return 'outside'
    if (excluded.some(base => touches(base, name))) return 'outside'
    if (permitted.length > 0 && !permitted.some(base => covers(base, name))) return 'outside'
  }
  return 'inside'
}

function constrainedNames(certificate: Certificate): readonly GeneralName[] {
  const { subject, extensions } = certificate.parts
  const names: GeneralName[] = [...(extensions.names ?? [])]
  if (subject.rdns.length > 0) names.push({ kind: 'directory', name: subject })
  if (!names.some(name => name.kind === 'email')) {
    names.push(...attributeTexts(subject, emailAddress).map(value => ({ kind: 'email', value }) as const))
  }
  return names
}

/** OpenSSL and BoringSSL hold a host in the common name to DNS constraints where no DNS name stands beside it. */
function hostsInCommonName({ parts }: Certificate, names: readonly GeneralName[]): readonly GeneralName[] {
  if (names.some(name => name.kind === 'DNS')) return []
  const hosts = attributeTexts(parts.subject, commonName).filter(text => text.includes('.') && isDnsName(text))
  return hosts.map(value => ({ kind: 'DNS', value }) as const)
}

function sameKind(base: GeneralName, name: GeneralName): boolean {
  if (base.kind !== name.kind) return false
  if (base.kind === 'other' && name.kind === 'other') return base.tag === name.tag
  return true
}

/** Every name that this stands for lies in the subtree. */
function covers(base: GeneralName, name: GeneralName): boolean {
  if (base.kind === 'DNS' && name.kind === 'DNS')
    return domainWithin(name.value.replace(/^\*\./, ''), base.value, name.value.startsWith('*.'))
  return inSubtree(base, name)
}

/** Some name that this stands for lies in the subtree: a wildcard reaches into a subtree below it (CVE-2025-61727). */
function touches(base: GeneralName, name: GeneralName): boolean {
  if (base.kind !== 'DNS' || name.kind !== 'DNS' || !name.value.startsWith('*.')) return covers(base, name)
  const above = name.value.slice(2)
  if (domainWithin(above, base.value, true)) return true
  const [label, ...rest] = base.value.replace(/^\./, '').split('.')
  return label !== undefined && rest.join('.').toLowerCase() === above.toLowerCase()
}

function inSubtree(base: GeneralName, name: GeneralName): boolean {
  switch (base.kind) {
    case 'DNS':
      return false
    case 'IP':
      return name.kind === 'IP' && addressWithin(name.bytes, base.bytes)
    case 'email':
      return name.kind === 'email' && mailboxWithin(name.value, base.value)
    case 'URI':
      return name.kind === 'URI' && hostWithin(uriHost(name.value), base.value)
    case 'directory':
      return (
        name.kind === 'directory' &&
        base.name.rdns.length <= name.name.rdns.length &&
        base.name.rdns.every((rdn, index) => comparableRdn(rdn) === comparableRdn(name.name.rdns[index]!))
      )
    case 'other':
      return false
  }
}

/** Zero or more labels added to the left of the base. A leading period, where a CA wrote one, asks for at least one. */
function domainWithin(domain: string, base: string, hasLabelMore: boolean): boolean {
  if (base === '') return true
  const name = domain.toLowerCase().replace(/\.$/, '')
  const bare = base.toLowerCase().replace(/^\./, '')
  return (name === bare && (hasLabelMore || !base.startsWith('.'))) || name.endsWith(`.${bare}`)
}

function addressWithin(address: Buffer, range: Buffer): boolean {
  if (range.length !== address.length * 2) return false
  return address.every((byte, index) => ((byte ^ range[index]!) & range[address.length + index]!) === 0)
}

function mailboxWithin(mailbox: string, base: string): boolean {
  if (base === '') return true
  const at = mailbox.lastIndexOf('@')
  const local = mailbox.slice(0, at)
  const host = mailbox.slice(at + 1)
  const baseAt = base.lastIndexOf('@')
  if (baseAt < 0) return hostWithin(host, base)
  return local === base.slice(0, baseAt) && host.toLowerCase() === base.slice(baseAt + 1).toLowerCase()
}

/** A host means exactly that host, `.domain` every host below it. Null (a URI without one) is never within. */
function hostWithin(host: string | null, base: string): boolean {
  if (host === null) return false
  if (base === '') return true
  const name = host.toLowerCase()
  const wanted = base.toLowerCase()
  return wanted.startsWith('.') ? name.endsWith(wanted) && name.length > wanted.length : name === wanted
}

/** The host of a URI with an authority; null for one without, or with an address in its place (RFC 5280 §4.2.1.10). */
function uriHost(uri: string): string | null {
  const authority = /^[A-Za-z][A-Za-z0-9+.-]*:\/\/([^/?#]*)/.exec(uri)?.[1]
  const host = authority?.replace(/^.*@/, '').replace(/:\d*$/, '')
  return host === undefined || host === '' || host.startsWith('[') || !isDnsName(host) ? null : host
}
