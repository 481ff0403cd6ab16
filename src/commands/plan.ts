import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Custody } from '../custody/custody.ts'
import { assertNoPrivateKey } from '../custody/leak.ts'
import { exitCodes, ReanchorError } from '../errors.ts'
import type { PullRequest } from '../forge/forge.ts'
import { privateKeyPem } from '../pki/keys.ts'
import { valueDigest } from '../plan/digest.ts'
import { canaryDigest, makePlan, type NextCa } from '../plan/make.ts'
import { type CurrentCa, currentFromCluster, currentFromFiles, materialDigest } from '../plan/material.ts'
import { caFromFiles, generateCa, type NewCa } from '../plan/next-ca.ts'
import { planBranch, rotationFolder } from '../plan/steps.ts'
import type { Snapshot } from '../repository/repository.ts'
import type { CustodyChoice, Declaration, Digest, FileTree, Plan, Proof, Site } from '../rotation.ts'
import type { Context } from './context.ts'
import { planAt } from './rotation.ts'

export interface PlanOptions {
  readonly rotation: string | null
  readonly base: string | null
  /** Where the new root's private key goes, sealed to the recipients; needed where reanchor makes the root. */
  readonly rootKeyOut: string | null
  /** The issuing CAs that an offline root signed, for a plan that wrote requests. */
  readonly chain: readonly string[] | null
  readonly acceptOutage: boolean
}

export interface PlanOutcome {
  readonly kind: 'planned' | 'unchanged' | 'dry-run'
  readonly plan: Plan
  readonly proof: Proof
  readonly branch: string
  readonly commit: string | null
  readonly pullRequest: PullRequest | null
  /** Files written outside of the repository. */
  readonly written: readonly string[]
  readonly remarks: readonly string[]
}

interface Declared {
  readonly declaration: Declaration
  readonly text: string
  readonly file: string
}

/**
 * Makes or takes the new CA, renders and seals every step, proves the result safe, and opens the plan pull request.
 *
 * The plan becomes visible in one ref update. Before it, two things exist that nothing reads: a hidden ref that holds the
 * finished commit, and the root key file. A run that was killed in between is finished by the next one from these two.
 */
export async function plan(context: Context, options: PlanOptions): Promise<PlanOutcome> {
  const { repository } = context
  await repository.fetch()
  const declared = await findDeclaration(context, options)
  const { declaration } = declared
  const base = await repository.head(declaration.base)
  const snapshot = repository.snapshot(base)
  const branch = planBranch(declaration.name)

  context.progress('reading the CA in use')
  const current = await currentCas(context, declaration)
  const inputs = { declaration: valueDigest(declaration), material: materialDigest(current) }

  const merged = await planAt(snapshot, declaration.name)
  if (merged !== null && sameInputs(merged, inputs)) return unchanged(merged, branch, null)
  const published = await repository.branch(branch)
  if (published !== null) {
    const there = await planAt(repository.snapshot(published), declaration.name)
    if (there !== null && sameInputs(there, inputs)) {
      const pullRequest = context.dryRun ? null : await openPlanRequest(context, declaration, there, branch)
      return unchanged(there, branch, pullRequest)
    }
  }
  if (merged !== null) return replan(context, declared, merged, snapshot, current, inputs)

  const pending = await takeUp(context, declaration, inputs, options)
  if (pending !== null) return await publishPlan(context, declaration, pending.plan, pending.commit, base, branch, [])

  const files = await filesForWiring(snapshot)
  await refuseUnreachable(declaration, files)
  context.progress('making the new CA')
  const next = await newCa(context, declaration)
  await acceptCas(declaration, current, next, context.now())
  const canaries = Object.fromEntries(
    declaration.sites.map(site => {
      const value = context.random(24).toString('base64url')
      return [site.name, { value, digest: canaryDigest(value) }]
    }),
  )
  context.progress('rendering and sealing every step')
  const custodies = await custodiesFor(context, declaration, snapshot)
  const made = await makePlan({
    declaration,
    files,
    current,
    next: next.sites,
    canaries,
    custody: site => custodies.get(site.name) as Custody,
    inputs,
    now: context.now(),
  })
  const proof = await provedSafe(made.plan, options.acceptOutage, context.now())
  const changes = new Map<string, string | null>(made.files)
  changes.set(declared.file, declared.text)
  for (const [path, text] of changes) if (text !== null) assertNoPrivateKey(text, path)
  if (next.rootKey !== null && options.rootKeyOut === null && !context.dryRun) throw needsRootKeyOut()
  const commit = await repository.commit({
    parent: base,
    changes,
    message: `plan rotation ${declaration.name}\n\nNothing that is deployed changes: every step is rendered and sealed, and waits for its own pull request.`,
    trailers: { 'Reanchor-Rotation': declaration.name, 'Reanchor-Phase': 'plan' },
    author: context.author,
    at: context.now(),
  })
  if (context.dryRun) {
    return { kind: 'dry-run', plan: made.plan, proof, branch, commit: null, pullRequest: null, written: [], remarks: [] }
  }
  const written: string[] = []
  if (next.rootKey !== null && options.rootKeyOut !== null) {
    await keep(context, pendingRef(declaration.name), commit)
    await writeRootKey(declaration, next, options.rootKeyOut, snapshot)
    written.push(options.rootKeyOut)
  }
  return await publishPlan(context, declaration, made.plan, commit, base, branch, written)
}

