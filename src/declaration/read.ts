import { stringify } from 'yaml'
import { ReanchorError } from '../errors.ts'
import type {
  ClusterChoice,
  CurrentSource,
  CustodyChoice,
  Declaration,
  DeliveryChoice,
  ForgeChoice,
  IssuingSettings,
  NextSource,
  Rollout,
  Site,
} from '../rotation.ts'
import type { System } from '../systems/system.ts'
import { systemOf } from '../systems/systems.ts'
import type { CheckContext } from './checks.ts'
import { crossChecks, systemIn } from './checks.ts'
import type { FieldPath, LocatedYaml } from './located-yaml.ts'
import { fieldText, readLocatedYaml } from './located-yaml.ts'
import { type Finding, isMap, mapAt } from './raw.ts'
import type { Surface } from './schema.ts'
import { daysOf, millisecondsOf, nearestName, shown, splitObject, usualWithin } from './values.ts'
import { withheld } from './withheld.ts'

/** More than this nobody reads at once; a file with so many is no declaration. */
const mostErrors = 100

/** Everything that is wrong with one declaration, in the order of the file. What it says of itself is what its first error says. */
export class DeclarationErrors extends ReanchorError {
  /** At least one. */
  readonly errors: readonly ReanchorError[]

  constructor(errors: readonly [ReanchorError, ...ReanchorError[]]) {
    const [first] = errors
    super({
      what: first.what,
      where: first.where,
      ...(first.expected === undefined ? {} : { expected: first.expected }),
      ...(first.found === undefined ? {} : { found: first.found }),
      ...(first.todo === undefined ? {} : { todo: first.todo }),
      ...(first.example === undefined ? {} : { example: first.example }),
      exit: first.exit,
    })
    this.name = 'DeclarationErrors'
    this.errors = errors
    const shown = errors.slice(0, mostErrors).map(error => error.message)
    if (errors.length > mostErrors) shown.push(`and ${errors.length - mostErrors} more errors`)
    this.message = shown.join('\n')
  }
}

export interface ReadOptions {
  /** Absolute path of the repository: then absolute paths of private keys are held against it too. */
  readonly repository?: string
}

/**
 * Reads rotation.yaml: form, values, and what concerns several fields, all defaults filled in. `file` is its path as users
 * name it, for errors. Throws `DeclarationErrors` (exit 2) with every error of the file at once.
 */
export async function readDeclaration(text: string, file: string, options: ReadOptions = {}): Promise<Declaration> {
  const errors: ReanchorError[] = []
  const yaml = readLocatedYaml(text, file, errors)
  if (yaml === null) throw declarationErrors(errors)
  const { declarationSchema } = await import('./schema.ts')
  const value = withDefaults(yaml.value)
  const parsed = declarationSchema.safeParse(value)
  if (!parsed.success) {
    const { jsonSchemaOf } = await import('./json-schema.ts')
    const reporter: Reporter = { yaml, file, schema: jsonSchemaOf(declarationSchema) }
    const seen = new Set(errors.map(placeOf))
    const found = issuesErrors(parsed.error.issues as readonly Issue[], [], reporter)
    // An alias reads as nothing: that it is one has been said.
    errors.push(...found.filter(error => !seen.has(placeOf(error))))
  }
  const context: CheckContext = { file, repository: options.repository ?? null }
  errors.push(...crossChecks(value, context).map(finding => findingError(finding, yaml, file)))
  if (!parsed.success || errors.length > 0) throw declarationErrors(errors)
  return filled(parsed.data)
}

/** What counts for the declared system where the file says nothing: put in as if it stood there. */
function withDefaults(document: unknown): unknown {
  const spec = mapAt(document, ['spec'])
  const defaults = spec === null ? undefined : systemIn(spec)?.settings.defaults
  if (!isMap(document) || spec === null || defaults === undefined || Object.keys(defaults).length === 0) return document
  const gates = spec.gates === undefined ? {} : spec.gates
  const next = spec.next === undefined ? { generate: {} } : spec.next
  const generate = mapAt(next, ['generate'])
  const issuing = generate === null ? null : generate.issuing === undefined ? {} : mapAt(generate, ['issuing'])
  const added = (of: Readonly<Record<string, unknown>>) =>
    Object.fromEntries(Object.entries(of).filter(([, value]) => value !== undefined))
  const filledIssuing =
    issuing === null
      ? {}
      : {
          issuing: {
            ...added({ algorithm: defaults.issuingAlgorithm, validity: defaults.issuingValidity }),
            ...issuing,
          },
        }
  return {
    ...document,
    spec: {
      ...added({ rollout: defaults.rollout }),
      ...spec,
      ...(defaults.hold !== undefined && isMap(gates) ? { gates: { hold: defaults.hold, ...gates } } : {}),
      ...(isMap(next) && generate !== null
        ? {
            next: {
              ...next,
              generate: {
                ...added({ algorithm: defaults.algorithm, validity: defaults.validity }),
                ...generate,
                ...filledIssuing,
              },
            },
          }
        : {}),
    },
  }
}

