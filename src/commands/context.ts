import type { Cluster } from '../cluster/cluster.ts'
import type { WrapDataKey } from '../custody/age.ts'
import type { SopsProgram } from '../custody/sops-program.ts'
import type { Forge } from '../forge/forge.ts'
import type { KeySource } from '../pki/keys.ts'
import type { Person, Repository } from '../repository/repository.ts'
import type { Declaration, Site } from '../rotation.ts'
import type { Signer } from '../signature/sshsig.ts'

/**
 * Everything that a command reads the world through. Time, randomness, keys and clusters are handed in, so that the rehearsal
 * and the tests run the very commands that users run.
 */
export interface Context {
  readonly repository: Repository
  readonly now: () => Date
  readonly sleep: (milliseconds: number) => Promise<void>
  readonly random: (size: number) => Buffer
  readonly keys: KeySource
  /** How custody seals its data keys; age with the system's randomness where it is absent. */
  readonly wrapDataKey?: WrapDataKey
  /** Seals for rules of .sops.yaml that name other keys than age recipients; absent: such rules are refused. */
  readonly sops?: SopsProgram
  /** What signs evidence; absent: no key was given. */
  readonly signer?: Signer
  readonly author: Person
  readonly openForge: (declaration: Pick<Declaration, 'forge' | 'base'>) => Promise<Forge>
  readonly openCluster: (site: Site) => Promise<Cluster>
  /** A file of the user's, by a path as it was typed. Throws ReanchorError where it cannot be read. */
  readonly readFile: (path: string) => string
  readonly environment: Readonly<Record<string, string | undefined>>
  /** One line for a person who watches. */
  readonly progress: (line: string) => void
  /** Do everything but write. */
  readonly dryRun: boolean
}
