import type { Fingerprint, GateResult, Instant, KeyAlgorithm, Verdict } from '../rotation.ts'
import { differenceOf, type Mint } from './certificate.ts'
import type { MintSeen, SeenCertificate, SeenRequest } from './observe.ts'
import type { MintPin } from './pin.ts'

/** What the gate of a minted CA is held to. */
export interface MintWanted {
  /** Milliseconds that the rotation may take, and a leaf of the new CA lives. */
  readonly lasts: number
  /** What was seen before; null: this is the first look. */
  readonly pinned: MintPin | null
}

export interface MintVerdict {
  readonly gate: GateResult
  /** What the gate has seen; null unless it holds. */
  readonly pin: MintPin | null
}

interface Problem {
  readonly verdict: Exclude<Verdict, 'holds'>
  readonly because: string
  readonly hint: string
}

type Judged = Problem | { readonly issued: Issued }

interface Issued {
  readonly sha256: Fingerprint
  readonly root: Fingerprint | null
  readonly notAfter: Instant
}

const soon = 30_000

const keyTexts: Readonly<Record<KeyAlgorithm, string>> = {
  'ecdsa-p256': 'ECDSA P-256',
  'ecdsa-p384': 'ECDSA P-384',
  'rsa-4096': 'RSA 4096',
}

/**
 * Whether cert-manager has issued the new CA: once, as declared, and for longer than the rotation may take. Pure. `seen` null: the cluster could not be
 * read, for the reason `unseen`.
 */
export function judgeMint(mint: Mint, seen: MintSeen | null, wanted: MintWanted, unseen = ''): MintVerdict {
  const judged: Judged =
    seen === null
      ? {
          verdict: 'unknown',
          because: `${idOf(mint)} was not seen: ${unseen}`,
          hint: 'bind roles/cert-manager.yaml to whoever looks, and run this again',
        }
      : judge(mint, seen, wanted)
  const gate = {
    id: 'mint/issued',
    site: mint.site.name,
    claim: 'cert-manager has issued the new CA once, as declared, and renews it after the rotation at the earliest',
  }
  if ('issued' in judged && seen !== null) {
    const { site, namespace, name } = mint
    return {
      gate: { ...gate, verdict: 'holds', because: [], hint: null, retryAt: null, counted: { of: 1, conform: 1 } },
      pin: { site: site.name, namespace, name, ...judged.issued, cluster: seen.cluster, seenAt: seen.seenAt },
    }
  }
  const { verdict, because, hint } = judged as Problem
  const retryAt = verdict === 'pending' && seen !== null ? instantAfter(seen.seenAt, soon) : null
  return {
    gate: { ...gate, verdict, because: [because], hint, retryAt, counted: { of: 1, conform: 0 } },
    pin: null,
  }
}

/**
 * Whether cert-manager still holds what was taken over, for `status --live`. It opens and closes nothing: what is sealed is pinned, and stays. A Certificate that is gone was
 * cleaned up. Pure.
 */
export function judgeKept(mint: Mint, seen: MintSeen | null, pin: MintPin, unseen = ''): GateResult {
  const gate = {
    id: 'mint/kept',
    site: mint.site.name,
    claim: 'cert-manager has left the new CA as it was taken over',
    retryAt: null,
  }
  const found = (verdict: Verdict, because: readonly string[], hint: string | null): GateResult => ({
    ...gate,
    verdict,
    because,
    hint,
    counted: { of: 1, conform: verdict === 'holds' ? 1 : 0 },
  })
  if (seen === null)
    return found('unknown', [`${idOf(mint)} was not seen: ${unseen}`], 'nothing of the rotation waits for it')
  const { certificate, requests } = seen
  if (certificate === null) return found('holds', [], null)
  const newest = requests.findLast(({ chain }) => chain !== null)?.chain?.[0]?.sha256 ?? null
  const renewed = certificate.issuing?.status === 'True' || (certificate.revision ?? 1) > 1
  if (!renewed && (newest === null || newest === pin.sha256)) return found('holds', [], null)
  return found(
    'violated',
    [
      `${idOf(mint)} was renewed early: issued ${certificate.revision ?? 0} times, and holds ${newest ?? 'another certificate'}, no longer ${pin.sha256} (F16)`,
    ],
    'the rotation goes on with what it has sealed; find out who had it renewed, and that nobody uses the minted Secret',
  )
}

/** In this order: what comes later takes for granted what comes first. */
function judge(mint: Mint, { certificate, requests, seenAt }: MintSeen, { lasts, pinned }: MintWanted): Judged {
  if (certificate === null)
    return {
      verdict: 'pending',
      because: `there is no ${idOf(mint)} in the cluster of ${mint.site.name} yet`,
      hint: `see that Flux or Argo CD applies ${mint.file}, and that cert-manager is installed`,
    }
  const problem = notDeclared(mint, certificate) ?? notReady(mint, certificate) ?? notOnce(mint, certificate, requests)
  if (problem !== null) return problem
  const request = requests.find(({ revision }) => revision === 1)
  const [issued] = request?.chain ?? []
  if (request === undefined || issued === undefined)
    return {
      verdict: 'unknown',
      because: `what was issued to ${idOf(mint)} cannot be seen: ${request === undefined ? 'no CertificateRequest of revision 1' : `CertificateRequest ${request.name} holds no certificate`}`,
      hint: 'a CertificateRequest that was deleted does not come back: delete Certificate and Secret, and let Git bring a new one',
    }
  if (pinned !== null && pinned.sha256 !== issued.sha256)
    return {
      verdict: 'violated',
      because: `${idOf(mint)} holds ${issued.sha256}, while ${pinned.sha256} was seen ${pinned.seenAt} and is pinned (F16)`,
      hint: 'somebody had it made anew: find out who. To take the new one, abandon this rotation and declare another, which mints a CA of its own',
    }
  const misfit = notFit(mint, issued, certificate, { seenAt, lasts })
  if (misfit !== null) return misfit
  return {
    issued: { sha256: issued.sha256, root: request.root?.sha256 ?? null, notAfter: issued.notAfter },
  }
}

