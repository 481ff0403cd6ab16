import { Buffer } from 'node:buffer'
import { describe, expect, test } from 'vitest'
import { findInRepository } from '../../src/declaration/find.ts'
import {
  forgeOfRemote,
  type InitFlags,
  type InitQuestion,
  type InitRun,
  initAnswers,
  openQuestions,
  runInit,
} from '../../src/declaration/init.ts'
import { readDeclaration } from '../../src/declaration/read.ts'
import { ReanchorError } from '../../src/errors.ts'
import type { FileTree } from '../../src/rotation.ts'
import { initIstio } from '../../src/systems/istio/init.ts'
import { istioOf } from '../../src/systems/istio/settings.ts'
import { recipients } from './declarations.ts'

const sync = (cluster: string): readonly [string, string] => [
  `clusters/${cluster}/flux-system/gotk-sync.yaml`,
  `apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: flux-system, namespace: flux-system}
spec: {interval: 1m, ref: {branch: main}, url: https://git.acme.example/acme/fleet.git}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: flux-system, namespace: flux-system}
spec:
  interval: 10m
  path: ./clusters/${cluster}
  prune: true
  sourceRef: {kind: GitRepository, name: flux-system}
`,
]

const kustomization = (name: string, path: string): string => `apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: ${name}, namespace: flux-system}
spec: {interval: 10m, path: ./${path}, prune: true, sourceRef: {kind: GitRepository, name: flux-system}}
`

const workload = (kind: string, name: string): string => `apiVersion: apps/v1
kind: ${kind}
metadata: {name: ${name}, namespace: shop}
spec: {selector: {matchLabels: {app: ${name}}}, template: {metadata: {labels: {app: ${name}}}, spec: {containers: [{name: a, image: a}]}}}
`

const istio = `apiVersion: sailoperator.io/v1
kind: Istio
metadata: {name: default}
spec:
  version: v1.27.0
  namespace: istio-system
  values:
    meshConfig: {trustDomain: acme.example, defaultConfig: {proxyMetadata: {SECRET_TTL: 12h0m0s}}}
`

const sopsRules = `creation_rules:
  - path_regex: ^trust/
    age: ${recipients[0]}
`

const sail: FileTree = new Map([
  sync('eu-1'),
  ['clusters/eu-1/flux-system/gotk-components.yaml', workload('Deployment', 'source-controller')],
  ['clusters/eu-1/istio.yaml', istio],
  ['clusters/eu-1/apps.yaml', kustomization('apps', 'apps/eu-1')],
  ['apps/eu-1/kustomization.yaml', 'resources: [cart.yaml, db.yaml]\n'],
  ['apps/eu-1/cart.yaml', workload('Deployment', 'cart')],
  ['apps/eu-1/db.yaml', workload('StatefulSet', 'db')],
  ['.sops.yaml', sopsRules],
])

const helm: FileTree = new Map([
  ...['eu-1', 'us-1'].flatMap(cluster => [
    sync(cluster),
    [`clusters/${cluster}/infra.yaml`, kustomization('infra', `infra/${cluster}`)] as const,
    [`clusters/${cluster}/apps.yaml`, kustomization('apps', 'apps/all')] as const,
    [`infra/${cluster}/kustomization.yaml`, 'resources: [istiod.yaml, ztunnel.yaml]\n'] as const,
    [
      `infra/${cluster}/istiod.yaml`,
      `apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: istiod, namespace: istio-system}
spec:
  interval: 10m
  chart: {spec: {chart: istiod, version: 1.27.0, sourceRef: {kind: HelmRepository, name: istio}}}
  values: {meshConfig: {trustDomain: ${cluster === 'eu-1' ? 'acme.example' : 'other.example'}}}
`,
    ] as const,
    [
      `infra/${cluster}/ztunnel.yaml`,
      `apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: ztunnel, namespace: istio-system}
spec: {interval: 10m, chart: {spec: {chart: ztunnel, version: 1.27.0, sourceRef: {kind: HelmRepository, name: istio}}}}
`,
    ] as const,
  ]),
  ['apps/all/cart.yaml', workload('Deployment', 'cart')],
])

