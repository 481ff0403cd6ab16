import { parse } from 'yaml'
import * as z from 'zod'
import { exitCodes, ReanchorError } from '../errors.ts'
import { yamlText } from '../render/yaml.ts'
import type { Fingerprint, Instant } from '../rotation.ts'

/** What the gate has seen of one minted CA: from then on nothing else is taken. */
export interface MintPin {
  readonly site: string
  readonly namespace: string
  readonly name: string
  readonly sha256: Fingerprint
  /** What the issuer said is above it; null: nothing. */
  readonly root: Fingerprint | null
  readonly notAfter: Instant
  /** UID of the cluster. */
  readonly cluster: string
  readonly seenAt: Instant
}

const digest = z.string().regex(/^[0-9a-f]{64}$/)
const shape = z.strictObject({
  apiVersion: z.literal('reanchor.dev/v1alpha1'),
  kind: z.literal('MintedCas'),
  rotation: z.string(),
  pins: z.array(
    z.strictObject({
      site: z.string(),
      namespace: z.string(),
      name: z.string(),
      sha256: digest,
      root: digest.nullable(),
      notAfter: z.string(),
      cluster: z.string(),
      seenAt: z.string(),
    }),
  ),
})

export function writePins(rotation: string, pins: readonly MintPin[]): string {
  return yamlText(
    { apiVersion: 'reanchor.dev/v1alpha1', kind: 'MintedCas', rotation, pins },
    { comment: ' What cert-manager issued when the gate looked first. Nothing else is taken. Never edited.' },
  )
}

/** Throws ReanchorError (4) for a text that holds no pins of this rotation: then nothing says what may be taken. */
export function readPins(text: string, rotation: string, file: string): readonly MintPin[] {
  const read = shape.safeParse(parsed(text))
  if (read.success && read.data.rotation === rotation) return read.data.pins
  throw new ReanchorError({
    what: 'the record of what cert-manager issued cannot be read',
    where: { file },
    expected: `a document of kind MintedCas of rotation ${rotation}, as \`plan\` wrote it`,
    found: read.success ? `that of ${read.data.rotation}` : (read.error.issues[0]?.message ?? 'something else'),
    todo: 'find out who wrote there; without it nothing tells the CA that was seen from another: abandon this rotation and declare another',
    exit: exitCodes.violated,
  })
}

function parsed(text: string): unknown {
  try {
    return parse(text)
  } catch {
    return null
  }
}
