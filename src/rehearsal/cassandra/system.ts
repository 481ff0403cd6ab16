import type { RehearsalSystem, StartingCa } from '../system.ts'
import { type CaPair, scriptCa } from './certificates.ts'
import { cassandraFleet, demoCluster } from './fleet.ts'
import { CassandraNode } from './node.ts'
import { CassandraOperator, nodeVolumes } from './operator.ts'

const tenYears = 10 * 365 * 24

/** The operator and the nodes of every region: one CA, one cluster, mutual TLS between all nodes. */
export const cassandraRehearsal: RehearsalSystem = {
  name: 'cassandra',
  startWorld({ sites, life }) {
    // "Provide the same CA TLS Secret for all regions": made once, with utils/tls.sh, by whoever asks first.
    let shared: Promise<CaPair> | null = null
    let made: CaPair | null = null
    return {
      crossSite: sites.length > 1,
      startSite(site) {
        const operator = new CassandraOperator(site)
        let nodes = 0
        return {
          async bootstrap() {
            shared ??= scriptCa('ca', life(tenYears))
            made = await shared
            const { namespace, secret } = demoCluster
            site.store.put({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } }, 'kubectl-create')
            site.store.put(
              {
                apiVersion: 'v1',
                kind: 'Secret',
                metadata: { name: secret, namespace },
                type: 'Opaque',
                data: {
                  'ca.crt': Buffer.from(made.certificate).toString('base64'),
                  'ca.key': Buffer.from(made.key).toString('base64'),
                },
              },
              'kubectl-create',
            )
          },
          process(pod, { files, ready }) {
            if (pod.metadata.labels?.['cassandra-cluster-component'] !== 'cassandra') return null
            nodes += 1
            return new CassandraNode(site, pod, () => files(nodeVolumes.server), ready)
          },
          startingCa(): StartingCa {
            const { certificate, key } = made ?? { certificate: '', key: '' }
            return { source: 'plugged', certificate, key, root: certificate }
          },
          settled: () => operator.settled,
          up: () => nodes > 0,
        }
      },
    }
  },
  demo: {
    rotation: 'db-2026',
    sites: ['eu-1', 'us-1', 'ap-1'],
    usualSites: 1,
    variants: [],
    byArgo: () => false,
    faults: [],
    start: () => 'one Cassandra cluster, a CA of its own',
    fleet: ({ sites, ageRecipient }) => cassandraFleet({ sites, ageRecipient }),
    variantFlag: null,
    variantOf: () => null,
    async declare(fleet, { rotation, sites, paths, ageRecipient, now }) {
      const { runInit } = await import('../../declaration/init.ts')
      return await runInit({
        system: 'cassandra',
        files: fleet,
        flags: {
          name: rotation,
          site: sites.map(name => `${name}=${paths[name] ?? `trust/${name}`}`),
          context: sites.map(name => `${name}=${name}`),
          delivery: sites.map(name => `${name}=flux:flux-system/trust`),
          age: [ageRecipient],
          forge: 'local',
        },
        existing: () => null,
        now,
        ask: null,
      })
    },
    plansRestart(consumer, before, after) {
      return consumer.includes('/StatefulSet/') && before.settings.checksum !== after.settings.checksum
    },
  },
}
