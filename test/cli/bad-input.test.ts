import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { findPrivateKeys } from '../../src/custody/leak.ts'
import { joinPem } from '../../src/pki/pem.ts'
import { startFakeApi } from '../cluster/fake-api.ts'
import { oddCa, root } from '../pki/family.ts'
import { userGit } from '../repository/temporary.ts'
import { commit, declaredWorld, refsOf, temporary, type World } from '../scenarios/world.ts'
import { fromFiles, goodMaterial, life, type Material, rsaKey, signedWithSha1, writeGood } from './material.ts'
import { called, type Ended, startProgram } from './program.ts'

/** A clone of a declared fleet whose CAs are files; each test spoils one thing. */
interface Desk {
  readonly world: World
  readonly clone: string
  readonly material: Material
  readonly rotationFile: string
  /** As it is on the base branch. */
  readonly text: string
}

let desk: Desk
let shared: Desk
const folders: string[] = []

async function makeDesk(): Promise<Desk> {
  const folder = mkdtempSync(join(tmpdir(), 'reanchor-desk-'))
  folders.push(folder)
  const world = await declaredWorld({ folder })
  const material = await goodMaterial(join(folder, 'material'))
  const head = await world.repository.head('main')
  const path = 'rotations/mesh-2026/rotation.yaml'
  const text = fromFiles((await world.repository.snapshot(head).read(path)) ?? '', material.folder)
  await commit(world.repository, head, new Map([[path, text]]), 'Use our own CAs')
  world.repository.close()
  const clone = join(folder, 'clone')
  userGit(folder, 'clone', '-q', world.bare, clone)
  return { world, clone, material, text, rotationFile: join(clone, path) }
}

beforeAll(async () => {
  shared = await makeDesk()
})

// A refusal leaves everything as it was, so that the next test finds it so: only what the test itself spoiled is put back.
beforeEach(() => {
  desk = shared
  writeFileSync(desk.rotationFile, desk.text)
  writeGood(desk.material)
})

afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
})

function plan(...words: string[]): Promise<Ended> {
  return called('plan', '--repo', desk.clone, ...words)
}

/** Everything that a command could have written: refs of both repositories, the index, and every file of the work tree. */
function state(): unknown {
  const files = userGit(desk.clone, 'ls-files', '--cached', '--others', '--exclude-standard').split('\n')
  const digest = (file: string) => {
    const path = join(desk.clone, file)
    return [file, existsSync(path) ? createHash('sha256').update(readFileSync(path)).digest('hex') : null]
  }
  return {
    bare: refsOf(desk.world.bare),
    clone: Object.entries(refsOf(desk.clone)).filter(([ref]) => !ref.startsWith('refs/remotes/')),
    status: userGit(desk.clone, 'status', '--porcelain'),
    files: files.map(digest),
    rootKey: existsSync(join(desk.world.folder, 'root.key.age')),
  }
}

/** Refused with this exit code, saying where and what to do, without a stack, without a key, and without a write. */
async function expectRefusal(
  run: () => Promise<Ended>,
  exit: number,
  ...said: readonly (string | RegExp)[]
): Promise<void> {
  const before = state()
  const ended = await run()
  for (const each of said) expect(ended.stderr).toMatch(each)
  expect(ended.exit, ended.stderr).toBe(exit)
  expect(ended.stderr).toMatch(/^reanchor [a-z ]+: /)
  expect(ended.stderr).toMatch(/\n {2}(to do|example): /)
  expect(ended.stderr).not.toMatch(/internal error|\n\s+at .*\.[jt]s:\d+/)
  expect(ended.stdout).toBe('')
  expect(findPrivateKeys(ended.stderr)).toEqual([])
  expect(state()).toEqual(before)
}

test('the same files unspoiled make a plan', async () => {
  desk = await makeDesk()
  const ended = await plan()
  expect(ended.stderr).toBe('')
  expect(ended.exit).toBe(0)
  expect(Object.keys(refsOf(desk.world.bare))).toContain('refs/heads/reanchor/mesh-2026/plan')
})

