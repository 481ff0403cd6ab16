import { ApiObject, Chart, Cron, Duration, Size } from 'cdk8s'
import {
  Capability,
  ConcurrencyPolicy,
  type ContainerSecurityContextProps,
  Cpu,
  CronJob,
  EnvValue,
  RestartPolicy,
  SeccompProfileType,
  Secret,
  ServiceAccount,
  Volume,
} from 'cdk8s-plus-28'
import type { Construct } from 'constructs'
import { parseAllDocuments } from 'yaml'
import { type RunnerProps, runnerAccount, runnerNamespace } from './props.ts'

/** Where the image's `reanchor-askpass` looks for what git asks for. */
const gitSecretFolder = '/var/run/reanchor/git'
const signingSecretFolder = '/var/run/reanchor/signing'
const clone = '/work/fleet'

const gitVariables = {
  GIT_ASKPASS: EnvValue.fromValue('/usr/local/bin/reanchor-askpass'),
  HOME: EnvValue.fromValue('/work'),
}

/** What the level `restricted` of the Pod Security Standards asks for, and more. */
const confined: ContainerSecurityContextProps = {
  ensureNonRoot: true,
  readOnlyRootFilesystem: true,
  allowPrivilegeEscalation: false,
  privileged: false,
  capabilities: { drop: [Capability.ALL] },
  seccompProfile: { type: SeccompProfileType.RUNTIME_DEFAULT },
}

/**
 * The runner as a CronJob: its account with the least rights that the system's verifier needs, and a Job that clones the repository, goes through every open
 * rotation once, and ends. It has no right to write to the cluster.
 */
export class RunnerCronJob extends Chart {
  constructor(scope: Construct, id: string, props: RunnerProps) {
    super(scope, id, { disableResourceNameHashes: true })
    for (const [index, object] of rolesOf(props.roles).entries()) new ApiObject(this, `role-${index}`, object)
    const job = new CronJob(this, 'runner', {
      metadata: { name: 'reanchor', namespace: runnerNamespace },
      schedule: props.schedule === undefined ? Cron.schedule({ minute: '*/10' }) : cronOf(props.schedule),
      concurrencyPolicy: ConcurrencyPolicy.FORBID,
      // The same answer would come again at once; the next turn is soon.
      backoffLimit: 0,
      activeDeadline: Duration.hours(1),
      startingDeadline: Duration.minutes(5),
      restartPolicy: RestartPolicy.NEVER,
      serviceAccount: ServiceAccount.fromServiceAccountName(this, 'account', runnerAccount, {
        namespaceName: runnerNamespace,
      }),
      automountServiceAccountToken: true,
      terminationGracePeriod: Duration.seconds(60),
      securityContext: { ensureNonRoot: true, user: 10001, group: 10001, fsGroup: 10001 },
    })
    const work = Volume.fromEmptyDir(this, 'work', 'work', { sizeLimit: Size.gibibytes(1) })
    const cloning = job.addInitContainer({
      name: 'clone',
      image: props.image,
      command: ['git', 'clone', '--quiet', props.repository, clone],
      envVariables: gitVariables,
      resources: {
        cpu: { request: Cpu.millis(100) },
        memory: { request: Size.mebibytes(64), limit: Size.mebibytes(512) },
      },
      securityContext: confined,
    })
    const container = job.addContainer({
      name: 'reanchor',
      image: props.image,
      // No shell stands between, so that SIGTERM reaches it and it gives its lock back.
      command: ['reanchor'],
      args: [
        ...['run', '--once', '--waiting-ok', '--log', 'json', '--repo', clone],
        ...(props.rotation === undefined ? [] : ['--rotation', props.rotation]),
      ],
      envVariables: {
        ...gitVariables,
        ...(props.signingSecret === undefined
          ? {}
          : { REANCHOR_SIGNING_KEY_FILE: EnvValue.fromValue(`${signingSecretFolder}/key`) }),
      },
      resources: {
        cpu: { request: Cpu.millis(100) },
        memory: { request: Size.mebibytes(256), limit: Size.mebibytes(1024) },
      },
      securityContext: confined,
    })
    const temporary = Volume.fromEmptyDir(this, 'tmp', 'tmp')
    const secret = (name: string, volume: string) =>
      Volume.fromSecret(this, volume, Secret.fromSecretName(this, `${volume}-secret`, name), {
        name: volume,
        // git and ssh refuse a key that others may read.
        defaultMode: 0o440,
      })
    const credentials = secret(props.gitSecret ?? 'reanchor-git', 'git')
    for (const each of [cloning, container]) {
      each.mount('/work', work)
      each.mount('/tmp', temporary)
      each.mount(gitSecretFolder, credentials, { readOnly: true })
    }
    if (props.signingSecret !== undefined)
      container.mount(signingSecretFolder, secret(props.signingSecret, 'signing'), { readOnly: true })
  }
}

function cronOf(text: string): Cron {
  const [minute, hour, day, month, weekDay, more] = text.trim().split(/\s+/)
  if (weekDay === undefined || more !== undefined)
    throw new Error(`schedule ${JSON.stringify(text)} has not five fields`)
  return new Cron({ minute: minute ?? '*', hour: hour ?? '*', day: day ?? '*', month: month ?? '*', weekDay })
}

interface RoleObject {
  readonly apiVersion: string
  readonly kind: string
}

function rolesOf(texts: readonly string[]): readonly RoleObject[] {
  return texts.flatMap(text => parseAllDocuments(text).map(document => document.toJS() as RoleObject))
}
