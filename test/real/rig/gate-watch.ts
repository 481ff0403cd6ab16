import { setTimeout as sleep } from 'node:timers/promises'
import type { ControlPlane } from './control-plane.ts'
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
  let open = true

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

  const done = (async () => {
    while (open) {
      // The API server may be busy: the next look sees what this one did not.
      await look().catch(() => {})
      await sleep(400)
    }
  })()
  return {
    get runs() {
      return [...runs.values()]
    },
    async stop() {
      open = false
      await done
    },
  }
}