// ------------------------------------------------------------------------------------------------ what is asked for

/** rotation.yaml of the work tree where there is one (it may not be committed yet), else of the base branch. */
async function findDeclaration(context: Context, options: PlanOptions): Promise<Declared> {
  const { readDeclaration } = await import('../declaration/read.ts')
  const { repository } = context
  const found = new Map<string, string>()
  if (repository.workTree !== null) {
    const folder = join(repository.workTree, 'rotations')
    const names = existsSync(folder) ? readdirSync(folder) : []
    for (const name of names) {
      const file = join(folder, name, 'rotation.yaml')
      if (existsSync(file)) found.set(name, readFileSync(file, 'utf8'))
    }
  }
  if (found.size === 0) {
    const { defaultBase, rotationNames } = await import('./rotation.ts')
    const snapshot = repository.snapshot(await repository.head(options.base ?? (await defaultBase(repository))))
    for (const name of await rotationNames(snapshot)) {
      found.set(name, (await snapshot.read(`${rotationFolder(name)}/rotation.yaml`)) ?? '')
    }
  }
  const name = options.rotation ?? (found.size === 1 ? [...found.keys()][0] : undefined)
  const text = name === undefined ? undefined : found.get(name)
  if (name === undefined || text === undefined) {
    throw new ReanchorError({
      what: found.size === 0 ? 'no rotation is declared here' : 'which rotation is meant is not clear',
      where: { file: 'rotations/<name>/rotation.yaml' },
      expected: found.size === 0 ? 'a rotation.yaml' : `one of ${[...found.keys()].join(', ')}`,
      found: options.rotation ?? 'none',
      todo: found.size === 0 ? 'write one with `reanchor init istio`' : 'say which: --rotation NAME',
    })
  }
  const file = `${rotationFolder(name)}/rotation.yaml`
  const declaration = await readDeclaration(text, file, repository.workTree === null ? {} : { repository: repository.workTree })
  if (declaration.name !== name) {
    throw new ReanchorError({
      what: 'the folder and the rotation have different names',
      where: { file, field: 'metadata.name' },
      expected: name,
      found: declaration.name,
      todo: 'rename one of them',
    })
  }
  return { declaration, text, file }
}

async function currentCas(context: Context, declaration: Declaration): Promise<Record<string, CurrentCa>> {
  const current: Record<string, CurrentCa> = {}
  for (const site of declaration.sites) {
    const source = site.current ?? declaration.current
    if (source.from === 'files') {
      current[site.name] = currentFromFiles(source, context.readFile)
      continue
    }
    const cluster = await context.openCluster(site)
    try {
      current[site.name] = await currentFromCluster(cluster, declaration.istio)
    } finally {
      await cluster.close()
    }
  }
  return current
}

async function newCa(context: Context, declaration: Declaration): Promise<NewCa> {
  const { next } = declaration
  switch (next.from) {
    case 'generate':
      return await generateCa(declaration, next, { now: context.now(), random: context.random, keys: context.keys })
    case 'files':
      return caFromFiles(declaration, next, context.readFile)
    case 'csr':
      throw new ReanchorError({
        what: 'an offline root (next.csr) is not supported in this version',
        where: { field: 'spec.next.csr' },
        expected: 'next.generate or next.files',
        todo: 'have the issuing CAs signed by hand and name the files under spec.next.files',
      })
  }
}

