import { existsSync } from 'node:fs'
import { resources } from '../cluster/resources.ts'
import { assertNoPrivateKey } from '../custody/leak.ts'
import { exitCodes, ReanchorError } from '../errors.ts'
import { clearUnfinished } from '../files/write-once.ts'
import type { PullRequest } from '../forge/forge.ts'
import { privateKeyPem } from '../pki/keys.ts'
import { positionText, progressOf } from '../plan/advance.ts'
import { currentOf, knows, nextOf, sealedAt, splice } from '../plan/again.ts'
import type { CurrentCa, NewCa, NextCa } from '../plan/ca.ts'
import { valueDigest } from '../plan/digest.ts'
import { canaryDigest, makePlan } from '../plan/make.ts'
import { materialDigest } from '../plan/material.ts'
import { planBranch, rotationFolder } from '../plan/steps.ts'
import type { Repository, Snapshot } from '../repository/repository.ts'
import type { WriteHook } from '../repository/write-hook.ts'
import type { CustodyChoice, Declaration, FileTree, Plan, Proof, Site, SitePosition } from '../rotation.ts'
import { systemOf } from '../systems/systems.ts'
import type { Context } from './context.ts'
import { type Custodies, custodiesFor, rootRecipients, sealedCopies, sealedValue } from './custodies.ts'
import { type Declared, findDeclaration } from './declared.ts'
import { earlierCopies, earlierRotations, keptCanaries, refuseOtherCustody, withRestarts } from './earlier.ts'
import { filesForWiring } from './files.ts'
import { gateContext } from './gate-status.ts'
import { openRequests, signedCa, writeRequests } from './offline-root.ts'
import { refuseInside } from './outside.ts'
import { publishNew, somebodyElse } from './requests.ts'
import { planAt, positionsAt } from './rotation.ts'
import { holdsStoredValues, needsKeysOut, referredValues, storeTexts, writeStoredValues } from './stored-values.ts'
import { unreadable } from './unreadable.ts'

export interface PlanOptions {
  readonly rotation: string | null
  readonly base: string | null
  /** Where the new root's private key goes, sealed to the recipients; needed where reanchor makes the root. */
  readonly rootKeyOut: string | null
  /** Folder for private keys that go to a store outside of Git; needed where custody is externalSecrets. */
  readonly keysOut?: string | null
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
  refuseMissingStrategy(declared)
  const base = await repository.head(declaration.base)
  const snapshot = repository.snapshot(base)

  context.progress('reading the CA in use')
  const { current: live, clusters } = await currentCas(context, declaration)
  const merged = await planAt(snapshot, declaration.name)
  const current = merged === null ? live : await unlessMoved(merged, live, snapshot, declaration)
  const inputs = {
    declaration: plannedDigest(declaration),
    material: materialDigest(current),
    next: valueDigest(declaration.next),
  }
  const scene: Scene = { context, declared, base, snapshot, current, clusters, inputs, options }

  if (merged !== null && sameInputs(merged, inputs))
    return unchanged(merged, planBranch(declaration.name), null, options)
  const published = await publishedPlan(scene)
  if (published !== null) return published
  const pending = await takeUp(scene)
  if (pending !== null) return await publish(scene, pending, [])

  await refuseUnreachable(declaration, await filesForWiring(snapshot))
  if (merged !== null) return await planAgain(scene, merged)
  if (declaration.next.from === 'csr' && options.chain === null) return await writeRequests(scene)
  return await planAnew(scene)
}

/** What one run of `plan` has read. */
interface Scene {
  readonly context: Context
  readonly declared: Declared
  /** Commit of the base branch. */
  readonly base: string
  readonly snapshot: Snapshot
  readonly current: Readonly<Record<string, CurrentCa>>
  /** By site, where its CA was read from a cluster: which one that was. */
  readonly clusters: Readonly<Record<string, string>>
  readonly inputs: Plan['inputs']
  readonly options: PlanOptions
}

