import { describe, expect, test } from 'vitest'
import { checkReach, type ReachProblem, reach, reachOf, repositoryAddress } from '../../src/gitops/reach.ts'
import type { DeliveryChoice, FileTree } from '../../src/rotation.ts'

function tree(files: Readonly<Record<string, string>>): FileTree {
  return new Map(Object.entries(files))
}

function gitRepository(name: string, spec = '', url = 'ssh://git@git.example/acme/fleet.git'): string {
  return `apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: ${name}, namespace: flux-system}\nspec:\n  url: ${url}\n${spec}---\n`
}

function kustomization(name: string, path: string, more = '', source = 'flux-system'): string {
  return `apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: ${name}, namespace: flux-system}\nspec:\n  path: ${path}\n  sourceRef: {kind: GitRepository, name: ${source}}\n${more}`
}

function application(name: string, source: string): string {
  return `apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: ${name}, namespace: argocd}\nspec:\n  source: ${source}\n`
}

const configMap = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: canary}\n'
const component = 'apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\npatches: []\n'

function siteFiles(name: string): Record<string, string> {
  return {
    [`trust/${name}/kustomization.yaml`]: 'resources: [canary.yaml]\n',
    [`trust/${name}/canary.yaml`]: configMap,
    [`trust/${name}/components/istiod/kustomization.yaml`]: component,
  }
}

function flux(file: string | null, name = 'trust'): DeliveryChoice {
  return {
    kind: 'flux',
    namespace: 'flux-system',
    name,
    file,
    source: { namespace: 'flux-system', name: 'flux-system' },
    decryptionSecret: 'sops-age',
  }
}

function argo(file: string | null, repoURL: string | null = null): DeliveryChoice {
  return { kind: 'argocd', namespace: 'argocd', name: 'trust', file, repoURL, project: 'default' }
}

function site(name: string, delivery: DeliveryChoice) {
  return { name, path: `trust/${name}`, delivery }
}

function check(files: Readonly<Record<string, string>>, ...sites: ReturnType<typeof site>[]): readonly ReachProblem[] {
  return checkReach(tree(files), { sites, rotationsFolder: 'rotations' })
}

/** A fleet of one repository, one folder per cluster, as `flux bootstrap` leaves it. */
function fleet(...clusters: string[]): Record<string, string> {
  const files: Record<string, string> = {
    'apps/base/kustomization.yaml': 'resources: [cart.yaml]\n',
    'apps/base/cart.yaml': configMap,
  }
  for (const name of clusters) {
    files[`clusters/${name}/flux-system/gotk-sync.yaml`] =
      gitRepository('flux-system') + kustomization('flux-system', `./clusters/${name}`)
    files[`clusters/${name}/flux-system/kustomization.yaml`] = 'resources: [gotk-sync.yaml]\n'
    files[`clusters/${name}/apps.yaml`] = kustomization('apps', './apps/base')
    files[`clusters/${name}/trust.yaml`] = kustomization('trust', `./trust/${name}`)
    Object.assign(files, siteFiles(name))
  }
  return files
}

describe('a fleet with one folder per cluster', () => {
  const files = fleet('eu-1', 'us-1')

  test('each cluster starts from its own flux-system, and equal names in two clusters are two objects', () => {
    const { readers } = reach(tree(files))
    const roots = new Set(readers.map(reader => reader.root))
    expect(roots).toEqual(
      new Set([
        'clusters/eu-1/flux-system/gotk-sync.yaml#Kustomization flux-system/flux-system',
        'clusters/us-1/flux-system/gotk-sync.yaml#Kustomization flux-system/flux-system',
      ]),
    )
    expect(readers.filter(reader => reader.name === 'trust').map(reader => reader.file)).toEqual([
      'clusters/eu-1/trust.yaml',
      'clusters/us-1/trust.yaml',
    ])
  })

  test('each site is applied once, and nothing is wrong', () => {
    expect(
      check(files, site('eu-1', flux('clusters/eu-1/trust.yaml')), site('us-1', flux('clusters/us-1/trust.yaml'))),
    ).toEqual([])
  })

  test('a base that two clusters share is reached by both', () => {
    const found = reachOf(reach(tree(files)), 'apps/base')
    expect(found.map(({ reader, how, via }) => [reader.file, how, via])).toEqual([
      ['clusters/eu-1/apps.yaml', 'resources', []],
      ['clusters/us-1/apps.yaml', 'resources', []],
    ])
  })

  test('an overlay that changes spec.path counts as the cluster gets it', () => {
    const overlaid = {
      ...fleet('eu-1'),
      'fleet/trust.yaml': kustomization('trust', './nowhere'),
      'clusters/eu-1/kustomization.yaml':
        'resources: [flux-system, ../../fleet/trust.yaml]\npatches:\n  - patch: |-\n      - {op: replace, path: /spec/path, value: ./trust/eu-1}\n    target: {kind: Kustomization, name: trust}\n',
    }
    delete (overlaid as Record<string, string>)['clusters/eu-1/trust.yaml']
    expect(check(overlaid, site('eu-1', flux('fleet/trust.yaml')))).toEqual([])
  })
})

