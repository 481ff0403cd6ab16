import { exitCodes, ReanchorError } from '../../errors.ts'
import type { CurrentCa, NewCa } from '../../plan/ca.ts'
import type { Declaration, NextSource } from '../../rotation.ts'
import type { NewCaMeans } from '../system.ts'
import { carried } from './material.ts'
import { acceptKymaCa, generateKymaCa, type KymaCa, keepsKey, kymaCaFromFiles, renewKymaCa } from './next-ca.ts'
import { removalCommand } from './overrides.ts'
import { issuerMissing } from './phases.ts'
import { applicationsAttested, kymaOf } from './settings.ts'

/** The one new CA of a declaration: for the key in use, or for a new one. Its key is in the connector's Secret, so no root's key is kept elsewhere. */
export async function newKymaCa(
  declaration: Declaration,
  next: Extract<NextSource, { from: 'generate' | 'files' }>,
  means: NewCaMeans,
): Promise<NewCa> {
  const { certificate, key } = await madeCa(declaration, next, means)
  const ca = { root: certificate, issuer: certificate, chain: [], key }
  return {
    sites: Object.fromEntries(declaration.sites.map(({ name }) => [name, ca])),
    rootKey: null,
    root: certificate,
  }
}

async function madeCa(
  declaration: Declaration,
  next: Extract<NextSource, { from: 'generate' | 'files' }>,
  means: NewCaMeans,
): Promise<KymaCa> {
  if (next.from === 'files') return kymaCaFromFiles(filesOf(next), means.read)
  if (keepsKey(declaration.strategy, kymaOf(declaration).compromised))
    return await renewKymaCa(oneCa(means.current), next.validityDays, means)
  if (next.algorithm !== 'rsa-4096')
    throw new ReanchorError({
      what: 'a key that the connector cannot use',
      where: { field: 'spec.next.generate.algorithm' },
      expected: 'rsa-4096: the connector reads RSA keys only',
      found: next.algorithm,
      todo: 'leave the field out, or set it to rsa-4096',
    })
  return await generateKymaCa(next, means)
}

function filesOf(next: Extract<NextSource, { from: 'files' }>): { readonly certificate: string; readonly key: string } {
  const [files, ...others] = Object.values(next.issuing)
  if (files !== undefined && others.length === 0) return { certificate: files.certificate, key: files.key }
  throw new ReanchorError({
    what: 'one CA is wanted, which signs and is trusted at once',
    where: { field: 'spec.next.files.issuing' },
    expected: 'one entry, under "*"',
    found: Object.keys(next.issuing).join(', ') || 'none',
    todo: 'give certificate and key of the new CA there',
  })
}

/** The CA in use: one for all sites, or a renewal would be several. */
function oneCa(current: NewCaMeans['current']): KymaCa {
  const all = Object.entries(current)
  const [first] = all
  if (first === undefined) throw new Error('no material at hand')
  const [site, ca] = first
  const other = all.find(([, each]) => each.issuer.sha256 !== ca.issuer.sha256)
  if (other !== undefined)
    throw new ReanchorError({
      what: 'sites with CAs of their own cannot be renewed in one rotation',
      where: { field: 'spec.sites' },
      expected: 'sites that share one CA',
      found: `${site}: ${ca.issuer.sha256}; ${other[0]}: ${other[1].issuer.sha256}`,
      todo: 'declare a rotation for each',
      exit: exitCodes.refused,
    })
  if (ca.key !== null) return { certificate: ca.issuer, key: ca.key }
  throw new ReanchorError({
    what: 'a renewal signs with the key in use, which is not at hand',
    where: { field: 'spec.current' },
    expected: 'from: cluster, or files with the key',
    todo: 'let plan read the cluster: current: {from: cluster}',
  })
}

/** Refuses, before anything is sealed, what connector, gateway or clients would not take. */
export function acceptKyma(
  declaration: Declaration,
  current: Readonly<Record<string, CurrentCa>>,
  next: NewCa,
  now: Date,
): void {
  if (declaration.strategy === 'issuer')
    throw new ReanchorError({
      ...issuerMissing,
      where: { field: 'spec.strategy' },
      found: 'issuer',
      exit: exitCodes.refused,
    })
  const { compromised, leafDays, applications } = kymaOf(declaration)
  if (applications) refuseUnvouched(declaration)
  for (const [site, ca] of Object.entries(current)) {
    refuseOverridden(site, ca)
    acceptKymaCa(ca.issuer, next.root, { strategy: declaration.strategy, compromised, leafHours: leafDays * 24, now })
    if (Date.parse(ca.issuer.notAfter) > now.getTime() || declaration.strategy === 'emergency') continue
    throw new ReanchorError({
      what: 'the CA in use has expired: every client is refused already, and cannot renew through the gateway that refuses it',
      where: { object: `site ${site}, CA ${ca.issuer.sha256}` },
      expected: 'a CA that is valid until every client has a certificate of the new one',
      found: `it ended ${ca.issuer.notAfter}`,
      todo: 'choose strategy emergency with compromised: certificate: with the key and subject kept, certificates that are valid still work at once',
      exit: exitCodes.refused,
    })
  }
}

/** The setup job would write the old CA over both Secrets at the next upgrade of Kyma, be that in mid-rotation or a year later. */
function refuseOverridden(site: string, { settings }: CurrentCa): void {
  const overrides = settings[carried.overrides] ?? ''
  if (overrides === '') return
  throw new ReanchorError({
    what: 'an override of Kyma’s installer holds the CA, which the next upgrade writes over both Secrets: the rotation would be undone',
    where: { object: `site ${site}` },
    expected: 'no override global.applicationConnectorCa: with both Secrets complete the setup job leaves them alone',
    found: overrides,
    todo: `take both out first: ${overrides.split('; ').map(removalCommand).join(' && ')}`,
    exit: exitCodes.refused,
  })
}

/** No resource lists applications, so either a person vouches for them or somebody says that there are none. */
function refuseUnvouched({ gates }: Declaration): void {
  if (gates.attest.some(({ name }) => name === applicationsAttested)) return
  throw new ReanchorError({
    what: 'nobody vouches for the applications that hold client certificates, and no resource lists them',
    where: { field: 'spec.gates.attest' },
    expected: `an entry ${applicationsAttested}, or spec.kyma.applications: none`,
    found: gates.attest.map(({ name }) => name).join(', ') || 'no entry',
    todo: 'say who will vouch that all of them have renewed, or that only runtimes hold certificates',
    example: `attest: [{name: ${applicationsAttested}, why: their owners renew them by hand}]`,
  })
}
