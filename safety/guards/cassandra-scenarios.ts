import { demoCluster } from '../../src/rehearsal/cassandra/fleet.ts'
import { meanwhile } from '../../src/rehearsal/cassandra/people.ts'
import { cassandraRegionOf } from '../../src/rehearsal/cassandra/region.ts'
import { listAt, numberAt, type ObjectStore, textAt } from '../../src/rehearsal/objects.ts'
import type { DemoMoment } from '../../src/rehearsal/system.ts'
import { operatorAnnotations, restartVariable } from '../../src/systems/cassandra/cassandra-cluster.ts'
import type { TestWorldOptions } from '../../test/rotations/world.ts'
import { quickKeys } from '../../test/systems/kyma/material.ts'
import type { Opened } from './drive.ts'
import type { Scenario } from './scenario.ts'
import { struck, suspendFlux, unopened } from './strike.ts'

const one: TestWorldOptions = { system: 'cassandra', keys: quickKeys }
const two: TestWorldOptions = { ...one, sites: ['eu-1', 'us-1'] }
const clients: TestWorldOptions = { ...one, variant: 'client-ca' }

const eu = ({ test }: Opened) => test.site('eu-1')
const operator = (at: Opened) => cassandraRegionOf(eu(at).store).operator

const nodes = `${demoCluster.namespace}/StatefulSet/${demoCluster.name}-cassandra-eu-1`

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
  unopened('cassandra-sealed', one, 'eu-1', 'add/data', 'a CA’s key'),
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
  struck(
    'cassandra-stale-everywhere',
    'no kubelet sees the nodes’ Secret change when both CAs are to be trusted',
    one,
    {
      before: 'add/data',
      act: at => {
        const { store, faults, workloads } = eu(at)
        const { namespace, name } = demoCluster
        const secret = `${name}-cluster-tls-node`
        const old = structuredClone(store.get('', 'Secret', namespace, secret))
        for (const node of workloads.nodes)
          faults.staleNodes.set(node, new Map([[`Secret/${namespace}/${secret}`, old]]))
      },
      until: 'swap/data',
      heal: at => eu(at).faults.staleNodes.clear(),
    },
  ),
  struck('cassandra-stuck-node', 'a node that is to read both CAs does not get ready for long', one, {
    before: 'add/data',
    act: at => eu(at).faults.neverReady.add(nodes),
    until: 'swap/data',
    heal: at => eu(at).faults.neverReady.delete(nodes),
  }),
  struck(
    'cassandra-unseen-swap',
    'a node restarts with the keystore that its kubelet had before the swap, and no port-forward is allowed',
    one,
    {
      before: 'swap/data',
      act: at => {
        eu(at).system.strike?.('replica-lags', undefined)
        eu(at).faults.api.push({ asked: /^handshake with /, failure: 'forbidden' })
      },
    },
  ),
  struck(
    'cassandra-crossed',
    'another write takes the operator’s annotation away a minute after all nodes have restarted, and no hold is asked for',
    { ...one, change: declared => ({ ...declared, gates: { ...declared.gates, hold: 0 } }) },
    {
      before: 'add/data',
      pause: 10_000,
      act: crossWrites,
      held: at =>
        at.step === 'swap/data' && crossed.get(at.test) !== 'over'
          ? 'nodes are to present the new CA while the operator has another roll-out before it'
          : undefined,
    },
  ),
]

/** Whether the operator still has to find out that its write was crossed, or has been through the roll-out that follows. */
const crossed = new WeakMap<Opened['test'], 'ahead' | 'over'>()

/** A minute after all nodes have the new stores, the annotation is gone; the operator finds that when it looks again, and signs all nodes anew. */
function crossWrites({ test, world }: Opened): void {
  const { store } = test.site('eu-1')
  const { clock } = world.rehearsal
  const { operator } = cassandraRegionOf(store)
  const restarted = (): boolean => operator.settled && nodeSet(store).rolled
  crossed.set(test, 'ahead')
  const after = (seconds: number, event: () => boolean): void =>
    void clock.after(seconds * 1000, () => {
      if (!event()) after(5, event)
    })
  const token = nodeSet(store).token
  after(5, () => {
    if (nodeSet(store).token === token || !restarted()) return false
    clock.after(60_000, () => {
      const { namespace, secret } = demoCluster
      const live = store.get('', 'Secret', namespace, secret)
      if (live === null) throw new Error('there is no CA Secret')
      const second = nodeSet(store).token
      store.update(live, 'kubectl-annotate', next => {
        next.metadata.annotations = Object.fromEntries(
          Object.entries(next.metadata.annotations ?? {}).filter(([key]) => key !== operatorAnnotations.checksum),
        )
      })
      after(5, () => {
        if (nodeSet(store).token === second || !restarted()) return false
        crossed.set(test, 'over')
        return true
      })
    })
    return true
  })
}

/** What the operator asks its nodes to restart for, and whether all have. */
function nodeSet(store: ObjectStore): { readonly token: string; readonly rolled: boolean } {
  const { namespace, name } = demoCluster
  const set = store.get('apps', 'StatefulSet', namespace, `${name}-cassandra-eu-1`)
  const [container] = listAt(set, 'spec', 'template', 'spec', 'containers')
  const variable = listAt(container, 'env').find(each => textAt(each, 'name') === restartVariable)
  const all = numberAt(set, 'spec', 'replicas')
  const rolled = numberAt(set, 'status', 'updatedReplicas') === all && numberAt(set, 'status', 'readyReplicas') === all
  return { token: textAt(variable, 'value') ?? '', rolled }
}