const application = (name: string, source: string): string => `apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: ${name}, namespace: argocd}
spec:
  project: mesh
  source: ${source}
  destination: {server: https://kubernetes.default.svc, namespace: istio-system}
`

const argo: FileTree = new Map([
  [
    'argo/istiod.yaml',
    application(
      'istiod',
      '{repoURL: https://charts.acme.example, chart: istiod, targetRevision: 1.27.0, helm: {valuesObject: {meshConfig: {trustDomain: acme.example}}}}',
    ),
  ],
  [
    'argo/shop.yaml',
    application('shop', '{repoURL: https://git.acme.example/acme/fleet.git, path: apps/shop, targetRevision: main}'),
  ],
  ['apps/shop/kustomization.yaml', 'resources: [cart.yaml]\n'],
  ['apps/shop/cart.yaml', workload('Deployment', 'cart')],
  ['sealed-secrets/cert.pem', '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n'],
])

function run(files: FileTree, flags: InitFlags, rest: Partial<InitRun> = {}) {
  return runInit({ files, flags, existing: () => null, now: new Date('2026-03-01T00:00:00Z'), ask: null, ...rest })
}

async function refusal(work: Promise<unknown>, exit = 2): Promise<ReanchorError> {
  const error = await work.then(
    () => null,
    (caught: unknown) => caught,
  )
  expect(error).toBeInstanceOf(ReanchorError)
  expect((error as ReanchorError).exit).toBe(exit)
  return error as ReanchorError
}

