import { describe, expect, it } from 'vitest'
import { differenceOf, goDuration, holdsManifest, mintsOf, refuseKeptKey } from '../../src/mint/certificate.ts'
import { yamlText } from '../../src/render/yaml.ts'
import { declared, oneMint, usual } from './fixture.ts'

describe('the Certificate of a mint pull request', () => {
  it('asks for a CA of its own key, renews as late as can be, and is pruned by nobody', async () => {
    expect((await oneMint()).manifest).toEqual({
      apiVersion: 'cert-manager.io/v1',
      kind: 'Certificate',
      metadata: {
        name: 'reanchor-mesh-2026-eu-1',
        namespace: 'cert-manager',
        annotations: {
          'argocd.argoproj.io/sync-options': 'Prune=false',
          'kustomize.toolkit.fluxcd.io/prune': 'disabled',
        },
      },
      spec: {
        isCA: true,
        secretName: 'reanchor-mesh-2026-eu-1',
        commonName: 'mesh-2026 issuing',
        subject: { organizations: ['cluster.local'], localities: ['eu-1'] },
        duration: '17520h0m0s',
        renewBefore: '1h0m0s',
        privateKey: { algorithm: 'ECDSA', size: 256, rotationPolicy: 'Never' },
        usages: ['digital signature', 'cert sign', 'crl sign'],
        issuerRef: { name: 'mesh-root-2026', kind: 'ClusterIssuer', group: 'cert-manager.io' },
      },
    })
  })

  it('is one for each cluster, in a folder of that cluster', async () => {
    const mints = mintsOf(await declared(usual))
    expect(mints.map(({ file, serves }) => [file, serves])).toEqual([
      ['clusters/eu-1/reanchor-mesh-2026-eu-1.yaml', ['eu-1']],
      ['clusters/us-1/reanchor-mesh-2026-us-1.yaml', ['us-1']],
    ])
  })

  it('is one for all where one site is named, and for Cassandra, whose regions have one CA', async () => {
    const [named] = mintsOf(await declared('path: certificates, site: us-1'))
    expect([named?.site.name, named?.serves]).toEqual(['us-1', ['eu-1', 'us-1']])
    const [first, ...others] = mintsOf(await declared('path: certificates', 'cassandra'))
    expect([first?.site.name, first?.serves, others]).toEqual(['eu-1', ['eu-1', 'us-1'], []])
    expect(first?.manifest.spec).toMatchObject({
      privateKey: { algorithm: 'RSA', size: 4096 },
      subject: { organizations: ['example-mesh-2026'] },
    })
  })

  it('carries the DNS name that Linkerd’s identity verifies up to 2.9', async () => {
    const [mint] = mintsOf(await declared(usual, 'linkerd'))
    expect(mint?.manifest.spec.dnsNames).toEqual(['identity.linkerd.cluster.local'])
  })

  it('is refused with a subject that cert-manager has no fields for', async () => {
    const declaration = await declared(`${usual}, issuing: {subject: "CN=a,L={site},DC=example"}`)
    expect(() => mintsOf(declaration)).toThrowError(/no fields for/)
  })

  it.each([
    ['in other words of YAML', (text: string) => `# ours\n${text.replace('isCA: true', '"isCA": true')}`, true],
    ['with defaults that an API server adds', (text: string) => `${text}  revisionHistoryLimit: 1\n`, true],
    ['for another life', (text: string) => text.replace('17520h0m0s', '24h0m0s'), false],
    ['with another key policy', (text: string) => text.replace('Never', 'Always'), false],
    ['that is no YAML', () => '{', false],
    ['beside another document', (text: string) => `${text}---\na: 1\n`, false],
  ])('is known in a file %s', async (_, change, known) => {
    const mint = await oneMint()
    expect(holdsManifest(change(yamlText(mint.manifest)), mint)).toBe(known)
  })

  it('names the first field that differs, and takes durations for what they mean', () => {
    expect(differenceOf({ a: { b: '48h0m0s' } }, { a: { b: '48h' } })).toBeNull()
    expect(differenceOf({ a: { b: '48h0m0s' } }, { a: { b: '47h' } })).toBe('a.b')
    expect(differenceOf({ a: ['x'] }, { a: ['x', 'y'] })).toBe('a')
    expect([goDuration('1h30m'), goDuration('90'), goDuration('')]).toEqual([5_400_000, null, null])
  })
})

describe('a declaration', () => {
  it('is refused where the rotation keeps its key, which cert-manager does not have', async () => {
    const renewing = await declared(usual, 'istio', 'strategy: renew')
    expect(() => refuseKeptKey(renewing)).toThrowError(/mints a new key/)
    expect(() => refuseKeptKey({ ...renewing, strategy: 'issuer' })).not.toThrow()
  })

  it.each([
    ['one folder for two clusters', 'path: certificates', '', 'is one folder for several clusters'],
    ['a site’s own folder', 'path: "trust/{site}/x"', '', 'lies in the folder of site eu-1'],
    ['rotations/', 'path: "rotations/{site}"', '', 'lies in rotations/'],
    ['a site that there is not', `${usual}, site: eu-2`, '', 'eu-2'],
    ['one subject for two CAs', `${usual}, issuing: {subject: CN=a}`, '', 'is the same at every site'],
  ])('is refused with %s', async (_, mint, more, what) => {
    await expect(declared(mint, 'istio', more)).rejects.toThrowError(new RegExp(what))
  })
})
