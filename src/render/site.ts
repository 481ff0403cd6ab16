import { App } from 'cdk8s'
import { publicFiles } from '../../phases/istio/cacerts.ts'
import { istioCharts } from '../../phases/istio/charts.ts'
import { chartValues } from '../../phases/istio/control-plane.ts'
import type { IstioPhaseProps } from '../../phases/istio/props.ts'
import { placedObjects } from '../../phases/istio/site-file.ts'
import type { Custody } from '../custody/custody.ts'
import { joinPem } from '../pki/bundle.ts'
import { type TrustHeader, type TrustPlace, trustHeader, trustText } from '../report/trust-txt.ts'
import type { CertificateFacts, FileTree } from '../rotation.ts'
import { yamlText } from './yaml.ts'

export interface SiteRendering {
  readonly header: TrustHeader
  readonly props: IstioPhaseProps
  readonly facts: (sha256: string) => CertificateFacts
  readonly custody: Custody
  /** The folder that the files will have in the repository: custody looks its rules up by destination. */
  readonly path: string
}

interface Manifest {
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly labels?: Record<string, string>
    readonly annotations?: Record<string, string>
  }
  readonly type?: string
  readonly data?: Record<string, string>
}

/** One step's files of one site, relative to the site's folder: what reviewers see and the deliverer applies, byte for byte. */
export async function renderSite(rendering: SiteRendering): Promise<FileTree> {
  const { header, props } = rendering
  const Chart = istioCharts[header.phaseName]
  if (Chart === undefined) throw new Error(`no chart for phase ${header.phaseName}`)
  const chart = new Chart(new App(), header.site, props)
  const files = new Map<string, string>()
  const resources: string[] = []
  const generated: string[] = []
  // Argo CD decrypts nothing itself: KSOPS does, as a generator of the kustomization.
  const ksops = rendering.custody.kind === 'sops' && props.delivery === 'argocd'
  for (const { object, file } of placedObjects(chart)) {
    const manifest = object.toJson() as Manifest
    const text = file.privateKeys.length > 0 ? await sealed(manifest, file, rendering) : yamlText(manifest)
    files.set(file.path, text)
    if (file.path.startsWith('components/')) continue
    if (ksops && file.privateKeys.length > 0) generated.push(file.path)
    else resources.push(file.path)
  }
  if (generated.length > 0) files.set('ksops.yaml', yamlText(ksopsGenerator(generated)))
  addComponents(files, props)
  if (props.controlPlane.kind === 'values') files.set('istiod-values.yaml', yamlText(chartValues(props)))
  files.set(
    'kustomization.yaml',
    yamlText({
      apiVersion: 'kustomize.config.k8s.io/v1beta1',
      kind: 'Kustomization',
      ...(resources.length > 0 || generated.length === 0 ? { resources: resources.sort() } : {}),
      ...(generated.length > 0 ? { generators: ['ksops.yaml'] } : {}),
    }),
  )
  for (const [name, text] of Object.entries(readableFiles(props))) files.set(name, text)
  files.set('trust.txt', trustText({ header: trustHeader(header), places: trustPlaces(rendering) }))
  return new Map([...files].sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** viaduct-ai/kustomize-sops, README, "Argo CD Integration": run as an exec plugin that Argo CD's repo server has in its path. */
function ksopsGenerator(files: readonly string[]): unknown {
  return {
    apiVersion: 'viaduct.ai/v1',
    kind: 'ksops',
    metadata: {
      name: 'reanchor',
      annotations: { 'config.kubernetes.io/function': 'exec:\n  path: ksops\n' },
    },
    files: [...files].sort().map(file => `./${file}`),
  }
}

async function sealed(
  manifest: Manifest,
  file: { readonly path: string; readonly privateKeys: readonly string[] },
  { custody, path }: SiteRendering,
): Promise<string> {
  const { metadata } = manifest
  return custody.seal(
    {
      name: metadata.name,
      namespace: metadata.namespace ?? 'default',
      type: manifest.type ?? 'Opaque',
      labels: metadata.labels ?? {},
      annotations: metadata.annotations ?? {},
      data: Object.fromEntries(
        Object.entries(manifest.data ?? {}).map(([key, value]) => [key, Buffer.from(value, 'base64').toString()]),
      ),
      privateKeys: file.privateKeys,
    },
    `${path}/${file.path}`,
  )
}

/** Public PEMs beside the Secret, for reading; before a CA is plugged in, the root that is trusted today. */
function readableFiles(props: IstioPhaseProps): Record<string, string> {
  if (props.state.source === 'plugged') return publicFiles(props)
  return { 'root-cert.pem': joinPem(...props.state.bundle.map(props.certificate)) }
}

/** Each Component's kustomization. A patch always has a target: one without it breaks the owner's build where nothing matches. */
function addComponents(files: Map<string, string>, props: IstioPhaseProps): void {
  const component = (folder: string, patches: unknown[]) =>
    files.set(
      `components/${folder}/kustomization.yaml`,
      yamlText({ apiVersion: 'kustomize.config.k8s.io/v1alpha1', kind: 'Component', patches }),
    )
  const patches: unknown[] = []
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
  if (patches.length > 0) component('istiod', patches)
  for (const [index, kinds] of (props.workloads ?? []).entries()) {
    const folder = index === 0 ? 'workloads' : `workloads-${index + 1}`
    component(folder, [{ path: 'patch.yaml', target: { kind: kinds.join('|') } }])
  }
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
