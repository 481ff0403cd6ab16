import { type Looking as CommonLooking, lookAround } from '../../verify/looking.ts'
import { memoryRelief } from '../../verify/memory.ts'
import { defaultPatience, type Patience, patienceOf } from '../../verify/patience.ts'
import type { Observation, ObserveOptions } from '../system.ts'
import { departures, type Expected, expectedOf, withStuck } from './expected.ts'
import { observeObjects } from './observe-objects.ts'
import { observeProxies } from './observe-proxies.ts'
import { type LinkerdSettings, linkerdOf } from './settings.ts'

/** What is collected while looking. */
export interface Looking extends CommonLooking<ObserveOptions> {
  readonly linkerd: LinkerdSettings
  readonly expected: Expected
  readonly patience: Patience
  /** To be called now and then while many consumers are looked at. */
  relieve(): void
}

/**
 * Looks at one cluster: where anchors and issuer stand, the control plane, and every pod with a proxy. Changes nothing and judges nothing, but
 * names every consumer that differs from the state that the step declares.
 *
 * A proxy's anchors are read from its environment, and its leaf from a handshake with its admin port, which serves TLS with the leaf that it has
 * (linkerd2 cli/cmd/identity.go): no annotation, no event and no age stands for either. Anchors that a container of the control plane read from
 * a ConfigMap are told by when it started.
 */
export async function observeLinkerd(options: ObserveOptions): Promise<Observation> {
  const expected = expectedOf(options.plan, options.place)
  return await lookAround(
    options,
    seen =>
      departures(seen, expected)
        // What was not seen, or does not run, has an exception already that says why.
        .filter(({ reason }) => reason !== 'unreadable' && reason !== 'not-ready')
        .map(({ reason, detail, verdict }) => ({ reason, detail: withStuck(detail, seen.facts.stuck), verdict })),
    async common => {
      const looking: Looking = {
        ...common,
        linkerd: linkerdOf(options.declared),
        expected,
        patience: patienceOf(options.patience ?? defaultPatience),
        relieve: memoryRelief(),
      }
      const published = await observeObjects(looking)
      await observeProxies(looking, published)
    },
  )
}
