import { createPrivateKey, generateKeyPairSync } from 'node:crypto'
import {
  type Cluster,
  ClusterError,
  type KubernetesObject,
  type ListOptions,
  type ResourceType,
} from '../../../src/cluster/cluster.ts'
import { createLeaf, createRoot } from '../../../src/pki/authority.ts'
import { type Certificate, certificateFacts } from '../../../src/pki/certificate.ts'
import type {
  Evidence,
  GateResult,
  Instant,
  Plan,
  PlannedPhase,
  PlannedTree,
  Strategy,
  TrustState,
} from '../../../src/rotation.ts'
import { linkerdPhases } from '../../../src/systems/linkerd/phases.ts'
import type { LinkerdSettings } from '../../../src/systems/linkerd/settings.ts'
import { linkerd } from '../../../src/systems/linkerd/system.ts'
import type { LinkerdFlow } from '../../../src/systems/linkerd/version.ts'
import type { Observation } from '../../../src/systems/system.ts'
import { gatesFor } from '../../../src/verify/gate.ts'
import type { PatienceSettings } from '../../../src/verify/patience.ts'
import { plannedAt } from '../../../src/verify/planned.ts'
import { sha256 } from '../../../src/verify/values.ts'
import { globalJson, linkerdCa, now } from './material.ts'

const site = 'eu-1'

/** Before anything of a test happened. */
const longAgo: Instant = '2026-11-22T03:00:00Z'

export interface Signer {
  readonly root: Certificate
  readonly issuer: Certificate
  /** Leaf and issuer as a proxy serves them, DER. */
  readonly served: readonly Buffer[]
  readonly leaf: Certificate
  /** As `served`, with a leaf that has ended. */
  readonly ended: readonly Buffer[]
}

export interface Material {
  readonly old: Signer
  readonly next: Signer
  /** A CA that no plan knows, of the same names (F10). */
  readonly foreign: Signer
  /** The injector's own PKI: caBundle, and what it serves. */
  readonly webhook: WebhookPki
}

/** CA in caBundle, what is served, and the same with a leaf that has ended. */
export interface WebhookPki {
  readonly ca: Certificate
  readonly served: readonly Buffer[]
  readonly ended: readonly Buffer[]
}

let made: Promise<Material> | null = null

/** One set of certificates for a whole test file. */
export function material(): Promise<Material> {
  made ??= (async () => ({
    old: await signer('CN=identity.linkerd.cluster.local'),
    next: await signer('CN=root.linkerd.cluster.local,OU=mesh-2026', 700),
    foreign: await signer('CN=root.linkerd.cluster.local,OU=mesh-2026'),
    webhook: await webhookPki('linkerd-proxy-injector.linkerd.svc'),
  }))()
  return made
}

async function signer(subject: string, days = 3650): Promise<Signer> {
  const ca = await linkerdCa(subject, now, days)
  const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
  const until = async (hours: number): Promise<Certificate> =>
    await createLeaf({
      notBefore: new Date(now.getTime() - 24 * 3_600_000),
      notAfter: new Date(now.getTime() + hours * 3_600_000),
      serial: '05',
      key,
      issuer: { certificate: ca.issuer, key: createPrivateKey(ca.key) },
      dns: ['web.emojivoto.serviceaccount.identity.linkerd.cluster.local'],
    })
  const leaf = await until(12)
  const chain = (own: Certificate): readonly Buffer[] => [own.x509.raw, ca.issuer.x509.raw]
  return { root: ca.root, issuer: ca.issuer, leaf, served: chain(leaf), ended: chain(await until(-1)) }
}

export async function webhookPki(name: string): Promise<WebhookPki> {
  const caKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
  const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
  const dated = (days: number) => ({
    notBefore: new Date(now.getTime() - 400 * 86_400_000),
    notAfter: new Date(now.getTime() + days * 86_400_000),
  })
  const ca = await createRoot({ subject: `CN=${name}`, key: caKey, serial: '07', ...dated(100) })
  const leaf = async (days: number): Promise<readonly Buffer[]> => {
    const issuer = { certificate: ca, key: caKey }
    return [(await createLeaf({ key, serial: '08', issuer, dns: [name], ...dated(days) })).x509.raw]
  }
  return { ca, served: await leaf(100), ended: await leaf(-1) }
}

export function webhookObject(caBundle: string): KubernetesObject {
  return {
    metadata: { name: 'linkerd-proxy-injector-webhook-config', creationTimestamp: longAgo },
    webhooks: [
      {
        name: 'linkerd-proxy-injector.linkerd.io',
        clientConfig: { caBundle: Buffer.from(caBundle).toString('base64') },
      },
    ],
  }
}

