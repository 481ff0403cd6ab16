import type { Digest, Evidence } from '../rotation.ts'
import { type AllowedSigner, readAllowedSigner } from '../signature/allowed-signers.ts'
import { keyFingerprint } from '../signature/public-key.ts'
import { type ReadSignature, readSignature, type Signer, signatureHolds, signMessage } from '../signature/sshsig.ts'
import { WireError } from '../signature/wire.ts'
import { canonicalJson, sha256 } from './values.ts'

/** Who signed evidence, as far as that can be told. */
export interface Authorship {
  /** signed: by one of the signers. unchecked: it holds, and no signers are declared. refused: it counts for nothing. */
  readonly kind: 'unsigned' | 'signed' | 'unchecked' | 'refused'
  /** Name of the signer, where kind is `signed`. */
  readonly by: string | null
  /** Of the key, as `ssh-keygen -l` shows it; null where there is no signature that can be read. */
  readonly key: string | null
  /** Why it was refused. */
  readonly why: string | null
}

/** Keeps a signature of anything else, such as a commit, from being shown for one of evidence. */
export const evidenceNamespace = 'reanchor-evidence'

/** SHA-256 over all of it as canonical JSON. Digests detect damage; authorship needs a signature. */
export function evidenceDigest(evidence: Evidence): Digest {
  return sha256(canonicalJson(evidence))
}

/** What is signed: plain lines, so that whoever doubts can write them and ask ssh-keygen. The digest covers everything; the rest is for people. */
export function evidenceStatement(evidence: Evidence): string {
  const { rotation, site, phase, step, cluster, to } = evidence
  return [
    'reanchor.dev/v1alpha1 evidence',
    `rotation ${rotation}`,
    `site ${site}`,
    `phase ${phase}`,
    `step ${step}`,
    `cluster ${cluster.uid}`,
    `seen ${to}`,
    `digest ${evidenceDigest(evidence)}`,
    '',
  ].join('\n')
}

export async function signEvidence(signer: Signer, evidence: Evidence): Promise<string> {
  return await signMessage(signer, evidenceStatement(evidence), evidenceNamespace)
}

/**
 * Whose word a piece of evidence is. `signers` are lines of an allowed-signers file; of none, a signature that holds is `unchecked`. A signer's times are
 * held against the time of the evidence: who signed while it might goes on counting after its key was replaced.
 */
export function authorshipOf(evidence: Evidence, signature: string | null, signers: readonly string[]): Authorship {
  if (signature === null) return { kind: 'unsigned', by: null, key: null, why: null }
  let read: ReadSignature
  try {
    read = readSignature(signature)
  } catch (error) {
    if (!(error instanceof WireError)) throw error
    return { kind: 'refused', by: null, key: null, why: `its signature cannot be read: ${error.message}` }
  }
  const key = keyFingerprint(read.publicKey.blob)
  const refused = (why: string): Authorship => ({ kind: 'refused', by: null, key, why })
  if (read.namespace !== evidenceNamespace)
    return refused(`it is signed for ${JSON.stringify(read.namespace.slice(0, 60))}, not for ${evidenceNamespace}`)
  if (!signatureHolds(read, evidenceStatement(evidence)))
    return refused(`the signature by ${key} is not one of this evidence`)
  if (signers.length === 0) return { kind: 'unchecked', by: null, key, why: null }
  const known = signers.map(readAllowedSigner).filter(signer => 'publicKey' in signer)
  const ours = known.filter(signer => signer.publicKey.blob.equals(read.publicKey.blob))
  if (ours.length === 0) return refused(`it is signed by ${key}, which is none of evidence.signers`)
  const problems = ours.map(signer => timeProblem(signer, evidence))
  const allowed = ours[problems.indexOf(null)]
  return allowed === undefined
    ? refused(problems[0] ?? 'its signer may not sign it')
    : { kind: 'signed', by: allowed.name, key, why: null }
}

function timeProblem({ name, namespaces, validAfter, validBefore }: AllowedSigner, evidence: Evidence): string | null {
  if (namespaces !== null && !namespaces.includes(evidenceNamespace))
    return `${name} may sign for ${namespaces.join(', ')} only`
  const seen = Date.parse(evidence.to)
  if (validAfter !== null && seen < Date.parse(validAfter))
    return `${name} may sign from ${validAfter} on, and it is from ${evidence.to}`
  if (validBefore !== null && seen >= Date.parse(validBefore))
    return `${name} might sign until ${validBefore}, and it is from ${evidence.to}`
  return null
}

/** For people: `signed by ci (SHA256:…)`. */
export function authorshipText({ kind, by, key, why }: Authorship): string {
  if (kind === 'signed') return `signed by ${by} (${key})`
  if (kind === 'unchecked') return `signed by ${key}, and rotation.yaml names no signers`
  return kind === 'unsigned' ? 'unsigned' : `not counted: ${why}`
}
