import { ClusterError } from '../../src/cluster/cluster.ts'
import { kymaSiteOf } from '../../src/rehearsal/kyma/system.ts'
import { startingRoot } from '../../src/rehearsal/rehearsal.ts'
import { kymaProfiles } from '../../src/systems/kyma/profile.ts'
import type { TestWorld, TestWorldOptions } from '../../test/rotations/world.ts'
import { quickKeys } from '../../test/systems/kyma/material.ts'
import { type Ending, mergeAll, type Opened } from './drive.ts'
import { leadTo } from './people.ts'
import type { Scenario } from './scenario.ts'
import { hour, struck, suspendFlux, unopened } from './strike.ts'

const central: TestWorldOptions = { system: 'kyma', variant: 'graceful', keys: quickKeys, daysAgo: 30 }

/** Where the gateway reads its CA from a file, at its start. The key stays, so what a stale gateway comes to is that it trusts the old CA to the end. */
const filed: TestWorldOptions = { ...central, variant: 'soon-to-expire' }

const { gateway } = kymaProfiles['1.18']
const { gateway: filedGateway } = kymaProfiles.runbook
const installer = 'kyma-installer'

function gatewaySecret(test: TestWorld) {
  const found = test.store('central').get('', 'Secret', gateway.namespace, gateway.secret)
  if (found === null) throw new Error('the gateway has no Secret')
  return found
}

function gatewayBundle(test: TestWorld): string {
  const { data } = gatewaySecret(test) as { readonly data?: Readonly<Record<string, string>> }
  return Buffer.from(data?.[gateway.key] ?? '', 'base64').toString('utf8')
}

/** As the job does where one of the two Secrets is not complete, or an override is set. */
function writeOver(test: TestWorld): void {
  const { root } = test.site('central').system.startingCa()
  test.store('central').update(gatewaySecret(test), 'application-connectivity-certs-setup-job', next => {
    next.data = { ...(next.data as object), [gateway.key]: Buffer.from(root).toString('base64') }
  })
}

