import { injectorWebhook } from '../../systems/linkerd/webhooks.ts'
import { companyRoot, issueLeaf } from '../certificates.ts'
import type { ControlLink } from '../handshakes.ts'
import { at } from '../objects.ts'
import type { Site } from '../site.ts'
import { Endpoint, loadMaterial } from '../workload-tls.ts'
import { controlPlaneNamespace } from './names.ts'
import type { LinkerdPod } from './proxy.ts'

/** Where the injector answers. */
export const webhookPort = 8443
const service = 'linkerd-proxy-injector'
const serverName = `${service}.${controlPlaneNamespace}.svc`
const years = 10 * 365 * 24

/**
 * TLS between the API server and the injector: a CA that the chart made when it was installed, which a rotation of the mesh does not touch (linkerd2
 * charts/linkerd-control-plane/templates/proxy-injector-rbac.yaml).
 */
export class Webhook {
  readonly #site: Site
  readonly #material: { readonly chain: string; readonly key: string; readonly roots: string }

  constructor(site: Site) {
    this.#site = site
    const life = site.life(years)
    const ca = companyRoot(serverName, life)
    const leaf = issueLeaf(ca, { dns: [serverName], life })
    this.#material = { chain: leaf.certificate, key: leaf.key, roots: ca.certificate }
  }

  /** The chart's object, as `linkerd install` applied it. */
  install(): void {
    this.#site.store.put(
      {
        apiVersion: 'admissionregistration.k8s.io/v1',
        kind: 'MutatingWebhookConfiguration',
        metadata: { name: injectorWebhook.name, labels: { 'linkerd.io/control-plane-component': 'proxy-injector' } },
        webhooks: [
          {
            name: 'linkerd-proxy-injector.linkerd.io',
            failurePolicy: 'Fail',
            clientConfig: {
              service: { name: service, namespace: controlPlaneNamespace, path: '/' },
              caBundle: Buffer.from(this.#material.roots).toString('base64'),
            },
          },
        ],
      },
      'kubectl-create',
    )
  }

  async serve(): Promise<Endpoint> {
    return await Endpoint.listen(loadMaterial(this.#material), 'ifGiven')
  }

  /** The API server's way to one replica, by the caBundle as it is now; null: that replica serves nothing, or nobody asks. */
  link(replica: LinkerdPod): ControlLink | null {
    const endpoint = replica.endpointAt(webhookPort)
    const group = 'admissionregistration.k8s.io'
    const configuration = this.#site.store.get(group, 'MutatingWebhookConfiguration', null, injectorWebhook.name)
    const bundle = at(configuration, 'webhooks', 0, 'clientConfig', 'caBundle')
    if (endpoint === null || typeof bundle !== 'string') return null
    const roots = Buffer.from(bundle, 'base64').toString('utf8')
    const client = `${this.#site.name}/kube-apiserver`
    return { link: 'webhook', client, server: replica.id, endpoint, roots, serverName }
  }
}
