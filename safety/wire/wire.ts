import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pkixAccepts } from '../../src/pki/java.ts'
import { accepts, type Peer, type Verifier } from '../../src/pki/verifiers.ts'
import type { SystemName } from '../../src/rotation.ts'
import { type PathJudge, pathJudge } from '../../src/safety/paths.ts'
import { randomFrom } from '../random.ts'
import { makeFamily, makeKeys } from './families.ts'
import { goStack } from './go.ts'
import { javaStack } from './java.ts'
import { linksOf, type Mix, makeMix, type Side, verifiersOf } from './mixes.ts'
import { opensslStack } from './openssl.ts'
import type { Stack } from './stack.ts'

export type Tool = 'go' | 'java'

export interface WireOptions {
  readonly seed: number
  /** 1: 6,000 mixes. */
  readonly scale: number
  say(line: string): void
  /** Stacks that are left out, by name. One that is not, and is not on the machine either, is an error. @default none */
  readonly without?: readonly Tool[]
}

export interface WireResult {
  readonly mixes: number
  readonly disagreements: number
  /** Mixes in which the profile of a stack foretold another verdict than the proof's. */
  readonly byProfile: number
  /** Of those: the proof accepts, and one stack refuses. Each is a way in which a plan that is called safe could fail. */
  readonly refusedByProfile: number
  readonly accepted: number
  /**
   * Draws that were left out before any handshake, and are no mixes: what Java makes of them hangs on the order in which a hash set hands out certificates, so
   * nothing can be foretold.
   */
  readonly undecided: number
  readonly byStack: Readonly<Record<string, number>>
  readonly bySystem: Readonly<Record<string, number>>
  /** Links whose verifier is no stack of this run (rustls, or one that was left out), by name. */
  readonly notShaken: readonly string[]
  /** The first of what disagreed, for people. */
  readonly examples: readonly string[]
}

const systems: readonly SystemName[] = ['istio', 'linkerd', 'kyma', 'cassandra']
const fullSize = 6000
/** At most; a small run spreads over all systems, two families of each. */
const mixesOfFamily = 50

/** Shakes hands for random mixes over all systems, and compares what came of it with what the proof and the stacks' profiles said before. */
export async function wire(options: WireOptions): Promise<WireResult> {
  const { seed, scale, say, without = [] } = options
  const random = randomFrom(seed)
  const now = Date.now()
  const folder = await mkdtemp(join(tmpdir(), 'reanchor-wire-'))
  const stacks = new Map<string, Stack>()
  try {
    const [keys, openssl, go, java] = await Promise.all([
      makeKeys(),
      opensslStack(),
      without.includes('go') ? null : goStack(folder),
      without.includes('java') ? null : javaStack(folder),
    ])
    stacks.set('openssl', openssl)
    if (go !== null) stacks.set('go', go)
    if (java !== null) stacks.set('java', java)
    const tally = new Tally()
    const control = await controlSide(keys, now)
    const wanted = Math.max(systems.length, Math.ceil(fullSize * scale))
    const ofFamily = Math.min(mixesOfFamily, Math.ceil(wanted / (2 * systems.length)))
    for (let family = 0; tally.mixes < wanted; family++) {
      const system = systems[family % systems.length]!
      const made = await makeFamily(system, random, keys, now)
      const judge = pathJudge([...made.cas, ...control.trusts])
      const asked: { readonly mix: Mix; readonly stack: Stack }[] = []
      const links = linksOf(system)
      for (let count = Math.min(ofFamily, wanted - tally.mixes - asked.length); count > 0; count--) {
        const able = links.flatMap(link => {
          const verifier = (verifiersOf(link, system) ?? []).filter(one => stacks.has(toolOf(one)))
          if (verifier.length === 0) tally.notShaken.add(`${system}: ${link.name}`)
          return verifier.map(one => ({ link, verifier: one }))
        })
        if (able.length === 0) break
        const { link, verifier } = random.pick(able)
        const mix = makeMix(made, link, verifier, random, control)
        if (isUndecided(mix, new Date(now))) tally.undecided += 1
        else asked.push({ mix, stack: stacks.get(toolOf(verifier))! })
      }
      await Promise.all(asked.map(({ mix, stack }) => judgeMix(mix, stack, judge, now, tally)))
      if (family % 8 === 7) say(`wire: ${tally.mixes} of ${wanted} mixes, ${tally.disagreements} disagreements`)
    }
    return tally.result()
  } finally {
    await Promise.all([...stacks.values()].map(stack => stack.close()))
    await rm(folder, { recursive: true, force: true })
  }
}

function toolOf(verifier: Verifier): 'openssl' | Tool {
  if (verifier === 'go') return 'go'
  return verifier.startsWith('java') ? 'java' : 'openssl'
}

