import { twoBatches } from '../../test/rotations/linkerd-fleet.ts'
import type { TestWorldOptions } from '../../test/rotations/world.ts'
import type { Opened } from './drive.ts'
import type { Scenario } from './scenario.ts'
import { hour, struck } from './strike.ts'

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

export const linkerdScenarios: readonly Scenario[] = [
  struck('linkerd-stuck-workload', 'new pods of one workload do not get ready when both roots are to be read', mesh, {
    before: 'trust-both/data-plane',
    act: stuck,
  }),
  struck('linkerd-stuck-control-plane', 'new pods of identity do not get ready when the old root is to go', mesh, {
    before: 'trust-new/control-plane',
    act: ({ test }) => test.site('eu-1').faults.neverReady.add('linkerd/Deployment/linkerd-identity'),
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
