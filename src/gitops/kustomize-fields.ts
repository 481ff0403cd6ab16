import { groupOf, isPlain, type ManifestObject, type Plain } from './manifests.ts'

/** Where a transformer writes: a path with `/`, and the objects that it is for. As in kustomize's configuration. */
export interface FieldSpec {
  readonly path: string
  readonly create: boolean
  readonly group?: string
  readonly kind?: string
}

/** Calls `set` on the holder of the path's last key, in every list element on the way. */
export function visitField(object: ManifestObject, spec: FieldSpec, set: (holder: Plain, key: string) => void): void {
  if (spec.kind !== undefined && spec.kind !== object.kind) return
  if (spec.group !== undefined && spec.group !== groupOf(object.apiVersion)) return
  walk(object, spec.path.split('/'), spec.create, set)
}

function walk(
  value: unknown,
  path: readonly string[],
  create: boolean,
  set: (holder: Plain, key: string) => void,
): void {
  if (Array.isArray(value)) {
    for (const item of value) walk(item, path, create, set)
    return
  }
  const [first, ...rest] = path
  if (!isPlain(value) || first === undefined) return
  const key = first.replace(/\[\]$/, '')
  if (rest.length === 0) {
    if (create || (value[key] !== undefined && value[key] !== null)) set(value, key)
    return
  }
  if (value[key] === undefined || value[key] === null) {
    if (!create || first.endsWith('[]')) return
    value[key] = {}
  }
  walk(value[key], rest, create, set)
}

const workloads = ['Deployment', 'ReplicaSet', 'DaemonSet', 'ReplicationController', 'StatefulSet']

// kustomize api v0.18, internal/konfig/builtinpluginconsts: metadatalabels.go, commonlabels.go, commonannotations.go.
export const templateLabelFields: readonly FieldSpec[] = [
  { path: 'metadata/labels', create: true },
  ...workloads.map(kind => ({ path: 'spec/template/metadata/labels', create: true, kind })),
  { path: 'spec/volumeClaimTemplates[]/metadata/labels', create: true, group: 'apps', kind: 'StatefulSet' },
  { path: 'spec/template/metadata/labels', create: true, group: 'batch', kind: 'Job' },
  { path: 'spec/jobTemplate/metadata/labels', create: true, group: 'batch', kind: 'CronJob' },
  { path: 'spec/jobTemplate/spec/template/metadata/labels', create: true, group: 'batch', kind: 'CronJob' },
]

const podLabelSelectors = [
  'affinity/podAffinity/preferredDuringSchedulingIgnoredDuringExecution/podAffinityTerm/labelSelector/matchLabels',
  'affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution/labelSelector/matchLabels',
  'affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/podAffinityTerm/labelSelector/matchLabels',
  'affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/labelSelector/matchLabels',
  'topologySpreadConstraints/labelSelector/matchLabels',
]

export const commonLabelFields: readonly FieldSpec[] = [
  ...templateLabelFields,
  { path: 'spec/selector', create: true, group: '', kind: 'Service' },
  { path: 'spec/selector', create: true, group: '', kind: 'ReplicationController' },
  { path: 'spec/selector/matchLabels', create: true, kind: 'Deployment' },
  { path: 'spec/selector/matchLabels', create: true, kind: 'ReplicaSet' },
  { path: 'spec/selector/matchLabels', create: true, kind: 'DaemonSet' },
  { path: 'spec/selector/matchLabels', create: true, group: 'apps', kind: 'StatefulSet' },
  ...['Deployment', 'StatefulSet'].flatMap(kind =>
    podLabelSelectors.map(path => ({ path: `spec/template/spec/${path}`, create: false, group: 'apps', kind })),
  ),
  { path: 'spec/selector/matchLabels', create: false, group: 'batch', kind: 'Job' },
  { path: 'spec/jobTemplate/spec/selector/matchLabels', create: false, group: 'batch', kind: 'CronJob' },
  { path: 'spec/selector/matchLabels', create: false, group: 'policy', kind: 'PodDisruptionBudget' },
  { path: 'spec/podSelector/matchLabels', create: false, group: 'networking.k8s.io', kind: 'NetworkPolicy' },
  {
    path: 'spec/ingress/from/podSelector/matchLabels',
    create: false,
    group: 'networking.k8s.io',
    kind: 'NetworkPolicy',
  },
  { path: 'spec/egress/to/podSelector/matchLabels', create: false, group: 'networking.k8s.io', kind: 'NetworkPolicy' },
]

export const commonAnnotationFields: readonly FieldSpec[] = [
  { path: 'metadata/annotations', create: true },
  ...workloads.map(kind => ({ path: 'spec/template/metadata/annotations', create: true, kind })),
  { path: 'spec/template/metadata/annotations', create: true, group: 'batch', kind: 'Job' },
  { path: 'spec/jobTemplate/metadata/annotations', create: true, group: 'batch', kind: 'CronJob' },
  { path: 'spec/jobTemplate/spec/template/metadata/annotations', create: true, group: 'batch', kind: 'CronJob' },
]

