import { randomBytes } from 'node:crypto'
import { copyFile, mkdir, mkdtemp, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { PlainSecret } from '../../../src/custody/custody.ts'
import { createSealedSecretsCustody, type SealingScope } from '../../../src/custody/sealed-secrets.ts'
import { program } from './components.ts'
import type { ControlPlane } from './control-plane.ts'
import { applyKinds } from './kinds.ts'
import type { Manifest } from './objects.ts'
import { freePort, logEnd, type Server, until } from './server.ts'

/** The real Sealed Secrets controller of a cluster, under the name and the rights that its chart gives it. */
export interface SealedSecrets {
  /** The controller as it runs now. */
  readonly server: Server
  /** As its pod would be made anew: it reads its keys again and looks at every SealedSecret. */
  restart(): Promise<void>
  /** The certificate to seal to now, as `kubeseal --fetch-cert` prints it. */
  certificate(): Promise<string>
  /** Makes a new key, as the controller does by itself every 30 days; returns its certificate. What is sealed to older ones still opens. */
  renewKey(): Promise<string>
  /** Seals as the product does, to the certificate that the controller gives out now. */
  seal(secret: PlainSecret, scope?: SealingScope): Promise<string>
  stop(): Promise<void>
}

export interface SealedSecretsOptions {
  /** Bits; the controller's own default, 4096, takes seconds to make. @default 2048 */
  readonly keySize?: number
}

const namespace = 'kube-system'
const account = 'sealed-secrets-controller'

/** Starts it, with its kinds and roles, and waits until it has a key. Needs root: the controller takes its credentials from /var/run alone. */
export async function startSealedSecrets(
  plane: ControlPlane,
  options: SealedSecretsOptions = {},
): Promise<SealedSecrets> {
  await applyKinds(plane, ['bitnami.com_sealedsecrets'])
  for (const manifest of roles()) await plane.objects.apply(manifest)
  const folder = await mkdtemp(join(plane.folder, 'sealed-'))
  const credentials = join(folder, 'account')
  await mkdir(credentials)
  await writeFile(join(credentials, 'token'), await tokenOf(plane), { mode: 0o600 })
  await writeFile(join(credentials, 'namespace'), namespace)
  await copyFile(plane.certificateAuthority, join(credentials, 'ca.crt'))
  // The image runs it as `controller`, and by the name of its program it stands in managedFields.
  const named = join(folder, 'controller')
  await symlink(await program('sealed-secrets-controller'), named)
  const address = `127.0.0.1:${await freePort()}`
  // /var/run exists once on a machine: the controller gets one of its own, with the files that a kubelet would mount.
  const place = '/var/run/secrets/kubernetes.io/serviceaccount'
  const script = [
    'set -e',
    'mount -t tmpfs none /var/run',
    `mkdir -p ${place}`,
    `mount --bind "$0" ${place}`,
    'exec "$@"',
  ].join('\n')
  const metrics = await freePort()
  const run = (): Server =>
    plane.run(
      'sealed-secrets',
      [
        ...(['unshare', '--mount', 'sh', '-c', script, credentials, named] as const),
        `--listen-addr=${address}`,
        `--listen-metrics-addr=127.0.0.1:${metrics}`,
        `--key-size=${options.keySize ?? 2048}`,
        '--update-status',
      ],
      {
        env: {
          ...process.env,
          POD_NAMESPACE: namespace,
          KUBERNETES_SERVICE_HOST: new URL(plane.server).hostname,
          KUBERNETES_SERVICE_PORT: String(plane.apiPort),
        },
      },
    )
  let server = run()
  const certificate = async (): Promise<string> => {
    const answer = await fetch(`http://${address}/v1/cert.pem`, { signal: AbortSignal.timeout(5000) })
    if (!answer.ok) throw new Error(`/v1/cert.pem: ${answer.status}`)
    return await answer.text()
  }
  async function ready(): Promise<void> {
    try {
      await until('the Sealed Secrets controller has a key', certificate, 60_000)
    } catch (cause) {
      throw new Error(`${String(cause)}\n${await logEnd(server)}`)
    }
  }
  await ready()
  return {
    get server() {
      return server
    },
    async restart() {
      await server.stop()
      server = run()
      await ready()
    },
    certificate,
    async renewKey() {
      const before = await certificate()
      // Manual early renewal (sealed-secrets, README).
      process.kill(server.pid, 'SIGUSR1')
      return await until('the Sealed Secrets controller has another key', async () => {
        const now = await certificate()
        return now === before ? null : now
      })
    },
    async seal(secret, scope = 'strict') {
      const certificatePem = await certificate()
      const custody = createSealedSecretsCustody({ certificatePem, scope, random: randomBytes, now: new Date() })
      return await custody.seal(secret, `trust/${secret.name}.yaml`)
    },
    stop: () => server.stop(),
  }
}

async function tokenOf(plane: ControlPlane): Promise<string> {
  const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`
  const answer = (await plane.objects.post(path, {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenRequest',
    spec: { expirationSeconds: 86_400 },
  })) as { readonly status: { readonly token: string } }
  return answer.status.token
}

/** What the chart grants (sealed-secrets v0.36.6, helm/sealed-secrets/templates: cluster-role, role). */
function roles(): readonly Manifest[] {
  const rbac = 'rbac.authorization.k8s.io/v1'
  const subjects = [{ kind: 'ServiceAccount', name: account, namespace }]
  const keys = 'sealed-secrets-key-admin'
  return [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: account, namespace } },
    {
      apiVersion: rbac,
      kind: 'ClusterRole',
      metadata: { name: 'secrets-unsealer' },
      rules: [
        { apiGroups: ['bitnami.com'], resources: ['sealedsecrets'], verbs: ['get', 'list', 'watch'] },
        { apiGroups: ['bitnami.com'], resources: ['sealedsecrets/status'], verbs: ['update'] },
        {
          apiGroups: [''],
          resources: ['secrets'],
          verbs: ['get', 'list', 'create', 'update', 'delete', 'watch'],
        },
        { apiGroups: [''], resources: ['events'], verbs: ['create', 'patch'] },
      ],
    },
    {
      apiVersion: rbac,
      kind: 'ClusterRoleBinding',
      metadata: { name: 'sealed-secrets' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'secrets-unsealer' },
      subjects,
    },
    {
      apiVersion: rbac,
      kind: 'Role',
      metadata: { name: keys, namespace },
      rules: [
        { apiGroups: [''], resourceNames: ['sealed-secrets-key'], resources: ['secrets'], verbs: ['get'] },
        { apiGroups: [''], resources: ['secrets'], verbs: ['create', 'list'] },
      ],
    },
    {
      apiVersion: rbac,
      kind: 'RoleBinding',
      metadata: { name: keys, namespace },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: keys },
      subjects,
    },
  ]
}
