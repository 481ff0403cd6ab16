import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Cluster, KubernetesObject } from '../../../src/cluster/cluster.ts'
import type { Plan, SystemPart } from '../../../src/rotation.ts'
import { bundleText } from '../../../src/systems/kyma/material.ts'
import { generateKymaCa, type KymaCa } from '../../../src/systems/kyma/next-ca.ts'
import { observeKyma } from '../../../src/systems/kyma/observe.ts'
import { gatewayRestart, kymaPhases } from '../../../src/systems/kyma/phases.ts'
import { type KymaProfile, kymaProfiles, type ProfileName } from '../../../src/systems/kyma/profile.ts'
import type { KymaRuntime } from '../../../src/systems/kyma/settings.ts'
import { plannedAt } from '../../../src/verify/planned.ts'
import { crash, lies, lying, runs } from '../../fuzz/damage.ts'
import { type FakeCluster, fakeCluster } from './cluster.ts'
import { kymaCa, now, planOf, quickKeys, random } from './material.ts'

const at = (minutes: number): string => new Date(now.getTime() + minutes * 60_000).toISOString().replace('.000', '')
const secretWritten = at(-60)

let old: KymaCa
let fresh: KymaCa
/** What the setup job makes where a Secret is missing: the subject and the serial number of the one before. */
let again: KymaCa

beforeAll(async () => {
  old = await kymaCa()
  again = await kymaCa()
  fresh = await generateKymaCa({ subject: 'CN=Kyma 2', validityDays: 365 }, { now, random, keys: quickKeys })
}, 120_000)

function planned(profile: KymaProfile): Plan {
  const drafts = kymaPhases('graceful', {
    profile,
    current: { issuer: old.certificate.sha256, bundle: [old.certificate.sha256], restarts: {} },
    next: fresh.certificate.sha256,
  })
  const certificates = [
    { certificate: old.certificate, role: 'old-root' },
    { certificate: fresh.certificate, role: 'new-root' },
  ] as const
  return { ...planOf(drafts, certificates, 'graceful'), createdAt: at(-600) }
}

interface Scene {
  readonly profile?: ProfileName
  readonly phase?: number
  readonly step?: number
  readonly central?: Partial<FakeCluster>
  readonly runtimes?: Readonly<Record<string, Cluster>>
  /** What stands between the look and the central cluster. */
  readonly through?: (cluster: Cluster) => Cluster
}

async function look(scene: Scene) {
  const { profile = '1.11', phase = 2, step = 1, central = {}, runtimes = {}, through = cluster => cluster } = scene
  const names = kymaProfiles[profile]
  const plan = planned(names)
  const place = plannedAt(plan, 'central', phase, step)
  if (place === null) throw new Error('not planned')
  const { signer, gateway } = names
  const objects = {
    [`secrets/${signer.namespace}/${signer.secret}`]: secretOf(signer.namespace, signer.secret, ['ca.crt', 'ca.key']),
    [`secrets/${gateway.namespace}/${gateway.secret}`]: secretOf(gateway.namespace, gateway.secret, [gateway.key]),
    [`deployments/istio-system/${gateway.deployment}`]: deployment,
    ...central.objects,
  }
  const declared = {
    system: 'kyma',
    kyma: {
      ...names,
      profile,
      applications: true,
      compromised: null,
      leafDays: 92,
      runtimes: Object.keys(runtimes).map(
        (name): KymaRuntime => ({
          name,
          site: null,
          cluster: { kind: 'context', context: name },
          kind: 'central',
          connection: name,
        }),
      ),
    },
  } as SystemPart
  const seen = await observeKyma({
    cluster: through(fakeCluster({ now: at(0), ...central, objects })),
    plan,
    site: 'central',
    place,
    declared,
    now,
    concurrency: 4,
    onProgress: () => {},
    openCluster: async name => {
      const found = runtimes[name]
      if (found === undefined) throw new Error(`no context ${name}`)
      return found
    },
  })
  const of = (consumer: string) => seen.exceptions.filter(each => each.consumer === consumer)
  return { ...seen, of }
}

function secretOf(namespace: string, name: string, keys: readonly string[], time = secretWritten): KubernetesObject {
  const fields = { 'f:data': Object.fromEntries(keys.map(key => [`f:${key}`, {}])) }
  return {
    metadata: {
      namespace,
      name,
      managedFields: [{ manager: 'kustomize-controller', operation: 'Apply', time, fieldsV1: fields }],
    },
    data: {},
  }
}