describe('refuses a site that is not applied exactly once', () => {
  const files = fleet('eu-1')
  const delivery = flux('clusters/eu-1/trust.yaml')

  const twice: Readonly<
    Record<string, { readonly add: Record<string, string>; readonly culprit: string; readonly found: RegExp }>
  > = {
    'a second Kustomization of the same path': {
      add: { 'clusters/eu-1/again.yaml': kustomization('again', 'trust/eu-1/') },
      culprit: 'clusters/eu-1/again.yaml',
      found: /again/,
    },
    'a Kustomization that scans a folder above': {
      add: { 'clusters/eu-1/all.yaml': kustomization('all', './trust') },
      culprit: 'clusters/eu-1/all.yaml',
      found: /trust\/ → trust\/eu-1/,
    },
    'a kustomization that lists the folder as a base': {
      add: {
        'clusters/eu-1/kustomization.yaml': 'resources: [flux-system, apps.yaml, trust.yaml, ../../trust/eu-1]\n',
      },
      culprit: 'clusters/eu-1/flux-system/gotk-sync.yaml',
      found: /clusters\/eu-1\/kustomization\.yaml → trust\/eu-1/,
    },
    'an Application beside the Kustomization': {
      add: {
        'argocd/trust.yaml': application('trust', '{repoURL: "https://git.example/acme/fleet", path: trust/eu-1}'),
      },
      culprit: 'argocd/trust.yaml',
      found: /Application argocd\/trust/,
    },
    'a kustomization that lists a file of a component as a resource': {
      add: { 'apps/base/kustomization.yaml': 'resources: [cart.yaml, ../../trust/eu-1/canary.yaml]\n' },
      culprit: 'clusters/eu-1/apps.yaml',
      found: /canary/,
    },
  }
  for (const [name, { add, culprit, found }] of Object.entries(twice)) {
    test(`${name} (F18)`, () => {
      const problems = check({ ...files, ...add }, site('eu-1', delivery))
      expect(problems).toHaveLength(1)
      expect(problems[0]?.what).toMatch(/trust\/eu-1, the folder of site eu-1, is applied 2 times/)
      expect(problems[0]?.where.file).toBe(culprit)
      expect(problems[0]?.found).toMatch(found)
    })
  }

  test('the same object delivered to two clusters', () => {
    const shared = { ...fleet('eu-1', 'us-1'), 'shared/trust.yaml': kustomization('trust', './trust/eu-1') } as Record<
      string,
      string
    >
    for (const name of ['eu-1', 'us-1']) {
      delete shared[`clusters/${name}/trust.yaml`]
      shared[`clusters/${name}/kustomization.yaml`] = 'resources: [flux-system, ../../shared/trust.yaml]\n'
    }
    expect(check(shared, site('eu-1', flux('shared/trust.yaml')))[0]?.what).toMatch(/applied 2 times/)
  })

  test('nothing applies it', () => {
    const lost = { ...files } as Record<string, string>
    delete lost['clusters/eu-1/trust.yaml']
    expect(check(lost, site('eu-1', delivery)).map(problem => problem.what)).toEqual([
      'nothing applies trust/eu-1, the folder of site eu-1',
    ])
  })

  test('another object than the one declared applies it', () => {
    const [problem] = check(files, site('eu-1', flux('clusters/eu-1/trust.yaml', 'mesh-trust')))
    expect(problem?.what).toBe(
      'trust/eu-1, the folder of site eu-1, is applied by Kustomization flux-system/trust (clusters/eu-1/trust.yaml)',
    )
    expect(problem?.expected).toBe('exactly one, Kustomization flux-system/mesh-trust of clusters/eu-1/trust.yaml')
  })

  for (const [name, spec] of Object.entries({
    'spec.ignore hides the folder': '  ignore: |\n    /*\n    !/clusters\n',
    'spec.ignore names the folder': '  ignore: trust/\n',
    'spec.sparseCheckout leaves it out': '  sparseCheckout: [clusters]\n',
  })) {
    test(`${name} (F23)`, () => {
      const hidden = {
        ...files,
        'clusters/eu-1/flux-system/gotk-sync.yaml':
          gitRepository('flux-system', spec) + kustomization('flux-system', './clusters/eu-1'),
      }
      const problems = check(hidden, site('eu-1', delivery))
      expect(problems[0]?.what).toBe('nothing applies trust/eu-1, the folder of site eu-1')
      expect(problems[0]?.todo).toMatch(name.startsWith('spec.ignore') ? /spec\.ignore/ : /spec\.sparseCheckout/)
    })
  }

  test('spec.ignore that keeps the folder is fine', () => {
    const kept = {
      ...files,
      'clusters/eu-1/flux-system/gotk-sync.yaml':
        gitRepository('flux-system', '  ignore: |\n    /*\n    !/clusters\n    !/trust/\n    *.md\n') +
        kustomization('flux-system', './clusters/eu-1'),
    }
    expect(check(kept, site('eu-1', delivery))).toEqual([])
  })
})

