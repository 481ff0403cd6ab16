import { type ApiObject, JsonPatch, Size } from 'cdk8s'
import {
  Capability,
  type ContainerSecurityContextProps,
  Cpu,
  EnvValue,
  type IConfigMap,
  SeccompProfileType,
  Secret,
  ServiceAccount,
  Volume,
  type Workload,
} from 'cdk8s-plus-28'
import type { Construct } from 'constructs'
import { parseAllDocuments } from 'yaml'
import { type PodProps, runnerAccount, runnerNamespace } from './props.ts'

/** Where the image's `reanchor-askpass` looks for what git asks for. */
const gitSecretFolder = '/var/run/reanchor/git'
const signingSecretFolder = '/var/run/reanchor/signing'
export const clone = '/work/fleet'

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

/** What every pod of reanchor has, whatever controls it. */
export function podOf(scope: Construct) {
  return {
    serviceAccount: ServiceAccount.fromServiceAccountName(scope, 'account', runnerAccount, {
      namespaceName: runnerNamespace,
    }),
    automountServiceAccountToken: true,
    securityContext: { ensureNonRoot: true, user: 10001, group: 10001, fsGroup: 10001 },
  }
}

/** A pod that clones the repository and then runs one command in the clone, confined, with git's credentials in files. */
export function runIn(scope: Construct, workload: Workload, props: PodProps, args: readonly string[]): void {
  const work = Volume.fromEmptyDir(scope, 'work', 'work', { sizeLimit: Size.gibibytes(1) })
  const cloning = workload.addInitContainer({
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
  const container = workload.addContainer({
    name: 'reanchor',
    image: props.image,
    // No shell stands between, so that SIGTERM reaches it and it gives its lock back.
    command: ['reanchor'],
    args: [...args],
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
  const temporary = Volume.fromEmptyDir(scope, 'tmp', 'tmp')
  const secret = (name: string, volume: string) =>
    Volume.fromSecret(scope, volume, Secret.fromSecretName(scope, `${volume}-secret`, name), {
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

/** Mounted for no other reason than that the pod's template changes with what the ConfigMap holds. */
export function mountForChange(scope: Construct, workload: Workload, config: IConfigMap): void {
  const [container] = workload.containers
  container?.mount('/var/run/reanchor/step', Volume.fromConfigMap(scope, 'step', config, { name: 'step' }), {
    readOnly: true,
  })
}

/**
 * What is wrong for good ends a Job at once, and a pod that had to leave its node counts as no failure. 2, 3 and 5: wrong input, given up or overtaken,
 * refused; 1 and 4 are tried again.
 */
export function endsEarly(job: ApiObject): void {
  job.addJsonPatch(
    JsonPatch.add('/spec/podFailurePolicy', {
      rules: [
        { action: 'Ignore', onPodConditions: [{ type: 'DisruptionTarget', status: 'True' }] },
        { action: 'FailJob', onExitCodes: { containerName: 'reanchor', operator: 'In', values: [2, 3, 5] } },
      ],
    }),
  )
}

interface RoleObject {
  readonly apiVersion: string
  readonly kind: string
}

export function rolesOf(texts: readonly string[]): readonly RoleObject[] {
  return texts.flatMap(text => parseAllDocuments(text).map(document => document.toJS() as RoleObject))
}
