import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, it, onTestFinished } from 'vitest'
import { nextWhenReady, planAndMerge, recordMerge, type World } from '../../src/commands/demo.ts'
import { createIssuing } from '../../src/pki/authority.ts'
import { readCertificate } from '../../src/pki/certificate.ts'
import { privateKeyPem } from '../../src/pki/keys.ts'
import { startingIssuer } from '../../src/rehearsal/linkerd/starting-ca.ts'
import { textsAt } from '../../src/rehearsal/objects.ts'
import { goOn, mergeVariant, openStep, undoBefore } from './drive.ts'
import { smallFleet } from './linkerd-fleet.ts'
import { testWorld } from './world.ts'

const minutes = 60_000

/** What the gates of the present step still wait for, by their names. */
async function waitingFor(world: World, patience: number): Promise<Readonly<Record<string, string>>> {
  const outcome = await nextWhenReady(world, patience)
  if (outcome.kind !== 'waiting') throw new Error(`it does not wait: ${outcome.kind}`)
  const open = outcome.gates.filter(({ verdict }) => verdict !== 'holds')
  return Object.fromEntries(open.map(({ id, site, because }) => [`${site} ${id}`, because.join('\n')]))
}

describe('a new issuer under the root that everyone trusts', () => {
  it('is one phase; a replica of identity that misses it is named, and a nudge lets it read the Secret (F21, trap 11)', async () => {
    const { root, rootKey } = await startingIssuer('trust-roots')
    const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
    const name = 'identity.linkerd.cluster.local'
    const issuer = await createIssuing({
      subject: `CN=${name}`,
      key,
      issuer: { certificate: readCertificate(root), key: rootKey },
      dns: [name],
      notBefore: new Date(Date.now() - 48 * 3_600_000),
      notAfter: new Date(Date.now() + 365 * 24 * 3_600_000),
      serial: '51',
    })
    const files: Readonly<Record<string, string>> = {
      '/vault/root.pem': root,
      '/vault/issuer.pem': issuer.pem,
      '/vault/issuer.key': privateKeyPem(key),
    }
    const own = { certificate: '/vault/issuer.pem', key: '/vault/issuer.key', chain: null }
    const test = await testWorld({
      system: 'linkerd',
      fleet: smallFleet,
      change: declared => ({
        ...declared,
        strategy: 'issuer',
        next: { from: 'files', root: '/vault/root.pem', issuing: { '*': own } },
      }),
    })
    onTestFinished(() => test.close())
    const readFile = (path: string): string => files[path] ?? ''
    const world: World = { ...test.world, context: { ...test.world.context, readFile } }
    const plan = await planAndMerge(world)
    expect(plan.phases.flatMap(phase => phase.steps.map(step => `${phase.name}/${step.name}`))).toEqual([
      'adopt/adopt',
      'issue-new/data',
    ])
    const request = await openStep(world, 'issue-new')
    const culprit = test.site('eu-1').system.strike?.('replica-lags', undefined)?.culprit() ?? 'nobody'
    expect(culprit).toMatch(/^linkerd\/linkerd-identity-/)
    await recordMerge(world, request)
    const waiting = await waitingFor(world, 15 * minutes)
    expect(waiting['eu-1 linkerd/issuer-loaded']).toContain(`identity ${culprit}: leaf is signed by`)

    await mergeVariant(world, 'nudge')
    expect(await goOn(world)).toEqual(['close/close'])
    expect(world.rehearsal.handshakes.counts.failed).toBe(0)
    const live = test.secret('eu-1', 'linkerd', 'linkerd-identity-issuer')
    expect(Object.keys(live).sort()).toEqual(['crt.pem', 'key.pem'])
    expect(live['crt.pem']).toBe(issuer.pem)
    expect(live['key.pem']).toMatch(/^-----BEGIN EC PRIVATE KEY-----/)
    const map = test.store('eu-1').get('', 'ConfigMap', 'linkerd', 'linkerd-identity-trust-roots')
    expect(textsAt(map, 'data')['ca-bundle.crt']?.trim()).toBe(root.trim())
  }, 600_000)
})

describe('Argo CD and Sealed Secrets', () => {
  it('carry a whole rotation too, with a way back from both roots and from the new issuer, without one failed handshake', async () => {
    const test = await testWorld({ system: 'linkerd', variant: 'trust-roots+argocd', fleet: smallFleet })
    onTestFinished(() => test.close())
    const { world } = test
    await planAndMerge(world)
    const trusting = () =>
      new Set(world.rehearsal.handshakes.parties.map(({ endpoint }) => endpoint.material.trusts.length))
    await undoBefore(world, 'issue-new')
    // Forward again opens only once everyone is seen to have gone back.
    const again = await openStep(world, 'trust-both/data')
    expect(trusting()).toEqual(new Set([1]))
    await recordMerge(world, again)
    await undoBefore(world, 'trust-new')
    expect(await goOn(world)).toEqual([
      'issue-new/data',
      'trust-new/data',
      'trust-new/control-plane',
      'trust-new/data-plane',
      'close/close',
    ])
    expect(world.rehearsal.handshakes.counts.failed).toBe(0)
    const sealed = test.store('eu-1').list('bitnami.com', 'SealedSecret', 'linkerd')
    expect(sealed.map(({ metadata }) => metadata.name).sort()).toEqual(['linkerd-identity-issuer', 'reanchor-canary'])
  }, 900_000)
})
