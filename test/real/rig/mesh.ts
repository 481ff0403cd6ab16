import { stringify } from 'yaml'

export interface MeshWorkload {
  readonly name: string
  /** @default 1 */
  readonly replicas?: number
  /**
   * Whether its proxy takes pushed trust (PROXY_CONFIG_XDS_AGENT), by annotation of its own; left out, the mesh-wide setting decides.
   */
  readonly xdsAgent?: boolean
  /** More environment of its proxy, such as SECRET_TTL. */
  readonly proxyMetadata?: Readonly<Record<string, string>>
  /** Annotations of its pods, beside those. */
  readonly podAnnotations?: Readonly<Record<string, string>>
}

export interface MeshOptions {
  readonly namespace: string
  readonly workloads: readonly MeshWorkload[]
  /** Milliseconds between two requests of one workload to one peer. @default 250 */
  readonly interval?: number
  /**
   * A gateway-type proxy before the first workload, injected by Istio's template `gateway`, and `edge`, a client without a proxy that
   * dials it. A ClusterIP of its own, from the cluster's range, is how `edge` finds it.
   */
  readonly gateway?: { readonly clusterIP: string }
}

/** Where applications listen, on the loopback of their pod. */
const appPort = 8080
/** Where their Envoy listens for peers, on the pod's address. */
export const meshPort = 9080
const gatewayPort = 9400
/** Local Envoy of a client has a listener for each peer from here on, by its place in the list. */
const firstPeerPort = 9001

/**
 * Manifests of a mesh: workloads that all talk to each other over fresh mutual TLS connections. Each is a Deployment that istiod's webhook
 * injects, with a Service and a ServiceAccount of its own. Without iptables an application dials a listener of its own Envoy on the loopback.
 */
export function meshManifests(options: MeshOptions): string {
  return meshObjects(options)
    .map(manifest => stringify(manifest))
    .join('---\n')
}

/** Name of the gateway's Deployment and Service. */
export const gatewayName = 'gateway'
/** Client of the gateway, which is no part of the mesh. */
export const edgeName = 'edge'

function meshObjects(options: MeshOptions): readonly unknown[] {
  const { namespace, workloads, gateway } = options
  const objects: unknown[] = [
    {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: namespace, labels: { 'istio-injection': 'enabled' } },
    },
    {
      apiVersion: 'security.istio.io/v1',
      kind: 'PeerAuthentication',
      metadata: { name: 'default', namespace },
      spec: { mtls: { mode: 'STRICT' } },
    },
    sidecar(namespace, workloads),
    withoutResumption(namespace),
    ...workloads.flatMap((workload, place) => workloadObjects(options, workload, place)),
  ]
  const [first] = workloads
  if (gateway !== undefined && first !== undefined) objects.push(...gatewayObjects(options, first, gateway.clusterIP))
  return objects
}

/** One for the whole namespace: what comes in goes to the application, and each peer has a listener. */
function sidecar(namespace: string, workloads: readonly MeshWorkload[]): unknown {
  return {
    apiVersion: 'networking.istio.io/v1',
    kind: 'Sidecar',
    metadata: { name: 'default', namespace },
    spec: {
      ingress: [
        {
          port: { number: meshPort, protocol: 'TCP', name: 'tcp' },
          captureMode: 'NONE',
          defaultEndpoint: `127.0.0.1:${appPort}`,
        },
      ],
      // A listener takes the services that have its port, so each service has a port of its own.
      egress: workloads.map(({ name }, place) => ({
        port: { number: firstPeerPort + place, protocol: 'TCP', name: `tcp-${name}` },
        bind: '127.0.0.1',
        captureMode: 'NONE',
        hosts: ['./*'],
      })),
    },
  }
}

/**
 * Envoys resume TLS sessions, and a resumed one verifies no certificate: one request in two would prove nothing about roots. Servers that give
 * no tickets make every connection a whole handshake.
 */
function withoutResumption(namespace: string): unknown {
  return {
    apiVersion: 'networking.istio.io/v1alpha3',
    kind: 'EnvoyFilter',
    metadata: { name: 'whole-handshakes', namespace },
    spec: {
      configPatches: [
        {
          applyTo: 'FILTER_CHAIN',
          match: { context: 'SIDECAR_INBOUND' },
          patch: {
            operation: 'MERGE',
            value: {
              transport_socket: {
                name: 'envoy.transport_sockets.tls',
                typed_config: {
                  '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
                  disable_stateless_session_resumption: true,
                  disable_stateful_session_resumption: true,
                },
              },
            },
          },
        },
      ],
    },
  }
}

