import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse, stringify } from 'yaml'
import type { Cluster } from '../../src/cluster/cluster.ts'
import { openKubernetesCluster } from '../../src/cluster/kubernetes.ts'
import type { PlainSecret } from '../../src/custody/custody.ts'
import { observeDelivery } from '../../src/delivery/delivery.ts'
import { applicationOf } from '../../src/gitops/argocd.ts'
import { applicationValues } from '../../src/gitops/helm.ts'
import type { ManifestObject } from '../../src/gitops/manifests.ts'
import { reach } from '../../src/gitops/reach.ts'
import { openRepository, type Repository } from '../../src/repository/repository.ts'
import { treeDigest } from '../../src/repository/tree-digest.ts'
import type { DeliveryEvidence } from '../../src/rotation.ts'
import { type Application, type ArgoCd, startArgoCd } from './rig/argocd.ts'
import { output } from './rig/components.ts'
import { type ControlPlane, startControlPlane } from './rig/control-plane.ts'
import { createNetwork, type Network } from './rig/network.ts'
import type { Manifest } from './rig/objects.ts'
import { type FleetRepository, makeRepository } from './rig/repository.ts'
import { type SealedSecrets, startSealedSecrets } from './rig/sealed-secrets.ts'
import { until } from './rig/server.ts'

let network: Network
let plane: ControlPlane
let argo: ArgoCd
let sealedSecrets: SealedSecrets
let fleet: FleetRepository
let repository: Repository
/** With the rights of the verifier alone. */
let cluster: Cluster

beforeAll(async () => {
  network = await createNetwork()
  plane = await startControlPlane({ name: 'eu-1', network, fakeNodes: 1 })
  sealedSecrets = await startSealedSecrets(plane)
  argo = await startArgoCd(plane)
  fleet = await makeRepository(() => ({ 'README.md': '# Fleet\n' }))
  repository = await openRepository(fleet.clone)
  await plane.objects.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'istio-system' } })
  await plane.objects.applyFile(new URL('../../roles/istio.yaml', import.meta.url).pathname)
  const file = await plane.kubeconfigOf('reanchor', 'reanchor-verifier')
  cluster = await openKubernetesCluster({ kind: 'kubeconfig', file, context: null })
})

afterAll(async () => {
  await cluster?.close()
  await argo?.stop()
  await plane?.stop()
  await fleet?.close()
  await network?.close()
})

// ---------------------------------------------------------------------------------------------- what is declared

type Files = Readonly<Record<string, string | null>>

const kustomization = (fields: object): string => stringify(fields)
const configMap = (name: string, data: Readonly<Record<string, string>>, annotations: object = {}): string =>
  stringify({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, annotations }, data })

function canary(namespace: string, value = randomBytes(16).toString('hex')): PlainSecret {
  return {
    name: 'reanchor-canary',
    namespace,
    type: 'Opaque',
    labels: { 'app.kubernetes.io/managed-by': 'reanchor' },
    annotations: { 'argocd.argoproj.io/sync-options': 'Prune=false' },
    data: { canary: value },
    privateKeys: ['canary'],
  }
}

/** A scenario has a namespace, a folder of the repository and an Application of its own, all of one name. */
interface Scenario {
  readonly name: string
  /** The site's folder. */
  readonly path: string
  commit(files: Files, message?: string): Promise<string>
  /** Lets Argo CD have the folder. `spec` replaces fields of the Application. */
  deliver(spec?: object, annotations?: Readonly<Record<string, string>>): Promise<void>
  settled(is: (application: Application) => boolean, what: string, patience?: number): Promise<Application>
  /** Waits until this commit is synced and healthy. */
  arrived(commit: string): Promise<Application>
  observe(merged?: string | null, path?: string): Promise<DeliveryEvidence>
  refresh(): Promise<void>
  get(kind: string, name: string, apiVersion?: string): Promise<Manifest | null>
  value(configMap: string, key: string): Promise<string | null>
}

const automated = { syncPolicy: { automated: {} } }

async function scenario(name: string): Promise<Scenario> {
  const path = `sites/${name}/trust`
  await plane.objects.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  const source = { repoURL: fleet.url, path, targetRevision: 'main' }
  const destination = { server: 'https://kubernetes.default.svc', namespace: name }
  const get = (kind: string, object: string, apiVersion = 'v1'): Promise<Manifest | null> =>
    plane.objects.get({ apiVersion, kind, namespace: name, name: object })
  return {
    name,
    path,
    commit: async (files, message = `${name} changes`) => {
      const under = Object.entries(files).map(([file, text]) => [
        file.startsWith('/') ? file.slice(1) : `${path}/${file}`,
        text,
      ])
      return await fleet.commit(Object.fromEntries(under), message)
    },
    deliver: async (spec = automated, annotations = {}) => {
      await plane.objects.apply({
        apiVersion: 'argoproj.io/v1alpha1',
        kind: 'Application',
        metadata: { name, namespace: argo.namespace, annotations },
        spec: { project: 'default', ...('sources' in spec ? {} : { source }), destination, ...spec },
      })
    },
    settled: (is, what, patience) => argo.settled(name, is, what, patience),
    arrived: commit =>
      argo.settled(
        name,
        ({ sync, health, revisions, phase }) =>
          sync === 'Synced' && health === 'Healthy' && revisions.includes(commit) && phase !== 'Running',
        `is at ${commit}`,
      ),
    observe: (merged = null, site = path) =>
      observeDelivery({
        cluster,
        delivery: {
          kind: 'argocd',
          namespace: argo.namespace,
          name,
          file: null,
          repoURL: fleet.url,
          project: 'default',
        },
        path: site,
        repository: delivered,
        merged,
        now: new Date(),
      }),
    refresh: () => argo.refresh(name),
    get,
    value: async (object, key) => {
      const found = await get('ConfigMap', object)
      return ((found?.data ?? {}) as Readonly<Record<string, string>>)[key] ?? null
    },
  }
}

