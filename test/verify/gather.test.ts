import { describe, expect, it } from 'vitest'
import { ClusterError, credentialsRefused } from '../../src/cluster/cluster.ts'
import { parseName } from '../../src/pki/names.ts'
import type { Evidence, Plan } from '../../src/rotation.ts'
import { judge } from '../../src/verify/judge.ts'
import { observationDigest } from '../../src/verify/observation.ts'
import {
  authorities,
  look,
  lookTwice,
  type Mesh,
  meshAt,
  namesOf,
  planOf,
  podObject,
  secretsDump,
  site,
  syncz,
} from './mesh.ts'

const plan = await planOf()
const { leaf, old, fresh, foreign } = await authorities()

function reasons(evidence: Evidence): readonly string[] {
  return evidence.exceptions.map(({ consumer, name, reason, verdict }) => `${consumer} ${name} ${reason} ${verdict}`)
}

function open(evidence: Evidence, mesh: Mesh, of: Plan = plan): readonly string[] {
  return judge(of, [evidence], mesh.now)
    .gates.filter(gate => gate.verdict !== 'holds')
    .map(gate => `${gate.id} ${gate.verdict}`)
}

describe('a mesh that has reached its step', () => {
  const steps = plan.phases.flatMap(phase => phase.steps.map(step => [phase.name, phase.number, step.number] as const))

  it.each(steps)('holds every gate at %s (phase %i, step %i)', async (_name, phase, step) => {
    const mesh = await meshAt(plan, phase, step)
    const evidence = await lookTwice(plan, mesh, { phase, step })
    expect(reasons(evidence)).toEqual([])
    expect(open(evidence, mesh)).toEqual([])
    expect(judge(plan, [evidence], mesh.now).verdict).toBe('holds')
  })

  it.each(['undo', 'nudge'] as const)('holds every gate of an %s', async variant => {
    const mesh = await meshAt(plan, 3, 2, variant)
    const evidence = await lookTwice(plan, mesh, { phase: 3, step: 2, variant })
    expect(open(evidence, mesh)).toEqual([])
  })

  it.each([
    [2, 2],
    [3, 2],
    [4, 2],
  ])('does not hold phase %i step %i while the mesh stands a phase before', async (phase, step) => {
    const mesh = await meshAt(plan, phase - 1, 2)
    const evidence = await lookTwice(plan, mesh, { phase, step })
    expect(judge(plan, [evidence], mesh.now).verdict).not.toBe('holds')
  })
})

