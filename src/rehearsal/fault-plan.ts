import type { ClusterFailure } from '../cluster/cluster.ts'
import { type SeededRandom, seededRandom } from './clock.ts'

/**
 * What goes wrong in one run of a rehearsal, drawn before it starts. Nothing in it names an object of the cluster: a share from 0 to 1 says where in a
 * sorted list it strikes, so that the same seed means the same whatever keys and names a run makes.
 */
export interface FaultPlan {
  readonly seed: number
  readonly cluster: readonly ClusterTrouble[]
  readonly crashes: readonly Crash[]
  readonly deeds: readonly Deed[]
}

/** Something in a cluster, or on the way to it, that is out of order for a while. */
export interface ClusterTrouble {
  readonly kind: TroubleKind
  /** Index of the site. */
  readonly site: number
  /** Which step's merge it follows: a share of the steps, the plan's own pull request included. */
  readonly place: number
  /** Virtual milliseconds from that merge until it begins, and from then until it is over. */
  readonly after: number
  readonly lasts: number
  /** Which of several it strikes. */
  readonly share: number
  /** How strongly: a lag, a skew in milliseconds; 1: the deliverer is suspended; 0 where that has no meaning. */
  readonly measure: number
  /** Of `api`: what fails in which way. */
  readonly api: ApiTrouble | null
}

export const troubleKinds = [
  /** The kubelet of one workload's pods brings changed Secrets and ConfigMaps late. */
  'kubelet-lags',
  /** A node's kubelet sees no change of any Secret or ConfigMap: its pods start and live with what was. */
  'node-stale',
  /** Flux or Argo CD does not look at the repository. */
  'source-stalls',
  /** A consumer takes up nothing: neither bundle nor leaf. */
  'consumer-hangs',
  /** One of several replicas keeps what it had. */
  'replica-lags',
  /** New pods of one workload do not get ready. */
  'never-ready',
  /** One pod is deleted, as when a node is drained. */
  'pod-evicted',
  /** A person restarts a workload, or edits it in the cluster. */
  'live-restart',
  'live-edit',
  /** The API server's clock is wrong. */
  'clock-skew',
  /** The clock of reanchor's own machine is wrong, … */
  'runner-clock',
  /** … or that of one node, by which its kubelet and the proxies on it tell times. */
  'node-clock',
  /** A person edits the live bundle in the cluster; the deliverer sets it back, or is suspended meanwhile. */
  'trust-edit',
  /** Reads are answered from a cache that stands still. */
  'stale-reads',
  /** Requests fail. */
  'api',
  /** A kubeconfig leads to another cluster. */
  'wrong-cluster',
  /** Istio: a proxy's CA channel reaches another replica than its XDS stream. */
  'split-replicas',
  /** Istio: a proxy holds two entries of roots, of which one keeps what it had. */
  'split-entries',
] as const

export type TroubleKind = (typeof troubleKinds)[number]

export interface ApiTrouble {
  readonly asked: string
  readonly failure: ClusterFailure
  /** As the client reports it. */
  readonly detail: string
}

/** reanchor is killed at a write, and run again. */
export interface Crash {
  /** A share of all runs of the command that write: the plan first, then one for each step. */
  readonly place: number
  /** Which write, from 1. */
  readonly write: number
  readonly when: 'before' | 'after'
}

/** What a person does with the repository. */
export interface Deed {
  readonly kind: DeedKind
  readonly place: number
  readonly share: number
}

export const deedKinds = [
  /** Edits the branch of an open pull request of the rotation. */
  'edits-request',
  /** Opens a pull request that copies a later step's files: merged only if `check` calls it safe. */
  'skips-ahead',
  /** Opens a pull request that goes back to an earlier step's files: merged only if `check` calls it safe. */
  'reverts',
  /** Asks for `undo`, and merges it. */
  'undoes',
  /** Commits something that is no business of the rotation straight to the base branch. */
  'commits-elsewhere',
  /** Leaves the pull request open for hours, and has `next` look again before merging. */
  'merges-late',
  /** Closes the pull request; `next` opens it anew. */
  'closes-request',
] as const

export type DeedKind = (typeof deedKinds)[number]

export interface FaultScope {
  readonly sites: number
  /** Kinds that the system can act out, and that mean something with so many sites. */
  readonly troubles: readonly TroubleKind[]
  readonly deeds: readonly DeedKind[]
}

const minute = 60_000

