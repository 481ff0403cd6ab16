import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { fixturePem } from '../../phases/fixtures/istio.ts'
import { run } from '../../src/cli/program.ts'
import { schemaFiles } from '../../src/cli/schemas.ts'
import { checkChange, describeChange, judgeGate, provePlan, validatePath } from '../../src/index.ts'
import { istioSelfSigned, privateKeyPem, serialFrom } from '../../src/pki/authority.ts'
import { systemKeys } from '../../src/pki/keys.ts'
import { demoFleet } from '../../src/rehearsal/istio/fleet.ts'
import { initBare } from '../../src/repository/init.ts'
import { openRepository } from '../../src/repository/repository.ts'
import type { Plan } from '../../src/rotation.ts'
import { readEvidence } from '../../src/verify/evidence-file.ts'

const recipient = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p'
const ajv = new Ajv2020({ strict: true, allowUnionTypes: true, allErrors: true })
const validators = new Map<string, ReturnType<typeof ajv.compile>>()

/** Errors of a value against one of the committed schemas; empty where it fits. */
function misfits(schema: string, value: unknown): readonly string[] {
  const compiled =
    validators.get(schema) ?? ajv.compile(JSON.parse(readFileSync(`schemas/${schema}.schema.json`, 'utf8')) as object)
  validators.set(schema, compiled)
  compiled(value)
  return (compiled.errors ?? []).map(error => `${error.instancePath} ${error.message} ${JSON.stringify(error.params)}`)
}

interface Printed {
  readonly exit: number
  readonly value: { readonly command: string; readonly exit: number; readonly result: unknown }
}

/** Runs a command with `--output json`, in this process, and gives what it printed on stdout. */
async function json(...words: readonly string[]): Promise<Printed> {
  let out = ''
  const terminal = {
    out: (text: string) => (out += text),
    err: () => {},
    progress: false,
    interactive: false,
    color: false,
  }
  const exit = await run([...words, '--output', 'json'], terminal as never)
  return { exit, value: JSON.parse(out) as Printed['value'] }
}

let folder: string
let demoRepository: string
let bare: string
let demoPrinted: Printed

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'reanchor-schemas-'))
  demoPrinted = await json('demo', 'istio', '--dir', join(folder, 'demo'))
  demoRepository = (demoPrinted.value as unknown as { repository: string }).repository
  bare = join(folder, 'fleet.git')
  await startRotation(bare)
}, 300_000)

afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** A repository with a declared rotation whose present CA lies in files: it can be planned without a cluster. */
async function startRotation(path: string): Promise<void> {
  await initBare(path, 'main')
  const key = await systemKeys.generate('ecdsa-p256')
  const root = await istioSelfSigned({
    trustDomain: 'cluster.local',
    key,
    notBefore: new Date(Date.now() - 86_400_000),
    notAfter: new Date(Date.now() + 3000 * 86_400_000),
    serial: serialFrom(size => Buffer.alloc(size, 7)),
  })
  writeFileSync(join(folder, 'root.pem'), root.pem)
  writeFileSync(join(folder, 'root.key'), privateKeyPem(key), { mode: 0o600 })
  const declaration = `apiVersion: reanchor.dev/v1alpha1
kind: TrustRotation
metadata: {name: mesh-2026}
spec:
  system: istio
  forge: local
  current: {files: {certificate: ${join(folder, 'root.pem')}, key: ${join(folder, 'root.key')}}}
  custody: {sops: {age: [${recipient}]}}
  sites:
    - name: eu-1
      path: trust/eu-1
      delivery: {flux: {kustomization: flux-system/trust, file: clusters/eu-1/trust.yaml}}
  reload: {workloads: [{site: eu-1, path: apps/eu-1}]}
  istio: {controlPlane: {eu-1: {file: istio/eu-1/istio.yaml, name: default}}}
`
  const repository = await openRepository(path)
  const changes = new Map([
    ...demoFleet({ sites: ['eu-1'], ageRecipient: recipient }),
    ['rotations/mesh-2026/rotation.yaml', declaration],
  ])
  const first = await repository.commit({
    parent: null,
    changes,
    message: 'The fleet',
    trailers: {},
    author: { name: 'a', email: 'a@example.com' },
    at: new Date(),
  })
  await repository.publish([{ ref: 'refs/heads/main', from: null, to: first }])
  repository.close()
}

