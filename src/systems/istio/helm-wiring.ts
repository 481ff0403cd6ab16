import type { Plain } from '../../gitops/manifests.ts'
import { trustAnnotation } from '../../names.ts'
import {
  changedValues as changedChartValues,
  helmCarrier as chartCarrier,
  helmPoints as chartPoints,
  type HelmCarrier,
  type HelmInstall,
  refuseChangedValues as refuseChangedChartValues,
  type ValuesChange,
} from '../../render/helm-wiring.ts'
import type { Declaration, FileTree, Site, WiringPoint } from '../../rotation.ts'
import { istiodCharts } from './istiod-chart.ts'
import { helmValuesName } from './observe-objects.ts'
import { multirootSetting, xdsAgentSetting } from './phases.ts'
import { istioOf } from './settings.ts'

/** Chart values that reanchor's steps set, below the keys of a chart that wraps istiod's. */
export const managedPaths: readonly (readonly string[])[] = [
  ['pilot', 'env', multirootSetting],
  ['meshConfig', 'defaultConfig', 'proxyMetadata', xdsAgentSetting],
  ['pilot', 'podAnnotations', trustAnnotation],
]

/** How istiod is installed as a chart. Null where it is not (Sail). */
function istiodInstall(declaration: Declaration): HelmInstall | null {
  const { install, controlPlane } = istioOf(declaration)
  if (install === 'sail') return null
  return {
    title: 'istiod',
    charts: istiodCharts,
    field: 'istio.controlPlane',
    how: install,
    places: controlPlane,
    sets: "istiod's flags and restart token",
    managed: managedPaths,
    valuesName: helmValuesName,
    valuesFile: 'istiod-values.yaml',
  }
}

/** What installs istiod at a site. Null where that is no chart (Sail), or where the declaration does not say. */
export function helmCarrier(declaration: Declaration, site: Site, files: FileTree): HelmCarrier | null {
  const install = istiodInstall(declaration)
  if (install === null || install.places[site.name] === undefined) return null
  return chartCarrier(install, site, files)
}

/** The edits by which a HelmRelease or an Application takes istiod's values from the site's folder. */
export function helmPoints(declaration: Declaration, site: Site, files: FileTree): readonly WiringPoint[] {
  const install = istiodInstall(declaration)
  return install === null ? [] : chartPoints(declaration, install, site, files)
}

export function changedValues(before: Plain, after: Plain, under: readonly string[] = []): readonly ValuesChange[] {
  return changedChartValues({ managed: managedPaths }, before, after, under)
}

export interface AdoptedValues {
  readonly declaration: Declaration
  readonly site: Site
  /** The base branch as it is. */
  readonly files: FileTree
  readonly points: readonly WiringPoint[]
  /** `istiod-values.yaml` of the step adopt. */
  readonly delivered: string
}

/** Refuses a wiring after which istiod would be installed with other values than before. */
export function refuseChangedValues({ declaration, ...inputs }: AdoptedValues): void {
  const install = istiodInstall(declaration)
  if (install === null || install.places[inputs.site.name] === undefined) return
  refuseChangedChartValues({ install, ...inputs })
}
