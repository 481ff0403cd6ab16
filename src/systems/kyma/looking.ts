import type { Looking as CommonLooking } from '../../verify/looking.ts'
import type { ObserveOptions } from '../system.ts'
import type { Expected } from './expected.ts'

/** One look at a central cluster and its runtimes'. */
export interface Looking extends CommonLooking<ObserveOptions> {
  readonly expected: Expected
}
