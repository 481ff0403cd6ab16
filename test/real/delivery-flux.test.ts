import { randomBytes } from 'node:crypto'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Cluster } from '../../src/cluster/cluster.ts'
import { openKubernetesCluster } from '../../src/cluster/kubernetes.ts'
import type { Custody } from '../../src/custody/custody.ts'
import { createSopsCustody } from '../../src/custody/sops.ts'
import type { DeliveredRepository } from '../../src/delivery/delivery.ts'
import { openLocalForge } from '../../src/forge/local.ts'
import { checkReach, reach, reachOf } from '../../src/gitops/reach.ts'
import { openRepository, type Repository } from '../../src/repository/repository.ts'
import { treeDigest } from '../../src/repository/tree-digest.ts'
import type { DeliveryChoice, Digest, Evidence, GateResult, Plan } from '../../src/rotation.ts'
import { gatesFor } from '../../src/verify/gate.ts'
import { gatherEvidence } from '../../src/verify/gather.ts'
import { sha256 } from '../../src/verify/values.ts'
import { authorities, istio, planOf, site } from '../verify/mesh.ts'
import { output } from './rig/components.ts'
import { type ControlPlane, startControlPlane } from './rig/control-plane.ts'
import { type Flux, fluxNamespace, gitRepository, kustomization, startFlux } from './rig/flux.ts'
import { createNetwork, type Network } from './rig/network.ts'
import type { Place } from './rig/objects.ts'
import { decryptionSecret, type FleetRepository, makeRepository } from './rig/repository.ts'
import { until } from './rig/server.ts'
import { type SourceController, startSourceController } from './rig/source-controller.ts'

let network: Network
let plane: ControlPlane
let fleet: FleetRepository
let repository: Repository
let source: SourceController
let flux: Flux
let custody: Custody
let cluster: Cluster
/** Milliseconds from a merge to the artifact, to the object, to Ready. */
const lags: { readonly what: string; readonly artifact: number; readonly applied: number; readonly ready: number }[] =
  []

beforeAll(async () => {
  network = await createNetwork()
  plane = await startControlPlane({ name: 'eu-1', network, fakeNodes: 1 })
  fleet = await makeRepository(() => ({ 'README.md': '# Fleet\n' }))
  repository = await openRepository(fleet.bare)
  source = await startSourceController(plane, { repository: fleet.bare, branch: 'main' })
  flux = await startFlux(plane, { flags: ['--requeue-dependency=2s'] })
  await plane.objects.apply(decryptionSecret(fleet))
  await plane.objects.apply(gitRepository({ name: 'fleet' }))
  custody = createSopsCustody({ recipients: [fleet.recipient], now: new Date(), random: randomBytes })
  cluster = await openKubernetesCluster({ kind: 'kubeconfig', file: plane.kubeconfig, context: null })
})

afterAll(async () => {
  for (const { what, artifact, applied, ready } of lags) {
    console.info(`${what}: artifact after ${artifact} ms, applied after ${applied} ms, Ready after ${ready} ms`)
  }
  await cluster?.close()
  repository?.close()
  await source?.stop()
  await plane?.stop()
  await fleet?.close()
  await network?.close()
})

// What a test has seen goes on reconciling and failing beside the next ones: every commit is all Kustomizations' concern.
afterEach(async () => {
  for (const { metadata } of await plane.objects.list('kustomize.toolkit.fluxcd.io/v1', 'Kustomization')) {
    await plane.objects.merge(kustomizationPlace(metadata.name), { spec: { suspend: true } })
  }
})

// ---------------------------------------------------------------------------------------------- scenes

/** One site of its own: a namespace, a folder in the repository, and a Kustomization, all of one name. */
interface Scene {
  readonly name: string
  readonly folder: string
}

interface Material {
  readonly roots: readonly ('old' | 'new')[]
  /** Of each Secret; Opaque unless said otherwise. */
  readonly type?: string
  /** More manifests by file name. */
  readonly more?: Readonly<Record<string, string>>
  readonly without?: readonly string[]
}

/** A site's folder as a step leaves it: `cacerts` and the canary sealed by the product, the public PEM beside them. */
async function siteFiles(scene: Scene, material: Material): Promise<Record<string, string>> {
  const files: Record<string, string> = { ...material.more }
  for (const [name, secret] of Object.entries(await plainSecrets(scene, material))) {
    if (material.without?.includes(name) === true) continue
    files[`${name}.yaml`] = await custody.seal(secret, `${scene.folder}/${name}.yaml`)
  }
  const resources = Object.keys(files).sort()
  const manifest = { apiVersion: 'kustomize.config.k8s.io/v1beta1', kind: 'Kustomization', resources }
  files['kustomization.yaml'] = JSON.stringify(manifest)
  files['root-cert.pem'] = await rootsOf(material)
  files['trust.txt'] = `reanchor mesh-2026 2-trust-both/1-data ${scene.name} ${material.roots.join('+')}\n`
  return files
}

