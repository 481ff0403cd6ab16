import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readDeclaration } from '../../src/declaration/read.ts'
import { ReanchorError } from '../../src/errors.ts'
import { mergeValues, parsedValues, valueAt } from '../../src/gitops/helm.ts'
import { checkReach, reach, reachOf } from '../../src/gitops/reach.ts'
import { builtObjects } from '../../src/gitops/wiring.ts'
import { applyWiring, wiringHolds } from '../../src/gitops/yaml-edit.ts'
import type { Declaration, FileTree, Site, WiringPoint } from '../../src/rotation.ts'
import { changedValues, helmCarrier, managedPaths, refuseChangedValues } from '../../src/systems/istio/helm-wiring.ts'
import { wiringOf } from '../../src/systems/istio/wiring.ts'

const fleetURL = 'https://git.example.com/platform/fleet.git'
const age = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p'
const live = '    env:\n      ISTIO_MULTIROOT_MESH: "true"\n'

interface Case {
  readonly declaration: Declaration
  readonly site: Site
  readonly files: FileTree
}

async function caseOf(
  install: string,
  controlPlane: string,
  delivery: 'flux' | 'argocd',
  files: Readonly<Record<string, string>>,
  sites: readonly string[] = ['eu-1'],
): Promise<Case> {
  const sealing =
    delivery === 'flux' ? `sops: {age: [${age}]}` : `sealedSecrets: {certificate: sealed-secrets.pem, age: [${age}]}`
  const deliverer = (site: string) =>
    delivery === 'flux'
      ? `flux: {kustomization: flux-system/trust, file: clusters/${site}/trust.yaml}`
      : `argocd: {application: argocd/trust-${site}, file: clusters/${site}/trust.yaml, repoURL: '${fleetURL}'}`
  const text = `apiVersion: reanchor.dev/v1alpha1
kind: TrustRotation
metadata: {name: mesh-2026}
spec:
  system: istio
  forge: local
  custody: {${sealing}}
  sites:
${sites.map(site => `    - {name: ${site}, path: trust/${site}, cluster: {context: ${site}}, delivery: {${deliverer(site)}}}`).join('\n')}
  istio:
    install: ${install}
    controlPlane: {${sites.map(site => `${site}: ${controlPlane.replaceAll('SITE', site)}`).join(', ')}}
`
  const declaration = await readDeclaration(text, 'rotations/mesh-2026/rotation.yaml')
  return { declaration, site: declaration.sites[0] as Site, files: new Map(Object.entries(files)) }
}

/** The tree after adopt: every point applied, one after the other, and the site's folder in place. */
function adopted({ declaration, site, files }: Case, folder: Readonly<Record<string, string>> = {}): FileTree {
  const tree = new Map(files)
  for (const point of wiringOf(declaration, site, files))
    tree.set(point.file, applyWiring(tree.get(point.file) ?? null, point.edit, point.file).text)
  for (const [path, text] of Object.entries(folder)) tree.set(`${site.path}/${path}`, text)
  return tree
}

function points({ declaration, site, files }: Case): readonly WiringPoint[] {
  return wiringOf(declaration, site, files)
}

function expectWired(made: Case, tree: FileTree): void {
  for (const point of points(made)) {
    expect(
      wiringHolds(tree.get(point.file) ?? null, point.edit, point.file),
      `${point.file}: ${point.purpose}`,
    ).toEqual({ holds: true })
    expect(applyWiring(tree.get(point.file) ?? null, point.edit, point.file).changed).toBe(false)
  }
  // A plan that is made again, from what adopt left, asks for nothing more.
  for (const point of points({ ...made, files: tree })) {
    expect(wiringHolds(tree.get(point.file) ?? null, point.edit, point.file), `again: ${point.purpose}`).toEqual({
      holds: true,
    })
  }
}

function refusal(run: () => unknown): ReanchorError {
  try {
    run()
  } catch (error) {
    if (error instanceof ReanchorError) return error
    throw error
  }
  throw new Error('nothing was refused')
}

function checkValues(made: Case, delivered: string): void {
  refuseChangedValues({ ...made, points: points(made), delivered })
}

