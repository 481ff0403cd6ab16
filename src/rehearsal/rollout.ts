import { createHash } from 'node:crypto'
import type { Kubelets } from './kubelet.ts'
import { at, groupOf, listAt, type Manifest, numberAt, recordAt, type StoredObject, textAt } from './objects.ts'
import { instantAt, nodeOf, ownerOf, type PodProcess, podKey, type Site } from './site.ts'
import type { SiteSystem } from './system.ts'

/** How often a consumer of trust was re-created because its template changed. */
export interface RestartCount {
  /** `namespace/kind/name` */
  readonly consumer: string
  readonly site: string
  readonly count: number
}

/** Milliseconds after which a readiness probe that failed is made again: periodSeconds. */
const probePeriod = 10_000

const workloadKinds = ['Deployment', 'StatefulSet', 'DaemonSet'] as const
const manager = 'kube-controller-manager'

/**
 * Milliseconds. A real pod also waits for its sandbox and its image, which is an assumption here; the rest was measured with the real
 * programs under a kubelet of our own: a workload with its proxy is Ready 0.5 to 1.2 s after its pod is taken up.
 */
const lags = {
  sandbox: [1_000, 3_000],
  proxy: [100, 300],
  program: [500, 1_200],
  probe: [100, 300],
} as const

/**
 * Deployments, StatefulSets and DaemonSets become pods, a changed template rolls them, and each pod runs what its labels say.
 * Only what a rotation depends on is here: surge and unavailability, ordinal order, one node after the other.
 */
export class Workloads {
  readonly nodes: readonly string[] = ['node-1', 'node-2']
  readonly #site: Site
  readonly #kubelets: Kubelets
  readonly #system: Pick<SiteSystem, 'process' | 'admit'>
  readonly #processes = new Map<string, PodProcess>()
  readonly #scheduled = new Set<string>()
  readonly #hashes = new Map<string, string>()
  readonly #restarts = new Map<string, number>()
  readonly #crashes = new Map<string, number>()
  #names = 0
  #addresses = 0

  constructor(site: Site, kubelets: Kubelets, system: Pick<SiteSystem, 'process' | 'admit'>) {
    this.#site = site
    this.#kubelets = kubelets
    this.#system = system
    site.store.onChange(change => {
      const { object } = change
      if (isWorkload(object) && change.what !== 'status') this.#schedule(object)
      if (object.kind === 'Pod') {
        const owner = this.#workloadOf(object)
        if (owner !== null) this.#schedule(owner)
      }
    })
  }

  /** Counting starts over: what brought the cluster up was no restart. */
  resetRestarts(): void {
    this.#restarts.clear()
  }

  restarts(): RestartCount[] {
    return [...this.#restarts]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([consumer, count]) => ({ consumer, site: this.#site.name, count }))
  }

  process(pod: StoredObject): PodProcess | null {
    return this.#processes.get(podKey(pod)) ?? null
  }

  /** Those that run, of whatever system. */
  get processes(): readonly PodProcess[] {
    return [...this.#processes.values()]
  }

  /** True while nothing rolls and every pod is ready. */
  get settled(): boolean {
    const workloads = workloadKinds.flatMap(kind => this.#site.store.list('apps', kind))
    return this.#scheduled.size === 0 && workloads.every(workload => this.#complete(workload))
  }

  /** A pod is deleted, as a drained node or a person does it: it ends in its grace, and its workload makes another. */
  evict(pod: StoredObject): void {
    this.#remove(pod)
  }

  async close(): Promise<void> {
    await Promise.all([...this.#processes.values()].map(process => process.stop()))
    this.#processes.clear()
  }

  #complete(workload: StoredObject): boolean {
    const pods = this.#podsOf(workload)
    const wanted = workload.kind === 'DaemonSet' ? this.nodes.length : (numberAt(workload, 'spec', 'replicas') ?? 1)
    const hash = templateHash(workload)
    return pods.length === wanted && pods.every(pod => hashOf(pod) === hash && isReady(pod))
  }

  #schedule(workload: StoredObject): void {
    const key = idOf(workload)
    if (this.#scheduled.has(key)) return
    this.#scheduled.add(key)
    this.#site.clock.after(this.#draw(key, 200, 900), async () => {
      this.#scheduled.delete(key)
      const live = this.#site.store.get(
        'apps',
        workload.kind,
        workload.metadata.namespace ?? '',
        workload.metadata.name,
      )
      await this.#reconcile(live, workload)
    })
  }

  async #reconcile(live: StoredObject | null, last: StoredObject): Promise<void> {
    if (live === null) {
      for (const pod of this.#podsOf(last)) this.#remove(pod)
      this.#hashes.delete(idOf(last))
      return
    }
    this.#countRestart(live)
    if (live.kind === 'Deployment') await this.#deployment(live)
    if (live.kind === 'StatefulSet') await this.#statefulSet(live)
    if (live.kind === 'DaemonSet') await this.#daemonSet(live)
    this.#writeStatus(live)
  }

  #countRestart(workload: StoredObject): void {
    if (at(workload, 'spec', 'paused') === true || textAt(workload, 'spec', 'updateStrategy', 'type') === 'OnDelete')
      return
    const key = idOf(workload)
    const hash = templateHash(workload)
    const before = this.#hashes.get(key)
    this.#hashes.set(key, hash)
    if (before !== undefined && before !== hash) this.#restarts.set(key, (this.#restarts.get(key) ?? 0) + 1)
  }