function declarationErrors(errors: readonly ReanchorError[]): DeclarationErrors {
  const seen = new Set<string>()
  const sorted = errors
    .filter(error => !seen.has(error.message) && seen.add(error.message))
    .sort((left, right) => {
      const line = (left.where.line ?? 0) - (right.where.line ?? 0)
      return line === 0 ? (left.where.column ?? 0) - (right.where.column ?? 0) : line
    })
  const [first, ...rest] = sorted
  if (first === undefined) throw new Error('a declaration was refused without a reason')
  return new DeclarationErrors([first, ...rest])
}

// -------------------------------------------------------------------------------------------- from issue to error

/** What this module uses of zod's issues (zod 4, core/errors.ts). */
interface Issue {
  readonly code: string
  readonly path: readonly PropertyKey[]
  readonly message: string
  readonly keys?: readonly string[]
  readonly values?: readonly unknown[]
  readonly expected?: string
  readonly errors?: readonly (readonly Issue[])[]
  readonly params?: Readonly<Record<string, unknown>>
}

/** What this module uses of a JSON Schema. */
export interface SchemaNode {
  readonly title?: string
  readonly description?: string
  readonly examples?: readonly unknown[]
  readonly type?: string
  readonly enum?: readonly unknown[]
  readonly default?: unknown
  readonly properties?: Readonly<Record<string, SchemaNode>>
  readonly required?: readonly string[]
  readonly additionalProperties?: boolean | SchemaNode
  readonly items?: SchemaNode
  readonly anyOf?: readonly SchemaNode[]
}

interface Reporter {
  readonly yaml: LocatedYaml
  readonly file: string
  readonly schema: SchemaNode
}

function placeOf(error: ReanchorError): string {
  return `${error.where.line}:${error.where.column}`
}

function issuesErrors(issues: readonly Issue[], before: FieldPath, reporter: Reporter): readonly ReanchorError[] {
  // Where a field is misspelt, that it "names none of its choices" is the same mistake.
  const misspelt = new Set(
    issues.filter(issue => issue.code === 'unrecognized_keys').map(issue => JSON.stringify(issue.path)),
  )
  return issues
    .filter(issue => issue.code !== 'custom' || !misspelt.has(JSON.stringify(issue.path)))
    .flatMap(issue => issueErrors(issue, before, reporter))
}

function issueErrors(issue: Issue, before: FieldPath, reporter: Reporter): readonly ReanchorError[] {
  const path = [...before, ...issue.path.filter(part => typeof part !== 'symbol')]
  const { yaml, file } = reporter
  if (issue.code === 'invalid_union') {
    const branch = likeliestBranch(issue.errors ?? [])
    if (branch !== null) return issuesErrors(branch, path, reporter)
  }
  if (issue.code === 'unrecognized_keys') {
    const known = [...new Set(nodesAt(reporter.schema, path).flatMap(node => Object.keys(node.properties ?? {})))]
    return (issue.keys ?? []).slice(0, mostErrors).map(key => {
      const reason = withheld[fieldText([...path, key])]
      const near = reason === undefined ? nearestName(key, known) : null
      return new ReanchorError({
        what: 'is not a field that is known here',
        where: { file, ...yaml.atKey([...path, key]), field: fieldText([...path, key]) },
        expected: reason ?? (known.length === 0 ? 'no field at all' : `one of: ${known.join(', ')}`),
        found: shown(key),
        todo: near === null ? 'take it out' : `write ${near}`,
      })
    })
  }
  const value = fieldValue(yaml.value, path)
  const node = describedAt(reporter.schema, path)
  const field = fieldText(path)
  const name = path.at(-1)
  const example = node.examples?.[0]
  const shownExample =
    example === undefined
      ? undefined
      : flowText(typeof name === 'string' && name !== '*' ? { [name]: example } : example)
  const parts = {
    where: { file, ...yaml.at(path), ...(field === '' ? {} : { field }) },
    expected: expectedOf(node),
    ...(shownExample === undefined ? {} : { example: shownExample }),
  }
  if (field === '' && value === null) {
    return [
      new ReanchorError({ ...parts, what: 'the document is empty', todo: 'write one with: reanchor init SYSTEM' }),
    ]
  }
  if (value === undefined) {
    return [
      new ReanchorError({
        ...parts,
        what: 'is missing',
        todo: 'add the field',
      }),
    ]
  }
  if (issue.code === 'custom') {
    const { expected, todo, example: own } = issue.params ?? {}
    return [
      new ReanchorError({
        ...parts,
        what: issue.message,
        found: shown(value),
        ...(typeof expected === 'string' ? { expected } : {}),
        ...(typeof todo === 'string' ? { todo } : {}),
        ...(typeof own === 'string' ? { example: typeof name === 'string' ? flowText({ [name]: own }) : own } : {}),
      }),
    ]
  }
  const choices = choicesOf(issue, node)
  if (choices.length > 0 && (typeof value === 'string' || issue.code === 'invalid_value')) {
    const near = typeof value === 'string' ? (nearestName(value, choices) ?? only(choices)) : null
    return [
      new ReanchorError({
        ...parts,
        what: 'is none of the choices',
        expected: `one of: ${choices.join(', ')}${node.anyOf === undefined ? '' : `; ${expectedOf(node)}`}`,
        found: shown(value),
        ...(near === null ? {} : { todo: `write ${near}` }),
      }),
    ]
  }
  const todo = todoFor(issue, value, node)
  return [
    new ReanchorError({
      ...parts,
      what: whatOf(issue),
      ...(node.type === 'object' ? { expected: `a map of fields: ${expectedOf(node)}` } : {}),
      found: shown(value),
      ...(todo === null ? {} : { todo }),
    }),
  ]
}

