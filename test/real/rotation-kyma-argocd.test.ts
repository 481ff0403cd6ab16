/** Kyma's root CA delivered by the real Argo CD, from SealedSecrets that the real controller unseals; real Envoys verify the clients. */
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { takeOverCommand } from '../../src/custody/sealed-secrets.ts'
import { type ArgoCd, startArgoCd } from './rig/argocd.ts'
import { kymaNames } from './rig/kyma-gateway.ts'
import {
  everybodyIsTaken,
  kymaClients,
  kymaDeclared,
  kymaGateways,
  kymaInit,
  kymaPeople,
  meetingsSince,
} from './rig/kyma-people.ts'
import { centralSite, type KymaClusters, kymaArgoFleet, runtimeName, startKyma } from './rig/kyma-world.ts'
import { createNetwork, type Network } from './rig/network.ts'
import { mustSay } from './rig/reanchor.ts'
import { type FleetRepository, makeRepository } from './rig/repository.ts'
import { merge, report, rotate } from './rig/rotation.ts'
import { type SealedSecrets, startSealedSecrets } from './rig/sealed-secrets.ts'

describe('Kyma’s gateway under Argo CD', () => {
  let network: Network
  let kyma: KymaClusters
  let sealedSecrets: SealedSecrets
  let argo: ArgoCd
  let repository: FleetRepository

  beforeAll(async () => {
    network = await createNetwork()
    kyma = await startKyma(network)
    sealedSecrets = await startSealedSecrets(kyma.central)
    argo = await startArgoCd(kyma.central)
    const certificate = await sealedSecrets.certificate()
    repository = await makeRepository(url => kymaArgoFleet(url, certificate))
    const root = join(repository.clone, 'clusters', centralSite, 'root.yaml')
    await kyma.central.objects.applyFile(root, 'kubectl-client-side-apply')
    await everybodyIsTaken(kyma)
  }, 900_000)

  afterAll(async () => {
    await argo?.stop()
    await sealedSecrets?.stop()
    await kyma?.stop()
    await repository?.close()
    await network?.close()
  })

  it('gets a new key while everybody renews, and nobody is refused', async () => {
    const since = Date.now()
    const act = kymaPeople({
      async renew(client) {
        if (client === runtimeName) await kyma.askToRenew()
        else await kyma.client(client).renew()
      },
      async vouch(phase) {
        const flags = ['--rotation', 'first', '--phase', phase, '--by', 'Grace', '--output', 'json']
        const said = await mustSay(['attest', 'applications', ...flags], { cwd: repository.clone })
        const { pullRequest } = said.json as { readonly pullRequest: { readonly number: number } }
        await merge({ repository }, pullRequest.number)
      },
    })
    const record = await rotate({
      system: 'kyma',
      name: 'first',
      repository,
      administrator: kyma.administrator,
      verifier: kyma.verifier,
      init: [...kymaInit, '--age', repository.recipient],
      edit: kymaDeclared('graceful'),
      async onOpened(step, number) {
        if (step !== '0-adopt/1-adopt') return true
        // The pull request asks for it: the controller takes no Secret over that it did not make, unless it is let.
        const { namespace, name } = kymaNames.signer
        const { stdout } = await mustSay(['pr', 'show', String(number)], { cwd: repository.clone })
        expect(stdout).toContain(takeOverCommand(kymaNames.signer))
        await kyma.central.objects.merge(
          { apiVersion: 'v1', kind: 'Secret', namespace, name },
          { metadata: { annotations: { 'sealedsecrets.bitnami.com/managed': 'true' } } },
        )
        return true
      },
      onWaiting: act,
    })
    const { sent, refused } = meetingsSince(kyma, since)
    await report({
      what: 'Kyma 1.11 under Argo CD with SealedSecrets: graceful',
      ...record,
      sent,
      failed: refused.length,
    })
    expect(record.steps.map(step => step.step)).toEqual([
      'plan',
      '0-adopt/1-adopt',
      '1-trust-both/1-data',
      '2-issue-new/1-data',
      '3-trust-new/1-data',
      '4-close',
    ])
    for (const step of record.steps.slice(1, -1))
      expect(step.consumers, step.step).toMatchObject({ gateway: kymaGateways, runtime: 1 })
    expect(refused).toEqual([])
    expect(sent).toBeGreaterThan(100)
    const { meetings } = kyma.clients
    const last = new Set(meetings.slice(-kymaClients.length * kymaGateways).map(({ presents }) => presents))
    expect(last.size).toBe(1)
    expect(last.has(meetings[0]?.presents ?? '')).toBe(false)
  }, 1_500_000)
})
