import { builtFolder, deliverersAt, mentions, question, type SiteAnswer } from '../../declaration/init.ts'
import { parseDuration } from '../../declaration/values.ts'
import {
  applicationValues,
  type ChartInstaller,
  chartInstallers,
  configMapsOf,
  releaseValues,
  valueAt,
} from '../../gitops/helm.ts'
import { at, isPlain, listAt, type Plain, parsedFile, textAt } from '../../gitops/manifests.ts'
import { folderOf } from '../../gitops/paths.ts'
import { holdsPrivateKey } from '../../pki/pem.ts'
import type { FileTree } from '../../rotation.ts'
import type { InitPart, InitScene, Outcome } from '../init.ts'
import { controlPlaneCharts } from './linkerd-chart.ts'
import type { LinkerdInstall, LinkerdPlane } from './settings.ts'
import { type LinkerdFlow, linkerdVersion, rulesOf } from './version.ts'

interface FoundLinkerd {
  readonly install: LinkerdInstall
  readonly file: string
  /** Of the object that installs the chart; null for manifests. */
  readonly name: string | null
  readonly namespace: string
  readonly flow: LinkerdFlow
  readonly version: string | null
  readonly trustDomain: string | null
  readonly leafHours: number | null
  readonly remarks: readonly string[]
}

/** Where each site declares its control plane, as the repository tells it. */
export function initLinkerd(scene: InitScene): InitPart {
  const { answers, files } = scene
  // A site's folder holds patches of an earlier rotation, which declare no Linkerd.
  const found = [...linkerdManifests(files), ...linkerdCharts(files)].filter(
    ({ file }) => !answers.sites.some(({ path }) => file.startsWith(`${path}/`)),
  )
  const sites = answers.sites.map(site => linkerdAt(scene, site, found))
  return {
    sites,
    sealedFile: 'issuer.yaml',
    restartsWorkloads: true,
    finish() {
      const planes = answers.sites.map(({ name }, index) => {
        const outcome = sites[index]
        if (outcome === undefined || 'ask' in outcome) throw new Error(`the control plane of ${name} is still open`)
        return { site: name, ...outcome.value }
      })
      const [first] = planes
      if (first === undefined) throw new Error('init asked for no site')
      const { flow, install, version, namespace, trustDomain, leafHours } = first.found
      const remarks = planes.flatMap(({ site, found: each }) => [
        ...(each.flow === flow
          ? []
          : [`${site} has another version of Linkerd than ${first.site}: rotate it by itself`]),
        ...(each.install === install
          ? []
          : [`${site} installs Linkerd in another way than ${first.site} (${each.install}): rotate it by itself`]),
        ...each.remarks,
      ])
      if (version === null) remarks.push('spec.linkerd.version could not be found: write the installed one')
      return {
        part: {
          system: 'linkerd',
          linkerd: {
            flow,
            version: version ?? (flow === 'trust-roots' ? 'stable-2.14.10' : 'stable-2.8.1'),
            namespace,
            trustDomain: trustDomain ?? 'cluster.local',
            install,
            controlPlane: Object.fromEntries(planes.map(({ site, plane }) => [site, plane])),
            issuerScheme: null,
            leafHours: leafHours ?? 24,
            leaves: 'renewal',
          },
        },
        notes: [['spec.linkerd.flow', `Found in ${first.found.file}.`]],
        remarks: [...new Set(remarks)],
        wired: Object.fromEntries(planes.map(({ site, found: each }) => [site, each.file])),
        // Flux or Argo CD applies manifests of the control plane like any workload's; steps of its own restart them.
        notRestarted: planes.flatMap(({ plane, found: each }) => (each.install === 'manifests' ? [plane.path] : [])),
      }
    },
  }
}

