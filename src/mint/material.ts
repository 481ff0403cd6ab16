import type { KubernetesObject } from '../cluster/cluster.ts'
import { exitCodes, ReanchorError } from '../errors.ts'
import { joinPem, readBundle } from '../pki/bundle.ts'
import type { Certificate } from '../pki/certificate.ts'
import { keyMatches, readPrivateKey } from '../pki/keys.ts'
import type { NextSource } from '../rotation.ts'
import { at, text } from '../verify/values.ts'
import type { Mint } from './certificate.ts'
import { idOf } from './gate.ts'
import type { MintPin } from './pin.ts'

/** What a minted Secret holds. `key` is secret: it goes to a custody, never to a log or an error. */
export interface MintedCa {
  readonly mint: Mint
  readonly issuer: Certificate
  /** Leaf-ward first, as in tls.crt. */
  readonly chain: readonly Certificate[]
  readonly root: Certificate
  readonly key: string
}

/**
 * Takes a CA out of its Secret, which must hold what the gate has seen and nothing else (F16). `givenRoot`: the root as the declaration names it; else it is the Secret's
 * ca.crt, which is taken this once: it follows the issuer at renewals only. Throws ReanchorError; no error carries a byte of the key.
 */
export function mintedCa(
  mint: Mint,
  secret: KubernetesObject | null,
  pin: MintPin,
  givenRoot: Certificate | null,
): MintedCa {
  const object = `Secret ${mint.namespace}/${mint.name}`
  const refused = (what: string, expected: string, found: string, todo: string): ReanchorError =>
    new ReanchorError({
      what,
      where: { object: `site ${mint.site.name}, ${object}` },
      expected,
      found,
      todo,
      exit: exitCodes.refused,
    })
  if (secret === null)
    throw refused(
      'the minted CA is gone',
      `the Secret of ${idOf(mint)}`,
      'no such Secret',
      'find out who deleted it; cert-manager makes another with another key, which this rotation does not take: abandon it and declare another',
    )
  const value = (key: string): string => Buffer.from(text(at(secret, 'data', key)) ?? '', 'base64').toString()
  const chain = readBundle(value('tls.crt'), { object: `${object}, tls.crt`, requireCa: false }).certificates
  const [issuer] = chain
  if (issuer === undefined || issuer.sha256 !== pin.sha256)
    throw refused(
      'the Secret does not hold the CA that the gate has seen (F16)',
      `certificate ${pin.sha256}, pinned ${pin.seenAt}`,
      issuer?.sha256 ?? 'no certificate',
      'cert-manager, or somebody, has replaced it: find out who. This rotation takes no other: abandon it and declare another, which mints a CA of its own',
    )
  const key = value('tls.key')
  if (!keyMatches(issuer, readPrivateKey(key, { object: `${object}, tls.key` })))
    throw refused(
      'key and certificate of the minted CA do not belong together',
      `the key of ${issuer.sha256}`,
      'another key',
      'look who else writes this Secret; nothing of it is taken',
    )
  const root = givenRoot ?? rootIn(value('ca.crt'), chain, pin)
  if (root === null)
    throw refused(
      'the Secret does not tell the root above the minted CA',
      'a self-signed certificate in ca.crt, as the issuer gave it when the gate looked',
      value('ca.crt') === '' ? 'no ca.crt' : 'another certificate, or one that is not self-signed',
      'name the root yourself: spec.next.certManager.root',
    )
  return { mint, issuer, chain, root, key }
}

/** The root that the gate has seen, if it is still there. */
function rootIn(text: string, chain: readonly Certificate[], pin: MintPin): Certificate | null {
  const above = text.trim() === '' ? [] : readBundle(text, { requireCa: false }).certificates
  return [...above, ...chain].find(each => each.sha256 === pin.root) ?? null
}

/** Whether the Secret is older than its Certificate, which then took over a key that somebody had (F16). */
export function isOlder(secret: KubernetesObject, certificateCreatedAt: string | null): boolean {
  const made = Date.parse(secret.metadata.creationTimestamp ?? '')
  return certificateCreatedAt !== null && made < Date.parse(certificateCreatedAt)
}

/** The minted CAs as if they were files, so that each system holds them to what it asks of files. */
export function asFiles(minted: readonly MintedCa[]): {
  readonly source: Extract<NextSource, { from: 'files' }>
  readonly read: (path: string) => string
} {
  const texts = new Map<string, string>()
  const place = (mint: Mint, key: string, content: string): string => {
    const path = `${mint.site.name}: Secret ${mint.namespace}/${mint.name}, ${key}`
    texts.set(path, content)
    return path
  }
  const [first] = minted
  if (first === undefined) throw new Error('nothing was minted')
  const entries = minted.map(({ mint, issuer, chain, key }) => {
    const files = {
      certificate: place(mint, 'tls.crt', issuer.pem),
      key: place(mint, 'tls.key', key),
      chain: place(mint, 'tls.crt (chain)', joinPem(...chain.map(each => each.pem))),
    }
    return [minted.length > 1 ? mint.site.name : '*', files] as const
  })
  const root = place(first.mint, 'ca.crt', first.root.pem)
  return {
    source: { from: 'files', root, issuing: Object.fromEntries(entries) },
    read(path) {
      const found = texts.get(path)
      if (found === undefined) throw new Error(`nothing was minted as ${path}`)
      return found
    },
  }
}
