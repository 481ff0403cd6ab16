import { App } from 'cdk8s'
import { publicFiles } from '../../../phases/istio/cacerts.ts'
import { istioCharts } from '../../../phases/istio/charts.ts'
import { chartValues } from '../../../phases/istio/control-plane.ts'
import type { IstioPhaseProps } from '../../../phases/istio/props.ts'
import { placedObjects } from '../../../phases/site-file.ts'
import type { Custody } from '../../custody/custody.ts'
import { joinPem } from '../../pki/bundle.ts'
import { type ComponentPatch, componentFile, type Manifest, renderFolder } from '../../render/folder.ts'
import { yamlText } from '../../render/yaml.ts'
import type { TrustHeader, TrustPlace } from '../../report/trust-txt.ts'
import type { CertificateFacts, FileTree } from '../../rotation.ts'
import { workloadsKey } from './phases.ts'

export interface SiteRendering {
  readonly header: TrustHeader
  readonly props: IstioPhaseProps
  readonly facts: (sha256: string) => CertificateFacts
  readonly custody: Custody
  /** The folder that the files will have in the repository: custody looks its rules up by destination. */
  readonly path: string
}

/** One step's files of one site, relative to the site's folder: what reviewers see and the deliverer applies, byte for byte. */
export async function renderSite(rendering: SiteRendering): Promise<FileTree> {
  const { header, props, custody, path } = rendering
  const Chart = istioCharts[header.phaseName]
  if (Chart === undefined) throw new Error(`no chart for phase ${header.phaseName}`)
  const chart = new Chart(new App(), header.site, props)
  const others = new Map(componentFiles(props))
  if (props.controlPlane.kind === 'values') others.set('istiod-values.yaml', yamlText(chartValues(props)))
  for (const [name, text] of Object.entries(readableFiles(props))) others.set(name, text)
  return await renderFolder({
    header,
    objects: placedObjects(chart).map(({ object, file }) => ({ manifest: object.toJson() as Manifest, file })),
    others,
    places: trustPlaces(rendering),
    custody,
    path,
    delivery: props.delivery,
  })
}

/** Public PEMs beside the Secret, for reading; before a CA is plugged in, the root that is trusted today. */
function readableFiles(props: IstioPhaseProps): Record<string, string> {
  if (props.state.source === 'plugged') return publicFiles(props)
  return { 'root-cert.pem': joinPem(...props.state.bundle.map(props.certificate)) }
}

/** Each Component's kustomization. */
function componentFiles(props: IstioPhaseProps): readonly (readonly [string, string])[] {
  const patches: ComponentPatch[] = []
  if (props.controlPlane.kind === 'sail') {
    patches.push({
      path: 'patch.yaml',
      target: { group: 'sailoperator.io', kind: 'Istio', name: props.controlPlane.name },
    })
  }
  if (props.ztunnel !== undefined) {
    patches.push({
      path: 'ztunnel.yaml',
      target: { group: 'sailoperator.io', kind: 'ZTunnel', name: props.ztunnel.name },
    })
  }
  return [
    ...(patches.length === 0 ? [] : [componentFile('istiod', patches)]),
    ...(props.workloads ?? []).map((kinds, index) =>
      componentFile(workloadsKey(index + 1), [{ path: 'patch.yaml', target: { kind: kinds.join('|') } }]),
    ),
  ]
}

function trustPlaces({ props, facts }: SiteRendering): readonly TrustPlace[] {
  const { state } = props
  const roots = state.bundle.map(facts)
  if (state.source === 'own') {
    return [
      { place: 'own CA of istiod', role: 'issuer', certificates: [facts(state.issuer)] },
      { place: 'root-cert.pem', role: 'trusted', certificates: roots },
    ]
  }
  return [
    { place: 'cacerts.yaml:ca-cert.pem', role: 'issuer', certificates: [facts(state.issuer)] },
    { place: 'cacerts.yaml:cert-chain.pem', role: 'chain', certificates: state.chain.map(facts) },
    { place: 'cacerts.yaml:root-cert.pem', role: 'trusted', certificates: roots },
  ]
}