/** Everything that a run meets, by its seed alone. */
export function drawFaults(seed: number, scope: FaultScope): FaultPlan {
  const random = seededRandom(`faults/${seed}`)
  const troubles = random.fork('troubles')
  const crashes = random.fork('crashes')
  const deeds = random.fork('deeds')
  const more = random.fork('more')
  return {
    seed,
    cluster: [
      ...troublesOf(troubles, [3, 7], scope, kind => !rarer.has(kind)),
      ...troublesOf(more, [0, 2], scope, kind => rarer.has(kind)),
    ],
    crashes: drawn(crashes.between(0, 2), () => ({
      place: crashes.next(),
      write: crashes.between(1, 6),
      when: crashes.next() < 0.5 ? 'before' : 'after',
    })),
    deeds: drawn(scope.deeds.length === 0 ? 0 : deeds.between(0, 3), () => ({
      kind: pick(deeds, scope.deeds),
      place: deeds.next(),
      share: deeds.next(),
    })),
  }
}

/** Drawn apart, so that what a seed drew before they were there is what it draws still. */
const rarer: ReadonlySet<TroubleKind> = new Set(['runner-clock', 'node-clock', 'trust-edit'])

function troublesOf(
  random: SeededRandom,
  [least, most]: readonly [number, number],
  scope: FaultScope,
  of: (kind: TroubleKind) => boolean,
): readonly ClusterTrouble[] {
  const kinds = scope.troubles.filter(of)
  return drawn(kinds.length === 0 ? 0 : random.between(least, most), () =>
    trouble(random, { ...scope, troubles: kinds }),
  )
}

function trouble(random: SeededRandom, scope: FaultScope): ClusterTrouble {
  const kind = pick(random, scope.troubles)
  const site = random.between(0, scope.sites - 1)
  const [place, after, share] = [random.next(), random.between(0, 4 * minute), random.next()]
  const [least, most] = lasting[kind] ?? [5, 60]
  const lasts = random.between(least * minute, most * minute)
  const strength = random.next()
  return {
    kind,
    site,
    place,
    after,
    lasts,
    share,
    measure: measureOf(kind, strength),
    api: kind === 'api' ? pick(random, apiTroubles) : null,
  }
}

/** Minutes that a trouble lasts, at least and at most. @default 5 to 60 */
const lasting: Readonly<Partial<Record<TroubleKind, readonly [number, number]>>> = {
  // What a consumer misses shows once the next phase meets it: these must be able to outlast one.
  'consumer-hangs': [20, 180],
  'replica-lags': [20, 180],
  'node-stale': [20, 120],
  'kubelet-lags': [10, 90],
  // Longer than one look and its repetition, and shorter than patience.
  api: [1, 30],
  'stale-reads': [5, 120],
  'clock-skew': [5, 90],
  'wrong-cluster': [10, 90],
  'runner-clock': [5, 90],
  'node-clock': [20, 180],
  'trust-edit': [5, 120],
}

function measureOf(kind: TroubleKind, strength: number): number {
  if (kind === 'kubelet-lags') return Math.round((2 + strength * 18) * minute)
  if (kind === 'trust-edit') return strength < 0.5 ? 0 : 1
  if (kind !== 'clock-skew' && kind !== 'runner-clock' && kind !== 'node-clock') return 0
  // From seconds, which are nothing, to hours, on both sides.
  const sign = strength < 0.5 ? -1 : 1
  const size = Math.abs(strength - 0.5) * 2
  return sign * Math.round(1_000 * 10 ** (size * 4))
}

/** What a client of the API meets, in the words of `src/cluster/kubernetes.ts` for it. */
const apiTroubles: readonly ApiTrouble[] = [
  { asked: '^list pods', failure: 'partial', detail: 'the list expired twice while it was read' },
  { asked: '^list ', failure: 'partial', detail: 'stopped half way with status 500' },
  { asked: '^list pods', failure: 'malformed', detail: 'the answer ends in the middle' },
  { asked: '.', failure: 'unreachable', detail: 'status 503: the server is currently unable to handle the request' },
  { asked: '.', failure: 'unreachable', detail: 'status 429: too many requests' },
  { asked: '.', failure: 'unreachable', detail: 'connect ETIMEDOUT' },
  { asked: '^get ', failure: 'unreachable', detail: 'status 500: etcdserver: request timed out' },
  { asked: '^identity', failure: 'unreachable', detail: 'status 502: bad gateway' },
  { asked: '^list ', failure: 'forbidden', detail: 'status 403: the role was taken away' },
  { asked: '^get ', failure: 'forbidden', detail: 'status 401: the token has ended' },
  { asked: '^(http|handshake) ', failure: 'timeout', detail: 'no answer in time' },
  { asked: '^(http|handshake) ', failure: 'unreachable', detail: 'the port-forward was closed' },
]

function drawn<T>(count: number, one: () => T): readonly T[] {
  return Array.from({ length: count }, one)
}

function pick<T>(random: SeededRandom, from: readonly T[]): T {
  const found = random.pick(from)
  if (found === undefined) throw new RangeError('nothing to pick from')
  return found
}

/** The entry of a list that a share of it names; undefined in an empty one. */
export function atShare<T>(list: readonly T[], share: number): T | undefined {
  return list[Math.min(list.length - 1, Math.floor(share * list.length))]
}
