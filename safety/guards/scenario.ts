import { type TestWorld, type TestWorldOptions, testWorld } from '../../test/rotations/world.ts'
import type { Ending } from './drive.ts'

/** A rotation in which one thing goes wrong, and which ends safely with every guard in. */
export interface Scenario {
  readonly name: string
  /** What goes wrong, one clause. */
  readonly fault: string
  readonly world: TestWorldOptions
  run(test: TestWorld): Promise<Ending>
}

export async function runScenario(scenario: Scenario, seed: string): Promise<Ending> {
  // No branch protection: reanchor/gate would stand in for the guard that is out.
  const test = await testWorld({ requiredStatuses: [], ...scenario.world, seed })
  try {
    return await scenario.run(test)
  } finally {
    await test.close()
  }
}