function todoFor(issue: Issue, value: unknown, node: SchemaNode): string | null {
  if (value === null) return 'give it a value, or take the field out'
  if (issue.expected === 'boolean' && typeof value === 'string') {
    if (/^(yes|on|y|true)$/i.test(value)) return 'write true'
    if (/^(no|off|n|false)$/i.test(value)) return 'write false'
  }
  if (issue.expected !== 'string' || (typeof value !== 'number' && typeof value !== 'boolean')) return null
  if (node.title?.startsWith('a duration') === true) return `write a unit behind it: ms, s, m, h or d`
  return `if that is meant, put it in quotes: "${String(value)}"`
}

function whatOf(issue: Issue): string {
  if (issue.code === 'too_small') return 'is too small or has too few entries'
  if (issue.code === 'too_big') return 'is too large or has too many entries'
  if (issue.expected === 'object' || issue.expected === 'record') return 'is not a map of fields'
  if (issue.expected === 'array') return 'is not a list'
  if (issue.expected === 'string') return 'is not a text'
  if (issue.expected === 'boolean') return 'is neither true nor false'
  if (issue.expected === 'int' || issue.expected === 'number') return 'is not a whole number'
  return 'has the wrong form'
}

/** The branch that failed latest, by fewest issues: what the author most likely meant. Null where each failed at its root. */
function likeliestBranch(branches: readonly (readonly Issue[])[]): readonly Issue[] | null {
  const meant = branches.filter(
    issues =>
      !issues.some(
        issue => issue.path.length === 0 && (issue.code === 'invalid_type' || issue.code === 'invalid_value'),
      ),
  )
  const sorted = [...meant].sort((left, right) => left.length - right.length)
  return sorted[0] ?? null
}

function choicesOf(issue: Issue, node: SchemaNode): readonly string[] {
  const values = issue.values ?? node.enum ?? node.anyOf?.flatMap(branch => branch.enum ?? []) ?? []
  return values.filter(value => typeof value === 'string')
}

function only(choices: readonly string[]): string | null {
  return choices.length === 1 ? (choices[0] ?? null) : null
}

function expectedOf(node: SchemaNode): string {
  if (node.enum !== undefined) return `one of: ${node.enum.join(', ')}`
  return node.title ?? node.type ?? 'a known value'
}

function fieldValue(value: unknown, path: FieldPath): unknown {
  let here = value
  for (const part of path) {
    if (typeof here !== 'object' || here === null || !Object.hasOwn(here, part)) return undefined
    here = (here as Record<string | number, unknown>)[part]
  }
  return here
}

/** Every schema that a value at `path` could be checked by. */
function nodesAt(schema: SchemaNode, path: FieldPath): readonly SchemaNode[] {
  let nodes = alternatives([schema])
  for (const part of path) nodes = alternatives(stepped(nodes, part))
  return nodes
}