/** Refuses material that no consumer would take, or that two consumers could not tell apart. */
async function acceptCas(declaration: Declaration, current: Readonly<Record<string, CurrentCa>>, next: NewCa, now: Date): Promise<void> {
  const { acceptIssuing, acceptRoot } = await import('../pki/accept.ts')
  acceptRoot(next.root, now)
  for (const site of declaration.sites) {
    const ca = next.sites[site.name] as NextCa
    acceptIssuing(ca.issuer, { root: next.root, chain: ca.chain, now })
    for (const root of current[site.name]?.roots ?? []) {
      refuseEqualSubjects(root, next.root, site)
      if (Date.parse(root.notAfter) <= now.getTime() && declaration.strategy !== 'emergency') {
        throw new ReanchorError({
          what: 'the root in use has expired, so there is no overlap to keep',
          where: { object: `site ${site.name}, root ${root.sha256}` },
          expected: 'a root that is valid until both can be trusted',
          found: `it ended ${root.notAfter}`,
          todo: 'choose strategy emergency with --accept-outage: new connections fail already, and every proxy must restart',
          exit: exitCodes.refused,
        })
      }
    }
  }
}

type Named = { readonly subject: string; readonly sha256: string; readonly spki: string; readonly ski: string | null }

/** Verifiers that look an issuer up by name stop at the first match: equal names with different keys need key identifiers. */
function refuseEqualSubjects(old: Named, next: Named, site: Site): void {
  if (old.sha256 === next.sha256 || old.subject !== next.subject || old.spki === next.spki) return
  throw new ReanchorError({
    what: 'old and new root have the same subject but different keys',
    where: { object: `site ${site.name}` },
    expected: 'a subject of its own for the new root, for example with a generation in its CN',
    found: `${next.subject} for both ${old.sha256} and ${next.sha256}`,
    todo: 'change spec.next.generate.subject, or have the new root made with another subject',
    example: `${next.subject},OU=2`,
    exit: exitCodes.refused,
  })
}

// ------------------------------------------------------------------------------------------------------- custody

/** The repository's rules and one custody for each site. */
async function custodiesFor(context: Context, declaration: Declaration, snapshot: Snapshot, keep: readonly SealedCopy[] = []) {
  const custodies = new Map<string, Custody>()
  for (const site of declaration.sites) {
    custodies.set(site.name, await custodyFor(context, site.custody ?? declaration.custody, snapshot, keep))
  }
  return custodies
}

interface SealedCopy {
  readonly destination: string
  readonly yaml: string
}

async function custodyFor(
  context: Context,
  choice: CustodyChoice,
  snapshot: Snapshot,
  keep: readonly SealedCopy[],
): Promise<Custody> {
  switch (choice.kind) {
    case 'sops': {
      const { createSopsCustody } = await import('../custody/sops.ts')
      const identity = context.environment.SOPS_AGE_KEY
      return createSopsCustody({
        recipients: await recipientsOf(choice, snapshot),
        now: context.now(),
        random: context.random,
        keep,
        ...(context.wrapDataKey === undefined ? {} : { wrapDataKey: context.wrapDataKey }),
        ...(identity === undefined ? {} : { identity }),
      })
    }
    case 'sealedSecrets': {
      const { createSealedSecretsCustody } = await import('../custody/sealed-secrets.ts')
      const inRepository = await snapshot.read(choice.certificate)
      return createSealedSecretsCustody({
        certificatePem: inRepository ?? context.readFile(choice.certificate),
        scope: choice.scope,
        random: context.random,
        now: context.now(),
      })
    }
    case 'externalSecrets':
      throw new ReanchorError({
        what: 'custody externalSecrets is not supported in this version',
        where: { field: 'spec.custody.externalSecrets' },
        expected: 'sops or sealedSecrets',
        todo: 'choose one of them',
      })
  }
}

