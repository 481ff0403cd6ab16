import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const source = fileURLToPath(new URL('./template', import.meta.url))

/** The engine of External Secrets by itself, of the version in template/go.mod: built once for each content of that folder. */
export function templateProgram(): string {
  const hash = createHash('sha256')
  for (const file of ['go.mod', 'go.sum', 'main.go']) hash.update(readFileSync(join(source, file)))
  const { REANCHOR_CI_CACHE, XDG_CACHE_HOME } = process.env
  const cache = REANCHOR_CI_CACHE || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'reanchor-ci')
  const folder = join(cache, `external-secrets-template-${hash.digest('hex').slice(0, 16)}`)
  const built = join(folder, 'render')
  if (existsSync(built)) return built
  mkdirSync(folder, { recursive: true })
  const partial = `${built}.${process.pid}`
  const env = { ...process.env, CGO_ENABLED: '0', GOFLAGS: '-mod=readonly -buildvcs=false -trimpath' }
  execFileSync('go', ['build', '-o', partial, '.'], { cwd: source, env, stdio: ['ignore', 'ignore', 'inherit'] })
  renameSync(partial, built)
  return built
}

export interface Rendered {
  readonly data: Readonly<Record<string, string>>
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
}

/** What becomes of spec.target.template with values that were fetched; or what the engine says. */
export function rendered(
  program: string,
  template: unknown,
  data: Readonly<Record<string, string>>,
): { readonly secret: Rendered | null; readonly said: string } {
  const { status, stdout, stderr } = spawnSync(program, { input: JSON.stringify({ template, data }), encoding: 'utf8' })
  return { secret: status === 0 ? (JSON.parse(stdout) as Rendered) : null, said: stderr }
}
