import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type { Plan } from '../../src/rotation.ts'
import { systemOf } from '../../src/systems/systems.ts'
import { startFakeApi } from '../cluster/fake-api.ts'
import { recipients } from '../declaration/declarations.ts'
import { bareRepository, userGit } from '../repository/temporary.ts'
import {
  author,
  commit,
  forkAt,
  placeStep,
  plannedWorld,
  refsOf,
  rotation,
  start,
  temporary,
  type World,
} from '../scenarios/world.ts'
import { called, type Ended, startProgram } from './program.ts'

let world: World & { readonly plan: Plan }
/** Refs of main as it was after each step. */
const at: Record<string, Record<string, string>> = {}

beforeAll(async () => {
  world = await plannedWorld({ folder: mkdtempSync(join(tmpdir(), 'reanchor-cli-')) })
  at.planned = refsOf(world.bare)
  for (const [phase, step] of [
    ['adopt', 1],
    ['enable-multiroot', 2],
    ['trust-both', 1],
    ['trust-both', 2],
    ['issue-new', 2],
    ['trust-new', 2],
  ] as const) {
    await placeStep(world, phase, step)
    at[`${phase}/${step}`] = refsOf(world.bare)
  }
})

afterAll(() => {
  world.repository.close()
  rmSync(world.folder, { recursive: true, force: true, maxRetries: 3 })
})

function standing(step: string): string {
  return forkAt(temporary(), at[step] ?? {}, world.bare)
}

/** Runs on a repository and makes sure that nothing in it moved. */
async function reading(bare: string, ...words: string[]) {
  const before = refsOf(bare)
  const ended = await called(...words, '--repo', bare)
  expect(refsOf(bare)).toEqual(before)
  return ended
}

function parsed(stdout: string): { command: string; rotation: string | null; exit: number; result: never } {
  return JSON.parse(stdout)
}

describe('help', () => {
  test('lists every command that there is, with what each exit code means', async () => {
    const { exit, stdout } = await called('--help')
    expect(exit).toBe(0)
    for (const name of [
      'init',
      'inspect',
      'plan',
      'prove',
      'rehearse',
      'next',
      'verify',
      'observe',
      'status',
      'report',
      'check',
      'undo',
      'run',
      'diff',
      'pr',
      'demo',
    ])
      expect(stdout).toMatch(new RegExp(`^  ${name}\\b`, 'm'))
    for (const code of [0, 1, 2, 3, 4, 5]) expect(stdout).toMatch(new RegExp(`(^|· |: )\\s*${code} [a-z]`, 'm'))
  })

  test('of each command shows the options that all have, and --dry-run where it writes', async () => {
    for (const name of ['init', 'plan', 'next', 'undo', 'status', 'check', 'diff', 'verify', 'prove']) {
      const { exit, stdout } = await called(name, '--help')
      expect(exit).toBe(0)
      for (const option of ['--output', '--rotation', '--repo', '--no-color']) expect(stdout, name).toContain(option)
      if (['init', 'plan', 'next', 'undo'].includes(name)) expect(stdout, name).toContain('--dry-run')
    }
  })
})

describe('bad usage ends with exit code 2', () => {
  test.each([
    ['an unknown command', ['rotate'], /rotate/],
    ['an unknown option', ['status', '--colour'], /--colour/],
    ['an option without its value', ['status', '--repo'], /--repo/],
    ['a format that is none', ['status', '--output', 'yaml'], /yaml/],
    ['a system that is not there', ['init', 'consul', '--yes'], /istio/],
    ['a demo of a system that is not there', ['demo', 'consul'], /istio/],
    ['a fault that is not there', ['demo', 'istio', '--fault', 'meteor'], /never-reloads/],
    ['too many sites', ['demo', 'istio', '--sites', '99'], /1 to 6/],
    ['no region at all', ['demo', 'cassandra', '--regions', '0'], /1 to 3\n.*found: +0\n.*--regions 3/s],
    ['three regions of a system that has two', ['demo', 'kyma', '--regions', '3'], /1 to 2\n.*--regions 2/s],
    ['sites and regions', ['demo', 'cassandra', '--sites', '2', '--regions', '3'], /one of them/],
    ['a flow that is not there', ['demo', 'linkerd', '--flow', 'sideways'], /trust-roots, upgrade, config-map/],
    [
      'a scenario of another system',
      ['demo', 'linkerd', '--scenario', 'graceful'],
      /found: +--scenario graceful\n.*--flow/s,
    ],
    ['a file for the demo’s folder', ['demo', 'linkerd', '--dir', 'package.json'], /package\.json.*found: +a file/s],
    ['a duration without a unit', ['verify', '--wait', '--timeout', '10'], /--timeout/],
    ['a pull request that is no number', ['pr', 'show', 'first'], /number/],
    ['no command at all', [], /Usage/],
  ] as const)('%s', async (_name, words, said) => {
    const bare = standing('planned')
    const options =
      words.length > 0 && ['status', 'verify', 'pr'].includes(words[0] ?? '') && words.at(-1) !== '--repo'
        ? ['--repo', bare]
        : []
    const { exit, stderr, stdout } = await called(...words, ...options)
    expect(exit).toBe(2)
    expect(stderr + stdout).toMatch(said)
  })
})

