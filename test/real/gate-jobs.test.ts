/** The Jobs of docs/runner.md that a delivery waits for, run by the real Flux and the real Argo CD in whole rotations of Istio. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Testing } from 'cdk8s'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse, stringify } from 'yaml'
import { FluxGate, GateJob, type GateProps, gateFolder, gateSource } from '../../phases/runner/index.ts'
import { readTrustHeader } from '../../src/report/trust-txt.ts'
import { type GateRun, type GateWatch, letGoBy, watchGates } from './rig/gate-watch.ts'
import { type GitServer, startGitServer } from './rig/git-server.ts'
import { keepLooking } from './rig/looking.ts'
import { createNetwork, type Network } from './rig/network.ts'
import type { Manifest } from './rig/objects.ts'
import { mustSay } from './rig/reanchor.ts'
import { type FleetRepository, fluxKustomization, makeRepository } from './rig/repository.ts'
import { merge, type RotationOptions, type RotationRecord, report, rotate, shortGates } from './rig/rotation.ts'
import { until } from './rig/server.ts'
import { fluxShopFiles, shopInit, shopNamespace, startArgoShop, startFluxShop } from './rig/shop.ts'
import { byStep, failuresText, recordOf } from './rig/watch.ts'
import type { ArgoCluster, MeshCluster } from './rig/world.ts'

const workloads = ['frontend', 'cart', 'orders']
/** The roll-out of istiod is kept from going on here for a while, and the Job has to wait for it. */
const held = '2-trust-both/2-restart'
/** Kept too, and then taken back: the Job has to let go. */
const undone = '3-issue-new/2-restart'

describe('a Kustomization that waits for the gate', () => {
  let network: Network
  let repository: FleetRepository
  let git: GitServer
  let cluster: MeshCluster
  let watch: GateWatch

  beforeAll(async () => {
    network = await createNetwork()
    repository = await makeRepository((_url, recipient) => fluxShopFiles(recipient))
    git = await startGitServer(network, repository.bare)
    cluster = await startFluxShop(network, repository, workloads)
    await cluster.plane.objects.apply(gitSecret(git))
    watch = watchGates(cluster.plane, 'reanchor', stepInConfigMap(cluster))
  }, 900_000)

  afterAll(async () => {
    await watch?.stop()
    await cluster?.stop()
    await git?.stop()
    await repository?.close()
    await network?.close()
  })

  it('lets what depends on it pass only after the step has reached everyone, and lets an undo through', async () => {
    const since = Date.now()
    const props: GateProps = { image: 'rig/reanchor', repository: git.url, site: 'eu-1', delivery: 'flux', hours: 1 }
    const { objects } = cluster.plane
    const passed: { readonly step: string | null; readonly at: number }[] = []
    const looking = keepLooking(async () => {
      const after = await objects.get({ apiVersion: 'v1', kind: 'ConfigMap', namespace: shopNamespace, name: 'after' })
      const step = stepIn((after?.data as Record<string, string> | undefined)?.['trust.txt'])
      if (step !== null && passed.at(-1)?.step !== step) passed.push({ step, at: Date.now() })
    }, 300)
    const disturbed = disturb(cluster, repository, () => watch.runs)
    /** A merge before the Job has looked once more would replace it, and the step would pass unseen. */
    const seenThrough = (): boolean => {
      const run = watch.runs.at(-1)
      return (
        run === undefined || run.ended === 'Failed' || (run.ended === 'Complete' && passed.at(-1)?.step === run.step)
      )
    }
    const record = await rotate({
      ...options(repository, cluster),
      async onOpened(step) {
        await until('what depends on the gate has passed', seenThrough, 150_000)
        if (step === '0-adopt/1-adopt')
          await repository.commit(fluxGate(props), 'Let what comes after trust wait for it')
        await disturbed.opened(step)
        return true
      },
      onWaiting: disturbed.waiting,
    })
    await until('the last gate has let go', async () => watch.runs.at(-1)?.ended === 'Complete', 120_000)
    await until('what depends on it has passed', async () => passed.at(-1)?.step === watch.runs.at(-1)?.step, 60_000)
    await looking.stop()
    const traffic = await byStep([cluster], record, since)
    await report(recordOf('Flux: graceful, what depends on trust waits for the gate Job', record, traffic))
    expect(failuresText(traffic)).toEqual([])
    disturbed.check()
    expect(completed(watch.runs)).toEqual(expect.arrayContaining(stepsOf(record)))
    // Nothing passed before the Job of its step was done.
    expect(passed.map(({ step }) => step)).toEqual(expect.arrayContaining(stepsOf(record)))
    for (const { step, at } of passed) expect(letGoBy(watch.runs, step, at), `${step} passed`).toBe(true)
  }, 1_800_000)
})

