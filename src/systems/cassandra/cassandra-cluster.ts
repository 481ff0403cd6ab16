import { exitCodes, ReanchorError } from '../../errors.ts'
import { at, list, text } from '../../verify/values.ts'
import type { CassandraCa } from './model.ts'

/** What a CassandraCluster says of one of its two CAs. Defaults are the operator's (mr-cassop controllers/defaults.go, names.go). */
export interface CassandraClusterFacts {
  readonly namespace: string
  readonly name: string
  readonly secret: string
  readonly certificateKey: string
  readonly privateKey: string
  /** The Secret with every node's key and certificate, which the operator writes. */
  readonly nodeSecret: string
  readonly datacenters: readonly { readonly name: string; readonly replicas: number }[]
  /** Regions that another operator looks after, by domain. */
  readonly managedRegions: readonly string[]
  /** Regions that no operator restarts, by their first seed. */
  readonly unmanagedRegions: readonly string[]
  /** A name that only the API tells: pods are held down. */
  readonly inMaintenance: readonly string[]
  /** `dc` and `rack` hide a break between regions from every look at one of them. */
  readonly internodeEncryption: string
  /** Where hosts' ports are used: the name of the region's prober, by which the operators order the regions' starts (cassandra_pods_config.go). */
  readonly proberHost?: string
  /** Whose address leads to a node from every region; absent: one that its pod does not tell. */
  readonly reachedAt?: 'pod' | 'host'
}

/**
 * Reads a CassandraCluster as it stands in Git or in the cluster. Refuses (exit 5) what makes this rotation pointless or unsafe: encryption
 * that is off, and node certificates that the user brings, where no CA of the operator signs anything.
 */
export function readCassandraCluster(object: unknown, ca: CassandraCa, where: string): CassandraClusterFacts {
  const name = text(at(object, 'metadata', 'name')) ?? ''
  const namespace = text(at(object, 'metadata', 'namespace')) ?? ''
  const encryption = at(object, 'spec', 'encryption', ca)
  const internode = text(at(object, 'spec', 'encryption', 'server', 'internodeEncryption')) ?? 'none'
  const refused = (what: string, expected: string, found: string, todo: string): ReanchorError =>
    new ReanchorError({
      what,
      where: { object: where, field: `spec.encryption.${ca}` },
      expected,
      found,
      todo,
      exit: exitCodes.refused,
    })
  const own = text(at(encryption, 'nodeTLSSecret', 'name'))
  if (own !== null && own !== '')
    throw refused(
      'this cluster brings its own node certificates, so the operator signs none',
      'spec.encryption without nodeTLSSecret.name',
      `nodeTLSSecret.name: ${own}`,
      'rotate that Secret with what makes it; reanchor rotates the CA of caTLSSecret',
    )
  if (ca === 'server' && internode === 'none')
    throw refused(
      'nodes do not encrypt what they say to one another, so no one uses this CA',
      'internodeEncryption rack, dc or all',
      'none',
      'switch encryption on first, or choose spec.cassandra.ca: client',
    )
  if (ca === 'client' && at(encryption, 'enabled') !== true)
    throw refused(
      'clients connect without TLS, so no one uses this CA',
      'enabled: true',
      String(at(encryption, 'enabled') ?? 'absent'),
      'switch client encryption on first, or choose spec.cassandra.ca: server',
    )
  const caSecret = at(encryption, 'caTLSSecret')
  const named = (value: unknown, fallback: string): string => {
    const given = text(value)
    return given === null || given === '' ? fallback : given
  }
  const kind = ca === 'server' ? 'cluster' : 'client'
  const maintenance = [...list(at(object, 'spec', 'maintenance')), ...list(at(object, 'status', 'maintenanceState'))]
  return {
    namespace,
    name,
    secret: named(at(caSecret, 'name'), `${name}-${kind}-tls-ca`),
    certificateKey: named(at(caSecret, 'crtFileKey'), 'ca.crt'),
    privateKey: named(at(caSecret, 'fileKey'), 'ca.key'),
    nodeSecret: `${name}-${kind}-tls-node`,
    datacenters: list(at(object, 'spec', 'dcs')).map(dc => ({
      name: text(at(dc, 'name')) ?? '',
      replicas: typeof at(dc, 'replicas') === 'number' ? (at(dc, 'replicas') as number) : 0,
    })),
    managedRegions: list(at(object, 'spec', 'externalRegions', 'managed')).map(
      region => text(at(region, 'domain')) ?? '',
    ),
    unmanagedRegions: list(at(object, 'spec', 'externalRegions', 'unmanaged')).map(
      region => text(list(at(region, 'seeds'))[0]) ?? '(no seed)',
    ),
    inMaintenance: [...new Set(maintenance.map(each => text(at(each, 'dc')) ?? ''))].filter(dc => dc !== ''),
    internodeEncryption: internode,
    ...reachedAt(object),
    ...(at(object, 'spec', 'hostPort', 'enabled') === true
      ? { proberHost: `${namespace}-${name}-cassandra-prober.${text(at(object, 'spec', 'ingress', 'domain')) ?? ''}` }
      : {}),
  }
}

/**
 * Nodes of all regions reach one another by these addresses, so no two nodes share one: by the pod's, or with hosts' ports by the host's
 * (cassandra_pods_config.go), unless that is an external one.
 */
function reachedAt(object: unknown): Pick<CassandraClusterFacts, 'reachedAt'> {
  const hostPort = at(object, 'spec', 'hostPort')
  if (at(hostPort, 'enabled') !== true) return { reachedAt: 'pod' }
  return at(hostPort, 'useExternalHostIP') === true ? {} : { reachedAt: 'host' }
}

/** `<cluster>-cassandra-<dc>` */
export function statefulSetName(cluster: Pick<CassandraClusterFacts, 'name'>, dc: string): string {
  return `${cluster.name}-cassandra-${dc}`
}

/** Annotations of the CA Secret that are the operator's: never committed, never taken away. */
export const operatorAnnotations = {
  checksum: 'cassandra-cluster-checksum',
  instance: 'cassandra-cluster-instance',
} as const

export const operatorLabels = {
  instance: 'cassandra-cluster-instance',
  component: 'cassandra-cluster-component',
  dc: 'cassandra-cluster-dc',
} as const

/** Environment variable whose change restarts a node (mr-cassop controllers/cassandra_container.go). */
export const restartVariable = 'POD_RESTART_CHECKSUM'
