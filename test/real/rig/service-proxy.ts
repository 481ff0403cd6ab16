import { connect, createServer, type Server, type Socket } from 'node:net'
import { type Followed, openConnection, retry } from './connection.ts'
import type { ControlPlane } from './control-plane.ts'
import type { Manifest } from './objects.ts'
import { until } from './server.ts'

/** Stand-in for kube-proxy: TCP connections to the ClusterIPs of some Services go, in turn, to their ready endpoints. */
export interface ServiceProxy {
  stop(): Promise<void>
}

interface ServiceObject extends Manifest {
  readonly spec: {
    readonly clusterIP?: string
    readonly ports?: readonly { readonly name?: string; readonly port: number; readonly protocol?: string }[]
  }
}

interface EndpointSlice extends Manifest {
  readonly endpoints?: readonly {
    readonly addresses: readonly string[]
    readonly conditions?: { readonly ready?: boolean }
  }[]
  readonly ports?: readonly { readonly name?: string; readonly port?: number }[]
}

/** Takes Services as they come: a service that does not exist yet is served from when it does. */
export async function startServiceProxy(
  plane: ControlPlane,
  services: readonly { readonly namespace: string; readonly name: string }[],
): Promise<ServiceProxy> {
  const connection = await openConnection(plane.kubeconfig)
  const servers = new Map<string, Server>()
  const sockets = new Set<Socket>()
  const slices = await connection.follow<EndpointSlice>('/apis/discovery.k8s.io/v1/endpointslices')
  let turn = 0
  let open = true

  function endpoints(namespace: string, name: string, portName: string): readonly { host: string; port: number }[] {
    return slices
      .items()
      .filter(({ metadata }) => metadata.namespace === namespace && serviceOf(metadata) === name)
      .flatMap(slice => {
        const port = slice.ports?.find(candidate => (candidate.name ?? '') === portName)?.port
        if (port === undefined) return []
        return (slice.endpoints ?? [])
          .filter(({ conditions }) => conditions?.ready !== false)
          .flatMap(({ addresses }) => addresses.map(host => ({ host, port })))
      })
      .sort((one, other) => (one.host < other.host ? -1 : 1))
  }

  async function listen(
    address: string,
    port: number,
    namespace: string,
    name: string,
    portName: string,
  ): Promise<void> {
    await plane.network.addAddress(address)
    // Each direction ends by itself, as it does without a proxy.
    const server = createServer({ allowHalfOpen: true, noDelay: true }, near => {
      const ready = endpoints(namespace, name, portName)
      const target = ready[turn++ % Math.max(1, ready.length)]
      keep(near)
      if (target === undefined) return void near.resetAndDestroy()
      const far = connect({ ...target, allowHalfOpen: true, noDelay: true })
      keep(far)
      near.on('close', () => far.destroy())
      far.on('close', () => near.destroy())
      near.pipe(far)
      far.pipe(near)
    })
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(port, address, resolve)
    })
    server.on('error', () => {})
    servers.set(`${namespace}/${name} ${address}:${port}`, server)
  }

  function keep(socket: Socket): void {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
  }

  const begun = new Set<string>()
  function serve(): void {
    for (const { namespace, name } of services) {
      const { clusterIP = 'None', ports = [] } = known?.find(namespace, name)?.spec ?? {}
      if (clusterIP === 'None' || clusterIP === '' || !open) continue
      for (const { name: portName = '', port, protocol = 'TCP' } of ports) {
        const key = `${namespace}/${name} ${clusterIP}:${port}`
        if (protocol !== 'TCP' || begun.has(key)) continue
        begun.add(key)
        void retry(
          () => listen(clusterIP, port, namespace, name, portName),
          () => open,
        ).catch(() => {})
      }
    }
  }

  let known: Followed<ServiceObject> | null = null
  known = await connection.follow<ServiceObject>('/api/v1/services', serve)
  serve()
  await until('the listeners of the service proxy', () => servers.size === begun.size)
  return {
    async stop() {
      open = false
      connection.close()
      for (const socket of sockets) socket.destroy()
      await Promise.all([...servers.values()].map(server => new Promise(resolve => server.close(resolve))))
    },
  }
}

function serviceOf(metadata: Manifest['metadata']): string | undefined {
  return (metadata.labels as Readonly<Record<string, string>> | undefined)?.['kubernetes.io/service-name']
}
