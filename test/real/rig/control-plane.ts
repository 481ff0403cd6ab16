import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { moduleFolder, output, program } from './components.ts'
import type { Network } from './network.ts'
import { type Objects, openObjects } from './objects.ts'
import { freePort, logEnd, type Server, startServer, until } from './server.ts'

/** A real Kubernetes control plane: etcd, API server, controller manager, scheduler, and kwok as kubelet of nodes without machines. */
export interface ControlPlane {
  readonly name: string
  /** Folder of its files; removed when it stops. */
  readonly folder: string
  readonly network: Network
  /** kubeconfig of an administrator; its one context is `name`. */
  readonly kubeconfig: string
  /** https URL of the API server. */
  readonly server: string
  readonly apiPort: number
  readonly certificateAuthority: string
  readonly objects: Objects
  readonly kwokPort: number
  /** Writes a kubeconfig with a token of a ServiceAccount, as the API server gives it. Returns its path; its context is `name`. */
  kubeconfigOf(namespace: string, serviceAccount: string, seconds?: number): Promise<string>
  /** Starts a server of this cluster; it ends with it. */
  run(
    name: string,
    command: readonly [string, ...string[]],
    options?: { env?: NodeJS.ProcessEnv; cwd?: string },
  ): Server
  stopApiServer(): Promise<void>
  startApiServer(): Promise<void>
  /** The process as it runs now. */
  etcd(): Server
  /** Copies what etcd holds. Returns the file, for `restore`. */
  backUp(): Promise<string>
  /**
   * The cluster as it was then, as etcd's documentation has it for Kubernetes: revisions go on far above the old ones, so that whoever watches lists anew.
   * Everything that serves or controls the cluster ends and starts again; nodes and what else asks the API server go on.
   */
  restore(backup: string): Promise<void>
  stop(): Promise<void>
}

export interface ControlPlaneOptions {
  readonly name: string
  readonly network: Network
  /** Which cluster of its network this is: each has a range of ClusterIPs of its own. @default 0 */
  readonly number?: number
  /** Nodes of kwok, whose pods exist in the API alone and are Ready at once. @default 0 */
  readonly fakeNodes?: number
}

/** Name of the node whose pods are real processes (see kubelet.ts). */
export const realNode = 'real'

