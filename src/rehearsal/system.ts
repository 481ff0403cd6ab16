import type { Cluster } from '../cluster/cluster.ts'
import type { Context } from '../commands/context.ts'
import type { Declaration, FileTree, GateResult, Plan, SystemName, SystemPart, TrustState } from '../rotation.ts'
import type { Life, Pair } from './certificates.ts'
import type { VirtualClock } from './clock.ts'
import type { TroubleKind } from './fault-plan.ts'
import type { ClusterFault } from './faults.ts'
import type { HandshakeFailure } from './handshakes.ts'
import type { VolumeFiles } from './kubelet.ts'
import type { Manifest, StoredObject } from './objects.ts'
import type { Rehearsal } from './rehearsal.ts'
import type { PodProcess, Site } from './site.ts'

/** Where a demo stands while `next` waits. */
export interface DemoMoment {
  readonly context: Context
  readonly rotation: string
  readonly rehearsal: Rehearsal
  readonly gates: readonly GateResult[]
}

/** What the rehearsal knows of one system: what runs in its sites, and the fleet of its demo. */
export interface RehearsalSystem {
  readonly name: SystemName
  /** What all sites share, such as one root; made once for each rehearsal. */
  startWorld(options: WorldOptions): RehearsalWorld
  readonly demo: DemoSystem
}

export interface WorldOptions {
  readonly sites: readonly string[]
  readonly clock: VirtualClock
  /** Dates of a certificate that is made now and lives so many hours. */
  readonly life: (hours: number) => Life
  /** Every site starts with a CA under one root; else each with one of its own. */
  readonly sharedRoot: boolean
  /** The demo's variant, such as a flow or a scenario; null: the usual one. */
  readonly variant: string | null
  /** The clusters run a Sealed Secrets controller: what it is to take over must allow it. */
  readonly sealing: boolean
  /** What a user declared, whose names and parties the sites must have; null: those of the demo. */
  readonly declared: SystemPart | null
}

export interface RehearsalWorld {
  /** Whether parties of different sites meet. */
  readonly crossSite: boolean
  /** Clusters beside those of the sites, which the system reads, by name. @default none */
  readonly clusters?: ReadonlyMap<string, Cluster>
  /** Starts the controllers of a system in one site, on its store and clock. Nothing is in the store yet. */
  startSite(site: Site): SiteSystem
}

/** The controllers and parties of a system in one simulated site. */
export interface SiteSystem {
  /** Puts what people made by hand before Git delivers anything: namespaces, a plugged CA. */
  bootstrap(): Promise<void> | void
  /**
   * What runs in a pod, as far as trust is concerned; null: nothing that holds a certificate, and the pod gets ready by itself. The process
   * calls `ready` when it may be Ready; `files` is a mounted volume as the kubelet has it now.
   */
  process(pod: StoredObject, means: PodMeans): PodProcess | null
  /** Changes a pod before it is made, as admission webhooks do. False: refused; its controller tries again. @default every pod is left as it is */
  admit?(pod: Manifest): Promise<boolean>
  /** The CA that the site started with, once it is up. */
  startingCa(): StartingCa
  /** Beside workloads and deliverers: whether the system's own controllers are done. @default true */
  settled?(): boolean
  /** After the build-up: whether there is anything to rehearse. False: the fleet brought up no party. */
  up(): boolean
  /**
   * Sources of files (`ConfigMap/namespace/name`) that no API shows once a pod has them: what a pod reads there nobody can ask. Only `gates.hold` waits for
   * them. @default none
   */
  readsUnseen?(source: string): boolean
  /** Acts out a fault of the cluster's own; null: this system knows no such fault. @default null */
  strike?(fault: ClusterFault, target: string | undefined): Struck | null
}

/** A fault that a system acts out. */
export interface Struck {
  /** The consumer or replica that it struck, as reports name it; null: there is none now. */
  culprit(): string | null
  /** It is over: who was struck goes on with what there is now. */
  recover(): void
}

export interface PodMeans {
  files(volume: string): VolumeFiles
  ready(): void
}

/** The CA that a site started with. */
export interface StartingCa extends Pair {
  readonly source: 'own' | 'plugged'
  readonly root: string
}

export interface FleetOptions {
  readonly sites: readonly string[]
  /** Age recipient of `.sops.yaml`. */
  readonly ageRecipient: string
  /** Certificate of the Sealed Secrets controller; empty where there is none. */
  readonly sealingCertificate: string
  /** `--install`, `--flow`, `--scenario`: the demo's variant; null: the usual one. */
  readonly variant: string | null
}

