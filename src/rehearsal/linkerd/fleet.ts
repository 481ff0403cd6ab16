import type { FileTree } from '../../rotation.ts'
import { anchorText } from '../../systems/linkerd/go-pem.ts'
import { anchorsVariable } from '../../systems/linkerd/manifests.ts'
import type { LinkerdFlow } from '../../systems/linkerd/version.ts'
import { argoApplication, fleetUrl, fluxBootstrap, fluxKustomization, folderSource } from '../fleet-delivery.ts'
import {
  anchorsVolume,
  configVolume,
  demoLeafHours,
  demoVersions,
  issuerVolume,
  lifetimeArgument,
  literalAnchors,
  trustDomain,
  vaultSecret,
} from './names.ts'

export interface LinkerdFleetOptions {
  readonly sites: readonly string[]
  readonly flow: LinkerdFlow
  /** PEM of the root that Linkerd was installed with. */
  readonly root: string
  /** Age recipient of `.sops.yaml`. */
  readonly ageRecipient: string
  /** Certificate of the Sealed Secrets controller: then Argo CD delivers, and it lies in sealed-secrets.pem. @default Flux and SOPS */
  readonly sealingCertificate?: string
  /** A HelmRelease installs Linkerd, in the place of manifests. @default false */
  readonly helm?: boolean
  readonly url?: string
  readonly branch?: string
}

/**
 * A GitOps repository as an engineer has it before the first rotation: what `linkerd install` has written, and six workloads of three kinds.
 * The issuer's Secret is not in it, as it holds a private key: it was put into the cluster by hand.
 */
export function linkerdFleet(options: LinkerdFleetOptions): FileTree {
  const files = new Map<string, string>()
  const { sealingCertificate } = options
  files.set('README.md', readme(options.sites, sealingCertificate !== undefined))
  if (sealingCertificate === undefined) files.set('.sops.yaml', sopsRules(options.ageRecipient))
  else files.set('sealed-secrets.pem', sealingCertificate)
  for (const site of options.sites)
    for (const [path, text] of Object.entries(siteFiles(site, options))) files.set(path, text)
  return files
}

function readme(sites: readonly string[], byArgo: boolean): string {
  const sealed = byArgo
    ? 'Secrets are sealed to the certificate in `sealed-secrets.pem`.'
    : 'Secrets are sealed with SOPS; the rules are in `.sops.yaml`.'
  return `# Fleet

What runs in our clusters. ${byArgo ? 'Argo CD' : 'Flux'} applies \`clusters/<cluster>\`, which leads to \`linkerd/<cluster>\` and \`apps/<cluster>\`.

Clusters: ${sites.join(', ')}. ${sealed}
`
}

function sopsRules(recipient: string): string {
  return `creation_rules:
  # Everything that Flux applies: private values only, so that reviews stay readable.
  - path_regex: ^(trust|apps|linkerd|rotations)/.*\\.yaml$
    encrypted_regex: ^(key\\.pem|tls\\.key|canary|password)$
    mac_only_encrypted: true
    age: ${recipient}
`
}

function siteFiles(site: string, options: LinkerdFleetOptions): Record<string, string> {
  const url = options.url ?? fleetUrl
  const branch = options.branch ?? 'main'
  const { flow } = options
  return {
    ...(options.sealingCertificate === undefined
      ? fluxObjects(site, url, branch)
      : argoApplications(site, url, branch)),
    ...(options.helm === true ? helmFiles(site, options.root) : manifestFiles(site, options)),
    [`apps/${site}/kustomization.yaml`]: `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - namespaces.yaml
  - emojivoto.yaml # as in the guide
  - shop.yaml
  - edge.yaml
`,
    [`apps/${site}/namespaces.yaml`]: ['emojivoto', 'shop', 'edge'].map(namespace).join('---\n'),
    [`apps/${site}/emojivoto.yaml`]: [
      workload('Deployment', 'emojivoto', 'web', 2),
      workload('Deployment', 'emojivoto', 'emoji', 1),
      flow === 'config-map'
        ? workload('Deployment', 'emojivoto', 'voting', 1, options)
        : workload('Deployment', 'emojivoto', 'voting', 1),
    ].join('---\n'),
    [`apps/${site}/shop.yaml`]: [
      workload('Deployment', 'shop', 'cart', 1),
      workload('StatefulSet', 'shop', 'cart-store', 1),
    ].join('---\n'),
    [`apps/${site}/edge.yaml`]: workload('DaemonSet', 'edge', 'ingress', 1),
  }
}