function settingsOf(flow: LinkerdFlow): LinkerdSettings {
  return {
    flow,
    version: flow === 'trust-roots' ? 'stable-2.14.10' : 'stable-2.7.1',
    namespace: 'linkerd',
    trustDomain: 'cluster.local',
    install: 'manifests',
    controlPlane: {},
    issuerScheme: null,
    leafHours: 24,
    leaves: 'renewal',
  }
}

/** A plan of the real phases; only folders and their digests are made up. */
export async function planOf(
  flow: LinkerdFlow = 'trust-roots',
  strategy: Strategy = 'graceful',
  settings: Readonly<Record<string, string>> = {},
): Promise<Plan> {
  const { old, next } = await material()
  const drafts = linkerdPhases(
    strategy,
    {
      current: {
        issuer: old.issuer.sha256,
        chain: [old.issuer.sha256],
        roots: [old.root.sha256],
        settings: { scheme: 'linkerd.io/tls', version: settingsOf(flow).version, ...settings },
        restarts: {},
      },
      next: { root: next.root.sha256, issuer: next.issuer.sha256, chain: [next.issuer.sha256] },
    },
    { flow, workloadBatches: 1, leaves: 'renewal' },
  )
  const phases = drafts.map(({ name, title, steps }, number): PlannedPhase => {
    const tree = (kind: string, state: TrustState | null, step: string): PlannedTree | null =>
      state === null ? null : { digest: sha256(`${number} ${step} ${kind}`), state }
    return {
      number,
      name,
      title,
      steps: steps.map((step, index) => ({
        number: index + 1,
        name: step.name,
        what: step.what,
        sites: {
          [site]: {
            digest: sha256(`${number} ${step.name} step`),
            state: step.state,
            undo: tree('undo', step.undo, step.name),
            nudge: tree('nudge', step.nudge, step.name),
          },
        },
      })),
    }
  })
  const facts = (certificate: Certificate, role: 'old-root' | 'old-issuing' | 'new-root' | 'new-issuing') => ({
    ...certificateFacts(certificate),
    role,
    sites: [],
    file: `certificates/${role}.pem`,
  })
  return {
    apiVersion: 'reanchor.dev/v1alpha1',
    kind: 'TrustPlan',
    metadata: { name: 'mesh-2026' },
    createdAt: '2026-11-21T00:00:00Z',
    system: 'linkerd',
    strategy,
    base: 'main',
    inputs: { declaration: '', material: '', next: '' },
    certificates: [
      facts(old.root, 'old-root'),
      facts(old.issuer, 'old-issuing'),
      facts(next.root, 'new-root'),
      facts(next.issuer, 'new-issuing'),
    ],
    sites: [{ name: site, path: 'trust/eu-1' }],
    batches: [[site]],
    phases,
    wiring: [],
    canaries: { [site]: sha256('canary') },
    gates: { hold: 600_000, fresh: 3_600_000, settle: 30_000, attest: [] },
    leafHours: 24,
    parties: ['proxy', 'control-plane', 'identity'],
    formerDigests: {},
  }
}

/** Number of a step, given as `trust-both/control-plane`. */
function placeOf(plan: Plan, text: string): { readonly phase: number; readonly step: number } {
  const [phaseName, stepName] = text.split('/')
  const phase = plan.phases.find(({ name }) => name === phaseName)
  const step = phase?.steps.find(({ name }) => name === stepName)
  if (phase === undefined || step === undefined) throw new Error(`no step ${text}`)
  return { phase: phase.number, step: step.number }
}

export function stateAt(plan: Plan, text: string): TrustState {
  const { phase, step } = placeOf(plan, text)
  const found = plannedAt(plan, site, phase, step)
  if (found === null) throw new Error(`no state at ${text}`)
  return found.tree.state
}

// ------------------------------------------------------------------------------------------------------ cluster

export interface PodState {
  object: KubernetesObject
  chain: readonly Buffer[] | Error
  /** Answers of port 9990. */
  metrics?: string
  /** What port 8443 serves: the injector's webhook. */
  webhook?: readonly Buffer[]
  /** What other ports serve: webhooks beside the injector's. */
  serves?: Readonly<Record<number, readonly Buffer[]>>
}

