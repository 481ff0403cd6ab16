import { createHash } from 'node:crypto'
import { parseAllDocuments } from 'yaml'
import type { Cluster } from '../cluster/cluster.ts'
import { ReanchorError } from '../errors.ts'
import { ArgoCd } from './argocd.ts'
import { companyRoot, fingerprintOf, issuingCa, type Life, type Pair } from './certificates.ts'
import { createClock, seededRandom, type VirtualClock } from './clock.ts'
import { readableCluster } from './cluster.ts'
import { type FaultName, noFaults, type SiteFaults } from './faults.ts'
import { Flux, type ReadBase } from './flux.ts'
import { Handshakes } from './handshakes.ts'
import { Injector } from './injection.ts'
import { ControlPlane } from './istiod.ts'
import { Kubelets } from './kubelet.ts'
import { isRecord, type Manifest, ObjectStore, type StoredObject, textAt } from './objects.ts'
import { type RestartCount, Workloads } from './rollout.ts'
import { Installer } from './sail.ts'
import { SealedSecrets } from './sealed-secrets.ts'
import type { Site } from './site.ts'

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
  readonly faults?: readonly FaultName[]
  /** Owner that `never-reloads` strikes; the first sidecar's by default. */
  readonly faultTarget?: string
  /** Every site is plugged with an issuing CA of its own under one root, so that sites speak to each other. Default: self-signed. */
  readonly sharedRoot?: boolean
  readonly trustDomain?: string
  readonly leafHours?: number
  /** Ordered pairs in one round of handshakes; a larger fleet takes turns. */
  readonly roundLimit?: number
}

/** The CA that a site started with. */
export interface StartingCa extends Pair {
  readonly source: 'own' | 'plugged'
  readonly root: string
}

export interface SiteControls {
  readonly name: string
  readonly cluster: Cluster
  readonly store: ObjectStore
  /** To be set and cleared while time runs. */
  readonly faults: SiteFaults
  readonly workloads: Workloads
  readonly controlPlane: ControlPlane
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
  const crossSite = options.sharedRoot === true && options.sites.length > 1
  const handshakes = new Handshakes(clock, { crossSite, roundLimit: options.roundLimit ?? 120 })
  const life = lifeBy(clock)
  const tenYears = 10 * 365 * 24
  const root = options.sharedRoot === true ? companyRoot('Fleet Root 1', life(tenYears)) : null
  const made = options.sites.map(name =>
    makeSite({ name, options, clock, random: random.fork(name), handshakes, life, root }),
  )
  const sites = new Map(made.map(site => [site.controls.name, site.controls]))

  const rehearsal: Rehearsal = {
    clock,
    sites,
    clusters: new Map(made.map(site => [site.controls.name, site.controls.cluster])),
    handshakes,
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
  const whole = (await rehearsal.settle()) && made.every(site => site.controls.workloads.agents.length > 0)
  if (whole) return
  const broken = made.flatMap(site => site.controls.logs.slice(-3).map(line => `${site.controls.name}: ${line}`))
  throw new ReanchorError({
    what: 'the rehearsal cluster does not come up from the base branch',
    expected: 'a repository from which Flux brings up istiod and at least one proxy',
    found: broken.length === 0 ? 'no proxy at all' : broken.join('\n'),
    todo: 'look at the lines above; the rehearsal applies what is on the base branch, as Flux would',
  })
}

interface MadeSite {
  readonly controls: SiteControls
  bootstrap(): Promise<void>
  settled(): boolean
  strike(faults: readonly FaultName[]): void
  culprit(): string | null
}

interface Parts {
  readonly name: string
  readonly options: RehearsalOptions
  readonly clock: VirtualClock
  readonly random: Site['random']
  readonly handshakes: Handshakes
  readonly life: (hours: number) => Life
  readonly root: Pair | null
}

function makeSite(parts: Parts): MadeSite {
  const { name, options, clock, random, handshakes, life, root } = parts
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
    istioNamespace: 'istio-system',
    leafHours: options.leafHours ?? 24,
    life,
    log: (component, line) => logs.push(`${clock.instant()} ${component} ${line}`),
  }
  const plane = new ControlPlane(site)
  const kubelets = new Kubelets(site)
  const injector = new Injector(site, plane)
  const workloads = new Workloads(site, kubelets, plane, injector)
  new Installer(site)
  const readOnce = options.readBase
  new Flux(site, readOnce, options.base ?? 'main')
  const argo = new ArgoCd(site, readOnce)
  const sealedSecrets = options.sealingKey === undefined ? null : new SealedSecrets(site, options.sealingKey)
  handshakes.addControls(() =>
    workloads.agents.flatMap(agent =>
      agent.running && agent.endpoint !== null && agent.projectedRoots !== ''
        ? plane.serving.flatMap(replica =>
            replica.endpoint === null
              ? []
              : [
                  {
                    link: 'istiod' as const,
                    client: `${name}/${agent.pod.metadata.namespace}/${agent.pod.metadata.name}`,
                    server: `${name}/${replica.pod.metadata.namespace}/${replica.pod.metadata.name}`,
                    endpoint: replica.endpoint,
                    roots: agent.projectedRoots,
                    serverName: `istiod.${site.istioNamespace}.svc`,
                  },
                ],
          )
        : [],
    ),
  )
  const issuing = root === null ? null : issuingCa(root, name, life(5 * 365 * 24))
  let struck: string | null = null

