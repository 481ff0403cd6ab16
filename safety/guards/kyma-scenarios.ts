import { kymaSiteOf } from '../../src/rehearsal/kyma/system.ts'
import type { TestWorldOptions } from '../../test/rotations/world.ts'
import { quickKeys } from '../../test/systems/kyma/material.ts'
import { mergeAll } from './drive.ts'
import type { Scenario } from './scenario.ts'
import { hour, struck } from './strike.ts'

const central: TestWorldOptions = { system: 'kyma', variant: 'graceful', keys: quickKeys, daysAgo: 30 }

export const kymaScenarios: readonly Scenario[] = [
  struck('kyma-plain', 'nothing', central, { patience: 3 * hour, act: () => {} }),
  struck('kyma-deaf-gateway', 'one pod of the gateway misses the push of both CAs', central, {
    before: 'trust-both/data',
    act: ({ test }) => test.site('central').system.strike?.('replica-lags', undefined),
  }),
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
  {
    name: 'kyma-unaccepted-outage',
    fault: 'an emergency is planned without --accept-outage',
    world: { ...central, variant: 'compromised-key', acceptOutage: false },
    run: async test => await mergeAll(test, { patience: 3 * hour }),
  },
]
