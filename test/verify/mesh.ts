import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import {
  type Cluster,
  ClusterError,
  type KubernetesObject,
  type ListOptions,
  type ResourceType,
} from '../../src/cluster/cluster.ts'
import { canaryName, valuesAnnotation } from '../../src/names.ts'
import { createIssuing, createLeaf, createRoot } from '../../src/pki/authority.ts'
import { type Certificate, certificateFacts, readCertificate } from '../../src/pki/certificate.ts'
import type { Variant } from '../../src/plan/steps.ts'
import type {
  CertificateRole,
  DeliveryChoice,
  Evidence,
  Plan,
  PlannedPhase,
  PlannedStep,
  PlannedTree,
  TrustState,
} from '../../src/rotation.ts'
import { restartToken } from '../../src/systems/istio/phases.ts'
import type { IstioSettings } from '../../src/systems/istio/settings.ts'
import { type GatherOptions, gatherEvidence } from '../../src/verify/gather.ts'
import { bundleBytes, plannedAt } from '../../src/verify/planned.ts'
import { sha256 } from '../../src/verify/values.ts'

export const now = new Date('2026-11-22T12:00:00Z')
const rotation = 'mesh-2026'
export const site = 'eu-1'
const day = 86_400_000

interface Signer {
  readonly certificate: Certificate
  readonly key: KeyObject
}

export interface Authorities {
  readonly old: Signer
  readonly fresh: Signer
  readonly issuing: Signer
  /** A CA that no plan knows. */
  readonly foreign: Signer
  /** Leaf chains as the agent holds them: leaf and what cert-chain.pem holds. PEM. */
  readonly leaf: Readonly<Record<'old' | 'new' | 'foreign', string>>
}

let made: Promise<Authorities> | null = null

/** One set of certificates for a whole test file: making them is the slow part. */
export function authorities(): Promise<Authorities> {
  made ??= makeAuthorities()
  return made
}

async function makeAuthorities(): Promise<Authorities> {
  const dated = { notBefore: new Date(now.getTime() - day), notAfter: new Date(now.getTime() + 3650 * day) }
  const key = (): KeyObject => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
  const root = async (subject: string, serial: string): Promise<Signer> => {
    const own = key()
    return { key: own, certificate: await createRoot({ ...dated, subject, key: own, serial }) }
  }
  // All of one name, as Istio's Makefile makes them: nothing may go by subject.
  const old = await root('O=Istio,CN=Root CA', '01')
  const fresh = await root('O=Istio,CN=Root CA', '02')
  const foreign = await root('O=Istio,CN=Root CA', '03')
  const issuingKey = key()
  const issuing: Signer = {
    key: issuingKey,
    certificate: await createIssuing({
      ...dated,
      subject: 'O=Istio,CN=Intermediate CA,L=eu-1',
      key: issuingKey,
      issuer: fresh,
      serial: '04',
    }),
  }
  const leaf = async (issuer: Signer, above: readonly Certificate[]): Promise<string> => {
    const made = await createLeaf({
      notBefore: new Date(now.getTime() - day / 4),
      notAfter: new Date(now.getTime() + day / 2),
      serial: '05',
      key: key(),
      issuer,
      uris: ['spiffe://cluster.local/ns/shop/sa/cart'],
    })
    return [made, ...above].map(certificate => certificate.pem).join('')
  }
  return {
    old,
    fresh,
    issuing,
    foreign,
    leaf: {
      old: await leaf(old, [old.certificate]),
      new: await leaf(issuing, [issuing.certificate, fresh.certificate]),
      foreign: await leaf(foreign, [foreign.certificate]),
    },
  }
}

// ----------------------------------------------------------------------------------------------- plan

export const istio: IstioSettings = {
  install: 'sail',
  namespace: 'istio-system',
  trustDomain: 'cluster.local',
  controlPlane: { [site]: { file: 'istio/istio.yaml', name: 'default', path: 'istio' } },
  ambient: false,
  leafHours: 24,
}

export const delivery: DeliveryChoice = {
  kind: 'flux',
  namespace: 'flux-system',
  name: 'trust',
  file: null,
  source: { namespace: 'flux-system', name: 'flux-system' },
  decryptionSecret: 'sops-age',
}

const canary = 'a value of no worth'

