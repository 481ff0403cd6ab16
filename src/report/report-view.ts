import type {
  ConsumerClass,
  DeliveryEvidence,
  EvidenceException,
  Fingerprint,
  GateResult,
  Instant,
} from '../rotation.ts'
import type { StatusView } from './status.ts'

/** A certificate as a person knows it in this rotation. */
export interface CertificateName {
  readonly sha256: Fingerprint
  /** `old root`, `new issuing CA`; `CA` where the plan does not know it. */
  readonly name: string
  readonly subject: string
  /** `other`: neither of the CA that goes nor of the one that comes. */
  readonly side: 'old' | 'new' | 'other'
}

/** A CA with its end. */
export interface CertificateEnd extends CertificateName {
  readonly key: string
  readonly notAfter: Instant
  /** Whole days, below 0 once it has ended. */
  readonly daysLeft: number
  /** Null: only seen, not of the plan. */
  readonly file: string | null
}

/** Consumers that were seen alike in one place. */
export interface SeenTrust {
  readonly count: number
  /** The CA that signed their leaves, one per site where those have their own; null: they present none, or it was not to be seen. */
  readonly presents: readonly CertificateName[] | null
  /** Null: they verify nobody, or it was not to be seen. */
  readonly trusts: readonly CertificateName[] | null
}

/** One class of party at sites that are alike, once a step has reached it. */
export interface MatrixRow {
  readonly sites: readonly string[]
  /** As in a sentence: `sidecar`, `API server`. */
  readonly party: string
  /** The CA that signs its leaves, one per site where those have their own. Null: it presents nothing of this CA, or is in no link of the plan. */
  readonly presents: readonly CertificateName[] | null
  /** Null: it verifies nobody by this CA, or is in no link of the plan. */
  readonly trusts: readonly CertificateName[] | null
  /** What committed or live evidence of this step shows; empty: nobody looked, or there is none of this class. */
  readonly seen: readonly SeenTrust[]
}

export interface ReportStep {
  readonly phase: number
  /** `2-trust-both/1-data` */
  readonly label: string
  /** Title of its phase. */
  readonly title: string
  /** One sentence: what changes. */
  readonly what: string
  readonly mark: 'done' | 'now' | 'ahead'
  /** Who presents and who trusts what once it has reached everyone. */
  readonly matrix: readonly MatrixRow[]
}

/** That a site's folder came to a planned tree, as the base branch's history has it. */
export interface Move {
  readonly site: string
  readonly label: string
  readonly variant: 'step' | 'undo' | 'nudge'
  readonly at: Instant
  readonly commit: string
}

/** Consumers by what they present and trust, at one step of one site. */
export interface ConsumerCounts {
  readonly label: string
  readonly site: string
  readonly at: Instant
  /** Of a look just now rather than of committed evidence. */
  readonly live: boolean
  readonly consumers: number
  readonly presents: { readonly old: number; readonly new: number; readonly other: number }
  readonly trusts: { readonly old: number; readonly both: number; readonly new: number; readonly other: number }
  readonly exceptions: number
}

export interface ReportGroup {
  readonly consumer: ConsumerClass
  readonly owner: string
  readonly seen: SeenTrust
  readonly leavesExpire: { readonly first: Instant; readonly last: Instant } | null
}

/** What was seen of a site at a step. */
export interface ReportEvidence {
  readonly site: string
  readonly label: string
  /** Null: seen just now, and not committed. */
  readonly file: string | null
  readonly from: Instant
  readonly to: Instant
  readonly observation: string
  /** `unsigned`, `signed by …`, or why it does not count. */
  readonly authorship: string
  readonly counts: boolean
  readonly complete: boolean
  readonly cluster: string
  readonly delivery: Pick<DeliveryEvidence, 'kind' | 'object' | 'ready' | 'revision' | 'message'>
  readonly gates: readonly Pick<GateResult, 'id' | 'claim' | 'verdict' | 'because' | 'hint' | 'counted'>[]
  readonly groups: readonly ReportGroup[]
  readonly exceptions: readonly EvidenceException[]
}

/** Somebody who does not do yet what the step asks. */
export interface Behind {
  readonly site: string
  readonly consumer: string
  readonly name: string
  readonly why: string
  readonly verdict: 'pending' | 'violated' | 'unknown'
  readonly ends: Instant | null
}

/** All that `reanchor report` tells: plain data, and its own JSON. */
export interface ReportView {
  readonly status: StatusView
  /** As in a sentence: `Istio`. */
  readonly system: string
  /** Commit of the base branch that it was read from. */
  readonly commit: string
  readonly base: string
  readonly plannedAt: Instant
  readonly steps: readonly ReportStep[]
  readonly moves: readonly Move[]
  /** In the order of the steps; a look just now is last. */
  readonly consumers: readonly ConsumerCounts[]
  readonly evidence: readonly ReportEvidence[]
  readonly certificates: readonly CertificateEnd[]
  /** At the step that each site is at, as it was seen last. */
  readonly behind: readonly Behind[]
}
