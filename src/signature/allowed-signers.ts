import type { Instant } from '../rotation.ts'
import { isKeyType, readPublicKey, type SshPublicKey } from './public-key.ts'
import { WireError } from './wire.ts'

/** One line of an allowed-signers file (ssh-keygen(1), ALLOWED SIGNERS), as git's `gpg.ssh.allowedSignersFile` has them. */
export interface AllowedSigner {
  /** Who signs: what is shown of a signature that holds. */
  readonly name: string
  readonly publicKey: SshPublicKey
  /** Namespaces that the key may sign in; null: any. */
  readonly namespaces: readonly string[] | null
  readonly validAfter: Instant | null
  readonly validBefore: Instant | null
}

const name = /^[A-Za-z0-9._@+:/-]{1,100}$/

/** Reads one line. What is wrong with it comes back as a phrase: no part of the line is quoted, as it may hold what does not belong there. */
export function readAllowedSigner(line: string): AllowedSigner | { readonly problem: string } {
  const words = wordsOf(line)
  const at = words.findIndex(isKeyType)
  const [who, ...options] = words.slice(0, Math.max(at, 1))
  if (who === undefined) return { problem: 'is empty' }
  if (/PRIVATE KEY/.test(line)) return { problem: 'is a private key' }
  if (isKeyType(who)) return { problem: 'names nobody in front of the key' }
  if (at < 0) return { problem: 'holds no key of a type that is taken' }
  if (!name.test(who)) return { problem: 'names nobody by a plain name: no commas, wildcards or quotes' }
  const base64 = words[at + 1] ?? ''
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(base64)) return { problem: 'holds no key after its type' }
  const read = optionsOf(options)
  if ('problem' in read) return read
  try {
    const publicKey = readPublicKey(Buffer.from(base64, 'base64'))
    if (publicKey.type !== words[at]) return { problem: 'names another type than its key has' }
    return { name: who, publicKey, ...read }
  } catch (error) {
    if (error instanceof WireError) return { problem: `holds a broken key: ${error.message}` }
    throw error
  }
}

/** Blanks between double quotes do not part words. */
function wordsOf(line: string): readonly string[] {
  return line.match(/(?:"[^"]*"|[^\s"])+/g) ?? []
}

type Options = Omit<AllowedSigner, 'name' | 'publicKey'>

function optionsOf(words: readonly string[]): Options | { readonly problem: string } {
  let found: Options = { namespaces: null, validAfter: null, validBefore: null }
  for (const option of words.flatMap(word => word.match(/(?:"[^"]*"|[^,"])+/g) ?? [])) {
    const [, key = option, value = ''] = /^([A-Za-z-]+)=(.*)$/s.exec(option) ?? []
    const plain = value.replaceAll('"', '')
    switch (key.toLowerCase()) {
      case 'namespaces':
        found = { ...found, namespaces: plain.split(',') }
        break
      case 'valid-after':
      case 'valid-before': {
        const instant = instantOf(plain)
        if (instant === null) return { problem: `has a ${key} that is not YYYYMMDDZ or YYYYMMDDhhmm[ss]Z` }
        found =
          key.toLowerCase() === 'valid-after' ? { ...found, validAfter: instant } : { ...found, validBefore: instant }
        break
      }
      case 'cert-authority':
        return { problem: 'is a certificate authority, and only keys are taken' }
      default:
        return { problem: 'has an option that is not known' }
    }
  }
  return found
}

/** Only with a Z: without one it would be the time zone of whoever judges. */
function instantOf(text: string): Instant | null {
  const parts = /^(\d{4})(\d\d)(\d\d)(?:(\d\d)(\d\d)(\d\d)?)?Z$/.exec(text)
  if (parts === null) return null
  const [, year, month, day, hour = '00', minute = '00', second = '00'] = parts
  const instant = `${year}-${month}-${day}T${hour}:${minute}:${second}Z`
  const time = Date.parse(instant)
  // 20260231Z would be read as a day of March.
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(`${year}-${month}-${day}`) ? instant : null
}
