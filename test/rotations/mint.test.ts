import { readFileSync } from 'node:fs'
import { describe, expect, it, onTestFinished } from 'vitest'
import { merge, planAndMerge, type World } from '../../src/commands/demo.ts'
import { plan } from '../../src/commands/plan.ts'
import type { ReanchorError } from '../../src/errors.ts'
import { companyRoot, fingerprintOf, type Pair } from '../../src/rehearsal/certificates.ts'
import type { CertManagerSource, Declaration, FileTree, SystemName } from '../../src/rotation.ts'
import { goOn } from './drive.ts'
import { smallFleet } from './linkerd-fleet.ts'
import { wholeMatrix } from './matrix.ts'
import { type TestWorld, testWorld } from './world.ts'

const namespace = 'cert-manager'

function minted(change: Partial<CertManagerSource> = {}): (declaration: Declaration) => Declaration {
  return declaration => ({
    ...declaration,
    next: {
      from: 'certManager',
      issuer: { name: 'mesh-root-2026', kind: 'ClusterIssuer', group: 'cert-manager.io' },
      namespace,
      path: 'clusters/{site}',
      root: null,
      site: null,
      issuing: { algorithm: 'ecdsa-p256', subject: 'CN=minted issuing,L={site},O=Example', validityDays: 730 },
      ...change,
    },
  })
}

interface Made {
  readonly test: TestWorld
  readonly root: Pair
}

async function world(
  system: SystemName,
  seed: string,
  options: {
    readonly sites?: readonly string[]
    readonly change?: Partial<CertManagerSource>
    readonly selfSigned?: boolean
  } = {},
): Promise<Made> {
  const fleet = system === 'linkerd' ? { fleet: smallFleet } : {}
  const sites = options.sites === undefined ? {} : { sites: options.sites }
  const test = await testWorld({ system, seed, ...fleet, ...sites, change: minted(options.change) })
  onTestFinished(() => test.close())
  const now = test.world.context.now()
  const life = { notBefore: new Date(now.getTime() - 3_600_000), notAfter: new Date(now.getTime() + 3650 * 86_400_000) }
  const root = companyRoot('minting root', life)
  for (const site of test.world.rehearsal.sites.values()) {
    const of = (text: string): string => Buffer.from(text).toString('base64')
    site.kubectlApply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } })
    site.kubectlApply({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'mesh-root-2026', namespace },
      data: { 'tls.crt': of(root.certificate), 'tls.key': of(root.key) },
    })
    site.kubectlApply({
      apiVersion: 'cert-manager.io/v1',
      kind: 'ClusterIssuer',
      metadata: { name: 'mesh-root-2026' },
      spec: options.selfSigned === true ? { selfSigned: {} } : { ca: { secretName: 'mesh-root-2026' } },
    })
  }
  return { test, root }
}

function planned(of: World): Promise<unknown> {
  return plan(of.context, { rotation: of.rotation, base: null, rootKeyOut: null, chain: null, acceptOutage: false })
}

/** Opens the mint pull request and merges it. */
async function mergeMint(of: World): Promise<void> {
  await expect(planned(of)).rejects.toMatchObject({ exit: 3, what: 'cert-manager has to mint the new CA first' })
  const request = await of.forge.find(`reanchor/${of.rotation}/mint`)
  if (request === null) throw new Error('no mint pull request')
  await merge(of, request, of.requiredStatuses)
}

describe('a new CA from cert-manager', () => {
  it.each([
    { name: 'Istio', system: 'istio' as const },
    { name: 'Linkerd', system: 'linkerd' as const },
  ])(
    '$name: from the mint pull request to the closed rotation without one failed handshake',
    async ({ system }) => {
      const { test, root } = await world(system, 'mint')
      const { world: of } = test
      await mergeMint(of)
      // Merged, and not applied yet: the gate waits.
      await expect(planned(of)).rejects.toMatchObject({ exit: 3, what: 'cert-manager has not minted the new CA yet' })
      await of.rehearsal.run(15 * 60_000)
      const made = await planAndMerge(of)
      const secret = test.secret('eu-1', namespace, 'reanchor-first-eu-1')
      const issuing = fingerprintOf(secret['tls.crt'] ?? '')
      expect(made.certificates.find(each => each.role === 'new-issuing')?.sha256).toBe(issuing)
      expect(made.certificates.find(each => each.role === 'new-root')?.sha256).toBe(fingerprintOf(root.certificate))
      const steps = await goOn(of)
      expect(steps[0]).toBe('adopt/adopt')
      const { attempted, failed } = of.rehearsal.handshakes.counts
      expect(attempted).toBeGreaterThan(200)
      expect(failed).toBe(0)
    },
    900_000,
  )
})