function linkerdAt(
  scene: InitScene,
  site: SiteAnswer,
  found: readonly FoundLinkerd[],
): Outcome<{ readonly found: FoundLinkerd; readonly plane: LinkerdPlane }> {
  const { answers, findings } = scene
  const said = site.controlPlane
  const deliverers = [
    ...deliverersAt(findings.kustomizations, site, answers.sites),
    ...deliverersAt(findings.applications, site, answers.sites),
  ]
  const candidates = found.filter(each => {
    if (said !== null) return each.file === said.file && (said.name === null || each.name === said.name)
    if (answers.sites.length === 1) return true
    return mentions(each.file, site.name) || deliverers.some(deliverer => deliverer.files.has(each.file))
  })
  const own = candidates.filter(each => mentions(each.file, site.name))
  const chosen = candidates.length === 1 ? candidates[0] : own.length === 1 ? own[0] : undefined
  if (chosen !== undefined) {
    const path = builtFolder(scene, site, chosen.file, deliverers) ?? folderOf(chosen.file)
    const { install, file, name } = chosen
    return { value: { found: chosen, plane: { path, file: install === 'manifests' ? null : file, name } }, note: null }
  }
  return question(
    `--control-plane ${site.name}=FILE`,
    `Which file declares the Linkerd of ${site.name}?`,
    candidates.length === 0
      ? `no Deployment linkerd-identity, and no HelmRelease or Application of its chart, was found for ${site.name}`
      : `more than one Linkerd was found for ${site.name}`,
    candidates.map(each => (each.name === null ? each.file : `${each.file}#${each.name}`)),
    'controlPlane',
    site.name,
  )
}

// ----------------------------------------------------------------------------------------------------- manifests

/** What holds Deployment linkerd-identity; the flow follows from where its anchors come from. */
function linkerdManifests(files: FileTree): readonly FoundLinkerd[] {
  const found: FoundLinkerd[] = []
  for (const [file, content] of files) {
    if (!/\.ya?ml$/.test(file) || !content.includes('linkerd-identity')) continue
    for (const { value } of parsedFile(files, file)?.documents ?? []) {
      if (at(value, 'kind') !== 'Deployment' || at(value, 'metadata', 'name') !== 'linkerd-identity') continue
      const spec = at(value, 'spec', 'template', 'spec')
      const maps = listAt(spec, 'volumes').map(volume => textAt(volume, 'configMap', 'name'))
      const image = listAt(spec, 'containers')
        .map(container => textAt(container, 'image') ?? '')
        .find(text => text.includes('/controller:'))
      const context = identityContext(files, folderOf(file))
      found.push({
        install: 'manifests',
        file,
        name: null,
        namespace: textAt(value, 'metadata', 'namespace') ?? 'linkerd',
        flow: maps.includes('linkerd-config') ? 'upgrade' : 'trust-roots',
        version: image?.slice(image.lastIndexOf(':') + 1) ?? null,
        trustDomain: flagOf(spec, 'identity-trust-domain') ?? textAt(context, 'trustDomain'),
        leafHours: hoursOf(flagOf(spec, 'identity-issuance-lifetime') ?? textAt(context, 'issuanceLifetime')),
        remarks: [],
      })
    }
  }
  return found
}

/** A flag of a container, whether it stands in an argument of its own or behind others. */
function flagOf(spec: unknown, flag: string): string | null {
  const args = listAt(spec, 'containers').flatMap(container => listAt(container, 'args'))
  for (const text of args) {
    const value = typeof text === 'string' ? new RegExp(`(?:^|\\s)-{1,2}${flag}=(\\S+)$`).exec(text)?.[1] : undefined
    if (value !== undefined) return value
  }
  return null
}

/** What linkerd-config tells up to 2.8, beside the Deployment. */
function identityContext(files: FileTree, folder: string): unknown {
  for (const [file, content] of files) {
    if (folderOf(file) !== folder || !content.includes('identityContext')) continue
    for (const { value } of parsedFile(files, file)?.documents ?? []) {
      try {
        const global: unknown = JSON.parse(textAt(value, 'data', 'global') ?? 'null')
        if (isPlain(global)) return global.identityContext
      } catch {
        // `plan` says what is wrong with it.
      }
    }
  }
  return null
}

function hoursOf(text: string | null): number | null {
  const milliseconds = text === null ? null : parseDuration(text)
  return milliseconds === null ? null : milliseconds / 3_600_000
}

// -------------------------------------------------------------------------------------------------------- charts

