import { type Document, isAlias, isMap, isNode, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml'
import { ReanchorError, type Where } from '../errors.ts'
import { checkRecipient } from './age.ts'
import { goRegExp } from './go-regexp.ts'

/** One creation rule of .sops.yaml. */
export interface SopsRule {
  /** 1-based place among the creation rules. */
  readonly number: number
  readonly where: Where
  /** As written; null: every path matches. */
  readonly pathRegex: string | null
  readonly matches: (path: string) => boolean
  /** As written, not yet checked; with the place of each. */
  readonly age: readonly { readonly recipient: string; readonly where: Where }[]
  /** Other kinds of master keys that the rule names, such as `kms`. */
  readonly others: readonly string[]
  /** Groups of keys of which several are needed to open a file. */
  readonly groups: number
  /** Fields of the rule that say what to encrypt, which reanchor decides by itself. */
  readonly selectors: readonly string[]
  /** The fields that name keys, as the file has them: what the sops program needs of the rule. All of them are public. */
  readonly keys: Readonly<Record<string, unknown>>
}

export interface SopsRules {
  readonly file: string
  readonly rules: readonly SopsRule[]
}

export interface RuleRecipients {
  readonly rule: SopsRule
  /** Checked, without repeats, in order. Empty where the rule has other keys only. */
  readonly recipients: readonly string[]
  /** True where the rule has other keys than age recipients, or several groups: then only the sops program can seal as it says. */
  readonly byProgram: boolean
  /** What a person should know of how the rule was applied, one sentence each. */
  readonly notes: readonly string[]
}

/** As sops v3.13.3 reads a creation rule (config/config.go, creationRule), less what chooses files and fields. */
const keyFields = [
  'kms',
  'aws_profile',
  'age',
  'pgp',
  'gcp_kms',
  'hckms',
  'azure_keyvault',
  'hc_vault_transit_uri',
  'key_groups',
  'shamir_threshold',
]
const otherKeys = ['kms', 'pgp', 'gcp_kms', 'hckms', 'azure_keyvault', 'hc_vault_transit_uri', 'hc_vault']
const selectorKeys = ['encrypted_regex', 'unencrypted_regex', 'encrypted_suffix', 'unencrypted_suffix']

const example = 'creation_rules:\n  - path_regex: ^trust/\n    age: age1…,age1…'

/** Reads .sops.yaml. `file` is its name for errors. Recipients are checked only when a rule is used. */
export function readSopsRules(yaml: string, file: string): SopsRules {
  const lines = new LineCounter()
  const document = parseDocument(yaml, { lineCounter: lines, prettyErrors: false })
  const reader = new Reader(file, lines, document)
  const [error] = document.errors
  if (error !== undefined) {
    const place = lines.linePos(error.pos[0])
    throw new ReanchorError({
      what: 'the file is not well-formed YAML',
      where: { file, line: place.line, column: place.col },
      expected: 'one YAML document',
      found: error.code,
      todo: 'correct the file; sops refuses it too',
    })
  }
  const root: unknown = document.contents
  if (!isMap(root)) throw reader.refuse(root, '', 'creation_rules, a list', 'no map', 'add a creation rule')
  const list = root.get('creation_rules', true)
  if (!isSeq(list))
    throw reader.refuse(list ?? root, 'creation_rules', 'a list of rules', 'none', 'add a creation rule')
  return { file, rules: list.items.map((item, index) => reader.rule(item, index)) }
}

/**
 * The first rule that matches, as sops chooses it. `destination` is the path relative to the folder of .sops.yaml, with `/`. Throws where no
 * rule matches, or the one that does names no key.
 */
export function applyRule(rules: SopsRules, destination: string): RuleRecipients {
  const rule = rules.rules.find(candidate => candidate.matches(destination))
  if (rule === undefined) {
    const known = rules.rules.map(candidate => candidate.pathRegex ?? '(every path)')
    throw new ReanchorError({
      what: `no creation rule matches ${destination}`,
      where: { file: rules.file, field: 'creation_rules' },
      expected: `a rule whose path_regex matches ${destination}`,
      found: known.length === 0 ? 'no rules' : `rules for ${known.join(', ')}`,
      todo: 'add a rule, or name the recipients in rotation.yaml under spec.custody.sops.age',
      example,
    })
  }
  if (rule.age.length === 0 && rule.others.length === 0) {
    throw new ReanchorError({
      what: `rule ${rule.number} matches ${destination} but names no key`,
      where: { ...rule.where, field: `creation_rules[${rule.number - 1}].age` },
      expected: 'at least one age recipient, or keys that the sops program seals to (KMS, PGP, Vault)',
      found: 'no keys',
      todo: 'add age recipients to the rule, or name them in rotation.yaml under spec.custody.sops.age',
      example,
    })
  }
  const recipients = [...new Set(rule.age.map(entry => checkRecipient(entry.recipient, entry.where)))]
  const byProgram = rule.others.length > 0 || rule.groups > 1
  return { rule, recipients, byProgram, notes: notes(rule, rules.file, byProgram) }
}

function notes(rule: SopsRule, file: string, byProgram: boolean): readonly string[] {
  const found: string[] = []
  if (rule.selectors.length > 0) {
    found.push(
      `Rule ${rule.number} of ${file} sets ${rule.selectors.join(', ')}; reanchor seals exactly the private keys of a Secret and writes its own encrypted_regex.`,
    )
  }
  if (byProgram) {
    const keys = [...rule.others, ...(rule.groups > 1 ? [`${rule.groups} key groups`] : [])].join(', ')
    found.push(
      `Rule ${rule.number} of ${file} names ${keys}: the sops program seals to them, so whoever runs \`plan\` needs it with its credentials; the deliverer needs one of the keys to open what it seals.`,
    )
  }
  return found
}

class Reader {
  readonly #file: string
  readonly #lines: LineCounter
  readonly #document: Document

  constructor(file: string, lines: LineCounter, document: Document) {
    this.#file = file
    this.#lines = lines
    this.#document = document
  }

  rule(item: unknown, index: number): SopsRule {
    const field = `creation_rules[${index}]`
    if (!isMap(item)) throw this.refuse(item, field, 'a map', kindOf(item), 'write path_regex and age')
    const regexNode = item.get('path_regex', true)
    const pathRegex = regexNode === undefined ? null : this.text(regexNode, `${field}.path_regex`)
    const where = this.at(item)
    // An empty expression is none, as in sops v3.13.3, config/config.go, parseCreationRuleForFile.
    const regex =
      pathRegex === null || pathRegex === ''
        ? null
        : goRegExp(pathRegex, { ...this.at(regexNode), field: `${field}.path_regex` })
    const groupsNode = item.get('key_groups', true)
    const groups = isSeq(groupsNode) ? groupsNode.items : []
    // sops looks at a rule's own keys only where it has no groups.
    const sources = groups.length > 0 ? groups.flatMap(group => this.withMerged(group, 0)) : [item]
    return {
      number: index + 1,
      where,
      pathRegex: regex === null ? null : pathRegex,
      matches: path => regex === null || regex.test(path),
      age: sources.flatMap(source => (isMap(source) ? this.recipients(source.get('age', true), `${field}.age`) : [])),
      others: otherKeys.filter(key => sources.some(source => isMap(source) && !isEmpty(source.get(key, true)))),
      groups: groups.length,
      selectors: selectorKeys.filter(key => item.has(key)),
      keys: Object.fromEntries(
        keyFields.filter(key => item.has(key)).map(key => [key, this.plain(item.get(key, true))]),
      ),
    }
  }

  /** A key group and the groups that it merges in. */
  withMerged(group: unknown, depth: number): readonly unknown[] {
    if (!isMap(group) || depth > 10) return []
    const merged = group.get('merge', true)
    return [group, ...(isSeq(merged) ? merged.items.flatMap(inner => this.withMerged(inner, depth + 1)) : [])]
  }

  /** A text, a text with commas, or a list of either: all three are in use. */
  recipients(node: unknown, field: string): SopsRule['age'] {
    if (isEmpty(node)) return []
    const items = isSeq(node) ? node.items : [node]
    return items.flatMap(item =>
      this.text(item, field)
        .split(',')
        .map(part => part.trim())
        .filter(part => part !== '')
        .map(recipient => ({ recipient, where: { ...this.at(item), field } })),
    )
  }

  text(node: unknown, field: string): string {
    if (isScalar(node) && typeof node.value === 'string') return node.value
    throw this.refuse(node, field, 'a text', kindOf(node), 'write the value out, in quotes if need be')
  }

  plain(node: unknown): unknown {
    return isNode(node) ? node.toJS(this.#document, { maxAliasCount: 100 }) : node
  }

  at(node: unknown): Where {
    const offset = (node as Node | undefined)?.range?.[0]
    if (typeof offset !== 'number') return { file: this.#file }
    const place = this.#lines.linePos(offset)
    return { file: this.#file, line: place.line, column: place.col }
  }

  refuse(node: unknown, field: string, expected: string, found: string, todo: string): ReanchorError {
    return new ReanchorError({
      what: 'the sops rules cannot be read',
      where: { ...this.at(node), ...(field === '' ? {} : { field }) },
      expected,
      found,
      todo,
      example,
    })
  }
}

function isEmpty(node: unknown): boolean {
  if (node === undefined || node === null) return true
  if (isScalar(node)) return node.value === null || node.value === ''
  return isSeq(node) && node.items.length === 0
}

function kindOf(node: unknown): string {
  if (isAlias(node)) return 'an alias'
  if (isMap(node)) return 'a map'
  if (isSeq(node)) return 'a list'
  return isScalar(node) ? `${node.value === null ? 'nothing' : typeof node.value}` : 'nothing'
}
