import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readFile, symlink, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { delimiter, join } from 'node:path'
import { moduleFolder, output, program } from './components.ts'
import type { ControlPlane } from './control-plane.ts'
import { applyKinds } from './kinds.ts'
import type { Manifest } from './objects.ts'
import type { FleetRepository } from './repository.ts'
import { freePort, logEnd, type Server, until } from './server.ts'

/** The real Argo CD of a cluster: repository server, application controller and their cache, without its API server and its pages. */
export interface ArgoCd {
  readonly namespace: string
  readonly controller: Server
  readonly repoServer: Server
  /** Lets it read a repository that is guarded: with a repository's credentials, and a certificate that it trusts, as its settings have them. */
  reads(repository: Pick<FleetRepository, 'url' | 'reader'>): Promise<void>
  /** What `kubectl annotate … argocd.argoproj.io/refresh=…` does: compare now, with the newest commit; `hard` renders anew as well. */
  refresh(application: string, how?: 'normal' | 'hard'): Promise<void>
  application(name: string): Promise<Manifest | null>
  /** Waits until the application is as asked, and returns it. Throws with its status, and the end of the controller's log. */
  settled(
    name: string,
    is: (application: Application) => boolean,
    what: string,
    patience?: number,
  ): Promise<Application>
  stop(): Promise<void>
}

/** What a test asks of an Application. */
export interface Application {
  readonly object: Manifest
  /** `Synced`, `OutOfSync`, `Unknown`. */
  readonly sync: string
  readonly health: string
  /** Commits compared with: one per source. */
  readonly revisions: readonly string[]
  /** Of the operation that runs or ran last. */
  readonly phase: string
  readonly operationRevisions: readonly string[]
  readonly message: string
}

export interface ArgoCdOptions {
  /** Seconds between two comparisons without an event; Argo CD's own default is 120, and up to 60 more. @default 3 */
  readonly resync?: number
  /** @default 0 */
  readonly resyncJitter?: number
  /** Seconds for which the repository server keeps what a branch points to; Argo CD's own default is 180. @default 1 */
  readonly branchCache?: number
  /** Seconds for which it keeps to itself that a repository cannot be read or built; Argo CD's own default is 180. @default 2 */
  readonly errorGrace?: number
  /** Keys of ConfigMap argocd-cm, beside those that Argo CD is installed with. */
  readonly settings?: Readonly<Record<string, string>>
  /** KSOPS in the repository server's path, and the age identity that it opens with: what its README has one mount there ("Argo CD Integration"). */
  readonly ksops?: { readonly program: string; readonly identity: string }
}

/** Kustomize runs no generator that is a program unless it is told to (KSOPS, README). */
const withPlugins = { 'kustomize.buildOptions': '--enable-alpha-plugins --enable-exec' }

const namespace = 'argocd'
const group = 'argoproj.io/v1alpha1'
const partOf = { 'app.kubernetes.io/part-of': 'argocd' }

/**
 * Starts it with its kinds, its ConfigMaps as they are installed, and the project `default`. It works in the namespace `argocd`, may do everything,
 * and reads repositories by file path, or as `reads` lets it.
 */
