import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Cluster } from '../../src/cluster/cluster.ts'
import { openKubernetesCluster } from '../../src/cluster/kubernetes.ts'
import type { PlainSecret } from '../../src/custody/custody.ts'
import { type SealingScope, takeOverCommand } from '../../src/custody/sealed-secrets.ts'
import type { ObjectEvidence } from '../../src/rotation.ts'
import type { Looking } from '../../src/systems/istio/observe.ts'
import { observeObjects } from '../../src/systems/istio/observe-objects.ts'
import { output } from './rig/components.ts'
import { type ControlPlane, startControlPlane } from './rig/control-plane.ts'
import { createNetwork, type Network } from './rig/network.ts'
import type { Manifest } from './rig/objects.ts'
import { type SealedSecrets, startSealedSecrets } from './rig/sealed-secrets.ts'
import { until } from './rig/server.ts'

let network: Network
let plane: ControlPlane
let sealedSecrets: SealedSecrets
let cluster: Cluster

beforeAll(async () => {
  network = await createNetwork()
  plane = await startControlPlane({ name: 'eu-1', network, fakeNodes: 1 })
  sealedSecrets = await startSealedSecrets(plane)
  cluster = await openKubernetesCluster({ kind: 'kubeconfig', file: plane.kubeconfig, context: null })
})

afterAll(async () => {
  await cluster?.close()
  await plane?.stop()
  await network?.close()
})

let namespaces = 0

async function newNamespace(): Promise<string> {
  const name = `custody-${namespaces++}`
  await plane.objects.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  return name
}

function privateKey(): string {
  const { privateKey: key } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return key.export({ type: 'pkcs8', format: 'pem' }).toString()
}

function cacerts(namespace: string, data: Readonly<Record<string, string>> = {}): PlainSecret {
  return {
    name: 'cacerts',
    namespace,
    type: 'Opaque',
    labels: { 'app.kubernetes.io/managed-by': 'reanchor' },
    annotations: { 'argocd.argoproj.io/sync-options': 'Prune=false' },
    data: { 'ca-cert.pem': 'certificate\n', 'root-cert.pem': 'old\n', 'ca-key.pem': privateKey(), ...data },
    privateKeys: ['ca-key.pem'],
  }
}

const sealed = (secret: PlainSecret, scope?: SealingScope): Promise<string> => sealedSecrets.seal(secret, scope)

const manager = 'argocd-controller'
const apply = (yaml: string): Promise<void> => plane.objects.applyYaml(yaml, manager)

const secretAt = (namespace: string, name = 'cacerts') => ({ apiVersion: 'v1', kind: 'Secret', namespace, name })
const sealedAt = (namespace: string, name = 'cacerts') => ({
  apiVersion: 'bitnami.com/v1alpha1',
  kind: 'SealedSecret',
  namespace,
  name,
})

function valuesOf(secret: Manifest | null): Record<string, string> {
  const data = (secret?.data ?? {}) as Readonly<Record<string, string>>
  return Object.fromEntries(Object.entries(data).map(([key, value]) => [key, Buffer.from(value, 'base64').toString()]))
}

async function arrived(secret: PlainSecret): Promise<Manifest> {
  return await until(`Secret ${secret.namespace}/${secret.name} holds what was sealed`, async () => {
    const found = await plane.objects.get(secretAt(secret.namespace, secret.name))
    return JSON.stringify(valuesOf(found), sorted) === JSON.stringify(secret.data, sorted) ? found : null
  })
}

function sorted(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  return Object.fromEntries(Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1)))
}

/** What the verifier says of the SealedSecrets and Secrets in a namespace where a canary is unsealed too. */
async function observe(namespace: string): Promise<ReadonlyMap<string, ObjectEvidence>> {
  const objects: ObjectEvidence[] = []
  const looking = {
    options: {
      cluster,
      site: 'eu-1',
      istio: { namespace, install: 'helm', controlPlane: {} },
      place: { tree: { state: { source: 'plugged' } } },
    },
    exceptions: [],
    objects,
    changedAt: () => {},
    incomplete: () => {},
  } as unknown as Looking
  await observeObjects(looking)
  return new Map(objects.map(object => [object.id, object]))
}