const sourceOf = (path: string) => ({ repoURL: fleet.url, targetRevision: 'main', path })

// As the commands ask the clone (src/commands/verify.ts).
const delivered = {
  async treeDigestAt(commit: string, path: string) {
    if ((await repository.resolve(commit)) === null) return null
    const folder = await repository.snapshot(commit).readFolderBytes(path)
    return folder.size === 0 ? null : treeDigest(folder)
  },
  isDescendant: async (commit: string, of: string) => commit === of || (await repository.isAncestor(of, commit)),
}

const treeAt = (commit: string, path: string) => delivered.treeDigestAt(commit, path)

/** Measured, and told at the end; never asserted. */
const lags: string[] = []
async function timed<T>(what: string, action: () => Promise<T>): Promise<T> {
  const began = Date.now()
  const result = await action()
  lags.push(`${what}: ${((Date.now() - began) / 1000).toFixed(1)} s`)
  return result
}
afterAll(() => process.stderr.write(`${lags.map(lag => `real: ${lag}\n`).join('')}`))

// ------------------------------------------------------------------------------------------------------ a step

describe('a step that is merged', () => {
  it('arrives byte for byte, and the verifier sees which tree it is', async () => {
    const site = await scenario('arrives')
    const probe = canary(site.name)
    const first = await site.commit({
      'kustomization.yaml': kustomization({ resources: ['canary.yaml', 'public.yaml'] }),
      'canary.yaml': await sealedSecrets.seal(probe),
      'public.yaml': configMap('public', { 'root-cert.pem': 'old\n' }),
      'trust.txt': 'reanchor mesh-2026 0-adopt/1-adopt arrives\n',
    })
    await timed('new Application to Synced and Healthy', async () => {
      await site.deliver()
      await site.arrived(first)
    })
    expect(await site.observe(first)).toMatchObject({
      kind: 'argocd',
      object: 'Application/argocd/arrives',
      suspended: false,
      observed: true,
      ready: true,
      revision: first,
      treeDigest: await treeAt(first, site.path),
      inventory: ['ConfigMap/arrives/public', 'SealedSecret/arrives/reanchor-canary'],
      message: '',
    })
    const secret = await until('the canary is unsealed', () => site.get('Secret', probe.name))
    const { canary: encoded } = secret.data as Readonly<Record<string, string>>
    expect(Buffer.from(encoded ?? '', 'base64').toString()).toBe(probe.data.canary)

    const second = await site.commit({
      'public.yaml': configMap('public', { 'root-cert.pem': 'old\nnew\n' }),
      'trust.txt': 'reanchor mesh-2026 2-trust-both/1-data arrives\n',
    })
    await timed('commit to Synced and Healthy, comparing every 3 s', () => site.arrived(second))
    expect(await site.observe(second)).toMatchObject({
      ready: true,
      revision: second,
      treeDigest: await treeAt(second, site.path),
    })
    expect(await site.value('public', 'root-cert.pem')).toBe('old\nnew\n')
  })

  it('is not taken for delivered while Argo CD has not looked at Git', async () => {
    const site = await scenario('late')
    const first = await site.commit({
      'kustomization.yaml': kustomization({ resources: ['public.yaml'] }),
      'public.yaml': configMap('public', { bundle: 'old\n' }),
    })
    await site.deliver()
    await site.arrived(first)
    argo.controller.pause()
    try {
      const second = await site.commit({ 'public.yaml': configMap('public', { bundle: 'old\nnew\n' }) })
      const seen = await site.observe(second)
      // Argo CD itself says Synced and Healthy all the while.
      expect(seen).toMatchObject({ ready: true, revision: first, treeDigest: await treeAt(first, site.path) })
      expect(seen.treeDigest).not.toBe(await treeAt(second, site.path))
      expect(seen.message).toContain(`does not contain ${second}`)
      // A later merge that brings the first tree back is not delivered by the first.
      const third = await site.commit({ 'public.yaml': configMap('public', { bundle: 'old\n' }) })
      expect(await treeAt(third, site.path)).toBe(await treeAt(first, site.path))
      expect(await site.observe(third)).toMatchObject({ revision: first, treeDigest: null })
    } finally {
      argo.controller.resume()
    }
  })

  it('is hurried by the command that the verifier shows', async () => {
    const site = await scenario('hurried')
    const first = await site.commit({
      'kustomization.yaml': kustomization({ resources: ['public.yaml'] }),
      'public.yaml': configMap('public', { bundle: 'old\n' }),
    })
    await site.deliver()
    await site.arrived(first)
    const second = await site.commit({ 'public.yaml': configMap('public', { bundle: 'old\nnew\n' }) })
    const { hurry } = await site.observe(second)
    await timed('the command shown to Synced and Healthy', async () => {
      const [program = '', ...args] = (hurry ?? '').split(' ')
      await output(program, args, { env: { ...process.env, KUBECONFIG: plane.kubeconfig } })
      await site.arrived(second)
    })
  })

  it('counts as delivered where a commit elsewhere changes nothing of it', async () => {
    const site = await scenario('elsewhere')
    const first = await site.commit({
      'kustomization.yaml': kustomization({ resources: ['public.yaml'] }),
      'public.yaml': configMap('public', { bundle: 'old\n' }),
    })
    await site.deliver()
    const before = await site.arrived(first)
    const second = await site.commit({ '/elsewhere.txt': 'x\n' })
    const after = await site.arrived(second)
    // No operation ran for it.
    expect(after.operationRevisions).toEqual(before.operationRevisions)
    expect(await site.observe(second)).toMatchObject({
      ready: true,
      revision: second,
      treeDigest: await treeAt(first, site.path),
    })
  })

  it('counts as delivered where the Application names the paths that it is made from', async () => {
    const site = await scenario('paths')
    const first = await site.commit({
      'kustomization.yaml': kustomization({ resources: ['public.yaml'] }),
      'public.yaml': configMap('public', { bundle: 'old\n' }),
    })
    await site.deliver(automated, { 'argocd.argoproj.io/manifest-generate-paths': '.' })
    await site.arrived(first)
    const second = await site.commit({ '/elsewhere-too.txt': 'x\n' })
    await site.arrived(second)
    expect(await site.observe(second)).toMatchObject({ ready: true, treeDigest: await treeAt(first, site.path) })
    const third = await site.commit({ 'public.yaml': configMap('public', { bundle: 'old\nnew\n' }) })
    await site.arrived(third)
    expect(await site.value('public', 'bundle')).toBe('old\nnew\n')
  })
})

