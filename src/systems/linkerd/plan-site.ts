import { posix } from 'node:path'
import { App } from 'cdk8s'
import { linkerdCharts } from '../../../phases/linkerd/charts.ts'
import {
  bundleAnchors,
  controlPlaneComponent,
  issuerFile,
  trustRootsFile,
  valuesFile,
} from '../../../phases/linkerd/files.ts'
import { chartValues } from '../../../phases/linkerd/helm-values.ts'
import type { LinkerdControlPlane, LinkerdPhaseProps, LinkerdWorkloads } from '../../../phases/linkerd/props.ts'
import { manualFile } from '../../../phases/linkerd/restarts.ts'
import { placedObjects } from '../../../phases/site-file.ts'
import { exitCodes, ReanchorError } from '../../errors.ts'
import { joinPem } from '../../pki/bundle.ts'
import { type Certificate, certificateFacts } from '../../pki/certificate.ts'
import { type ComponentPatch, componentFile, renderFolder } from '../../render/folder.ts'
import { helmCarrier, helmPoints, manifestPathsPoints, refuseChangedValues } from '../../render/helm-wiring.ts'
import { componentPoint, deliveryPoints, destinationBeside } from '../../render/wiring.ts'
import { yamlText } from '../../render/yaml.ts'
import type { TrustPlace } from '../../report/trust-txt.ts'
import type { Declaration, FileTree, Site, WiringPoint } from '../../rotation.ts'
import type { PhaseDraft, SitePlan, SitePlanInputs, StepRendering } from '../system.ts'
import { otherRoots } from './health.ts'
import { type IssuerScheme, schemeKeys } from './issuer-secret.ts'
import { adoptedSecret, type ChartSite, chartSite, controlPlaneCharts, refuseClearKey } from './linkerd-chart.ts'
import { controlPlaneOf, manualWorkloads, refuseOtherOwners } from './manifests.ts'
import { controlPlaneKey, dataPlaneKey, linkerdPhases, literalAnchors } from './phases.ts'
import { type LinkerdSettings, linkerdOf } from './settings.ts'
import { linkerdVersion, rulesOf } from './version.ts'

/** Phases, files and wiring of one site. The users' files are searched once, not at each step. */
export function planLinkerdSite(inputs: SitePlanInputs): SitePlan {
  const { declaration, site, files, current } = inputs
  const linkerd = linkerdOf(declaration)
  const rules = rulesOf(linkerdVersion(linkerd.version))
  refuseOtherOwners(files, declaration.sites, linkerd.namespace)
  const folder = controlPlaneFolder(linkerd, site)
  const chart = linkerd.install === 'manifests' ? null : chartSite(inputs, linkerd, rules)
  const found =
    chart === null ? controlPlaneOf(files, folder, linkerd.namespace, linkerd.flow, rules) : controlPlaneByChart(chart)
  const controlPlane = linkerd.trustManager === true ? { ...found, bundle: true } : found
  if (linkerd.trustManager === true && !found.ownTrustRoots) throw anchorsOfOthers(folder, chart, linkerd)
  const workloads = workloadsOf(declaration, site, files)
  const scheme = schemeOf(current.settings.scheme)
  return {
    phases: phasesOf(inputs, linkerd, workloads.length, chart),
    async render(step) {
      const props: LinkerdPhaseProps = {
        rotation: declaration.name,
        state: step.state,
        certificate: sha256 => step.certificate(sha256).pem,
        issuerKey: issuerKey(inputs, step.state.issuer),
        canary: step.canary,
        namespace: linkerd.namespace,
        delivery: site.delivery.kind,
        issuerSecret: {
          scheme,
          type: current.settings.secretType ?? 'Opaque',
          values: chart?.issuerFrom === 'values' ? { namespace: chart.chart.namespace } : null,
        },
        controlPlane,
        workloads,
      }
      return await renderStep(step, props, site)
    },
    wiring(adopted) {
      const points = wiringOf(declaration, site, files, folder, linkerd.namespace, chart)
      if (chart !== null) refuseOtherValues(inputs, chart, points, adopted)
      return points
    },
  }
}

function controlPlaneByChart({ chart, externalCa }: ChartSite): LinkerdControlPlane {
  const none = { global: null, values: null, trustRoots: null, deployments: [], literal: false, rootHash: false }
  return { ...none, ownTrustRoots: externalCa, chart }
}

/** The release must be installed with the same values after `adopt`, and no key may stay behind in the clear. */
function refuseOtherValues(
  inputs: SitePlanInputs,
  chart: ChartSite,
  points: readonly WiringPoint[],
  adopted: FileTree,
): void {
  const { site, files } = inputs
  refuseClearKey(chart, site, files, points)
  const delivered = adopted.get(valuesFile)
  if (delivered === undefined) throw new Error(`adopt delivers no ${valuesFile}`)
  const { install } = chart
  refuseChangedValues({ install, site, files, points, delivered, secret: adoptedSecret(inputs) })
}