function notDeclared(mint: Mint, { spec, deleted }: SeenCertificate): Problem | null {
  const different = differenceOf(mint.manifest.spec, spec)
  if (deleted)
    return {
      verdict: 'violated',
      because: `${idOf(mint)} is being deleted`,
      hint: 'find out who deletes it; its file in Git brings it back, with a key of its own',
    }
  if (different === null) return null
  return {
    verdict: 'violated',
    because: `${idOf(mint)}: spec.${different} is not what ${mint.file} says`,
    hint: 'another writer, or an overlay, changed it: see `kubectl get -o yaml --show-managed-fields`',
  }
}

function notReady(mint: Mint, { generation, ready, issuing, revision }: SeenCertificate): Problem | null {
  const hint = `see \`kubectl describe certificate --namespace ${mint.namespace} ${mint.name}\``
  const pending = (found: string): Problem => ({
    verdict: 'pending',
    because: `${idOf(mint)} is not issued: ${found}`,
    hint,
  })
  if (issuing?.status === 'True' && revision === null) return pending(issuing.message || 'cert-manager is at it')
  if (issuing?.status === 'True')
    return {
      verdict: 'violated',
      because: `${idOf(mint)} is being issued again: ${issuing.message || 'condition Issuing is True'} (F16)`,
      hint: 'nobody but its first issuance may touch it before `plan` has taken it over: find out who had it renewed',
    }
  if (ready === null) return pending('cert-manager has not looked at it yet')
  if (ready.observedGeneration !== null && generation !== null && ready.observedGeneration !== generation)
    return pending(`condition Ready is of generation ${ready.observedGeneration}, the object has ${generation}`)
  if (ready.status !== 'True') return pending(ready.message || `condition Ready is ${ready.status}`)
  return null
}

function notOnce(mint: Mint, { revision }: SeenCertificate, requests: readonly SeenRequest[]): Problem | null {
  if (revision === null)
    return {
      verdict: 'unknown',
      because: `${idOf(mint)} does not say how often it was issued (status.revision)`,
      hint: 'reanchor knows cert-manager from 1.0 on',
    }
  const newest = Math.max(revision, ...requests.map(request => request.revision ?? 0))
  if (newest === 1) return null
  return {
    verdict: 'violated',
    because: `${idOf(mint)} was issued ${newest} times, so it was renewed before the rotation began (F16)`,
    hint: 'an issuer that shortens the life of what it signs makes cert-manager renew at once; see spec.duration and the issuer, then abandon this rotation and declare another, which mints a CA of its own',
  }
}

/** What consumers would refuse, and what ends or renews in mid-rotation (F28). */
function notFit(
  mint: Mint,
  issued: NonNullable<SeenRequest['chain']>[number],
  { notAfter, renewalTime }: SeenCertificate,
  { seenAt, lasts }: { readonly seenAt: Instant; readonly lasts: number },
): Problem | null {
  const object = `certificate ${issued.sha256} of ${idOf(mint)}`
  const violated = (because: string, hint: string): Problem => ({ verdict: 'violated', because, hint })
  if (!issued.ca) return violated(`${object} is no CA`, 'the issuer took isCA away: let it sign CAs, or name another')
  if (issued.key !== keyTexts[mint.algorithm])
    return violated(
      `${object} has a key ${issued.key}, not ${keyTexts[mint.algorithm]}`,
      'see spec.privateKey and the issuer',
    )
  if (notAfter !== issued.notAfter || renewalTime === null)
    return {
      verdict: 'unknown',
      because: `${idOf(mint)} says that it ends ${notAfter ?? 'never'} and renews ${renewalTime ?? 'never'}, while its certificate ends ${issued.notAfter}`,
      hint: 'cert-manager has not written its status yet; run this again',
    }
  const over = Date.parse(seenAt) + lasts
  const wanted = new Date(over).toISOString().slice(0, 10)
  if (Date.parse(issued.notAfter) <= over)
    return violated(
      `${object} ends ${issued.notAfter}, before the rotation and its leaves can be over, which may be ${wanted} (F28)`,
      'the issuer has shortened its life: let it sign for longer, or give spec.next.certManager.issuing.validity more days',
    )
  if (Date.parse(renewalTime) <= over)
    return violated(
      `${idOf(mint)} is renewed ${renewalTime}, before the rotation can be over, which may be ${wanted} (F16)`,
      'the issuer has shortened its life, so that cert-manager renews after two thirds of it: let it sign for longer',
    )
  return null
}

export function idOf({ namespace, name }: Pick<Mint, 'namespace' | 'name'>): string {
  return `Certificate ${namespace}/${name}`
}

function instantAfter(instant: Instant, milliseconds: number): Instant {
  return `${new Date(Date.parse(instant) + milliseconds).toISOString().slice(0, 19)}Z`
}