/** The command's schema accepts what it printed; the exit code in it is the one that the command ended with. */
async function fits(schema: string, ...words: readonly string[]): Promise<Printed> {
  const printed = await json(...words)
  expect(misfits(schema, printed.value), `reanchor ${words.join(' ')}`).toEqual([])
  expect(printed.value.exit).toBe(printed.exit)
  return printed
}

function isError(printed: Printed): boolean {
  return Object.hasOwn(printed.value.result as object, 'error')
}

test('the committed schemas are what the sources say: run `npm run schemas` where they are not', () => {
  const generated = schemaFiles()
  for (const [name, content] of generated) expect(content, name).toBe(readFileSync(`schemas/${name}`, 'utf8'))
  expect(readdirSync('schemas').sort()).toEqual([...generated.keys(), 'rotation.schema.json'].sort())
})

test('every command has a schema', async () => {
  let help = ''
  const out = (text: string) => {
    help += text
  }
  for (const words of [['--help'], ['pr', '--help']]) {
    await run(words, { out, err: () => {}, progress: false, interactive: false, color: false })
  }
  const commands = [...help.matchAll(/^ {2}([a-z]+) \[options\]/gm)].flatMap(found => found[1] ?? [])
  expect(commands).toEqual(expect.arrayContaining(['init', 'status', 'demo', 'merge']))
  const names = commands.map(name =>
    ['list', 'show', 'diff', 'merge'].includes(name) && !schemaFiles().has(`${name}.schema.json`) ? `pr-${name}` : name,
  )
  for (const name of names) expect(schemaFiles().has(`${name}.schema.json`), name).toBe(true)
})

describe('what the commands print fits their schemas', () => {
  test('demo prints its own object, without the envelope', () => {
    expect(misfits('demo', demoPrinted.value)).toEqual([])
    expect(demoPrinted.exit).toBe(0)
  })

  test('on a rotation that is closed', async () => {
    const on = ['--repo', demoRepository] as const
    for (const command of ['status', 'report', 'prove', 'next']) {
      const printed = await fits(command, command, ...on)
      expect(isError(printed), command).toBe(false)
    }
    expect(isError(await fits('check', 'check', 'main~1..main', ...on))).toBe(false)
    expect(isError(await fits('diff', 'diff', 'main~8..main~4', ...on))).toBe(false)
    const all = await fits('pr-list', 'pr', 'list', '--all', ...on)
    expect((all.value.result as unknown[]).length).toBeGreaterThan(5)
    expect(isError(await fits('pr-show', 'pr', 'show', '1', ...on))).toBe(false)
    expect(isError(await fits('pr-diff', 'pr', 'diff', '2', ...on))).toBe(false)
  })

  test('on a rotation that begins: plan, pr merge, next, status', async () => {
    const on = ['--repo', bare] as const
    const planned = await fits('plan', 'plan', '--root-key-out', join(folder, 'new-root.key.age'), ...on)
    expect(planned.value.result).toMatchObject({ kind: 'planned', safe: true })
    expect((await fits('pr-list', 'pr', 'list', ...on)).value.result).toHaveLength(1)
    expect((await fits('pr-merge', 'pr', 'merge', '1', ...on)).value.result).toMatchObject({ state: 'merged' })
    expect((await fits('next', 'next', '--dry-run', ...on)).value.result).toMatchObject({ kind: 'dry-run' })
    expect((await fits('next', 'next', ...on)).value.result).toMatchObject({ kind: 'opened' })
    expect((await fits('run', 'run', '--once', ...on)).exit).toBe(3)
    expect((await fits('pr-show', 'pr', 'show', '2', ...on)).value.result).toMatchObject({ state: 'open' })
    expect((await fits('status', 'status', ...on)).value.result).toMatchObject({ pullRequests: [{ number: 2 }] })
  })

  test('inspect of files, and init', async () => {
    const inspected = await fits('inspect', 'inspect', '--file', join(folder, 'root.pem'), '--within', '4000d')
    expect(inspected.exit).toBe(4)
    const made = await fits(
      'init',
      'init',
      'istio',
      '--name',
      'other',
      '--site',
      'eu-1=trust/eu-1',
      '--delivery',
      'flux:flux-system/trust',
      '--age',
      recipient,
      '--forge',
      'local',
      '--yes',
      '--dry-run',
      '--repo',
      bare,
    )
    expect(isError(made)).toBe(false)
  })

  test('verify of committed evidence, and the evidence itself', async () => {
    const repository = await openRepository(demoRepository)
    const snapshot = repository.snapshot(await repository.head('main'))
    const files = [...(await snapshot.list('rotations/mesh-2026/evidence')).keys()]
    expect(files.length).toBeGreaterThan(5)
    for (const path of files) {
      const content = (await snapshot.read(path)) ?? ''
      for (const document of parseAllDocuments(content)) expect(misfits('evidence', document.toJS()), path).toEqual([])
      const copy = join(folder, 'evidence.yaml')
      writeFileSync(copy, content)
      const printed = await fits('verify', 'verify', '--evidence', copy, '--repo', demoRepository)
      expect(printed.value.result, path).toMatchObject({ verdict: 'holds' })
    }
    repository.close()
  })

  test('an error fits the schema of its command, with its exit code', async () => {
    const missing = join(folder, 'nothing-here')
    for (const command of ['plan', 'prove', 'next', 'verify', 'status', 'check', 'undo', 'diff']) {
      const printed = await fits(command, command, '--repo', missing)
      expect(isError(printed), command).toBe(true)
      expect(printed.exit, command).toBe(2)
    }
    expect(isError(await fits('pr-show', 'pr', 'show', '99', '--repo', demoRepository))).toBe(true)
    expect(isError(await fits('inspect', 'inspect', '--file', missing))).toBe(true)
  })
})

