import { beforeAll, describe, expect, it } from 'vitest'
import { ClusterError, type KubernetesObject } from '../../../src/cluster/cluster.ts'
import type { Plan } from '../../../src/rotation.ts'
import { gateOver, look, type Material, type Mesh, material, meshAt, planOf, webhookObject } from './mesh.ts'

const place = 'adopt/adopt'

/** A Secret of which only the keys and their owners are ever read. */
function secret(namespace: string, name: string, keys: readonly string[], manager: string): KubernetesObject {
  const fields = Object.fromEntries(keys.map(key => [`f:${key}`, {}]))
  const time = '2026-11-22T03:00:00Z'
  return {
    metadata: {
      name,
      namespace,
      managedFields: [{ manager, operation: 'Apply', time, fieldsV1: { 'f:data': fields } }],
    },
    data: Object.fromEntries(keys.map(key => [key, 'bmV2ZXIgcmVhZA=='])),
  }
}

describe('Secret linkerd-identity-issuer', () => {
  let plan: Plan
  beforeAll(async () => {
    plan = await planOf()
  }, 60_000)

  async function judged(secrets: readonly KubernetesObject[]) {
    const mesh = await meshAt(plan, place)
    mesh.objects.set('secrets', [...secrets])
    return gateOver(plan, await look(plan, mesh, place), place, 'linkerd/issuer-secret')
  }
  const own = (keys: readonly string[], manager = 'kustomize-controller') =>
    judged([secret('linkerd', 'linkerd-identity-issuer', keys, manager)])

  it('holds with the keys of its form and no other, written by who applies the folder (trap 8)', async () => {
    expect((await own(['crt.pem', 'key.pem'])).verdict).toBe('holds')
    expect(await own(['crt.pem'])).toMatchObject({ verdict: 'pending', because: [expect.stringContaining('key.pem')] })
    expect(await own(['crt.pem', 'key.pem', 'ca.crt'])).toMatchObject({
      verdict: 'violated',
      because: ['Secret/linkerd/linkerd-identity-issuer: key ca.crt is not of the form linkerd.io/tls'],
    })
  })

  it('is violated where cert-manager, or a person, writes it as well, with who that is (F16)', async () => {
    const gate = await own(['crt.pem', 'key.pem'], 'cert-manager-certificates-issuing')
    expect([gate.verdict, gate.because[0], gate.hint]).toEqual([
      'violated',
      'Secret/linkerd/linkerd-identity-issuer: key crt.pem is also owned by cert-manager-certificates-issuing',
      expect.stringContaining('cert-manager'),
    ])
  })

  it('is waited for in adopt while who installed it alone owns it, and violated once the deliverer owns it with another', async () => {
    const judgedBy = async (...managers: readonly string[]) => {
      const mesh = await meshAt(plan, 'adopt/adopt')
      const [first = '', ...rest] = managers
      const object = secret('linkerd', 'linkerd-identity-issuer', ['crt.pem', 'key.pem'], first)
      const more = rest.flatMap(
        manager =>
          secret('linkerd', 'linkerd-identity-issuer', ['crt.pem', 'key.pem'], manager).metadata.managedFields ?? [],
      )
      const managedFields = [...(object.metadata.managedFields ?? []), ...more]
      mesh.objects.set('secrets', [{ ...object, metadata: { ...object.metadata, managedFields } }])
      return gateOver(plan, await look(plan, mesh, 'adopt/adopt'), 'adopt/adopt', 'linkerd/issuer-secret')
    }
    expect(await judgedBy('kubectl-create')).toMatchObject({
      verdict: 'pending',
      because: [expect.stringContaining('is owned by kubectl-create, as before')],
      hint: 'the deliverer brings it: see above what that waits for',
    })
    expect((await judgedBy('kubectl-create', 'kustomize-controller')).verdict).toBe('violated')
    expect((await judgedBy('external-operator')).verdict).toBe('violated')
    expect((await judgedBy('kustomize-controller')).verdict).toBe('holds')
  })

  it('that is not there cannot be started with', async () => {
    expect((await judged([])).verdict).toBe('violated')
  })
})