  const controls: SiteControls = {
    name,
    cluster: readableCluster(site, workloads),
    store,
    faults: site.faults,
    workloads,
    controlPlane: plane,
    logs,
    startingCa() {
      if (issuing !== null && root !== null) return { ...issuing, source: 'plugged', root: root.certificate }
      const secret = store.get('', 'Secret', site.istioNamespace, 'istio-ca-secret')
      const text = (key: string): string => Buffer.from(textAt(secret, 'data', key) ?? '', 'base64').toString('utf8')
      return { source: 'own', certificate: text('ca-cert.pem'), key: text('ca-key.pem'), root: text('ca-cert.pem') }
    },
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
      if (issuing !== null && root !== null) {
        store.put({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: site.istioNamespace } }, 'kubectl-create')
        const material = {
          'ca-cert.pem': issuing.certificate,
          'ca-key.pem': issuing.key,
          'cert-chain.pem': issuing.certificate + root.certificate,
          'root-cert.pem': root.certificate,
        }
        const secret = secretOf('cacerts', site.istioNamespace, material)
        // A Secret that its controller did not make is taken over only where its owner allows it.
        if (options.sealingKey !== undefined)
          secret.metadata.annotations = { 'sealedsecrets.bitnami.com/managed': 'true' }
        store.put(secret, 'kubectl-create')
      }
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
      argo.settled &&
      store.list('kustomize.toolkit.fluxcd.io', 'Kustomization').every(isReconciled),
    strike(faults) {
      if (faults.includes('never-reloads') && struck === null) {
        struck = options.faultTarget ?? firstSidecar(handshakes, name)
        if (struck !== null) site.faults.frozen.add(struck)
      }
      if (faults.includes('replica-lags')) {
        const node = workloads.nodes[1]!
        const before = store.get('', 'Secret', site.istioNamespace, 'cacerts')
        site.faults.staleNodes.set(
          node,
          new Map([[`Secret/${site.istioNamespace}/cacerts`, before === null ? null : structuredClone(before)]]),
        )
      }
    },
    culprit() {
      if (struck !== null) return struck
      const [node] = site.faults.staleNodes.keys()
      const replica = workloads.istiods.find(entry => textAt(entry.pod, 'spec', 'nodeName') === node)
      return replica === undefined ? null : `${replica.pod.metadata.namespace}/${replica.pod.metadata.name}`
    },
  }
}

function isReconciled(kustomization: StoredObject): boolean {
  const conditions =
    isRecord(kustomization.status) && Array.isArray(kustomization.status.conditions)
      ? kustomization.status.conditions
      : []
  return conditions.some(entry => textAt(entry, 'type') === 'Ready' && textAt(entry, 'status') !== 'Unknown')
}

function firstSidecar(handshakes: Handshakes, site: string): string | null {
  return (
    handshakes.parties.find(
      party => party.site === site && party.owner.includes('/Deployment/') && !party.owner.startsWith('ingress/'),
    )?.owner ?? null
  )
}

function namespaceOf(name: string): Manifest {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels: { 'kubernetes.io/metadata.name': name } } }
}

function secretOf(name: string, namespace: string, files: Readonly<Record<string, string>>): Manifest {
  const data = Object.fromEntries(
    Object.entries(files).map(([key, text]) => [key, Buffer.from(text).toString('base64')]),
  )
  return { apiVersion: 'v1', kind: 'Secret', metadata: { name, namespace }, type: 'Opaque', data }
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