function configMap(values: string, namespace = 'istio-system'): string {
  const body = values === '' ? '    {}\n' : values.replace(/^(?=.)/gm, '    ')
  return `apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: reanchor-istiod-values\n  namespace: ${namespace}\ndata:\n  values.yaml: |\n${body}`
}

/** What a phase puts into the site's folder, as Argo CD takes it. */
const argoFolder = {
  'kustomization.yaml':
    'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n  - canary.yaml\n',
  'canary.yaml':
    'apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: reanchor-canary, namespace: istio-system}\nspec: {encryptedData: {canary: AgA=}}\n',
  'istiod-values.yaml': '{}\n',
  'trust.txt': 'reanchor mesh-2026 0-adopt/1-adopt eu-1\n',
}

const fluxSystem = (site: string): Record<string, string> => ({
  [`clusters/${site}/flux-system/gotk-sync.yaml`]: `apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: flux-system, namespace: flux-system}
spec: {interval: 1m, url: '${fleetURL}', ref: {branch: main}}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: flux-system, namespace: flux-system}
spec:
  interval: 10m
  path: ./clusters/${site}
  prune: true
  sourceRef: {kind: GitRepository, name: flux-system}
`,
  [`clusters/${site}/infrastructure.yaml`]: `apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata:
  name: infrastructure
  namespace: flux-system
spec:
  interval: 10m
  path: ./infrastructure/${site}
  prune: true
  sourceRef: {kind: GitRepository, name: flux-system}
`,
})

const release = `# istiod of eu-1. Ask #mesh before a change.
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata:
  name: istiod
spec:
  interval: 10m # the default is an hour
  chart:
    spec:
      chart: istiod
      version: "1.29.x"
      sourceRef: {kind: HelmRepository, name: istio}
  values:
    global: {meshID: fleet}
    meshConfig:
      # the log collector reads it
      accessLogFile: /dev/stdout
    pilot:
      autoscaleMin: 2 # one per zone
      env:
        # tried in March
        ISTIO_MULTIROOT_MESH: "true" # keep
        PILOT_ENABLE_STATUS: "true"
`

const helmTree = {
  ...fluxSystem('eu-1'),
  'infrastructure/eu-1/kustomization.yaml': 'namespace: istio-system\nresources:\n  - istiod.yaml\n',
  'infrastructure/eu-1/istiod.yaml': release,
}
const helmPlace = '{file: infrastructure/SITE/istiod.yaml, name: istiod}'

