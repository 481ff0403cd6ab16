import { exitCodes, ReanchorError } from '../../errors.ts'
import { acceptIssuing, acceptRoot, acceptSuccessor } from '../../pki/accept.ts'
import type { CurrentCa, NewCa, NextCa } from '../../plan/ca.ts'
import type { Declaration } from '../../rotation.ts'

/** Refuses material that no consumer would take, or that two consumers could not tell apart. */
export function acceptCas(
  declaration: Declaration,
  current: Readonly<Record<string, CurrentCa>>,
  next: NewCa,
  now: Date,
): void {
  acceptRoot(next.root, now)
  for (const site of declaration.sites) {
    const ca = next.sites[site.name] as NextCa
    acceptIssuing(ca.issuer, { root: next.root, chain: ca.chain, now })
    for (const root of current[site.name]?.roots ?? []) {
      acceptSuccessor(root, next.root, { object: `site ${site.name}` })
      if (Date.parse(root.notAfter) <= now.getTime() && declaration.strategy !== 'emergency') {
        throw new ReanchorError({
          what: 'the root in use has expired, so there is no overlap to keep',
          where: { object: `site ${site.name}, root ${root.sha256}` },
          expected: 'a root that is valid until both can be trusted',
          found: `it ended ${root.notAfter}`,
          todo: 'choose strategy emergency with --accept-outage: new connections fail already, and every proxy must restart',
          exit: exitCodes.refused,
        })
      }
    }
  }
}
