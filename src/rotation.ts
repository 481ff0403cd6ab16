/**
 * The nouns. Every core type that more than one part of reanchor speaks of, and no logic.
 *
 * The data flows: declaration → plan → phases (rendered) → custody → repository → forge → (merge, roll-out)
 * → cluster → evidence → gates → verdict → the next pull request.
 */
import type { CassandraSettings } from './systems/cassandra/settings.ts'
import type { consumerClasses } from './systems/consumers.ts'
import type { IstioSettings } from './systems/istio/settings.ts'
import type { KymaSettings } from './systems/kyma/settings.ts'
import type { LinkerdSettings } from './systems/linkerd/settings.ts'

/** SHA-256 of a certificate's DER: 64 lower-case hex digits. A certificate is never identified by its subject. */
export type Fingerprint = string

/** SHA-256 as 64 lower-case hex digits, of whatever the field's comment says. */
export type Digest = string

/** An instant as RFC 3339 in UTC with a trailing Z. */
export type Instant = string

export type Strategy = 'graceful' | 'renew' | 'issuer' | 'emergency'

// ---------------------------------------------------------------------------------------------- certificates

/** What reanchor says of one certificate, as plain data. */
export interface CertificateFacts {
  readonly sha256: Fingerprint
  /** SHA-256 of the SubjectPublicKeyInfo: equal for two certificates of one key. */
  readonly spki: Digest
  /** RFC 4514 text, for people; never compared. */
  readonly subject: string
  readonly issuer: string
  /** Hex, lower case, as in the certificate, no separators. */
  readonly serial: string
  readonly notBefore: Instant
  readonly notAfter: Instant
  /** For people: `RSA 4096`, `ECDSA P-256`. */
  readonly key: string
  /** Subject key identifier (RFC 5280 §4.2.1.2) as hex, or null where the extension is absent. */
  readonly ski: string | null
  /** The keyIdentifier of the AKI (RFC 5280 §4.2.1.1) as hex, or null. */
  readonly aki: string | null
  readonly ca: boolean
  /** basicConstraints.pathLenConstraint, or null where there is none. */
  readonly pathLength: number | null
  /** One CERTIFICATE block that ends with exactly one newline. */
  readonly pem: string
}

export type KeyAlgorithm = 'ecdsa-p256' | 'ecdsa-p384' | 'rsa-4096'

export type CertificateRole = 'old-root' | 'old-issuing' | 'new-root' | 'new-issuing' | 'chain'

// ------------------------------------------------------------------------------------------------ declaration

/** rotation.yaml as read and checked: every default filled in. Paths are relative to the repository's root, with `/`. */
export type Declaration = CommonDeclaration & SystemPart

/** What a declaration says of its one system: `{system: 'istio', istio: …}`. */
export type SystemPart = { [Name in keyof SystemSettings]: SystemPartOf<Name> }[keyof SystemSettings]

export type SystemPartOf<Name extends keyof SystemSettings> = { readonly system: Name } & {
  readonly [Key in Name]: SystemSettings[Name]
}

/** What `spec.<system>` holds, by system. */
export interface SystemSettings {
  readonly istio: IstioSettings
  readonly kyma: KymaSettings
  readonly cassandra: CassandraSettings
  readonly linkerd: LinkerdSettings
}

export type SystemName = keyof SystemSettings

/** What every declaration says, whatever its system. */
export interface CommonDeclaration {
  readonly name: string
  readonly strategy: Strategy
  /** The branch that Flux or Argo CD follows. */
  readonly base: string
  readonly forge: ForgeChoice
  readonly current: CurrentSource
  readonly next: NextSource
  readonly custody: CustodyChoice
  /** At least one; names are unique. */
  readonly sites: readonly Site[]
  readonly rollout: Rollout
  readonly gates: GateSettings
  readonly evidence: EvidenceSettings
  readonly reload: readonly ReloadTarget[]
  /** A paused rotation verifies and reports, but opens nothing. */
  readonly paused: boolean
}

export type ForgeChoice = HostedForgeChoice | { readonly kind: 'local' } | { readonly kind: 'none' }

