import { readFile, writeFile } from 'node:fs/promises'
import { Agent } from 'node:https'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { meshMaterial } from '../../bench/mesh.ts'
import { writePlan } from '../../src/plan/lock.ts'
import { initBare } from '../../src/repository/init.ts'
import { openRepository } from '../../src/repository/repository.ts'
import type { Evidence, GateResult, Plan } from '../../src/rotation.ts'
import { readEvidence, writeEvidence } from '../../src/verify/evidence-file.ts'
import { type ControlPlane, startControlPlane } from './rig/control-plane.ts'
import {
  addCrowd,
  addNodes,
  answerFor,
  type Crowd,
  readMetrics,
  standInForIstiod,
  startEnvoy,
  startSilence,
} from './rig/crowd.ts'
import { type Measured, measured } from './rig/measured.ts'
import { createNetwork, type Network } from './rig/network.ts'

/**
 * A large mesh as one user's `verify` meets it: real etcd and API server, pods of kwok, one real Envoy behind the port-forwards that answer, and
 * istiod's two ports played by this test. The verifier has its shipped roles.
 */
const crowdSize = Number(process.env.REANCHOR_REAL_PODS ?? (process.env.REANCHOR_REAL === 'all' ? 10_000 : 1000))
const answering = crowdSize / 50
const site = 'eu-1'
const step = { phase: 2, step: 2, folder: '2-trust-both/2-restart' }
const main = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))

let network: Network
let plane: ControlPlane
let crowd: Crowd
let repository: string
let kubeconfig: string
let plan: Plan
let agent: Agent
let envoyPort: number
const stops: (() => Promise<void>)[] = []

function note(text: string): void {
  process.stderr.write(`pods: ${text}\n`)
}

beforeAll(async () => {
  network = await createNetwork()
  plane = await startControlPlane({ name: site, network })
  agent = new Agent({
    keepAlive: true,
    ca: await readFile(plane.certificateAuthority),
    cert: await readFile(join(plane.folder, 'pki', 'admin.crt')),
    key: await readFile(join(plane.folder, 'pki', 'admin.key')),
  })
  for (const role of ['istio', 'istio-portforward']) {
    await plane.objects
      .applyYaml(await readFile(new URL(`../../roles/${role}.yaml`, import.meta.url), 'utf8'))
      .catch(async () => {
        // The Role in istio-system needs its namespace.
        await plane.objects.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'istio-system' } })
        await plane.objects.applyYaml(await readFile(new URL(`../../roles/${role}.yaml`, import.meta.url), 'utf8'))
      })
  }
  kubeconfig = await plane.kubeconfigOf('reanchor', 'reanchor-verifier')
  await addNodes(plane)
  const material = await meshMaterial(new Date())
  plan = material.plan
  repository = join(plane.folder, 'fleet.git')
  await writeRepository(repository, material.files, plan)
  crowd = await addCrowd(plane, { pods: crowdSize, environment: settingsOf(plan) })
  note(`${crowdSize} pods made and running in ${crowd.seconds.toFixed(1)} s`)
  const { roots } = material
  const { chain, key } = material.leaf
  envoyPort = await startEnvoy(plane, { chain, key, roots })
  const some = new Set(chosen(crowd.names, answering))
  await answerFor(plane, 'some', [...some], envoyPort)
  const silence = await startSilence()
  stops.push(silence.close)
  const silent = crowd.names.filter(name => !some.has(name))
  await answerFor(plane, 'others', silent, silence.port)
  const restarts = stateOf(plan).restarts
  const annotations = restarts.istiod === undefined ? {} : { 'reanchor.dev/trust': restarts.istiod }
  const environment = { ISTIO_MULTIROOT_MESH: 'true' }
  stops.push(await standInForIstiod(plane, { chain, key, annotations, environment }, crowd.names))
}, 2_400_000)

afterAll(async () => {
  agent?.destroy()
  await plane?.stop()
  for (const stop of stops) await stop()
  await network?.close()
})

function stateOf(of: Plan) {
  const planned = of.phases
    .find(({ number }) => number === step.phase)
    ?.steps.find(({ number }) => number === step.step)
  const state = planned?.sites[site]?.state
  if (state === undefined) throw new Error('the step is not planned')
  return state
}