// --------------------------------------------------------------------------------------------------- what goes

describe('an object that leaves the folder', () => {
  async function withTwo(site: Scenario): Promise<string> {
    return await site.commit({
      'kustomization.yaml': kustomization({ resources: ['stays.yaml', 'kept.yaml', 'pruned.yaml'] }),
      'stays.yaml': configMap('stays', { a: '1' }),
      'kept.yaml': configMap('kept', { a: '1' }, { 'argocd.argoproj.io/sync-options': 'Prune=false' }),
      'pruned.yaml': configMap('pruned', { a: '1' }),
    })
  }
  const alone = {
    'kustomization.yaml': kustomization({ resources: ['stays.yaml'] }),
    'kept.yaml': null,
    'pruned.yaml': null,
  }

  it('is deleted with prune, unless it says Prune=false: then it stays, and the Application is OutOfSync for good', async () => {
    const site = await scenario('prune')
    await withTwo(site)
    await site.deliver({ syncPolicy: { automated: { prune: true } } })
    await site.settled(({ sync }) => sync === 'Synced', 'is synced')
    const second = await site.commit(alone)
    await until('the one without protection is gone', async () => (await site.get('ConfigMap', 'pruned')) === null)
    await site.settled(
      ({ phase, operationRevisions }) => phase === 'Succeeded' && operationRevisions.includes(second),
      'has synced',
    )
    await sleep(3000)
    expect(await site.value('kept', 'a')).toBe('1')
    const seen = await site.observe(second)
    // All that Git declares is applied, and the verifier says what is left over.
    expect(seen).toMatchObject({
      ready: true,
      revision: second,
      treeDigest: await treeAt(second, site.path),
      inventory: ['ConfigMap/prune/stays'],
      message: 'ConfigMap/prune/kept left the folder and stays, by Prune=false',
    })
  })

  it('stays without prune, and the verifier does not take that for the new tree', async () => {
    const site = await scenario('no-prune')
    await withTwo(site)
    await site.deliver()
    await site.settled(({ sync }) => sync === 'Synced', 'is synced')
    const second = await site.commit(alone)
    await site.settled(({ sync, revisions }) => sync === 'OutOfSync' && revisions.includes(second), 'is out of sync')
    await sleep(3000)
    expect(await site.value('pruned', 'a')).toBe('1')
    const seen = await site.observe(second)
    expect(seen).toMatchObject({ ready: false, revision: second, inventory: ['ConfigMap/no-prune/stays'] })
    // Without a sync that would prune, and without the right to read ConfigMaps, it is not known which of them asks to stay.
    expect(seen.message).toBe(
      'sync is OutOfSync: ConfigMap/no-prune/kept, ConfigMap/no-prune/pruned left the folder and is not pruned: delete it, or sync with prune',
    )
  })
})

// ------------------------------------------------------------------------------------------------------- drift