describe('consumers', () => {
  async function stragglerAt(
    phase: number,
    bend: (mesh: Mesh) => unknown,
  ): Promise<{ evidence: Evidence; mesh: Mesh }> {
    const mesh = await meshAt(plan, phase, 2)
    bend(mesh)
    return { evidence: await lookTwice(plan, mesh, { phase, step: 2 }), mesh }
  }

  it('names the one pod that still presents a leaf of the old CA, and when its leaf ends (F1)', async () => {
    const both = old.certificate.pem + fresh.certificate.pem
    const { evidence, mesh } = await stragglerAt(3, bent => {
      pod(bent, 'shop/cart-2').http = { '15000/config_dump': secretsDump([both], [leaf.old]) }
    })
    expect(reasons(evidence)).toEqual(['sidecar shop/cart-2 old-issuer pending'])
    expect(open(evidence, mesh)).toEqual(['istio/leaves-issued pending'])
    const gate = judge(plan, [evidence], mesh.now).gates.find(({ id }) => id === 'istio/leaves-issued')
    expect(gate?.counted).toEqual({ of: 4, conform: 3 })
    expect(gate?.because.join('\n')).toContain('shop/cart-2')
    expect(gate?.because.join('\n')).toContain('2026-11-23T00:00:00Z')
  })

  it('finds the one replica of istiod that kept the old CA (F21)', async () => {
    const before = await meshAt(plan, 2, 2)
    const { evidence, mesh } = await stragglerAt(3, bent => {
      pod(bent, 'istio-system/istiod-b').chain = pod(before, 'istio-system/istiod-b').chain
    })
    expect(reasons(evidence)).toEqual(['istiod istio-system/istiod-b old-issuer pending'])
    expect(open(evidence, mesh)).toEqual(['istio/istiod-serves pending'])
  })

  it('finds the one replica of istiod that started with the files of before, though every proxy is right (F3, F21)', async () => {
    const { evidence, mesh } = await stragglerAt(2, bent => {
      pod(bent, 'istio-system/istiod-b').authorities = namesOf(plan, [old.certificate.sha256])
    })
    expect(reasons(evidence)).toEqual(['istiod istio-system/istiod-b stale-start pending'])
    expect(open(evidence, mesh)).toEqual(['istio/istiod-roots pending'])
    const gate = judge(plan, [evidence], mesh.now).gates.find(({ id }) => id === 'istio/istiod-roots')
    expect(gate?.counted).toEqual({ of: 2, conform: 1 })
    expect(gate?.because.join('\n')).toContain(
      'istio-system/istiod-b: started with the roots "O=Istio,CN=Root CA", expected "O=Istio,CN=Root CA", "O=Istio,CN=Root CA"',
    )
    expect(gate?.hint).toContain('`kubectl --namespace istio-system delete pod istiod-b`')
  })

  it('takes names of CAs that the plan does not know for those of other trust domains', async () => {
    const { evidence } = await stragglerAt(2, bent => {
      const replica = pod(bent, 'istio-system/istiod-b')
      replica.authorities = [...(replica.authorities ?? []), parseName('O=federated')]
    })
    expect(reasons(evidence)).toEqual([])
  })

  it('takes a fact that somebody damaged for one that was not seen', async () => {
    const { evidence, mesh } = await stragglerAt(2, () => {})
    const groups = evidence.groups.map(group =>
      group.consumer === 'istiod' ? { ...group, facts: { ...group.facts, startedWith: '["O=Istio' } } : group,
    )
    const damaged = { ...evidence, groups }
    const judged = judge(plan, [{ ...damaged, observation: observationDigest(damaged) }], mesh.now)
    expect(judged.gates.find(({ id }) => id === 'istio/istiod-roots')?.verdict).toBe('unknown')
  })

  it('does not take a replica for right that does not tell with which roots it started', async () => {
    const { evidence, mesh } = await stragglerAt(2, bent => {
      delete pod(bent, 'istio-system/istiod-b').authorities
    })
    expect(open(evidence, mesh)).toEqual(['istio/istiod-roots unknown'])
  })

  it('finds the one replica of istiod that was not made anew (F11)', async () => {
    const { evidence, mesh } = await stragglerAt(3, bent => {
      replace(bent, 'istio-system/istiod-b', {
        namespace: 'istio-system',
        owner: 'istiod',
        container: 'discovery',
        labels: { app: 'istiod' },
        annotations: { 'reanchor.dev/trust': 'of the step before' },
        env: { ISTIO_MULTIROOT_MESH: 'true' },
      })
    })
    expect(reasons(evidence)).toEqual(['istiod istio-system/istiod-b not-restarted pending'])
    expect(open(evidence, mesh)).toEqual(['istio/istiod-serves pending'])
  })

  it('is told by roots and leaf, not by the restart annotation (F3)', async () => {
    const { evidence, mesh } = await stragglerAt(2, bent => {
      pod(bent, 'shop/cart-1').http = { '15000/config_dump': secretsDump([old.certificate.pem], [leaf.old]) }
    })
    expect(open(evidence, mesh)).toEqual(['istio/roots-trusted pending'])
  })

  it('takes a pod in CrashLoopBackOff as not complete, by name (F14)', async () => {
    const { evidence, mesh } = await stragglerAt(2, bent => {
      const state = { waiting: { reason: 'CrashLoopBackOff' } }
      replace(bent, 'shop/cart-1', { env: { PROXY_CONFIG_XDS_AGENT: 'true' }, state })
    })
    expect(reasons(evidence)).toEqual(['sidecar shop/cart-1 not-ready pending'])
    expect(judge(plan, [evidence], mesh.now).verdict).toBe('pending')
  })

  it('leaves completed Jobs and failed pods out, and reads running ones', async () => {
    const { evidence } = await stragglerAt(2, bent => {
      bent.pods.set('shop/done-1', { object: podObject('done-1', { phase: 'Succeeded' }), http: {}, chain: [] })
      bent.pods.set('shop/evicted-1', { object: podObject('evicted-1', { phase: 'Failed' }), http: {}, chain: [] })
    })
    expect(evidence.exceptions).toEqual([])
    expect(
      evidence.groups.filter(group => group.consumer === 'sidecar').reduce((sum, group) => sum + group.count, 0),
    ).toBe(3)
  })

  it('never drops a proxy that cannot be read: it is unknown (F27)', async () => {
    const { evidence, mesh } = await stragglerAt(2, bent => {
      pod(bent, 'shop/cart-1').http = {
        '15000/config_dump': new ClusterError('timeout', 'GET', 'no answer within 15 s'),
      }
    })
    expect(reasons(evidence)).toEqual(['sidecar shop/cart-1 unreadable unknown'])
    const group = evidence.groups.find(({ trusts, consumer }) => consumer === 'sidecar' && trusts === null)
    expect(group?.count).toBe(1)
    expect(judge(plan, [evidence], mesh.now).verdict).toBe('unknown')
  })

  it('reads the successor of a pod that went away meanwhile', async () => {
    const mesh = await meshAt(plan, 2, 2)
    const gone = pod(mesh, 'shop/cart-1')
    gone.http = {}
    const successor = {
      ...gone,
      object: podObject('cart-9', { env: { PROXY_CONFIG_XDS_AGENT: 'true' } }),
      http: pod(mesh, 'shop/cart-2').http,
    }
    gone.http = {
      get '15000/config_dump'(): Error {
        mesh.pods.delete('shop/cart-1')
        mesh.pods.set('shop/cart-9', successor)
        return new ClusterError('unreachable', 'GET', 'gone')
      },
    }
    const evidence = await look(plan, mesh, { phase: 2, step: 2 })
    expect(evidence.exceptions.map(({ name }) => name)).not.toContain('shop/cart-1')
    const carts = evidence.groups.filter(({ owner }) => owner === 'shop/Deployment/cart')
    expect(carts.reduce((sum, group) => sum + group.count, 0)).toBe(2)
  })

  it('holds the pods against the connections of every istiod: one in only one of them is unknown', async () => {
    const { evidence } = await stragglerAt(2, bent => {
      pod(bent, 'istio-system/istiod-a').http = { '15014/debug/syncz': syncz(['shop/cart-1', 'far/stranger-1'], true) }
    })
    expect(reasons(evidence)).toEqual([
      'sidecar far/stranger-1 unknown-proxy unknown',
      'sidecar shop/cart-2 not-connected unknown',
    ])
  })

  it('takes every entry of a name: roots are what all entries trust, and leaves must agree', async () => {
    const both = old.certificate.pem + fresh.certificate.pem
    const { evidence, mesh } = await stragglerAt(3, bent => {
      pod(bent, 'shop/cart-1').http = {
        '15000/config_dump': secretsDump([both, old.certificate.pem], [leaf.new, leaf.old]),
      }
    })
    expect(reasons(evidence)).toEqual([
      'sidecar shop/cart-1 entries-differ pending',
      'sidecar shop/cart-1 stale-roots pending',
    ])
    expect(open(evidence, mesh)).toEqual(['istio/roots-trusted pending', 'istio/leaves-issued pending'])
  })

  it('is not done with the old root while a single entry of a name still trusts it', async () => {
    const both = old.certificate.pem + fresh.certificate.pem
    const { evidence, mesh } = await stragglerAt(4, bent => {
      pod(bent, 'shop/cart-1').http = {
        '15000/config_dump': secretsDump([fresh.certificate.pem, both], [leaf.new]),
      }
    })
    expect(reasons(evidence)).toEqual(['sidecar shop/cart-1 root-entries-differ pending'])
    expect(open(evidence, mesh)).toEqual(['istio/roots-trusted pending'])
  })

  it('is not fooled by a CA of the same name (F10)', async () => {
    const { evidence, mesh } = await stragglerAt(2, bent => {
      pod(bent, 'shop/cart-1').http = {
        '15000/config_dump': secretsDump([old.certificate.pem + foreign.certificate.pem], [leaf.foreign]),
      }
    })
    expect(reasons(evidence)).toEqual([
      'sidecar shop/cart-1 foreign-issuer violated',
      'sidecar shop/cart-1 foreign-root violated',
    ])
    expect(evidence.certificates.map(({ sha256 }) => sha256)).toEqual([foreign.certificate.sha256])
    expect(judge(plan, [evidence], mesh.now).verdict).toBe('violated')
  })

  it('blocks on a machine that nobody declared, and waits for a word on one that somebody did (F20)', async () => {
    const mesh = await meshAt(plan, 2, 2)
    mesh.objects.set('workloadentries', [{ metadata: { name: 'till-1', namespace: 'shop' } }])
    const evidence = await lookTwice(plan, mesh, { phase: 2, step: 2 })
    expect(open(evidence, mesh)).toEqual(['istio/machines-declared violated'])
    const declared = { ...plan, gates: { ...plan.gates, attest: [{ name: 'shop/*', why: 'tills' }] } }
    expect(open(evidence, mesh, declared)).toEqual(['istio/attested pending'])
    const { bundleDigest, plannedAt } = await import('../../src/verify/planned.ts')
    const state = plannedAt(plan, site, 2, 2)!.tree.state
    const word = { name: 'shop/*', phase: 2, bundle: bundleDigest(plan, state) }
    expect(judge(declared, [evidence], mesh.now, { attestations: [word] }).verdict).toBe('holds')
    const other = { ...word, bundle: 'another bundle' }
    expect(judge(declared, [evidence], mesh.now, { attestations: [other] }).verdict).toBe('pending')
  })

  it('waits for the flag in every proxy before roots are widened (F31)', async () => {
    const { evidence, mesh } = await stragglerAt(1, bent => {
      replace(bent, 'shop/cart-1', { annotations: { 'reanchor.dev/trust': 'w1' } })
      pod(bent, 'istio-system/istiod-a').http = {
        '15014/debug/syncz': JSON.stringify([
          ...JSON.parse(syncz(['shop/cart-2'], true)),
          ...JSON.parse(syncz(['shop/cart-1'], false)),
        ]),
      }
    })
    expect(reasons(evidence)).toEqual([
      'sidecar shop/cart-1 not-subscribed pending',
      'sidecar shop/cart-1 setting-missing pending',
    ])
    expect(open(evidence, mesh)).toEqual(['istio/proxies-subscribed pending'])
  })

  it('compares the bytes of every istio-ca-root-cert, repeats included', async () => {
    const { evidence, mesh } = await stragglerAt(3, bent => {
      const map = bent.objects.get('configmaps')!.find(({ metadata }) => metadata.namespace === 'edge') as unknown as {
        data: Record<string, string>
      }
      map.data['root-cert.pem'] = old.certificate.pem + fresh.certificate.pem
    })
    expect(reasons(evidence)).toEqual(['configmap edge other-bytes pending'])
    expect(open(evidence, mesh)).toEqual(['istio/root-configmaps pending'])
  })

  it('names the restart of istiod where it has not taken up what was in cacerts before the rotation', async () => {
    const { evidence, mesh } = await stragglerAt(0, bent => {
      const map = bent.objects.get('configmaps')!.find(({ metadata }) => metadata.namespace === 'edge') as unknown as {
        data: Record<string, string>
      }
      map.data['root-cert.pem'] = fresh.certificate.pem
    })
    const found = judge(plan, [evidence], mesh.now).gates.find(({ id }) => id === 'istio/root-configmaps')
    expect(found?.verdict).toBe('pending')
    expect(found?.hint).toContain('kubectl --namespace istio-system rollout restart deployment istiod')
  })

  it('misses the ConfigMap of a namespace that has proxies', async () => {
    const { evidence } = await stragglerAt(2, bent => {
      bent.objects.set(
        'configmaps',
        bent.objects.get('configmaps')!.filter(({ metadata }) => metadata.namespace !== 'edge'),
      )
    })
    expect(reasons(evidence)).toEqual(['configmap edge missing pending'])
  })

  it('waits for a webhook that istiod has not patched (F12)', async () => {
    const { evidence, mesh } = await stragglerAt(4, bent => {
      const hooks = bent.objects.get('mutatingwebhookconfigurations')!
      const stale = JSON.parse(JSON.stringify(hooks[0]!)) as { webhooks: { clientConfig: { caBundle: string } }[] }
      stale.webhooks[0]!.clientConfig.caBundle = Buffer.from(old.certificate.pem).toString('base64')
      hooks[0] = stale as never
    })
    expect(open(evidence, mesh)).toEqual(['istio/webhooks pending'])
  })

  it('does not take a webhook that is not there for one that is right', async () => {
    const { evidence, mesh } = await stragglerAt(2, bent => bent.objects.delete('mutatingwebhookconfigurations'))
    expect(reasons(evidence)).toEqual(['webhook MutatingWebhookConfiguration missing unknown'])
    expect(judge(plan, [evidence], mesh.now).verdict).toBe('unknown')
  })

  it('calls a proxy that waits beyond the life of a leaf violated, not pending', async () => {
    const { evidence } = await stragglerAt(3, bent => {
      pod(bent, 'shop/cart-2').http = {
        '15000/config_dump': secretsDump([old.certificate.pem + fresh.certificate.pem], [leaf.old]),
      }
    })
    const later = new Date(Date.parse(evidence.to) + 25 * 3_600_000)
    const gates = judge(plan, [evidence], later).gates
    expect(gates.find(({ id }) => id === 'istio/leaves-issued')?.verdict).toBe('violated')
  })
})

