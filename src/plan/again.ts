import { type Certificate, readCertificate } from '../pki/certificate.ts'
import type { Digest, FileTree, Plan, PlannedPhase, PlannedSite, TrustState } from '../rotation.ts'
import { systemOf } from '../systems/systems.ts'
import type { CurrentCa, NextCa } from './ca.ts'
import { valueDigest } from './digest.ts'
import { writePlan } from './lock.ts'
import type { MadePlan } from './make.ts'
import { findStep, plannedTree, rotationFolder, stepFolder, stepsOf, treeFolder, variants } from './steps.ts'

/** The CA that a plan was made to replace, read back from the plan. `key` may be a value that custody sealed. */
export function currentOf(plan: Plan, site: string, key: string | null): CurrentCa {
  const state = stateAt(plan, site, 'first')
  const of = lookup(plan)
  return {
    issuer: of(state.issuer),
    chain: state.chain.map(of),
    roots: state.bundle.map(of),
    key,
    source: state.source,
    settings: state.settings,
    restarts: state.restarts,
  }
}

/** The CA that a plan leads to, read back from the plan. */
export function nextOf(plan: Plan, site: string, key: string): NextCa {
  const state = stateAt(plan, site, 'last')
  const of = lookup(plan)
  const issuer = of(state.issuer)
  const root = state.bundle.at(-1)
  if (root === undefined) throw new Error(`the plan ends without a root at ${site}`)
  return { root: of(root), issuer, chain: state.chain.map(of), key }
}

/** Whether a live CA is one that this plan knows at the site: today's, or one that a step brought. */
export function knows(plan: Plan, site: string, issuer: string): boolean {
  return stepsOf(plan).some(({ step }) => step.sites[site]?.state.issuer === issuer)
}

/** The file that holds the CA's private key sealed, and under which key, if any step carries it. */
export function sealedAt(
  plan: Plan,
  site: string,
  issuer: string,
): { readonly file: string; readonly key: string } | null {
  const { sealedKey } = systemOf(plan.system)
  for (const at of stepsOf(plan)) {
    const state = at.step.sites[site]?.state
    const sealed = state?.issuer === issuer ? sealedKey(state) : null
    if (sealed === null) continue
    return { file: `${treeFolder(plan.metadata.name, at, 'step', site)}/${sealed.file}`, key: sealed.key }
  }
  return null
}

function stateAt(plan: Plan, site: string, end: 'first' | 'last'): TrustState {
  const states = stepsOf(plan).flatMap(({ step }) => step.sites[site]?.state ?? [])
  const state = end === 'first' ? states[0] : states.at(-1)
  if (state === undefined) throw new Error(`the plan has no site ${site}`)
  return state
}

function lookup(plan: Plan): (sha256: string) => Certificate {
  const known = new Map(plan.certificates.map(certificate => [certificate.sha256, certificate.pem]))
  return sha256 => {
    const pem = known.get(sha256)
    if (pem === undefined) throw new Error(`the plan does not hold certificate ${sha256}`)
    return readCertificate(pem)
  }
}

/**
 * A plan made again while sites are on their way: the steps that any site has reached stay as they were merged, byte for byte;
 * those ahead are the new ones. Null where the new plan does not begin with the same steps.
 */
export function splice(old: Plan, oldFiles: FileTree, made: MadePlan, reached: number): MadePlan | null {
  const name = old.metadata.name
  const newSteps = stepsOf(made.plan)
  const files = new Map(made.files)
  const kept = new Map<string, Readonly<Record<string, PlannedSite>>>()
  for (const at of stepsOf(old)) {
    if (at.index > reached) break
    const twin = newSteps[at.index]
    if (twin === undefined || stepFolder(twin) !== stepFolder(at)) return null
    kept.set(stepFolder(at), at.step.sites)
    const folder = `${rotationFolder(name)}/phases/${stepFolder(at)}/`
    for (const path of [...files.keys()]) if (path.startsWith(folder)) files.delete(path)
    for (const [path, text] of oldFiles) if (path.startsWith(folder)) files.set(path, text)
  }
  const phases: PlannedPhase[] = made.plan.phases.map(phase => ({
    ...phase,
    steps: phase.steps.map(step => ({
      ...step,
      sites: kept.get(`${phase.number}-${phase.name}/${step.number}-${step.name}`) ?? step.sites,
    })),
  }))
  const certificates = [...made.plan.certificates]
  for (const certificate of old.certificates) {
    if (certificates.some(each => each.sha256 === certificate.sha256)) continue
    certificates.push(certificate)
  }
  const plan: Plan = {
    ...made.plan,
    createdAt: old.createdAt,
    phases,
    certificates,
    formerDigests: { ...old.formerDigests, ...formerDigests(old, made.plan, reached) },
  }
  files.set(`${rotationFolder(name)}/plan.yaml`, writePlan(plan))
  return { plan, files }
}

/** Steps ahead that declare the same trust in other bytes, such as sealed to other recipients: the old digest is still known. */
function formerDigests(old: Plan, now: Plan, reached: number): Record<Digest, Digest> {
  const former: Record<Digest, Digest> = {}
  for (const at of stepsOf(old)) {
    if (at.index <= reached) continue
    const twin = findStep(now, at.phase.number, at.step.number)
    for (const [site, before] of Object.entries(at.step.sites)) {
      for (const variant of variants) {
        const was = plannedTree(before, variant)
        const is = plannedTree(twin?.step.sites[site], variant)
        if (was === null || is === null || was.digest === is.digest) continue
        if (valueDigest(was.state) === valueDigest(is.state)) former[was.digest] = is.digest
      }
    }
  }
  return former
}
