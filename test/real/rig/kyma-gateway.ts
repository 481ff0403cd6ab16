import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { stringify } from 'yaml'
import type { ControlPlane } from './control-plane.ts'
import type { Manifest, Place } from './objects.ts'

/** Names of Kyma 1.11 to 1.14 and 2.x. */
export const kymaNames = {
  gatewayNamespace: 'istio-system',
  gateway: 'istio-ingressgateway',
  credential: 'kyma-gateway-certs',
  trust: { name: 'kyma-gateway-certs-cacert', key: 'cacert' },
  signer: { namespace: 'kyma-integration', name: 'connector-service-app-ca' },
} as const

export const gatewayPort = 8443
const secretsMap = 'ingressgateway-secrets'

/** A ConfigMap that stands for the stream of secrets which istiod keeps to each gateway: Envoy reads it as a file, and the kubelet brings it. */
function secretsOf(trust: string): Manifest {
  const resource = {
    '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret',
    // As istiod names it (istio pilot/pkg/model/credentials).
    name: `kubernetes://${kymaNames.credential}-cacert`,
    validation_context: { trusted_ca: { inline_bytes: Buffer.from(trust).toString('base64') } },
  }
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: secretsMap, namespace: kymaNames.gatewayNamespace },
    data: { 'ca.yaml': stringify({ resources: [resource] }) },
  }
}

/** Stand-in for the part of istiod that watches a credential's Secret and pushes it. An empty value is an error to Istio, and is not pushed. */
export function startCredentialPusher(plane: ControlPlane): { stop(): Promise<void> } {
  const { objects } = plane
  const log = join(plane.folder, 'log', 'credential-pusher.log')
  const place: Place = {
    apiVersion: 'v1',
    kind: 'Secret',
    namespace: kymaNames.gatewayNamespace,
    name: kymaNames.trust.name,
  }
  let stopped = false
  let pushed = ''
  async function run(): Promise<void> {
    while (!stopped) {
      try {
        const found = (await objects.get(place)) as (Manifest & { data?: Readonly<Record<string, string>> }) | null
        const value = Buffer.from(found?.data?.[kymaNames.trust.key] ?? '', 'base64').toString('utf8')
        if (value.trim() !== '' && value !== pushed) {
          await objects.apply(secretsOf(value), 'istiod')
          pushed = value
        }
      } catch (cause) {
        await appendFile(log, `${new Date().toISOString()} ${String(cause)}\n`).catch(() => {})
      }
      await sleep(300)
    }
  }
  const running = run()
  return {
    async stop() {
      stopped = true
      await running
    },
  }
}

/** The gateway as Istio's operator brings it: real Envoys that ask every client for a certificate. The answer to whoever is taken is `welcome`. */
export function gatewayObjects(replicas: number): readonly Manifest[] {
  const namespace = kymaNames.gatewayNamespace
  const sds = { path_config_source: { path: '/etc/secrets/ca.yaml', watched_directory: { path: '/etc/secrets' } } }
  const tls = {
    '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
    require_client_certificate: true,
    // A resumed session verifies nothing anew.
    disable_stateless_session_resumption: true,
    disable_stateful_session_resumption: true,
    common_tls_context: {
      tls_certificates: [
        { certificate_chain: { filename: '/etc/server/tls.crt' }, private_key: { filename: '/etc/server/tls.key' } },
      ],
      validation_context_sds_secret_config: {
        name: `kubernetes://${kymaNames.credential}-cacert`,
        sds_config: { resource_api_version: 'V3', ...sds },
      },
    },
  }
  const answer = { status: 200, body: { inline_string: 'welcome' } }
  const http = {
    '@type': 'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
    stat_prefix: 'gateway',
    route_config: {
      virtual_hosts: [{ name: 'all', domains: ['*'], routes: [{ match: { prefix: '/' }, direct_response: answer }] }],
    },
    http_filters: [
      {
        name: 'envoy.filters.http.router',
        typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router' },
      },
    ],
  }
  const envoy = {
    admin: { address: { socket_address: { address: '127.0.0.1', port_value: 15000 } } },
    static_resources: {
      listeners: [
        {
          name: 'gateway',
          address: { socket_address: { address: '0.0.0.0', port_value: gatewayPort } },
          filter_chains: [
            {
              transport_socket: { name: 'envoy.transport_sockets.tls', typed_config: tls },
              filters: [{ name: 'envoy.filters.network.http_connection_manager', typed_config: http }],
            },
          ],
        },
      ],
    },
  }
  const labels = { app: kymaNames.gateway, istio: 'ingressgateway' }
  return [
    {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'ingressgateway-envoy', namespace },
      data: { 'envoy.yaml': stringify(envoy, { aliasDuplicateObjects: false }) },
    },
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: kymaNames.gateway, namespace, labels },
      spec: {
        replicas,
        selector: { matchLabels: labels },
        strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: '100%', maxUnavailable: 0 } },
        template: {
          metadata: { labels },
          spec: {
            containers: [
              {
                name: 'istio-ingress',
                image: 'rig/envoy',
                args: [
                  ...['--config-path', '/etc/envoy/envoy.yaml', '--service-node', 'gateway'],
                  ...['--service-cluster', 'gateway', '--concurrency', '1', '--log-level', 'warning'],
                ],
                ports: [{ name: 'https', containerPort: gatewayPort }],
                readinessProbe: { tcpSocket: { port: gatewayPort }, periodSeconds: 2 },
                volumeMounts: [
                  { name: 'envoy', mountPath: '/etc/envoy' },
                  { name: 'secrets', mountPath: '/etc/secrets' },
                  { name: 'server', mountPath: '/etc/server' },
                ],
              },
            ],
            volumes: [
              { name: 'envoy', configMap: { name: 'ingressgateway-envoy' } },
              { name: 'secrets', configMap: { name: secretsMap } },
              { name: 'server', secret: { secretName: kymaNames.credential } },
            ],
          },
        },
      },
    },
  ]
}