describe('an ambient mesh', () => {
  const certificate = (pem: string) => ({ pem: Buffer.from(pem).toString('base64') })
  const blocks = (pem: string) => (pem.match(/-----BEGIN[^-]+-----[^-]+-----END[^-]+-----\n/g) ?? []).map(certificate)

  async function withZtunnel(answer: object): Promise<{ evidence: Evidence; mesh: Mesh }> {
    const mesh = await meshAt(plan, 3, 2)
    const object = podObject('ztunnel-1', { namespace: 'istio-system', owner: 'ztunnel', labels: { app: 'ztunnel' } })
    mesh.pods.set('istio-system/ztunnel-1', {
      object,
      http: { '15000/config_dump': JSON.stringify(answer) },
      chain: [],
    })
    return { evidence: await lookTwice(plan, mesh, { phase: 3, step: 2 }), mesh }
  }
  const both = old.certificate.pem + fresh.certificate.pem
  const identity = (chain: string, roots: string) => ({
    identity: 'spiffe://a',
    state: 'Available',
    certChain: blocks(chain),
    rootCerts: blocks(roots),
  })

  it('counts every ztunnel by the certificates that it holds for its workloads', async () => {
    const { evidence, mesh } = await withZtunnel({ certificates: [identity(leaf.new, both)] })
    expect(evidence.groups.find(({ consumer }) => consumer === 'ztunnel')).toMatchObject({
      count: 1,
      trusts: [old.certificate.sha256, fresh.certificate.sha256].sort(),
    })
    expect(judge(plan, [evidence], mesh.now).verdict).toBe('holds')
  })

  it('names a ztunnel of which one identity lags behind', async () => {
    const { evidence } = await withZtunnel({
      certificates: [identity(leaf.new, both), identity(leaf.old, old.certificate.pem)],
    })
    expect(reasons(evidence)).toEqual([
      'ztunnel istio-system/ztunnel-1 entries-differ pending',
      'ztunnel istio-system/ztunnel-1 stale-roots pending',
    ])
  })

  it('asks nothing of a ztunnel without workloads, and waits for one whose certificates are on their way', async () => {
    const idle = await withZtunnel({ certificates: [] })
    expect(judge(plan, [idle.evidence], idle.mesh.now).verdict).toBe('holds')
    const waiting = await withZtunnel({
      certificates: [{ identity: 'spiffe://a', state: 'Initializing', certChain: [], rootCerts: [] }],
    })
    expect(judge(plan, [waiting.evidence], waiting.mesh.now).verdict).toBe('pending')
  })
})

