/** Files that somebody damaged, by structure rather than by letter: read, or refused with their place, and never a crash later on. */
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parse, stringify } from 'yaml'
import { readDeclaration } from '../../src/declaration/read.ts'
import { writeDeclaration } from '../../src/declaration/write.ts'
import { ReanchorError } from '../../src/errors.ts'
import { reach } from '../../src/gitops/reach.ts'
import { wiringHolds } from '../../src/gitops/yaml-edit.ts'
import { readPlan } from '../../src/plan/lock.ts'
import type { WiringEdit } from '../../src/rotation.ts'
import { provePlan } from '../../src/safety/prove.ts'
import { readEvidence, writeEvidence } from '../../src/verify/evidence-file.ts'
import { judge } from '../../src/verify/judge.ts'
import { declarations } from '../declaration/declarations.ts'
import { lookTwice, meshAt, planOf } from '../verify/mesh.ts'
import { crash, type Damage, damaged, damages, runs } from './damage.ts'

/** Also the letters between: a byte order mark, a NUL, line ends of another system, and half a file. */
const letters = fc.constantFrom<(text: string) => string>(
  text => text,
  text => text,
  text => `\uFEFF${text}`,
  text => text.replaceAll('\n', '\r\n'),
  text => `${text.slice(0, text.length / 2)}\u0000${text.slice(text.length / 2)}`,
  text => text.slice(0, (text.length * 2) / 3),
  text => `bomb: &a [x, x]\nmore: &b [*a, *a, *a]\n${text}`,
)

function written(value: unknown, damage: Damage): string {
  return stringify(damaged(value, damage), { aliasDuplicateObjects: false })
}

/** What comes of it, or null where it is refused as a person is told: with a file, and no words of V8's. */
async function located<T>(file: string, read: () => T | Promise<T>): Promise<T | null> {
  try {
    return await read()
  } catch (error) {
    expect(error).toBeInstanceOf(ReanchorError)
    const refused = error as ReanchorError
    expect(refused.where.file).toBe(file)
    expect(refused.message).not.toMatch(crash)
    return null
  }
}

describe('a lock file', () => {
  const text = readFileSync('output/istio-graceful-sail/plan.yaml', 'utf8')
  const plan = parse(text, { version: '1.1' }) as unknown

  it('whose parts are gone or of another kind is refused by field, or can be proved on, one way or the other', async () => {
    expect(provePlan(readPlan(text, 'plan.yaml')).safe).toBe(true)
    await fc.assert(
      fc.asyncProperty(damages, letters, async (damage, change) => {
        const read = await located('plan.yaml', () => readPlan(change(written(plan, damage)), 'plan.yaml'))
        if (read !== null) await located('plan.yaml', () => provePlan(read).safe)
      }),
      { numRuns: runs },
    )
  })
})

describe('evidence', () => {
  it('that was damaged is refused by field, or unknown; it holds only where it says what it said', async () => {
    const plan = await planOf()
    const mesh = await meshAt(plan, 2, 2)
    const evidence = await lookTwice(plan, mesh, { phase: 2, step: 2 })
    const content = parse(writeEvidence([evidence])) as unknown
    await fc.assert(
      fc.asyncProperty(damages, letters, async (damage, change) => {
        const read = await located('e.yaml', () => readEvidence(change(written(content, damage)), 'e.yaml'))
        if (read === null || judge(plan, read, mesh.now).verdict !== 'holds') return
        expect(read).toEqual([evidence])
      }),
      { numRuns: runs },
    )
  })
})

describe('rotation.yaml', () => {
  it('whose parts are gone, doubled or of another kind is read or refused, each error with its line', async () => {
    await fc.assert(
      fc.asyncProperty(declarations, damages, letters, async (declaration, damage, change) => {
        const content = parse(writeDeclaration(declaration)) as unknown
        const read = await located('rotation.yaml', () =>
          readDeclaration(change(written(content, damage)), 'rotation.yaml'),
        )
        if (read !== null) expect(Object.keys(read)).not.toContain('__proto__')
      }),
      { numRuns: runs },
    )
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined()
  })
})

describe('the user’s own manifests', () => {
  const flux = {
    'clusters/eu-1/trust.yaml': {
      apiVersion: 'kustomize.toolkit.fluxcd.io/v1',
      kind: 'Kustomization',
      metadata: { name: 'trust', namespace: 'flux-system' },
      spec: {
        path: './trust/eu-1',
        prune: false,
        sourceRef: { kind: 'GitRepository', name: 'fleet' },
        components: ['../x'],
      },
    },
    'apps/argo.yaml': {
      apiVersion: 'argoproj.io/v1alpha1',
      kind: 'Application',
      metadata: { name: 'apps', namespace: 'argocd' },
      spec: {
        sources: [{ repoURL: 'https://example.com/fleet.git', path: 'apps/web', targetRevision: 'main' }],
        destination: { server: 'https://kubernetes.default.svc', namespace: 'web' },
        syncPolicy: { automated: { prune: true } },
      },
    },
    'apps/web/kustomization.yaml': {
      apiVersion: 'kustomize.config.k8s.io/v1beta1',
      kind: 'Kustomization',
      resources: ['web.yaml'],
      patches: [{ target: { kind: 'Deployment' }, patch: '- op: add\n  path: /metadata/labels/a\n  value: b\n' }],
    },
    'apps/web/web.yaml': {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'web' },
      spec: { template: { spec: { containers: [{ name: 'web', image: 'web' }] } } },
    },
  } as const

  it('are looked through for who reaches what without a crash, whatever one of them has become', async () => {
    const paths = Object.keys(flux) as (keyof typeof flux)[]
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...paths), damages, letters, async (path, damage, change) => {
        const files = new Map(paths.map(each => [each, stringify(flux[each])]))
        files.set(path, change(written(flux[path], damage)))
        const found = await located(path, () => reach(files))
        for (const note of found?.notes ?? []) expect(note).not.toMatch(crash)
      }),
      { numRuns: runs },
    )
  })

  it('are told to hold their wiring or not, and never hold it where the list that carries it is gone', async () => {
    const edit: WiringEdit = {
      kind: 'listItem',
      document: 'single',
      at: ['spec', 'components'],
      value: '../x',
    }
    const file = 'clusters/eu-1/trust.yaml'
    await fc.assert(
      fc.asyncProperty(damages, letters, async (damage, change) => {
        const bent = damaged(flux[file], damage)
        const held = await located(file, () => wiringHolds(change(stringify(bent)), edit, file))
        const components: unknown = bent.spec?.components
        if (held?.holds === true) expect(Array.isArray(components) && components.flat().includes('../x')).toBe(true)
      }),
      { numRuns: runs },
    )
  })
})