export const kymaScenarios: readonly Scenario[] = [
  struck('kyma-plain', 'nothing', central, { patience: 3 * hour, act: () => {} }),
  struck('kyma-deaf-gateway', 'one pod of the gateway misses the push of both CAs', central, {
    before: 'trust-both/data',
    act: ({ test }) => test.site('central').system.strike?.('replica-lags', undefined),
  }),
  struck(
    'kyma-setup-job',
    'Kyma’s setup job writes the old CA over the gateway’s Secret, and Flux is suspended',
    central,
    {
      after: 'trust-both/data',
      patience: 3 * hour,
      async act({ test, world }) {
        await world.rehearsal.run(hour / 6)
        suspendFlux(test.site('central').store, true)
        writeOver(test)
      },
      held: ({ test, step }) =>
        step === 'issue-new/data' && test.site('central').system.startingCa().root === gatewayBundle(test)
          ? 'the connector is to issue from a CA that the gateway’s Secret does not hold'
          : undefined,
    },
  ),
  struck('kyma-stubborn-runtime', 'one runtime renews its certificate neither by itself nor when told', central, {
    before: 'issue-new/data',
    patience: 3 * hour,
    act: ({ test }) => test.site('central').system.strike?.('never-reloads', undefined),
  }),
  struck('kyma-applications', 'nobody renews the applications’ certificates, and nobody vouches for them', central, {
    people: async moment => {
      const told = moment.gates.filter(({ id }) => id !== 'kyma/attested')
      for (const { store } of moment.rehearsal.sites.values())
        if (told.some(({ id, verdict }) => id === 'kyma/runtimes-renewed' && verdict !== 'holds'))
          for (const runtime of kymaSiteOf(store).runtimes) runtime.ask()
    },
    patience: 3 * hour,
    act: () => {},
  }),
  struck('kyma-cut-off', 'the network of one runtime is cut, and comes back when the old CA is to go', central, {
    before: 'issue-new/data',
    patience: 3 * hour,
    act: ({ test }) => {
      const [runtime] = kymaSiteOf(test.store('central')).runtimes
      if (runtime !== undefined) runtime.cutOff = true
    },
    until: 'trust-new/data',
    heal: ({ test }) => {
      for (const runtime of kymaSiteOf(test.store('central')).runtimes) runtime.cutOff = false
    },
  }),
  struck('kyma-unseen-runtime', 'one runtime renews nothing, and its cluster refuses to be read', central, {
    before: 'issue-new/data',
    patience: 3 * hour,
    act: at => {
      at.test.site('central').system.strike?.('never-reloads', undefined)
      refuseReading(at, 'shop')
    },
  }),
  struck(
    'kyma-cut-list',
    'the list of the gateway’s pods is cut before one that misses the push of both CAs',
    central,
    {
      before: 'trust-both/data',
      act: ({ test }) => {
        const pods = [...kymaSiteOf(test.store('central')).gateways].sort((one, other) => (one.id < other.id ? -1 : 1))
        const last = pods.at(-1)
        if (last !== undefined) last.deaf = true
        test.site('central').faults.api.push({ asked: /^list pods in istio-system/, failure: 'partial' })
      },
    },
  ),
  struck('kyma-override', 'somebody sets Kyma’s override for the CA, and Kyma is upgraded later', central, {
    before: 'trust-both/data',
    patience: 3 * hour,
    act: ({ test }) => {
      test.site('central').kubectlApply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: installer } })
      test.site('central').kubectlApply({
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: 'ca-overrides', namespace: installer, labels: { installer: 'overrides' } },
        data: { 'global.applicationConnectorCa': test.site('central').system.startingCa().root },
      })
    },
    until: 'trust-new/data',
    // The upgrade: the setup job writes over both Secrets what the override says.
    heal: ({ test }) => {
      suspendFlux(test.site('central').store, true)
      writeOver(test)
    },
  }),
  unopened('kyma-sealed', central, 'central', 'trust-both/data', 'a CA’s key'),
  struck(
    'kyma-stuck-gateway',
    'new pods of the gateway do not get ready when they are to read the new CA alone',
    filed,
    {
      before: 'trust-new/restart',
      patience: 3 * hour,
      act: ({ test }) =>
        test.site('central').faults.neverReady.add(`${filedGateway.namespace}/Deployment/${filedGateway.deployment}`),
      wrong: leftBehind,
    },
  ),
  struck('kyma-bare-gateway', 'the gateway’s roll-out is set to take all pods down at once', filed, {
    before: 'trust-both/data',
    patience: 3 * hour,
    act: ({ test }) => {
      const store = test.store('central')
      const found = store.get('apps', 'Deployment', filedGateway.namespace, filedGateway.deployment)
      if (found === null) throw new Error('there is no gateway')
      store.update(found, 'kubectl-edit', next => {
        next.spec = { ...(next.spec as object), strategy: { type: 'Recreate' } }
      })
    },
    held: ({ step }) =>
      step === 'trust-both/restart' ? 'the gateway is to restart while no client could reach it meanwhile' : undefined,
  }),
  struck(
    'kyma-slow-node',
    'nodes give pods the old file for 85 s after the Secret has changed, and no hold is asked for',
    {
      ...filed,
      change: declared => ({ ...declared, gates: { ...declared.gates, hold: 0 } }),
    },
    {
      before: 'trust-new/data',
      patience: 3 * hour,
      pause: 5_000,
      wrong: leftBehind,
      act: ({ test, world }) => {
        const { store, faults, kubelets, workloads } = test.site('central')
        const old = structuredClone(store.get('', 'Secret', filedGateway.namespace, filedGateway.secret))
        const id = `Secret/${filedGateway.namespace}/${filedGateway.secret}`
        for (const node of workloads.nodes) faults.staleNodes.set(node, new Map([[id, old]]))
        let changed = false
        store.onChange(({ what, object }) => {
          if (changed || what === 'status' || object.metadata.name !== filedGateway.secret) return
          changed = true
          world.rehearsal.clock.after(85_000, () => {
            for (const node of workloads.nodes) {
              faults.staleNodes.delete(node)
              kubelets.resync(node)
            }
          })
        })
      },
    },
  ),
  {
    name: 'kyma-planned-elsewhere',
    fault: 'a context leads to another central cluster while the rotation is planned',
    world: { ...central, sites: ['central', 'central-2'] },
    async run(test) {
      const setRight = leadTo(test.world, 'central-2', 'central')
      return await mergeAll(test, {
        patience: 3 * hour,
        // Whoever reviews it has the right one.
        opened: () => void setRight(),
        merged: async () => await test.world.rehearsal.run(hour),
      })
    },
  },
  {
    name: 'kyma-unaccepted-outage',
    fault: 'an emergency is planned without --accept-outage',
    world: { ...central, variant: 'compromised-key', acceptOutage: false },
    run: async test => await mergeAll(test, { patience: 3 * hour }),
  },
]

/** Every question to the cluster of this runtime is refused from now on. */
function refuseReading({ world }: Opened, runtime: string): void {
  const { openCluster } = world.context
  const refuse = async (): Promise<never> => {
    throw new ClusterError('forbidden', 'anything', 'the service account cannot do this (403)')
  }
  Object.assign(world.context, {
    openCluster: async (site: Parameters<typeof openCluster>[0]) => {
      const cluster = await openCluster(site)
      if (site.name !== runtime) return cluster
      // biome-ignore lint/correctness/useYield: it is refused before it has a page
      const list = async function* (): AsyncGenerator<never> {
        await refuse()
      }
      return { ...cluster, get: refuse, metadata: refuse, list }
    },
  })
}

/** Gateways that trust the old CA once the rotation is closed. Under one key no handshake tells. */
function leftBehind(test: TestWorld, ended: Ending['ended']): readonly string[] {
  const old = startingRoot(test.site('central'))
  const found = kymaSiteOf(test.store('central')).gateways.find(({ endpoint }) =>
    endpoint?.material.trusts.includes(old),
  )
  return ended === 'closed' && found !== undefined ? [`the rotation is closed while ${found.id} trusts the old CA`] : []
}