/** A CA and a leaf with nothing odd, for the direction of a handshake that is not in question. */
async function controlSide(keys: Awaited<ReturnType<typeof makeKeys>>, now: number): Promise<Side> {
  for (let seed = 1; ; seed++) {
    const { leaves } = await makeFamily('kyma', randomFrom(seed), keys, now)
    for (const leaf of leaves) {
      const trusts = [leaf.issuer]
      const { sha256 } = leaf.issuer
      const judged = pathJudge(trusts).until({ at: '', issuer: sha256, chain: [] }, { at: '', anchors: [sha256] }, now)
      const plain = leaf.issuer.parts.subject.der.equals(leaf.issuer.parts.issuer.der)
      if (plain && judged.until >= now) return { leaf, chain: [leaf.issuer], trusts }
    }
  }
}

async function judgeMix(mix: Mix, stack: Stack, judge: PathJudge, now: number, tally: Tally): Promise<void> {
  const at = new Date(now)
  const halves = halvesOf(mix)
  const answers = halves.map(([holder, verifier]) => {
    const { issuer } = holder.leaf
    return judge.until(
      { at: 'now', issuer: issuer.sha256, chain: holder.chain.map(({ sha256 }) => sha256) },
      { at: 'now', anchors: [...new Set(verifier.trusts.map(({ sha256 }) => sha256))].sort() },
      now,
    )
  })
  const proof = answers.every(({ until }) => until >= now)
  const foretold = halves.every(half => accepts(mix.verifier, peerOf(half), at))
  const { ok, said } = await stack.shake(mix)
  tally.add(mix, { proof, foretold, ok, said, why: answers.map(({ why }) => why).join(' | ') })
}

type Half = readonly [holder: Side, verifier: Side]

function halvesOf({ server, client }: Mix): readonly Half[] {
  return [
    [server, client],
    [client, server],
  ]
}

function peerOf([holder, verifier]: Half): Peer {
  return { leaf: holder.leaf.certificate, chain: holder.chain, anchors: verifier.trusts }
}

function isUndecided(mix: Mix, at: Date): boolean {
  if (mix.verifier !== 'java-pkix') return false
  const all = (order: 'luckiest' | 'unluckiest') => halvesOf(mix).every(half => pkixAccepts(peerOf(half), at, order))
  return all('luckiest') !== all('unluckiest')
}

class Tally {
  mixes = 0
  disagreements = 0
  undecided = 0
  readonly notShaken = new Set<string>()
  #byProfile = 0
  #refusedByProfile = 0
  #accepted = 0
  readonly #byStack: Record<string, number> = {}
  readonly #bySystem: Record<string, number> = {}
  readonly #examples: string[] = []

  add(
    mix: Mix,
    {
      proof,
      foretold,
      ok,
      said,
      why,
    }: {
      readonly proof: boolean
      readonly foretold: boolean
      readonly ok: boolean
      readonly said: string
      readonly why: string
    },
  ): void {
    this.mixes += 1
    this.#byStack[mix.verifier] = (this.#byStack[mix.verifier] ?? 0) + 1
    this.#bySystem[mix.system] = (this.#bySystem[mix.system] ?? 0) + 1
    if (ok) this.#accepted += 1
    if (foretold !== proof) this.#byProfile += 1
    if (proof && !foretold) this.#refusedByProfile += 1
    const agrees = foretold === ok
    if (!agrees) this.disagreements += 1
    if ((agrees && !(proof && !ok)) || this.#examples.length >= 20) return
    this.#examples.push(
      `${agrees ? 'refused by profile' : 'DISAGREES'}: ${mix.link}, ${mix.verifier}, ${mix.direction}: proof ${proof} (${why}), profile ${foretold}, wire ${ok} (${said})\n` +
        ([mix.server, mix.client] as const).map(sideText).join('\n'),
    )
  }

  result(): WireResult {
    return {
      mixes: this.mixes,
      disagreements: this.disagreements,
      byProfile: this.#byProfile,
      refusedByProfile: this.#refusedByProfile,
      accepted: this.#accepted,
      undecided: this.undecided,
      byStack: this.#byStack,
      bySystem: this.#bySystem,
      notShaken: [...this.notShaken].sort(),
      examples: this.#examples,
    }
  }
}

function sideText({ leaf, chain, trusts }: Side): string {
  const one = ({
    subject,
    issuer,
    sha256,
    spki,
    ski,
    aki,
    ca,
    pathLength,
    notBefore,
    notAfter,
    parts,
  }: Side['trusts'][number]) =>
    `    ${subject} by ${issuer} ${sha256.slice(0, 6)} key ${spki.slice(0, 4)} ski ${ski?.slice(0, 4)} aki ${aki?.slice(0, 4)} ca ${ca} len ${pathLength} ${notBefore}..${notAfter}${parts.extensions.nameConstraints === null ? '' : ' constrained'}`
  return [`  leaf of ${leaf.issuer.sha256.slice(0, 6)}, sends`, ...chain.map(one), '  trusts', ...trusts.map(one)].join(
    '\n',
  )
}