describe('a live object that someone changes', () => {
  async function drifted(site: Scenario, spec: object): Promise<string> {
    const commit = await site.commit({
      'kustomization.yaml': kustomization({ resources: ['public.yaml'] }),
      'public.yaml': configMap('public', { bundle: 'old\nnew\n' }),
    })
    await site.deliver(spec)
    await site.arrived(commit)
    const place = { apiVersion: 'v1', kind: 'ConfigMap', namespace: site.name, name: 'public' }
    await plane.objects.merge(place, { data: { bundle: 'new\n' } })
    return commit
  }

  it('makes the step not ready, and stays as it is without self-healing', async () => {
    const site = await scenario('drift')
    const commit = await drifted(site, automated)
    await timed('change of a live object to OutOfSync', () =>
      site.settled(({ sync }) => sync === 'OutOfSync', 'drifted'),
    )
    await sleep(4000)
    expect(await site.value('public', 'bundle')).toBe('new\n')
    expect(await site.observe(commit)).toMatchObject({
      ready: false,
      revision: commit,
      message: 'sync is OutOfSync: ConfigMap/drift/public',
    })
  })

  it('is put back by self-healing', async () => {
    const site = await scenario('heals')
    const commit = await drifted(site, { syncPolicy: { automated: { selfHeal: true } } })
    await timed('change of a live object to healed', () =>
      until('the bundle is back', async () => (await site.value('public', 'bundle')) === 'old\nnew\n'),
    )
    await site.arrived(commit)
    expect(await site.observe(commit)).toMatchObject({ ready: true, revision: commit })
  })

  it('is not seen where no one but a controller owns it: an unsealed Secret is none of the Application', async () => {
    const site = await scenario('unsealed')
    const probe = canary(site.name)
    const commit = await site.commit({
      'kustomization.yaml': kustomization({ resources: ['canary.yaml'] }),
      'canary.yaml': await sealedSecrets.seal(probe),
    })
    await site.deliver({ syncPolicy: { automated: { selfHeal: true } } })
    await site.arrived(commit)
    await plane.objects.merge(
      { apiVersion: 'v1', kind: 'Secret', namespace: site.name, name: probe.name },
      { stringData: { canary: 'edited' } },
    )
    await site.refresh()
    await sleep(4000)
    expect(await site.observe(commit)).toMatchObject({
      ready: true,
      inventory: ['SealedSecret/unsealed/reanchor-canary'],
    })
  })
})

// -------------------------------------------------------------------------------------------------- automation

describe('an Application that does not sync by itself', () => {
  it.each([
    ['says nothing of it', 'manual', {}],
    ['has it switched off', 'off', { syncPolicy: { automated: { enabled: false } } }],
  ])('is suspended where it %s, however it was synced', async (_how, name, spec) => {
    const site = await scenario(name)
    const first = await site.commit({
      'kustomization.yaml': kustomization({ resources: ['public.yaml'] }),
      'public.yaml': configMap('public', { bundle: 'old\n' }),
    })
    await site.deliver(spec)
    await site.settled(({ sync }) => sync === 'OutOfSync', 'is compared')
    await sleep(3000)
    expect(await site.get('ConfigMap', 'public')).toBeNull()
    expect(await site.observe(first)).toMatchObject({
      suspended: true,
      ready: false,
      revision: first,
      message: `sync is OutOfSync: ConfigMap/${name}/public; health is Missing; automatic sync is off`,
    })
    // What the button does.
    await plane.objects.merge(
      { apiVersion: 'argoproj.io/v1alpha1', kind: 'Application', namespace: argo.namespace, name },
      { operation: { initiatedBy: { username: 'robin' }, sync: { revision: first } } },
    )
    await site.arrived(first)
    expect(await site.observe(first)).toMatchObject({
      suspended: true,
      ready: true,
      treeDigest: await treeAt(first, site.path),
      message: 'synced by hand: automatic sync is off',
    })
  })
})

// ---------------------------------------------------------------------------------------------------- failures