export async function planOf(): Promise<Plan> {
  const { old, fresh, issuing } = await authorities()
  const settings = { ISTIO_MULTIROOT_MESH: 'true', PROXY_CONFIG_XDS_AGENT: 'true' }
  const [a, b, i] = [old.certificate.sha256, fresh.certificate.sha256, issuing.certificate.sha256]
  const own: TrustState = { bundle: [a], issuer: a, chain: [a], source: 'own', settings: {}, restarts: {} }
  const flagged = { ...own, settings }
  const reloaded = { ...flagged, restarts: { workloads: 'w1' } }
  const both: TrustState = { ...reloaded, bundle: [a, b], source: 'plugged' }
  const bothRead = { ...both, restarts: { workloads: 'w1', istiod: restartToken(both) } }
  const issue: TrustState = { ...bothRead, bundle: [a, b, b], issuer: i, chain: [i, b] }
  const issueRead = { ...issue, restarts: { workloads: 'w1', istiod: restartToken(issue) } }
  const only: TrustState = { ...issueRead, bundle: [b] }
  const onlyRead = { ...only, restarts: { workloads: 'w1', istiod: restartToken(only) } }
  const nudged = { ...issueRead, bundle: [a, b, b, b] }
  const back = { ...bothRead, bundle: [a, b, b, b] }
  const phases: readonly PlannedPhase[] = [
    phase(0, 'adopt', [step(1, 'adopt', own)]),
    phase(1, 'enable-multiroot', [
      step(1, 'data', flagged, { undo: own }),
      step(2, 'restart', reloaded, { undo: own }),
    ]),
    phase(2, 'trust-both', [step(1, 'data', both), step(2, 'restart', bothRead)]),
    phase(3, 'issue-new', [
      step(1, 'data', issue, { undo: back }),
      step(2, 'restart', issueRead, { undo: { ...back, restarts: issueRead.restarts }, nudge: nudged }),
    ]),
    phase(4, 'trust-new', [step(1, 'data', only), step(2, 'restart', onlyRead)]),
    { number: 5, name: 'close', title: 'close', steps: [{ number: 1, name: 'close', what: 'closes', sites: {} }] },
  ]
  const facts = (signer: Signer, role: CertificateRole, file: string) => ({
    ...certificateFacts(signer.certificate),
    role,
    sites: [],
    file,
  })
  return {
    apiVersion: 'reanchor.dev/v1alpha1',
    kind: 'TrustPlan',
    metadata: { name: rotation },
    createdAt: '2026-11-20T00:00:00Z',
    system: 'istio',
    strategy: 'graceful',
    base: 'main',
    inputs: { declaration: sha256('declaration'), material: sha256('material'), next: '0'.repeat(64) },
    certificates: [
      facts(old, 'old-root', 'certificates/old-root.pem'),
      facts(fresh, 'new-root', 'certificates/new-root.pem'),
      facts(issuing, 'new-issuing', 'certificates/new-issuing-eu-1.pem'),
    ],
    sites: [{ name: site, path: 'trust/eu-1' }],
    batches: [[site]],
    phases,
    wiring: [],
    canaries: { [site]: sha256(canary) },
    gates: { hold: 600_000, fresh: 3_600_000, settle: 30_000, attest: [] },
    leafHours: 24,
    parties: ['sidecar', 'gateway'],
    formerDigests: {},
  }
}

function phase(number: number, name: string, steps: readonly PlannedStep[]): PlannedPhase {
  return { number, name, title: name, steps }
}

function step(
  number: number,
  name: string,
  state: TrustState,
  variants: { readonly undo?: TrustState; readonly nudge?: TrustState } = {},
): PlannedStep {
  const tree = (kind: string, declared: TrustState): PlannedTree => ({
    digest: sha256(`${kind} ${JSON.stringify(declared)}`),
    state: declared,
  })
  const undo = variants.undo === undefined ? null : tree(`undo ${number}`, variants.undo)
  const nudge = variants.nudge === undefined ? null : tree(`nudge ${number}`, variants.nudge)
  return { number, name, what: name, sites: { [site]: { ...tree('step', state), undo, nudge } } }
}

// ---------------------------------------------------------------------------------------------- cluster

export interface MeshPodState {
  readonly object: KubernetesObject
  /** What each port and path answers; a missing one refuses. An Error is thrown. */
  http: Record<string, string | Error>
  chain: readonly Buffer[] | Error
  /** DER of the names of the CAs whose certificates it takes. @default null */
  authorities?: readonly Buffer[]
}

