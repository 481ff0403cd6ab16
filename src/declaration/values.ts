import { posix } from 'node:path'
import { readAllowedSigner } from '../signature/allowed-signers.ts'

/**
 * The small values that rotation.yaml is made of. Every `…Problem` function returns null where the value is fine, and
 * otherwise what is wrong with it; none throws.
 */

export interface Problem {
  readonly what: string
  readonly expected: string
  readonly todo?: string
  readonly example?: string
}

// ----------------------------------------------------------------------------------------------------- durations

const second = 1000
const unitMilliseconds = { ms: 1, s: second, m: 60 * second, h: 3600 * second, d: 86_400 * second } as const
type Unit = keyof typeof unitMilliseconds

/** As a JSON Schema pattern; unanchored parts are read by `parseDuration`. */
export const durationPattern = '^([0-9]{1,10}(ms|s|m|h|d))+$'

/** Milliseconds of `10m`, `1h30m`, `3650d` or `500ms`; null where the text is no duration. Days are 24 hours. */
export function parseDuration(text: string): number | null {
  if (!new RegExp(durationPattern).test(text)) return null
  let sum = 0
  for (const [, digits, unit] of text.matchAll(/(\d+)(ms|[smhd])/g)) {
    sum += Number(digits) * unitMilliseconds[unit as Unit]
  }
  return sum
}

/** Milliseconds of a text that the schema has passed as a duration. */
export function millisecondsOf(text: string): number {
  const value = parseDuration(text)
  if (value === null) throw new Error(`${text} passed the schema as a duration`)
  return value
}

/** The shortest text for that many milliseconds, in the largest of `units` that divides it. */
export function formatDuration(milliseconds: number, units: readonly Unit[] = ['d', 'h', 'm', 's', 'ms']): string {
  if (milliseconds === 0) return '0s'
  const unit = units.find(candidate => milliseconds % unitMilliseconds[candidate] === 0) ?? 'ms'
  return `${milliseconds / unitMilliseconds[unit]}${unit}`
}

export function durationProblem(text: string, shortest: string, longest: string): Problem | null {
  const value = parseDuration(text)
  const expected = `a duration from ${shortest} to ${longest}`
  if (value === null) {
    return {
      what: 'is not a duration',
      expected,
      todo: 'write a whole number and a unit: ms, s, m, h or d',
      example: shortest === '0s' ? '10m' : shortest,
    }
  }
  const low = parseDuration(shortest) ?? 0
  const high = parseDuration(longest) ?? 0
  if (value >= low && value <= high) return null
  return { what: value < low ? 'is too short' : 'is too long', expected }
}

/** Validity is counted in whole days, so that a certificate's dates can be told from the declaration at a glance. */
export function validityProblem(text: string, longestDays: number): Problem | null {
  const problem = durationProblem(text, '1d', `${longestDays}d`)
  if (problem !== null) return { ...problem, example: '3650d' }
  if ((parseDuration(text) ?? 0) % unitMilliseconds.d === 0) return null
  return { what: 'is not a whole number of days', expected: `a duration from 1d to ${longestDays}d`, example: '730d' }
}

/** Whole days of a duration that `validityProblem` found nothing wrong with. */
export function daysOf(text: string): number {
  return (parseDuration(text) ?? 0) / unitMilliseconds.d
}

// ---------------------------------------------------------------------------------------------------------- names

/** RFC 1123 label, as Kubernetes names are. */
export const labelPattern = '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'

export function labelProblem(text: string, longest: number): Problem | null {
  const expected = `lower-case letters, digits and dashes, beginning and ending with a letter or digit, at most ${longest} characters`
  const suggestion = text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, longest)
    .replace(/^-+|-+$/g, '')
  const todo = suggestion === '' ? 'choose such a name' : `write ${suggestion}`
  if (text.length > longest) return { what: `is longer than ${longest} characters`, expected, todo }
  if (new RegExp(labelPattern).test(text)) return null
  if (text.startsWith('-')) return { what: 'begins with a dash', expected, todo }
  return { what: 'is not a legal name', expected, todo }
}

