import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseAllDocuments, stringify as stringifyYaml } from 'yaml'
import { ReanchorError } from '../../src/errors.ts'
import { buildKustomization } from '../../src/gitops/kustomize.ts'
import { fixtures, refused } from '../gitops/kustomize-fixtures.ts'

let folder = ''

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'reanchor-kustomize-'))
  execFileSync('kubectl', ['version', '--client'])
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

let count = 0

function write(files: Readonly<Record<string, string>>): string {
  const root = join(folder, `${count++}`)
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), text)
  }
  return root
}

function kubectl(files: Readonly<Record<string, string>>, path: string) {
  const root = write(files)
  const run = spawnSync('kubectl', ['kustomize', '--load-restrictor=LoadRestrictionsNone', join(root, path)], {
    encoding: 'utf8',
  })
  return { ok: run.status === 0, text: run.stdout, error: run.stderr }
}

/** Kustomize sorts its output by kind, and leaves ports in an order of its own: both are compared as sets. */
function sorted(objects: readonly unknown[]): readonly unknown[] {
  return objects.map(portsSorted).sort((left, right) => identity(left).localeCompare(identity(right)))
}

function portsSorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(portsSorted)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => {
      if (key !== 'ports' || !Array.isArray(item)) return [key, portsSorted(item)]
      return [key, [...item].sort((left, right) => portText(left).localeCompare(portText(right)))]
    }),
  )
}

function portText(value: unknown): string {
  return JSON.stringify(Object.entries(value as object).sort())
}

function identity(value: unknown): string {
  const object = value as { apiVersion: string; kind: string; metadata: { name: string; namespace?: string } }
  return [object.apiVersion, object.kind, object.metadata.namespace ?? '', object.metadata.name].join('|')
}

function real(files: Readonly<Record<string, string>>, path: string): readonly unknown[] {
  const run = kubectl(files, path)
  if (!run.ok) throw new Error(run.error)
  return sorted(
    parseAllDocuments(run.text)
      .map(document => document.toJS())
      .filter(value => value !== null),
  )
}

function ours(files: Readonly<Record<string, string>>, path: string): readonly unknown[] {
  return sorted(buildKustomization(new Map(Object.entries(files)), path).objects.map(({ object }) => object))
}

describe('builds what kubectl kustomize builds', () => {
  for (const [name, { files, path }] of Object.entries(fixtures)) {
    test(name, () => {
      expect(ours(files, path)).toEqual(real(files, path))
    })
  }
})

describe('refuses what kubectl kustomize refuses', () => {
  for (const [name, { files, path }] of Object.entries(refused)) {
    test(name, () => {
      expect(kubectl(files, path).ok).toBe(false)
      expect(() => ours(files, path)).toThrow(ReanchorError)
    })
  }
})

/** Kustomization files are read as YAML 1.1, where a plain `yes` is no string. */
function stringify(value: unknown): string {
  return stringifyYaml(value, { version: '1.1' })
}

const name = fc.constantFrom('cart', 'web', 'db')
const scalar = fc.constantFrom('one', 'yes', '012', 'true', '', 'a: b')
const env = fc.uniqueArray(fc.record({ name: fc.constantFrom('A', 'B', 'C'), value: scalar }), {
  selector: item => item.name,
  maxLength: 3,
})
const ports = fc.uniqueArray(fc.record({ containerPort: fc.constantFrom(80, 443, 15012) }), {
  selector: item => item.containerPort,
  maxLength: 2,
})
const container = fc.record(
  {
    name: fc.constantFrom('app', 'proxy'),
    image: fc.constantFrom('a:1', 'b'),
    env,
    ports,
    args: fc.array(scalar, { maxLength: 2 }),
  },
  { requiredKeys: ['name'] },
)
const containers = fc.uniqueArray(container, { selector: item => item.name, minLength: 1, maxLength: 2 })
const map = fc.dictionary(fc.constantFrom('a', 'b', 'reanchor.dev/trust'), scalar, { maxKeys: 3 })
const patchMap = fc.dictionary(fc.constantFrom('a', 'b', 'reanchor.dev/trust'), fc.oneof(scalar, fc.constant(null)), {
  minKeys: 1,
  maxKeys: 3,
})

