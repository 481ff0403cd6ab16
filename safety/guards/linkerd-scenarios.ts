import { twoBatches } from '../../test/rotations/linkerd-fleet.ts'
import type { TestWorld, TestWorldOptions } from '../../test/rotations/world.ts'
import type { Opened } from './drive.ts'
import type { Scenario } from './scenario.ts'
import { hour, struck, suspendFlux } from './strike.ts'

const mesh: TestWorldOptions = {
  system: 'linkerd',
  variant: 'trust-roots',
  roundLimit: 20,
  fleet: fleet => {
    const files = new Map(twoBatches(fleet))
    for (const path of [...files.keys()]) if (/^(shop\/|clusters\/[^/]+\/shop)/.test(path)) files.delete(path)
    return files
  },
}

/** New pods of this workload never get ready, so that its old ones stay. */
const stuck = ({ test }: Opened) => test.site('eu-1').faults.neverReady.add('emojivoto/Deployment/web')

/** As a person who puts back what stood there, or an installer that runs again. */
function writeOldAnchors(test: TestWorld): void {
  const { store, system } = test.site('eu-1')
  for (const { kind, namespace, name, key } of test.world.system.demo.bundles?.('trust-roots') ?? []) {
    const found = store.get('', kind, namespace, name)
    if (found === null) throw new Error(`there is no ${kind} ${name}`)
    store.update(found, 'kubectl-edit', next => {
      next.data = { ...(next.data as object), [key]: system.startingCa().root }
    })
  }
}

export const linkerdScenarios: readonly Scenario[] = [
  struck('linkerd-stuck-workload', 'new pods of one workload do not get ready when both roots are to be read', mesh, {
    before: 'trust-both/data-plane',
    act: stuck,
  }),
  struck('linkerd-stuck-control-plane', 'new pods of identity do not get ready when the old root is to go', mesh, {
    before: 'trust-new/control-plane',
    act: ({ test }) => test.site('eu-1').faults.neverReady.add('linkerd/Deployment/linkerd-identity'),
  }),
  struck('linkerd-suspended', 'Flux is suspended from adopt on, so that nothing that is merged arrives', mesh, {
    before: 'adopt/adopt',
    act: ({ test }) => suspendFlux(test.site('eu-1').store, true),
  }),
  struck('linkerd-stranger', 'a machine outside of the cluster joins the mesh, and nobody declares it', mesh, {
    before: 'trust-both/data',
    act: ({ test }) =>
      test.site('eu-1').kubectlApply({
        apiVersion: 'workload.linkerd.io/v1beta1',
        kind: 'ExternalWorkload',
        metadata: { name: 'billing-vm', namespace: 'emojivoto' },
        spec: { meshTLS: { identity: 'spiffe://root.linkerd.cluster.local/billing', serverName: 'billing' } },
      }),
    held: ({ step }) =>
      step === 'issue-new/data'
        ? 'identity is to issue from the new issuer while a machine has anchors that nobody vouches for'
        : undefined,
  }),
  struck('linkerd-old-anchors', 'somebody puts the old anchors back into the ConfigMap, and Flux is suspended', mesh, {
    after: 'trust-both/data',
    async act({ test, world }) {
      const { store } = test.site('eu-1')
      await world.rehearsal.run(hour / 6)
      suspendFlux(store, true)
      writeOldAnchors(test)
    },
  }),
  struck('linkerd-deaf-identity', 'one replica of identity misses the change of its issuer', mesh, {
    before: 'issue-new/data',
    act: ({ test }) => test.site('eu-1').system.strike?.('replica-lags', undefined),
  }),
  struck(
    'linkerd-old-leaves',
    'nothing, and no hold is asked for: leaves of the old issuer live on for most of an hour',
    {
      ...mesh,
      change: declared => ({ ...declared, gates: { ...declared.gates, hold: 0 } }),
    },
    { patience: hour / 2, pause: 60_000, act: () => {} },
  ),
]
