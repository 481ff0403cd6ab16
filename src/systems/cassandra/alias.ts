import { exitCodes, ReanchorError } from '../../errors.ts'
import type { Certificate } from '../../pki/certificate.ts'
import { comparableRdn } from '../../pki/names.ts'

/**
 * Two CAs with equal aliases are one entry of a truststore: the operator names entries by Subject (go-pkcs12, EncodeTrustStore), and
 * Java's PKCS12 keystore lower-cases names. Which of the two is lost is chance, as Go walks maps in no order.
 *
 * Go also writes the attributes of a Subject in an order of its own, so their order in the certificate tells nothing apart.
 */
export function aliasOf(certificate: Certificate): string {
  return certificate.parts.subject.rdns
    .flat()
    .map(attribute => comparableRdn([attribute]))
    .sort()
    .join(',')
}

export interface AliasedEntry {
  /** Key of the CA Secret. */
  readonly key: string
  readonly certificate: Certificate
}

/**
 * Refuses a new CA that a truststore could not hold beside those that are in it (F8, F9). Nodes whose trusted CA is lost fail every
 * handshake with `Certificate signature validation failed`, on the first restart after it. Exit 5.
 */
export function refuseEqualAliases(present: readonly AliasedEntry[], next: Certificate, object: string): void {
  for (const [index, one] of present.entries()) {
    const twin = present
      .slice(index + 1)
      .find(
        each =>
          each.certificate.sha256 !== one.certificate.sha256 && aliasOf(each.certificate) === aliasOf(one.certificate),
      )
    if (twin === undefined) continue
    throw new ReanchorError({
      what: 'two CAs in the Secret have one Subject, so every truststore holds only one of them, and chance decides which',
      where: { object },
      expected: 'a Subject of its own for every *.crt, compared without regard to case',
      found: `${one.key}: ${one.certificate.subject}; ${twin.key}: ${twin.certificate.subject}`,
      todo: 'take the one out that no node is signed by, wait for the restart of all nodes, then plan again',
      exit: exitCodes.refused,
    })
  }
  const taken = present.find(
    each => each.certificate.sha256 !== next.sha256 && aliasOf(each.certificate) === aliasOf(next),
  )
  if (taken === undefined) return
  throw new ReanchorError({
    what: 'the new CA has the Subject of one that is in the Secret already',
    where: { object },
    expected:
      'a Subject that no *.crt of the Secret has, compared without regard to case: it becomes the alias in the truststore',
    found: `${next.subject} for the new CA, ${taken.certificate.subject} in ${taken.key}`,
    todo: 'choose another spec.next.generate.subject, or make the CA again under another Subject',
    example: `O=cassandra-ca-${next.notBefore.slice(0, 10).replaceAll('-', '')}`,
    exit: exitCodes.refused,
  })
}
