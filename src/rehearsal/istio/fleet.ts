import type { FileTree } from '../../rotation.ts'
import { argoApplication, fleetUrl, fluxBootstrap, fluxKustomization, folderSource } from '../fleet-delivery.ts'

/**
 * sail: Flux applies the `Istio` of the Sail operator. helmRelease: Flux installs the chart istiod. argocd: Argo CD installs a chart of
 * this repository that wraps istiod's. argocdMultiSource: Argo CD installs istiod's chart from where Istio publishes it.
 */
export const fleetInstalls = ['sail', 'helmRelease', 'argocd', 'argocdMultiSource'] as const
export type FleetInstall = (typeof fleetInstalls)[number]

export interface FleetOptions {
  /** `eu-1`, `us-1`, … */
  readonly sites: readonly string[]
  /** Age recipient of `.sops.yaml`. */
  readonly ageRecipient: string
  /** How Istio comes into the clusters. */
  readonly install?: FleetInstall
  /** Certificate of the Sealed Secrets controller; with Argo CD it lies in sealed-secrets.pem, in place of `.sops.yaml`. */
  readonly sealingCertificate?: string
  /** URL that the clusters' GitRepository names. */
  readonly url?: string
  readonly branch?: string
  /** Adds a ztunnel and a namespace in ambient mode. */
  readonly ambient?: boolean
}

/**
 * A GitOps repository as an engineer has it before the first rotation: one folder of Flux objects per cluster, Istio with some
 * values of its own, six workloads of three kinds.
 */
export function demoFleet(options: FleetOptions): FileTree {
  const files = new Map<string, string>()
  const { install = 'sail' } = options
  if (install === 'argocd' || install === 'argocdMultiSource') return argoFleet(options, install)
  files.set('README.md', readme(options.sites))
  files.set('.sops.yaml', sopsRules(options.ageRecipient))
  for (const site of options.sites) {
    for (const [path, text] of Object.entries(siteFiles(site, options))) files.set(path, text)
  }
  return files
}

/** The same fleet under Argo CD: one app of apps for each cluster, in clusters/<cluster>. */
function argoFleet(options: FleetOptions, install: FleetInstall): FileTree {
  const url = options.url ?? fleetUrl
  const branch = options.branch ?? 'main'
  const files = new Map<string, string>()
  files.set('README.md', argoReadme(options.sites))
  files.set('sealed-secrets.pem', options.sealingCertificate ?? '')
  const own = (path: string): string => folderSource(path, url, branch)
  const application = (name: string, source: string, namespace: string, about: string): string =>
    argoApplication({ name, source, namespace, about, retries: 5 })
  if (install === 'argocd') {
    files.set('charts/mesh/Chart.yaml', meshChart)
    files.set('charts/mesh/values.yaml', meshValues)
  }
  for (const site of options.sites) {
    files.set(
      `clusters/${site}/root.yaml`,
      application(
        'root',
        own(`clusters/${site}`),
        'argocd',
        'What everything in this cluster starts from. Applied by hand, once.',
      ),
    )
    files.set(`clusters/${site}/apps.yaml`, application('apps', own(`apps/${site}`), 'default', 'What our teams run.'))
    const source = install === 'argocd' ? `${own('charts/mesh')}${wrappedValues(site)}` : publishedChart(site)
    files.set(
      `clusters/${site}/istiod.yaml`,
      application('istiod', source, 'istio-system', 'The mesh. Owned by the platform team.'),
    )
    for (const [path, text] of Object.entries(siteFiles(site, options)))
      if (path.startsWith('apps/')) files.set(path, text)
  }
  return files
}

function argoReadme(sites: readonly string[]): string {
  return `# Fleet

What runs in our clusters. Argo CD applies \`clusters/<cluster>\`, whose Applications lead to the mesh and to \`apps/<cluster>\`.

Clusters: ${sites.join(', ')}. Secrets are sealed to the certificate in \`sealed-secrets.pem\`.
`
}