describe('objects', () => {
  async function at(phase: number, step: number, bend: (mesh: Mesh) => void): Promise<readonly string[]> {
    const mesh = await meshAt(plan, phase, step)
    bend(mesh)
    return open(await lookTwice(plan, mesh, { phase, step }), mesh)
  }
  const secret = (mesh: Mesh, name: string) =>
    mesh.objects.get('secrets')!.find(({ metadata }) => metadata.name === name)! as unknown as Writable

  it('refuses a stale tls.crt in cacerts, and says how to free it', async () => {
    const mesh = await meshAt(plan, 2, 1)
    secret(mesh, 'cacerts').metadata.managedFields.push({
      manager: 'kubectl-edit',
      operation: 'Update',
      fieldsV1: { 'f:data': { 'f:tls.crt': {} } },
    })
    const evidence = await lookTwice(plan, mesh, { phase: 2, step: 1 })
    const gate = judge(plan, [evidence], mesh.now).gates.find(({ id }) => id === 'istio/secret')
    expect(gate?.verdict).toBe('violated')
    expect(gate?.because).toEqual(['Secret/istio-system/cacerts: key tls.crt is not ours (owned by kubectl-edit)'])
    expect(gate?.hint).toContain('"path":"/data/tls.crt"')
  })

  it('refuses a key that another manager owns too', async () => {
    const found = await at(2, 1, mesh => {
      secret(mesh, 'cacerts').metadata.managedFields.push({
        manager: 'pilot-discovery',
        operation: 'Update',
        fieldsV1: { 'f:data': { 'f:ca-cert.pem': {} } },
      })
    })
    expect(found).toEqual(['istio/secret violated'])
  })

  it('refuses a cacerts that appears before its phase', async () => {
    const found = await at(1, 1, mesh => {
      mesh.objects.get('secrets')!.push({ metadata: { name: 'cacerts', namespace: 'istio-system' } })
    })
    expect(found).toEqual(['istio/secret violated'])
  })

  it('sees a canary that arrived sealed', async () => {
    const found = await at(0, 1, mesh => {
      secret(mesh, 'reanchor-canary').data = { canary: Buffer.from('ENC[AES256_GCM,data:…]').toString('base64') }
    })
    expect(found).toEqual(['istio/canary violated'])
  })

  it('sees wiring that reaches nothing', async () => {
    const found = await at(0, 1, mesh => {
      const istios = mesh.objects.get('istios')! as unknown as Writable[]
      istios[0]!.metadata.annotations = {}
    })
    expect(found).toEqual(['istio/wiring pending'])
  })

  it('waits for istiod to roll, though the Istio resource is Ready (F11)', async () => {
    const found = await at(1, 1, mesh => {
      const deployments = mesh.objects.get('deployments')! as unknown as Writable[]
      deployments[0]!.status = { observedGeneration: 3, replicas: 3, updatedReplicas: 1, availableReplicas: 2 }
    })
    expect(found).toEqual(['istio/control-plane pending'])
  })

  it('waits for a wired workload that is paused half way (F14)', async () => {
    const found = await at(1, 2, mesh => {
      const deployments = mesh.objects.get('deployments')! as unknown as Writable[]
      deployments[1]!.status = { observedGeneration: 3, replicas: 3, updatedReplicas: 1, availableReplicas: 3 }
    })
    expect(found).toEqual(['istio/workloads-restarted pending', 'istio/consumers-seen pending'])
  })
})