function describedAt(schema: SchemaNode, path: FieldPath): SchemaNode {
  let nodes: readonly SchemaNode[] = [schema]
  for (const part of path) nodes = stepped(alternatives(nodes), part)
  return nodes.find(node => node.title !== undefined) ?? nodes[0] ?? {}
}

function stepped(nodes: readonly SchemaNode[], part: string | number): readonly SchemaNode[] {
  return nodes.flatMap(node => {
    if (typeof part === 'number') return node.items === undefined ? [] : [node.items]
    const property = node.properties?.[part]
    if (property !== undefined) return [property]
    return typeof node.additionalProperties === 'object' ? [node.additionalProperties] : []
  })
}

function alternatives(nodes: readonly SchemaNode[]): readonly SchemaNode[] {
  return nodes.flatMap(node => (node.anyOf === undefined ? [node] : alternatives(node.anyOf)))
}

function flowText(value: unknown): string {
  const text = stringify(value, { collectionStyle: 'flow', flowCollectionPadding: false, lineWidth: 0 }).trim()
  // A map of one field reads better as it stands in the file.
  return /^\{[^{}[\]]*\}$/.test(text) ? text.slice(1, -1).trim() : text.replace(/^\{(.*)\}$/s, '$1')
}

function findingError(finding: Finding, yaml: LocatedYaml, file: string): ReanchorError {
  const position = finding.atKey === true ? yaml.atKey(finding.path) : yaml.at(finding.path)
  const value = fieldValue(yaml.value, finding.path)
  return new ReanchorError({
    what: finding.what,
    where: { file, ...position, field: fieldText(finding.path) },
    expected: finding.expected,
    ...(value === undefined ? {} : { found: shown(value) }),
    ...(finding.todo === undefined ? {} : { todo: finding.todo }),
    ...(finding.example === undefined ? {} : { example: finding.example }),
  })
}

// ------------------------------------------------------------------------------------------ from surface to typed

type SurfaceSpec = Surface['spec']
type SurfaceSite = SurfaceSpec['sites'][number]

function filled(surface: Surface): Declaration {
  const { spec } = surface
  const name = surface.metadata.name
  const { settings } = systemOf(spec.system)
  const part = settings.fill(spec)
  const subjects = settings.subjects(name, part)
  return {
    ...part,
    name,
    strategy: spec.strategy,
    base: spec.base,
    forge: forgeOf(spec.forge),
    current: currentOf(spec.current),
    next: nextOf(spec, subjects),
    custody: custodyOf(spec.custody),
    sites: spec.sites.map(siteOf),
    rollout: rolloutOf(spec.rollout),
    gates: {
      hold: millisecondsOf(spec.gates.hold),
      fresh: millisecondsOf(spec.gates.fresh),
      settle: millisecondsOf(spec.gates.settle),
      attest: spec.gates.attest,
    },
    evidence: { signers: spec.evidence.signers },
    reload: spec.reload.workloads.map(target => ({ ...target, path: folderText(target.path) })),
    paused: spec.paused,
  }
}

function forgeOf(forge: SurfaceSpec['forge']): ForgeChoice {
  if (typeof forge === 'string') return { kind: forge }
  for (const kind of ['github', 'gitlab', 'gitea'] as const) {
    const hosted = forge[kind]
    if (hosted !== undefined) return { ...hosted, kind, url: hosted.url ?? null }
  }
  if (forge.bitbucket !== undefined)
    return { ...forge.bitbucket, kind: 'bitbucket', url: null, labels: [], dashboard: false }
  return { kind: forge.local === undefined ? 'none' : 'local' }
}

function currentOf(current: SurfaceSpec['current']): CurrentSource {
  if (current.files === undefined) return { from: 'cluster' }
  const { certificate, key, chain, roots } = current.files
  return { from: 'files', certificate, key: key ?? null, chain: chain ?? null, roots: roots ?? null }
}

type Subjects = ReturnType<System['settings']['subjects']>

