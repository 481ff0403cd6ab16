import { createHash } from 'node:crypto'
import { parseAllDocuments } from 'yaml'
import type { Cluster } from '../cluster/cluster.ts'
import { ReanchorError } from '../errors.ts'
import type { SystemPart } from '../rotation.ts'
import { ArgoCd } from './argocd.ts'
import { CertManager } from './cert-manager.ts'
import { fingerprintOf, type Life } from './certificates.ts'
import { createClock, seededRandom, type VirtualClock } from './clock.ts'
import { readableCluster } from './cluster.ts'
import { ExternalSecrets, RemoteStore } from './external-secrets.ts'
import { type ClusterFault, noFaults, type SiteFaults } from './faults.ts'
import { Flux, type ReadBase } from './flux.ts'
import { Handshakes } from './handshakes.ts'
import { Kubelets } from './kubelet.ts'
import { namespaceOf, secretOf } from './manifests.ts'
import { isRecord, type Manifest, ObjectStore, type StoredObject, textAt } from './objects.ts'
import { type RestartCount, Workloads } from './rollout.ts'
import { SealedSecrets } from './sealed-secrets.ts'
import type { Site } from './site.ts'
import type { RehearsalSystem, RehearsalWorld, SiteSystem, StartingCa, Struck } from './system.ts'

export interface RehearsalOptions {
  /** The base branch as it is now; asked at every poll of every site. */
  readonly readBase: ReadBase
  readonly sites: readonly string[]
  /** Text of an age key file: the Secret with which Flux opens what SOPS sealed. */
  readonly ageIdentity: string
  /** Name of that Secret, in flux-system. */
  readonly decryptionSecret?: string
  readonly base?: string
  /** Private key, PEM, of the clusters' Sealed Secrets controller; absent: there is none. */
  readonly sealingKey?: string
  readonly seed: string | number
  readonly now: Date
  /** What runs in the sites. @default Istio */
  readonly system?: RehearsalSystem
  /** The demo's variant, for a system whose sites differ by it. @default null */
  readonly variant?: string | null
  /** What a user declared: its names and parties stand in for those of the demo. @default null */
  readonly declared?: SystemPart | null
  readonly faults?: readonly ClusterFault[]
  /** Owner that `never-reloads` strikes; the first sidecar's by default. */
  readonly faultTarget?: string
  /** Every site is plugged with an issuing CA of its own under one root, so that sites speak to each other. Default: self-signed. */
  readonly sharedRoot?: boolean
  readonly trustDomain?: string
  readonly leafHours?: number
  /** Ordered pairs in one round of handshakes, and as many control links; a larger fleet takes turns. */
  readonly roundLimit?: number
  /** See `HandshakeOptions`. */
  readonly repeats?: boolean
}

export interface SiteControls {
  readonly name: string
  readonly cluster: Cluster
  readonly store: ObjectStore
  /** To be set and cleared while time runs. */
  readonly faults: SiteFaults
  readonly kubelets: Kubelets
  readonly workloads: Workloads
  readonly system: SiteSystem
  /** Lines as the components log them: `time component line`. */
  readonly logs: readonly string[]
  startingCa(): StartingCa
  /** Writes an object as somebody with kubectl would. */
  kubectlApply(manifest: Manifest): void
  /** Starts the Sealed Secrets controller anew, where there is one. */
  restartSealedSecrets(): void
  /** Deletes an object; null namespace for those that have none. */
  kubectlDelete(group: string, kind: string, namespace: string | null, name: string): void
}

export interface Rehearsal {
  readonly clock: VirtualClock
  readonly sites: ReadonlyMap<string, SiteControls>
  /** What the verifier reads, by site. */
  readonly clusters: ReadonlyMap<string, Cluster>
  readonly handshakes: Handshakes
  /** The store outside of all clusters that their External Secrets read. */
  readonly remote: RemoteStore
  /** Lets virtual time pass, with everything that is due in it. */
  run(virtualMilliseconds: number): Promise<void>
  /** Until nothing rolls and every pod is ready; false where `limit` virtual milliseconds (30 minutes) did not do. */
  settle(limit?: number): Promise<boolean>
  setPhase(label: string): void
  restarts(): readonly RestartCount[]
  /** The consumer or replica that a fault struck, for reports; null where none did. */
  culprit(): string | null
  close(): Promise<void>
}