/** A forge on a server. */
export interface HostedForgeChoice {
  readonly kind: 'github' | 'gitlab' | 'gitea' | 'bitbucket'
  /** `owner/name`; on GitLab with any number of groups. */
  readonly repository: string
  /** Address of the server; null: the public one of its kind. */
  readonly url: string | null
  /** What every pull request is labelled with. */
  readonly labels: readonly string[]
  /** Who is asked to review: people by their login, teams as `owner/team`; on Bitbucket accounts by their UUID. */
  readonly reviewers: readonly string[]
  /** Opened as drafts, which nobody can merge before a person calls them ready. */
  readonly draft: boolean
  /** Whether `run` keeps an issue that says where the rotation stands. */
  readonly dashboard: boolean
}

/** The CA in use now. `files` are public certificates, and the signing key only where a phase needs it in `cacerts`. */
export type CurrentSource =
  | { readonly from: 'cluster' }
  | {
      readonly from: 'files'
      /** PEM file of the signing CA's certificate (for a self-signed CA: the root itself). */
      readonly certificate: string
      /** PEM file of its private key; outside the repository. Null: the key is not at hand. */
      readonly key: string | null
      /** PEM file: what cert-chain.pem holds now. Null: the certificate alone. */
      readonly chain: string | null
      /** PEM file: the roots that are trusted now. Null: the certificate alone (self-signed). */
      readonly roots: string | null
    }

export type NextSource =
  | {
      readonly from: 'generate'
      readonly algorithm: KeyAlgorithm
      /** RFC 4514 subject of the new root. */
      readonly subject: string
      readonly validityDays: number
      readonly issuing: IssuingSettings
    }
  | {
      readonly from: 'files'
      /** PEM file of the new root. */
      readonly root: string
      /** Per site (or one for all under `*`): issuing certificate, its key and its chain. */
      readonly issuing: Readonly<
        Record<string, { readonly certificate: string; readonly key: string; readonly chain: string | null }>
      >
    }
  /** Offline root: plan writes certificates/<site>.csr and takes `--chain FILE` back. */
  | { readonly from: 'csr'; readonly root: string | null; readonly issuing: IssuingSettings }
  | CertManagerSource

/** cert-manager mints the new CA: plan brings a Certificate whose Secret nobody reads, and takes over what it holds. */
export interface CertManagerSource {
  readonly from: 'certManager'
  /** What signs the new CA. */
  readonly issuer: { readonly name: string; readonly kind: string; readonly group: string }
  /** Of the Certificate and its Secret; with an Issuer, its own. */
  readonly namespace: string
  /** Folder that Flux or Argo CD applies already; `{site}` stands for the site's name. */
  readonly path: string
  /** PEM file of the root above the minted CA. Null: the Secret's ca.crt. */
  readonly root: string | null
  /** The site whose cluster mints one CA for all sites. Null: each cluster mints that of its own site. */
  readonly site: string | null
  readonly issuing: IssuingSettings
}

export interface IssuingSettings {
  readonly algorithm: KeyAlgorithm
  /** RFC 4514; `{site}` stands for the site's name. */
  readonly subject: string
  readonly validityDays: number
}

export type CustodyChoice =
  /** `age` null: the recipients of the `.sops.yaml` rule that matches the destination path. */
  | {
      readonly kind: 'sops'
      readonly age: readonly string[] | null
      readonly ksops: boolean
      /** Recipients of the root key file, where they are others. Empty: those that the rest is sealed to. */
      readonly rootAge: readonly string[]
    }
  | {
      readonly kind: 'sealedSecrets'
      /** PEM file of the controller's certificate, in the repository or outside. */
      readonly certificate: string
      readonly scope: 'strict' | 'namespace-wide' | 'cluster-wide'
      /** Recipients of the root key file, which SealedSecrets cannot seal. */
      readonly age: readonly string[]
    }
  | {
      readonly kind: 'externalSecrets'
      readonly store: string
      readonly storeKind: 'SecretStore' | 'ClusterSecretStore'
      /** Begins every name in the store; what follows has letters, digits, `-` and `.` only. */
      readonly prefix: string
      /** What the store calls the first version of a name. */
      readonly version: string
      /** Mount of Vault's KV engine, for the commands that `plan` prints; null: the store is another one. */
      readonly vaultMount: string | null
      /** Recipients of the root key file. */
      readonly age: readonly string[]
    }