const meshChart = `apiVersion: v2
name: mesh
description: istiod with what all our clusters share
version: 0.3.0
dependencies:
  - name: istiod
    version: 1.29.0
    repository: https://istio-release.storage.googleapis.com/charts
`

const meshValues = `# For every cluster.
istiod:
  meshConfig:
    accessLogFile: /dev/stdout # the log collector reads it
  pilot:
    autoscaleMin: 2
`

function wrappedValues(site: string): string {
  return `    helm:
      valuesObject:
        istiod:
          global:
            meshID: fleet
            multiCluster:
              clusterName: ${site}
          pilot:
            env:
              # istio/istio: health checks of services without endpoints
              PILOT_ENABLE_STATUS: "true"
`
}

function publishedChart(site: string): string {
  return `    repoURL: https://istio-release.storage.googleapis.com/charts # or our mirror
    chart: istiod
    targetRevision: 1.29.0
    helm:
      valuesObject:
        global:
          meshID: fleet
          multiCluster:
            clusterName: ${site}
        meshConfig:
          accessLogFile: /dev/stdout # the log collector reads it
        pilot:
          autoscaleMin: 2
          env:
            PILOT_ENABLE_STATUS: "true"
`
}

function readme(sites: readonly string[]): string {
  return `# Fleet

What runs in our clusters. Flux applies \`clusters/<cluster>\`, which leads to \`istio/<cluster>\` and \`apps/<cluster>\`.

Clusters: ${sites.join(', ')}. Secrets are sealed with SOPS; the rules are in \`.sops.yaml\`.
`
}

function sopsRules(recipient: string): string {
  return `creation_rules:
  # Everything that Flux applies: private values only, so that reviews stay readable.
  - path_regex: ^(trust|apps|istio|rotations)/.*\\.yaml$
    encrypted_regex: ^(ca-key\\.pem|tls\\.key|canary|password)$
    mac_only_encrypted: true
    age: ${recipient}
`
}

function siteFiles(site: string, options: FleetOptions): Record<string, string> {
  const url = options.url ?? fleetUrl
  const branch = options.branch ?? 'main'
  const ambient = options.ambient === true
  return {
    ...fluxBootstrap(site, url, branch),
    [`clusters/${site}/istio.yaml`]: fluxKustomization(
      'istio',
      `./istio/${site}`,
      'The mesh: control plane and its settings.',
    ),
    [`clusters/${site}/apps.yaml`]: fluxKustomization('apps', `./apps/${site}`, 'What our teams run.', ['istio']),
    [`istio/${site}/kustomization.yaml`]: `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - namespace.yaml
  - istio.yaml
${ambient ? '  - ztunnel.yaml\n' : ''}`,
    [`istio/${site}/namespace.yaml`]: `apiVersion: v1
kind: Namespace
metadata:
  name: istio-system
${ambient ? '---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: ztunnel\n' : ''}`,
    [`istio/${site}/istio.yaml`]: options.install === 'helmRelease' ? helmRelease(site) : sailIstio(site),
    ...(ambient ? { [`istio/${site}/ztunnel.yaml`]: ztunnel } : {}),
    [`apps/${site}/kustomization.yaml`]: `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - namespaces.yaml
  - sleep.yaml
  - httpbin.yaml
  - shop.yaml # frontend, cart and its store
  - ingress.yaml
`,
    [`apps/${site}/namespaces.yaml`]: ['sleep', 'httpbin', 'shop', 'ingress'].map(namespace).join('---\n'),
    [`apps/${site}/sleep.yaml`]: deployment(
      'sleep',
      'sleep',
      1,
      'curlimages/curl:8.11.0',
      `command: ["/bin/sleep", "infinity"]`,
    ),
    [`apps/${site}/httpbin.yaml`]: deployment('httpbin', 'httpbin', 2, 'docker.io/mccutchen/go-httpbin:v2.15.0'),
    [`apps/${site}/shop.yaml`]: [
      deployment('shop', 'frontend', 1, 'registry.example.com/shop/frontend:1.8.2'),
      deployment('shop', 'cart', 1, 'registry.example.com/shop/cart:1.4.0'),
      cartStore,
    ].join('---\n'),
    [`apps/${site}/ingress.yaml`]: ingressGateway,
  }
}

