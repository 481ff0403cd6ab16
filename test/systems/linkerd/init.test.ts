import { beforeAll, describe, expect, it } from 'vitest'
import { type InitFlags, runInit } from '../../../src/declaration/init.ts'
import { readDeclaration } from '../../../src/declaration/read.ts'
import { fluxKustomization } from '../../../src/rehearsal/fleet-delivery.ts'
import { linkerdFleet } from '../../../src/rehearsal/linkerd/fleet.ts'
import type { Declaration, FileTree } from '../../../src/rotation.ts'
import type { LinkerdIssuer } from '../../../src/systems/linkerd/next-ca.ts'
import { linkerdOf } from '../../../src/systems/linkerd/settings.ts'
import { fleet, indented, refusal, release } from './chart.ts'
import { linkerdCa, now } from './material.ts'

let ca: LinkerdIssuer

beforeAll(async () => {
  ca = await linkerdCa('CN=mesh')
})

const recipient = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p'

async function init(
  files: FileTree,
  flags: InitFlags = {},
): Promise<{
  readonly declaration: Declaration
  readonly text: string
  readonly remarks: readonly string[]
  readonly nextSteps: string
}> {
  const result = await runInit({ system: 'linkerd', files, flags, existing: () => null, now, ask: null })
  return { ...result, declaration: await readDeclaration(result.text, result.path) }
}

const cluster = (name: string): readonly (readonly [string, string])[] => [
  [
    `clusters/${name}/flux-system/gotk-sync.yaml`,
    `apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: flux-system, namespace: flux-system}
spec: {interval: 1m, ref: {branch: main}, url: https://git.acme.example/acme/fleet.git}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: flux-system, namespace: flux-system}
spec: {interval: 10m, path: ./clusters/${name}, prune: true, sourceRef: {kind: GitRepository, name: flux-system}}
`,
  ],
  [
    `clusters/${name}/mesh.yaml`,
    `apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: mesh, namespace: flux-system}
spec: {interval: 10m, path: ./linkerd/${name}, prune: true, sourceRef: {kind: GitRepository, name: flux-system}}
`,
  ],
]

function flux(releases: Readonly<Record<string, string>>): FileTree {
  const files = Object.entries(releases).flatMap(([site, text]) => [
    ...cluster(site),
    ...Object.entries(fleet(text, site)),
  ])
  return new Map([
    ...files,
    [
      '.sops.yaml',
      `creation_rules:\n  - path_regex: ^trust/\n    encrypted_regex: ^(key\\.pem|tls\\.key|canary)$\n    age: ${recipient}\n`,
    ],
  ])
}

