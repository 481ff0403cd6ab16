import type { KeyObject } from 'node:crypto'
import type { Certificate } from '../pki/certificate.ts'
import type { TrustState } from '../rotation.ts'

/** The CA that a site has now. `key` is the signing key as PEM, which a phase may need; null where it is not at hand. */
export interface CurrentCa {
  readonly issuer: Certificate
  /** What is served with a leaf, leaf-ward first; empty where the issuer is an anchor itself. */
  readonly chain: readonly Certificate[]
  /** In order, repeats kept. */
  readonly roots: readonly Certificate[]
  readonly key: string | null
  readonly source: TrustState['source']
  /** Public, and part of what a plan is made from. */
  readonly settings: Readonly<Record<string, string>>
  /** Restart tokens that an earlier rotation left, which must stay: another value would restart what needs no restart. */
  readonly restarts: Readonly<Record<string, string>>
  /** What else the system must carry on, as it stands in the cluster. It may be private: it is in no digest, no log and no error. */
  readonly extra?: Readonly<Record<string, string>>
}

/** The CA that a site will have. `key` is its signing key as PEM, or a value that custody sealed before. */
export interface NextCa {
  readonly root: Certificate
  readonly issuer: Certificate
  /** Leaf-ward first, the root last. */
  readonly chain: readonly Certificate[]
  readonly key: string
}

export interface NewCa {
  readonly sites: Readonly<Record<string, NextCa>>
  /** The root's key, which goes to the file of --root-key-out and nowhere else. Null: it was never ours, or it signs leaves itself. */
  readonly rootKey: KeyObject | null
  readonly root: Certificate
}