/** A Bundle beside what else writes the ConfigMap would take turns with it. */
function anchorsOfOthers(folder: string, chart: ChartSite | null, { namespace, flow }: LinkerdSettings): ReanchorError {
  return new ReanchorError({
    what: 'a Bundle cannot write the anchors while something else does',
    where: { file: folder, field: 'spec.linkerd.trustManager' },
    expected: "a site's folder that delivers ConfigMap linkerd-identity-trust-roots by itself",
    found:
      flow !== 'trust-roots'
        ? `flow ${flow}, which keeps the anchors in ConfigMap ${namespace}/linkerd-config`
        : chart === null
          ? 'the manifests of the control plane, which have that ConfigMap'
          : 'a chart without identity.externalCA, which makes that ConfigMap',
    todo: 'leave spec.linkerd.trustManager out, or first move the anchors out of there',
    exit: exitCodes.refused,
  })
}

function controlPlaneFolder(linkerd: LinkerdSettings, site: Site): string {
  const plane = linkerd.controlPlane[site.name]
  if (plane === undefined) throw new Error(`no control plane of ${site.name} passed the checks`)
  return plane.path
}

function schemeOf(text: string | undefined): IssuerScheme {
  return text === 'kubernetes.io/tls' ? text : 'linkerd.io/tls'
}

function phasesOf(
  { declaration, site, current, next }: SitePlanInputs,
  linkerd: LinkerdSettings,
  workloadBatches: number,
  chart: ChartSite | null,
): readonly PhaseDraft[] {
  if (declaration.strategy === 'issuer' && !current.roots.some(root => root.sha256 === next.root.sha256)) {
    throw new ReanchorError({
      what: 'strategy issuer keeps the root, but the new issuer is under another one',
      where: { object: `site ${site.name}` },
      expected: `a root among ${current.roots.map(root => root.sha256).join(', ')}`,
      found: next.root.sha256,
      todo: 'give spec.next the root in use and its key, or choose strategy graceful',
    })
  }
  const of = (list: readonly Certificate[]) => list.map(certificate => certificate.sha256)
  return linkerdPhases(
    declaration.strategy,
    {
      current: {
        issuer: current.issuer.sha256,
        chain: of(current.chain),
        roots: of(current.roots),
        others: otherRoots(current),
        settings: { ...current.settings, ...settingsOf(linkerd, chart) },
        restarts: current.restarts,
      },
      next: { root: next.root.sha256, issuer: next.issuer.sha256, chain: of(next.chain) },
    },
    {
      flow: linkerd.flow,
      workloadBatches,
      leaves: linkerd.leaves,
      chartRestarts: chart?.restarts === true,
      controlPlaneToken: chart === null || chart.chart.podAnnotations !== null,
    },
  )
}

/** What gates and the verifier must know of how a site is installed: plan.yaml carries it with every state. */
function settingsOf({ install }: LinkerdSettings, chart: ChartSite | null): Readonly<Record<string, string>> {
  if (chart === null) return {}
  return {
    install,
    ...(chart.chart.kind === 'helmRelease' ? { valuesNamespace: chart.chart.namespace } : {}),
    ...(chart.issuerFrom === 'values' ? { issuerFrom: 'values' } : {}),
    ...(chart.externalCa ? { externalCA: 'true' } : {}),
  }
}

function issuerKey({ site, current, next }: SitePlanInputs, issuer: string): string {
  if (next.issuer.sha256 === issuer) return next.key
  if (current.issuer.sha256 === issuer && current.key !== null) return current.key
  throw new ReanchorError({
    what: 'the private key of the issuer in use is not at hand',
    where: { object: `site ${site.name}` },
    expected: `the key of ${current.issuer.subject}: while both roots are trusted, leaves are still issued by it`,
    found: 'only its certificate',
    todo: 'give spec.current.files.key, or read it from the cluster with spec.current: {from: cluster}',
  })
}

/** Kinds and hand-injected workloads per batch of reload targets. */
function workloadsOf(declaration: Declaration, site: Site, files: FileTree): readonly LinkerdWorkloads[] {
  const targets = declaration.reload.filter(target => target.site === site.name)
  const batches = [...new Set(targets.map(target => target.batch))].sort((a, b) => a - b)
  return batches.map(batch => {
    const mine = targets.filter(target => target.batch === batch)
    return {
      kinds: [...new Set(mine.flatMap(target => target.kinds))].sort(),
      manual: mine.flatMap(target => manualWorkloads(files, target.path)),
    }
  })
}

// ------------------------------------------------------------------------------------------------------ files

async function renderStep(step: StepRendering, props: LinkerdPhaseProps, site: Site): Promise<FileTree> {
  const Chart = linkerdCharts[step.header.phaseName]
  if (Chart === undefined) throw new Error(`no chart for phase ${step.header.phaseName}`)
  const chart = new Chart(new App(), step.header.site, props)
  return await renderFolder({
    header: step.header,
    objects: placedObjects(chart).map(({ object, file }) => ({ manifest: object.toJson(), file })),
    others: new Map([...components(props), ...readableFiles(props)]),
    places: placesOf(step, props),
    custody: step.custody,
    path: site.path,
    delivery: site.delivery.kind,
  })
}

