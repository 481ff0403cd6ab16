import { ReanchorError } from '../../errors.ts'
import { readCertificate } from '../../pki/certificate.ts'
import type {
  CertificateFacts,
  CurrentSource,
  Declaration,
  Fingerprint,
  NextSource,
  TrustState,
} from '../../rotation.ts'
import type { System } from '../system.ts'
import { aliasOf } from './alias.ts'
import { isTrustedKey } from './ca-secret.ts'
import { cassandraRules } from './gates.ts'
import { cassandraModel, partiesOf } from './model.ts'
import { cassandraCourse, checksumSetting, entrySetting, missingStrategies } from './phases.ts'
import { cassandraOf, namespaceOf, settingsRules } from './settings.ts'
import { cassandraWords } from './words.ts'

/**
 * Of two CAs with one alias a truststore holds one, and chance decides which: no node is sure to trust either (F8, F9). An edit that brings such a
 * pair breaks every handshake by either of them on some node.
 */
function trustedByAll(certificates: readonly CertificateFacts[]): readonly Fingerprint[] {
  const byAlias = new Map<string, Set<Fingerprint>>()
  for (const { pem, sha256 } of certificates) {
    const alias = aliasOf(readCertificate(pem, { object: sha256 }))
    byAlias.set(alias, (byAlias.get(alias) ?? new Set()).add(sha256))
  }
  return [...byAlias.values()].flatMap(alike => (alike.size === 1 ? [...alike] : []))
}

/** IBM's Cassandra operator: the CA that signs nodes, or the one for CQL clients, over one or more regions. */
export const cassandra: System = {
  name: 'cassandra',
  title: 'Cassandra',
  role: 'roles/cassandra.yaml',
  settings: settingsRules,
  strategies: missingStrategies,
  async init() {
    const { initCassandra } = await import('./init.ts')
    return initCassandra
  },

  async currentFromCluster(cluster, declared, site) {
    const { currentCa, liveCa } = await import('./material.ts')
    const settings = cassandraOf(declared)
    const place = { namespace: namespaceOf(settings, site.name), name: settings.cluster, ca: settings.ca }
    return currentCa(await liveCa(cluster, place))
  },
  async currentFromFiles(source: Extract<CurrentSource, { from: 'files' }>) {
    throw new ReanchorError({
      what: 'the CA of Cassandra cannot be taken from files',
      where: { field: 'spec.current', file: source.certificate },
      expected: 'from: cluster. The whole Secret is taken over byte for byte, or every node would restart for it',
      found: 'from: files',
      todo: 'let plan read the cluster: current: {from: cluster}',
    })
  },
  // The new CA's key stands in the Secret: an offline root that keeps its key could sign nothing that the operator uses.
  requestSecret: () => null,
  async newCa(declaration: Declaration, next: Extract<NextSource, { from: 'generate' | 'files' }>, means) {
    const { newCassandraCa } = await import('./next-ca.ts')
    return await newCassandraCa(declaration, next, means)
  },
  async accept(declaration, current, next, now) {
    const { acceptCassandra } = await import('./accept.ts')
    acceptCassandra(declaration, current, next, now)
  },
  sealedFiles: ['ca-secret.yaml', 'canary.yaml'],
  // Gone for a moment only, the operator would sign all nodes with a CA that it makes up.
  keptFiles: ['ca-secret.yaml', 'canary.yaml'],
  sealedKey: state => ({ file: 'ca-secret.yaml', key: state.settings.privateKey ?? 'ca.key' }),

  async planSite(inputs) {
    const { planCassandraSite } = await import('./plan-site.ts')
    return planCassandraSite(inputs)
  },
  // The operator makes every leaf anew at each step, and each ends with its CA: no phase waits for a renewal.
  leafHours: () => 0,
  course: (strategy, _declared, { current }) => cassandraCourse(strategy, current),
  parties: declared => partiesOf(cassandraOf(declared).ca),
  model: cassandraModel,

  async observe(options) {
    const { observeCassandra } = await import('./observe.ts')
    const settings = cassandraOf(options.declared)
    const place = { namespace: namespaceOf(settings, options.site), name: settings.cluster, ca: settings.ca }
    return await observeCassandra({ ...options, cassandra: place })
  },
  rules: cassandraRules,
  declaredState(places, planned) {
    const held = places.filter(({ file, key }) => file.endsWith('/ca-secret.yaml') && key !== null && isTrustedKey(key))
    const entries = held.flatMap(({ key, certificates }) => {
      // The operator reads the first block of a key.
      const [first] = certificates
      return key === null || first === undefined ? [] : [[key, first.sha256] as const]
    })
    // Only the plan tells how the CassandraCluster calls the key; an edit that matches no step leaves what stands beside a private key.
    const main = planned?.settings.certificateKey ?? held.find(({ role }) => role === 'issuer')?.key ?? 'ca.crt'
    const issuer = entries.find(([key]) => key === main)?.[1]
    if (issuer === undefined) return null
    const { settings = {}, restarts = {} } = planned ?? {}
    const same = entries.every(([key, sha256]) => settings[`${entrySetting}${key}`] === sha256)
    const state: TrustState = {
      chain: [],
      source: 'plugged',
      restarts,
      bundle: trustedByAll(held.flatMap(({ certificates: [first] }) => first ?? [])),
      issuer,
      settings: {
        ...Object.fromEntries(Object.entries(settings).filter(([name]) => !name.startsWith(entrySetting))),
        ...Object.fromEntries(entries.map(([key, sha256]) => [`${entrySetting}${key}`, sha256])),
        // Of an edited Secret no one here can tell what the operator will write.
        [checksumSetting]: same ? (settings[checksumSetting] ?? '') : '',
      },
    }
    return state
  },

  words: cassandraWords,
  async rehearsal() {
    const { cassandraRehearsal } = await import('../../rehearsal/cassandra/system.ts')
    return cassandraRehearsal
  },
}
