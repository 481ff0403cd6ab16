import { exitCodes, ReanchorError } from '../errors.ts'
import type { CurrentCa } from '../plan/ca.ts'
import { plannedTree, stepsOf, variants } from '../plan/steps.ts'
import type { Snapshot } from '../repository/repository.ts'
import { treeDigest } from '../repository/tree-digest.ts'
import type { Declaration, Digest, FileTree, Plan, PlannedTree } from '../rotation.ts'
import { systemOf } from '../systems/systems.ts'
import { sealedValue } from './custodies.ts'
import { isClosed, planAt, rotationNames } from './rotation.ts'

/** What an earlier rotation left at a site: its final folder is the phase 0 of the one that follows. */
export interface Earlier {
  readonly rotation: string
  readonly files: FileTree
  readonly restarts: Readonly<Record<string, string>>
  readonly canary: Digest | null
}

/**
 * By site: the rotation whose last tree the site's folder holds. A folder that holds anything else belongs to somebody, and is
 * refused rather than overwritten; so is one of a rotation that is still open.
 */
export async function earlierRotations(
  snapshot: Snapshot,
  declaration: Declaration,
): Promise<Readonly<Record<string, Earlier>>> {
  const found: Record<string, Earlier> = {}
  const plans: Plan[] = []
  for (const name of await rotationNames(snapshot)) {
    if (name === declaration.name) continue
    const plan = await planAt(snapshot, name)
    if (plan !== null) plans.push(plan)
  }
  for (const site of declaration.sites) {
    const folder = await snapshot.readFolderBytes(site.path)
    if (folder.size === 0) continue
    const digest = treeDigest(folder)
    const plan = plans.find(each => treeOf(each, site.path, digest) !== null)
    if (plan === undefined || !(await isClosed(snapshot, plan.metadata.name)))
      throw occupied(site.path, plan, [...folder.keys()])
    const left = treeOf(plan, site.path, digest)
    const name = plan.sites.find(other => other.path === site.path)?.name ?? ''
    found[site.name] = {
      rotation: plan.metadata.name,
      files: await snapshot.readFolder(site.path),
      restarts: left?.state.restarts ?? {},
      canary: plan.canaries[name] ?? null,
    }
  }
  return found
}

/** The planned tree that a folder holds: the last step's where a rotation was finished, an undo's or an early one's where it was abandoned. */
function treeOf(plan: Plan, path: string, digest: Digest): PlannedTree | null {
  const name = plan.sites.find(site => site.path === path)?.name
  if (name === undefined) return null
  for (const { step } of stepsOf(plan)) {
    for (const variant of variants) {
      const tree = plannedTree(step.sites[name], variant)
      if (tree?.digest === digest) return tree
    }
  }
  return null
}

function occupied(path: string, plan: Plan | undefined, files: readonly string[]): ReanchorError {
  return new ReanchorError({
    what: 'the site’s folder is not empty',
    where: { file: path },
    expected: 'no folder yet, or what an earlier rotation that is closed left',
    found:
      plan === undefined
        ? `${files.length} files, such as ${files[0]}`
        : `a step of ${plan.metadata.name}, whose closing pull request is not merged`,
    todo:
      plan === undefined
        ? 'choose another path for the site; reanchor owns its folder alone'
        : `close ${plan.metadata.name} first: reanchor next --rotation ${plan.metadata.name}`,
    exit: exitCodes.refused,
  })
}

/** Kinds of which a controller makes a Secret for as long as they live, whatever the folder says later. */
const lasting = { SealedSecret: 'sealedSecrets', ExternalSecret: 'externalSecrets' } as const

/** A site whose custody changed from a controller's to another has objects of it in the cluster still, which would take turns with the deliverer. */
export function refuseOtherCustody(declaration: Declaration, earlier: Readonly<Record<string, Earlier>>): void {
  for (const site of declaration.sites) {
    const { kind } = site.custody ?? declaration.custody
    for (const file of systemOf(declaration.system).sealedFiles) {
      const found = /^kind: (SealedSecret|ExternalSecret)$/m.exec(earlier[site.name]?.files.get(file) ?? '')?.[1]
      const made = found as keyof typeof lasting | undefined
      if (made === undefined || lasting[made] === kind) continue
      throw new ReanchorError({
        what: `custody changed since ${earlier[site.name]?.rotation}, whose ${made} would go on writing the Secret`,
        where: { file: `${site.path}/${file}`, field: 'spec.custody' },
        expected: lasting[made],
        found: kind,
        todo: `keep that custody; or take the folder out of the repository, delete its live ${made}s (their Secrets have no owner, and stay), and plan again`,
        exit: exitCodes.refused,
      })
    }
  }
}

/** The restart tokens of an earlier rotation stay where they are: another value would restart what needs no restart. */
export function withRestarts(
  current: Readonly<Record<string, CurrentCa>>,
  earlier: Readonly<Record<string, Earlier>>,
): Readonly<Record<string, CurrentCa>> {
  return Object.fromEntries(
    Object.entries(current).map(([site, ca]) => [site, { ...ca, restarts: earlier[site]?.restarts ?? ca.restarts }]),
  )
}

/** A site that an earlier rotation left keeps its canary, sealed as it is. */
export async function keptCanaries(
  declaration: Declaration,
  canaries: Readonly<Record<string, { readonly value: string; readonly digest: Digest }>>,
  earlier: Readonly<Record<string, Earlier>>,
): Promise<Readonly<Record<string, { readonly value: string; readonly digest: Digest }>>> {
  const kept: Record<string, { value: string; digest: Digest }> = { ...canaries }
  for (const site of declaration.sites) {
    const yaml = earlier[site.name]?.files.get('canary.yaml')
    const digest = earlier[site.name]?.canary
    if (yaml === undefined || digest == null) continue
    const sealed = await sealedValue((site.custody ?? declaration.custody).kind, yaml, 'canary')
    if (sealed !== null) kept[site.name] = { value: sealed, digest }
  }
  return kept
}

/** Sealed manifests of the folders that earlier rotations left, so that their values keep their ciphertext. */
export function earlierCopies(declaration: Declaration, earlier: Readonly<Record<string, Earlier>>) {
  return declaration.sites.flatMap(site =>
    systemOf(declaration.system).sealedFiles.flatMap(file => {
      const yaml = earlier[site.name]?.files.get(file)
      return yaml === undefined ? [] : [{ destination: `${site.path}/${file}`, yaml }]
    }),
  )
}