async function rootsOf({ roots }: Material): Promise<string> {
  const { old, fresh } = await authorities()
  const pem = { old: old.certificate.pem, new: fresh.certificate.pem }
  // What Flux would replace where `substitute` were not disabled.
  return `# roots of \${cluster}\n${roots.map(root => pem[root]).join('')}`
}

async function plainSecrets(scene: Scene, material: Material) {
  const { old } = await authorities()
  const common = {
    namespace: scene.name,
    type: material.type ?? 'Opaque',
    labels: { 'app.kubernetes.io/managed-by': 'reanchor' },
    annotations: {
      'kustomize.toolkit.fluxcd.io/prune': 'disabled',
      'kustomize.toolkit.fluxcd.io/substitute': 'disabled',
    },
  }
  const data = {
    'ca-cert.pem': old.certificate.pem,
    'ca-key.pem': old.key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    'cert-chain.pem': old.certificate.pem,
    'root-cert.pem': await rootsOf(material),
  }
  return {
    cacerts: { ...common, name: 'cacerts', data, privateKeys: ['ca-key.pem'] },
    'reanchor-canary': {
      ...common,
      name: 'reanchor-canary',
      data: { canary: `canary of ${scene.name}` },
      privateKeys: ['canary'],
    },
  }
}

async function commit(scene: Scene, files: Readonly<Record<string, string | null>>, message: string): Promise<string> {
  const changes = Object.fromEntries(Object.entries(files).map(([path, text]) => [`${scene.folder}/${path}`, text]))
  return await fleet.commit(changes, message)
}

async function addScene(
  name: string,
  material: Material,
  spec: Readonly<Record<string, unknown>> = { decryption },
): Promise<Scene & { readonly commit: string }> {
  const scene = { name, folder: `trust/${name}` }
  await plane.objects.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  const made = await commit(scene, await siteFiles(scene, material), `${name}: adopt`)
  await plane.objects.apply(kustomization(name, `./${scene.folder}`, 'fleet', spec))
  return { ...scene, commit: made }
}

const decryption = { provider: 'sops', secretRef: { name: 'sops-age' } }

// ---------------------------------------------------------------------------------------------- looking

/** Longer than the shortest time that a Kustomization waits for health. */
const patience = 90_000

function kustomizationPlace(name: string): Place {
  return { apiVersion: 'kustomize.toolkit.fluxcd.io/v1', kind: 'Kustomization', namespace: fluxNamespace, name }
}

interface KustomizationStatus {
  readonly observedGeneration?: number
  readonly lastAppliedRevision?: string
  readonly lastAttemptedRevision?: string
  readonly conditions?: readonly { readonly type: string; readonly status: string; readonly reason: string }[]
  readonly inventory?: { readonly entries: readonly { readonly id: string }[] }
}

async function statusOf(name: string): Promise<KustomizationStatus> {
  return ((await plane.objects.get(kustomizationPlace(name)))?.status ?? {}) as KustomizationStatus
}

function conditionOf(status: KustomizationStatus, type: string): { status: string; reason: string } | undefined {
  return status.conditions?.find(condition => condition.type === type)
}

async function applied(scene: Scene, commit: string): Promise<void> {
  await until(
    `${scene.name} has applied ${commit}`,
    async () => {
      const status = await statusOf(scene.name)
      return status.lastAppliedRevision?.endsWith(commit) === true && conditionOf(status, 'Ready')?.status === 'True'
    },
    patience,
  )
}

/** Waits until a reconcile of this commit has ended without success, and returns why. */
async function failed(scene: Scene, commit: string): Promise<string> {
  return await until(
    `${scene.name} has failed with ${commit}`,
    async () => {
      const status = await statusOf(scene.name)
      const ready = conditionOf(status, 'Ready')
      return status.lastAttemptedRevision?.endsWith(commit) === true && ready?.status === 'False' ? ready.reason : null
    },
    patience,
  )
}

async function secretOf(scene: Scene, name = 'cacerts'): Promise<Record<string, string> | null> {
  const found = await plane.objects.get({ apiVersion: 'v1', kind: 'Secret', namespace: scene.name, name })
  if (found === null) return null
  const data = Object.entries((found.data ?? {}) as Readonly<Record<string, string>>)
  return Object.fromEntries(data.map(([key, value]) => [key, Buffer.from(value, 'base64').toString('utf8')]))
}

function deliveryOf(scene: Scene, name = scene.name): DeliveryChoice {
  return {
    kind: 'flux',
    namespace: fluxNamespace,
    name,
    file: null,
    source: { namespace: fluxNamespace, name: 'fleet' },
    decryptionSecret: 'sops-age',
  }
}

const delivered: DeliveredRepository = {
  async treeDigestAt(commit, path) {
    if ((await repository.resolve(commit)) === null) return null
    const folder = await repository.snapshot(commit).readFolderBytes(path)
    return folder.size === 0 ? null : treeDigest(folder)
  },
  isDescendant: async (commit, of) => commit === of || (await repository.isAncestor(of, commit)),
}