describe('what the library takes and gives fits its schemas, as JSON', () => {
  const viaJson = <T>(value: T): T => JSON.parse(JSON.stringify(value)) as T

  test('plan.yaml, provePlan, judgeGate and checkChange', async () => {
    const repository = await openRepository(demoRepository)
    const snapshot = repository.snapshot(await repository.head('main'))
    const plan = parse((await snapshot.read('rotations/mesh-2026/plan.yaml')) ?? '') as Plan
    expect(misfits('trust-plan', plan)).toEqual([])
    expect(misfits('proof', viaJson(provePlan(viaJson(plan))))).toEqual([])
    const [path = ''] = [...(await snapshot.list('rotations/mesh-2026/evidence')).keys()].sort()
    const evidence = readEvidence((await snapshot.read(path)) ?? '', path)
    const judged = judgeGate(viaJson(plan), viaJson(evidence), evidence[0]?.to ?? '')
    expect(judged.verdict).toBe('holds')
    expect(misfits('judgement', viaJson(judged))).toEqual([])
    expect(judgeGate(plan, evidence, '2099-01-01T00:00:00Z').verdict).toBe('unknown')
    expect(() => judgeGate(plan, evidence, 'soon')).toThrow(/RFC 3339/)
    const live = { at: '2026-11-22T06:00:00Z', plan, sites: {}, certificates: [] }
    expect(misfits('live-trust', viaJson(live))).toEqual([])
    const changed = checkChange({ 'a.pem': fixturePem('old-root') }, { 'a.pem': fixturePem('new-root') }, viaJson(live))
    expect(misfits('change-verdict', viaJson(changed))).toEqual([])
    repository.close()
  })

  test('describeChange and validatePath', () => {
    const change = describeChange(
      { 'a.pem': fixturePem('old-root') },
      { 'a.pem': fixturePem('old-root') + fixturePem('new-root') },
    )
    expect(misfits('trust-change', viaJson(change))).toEqual([])
    const input = {
      leaf: fixturePem('new-issuing-eu-1'),
      intermediates: [],
      anchors: [fixturePem('new-root')],
      at: '2026-11-22T06:00:00Z',
      purpose: 'server' as const,
    }
    expect(misfits('validate-path-input', input)).toEqual([])
    for (const each of [
      input,
      { ...input, anchors: [fixturePem('old-root')] },
      { ...input, at: '2050-01-01T00:00:00Z' },
    ]) {
      expect(misfits('validate-path-result', viaJson(validatePath(each)))).toEqual([])
    }
  })
})
