import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface Keyring {
  /** What a program needs in its environment to use this keyring and no other. */
  readonly environment: Readonly<Record<string, string>>
  readonly fingerprint: string
  readonly close: () => void
}

/** A keyring of its own with one new key that has no passphrase. Its agent's socket must have a short path. */
export function newKeyring(name: string): Keyring {
  const home = mkdtempSync(join(tmpdir(), 'gpg-'))
  const environment = { GNUPGHOME: home }
  const gpg = (...args: readonly string[]) =>
    execFileSync('gpg', ['--batch', '--quiet', '--no-tty', ...args], {
      env: { ...process.env, ...environment },
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
  gpg('--passphrase', '', '--quick-generate-key', `${name} <${name}@example.com>`, 'default', 'default', 'never')
  const listed = gpg('--list-keys', '--with-colons')
  const fingerprint = /^fpr:::::::::([0-9A-F]+):/m.exec(listed)?.[1] ?? ''
  return {
    environment,
    fingerprint,
    close() {
      spawnSync('gpgconf', ['--kill', 'all'], { env: { ...process.env, ...environment } })
      rmSync(home, { recursive: true, force: true, maxRetries: 3 })
    },
  }
}