const deployment: KubernetesObject = {
  metadata: { namespace: 'istio-system', name: 'istio-ingressgateway', generation: 1 },
  spec: { replicas: 3, selector: { matchLabels: { app: 'istio-ingressgateway' } } },
  status: { observedGeneration: 1, replicas: 3, updatedReplicas: 3, availableReplicas: 3 },
}

/** `gateway-1`, …: pods that are ready, with the token of their restart where one is given. */
function pods(count: number, token: string | null = null): Record<string, KubernetesObject> {
  const names = Array.from({ length: count }, (_, index) => `gateway-${index + 1}`)
  return Object.fromEntries(
    names.map(name => [
      `pods/istio-system/${name}`,
      {
        metadata: {
          namespace: 'istio-system',
          name,
          creationTimestamp: at(-50),
          ...(token === null ? {} : { annotations: { 'reanchor.dev/trust': token } }),
        },
        status: { conditions: [{ type: 'Ready', status: 'True', lastTransitionTime: at(-49) }] },
      },
    ]),
  )
}

/** The gateway's Deployment as a restart with this token has left it. */
function rolledBy(token: string): Record<string, KubernetesObject> {
  const template = { metadata: { annotations: { 'reanchor.dev/trust': token } } }
  return {
    'deployments/istio-system/istio-ingressgateway': {
      ...deployment,
      spec: { ...(deployment.spec as object), template },
    },
  }
}

/** What Envoy answers for credential kyma-gateway-certs. */
function pushed(...bundles: readonly (readonly KymaCa[])[]): string {
  const name = 'kubernetes://kyma-gateway-certs-cacert'
  const bytes = (cas: readonly KymaCa[]) =>
    Buffer.from(bundleText(cas.map(({ certificate }) => certificate))).toString('base64')
  const entry = (cas: readonly KymaCa[]) => ({
    name,
    secret: { name, validation_context: { trusted_ca: { inline_bytes: bytes(cas) } } },
  })
  return JSON.stringify({ configs: [{ dynamic_active_secrets: bundles.map(entry) }] })
}

describe('gateway pods with a credential name', () => {
  it('are each asked: the one of three that lags is named, and nothing is concluded from the others (F2, F14, F21)', async () => {
    const both = pushed([old, fresh])
    const answers = {
      'gateway-1 /config_dump': both,
      'gateway-2 /config_dump': pushed([old]),
      'gateway-3 /config_dump': both,
    }
    const { of, groups } = await look({ phase: 1, central: { objects: pods(3), answers } })
    expect(groups.map(({ count }) => count).sort()).toEqual([1, 2])
    expect(of('gateway')).toMatchObject([{ name: 'istio-system/gateway-2', reason: 'stale-roots', verdict: 'pending' }])
  })

  it('count once for each different answer: one listener that lags is not covered by another that does not', async () => {
    const answers = { 'gateway-1 /config_dump': pushed([old, fresh], [old]) }
    const { of } = await look({ phase: 1, central: { objects: pods(1), answers } })
    expect(of('gateway')).toMatchObject([{ name: 'istio-system/gateway-1 (answer 2)', reason: 'stale-roots' }])
  })

  it('are unknown where Envoy cannot be asked, or answers in another form', async () => {
    const silent = await look({ phase: 1, central: { objects: pods(1), failures: { forward: 'timeout' } } })
    expect(silent.of('gateway')).toMatchObject([{ reason: 'unreadable', verdict: 'unknown' }])
    const answers = { 'gateway-1 /config_dump': '<html>' }
    const other = await look({ phase: 1, central: { objects: pods(1), answers } })
    expect(other.of('gateway')).toMatchObject([{ reason: 'unreadable', verdict: 'unknown' }])
  })
})

