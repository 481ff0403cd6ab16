/** Kyma's root CA through a real Gitea and the real Argo CD, from SealedSecrets that the real controller unseals; real Envoys verify the clients. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { output } from './rig/components.ts'
import { type ForgeFleet, makeForgeFleet } from './rig/forge-fleet.ts'
import {
  everybodyIsTaken,
  kymaGateways,
  kymaPeople,
  kymaRotation,
  meetingsSince,
  presentedFirstAndLast,
} from './rig/kyma-people.ts'
import { type KymaClusters, runtimeName, startKymaUnderArgo } from './rig/kyma-world.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { mustSay } from './rig/reanchor.ts'
import { report } from './rig/rotation.ts'
import { unattended } from './rig/unattended.ts'

const adopt = 'reanchor/first/0-adopt-1-adopt'

describe('Kyma’s gateway through a real Gitea and Argo CD', () => {
  let network: Network
  let kyma: KymaClusters
  let fleet: ForgeFleet

  beforeAll(async () => {
    network = await createNetwork()
    ;({ kyma, repository: fleet } = await startKymaUnderArgo(network, makeForgeFleet))
    await everybodyIsTaken(kyma)
  }, 900_000)

  afterAll(async () => {
    await kyma?.stop()
    await fleet?.close()
    await network?.close()
  })

  it('gets a new key while everybody renews, once the administrator did what adopt asks for; nobody is refused', async () => {
    const since = Date.now()
    const act = kymaPeople({
      async renew(client) {
        if (client === runtimeName) await kyma.askToRenew()
        else await kyma.client(client).renew()
      },
      async vouch(phase) {
        const desk = await fleet.runner([])
        await mustSay(['attest', 'applications', '--rotation', 'first', '--phase', phase, '--by', 'Grace'], desk)
      },
    })
    const asked: string[] = []
    const rotation = kymaRotation(kyma, 'first', 'graceful')
    const record = await unattended({
      ...rotation,
      fleet,
      init: [...rotation.init, '--age', fleet.recipient],
      // Who merges reads what has to be done before.
      presses: branch => branch !== adopt || asked.length > 0,
      async onRound({ step, kind, gates }) {
        if (kind === 'waiting') await act(step ?? 'plan', gates)
        if (asked.length > 0) return
        const commands = await commandsIn(fleet, adopt)
        for (const command of commands) await output('sh', ['-c', command], { env: asAdministrator(kyma) })
        asked.push(...commands)
      },
    })
    const { sent, refused } = meetingsSince(kyma, since)
    const what = 'Kyma through a real Gitea, Argo CD and SealedSecrets, unattended: graceful'
    await report({ what, ...record, sent, failed: refused.length })
    expect(asked).toEqual([expect.stringMatching(/^kubectl .*annotate secret connector-service-app-ca /)])
    expect(record.steps.map(step => step.step)).toEqual([
      'plan',
      '0-adopt/1-adopt',
      '1-trust-both/1-data',
      '2-issue-new/1-data',
      '3-trust-new/1-data',
      '4-close',
    ])
    expect(record.merges.map(({ gate }) => gate.replace(/:.*/, ''))).toEqual(record.merges.map(() => 'success'))
    expect(record.refused).toBeGreaterThan(0)
    for (const step of record.steps.slice(1, -1))
      expect(step.consumers, step.step).toMatchObject({ gateway: kymaGateways, runtime: 1 })
    expect(refused).toEqual([])
    expect(sent).toBeGreaterThan(100)
    const { first, last } = presentedFirstAndLast(kyma)
    expect(last.size).toBe(1)
    expect(last.has(first)).toBe(false)
  }, 1_500_000)
})

/** Commands for kubectl in the text of the open pull request from this branch. */
async function commandsIn({ api, name }: ForgeFleet, branch: string): Promise<readonly string[]> {
  const pulls = await api<readonly { readonly head: { readonly ref: string }; readonly body: string }[]>(
    'GET',
    `/repos/${name}/pulls?state=open`,
  )
  const body = pulls.find(({ head }) => head.ref === branch)?.body ?? ''
  return [...body.matchAll(/`(kubectl [^`]+)`/g)].map(([, command = '']) => command)
}

function asAdministrator({ central }: KymaClusters): NodeJS.ProcessEnv {
  return { ...process.env, KUBECONFIG: central.kubeconfig }
}