describe('a control plane that a HelmRelease installs', () => {
  const settings = { install: 'helmRelease', valuesNamespace: 'flux-system', issuerFrom: 'values' }
  const declared = {
    install: 'helmRelease' as const,
    controlPlane: {
      'eu-1': { path: 'linkerd/eu-1', file: 'linkerd/eu-1/release.yaml', name: 'linkerd-control-plane' },
    },
  }
  let plan: Plan
  beforeAll(async () => {
    plan = await planOf('trust-roots', 'graceful', settings)
  }, 60_000)

  const keys = ['crt.pem', 'key.pem']
  const secrets = {
    delivered: secret('flux-system', 'reanchor-linkerd-issuer', keys, 'kustomize-controller'),
    made: secret('linkerd', 'linkerd-identity-issuer', keys, 'helm-controller'),
  }

  function release(valuesFrom: readonly string[], ready = 'True', message = ''): KubernetesObject {
    return {
      metadata: { name: 'linkerd-control-plane', namespace: 'flux-system', generation: 3 },
      spec: { valuesFrom: valuesFrom.map(name => ({ kind: 'ConfigMap', name })) },
      status: { observedGeneration: 3, conditions: [{ type: 'Ready', status: ready, message }] },
    }
  }

  async function installed(
    change: (mesh: Mesh) => void = () => {},
  ): Promise<(id: string) => ReturnType<typeof gateOver>> {
    const mesh = await meshAt(plan, place)
    // Nothing patches what the chart makes.
    const deployments = (mesh.objects.get('deployments') ?? []).map(object =>
      object.metadata.namespace === 'linkerd'
        ? { ...object, metadata: { ...object.metadata, annotations: {} } }
        : object,
    )
    mesh.objects.set('deployments', deployments)
    mesh.objects.set('helmreleases', [release(['reanchor-linkerd-values'])])
    mesh.objects.set('secrets', Object.values(secrets))
    change(mesh)
    const seen = await look(plan, mesh, place, { declared })
    return id => gateOver(plan, seen, place, id)
  }

  it('is wired by its valuesFrom, and its Deployments carry no mark', async () => {
    const gate = await installed()
    for (const id of ['linkerd/wiring', 'linkerd/control-plane', 'linkerd/issuer-secret'])
      expect([id, gate(id).verdict, gate(id).because]).toEqual([id, 'holds', []])
  })

  it('is not wired where valuesFrom lacks the folder’s values', async () => {
    const gate = await installed(mesh => mesh.objects.set('helmreleases', [release(['other'])]))
    expect(gate('linkerd/wiring')).toMatchObject({
      verdict: 'pending',
      because: ['HelmRelease/flux-system/linkerd-control-plane: valuesFrom does not name reanchor-linkerd-values'],
    })
  })

  it('waits for a release that did not get through, with its own words (F23)', async () => {
    const failed = release(['reanchor-linkerd-values'], 'False', 'upgrade retries exhausted')
    const gate = await installed(mesh => mesh.objects.set('helmreleases', [failed]))
    expect(gate('linkerd/control-plane')).toMatchObject({
      verdict: 'pending',
      because: ['HelmRelease/flux-system/linkerd-control-plane is not ready: upgrade retries exhausted'],
    })
  })

  it('has two Secrets: the folder’s, and what the chart makes of it, each with an owner of its own', async () => {
    const foreign = secret('linkerd', 'linkerd-identity-issuer', keys, 'kubectl-edit')
    const gate = await installed(mesh => mesh.objects.set('secrets', [secrets.delivered, foreign]))
    expect(gate('linkerd/issuer-secret')).toMatchObject({
      verdict: 'violated',
      because: expect.arrayContaining([expect.stringContaining('owned by kubectl-edit')]),
    })
    const absent = await installed(mesh => mesh.objects.set('secrets', [secrets.made]))
    expect(absent('linkerd/issuer-secret')).toMatchObject({
      verdict: 'violated',
      because: [expect.stringContaining('Secret/flux-system/reanchor-linkerd-issuer does not exist')],
    })
  })
})