describe('plan with a strategy that the system does not have', () => {
  test.each([
    ['istio', 'renew', /choose graceful, which also renews/],
    ['linkerd', 'renew', /a proxy keeps the anchors .*choose issuer/s],
    ['kyma', 'issuer', /its gateway trusts the very CA that signs.*choose renew/s],
    ['cassandra', 'renew', /names its entries by Subject.*choose graceful/s],
    ['cassandra', 'issuer', /no root above it.*choose graceful/s],
  ] as const)(
    '%s, %s: says why and what to use, before any cluster is asked for (F7)',
    async (system, strategy, said) => {
      const { demo } = await systemOf(system).rehearsal()
      const sites = demo.sites.slice(0, demo.usualSites)
      const [ageRecipient = ''] = recipients
      const options = { sites, ageRecipient, sealingCertificate: '', variant: null }
      const fleet = demo.fleet(options)
      const paths = Object.fromEntries(sites.map(site => [site, `trust/${site}`]))
      const declared = await demo.declare(fleet, { ...options, rotation: demo.rotation, paths, now: start })
      const changed = declared.text.replace(/strategy: [a-z]+/, `strategy: ${strategy}`)
      const bare = await bareRepository(Object.fromEntries([...fleet, [declared.path, changed]]))
      const { exit, stderr } = await called('plan', '--repo', bare)
      expect(stderr).toMatch(said)
      expect(stderr).toMatch(new RegExp(`found: +${strategy}\\n`))
      expect(exit).toBe(5)
    },
  )
})

describe('demo --dir', () => {
  test.each(['fleet.git', 'age.key', 'mesh-2026-root.key.age'])(
    'with %s of an earlier demo is refused by that name, and neither it nor anything else is touched',
    async left => {
      const dir = mkdtempSync(join(tmpdir(), 'reanchor-used-'))
      onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
      writeFileSync(join(dir, left), 'earlier')
      writeFileSync(join(dir, 'thesis.txt'), 'mine')
      const { exit, stderr } = await called('demo', 'linkerd', '--dir', dir)
      expect(exit).toBe(2)
      expect(stderr).toMatch(new RegExp(`found: +${left}\\n`))
      expect(stderr).not.toContain(`remove ${dir}`)
      expect(readdirSync(dir).sort()).toEqual([left, 'thesis.txt'].sort())
    },
  )
})

