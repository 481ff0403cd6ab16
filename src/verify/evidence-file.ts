import { type Document, isNode, LineCounter, parseAllDocuments, stringify } from 'yaml'
import { ReanchorError } from '../errors.ts'
import type { Evidence } from '../rotation.ts'
import { flag, foundText, isMap, listOf, mapOf, matching, orNull, type Shape, text } from '../shape.ts'
import type { Signer } from '../signature/sshsig.ts'
import { consumerClasses } from '../systems/consumers.ts'
import { alike, expanded, type WrittenException } from './alike.ts'
import { evidenceDigest, signEvidence } from './authorship.ts'
import { damagedReason } from './observation.ts'

/** A file of evidence: one YAML document per site, each closed by a digest of all the rest of it. */
export function writeEvidence(evidence: readonly Evidence[]): string {
  return evidence.map(one => documentText(one, null)).join('')
}

/** The same with a signature under each digest. */
export async function writeSignedEvidence(evidence: readonly Evidence[], signer: Signer | null): Promise<string> {
  const documents: string[] = []
  for (const one of evidence) {
    documents.push(documentText(one, signer === null ? null : await signEvidence(signer, asRead(one))))
  }
  return documents.join('')
}

/** Documents that were signed before keep their signature; the rest is signed by `signer`, if there is one. */
export async function writeWrittenEvidence(
  written: readonly WrittenEvidence[],
  signer: Signer | null,
): Promise<string> {
  const documents: string[] = []
  for (const { evidence, signature } of written)
    documents.push(
      signature === null ? await writeSignedEvidence([evidence], signer) : documentText(evidence, signature),
    )
  return documents.join('')
}

function documentText(evidence: Evidence, signature: string | null): string {
  const together = alike(evidence.exceptions)
  const content = {
    ...evidence,
    exceptions: together ?? evidence.exceptions,
    digest: evidenceDigest(asRead(evidence)),
    ...(signature === null ? {} : { signature }),
  }
  // No anchors for equal values and no folding: the text depends on the content and nothing else.
  return `---\n${stringify(content, { aliasDuplicateObjects: false, lineWidth: 0, singleQuote: false })}`
}

/** As it comes back: exceptions that were said together are sorted. Digest and signature are over this. */
function asRead(evidence: Evidence): Evidence {
  const together = alike(evidence.exceptions)
  return together === null ? evidence : { ...evidence, exceptions: expanded(together) }
}

export interface WrittenEvidence {
  readonly evidence: Evidence
  /** As it stands in the file, armored; null: there is none. */
  readonly signature: string | null
}

/** 100,000 pods fit in far less: groups stand for them. */
const largestFile = 32 * 1024 * 1024

/**
 * Reads a file of evidence strictly: unknown and missing fields, wrong types and a broken YAML are refused with their place (exit 2).
 * A document whose digest does not match is damaged or was edited: it is given back with an exception that makes every judgement of it `unknown`.
 */
export function readEvidence(text: string, file: string): readonly Evidence[] {
  return readWrittenEvidence(text, file).map(({ evidence }) => evidence)
}

/** What was read last, by its text: one command meets the same files on several commits, and a runner in every round. */
const lately = new Map<string, readonly WrittenEvidence[]>()
const [mostTexts, longestText] = [100, 200_000]

/** As `readEvidence`, with the signatures; they are not checked here. */
export function readWrittenEvidence(text: string, file: string): readonly WrittenEvidence[] {
  const key = `${file}\0${text}`
  const before = lately.get(key)
  if (before !== undefined) return before
  const written = readAnew(text, file)
  if (text.length > longestText) return written
  const [oldest] = lately.keys()
  if (oldest !== undefined && lately.size >= mostTexts) lately.delete(oldest)
  lately.set(key, written)
  return written
}

function readAnew(text: string, file: string): readonly WrittenEvidence[] {
  if (text.length > largestFile)
    throw located(file, 'evidence is too large', `at most ${largestFile} characters`, `${text.length}`)
  const lines = new LineCounter()
  const documents = parseAllDocuments(text, { lineCounter: lines, strict: true, uniqueKeys: true, version: '1.2' })
  if (!Array.isArray(documents)) return []
  return documents.map(document => {
    const [broken] = document.errors
    if (broken !== undefined) {
      const { line, col } = lines.linePos(broken.pos[0])
      throw located(file, 'evidence is not YAML', 'documents of kind Evidence', broken.message.split('\n')[0] ?? '', {
        line,
        column: col,
      })
    }
    const value = contentOf(document, file)
    const problem = evidenceShape(value, [])
    if (problem !== null) {
      const node = document.getIn(problem.path, true)
      const at = isNode(node) && node.range ? lines.linePos(node.range[0]) : null
      throw located(file, `evidence has a wrong field`, problem.expected, problem.found, {
        ...(at === null ? {} : { line: at.line, column: at.col }),
        field: problem.path.join('.'),
      })
    }
    const { digest, signature, ...written } = value as Evidence & {
      readonly digest: string
      readonly signature?: string
    }
    const evidence = { ...written, exceptions: exceptionsOf(written.exceptions, file) }
    const intact = digest === evidenceDigest(evidence)
    return { evidence: intact ? evidence : damaged(evidence, file), signature: signature ?? null }
  })
}

