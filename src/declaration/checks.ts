import { readAllowedSigner } from '../signature/allowed-signers.ts'
import type { System } from '../systems/system.ts'
import { isSystemName, systemOf } from '../systems/systems.ts'
import type { FieldPath } from './located-yaml.ts'
import { type Finding, isMap, listAt, mapAt, textAt, unknownSite, valueAt } from './raw.ts'
import {
  daysOf,
  isWithin,
  keyFileProblem,
  normalSubject,
  parseDuration,
  repositoryPathProblem,
  subjectProblem,
  validityProblem,
} from './values.ts'

/**
 * What concerns more than one field. These checks look at the values as they stand in the file, so that they find what they can
 * while other fields are still wrong; whatever has not the right form is passed over here and reported by the schema.
 */

export interface CheckContext {
  /** Path of the declaration as the user names it. */
  readonly file: string
  /** Absolute path of the repository, or null where it is not known. */
  readonly repository: string | null
}

interface RawSite {
  readonly path: FieldPath
  readonly value: Readonly<Record<string, unknown>>
  readonly name: string | null
  readonly folder: string | null
}

export function crossChecks(document: unknown, context: CheckContext): readonly Finding[] {
  const spec = mapAt(document, ['spec'])
  if (spec === null) return []
  const sites = rawSites(spec)
  const findings = [
    ...nameMatchesFolder(document, context),
    ...siteNamesUnique(sites),
    ...sitePathsApart(sites),
    ...deliveriesApart(sites),
    ...reportsApart(spec, sites),
    ...filesOutsideSites(spec, sites),
    ...keysOutside(spec, sites, context),
    ...batchesComplete(spec, sites),
    ...knownSites(spec, sites),
    ...(systemIn(spec)?.settings.checks(spec, siteNames(sites)) ?? []),
    ...leavesFit(spec),
    ...custodyFits(spec, sites),
    ...issuingCovers(spec, sites),
    ...subjects(document, spec, sites),
    ...validities(spec),
    ...mintPlaces(spec, sites),
    ...gateTimes(spec),
    ...attestNames(spec),
  ]
  return findings
}

/** The system that the file names; null where it names none that is known. */
export function systemIn(spec: Readonly<Record<string, unknown>>): System | null {
  const name = textAt(spec, ['system'])
  return name !== null && isSystemName(name) ? systemOf(name) : null
}

function rawSites(spec: Readonly<Record<string, unknown>>): readonly RawSite[] {
  return listAt(spec, ['sites']).flatMap((value, index) => {
    if (!isMap(value)) return []
    return [{ path: ['spec', 'sites', index], value, name: textAt(value, ['name']), folder: textAt(value, ['path']) }]
  })
}

function siteNames(sites: readonly RawSite[]): readonly string[] {
  return [...new Set(sites.flatMap(site => (site.name === null ? [] : [site.name])))]
}

/** rotations/<name>/rotation.yaml: commands find a rotation by its folder, branches carry its name. */
function nameMatchesFolder(document: unknown, context: CheckContext): readonly Finding[] {
  const name = textAt(document, ['metadata', 'name'])
  const folder = /(?:^|\/)rotations\/([^/]+)\/rotation\.yaml$/.exec(context.file.replaceAll('\\', '/'))?.[1]
  if (name === null || folder === undefined || folder === name) return []
  return [
    {
      path: ['metadata', 'name'],
      what: 'differs from the folder that this file is in',
      expected: folder,
      todo: `write ${folder}, or move the file to rotations/${name}/rotation.yaml`,
    },
  ]
}

function siteNamesUnique(sites: readonly RawSite[]): readonly Finding[] {
  const first = new Map<string, number>()
  const findings: Finding[] = []
  for (const [index, site] of sites.entries()) {
    if (site.name === null) continue
    const before = first.get(site.name)
    if (before === undefined) {
      first.set(site.name, index)
      continue
    }
    findings.push({
      path: [...site.path, 'name'],
      what: `is the name of spec.sites[${before}] too`,
      expected: 'a name of its own for every site',
    })
  }
  return findings
}