async function recipientsOf(
  choice: Extract<CustodyChoice, { kind: 'sops' }>,
  snapshot: Snapshot,
): Promise<readonly string[] | ((destination: string) => readonly string[])> {
  if (choice.age !== null) return choice.age
  const { readSopsRules, recipientsFor } = await import('../custody/sops-rules.ts')
  const text = await snapshot.read('.sops.yaml')
  if (text === null) {
    throw new ReanchorError({
      what: 'no age recipients to seal to',
      where: { file: '.sops.yaml' },
      expected: 'spec.custody.sops.age in rotation.yaml, or a .sops.yaml with a rule for the sites’ folders',
      found: 'neither',
      todo: 'add the public key that your cluster unseals with',
      example: 'custody: {sops: {age: [age1…]}}',
    })
  }
  const rules = readSopsRules(text, '.sops.yaml')
  return destination => recipientsFor(rules, destination)
}

async function rootRecipients(declaration: Declaration, snapshot: Snapshot): Promise<readonly string[]> {
  const { custody } = declaration
  if (custody.kind === 'sealedSecrets') return custody.age
  if (custody.kind === 'externalSecrets') return []
  const recipients = await recipientsOf(custody, snapshot)
  return typeof recipients === 'function' ? recipients(`${declaration.sites[0]?.path}/cacerts.yaml`) : recipients
}

async function writeRootKey(declaration: Declaration, next: NewCa, path: string, snapshot: Snapshot): Promise<void> {
  const { writeRootKeyFile } = await import('../custody/root-key.ts')
  if (next.rootKey === null) return
  await writeRootKeyFile({
    path,
    keyPem: privateKeyPem(next.rootKey),
    certificate: next.root,
    rotation: declaration.name,
    recipients: await rootRecipients(declaration, snapshot),
  })
}

function needsRootKeyOut(): ReanchorError {
  return new ReanchorError({
    what: 'the new root’s private key needs a place outside of the repository',
    expected: '--root-key-out FILE',
    found: 'no such option',
    todo: 'name a file that does not exist yet; it is written once, sealed to the age recipients, and belongs offline',
    example: 'reanchor plan --root-key-out ~/mesh-2026-root.key.age',
  })
}

// ------------------------------------------------------------------------------------------------------- safety

async function provedSafe(made: Plan, acceptOutage: boolean, now: Date): Promise<Proof> {
  const { provePlan } = await import('../safety/prove.ts')
  const proof = provePlan(made, { at: now })
  if (proof.safe) return proof
  const broken = proof.transitions.find(transition => transition.counterexample !== null)
  if (made.strategy === 'emergency' && acceptOutage) return proof
  throw new ReanchorError({
    what: 'the plan is not safe',
    where: { object: broken === undefined ? `rotation ${made.metadata.name}` : `${broken.from} → ${broken.to} at ${broken.site}` },
    expected: 'every handshake to succeed in every mix of two neighbouring steps',
    found: broken?.counterexample?.sentence ?? proof.notes.join('; '),
    todo:
      made.strategy === 'emergency'
        ? 'this strategy cuts connections on purpose: run `reanchor prove` for the pairs, then plan again with --accept-outage'
        : 'correct the declaration or the material; `reanchor prove` prints the whole table',
    exit: exitCodes.refused,
  })
}

/** Text files that may hold GitOps objects; binaries and what reanchor renders itself are not of interest. */
export async function filesForWiring(snapshot: Snapshot): Promise<FileTree> {
  const paths = [...(await snapshot.list()).keys()].filter(
    path => (/\.(ya?ml|json)$/.test(path) || /(^|\/)Kustomization$/.test(path)) && !/^rotations\/[^/]+\/(phases|evidence)\//.test(path),
  )
  return await snapshot.readMany(paths)
}

/** A site's folder is applied by exactly one object, and `rotations/` by none. */
async function refuseUnreachable(declaration: Declaration, files: FileTree): Promise<void> {
  const { checkReach } = await import('../gitops/reach.ts')
  const problems = checkReach(files, { sites: declaration.sites, rotationsFolder: 'rotations' })
  const [first, ...others] = problems
  if (first === undefined) return
  throw new ReanchorError({
    what: [first, ...others].map(problem => problem.what).join('; '),
    where: first.where ?? {},
    expected: 'each site’s folder reached by one Kustomization or Application, and rotations/ by none',
    todo: first.todo ?? 'narrow the path of the object that reaches it',
    exit: exitCodes.refused,
  })
}

