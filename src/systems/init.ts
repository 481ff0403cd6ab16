import type { Findings } from '../declaration/find.ts'
import type { InitAnswers, InitQuestion } from '../declaration/init.ts'
import type { FileTree, SystemPart } from '../rotation.ts'

/** What `init` knows: the repository, and what it was told. */
export interface InitScene {
  readonly findings: Findings
  readonly answers: InitAnswers
  readonly files: FileTree
}

/** Something that was found or told, with what a reader should know of it; or the question that is still open. */
export type Outcome<Value> = { readonly value: Value; readonly note: string | null } | { readonly ask: InitQuestion }

/** What a system makes of the scene. */
export interface InitPart {
  /** Of each site in the order of the answers: whether it is known what declares the system there. */
  readonly sites: readonly Outcome<unknown>[]
  /** Asked once no question is open. */
  finish(): {
    readonly part: SystemPart
    /** Remarks by field, such as `spec.istio.controlPlane.eu-1`: each stands as a comment above its field. */
    readonly notes: readonly (readonly [string, string])[]
    readonly remarks: readonly string[]
    /** The user's file that `adopt` wires at each site, for the terminal; a site that has none is absent. */
    readonly wired: Readonly<Record<string, string>>
    /** Folders whose workloads are the system's own control plane, which steps of their own restart. @default [] */
    readonly notRestarted?: readonly string[]
  }
  /** File of a site's folder that holds the CA sealed: .sops.yaml must have a rule for it. */
  readonly sealedFile: string
  /** Whether workloads that the repository holds are proposed under `reload`. */
  readonly restartsWorkloads: boolean
}