export async function startArgoCd(plane: ControlPlane, options: ArgoCdOptions = {}): Promise<ArgoCd> {
  const { objects } = plane
  const module = await moduleFolder('argocd', 'github.com/argoproj/argo-cd/v3')
  const { ksops, settings = {} } = options
  await installObjects(plane, module, ksops === undefined ? settings : { ...withPlugins, ...settings })
  const folder = await mkdtemp(join(plane.folder, 'argo-'))
  const bin = join(folder, 'bin')
  await makePrograms(bin, module)
  if (ksops !== undefined) await symlink(ksops.program, join(bin, 'ksops'))
  for (const part of ['tls', 'ssh', 'gpg', 'tmp', 'home']) await mkdir(join(folder, part))
  const kubeconfig = join(folder, 'kubeconfig')
  await writeFile(kubeconfig, await inNamespace(plane), { mode: 0o600 })

  // The controller listens on every address: a network namespace of its own keeps ports, and others, apart. The repository server has to reach
  // a forge of this machine, and stays outside.
  const place = await plane.network.addNamespace({ [hostname()]: '127.0.0.1' })
  const { address } = plane.network
  const [cachePort, repoPort, repoMetrics] = await Promise.all([0, 0, 0].map(() => freePort(address)))
  const env: NodeJS.ProcessEnv = {
    PATH: `${bin}${delimiter}${process.env.PATH ?? ''}`,
    HOME: join(folder, 'home'),
    TMPDIR: join(folder, 'tmp'),
    ARGOCD_TLS_DATA_PATH: join(folder, 'tls'),
    ARGOCD_SSH_DATA_PATH: join(folder, 'ssh'),
    ARGOCD_GNUPGHOME: join(folder, 'gpg'),
    ARGOCD_GPG_ENABLED: 'false',
    // A pod has /tmp for itself.
    ARGOCD_ASK_PASS_SOCK: join(folder, 'ask'),
    // Else Git asks for the address of the machine's name, to make up who writes a reflog, and without an answer it waits for ten seconds.
    EMAIL: 'argocd@example.com',
    // The cluster it runs in is `https://kubernetes.default.svc`, though its credentials come from a kubeconfig.
    ARGOCD_FAKE_IN_CLUSTER: 'true',
    KUBECONFIG: kubeconfig,
  }
  const opens = ksops === undefined ? {} : { SOPS_AGE_KEY: ksops.identity }
  const run = (name: string, ...command: [string, ...string[]]): Server =>
    plane.run(name, command, { env: name === 'argocd-repo-server' ? { ...env, ...opens } : env, cwd: folder })
  const inPlace = ['ip', 'netns', 'exec', place.name] as const
  const cache = `${address}:${cachePort}`
  const redis = run(
    'redis',
    await redisServer(),
    '--bind',
    address,
    '--port',
    `${cachePort}`,
    '--protected-mode',
    'no',
    '--save',
    '',
    '--appendonly',
    'no',
    '--dir',
    folder,
  )
  const repoServer = run(
    'argocd-repo-server',
    join(bin, 'argocd-repo-server'),
    `--address=${address}`,
    `--port=${repoPort}`,
    `--metrics-address=${address}`,
    `--metrics-port=${repoMetrics}`,
    `--redis=${cache}`,
    '--disable-tls',
    '--client-ca-path=',
    `--revision-cache-expiration=${options.branchCache ?? 1}s`,
    '--logformat=text',
  )
  const controller = run(
    'argocd-application-controller',
    ...inPlace,
    join(bin, 'argocd-application-controller'),
    `--kubeconfig=${kubeconfig}`,
    `--namespace=${namespace}`,
    `--redis=${cache}`,
    `--repo-server=${address}:${repoPort}`,
    '--repo-server-plaintext',
    `--app-resync=${options.resync ?? 3}`,
    `--app-resync-jitter=${options.resyncJitter ?? 0}`,
    `--repo-error-grace-period-seconds=${options.errorGrace ?? 2}`,
    '--logformat=text',
  )
  const health = async (...curl: [string, ...string[]]): Promise<boolean> => {
    const [command, ...args] = curl
    await output(command, args)
    return true
  }
  try {
    await until('the repository server answers', () =>
      health('curl', '-sf', `http://${address}:${repoMetrics}/healthz`),
    )
    await until(
      'the application controller answers',
      () => health(...inPlace, 'curl', '-sf', 'http://127.0.0.1:8082/healthz'),
      60_000,
    )
  } catch (cause) {
    throw new Error(`${String(cause)}\n${await logEnd(repoServer)}\n${await logEnd(controller)}`)
  }

  const at = (name: string) => ({ apiVersion: group, kind: 'Application', namespace, name })
  const application = (name: string): Promise<Manifest | null> => objects.get(at(name))
  return {
    namespace,
    controller,
    repoServer,
    application,
    async reads({ url, reader }) {
      if (reader === undefined) return
      const { username, token, certificate } = await reader()
      const server = new URL(url).hostname
      const name = 'argocd-tls-certs-cm'
      const config = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace, labels: partOf } }
      await objects.apply({ ...config, data: { [server]: certificate } })
      // A kubelet mounts it there.
      await writeFile(join(folder, 'tls', server), certificate)
      await objects.apply({
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name: 'fleet', namespace, labels: { 'argocd.argoproj.io/secret-type': 'repository' } },
        stringData: { type: 'git', url, username, password: token },
      })
    },
    refresh: (name, how = 'normal') =>
      objects.merge(at(name), { metadata: { annotations: { 'argocd.argoproj.io/refresh': how } } }),
    async settled(name, is, what, patience = 60_000) {
      let last: Application | null = null
      try {
        return await until(
          `Application ${name} ${what}`,
          async () => {
            const object = await application(name)
            last = object === null ? null : shown(object)
            return last !== null && is(last) ? last : null
          },
          patience,
        )
      } catch (cause) {
        throw new Error(
          `${String(cause)}\n${JSON.stringify(last === null ? null : (last as Application).object.status)}\n${await logEnd(controller)}`,
        )
      }
    },
    async stop() {
      await Promise.all([controller, repoServer, redis].map(server => server.stop()))
      await place.close()
    },
  }
}

