import { loadRotation } from '../../../src/commands/rotation.ts'
import { openRepository } from '../../../src/repository/repository.ts'
import { type ForetoldPair, foretoldPairs, type SeenRefusal } from '../../../src/safety/price.ts'
import type { FleetRepository } from './repository.ts'

/** What the plan on main says that it breaks. */
export async function foretold(repository: FleetRepository, rotation: string): Promise<readonly ForetoldPair[]> {
  const opened = await openRepository(repository.clone, { remote: 'origin' })
  const { plan } = await loadRotation(opened, { rotation, base: 'main' })
  return foretoldPairs(plan)
}

/** Each pair on one line, once, in an order of its own: of a plan, or of handshakes that were seen to fail. */
export function pairTexts(pairs: readonly SeenRefusal[]): readonly string[] {
  const texts = pairs.map(({ client, server, presents, trusts }) => {
    const set = [...new Set(trusts)].sort().join(', ')
    return `${client} with a leaf of ${presents} at ${server} that trusts ${set}`
  })
  return [...new Set(texts)].sort()
}