async function digestAt(commit: string, scene: Scene): Promise<Digest> {
  return (await delivered.treeDigestAt(commit, scene.folder)) ?? ''
}

/** A plan whose step `trust-both/1-data` is the tree that this commit has at the scene's folder. */
async function planAt(scene: Scene, planned: string): Promise<Plan> {
  const plan = await planOf()
  const digest = await digestAt(planned, scene)
  return {
    ...plan,
    sites: [{ name: site, path: scene.folder }],
    canaries: { [site]: sha256(`canary of ${scene.name}`) },
    phases: plan.phases.map(phase => ({
      ...phase,
      steps: phase.steps.map(step => {
        const here = step.sites[site]
        if (phase.number !== 2 || step.number !== 1 || here === undefined) return step
        return { ...step, sites: { [site]: { ...here, digest } } }
      }),
    })),
  }
}

interface Look {
  readonly delivery: Evidence['delivery']
  readonly applied: GateResult
  readonly canary: GateResult
  readonly secret: GateResult
}

/** What reanchor sees of the scene, and how it judges that, where the step merged last is the tree of commit `planned`. */
async function look(scene: Scene, planned: string, name?: string): Promise<Look> {
  const plan = await planAt(scene, planned)
  const [merged] = await repository.log(await repository.head('main'), { paths: [scene.folder], limit: 1 })
  const now = new Date()
  const evidence = await gatherEvidence({
    cluster,
    plan,
    site,
    phase: 2,
    step: 1,
    delivery: deliveryOf(scene, name),
    declared: { system: 'istio', istio: { ...istio, namespace: scene.name } },
    repository: delivered,
    merged: merged?.id ?? null,
    previous: null,
    now,
  })
  const gates = gatesFor(plan, 2, 1).map(gate => gate.judge(evidence, { plan, now, attestations: [] }))
  const gate = (id: string): GateResult => {
    const found = gates.find(each => each.id === id)
    if (found === undefined) throw new Error(`no gate ${id}`)
    return found
  }
  return {
    delivery: evidence.delivery,
    applied: gate('delivery/applied'),
    canary: gate('istio/canary'),
    secret: gate('istio/secret'),
  }
}

/** Runs a command that reanchor named, as the user would. */
async function runs(command: string): Promise<string> {
  return await output('bash', ['-c', command], { env: { ...process.env, KUBECONFIG: plane.kubeconfig } })
}

// ---------------------------------------------------------------------------------------------- what is shown

