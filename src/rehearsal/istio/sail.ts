import { stringify } from 'yaml'
import { HelmController, merged } from '../helm-controller.ts'
import {
  type Fields,
  groupOf,
  listAt,
  type Manifest,
  numberAt,
  recordAt,
  type StoredObject,
  textAt,
  textsAt,
} from '../objects.ts'
import type { Site } from '../site.ts'
import { webhookName } from './injection.ts'
import { istioNamespace } from './names.ts'

/** Milliseconds. How long the Sail operator takes is an assumption. */
const sailLag = [1_000, 4_000] as const

/**
 * What turns a declaration of Istio into a control plane: the Sail operator for an `Istio` (and `ZTunnel`) resource, Flux's
 * helm-controller for a HelmRelease of the chart istiod. Both end in the same chart.
 */
export class Installer {
  readonly #site: Site
  readonly #scheduled = new Set<string>()

  constructor(site: Site) {
    this.#site = site
    site.store.onChange(change => {
      const { object } = change
      if (change.what !== 'status' && isInstall(object)) this.#soon(object)
      if (
        object.kind === 'Deployment' &&
        object.metadata.namespace === istioNamespace &&
        object.metadata.name === 'istiod'
      ) {
        for (const install of site.store.list('sailoperator.io', 'Istio')) this.#writeIstioStatus(install)
      }
    })
    new HelmController(site, {
      version: '1.29.0',
      is: isChart,
      install: (values, namespace) => installIstiod(site, legacyRoot(values), namespace, 'helm-controller'),
    })
  }

