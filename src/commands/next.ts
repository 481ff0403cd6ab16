import { assertNoPrivateKey } from '../custody/leak.ts'
import { exitCodes, ReanchorError } from '../errors.ts'
import type { Forge, PullRequest } from '../forge/forge.ts'
import { decideNext, type NextAction, positionText } from '../plan/advance.ts'
import {
  batchName,
  closeBranch,
  evidenceName,
  findStep,
  type PlanStep,
  plannedTree,
  rotationFolder,
  stepBranch,
  stepFolder,
  stepsOf,
  treeFolder,
  type Variant,
} from '../plan/steps.ts'
import { type WayBack, wayBack } from '../plan/way-back.ts'
import type { Repository, Snapshot } from '../repository/repository.ts'
import { treeDigest } from '../repository/tree-digest.ts'
import type { GateResult, Plan, SitePosition } from '../rotation.ts'
import { provePlan } from '../safety/prove.ts'
import { concernOf } from './concern.ts'
import type { Context } from './context.ts'
import { postDashboard } from './dashboard.ts'
import { gateContext, isOurs, leaveGates, type PostGate, postGates, withdrawGates } from './gate-status.ts'
import { publishNew, type Request, somebodyElse } from './requests.ts'
import { isClosed, loadRotation, type OpenRotation, positionsAt } from './rotation.ts'
import { refuseUnsigned } from './signing.ts'
import { lookAtSites, type SiteLook } from './verify.ts'
import { addWiring, missingWiring } from './wire.ts'

export interface NextOptions {
  readonly rotation: string | null
  readonly base: string | null
  /** `nudge` or `undo`: open that tree of the present step instead of the next step. */
  readonly variant: Variant
  /** Goes on observing: posts `reanchor/gate` on every open pull request, and stands by what it calls safe. */
  readonly runner?: boolean
  /** It has stopped since. */
  readonly stopped?: () => boolean
  /** What takes each judgement of an open pull request, where several rotations have a word on one. @default it is posted */
  readonly post?: PostGate
  /** Go back until no site trusts or issues from anything new, then close. */
  readonly abandon?: boolean
}

export type NextOutcome =
  | {
      readonly kind: 'opened' | 'dry-run'
      readonly pullRequest: PullRequest | null
      readonly branch: string
      readonly title: string
      readonly body: string
      readonly looks: readonly SiteLook[]
    }
  /** The pull request of the next step is open already. */
  | { readonly kind: 'open'; readonly pullRequest: PullRequest; readonly looks: readonly SiteLook[] }
  | {
      readonly kind: 'waiting'
      readonly verdict: 'pending' | 'violated' | 'unknown'
      readonly gates: readonly GateResult[]
      readonly looks: readonly SiteLook[]
    }
  | { readonly kind: 'done' }

/** Verifies the present step on every site, then opens the pull request of the next one; or says who is not ready and why. */
export async function next(
  context: Context,
  options: NextOptions,
): Promise<{ readonly rotation: OpenRotation; readonly outcome: NextOutcome }> {
  const { repository } = context
  await repository.fetch()
  const rotation = await loadRotation(repository, options)
  const { snapshot, plan, declaration } = rotation
  if (rotation.closed && options.runner !== true) return { rotation, outcome: { kind: 'done' } }
  const forge = await context.openForge(declaration)
  const positions = await positionsAt(snapshot, plan)
  try {
    if (rotation.closed) {
      await postGates(context, rotation, forge, {
        looks: [],
        positions,
        runner: true,
        ...(options.post === undefined ? {} : { post: options.post }),
      })
      if (!context.dryRun) await postDashboard(context, rotation, forge, [])
      return { rotation, outcome: { kind: 'done' } }
    }
    return { rotation, outcome: await advance(context, options, rotation, forge, positions) }
  } catch (error) {
    if (error instanceof ReanchorError && !context.dryRun && takesBack(options, declaration.paused, error))
      await withdrawGates(rotation, forge, `not observed: ${error.what}`)
    throw error
  }
}