describe('a user’s certificates (F30)', () => {
  const spoiled: Record<
    string,
    {
      readonly file: string
      readonly exit?: number
      readonly said: readonly RegExp[]
      readonly text: (material: Material) => string | Promise<string>
    }
  > = {
    'a truncated PEM': {
      file: 'root.pem',
      text: ({ root: top }) => top.certificate.pem.slice(0, 300),
      said: [/root\.pem:1/, /does not end/],
    },
    'an END line glued to the next BEGIN': {
      file: 'root.pem',
      text: ({ root: top, old }) => top.certificate.pem.trimEnd() + old.certificate.pem,
      said: [/root\.pem:\d+/, /glued/],
    },
    'the same certificate twice': {
      file: 'root.pem',
      text: ({ root: top }) => top.certificate.pem + top.certificate.pem,
      said: [/root\.pem:\d+/, /twice/, /first at line 1/],
    },
    'line ends of Windows': {
      file: 'root.pem',
      text: ({ root: top }) => top.certificate.pem.replaceAll('\n', '\r\n'),
      said: [/root\.pem:1/, /CRLF/],
    },
    'a missing final newline': {
      file: 'root.pem',
      text: ({ root: top }) => top.certificate.pem.trimEnd(),
      said: [/root\.pem:\d+/, /newline/],
    },
    'a private key inside a bundle': {
      file: 'root.pem',
      text: ({ root: top, folder }) => joinPem(top.certificate.pem, readFileSync(join(folder, 'old.key'), 'utf8')),
      said: [/root\.pem:\d+/, /a private key among certificates/],
    },
    'a leaf given as root': {
      file: 'root.pem',
      text: ({ leaf }) => leaf.pem,
      said: [/root\.pem/, /no CA/, /instead of the leaf/],
    },
    'a key of another certificate': {
      file: 'issuing.key',
      text: ({ folder }) => readFileSync(join(folder, 'old.key'), 'utf8'),
      said: [/issuing\.key/, /do not match|does not belong/],
    },
    'an old key of another certificate': {
      file: 'old.key',
      text: ({ folder }) => readFileSync(join(folder, 'issuing.key'), 'utf8'),
      said: [/old\.key/, /do not match|does not belong/],
    },
    'an expired root': {
      file: 'root.pem',
      text: async () =>
        (await oddCa('CN=mesh root,O=Example', null, same => same, { notAfter: new Date(Date.now() - 1_000) }))
          .certificate.pem,
      said: [/ended /, /dates/],
    },
    'a root of RSA 1024': {
      file: 'root.pem',
      text: async () => (await root('CN=short,O=Example', { ...life, key: rsaKey(1024) })).certificate.pem,
      said: [/RSA 1024/, /2048/],
    },
    'a root signed with SHA-1': {
      file: 'root.pem',
      text: async () => {
        const key = rsaKey(2048)
        return signedWithSha1((await root('CN=sha1,O=Example', { ...life, key })).certificate, key)
      },
      said: [/SHA-?1/i],
    },
    'a root with the subject of the old one': {
      file: 'root.pem',
      exit: 5,
      text: async () => (await root('O=cluster.local', life)).certificate.pem,
      said: [/subject/],
    },
    'an empty file': { file: 'root.pem', text: () => '', said: [/root\.pem/, /without a certificate/] },
    'something else than PEM': { file: 'root.pem', text: () => 'hello\n', said: [/root\.pem/] },
  }

  test.each(Object.entries(spoiled))('%s', async (_name, { file, text, said, exit }) => {
    desk.material.put(file, await text(desk.material))
    if (file === 'root.pem' && exit === 5) {
      // The rest of the material must be in order, or that is what is refused.
      const twin = await root('O=cluster.local', life)
      const { issuing } = await import('../pki/family.ts')
      const ca = await issuing('CN=twin issuing,O=Example', twin, {
        ...life,
        notAfter: new Date(Date.now() + 86_400_000 * 600),
      })
      const { privateKeyPem } = await import('../../src/pki/keys.ts')
      desk.material.put('root.pem', twin.certificate.pem)
      desk.material.put('issuing.pem', ca.certificate.pem)
      desk.material.put('issuing.key', privateKeyPem(ca.key))
    }
    await expectRefusal(() => plan(), exit ?? 2, ...said)
  })

  test('a file that is not there', async () => {
    writeFileSync(desk.rotationFile, desk.text.replace('root.pem', 'no-such.pem'))
    await expectRefusal(() => plan(), 2, /no-such\.pem/, /ENOENT/)
  })

  test('an expired root in use: there is no overlap to keep (F15)', async () => {
    const dead = await oddCa('O=cluster.local', null, same => same, { notAfter: new Date(Date.now() - 1_000) })
    const { privateKeyPem } = await import('../../src/pki/keys.ts')
    desk.material.put('old.pem', dead.certificate.pem)
    desk.material.put('old.key', privateKeyPem(dead.key))
    await expectRefusal(() => plan(), 5, /root in use has expired/, /emergency/)
  })

  test('inspect refuses a truncated file and names it', async () => {
    const file = desk.material.put('cut.pem', desk.material.root.certificate.pem.slice(0, 200))
    await expectRefusal(() => called('inspect', '--file', file), 2, /cut\.pem:1/, /does not end/)
  })
})

