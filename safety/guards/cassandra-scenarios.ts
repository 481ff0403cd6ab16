import { canaryName } from '../../src/names.ts'
import { demoCluster } from '../../src/rehearsal/cassandra/fleet.ts'
import { meanwhile } from '../../src/rehearsal/cassandra/people.ts'
import { cassandraRegionOf } from '../../src/rehearsal/cassandra/region.ts'
import type { DemoMoment } from '../../src/rehearsal/system.ts'
import type { TestWorldOptions } from '../../test/rotations/world.ts'
import { quickKeys } from '../../test/systems/kyma/material.ts'
import type { Opened } from './drive.ts'
import type { Scenario } from './scenario.ts'
import { struck, suspendFlux } from './strike.ts'

const one: TestWorldOptions = { system: 'cassandra', keys: quickKeys }
const two: TestWorldOptions = { ...one, sites: ['eu-1', 'us-1'] }
const clients: TestWorldOptions = { ...one, variant: 'client-ca' }

const eu = ({ test }: Opened) => test.site('eu-1')
const operator = (at: Opened) => cassandraRegionOf(eu(at).store).operator

/** People do their part, but for what this gate asks of them. */
function butFor(gate: string): (moment: DemoMoment) => Promise<void> {
  return async moment => await meanwhile({ ...moment, gates: moment.gates.filter(({ id }) => id !== gate) })
}

export const cassandraScenarios: readonly Scenario[] = [
  struck('cassandra-operator-hangs', 'the operator hangs while the new CA is to be trusted, and goes on later', one, {
    before: 'add/data',
    act: at => eu(at).system.strike?.('never-reloads', undefined),
    until: 'swap/data',
    heal: at => {
      operator(at).paused = false
    },
  }),
  struck('cassandra-stale-swap', 'a node restarts with the keystore that its kubelet had before the swap', one, {
    before: 'swap/data',
    act: at => eu(at).system.strike?.('replica-lags', undefined),
  }),
  struck(
    'cassandra-no-restart',
    'the operator makes stores anew, and restarts no node, as another region does not answer',
    one,
    {
      before: 'add/data',
      act: at => {
        operator(at).remoteRegionsDown = true
      },
      until: 'swap/data',
      heal: at => {
        operator(at).remoteRegionsDown = false
      },
    },
  ),
  struck('cassandra-region-hangs', 'the operator of the second region hangs from the new CA on', two, {
    before: 'add/data',
    site: 'us-1',
    act: ({ test }) => {
      cassandraRegionOf(test.site('us-1').store).operator.paused = true
    },
  }),
  struck('cassandra-regions', 'nothing: two regions, one after the other', two, { act: () => {} }),
  struck('cassandra-suspended', 'Flux is suspended when the new CA is merged', one, {
    before: 'add/data',
    act: at => suspendFlux(eu(at).store, true),
    until: 'swap/data',
    heal: at => suspendFlux(eu(at).store, false),
  }),
  struck('cassandra-sealed', 'the cluster has no key that opens what was sealed', one, {
    before: 'adopt/adopt',
    act: at => eu(at).kubectlDelete('', 'Secret', 'flux-system', 'sops-age'),
    held: ({ step, test }) =>
      step === 'add/data' &&
      test
        .store('eu-1')
        .list('', 'Secret')
        .every(({ metadata }) => metadata.name !== canaryName)
        ? 'a CA’s key is to be sealed for a cluster that has opened nothing so far'
        : undefined,
  }),
  struck('cassandra-prober', 'nobody restarts prober and reaper for the new client CA', clients, {
    people: butFor('cassandra/helpers-restarted'),
    act: () => {},
  }),
  struck('cassandra-clients', 'nobody tells the clients of the new CA, and nobody vouches for them', clients, {
    people: butFor('cassandra/attested'),
    act: () => {},
  }),
  struck('cassandra-stranger', 'a pod that nobody declared mounts the nodes’ stores', one, {
    before: 'add/data',
    act: at => {
      const { namespace, name } = demoCluster
      eu(at).kubectlApply({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'backup', namespace, labels: { app: 'backup' } },
        spec: {
          containers: [{ name: 'backup', image: 'backup:1' }],
          volumes: [{ name: 'tls', secret: { secretName: `${name}-cluster-tls-node` } }],
        },
      })
    },
    held: ({ step, test }) =>
      step === 'swap/data' && test.store('eu-1').get('', 'Pod', demoCluster.namespace, 'backup') !== null
        ? 'nodes are to present the new CA while a pod trusts only the old one that nobody has vouched for'
        : undefined,
  }),
]