describe('a PostSync hook of Argo CD', () => {
  let network: Network
  let repository: FleetRepository
  let git: GitServer
  let cluster: ArgoCluster
  let watch: GateWatch

  beforeAll(async () => {
    network = await createNetwork()
    ;({ cluster, repository } = await startArgoShop(network, makeRepository, workloads))
    git = await startGitServer(network, repository.bare)
    await cluster.plane.objects.apply(gitSecret(git))
    watch = watchGates(cluster.plane, 'reanchor', () => stepInSync(cluster, repository))
  }, 900_000)

  afterAll(async () => {
    await watch?.stop()
    await cluster?.stop()
    await git?.stop()
    await repository?.close()
    await network?.close()
  })

  it('keeps the sync running until the step has reached everyone, and ends it for an undo', async () => {
    const since = Date.now()
    const props: GateProps = { image: 'rig/reanchor', repository: git.url, site: 'eu-1', delivery: 'argocd', hours: 1 }
    const phases: { readonly step: string | null; readonly phase: string; readonly at: number }[] = []
    const looking = keepLooking(async () => {
      const trust = await cluster.argo.application('trust')
      const phase = (trust?.status as SyncStatus | undefined)?.operationState?.phase ?? ''
      const step = await stepInSync(cluster, repository)
      const last = phases.at(-1)
      if (last?.step !== step || last?.phase !== phase) phases.push({ step, phase, at: Date.now() })
    }, 400)
    const disturbed = disturb(cluster, repository, () => watch.runs)
    const { init, ...others } = options(repository, cluster)
    const record = await rotate({
      ...others,
      init: [...init, '--age', repository.recipient],
      async onOpened(step) {
        await disturbed.opened(step)
        return true
      },
      onWaiting: disturbed.waiting,
      async onMerged(step) {
        if (step === '0-adopt/1-adopt')
          await repository.commit(await argoGate(props, repository), 'Let the sync of trust wait for its gate')
      },
    })
    await until('the last gate has let go', async () => watch.runs.at(-1)?.ended === 'Complete', 120_000)
    await looking.stop()
    const traffic = await byStep([cluster], record, since)
    await report(recordOf('Argo CD: graceful, the sync waits for the gate Job', record, traffic))
    expect(failuresText(traffic)).toEqual([])
    disturbed.check()
    expect(completed(watch.runs)).toEqual(expect.arrayContaining(stepsOf(record).slice(1)))
    // The sync of a step succeeded only after its hook was done.
    for (const { step, phase, at } of phases) {
      if (phase !== 'Succeeded' || step === null || step.startsWith('0-adopt')) continue
      expect(letGoBy(watch.runs, step, at), `the sync of ${step} succeeded`).toBe(true)
    }
  }, 1_800_000)
})

function options(repository: FleetRepository, cluster: MeshCluster): RotationOptions {
  return {
    name: 'first',
    repository,
    administrator: [cluster.plane.kubeconfig],
    verifier: [cluster.verifier],
    init: shopInit,
    edit: shortGates,
  }
}

/** What the image's `reanchor-askpass` reads. */
function gitSecret({ username, token }: GitServer): Manifest {
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 'reanchor-git', namespace: 'reanchor' },
    stringData: { username, token },
  }
}

function gateFiles(props: GateProps): Record<string, string> {
  const job = Testing.synth(new GateJob(Testing.app(), 'gate', props)).map((object: unknown) => stringify(object))
  const files = gateFolder(job.join('---\n'), props, '../../trust/eu-1')
  return Object.fromEntries([...files].map(([path, text]) => [`gates/eu-1/${path}`, text]))
}

/** The gate as docs/runner.md has it, and a Kustomization that depends on it and shows which step it passed with. */
function fluxGate(props: GateProps): Record<string, string> {
  const gate = new FluxGate(Testing.app(), 'gate', {
    namespace: 'flux-system',
    kustomization: 'trust',
    gitRepository: 'flux-system',
    path: './gates/eu-1',
  })
  const after = fluxKustomization(
    'after',
    './after/eu-1',
    'Passes when trust has.',
    '  dependsOn:\n    - name: trust-gate\n',
  )
  return {
    ...gateFiles(props),
    'clusters/eu-1/trust-gate.yaml': Testing.synth(gate)
      .map((object: unknown) => stringify(object))
      .join('---\n'),
    'clusters/eu-1/after.yaml': after,
    'after/eu-1/kustomization.yaml': stringify({
      apiVersion: 'kustomize.config.k8s.io/v1beta1',
      kind: 'Kustomization',
      namespace: shopNamespace,
      generatorOptions: { disableNameSuffixHash: true },
      configMapGenerator: [{ name: 'after', files: ['../../trust/eu-1/trust.txt'] }],
    }),
  }
}

/** The hook as a second source of the Application that reanchor made, which tries again as docs/runner.md says. */
async function argoGate(props: GateProps, repository: FleetRepository): Promise<Record<string, string>> {
  await repository.pull()
  const file = 'clusters/eu-1/trust.yaml'
  const { spec, ...application } = parse(await readFile(join(repository.clone, file), 'utf8')) as {
    readonly spec: {
      readonly source: { readonly repoURL: string; readonly targetRevision: string }
      readonly syncPolicy: object
    }
  }
  const { source, ...rest } = spec
  const syncPolicy = { ...spec.syncPolicy, retry: { limit: 5, refresh: true } }
  const { repoURL, targetRevision } = source
  const sources = [source, gateSource({ repoURL, targetRevision }, 'gates/eu-1', '../../trust/eu-1')]
  return { ...gateFiles(props), [file]: stringify({ ...application, spec: { ...rest, sources, syncPolicy } }) }
}

