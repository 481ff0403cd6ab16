import { twoBatches } from '../../test/rotations/linkerd-fleet.ts'
import type { TestWorldOptions } from '../../test/rotations/world.ts'
import type { Scenario } from './scenario.ts'
import { struck } from './strike.ts'

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

export const linkerdScenarios: readonly Scenario[] = [
  struck('linkerd-old-leaves', 'nothing: leaves of the old issuer live on for most of a day', mesh, { act: () => {} }),
]