function namespace(name: string): string {
  return `apiVersion: v1
kind: Namespace
metadata:
  name: ${name}
  labels:
    istio-injection: enabled
`
}

function sailIstio(site: string): string {
  return `# The mesh of ${site}. Owned by the platform team.
apiVersion: sailoperator.io/v1
kind: Istio
metadata:
  name: default
spec:
  version: v1.29.0
  namespace: istio-system
  updateStrategy:
    type: InPlace
  values:
    global:
      meshID: fleet
      multiCluster:
        clusterName: ${site}
    meshConfig:
      accessLogFile: /dev/stdout # the log collector reads it
      defaultConfig:
        holdApplicationUntilProxyStarts: true
    pilot:
      autoscaleMin: 2
      env:
        # istio/istio: health checks of services without endpoints
        PILOT_ENABLE_STATUS: "true"
`
}

function helmRelease(site: string): string {
  return `# The mesh of ${site}. Owned by the platform team.
apiVersion: source.toolkit.fluxcd.io/v1
kind: HelmRepository
metadata:
  name: istio
  namespace: istio-system
spec:
  interval: 1h
  url: https://istio-release.storage.googleapis.com/charts
---
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata:
  name: istiod
  namespace: istio-system
spec:
  interval: 10m
  chart:
    spec:
      chart: istiod
      version: 1.29.0
      sourceRef:
        kind: HelmRepository
        name: istio
  values:
    global:
      meshID: fleet
      multiCluster:
        clusterName: ${site}
    meshConfig:
      accessLogFile: /dev/stdout # the log collector reads it
    pilot:
      autoscaleMin: 2
      env:
        PILOT_ENABLE_STATUS: "true"
`
}

const ztunnel = `apiVersion: sailoperator.io/v1
kind: ZTunnel
metadata:
  name: default
spec:
  version: v1.29.0
  namespace: ztunnel
`

function deployment(namespace: string, name: string, replicas: number, image: string, extra?: string): string {
  return `apiVersion: v1
kind: ServiceAccount
metadata:
  name: ${name}
  namespace: ${namespace}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: ${name}
  namespace: ${namespace}
spec:
  replicas: ${replicas}
  selector:
    matchLabels:
      app: ${name}
  template:
    metadata:
      labels:
        app: ${name}
    spec:
      serviceAccountName: ${name}
      containers:
        - name: ${name}
          image: ${image}
${extra === undefined ? '' : `          ${extra}\n`}`
}

const cartStore = `apiVersion: v1
kind: ServiceAccount
metadata:
  name: cart-store
  namespace: shop
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: cart-store
  namespace: shop
spec:
  replicas: 1
  serviceName: cart-store
  selector:
    matchLabels:
      app: cart-store
  template:
    metadata:
      labels:
        app: cart-store
    spec:
      serviceAccountName: cart-store
      containers:
        - name: store
          image: docker.io/valkey/valkey:8.0.1
`

const ingressGateway = `apiVersion: v1
kind: ServiceAccount
metadata:
  name: ingress
  namespace: ingress
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: ingress
  namespace: ingress
spec:
  replicas: 1
  selector:
    matchLabels:
      istio: ingress
  template:
    metadata:
      labels:
        istio: ingress
        sidecar.istio.io/inject: "true"
      annotations:
        # istiod completes this pod as a gateway
        inject.istio.io/templates: gateway
    spec:
      serviceAccountName: ingress
      containers:
        - name: istio-proxy
          image: auto
`
