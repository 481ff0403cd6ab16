import { canaryName } from '../../src/names.ts'
import type { ObjectStore } from '../../src/rehearsal/objects.ts'
import type { TestWorldOptions } from '../../test/rotations/world.ts'
import { type Acts, mergeAll, type Opened } from './drive.ts'
import { withPeople } from './people.ts'
import type { Scenario } from './scenario.ts'

export const hour = 3_600_000

export interface Strike extends Partial<Omit<Acts, 'opened' | 'merged'>> {
  /** Just before the pull request of this step is merged, … */
  readonly before?: string
  /** … or just after. */
  readonly after?: string
  /** Only with the batch that holds this site. @default any */
  readonly site?: string
  /** What goes wrong then. */
  act(at: Opened): unknown
  /** It lasts until the pull request of this step is merged, where it is not for good. */
  readonly until?: string
  heal?(at: Opened): unknown
  /** What a step that opens is held to, whichever it is; a clause says what is as it must not be. */
  readonly held?: (at: Opened) => Promise<string | undefined> | string | undefined
  /** What people do while `next` waits. @default what they do in the demo */
  readonly people?: Parameters<typeof withPeople>[1] | 'nothing'
}

/** Flux applies nothing of what it has, or goes on. */
export function suspendFlux(store: ObjectStore, suspend: boolean): void {
  for (const each of store.list('kustomize.toolkit.fluxcd.io', 'Kustomization'))
    store.update(each, 'kubectl-patch', next => {
      next.spec = { ...(next.spec as object), suspend }
    })
}

/** A rotation in which everything that opens is merged, and one thing goes wrong at one step. */
export function struck(name: string, fault: string, world: TestWorldOptions, strike: Strike): Scenario {
  const { before, after, site, act, until, heal, held, people, patience = 2 * hour, pause, breaks, wrong } = strike
  const is = ({ step, place }: Opened, wanted: string | undefined): boolean =>
    step === wanted && (site === undefined || place.sites.includes(site))
  return {
    name,
    fault,
    world,
    async run(test) {
      const used = people === undefined ? test : withPeople(test, people === 'nothing' ? undefined : people)
      return await mergeAll(used, {
        patience,
        ...(pause === undefined ? {} : { pause }),
        ...(breaks === undefined ? {} : { breaks }),
        ...(wrong === undefined ? {} : { wrong }),
        async opened(at) {
          const clause = await held?.(at)
          if (clause === undefined && is(at, before)) await act(at)
          if (at.step === until) await heal?.(at)
          return clause
        },
        async merged(at) {
          if (is(at, after)) await act(at)
        },
      })
    },
  }
}

/** A rotation in a cluster that lost the key of its sealed Secrets before adopt. `then`: the first step that carries a CA's key. */
export function unopened(name: string, world: TestWorldOptions, site: string, then: string, what: string): Scenario {
  return struck(name, 'the cluster has no key that opens what was sealed', world, {
    before: 'adopt/adopt',
    act: ({ test }) => test.site(site).kubectlDelete('', 'Secret', 'flux-system', 'sops-age'),
    held: ({ test, step }) =>
      step === then &&
      test
        .store(site)
        .list('', 'Secret')
        .every(({ metadata }) => metadata.name !== canaryName)
        ? `${what} is to be sealed for a cluster that has opened nothing so far`
        : undefined,
  })
}
