import type { Plan } from '../../rotation.ts'
import type { SystemWords } from '../system.ts'
import { checksumSetting, entrySetting } from './phases.ts'
import { cassandraOf, namespaceOf } from './settings.ts'

/** What to watch while a phase rolls out. Commands only read, but for those that a person has to run. */
function watchOf(phase: string, plan: Plan): readonly string[] {
  const own = watch[phase]
  if (own === undefined) return []
  const settings = Object.values(plan.phases[0]?.steps[0]?.sites ?? {})[0]?.state.settings ?? {}
  if (phase === 'adopt') return own
  return [
    ...rolling(settings, checksums(phase, plan)),
    ...own,
    ...(plan.parties.includes('prober') ? helpers(settings) : []),
    ...words(phase, plan),
  ]
}

/** What the operator's annotation will be: of all regions the same, unless their Secrets hold other things besides. */
function checksums(phase: string, plan: Plan): string {
  const sites = Object.entries(plan.phases.find(({ name }) => name === phase)?.steps.at(-1)?.sites ?? {})
  const bySite = sites.map(([site, { state }]) => ({ site, checksum: `\`${state.settings[checksumSetting] ?? ''}\`` }))
  const different = [...new Set(bySite.map(({ checksum }) => checksum))]
  if (different.length === 1) return different.join()
  return bySite.map(({ site, checksum }) => `${checksum} (${site})`).join(', ')
}

function rolling(
  { namespace = '', cluster = '', secret = '' }: Readonly<Record<string, string>>,
  checksum: string,
): readonly string[] {
  const ours = `-l cassandra-cluster-instance=${cluster},cassandra-cluster-component=cassandra`
  return [
    `Every node of the region restarts, one at a time in each datacenter and all datacenters side by side; each gets a new certificate, whatever changed: \`kubectl --namespace ${namespace} get statefulset,pod ${ours}\` shows how far it is.`,
    `Within two minutes of the delivery the operator writes ${checksum} into the annotation \`cassandra-cluster-checksum\` of the Secret ${secret}; if not, see that it runs, and its events \`TLSSecretInvalid\`. It does so before the first node restarts: it proves no restart.`,
  ]
}

/** The operator restarts neither for a new CA, and a node's readiness goes through the prober. */
function helpers({ namespace = '' }: Readonly<Record<string, string>>): readonly string[] {
  return [
    `Once every node has restarted, restart prober and reaper, which the operator does not: \`kubectl --namespace ${namespace} rollout restart deployment -l 'cassandra-cluster-component in (prober,reaper)'\`. The next step waits for it.`,
  ]
}

/** What somebody has to vouch for before the next step. */
function words(phase: string, plan: Plan): readonly string[] {
  const number = plan.phases.find(({ name }) => name === phase)?.number ?? 0
  const done = { add: 'trust the new CA', swap: 'present certificates of the new CA, where they present any' }[phase]
  if (done === undefined) return []
  return plan.gates.attest.map(
    ({ name, why }) =>
      `The next step waits for a word that they ${done}: \`reanchor attest ${name} --phase ${number}\` (${why}).`,
  )
}

const watch: Readonly<Record<string, readonly string[]>> = {
  adopt: ['No node restarts: the Secret has the bytes that it had.'],
  add: ['Nodes that have restarted trust both CAs; all still present the old one.'],
  swap: [
    'Nodes that have restarted present the new CA. `cqlsh` inside a node that has not yet may fail for a minute: it trusts what signs now, and its own node presents what signed before.',
  ],
  drop: ['From here on nothing of the old CA is trusted: a client or region that was forgotten fails now.'],
  replace: ['Nodes that have restarted and those that have not refuse one another until the last has.'],
}

export const cassandraWords: SystemWords = {
  watch: watchOf,
  restarting: (before, after) =>
    before.settings[checksumSetting] === after.settings[checksumSetting]
      ? []
      : ['every node of the region, one after the other, by the operator'],
  alarm:
    'Alarm: a node that `nodetool status` does not show as UN fifteen minutes after its restart; the operator goes on to no other one before, and neither should you.',
  // What stands under which key is in the table of certificates, the operator's checksum in what to watch.
  toldElsewhere: setting => setting === 'keys' || setting === checksumSetting || setting.startsWith(entrySetting),
  emergency:
    'Nodes that have restarted with the new CA and those that have not refuse one another, within a region and between regions, until every node has restarted.',
  acceptOutage:
    'run `reanchor plan --accept-outage`: nodes before and after their restart refuse one another, so that quorums fail until every region is through',
  nudge: 'nothing: a node takes its material up when the operator restarts it',
  cleanUp(declaration) {
    const { ca } = cassandraOf(declaration)
    return [
      ca === 'server'
        ? 'take the old CA out of the nodes of regions that no operator restarts, if there are any'
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
