import type { CertificateFacts, CertificateRole, Fingerprint, PlannedCertificate } from '../rotation.ts'
import type { CertificateName } from './report-view.ts'

const names: Readonly<Record<CertificateRole, string>> = {
  'old-root': 'old root',
  'old-issuing': 'old issuing CA',
  'new-root': 'new root',
  'new-issuing': 'new issuing CA',
  chain: 'CA of the chain',
}

/** Names for the certificates of a plan and for those that evidence brings along. */
export function certificateNames(
  planned: readonly Pick<PlannedCertificate, 'sha256' | 'subject' | 'role'>[],
  seen: readonly Pick<CertificateFacts, 'sha256' | 'subject'>[],
): (sha256: Fingerprint) => CertificateName {
  const known = new Map<Fingerprint, CertificateName>()
  for (const { sha256, subject } of seen) known.set(sha256, { sha256, subject, name: 'CA', side: 'other' })
  for (const { sha256, subject, role } of planned)
    known.set(sha256, { sha256, subject, name: names[role], side: sideOf(role) })
  return sha256 => known.get(sha256) ?? { sha256, subject: '', name: 'CA', side: 'other' }
}

function sideOf(role: CertificateRole): CertificateName['side'] {
  if (role === 'chain') return 'other'
  return role.startsWith('old') ? 'old' : 'new'
}