describe('init finds in the repository', () => {
  test('one cluster of Flux with a Sail installation: no flag is needed', async () => {
    const result = await run(sail, {})
    expect(result.path).toBe('rotations/mesh-2026/rotation.yaml')
    expect(result.text).toBe(`# How one certificate authority is replaced. Fields: docs/rotation.yaml.md of reanchor.
# After a change run: reanchor plan
apiVersion: reanchor.dev/v1alpha1
kind: TrustRotation
metadata:
  name: mesh-2026
spec:
  system: istio
  strategy: graceful  # graceful: new key, no outage | renew | issuer | emergency
  base: main  # the branch that Flux or Argo CD follows
  forge: none  # github | gitlab | gitea | bitbucket | local | none

  # The CA in use now.
  current:
    from: cluster
  # The CA that takes its place.
  next:
    generate:
      algorithm: ecdsa-p256  # ecdsa-p256 | ecdsa-p384 | rsa-4096
      subject: CN=mesh-2026 root,O=acme.example
      validity: 3650d
      issuing:
        subject: CN=mesh-2026 issuing,L={site},O=acme.example
        validity: 730d
  # How private keys are sealed before they reach Git.
  custody:
    sops: {}  # recipients: those of the rule in .sops.yaml that matches the file

  # Clusters that share this trust root. Each path is a folder of its own, owned by reanchor.
  sites:
    - name: eu-1
      path: trust/eu-1
      cluster:
        context: eu-1
      # New: the adopt pull request writes clusters/eu-1/trust.yaml.
      delivery:
        flux:
          kustomization: flux-system/trust
          file: clusters/eu-1/trust.yaml
          source: flux-system/flux-system
  rollout: parallel  # parallel | serial | batches

  # What the verifier asks for before the next pull request is opened.
  gates:
    hold: 10m  # how long the last change must lie back
    fresh: 1h  # after this an observation is stale
  # Workloads that are re-created through Git, because proxies read some settings only at start.
  reload:
    # Found in this repository; take out what is not part of the mesh.
    workloads:
      - site: eu-1
        path: apps/eu-1
        kinds:
          - Deployment
          - StatefulSet

  istio:
    install: sail  # sail | helmRelease | helmValues | argoApplication
    namespace: istio-system
    trustDomain: acme.example
    leafTTL: 12h  # how long a leaf lives
    ambient: false  # true where ztunnel or waypoints run
    # Where each site declares its Istio.
    controlPlane:
      # Found as Istio default.
      eu-1:
        file: clusters/eu-1/istio.yaml
        name: default
`)
    expect(result.nextSteps).toContain('clusters/eu-1/trust.yaml, clusters/eu-1/istio.yaml')
    expect(result.nextSteps).toContain('reanchor/gate')
    expect(result.nextSteps).toContain('diff.reanchor.textconv')
  })

  test('the forge in the remote of the clone, unless a flag says another; a server of its own by its address', async () => {
    const flags = { name: 'ca-2026', site: ['eu-1', 'us-1=mesh/us'], context: ['a', 'b'], age: recipients }
    const remote = forgeOfRemote('git@gitlab.com:acme/platform/fleet.git', {})
    const found = await run(helm, flags, { forge: remote })
    expect(found.text).toContain('  forge:\n    gitlab:\n      repository: acme/platform/fleet\n')
    expect(found.remarks.join('\n')).toContain('pull requests are opened in acme/platform/fleet (gitlab)')
    const none = await run(helm, { ...flags, forge: 'none' }, { forge: remote })
    expect(none.text).toContain('  forge: none')
    const own = await run(helm, { ...flags, forge: 'gitea:https://git.acme.example:8443/acme/fleet.git' })
    expect((await readDeclaration(own.text, own.path)).forge).toMatchObject({
      kind: 'gitea',
      repository: 'acme/fleet',
      url: 'https://git.acme.example:8443',
    })
    const cloud = await run(helm, { ...flags, forge: 'bitbucket:acme/fleet' })
    expect((await readDeclaration(cloud.text, cloud.path)).forge).toMatchObject({
      kind: 'bitbucket',
      repository: 'acme/fleet',
      url: null,
      dashboard: false,
    })
    const center = await refusal(run(helm, { ...flags, forge: 'bitbucket:https://bitbucket.acme.example/acme/fleet' }))
    expect(center.expected).toContain('Data Center')
    const wrong = await refusal(run(helm, { ...flags, forge: 'gitea:http://git.acme.example/acme/fleet' }))
    expect(wrong.expected).toContain('github:https://HOST/OWNER/NAME')
  })

  test('two clusters of Flux with HelmReleases, an ambient mesh, and apps that both share', async () => {
    const flags: InitFlags = {
      name: 'ca-2026',
      site: ['eu-1', 'us-1=mesh/us'],
      context: ['prod-eu', 'us-1=prod-us'],
      age: recipients,
      forge: 'github:acme/fleet',
      base: 'release',
    }
    const result = await run(helm, flags)
    const declaration = await readDeclaration(result.text, result.path)
    expect(declaration).toMatchObject({
      name: 'ca-2026',
      base: 'release',
      forge: { kind: 'github', repository: 'acme/fleet' },
      custody: { kind: 'sops', age: recipients },
      reload: [],
      istio: {
        install: 'helmRelease',
        ambient: true,
        trustDomain: 'acme.example',
        controlPlane: {
          'eu-1': { file: 'infra/eu-1/istiod.yaml', name: 'istiod', path: 'infra/eu-1' },
          'us-1': { file: 'infra/us-1/istiod.yaml', name: 'istiod', path: 'infra/us-1' },
        },
      },
    })
    expect(declaration.sites).toMatchObject([
      {
        name: 'eu-1',
        path: 'trust/eu-1',
        cluster: { context: 'prod-eu' },
        delivery: { name: 'trust', file: 'clusters/eu-1/trust.yaml' },
      },
      {
        name: 'us-1',
        path: 'mesh/us',
        cluster: { context: 'prod-us' },
        delivery: { name: 'trust', file: 'clusters/us-1/trust.yaml' },
      },
    ])
    expect(result.remarks.join('\n')).toContain('the sites differ in the trust domain (acme.example, other.example)')
    expect(result.remarks.join('\n')).toContain('apps/all is applied at eu-1, us-1')
    expect(result.text).toContain(
      '      # Found as HelmRelease istiod.\n      us-1:\n        file: infra/us-1/istiod.yaml\n',
    )
  })

  test('an Argo CD installation with SealedSecrets', async () => {
    const result = await run(argo, { site: ['eu-1=trust/eu-1'], age: [recipients[0]!] })
    const declaration = await readDeclaration(result.text, result.path)
    expect(declaration).toMatchObject({
      custody: { kind: 'sealedSecrets', certificate: 'sealed-secrets/cert.pem', scope: 'strict', age: [recipients[0]] },
      sites: [
        {
          delivery: {
            kind: 'argocd',
            namespace: 'argocd',
            name: 'trust',
            file: 'argo/trust.yaml',
            repoURL: 'https://git.acme.example/acme/fleet.git',
            project: 'mesh',
          },
        },
      ],
      reload: [{ site: 'eu-1', path: 'apps/shop', kinds: ['Deployment'], batch: 1 }],
      istio: {
        install: 'argoApplication',
        trustDomain: 'acme.example',
        controlPlane: { 'eu-1': { file: 'argo/istiod.yaml', name: 'istiod' } },
      },
    })
    expect(result.text).toContain(`          project: mesh\n`)
    expect(result.text).toContain(`        - ${recipients[0]}\n`)
  })

  test('workloads that Argo CD applies as plain files are left to their owners, and said so', async () => {
    const files = new Map(argo)
    files.delete('apps/shop/kustomization.yaml')
    const result = await run(files, { site: ['eu-1=trust/eu-1'], age: [recipients[0]!] })
    expect((await readDeclaration(result.text, result.path)).reload).toEqual([])
    expect(result.remarks.join('\n')).toContain('apps/shop is applied by Application shop as plain files')
  })

  test('an app of apps: the new Application goes where it is delivered from, into the project of istiod’s', async () => {
    const url = 'https://git.acme.example/acme/fleet.git'
    const files = new Map([
      ['bootstrap/root.yaml', application('root', `{repoURL: ${url}, path: argocd/apps, targetRevision: main}`)],
      ['argocd/apps/kustomization.yaml', 'resources: [istiod.yaml]\n'],
      [
        'argocd/apps/istiod.yaml',
        application(
          'istiod',
          `{repoURL: ${url}, path: charts/mesh, targetRevision: main, helm: {valueFiles: [values.yaml]}}`,
        ),
      ],
      ['charts/mesh/Chart.yaml', 'apiVersion: v2\nname: mesh\ndependencies: [{name: istiod, version: 1.29.0}]\n'],
      [
        'charts/mesh/values.yaml',
        'istiod:\n  meshConfig: {trustDomain: acme.example, defaultConfig: {proxyMetadata: {SECRET_TTL: 12h}}}\n',
      ],
      ['charts/mesh/templates/extra.yaml', 'kind: {{ .Values.kind }}\n'],
      ['sealed-secrets.pem', '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n'],
    ])
    for (const flags of [{}, { controlPlane: ['charts/mesh/values.yaml'] }]) {
      const result = await run(files, { site: ['eu-1'], age: [recipients[0]!], ...flags })
      const declaration = await readDeclaration(result.text, result.path)
      expect(declaration.sites[0]?.delivery).toMatchObject({
        kind: 'argocd',
        file: 'argocd/apps/trust.yaml',
        repoURL: url,
      })
      expect(istioOf(declaration)).toMatchObject({
        install: 'argoApplication',
        trustDomain: 'acme.example',
        leafHours: 12,
        controlPlane: { 'eu-1': { file: 'argocd/apps/istiod.yaml', name: 'istiod', path: 'argocd/apps' } },
      })
      expect(result.text).toContain('which Application root delivers')
    }
  })

  test('a HelmRelease of a chart that lies in Git', async () => {
    const files = new Map([...helm].filter(([path]) => !path.includes('us-1')))
    const istiod = files.get('infra/eu-1/istiod.yaml') ?? ''
    const chart =
      'chart: ./manifests/charts/istio-control/istio-discovery, sourceRef: {kind: GitRepository, name: istio}'
    files.set(
      'infra/eu-1/istiod.yaml',
      istiod.replace('chart: istiod, version: 1.27.0, sourceRef: {kind: HelmRepository, name: istio}', chart),
    )
    const result = await run(files, { age: [recipients[0]!] })
    const istio = istioOf(await readDeclaration(result.text, result.path))
    expect(istio).toMatchObject({
      install: 'helmRelease',
      controlPlane: { 'eu-1': { file: 'infra/eu-1/istiod.yaml', name: 'istiod' } },
    })
  })

  test('a Kustomization that applies the folder already', async () => {
    const files = new Map([...sail, ['clusters/eu-1/ca.yaml', kustomization('mesh-ca', 'trust/eu-1')]])
    const { text, path } = await run(files, {})
    expect((await readDeclaration(text, path)).sites[0]?.delivery).toMatchObject({
      name: 'mesh-ca',
      file: 'clusters/eu-1/ca.yaml',
    })
  })

  test('the values file of a plain Helm installation, where it is named', async () => {
    const files = new Map([...sail].filter(([path]) => path !== 'clusters/eu-1/istio.yaml'))
    files.set('helm/istiod-values.yaml', 'pilot: {env: {}}\n')
    const { text, path } = await run(files, { controlPlane: ['helm/istiod-values.yaml'], site: ['eu-1'] })
    expect(istioOf(await readDeclaration(text, path))).toMatchObject({
      install: 'helmValues',
      controlPlane: { 'eu-1': { file: 'helm/istiod-values.yaml' } },
    })
  })

  test('nothing in rotations/, and nothing that Flux itself runs', async () => {
    const files = new Map([...sail, ['rotations/old/x/istio.yaml', istio]])
    expect(findInRepository(files).controlPlanes).toHaveLength(1)
    expect(findInRepository(sail).kustomizations.find(each => each.name === 'flux-system')?.workloads).toEqual([])
  })
})

