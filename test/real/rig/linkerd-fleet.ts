import { stringify } from 'yaml'
import type { LinkerdFlow } from '../../../src/systems/linkerd/version.ts'
import type { Manifest } from './objects.ts'
import { kustomization, syncOf } from './repository.ts'

export const linkerdNamespace = 'linkerd'
export const trustDomain = 'cluster.local'
export const shopNamespace = 'shop'

/** A release that each flow is for. */
const versions: Readonly<Record<LinkerdFlow, string>> = {
  'trust-roots': 'edge-25.8.3',
  upgrade: 'stable-2.8.1',
  'config-map': 'stable-2.7.1',
}

export type IssuerScheme = 'linkerd.io/tls' | 'kubernetes.io/tls'

export interface LinkerdWorkload {
  readonly name: string
  /** Which TLS its proxy speaks: rustls, as Linkerd's own does, or Go's. */
  readonly proxy: 'rustls' | 'go'
  /** @default 1 */
  readonly replicas?: number
  /** The proxy is an init container that goes on. @default false */
  readonly nativeSidecar?: boolean
  /** `linkerd inject --manual` has written the proxy into the manifest, with its anchors as a literal. @default false */
  readonly injectedByHand?: boolean
}

export interface LinkerdMeshOptions {
  readonly site: string
  /** Which flow rotates it: from 2.11 on, or 2.7 and 2.8, whose anchors stand in linkerd-config and in literals. */
  readonly flow: LinkerdFlow
  /** PEM of the root that Linkerd was installed with. */
  readonly root: string
  readonly scheme: IssuerScheme
  /** As `-identity-issuance-lifetime` takes it. */
  readonly leafLife: string
  /** PEM of the CA by which the API server knows the injector: no part of the mesh. */
  readonly webhookCa: string
}

/** A repository as `flux bootstrap` begins it: the mesh comes next (`linkerdMesh`), and then who is in it. */
export function linkerdFleet(site: string, recipient: string): Record<string, string> {
  return {
    'README.md':
      '# Fleet\n\nFlux applies `clusters/<cluster>`, which leads to `linkerd/<cluster>` and `apps/<cluster>`.\n',
    '.sops.yaml': `creation_rules:
  - path_regex: ^(trust|apps|linkerd|rotations)/.*\\.yaml$
    encrypted_regex: ^(key\\.pem|tls\\.key|canary|password)$
    mac_only_encrypted: true
    age: ${recipient}
`,
    [`clusters/${site}/flux-system/gotk-sync.yaml`]: syncOf(site),
    [`clusters/${site}/flux-system/kustomization.yaml`]: kustomization(['gotk-sync.yaml']),
  }
}

/** `linkerd/<cluster>`: what `linkerd install` writes, as far as the rig runs it. */
export function linkerdMesh(options: LinkerdMeshOptions): Record<string, string> {
  const { site } = options
  return {
    [`linkerd/${site}/kustomization.yaml`]: kustomization(['config.yaml', 'control-plane.yaml', 'webhook.yaml']),
    [`linkerd/${site}/config.yaml`]: documents(configObjects(options)),
    [`linkerd/${site}/control-plane.yaml`]: documents(controlPlaneObjects(options)),
    [`linkerd/${site}/webhook.yaml`]: documents([webhook(options.webhookCa)]),
  }
}

export function documents(objects: readonly unknown[]): string {
  // Aliases are no part of what people write.
  return objects.map(object => stringify(object, { aliasDuplicateObjects: false })).join('---\n')
}

function configObjects({ flow, root, scheme, leafLife }: LinkerdMeshOptions): readonly unknown[] {
  const map = (name: string, component: string, data: Readonly<Record<string, string>>) => ({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name, namespace: linkerdNamespace, labels: { 'linkerd.io/control-plane-component': component } },
    data,
  })
  const skew = '20s'
  const linkerdVersion = versions[flow]
  if (flow !== 'trust-roots') {
    // As the CLI writes it: compact, and the PEM with its newline at the end.
    const global = JSON.stringify({
      linkerdNamespace,
      cniEnabled: false,
      version: linkerdVersion,
      identityContext: {
        trustDomain,
        trustAnchorsPem: root,
        issuanceLifetime: leafLife,
        clockSkewAllowance: skew,
        scheme,
      },
      autoInjectContext: null,
      omitWebhookSideEffects: false,
      clusterDomain: trustDomain,
    })
    const install = JSON.stringify({ cliVersion: linkerdVersion, flags: [] })
    return [map('linkerd-config', 'controller', { global, proxy: '{"logLevel":{"level":"warn"}}', install })]
  }
  const values = {
    clusterDomain: trustDomain,
    identity: { issuer: { scheme, issuanceLifetime: leafLife, clockSkewAllowance: skew } },
    identityTrustAnchorsPEM: root.trimEnd(),
    identityTrustDomain: trustDomain,
    linkerdVersion,
  }
  return [
    map('linkerd-config', 'controller', { values: stringify(values) }),
    map('linkerd-identity-trust-roots', 'identity', { 'ca-bundle.crt': root.trimEnd() }),
  ]
}