/** Dots are allowed where Kubernetes allows them: RFC 1123 subdomain, at most 253 characters. */
export const subdomainPattern = '^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$'

export function subdomainProblem(text: string): Problem | null {
  if (text.length <= 253 && new RegExp(subdomainPattern).test(text) && !text.includes('..')) return null
  return {
    what: 'is not a legal name',
    expected: 'a Kubernetes name: lower-case letters, digits, dashes and dots, at most 253 characters',
  }
}

/** Who is vouched for: a name of one's own, or what a gate found, as `namespace/name` or `namespace/*`. */
export const vouchedPattern = '^[a-z0-9]([-a-z0-9]*[a-z0-9])?(/([*]|[a-z0-9]([-a-z0-9.]*[a-z0-9])?))?$'

export function vouchedProblem(text: string): Problem | null {
  const slash = text.indexOf('/')
  if (slash < 0) return labelProblem(text, 63)
  const [namespace, name] = [text.slice(0, slash), text.slice(slash + 1)]
  if (labelProblem(namespace, 63) === null && (name === '*' || subdomainProblem(name) === null)) return null
  return {
    what: 'is not a legal name',
    expected:
      'a name of your own, such as partner-vms, or machines in a cluster: namespace/name, or namespace/* for all',
  }
}

/** `namespace/name` of an object. */
export const objectPattern = '^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?$'

export function objectProblem(text: string): Problem | null {
  if (splitObject(text) !== null) return null
  return {
    what: 'does not name an object',
    expected: 'namespace/name, both in lower-case letters, digits and dashes',
    example: 'flux-system/trust',
  }
}

/** Null where the text is not `namespace/name`. */
export function splitObject(text: string): { readonly namespace: string; readonly name: string } | null {
  const [namespace, name, ...rest] = text.split('/')
  if (namespace === undefined || name === undefined || rest.length > 0) return null
  if (labelProblem(namespace, 63) !== null || subdomainProblem(name) !== null) return null
  return { namespace, name }
}