describe('what cannot be read', () => {
  it.each(['pods', 'configmaps', 'deployments', 'mutatingwebhookconfigurations', 'workloadentries', 'statefulsets'])(
    'concludes nothing from half a list of %s',
    async plural => {
      const mesh = await meshAt(plan, 2, 2)
      mesh.failures.set(`list ${plural}`, new ClusterError('partial', `list ${plural}`, 'half a list'))
      const evidence = await lookTwice(plan, mesh, { phase: 2, step: 2 })
      expect(evidence.complete).toBe(false)
      expect(judge(plan, [evidence], mesh.now).verdict).toBe('unknown')
    },
  )

  it.each(['secrets cacerts', 'secrets reanchor-canary', 'istios default', 'configmaps istio', 'kustomizations trust'])(
    'is unknown where %s is forbidden',
    async named => {
      const mesh = await meshAt(plan, 2, 2)
      mesh.failures.set(`get ${named}`, new ClusterError('forbidden', `get ${named}`, 'the role lacks it'))
      const evidence = await lookTwice(plan, mesh, { phase: 2, step: 2 })
      expect(judge(plan, [evidence], mesh.now).verdict).toBe('unknown')
    },
  )

  it('asks for new credentials where the API server refuses them, not for a role', async () => {
    const mesh = await meshAt(plan, 2, 2)
    mesh.failures.set('identity', new ClusterError('forbidden', 'identity', credentialsRefused))
    await expect(look(plan, mesh, { phase: 2, step: 2 })).rejects.toMatchObject({
      what: 'the cluster refuses to be read',
      todo: expect.stringContaining('new credentials'),
      exit: 4,
    })
  })

  it('gives no advice on what could not be read', async () => {
    const mesh = await meshAt(plan, 2, 2)
    mesh.failures.set('get secrets reanchor-canary', new ClusterError('forbidden', 'get', 'the role lacks it'))
    const evidence = await lookTwice(plan, mesh, { phase: 2, step: 2 })
    const canary = judge(plan, [evidence], mesh.now).gates.find(({ id }) => id === 'istio/canary')
    expect(canary?.hint).toContain('nothing is known of it until it can be read')
  })

  it('says what to do where the cluster does not answer at all', async () => {
    const mesh = await meshAt(plan, 2, 2)
    mesh.failures.set('identity', new ClusterError('unreachable', 'identity', 'ECONNREFUSED'))
    await expect(look(plan, mesh, { phase: 2, step: 2 })).rejects.toMatchObject({
      what: 'the cluster does not answer',
      exit: 4,
    })
  })
})

