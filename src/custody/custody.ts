/** A Secret as plain values, before it is sealed. Values are raw bytes as they are to stand in the cluster. */
export interface PlainSecret {
  readonly name: string
  readonly namespace: string
  readonly type: string
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  readonly data: Readonly<Record<string, string>>
  /** Keys of `data` that are private; only these are sealed. */
  readonly privateKeys: readonly string[]
}

/**
 * Private key in, committable manifest out: plaintext has no other way into a repository.
 *
 * `seal` is asked once for every step, in order. An equal value at the same path of the same object keeps its ciphertext,
 * so a custody holds state for one plan: make a new one for each plan.
 */
export interface Custody {
  readonly kind: 'sops' | 'sealedSecrets' | 'externalSecrets'
  /** The manifest as YAML text that ends with a newline. `destination` is the path it will have in the repository. */
  seal(secret: PlainSecret, destination: string): Promise<string>
}