function exceptionsOf(written: readonly WrittenException[], file: string): Evidence['exceptions'] {
  try {
    return expanded(written)
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause
    throw located(file, 'evidence is too large', 'the exceptions of one cluster', cause.message)
  }
}

function contentOf(document: Document, file: string): unknown {
  try {
    // Evidence is written without aliases; one that has them was not written here, and may be a bomb.
    return document.toJS({ maxAliasCount: 0 })
  } catch (cause) {
    throw located(
      file,
      'evidence is not plain YAML',
      'no anchors and no aliases',
      cause instanceof Error ? cause.message : String(cause),
    )
  }
}

function damaged(evidence: Evidence, file: string): Evidence {
  const detail = `${file}: the content does not match its digest`
  const exception = { consumer: 'object', name: 'evidence', reason: damagedReason, detail, verdict: 'unknown' } as const
  return { ...evidence, exceptions: [...evidence.exceptions, exception], complete: false }
}

function located(file: string, what: string, expected: string, found: string, where: object = {}): ReanchorError {
  return new ReanchorError({
    what,
    where: { file, ...where },
    expected,
    found,
    todo: 'evidence is written by reanchor and never edited: take the file as it was committed, or run `reanchor verify` for a new one',
  })
}

// ------------------------------------------------------------------------------------------------ shape

function fields(shapes: Readonly<Record<string, Shape>>, absent: readonly string[] = []): Shape {
  const names = Object.keys(shapes)
  return (value, path) => {
    if (!isMap(value)) return { path, expected: `a map with ${names.join(', ')}`, found: foundText(value) }
    for (const name of Object.keys(value)) {
      if (shapes[name] === undefined)
        return { path: [...path, name], expected: `one of ${names.join(', ')}`, found: name }
    }
    for (const [name, shape] of Object.entries(shapes)) {
      if (value[name] === undefined) {
        if (absent.includes(name)) continue
        return { path, expected: `field ${name}`, found: 'nothing' }
      }
      const problem = shape(value[name], [...path, name])
      if (problem !== null) return problem
    }
    return null
  }
}

function oneOf(...words: readonly string[]): Shape {
  return matching(`one of ${words.join(', ')}`, value => words.some(word => word === value))
}

const count = matching('a whole number from 0', value => Number.isSafeInteger(value) && (value as number) >= 0)
const digest = matching('64 lower-case hex digits', value => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value))
const time = matching(
  'an instant such as 2026-11-22T06:00:00Z',
  value =>
    typeof value === 'string' &&
    /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/.test(value) &&
    !Number.isNaN(Date.parse(value)),
)
const exceptionFields = {
  consumer: oneOf(...consumerClasses, 'object', 'delivery'),
  reason: text,
  detail: text,
  verdict: oneOf('pending', 'violated', 'unknown'),
}
const exceptionShape = fields({ ...exceptionFields, name: text, ends: time }, ['ends'])
const togetherShape = fields({ ...exceptionFields, names: listOf(text) })

function isTogether(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'names' in value
}

const evidenceShape = fields(
  {
    apiVersion: oneOf('reanchor.dev/v1alpha1'),
    kind: oneOf('Evidence'),
    rotation: text,
    site: text,
    phase: count,
    step: count,
    treeDigest: digest,
    cluster: fields({ uid: text }),
    from: time,
    to: time,
    observation: digest,
    agreesWith: orNull(fields({ at: time, observation: digest })),
    lastChange: orNull(time),
    delivery: fields({
      kind: oneOf('flux', 'argocd', 'none'),
      object: text,
      suspended: flag,
      observed: flag,
      ready: flag,
      revision: orNull(text),
      treeDigest: orNull(digest),
      inventory: listOf(text),
      message: text,
      nextDue: orNull(time),
      hurry: orNull(text),
    }),
    objects: listOf(
      fields({
        id: text,
        present: flag,
        keys: orNull(listOf(text)),
        managers: mapOf(listOf(text)),
        facts: mapOf(text),
        lastChange: orNull(time),
      }),
    ),
    groups: listOf(
      fields({
        consumer: oneOf(...consumerClasses),
        owner: text,
        count,
        members: digest,
        trusts: orNull(listOf(digest)),
        presents: orNull(listOf(digest)),
        bundleDigest: orNull(digest),
        facts: mapOf(text),
        leavesExpire: orNull(fields({ first: time, last: time })),
      }),
    ),
    exceptions: listOf((value, path) => (isTogether(value) ? togetherShape : exceptionShape)(value, path)),
    certificates: listOf(
      fields({
        sha256: digest,
        spki: digest,
        subject: text,
        issuer: text,
        serial: text,
        notBefore: time,
        notAfter: time,
        key: text,
        ski: orNull(text),
        aki: orNull(text),
        ca: flag,
        pathLength: orNull(count),
        pem: text,
      }),
    ),
    complete: flag,
    digest,
    signature: text,
  },
  ['signature'],
)