/** A mesh as the API would show it: plain objects that a test may bend before it looks. */
export interface Mesh {
  readonly uid: string
  now: Date
  objects: Map<string, KubernetesObject[]>
  pods: Map<string, MeshPodState>
  /** By the words that a request asks with: a failure that it meets. */
  failures: Map<string, ClusterError>
  /** Every request in the words of RBAC: `verb group/resource namespace name`, with `*` where it asks for all. */
  readonly asked: Set<string>
  applied: string
}

export function meshCluster(mesh: Mesh): Cluster {
  function fail(asked: string): void {
    const failure = mesh.failures.get(asked)
    if (failure !== undefined) throw failure
  }
  function kept(type: ResourceType): readonly KubernetesObject[] {
    if (type.plural === 'pods') return [...mesh.pods.values()].map(pod => pod.object)
    return mesh.objects.get(type.plural) ?? []
  }
  function find(type: ResourceType, namespace: string | null, name: string): KubernetesObject | null {
    return (
      kept(type).find(({ metadata }) => metadata.name === name && (metadata.namespace ?? null) === namespace) ?? null
    )
  }
  function podState(pod: { readonly namespace: string; readonly name: string }, asked: string): MeshPodState {
    const state = mesh.pods.get(`${pod.namespace}/${pod.name}`)
    if (state === undefined) throw new ClusterError('unreachable', asked, 'no such pod')
    return state
  }
  return {
    async identity() {
      mesh.asked.add('get /namespaces * kube-system')
      fail('identity')
      return { uid: mesh.uid, now: mesh.now.toISOString() }
    },
    async get(type, namespace, name) {
      mesh.asked.add(`get ${type.group}/${type.plural} ${namespace ?? '*'} ${name}`)
      fail(`get ${type.plural} ${name}`)
      return find(type, namespace, name)
    },
    async metadata(type, namespace, name) {
      mesh.asked.add(`get ${type.group}/${type.plural} ${namespace ?? '*'} ${name}`)
      fail(`get ${type.plural} ${name}`)
      const found = find(type, namespace, name)
      return found === null ? null : { metadata: found.metadata }
    },
    async *list(type: ResourceType, options: ListOptions = {}) {
      const name = /^metadata\.name=(.+)$/.exec(options.fieldSelector ?? '')?.[1]
      mesh.asked.add(`list ${type.group}/${type.plural} ${options.namespace ?? '*'} ${name ?? '*'}`)
      const app = /^app=(.+)$/.exec(options.labelSelector ?? '')?.[1]
      const found = kept(type).filter(
        ({ metadata }) =>
          (options.namespace === undefined || metadata.namespace === options.namespace) &&
          (name === undefined || metadata.name === name) &&
          (app === undefined || metadata.labels?.app === app),
      )
      const half = Math.ceil(found.length / 2)
      if (half > 0) yield found.slice(0, half)
      fail(`list ${type.plural}`)
      if (found.length > half) yield found.slice(half)
    },
    async httpGet(pod, port, path) {
      for (const verb of ['get', 'create']) mesh.asked.add(`${verb} /pods/portforward ${pod.namespace} ${pod.name}`)
      const asked = `GET ${pod.namespace}/${pod.name}:${port}${path}`
      const answer = podState(pod, asked).http[`${port}${path.split('?')[0] ?? ''}`]
      if (answer instanceof Error) throw answer
      if (answer === undefined) throw new ClusterError('unreachable', asked, 'connection refused')
      return answer
    },
    async servedTls(pod, port) {
      for (const verb of ['get', 'create']) mesh.asked.add(`${verb} /pods/portforward ${pod.namespace} ${pod.name}`)
      const { chain, authorities = null } = podState(pod, `TLS ${pod.namespace}/${pod.name}:${port}`)
      if (chain instanceof Error) throw chain
      return { chain, authorities }
    },
    async close() {},
  }
}

export interface PodShape {
  readonly namespace?: string
  readonly owner?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
  readonly env?: Readonly<Record<string, string>>
  readonly container?: string
  readonly native?: boolean
  readonly phase?: string
  readonly state?: unknown
  readonly spec?: Readonly<Record<string, unknown>>
}

const longAgo = '2026-11-22T06:00:00Z'