/** A mesh as the API would show it, which a test may bend before it looks. */
export interface Mesh {
  readonly objects: Map<string, KubernetesObject[]>
  readonly pods: Map<string, PodState>
  /** By the words that a request asks with: a failure that it meets. */
  readonly failures: Map<string, ClusterError>
  /** Port, server name and time-out of every handshake, by pod. */
  readonly asked: Map<string, { readonly port: number; readonly serverName: string; readonly timeout?: number }>
  /** Called before each handshake. */
  onHandshake?: (name: string) => Promise<void> | void
  /** Objects that a page of a list holds. */
  pageSize: number
}

function meshCluster(mesh: Mesh): Cluster {
  const fail = (asked: string): void => {
    const failure = mesh.failures.get(asked)
    if (failure !== undefined) throw failure
  }
  const kept = (type: ResourceType): readonly KubernetesObject[] =>
    type.plural === 'pods' ? [...mesh.pods.values()].map(pod => pod.object) : (mesh.objects.get(type.plural) ?? [])
  const find = (type: ResourceType, namespace: string | null, name: string) =>
    kept(type).find(({ metadata }) => metadata.name === name && (metadata.namespace ?? null) === namespace) ?? null
  return {
    async identity() {
      return { uid: 'u', now: now.toISOString() }
    },
    async get(type, namespace, name) {
      fail(`get ${type.plural} ${name}`)
      return find(type, namespace, name)
    },
    async metadata(type, namespace, name) {
      fail(`get ${type.plural} ${name}`)
      const found = find(type, namespace, name)
      return found === null ? null : { metadata: found.metadata }
    },
    async *list(type, options: ListOptions = {}) {
      fail(`list ${type.plural}`)
      const label = options.labelSelector
      const found = kept(type).filter(
        ({ metadata }) =>
          (options.namespace === undefined || metadata.namespace === options.namespace) &&
          (label === undefined || metadata.labels?.[label] !== undefined),
      )
      for (let from = 0; from < found.length; from += mesh.pageSize) {
        yield found.slice(from, from + mesh.pageSize)
        fail(`next page of ${type.plural}`)
      }
    },
    async httpGet(pod, port, path) {
      const asked = `GET ${path} of pod ${pod.namespace}/${pod.name}:${port}`
      const metrics = mesh.pods.get(`${pod.namespace}/${pod.name}`)?.metrics
      if (port !== 9990 || path !== '/metrics' || metrics === undefined)
        throw new ClusterError('unreachable', asked, 'connection refused')
      return metrics
    },
    async servedTls(pod, port, serverName, timeout) {
      const name = `${pod.namespace}/${pod.name}`
      const asked = `TLS handshake with pod ${name}:${port}`
      if (port === 8443 || port === 9443) {
        const asking = mesh.pods.get(name)
        const served = asking?.serves?.[port] ?? (port === 8443 ? asking?.webhook : undefined)
        if (served === undefined) throw new ClusterError('unreachable', asked, 'connection refused')
        return { chain: served, authorities: null }
      }
      mesh.asked.set(name, { port, serverName, ...(timeout === undefined ? {} : { timeout }) })
      await mesh.onHandshake?.(name)
      const state = mesh.pods.get(name)
      if (state === undefined) throw new ClusterError('unreachable', asked, 'no such pod')
      if (state.chain instanceof Error) throw state.chain
      return { chain: state.chain, authorities: null }
    },
    async close() {},
  }
}

export interface PodShape {
  readonly namespace?: string
  readonly owner?: { readonly kind: string; readonly name: string } | null
  readonly hash?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
  /** PEM in the proxy's environment; null: it refers to the ConfigMap. */
  readonly anchors?: string | null
  readonly native?: boolean
  readonly phase?: string
  readonly started?: Instant
  /** Of the container beside the proxy. */
  readonly beside?: string
  readonly besidePorts?: readonly { readonly name: string; readonly containerPort: number }[]
  readonly besideStarted?: Instant
  readonly besideRestarts?: number
  readonly state?: unknown
  readonly terminating?: boolean
  readonly env?: readonly unknown[]
  readonly account?: string
}

/** Variables as linkerd2 charts/partials/templates/_proxy.tpl of 2.7 has them; later versions write the namespace and the trust domain out. */
const nameVariables = [
  { name: '_pod_ns', valueFrom: { fieldRef: { fieldPath: 'metadata.namespace' } } },
  { name: '_pod_sa', valueFrom: { fieldRef: { fieldPath: 'spec.serviceAccountName' } } },
  { name: '_l5d_ns', value: 'linkerd' },
  { name: '_l5d_trustdomain', value: 'cluster.local' },
  {
    name: 'LINKERD2_PROXY_IDENTITY_LOCAL_NAME',
    value: '$(_pod_sa).$(_pod_ns).serviceaccount.identity.$(_l5d_ns).$(_l5d_trustdomain)',
  },
]

