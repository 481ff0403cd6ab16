import { gatesText } from '../../src/cli/handlers/next.ts'
import type { Terminal } from '../../src/cli/output.ts'
import type { World } from '../../src/commands/demo.ts'
import { inspectSites } from '../../src/commands/inspect.ts'
import { loadRotation, positionsAt } from '../../src/commands/rotation.ts'
import { statusView } from '../../src/commands/status.ts'
import { lookAtSites } from '../../src/commands/verify.ts'
import { inspectText } from '../../src/report/inspect-text.ts'
import { statusText } from '../../src/report/status.ts'

/** What the commands print that only look, in one moment of a rotation; lines are not broken. */
export async function screens({ context, rotation: name, rehearsal }: World) {
  const rotation = await loadRotation(context.repository, { rotation: name, base: 'main' })
  const { declaration, plan, snapshot } = rotation
  const sites = declaration.sites.map(({ name: site }) => {
    const cluster = rehearsal.sites.get(site)?.cluster
    if (cluster === undefined) throw new Error(`no cluster ${site}`)
    return { name: site, cluster, declared: declaration }
  })
  const inspected = await inspectSites(sites, { now: context.now(), within: null })
  const looks = await lookAtSites(context, rotation, await positionsAt(snapshot, plan))
  const gates = looks.flatMap(look => look.verdict.gates)
  const evidence = looks.map(look => look.evidence)
  const noTerminal = { stdout: { isTTY: false }, stderr: { isTTY: false } } as unknown as Terminal
  const width = 1_000
  return {
    inspect: inspectText(inspected, { width }),
    status: statusText(await statusView(context, rotation, null), { width }),
    live: statusText(await statusView(context, rotation, looks), { width }),
    verify: await gatesText(gates, evidence, noTerminal),
  }
}
