import { describe, expect, it, onTestFinished } from 'vitest'
import { check } from '../../src/commands/check.ts'
import { merge, planAndMerge, type World } from '../../src/commands/demo.ts'
import { keptGates } from '../../src/commands/mint.ts'
import { plan } from '../../src/commands/plan.ts'
import { loadRotation } from '../../src/commands/rotation.ts'
import { companyRoot, fingerprintOf, type Pair } from '../../src/rehearsal/certificates.ts'
import type { CertManagerSource, Declaration, SystemName } from '../../src/rotation.ts'
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
    readonly variant?: string
  } = {},
): Promise<Made> {
  const fleet = system === 'linkerd' ? { fleet: smallFleet } : {}
  const sites = options.sites === undefined ? {} : { sites: options.sites }
  const test = await testWorld({
    system,
    seed,
    ...fleet,
    ...sites,
    ...(options.variant === undefined ? {} : { variant: options.variant }),
    ...((options.sites ?? []).length > 1 ? { sharedRoot: true } : {}),
    // A rotation of Kyma lasts days, in which clients renew.
    ...(system === 'kyma' ? { daysAgo: 30 } : {}),
    change: minted(options.change),
  })
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

/** As `cmctl renew` asks for it. */
function renew({ site }: TestWorld, name: string, certificate: string): void {
  const { store } = site(name)
  const live = store.get('cert-manager.io', 'Certificate', namespace, certificate)
  if (live === null) throw new Error('no Certificate')
  const { conditions = [], ...rest } = (live.status ?? {}) as { conditions?: readonly unknown[] }
  store.setStatus(live, 'cmctl', {
    ...rest,
    conditions: [...conditions, { type: 'Issuing', status: 'True', reason: 'ManuallyTriggered' }],
  })
}

const issuingOf = (test: TestWorld, site: string, certificate: string): string =>
  fingerprintOf(test.secret(site, namespace, certificate)['tls.crt'] ?? '')

interface Whole {
  readonly name: string
  readonly system: SystemName
  readonly sites?: readonly string[]
  readonly change?: Partial<CertManagerSource>
  readonly selfSigned?: boolean
  readonly variant?: string
}

const rsa = { algorithm: 'rsa-4096', subject: 'CN=minted CA', validityDays: 730 } as const
const usual: readonly Whole[] = [
  { name: 'Istio', system: 'istio' },
  { name: 'Istio in two clusters under one root', system: 'istio', sites: ['eu-1', 'us-1'] },
  { name: 'Linkerd', system: 'linkerd' },
]
const others: readonly Whole[] = [
  { name: 'Istio in two clusters with one CA', system: 'istio', sites: ['eu-1', 'us-1'], change: { site: 'us-1' } },
  { name: 'Kyma', system: 'kyma', variant: 'graceful', selfSigned: true, change: { issuing: rsa } },
  { name: 'Cassandra', system: 'cassandra', selfSigned: true, change: { issuing: rsa } },
]

describe.each([...usual, ...(wholeMatrix ? others : [])])('$name', ({ system, ...options }) => {
  it('goes from the mint pull request to the closed rotation without one failed handshake, though cert-manager renews on the way (F16)', async () => {
    const { test, root } = await world(system, 'mint', options)
    const { world: of } = test
    await mergeMint(of)
    // Merged, and not applied yet: the gate waits.
    await expect(planned(of)).rejects.toMatchObject({ exit: 3, what: 'cert-manager has not minted the new CA yet' })
    await of.rehearsal.run(15 * 60_000)
    const made = await planAndMerge(of)
    const { site: one } = { site: null, ...options.change }
    const sites = [...of.rehearsal.sites.keys()].filter(site => one === null || site === one)
    const minted = sites.map(site => issuingOf(test, site, `reanchor-first-${site}`))
    for (const site of of.rehearsal.sites.keys()) {
      const last = made.phases.at(-1)?.steps.at(-1)?.sites[site]?.state.issuer
      expect(last).toBe(minted[one === null ? sites.indexOf(site) : 0])
    }
    for (const site of sites) renew(test, site, `reanchor-first-${site}`)
    if (options.selfSigned !== true)
      expect(made.certificates.find(each => each.role === 'new-root')?.sha256).toBe(fingerprintOf(root.certificate))
    const steps = await goOn(of)
    expect(steps[0]).toBe('adopt/adopt')
    const gates = await keptGates(of.context, await loadRotation(of.repository, { rotation: 'first', base: 'main' }))
    expect(gates.map(({ site, verdict }) => [site, verdict])).toEqual(sites.map(site => [site, 'violated']))
    for (const [index, site] of sites.entries())
      expect(issuingOf(test, site, `reanchor-first-${site}`)).not.toBe(minted[index])
    const { attempted, failed } = of.rehearsal.handshakes.counts
    expect(attempted).toBeGreaterThan(150)
    expect(failed).toBe(0)
    const closing = (await of.forge.find(`reanchor/first/${made.phases.length}-close`))?.body ?? ''
    expect(closing).toContain(`certificate/reanchor-first-${sites[0]} secret/reanchor-first-${sites[0]}`)
  }, 900_000)
})

describe('a new CA from cert-manager', () => {
  it('is asked for by one pull request, which holds no key and changes no trust', async () => {
    const { test } = await world('istio', 'asked')
    const { world: of } = test
    await expect(planned(of)).rejects.toMatchObject({ exit: 3 })
    const request = await of.forge.find('reanchor/first/mint')
    await expect(planned(of)).rejects.toMatchObject({ exit: 3 })
    const again = await of.forge.find('reanchor/first/mint')
    expect([again?.number, again?.head]).toEqual([request?.number, request?.head])
    expect(request?.body).toContain('The key is in two places')
    expect(await of.forge.status(request?.head ?? '', 'reanchor/gate')).toMatchObject({ state: 'success' })
    const outcome = await check(of.context, { range: `main..${request?.head}`, rotation: null, base: null })
    expect(outcome.verdict).toMatchObject({ safe: true, reason: 'no-change' })
  }, 300_000)

  it('is refused where it was renewed between two looks (F16), and where another was pinned', async () => {
    const { test } = await world('istio', 'renewed')
    const { world: of } = test
    await mergeMint(of)
    await of.rehearsal.run(15 * 60_000)
    const slept = {
      ...of.context,
      sleep: async (milliseconds: number) => {
        renew(test, 'eu-1', 'reanchor-first-eu-1')
        await of.rehearsal.run(milliseconds)
      },
    }
    const refusal = { exit: 5, what: 'the Secret does not hold the CA that the gate has seen (F16)' }
    await expect(planned({ ...of, context: slept })).rejects.toMatchObject(refusal)
    // The first look is on record, so that a later one is held to it.
    await expect(planned(of)).rejects.toMatchObject({ exit: 4, found: expect.stringContaining('was issued 2 times') })
    const site = test.site('eu-1')
    site.kubectlDelete('cert-manager.io', 'Certificate', namespace, 'reanchor-first-eu-1')
    site.kubectlDelete('', 'Secret', namespace, 'reanchor-first-eu-1')
    await of.rehearsal.run(30 * 60_000)
    await expect(planned(of)).rejects.toMatchObject({ exit: 4, found: expect.stringContaining('is pinned (F16)') })
  }, 300_000)

  it('is refused where its name is taken, its Secret was there before, or nothing applies its folder', async () => {
    const { test } = await world('istio', 'taken')
    const { world: of } = test
    const site = test.site('eu-1')
    const secret = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'reanchor-first-eu-1', namespace }, data: {} }
    site.kubectlApply(secret)
    await expect(planned(of)).rejects.toMatchObject({ exit: 5, what: expect.stringContaining('exists already') })
    site.kubectlDelete('', 'Secret', namespace, 'reanchor-first-eu-1')
    await mergeMint(of)
    // An old key, put there before cert-manager came to it.
    const old = companyRoot('old', { notBefore: new Date(0), notAfter: new Date(4e12) })
    site.kubectlApply({ ...secret, data: { 'tls.key': Buffer.from(old.key).toString('base64') } })
    await of.rehearsal.run(15 * 60_000)
    await expect(planned(of)).rejects.toMatchObject({
      exit: 5,
      what: expect.stringContaining('is older than its Certificate'),
    })
    const elsewhere = await testWorld({
      system: 'istio',
      seed: 'elsewhere',
      change: minted({ path: 'nowhere/{site}' }),
    })
    onTestFinished(() => elsewhere.close())
    await expect(planned(elsewhere.world)).rejects.toMatchObject({ what: expect.stringContaining('nothing applies') })
  }, 300_000)

  it('joins the resources of a kustomization.yaml that is there', async () => {
    const { test } = await world('istio', 'listed', { change: { path: 'istio/{site}' } })
    const { world: of } = test
    await mergeMint(of)
    const main = of.repository.snapshot(await of.repository.head('main'))
    expect(await main.read('istio/eu-1/kustomization.yaml')).toContain('- reanchor-first-eu-1.yaml')
    await of.rehearsal.run(15 * 60_000)
    expect(issuingOf(test, 'eu-1', 'reanchor-first-eu-1')).toMatch(/^[0-9a-f]{64}$/)
  }, 300_000)
})
