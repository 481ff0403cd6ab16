import { exitCodes, ReanchorError } from '../../errors.ts'
import { acceptRoot } from '../../pki/accept.ts'
import type { CurrentCa, NewCa } from '../../plan/ca.ts'
import type { Declaration } from '../../rotation.ts'
import { refuseEqualAliases } from './alias.ts'
import { idOf, refuseUnreadableKey, trustedEntries } from './ca-secret.ts'
import { checksumOf, factsOf, refuseUnfitRegions, refuseUnfitSecret, secretOf } from './material.ts'
import { refuseUnfitCa } from './next-ca.ts'
import { refuseStrategy } from './phases.ts'
import { cassandraOf } from './settings.ts'

/** Refuses, before anything is sealed, what a truststore, the operator or another region would not take. */
export function acceptCassandra(
  declaration: Declaration,
  current: Readonly<Record<string, CurrentCa>>,
  next: NewCa,
  now: Date,
): void {
  refuseStrategy(declaration.strategy)
  refuseCustody(declaration)
  const settings = cassandraOf(declaration)
  acceptRoot(next.root, now)
  const regions = Object.fromEntries(
    Object.entries(current).map(([site, ca]) => [site, { cluster: factsOf(ca), secret: secretOf(ca) }]),
  )
  for (const [site, live] of Object.entries(regions)) {
    const ca = current[site] as CurrentCa
    const fresh = next.sites[site]
    if (fresh === undefined) throw new Error(`no new CA for site ${site}`)
    refuseUnfitSecret(live, checksumOf(ca))
    refuseUnfitCa(fresh.issuer, `the new CA of site ${site}`)
    refuseUnreadableKey(fresh.key, fresh.issuer, `the new CA of site ${site}`)
    const entries = [...trustedEntries(live.secret)].map(([key, certificate]) => ({ key, certificate }))
    refuseEqualAliases(entries, fresh.issuer, `site ${site}, ${idOf(live.secret)}`)
    if (Date.parse(ca.issuer.notAfter) > now.getTime() || declaration.strategy === 'emergency') continue
    throw new ReanchorError({
      what: 'the CA in use has expired, and every node certificate with it, so there is no overlap to keep',
      where: { object: `site ${site}, CA ${ca.issuer.sha256}` },
      expected: 'a CA that is valid until all nodes trust the new one',
      found: `it ended ${ca.issuer.notAfter}`,
      todo: 'choose strategy emergency with --accept-outage: new connections fail already, and every node must restart',
      exit: exitCodes.refused,
    })
  }
  refuseUnfitRegions(
    regions,
    settings.ca,
    declaration.gates.attest.map(({ name }) => name),
  )
}

/**
 * SealedSecrets' controller writes annotations, labels and owners of the Secret anew each time it unseals, so the operator's checksum is lost
 * with every step, adopt among them, and all nodes restart once more (sealed-secrets pkg/controller/controller.go).
 */
function refuseCustody(declaration: Declaration): void {
  const kinds = [declaration.custody, ...declaration.sites.flatMap(site => site.custody ?? [])].map(({ kind }) => kind)
  if (!kinds.includes('sealedSecrets')) return
  throw new ReanchorError({
    what: 'the Sealed Secrets controller takes the operator’s annotations off the CA Secret at every unsealing, and each time all nodes restart for nothing',
    where: { field: 'spec.custody' },
    expected: 'sops',
    found: 'sealedSecrets',
    todo: 'seal with SOPS and age, which Flux opens itself; under Argo CD with ksops: true',
    exit: exitCodes.refused,
  })
}
