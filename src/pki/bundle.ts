import { ReanchorError, type Where } from '../errors.ts'
import type { Fingerprint } from '../rotation.ts'
import { type Certificate, readCertificate } from './certificate.ts'
import { printable, readPem } from './pem.ts'

export { joinPem } from './pem.ts'

/** A trust bundle with its two faces: the exact bytes, and the set of anchors. */
export interface Bundle {
  /** The text as it was given, byte for byte. */
  readonly text: string
  /** In the order of the text, repeats kept: both carry meaning for Istio. */
  readonly certificates: readonly Certificate[]
  readonly anchors: ReadonlySet<Fingerprint>
  /** Fingerprints that stand more than once, each with how often. */
  readonly repeats: ReadonlyMap<Fingerprint, number>
  /** What is unusual but was accepted (live bundles only), one sentence each. */
  readonly remarks: readonly string[]
}

export interface BundleOptions {
  readonly file?: string | undefined
  /** `Secret istio-system/cacerts` and the like: where the text comes from when it is no file. */
  readonly object?: string | undefined
  /**
   * True (the default) for what a cluster holds: a repeat, CRLF, a missing final newline and text between the blocks are
   * remarks. False for a user's file, where each of them is an error.
   */
  readonly allowRepeats?: boolean
  /** Refuse a certificate without cA; true unless said otherwise. False for chains that begin with a leaf. */
  readonly requireCa?: boolean
}

/**
 * Reads a trust bundle strictly. Always refused, by name and with the line: a private key, any block that is no
 * certificate, PEM headers, markers glued together, a block cut off, a certificate that is no CA, and an empty bundle
 * (a consumer that trusts nobody is never what was meant).
 */
export function readBundle(text: string, options: BundleOptions = {}): Bundle {
  const live = options.allowRepeats ?? true
  const where = (line?: number): Where => ({
    ...(options.file === undefined ? {} : { file: options.file }),
    ...(line === undefined ? {} : { line }),
    ...(options.object === undefined ? {} : { object: options.object }),
  })
  const { blocks, remarks } = readPem(text, { file: options.file, object: options.object, strict: !live })
  if (blocks.length === 0) {
    throw new ReanchorError({
      what: 'a bundle without a certificate',
      where: where(),
      expected: 'at least one CERTIFICATE block',
      todo: 'give the PEM file of the certificate',
    })
  }

  const certificates: Certificate[] = []
  const firstAt = new Map<Fingerprint, number>()
  const counts = new Map<Fingerprint, number>()
  for (const block of blocks) {
    if (block.label !== 'CERTIFICATE') {
      throw new ReanchorError({
        what: 'a block that is no certificate',
        where: where(block.line),
        expected: 'CERTIFICATE blocks only',
        found: `BEGIN ${printable(block.label)}`,
        todo: 'take the block out',
      })
    }
    const certificate = readCertificate(block.der, where(block.line))
    if ((options.requireCa ?? true) && !certificate.ca) {
      throw new ReanchorError({
        what: 'a certificate that is no CA in a trust bundle',
        where: where(block.line),
        expected: 'basicConstraints with cA true',
        found: `${certificate.subject} (${certificate.sha256})`,
        todo: 'give the root that signs it instead of the leaf',
      })
    }
    const first = firstAt.get(certificate.sha256)
    if (first !== undefined && !live) {
      throw new ReanchorError({
        what: 'the same certificate twice',
        where: where(block.line),
        found: `${certificate.subject} (${certificate.sha256}), first at line ${first}`,
        todo: 'leave it in once; where a repeat has a meaning, reanchor writes it itself',
      })
    }
    if (first === undefined) firstAt.set(certificate.sha256, block.line)
    counts.set(certificate.sha256, (counts.get(certificate.sha256) ?? 0) + 1)
    certificates.push(certificate)
  }
  return {
    text,
    certificates,
    anchors: new Set(firstAt.keys()),
    repeats: new Map([...counts].filter(([, count]) => count > 1)),
    remarks,
  }
}
