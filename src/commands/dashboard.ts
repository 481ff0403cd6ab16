import type { Forge } from '../forge/forge.ts'
import { code } from '../report/escape.ts'
import { statusText } from '../report/status.ts'
import type { Context } from './context.ts'
import type { OpenRotation } from './rotation.ts'
import { statusView } from './status.ts'
import type { SiteLook } from './verify.ts'

const hour = 3_600_000

/** The issue that says where the rotation stands, where the declaration asks for one; closed with the rotation. */
export async function postDashboard(
  context: Context,
  rotation: OpenRotation,
  forge: Forge,
  looks: readonly SiteLook[],
): Promise<void> {
  const { forge: choice } = rotation.declaration
  if (choice.kind === 'local' || choice.kind === 'none' || !choice.dashboard) return
  if (rotation.closed) {
    await forge.dashboard(rotation.name, null)
    return
  }
  // By the hour: it is written where something has changed, not because a minute has passed.
  const now = new Date(Math.floor(context.now().getTime() / hour) * hour)
  const view = await statusView({ ...context, now: () => now }, rotation, looks.length === 0 ? null : looks)
  const open = (await forge.listOpen(rotation.base)).filter(({ branch }) =>
    branch.startsWith(`reanchor/${rotation.name}/`),
  )
  const requests = open.map(({ number, title }) => `- #${number} ${code(title)}`)
  const body = [
    'Where this rotation stands, written by `reanchor run`. What is written here by hand is overwritten; reviews belong to the pull requests.',
    '',
    ...(requests.length === 0 ? [] : ['Open:', '', ...requests, '']),
    '~~~~~~text',
    statusText({ ...view, seen: null }),
    '~~~~~~',
    '',
  ].join('\n')
  await forge.dashboard(rotation.name, { title: `${rotation.name}: rotation of the trust root`, body })
}
