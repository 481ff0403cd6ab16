import { spawnSync } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { run } from '../../src/cli/program.ts'
import { createRoot, privateKeyPem } from '../../src/pki/authority.ts'

const project = resolve(dirname(fileURLToPath(import.meta.url)), '../..')
const pages = [
  'README.md',
  'CONTRIBUTING.md',
  ...['docs', 'docs/decisions', 'examples'].flatMap(folder =>
    readdirSync(join(project, folder))
      .filter(name => name.endsWith('.md'))
      .map(name => `${folder}/${name}`),
  ),
]

interface Block {
  readonly page: string
  readonly line: number
  readonly marker: string
  readonly text: string
}

/** The blocks of commands of a page, each with the comment above it that says whether it is run. */
function blocksOf(page: string): readonly Block[] {
  const text = readFileSync(join(project, page), 'utf8')
  return [...text.matchAll(/(?:<!-- (.*?) -->\n)?```console\n([\s\S]*?)```\n/g)].map(found => ({
    page,
    line: text.slice(0, found.index).split('\n').length,
    marker: found[1] ?? '',
    text: found[2] ?? '',
  }))
}

interface Command {
  readonly command: string
  readonly shown: readonly string[]
}

function commandsOf(block: Block): readonly Command[] {
  const commands: { command: string; shown: string[] }[] = []
  for (const line of block.text.trimEnd().split('\n')) {
    const last = commands.at(-1)
    if (line.startsWith('$ ')) commands.push({ command: line.slice(2), shown: [] })
    else if (line.startsWith('> ') && last !== undefined && last.shown.length === 0)
      last.command += `\n${line.slice(2)}`
    else last?.shown.push(line)
  }
  return commands
}

