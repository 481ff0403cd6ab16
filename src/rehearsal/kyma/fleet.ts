import type { FileTree } from '../../rotation.ts'
import { type KymaProfile, kymaProfiles } from '../../systems/kyma/profile.ts'
import { argoApplication, fleetUrl, fluxBootstrap, fluxKustomization, folderSource } from '../fleet-delivery.ts'

/** The demo's Kyma: where its CA is, and what it is called. */
export const demoKyma = {
  domain: 'kyma.example.com',
  signer: kymaProfiles.runbook.signer,
} as const

/** Scenarios of the demo: the three of the runbook, and the one that it lacks. */
export const scenarios = ['soon-to-expire', 'compromised-certificate', 'compromised-key', 'graceful'] as const
export type Scenario = (typeof scenarios)[number]

export function scenarioOf(variant: string | null): Scenario {
  return scenarios.find(name => name === variant?.replace(byArgo, '')) ?? 'soon-to-expire'
}

/** Behind a scenario's name: Argo CD delivers, and Sealed Secrets seals. The demo offers the scenarios alone, as Flux delivers them. */
const byArgo = /\+argocd$/

export function isByArgo(variant: string | null): boolean {
  return byArgo.test(variant ?? '')
}

/**
 * The runbook's scenarios run on the runbook's own names, where the gateway reads files and must be rolled; `graceful` on those of Kyma 1.18, where istiod pushes a
 * credential and the Secret also holds the server certificate.
 */
export function profileOf(variant: string | null): {
  readonly name: '1.18' | 'runbook'
  readonly profile: KymaProfile
} {
  const name = scenarioOf(variant) === 'graceful' ? '1.18' : 'runbook'
  return { name, profile: kymaProfiles[name] }
}

/** Runtimes of the demo: one of each kind. */
export const demoRuntimes = [
  { name: 'shop', kind: 'central', connection: 'shop' },
  { name: 'mobile', kind: 'compass', connection: 'compass-connection' },
] as const

export const demoApplications = ['crm', 'billing'] as const

export interface KymaFleetOptions {
  readonly sites: readonly string[]
  /** Age recipient of `.sops.yaml`. */
  readonly ageRecipient: string
  /** Of the Sealed Secrets controller. @default none */
  readonly sealingCertificate?: string
  readonly variant: string | null
}

/**
 * A GitOps repository as an engineer has it before the first rotation: Flux's own objects and the Gateway. The CA is not in it: Kyma's setup job made it, and
 * Istio's operator the gateway's Deployment.
 */
export function kymaFleet(options: KymaFleetOptions): FileTree {
  const files = new Map<string, string>()
  const argo = isByArgo(options.variant)
  files.set(
    'README.md',
    argo
      ? `# Fleet\n\nKyma's central cluster. Argo CD applies \`clusters/<site>\`. Secrets are sealed to the certificate in \`sealed-secrets.pem\`.\n`
      : `# Fleet\n\nKyma's central cluster. Flux applies \`clusters/<site>\`. Secrets are sealed with SOPS; the rules are in \`.sops.yaml\`.\n`,
  )
  if (argo) files.set('sealed-secrets.pem', options.sealingCertificate ?? '')
  else
    files.set(
      '.sops.yaml',
      `creation_rules:
  # Everything that Flux applies: private values only, so that reviews stay readable.
  - path_regex: ^(trust|kyma|rotations)/.*\\.yaml$
    encrypted_regex: ^(ca\\.key|canary|password)$
    mac_only_encrypted: true
    age: ${options.ageRecipient}
`,
    )
  for (const site of options.sites) {
    const entries = argo ? argoEntries(site) : fluxEntries(site)
    for (const [path, text] of Object.entries(entries)) files.set(path, text)
    files.set(
      `kyma/${site}/kustomization.yaml`,
      'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n  - gateway.yaml\n',
    )
    files.set(`kyma/${site}/gateway.yaml`, gateway(options.variant))
  }
  return files
}

/** What Flux starts from, and Kyma's own settings. */
function fluxEntries(site: string): Readonly<Record<string, string>> {
  return {
    ...fluxBootstrap(site, fleetUrl, 'main'),
    [`clusters/${site}/kyma.yaml`]: fluxKustomization('kyma', `./kyma/${site}`, "Kyma's own settings."),
  }
}

/** The same for Argo CD: an app of apps, applied by hand once. */
function argoEntries(site: string): Readonly<Record<string, string>> {
  const source = (path: string): string => folderSource(path, fleetUrl, 'main')
  return {
    [`clusters/${site}/root.yaml`]: argoApplication({
      name: 'root',
      source: source(`clusters/${site}`),
      namespace: 'argocd',
    }),
    [`clusters/${site}/kyma.yaml`]: argoApplication({
      name: 'kyma',
      source: source(`kyma/${site}`),
      namespace: 'kyma-system',
    }),
  }
}

function gateway(variant: string | null): string {
  const { profile } = profileOf(variant)
  const { secret, key, credential } = profile.gateway
  const tls =
    credential === null
      ? `        caCertificates: /etc/istio/${secret}/${key}
        serverCertificate: /etc/istio/ingressgateway-certs/tls.crt
        privateKey: /etc/istio/ingressgateway-certs/tls.key`
      : `        credentialName: ${credential}`
  return `# Clients of the central cluster come in here, each with a certificate of the connector.
apiVersion: networking.istio.io/v1beta1
kind: Gateway
metadata:
  name: kyma-gateway-application-connector
  namespace: kyma-system
spec:
  selector:
    istio: ingressgateway
  servers:
    - hosts:
        - gateway.${demoKyma.domain}
      port:
        name: https
        number: 443
        protocol: HTTPS
      tls:
        mode: MUTUAL
        minProtocolVersion: TLSV1_2
${tls}
`
}