function settingsOf(of: Plan): Readonly<Record<string, string>> {
  const value = stateOf(of).settings.PROXY_CONFIG_XDS_AGENT
  return value === undefined ? {} : { PROXY_CONFIG_XDS_AGENT: value }
}

/** Spread over every owner and node. */
function chosen(names: readonly string[], count: number): readonly string[] {
  const every = Math.floor(names.length / count)
  // One more than a multiple, or all would lie on the same few nodes.
  return Array.from({ length: count }, (_, index) => names[(index * every + (index % every)) % names.length] ?? '')
}

async function writeRepository(path: string, files: ReadonlyMap<string, string>, of: Plan): Promise<void> {
  await initBare(path, 'main')
  const opened = await openRepository(path)
  const rotation = `rotations/${of.metadata.name}`
  const folder = `${rotation}/phases/${step.folder}/${site}/`
  const delivered = [...files].flatMap(([file, text]): [string, string][] =>
    file.startsWith(folder) ? [[`trust/${site}/${file.slice(folder.length)}`, text]] : [],
  )
  const changes = new Map([...files, [`${rotation}/plan.yaml`, writePlan(of)], ...delivered])
  const author = { name: 'Robin', email: 'robin@example.com' }
  const first = await opened.commit({
    parent: null,
    changes,
    message: 'The fleet',
    trailers: {},
    author,
    at: new Date(),
  })
  await opened.publish([{ ref: 'refs/heads/main', from: null, to: first }])
  opened.close()
}

interface Look {
  readonly measured: Measured
  readonly evidence: Evidence
  readonly gates: readonly GateResult[]
  readonly requests: Readonly<Record<string, number>>
  /** The most port-forwards that were open at one sample, and begun between two. */
  readonly openAtMost: number
  readonly begunAtMost: number
  /** The most connections to the API server at one sample, beside those that it had before. */
  readonly connectedAtMost: number
}

/** Connections that end at a port of this machine and are established, by the kernel's table (proc(5): state 01, addresses in hexadecimal). */
async function connections(port: number): Promise<number> {
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const rows = (await readFile('/proc/net/tcp', 'utf8')).split('\n').map(line => line.trim().split(/\s+/))
  return rows.filter(([, , remote, state]) => remote?.endsWith(wanted) === true && state === '01').length
}

const sampling = 500

/** `reanchor verify` in a process of its own, with what the API server counted meanwhile. */
async function verify(): Promise<Look> {
  const before = await readMetrics(plane, agent)
  let openAtMost = 0
  let begunAtMost = 0
  let connectedAtMost = 0
  const others = await connections(plane.apiPort)
  let begun = before.sum('apiserver_request_total', 'subresource="portforward"')
  let over = false
  const watching = (async () => {
    let last = Date.now()
    while (!over) {
      await sleep(sampling)
      connectedAtMost = Math.max(connectedAtMost, (await connections(plane.apiPort)) - others)
      const metrics = await readMetrics(plane, agent)
      const now = Date.now()
      openAtMost = Math.max(openAtMost, metrics.sum('apiserver_longrunning_requests', 'subresource="portforward"'))
      const total = metrics.sum('apiserver_request_total', 'subresource="portforward"')
      begunAtMost = Math.max(begunAtMost, ((total - begun) * 1000) / (now - last))
      begun = total
      last = now
    }
  })()
  const words = [process.execPath, main, 'verify', '--repo', repository, '--output', 'json']
  const ran = await measured(plane.folder, words, { KUBECONFIG: kubeconfig, NO_COLOR: '1' })
  over = true
  await watching
  const after = await readMetrics(plane, agent)
  const counted = (...labels: string[]) =>
    after.sum('apiserver_request_total', ...labels) - before.sum('apiserver_request_total', ...labels)
  const requests = {
    'LIST pods': counted('resource="pods"', 'verb="LIST"'),
    'GET pods': counted('resource="pods"', 'verb="GET"', 'subresource=""'),
    'port-forward': counted('subresource="portforward"'),
  }
  const { result } = JSON.parse(ran.stdout) as { result: { evidence: Evidence[]; gates: GateResult[] } }
  const [evidence] = result.evidence
  if (evidence === undefined)
    throw new Error(`verify ended with ${ran.exit} and no evidence: ${ran.stdout.slice(0, 2000)}`)
  return { measured: ran, evidence, gates: result.gates, requests, openAtMost, begunAtMost, connectedAtMost }
}

