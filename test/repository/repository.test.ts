import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { ReanchorError } from '../../src/errors.ts'
import { cloneRepository, openRepository } from '../../src/repository/repository.ts'
import {
  at,
  author,
  bareRepository,
  branchWith,
  cloneOf,
  commitOn,
  opened,
  temporaryFolder,
  userGit,
} from './temporary.ts'

async function refusal(run: Promise<unknown>): Promise<ReanchorError> {
  const error = await run.then(
    () => null,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(ReanchorError)
  return error as ReanchorError
}

describe('opening', () => {
  test('opens a bare repository, a clone, a folder inside a clone, and a linked work tree', async () => {
    const bare = await bareRepository()
    const clone = cloneOf(bare)
    mkdirSync(join(clone, 'apps', 'shop'), { recursive: true })
    userGit(clone, 'worktree', 'add', '-q', '-b', 'side', join(clone, '..', 'side'))
    expect(await opened(bare)).toMatchObject({ bare: true, workTree: null })
    expect(await opened(clone)).toMatchObject({ bare: false, workTree: clone })
    expect(await opened(join(clone, 'apps', 'shop'))).toMatchObject({ bare: false, workTree: clone })
    const side = await opened(join(clone, '..', 'side'))
    expect(await side.head('main')).toBe(userGit(bare, 'rev-parse', 'main'))
  })

  test('says what is missing: a folder, a repository, git itself', async () => {
    const dir = temporaryFolder()
    expect((await refusal(openRepository(join(dir, 'none')))).what).toBe('there is no such folder')
    const none = await refusal(openRepository(dir))
    expect(none).toMatchObject({ what: 'not a Git repository', exit: 2 })
    expect(none.where.file).toBe(dir)
    const path = process.env.PATH
    onTestFinished(() => {
      process.env.PATH = path
    })
    process.env.PATH = dir
    expect((await refusal(openRepository(dir))).what).toBe('git is not installed, or not on the PATH')
  })

  test('is not led astray by GIT_ variables of the shell', async () => {
    const [one, other] = [await bareRepository({ a: 'one' }), await bareRepository({ a: 'other' })]
    const before = { dir: process.env.GIT_DIR, index: process.env.GIT_INDEX_FILE }
    onTestFinished(() => {
      if (before.dir === undefined) delete process.env.GIT_DIR
      if (before.index === undefined) delete process.env.GIT_INDEX_FILE
    })
    process.env.GIT_DIR = other
    process.env.GIT_INDEX_FILE = join(other, 'nowhere')
    const repository = await opened(one)
    expect(await repository.snapshot(await repository.head('main')).read('a')).toBe('one')
  })

  test('names the base branch that is missing, and the ones that are there', async () => {
    const repository = await opened(await bareRepository())
    const error = await refusal(repository.head('trunk'))
    expect(error).toMatchObject({ what: 'there is no base branch trunk', found: 'main', exit: 2 })
  })

  test('names the remote that is missing, and the branch that was never fetched', async () => {
    const clone = cloneOf(await bareRepository())
    const noRemote = await refusal((await opened(clone, { remote: 'upstream' })).head('main'))
    expect(noRemote).toMatchObject({ what: 'there is no remote upstream', found: 'the remotes origin' })
    const noBranch = await refusal((await opened(clone, { remote: 'origin' })).head('trunk'))
    expect(noBranch.what).toBe('the base branch trunk of the remote origin is not in this clone')
    await refusal(openRepository(clone, { remote: '--upload-pack=x' }))
  })
})

describe('reading', () => {
  test('reads files, folders and lists of any commit; null where there is none', async () => {
    const repository = await opened(await bareRepository({ 'a/b/c.txt': 'c\n', 'a/d e.txt': 'ü\n', z: '' }))
    const snapshot = repository.snapshot(await repository.head('main'))
    expect([...(await snapshot.list()).keys()]).toEqual(['a/b/c.txt', 'a/d e.txt', 'z'])
    expect([...(await snapshot.list('a/b/')).keys()]).toEqual(['a/b/c.txt'])
    expect(await snapshot.list('a/b/c.txt')).toEqual(new Map())
    expect(await snapshot.read('a/d e.txt')).toBe('ü\n')
    expect(await snapshot.read('z')).toBe('')
    expect(await snapshot.read('a')).toBeNull()
    expect(await snapshot.read('a/b/c.txt/d')).toBeNull()
    expect(await snapshot.readMany(['z', 'none', 'a/b/c.txt'])).toEqual(
      new Map([
        ['z', ''],
        ['a/b/c.txt', 'c\n'],
      ]),
    )
    expect(await snapshot.readFolder('a')).toEqual(
      new Map([
        ['b/c.txt', 'c\n'],
        ['d e.txt', 'ü\n'],
      ]),
    )
  })

  test('keeps bytes and modes of what is no text: links, executables, binaries', async () => {
    const clone = cloneOf(await bareRepository())
    mkdirSync(join(clone, 'site'))
    writeFileSync(join(clone, 'site', 'binary'), Buffer.from([0, 255, 10, 13, 10]))
    writeFileSync(join(clone, 'site', 'run.sh'), '#!/bin/sh\r\n')
    chmodSync(join(clone, 'site', 'run.sh'), 0o755)
    symlinkSync('../README.md', join(clone, 'site', 'link'))
    userGit(clone, 'add', '.')
    userGit(clone, 'commit', '-q', '-m', 'odd')
    const repository = await opened(clone)
    const folder = await repository.snapshot(await repository.head('main')).readFolderBytes('site')
    expect([...folder].map(([path, file]) => [path, file.mode, Buffer.from(file.bytes).toString('hex')])).toEqual([
      ['binary', '100644', '00ff0a0d0a'],
      ['link', '120000', Buffer.from('../README.md').toString('hex')],
      ['run.sh', '100755', Buffer.from('#!/bin/sh\r\n').toString('hex')],
    ])
    expect(await repository.snapshot('main').read('site/link')).toBeNull()
  })

  test('sees refs that move while the reader runs, and reads many objects at once', async () => {
    const bare = await bareRepository()
    const repository = await opened(bare)
    const start = await repository.head('main')
    const files = Object.fromEntries(Array.from({ length: 400 }, (_, i) => [`f/${i}`, `${i}`.repeat(i * 40)]))
    const other = await opened(bare)
    const next = await commitOn(other, start, files)
    await other.publish([{ ref: 'refs/heads/main', from: start, to: next }])
    expect(await repository.head('main')).toBe(next)
    const read = await repository.snapshot(next).readFolder('f')
    expect(read.size).toBe(400)
    for (const [name, text] of read) expect(text).toBe(files[`f/${name}`])
  })

  test('an unknown revision is null to resolve and a located error to a reader', async () => {
    const repository = await opened(await bareRepository())
    expect(await repository.resolve('refs/heads/none')).toBeNull()
    expect(await repository.resolve('--help')).toBeNull()
    expect(await repository.resolve('a\nHEAD')).toBeNull()
    expect((await refusal(repository.snapshot('f'.repeat(40)).read('a'))).what).toBe('no such commit')
  })

  test('opening, finding the base and reading many folders takes two git processes', async () => {
    const bare = await bareRepository(
      Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`trust/${i}/a`, `${i}`])),
    )
    const dir = temporaryFolder()
    const real = (process.env.PATH ?? '')
      .split(':')
      .map(folder => join(folder, 'git'))
      .find(existsSync)
    writeFileSync(join(dir, 'git'), `#!/bin/sh\necho x >> '${dir}/count'\nexec '${real}' "$@"\n`, { mode: 0o755 })
    const path = process.env.PATH
    onTestFinished(() => {
      process.env.PATH = path
    })
    process.env.PATH = `${dir}:${path}`
    const repository = await opened(bare)
    const snapshot = repository.snapshot(await repository.head('main'))
    for (const name of (await snapshot.list('trust')).keys()) await snapshot.readFolderBytes(name.replace('/a', ''))
    await repository.changedPaths(null, 'main')
    expect(readFileSync(join(dir, 'count'), 'utf8').trim().split('\n')).toHaveLength(2)
  })

  test('an idle reader lets the program end, a busy one does not', async () => {
    const repository = await opened(await bareRepository())
    const busy = (): number => process.getActiveResourcesInfo().filter(name => name === 'ProcessWrap').length
    // Processes that have just ended count until they are reaped.
    await vi.waitFor(() => expect(busy()).toBe(0))
    const reading = repository.head('main')
    expect(busy()).toBe(1)
    await reading
    await vi.waitFor(() => expect(busy()).toBe(0))
  })
})