describe('init that nobody can be asked by says which flag to give', () => {
  test.each<[string, FileTree, InitFlags, string]>([
    ['for the sites of an empty repository', new Map(), {}, '--site'],
    ['for the delivery where there is none', new Map([['istio.yaml', istio]]), { site: ['eu-1'] }, '--delivery eu-1='],
    [
      'for the delivery where Flux and Argo CD are both there',
      new Map([...sail, ...argo]),
      { site: ['eu-1'] },
      '--delivery eu-1=',
    ],
    ['for the control plane where there is none', new Map([sync('eu-1')]), { site: ['eu-1'] }, '--control-plane eu-1='],
    [
      'for the control plane where there are two',
      new Map([...sail, ['clusters/eu-1/canary.yaml', istio.replace('default', 'canary')]]),
      {},
      '--control-plane eu-1=',
    ],
    [
      'for the recipients without .sops.yaml',
      new Map([...sail].filter(([path]) => path !== '.sops.yaml')),
      {},
      '--age',
    ],
    [
      'for the recipients where no rule matches',
      new Map([...sail, ['.sops.yaml', sopsRules.replace('^trust', '^other')]]),
      {},
      '--age',
    ],
    [
      'for the certificate of SealedSecrets',
      new Map([...argo].filter(([path]) => !path.startsWith('sealed'))),
      { site: ['eu-1'] },
      '--sealed-secrets',
    ],
    ["for a recipient of the root's key", argo, { site: ['eu-1'] }, '--age'],
    [
      'for the address of the repository',
      new Map([...argo].filter(([path]) => !path.includes('shop'))),
      { site: ['eu-1'] },
      '--repo-url',
    ],
  ])('%s', async (_, files, flags, flag) => {
    const error = await refusal(run(files, flags))
    expect(error.message).toContain(flag)
    expect(error.message).not.toContain('TODO')
  })

  test.each<[string, InitFlags, string]>([
    ['a site with a bad name', { site: ['EU'] }, '--site'],
    ['a site named undo', { site: ['undo'] }, '--site'],
    ['a site outside the repository', { site: ['eu-1=../x'] }, '--site'],
    ['a site twice', { site: ['eu-1', 'eu-1=x'] }, '--site'],
    ['a bad delivery', { site: ['eu-1'], delivery: ['helm:a/b'] }, '--delivery'],
    ['a delivery without a namespace', { site: ['eu-1'], delivery: ['flux:trust'] }, '--delivery'],
    ['two contexts for three sites', { site: ['a', 'b', 'c'], context: ['x', 'y'] }, '--context'],
    ['one context for two sites', { site: ['a', 'b'], context: ['x'] }, '--context'],
    ['a bad branch', { base: '-x' }, '--base'],
    ['a bad name', { name: '-x' }, '--name'],
    ['a bad forge', { forge: 'sourceforge' }, '--forge'],
    ['a forge whose repository is an option', { forge: 'github:-x/y' }, '--forge'],
    ['a mistyped recipient', { age: [recipients[0]!.replace('ql3', 'ql4')] }, '--age'],
    ['a control plane that is not committed', { site: ['eu-1'], controlPlane: ['nowhere.yaml'] }, '--control-plane'],
  ])('for %s', async (_, flags, flag) => {
    const error = await refusal(run(sail, flags))
    expect(error.message).toContain(flag)
  })

  test('never repeats a private key of age that was given by mistake (F29)', async () => {
    const identity = `AGE-SECRET-KEY-1${'Q'.repeat(58)}`
    const error = await refusal(run(sail, { age: [identity] }))
    expect(error.message).not.toContain('Q'.repeat(20))
  })
})

