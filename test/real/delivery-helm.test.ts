import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { istioFixtures, fixtureSite as site } from '../../phases/fixtures/istio.ts'
import type { Cluster } from '../../src/cluster/cluster.ts'
import { openKubernetesCluster } from '../../src/cluster/kubernetes.ts'
import type { Custody } from '../../src/custody/custody.ts'
import { createSopsCustody } from '../../src/custody/sops.ts'
import { readDeclaration } from '../../src/declaration/read.ts'
import { fluxObjects } from '../../src/gitops/flux.ts'
import { configMapsOf, releaseValues } from '../../src/gitops/helm.ts'
import { applyWiring } from '../../src/gitops/yaml-edit.ts'
import { demoFleet } from '../../src/rehearsal/istio/fleet.ts'
import { openRepository, type Repository } from '../../src/repository/repository.ts'
import { treeDigest } from '../../src/repository/tree-digest.ts'
import type { Declaration, Evidence, FileTree, GateResult, Plan, Site } from '../../src/rotation.ts'
import { helmPoints } from '../../src/systems/istio/helm-wiring.ts'
import { gatesFor } from '../../src/verify/gate.ts'
import { gatherEvidence } from '../../src/verify/gather.ts'
import { sha256 } from '../../src/verify/values.ts'
import { moduleFolder } from './rig/components.ts'
import { type ControlPlane, startControlPlane } from './rig/control-plane.ts'
import { fluxNamespace, startFlux } from './rig/flux.ts'
import { type HelmController, type HelmRun, startHelmController } from './rig/helm-controller.ts'
import { rolledOut } from './rig/istio.ts'
import { createNetwork, type Network } from './rig/network.ts'
import type { Manifest, Place } from './rig/objects.ts'
import { decryptionSecret, type FleetRepository, makeRepository } from './rig/repository.ts'
import { until } from './rig/server.ts'
import { type SourceController, startSourceController } from './rig/source-controller.ts'

const fixture = 'istio-graceful-helm-release'
const folder = `trust/${site}`
const carrier = `istio/${site}/istio.yaml`
const canary = 'canary of this fleet'

let network: Network
let plane: ControlPlane
let fleet: FleetRepository
let repository: Repository
let source: SourceController
let helm: HelmController
let custody: Custody
let cluster: Cluster
let declaration: Declaration
let here: Site
const lags: string[] = []

beforeAll(async () => {
  network = await createNetwork()
  plane = await startControlPlane({ name: site, network, fakeNodes: 1 })
  fleet = await makeRepository((_url, recipient) => {
    const files = demoFleet({ sites: [site], ageRecipient: recipient, install: 'helmRelease' })
    // Workloads would wait for a webhook that nobody serves here.
    const kept = [...files].filter(([path]) => !path.includes('apps'))
    const sooner = (text: string): string =>
      text
        .replace('interval: 1m0s', 'interval: 2s')
        .replaceAll('interval: 10m0s', 'interval: 10m0s\n  retryInterval: 5s')
    return Object.fromEntries(kept.map(([path, text]) => [path, sooner(text)]))
  })
  repository = await openRepository(fleet.bare)
  custody = createSopsCustody({ recipients: [fleet.recipient], now: new Date(), random: randomBytes })
  const text = istioFixtures().find(({ name }) => name === fixture)?.declaration ?? ''
  declaration = await readDeclaration(text, 'rotation.yaml')
  const [first] = declaration.sites
  if (first === undefined) throw new Error('the fixture has no site')
  here = first

  source = await startSourceController(plane, { repository: fleet.bare, branch: 'main' })
  const istio = await moduleFolder('istio', 'istio.io/istio')
  const chart = join(istio, 'manifests', 'charts', 'istio-control', 'istio-discovery')
  helm = await startHelmController(plane, { chart: async () => chart })
  await startFlux(plane)
  await plane.objects.apply(decryptionSecret(fleet))
  await plane.objects.applyYaml((await tree()).get(`clusters/${site}/flux-system/gotk-sync.yaml`) ?? '')
  await until('istiod is installed', async () => (await release()).ready === 'True', 60_000)
  // A release is ready when Helm has applied it: the pods of istiod come up after that.
  await rolledOut(plane, 'istio-system', 'istiod')
  await plane.objects.applyFile('roles/istio.yaml')
  const file = await plane.kubeconfigOf('reanchor', 'reanchor-verifier')
  cluster = await openKubernetesCluster({ kind: 'kubeconfig', file, context: null })
})

afterAll(async () => {
  for (const line of lags) console.info(line)
  await cluster?.close()
  repository?.close()
  await helm?.stop()
  await source?.stop()
  await plane?.stop()
  await fleet?.close()
  await network?.close()
})

