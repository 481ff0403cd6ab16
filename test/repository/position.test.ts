import { describe, expect, test } from 'vitest'
import { type Position, positionOf } from '../../src/repository/position.ts'
import { treeDigest } from '../../src/repository/tree-digest.ts'
import type { FileTree, Plan, PlannedTree, TrustState } from '../../src/rotation.ts'

const state: TrustState = { bundle: [], issuer: '', chain: [], source: 'own', settings: {}, restarts: {} }

function sealed(value: string, recipient: string): string {
  return `data:\n  ca-key.pem: ENC[AES256_GCM,data:${value},type:str]\nsops:\n  age:\n    - recipient: ${recipient}\n  mac: x\n`
}

function tree(place: string, extra: Record<string, string> = {}): FileTree {
  return new Map(
    Object.entries({ 'trust.txt': `reanchor m ${place} eu-1\n`, 'kustomization.yaml': 'resources: []\n', ...extra }),
  )
}

const adopt = tree('0-adopt/1-adopt')
const data = tree('1-both/1-data', { 'cacerts.yaml': sealed('one', 'age1a'), 'root-cert.pem': 'old+new\n' })
const undo = tree('1-both/1-data undo', { 'cacerts.yaml': sealed('one', 'age1a'), 'root-cert.pem': 'old\n' })
const restart = tree('1-both/2-restart', {
  'cacerts.yaml': sealed('one', 'age1a'),
  'root-cert.pem': 'old+new\n',
  'patch.yaml': 'a\n',
})
const trees = new Map([
  ['0/1/step', adopt],
  ['1/1/step', data],
  ['1/1/undo', undo],
  ['1/2/step', restart],
])

function planned(files: FileTree): PlannedTree {
  return { digest: treeDigest(files), state }
}

const plan = {
  phases: [
    {
      number: 0,
      name: 'adopt',
      title: '',
      steps: [
        { number: 1, name: 'adopt', what: '', sites: { 'eu-1': { ...planned(adopt), undo: null, nudge: null } } },
      ],
    },
    {
      number: 1,
      name: 'both',
      title: '',
      steps: [
        {
          number: 1,
          name: 'data',
          what: '',
          sites: { 'eu-1': { ...planned(data), undo: planned(undo), nudge: null } },
        },
        { number: 2, name: 'restart', what: '', sites: { 'eu-1': { ...planned(restart), undo: null, nudge: null } } },
      ],
    },
  ],
  formerDigests: {},
} as unknown as Plan

function position(files: FileTree, of: Plan = plan, site = 'eu-1'): Position {
  return positionOf(files, of, site, (phase, step, variant) => trees.get(`${phase}/${step}/${variant}`) ?? null)
}

function changed(files: FileTree, changes: Record<string, string | null>): FileTree {
  const result = new Map(files)
  for (const [path, text] of Object.entries(changes)) text === null ? result.delete(path) : result.set(path, text)
  return result
}

describe('where a site stands', () => {
  test('an empty folder is absent', () => {
    expect(position(new Map())).toEqual({ kind: 'absent' })
  })

  test.each([...trees])('the exact bytes of %s are that place, without any rendered tree at hand', (name, files) => {
    const [phase, step, variant] = name.split('/')
    const expected = { kind: 'at', phase: Number(phase), step: Number(step), variant }
    expect(positionOf(files, plan, 'eu-1', () => null)).toEqual(expected)
  })

  test('a step that was sealed again is known by its prior digests', () => {
    const before = changed(data, { 'cacerts.yaml': sealed('one', 'age1gone') })
    const first = changed(data, { 'cacerts.yaml': sealed('one', 'age1first') })
    const formerDigests = { [treeDigest(first)]: treeDigest(before), [treeDigest(before)]: treeDigest(data) }
    for (const files of [before, first])
      expect(position(files, { ...plan, formerDigests })).toMatchObject({ kind: 'at', phase: 1 })
    const circle = { [treeDigest(before)]: treeDigest(first), [treeDigest(first)]: treeDigest(before) }
    expect(position(before, { ...plan, formerDigests: circle }).kind).toBe('unknown')
  })

  test('files of two steps are mixed, each named (F25)', () => {
    expect(position(changed(data, { 'trust.txt': adopt.get('trust.txt') ?? '' }))).toEqual({
      kind: 'mixed',
      files: [
        { path: 'cacerts.yaml', matches: '1-both/1-data' },
        { path: 'kustomization.yaml', matches: '1-both/1-data' },
        { path: 'root-cert.pem', matches: '1-both/1-data' },
        { path: 'trust.txt', matches: '0-adopt/1-adopt' },
      ],
      why: 'the files are those of 1-both/1-data and 0-adopt/1-adopt',
    })
    const foreign = position(changed(data, { 'root-cert.pem': undo.get('root-cert.pem') ?? '', extra: '?' }))
    expect(foreign.kind === 'mixed' && foreign.files.find(file => file.path === 'extra')?.matches).toBeNull()
  })

  test('an edited folder is unknown, told against the nearest step', () => {
    const edited = changed(restart, { 'root-cert.pem': 'evil\n', 'patch.yaml': null, 'more.yaml': 'x\n' })
    expect(position(edited)).toEqual({
      kind: 'unknown',
      nearest: { phase: 1, step: 2, variant: 'step' },
      changed: [
        { path: 'more.yaml', what: 'added' },
        { path: 'patch.yaml', what: 'removed' },
        { path: 'root-cert.pem', what: 'changed' },
      ],
      resealed: null,
    })
  })

  test('a file missing from a step, a foreign folder, another site, and an executable bit are unknown', () => {
    expect(position(changed(data, { 'root-cert.pem': null }))).toMatchObject({
      kind: 'unknown',
      changed: [{ what: 'removed' }],
    })
    expect(position(new Map([['x', 'y']])).kind).toBe('unknown')
    expect(position(data, plan, 'us-1')).toMatchObject({ kind: 'unknown', nearest: null })
    expect(position(data, plan, 'constructor')).toMatchObject({ kind: 'unknown', nearest: null })
    const executable = new Map(
      [...data].map(([path, text]) => [
        path,
        { mode: path === 'trust.txt' ? '100755' : '100644', bytes: Buffer.from(text) },
      ]),
    )
    expect(positionOf(executable, plan, 'eu-1', (p, s, v) => trees.get(`${p}/${s}/${v}`) ?? null)).toMatchObject({
      kind: 'unknown',
      changed: [{ path: 'trust.txt', what: 'changed' }],
    })
  })

  test('the same ciphertext sealed to other recipients is named as that, and a value sealed anew as that', () => {
    expect(position(changed(data, { 'cacerts.yaml': sealed('one', 'age1b') }))).toMatchObject({
      kind: 'unknown',
      resealed: 'recipients',
    })
    expect(position(changed(data, { 'cacerts.yaml': sealed('two', 'age1b') }))).toMatchObject({
      kind: 'unknown',
      resealed: 'values',
    })
    const more = sealed('one', 'age1b').replace('data:\n', 'data:\n  evil: x\n')
    expect(position(changed(data, { 'cacerts.yaml': more }))).toMatchObject({ kind: 'unknown', resealed: null })
  })
})