/** What differs from run to run, or with the demo's fleet: fingerprints, dates, counts of handshakes and consumers, seconds. */
function stable(line: string): string {
  return line
    .replace(/\b[0-9a-f]{12,64}\b…?/g, 'HEX')
    .replace(/\d{4}-\d\d-\d\d(T[\d:]+Z)?/g, 'DATE')
    .replace(/\d+ handshakes attempted/g, 'N handshakes attempted')
    .replace(/\(\d+\)$/, '(N)')
    .replace(/\b(\d+) of \1\b/g, 'N of N')
    .replace(/[\d.]+ hours of the clusters' time, \d+ seconds/g, 'N hours, N seconds')
    .replace(/[‘’]/g, "'")
    .trimEnd()
}

/** The lines that are shown stand in the output in their order; `…` alone stands for lines, at an end for the rest of one. */
function expectShown(shown: readonly string[], output: string, where: string): void {
  const lines = output.split('\n').map(stable)
  let from = 0
  for (const wanted of shown) {
    if (wanted.trim() === '' || wanted.trim() === '…') continue
    const text = stable(wanted)
    const found = lines.findIndex(
      (line, index) =>
        index >= from && (text.endsWith('…') ? line.startsWith(text.slice(0, -1).trimEnd()) : line === text),
    )
    if (found < 0) expect.fail(`${where}: this line is shown, but not printed:\n${wanted}\n\nprinted:\n${output}`)
    from = found + 1
  }
}

const folder = mkdtempSync(join(tmpdir(), 'reanchor-docs-'))
const back = process.cwd()
const environment = {
  ...process.env,
  GIT_AUTHOR_NAME: 'Ada',
  GIT_AUTHOR_EMAIL: 'ada@example.com',
  GIT_COMMITTER_NAME: 'Ada',
  GIT_COMMITTER_EMAIL: 'ada@example.com',
  GIT_CONFIG_GLOBAL: '/dev/null',
  LC_ALL: 'C',
}
let demoOutput = ''

/** reanchor in this process, on its sources; everything else by the shell. */
async function execute(command: string, cwd: string): Promise<{ readonly exit: number; readonly output: string }> {
  const ours = /^(?:npx )?reanchor (.*)$/s.exec(command)
  if (ours === null) {
    const done = spawnSync('sh', ['-c', command], { cwd, env: environment, encoding: 'utf8' })
    return { exit: done.status ?? 1, output: `${done.stdout}${done.stderr}` }
  }
  if (/^demo istio --dir \.\.\/demo$/.test(ours[1] ?? '')) return { exit: 0, output: demoOutput }
  const words = spawnSync('sh', ['-c', `printf '%s\\0' ${ours[1]}`], { cwd, env: environment, encoding: 'utf8' })
    .stdout.split('\0')
    .slice(0, -1)
  return await reanchor(words, cwd)
}

async function reanchor(
  words: readonly string[],
  cwd: string,
): Promise<{ readonly exit: number; readonly output: string }> {
  let output = ''
  const take = (text: string) => {
    output += text
  }
  process.chdir(cwd)
  const exit = await run(words, { out: take, err: take, progress: false, interactive: false, color: false })
  return { exit, output }
}

/** Runs a page's blocks in their order, in one folder, as a reader would. */
async function follow(page: string): Promise<void> {
  const home = join(folder, page.replaceAll(/[^a-z]/gi, '-'))
  let cwd = join(home, 'project')
  mkdirSync(cwd, { recursive: true })
  spawnSync(
    'git',
    ['clone', '-q', '--bare', '--no-hardlinks', join(folder, 'demo/fleet.git'), join(home, 'demo/fleet.git')],
    { env: environment },
  )
  // The local forge keeps its pull requests in refs that a plain clone leaves behind.
  spawnSync('git', ['fetch', '-q', join(folder, 'demo/fleet.git'), '+refs/*:refs/*'], {
    cwd: join(home, 'demo/fleet.git'),
    env: environment,
  })
  await standInCa(join(home, 'project'))
  for (const block of blocksOf(page).filter(found => found.marker === 'run')) {
    let exit = 0
    const commands = commandsOf(block)
    for (const [index, { command, shown }] of commands.entries()) {
      const where = `${page}:${block.line}: ${command.split('\n')[0]}`
      if (command === 'echo $?') {
        expect(String(exit), where).toBe(shown[0])
        continue
      }
      if (command.startsWith('cd ')) {
        cwd = resolve(cwd, command.slice(3))
        continue
      }
      const done = await execute(command, cwd)
      exit = done.exit
      if (commands[index + 1]?.command !== 'echo $?') expect(exit, `${where}\n${done.output}`).toBe(0)
      expectShown(shown, done.output, where)
    }
  }
}

/** In place of the openssl call of the walk-through. */
async function standInCa(at: string): Promise<void> {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const now = Date.now()
  const root = await createRoot({
    subject: 'O=cluster.local',
    key: privateKey,
    notBefore: new Date(now - 3_600_000),
    notAfter: new Date(now + 3650 * 86_400_000),
    serial: '11',
  })
  writeFileSync(join(at, 'ca-cert.pem'), root.pem)
  writeFileSync(join(at, 'ca-key.pem'), privateKeyPem(privateKey))
}

describe('the commands of the documentation', () => {
  const saved = Object.fromEntries(
    ['GIT_AUTHOR_NAME', 'GIT_AUTHOR_EMAIL', 'GIT_CONFIG_GLOBAL'].map(name => [name, process.env[name]]),
  )

  beforeAll(async () => {
    Object.assign(process.env, {
      GIT_AUTHOR_NAME: 'Ada',
      GIT_AUTHOR_EMAIL: 'ada@example.com',
      GIT_CONFIG_GLOBAL: '/dev/null',
    })
    const done = await reanchor(['demo', 'istio', '--dir', join(folder, 'demo')], folder)
    expect(done.exit, done.output).toBe(0)
    demoOutput = done.output
  }, 300_000)

  afterAll(() => {
    process.chdir(back)
    for (const [name, value] of Object.entries(saved)) {
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
    }
    rmSync(folder, { recursive: true, force: true })
  })

  it('say of every block whether it is run', () => {
    const unsaid = pages.flatMap(blocksOf).filter(block => !/^(run$|not run: .|output of: )/.test(block.marker))
    expect(unsaid.map(block => `${block.page}:${block.line}`)).toEqual([])
  })

  it('show what the demo prints', () => {
    for (const block of pages.flatMap(blocksOf).filter(found => found.marker === 'output of: npm run demo')) {
      expectShown(block.text.trimEnd().split('\n'), demoOutput, `${block.page}:${block.line}`)
    }
  })

  it.each(pages.filter(page => blocksOf(page).some(block => block.marker === 'run')))(
    'do what %s shows',
    async page => await follow(page),
    120_000,
  )

  it('name only files that exist', () => {
    const missing = pages.flatMap(page =>
      [...readFileSync(join(project, page), 'utf8').matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)]
        .map(found => join(dirname(page), found[1] ?? ''))
        .filter(path => spawnSync('test', ['-e', join(project, path)]).status !== 0)
        .map(path => `${page}: ${path}`),
    )
    expect(missing).toEqual([])
  })
})
