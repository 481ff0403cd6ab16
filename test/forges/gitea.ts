import { cp, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { moduleFolder, output, program } from '../real/rig/components.ts'
import type { CertificateFiles } from '../real/rig/self-signed.ts'
import { freePort, type Server, startServer, until } from '../real/rig/server.ts'

export interface Gitea {
  /** https://127.0.0.1:PORT */
  readonly url: string
  /** Of an administrator, for all scopes. */
  readonly adminToken: string
  /** Where it listens itself: the port of `url`, unless something stands in front of it. */
  readonly port: number
  /** Makes a user and a token of it with these scopes, such as `write:repository`. */
  user(name: string, scopes: readonly string[]): Promise<string>
  /** Ends it at once, as where its machine is taken away. */
  kill(): Promise<void>
  /** Starts it again, on what is in its folder. */
  start(): Promise<void>
  close(): Promise<void>
}

/**
 * A Gitea of its own in `folder`, with its database and its repositories, served over TLS.
 *
 * @param front Port by which everybody reaches it. @default its own
 */
export async function startGitea(folder: string, certificate: CertificateFiles, front?: number): Promise<Gitea> {
  const binary = await program('gitea')
  const port = await freePort()
  const url = `https://127.0.0.1:${front ?? port}`
  const statics = join(folder, 'static')
  await mkdir(statics, { recursive: true })
  // It is built without its files in it.
  const module = await moduleFolder('gitea', 'code.gitea.io/gitea')
  for (const part of ['templates', 'options', 'public'])
    await cp(join(module, part), join(statics, part), { recursive: true })
  await output('chmod', ['-R', 'u+w', statics])
  const config = join(folder, 'app.ini')
  await writeFile(config, settings({ folder, statics, port, url, certificate }))
  const env = { PATH: process.env.PATH, HOME: folder, USER: process.env.USER ?? 'root', GITEA_WORK_DIR: folder }
  const gitea = (...args: string[]): Promise<string> =>
    output(binary, [...args, '--config', config], { cwd: folder, env })
  await gitea('migrate')

  async function user(name: string, scopes: readonly string[], ...more: readonly string[]): Promise<string> {
    const said = await gitea(
      ...['admin', 'user', 'create', '--username', name, '--email', `${name}@example.com`, '--random-password'],
      ...['--must-change-password=false', '--access-token', '--access-token-scopes', scopes.join(','), ...more],
    )
    const token = /Access token was successfully created(?:\.\.\.|:)? *([0-9a-f]{40})/.exec(said)?.[1]
    if (token === undefined) throw new Error(`gitea gave no token: ${said}`)
    return token
  }

  const adminToken = await user('root-admin', ['all'], '--admin')
  async function begin(): Promise<Server> {
    const started = startServer('gitea', [binary, 'web', '--config', config], {
      log: join(folder, 'gitea.log'),
      cwd: folder,
      env,
    })
    const version = ['-s', '--cacert', certificate.cert, `https://127.0.0.1:${port}/api/v1/version`]
    await until(
      'Gitea answers',
      async () => (await output('curl', version)).includes('version'),
      // A machine that has just built it reads a hundred megabytes from disk.
      180_000,
    )
    return started
  }

  let server = await begin()
  return {
    url,
    adminToken,
    port,
    user,
    kill: () => server.kill(),
    async start() {
      if (!server.running()) server = await begin()
    },
    close: () => server.stop(),
  }
}

function settings(options: {
  readonly folder: string
  readonly statics: string
  readonly port: number
  readonly url: string
  readonly certificate: CertificateFiles
}): string {
  const { folder, statics, port, url, certificate } = options
  return `APP_NAME = forge
RUN_USER = ${process.env.USER ?? 'root'}
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true
[server]
PROTOCOL = https
HTTP_ADDR = 127.0.0.1
HTTP_PORT = ${port}
ROOT_URL = ${url}/
CERT_FILE = ${certificate.cert}
KEY_FILE = ${certificate.key}
STATIC_ROOT_PATH = ${statics}
DISABLE_SSH = true
OFFLINE_MODE = true
[database]
DB_TYPE = sqlite3
PATH = ${join(folder, 'gitea.db')}
[repository]
ROOT = ${join(folder, 'repositories')}
DEFAULT_BRANCH = main
[security]
INSTALL_LOCK = true
[service]
DISABLE_REGISTRATION = true
[actions]
ENABLED = false
[log]
LEVEL = warn
[cron.update_checker]
ENABLED = false
`
}
