import { createHash } from 'node:crypto'
import { globalAnchors } from '../../systems/linkerd/linkerd-config.ts'
import { anchorsVariable } from '../../systems/linkerd/manifests.ts'
import { listAt, type Manifest, recordAt } from '../objects.ts'
import type { Site } from '../site.ts'
import { controlPlaneNamespace, proxyContainer, trustDomain } from './names.ts'
import type { LinkerdPlane } from './plane.ts'
import type { Webhook } from './webhook.ts'

/**
 * The proxy injector: at each admission it reads its mounted bundle and writes it into the new pod as a literal. Its mount lags the ConfigMap by the
 * kubelet's sync, so a pod that is made right after a change keeps the old anchors for good (linkerd2 controller/proxy-injector/webhook.go).
 *
 * The API server asks it by a TLS of its own (Webhook). Pods without a webhook that it reaches are refused, as `webhookFailurePolicy: Fail` of HA
 * installs has it.
 */
export class Injector {
  readonly #site: Site
  readonly #plane: LinkerdPlane
  readonly #webhook: Webhook
  #asked = 0

  constructor(site: Site, plane: LinkerdPlane, webhook: Webhook) {
    this.#site = site
    this.#plane = plane
    this.#webhook = webhook
    site.handshakes.addControls(() => plane.injectors.flatMap(replica => webhook.link(replica) ?? []))
  }

  /** False: refused, its controller tries again. */
  async admit(pod: Manifest): Promise<boolean> {
    if (!this.#concerns(pod)) return true
    const replicas = this.#plane.injectors
    this.#asked += 1
    const chosen =
      replicas[this.#site.random.fork(`inject/${this.#asked}`).between(0, Math.max(0, replicas.length - 1))]
    const link = chosen === undefined ? null : this.#webhook.link(chosen)
    if (chosen === undefined || link === null || !(await this.#site.handshakes.control(link))) return false
    const { roots, global } = chosen.mountedAnchors
    inject(pod, roots ?? globalAnchors(global ?? ''))
    return true
  }

  #concerns(pod: Manifest): boolean {
    const { namespace = '', annotations = {} } = pod.metadata
    if (namespace === controlPlaneNamespace || namespace === 'kube-system') return false
    // A pod that has a proxy already is left as it is (`sidecar_already_exists`).
    if (proxyContainer(pod) !== null) return false
    const own = annotations['linkerd.io/inject']
    if (own !== undefined) return own === 'enabled' || own === 'ingress'
    const around = this.#site.store.get('', 'Namespace', null, namespace)
    return around?.metadata.annotations?.['linkerd.io/inject'] === 'enabled'
  }
}

function inject(pod: Manifest, anchors: string): void {
  const spec = recordAt(pod, 'spec')
  spec.containers = [...listAt(spec, 'containers').map(each => structuredClone(each)), proxySpec(anchors)]
  pod.metadata.labels = {
    ...pod.metadata.labels,
    'linkerd.io/control-plane-ns': controlPlaneNamespace,
    'linkerd.io/workload-ns': pod.metadata.namespace ?? '',
  }
  pod.metadata.annotations = {
    ...pod.metadata.annotations,
    'linkerd.io/created-by': 'linkerd/proxy-injector stable',
    'linkerd.io/trust-root-sha256': createHash('sha256').update(anchors).digest('hex'),
  }
}

/** The container as the injector writes it, with the anchors as a literal. */
function proxySpec(anchors: string): unknown {
  return {
    name: 'linkerd-proxy',
    image: 'cr.l5d.io/linkerd/proxy:stable-2.14.10',
    env: [
      { name: '_pod_ns', valueFrom: { fieldRef: { fieldPath: 'metadata.namespace' } } },
      { name: '_pod_sa', valueFrom: { fieldRef: { fieldPath: 'spec.serviceAccountName' } } },
      { name: anchorsVariable, value: anchors },
      {
        name: 'LINKERD2_PROXY_IDENTITY_LOCAL_NAME',
        value: `$(_pod_sa).$(_pod_ns).serviceaccount.identity.${controlPlaneNamespace}.${trustDomain}`,
      },
    ],
    ports: [
      { containerPort: 4143, name: 'linkerd-proxy' },
      { containerPort: 4191, name: 'linkerd-admin' },
    ],
  }
}