function canary(namespace: string): PlainSecret {
  const name = 'reanchor-canary'
  return { ...cacerts(namespace), name, data: { canary: randomBytes(16).toString('hex') }, privateKeys: ['canary'] }
}

async function status(namespace: string, name = 'cacerts'): Promise<Status> {
  const found = await plane.objects.get(sealedAt(namespace, name))
  return { generation: found?.metadata.generation as number, ...((found?.status ?? {}) as object) } as Status
}

interface Status {
  readonly generation: number
  readonly observedGeneration?: number
  readonly conditions?: readonly { readonly type: string; readonly status: string; readonly message?: string }[]
}

/** What the controller says once it has taken up the newest SealedSecret. */
async function taken(namespace: string, name = 'cacerts'): Promise<{ status: string; message?: string }> {
  return await until('the controller has taken up the SealedSecret', async () => {
    const { generation, observedGeneration, conditions } = await status(namespace, name)
    return generation === observedGeneration ? conditions?.find(({ type }) => type === 'Synced') : null
  })
}

describe('a Secret that reanchor sealed', () => {
  it.each(['strict', 'namespace-wide', 'cluster-wide'] as const)('arrives byte for byte, sealed %s', async scope => {
    const namespace = await newNamespace()
    const awkward = {
      'root-cert.pem': 'old\nnew\r\n\ttabbed {{ .Values.x }} {{"{{"}} {{- end }} }} $HOME %s\n\n',
      empty: '',
      umlauts: 'Zürich · 東京 · \u{1f511}',
    }
    const secret = cacerts(namespace, awkward)
    await apply(await sealed(secret, scope))
    const found = await arrived(secret)
    expect(found.type).toBe('Opaque')
    expect(found.metadata.labels).toEqual(secret.labels)
    expect(found.metadata.ownerReferences).toBeUndefined()
    expect(found.metadata.annotations).toMatchObject({ 'sealedsecrets.bitnami.com/managed': 'true' })
    expect(found.metadata.annotations).not.toHaveProperty(['argocd.argoproj.io/sync-options'])
  })

  it('is made by a field manager that the verifier takes for the controller', async () => {
    const namespace = await newNamespace()
    const secret = cacerts(namespace)
    const probe = canary(namespace)
    await apply(await sealed(secret))
    await apply(await sealed(probe))
    await arrived(secret)
    await arrived(probe)
    await taken(namespace)
    await taken(namespace, probe.name)
    const seen = await observe(namespace)
    expect(seen.get(`Secret/${namespace}/reanchor-canary`)?.managers).toEqual({ canary: ['controller'] })
    expect(seen.get(`Secret/${namespace}/cacerts`)).toMatchObject({
      keys: ['ca-cert.pem', 'ca-key.pem', 'root-cert.pem'],
      managers: { 'ca-cert.pem': ['controller'], 'ca-key.pem': ['controller'], 'root-cert.pem': ['controller'] },
    })
    for (const name of ['cacerts', 'reanchor-canary']) {
      const facts = seen.get(`SealedSecret/${namespace}/${name}`)?.facts
      expect(facts).toMatchObject({ observed: 'true', synced: 'True' })
    }
  })

  it('follows its SealedSecret: values change, keys come and go, and the verifier knows the generation', async () => {
    const namespace = await newNamespace()
    const before = cacerts(namespace, { 'cert-chain.pem': 'old chain\n' })
    await apply(await sealed(before))
    const first = await arrived(before)
    await taken(namespace)

    const { 'cert-chain.pem': _dropped, ...rest } = before.data
    const after = { ...before, data: { ...rest, 'root-cert.pem': 'old\nnew\n', 'extra.pem': 'more\n' } }
    const manifests = [await sealed(after), await sealed(canary(namespace))]
    sealedSecrets.server.pause()
    for (const manifest of manifests) await apply(manifest)
    const behind = await status(namespace)
    expect(behind).toMatchObject({ generation: 2, observedGeneration: 1 })
    expect(behind.conditions).toMatchObject([{ type: 'Synced', status: 'True' }])

    sealedSecrets.server.resume()
    const second = await arrived(after)
    expect(await taken(namespace)).toMatchObject({ status: 'True' })
    await taken(namespace, 'reanchor-canary')
    expect(second.metadata.uid).toBe(first.metadata.uid)
    const seen = await observe(namespace)
    expect(seen.get(`Secret/${namespace}/cacerts`)?.keys).toEqual(Object.keys(after.data).sort())
    expect(seen.get(`SealedSecret/${namespace}/cacerts`)?.facts).toMatchObject({ observed: 'true', synced: 'True' })
  })

  it('outlives its SealedSecret', async () => {
    const namespace = await newNamespace()
    const secret = cacerts(namespace)
    await apply(await sealed(secret))
    await arrived(secret)
    await plane.objects.delete(sealedAt(namespace))
    await sleep(2000)
    expect(valuesOf(await plane.objects.get(secretAt(namespace)))).toEqual(secret.data)
  })

  it('comes back when someone deletes it', async () => {
    const namespace = await newNamespace()
    const secret = cacerts(namespace)
    await apply(await sealed(secret))
    const first = await arrived(secret)
    await plane.objects.delete(secretAt(namespace))
    const second = await until('the Secret is there again', async () => {
      const found = await plane.objects.get(secretAt(namespace))
      return found?.metadata.uid === first.metadata.uid ? null : found
    })
    expect(valuesOf(second)).toEqual(secret.data)
  })

  it('is put back when someone edits it only by the next change of its SealedSecret', async () => {
    const namespace = await newNamespace()
    const secret = cacerts(namespace)
    await apply(await sealed(secret))
    await arrived(secret)
    await taken(namespace)
    await plane.objects.merge(secretAt(namespace), { stringData: { 'root-cert.pem': 'edited\n', 'mine.pem': 'x' } })
    await sleep(2000)
    expect(valuesOf(await plane.objects.get(secretAt(namespace)))['root-cert.pem']).toBe('edited\n')
    const next = { ...secret, data: { ...secret.data, 'ca-cert.pem': 'another certificate\n' } }
    await apply(await sealed(next))
    await arrived(next)
  })

  it('opens with an older key after the controller has made a new one', async () => {
    const namespace = await newNamespace()
    const old = await sealedSecrets.certificate()
    const secret = cacerts(namespace)
    const probe = canary(namespace)
    const yaml = await sealed(secret)
    const now = await sealedSecrets.renewKey()
    expect(now).not.toBe(old)
    await apply(yaml)
    await apply(await sealed(probe))
    await arrived(secret)
    await arrived(probe)
  })
})