describe('a step that cannot be applied', () => {
  it('is not ready where a SealedSecret does not open, and is ready after the next merge', async () => {
    const site = await scenario('degraded')
    const foreign = (await sealedSecrets.seal(canary('arrives'))).replaceAll(
      'namespace: arrives',
      `namespace: ${site.name}`,
    )
    const first = await site.commit({
      'kustomization.yaml': kustomization({ resources: ['canary.yaml'] }),
      'canary.yaml': foreign,
    })
    await site.deliver()
    await site.settled(({ health }) => health === 'Degraded', 'is degraded')
    const seen = await site.observe(first)
    expect(seen).toMatchObject({ ready: false, revision: first })
    expect(seen.message).toContain('health is Degraded')
    const probe = canary(site.name)
    const second = await site.commit({ 'canary.yaml': await sealedSecrets.seal(probe) })
    await timed('merge that repairs a degraded SealedSecret to Healthy', () =>
      argo.settled(
        site.name,
        ({ sync, health, revisions }) => sync === 'Synced' && health === 'Healthy' && revisions.includes(second),
        'is repaired',
        240_000,
      ),
    )
  })

  it('is not ready where the API server refuses one object, though the rest is applied, and says which it was', async () => {
    const site = await scenario('refused')
    const first = await site.commit({
      'kustomization.yaml': kustomization({ resources: ['public.yaml'] }),
      'public.yaml': configMap('public', { bundle: 'old\n' }),
    })
    await site.deliver({ syncPolicy: { automated: {}, retry: { limit: 1, backoff: { duration: '1s' } } } })
    await site.arrived(first)
    const second = await site.commit({
      'kustomization.yaml': kustomization({ resources: ['public.yaml', 'service.yaml'] }),
      'public.yaml': configMap('public', { bundle: 'old\nnew\n' }),
      'service.yaml': 'apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 0}]}\n',
    })
    await timed('refused apply to Failed, one retry after 1 s', () =>
      site.settled(
        ({ phase, operationRevisions }) => phase === 'Failed' && operationRevisions.includes(second),
        'has failed',
      ),
    )
    const seen = await site.observe(second)
    expect(seen).toMatchObject({ ready: false, revision: second })
    expect(seen.message).toContain('sync is OutOfSync')
    expect(seen.message).toContain('the last sync ended as Failed')
    expect(seen.message).toContain('spec.ports[0].port')
    expect(await site.value('public', 'bundle')).toBe('old\nnew\n')
    // It is not tried again by itself, whatever becomes of the cluster, but the next commit is.
    const third = await site.commit({
      'kustomization.yaml': kustomization({ resources: ['public.yaml'] }),
      'service.yaml': null,
    })
    await site.arrived(third)
    expect(await site.observe(third)).toMatchObject({ ready: true, message: '' })
  })

  it('keeps the merge that repairs it waiting until its retries are through', async () => {
    const site = await scenario('retries')
    const first = await site.commit({
      'kustomization.yaml': kustomization({ resources: ['public.yaml', 'service.yaml'] }),
      'public.yaml': configMap('public', { bundle: 'old\n' }),
      'service.yaml': 'apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 0}]}\n',
    })
    // By itself it tries five times more, after 5 s, 10 s and so on: more than two and a half minutes.
    await site.deliver({ syncPolicy: { automated: {}, retry: { limit: 2, backoff: { duration: '8s', factor: 1 } } } })
    await site.settled(({ message }) => message.includes('Retrying'), 'tries again')
    const kept = { 'public.yaml': configMap('public', { bundle: 'old\nnew\n' }), 'service.yaml': null }
    const second = await site.commit({ ...kept, 'kustomization.yaml': kustomization({ resources: ['public.yaml'] }) })
    await site.settled(({ revisions }) => revisions.includes(second), 'compares with the second')
    const seen = await site.observe(second)
    expect(seen).toMatchObject({ ready: false, observed: false, revision: second })
    expect(seen.message).toContain('a sync is running: ')
    expect(seen.message).toContain('spec.ports[0].port')
    await timed('repair merged while a failed sync is tried twice more, 8 s apart', () => site.arrived(second))
    expect(await site.observe(second)).toMatchObject({ ready: true, revision: second })
    expect((await site.observe(first)).revision).toBe(second)
  })

  it('is refused for its size by client-side apply, and goes through with ServerSideApply', async () => {
    const site = await scenario('large')
    const bundle = 'x'.repeat(300_000)
    const first = await site.commit({
      'kustomization.yaml': kustomization({ resources: ['large.yaml'] }),
      'large.yaml': configMap('large', { bundle }),
    })
    await site.deliver({ syncPolicy: { automated: {}, retry: { limit: 1, backoff: { duration: '1s' } } } })
    const failed = await site.settled(({ phase }) => phase === 'Failed', 'has failed')
    expect(failed.message).toContain('Too long')
    expect((await site.observe(first)).message).toContain('Too long')
    const annotated = configMap(
      'large',
      { bundle },
      { 'argocd.argoproj.io/sync-options': 'Prune=false,ServerSideApply=true' },
    )
    const second = await site.commit({ 'large.yaml': annotated })
    await site.arrived(second)
    expect(await site.observe(second)).toMatchObject({ ready: true })
  })

  it('is not ready where the folder does not build, and says why', async () => {
    const site = await scenario('broken')
    const first = await site.commit({
      'kustomization.yaml': kustomization({ resources: ['public.yaml'] }),
      'public.yaml': configMap('public', { bundle: 'old\n' }),
    })
    await site.deliver()
    await site.arrived(first)
    const kept = { 'public.yaml': configMap('public', { bundle: 'old\n' }) }
    const second = await site.commit({
      ...kept,
      'kustomization.yaml': kustomization({ resources: ['public.yaml', 'missing.yaml'] }),
    })
    const failing = await site.settled(({ sync }) => sync === 'Unknown', 'cannot compare')
    expect(failing.object.status).toMatchObject({ conditions: [{ type: 'ComparisonError' }] })
    const seen = await site.observe(second)
    expect(seen.ready).toBe(false)
    expect(seen.message).toContain('sync is Unknown')
    expect(seen.message).toContain('ComparisonError')
    expect(seen.message).toContain('kustomize build')
    const third = await site.commit({ 'kustomization.yaml': kustomization({ resources: ['public.yaml'] }) })
    await site.arrived(third)
    expect(await site.observe(third)).toMatchObject({ ready: true, message: '' })
  })

  it('does not exist where there is no Application', async () => {
    const site = await scenario('nobody')
    expect(await site.observe()).toMatchObject({ ready: false, revision: null, message: 'does not exist' })
  })
})

// ------------------------------------------------------------------------------------------------ order in time

