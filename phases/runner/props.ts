/** How reanchor runs in a cluster of its own account. */
export interface RunnerProps {
  /** Image with reanchor and git, as the Dockerfile makes it. */
  readonly image: string
  /** Texts of roles/<system>.yaml, and of its -portforward.yaml where the runner may do that. */
  readonly roles: readonly string[]
  /** Address of the GitOps repository, without credentials: https://… */
  readonly repository: string
  /** @default every ten minutes */
  readonly schedule?: string
  /** @default every rotation that is open */
  readonly rotation?: string
  /** Name of a Secret with the keys `username` and `token`, which may push branches and refs/reanchor/lock/. @default reanchor-git */
  readonly gitSecret?: string
  /** Name of a Secret whose key `key` signs evidence. @default evidence is not signed */
  readonly signingSecret?: string
}

/** The namespace and ServiceAccount that roles/ speak of. */
export const runnerNamespace = 'reanchor'
export const runnerAccount = 'reanchor-verifier'