function components(props: LinkerdPhaseProps): readonly (readonly [string, string])[] {
  const { controlPlane, workloads } = props
  const { global, values, trustRoots, deployments, chart } = controlPlane
  const patches: ComponentPatch[] = []
  const configMap = (path: string, name: string) => patches.push({ path, target: { kind: 'ConfigMap', name } })
  if (global !== null || values !== null) configMap('linkerd-config.yaml', 'linkerd-config')
  if (trustRoots !== null) configMap('trust-roots.yaml', 'linkerd-identity-trust-roots')
  for (const { kind, name } of deployments) patches.push({ path: `${name}.yaml`, target: { kind, name } })
  const files: (readonly [string, string])[] = []
  if (chart === null) files.push(componentFile(posix.basename(controlPlaneComponent), patches))
  if (chart?.kind === 'application') files.push([valuesFile, yamlText(chartValues(props))])
  for (const [index, { kinds, manual }] of (workloads ?? []).entries()) {
    const own = manual.map(place => ({
      path: manualFile(place),
      target: { kind: place.kind, name: place.name },
    }))
    files.push(
      componentFile(dataPlaneKey(index + 1), [{ path: 'patch.yaml', target: { kind: kinds.join('|') } }, ...own]),
    )
  }
  return files
}

/** Public PEMs beside the manifests, for reading. */
function readableFiles(props: LinkerdPhaseProps): readonly (readonly [string, string])[] {
  const { state, certificate } = props
  const between = state.chain.filter(sha256 => sha256 !== state.issuer)
  return [
    ['anchors.pem', joinPem(...state.bundle.map(certificate))],
    ['issuer.pem', joinPem(...[state.issuer, ...between].map(certificate))],
  ]
}

function placesOf({ certificate, state }: StepRendering, props: LinkerdPhaseProps): readonly TrustPlace[] {
  const facts = (list: readonly string[]) => list.map(sha256 => certificateFacts(certificate(sha256)))
  const { issuerSecret, controlPlane, workloads } = props
  const keys = schemeKeys[issuerSecret.scheme]
  const between = state.chain.filter(sha256 => sha256 !== state.issuer)
  const anchors = anchorsPlace(controlPlane)
  const places: TrustPlace[] = [
    { place: `${issuerFile}:${keys.certificate}`, role: 'issuer', certificates: facts([state.issuer]) },
    { place: `${issuerFile}:${keys.certificate}`, role: 'chain', certificates: facts(between) },
    { place: anchors, role: 'trusted', certificates: facts(state.bundle) },
  ]
  if (keys.anchors !== null)
    places.push({ place: `${issuerFile}:${keys.anchors}`, role: 'trusted', certificates: facts(state.bundle) })
  // What pods were told to restart with, which follows the anchors one step behind.
  const batches = [controlPlaneKey, ...(workloads ?? []).map((_, index) => dataPlaneKey(index + 1))]
  for (const key of batches)
    places.push({ place: key, role: 'trusted', certificates: facts(literalAnchors(state, key)) })
  return places.filter(({ certificates }) => certificates.length > 0)
}

function anchorsPlace({ global, chart, bundle }: LinkerdControlPlane): string {
  if (chart !== null && chart.anchors !== null) return `${valuesFile}:${chart.anchors.path.join('.')}`
  if (global !== null) return 'linkerd-config.yaml:global'
  return `${trustRootsFile}:${bundle === true ? bundleAnchors : 'ca-bundle.crt'}`
}

// ------------------------------------------------------------------------------------------------------ wiring

function wiringOf(
  declaration: Declaration,
  site: Site,
  files: FileTree,
  folder: string,
  namespace: string,
  chart: ChartSite | null,
): readonly WiringPoint[] {
  const targets = declaration.reload.filter(each => each.site === site.name)
  const carrier = chart === null ? null : helmCarrier(chart.install, site, files)
  const points: WiringPoint[] = [
    ...deliveryPoints(declaration, site, files, {
      namespace,
      destination: () => destinationBeside(files, carrier, [folder, ...targets.map(target => target.path)]),
    }),
  ]
  if (chart === null) {
    const purpose = "lets the site's folder set the anchors and restart the control plane"
    points.push(componentPoint(site, folder, posix.basename(controlPlaneComponent), purpose, files))
  } else points.push(...helmPoints(declaration, chart.install, site, files))
  for (const target of targets) {
    const restarts = 'lets the site’s folder restart these workloads'
    points.push(componentPoint(site, target.path, dataPlaneKey(target.batch), restarts, files))
  }
  return [...points, ...manifestPathsPoints(controlPlaneCharts, site, files, points)]
}
