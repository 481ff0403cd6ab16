import { describe, expect, test } from 'vitest'
import { builderOf, builtObjects, carriesPatch, checkWiring, isMarked } from '../../src/gitops/wiring.ts'
import type { WiringPoint } from '../../src/rotation.ts'

const patch = `apiVersion: apps/v1
kind: Deployment
metadata: {name: any, annotations: {reanchor.dev/rotation: mesh-2026}}
`
const deployment =
  'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: cart}\nspec: {template: {spec: {containers: [{name: app}]}}}\n'

function files(kind: string, components = '[../../trust/eu-1/components/workloads]') {
  return new Map(
    Object.entries({
      'apps/eu-1/kustomization.yaml': `resources: [cart.yaml]\ncomponents: ${components}\n`,
      'apps/eu-1/cart.yaml': deployment,
      'apps/scanned/cart.yaml': deployment,
      'clusters/eu-1/apps.yaml':
        'apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: apps, namespace: flux-system}\nspec:\n  path: ./apps/scanned\n  components: [../../trust/eu-1/components/workloads]\n  targetNamespace: shop\n  sourceRef: {kind: GitRepository, name: flux-system}\n',
      'argocd/apps.yaml':
        'apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: apps, namespace: argocd}\nspec:\n  sources:\n    - {repoURL: r, path: apps/eu-1}\n    - {repoURL: https://charts.example, chart: istiod}\n',
      'trust/eu-1/components/workloads/kustomization.yaml': `apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\npatches:\n  - path: patch.yaml\n    target: {kind: ${kind}}\n`,
      'trust/eu-1/components/workloads/patch.yaml': patch,
    }),
  )
}

const inFolder: WiringPoint = {
  site: 'eu-1',
  file: 'apps/eu-1/kustomization.yaml',
  purpose: 'restarts workloads',
  edit: { kind: 'listItem', document: 'single', at: ['components'], value: '../../trust/eu-1/components/workloads' },
}
const inFlux: WiringPoint = {
  ...inFolder,
  file: 'clusters/eu-1/apps.yaml',
  edit: {
    kind: 'listItem',
    document: { kind: 'Kustomization', name: 'apps', namespace: 'flux-system' },
    at: ['spec', 'components'],
    value: '../../trust/eu-1/components/workloads',
  },
}

describe('the build tells whether a patch is carried', () => {
  for (const [name, point] of Object.entries({
    'through a kustomization': inFolder,
    'through spec.components of Flux': inFlux,
  })) {
    test(name, () => {
      const builder = builderOf(point)
      if (builder === null) throw new Error('no builder')
      const carried = carriesPatch(files('Deployment'), builder, object => isMarked(object, 'mesh-2026'))
      expect(carried.carries).toBe(true)
      expect(carried.carriers.map(({ object }) => object.metadata.name)).toEqual(['cart'])
      expect(carriesPatch(files('Deployment'), builder, object => isMarked(object, 'other')).carries).toBe(false)
    })
    test(`${name}, where the Component's target matches nothing, it is not, though the wiring stands (F23)`, () => {
      const builder = builderOf(point)
      if (builder === null) throw new Error('no builder')
      expect(checkWiring(files('DaemonSet'), [point])).toEqual([{ point, holds: true, why: null }])
      const carried = carriesPatch(files('DaemonSet'), builder, object => isMarked(object, 'mesh-2026'))
      expect(carried).toEqual({
        carries: false,
        why: 'none of the 1 objects that are built carries it',
        carriers: [],
        unsupported: [],
      })
    })
  }
  test('a folder that does not build carries nothing, and says why', () => {
    const carried = carriesPatch(files('Deployment', '[../gone]'), { kind: 'folder', path: 'apps/eu-1' }, () => true)
    expect(carried.carries).toBe(false)
    expect(carried.why).toMatch(/apps\/eu-1\/kustomization\.yaml: a component does not exist/)
  })
})

test('Flux’s overlay counts: targetNamespace', () => {
  const built = builtObjects(files('Deployment'), { kind: 'flux', name: 'apps', namespace: 'flux-system', file: null })
  expect(built.objects.map(({ object, file }) => [object.metadata.namespace, file])).toEqual([
    ['shop', 'apps/scanned/cart.yaml'],
  ])
})

test('an Application is built source by source, a chart is named as not computed', () => {
  const built = builtObjects(files('Deployment'), {
    kind: 'argocd',
    name: 'apps',
    namespace: 'argocd',
    file: 'argocd/apps.yaml',
  })
  expect(built.objects).toHaveLength(1)
  expect(built.unsupported).toEqual(['argocd/apps.yaml: Helm chart istiod'])
})

test('wiring that is gone is told with what stands there', () => {
  expect(
    checkWiring(files('Deployment', '[]'), [inFolder, { ...inFolder, file: 'gone.yaml' }]).map(({ holds, why }) => [
      holds,
      why,
    ]),
  ).toEqual([
    [false, 'components: []'],
    [false, 'no such file'],
  ])
})

test('a builder that is not in the repository is refused', () => {
  expect(() => builtObjects(files('x'), { kind: 'flux', name: 'gone', namespace: 'n', file: 'f.yaml' })).toThrow(
    /Kustomization n\/gone/,
  )
})

test('a tree without the files that are no YAML builds all the same, and says what it lacks', () => {
  const tree = files('Deployment')
  const text = tree.get('apps/eu-1/kustomization.yaml') ?? ''
  const built = builtObjects(
    new Map([...tree, ['apps/eu-1/kustomization.yaml', `${text}configMapGenerator: [{name: c, files: [app.conf]}]\n`]]),
    {
      kind: 'folder',
      path: 'apps/eu-1',
    },
  )
  expect(built.objects).toHaveLength(2)
  expect(built.unsupported).toEqual(['apps/eu-1/kustomization.yaml: content of apps/eu-1/app.conf'])
})