async function planAnew(scene: Scene): Promise<PlanOutcome> {
  const { context, declared, snapshot, options } = scene
  const { declaration } = declared
  const requests =
    declaration.next.from === 'csr' ? await openRequests(context, declaration, scene.current, snapshot) : null
  const minted = declaration.next.from === 'certManager' ? await (await import('./mint.ts')).takeMinted(scene) : null
  const next =
    minted?.next ??
    (requests === null ? await newCa(scene) : await signedCa(context, declaration, requests, options.chain ?? []))
  if (next.rootKey !== null && options.rootKeyOut === null && !context.dryRun) throw needsRootKeyOut()
  if (next.rootKey !== null && options.rootKeyOut !== null) {
    refuseRootKeyPlace(options.rootKeyOut, context.repository)
    refuseNoRootRecipient(await rootRecipients(declaration, snapshot), declared.file)
  }
  const earlier = await earlierRotations(snapshot, declaration)
  refuseOtherCustody(declaration, earlier)
  const current = withRestarts(scene.current, earlier)
  await systemOf(declaration.system).accept(declaration, current, next, context.now())
  const canaries = Object.fromEntries(
    declaration.sites.map(site => {
      const value = context.random(24).toString('base64url')
      const kept = earlier[site.name]?.canary
      return [site.name, { value, digest: kept ?? canaryDigest(value) }]
    }),
  )
  context.progress('rendering and sealing every step')
  const keep = [...(requests?.copies ?? []), ...earlierCopies(declaration, earlier)]
  const custodies = await custodiesFor(context, declaration, snapshot, keep)
  const made = await makePlan({
    declaration,
    files: await filesForWiring(snapshot),
    current,
    clusters: scene.clusters,
    next: next.sites,
    canaries: await keptCanaries(declaration, canaries, earlier),
    custody: custodies.of,
    adopted: Object.fromEntries(Object.entries(earlier).map(([site, each]) => [site, each.files])),
    ...follows(earlier),
    inputs: scene.inputs,
    now: context.now(),
  })
  await refusePatched(context, declaration, made.plan)
  const changes = new Map<string, string | null>(made.files)
  changes.set(declared.file, declared.text)
  if (minted !== null) changes.set(minted.record.file, minted.record.text)
  return await commitPlan(scene, made.plan, changes, next, custodies)
}

function follows(earlier: Readonly<Record<string, { readonly rotation: string }>>): { readonly follows?: string } {
  const [first] = Object.values(earlier)
  return first === undefined ? {} : { follows: first.rotation }
}

/** The declaration or the live CA changed: what lies ahead is rendered again, what sites have reached stays as it was merged. */
async function planAgain(scene: Scene, merged: Plan): Promise<PlanOutcome> {
  const { context, declared, snapshot } = scene
  const { declaration } = declared
  const positions = await positionsAt(snapshot, merged)
  const reached = Object.values(positions).map(position => progressOf(merged, position))
  if (reached.includes(null)) throw notOnTheWay(positions)
  const furthest = Math.max(-1, ...reached.map(index => index ?? -1))
  refuseOtherRotation(merged, scene, furthest)

  const copies = await sealedCopies(merged, snapshot)
  const current: Record<string, CurrentCa> = {}
  const next: Record<string, NextCa> = {}
  const canaries: Record<string, { value: string; digest: string }> = {}
  for (const site of declaration.sites) {
    const custody = (site.custody ?? declaration.custody).kind
    const nextIssuer = nextOf(merged, site.name, '').issuer.sha256
    const key = await sealedKey(merged, site.name, nextIssuer, custody, snapshot)
    if (key === null) throw new Error(`the plan holds no sealed key of ${nextIssuer}`)
    next[site.name] = nextOf(merged, site.name, key)
    current[site.name] = scene.current[site.name] as CurrentCa
    const canary = copies.find(copy => copy.destination === `${site.path}/canary.yaml`)
    const value = canary === undefined ? null : await sealedValue(custody, canary.yaml, 'canary')
    canaries[site.name] = { value: value ?? '', digest: merged.canaries[site.name] ?? '' }
  }
  context.progress('rendering the steps ahead again')
  const custodies = await custodiesFor(context, declaration, snapshot, copies)
  const made = await makePlan({
    declaration,
    files: await filesForWiring(snapshot),
    current,
    clusters: scene.clusters,
    next,
    canaries,
    custody: custodies.of,
    ...(merged.follows === undefined ? {} : { follows: merged.follows }),
    merged,
    inputs: scene.inputs,
    now: new Date(merged.createdAt),
  })
  const folder = rotationFolder(declaration.name)
  const oldPaths = [...(await snapshot.list(folder)).keys()].filter(
    path => path.startsWith(`${folder}/phases/`) || path.startsWith(`${folder}/certificates/`),
  )
  const oldFiles = await snapshot.readMany(oldPaths)
  const spliced = splice(merged, oldFiles, made, furthest)
  if (spliced === null) throw otherSteps(declaration.name)
  const changes = new Map<string, string | null>(oldPaths.map(path => [path, null]))
  for (const [path, text] of spliced.files) changes.set(path, text)
  for (const path of oldPaths)
    if (path.includes('/certificates/')) changes.set(path, spliced.files.get(path) ?? oldFiles.get(path) ?? null)
  changes.set(declared.file, declared.text)
  return await commitPlan(scene, spliced.plan, changes, null, custodies)
}

