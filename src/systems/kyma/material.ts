import type { Cluster, KubernetesObject } from '../../cluster/cluster.ts'
import { resources } from '../../cluster/resources.ts'
import { exitCodes, ReanchorError } from '../../errors.ts'
import { valuesAnnotation } from '../../names.ts'
import { readPrivateKey } from '../../pki/authority.ts'
import { joinPem, readBundle } from '../../pki/bundle.ts'
import type { Certificate } from '../../pki/certificate.ts'
import {
  gatewayId,
  istioCaKeys,
  type KymaProfile,
  kymaProfiles,
  profileNames,
  signerId,
  unseenSecret,
} from './profile.ts'

/** Today's material of one site, as its two Secrets hold it. */
export interface LiveKyma {
  readonly signer: Certificate
  /** Text of the signing key, byte for byte. */
  readonly key: string
  /** What the gateway trusts, in order, repeats kept. */
  readonly bundle: readonly Certificate[]
  /** Texts as they stand, for `adopt`, which changes no byte. */
  readonly texts: { readonly signer: string; readonly gateway: string }
  /** Immutable in Kubernetes, so they are taken over. */
  readonly types: { readonly signer: string; readonly gateway: string }
  /** Keys of the two Secrets beside those of the profile: they stay as they are. */
  readonly otherKeys: { readonly signer: readonly string[]; readonly gateway: readonly string[] }
}

/** Texts and types of today's Secrets, as `CurrentCa.extra` and `CurrentCa.settings` carry them. */
export const carried = {
  signerText: 'signer-text',
  gatewayText: 'gateway-text',
  signerType: 'signer-type',
  gatewayType: 'gateway-type',
  otherSignerKeys: 'other-signer-keys',
  overrides: 'overrides',
} as const

/** Reads the two Secrets. Throws ReanchorError where either is missing, or holds what connector and gateway would not read as a person expects. */
export async function liveKyma(cluster: Cluster, profile: KymaProfile): Promise<LiveKyma> {
  const unseen = unseenSecret(profile)
  if (unseen !== null)
    throw refused('a gateway that would never see this Secret', gatewayId(profile), {
      expected: 'the Secret and key that its Gateway names',
      found: unseen,
      todo: 'set spec.kyma.profile, or the names under spec.kyma.gateway, as the Gateway kyma-gateway-application-connector has them',
    })
  const { signer, gateway } = profile
  const signing = await cluster.get(resources.secrets, signer.namespace, signer.secret)
  if (signing === null)
    throw refused("the connector's Secret does not exist", signerId(profile), {
      expected:
        'the Secret that the setup job makes: while either Secret is missing it makes a new CA and overwrites both',
      todo: 'check spec.kyma.signer and the cluster of this site',
    })
  const verifying = await cluster.get(resources.secrets, gateway.namespace, gateway.secret)
  if (verifying === null) throw await noGatewaySecret(cluster, profile)
  return readKyma(profile, signing, verifying)
}

export function readKyma(profile: KymaProfile, signing: KubernetesObject, verifying: KubernetesObject): LiveKyma {
  const signerTexts = dataOf(signing)
  const gatewayTexts = dataOf(verifying)
  const { signer, gateway } = profile
  for (const secret of [signing, verifying]) refuseRenewedElsewhere(secret)
  const certificateText = filled(signerTexts, signer.certificateKey, signerId(profile))
  const key = filled(signerTexts, signer.privateKey, signerId(profile))
  const certificate = signingCertificate(certificateText, profile)
  refuseUnusableKey(key, certificate, profile)
  if (gateway.form === 'sds') refuseShadowedKey(gatewayTexts, profile)
  const text = filled(gatewayTexts, gateway.key, gatewayId(profile))
  const bundle = readBundle(text, { object: `${gatewayId(profile)} data["${gateway.key}"]`, allowRepeats: true })
  if (!bundle.anchors.has(certificate.sha256))
    throw refused('the gateway does not trust the CA that the connector signs with', gatewayId(profile), {
      expected: `${certificate.subject} (${certificate.sha256}) among what it trusts`,
      found: [...bundle.anchors].join(', '),
      todo: `add that certificate to data["${gateway.key}"] first: whoever has renewed since is refused now`,
    })
  return {
    signer: certificate,
    key,
    bundle: bundle.certificates,
    texts: { signer: certificateText, gateway: text },
    types: { signer: typeOf(signing), gateway: typeOf(verifying) },
    otherKeys: {
      signer: Object.keys(signerTexts)
        .filter(name => name !== signer.certificateKey && name !== signer.privateKey)
        .sort(),
      gateway: Object.keys(gatewayTexts)
        .filter(name => name !== gateway.key)
        .sort(),
    },
  }
}