/** Whether what was green is so no longer. A lost race is another's turn, and what a person mistyped says nothing of a cluster. */
function takesBack(options: NextOptions, paused: boolean, { exit }: ReanchorError): boolean {
  if (options.variant !== 'step' || options.abandon === true) return false
  if (paused) return true
  return options.runner === true
    ? exit !== exitCodes.waiting
    : exit === exitCodes.refused || exit === exitCodes.violated
}

/** A runner goes: nothing may stay green that is so only while it observes. */
export async function stopObserving(
  context: Context,
  options: Pick<NextOptions, 'rotation' | 'base'>,
): Promise<OpenRotation> {
  const rotation = await loadRotation(context.repository, options)
  await leaveGates(rotation, await context.openForge(rotation.declaration))
  return rotation
}

async function advance(
  context: Context,
  options: NextOptions,
  rotation: OpenRotation,
  forge: Forge,
  positions: Readonly<Record<string, SitePosition>>,
): Promise<NextOutcome> {
  const { plan } = rotation
  refusePaused(rotation)
  // Going back is wanted most by a person in haste, who does not have the runner's key.
  if (options.variant !== 'undo' || context.signer !== undefined)
    await refuseUnsigned(context, rotation, 'reanchor next --signing-key ~/.ssh/reanchor-evidence')
  await refuseMissingWiring(rotation, positions)
  await refuseEditedRequests(context, rotation, forge)

  const looks = await looksFor(context, rotation, positions, options)
  const action = decideNext({
    plan,
    closed: false,
    positions,
    verdicts: Object.fromEntries(looks.map(look => [look.site, look.verdict])),
  })
  const variant = options.abandon === true && !isUntouched(rotation, positions) ? 'undo' : options.variant
  const chosen =
    variant === 'step' || action.kind === 'refuse' || action.kind === 'done'
      ? forwardAction(rotation, action, options.abandon === true)
      : await variantAction(rotation, positions, variant, looks, context.now())
  if (chosen.kind === 'done') return { kind: 'done' }
  if (chosen.kind === 'refuse') throw await refusal(context, rotation, chosen.site, chosen.why)
  const outcome: NextOutcome =
    chosen.kind === 'wait'
      ? { kind: 'waiting', verdict: chosen.verdict, gates: chosen.gates, looks }
      : await openRequest(
          context,
          rotation,
          forge,
          chosen.kind === 'close' ? closing(rotation, chosen.after) : stepRequest(rotation, chosen, variant),
          looks,
        )
  const { runner = false, stopped, post } = options
  if (!context.dryRun)
    await postGates(context, rotation, forge, {
      looks,
      positions,
      runner,
      ...(stopped === undefined ? {} : { stopped }),
      ...(post === undefined ? {} : { post }),
    })
  if (!context.dryRun && runner && stopped?.() !== true) await postDashboard(context, rotation, forge, looks)
  return outcome
}

/** Going back needs no gate where it is safe from any mix, and it is wanted most where a cluster cannot be read. */
async function looksFor(
  context: Context,
  rotation: OpenRotation,
  positions: Readonly<Record<string, SitePosition>>,
  options: NextOptions,
): Promise<readonly SiteLook[]> {
  try {
    const looks = await lookAtSites(context, rotation, positions)
    const unseen = looks.find(look => look.unseen !== null)?.unseen ?? null
    // A step only opens where every site was seen. What opens without a verdict must not carry that nothing was seen.
    if (unseen === null || (options.variant === 'step' && options.abandon !== true)) return looks
    throw unseen
  } catch (error) {
    if (options.variant !== 'undo' || !(error instanceof ReanchorError)) throw error
    context.progress(`going back without a look: ${error.what}`)
    return []
  }
}

function forwardAction(rotation: OpenRotation, action: NextAction, abandon: boolean): NextAction {
  // Nothing new is trusted any more: closing waits only for what is under way to have reached everyone.
  if (!abandon || action.kind === 'refuse' || action.kind === 'done' || action.kind === 'wait') return action
  const after = action.kind === 'close' ? action.after : (action.after ?? stepsOf(rotation.plan)[0])
  if (after === undefined) throw new Error('the plan is empty')
  return { kind: 'close', after }
}