export function podObject(name: string, shape: PodShape = {}): KubernetesObject {
  const { namespace = 'shop', owner = name.replace(/-[^-]+$/, ''), container = 'istio-proxy', native = false } = shape
  const proxy = { name: container, env: Object.entries(shape.env ?? {}).map(([key, value]) => ({ name: key, value })) }
  const status = { name: container, state: shape.state ?? { running: { startedAt: longAgo } } }
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace,
      uid: `uid-${namespace}-${name}`,
      creationTimestamp: longAgo,
      labels: { 'pod-template-hash': '6d4cf56db6', ...shape.labels },
      annotations: { ...shape.annotations },
      ownerReferences: [{ kind: 'ReplicaSet', name: `${owner}-6d4cf56db6`, controller: true }],
    },
    spec: {
      containers: native ? [{ name: 'app' }] : [{ name: 'app' }, proxy],
      ...(native ? { initContainers: [{ name: 'istio-init' }, { ...proxy, restartPolicy: 'Always' }] } : {}),
      ...shape.spec,
    },
    status: {
      phase: shape.phase ?? 'Running',
      startTime: longAgo,
      [native ? 'initContainerStatuses' : 'containerStatuses']: [status],
    },
  }
}

/** DER of the Subjects, each certificate once, as istiod that started with this bundle names them. */
export function namesOf(plan: Plan, bundle: readonly string[]): readonly Buffer[] {
  const roots = plan.certificates.filter(({ sha256 }) => bundle.includes(sha256))
  return roots.map(({ pem }) => readCertificate(pem).parts.subject.der)
}

export function secretsDump(bundles: readonly string[], chains: readonly string[], updated = longAgo): string {
  const entry = (name: string, secret: object): object => ({
    name,
    version_info: '1',
    last_updated: updated,
    secret: { '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret', name, ...secret },
  })
  const bytes = (pem: string): object => ({ inline_bytes: Buffer.from(pem).toString('base64') })
  return JSON.stringify({
    configs: [
      {
        '@type': 'type.googleapis.com/envoy.admin.v3.SecretsConfigDump',
        dynamic_active_secrets: [
          ...chains.map(chain =>
            entry('default', {
              tls_certificate: { certificate_chain: bytes(chain), private_key: bytes('[redacted]') },
            }),
          ),
          ...bundles.map(bundle => entry('ROOTCA', { validation_context: { trusted_ca: bytes(bundle) } })),
        ],
      },
    ],
  })
}

export function syncz(pods: readonly string[], subscribed: boolean): string {
  return JSON.stringify(
    pods.map(name => ({
      cluster_id: 'Kubernetes',
      proxy: name.split('/').reverse().join('.'),
      resources: {
        'type.googleapis.com/envoy.config.cluster.v3.Cluster': { sent: 'n', acked: 'n' },
        ...(subscribed ? { 'type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig': { sent: 'n', acked: 'n' } } : {}),
      },
    })),
  )
}

const written = (manager: string, fields: object = {}, time = longAgo) => ({
  manager,
  operation: 'Apply',
  time,
  fieldsV1: fields,
})

