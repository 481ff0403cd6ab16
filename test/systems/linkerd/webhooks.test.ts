import { beforeAll, describe, expect, it } from 'vitest'
import { ClusterError, type KubernetesObject } from '../../../src/cluster/cluster.ts'
import type { Plan } from '../../../src/rotation.ts'
import { gateOver, look, type Mesh, meshAt, planePod, planOf, podObject, type WebhookPki, webhookPki } from './mesh.ts'

const place = 'trust-both/data-plane'
/** What `linkerd check` looks at in linkerd-webhooks-and-apisvc-tls, beside the injector. */
const validators = [
  {
    name: 'linkerd-sp-validator-webhook-config',
    service: 'linkerd-sp-validator',
    port: 8443,
    portName: 'sp-validator',
  },
  {
    name: 'linkerd-policy-validator-webhook-config',
    service: 'linkerd-policy-validator',
    port: 9443,
    portName: 'policy-https',
  },
] as const

let plan: Plan

beforeAll(async () => {
  plan = await planOf()
}, 60_000)

function configuration(name: string, service: string, namespace: string, policy: string, pki: WebhookPki) {
  return {
    metadata: { name },
    webhooks: [
      {
        name: `${service}.linkerd.io`,
        failurePolicy: policy,
        clientConfig: { service: { name: service, namespace }, caBundle: Buffer.from(pki.ca.pem).toString('base64') },
      },
    ],
  } satisfies KubernetesObject
}

function hangs(mesh: Mesh): void {
  const deployments = mesh.objects.get('deployments') ?? []
  const hanging = deployments.map(each =>
    each.metadata.name === 'web' ? { ...each, status: { ...(each.status as object), updatedReplicas: 0 } } : each,
  )
  mesh.objects.set('deployments', hanging)
}

describe.each(validators)('the webhook $name (F12)', ({ name, service, port, portName }) => {
  let pki: WebhookPki
  beforeAll(async () => {
    pki = await webhookPki(`${service}.linkerd.svc`)
  })

  async function judged(
    policy: string,
    served: readonly Buffer[] | undefined,
    change: (mesh: Mesh) => void = () => {},
  ) {
    const mesh = await meshAt(plan, place)
    const pod = mesh.pods.get('linkerd/linkerd-destination-1')
    if (pod === undefined) throw new Error('no destination')
    const token = pod.object.metadata.annotations?.['reanchor.dev/trust']
    pod.object = planePod('linkerd-destination-1', 'destination', {
      token,
      started: '2026-11-22T03:01:00Z',
      besidePorts: [{ name: portName, containerPort: port }],
    })
    if (served !== undefined) pod.serves = { [port]: served }
    mesh.objects.set('validatingwebhookconfigurations', [configuration(name, service, 'linkerd', policy, pki)])
    hangs(mesh)
    change(mesh)
    const seen = await look(plan, mesh, place)
    const gate = (id: string) => gateOver(plan, seen, place, id)
    return { restarted: gate('linkerd/workloads-restarted'), webhook: gate('linkerd/webhook'), seen }
  }
  const own = 'the owner of a workload that hangs has to look at it; reanchor restarts nothing itself'

  it('stops no step, as no step writes what it validates', async () => {
    const { webhook, seen } = await judged('Fail', pki.ended)
    expect([webhook.verdict, seen.exceptions.filter(({ consumer }) => consumer === 'webhook')]).toEqual(['holds', []])
  })

  it('that has ended, or is of another CA, is named where a roll-out hangs: its kustomization may not be applied', async () => {
    const ended = (await judged('Fail', pki.ended)).restarted
    expect(ended.verdict).toBe('pending')
    expect(ended.hint).toContain(`the API server refuses ${name} (its certificate ended at`)
    const foreign = await webhookPki(`${service}.linkerd.svc`)
    expect((await judged('Fail', foreign.served)).restarted.hint).toContain('not issued by caBundle')
    const wrongName = await webhookPki('linkerd-proxy-injector.linkerd.svc')
    const renamed = (mesh: Mesh) =>
      void mesh.objects.set('validatingwebhookconfigurations', [
        configuration(name, service, 'linkerd', 'Fail', wrongName),
      ])
    expect((await judged('Fail', wrongName.served, renamed)).restarted.hint).toContain(
      `its certificate is not for ${service}.linkerd.svc`,
    )
  })

  it('is not named where it is accepted, where its failurePolicy lets objects through, or where it was not seen', async () => {
    expect((await judged('Fail', pki.served)).restarted.hint).toBe(own)
    expect((await judged('Ignore', pki.ended)).restarted.hint).toBe(own)
    const forbidden = (mesh: Mesh) =>
      void mesh.failures.set(`get validatingwebhookconfigurations ${name}`, new ClusterError('forbidden', 'get', 'no'))
    const unseen = [await judged('Fail', undefined), await judged('Fail', pki.ended, forbidden)]
    for (const { restarted, seen } of unseen) {
      expect(restarted.hint).toBe(own)
      expect(gateOver(plan, seen, place, 'linkerd/consumers-seen').verdict).toBe('holds')
    }
  })
})

