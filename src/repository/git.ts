/**
 * The one place that runs git.
 *
 * Subcommands come from an allow-list, arguments from fixed templates in this folder, and the environment is our own:
 * what the caller's shell happens to hold (GIT_DIR, GIT_INDEX_FILE, a pager, hooks) never changes what is read or written.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { devNull } from 'node:os'
import { exitCodes, ReanchorError } from '../errors.ts'

export type Subcommand =
  | 'cat-file'
  | 'check-ref-format'
  | 'fast-import'
  | 'for-each-ref'
  | 'hash-object'
  | 'log'
  | 'merge-base'
  | 'merge-tree'
  | 'remote'
  | 'rev-list'
  | 'rev-parse'
  | 'status'
  | 'update-ref'

const allowed: ReadonlySet<string> = new Set<Subcommand>([
  'cat-file',
  'check-ref-format',
  'fast-import',
  'for-each-ref',
  'hash-object',
  'log',
  'merge-base',
  'merge-tree',
  'remote',
  'rev-list',
  'rev-parse',
  'status',
  'update-ref',
])

/** Where git runs. `gitDir` null: git looks for the repository from `cwd` upwards. */
export interface GitPlace {
  readonly cwd: string
  readonly gitDir: string | null
  readonly workTree?: string | null
}

export interface GitRun {
  readonly stdin?: string | Buffer
  /** Exit codes that are answers rather than failures; 0 always is. */
  readonly answers?: readonly number[]
}

export interface GitAnswer {
  readonly code: number
  readonly stdout: Buffer
  readonly stderr: string
}

/** What git and ssh need of the caller's environment to find configuration, credentials, proxies and temp space. */
const inherited = [
  'PATH',
  'HOME',
  'USER',
  'LOGNAME',
  'XDG_CONFIG_HOME',
  'XDG_RUNTIME_DIR',
  'SSH_AUTH_SOCK',
  'SSL_CERT_FILE',
  'SSL_CERT_DIR',
  'HTTPS_PROXY',
  'https_proxy',
  'ALL_PROXY',
  'all_proxy',
  'NO_PROXY',
  'no_proxy',
  'TMPDIR',
  'TEMP',
  'TMP',
  'SystemRoot',
  'USERPROFILE',
  'APPDATA',
  'GIT_CONFIG_GLOBAL',
  'GIT_CONFIG_SYSTEM',
  'GIT_CONFIG_NOSYSTEM',
  'GIT_CEILING_DIRECTORIES',
]

/** What only a remote needs: how the user told git to reach and to trust it. */
const inheritedForRemotes = [
  'GIT_SSH',
  'GIT_SSH_COMMAND',
  'GIT_ASKPASS',
  'SSH_ASKPASS',
  'GIT_SSL_CAINFO',
  // Where action/askpass.sh, which is such a program, finds what it answers.
  'REANCHOR_GIT_CREDENTIALS',
]

function gitEnvironment(use: 'plumbing' | 'remote'): Record<string, string> {
  const environment: Record<string, string> = {
    LC_ALL: 'C',
    LANGUAGE: 'C',
    GIT_TERMINAL_PROMPT: '0',
    // Content is read as it was committed: `git replace` must not stand between.
    GIT_NO_REPLACE_OBJECTS: '1',
    GIT_OPTIONAL_LOCKS: '0',
    GIT_LITERAL_PATHSPECS: '1',
    // gitremote-helpers(7): `ext::` and `fd::` run what the URL says; insteadOf rules may bring them in by the back door.
    GIT_ALLOW_PROTOCOL: 'https:ssh:file',
  }
  const names = use === 'remote' ? [...inherited, ...inheritedForRemotes] : inherited
  for (const name of names) {
    const value = process.env[name]
    if (value !== undefined) environment[name] = value
  }
  return environment
}

/**
 * Settings that plumbing must not take from the user's configuration. The reference-transaction hook and fsmonitor run
 * programs; a lock held by another process is waited for, because two runners at once are a normal case.
 */
const settings = [
  `core.hooksPath=${devNull}`,
  'core.fsmonitor=false',
  'core.filesRefLockTimeout=1000',
  'core.packedRefsTimeout=1000',
  'core.quotePath=false',
  'log.showSignature=false',
  'merge.renames=true',
  'merge.directoryRenames=conflict',
]

