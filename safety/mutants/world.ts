import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { readPlan } from '../../src/plan/lock.ts'
import { type PlanStep, stepFolder, stepsOf, type Variant } from '../../src/plan/steps.ts'
import { treeDigest } from '../../src/repository/tree-digest.ts'
import type { CertificateFacts, Fingerprint, Plan, PlannedSite, SystemName, TrustState } from '../../src/rotation.ts'
import type { Random } from '../random.ts'

/** One of the rotations that `npm run synth` renders, of one site. */
export interface Rendering {
  readonly name: string
  readonly plan: Plan
  /** By the path in the rendering. */
  readonly files: ReadonlyMap<string, string>
}

export function renderings(root = 'output'): readonly Rendering[] {
  // `output/runner` is no rotation.
  const rotations = readdirSync(root).filter(name => existsSync(join(root, name, 'plan.yaml')))
  return rotations.map(name => {
    const folder = join(root, name)
    const files = new Map<string, string>()
    for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue
      const path = join(entry.parentPath, entry.name)
      files.set(relative(folder, path).replaceAll('\\', '/'), readFileSync(path, 'utf8'))
    }
    return { name, files, plan: readPlan(files.get('plan.yaml') ?? '', `${folder}/plan.yaml`) }
  })
}

/** A valid rotation over some sites: what mutants are made of. */
export interface World {
  readonly name: string
  readonly system: SystemName
  readonly plan: Plan
  readonly steps: readonly PlanStep[]
  readonly oldIssuer: Fingerprint
  readonly newIssuer: Fingerprint
  readonly oldRoot: Fingerprint
  readonly newRoot: Fingerprint
  /** A CA that has nothing to do with this rotation. */
  readonly stranger: CertificateFacts
  /** A site's folder at a step, by repository path. */
  folder(site: string, at: PlanStep, variant?: Variant): Record<string, string>
}

const names = ['eu-1', 'us-1', 'ap-2', 'sa-1', 'af-3', 'eu-2']
const hour = 3_600_000

/**
 * The rendering with as many sites as are asked for, each with the same folders and its own name on them, and begun at some
 * moment at which all its certificates are good for the whole rotation.
 */
export function worldOf(
  rendering: Rendering,
  random: Random,
  stranger: CertificateFacts,
  sites = 1 + random.whole(names.length),
): World {
  const [first] = rendering.plan.sites
  if (first === undefined) throw new Error(`${rendering.name} has no site`)
  const chosen = names.slice(0, sites)
  const steps = stepsOf(rendering.plan)
  const folders = new Map<string, ReadonlyMap<string, string>>()
  const key = (site: string, at: PlanStep, variant: Variant): string => `${site} ${stepFolder(at)} ${variant}`
  for (const at of steps)
    for (const variant of ['step', 'undo', 'nudge'] as const) {
      const prefix = `${stepFolder(at)}/${variant === 'step' ? '' : `${variant}/`}${first.name}/`
      const found = [...rendering.files].filter(([path]) => path.startsWith(prefix))
      for (const site of chosen) {
        const texts = found.map(([path, text]): [string, string] => {
          const file = path.slice(prefix.length)
          return [file, file === 'trust.txt' ? text.replace(` ${first.name}\n`, ` ${site}\n`) : text]
        })
        folders.set(key(site, at, variant), new Map(texts))
      }
    }
  const digest = (site: string, at: PlanStep, variant: Variant): string =>
    treeDigest(folders.get(key(site, at, variant)) ?? new Map())
  const phases = rendering.plan.phases.map(phase => ({
    ...phase,
    steps: phase.steps.map(step => {
      const at = steps.find(each => each.step === step)
      const own = step.sites[first.name]
      if (at === undefined || own === undefined) return step
      const planned = chosen.map((site): [string, PlannedSite] => [
        site,
        {
          ...own,
          digest: digest(site, at, 'step'),
          undo: own.undo === null ? null : { ...own.undo, digest: digest(site, at, 'undo') },
          nudge: own.nudge === null ? null : { ...own.nudge, digest: digest(site, at, 'nudge') },
        },
      ])
      return { ...step, sites: Object.fromEntries(planned) }
    }),
  }))
  const begun = Date.parse(rendering.plan.createdAt) + random.whole(48) * hour
  const plan: Plan = {
    ...rendering.plan,
    createdAt: new Date(begun).toISOString().replace('.000', ''),
    sites: chosen.map(name => ({ name, path: `trust/${name}` })),
    batches: [chosen],
    phases,
  }
  const all = stepsOf(plan)
  const states = all.flatMap(at => Object.values(at.step.sites).slice(0, 1)).map(({ state }) => state)
  const [start, end] = [states[0], states.at(-1)]
  if (start === undefined || end === undefined) throw new Error(`${rendering.name} has no steps`)
  return {
    name: `${rendering.name}, ${sites} sites, ${plan.createdAt}`,
    system: plan.system,
    plan,
    steps: all,
    oldIssuer: start.issuer,
    newIssuer: end.issuer,
    oldRoot: start.bundle[0] ?? '',
    newRoot: end.bundle[0] ?? '',
    stranger,
    folder: (site, at, variant = 'step') => {
      const original = steps[at.index]
      const folder = original === undefined ? undefined : folders.get(key(site, original, variant))
      if (folder === undefined)
        throw new Error(`${rendering.name} has no folder ${stepFolder(at)} ${variant} at ${site}`)
      return Object.fromEntries([...folder].map(([path, text]) => [`trust/${site}/${path}`, text]))
    },
  }
}

/** The state that a world declares at a step, the same at every site. */
export function stateAt(at: PlanStep | undefined): TrustState {
  const [own] = Object.values(at?.step.sites ?? {})
  if (own === undefined) throw new Error('a step without sites')
  return own.state
}
