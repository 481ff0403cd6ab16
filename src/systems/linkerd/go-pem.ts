import { joinPem } from '../../pki/bundle.ts'
import { readCertificate } from '../../pki/certificate.ts'
import type { Fingerprint } from '../../rotation.ts'

/** What Go makes of a text of trust anchors: certificates in their order, or the reason why identity and proxies would not start with it. */
export type GoAnchors =
  | { readonly ok: true; readonly anchors: readonly Fingerprint[] }
  | { readonly ok: false; readonly reason: string }

/**
 * The one form in which anchors are written: blocks joined by one newline, one at the end, nothing else. linkerd2's reader gives up on
 * whatever stands behind the last block, a blank line too (pkg/tls/codec.go; linkerd2#3414).
 */
export function anchorText(pems: readonly string[]): string {
  return joinPem(...pems)
}

/**
 * Reads anchors as linkerd2 pkg/tls/codec.go does: block by block until the buffer is empty. Text before a block is skipped, text behind
 * the last one is an error, and a block that is no certificate ends the reading in silence, so that anchors after it are lost.
 */
export function readAsGo(text: string): GoAnchors {
  const anchors: Fingerprint[] = []
  let rest = text
  while (rest.length > 0) {
    const block = nextBlock(rest)
    if (block === null) return { ok: false, reason: 'not a PEM certificate' }
    if (block.label !== 'CERTIFICATE') break
    try {
      anchors.push(readCertificate(`${block.pem}\n`).sha256)
    } catch {
      return { ok: false, reason: 'a certificate that cannot be parsed' }
    }
    rest = block.rest
  }
  if (anchors.length === 0) return { ok: false, reason: 'no certificates found' }
  return { ok: true, anchors }
}

interface Block {
  readonly label: string
  readonly pem: string
  readonly rest: string
}

/**
 * The next block as encoding/pem's Decode finds it: BEGIN at the start of a line, END alone on its line but for blanks. Null too where a block is cut
 * off and another one begins: some versions of Go then look for an END from the first BEGIN, others for the BEGIN nearest to that END.
 */
function nextBlock(text: string): Block | null {
  const begin = /(^|\n)-----BEGIN ([^\n]*?)-----[ \t\r]*\n/g
  for (let found = begin.exec(text); found !== null; found = begin.exec(text)) {
    const label = found[2] ?? ''
    const start = found.index + (found[1] ?? '').length
    const body = text.slice(begin.lastIndex)
    // Right behind the BEGIN line, or at the start of a later one.
    const end = /(^|\n)-----END ([^\n]*?)-----([^\n]*)(\n|$)/.exec(body)
    if (end === null || /(^|\n)-----BEGIN /.test(body.slice(0, end.index))) return null
    if (end[2] === label && (end[3] ?? '').trim() === '' && !label.includes('-----')) {
      const stop = begin.lastIndex + end.index + end[0].length
      return { label, pem: text.slice(start, stop).trimEnd(), rest: text.slice(stop) }
    }
    begin.lastIndex += end.index + 1
  }
  return null
}
