import { beforeAll, describe, expect, it } from 'vitest'
import { linkerdFleet } from '../../../src/rehearsal/linkerd/fleet.ts'
import type { FileTree } from '../../../src/rotation.ts'
import { controlPlaneOf, manualWorkloads, refuseOtherOwners } from '../../../src/systems/linkerd/manifests.ts'
import { linkerdVersion, rulesOf } from '../../../src/systems/linkerd/version.ts'
import { refusal } from './chart.ts'
import { linkerdCa } from './material.ts'

let root: string

beforeAll(async () => {
  root = (await linkerdCa('CN=mesh')).root.pem
})

const recipient = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p'
const sites = [{ path: 'trust/eu-1' }]

function fleet(flow: 'trust-roots' | 'upgrade' | 'config-map', more: Readonly<Record<string, string>> = {}): FileTree {
  return new Map([...linkerdFleet({ sites: ['eu-1'], ageRecipient: recipient, flow, root }), ...Object.entries(more)])
}

/** As linkerd.io/docs has it for cert-manager and trust-manager. */
const owners: Readonly<Record<string, string>> = {
  Certificate: `apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: linkerd-identity-issuer, namespace: linkerd}
spec: {secretName: linkerd-identity-issuer, duration: 48h0m0s, renewBefore: 25h0m0s}
`,
  Bundle: `apiVersion: trust.cert-manager.io/v1alpha1
kind: Bundle
metadata: {name: linkerd-identity-trust-roots}
spec: {target: {configMap: {key: ca-bundle.crt}}}
`,
  ExternalSecret: `apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata: {name: linkerd-identity-issuer, namespace: linkerd}
spec: {secretStoreRef: {name: vault}}
`,
  SealedSecret: `apiVersion: bitnami.com/v1alpha1
kind: SealedSecret
metadata: {name: linkerd-identity-issuer, namespace: linkerd}
spec: {encryptedData: {key.pem: AgA}}
`,
}

describe('another deliverer of issuer or anchors in the repository (F16)', () => {
  for (const [kind, text] of Object.entries(owners)) {
    it(`${kind} is refused, with its file and the way out`, async () => {
      const error = await refusal(() =>
        refuseOtherOwners(fleet('trust-roots', { 'certs/issuer.yaml': text }), sites, 'linkerd'),
      )
      expect(error.what).toMatch(
        new RegExp(`^${kind} linkerd-identity-(issuer|trust-roots) is delivered from another file`),
      )
      expect([error.where.file, error.exit]).toEqual(['certs/issuer.yaml', 5])
      expect(error.todo).toMatch(/keep the live object/)
    })
  }

  it('by a Certificate of another name whose Secret is the issuer’s is refused too', async () => {
    const text = owners.Certificate?.replace('name: linkerd-identity-issuer,', 'name: issuer-2026,') ?? ''
    const error = await refusal(() =>
      refuseOtherOwners(fleet('trust-roots', { 'certs/issuer.yaml': text }), sites, 'linkerd'),
    )
    expect(error.what).toContain('issuer-2026')
  })

  it('is none where it is for another namespace, in the site’s own folder, or only speaks of the name', () => {
    const elsewhere = owners.Certificate?.replace('namespace: linkerd', 'namespace: staging-mesh') ?? ''
    const files = fleet('trust-roots', {
      'staging/issuer.yaml': elsewhere,
      'trust/eu-1/issuer.yaml': owners.SealedSecret ?? '',
      'rotations/first/phases/0/issuer.yaml': owners.SealedSecret ?? '',
      'docs/notes.yaml': 'about: linkerd-identity-issuer\n',
    })
    expect(() => refuseOtherOwners(files, sites, 'linkerd')).not.toThrow()
  })
})

describe('manifests of the control plane', () => {
  it('tell where anchors stand and what restarts; without the control plane they are refused', async () => {
    const modern = controlPlaneOf(
      fleet('trust-roots'),
      'linkerd/eu-1',
      'linkerd',
      'trust-roots',
      rulesOf(linkerdVersion('stable-2.14.10')),
    )
    expect(modern.trustRoots).toBe(root.trimEnd())
    expect([modern.global, modern.literal, modern.rootHash, modern.ownTrustRoots]).toEqual([null, false, true, false])
    expect(modern.values).toContain('identityTrustAnchorsPEM')
    const old = controlPlaneOf(
      fleet('upgrade'),
      'linkerd/eu-1',
      'linkerd',
      'upgrade',
      rulesOf(linkerdVersion('stable-2.7.1')),
    )
    expect([old.trustRoots, old.literal, old.rootHash]).toEqual([null, true, false])
    expect(old.deployments.map(({ name }) => name)).toEqual([
      'linkerd-identity',
      'linkerd-destination',
      'linkerd-proxy-injector',
    ])
    const error = await refusal(() =>
      controlPlaneOf(fleet('upgrade'), 'apps/eu-1', 'linkerd', 'upgrade', rulesOf(linkerdVersion('stable-2.7.1'))),
    )
    expect(error.expected).toBe('Deployment linkerd-identity')
  })

  it('without the ConfigMap of anchors, as identity.externalCA renders them, leave it to the site’s folder', () => {
    const config = fleet('trust-roots').get('linkerd/eu-1/config.yaml') ?? ''
    const files = fleet('trust-roots', { 'linkerd/eu-1/config.yaml': config.slice(0, config.indexOf('---')) })
    const found = controlPlaneOf(
      files,
      'linkerd/eu-1',
      'linkerd',
      'trust-roots',
      rulesOf(linkerdVersion('stable-2.14.10')),
    )
    expect([found.trustRoots, found.ownTrustRoots]).toEqual([null, true])
  })

  it('of workloads that were injected by hand have literals of any kind, which no injector renews (traps 5 and 7)', () => {
    expect(manualWorkloads(fleet('upgrade'), 'apps/eu-1')).toEqual([])
    expect(manualWorkloads(fleet('config-map'), 'apps/eu-1')).toEqual([
      { kind: 'Deployment', name: 'voting', namespace: 'emojivoto', list: 'containers' },
    ])
    // Re-injection means more than Deployments.
    const voting = fleet('config-map').get('apps/eu-1/emojivoto.yaml') ?? ''
    const sets = fleet('config-map', {
      'apps/eu-1/emojivoto.yaml': voting.replaceAll('kind: Deployment', 'kind: StatefulSet'),
    })
    expect(manualWorkloads(sets, 'apps/eu-1').map(({ kind }) => kind)).toEqual(['StatefulSet'])
  })
})
