import type { Findings, FoundControlPlane } from '../../declaration/find.ts'
import { builtFolder, deliverersAt, flagError, mentions, question, type SiteAnswer } from '../../declaration/init.ts'
import { parseDuration } from '../../declaration/values.ts'
import { chartInstallers, takesValues } from '../../gitops/helm.ts'
import { folderOf } from '../../gitops/paths.ts'
import type { InitPart, InitScene, Outcome } from '../init.ts'
import { istiodCharts } from './istiod-chart.ts'
import type { IstioControlPlane, IstioSettings } from './settings.ts'

/** Where each site declares its Istio, as the repository tells it. */
export function initIstio(scene: InitScene): InitPart {
  const { answers, findings } = scene
  const sites = answers.sites.map(site => planeOf(scene, site))
  return {
    sites,
    sealedFile: 'cacerts.yaml',
    restartsWorkloads: true,
    finish() {
      const notes: (readonly [string, string])[] = []
      const remarks: string[] = []
      const planes: Record<string, IstioControlPlane> = {}
      const found: FoundControlPlane[] = []
      for (const [index, { name }] of answers.sites.entries()) {
        const outcome = sites[index]
        if (outcome === undefined || 'ask' in outcome) throw new Error(`what declares Istio at ${name} is still open`)
        if (outcome.note !== null) notes.push([`spec.istio.controlPlane.${name}`, outcome.note])
        planes[name] = outcome.value.control
        found.push(outcome.value.plane)
      }
      return {
        part: { system: 'istio', istio: { ...settingsOf(found, findings, remarks), controlPlane: planes } },
        notes,
        remarks,
        wired: Object.fromEntries(Object.entries(planes).map(([site, { file }]) => [site, file])),
      }
    },
  }
}

function planeOf(
  scene: InitScene,
  site: SiteAnswer,
): Outcome<{ readonly plane: FoundControlPlane; readonly control: IstioControlPlane }> {
  const { findings, answers, files } = scene
  const flag = `--control-plane ${site.name}=FILE`
  const said = site.controlPlane
  const deliverers = [
    ...deliverersAt(findings.kustomizations, site, answers.sites),
    ...deliverersAt(findings.applications, site, answers.sites),
  ]
  if (said !== null && !files.has(said.file)) {
    throw flagError(
      '--control-plane',
      said.file,
      'a file of this repository, as it is committed',
      `${site.name}=clusters/${site.name}/istio.yaml`,
    )
  }
  const candidates = findings.controlPlanes.filter(plane => {
    if (said !== null) return plane.file === said.file && (said.name === null || plane.name === said.name)
    if (answers.sites.length === 1) return true
    return mentions(plane.file, site.name) || deliverers.some(each => each.files.has(plane.file))
  })
  const own = candidates.filter(plane => mentions(plane.file, site.name))
  const plane = candidates.length === 1 ? candidates[0] : own.length === 1 ? own[0] : undefined
  if (plane === undefined && said !== null && candidates.length === 0) {
    // The values file of a Helm installation: what installs istiod with it is what can be wired.
    const users = chartInstallers(files, istiodCharts).filter(installer => takesValues(installer, said.file, files))
    const own = users.filter(
      ({ object }) =>
        answers.sites.length === 1 || mentions(object.file, site.name) || mentions(object.name, site.name),
    )
    const user = own.length === 1 ? own[0] : undefined
    const by = findings.controlPlanes.find(each => each.file === user?.object.file && each.name === user.object.name)
    if (by !== undefined) {
      const path = builtFolder(scene, site, by.file, deliverers) ?? folderOf(by.file)
      return {
        value: { plane: by, control: { file: by.file, name: by.name, path } },
        note: `Found as ${planeText(by)}, which takes ${said.file}.`,
      }
    }
    const values: FoundControlPlane = {
      install: 'helmValues',
      file: said.file,
      name: said.name ?? 'istiod',
      namespace: 'istio-system',
      trustDomain: null,
      leafTTL: null,
    }
    return {
      value: { plane: values, control: { file: said.file, name: values.name, path: folderOf(said.file) } },
      note: null,
    }
  }
  if (plane === undefined) {
    const choices = candidates.map(each => `${each.file}#${each.name}`)
    const why =
      candidates.length === 0
        ? `no Istio resource, HelmRelease or Application of istiod was found for ${site.name}`
        : `more than one Istio was found for ${site.name}`
    return question(flag, `Which file declares the Istio of ${site.name}?`, why, choices, 'controlPlane', site.name)
  }
  const path = builtFolder(scene, site, plane.file, deliverers)
  if (path === null) {
    return {
      value: { plane, control: { file: plane.file, name: plane.name, path: folderOf(plane.file) } },
      note:
        plane.install === 'sail'
          ? 'Nothing in this repository builds this folder: name the folder that is built as `path`, or plan refuses.'
          : `Found as ${planeText(plane)}.`,
    }
  }
  return {
    value: { plane, control: { file: plane.file, name: plane.name, path } },
    note: `Found as ${planeText(plane)}.`,
  }
}

function planeText(plane: FoundControlPlane): string {
  if (plane.install === 'sail') return `Istio ${plane.name}`
  return `${plane.install === 'helmRelease' ? 'HelmRelease' : 'Application'} ${plane.name}`
}

function settingsOf(
  found: readonly FoundControlPlane[],
  findings: Findings,
  remarks: string[],
): Omit<IstioSettings, 'controlPlane'> {
  const one = <Value>(what: string, values: readonly Value[], standard: Value): Value => {
    const different = [...new Set(values)]
    if (different.length > 1) remarks.push(`the sites differ in ${what} (${different.join(', ')}): the first is taken`)
    return different[0] ?? standard
  }
  const leafTTL = one(
    'the life of leaves',
    found.flatMap(plane => (plane.leafTTL === null ? [] : [plane.leafTTL])),
    '24h',
  )
  if (findings.ambient.length > 0) remarks.push(`ambient: a ztunnel is declared in ${findings.ambient.join(', ')}`)
  return {
    install: one(
      'how Istio is installed',
      found.map(plane => plane.install),
      'sail',
    ),
    namespace: one(
      'the namespace of the control plane',
      found.map(plane => plane.namespace),
      'istio-system',
    ),
    trustDomain: one(
      'the trust domain',
      found.map(plane => plane.trustDomain ?? 'cluster.local'),
      'cluster.local',
    ),
    ambient: findings.ambient.length > 0,
    leafHours: (parseDuration(leafTTL) ?? 86_400_000) / 3_600_000,
  }
}