describe('gateway pods that read a file', () => {
  const none = '{"configs": []}'
  const certs = (...cas: readonly KymaCa[]) =>
    JSON.stringify({
      certificates: cas.map(({ certificate }) => ({
        ca_cert: [
          {
            path: '/etc/istio/kyma-gateway-ca-certs/ca.crt',
            serial_number: certificate.serial,
            valid_from: certificate.notBefore,
            expiration_time: certificate.notAfter,
          },
        ],
      })),
    })
  const token = (): string =>
    plannedAt(planned(kymaProfiles.runbook), 'central', 3, 2)?.tree.state.restarts[gatewayRestart] ?? ''
  const scene = (answers: Readonly<Record<string, string>>, more: Partial<FakeCluster> = {}): Scene => ({
    profile: 'runbook',
    phase: 3,
    step: 2,
    central: { objects: pods(1, token()), answers: { 'gateway-1 /config_dump': none, ...answers }, ...more },
  })

  it('conform by the token of their restart with what Envoy says of the file', async () => {
    const { of, groups } = await look(scene({ 'gateway-1 /certs': certs(fresh) }))
    expect(of('gateway')).toEqual([])
    expect(groups[0]?.trusts).toEqual([fresh.certificate.sha256])
  })

  it('are stale where they were made while their node had the old file, restarted or not (F19)', async () => {
    const { of } = await look(scene({ 'gateway-1 /certs': certs(old) }))
    expect(of('gateway').map(({ reason }) => reason)).toContain('stale-file')
    expect(of('gateway').some(({ verdict }) => verdict === 'violated')).toBe(true)
  })

  it('are stale too while a context with the old file lives beside one with the new', async () => {
    const { of } = await look(scene({ 'gateway-1 /certs': certs(fresh, old) }))
    expect(of('gateway').map(({ reason }) => reason)).toContain('stale-file')
  })

  it('are told apart from pods with a CA that the setup job made anew under the same subject and serial number (F10)', async () => {
    const { of } = await look({ ...scene({ 'gateway-1 /certs': certs(again) }), phase: 1, step: 2 })
    expect(again.certificate.serial).toBe(old.certificate.serial)
    // Its dates are the old one's here; with other dates it is of no plan.
    expect(of('gateway').map(({ reason }) => reason)).not.toContain('foreign-root')
    const later = certs(again).replace(/"valid_from":"[^"]+"/, `"valid_from":"${at(-5)}"`)
    const seen = await look({ ...scene({ 'gateway-1 /certs': later }), phase: 1, step: 2 })
    expect(seen.of('gateway')).toContainEqual(expect.objectContaining({ reason: 'foreign-root', verdict: 'violated' }))
  })

  it('of an earlier rotation’s restart are as those of none: a new rotation that waited for its own token would wait for good (F5, F22)', async () => {
    const adopt = { ...scene({}), phase: 0, step: 1 }
    const earlier = { ...pods(1, 'of-the-rotation-before'), ...rolledBy('of-the-rotation-before') }
    const answers = { 'gateway-1 /config_dump': none, 'gateway-1 /certs': certs(old) }
    const { of, groups, objects } = await look({ ...adopt, central: { objects: earlier, answers } })
    expect(of('gateway')).toEqual([])
    expect(groups[0]?.trusts).toEqual([old.certificate.sha256])
    expect(objects.find(({ id }) => id.startsWith('Deployment/'))?.facts.token).toBeUndefined()
    const mine = await look(scene({ 'gateway-1 /certs': certs(fresh) }, { objects: earlier }))
    expect(mine.of('gateway').map(({ reason }) => reason)).toContain('not-restarted')
  })

  it('go by their token alone where no port-forward is allowed, and are unknown where the answer is of another form', async () => {
    const alone = await look(scene({}, { failures: { forward: 'forbidden' } }))
    expect(alone.of('gateway')).toEqual([])
    expect(alone.groups[0]?.facts.loaded).toBe('not-asked')
    const odd = await look(scene({ 'gateway-1 /certs': '<html>' }))
    expect(odd.of('gateway')).toMatchObject([{ reason: 'unreadable', verdict: 'unknown' }])
  })
})