describe('two looks', () => {
  it('agree though pods were scaled up meanwhile', async () => {
    const mesh = await meshAt(plan, 2, 2)
    const first = await look(plan, mesh, { phase: 2, step: 2 })
    mesh.pods.set('shop/cart-3', {
      ...pod(mesh, 'shop/cart-2'),
      object: podObject('cart-3', {
        env: { PROXY_CONFIG_XDS_AGENT: 'true' },
        annotations: { 'reanchor.dev/trust': 'w1' },
      }),
    })
    pod(mesh, 'istio-system/istiod-a').http = {
      '15014/debug/syncz': syncz(['shop/cart-1', 'shop/cart-2', 'shop/cart-3'], true),
    }
    const second = await look(plan, mesh, { phase: 2, step: 2, previous: first })
    expect(second.agreesWith?.observation).toBe(first.observation)
  })

  it('do not agree where one state differs (F24)', async () => {
    const mesh = await meshAt(plan, 2, 2)
    const first = await look(plan, mesh, { phase: 2, step: 2 })
    pod(mesh, 'shop/cart-1').http = { '15000/config_dump': secretsDump([old.certificate.pem], [leaf.old]) }
    const second = await look(plan, mesh, { phase: 2, step: 2, previous: first })
    expect(second.agreesWith).toBeNull()
  })

  it('give the same observation whatever the order of the lists', async () => {
    const mesh = await meshAt(plan, 2, 2)
    const first = await look(plan, mesh, { phase: 2, step: 2 })
    mesh.pods = new Map([...mesh.pods].reverse())
    const second = await look(plan, mesh, { phase: 2, step: 2 })
    expect(second).toEqual(first)
  })
})

interface Writable {
  metadata: { annotations?: Record<string, string>; managedFields: object[] }
  data?: Record<string, string>
  status?: object
}

function pod(mesh: Mesh, name: string) {
  const found = mesh.pods.get(name)
  if (found === undefined) throw new Error(`no pod ${name}`)
  return found
}

function replace(mesh: Mesh, name: string, shape: Parameters<typeof podObject>[1]): void {
  const found = pod(mesh, name)
  mesh.pods.set(name, { ...found, object: podObject(name.split('/')[1] ?? '', shape) })
}