describe('a HelmRelease', () => {
  test('takes valuesFrom a ConfigMap, and the managed key moves out of the inline values; everything else stays as it was', async () => {
    const made = await caseOf('helmRelease', helmPlace, 'flux', helmTree)
    const tree = adopted(made)
    expect(tree.get('infrastructure/eu-1/istiod.yaml')).toBe(
      release.replace('        ISTIO_MULTIROOT_MESH: "true" # keep\n', '') +
        '  valuesFrom:\n    - kind: ConfigMap\n      name: reanchor-istiod-values\n',
    )
    expectWired(made, tree)
    expect(helmCarrier(made.declaration, made.site, made.files)).toMatchObject({
      kind: 'helmRelease',
      namespace: 'istio-system',
      under: [],
    })
    checkValues(made, configMap(`pilot:\n${live.replaceAll(/^ {2}/gm, '')}`))
  })

  test('keeps its own valuesFrom before ours', async () => {
    const files = {
      ...helmTree,
      'infrastructure/eu-1/istiod.yaml': release.replace(
        '  values:\n',
        '  valuesFrom:\n    - kind: Secret # from Vault\n      name: istiod-secrets\n  values:\n',
      ),
    }
    const made = await caseOf('helmRelease', helmPlace, 'flux', files)
    expect(adopted(made).get('infrastructure/eu-1/istiod.yaml')).toContain(
      '  valuesFrom:\n    - kind: Secret # from Vault\n      name: istiod-secrets\n    - kind: ConfigMap\n      name: reanchor-istiod-values\n  values:\n',
    )
    checkValues(made, configMap('pilot:\n  env:\n    ISTIO_MULTIROOT_MESH: "true"\n'))
  })

  test('is refused where a managed key would change its value or go', async () => {
    const made = await caseOf('helmRelease', helmPlace, 'flux', helmTree)
    const gone = refusal(() => checkValues(made, configMap('')))
    expect(gone.exit).toBe(5)
    expect(gone.found).toBe('pilot.env.ISTIO_MULTIROOT_MESH: "true" becomes unset')
    const other = refusal(() => checkValues(made, configMap('pilot:\n  env:\n    ISTIO_MULTIROOT_MESH: "false"\n')))
    expect(other.found).toContain('"true" becomes "false"')
    const more = refusal(() =>
      checkValues(made, configMap('pilot:\n  env:\n    ISTIO_MULTIROOT_MESH: "true"\n    OTHER: "1"\n')),
    )
    expect(more.found).toContain('pilot.env.OTHER: unset becomes "1"')
  })

  test('is refused where a patch of the cluster has the last word on values or on valuesFrom', async () => {
    const base = {
      ...fluxSystem('eu-1'),
      'base/kustomization.yaml': 'namespace: istio-system\nresources: [istiod.yaml]\n',
      'base/istiod.yaml': release.replace(/ {6}env:[\s\S]*$/, ''),
    }
    const overlay = (patch: string) => ({
      ...base,
      'infrastructure/eu-1/kustomization.yaml': `resources: [../../base]\npatches:\n  - target: {kind: HelmRelease}\n    patch: |\n${patch.replace(/^(?=.)/gm, '      ')}`,
    })
    const head = 'apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: istiod}\n'
    const place = '{file: base/istiod.yaml, name: istiod, path: infrastructure/eu-1}'
    const inline = await caseOf(
      'helmRelease',
      place,
      'flux',
      overlay(`${head}spec: {values: {pilot: {env: {ISTIO_MULTIROOT_MESH: "false"}}}}\n`),
    )
    // What runs is "true"; the patch keeps its word whatever the folder says, so a later phase would not reach istiod.
    expect(
      refusal(() => checkValues(inline, configMap('pilot:\n  env:\n    ISTIO_MULTIROOT_MESH: "true"\n'))).found,
    ).toMatch(/ISTIO_MULTIROOT_MESH is set after the site’s folder/)
    const list = await caseOf(
      'helmRelease',
      place,
      'flux',
      overlay(`${head}spec: {valuesFrom: [{kind: ConfigMap, name: site}]}\n`),
    )
    expect(refusal(() => checkValues(list, configMap(''))).what).toContain('would not take its values')
    const fine = await caseOf(
      'helmRelease',
      place,
      'flux',
      overlay(`${head}spec: {values: {pilot: {autoscaleMin: 3}}}\n`),
    )
    checkValues(fine, configMap(''))
  })

  test('of a chart in Git that wraps istiod takes its values under the name of the dependency', async () => {
    const files = {
      ...helmTree,
      'charts/mesh/Chart.yaml':
        'apiVersion: v2\nname: mesh\nversion: 0.1.0\ndependencies:\n  - {name: base, version: 1.29.0}\n  - {name: istiod, alias: pilot-plane, version: 1.29.0}\n',
      'infrastructure/eu-1/istiod.yaml': `apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: mesh, namespace: istio-system}
spec:
  chart:
    spec:
      chart: ./charts/mesh
      sourceRef: {kind: GitRepository, name: flux-system, namespace: flux-system}
  values:
    pilot-plane:
      pilot:
        env: {ISTIO_MULTIROOT_MESH: "true", A: b}
`,
    }
    const made = await caseOf('helmRelease', '{file: infrastructure/SITE/istiod.yaml, name: mesh}', 'flux', files)
    expect(helmCarrier(made.declaration, made.site, made.files)?.under).toEqual(['pilot-plane'])
    expect(adopted(made).get('infrastructure/eu-1/istiod.yaml')).toContain('env: {A: b}')
    expectWired(made, adopted(made))
    checkValues(made, configMap('pilot-plane:\n  pilot:\n    env:\n      ISTIO_MULTIROOT_MESH: "true"\n'))
    expect(refusal(() => checkValues(made, configMap('pilot:\n  env:\n    ISTIO_MULTIROOT_MESH: "true"\n'))).exit).toBe(
      5,
    )
  })

  test('that installs another chart is not taken for istiod', async () => {
    const files = { ...helmTree, 'infrastructure/eu-1/istiod.yaml': release.replace('chart: istiod', 'chart: base') }
    const made = await caseOf('helmRelease', helmPlace, 'flux', files)
    expect(refusal(() => points(made)).what).toBe('HelmRelease istiod does not install the chart istiod')
  })
})