/** Whether every folder trusts what was trusted before, and issues from the CA that did. */
function isUntouched(rotation: OpenRotation, positions: Readonly<Record<string, SitePosition>>): boolean {
  const first = stepsOf(rotation.plan)[0]
  return rotation.plan.sites.every(({ name }) => {
    const position = positions[name]
    if (position?.kind !== 'at') return true
    const at = findStep(rotation.plan, position.phase, position.step)
    const state = plannedTree(at?.step.sites[name], position.variant)?.state
    const before = first?.step.sites[name]?.state
    return (
      state !== undefined &&
      before !== undefined &&
      state.issuer === before.issuer &&
      state.bundle.every(root => before.bundle.includes(root))
    )
  })
}

function stepRequest(rotation: OpenRotation, action: Extract<NextAction, { kind: 'open' }>, variant: Variant): Request {
  const branch = stepBranch(rotation.name, action.at, action.batch, variant)
  return { kind: 'step', at: action.at, variant, sites: action.sites, batch: action.batch, branch, after: action.after }
}

function closing(rotation: OpenRotation, after: PlanStep): Request {
  const sites = rotation.plan.sites.map(site => site.name)
  return {
    kind: 'close',
    at: after,
    variant: 'step',
    sites,
    batch: null,
    branch: closeBranch(rotation.name, rotation.plan),
    after,
  }
}

/** The undo or the nudge of the step that the foremost sites are at; it needs no gate where that is safe from any mix of it. */
async function variantAction(
  rotation: OpenRotation,
  positions: Readonly<Record<string, SitePosition>>,
  variant: 'undo' | 'nudge',
  looks: readonly SiteLook[],
  now: Date,
): Promise<NextAction> {
  const { plan } = rotation
  const back = wayBack(plan, positions, variant)
  if (back === null || (variant === 'nudge' && back.undone)) {
    const found = plan.sites.map(site => `${site.name} ${positionText(positions[site.name] ?? { kind: 'absent' })}`)
    throw new ReanchorError({
      what: variant === 'nudge' ? 'there is nothing to nudge' : 'there is no way back from here',
      expected: variant === 'nudge' ? 'a site in phase issue-new or trust-new' : 'a step whose undo is planned',
      found: found.join('; '),
      todo: 'see `reanchor status`; after adopt, and after a restart that changes no trust, the only way is forward',
      exit: exitCodes.refused,
    })
  }
  const { at, sites, undone } = back
  if (undone) {
    const ours = looks.filter(look => sites.includes(look.site))
    if (ours.length < sites.length) return { kind: 'wait', verdict: 'unknown', gates: [] }
    const gates = ours.flatMap(look => look.verdict.gates.filter(gate => gate.verdict !== 'holds'))
    if (ours.some(look => look.verdict.verdict !== 'holds')) return { kind: 'wait', verdict: 'pending', gates }
  }
  if (variant === 'undo') await refuseUnsafeUndo(rotation, back, looks, now)
  else refuseUnsafeNudge(plan, at)
  return { kind: 'open', at, sites, batch: null, after: null }
}

/** With the reason and the date: from when it is safe, or until when it was. */
async function refuseUnsafeUndo(
  { plan }: OpenRotation,
  { at, sites, undone }: WayBack,
  looks: readonly SiteLook[],
  now: Date,
): Promise<void> {
  const { undoWindow } = await import('../safety/until-when.ts')
  const evidence = looks.flatMap(look => (look.unseen === null ? [look.evidence] : []))
  const { verdict, from, until, because } = undoWindow({ plan, at, sites, undone, evidence, now })
  if (verdict === 'holds') return
  const when =
    from !== null
      ? `, safe from ${from} on`
      : until !== null && Date.parse(until) < now.getTime()
        ? `, safe until ${until}`
        : ''
  throw new ReanchorError({
    what: from === null ? 'going back is not safe' : 'going back is not safe yet',
    where: { object: `undo of ${stepFolder(at)} at ${sites.join(', ')}` },
    expected: `every handshake to succeed while it rolls out${when}`,
    found: because,
    todo:
      from === null
        ? 'go forward instead: run `reanchor next`'
        : `wait until ${from}, when the last of these leaves has ended, or see that their holders get new ones; then run this again`,
    exit: exitCodes.refused,
  })
}

