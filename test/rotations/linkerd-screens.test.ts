import { describe, expect, it, onTestFinished } from 'vitest'
import { advanceUntil, planAndMerge, recordMerge } from '../../src/commands/demo.ts'
import { inspectSites } from '../../src/commands/inspect.ts'
import { loadRotation, positionsAt } from '../../src/commands/rotation.ts'
import { statusView } from '../../src/commands/status.ts'
import { lookAtSites } from '../../src/commands/verify.ts'
import { runInit } from '../../src/declaration/init.ts'
import { readDeclaration } from '../../src/declaration/read.ts'
import { inspectText } from '../../src/report/inspect-text.ts'
import { statusText } from '../../src/report/status.ts'
import { linkerdOf } from '../../src/systems/linkerd/settings.ts'
import { smallFleet } from './linkerd-fleet.ts'
import { testWorld } from './world.ts'

describe('what a person sees of a mesh', () => {
  it('in init, inspect, status and status --live', async () => {
    const test = await testWorld({ system: 'linkerd', fleet: smallFleet, seed: 'screens' })
    onTestFinished(() => test.close())
    const { world } = test
    const { context } = world
    const width = 100

    // init finds what the declaration of the demo says.
    const snapshot = world.repository.snapshot(await world.repository.head('main'))
    const paths = [...(await snapshot.list()).keys()].filter(path => !path.startsWith('rotations/'))
    const files = await snapshot.readMany(paths)
    const made = await runInit({
      system: 'linkerd',
      files,
      flags: {},
      existing: () => null,
      now: context.now(),
      ask: null,
    })
    const written = await readDeclaration(made.text, made.path)
    await planAndMerge(world)
    const rotation = await loadRotation(context.repository, { rotation: 'first', base: 'main' })
    const declared = rotation.declaration
    expect(linkerdOf(written)).toEqual({ ...linkerdOf(declared), leafHours: linkerdOf(written).leafHours })
    expect(written.sites.map(({ name }) => name)).toEqual(['eu-1'])

    // inspect: who holds which anchor, and what stands in the way.
    const sites = [{ name: 'eu-1', cluster: test.site('eu-1').cluster, declared }]
    const inspected = async () =>
      inspectText(await inspectSites(sites, { now: context.now(), within: null }), { width })
    const flat = (text: string) => text.replace(/\s+/g, ' ')
    const healthy = flat(await inspected())
    expect(healthy).toContain('found in eu-1: ConfigMap linkerd/linkerd-identity-trust-roots: ca-bundle.crt')
    expect(healthy).toContain('found in eu-1: Secret linkerd/linkerd-identity-issuer')
    expect(healthy.match(/2 control-planes of linkerd\/Deployment\/linkerd-identity/g)).toHaveLength(2)
    expect(healthy.match(/2 proxies of emojivoto\/Deployment\/web/g)).toHaveLength(2)
    expect(healthy).toContain('√ graceful')
    expect(healthy).not.toContain('!')

    // status without a cluster says so, and with one which gate waits for what.
    const offline = flat(statusText(await statusView(context, rotation, null), { width }))
    expect(offline).toContain('eu-1: not adopted yet')
    expect(offline).toContain('gates: not looked at')
    const adopt = await advanceUntil(world, place => place.name === 'adopt')
    if (adopt === null) throw new Error('no pull request of adopt')
    await recordMerge(world, adopt)
    const live = async () => {
      const now = await loadRotation(context.repository, { rotation: 'first', base: 'main' })
      const looks = await lookAtSites(context, now, await positionsAt(now.snapshot, now.plan))
      return flat(statusText(await statusView(context, now, looks), { width }))
    }
    // Nothing is applied yet, so nothing is alarming, and one gate says why.
    const early = await live()
    expect(early).toContain('▶ 0 adopt')
    expect(early).not.toMatch(/violated|find out who writes it|patches nothing/)
    expect(early).toContain('linkerd-identity-issuer is owned by kubectl-create, as before')
    expect(early).toContain('to hurry it, run: flux reconcile source git flux-system --namespace flux-system')
    await world.rehearsal.run(120_000)
    const settled = await live()
    expect(settled).toMatch(/√ 1\d gates hold … eu-1: the last change lies back long enough \(pending\)/)
    expect(settled).toContain('next: waiting: the last change lies back long enough (last change at')
  }, 60_000)
})
