import { type Certificate, isSelfIssued, isSignedBy } from '../../src/pki/certificate.ts'
import type { Verifier } from '../../src/pki/verifiers.ts'
import type { SystemName } from '../../src/rotation.ts'
import type { Link } from '../../src/safety/model.ts'
import { systemOf } from '../../src/systems/systems.ts'
import type { Random } from '../random.ts'
import type { Family, Leaf } from './families.ts'

/** One end of a handshake: what it presents, and what it trusts, in the order in which it was given both. */
export interface Side {
  readonly leaf: Leaf
  readonly chain: readonly Certificate[]
  readonly trusts: readonly Certificate[]
}

/** `server`: the server's leaf is in question; `client`: the client's; `mutual`: both. */
export type Direction = 'server' | 'client' | 'mutual'

/** A handshake, with the stack that verifies in it. */
export interface Mix {
  readonly system: SystemName
  readonly link: string
  readonly verifier: Verifier
  readonly direction: Direction
  readonly server: Side
  readonly client: Side
}

/**
 * What each party verifies with. Null: rustls, which no handshake here can be made with.
 * Envoy sets X509_V_FLAG_PARTIAL_CHAIN for all contexts; Python's ssl, which cqlsh uses, only from 3.13 on.
 */
const stacks: Readonly<Record<SystemName, Readonly<Record<string, readonly Verifier[] | null>>>> = {
  istio: {
    sidecar: ['openssl'],
    gateway: ['openssl'],
    waypoint: ['openssl'],
    vm: ['openssl'],
    ztunnel: null,
    istiod: ['go'],
    webhook: ['go'],
  },
  linkerd: { proxy: null, 'control-plane': null, gateway: null, external: null, identity: ['go'] },
  kyma: { gateway: ['openssl'] },
  cassandra: {
    node: ['java-sunx509', 'java-pkix'],
    reaper: ['java-pkix'],
    prober: ['java-pkix'],
    client: ['openssl-whole-chain', 'java-pkix'],
  },
}

const parties: Readonly<Record<SystemName, readonly string[]>> = {
  istio: ['sidecar', 'gateway', 'waypoint', 'ztunnel', 'istiod', 'webhook', 'vm'],
  linkerd: ['proxy', 'control-plane', 'identity', 'gateway', 'external'],
  kyma: ['runtime', 'application', 'connector', 'gateway'],
  cassandra: ['node', 'client', 'prober', 'reaper', 'operator'],
}

export function verifiersOf(link: Pick<Link, 'verifier'>, system: SystemName): readonly Verifier[] | null {
  const found = stacks[system][link.verifier]
  if (found === undefined) throw new Error(`no TLS stack is named for ${system}'s ${link.verifier}: add it to stacks`)
  return found
}

export function linksOf(system: SystemName): readonly Link[] {
  return systemOf(system).model.links(parties[system])
}

/** `control`: a side that every verifier of this run accepts, for the direction that is not in question. */
export function makeMix(family: Family, link: Link, verifier: Verifier, random: Random, control: Side): Mix {
  const { system } = family
  // A gateway of Kyma verifies clients; a peer verifies either, and between two of one kind both at once.
  const direction: Direction =
    system === 'kyma'
      ? 'client'
      : random.pick(link.holder === link.verifier ? ['server', 'client', 'mutual'] : ['server', 'client'])
  const [holder, other] = [side(family, random), side(family, random)]
  const trusts = direction === 'mutual' ? holder.trusts : control.trusts
  const presenting = { ...holder, trusts }
  const verifying = direction === 'mutual' ? other : { ...control, trusts: other.trusts }
  return {
    system,
    link: link.name,
    verifier,
    direction,
    server: direction === 'client' ? verifying : presenting,
    client: direction === 'client' ? presenting : verifying,
  }
}

function side(family: Family, random: Random): Side {
  const leaf = random.pick(family.leaves)
  const trusts: Certificate[] = []
  for (let count = random.pick([1, 1, 2, 2, 3, 4]); count > 0; count--) trusts.push(random.pick(family.cas))
  const between = random.shuffled(family.cas).slice(0, random.pick([0, 0, 1, 1, 2, 3]))
  // Half of all leaves get trust that has to do with them: chance alone would make nearly every mix a refusal.
  if (random.chance(0.6)) {
    const wanted = random.pick([leaf.issuer, ...above(leaf, family, random)])
    trusts.splice(random.whole(trusts.length + 1), 0, wanted)
    if (random.chance(0.1)) trusts.push(wanted)
  }
  const upward = random.chance(0.7) ? above(leaf, family, random) : []
  return { leaf, chain: presented(leaf, [...upward, ...between]), trusts: stored(family.system, trusts) }
}

/**
 * Some way up from a leaf's issuer, nearest first, valid or not. Who stands above is asked in the order of the family and drawn, never sorted by
 * fingerprint: keys are new in every run, and a seed must mean the same mixes all the same.
 */
function above(leaf: Leaf, family: Family, random: Random): readonly Certificate[] {
  const way: Certificate[] = [leaf.issuer]
  for (;;) {
    const top = way.at(-1)!
    const issuers = family.cas.filter(ca => !way.includes(ca) && isAbove(ca, top))
    if (isSelfIssued(top) || issuers.length === 0) return way.slice(1)
    way.push(random.pick(issuers))
  }
}

function isAbove(issuer: Certificate, child: Certificate): boolean {
  return issuer.parts.subject.der.equals(child.parts.issuer.der) && isSignedBy(child, issuer)
}

/** All systems send the issuing CA behind the leaf: the proof takes that as given. */
function presented(leaf: Leaf, more: readonly Certificate[]): readonly Certificate[] {
  const all = new Map([leaf.issuer, ...more].map(certificate => [certificate.sha256, certificate]))
  return [...all.values()]
}

/**
 * Cassandra's operator names the entries of a truststore by Subject, and Java lowers the case of names: of two CAs of one Subject the last one
 * stays (F9). All others keep what they are given, repeats too.
 */
function stored(system: SystemName, trusts: readonly Certificate[]): readonly Certificate[] {
  if (system !== 'cassandra') return trusts
  return [...new Map(trusts.map(certificate => [certificate.subject.toLowerCase(), certificate])).values()]
}