function sitePathsApart(sites: readonly RawSite[]): readonly Finding[] {
  const findings: Finding[] = []
  // Sorted by segments, a folder stands right before what lies in it, so neighbours on a stack are enough: 1,000 sites stay linear.
  const sorted = sites
    .flatMap(site => (site.folder === null || site.folder === '' ? [] : [{ site, folder: site.folder }]))
    .map(entry => ({ ...entry, key: `${entry.folder.toLowerCase().replace(/\/+$/, '')}/` }))
    .sort((left, right) => (left.key < right.key ? -1 : left.key > right.key ? 1 : 0))
  const open: typeof sorted = []
  for (const entry of sorted) {
    while (open.length > 0 && !entry.key.startsWith(open.at(-1)?.key ?? '')) open.pop()
    const outer = open.at(-1)
    open.push(entry)
    const path = [...entry.site.path, 'path']
    if (isWithin('rotations', entry.folder) || isWithin(entry.folder, 'rotations')) {
      findings.push({
        path,
        what: 'overlaps with rotations/, which no Kustomization or Application may apply',
        expected: 'a folder outside rotations/',
        example: `path: trust/${entry.site.name ?? 'eu-1'}`,
      })
    }
    if (outer === undefined) continue
    findings.push({
      path,
      what: `overlaps with ${outer.folder}, the path of site ${outer.site.name ?? '(without a name)'}`,
      expected: 'a folder of its own for every site, none inside another',
      example: `path: trust/${entry.site.name ?? 'eu-1'}`,
    })
  }
  return findings
}

/** One Kustomization or Application applies one path: two sites of one cluster cannot share it. */
function deliveriesApart(sites: readonly RawSite[]): readonly Finding[] {
  const first = new Map<string, RawSite>()
  const findings: Finding[] = []
  for (const site of sites) {
    for (const [kind, field] of [
      ['flux', 'kustomization'],
      ['argocd', 'application'],
    ] as const) {
      const object = textAt(site.value, ['delivery', kind, field])
      if (object === null) continue
      const cluster = site.value.cluster ?? { context: site.name }
      const key = JSON.stringify([kind, object, kind === 'argocd' ? null : cluster])
      const before = first.get(key)
      first.set(key, before ?? site)
      if (before === undefined) continue
      findings.push({
        path: [...site.path, 'delivery', kind, field],
        what: `delivers site ${before.name ?? '(without a name)'} already`,
        expected: 'one object for each site: it applies one path',
      })
    }
  }
  return findings
}

/** Two clusters that push to one ref would overwrite each other; and who may sign must be known. */
function reportsApart(spec: Readonly<Record<string, unknown>>, sites: readonly RawSite[]): readonly Finding[] {
  const first = new Map<string, string>()
  const signers = listAt(spec, ['evidence', 'signers']).flatMap(line => {
    const read = typeof line === 'string' ? readAllowedSigner(line) : { problem: '' }
    return 'problem' in read ? [] : [read.name]
  })
  return sites.flatMap(({ path, value, name }) => {
    const findings: Finding[] = []
    const reports = textAt(value, ['cluster', 'reports'])
    const before = reports === null ? undefined : first.get(reports)
    if (reports !== null && before === undefined) first.set(reports, name ?? '(without a name)')
    if (before !== undefined)
      findings.push({
        path: [...path, 'cluster', 'reports'],
        what: `is what site ${before} has already`,
        expected: 'a name for each site: its reports take the place of those before',
        example: `reports/${name ?? 'eu-2'}`,
      })
    const signer = textAt(value, ['cluster', 'signer'])
    if (signer !== null && !signers.includes(signer))
      findings.push({
        path: [...path, 'cluster', 'signer'],
        what: 'is none of evidence.signers, so that no report would ever be taken',
        expected: signers.length === 0 ? 'signers under spec.evidence' : `one of: ${signers.join(', ')}`,
      })
    return findings
  })
}

/** A site's folder holds what reanchor renders and nothing else; rotations/ is applied by nobody. */
function filesOutsideSites(spec: Readonly<Record<string, unknown>>, sites: readonly RawSite[]): readonly Finding[] {
  const places: { readonly path: FieldPath; readonly text: string }[] = []
  const add = (path: FieldPath, text: string | null): void => {
    if (text !== null && text !== '') places.push({ path, text })
  }
  for (const site of sites) {
    for (const kind of ['flux', 'argocd']) {
      add([...site.path, 'delivery', kind, 'file'], textAt(site.value, ['delivery', kind, 'file']))
    }
  }
  for (const [index, target] of listAt(spec, ['reload', 'workloads']).entries()) {
    add(['spec', 'reload', 'workloads', index, 'path'], textAt(target, ['path']))
  }
  for (const { path, text } of systemIn(spec)?.settings.paths(spec) ?? []) add(path, text)
  const folders = sites.flatMap(site => (site.folder === null || site.folder === '' ? [] : [site.folder]))
  const owned = new Map(folders.map(folder => [folder.toLowerCase().replace(/\/+$/, ''), folder]))
  owned.set('rotations', 'rotations')
  return places.flatMap(({ path, text }) => {
    const parts = text.toLowerCase().split('/')
    const prefix = parts.map((_, index) => parts.slice(0, index + 1).join('/')).find(candidate => owned.has(candidate))
    if (prefix === undefined) return []
    return [
      {
        path,
        what: `lies in ${owned.get(prefix)}, which reanchor owns`,
        expected: 'a path outside the folders of the sites and outside rotations/',
      },
    ]
  })
}

