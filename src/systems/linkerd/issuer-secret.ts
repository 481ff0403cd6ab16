import { createPrivateKey, type KeyObject } from 'node:crypto'
import { exitCodes, ReanchorError } from '../../errors.ts'
import { joinPem, readBundle } from '../../pki/bundle.ts'
import type { Certificate } from '../../pki/certificate.ts'

/** Name of the Secret that identity reads its issuer from, in the control plane's namespace. */
export const issuerSecretName = 'linkerd-identity-issuer'

/** Secret in the site's folder that a HelmRelease takes the issuer's certificate and key from, where the chart makes identity's own. */
export const issuerValuesName = 'reanchor-linkerd-issuer'

/** The Secret that the site's folder delivers the issuer in, by a state's settings; its namespace where that is not the control plane's. */
export function deliveredIssuer(settings: Readonly<Record<string, string>>): {
  readonly name: string
  readonly namespace: string | null
} {
  if (settings.issuerFrom !== 'values') return { name: issuerSecretName, namespace: null }
  return { name: issuerValuesName, namespace: settings.valuesNamespace ?? null }
}

/**
 * The two forms of that Secret (linkerd2 pkg/k8s/labels.go). `linkerd.io/tls` is a scheme of identity's flags and never a type: the chart
 * makes such a Secret Opaque. `kubernetes.io/tls` is what --identity-external-issuer means.
 */
export const issuerSchemes = ['linkerd.io/tls', 'kubernetes.io/tls'] as const
export type IssuerScheme = (typeof issuerSchemes)[number]

interface SchemeKeys {
  readonly certificate: string
  readonly key: string
  /** Key of the trust anchors, which must be there and right: `linkerd check` compares them. */
  readonly anchors: string | null
}

export const schemeKeys: Readonly<Record<IssuerScheme, SchemeKeys>> = {
  'linkerd.io/tls': { certificate: 'crt.pem', key: 'key.pem', anchors: null },
  'kubernetes.io/tls': { certificate: 'tls.crt', key: 'tls.key', anchors: 'ca.crt' },
}

export interface IssuerMaterial {
  /** Issuing CA first, then what lies between it and the root. */
  readonly certificates: readonly string[]
  /** PEM of its key, or a value that custody sealed before. */
  readonly key: string
  readonly anchors: string
}

/** `data` of the Secret as text, key by key. Nothing else belongs in it. */
export function issuerData(scheme: IssuerScheme, material: IssuerMaterial): Readonly<Record<string, string>> {
  const keys = schemeKeys[scheme]
  return {
    ...(keys.anchors === null ? {} : { [keys.anchors]: material.anchors }),
    [keys.certificate]: joinPem(...material.certificates),
    [keys.key]: material.key,
  }
}

export interface ReadIssuer {
  readonly scheme: IssuerScheme
  readonly issuer: Certificate
  /** What stands behind the issuer in the same PEM: identity sends it along with every leaf. */
  readonly chain: readonly Certificate[]
  readonly key: string
  /** `ca.crt` of the external form, else null. */
  readonly anchors: string | null
}

/** Reads a live Secret, in the form that its keys tell. Errors carry no value of it. */
export function readIssuer(data: Readonly<Record<string, string>>, namespace: string): ReadIssuer {
  const object = `Secret ${namespace}/${issuerSecretName}`
  const scheme = schemeOf(data, object)
  const keys = schemeKeys[scheme]
  const text = (key: string): string => {
    const value = data[key]
    if (value !== undefined && value.trim() !== '') return value
    throw wrongKey(key, object, scheme)
  }
  const [issuer, ...chain] = readBundle(text(keys.certificate), {
    object: `${object} ${keys.certificate}`,
  }).certificates
  if (issuer === undefined) throw new Error('readBundle returned no certificate')
  const key = text(keys.key)
  checkKey(issuer, key, object)
  return { scheme, issuer, chain, key, anchors: keys.anchors === null ? null : text(keys.anchors) }
}

function schemeOf(data: Readonly<Record<string, string>>, object: string): IssuerScheme {
  const own = data['crt.pem'] !== undefined || data['key.pem'] !== undefined
  const external = data['tls.crt'] !== undefined || data['tls.key'] !== undefined
  if (own && external) {
    throw new ReanchorError({
      what: 'the issuer Secret has the keys of both forms, so its content depends on a flag of identity',
      where: { object },
      expected: 'crt.pem and key.pem, or ca.crt, tls.crt and tls.key',
      found: Object.keys(data).sort().join(', '),
      todo: 'take those out that the flag -identity-scheme of linkerd-identity does not name',
      exit: exitCodes.refused,
    })
  }
  return external ? 'kubernetes.io/tls' : 'linkerd.io/tls'
}

/** In linkerd2's own words (pkg/issuercerts/issuercerts.go). */
function wrongKey(key: string, object: string, scheme: IssuerScheme): ReanchorError {
  const holding =
    key === 'ca.crt' ? 'trust anchors' : key.endsWith('key') || key === 'key.pem' ? 'issuer key' : 'issuer certificate'
  const external = scheme === 'kubernetes.io/tls'
  return new ReanchorError({
    what: `key ${key} containing the ${holding} needs to exist in secret ${issuerSecretName} if --identity-external-issuer=${external}`,
    where: { object, field: `data["${key}"]` },
    todo: 'complete the Secret before the rotation: `linkerd check` does not pass without it either',
  })
}

function checkKey(issuer: Certificate, pem: string, object: string): void {
  let key: KeyObject
  try {
    key = createPrivateKey(pem)
  } catch {
    // The cause may hold key material, so it is not kept.
    throw new ReanchorError({
      what: "the issuer's private key cannot be read",
      where: { object },
      expected: 'an unencrypted PEM block: SEC1, PKCS#8 or PKCS#1',
      todo: 'take the key from its backup; where it is lost, plan strategy emergency',
    })
  }
  if (issuer.x509.checkPrivateKey(key)) return
  throw new ReanchorError({
    what: 'tls: Public and private key do not match',
    where: { object },
    expected: `the private key of ${issuer.subject} (SHA-256 ${issuer.sha256})`,
    todo: 'restore the Secret: identity runs on with what it read before, and dies at its next start',
  })
}

/** SEC1 (`EC PRIVATE KEY`), which every version reads; up to 2.8.1 identity crashes on PKCS#8. Secret: it goes to a custody only. */
export function issuerKeyPem(key: KeyObject): string {
  const form = key.asymmetricKeyType === 'ec' ? 'sec1' : 'pkcs1'
  return key.export({ type: form, format: 'pem' }).toString()
}