describe('a sync that takes its time', () => {
  const wave = (number: number) => ({ 'argocd.argoproj.io/sync-wave': String(number) })

  async function waves(site: Scenario, bundle: string): Promise<Files> {
    const probe = canary(site.name)
    return {
      'kustomization.yaml': kustomization({ resources: ['canary.yaml', 'after.yaml'] }),
      'canary.yaml': await sealedSecrets.seal({ ...probe, annotations: { ...probe.annotations, ...wave(0) } }),
      'after.yaml': configMap('after', { bundle }, wave(1)),
    }
  }

  it('applies a wave only after the one before is healthy, and is not ready meanwhile', async () => {
    const site = await scenario('waves')
    const files = await waves(site, 'old\n')
    sealedSecrets.server.pause()
    let first = ''
    try {
      first = await site.commit(files)
      await site.deliver()
      await until('the first wave is applied', () =>
        site.get('SealedSecret', 'reanchor-canary', 'bitnami.com/v1alpha1'),
      )
      await sleep(3000)
      expect(await site.get('ConfigMap', 'after')).toBeNull()
      const seen = await site.observe(first)
      expect(seen).toMatchObject({ ready: false, revision: first })
      expect(seen.message).toContain('a sync is running')
    } finally {
      sealedSecrets.server.resume()
    }
    await site.arrived(first)
    const made = async (kind: string, name: string, apiVersion?: string): Promise<number> =>
      Date.parse(String((await site.get(kind, name, apiVersion))?.metadata.creationTimestamp))
    expect(await made('ConfigMap', 'after')).toBeGreaterThanOrEqual(
      await made('SealedSecret', 'reanchor-canary', 'bitnami.com/v1alpha1'),
    )
  })

  it('holds back the next merge, which counts as delivered only after its own sync', async () => {
    const site = await scenario('overtaken')
    const before = await waves(site, 'old\n')
    const after = await waves(site, 'old\nnew\n')
    sealedSecrets.server.pause()
    let second = ''
    const seen: DeliveryEvidence[] = []
    try {
      const first = await site.commit(before)
      await site.deliver()
      await site.settled(({ phase }) => phase === 'Running', 'is syncing')
      await until('the first wave is applied', () =>
        site.get('SealedSecret', 'reanchor-canary', 'bitnami.com/v1alpha1'),
      )
      second = await site.commit(after)
      await site.settled(({ revisions }) => revisions.includes(second), 'compares with the second')
      const running = await site.settled(({ phase }) => phase === 'Running', 'is syncing')
      expect(running.object.status).toMatchObject({ operationState: { operation: { sync: { revision: first } } } })
      seen.push(await site.observe(second))
    } finally {
      sealedSecrets.server.resume()
    }
    const end = Date.now() + 60_000
    for (let done = false; !done && Date.now() < end; ) {
      const look = await site.observe(second)
      const bundle = await site.value('after', 'bundle')
      seen.push(look)
      if (look.ready && look.treeDigest === (await treeAt(second, site.path))) {
        // Read after the look: what it calls delivered must be there.
        expect(bundle ?? (await site.value('after', 'bundle'))).toBe('old\nnew\n')
        done = true
      }
    }
    expect(seen[0]).toMatchObject({ ready: false, revision: second })
    expect(seen[0]?.message).toContain('a sync is running')
    expect(seen.at(-1)).toMatchObject({ ready: true, revision: second })
  })
})

// ------------------------------------------------------------------------------------------- sources and reach