function keysOutside(
  spec: Readonly<Record<string, unknown>>,
  sites: readonly RawSite[],
  context: CheckContext,
): readonly Finding[] {
  const keys: FieldPath[] = [['spec', 'current', 'files', 'key']]
  for (const name of Object.keys(mapAt(spec, ['next', 'files', 'issuing']) ?? {})) {
    keys.push(['spec', 'next', 'files', 'issuing', name, 'key'])
  }
  for (const site of sites) {
    keys.push([...site.path, 'current', 'files', 'key'], [...site.path, 'next', 'issuing', 'key'])
  }
  return keys.flatMap(path => {
    const text = textAt({ spec }, path)
    // The form of the path itself is the schema's to judge.
    if (text === null || text === '' || keyFileProblem(text, null)?.what.includes('private key') === false) return []
    const problem = keyFileProblem(text, context.repository)
    return problem === null
      ? []
      : [{ path, ...problem, ...(problem.example === undefined ? {} : { example: `key: ${problem.example}` }) }]
  })
}

function batchesComplete(spec: Readonly<Record<string, unknown>>, sites: readonly RawSite[]): readonly Finding[] {
  if (!Array.isArray(valueAt(spec, ['rollout', 'batches']))) return []
  const names = siteNames(sites)
  const seen = new Set<string>()
  const findings: Finding[] = []
  for (const [batch, members] of listAt(spec, ['rollout', 'batches']).entries()) {
    if (!Array.isArray(members)) continue
    for (const [index, member] of members.entries()) {
      if (typeof member !== 'string') continue
      const path = ['spec', 'rollout', 'batches', batch, index]
      if (!names.includes(member)) findings.push(unknownSite(path, member, names))
      else if (seen.has(member)) {
        findings.push({ path, what: 'is named in the batches twice', expected: 'every site in exactly one batch' })
      }
      seen.add(member)
    }
  }
  const left = names.filter(name => !seen.has(name))
  if (left.length > 0) {
    findings.push({
      path: ['spec', 'rollout', 'batches'],
      what: `leave out ${left.join(', ')}`,
      expected: 'every site in exactly one batch',
      todo: 'add a batch for what is left out',
      atKey: true,
    })
  }
  return findings
}

function knownSites(spec: Readonly<Record<string, unknown>>, sites: readonly RawSite[]): readonly Finding[] {
  const names = siteNames(sites)
  return listAt(spec, ['reload', 'workloads']).flatMap((target, index) => {
    const name = textAt(target, ['site'])
    if (name === null || names.includes(name)) return []
    return [unknownSite(['spec', 'reload', 'workloads', index, 'site'], name, names)]
  })
}

/** How leaves are taken up is a choice for proxies that renew by themselves and by a restart alike. */
function leavesFit(spec: Readonly<Record<string, unknown>>): readonly Finding[] {
  const system = systemIn(spec)
  if (system === null || system.settings.leaves !== undefined) return []
  if (valueAt(spec, ['reload', 'leaves']) === undefined) return []
  return [
    {
      path: ['spec', 'reload', 'leaves'],
      what: `has no meaning for ${system.title}`,
      expected: 'no such field: leaves are taken up in one way only',
      todo: 'take it out',
      atKey: true,
    },
  ]
}

/** Custodies that do not take the new root's key in. */
const rootSealedByAge = [
  ['sealedSecrets', 'SealedSecrets cannot seal', 'sealedSecrets: {certificate: sealed-secrets/cert.pem, age: [age1…]}'],
  ['externalSecrets', 'never goes to the store', 'externalSecrets: {store: vault, age: [age1…]}'],
] as const