describe('--output json', () => {
  test('prints one envelope, for results and for errors', async () => {
    const bare = standing('trust-both/2')
    for (const [command, words] of [
      ['status', ['status']],
      ['prove', ['prove']],
      ['pr list', ['pr', 'list']],
      ['check', ['check', 'main..main']],
    ] as const) {
      const { exit, stdout, stderr } = await reading(bare, ...words, '--output', 'json')
      expect(stderr).toBe('')
      const envelope = parsed(stdout)
      expect(Object.keys(envelope)).toEqual(['command', 'rotation', 'exit', 'result'])
      expect(envelope).toMatchObject({ command, exit })
      expect(exit).toBe(0)
    }
    const { exit, stdout, stderr } = await reading(bare, 'status', '--rotation', 'none', '--output', 'json')
    expect(exit).toBe(3)
    expect(parsed(stdout)).toMatchObject({
      command: 'status',
      rotation: null,
      exit: 3,
      result: { error: { found: 'none' } },
    })
    expect(stderr).toContain('no rotation none')
  })

  test('is not coloured, and neither is text where nobody wants it', async () => {
    const bare = standing('trust-both/2')
    const env = { NO_COLOR: '1', FORCE_COLOR: '1' }
    for (const words of [['status'], ['prove'], ['status', '--no-color'], ['status', '--output', 'json']]) {
      const { stdout, stderr, exit } = await startProgram([...words, '--repo', bare], { env })
      expect(exit).toBe(0)
      expect(stdout.length).toBeGreaterThan(20)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: colour is made of them
      expect(stdout + stderr).not.toMatch(/\u001b\[/)
    }
  })
})

describe('status', () => {
  test('tells from Git alone where the site stands, at each step', async () => {
    for (const [step, label] of Object.entries({
      'adopt/1': '0-adopt/1-adopt',
      'trust-both/1': '2-trust-both/1-data',
      'trust-new/2': '4-trust-new/2-restart',
    })) {
      const { exit, stdout } = await reading(standing(step), 'status', '--output', 'json')
      expect(exit).toBe(0)
      expect(parsed(stdout).result).toMatchObject({
        rotation,
        sites: [{ name: 'eu-1', label, position: { kind: 'at', variant: 'step' } }],
      })
    }
    const { stdout } = await reading(standing('planned'), 'status', '--output', 'json')
    expect(parsed(stdout).result).toMatchObject({ sites: [{ position: { kind: 'absent' } }] })
  })

  test('names an edited folder, and what in it differs', async () => {
    const bare = standing('trust-both/2')
    const head = userGit(bare, 'rev-parse', 'main')
    const old = userGit(bare, 'show', 'main:trust/eu-1/root-cert.pem')
    await commitTo(bare, head, { 'trust/eu-1/root-cert.pem': `${old.slice(0, old.indexOf('-----END') + 25)}\n` })
    const { stdout } = await reading(bare, 'status', '--output', 'json')
    expect(parsed(stdout).result).toMatchObject({
      sites: [{ position: { kind: expect.stringMatching(/mixed|unknown/) } }],
    })
    expect(stdout).toContain('root-cert.pem')
  })

  test('works in a clone whose remote is out of reach', async () => {
    const bare = standing('trust-both/1')
    const clone = join(temporary(), 'clone')
    userGit(join(clone, '..'), 'clone', '-q', bare, clone)
    userGit(clone, 'remote', 'set-url', 'origin', join(clone, '..', 'gone.git'))
    const { exit, stdout } = await called('status', '--repo', clone)
    expect(exit).toBe(0)
    expect(stdout).toContain('trust-both')
  })

  test('waits (3) where no plan is merged', async () => {
    const bare = standing('planned')
    userGit(bare, 'update-ref', 'refs/heads/main', userGit(bare, 'rev-list', '--max-parents=0', 'main'))
    const { exit, stderr } = await called('status', '--repo', bare)
    expect(exit).toBe(3)
    expect(stderr).toMatch(/reanchor plan/)
  })
})

describe('check', () => {
  test('finds no change of trust in a change of something else', async () => {
    const bare = standing('issue-new/2')
    await commitTo(bare, userGit(bare, 'rev-parse', 'main'), { 'README.md': 'new\n' }, 'docs')
    const { exit, stdout } = await reading(bare, 'check', 'main..docs')
    expect(exit).toBe(0)
    expect(stdout).toContain('no change of trust')
  })

  test('refuses (5) a revert of trust-both made by hand, after the issuer has moved, and names the pair that breaks (F26)', async () => {
    const bare = standing('issue-new/2')
    const clone = join(temporary(), 'clone')
    userGit(join(clone, '..'), 'clone', '-q', bare, clone)
    // As a person would: everything since enable-multiroot goes back.
    const before =
      userGit(bare, 'log', '--format=%H %s', 'main')
        .split('\n')
        .find(line => line.endsWith('enable-multiroot/2'))
        ?.split(' ')[0] ?? ''
    userGit(clone, 'revert', '--no-edit', `${before}..HEAD`)
    userGit(clone, 'push', '-q', 'origin', 'HEAD:refs/heads/oops')
    const { exit, stdout } = await reading(bare, 'check', 'main..oops')
    expect(exit).toBe(5)
    expect(stdout).toMatch(/NOT SAFE/)
    expect(stdout).toMatch(/no path to a trusted root/)
    const json = await reading(bare, 'check', 'main..oops', '--output', 'json')
    expect(parsed(json.stdout)).toMatchObject({ command: 'check', exit: 5, result: { safe: false } })
    const sarif = await reading(bare, 'check', 'main..oops', '--output', 'sarif')
    expect(sarif.exit).toBe(5)
    expect(JSON.parse(sarif.stdout)).toMatchObject({
      version: '2.1.0',
      runs: [
        {
          results: [
            {
              ruleId: 'breaks',
              locations: [
                { physicalLocation: { artifactLocation: { uri: expect.stringMatching(/^trust\/eu-1\/[^/]+$/) } } },
              ],
            },
          ],
        },
      ],
    })
    const annotated = await reading(bare, 'check', 'main..oops', '--output', 'annotations')
    expect(annotated.exit).toBe(5)
    expect(annotated.stdout).toMatch(
      /^::error file=trust\/eu-1\/[^,]+,title=reanchor check%3A breaks::.*no path to a trusted root/,
    )
  })

  test('refuses (5) a bundle that loses the root in use (F17)', async () => {
    const bare = standing('trust-both/2')
    const head = userGit(bare, 'rev-parse', 'main')
    await commitTo(bare, head, { 'trust/eu-1/root-cert.pem': null, 'trust/eu-1/cacerts.yaml': null }, 'empty')
    expect((await reading(bare, 'check', 'main..empty')).exit).toBe(5)
  })
})

describe('diff', () => {
  test('tells a change of trust in words', async () => {
    const bare = standing('trust-both/1')
    const { exit, stdout } = await reading(bare, 'diff', 'main~1..main')
    expect(exit).toBe(0)
    expect(stdout).toContain('CN=mesh-2026 root')
    expect(stdout).toContain('O=cluster.local')
    expect(stdout).not.toContain('-----BEGIN')
  })

  test('is a textconv for git: one line for each certificate of a file', async () => {
    const bare = standing('trust-both/1')
    const file = join(temporary(), 'root-cert.pem')
    writeFileSync(file, `${userGit(bare, 'show', 'main:trust/eu-1/root-cert.pem')}\n`)
    const { exit, stdout } = await called('diff', '--textconv', file)
    expect(exit).toBe(0)
    expect(stdout.match(/[0-9a-f]{64}/g)).toHaveLength(2)
    expect(stdout).not.toContain('-----BEGIN')
  })
})

describe('pr', () => {
  test('lists, shows, diffs and merges what the embedded forge holds', async () => {
    const bare = standing('planned')
    const head = userGit(bare, 'rev-parse', 'main')
    await commitTo(bare, head, { 'README.md': 'new\n' }, 'docs')
    const { openLocalForge } = await import('../../src/forge/local.ts')
    const forge = await openLocalForge(bare, { now: () => start })
    const { number } = await forge.open({ title: 'New words', body: 'For people.', branch: 'docs', base: 'main' })
    expect((await reading(bare, 'pr', 'list')).stdout).toMatch(new RegExp(`^#${number} +open +New words$`, 'm'))
    expect((await reading(bare, 'pr', 'list', '--all')).stdout).toMatch(/^#1 +merged +mesh-2026: plan/m)
    expect((await reading(bare, 'pr', 'show', String(number))).stdout).toMatch(
      /New words\nopen: docs into main[\s\S]*For people\./,
    )
    expect((await reading(bare, 'pr', 'diff', String(number))).stdout).toContain('+new')
    const merged = await called('pr', 'merge', String(number), '--method', 'squash', '--repo', bare)
    expect(merged.exit).toBe(0)
    expect(userGit(bare, 'show', 'main:README.md')).toBe('new')
    expect(userGit(bare, 'rev-parse', 'main^')).toBe(head)
    const again = await called('pr', 'show', '99', '--repo', bare)
    expect(again.exit).toBe(2)
    expect(again.stderr).toContain('there is no pull request 99')
  })
})

describe('a cluster that does not answer', () => {
  /** The rotation at trust-both, in a clone whose rotation.yaml on main names this kubeconfig. */
  async function withKubeconfig(kubeconfig: string): Promise<string> {
    const bare = standing('trust-both/2')
    const path = `rotations/${rotation}/rotation.yaml`
    const text = userGit(bare, 'show', `main:${path}`)
    const changed = text.replace(
      / {6}cluster:\n {8}context: eu-1\n/,
      `      cluster: {kubeconfig: ${JSON.stringify(kubeconfig)}}\n`,
    )
    expect(changed).not.toBe(text)
    await commitTo(bare, userGit(bare, 'rev-parse', 'main'), { [path]: `${changed}\n` })
    return bare
  }

  test('is what inspect asks for before there is a plan, which it does not need', async () => {
    const bare = await withKubeconfig(join(temporary(), 'not-there'))
    const plan = `rotations/${rotation}/plan.yaml`
    await commitTo(bare, userGit(bare, 'rev-parse', 'main'), { [plan]: null })
    expect((await reading(bare, 'status')).stderr).toContain('plan')
    const inspected = await reading(bare, 'inspect')
    expect(inspected.stderr).toContain('not-there')
    expect(inspected.stderr).not.toContain('plan pull request')
  })

  test('is unknown, which opens nothing: no cluster, one that answers 403, and one that gives half a list (F27)', async () => {
    const api = await startFakeApi()
    api.objects.set('/namespaces', [{ metadata: { name: 'kube-system', uid: 'u-1' } }])
    const kubeconfig = join(temporary(), 'kubeconfig')
    writeFileSync(kubeconfig, readFileSync(api.kubeconfig))
    const bare = await withKubeconfig(kubeconfig)
    // The wiring is in place only after a real adopt, so that next may say so first; verify looks at the cluster alone.
    const judge = async (): Promise<Ended> => {
      const ended = await reading(bare, 'verify')
      expect(ended.stderr).not.toContain('internal error')
      return ended
    }
    try {
      for (const resource of ['/pods', '/secrets', '/configmaps', 'apps/deployments'])
        api.forbidden.add(`list ${resource}`)
      for (const resource of ['/secrets', '/configmaps', 'apps/deployments']) api.forbidden.add(`get ${resource}`)
      const forbidden = await judge()
      expect(forbidden.exit).toBe(4)
      expect(forbidden.stdout).toMatch(/role|forbidden/i)
      api.forbidden.clear()
      const pods = Array.from({ length: 3_000 }, (_, index) => ({
        metadata: { name: `p-${index}`, namespace: 'shop', uid: `u${index}` },
      }))
      api.objects.set('/pods', pods)
      api.stopHalfWay = 500
      const half = await judge()
      expect(half.exit).toBe(4)
      expect(half.stdout).toMatch(/list came back incomplete/)
      expect(half.stdout).toMatch(/Verdict: unknown/)
    } finally {
      await api.close()
    }
    const gone = await judge()
    expect(gone.exit).toBe(4)
    expect(gone.stdout + gone.stderr).toMatch(/site eu-1[\s\S]*unreachable: .*ECONNREFUSED/)
  })
})

describe('a dry run', () => {
  test('of init shows the file and writes none', async () => {
    const clone = join(temporary(), 'clone')
    userGit(join(clone, '..'), 'clone', '-q', world.bare, clone)
    const words = [
      'init',
      'istio',
      '--name',
      'mesh-2027',
      '--site',
      'eu-1=trust/second',
      '--delivery',
      'flux:flux-system/trust2',
      '--forge',
      'local',
      '--yes',
      '--repo',
      clone,
    ]
    const { exit, stdout, stderr } = await called(...words, '--dry-run')
    expect(stderr).toBe('')
    expect(exit, stdout).toBe(0)
    expect(stdout).toContain('kind: TrustRotation')
    expect(userGit(clone, 'status', '--porcelain')).toBe('')
    expect((await called(...words)).exit).toBe(0)
    expect(readFileSync(join(clone, 'rotations/mesh-2027/rotation.yaml'), 'utf8')).toContain('name: mesh-2027')
    expect(userGit(clone, 'status', '--porcelain', '-uall')).toBe('?? rotations/mesh-2027/rotation.yaml')
  })
})

test('the built program answers --version and --help, and passes exit codes on', async () => {
  const version = await startProgram(['--version'])
  expect(version).toEqual({
    exit: 0,
    stderr: '',
    stdout: `${(JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }).version}\n`,
  })
  expect((await startProgram(['--help'])).exit).toBe(0)
  expect((await startProgram(['nonsense'])).exit).toBe(2)
  expect((await startProgram(['status', '--repo', temporary()])).exit).toBe(2)
})

async function commitTo(
  bare: string,
  parent: string,
  changes: Record<string, string | null>,
  branch = 'main',
): Promise<void> {
  const { openRepository } = await import('../../src/repository/repository.ts')
  const repository = await openRepository(bare)
  await commit(repository, parent, new Map(Object.entries(changes)), `${author.name} edits by hand`, branch)
  repository.close()
}