/** Proves, looks for leaks, commits, and makes it visible. */
async function commitPlan(
  scene: Scene,
  made: Plan,
  changes: ReadonlyMap<string, string | null>,
  next: NewCa | null,
  custodies: Custodies,
): Promise<PlanOutcome> {
  const { context, declared, base, snapshot, options } = scene
  const { declaration } = declared
  const remarks = custodies.remarks()
  const values = custodies.values()
  if (values.length > 0 && !context.dryRun) {
    if (options.keysOut == null) throw needsKeysOut()
    refuseInside(options.keysOut, context.repository, 'private keys', '--keys-out')
  }
  const proof = await provedSafe(made, options.acceptOutage, context.now())
  for (const [path, text] of changes) if (text !== null) assertNoPrivateKey(text, path)
  const branch = planBranch(declaration.name)
  const commit = await context.repository.commit({
    parent: base,
    changes,
    message: `plan rotation ${declaration.name}\n\nNothing that is deployed changes: every step is rendered and sealed, and waits for its own pull request.`,
    trailers: { 'Reanchor-Rotation': declaration.name, 'Reanchor-Phase': 'plan' },
    author: context.author,
    at: context.now(),
  })
  if (context.dryRun)
    return { kind: 'dry-run', plan: made, proof, branch, commit: null, pullRequest: null, written: [], remarks }
  const rootKeyOut = next === null || next.rootKey === null ? null : options.rootKeyOut
  const keysOut = values.length === 0 ? null : (options.keysOut ?? null)
  const written: string[] = []
  if (rootKeyOut !== null || keysOut !== null) {
    await keepPending(context, pendingRef(declaration.name), commit)
    try {
      // The root's last: its file is never written again, so no other plan must be left to bring it about.
      if (keysOut !== null) await writeStoredValues(keysOut, values, context.repository.onWrite)
      if (next !== null && rootKeyOut !== null)
        await writeRootKey(declaration, next, rootKeyOut, snapshot, context.repository.onWrite)
    } catch (error) {
      // Without its keys nobody can finish this plan: it must not lie about as if somebody could.
      const whole =
        (next === null || rootKeyOut === null || (await holdsRootKey(rootKeyOut, next.root.sha256))) &&
        (keysOut === null || holdsStoredValues(keysOut, values))
      if (!whole) await dropPending(context.repository, declaration.name, commit)
      throw error
    }
    if (rootKeyOut !== null) written.push(rootKeyOut)
  }
  const outcome = await publish(scene, { plan: made, commit, proof }, written)
  return { ...outcome, remarks: [...remarks, ...outcome.remarks] }
}

// ------------------------------------------------------------------------------------------------------ material

