import type { KeyObject } from 'node:crypto'
import type { Cluster } from '../cluster/cluster.ts'
import type { Custody } from '../custody/custody.ts'
import type { FieldPath } from '../declaration/located-yaml.ts'
import type { Finding } from '../declaration/raw.ts'
import type { Surface } from '../declaration/schema.ts'
import type { DeclarationWriter } from '../declaration/write.ts'
import type { KeySource } from '../pki/authority.ts'
import type { Certificate } from '../pki/certificate.ts'
import type { CurrentCa, NewCa, NextCa } from '../plan/ca.ts'
import type { CoursePhase } from '../plan/time-left.ts'
import type { RehearsalSystem } from '../rehearsal/system.ts'
import type { FoundPlace } from '../report/trust-places.ts'
import type { TrustHeader } from '../report/trust-txt.ts'
import type {
  CertificateFacts,
  ClusterChoice,
  ConsumerClass,
  CurrentSource,
  Declaration,
  EvidenceException,
  EvidenceGroup,
  FileTree,
  Fingerprint,
  Instant,
  KeyAlgorithm,
  NextSource,
  ObjectEvidence,
  Plan,
  ProvenTransition,
  Site,
  Strategy,
  SystemName,
  SystemPart,
  TrustState,
  WiringPoint,
} from '../rotation.ts'
import type { Link } from '../safety/model.ts'
import type { ForetoldPair } from '../safety/price.ts'
import type { Rule } from '../verify/gate.ts'
import type { PatienceSettings } from '../verify/patience.ts'
import type { PlannedPlace } from '../verify/planned.ts'
import type { InitPart, InitScene } from './init.ts'

/**
 * All that the rest of reanchor knows of one system whose trust is rotated. The object itself is light: what reads clusters, renders or
 * rehearses is loaded by the member that needs it. No member changes a cluster or a repository.
 */
export interface System {
  readonly name: SystemName
  /** As in a sentence: `Istio`. */
  readonly title: string
  /** File with the least rights that the verifier needs: `roles/istio.yaml`. */
  readonly role: string
  readonly settings: SettingsRules
  /** What `init <system>` finds in the repository and asks for. */
  init(): Promise<(scene: InitScene) => InitPart>
  /** Null: the strategy exists. Else why it does not, and what to do in its place. */
  readonly strategies: Readonly<Record<Strategy, null | MissingStrategy>>

  /** Today's CA of one site. Throws ReanchorError where there is none, or none that can be carried unchanged. */
  currentFromCluster(cluster: Cluster, declared: SystemPart, site: Pick<Site, 'name'>): Promise<CurrentCa>
  /** The same from PEM files. Throws ReanchorError (2) where the system needs more than files can say. */
  currentFromFiles(
    source: Extract<CurrentSource, { from: 'files' }>,
    read: (path: string) => string,
    declaration: Declaration,
  ): Promise<CurrentCa>
  /** The Secret in which a signing key waits, sealed, for an offline root's answer. Null: the system takes no CA by request. */
  requestSecret(declared: SystemPart, scene: RequestScene): Promise<RequestSecret | null> | RequestSecret | null
  /** DNS names that an issuing CA must carry, whoever signs it. @default none */
  issuerNames?(declared: SystemPart): readonly string[]
  /** A new CA for all sites. Keys and random come from `means`; nothing is written. Sources other than `generate` and `files` are the caller's. */
  newCa(
    declaration: Declaration,
    next: Extract<NextSource, { from: 'generate' | 'files' }>,
    means: NewCaMeans,
  ): Promise<NewCa>
  /** Refuses material that a consumer would not take or that cannot follow the present one: throws ReanchorError; returns where all is well. */
  accept(
    declaration: Declaration,
    current: Readonly<Record<string, CurrentCa>>,
    next: NewCa,
    now: Date,
  ): Promise<void> | void
  /** Files of a site's folder that hold sealed values, the CA's first. */
  readonly sealedFiles: readonly string[]
  /** Files of a site's folder that no step takes away, an undo as little: what is in them must stay in the cluster. */
  readonly keptFiles: readonly string[]
  /** Where a state's folder holds the signing key sealed. Null: it delivers none in this state. */
  sealedKey(state: TrustState): { readonly file: string; readonly key: string } | null