test('components are taken in by any number, also through spec.components of a folder without kustomization', () => {
  const files = {
    ...fleet('eu-1'),
    'clusters/eu-1/apps.yaml': kustomization(
      'apps',
      './apps/scanned',
      '  components: [../../trust/eu-1/components/istiod]\n',
    ),
    'apps/scanned/cart.yaml': configMap,
    'clusters/eu-1/mesh.yaml': kustomization('mesh', './mesh'),
    'mesh/kustomization.yaml': 'resources: []\ncomponents: [../trust/eu-1/components/istiod]\n',
  }
  expect(check(files, site('eu-1', flux('clusters/eu-1/trust.yaml')))).toEqual([])
  expect(reachOf(reach(tree(files)), 'trust/eu-1/components').map(({ reader, how }) => [reader.name, how])).toEqual([
    ['apps', 'component'],
    ['mesh', 'component'],
  ])
})

describe('refuses what would apply rotations/', () => {
  const rotation = {
    'rotations/mesh-2026/rotation.yaml':
      'apiVersion: reanchor.dev/v1alpha1\nkind: TrustRotation\nmetadata: {name: mesh-2026}\n',
  }

  test('a scan of the whole repository, before there is any such folder (F18)', () => {
    const files = { ...fleet('eu-1'), 'clusters/eu-1/all.yaml': kustomization('all', './') }
    const whats = check(files, site('eu-1', flux('clusters/eu-1/trust.yaml'))).map(problem => problem.what)
    expect(whats).toContain(
      'Kustomization flux-system/all (clusters/eu-1/all.yaml) would apply what lies under rotations/',
    )
  })
  test('a kustomization in the root that lists what it applies is fine', () => {
    const files = {
      ...fleet('eu-1'),
      ...rotation,
      'clusters/eu-1/all.yaml': kustomization('all', '.'),
      'kustomization.yaml': 'resources: [apps/base]\n',
    }
    expect(check(files, site('eu-1', flux('clusters/eu-1/trust.yaml')))).toEqual([])
  })
  test('an Application that looks into folders, and one that does not', () => {
    const sources = (recurse: boolean) => ({
      'argocd/all.yaml': application(
        'all',
        `{repoURL: "https://git.example/acme/fleet", path: ., directory: {recurse: ${recurse}}}`,
      ),
      'argocd/trust.yaml': application('trust', '{repoURL: "git@git.example:acme/fleet.git", path: trust/eu-1}'),
      ...siteFiles('eu-1'),
    })
    const delivered = site('eu-1', argo('argocd/trust.yaml', 'https://git.example/acme/fleet'))
    expect(check(sources(true), delivered).map(problem => problem.what)).toEqual([
      'Application argocd/all (argocd/all.yaml) would apply what lies under rotations/',
      expect.stringMatching(/^trust\/eu-1, the folder of site eu-1, is applied 2 times/),
    ])
    expect(check(sources(false), delivered)).toEqual([])
  })
  test('an ApplicationSet whose generator takes the site’s folder', () => {
    const set =
      'apiVersion: argoproj.io/v1alpha1\nkind: ApplicationSet\nmetadata: {name: all}\nspec:\n  generators: [{git: {directories: [{path: trust/*}]}}]\n  template: {spec: {source: {path: "{{path}}"}}}\n'
    const problems = check({ ...fleet('eu-1'), 'argocd/set.yaml': set }, site('eu-1', flux('clusters/eu-1/trust.yaml')))
    expect(problems.map(problem => problem.what)).toEqual([
      'ApplicationSet all (argocd/set.yaml) may make an Application of trust/eu-1',
    ])
  })
})

