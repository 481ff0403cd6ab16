import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parse, stringify } from 'yaml'
import { istioFixtures } from '../phases/fixtures/istio.ts'
import { fixtureInputs } from '../phases/fixtures/render.ts'
import { applyWiring } from '../src/gitops/yaml-edit.ts'
import { writePlan } from '../src/plan/lock.ts'
import { makePlan } from '../src/plan/make.ts'
import { initBare } from '../src/repository/init.ts'
import { openRepository } from '../src/repository/repository.ts'
import { provePlan } from '../src/safety/prove.ts'
import { amount, inTurn, type Line, median, node, nodeBeside, type Ran, ratio, report, timed } from './measure.ts'
import { startPodsApi } from './pods-api.ts'
import { type Endpoints, probeTimes } from './probes.ts'
import { type Fleet, fleetOf, nameOf } from './sites.ts'

/**
 * Ratios within one run, so that they mean the same on any machine: each thing beside a reference that is measured in turn with it.
 * `--json` prints the lines as data; with `--strict` it ends with 1 where something is over its bound.
 */
const main = fileURLToPath(new URL('../src/cli/main.js', import.meta.url))
const author = { name: 'bench', email: 'bench@example.com' }
const folder = mkdtempSync(join(tmpdir(), 'reanchor-bench-'))
const steps = [
  '0-adopt/1-adopt',
  '1-enable-multiroot/1-data',
  '1-enable-multiroot/2-restart',
  '2-trust-both/1-data',
  '2-trust-both/2-restart',
]
const note = (text: string) => process.stderr.write(`… ${text}\n`)

try {
  const lines: Line[] = []
  note('start-up')
  lines.push(
    ratio(
      'reanchor --version',
      await inTurn(
        15,
        () => node([main, '--version']),
        () => node(['-e', '0']),
      ),
      'node -e 0',
      1.5,
    ),
  )
  const small = await repositoryOf('small', await fleetOf(1))
  expectExit(node([main, 'status', '--repo', small]).status, 0)
  lines.push(
    ratio(
      'reanchor status, offline',
      await inTurn(
        9,
        () => node([main, 'status', '--repo', small]),
        () => node(['-e', '0']),
      ),
      'node -e 0',
      6,
    ),
  )
  note('render')
  lines.push(await renderLine())
  note('prove')
  lines.push(...(await proveLines()))
  note('check: a repository of 1,000 sites is written first')
  lines.push(...(await checkLines()))
  note('gates over 100,000 pods')
  lines.push(...(await podLines()))
  note('1,000 TLS endpoints')
  lines.push(await probeLine())
  process.stdout.write(process.argv.includes('--json') ? `${JSON.stringify(lines, null, 2)}\n` : report(lines))
  if (process.argv.includes('--strict') && lines.some(line => !line.ok)) process.exitCode = 1
} finally {
  rmSync(folder, { recursive: true, force: true })
}

/** `plan` of one site, without its Git, against the YAML writer alone on the same objects: what it rendered, and the lock file. */
async function renderLine(): Promise<Line> {
  const fixture = istioFixtures().find(each => each.name === 'istio-graceful-sail')
  if (fixture === undefined) throw new Error('the fixture istio-graceful-sail is gone')
  const made = await makePlan(await fixtureInputs(fixture))
  const objects = [...made.files].filter(([path]) => path.endsWith('.yaml')).map(([, text]) => parse(text) as unknown)
  // A custody keeps what it sealed, so every round gets a new one; making it is not what is measured.
  const rendered: number[] = []
  const written: number[] = []
  for (let round = -3; round < 15; round++) {
    const inputs = await fixtureInputs(fixture)
    const took = await timed(() => makePlan(inputs))
    const alone = await timed(() => objects.map(object => stringify(object)))
    if (round >= 0) {
      rendered.push(took)
      written.push(alone)
    }
  }
  return ratio(
    'render all phases, 1 site',
    { measured: median(rendered), reference: median(written) },
    'yaml.stringify',
    3,
  )
}

async function proveLines(): Promise<readonly Line[]> {
  const times = new Map<number, number>()
  for (const count of [1, 100, 1000]) {
    const { plan } = await fleetOf(count)
    if (!provePlan(plan).safe) throw new Error('the plan of the bench is not safe')
    const rounds: number[] = []
    for (let round = 0; round < (count === 1000 ? 3 : 7); round++) rounds.push(await timed(() => provePlan(plan)))
    times.set(count, median(rounds))
  }
  const of = (count: number) => times.get(count) ?? 0
  return [
    amount('prove, 1 site', of(1), 50, 'ms'),
    // Ten times the sites may take ten times as long, and half of that more for what grows with memory.
    ratio('prove, 1,000 sites against 100', { measured: of(1000), reference: of(100) }, '100 sites', 15),
  ]
}