function refuseUnsafeNudge(plan: Plan, at: PlanStep): void {
  const unsafe = provePlan(plan).transitions.find(
    transition => transition.counterexample !== null && transition.to === `${stepFolder(at)} nudge`,
  )
  if (unsafe === undefined) return
  throw new ReanchorError({
    what: 'the nudge would break connections',
    where: { object: `${unsafe.from} → ${unsafe.to}` },
    expected: 'every handshake to succeed',
    found: unsafe.counterexample?.sentence ?? '',
    todo: 'go forward instead',
    exit: exitCodes.refused,
  })
}

/** Opens the request, or finds it open. Every write can be the last one: run again, it ends in the same place. */
async function openRequest(
  context: Context,
  rotation: OpenRotation,
  forge: Forge,
  asked: Request,
  looks: readonly SiteLook[],
): Promise<NextOutcome> {
  const { repository } = context
  const { request, existing } = await freeBranch(rotation, repository, forge, asked)
  const { requestView } = await import('./views.ts')
  const { pullRequestBody, pullRequestTitle } = await import('../report/pull-request.ts')
  if (existing !== null) return { kind: 'open', pullRequest: existing, looks }
  const changes = await changesOf(context, rotation, request, looks)
  const view = await requestView(rotation, request, looks, changes, context.now(), context.signer ?? null)
  const title = pullRequestTitle(view)
  const body = pullRequestBody(view, forge.longestBody)
  assertNoPrivateKey(body, 'the pull request')
  for (const [path, text] of changes) if (text !== null) assertNoPrivateKey(text, path)
  if (context.dryRun) return { kind: 'dry-run', pullRequest: null, branch: request.branch, title, body, looks }

  let head = await repository.branch(request.branch)
  if (head === null) {
    head = await repository.commit({
      parent: rotation.commit,
      changes,
      message: `${title}\n\n${request.kind === 'step' ? request.at.step.what : 'The rotation is complete.'}`,
      trailers: {
        'Reanchor-Rotation': rotation.name,
        'Reanchor-Phase':
          request.kind === 'close'
            ? 'close'
            : `${stepFolder(request.at)}${request.variant === 'step' ? '' : ` ${request.variant}`}`,
        ...evidenceTrailer(looks),
      },
      author: context.author,
      at: context.now(),
    })
    await publishNew(repository, {
      branch: request.branch,
      from: null,
      to: head,
      base: rotation.base,
      read: rotation.commit,
      concerns: concernOf(rotation.plan),
    })
  }
  const pullRequest = await openOnce(context, rotation, forge, { title, body, branch: request.branch, head })
  return { kind: 'opened', pullRequest, branch: request.branch, title, body, looks }
}

/** Opens the request, unless another runner has opened it and it is merged already. */
async function openOnce(
  context: Context,
  rotation: OpenRotation,
  forge: Forge,
  wanted: { readonly title: string; readonly body: string; readonly branch: string; readonly head: string },
): Promise<PullRequest> {
  const { title, body, branch, head } = wanted
  const { repository } = context
  const ref = `refs/heads/${branch}`
  const opened = await forge.open({ title, body, branch, base: rotation.base }).catch(async (error: unknown) => {
    await repository.fetch()
    const there = await repository.branch(branch)
    if (there !== head || (await repository.isAncestor(head, await repository.head(rotation.base))))
      throw somebodyElse(ref)
    throw error
  })
  if (opened.state !== 'open') throw somebodyElse(ref)
  return opened
}

function evidenceTrailer(looks: readonly SiteLook[]): Record<string, string> {
  if (looks.length === 0) return {}
  return { 'Reanchor-Evidence': looks.map(look => `${look.site}=${look.evidence.observation}`).join(' ') }
}

/**
 * The request's branch; where it served before (merged and undone, or closed by hand) the next free name. A branch without a request is what a run that
 * was killed left: it is taken up where it holds this very step, and passed over where it holds another, as after a plan that was made again.
 */