describe('an Application whose source is above the folder', () => {
  it('is read at the folder: a kustomization that lists it', async () => {
    const site = await scenario('parent')
    const files = {
      'kustomization.yaml': kustomization({ resources: ['public.yaml'] }),
      'public.yaml': configMap('public', { bundle: 'old\n' }),
      '/sites/parent/kustomization.yaml': kustomization({ resources: ['trust', 'own.yaml'] }),
      '/sites/parent/own.yaml': configMap('own', { a: '1' }),
    }
    const first = await site.commit(files)
    await site.deliver({ ...automated, source: sourceOf('sites/parent') })
    await site.arrived(first)
    expect(await site.observe(first)).toMatchObject({
      ready: true,
      treeDigest: await treeAt(first, site.path),
      inventory: ['ConfigMap/parent/own', 'ConfigMap/parent/public'],
    })
  })

  it.each([
    ['the folder', 'several', (path: string) => path],
    ['the folder, written otherwise', 'several-otherwise', (path: string) => `./${path}/`],
    ['its parent', 'several-parent', (path: string) => path.replace(/\/trust$/, '')],
  ])('is read where one of several sources is %s', async (_what, name, sourcePath) => {
    const site = await scenario(name)
    const chart = `charts/${name}`
    const first = await site.commit({
      'kustomization.yaml': kustomization({ resources: ['public.yaml'] }),
      'public.yaml': configMap('public', { bundle: 'old\n' }),
      [`/sites/${name}/kustomization.yaml`]: kustomization({ resources: ['trust'] }),
      [`/${chart}/Chart.yaml`]: stringify({ apiVersion: 'v2', name: 'app', version: '1.0.0' }),
      [`/${chart}/values.yaml`]: stringify({ greeting: 'default' }),
      [`/${chart}/templates/config.yaml`]:
        'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: chart}\ndata:\n  greeting: {{ .Values.greeting }}\n',
      [`/values/${name}.yaml`]: stringify({ greeting: 'from-git' }),
    })
    await site.deliver({
      ...automated,
      sources: [
        { repoURL: fleet.url, targetRevision: 'main', ref: 'values' },
        { ...sourceOf(chart), helm: { valueFiles: [`$values/values/${name}.yaml`] } },
        sourceOf(sourcePath(site.path)),
      ],
    })
    await site.arrived(first)
    expect(await site.value('chart', 'greeting')).toBe('from-git')
    expect(await site.observe(first)).toMatchObject({
      ready: true,
      revision: first,
      treeDigest: await treeAt(first, site.path),
      inventory: [`ConfigMap/${name}/chart`, `ConfigMap/${name}/public`],
    })
    const second = await site.commit({ 'public.yaml': configMap('public', { bundle: 'old\nnew\n' }) })
    await site.arrived(second)
    expect(await site.observe(second)).toMatchObject({ ready: true, treeDigest: await treeAt(second, site.path) })
  })

  it('is not ready where the last sync of several sources failed after it had applied everything', async () => {
    const site = await scenario('several-failed')
    const hook = {
      apiVersion: 'batch/v1',
      kind: 'Job',
      metadata: {
        name: 'after',
        annotations: {
          'argocd.argoproj.io/hook': 'PostSync',
          'argocd.argoproj.io/hook-delete-policy': 'BeforeHookCreation',
        },
      },
      spec: {
        backoffLimit: 0,
        activeDeadlineSeconds: 1,
        template: {
          spec: {
            restartPolicy: 'Never',
            nodeSelector: { nowhere: 'true' },
            containers: [{ name: 'check', image: 'check' }],
          },
        },
      },
    }
    const first = await site.commit({
      'kustomization.yaml': kustomization({ resources: ['public.yaml', 'hook.yaml'] }),
      'public.yaml': configMap('public', { bundle: 'old\n' }),
      'hook.yaml': stringify(hook),
    })
    await site.deliver({
      sources: [sourceOf(site.path), { repoURL: fleet.url, targetRevision: 'main', ref: 'values' }],
      syncPolicy: { automated: {}, retry: { limit: 1, backoff: { duration: '1s' } } },
    })
    await site.settled(({ phase }) => phase === 'Failed', 'has failed')
    const seen = await site.observe(first)
    expect(seen.message).toContain('the last sync ended as Failed')
    expect(seen.ready).toBe(false)
  })
})

