import { createHash } from 'node:crypto'
import { afterEach, describe, expect, it } from 'vitest'
import { advanceUntil, planAndMerge, recordMerge, rotate, type World } from '../../src/commands/demo.ts'
import { next } from '../../src/commands/next.ts'
import { loadRotation } from '../../src/commands/rotation.ts'
import { parsedValues, valueAt } from '../../src/gitops/helm.ts'
import { certificatesIn, derOf } from '../../src/rehearsal/certificates.ts'
import { at, listAt, textAt } from '../../src/rehearsal/objects.ts'
import type { FileTree } from '../../src/rotation.ts'
import { wholeMatrix } from './matrix.ts'
import { type TestWorld, testWorld } from './world.ts'

let test: TestWorld
afterEach(async () => await test.close())

async function baseFile(world: World, path: string): Promise<string> {
  const text = await world.repository.snapshot(await world.repository.head('main')).read(path)
  if (text === null) throw new Error(`no ${path}`)
  return text
}

/** Fingerprints of the roots in the live `cacerts`. */
function liveRoots(world: World, site: string): readonly string[] {
  const secret = world.rehearsal.sites.get(site)?.store.get('', 'Secret', 'istio-system', 'cacerts') ?? null
  const text = Buffer.from(textAt(secret, 'data', 'root-cert.pem') ?? '', 'base64').toString()
  return certificatesIn(text).map(each => createHash('sha256').update(derOf(each)).digest('hex'))
}

async function newRoot(world: World): Promise<string | undefined> {
  const { plan } = await loadRotation(world.repository, { rotation: world.rotation, base: 'main' })
  return plan.certificates.find(certificate => certificate.role === 'new-root')?.sha256
}

/** With the annotation manifest-generate-paths at istiod's Application. */
function annotated(fleet: FileTree, paths: string): FileTree {
  const note = `  annotations:\n    argocd.argoproj.io/manifest-generate-paths: ${paths}\nspec:\n`
  return new Map(
    [...fleet].map(([path, text]) => [path, path.endsWith('/istiod.yaml') ? text.replace('spec:\n', note) : text]),
  )
}

describe('a whole rotation', () => {
  it.each(
    wholeMatrix
      ? (['helmRelease', 'argocd', 'argocdMultiSource'] as const)
      : (['helmRelease', 'argocdMultiSource'] as const),
  )(
    'of an installation by %s: every step merged and verified, no handshake fails, each restart is planned',
    async install => {
      test = await testWorld({ variant: install })
      const { world } = test
      await rotate(world)
      expect(world.phases.map(phase => `${phase.name}/${phase.step}`)).toEqual([
        'adopt/adopt',
        'enable-multiroot/data',
        'enable-multiroot/restart',
        'trust-both/data',
        'trust-both/restart',
        'issue-new/data',
        'issue-new/restart',
        'trust-new/data',
        'trust-new/restart',
        'close/close',
      ])
      expect(world.rehearsal.handshakes.counts.failed).toBe(0)
      expect(world.rehearsal.handshakes.counts.attempted).toBeGreaterThan(1_000)
      for (const { consumer, count } of world.rehearsal.restarts())
        expect(count, consumer).toBe(consumer.includes('/istiod') ? 4 : 1)
      expect(liveRoots(world, 'eu-1')).toEqual([await newRoot(world)])
    },
    240_000,
  )
})