// --------------------------------------------------------------------------------------------------- publishing

function pendingRef(rotation: string): string {
  return `refs/reanchor/pending/${rotation}`
}

async function keep(context: Context, ref: string, commit: string): Promise<void> {
  const { repository } = context
  const from = await repository.readRef(ref)
  if (from === commit) return
  await repository.keepRef(ref, from, commit)
}

/** A plan that an earlier run finished but could not publish, if its root key file is there and is of this plan's root. */
async function takeUp(
  context: Context,
  declaration: Declaration,
  inputs: Plan['inputs'],
  options: PlanOptions,
): Promise<{ readonly plan: Plan; readonly commit: string } | null> {
  const { repository } = context
  const commit = await repository.readRef(pendingRef(declaration.name))
  if (commit === null || options.rootKeyOut === null || !existsSync(options.rootKeyOut)) return null
  const pending = await planAt(repository.snapshot(commit), declaration.name)
  const { readRootKeyHeader } = await import('../custody/root-key.ts')
  const header = readRootKeyHeader(options.rootKeyOut)
  const root = pending?.certificates.find(certificate => certificate.role === 'new-root')
  if (pending === null || root === undefined || header.sha256 !== root.sha256 || !sameInputs(pending, inputs)) return null
  context.progress('finishing the plan that an earlier run prepared')
  return { plan: pending, commit }
}

async function publishPlan(
  context: Context,
  declaration: Declaration,
  made: Plan,
  commit: string,
  base: string,
  branch: string,
  written: readonly string[],
): Promise<PlanOutcome> {
  const { repository } = context
  const from = await repository.branch(branch)
  const result = await repository.publish([{ ref: `refs/heads/${branch}`, from, to: commit }])
  if (!result.ok) throw somebodyElse(result.ref)
  const pending = await repository.readRef(pendingRef(declaration.name))
  if (pending !== null) await repository.keepRef(pendingRef(declaration.name), pending, null)
  const pullRequest = await openPlanRequest(context, declaration, made, branch)
  const { provePlan } = await import('../safety/prove.ts')
  const proof = provePlan(made, { at: context.now() })
  return { kind: 'planned', plan: made, proof, branch, commit, pullRequest, written, remarks: base === commit ? ['nothing to commit'] : [] }
}

export function somebodyElse(ref: string): ReanchorError {
  return new ReanchorError({
    what: 'somebody else moved the branch first',
    where: { object: ref },
    expected: 'the branch as it was read',
    todo: 'run the same command again: it takes up what is there now',
    exit: exitCodes.waiting,
  })
}

async function openPlanRequest(context: Context, declaration: Declaration, made: Plan, branch: string): Promise<PullRequest | null> {
  const forge = await context.openForge(declaration)
  const { planRequestView } = await import('./views.ts')
  const { pullRequestBody, pullRequestTitle } = await import('../report/pull-request.ts')
  const view = await planRequestView(made, context.now())
  const body = pullRequestBody(view)
  assertNoPrivateKey(body, 'the pull request')
  return await forge.open({ title: pullRequestTitle(view), body, branch, base: declaration.base })
}

function sameInputs(made: Plan, inputs: Plan['inputs']): boolean {
  return made.inputs.declaration === inputs.declaration && made.inputs.material === inputs.material
}

async function unchanged(made: Plan, branch: string, pullRequest: PullRequest | null): Promise<PlanOutcome> {
  const { provePlan } = await import('../safety/prove.ts')
  return {
    kind: 'unchanged',
    plan: made,
    proof: provePlan(made),
    branch,
    commit: null,
    pullRequest,
    written: [],
    remarks: ['declaration and material are what the plan was made from'],
  }
}

async function replan(
  _context: Context,
  declared: Declared,
  _merged: Plan,
  _snapshot: Snapshot,
  _current: Readonly<Record<string, CurrentCa>>,
  _inputs: { readonly declaration: Digest; readonly material: Digest },
): Promise<PlanOutcome> {
  throw new ReanchorError({
    what: 'the declaration or the live CA changed after the plan was merged',
    where: { file: declared.file },
    expected: 'what the plan was made from',
    todo: 'finish or abandon this rotation, then declare a new one',
    exit: exitCodes.refused,
  })
}