async function currentCas(context: Context, declaration: Declaration): Promise<Pick<Scene, 'current' | 'clusters'>> {
  const system = systemOf(declaration.system)
  const current: Record<string, CurrentCa> = {}
  const clusters: Record<string, string> = {}
  for (const site of declaration.sites) {
    const source = site.current ?? declaration.current
    if (source.from === 'files') {
      current[site.name] = await system.currentFromFiles(source, context.readFile, declaration)
      continue
    }
    const cluster = await context.openCluster(site)
    try {
      current[site.name] = await system.currentFromCluster(cluster, declaration, site)
      const { uid } = await cluster.identity()
      const [twin] = Object.entries(clusters).find(([, known]) => known === uid) ?? []
      if (twin !== undefined) throw sameCluster(site, twin, uid)
      clusters[site.name] = uid
    } catch (error) {
      throw unreadable(error, site.name)
    } finally {
      await cluster.close()
    }
  }
  return { current, clusters }
}

/** The CA of another cluster, adopted, would take the site's own away from under every leaf that is out (F27). */
function sameCluster(site: Site, twin: string, uid: string): ReanchorError {
  return new ReanchorError({
    what: 'two sites lead to one cluster, so that one of them would adopt the CA of the other',
    where: { field: 'spec.sites[].cluster', object: `site ${site.name}` },
    expected: 'a cluster of its own for each site',
    found: `namespace kube-system has UID ${uid} at ${twin} and at ${site.name}`,
    todo: `see where the context of each leads: kubectl --context … get namespace kube-system --output jsonpath={.metadata.uid}`,
    exit: exitCodes.refused,
  })
}

async function newCa({ context, declared, current }: Scene): Promise<NewCa> {
  const { declaration } = declared
  const { next } = declaration
  if (next.from === 'csr') throw new Error('an offline root signs what it is asked for; see offline-root.ts')
  if (next.from === 'certManager') throw new Error('cert-manager mints what it is asked for; see mint.ts')
  return await systemOf(declaration.system).newCa(declaration, next, {
    now: context.now(),
    random: context.random,
    keys: context.keys,
    read: context.readFile,
    current,
  })
}

/** Today's CA as the plan knows it, where the live one is one that the plan itself brought; else the live one, which moved. */
async function unlessMoved(
  merged: Plan,
  live: Readonly<Record<string, CurrentCa>>,
  snapshot: Snapshot,
  declaration: Declaration,
): Promise<Record<string, CurrentCa>> {
  const current: Record<string, CurrentCa> = {}
  for (const site of declaration.sites) {
    const seen = live[site.name]
    if (seen === undefined) continue
    if (!merged.sites.some(each => each.name === site.name) || !knows(merged, site.name, seen.issuer.sha256)) {
      current[site.name] = seen
      continue
    }
    const first = currentOf(merged, site.name, null)
    const kind = (site.custody ?? declaration.custody).kind
    const sealed = await sealedKey(merged, site.name, first.issuer.sha256, kind, snapshot)
    const key = sealed ?? (seen.issuer.sha256 === first.issuer.sha256 ? seen.key : null)
    current[site.name] = { ...first, key, ...(seen.extra === undefined ? {} : { extra: seen.extra }) }
  }
  return current
}

/** The sealed private key of a CA, as a step of the plan carries it. */
async function sealedKey(
  plan: Plan,
  site: string,
  issuer: string,
  kind: CustodyChoice['kind'],
  snapshot: Snapshot,
): Promise<string | null> {
  const found = sealedAt(plan, site, issuer)
  const yaml = found === null ? null : await snapshot.read(found.file)
  return found === null || yaml === null ? null : await sealedValue(kind, yaml, found.key)
}

/** What a rotation is about cannot change on its way: that is another rotation. */
function refuseOtherRotation(merged: Plan, scene: Scene, furthest: number): void {
  const { declaration, file } = scene.declared
  const paths = (sites: readonly { readonly name: string; readonly path: string }[]) =>
    valueDigest(sites.map(({ name, path }) => [name, path]))
  const changed = [
    ...(merged.system === declaration.system ? [] : ['system']),
    ...(merged.strategy === declaration.strategy ? [] : ['strategy']),
    ...(merged.inputs.next === scene.inputs.next ? [] : ['next']),
    ...(paths(merged.sites) === paths(declaration.sites) ? [] : ['sites']),
  ]
  if (changed.length === 0) return
  throw new ReanchorError({
    what: `spec.${changed.join(' and spec.')} changed after the plan was merged`,
    where: { file },
    expected: 'changes of gates, reload, rollout, custody or delivery',
    found: furthest < 0 ? 'another rotation, although no site has adopted this one yet' : 'another rotation',
    todo: 'abandon this rotation and declare the new one under another name',
    exit: exitCodes.refused,
  })
}

