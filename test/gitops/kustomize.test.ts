import { describe, expect, test } from 'vitest'
import { ReanchorError } from '../../src/errors.ts'
import { type BuildOptions, buildKustomization } from '../../src/gitops/kustomize.ts'
import { deployment, fixtures, refused } from './kustomize-fixtures.ts'

// What exactly comes out is held against the real kubectl in test/tools/kustomize.test.ts, over the same fixtures.
describe('builds, and knows every field', () => {
  for (const [name, { files, path }] of Object.entries(fixtures)) {
    test(name, () => {
      expect(build(files, path).unsupported).toEqual([])
    })
  }
})

describe('refuses with a located error', () => {
  for (const [name, { files, path }] of Object.entries(refused)) {
    test(name, () => {
      const error = failure(() => build(files, path))
      expect(error.where.file).toMatch(/^(app|c|b)(\/|$)/)
      expect(error.expected).toBeTypeOf('string')
    })
  }
  test('a path that leaves the repository', () => {
    expect(failure(() => build({ 'app/kustomization.yaml': 'resources: [../../secret.yaml]\n' }, 'app')).what).toBe(
      'a resource lies outside the repository',
    )
    expect(failure(() => build({ 'app/kustomization.yaml': 'resources: [/etc]\n' }, 'app')).what).toBe(
      'a resource lies outside the repository',
    )
    expect(failure(() => build({ 'app/kustomization.yaml': 'resources: []\ncomponents: [../..]\n' }, 'app')).what).toBe(
      'a component lies outside the repository',
    )
  })
  test('aliases that unfold without bound, and patterns that could run for ever', () => {
    const bomb = `a: &a [x, x, x, x, x, x, x, x, x]\n${[...'bcdefgh'].map((name, at) => `${name}: &${name} [${`*${'abcdefgh'[at]},`.repeat(9)}]`).join('\n')}\n`
    expect(
      failure(() => build({ 'app/kustomization.yaml': 'resources: [bomb.yaml]\n', 'app/bomb.yaml': bomb }, 'app')).where
        .file,
    ).toBe('app/bomb.yaml')
    const files = {
      'app/kustomization.yaml': `resources: [d.yaml]\npatches:\n  - target: {name: "(a+)+b"}\n    patch: '[{"op": "test", "path": "/kind", "value": "x"}]'\n`,
      'app/d.yaml': deployment,
    }
    expect(failure(() => build(files, 'app')).found).toMatch(/repeats a repetition/)
  })
  test('a circle, named folder by folder', () => {
    const { files, path } = refused['a circle'] ?? { files: {}, path: '' }
    expect(failure(() => build(files, path)).found).toBe('app → b → app')
  })
  test('a chain of folders without end', () => {
    const files: Record<string, string> = {}
    for (let at = 0; at < 200; at++) files[`f${at}/kustomization.yaml`] = `resources: [../f${at + 1}]\n`
    expect(failure(() => build(files, 'f0')).what).toBe('kustomizations nest too deep')
  })
})

test('what has no effect here is named, never passed over', () => {
  const files = {
    'app/kustomization.yaml':
      'resources: [d.yaml, "https://x.example/base?ref=v1", "github.com/acme/base"]\nhelmCharts: [{name: x}]\nreplacements: [{path: r.yaml}]\nvars: []\ntransformers: [t.yaml]\nnewField: 1\nbuildMetadata: [originAnnotations]\n',
    'app/d.yaml': deployment,
  }
  expect(build(files, 'app').unsupported).toEqual([
    'app/kustomization.yaml: remote resource https://x.example/base?ref=v1',
    'app/kustomization.yaml: remote resource github.com/acme/base',
    'app/kustomization.yaml: helmCharts',
    'app/kustomization.yaml: replacements',
    'app/kustomization.yaml: transformers',
    'app/kustomization.yaml: newField',
    'app/kustomization.yaml: buildMetadata',
  ])
})

describe('folders without a kustomization', () => {
  const configMap = (name: string) => `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ${name}}\n`
  const files = {
    'all/a.yaml': configMap('a'),
    'all/notes.txt': 'no manifest',
    'all/j.json': '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "json"}}',
    'all/deep/b.yml': configMap('b'),
    'all/own/kustomization.yaml': 'resources: [c.yaml]\nnamePrefix: own-\n',
    'all/own/c.yaml': configMap('c'),
    'all/own/unlisted.yaml': configMap('unlisted'),
  }
  const names = (options: BuildOptions) =>
    build(files, 'all', options).objects.map(({ object }) => object.metadata.name)

  test('Flux takes every YAML file below, and a subfolder with a kustomization as that', () => {
    expect(names({ directory: 'flux' })).toEqual(['a', 'b', 'own-c'])
  })
  test('Argo CD takes the folder’s own files, JSON too', () => {
    expect(names({ directory: 'flat' })).toEqual(['a', 'json'])
  })
  test('Argo CD takes all below when told to, whatever kustomizations say', () => {
    expect(names({ directory: 'recurse' })).toEqual(['a', 'json', 'b', 'c', 'unlisted'])
  })
  test('Flux fails on a file that is no manifest', () => {
    expect(failure(() => build({ ...files, 'all/values.yaml': 'a: 1\n' }, 'all', { directory: 'flux' })).where).toEqual(
      { file: 'all/values.yaml', line: 1 },
    )
  })
})

test('what Flux adds comes on top: components, patches, namespace, metadata', () => {
  const files = {
    'app/d.yaml': deployment,
    'c/kustomization.yaml': 'apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nnameSuffix: -c\n',
  }
  const built = build(files, 'app', {
    directory: 'flux',
    components: ['../c', '../missing'],
    ignoreMissingComponents: true,
    targetNamespace: 'shop',
    patches: [
      {
        patch: '- {op: replace, path: /spec/replicas, value: 1}'.replace('replace', 'add'),
        target: { kind: 'Deployment' },
      },
    ],
    commonLabels: { team: 'x' },
    commonAnnotations: { note: 'y' },
  })
  expect(built.objects[0]?.object).toMatchObject({
    metadata: { name: 'cart-c', namespace: 'shop', labels: { app: 'cart', team: 'x' }, annotations: { note: 'y' } },
    spec: { replicas: 1, template: { metadata: { labels: { app: 'cart' } } } },
  })
  expect(built.objects[0]).toMatchObject({ file: 'app/d.yaml', document: 0 })
  expect(built.read).toEqual([
    { path: 'app/d.yaml', how: 'directory', via: ['app/'] },
    { path: 'c/kustomization.yaml', how: 'component', via: ['app/'] },
  ])
})

test('building changes nothing in the tree: twice gives the same', () => {
  for (const { files, path } of Object.values(fixtures)) {
    const tree = new Map(Object.entries(files))
    const first = structuredClone(buildKustomization(tree, path))
    expect(buildKustomization(tree, path)).toEqual(first)
  }
})

function build(files: Readonly<Record<string, string>>, path: string, options: BuildOptions = {}) {
  return buildKustomization(new Map(Object.entries(files)), path, options)
}

function failure(run: () => unknown): ReanchorError {
  try {
    run()
  } catch (error) {
    if (error instanceof ReanchorError) return error
    throw error
  }
  throw new Error('nothing was refused')
}
