import type { Custody } from '../custody/custody.ts'
import { type Certificate, certificateFacts, sha256Hex } from '../pki/certificate.ts'
import { treeDigest } from '../repository/tree-digest.ts'
import type {
  CertificateRole,
  Declaration,
  FileTree,
  Plan,
  PlannedCertificate,
  PlannedPhase,
  PlannedSite,
  PlannedStep,
  PlannedTree,
  Site,
  TrustState,
  WiringPoint,
} from '../rotation.ts'
import type { PhaseDraft, SitePlan, StepDraft } from '../systems/system.ts'
import { systemOf } from '../systems/systems.ts'
import type { CurrentCa, NextCa } from './ca.ts'
import { writePlan } from './lock.ts'
import { type PlanStep, rotationFolder, treeFolder, type Variant } from './steps.ts'

export interface PlanInputs {
  readonly declaration: Declaration
  /** The base branch as it is: the users' files that adopt wires. */
  readonly files: FileTree
  readonly current: Readonly<Record<string, CurrentCa>>
  readonly next: Readonly<Record<string, NextCa>>
  /** Per site that was read from its cluster: which one that is. */
  readonly clusters: Readonly<Record<string, string>>
  /** Plain value of each site's canary, or the sealed one of an earlier plan with its digest. */
  readonly canaries: Readonly<Record<string, { readonly value: string; readonly digest: string }>>
  readonly custody: (site: Site) => Custody
  /** Per site: the folder as an earlier rotation left it, which is this one's phase 0 byte for byte. */
  readonly adopted?: Readonly<Record<string, FileTree>>
  /** Name of that earlier rotation. */
  readonly follows?: string
  /** The merged plan that this one is made again from. @default none */
  readonly merged?: Plan
  readonly inputs: Plan['inputs']
  readonly now: Date
}

export interface MadePlan {
  readonly plan: Plan
  /** Every file under the rotation's folder, rotation.yaml aside, by repository path. */
  readonly files: FileTree
}

/** Renders and seals every step of every site, and locks the result. Nothing is written: the caller commits it whole. */
export async function makePlan(inputs: PlanInputs): Promise<MadePlan> {
  const { declaration } = inputs
  const certificates = plannedCertificates(inputs)
  const files = new Map<string, string>()
  for (const certificate of certificates)
    files.set(`${rotationFolder(declaration.name)}/${certificate.file}`, certificate.pem)

  const system = systemOf(declaration.system)
  const planned = new Map<string, SitePlan>()
  for (const site of declaration.sites) planned.set(site.name, await plannedSite(inputs, site))
  const drafts = new Map([...planned].map(([name, { phases }]) => [name, phases]))
  const longest = [...drafts.values()].reduce((most, each) => (each.length > most.length ? each : most), [])
  const phases: PlannedPhase[] = []
  for (const [number, shape] of longest.entries()) {
    const steps: PlannedStep[] = []
    for (const [index, stepShape] of shape.steps.entries()) {
      const sites: Record<string, PlannedSite> = {}
      for (const site of declaration.sites) {
        const draft = drafts.get(site.name)?.[number]?.steps[index]
        if (draft === undefined) continue
        const at = stepAt(number, shape, index, stepShape)
        sites[site.name] = await renderStep(inputs, planned.get(site.name) as SitePlan, site, at, draft, files)
      }
      steps.push({ number: index + 1, name: stepShape.name, what: stepShape.what, sites })
    }
    phases.push({ number, name: shape.name, title: shape.title, steps })
  }

  const plan: Plan = {
    apiVersion: 'reanchor.dev/v1alpha1',
    kind: 'TrustPlan',
    metadata: { name: declaration.name },
    createdAt: `${inputs.now.toISOString().slice(0, 19)}Z`,
    system: declaration.system,
    strategy: declaration.strategy,
    base: declaration.base,
    ...(inputs.follows === undefined ? {} : { follows: inputs.follows }),
    inputs: inputs.inputs,
    certificates,
    sites: declaration.sites.map(({ name, path }) => {
      const cluster = inputs.clusters[name]
      return { name, path, ...(cluster === undefined ? {} : { cluster }) }
    }),
    batches: batchesOf(declaration),
    phases,
    wiring: wiringPoints(inputs, planned, phases[0], files),
    canaries: Object.fromEntries(Object.entries(inputs.canaries).map(([site, canary]) => [site, canary.digest])),
    gates: declaration.gates,
    leafHours: system.leafHours(declaration),
    parties: system.parties(declaration),
    formerDigests: {},
  }
  files.set(`${rotationFolder(declaration.name)}/plan.yaml`, writePlan(plan))
  return { plan, files }
}

function stepAt(number: number, phase: PhaseDraft, index: number, step: StepDraft): PlanStep {
  return {
    index: 0,
    phase: { number, name: phase.name, title: phase.title, steps: [] },
    step: { number: index + 1, name: step.name, what: step.what, sites: {} },
  }
}

async function plannedSite(inputs: PlanInputs, site: Site): Promise<SitePlan> {
  const { declaration, files, merged = null } = inputs
  const current = inputs.current[site.name]
  const next = inputs.next[site.name]
  if (current === undefined || next === undefined) throw new Error(`no material for site ${site.name}`)
  return await systemOf(declaration.system).planSite({ declaration, site, files, current, next, merged })
}

