import type { Custody } from '../custody/custody.ts'
import type { StoredValue } from '../custody/remote-value.ts'
import type { RuleRecipients, SopsRule } from '../custody/sops-rules.ts'
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

export interface Custodies {
  readonly of: (site: Site) => Custody
  /** What a person should know, once everything is sealed. */
  readonly remarks: () => readonly string[]
  /** Private values that go to a store outside of Git, once everything is sealed. */
  readonly values: () => readonly StoredValue[]
}

interface MadeCustody {
  readonly custody: Custody
  /** Grows while it seals. */
  readonly remarks: readonly string[]
  /** What has to be put into a store outside of Git. */
  readonly values?: () => readonly StoredValue[]
}

/** One custody for each site. */
export async function custodiesFor(
  context: Context,
  declaration: Declaration,
  snapshot: Snapshot,
  keep: readonly SealedCopy[] = [],
): Promise<Custodies> {
  const made = new Map<string, MadeCustody>()
  for (const site of declaration.sites)
    made.set(site.name, await custodyFor(context, declaration, site, snapshot, keep))
  return {
    of: site => (made.get(site.name) as MadeCustody).custody,
    remarks: () => [...new Set([...made.values()].flatMap(({ remarks }) => remarks))],
    values: () => [...made.values()].flatMap(({ values }) => values?.() ?? []),
  }
}

async function custodyFor(
  context: Context,
  declaration: Declaration,
  site: Site,
  snapshot: Snapshot,
  keep: readonly SealedCopy[],
): Promise<MadeCustody> {
  const choice = site.custody ?? declaration.custody
  switch (choice.kind) {
    case 'sops':
      return await sopsCustody(context, choice, snapshot, keep)
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
    case 'externalSecrets': {
      const { createExternalSecretsCustody } = await import('../custody/external-secrets.ts')
      const { store, storeKind, version } = choice
      const prefix = storePrefix(choice, declaration.name, site.name)
      const custody = createExternalSecretsCustody({ store, storeKind, version, prefix, random: context.random, keep })
      return { custody, remarks: [], values: custody.values }
    }
  }
}

/** How names in the store begin that a rotation brings for a site: none of another rotation or site does. */
export function storePrefix(
  { prefix }: Pick<Extract<CustodyChoice, { kind: 'externalSecrets' }>, 'prefix'>,
  rotation: string,
  site: string,
): string {
  return `${prefix}${rotation}-${site}-`
}

type SopsChoice = Extract<CustodyChoice, { kind: 'sops' }>

/** By age where a destination's rule names age recipients alone; by the sops program where it names other keys. */
async function sopsCustody(
  context: Context,
  choice: SopsChoice,
  snapshot: Snapshot,
  keep: readonly SealedCopy[],
): Promise<MadeCustody> {
  const { createSopsCustody } = await import('../custody/sops.ts')
  const { createSopsByProgramCustody } = await import('../custody/sops-by-program.ts')
  const ruleOf = choice.age === null ? await rulesIn(snapshot) : null
  const identity = context.environment.SOPS_AGE_KEY
  const byAge = createSopsCustody({
    recipients: choice.age ?? (destination => ruleOf?.(destination).recipients ?? []),
    now: context.now(),
    random: context.random,
    keep,
    ...(context.wrapDataKey === undefined ? {} : { wrapDataKey: context.wrapDataKey }),
    ...(identity === undefined ? {} : { identity }),
  })
  if (ruleOf === null) return { custody: byAge, remarks: [] }
  const remarks: string[] = []
  let byProgram: Custody | null = null
  const custody: Custody = {
    kind: 'sops',
    async seal(secret, destination) {
      const applied = ruleOf(destination)
      for (const note of applied.notes) if (!remarks.includes(note)) remarks.push(note)
      if (!applied.byProgram) return await byAge.seal(secret, destination)
      if (context.sops === undefined) throw noProgram(applied.rule)
      byProgram ??= createSopsByProgramCustody({ program: context.sops, rule: path => ruleOf(path).rule, keep })
      return await byProgram.seal(secret, destination)
    },
  }
  return { custody, remarks }
}

function noProgram(rule: SopsRule): ReanchorError {
  return new ReanchorError({
    what: 'the rule names keys that only the sops program can seal to, and no program is run here',
    where: rule.where,
    expected: 'age recipients',
    found: [...rule.others, ...(rule.groups > 1 ? [`${rule.groups} key groups`] : [])].join(', '),
    todo: 'name age recipients in rotation.yaml under spec.custody.sops.age',
  })
}

async function rulesIn(snapshot: Snapshot): Promise<(destination: string) => RuleRecipients> {
  const { readSopsRules, applyRule } = await import('../custody/sops-rules.ts')
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
  return destination => applyRule(rules, destination)
}

/** Recipients of the root key file, which is always sealed by age; empty where custody names none, which `checkRecipients` then refuses. */
export async function rootRecipients(declaration: Declaration, snapshot: Snapshot): Promise<readonly string[]> {
  const { custody } = declaration
  if (custody.kind !== 'sops') return custody.age
  if (custody.rootAge.length > 0) return custody.rootAge
  if (custody.age !== null) return custody.age
  const destination = `${declaration.sites[0]?.path}/${systemOf(declaration.system).sealedFiles[0]}`
  return (await rulesIn(snapshot))(destination).recipients
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
  if (kind === 'externalSecrets') {
    const { readExternalSecret } = await import('../custody/external-secrets.ts')
    return readExternalSecret(yaml).sealed[key] ?? null
  }
  if (kind === 'sealedSecrets') {
    const { readSealedSecretsManifest } = await import('../custody/sealed-secrets.ts')
    return readSealedSecretsManifest(yaml).sealed[key] ?? null
  }
  const { readSealedSecret } = await import('../custody/sops-document.ts')
  return readSealedSecret(yaml).sealed[key] ?? null
}
