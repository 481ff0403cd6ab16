import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { applicationOf } from '../../src/gitops/argocd.ts'
import { helmReleaseOf } from '../../src/gitops/flux.ts'
import { applicationValues, mergeValues, parsedValues, releaseValues, withDefaults } from '../../src/gitops/helm.ts'
import type { ManifestObject, Plain } from '../../src/gitops/manifests.ts'

// What `helm template` of Helm 3.22 printed for `{{ .Values | toJson }}`.

describe('a scalar of a values file', () => {
  it.each<[string, unknown]>([
    ['012', 10],
    ['0o12', 10],
    ['0O17', 15],
    ['0777', 511],
    ['-012', -10],
    ['+012', 10],
    ['0_7', 7],
    ['08', 8],
    ['09.5', 9.5],
    ['00', 0],
    ['-0', 0],
    ['0x1F', 31],
    ['0X1f', 31],
    ['0b101', 5],
    ['0b12', '0b12'],
    ['0x', '0x'],
    ['1_000', 1000],
    ['1_', 1],
    ['_1', '_1'],
    ['1_0.5', 10.5],
    ['1:30', '1:30'],
    ['12:30:45', '12:30:45'],
    ['1:30.5', '1:30.5'],
    ['2020-01-01', '2020-01-01'],
    ['2020-01-01T10:00:00Z', '2020-01-01T10:00:00Z'],
    ['yes', true],
    ['Yes', true],
    ['yEs', 'yEs'],
    ['y', true],
    ['on', true],
    ['ON', true],
    ['true', true],
    ['tRue', 'tRue'],
    ['n', false],
    ['no', false],
    ['off', false],
    ['FALSE', false],
    ['null', null],
    ['~', null],
    ['nil', 'nil'],
    ['1e3', 1000],
    ['1e+3', 1000],
    ['1E-3', 0.001],
    ['1e400', '1e400'],
    ['e3', 'e3'],
    ['.e3', '.e3'],
    ['.5', 0.5],
    ['+.5', 0.5],
    ['5.', 5],
    ['1.10', 1.1],
    ['9007199254740993', 9_007_199_254_740_992],
    ['"012"', '012'],
    ["'yes'", 'yes'],
    ['!!str 012', '012'],
    ['!!int "12"', 12],
    ['!!bool "yes"', true],
    ['!!binary aGk=', 'hi'],
    ['!foo bar', 'bar'],
    ['!!set {a, b}', { a: null, b: null }],
    ['|\n  yes', 'yes\n'],
    ['', null],
  ])('is what Helm takes it for: %s', (text, expected) => {
    expect(parsedValues(`v: ${text}\n`)).toEqual({ v: expected })
  })

  it.each<[string, Plain]>([
    ['yes: v', { true: 'v' }],
    ['012: v', { 10: 'v' }],
    ["'012': v", { '012': 'v' }],
    ['1.0: v', { 1: 'v' }],
    ['a: 1\na: 2', { a: 2 }],
    ['a: 1\n---\na: 2', { a: 1 }],
    ['a: &x 012\nb: *x', { a: 10, b: 10 }],
    ['a: &a {x: yes, z: 1}\nm:\n  <<: *a\n  z: 2', { a: { x: true, z: 1 }, m: { x: true, z: 2 } }],
    ['', {}],
    ['just text', {}],
    ['- a', {}],
    ['a: [', {}],
  ])('stands in a file that Helm reads so: %j', (text, expected) => {
    expect(parsedValues(text)).toEqual(expected)
  })
})

