import type { SystemWords } from '../system.ts'
import { cassandraOf, namespaceOf } from './settings.ts'

/** What to watch while a phase rolls out. Commands only read. */
const rolling = [
  'Every node of the region restarts, one after the other in each datacenter, and the nodes’ Secret is made anew: `kubectl get statefulset,pod -l cassandra-cluster-component=cassandra` shows how far it is.',
  'The operator’s checksum in the annotation of the CA Secret changes before the first node restarts: it proves no restart.',
]

const watch: Readonly<Record<string, readonly string[]>> = {
  adopt: ['No node restarts: the Secret has the bytes that it had.'],
  add: [...rolling, 'Nodes that have restarted trust both CAs; all still present the old one.'],
  swap: [
    ...rolling,
    'Nodes that have restarted present the new CA. `cqlsh` inside a node that has not yet may fail for a minute: it trusts what signs now, and its own node presents what signed before.',
  ],
  drop: [...rolling, 'From here on nothing of the old CA is trusted: a client or region that was forgotten fails now.'],
  replace: [...rolling, 'Nodes that have restarted and those that have not refuse one another until the last has.'],
}

export const cassandraWords: SystemWords = {
  watch: phase => watch[phase] ?? [],
  emergency:
    'Nodes that have restarted with the new CA and those that have not refuse one another, within a region and between regions, until every node has restarted.',
  acceptOutage:
    'run `reanchor plan --accept-outage`: nodes before and after their restart refuse one another, so that quorums fail until every region is through',
  nudge: 'nothing: a node takes its material up when the operator restarts it',
  cleanUp(declaration) {
    const { ca } = cassandraOf(declaration)
    return [
      ca === 'server'
        ? 'take the old CA out of the nodes of unmanaged regions, which no operator restarts'
        : 'take the old CA out of the truststores of CQL clients',
    ]
  },
  places(declared, site, { settings }) {
    const {
      namespace = namespaceOf(cassandraOf(declared), site.name),
      secret = '',
      certificateKey = 'ca.crt',
    } = settings
    const id = `Secret ${namespace}/${secret}`
    return { anchors: `${id}: *.crt`, issuer: `${id}: ${certificateKey}` }
  },
  fitting(currents, now) {
    const expired = currents.map(({ issuer }) => issuer).find(({ notAfter }) => Date.parse(notAfter) <= now.getTime())
    return [
      {
        strategy: 'graceful',
        fits: expired === undefined,
        why:
          expired === undefined
            ? 'a new CA under a Subject of its own, and no outage; three restarts of all nodes'
            : `the CA ${expired.subject} has expired, and every node certificate with it: there is no overlap to keep`,
      },
      {
        strategy: 'emergency',
        fits: true,
        why: 'only where the key is in foreign hands, or the CA has expired: nodes refuse one another while it rolls out',
      },
    ]
  },
  takeOvers(_declaration, _site, adopted) {
    const { namespace = '', secret = '' } = adopted.settings
    return [{ namespace, name: secret, file: 'ca-secret.yaml' }]
  },
}
