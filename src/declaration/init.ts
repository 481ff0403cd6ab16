import { applyRule, readSopsRules } from '../custody/sops-rules.ts'
import { exitCodes, ReanchorError } from '../errors.ts'
import { type Environment, kindOfHost } from '../forge/hosted/token.ts'
import { folderOf, isUnder, join } from '../gitops/paths.ts'
import { checkReach } from '../gitops/reach.ts'
import type {
  CustodyChoice,
  Declaration,
  DeliveryChoice,
  FileTree,
  ForgeChoice,
  HostedForgeChoice,
  ReloadTarget,
  Site,
  SystemName,
} from '../rotation.ts'
import type { InitPart, InitScene, Outcome } from '../systems/init.ts'
import type { System } from '../systems/system.ts'
import { systemOf } from '../systems/systems.ts'
import type { Findings, FoundDeliverer } from './find.ts'
import { findInRepository, hasKustomization } from './find.ts'
import { DeclarationErrors, readDeclaration } from './read.ts'
import {
  branchProblem,
  daysOf,
  labelProblem,
  millisecondsOf,
  recipientProblem,
  repositoryPathProblem,
  shown,
  splitObject,
} from './values.ts'
import { writeDeclaration } from './write.ts'

/** What `init` was told. Null: not said; then it is found in the repository, or asked for. */
export interface InitAnswers {
  readonly name: string | null
  readonly base: string | null
  readonly sites: readonly SiteAnswer[]
  /** Recipients of age; empty: not said. */
  readonly age: readonly string[]
  readonly forge: ForgeChoice | null
  /** PEM file of the SealedSecrets controller. */
  readonly sealedSecrets: string | null
  readonly ksops: boolean
  readonly repoURL: string | null
}

export interface SiteAnswer {
  readonly name: string
  readonly path: string
  readonly context: string | null
  readonly delivery: { readonly kind: 'flux' | 'argocd'; readonly namespace: string; readonly name: string } | null
  readonly controlPlane: { readonly file: string; readonly name: string | null } | null
}

/** The words of the command line as they were given, repeats in their order. */
export interface InitFlags {
  readonly name?: string
  readonly base?: string
  /** `--site NAME=PATH`, or NAME alone for trust/NAME. */
  readonly site?: readonly string[]
  /** `--context [SITE=]CONTEXT` */
  readonly context?: readonly string[]
  /** `--delivery [SITE=]flux:NS/NAME` or `[SITE=]argocd:NS/NAME` */
  readonly delivery?: readonly string[]
  /** `--control-plane [SITE=]FILE[#NAME]` */
  readonly controlPlane?: readonly string[]
  readonly age?: readonly string[]
  /** `local`, `none`, `github:OWNER/NAME`, `gitlab:…`, `gitea:…`, `bitbucket:…` */
  readonly forge?: string
  readonly sealedSecrets?: string
  readonly ksops?: boolean
  readonly repoUrl?: string
}

/** Something that neither the flags nor the repository tell. */
export interface InitQuestion {
  /** The flag that answers it, as a user would type it. */
  readonly flag: string
  readonly question: string
  /** What is known of it, one sentence. */
  readonly why: string
  readonly choices: readonly string[]
  readonly proposal: string | null
  /** The flags with the answer added; `initAnswers` checks it. */
  answer(flags: InitFlags, value: string): InitFlags
}

export interface InitResult {
  /** Where the file belongs: rotations/<name>/rotation.yaml. */
  readonly path: string
  readonly text: string
  /** What was found and what deserves a look, one sentence each. */
  readonly remarks: readonly string[]
  /** What to do next, for the terminal. */
  readonly nextSteps: string
  /** The file stands there already with these very bytes. */
  readonly unchanged: boolean
}

// ---------------------------------------------------------------------------------------------------------- flags