async function renderStep(
  inputs: PlanInputs,
  planned: SitePlan,
  site: Site,
  at: PlanStep,
  draft: StepDraft,
  files: Map<string, string>,
): Promise<PlannedSite> {
  const tree = async (variant: Variant, state: TrustState): Promise<PlannedTree> => {
    const rendered = await planned.render({
      header: {
        rotation: inputs.declaration.name,
        phase: at.phase.number,
        phaseName: at.phase.name,
        step: at.step.number,
        stepName: at.step.name,
        variant,
        site: site.name,
      },
      state,
      custody: inputs.custody(site),
      canary: inputs.canaries[site.name]?.value ?? '',
      certificate: sha256 => certificateOf(inputs, sha256),
    })
    const folder = treeFolder(inputs.declaration.name, at, variant, site.name)
    for (const [path, text] of rendered) files.set(`${folder}/${path}`, text)
    return { digest: treeDigest(rendered), state }
  }
  const adopted = at.phase.number === 0 ? inputs.adopted?.[site.name] : undefined
  if (adopted !== undefined) {
    const folder = treeFolder(inputs.declaration.name, at, 'step', site.name)
    for (const [path, text] of adopted) files.set(`${folder}/${path}`, text)
    return { digest: treeDigest(adopted), state: draft.state, undo: null, nudge: null }
  }
  return {
    ...(await tree('step', draft.state)),
    undo: draft.undo === null ? null : await tree('undo', draft.undo),
    nudge: draft.nudge === null ? null : await tree('nudge', draft.nudge),
  }
}

/** The wiring of every site, after a look at what the first step delivers through it. */
function wiringPoints(
  inputs: PlanInputs,
  planned: ReadonlyMap<string, SitePlan>,
  adopt: PlannedPhase | undefined,
  files: FileTree,
): readonly WiringPoint[] {
  const { declaration } = inputs
  return declaration.sites.flatMap(site => {
    const adopted = new Map<string, string>()
    const step = adopt?.steps[0]
    if (adopt !== undefined && step?.sites[site.name] !== undefined) {
      const folder = `${treeFolder(declaration.name, { index: 0, phase: adopt, step }, 'step', site.name)}/`
      for (const [path, text] of files) if (path.startsWith(folder)) adopted.set(path.slice(folder.length), text)
    }
    return planned.get(site.name)?.wiring(adopted) ?? []
  })
}

function batchesOf(declaration: Declaration): readonly (readonly string[])[] {
  const names = declaration.sites.map(site => site.name)
  switch (declaration.rollout.kind) {
    case 'parallel':
      return [names]
    case 'serial':
      return names.map(name => [name])
    case 'batches':
      return declaration.rollout.batches
  }
}

function certificateOf(inputs: PlanInputs, sha256: string): Certificate {
  for (const ca of Object.values(inputs.next)) {
    const found = [ca.root, ca.issuer, ...ca.chain].find(each => each.sha256 === sha256)
    if (found !== undefined) return found
  }
  for (const ca of Object.values(inputs.current)) {
    const found = [ca.issuer, ...ca.chain, ...ca.roots].find(each => each.sha256 === sha256)
    if (found !== undefined) return found
  }
  throw new Error(`certificate ${sha256} is not part of the material`)
}

/** Every certificate once, with a file name that tells its role; a number where two would share a name. */
function plannedCertificates(inputs: PlanInputs): readonly PlannedCertificate[] {
  const found = new Map<string, { certificate: Certificate; role: CertificateRole; sites: Set<string> }>()
  const add = (certificate: Certificate, role: CertificateRole, site: string) => {
    const known = found.get(certificate.sha256)
    if (known === undefined) found.set(certificate.sha256, { certificate, role, sites: new Set([site]) })
    else known.sites.add(site)
  }
  for (const { name } of inputs.declaration.sites) {
    const current = inputs.current[name]
    const next = inputs.next[name]
    for (const root of current?.roots ?? []) add(root, 'old-root', name)
    if (current !== undefined) add(current.issuer, 'old-issuing', name)
    for (const certificate of current?.chain ?? []) add(certificate, 'chain', name)
    if (next === undefined) continue
    add(next.root, 'new-root', name)
    add(next.issuer, 'new-issuing', name)
    for (const certificate of next.chain) add(certificate, 'chain', name)
  }
  const all = inputs.declaration.sites.length
  const names = new Map<string, number>()
  return [...found.values()].map(({ certificate, role, sites }) => {
    const only = sites.size === 1 && all > 1 ? `-${[...sites][0]}` : ''
    const base = `${role}${only}`
    const count = (names.get(base) ?? 0) + 1
    names.set(base, count)
    return {
      ...certificateFacts(certificate),
      role,
      sites: sites.size === all ? [] : [...sites],
      file: `certificates/${base}${count === 1 ? '' : `-${count}`}.pem`,
    }
  })
}

/** SHA-256 of a canary's plain bytes. */
export function canaryDigest(value: string): string {
  return sha256Hex(Buffer.from(value))
}