interface Status {
  readonly sync?: { readonly status?: string; readonly revision?: string; readonly revisions?: readonly string[] }
  readonly health?: { readonly status?: string }
  readonly operationState?: {
    readonly phase?: string
    readonly message?: string
    readonly syncResult?: { readonly revision?: string; readonly revisions?: readonly string[] }
  }
}

function shown(object: Manifest): Application {
  const status = (object.status ?? {}) as Status
  const { sync, operationState } = status
  const revisionsOf = (from: { revision?: string; revisions?: readonly string[] } | undefined): readonly string[] =>
    from?.revisions ?? (from?.revision === undefined || from.revision === '' ? [] : [from.revision])
  return {
    object,
    sync: sync?.status ?? '',
    health: status.health?.status ?? '',
    revisions: revisionsOf(sync),
    phase: operationState?.phase ?? '',
    operationRevisions: revisionsOf(operationState?.syncResult),
    message: operationState?.message ?? '',
  }
}

/** Which program it is, one binary decides by the name it is called by. The rest it looks for in PATH. */
async function makePrograms(bin: string, module: string): Promise<void> {
  await mkdir(bin)
  const argocd = await program('argocd')
  for (const name of ['argocd', 'argocd-application-controller', 'argocd-repo-server']) {
    await symlink(argocd, join(bin, name))
  }
  await symlink(await program('helm'), join(bin, 'helm'))
  await symlink(await program('kustomize'), join(bin, 'kustomize'))
  // The module's files are not executable.
  for (const name of ['git-verify-wrapper.sh', 'gpg-wrapper.sh']) {
    const script = join(bin, name)
    await writeFile(script, `#!/bin/sh\nexec sh '${join(module, 'hack', name)}' "$@"\n`)
    await chmod(script, 0o755)
  }
}

async function installObjects(
  plane: ControlPlane,
  module: string,
  settings: Readonly<Record<string, string>>,
): Promise<void> {
  const { objects } = plane
  await applyKinds(plane, ['argoproj.io_applications', 'argoproj.io_applicationset-crd', 'argoproj.io_appproject-crd'])
  await objects.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } })
  const config = join(module, 'manifests', 'base', 'config')
  for (const name of ['argocd-cm', 'argocd-cmd-params-cm', 'argocd-gpg-keys-cm', 'argocd-secret']) {
    const text = await readFile(join(config, `${name}.yaml`), 'utf8')
    await objects.applyYaml(text.replace(/^metadata:$/m, `metadata:\n  namespace: ${namespace}`))
  }
  await objects.merge(
    { apiVersion: 'v1', kind: 'Secret', namespace, name: 'argocd-secret' },
    { stringData: { 'server.secretkey': 'test' } },
  )
  await objects.merge({ apiVersion: 'v1', kind: 'ConfigMap', namespace, name: 'argocd-cm' }, { data: settings })
  await until('Applications are served', () => objects.list(group, 'AppProject').then(() => true))
  await objects.apply({
    apiVersion: group,
    kind: 'AppProject',
    metadata: { name: 'default', namespace, labels: partOf },
    spec: {
      sourceRepos: ['*'],
      destinations: [{ namespace: '*', server: '*' }],
      clusterResourceWhitelist: [{ group: '*', kind: '*' }],
    },
  })
}

/** The administrator's kubeconfig, looking at Argo CD's namespace: there it keeps its settings. */
async function inNamespace(plane: ControlPlane): Promise<string> {
  const config = JSON.parse(await readFile(plane.kubeconfig, 'utf8')) as {
    contexts: { context: { namespace?: string } }[]
  }
  for (const { context } of config.contexts) context.namespace = namespace
  return JSON.stringify(config)
}

const redisPlaces = ['/usr/bin/redis-server', '/usr/local/bin/redis-server']

/** Debian's redis. Where it is missing, root installs it; without that it fails and says what to install. */
async function redisServer(): Promise<string> {
  const installed = (): string | undefined => redisPlaces.find(place => existsSync(place))
  const found = installed()
  if (found !== undefined) return found
  const todo = 'Argo CD needs redis: apt-get install redis-server'
  try {
    process.stderr.write('real: installing redis-server\n')
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
    const install = ['install', '--yes', '--no-install-recommends', 'redis-server']
    await output('apt-get', install, { env }).catch(async () => {
      await output('apt-get', ['update'], { env })
      await output('apt-get', install, { env })
    })
  } catch (cause) {
    throw new Error(`${todo}\n${String(cause)}`)
  }
  const now = installed()
  if (now === undefined) throw new Error(todo)
  return now
}
