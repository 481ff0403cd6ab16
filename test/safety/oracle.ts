import { X509Certificate } from 'node:crypto'
import type { CertificateFacts, Plan, TrustState } from '../../src/rotation.ts'

/**
 * A second opinion on a plan, written as plainly as can be: parties walk through the rotation one move at a time, every
 * reachable situation is visited, and every pair of parties shakes hands in it. It shares no code with the proof.
 */
export function survives(plan: Plan): boolean {
  const certificates = new Map(plan.certificates.map(certificate => [certificate.sha256, certificate]))
  const at = Date.parse(plan.createdAt)
  const handshakes = new Map<string, boolean>()
  const shake = (holder: TrustState, verifier: TrustState): boolean => {
    const key = JSON.stringify([holder.issuer, holder.chain, verifier.bundle])
    const known = handshakes.get(key)
    if (known !== undefined) return known
    const result = accepts(holder, verifier, certificates, at)
    handshakes.set(key, result)
    return result
  }
  return (
    !changesBoth(plan) &&
    reachable(plan).every(mix =>
      // A party meets itself too: another pod of its site may have walked the same way.
      mix.every(holder => mix.every(verifier => shake(holder.leaf, verifier.trust))),
    )
  )
}

type Party = { readonly site: string; readonly trust: TrustState; readonly leaf: TrustState }

interface World {
  /** Per site: index of the step in the folder, or -1 - index for that step's undo, as text for `nudge`. */
  readonly folders: Readonly<Record<string, string>>
  readonly parties: readonly { readonly site: string; readonly trust: string; readonly leaf: string }[]
}

/** Every situation that parties can get into: folders move behind barriers, and each party takes up trust and leaf when it likes. */
function reachable(plan: Plan): readonly (readonly Party[])[] {
  const flat = plan.phases.flatMap(phase => {
    const steps = phase.steps.filter(step => Object.keys(step.sites).length > 0)
    return steps.map((step, index) => ({ step, closes: index === steps.length - 1 }))
  })
  const sites = plan.sites.map(site => site.name)
  const stateAt = (site: string, position: string): TrustState | null => {
    const [index = '0', way] = position.split(' ')
    const own = flat[Number(index)]?.step.sites[site]
    if (own === undefined) return null
    if (way === 'undo') return own.undo?.state ?? null
    if (way === 'nudge') return own.nudge?.state ?? null
    return own.state
  }
  // Two parties where there is one site; one each where there are more.
  const partySites = sites.length === 1 ? [sites[0] ?? '', sites[0] ?? ''] : sites
  const start: World = {
    folders: Object.fromEntries(sites.map(site => [site, '0'])),
    parties: partySites.map(site => ({ site, trust: '0', leaf: '0' })),
  }
  const seen = new Map<string, World>([[JSON.stringify(start), start]])
  const queue = [start]
  for (let world = queue.pop(); world !== undefined; world = queue.pop()) {
    for (const next of moves(world, flat, sites, stateAt)) {
      const key = JSON.stringify(next)
      if (seen.has(key)) continue
      seen.set(key, next)
      queue.push(next)
    }
  }
  return [...seen.values()].map(world =>
    world.parties.map(party => ({
      site: party.site,
      trust: stateAt(party.site, party.trust) as TrustState,
      leaf: stateAt(party.site, party.leaf) as TrustState,
    })),
  )
}

function moves(
  world: World,
  flat: readonly { readonly closes: boolean }[],
  sites: readonly string[],
  stateAt: (site: string, position: string) => TrustState | null,
): readonly World[] {
  const next: World[] = []
  for (const [index, party] of world.parties.entries()) {
    const folder = world.folders[party.site] ?? '0'
    for (const face of ['trust', 'leaf'] as const)
      if (party[face] !== folder)
        next.push({
          ...world,
          parties: world.parties.map((other, at) => (at === index ? { ...other, [face]: folder } : other)),
        })
  }
  for (const site of sites) {
    const folder = world.folders[site] ?? '0'
    const index = Number.parseInt(folder, 10)
    const put = (position: string) => next.push({ ...world, folders: { ...world.folders, [site]: position } })
    const nudged = folder.endsWith('nudge')
    const undone = folder.endsWith('undo')
    // Barriers hold for the ways back too: nobody undoes or nudges a step while another site has gone beyond it.
    const ahead = sites.some(other => Number.parseInt(world.folders[other] ?? '0', 10) > index)
    if (!ahead && !undone && stateAt(site, `${index} undo`) !== null) put(`${index} undo`)
    if (!ahead && !undone && !nudged && stateAt(site, `${index} nudge`) !== null) put(`${index} nudge`)
    if (undone || nudged) continue
    const behind = sites.some(other => Number.parseInt(world.folders[other] ?? '0', 10) < index)
    const leaving = Object.values(world.folders).some(other => other.includes(' '))
    // The gate of a phase's last step: everyone has taken it up, everywhere, before the first site goes on.
    const first = sites.every(other => Number.parseInt(world.folders[other] ?? '0', 10) <= index)
    const taken = world.parties.every(party => party.trust === String(index) && party.leaf === String(index))
    const open = flat[index]?.closes === true && first ? taken : true
    if (!behind && !leaving && open && index + 1 < flat.length) put(String(index + 1))
  }
  return next
}

function changesBoth(plan: Plan): boolean {
  const both = (before: TrustState, after: TrustState): boolean =>
    before.issuer !== after.issuer &&
    JSON.stringify([...new Set(before.bundle)].sort()) !== JSON.stringify([...new Set(after.bundle)].sort())
  const steps = plan.phases.flatMap(phase => phase.steps).filter(step => Object.keys(step.sites).length > 0)
  return steps.some((step, index) =>
    Object.entries(step.sites).some(([site, own]) => {
      const before = steps[index - 1]?.sites[site]?.state
      return (
        (before !== undefined && both(before, own.state)) ||
        (own.undo !== null && both(own.state, own.undo.state)) ||
        (own.nudge !== null && both(own.state, own.nudge.state))
      )
    }),
  )
}

/** Tries every order of every certificate at hand. */
function accepts(
  holder: TrustState,
  verifier: TrustState,
  certificates: ReadonlyMap<string, CertificateFacts>,
  at: number,
): boolean {
  const pool = [...new Set([...holder.chain, ...verifier.bundle])]
  const tryPath = (path: readonly string[]): boolean => {
    if (verifier.bundle.includes(path[path.length - 1] ?? '') && holds(path, certificates, at)) return true
    return path.length <= 3 && pool.some(next => !path.includes(next) && tryPath([...path, next]))
  }
  return tryPath([holder.issuer])
}

function holds(path: readonly string[], certificates: ReadonlyMap<string, CertificateFacts>, at: number): boolean {
  return path.every((sha256, index) => {
    const facts = certificates.get(sha256)
    if (facts === undefined || !facts.ca) return false
    if (at < Date.parse(facts.notBefore) || at > Date.parse(facts.notAfter)) return false
    if (facts.pathLength !== null && index > facts.pathLength) return false
    const child = certificates.get(path[index - 1] ?? '')
    if (child === undefined) return index === 0
    return (
      child.issuer === facts.subject && new X509Certificate(child.pem).verify(new X509Certificate(facts.pem).publicKey)
    )
  })
}