function nextOf(spec: SurfaceSpec, subjects: Subjects): NextSource {
  const { generate, files, csr, certManager } = spec.next
  if (generate !== undefined) {
    return {
      from: 'generate',
      algorithm: generate.algorithm,
      subject: generate.subject ?? subjects.root,
      validityDays: daysOf(generate.validity),
      issuing: issuingOf(generate.issuing, generate.algorithm, subjects),
    }
  }
  if (files !== undefined) {
    const issuing = { ...files.issuing }
    for (const site of spec.sites) if (site.next !== undefined) issuing[site.name] = site.next.issuing
    const entries = Object.entries(issuing).map(
      ([site, entry]) =>
        [site, { certificate: entry.certificate, key: entry.key, chain: entry.chain ?? null }] as const,
    )
    return { from: 'files', root: files.root, issuing: Object.fromEntries(entries) }
  }
  if (certManager !== undefined) {
    const { settings } = systemOf(spec.system)
    const { issuer, namespace, path, root = null, site, issuing } = certManager
    const { defaults } = settings
    const usual = (settings.issuing ? defaults.issuingAlgorithm : defaults.algorithm) ?? 'ecdsa-p256'
    return {
      from: 'certManager',
      issuer,
      namespace,
      path,
      root,
      // One CA that signs and is trusted at once is the same in every cluster.
      site: site ?? (settings.issuing ? null : (spec.sites[0]?.name ?? null)),
      issuing: issuingOf(issuing, usual, settings.issuing ? subjects : { ...subjects, issuing: subjects.root }),
    }
  }
  return {
    from: 'csr',
    root: csr?.root ?? null,
    issuing: issuingOf(csr?.issuing ?? { validity: '730d' }, 'ecdsa-p256', subjects),
  }
}

function issuingOf(
  issuing: NonNullable<SurfaceSpec['next']['csr']>['issuing'],
  algorithm: IssuingSettings['algorithm'],
  subjects: Subjects,
): IssuingSettings {
  return {
    algorithm: issuing.algorithm ?? algorithm,
    subject: issuing.subject ?? subjects.issuing,
    validityDays: daysOf(issuing.validity),
  }
}

function custodyOf(custody: SurfaceSpec['custody']): CustodyChoice {
  const { sealedSecrets, externalSecrets } = custody
  if (sealedSecrets !== undefined) {
    const { certificate, scope, age } = sealedSecrets
    return { kind: 'sealedSecrets', certificate, scope, age: age ?? [] }
  }
  if (externalSecrets !== undefined) {
    const { store, kind: storeKind, prefix, version, vaultMount, age } = externalSecrets
    return {
      kind: 'externalSecrets',
      store,
      storeKind,
      prefix,
      version,
      vaultMount: vaultMount ?? null,
      age: age ?? [],
    }
  }
  const { age = null, ksops = false, rootAge = [] } = custody.sops ?? {}
  return { kind: 'sops', age, ksops, rootAge }
}

function siteOf(site: SurfaceSite): Site {
  return {
    name: site.name,
    path: site.path,
    cluster: clusterOf(site),
    delivery: deliveryOf(site.delivery),
    current: site.current === undefined ? null : currentOf(site.current),
    custody: site.custody === undefined ? null : custodyOf(site.custody),
    base: site.base ?? null,
  }
}

function clusterOf(site: SurfaceSite): ClusterChoice {
  const { cluster } = site
  if (cluster === undefined) return { kind: 'context', context: site.name }
  if (typeof cluster === 'string') return { kind: 'inCluster' }
  if ('within' in cluster)
    return {
      kind: 'reports',
      ref: cluster.reports,
      within: millisecondsOf(cluster.within),
      signer: cluster.signer ?? null,
    }
  if (cluster.kubeconfig !== undefined)
    return { kind: 'kubeconfig', file: cluster.kubeconfig, context: cluster.context ?? null }
  if (cluster.context !== undefined) return { kind: 'context', context: cluster.context }
  if ('reports' in cluster && cluster.reports !== undefined)
    return { kind: 'reports', ref: cluster.reports, within: usualWithin, signer: null }
  return { kind: 'inCluster' }
}

function deliveryOf(delivery: SurfaceSite['delivery']): DeliveryChoice {
  const { flux, argocd } = delivery
  if (flux !== undefined) {
    return {
      kind: 'flux',
      ...objectOf(flux.kustomization),
      file: flux.file ?? null,
      source: objectOf(flux.source),
      decryptionSecret: flux.decryptionSecret,
    }
  }
  if (argocd === undefined) throw new Error('a delivery without a choice passed the schema')
  return {
    kind: 'argocd',
    ...objectOf(argocd.application),
    file: argocd.file ?? null,
    repoURL: argocd.repoURL ?? null,
    project: argocd.project,
  }
}

function objectOf(text: string): { readonly namespace: string; readonly name: string } {
  const object = splitObject(text)
  if (object === null) throw new Error(`${text} passed the schema as namespace/name`)
  return object
}

function rolloutOf(rollout: SurfaceSpec['rollout']): Rollout {
  return typeof rollout === 'string' ? { kind: rollout } : { kind: 'batches', batches: rollout.batches }
}

/** `.` is how a person writes the repository's root; everywhere else it is the empty path. */
function folderText(path: string): string {
  return path === '.' ? '' : path
}