const identityName = `linkerd-identity.${linkerdNamespace}.serviceaccount.identity.${linkerdNamespace}.${trustDomain}`
const proxyImage = (flow: LinkerdFlow): string => `cr.l5d.io/linkerd/proxy:${versions[flow]}`
const goProxyImage = 'rig/linkerd-go-proxy'

function controlPlaneObjects(options: LinkerdMeshOptions): readonly unknown[] {
  const { flow, scheme, leafLife } = options
  // Up to 2.8 identity is told by linkerd-config.
  const told = [
    `-identity-trust-domain=${trustDomain}`,
    `-identity-issuance-lifetime=${leafLife}`,
    '-identity-clock-skew-allowance=20s',
    `-identity-scheme=${scheme}`,
  ]
  const anchors = flow === 'trust-roots' ? { 'trust-roots': trustRootsMount } : { config: configMount }
  const identity = component(options, {
    name: 'identity',
    replicas: 2,
    args: ['identity', `-controller-namespace=${linkerdNamespace}`, ...(flow === 'trust-roots' ? told : [])],
    ports: [
      { containerPort: 8080, name: 'grpc' },
      { containerPort: 9990, name: 'admin-http' },
    ],
    ready: 9990,
    // Its own process is beside it, and whoever asks has no certificate yet.
    proxyEnv: {
      LINKERD2_PROXY_IDENTITY_SVC_ADDR: 'localhost:8080',
      RIG_INBOUND: '127.0.0.1:8080',
      RIG_INBOUND_UNAUTHENTICATED: 'true',
    },
    mounts: {
      'identity-issuer': {
        path: '/var/run/linkerd/identity/issuer',
        source: { secret: { secretName: 'linkerd-identity-issuer' } },
      },
      ...anchors,
    },
  })
  const destination = component(options, {
    name: 'destination',
    replicas: 1,
    args: ['destination'],
    ports: [],
    mounts: {},
  })
  const injector = component(options, {
    name: 'proxy-injector',
    replicas: 2,
    args: ['injector'],
    env: {
      LINKERD_NAMESPACE: linkerdNamespace,
      LINKERD_VERSION: versions[flow],
      TRUST_DOMAIN: trustDomain,
      PROXY_IMAGE: proxyImage(flow),
      GO_PROXY_IMAGE: goProxyImage,
    },
    ports: [{ containerPort: 8443, name: 'proxy-injector' }],
    ready: 9995,
    mounts: {
      tls: { path: '/var/run/linkerd/tls', source: { secret: { secretName: 'linkerd-proxy-injector-k8s-tls' } } },
      ...anchors,
    },
  })
  return [
    ...identityRights(),
    service('linkerd-identity', 'identity', [{ name: 'grpc', port: 8080, targetPort: 4143 }]),
    service('linkerd-proxy-injector', 'proxy-injector', [{ name: 'proxy-injector', port: 443, targetPort: 8443 }]),
    ...identity,
    ...destination,
    ...injector,
  ]
}

const trustRootsMount = {
  path: '/var/run/linkerd/identity/trust-roots',
  source: { configMap: { name: 'linkerd-identity-trust-roots' } },
}

const configMount = { path: '/var/run/linkerd/config', source: { configMap: { name: 'linkerd-config' } } }

interface Component {
  readonly name: string
  readonly replicas: number
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly ports: readonly { readonly containerPort: number; readonly name: string }[]
  /** Port on which its own process says that it is ready. */
  readonly ready?: number
  readonly proxyEnv?: Readonly<Record<string, string>>
  readonly mounts: Readonly<Record<string, { readonly path: string; readonly source: object }>>
}