async function freeBranch(
  rotation: OpenRotation,
  repository: Repository,
  forge: Forge,
  request: Request,
): Promise<{ readonly request: Request; readonly existing: PullRequest | null }> {
  for (let count = 1; ; count++) {
    const branch = count === 1 ? request.branch : `${request.branch}.${count}`
    const found = await forge.find(branch)
    if (found?.state === 'open') return { request: { ...request, branch }, existing: found }
    if (found !== null) continue
    const left = await repository.branch(branch)
    if (left === null || (await holds(rotation, repository.snapshot(left), request)))
      return { request: { ...request, branch }, existing: null }
  }
}

/** Whether a commit has what a request brings to the sites' folders. */
async function holds(rotation: OpenRotation, snapshot: Snapshot, request: Request): Promise<boolean> {
  const { plan, name } = rotation
  if (request.kind === 'close') return await isClosed(snapshot, name)
  for (const site of plan.sites) {
    if (!request.sites.includes(site.name)) continue
    const wanted = plannedTree(request.at.step.sites[site.name], request.variant)?.digest
    if (treeDigest(await snapshot.readFolderBytes(site.path)) !== wanted) return false
  }
  return true
}

/** The site folders' new bytes, the evidence of the step before, the wiring at `adopt`. */
async function changesOf(
  context: Context,
  rotation: OpenRotation,
  request: Request,
  looks: readonly SiteLook[],
): Promise<Map<string, string | null>> {
  const { plan, snapshot, name } = rotation
  const changes = new Map<string, string | null>()
  await addEvidence(context, rotation, request, looks, changes)
  if (request.kind === 'close') {
    for (const path of (await snapshot.list(`${rotationFolder(name)}/phases`)).keys()) changes.set(path, null)
    return changes
  }
  for (const siteName of request.sites) {
    const path = plan.sites.find(site => site.name === siteName)?.path
    if (path === undefined) continue
    const folder = treeFolder(name, request.at, request.variant, siteName)
    const tree = await snapshot.readFolder(folder)
    const planned = request.at.step.sites[siteName]
    const wanted = request.variant === 'step' ? planned?.digest : planned?.[request.variant]?.digest
    if (treeDigest(tree) !== wanted) throw damagedTree(folder, wanted ?? 'none', treeDigest(tree))
    for (const old of (await snapshot.list(path)).keys()) changes.set(old, null)
    for (const [file, text] of tree) changes.set(`${path}/${file}`, text)
  }
  if (request.at.phase.number === 0) await addWiring(rotation, request.sites, changes)
  return changes
}

async function addEvidence(
  { signer, progress }: Context,
  rotation: OpenRotation,
  request: Request,
  looks: readonly SiteLook[],
  changes: Map<string, string | null>,
): Promise<void> {
  const { writeWrittenEvidence } = await import('../verify/evidence-file.ts')
  const { plan, snapshot, name, declaration } = rotation
  if (signer === undefined && declaration.evidence.signers.length > 0 && looks.length > 0) {
    // Only a way back comes here without a key. It needs no evidence, and what nobody signed would count for nothing.
    if (request.variant !== 'undo') throw new Error('unsigned evidence was about to be committed')
    progress('going back without evidence: no signing key was given')
    return
  }
  for (const [number, batch] of plan.batches.entries()) {
    const seen = looks.filter(look => batch.includes(look.site))
    const first = seen[0]
    if (first === undefined) continue
    const at = findStep(plan, first.evidence.phase, first.evidence.step)
    if (at === null) continue
    const file = `${rotationFolder(name)}/evidence/${evidenceName(at, batchName(plan, number))}`
    // What is committed is never edited: it is what was seen then.
    if ((await snapshot.read(file)) !== null) continue
    changes.set(
      file,
      await writeWrittenEvidence(
        seen.map(({ evidence, reported }) => ({ evidence, signature: reported?.signature ?? null })),
        signer ?? null,
      ),
    )
  }
}

