import { createHash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { createServer, type Server as HttpServer } from 'node:http'
import { type Agent, get } from 'node:https'
import { type AddressInfo, createServer as createTcpServer, type Server as NetServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import { envoy } from './components.ts'
import { openConnection } from './connection.ts'
import type { ControlPlane } from './control-plane.ts'
import type { Manifest } from './objects.ts'
import { freePort, until } from './server.ts'

/** A mesh of many pods that exist in the API alone: they look injected, run on nodes of kwok, and say nothing unless they are made to. */
export interface Crowd {
  /** namespace/name of every sidecar's pod. */
  readonly names: readonly string[]
  readonly seconds: number
}

export interface CrowdOptions {
  readonly pods: number
  /** Pods of one ReplicaSet. @default 250 */
  readonly perOwner?: number
  /** @default 8 */
  readonly namespaces?: number
  /** Environment of every istio-proxy. */
  readonly environment?: Readonly<Record<string, string>>
}

const nodes = 20
const hash = '7c9d8f6b5d'
const proxyImage = 'docker.io/istio/proxyv2:1.29.0'

/** The kwok nodes `crowd-0` and on. kwok gives each a capacity of a million pods. */
export async function addNodes(plane: ControlPlane): Promise<void> {
  for (let node = 0; node < nodes; node += 1) {
    await plane.objects.apply({
      apiVersion: 'v1',
      kind: 'Node',
      metadata: {
        name: `crowd-${node}`,
        labels: { 'kubernetes.io/os': 'linux', 'kubernetes.io/hostname': `crowd-${node}`, type: 'kwok' },
        annotations: { 'kwok.x-k8s.io/node': 'fake' },
      },
    })
  }
  await until('the nodes of kwok are ready', async () => {
    const found = await plane.objects.list('v1', 'Node')
    return found.filter(node => isReady(node)).length >= nodes
  })
}

function isReady(node: Manifest): boolean {
  const { conditions } = (node.status ?? {}) as { conditions?: readonly { type: string; status: string }[] }
  return conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') === true
}

/** Makes the pods, bound to their nodes already, and returns when every one of them runs. */
export async function addCrowd(plane: ControlPlane, options: CrowdOptions): Promise<Crowd> {
  const { pods, perOwner = 250, namespaces = 8, environment = {} } = options
  const began = Date.now()
  const connection = await openConnection(plane.kubeconfig)
  try {
    const owners: { readonly namespace: string; readonly name: string; readonly uid: string }[] = []
    for (let number = 0; number < namespaces; number += 1) {
      const name = `shop-${number}`
      await connection.send('POST', '/api/v1/namespaces', {
        metadata: { name, labels: { 'istio-injection': 'enabled' } },
      })
      await until('the ServiceAccount', () =>
        plane.objects.get({ apiVersion: 'v1', kind: 'ServiceAccount', namespace: name, name: 'default' }),
      )
    }
    for (let number = 0; number < Math.ceil(pods / perOwner); number += 1) {
      owners.push(await addOwner(plane, `shop-${number % namespaces}`, `cart-${number}-${hash}`))
    }
    const names: string[] = []
    const work = Array.from({ length: pods }, (_, index) => index)
    async function worker(): Promise<void> {
      for (let index = work.pop(); index !== undefined; index = work.pop()) {
        const owner = owners[index % owners.length]
        if (owner === undefined) return
        const name = `${owner.name}-${suffix(index)}`
        const pod = injectedPod(name, owner, `crowd-${index % nodes}`, environment)
        const path = `/api/v1/namespaces/${owner.namespace}/pods`
        await connection.send('POST', path, pod)
        await connection.patch(`${path}/${name}/status`, { status: runningStatus(index) })
        names[index] = `${owner.namespace}/${name}`
      }
    }
    await Promise.all(Array.from({ length: 16 }, worker))
    await until(
      'every pod runs',
      async () => {
        const waiting = (await connection.send('GET', '/api/v1/pods?limit=1&fieldSelector=status.phase!=Running')) as {
          readonly items: readonly unknown[]
        }
        return waiting.items.length === 0
      },
      900_000,
      2000,
    )
    return { names, seconds: (Date.now() - began) / 1000 }
  } finally {
    connection.close()
  }
}

/** What kwok's own stage `pod-ready` would write: for ten thousand pods it takes several minutes to get round. A pod with an address it leaves alone. */
function runningStatus(index: number): object {
  const now = new Date().toISOString().replace(/\.\d+Z$/, 'Z')
  const state = { running: { startedAt: now } }
  const container = (name: string, image: string) => ({ name, image, imageID: '', ready: true, restartCount: 0, state })
  const done = { terminated: { exitCode: 0, reason: 'Completed', startedAt: now, finishedAt: now } }
  return {
    phase: 'Running',
    startTime: now,
    hostIP: '127.0.0.1',
    podIP: `10.98.${Math.floor(index / 250)}.${1 + (index % 250)}`,
    conditions: ['Initialized', 'ContainersReady', 'Ready'].map(type => ({
      type,
      status: 'True',
      lastTransitionTime: now,
    })),
    containerStatuses: [container('app', 'shop/cart:1.4.2'), container('istio-proxy', proxyImage)],
    initContainerStatuses: [{ ...container('istio-init', proxyImage), state: done }],
  }
}

/** Five characters, as a ReplicaSet's pods have. */
function suffix(index: number): string {
  const digest = createHash('sha256').update(String(index)).digest()
  return [...digest.subarray(0, 5)].map(byte => 'bcdfghjklmnpqrstvwxz2456789'[byte % 27]).join('')
}

/**
 * A ReplicaSet that leaves its pods alone: one that is being deleted and held by a finalizer is not managed any more. The real controller would
 * make ten thousand pods at the twenty requests a second that it allows itself.
 */
async function addOwner(plane: ControlPlane, namespace: string, name: string) {
  const labels = { app: name.replace(`-${hash}`, ''), 'pod-template-hash': hash }
  const made = await plane.objects.apply({
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: { name, namespace, labels, finalizers: ['rig.example/held'] },
    spec: {
      replicas: 0,
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { containers: [{ name: 'app', image: 'shop/cart' }] } },
    },
  })
  await plane.objects.delete({ apiVersion: 'apps/v1', kind: 'ReplicaSet', namespace, name })
  return { namespace, name, uid: String(made.metadata.uid) }
}

/** As large as what istiod's injector makes of a small application (1.2x templates): ports, probes, environment and volumes of the proxy. */
function injectedPod(
  name: string,
  owner: { readonly namespace: string; readonly name: string; readonly uid: string },
  node: string,
  environment: Readonly<Record<string, string>>,
): object {
  const app = owner.name.replace(`-${hash}`, '')
  const field = (variable: string, fieldPath: string) => ({ name: variable, valueFrom: { fieldRef: { fieldPath } } })
  const value = (variable: string, text: string) => ({ name: variable, value: text })
  const mount = (volume: string, mountPath: string, readOnly = false) => ({ name: volume, mountPath, readOnly })
  return {
    metadata: {
      name,
      namespace: owner.namespace,
      labels: {
        app,
        'pod-template-hash': hash,
        'security.istio.io/tlsMode': 'istio',
        'service.istio.io/canonical-name': app,
        'service.istio.io/canonical-revision': 'latest',
      },
      annotations: {
        'istio.io/rev': 'default',
        'kubectl.kubernetes.io/default-container': 'app',
        'prometheus.io/path': '/stats/prometheus',
        'prometheus.io/port': '15020',
        'prometheus.io/scrape': 'true',
        'sidecar.istio.io/status': JSON.stringify({
          initContainers: ['istio-init'],
          containers: ['istio-proxy'],
          volumes: [
            'workload-socket',
            'credential-socket',
            'workload-certs',
            'istio-envoy',
            'istio-data',
            'istio-podinfo',
            'istio-token',
            'istiod-ca-cert',
          ],
          imagePullSecrets: null,
          revision: 'default',
        }),
      },
      ownerReferences: [
        {
          apiVersion: 'apps/v1',
          kind: 'ReplicaSet',
          name: owner.name,
          uid: owner.uid,
          controller: true,
          blockOwnerDeletion: true,
        },
      ],
    },
    spec: {
      nodeName: node,
      initContainers: [
        {
          name: 'istio-init',
          image: proxyImage,
          args: [
            'istio-iptables',
            '-p',
            '15001',
            '-z',
            '15006',
            '-u',
            '1337',
            '-m',
            'REDIRECT',
            '-i',
            '*',
            '-x',
            '',
            '-b',
            '*',
            '-d',
            '15090,15021,15020',
          ],
        },
      ],
      containers: [
        {
          name: 'app',
          image: 'shop/cart:1.4.2',
          ports: [{ name: 'http', containerPort: 8080 }],
          env: [value('LOG_LEVEL', 'info')],
        },
        {
          name: 'istio-proxy',
          image: proxyImage,
          args: [
            'proxy',
            'sidecar',
            '--domain',
            '$(POD_NAMESPACE).svc.cluster.local',
            '--proxyLogLevel=warning',
            '--proxyComponentLogLevel=misc:error',
            '--log_output_level=default:info',
          ],
          ports: [{ name: 'http-envoy-prom', containerPort: 15090, protocol: 'TCP' }],
          env: [
            value('PILOT_CERT_PROVIDER', 'istiod'),
            value('CA_ADDR', 'istiod.istio-system.svc:15012'),
            field('POD_NAME', 'metadata.name'),
            field('POD_NAMESPACE', 'metadata.namespace'),
            field('INSTANCE_IP', 'status.podIP'),
            field('SERVICE_ACCOUNT', 'spec.serviceAccountName'),
            field('HOST_IP', 'status.hostIP'),
            value('PROXY_CONFIG', '{"proxyMetadata":{"PROXY_CONFIG_XDS_AGENT":"true"}}\n'),
            value('ISTIO_META_POD_PORTS', '[\n    {"name":"http","containerPort":8080}\n]'),
            value('ISTIO_META_APP_CONTAINERS', 'app'),
            value('ISTIO_META_CLUSTER_ID', 'Kubernetes'),
            value('ISTIO_META_INTERCEPTION_MODE', 'REDIRECT'),
            value('ISTIO_META_WORKLOAD_NAME', app),
            value('ISTIO_META_OWNER', `kubernetes://apis/apps/v1/namespaces/${owner.namespace}/deployments/${app}`),
            value('ISTIO_META_MESH_ID', 'cluster.local'),
            value('TRUST_DOMAIN', 'cluster.local'),
            ...Object.entries(environment).map(([key, text]) => value(key, text)),
          ],
          readinessProbe: {
            httpGet: { path: '/healthz/ready', port: 15021 },
            periodSeconds: 15,
            timeoutSeconds: 3,
            failureThreshold: 4,
          },
          startupProbe: { httpGet: { path: '/healthz/ready', port: 15021 }, periodSeconds: 1, failureThreshold: 600 },
          resources: { limits: { cpu: '2', memory: '1Gi' }, requests: { cpu: '1m', memory: '1Mi' } },
          securityContext: {
            allowPrivilegeEscalation: false,
            capabilities: { drop: ['ALL'] },
            privileged: false,
            readOnlyRootFilesystem: true,
            runAsGroup: 1337,
            runAsNonRoot: true,
            runAsUser: 1337,
          },
          volumeMounts: [
            mount('workload-socket', '/var/run/secrets/workload-spiffe-uds'),
            mount('credential-socket', '/var/run/secrets/credential-uds'),
            mount('workload-certs', '/var/run/secrets/workload-spiffe-credentials'),
            mount('istiod-ca-cert', '/var/run/secrets/istio'),
            mount('istio-data', '/var/lib/istio/data'),
            mount('istio-envoy', '/etc/istio/proxy'),
            mount('istio-token', '/var/run/secrets/tokens'),
            mount('istio-podinfo', '/etc/istio/pod'),
          ],
        },
      ],
      volumes: [
        { name: 'workload-socket', emptyDir: {} },
        { name: 'credential-socket', emptyDir: {} },
        { name: 'workload-certs', emptyDir: {} },
        { name: 'istio-envoy', emptyDir: { medium: 'Memory' } },
        { name: 'istio-data', emptyDir: {} },
        {
          name: 'istio-podinfo',
          downwardAPI: {
            items: [
              { path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } },
              { path: 'annotations', fieldRef: { fieldPath: 'metadata.annotations' } },
            ],
          },
        },
        {
          name: 'istio-token',
          projected: {
            sources: [{ serviceAccountToken: { audience: 'istio-ca', expirationSeconds: 43200, path: 'istio-token' } }],
          },
        },
        { name: 'istiod-ca-cert', configMap: { name: 'istio-ca-root-cert' } },
      ],
    },
  }
}