export interface Site {
  readonly name: string
  /** Folder owned by reanchor, for example `trust/eu-1`. */
  readonly path: string
  readonly cluster: ClusterChoice
  readonly delivery: DeliveryChoice
  /** What this site has of its own; null: as the declaration says. */
  readonly current: CurrentSource | null
  readonly custody: CustodyChoice | null
  readonly base: string | null
}

export type ClusterChoice =
  | { readonly kind: 'context'; readonly context: string }
  | { readonly kind: 'kubeconfig'; readonly file: string; readonly context: string | null }
  | { readonly kind: 'inCluster' }
  | ReportsChoice

/** The cluster cannot be read from here: a Job inside of it pushes what it sees. */
export interface ReportsChoice {
  readonly kind: 'reports'
  /** The ref under refs/reanchor/ that the Job pushes: `reports/eu-1`. */
  readonly ref: string
  /** Milliseconds: a report that was begun longer ago is not taken. */
  readonly within: number
  /** Name of the one among evidence.signers who may sign it; null: any of them. */
  readonly signer: string | null
}

export type DeliveryChoice =
  | {
      readonly kind: 'flux'
      readonly namespace: string
      /** Name of the Kustomization that applies the site's path. */
      readonly name: string
      /** File that holds (or, from `adopt` on, will hold) that Kustomization. Null: it is managed elsewhere. */
      readonly file: string | null
      /** The GitRepository it reads from. */
      readonly source: { readonly namespace: string; readonly name: string }
      /** Name of the Secret with the age key, in the Kustomization's namespace. */
      readonly decryptionSecret: string
    }
  | {
      readonly kind: 'argocd'
      readonly namespace: string
      readonly name: string
      readonly file: string | null
      readonly repoURL: string | null
      readonly project: string
    }

export type Rollout =
  | { readonly kind: 'parallel' }
  | { readonly kind: 'serial' }
  | { readonly kind: 'batches'; readonly batches: readonly (readonly string[])[] }

export interface GateSettings {
  /** Milliseconds that the last change must lie back. */
  readonly hold: number
  /** Milliseconds after which an observation is stale. */
  readonly fresh: number
  /** Milliseconds between the two observations that must agree. */
  readonly settle: number
  readonly attest: readonly { readonly name: string; readonly why: string }[]
}

export interface EvidenceSettings {
  /** Lines of an allowed-signers file. Empty: evidence need not be signed. */
  readonly signers: readonly string[]
}

/** Workloads that take a restart annotation through a Component in the site's folder. */
export interface ReloadTarget {
  readonly site: string
  /** Folder of this repository that a kustomization (or Flux Kustomization) builds; it takes the Component in. */
  readonly path: string
  readonly kinds: readonly ('Deployment' | 'StatefulSet' | 'DaemonSet')[]
  /** 1-based: targets of batch 2 restart in a later step than those of batch 1. */
  readonly batch: number
}

// ------------------------------------------------------------------------------------------------------- plan

/** What a site's folder declares once a step's bytes are in it. */
export interface TrustState {
  /** Certificates of root-cert.pem in their order, repeats kept: both carry meaning for Istio. */
  readonly bundle: readonly Fingerprint[]
  /** The CA that signs leaves. */
  readonly issuer: Fingerprint
  /** cert-chain.pem, in order. */
  readonly chain: readonly Fingerprint[]
  /** `own`: the system's self-made CA, no material in the folder. `plugged`: the folder delivers it. */
  readonly source: 'own' | 'plugged'
  /** Settings of the system that the folder declares, such as ISTIO_MULTIROOT_MESH. */
  readonly settings: Readonly<Record<string, string>>
  /** Restart token (digest of public material) per class of consumer, such as `istiod`, `workloads`, `ztunnel`. */
  readonly restarts: Readonly<Record<string, string>>
}

