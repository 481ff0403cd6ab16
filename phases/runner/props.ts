/** What every pod of reanchor needs. */
export interface PodProps {
  /** Image with reanchor and git, as the Dockerfile makes it. */
  readonly image: string
  /** Address of the GitOps repository, without credentials: https://… */
  readonly repository: string
  /** Name of a Secret with the keys `username` and `token`, which may push what the command pushes. @default reanchor-git */
  readonly gitSecret?: string
  /** Name of a Secret whose key `key` signs evidence. @default evidence is not signed */
  readonly signingSecret?: string
}

/** How the runner runs in a cluster, of its own account. It pushes branches and refs/reanchor/lock/. */
export interface RunnerProps extends PodProps {
  /** Texts of roles/<system>.yaml, and of its -portforward.yaml where the runner may do that. */
  readonly roles: readonly string[]
  /** @default every ten minutes */
  readonly schedule?: string
  /** @default every rotation that is open */
  readonly rotation?: string
}

/** How the verifier of one site runs in its cluster. It pushes refs/reanchor/reports/ alone. */
export interface VerifierProps extends PodProps {
  /** As of the runner. */
  readonly roles: readonly string[]
  /** Name of the site in rotation.yaml, the same in every rotation. */
  readonly site: string
  /** @default every five minutes, of which a report may miss two */
  readonly schedule?: string
}

/** The Job that a delivery waits for. */
export interface GateProps extends PodProps {
  readonly site: string
  /** What delivers the site's folder. */
  readonly delivery: 'flux' | 'argocd'
  /** How long it waits at the most: a step that waits for renewals takes as long as a leaf lives. @default 26 */
  readonly hours?: number
}

/** The namespace and ServiceAccount that roles/ speak of. */
export const runnerNamespace = 'reanchor'
export const runnerAccount = 'reanchor-verifier'