/** Builds the sites up from the base branch and returns once everything in them is ready and stays so. */
export async function startRehearsal(options: RehearsalOptions): Promise<Rehearsal> {
  // Whole seconds, as the API tells times: a gate that reckons with them then waits as long in each run.
  const clock = createClock(new Date(Math.floor(options.now.getTime() / 1000) * 1000))
  const random = seededRandom(options.seed)
  const life = lifeBy(clock)
  const { istioRehearsal } = await import('./istio/system.ts')
  const world = (options.system ?? istioRehearsal).startWorld({
    sites: options.sites,
    clock,
    life,
    sharedRoot: options.sharedRoot === true,
    variant: options.variant ?? null,
    sealing: options.sealingKey !== undefined,
    declared: options.declared ?? null,
  })
  const handshakes = new Handshakes(clock, {
    crossSite: world.crossSite,
    roundLimit: options.roundLimit ?? 120,
    repeats: options.repeats ?? true,
  })
  const remote = new RemoteStore()
  const made = options.sites.map(name =>
    makeSite({ name, options, clock, random: random.fork(name), handshakes, life, world, remote }),
  )
  const sites = new Map(made.map(site => [site.controls.name, site.controls]))

  const rehearsal: Rehearsal = {
    clock,
    sites,
    clusters: new Map([
      ...made.map(site => [site.controls.name, site.controls.cluster] as const),
      ...(world.clusters ?? []),
    ]),
    handshakes,
    remote,
    run: duration => clock.advance(duration),
    async settle(limit = 30 * 60_000) {
      const end = clock.millis() + limit
      // Twice in a row: between two steps of a roll-out there is a moment at which nothing seems to move.
      for (let quiet = 0; clock.millis() < end; ) {
        await clock.advance(5_000)
        quiet = made.every(site => site.settled()) ? quiet + 1 : 0
        if (quiet >= 3) return true
      }
      return false
    },
    setPhase(label) {
      handshakes.phase = label
    },
    restarts: () => made.flatMap(site => site.controls.workloads.restarts()),
    culprit: () => made.map(site => site.culprit()).find(found => found !== null) ?? null,
    async close() {
      clock.stop()
      await Promise.all(made.map(site => site.controls.workloads.close()))
    },
  }

  try {
    await buildUp(rehearsal, made)
  } catch (error) {
    await rehearsal.close()
    throw error
  }
  for (const site of made) site.controls.workloads.resetRestarts()
  handshakes.enable()
  await handshakes.round()
  for (const site of made) site.strike(options.faults ?? [])
  return rehearsal
}

async function buildUp(rehearsal: Rehearsal, made: readonly MadeSite[]): Promise<void> {
  for (const site of made) await site.bootstrap()
  // Flux polls every minute, and `apps` waits for `istio`.
  await rehearsal.run(180_000)
  const whole = (await rehearsal.settle()) && made.every(site => site.controls.system.up())
  if (whole) return
  const broken = made.flatMap(site => site.controls.logs.slice(-3).map(line => `${site.controls.name}: ${line}`))
  throw new ReanchorError({
    what: 'the rehearsal cluster does not come up from the base branch',
    expected: 'a repository from which Flux brings up everything, and at least one consumer of trust',
    found: broken.length === 0 ? 'no consumer of trust at all' : broken.join('\n'),
    todo: 'look at the lines above; the rehearsal applies what is on the base branch, as Flux would',
  })
}

interface MadeSite {
  readonly controls: SiteControls
  bootstrap(): Promise<void>
  settled(): boolean
  strike(faults: readonly ClusterFault[]): void
  culprit(): string | null
}

interface Parts {
  readonly name: string
  readonly options: RehearsalOptions
  readonly clock: VirtualClock
  readonly random: Site['random']
  readonly handshakes: Handshakes
  readonly life: (hours: number) => Life
  readonly world: RehearsalWorld
  readonly remote: RemoteStore
}