test('one value of --delivery serves all sites; SITE=… one of them', () => {
  const answers = initAnswers({ site: ['a', 'b', 'c'], delivery: ['flux:flux-system/ca', 'b=argocd:argocd/ca'] })
  expect(answers.sites.map(site => site.delivery?.kind)).toEqual(['flux', 'argocd', 'flux'])
})

test('refuses to overwrite another declaration, and takes its own as done', async () => {
  const first = await run(sail, {})
  const again = await run(sail, {}, { existing: path => (path === first.path ? first.text : null) })
  expect(again.unchanged).toBe(true)
  const error = await refusal(run(sail, {}, { existing: () => `${first.text}# mine\n` }))
  expect(error.where.file).toBe(first.path)
  expect(error.what).toContain('another declaration')
})

test('refuses a tree in which Flux would apply rotations/', async () => {
  const files = new Map([...sail, ['clusters/eu-1/all.yaml', kustomization('all', 'rotations')]])
  expect((await refusal(run(files, {}), 5)).message).toContain('rotations')
})

test('refuses a tree in which two Kustomizations would apply a site', async () => {
  const files = new Map([
    ...sail,
    ['clusters/eu-1/one.yaml', kustomization('one', 'trust/eu-1')],
    ['clusters/eu-1/two.yaml', kustomization('two', 'trust')],
  ])
  expect((await refusal(run(files, {}), 5)).message).toContain('two')
})