  async #deployment(deployment: StoredObject): Promise<void> {
    if (at(deployment, 'spec', 'paused') === true) return
    const wanted = numberAt(deployment, 'spec', 'replicas') ?? 1
    const rolling = recordAt(deployment, 'spec', 'strategy', 'rollingUpdate')
    const surge = Math.max(1, share(rolling.maxSurge ?? '25%', wanted, Math.ceil))
    const unavailable = share(rolling.maxUnavailable ?? '25%', wanted, Math.floor)
    const hash = templateHash(deployment)
    const set = this.#replicaSet(deployment, hash)
    const pods = this.#podsOf(deployment).filter(pod => pod.metadata.deletionTimestamp === undefined)
    const current = pods.filter(pod => hashOf(pod) === hash)
    const old = pods.filter(pod => hashOf(pod) !== hash)

    const room = wanted + surge - pods.length
    for (let index = 0; index < Math.min(wanted - current.length, room); index += 1) {
      await this.#create(
        deployment,
        { kind: 'ReplicaSet', name: set.metadata.name, uid: set.metadata.uid },
        hash,
        `${set.metadata.name}-${this.#suffix()}`,
      )
    }
    for (const pod of current.slice(wanted)) this.#remove(pod)
    for (const pod of old.filter(entry => !isReady(entry))) this.#remove(pod)
    let spare = pods.filter(isReady).length - (wanted - unavailable)
    for (const pod of old.filter(isReady)) {
      if (spare <= 0) break
      this.#remove(pod)
      spare -= 1
    }
  }

  async #statefulSet(set: StoredObject): Promise<void> {
    const wanted = numberAt(set, 'spec', 'replicas') ?? 1
    const hash = templateHash(set)
    const pods = this.#podsOf(set)
    const owner = { kind: 'StatefulSet', name: set.metadata.name, uid: set.metadata.uid }
    for (let ordinal = 0; ordinal < wanted; ordinal += 1) {
      const name = `${set.metadata.name}-${ordinal}`
      const pod = pods.find(entry => entry.metadata.name === name)
      if (pod === undefined) {
        await this.#create(set, owner, hash, name)
        return
      }
      if (!isReady(pod)) {
        // A pod of an old revision that never gets ready is replaced all the same.
        if (hashOf(pod) !== hash && pod.metadata.deletionTimestamp === undefined) this.#remove(pod)
        return
      }
    }
    if (textAt(set, 'spec', 'updateStrategy', 'type') === 'OnDelete') return
    const stale = pods.filter(pod => hashOf(pod) !== hash && pod.metadata.deletionTimestamp === undefined)
    const highest = stale.sort((a, b) => (a.metadata.name < b.metadata.name ? 1 : -1))[0]
    if (highest !== undefined) this.#remove(highest)
  }

  async #daemonSet(set: StoredObject): Promise<void> {
    const hash = templateHash(set)
    const pods = this.#podsOf(set)
    const owner = { kind: 'DaemonSet', name: set.metadata.name, uid: set.metadata.uid }
    for (const node of this.nodes) {
      if (pods.some(pod => nodeOf(pod) === node)) continue
      await this.#create(set, owner, hash, `${set.metadata.name}-${this.#suffix()}`, node)
    }
    if (textAt(set, 'spec', 'updateStrategy', 'type') === 'OnDelete') return
    if (this.#podsOf(set).some(pod => !isReady(pod))) return
    const stale = pods.find(pod => hashOf(pod) !== hash && pod.metadata.deletionTimestamp === undefined)
    if (stale !== undefined) this.#remove(stale)
  }

  #replicaSet(deployment: StoredObject, hash: string): StoredObject {
    const name = `${deployment.metadata.name}-${hash}`
    const namespace = deployment.metadata.namespace ?? ''
    const existing = this.#site.store.get('apps', 'ReplicaSet', namespace, name)
    if (existing !== null) return existing
    return this.#site.store.put(
      {
        apiVersion: 'apps/v1',
        kind: 'ReplicaSet',
        metadata: {
          name,
          namespace,
          labels: { ...deployment.metadata.labels, 'pod-template-hash': hash },
          ownerReferences: [controller('apps/v1', 'Deployment', deployment.metadata.name, deployment.metadata.uid)],
        },
        spec: {
          replicas: numberAt(deployment, 'spec', 'replicas') ?? 1,
          selector: recordAt(deployment, 'spec', 'selector'),
        },
      },
      manager,
    )
  }

  async #create(
    workload: StoredObject,
    owner: { kind: string; name: string; uid: string },
    hash: string,
    name: string,
    node?: string,
  ): Promise<void> {
    const template = structuredClone(recordAt(workload, 'spec', 'template'))
    const metadata = recordAt(template, 'metadata')
    const namespace = workload.metadata.namespace ?? 'default'
    const revision = workload.kind === 'Deployment' ? 'pod-template-hash' : 'controller-revision-hash'
    const pod: Manifest = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name,
        namespace,
        ...(workload.kind === 'StatefulSet' ? {} : { generateName: `${owner.name}-` }),
        labels: { ...(metadata.labels as Record<string, string> | undefined), [revision]: hash },
        annotations: { ...(metadata.annotations as Record<string, string> | undefined) },
        ownerReferences: [controller('apps/v1', owner.kind, owner.name, owner.uid)],
      },
      spec: {
        serviceAccountName: 'default',
        ...recordAt(template, 'spec'),
        nodeName: node ?? this.#nodeFor(workload),
      },
    }
    if ((await this.#system.admit?.(pod)) === false) {
      // failurePolicy: Fail. The controller comes back with a back-off.
      this.#site.log(
        `${namespace}/${workload.kind}/${workload.metadata.name}`,
        'Error creating: failed calling webhook',
      )
      this.#site.clock.after(5_000, () => this.#schedule(workload))
      return
    }
    const created = this.#site.store.put(pod, manager)
    this.#setPodStatus(created, { phase: 'Pending', ready: false })
    this.#site.clock.after(this.#draw(created.metadata.uid, ...lags.sandbox), () => this.#mount(created))
  }

  #mount(created: StoredObject): void {
    const pod = this.#live(created)
    if (pod === null) return
    const mounted = this.#kubelets.mount(pod, volume => this.#processes.get(podKey(pod))?.filesChanged(volume))
    if (!mounted) {
      this.#site.clock.after(2_000, () => this.#mount(pod))
      return
    }
    const process = this.#processFor(pod)
    if (process === null) {
      this.#site.clock.after(this.#draw(pod.metadata.uid, ...lags.program), () => this.#ready(pod))
      return
    }
    this.#processes.set(podKey(pod), process)
    const [least, most] = process.startLag ?? lags.proxy
    void this.#site.clock.after(this.#draw(pod.metadata.uid, least, most), () => this.#run(pod, process))
  }

  async #run(created: StoredObject, process: PodProcess): Promise<void> {
    const pod = this.#live(created)
    if (pod === null) return
    try {
      await process.start()
    } catch (error) {
      const crashes = (this.#crashes.get(podKey(pod)) ?? 0) + 1
      this.#crashes.set(podKey(pod), crashes)
      this.#site.log(podKey(pod), error instanceof Error ? error.message : String(error))
      this.#setPodStatus(pod, { phase: 'Running', ready: false, crashes })
      this.#site.clock.after(Math.min(300_000, 10_000 * 2 ** (crashes - 1)), () => this.#run(pod, process))
      return
    }
    if (!this.#isReadyNow(pod)) this.#setPodStatus(pod, { phase: 'Running', ready: false })
  }

  #processFor(pod: StoredObject): PodProcess | null {
    const ready = (): void => {
      this.#site.clock.after(this.#draw(`${pod.metadata.uid}/ready`, ...lags.probe), () => this.#ready(pod))
    }
    return this.#system.process(pod, { files: volume => this.#kubelets.files(pod, volume), ready })
  }

  #ready(created: StoredObject): void {
    const pod = this.#live(created)
    if (pod === null || pod.metadata.deletionTimestamp !== undefined) return
    if (this.#site.faults.neverReady.has(ownerOf(this.#site.store, pod))) {
      this.#site.clock.after(probePeriod, () => this.#ready(pod))
      return
    }
    this.#setPodStatus(pod, { phase: 'Running', ready: true })
    this.#processes.get(podKey(pod))?.joined?.()
    this.#site.handshakes.controlChanged()
  }

  #isReadyNow(pod: StoredObject): boolean {
    const live = this.#live(pod)
    return live !== null && isReady(live)
  }

  #remove(pod: StoredObject): void {
    const live = this.#live(pod)
    if (live === null || live.metadata.deletionTimestamp !== undefined) return
    this.#processes.get(podKey(live))?.drain()
    this.#site.store.update(live, manager, next => {
      next.metadata.deletionTimestamp = this.#site.clock.instant()
    })
    this.#site.clock.after(this.#draw(`${live.metadata.uid}/drain`, 2_000, 5_000), async () => {
      const key = podKey(live)
      const process = this.#processes.get(key)
      this.#processes.delete(key)
      this.#crashes.delete(key)
      this.#kubelets.unmount(live)
      await process?.stop()
      const last = this.#live(live)
      if (last !== null) this.#site.store.delete(last)
    })
  }

  /** The pod as it is now; null where it is gone, or another one has its name. */
  #live(pod: StoredObject): StoredObject | null {
    const live = this.#site.store.get('', 'Pod', pod.metadata.namespace ?? '', pod.metadata.name)
    return live !== null && live.metadata.uid === pod.metadata.uid ? live : null
  }

  #setPodStatus(pod: StoredObject, state: { phase: string; ready: boolean; crashes?: number }): void {
    const live = this.#live(pod)
    if (live === null) return
    const now = instantAt(this.#site, live)
    const before = recordAt(live, 'status')
    const wasReady = isReady(live)
    const changed = (type: string): string => {
      const known = listAt(before, 'conditions').find(entry => textAt(entry, 'type') === type)
      return known !== undefined && wasReady === state.ready ? (textAt(known, 'lastTransitionTime') ?? now) : now
    }
    const condition = (type: string, status: boolean): unknown => ({
      type,
      status: status ? 'True' : 'False',
      lastTransitionTime: changed(type),
    })
    this.#site.store.setStatus(live, 'kubelet', {
      phase: state.phase,
      conditions: [
        { type: 'PodScheduled', status: 'True', lastTransitionTime: live.metadata.creationTimestamp },
        condition('Initialized', state.phase === 'Running'),
        condition('ContainersReady', state.ready),
        condition('Ready', state.ready),
      ],
      hostIP: '127.0.0.1',
      podIP:
        textAt(before, 'podIP') ?? `10.244.${nodeOf(live) === this.nodes[0] ? 0 : 1}.${(++this.#addresses % 250) + 2}`,
      startTime: textAt(before, 'startTime') ?? now,
      containerStatuses: listAt(live, 'spec', 'containers').map(container => ({
        name: textAt(container, 'name') ?? '',
        image: textAt(container, 'image') ?? '',
        ready: state.ready,
        restartCount: state.crashes ?? 0,
        started: state.phase === 'Running' && state.crashes === undefined,
        state:
          state.crashes !== undefined
            ? { waiting: { reason: 'CrashLoopBackOff' } }
            : state.phase === 'Running'
              ? { running: { startedAt: runningSince(before, textAt(container, 'name')) ?? now } }
              : { waiting: { reason: 'ContainerCreating' } },
      })),
    })
  }

  #writeStatus(workload: StoredObject): void {
    const live = this.#site.store.get('apps', workload.kind, workload.metadata.namespace ?? '', workload.metadata.name)
    if (live === null) return
    const hash = templateHash(live)
    const pods = this.#podsOf(live).filter(pod => pod.metadata.deletionTimestamp === undefined)
    const updated = pods.filter(pod => hashOf(pod) === hash)
    const ready = pods.filter(isReady)
    const wanted = numberAt(live, 'spec', 'replicas') ?? 1
    const generation = live.metadata.generation
    if (live.kind === 'DaemonSet') {
      this.#site.store.setStatus(live, manager, {
        observedGeneration: generation,
        desiredNumberScheduled: this.nodes.length,
        currentNumberScheduled: pods.length,
        updatedNumberScheduled: updated.length,
        numberReady: ready.length,
        numberAvailable: ready.length,
        numberUnavailable: this.nodes.length - ready.length,
        numberMisscheduled: 0,
      })
      return
    }
    const common = {
      observedGeneration: generation,
      replicas: pods.length,
      updatedReplicas: updated.length,
      readyReplicas: ready.length,
      availableReplicas: ready.length,
    }
    if (live.kind === 'StatefulSet') {
      const complete = updated.length === wanted && pods.length === wanted
      const current = complete ? hash : (hashOf(pods.find(pod => hashOf(pod) !== hash) ?? live) ?? hash)
      this.#site.store.setStatus(live, manager, {
        ...common,
        currentReplicas: pods.length - updated.length,
        currentRevision: `${live.metadata.name}-${current}`,
        updateRevision: `${live.metadata.name}-${hash}`,
      })
      return
    }
    const available = ready.length >= wanted
    const complete = updated.length === wanted && pods.length === wanted && available
    const before = recordAt(live, 'status')
    const condition = (type: string, status: boolean, reason: string): unknown => {
      const known = listAt(before, 'conditions').find(entry => textAt(entry, 'type') === type)
      const text = status ? 'True' : 'False'
      if (textAt(known, 'status') === text && textAt(known, 'reason') === reason) return known
      const now = this.#site.clock.instant()
      return { type, status: text, reason, lastUpdateTime: now, lastTransitionTime: now }
    }
    this.#site.store.setStatus(live, manager, {
      ...common,
      ...(available ? {} : { unavailableReplicas: wanted - ready.length }),
      conditions: [
        condition('Available', available, available ? 'MinimumReplicasAvailable' : 'MinimumReplicasUnavailable'),
        condition('Progressing', true, complete ? 'NewReplicaSetAvailable' : 'ReplicaSetUpdated'),
      ],
    })
  }

  #podsOf(workload: StoredObject): StoredObject[] {
    const key = idOf(workload)
    return this.#site.store
      .list('', 'Pod', workload.metadata.namespace ?? '')
      .filter(pod => ownerOf(this.#site.store, pod) === key)
  }

  #workloadOf(pod: StoredObject): StoredObject | null {
    const [namespace, kind, name] = ownerOf(this.#site.store, pod).split('/')
    return this.#site.store.get('apps', kind ?? '', namespace ?? '', name ?? '')
  }

  // One replica per node where there are two, as the scheduler's default spreading does it.
  #nodeFor(workload: StoredObject): string {
    const load = (node: string): number =>
      this.#podsOf(workload).filter(
        pod =>
          nodeOf(pod) === node &&
          pod.metadata.deletionTimestamp === undefined &&
          hashOf(pod) === templateHash(workload),
      ).length
    return [...this.nodes].sort((a, b) => load(a) - load(b))[0]!
  }

  #suffix(): string {
    this.#names += 1
    return this.#site.random.fork(`name/${this.#names}`).suffix(5)
  }

  #draw(label: string, low: number, high: number): number {
    return this.#site.random.fork(`rollout/${label}/${this.#site.clock.elapsed()}`).between(low, high)
  }
}

