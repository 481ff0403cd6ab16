import type { Cluster, KubernetesObject } from '../cluster/cluster.ts'
import { resources } from '../cluster/resources.ts'
import { readBundle } from '../pki/bundle.ts'
import { type Certificate, isSelfSigned } from '../pki/certificate.ts'
import type { Instant } from '../rotation.ts'
import { type Condition, condition } from '../verify/objects.ts'
import { at, instant, record, text } from '../verify/values.ts'
import type { Mint } from './certificate.ts'

/** What was seen of a Certificate without a look at its Secret: the requests that it made hold what was issued, in public. */
export interface MintSeen {
  readonly mint: Mint
  /** UID of the cluster. */
  readonly cluster: string
  /** When, by the API server's clock. */
  readonly seenAt: Instant
  /** Null: there is no such Certificate. */
  readonly certificate: SeenCertificate | null
  /** The CertificateRequests that it made, by revision. */
  readonly requests: readonly SeenRequest[]
}

export interface SeenCertificate {
  readonly generation: number | null
  readonly createdAt: Instant | null
  readonly deleted: boolean
  readonly spec: Readonly<Record<string, unknown>>
  readonly ready: SeenCondition | null
  /** It is being issued, anew or for the first time. */
  readonly issuing: SeenCondition | null
  /** How often it has been issued; null: not yet. */
  readonly revision: number | null
  readonly notAfter: Instant | null
  readonly renewalTime: Instant | null
}

/** With cert-manager's own words. */
export type SeenCondition = Pick<Condition, 'status' | 'observedGeneration' | 'message'>

export interface SeenRequest {
  readonly name: string
  readonly revision: number | null
  /** What was issued, leaf-ward first. Null: nothing yet, or it cannot be read. */
  readonly chain: readonly Certificate[] | null
  /** The self-signed one of what was issued and of what the issuer says is above. Null: neither tells it. */
  readonly root: Certificate | null
}

/** Looks at the Certificate and at what it was given. Reads no Secret. Throws ClusterError for what cannot be read. */
export async function observeMint(cluster: Cluster, mint: Mint): Promise<MintSeen> {
  const identity = await cluster.identity()
  const found = await cluster.get(resources.certificates, mint.namespace, mint.name)
  const requests: SeenRequest[] = []
  if (found !== null)
    for await (const page of cluster.list(resources.certificateRequests, { namespace: mint.namespace }))
      for (const request of page) if (isOf(request, found)) requests.push(requestOf(request))
  return {
    mint,
    cluster: identity.uid,
    seenAt: identity.now,
    certificate: found === null ? null : certificateOf(found),
    requests: requests.sort((one, other) => (one.revision ?? 0) - (other.revision ?? 0)),
  }
}

function certificateOf(found: KubernetesObject): SeenCertificate {
  const { metadata } = found
  return {
    generation: metadata.generation ?? null,
    createdAt: instant(metadata.creationTimestamp),
    deleted: metadata.deletionTimestamp !== undefined,
    spec: record(found.spec),
    ready: condition(found, 'Ready'),
    issuing: condition(found, 'Issuing'),
    revision: numberOf(at(found, 'status', 'revision')),
    notAfter: instant(at(found, 'status', 'notAfter')),
    renewalTime: instant(at(found, 'status', 'renewalTime')),
  }
}

/** A request belongs to the Certificate that owns it: a name may have been used before. */
function isOf(request: KubernetesObject, certificate: KubernetesObject): boolean {
  return (request.metadata.ownerReferences ?? []).some(
    ({ kind, uid }) => kind === 'Certificate' && uid !== undefined && uid === certificate.metadata.uid,
  )
}

function requestOf(found: KubernetesObject): SeenRequest {
  const object = `CertificateRequest ${found.metadata.namespace}/${found.metadata.name}`
  const revision = Number(found.metadata.annotations?.['cert-manager.io/certificate-revision'])
  const chain = certificatesOf(at(found, 'status', 'certificate'), object)
  const above = certificatesOf(at(found, 'status', 'ca'), object)
  return {
    name: found.metadata.name,
    revision: Number.isInteger(revision) ? revision : null,
    chain,
    root: [...(above ?? []), ...(chain ?? [])].find(isSelfSigned) ?? null,
  }
}

/** PEM in base64, as every field of bytes. Null where there is none, or what is there are no certificates. */
function certificatesOf(value: unknown, object: string): readonly Certificate[] | null {
  const encoded = text(value)
  if (encoded === null || encoded === '') return null
  try {
    const { certificates } = readBundle(Buffer.from(encoded, 'base64').toString(), { object, requireCa: false })
    return certificates.length === 0 ? null : certificates
  } catch {
    // What is in it decides nothing but that it cannot be read: the gate says so.
    return null
  }
}

function numberOf(value: unknown): number | null {
  return typeof value === 'number' ? value : null
}
