import type { Cluster, KubernetesObject } from '../../cluster/cluster.ts'
import { resources } from '../../cluster/resources.ts'
import { exitCodes, ReanchorError } from '../../errors.ts'
import type { CurrentCa } from '../../plan/ca.ts'
import { type CaSecret, idOf, refuseUnreadableKey, trustedEntries } from './ca-secret.ts'
import { type CassandraClusterFacts, operatorAnnotations, readCassandraCluster } from './cassandra-cluster.ts'
import { operatorChecksum } from './checksum.ts'
import type { CassandraCa } from './model.ts'
import { secretSettings } from './phases.ts'

/** The CA of one region as the cluster has it, with what the CassandraCluster says of it. */
export interface LiveCa {
  readonly cluster: CassandraClusterFacts
  readonly secret: CaSecret
  /** Annotations of the Secret. */
  readonly annotations: Readonly<Record<string, string>>
}

/**
 * Reads the CassandraCluster, and the Secret that it names. Only the live Secret can be taken over byte for byte, and another byte would
 * restart every node for nothing. Throws ClusterError for what cannot be read.
 */
export async function liveCa(
  cluster: Cluster,
  place: { readonly namespace: string; readonly name: string; readonly ca: CassandraCa },
): Promise<LiveCa> {
  const object = await cluster.get(resources.cassandraClusters, place.namespace, place.name)
  const id = `CassandraCluster ${place.namespace}/${place.name}`
  if (object === null)
    throw new ReanchorError({
      what: 'no such CassandraCluster',
      where: { object: id },
      expected:
        'the resource that the operator reconciles, with an operator of May 2022 or later, which knows extra CAs',
      todo: 'check spec.cassandra and the cluster of this site',
    })
  const facts = readCassandraCluster(object, place.ca, id)
  const secret = await cluster.get(resources.secrets, facts.namespace, facts.secret)
  if (secret === null)
    throw new ReanchorError({
      what: 'the CA Secret that the CassandraCluster names does not exist',
      where: { object: `Secret ${facts.namespace}/${facts.secret}` },
      expected: 'a Secret: while it is missing the operator signs all nodes with a CA that it makes up',
      todo: 'see that the name is right and the operator ready (kubectl get cassandracluster), then plan again',
      exit: exitCodes.refused,
    })
  return { cluster: facts, secret: caSecretOf(secret, facts), annotations: secret.metadata.annotations ?? {} }
}

/** Refuses what cannot be carried unchanged. */
function caSecretOf(object: KubernetesObject, facts: CassandraClusterFacts): CaSecret {
  const id = `Secret ${facts.namespace}/${facts.secret}`
  const data: Record<string, string> = {}
  for (const [key, value] of Object.entries((object.data ?? {}) as Record<string, string | null>)) {
    const bytes = Buffer.from(value ?? '', 'base64')
    data[key] = bytes.toString('utf8')
    if (Buffer.from(data[key]).equals(bytes)) continue
    throw new ReanchorError({
      what: 'a value that is no text, which custody cannot carry unchanged',
      where: { object: id, field: `data["${key}"]` },
      expected: 'PEM files alone',
      found: `${bytes.length} bytes that are not UTF-8`,
      todo: 'move that key into a Secret of its own; all nodes restart once',
      exit: exitCodes.refused,
    })
  }
  return {
    namespace: facts.namespace,
    name: facts.secret,
    type: typeof object.type === 'string' ? object.type : 'Opaque',
    certificateKey: facts.certificateKey,
    privateKey: facts.privateKey,
    data,
  }
}

const dataPrefix = 'data/'
const checksumExtra = 'checksum'
const maintenanceExtra = 'maintenance'

/**
 * One region's CA as the rest of reanchor knows it. What the plan is made from stands in `settings`; the values of the Secret, and what
 * changes by itself, in `extra`.
 */
export function currentCa({ cluster, secret, annotations }: LiveCa): CurrentCa {
  const entries = trustedEntries(secret)
  const issuer = entries.get(secret.certificateKey)
  if (issuer === undefined) throw new Error('the entries were read with their main one')
  const fingerprints = Object.fromEntries([...entries].map(([key, { sha256 }]) => [key, sha256]))
  return {
    issuer,
    chain: [],
    roots: [...entries.values()],
    key: secret.data[secret.privateKey] ?? null,
    source: 'plugged',
    // As the state `adopt` declares it: a plan that was made from this is then known to be the same.
    settings: {
      cluster: cluster.name,
      nodeSecret: cluster.nodeSecret,
      datacenters: cluster.datacenters.map(({ name, replicas }) => `${name}=${replicas}`).join(' '),
      managedRegions: cluster.managedRegions.join(' '),
      unmanagedRegions: cluster.unmanagedRegions.join(' '),
      internodeEncryption: cluster.internodeEncryption,
      ...(cluster.proberHost === undefined ? {} : { proberHost: cluster.proberHost }),
      ...secretSettings(secret, secret.data, fingerprints, operatorChecksum(secret.data)),
    },
    restarts: {},
    extra: {
      ...Object.fromEntries(Object.entries(secret.data).map(([key, value]) => [`${dataPrefix}${key}`, value])),
      [checksumExtra]: annotations[operatorAnnotations.checksum] ?? '',
      [maintenanceExtra]: cluster.inMaintenance.join(' '),
    },
  }
}

