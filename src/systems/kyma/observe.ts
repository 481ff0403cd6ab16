import { resources } from '../../cluster/resources.ts'
import type { Instant } from '../../rotation.ts'
import type { SeenConsumer } from '../../verify/groups.ts'
import { absent, lookAround, observeCanary, observed, observeSealed, present } from '../../verify/looking.ts'
import { dataOwnership, isUnsealer, keysWritten } from '../../verify/objects.ts'
import { objectId } from '../../verify/values.ts'
import type { Observation, ObserveOptions } from '../system.ts'
import { departures, expectedOf } from './expected.ts'
import type { Looking } from './looking.ts'
import { observeGateway } from './observe-gateway.ts'
import { observeRuntimes } from './observe-runtime.ts'
import { observeOverrides } from './overrides.ts'

/**
 * Looks at one central cluster, and at each runtime in its own: both Secrets by their metadata, what each gateway pod trusts, and what each
 * runtime says of its certificate. Changes nothing and judges nothing, but names every consumer that differs from the state that the step declares.
 */
export async function observeKyma(options: ObserveOptions): Promise<Observation> {
  const expected = expectedOf(options.plan, options.place)
  const departed = (seen: SeenConsumer) => departures(seen, expected)
  return await lookAround(options, departed, async common => {
    const looking: Looking = { ...common, expected }
    const { signer, gateway } = expected.places
    const signing = await observeSecret(looking, signer.namespace, signer.secret, [
      signer.certificateKey,
      signer.privateKey,
    ])
    const trusting = await observeSecret(looking, gateway.namespace, gateway.secret, [gateway.key])
    // Sealed too, the connector would still sign with what an older Secret holds.
    await observeSealed(looking, await observeCanary(looking, signer.namespace), [
      { namespace: signer.namespace, name: signer.secret },
    ])
    await observeOverrides(looking)
    await observeGateway(looking)
    await observeRuntimes(looking, { signer: signing, gateway: trusting })
  })
}

/** By its keys and their owners; its values stay where they are. Gives when the keys' owners wrote them last; null: not to be told. */
async function observeSecret(
  looking: Looking,
  namespace: string,
  name: string,
  keys: readonly string[],
): Promise<Instant | null> {
  let written: Instant | null = null
  await observed(looking, objectId('Secret', namespace, name), async id => {
    const found = await looking.options.cluster.metadata(resources.secrets, namespace, name)
    if (found === null) return absent(id)
    // Not when it changed at all: a label that someone else adds later is no new CA, and must not ask everybody to renew once more.
    written = keysWritten(found, keys)
    const others = keysWritten(found, keys, manager => !isUnsealer(manager))
    const facts = { ...(written === null ? {} : { written }), ...(others === null ? {} : { others }) }
    return { ...present(id, found, facts), ...dataOwnership(found) }
  })
  return written
}