const generated = fc
  .record({
    workloads: fc.uniqueArray(
      fc.record({
        kind: fc.constantFrom('Deployment', 'StatefulSet', 'DaemonSet'),
        name,
        labels: map,
        annotations: map,
        containers,
      }),
      { selector: item => `${item.kind}/${item.name}`, minLength: 1, maxLength: 3 },
    ),
    custom: fc.record({ env: map, list: fc.array(scalar, { maxLength: 2 }) }),
    workloadPatch: fc.record({ annotations: patchMap, containers: fc.option(containers, { nil: undefined }) }),
    customPatch: fc.record({ env: patchMap, list: fc.option(fc.array(scalar, { maxLength: 2 }), { nil: undefined }) }),
    target: fc.constantFrom(
      'Deployment',
      'Deployment|StatefulSet',
      '(Deployment|StatefulSet|DaemonSet)',
      'Job',
      '.*Set',
    ),
    namespace: fc.option(fc.constantFrom('shop', 'mesh'), { nil: undefined }),
    prefix: fc.option(fc.constant('eu-'), { nil: undefined }),
    labels: fc.option(fc.record({ pairs: map, includeSelectors: fc.boolean(), includeTemplates: fc.boolean() }), {
      nil: undefined,
    }),
  })
  .map(given => {
    const workloads = given.workloads.map(({ kind, name, labels, annotations, containers }) => ({
      apiVersion: 'apps/v1',
      kind,
      metadata: { name, labels },
      spec: { template: { metadata: { annotations }, spec: { containers } } },
    }))
    const custom = {
      apiVersion: 'sailoperator.io/v1',
      kind: 'Istio',
      metadata: { name: 'default' },
      spec: { values: { pilot: { env: given.custom.env } }, list: given.custom.list },
    }
    const files: Record<string, string> = {
      'app/all.yaml': [...workloads, custom].map(stringify).join('---\n'),
      'app/kustomization.yaml': stringify({
        resources: ['all.yaml'],
        components: ['../trust/components/workloads', '../trust/components/istiod'],
        ...(given.namespace === undefined ? {} : { namespace: given.namespace }),
        ...(given.prefix === undefined ? {} : { namePrefix: given.prefix }),
        ...(given.labels === undefined ? {} : { labels: [given.labels] }),
      }),
      'trust/components/workloads/kustomization.yaml': stringify({
        apiVersion: 'kustomize.config.k8s.io/v1alpha1',
        kind: 'Component',
        patches: [{ path: 'patch.yaml', target: { kind: given.target } }],
      }),
      'trust/components/workloads/patch.yaml': stringify({
        apiVersion: 'apps/v1',
        kind: 'Deployment',
        metadata: { name: 'any', annotations: given.workloadPatch.annotations },
        spec: {
          template: {
            spec: given.workloadPatch.containers === undefined ? {} : { containers: given.workloadPatch.containers },
          },
        },
      }),
      'trust/components/istiod/kustomization.yaml': stringify({
        apiVersion: 'kustomize.config.k8s.io/v1alpha1',
        kind: 'Component',
        patches: [
          {
            patch: stringify({
              apiVersion: 'sailoperator.io/v1',
              kind: 'Istio',
              metadata: { name: 'x' },
              spec: {
                values: { pilot: { env: given.customPatch.env } },
                ...(given.customPatch.list === undefined ? {} : { list: given.customPatch.list }),
              },
            }),
            target: { kind: 'Istio', name: 'default' },
          },
        ],
      }),
    }
    return files
  })

test('builds generated trees as kubectl kustomize does', () => {
  fc.assert(
    fc.property(generated, files => {
      expect(ours(files, 'app')).toEqual(real(files, 'app'))
    }),
    { numRuns: 60 },
  )
}, 120_000)