describe('runtimes', () => {
  const issued = at(-30)
  const status = (part: Readonly<Record<string, unknown>> = {}) => ({
    synchronizationStatus: { lastSync: at(-2), lastSuccess: at(-2) },
    certificateStatus: { notBefore: issued, notAfter: at(60 * 24 * 92) },
    ...part,
  })
  const runtime = (name: string, given: unknown = status(), more: Partial<FakeCluster> = {}): Cluster =>
    fakeCluster({
      uid: name,
      now: at(0),
      ...more,
      objects: { [`centralconnections//${name}`]: { metadata: { name }, spec: {}, status: given } },
    })
  const seen = async (shop: Cluster) => (await look({ runtimes: { shop } })).of('runtime')

  it('have renewed where certificate and synchronisation came after the connector had the new CA', async () => {
    expect(await seen(runtime('shop'))).toEqual([])
  })

  it('are unknown where their cluster cannot be reached, and the others are read all the same', async () => {
    const shop = runtime('shop', status(), { failures: { identity: 'unreachable' } })
    const { of, groups } = await look({ runtimes: { shop, mobile: runtime('mobile') } })
    expect(of('runtime')).toMatchObject([{ name: 'shop/shop', reason: 'unreadable', verdict: 'unknown' }])
    expect(groups.filter(({ consumer }) => consumer === 'runtime').map(({ owner }) => owner)).toEqual([
      'mobile/CentralConnection/mobile',
    ])
  })

  it('are unknown where two contexts lead to one cluster, or one to the central cluster itself (F27)', async () => {
    const both = await look({
      runtimes: { shop: runtime('shop'), mobile: runtime('mobile', status(), { uid: 'shop' }) },
    })
    expect(both.of('runtime')).toMatchObject([{ name: 'shop', reason: 'same-cluster', verdict: 'unknown' }])
    expect(await seen(runtime('shop', status(), { uid: 'central' }))).toMatchObject([
      { name: 'shop', reason: 'same-cluster', verdict: 'unknown' },
    ])
  })

  it.each([
    ['whose clock is another', undefined, { now: at(3) }, 'their times cannot be compared'],
    [
      'with a certificate that begins ahead',
      { certificateStatus: { notBefore: at(20), notAfter: at(900) } },
      {},
      'lies ahead',
    ],
    ['that was told from the future', { synchronizationStatus: { lastSuccess: at(20) } }, {}, 'lies ahead'],
  ])('are unknown %s (F27)', async (_what, part, more, words) => {
    const found = await seen(runtime('shop', status(part), more))
    expect(found).toContainEqual(expect.objectContaining({ reason: 'doubtful', verdict: 'unknown' }))
    expect(found.find(({ reason }) => reason === 'doubtful')?.detail).toContain(words)
  })

  it('wait where what they say is old: a controller that stands still says what once was (F23)', async () => {
    const found = await seen(runtime('shop', status({ synchronizationStatus: { lastSuccess: at(-20) } })))
    expect(found).toMatchObject([{ reason: 'not-connected', verdict: 'pending' }])
    expect(found[0]?.detail).toContain('stands still')
  })

  it('wait where they have not met the gateway as it is since its Secret changed', async () => {
    const found = await seen(runtime('shop', status({ synchronizationStatus: { lastSuccess: at(-61) } })))
    expect(found.map(({ reason }) => reason)).toEqual(['not-connected', 'old-leaf'])
  })

  it('are unknown where the status tells nothing, or half', async () => {
    expect(await seen(runtime('shop', {}))).toContainEqual(
      expect.objectContaining({ reason: 'old-leaf', verdict: 'unknown' }),
    )
    const half = { synchronizationStatus: { lastSuccess: at(-2) } }
    expect(await seen(runtime('shop', half))).toMatchObject([{ reason: 'old-leaf', verdict: 'unknown' }])
  })

  it('have not renewed by a date that the connector’s clock may have been ahead by, where no signature is seen', async () => {
    const soon = new Date(Date.parse(secretWritten) + 10_000).toISOString()
    const found = await seen(runtime('shop', status({ certificateStatus: { notBefore: soon, notAfter: at(900) } })))
    expect(found).toMatchObject([{ reason: 'old-leaf', verdict: 'pending' }])
  })
})

describe('overrides of Kyma’s installer', () => {
  const labels = { installer: 'overrides' }
  const id = 'secrets/kyma-installer/application-connector-certificate-overrides'
  const keys = ['global.applicationConnectorCa', 'global.applicationConnectorCaKey']
  const usual = (time: string) => secretOf('kyma-installer', 'application-connector-certificate-overrides', keys, time)
  const installer = { 'namespaces//kyma-installer': { metadata: { name: 'kyma-installer' } } }

  it('violate where a ConfigMap of theirs holds a CA', async () => {
    const configMap = {
      metadata: { namespace: 'kyma-installer', name: 'x', labels },
      data: { 'global.applicationConnectorCa': 'LS0t' },
    }
    const { of } = await look({ central: { objects: { 'configmaps/kyma-installer/x': configMap } } })
    expect(of('object').filter(({ reason }) => reason === 'override')).toMatchObject([{ verdict: 'violated' }])
  })

  it('are known from the plan where their Secret has not changed since, and unknown once it has: its values are not read', async () => {
    // A role that names this one Secret, as roles/kyma.yaml does.
    const failures = { 'list secrets': 'forbidden' } as const
    const before = await look({ central: { objects: { [id]: usual(at(-700)) }, failures } })
    expect(before.of('object')).toEqual([])
    const after = await look({ central: { objects: { [id]: usual(at(-10)) }, failures } })
    expect(after.of('object')).toMatchObject([{ reason: 'override', verdict: 'unknown' }])
    const taken = secretOf('kyma-installer', 'application-connector-certificate-overrides', [], at(-10))
    expect((await look({ central: { objects: { [id]: taken }, failures } })).of('object')).toEqual([])
  })

  it('are seen in Secrets of any name that appear or change in mid-rotation, where the role lets them be listed (F16)', async () => {
    const other = (time: string, names: readonly string[] = keys): Readonly<Record<string, KubernetesObject>> => {
      const { metadata } = secretOf('kyma-installer', 'own-ca', names, time)
      return { 'secrets/kyma-installer/own-ca': { metadata: { ...metadata, labels } } }
    }
    const seen = async (objects: Readonly<Record<string, KubernetesObject>>, more: Partial<FakeCluster> = {}) =>
      (await look({ central: { objects, ...more } })).of('object')
    expect(await seen(other(at(-700)))).toEqual([])
    expect(await seen(other(at(-10), ['gateways.istio']))).toEqual([])
    const found = await seen(other(at(-10)))
    expect(found).toMatchObject([{ name: 'Secret/kyma-installer/own-ca', reason: 'override', verdict: 'unknown' }])
    expect(await seen(other(at(-10)), { failures: { 'list secrets': 'unreachable' } })).toMatchObject([
      { verdict: 'unknown' },
    ])
  })

  it('are none where there is no namespace of the installer (Kyma 2), and unknown where it is there and not to be read', async () => {
    const failures = { 'list configmaps': 'forbidden', [id]: 'forbidden' } as const
    const without = await look({ central: { objects: {}, failures } })
    expect([without.of('object'), without.complete]).toEqual([[], true])
    const closed = await look({ central: { objects: installer, failures } })
    expect(closed.complete).toBe(false)
    expect(closed.of('object')).toMatchObject([{ verdict: 'unknown' }])
  })
})

