import { operatorLabels } from '../../systems/cassandra/cassandra-cluster.ts'
import type { CassandraCa } from '../../systems/cassandra/model.ts'
import { cassandraOf } from '../../systems/cassandra/settings.ts'
import { namespaceOf } from '../manifests.ts'
import { nodeOf, podKey } from '../site.ts'
import type { RehearsalSystem, StartingCa } from '../system.ts'
import { type CaPair, scriptCa } from './certificates.ts'
import { cassandraFleet, demoCluster, outsidersOf, scenarioOf, scenarios } from './fleet.ts'
import { Outsider } from './outsider.ts'
import { meanwhile } from './people.ts'
import { CassandraRegion } from './region.ts'

/** The second of two: nodes are spread over both. */
const staleNode = 'node-2'
const tenYears = 10 * 365 * 24

/** The operator, the nodes and their prober and reaper in every region: one cluster, one CA between nodes and one for clients. */
export const cassandraRehearsal: RehearsalSystem = {
  name: 'cassandra',
  startWorld({ sites, life, variant }) {
    const rotated: CassandraCa = scenarioOf(variant) === 'client-ca' ? 'client' : 'server'
    // "Provide the same CA TLS Secret for all regions": made once, with utils/tls.sh, by whoever asks first.
    let making: Promise<void> | null = null
    const made = new Map<CassandraCa, CaPair>()
    const outsiders: Outsider[] = []
    const regions: CassandraRegion[] = []
    const meet = async (ca: CassandraCa, name: string): Promise<void> => {
      const pair = made.get(ca)
      if (pair === undefined || outsiders.some(outsider => outsider.name === name)) return
      outsiders.push(await Outsider.make(name, { ca, pair, life: life(tenYears), changed: () => changed() }))
      changed()
    }
    const make = async (): Promise<void> => {
      made
        .set('server', await scriptCa('ca', life(tenYears)))
        .set('client', await scriptCa('ca-client', life(tenYears)))
      if (rotated === 'client')
        for (const name of outsidersOf['client-ca'].names) await meet('client', `clients/${name}`)
    }
    let changed = (): void => {}
    return {
      crossSite: sites.length > 1,
      startSite(site) {
        changed = () => site.handshakes.controlChanged()
        const region = new CassandraRegion(site, {
          ca: which => made.get(which) ?? null,
          outsiders,
          bringUp: async seeds => {
            for (const seed of seeds) await meet('server', `unmanaged/${seed}`)
          },
        })
        regions.push(region)
        return {
          async bootstrap() {
            making ??= make()
            await making
            site.store.put(namespaceOf(demoCluster.namespace), 'kubectl-create')
          },
          process: (pod, means) => region.process(pod, means),
          startingCa(): StartingCa {
            const { certificate, key } = made.get(rotated) ?? { certificate: '', key: '' }
            return { source: 'plugged', certificate, key, root: certificate }
          },
          settled: () => region.operator.settled,
          up: () => region.nodes.length > 0,
          strike(fault) {
            const { namespace, name, secret } = demoCluster
            if (fault === 'never-reloads') {
              region.operator.paused = true
              return {
                culprit: () => `${namespace}/${secret}`,
                recover() {
                  region.operator.paused = false
                },
              }
            }
            const nodes = site.store.get('', 'Secret', namespace, `${name}-cluster-tls-node`)
            const remembered = nodes === null ? null : structuredClone(nodes)
            site.faults.staleNodes.set(
              staleNode,
              new Map([[`Secret/${namespace}/${name}-cluster-tls-node`, remembered]]),
            )
            return {
              culprit() {
                const pods = site.store.list('', 'Pod', namespace)
                const struck = pods.find(
                  pod => pod.metadata.labels?.[operatorLabels.component] === 'cassandra' && nodeOf(pod) === staleNode,
                )
                return struck === undefined ? null : podKey(struck)
              },
              recover: () => void site.faults.staleNodes.delete(staleNode),
            }
          },
        }
      },
    }
  },
  demo: {
    rotation: 'db-2026',
    beginsDaysAgo: 3,
    sites: ['eu-1', 'us-1', 'ap-1'],
    usualSites: 1,
    variantFlag: 'scenario',
    variants: scenarios,
    variantOf: declaration => {
      if (cassandraOf(declaration).ca === 'client') return 'client-ca'
      // Beside clients only unmanaged regions need a person's word.
      return declaration.gates.attest.length > 0 ? 'unmanaged-region' : 'server-ca'
    },
    byArgo: () => false,
    faults: variant =>
      scenarioOf(variant) !== 'server-ca'
        ? null
        : {
            widening: 'add',
            switching: 'swap',
            cluster: {
              'never-reloads': { phase: 'add', what: 'the operator hangs, and takes up no change of the CA Secret' },
              'replica-lags': { phase: 'swap', what: `the kubelet of ${staleNode} keeps the nodes’ old Secret` },
            },
            edit: folder => ({ file: 'ca.crt.pem', text: folder.get('ca2.crt.pem') ?? '' }),
          },
    start: () => 'one Cassandra cluster, a CA of its own',
    fleet: ({ sites, ageRecipient, variant }) => cassandraFleet({ sites, ageRecipient, scenario: scenarioOf(variant) }),
    async declare(fleet, { rotation, sites, paths, ageRecipient, variant, now }) {
      const { runInit } = await import('../../declaration/init.ts')
      const written = await runInit({
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
      const scenario = scenarioOf(variant)
      if (scenario === 'server-ca') return written
      return { path: written.path, text: await engineersTouch(written.text, scenario) }
    },
    meanwhile,
    vouches: true,
    plansRestart(consumer, before, after, plan) {
      if (before.settings.checksum === after.settings.checksum) return false
      // Prober and reaper are restarted by a person, and only where they use the CA.
      return consumer.includes('/StatefulSet/') || plan.parties.includes('prober')
    },
  },
}

/** `init` proposes the CA between nodes where there are both; whoever rotates the other one says so, and who vouches for those whom no API shows. */
async function engineersTouch(text: string, scenario: keyof typeof outsidersOf): Promise<string> {
  const { parseDocument } = await import('yaml')
  const document = parseDocument(text)
  if (scenario === 'client-ca') document.setIn(['spec', 'cassandra', 'ca'], 'client')
  const { attested, why } = outsidersOf[scenario]
  document.setIn(['spec', 'gates', 'attest'], [{ name: attested, why }])
  return document.toString()
}