// ---------------------------------------------------------------------------------------------- the fleet

async function tree(): Promise<FileTree> {
  return await repository.snapshot(await repository.head('main')).readFolder('')
}

/** A step's folder as `output/` holds it, with the canary sealed to this fleet; `cacerts`, sealed to nobody there, is left out. */
async function stepFiles(step: string): Promise<Record<string, string>> {
  const from = `output/${fixture}/${step}/${site}`
  const files: Record<string, string> = {}
  for (const name of readdirSync(from, { recursive: true, encoding: 'utf8' })) {
    const path = join(from, name)
    if (statSync(path).isFile() && name !== 'cacerts.yaml') files[name] = readFileSync(path, 'utf8')
  }
  files['kustomization.yaml'] = (files['kustomization.yaml'] ?? '').replace('  - cacerts.yaml\n', '')
  const known = parse(files['canary.yaml'] ?? '') as { metadata: { labels: object; annotations: object } }
  files['canary.yaml'] = await custody.seal(
    {
      name: 'reanchor-canary',
      namespace: 'istio-system',
      type: 'Opaque',
      labels: known.metadata.labels as Record<string, string>,
      annotations: known.metadata.annotations as Record<string, string>,
      data: { canary },
      privateKeys: ['canary'],
    },
    `${folder}/canary.yaml`,
  )
  return files
}

/** Replaces the site's folder, as the merge of a step does, and whatever else is given. */
async function merge(step: string, more: Readonly<Record<string, string>> = {}): Promise<string> {
  const changes: Record<string, string | null> = { ...more }
  for (const path of (await tree()).keys()) if (path.startsWith(`${folder}/`)) changes[path] = null
  for (const [path, text] of Object.entries(await stepFiles(step))) changes[`${folder}/${path}`] = text
  return await fleet.commit(changes, step)
}

const releasePlace: Place = {
  apiVersion: 'helm.toolkit.fluxcd.io/v2',
  kind: 'HelmRelease',
  namespace: 'istio-system',
  name: 'istiod',
}

async function release(): Promise<{ ready: string; reason: string; observed: boolean }> {
  const found = await plane.objects.get(releasePlace)
  const status = found?.status as
    | { observedGeneration?: number; conditions?: readonly { type: string; status: string; reason: string }[] }
    | undefined
  const ready = status?.conditions?.find(({ type }) => type === 'Ready')
  const observed = status?.observedGeneration === found?.metadata.generation
  return { ready: ready?.status ?? '', reason: ready?.reason ?? '', observed }
}

interface Template {
  readonly metadata: { readonly annotations?: Readonly<Record<string, string>> }
  readonly spec: { readonly containers: readonly { readonly env: readonly { name: string; value?: string }[] }[] }
}

async function istiod(): Promise<{
  env: (name: string) => string | undefined
  annotation: (key: string) => string | undefined
}> {
  const place = { apiVersion: 'apps/v1', kind: 'Deployment', namespace: 'istio-system', name: 'istiod' }
  const template = ((await plane.objects.get(place)) as Manifest & { spec: { template: Template } }).spec.template
  return {
    env: name => template.spec.containers[0]?.env.find(each => each.name === name)?.value,
    annotation: key => template.metadata.annotations?.[key],
  }
}

async function kustomizationApplied(name: string, commit: string): Promise<void> {
  const place = { apiVersion: 'kustomize.toolkit.fluxcd.io/v1', kind: 'Kustomization', namespace: fluxNamespace, name }
  await until(
    `${name} has applied ${commit}`,
    async () => {
      const status = (await plane.objects.get(place))?.status as { lastAppliedRevision?: string } | undefined
      return status?.lastAppliedRevision?.endsWith(commit) === true
    },
    60_000,
  )
}

/** The run of helm that began after this moment. */
async function ranAfter(moment: Date): Promise<HelmRun> {
  try {
    return await until('helm has run', () => helm.runs.find(run => run.began >= moment), 120_000)
  } catch (cause) {
    const flux = await plane.objects.list('kustomize.toolkit.fluxcd.io/v1', 'Kustomization')
    const states = [...flux, await plane.objects.get(releasePlace)].map(each => JSON.stringify(each?.status))
    throw new Error(`${String(cause)}\n${states.join('\n')}`)
  }
}

// ---------------------------------------------------------------------------------------------- looking

interface Look {
  readonly evidence: Evidence
  gate(id: string): GateResult
}