export interface DeclareOptions {
  /** Name of the rotation. */
  readonly rotation: string
  /** The folder that reanchor is to own, by site. */
  readonly paths: Readonly<Record<string, string>>
  readonly now: Date
}

export interface DemoSystem {
  /** Of the rotation, such as `mesh-2026`. */
  readonly rotation: string
  /** Site names in the order in which `--sites` (or `--regions`) takes them: as many as the demo can have. */
  readonly sites: readonly string[]
  /** How many it takes where nothing is said. */
  readonly usualSites: number
  /** The flag of its own; null: it has none. */
  readonly variantFlag: 'install' | 'flow' | 'scenario' | null
  /** Values of that flag, the usual one first; empty: it has none. */
  readonly variants: readonly string[]
  /** The variant whose fleet comes nearest to what is declared, for `rehearse`. */
  variantOf(declaration: Declaration): string | null
  /** Variants in which Argo CD delivers and Sealed Secrets seals. */
  readonly byArgo: (variant: string | null) => boolean
  /** What `--fault` strikes in a variant of the demo; null: none is acted out in it. */
  faults(variant: string | null): DemoFaults | null
  /** How the sites start, as in a sentence: `one plugged root`. */
  start(sharedRoot: boolean): string
  /** The repository as engineers have it before the first rotation: `clusters/<site>/flux-system/gotk-sync.yaml` is what Flux starts from. */
  fleet(options: FleetOptions): FileTree
  /** rotation.yaml for that fleet: what `init <system>` writes, and an engineer's look at it. */
  declare(
    fleet: FileTree,
    options: FleetOptions & DeclareOptions,
  ): Promise<{ readonly path: string; readonly text: string }>
  /** Whether a merged move from one state to the next is meant to restart this workload (`namespace/kind/name`). */
  plansRestart(consumer: string, before: TrustState, after: TrustState, plan: Plan): boolean
  /** Whether a variant cuts connections on purpose. @default none does */
  acceptsOutage?(variant: string | null): boolean
  /** Whether the plan, made with --accept-outage, says that this handshake fails. @default every failure of such a plan is foretold */
  foretells?(plan: Plan, failure: HandshakeFailure): boolean
  /** What a person does while `next` waits: renews what is outside the clusters, attests. @default nothing */
  meanwhile?(at: DemoMoment): Promise<void>
  /** `meanwhile` does what the words under gates.attest are about, and gives them all. @default false: a rehearsal asks for none */
  readonly vouches?: boolean
  /**
   * Days before now at which the clusters' time begins, where certificates are told apart by when they were made: what is made in the virtual future is dated
   * back to now, as OpenSSL takes no other. @default 0
   */
  readonly beginsDaysAgo?: number
  /** Troubles that only this system knows. @default none */
  readonly troubles?: readonly TroubleKind[]
  /** Live bundles that a person may edit by hand: keys that hold roots and nothing else. @default none */
  bundles?(variant: string | null): readonly LiveBundle[]
  /** Virtual milliseconds that `next` may wait in one place. @default half a day */
  readonly patience?: number
}

export interface LiveBundle {
  readonly kind: 'Secret' | 'ConfigMap'
  readonly namespace: string
  readonly name: string
  readonly key: string
}

/** Where faults strike in the plan of a demo. */
export interface DemoFaults {
  /** The phase after which everyone trusts both, and the one that leaves come from the new CA in. */
  readonly widening: string
  readonly switching: string
  /** What the cluster acts out by itself (`SiteSystem.strike`), and in which phase: the first that is about what it breaks. */
  readonly cluster: Readonly<Record<ClusterFault, ClusterStrike>>
  /** What somebody makes of the widening step's folder who wants to be rid of the old root sooner. */
  edit(folder: FileTree): { readonly file: string; readonly text: string }
}

export interface ClusterStrike {
  readonly phase: string
  /** One clause, as the demo tells it: `the kubelet of node-2 no longer sees changes of cacerts`. */
  readonly what: string
}

/** A bundle without its first root. */
export function withoutFirst(folder: FileTree, file: string): { readonly file: string; readonly text: string } {
  const text = folder.get(file) ?? ''
  return { file, text: text.slice(text.indexOf('-----BEGIN CERTIFICATE-----', 1)) }
}

/** A bundle without its last root. */
export function withoutLast(folder: FileTree, file: string): { readonly file: string; readonly text: string } {
  const text = folder.get(file) ?? ''
  return { file, text: text.slice(0, text.lastIndexOf('-----BEGIN CERTIFICATE-----')) }
}
