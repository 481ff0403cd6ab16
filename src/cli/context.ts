import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Context } from '../commands/context.ts'
import { exitCodes, ReanchorError } from '../errors.ts'
import { gitLoginFor } from '../forge/hosted/token.ts'
import { openRepository, type Repository } from '../repository/repository.ts'
import type { Signer } from '../signature/sshsig.ts'
import type { Terminal } from './output.ts'

export interface ContextOptions {
  readonly repo: string
  readonly dryRun: boolean
  /** Commands that only read Git must not need a remote that answers. */
  readonly offline: boolean
  /** `--signing-key`: a file. */
  readonly signingKey?: string | undefined
}

/** The world as it is: this machine's clock, random generator, clusters and forges. Heavy parts load when they are used. */
export async function systemContext(options: ContextOptions, terminal: Terminal): Promise<Context> {
  const signer = await signerFor(options.signingKey)
  const repository = await openWithRemote(options.repo, options.offline)
  return {
    repository,
    ...(signer === null ? {} : { signer }),
    now: () => new Date(),
    sleep: milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds)),
    random: size => randomBytes(size),
    keys: {
      async generate(algorithm) {
        const { systemKeys } = await import('../pki/keys.ts')
        return await systemKeys.generate(algorithm)
      },
    },
    sops: {
      async encrypt(document, rule, encryptedRegex) {
        const { systemSops } = await import('../custody/sops-program.ts')
        return await systemSops(process.env).encrypt(document, rule, encryptedRegex)
      },
    },
    author: {
      name: process.env.GIT_AUTHOR_NAME ?? 'reanchor',
      email: process.env.GIT_AUTHOR_EMAIL ?? 'reanchor@users.noreply.invalid',
    },
    async openForge({ forge, base }) {
      const { openForge } = await import('../forge/open.ts')
      return await openForge(forge, repository, { now: () => new Date(), base, environment: process.env })
    },
    async openCluster(site) {
      const { openKubernetesCluster } = await import('../cluster/kubernetes.ts')
      return await openKubernetesCluster(site.cluster)
    },
    readFile,
    environment: environment(),
    progress: line => {
      if (terminal.progress) terminal.err(`… ${line}\n`)
    },
    dryRun: options.dryRun,
  }
}

/** A clone's state is its remote's branches; a bare repository's state is its own. */
async function openWithRemote(dir: string, offline: boolean): Promise<Repository> {
  const local = await openRepository(dir)
  if (local.bare) return local
  const remotes = await local.remotes()
  const remote = remotes.includes('origin') ? 'origin' : remotes[0]
  if (remote === undefined) {
    if (offline) return local
    throw new ReanchorError({
      what: 'the clone has no remote to open pull requests in',
      where: { file: local.gitDir },
      expected: 'a remote named origin',
      found: 'none',
      todo: 'add it: git remote add origin URL; to try things out, make a bare repository the remote and use the forge `local`',
      example: 'git init --bare ../fleet.git && git remote add origin ../fleet.git && git push origin HEAD',
    })
  }
  local.close()
  return await openRepository(dir, { remote, loginFor: url => gitLoginFor(url, process.env) })
}

function readFile(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    throw new ReanchorError({
      what: 'the file cannot be read',
      where: { file: path },
      expected: 'a file that this user may read',
      found: cause instanceof Error ? ((cause as NodeJS.ErrnoException).code ?? cause.message) : 'an error',
      todo: 'correct the path; it counts from the folder that the command runs in',
      exit: exitCodes.usage,
      cause,
    })
  }
}

/** `--signing-key FILE`, or REANCHOR_SIGNING_KEY as it is, or the content of REANCHOR_SIGNING_KEY_FILE; null: none was given. */
async function signerFor(file: string | undefined): Promise<Signer | null> {
  const { REANCHOR_SIGNING_KEY, REANCHOR_SIGNING_KEY_FILE, SSH_AUTH_SOCK } = process.env
  const path = file ?? (REANCHOR_SIGNING_KEY === undefined ? REANCHOR_SIGNING_KEY_FILE : undefined)
  if (path === undefined && REANCHOR_SIGNING_KEY === undefined) return null
  const { openSigner } = await import('../signature/signing-key.ts')
  const given =
    path === undefined
      ? { text: REANCHOR_SIGNING_KEY ?? '', from: 'REANCHOR_SIGNING_KEY' }
      : { text: readFile(path), from: path }
  return openSigner(given, SSH_AUTH_SOCK ?? null)
}

/** SOPS_AGE_KEY as it is, or the content of SOPS_AGE_KEY_FILE: as the sops program takes them. */
function environment(): Record<string, string | undefined> {
  const { SOPS_AGE_KEY, SOPS_AGE_KEY_FILE } = process.env
  if (SOPS_AGE_KEY !== undefined || SOPS_AGE_KEY_FILE === undefined) return { SOPS_AGE_KEY }
  return { SOPS_AGE_KEY: readFile(SOPS_AGE_KEY_FILE) }
}