/** One folder's bytes, by digest, and what they declare. */
export interface PlannedTree {
  readonly digest: Digest
  readonly state: TrustState
}

export interface PlannedSite extends PlannedTree {
  /** The way back to the step before, or null where there is none. */
  readonly undo: PlannedTree | null
  /** The same trust with one more repeat, for proxies that kept an old leaf; null where it means nothing. */
  readonly nudge: PlannedTree | null
}

export interface PlannedStep {
  /** 1-based within its phase. */
  readonly number: number
  readonly name: string
  /** One sentence for the pull request: what changes. */
  readonly what: string
  /** By site name. A site that a step does not concern is absent. */
  readonly sites: Readonly<Record<string, PlannedSite>>
}

export interface PlannedPhase {
  /** 0 is `adopt`. */
  readonly number: number
  readonly name: string
  /** As in a pull request's title: `trust both roots`. */
  readonly title: string
  readonly steps: readonly PlannedStep[]
}

/** A place in the user's own files that must carry reanchor's wiring. */
export interface WiringPoint {
  readonly site: string
  readonly file: string
  /** What the wiring does, one sentence. */
  readonly purpose: string
  readonly edit: WiringEdit
}

export type WiringEdit =
  /** The file does not exist yet and `adopt` writes it whole. */
  | { readonly kind: 'create'; readonly content: string }
  /** The list at `at` (keys from the document's root) contains `value`. */
  | {
      readonly kind: 'listItem'
      readonly document: DocumentSelector
      readonly at: readonly string[]
      readonly value: unknown
    }
  /** The scalar or map at `at` equals `value`. */
  | {
      readonly kind: 'set'
      readonly document: DocumentSelector
      readonly at: readonly string[]
      readonly value: unknown
    }
  /** The key at `at` is absent (it moved into a file that reanchor owns). */
  | { readonly kind: 'remove'; readonly document: DocumentSelector; readonly at: readonly string[] }
  /** No map of the list at `at` has `value` under `key`: that item moved into a file that reanchor owns. Others stay. */
  | {
      readonly kind: 'dropItem'
      readonly document: DocumentSelector
      readonly at: readonly string[]
      readonly key: string
      readonly value: string
    }
  /** The map at `at` stands, as it was, as the first item of the list `to` beside it. */
  | {
      readonly kind: 'intoList'
      readonly document: DocumentSelector
      readonly at: readonly string[]
      readonly to: string
    }

/** Which YAML document of a file: by kind and name, or `single` for a file of one document. */
export type DocumentSelector =
  | { readonly kind: string; readonly name: string; readonly namespace: string | null }
  | 'single'

export interface PlannedCertificate extends CertificateFacts {
  readonly role: CertificateRole
  /** Sites that use it; empty: all. */
  readonly sites: readonly string[]
  /** File under the rotation's folder. */
  readonly file: string
}

/** plan.yaml: the lock file. Pure data; `provePlan` needs nothing else. */
export interface Plan {
  readonly apiVersion: 'reanchor.dev/v1alpha1'
  readonly kind: 'TrustPlan'
  readonly metadata: { readonly name: string }
  readonly createdAt: Instant
  readonly system: SystemName
  readonly strategy: Strategy
  readonly base: string
  /** The rotation whose final folders are this one's phase 0; absent where there was none before. */
  readonly follows?: string | undefined
  /** What the plan was made from: a plan made again from equal inputs changes nothing. */
  readonly inputs: {
    readonly declaration: Digest
    readonly material: Digest /** What spec.next said. */
    readonly next: Digest
  }
  readonly certificates: readonly PlannedCertificate[]
  /** `cluster`: UID of its namespace kube-system, where today's CA was read from it; evidence of the site is held to it. */
  readonly sites: readonly { readonly name: string; readonly path: string; readonly cluster?: string | undefined }[]
  /** Site names that enter a step together, in order. */
  readonly batches: readonly (readonly string[])[]
  readonly phases: readonly PlannedPhase[]
  readonly wiring: readonly WiringPoint[]
  /** Per site: SHA-256 of the canary's plain bytes. */
  readonly canaries: Readonly<Record<string, Digest>>
  /** Milliseconds; see GateSettings. */
  readonly gates: GateSettings
  /** What the proof needs to know of time: how long a leaf lives, in hours. */
  readonly leafHours: number
  /** Which classes of parties exist (from the declaration and what was seen), such as sidecar, gateway, ztunnel. */
  readonly parties: readonly string[]
  /** Prior digests of a step that was sealed again to other recipients, so that a site that has them is still known. */
  readonly formerDigests: Readonly<Record<Digest, Digest>>
}