function makeSite(parts: Parts): MadeSite {
  const { name, options, clock, random, handshakes, life, world, remote } = parts
  const logs: string[] = []
  let identities = 0
  const store = new ObjectStore(clock, () => {
    identities += 1
    return uidOf(`${options.seed}/${name}/${identities}`)
  })
  const site: Site = {
    name,
    clock,
    random,
    store,
    faults: noFaults(),
    handshakes,
    trustDomain: options.trustDomain ?? 'cluster.local',
    leafHours: options.leafHours ?? 24,
    life,
    log: (component, line) => logs.push(`${clock.instant()} ${component} ${line}`),
  }
  const system = world.startSite(site)
  const kubelets = new Kubelets(site)
  const workloads = new Workloads(site, kubelets, system)
  const readOnce = options.readBase
  new Flux(site, readOnce, options.base ?? 'main')
  const argo = new ArgoCd(site, readOnce)
  const sealedSecrets = options.sealingKey === undefined ? null : new SealedSecrets(site, options.sealingKey)
  new ExternalSecrets(site, remote)
  new CertManager(site)
  let struck: Struck | null = null

  const controls: SiteControls = {
    name,
    cluster: readableCluster(site, workloads),
    store,
    faults: site.faults,
    kubelets,
    workloads,
    system,
    logs,
    startingCa: () => system.startingCa(),
    kubectlApply(manifest) {
      store.put(manifest, 'kubectl-client-side-apply')
    },
    restartSealedSecrets() {
      sealedSecrets?.restart()
    },
    kubectlDelete(group, kind, namespace, object) {
      const found = store.get(group, kind, namespace, object)
      if (found !== null) store.delete(found)
    },
  }

  return {
    controls,
    async bootstrap() {
      for (const namespace of ['kube-system', 'kube-public', 'default', 'flux-system']) {
        store.put(namespaceOf(namespace), 'kube-apiserver')
      }
      for (const node of workloads.nodes)
        store.put({ apiVersion: 'v1', kind: 'Node', metadata: { name: node } }, 'kubelet')
      store.put(
        secretOf(options.decryptionSecret ?? 'sops-age', 'flux-system', { 'age.agekey': options.ageIdentity }),
        'kubectl-create',
      )
      await system.bootstrap()
      // `flux bootstrap`, or a person with an app of apps, applies these once; from then on they come from Git.
      const { files } = await readOnce()
      const path = `clusters/${name}/flux-system/gotk-sync.yaml`
      const byFlux = files.has(path)
      const text = files.get(path) ?? files.get(`clusters/${name}/root.yaml`)
      if (text === undefined) {
        throw new ReanchorError({
          what: 'the base branch has no entry of Flux or Argo CD for this site',
          where: { file: path },
          expected: `what \`flux bootstrap\` writes, or an app of apps in clusters/${name}/root.yaml`,
          todo: 'add the GitRepository and the Kustomization, or the Application, that everything starts from',
        })
      }
      if (!byFlux) store.put(namespaceOf('argocd'), 'kubectl-create')
      for (const document of parseAllDocuments(text)) {
        const value: unknown = document.toJS()
        if (isRecord(value)) store.apply(value as Manifest, byFlux ? 'kustomize-controller' : 'kubectl')
      }
    },
    settled: () =>
      workloads.settled &&
      (system.settled?.() ?? true) &&
      argo.settled &&
      store.list('kustomize.toolkit.fluxcd.io', 'Kustomization').every(isReconciled),
    strike(faults) {
      for (const fault of faults) struck = system.strike?.(fault, options.faultTarget) ?? struck
    },
    culprit: () => struck?.culprit() ?? null,
  }
}

function isReconciled(kustomization: StoredObject): boolean {
  const conditions =
    isRecord(kustomization.status) && Array.isArray(kustomization.status.conditions)
      ? kustomization.status.conditions
      : []
  return conditions.some(entry => textAt(entry, 'type') === 'Ready' && textAt(entry, 'status') !== 'Unknown')
}

function uidOf(text: string): string {
  const hex = createHash('sha256').update(text).digest('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}

/**
 * Dates of certificates that are issued at the virtual time. OpenSSL judges dates by the machine's clock and cannot be told
 * another, so a life spans both clocks: from two minutes before the earlier to the wanted hours after the later.
 */
function lifeBy(clock: VirtualClock): (hours: number) => Life {
  return hours => {
    const machine = Date.now()
    return {
      notBefore: new Date(Math.min(clock.millis(), machine) - 120_000),
      notAfter: new Date(Math.max(clock.millis(), machine) + hours * 3_600_000),
    }
  }
}

/** SHA-256 of the root that a site started with. */
export function startingRoot(site: SiteControls): string {
  return fingerprintOf(site.startingCa().root)
}
