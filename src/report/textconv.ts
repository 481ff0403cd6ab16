import { visible } from './escape.ts'
import { placeName, readTrustPlaces } from './trust-places.ts'

/**
 * A file as `git diff` should compare it (gitattributes(5), textconv): each certificate on lines of its own, sealed values by
 * digest, and a text without certificates as it is. Private keys are never written out, not even ones in the clear.
 */
export function textconv(text: string, path: string): string {
  const places = readTrustPlaces(path, text)
  if (places.length === 0) return text
  const lines: string[] = []
  for (const place of places) {
    const name =
      place.object === null
        ? path.slice(path.lastIndexOf('/') + 1)
        : placeName({ ...place, file: '' }).replace(/^: /, '')
    lines.push(visible(name))
    if (place.sealed !== null) lines.push(`  sealed ${place.sealed}`)
    for (const certificate of place.certificates) {
      lines.push(visible(`  ${certificate.subject}`))
      lines.push(`    SHA-256 ${certificate.sha256}`)
      lines.push(
        visible(
          `    ${certificate.key}, ${certificate.notBefore} to ${certificate.notAfter}, issuer ${certificate.issuer}`,
        ),
      )
    }
    for (const problem of place.problems) lines.push(`  ! ${problem}`)
  }
  return `${lines.join('\n')}\n${rest(text, path)}`
}

/** What stands around the certificates, so that a change of anything else still shows: values that were shown above are left out. */
function rest(text: string, path: string): string {
  if (!/\.(ya?ml|json)$/.test(path)) return ''
  return text
    .replace(/-----BEGIN [A-Z0-9 ]*-----[A-Za-z0-9+/=\s\\]*?-----END [A-Z0-9 ]*-----(\\n)?/g, '(shown above)')
    .replace(/-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[^\n]*(\n[A-Za-z0-9+/= \t]+)*/g, '(not shown)')
    .replace(/LS0tLS1CRUdJTi[A-Za-z0-9+/=]*(\n[ \t]+[A-Za-z0-9+/=]{40,}(?=\n|$))*/g, '(shown above)')
}