function isWorkload(object: StoredObject): boolean {
  return groupOf(object.apiVersion) === 'apps' && workloadKinds.some(kind => kind === object.kind)
}

function idOf(workload: StoredObject): string {
  return `${workload.metadata.namespace ?? ''}/${workload.kind}/${workload.metadata.name}`
}

function controller(
  apiVersion: string,
  kind: string,
  name: string,
  uid: string,
): NonNullable<StoredObject['metadata']['ownerReferences']>[number] {
  return { apiVersion, kind, name, uid, controller: true, blockOwnerDeletion: true }
}

/** When a container that runs was started; undefined: it did not run yet. */
function runningSince(status: Record<string, unknown>, name: string | undefined): string | undefined {
  const known = listAt(status, 'containerStatuses').find(entry => textAt(entry, 'name') === name)
  return textAt(known, 'state', 'running', 'startedAt')
}

function isReady(pod: StoredObject): boolean {
  if (pod.metadata.deletionTimestamp !== undefined) return false
  return listAt(pod, 'status', 'conditions').some(
    condition => textAt(condition, 'type') === 'Ready' && textAt(condition, 'status') === 'True',
  )
}

function hashOf(pod: StoredObject): string | undefined {
  return pod.metadata.labels?.['pod-template-hash'] ?? pod.metadata.labels?.['controller-revision-hash']
}

function templateHash(workload: StoredObject): string {
  return createHash('sha256')
    .update(JSON.stringify(sorted(at(workload, 'spec', 'template'))))
    .digest('hex')
    .slice(0, 10)
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, entry]) => [key, sorted(entry)]),
  )
}

function share(value: unknown, of: number, round: (value: number) => number): number {
  if (typeof value === 'number') return value
  const text = String(value)
  return text.endsWith('%') ? round((Number(text.slice(0, -1)) / 100) * of) : Number(text)
}
