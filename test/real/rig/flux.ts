import { program } from './components.ts'
import type { ControlPlane } from './control-plane.ts'
import { applyKinds, bareKind } from './kinds.ts'
import type { Manifest, Place } from './objects.ts'
import { freePort, logEnd, type Server, until } from './server.ts'

/** The real kustomize-controller of Flux in one cluster. Its sources come from source-controller.ts. */
export interface Flux {
  /** The process as it runs now. */
  controller(): Server
  /** As `flux reconcile`: an annotation that asks for it now. Returns when it was handled. */
  reconcile(kind: 'GitRepository' | 'Kustomization', namespace: string, name: string): Promise<void>
  /** Ends the controller, as a crash does. */
  kill(): Promise<void>
  /** Starts it again after `kill`. */
  start(): Promise<void>
  stop(): Promise<void>
}

export interface FluxOptions {
  /** More flags of kustomize-controller, such as `--requeue-dependency=5s`. */
  readonly flags?: readonly string[]
}

export const fluxNamespace = 'flux-system'

/** Kinds that kustomize-controller watches; one that is missing keeps it from starting. */
const kinds = [
  'kustomize.toolkit.fluxcd.io_kustomizations',
  'source.toolkit.fluxcd.io_gitrepositories',
  'source.toolkit.fluxcd.io_externalartifacts',
]

/** The CRDs, the namespace flux-system, and kustomize-controller as an administrator of the cluster. */
export async function startFlux(plane: ControlPlane, options: FluxOptions = {}): Promise<Flux> {
  const { objects } = plane
  // It watches these two as well.
  const others = [
    bareKind('source.toolkit.fluxcd.io', 'Bucket', 'buckets'),
    bareKind('source.toolkit.fluxcd.io', 'OCIRepository', 'ocirepositories'),
  ]
  await applyKinds(plane, kinds, others)
  await objects.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: fluxNamespace } })
  await until('the kinds of Flux are served', async () => {
    await objects.list('kustomize.toolkit.fluxcd.io/v1', 'Kustomization')
    await objects.list('source.toolkit.fluxcd.io/v1', 'GitRepository')
    await objects.list('source.toolkit.fluxcd.io/v1', 'OCIRepository')
    return true
  })
  const file = await program('kustomize-controller')

  let controller = await begin()
  async function begin(): Promise<Server> {
    const health = await freePort()
    const flags = [
      `--metrics-addr=127.0.0.1:${await freePort()}`,
      `--health-addr=127.0.0.1:${health}`,
      '--log-encoding=console',
      ...(options.flags ?? []),
    ]
    const env = { ...process.env, KUBECONFIG: plane.kubeconfig, RUNTIME_NAMESPACE: fluxNamespace }
    const started = plane.run('kustomize-controller', [file, ...flags], { env })
    try {
      await until('kustomize-controller is ready', async () => {
        if (!started.running()) throw new Error('it ended')
        return (await fetch(`http://127.0.0.1:${health}/readyz`)).ok
      })
    } catch (cause) {
      throw new Error(`${String(cause)}\n${await logEnd(started)}`)
    }
    return started
  }

  return {
    controller: () => controller,
    async reconcile(kind, namespace, name) {
      const apiVersion = kind === 'Kustomization' ? 'kustomize.toolkit.fluxcd.io/v1' : 'source.toolkit.fluxcd.io/v1'
      const place: Place = { apiVersion, kind, namespace, name }
      const requested = new Date().toISOString()
      await objects.merge(place, { metadata: { annotations: { 'reconcile.fluxcd.io/requestedAt': requested } } })
      await until(`${kind} ${namespace}/${name} was reconciled`, async () => {
        const status = (await objects.get(place))?.status as { readonly lastHandledReconcileAt?: string } | undefined
        return status?.lastHandledReconcileAt === requested
      })
    },
    kill: () => controller.kill(),
    async start() {
      if (!controller.running()) controller = await begin()
    },
    stop: () => controller.stop(),
  }
}

export interface GitRepositoryOptions {
  readonly name: string
  readonly branch?: string
  /** @default '2s' */
  readonly interval?: string
  readonly ignore?: string
}

/** A GitRepository of flux-system; the stand-in of source-controller serves its one repository whatever the address. */
export function gitRepository(options: GitRepositoryOptions): Manifest {
  const { name, branch, interval = '2s', ignore } = options
  return {
    apiVersion: 'source.toolkit.fluxcd.io/v1',
    kind: 'GitRepository',
    metadata: { name, namespace: fluxNamespace },
    spec: {
      interval,
      url: 'https://git.example.com/platform/fleet.git',
      ...(branch === undefined ? {} : { ref: { branch } }),
      ...(ignore === undefined ? {} : { ignore }),
    },
  }
}

/** A Kustomization of flux-system. Fields of `spec` come on top of `interval`, `path`, `prune: true` and its source. */
export function kustomization(
  name: string,
  path: string,
  source: string,
  spec: Readonly<Record<string, unknown>> = {},
): Manifest {
  return {
    apiVersion: 'kustomize.toolkit.fluxcd.io/v1',
    kind: 'Kustomization',
    metadata: { name, namespace: fluxNamespace },
    spec: {
      interval: '10m',
      retryInterval: '2s',
      path,
      prune: true,
      sourceRef: { kind: 'GitRepository', name: source },
      ...spec,
    },
  }
}
