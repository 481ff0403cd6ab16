import { randomBytes } from 'node:crypto'
import { createRoot, serialFrom, systemKeys } from '../../../src/pki/authority.ts'
import type { Certificate } from '../../../src/pki/certificate.ts'
import { issuerKeyPem } from '../../../src/systems/linkerd/issuer-secret.ts'
import { createLinkerdIssuer, createLinkerdRoot, type LinkerdIssuer } from '../../../src/systems/linkerd/next-ca.ts'

export const now = new Date('2026-11-22T06:00:00Z')
export const names = { namespace: 'linkerd', trustDomain: 'cluster.local' }
export const means = { now, random: randomBytes, keys: systemKeys }

/** A root and an issuer below it, as both runbooks make them with step. */
export async function linkerdCa(subject: string, at: Date = now, days = 3650): Promise<LinkerdIssuer> {
  const own = { ...means, now: at }
  const root = await createLinkerdRoot({ subject, algorithm: 'ecdsa-p256', validityDays: days }, own)
  return await createLinkerdIssuer(root, names, Math.min(days, 365), own)
}

/** What `linkerd install` makes for itself: one certificate that is root and issuer at once, and whose key is thrown away. */
export async function selfMadeCa(): Promise<{ readonly certificate: Certificate; readonly key: string }> {
  const key = await systemKeys.generate('ecdsa-p256')
  const certificate = await createRoot({
    subject: 'CN=identity.linkerd.cluster.local',
    key,
    serial: serialFrom(randomBytes),
    notBefore: new Date('2026-01-01T00:00:00Z'),
    notAfter: new Date('2027-01-01T00:00:00Z'),
  })
  return { certificate, key: issuerKeyPem(key) }
}

/** `data.global` as a CLI install of stable-2.7 has it: compact, the PEM with its newline at the end. */
export function globalJson(anchors: string): string {
  return JSON.stringify({
    linkerdNamespace: 'linkerd',
    cniEnabled: false,
    version: 'stable-2.7.1',
    identityContext: {
      trustDomain: 'cluster.local',
      trustAnchorsPem: anchors,
      issuanceLifetime: '86400s',
      clockSkewAllowance: '20s',
      scheme: 'linkerd.io/tls',
    },
    autoInjectContext: null,
    omitWebhookSideEffects: false,
    clusterDomain: 'cluster.local',
  })
}
