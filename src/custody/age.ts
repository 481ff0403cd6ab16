import { ReanchorError, type Where } from '../errors.ts'

/** Seals a data key to one age recipient and gives the armored file, as the `enc` field of a SOPS file holds it. */
export type WrapDataKey = (key: Uint8Array, recipient: string) => Promise<string>

const exampleRecipient = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p'

/**
 * The default `WrapDataKey`. Its randomness is the system's CSPRNG; age-encryption takes no other, so a caller that needs
 * reproducible bytes passes a `WrapDataKey` of its own.
 */
export async function wrapDataKey(key: Uint8Array, recipient: string): Promise<string> {
  return await ageEncrypt(key, [recipient])
}

/** Armored age file that any one of the recipients can open; ends with a newline. */
export async function ageEncrypt(plain: Uint8Array, recipients: readonly string[]): Promise<string> {
  const { Encrypter, armor } = await import('age-encryption')
  const encrypter = new Encrypter()
  for (const recipient of recipients) encrypter.addRecipient(recipient)
  return armor.encode(await encrypter.encrypt(plain))
}

/** The content of an armored age file, or null where none of the identities opens it or it is damaged. */
export async function ageDecrypt(armored: string, identities: readonly string[]): Promise<Buffer | null> {
  const { Decrypter, armor } = await import('age-encryption')
  const decrypter = new Decrypter()
  for (const identity of identities) decrypter.addIdentity(identity)
  try {
    return Buffer.from(await decrypter.decrypt(armor.decode(armored)))
  } catch {
    // Causes are dropped on purpose: a library's message about a private identity has no place in our errors.
    return null
  }
}

/**
 * Identities in the text of an age key file, as SOPS_AGE_KEY and SOPS_AGE_KEY_FILE hold it: one per line, `#` comments
 * and blank lines between. Throws where a line is neither; the line's text is never repeated.
 */
export function readIdentities(text: string, where: Where = {}): readonly string[] {
  const identities: string[] = []
  for (const [index, raw] of text.split(/\r?\n/).entries()) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#')) continue
    if (!isIdentity(line)) {
      throw new ReanchorError({
        what: 'this line of the age key file is no age identity',
        where: { ...where, line: index + 1 },
        expected: 'a line that begins with AGE-SECRET-KEY-1, a comment or a blank line',
        found: 'something else (not shown: it may be secret)',
        todo: 'give the file that age-keygen wrote; identities of plugins and SSH keys are not supported',
      })
    }
    identities.push(line)
  }
  if (identities.length > 0) return identities
  throw new ReanchorError({
    what: 'the age key file holds no identity',
    where,
    expected: 'a line that begins with AGE-SECRET-KEY-1',
    found: 'none',
    todo: 'point SOPS_AGE_KEY_FILE to the file that age-keygen wrote',
  })
}

function isIdentity(line: string): boolean {
  const decoded = bech32(line.toLowerCase())
  return line === line.toUpperCase() && decoded?.prefix === 'age-secret-key-' && decoded.bytes.length === 32
}

/**
 * The recipient, if it is a native X25519 one with a right checksum; throws otherwise.
 * Only that form is understood by every `sops` and Flux version in use, so others are refused by name.
 */
export function checkRecipient(text: string, where: Where = {}): string {
  const refuse = (what: string, todo: string): never => {
    throw new ReanchorError({
      what,
      where,
      expected: 'a native age recipient (age1 and 58 more characters)',
      found: text.length > 100 ? `${text.slice(0, 100)}…` : text,
      todo,
      example: exampleRecipient,
    })
  }
  if (/^age-secret-key-/i.test(text)) {
    throw new ReanchorError({
      what: 'a private age identity stands where a public recipient belongs',
      where,
      expected: 'a public recipient (age1…)',
      found: 'AGE-SECRET-KEY-… (not shown)',
      todo: 'treat the identity as leaked if the file was committed; write the output of `age-keygen -y` instead',
    })
  }
  if (text.startsWith('ssh-')) {
    refuse(
      'SSH recipients are not supported',
      'add a native age recipient: an ssh key in use for logins should not also guard a certificate authority',
    )
  }
  const decoded = bech32(text)
  if (text !== text.toLowerCase() || !text.startsWith('age1')) {
    refuse('not an age recipient', 'write the public key that `age-keygen -y` prints')
  }
  if (decoded === null && !/^age1[a-z0-9]+1/.test(text.slice(0, 20))) {
    refuse('the age recipient is mistyped: its checksum does not fit', 'copy it again from `age-keygen -y`')
  }
  if (decoded?.prefix !== 'age' || decoded.bytes.length !== 32) {
    refuse(
      'age recipients of plugins and post-quantum ones are not supported',
      'use a native X25519 recipient, or seal with the sops binary yourself',
    )
  }
  return text
}

/** Checked, without repeats, in the order given. Throws where there is none. */
export function checkRecipients(recipients: readonly string[], where: Where = {}): readonly string[] {
  if (recipients.length === 0) {
    throw new ReanchorError({
      what: 'no age recipient to seal to',
      where,
      expected: 'at least one age recipient',
      found: 'none',
      todo: 'name recipients in rotation.yaml under spec.custody.sops.age, or in a creation rule of .sops.yaml',
      example: exampleRecipient,
    })
  }
  return [...new Set(recipients.map(recipient => checkRecipient(recipient, where)))]
}

const alphabet = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l'
const generators = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3]

/** BIP-173 decoding of lower-case text, null where it is not Bech32. Here and not from a library so that reading a rule loads no cryptography. */
function bech32(text: string): { readonly prefix: string; readonly bytes: Buffer } | null {
  const split = text.lastIndexOf('1')
  if (split < 1 || text.length - split < 7) return null
  const prefix = text.slice(0, split)
  const words = [...text.slice(split + 1)].map(letter => alphabet.indexOf(letter))
  if (words.includes(-1) || /[^!-~]/.test(prefix)) return null
  const codes = [...prefix].map(letter => letter.charCodeAt(0))
  const checked = [...codes.map(code => code >> 5), 0, ...codes.map(code => code & 31), ...words]
  let sum = 1
  for (const word of checked) {
    const top = sum >>> 25
    sum = ((sum & 0x1ffffff) << 5) ^ word
    for (const [bit, generator] of generators.entries()) if ((top >> bit) & 1) sum ^= generator
  }
  if (sum !== 1) return null

  const bytes: number[] = []
  let bits = 0
  let held = 0
  for (const word of words.slice(0, -6)) {
    held = ((held << 5) | word) & 0xfff
    bits += 5
    if (bits < 8) continue
    bits -= 8
    bytes.push((held >> bits) & 0xff)
  }
  return { prefix, bytes: Buffer.from(bytes) }
}
