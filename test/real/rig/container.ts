import { rmSync } from 'node:fs'
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  realpath,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { cassandraJars, envoy, moduleFolder, output, program } from './components.ts'
import { startServer } from './server.ts'

/** What an image stands for: a program of this machine at the path where its image has it, and what else that image has. */
interface Image {
  readonly entrypoint: string
  /** Path in the container → path on this machine; mounted. */
  readonly files: Readonly<Record<string, string>>
  /** User and group where the pod names none, as the image does. */
  readonly user: number
  /** Arguments before the pod's own. */
  readonly args?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
}

const images = new Map<string, Promise<Image>>()

/** Null: a container without a process, which is ready at once. */
export async function imageOf({
  name,
  image,
}: {
  readonly name: string
  readonly image: string
}): Promise<Image | null> {
  const own = /^(?:.*\/)?rig\/(workload|cassandra|cassandra-client|envoy|reanchor)(?::.*)?$/.exec(image)?.[1]
  const key = own ?? name
  if (own === undefined && name !== 'discovery' && name !== 'istio-proxy') return null
  // Finding the files asks Go and Python, which takes longer than all else of a start.
  const found = images.get(key) ?? findImage(key)
  images.set(key, found)
  found.catch(() => images.delete(key))
  return await found
}

async function findImage(key: string): Promise<Image> {
  if (key === 'discovery') {
    const entrypoint = '/usr/local/bin/pilot-discovery'
    return { entrypoint, files: { [entrypoint]: await program('pilot-discovery') }, user: 1337 }
  }
  if (key === 'istio-proxy') {
    const entrypoint = '/usr/local/bin/pilot-agent'
    const bootstrap = join(await moduleFolder('istio', 'istio.io/istio'), 'tools/packaging/common/envoy_bootstrap.json')
    const files = {
      [entrypoint]: await program('pilot-agent'),
      '/usr/local/bin/envoy': await envoy(),
      '/var/lib/istio/envoy/envoy_bootstrap_tmpl.json': bootstrap,
    }
    return { entrypoint, files, user: 1337 }
  }
  if (key === 'cassandra') return await cassandraImage()
  if (key === 'envoy') {
    const entrypoint = '/usr/local/bin/envoy'
    return { entrypoint, files: { [entrypoint]: await envoy() }, user: 1337 }
  }
  if (key === 'reanchor') return await reanchorImage()
  if (key === 'cassandra-client') {
    const entrypoint = '/usr/local/bin/cassandra-rig'
    return { entrypoint, files: { [entrypoint]: await program('cassandra-rig') }, user: 1000, args: ['query'] }
  }
  const entrypoint = '/usr/local/bin/workload'
  return { entrypoint, files: { [entrypoint]: await program('workload') }, user: 1000 }
}

/** Packages that Cassandra 5 reaches into on Java 17, by module, as its own start script opens them. */
const opened: Readonly<Record<string, readonly string[]>> = {
  'java.base': [
    ...['misc', 'loader', 'ref', 'reflect', 'math', 'module', 'util.jar'].map(name => `jdk.internal.${name}`),
    ...['java.io', 'java.lang', 'java.lang.module', 'java.lang.reflect', 'java.net', 'java.nio', 'java.util'],
    ...['java.util.concurrent', 'java.util.concurrent.atomic', 'sun.nio.ch'],
  ],
  'java.management.rmi': ['com.sun.jmx.remote.internal.rmi'],
  'java.rmi': ['sun.rmi.registry', 'sun.rmi.server', 'sun.rmi.transport.tcp'],
  'java.sql': ['java.sql'],
  'jdk.attach': ['sun.tools.attach'],
  'jdk.compiler': ['com.sun.tools.javac.file'],
  'jdk.management': ['com.sun.management.internal'],
}

/** A node of the real Cassandra: its configuration is mounted at /etc/cassandra, its data at /var/lib/cassandra. */
async function cassandraImage(): Promise<Image> {
  const entrypoint = await realpath((await output('which', ['java'])).trim())
  const jars = await cassandraJars()
  const names = await readdir(jars)
  const agent = names.find(name => name.startsWith('jamm-')) ?? ''
  const reach = Object.entries(opened).flatMap(([module, packages]) =>
    packages.flatMap(name => [
      `--add-opens=${module}/${name}=ALL-UNNAMED`,
      `--add-exports=${module}/${name}=ALL-UNNAMED`,
    ]),
  )
  const settings = {
    'cassandra.config': 'file:///etc/cassandra/cassandra.yaml',
    'cassandra.storagedir': '/var/lib/cassandra',
    'cassandra.ring_delay_ms': '2000',
    'cassandra.skip_wait_for_gossip_to_settle': '0',
    'jdk.attach.allowAttachSelf': 'true',
    'java.io.tmpdir': '/tmp',
  }
  const helper = '/usr/local/bin/cassandra-rig'
  return {
    entrypoint,
    files: {
      '/opt/cassandra': jars,
      [helper]: await program('cassandra-rig'),
      // Debian's Java looks for its settings there.
      '/etc/java-17-openjdk': '/etc/java-17-openjdk',
    },
    user: 999,
    args: [
      ...['-Xms256m', '-Xmx400m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', `-javaagent:/opt/cassandra/${agent}`],
      ...reach,
      ...Object.entries(settings).map(([name, value]) => `-D${name}=${value}`),
      ...['-cp', '/etc/cassandra:/opt/cassandra/*', 'org.apache.cassandra.service.CassandraDaemon'],
    ],
  }
}