describe('before adopt', () => {
  test('a site whose folder and delivery do not exist yet needs neither', () => {
    const files = fleet('eu-1')
    expect(
      check(files, site('eu-1', flux('clusters/eu-1/trust.yaml')), site('us-1', flux('clusters/us-1/trust.yaml'))),
    ).toEqual([])
  })
  test('but who would take the folder is found beforehand', () => {
    const files = { ...fleet('eu-1'), 'clusters/eu-1/all.yaml': kustomization('all', './trust') } as Record<
      string,
      string
    >
    for (const path of Object.keys(files)) if (path.startsWith('trust/')) delete files[path]
    expect(check(files, site('eu-1', flux('clusters/eu-1/trust.yaml'))).map(problem => problem.what)).toEqual([
      expect.stringMatching(/is applied 2 times/),
    ])
  })
  test('a delivery that is managed elsewhere is not looked for', () => {
    expect(check(siteFiles('eu-1'), site('eu-1', flux(null)))).toEqual([])
  })
})

describe('other repositories', () => {
  test('a Kustomization of another GitRepository does not read this one', () => {
    const files = {
      ...fleet('eu-1'),
      'clusters/eu-1/other.yaml':
        gitRepository('other', '', 'https://git.example/acme/other') +
        kustomization('other', './trust/eu-1', '', 'other'),
    }
    expect(check(files, site('eu-1', flux('clusters/eu-1/trust.yaml')))).toEqual([])
  })
  test('one repository has many addresses', () => {
    for (const url of [
      'https://git.example/acme/fleet',
      'ssh://git@git.example:22/acme/fleet.git',
      'git@git.example:acme/fleet',
      'https://token@git.example/acme/Fleet.git/',
    ]) {
      expect(repositoryAddress(url)).toBe('git.example/acme/fleet')
    }
  })
})

test('hostile trees end: circles among objects, folders and broken files', () => {
  const files = {
    'a/k.yaml': kustomization('a', './b'),
    'b/k.yaml': kustomization('b', './a'),
    'b/kustomization.yaml': 'resources: [../b, ../../out, k.yaml, https://x.example/y]\ncomponents: 3\n',
    'a/broken.yaml': 'kind: [\n',
    'a/bomb.yaml': `kustomize.toolkit.fluxcd.io/: &a [x]\nb: [${'*a,'.repeat(2000)}]\n`,
  }
  expect(
    reach(tree(files))
      .readers.map(reader => reader.name)
      .sort(),
  ).toEqual(['a', 'b'])
})

test('a thousand sites are one pass', () => {
  const names = Array.from({ length: 1000 }, (_, index) => `s-${index}`)
  const files: Record<string, string> = {
    'clusters/all/sync.yaml': gitRepository('flux-system') + kustomization('flux-system', './clusters/all'),
  }
  for (const name of names) {
    files[`clusters/all/${name}.yaml`] = kustomization(name, `./trust/${name}`)
    Object.assign(files, siteFiles(name))
  }
  const sites = names.map(name => site(name, flux(`clusters/all/${name}.yaml`, name)))
  expect(check(files, ...sites)).toEqual([])
  files['clusters/all/again.yaml'] = kustomization('again', './trust/s-500')
  expect(check(files, ...sites).map(problem => problem.site)).toEqual(['s-500'])
})
