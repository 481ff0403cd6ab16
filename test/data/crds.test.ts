import { join, posix } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { beforeAll, describe, expect, test } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { type Fixture, istioFixtures } from '../../phases/fixtures/istio.ts'
import { planFixture } from '../../phases/fixtures/render.ts'
import { applyWiring } from '../../src/gitops/yaml-edit.ts'
import type { MadePlan } from '../../src/plan/make.ts'
import { type Crds, readCrds } from './crds.ts'

const data = process.env.REANCHOR_DATA ?? '../shared/data'

let crds: Crds

beforeAll(() => {
  crds = readCrds(join(data, 'crds'))
})

// ------------------------------------------------------------------------------------------------ built-in kinds

const texts = { type: 'object', additionalProperties: { type: 'string' } }
const metadata = {
  type: 'object',
  required: ['name'],
  additionalProperties: false,
  properties: { name: { type: 'string' }, namespace: { type: 'string' }, labels: texts, annotations: texts },
}

function kind(apiVersion: string, name: string, fields: object, required: readonly string[] = []): object {
  return {
    type: 'object',
    additionalProperties: false,
    required: ['apiVersion', 'kind', ...required],
    properties: { apiVersion: { const: apiVersion }, kind: { const: name }, ...fields },
  }
}

const restartPatch = {
  type: 'object',
  additionalProperties: false,
  properties: {
    template: {
      type: 'object',
      additionalProperties: false,
      properties: { metadata: { type: 'object', additionalProperties: false, properties: { annotations: texts } } },
    },
  },
}
const paths = { type: 'array', items: { type: 'string' } }
const target = {
  type: 'object',
  additionalProperties: false,
  properties: { group: { type: 'string' }, kind: { type: 'string' }, name: { type: 'string' } },
}
const patches = {
  type: 'array',
  minItems: 1,
  items: {
    type: 'object',
    additionalProperties: false,
    required: ['path', 'target'],
    properties: { path: { type: 'string' }, target },
  },
}

/** Kinds that Kubernetes and Kustomize have themselves, as narrow as what we emit of them. `sops` is taken off before it is applied. */
const builtIn: Readonly<Record<string, object>> = {
  Secret: kind('v1', 'Secret', { metadata, type: { type: 'string' }, data: texts, sops: { type: 'object' } }, [
    'metadata',
    'data',
    'type',
  ]),
  ConfigMap: kind('v1', 'ConfigMap', { metadata, data: texts }, ['metadata', 'data']),
  Deployment: kind('apps/v1', 'Deployment', { metadata, spec: restartPatch }, ['metadata']),
  Kustomization: kind('kustomize.config.k8s.io/v1beta1', 'Kustomization', { resources: paths, components: paths }, [
    'resources',
  ]),
  Component: kind('kustomize.config.k8s.io/v1alpha1', 'Component', { patches }, ['patches']),
}
const ajv = new Ajv2020({ allErrors: true })
const compiled = new Map(Object.entries(builtIn).map(([name, schema]) => [name, ajv.compile(schema)]))

function errorsOf(object: { apiVersion: string; kind: string }, patch: boolean): readonly string[] {
  const custom = crds.errors(object, { patch })
  if (custom !== null) return custom
  const validate = compiled.get(object.kind)
  if (validate === undefined) return [`nobody defines ${object.apiVersion} ${object.kind}`]
  validate(object)
  return (validate.errors ?? []).map(error => `${error.instancePath} ${error.message} ${JSON.stringify(error.params)}`)
}

// ---------------------------------------------------------------------------------------------------- the objects

/** The files of the user's repository that adopt writes or changes, as they are after it. */
function wiredFiles(fixture: Fixture, made: MadePlan): ReadonlyMap<string, string> {
  const files = new Map<string, string>()
  for (const { file, edit } of made.plan.wiring) {
    files.set(file, applyWiring(files.get(file) ?? fixture.files.get(file) ?? null, edit, file).text ?? '')
  }
  return files
}

