import { baseName, folderOf, join } from '../gitops/paths.ts'
import type { CertificateFacts, Fingerprint } from '../rotation.ts'
import { code, listed, plural, sentence, visible } from './escape.ts'
import { type FoundPlace, type PlaceRole, placeName, readTrustPlaces } from './trust-places.ts'

export type CertificateFate = 'added' | 'kept' | 'removed' | 'moved' | 'repeated'

export interface CertificateChange {
  readonly fate: CertificateFate
  readonly sha256: Fingerprint
  readonly subject: string
  readonly key: string
  readonly notAfter: string
  /** How often it stands in the place. */
  readonly count: { readonly before: number; readonly after: number }
  /** Others of this place with the same key and the same subject: what chains to one of them chains to all. */
  readonly twins: readonly Fingerprint[]
  /** `same key as …`, `same subject as …`: what makes two certificates easy to take for one another. */
  readonly remarks: readonly string[]
}

export interface PlaceChange {
  readonly file: string
  readonly object: string | null
  readonly key: string | null
  readonly role: PlaceRole
  readonly fate: 'added' | 'removed' | 'changed'
  readonly certificates: readonly CertificateChange[]
  /** The set of certificates differs; false: only order, repeats or bytes. */
  readonly setChanged: boolean
  readonly orderChanged: boolean
  /** A value that only the cluster can open. */
  readonly sealed: 'added' | 'removed' | 'changed' | null
  readonly problems: readonly string[]
}

/** A change of trust: what a reviewer is asked to agree to. */
export interface TrustChange {
  /** True where no certificate, no sealed value and no order differs. */
  readonly none: boolean
  readonly places: readonly PlaceChange[]
  /** Who is affected and how, one sentence each, the gravest first. */
  readonly affected: readonly string[]
}

/** What changes in trust between two sets of files (path → text). Files that are equal or hold no certificate count for nothing. */
export function describeChange(
  before: Readonly<Record<string, string>>,
  after: Readonly<Record<string, string>>,
): TrustChange {
  const places: PlaceChange[] = []
  for (const file of [...new Set([...Object.keys(before), ...Object.keys(after)])].sort()) {
    const [old, now] = [own(before, file), own(after, file)]
    if (old === now) continue
    places.push(...describePlaces(readTrustPlaces(file, old ?? ''), readTrustPlaces(file, now ?? '')))
  }
  return changeOf(places, rolesOf(before, after))
}

/** As `describeChange`, for one file whose places have been read already. */
export function describePlaces(before: readonly FoundPlace[], after: readonly FoundPlace[]): readonly PlaceChange[] {
  const olds = new Map(before.map(place => [placeName(place), place]))
  const news = new Map(after.map(place => [placeName(place), place]))
  const changes: PlaceChange[] = []
  for (const name of new Set([...olds.keys(), ...news.keys()])) {
    const change = describePlace(olds.get(name), news.get(name))
    if (change !== null) changes.push(change)
  }
  return changes
}

/** `roles`: what places are for, by the name that they have in the texts of `rolesOf`; names in them are the user's, and tell nothing by themselves. */
export function changeOf(changes: readonly PlaceChange[], roles: ReadonlyMap<string, PlaceRole>): TrustChange {
  const known = changes.map(change => ({ ...change, role: roles.get(`${change.file}:${change.key}`) ?? change.role }))
  const places = known.map(change => ({ ...change, role: roleBeside(change, known) }))
  return { none: places.length === 0, places, affected: affectedBy(places) }
}