describe('a step through the local forge', () => {
  test('arrives decrypted and byte for byte, and reanchor sees it from the merge on', async () => {
    const scene = await addScene(
      'arrives',
      { roots: ['old'] },
      { decryption, wait: true, postBuild: { substitute: { cluster: 'eu-1' } } },
    )
    await applied(scene, scene.commit)
    expect(await look(scene, scene.commit)).toMatchObject({
      applied: { verdict: 'holds' },
      canary: { verdict: 'holds' },
      secret: { verdict: 'holds' },
    })

    const forge = await openLocalForge(repository, { now: () => new Date() })
    for (const [round, method] of (['squash', 'merge', 'rebase', 'squash'] as const).entries()) {
      const material: Material = { roots: round % 2 === 0 ? ['old', 'new'] : ['old'] }
      const files = await siteFiles(scene, material)
      const changes = new Map(Object.entries(files).map(([path, text]) => [`${scene.folder}/${path}`, text]))
      const branch = `reanchor/mesh-2026/${round}-${method}`
      const author = { name: 'Robin', email: 'robin@example.com' }
      const parent = await repository.head('main')
      const made = await repository.commit({
        parent,
        changes,
        message: 'trust both',
        trailers: {},
        author,
        at: new Date(),
      })
      await repository.publish([{ ref: `refs/heads/${branch}`, from: null, to: made }])
      // Once nothing is looked for meanwhile, so that the moment between merge and roll-out lasts.
      source.hold(round === 0)
      const opened = await forge.open({ title: 'trust both', body: '', branch, base: 'main' })
      const began = Date.now()
      const { mergeCommit } = await forge.merge(opened.number, { method, by: author, at: new Date() })
      const commit = mergeCommit ?? ''

      if (round === 0) {
        // Nothing but the tree before can be applied yet: Ready, and not this step.
        const before = await look(scene, commit)
        expect(before.delivery).toMatchObject({ ready: true, observed: true })
        expect(before.applied).toMatchObject({ verdict: 'pending' })
        source.hold(false)
      }
      const wanted = await rootsOf(material)
      const pause = 25
      await until(
        'the Secret is the step’s',
        async () => (await secretOf(scene))?.['root-cert.pem'] === wanted,
        undefined,
        pause,
      )
      const inCluster = Date.now() - began
      await applied(scene, commit)
      const artifact = source.published.find(each => each.commit === commit)
      const artifactAt = artifact?.at.getTime() ?? Number.NaN
      const since = { artifact: artifactAt - began, applied: inCluster, ready: Date.now() - began }
      if (round > 0) lags.push({ what: `a ${method} commit`, ...since })
      const plain = await plainSecrets(scene, material)
      expect(await secretOf(scene)).toEqual(plain.cacerts.data)
      expect(await secretOf(scene, 'reanchor-canary')).toEqual(plain['reanchor-canary'].data)
      const seen = await look(scene, commit)
      expect(seen.delivery).toMatchObject({
        revision: commit,
        treeDigest: treeDigest(new Map(Object.entries(files))),
        inventory: [`Secret/${scene.name}/cacerts`, `Secret/${scene.name}/reanchor-canary`],
        observed: true,
        ready: true,
      })
      expect([seen.applied.verdict, seen.canary.verdict, seen.secret.verdict]).toEqual(['holds', 'holds', 'holds'])
    }
  })

  test('stays what it is when a commit elsewhere moves the revision', async () => {
    const scene = await addScene('elsewhere', { roots: ['old'] })
    await applied(scene, scene.commit)
    const other = await fleet.commit({ 'apps/notes.txt': 'nothing of trust\n' }, 'elsewhere')
    await applied(scene, other)
    const seen = await look(scene, scene.commit)
    expect(seen.delivery.revision).toBe(other)
    expect(seen.applied.verdict).toBe('holds')
  })

  test('is told to be waited for while the controller is down, and goes on when it is back', async () => {
    const scene = await addScene('down', { roots: ['old'] })
    await applied(scene, scene.commit)
    await flux.kill()
    try {
      const next = await commit(scene, await siteFiles(scene, { roots: ['old', 'new'] }), 'down: trust both')
      await until('the artifact is there', () => source.published.some(each => each.commit === next))
      const seen = await look(scene, next)
      // Ready, observed, and of the commit before: only the revision tells.
      expect(seen.delivery).toMatchObject({ ready: true, observed: true, revision: scene.commit })
      expect(seen.applied.verdict).toBe('pending')
      expect(seen.applied.because.join()).toContain(scene.commit)
      // A step back: the tree that Git asks for is once more the one that was applied, and yet that is another time.
      const back = await commit(scene, await siteFiles(scene, { roots: ['old'] }), 'down: as before')
      expect(await digestAt(back, scene)).toBe(await digestAt(scene.commit, scene))
      expect((await look(scene, back)).applied.verdict).toBe('pending')
      await flux.start()
      await applied(scene, back)
      expect((await look(scene, back)).applied.verdict).toBe('holds')
    } finally {
      await flux.start()
    }
  })
})

describe('what Flux refuses', () => {
  test('a sealed Secret without spec.decryption: nothing of the folder is applied, and the message says why', async () => {
    const scene = await addScene('undecrypted', { roots: ['old'] }, {})
    expect(await failed(scene, scene.commit)).toBe('ReconciliationFailed')
    const seen = await look(scene, scene.commit)
    expect(seen.delivery).toMatchObject({ ready: false, revision: null, treeDigest: null })
    expect(seen.delivery.message).toContain('SOPS encrypted, configuring decryption is required')
    expect(seen.applied.verdict).not.toBe('holds')
    expect(await secretOf(scene)).toBeNull()
    expect(await secretOf(scene, 'reanchor-canary')).toBeNull()
  })

  test('a Secret sealed to a key that the cluster has not', async () => {
    const stranger = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'sops-other', namespace: fluxNamespace } }
    const { generateX25519Identity } = await import('age-encryption')
    await plane.objects.apply({ ...stranger, stringData: { 'age.agekey': await generateX25519Identity() } })
    const other = { provider: 'sops', secretRef: { name: 'sops-other' } }
    const scene = await addScene('other-key', { roots: ['old'] }, { decryption: other })
    expect(await failed(scene, scene.commit)).toBe('BuildFailed')
    const seen = await look(scene, scene.commit)
    expect(seen.delivery.message).toMatch(/cannot get sops data key|no identity matched/i)
    expect(seen.applied.verdict).not.toBe('holds')
    expect(await secretOf(scene)).toBeNull()
  })

  test('an immutable field: no object of the commit changes, and the tree applied stays the one before', async () => {
    const scene = await addScene('immutable', { roots: ['old'] })
    await applied(scene, scene.commit)
    const files = await siteFiles(scene, { roots: ['old', 'new'] })
    const changed = await siteFiles(scene, { roots: ['old', 'new'], type: 'reanchor.dev/other' })
    const next = await commit(
      scene,
      { ...files, 'reanchor-canary.yaml': changed['reanchor-canary.yaml'] ?? '' },
      'immutable: another type',
    )
    expect(await failed(scene, next)).toBe('ReconciliationFailed')
    const seen = await look(scene, next)
    expect(seen.delivery).toMatchObject({ ready: false, revision: scene.commit })
    expect(seen.delivery.message).toContain('field is immutable')
    expect(seen.applied.verdict).toBe('pending')
    // All objects are tried before any is applied, so the one that could change has not either.
    expect((await secretOf(scene))?.['root-cert.pem']).toBe(await rootsOf({ roots: ['old'] }))

    const mended = await commit(scene, files, 'immutable: the type it had')
    await applied(scene, mended)
    expect((await look(scene, mended)).applied.verdict).toBe('holds')
  })

  test('what its ServiceAccount may not do', async () => {
    const name = 'applier'
    await plane.objects.apply({
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name, namespace: fluxNamespace },
    })
    const scene = await addScene('forbidden', { roots: ['old'] }, { decryption, serviceAccountName: name })
    expect(await failed(scene, scene.commit)).toBe('ReconciliationFailed')
    const seen = await look(scene, scene.commit)
    expect(seen.delivery.message).toContain('forbidden')
    expect(seen.delivery.revision).toBeNull()
    expect(seen.applied.verdict).not.toBe('holds')

    await plane.objects.apply({
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'Role',
      metadata: { name, namespace: scene.name },
      rules: [{ apiGroups: [''], resources: ['secrets'], verbs: ['*'] }],
    })
    await plane.objects.apply({
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata: { name, namespace: scene.name },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name },
      subjects: [{ kind: 'ServiceAccount', name, namespace: fluxNamespace }],
    })
    await applied(scene, scene.commit)
    expect((await look(scene, scene.commit)).applied.verdict).toBe('holds')
  })
})