function manifestFiles(site: string, options: LinkerdFleetOptions): Record<string, string> {
  return {
    [`linkerd/${site}/kustomization.yaml`]: `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - config.yaml
  - control-plane.yaml
`,
    [`linkerd/${site}/config.yaml`]:
      options.flow === 'trust-roots' ? trustRoots(options.root) : globalConfig(options.root),
    [`linkerd/${site}/control-plane.yaml`]: controlPlaneManifests(options),
  }
}

/** Deployments of the control plane with their accounts: what `linkerd install` writes, and what the chart makes. */
export function controlPlaneManifests(options: Pick<LinkerdFleetOptions, 'flow' | 'root'>): string {
  return [
    controlPlaneDeployment('identity', 2, options),
    controlPlaneDeployment('destination', 1, options),
    controlPlaneDeployment('proxy-injector', 2, options),
  ].join('---\n')
}

function helmFiles(site: string, root: string): Record<string, string> {
  return {
    [`linkerd/${site}/kustomization.yaml`]: `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - release.yaml
`,
    [`linkerd/${site}/release.yaml`]: `# The mesh. The issuer comes from our vault.
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata:
  name: linkerd-control-plane
  namespace: linkerd
spec:
  interval: 10m
  chart:
    spec:
      chart: linkerd-control-plane
      version: 1.16.11
      sourceRef:
        kind: HelmRepository
        name: linkerd
  valuesFrom:
    - kind: Secret
      name: ${vaultSecret}
      valuesKey: crt.pem
      targetPath: identity.issuer.tls.crtPEM
    - kind: Secret
      name: ${vaultSecret}
      valuesKey: key.pem
      targetPath: identity.issuer.tls.keyPEM
  values:
    identity:
      issuer:
        issuanceLifetime: ${demoLeafHours}h0m0s
    identityTrustAnchorsPEM: |
${indented(root, 6)}`,
  }
}

function fluxObjects(site: string, url: string, branch: string): Record<string, string> {
  return {
    ...fluxBootstrap(site, url, branch),
    [`clusters/${site}/linkerd.yaml`]: fluxKustomization(
      'linkerd',
      `./linkerd/${site}`,
      'The mesh: what linkerd install has written.',
    ),
    [`clusters/${site}/apps.yaml`]: fluxKustomization('apps', `./apps/${site}`, 'What our teams run.', ['linkerd']),
  }
}

/** One app of apps, which a person applied once, and what it leads to. */
function argoApplications(site: string, url: string, branch: string): Record<string, string> {
  const application = (name: string, path: string, namespace: string, about: string): string =>
    argoApplication({ name, source: folderSource(path, url, branch), namespace, about })
  return {
    [`clusters/${site}/root.yaml`]: application(
      'root',
      `clusters/${site}`,
      'argocd',
      'What everything in this cluster starts from.',
    ),
    [`clusters/${site}/linkerd.yaml`]: application(
      'linkerd',
      `linkerd/${site}`,
      'linkerd',
      'The mesh: what linkerd install has written.',
    ),
    [`clusters/${site}/apps.yaml`]: application('apps', `apps/${site}`, 'default', 'What our teams run.'),
  }
}

function namespace(name: string): string {
  return `apiVersion: v1
kind: Namespace
metadata:
  name: ${name}
  annotations:
    linkerd.io/inject: enabled
`
}

/** From 2.11 on: the bundle by itself, and Helm's values, in which the anchors stand once more. */
function trustRoots(root: string): string {
  return `# The mesh. Owned by the platform team.
apiVersion: v1
kind: ConfigMap
metadata:
  name: linkerd-config
  namespace: linkerd
  labels:
    linkerd.io/control-plane-component: controller
data:
  linkerd-crds-chart-version: linkerd-crds-1.8.0
  values: |
    clusterDomain: ${trustDomain}
    identityTrustDomain: ${trustDomain}
    identityTrustAnchorsPEM: |
${indented(root.trimEnd(), 6)}
    highAvailability: true
    identity:
      issuer:
        issuanceLifetime: ${demoLeafHours}h0m0s
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: linkerd-identity-trust-roots
  namespace: linkerd
  labels:
    linkerd.io/control-plane-component: identity
data:
  ca-bundle.crt: |-
${indented(root.trimEnd(), 4)}
`
}

/** Up to 2.8, as a CLI install has it: JSON as one string, the PEM with its newline at the end. */
function globalConfig(root: string): string {
  const global = JSON.stringify({
    linkerdNamespace: 'linkerd',
    cniEnabled: false,
    version: demoVersions.upgrade,
    identityContext: {
      trustDomain,
      trustAnchorsPem: root,
      issuanceLifetime: `${demoLeafHours * 3600}s`,
      clockSkewAllowance: '20s',
      scheme: 'linkerd.io/tls',
    },
    autoInjectContext: null,
    omitWebhookSideEffects: false,
    clusterDomain: trustDomain,
  })
  return `# The mesh. Owned by the platform team.
apiVersion: v1
kind: ConfigMap
metadata:
  name: linkerd-config
  namespace: linkerd
  labels:
    linkerd.io/control-plane-component: controller
data:
  global: |
    ${global}
  proxy: |
    {"logLevel":{"level":"warn,linkerd=info"}}
  install: |
    {"cliVersion":"${demoVersions.upgrade}","flags":[]}
`
}

