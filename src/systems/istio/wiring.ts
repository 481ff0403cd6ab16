import { manifestPathsPoints } from '../../render/helm-wiring.ts'
import { componentPoint, deliveryPoints, destinationBeside } from '../../render/wiring.ts'
import type { Declaration, FileTree, Site, WiringPoint } from '../../rotation.ts'
import { helmCarrier, helmPoints } from './helm-wiring.ts'
import { istiodCharts } from './istiod-chart.ts'
import { workloadsKey } from './phases.ts'
import { istioOf } from './settings.ts'

/**
 * Every place in the user's own files that `adopt` wires, once: after it, a phase changes nothing outside its site folders.
 * Pure: `files` is the base branch as it is.
 */
export function wiringOf(declaration: Declaration, site: Site, files: FileTree): readonly WiringPoint[] {
  const istio = istioOf(declaration)
  const targets = declaration.reload.filter(each => each.site === site.name)
  const controlPlane = istio.controlPlane[site.name]
  const destination = () => {
    const folders = [controlPlane?.path, ...targets.map(each => each.path)]
    return destinationBeside(files, helmCarrier(declaration, site, files), folders)
  }
  const points: WiringPoint[] = [
    ...deliveryPoints(declaration, site, files, { namespace: istio.namespace, destination }),
  ]
  if (controlPlane !== undefined) {
    if (istio.install === 'sail') {
      points.push(
        componentPoint(
          site,
          controlPlane.path,
          'istiod',
          "lets the site's folder set istiod's flags and restart token",
          files,
        ),
      )
    } else points.push(...helmPoints(declaration, site, files))
  }
  for (const target of targets) {
    const purpose = 'lets the site’s folder restart these workloads'
    points.push(componentPoint(site, target.path, workloadsKey(target.batch), purpose, files))
  }
  return [...points, ...manifestPathsPoints(istiodCharts, site, files, points)]
}