/** Port-forwards to the proxies of some pods of the crowd end at one server. Those of pods without any are refused by kwok. */
export async function answerFor(
  plane: ControlPlane,
  title: string,
  names: readonly string[],
  port: number,
): Promise<void> {
  await plane.objects.apply({
    apiVersion: 'kwok.x-k8s.io/v1alpha1',
    kind: 'ClusterPortForward',
    metadata: { name: title },
    spec: {
      selector: {
        matchNamespaces: [...new Set(names.map(name => name.split('/')[0] ?? ''))],
        matchNames: names.map(name => name.split('/')[1] ?? ''),
      },
      forwards: [{ ports: [15000], target: { address: '127.0.0.1', port } }],
    },
  })
}

/** A server that takes every connection and never says anything, as a forward into a hanging network does. */
export async function startSilence(): Promise<{ readonly port: number; close(): Promise<void> }> {
  const sockets = new Set<Socket>()
  const server = createTcpServer(socket => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
  })
  const port = await listening(server)
  return {
    port,
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise(resolve => server.close(resolve))
    },
  }
}

export interface ProxySecrets {
  /** PEM of the bundle. */
  readonly roots: string
  /** PEM, leaf first. */
  readonly chain: string
  readonly key: string
}

/** A real Envoy that holds `default` and `ROOTCA` from secret discovery, as a sidecar's does. Returns its admin port. */
export async function startEnvoy(plane: ControlPlane, secrets: ProxySecrets): Promise<number> {
  const port = await freePort()
  const type = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3'
  const bytes = (text: string) => ({ inline_bytes: Buffer.from(text).toString('base64') })
  async function secret(name: string, content: object): Promise<object> {
    const path = join(plane.folder, `sds-${name}.json`)
    await writeFile(path, JSON.stringify({ resources: [{ '@type': `${type}.Secret`, name, ...content }] }), {
      mode: 0o600,
    })
    return { name, sds_config: { path_config_source: { path }, resource_api_version: 'V3' } }
  }
  const own = { certificate_chain: bytes(secrets.chain), private_key: bytes(secrets.key) }
  const bootstrap = {
    node: { id: 'sidecar~10.0.0.1~crowd.shop~shop.svc.cluster.local', cluster: 'crowd' },
    admin: { address: { socket_address: { address: '127.0.0.1', port_value: port } } },
    static_resources: {
      clusters: [
        {
          name: 'outbound',
          type: 'STATIC',
          connect_timeout: '1s',
          load_assignment: { cluster_name: 'outbound' },
          transport_socket: {
            name: 'envoy.transport_sockets.tls',
            typed_config: {
              '@type': `${type}.UpstreamTlsContext`,
              common_tls_context: {
                tls_certificate_sds_secret_configs: [await secret('default', { tls_certificate: own })],
                validation_context_sds_secret_config: await secret('ROOTCA', {
                  validation_context: { trusted_ca: bytes(secrets.roots) },
                }),
              },
            },
          },
        },
      ],
    },
  }
  const file = join(plane.folder, 'envoy.json')
  await writeFile(file, JSON.stringify(bootstrap), { mode: 0o600 })
  plane.run('envoy', [
    await envoy(),
    '-c',
    file,
    '--concurrency',
    '1',
    '--use-dynamic-base-id',
    '--log-level',
    'warning',
  ])
  await until('Envoy answers', async () => (await fetch(`http://127.0.0.1:${port}/ready`)).ok)
  return port
}