describe('values over the defaults of a chart', () => {
  it.each<[string, readonly string[], Plain]>([
    ['a: 1\nb: 2', ['a: null'], { b: 2 }],
    ['a: {p: 1, q: 2}', ['a: {p: null}'], { a: { q: 2 } }],
    ['a: {p: 1, q: 2}', ['a: null'], {}],
    ['a: {p: 1, q: 2}', ['a: null', 'a: {z: 1}'], { a: { p: 1, q: 2, z: 1 } }],
    ['a: {p: 1, q: 2}', ['a: {z: 1}', 'a: null'], {}],
    ['a: {p: 1}', ['a: {z: null}'], { a: { p: 1, z: null } }],
    ['', ['a: null\nb: {c: null}'], { a: null, b: { c: null } }],
    ['a: null\nb: 1\nc: {d: null, e: 1}', [], { a: null, b: 1, c: { d: null, e: 1 } }],
    ['a: null\nb: {c: null}', ['a: 1\nb: {c: 2}'], { a: 1, b: { c: 2 } }],
    ['a: null', ['a: null'], {}],
    ['a: null', ['a: {p: null}'], { a: { p: null } }],
    ['', ['a: 1\nb: {c: 1, d: 2}', 'a: null\nb: {c: null}'], { a: null, b: { c: null, d: 2 } }],
    ['l: [1, 2]', ['l: [null, 3]'], { l: [null, 3] }],
    ['l: [1, 2]', ['l: null'], {}],
    ['a: {x: {p: 1, q: 2}, z: 1}', ['a: {x: {p: null}}'], { a: { z: 1, x: { q: 2 } } }],
    [
      'a: {x: {p: 1, q: 2}, z: 1}',
      ['a: {x: {r: null, m: {o: null}}}'],
      { a: { z: 1, x: { p: 1, q: 2, r: null, m: { o: null } } } },
    ],
    ['a: 1', ['a: {x: null}'], { a: { x: null } }],
    ['a: {x: 1}', ['a: 5'], { a: 5 }],
    ['a: {x: 5}', ['a: {x: {k: null, j: 1}}'], { a: { x: { k: null, j: 1 } } }],
  ])('are what Helm makes of them: %j under %j', (chart, files, expected) => {
    const user = files.reduce<Plain>((values, file) => mergeValues(values, parsedValues(file)), {})
    const before = structuredClone(user)
    expect(withDefaults(parsedValues(chart), user)).toEqual(expected)
    expect(user).toEqual(before)
  })

  it('keep every key of the user that is not null, and of the chart every key that the user does not name', () => {
    const tree = fc.letrec<{ map: Plain; value: unknown }>(tie => ({
      map: fc.dictionary(fc.constantFrom('a', 'b', 'c', '__proto__'), tie('value'), {
        maxKeys: 4,
      }) as fc.Arbitrary<Plain>,
      value: fc.oneof({ maxDepth: 3 }, fc.constantFrom(null, 0, 1, 'x', true), tie('map')),
    })).map
    fc.assert(
      fc.property(tree, tree, (chart, user) => {
        const result = withDefaults(chart, user)
        for (const key of new Set([...Object.keys(chart), ...Object.keys(user), ...Object.keys(result)])) {
          const [inChart, inUser, there] = [chart, user, result].map(map => Object.hasOwn(map, key))
          expect(there).toBe(inUser === true ? user[key] !== null || inChart !== true : inChart)
        }
        expect(withDefaults({}, user)).toEqual(user)
        expect(withDefaults(chart, {})).toEqual(chart)
      }),
    )
  })
})

describe('the values of an Application and of a HelmRelease', () => {
  const files = new Map([
    ['charts/mesh/Chart.yaml', 'apiVersion: v2\nname: istiod\n'],
    ['charts/mesh/values.yaml', 'pilot: {env: {KEPT: "1", GONE: "1"}, replicas: 012}\n'],
    ['charts/mesh/eu.yaml', 'pilot: {env: {GONE: null, MORE: yes}}\n'],
  ])

  it('lose what a null takes from the chart in the same folder', () => {
    const source = { repoURL: 'https://example.com/fleet.git', path: 'charts/mesh', helm: { valueFiles: ['eu.yaml'] } }
    const object = {
      apiVersion: 'argoproj.io/v1alpha1',
      kind: 'Application',
      metadata: { name: 'mesh' },
      spec: { source },
    }
    const application = applicationOf(object as unknown as ManifestObject, '', 0)!
    const { values } = applicationValues(files, application, application.sources[0]!)
    expect(values).toEqual({ pilot: { env: { KEPT: '1', MORE: true }, replicas: 10 } })
  })

  it('lose what a null takes from the values files that stand for the chart’s own', () => {
    const object = {
      apiVersion: 'helm.toolkit.fluxcd.io/v2',
      kind: 'HelmRelease',
      metadata: { name: 'istiod' },
      spec: {
        chart: { spec: { chart: 'charts/mesh', valuesFiles: ['charts/mesh/values.yaml'] } },
        values: { pilot: { env: { GONE: null } } },
      },
    }
    const release = helmReleaseOf(object as unknown as ManifestObject, '', 0)!
    expect(releaseValues(files, release, () => null).values).toEqual({ pilot: { env: { KEPT: '1' }, replicas: 10 } })
  })
})