describe('a Kustomization that does not get on', () => {
  test('suspended: it stays Ready with the commit before, and reanchor calls it suspended', async () => {
    const scene = await addScene('suspended', { roots: ['old'] })
    await applied(scene, scene.commit)
    await plane.objects.merge(kustomizationPlace(scene.name), { spec: { suspend: true } })
    const next = await commit(scene, await siteFiles(scene, { roots: ['old', 'new'] }), 'suspended: trust both')
    await until('the artifact is there', () => source.published.some(each => each.commit === next))
    const seen = await look(scene, next)
    expect(seen.delivery).toMatchObject({ suspended: true, ready: true, revision: scene.commit })
    expect(seen.applied).toMatchObject({ verdict: 'violated', because: [expect.stringContaining('is suspended')] })
    // Not even for the tree that is applied: nobody puts back what is changed by hand.
    expect((await look(scene, scene.commit)).applied.verdict).toBe('violated')
    await plane.objects.merge(kustomizationPlace(scene.name), { spec: { suspend: false } })
    await applied(scene, next)
    expect((await look(scene, next)).applied.verdict).toBe('holds')
  })

  test('a failed health check: the objects are changed, and the tree still counts as not applied', async () => {
    const scene = await addScene('unhealthy', { roots: ['old'] }, { decryption, wait: true, retryInterval: '2s' })
    await applied(scene, scene.commit)
    const files = await siteFiles(scene, {
      roots: ['old', 'new'],
      more: { 'app.yaml': deployment(scene.name, { late: 'true' }) },
    })
    const next = await commit(scene, files, 'unhealthy: with a workload that never gets ready')
    expect(await failed(scene, next)).toBe('HealthCheckFailed')
    const seen = await look(scene, next)
    expect(seen.delivery).toMatchObject({ ready: false, revision: scene.commit })
    expect(seen.delivery.message).toContain(`Deployment/${scene.name}/app`)
    expect(seen.applied.verdict).not.toBe('holds')
    expect((await secretOf(scene))?.['root-cert.pem']).toBe(await rootsOf({ roots: ['old', 'new'] }))

    await labelNode('late')
    await applied(scene, next)
    expect((await look(scene, next)).applied.verdict).toBe('holds')
  })

  test('a phase merged while another still applies: at no moment is the one taken for the other', async () => {
    const scene = await addScene('overtaken', { roots: ['old'] }, { decryption, wait: true, timeout: '60s' })
    await applied(scene, scene.commit)
    const app = { 'app.yaml': deployment(scene.name, { overtaken: 'true' }) }
    const first = await commit(
      scene,
      await siteFiles(scene, { roots: ['old', 'new'], more: app }),
      'overtaken: trust both',
    )
    await until('the first is applied and waited for', async () =>
      conditionOf(await statusOf(scene.name), 'Reconciling') === undefined
        ? null
        : (await secretOf(scene))?.['root-cert.pem'] === (await rootsOf({ roots: ['old', 'new'] })),
    )
    const applying = await look(scene, first)
    expect(applying.delivery).toMatchObject({ ready: false, revision: scene.commit })
    expect(applying.applied.verdict).toBe('pending')
    expect(applying.delivery.message).toContain('Running health checks')

    const second = await commit(scene, await siteFiles(scene, { roots: ['new'], more: app }), 'overtaken: trust new')
    await until('the artifact is there', () => source.published.some(each => each.commit === second))
    const waiting = await look(scene, second)
    expect(waiting.applied.verdict).toBe('pending')
    // It waits for the first to the end: a new revision ends no health check (feature gate CancelHealthCheckOnNewRevision).
    expect((await statusOf(scene.name)).lastAttemptedRevision).toContain(first)
    expect((await secretOf(scene))?.['root-cert.pem']).toBe(await rootsOf({ roots: ['old', 'new'] }))

    const wanted = await rootsOf({ roots: ['new'] })
    const seen: string[] = []
    let release: Promise<void> | null = null
    await until(
      'the second is applied',
      async () => {
        const { applied: gate, delivery } = await look(scene, second)
        const now = await secretOf(scene)
        seen.push(`${delivery.ready} ${delivery.revision === second} ${gate.verdict}`)
        // Looked at before the Secret: what holds then must be true now.
        if (gate.verdict === 'holds') expect(now?.['root-cert.pem']).toBe(wanted)
        release ??= labelNode('overtaken')
        await release
        return gate.verdict === 'holds'
      },
      60_000,
      20,
    )
    expect(seen.at(-1)).toBe('true true holds')
    expect(seen.slice(0, -1).some(line => line.endsWith('holds'))).toBe(false)
  })

  test('another path, another branch, or no such object: never the step', async () => {
    const scene = await addScene('astray', { roots: ['old'] })
    await applied(scene, scene.commit)
    const place = kustomizationPlace(scene.name)
    await fleet.git('push', '--quiet', 'origin', 'HEAD:refs/heads/staging')
    const next = await commit(scene, await siteFiles(scene, { roots: ['old', 'new'] }), 'astray: trust both')
    await applied(scene, next)

    await plane.objects.apply(gitRepository({ name: 'staging', branch: 'staging' }))
    await plane.objects.merge(place, { spec: { sourceRef: { name: 'staging' } } })
    await applied(scene, scene.commit)
    const branch = await look(scene, next)
    expect(branch.delivery).toMatchObject({ ready: true, observed: true, revision: scene.commit })
    expect(branch.applied.verdict).toBe('pending')
    expect(branch.delivery.message).toContain('does not contain')

    await plane.objects.merge(place, { spec: { sourceRef: { name: 'fleet' }, path: './trust/elsewhere' } })
    await applied(scene, next)
    const path = await look(scene, next)
    expect(path.delivery).toMatchObject({ treeDigest: null, message: `applies trust/elsewhere, not ${scene.folder}` })
    expect(path.applied.verdict).not.toBe('holds')

    const none = await look(scene, next, 'no-such')
    expect(none.delivery).toMatchObject({ message: expect.stringMatching(/^does not exist/), revision: null })
    expect(none.applied.verdict).not.toBe('holds')
  })
})