describe('a values file of the user’s', () => {
  const values = { 'mesh/values.yaml': 'meshConfig: {accessLogFile: /dev/stdout}\n' }
  const place = '{file: mesh/values.yaml, name: istiod}'

  test('leads to the HelmRelease that takes it through a generated ConfigMap', async () => {
    const files = {
      ...helmTree,
      ...values,
      'mesh/kustomization.yaml':
        'configMapGenerator:\n  - name: istiod-values\n    files: [values.yaml]\nresources: [release.yaml]\n',
      'mesh/release.yaml': release.replace(
        / {2}values:\n[\s\S]*$/,
        '  valuesFrom:\n    - {kind: ConfigMap, name: istiod-values}\n',
      ),
      'infrastructure/eu-1/istiod.yaml': 'kind: None\n',
      'infrastructure/eu-1/kustomization.yaml': 'namespace: istio-system\nresources: [../../mesh]\n',
    }
    const made = await caseOf(
      'helmValues',
      '{file: mesh/values.yaml, name: istiod, path: infrastructure/eu-1}',
      'flux',
      files,
    )
    expect(adopted(made).get('mesh/release.yaml')).toContain(
      '    - {kind: ConfigMap, name: istiod-values}\n    - kind: ConfigMap\n      name: reanchor-istiod-values\n',
    )
    expect(helmCarrier(made.declaration, made.site, made.files)).toMatchObject({
      kind: 'helmRelease',
      file: 'mesh/release.yaml',
      namespace: 'istio-system',
    })
    checkValues(made, configMap(''))
  })

  test('leads to the Application that takes it, whatever that is called', async () => {
    const files = { ...argoTree('    - ../../mesh/values.yaml\n'), ...values }
    const made = await caseOf('helmValues', place, 'argocd', files)
    expect(points(made).some(point => point.file === 'clusters/eu-1/istiod.yaml')).toBe(true)
    expectWired(made, adopted(made))
  })

  test('is refused where nothing in the repository applies it', async () => {
    const made = await caseOf('helmValues', place, 'argocd', { ...argoTree(''), ...values })
    const error = refusal(() => points(made))
    expect(error.where.file).toBe('mesh/values.yaml')
    expect(error.todo).toContain('cannot be wired')
  })
})

function application(name: string, source: string, extra = ''): string {
  return `apiVersion: argoproj.io/v1alpha1
kind: Application
metadata:
  name: ${name}
  namespace: argocd
${extra}spec:
  project: mesh
  destination:
    name: eu-1-cluster
    namespace: istio-system
${source}  syncPolicy:
    automated: {prune: true, selfHeal: true}
`
}

const root = application(
  'root',
  `  source:\n    repoURL: ${fleetURL}\n    targetRevision: main\n    path: clusters/eu-1\n`,
)

function argoTree(valueFiles: string, extra = ''): Record<string, string> {
  return {
    'clusters/eu-1/root.yaml': root,
    'clusters/eu-1/istiod.yaml': application(
      'istiod',
      `  source:
    # our copy, with the mirror's images
    repoURL: ${fleetURL} # this repository
    targetRevision: main
    path: charts/istiod
    helm:
      releaseName: istiod
${valueFiles === '' ? '' : `      valueFiles:\n${valueFiles.replace(/^(?=.)/gm, '    ')}`}`,
      extra,
    ),
    'charts/istiod/Chart.yaml': 'apiVersion: v2\nname: istiod\nversion: 1.29.0\n',
    'charts/istiod/values.yaml': 'pilot:\n  env:\n    PILOT_ENABLE_STATUS: "true"\n',
  }
}