/** Stands in for istiod: the chain that it serves on 15012, and /debug/syncz on 15014 with every proxy connected and subscribed. */
export async function standInForIstiod(
  plane: ControlPlane,
  serves: {
    readonly chain: string
    readonly key: string
    readonly environment: Readonly<Record<string, string>>
    readonly annotations: Readonly<Record<string, string>>
  },
  proxies: readonly string[],
): Promise<() => Promise<void>> {
  const syncz = JSON.stringify(
    proxies.map(name => {
      const [namespace, pod] = name.split('/')
      const acked = { sent: 'CAoSABoA', acked: 'CAoSABoA' }
      const resources = [
        'cluster.v3.Cluster',
        'listener.v3.Listener',
        'endpoint.v3.ClusterLoadAssignment',
        'route.v3.RouteConfiguration',
      ]
      return {
        cluster_id: 'Kubernetes',
        proxy: `${pod}.${namespace}`,
        istio_version: '1.29.0',
        resources: Object.fromEntries([
          ...resources.map(name => [`type.googleapis.com/envoy.config.${name}`, acked]),
          ['type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig', acked],
        ]),
      }
    }),
  )
  const sockets = new Set<Socket>()
  const debug = createServer((request, response) => {
    if (request.url !== '/debug/syncz') response.statusCode = 404
    response.end(request.url === '/debug/syncz' ? syncz : '')
  })
  const secure = createTlsServer({ cert: serves.chain, key: serves.key, ALPNProtocols: ['h2'] }, socket =>
    socket.on('error', () => {}),
  )
  for (const server of [debug, secure]) server.on('connection', (socket: Socket) => sockets.add(socket))
  const ports = { debug: await listening(debug), secure: await listening(secure) }
  await plane.objects.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'istio-system' } })
  const place = { namespace: 'istio-system', name: 'istiod-5d7c9bb6f-crowd' }
  await until('the ServiceAccount', () =>
    plane.objects.get({ apiVersion: 'v1', kind: 'ServiceAccount', namespace: 'istio-system', name: 'default' }),
  )
  await plane.objects.apply({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { ...place, labels: { app: 'istiod' }, annotations: serves.annotations },
    spec: {
      nodeName: 'crowd-0',
      containers: [
        {
          name: 'discovery',
          image: 'docker.io/istio/pilot:1.29.0',
          env: Object.entries(serves.environment).map(([name, value]) => ({ name, value })),
        },
      ],
    },
  })
  await plane.objects.apply({
    apiVersion: 'kwok.x-k8s.io/v1alpha1',
    kind: 'PortForward',
    metadata: place,
    spec: {
      forwards: [
        { ports: [15014], target: { address: '127.0.0.1', port: ports.debug } },
        { ports: [15012], target: { address: '127.0.0.1', port: ports.secure } },
      ],
    },
  })
  await until(
    'the stand-in for istiod runs',
    async () => {
      const pod = await plane.objects.get({ apiVersion: 'v1', kind: 'Pod', ...place })
      return (pod?.status as { readonly phase?: string } | undefined)?.phase === 'Running'
    },
    300_000,
    1000,
  )
  return async () => {
    for (const socket of sockets) socket.destroy()
    await Promise.all([debug, secure].map(server => new Promise(resolve => server.close(resolve))))
  }
}

function listening(server: HttpServer | NetServer): Promise<number> {
  return new Promise(resolve => {
    server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port))
  })
}

/** What the API server says of itself: its counters by the text of their labels. */
export interface Metrics {
  /** Sum over all series of a name whose labels hold every given text, such as `verb="LIST"`. */
  sum(name: string, ...labels: readonly string[]): number
}

export async function readMetrics(plane: ControlPlane, agent: Agent): Promise<Metrics> {
  const text = await new Promise<string>((resolve, reject) => {
    const asked = get(`${plane.server}/metrics`, { agent }, response => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', reject)
      response.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')))
    })
    asked.on('error', reject)
  })
  const lines = text.split('\n')
  return {
    sum: (name, ...labels) =>
      lines
        .filter(line => line.startsWith(`${name}{`) && labels.every(label => line.includes(label)))
        .reduce((total, line) => total + Number(line.slice(line.lastIndexOf(' ') + 1)), 0),
  }
}