describe('Argo CD with SealedSecrets', () => {
  it('takes over a plugged CA at two sites once the owner lets the controller, and names the command until then', async () => {
    test = await testWorld({ variant: 'argocd', sites: ['eu-1', 'us-1'], sharedRoot: true })
    const { world } = test
    const managed = 'sealedsecrets.bitnami.com/managed'
    const annotate = (value: string | null) => {
      const { store } = world.rehearsal.sites.get('us-1')!
      const secret = store.get('', 'Secret', 'istio-system', 'cacerts')!
      store.update(secret, 'kubectl-annotate', object => {
        const { [managed]: _gone, ...rest } = object.metadata.annotations ?? {}
        object.metadata.annotations = value === null ? rest : { ...rest, [managed]: value }
      })
    }
    annotate(null)
    await planAndMerge(world)
    const adopt = await advanceUntil(world, ({ phase }) => phase === 0)
    const { body } = adopt!
    for (const site of ['eu-1', 'us-1'])
      expect(body).toContain(`- \`${site}\`: unless the Sealed Secrets controller made Secret \`istio-system/cacerts\``)
    expect(body).toContain(`\`kubectl --namespace istio-system annotate secret cacerts ${managed}=true`)
    await recordMerge(world, adopt!)
    await world.rehearsal.run(20 * 60_000)
    const { outcome } = await next(world.context, { rotation: world.rotation, base: null, variant: 'step' })
    const gates = outcome.kind === 'waiting' ? outcome.gates : []
    const blocked = gates.find(gate => gate.id === 'istio/secret' && gate.verdict !== 'holds')
    expect(blocked?.site).toBe('us-1')
    expect(blocked?.because.join()).toContain('not managed by SealedSecret')
    expect(blocked?.hint).toContain(`annotate secret cacerts ${managed}=true`)
    // The user obeys, both parts of it: the leave alone is not looked at.
    annotate('true')
    await world.rehearsal.run(20 * 60_000)
    const again = await next(world.context, { rotation: world.rotation, base: null, variant: 'step' })
    expect(again.outcome.kind).toBe('waiting')
    world.rehearsal.sites.get('us-1')!.restartSealedSecrets()
    await advanceUntil(world, () => false)
    expect(world.rehearsal.handshakes.counts.failed).toBe(0)
    const root = await newRoot(world)
    for (const site of ['eu-1', 'us-1']) expect(liveRoots(world, site)).toEqual([root])
  }, 600_000)

  it('keeps what a commit takes out of the folder by mistake, though every Application prunes (F18)', async () => {
    test = await testWorld({ variant: 'argocd' })
    const { world } = test
    await planAndMerge(world)
    const opened = await advanceUntil(world, ({ phase, step }) => phase === 2 && step === 1)
    await recordMerge(world, opened!)
    await world.rehearsal.run(10 * 60_000)
    const { store } = world.rehearsal.sites.get('eu-1')!
    expect(store.get('', 'Secret', 'istio-system', 'cacerts')).not.toBeNull()
    const parent = await world.repository.head('main')
    const list = await baseFile(world, 'trust/eu-1/kustomization.yaml')
    const pruning = (await baseFile(world, 'clusters/eu-1/trust.yaml')).replace('prune: false', 'prune: true')
    const commit = await world.repository.commit({
      parent,
      changes: new Map<string, string | null>([
        ['trust/eu-1/kustomization.yaml', list.replace('  - cacerts.yaml\n', '')],
        ['clusters/eu-1/trust.yaml', pruning],
      ]),
      message: 'tidy up',
      trailers: {},
      author: { name: 'Ada', email: 'ada@example.com' },
      at: world.context.now(),
    })
    await world.repository.publish([{ ref: 'refs/heads/main', from: parent, to: commit }])
    await world.rehearsal.run(10 * 60_000)
    expect(store.get('bitnami.com', 'SealedSecret', 'istio-system', 'cacerts')).not.toBeNull()
    expect(store.get('', 'Secret', 'istio-system', 'cacerts')).not.toBeNull()
    const application = store.get('argoproj.io', 'Application', 'argocd', 'trust')
    const left = listAt(application, 'status', 'resources').find(each => textAt(each, 'name') === 'cacerts')
    expect(at(application, 'spec', 'syncPolicy', 'automated', 'prune')).toBe(true)
    expect(left).toMatchObject({ requiresPruning: true, status: 'OutOfSync' })
    expect(store.get('bitnami.com', 'SealedSecret', 'istio-system', 'reanchor-canary')).not.toBeNull()
  }, 600_000)

  it('an Application that renders only when its own paths change still gets each flag and restart (F23)', async () => {
    test = await testWorld({ variant: 'argocd', fleet: fleet => annotated(fleet, '.') })
    const { world } = test
    await planAndMerge(world)
    const last = await advanceUntil(world, ({ phase, step }) => phase === 2 && step === 2)
    await recordMerge(world, last!)
    await world.rehearsal.run(15 * 60_000)
    expect(await baseFile(world, 'clusters/eu-1/istiod.yaml')).toContain('.;/trust/eu-1')
    const values = parsedValues(await baseFile(world, 'trust/eu-1/istiod-values.yaml'))
    const token = valueAt(values, ['istiod', 'pilot', 'podAnnotations', 'reanchor.dev/trust'])
    const { store } = world.rehearsal.sites.get('eu-1')!
    const istiod = store.get('apps', 'Deployment', 'istio-system', 'istiod')
    expect(textAt(istiod, 'spec', 'template', 'metadata', 'annotations', 'reanchor.dev/trust')).toBe(token)
    expect(token).toMatch(/^[0-9a-f]{16}$/)
  }, 600_000)
})
