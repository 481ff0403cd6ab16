import type { Plan } from '../../rotation.ts'
import { pathJudge } from '../../safety/paths.ts'
import { stepLabel } from '../../safety/prove.ts'
import { type ForetoldPair, kymaLinks } from './model.ts'

/**
 * The price of a plan: every pair that breaks, for each move from one step to the next and each mix that it passes through. Empty where nothing breaks.
 * It is computed with the very path search that proves a plan and judges live certificates, so a renewed certificate of the same key, which breaks
 * nothing, has the price of nothing.
 */
export function foretoldPairs(plan: Plan): readonly ForetoldPair[] {
  const judge = pathJudge(plan.certificates)
  const at = Date.parse(plan.createdAt)
  const links = kymaLinks(plan.parties)
  const found = new Map<string, ForetoldPair>()
  for (const site of plan.sites) {
    const stands = plan.phases.flatMap(phase =>
      phase.steps.flatMap(step => {
        const planned = step.sites[site.name]
        return planned === undefined ? [] : [{ label: stepLabel(phase, step), state: planned.state }]
      }),
    )
    for (let index = 1; index < stands.length; index += 1) {
      const mix = stands.slice(index - 1, index + 1)
      for (const held of mix)
        for (const trusted of mix) {
          const holding = { at: held.label, issuer: held.state.issuer, chain: held.state.chain }
          const trusting = { at: trusted.label, anchors: [...new Set(trusted.state.bundle)].sort() }
          if (judge.until(holding, trusting, at).until >= at) continue
          for (const link of links) {
            const pair: ForetoldPair = {
              client: link.holder,
              server: link.verifier,
              from: held.label,
              to: trusted.label,
              presents: held.state.issuer,
              trusts: trusting.anchors,
            }
            found.set([pair.client, pair.server, pair.from, pair.to, pair.presents, ...pair.trusts].join(' '), pair)
          }
        }
    }
  }
  return [...found.values()]
}

/** Whether a failure that was seen is one that was foretold: by who met whom, what was presented and what was trusted. */
export function isForetold(
  pairs: readonly ForetoldPair[],
  seen: {
    readonly client: string
    readonly server: string
    readonly presents: string
    readonly trusts: readonly string[]
  },
): boolean {
  const trusts = [...new Set(seen.trusts)].sort().join(' ')
  return pairs.some(
    pair =>
      pair.client === seen.client &&
      pair.server === seen.server &&
      pair.presents === seen.presents &&
      pair.trusts.join(' ') === trusts,
  )
}

/** `runtime with a leaf of 0-adopt/1-adopt and gateway with the trust of 1-replace/1-data`, one a line. */
export function priceText(pairs: readonly ForetoldPair[]): readonly string[] {
  return pairs.map(
    ({ client, server, from, to }) =>
      `${client} with a leaf of ${from} is refused by ${server} with the trust of ${to}`,
  )
}
