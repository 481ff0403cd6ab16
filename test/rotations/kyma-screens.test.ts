import { afterEach, expect, it } from 'vitest'
import { gatesText } from '../../src/cli/handlers/next.ts'
import { planAndMerge, recordMerge } from '../../src/commands/demo.ts'
import { inspectSites } from '../../src/commands/inspect.ts'
import { loadRotation, positionsAt } from '../../src/commands/rotation.ts'
import { statusView } from '../../src/commands/status.ts'
import { lookAtSites } from '../../src/commands/verify.ts'
import { inspectText } from '../../src/report/inspect-text.ts'
import { statusText } from '../../src/report/status.ts'
import { openStep } from './drive.ts'
import { type KymaTestWorld, kymaWorld } from './kyma-world.ts'

let test: KymaTestWorld | null = null

afterEach(async () => {
  await test?.close()
  test = null
})

const terminal = { out: () => {}, err: () => {}, interactive: false, color: false, progress: false }

/** As people read it: the width of a terminal breaks lines anywhere. */
function unbroken(text: string): string {
  return text.replace(/\s+/g, ' ')
}

it('inspect, status and verify say in mid-rotation who is behind and what to do, and raise no alarm about gateways that have restarted', async () => {
  test = await kymaWorld('compromised-certificate')
  const { world } = test
  const load = () => loadRotation(world.repository, { rotation: 'first', base: 'main' })
  await planAndMerge(world)
  await recordMerge(world, await openStep(world, 'replace'))
  await world.rehearsal.run(5 * 60_000)

  const rotation = await load()
  const looks = await lookAtSites(world.context, rotation, await positionsAt(rotation.snapshot, rotation.plan))
  const [offline, live] = [null, looks].map(async seen => statusText(await statusView(world.context, rotation, seen)))
  expect(await offline).toContain('central: 1-replace/1-data')
  expect(await offline).toContain('gates: not looked at')
  const verified = await gatesText(
    looks.flatMap(({ verdict }) => verdict.gates),
    looks.map(({ evidence }) => evidence),
    terminal,
  )
  const [before, after] = rotation.plan.certificates.map(({ sha256 }) => `${sha256.slice(0, 16)}…`)
  for (const screen of [unbroken(verified), unbroken((await live) ?? '')]) {
    expect(screen).toContain(`its certificate came from ${before}, and the connector issues from ${after}`)
    expect(screen).toContain('in the cluster of runtime shop: kubectl patch centralconnection shop')
    expect(screen).toContain('whether each of them holds a certificate that it got after')
    expect(screen).toContain('`reanchor attest applications --phase 1`')
  }
  // Each runtime on one line, not on one for its dates and one for its signature.
  expect(verified.match(/runtime shop\/shop: holds/g)).toHaveLength(1)
  expect(await live).toMatch(/next: waiting: every runtime holds a certificate/)

  const { declaration } = rotation
  const [site] = declaration.sites
  if (site === undefined) throw new Error('no site')
  const cluster = await world.context.openCluster(site)
  const inspected = await inspectSites(
    [
      {
        name: site.name,
        cluster,
        declared: declaration,
        openCluster: (name, choice) => world.context.openCluster({ ...site, name, cluster: choice }),
      },
    ],
    { now: world.context.now(), within: null },
  )
  expect(inspected.remarks).toEqual([])
  const text = unbroken(inspectText(inspected))
  expect(text).toContain('3 gateways of istio-system/Deployment/istio-ingressgateway')
  expect(text).toContain('Secret kyma-integration/connector-service-app-ca: ca.crt')
}, 600_000)
