import { describe, expect, it } from 'vitest'
import { readDeclaration } from '../../../src/declaration/read.ts'
import { writeDeclaration } from '../../../src/declaration/write.ts'
import { healthOf, otherRoots, refuseExpired } from '../../../src/systems/linkerd/health.ts'
import { newLinkerdCa } from '../../../src/systems/linkerd/next-ca.ts'
import { issuerName, linkerdSettings } from '../../../src/systems/linkerd/settings.ts'
import { linkerdCa, means, names, now, selfMadeCa } from './material.ts'

function rootName(rotation: string): string {
  const linkerd = {
    ...names,
    flow: 'trust-roots',
    version: 'stable-2.14.10',
    install: 'manifests',
    controlPlane: {},
    issuerScheme: null,
    leafHours: 24,
    leaves: 'renewal',
  } as const
  return linkerdSettings.subjects(rotation, { system: 'linkerd', linkerd }).root
}

describe('a new CA', () => {
  it('has the shape that step gives it, but for a root name of its own (traps 10 and F8)', async () => {
    const { root, issuer } = await linkerdCa(rootName('mesh-2026'))
    expect([root.ca, root.pathLength, root.key]).toEqual([true, 1, 'ECDSA P-256'])
    expect([issuer.ca, issuer.pathLength, issuer.key]).toEqual([true, 0, 'ECDSA P-256'])
    expect(root.subject).toContain('root.linkerd.cluster.local')
    expect(issuer.subject).toBe('CN=identity.linkerd.cluster.local')
    expect(issuer.x509.checkHost(issuerName(names), { subject: 'never' })).toBe(issuerName(names))
    expect(root.subject).not.toBe(issuer.subject)
  })

  it('gives the issuers of two clusters two subjects, and both the name that identity verifies', async () => {
    const text = `apiVersion: reanchor.dev/v1alpha1
kind: TrustRotation
metadata: {name: mesh-2026}
spec:
  system: linkerd
  sites:
    - {name: eu-1, path: trust/eu-1, delivery: {flux: {kustomization: flux-system/trust}}}
    - {name: us-1, path: trust/us-1, delivery: {flux: {kustomization: flux-system/trust}}}
  linkerd: {flow: trust-roots, version: stable-2.14.10, controlPlane: {eu-1: {path: l/eu-1}, us-1: {path: l/us-1}}}
`
    const declaration = await readDeclaration(text, 'rotation.yaml')
    if (declaration.next.from !== 'generate') throw new Error('the default is to generate')
    const read = () => ''
    const made = await newLinkerdCa(declaration, declaration.next, { ...means, read, current: {} })
    const issuers = Object.values(made.sites).map(({ issuer }) => issuer)
    expect(issuers.map(({ subject }) => subject)).toEqual([
      'CN=identity.linkerd.cluster.local,OU=eu-1',
      'CN=identity.linkerd.cluster.local,OU=us-1',
    ])
    for (const { x509 } of issuers)
      expect(x509.checkHost(issuerName(names), { subject: 'never' })).toBe(issuerName(names))
    // What init writes for two clusters must be read again.
    await readDeclaration(writeDeclaration(declaration), 'rotation.yaml')
  })

  it('gives the roots of two rotations two names', () => {
    expect(rootName('mesh-2026')).not.toBe(rootName('mesh-2027'))
  })
})

describe('how today’s CA stands (F15, trap 16)', () => {
  const long = 24 * 3_600_000

  it('tells an expired issuer under a sound root from an expired root, and each has its own way out', async () => {
    const begun = new Date(now.getTime() - 370 * long)
    const issuerGone = await linkerdCa('CN=sound', begun)
    const current = { issuer: issuerGone.issuer, roots: [issuerGone.root] }
    expect(healthOf(current, now)).toBe('issuer-expired')
    expect(() => refuseExpired('graceful', current, now, 'site a')).toThrow(/choose strategy issuer/)
    expect(() => refuseExpired('issuer', current, now, 'site a')).not.toThrow()

    const gone = await linkerdCa('CN=gone', begun, 365)
    const expired = { issuer: gone.issuer, roots: [gone.root] }
    expect(healthOf(expired, now)).toBe('root-expired')
    for (const strategy of ['graceful', 'issuer'] as const)
      expect(() => refuseExpired(strategy, expired, now, 'site a')).toThrow(/no order of steps can overlap/)
    expect(() => refuseExpired('emergency', expired, now, 'site a')).not.toThrow()
  })

  it('counts 60 days ahead, and looks at dates that begin later', async () => {
    const ca = await linkerdCa('CN=ca')
    const current = { issuer: ca.issuer, roots: [ca.root] }
    expect(healthOf(current, now)).toBe('ok')
    expect(healthOf(current, new Date(Date.parse(ca.issuer.notAfter) - 59 * long))).toBe('expiring')
    expect(healthOf(current, new Date(now.getTime() - 2 * long))).toBe('not-yet-valid')
  })

  it('looks at the root that signs, and takes the others for another cluster’s', async () => {
    const [ca, partner] = await Promise.all([linkerdCa('CN=ca'), linkerdCa('CN=partner')])
    const current = { issuer: ca.issuer, roots: [ca.root, partner.root] }
    expect(otherRoots(current)).toEqual([partner.root.sha256])
  })

  it('knows the CA that linkerd install makes for itself: root and issuer at once', async () => {
    const { certificate } = await selfMadeCa()
    expect(healthOf({ issuer: certificate, roots: [certificate] }, now)).toBe('expiring')
    expect(otherRoots({ issuer: certificate, roots: [certificate] })).toEqual([])
  })
})