function argv(place: GitPlace, subcommand: Subcommand, args: readonly string[]): string[] {
  if (!allowed.has(subcommand)) throw new Error(`git ${subcommand} is not on the list of subcommands`)
  if (args.some(arg => arg.includes('\0'))) throw new Error(`an argument of git ${subcommand} holds a NUL`)
  return [
    '--no-pager',
    ...(place.gitDir === null ? [] : [`--git-dir=${place.gitDir}`]),
    ...(place.workTree === undefined || place.workTree === null ? [] : [`--work-tree=${place.workTree}`]),
    ...settings.flatMap(setting => ['-c', setting]),
    subcommand,
    ...args,
  ]
}

/** Runs one git process to its end. Throws ReanchorError unless it exits with 0 or one of `answers`. */
export async function git(
  place: GitPlace,
  subcommand: Subcommand,
  args: readonly string[],
  run: GitRun = {},
): Promise<GitAnswer> {
  const answer = await spawned(place, subcommand, args, run)
  if (answer.code === 0 || run.answers?.includes(answer.code)) return answer
  throw gitFailure(place, subcommand, answer.stderr)
}

function spawned(place: GitPlace, subcommand: Subcommand, args: readonly string[], run: GitRun): Promise<GitAnswer> {
  return new Promise((resolve, reject) => {
    const child = spawn('git', argv(place, subcommand, args), {
      cwd: place.cwd,
      env: gitEnvironment('plumbing'),
      stdio: 'pipe',
      windowsHide: true,
    })
    const stdout: Buffer[] = []
    const stderr: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk))
    child.on('error', cause => reject(cannotStart(place, cause)))
    child.on('close', (code, signal) =>
      resolve({
        code: code ?? 128,
        stdout: Buffer.concat(stdout),
        stderr: Buffer.concat(stderr).toString('utf8') + (signal === null ? '' : `ended by ${signal}\n`),
      }),
    )
    // A process that ends early closes its side: its exit code says more than EPIPE.
    child.stdin.on('error', () => undefined)
    child.stdin.end(run.stdin ?? '')
  })
}

function cannotStart(place: GitPlace, cause: Error): ReanchorError {
  const code = (cause as NodeJS.ErrnoException).code
  // spawn reports ENOENT for a missing program and for a missing working directory alike; the folder is checked before.
  if (code === 'ENOENT') {
    return new ReanchorError({
      what: 'git is not installed, or not on the PATH',
      expected: 'the program git, 2.38 or newer',
      found: 'no such program',
      todo: 'install git and run the command again',
      cause,
    })
  }
  return new ReanchorError({
    what: 'git cannot be started',
    where: { file: place.cwd },
    found: cause.message,
    exit: exitCodes.internal,
    cause,
  })
}

/** The first lines of what git says, without credentials that a URL may carry. */
export function gitSays(stderr: string): string {
  return redactUrls(stderr)
    .split('\n')
    .map(line => line.trim())
    .filter(line => line !== '' && !line.startsWith('hint:'))
    .slice(0, 4)
    .join('; ')
}

/** `https://user:secret@host/` → `https://***@host/`. */
function redactUrls(text: string): string {
  return text.replace(/([a-z][a-z0-9+.-]*:\/\/)[^/\s@]+@/gi, '$1***@')
}

function gitFailure(place: GitPlace, subcommand: string, stderr: string): ReanchorError {
  const where = { file: place.gitDir ?? place.cwd }
  const lock = /Unable to create '([^']+\.lock)'/.exec(stderr)?.[1]
  if (lock !== undefined) {
    return new ReanchorError({
      what: 'another git process holds the repository',
      where,
      found: `the lock ${lock}`,
      todo: `wait for it to end; if none runs (one may have been killed), remove ${lock} and run the command again`,
    })
  }
  if (/not a git repository/i.test(stderr)) return notARepository(where.file)
  if (/dubious ownership/i.test(stderr)) {
    return new ReanchorError({
      what: 'git does not trust this repository: it belongs to another user',
      where,
      found: gitSays(stderr),
      todo: `run: git config --global --add safe.directory ${where.file}`,
    })
  }
  return new ReanchorError({
    what: `git ${subcommand} failed`,
    where,
    found: gitSays(stderr) || 'no message',
    exit: exitCodes.internal,
  })
}

export function notARepository(dir: string): ReanchorError {
  return new ReanchorError({
    what: 'not a Git repository',
    where: { file: dir },
    expected: 'a bare repository, a clone, or a folder inside one',
    found: 'no repository here or in a folder above',
    todo: 'run the command inside the GitOps repository, or name it with --repo',
    example: '--repo ../fleet',
  })
}

