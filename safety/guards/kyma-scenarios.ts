import { kymaSiteOf } from '../../src/rehearsal/kyma/system.ts'
import { kymaProfiles } from '../../src/systems/kyma/profile.ts'
import type { TestWorld, TestWorldOptions } from '../../test/rotations/world.ts'
import { quickKeys } from '../../test/systems/kyma/material.ts'
import { mergeAll } from './drive.ts'
import type { Scenario } from './scenario.ts'
import { hour, struck, suspendFlux } from './strike.ts'

const central: TestWorldOptions = { system: 'kyma', variant: 'graceful', keys: quickKeys, daysAgo: 30 }

const { gateway } = kymaProfiles['1.18']

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
  {
    name: 'kyma-unaccepted-outage',
    fault: 'an emergency is planned without --accept-outage',
    world: { ...central, variant: 'compromised-key', acceptOutage: false },
    run: async test => await mergeAll(test, { patience: 3 * hour }),
  },
]