  /** Everything that is planned for one site. Asked once for each site of a plan, so what it searches in the users' files is searched once. */
  planSite(inputs: SitePlanInputs): Promise<SitePlan>
  /** Hours that a leaf lives, which the proof waits for at the end of a phase. 0: no phase waits for renewals. */
  leafHours(declared: SystemPart): number
  /** Hours until every holder has renewed by itself once another CA issues. @default leafHours */
  renewalHours?(declared: SystemPart): number
  /**
   * The phases that a plan would have at a site, as far as time is concerned: what `inspect` tells of days left before there is a plan. `wanted`: the CA that
   * would come, which need not exist. Empty where the strategy does not. Pure.
   */
  course(strategy: Strategy, declared: SystemPart, scene: CourseScene): readonly CoursePhase[]
  /** Classes of parties of the whole plan, as `model` knows them. */
  parties(declared: SystemPart): readonly string[]
  readonly model: SafetyModel

  /** Looks at everything in one cluster that verifies or presents a certificate of the system. Judges nothing; what it cannot see is an exception. */
  observe(options: ObserveOptions): Promise<Observation>
  /** Gates of one place, in the order in which a roll-out fulfils them. Empty: never; a place without gates would open by itself. */
  rules(plan: Plan, place: PlannedPlace): readonly Rule[]
  /** What an edited folder declares, read from its certificates; null: the files do not say, and the planned state counts. */
  declaredState(places: readonly FoundPlace[], planned: TrustState | null): TrustState | null

  readonly words: SystemWords
  /** What the rehearsal simulates, and the fleet of `demo <system>`. */
  rehearsal(): Promise<RehearsalSystem>
}

/** Today's CA as far as phases depend on it, and how workloads restart. */
export interface CourseScene {
  readonly current: {
    readonly issuer: Fingerprint
    readonly roots: readonly Fingerprint[]
    readonly source: TrustState['source']
    readonly settings: Readonly<Record<string, string>>
  }
  /** Batches of reload targets; 0: reanchor restarts no workload itself. */
  readonly workloadBatches: number
}

/** Stands for the fingerprint of a CA that does not exist yet. */
export const futureCa = 'future'

/** Of a planned phase what time depends on. */
export function coursePhase({ name, steps }: PhaseDraft): CoursePhase {
  return { name, steps: steps.map(({ state: { bundle, issuer } }) => ({ bundle, issuer })) }
}

/** What is known where an issuing key is made for an offline root. */
export interface RequestScene {
  readonly site: Site
  readonly current: CurrentCa
  /** The base branch as it is. */
  readonly files: () => Promise<FileTree>
}

export interface RequestSecret {
  readonly name: string
  readonly namespace: string
  readonly file: string
  readonly key: string
  /** The form in which consumers read the key. @default PKCS#8 */
  readonly keyPem?: (key: KeyObject) => string
  /** DNS names that the certificate must carry, which the request asks for. @default none */
  readonly dns?: readonly string[]
}

export interface MissingStrategy {
  /** One clause: `strategy renew is not supported for Istio in this version`. */
  readonly what: string
  readonly expected: string
  readonly todo: string
}

export interface NewCaMeans {
  readonly now: Date
  readonly random: (size: number) => Buffer
  readonly keys: KeySource
  /** Reads a file that the user named; throws a located error. */
  readonly read: (path: string) => string
  /** Today's CAs by site, for strategies that keep a key or a root. */
  readonly current: Readonly<Record<string, CurrentCa>>
}

// -------------------------------------------------------------------------------------------------- declaration

/** Of `spec` what says how a system is installed. */
export type SystemFields = Pick<Surface['spec'], SystemName | 'reload'>