describe('the webhook of tap’s injector, which is asked for every pod (F12)', () => {
  const name = 'linkerd-tap-injector-webhook-config'
  let pki: WebhookPki
  beforeAll(async () => {
    pki = await webhookPki('tap-injector.linkerd-viz.svc')
  })

  async function judged(
    policy: string,
    served: readonly Buffer[] | undefined,
    change: (mesh: Mesh) => void = () => {},
  ) {
    const mesh = await meshAt(plan, place)
    const web = mesh.pods.get('emojivoto/web-1')
    if (web === undefined) throw new Error('no web')
    const anchors = [...plan.certificates].filter(({ role }) => role.endsWith('-root')).map(({ pem }) => pem)
    const object = podObject('tap-injector-1', {
      namespace: 'linkerd-viz',
      anchors: anchors.join(''),
      beside: 'tap-injector',
      besidePorts: [{ name: 'tap-injector', containerPort: 8443 }],
    })
    mesh.pods.set('linkerd-viz/tap-injector-1', {
      object,
      chain: web.chain,
      ...(served === undefined ? {} : { serves: { 8443: served } }),
    })
    const injector = mesh.objects.get('mutatingwebhookconfigurations') ?? []
    const own = configuration(name, 'tap-injector', 'linkerd-viz', policy, pki)
    mesh.objects.set('mutatingwebhookconfigurations', [...injector, own])
    change(mesh)
    const seen = await look(plan, mesh, place)
    const gate = (id: string) => gateOver(plan, seen, place, id)
    return { webhook: gate('linkerd/webhook'), consumers: gate('linkerd/consumers-seen') }
  }

  it('that has ended stops the rotation where its failurePolicy refuses pods, and only there', async () => {
    const { webhook } = await judged('Fail', pki.ended)
    expect([webhook.verdict, webhook.because]).toEqual([
      'violated',
      [expect.stringMatching(/^linkerd-viz\/Deployment\/tap-injector: its certificate ended at/)],
    ])
    expect(webhook.hint).toContain('tap-injector-k8s-tls')
    const ignored = await judged('Ignore', pki.ended)
    expect([ignored.webhook.verdict, ignored.consumers.verdict]).toEqual(['holds', 'holds'])
    const accepted = await judged('Fail', pki.served)
    expect([accepted.webhook.verdict, accepted.consumers.verdict]).toEqual(['holds', 'holds'])
  })

  it('that does not answer, or cannot be read, is unknown; where viz is not installed nothing is asked', async () => {
    expect((await judged('Fail', undefined)).consumers.verdict).toBe('unknown')
    const forbidden = (mesh: Mesh) =>
      void mesh.failures.set(`get mutatingwebhookconfigurations ${name}`, new ClusterError('forbidden', 'get', 'no'))
    expect((await judged('Fail', pki.served, forbidden)).consumers.verdict).toBe('unknown')
    const bare = await meshAt(plan, place)
    forbidden(bare)
    expect(gateOver(plan, await look(plan, bare, place), place, 'linkerd/consumers-seen').verdict).toBe('holds')
  })
})