/** Argo CD does not decrypt SOPS by itself: without KSOPS it would apply the ciphertext. */
function custodyFits(spec: Readonly<Record<string, unknown>>, sites: readonly RawSite[]): readonly Finding[] {
  const findings: Finding[] = []
  let common = false
  for (const site of sites) {
    if (mapAt(site.value, ['delivery', 'argocd']) === null) continue
    const own = Object.hasOwn(site.value, 'custody')
    const custody = own ? site.value.custody : (spec.custody ?? { sops: {} })
    const sops = mapAt(custody, ['sops'])
    if (sops === null || sops.ksops === true) continue
    // One custody for many sites is one mistake.
    if (!own && common) continue
    if (!own) common = true
    const at = own ? [...site.path, 'custody'] : ['spec', 'custody']
    findings.push({
      path: Object.hasOwn(sops, 'ksops') ? [...at, 'sops', 'ksops'] : [...at, 'sops'],
      what: `seals with SOPS, which Argo CD (site ${site.name ?? '(without a name)'}) cannot open by itself`,
      expected: 'ksops: true where Argo CD runs KSOPS, or sealedSecrets',
      todo: 'install KSOPS in Argo CD and say so, or seal with SealedSecrets',
      example: 'custody: {sealedSecrets: {certificate: sealed-secrets/cert.pem}}',
      atKey: true,
    })
  }
  if (Object.hasOwn(isMap(spec.next) ? spec.next : { generate: {} }, 'generate')) {
    for (const [path, custody] of [
      [['spec', 'custody'] as FieldPath, spec.custody] as const,
      ...sites.map(site => [[...site.path, 'custody'] as FieldPath, site.value.custody] as const),
    ]) {
      for (const [kind, why, example] of rootSealedByAge) {
        const chosen = mapAt(custody, [kind])
        if (chosen === null || Object.hasOwn(chosen, 'age')) continue
        findings.push({
          path: [...path, kind],
          what: `has no recipients for the new root's key, which ${why}`,
          expected: 'age: a list of recipients of age',
          todo: 'make a key with age-keygen, keep it off line, and name its recipient',
          example,
          atKey: true,
        })
      }
    }
  }
  return findings
}

function issuingCovers(spec: Readonly<Record<string, unknown>>, sites: readonly RawSite[]): readonly Finding[] {
  const files = mapAt(spec, ['next', 'files'])
  const names = siteNames(sites)
  const overrides = sites.filter(site => mapAt(site.value, ['next', 'issuing']) !== null)
  if (files === null) {
    return overrides.map(site => ({
      path: [...site.path, 'next'],
      what: 'names files, while spec.next does not',
      expected: 'spec.next.files with the root; with generate, csr and certManager every issuing CA follows spec.next',
      todo: 'take it out, or write spec.next.files',
      atKey: true,
    }))
  }
  const issuing = mapAt(files, ['issuing'])
  if (issuing === null) return []
  const findings: Finding[] = Object.keys(issuing)
    .filter(name => name !== '*' && !names.includes(name))
    .map(name => ({ ...unknownSite(['spec', 'next', 'files', 'issuing', name], name, names), atKey: true }))
  const own = new Set(overrides.map(site => site.name))
  for (const site of overrides) {
    if (site.name === null || !Object.hasOwn(issuing, site.name)) continue
    findings.push({
      path: [...site.path, 'next', 'issuing'],
      what: `is given in spec.next.files.issuing too`,
      expected: 'the files of one site in one place',
      atKey: true,
    })
  }
  if (Object.hasOwn(issuing, '*')) return findings
  const missing = names.filter(name => !Object.hasOwn(issuing, name) && !own.has(name))
  if (missing.length === 0) return findings
  return [
    ...findings,
    {
      path: ['spec', 'next', 'files', 'issuing'],
      what: `has no issuing CA for ${missing.join(', ')}`,
      expected: 'an entry for every site, or * for all',
      example: `${missing[0]}: {certificate: ../material/ca-cert.pem, key: ../keys/ca-key.pem}`,
      atKey: true,
    },
  ]
}

function subjects(
  document: unknown,
  spec: Readonly<Record<string, unknown>>,
  sites: readonly RawSite[],
): readonly Finding[] {
  const findings: Finding[] = []
  const rootPath = ['spec', 'next', 'generate', 'subject']
  const root = textAt(document, rootPath)
  if (root?.includes('{site}') === true) {
    findings.push({ path: rootPath, what: 'holds {site}', expected: 'one subject: a rotation has one root' })
  }
  for (const kind of ['generate', 'csr', 'certManager']) {
    const path = ['spec', 'next', kind, 'issuing', 'subject']
    const subject = textAt({ spec }, path)
    if (subject === null || subjectProblem(subject) !== null) continue
    const names = siteNames(sites)
    const oneForAll =
      kind === 'certManager' &&
      (textAt(spec, ['next', kind, 'site']) !== null || systemIn(spec)?.settings.issuing === false)
    if (names.length > 1 && !oneForAll && !subject.includes('{site}')) {
      // RFC 5280 §4.1.2.6: a CA's subject names the CA. Verifiers that pick an issuer by name mistake one site's CA for another's.
      findings.push({
        path,
        what: 'is the same at every site, for CAs with different keys',
        expected: '{site} somewhere in it',
        example: 'subject: CN=mesh-2026 issuing,L={site},O=cluster.local',
      })
    }
    for (const name of names) {
      const problem = subjectProblem(subject.replaceAll('{site}', name))
      if (problem === null) continue
      findings.push({ path, ...problem, what: `${problem.what} at site ${name}` })
      break
    }
    if (root !== null && normalSubject(root) === normalSubject(subject)) {
      findings.push({
        path,
        what: "equals the root's subject, so that the issuing CA would look self-signed",
        expected: 'a subject of its own',
      })
    }
  }
  return findings
}