  #soon(object: StoredObject): void {
    const key = keyOf(object)
    if (this.#scheduled.has(key)) return
    this.#scheduled.add(key)
    this.#site.clock.after(this.#lag(`sail/${key}`), () => {
      this.#scheduled.delete(key)
      const live = this.#site.store.get(
        groupOf(object.apiVersion),
        object.kind,
        object.metadata.namespace ?? null,
        object.metadata.name,
      )
      if (live === null) return
      if (live.kind === 'Istio') this.#istio(live)
      if (live.kind === 'ZTunnel') this.#ztunnel(live)
    })
  }

  #lag(label: string): number {
    const [least, most] = sailLag
    return this.#site.random.fork(`${label}/${this.#site.clock.elapsed()}`).between(least, most)
  }

  #istio(install: StoredObject): void {
    const namespace = textAt(install, 'spec', 'namespace') ?? 'istio-system'
    if (this.#site.store.get('', 'Namespace', null, namespace) === null) {
      this.#site.clock.after(5_000, () => this.#soon(install))
      return
    }
    const values = recordAt(install, 'spec', 'values')
    this.#site.store.apply(
      {
        apiVersion: 'sailoperator.io/v1',
        kind: 'IstioRevision',
        metadata: { name: install.metadata.name },
        spec: { namespace, version: textAt(install, 'spec', 'version') ?? 'v1.29.0', values: structuredClone(values) },
      },
      'sail-operator',
    )
    installIstiod(this.#site, values, namespace, 'sail-operator')
    this.#writeIstioStatus(install)
  }

  // Ready compares readyReplicas with replicas and so is true in the middle of a roll-out (sail-operator determineReadyCondition).
  #writeIstioStatus(install: StoredObject): void {
    const namespace = textAt(install, 'spec', 'namespace') ?? 'istio-system'
    const deployment = this.#site.store.get('apps', 'Deployment', namespace, 'istiod')
    const ready =
      deployment !== null &&
      (numberAt(deployment, 'status', 'readyReplicas') ?? 0) >= (numberAt(deployment, 'spec', 'replicas') ?? 1)
    const revision = this.#site.store.get('sailoperator.io', 'IstioRevision', null, install.metadata.name)
    const observed =
      revision === null ? (numberAt(install, 'status', 'observedGeneration') ?? 0) : install.metadata.generation
    const condition = (type: string, holds: boolean, reason: string): unknown => {
      const live = this.#site.store.get('sailoperator.io', 'Istio', null, install.metadata.name)
      const before = listAt(live, 'status', 'conditions').find(entry => textAt(entry, 'type') === type)
      const status = holds ? 'True' : 'False'
      const lastTransitionTime = textAt(before, 'status') === status ? textAt(before, 'lastTransitionTime') : undefined
      return { type, status, reason, lastTransitionTime: lastTransitionTime ?? this.#site.clock.instant() }
    }
    const status = {
      observedGeneration: observed,
      state: ready ? 'Healthy' : 'IstiodNotReady',
      activeRevisionName: install.metadata.name,
      revisions: { total: 1, ready: ready ? 1 : 0, inUse: 1 },
      conditions: [
        condition('Reconciled', true, 'Healthy'),
        condition('Ready', ready, ready ? 'Healthy' : 'IstiodNotReady'),
        condition('DependenciesHealthy', true, 'Healthy'),
      ],
    }
    this.#site.store.setStatus(install, 'sail-operator', status)
    if (revision !== null)
      this.#site.store.setStatus(revision, 'sail-operator', {
        ...status,
        observedGeneration: revision.metadata.generation,
      })
  }

  #ztunnel(install: StoredObject): void {
    const namespace = textAt(install, 'spec', 'namespace') ?? 'ztunnel'
    const values = recordAt(install, 'spec', 'values', 'ztunnel')
    this.#site.store.apply(
      {
        apiVersion: 'apps/v1',
        kind: 'DaemonSet',
        metadata: { name: 'ztunnel', namespace, labels: { app: 'ztunnel' } },
        spec: {
          selector: { matchLabels: { app: 'ztunnel' } },
          updateStrategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
          template: {
            metadata: {
              labels: { app: 'ztunnel', 'sidecar.istio.io/inject': 'false' },
              annotations: { 'sidecar.istio.io/inject': 'false', ...textsAt(values, 'podAnnotations') },
            },
            spec: {
              serviceAccountName: 'ztunnel',
              containers: [
                {
                  name: 'istio-proxy',
                  image: 'docker.io/istio/ztunnel:1.29.0',
                  args: ['proxy', 'ztunnel'],
                  env: environment(textsAt(values, 'env')),
                },
              ],
              volumes: [{ name: 'istiod-ca-cert', configMap: { name: 'istio-ca-root-cert' } }],
            },
          },
        },
      },
      'sail-operator',
    )
    const now = this.#site.clock.instant()
    this.#site.store.setStatus(install, 'sail-operator', {
      observedGeneration: install.metadata.generation,
      state: 'Healthy',
      conditions: ['Reconciled', 'Ready'].map(type => ({
        type,
        status: 'True',
        reason: 'Healthy',
        lastTransitionTime: now,
      })),
    })
  }
}

function keyOf({ kind, metadata }: StoredObject): string {
  return `${kind}/${metadata.namespace ?? ''}/${metadata.name}`
}

function isInstall(object: StoredObject): boolean {
  return groupOf(object.apiVersion) === 'sailoperator.io' && (object.kind === 'Istio' || object.kind === 'ZTunnel')
}

function isChart(object: StoredObject): boolean {
  const chart = textAt(object, 'spec', 'chart', 'spec', 'chart') ?? ''
  return object.kind === 'HelmRelease' && /(^|\/)(istiod|istio-discovery)\/?$/.test(chart)
}

// The chart copies `pilot.*` to the root (manifests/charts/istio-control/istio-discovery zzy_descope_legacy.yaml), where it wins.
export function legacyRoot(values: Fields): Fields {
  const pilot: Fields = {}
  for (const key of ['env', 'podAnnotations', 'replicaCount']) if (key in values) pilot[key] = values[key]
  return { ...values, pilot: merged(pilot, recordAt(values, 'pilot')) }
}

function environment(values: Readonly<Record<string, string>>): { name: string; value: string }[] {
  return Object.entries(values).map(([name, value]) => ({ name, value }))
}

