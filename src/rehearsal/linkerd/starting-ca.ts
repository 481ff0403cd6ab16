import { type KeyObject, randomBytes } from 'node:crypto'
import { createIssuing, createRoot, serialFrom } from '../../pki/authority.ts'
import { systemKeys } from '../../pki/keys.ts'
import { issuerKeyPem } from '../../systems/linkerd/issuer-secret.ts'
import type { LinkerdFlow } from '../../systems/linkerd/version.ts'
import type { Pair } from '../certificates.ts'

/** The CA that a fleet was installed with: one root, which the repository shows, and an issuer, whose key it never held. */
export interface StartingIssuer {
  /** PEM. */
  readonly root: string
  /** Its key, which the person who installed Linkerd keeps: with it a new issuer can be made under the same root. */
  readonly rootKey: KeyObject
  /** One for all clusters: `linkerd install` was given the same files everywhere. */
  readonly issuer: Pair
}

const known = new Map<LinkerdFlow, Promise<StartingIssuer>>()

/**
 * Made once for each process and flow: the fleet's files show the root, and the person who installed Linkerd put the issuer into the cluster by
 * hand. Both runbooks give root and issuer one name, as step was told to then.
 */
export function startingIssuer(flow: LinkerdFlow): Promise<StartingIssuer> {
  const made = known.get(flow) ?? make(flow)
  known.set(flow, made)
  return made
}

async function make(flow: LinkerdFlow): Promise<StartingIssuer> {
  const name = 'identity.linkerd.cluster.local'
  const subject = flow === 'trust-roots' ? 'CN=root.linkerd.cluster.local' : `CN=${name}`
  const [rootKey, key] = await Promise.all([systemKeys.generate('ecdsa-p256'), systemKeys.generate('ecdsa-p256')])
  // Wide enough for any clock that a rehearsal begins with.
  const dates = (until: string) => ({
    notBefore: new Date('2024-01-01T00:00:00Z'),
    notAfter: new Date(until),
    serial: serialFrom(randomBytes),
  })
  const root = await createRoot({ subject, key: rootKey, pathLength: 1, ...dates('2040-01-01T00:00:00Z') })
  const issuer = await createIssuing({
    subject: `CN=${name}`,
    key,
    issuer: { certificate: root, key: rootKey },
    dns: [name],
    ...dates('2039-01-01T00:00:00Z'),
  })
  return { root: root.pem, rootKey, issuer: { certificate: issuer.pem, key: issuerKeyPem(key) } }
}