async function look(phase: number, step: number): Promise<Look> {
  const head = await repository.head('main')
  const digest = treeDigest(await repository.snapshot(head).readFolderBytes(folder))
  const written = parse(readFileSync(`output/${fixture}/plan.yaml`, 'utf8')) as Plan
  const plan: Plan = {
    ...written,
    canaries: { [site]: sha256(canary) },
    formerDigests: {},
    phases: written.phases.map(each => ({
      ...each,
      steps: each.steps.map(planned => {
        const tree = planned.sites[site]
        if (each.number !== phase || planned.number !== step || tree === undefined) return planned
        return { ...planned, sites: { [site]: { ...tree, digest } } }
      }),
    })),
  }
  const [merged] = await repository.log(head, { paths: [folder], limit: 1 })
  const now = new Date()
  const evidence = await gatherEvidence({
    cluster,
    plan,
    site,
    phase,
    step,
    delivery: here.delivery,
    declared: declaration,
    repository: {
      treeDigestAt: async (commit, path) => {
        const files = await repository.snapshot(commit).readFolderBytes(path)
        return files.size === 0 ? null : treeDigest(files)
      },
      isDescendant: async (commit, of) => commit === of || (await repository.isAncestor(of, commit)),
    },
    merged: merged?.id ?? null,
    previous: null,
    now,
  })
  const gates = gatesFor(plan, phase, step).map(gate => gate.judge(evidence, { plan, now, attestations: [] }))
  return {
    evidence,
    gate(id) {
      const found = gates.find(each => each.id === id)
      if (found === undefined) throw new Error(`no gate ${id}: ${gates.map(each => each.id).join(', ')}`)
      return found
    },
  }
}

/** Looks until these gates hold: the controllers may be at it yet. Throws with what the last look said. */
async function holding(phase: number, step: number, ...ids: readonly string[]): Promise<Look> {
  let said: readonly string[] = []
  try {
    return await until('the gates hold', async () => {
      const seen = await look(phase, step)
      const shut = ids.map(id => seen.gate(id)).filter(({ verdict }) => verdict !== 'holds')
      said = shut.map(({ id, verdict, because }) => `${id} is ${verdict}: ${because.join('; ')}`)
      return shut.length === 0 ? seen : null
    })
  } catch (cause) {
    throw new Error(`${String(cause)}\n${said.join('\n')}`)
  }
}

/** What reanchor reads out of the repository as the values of istiod's release. */
async function valuesInGit(): Promise<unknown> {
  const files = await tree()
  const found = fluxObjects(files).releases.find(({ name }) => name === 'istiod')
  if (found === undefined) throw new Error('no HelmRelease istiod in the repository')
  const { values, opaque } = releaseValues(files, found, configMapsOf(files))
  expect(opaque).toEqual([])
  return values
}

// ---------------------------------------------------------------------------------------------- what is shown

describe('values through the ConfigMap of the site’s folder', () => {
  test('adopt: the HelmRelease takes the ConfigMap, and istiod is not installed anew', async () => {
    const before = helm.runs.length
    expect(before).toBe(1)
    const files = await tree()
    const changes: Record<string, string> = {}
    const points = helmPoints(declaration, here, files)
    const written = parse(readFileSync(`output/${fixture}/plan.yaml`, 'utf8')) as Plan
    const creates = written.wiring.filter(({ edit }) => edit.kind === 'create')
    for (const { file, edit } of [...creates, ...points]) {
      changes[file] = applyWiring(changes[file] ?? files.get(file) ?? null, edit, file).text
    }
    expect(Object.keys(changes)).toEqual([`clusters/${site}/trust.yaml`, carrier])
    const commit = await merge('0-adopt/1-adopt', changes)
    const reasons = new Set<string>()
    await until(
      'the HelmRelease has taken up the ConfigMap',
      async () => {
        const { ready, reason, observed } = await release()
        reasons.add(`${ready} ${reason}`)
        const references = (await plane.objects.get(releasePlace))?.spec as { valuesFrom?: unknown } | undefined
        return references?.valuesFrom !== undefined && observed && ready === 'True'
      },
      60_000,
    )
    await kustomizationApplied('trust', commit)
    lags.push(`HelmRelease from the merge of adopt on: ${[...reasons].join(', ')}`)
    expect(helm.runs).toHaveLength(before)
    const seen = await holding(0, 1, 'delivery/applied', 'istio/canary', 'istio/control-plane')
    expect(helm.runs).toHaveLength(before)
    expect(seen.evidence.objects.find(({ id }) => id.startsWith('HelmRelease/'))?.facts).toMatchObject({
      wired: 'true',
      ready: 'True',
      observed: 'true',
    })
    expect(helm.runs.at(-1)?.values).toEqual(await valuesInGit())
  })

  test('enable-multiroot: the label wakes the controller, the real chart renders the flags, and reanchor sees when they are in', async () => {
    source.hold(true)
    const commit = await merge('1-enable-multiroot/1-data')
    expect((await look(1, 1)).gate('istio/control-plane')).toMatchObject({
      verdict: 'pending',
      because: expect.arrayContaining([expect.stringMatching(/ISTIO_MULTIROOT_MESH is unset, expected true/)]),
    })
    const began = new Date()
    source.hold(false)
    const run = await ranAfter(began)
    await kustomizationApplied('trust', commit)
    const artifact = source.published.find(each => each.commit === commit)
    const since = (moment: Date | undefined): number => (moment?.getTime() ?? Number.NaN) - began.getTime()
    const [artifactAt, from, to] = [since(artifact?.at), since(run.began), since(run.ended)]
    lags.push(
      `enable-multiroot: artifact after ${artifactAt} ms, helm from ${from} ms to ${to} ms after Git was looked at`,
    )
    expect(run.values).toEqual(await valuesInGit())
    expect((await istiod()).env('ISTIO_MULTIROOT_MESH')).toBe('true')
    // What was there before is there still.
    expect((await istiod()).env('PILOT_ENABLE_STATUS')).toBe('true')
    const mesh = await plane.objects.get({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      namespace: 'istio-system',
      name: 'istio',
    })
    const config = parse((mesh?.data as { mesh: string } | undefined)?.mesh ?? '') as {
      defaultConfig: { proxyMetadata: object }
    }
    expect(config.defaultConfig.proxyMetadata).toMatchObject({ PROXY_CONFIG_XDS_AGENT: 'true' })
    await holding(1, 1, 'delivery/applied', 'istio/control-plane')
  })

  test('a restart: the token reaches the pods of istiod', async () => {
    const began = new Date()
    await merge('2-trust-both/2-restart')
    await ranAfter(began)
    const token = (await istiod()).annotation('reanchor.dev/trust')
    expect(token).toMatch(/^[0-9a-f]{16}$/)
    await until('every istiod pod carries it', async () => {
      const labels = 'app=istiod'
      const pods = await plane.objects.list('v1', 'Pod', { namespace: 'istio-system', labels })
      const tokens = pods.map(({ metadata }) => (metadata.annotations as Record<string, string>)['reanchor.dev/trust'])
      return tokens.length > 0 && tokens.every(each => each === token)
    })
    const seen = await look(2, 2)
    expect(seen.gate('istio/control-plane').verdict).toBe('holds')
  })
})