describe('a rotation.yaml', () => {
  const bomb = [
    'a: &a [x, x, x, x, x, x, x, x, x]',
    ...'bcdefghi'
      .split('')
      .map((name, index) => `${name}: &${name} [${Array(9).fill(`*${'abcdefghi'[index]}`).join(', ')}]`),
  ].join('\n')
  const rows: Record<string, { readonly text: (text: string) => string; readonly said: readonly RegExp[] }> = {
    'that is a YAML bomb': { text: text => `${text}\n${bomb}\n`, said: [/rotation\.yaml:\d+:\d+/, /anchor|alias/i] },
    'with an anchor': {
      text: text => text.replace('strategy: graceful', 'strategy: &s graceful'),
      said: [/rotation\.yaml:\d+:\d+/, /anchor/i],
    },
    'with an alias': {
      text: text => text.replace('strategy: graceful', 'strategy: *s'),
      said: [/rotation\.yaml:\d+:\d+/, /alias|anchor/i],
    },
    'whose path leaves the repository': {
      text: text => text.replace('path: trust/eu-1', 'path: ../elsewhere'),
      said: [/rotation\.yaml:\d+:\d+/, /spec\.sites\[0\]\.path/],
    },
    'whose path is absolute': {
      text: text => text.replace('path: trust/eu-1', 'path: /etc/trust'),
      said: [/rotation\.yaml:\d+:\d+/, /spec\.sites\[0\]\.path/],
    },
    'whose base branch begins with a dash': {
      text: text => text.replace('base: main', 'base: --upload-pack=touch'),
      said: [/rotation\.yaml:\d+:\d+/, /spec\.base/, /dash/],
    },
    'with a misspelt field': {
      text: text => text.replace('strategy:', 'stratgy:'),
      said: [/rotation\.yaml:\d+:\d+/, /strategy/],
    },
    'with a private key in it': {
      text: text =>
        `${text}\nkey: |\n  ${readFileSync(join(desk.material.folder, 'old.key'), 'utf8').trim().replaceAll('\n', '\n  ')}\n`,
      said: [/rotation\.yaml:\d+/, /private key/],
    },
    'that is cut off': { text: text => `${text.slice(0, 400)}\n  sites: [`, said: [/rotation\.yaml:\d+/] },
    'that is nested too deeply': { text: text => `${text}\nx: ${'['.repeat(5_000)}`, said: [/rotation\.yaml:\d+/] },
    'for another name than its folder': {
      text: text => text.replace('name: mesh-2026', 'name: mesh-2027'),
      said: [/mesh-2027|mesh-2026/],
    },
  }

  test.each(Object.entries(rows))('%s', async (_name, { text, said }) => {
    const spoiled = text(desk.text)
    expect(spoiled).not.toBe(desk.text)
    writeFileSync(desk.rotationFile, spoiled)
    await expectRefusal(() => plan(), 2, ...said)
  })
})

describe('branches and revisions', () => {
  test('a base branch with a leading dash', async () => {
    await expectRefusal(
      () => called('plan', '--repo', desk.clone, '--base=--output=x', '--rotation', 'none'),
      2,
      /which rotation|no rotation|dash/,
    )
    await expectRefusal(() => called('next', '--repo', desk.clone, '--base=--output=x'), 2, /dash|branch/)
  })

  test('a revision with a leading dash', async () => {
    await expectRefusal(
      () => called('diff', '--repo', desk.clone, '--', '--output=x..main'),
      2,
      /range|revision|commit/,
    )
    await expectRefusal(
      () => called('check', '--repo', desk.clone, '--', '--output=x..main'),
      2,
      /range|revision|commit/,
    )
  })

  test('a base branch that is not there', async () => {
    await expectRefusal(() => called('status', '--repo', desk.clone, '--base', 'production'), 2, /production/)
  })

  test('a folder that is no repository', async () => {
    const nowhere = temporary()
    await expectRefusal(() => called('status', '--repo', nowhere), 2, /repository/)
    await expectRefusal(() => called('status', '--repo', join(nowhere, 'nothing')), 2, /nothing/)
  })
})

describe('uncommitted changes', () => {
  test('are never lost, and state is never read from the work tree', async () => {
    desk = await makeDesk()
    const edited = join(desk.clone, 'apps/eu-1/sleep.yaml')
    writeFileSync(edited, 'this: is [not YAML\n')
    writeFileSync(join(desk.clone, 'notes.txt'), 'mine\n')
    userGit(desk.clone, 'rm', '-q', '--cached', 'README.md')
    const before = { status: userGit(desk.clone, 'status', '--porcelain'), refs: refsOf(desk.clone)['refs/heads/main'] }
    const ended = await plan()
    expect(ended.stderr).toBe('')
    expect(ended.exit).toBe(0)
    expect(userGit(desk.clone, 'status', '--porcelain')).toBe(before.status)
    expect(refsOf(desk.clone)['refs/heads/main']).toBe(before.refs)
    expect(readFileSync(edited, 'utf8')).toBe('this: is [not YAML\n')
    const planned = 'refs/heads/reanchor/mesh-2026/plan'
    expect(
      userGit(desk.world.bare, 'diff', '--name-only', 'main', planned)
        .split('\n')
        .every(path => path.startsWith('rotations/mesh-2026/')),
    ).toBe(true)
    const merged = await called('pr', 'merge', '1', '--repo', desk.clone)
    expect(merged.exit).toBe(0)
    const status = await called('status', '--repo', desk.clone)
    // What the remote has is the state: the clone's own files and branch are not looked at, and not moved.
    expect(refsOf(desk.clone)['refs/heads/main']).toBe(before.refs)
    expect(userGit(desk.clone, 'status', '--porcelain')).toBe(before.status)
    expect([0, 3]).toContain(status.exit)
  })
})