export function podObject(name: string, shape: PodShape = {}): KubernetesObject {
  const { namespace = 'emojivoto', native = false, started = longAgo, beside = 'app', hash = '6d4cf56db6' } = shape
  const anchors =
    shape.anchors === null
      ? { valueFrom: { configMapKeyRef: { name: 'linkerd-identity-trust-roots', key: 'ca-bundle.crt' } } }
      : { value: shape.anchors ?? '' }
  const proxy = {
    name: 'linkerd-proxy',
    env: shape.env ?? [{ name: 'LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS', ...anchors }, ...nameVariables],
    ports: [{ name: 'linkerd-admin', containerPort: 4191 }],
  }
  const running = (startedAt: Instant, restartCount: number) => ({ state: { running: { startedAt } }, restartCount })
  const proxyStatus = {
    name: 'linkerd-proxy',
    ...running(started, 0),
    ...(shape.state === undefined ? {} : { state: shape.state }),
  }
  const besideContainer = { name: beside, ...(shape.besidePorts === undefined ? {} : { ports: shape.besidePorts }) }
  const besideStatus = { name: beside, ...running(shape.besideStarted ?? started, shape.besideRestarts ?? 0) }
  const owner =
    shape.owner === undefined ? { kind: 'ReplicaSet', name: `${name.replace(/-[^-]+$/, '')}-${hash}` } : shape.owner
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace,
      creationTimestamp: started,
      labels: { 'linkerd.io/control-plane-ns': 'linkerd', 'pod-template-hash': hash, ...shape.labels },
      annotations: { ...shape.annotations },
      ...(owner === null ? {} : { ownerReferences: [{ ...owner, controller: true }] }),
      ...(shape.terminating === true ? { deletionTimestamp: '2026-11-22T05:59:59Z' } : {}),
    },
    spec: {
      serviceAccountName: shape.account ?? name.replace(/-[^-]+$/, ''),
      containers: native ? [besideContainer] : [besideContainer, proxy],
      ...(native ? { initContainers: [{ ...proxy, restartPolicy: 'Always' }] } : {}),
    },
    status: {
      phase: shape.phase ?? 'Running',
      startTime: started,
      containerStatuses: native ? [besideStatus] : [besideStatus, proxyStatus],
      ...(native ? { initContainerStatuses: [proxyStatus] } : {}),
    },
  }
}

/** A pod of the control plane: from 2.11 on its proxy refers to the ConfigMap. */
export function planePod(
  name: string,
  component: string,
  shape: PodShape & { readonly token?: string | undefined } = {},
) {
  return podObject(name, {
    namespace: 'linkerd',
    anchors: null,
    beside: component,
    ...shape,
    labels: { 'linkerd.io/control-plane-component': component, ...shape.labels },
    annotations: shape.token === undefined ? {} : { 'reanchor.dev/trust': shape.token },
  })
}

/** Who wrote a key of an object's data, and when. */
export function written(field: string, time: Instant) {
  return [{ manager: 'kustomize-controller', operation: 'Apply', time, fieldsV1: { 'f:data': { [`f:${field}`]: {} } } }]
}

export interface MeshOptions {
  readonly flow?: LinkerdFlow
  /** When the anchors' ConfigMap was written last. @default longAgo */
  readonly changed?: Instant
  /** When the control plane's containers started. @default a minute after `changed` */
  readonly started?: Instant
}

