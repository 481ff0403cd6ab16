import { either, list, record, text } from '../../verify/values.ts'

export const syncPath = '/debug/syncz'
export const watchesPath = '/debug/adsz'
/** istiod's ports that serve /debug to its own loopback, in the order in which they are tried. */
export const debugPorts = [15014, 8080] as const

/** The resource that carries trust to agents (istio pilot/pkg/xds/pcds.go). */
const proxyConfigType = 'type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig'

/** A proxy that is connected to one istiod. */
export interface ConnectedProxy {
  /** namespace/name */
  readonly name: string
  /** Cluster that the proxy says it is in; '' where it does not say. */
  readonly cluster: string
  /** Asked for pushed trust; null: this istiod does not show it here. */
  readonly subscribed: boolean | null
}

/** Reads /debug/syncz. Throws `SyntaxError` for what is not JSON, `TypeError` for what is no list. */
export function readSync(answer: string): readonly ConnectedProxy[] {
  const parsed: unknown = JSON.parse(answer)
  // istiod without any proxy answers null (a nil slice in Go).
  if (parsed !== null && !Array.isArray(parsed)) throw new TypeError('/debug/syncz is not a list')
  return list(parsed).flatMap(entry => {
    const name = proxyName(text(either(entry, 'proxy')))
    if (name === null) return []
    const shown = either(entry, 'resources')
    const subscribed = shown === undefined ? null : record(shown)[proxyConfigType] !== undefined
    return [{ name, cluster: text(either(entry, 'cluster_id', 'clusterId')) ?? '', subscribed }]
  })
}

/** Names of the proxies that watch pushed trust, from /debug/adsz: for releases whose syncz shows no resources. */
export function readWatchers(answer: string): ReadonlySet<string> {
  const names = new Set<string>()
  for (const client of list(either(JSON.parse(answer), 'clients'))) {
    if (record(either(client, 'watches'))[proxyConfigType] === undefined) continue
    // connectionId is `pod.namespace-number`.
    const name = proxyName((text(either(client, 'connectionId')) ?? '').replace(/-\d+$/, ''))
    if (name !== null) names.add(name)
  }
  return names
}

/** `pod.namespace` as namespace/pod; a pod's name may hold dots, a namespace's cannot. */
function proxyName(id: string | null): string | null {
  const dot = id?.lastIndexOf('.') ?? -1
  if (id === null || dot <= 0 || dot === id.length - 1) return null
  return `${id.slice(dot + 1)}/${id.slice(0, dot)}`
}