// -------------------------------------------------------------------------------------------------- object reader

export interface GitObject {
  readonly id: string
  readonly type: string
  readonly content: Buffer
}

export interface ObjectReader {
  /** The object that a revision names, or null where there is none. Throws ReanchorError for one of more than 64 MiB. */
  read(revision: string): Promise<GitObject | null>
  close(): void
}

/** No file of a rotation comes near; a stray disk image in a site's folder must not fill the memory. */
const largestObject = 64 * 1024 * 1024

interface Waiting {
  readonly revision: string
  readonly resolve: (object: GitObject | null) => void
  readonly reject: (error: Error) => void
}

/**
 * One `git cat-file --batch` for all reads, started at the first: it answers revisions and objects alike, sees refs that
 * move meanwhile, and ends by itself with this process (its standard input closes). Requests may overlap.
 */
export function openObjectReader(place: GitPlace): ObjectReader {
  let child: ChildProcessWithoutNullStreams | null = null
  let waiting: Waiting[] = []
  let said = ''
  let chunks: Buffer[] = []
  let buffered = 0
  let header: { readonly id: string; readonly type: string; readonly size: number } | null = null
  let skipped = 0

  function start(): ChildProcessWithoutNullStreams {
    const started = spawn('git', argv(place, 'cat-file', ['--batch']), {
      cwd: place.cwd,
      env: gitEnvironment('plumbing'),
      stdio: 'pipe',
      windowsHide: true,
    })
    said = ''
    started.stdout.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      buffered += chunk.length
      consume()
    })
    started.stderr.on('data', (chunk: Buffer) => {
      said += chunk.toString('utf8')
    })
    started.stdin.on('error', () => undefined)
    started.on('error', cause => ended(started, cannotStart(place, cause)))
    started.on('close', () => ended(started, gitFailure(place, 'cat-file', said)))
    return started
  }

  function ended(which: ChildProcessWithoutNullStreams, error: Error): void {
    if (child !== which) return
    const left = waiting
    child = null
    waiting = []
    chunks = []
    buffered = 0
    header = null
    skipped = 0
    for (const one of left) one.reject(error)
  }

  function joined(): Buffer {
    const all = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)
    chunks = [all]
    return all
  }

  function drop(count: number): void {
    const rest = joined().subarray(count)
    chunks = rest.length === 0 ? [] : [rest]
    buffered = rest.length
  }

  function consume(): void {
    while (waiting.length > 0 && buffered > 0) {
      if (header === null) {
        const all = joined()
        const end = all.indexOf(10)
        if (end < 0) return
        const line = all.toString('utf8', 0, end)
        drop(end + 1)
        const found = /^([0-9a-f]{40,64}) (\w+) (\d+)$/.exec(line)
        if (found === null) {
          // "<name> missing", "<name> ambiguous"
          answer(one => one.resolve(null))
          continue
        }
        header = { id: found[1] as string, type: found[2] as string, size: Number(found[3]) }
        skipped = 0
      }
      const { id, type, size } = header
      if (size > largestObject) {
        const take = Math.min(buffered, size + 1 - skipped)
        drop(take)
        skipped += take
        if (skipped < size + 1) return
        header = null
        answer(one => one.reject(tooLarge(place, one.revision, size)))
        continue
      }
      // Chunks are joined once, when the whole object is here: joining at every chunk would be quadratic.
      if (buffered < size + 1) return
      const content = Buffer.from(joined().subarray(0, size))
      drop(size + 1)
      header = null
      answer(one => one.resolve({ id, type, content }))
    }
  }

  function answer(give: (one: Waiting) => void): void {
    const one = waiting.shift()
    if (waiting.length === 0) rest(child, false)
    if (one !== undefined) give(one)
  }

  return {
    read(revision) {
      if (/[\n\r\0]/.test(revision) || revision === '') return Promise.resolve(null)
      child ??= start()
      const running = child
      rest(running, true)
      return new Promise((resolve, reject) => {
        waiting.push({ revision, resolve, reject })
        running.stdin.write(`${revision}\n`)
      })
    },
    close() {
      child?.stdin.end()
    },
  }
}

/** Bytes that a reader keeps of objects that were read by their id, and the largest one that it keeps. */
const keptBytes = 32 * 1024 * 1024
const largestKept = 1024 * 1024