/** Where one site stands, read from Git alone. */
export type SitePosition =
  | { readonly kind: 'absent' }
  | { readonly kind: 'at'; readonly phase: number; readonly step: number; readonly variant: 'step' | 'undo' | 'nudge' }
  /** Some files are one step's, some another's; or a wiring point is missing. */
  | {
      readonly kind: 'mixed'
      readonly files: readonly { readonly path: string; readonly matches: string | null }[]
      readonly why: string
    }
  /** Matches nothing that was planned. */
  | {
      readonly kind: 'unknown'
      readonly changed: readonly { readonly path: string; readonly what: 'added' | 'removed' | 'changed' }[]
    }

// ------------------------------------------------------------------------------------------ files and commits

/** Content by repository path. Bytes matter: text is UTF-8, written as it is. */
export type FileTree = ReadonlyMap<string, string>

/** A change to a tree: content, or null to remove the path. */
export type FileChanges = ReadonlyMap<string, string | null>

// ---------------------------------------------------------------------------------------- evidence and verdict

/** Only `holds` opens a step. `unknown`: what is needed to judge was not seen. */
export type Verdict = 'holds' | 'pending' | 'violated' | 'unknown'

export interface GateResult {
  /** Stable, for scripts and documentation: `istio/roots-trusted`. */
  readonly id: string
  readonly site: string
  /** A claim in the present tense: `every proxy trusts exactly the planned roots`. */
  readonly claim: string
  readonly verdict: Verdict
  /** Names of objects, fields and values that decide it; the culprits first. Empty only for `holds`. */
  readonly because: readonly string[]
  /** What a person can do, or null. */
  readonly hint: string | null
  /** When looking again may change the verdict, or null. */
  readonly retryAt: Instant | null
  /** How many consumers the claim is about, and how many conform. */
  readonly counted: { readonly of: number; readonly conform: number } | null
}

/** Class of a consumer of trust: those of all systems. */
export type ConsumerClass = (typeof consumerClasses)[number]

/** Consumers that were seen alike. `names` of the members are digested, not listed: 100,000 pods fit in a pull request. */
export interface EvidenceGroup {
  readonly consumer: ConsumerClass
  /** namespace/kind/name of the owner, such as `shop/Deployment/cart`. */
  readonly owner: string
  readonly count: number
  /** SHA-256 over the sorted member names joined by newlines. */
  readonly members: Digest
  /** Sorted set of roots trusted; null: this consumer verifies nobody, or it was not to be seen (see exceptions). */
  readonly trusts: readonly Fingerprint[] | null
  /** Fingerprints of the CAs that signed the leaf presented: [issuer, …] as served; null: presents nothing. */
  readonly presents: readonly Fingerprint[] | null
  /** SHA-256 of the exact bytes of the bundle where bytes matter (istio-ca-root-cert), else null. */
  readonly bundleDigest: Digest | null
  /** Facts of this class: `{xdsAgent: 'true', restart: '…', multiroot: 'true'}`. */
  readonly facts: Readonly<Record<string, string>>
  /** The earliest and latest expiry of the leaves presented. */
  readonly leavesExpire: { readonly first: Instant; readonly last: Instant } | null
}

