import { demoKyma, profileOf, type Scenario } from '../../src/rehearsal/kyma/fleet.ts'
import { type KymaSite, kymaSiteOf } from '../../src/rehearsal/kyma/system.ts'
import type { StoredObject } from '../../src/rehearsal/objects.ts'
import { quickKeys } from '../systems/kyma/material.ts'
import { type TestWorld, type TestWorldOptions, testWorld } from './world.ts'

export interface KymaTestWorld extends TestWorld {
  readonly kyma: KymaSite
  /** Values of both Secrets as the central cluster has them. */
  secrets(): { readonly signer: Readonly<Record<string, string>>; readonly gateway: Readonly<Record<string, string>> }
  deployment(): StoredObject
}

/** The demo's Kyma, declared and ready for `plan`, with keys that are made in no time. */
export async function kymaWorld(
  scenario: Scenario | `${Scenario}+argocd`,
  options: TestWorldOptions = {},
): Promise<KymaTestWorld> {
  const test = await testWorld({
    system: 'kyma',
    variant: scenario,
    seed: scenario,
    keys: quickKeys,
    // A rotation lasts days, in which clients renew.
    daysAgo: 30,
    ...options,
  })
  const { gateway } = profileOf(scenario).profile
  const { signer } = demoKyma
  const store = test.store('central')
  return {
    ...test,
    kyma: kymaSiteOf(store),
    secrets: () => ({
      signer: test.secret('central', signer.namespace, signer.secret),
      gateway: test.secret('central', gateway.namespace, gateway.secret),
    }),
    deployment() {
      const found = store.get('apps', 'Deployment', gateway.namespace, gateway.deployment)
      if (found === null) throw new Error('no gateway')
      return found
    },
  }
}
