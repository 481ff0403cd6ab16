import { beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { wiringHolds } from '../../../src/gitops/yaml-edit.ts'
import { holdsPrivateKey } from '../../../src/pki/pem.ts'
import type { FileTree } from '../../../src/rotation.ts'
import { anchorText } from '../../../src/systems/linkerd/go-pem.ts'
import { deliveredIssuer } from '../../../src/systems/linkerd/issuer-secret.ts'
import type { LinkerdIssuer } from '../../../src/systems/linkerd/next-ca.ts'
import {
  adopted,
  filesAt,
  fleet,
  fleetURL,
  indented,
  type PlannedChart,
  plannedChart,
  pointsOf,
  refusal,
  release,
  steps,
} from './chart.ts'
import { linkerdCa } from './material.ts'

let old: LinkerdIssuer
let next: LinkerdIssuer
let both: string

beforeAll(async () => {
  ;[old, next] = await Promise.all([linkerdCa('CN=old'), linkerdCa('CN=new')])
  both = anchorText([next.root.pem, old.root.pem])
})

/** Inline values in the form of 2.10 and later. */
function inline(): string {
  return `# one per zone
controllerReplicas: 3
identityTrustAnchorsPEM: |
${indented(old.root.pem, 2)}identity:
  issuer:
    issuanceLifetime: 24h0m0s # as the chart has it
    tls:
      crtPEM: |
${indented(old.issuer.pem, 8)}      keyPEM: |
${indented(old.key, 8)}`
}

/** The same where the folder delivers the issuer Secret. */
function external(more = ''): string {
  return `identityTrustAnchorsPEM: |
${indented(old.root.pem, 2)}identity:
${more}  issuer: {scheme: kubernetes.io/tls}
`
}

interface ChartValues {
  readonly identityTrustAnchorsPEM?: string
  readonly podAnnotations?: Readonly<Record<string, string>>
  readonly global?: ChartValues
  readonly identity?: { readonly issuer: { readonly crtExpiry?: string } }
}

function values(files: FileTree): ChartValues {
  const file = parse(files.get('linkerd-values.yaml') ?? '') as { readonly data?: Record<string, string> } | null
  if (file?.data === undefined) return (file ?? {}) as ChartValues
  return (parse(file.data['values.yaml'] ?? '') ?? {}) as ChartValues
}

interface Sealed {
  readonly name: string
  readonly namespace: string
  readonly labels: Readonly<Record<string, string>>
  readonly data: Readonly<Record<string, string>>
  readonly privateKeys: readonly string[]
}

function issuerOf(files: FileTree): Sealed {
  return JSON.parse(files.get('issuer.yaml') ?? '{}') as Sealed
}

async function helm(values_: string, parts: Partial<Parameters<typeof plannedChart>[1]> = {}): Promise<PlannedChart> {
  return await plannedChart({ old, next }, { install: 'helmRelease', files: fleet(release(values_)), ...parts })
}

describe('a HelmRelease of linkerd-control-plane', () => {
  it('takes anchors and issuer from the site’s folder; its own values lose these keys alone, the clear key with them', async () => {
    const made = await helm(inline())
    const tree = await adopted(made)
    expect(tree.get('linkerd/eu-1/release.yaml')).toBe(
      `${release('# one per zone\ncontrollerReplicas: 3\nidentity:\n  issuer:\n    issuanceLifetime: 24h0m0s # as the chart has it\n    tls: {}\n')}  valuesFrom:
    - kind: ConfigMap
      name: reanchor-linkerd-values
    - kind: Secret
      name: reanchor-linkerd-issuer
      valuesKey: crt.pem
      targetPath: identity.issuer.tls.crtPEM
    - kind: Secret
      name: reanchor-linkerd-issuer
      valuesKey: key.pem
      targetPath: identity.issuer.tls.keyPEM
`,
    )
    for (const { file, edit } of await pointsOf(made))
      expect(wiringHolds(tree.get(file) ?? null, edit, file).holds).toBe(true)
    // Nothing that the chart makes is delivered beside it: two owners would write it in turns.
    expect([...(await filesAt(made, 'adopt/adopt')).keys()].filter(path => path.endsWith('.yaml'))).toEqual([
      'canary.yaml',
      'issuer.yaml',
      'kustomization.yaml',
      'linkerd-values.yaml',
    ])
    const issuer = issuerOf(await filesAt(made, 'adopt/adopt'))
    expect(issuer).toMatchObject({
      name: 'reanchor-linkerd-issuer',
      namespace: 'linkerd',
      labels: { 'reconcile.fluxcd.io/watch': 'Enabled' },
      data: { 'crt.pem': old.issuer.pem, 'key.pem': old.key },
      privateKeys: ['key.pem'],
    })
    expect(deliveredIssuer(made.plan.phases[0]?.steps[0]?.state.settings ?? {})).toEqual({
      name: 'reanchor-linkerd-issuer',
      namespace: 'linkerd',
    })
  })

  it('restarts the control plane with the data from 2.12 on: that is one step, which says so; workloads have theirs', async () => {
    const made = await helm(inline())
    expect(steps(made)).toEqual(['adopt/adopt', 'trust-both/data', 'issue-new/data', 'trust-new/data'])
    const data = made.plan.phases[1]?.steps[0]
    expect(data?.what).toContain('The chart restarts the control plane in the same apply, its ConfigMap first')
    // Gates hold pods to both: the token of the restart, and the anchors that pods with it have read.
    expect(data?.state.settings['anchors/control-plane']).toBe(data?.state.bundle.join(' '))
    expect(values(await filesAt(made, 'trust-both/data'))).toEqual({
      identityTrustAnchorsPEM: both,
      podAnnotations: { 'reanchor.dev/trust': data?.state.restarts['control-plane'] },
    })
    // An undo gives back the old anchors by one more restart, under a token of its own.
    const undone = values(await filesAt(made, 'trust-both/data', 'undo'))
    expect(undone.identityTrustAnchorsPEM).toBe(old.root.pem)
    expect(undone.podAnnotations?.['reanchor.dev/trust']).not.toBe(data?.state.restarts['control-plane'])
    const last = await filesAt(made, 'trust-new/data')
    expect(values(last).identityTrustAnchorsPEM).toBe(next.root.pem)
    expect(issuerOf(last).data).toEqual({ 'crt.pem': next.issuer.pem, 'key.pem': next.key })
  })

  it('never moves anchors and issuer in one step (trap 12, F6)', async () => {
    const made = await helm(inline())
    const issuing = await filesAt(made, 'issue-new/data')
    const before = await filesAt(made, 'trust-both/data')
    expect(issuing.get('linkerd-values.yaml')).toBe(before.get('linkerd-values.yaml'))
    expect(issuerOf(before).data['crt.pem']).toBe(old.issuer.pem)
    expect(issuerOf(issuing).data['crt.pem']).toBe(next.issuer.pem)
  })

  it('of 2.11 restarts nothing by itself, so the restart is a step of its own by podAnnotations', async () => {
    const made = await helm(inline(), {
      version: 'stable-2.11.5',
      files: fleet(release(inline(), 'linkerd2', '2.11.5')),
      leaves: 'restart',
    })
    expect(steps(made)).toEqual([
      'adopt/adopt',
      'trust-both/data',
      'trust-both/control-plane',
      'issue-new/data',
      'issue-new/leaves-control-plane',
      'trust-new/data',
      'trust-new/control-plane',
    ])
    expect(values(await filesAt(made, 'trust-both/data'))).toEqual({ identityTrustAnchorsPEM: both })
    expect(Object.keys(values(await filesAt(made, 'trust-both/control-plane')))).toContain('podAnnotations')
  })

  it('keeps the bytes of the anchors at adopt: their hash, final newline included, restarts the control plane', async () => {
    const trimmed = inline().replace('identityTrustAnchorsPEM: |\n', 'identityTrustAnchorsPEM: |-\n')
    const made = await helm(trimmed)
    expect(values(await filesAt(made, 'adopt/adopt'))).toEqual({ identityTrustAnchorsPEM: old.root.pem.trimEnd() })
    await adopted(made)
  })

  it('is refused where the declared values are not those that run, and shows no key', async () => {
    const stray = inline().replace(indented(old.key, 8), indented(next.key, 8))
    const made = await helm(stray)
    const error = await refusal(() => pointsOf(made))
    expect(error.found).toBe('identity.issuer.tls.keyPEM: (a private key) becomes (a private key)')
    expect(holdsPrivateKey(JSON.stringify({ ...error, message: error.message }))).toBe(false)
    const anchors = await helm(inline().replace(indented(old.root.pem, 2), indented(next.root.pem, 2)))
    expect((await refusal(() => pointsOf(anchors))).where.field).toBe('identityTrustAnchorsPEM')
  })

  it('compares no key that custody sealed before: a plan that is made again has only that', async () => {
    await pointsOf(await helm(inline(), { key: 'ENC[AES256_GCM,data:x]' }))
  })

  it('is refused while a ConfigMap of the repository holds the key in the clear', async () => {
    const lines = inline().split('\n')
    const text = release('controllerReplicas: 3\n').replace(
      '  values:\n',
      '  valuesFrom:\n    - {kind: ConfigMap, name: mesh-values}\n  values:\n',
    )
    const map = `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: mesh-values, namespace: linkerd}\ndata:\n  values.yaml: |\n${indented(lines.join('\n'), 4)}`
    const made = await helm('', { files: { ...fleet(text), 'linkerd/eu-1/values.yaml': map } })
    const error = await refusal(() => pointsOf(made))
    expect(error.what).toContain('private key in the clear')
    expect(error.exit).toBe(5)
    const clean = map.replace(/ +keyPEM: \|[\s\S]*END EC PRIVATE KEY-----\n?/, '')
    await pointsOf(await helm('', { files: { ...fleet(text), 'linkerd/eu-1/values.yaml': clean } }))
  })

  it('of the scheme kubernetes.io/tls leaves the Secret to the folder: ca.crt equals the anchors in every step (trap 8)', async () => {
    const made = await helm(external(), { scheme: 'kubernetes.io/tls' })
    expect((await adopted(made)).get('linkerd/eu-1/release.yaml')).not.toContain('reanchor-linkerd-issuer')
    for (const name of steps(made)) {
      const files = await filesAt(made, name)
      const { name: secret, data } = issuerOf(files)
      expect(secret).toBe('linkerd-identity-issuer')
      expect(Object.keys(data).sort()).toEqual(['ca.crt', 'tls.crt', 'tls.key'])
      expect(data['ca.crt']).toBe(values(files).identityTrustAnchorsPEM)
    }
  })

  it('is refused where values and live Secret have different schemes', async () => {
    expect((await refusal(() => helm(external()))).found).toBe('kubernetes.io/tls')
    expect((await refusal(() => helm(inline(), { scheme: 'kubernetes.io/tls' }))).found).toBe('linkerd.io/tls')
  })

  it('that a chart in Git wraps takes its values under the name of the dependency', async () => {
    const text = release(`linkerd-control-plane:\n${indented(inline(), 2)}`)
      .replace('chart: linkerd-control-plane', 'chart: ./charts/mesh')
      .replace('HelmRepository, name: linkerd', 'GitRepository, name: flux-system')
    const made = await helm('', {
      files: {
        ...fleet(text),
        'charts/mesh/Chart.yaml':
          'apiVersion: v2\nname: mesh\nversion: 0.1.0\ndependencies:\n  - {name: linkerd-control-plane, version: 1.16.11}\n',
      },
    })
    const tree = await adopted(made)
    expect(tree.get('linkerd/eu-1/release.yaml')).toContain(
      'targetPath: linkerd-control-plane.identity.issuer.tls.keyPEM',
    )
    expect(values(await filesAt(made, 'trust-both/data'))).toHaveProperty('linkerd-control-plane.podAnnotations')
  })
})

describe('a HelmRelease of linkerd2 before 2.11 (flow upgrade)', () => {
  function legacy(): string {
    return `global:
  identityTrustAnchorsPEM: |
${indented(old.root.pem, 4)}identity:
  issuer:
    crtExpiry: "2027-11-22T06:01:00Z"
    tls:
      crtPEM: |
${indented(old.issuer.pem, 8)}      keyPEM: |
${indented(old.key, 8)}`
  }

  async function upgrade(version: string, text = legacy()): Promise<PlannedChart> {
    const files = fleet(release(text, 'linkerd2', version))
    return await helm('', { flow: 'upgrade', version: `stable-${version}`, files })
  }

  it('has its keys below global up to 2.9, demands the issuer’s end, and of 2.7 and 2.8 takes no token', async () => {
    const made = await upgrade('2.8.1')
    expect((await adopted(made)).get('linkerd/eu-1/release.yaml')).not.toContain('crtExpiry')
    expect(values(await filesAt(made, 'adopt/adopt')).identity?.issuer.crtExpiry).toBe('2027-11-22T06:00:00Z')
    expect(steps(made)).toEqual(['adopt/adopt', 'trust-both/data', 'issue-new/data', 'trust-new/data'])
    const data = values(await filesAt(made, 'trust-both/data'))
    expect(data.global).toEqual({ identityTrustAnchorsPEM: both })
    expect(data.podAnnotations).toBeUndefined()
    // Pods show their literal, so no token is asked of them; a nudge cannot restart this control plane.
    for (const { state, undo, nudge } of made.plan.phases.flatMap(phase => phase.steps))
      for (const each of [state, undo, nudge]) expect(each?.restarts['control-plane']).toBeUndefined()
    const end = next.issuer.parts.notAfter.toISOString().replace('.000Z', 'Z')
    expect(values(await filesAt(made, 'issue-new/data')).identity?.issuer.crtExpiry).toBe(end)
  })

  it('takes a token from 2.9 on, and has lost global with 2.10', async () => {
    expect(values(await filesAt(await upgrade('2.9.5'), 'trust-both/data')).global).toHaveProperty('podAnnotations')
    const flat = legacy()
      .replace(/^global:\n/, '')
      .replace(/^ {2}identityTrust[\s\S]*?(?=^identity:)/m, text => text.replace(/^ {2}/gm, ''))
    const data = values(await filesAt(await upgrade('2.10.2', flat), 'trust-both/data'))
    expect(data).toMatchObject({ identityTrustAnchorsPEM: both, podAnnotations: {} })
    expect(data.global).toBeUndefined()
  })
})

describe('identity.externalCA', () => {
  it('makes no ConfigMap: the folder delivers it, and the restart is a step of its own, as the hash is constant', async () => {
    const made = await helm('identity:\n  externalCA: true\n  issuer: {scheme: kubernetes.io/tls}\n', {
      scheme: 'kubernetes.io/tls',
    })
    expect(steps(made)).toEqual([
      'adopt/adopt',
      'trust-both/data',
      'trust-both/control-plane',
      'issue-new/data',
      'trust-new/data',
      'trust-new/control-plane',
    ])
    const data = await filesAt(made, 'trust-both/data')
    expect((parse(data.get('trust-roots.yaml') ?? '') as { data: unknown }).data).toEqual({ 'ca-bundle.crt': both })
    expect(values(data)).toEqual({})
    expect(values(await filesAt(made, 'trust-both/control-plane'))).toHaveProperty([
      'podAnnotations',
      'reanchor.dev/trust',
    ])
    await adopted(made)
  })

  it('is refused while the live ConfigMap is the release’s: Helm would delete it under every injector', async () => {
    const error = await refusal(() =>
      helm(external('  externalCA: true\n'), { scheme: 'kubernetes.io/tls', extra: { trustRootsOwner: 'helm' } }),
    )
    expect(error.todo).toContain('helm.sh/resource-policy=keep')
    expect(error.exit).toBe(5)
  })

  it('of one site and not of another is refused: their steps would differ', async () => {
    const files = {
      ...fleet(release(external()), 'eu-1'),
      ...fleet(release(external('  externalCA: true\n')), 'us-1'),
    }
    const error = await refusal(() => helm('', { scheme: 'kubernetes.io/tls', sites: ['eu-1', 'us-1'], files }))
    expect(error.what).toContain('sites eu-1 and us-1 differ in identity.externalCA')
  })
})

/** As linkerd.io/docs/tasks/gitops.md has it: the anchors typed as a parameter. */
function application(helmFields: string): Record<string, string> {
  return {
    'linkerd/eu-1/release.yaml': `apiVersion: argoproj.io/v1alpha1
kind: Application
metadata:
  name: linkerd-control-plane
  namespace: argocd
spec:
  project: default
  source:
    chart: linkerd-control-plane
    repoURL: https://helm.linkerd.io/stable
    targetRevision: 1.16.11
    helm:
${indented(helmFields, 6)}  destination: {server: https://kubernetes.default.svc, namespace: linkerd}
`,
  }
}

describe('an Argo CD Application of the chart', () => {
  function parameters(): string {
    return `parameters:
  - name: identityTrustAnchorsPEM
    value: |
${indented(old.root.pem, 6)}  - name: identity.issuer.scheme # a Secret of its own
    value: kubernetes.io/tls
`
  }

  it('gets this repository as a second source; the parameter of the anchors moves, the others stay', async () => {
    const made = await plannedChart(
      { old, next },
      { install: 'argoApplication', scheme: 'kubernetes.io/tls', files: application(parameters()) },
    )
    const tree = await adopted(made)
    const text = tree.get('linkerd/eu-1/release.yaml') ?? ''
    expect((parse(text) as { spec: { sources: unknown } }).spec.sources).toEqual([
      {
        chart: 'linkerd-control-plane',
        repoURL: 'https://helm.linkerd.io/stable',
        targetRevision: '1.16.11',
        helm: {
          parameters: [{ name: 'identity.issuer.scheme', value: 'kubernetes.io/tls' }],
          valueFiles: ['$reanchor/trust/eu-1/linkerd-values.yaml'],
        },
      },
      { repoURL: fleetURL, targetRevision: 'main', ref: 'reanchor' },
    ])
    expect(text).toContain('# a Secret of its own')
    expect(values(await filesAt(made, 'adopt/adopt'))).toEqual({ identityTrustAnchorsPEM: old.root.pem })
    expect(steps(made)).toContain('trust-both/data')
    expect(steps(made)).not.toContain('trust-both/control-plane')
    for (const { file, edit } of await pointsOf({ ...made, files: tree }))
      expect(wiringHolds(tree.get(file) ?? null, edit, file).holds, file).toBe(true)
  })

  it('moves the anchors out of valuesObject too, and is refused where they stand in a text of values', async () => {
    const scheme = 'kubernetes.io/tls'
    const object = application(`valuesObject:\n${indented(external(), 2)}`)
    const made = await plannedChart({ old, next }, { install: 'argoApplication', scheme, files: object })
    expect((await adopted(made)).get('linkerd/eu-1/release.yaml')).not.toContain('BEGIN CERTIFICATE')
    const inText = application(`values: |\n${indented(external(), 2)}`)
    const text = await plannedChart({ old, next }, { install: 'argoApplication', scheme, files: inText })
    expect((await refusal(() => pointsOf(text))).found).toBe('identityTrustAnchorsPEM')
  })

  it('is refused in the chart’s own scheme: its values come from Git alone, where the key would stand in the clear', async () => {
    const files = application(`valuesObject:\n${indented(inline(), 2)}`)
    const error = await refusal(() => plannedChart({ old, next }, { install: 'argoApplication', files }))
    expect(error.expected).toContain('kubernetes.io/tls')
    expect(error.exit).toBe(5)
  })
})

describe('the webhooks', () => {
  it('have a PKI of their own, which no step of any install names', async () => {
    const made = [
      await helm(inline()),
      await helm(inline(), { version: 'stable-2.11.5', files: fleet(release(inline(), 'linkerd2', '2.11.5')) }),
    ]
    for (const each of made)
      for (const name of steps(each))
        for (const [path, text] of await filesAt(each, name))
          expect(text, `${name} ${path}`).not.toMatch(
            /k8s-tls|caBundle|WebhookConfiguration|proxyInjector|profileValidator|policyValidator/,
          )
  })
})
