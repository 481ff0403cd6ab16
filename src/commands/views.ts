import { takeOverCommand } from '../custody/sealed-secrets.ts'
import { mintCleanUp } from '../mint/words.ts'
import { sha256Hex } from '../pki/certificate.ts'
import { writePlan } from '../plan/lock.ts'
import { batchName, evidenceName, findStep, rotationFolder, stepFolder } from '../plan/steps.ts'
import { courseOf, stepTime } from '../plan/time-left.ts'
import type { PullRequestView } from '../report/pull-request.ts'
import { describeChange, type TrustChange } from '../report/trust-diff.ts'
import type { Plan, Proof, ProvenTransition } from '../rotation.ts'
import { provePlan, untilNote } from '../safety/prove.ts'
import { undoWindow, undoWindows } from '../safety/until-when.ts'
import { readAllowedSigner } from '../signature/allowed-signers.ts'
import { keyFingerprint } from '../signature/public-key.ts'
import type { Signer } from '../signature/sshsig.ts'
import { systemOf } from '../systems/systems.ts'
import { authorshipOf } from '../verify/authorship.ts'
import type { Request } from './requests.ts'
import type { OpenRotation } from './rotation.ts'
import { referredValues } from './stored-values.ts'
import type { SiteLook } from './verify.ts'

/** What the plan pull request's text is made of. */
export async function planRequestView(plan: Plan, proof: Proof): Promise<PullRequestView> {
  return {
    plan,
    planDigest: planDigest(plan),
    kind: 'plan',
    phase: 0,
    step: 0,
    sites: plan.sites.map(site => site.name),
    change: null,
    gates: [],
    evidence: [],
    proof,
    warnings: plan.strategy === 'emergency' ? [systemOf(plan.system).words.emergency] : [],
    undo: undoWindows(plan),
  }
}

/** What the text of a step's or the closing pull request is made of. */
export async function requestView(
  rotation: OpenRotation,
  request: Request,
  looks: readonly SiteLook[],
  changes: ReadonlyMap<string, string | null>,
  now: Date,
  signer: Signer | null,
): Promise<PullRequestView> {
  const { plan } = rotation
  const closes = request.kind === 'close'
  return {
    plan,
    planDigest: planDigest(plan),
    kind: closes ? 'close' : request.variant,
    phase: closes ? plan.phases.length : request.at.phase.number,
    step: closes ? 1 : request.at.step.number,
    sites: request.sites,
    change: closes ? null : await siteChange(rotation, request, changes),
    gates: looks.flatMap(look => look.verdict.gates),
    evidence: looks.map(look => ({
      site: look.site,
      file: evidenceFile(rotation, look),
      digest: look.evidence.observation,
      seenAt: look.evidence.to,
      signedBy: whoSigned(look, signer, rotation.declaration.evidence.signers),
    })),
    proof: closes ? null : stepProof(rotation, request, now),
    cleanUp: closes ? cleanUp(rotation) : [],
    first: closes ? [] : await takeOvers(rotation, request),
    warnings: plan.strategy === 'emergency' && !closes ? [systemOf(plan.system).words.emergency] : [],
    ...(closes || request.variant !== 'step' ? {} : { lasts: lastsOf(rotation, request) }),
    undo: closes ? [] : [undoWindow({ plan, at: request.at, sites: request.sites, evidence: [], now })],
  }
}

function lastsOf({ plan, declaration }: OpenRotation, { at }: Request) {
  const renewalHours = systemOf(plan.system).renewalHours?.(declaration) ?? plan.leafHours
  return stepTime(courseOf(plan, renewalHours), at.phase.number, at.step.number)
}

/** A report keeps the signature that it came with. */
function whoSigned({ evidence, reported }: SiteLook, signer: Signer | null, signers: readonly string[]): string | null {
  if (reported?.signature == null) return signer === null ? null : signedBy(signer, signers)
  const { by, key } = authorshipOf(evidence, reported.signature, signers)
  return by === null ? key : `${by} (${key})`
}

/** As `verify --evidence` will say it. */
function signedBy({ publicKey }: Signer, signers: readonly string[]): string {
  const key = keyFingerprint(publicKey.blob)
  const known = signers
    .map(readAllowedSigner)
    .find(each => 'publicKey' in each && each.publicKey.blob.equals(publicKey.blob))
  return known !== undefined && 'name' in known ? `${known.name} (${key})` : key
}