function notOnTheWay(positions: Readonly<Record<string, SitePosition>>): ReanchorError {
  const found = Object.entries(positions).filter(([, position]) => position.kind !== 'at' && position.kind !== 'absent')
  return new ReanchorError({
    what: 'a site is not at any step of the plan, so there is no place to go on from',
    where: { object: found.map(([site]) => `site ${site}`).join(', ') },
    expected: 'every site at a planned step',
    found: found.map(([, position]) => positionText(position)).join('; '),
    todo: 'put the site’s folder back first; `reanchor status` shows the difference',
    exit: exitCodes.refused,
  })
}

function otherSteps(name: string): ReanchorError {
  return new ReanchorError({
    what: 'the declaration would change steps that sites have passed already',
    where: { file: `${rotationFolder(name)}/rotation.yaml` },
    expected: 'the same steps as far as any site has come',
    todo: 'undo what changes them, such as new batches of reload, or abandon the rotation',
    exit: exitCodes.refused,
  })
}

function refuseMissingStrategy({ declaration, file }: Declared): void {
  const missing = systemOf(declaration.system).strategies[declaration.strategy]
  if (missing === null) return
  throw new ReanchorError({
    ...missing,
    where: { file, field: 'spec.strategy' },
    found: declaration.strategy,
    exit: exitCodes.refused,
  })
}

/** Of a Secret that the Sealed Secrets controller only adds keys to, no step could take one away. */
async function refusePatched(context: Context, declaration: Declaration, made: Plan): Promise<void> {
  const { isPatched, takeOverCommand } = await import('../custody/sealed-secrets.ts')
  const { words } = systemOf(declaration.system)
  for (const site of declaration.sites) {
    const adopted = made.phases[0]?.steps[0]?.sites[site.name]?.state
    if ((site.custody ?? declaration.custody).kind !== 'sealedSecrets' || adopted === undefined) continue
    if ((site.current ?? declaration.current).from !== 'cluster') continue
    const cluster = await context.openCluster(site)
    try {
      for (const taken of words.takeOvers(declaration, site, adopted)) {
        const live = await cluster.metadata(resources.secrets, taken.namespace, taken.name)
        if (isPatched(live?.metadata.annotations)) throw patched(site, taken, takeOverCommand(taken))
      }
    } finally {
      await cluster.close()
    }
  }
}

function patched(
  site: Site,
  { namespace, name }: { readonly namespace: string; readonly name: string },
  command: string,
): ReanchorError {
  return new ReanchorError({
    what: 'the Sealed Secrets controller only adds keys to this Secret, so that no step could take one away',
    where: { object: `site ${site.name}, Secret ${namespace}/${name}` },
    expected: 'a Secret without the annotation sealedsecrets.bitnami.com/patch',
    found: 'sealedsecrets.bitnami.com/patch: "true"',
    todo: `let the controller take the Secret over whole instead: ${command}`,
    exit: exitCodes.refused,
  })
}

/** Said before anything is sealed: the file is written once and never over another. */
function refuseRootKeyPlace(path: string, repository: Repository): void {
  refuseInside(path, repository, 'the root key', '--root-key-out')
  if (!existsSync(path)) return
  throw new ReanchorError({
    what: 'the file for the root key exists already',
    where: { file: path },
    expected: 'a file that does not exist yet: it is written once, and never over another',
    found: 'a file that belongs to no plan that was left unfinished here',
    todo: 'name another file with --root-key-out, or move that one away if it is not needed',
  })
}