describe('events of identity (trap 15)', () => {
  it('are read as hints: the newest of each reason, of linkerd-identity alone', async () => {
    const plan = await planOf()
    const mesh = await meshAt(plan, place)
    const event = (reason: string, lastTimestamp: string, name = 'linkerd-identity') => ({
      metadata: { name: `${name}.${reason}.${lastTimestamp}`, namespace: 'linkerd' },
      reason,
      message: `${reason} of ${lastTimestamp}`,
      involvedObject: { kind: 'Deployment', name },
      lastTimestamp,
    })
    mesh.objects.set('events', [
      event('IssuerUpdated', '2026-11-22T05:00:00Z'),
      event('IssuerUpdated', '2026-11-22T04:00:00Z'),
      event('IssuerUpdateSkipped', '2026-11-22T05:30:00Z', 'somebody-else'),
      event('Scheduled', '2026-11-22T05:40:00Z'),
    ])
    const seen = await look(plan, mesh, place)
    expect(seen.objects.find(({ id }) => id === 'Events')?.facts).toEqual({
      IssuerUpdated: '2026-11-22T05:00:00Z',
      'IssuerUpdated message': 'IssuerUpdated of 2026-11-22T05:00:00Z',
    })
  })
})

describe('the injector’s webhook (F12)', () => {
  let plan: Plan
  let ca: Material
  beforeAll(async () => {
    plan = await planOf()
    ca = await material()
  }, 60_000)

  async function judged(change: (mesh: Mesh) => void = () => {}) {
    const mesh = await meshAt(plan, place)
    change(mesh)
    return gateOver(plan, await look(plan, mesh, place), place, 'linkerd/webhook')
  }
  const serving = (served: readonly Buffer[] | undefined) => (mesh: Mesh) => {
    const pod = mesh.pods.get('linkerd/linkerd-proxy-injector-1')
    if (pod === undefined) throw new Error('no injector')
    if (served === undefined) delete pod.webhook
    else pod.webhook = served
  }
  const bundle = (pem: string) => (mesh: Mesh) =>
    void mesh.objects.set('mutatingwebhookconfigurations', [webhookObject(pem)])

  it('holds where the API server accepts it, by a CA of its own', async () => {
    expect(await judged()).toMatchObject({ verdict: 'holds', because: [] })
  })

  it('is no part of the mesh’s PKI: a mesh root in caBundle is a violation', async () => {
    const gate = await judged(bundle(ca.webhook.ca.pem + ca.old.root.pem))
    expect([gate.verdict, gate.because[0]]).toEqual([
      'violated',
      expect.stringContaining('caBundle holds a CA of the mesh'),
    ])
  })

  it('that has ended, or is of another CA, stops the rotation before pods come up without a proxy (linkerd2#4808, F15)', async () => {
    expect(await judged(serving(ca.webhook.ended))).toMatchObject({
      verdict: 'violated',
      because: [expect.stringMatching(/^linkerd\/Deployment\/linkerd-proxy-injector: its certificate ended at/)],
    })
    expect(await judged(bundle(ca.foreign.root.pem))).toMatchObject({
      verdict: 'violated',
      because: [expect.stringContaining('not issued by caBundle')],
    })
  })

  it('that is absent injects nothing; one that does not answer is unknown', async () => {
    const absent = (mesh: Mesh) => void mesh.objects.set('mutatingwebhookconfigurations', [])
    expect((await judged(absent)).verdict).toBe('violated')
    expect((await judged(serving(undefined))).verdict).toBe('unknown')
    const forbidden = new ClusterError('forbidden', 'get', 'no')
    const unreadable = (mesh: Mesh) =>
      void mesh.failures.set('get mutatingwebhookconfigurations linkerd-proxy-injector-webhook-config', forbidden)
    expect((await judged(unreadable)).verdict).toBe('unknown')
  })
})