/** The change of trust that a request makes in its sites' folders, not in the rotation's own files. */
async function siteChange(
  rotation: OpenRotation,
  request: Request,
  changes: ReadonlyMap<string, string | null>,
): Promise<TrustChange> {
  const before: Record<string, string> = {}
  const after: Record<string, string> = {}
  const paths = rotation.plan.sites.filter(site => request.sites.includes(site.name)).map(site => site.path)
  for (const [file, text] of changes) {
    if (!paths.some(path => file.startsWith(`${path}/`))) continue
    const old = await rotation.snapshot.read(file)
    if (old !== null) before[file] = old
    if (text !== null) after[file] = text
  }
  return describeChange(before, after)
}

/**
 * Where a plugged CA comes into Git, its Secret exists already. The Sealed Secrets controller refuses a Secret that it did not make, tries for a
 * second, and then no more, so the leave has to be there before (bitnami-labs/sealed-secrets v0.36.6, pkg/controller/controller.go).
 */
async function takeOvers(rotation: OpenRotation, request: Request): Promise<readonly string[]> {
  const { declaration, snapshot } = rotation
  if (request.kind !== 'step' || request.at.phase.number !== 0) return []
  const { words } = systemOf(declaration.system)
  const lines: string[] = []
  for (const name of request.sites) {
    const site = declaration.sites.find(each => each.name === name)
    const adopted = request.at.step.sites[name]?.state
    if (site === undefined || adopted === undefined) continue
    const custody = site.custody ?? declaration.custody
    if (custody.kind === 'externalSecrets') {
      const values = await referredValues(rotation.plan, declaration, rotation.snapshot, name)
      lines.push(
        `\`${name}\`: the store \`${custody.store}\` must hold ${listedCode(values.map(({ key }) => key))}, each put once from the file that \`plan\` wrote; what it lacks keeps its ExternalSecret from being synced, and the step that brings it waits.`,
      )
    }
    if (custody.kind !== 'sealedSecrets') continue
    for (const taken of words.takeOvers(declaration, site, adopted)) {
      if ((await snapshot.read(`${site.path}/${taken.file}`)) !== null) continue
      lines.push(
        `\`${name}\`: unless the Sealed Secrets controller made Secret \`${taken.namespace}/${taken.name}\` itself, let it take the Secret over, now: \`${takeOverCommand(taken)}\`. Allowed after the merge, it takes it only once it is started anew.`,
      )
    }
  }
  return lines
}

function listedCode(names: readonly string[]): string {
  return names.map(name => `\`${name}\``).join(', ')
}

/** The part of the proof that this pull request is about: from the step before to this one, and its way back. */
function stepProof(rotation: OpenRotation, request: Request, now: Date) {
  const proof = provePlan(rotation.plan, { at: now })
  const label = stepFolder(request.at)
  const own = proof.transitions.filter(row => isAbout(row, label, request.sites))
  const others = new Set(proof.transitions.filter(row => !own.includes(row)).map(row => untilNote(row, rotation.plan)))
  return { ...proof, transitions: own, notes: proof.notes.filter(note => !others.has(note)) }
}

/** Whether a row of the proof is about a step at some of these sites: alike sites share one row, and `*` is between sites. */
export function isAbout(
  row: Pick<ProvenTransition, 'from' | 'to' | 'site'>,
  step: string,
  sites: readonly string[],
): boolean {
  if (!row.to.includes(step) && !row.from.includes(step)) return false
  if (row.site === '*' || / and \d+ more$/.test(row.site)) return true
  return row.site.split(', ').some(name => sites.includes(name))
}

function evidenceFile(rotation: OpenRotation, look: SiteLook): string {
  const { plan, name } = rotation
  const batch = plan.batches.findIndex(sites => sites.includes(look.site))
  const at = findStep(plan, look.evidence.phase, look.evidence.step)
  return at === null ? '' : `${rotationFolder(name)}/evidence/${evidenceName(at, batchName(plan, batch))}`
}

function cleanUp(rotation: OpenRotation): readonly string[] {
  const { plan, declaration } = rotation
  return [
    'the old CA’s private key stays in Git’s history, sealed: keep the age identity out of reach for as long as anything might still trust the old root',
    ...systemOf(plan.system).words.cleanUp(declaration, plan),
    ...mintCleanUp(declaration),
  ]
}

function planDigest(plan: Plan): string {
  return sha256Hex(Buffer.from(writePlan(plan)))
}