/** What a controller makes it makes again: mid-rotation it would put a CA of its own in the place of the planned one (F16). */
function refuseRenewedElsewhere({ metadata }: KubernetesObject): void {
  const { annotations = {}, labels = {}, ownerReferences = [] } = metadata
  const certificate = annotations['cert-manager.io/certificate-name']
  const owner = ownerReferences.find(({ kind }) => ['Certificate', 'ExternalSecret', 'SecretStore'].includes(kind))
  // Marked by the controller; one of a site's folder has our marks as well, and is Git's own.
  const fetched =
    labels['reconcile.external-secrets.io/managed'] === 'true' && annotations[valuesAnnotation] === undefined
  if (certificate === undefined && owner === undefined && !fetched) return
  const made = certificate === undefined ? `ExternalSecret ${metadata.name}` : `Certificate ${certificate}`
  const by = owner === undefined ? made : `${owner.kind} ${owner.name}`
  throw refused('a controller renews this Secret by itself', `Secret ${metadata.namespace}/${metadata.name}`, {
    expected: 'a Secret that nobody writes but the setup job once, and then Git',
    found: by,
    todo: `let ${by} go and keep the Secret: cert-manager leaves it where its Certificate is deleted (unless --enable-certificate-owner-ref is set), and then take its annotations and owner off`,
  })
}

/** The connector reads the first PEM block and drops the rest in silence (connector-service certificates.go), so its Secret never holds a bundle. */
function signingCertificate(text: string, profile: KymaProfile): Certificate {
  const { certificates } = readBundle(text, {
    object: `${signerId(profile)} data["${profile.signer.certificateKey}"]`,
    allowRepeats: true,
  })
  const [first, ...others] = certificates
  if (first === undefined) throw new Error('readBundle returned no certificate')
  if (others.length === 0) return first
  throw refused("the connector's Secret holds more than one certificate", signerId(profile), {
    expected:
      'the CA that signs, alone: the connector signs in the name of the first block and never looks at the others',
    found: certificates.map(each => `${each.subject} (${each.sha256})`).join(', '),
    todo: 'leave in the certificate of the key that is there; old certificates belong into the Secret of the gateway',
  })
}

function refuseUnusableKey(text: string, certificate: Certificate, profile: KymaProfile): void {
  const object = `${signerId(profile)} data["${profile.signer.privateKey}"]`
  const key = readPrivateKey(text, { object })
  if (key.asymmetricKeyType !== 'rsa')
    throw refused('a key that the connector cannot use', object, {
      expected: 'RSA, as PKCS#1 or PKCS#8: it gives up on any other',
      found: key.asymmetricKeyType ?? 'unknown',
      todo: 'put the RSA key back that belongs to the certificate',
    })
  if (certificate.x509.checkPrivateKey(key)) return
  throw refused('key and certificate do not match', signerId(profile), {
    expected: `the private key of ${certificate.subject} (${certificate.sha256})`,
    found: 'a key of another certificate',
    todo: 'put back the pair that belongs together, in one change',
  })
}

/** The first of Istio's keys that is there counts, so a `ca.crt` beside a `cacert` is never looked at. */
function refuseShadowedKey(data: Readonly<Record<string, string>>, profile: KymaProfile): void {
  const read = istioCaKeys.find(key => data[key] !== undefined)
  if (read === undefined || read === profile.gateway.key) return
  throw refused('Istio reads another key of this Secret', gatewayId(profile), {
    expected: `key ${profile.gateway.key} alone`,
    found: `key ${read} too, which Istio looks for first`,
    todo: `set spec.kyma.gateway.key to ${read}, or take that key out of the Secret`,
  })
}

async function noGatewaySecret(cluster: Cluster, profile: KymaProfile): Promise<ReanchorError> {
  const there: string[] = []
  for (const name of profileNames) {
    const other = kymaProfiles[name].gateway
    if (other.secret === profile.gateway.secret) continue
    if ((await cluster.metadata(resources.secrets, other.namespace, other.secret)) !== null)
      there.push(`${other.secret} (profile ${name})`)
  }
  return refused("the gateway's Secret does not exist", gatewayId(profile), {
    expected: 'the Secret that the Gateway verifies clients with: its name differs by release',
    ...(there.length === 0 ? {} : { found: there.join(', ') }),
    todo: 'set spec.kyma.profile to the one that fits, or the names under spec.kyma.gateway',
  })
}

function filled(data: Readonly<Record<string, string>>, key: string, object: string): string {
  const value = data[key]
  if (value !== undefined && value.trim() !== '') return value
  throw refused(value === undefined ? `no key ${key}` : `key ${key} is empty`, object, {
    expected: 'a value: an empty one makes the gateway refuse everybody',
    found: `the keys ${Object.keys(data).sort().join(', ') || '(none)'}`,
    todo: 'see spec.kyma: the keys differ by release (ca.crt, cacert); an empty cacert is what the chart of Kyma 1.12 renders',
  })
}

/** What a key of a Secret holds: blocks alone, each ending with one newline, so that nothing that is appended is ever glued to it. */
export function bundleText(certificates: readonly Certificate[]): string {
  return joinPem(...certificates.map(each => each.pem))
}

function typeOf(object: KubernetesObject): string {
  return typeof object.type === 'string' ? object.type : 'Opaque'
}

function dataOf(secret: KubernetesObject): Readonly<Record<string, string>> {
  const data = (secret.data ?? {}) as Record<string, string | null>
  return Object.fromEntries(
    Object.entries(data).map(([key, value]) => [key, Buffer.from(value ?? '', 'base64').toString()]),
  )
}

function refused(
  what: string,
  object: string,
  parts: { readonly expected: string; readonly found?: string; readonly todo: string },
): ReanchorError {
  return new ReanchorError({ what, where: { object }, ...parts, exit: exitCodes.refused })
}