function figures(title: string, ran: Measured): string {
  return `${title}: ${ran.seconds.toFixed(1)} s, ${ran.processor.toFixed(1)} s of processor, peak ${ran.mebibytes.toFixed(0)} MiB, ${(ran.bytes / 1_048_576).toFixed(1)} MiB printed`
}

describe(`${crowdSize} pods of which ${answering} answer`, () => {
  let look: Look
  beforeAll(async () => {
    look = await verify()
    note(figures('reanchor verify', look.measured))
    note(
      `requests: ${JSON.stringify(look.requests)}; port-forwards open at most ${look.openAtMost} at the API server, connections at most ${look.connectedAtMost} more than before, begun at most ${look.begunAtMost.toFixed(0)} per second`,
    )
  }, 1_800_000)

  it('are all counted, and the silent ones are unknown by name', () => {
    const { evidence } = look
    const sidecars = evidence.groups.filter(({ consumer }) => consumer === 'sidecar')
    expect(sidecars.reduce((sum, { count }) => sum + count, 0)).toBe(crowdSize)
    const read = sidecars.filter(({ trusts }) => trusts !== null)
    expect(read.reduce((sum, { count }) => sum + count, 0)).toBe(answering)
    const silent = evidence.exceptions.filter(({ consumer }) => consumer === 'sidecar')
    const answered = new Set(chosen(crowd.names, answering))
    expect(new Set(silent.map(({ name }) => name))).toEqual(new Set(crowd.names.filter(name => !answered.has(name))))
    expect(silent.every(({ verdict }) => verdict === 'unknown')).toBe(true)
    expect(evidence.complete).toBe(true)
  })

  it('hold no gate that needs the silent ones, and say how many those are', () => {
    const { exit } = look.measured
    expect(exit).toBe(4)
    const gate = (id: string) => look.gates.find(each => each.id === id)
    expect(gate('istio/roots-trusted')).toMatchObject({
      verdict: 'unknown',
      counted: { of: crowdSize, conform: answering },
    })
    expect(gate('istio/leaves-issued')).toMatchObject({
      verdict: 'unknown',
      counted: { of: crowdSize, conform: answering },
    })
    expect(gate('istio/consumers-seen')?.verdict).toBe('unknown')
    const said = gate('istio/consumers-seen')?.because.join('\n') ?? ''
    const counts = [...said.matchAll(/(\d+) of class sidecar/g)].map(([, count]) => Number(count))
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(crowdSize - answering)
  })

  it('are asked with bounded concurrency, never in a burst', () => {
    // One that ends may still be counted when the next begins.
    expect(look.openAtMost).toBeLessThanOrEqual(64 + 8)
    expect(look.connectedAtMost).toBeGreaterThan(16)
    // On a busy machine those that were hung up are still being closed while their successors are open.
    expect(look.connectedAtMost).toBeLessThanOrEqual(2 * 64 + 8)
    expect(look.requests['port-forward']).toBeLessThanOrEqual(crowdSize + 2)
    expect(look.requests['GET pods']).toBeLessThanOrEqual(32)
    // Twice the pages of 500: the look itself, and who of the silent ones still exists.
    expect(look.requests['LIST pods']).toBeLessThanOrEqual(2 * (crowdSize / 500 + 1))
  })

  it('are judged within the memory that a hundred thousand may take, and below what kubectl takes to list them', async () => {
    const listed = await measured(plane.folder, ['kubectl', 'get', 'pods', '--all-namespaces', '--output', 'json'], {
      KUBECONFIG: kubeconfig,
    })
    note(figures('kubectl get pods -A -o json', listed))
    expect(listed.exit).toBe(0)
    expect(look.measured.mebibytes).toBeLessThanOrEqual(300)
    expect(look.measured.mebibytes).toBeLessThan(listed.mebibytes)
  })

  it('make a file of evidence that names every one of them and fits in a pull request', async () => {
    const text = writeEvidence([look.evidence])
    note(
      `evidence: ${look.evidence.exceptions.length} exceptions, ${look.evidence.groups.length} groups, ${(text.length / 1024).toFixed(0)} KiB`,
    )
    await writeFile(join(plane.folder, 'evidence.yaml'), text)
    expect(readEvidence(text, 'evidence.yaml')).toEqual([look.evidence])
    expect(text.length).toBeLessThan(512 * 1024)
  })
})