/** Remembers objects that were read by their id, which names their content: a loop reads the same plan, folders and files again and again. */
export function keepingReader(reader: ObjectReader, digits: number): ObjectReader {
  const byId = new RegExp(`^[0-9a-f]{${digits}}(\\^\\{commit\\})?$`)
  let kept = new Map<string, Promise<GitObject | null>>()
  let bytes = 0
  return {
    read(revision) {
      if (!byId.test(revision)) return reader.read(revision)
      const known = kept.get(revision)
      if (known !== undefined) return known
      const reading = reader.read(revision)
      const into = kept
      into.set(revision, reading)
      const forget = (): void => void into.delete(revision)
      reading.then(object => {
        // What is not there may be fetched.
        if (object === null || object.content.length > largestKept) return forget()
        if (into !== kept) return
        bytes += object.content.length
        if (bytes <= keptBytes) return
        kept = new Map()
        bytes = 0
      }, forget)
      return reading
    },
    close: () => reader.close(),
  }
}

/** An idle reader must not keep the command from ending. */
function rest(child: ChildProcessWithoutNullStreams | null, busy: boolean): void {
  if (child === null) return
  const handles = [child, child.stdin, child.stdout, child.stderr] as unknown as { ref?(): void; unref?(): void }[]
  for (const handle of handles) busy ? handle.ref?.() : handle.unref?.()
}

function tooLarge(place: GitPlace, revision: string, size: number): ReanchorError {
  return new ReanchorError({
    what: 'a file in Git is too large to be read',
    where: { file: place.gitDir ?? place.cwd, object: revision },
    expected: `at most ${largestObject} bytes`,
    found: `${size} bytes`,
    todo: 'remove the file from the folders that reanchor reads',
  })
}

// ------------------------------------------------------------------------------------------------------ porcelain

export type Porcelain = 'init' | 'clone' | 'fetch' | 'push' | 'ls-remote'

export interface PorcelainAnswer {
  readonly ok: boolean
  readonly output: string
}

/** What git is to log in with at one host, should it be asked to. */
export interface Credential {
  /** `https://host[:port]` */
  readonly origin: string
  readonly username: string
  readonly password: string
}

/** The shell of git runs it with the word `get`; the password is in the environment of git alone, never in an argument or a URL. */
const credentialHelper =
  '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" "$REANCHOR_GIT_USERNAME" "$REANCHOR_GIT_PASSWORD"; }; f'

/**
 * gitcredentials(7): the empty helper takes back those that are configured. Git would tell every one of them what let it in, and one that stores would
 * write the token to a file.
 */
function credentialEnvironment(credential: Credential | null): Record<string, string> {
  if (credential === null) return {}
  return {
    GIT_CONFIG_COUNT: '2',
    GIT_CONFIG_KEY_0: `credential.${credential.origin}.helper`,
    GIT_CONFIG_VALUE_0: '',
    GIT_CONFIG_KEY_1: `credential.${credential.origin}.helper`,
    GIT_CONFIG_VALUE_1: credentialHelper,
    REANCHOR_GIT_USERNAME: credential.username,
    REANCHOR_GIT_PASSWORD: credential.password,
  }
}

/** Runs a command that talks to a remote, through simple-git. A failure is an answer: what git said, without credentials. */
export async function remoteGit(
  /** The top of the work tree, or the bare repository: a remote's relative path is taken from there. */
  cwd: string,
  subcommand: Porcelain,
  args: readonly string[],
  credential: Credential | null = null,
): Promise<PorcelainAnswer> {
  const { simpleGit } = await import('simple-git')
  const environment = { ...gitEnvironment('remote'), ...credentialEnvironment(credential) }
  const client = simpleGit({
    baseDir: cwd,
    allowEnvironment: Object.keys(environment),
    // These values are the user's own environment or constants above; none comes from a repository or a declaration.
    unsafe: {
      allowUnsafeHooksPath: true,
      allowUnsafeSshCommand: true,
      allowUnsafeAskPass: true,
      allowUnsafeConfigPaths: true,
      allowUnsafeConfigEnvCount: true,
      allowUnsafeCredentialHelper: true,
    },
    config: [`core.hooksPath=${devNull}`],
    timeout: { block: 120_000 },
  }).env(environment)
  try {
    return { ok: true, output: await client.raw([subcommand, ...args]) }
  } catch (error) {
    return { ok: false, output: redactUrls(error instanceof Error ? error.message : String(error)) }
  }
}
