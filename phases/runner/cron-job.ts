import { ApiObject, Chart, Duration } from 'cdk8s'
import { ConcurrencyPolicy, CronJob, RestartPolicy } from 'cdk8s-plus-28'
import type { Construct } from 'constructs'
import { cronOf } from './cron.ts'
import { clone, podOf, rolesOf, runIn } from './pod.ts'
import { type RunnerProps, runnerNamespace, type VerifierProps } from './props.ts'

/**
 * The runner as a CronJob: its account with the least rights that the system's verifier needs, and a Job that clones the repository, goes through every open
 * rotation once, and ends. It has no right to write to the cluster.
 */
export class RunnerCronJob extends Chart {
  constructor(scope: Construct, id: string, props: RunnerProps) {
    super(scope, id, { disableResourceNameHashes: true })
    for (const [index, object] of rolesOf(props.roles).entries()) new ApiObject(this, `role-${index}`, object)
    const job = cronJob(this, 'runner', { name: 'reanchor', schedule: props.schedule ?? '*/10 * * * *' })
    runIn(this, job, props, [
      ...['run', '--once', '--waiting-ok', '--log', 'json', '--repo', clone],
      ...(props.rotation === undefined ? [] : ['--rotation', props.rotation]),
    ])
  }
}

/**
 * The verifier of a cluster that no runner can reach, as a CronJob inside of it: looks at its site as `verify` does and pushes what it saw to the site's
 * `cluster.reports`. Its rights in the cluster are the verifier's reads; its token for git need push nothing but that ref.
 */
export class VerifierCronJob extends Chart {
  constructor(scope: Construct, id: string, props: VerifierProps) {
    super(scope, id, { disableResourceNameHashes: true })
    for (const [index, object] of rolesOf(props.roles).entries()) new ApiObject(this, `role-${index}`, object)
    const job = cronJob(this, 'verifier', { name: 'reanchor-observe', schedule: props.schedule ?? '*/5 * * * *' })
    runIn(this, job, props, ['observe', '--site', props.site, '--waiting-ok', '--repo', clone])
  }
}

function cronJob(
  scope: Construct,
  id: string,
  { name, schedule }: { readonly name: string; readonly schedule: string },
) {
  return new CronJob(scope, id, {
    metadata: { name, namespace: runnerNamespace },
    schedule: cronOf(schedule),
    concurrencyPolicy: ConcurrencyPolicy.FORBID,
    // The same answer would come again at once; the next turn is soon.
    backoffLimit: 0,
    activeDeadline: Duration.hours(1),
    startingDeadline: Duration.minutes(5),
    restartPolicy: RestartPolicy.NEVER,
    terminationGracePeriod: Duration.seconds(60),
    ...podOf(scope),
  })
}
