import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { linkerdFixtures } from '../../phases/fixtures/linkerd.ts'
import { planFixture } from '../../phases/fixtures/render.ts'
import type { MadePlan } from '../../src/plan/make.ts'
import { stepsOf, treeFolder } from '../../src/plan/steps.ts'
import { readAsGo } from '../../src/systems/linkerd/go-pem.ts'
import { type ControlPlane, startControlPlane } from './rig/control-plane.ts'
import { createNetwork, type Network } from './rig/network.ts'
import type { Manifest } from './rig/objects.ts'
import { until } from './rig/server.ts'
import { startTrustManager } from './rig/trust-manager.ts'

// The Bundle of every step of a rotation of Linkerd, as trust-manager makes a ConfigMap of it.

let network: Network
let plane: ControlPlane
let made: MadePlan

beforeAll(async () => {
  network = await createNetwork()
  plane = await startControlPlane({ name: 'eu-1', network })
  for (const name of ['linkerd', 'shop'])
    await plane.objects.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  await startTrustManager(plane)
  const fixture = linkerdFixtures().find(({ name }) => name === 'linkerd-graceful-argo-trust-manager')
  if (fixture === undefined) throw new Error('no such fixture')
  made = await planFixture(fixture)
})

afterAll(async () => {
  await plane?.stop()
  await network?.close()
})

const name = 'linkerd-identity-trust-roots'
const mapAt = (namespace: string) => ({ apiVersion: 'v1', kind: 'ConfigMap', namespace, name })

/** Fingerprints of what the ConfigMap holds, as Linkerd reads it; null: there is none, or Linkerd could not read it. */
function anchorsIn(map: Manifest | null): readonly string[] | null {
  const data = map?.data as Readonly<Record<string, string>> | undefined
  const read = readAsGo(data?.['ca-bundle.crt'] ?? '')
  return read.ok ? read.anchors : null
}

function bundleOf(at: ReturnType<typeof stepsOf>[number]): string {
  const file = `${treeFolder(made.plan.metadata.name, at, 'step', 'eu-1')}/trust-roots.yaml`
  const text = made.files.get(file)
  if (text === undefined) throw new Error(`no ${file}`)
  return text
}

describe('a Bundle in the place of the ConfigMap of anchors', () => {
  it('takes over what stands there, and has exactly the anchors of each step, in one namespace, without a moment of none', async () => {
    const steps = stepsOf(made.plan)
    const [first] = steps
    const old = made.plan.certificates.find(({ role }) => role === 'old-root')
    if (first === undefined || old === undefined) throw new Error('the plan has no steps')
    await plane.objects.apply({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name, namespace: 'linkerd' },
      data: { 'ca-bundle.crt': old.pem },
    })
    const seen = new Set<string>()
    let absent = 0
    let over = false
    const watch = (async () => {
      while (!over) {
        const anchors = anchorsIn(await plane.objects.get(mapAt('linkerd')))
        if (anchors === null) absent += 1
        else seen.add([...anchors].sort().join())
      }
    })()
    const expected = new Set<string>()
    for (const at of steps) {
      const { bundle = [] } = at.step.sites['eu-1']?.state ?? {}
      const wanted = [...bundle].sort().join()
      expected.add(wanted)
      await plane.objects.applyYaml(bundleOf(at), 'argocd-controller')
      await until(`the anchors of ${at.phase.name}`, async () => {
        const map = await plane.objects.get(mapAt('linkerd'))
        const labels = (map?.metadata.labels ?? {}) as Readonly<Record<string, string>>
        const label = labels['trust.cert-manager.io/bundle']
        return label === name && [...(anchorsIn(map) ?? [])].sort().join() === wanted ? true : null
      })
    }
    over = true
    await watch
    expect(absent).toBe(0)
    expect([...seen].sort()).toEqual([...expected].sort())
    expect(expected.size).toBe(3)
    expect(await plane.objects.get(mapAt('shop'))).toBeNull()
  })

  it('is not written again by a step that leaves the anchors alone', async () => {
    const last = stepsOf(made.plan).at(-1)
    if (last === undefined) throw new Error('the plan has no steps')
    const before = await plane.objects.get(mapAt('linkerd'))
    await plane.objects.applyYaml(bundleOf(last), 'argocd-controller')
    await new Promise(resolve => setTimeout(resolve, 3_000))
    const after = await plane.objects.get(mapAt('linkerd'))
    expect(after?.metadata.resourceVersion).toBe(before?.metadata.resourceVersion)
  })

  it('of which trust-manager refuses one that holds a private key: the anchors stay as they were', async () => {
    const before = anchorsIn(await plane.objects.get(mapAt('linkerd')))
    const key =
      '-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n-----END PRIVATE KEY-----'
    const last = stepsOf(made.plan).at(-1)
    if (last === undefined) throw new Error('the plan has no steps')
    const spoiled = bundleOf(last).replace('inLine: |\n', `inLine: |\n${key.replaceAll(/^/gm, '        ')}\n`)
    await plane.objects.applyYaml(spoiled, 'argocd-controller')
    const bundle = { apiVersion: 'trust.cert-manager.io/v1alpha1', kind: 'Bundle', name }
    await until('the Bundle is not synced', async () => {
      const { status } = ((await plane.objects.get(bundle)) ?? {}) as {
        readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] }
      }
      return status?.conditions?.some(each => each.type === 'Synced' && each.status === 'False') === true ? true : null
    })
    expect(anchorsIn(await plane.objects.get(mapAt('linkerd')))).toEqual(before)
  })
})