describe.each(istioFixtures())('$name', fixture => {
  test('every object and patch of every step, undo and nudge is valid', async () => {
    const made = await planFixture(fixture)
    const seen = new Set<string>()
    for (const [path, text] of made.files) {
      if (!path.includes('/phases/') || !path.endsWith('.yaml')) continue
      const value = parse(text, { version: '1.1' }) as {
        apiVersion: string
        kind: string
        data?: Record<string, string>
      }
      if (posix.basename(path) === 'istiod-values.yaml' && value.kind === undefined) {
        // The values of the istiod chart have the shape of the Istio resource's.
        expect(crds.errorsAt('sailoperator.io/v1', 'Istio', ['spec', 'values'], value), path).toEqual([])
        seen.add('values')
        continue
      }
      const patch = path.includes('/components/') && !path.endsWith('/kustomization.yaml')
      expect(errorsOf(value, patch), path).toEqual([])
      if (value.kind === 'ConfigMap') {
        const values = parse(value.data?.['values.yaml'] ?? '') as unknown
        expect(crds.errorsAt('sailoperator.io/v1', 'Istio', ['spec', 'values'], values), path).toEqual([])
      }
      seen.add(value.kind)
    }
    const control = { sail: 'Istio', helmRelease: 'ConfigMap', argoApplication: 'values', helmValues: 'values' }
    const install = /install: (\w+)/.exec(fixture.declaration)?.[1] as keyof typeof control
    expect([...seen]).toEqual(expect.arrayContaining(['Kustomization', 'Component', 'Deployment', control[install]]))
    expect(seen.has('SealedSecret')).toBe(fixture.declaration.includes('sealedSecrets'))
    expect(seen.has('ExternalSecret')).toBe(fixture.declaration.includes('externalSecrets'))
  })

  test('every object that adopt writes or changes in the user’s own files is valid', async () => {
    const files = wiredFiles(fixture, await planFixture(fixture))
    const kinds: string[] = []
    for (const [path, text] of files) {
      for (const document of parseAllDocuments(text)) {
        const object = document.toJS() as { apiVersion: string; kind: string }
        kinds.push(object.kind)
        if (object.apiVersion.startsWith('kustomize.config.k8s.io/')) continue
        // The chart's repository is the user's, and no definition of it is at hand.
        if (object.kind === 'HelmRepository') continue
        expect(crds.errors(object), `${path} ${object.kind}`).toEqual([])
      }
    }
    expect(kinds).toContain(fixture.declaration.includes('argocd:') ? 'Application' : 'Kustomization')
  })
})

describe('the definitions', () => {
  test('refuse a field that nobody defines, which a server would drop in silence', () => {
    const istio = {
      apiVersion: 'sailoperator.io/v1',
      kind: 'Istio',
      metadata: { name: 'default' },
      spec: { valeus: {} },
    }
    expect(crds.errors(istio, { patch: true })).toEqual([expect.stringContaining('valeus')])
  })

  test('refuse a value of the wrong type', () => {
    const values = { pilot: { podAnnotations: { 'reanchor.dev/trust': 'abc' }, env: { ISTIO_MULTIROOT_MESH: 'true' } } }
    expect(crds.errorsAt('sailoperator.io/v1', 'Istio', ['spec', 'values'], values)).toEqual([])
    expect(
      crds.errorsAt('sailoperator.io/v1', 'Istio', ['spec', 'values'], { pilot: { podAnnotations: { a: true } } }),
    ).toHaveLength(1)
  })

  test('refuse a Kustomization without its source', () => {
    const kustomization = {
      apiVersion: 'kustomize.toolkit.fluxcd.io/v1',
      kind: 'Kustomization',
      metadata: { name: 'trust' },
      spec: { interval: '10m', prune: false },
    }
    expect(crds.errors(kustomization)).toEqual([expect.stringContaining('sourceRef')])
  })
})
