import { exitCodes, ReanchorError } from '../../errors.ts'
import { type Certificate, isSignedBy } from '../../pki/certificate.ts'
import type { Fingerprint, Strategy } from '../../rotation.ts'

/** How today's CA stands, which decides what can still be done without an outage. */
export type LinkerdHealth = 'ok' | 'expiring' | 'issuer-expired' | 'root-expired' | 'not-yet-valid'

const warnDays = 60

export function healthOf(
  current: { readonly issuer: Certificate; readonly roots: readonly Certificate[] },
  now: Date,
): LinkerdHealth {
  // The anchor that signs counts: another one in the bundle may be an old one that was never taken out.
  const signing = current.roots.filter(root => root.sha256 === current.issuer.sha256 || isAbove(root, current.issuer))
  const anchors = signing.length > 0 ? signing : current.roots
  const certificates = [...anchors, current.issuer]
  if (anchors.every(root => root.parts.notAfter <= now)) return 'root-expired'
  if (current.issuer.parts.notAfter <= now) return 'issuer-expired'
  if (certificates.some(each => each.parts.notBefore > now)) return 'not-yet-valid'
  const soon = new Date(now)
  soon.setUTCDate(soon.getUTCDate() + warnDays)
  return certificates.some(each => each.parts.notAfter < soon) ? 'expiring' : 'ok'
}

function isAbove(root: Certificate, issuer: Certificate): boolean {
  return root.parts.subject.der.equals(issuer.parts.issuer.der) && isSignedBy(issuer, root)
}

/**
 * Refuses a plan that pretends an overlap which the material cannot give (F15): nothing verifies through an expired root, so no order of steps
 * keeps traffic. An expired issuer under a sound root is another matter: no trust has to move, only the issuer.
 */
export function refuseExpired(
  strategy: Strategy,
  current: { readonly issuer: Certificate; readonly roots: readonly Certificate[] },
  now: Date,
  object: string,
): void {
  const health = healthOf(current, now)
  if (strategy === 'emergency' || health === 'ok' || health === 'expiring') return
  const ended = health === 'root-expired' ? current.roots : [current.issuer]
  const found = ended.map(
    each => `${each.subject} ${health === 'not-yet-valid' ? `begins ${each.notBefore}` : `ended ${each.notAfter}`}`,
  )
  if (health === 'root-expired') {
    throw new ReanchorError({
      what: 'the trust root has expired: every handshake of the mesh fails already, and no order of steps can overlap with it',
      where: { object },
      expected: 'a root that holds until the rotation is through',
      found: found.join('; '),
      todo: 'choose strategy emergency with --accept-outage: it replaces root and issuer at once, and every workload restarts. Where webhook certificates have ended too, renew those first',
      exit: exitCodes.refused,
    })
  }
  if (health === 'issuer-expired') {
    if (strategy === 'issuer') return
    throw new ReanchorError({
      what: 'the issuer has expired while its root still holds: proxies get no leaf until it is replaced',
      where: { object },
      expected: 'an issuer that signs while both roots become trusted',
      found: found.join('; '),
      todo: 'choose strategy issuer if the root’s key is at hand: one step, no trust moves. If it is not, choose emergency',
      exit: exitCodes.refused,
    })
  }
  throw new ReanchorError({
    what: 'the CA in use is not valid yet',
    where: { object },
    found: found.join('; '),
    todo: 'look at the clock of this machine and at the dates of the certificates, then plan again',
    exit: exitCodes.refused,
  })
}

/** Roots that are trusted beside the one in use, such as those of other clusters: they stay in every bundle until a person takes them out. */
export function otherRoots(current: {
  readonly issuer: Certificate
  readonly roots: readonly Certificate[]
}): readonly Fingerprint[] {
  const signing = current.roots.filter(root => root.sha256 === current.issuer.sha256 || isAbove(root, current.issuer))
  if (signing.length === 0) return []
  return current.roots.filter(root => !signing.includes(root)).map(root => root.sha256)
}