describe('committing', () => {
  test('writes nested files, keeps modes, removes, and gives an equal id for equal input', async () => {
    const bare = await bareRepository({ 'old.txt': 'old', 'keep.txt': 'keep' })
    const repository = await opened(bare)
    const parent = await repository.head('main')
    const draft = {
      parent,
      changes: new Map([
        ['trust/eu-1/a "b".yaml', 'x: 1\n'],
        ['old.txt', null],
        ['-dash/ü.txt', '\n'],
      ]),
      message: 'mesh-2026: adopt\n\nbody',
      trailers: { 'Reanchor-Rotation': 'mesh-2026', 'Reanchor-Phase': '0-adopt' },
      author,
      at,
    }
    const commit = await repository.commit(draft)
    expect(await repository.commit(draft)).toBe(commit)
    expect(await (await opened(await bareRepository({ 'old.txt': 'old', 'keep.txt': 'keep' }))).commit(draft)).toBe(
      commit,
    )
    expect(
      userGit(bare, '-c', 'core.quotePath=false', 'ls-tree', '-r', '-z', '--name-only', commit).split('\0'),
    ).toEqual(['-dash/ü.txt', 'keep.txt', 'trust/eu-1/a "b".yaml', ''])
    expect(userGit(bare, 'log', '-1', '--format=%an <%ae> %aI|%cn|%B', commit)).toBe(
      'reanchor <reanchor@example.com> 2026-11-22T10:00:00Z|reanchor|mesh-2026: adopt\n\nbody\n\nReanchor-Rotation: mesh-2026\nReanchor-Phase: 0-adopt'.replace(
        '10:00:00Z',
        '10:00:00+00:00',
      ),
    )
    expect((await repository.commitFacts(commit)).trailers).toEqual(draft.trailers)
    expect(userGit(bare, 'fsck', '--strict', '--no-dangling')).toBe('')
    expect(userGit(bare, 'for-each-ref', '--format=%(refname)')).toBe('refs/heads/main')
  })

  test('writes nothing where nothing changes (F4)', async () => {
    const writes: string[] = []
    const bare = await bareRepository({ 'a.txt': 'a\n' })
    const repository = await opened(bare, { onWrite: what => void writes.push(what) })
    const parent = await repository.head('main')
    expect(await commitOn(repository, parent, { 'a.txt': 'a\n', 'none.txt': null })).toBe(parent)
    expect(writes).toEqual([])
  })

  test('keeps the executable bit of a file that it rewrites', async () => {
    const clone = cloneOf(await bareRepository())
    writeFileSync(join(clone, 'run.sh'), 'one\n', { mode: 0o755 })
    userGit(clone, 'add', '.')
    userGit(clone, 'commit', '-q', '-m', 'script')
    const repository = await opened(clone)
    const commit = await commitOn(repository, await repository.head('main'), { 'run.sh': 'two\n' })
    expect((await repository.snapshot(commit).list()).get('run.sh')?.mode).toBe('100755')
  })

  test('leaves index and work tree of a clone alone, edits included', async () => {
    const clone = cloneOf(await bareRepository({ 'a.txt': 'a\n' }))
    writeFileSync(join(clone, 'a.txt'), 'edited\n')
    writeFileSync(join(clone, 'new.txt'), 'new\n')
    userGit(clone, 'add', 'new.txt')
    const index = readFileSync(join(clone, '.git', 'index'))
    const repository = await opened(clone)
    await branchWith(repository, 'reanchor/x/0-adopt-1-adopt', await repository.head('main'), { 'a.txt': 'ours\n' })
    expect(readFileSync(join(clone, '.git', 'index'))).toEqual(index)
    expect(readFileSync(join(clone, 'a.txt'), 'utf8')).toBe('edited\n')
    expect(userGit(clone, 'status', '--porcelain')).toBe('M a.txt\nA  new.txt'.replace(/^/, ' '))
  })

  test.each([
    ['../x', 'the segment ..'],
    ['a/../../x', 'the segment ..'],
    ['/etc/passwd', 'an absolute path'],
    ['C:/x', 'an absolute path'],
    ['a\\..\\x', 'a backslash'],
    ['a\0b', 'a control character'],
    ['a\nb', 'a control character'],
    ['.git/hooks/post-merge', "Git's own folder"],
    ['a/.GIT/config', "Git's own folder"],
    ['.git./config', "Git's own folder"],
    ['git~1/config', "Git's own folder"],
    ['.g\u200cit/config', "Git's own folder"],
    ['.git::$INDEX_ALLOCATION/config', "Git's own folder"],
    ['a//b', 'an empty folder name'],
    ['a/', 'an empty folder name'],
    ['./a', 'the segment .'],
    ['', 'an empty path'],
    ['a\ud800b', 'text that is not Unicode'],
  ])('refuses the path %j, which leaves the repository or enters Git', async (path, why) => {
    const bare = await bareRepository()
    const repository = await opened(bare)
    const error = await refusal(commitOn(repository, await repository.head('main'), { 'ok.txt': 'x', [path]: 'x' }))
    expect(error.found).toContain(why)
    expect(error.exit).toBe(2)
    await refusal(repository.snapshot('main').read(path))
    expect(userGit(bare, 'count-objects')).toContain('3 objects')
  })

  test('refuses to write through a link, over a folder, or below a file', async () => {
    const clone = cloneOf(await bareRepository({ file: 'x', 'folder/a': 'a' }))
    symlinkSync('folder', join(clone, 'link'))
    userGit(clone, 'add', '.')
    userGit(clone, 'commit', '-q', '-m', 'link')
    const repository = await opened(clone)
    const parent = await repository.head('main')
    for (const path of ['link/a', 'link', 'folder', 'file/below']) {
      expect((await refusal(commitOn(repository, parent, { [path]: 'y' }))).what).toBe('this file cannot be written')
    }
    await refusal(commitOn(repository, parent, { 'new': 'x', 'new/below': 'y' }))
    const replaced = await commitOn(repository, parent, { file: null, 'file/below': 'y' })
    expect(await repository.snapshot(replaced).read('file/below')).toBe('y')
  })

  test('what is written is what is read, whatever the names and bytes', async () => {
    const repository = await opened(await bareRepository())
    const parent = await repository.head('main')
    const name = fc
      .stringMatching(/^[a-zA-Z0-9 "'$;&|<>ü-][a-zA-Z0-9 ."'$;&|<>ü-]{0,8}$/)
      .filter(part => !part.startsWith('git~'))
    const file = fc.tuple(
      fc.array(name, { minLength: 1, maxLength: 3 }).map(parts => `p/${parts.join('/')}`),
      fc.string({ unit: 'grapheme' }),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(file, { minLength: 1, maxLength: 6 }), async files => {
        const wanted = new Map(files)
        const paths = [...wanted.keys()]
        fc.pre(!paths.some(path => paths.some(other => other.startsWith(`${path}/`))))
        const commit = await repository.commit({ parent, changes: wanted, message: 'm', trailers: {}, author, at })
        const read = await repository.snapshot(commit).readFolder('p')
        expect(new Map([...read].map(([path, text]) => [`p/${path}`, text]).sort() as [string, string][])).toEqual(
          new Map([...wanted].sort()),
        )
        expect(new Set((await repository.changedPaths(parent, commit)).keys())).toEqual(new Set(paths))
      }),
      { numRuns: 25 },
    )
  })
})

describe('publishing', () => {
  test('creates once: the second of two who create the same branch is told who was first', async () => {
    const bare = await bareRepository()
    const [one, other] = [await opened(bare), await opened(bare)]
    const base = await one.head('main')
    const [mine, theirs] = [await commitOn(one, base, { a: 'mine' }), await commitOn(other, base, { a: 'theirs' })]
    const ref = 'refs/heads/reanchor/m/1-x'
    const results = await Promise.all([
      one.publish([{ ref, from: null, to: mine }]),
      other.publish([{ ref, from: null, to: theirs }]),
    ])
    const won = await one.readRef(ref)
    expect(results.filter(result => result.ok)).toHaveLength(1)
    expect(results.find(result => !result.ok)).toEqual({ ok: false, ref, expected: null, found: won })
    expect(await one.publish([{ ref, from: null, to: won }])).toEqual({ ok: true })
  })

  test('moves all refs or none', async () => {
    const repository = await opened(await bareRepository())
    const base = await repository.head('main')
    const next = await commitOn(repository, base, { a: 'a' })
    const lost = await repository.publish([
      { ref: 'refs/heads/reanchor/a', from: null, to: next },
      { ref: 'refs/heads/main', from: next, to: next },
    ])
    expect(lost).toEqual({ ok: false, ref: 'refs/heads/main', expected: next, found: base })
    expect(await repository.branch('reanchor/a')).toBeNull()
  })

  test('never moves the base branch back, nor removes it (F25)', async () => {
    const repository = await opened(await bareRepository())
    const base = await repository.head('main')
    const next = await commitOn(repository, base, { a: 'a' })
    expect(await repository.publish([{ ref: 'refs/heads/main', from: base, to: next }])).toEqual({ ok: true })
    for (const to of [base, null]) {
      expect((await refusal(repository.publish([{ ref: 'refs/heads/main', from: next, to }]))).exit).toBe(5)
    }
    expect(await repository.head('main')).toBe(next)
  })

  test.each([
    '-x',
    'a/-b',
    'a..b',
    'a b',
    'a~1',
    'x.lock',
    'a//b',
    '.a',
    'a.',
    '@',
    'HEAD',
    'refs/heads/a',
    'a@{1}',
    'a\nb',
    '',
  ])('refuses the branch name %j', async name => {
    const repository = await opened(await bareRepository())
    expect((await refusal(repository.branch(name))).what).toBe('this is not a usable branch name')
    const base = await repository.head('main')
    if (!name.startsWith('refs/')) await refusal(repository.publish([{ ref: name, from: null, to: base }]))
  })

  test('refuses to move a branch under a work tree', async () => {
    const clone = cloneOf(await bareRepository())
    const repository = await opened(clone)
    const base = await repository.head('main')
    const next = await commitOn(repository, base, { a: 'a' })
    const error = await refusal(repository.publish([{ ref: 'refs/heads/main', from: base, to: next }]))
    expect(error.what).toContain('checked out')
    expect(userGit(clone, 'status', '--porcelain')).toBe('')
  })

  test('runs no hook of the repository', async () => {
    const bare = await bareRepository()
    for (const hook of ['reference-transaction', 'update', 'post-commit']) {
      writeFileSync(join(bare, 'hooks', hook), '#!/bin/sh\ntouch "$(dirname "$0")/../ran"\nexit 1\n', { mode: 0o755 })
    }
    const repository = await opened(bare)
    await branchWith(repository, 'reanchor/a', await repository.head('main'), { a: 'a' })
    expect(existsSync(join(bare, 'ran'))).toBe(false)
  })

  test('a lock that a killed process left is named, with what to do', async () => {
    const bare = await bareRepository()
    const repository = await opened(bare)
    const base = await repository.head('main')
    const next = await commitOn(repository, base, { a: 'a' })
    mkdirSync(join(bare, 'refs', 'heads', 'reanchor'))
    writeFileSync(join(bare, 'refs', 'heads', 'reanchor', 'a.lock'), '')
    const error = await refusal(repository.publish([{ ref: 'refs/heads/reanchor/a', from: null, to: next }]))
    expect(error.what).toBe('another git process holds the repository')
    expect(error.todo).toContain('a.lock')
  })
})

describe('with a remote', () => {
  test('pushes with a lease, creates only, and reads what was fetched', async () => {
    const bare = await bareRepository()
    const [mine, theirs] = [
      await opened(cloneOf(bare), { remote: 'origin' }),
      await opened(cloneOf(bare), { remote: 'origin' }),
    ]
    const base = await mine.head('main')
    const ref = 'refs/heads/reanchor/m/1-x'
    const first = await branchWith(mine, 'reanchor/m/1-x', base, { a: 'mine' })
    expect(userGit(bare, 'rev-parse', ref)).toBe(first)
    expect(await mine.branch('reanchor/m/1-x')).toBe(first)
    const second = await commitOn(theirs, base, { a: 'theirs' })
    expect(await theirs.publish([{ ref, from: null, to: second }])).toEqual({
      ok: false,
      ref,
      expected: null,
      found: first,
    })
    expect(await theirs.branch('reanchor/m/1-x')).toBeNull()
    await theirs.fetch()
    expect([...(await theirs.branches('reanchor/m/'))]).toEqual([['reanchor/m/1-x', first]])
    expect(await theirs.publish([{ ref, from: first, to: second }])).toEqual({ ok: true })
    expect(await mine.publish([{ ref, from: first, to: base }])).toMatchObject({ ok: false, found: second })
    expect(await theirs.publish([{ ref, from: second, to: null }])).toEqual({ ok: true })
    expect(await theirs.branch('reanchor/m/1-x')).toBeNull()
    await mine.fetch()
    expect(await mine.branch('reanchor/m/1-x')).toBeNull()
  })

  test('one lost lease keeps every ref of the push back', async () => {
    const bare = await bareRepository()
    const repository = await opened(cloneOf(bare), { remote: 'origin' })
    const base = await repository.head('main')
    const next = await commitOn(repository, base, { a: 'a' })
    const result = await repository.publish([
      { ref: 'refs/heads/reanchor/new', from: null, to: next },
      { ref: 'refs/heads/reanchor/gone', from: base, to: next },
    ])
    expect(result).toEqual({ ok: false, ref: 'refs/heads/reanchor/gone', expected: base, found: null })
    expect(userGit(bare, 'for-each-ref', '--format=%(refname)')).toBe('refs/heads/main')
  })

  test('a ref that is only held keeps the push back where it moved, and pushes nothing by itself', async () => {
    const bare = await bareRepository()
    const repository = await opened(cloneOf(bare), { remote: 'origin' })
    const base = await repository.head('main')
    const next = await commitOn(repository, base, { a: 'a' })
    const held = (at: string) => ({ ref: 'refs/heads/main', from: at, to: at })
    expect(await repository.publish([held(base)])).toEqual({ ok: true })
    const lost = await repository.publish([{ ref: 'refs/heads/reanchor/a', from: null, to: next }, held(next)])
    expect(lost).toEqual({ ok: false, ref: 'refs/heads/main', expected: next, found: base })
    expect(userGit(bare, 'for-each-ref', '--format=%(refname)')).toBe('refs/heads/main')
  })

  test('works from a bare clone, which has no fetch refspec of its own', async () => {
    const bare = await bareRepository()
    const dir = join(temporaryFolder(), 'mirror.git')
    await cloneRepository(bare, dir, { bare: true })
    const repository = await opened(dir, { remote: 'origin' })
    await repository.fetch()
    const commit = await branchWith(repository, 'reanchor/a', await repository.head('main'), { a: 'a' })
    expect(await repository.branch('reanchor/a')).toBe(commit)
  })

  test.each([
    'ext::sh -c "touch pwned"',
    'fd::7',
    'http://example.com/x.git',
    'git://example.com/x',
    '-u',
    'ssh://-oProxyCommand=x/y',
    '-oProxyCommand=x:y',
  ])('never talks to %j', async url => {
    const clone = cloneOf(await bareRepository())
    userGit(clone, 'config', 'remote.origin.url', url)
    const repository = await opened(clone, { remote: 'origin' })
    expect((await refusal(repository.fetch())).what).toBe('reanchor does not use this remote')
    const base = await repository.head('main')
    await refusal(repository.publish([{ ref: 'refs/heads/reanchor/a', from: null, to: base }]))
  })

  test('never talks to a helper that a rewriting rule brings in', async () => {
    const clone = cloneOf(await bareRepository())
    userGit(clone, 'config', 'remote.origin.url', 'fleet:x')
    userGit(clone, 'config', 'url.ext::sh -c exit%s .insteadOf', 'fleet:')
    const repository = await opened(clone, { remote: 'origin' })
    await refusal(repository.fetch())
  })

  test('a remote that is gone is an error with what to do, without the credentials of its URL', async () => {
    const clone = cloneOf(await bareRepository())
    userGit(clone, 'config', 'remote.origin.url', 'https://ada:s3cret@127.0.0.1:1/x.git')
    const repository = await opened(clone, { remote: 'origin' })
    const error = await refusal(repository.fetch())
    expect(error.what).toBe('the remote cannot be fetched')
    expect(error.message).not.toContain('s3cret')
    expect(error.todo).toContain('git ls-remote origin')
  })
})

describe('killed between writes (F2)', () => {
  test.each([{}, { remote: 'origin' }])(
    'commit and publish, killed before or after any write, end the same with %j',
    async options => {
      const bare = await bareRepository()
      const dir = options.remote === undefined ? bare : cloneOf(bare)
      async function act(stop: number): Promise<number> {
        let writes = 0
        const repository = await opened(dir, {
          ...options,
          onWrite: () => {
            writes += 1
            if (writes === stop) throw new Error('killed')
          },
        })
        await branchWith(repository, 'reanchor/a', await repository.head('main'), { a: 'a' }).catch((error: Error) => {
          if (error.message !== 'killed') throw error
        })
        return writes
      }
      const ends = new Set<string>()
      for (let stop = 1; ; stop += 1) {
        const writes = await act(stop)
        const between = userGit(bare, 'for-each-ref', '--format=%(refname) %(objectname)')
        expect(between.split('\n').length).toBeLessThanOrEqual(2)
        await act(0)
        ends.add(userGit(bare, 'for-each-ref', '--format=%(refname) %(objectname)'))
        if (writes < stop) break
        userGit(bare, 'update-ref', '-d', 'refs/heads/reanchor/a')
        if (dir !== bare) userGit(dir, 'fetch', '-q', '--prune')
        expect(stop).toBeLessThan(20)
      }
      expect(ends.size).toBe(1)
    },
  )
})

describe('history', () => {
  test('tells ancestors, merge bases, what changed, and who touched a path', async () => {
    const repository = await opened(await bareRepository({ 'a/x': '1', 'b/x': '1' }))
    const start = await repository.head('main')
    const one = await commitOn(repository, start, { 'a/x': '2' }, 'one')
    const two = await commitOn(repository, one, { 'b/x': null, 'c/y': '1' }, 'two')
    const side = await commitOn(repository, one, { d: '1' }, 'side')
    expect(await repository.isAncestor(start, two)).toBe(true)
    expect(await repository.isAncestor(two, start)).toBe(false)
    expect(await repository.mergeBase(two, side)).toBe(one)
    expect(await repository.changedPaths(start, two)).toEqual(
      new Map([
        ['a/x', 'changed'],
        ['b/x', 'removed'],
        ['c/y', 'added'],
      ]),
    )
    expect((await repository.log(two, { paths: ['a'] })).map(commit => commit.message)).toEqual(['one\n', 'start\n'])
    expect((await repository.log(two, { since: start })).map(commit => commit.id)).toEqual([two, one])
    expect((await repository.log(two, { limit: 1 })).map(commit => commit.id)).toEqual([two])
    expect(await repository.containedBy(two, one)).toBe(one)
    expect(await repository.containedBy(two, side)).toBeNull()
  })

  test('what it keeps of the past does not hide what another process adds', async () => {
    const folder = await bareRepository({ 'a/x': '1' })
    const [repository, other] = [await opened(folder), await opened(folder)]
    const start = await repository.head('main')
    const read = async () => ({
      newest: (await repository.log('main', { paths: ['a'], limit: 1 }))[0]?.id,
      behind: await repository.isAncestor('main', start),
      text: await repository.snapshot(await repository.head('main')).read('a/x'),
    })
    expect(await read()).toEqual({ newest: start, behind: true, text: '1' })
    const next = await commitOn(other, start, { 'a/x': '2' }, 'next')
    expect(await repository.isAncestor(start, next)).toBe(true)
    await other.publish([{ ref: 'refs/heads/main', from: start, to: next }])
    expect(await read()).toEqual({ newest: next, behind: false, text: '2' })
  })

  test('a folder in the place of a file is one removed and one added', async () => {
    const repository = await opened(await bareRepository({ a: '1' }))
    const start = await repository.head('main')
    const next = await commitOn(repository, start, { a: null, 'a/b': '1' })
    expect(await repository.changedPaths(start, next)).toEqual(
      new Map([
        ['a', 'removed'],
        ['a/b', 'added'],
      ]),
    )
    expect(await repository.changedPaths(null, start)).toEqual(new Map([['a', 'added']]))
  })
})

describe('uncommitted changes', () => {
  test('are named, kept, and refused where they matter', async () => {
    const clone = cloneOf(await bareRepository({ 'rotations/m/rotation.yaml': 'a: 1\n', 'apps/x': '1' }))
    const repository = await opened(clone)
    expect(await repository.workTreeState()).toEqual([])
    writeFileSync(join(clone, 'rotations', 'm', 'rotation.yaml'), 'a: 2\n')
    writeFileSync(join(clone, 'rotations', 'm', 'new file'), '')
    expect(await repository.workTreeState(['rotations'])).toEqual([
      { path: 'rotations/m/rotation.yaml', what: 'changed' },
      { path: 'rotations/m/new file', what: 'untracked' },
    ])
    await repository.requireClean(['apps'])
    const error = await refusal(repository.requireClean(['rotations/m']))
    expect(error).toMatchObject({ exit: 2 })
    expect(error.where.file).toBe(join(clone, 'rotations/m/rotation.yaml'))
    expect(error.found).toContain('rotations/m/new file (untracked)')
    expect(readFileSync(join(clone, 'rotations', 'm', 'rotation.yaml'), 'utf8')).toBe('a: 2\n')
    expect(await (await opened(await bareRepository())).workTreeState()).toEqual([])
  })
})