const argoPlace = '{file: clusters/SITE/istiod.yaml, name: istiod}'

describe('an Application of a chart in the repository', () => {
  test('takes one more values file, by a path from the chart, and keeps its comments', async () => {
    const files = argoTree('    - values.yaml # defaults\n')
    const made = await caseOf('argoApplication', argoPlace, 'argocd', files)
    const tree = adopted(made, argoFolder)
    expect(tree.get('clusters/eu-1/istiod.yaml')).toBe(
      files['clusters/eu-1/istiod.yaml']?.replace(
        '# defaults\n',
        '# defaults\n        - ../../trust/eu-1/istiod-values.yaml\n',
      ),
    )
    expectWired(made, tree)
    checkValues(made, '{}\n')
  })

  test('the site’s folder is applied by exactly one Application, which takes no values file for a manifest', async () => {
    const made = await caseOf('argoApplication', argoPlace, 'argocd', argoTree(''))
    expect(checkReach(made.files, { sites: made.declaration.sites, rotationsFolder: 'rotations' })).toEqual([])
    const tree = adopted(made, argoFolder)
    expect(checkReach(tree, { sites: made.declaration.sites, rotationsFolder: 'rotations' })).toEqual([])
    const readers = reachOf(reach(tree), 'trust/eu-1').map(
      ({ reader }) => `${reader.kind} ${reader.namespace}/${reader.name} in ${reader.file}`,
    )
    expect(readers).toEqual(['Application argocd/trust-eu-1 in clusters/eu-1/trust.yaml'])
    const built = builtObjects(tree, { kind: 'argocd', name: 'trust-eu-1', namespace: 'argocd', file: null })
    expect(built.objects.map(({ object }) => object.kind)).toEqual(['SealedSecret'])
    expect(tree.get('clusters/eu-1/trust.yaml')).toContain('prune: false')
  })

  test('the new Application goes to the cluster that istiod’s goes to', async () => {
    const made = await caseOf('argoApplication', argoPlace, 'argocd', argoTree(''))
    expect(parsedValues(adopted(made).get('clusters/eu-1/trust.yaml') ?? '')).toMatchObject({
      spec: { destination: { name: 'eu-1-cluster', namespace: 'istio-system' } },
    })
  })

  test('is looked at when the site’s folder changes, where it names the paths to look at (F23)', async () => {
    const annotated = argoTree(
      '',
      '  annotations:\n    argocd.argoproj.io/manifest-generate-paths: . # fewer renders\n',
    )
    const made = await caseOf('argoApplication', argoPlace, 'argocd', annotated)
    const tree = adopted(made)
    expect(tree.get('clusters/eu-1/istiod.yaml')).toContain(
      'argocd.argoproj.io/manifest-generate-paths: ".;/trust/eu-1" # fewer renders\n',
    )
    expectWired(made, tree)
  })

  test('a parameter that would win moves into the site’s folder, and the others stay', async () => {
    const parameter = argoTree('')
    parameter['clusters/eu-1/istiod.yaml'] = (parameter['clusters/eu-1/istiod.yaml'] ?? '').replace(
      '      releaseName: istiod\n',
      '      parameters:\n        - {name: pilot.env.ISTIO_MULTIROOT_MESH, value: "true"}\n        - {name: pilot.autoscaleMin, value: "2"}\n',
    )
    const made = await caseOf('argoApplication', argoPlace, 'argocd', parameter)
    expect(adopted(made).get('clusters/eu-1/istiod.yaml')).toContain(
      '      parameters:\n        - {name: pilot.autoscaleMin, value: "2"}\n',
    )
    expectWired(made, adopted(made))
    checkValues(made, 'pilot:\n  env:\n    ISTIO_MULTIROOT_MESH: "true"\n')
    // What runs is another value: adopt would bring it, so it is refused.
    expect(refusal(() => checkValues(made, 'pilot:\n  env:\n    ISTIO_MULTIROOT_MESH: "false"\n')).found).toBe(
      'pilot.env.ISTIO_MULTIROOT_MESH: true becomes "false"',
    )
  })

  test('is refused where inline text would win', async () => {
    const text = argoTree('')
    text['clusters/eu-1/istiod.yaml'] = (text['clusters/eu-1/istiod.yaml'] ?? '').replace(
      '      releaseName: istiod\n',
      `      values: |\n        pilot:\n${live.replace(/^/gm, '      ').trimEnd()}\n`,
    )
    const inline = await caseOf('argoApplication', argoPlace, 'argocd', text)
    expect(refusal(() => points(inline)).found).toBe('pilot.env.ISTIO_MULTIROOT_MESH')
  })

  test('shared by two sites is refused: it can read one folder only', async () => {
    const made = await caseOf(
      'argoApplication',
      '{file: clusters/eu-1/istiod.yaml, name: istiod}',
      'argocd',
      argoTree(''),
      ['eu-1', 'us-1'],
    )
    expect(refusal(() => points(made)).what).toContain('eu-1 and us-1 share one Application')
  })

  test('a delivery that a person syncs by hand is not switched to automatic', async () => {
    const trust = application('trust-eu-1', `  source:\n    repoURL: ${fleetURL}\n    path: trust/eu-1\n`)
    const edits = async (text: string) => {
      const made = await caseOf('argoApplication', argoPlace, 'argocd', {
        ...argoTree(''),
        'clusters/eu-1/trust.yaml': text,
      })
      return points(made).filter(point => point.file === 'clusters/eu-1/trust.yaml')
    }
    expect(await edits(trust)).toHaveLength(1)
    expect(
      await edits(trust.replace(/ {2}syncPolicy:[\s\S]*$/, '  syncPolicy: {syncOptions: [ServerSideApply=true]}\n')),
    ).toEqual([])
  })
})