export async function startControlPlane(options: ControlPlaneOptions): Promise<ControlPlane> {
  const { name, network, number = 0 } = options
  const folder = await mkdtemp(join(tmpdir(), 'ra-'))
  const pki = join(folder, 'pki')
  const log = join(folder, 'log')
  await mkdir(pki)
  await mkdir(log)
  const services = network.services(number)
  await makePki(pki, network.address, services.first)
  const etcdPort = await freePort()
  const peerPort = await freePort()
  const apiPort = await freePort(network.address)
  const server = `https://${network.address}:${apiPort}`
  const kubeconfig = join(folder, 'kubeconfig')
  const authority = join(pki, 'ca.crt')
  await writeFile(
    kubeconfig,
    kubeconfigText(name, server, await readFile(authority), {
      'client-certificate-data': (await readFile(join(pki, 'admin.crt'))).toString('base64'),
      'client-key-data': (await readFile(join(pki, 'admin.key'))).toString('base64'),
    }),
    { mode: 0o600 },
  )

  const servers: Server[] = []
  let backups = 0
  function run(
    title: string,
    command: readonly [string, ...string[]],
    how: { env?: NodeJS.ProcessEnv; cwd?: string } = {},
  ): Server {
    const started = startServer(title, command, { log: join(log, `${title}.log`), cwd: folder, ...how })
    servers.push(started)
    return started
  }

  const etcdUrl = `http://127.0.0.1:${etcdPort}`
  const peerUrl = `http://127.0.0.1:${peerPort}`
  let life = 0
  const etcdData = (): string => join(folder, `etcd-${life}`)
  const etcdCommand = async (): Promise<readonly [string, ...string[]]> => [
    await program('etcd'),
    `--data-dir=${etcdData()}`,
    `--listen-client-urls=${etcdUrl}`,
    `--advertise-client-urls=${etcdUrl}`,
    `--listen-peer-urls=${peerUrl}`,
    `--initial-advertise-peer-urls=${peerUrl}`,
    `--initial-cluster=default=${peerUrl}`,
    '--unsafe-no-fsync',
  ]
  let etcd = run('etcd', await etcdCommand())
  const apiCommand: readonly [string, ...string[]] = [
    await program('kube-apiserver'),
    `--etcd-servers=${etcdUrl}`,
    `--bind-address=${network.address}`,
    `--secure-port=${apiPort}`,
    `--advertise-address=${network.address}`,
    '--endpoint-reconciler-type=none',
    `--service-cluster-ip-range=${services.range}`,
    '--authorization-mode=Node,RBAC',
    `--client-ca-file=${authority}`,
    `--tls-cert-file=${join(pki, 'apiserver.crt')}`,
    `--tls-private-key-file=${join(pki, 'apiserver.key')}`,
    '--allow-privileged=true',
    '--service-account-issuer=https://kubernetes.default.svc',
    `--service-account-key-file=${join(pki, 'sa.pub')}`,
    `--service-account-signing-key-file=${join(pki, 'sa.key')}`,
    // A test's burst of watches is no reason to wait.
    '--max-requests-inflight=800',
  ]
  let apiServer = run('kube-apiserver', apiCommand)
  async function ready(): Promise<void> {
    const check = ['-sf', '--cacert', authority, '--cert', join(pki, 'admin.crt'), '--key', join(pki, 'admin.key')]
    try {
      await until('the API server is ready', () => output('curl', [...check, `${server}/readyz`]), 60_000)
    } catch (cause) {
      throw new Error(`${String(cause)}\n${await logEnd(apiServer)}`)
    }
  }
  await ready()
  const controllerManager: readonly [string, ...string[]] = [
    await program('kube-controller-manager'),
    `--kubeconfig=${kubeconfig}`,
    '--leader-elect=false',
    '--bind-address=127.0.0.1',
    `--secure-port=${await freePort()}`,
    '--authentication-skip-lookup=true',
    `--service-account-private-key-file=${join(pki, 'sa.key')}`,
    `--root-ca-file=${authority}`,
    '--use-service-account-credentials=false',
    // A test that stops the API server or etcd must not make a node out of reach of it: its pods would lose their endpoints, whatever they
    // trust, for a machine that was busy for the default's 40 s.
    '--node-monitor-grace-period=15m',
  ]
  const scheduler: readonly [string, ...string[]] = [
    await program('kube-scheduler'),
    `--kubeconfig=${kubeconfig}`,
    '--leader-elect=false',
    '--bind-address=127.0.0.1',
    `--secure-port=${await freePort()}`,
    '--authentication-skip-lookup=true',
  ]
  let controllers = [run('kube-controller-manager', controllerManager), run('kube-scheduler', scheduler)]
  const objects = await openObjects(kubeconfig)
  const kwokFiles = join(await moduleFolder('kwok', 'sigs.k8s.io/kwok'), 'kustomize', 'crd', 'bases')
  // kwok looks for these when it starts.
  for (const kind of ['portforwards', 'clusterportforwards']) {
    await objects.applyFile(join(kwokFiles, `kwok.x-k8s.io_${kind}.yaml`))
  }
  await until('the kinds of kwok are served', () =>
    objects.list('kwok.x-k8s.io/v1alpha1', 'PortForward').then(() => true),
  )
  const kwokPort = await freePort()
  const kwokCommand: readonly [string, ...string[]] = [
    await program('kwok'),
    `--kubeconfig=${kubeconfig}`,
    // The real node has a kubelet of its own (kubelet.ts); kwok serves its port-forwards all the same.
    '--manage-all-nodes=false',
    '--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake',
    `--cidr=10.${97 + number}.0.0/16`,
    '--node-ip=127.0.0.1',
    `--node-port=${kwokPort}`,
    `--server-address=127.0.0.1:${kwokPort}`,
    // Without leases the nodes go NotReady after a quarter of an hour, and every pod with them.
    '--node-lease-duration-seconds=40',
    '--enable-crds=PortForward,ClusterPortForward',
  ]
  controllers.push(run('kwok', kwokCommand))
  for (let node = 0; node < (options.fakeNodes ?? 0); node += 1) {
    await objects.apply({
      apiVersion: 'v1',
      kind: 'Node',
      metadata: {
        name: `fake-${node}`,
        labels: { 'kubernetes.io/os': 'linux', type: 'kwok' },
        annotations: { 'kwok.x-k8s.io/node': 'fake' },
      },
    })
  }
  await until('the default ServiceAccount', () =>
    objects.get({ apiVersion: 'v1', kind: 'ServiceAccount', namespace: 'default', name: 'default' }),
  )

  return {
    name,
    folder,
    network,
    kubeconfig,
    server,
    apiPort,
    certificateAuthority: authority,
    objects,
    kwokPort,
    run,
    etcd: () => etcd,
    async backUp() {
      const copy = join(folder, `backup-${backups++}.db`)
      // What a process that stands still has written is what a crash would have left.
      etcd.pause()
      try {
        await copyFile(join(etcdData(), 'member', 'snap', 'db'), copy)
      } finally {
        etcd.resume()
      }
      return copy
    },
    async restore(backup) {
      const etcdutl = await program('etcdutl')
      await Promise.all([...controllers, apiServer].map(server => server.kill()))
      await etcd.kill()
      life += 1
      const bump = ['--bump-revision', '1000000000', '--mark-compacted', '--skip-hash-check']
      const member = [`--initial-cluster=default=${peerUrl}`, `--initial-advertise-peer-urls=${peerUrl}`]
      await output(etcdutl, ['snapshot', 'restore', backup, `--data-dir=${etcdData()}`, ...member, ...bump])
      etcd = run('etcd', await etcdCommand())
      apiServer = run('kube-apiserver', apiCommand)
      await ready()
      controllers = [
        run('kube-controller-manager', controllerManager),
        run('kube-scheduler', scheduler),
        run('kwok', kwokCommand),
      ]
    },
    async kubeconfigOf(namespace, serviceAccount, seconds = 7200) {
      const answer = (await objects.post(`/api/v1/namespaces/${namespace}/serviceaccounts/${serviceAccount}/token`, {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenRequest',
        spec: { expirationSeconds: seconds },
      })) as { readonly status: { readonly token: string } }
      const file = join(folder, `kubeconfig-${namespace}-${serviceAccount}`)
      const text = kubeconfigText(name, server, await readFile(authority), { token: answer.status.token })
      await writeFile(file, text, { mode: 0o600 })
      return file
    },
    stopApiServer: () => apiServer.stop(),
    async startApiServer() {
      apiServer = run('kube-apiserver', apiCommand)
      await ready()
    },
    async stop() {
      await Promise.all(servers.map(started => started.kill()))
      await rm(folder, { recursive: true, force: true })
    },
  }
}

