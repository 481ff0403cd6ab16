import type { Fingerprint, Instant } from '../../rotation.ts'

/** The ConfigMap with the anchors, as it is now. */
export interface PublishedAnchors {
  /** `linkerd/linkerd-identity-trust-roots` */
  readonly name: string
  readonly roots: readonly Fingerprint[]
  /** When its anchors were written last, by the API server's clock; null: not to be told. */
  readonly changed: Instant | null
}

/** A container that reads anchors once, at its start. */
export interface StartedContainer {
  readonly name: string
  readonly started: Instant | null
  /** Not for the first time in this pod, and from a mounted file, which follows its ConfigMap with a delay. */
  readonly lagging: boolean
}

/** What a restart token of the plan says of the anchors that a pod was made with. */
export interface TokenRoots {
  /** Null: no step of the plan has that token. */
  readonly roots: readonly Fingerprint[] | null
  /** Nothing has yet seen that it came after the anchors: the step that is looked at has brought this token, or there is none, and no plan. */
  readonly fresh: boolean
}

export type Loaded =
  | { readonly roots: readonly Fingerprint[] }
  /** Why it cannot be told. */
  | { readonly roots: null; readonly why: string }

/** Milliseconds by which a mounted file may lag its ConfigMap: a sync period of the kubelet and its jitter. */
const mountLag = 120_000

/**
 * Which anchors a container holds that read them from a ConfigMap at its start, and shows them nowhere (linkerd2 charts/partials/templates/_proxy.tpl:
 * `configMapKeyRef` from 2.11 on; controller/cmd/identity/main.go: a mounted file).
 *
 *     ConfigMap written ──────┐
 *     ────────────────────────┼──────────────────────▶ time
 *       started here: what    │    started here: what
 *       stood before          │    stands there now
 *
 * What stood before is told by the restart token alone, which was held to the same times when its own step was looked at. So a token that is new
 * with this step says nothing by itself: a pod that was made before the anchors came carries it just as well (F11, F23).
 */
export function loadedRoots(
  container: StartedContainer,
  published: PublishedAnchors | null,
  token: TokenRoots,
): Loaded {
  const { started } = container
  if (started === null) return { roots: null, why: `when container ${container.name} started is not known` }
  if (published !== null && published.changed !== null) {
    const readable = Date.parse(published.changed) + (container.lagging ? mountLag : 0)
    if (Date.parse(started) > readable) return { roots: published.roots }
  }
  if (!token.fresh) {
    if (token.roots !== null) return { roots: token.roots }
    return { roots: null, why: 'it was made with a restart token that is of no step of the plan' }
  }
  if (published === null) return { roots: null, why: 'the ConfigMap with the anchors could not be read' }
  const changed = published.changed ?? 'at a time that is not to be told'
  return {
    roots: null,
    why: `container ${container.name} started at ${started}, and ${published.name} was written ${changed}: it may hold the anchors from before; restart it`,
  }
}
