import { createHash } from 'node:crypto'
import { ReanchorError, type Where } from '../errors.ts'
import type { Custody, PlainSecret } from './custody.ts'
import { createGuard } from './guard.ts'
import { checkPlainSecret, readManifest, secretId, writeManifest } from './manifest.ts'
import { oneAtATime } from './one-at-a-time.ts'
import {
  checkRegexReach,
  encryptedRegex,
  isSealedValue,
  objectId,
  readBlock,
  type SealedFile,
  secretTree,
} from './sops-document.ts'
import type { SopsProgram } from './sops-program.ts'
import type { SopsRule } from './sops-rules.ts'

export interface SopsByProgramOptions {
  readonly program: SopsProgram
  /** The creation rule of a destination. Throws where there is none. */
  readonly rule: (destination: string) => SopsRule
  /** Manifests of an earlier plan whose sealed values are to be kept; those that SOPS did not seal are passed over. */
  readonly keep?: readonly SealedFile[]
}

/** The private values of one Secret as one call of the program sealed them, and the `sops` block that belongs to them, byte for byte. */
interface SealedTogether {
  readonly values: ReadonlyMap<string, string>
  readonly block: string
  readonly masters: string
}

/**
 * Seals by the sops program, for rules whose keys are not age recipients alone.
 *
 * The program sees the private values only, and each set of them once: a document with equal private values keeps their ciphertext and its
 * whole `sops` block, since the MAC covers nothing else. Where one of several private values of a Secret changes, all are sealed anew: the data
 * key lies with the program.
 */
export function createSopsByProgramCustody(options: SopsByProgramOptions): Custody {
  const guard = createGuard(isSealedValue)
  const byPlain = new Map<string, SealedTogether>()
  const kept = new Map<string, SealedTogether[]>()
  for (const file of options.keep ?? []) keepSealed(file, kept)
  const presentMasters = new Map<number, Promise<string>>()

  async function sealTogether(values: ReadonlyMap<string, string>, rule: SopsRule): Promise<SealedTogether> {
    const data = Object.fromEntries([...values].map(([key, value]) => [key, Buffer.from(value).toString('base64')]))
    const regex = encryptedRegex([...values.keys()])
    const sealed = await options.program.encrypt(`${JSON.stringify({ data })}\n`, rule, regex)
    return readSealedTogether(sealed, [...values.keys()], rule.where)
  }

  /** Whom the rule seals to now, in the program's own words. */
  async function mastersOf(rule: SopsRule): Promise<string> {
    const known = presentMasters.get(rule.number)
    const asked = known ?? sealTogether(new Map([['probe', 'nothing secret']]), rule).then(({ masters }) => masters)
    presentMasters.set(rule.number, asked)
    return await asked
  }

  async function together(
    secret: PlainSecret,
    keys: readonly string[],
    destination: string,
    where: Where,
  ): Promise<SealedTogether> {
    const rule = options.rule(destination)
    const id = objectId(destination, secret)
    const values = new Map(keys.map(key => [key, secret.data[key] ?? '']))
    if ([...values.values()].some(isSealedValue)) {
      const found = (kept.get(id) ?? []).find(
        each => each.values.size === values.size && keys.every(key => each.values.get(key) === values.get(key)),
      )
      if (found === undefined) throw strangers(where)
      const present = await mastersOf(rule)
      if (present !== found.masters) throw otherMasters(where, present, found.masters)
      return found
    }
    const plain = [id, rule.number, ...[...values].flatMap(([key, value]) => [key, sha256(value)])].join('\0')
    const sealed = byPlain.get(plain) ?? (await sealTogether(values, rule))
    byPlain.set(plain, sealed)
    kept.set(id, [...(kept.get(id) ?? []), sealed])
    return sealed
  }

  async function seal(secret: PlainSecret, destination: string): Promise<string> {
    const where: Where = { file: destination, object: secretId(secret) }
    checkPlainSecret(secret, destination)
    const keys = [...new Set(secret.privateKeys)].sort()
    checkRegexReach(secret, keys, where)
    const sealed = await together(secret, keys, destination, where)
    const text = `${writeManifest(secretTree(secret, sealed.values))}${sealed.block}`
    guard(text, secret, destination)
    return text
  }

  return {
    kind: 'sops',
    // Two calls for one Secret must not both ask the program.
    seal: oneAtATime(seal),
  }
}

/** As the program wrote it: the block ends the document, and stands there as text so that nothing in it is read and written again. */
function readSealedTogether(yaml: string, keys: readonly string[], where: Where): SealedTogether {
  const { sops, data } = readManifest(yaml).object()
  const { masters, macOnlyEncrypted } = readBlock(sops, where, { ageAlone: false })
  const texts = data as Readonly<Record<string, unknown>> | undefined
  const values = new Map(keys.map(key => [key, texts?.[key]]))
  const block = blockText(yaml)
  if (block !== null && macOnlyEncrypted && [...values.values()].every(isSealed))
    return { values: values as Map<string, string>, block, masters: masters.join('; ') }
  throw new ReanchorError({
    what: 'the sops program did not seal what it was told to',
    where,
    expected: `${keys.join(', ')} sealed, and a MAC over sealed values alone (mac_only_encrypted, sops 3.9 and newer)`,
    found: 'another document (not shown)',
    todo: 'use a newer sops',
  })
}

function keepSealed(file: SealedFile, kept: Map<string, SealedTogether[]>): void {
  const where: Where = { file: file.file ?? file.destination }
  const { sops, data, metadata } = readManifest(file.yaml, where.file).object()
  if (sops === undefined) return
  const { masters, encrypts } = readBlock(sops, where, { ageAlone: false })
  const block = blockText(file.yaml)
  const { name, namespace = '' } = (metadata ?? {}) as { readonly name?: string; readonly namespace?: string }
  if (block === null || name === undefined) return
  const sealed = Object.entries((data ?? {}) as Record<string, string>).filter(([key]) => encrypts(['data', key]))
  const id = objectId(file.destination, { name, namespace })
  kept.set(id, [...(kept.get(id) ?? []), { values: new Map(sealed), block, masters: masters.join('; ') }])
}

function blockText(yaml: string): string | null {
  const start = yaml.search(/^sops:\n/m)
  if (start < 0) return null
  const block = yaml.slice(start)
  // Behind it nothing else may stand.
  return /\n[^\s]/.test(block) ? null : `${block.trimEnd()}\n`
}

function isSealed(value: unknown): value is string {
  return typeof value === 'string' && isSealedValue(value)
}

function strangers(where: Where): ReanchorError {
  return new ReanchorError({
    what: 'kept and new private values cannot be sealed in one manifest: their data key lies with the keys of the rule',
    where,
    expected: 'all private values of one manifest that was sealed before, or all of them anew',
    found: 'a sealed value that no manifest given to keep holds beside these',
    todo: 'give all private values anew',
  })
}

function otherMasters(where: Where, expected: string, found: string): ReanchorError {
  return new ReanchorError({
    what: 'the keys of the rule have changed, and a kept value cannot be sealed to others',
    where,
    expected,
    found,
    todo: 'give the private value itself, or put the rule back until this rotation is through',
  })
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