test('asks on a terminal for what is missing, one question after the other', async () => {
  const files = new Map([['mesh/istio.yaml', istio]])
  const asked: string[] = []
  const replies: Readonly<Record<string, string>> = {
    '--site': 'eu-1',
    '--delivery': 'flux:flux-system/ca',
    '--age': recipients[0]!,
  }
  const ask = async (question: InitQuestion): Promise<string> => {
    const flag = question.flag.split(' ')[0]!
    asked.push(flag)
    return replies[flag]!
  }
  const { text, path } = await run(files, {}, { ask })
  expect(asked).toEqual(['--site', '--delivery', '--age'])
  expect((await readDeclaration(text, path)).sites[0]?.delivery).toMatchObject({ name: 'ca', file: null })
})

test('the names of sites are told apart as words: eu-1 is not eu-10', () => {
  const files: FileTree = new Map([
    sync('eu-1'),
    sync('eu-10'),
    ['clusters/eu-1/istio.yaml', istio],
    ['clusters/eu-10/istio.yaml', istio],
    ['.sops.yaml', sopsRules],
  ])
  expect(openQuestions(findInRepository(files), initAnswers({ site: ['eu-1', 'eu-10'] }), files, initIstio)).toEqual([])
})

test('what init proposes is small', async () => {
  expect(Buffer.byteLength((await run(sail, {})).text)).toBeLessThan(4096)
})