/** Rules of `git check-ref-format --branch`, and what would collide with branches that reanchor makes itself. */
export function branchProblem(text: string): Problem | null {
  const expected = 'a branch name that Git accepts'
  const example = 'main'
  const problem = (what: string, todo?: string): Problem =>
    todo === undefined ? { what, expected, example } : { what, expected, todo, example }
  if (text === '') return problem('is empty')
  if (text.length > 200) return problem('is longer than 200 characters')
  if (text.startsWith('-')) return problem('begins with a dash, which Git would take for an option')
  if (text.startsWith('refs/')) return problem('is a full ref name', `write ${text.replace(/^refs\/(heads\/)?/, '')}`)
  if (text === 'HEAD' || text === '@') return problem('is not a branch but a symbolic name of Git')
  if (text.startsWith('reanchor/')) {
    return problem(
      'begins with reanchor/, where the branches of pull requests are',
      'name the branch that Flux or Argo CD follows',
    )
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: exactly these are what Git refuses
  if (/[\u0000-\u0020\u007f~^:?*[\\]/.test(text)) return problem('holds a blank or one of ~ ^ : ? * [ \\')
  if (text.includes('..') || text.includes('@{')) return problem('holds .. or @{')
  if (text.startsWith('/') || text.endsWith('/') || text.includes('//'))
    return problem('has an empty part between slashes')
  if (text.endsWith('.')) return problem('ends with a dot')
  const part = text.split('/').find(piece => piece.startsWith('.') || piece.endsWith('.lock'))
  if (part !== undefined) return problem(`has the part ${part}, which begins with a dot or ends with .lock`)
  return null
}

// ---------------------------------------------------------------------------------------------------------- paths

/** As a JSON Schema pattern: a rough form of `repositoryPathProblem`, for editors. */
export const repositoryPathPattern = '^[A-Za-z0-9_.@+=][A-Za-z0-9_.@+=-]*(/[A-Za-z0-9_.@+=-]+)*$'

/** A file or folder of this repository: relative to its root, in one spelling only, so that paths can be compared as text. */
export function repositoryPathProblem(text: string): Problem | null {
  const expected = 'a path inside the repository, relative to its root'
  const example = 'trust/eu-1'
  const problem = (what: string, todo?: string): Problem =>
    todo === undefined ? { what, expected, example } : { what, expected, todo, example }
  if (text === '') return problem('is empty')
  if (text.startsWith('/') || /^[A-Za-z]:[\\/]/.test(text)) return problem('is an absolute path')
  if (text.includes('\\')) return problem('holds a backslash', `write ${text.replaceAll('\\', '/')}`)
  const normal = posix.normalize(text).replace(/\/$/, '')
  if (normal === '..' || normal.startsWith('../')) return problem('leaves the repository')
  if (normal === '.') return problem('is the root of the repository', 'name a folder of its own')
  if (text.startsWith('-')) return problem('begins with a dash, which commands would take for an option')
  if (normal !== text) return problem('is not in its shortest form', `write ${normal}`)
  if (!new RegExp(repositoryPathPattern).test(text)) {
    return problem('holds characters other than letters, digits and _ . @ + = - /')
  }
  if (text.split('/').some(part => part.toLowerCase() === '.git')) return problem("lies in Git's own folder")
  return null
}

/** A file on this machine: relative to the repository's root, or absolute. */
export function filePathProblem(text: string): Problem | null {
  const expected = "a file: a path relative to the repository's root, or an absolute one"
  const example = '../material/root-cert.pem'
  if (text === '') return { what: 'is empty', expected, example }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: no file of ours has one, a pasted PEM block has
  if (/[\u0000-\u001f\u007f]/.test(text)) {
    return {
      what: 'holds a line break or a control character',
      expected,
      todo: 'name the file; do not paste its content',
      example,
    }
  }
  if (text.startsWith('~'))
    return { what: 'begins with ~, which only a shell replaces', expected, todo: 'write the whole path', example }
  if (text.startsWith('-'))
    return { what: 'begins with a dash, which commands would take for an option', expected, example }
  return null
}

/** As `filePathProblem`, and not inside the repository: a plain private key that lies there is soon committed. */
export function keyFileProblem(text: string, repository: string | null): Problem | null {
  const problem = filePathProblem(text)
  if (problem !== null) return problem
  const absolute = text.startsWith('/') || /^[A-Za-z]:[\\/]/.test(text)
  const normal = posix.normalize(text)
  const inside = absolute
    ? repository !== null && isWithin(normal, posix.normalize(repository))
    : normal !== '..' && !normal.startsWith('../')
  if (!inside) return null
  return {
    what: 'is a private key inside the repository',
    expected: 'a file outside the repository: a plain key that lies in it is soon committed',
    todo: 'move the key out of the repository; if it was ever committed, treat it as known to others',
    example: `../keys/${posix.basename(normal)}`,
  }
}

/** Whether `path` is `folder` or lies below it. Case is ignored: some file systems do not tell it. */
export function isWithin(path: string, folder: string): boolean {
  const inner = path.toLowerCase()
  const outer = folder.toLowerCase().replace(/\/$/, '')
  return inner === outer || inner.startsWith(`${outer}/`)
}

// ----------------------------------------------------------------------------------------------------- recipients

const bech32Alphabet = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l'
/** BIP 173: generator of the Bech32 checksum. */
const bech32Generator = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3] as const

export const recipientPattern = `^age1[${bech32Alphabet}]{58}$`

/** An X25519 recipient of age: Bech32 (BIP 173) with the prefix `age`. The checksum finds what was mistyped. */
export function recipientProblem(text: string): Problem | null {
  const expected = 'a recipient of age (X25519): age1 and 58 more characters'
  const todo = 'print it with: age-keygen -y KEYFILE'
  if (/^age-(secret|plugin)/i.test(text)) {
    return { what: 'is a private key of age', expected, todo: `take it out of this file, make a new key; ${todo}` }
  }
  if (!new RegExp(recipientPattern).test(text)) return { what: 'is not a recipient of age', expected, todo }
  if (bech32Checksum('age', text.slice(4)) === 1) return null
  return { what: 'is mistyped: its checksum does not hold', expected, todo }
}

function bech32Checksum(prefix: string, data: string): number {
  const high = [...prefix].map(character => character.charCodeAt(0) >> 5)
  const low = [...prefix].map(character => character.charCodeAt(0) & 31)
  const values = [...high, 0, ...low, ...[...data].map(character => bech32Alphabet.indexOf(character))]
  let checksum = 1
  for (const value of values) {
    const top = checksum >>> 25
    checksum = ((checksum & 0x1ffffff) << 5) ^ value
    for (const [bit, factor] of bech32Generator.entries()) {
      if (((top >>> bit) & 1) === 1) checksum ^= factor
    }
  }
  return checksum >>> 0
}

// ---------------------------------------------------------------------------------------------------------- signers

export const signerExample = 'runner ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC3qT4mTz2JiHQ4sVw+ytoLniPtYfgrVppXiPN2xLXIF'

/** A Job that reports every five minutes may miss one turn. */
export const usualWithin = 900_000

export const reportsPattern = '^reports(/[A-Za-z0-9][A-Za-z0-9._-]*)+$'

/** A ref under refs/reanchor/, apart from those that locks and plans have there. */
export function reportsProblem(text: string): Problem | null {
  const parts = text.split('/')
  const sound =
    new RegExp(reportsPattern).test(text) &&
    text.length <= 100 &&
    !parts.some(part => part.includes('..') || part.endsWith('.') || part.endsWith('.lock'))
  if (sound) return null
  return {
    what: 'is no name of reports',
    expected: 'reports/ and a name of letters, digits, dots, dashes and underscores, such as the site',
    example: 'reports/eu-1',
  }
}

/** A line of an allowed-signers file. */
export function signerProblem(text: string): Problem | null {
  const read = readAllowedSigner(text)
  if (!('problem' in read)) return null
  return {
    what: read.problem,
    expected: 'a name and an SSH public key, as a line of an allowed-signers file (ssh-keygen(1))',
    todo: 'write a name in front of what `cat FILE.pub` shows',
    example: signerExample,
  }
}

// -------------------------------------------------------------------------------------------------------- subjects

/** Upper bounds of RFC 5280 appendix A.1. */
const longestAttribute: Readonly<Record<string, number>> = { CN: 64, O: 64, OU: 64, L: 128, ST: 128, SERIALNUMBER: 64 }
const knownAttributes = ['CN', 'O', 'OU', 'C', 'L', 'ST', 'STREET', 'DC', 'UID', 'SERIALNUMBER']

/** An RFC 4514 name; only the form is looked at. */
export function subjectProblem(text: string): Problem | null {
  const expected = 'a distinguished name as RFC 4514 writes it'
  const example = 'CN=mesh-2026 root,O=cluster.local'
  const problem = (what: string): Problem => ({ what, expected, example })
  if (text.trim() === '') return problem('is empty')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they have no place in a name that people compare by eye
  if (/[\u0000-\u001f\u007f]/.test(text)) return problem('holds a line break or a control character')
  for (const part of text.split(/(?<!\\)[,+]/)) {
    const attribute = /^\s*([A-Za-z]+|[0-9]+(?:\.[0-9]+)+)\s*=\s*(.*?)\s*$/.exec(part)
    if (attribute === null) return problem(`has a part that is not TYPE=value: ${JSON.stringify(part.slice(0, 40))}`)
    const type = (attribute[1] ?? '').toUpperCase()
    const value = attribute[2] ?? ''
    if (/^[A-Z]/.test(type) && !knownAttributes.includes(type)) {
      return problem(`has the unknown attribute ${type}; known are ${knownAttributes.join(', ')}`)
    }
    if (value === '') return problem(`has an empty ${type}`)
    if (type === 'C' && !/^[A-Za-z]{2}$/.test(value)) return problem('has a country (C) that is not two letters')
    const longest = longestAttribute[type]
    if (longest !== undefined && [...value].length > longest) {
      return problem(`has a ${type} of more than ${longest} characters`)
    }
  }
  return null
}

/** For comparing what people wrote: attribute types in upper case, no blanks around separators. */
export function normalSubject(text: string): string {
  return text
    .split(/(?<!\\),/)
    .map(part => part.trim().replace(/^([^=]*?)\s*=\s*/, (_, type: string) => `${type.toUpperCase()}=`))
    .join(',')
}

// ---------------------------------------------------------------------------------------------------- near names

/** The candidate that is most likely meant, or null where none is near. Letters that changed places count as one slip. */
export function nearestName(name: string, candidates: readonly string[]): string | null {
  const wanted = name.toLowerCase().replace(/[-_\s]/g, '')
  const limit = Math.max(1, Math.floor(wanted.length / 3))
  let best: string | null = null
  let bestDistance = limit + 1
  for (const candidate of candidates) {
    const distance = editDistance(wanted, candidate.toLowerCase().replace(/[-_\s]/g, ''))
    if (distance >= bestDistance) continue
    best = candidate
    bestDistance = distance
  }
  return best
}

/** Optimal string alignment distance. Texts longer than 64 characters are not compared: nobody mistypes those. */
function editDistance(left: string, right: string): number {
  if (left.length > 64 || right.length > 64) return Math.max(left.length, right.length)
  let beforeLast: number[] = []
  let last = Array.from({ length: right.length + 1 }, (_, column) => column)
  for (let row = 1; row <= left.length; row += 1) {
    const current = [row]
    for (let column = 1; column <= right.length; column += 1) {
      const same = left[row - 1] === right[column - 1]
      let distance = Math.min(
        (last[column] ?? 0) + 1,
        (current[column - 1] ?? 0) + 1,
        (last[column - 1] ?? 0) + (same ? 0 : 1),
      )
      const swapped =
        row > 1 && column > 1 && left[row - 1] === right[column - 2] && left[row - 2] === right[column - 1]
      if (swapped) distance = Math.min(distance, (beforeLast[column - 2] ?? 0) + 1)
      current.push(distance)
    }
    beforeLast = last
    last = current
  }
  return last[right.length] ?? 0
}

// --------------------------------------------------------------------------------------------------------- secrets

/** PEM private keys, age identities, and base64 of a PEM block: none of these is ever repeated in an error. */
const secretPattern = /-----BEGIN [A-Z0-9 ]*PRIVATE KEY|AGE-SECRET-KEY-|LS0tLS1CRUdJTi/

/** Offset of what looks like private key material, or null. */
export function secretOffset(text: string): number | null {
  const at = text.search(secretPattern)
  return at < 0 ? null : at
}

/** A value as an error may show it: short, on one line, and never key material. */
export function shown(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (value === null) return 'nothing (an empty value)'
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : `a list of ${value.length}`
  if (typeof value === 'object') {
    const keys = Object.keys(value)
    if (keys.length === 0) return 'a map without fields'
    const listed = keys.slice(0, 8).map(key => shownText(key, 40))
    return `a map with ${listed.join(', ')}${keys.length > 8 ? ', …' : ''}`
  }
  if (typeof value === 'string') return JSON.stringify(shownText(value, 80))
  return `${String(value)} (a ${typeof value})`
}

function shownText(text: string, longest: number): string {
  if (secretOffset(text) !== null) return '(not shown: it looks like a private key)'
  // A long run of base64 may be a key in DER: say how long it is instead.
  if (/[A-Za-z0-9+/]{65,}/.test(text)) return `(${text.length} characters, not shown)`
  return text.length > longest ? `${text.slice(0, longest)}…` : text
}