const elsewhere = `  source: # the chart
    repoURL: https://istio-release.storage.googleapis.com/charts # or the mirror
    chart: istiod
    targetRevision: 1.29.0
    helm:
      valuesObject:
        # the log collector reads it
        meshConfig: {accessLogFile: /dev/stdout}
        pilot:
${live.replace(/^/gm, '      ').trimEnd()} # on since March
          autoscaleMin: 2
`

describe('an Application of a chart elsewhere', () => {
  const tree = {
    'clusters/eu-1/root.yaml': root,
    'clusters/eu-1/istiod.yaml': application('istiod', elsewhere),
  }

  test('gets this repository as a second source; its own source moves into the list with its comments', async () => {
    const made = await caseOf('argoApplication', argoPlace, 'argocd', tree)
    const after = adopted(made)
    expect(after.get('clusters/eu-1/istiod.yaml')).toBe(
      application(
        'istiod',
        `  sources: # the chart
    - repoURL: https://istio-release.storage.googleapis.com/charts # or the mirror
      chart: istiod
      targetRevision: 1.29.0
      helm:
        valuesObject:
          # the log collector reads it
          meshConfig: {accessLogFile: /dev/stdout}
          pilot:
            env: {}
            autoscaleMin: 2
        valueFiles:
          - $reanchor/trust/eu-1/istiod-values.yaml
    - repoURL: ${fleetURL}
      targetRevision: main
      ref: reanchor
`,
      ).replace('https://git.example.com/platform/fleet.git\n', '"https://git.example.com/platform/fleet.git"\n'),
    )
    expectWired(made, after)
    checkValues(made, 'pilot:\n  env:\n    ISTIO_MULTIROOT_MESH: "true"\n')
    expect(refusal(() => checkValues(made, '{}\n')).exit).toBe(5)
  })

  test('stays wired when its owner takes a newer chart in mid-rotation', async () => {
    const made = await caseOf('argoApplication', argoPlace, 'argocd', tree)
    const after = new Map(adopted(made))
    after.set('clusters/eu-1/istiod.yaml', (after.get('clusters/eu-1/istiod.yaml') ?? '').replace('1.29.0', '1.29.2'))
    for (const point of points(made))
      expect(wiringHolds(after.get(point.file) ?? null, point.edit, point.file)).toEqual({ holds: true })
  })

  test('uses the source of this repository that is there already', async () => {
    const several = application(
      'istiod',
      `  sources:
    - repoURL: git@git.example.com:platform/fleet.git # for values
      targetRevision: main
      ref: values
    - repoURL: https://istio-release.storage.googleapis.com/charts
      chart: istiod
      targetRevision: 1.29.0
      helm:
        valueFiles:
          - $values/mesh/values.yaml
`,
    )
    const made = await caseOf('argoApplication', argoPlace, 'argocd', {
      ...tree,
      'clusters/eu-1/istiod.yaml': several,
      'mesh/values.yaml': 'pilot: {env: {A: b}}\n',
    })
    const after = adopted(made)
    expect(after.get('clusters/eu-1/istiod.yaml')).toBe(
      several.replace(
        '$values/mesh/values.yaml\n',
        '$values/mesh/values.yaml\n          - $values/trust/eu-1/istiod-values.yaml\n',
      ),
    )
    expectWired(made, after)
    checkValues(made, '{}\n')
  })

  test('is refused where its project may not read this repository, and accepted where it may', async () => {
    const project = (repos: string) =>
      `apiVersion: argoproj.io/v1alpha1\nkind: AppProject\nmetadata: {name: mesh, namespace: argocd}\nspec: {sourceRepos: [${repos}]}\n`
    const with_ = async (repos: string) =>
      await caseOf('argoApplication', argoPlace, 'argocd', { ...tree, 'projects/mesh.yaml': project(repos) })
    const closed = await with_('https://istio-release.storage.googleapis.com/charts')
    expect(refusal(() => points(closed)).where).toMatchObject({ file: 'projects/mesh.yaml', field: 'spec.sourceRepos' })
    for (const open of ["'*'", 'https://git.example.com/platform/*', 'git@git.example.com:platform/fleet.git']) {
      expect(points(await with_(open)).length, open).toBeGreaterThan(2)
    }
  })
})