export interface EvidenceException {
  readonly consumer: ConsumerClass | 'object' | 'delivery'
  /** namespace/name of the one consumer. */
  readonly name: string
  /** Machine reason: `unreadable`, `not-ready`, `stale-roots`, `old-issuer`, `foreign-manager`, `no-proxy`, … */
  readonly reason: string
  /** For people: what was expected, what was found. */
  readonly detail: string
  readonly verdict: Exclude<Verdict, 'holds'>
  /** When the old leaf ends that it presents; absent where so many present one that the groups alone tell of them. */
  readonly ends?: Instant | undefined
}

export interface DeliveryEvidence {
  readonly kind: 'flux' | 'argocd' | 'none'
  readonly object: string
  readonly suspended: boolean
  /** metadata.generation equals the observed one. */
  readonly observed: boolean
  readonly ready: boolean
  /** Commit id that was applied last, or null. */
  readonly revision: string | null
  /** Tree digest of the site's path at that commit, or null where the commit is not in this clone. */
  readonly treeDigest: Digest | null
  /** Ids of what it applied: kind/namespace/name. */
  readonly inventory: readonly string[]
  readonly message: string
  /** When it will look at Git next, if that can be told, and the command that a user can run to hurry it. */
  readonly nextDue: Instant | null
  readonly hurry: string | null
}

/** What is known of one live object without reading private bytes. */
export interface ObjectEvidence {
  /** kind/namespace/name */
  readonly id: string
  readonly present: boolean
  /** Keys of data as managedFields tell them, sorted; null: could not be read. */
  readonly keys: readonly string[] | null
  /** Field managers that own a key of data: key → managers. */
  readonly managers: Readonly<Record<string, readonly string[]>>
  /** Facts: digest of public content, label, annotation, as needed by a gate. */
  readonly facts: Readonly<Record<string, string>>
  readonly lastChange: Instant | null
}

/** What the verifier saw of one site, bound to cluster, revision and content. */
export interface Evidence {
  readonly apiVersion: 'reanchor.dev/v1alpha1'
  readonly kind: 'Evidence'
  readonly rotation: string
  readonly site: string
  readonly phase: number
  readonly step: number
  /** Digest of the step's tree that this evidence is about. */
  readonly treeDigest: Digest
  readonly cluster: { readonly uid: string }
  /** First and last instant of gathering, from the API server's clock. */
  readonly from: Instant
  readonly to: Instant
  /** Digest of groups, exceptions and objects: two observations that agree have the same. */
  readonly observation: Digest
  /** The observation some time before that agreed, or null where this one stands alone. */
  readonly agreesWith: { readonly at: Instant; readonly observation: Digest } | null
  /** The cluster's own time of the last change that this gathering saw; null: not to be told. */
  readonly lastChange: Instant | null
  readonly delivery: DeliveryEvidence
  readonly objects: readonly ObjectEvidence[]
  readonly groups: readonly EvidenceGroup[]
  readonly exceptions: readonly EvidenceException[]
  /** Certificates named above that the plan does not know, so that evidence stays readable by itself. */
  readonly certificates: readonly CertificateFacts[]
  /** False where a list came back incomplete: then nothing may be concluded from what is absent. */
  readonly complete: boolean
}

// ------------------------------------------------------------------------------------------------------ safety

/** Result of the proof, or of a check of one change. */
export interface Proof {
  readonly safe: boolean
  readonly transitions: readonly ProvenTransition[]
  /** Warnings that do not make it unsafe, such as a root that ends soon. */
  readonly notes: readonly string[]
}

export interface ProvenTransition {
  readonly from: string
  readonly to: string
  readonly site: string
  readonly mixes: number
  readonly handshakes: number
  readonly counterexample: Counterexample | null
  /** Until when every path of this transition stays valid. */
  readonly goodUntil: Instant | null
}

/** The smallest thing that breaks: one link, the state of its two ends, and the check that fails. */
export interface Counterexample {
  readonly link: string
  readonly holder: { readonly party: string; readonly at: string; readonly presents: Fingerprint }
  readonly verifier: { readonly party: string; readonly at: string; readonly trusts: readonly Fingerprint[] }
  readonly reason: string
  readonly sentence: string
}
