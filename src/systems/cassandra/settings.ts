import { mapAt, unknownSite } from '../../declaration/raw.ts'
import type { SystemPart } from '../../rotation.ts'
import type { SettingsRules } from '../system.ts'
import type { CassandraCa } from './model.ts'

/** What `spec.cassandra` says: which CassandraCluster, and which of its two CAs. */
export interface CassandraSettings {
  /** metadata.name of the CassandraCluster, which is the same in every region. */
  readonly cluster: string
  readonly namespace: string
  /** Where a region has it in another namespace, by site. */
  readonly namespaces: Readonly<Record<string, string>>
  /** Server and client encryption have a CA each; one rotation is about one of them. */
  readonly ca: CassandraCa
}

export function cassandraOf(part: SystemPart): CassandraSettings {
  if (part.system === 'cassandra') return part.cassandra
  throw new Error(`spec.cassandra was asked for in a rotation of ${part.system}`)
}

export function namespaceOf(settings: CassandraSettings, site: string): string {
  return settings.namespaces[site] ?? settings.namespace
}

export const settingsRules: SettingsRules = {
  // Two regions that restart at once wait for one another where hosts' ports are used, and a rack down in each is a quorum lost.
  defaults: { rollout: 'serial', hold: '2m', algorithm: 'rsa-4096', validity: '3650d' },
  stem: 'db',
  issuing: false,
  // The Subject becomes the alias in every truststore: a rotation's name is used once in a repository, so its CA's Subject is too.
  subjects(rotation, part) {
    const subject = `O=${cassandraOf(part).cluster}-${rotation}`
    return { root: subject, issuing: subject }
  },
  checks(spec, siteNames) {
    const namespaces = mapAt(spec, ['cassandra', 'namespaces'])
    return Object.keys(namespaces ?? {})
      .filter(site => !siteNames.includes(site))
      .map(site => ({ ...unknownSite(['spec', 'cassandra', 'namespaces', site], site, siteNames), atKey: true }))
  },
  paths: () => [],
  fill(spec) {
    const { cassandra } = spec
    if (cassandra === undefined) throw new Error('a declaration without spec.cassandra passed the checks')
    const { cluster, namespace, namespaces, ca } = cassandra
    return { system: 'cassandra', cassandra: { cluster, namespace, namespaces: namespaces ?? {}, ca } }
  },
  write(out, part) {
    const settings = cassandraOf(part)
    out.field('cluster', settings.cluster, 'the CassandraCluster, of one name in every region')
    out.field('namespace', settings.namespace)
    const own = Object.entries(settings.namespaces)
    if (own.length > 0)
      out.map('namespaces', () => {
        for (const [site, namespace] of own) out.field(site, namespace)
      })
    out.field('ca', settings.ca, 'server: between nodes | client: of CQL clients; each is a rotation of its own')
  },
}