// --------------------------------------------------------------------------------------------------- properties

const leaf = fc.oneof(fc.constantFrom('a', 'true', '2'), fc.boolean(), fc.integer({ min: 0, max: 3 }))
const values = fc.letrec(tie => ({
  tree: fc.dictionary(
    fc.constantFrom('pilot', 'env', 'meshConfig', 'defaultConfig', 'x', 'y'),
    fc.oneof({ maxDepth: 4 }, leaf, tie('tree')),
    { maxKeys: 4 },
  ),
})).tree as fc.Arbitrary<Record<string, unknown>>

test('merged values: what reanchor adds below managed paths is never a change elsewhere, and any other layer is', () => {
  const flags = fc.record({ multiroot: fc.boolean(), agent: fc.boolean() })
  fc.assert(
    fc.property(values, flags, (before, { multiroot, agent }) => {
      const ours = {
        ...(multiroot ? { pilot: { env: { ISTIO_MULTIROOT_MESH: 'true' } } } : {}),
        ...(agent ? { meshConfig: { defaultConfig: { proxyMetadata: { PROXY_CONFIG_XDS_AGENT: 'true' } } } } : {}),
      }
      const blocked = managedPaths.some(path =>
        path.slice(0, -1).some((_, index) => {
          const at = valueAt(before, path.slice(0, index + 1))
          return at !== undefined && (typeof at !== 'object' || at === null)
        }),
      )
      fc.pre(!blocked)
      expect(changedValues(before, mergeValues(before, ours))).toEqual([])
      expect(changedValues(before, mergeValues(before, { z: 1 }))).toHaveLength(1)
    }),
  )
})

test('merging a layer twice changes nothing, and the later layer wins', () => {
  fc.assert(
    fc.property(values, values, values, (a, b, c) => {
      expect(mergeValues(a, a)).toEqual(a)
      expect(mergeValues(a, {})).toEqual(a)
      for (const [key, value] of Object.entries(mergeValues(mergeValues(a, b), c))) {
        if (Object.hasOwn(c, key) && (typeof c[key] !== 'object' || c[key] === null)) expect(value).toEqual(c[key])
      }
    }),
  )
})