function component(
  mesh: LinkerdMeshOptions,
  { name, replicas, args, env = {}, ports, ready, proxyEnv = {}, mounts }: Component,
): readonly unknown[] {
  const full = `linkerd-${name}`
  const labels = {
    'linkerd.io/control-plane-component': name,
    'linkerd.io/control-plane-ns': linkerdNamespace,
    'linkerd.io/proxy-deployment': full,
  }
  const volumes = Object.entries(mounts).map(([volume, { source }]) => ({ name: volume, ...source }))
  return [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: full, namespace: linkerdNamespace } },
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: full, namespace: linkerdNamespace, labels },
      spec: {
        replicas,
        selector: { matchLabels: labels },
        template: {
          metadata: { labels },
          spec: {
            serviceAccountName: full,
            terminationGracePeriodSeconds: 30,
            containers: [
              {
                name,
                image: `cr.l5d.io/linkerd/controller:${versions[mesh.flow]}`,
                args,
                env: variables(env),
                ports,
                ...(ready === undefined
                  ? {}
                  : { readinessProbe: { httpGet: { path: '/ready', port: ready }, periodSeconds: 1 } }),
                volumeMounts: Object.entries(mounts).map(([volume, { path }]) => ({ name: volume, mountPath: path })),
              },
              controlPlaneProxy(mesh, proxyEnv),
            ],
            volumes: [...volumes, identityToken],
          },
        },
      },
    },
  ]
}

function variables(
  env: Readonly<Record<string, string>>,
): readonly { readonly name: string; readonly value: string }[] {
  return Object.entries(env).map(([name, value]) => ({ name, value }))
}

/** The proxy of a pod of the control plane, whose anchors refer to the ConfigMap, or are a literal up to 2.8. */
function controlPlaneProxy({ flow, root }: LinkerdMeshOptions, env: Readonly<Record<string, string>>): unknown {
  const reference = { configMapKeyRef: { name: 'linkerd-identity-trust-roots', key: 'ca-bundle.crt' } }
  return proxyContainer(
    proxyImage(flow),
    flow === 'trust-roots' ? { valueFrom: reference } : { value: root.trimEnd() },
    env,
  )
}

function proxyContainer(image: string, anchors: object, env: Readonly<Record<string, string>>) {
  const field = (name: string, fieldPath: string) => ({ name, valueFrom: { fieldRef: { fieldPath } } })
  return {
    name: 'linkerd-proxy',
    image,
    args: ['proxy'],
    env: [
      field('_pod_ns', 'metadata.namespace'),
      field('_pod_sa', 'spec.serviceAccountName'),
      { name: 'LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS', ...anchors },
      ...variables({
        LINKERD2_PROXY_IDENTITY_LOCAL_NAME: `$(_pod_sa).$(_pod_ns).serviceaccount.identity.${linkerdNamespace}.${trustDomain}`,
        LINKERD2_PROXY_IDENTITY_SVC_NAME: identityName,
        LINKERD2_PROXY_IDENTITY_SVC_ADDR: `linkerd-identity.${linkerdNamespace}.svc.cluster.local:8080`,
        ...env,
      }),
    ],
    ports: [
      { containerPort: 4143, name: 'linkerd-proxy' },
      { containerPort: 4191, name: 'linkerd-admin' },
    ],
    readinessProbe: { httpGet: { path: '/ready', port: 4191 }, periodSeconds: 1 },
    volumeMounts: [{ name: 'linkerd-identity-token', mountPath: '/var/run/secrets/tokens' }],
  }
}

const identityToken = {
  name: 'linkerd-identity-token',
  projected: {
    sources: [
      {
        serviceAccountToken: {
          audience: 'identity.l5d.io',
          expirationSeconds: 86_400,
          path: 'linkerd-identity-token',
        },
      },
    ],
  },
}

function service(
  name: string,
  component: string,
  ports: readonly { readonly name: string; readonly port: number; readonly targetPort: number }[],
): unknown {
  const selector = { 'linkerd.io/control-plane-component': component }
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: linkerdNamespace },
    spec: { selector, ports },
  }
}

/** What the chart gives identity: it asks whose token it is, and tells of its issuer. */
function identityRights(): readonly unknown[] {
  const name = 'linkerd-linkerd-identity'
  const subjects = [{ kind: 'ServiceAccount', name: 'linkerd-identity', namespace: linkerdNamespace }]
  const rules = [
    { apiGroups: ['authentication.k8s.io'], resources: ['tokenreviews'], verbs: ['create'] },
    { apiGroups: [''], resources: ['events'], verbs: ['create', 'patch'] },
  ]
  const api = 'rbac.authorization.k8s.io'
  return [
    { apiVersion: `${api}/v1`, kind: 'ClusterRole', metadata: { name }, rules },
    {
      apiVersion: `${api}/v1`,
      kind: 'ClusterRoleBinding',
      metadata: { name },
      roleRef: { apiGroup: api, kind: 'ClusterRole', name },
      subjects,
    },
  ]
}