function validities(spec: Readonly<Record<string, unknown>>): readonly Finding[] {
  const generate = mapAt(spec, ['next', 'generate'])
  if (generate === null) return []
  const root = textAt(generate, ['validity']) ?? '3650d'
  const path = ['spec', 'next', 'generate', 'issuing', 'validity']
  const given = textAt(generate, ['issuing', 'validity'])
  const issuing = given ?? '730d'
  if (validityProblem(root, 9125) !== null || validityProblem(issuing, 7300) !== null) return []
  if (daysOf(issuing) <= daysOf(root)) return []
  return [
    {
      path: given === null ? ['spec', 'next', 'generate', 'validity'] : path,
      what:
        given === null ? `is shorter than the ${issuing} of the issuing CAs` : `is longer than the ${root} of the root`,
      expected: 'issuing CAs that end before their root, or with it',
    },
  ]
}

/** Where cert-manager's Certificate goes: a folder of the user's, told apart by site, and a site that there is. */
function mintPlaces(spec: Readonly<Record<string, unknown>>, sites: readonly RawSite[]): readonly Finding[] {
  const mint = mapAt(spec, ['next', 'certManager'])
  if (mint === null) return []
  const names = siteNames(sites)
  const findings: Finding[] = []
  const site = textAt(mint, ['site'])
  if (site !== null && !names.includes(site))
    findings.push(unknownSite(['spec', 'next', 'certManager', 'site'], site, names))
  const system = systemIn(spec)
  const path = ['spec', 'next', 'certManager', 'path']
  const folder = textAt(mint, ['path'])
  if (folder === null || repositoryPathProblem(folder.replaceAll('{site}', 'site')) !== null) return findings
  const oneForAll = site !== null || system?.settings.issuing === false
  if (!oneForAll && names.length > 1 && !folder.includes('{site}'))
    findings.push({
      path,
      what: 'is one folder for several clusters, each of which would mint the CAs of all',
      expected: '{site} somewhere in it',
      example: 'path: clusters/{site}/cert-manager',
    })
  for (const name of site === null ? names : [site]) {
    const at = folder.replaceAll('{site}', name)
    const owner = sites.find(each => each.folder !== null && isWithin(at, each.folder))
    if (owner === undefined && !isWithin(at, 'rotations')) continue
    findings.push({
      path,
      what:
        owner === undefined ? 'lies in rotations/, which nothing applies' : `lies in the folder of site ${owner.name}`,
      expected: 'a folder of your own, which Flux or Argo CD applies before this rotation begins',
      example: 'path: clusters/{site}/cert-manager',
    })
    break
  }
  return findings
}

function gateTimes(spec: Readonly<Record<string, unknown>>): readonly Finding[] {
  const fresh = parseDuration(textAt(spec, ['gates', 'fresh']) ?? '1h')
  const settle = parseDuration(textAt(spec, ['gates', 'settle']) ?? '15s')
  if (fresh === null || settle === null || settle < fresh) return []
  const own = textAt(spec, ['gates', 'settle']) !== null
  return [
    {
      path: ['spec', 'gates', own ? 'settle' : 'fresh'],
      what: 'leaves no time: the first of two observations is stale before the second is made',
      expected: 'settle shorter than fresh',
    },
  ]
}

function attestNames(spec: Readonly<Record<string, unknown>>): readonly Finding[] {
  const seen = new Set<string>()
  return listAt(spec, ['gates', 'attest']).flatMap((entry, index) => {
    const name = textAt(entry, ['name'])
    if (name === null) return []
    if (!seen.has(name)) {
      seen.add(name)
      return []
    }
    return [{ path: ['spec', 'gates', 'attest', index, 'name'], what: 'is given twice', expected: 'every name once' }]
  })
}