/** What `spec.<system>` of rotation.yaml means. Its form is a zod schema of its own, which src/declaration/schema.ts takes in. */
export interface SettingsRules {
  /** What counts where the file says nothing, if not what counts for Istio. */
  readonly defaults: {
    readonly rollout?: 'parallel' | 'serial'
    /** As a duration: `2m`. */
    readonly hold?: string
    readonly algorithm?: KeyAlgorithm
    readonly validity?: string
    readonly issuingAlgorithm?: KeyAlgorithm
    readonly issuingValidity?: string
  }
  /** `mesh`: a rotation of 2026 that was given no name is called `mesh-2026`. */
  readonly stem: string
  /** False: there is no issuing CA under the new one, so `next.generate.issuing` is neither read nor written. */
  readonly issuing: boolean
  /** Subjects of a generated CA where none is given; `{site}` stands for the site's name. */
  subjects(rotation: string, part: SystemPart): { readonly root: string; readonly issuing: string }
  /** What concerns several fields. `spec` is as it stands in the file, possibly of wrong form: what is not well-formed is passed over. */
  checks(spec: Readonly<Record<string, unknown>>, siteNames: readonly string[]): readonly Finding[]
  /** Files and folders of the user's that the settings name: they may not lie in a site's folder. */
  paths(spec: Readonly<Record<string, unknown>>): readonly { readonly path: FieldPath; readonly text: string }[]
  /** What `reload.leaves` says; null: its default. Absent: leaves of this system are taken up in one way only, and the field is refused. */
  leaves?(part: SystemPart): 'restart' | null
  /** From the checked form to the typed one, every default filled in. */
  fill(spec: SystemFields): SystemPart
  /** The fields of `spec.<system>`, so that reading them back gives the same. */
  write(out: DeclarationWriter, part: SystemPart): void
}

// --------------------------------------------------------------------------------------------------------- plan

export interface SitePlanInputs {
  readonly declaration: Declaration
  readonly site: Site
  /** The base branch as it is. */
  readonly files: FileTree
  readonly current: CurrentCa
  /** `key` may be a value that custody sealed before: then it cannot be parsed. */
  readonly next: NextCa
  /** The merged plan that this one is made again from, where there is one: states that depend on private bytes are taken from it. */
  readonly merged: Plan | null
}

/** A step of one site as states of trust. */
export interface StepDraft {
  /** `data`, `restart`, `control-plane`: part of folder and branch names. */
  readonly name: string
  /** One sentence for the pull request: what changes. */
  readonly what: string
  readonly state: TrustState
  readonly undo: TrustState | null
  readonly nudge: TrustState | null
}

export interface PhaseDraft {
  readonly name: string
  /** As in a pull request's title. */
  readonly title: string
  readonly steps: readonly StepDraft[]
}

export interface SitePlan {
  /** From `adopt` on; the closing phase changes no folder and is the plan's to add. All sites of a plan have the same phases and steps. */
  readonly phases: readonly PhaseDraft[]
  /** The files of one step, undo or nudge, relative to the site's folder: kustomization.yaml and trust.txt (src/render/folder.ts) with them. */
  render(rendering: StepRendering): Promise<FileTree>
  /** Every place in the user's own files that `adopt` wires. `adopted`: the folder of the first step. Throws where wiring cannot carry it. */
  wiring(adopted: FileTree): readonly WiringPoint[]
}

export interface StepRendering {
  readonly header: TrustHeader
  readonly state: TrustState
  readonly custody: Custody
  /** Plain value of the canary, or the sealed one of an earlier plan. */
  readonly canary: string
  /** Throws where the material holds no such certificate. */
  readonly certificate: (sha256: string) => Certificate
}

// ------------------------------------------------------------------------------------------------------- safety