/** As the chart has it with high availability: without the injector's word there is no pod. */
function webhook(ca: string): unknown {
  return {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'MutatingWebhookConfiguration',
    metadata: { name: 'linkerd-proxy-injector-webhook-config' },
    webhooks: [
      {
        name: 'linkerd-proxy-injector.linkerd.io',
        namespaceSelector: {
          matchExpressions: [
            { key: 'config.linkerd.io/admission-webhooks', operator: 'NotIn', values: ['disabled'] },
            { key: 'kubernetes.io/metadata.name', operator: 'NotIn', values: ['kube-system'] },
          ],
        },
        clientConfig: {
          service: { name: 'linkerd-proxy-injector', namespace: linkerdNamespace, path: '/' },
          caBundle: Buffer.from(ca).toString('base64'),
        },
        failurePolicy: 'Fail',
        admissionReviewVersions: ['v1'],
        rules: [{ operations: ['CREATE'], apiGroups: [''], apiVersions: ['v1'], resources: ['pods'] }],
        sideEffects: 'None',
        timeoutSeconds: 10,
      },
    ],
  }
}

/** Where applications listen, on the loopback of their pod. */
const appPort = 8080
/** A client's proxy has a port on the loopback for each peer from here on, by its place in the list. */
const firstPeerPort = 9001

/**
 * Workloads that all talk to each other. Without iptables an application dials a port of its own proxy on the loopback, and without the
 * destination service that proxy finds peers, and their names, by an annotation.
 */
export function shopObjects(
  workloads: readonly LinkerdWorkload[],
  interval: number,
  mesh: Pick<LinkerdMeshOptions, 'flow' | 'root'>,
): readonly Manifest[] {
  return [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: shopNamespace } },
    ...workloads.flatMap((workload, place) => workloadObjects(workload, place, { workloads, interval, mesh })),
  ]
}

interface Shop {
  readonly workloads: readonly LinkerdWorkload[]
  readonly interval: number
  readonly mesh: Pick<LinkerdMeshOptions, 'flow' | 'root'>
}

function workloadObjects(
  { name, proxy, replicas = 1, nativeSidecar = false, injectedByHand = false }: LinkerdWorkload,
  place: number,
  { workloads, interval, mesh }: Shop,
): readonly Manifest[] {
  const metadata = { name, namespace: shopNamespace, labels: { app: name } }
  const peers = workloads
    .map((peer, index) => ({ name: peer.name, port: firstPeerPort + index }))
    .filter(peer => peer.name !== name)
  const outbound = peers.map(peer => {
    const address = `${peer.name}.${shopNamespace}.svc.${trustDomain}:${peer.port}`
    return `${peer.port}=${address}=${peer.name}.${shopNamespace}.serviceaccount.identity.${linkerdNamespace}.${trustDomain}`
  })
  const inbound = `127.0.0.1:${appPort}`
  const annotations = {
    'linkerd.io/inject': 'enabled',
    'rig/proxy': proxy,
    'rig/inbound': inbound,
    'rig/outbound': outbound.join(','),
    ...(nativeSidecar ? { 'config.beta.linkerd.io/proxy-enable-native-sidecar': 'true' } : {}),
  }
  // As the injector would write it (tools/linkerd/injector.go).
  const byHand = {
    ...proxyContainer(
      proxy === 'go' ? goProxyImage : proxyImage(mesh.flow),
      { value: mesh.root },
      {
        RIG_INBOUND: inbound,
        RIG_OUTBOUND: outbound.join(','),
      },
    ),
    lifecycle: { postStart: { exec: { command: ['/usr/local/bin/linkerd-rig', 'await', '4191'] } } },
  }
  const env = {
    NAME: name,
    PORT: String(appPort),
    INTERVAL: String(interval),
    PEERS: peers.map(peer => `${peer.name}=127.0.0.1:${peer.port}`).join(','),
  }
  return [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace: shopNamespace } },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata,
      spec: { selector: { app: name }, ports: [{ name: 'tcp', port: firstPeerPort + place, targetPort: 4143 }] },
    },
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata,
      spec: {
        replicas,
        selector: { matchLabels: { app: name } },
        template: {
          metadata: {
            labels: { app: name, ...(injectedByHand ? { 'linkerd.io/control-plane-ns': linkerdNamespace } : {}) },
            annotations,
          },
          spec: {
            serviceAccountName: name,
            terminationGracePeriodSeconds: 30,
            containers: [
              ...(injectedByHand ? [byHand] : []),
              {
                name: 'app',
                image: 'rig/workload',
                ports: [{ containerPort: appPort }],
                env: variables(env),
                startupProbe: {
                  exec: { command: ['/usr/local/bin/workload', 'ready', String(appPort)] },
                  periodSeconds: 1,
                  timeoutSeconds: 5,
                  failureThreshold: 120,
                },
              },
            ],
            ...(injectedByHand ? { volumes: [identityToken] } : {}),
          },
        },
      },
    },
  ]
}
