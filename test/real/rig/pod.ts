import { chmod, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { output } from './components.ts'
import { type Connection, isStatus, retry } from './connection.ts'
import { type Container, imageOf, startContainer } from './container.ts'
import type { Network, NetworkNamespace } from './network.ts'
import {
  type ContainerSpec,
  environmentOf,
  expand,
  type Hook,
  type KnownObjects,
  nodeAddress,
  type PodObject,
  type ProbeSpec,
} from './pod-object.ts'
import { probeOnce } from './probe.ts'
import { openVolumes, type TokenSource, type Volumes } from './projection.ts'

/** A pod of the real node, from the moment that it has an address; it goes on to tell of itself after its end. */
export interface RunningPod {
  readonly namespace: string
  readonly name: string
  readonly uid: string
  readonly address: string
  /** Name of its network namespace. */
  readonly netns: string
  /** File with what the container wrote in all its runs; outlives the pod. */
  log(container: string): string
  /** Runs a command of this machine in the pod's network namespace. Standard output; throws where it fails. */
  exec(command: readonly [string, ...string[]]): Promise<string>
  /** Runs a command inside a container: its files, its processes. */
  execIn(container: string, command: readonly [string, ...string[]]): Promise<string>
  restarts(container: string): number
}

export interface PodContext {
  readonly connection: Connection
  readonly network: Network
  readonly folder: string
  readonly logs: string
  readonly known: KnownObjects
  /** Environment of every container. */
  readonly environment: Readonly<Record<string, string>>
  /** Text of /etc/hosts for pods of a namespace. */
  hosts(namespace: string): string
  /** False while this pod's volumes are held as they are. */
  projects(pod: RunningPod): boolean
  /** Makes the pod's ports reachable through the API server. */
  forward(pod: PodObject, netns: string): Promise<void>
  unforward(pod: PodObject): Promise<void>
  born(pod: RunningPod): void
}

export interface PodWork {
  readonly uid: string
  update(object: PodObject): void
  project(): Promise<void>
  setHosts(): Promise<void>
  killContainer(container: string): Promise<void>
  /** Ends the pod's processes in the kubelet's order, then the pod. Later calls with less grace hasten it. */
  terminate(graceSeconds: number): Promise<void>
  /** Ends everything at once and leaves the API server alone. */
  drop(): Promise<void>
}

interface Slot {
  readonly spec: ContainerSpec
  /** An init container that goes on (restartPolicy Always). */
  readonly sidecar: boolean
  readonly init: boolean
  run: Container | null
  state: Readonly<Record<string, unknown>>
  last: Readonly<Record<string, unknown>>
  started: boolean
  ready: boolean
  restarts: number
  supervised: Promise<void> | null
}

/** Kubelet: 10 s, doubled up to 5 min. A rig has no such time, and nothing here depends on it. */
const firstPause = 1000
const longestPause = 10_000
/** Until the first success; then by the probe's own period. */
const eagerPeriod = 200

const condition = (type: string, holds: boolean): { type: string; status: string } => ({
  type,
  status: holds ? 'True' : 'False',
})
const waiting = (reason: string, message = ''): Slot['state'] => ({
  waiting: { reason, ...(message === '' ? {} : { message }) },
})

/** Annotation of pods that keep their address from one of a name to the next, as where a local volume pins each to a host whose port it has. */
export const keepsAddress = 'rig/keeps-address'

/** Under which name the network keeps a pod's address; the annotation's value tells clusters apart. */
export function keptAs(cluster: string, namespace: string, name: string): string {
  return `${cluster}/${namespace}/${name}`
}

function keptAddress({ metadata }: PodObject): string | undefined {
  const cluster = metadata.annotations?.[keepsAddress]
  return cluster === undefined ? undefined : keptAs(cluster, metadata.namespace, metadata.name)
}

export function startPod(first: PodObject, context: PodContext): PodWork {
  const { connection } = context
  const { namespace, name, uid } = first.metadata
  const path = `/api/v1/namespaces/${namespace}/pods/${name}`
  const folder = join(context.folder, uid)
  const startTime = new Date().toISOString()
  const restartPolicy = first.spec.restartPolicy ?? 'Always'
  const slotOf = (spec: ContainerSpec, init: boolean): Slot => ({
    spec,
    init,
    sidecar: init && spec.restartPolicy === 'Always',
    run: null,
    state: waiting(init ? 'PodInitializing' : 'ContainerCreating'),
    last: {},
    started: false,
    ready: false,
    restarts: 0,
    supervised: null,
  })
  const inits = (first.spec.initContainers ?? []).map(spec => slotOf(spec, true))
  const mains = first.spec.containers.map(spec => slotOf(spec, false))
  const slots = [...inits, ...mains]
  const transitions = new Map<string, { status: string; at: string }>()
  let object = first
  let netns: NetworkNamespace | null = null
  let running: RunningPod | null = null
  let volumes: Volumes | null = null
  let initialized = false
  let ending = false
  let dropped = false
  let gone: Promise<void> | null = null
  let deadline = Number.POSITIVE_INFINITY
  let runs = 0

  // Status

  let dirty = false
  let writing: Promise<void> | null = null

  function tell(): void {
    dirty = true
    writing ??= write().finally(() => {
      writing = null
    })
  }

  async function write(): Promise<void> {
    while (dirty && !dropped) {
      dirty = false
      try {
        await retry(
          () => connection.patch(`${path}/status`, { metadata: { uid }, status: status() }),
          () => !dropped,
        )
      } catch (cause) {
        if (dropped || !(await isOurs())) return
        if (isStatus(cause, 409)) dirty = true
        else report(cause)
      }
    }
  }

  /** Whether the pod of this name is still this one: a StatefulSet's next pod has the same. */
  async function isOurs(): Promise<boolean> {
    try {
      const there = (await retry(
        () => connection.send('GET', path),
        () => !dropped,
      )) as PodObject
      return there.metadata.uid === uid
    } catch {
      return false
    }
  }

  function report(cause: unknown, what = ''): void {
    process.stderr.write(`kubelet: ${namespace}/${name}${what}: ${String(cause)}\n`)
  }

  function phase(): string {
    const unprepared = inits.some(({ state }) => {
      const { exitCode = 0 } = (state.terminated ?? {}) as { readonly exitCode?: number }
      return exitCode !== 0
    })
    if (unprepared && restartPolicy === 'Never') return 'Failed'
    const ended = mains.every(({ state }) => state.terminated !== undefined)
    if (ended && (restartPolicy !== 'Always' || ending)) {
      const codes = mains.map(({ state }) => (state.terminated as { exitCode: number }).exitCode)
      if (restartPolicy !== 'Always') return codes.every(code => code === 0) ? 'Succeeded' : 'Failed'
    }
    const begun = mains.every(({ state, restarts }) => state.waiting === undefined || restarts > 0)
    return initialized && begun ? 'Running' : 'Pending'
  }

  function status(): unknown {
    const now = phase()
    const stays = slots.filter(({ init, sidecar }) => !init || sidecar)
    const ready = stays.every(slot => slot.ready) && now === 'Running'
    const conditions = [
      condition('PodReadyToStartContainers', volumes !== null),
      condition('Initialized', initialized),
      condition('ContainersReady', ready),
      condition('Ready', ready),
    ].map(({ type, status: holds }) => {
      const before = transitions.get(type)
      if (before?.status !== holds) transitions.set(type, { status: holds, at: new Date().toISOString() })
      const at = transitions.get(type)?.at
      const reason = holds === 'True' ? {} : { reason: 'ContainersNotReady' }
      return { type, status: holds, lastProbeTime: null, lastTransitionTime: at, ...reason }
    })
    const others = (object.status?.conditions ?? []).filter(({ type }) => !transitions.has(type))
    const address = netns === null ? {} : { podIP: netns.address, podIPs: [{ ip: netns.address }] }
    return {
      phase: now,
      hostIP: nodeAddress,
      hostIPs: [{ ip: nodeAddress }],
      ...address,
      startTime,
      conditions: [...others, ...conditions],
      ...(inits.length === 0 ? {} : { initContainerStatuses: inits.map(containerStatus) }),
      containerStatuses: mains.map(containerStatus),
    }
  }

  function containerStatus({ spec, state, last, started, ready, restarts }: Slot): unknown {
    return {
      name: spec.name,
      image: spec.image,
      imageID: spec.image,
      containerID: state.waiting === undefined ? `rig://${uid}/${spec.name}/${restarts}` : '',
      state,
      lastState: last,
      started,
      ready,
      restartCount: restarts,
    }
  }

  // Life

  async function live(): Promise<void> {
    const own = await retry(
      () => context.network.addNamespace({}, keptAddress(object)),
      () => !ending,
    )
    netns = own
    const { name: space, address } = own
    running = {
      namespace,
      name,
      uid,
      address,
      netns: space,
      log: container => logOf(container),
      exec: command => output('ip', ['netns', 'exec', space, ...command]),
      async execIn(container, command) {
        const run = slots.find(({ spec }) => spec.name === container)?.run
        if (run === undefined || run === null) throw new Error(`${namespace}/${name} has no process of ${container}`)
        return await run.exec(command)
      },
      restarts: container => slots.find(({ spec }) => spec.name === container)?.restarts ?? 0,
    }
    context.born(running)
    const forwarded = retry(
      () => context.forward(object, space),
      () => !ending,
    )
    forwarded.catch(() => {})
    const opened = openVolumes(join(folder, 'volumes'), address, context.known, tokenOf)
    await patiently(async () => {
      await opened.project(object)
      volumes = opened
    }, mains)
    tell()
    await forwarded.catch(cause => {
      if (!ending) throw cause
    })
    for (const slot of inits) {
      if (ending) return
      if (slot.sidecar) await begin(slot, address)
      // What prepares the network of a real node, say, is nothing here.
      else if ((await imageOf(slot.spec)) === null) finish(slot, 0, new Date())
      else if (!(await preparedBy(slot, address))) return
    }
    if (ending) return
    initialized = true
    for (const slot of mains) {
      if (ending) return
      await begin(slot, address)
    }
  }

  /** Does it until it succeeds, showing why not as the reason that `shown` wait. */
  async function patiently(
    does: () => Promise<void>,
    shown: readonly Slot[],
    reason = 'ContainerCreating',
  ): Promise<void> {
    let said = ''
    while (!ending) {
      try {
        return await does()
      } catch (cause) {
        const message = cause instanceof Error ? cause.message : String(cause)
        for (const slot of shown) slot.state = waiting(reason, message)
        if (message !== said) tell()
        said = message
      }
      await sleep(200)
    }
  }

  const tokenOf: TokenSource = async (audience, seconds) => {
    const account = object.spec.serviceAccountName ?? 'default'
    const spec = {
      ...(audience === undefined ? {} : { audiences: [audience] }),
      expirationSeconds: Math.max(600, seconds),
      boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name, uid },
    }
    const asked = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec }
    const to = `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`
    const { token } = ((await connection.send('POST', to, asked)) as { readonly status: { readonly token: string } })
      .status
    // As the kubelet: a new one after four fifths of its life.
    return { token, renewAt: Date.now() + Math.max(600, seconds) * 800 }
  }

  const logOf = (container: string): string => join(context.logs, `${namespace}_${name}_${container}.log`)

  /** Returns once the next container may start: after the startup probe of a sidecar, after the postStart hook of any other. */
  async function begin(slot: Slot, address: string): Promise<void> {
    await new Promise<void>(resolve => {
      slot.supervised = supervise(slot, address, resolve)
        .catch(cause => {
          slot.state = waiting('RunContainerError', String(cause))
          tell()
          report(cause, ` ${slot.spec.name}`)
        })
        .finally(resolve)
    })
  }

  /** An init container, until it has succeeded. False: it failed in a pod that is not tried again. */
  async function preparedBy(slot: Slot, address: string): Promise<boolean> {
    await begin(slot, address)
    await slot.supervised
    return (slot.state.terminated as { readonly exitCode?: number } | undefined)?.exitCode === 0
  }

  async function supervise(slot: Slot, address: string, begun: () => void): Promise<void> {
    const { spec } = slot
    const image = await imageOf(spec)
    if (image === null) {
      slot.started = true
      if (restartPolicy !== 'Always' && !slot.sidecar) return finish(slot, 0, new Date())
      slot.ready = true
      slot.state = { running: { startedAt: new Date().toISOString() } }
      tell()
      return
    }
    let pause = 0
    while (!ending) {
      let run: Container | null = null
      const config = async (): Promise<void> => {
        const base = { ...context.environment, ...image.environment, HOSTNAME: name }
        const environment = environmentOf(object, spec, address, context.known, base)
        const identity = { ...object.spec.securityContext, ...spec.securityContext }
        const user = identity.runAsUser ?? image.user
        run = await startContainer({
          folder: join(folder, `${spec.name}-${runs++}`),
          netns: netns?.name ?? '',
          image,
          command: spec.command?.map(part => expand(part, environment)) ?? null,
          args: (spec.args ?? []).map(argument => expand(argument, environment)),
          environment,
          user,
          group: identity.runAsGroup ?? user,
          mounts: await mountsOf(spec, environment),
          hosts: `${address} ${name}\n${context.hosts(namespace)}`,
          log: logOf(spec.name),
        })
      }
      await patiently(config, [slot], 'CreateContainerConfigError')
      if (run === null) return
      const started: Container = run
      slot.run = started
      // The end of the pod came while it started, and passed it by.
      if (ending) void started.stop(Math.max(0, deadline - Date.now()))
      slot.state = { running: { startedAt: started.startedAt.toISOString() } }
      slot.started = spec.startupProbe === undefined
      slot.ready = slot.started && spec.readinessProbe === undefined
      tell()
      void attend(slot, started, address, begun)
      const code = await started.exited
      slot.run = null
      finish(slot, code, started.startedAt)
      const always = slot.sidecar || (!slot.init && restartPolicy === 'Always')
      const again = always || (restartPolicy !== 'Never' && code !== 0)
      if (ending || !again) return
      slot.last = slot.state
      slot.restarts += 1
      if (Date.now() - started.startedAt.getTime() > 60_000) pause = 0
      if (pause > 0) {
        slot.state = waiting('CrashLoopBackOff', `back-off ${pause / 1000}s restarting failed container`)
        tell()
        const end = Date.now() + pause
        while (Date.now() < end && !ending) await sleep(100)
      }
      pause = Math.min(longestPause, pause === 0 ? firstPause : pause * 2)
    }
  }

  function finish(slot: Slot, exitCode: number, startedAt: Date): void {
    slot.ready = false
    slot.started = false
    const reason = exitCode === 0 ? 'Completed' : 'Error'
    const times = { startedAt: startedAt.toISOString(), finishedAt: new Date().toISOString() }
    slot.state = { terminated: { exitCode, reason, ...times } }
    if (slot.init && !slot.sidecar) slot.ready = true
    tell()
  }

  async function mountsOf(
    spec: ContainerSpec,
    environment: Readonly<Record<string, string>>,
  ): Promise<readonly { from: string; to: string; readOnly: boolean }[]> {
    const kinds = new Map((object.spec.volumes ?? []).map(volume => [volume.name, volume]))
    const mounts: { from: string; to: string; readOnly: boolean }[] = []
    const outermostFirst = [...(spec.volumeMounts ?? [])].sort((a, b) => a.mountPath.length - b.mountPath.length)
    for (const { name: volume, mountPath, readOnly = false, subPath = '', subPathExpr } of outermostFirst) {
      const { emptyDir, hostPath } = kinds.get(volume) ?? {}
      const below = subPathExpr === undefined ? subPath : expand(subPathExpr, environment)
      const from = join(hostPath?.path ?? volumes?.folder(volume) ?? '', below)
      if (hostPath !== undefined) {
        await mkdir(from, { recursive: true })
        // Whoever the container runs as.
        await chmod(from, 0o777)
      }
      const projected = emptyDir === undefined && hostPath === undefined
      mounts.push({ from, to: mountPath.replace(/\/+$/, ''), readOnly: readOnly || projected })
    }
    return mounts
  }

  /** The probes and the postStart hook of one run. */
  async function attend(slot: Slot, run: Container, address: string, begun: () => void): Promise<void> {
    const { spec } = slot
    const { startupProbe, readinessProbe, livenessProbe, lifecycle } = spec
    if (lifecycle?.postStart !== undefined) {
      await hook(lifecycle.postStart, run).catch(cause => {
        report(cause, ` ${spec.name}: postStart`)
      })
    }
    if (!slot.sidecar) begun()
    if (startupProbe !== undefined) {
      const up = await watch(startupProbe, slot, run, address, good => {
        if (good) slot.started = true
        return !good
      })
      if (!up) return void (await run.kill())
      if (run.running()) slot.ready = readinessProbe === undefined
      tell()
    }
    if (slot.sidecar) begun()
    if (livenessProbe !== undefined) {
      void watch(livenessProbe, slot, run, address, () => true).then(async alive => {
        if (!alive) await run.stop(((object.spec.terminationGracePeriodSeconds as number | undefined) ?? 30) * 1000)
      })
    }
    if (readinessProbe === undefined) return
    for (;;) {
      const up = await watch(readinessProbe, slot, run, address, good => {
        if (good && !slot.ready && run.running()) {
          slot.ready = true
          tell()
        }
        return true
      })
      if (up || !run.running()) return
      if (slot.ready) {
        slot.ready = false
        tell()
      }
    }
  }

  /**
   * Probes for as long as the run lives and `judge` says so. True unless the probe failed for as long as its threshold allows. Until its first
   * success it is asked more often than its period, so that a rig starts fast; how long it may fail is the pod's own word.
   */
  async function watch(
    probe: ProbeSpec,
    slot: Slot,
    run: Container,
    address: string,
    judge: (good: boolean) => boolean,
  ): Promise<boolean> {
    const period = (probe.periodSeconds ?? 10) * 1000
    const allowed = period * (probe.failureThreshold ?? 3)
    await sleep((probe.initialDelaySeconds ?? 0) * 1000)
    let succeeded = slot.ready
    let failingSince: number | null = null
    while (run.running()) {
      const good = await probeOnce(probe, slot.spec, address, command => run.exec(command))
      if (!run.running()) return true
      if (good) {
        succeeded = true
        failingSince = null
      } else {
        failingSince ??= Date.now()
      }
      if (!judge(good)) return true
      if (failingSince !== null && Date.now() - failingSince >= allowed) return false
      await sleep(succeeded ? period : Math.min(period, eagerPeriod))
    }
    return true
  }

  async function hook({ exec, sleep: pause }: Hook, run: Container): Promise<void> {
    if (exec !== undefined) await run.exec(exec.command)
    if (pause !== undefined) await sleep(pause.seconds * 1000)
  }

  // End

  async function end(): Promise<void> {
    const left = (): number => Math.max(0, deadline - Date.now())
    const stop = async (slot: Slot, told: Promise<void>): Promise<void> => {
      await told
      await slot.run?.stop(left())
      await slot.supervised
    }
    const preStop = (slot: Slot): Promise<void> => {
      const asked = slot.spec.lifecycle?.preStop
      const { run } = slot
      if (asked === undefined || run === null) return Promise.resolve()
      const bound = sleep(left(), undefined, { ref: false })
      return Promise.race([hook(asked, run).catch(() => {}), bound])
    }
    // Sidecars hear of the end with all others, and are ended after them, the last one first.
    const heard = new Map(slots.map(slot => [slot, preStop(slot)]))
    await Promise.all(mains.map(slot => stop(slot, heard.get(slot) ?? Promise.resolve())))
    for (const slot of inits.toReversed()) await stop(slot, heard.get(slot) ?? Promise.resolve())
    await life.catch(() => {})
    for (const slot of slots) {
      if (slot.state.terminated === undefined) finish(slot, 0, new Date(startTime))
    }
  }

  async function leave(): Promise<void> {
    await end()
    await writing
    await netns?.close()
    if (dropped) return
    await retry(
      () => context.unforward(object),
      () => !dropped,
    ).catch(ignoreMissing)
    const options = { apiVersion: 'v1', kind: 'DeleteOptions', gracePeriodSeconds: 0, preconditions: { uid } }
    await retry(
      () => connection.send('DELETE', path, options),
      () => !dropped,
    ).catch(ignoreMissing)
  }

  function ignoreMissing(cause: unknown): void {
    if (!isStatus(cause, 404, 409) && !dropped) throw cause
  }

  tell()
  const life = live().catch(cause => {
    if (!ending) report(cause)
  })

  return {
    uid,
    update(changed) {
      object = changed
      // The node-lifecycle controller calls pods unready whose node it thinks is gone; what runs here is known here.
      const told = changed.status?.conditions?.find(({ type }) => type === 'Ready')?.status
      if (told !== undefined && writing === null && told !== transitions.get('Ready')?.status) tell()
    },
    async project() {
      if (volumes === null || running === null || ending || !context.projects(running)) return
      await volumes.project(object)
    },
    async setHosts() {
      if (netns === null) return
      const text = `${netns.address} ${name}\n${context.hosts(namespace)}`
      for (const { run } of slots) await run?.setHosts(text)
    },
    async killContainer(container) {
      const run = slots.find(({ spec }) => spec.name === container)?.run
      if (run === undefined || run === null) throw new Error(`${namespace}/${name} has no process of ${container}`)
      await run.kill()
    },
    async terminate(graceSeconds) {
      ending = true
      const asked = Date.now() + graceSeconds * 1000
      const hastened = asked < deadline
      deadline = Math.min(deadline, asked)
      if (gone !== null && hastened && graceSeconds === 0) await Promise.all(slots.map(({ run }) => run?.kill()))
      gone ??= leave()
      await gone
    },
    async drop() {
      dropped = true
      ending = true
      deadline = 0
      await Promise.all(slots.map(({ run }) => run?.kill()))
      gone ??= leave()
      await gone
      await netns?.close()
    },
  }
}
