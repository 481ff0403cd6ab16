import type { Fingerprint, Plan, TrustState } from '../rotation.ts'
import { holdingKey, holdingOf, modelOf, trustingKey, trustingOf } from './model.ts'
import { pathJudge } from './paths.ts'
import { stepLabel } from './prove.ts'

/** One pair that a plan breaks: a client whose leaf is of one state, and a server that trusts as another says. Where both ends verify, each direction is a pair. */
export interface ForetoldPair {
  readonly client: string
  readonly server: string
  /** State of the client's leaf, as a step is named: `0-adopt/1-adopt`. */
  readonly from: string
  /** State of the server's trust. */
  readonly to: string
  readonly presents: Fingerprint
  readonly trusts: readonly Fingerprint[]
}

/** Who met whom, what was presented and what was trusted, where a handshake failed. */
export type SeenRefusal = Pick<ForetoldPair, 'client' | 'server' | 'presents' | 'trusts'>

/**
 * The price of a plan: every pair that breaks, over all states that parties may be in while a phase lasts. Empty where nothing breaks, as for a
 * renewed certificate of the same key: it is computed with the very path search that proves a plan and judges live certificates.
 */
export function foretoldPairs(plan: Plan): readonly ForetoldPair[] {
  const judge = pathJudge(plan.certificates)
  const at = Date.parse(plan.createdAt)
  const links = modelOf(plan).links(plan.parties)
  const found = new Map<string, ForetoldPair>()
  for (const windows of windowsOf(plan))
    for (const held of windows)
      for (const trusted of windows)
        for (const link of links) {
          if (held !== trusted && !link.acrossSites) continue
          for (const { holding } of held)
            for (const { trusting } of trusted) {
              if (judge.until(holding, trusting, at).until >= at) continue
              const pair: ForetoldPair = {
                client: link.holder,
                server: link.verifier,
                from: holding.at,
                to: trusting.at,
                presents: holding.issuer,
                trusts: trusting.anchors,
              }
              const key = [pair.client, pair.server, pair.from, pair.to, pair.presents, ...pair.trusts].join(' ')
              found.set(key, pair)
            }
        }
  return inOrder([...found.values()], links)
}

/** By the states first, as they follow one another, and then as the system's links are listed. */
function inOrder(
  pairs: readonly ForetoldPair[],
  links: readonly { readonly holder: string; readonly verifier: string }[],
): readonly ForetoldPair[] {
  const rank = (pair: ForetoldPair): number =>
    links.findIndex(({ holder, verifier }) => holder === pair.client && verifier === pair.server)
  const mixes = [...new Set(pairs.map(({ from, to }) => `${from} ${to}`))]
  const mix = ({ from, to }: ForetoldPair): number => mixes.indexOf(`${from} ${to}`)
  return [...pairs].sort((one, other) => mix(one) - mix(other) || rank(one) - rank(other))
}

interface Stand {
  readonly holding: ReturnType<typeof holdingOf>
  readonly trusting: ReturnType<typeof trustingOf>
}

/**
 * For each phase the states from which a site starts and through which it goes, each such window once, however many sites have it: pairs do not name
 * sites. States of equal material are one.
 */
function windowsOf(plan: Plan): readonly (readonly (readonly Stand[])[])[] {
  const last = new Map<string, { readonly label: string; readonly state: TrustState }>()
  return plan.phases.map(phase => {
    const windows = new Map<string, readonly Stand[]>()
    for (const { name } of plan.sites) {
      const before = last.get(name)
      const stands = before === undefined ? [] : [before]
      for (const step of phase.steps) {
        const planned = step.sites[name]
        if (planned !== undefined) stands.push({ label: stepLabel(phase, step), state: planned.state })
      }
      const newest = stands.at(-1)
      if (newest !== undefined) last.set(name, newest)
      const different = new Map<string, Stand>()
      for (const { label, state } of stands) {
        const stand = { holding: holdingOf(state, label), trusting: trustingOf(state, label) }
        const key = `${holdingKey(stand.holding)}|${trustingKey(stand.trusting)}`
        if (!different.has(key)) different.set(key, stand)
      }
      windows.set([...different].map(([key, stand]) => `${stand.holding.at} ${key}`).join('\n'), [
        ...different.values(),
      ])
    }
    return [...windows.values()]
  })
}

/** Whether a refusal that was seen is one that was foretold: by who met whom, what was presented and what was trusted. */
export function isForetold(pairs: readonly ForetoldPair[], seen: SeenRefusal): boolean {
  const trusts = [...new Set(seen.trusts)].sort().join(' ')
  return pairs.some(
    pair =>
      pair.client === seen.client &&
      pair.server === seen.server &&
      pair.presents === seen.presents &&
      pair.trusts.join(' ') === trusts,
  )
}

/** `runtime with a leaf of 0-adopt/1-adopt is refused by gateway with the trust of 1-replace/1-data`, one a line. */
export function priceText(pairs: readonly ForetoldPair[]): readonly string[] {
  return [
    ...new Set(
      pairs.map(
        ({ client, server, from, to }) =>
          `${client} with a leaf of ${from} is refused by ${server} with the trust of ${to}`,
      ),
    ),
  ]
}