describe('a remote', () => {
  test('that is missing', async () => {
    desk = await makeDesk()
    userGit(desk.clone, 'remote', 'remove', 'origin')
    await expectRefusal(() => plan(), 2, /no remote/, /git remote add origin/)
  })

  test('that cannot be reached', async () => {
    desk = await makeDesk()
    userGit(desk.clone, 'remote', 'set-url', 'origin', join(desk.world.folder, 'gone.git'))
    await expectRefusal(() => plan(), 2, /gone\.git|origin/)
  })

  test('that is away for the moment is waited for, not called wrong', async () => {
    desk = await makeDesk()
    // Nothing listens there.
    userGit(desk.clone, 'remote', 'set-url', 'origin', 'https://127.0.0.1:9/acme/fleet.git')
    await expectRefusal(() => plan(), 3, /127\.0\.0\.1|origin/, /git ls-remote origin/)
  })

  test('that would run a program', async () => {
    desk = await makeDesk()
    userGit(desk.clone, 'remote', 'set-url', 'origin', 'ext::sh -c touch% owned')
    await expectRefusal(() => plan(), 2, /origin|ext/)
  })
})

describe('a cluster', () => {
  async function fromCluster(kubeconfig: string): Promise<void> {
    const text = desk.text
      .replace(/ {2}current:\n(?: {4}.*\n)+/, '  current: {from: cluster}\n')
      .replace(/ {6}cluster:\n {8}context: eu-1\n/, `      cluster: {kubeconfig: ${JSON.stringify(kubeconfig)}}\n`)
    expect(text).toContain('kubeconfig')
    writeFileSync(desk.rotationFile, text)
  }

  test('that is not there', async () => {
    const api = await startFakeApi()
    const kubeconfig = desk.material.put('kubeconfig', readFileSync(api.kubeconfig, 'utf8'))
    await api.close()
    await fromCluster(kubeconfig)
    await expectRefusal(() => plan(), 4, /site eu-1, get /, /unreachable: connect ECONNREFUSED/, /kubeconfig/)
  })

  test('whose kubeconfig is not there', async () => {
    await fromCluster(join(desk.world.folder, 'no-kubeconfig'))
    await expectRefusal(() => plan(), 2, /no-kubeconfig/)
  })

  test('that answers 403', async () => {
    const api = await startFakeApi()
    try {
      api.objects.set('/secrets', [])
      api.forbidden.add('get /secrets')
      await fromCluster(api.kubeconfig)
      await expectRefusal(() => plan(), 4, /site eu-1/, /secrets/, /forbidden/, /role/)
    } finally {
      await api.close()
    }
  })

  test('that breaks its answer off', async () => {
    const api = await startFakeApi()
    try {
      api.objects.set('/secrets', [])
      api.breakOff = true
      await fromCluster(api.kubeconfig)
      await expectRefusal(() => plan(), 4, /site eu-1, get /)
    } finally {
      await api.close()
    }
  })

  test('that answers with a page instead of JSON', async () => {
    const api = await startFakeApi()
    try {
      api.objects.set('/secrets', [{ metadata: { name: 'cacerts', namespace: 'istio-system' } }])
      api.objects.set('apps/deployments', [{ metadata: { name: 'istiod', namespace: 'istio-system' } }])
      api.notJson = true
      await fromCluster(api.kubeconfig)
      await expectRefusal(() => plan(), 4, /site eu-1, get /)
    } finally {
      await api.close()
    }
  })
})

test('the built program says the same, with the exit code of the process', async () => {
  desk.material.put('root.pem', desk.material.root.certificate.pem.slice(0, 300))
  const before = state()
  const ended = await startProgram(['plan', '--repo', desk.clone])
  expect(ended.exit).toBe(2)
  expect(ended.stderr).toMatch(/root\.pem:1/)
  expect(ended.stdout).toBe('')
  const json = await startProgram(['plan', '--repo', desk.clone, '--output', 'json'])
  expect(json.exit).toBe(2)
  expect(JSON.parse(json.stdout)).toMatchObject({ command: 'plan', exit: 2, result: { error: { where: { line: 1 } } } })
  expect(state()).toEqual(before)
})