function refuseNoRootRecipient(recipients: readonly string[], file: string): void {
  if (recipients.length > 0) return
  throw new ReanchorError({
    what: 'nobody could open the new root’s key file: custody names no recipient of age',
    where: { file, field: 'spec.custody' },
    expected: 'a recipient of age for the root key, which is sealed by age whatever seals the rest',
    found: 'none',
    todo: 'make a key with age-keygen, keep it offline, and name its recipient',
    example: 'custody: {sops: {rootAge: [age1…]}}',
  })
}

async function writeRootKey(
  declaration: Declaration,
  next: NewCa,
  path: string,
  snapshot: Snapshot,
  onWrite: WriteHook,
): Promise<void> {
  const { writeRootKeyFile } = await import('../custody/root-key.ts')
  if (next.rootKey === null) return
  await writeRootKeyFile({
    path,
    keyPem: privateKeyPem(next.rootKey),
    certificate: next.root,
    rotation: declaration.name,
    recipients: await rootRecipients(declaration, snapshot),
    onWrite,
  })
}

async function holdsRootKey(path: string, root: string): Promise<boolean> {
  const { readRootKeyHeader } = await import('../custody/root-key.ts')
  try {
    return readRootKeyHeader(path).sha256 === root
  } catch {
    return false
  }
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
    where: {
      object:
        broken === undefined ? `rotation ${made.metadata.name}` : `${broken.from} → ${broken.to} at ${broken.site}`,
    },
    expected: 'every handshake to succeed in every mix of two neighbouring steps',
    found: broken?.counterexample?.sentence ?? proof.notes.join('; '),
    todo:
      made.strategy === 'emergency'
        ? systemOf(made.system).words.acceptOutage
        : 'correct the declaration or the material; `reanchor prove` prints the whole table',
    exit: exitCodes.refused,
  })
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

async function keepPending(context: Context, ref: string, commit: string): Promise<void> {
  const { repository } = context
  const from = await repository.readRef(ref)
  if (from === commit) return
  if (!(await moveHidden(repository, ref, from, commit))) throw somebodyElse(ref)
}

/** False where another run of `plan` moved the hidden ref in between. */
async function moveHidden(
  repository: Repository,
  ref: string,
  from: string | null,
  to: string | null,
): Promise<boolean> {
  try {
    await repository.keepRef(ref, from, to)
    return true
  } catch (error) {
    if (!(error instanceof ReanchorError)) throw error
    const now = await repository.readRef(ref)
    if (now === from) throw error
    return now === to
  }
}

/** Forgets the hidden ref of what is published; another run's work in it is left to that run. */
async function dropPending(repository: Repository, rotation: string, published: string): Promise<void> {
  const ref = pendingRef(rotation)
  if ((await repository.readRef(ref)) === published) await moveHidden(repository, ref, published, null)
}

interface Prepared {
  readonly plan: Plan
  readonly commit: string
  readonly proof: Proof
}

/** The plan branch as an earlier run left it, if it is of the same inputs: then only its pull request may be missing. */
async function publishedPlan(scene: Scene): Promise<PlanOutcome | null> {
  const { context, declared, inputs } = scene
  const branch = planBranch(declared.declaration.name)
  const published = await context.repository.branch(branch)
  if (published === null) return null
  const there = await planAt(context.repository.snapshot(published), declared.declaration.name)
  if (there === null || !sameInputs(there, inputs)) return null
  if (context.dryRun) return await unchanged(there, branch, null, scene.options)
  await dropPending(context.repository, declared.declaration.name, published)
  const { provePlan } = await import('../safety/prove.ts')
  const proof = provePlan(there, { at: context.now() })
  const ready = { plan: there, proof, commit: published }
  const pullRequest = await openPlanRequest(context, declared.declaration, ready, branch)
  return await unchanged(there, branch, pullRequest, scene.options)
}