/** The chart istiod, as far as a rotation reads it. ConfigMaps come before the Deployment, as Helm orders them. */
export function installIstiod(site: Site, values: Fields, namespace: string, manager: string): void {
  const mesh = merged(
    {
      defaultConfig: { discoveryAddress: `istiod.${namespace}.svc:15012` },
      enablePrometheusMerge: true,
      rootNamespace: namespace,
      trustDomain: site.trustDomain,
    },
    recordAt(values, 'meshConfig'),
  )
  const labels = { app: 'istiod', 'istio.io/rev': 'default' }
  const apply = (manifest: Manifest): unknown => site.store.apply(manifest, manager)
  apply({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'istio', namespace, labels: { 'istio.io/rev': 'default' } },
    data: { mesh: stringify(mesh), meshNetworks: 'networks: {}' },
  })
  apply({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: webhookName, namespace, labels: { 'istio.io/rev': 'default' } },
    data: {
      values: JSON.stringify({ global: recordAt(values, 'global') }, null, 2),
      config: 'defaultTemplates: [sidecar]\npolicy: enabled\n',
    },
  })
  apply({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'istiod', namespace, labels },
    spec: {
      selector: { app: 'istiod' },
      ports: [
        { name: 'https-dns', port: 15012 },
        { name: 'https-webhook', port: 443, targetPort: 15017 },
      ],
    },
  })
  apply({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'istiod', namespace, labels: { ...labels, istio: 'pilot' } },
    spec: {
      replicas: numberAt(values, 'pilot', 'replicaCount') ?? numberAt(values, 'pilot', 'autoscaleMin') ?? 2,
      strategy: { rollingUpdate: { maxSurge: '100%', maxUnavailable: '25%' } },
      selector: { matchLabels: { app: 'istiod', istio: 'pilot' } },
      template: {
        metadata: {
          labels: { ...labels, istio: 'pilot', 'sidecar.istio.io/inject': 'false' },
          annotations: {
            'sidecar.istio.io/inject': 'false',
            'prometheus.io/port': '15014',
            ...textsAt(values, 'pilot', 'podAnnotations'),
          },
        },
        spec: {
          serviceAccountName: 'istiod',
          containers: [
            {
              name: 'discovery',
              image: 'docker.io/istio/pilot:1.29.0',
              args: ['discovery', '--monitoringAddr=:15014'],
              ports: [
                { containerPort: 8080 },
                { containerPort: 15010 },
                { containerPort: 15012 },
                { containerPort: 15017 },
                { containerPort: 15014 },
              ],
              env: environment({
                REVISION: 'default',
                PILOT_CERT_PROVIDER: 'istiod',
                CLUSTER_ID: 'Kubernetes',
                ...textsAt(values, 'pilot', 'env'),
              }),
              volumeMounts: [{ name: 'cacerts', mountPath: '/etc/cacerts', readOnly: true }],
            },
          ],
          volumes: [{ name: 'cacerts', secret: { secretName: 'cacerts', optional: true } }],
        },
      },
    },
  })
  for (const [kind, name] of [
    ['MutatingWebhookConfiguration', webhookName],
    ['ValidatingWebhookConfiguration', `istio-validator-${namespace}`],
  ] as const) {
    if (site.store.get('admissionregistration.k8s.io', kind, null, name) !== null) continue
    site.store.put(
      {
        apiVersion: 'admissionregistration.k8s.io/v1',
        kind,
        metadata: { name, labels: { ...labels } },
        webhooks: [
          {
            name:
              kind === 'MutatingWebhookConfiguration'
                ? 'namespace.sidecar-injector.istio.io'
                : 'rev.validation.istio.io',
            clientConfig: {
              service: {
                name: 'istiod',
                namespace,
                path: kind === 'MutatingWebhookConfiguration' ? '/inject' : '/validate',
                port: 443,
              },
            },
            failurePolicy: kind === 'MutatingWebhookConfiguration' ? 'Fail' : 'Ignore',
            sideEffects: 'None',
            admissionReviewVersions: ['v1'],
          },
        ],
      },
      manager,
    )
  }
}