/** The flags, checked and typed. Throws ReanchorError (exit 2) that names the flag. */
export function initAnswers(flags: InitFlags): InitAnswers {
  const sites = (flags.site ?? []).map(siteFlag)
  const names = sites.map(site => site.name)
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) throw flagError('--site', twice, 'every site once')
  if (flags.name !== undefined) refuse('--name', flags.name, labelProblem(flags.name, 40), 'mesh-2026')
  if (flags.base !== undefined) refuse('--base', flags.base, branchProblem(flags.base), 'main')
  for (const recipient of flags.age ?? []) {
    refuse(
      '--age',
      recipient,
      recipientProblem(recipient),
      'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p',
    )
  }
  const contexts = perSite('--context', flags.context ?? [], names, false)
  const deliveries = perSite('--delivery', flags.delivery ?? [], names, true)
  const planes = perSite('--control-plane', flags.controlPlane ?? [], names, true)
  return {
    name: flags.name ?? null,
    base: flags.base ?? null,
    sites: sites.map(site => {
      const delivery = deliveries.get(site.name)
      const plane = planes.get(site.name)
      return {
        ...site,
        context: contexts.get(site.name) ?? null,
        delivery: delivery === undefined ? null : deliveryFlag(delivery),
        controlPlane: plane === undefined ? null : controlPlaneFlag(plane),
      }
    }),
    age: flags.age ?? [],
    forge: flags.forge === undefined ? null : forgeFlag(flags.forge),
    sealedSecrets: flags.sealedSecrets ?? null,
    ksops: flags.ksops ?? false,
    repoURL: flags.repoUrl ?? null,
  }
}

export function flagError(flag: string, found: string, expected: string, example?: string): ReanchorError {
  return new ReanchorError({
    what: `${flag} cannot be used as it is`,
    expected,
    found: shown(found),
    ...(example === undefined ? {} : { example: `${flag} ${example}` }),
  })
}

function refuse(
  flag: string,
  found: string,
  problem: { readonly what: string; readonly expected: string } | null,
  example: string,
): void {
  if (problem !== null) throw flagError(flag, found, `${problem.expected} (it ${problem.what})`, example)
}