export const replicaFields: readonly FieldSpec[] = [
  'Deployment',
  'ReplicationController',
  'ReplicaSet',
  'StatefulSet',
].map(kind => ({
  path: 'spec/replicas',
  create: true,
  kind,
}))

/** A field that holds the name of another object. */
export interface ReferenceSpec extends FieldSpec {
  readonly to: string
}

const podSpecPaths: readonly (readonly [kind: string, path: string])[] = [
  ['Pod', 'spec'],
  ['PodTemplate', 'template/spec'],
  ...['Deployment', 'ReplicaSet', 'DaemonSet', 'StatefulSet', 'Job', 'ReplicationController'].map(
    kind => [kind, 'spec/template/spec'] as const,
  ),
  ['CronJob', 'spec/jobTemplate/spec/template/spec'],
]

const podReferences: readonly (readonly [to: string, path: string])[] = [
  ...['containers', 'initContainers'].flatMap(list => [
    ['ConfigMap', `${list}/env/valueFrom/configMapKeyRef/name`] as const,
    ['ConfigMap', `${list}/envFrom/configMapRef/name`] as const,
    ['Secret', `${list}/env/valueFrom/secretKeyRef/name`] as const,
    ['Secret', `${list}/envFrom/secretRef/name`] as const,
  ]),
  ['ConfigMap', 'volumes/configMap/name'],
  ['ConfigMap', 'volumes/projected/sources/configMap/name'],
  ['Secret', 'volumes/secret/secretName'],
  ['Secret', 'volumes/projected/sources/secret/name'],
  ['Secret', 'imagePullSecrets/name'],
  ['PersistentVolumeClaim', 'volumes/persistentVolumeClaim/claimName'],
  ['ServiceAccount', 'serviceAccountName'],
  ['PriorityClass', 'priorityClassName'],
]

// The part of namereference.go that rotations meet; a renamed object of another kind is reported as unsupported.
export const referenceFields: readonly ReferenceSpec[] = [
  ...podSpecPaths.flatMap(([kind, pod]) =>
    podReferences.map(([to, path]) => ({ to, path: `${pod}/${path}`, create: false, kind })),
  ),
  { to: 'Secret', path: 'imagePullSecrets/name', create: false, kind: 'ServiceAccount' },
  { to: 'Secret', path: 'spec/tls/secretName', create: false, kind: 'Ingress' },
  { to: 'Service', path: 'spec/serviceName', create: false, group: 'apps', kind: 'StatefulSet' },
  { to: 'Service', path: 'spec/rules/http/paths/backend/service/name', create: false, kind: 'Ingress' },
  { to: 'Service', path: 'spec/defaultBackend/service/name', create: false, kind: 'Ingress' },
  { to: 'Role', path: 'roleRef/name', create: false, kind: 'RoleBinding' },
  { to: 'ClusterRole', path: 'roleRef/name', create: false, kind: 'RoleBinding' },
  { to: 'ClusterRole', path: 'roleRef/name', create: false, kind: 'ClusterRoleBinding' },
  ...['Deployment', 'StatefulSet', 'ReplicaSet', 'ReplicationController'].map(to => ({
    to,
    path: 'spec/scaleTargetRef/name',
    create: false,
    kind: 'HorizontalPodAutoscaler',
  })),
]

/** Kinds whose renaming is followed wherever they are named. */
export const referencedKinds: ReadonlySet<string> = new Set(referenceFields.map(spec => spec.to))

const clusterScoped = new Set([
  '/ComponentStatus',
  '/Namespace',
  '/Node',
  '/PersistentVolume',
  'admissionregistration.k8s.io/MutatingWebhookConfiguration',
  'admissionregistration.k8s.io/ValidatingWebhookConfiguration',
  'apiextensions.k8s.io/CustomResourceDefinition',
  'apiregistration.k8s.io/APIService',
  'certificates.k8s.io/CertificateSigningRequest',
  'flowcontrol.apiserver.k8s.io/FlowSchema',
  'flowcontrol.apiserver.k8s.io/PriorityLevelConfiguration',
  'networking.k8s.io/IngressClass',
  'node.k8s.io/RuntimeClass',
  'policy/PodSecurityPolicy',
  'rbac.authorization.k8s.io/ClusterRole',
  'rbac.authorization.k8s.io/ClusterRoleBinding',
  'scheduling.k8s.io/PriorityClass',
  'storage.k8s.io/CSIDriver',
  'storage.k8s.io/CSINode',
  'storage.k8s.io/StorageClass',
  'storage.k8s.io/VolumeAttachment',
])

/** As kustomize has it: only built-in kinds can be cluster-scoped, every custom resource counts as namespaced. */
export function isClusterScoped(object: ManifestObject): boolean {
  return clusterScoped.has(`${groupOf(object.apiVersion)}/${object.kind}`)
}