/** A mesh that is what a step declares, and has taken it up. */
export async function meshAt(plan: Plan, place: string, options: MeshOptions = {}): Promise<Mesh> {
  const { flow = 'trust-roots', changed = longAgo } = options
  const started = options.started ?? new Date(Date.parse(changed) + 60_000).toISOString().replace('.000Z', 'Z')
  const { old, next, webhook } = await material()
  const state = stateAt(plan, place)
  const pems = new Map(plan.certificates.map(({ sha256: fingerprint, pem }) => [fingerprint, pem]))
  const bundle = state.bundle.map(root => pems.get(root) ?? '').join('')
  const { served } = state.issuer === next.issuer.sha256 ? next : old
  const token = state.restarts['control-plane']
  const literal = (state.settings['anchors/control-plane'] ?? '').split(' ').map(root => pems.get(root) ?? '')
  const pods = new Map<string, PodState>()
  const add = (object: KubernetesObject): void => {
    pods.set(`${object.metadata.namespace}/${object.metadata.name}`, { object, chain: served })
  }
  for (const [name, component] of [
    ['linkerd-identity-1', 'identity'],
    ['linkerd-identity-2', 'identity'],
    ['linkerd-destination-1', 'destination'],
    ['linkerd-proxy-injector-1', 'proxy-injector'],
  ] as const)
    add(planePod(name, component, { token, started, anchors: flow === 'trust-roots' ? null : literal.join('') }))
  const injector = pods.get('linkerd/linkerd-proxy-injector-1')
  if (injector !== undefined) injector.webhook = webhook.served
  for (const name of ['web-1', 'web-2', 'voting-1']) add(podObject(name, { anchors: bundle }))
  const config =
    flow === 'trust-roots'
      ? { name: 'linkerd-identity-trust-roots', field: 'ca-bundle.crt', value: bundle }
      : { name: 'linkerd-config', field: 'global', value: globalJson(bundle) }
  const map = {
    metadata: { name: config.name, namespace: 'linkerd', managedFields: written(config.field, changed) },
    data: { [config.field]: config.value },
  }
  const deployments = ['linkerd-identity', 'linkerd-destination', 'linkerd-proxy-injector'].map(name =>
    deploymentObject(name, 'linkerd', token, 'linkerd-proxy'),
  )
  const workloads = ['web', 'voting'].map(name =>
    deploymentObject(name, 'emojivoto', state.restarts['data-plane'], 'app'),
  )
  return {
    objects: new Map([
      ['configmaps', [map]],
      ['mutatingwebhookconfigurations', [webhookObject(webhook.ca.pem)]],
      ['deployments', [...deployments, ...workloads]],
    ]),
    pods,
    failures: new Map(),
    asked: new Map(),
    pageSize: 50,
  }
}

function deploymentObject(
  name: string,
  namespace: string,
  token: string | undefined,
  container: string,
): KubernetesObject {
  return {
    kind: 'Deployment',
    metadata: {
      name,
      namespace,
      generation: 1,
      creationTimestamp: longAgo,
      annotations: { 'reanchor.dev/rotation': 'mesh-2026' },
    },
    spec: {
      replicas: 1,
      template: {
        metadata: { annotations: token === undefined ? {} : { 'reanchor.dev/trust': token } },
        spec: { containers: [{ name: container }] },
      },
    },
    status: { observedGeneration: 1, replicas: 1, updatedReplicas: 1, availableReplicas: 1, readyReplicas: 1 },
  }
}

// --------------------------------------------------------------------------------------------------------- look

export interface LookOptions {
  readonly declared?: Partial<LinkerdSettings>
  readonly flow?: LinkerdFlow
  readonly variant?: 'step' | 'undo' | 'nudge'
  readonly patience?: PatienceSettings
  readonly concurrency?: number
  /** What stands between the look and the cluster. */
  readonly through?: (cluster: Cluster) => Cluster
}

export async function look(plan: Plan, mesh: Mesh, place: string, options: LookOptions = {}): Promise<Observation> {
  const { phase, step } = placeOf(plan, place)
  const planned = plannedAt(plan, site, phase, step, options.variant ?? 'step')
  if (planned === null) throw new Error(`not planned: ${place}`)
  return await linkerd.observe({
    cluster: (options.through ?? (cluster => cluster))(meshCluster(mesh)),
    plan,
    site,
    place: planned,
    declared: { system: 'linkerd', linkerd: { ...settingsOf(options.flow ?? 'trust-roots'), ...options.declared } },
    now,
    concurrency: options.concurrency ?? 4,
    onProgress: () => {},
    ...(options.patience === undefined ? {} : { patience: options.patience }),
  })
}

/** One gate of a step over what was seen. */
export function gateOver(
  plan: Plan,
  seen: Observation,
  place: string,
  id: string,
  variant: 'step' | 'undo' | 'nudge' = 'step',
): GateResult {
  const at = placeOf(plan, place)
  const gate = gatesFor(plan, at.phase, at.step, variant).find(each => each.id === id)
  if (gate === undefined) throw new Error(`no gate ${id} at ${place}`)
  const evidence: Evidence = {
    apiVersion: 'reanchor.dev/v1alpha1',
    kind: 'Evidence',
    rotation: 'mesh-2026',
    site,
    ...at,
    treeDigest: plannedAt(plan, site, at.phase, at.step, variant)?.tree.digest ?? '',
    cluster: { uid: 'u' },
    from: '2026-11-22T06:00:00Z',
    to: '2026-11-22T06:00:00Z',
    observation: '',
    agreesWith: null,
    delivery: { kind: 'flux' } as Evidence['delivery'],
    ...seen,
  }
  return gate.judge(evidence, { plan, now, attestations: [] })
}
