import { type Guard, withoutGates } from './guard.ts'

const hangs = { caughtBy: 'cassandra-operator-hangs', gates: ['cassandra/taken-up', 'cassandra/roots-trusted'] }
const stale = {
  caughtBy: 'cassandra-stale-swap',
  gates: ['cassandra/nodes-restarted', 'cassandra/roots-trusted', 'cassandra/leaves-presented'],
}
const down = {
  caughtBy: 'cassandra-no-restart',
  gates: ['cassandra/cluster', 'cassandra/nodes-restarted', 'cassandra/roots-trusted'],
}
const suspended = {
  caughtBy: 'cassandra-suspended',
  gates: ['delivery/applied', 'cassandra/secret', 'cassandra/taken-up', 'cassandra/roots-trusted'],
}

export const cassandraGuards: readonly Guard[] = [
  {
    name: 'cassandra/taken-up',
    prevents: 'nodes present the new CA before the operator has given anyone the truststore that holds it',
    failures: ['F2', 'F23'],
    ...hangs,
  },
  {
    name: 'cassandra/roots-trusted',
    prevents: 'nodes present the new CA to nodes that do not trust it',
    failures: ['F2', 'F14'],
    ...hangs,
  },
  {
    name: 'cassandra/nodes-restarted',
    prevents: 'a node that restarted with the stores that its kubelet had counts as restarted',
    failures: ['F3', 'F19'],
    ...stale,
  },
  {
    name: 'cassandra/leaves-presented',
    prevents: 'the old CA goes while a node still presents a certificate of it',
    failures: ['F1', 'F19', 'F21'],
    ...stale,
  },
  {
    name: 'cassandra/cluster',
    prevents: 'a step opens while the operator says that the cluster is not ready',
    failures: ['F14'],
    ...down,
  },
  {
    name: 'delivery/applied',
    prevents: 'a step opens while the deliverer has not applied the one before',
    failures: ['F23'],
    ...suspended,
  },
  {
    name: 'cassandra/secret',
    prevents: 'a step opens while the CA Secret lacks what the one before was to put there',
    failures: ['F23'],
    ...suspended,
  },
  {
    name: 'cassandra/canary',
    prevents: 'a step opens although the cluster cannot open what was sealed for it',
    failures: ['F29', 'F30'],
    caughtBy: 'cassandra-sealed',
    gates: ['cassandra/canary', 'delivery/applied'],
  },
  {
    name: 'cassandra/helpers-restarted',
    prevents: 'nodes present the new CA to a prober that started with the old truststore, and get unready',
    failures: ['F11', 'F12'],
    caughtBy: 'cassandra-prober',
    gates: ['cassandra/helpers-restarted'],
  },
  {
    name: 'cassandra/attested',
    prevents: 'nodes present the new CA to clients that no API shows and nobody has told',
    failures: ['F20'],
    caughtBy: 'cassandra-clients',
    gates: ['cassandra/attested'],
  },
  {
    name: 'cassandra/strangers-declared',
    prevents: 'a pod that mounts the nodes’ stores and that nobody declared is forgotten',
    failures: ['F20'],
    caughtBy: 'cassandra-stranger',
    gates: ['cassandra/strangers-declared'],
  },
  {
    name: 'cassandra/replaced-leaf',
    prevents: 'nodes that all read an old keystore, and so trust the old CA alone, count as restarted with the new one',
    failures: ['F19', 'F24'],
    caughtBy: 'cassandra-stale-everywhere',
    removals: [
      {
        file: 'src/systems/cassandra/observe.js',
        find: 'return options.place.phase > 0 && leafAt !== null && notBefore < Date.parse(leafAt) - clocksApart;',
        replace: 'return false;',
      },
    ],
  },
  {
    name: 'cassandra/rolled',
    prevents: 'nodes present the new CA while a roll-out is stuck, and nodes behind it trust the old one',
    failures: ['F14'],
    caughtBy: 'cassandra-stuck-node',
    gates: [
      'cassandra/rolled',
      'cassandra/cluster',
      'cassandra/nodes-restarted',
      'cassandra/roots-trusted',
      'cassandra/leaves-presented',
    ],
  },
  {
    name: 'cassandra/consumers-seen',
    prevents: 'the old CA goes while nobody knows what a node presents',
    failures: ['F27'],
    caughtBy: 'cassandra-unseen-swap',
    gates: ['cassandra/consumers-seen', 'cassandra/leaves-presented'],
  },
  {
    name: 'cassandra/stable',
    prevents: 'a step opens between two roll-outs of one change',
    failures: ['F14'],
    caughtBy: 'cassandra-crossed',
    removals: [withoutGates(['cassandra/stable'])],
  },
  {
    name: 'order/every-site',
    prevents: 'one region goes on while another has not taken up the step before',
    failures: ['F2', 'F25'],
    caughtBy: 'cassandra-region-hangs',
    removals: [
      {
        file: 'src/plan/advance.js',
        find: ".filter(([site, index]) => index >= 0 && verdicts[site]?.verdict !== 'holds')",
        replace:
          ".filter(([site, index]) => index >= 0 && plan.batches[0].includes(site) && verdicts[site]?.verdict !== 'holds')",
      },
    ],
  },
  {
    name: 'order/barrier',
    prevents: 'the first region enters a step before the second has entered the one before',
    failures: ['F25'],
    caughtBy: 'cassandra-regions',
    removals: [
      {
        file: 'src/plan/advance.js',
        find: 'const last = Math.min(...reached);',
        replace: 'const last = Math.max(...reached);',
      },
    ],
  },
]
