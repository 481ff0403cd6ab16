import type { Plan } from '../../rotation.ts'
import type { SafetyModel } from '../system.ts'

/**
 * Who meets whom in a Cassandra cluster, and when each takes up what it trusts and presents.
 *
 * Server and client encryption have a CA each, and a rotation is about one of them. A node reads keystore and truststore at its start
 * (Cassandra 3.11 has no reload of them; CASSANDRA-14222 is of 4.0), and all nodes of a region have one key and one certificate. Between nodes both ends
 * verify (`requireClientAuth` is true by default), in a region and across regions.
 */

/** Which of the two CAs of a CassandraCluster is rotated. */
export type CassandraCa = 'server' | 'client'

/** Where a node serves TLS with the certificate of each CA: `ssl_storage_port`, and the native transport. */
export const tlsPorts: Readonly<Record<CassandraCa, number>> = { server: 7001, client: 9042 }

export type CassandraParty = 'node' | 'client' | 'prober' | 'reaper' | 'operator'

export interface CassandraPartyModel {
  /** As in a sentence. */
  readonly name: string
  readonly trust: 'on restart' | 'by hand' | 'never'
  readonly leaf: 'on restart' | 'by hand' | 'at once'
  /** Where the fact is read: file of the upstream project. */
  readonly source: string
}

const cassandraParties: Readonly<Record<CassandraParty, CassandraPartyModel>> = {
  node: {
    name: 'Cassandra node',
    trust: 'on restart',
    leaf: 'on restart',
    source: 'mr-cassop controllers/cassandra_container.go (POD_RESTART_CHECKSUM)',
  },
  client: {
    name: 'CQL client',
    trust: 'by hand',
    leaf: 'by hand',
    source: 'no API shows who connects by CQL: an attestation stands for them',
  },
  prober: {
    name: 'prober',
    // It gets path and password of the truststore as arguments, no checksum: the operator never restarts it for a new CA.
    trust: 'on restart',
    leaf: 'on restart',
    source: 'mr-cassop controllers/prober.go',
  },
  reaper: {
    name: 'reaper',
    trust: 'on restart',
    leaf: 'on restart',
    source: 'mr-cassop controllers/reaper_environment.go',
  },
  operator: {
    name: 'operator',
    // gocql without host verification takes every node; what it presents are the nodes' own files, written anew at every reconcile.
    trust: 'never',
    leaf: 'at once',
    source: 'mr-cassop controllers/cql.go (EnableHostVerification: false), cassandra_tls.go (setupClientTLSFiles)',
  },
}

/** The parties that use one of the two CAs. */
export function partiesOf(ca: CassandraCa): readonly CassandraParty[] {
  return ca === 'server' ? ['node'] : ['node', 'client', 'prober', 'reaper', 'operator']
}

/** Every link that uses the CA of these parties: nodes among each other for the server CA, else nodes and those that connect to them. */
function linksOf(parties: readonly string[]): ReturnType<SafetyModel['links']> {
  const others = parties.filter(party => party !== 'node')
  if (others.length === 0) return [{ name: 'node to node', holder: 'node', verifier: 'node', acrossSites: true }]
  return others.flatMap(other => {
    // It asks the first node that it reaches for all others, those of other regions too.
    if (other === 'operator')
      return [{ name: 'operator to node', holder: other, verifier: 'node', acrossSites: true } as const]
    // Clients may connect to any region; prober and reaper to the nodes of theirs, and the prober to those of all.
    const acrossSites = other !== 'reaper'
    return [
      { name: `node to ${other}`, holder: 'node', verifier: other, acrossSites },
      { name: `${other} to node`, holder: other, verifier: 'node', acrossSites },
    ] as const
  })
}

export const cassandraModel: SafetyModel = {
  links: linksOf,
  partyName: party => (Object.hasOwn(cassandraParties, party) ? cassandraParties[party as CassandraParty].name : party),
  notes(plan) {
    const settingsOf = (site: string): Readonly<Record<string, string>> =>
      plan.phases[0]?.steps[0]?.sites[site]?.state.settings ?? {}
    const perSite = plan.sites.flatMap(({ name }) => [
      ...datacenterNotes(name, settingsOf(name).datacenters ?? ''),
      ...encryptionNotes(name, plan, settingsOf(name)),
    ])
    return [...perSite, ...orderNotes(plan, site => settingsOf(site).proberHost)]
  },
}

/**
 * Where hosts' ports are used, a node starts once all regions before its own, by the names of their probers, have: restarted nodes of a later region wait in
 * PAUSE_INIT as long as an earlier one is not whole.
 */
function orderNotes(
  { batches }: Pick<Plan, 'batches'>,
  hostOf: (site: string) => string | undefined,
): readonly string[] {
  const ordered = batches.flat().filter(site => hostOf(site) !== undefined)
  if (ordered.length < 2) return []
  const sorted = [...ordered].sort((one, other) => ((hostOf(one) ?? '') < (hostOf(other) ?? '') ? -1 : 1))
  const notes: string[] = []
  if (batches.some(batch => batch.filter(site => ordered.includes(site)).length > 1))
    notes.push(
      'hostPort is enabled, and regions restart at the same time: restarted nodes of a later region wait in init until the earlier ones are whole; rollout: serial avoids it',
    )
  if (sorted.join() !== ordered.join())
    notes.push(
      `hostPort is enabled, and the operators start regions in the order ${sorted.join(', ')}, by their probers’ hosts: declare the sites in that order`,
    )
  return notes
}

/** What a rolling restart costs: no PodDisruptionBudget stands in its way, and the operator restarts the datacenters of a region at the same time. */
function datacenterNotes(site: string, datacenters: string): readonly string[] {
  const counted = datacenters.split(' ').flatMap(word => {
    const [name = '', replicas] = word.split('=')
    return replicas === undefined ? [] : [{ name, replicas: Number(replicas) }]
  })
  const notes = counted.flatMap(({ name, replicas }) => {
    const where = `datacenter ${name} of ${site} has ${replicas}`
    if (replicas === 1)
      return [
        `${where} node: while it restarts, what is stored in that datacenter alone is not served, and what asks for a quorum there fails`,
      ]
    if (replicas === 2)
      return [
        `${where} nodes: while one restarts, what asks for a quorum there fails; with 3 nodes and a replication factor of 3 it goes on`,
      ]
    return []
  })
  if (counted.length < 2) return notes
  return [
    ...notes,
    `${site} has ${counted.length} datacenters, which the operator restarts at the same time: one node of each is down at once, so a replication factor of 3 must hold in each`,
  ]
}

/** With `dc` or `rack` only links between datacenters or racks use TLS. */
function encryptionNotes(
  site: string,
  plan: Pick<Plan, 'parties'>,
  { internodeEncryption }: Readonly<Record<string, string>>,
): readonly string[] {
  if (plan.parties.length > 1 || (internodeEncryption !== 'dc' && internodeEncryption !== 'rack')) return []
  const between = internodeEncryption === 'dc' ? 'datacenters' : 'racks'
  return [
    `internodeEncryption: ${internodeEncryption} in ${site}: only links between ${between} use this CA, so that nodes of one of them stay whole while a break between them goes unnoticed; watch the others from there`,
  ]
}
