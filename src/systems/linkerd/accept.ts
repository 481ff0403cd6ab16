import { acceptIssuing, acceptRoot, acceptSuccessor } from '../../pki/accept.ts'
import type { CurrentCa, NewCa, NextCa } from '../../plan/ca.ts'
import type { Declaration } from '../../rotation.ts'
import { refuseExpired } from './health.ts'
import { acceptLinkerdCa } from './next-ca.ts'
import { linkerdOf } from './settings.ts'
import { linkerdVersion, refuseFlow, rulesOf } from './version.ts'

/** Refuses a flow that the version has no place for, material that identity or a proxy would not take, and an overlap that cannot be. */
export function acceptLinkerd(
  declaration: Declaration,
  current: Readonly<Record<string, CurrentCa>>,
  next: NewCa,
  now: Date,
): void {
  const linkerd = linkerdOf(declaration)
  const version = linkerdVersion(linkerd.version)
  refuseFlow(linkerd.flow, version, linkerd.install !== 'manifests')
  acceptRoot(next.root, now)
  for (const site of declaration.sites) {
    const ca = next.sites[site.name] as NextCa
    acceptIssuing(ca.issuer, { root: next.root, chain: ca.chain, now })
    acceptLinkerdCa(ca, linkerd, rulesOf(version))
    const before = current[site.name]
    if (before === undefined) continue
    const object = `site ${site.name}`
    for (const root of before.roots) acceptSuccessor(root, next.root, { object })
    refuseExpired(declaration.strategy, before, now, object)
  }
}
