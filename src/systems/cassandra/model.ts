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

export type CassandraParty = 'node' | 'client' | 'prober' | 'reaper'

export interface CassandraPartyModel {
  /** As in a sentence. */
  readonly name: string
  readonly trust: 'on restart' | 'by hand'
  readonly leaf: 'on restart' | 'by hand'
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
}

/** The parties that use one of the two CAs. */
export function partiesOf(ca: CassandraCa): readonly CassandraParty[] {
  return ca === 'server' ? ['node'] : ['node', 'client', 'prober', 'reaper']
}

/** Every link that uses the CA of these parties: nodes among each other for the server CA, else nodes and those that connect to them. */
function linksOf(parties: readonly string[]): ReturnType<SafetyModel['links']> {
  const others = parties.filter(party => party !== 'node')
  if (others.length === 0) return [{ name: 'node to node', holder: 'node', verifier: 'node', acrossSites: true }]
  return others.flatMap(other => {
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
    const notes: string[] = []
    const seen = new Set<string>()
    for (const site of plan.sites) {
      const state = plan.phases[0]?.steps[0]?.sites[site.name]?.state
      for (const datacenter of (state?.settings.datacenters ?? '').split(' ')) {
        const [name, replicas] = datacenter.split('=')
        if (replicas === undefined || Number(replicas) > 2 || seen.has(`${site.name} ${name}`)) continue
        seen.add(`${site.name} ${name}`)
        notes.push(
          `datacenter ${name} of ${site.name} has ${replicas} ${replicas === '1' ? 'node' : 'nodes'}: while one restarts, what asks for a quorum there fails; a replication factor of 3 or more goes on`,
        )
      }
    }
    return notes
  },
}
