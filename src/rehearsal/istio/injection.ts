import { parse } from 'yaml'
import { isRecord, listAt, type Manifest, recordAt, textAt, textsAt } from '../objects.ts'
import { podKey, type Site } from '../site.ts'
import { rootVolume } from './agent.ts'
import { type ControlPlane, caBundleOf, rootConfigMap } from './istiod.ts'
import { istioNamespace } from './names.ts'

/**
 * The sidecar injector. A pod gets what the injector knows when the pod is created, and keeps it: a pod that is re-created
 * before the injector has the new settings keeps the old ones for good.
 */
export class Injector {
  readonly #site: Site
  readonly #plane: ControlPlane
  /** meshConfig.defaultConfig.proxyMetadata as istiod has read it. */
  #proxyMetadata: Record<string, string> = {}
  #asked = 0

  constructor(site: Site, plane: ControlPlane) {
    this.#site = site
    this.#plane = plane
    site.store.onChange(change => {
      const { kind, metadata } = change.object
      if (kind === 'ConfigMap' && metadata.namespace === istioNamespace && metadata.name === 'istio') {
        const lag = site.random.fork(`injector/${site.clock.elapsed()}`).between(300, 1_500)
        site.clock.after(lag, () => this.#read())
      }
      if (kind.endsWith('WebhookConfiguration')) site.handshakes.controlChanged()
    })
    site.handshakes.addControls(() => this.#links())
  }

  /** True where the webhook would be asked for this pod. */
  concerns(pod: Manifest): boolean {
    const { labels = {}, annotations = {} } = pod.metadata
    const asked = labels['sidecar.istio.io/inject'] ?? annotations['sidecar.istio.io/inject']
    if (asked !== undefined) return asked === 'true'
    const namespace = this.#site.store.get('', 'Namespace', null, pod.metadata.namespace ?? '')
    if (namespace?.metadata.labels?.['istio.io/dataplane-mode'] === 'ambient') return false
    return (
      namespace?.metadata.labels?.['istio-injection'] === 'enabled' ||
      namespace?.metadata.labels?.['istio.io/rev'] !== undefined
    )
  }

  /** Changes the pod as the webhook would; false where the API server could not reach or verify it (failurePolicy: Fail). */
  async inject(pod: Manifest): Promise<boolean> {
    const replicas = this.#plane.serving
    this.#asked += 1
    if (replicas.length === 0) return false
    const chosen = replicas[this.#site.random.fork(`webhook/${this.#asked}`).between(0, replicas.length - 1)]!
    const link = this.#links().find(entry => entry.server === `${this.#site.name}/${podKey(chosen.pod)}`)
    if (link === undefined || !(await this.#site.handshakes.control(link))) return false
    addSidecar(pod, this.#proxyMetadata, this.#site)
    return true
  }

  #read(): void {
    const map = this.#site.store.get('', 'ConfigMap', istioNamespace, 'istio')
    const mesh: unknown = parse(textAt(map, 'data', 'mesh') ?? '{}')
    this.#proxyMetadata = textsAt(mesh, 'defaultConfig', 'proxyMetadata')
  }

  #links(): {
    link: 'webhook'
    client: string
    server: string
    endpoint: NonNullable<ControlPlane['serving'][number]['endpoint']>
    roots: string
    serverName: string
  }[] {
    const configuration = this.#site.store.get(
      'admissionregistration.k8s.io',
      'MutatingWebhookConfiguration',
      null,
      webhookName,
    )
    const roots = caBundleOf(configuration)
    if (roots === null) return []
    return this.#plane.serving.flatMap(replica =>
      replica.endpoint === null
        ? []
        : [
            {
              link: 'webhook' as const,
              client: `${this.#site.name}/kube-apiserver`,
              server: `${this.#site.name}/${podKey(replica.pod)}`,
              endpoint: replica.endpoint,
              roots,
              serverName: `istiod.${istioNamespace}.svc`,
            },
          ],
    )
  }
}

export const webhookName = 'istio-sidecar-injector'

function addSidecar(pod: Manifest, proxyMetadata: Record<string, string>, site: Site): void {
  const own: unknown = parse(pod.metadata.annotations?.['proxy.istio.io/config'] ?? '{}')
  const metadata = { ...proxyMetadata, ...textsAt(own, 'proxyMetadata') }
  const gateway = pod.metadata.annotations?.['inject.istio.io/templates'] === 'gateway'
  const spec = recordAt(pod, 'spec')
  const { labels = {} } = pod.metadata
  const proxy = {
    name: 'istio-proxy',
    image: gateway ? 'auto' : 'docker.io/istio/proxyv2:1.29.0',
    args: ['proxy', gateway ? 'router' : 'sidecar', '--domain', `${pod.metadata.namespace}.svc.cluster.local`],
    env: [
      { name: 'PILOT_CERT_PROVIDER', value: 'istiod' },
      { name: 'CA_ADDR', value: `istiod.${istioNamespace}.svc:15012` },
      { name: 'TRUST_DOMAIN', value: site.trustDomain },
      { name: 'ISTIO_META_CLUSTER_ID', value: 'Kubernetes' },
      ...Object.entries(metadata).map(([name, value]) => ({ name, value })),
    ],
    ports: [{ containerPort: 15090, name: 'http-envoy-prom', protocol: 'TCP' }],
  }
  // A gateway's Deployment has a container of that name already; the template completes it.
  spec.containers = [
    ...listAt(spec, 'containers')
      .filter(container => textAt(container, 'name') !== 'istio-proxy')
      .map(container => structuredClone(container)),
    proxy,
  ]
  spec.volumes = [
    ...listAt(spec, 'volumes'),
    { name: rootVolume, configMap: { name: rootConfigMap, defaultMode: 420 } },
  ]
  pod.metadata.labels = {
    ...labels,
    'security.istio.io/tlsMode': 'istio',
    'service.istio.io/canonical-name':
      labels['service.istio.io/canonical-name'] ?? labels['app.kubernetes.io/name'] ?? labels.app ?? pod.metadata.name,
    'service.istio.io/canonical-revision': 'latest',
    ...(gateway ? { 'istio.io/rev': 'default' } : {}),
  }
  pod.metadata.annotations = {
    ...pod.metadata.annotations,
    'istio.io/rev': 'default',
    'sidecar.istio.io/status': JSON.stringify({
      initContainers: gateway ? [] : ['istio-init'],
      containers: ['istio-proxy'],
      volumes: [rootVolume],
      imagePullSecrets: null,
      revision: 'default',
    }),
  }
  if (isRecord(spec.initContainers) || gateway) return
  spec.initContainers = [
    ...listAt(spec, 'initContainers'),
    { name: 'istio-init', image: 'docker.io/istio/proxyv2:1.29.0' },
  ]
}
