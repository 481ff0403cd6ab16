import { output } from './components.ts'
import type { ForgeFleet } from './forge-fleet.ts'

/** An administrator who reads what the pull request of `adopt` asks for before its merge, and does it. */
export interface Leave {
  /** Commands that were run, in order. */
  readonly given: readonly string[]
  /** Whether the merge button of this branch may be pressed. */
  presses(branch: string): boolean
  /** Does what the open pull request asks for, once it is there. */
  give(): Promise<void>
}

export function leaveToTakeOver(fleet: ForgeFleet, rotation: string, kubeconfig: string): Leave {
  const adopt = `reanchor/${rotation}/0-adopt-1-adopt`
  const given: string[] = []
  return {
    given,
    presses: branch => branch !== adopt || given.length > 0,
    async give() {
      if (given.length > 0) return
      const commands = await commandsIn(fleet, adopt)
      const env = { ...process.env, KUBECONFIG: kubeconfig }
      for (const command of commands) await output('sh', ['-c', command], { env })
      given.push(...commands)
    },
  }
}

/** Commands for kubectl in the text of the open pull request from this branch. */
async function commandsIn({ api, name }: ForgeFleet, branch: string): Promise<readonly string[]> {
  const pulls = await api<readonly { readonly head: { readonly ref: string }; readonly body: string }[]>(
    'GET',
    `/repos/${name}/pulls?state=open`,
  )
  const body = pulls.find(({ head }) => head.ref === branch)?.body ?? ''
  return [...body.matchAll(/`(kubectl [^`]+)`/g)].map(([, command = '']) => command)
}