/** A plan that an earlier run finished but could not publish, if its root key file is there and is of this plan's root. */
async function takeUp(scene: Scene): Promise<Prepared | null> {
  const { context, declared, inputs, options } = scene
  const { repository } = context
  const name = declared.declaration.name
  const commit = await repository.readRef(pendingRef(name))
  if (commit === null) return null
  const { rootKeyOut, keysOut = null } = options
  const snapshot = repository.snapshot(commit)
  const pending = await planAt(snapshot, name)
  if (pending === null || !sameInputs(pending, inputs)) return null
  const values = await referredValues(pending, declared.declaration, snapshot)
  if (values.length > 0 && (keysOut === null || !holdsStoredValues(keysOut, values))) return null
  const { next, system } = declared.declaration
  const madeRoot = next.from === 'generate' && systemOf(system).settings.issuing
  if (rootKeyOut === null ? madeRoot || values.length === 0 : !existsSync(rootKeyOut)) return null
  if (rootKeyOut !== null) {
    const { readRootKeyHeader } = await import('../custody/root-key.ts')
    const header = readRootKeyHeader(rootKeyOut)
    const root = pending.certificates.find(certificate => certificate.role === 'new-root')
    if (root === undefined || header.sha256 !== root.sha256) return null
  }
  context.progress('finishing the plan that an earlier run prepared')
  if (rootKeyOut !== null) clearUnfinished(rootKeyOut)
  const { provePlan } = await import('../safety/prove.ts')
  return { plan: pending, commit, proof: provePlan(pending, { at: context.now() }) }
}

async function publish(scene: Scene, prepared: Prepared, written: readonly string[]): Promise<PlanOutcome> {
  const { context, declared } = scene
  const { declaration } = declared
  const { repository } = context
  const branch = planBranch(declaration.name)
  const from = await repository.branch(branch)
  const concerns = (path: string): boolean => path.startsWith(`${rotationFolder(declaration.name)}/`)
  await publishNew(repository, {
    branch,
    from,
    to: prepared.commit,
    base: declaration.base,
    read: scene.base,
    concerns,
  })
  await dropPending(repository, declaration.name, prepared.commit)
  const pullRequest = await openPlanRequest(context, declaration, prepared, branch)
  const values = await referredValues(prepared.plan, declaration, repository.snapshot(prepared.commit))
  return {
    kind: 'planned',
    plan: prepared.plan,
    proof: prepared.proof,
    branch,
    commit: prepared.commit,
    pullRequest,
    written,
    remarks: scene.options.keysOut == null ? [] : storeTexts(declaration, scene.options.keysOut, values),
  }
}

async function openPlanRequest(
  context: Context,
  declaration: Declaration,
  { plan: made, proof, commit }: Prepared,
  branch: string,
): Promise<PullRequest | null> {
  const forge = await context.openForge(declaration)
  const { planRequestView } = await import('./views.ts')
  const { pullRequestBody, pullRequestTitle } = await import('../report/pull-request.ts')
  const view = await planRequestView(made, proof)
  const body = pullRequestBody(view, forge.longestBody)
  assertNoPrivateKey(body, 'the pull request')
  const opened = await forge.open({ title: pullRequestTitle(view), body, branch, base: declaration.base })
  // No runner can say so before there is a plan, and a protected branch waits for it. Of what somebody has added to the branch, it says nothing.
  if (opened.state === 'open' && opened.head === commit) {
    const description = 'no change of trust: a plan touches nothing that is deployed'
    await forge.setStatus(commit, { context: gateContext, state: 'success', description })
  }
  return opened
}

/** Of what steps are rendered from: whose evidence counts may change with no new plan. */
function plannedDigest({ evidence: _, ...planned }: Declaration): string {
  return valueDigest(planned)
}

function sameInputs(made: Plan, inputs: Plan['inputs']): boolean {
  return made.inputs.declaration === inputs.declaration && made.inputs.material === inputs.material
}

async function unchanged(
  made: Plan,
  branch: string,
  pullRequest: PullRequest | null,
  options: PlanOptions,
): Promise<PlanOutcome> {
  const { provePlan } = await import('../safety/prove.ts')
  return {
    kind: 'unchanged',
    plan: made,
    proof: provePlan(made),
    branch,
    commit: null,
    pullRequest,
    written: [],
    remarks: [
      'declaration and material are what the plan was made from',
      ...(options.rootKeyOut === null || existsSync(options.rootKeyOut)
        ? []
        : [
            `${options.rootKeyOut} is not written: the root was made, and its key written, by the run that made the plan`,
          ]),
    ],
  }
}