describe('what Flux takes away and puts back', () => {
  test('prunes what leaves the folder, and leaves what is annotated prune: disabled', async () => {
    const config = `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes, namespace: pruned}\ndata: {a: b}\n`
    const scene = await addScene('pruned', { roots: ['old'], more: { 'notes.yaml': config } })
    await applied(scene, scene.commit)
    const notes: Place = { apiVersion: 'v1', kind: 'ConfigMap', namespace: scene.name, name: 'notes' }
    expect(await plane.objects.get(notes)).not.toBeNull()

    const files = await siteFiles(scene, { roots: ['old'], without: ['cacerts'] })
    const next = await commit(scene, { ...files, 'notes.yaml': null, 'cacerts.yaml': null }, 'pruned: without both')
    await applied(scene, next)
    expect(await plane.objects.get(notes)).toBeNull()
    expect(Object.keys((await secretOf(scene)) ?? {})).toHaveLength(4)
    const seen = await look(scene, next)
    expect(seen.delivery.inventory).toEqual([`Secret/${scene.name}/reanchor-canary`])
    expect(seen.applied).toMatchObject({ verdict: 'pending', because: [expect.stringContaining('lacks cacerts')] })
  })

  test('puts a hand edit back at its next reconcile, and not before', async () => {
    const scene = await addScene('edited', { roots: ['old'] })
    await applied(scene, scene.commit)
    const byHand = Buffer.from('by hand').toString('base64')
    const patch = JSON.stringify({ data: { 'root-cert.pem': byHand, 'tls.crt': byHand } })
    await runs(`kubectl --namespace ${scene.name} patch secret cacerts --type=merge --patch '${patch}'`)
    const edited = await look(scene, scene.commit)
    // The deliverer knows nothing of it: what is read of the Secret itself does.
    expect(edited.applied.verdict).toBe('holds')
    expect(edited.secret.verdict).toBe('violated')
    expect(edited.secret.because.join()).toContain('kubectl-patch')
    await flux.reconcile('Kustomization', fluxNamespace, scene.name)
    expect(await secretOf(scene)).toEqual((await plainSecrets(scene, { roots: ['old'] })).cacerts.data)
    expect((await look(scene, scene.commit)).secret.verdict).toBe('holds')
  })

  test('leaves a key of another manager, and the command that reanchor names takes it away', async () => {
    const scene = await addScene('foreign-key', { roots: ['old'] })
    await applied(scene, scene.commit)
    const patch = JSON.stringify({ data: { 'tls.crt': Buffer.from('stale').toString('base64') } })
    const manager = '--field-manager=pilot-discovery'
    await runs(`kubectl --namespace ${scene.name} patch secret cacerts ${manager} --type=merge --patch '${patch}'`)
    await flux.reconcile('Kustomization', fluxNamespace, scene.name)
    expect((await secretOf(scene))?.['tls.crt']).toBe('stale')
    const seen = await look(scene, scene.commit)
    expect(seen.secret).toMatchObject({ verdict: 'violated' })
    expect(seen.secret.because.join()).toContain('tls.crt is not ours (owned by pilot-discovery)')
    const command = commandIn(seen.secret.hint)
    expect(command).not.toBe('')
    await runs(command)
    expect(await secretOf(scene)).toEqual((await plainSecrets(scene, { roots: ['old'] })).cacerts.data)
    await flux.reconcile('Kustomization', fluxNamespace, scene.name)
    expect((await look(scene, scene.commit)).secret.verdict).toBe('holds')
  })

  test('shares its keys with who made the Secret before, until the command that reanchor names has been run', async () => {
    const name = 'shared-keys'
    await plane.objects.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
    const { data } = (await plainSecrets({ name, folder: '' }, { roots: ['old'] })).cacerts
    const encoded = Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString('base64')])
    const before = { apiVersion: 'v1', kind: 'Secret', type: 'Opaque', data: Object.fromEntries(encoded) }
    const text = JSON.stringify({ ...before, metadata: { name: 'cacerts', namespace: name } })
    await runs(`kubectl create --field-manager=terraform --filename - <<< '${text}'`)
    await runs(`kubectl apply --server-side --field-manager=vault --filename - <<< '${text}'`)
    const scene = await addScene(name, { roots: ['old'] })
    await applied(scene, scene.commit)
    const seen = await look(scene, scene.commit)
    expect(seen.secret.verdict).toBe('violated')
    expect(seen.secret.because.join()).toContain('is also owned by kustomize-controller, terraform, vault')

    await runs(commandIn(seen.secret.hint))
    expect(await secretOf(scene)).toEqual(data)
    expect((await look(scene, scene.commit)).secret.verdict).toBe('holds')
    await flux.reconcile('Kustomization', fluxNamespace, scene.name)
    expect((await look(scene, scene.commit)).secret.verdict).toBe('holds')
    // And now a key that leaves Git leaves the Secret.
    const fewer = await plainSecrets(scene, { roots: ['old'] })
    const { 'cert-chain.pem': _dropped, ...kept } = fewer.cacerts.data
    const sealed = await custody.seal({ ...fewer.cacerts, data: kept }, `${scene.folder}/cacerts.yaml`)
    await applied(scene, await commit(scene, { 'cacerts.yaml': sealed }, 'shared-keys: one key less'))
    expect(await secretOf(scene)).toEqual(kept)
  })

  test('takes no ownership of a Secret whose managedFields were cleared, while its content is what Git says', async () => {
    const scene = await addScene('cleared', { roots: ['old'] })
    await applied(scene, scene.commit)
    const clear = JSON.stringify({ metadata: { managedFields: [{}] } })
    await runs(`kubectl --namespace ${scene.name} patch secret cacerts --type=merge --patch '${clear}'`)
    await flux.reconcile('Kustomization', fluxNamespace, scene.name)
    const seen = await look(scene, scene.commit)
    expect(seen.secret).toMatchObject({
      verdict: 'unknown',
      because: [expect.stringContaining('has no managedFields')],
    })
    // Anything that differs makes it apply, and the reconcile after that takes over what was there before.
    await runs(`kubectl --namespace ${scene.name} label secret cacerts app.kubernetes.io/managed-by-`)
    await flux.reconcile('Kustomization', fluxNamespace, scene.name)
    await flux.reconcile('Kustomization', fluxNamespace, scene.name)
    expect((await look(scene, scene.commit)).secret.verdict).toBe('holds')
  })
})

