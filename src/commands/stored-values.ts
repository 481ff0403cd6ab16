import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  isRemoteReference,
  type RemoteValue,
  readRemoteReference,
  remoteFile,
  type StoredValue,
} from '../custody/remote-value.ts'
import { exitCodes, ReanchorError } from '../errors.ts'
import { clearUnfinished, writeOnce } from '../files/write-once.ts'
import type { Snapshot } from '../repository/repository.ts'
import type { WriteHook } from '../repository/write-hook.ts'
import type { CustodyChoice, Declaration, Plan } from '../rotation.ts'
import { sealedCopies, storePrefix } from './custodies.ts'

/** Private values on their way to a store outside of Git: `plan` writes them to files of their owner's, who puts them there. */

/** Writes each value to a file of its own that only this user reads. A file that holds the value already stays; any other is never overwritten. */
export async function writeStoredValues(
  folder: string,
  values: readonly StoredValue[],
  onWrite: WriteHook,
): Promise<readonly string[]> {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const written: string[] = []
  for (const stored of values) {
    const path = join(folder, remoteFile(stored))
    try {
      await writeOnce(path, stored.value, { mode: 0o600, onWrite, withoutLinks: 'refuse' })
      written.push(path)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'EEXIST') throw code === undefined ? error : cannotWrite(path, error)
      if (!readFileSync(path).equals(Buffer.from(stored.value))) throw otherValue(path)
      clearUnfinished(path)
    }
  }
  return written
}

/** Whether every value is in its file, as far as their digests tell. */
export function holdsStoredValues(folder: string, values: readonly RemoteValue[]): boolean {
  return values.every(remote => {
    const path = join(folder, remoteFile(remote))
    if (!existsSync(path)) return false
    return remote.sha256 === null || createHash('sha256').update(readFileSync(path)).digest('hex') === remote.sha256
  })
}

/** What a plan refers to and no earlier rotation brought, at the sites whose keys lie in a store. */
export async function referredValues(
  plan: Plan,
  declaration: Declaration,
  snapshot: Snapshot,
  site: string | null = null,
): Promise<readonly RemoteValue[]> {
  const { readExternalSecret } = await import('../custody/external-secrets.ts')
  const found = new Map<string, RemoteValue>()
  for (const { destination, yaml } of await sealedCopies(plan, snapshot)) {
    const owner = declaration.sites.find(each => destination.startsWith(`${each.path}/`))
    const choice = owner === undefined ? null : (owner.custody ?? declaration.custody)
    if (owner === undefined || choice?.kind !== 'externalSecrets') continue
    if (site !== null && owner.name !== site) continue
    const prefix = storePrefix(choice, declaration.name, owner.name)
    for (const reference of Object.values(readExternalSecret(yaml, destination).sealed)) {
      if (!isRemoteReference(reference)) continue
      const remote = readRemoteReference(reference)
      if (remote.key.startsWith(prefix)) found.set(remote.key, remote)
    }
  }
  return [...found.values()].sort((one, other) => (one.key < other.key ? -1 : 1))
}

/** What a person does with the files, before the adopt pull request is merged. The values are in no argument: the program reads the files. */
export function storeTexts(
  declaration: Declaration,
  folder: string,
  values: readonly RemoteValue[],
): readonly string[] {
  if (values.length === 0) return []
  const choices = [declaration.custody, ...declaration.sites.flatMap(({ custody }) => custody ?? [])]
  const mountOf = ({ key }: RemoteValue): string | null => {
    const own = choices.find(
      (choice): choice is Extract<CustodyChoice, { kind: 'externalSecrets' }> =>
        choice.kind === 'externalSecrets' && key.startsWith(choice.prefix),
    )
    return own?.vaultMount ?? null
  }
  return [
    'put these values into the store before the adopt pull request is merged, each once, and remove the files when External Secrets has synced them:',
    ...values.map(remote => {
      const file = shellWord(join(folder, remoteFile(remote)))
      const mount = mountOf(remote)
      return mount === null
        ? `the content of ${file}, byte for byte, as property \`${remote.property}\` of \`${remote.key}\``
        : `vault kv put -mount=${mount} ${remote.key} ${remote.property}=@${file}`
    }),
  ]
}

function shellWord(text: string): string {
  return /^[\w./~-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}

export function needsKeysOut(): ReanchorError {
  return new ReanchorError({
    what: 'the private keys that go to the store need a place outside of the repository',
    expected: '--keys-out FOLDER',
    found: 'no such option',
    todo: 'name a folder; each value is written there once, readable for you alone, and you put it into the store',
    example: 'reanchor plan --root-key-out ~/mesh-2026-root.key.age --keys-out ~/mesh-2026-keys',
  })
}

function otherValue(path: string): ReanchorError {
  return new ReanchorError({
    what: 'the file exists with another content, and is never overwritten',
    where: { file: path },
    expected: 'a name that is free, or the value that belongs there',
    found: 'another content (not shown)',
    todo: 'name another folder with --keys-out',
    exit: exitCodes.refused,
  })
}

function cannotWrite(path: string, cause: unknown): ReanchorError {
  return new ReanchorError({
    what: 'the file for a private key cannot be created',
    where: { file: path },
    expected: 'a folder that can be written, on a file system with hard links',
    found: (cause as NodeJS.ErrnoException).code ?? 'an error',
    todo: 'name another folder with --keys-out',
    cause,
  })
}
