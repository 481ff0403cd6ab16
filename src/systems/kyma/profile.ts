/**
 * How the gateway gets the CA that it verifies clients with. `sds`: by a credential name, which istiod watches and pushes, so that nothing restarts.
 * `mount`: by paths of mounted files, which Envoy reads once ("a known limitation of the old settings", istio#33198; kyma#4587).
 */
export type GatewayForm = 'sds' | 'mount'

/** Which Secrets and keys hold the root CA. They differ by Kyma's release. */
export interface KymaProfile {
  /** The connector's: it signs with this CA. */
  readonly signer: {
    readonly namespace: string
    readonly secret: string
    readonly certificateKey: string
    readonly privateKey: string
  }
  /** The gateway's: it verifies clients with what this one key holds. */
  readonly gateway: {
    readonly namespace: string
    readonly secret: string
    readonly key: string
    readonly form: GatewayForm
    /** `tls.credentialName` of the Gateway; null where it names files. */
    readonly credential: string | null
    /** Deployment of the ingress gateway, in the same namespace. */
    readonly deployment: string
  }
}

/** The signer's Secret has had these names in every release. */
const signer: KymaProfile['signer'] = {
  namespace: 'kyma-integration',
  secret: 'connector-service-app-ca',
  certificateKey: 'ca.crt',
  privateKey: 'ca.key',
}

function profile(secret: string, key: string, credential: string | null): KymaProfile {
  return {
    signer,
    gateway: {
      namespace: 'istio-system',
      secret,
      key,
      form: credential === null ? 'mount' : 'sds',
      credential,
      deployment: 'istio-ingressgateway',
    },
  }
}

/**
 * By what a user can tell: the runbook's own names, and the releases. Kyma 1.0 is not among them: there nginx verified clients, which has no place in
 * an Istio gateway.
 */
export const kymaProfiles = {
  // docs of 2019: no release tag holds these names; that the Secret is mounted is inferred from 1.2.
  runbook: profile('kyma-gateway-ca-certs', 'ca.crt', null),
  // kyma 1.2 resources/application-connector: caCertificates: /etc/istio/application-connector-ca-certs/ca.crt
  '1.2': profile('application-connector-ca-certs', 'ca.crt', null),
  // 1.4 to 1.10: its documents say ca.crt, its chart says cacert, and Istio reads cacert first.
  '1.4': profile('application-connector-certs', 'cacert', 'application-connector-certs'),
  // 1.11 to 1.14, and 2.x
  '1.11': profile('kyma-gateway-certs-cacert', 'cacert', 'kyma-gateway-certs'),
  // 1.18 to 1.24: the server certificate is patched into the same Secret by certs-sync.
  '1.18': profile('app-connector-certs', 'cacert', 'app-connector-certs'),
} as const satisfies Readonly<Record<string, KymaProfile>>

export type ProfileName = keyof typeof kymaProfiles

export const profileNames = Object.keys(kymaProfiles) as readonly ProfileName[]

/** Where Istio looks for the CA of a credential name, in this order (istio pilot/pkg/credentials/kube/secrets.go). */
export function secretsOfCredential(credential: string): readonly [string, string] {
  return [`${credential}-cacert`, credential]
}

/** Keys in which Istio looks for a CA: the first that is there counts, and an empty one is an error. */
export const istioCaKeys = ['cacert', 'ca.crt'] as const

/** Why a gateway of this profile would never see its Secret; null: it does. `kyma-gateway-ca-certs` does not end in `-cacert`. */
export function unseenSecret({ gateway }: KymaProfile): string | null {
  if (gateway.form === 'mount') return null
  if (gateway.credential === null) return 'the Gateway is said to take its CA by a credential name, and none is given'
  const looked = secretsOfCredential(gateway.credential)
  if (!looked.includes(gateway.secret))
    return `for credentialName ${gateway.credential} Istio reads Secret ${looked.join(' or ')}, never ${gateway.secret}`
  if (!istioCaKeys.some(key => key === gateway.key))
    return `for a credential name Istio reads the keys ${istioCaKeys.join(' and ')}, never ${gateway.key}`
  return null
}

export function signerId({ signer }: Pick<KymaProfile, 'signer'>): string {
  return `Secret ${signer.namespace}/${signer.secret}`
}

export function gatewayId({ gateway }: Pick<KymaProfile, 'gateway'>): string {
  return `Secret ${gateway.namespace}/${gateway.secret}`
}