function workloadObjects(options: MeshOptions, workload: MeshWorkload, place: number): readonly unknown[] {
  const { namespace, workloads } = options
  const { name } = workload
  const peers = workloads.flatMap((peer, other) =>
    peer.name === name ? [] : [`${peer.name}=127.0.0.1:${firstPeerPort + other}`],
  )
  const metadata = { name, namespace, labels: { app: name } }
  return [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace } },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata,
      spec: {
        selector: { app: name },
        ports: [{ name: 'tcp-app', port: firstPeerPort + place, targetPort: meshPort }],
      },
    },
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata,
      spec: {
        replicas: workload.replicas ?? 1,
        selector: { matchLabels: { app: name } },
        template: {
          metadata: { labels: { app: name }, annotations: podAnnotations(workload) },
          spec: {
            serviceAccountName: name,
            terminationGracePeriodSeconds: 30,
            containers: [
              {
                name: 'app',
                image: 'rig/workload',
                // The proxy's port for it, so that istiod knows the endpoint.
                ports: [{ containerPort: meshPort }],
                env: applicationEnv(name, options.interval, peers),
                // Without it the pod is ready, and asked, while its server is still being started.
                startupProbe: {
                  exec: { command: ['/usr/local/bin/workload', 'ready', String(appPort)] },
                  periodSeconds: 1,
                  timeoutSeconds: 5,
                  failureThreshold: 120,
                },
              },
            ],
          },
        },
      },
    },
  ]
}

function applicationEnv(
  name: string,
  interval: number | undefined,
  peers: readonly string[],
): readonly { readonly name: string; readonly value: string }[] {
  return [
    { name: 'NAME', value: name },
    { name: 'PORT', value: String(appPort) },
    { name: 'INTERVAL', value: String(interval ?? 250) },
    { name: 'PEERS', value: peers.join(',') },
  ]
}

/** Istio's bootstrap has Envoy keep few statistics: these tell of handshakes. */
const statistics = {
  'sidecar.istio.io/statsInclusionSuffixes':
    'ssl.handshake,ssl.session_reused,ssl.fail_verify_error,ssl.connection_error',
}

function podAnnotations(workload: MeshWorkload): Readonly<Record<string, string>> {
  const proxyMetadata: Record<string, string> = { ...workload.proxyMetadata }
  if (workload.xdsAgent !== undefined) proxyMetadata.PROXY_CONFIG_XDS_AGENT = String(workload.xdsAgent)
  const config =
    Object.keys(proxyMetadata).length === 0 ? {} : { 'proxy.istio.io/config': stringify({ proxyMetadata }) }
  return { ...statistics, ...config, ...workload.podAnnotations }
}

function gatewayObjects(options: MeshOptions, first: MeshWorkload, clusterIP: string): readonly unknown[] {
  const { namespace } = options
  const metadata = { name: gatewayName, namespace, labels: { app: gatewayName } }
  const account = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: gatewayName, namespace } }
  const servers = [{ port: { number: gatewayPort, name: 'tcp', protocol: 'TCP' }, hosts: ['*'] }]
  const service = `${first.name}.${namespace}.svc.cluster.local`
  return [
    account,
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata,
      spec: {
        clusterIP,
        selector: { app: gatewayName },
        ports: [{ name: 'tcp', port: gatewayPort, targetPort: gatewayPort }],
      },
    },
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata,
      spec: {
        selector: { matchLabels: { app: gatewayName } },
        template: {
          metadata: {
            labels: { app: gatewayName, 'sidecar.istio.io/inject': 'true' },
            annotations: { 'inject.istio.io/templates': 'gateway' },
          },
          spec: {
            serviceAccountName: gatewayName,
            terminationGracePeriodSeconds: 15,
            containers: [{ name: 'istio-proxy', image: 'auto', ports: [{ containerPort: gatewayPort }] }],
          },
        },
      },
    },
    {
      apiVersion: 'networking.istio.io/v1',
      kind: 'Gateway',
      metadata: { name: gatewayName, namespace },
      spec: { selector: { app: gatewayName }, servers },
    },
    {
      apiVersion: 'networking.istio.io/v1',
      kind: 'VirtualService',
      metadata: { name: gatewayName, namespace },
      spec: {
        hosts: ['*'],
        gateways: [gatewayName],
        tcp: [
          {
            match: [{ port: gatewayPort }],
            route: [{ destination: { host: service, port: { number: firstPeerPort } } }],
          },
        ],
      },
    },
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: edgeName, namespace, labels: { app: edgeName } },
      spec: {
        selector: { matchLabels: { app: edgeName } },
        template: {
          metadata: { labels: { app: edgeName, 'sidecar.istio.io/inject': 'false' } },
          spec: {
            containers: [
              {
                name: 'app',
                image: 'rig/workload',
                env: applicationEnv(edgeName, options.interval, [`${first.name}=${clusterIP}:${gatewayPort}`]),
              },
            ],
          },
        },
      },
    },
  ]
}