function damagedTree(folder: string, expected: string, found: string): ReanchorError {
  return new ReanchorError({
    what: 'the rendered files of a step are not what the plan locked',
    where: { file: folder },
    expected: `tree digest ${expected}`,
    found: `tree digest ${found}`,
    todo: 'restore the folder from the plan pull request; it is generated and never edited',
    exit: exitCodes.refused,
  })
}

// ---------------------------------------------------------------------------------------------------- refusals

function refusePaused(rotation: OpenRotation): void {
  if (!rotation.declaration.paused) return
  throw new ReanchorError({
    what: 'the rotation is paused',
    where: { file: `${rotationFolder(rotation.name)}/rotation.yaml`, field: 'spec.paused' },
    todo: 'remove `paused: true` on the base branch to go on; `verify` and `status` work meanwhile',
    exit: exitCodes.waiting,
  })
}

/** After `adopt` the user's files must still carry the wiring, or a step would reach nothing. */
async function refuseMissingWiring(
  rotation: OpenRotation,
  positions: Readonly<Record<string, SitePosition>>,
): Promise<void> {
  const wired = rotation.plan.sites.filter(site => positions[site.name]?.kind === 'at').map(site => site.name)
  const [first] = await missingWiring(rotation, wired)
  if (first === undefined) return
  throw new ReanchorError({
    what: `wiring missing: what ${first.point.purpose} is gone`,
    where: { file: first.point.file, object: `site ${first.point.site}` },
    expected: 'the line that the adopt pull request added',
    found: first.found,
    todo: 'put it back, from the adopt pull request',
    exit: exitCodes.refused,
  })
}

/** A pull request of ours that was edited by hand is judged anew, never trusted: its bytes must be a planned step's. */
async function refuseEditedRequests(context: Context, rotation: OpenRotation, forge: Forge): Promise<void> {
  for (const request of await forge.listOpen(rotation.base)) {
    if (!isOurs(rotation, request)) continue
    // Pushed since the last fetch: fetched once more, or left to the gate, which is pending without it.
    if ((await context.repository.resolve(request.head)) === null) await context.repository.fetch()
    if ((await context.repository.resolve(request.head)) === null) continue
    const edited = await editedRequest(context, rotation, request)
    if (edited === null) continue
    await forge.setStatus(request.head, {
      context: gateContext,
      state: 'failure',
      description: short(`edited by hand: ${edited.why}`),
    })
    throw new ReanchorError({
      what: `pull request #${request.number} was edited by hand`,
      where: { object: `branch ${request.branch}`, file: edited.path },
      expected: 'the bytes of a step of the plan',
      found: edited.why,
      todo: `put the file back (git revert on the branch), or close #${request.number}, delete its branch and run \`reanchor next\` again`,
      exit: exitCodes.refused,
    })
  }
}

async function editedRequest(
  context: Context,
  rotation: OpenRotation,
  request: PullRequest,
): Promise<{ readonly path: string; readonly why: string } | null> {
  const snapshot = context.repository.snapshot(request.head)
  const positions = await positionsAt(snapshot, rotation.plan)
  for (const site of rotation.plan.sites) {
    const position = positions[site.name]
    if (position === undefined || position.kind === 'at' || position.kind === 'absent') continue
    return { path: site.path, why: positionText(position) }
  }
  return null
}

async function refusal(context: Context, rotation: OpenRotation, site: string, why: string): Promise<ReanchorError> {
  const path = rotation.plan.sites.find(each => each.name === site)?.path ?? ''
  const newest = await context.repository.log(rotation.commit, { paths: [path], limit: 1 })
  const by =
    newest[0] === undefined
      ? ''
      : `; last changed by ${newest[0].id.slice(0, 12)} (${newest[0].message.split('\n')[0]})`
  return new ReanchorError({
    what: `site ${site} is not where the plan can go on from`,
    where: { file: path },
    expected: 'the files of one planned step',
    found: `${why}${by}`,
    todo: 'see `reanchor status` for the difference; revert that commit, or put the step’s files back',
    exit: exitCodes.refused,
  })
}

/** Forges cut a status off at 140 characters. */
function short(text: string): string {
  return text.length <= 140 ? text : `${text.slice(0, 139)}…`
}
