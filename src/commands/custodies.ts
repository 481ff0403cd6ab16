import type { Custody } from '../custody/custody.ts'
import { ReanchorError } from '../errors.ts'
import { plannedTree, stepsOf, treeFolder, variants } from '../plan/steps.ts'
import type { Snapshot } from '../repository/repository.ts'
import type { CustodyChoice, Declaration, Plan, Site } from '../rotation.ts'
import { systemOf } from '../systems/systems.ts'
import type { Context } from './context.ts'

/** A sealed manifest of an earlier plan, whose values are kept where they did not change. */
export interface SealedCopy {
  readonly destination: string
  readonly yaml: string
}

/** One custody for each site, and what a person should know of them. */
export async function custodiesFor(
  context: Context,
  declaration: Declaration,
  snapshot: Snapshot,
  keep: readonly SealedCopy[] = [],
): Promise<{ readonly of: (site: Site) => Custody; readonly remarks: readonly string[] }> {
  const custodies = new Map<string, Custody>()
  const remarks = new Set<string>()
  for (const site of declaration.sites) {
    const made = await custodyFor(context, site.custody ?? declaration.custody, snapshot, keep)
    custodies.set(site.name, made.custody)
    for (const remark of made.remarks) remarks.add(remark)
  }
  return { of: site => custodies.get(site.name) as Custody, remarks: [...remarks] }
}

async function custodyFor(
  context: Context,
  choice: CustodyChoice,
  snapshot: Snapshot,
  keep: readonly SealedCopy[],
): Promise<{ readonly custody: Custody; readonly remarks: readonly string[] }> {
  switch (choice.kind) {
    case 'sops': {
      const { createSopsCustody } = await import('../custody/sops.ts')
      const identity = context.environment.SOPS_AGE_KEY
      const custody = createSopsCustody({
        recipients: await recipientsOf(choice, snapshot),
        now: context.now(),
        random: context.random,
        keep,
        ...(context.wrapDataKey === undefined ? {} : { wrapDataKey: context.wrapDataKey }),
        ...(identity === undefined ? {} : { identity }),
      })
      return { custody, remarks: [] }
    }
    case 'sealedSecrets': {
      const { createSealedSecretsCustody } = await import('../custody/sealed-secrets.ts')
      const committed =
        choice.certificate.startsWith('.') || choice.certificate.startsWith('/')
          ? null
          : await snapshot.read(choice.certificate)
      const custody = createSealedSecretsCustody({
        certificatePem: committed ?? context.readFile(choice.certificate),
        certificateFile: choice.certificate,
        scope: choice.scope,
        random: context.random,
        now: context.now(),
        keep,
      })
      return { custody, remarks: custody.remarks }
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

type Recipients = readonly string[] | ((destination: string) => readonly string[])

async function recipientsOf(choice: Extract<CustodyChoice, { kind: 'sops' }>, snapshot: Snapshot): Promise<Recipients> {
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

/** Recipients of the root key file; empty where custody has none, which `checkRecipients` then refuses. */
export async function rootRecipients(declaration: Declaration, snapshot: Snapshot): Promise<readonly string[]> {
  const { custody } = declaration
  if (custody.kind === 'sealedSecrets') return custody.age
  if (custody.kind === 'externalSecrets') return []
  const recipients = await recipientsOf(custody, snapshot)
  return typeof recipients === 'function'
    ? recipients(`${declaration.sites[0]?.path}/${systemOf(declaration.system).sealedFiles[0]}`)
    : recipients
}

/** Every sealed manifest of a plan, under the destination that it was sealed for. */
export async function sealedCopies(plan: Plan, snapshot: Snapshot): Promise<readonly SealedCopy[]> {
  const { sealedFiles } = systemOf(plan.system)
  const copies = new Map<string, SealedCopy>()
  for (const at of stepsOf(plan)) {
    for (const site of plan.sites) {
      for (const variant of variants) {
        if (plannedTree(at.step.sites[site.name], variant) === null) continue
        for (const file of sealedFiles) {
          const yaml = await snapshot.read(`${treeFolder(plan.metadata.name, at, variant, site.name)}/${file}`)
          if (yaml === null) continue
          const destination = `${site.path}/${file}`
          copies.set(`${destination}\0${yaml}`, { destination, yaml })
        }
      }
    }
  }
  return [...copies.values()]
}

/** The sealed text of one key of a manifest, which may stand for the plain value when it is sealed again. Null: not there. */
export async function sealedValue(kind: CustodyChoice['kind'], yaml: string, key: string): Promise<string | null> {
  if (kind === 'sealedSecrets') {
    const { readSealedSecretsManifest } = await import('../custody/sealed-secrets.ts')
    return readSealedSecretsManifest(yaml).sealed[key] ?? null
  }
  const { readSealedSecret } = await import('../custody/sops.ts')
  return readSealedSecret(yaml).sealed[key] ?? null
}
