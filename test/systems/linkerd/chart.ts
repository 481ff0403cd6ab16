import type { Custody } from '../../../src/custody/custody.ts'
import { readDeclaration } from '../../../src/declaration/read.ts'
import { ReanchorError } from '../../../src/errors.ts'
import { applyWiring } from '../../../src/gitops/yaml-edit.ts'
import type { Certificate } from '../../../src/pki/certificate.ts'
import type { CurrentCa } from '../../../src/plan/ca.ts'
import type { Declaration, FileTree, Site, TrustState, WiringPoint } from '../../../src/rotation.ts'
import type { issuerSchemes } from '../../../src/systems/linkerd/issuer-secret.ts'
import type { LinkerdIssuer } from '../../../src/systems/linkerd/next-ca.ts'
import { planLinkerdSite } from '../../../src/systems/linkerd/plan-site.ts'
import type { SitePlan } from '../../../src/systems/system.ts'

const age = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p'
export const fleetURL = 'https://git.example.com/platform/fleet.git'

export interface ChartCase {
  readonly install: 'helmRelease' | 'argoApplication'
  readonly flow?: 'trust-roots' | 'upgrade'
  readonly version?: string
  readonly scheme?: (typeof issuerSchemes)[number]
  readonly strategy?: string
  readonly leaves?: string
  readonly files: Readonly<Record<string, string>>
  readonly name?: string
  readonly sites?: readonly string[]
  readonly extra?: Readonly<Record<string, string>>
  readonly key?: string
}

/** A site whose control plane a chart installs, planned from its present CA to the next. */
export interface PlannedChart {
  readonly declaration: Declaration
  readonly site: Site
  readonly files: FileTree
  readonly plan: SitePlan
  readonly pems: readonly Certificate[]
}

export async function plannedChart(
  { old, next }: { readonly old: LinkerdIssuer; readonly next: LinkerdIssuer },
  given: ChartCase,
): Promise<PlannedChart> {
  const sites = given.sites ?? ['eu-1']
  const flux = given.install === 'helmRelease'
  const delivery = (site: string) =>
    flux
      ? `flux: {kustomization: flux-system/trust, file: clusters/${site}/trust.yaml}`
      : `argocd: {application: argocd/trust-${site}, file: clusters/${site}/trust.yaml, repoURL: '${fleetURL}'}`
  const custody = flux ? `sops: {age: [${age}]}` : `sealedSecrets: {certificate: sealed.pem, age: [${age}]}`
  const name = given.name ?? 'linkerd-control-plane'
  const declaration = await readDeclaration(
    `apiVersion: reanchor.dev/v1alpha1
kind: TrustRotation
metadata: {name: mesh-2026}
spec:
  system: linkerd
  strategy: ${given.strategy ?? 'graceful'}
  forge: local
  custody: {${custody}}
  sites:
${sites.map(site => `    - {name: ${site}, path: trust/${site}, cluster: {context: ${site}}, delivery: {${delivery(site)}}}\n`).join('')}\
  reload: {${given.leaves === undefined ? '' : `leaves: ${given.leaves}, `}workloads: []}
  linkerd:
    flow: ${given.flow ?? 'trust-roots'}
    version: ${given.version ?? 'stable-2.14.10'}
    install: ${given.install}
    controlPlane: {${sites.map(site => `${site}: {file: linkerd/${site}/release.yaml, name: ${name}}`).join(', ')}}
`,
    'rotations/mesh-2026/rotation.yaml',
  )
  const site = declaration.sites.at(-1) as Site
  const files: FileTree = new Map(Object.entries(given.files))
  const scheme = given.scheme ?? 'linkerd.io/tls'
  const current: CurrentCa = {
    issuer: old.issuer,
    chain: [old.issuer],
    roots: [old.root],
    key: given.key ?? old.key,
    source: 'plugged',
    settings: { scheme, secretType: scheme === 'linkerd.io/tls' ? 'Opaque' : scheme, version: 'x' },
    restarts: {},
    ...(given.extra === undefined ? {} : { extra: given.extra }),
  }
  const plan = await planLinkerdSite({ declaration, site, files, current, next, merged: null })
  return { declaration, site, files, plan, pems: [old.root, old.issuer, next.root, next.issuer] }
}

/** Seals nothing: what would be sealed can be read in the test. */
const open = {
  kind: 'sops',
  seal: async (secret: object) => JSON.stringify({ kind: 'Secret', ...secret }),
} as unknown as Custody

export function steps({ plan }: Pick<PlannedChart, 'plan'>): readonly string[] {
  return plan.phases.flatMap(phase => phase.steps.map(step => `${phase.name}/${step.name}`))
}

/** The files of a step, as `phase/step` names it. */
export async function filesAt(
  made: PlannedChart,
  name: string,
  variant: 'state' | 'undo' | 'nudge' = 'state',
): Promise<FileTree> {
  const [phaseName = '', stepName = ''] = name.split('/')
  const phase = made.plan.phases.findIndex(each => each.name === phaseName)
  const step = made.plan.phases[phase]?.steps.findIndex(each => each.name === stepName) ?? -1
  const state = made.plan.phases[phase]?.steps[step]?.[variant] as TrustState
  return await made.plan.render({
    header: {
      rotation: 'mesh-2026',
      phase,
      phaseName,
      step: step + 1,
      stepName,
      variant: 'step',
      site: made.site.name,
    },
    state,
    custody: open,
    canary: 'canary',
    certificate: sha256 => made.pems.find(each => each.sha256 === sha256) as Certificate,
  })
}

export async function pointsOf(made: PlannedChart): Promise<readonly WiringPoint[]> {
  return made.plan.wiring(await filesAt(made, 'adopt/adopt'))
}

/** The tree after adopt, the site's folder in place. */
export async function adopted(made: PlannedChart): Promise<FileTree> {
  const tree = new Map(made.files)
  for (const { file, edit } of await pointsOf(made))
    tree.set(file, applyWiring(tree.get(file) ?? null, edit, file).text)
  for (const [path, text] of await filesAt(made, 'adopt/adopt')) tree.set(`${made.site.path}/${path}`, text)
  return tree
}

export async function refusal(run: () => unknown): Promise<ReanchorError> {
  try {
    await run()
  } catch (error) {
    if (error instanceof ReanchorError) return error
    throw error
  }
  throw new Error('nothing was refused')
}

export function indented(text: string, by: number): string {
  return text.replace(/^(?=.)/gm, ' '.repeat(by))
}

/** A HelmRelease with inline values, as an engineer writes it. */
export function release(values: string, chart = 'linkerd-control-plane', version = '1.16.11'): string {
  return `# The mesh. Ask #platform before a change.
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata:
  name: linkerd-control-plane
  namespace: linkerd
spec:
  interval: 10m
  chart:
    spec:
      chart: ${chart}
      version: "${version}" # pinned
      sourceRef: {kind: HelmRepository, name: linkerd}
  values:
${indented(values, 4)}`
}

export function fleet(releaseText: string, site = 'eu-1'): Record<string, string> {
  return {
    [`linkerd/${site}/release.yaml`]: releaseText,
    [`linkerd/${site}/kustomization.yaml`]: 'resources:\n  - release.yaml\n',
  }
}