describe('what an Application makes of the repository', () => {
  const own = (name: string) => configMap(name, { a: '1' })

  it.each<[string, string, object, Readonly<Record<string, string>>, readonly string[]]>([
    ['one folder of manifests', 'flat', {}, { 'one.yaml': own('one'), 'deep/two.yaml': own('two') }, ['one']],
    [
      'folders of manifests at any depth',
      'deep',
      { directory: { recurse: true } },
      {
        'one.yaml': own('one'),
        'deep/two.yaml': own('two'),
        'deep/notes.md': 'x\n',
        'deep/three.json': JSON.stringify(parse(own('three'))),
      },
      ['one', 'three', 'two'],
    ],
    [
      'a kustomization and its bases, and nothing else',
      'kustomize',
      {},
      {
        'kustomization.yaml': kustomization({ resources: ['one.yaml', 'base'] }),
        'one.yaml': own('one'),
        'unlisted.yaml': own('unlisted'),
        'base/kustomization.yaml': kustomization({ resources: ['two.yaml'] }),
        'base/two.yaml': own('two'),
      },
      ['one', 'two'],
    ],
    [
      'a component that the Application adds',
      'component',
      { kustomize: { components: ['../more'] } },
      {
        'kustomization.yaml': kustomization({ resources: ['one.yaml'] }),
        'one.yaml': own('one'),
        '/sites/component/more/kustomization.yaml': kustomization({
          apiVersion: 'kustomize.config.k8s.io/v1alpha1',
          kind: 'Component',
          resources: ['two.yaml'],
        }),
        '/sites/component/more/two.yaml': own('two'),
      },
      ['one', 'two'],
    ],
    [
      'manifests at any depth, kustomizations passed over',
      'below',
      { directory: { recurse: true } },
      {
        'one.yaml': own('one'),
        'deep/kustomization.yaml': kustomization({ resources: ['two.yaml'], namePrefix: 'not-' }),
        'deep/two.yaml': own('two'),
        'deep/values.yaml': 'a: 1\n',
      },
      ['one', 'two'],
    ],
    [
      'manifests but those that it leaves out',
      'excluded',
      { directory: { recurse: true, exclude: '{deep/*,other.yaml}' } },
      { 'one.yaml': own('one'), 'other.yaml': own('other'), 'deep/two.yaml': own('two') },
      ['one'],
    ],
    [
      'only manifests that it picks',
      'included',
      { directory: { recurse: true, include: 'deep/*.yaml' } },
      { 'one.yaml': own('one'), 'deep/two.yaml': own('two') },
      ['two'],
    ],
  ])('is what the product reads: %s', async (_what, name, how, files, expected) => {
    const site = await scenario(name)
    const first = await site.commit(files)
    const source = { ...sourceOf(site.path), ...how }
    await site.deliver({ ...automated, source })
    await site.arrived(first)
    const { inventory } = await site.observe(first)
    expect(inventory).toEqual(expected.map(object => `ConfigMap/${name}/${object}`))
    const tree = await repository.snapshot(first).readFolder('')
    const application = stringify({
      apiVersion: 'argoproj.io/v1alpha1',
      kind: 'Application',
      metadata: { name, namespace: argo.namespace },
      spec: { source, destination: { namespace: name } },
    })
    const { readers } = reach(new Map([...tree, [`clusters/${name}.yaml`, application]]), {
      repositoryURLs: [fleet.url],
    })
    const reads = readers.find(reader => reader.name === name)?.reads.map(({ path }) => path) ?? []
    const applied = reads.flatMap(path => {
      const object = parse(tree.get(path) ?? '') as { kind?: string; metadata?: { name: string } } | null
      return object?.kind === 'ConfigMap' ? [object.metadata?.name] : []
    })
    expect(applied.sort()).toEqual(expected)
  })

  it('takes values in the order that the product takes them', async () => {
    const site = await scenario('values')
    const first = await site.commit({
      'Chart.yaml': stringify({ apiVersion: 'v2', name: 'app', version: '1.0.0' }),
      'values.yaml': stringify({
        a: 'chart',
        b: 'chart',
        c: 'chart',
        d: 'chart',
        e: 'chart',
        list: ['chart'],
        map: { kept: 'chart' },
      }),
      'templates/config.yaml':
        'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shown}\ndata:\n  values: {{ .Values | toJson | quote }}\n',
      'first.yaml': stringify({ b: 'first', c: 'first', d: 'first', e: 'first', list: ['first', 'more'] }),
      'second.yaml': stringify({ c: 'second', d: 'second', e: 'second', map: { more: 'second' } }),
      '/values/shared.yaml': stringify({ shared: 'root' }),
    })
    const source = {
      ...sourceOf(site.path),
      helm: {
        valueFiles: ['first.yaml', 'second.yaml', '/values/shared.yaml'],
        values: 'd: never\nx: never\n',
        valuesObject: { d: 'object', e: 'object', istio: { pilot: { env: { ISTIO_MULTIROOT_MESH: 'true' } } } },
        parameters: [
          { name: 'e', value: 'parameter' },
          { name: 'istio.pilot.replicas', value: '2' },
          { name: 'istio.pilot.text', value: '2', forceString: true },
          { name: 'istio.pilot.on', value: 'true' },
          { name: 'dotted\\.key', value: 'parameter' },
        ],
      },
    }
    await site.deliver({ ...automated, source })
    await site.arrived(first)
    const object = {
      apiVersion: 'argoproj.io/v1alpha1',
      kind: 'Application',
      metadata: { name: 'values' },
      spec: { source },
    }
    const application = applicationOf(object as unknown as ManifestObject, '', 0)
    const [read] = application?.sources ?? []
    if (application === null || read === undefined) throw new Error('no source')
    const { values, opaque } = applicationValues(await repository.snapshot(first).readFolder(''), application, read)
    expect(opaque).toEqual([])
    expect(values).toEqual(JSON.parse((await site.value('shown', 'values')) ?? ''))
  })
})

// ------------------------------------------------------------------------------------------- late by its caches

describe('Argo CD that keeps what a branch points to', () => {
  it('compares with an old commit again and again, and is hurried by the command all the same', async () => {
    await argo.stop()
    argo = await startArgoCd(plane, { resync: 2, branchCache: 40 })
    const site = await scenario('cached')
    const first = await site.commit({
      'kustomization.yaml': kustomization({ resources: ['public.yaml'] }),
      'public.yaml': configMap('public', { bundle: 'old\n' }),
    })
    await site.deliver()
    await site.arrived(first)
    const second = await site.commit({ 'public.yaml': configMap('public', { bundle: 'old\nnew\n' }) })
    const merged = Date.now()
    const stale = await site.settled(
      ({ object, revisions }) =>
        revisions.includes(first) &&
        Date.parse((object.status as { reconciledAt: string }).reconciledAt) > merged + 5000,
      'has compared again with the first',
    )
    expect(stale.sync).toBe('Synced')
    const seen = await site.observe(second)
    expect(seen).toMatchObject({ ready: true, revision: first, treeDigest: await treeAt(first, site.path) })
    expect(seen.message).toContain(`does not contain ${second}`)
    await timed('commit to seen, comparing every 2 s, branch kept for 40 s', () => site.arrived(second))
    lags.push(`… ${((Date.now() - merged) / 1000).toFixed(1)} s after the commit`)

    const third = await site.commit({ 'public.yaml': configMap('public', { bundle: 'new\n' }) })
    const { hurry } = await site.observe(third)
    const [program = '', ...args] = (hurry ?? '').split(' ')
    await timed('the command shown to Synced and Healthy, branch kept', async () => {
      await output(program, args, { env: { ...process.env, KUBECONFIG: plane.kubeconfig } })
      await site.arrived(third)
    })
    const log = await readFile(argo.controller.log, 'utf8')
    expect(log).toContain('comparison expired')
  })
})