/** Three sidecars, a gateway and two replicas of istiod, all in the state that a step declares. */
export async function meshAt(
  plan: Plan,
  phaseNumber: number,
  stepNumber: number,
  variant: Variant = 'step',
): Promise<Mesh> {
  const place = plannedAt(plan, site, phaseNumber, stepNumber, variant)
  if (place === null) throw new Error('not planned')
  const { leaf, issuing } = await authorities()
  const { state, digest } = place.tree
  const roots = [...new Set(state.bundle)]
    .map(sha => plan.certificates.find(one => one.sha256 === sha)?.pem ?? '')
    .join('')
  const chain = state.issuer === issuing.certificate.sha256 ? leaf.new : leaf.old
  const flagged = state.settings.PROXY_CONFIG_XDS_AGENT === 'true'
  const token = state.restarts.istiod
  const workloadToken = state.restarts.workloads
  const istiodToken = token === undefined ? {} : { 'reanchor.dev/trust': token }
  const annotations = workloadToken === undefined ? {} : { 'reanchor.dev/trust': workloadToken }
  const env = flagged ? { PROXY_CONFIG_XDS_AGENT: 'true' } : {}
  const names = ['shop/cart-1', 'shop/cart-2', 'shop/front-1', 'edge/ingress-1']
  const pods = new Map<string, MeshPodState>()
  for (const name of names) {
    const [namespace = '', pod = ''] = name.split('/')
    const gateway = namespace === 'edge' ? { 'inject.istio.io/templates': 'gateway' } : {}
    const object = podObject(pod, {
      namespace,
      env,
      annotations: { ...annotations, ...gateway },
      native: pod === 'front-1',
    })
    pods.set(name, {
      object,
      http: { '15000/config_dump': secretsDump([roots], [chain]) },
      chain: new Error('no listener'),
    })
  }
  const served = chain.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? []
  const der = served.map(pem => Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64'))
  for (const replica of ['istiod-a', 'istiod-b']) {
    const object = podObject(replica, {
      namespace: 'istio-system',
      owner: 'istiod',
      container: 'discovery',
      labels: { app: 'istiod' },
      annotations: istiodToken,
      env: flagged ? { ISTIO_MULTIROOT_MESH: 'true' } : {},
    })
    // Half of the proxies hang on each replica.
    const mine = replica === 'istiod-a' ? names.slice(0, 2) : names.slice(2)
    const http = { '15014/debug/syncz': syncz(mine, flagged) }
    pods.set(`istio-system/${replica}`, { object, http, chain: der, authorities: namesOf(plan, state.bundle) })
  }
  const bundle = bundleBytes(plan, state)
  const wiredMetadata = { annotations: { 'reanchor.dev/rotation': rotation }, generation: 3 }
  const rolled = { observedGeneration: 3, replicas: 2, updatedReplicas: 2, availableReplicas: 2, readyReplicas: 2 }
  const objects = new Map<string, KubernetesObject[]>()
  objects.set('kustomizations', [
    {
      metadata: { name: 'trust', namespace: 'flux-system', generation: 2 },
      spec: { path: './trust/eu-1', interval: '10m', sourceRef: { kind: 'GitRepository', name: 'flux-system' } },
      status: {
        observedGeneration: 2,
        lastAppliedRevision: `main@sha1:${'c'.repeat(40)}`,
        lastAttemptedRevision: `main@sha1:${'c'.repeat(40)}`,
        conditions: [{ type: 'Ready', status: 'True', message: 'Applied revision' }],
        inventory: {
          entries: [
            { id: 'istio-system_reanchor-canary__Secret', v: 'v1' },
            ...(state.source === 'plugged' ? [{ id: 'istio-system_cacerts__Secret', v: 'v1' }] : []),
          ],
        },
      },
    },
  ])
  objects.set('gitrepositories', [
    {
      metadata: { name: 'flux-system', namespace: 'flux-system' },
      spec: { interval: '1m' },
      status: { artifact: { revision: `main@sha1:${'c'.repeat(40)}`, lastUpdateTime: '2026-11-22T11:00:30Z' } },
    },
  ])
  const keys = { 'f:data': { 'f:ca-cert.pem': {}, 'f:ca-key.pem': {}, 'f:cert-chain.pem': {}, 'f:root-cert.pem': {} } }
  objects.set('secrets', [
    {
      metadata: {
        name: 'reanchor-canary',
        namespace: 'istio-system',
        managedFields: [written('kustomize-controller', { 'f:data': { 'f:canary': {} } })],
      },
      data: { canary: Buffer.from(canary).toString('base64') },
    },
    ...(state.source === 'plugged'
      ? [
          {
            metadata: {
              name: 'cacerts',
              namespace: 'istio-system',
              managedFields: [written('kustomize-controller', keys)],
            },
          },
        ]
      : []),
  ])
  const proxyMetadata = flagged ? { PROXY_CONFIG_XDS_AGENT: 'true' } : {}
  objects.set('istios', [
    {
      metadata: { name: 'default', ...wiredMetadata },
      spec: {
        version: 'v1.29.0',
        values: {
          pilot: { env: flagged ? { ISTIO_MULTIROOT_MESH: 'true' } : {}, podAnnotations: istiodToken },
          meshConfig: { defaultConfig: { proxyMetadata } },
        },
      },
      status: {
        observedGeneration: 3,
        conditions: [
          { type: 'Reconciled', status: 'True' },
          { type: 'Ready', status: 'True' },
        ],
      },
    },
  ])
  objects.set('deployments', [
    {
      metadata: { name: 'istiod', namespace: 'istio-system', labels: { app: 'istiod' }, generation: 3 },
      spec: {
        replicas: 2,
        template: {
          metadata: { annotations: istiodToken },
          spec: {
            containers: [{ name: 'discovery', env: flagged ? [{ name: 'ISTIO_MULTIROOT_MESH', value: 'true' }] : [] }],
          },
        },
      },
      status: rolled,
    },
    ...['cart', 'front'].map(name => ({
      metadata: { name, namespace: 'shop', ...wiredMetadata },
      spec: { replicas: 2, template: { metadata: { annotations } } },
      status: rolled,
    })),
  ])
  objects.set('configmaps', [
    {
      metadata: { name: 'istio', namespace: 'istio-system' },
      data: { mesh: JSON.stringify({ defaultConfig: { proxyMetadata } }) },
    },
    ...['shop', 'edge', 'istio-system'].map(namespace => ({
      metadata: { name: 'istio-ca-root-cert', namespace },
      data: { 'root-cert.pem': bundle },
    })),
  ])
  const webhook = (name: string): KubernetesObject => ({
    metadata: { name },
    webhooks: [
      {
        name: 'rev.namespace.sidecar-injector.istio.io',
        clientConfig: {
          service: { name: 'istiod', namespace: 'istio-system' },
          caBundle: Buffer.from(bundle).toString('base64'),
        },
      },
    ],
  })
  objects.set('mutatingwebhookconfigurations', [
    webhook('istio-sidecar-injector'),
    { metadata: { name: 'someone-elses' }, webhooks: [] },
  ])
  objects.set('validatingwebhookconfigurations', [webhook('istio-validator-istio-system')])
  return { uid: 'cluster-eu-1', now, objects, pods, failures: new Map(), asked: new Set(), applied: digest }
}

export interface LookOptions extends Partial<GatherOptions> {
  readonly phase: number
  readonly step: number
}

/** One look at a mesh. */
export async function look(plan: Plan, mesh: Mesh, options: LookOptions): Promise<Evidence> {
  return await gatherEvidence({
    cluster: meshCluster(mesh),
    plan,
    site,
    delivery,
    declared: { system: 'istio', istio },
    repository: { treeDigestAt: async () => mesh.applied, isDescendant: async () => true },
    previous: null,
    now: mesh.now,
    ...options,
  })
}

/** Two looks a minute apart, as every command does before it goes on. */
export async function lookTwice(plan: Plan, mesh: Mesh, options: LookOptions): Promise<Evidence> {
  const first = await look(plan, mesh, options)
  mesh.now = new Date(mesh.now.getTime() + 60_000)
  return await look(plan, mesh, { ...options, previous: first })
}

/** As if a controller had unsealed both Secrets: they are its, and a SealedSecret of the same name stands for each. */
export function sealedBy(manager: string, mesh: Mesh, status: Readonly<Record<string, unknown>> = {}): void {
  const secrets = mesh.objects.get('secrets') ?? []
  mesh.objects.set(
    'secrets',
    secrets.map(secret => ({
      ...secret,
      metadata: {
        ...secret.metadata,
        managedFields: (secret.metadata.managedFields ?? []).map(entry => ({ ...entry, manager })),
      },
    })),
  )
  mesh.objects.set(
    'sealedsecrets',
    secrets.map(({ metadata: { name } }) => ({
      metadata: { name, namespace: 'istio-system', generation: 2, managedFields: [written('argocd-controller')] },
      status: { observedGeneration: 2, conditions: [{ type: 'Synced', status: 'True' }], ...status },
    })),
  )
}

const external = (name: string) => `externalsecrets.external-secrets.io/${name}`

/** As if External Secrets had synced both Secrets, with the digests of the planned values on each. `status` and `marks` are of both. */
export function syncedFromStore(
  mesh: Mesh,
  status: Readonly<Record<string, unknown>> = {},
  marks: Readonly<Record<string, string>> = {},
): void {
  const expected = 'ca-key.pem=aa certificate=bb'
  const secrets = mesh.objects.get('secrets') ?? []
  mesh.objects.set(
    'secrets',
    secrets.map(each => ({
      ...each,
      metadata: {
        ...each.metadata,
        annotations: { ...each.metadata.annotations, [valuesAnnotation]: marks.arrived ?? expected },
        managedFields: (each.metadata.managedFields ?? []).map(entry => ({
          ...entry,
          manager: external(each.metadata.name),
        })),
      },
    })),
  )
  mesh.objects.set(
    'externalsecrets',
    ['cacerts', canaryName].map(name => ({
      apiVersion: 'external-secrets.io/v1',
      kind: 'ExternalSecret',
      metadata: {
        name,
        namespace: 'istio-system',
        uid: `uid-es-${name}`,
        generation: 3,
        annotations: { [valuesAnnotation]: expected },
      },
      status: {
        syncedResourceVersion: '3-abc',
        conditions: [{ type: 'Ready', status: 'True', reason: 'SecretSynced', message: 'secret synced' }],
        ...status,
      },
    })),
  )
}
