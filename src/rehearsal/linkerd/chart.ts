import { createHash } from 'node:crypto'
import { parseAllDocuments, stringify } from 'yaml'
import { controlPlaneCharts } from '../../systems/linkerd/linkerd-chart.ts'
import { HelmController } from '../helm-controller.ts'
import { at, type Fields, type Manifest, recordAt, type StoredObject, textAt, textsAt } from '../objects.ts'
import type { Site } from '../site.ts'
import { controlPlaneManifests } from './fleet.ts'

const manager = 'helm-controller'

/** helm-controller with linkerd-control-plane of 2.14, as far as a rotation reads what it makes (linkerd2 charts/linkerd-control-plane/templates). */
export function linkerdCharts(site: Site): HelmController {
  return new HelmController(site, {
    version: '1.16.11',
    is: object => object.kind === 'HelmRelease' && controlPlaneCharts.has(chartOf(object)),
    install: (values, namespace) => install(site, values, namespace),
  })
}

function chartOf(object: StoredObject): string {
  return textAt(object, 'spec', 'chart', 'spec', 'chart') ?? ''
}

/** ConfigMaps and Secrets come before Deployments, as Helm orders them. */
function install(site: Site, values: Fields, namespace: string): void {
  const anchors = textAt(values, 'identityTrustAnchorsPEM') ?? ''
  const external = at(values, 'identity', 'externalCA') === true
  const apply = (kind: string, name: string, data: Readonly<Record<string, string>>): void => {
    const annotations = { 'meta.helm.sh/release-name': 'linkerd-control-plane' }
    site.store.apply({ apiVersion: 'v1', kind, metadata: { name, namespace, annotations }, data }, manager)
  }
  if ((textAt(values, 'identity', 'issuer', 'scheme') ?? 'linkerd.io/tls') === 'linkerd.io/tls') {
    const encoded = (key: string): string => {
      const pem = textAt(values, 'identity', 'issuer', 'tls', key)
      if (pem === undefined) throw new Error(`Please provide the identity issuer: identity.issuer.tls.${key}`)
      return Buffer.from(pem.trim()).toString('base64')
    }
    apply('Secret', 'linkerd-identity-issuer', { 'crt.pem': encoded('crtPEM'), 'key.pem': encoded('keyPEM') })
  }
  if (!external) apply('ConfigMap', 'linkerd-identity-trust-roots', { 'ca-bundle.crt': `${anchors.trim()}\n` })
  apply('ConfigMap', 'linkerd-config', { values: stringify(withoutKey(values)) })
  // The hash is of the value as it was given, untrimmed (charts/partials/templates/_metadata.tpl).
  const hash = createHash('sha256').update(anchors).digest('hex')
  for (const manifest of controlPlane()) {
    const template = recordAt(manifest, 'spec', 'template', 'metadata')
    if (manifest.kind === 'Deployment')
      template.annotations = { 'linkerd.io/trust-root-sha256': hash, ...textsAt(values, 'podAnnotations') }
    site.store.apply({ ...manifest, metadata: { ...manifest.metadata, namespace } }, manager)
  }
}

/** The chart takes it out of what everyone may read (templates/config.yaml). */
function withoutKey(values: Fields): Fields {
  const copy = structuredClone(values)
  delete recordAt(copy, 'identity', 'issuer', 'tls').keyPEM
  return copy
}

function controlPlane(): readonly Manifest[] {
  return parseAllDocuments(controlPlaneManifests({ flow: 'trust-roots', root: '' })).map(
    each => each.toJS() as Manifest,
  )
}
