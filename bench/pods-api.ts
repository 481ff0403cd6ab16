import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

/** An API server that has pods with a proxy and nothing else: each page is written when it is asked for. */
export async function startPodsApi(count: number): Promise<{ readonly kubeconfig: string; close(): void }> {
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://localhost')
    response.setHeader('Content-Type', 'application/json')
    if (url.pathname === '/api/v1/namespaces/kube-system') {
      response.end('{"metadata":{"name":"kube-system","uid":"bench"}}')
      return
    }
    if (url.pathname !== '/api/v1/pods') {
      response.statusCode = 404
      response.end('{}')
      return
    }
    const from = Number(url.searchParams.get('continue') ?? '0')
    const until = Math.min(count, from + Number(url.searchParams.get('limit') ?? String(count)))
    const items = Array.from({ length: until - from }, (_, index) => podText(from + index))
    const token = until < count ? String(until) : ''
    response.end(`{"kind":"PodList","metadata":{"continue":"${token}"},"items":[${items.join(',')}]}`)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return { kubeconfig: kubeconfigText(port), close: () => server.close() }
}

/** Of an API server on this machine that answers over plain HTTP. */
export function kubeconfigText(port: number): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'bench',
    clusters: [{ name: 'bench', cluster: { server: `http://127.0.0.1:${port}`, 'insecure-skip-tls-verify': true } }],
    users: [{ name: 'bench', user: {} }],
    contexts: [{ name: 'bench', context: { cluster: 'bench', user: 'bench' } }],
  })
}

/** Pods of one ReplicaSet. */
const perOwner = 100

function podText(index: number): string {
  const owner = Math.floor(index / perOwner)
  const uid = `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`
  const name = `cart-${owner}-7c9d8f6b5d-${index.toString(36).padStart(5, '0')}`
  return template
    .replaceAll('@owner', `cart-${owner}`)
    .replaceAll('@namespace', `shop-${owner % 50}`)
    .replaceAll('@name', name)
    .replaceAll('@uid', uid)
}

/** As long as the JSON of an injected pod that a cluster serves, managedFields included: about 10 KB. */
const template = JSON.stringify({
  metadata: {
    name: '@name',
    namespace: '@namespace',
    uid: '@uid',
    creationTimestamp: '2026-11-22T06:00:00Z',
    labels: { app: '@owner', 'pod-template-hash': '7c9d8f6b5d', 'security.istio.io/tlsMode': 'istio' },
    annotations: { 'istio.io/rev': 'default', 'sidecar.istio.io/status': 'x'.repeat(300) },
    ownerReferences: [
      { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: '@owner-7c9d8f6b5d', uid: '@uid', controller: true },
    ],
    managedFields: Array.from({ length: 2 }, (_, number) => ({
      manager: `manager-${number}`,
      operation: 'Update',
      time: '2026-11-22T06:00:00Z',
      fieldsV1: Object.fromEntries(
        Array.from({ length: 60 }, (_, field) => [`f:field-${number}-${field}`, { '.': {}, 'f:value': {} }]),
      ),
    })),
  },
  spec: {
    containers: ['app', 'istio-proxy'].map(name => ({
      name,
      image: 'example.com/image:1',
      env: [
        ...Array.from({ length: 20 }, (_, number) => ({
          name: `VARIABLE_${number}`,
          value: `value ${number} of @owner`,
        })),
        { name: 'PROXY_CONFIG_XDS_AGENT', value: 'true' },
      ],
      volumeMounts: Array.from({ length: 9 }, (_, number) => ({
        name: `volume-${number}`,
        mountPath: `/var/run/${number}`,
      })),
    })),
    volumes: Array.from({ length: 9 }, (_, number) => ({ name: `volume-${number}`, emptyDir: {} })),
  },
  status: {
    phase: 'Running',
    startTime: '2026-11-22T06:00:00Z',
    conditions: Array.from({ length: 5 }, (_, number) => ({
      type: `Type${number}`,
      status: 'True',
      lastTransitionTime: '2026-11-22T06:00:00Z',
    })),
    containerStatuses: ['app', 'istio-proxy'].map(name => ({
      name,
      ready: true,
      containerID: '@uid',
      state: { running: { startedAt: '2026-11-22T06:00:00Z' } },
    })),
  },
})