/** Who meets whom, for the proof and for `check`. Pure. */
export interface SafetyModel {
  /** Links between the plan's parties, the plainest first: the first one speaks in counterexamples. At least one. */
  links(parties: readonly string[]): readonly Link[]
  /** A party as in a sentence: `the API server`. */
  partyName(party: string): string
  /** Notes that do not make a plan unsafe. `price`: every pair that the plan breaks, computed when it is asked for. */
  notes(plan: Plan, proven: readonly ProvenTransition[], price: () => readonly ForetoldPair[]): readonly string[]
  /**
   * Where the plan's CA is anchor and issuer at once, both must be able to move together: then no rule against it. The handshakes are proven
   * either way. @default false
   */
  readonly movesBoth?: boolean
  /** Consumers that evidence speaks of and whose PKI is none of what is rotated, so that they are party to no link. @default none */
  readonly apart?: readonly ConsumerClass[]
}

// ------------------------------------------------------------------------------------------------------- verify

export interface Progress {
  /** `list pods`, `read proxies`, … */
  readonly stage: string
  readonly done: number
  /** Null while it is not known yet. */
  readonly of: number | null
}

export interface ObserveOptions {
  readonly cluster: Cluster
  readonly plan: Plan
  readonly site: string
  readonly place: PlannedPlace
  readonly declared: SystemPart
  /** This machine's clock: leaf dates are held to it. */
  readonly now: Date
  /** Port-forwards at work at a time. */
  readonly concurrency: number
  /** For consumers that give no answer. @default defaultPatience */
  readonly patience?: PatienceSettings
  readonly onProgress: (progress: Progress) => void
  /** Opens a cluster beside that of the site, which the caller closes: `name` is what demo and tests know it by. @default none can be opened */
  readonly openCluster?: (name: string, choice: ClusterChoice) => Promise<Cluster>
}

export interface Observation {
  readonly groups: readonly EvidenceGroup[]
  readonly exceptions: readonly EvidenceException[]
  readonly objects: readonly ObjectEvidence[]
  /** The cluster's own time of the last change that was seen; null: not to be told. */
  readonly lastChange: Instant | null
  /** Certificates that were seen and that the plan does not know. */
  readonly certificates: readonly CertificateFacts[]
  /** False where a list came back incomplete: then nothing may be concluded from what is absent. */
  readonly complete: boolean
}

// -------------------------------------------------------------------------------------------------------- words

/** Texts of pull requests and of refusals. Each is one sentence, without its full stop where the system's own texts have none. */
export interface SystemWords {
  /** What to watch while a phase rolls out; empty: nothing beyond what `verify` tells. */
  watch(phase: string, plan: Plan): readonly string[]
  /**
   * Who restarts because of a step's merge, beside the workloads that its restart tokens name, as from state to state of one site: `every Cassandra node, one
   * after the other`. @default nobody
   */
  restarting?(before: TrustState, after: TrustState): readonly string[]
  /** What no roll-out does that goes as planned, with its threshold: when to go back. */
  readonly alarm: string
  /** Settings of a state that a pull request need not name: its table of certificates or what to watch tells them. @default none */
  toldElsewhere?(setting: string): boolean
  /** The price of an emergency, at the head of its pull requests. */
  readonly emergency: string
  /** As `emergency`, for the refusal of `plan` without --accept-outage. */
  readonly acceptOutage: string
  /** What `nudge` does, after a colon: `restarts identity and the workloads, so that …`. */
  readonly nudge: string
  /** Where today's CA was read, for `inspect`: `Secret istio-system/cacerts: root-cert.pem`. */
  places(
    declared: SystemPart,
    site: Pick<Site, 'name'>,
    current: CurrentCa,
  ): { readonly anchors: string; readonly issuer: string }
  /** Which strategies would fit what `inspect` has seen; in the order in which to consider them. */
  fitting(currents: readonly CurrentCa[], now: Date): readonly FittingStrategy[]
  /** What is left to a person once the rotation is closed, beside the sealed keys in Git's history. */
  cleanUp(declaration: Declaration, plan: Plan): readonly string[]
  /** Secrets that exist before Git delivers them, by the file that takes them over: SealedSecrets needs a leave for each. */
  takeOvers(
    declaration: Declaration,
    site: Site,
    adopted: TrustState,
  ): readonly { readonly namespace: string; readonly name: string; readonly file: string }[]
}

export interface FittingStrategy {
  readonly strategy: Strategy
  readonly fits: boolean
  readonly why: string
}