/** The Secret that `currentCa` was made from. */
export function secretOf({ settings, extra = {} }: CurrentCa): CaSecret {
  return {
    namespace: settings.namespace ?? '',
    name: settings.secret ?? '',
    type: settings.type ?? 'Opaque',
    certificateKey: settings.certificateKey ?? 'ca.crt',
    privateKey: settings.privateKey ?? 'ca.key',
    data: Object.fromEntries(
      Object.entries(extra)
        .filter(([key]) => key.startsWith(dataPrefix))
        .map(([key, value]) => [key.slice(dataPrefix.length), value]),
    ),
  }
}

/** What of the CassandraCluster acceptance asks for. */
export function factsOf({ settings, extra = {} }: CurrentCa): CassandraClusterFacts {
  const words = (value: string | undefined): readonly string[] => (value ?? '').split(' ').filter(word => word !== '')
  return {
    namespace: settings.namespace ?? '',
    name: settings.cluster ?? '',
    secret: settings.secret ?? '',
    certificateKey: settings.certificateKey ?? '',
    privateKey: settings.privateKey ?? '',
    nodeSecret: settings.nodeSecret ?? '',
    datacenters: words(settings.datacenters).map(word => {
      const [name = '', replicas = '0'] = word.split('=')
      return { name, replicas: Number(replicas) }
    }),
    managedRegions: words(settings.managedRegions),
    unmanagedRegions: words(settings.unmanagedRegions),
    inMaintenance: words(extra[maintenanceExtra]),
    internodeEncryption: settings.internodeEncryption ?? '',
  }
}

/** The operator's checksum as it stands at the live Secret; empty: it has none. */
export function checksumOf({ extra = {} }: CurrentCa): string {
  return extra[checksumExtra] ?? ''
}

/** What keeps a rotation from starting from this Secret, beyond what reading it refuses. `checksum`: the operator's, as it stands there. */
export function refuseUnfitSecret({ cluster, secret }: Pick<LiveCa, 'cluster' | 'secret'>, checksum: string): void {
  const main = trustedEntries(secret).get(secret.certificateKey)
  const key = secret.data[secret.privateKey]
  if (main === undefined || key === undefined || key === '')
    throw new ReanchorError({
      what: 'the CA Secret holds no signing key under the name that the CassandraCluster gives',
      where: { object: idOf(secret), field: `data["${secret.privateKey}"]` },
      expected: 'the private key of the CA in use: nodes are signed by it until all of them trust the new CA',
      todo: 'put the key back from its backup, or use strategy emergency',
      exit: exitCodes.refused,
    })
  refuseUnreadableKey(key, main, idOf(secret))
  if (cluster.inMaintenance.length > 0)
    throw new ReanchorError({
      what: 'nodes are held down for maintenance, so a roll-out would never be complete',
      where: { object: `CassandraCluster ${cluster.namespace}/${cluster.name}` },
      expected: 'no spec.maintenance',
      found: cluster.inMaintenance.join(', '),
      todo: 'end the maintenance, wait until status.ready is true, then plan again',
      exit: exitCodes.refused,
    })
  const expected = operatorChecksum(secret.data)
  if (checksum === expected) return
  throw new ReanchorError({
    what: 'the operator has not taken up the CA Secret as it is now',
    where: { object: idOf(secret), field: `metadata.annotations["${operatorAnnotations.checksum}"]` },
    expected,
    found: checksum === '' ? 'no such annotation' : checksum,
    todo: 'wait until the operator is done with it (it looks once a minute), and see its events TLSSecretInvalid; then plan again',
    exit: exitCodes.refused,
  })
}

/** What one look at the declared regions says of how they fit together. `attested`: names under gates.attest. */
export function refuseUnfitRegions(
  regions: Readonly<Record<string, Pick<LiveCa, 'cluster' | 'secret'>>>,
  ca: CassandraCa,
  attested: readonly string[],
): void {
  const sites = Object.keys(regions)
  const [first] = Object.entries(regions)
  for (const [site, { cluster, secret }] of Object.entries(regions)) {
    const id = `site ${site}, CassandraCluster ${cluster.namespace}/${cluster.name}`
    if (cluster.managedRegions.length + 1 !== sites.length)
      throw new ReanchorError({
        what: 'the rotation does not cover every region of the cluster, and one left out would be cut off from the others',
        where: { object: id },
        expected: `${cluster.managedRegions.length + 1} sites: this one and ${cluster.managedRegions.join(', ') || 'no other'}`,
        found: `${sites.length}: ${sites.join(', ')}`,
        todo: 'declare a site for every region that externalRegions.managed lists',
        exit: exitCodes.refused,
      })
    if ((cluster.unmanagedRegions.length > 0 || ca === 'client') && attested.length === 0)
      throw new ReanchorError({
        what:
          ca === 'client'
            ? 'no API shows which CQL clients trust the new CA'
            : 'no operator restarts the nodes of an unmanaged region',
        where: { object: id },
        expected: 'an entry under gates.attest, by which a person says when they trust and when they present it',
        found: cluster.unmanagedRegions.join(', ') || 'none',
        todo: 'add it to rotation.yaml; `reanchor attest` takes the word in phases add and swap',
        example: `gates:\n  attest:\n    - {name: ${ca === 'client' ? 'cql-clients' : 'unmanaged-regions'}, why: no API shows them}`,
        exit: exitCodes.refused,
      })
    const mine = trustedEntries(secret).get(secret.certificateKey)?.sha256
    const theirs =
      first === undefined ? undefined : trustedEntries(first[1].secret).get(first[1].secret.certificateKey)?.sha256
    if (mine === theirs) continue
    throw new ReanchorError({
      what: 'the regions are signed by different CAs',
      where: { object: id },
      expected: `the CA of site ${first?.[0]}: ${theirs}`,
      found: mine ?? 'none',
      todo: 'give every region the same CA Secret first',
      exit: exitCodes.refused,
    })
  }
}