describe('who reaches a folder', () => {
  const target = 'fleets/reached/site'

  /** Flux's objects of one layout, as they stand in Git and in the cluster. */
  function layout(parent: Readonly<Record<string, unknown>>, ignore?: string): Readonly<Record<string, string>> {
    const repositories = [
      gitRepository({ name: 'reached' }),
      gitRepository({ name: 'parent', ...(ignore === undefined ? {} : { ignore }) }),
    ]
    const objects = [
      ...repositories,
      kustomization('reached', `./${target}`, 'reached', { decryption }),
      kustomization('parent', './fleets/reached', 'parent', { decryption, retryInterval: '2s', ...parent }),
    ]
    return { 'clusters/reached/flux.yaml': objects.map(each => `---\n${JSON.stringify(each)}\n`).join('') }
  }

  async function show(files: Readonly<Record<string, string | null>>) {
    const commit = await fleet.commit(files, 'who reaches it')
    await plane.objects.applyYaml(files['clusters/reached/flux.yaml'] ?? '')
    for (const name of ['reached', 'parent']) {
      await flux.reconcile('GitRepository', fluxNamespace, name)
      await until(`${name} has applied ${commit}`, async () => {
        const { lastAppliedRevision, observedGeneration } = await statusOf(name)
        const generation = (await plane.objects.get(kustomizationPlace(name)))?.metadata.generation
        return lastAppliedRevision?.endsWith(commit) === true && observedGeneration === generation
      })
    }
    const tree = await repository.snapshot(commit).readFolder('')
    const own: DeliveryChoice = {
      ...(deliveryOf({ name: 'reached', folder: target }) as Extract<DeliveryChoice, { kind: 'flux' }>),
      file: 'clusters/reached/flux.yaml',
      source: { namespace: fluxNamespace, name: 'reached' },
    }
    const predicted = reachOf(reach(tree, {}), target)
      .filter(({ how }) => how !== 'component')
      .map(({ reader }) => reader.name)
    const real: string[] = []
    for (const name of ['reached', 'parent']) {
      const ids = (await statusOf(name)).inventory?.entries.map(({ id }) => id) ?? []
      if (ids.includes('reached_cacerts__Secret')) real.push(name)
    }
    const options = { sites: [{ name: 'eu-1', path: target, delivery: own }], rotationsFolder: 'rotations' }
    return { predicted: predicted.sort(), real: real.sort(), problems: checkReach(tree, options) }
  }

  test('is what the real controller does: a parent that recurses, one that lists, one that ignores the folder', async () => {
    const scene = { name: 'reached', folder: target }
    await plane.objects.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'reached' } })
    const config = (name: string) =>
      `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ${name}, namespace: reached}\ndata: {a: b}\n`
    const component = {
      apiVersion: 'kustomize.config.k8s.io/v1alpha1',
      kind: 'Component',
      patches: [{ target: { kind: 'ConfigMap' }, patch: '[{"op":"add","path":"/data/trust","value":"t"}]' }],
    }
    const files = await siteFiles(scene, { roots: ['old'], more: { 'notes.yaml': config('notes') } })
    const folder: Record<string, string | null> = {
      'fleets/reached/apps.yaml': config('apps'),
      [`${target}/components/istiod/kustomization.yaml`]: JSON.stringify(component),
    }
    for (const [path, text] of Object.entries(files)) folder[`${target}/${path}`] = text

    const recursing = await show({ ...folder, ...layout({}) })
    expect(recursing.real).toEqual(['parent', 'reached'])
    expect(recursing.predicted).toEqual(recursing.real)
    expect(recursing.problems).toMatchObject([{ what: expect.stringContaining('is applied 2 times'), site: 'eu-1' }])

    const listing = await show({
      'fleets/reached/kustomization.yaml': JSON.stringify({
        apiVersion: 'kustomize.config.k8s.io/v1beta1',
        kind: 'Kustomization',
        resources: ['apps.yaml'],
        components: ['site/components/istiod'],
      }),
      ...layout({}),
    })
    expect(listing.real).toEqual(['reached'])
    expect(listing.predicted).toEqual(listing.real)
    expect(listing.problems).toEqual([])
    const apps = await plane.objects.get({ apiVersion: 'v1', kind: 'ConfigMap', namespace: 'reached', name: 'apps' })
    expect(apps?.data).toEqual({ a: 'b', trust: 't' })
    // The parent let go of the folder: what is `prune: disabled` is there all the same.
    expect(Object.keys((await secretOf(scene)) ?? {})).toHaveLength(4)

    const ignoring = await show({
      'fleets/reached/kustomization.yaml': null,
      ...layout({}, '/fleets/reached/site/\n'),
    })
    expect(ignoring.real).toEqual(['reached'])
    expect(ignoring.predicted).toEqual(ignoring.real)
    expect(ignoring.problems).toEqual([])
  })
})

/** Lets the pods in that choose a node by this label. */
async function labelNode(label: string): Promise<void> {
  const node: Place = { apiVersion: 'v1', kind: 'Node', name: 'fake-0' }
  await plane.objects.merge(node, { metadata: { labels: { [label]: 'true' } } })
}

/** The command of a hint, which stands after its first colon. */
function commandIn(hint: string | null): string {
  return /kubectl .*$/.exec(hint ?? '')?.[0] ?? ''
}

function deployment(namespace: string, nodeSelector: Readonly<Record<string, string>>): string {
  const labels = { app: 'app' }
  // kstatus calls a Deployment failed at its deadline; Kustomizations themselves wait for 30 s at the least.
  const progressDeadlineSeconds = nodeSelector.late === undefined ? 600 : 2
  return JSON.stringify({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'app', namespace },
    spec: {
      replicas: 1,
      progressDeadlineSeconds,
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { nodeSelector, containers: [{ name: 'app', image: 'rig/none' }] } },
    },
  })
}