describe('a SealedSecret that cannot be unsealed', () => {
  it('is told apart from one that is not taken up yet', async () => {
    const namespace = await newNamespace()
    const probe = canary(namespace)
    await apply(await sealed(probe))
    await arrived(probe)
    // Sealed for another namespace, as after a copy of a folder from site to site.
    const moved = (await sealed(cacerts('elsewhere'))).replaceAll('namespace: elsewhere', `namespace: ${namespace}`)
    await apply(moved)
    expect(await taken(namespace)).toMatchObject({ status: 'False' })
    const seen = await observe(namespace)
    const facts = seen.get(`SealedSecret/${namespace}/cacerts`)?.facts
    expect(facts).toMatchObject({ observed: 'true', synced: 'False' })
    expect(facts?.message).toContain('no key could decrypt secret')
    expect(seen.get(`Secret/${namespace}/cacerts`)?.present).toBe(false)
  })

  it('leaves the Secret of the step before in place', async () => {
    const namespace = await newNamespace()
    const secret = cacerts(namespace)
    await apply(await sealed(secret))
    await arrived(secret)
    const damaged = (await sealed(cacerts(namespace))).replace(/ca-key\.pem: .{20}/, 'ca-key.pem: AgAAAAAAAAAAAAAAAAAA')
    await apply(damaged)
    expect(await taken(namespace)).toMatchObject({ status: 'False' })
    expect(valuesOf(await plane.objects.get(secretAt(namespace)))).toEqual(secret.data)
  })

  it('keeps the condition of the generation before while the controller stands still', async () => {
    const namespace = await newNamespace()
    const secret = cacerts(namespace)
    const probe = canary(namespace)
    await apply(await sealed(secret))
    await apply(await sealed(probe))
    await arrived(secret)
    await arrived(probe)
    await taken(namespace)
    await taken(namespace, probe.name)
    const next = await sealed({ ...secret, data: { ...secret.data, 'root-cert.pem': 'old\nnew\n' } })
    sealedSecrets.server.pause()
    try {
      await apply(next)
      const facts = (await observe(namespace)).get(`SealedSecret/${namespace}/cacerts`)?.facts
      expect(facts).toMatchObject({ observed: 'false', synced: 'True' })
    } finally {
      sealedSecrets.server.resume()
    }
    await taken(namespace)
  })
})