function siteFlag(text: string): Pick<SiteAnswer, 'name' | 'path'> {
  const equals = text.indexOf('=')
  const name = equals === -1 ? text : text.slice(0, equals)
  const path =
    equals === -1
      ? `trust/${name}`
      : text
          .slice(equals + 1)
          .replace(/^\.\//, '')
          .replace(/\/$/, '')
  refuse('--site', text, labelProblem(name, 63), 'eu-1=trust/eu-1')
  if (name === 'undo' || name === 'nudge')
    throw flagError('--site', text, 'a name other than undo and nudge', 'eu-1=trust/eu-1')
  refuse('--site', text, repositoryPathProblem(path), 'eu-1=trust/eu-1')
  return { name, path }
}

/** `SITE=VALUE` for one site; a plain value for the only site, for each in turn, or (`shared`) for all of them. */
function perSite(
  flag: string,
  values: readonly string[],
  names: readonly string[],
  shared: boolean,
): ReadonlyMap<string, string> {
  const result = new Map<string, string>()
  const plain: string[] = []
  for (const value of values) {
    const name = names.find(each => value.startsWith(`${each}=`))
    if (name === undefined) plain.push(value)
    else result.set(name, value.slice(name.length + 1))
  }
  const open = names.filter(name => !result.has(name))
  if (plain.length === 0) return result
  if (plain.length === 1 && (shared || open.length === 1)) {
    for (const name of open) result.set(name, plain[0] ?? '')
    return result
  }
  if (plain.length !== open.length) {
    throw flagError(
      flag,
      plain.join(' '),
      `one for each of the sites ${open.join(', ')}`,
      `${names[0] ?? 'eu-1'}=VALUE`,
    )
  }
  for (const [index, name] of open.entries()) result.set(name, plain[index] ?? '')
  return result
}

function deliveryFlag(text: string): NonNullable<SiteAnswer['delivery']> {
  const [kind, object, ...rest] = text.split(':')
  const parts = object === undefined || rest.length > 0 ? null : splitObject(object)
  if ((kind !== 'flux' && kind !== 'argocd') || parts === null) {
    throw flagError('--delivery', text, 'flux:NAMESPACE/NAME or argocd:NAMESPACE/NAME', 'flux:flux-system/trust')
  }
  return { kind, ...parts }
}

function controlPlaneFlag(text: string): NonNullable<SiteAnswer['controlPlane']> {
  const [file, name, ...rest] = text.split('#')
  if (file === undefined || rest.length > 0)
    throw flagError('--control-plane', text, 'FILE or FILE#NAME', 'clusters/eu-1/istio.yaml')
  refuse('--control-plane', text, repositoryPathProblem(file), 'clusters/eu-1/istio.yaml')
  return { file, name: name ?? null }
}

function forgeFlag(text: string): ForgeChoice {
  if (text === 'local' || text === 'none') return { kind: text }
  const [kind, rest] = text.split(/:(.*)/s)
  const known = kind === 'github' || kind === 'gitlab' || kind === 'gitea' || kind === 'bitbucket'
  const at = rest?.startsWith('https://') === true && URL.canParse(rest) ? new URL(rest) : null
  const repository = at === null ? rest : repositoryIn(at.pathname)
  if (!known || repository === undefined || !/^[\w.][\w.-]*(\/[\w.-]+)+$/.test(repository)) {
    throw flagError(
      '--forge',
      text,
      'local, none, or github:OWNER/NAME, gitlab:GROUP/NAME, gitea:OWNER/NAME, bitbucket:WORKSPACE/NAME; on a server of your own github:https://HOST/OWNER/NAME',
      'github:acme/fleet',
    )
  }
  const found = hostedForgeAt(kind, at?.origin ?? null, repository)
  if (kind === 'bitbucket' && found.url !== null) {
    throw flagError(
      '--forge',
      text,
      'bitbucket:WORKSPACE/NAME; the API of Bitbucket Data Center is another one, which reanchor does not speak (none pushes branches)',
      'bitbucket:acme/fleet',
    )
  }
  return found
}

function repositoryIn(path: string): string {
  return path.replace(/^\/+|\/+$/g, '').replace(/\.git$/, '')
}

const publicServers = {
  github: 'https://github.com',
  gitlab: 'https://gitlab.com',
  gitea: 'https://gitea.com',
  bitbucket: 'https://bitbucket.org',
} as const

function hostedForgeAt(kind: HostedForgeChoice['kind'], origin: string | null, repository: string): HostedForgeChoice {
  const url = origin === publicServers[kind] ? null : origin
  return { kind, repository, url, labels: [], reviewers: [], draft: false, dashboard: false }
}

/** The forge that a remote's URL tells; null where its host says nothing of which it is. */
export function forgeOfRemote(url: string, environment: Environment): HostedForgeChoice | null {
  const ssh = /^(?:ssh:\/\/)?(?:[\w.-]+@)([\w.-]+)(?::\d+)?[:/](.+)$/.exec(url)
  const https = /^https:\/\//.test(url) && URL.canParse(url) ? new URL(url) : null
  const host = https?.host ?? ssh?.[1]
  const repository = repositoryIn(https?.pathname ?? ssh?.[2] ?? '')
  if (host === undefined || !/^[\w.][\w.-]*(\/[\w.-]+)+$/.test(repository)) return null
  const kind = kindOfHost(host, environment)
  return kind === null ? null : hostedForgeAt(kind, `https://${host}`, repository)
}

// ------------------------------------------------------------------------------------------------------- proposal

/** What neither flags nor repository tell, in the order to ask for it. Later questions may depend on earlier answers. */
export function openQuestions(
  findings: Findings,
  answers: InitAnswers,
  files: FileTree,
  init: (scene: InitScene) => InitPart,
): readonly InitQuestion[] {
  if (answers.sites.length === 0) return [siteQuestion(findings)]
  const scene: InitScene = { findings, answers, files }
  const { sites, sealedFile } = init(scene)
  const outcomes = answers.sites.flatMap((site, index): Outcome<unknown>[] => {
    const own = sites[index]
    return [deliveryOf(scene, site), ...(own === undefined ? [] : [own])]
  })
  if (!outcomes.some(outcome => 'ask' in outcome)) outcomes.push(custodyOf(scene, sealedFile))
  return outcomes.flatMap(outcome => ('ask' in outcome ? [outcome.ask] : []))
}

/**
 * rotation.yaml with comments from what was found and what was told. Pure. Throws ReanchorError (exit 2) that names every flag
 * still to be given; it never leaves a gap in the file for a person to fill.
 */
function proposeDeclaration(
  findings: Findings,
  answers: InitAnswers & { readonly name: string },
  files: FileTree,
  system: System,
  init: (scene: InitScene) => InitPart,
): {
  readonly text: string
  readonly remarks: readonly string[]
  readonly declaration: Declaration
  readonly wired: Readonly<Record<string, string>>
} {
  const questions = openQuestions(findings, answers, files, init)
  if (questions.length > 0) throw questionsError(questions)
  const scene: InitScene = { findings, answers, files }
  const found = init(scene)
  const notes = new Map<string, string>()
  const remarks: string[] = []
  const take = <Value>(outcome: Outcome<Value>, field: string): Value => {
    if ('ask' in outcome) throw questionsError([outcome.ask])
    if (outcome.note !== null) notes.set(field, outcome.note)
    return outcome.value
  }
  const sites: Site[] = []
  for (const [index, site] of answers.sites.entries()) {
    sites.push({
      name: site.name,
      path: site.path,
      cluster: { kind: 'context', context: site.context ?? site.name },
      delivery: take(deliveryOf(scene, site), `spec.sites[${index}].delivery`),
      current: null,
      custody: null,
      base: null,
    })
    if (site.context === null)
      remarks.push(
        `site ${site.name}: the context of its cluster is taken to be ${site.name}; --context says otherwise`,
      )
  }
  const own = found.finish()
  for (const [field, note] of own.notes) notes.set(field, note)
  remarks.push(...own.remarks)
  const reload = found.restartsWorkloads ? reloadOf(scene, sites, own.notRestarted ?? [], remarks) : []
  if (reload.length > 0)
    notes.set('spec.reload.workloads', 'Found in this repository; take out what is not part of the mesh.')
  else if (found.restartsWorkloads)
    remarks.push(
      'no folder with workloads was found: proxies that lie in other repositories are restarted there, and gates wait for them',
    )
  if (answers.forge !== null && answers.forge.kind !== 'local' && answers.forge.kind !== 'none')
    remarks.push(
      `pull requests are opened in ${answers.forge.repository} (${answers.forge.kind}), with a token in the environment: docs/forges.md`,
    )
  for (const each of findings.unread) remarks.push(`not looked into: ${each}`)
  const { defaults, subjects } = system.settings
  const { root, issuing } = subjects(answers.name, own.part)
  const algorithm = defaults.algorithm ?? 'ecdsa-p256'
  const declaration: Declaration = {
    ...own.part,
    name: answers.name,
    strategy: 'graceful',
    base: answers.base ?? 'main',
    forge: answers.forge ?? { kind: 'none' },
    current: { from: 'cluster' },
    next: {
      from: 'generate',
      algorithm,
      subject: root,
      validityDays: daysOf(defaults.validity ?? '3650d'),
      issuing: {
        algorithm: defaults.issuingAlgorithm ?? algorithm,
        subject: issuing,
        validityDays: daysOf(defaults.issuingValidity ?? '730d'),
      },
    },
    custody: take(custodyOf(scene, found.sealedFile), 'spec.custody'),
    sites,
    rollout: { kind: defaults.rollout ?? 'parallel' },
    gates: { hold: millisecondsOf(defaults.hold ?? '10m'), fresh: 3_600_000, settle: 15_000, attest: [] },
    evidence: { signers: [] },
    reload,
    paused: false,
  }
  return { text: writeDeclaration(declaration, notes), remarks, declaration, wired: own.wired }
}

/** One error for all that is still to be said. */
function questionsError(questions: readonly InitQuestion[]): ReanchorError {
  const lines = questions.map(question => {
    const choices = question.choices.length === 0 ? '' : ` (found: ${question.choices.join(', ')})`
    return `${question.flag}: ${question.why}${choices}`
  })
  return new ReanchorError({
    what: 'the repository does not tell all that a declaration needs',
    expected: lines.join('\n            '),
    todo: `run init again with ${questions.map(question => question.flag.split(' ')[0]).join(' and ')}`,
    example: questions.map(question => question.flag).join(' '),
  })
}

function siteQuestion(findings: Findings): InitQuestion {
  const names = siteNamesIn(findings)
  return {
    flag: '--site NAME=PATH',
    question: 'Which clusters share the trust root? (names, separated by blanks)',
    why: 'the clusters that share the trust root, each with the folder that reanchor is to own',
    choices: names,
    proposal: names.length === 0 ? null : names.join(' '),
    answer: (flags, value) => ({
      ...flags,
      site: [...(flags.site ?? []), ...value.split(/[\s,]+/).filter(word => word !== '')],
    }),
  }
}

/** Names of clusters as folders of Flux tell them: clusters/<name>/flux-system/gotk-sync.yaml. */
function siteNamesIn(findings: Findings): readonly string[] {
  const names = findings.kustomizations.flatMap(each => {
    const name = each.folder?.split('/').at(-1)
    return isSync(each) && name !== undefined && labelProblem(name, 63) === null ? [name] : []
  })
  return [...new Set(names)].sort()
}

/** The Kustomization that Flux was bootstrapped with applies the folder that it lies in itself. */
function isSync(deliverer: FoundDeliverer): boolean {
  return deliverer.folder !== null && deliverer.folder !== '' && isUnder(deliverer.file, deliverer.folder)
}

/** Whether a path speaks of a site: its name stands in it as a word of its own (eu-1 is not in eu-10). */
export function mentions(path: string, site: string): boolean {
  return new RegExp(`(^|[^a-z0-9])${site}($|[^a-z0-9])`, 'i').test(path)
}

/** What is applied at a site: what speaks of it, and what that applies in turn. With one site everything is. */
export function deliverersAt(
  all: readonly FoundDeliverer[],
  site: SiteAnswer,
  sites: readonly SiteAnswer[],
): readonly FoundDeliverer[] {
  if (sites.length === 1) return all
  const chosen = new Set(
    all.filter(
      each =>
        mentions(each.folder ?? '', site.name) || mentions(each.file, site.name) || mentions(each.name, site.name),
    ),
  )
  for (const each of chosen) for (const inner of all) if (each.files.has(inner.file)) chosen.add(inner)
  return all.filter(each => chosen.has(each))
}

/** The folder whose kustomization builds a file at this site and at no other, so that what is wired there is the site's own; null: nothing builds it. */
export function builtFolder(
  { findings, answers, files }: InitScene,
  site: SiteAnswer,
  file: string,
  deliverers: readonly FoundDeliverer[],
): string | null {
  const folder = folderOf(file)
  const others = answers.sites.filter(each => each.name !== site.name)
  const shared = others.some(other =>
    [
      ...deliverersAt(findings.kustomizations, other, answers.sites),
      ...deliverersAt(findings.applications, other, answers.sites),
    ].some(each => each.files.has(file)),
  )
  const builders = deliverers.filter(each => each.folder !== null && each.files.has(file))
  if (!shared && hasKustomization(files, folder) && builders.length > 0) return folder
  const deepest = builders.map(each => each.folder ?? '').sort((left, right) => right.length - left.length)[0]
  return deepest ?? null
}

export function question(
  flag: string,
  ask: string,
  why: string,
  choices: readonly string[],
  key: 'delivery' | 'controlPlane' | 'age',
  site: string | null,
): { readonly ask: InitQuestion } {
  return {
    ask: {
      flag,
      question: ask,
      why,
      choices,
      proposal: choices[0] ?? null,
      answer: (flags, value) => ({
        ...flags,
        [key]: [
          ...(flags[key] ?? []),
          ...value
            .split(/[\s,]+/)
            .filter(word => word !== '')
            .map(word => (site === null ? word : `${site}=${word}`)),
        ],
      }),
    },
  }
}

function deliveryOf(scene: InitScene, site: SiteAnswer): Outcome<DeliveryChoice> {
  const { findings, answers } = scene
  const flux = deliverersAt(findings.kustomizations, site, answers.sites)
  const argo = deliverersAt(findings.applications, site, answers.sites)
  const kind =
    site.delivery?.kind ??
    (flux.length > 0 && argo.length === 0 ? 'flux' : argo.length > 0 && flux.length === 0 ? 'argocd' : null)
  if (kind === null) {
    const both = flux.length > 0
    return question(
      `--delivery ${site.name}=flux:NAMESPACE/NAME|argocd:NAMESPACE/NAME`,
      `What applies ${site.path} to ${site.name}?`,
      both
        ? `Flux and Argo CD are both used for ${site.name}`
        : `nothing in the repository tells what delivers to ${site.name}`,
      both ? ['flux:flux-system/trust', 'argocd:argocd/trust'] : [],
      'delivery',
      site.name,
    )
  }
  return kind === 'flux' ? fluxDelivery(site, flux) : argoDelivery(scene, site, argo)
}

function fluxDelivery(site: SiteAnswer, found: readonly FoundDeliverer[]): Outcome<DeliveryChoice> {
  const said = site.delivery
  const existing = found.find(each =>
    said === null ? each.folder === site.path : each.name === said.name && each.namespace === said.namespace,
  )
  // The Kustomization that Flux was bootstrapped with applies a folder that new files can be put into.
  const sync = found.find(isSync) ?? null
  const namespace = said?.namespace ?? existing?.namespace ?? sync?.namespace ?? 'flux-system'
  const name = said?.name ?? existing?.name ?? freeName('trust', namespace, found)
  const file = existing?.file ?? (sync?.folder == null ? null : join(sync.folder, `${name}.yaml`))
  const source = existing?.source ??
    sync?.source ??
    found[0]?.source ?? { namespace: 'flux-system', name: 'flux-system' }
  return {
    value: { kind: 'flux', namespace, name, file, source, decryptionSecret: 'sops-age' },
    note:
      existing !== undefined
        ? `The Kustomization is there already, in ${existing.file}.`
        : file === null
          ? 'No Kustomization of Flux was found beside which a file could be added: it must be made by hand.'
          : `New: the adopt pull request writes ${file}.`,
  }
}

function argoDelivery(scene: InitScene, site: SiteAnswer, found: readonly FoundDeliverer[]): Outcome<DeliveryChoice> {
  const said = site.delivery
  const existing = found.find(each =>
    said === null ? each.folder === site.path : each.name === said.name && each.namespace === said.namespace,
  )
  // An app of apps: what is put into its folder reaches the cluster. Of several, the one that also delivers istiod's.
  const parents = found.filter(
    each => each.folder !== null && found.some(child => child !== each && each.files.has(child.file)),
  )
  const planes = new Set(scene.findings.controlPlanes.map(plane => plane.file))
  const parent = parents.find(each => [...each.files].some(file => planes.has(file))) ?? parents[0] ?? null
  const beside = parent ?? found.find(each => each.repoURL !== null) ?? found[0] ?? null
  const repoURL = scene.answers.repoURL ?? existing?.repoURL ?? beside?.repoURL ?? null
  if (repoURL === null) {
    return {
      ask: {
        flag: '--repo-url URL',
        question: 'Which address does Argo CD know this repository by?',
        why: 'no Application applies a folder of this repository, so its address is not known',
        choices: [],
        proposal: null,
        answer: (flags, value) => ({ ...flags, repoUrl: value.trim() }),
      },
    }
  }
  const namespace = said?.namespace ?? existing?.namespace ?? beside?.namespace ?? 'argocd'
  const own = scene.answers.sites.length === 1 ? 'trust' : `trust-${site.name}`
  const name = said?.name ?? existing?.name ?? freeName(own, namespace, found)
  const folder = parent?.folder ?? (beside === null ? null : folderOf(beside.file))
  const file = existing?.file ?? (folder === null ? null : join(folder, `${name}.yaml`))
  const istiod = found.find(each => planes.has(each.file))
  const project = existing?.project ?? istiod?.project ?? beside?.project ?? 'default'
  return {
    value: { kind: 'argocd', namespace, name, file, repoURL, project },
    note:
      existing !== undefined
        ? `The Application is there already, in ${existing.file}.`
        : file === null
          ? 'No Application was found beside which a file could be added: it must be made by hand.'
          : parent === null
            ? `New: the adopt pull request writes ${file}; no Application delivers that folder, so apply it by hand once.`
            : `New: the adopt pull request writes ${file}, which Application ${parent.name} delivers.`,
  }
}

function freeName(wanted: string, namespace: string, found: readonly FoundDeliverer[]): string {
  const taken = found.some(each => each.name === wanted && each.namespace === namespace)
  return taken ? `reanchor-${wanted}` : wanted
}

function reloadOf(
  scene: InitScene,
  sites: readonly Site[],
  left: readonly string[],
  remarks: string[],
): readonly ReloadTarget[] {
  const { findings, answers } = scene
  const targets: ReloadTarget[] = []
  const sitesOfFolder = new Map<string, Set<string>>()
  for (const site of answers.sites) {
    const all = [
      ...deliverersAt(findings.kustomizations, site, answers.sites),
      ...deliverersAt(findings.applications, site, answers.sites),
    ]
    for (const each of all) {
      if (each.folder === null || each.workloads.length === 0 || left.includes(each.folder)) continue
      if (sites.some(own => isUnder(each.folder ?? '', own.path))) continue
      if (each.source === null && !hasKustomization(scene.files, each.folder)) {
        remarks.push(
          `${each.folder} is applied by Application ${each.name} as plain files: without a kustomization.yaml that lists them its workloads cannot be restarted from here`,
        )
        continue
      }
      const users = sitesOfFolder.get(each.folder) ?? new Set()
      if (!users.has(site.name)) targets.push({ site: site.name, path: each.folder, kinds: each.workloads, batch: 1 })
      sitesOfFolder.set(each.folder, users.add(site.name))
    }
  }
  for (const [folder, users] of sitesOfFolder) {
    if (users.size === 1) continue
    remarks.push(
      `${folder} is applied at ${[...users].join(', ')}: a restart there cannot be told apart by site, so it is left out; give each site a folder of its own that takes it in`,
    )
  }
  return targets.filter(target => sitesOfFolder.get(target.path)?.size === 1)
}

function custodyOf(scene: InitScene, sealedFile: string): Outcome<CustodyChoice> {
  const { findings, answers } = scene
  const byArgo = answers.sites.some(site => {
    const delivery = deliveryOf(scene, site)
    return 'value' in delivery && delivery.value.kind === 'argocd'
  })
  const certificate =
    answers.sealedSecrets ?? (byArgo && !answers.ksops ? (findings.sealingCertificates[0] ?? null) : null)
  if (certificate !== null) {
    if (answers.age.length === 0) {
      return question(
        '--age RECIPIENT',
        "Which recipient of age may open the new root's key file?",
        "SealedSecrets cannot seal the new root's key file",
        [],
        'age',
        null,
      )
    }
    return { value: { kind: 'sealedSecrets', certificate, scope: 'strict', age: answers.age }, note: null }
  }
  if (byArgo && !answers.ksops) {
    return {
      ask: {
        flag: '--sealed-secrets FILE',
        question: 'Which file holds the public certificate of the SealedSecrets controller? (kubeseal --fetch-cert)',
        why: 'Argo CD cannot open SOPS by itself: name the certificate of SealedSecrets, or say --ksops where it runs KSOPS',
        choices: findings.sealingCertificates,
        proposal: findings.sealingCertificates[0] ?? null,
        answer: (flags, value) => ({ ...flags, sealedSecrets: value.trim() }),
      },
    }
  }
  const { ksops } = answers
  if (answers.age.length > 0) return { value: { kind: 'sops', age: answers.age, ksops, rootAge: [] }, note: null }
  const problem = rulesProblem(scene, sealedFile)
  if (problem === null) return { value: { kind: 'sops', age: null, ksops, rootAge: [] }, note: null }
  return question(
    '--age RECIPIENT',
    'Which recipient (age1…) of age may open what is sealed?',
    problem,
    [],
    'age',
    null,
  )
}

/** Null where .sops.yaml tells recipients for every site's folder. */
function rulesProblem(scene: InitScene, sealedFile: string): string | null {
  const { sopsRules } = scene.findings
  if (sopsRules === null) return 'there is no .sops.yaml that tells to whom private keys are sealed'
  try {
    const rules = readSopsRules(sopsRules, '.sops.yaml')
    for (const site of scene.answers.sites) {
      if (applyRule(rules, `${site.path}/${sealedFile}`).recipients.length > 0) continue
      return `.sops.yaml names no recipient of age for ${site.path}, and the new root's key file is sealed to nothing else`
    }
    return null
  } catch (error) {
    if (!(error instanceof ReanchorError)) throw error
    return `.sops.yaml does not tell recipients for the folders of the sites: ${error.what}`
  }
}

// ------------------------------------------------------------------------------------------------------------ run

export interface InitRun {
  /** @default istio */
  readonly system?: SystemName
  /** What is committed on the branch that Flux or Argo CD follows. */
  readonly files: FileTree
  /** The text of the declaration in the working tree, by path; null where there is none. */
  existing(path: string): string | null
  readonly flags: InitFlags
  readonly now: Date
  /** Answers a question, or null where nobody can be asked (no terminal, or --yes). */
  readonly ask: ((question: InitQuestion) => Promise<string>) | null
  /** The forge that the remote of the clone tells (forgeOfRemote), where no flag says another. @default null */
  readonly forge?: HostedForgeChoice | null
}

/**
 * What `init <system>` would write, and where. Writes nothing itself. Throws ReanchorError (exit 2) where something is missing and
 * nobody can be asked, and where another declaration stands in the place;
 * with exit 5 where the folders of the sites, or rotations/, would be applied by what must not apply them.
 */
export async function runInit(run: InitRun): Promise<InitResult> {
  const system = systemOf(run.system ?? 'istio')
  const init = await system.init()
  const findings = findInRepository(run.files)
  let flags = run.flags
  const found = siteNamesIn(findings)
  // The folders of Flux name the clusters; without a word from the user that is what is meant.
  if ((flags.site ?? []).length === 0 && run.ask === null && found.length > 0) flags = { ...flags, site: found }
  for (;;) {
    const questions = openQuestions(findings, initAnswers(flags), run.files, init)
    const [first] = questions
    if (first === undefined) break
    if (run.ask === null) throw questionsError(questions)
    flags = first.answer(flags, await run.ask(first))
  }
  const answers = initAnswers(flags)
  const name = answers.name ?? `${system.settings.stem}-${run.now.getUTCFullYear()}`
  const forge = answers.forge ?? run.forge ?? null
  const { text, remarks, declaration, wired } = proposeDeclaration(
    findings,
    { ...answers, name, forge },
    run.files,
    system,
    init,
  )
  const path = `rotations/${name}/rotation.yaml`
  // What init writes must be what plan reads.
  await readDeclaration(text, path)
  refuseLayout(run.files, declaration)
  const before = run.existing(path) ?? run.files.get(path) ?? null
  if (before !== null && before !== text) {
    throw new ReanchorError({
      what: 'another declaration stands here already',
      where: { file: path },
      expected: 'no file, or the very text that init writes',
      found: `a file of ${before.split('\n').length - 1} lines`,
      todo: 'edit that file, or choose another name with --name',
      example: `--name ${name}-b`,
    })
  }
  return { path, text, remarks, nextSteps: nextStepsOf(declaration, path, wired), unchanged: before === text }
}

/** Who reaches which path is part of what makes a rotation safe: a folder applied twice has two owners, rotations/ none. */
function refuseLayout(files: FileTree, declaration: Declaration): void {
  const problems = checkReach(files, { sites: declaration.sites, rotationsFolder: 'rotations' })
  const [first, ...rest] = problems.map(
    ({ what, where, expected, found, todo }) =>
      new ReanchorError({ what, where, expected, found, todo, exit: exitCodes.refused }),
  )
  if (first !== undefined) throw new DeclarationErrors([first, ...rest])
}

function nextStepsOf(declaration: Declaration, path: string, own: Readonly<Record<string, string>>): string {
  const wired = declaration.sites.map(site => {
    const { file } = site.delivery
    return `  ${site.name}: ${[file ?? 'the delivery object (made by hand)', own[site.name]].filter(each => each !== undefined).join(', ')}`
  })
  const reload = declaration.reload.map(
    target => `  ${target.site}: ${target.path === '' ? '.' : target.path} (restarts of ${target.kinds.join(', ')})`,
  )
  const { base } = declaration
  // Where the CA signs leaves itself, its key is in the cluster and no root's key is kept elsewhere.
  const planning = systemOf(declaration.system).settings.issuing
    ? `reanchor plan --root-key-out FILE     (FILE outside the repository; it holds the new root's key, sealed)`
    : 'reanchor plan'
  return [
    `Next:`,
    `  1. read ${path}, commit and push it to ${base}`,
    `  2. ${planning}`,
    `  3. reanchor rehearse, then reanchor next`,
    ``,
    `The adopt pull request wires these files, once:`,
    ...wired,
    ...reload,
    ``,
    `Branch protection to set for ${base}:`,
    `  - pull requests only, at least one approval, new commits dismiss approvals`,
    `  - required status check: reanchor/gate`,
    ``,
    `To read changes of trust in words with git diff:`,
    `  echo 'trust.txt diff=reanchor' >> .gitattributes`,
    `  echo '*.pem diff=reanchor' >> .gitattributes`,
    `  git config diff.reanchor.textconv 'npx reanchor diff --textconv'`,
    ``,
  ].join('\n')
}