/** The pull request of one step at 1,000 sites, read from Git as CI does. */
async function checkLines(): Promise<readonly Line[]> {
  const fleet = await fleetOf(1000)
  const repository = await repositoryOf('large', fleet, '2-trust-both/2-restart')
  const words = [main, 'check', 'main..step', '--repo', repository, '--output', 'json']
  const runs = [node(words, true), node(words, true), node(words, true)]
  for (const { status, out } of runs) {
    // With no evidence of what is live the verdict may be that it is not known to be safe; what counts is that all were looked at.
    const { sites } = (JSON.parse(out) as { result: { sites: { sites: string[] }[] } }).result
    if ((status !== 0 && status !== 5) || sites.flatMap(each => each.sites).length !== 1000)
      throw new Error('check did not look at 1,000 sites')
  }
  return [
    amount('check, 1,000 sites', median(runs.map(run => run.milliseconds)), 5000, 'ms'),
    amount('check, 1,000 sites: memory', median(runs.map(run => run.peak)), 256, 'MiB'),
  ]
}

/** Listed from an API server in another process, page by page; port-forwards answer at once, as their cost is the network's. */
async function podLines(): Promise<readonly Line[]> {
  const subject = fileURLToPath(new URL('./pods.js', import.meta.url))
  const ran = new Map<number, Ran>()
  for (const count of [10_000, 100_000]) {
    const api = await startPodsApi(count)
    const kubeconfig = join(folder, `kubeconfig-${count}`)
    writeFileSync(kubeconfig, api.kubeconfig)
    // Not in turn with the server in this process: it has to answer meanwhile.
    const result = await nodeBeside([subject, kubeconfig])
    api.close()
    if (result.out.trim() !== JSON.stringify({ of: count, conform: count }))
      throw new Error(`the gates did not see ${count} pods: ${result.out}`)
    ran.set(count, result)
  }
  const of = (count: number): Ran => {
    const result = ran.get(count)
    if (result === undefined) throw new Error(`${count} pods were not measured`)
    return result
  }
  const times = { measured: of(100_000).milliseconds, reference: of(10_000).milliseconds }
  return [
    amount(
      'gates, 100,000 pods: memory',
      of(100_000).peak,
      300,
      'MiB',
      `10,000 pods ${of(10_000).peak.toFixed(1)} MiB`,
    ),
    // As for prove: ten times the pods, and half of that more for what grows with memory.
    ratio('gates, 100,000 pods against 10,000', times, '10,000 pods', 15),
  ]
}

/** The certificates that endpoints serve, through port-forwards as the verifier asks for them, against bare connections to the same endpoints. */
async function probeLine(): Promise<Line> {
  const child = spawn(process.execPath, [fileURLToPath(new URL('./endpoints.js', import.meta.url)), '1000'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  try {
    const [line] = (await once(createInterface(child.stdout), 'line')) as [string]
    const times = await probeTimes(JSON.parse(line) as Endpoints, folder)
    return ratio('probe 1,000 TLS endpoints', times, 'bare tls.connect', 1 / 0.7)
  } finally {
    child.stdin.end()
  }
}

/** A bare repository with the plan, and every site at adopt; or with `step` on a branch of that name and main one step before it. */
async function repositoryOf(name: string, fleet: Fleet, step?: string): Promise<string> {
  const path = join(folder, `${name}.git`)
  await initBare(path, 'main')
  const repository = await openRepository(path)
  const base = step === undefined ? '0-adopt/1-adopt' : (steps[steps.indexOf(step) - 1] ?? '')
  const rotation = `rotations/${fleet.plan.metadata.name}`
  const at = new Date(fleet.plan.createdAt)
  const sitesAt = (label: string): [string, string][] =>
    fleet.plan.sites.flatMap((_, number) =>
      [...fleet.folder(label, number)].map(([file, text]): [string, string] => [
        `trust/${nameOf(number)}/${file}`,
        text,
      ]),
    )
  const declaration = istioFixtures().find(each => each.name === 'istio-graceful-sail')?.declaration ?? ''
  const first = await repository.commit({
    parent: null,
    changes: new Map([
      ...fleet.made.files,
      ...(step === undefined ? wiredFiles(fleet) : []),
      [`${rotation}/rotation.yaml`, declaration],
      [`${rotation}/plan.yaml`, writePlan(fleet.plan)],
      ...sitesAt(base),
    ]),
    message: 'The fleet',
    trailers: {},
    author,
    at,
  })
  await repository.publish([{ ref: 'refs/heads/main', from: null, to: first }])
  if (step !== undefined) {
    const next = await repository.commit({
      parent: first,
      changes: new Map(sitesAt(step)),
      message: step,
      trailers: {},
      author,
      at,
    })
    await repository.publish([{ ref: 'refs/heads/step', from: null, to: next }])
  }
  repository.close()
  return path
}

/** The user's own files, as adopt leaves them. */
function wiredFiles(fleet: Fleet): ReadonlyMap<string, string> {
  const files = new Map(istioFixtures().find(each => each.name === 'istio-graceful-sail')?.files)
  for (const { file, edit } of fleet.plan.wiring)
    files.set(file, applyWiring(files.get(file) ?? null, edit, file).text ?? '')
  return files
}

function expectExit(found: number | null, wanted: number): void {
  if (found !== wanted) throw new Error(`a command of the bench ended with ${found}, not ${wanted}`)
}