describe('init linkerd', () => {
  it('finds manifests: version, trust domain, life of leaves, flow; and leaves the control plane out of what restarts', async () => {
    for (const flow of ['trust-roots', 'upgrade'] as const) {
      const files = linkerdFleet({ sites: ['eu-1'], ageRecipient: recipient, flow, root: ca.root.pem })
      const { declaration } = await init(files)
      expect(linkerdOf(declaration), flow).toMatchObject({
        flow,
        install: 'manifests',
        version: flow === 'upgrade' ? 'stable-2.7.1' : 'stable-2.14.10',
        namespace: 'linkerd',
        trustDomain: 'cluster.local',
        leafHours: 1,
        controlPlane: { 'eu-1': { path: 'linkerd/eu-1', file: null, name: null } },
      })
      expect(declaration.reload.map(({ path }) => path)).toEqual(['apps/eu-1'])
    }
  })

  it('takes no patch of an earlier rotation for another Linkerd', async () => {
    const files = linkerdFleet({ sites: ['eu-1'], ageRecipient: recipient, flow: 'trust-roots', root: ca.root.pem })
    const patch = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: linkerd-identity
  namespace: linkerd
spec:
  template:
    metadata:
      annotations:
        reanchor.dev/trust: 47ec3490cff9
`
    const { declaration } = await init(
      new Map([
        ...files,
        ['clusters/eu-1/trust.yaml', fluxKustomization('trust', './trust/eu-1', 'Of the rotation before.')],
        ['trust/eu-1/components/control-plane/linkerd-identity.yaml', patch],
      ]),
    )
    expect(linkerdOf(declaration).controlPlane).toEqual({ 'eu-1': { path: 'linkerd/eu-1', file: null, name: null } })
  })

  it('finds a HelmRelease: file, name, and what its values and its chart’s version tell; the key in the clear is said', async () => {
    const text = release(
      `clusterDomain: acme.example
identity:
  issuer:
    issuanceLifetime: 12h0m0s
    tls:
      keyPEM: |
${indented(ca.key, 8)}`,
    )
    const { declaration, text: written, remarks, nextSteps } = await init(flux({ 'eu-1': text }))
    expect(linkerdOf(declaration)).toMatchObject({
      flow: 'trust-roots',
      install: 'helmRelease',
      version: 'stable-2.14',
      trustDomain: 'acme.example',
      leafHours: 12,
      controlPlane: {
        'eu-1': { file: 'linkerd/eu-1/release.yaml', name: 'linkerd-control-plane', path: 'linkerd/eu-1' },
      },
    })
    expect(remarks.join('\n')).toContain('private key stands in Git in the clear')
    expect(remarks.join('\n')).toContain('externalSecret: true')
    expect(nextSteps).toContain('linkerd/eu-1/release.yaml')
    expect(written).not.toContain('PRIVATE KEY')
  })

  it('tells Linkerd’s version by its chart’s', async () => {
    const cases: readonly (readonly [chart: string, version: string, found: string, flow: string])[] = [
      ['linkerd-control-plane', '1.9.x', 'stable-2.12', 'trust-roots'],
      ['linkerd-control-plane', '2024.11.8', 'edge-24.11.8', 'trust-roots'],
      ['linkerd2', '2.11.5', 'stable-2.11.5', 'trust-roots'],
      ['linkerd2', '2.10.2', 'stable-2.10.2', 'upgrade'],
      ['linkerd2', '2.8.1', 'stable-2.8.1', 'upgrade'],
    ]
    for (const [chart, version, found, flow] of cases) {
      const { declaration } = await init(flux({ 'eu-1': release('controllerReplicas: 1\n', chart, version) }))
      expect([linkerdOf(declaration).version, linkerdOf(declaration).flow], version).toEqual([found, flow])
    }
    const { remarks } = await init(flux({ 'eu-1': release('a: b\n', 'linkerd-control-plane', '1.8.3-edge') }))
    expect(remarks.join('\n')).toContain('spec.linkerd.version could not be found')
  })

  it('finds an Application of the chart, and says what its scheme will ask for', async () => {
    const files = new Map([
      [
        'clusters/eu-1/linkerd.yaml',
        `apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: linkerd, namespace: argocd}
spec:
  project: default
  source:
    chart: linkerd-control-plane
    repoURL: https://helm.linkerd.io/stable
    targetRevision: 1.16.11
    helm:
      parameters:
        - {name: identityTrustDomain, value: acme.example}
  destination: {server: https://kubernetes.default.svc, namespace: mesh}
`,
      ],
      ['sealed-secrets.pem', ca.root.pem],
    ])
    const { declaration, remarks } = await init(files, {
      site: ['eu-1'],
      age: [recipient],
      repoUrl: 'https://git.acme.example/acme/fleet.git',
    })
    expect(linkerdOf(declaration)).toMatchObject({
      install: 'argoApplication',
      namespace: 'mesh',
      trustDomain: 'acme.example',
      controlPlane: { 'eu-1': { file: 'clusters/eu-1/linkerd.yaml', name: 'linkerd' } },
    })
    expect(remarks.join('\n')).toContain('plan asks for kubernetes.io/tls first')
  })

  it('keeps the clusters of a fleet apart, and asks where nothing or several things were found', async () => {
    const { declaration, remarks } = await init(
      flux({ 'eu-1': release('a: b\n'), 'us-1': release('a: b\n', 'linkerd2', '2.10.2') }),
    )
    expect(Object.values(linkerdOf(declaration).controlPlane).map(({ file }) => file)).toEqual([
      'linkerd/eu-1/release.yaml',
      'linkerd/us-1/release.yaml',
    ])
    expect(remarks.join('\n')).toContain('us-1 has another version of Linkerd than eu-1')
    const none = await refusal(() => init(new Map(cluster('eu-1'))))
    expect(none.message + String(none.expected)).toContain('no HelmRelease or Application of its chart')
    const twice = new Map([
      ...flux({ 'eu-1': release('a: b\n') }),
      ['linkerd/eu-1/other.yaml', release('a: b\n').replace('name: linkerd-control-plane\n', 'name: second\n')],
    ])
    const error = await refusal(() => init(twice))
    expect(error.message + String(error.expected)).toContain('linkerd/eu-1/release.yaml#linkerd-control-plane')
    const chosen = await init(twice, { controlPlane: ['eu-1=linkerd/eu-1/other.yaml#second'] })
    expect(linkerdOf(chosen.declaration).controlPlane['eu-1']?.name).toBe('second')
  })
})
