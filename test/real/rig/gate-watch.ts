import type { ControlPlane } from './control-plane.ts'
import { keepLooking } from './looking.ts'
import type { Manifest } from './objects.ts'

/** A Job that a delivery waits for, as it was seen to live. Times are the cluster's. */
export interface GateRun {
  readonly uid: string
  /** `2-trust-both/1-data`, with what the folder says besides, such as `undo`; null: none was there when it was first seen. */
  readonly step: string | null
  readonly createdAt: string
  endedAt: string | null
  ended: 'Complete' | 'Failed' | null
  /** Exit codes of its pods, in the order of their start. */
  exitCodes: readonly number[]
}

export interface GateWatch {
  readonly runs: readonly GateRun[]
  stop(): Promise<void>
}

interface JobStatus {
  readonly conditions?: readonly {
    readonly type: string
    readonly status: string
    readonly lastTransitionTime: string
  }[]
}

interface PodStatus {
  readonly startTime?: string
  readonly containerStatuses?: readonly { readonly state?: { readonly terminated?: { readonly exitCode: number } } }[]
}

/** Looks at the Jobs of a namespace from now on; `stepOf` tells which step a new one is about, when it is first seen. */
export function watchGates(
  { objects }: Pick<ControlPlane, 'objects'>,
  namespace: string,
  stepOf: (job: Manifest) => Promise<string | null>,
): GateWatch {
  const runs = new Map<string, GateRun>()

  async function look(): Promise<void> {
    for (const job of await objects.list('batch/v1', 'Job', { namespace })) {
      const { uid, creationTimestamp } = job.metadata as unknown as { uid: string; creationTimestamp: string }
      const run = runs.get(uid) ?? {
        uid,
        step: await stepOf(job),
        createdAt: creationTimestamp,
        endedAt: null,
        ended: null,
        exitCodes: [],
      }
      runs.set(uid, run)
      const { conditions = [] } = (job.status ?? {}) as JobStatus
      for (const { type, status, lastTransitionTime } of conditions) {
        if (status !== 'True' || (type !== 'Complete' && type !== 'Failed')) continue
        run.ended = type
        run.endedAt = lastTransitionTime
      }
      const pods = await objects.list('v1', 'Pod', { namespace, labels: `batch.kubernetes.io/controller-uid=${uid}` })
      const states = pods.map(({ status }) => (status ?? {}) as PodStatus)
      const codes = states
        .sort((a, b) => ((a.startTime ?? '') < (b.startTime ?? '') ? -1 : 1))
        .flatMap(({ containerStatuses = [] }) => containerStatuses.map(({ state }) => state?.terminated?.exitCode))
        .filter(code => code !== undefined)
      // Pods go with their Job, or before it.
      if (codes.length >= run.exitCodes.length) run.exitCodes = codes
    }
  }

  const looking = keepLooking(look, 400)
  return {
    get runs() {
      return [...runs.values()]
    },
    stop: looking.stop,
  }
}

/** Whether a Job of this step was complete by then (milliseconds since 1970). */
export function letGoBy(runs: readonly GateRun[], step: string | null, at: number): boolean {
  return runs.some(run => run.step === step && run.ended === 'Complete' && Date.parse(run.endedAt ?? '') <= at)
}