describe('a Secret that exists already', () => {
  async function existing(namespace: string): Promise<void> {
    await plane.objects.apply(
      {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name: 'cacerts', namespace },
        stringData: { 'ca-cert.pem': 'old\n', 'mine.pem': 'x' },
      },
      'kubectl-client-side-apply',
    )
  }

  /** The product's own command, run as a user would. */
  async function takeOver(namespace: string): Promise<void> {
    const [program, ...args] = takeOverCommand({ namespace, name: 'cacerts' }).split(' ')
    await output(program ?? '', args, { env: { ...process.env, KUBECONFIG: plane.kubeconfig } })
  }

  it('is not touched, and the SealedSecret says why', async () => {
    const namespace = await newNamespace()
    await existing(namespace)
    await apply(await sealed(cacerts(namespace)))
    const { status: synced, message } = await taken(namespace)
    expect(synced).toBe('False')
    expect(message).toContain('already exists and is not managed by SealedSecret')
    expect(valuesOf(await plane.objects.get(secretAt(namespace)))).toEqual({ 'ca-cert.pem': 'old\n', 'mine.pem': 'x' })
  })

  it('is taken over whole where it was annotated before, keys of others included', async () => {
    const namespace = await newNamespace()
    await existing(namespace)
    await takeOver(namespace)
    const secret = cacerts(namespace)
    const probe = canary(namespace)
    await apply(await sealed(secret))
    await apply(await sealed(probe))
    await arrived(secret)
    await arrived(probe)
    await taken(namespace)
    const seen = await observe(namespace)
    expect(seen.get(`Secret/${namespace}/cacerts`)).toMatchObject({
      keys: ['ca-cert.pem', 'ca-key.pem', 'root-cert.pem'],
      managers: { 'ca-key.pem': ['controller'] },
    })
  })

  it('is taken over after a refusal only when the controller starts again, or its SealedSecret changes', async () => {
    const namespace = await newNamespace()
    await existing(namespace)
    const secret = cacerts(namespace)
    await apply(await sealed(secret))
    await until('the controller has given up', async () => {
      const said = await readFile(sealedSecrets.server.log, 'utf8')
      return said.split('\n').some(line => line.includes('giving up') && line.includes(`${namespace}/cacerts`))
    })
    await takeOver(namespace)
    // It watches Secrets for their deletion alone, so nothing tells it that it may by now.
    await sleep(3000)
    expect(await taken(namespace)).toMatchObject({ status: 'False' })
    expect(valuesOf(await plane.objects.get(secretAt(namespace)))).toHaveProperty(['mine.pem'])
    // Nor does an annotation of the SealedSecret.
    await plane.objects.merge(sealedAt(namespace), { metadata: { annotations: { again: 'please' } } })
    await sleep(1000)
    expect(valuesOf(await plane.objects.get(secretAt(namespace)))).toHaveProperty(['mine.pem'])
    await sealedSecrets.restart()
    await arrived(secret)
    const again = { ...secret, data: { ...secret.data, 'root-cert.pem': 'old\nnew\n' } }
    await apply(await sealed(again))
    await arrived(again)
    expect(await taken(namespace)).toMatchObject({ status: 'True' })
  })
})