describe('inline values', () => {
  test('win over the ConfigMap: istiod loses the flag, and reanchor says so', async () => {
    const text = (await tree()).get(carrier) ?? ''
    const began = new Date()
    const inline = text.replace(
      'PILOT_ENABLE_STATUS: "true"',
      'PILOT_ENABLE_STATUS: "true"\n        ISTIO_MULTIROOT_MESH: "false"',
    )
    await fleet.commit({ [carrier]: inline }, 'somebody knows better')
    const run = await ranAfter(began)
    expect(run.values).toEqual(await valuesInGit())
    expect((await istiod()).env('ISTIO_MULTIROOT_MESH')).toBe('false')
    const seen = await look(2, 2)
    // The folder is applied as planned: only what the release makes of it tells.
    expect(seen.gate('delivery/applied').verdict).not.toBe('unknown')
    expect(seen.gate('istio/control-plane')).toMatchObject({
      verdict: 'pending',
      because: expect.arrayContaining([expect.stringMatching(/ISTIO_MULTIROOT_MESH is false, expected true/)]),
    })
  })

  test('are moved out by the edits that reanchor plans', async () => {
    const files = await tree()
    const points = helmPoints(declaration, here, files)
    expect(points.map(({ edit }) => edit.kind)).toEqual(['remove', 'listItem'])
    let text = files.get(carrier) ?? ''
    for (const { edit } of points) text = applyWiring(text, edit, carrier).text ?? text
    const began = new Date()
    await fleet.commit({ [carrier]: text }, 'moved out')
    const run = await ranAfter(began)
    expect(run.values).toEqual(await valuesInGit())
    expect((await istiod()).env('ISTIO_MULTIROOT_MESH')).toBe('true')
    await holding(2, 2, 'istio/control-plane')
  })
})

describe('values that cannot be had', () => {
  test('leave istiod as it is, and the HelmRelease not ready', async () => {
    const runs = helm.runs.length
    await plane.objects.delete({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      namespace: 'istio-system',
      name: 'reanchor-istiod-values',
    })
    await until('the HelmRelease misses it', async () => (await release()).reason === 'ValuesError')
    const seen = await look(2, 2)
    expect(seen.gate('istio/control-plane')).toMatchObject({
      verdict: 'pending',
      because: expect.arrayContaining([expect.stringMatching(/HelmRelease.*: ready is False, expected True/)]),
    })
    expect(helm.runs).toHaveLength(runs)
    expect((await istiod()).env('ISTIO_MULTIROOT_MESH')).toBe('true')
  })
})