/** This checkout, as built, in the place where the Dockerfile's `npm install --global` puts it, with what else that image has. */
async function reanchorImage(): Promise<Image> {
  const made = await mkdtemp(join(tmpdir(), 'reanchor-image-'))
  process.once('exit', () => rmSync(made, { recursive: true, force: true }))
  const installed = '/usr/local/lib/node_modules/reanchor'
  const entrypoint = '/usr/local/bin/reanchor'
  const start = join(made, 'reanchor')
  const gitconfig = join(made, 'gitconfig')
  await chmod(made, 0o755)
  await writeFile(start, `#!/bin/sh\nexec node ${installed}/dist/src/cli/main.js "$@"\n`, { mode: 0o755 })
  // The rig's Git server has a certificate that no machine knows.
  await writeFile(gitconfig, '[safe]\n\tdirectory = *\n[http]\n\tsslVerify = false\n')
  return {
    entrypoint,
    files: {
      [installed]: checkout,
      [entrypoint]: start,
      '/usr/local/bin/reanchor-askpass': join(checkout, 'action/askpass.sh'),
      '/usr/local/bin/node': await realpath(process.execPath),
      '/etc/gitconfig': gitconfig,
    },
    user: 10001,
    environment: { NODE_ENV: 'production', GIT_ASKPASS: '/usr/local/bin/reanchor-askpass' },
  }
}

const checkout = fileURLToPath(new URL('../../..', import.meta.url))

export interface ContainerOptions {
  /** Folder of its root; must not exist. */
  readonly folder: string
  /** Network namespace. */
  readonly netns: string
  readonly image: Image
  /** In the place of the image's own entry point and arguments; null: those. */
  readonly command: readonly string[] | null
  readonly args: readonly string[]
  readonly environment: Readonly<Record<string, string>>
  readonly user: number
  readonly group: number
  readonly mounts: readonly { readonly from: string; readonly to: string; readonly readOnly: boolean }[]
  /** Text of /etc/hosts. */
  readonly hosts: string
  readonly log: string
}