function controlPlaneDeployment(
  component: string,
  replicas: number,
  options: Pick<LinkerdFleetOptions, 'flow' | 'root'>,
): string {
  const name = `linkerd-${component}`
  const config =
    options.flow === 'trust-roots'
      ? { volume: anchorsVolume, map: 'linkerd-identity-trust-roots' }
      : { volume: configVolume, map: 'linkerd-config' }
  const issuer = component === 'identity'
  return `apiVersion: v1
kind: ServiceAccount
metadata:
  name: ${name}
  namespace: linkerd
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: ${name}
  namespace: linkerd
  labels:
    linkerd.io/control-plane-component: ${component}
    linkerd.io/control-plane-ns: linkerd
spec:
  replicas: ${replicas}
  selector:
    matchLabels:
      linkerd.io/control-plane-component: ${component}
  template:
    metadata:
      labels:
        linkerd.io/control-plane-component: ${component}
        linkerd.io/control-plane-ns: linkerd
    spec:
      serviceAccountName: ${name}
      containers:
        - name: ${component}
          image: cr.l5d.io/linkerd/controller:${demoVersions[options.flow]}
          args: [${issuer ? `identity, ${lifetimeArgument}` : component}]
          volumeMounts:
            - name: ${config.volume}
              mountPath: /var/run/linkerd/${config.volume}
${issuer ? `            - name: ${issuerVolume}\n              mountPath: /var/run/linkerd/identity/issuer\n` : ''}${proxy(options)}      volumes:
        - name: ${config.volume}
          configMap:
            name: ${config.map}
${issuer ? `        - name: ${issuerVolume}\n          secret:\n            secretName: linkerd-identity-issuer\n` : ''}`
}

/** The proxy as manifests have it: its anchors refer to the ConfigMap, or are a literal up to 2.10 and in what was injected by hand. */
function proxy({ flow, root }: Pick<LinkerdFleetOptions, 'flow' | 'root'>): string {
  const anchors = literalAnchors(flow)
    ? `              value: |\n${indented(anchorText([root]).trimEnd(), 16)}\n`
    : `              valueFrom:
                configMapKeyRef:
                  name: linkerd-identity-trust-roots
                  key: ca-bundle.crt
`
  return `        - name: linkerd-proxy
          image: cr.l5d.io/linkerd/proxy:${demoVersions[flow]}
          env:
            - name: _pod_ns
              valueFrom:
                fieldRef:
                  fieldPath: metadata.namespace
            - name: _pod_sa
              valueFrom:
                fieldRef:
                  fieldPath: spec.serviceAccountName
            - name: ${anchorsVariable}
${anchors}            - name: LINKERD2_PROXY_IDENTITY_LOCAL_NAME
              value: $(_pod_sa).$(_pod_ns).serviceaccount.identity.linkerd.${trustDomain}
          ports:
            - containerPort: 4143
              name: linkerd-proxy
            - containerPort: 4191
              name: linkerd-admin
`
}

/** `injected`: somebody ran `linkerd inject --manual` over it, so the proxy stands in Git. */
function workload(
  kind: 'Deployment' | 'StatefulSet' | 'DaemonSet',
  namespaceName: string,
  name: string,
  replicas: number,
  injected?: Pick<LinkerdFleetOptions, 'flow' | 'root'>,
): string {
  const label = injected === undefined ? '' : '        linkerd.io/control-plane-ns: linkerd\n'
  return `apiVersion: v1
kind: ServiceAccount
metadata:
  name: ${name}
  namespace: ${namespaceName}
---
apiVersion: apps/v1
kind: ${kind}
metadata:
  name: ${name}
  namespace: ${namespaceName}
spec:
${kind === 'DaemonSet' ? '' : `  replicas: ${replicas}\n`}${kind === 'StatefulSet' ? `  serviceName: ${name}\n` : ''}  selector:
    matchLabels:
      app: ${name}
  template:
    metadata:
      labels:
        app: ${name}
${label}    spec:
      serviceAccountName: ${name}
      containers:
        - name: ${name}
          image: registry.example.com/${namespaceName}/${name}:1.4.0
${injected === undefined ? '' : proxy(injected)}`
}

function indented(text: string, by: number): string {
  return text.replace(/^(?=.)/gm, ' '.repeat(by))
}