/** What trust.txt of each folder says its places are for, as `file:key`. What is no such line says nothing. */
export function rolesOf(...trees: readonly Readonly<Record<string, string>>[]): ReadonlyMap<string, PlaceRole> {
  const roles = new Map<string, PlaceRole>()
  for (const tree of trees) {
    for (const [file, text] of Object.entries(tree)) {
      if (baseName(file) !== 'trust.txt') continue
      for (const [, place = '', role] of text.matchAll(/^([^\s"]+) +(trusted|issuer|chain) /gm))
        roles.set(join(folderOf(file), place), role as PlaceRole)
    }
  }
  return roles
}

/** A PEM file beside an object is a copy of one of its values, for people to read: it is for what that value is for. */
function roleBeside(change: PlaceChange, changes: readonly PlaceChange[]): PlaceRole {
  if (change.object !== null) return change.role
  const [folder, stem] = [folderOf(change.file), stemOf(change.file)]
  const copies = changes.filter(
    other =>
      other.object !== null &&
      folderOf(other.file) === folder &&
      (other.key === stem || other.key === `${stem}.pem` || stemOf(other.file) === stem) &&
      JSON.stringify(other.certificates) === JSON.stringify(change.certificates),
  )
  return copies[0]?.role ?? change.role
}

function stemOf(file: string): string {
  return baseName(file).replace(/\.(pem|ya?ml)$/, '')
}

function own(files: Readonly<Record<string, string>>, file: string): string | undefined {
  return Object.hasOwn(files, file) ? files[file] : undefined
}

function describePlace(before: FoundPlace | undefined, after: FoundPlace | undefined): PlaceChange | null {
  const place = after ?? before
  if (place === undefined || before?.bytes === after?.bytes) return null
  const olds = before?.certificates ?? []
  const news = after?.certificates ?? []
  const certificates = compare(olds, news)
  return {
    file: place.file,
    object: place.object,
    key: place.key,
    role: place.role,
    fate: before === undefined ? 'added' : after === undefined ? 'removed' : 'changed',
    certificates,
    setChanged: certificates.some(change => change.fate === 'added' || change.fate === 'removed'),
    orderChanged: certificates.some(change => change.fate === 'moved'),
    sealed: sealedChange(before, after),
    problems: after?.problems ?? [],
  }
}

function sealedChange(before: FoundPlace | undefined, after: FoundPlace | undefined): PlaceChange['sealed'] {
  const [old, now] = [before?.sealed ?? null, after?.sealed ?? null]
  if (old === now) return null
  if (old === null) return 'added'
  return now === null ? 'removed' : 'changed'
}

function compare(
  before: readonly CertificateFacts[],
  after: readonly CertificateFacts[],
): readonly CertificateChange[] {
  const olds = counts(before)
  const news = counts(after)
  // Of what stays, the order: the first places of each certificate, without what was added or removed.
  const stayed = [...olds.keys()].filter(sha256 => news.has(sha256))
  const stays = [...news.keys()].filter(sha256 => olds.has(sha256))
  const all = new Map([...after, ...before].map(certificate => [certificate.sha256, certificate]))
  return [...all.values()].map(certificate => {
    const count = { before: olds.get(certificate.sha256) ?? 0, after: news.get(certificate.sha256) ?? 0 }
    const moved = stayed.indexOf(certificate.sha256) !== stays.indexOf(certificate.sha256)
    return {
      fate: fateOf(count, moved),
      sha256: certificate.sha256,
      subject: certificate.subject,
      key: certificate.key,
      notAfter: certificate.notAfter,
      count,
      twins: [...all.values()]
        .filter(other => other.sha256 !== certificate.sha256 && other.spki === certificate.spki)
        .filter(other => other.subject === certificate.subject)
        .map(other => other.sha256),
      remarks: remarksOn(certificate, [...all.values()], count),
    }
  })
}

function fateOf(count: CertificateChange['count'], moved: boolean): CertificateFate {
  if (count.before === 0) return 'added'
  if (count.after === 0) return 'removed'
  if (count.before !== count.after) return 'repeated'
  return moved ? 'moved' : 'kept'
}

function counts(certificates: readonly CertificateFacts[]): ReadonlyMap<Fingerprint, number> {
  const found = new Map<Fingerprint, number>()
  for (const certificate of certificates) found.set(certificate.sha256, (found.get(certificate.sha256) ?? 0) + 1)
  return found
}

function remarksOn(
  certificate: CertificateFacts,
  all: readonly CertificateFacts[],
  count: CertificateChange['count'],
): readonly string[] {
  const remarks: string[] = []
  for (const other of all) {
    if (other.sha256 === certificate.sha256) continue
    const sameKey = other.spki === certificate.spki
    const sameSubject = other.subject === certificate.subject
    if (sameKey)
      remarks.push(
        `same key as ${other.sha256.slice(0, 12)}: ${sameSubject ? 'a renewal, not a new CA' : 'another name for one key'}`,
      )
    else if (sameSubject)
      remarks.push(`same subject as ${other.sha256.slice(0, 12)}, other key: tell them apart by SHA-256`)
  }
  if (count.after > count.before && count.before > 0)
    remarks.push(
      `stands ${count.after} times (was ${count.before}): the repeat adds no trust, it makes proxies renew their leaf now`,
    )
  else if (count.after > 1) remarks.push(`stands ${count.after} times`)
  if (!certificate.ca) remarks.push('is no CA')
  return remarks
}

// ---------------------------------------------------------------------------------------------- who is affected

function affectedBy(places: readonly PlaceChange[]): readonly string[] {
  const grave: string[] = []
  const plain: string[] = []
  for (const place of places) {
    for (const problem of place.problems) grave.push(`${placeName(place)}: ${problem}.`)
    if (place.role === 'trusted' || place.role === 'other') {
      // Of the whole bundle: what leaves a key of it and stands under another stays trusted, and what leaves the key that signs may not.
      const bundle = [place, ...places.filter(other => other !== place && isOneBundle(place, other))]
      const inBundle = ({ sha256 }: CertificateChange, when: 'before' | 'after') =>
        bundle.some(other => other.certificates.some(each => each.sha256 === sha256 && each.count[when] > 0))
      const all = uniqueCertificates(bundle)
      const left = all.filter(change => inBundle(change, 'before') && !inBundle(change, 'after'))
      const stays = new Set(all.filter(change => inBundle(change, 'after')).map(({ sha256 }) => sha256))
      const replaced = left.filter(({ twins }) => twins.some(twin => stays.has(twin)))
      const gone = left.filter(change => !replaced.includes(change)).map(nameOf)
      for (const each of replaced)
        plain.push(
          `${nameOf(each)} goes, and nobody is refused for it: what chains to it chains to ${listed(each.twins.filter(twin => stays.has(twin)).map(twin => twin.slice(0, 12)))} too, which has the same key and subject.`,
        )
      const come = all.filter(change => !inBundle(change, 'before') && inBundle(change, 'after')).map(nameOf)
      const moved = place.certificates
        .filter(({ fate }) => fate === 'added' || fate === 'removed')
        .filter(change => inBundle(change, 'before') && inBundle(change, 'after'))
      if (moved.length > 0)
        plain.push(
          `${listed(moved.map(nameOf).sort())} only ${moved.length === 1 ? 'changes its place' : 'change places'} within one bundle: who trusts it goes on trusting ${moved.length === 1 ? 'that CA' : 'them'}.`,
        )
      if (gone.length > 0)
        grave.push(
          place.role === 'trusted'
            ? `Whoever still presents a certificate that chains only to ${listed(gone)} is refused by all that read this bundle.`
            : `${placeName(place)} no longer holds ${listed(gone)}: where it is read as trust, whoever still chains only to that is refused.`,
        )
      if (come.length > 0 && replaced.length === 0)
        plain.push(
          `All that read ${place.role === 'trusted' ? 'this bundle' : placeName(place)} accept certificates that chain to ${listed(come)}${gone.length === 0 ? '; nobody loses trust' : ''}.`,
        )
      if (!place.setChanged && place.certificates.some(change => change.fate === 'repeated'))
        plain.push('The set of trusted roots stays; the repeat alone makes proxies renew their leaf at once.')
      if (!place.setChanged && place.orderChanged)
        plain.push('The set of trusted roots stays; only their order changes.')
    }
    if (place.role === 'issuer') {
      const come = place.certificates.filter(change => change.fate === 'added').map(nameOf)
      const gone = place.certificates.filter(change => change.fate === 'removed').map(nameOf)
      if (come.length > 0 && gone.length > 0)
        plain.push(
          `New leaves are signed by ${listed(come)} instead of ${listed(gone)}: every peer must trust its root already.`,
        )
      else if (come.length > 0) plain.push(`New leaves are signed by ${listed(come)}.`)
      else if (gone.length > 0)
        grave.push(`The CA ${listed(gone)} is taken away: what reads it falls back to a CA of its own or stops.`)
    }
    if (place.role === 'presented' && place.setChanged)
      plain.push(`What presents ${placeName(place)} shows another certificate: its peers must trust what signed it.`)
    if (place.role !== 'key' && place.sealed === 'changed')
      plain.push(`What is sealed in ${placeName(place)} changes; only its consumer can tell to what.`)
    if (place.role === 'key' && place.sealed === 'changed') plain.push('The sealed private key of the CA changes.')
    if (place.role === 'key' && place.sealed === 'removed')
      grave.push('The sealed private key of the CA is taken away.')
  }
  return [...new Set([...grave, ...plain])]
}

function uniqueCertificates(places: readonly PlaceChange[]): readonly CertificateChange[] {
  return [...new Map(places.flatMap(place => place.certificates).map(change => [change.sha256, change])).values()]
}

/** Keys of one object, or PEM files of one folder, that are read together: the operator of Cassandra trusts every `ca*.crt` of its Secret, the CA that signs included. */
function isOneBundle(one: PlaceChange, other: PlaceChange): boolean {
  if (one.role !== 'trusted' || one.object !== other.object) return false
  const together = one.object === null ? folderOf(one.file) === folderOf(other.file) : one.file === other.file
  if (!together) return false
  return other.role === 'trusted' || (other.role === 'issuer' && /^ca.*\.crt$/.test(other.key ?? stemOf(other.file)))
}

function nameOf(certificate: Pick<CertificateChange, 'subject' | 'sha256'>): string {
  return `\`${certificate.subject}\` (${certificate.sha256.slice(0, 12)})`
}

// ------------------------------------------------------------------------------------------------------- words

const signs: Readonly<Record<CertificateFate, string>> = {
  added: '+',
  removed: '-',
  kept: '=',
  moved: '~',
  repeated: '*',
}

const roleWords: Readonly<Record<PlaceRole, string>> = {
  trusted: 'roots that are trusted',
  issuer: 'CA that signs leaves',
  chain: 'certificates sent with a leaf',
  presented: 'certificate of a server or client',
  key: 'private key of the CA',
  other: 'certificates',
}

/** A sealed value of no known role may be anything, such as the canary. */
function wordsOf(place: PlaceChange): string {
  return place.role === 'other' && place.sealed !== null ? 'other values' : roleWords[place.role]
}

/** Places that change in the same way, told once: a thousand sites must not be a thousand tables. */
export interface PlaceGroup {
  readonly change: PlaceChange
  readonly names: readonly string[]
}

function groupPlaces(places: readonly PlaceChange[]): readonly PlaceGroup[] {
  const groups = new Map<string, { change: PlaceChange; names: string[] }>()
  for (const change of places) {
    const key = JSON.stringify([change.role, change.fate, change.sealed, change.problems, change.certificates])
    const group = groups.get(key)
    if (group === undefined) groups.set(key, { change, names: [placeName(change)] })
    else group.names.push(placeName(change))
  }
  return [...groups.values()]
}

/** The change in plain text, for a terminal. */
export function trustDiffText(change: TrustChange): string {
  if (change.none) return 'no change of trust\n'
  const lines: string[] = []
  for (const { change: place, names } of groupPlaces(change.places)) {
    lines.push(visible(`${listed(names, 6)} (${wordsOf(place)}): ${headline(place)}`))
    for (const certificate of place.certificates) {
      lines.push(visible(`  ${signs[certificate.fate]} ${certificate.fate.padEnd(8)} ${certificate.subject}`))
      lines.push(`             SHA-256 ${certificate.sha256}, ${certificate.key}, ends ${certificate.notAfter}`)
      for (const remark of certificate.remarks) lines.push(visible(`             ${remark}`))
    }
    for (const problem of place.problems) lines.push(visible(`  ! ${problem}`))
    lines.push('')
  }
  for (const affected of change.affected) lines.push(visible(`> ${affected.replaceAll('`', '"')}`))
  return `${lines.join('\n').trimEnd()}\n`
}

/** The change as Markdown tables, one per group of places that change alike; at most `most` groups. `roles`: what a certificate is, by fingerprint. */
export function trustDiffMarkdown(
  change: TrustChange,
  options: { readonly most?: number; readonly roles?: ReadonlyMap<string, string> } = {},
): string {
  if (change.none) return 'No change of trust.\n'
  const groups = groupPlaces(change.places)
  const most = options.most ?? 40
  const lines: string[] = []
  const known = (sha256: string): string => {
    const role = options.roles?.get(sha256)
    return role === undefined ? '' : `**${role}** `
  }
  for (const { change: place, names } of groups.slice(0, most)) {
    const more = names.length > 4 ? ` and ${plural(names.length - 3, 'more place')}` : ''
    const shown = names.slice(0, names.length > 4 ? 3 : 4).map(code)
    lines.push(`**${wordsOf(place)}**: ${headline(place)} in ${shown.join(', ')}${more}`, '')
    if (place.certificates.length > 0) {
      lines.push('| | subject | SHA-256 | key | ends | |', '|---|---|---|---|---|---|')
      for (const certificate of place.certificates.slice(0, 50)) {
        const twice =
          certificate.fate === 'repeated' ? ['stands there more than once: other bytes, the same trust'] : []
        const remarks = [...certificate.remarks, ...twice].map(sentence).join('<br>')
        lines.push(
          `| ${certificate.fate === 'kept' ? 'kept' : `**${certificate.fate}**`} | ${known(certificate.sha256)}${code(certificate.subject)} | ${code(certificate.sha256)} | ${sentence(certificate.key)} | ${certificate.notAfter.slice(0, 10)} | ${remarks} |`,
        )
      }
      if (place.certificates.length > 50) lines.push(`| | and ${place.certificates.length - 50} more | | | | |`)
      lines.push('')
    }
    for (const problem of place.problems) lines.push(`> **${sentence(problem)}**`, '')
  }
  if (groups.length > most)
    lines.push(`… and ${plural(groups.length - most, 'more group')} of places; \`reanchor diff\` shows all.`, '')
  return `${lines.join('\n').trimEnd()}\n`
}

function headline(place: PlaceChange): string {
  if (place.sealed !== null) return `sealed value ${place.sealed}`
  if (place.fate !== 'changed') return place.fate
  if (place.certificates.length === 0) return 'changed'
  const parts: string[] = []
  for (const fate of ['added', 'removed', 'repeated', 'moved', 'kept'] as const) {
    const count = place.certificates.filter(change => change.fate === fate).length
    if (count > 0) parts.push(`${count} ${fate}`)
  }
  if (place.certificates.every(change => change.fate === 'kept')) parts.push('the bytes around them differ')
  return parts.join(', ')
}