/** One run of a container: a process with its own root, process ids and mounts, in the network namespace of its pod. */
export interface Container {
  readonly startedAt: Date
  /** Exit code; 128 + the signal where one ended it. */
  readonly exited: Promise<number>
  running(): boolean
  /** SIGTERM to its first process, then SIGKILL to all of them after `patience` milliseconds. */
  stop(patience: number): Promise<void>
  kill(): Promise<void>
  /** Runs a command inside, as `kubectl exec` does. Standard output; throws where it fails. */
  exec(command: readonly string[]): Promise<string>
  setHosts(text: string): Promise<void>
}

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`

/**
 * The mounts are made in the mount namespace that `ip netns exec` makes, and end with the last process in it; so do all processes with the
 * first of their namespace of process ids. Nothing is left to undo.
 */
function scriptOf(root: string, options: ContainerOptions): string {
  const { image, mounts, user, group, args, command: own } = options
  // A root that is a mount of its own: Java looks for the file system of a folder among the mounts that it sees.
  const lines = ['set -e', `mount -o bind ${quoted(root)} ${quoted(root)}`, `cd ${quoted(root)}`]
  lines.push('mount -o bind,ro /usr usr', 'mount -o bind local usr/local')
  lines.push('mount --rbind /dev dev', 'mount -t proc proc proc', 'mount -o bind,ro /etc/ssl etc/ssl')
  for (const { from, to, readOnly } of mounts) {
    lines.push(`mount -o ${readOnly ? 'bind,ro' : 'bind'} ${quoted(from)} ${quoted(`.${to}`)}`)
  }
  for (const [to, from] of Object.entries(image.files)) {
    lines.push(`mount -o bind,ro ${quoted(from)} ${quoted(`.${to}`)}`)
  }
  const command = [...(own ?? [image.entrypoint, ...(image.args ?? [])]), ...args].map(quoted).join(' ')
  lines.push(`exec chroot --userspec=${user}:${group} . ${command}`)
  return `${lines.join('\n')}\n`
}

async function makeRoot(root: string, options: ContainerOptions): Promise<void> {
  for (const folder of ['usr', 'local', 'dev', 'proc', 'etc/ssl', 'tmp', 'run', 'var/lib']) {
    await mkdir(join(root, folder), { recursive: true })
  }
  await chmod(join(root, 'tmp'), 0o1777)
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) await symlink(`usr/${name}`, join(root, name))
  // /var/run is a folder of its own: volumes are mounted below it.
  await mkdir(join(root, 'var/run'))
  const files: Readonly<Record<string, string>> = {
    'etc/hosts': options.hosts,
    // Names are known by /etc/hosts or not at all; nobody has to wait for a name server.
    'etc/resolv.conf': 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n',
    'etc/nsswitch.conf': 'hosts: files dns\n',
    'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\nistio-proxy:x:1337:1337::/:/bin/sh\n',
    'etc/group': 'root:x:0:\nistio-proxy:x:1337:\n',
  }
  for (const [name, text] of Object.entries(files)) await writeFile(join(root, name), text)
  for (const [to, from] of Object.entries(options.image.files)) {
    // What this machine's /usr brings is there already.
    if (to.startsWith('/usr/') && !to.startsWith('/usr/local/')) continue
    const file = join(root, inRoot(to))
    const folder = (await stat(from)).isDirectory()
    await mkdir(folder ? file : dirname(file), { recursive: true })
    if (!folder) await writeFile(file, '')
  }
  for (const { from, to } of options.mounts) {
    const target = join(root, inRoot(to))
    // A mount inside another one has its mount point in that one's folder, where the runtime makes it.
    const outer = options.mounts.find(other => to.startsWith(`${other.to.replace(/\/$/, '')}/`))
    if (outer !== undefined) await mkdir(join(outer.from, to.slice(outer.to.length)), { recursive: true })
    if ((await stat(from)).isDirectory()) {
      await mkdir(target, { recursive: true })
    } else {
      await mkdir(dirname(target), { recursive: true })
      await writeFile(target, '')
    }
  }
}

/** /usr/local is `local` of the root: /usr is this machine's, and nothing can be added to it. */
function inRoot(path: string): string {
  return path.startsWith('/usr/local/') ? path.replace('/usr/local/', '/local/') : path
}

/** What runs on the way to a container's program. */
const launchers: ReadonlySet<string> = new Set(['sh', 'dash', 'bash', 'chroot', 'unshare', 'setpriv', 'ip'])

export async function startContainer(options: ContainerOptions): Promise<Container> {
  const { folder, netns, environment, log } = options
  const root = join(folder, 'root')
  await makeRoot(root, options)
  const script = join(folder, 'start.sh')
  await writeFile(script, scriptOf(root, options))
  await writeFile(log, '', { flag: 'a' })
  // Programs that open /dev/stdout anew do so as their own user.
  await chmod(log, 0o666)
  const isolate = ['unshare', '--pid', '--fork', '--kill-child=SIGKILL', '/bin/sh', script]
  // The containers end with the test process even where that is killed.
  const command = ['/usr/bin/setpriv', '--pdeathsig', 'KILL', '/sbin/ip', 'netns', 'exec', netns, ...isolate] as const
  const startedAt = new Date()
  const server = startServer(basename(log), command, { log, env: environment })
  let ended = false
  const exited = server.exited.then(code => {
    ended = true
    return code ?? 137
  })

  /** The first process of the container, by its id outside; null before it is there and after its end. */
  async function first(): Promise<number | null> {
    const children = await readFile(`/proc/${server.pid}/task/${server.pid}/children`, 'utf8').catch(() => '')
    const id = Number(children.trim().split(' ')[0])
    return id > 0 ? id : null
  }

  /** Until the script has become the program: a first process without a handler, such as a shell, ignores SIGTERM. */
  async function program(): Promise<number | null> {
    while (!ended) {
      const id = await first()
      const file = id === null ? '' : await readlink(`/proc/${id}/exe`).catch(() => '')
      if (id !== null && file !== '' && !launchers.has(basename(file))) return id
      await sleep(10)
    }
    return null
  }

  return {
    startedAt,
    exited,
    running: () => !ended,
    async stop(patience) {
      const end = AbortSignal.timeout(patience)
      end.addEventListener('abort', () => void server.kill())
      const id = await program()
      try {
        if (id !== null) process.kill(id, 'SIGTERM')
      } catch {
        // Gone already.
      }
      await exited
    },
    kill: () => server.kill(),
    async exec(command) {
      const id = await program()
      if (id === null) throw new Error(`${basename(log)} does not run`)
      const enter = ['-t', String(id), '--mount', '--pid', '--net', '--root', '--wd=/']
      return await output('nsenter', [...enter, ...command], { env: { ...environment } })
    },
    setHosts: text => writeFile(join(root, 'etc/hosts'), text),
  }
}
