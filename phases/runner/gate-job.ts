import { ApiObject, Chart, Duration } from 'cdk8s'
import { ConfigMap, Job, RestartPolicy } from 'cdk8s-plus-28'
import type { Construct } from 'constructs'
import { clone, endsEarly, mountForChange, podOf, runIn } from './pod.ts'
import { type GateProps, runnerNamespace } from './props.ts'

const usualHours = 26

/**
 * A Job that ends once the gates of the step hold that was delivered, so that the delivery waits for it. For Argo CD it is a PostSync hook of the Application that
 * delivers the site's folder: the sync goes on until then, and fails with the Job. For Flux it stands in a folder of its own, which a Kustomization waits for
 * (`FluxGate`). `gateFolder` makes the files around it. It needs the account that `RunnerCronJob` or `VerifierCronJob` bring.
 */
export class GateJob extends Chart {
  constructor(scope: Construct, id: string, props: GateProps) {
    super(scope, id, { disableResourceNameHashes: true })
    const hours = props.hours ?? usualHours
    const argo = props.delivery === 'argocd'
    const name = gateName(props)
    const job = new Job(this, 'gate', {
      metadata: {
        name,
        namespace: runnerNamespace,
        ...(argo
          ? {
              annotations: {
                'argocd.argoproj.io/hook': 'PostSync',
                'argocd.argoproj.io/hook-delete-policy': 'BeforeHookCreation',
              },
            }
          : {}),
      },
      backoffLimit: 6,
      // The command gives up before, and says why.
      activeDeadline: Duration.minutes(hours * 60 + 15),
      restartPolicy: RestartPolicy.NEVER,
      terminationGracePeriod: Duration.seconds(60),
      ...podOf(this),
    })
    runIn(this, job, props, [
      ...['observe', '--site', props.site, '--wait', '--timeout', `${hours}h`],
      ...(argo ? ['--hook'] : []),
      ...['--repo', clone],
    ])
    if (!argo) mountForChange(this, job, ConfigMap.fromConfigMapName(this, 'step-config', name))
    endsEarly(ApiObject.of(job))
  }
}

function gateName({ site }: Pick<GateProps, 'site'>): string {
  return `reanchor-gate-${site}`
}

/**
 * The folder of the gate, by path in it, around `job` (the text of a `GateJob`). Both deliverers take up line 1 of trust.txt, which names the step, as a
 * ConfigMap: a step that only restarts what others deliver changes nothing else of theirs.
 *
 * Flux: a kustomization.yaml. The Job mounts the ConfigMap, whose name ends in a hash of what it holds, so every step makes another Job.
 * Argo CD: a chart, as kustomize does not read files above its folder there. Its source names the file, see `gateSource`; a sync, and with it the hook, follows from the changed ConfigMap.
 */
export function gateFolder(
  job: string,
  { site, delivery }: Pick<GateProps, 'site' | 'delivery'>,
  trustFolder: string,
): ReadonlyMap<string, string> {
  const name = gateName({ site })
  if (delivery === 'argocd')
    return new Map([
      [
        'Chart.yaml',
        `apiVersion: v2\nname: ${name}\ndescription: Waits until a step has reached everyone\nversion: 0.1.0\n`,
      ],
      ['templates/job.yaml', job],
      [
        'templates/step.yaml',
        `apiVersion: v1
kind: ConfigMap
metadata:
  name: ${name}
  namespace: ${runnerNamespace}
data:
  trust.txt: {{ required "name trust.txt as the file parameter trust of this source" .Values.trust | quote }}
`,
      ],
    ])
  const kustomization = `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - job.yaml
configMapGenerator:
  - name: ${name}
    namespace: ${runnerNamespace}
    files:
      - ${trustFolder}/trust.txt
`
  return new Map([
    ['job.yaml', job],
    ['kustomization.yaml', kustomization],
  ])
}

/** For Argo CD: the source to put beside the one of the site's folder. `path`: of the gate's folder; `trustFolder`: the site's, as seen from there. */
export function gateSource(
  repository: { readonly repoURL: string; readonly targetRevision: string },
  path: string,
  trustFolder: string,
) {
  return { ...repository, path, helm: { fileParameters: [{ name: 'trust', path: `${trustFolder}/trust.txt` }] } }
}

export interface FluxGateProps {
  /** Namespace of Flux. */
  readonly namespace: string
  /** The Kustomization that delivers the site's folder; the gate is `<this>-gate`. */
  readonly kustomization: string
  /** GitRepository that both read from: then the gate waits for the very revision. */
  readonly gitRepository: string
  /** Folder with the Job and its kustomization.yaml. */
  readonly path: string
}

/** What others may depend on: Ready once the gates hold. A Job that still waits keeps it from that, and is looked at again every two minutes. */
export class FluxGate extends Chart {
  constructor(scope: Construct, id: string, props: FluxGateProps) {
    super(scope, id, { namespace: props.namespace, disableResourceNameHashes: true })
    new ApiObject(this, 'gate', {
      apiVersion: 'kustomize.toolkit.fluxcd.io/v1',
      kind: 'Kustomization',
      metadata: { name: `${props.kustomization}-gate` },
      spec: {
        interval: '10m',
        retryInterval: '2m',
        timeout: '5m',
        path: props.path,
        prune: true,
        // A Job's template cannot be changed: it is made anew.
        force: true,
        wait: true,
        dependsOn: [{ name: props.kustomization }],
        sourceRef: { kind: 'GitRepository', name: props.gitRepository },
      },
    })
  }
}