function kubeconfigText(
  name: string,
  server: string,
  authority: Buffer,
  user: Readonly<Record<string, string>>,
): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name, cluster: { server, 'certificate-authority-data': authority.toString('base64') } }],
    users: [{ name, user }],
    contexts: [{ name, context: { cluster: name, user: name } }],
    'current-context': name,
  })
}

async function makePki(folder: string, address: string, firstService: string): Promise<void> {
  const openssl = (...args: string[]): Promise<string> => output('openssl', args, { cwd: folder })
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  const usage = 'keyUsage=critical,keyCertSign,cRLSign,digitalSignature'
  const basic = 'basicConstraints=critical,CA:TRUE'
  const authority = ['-keyout', 'ca.key', '-out', 'ca.crt', '-days', '3650', '-subj', '/CN=kubernetes']
  await openssl('req', '-x509', ...key, ...authority, '-addext', basic, '-addext', usage)
  async function leaf(name: string, subject: string, extensions: string): Promise<void> {
    await openssl('req', ...key, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', subject)
    await writeFile(join(folder, `${name}.ext`), extensions)
    const signer = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '3650']
    await openssl('x509', '-req', '-in', `${name}.csr`, ...signer, '-out', `${name}.crt`, '-extfile', `${name}.ext`)
  }
  const names = ['localhost', 'kubernetes', 'kubernetes.default', 'kubernetes.default.svc'].map(dns => `DNS:${dns}`)
  const addresses = ['127.0.0.1', address, firstService].map(at => `IP:${at}`)
  const alternatives = [...names, ...addresses].join(',')
  await leaf('apiserver', '/CN=kube-apiserver', `subjectAltName=${alternatives}\nextendedKeyUsage=serverAuth\n`)
  await leaf('admin', '/O=system:masters/CN=admin', 'extendedKeyUsage=clientAuth\n')
  await openssl('genrsa', '-out', 'sa.key', '2048')
  await openssl('rsa', '-in', 'sa.key', '-pubout', '-out', 'sa.pub')
}