/** What a folder holds, by line 1 of its trust.txt: `3-issue-new/1-data`, `3-issue-new/1-data undo`. */
function stepIn(trustTxt: string | undefined): string | null {
  const header = readTrustHeader((trustTxt ?? '').split('\n')[0] ?? '')
  if (header === null) return null
  const step = `${header.phase}-${header.phaseName}/${header.step}-${header.stepName}`
  return header.variant === 'step' ? step : `${step} ${header.variant}`
}

function stepInConfigMap({ plane }: MeshCluster): (job: Manifest) => Promise<string | null> {
  return async job => {
    const { template } = job.spec as {
      readonly template: {
        readonly spec: { readonly volumes: readonly { readonly configMap?: { readonly name: string } }[] }
      }
    }
    const name = template.spec.volumes.find(({ configMap }) => configMap !== undefined)?.configMap?.name ?? ''
    const found = await plane.objects.get({ apiVersion: 'v1', kind: 'ConfigMap', namespace: 'reanchor', name })
    return stepIn((found?.data as Record<string, string> | undefined)?.['trust.txt'])
  }
}

interface SyncStatus {
  readonly operationState?: {
    readonly phase?: string
    readonly syncResult?: { readonly revision?: string; readonly revisions?: readonly string[] }
  }
}

/** The step in the commit that the Application `trust` is syncing, or synced last. */
async function stepInSync({ argo }: ArgoCluster, { bare, git }: FleetRepository): Promise<string | null> {
  const status = (await argo.application('trust'))?.status as SyncStatus | undefined
  const syncResult = status?.operationState?.syncResult
  const revision = syncResult?.revisions?.[0] ?? syncResult?.revision
  if (revision === undefined || revision === '') return null
  return stepIn(await git('--git-dir', bare, 'show', `${revision}:trust/eu-1/trust.txt`))
}

/** Keeps istiod from being rolled out at two steps, of which the second is then undone. What came of it is checked at the end. */
function disturb(cluster: MeshCluster, repository: FleetRepository, runs: () => readonly GateRun[]) {
  const { objects } = cluster.plane
  /** Looks at the Job of the held step, and in how many of them it went on. */
  const waited = { looks: 0, running: 0 }
  let undoneAfter: number | null = null
  const runOf = (step: string): GateRun | undefined => runs().find(run => run.step === step)

  async function undo(): Promise<void> {
    const asked = ['undo', '--rotation', 'first', '--output', 'json']
    const said = await mustSay(asked, { cwd: repository.clone, kubeconfig: [cluster.verifier] })
    const { pullRequest } = said.json as { readonly pullRequest: { readonly number: number } }
    const began = Date.now()
    await merge({ repository }, pullRequest.number)
    await until('the Job of the undone step has let go', async () => runOf(undone)?.ended === 'Failed', 150_000)
    undoneAfter = Date.now() - began
    await objects.delete(quota)
  }

  return {
    async opened(step: string): Promise<void> {
      if (step !== held && (step !== undone || undoneAfter !== null)) return
      const { apiVersion, kind, ...metadata } = quota
      // As many pods as there are: none can be added before another one ends, and none ends before one is added.
      await objects.apply({ apiVersion, kind, metadata, spec: { hard: { pods: '2' } } })
    },
    async waiting(step: string): Promise<void> {
      if (step === held && waited.looks < 4 && runOf(held) !== undefined) {
        waited.looks += 1
        if (runOf(held)?.ended === null) waited.running += 1
        await sleep(4000)
        if (waited.looks === 4) await objects.delete(quota)
      }
      if (step === undone && undoneAfter === null && runOf(undone) !== undefined) await undo()
    },
    check(): void {
      expect(waited).toEqual({ looks: 4, running: 4 })
      // A minute at the longest between two looks, and what the pod takes to end.
      expect(undoneAfter).toBeLessThan(120_000)
      expect(runOf(undone)).toMatchObject({ ended: 'Failed', exitCodes: [3] })
      expect(completed(runs())).toContain(`${undone} undo`)
    },
  }
}

const quota = { apiVersion: 'v1', kind: 'ResourceQuota', namespace: 'istio-system', name: 'no-more-pods' } as const

/** Steps whose Job was complete. */
function completed(runs: readonly GateRun[]): readonly (string | null)[] {
  return runs.filter(({ ended }) => ended === 'Complete').map(({ step }) => step)
}

/** Steps that a folder in the cluster went through. */
function stepsOf({ steps }: RotationRecord): string[] {
  // A step that is gone again after its undo is the same step, on another branch: `3-issue-new/1-data.2`.
  const names = steps.map(({ step }) => step.replace(/\.\d+$/, '')).filter(step => step.includes('/'))
  return [...new Set(names)].filter(step => !step.includes('undo'))
}