describe('Sealed Secrets', () => {
  it('are looked at where the canary came out of one: the connector’s newest may not be unsealed yet', async () => {
    const namespace = 'kyma-integration'
    const canary: KubernetesObject = {
      metadata: {
        namespace,
        name: 'reanchor-canary',
        managedFields: [
          { manager: 'controller', operation: 'Update', time: at(-90), fieldsV1: { 'f:data': { 'f:canary': {} } } },
        ],
      },
      data: { canary: 'AAAA' },
    }
    const sealed = (name: string, observedGeneration: number): KubernetesObject => ({
      metadata: { namespace, name, generation: 2 },
      status: { observedGeneration, conditions: [{ type: 'Synced', status: 'True' }] },
    })
    const objects = {
      [`secrets/${namespace}/reanchor-canary`]: canary,
      [`sealedsecrets/${namespace}/reanchor-canary`]: sealed('reanchor-canary', 2),
      [`sealedsecrets/${namespace}/connector-service-app-ca`]: sealed('connector-service-app-ca', 1),
    }
    const seen = await look({ central: { objects } })
    const observed = seen.objects.filter(each => each.id.startsWith('SealedSecret/')).map(({ facts }) => facts.observed)
    expect(observed).toEqual(['false', 'true'])
  })
})

describe('a damaged answer of the central cluster', () => {
  it('is never a crash, and never hides the one gateway pod that lags (F21, F27)', async () => {
    const both = pushed([old, fresh])
    const answers = {
      'gateway-1 /config_dump': both,
      'gateway-2 /config_dump': pushed([old]),
      'gateway-3 /config_dump': both,
    }
    await fc.assert(
      fc.asyncProperty(lies, async lie => {
        const through = (cluster: Cluster) => lying(cluster, lie)
        const seen = await look({ phase: 1, central: { objects: pods(3), answers }, through })
        // Where no pod was seen at all the gate is unknown.
        const looked = seen.groups.some(({ consumer }) => consumer === 'gateway')
        if (looked) expect([...seen.of('gateway'), ...seen.of('object')]).not.toEqual([])
        for (const { detail } of seen.exceptions) expect(detail).not.toMatch(crash)
      }),
      { numRuns: runs },
    )
  })

  it('of a runtime is never a crash, and never a certificate that was renewed (F27)', async () => {
    const stale = { notBefore: at(-600), notAfter: at(60) }
    const shop = fakeCluster({
      uid: 'shop',
      now: at(0),
      objects: {
        'centralconnections//shop': {
          metadata: { name: 'shop' },
          spec: {},
          status: {
            synchronizationStatus: { lastSync: at(-2), lastSuccess: at(-2) },
            certificateStatus: stale,
          },
        },
      },
    })
    await fc.assert(
      fc.asyncProperty(lies, async lie => {
        const seen = await look({ runtimes: { shop: lying(shop, { ...lie, answer: lie.answer % 3 }) } })
        expect(seen.of('runtime')).not.toEqual([])
        for (const { detail } of seen.exceptions) expect(detail).not.toMatch(crash)
      }),
      { numRuns: runs },
    )
  })
})