function linkerdCharts(files: FileTree): readonly FoundLinkerd[] {
  return chartInstallers(files, controlPlaneCharts).map(installer => {
    const values = valuesOf(files, installer)
    const { object } = installer
    const value = (...path: readonly string[]) => textOf(valueAt(values, path) ?? valueAt(values, ['global', ...path]))
    const version = value('linkerdVersion') ?? chartVersion(installer)
    const namespace =
      installer.kind === 'helmRelease'
        ? (installer.object.targetNamespace ?? object.namespace)
        : installer.object.destination.namespace
    return {
      install: installer.kind === 'helmRelease' ? 'helmRelease' : 'argoApplication',
      file: object.file,
      name: object.name,
      namespace: namespace ?? 'linkerd',
      flow: flowOf(version, values),
      version,
      trustDomain: value('identityTrustDomain') ?? value('clusterDomain'),
      leafHours: hoursOf(textOf(valueAt(values, ['identity', 'issuer', 'issuanceLifetime']))),
      remarks: remarksOf(installer, values),
    }
  })
}

function valuesOf(files: FileTree, installer: ChartInstaller): Plain {
  const { values } =
    installer.kind === 'helmRelease'
      ? releaseValues(files, installer.object, configMapsOf(files))
      : applicationValues(files, installer.object, installer.source)
  const own = valueAt(values, installer.under)
  return isPlain(own) ? own : {}
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null
}

/** Minor versions of Linkerd by those of the chart linkerd-control-plane (its Chart.yaml, `version` beside `appVersion`). */
const controlPlaneVersions: Readonly<Record<string, string>> = { '9': '2.12', '12': '2.13', '16': '2.14' }

/** The version of Linkerd that a chart's version stands for; a range counts as what it begins with. Null: it does not tell. */
function chartVersion(installer: ChartInstaller): string | null {
  const text = installer.kind === 'helmRelease' ? installer.object.chartVersion : installer.source.targetRevision
  const [, major = '', minor = '', patch] = /^[~^=v\s]*(\d+)\.(\d+)(?:\.(\d+))?/.exec(text ?? '') ?? []
  const rest = patch === undefined ? '' : `.${patch}`
  if (major === '2') return `stable-2.${minor}${rest}`
  // Edge releases of linkerd2 have their year as the chart's version, since 2024 with the century.
  if (/^(20)?[2-9]\d$/.test(major)) return `edge-${major.slice(-2)}.${minor}${rest}`
  const stable = major === '1' ? controlPlaneVersions[minor] : undefined
  return stable === undefined ? null : `stable-${stable}`
}

function flowOf(version: string | null, values: Plain): LinkerdFlow {
  if (version === null)
    return valueAt(values, ['global', 'identityTrustAnchorsPEM']) === undefined ? 'trust-roots' : 'upgrade'
  try {
    return rulesOf(linkerdVersion(version)).literalAnchors ? 'upgrade' : 'trust-roots'
  } catch {
    // Words such as `latest`: the person writes the version.
    return 'trust-roots'
  }
}

function remarksOf({ kind, object }: ChartInstaller, values: Plain): readonly string[] {
  const issuer = ['identity', 'issuer']
  const scheme = textOf(valueAt(values, [...issuer, 'scheme'])) ?? 'linkerd.io/tls'
  const key = textOf(valueAt(values, [...issuer, 'tls', 'keyPEM']))
  const remarks: string[] = []
  if (key !== null && holdsPrivateKey(key))
    remarks.push(
      `${object.file}: the issuer's private key stands in Git in the clear; adopt moves it, sealed, into the site's folder, and its history keeps it`,
    )
  if (kind === 'application' && scheme === 'linkerd.io/tls')
    remarks.push(
      `${object.file}: with identity.issuer.scheme linkerd.io/tls an Application can take the key only from Git in the clear; plan asks for kubernetes.io/tls first`,
    )
  if (String(valueAt(values, ['proxyInjector', 'externalSecret'])) !== 'true')
    remarks.push(
      `${object.file}: each upgrade of the chart makes new webhook certificates and restarts destination and injector with them; proxyInjector, profileValidator and policyValidator with externalSecret: true leave a rotation’s pull requests to the rotation`,
    )
  return remarks
}
