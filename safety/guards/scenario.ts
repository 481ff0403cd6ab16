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
  const test = await testWorld({ ...scenario.world, seed })
  try {
    return await scenario.run(test)
  } finally {
    await test.close()
  }
}
