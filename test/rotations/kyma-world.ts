import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeWorld, type World } from '../../src/commands/demo.ts'
import { demoKyma, profileOf, type Scenario } from '../../src/rehearsal/kyma/fleet.ts'
import { type KymaSite, kymaRehearsal, kymaSiteOf } from '../../src/rehearsal/kyma/system.ts'
import { type StoredObject, textsAt } from '../../src/rehearsal/objects.ts'
import { quickKeys } from '../systems/kyma/material.ts'

export interface KymaTestWorld {
  readonly world: World
  /** Everything that the commands said. */
  readonly said: string[]
  readonly kyma: KymaSite
  /** Values of both Secrets as the central cluster has them. */
  secrets(): { readonly signer: Readonly<Record<string, string>>; readonly gateway: Readonly<Record<string, string>> }
  deployment(): StoredObject
  close(): Promise<void>
}

/** The demo's Kyma, declared and ready for `plan`, with keys that are made in no time. */
export async function kymaWorld(scenario: Scenario): Promise<KymaTestWorld> {
  const folder = mkdtempSync(join(tmpdir(), 'reanchor-kyma-'))
  const said: string[] = []
  const { demo } = kymaRehearsal
  const options = (ageRecipient: string) => ({
    sites: demo.sites,
    ageRecipient,
    sealingCertificate: '',
    variant: scenario,
  })
  const made = await makeWorld(
    {
      dir: folder,
      fault: null,
      seed: scenario,
      random: size => randomBytes(size),
      say: line => said.push(line),
      system: kymaRehearsal,
      variant: scenario,
      rotation: demo.rotation,
      siteNames: demo.sites,
      fleet: recipient => demo.fleet(options(recipient)),
      declare: (files, recipient, now) =>
        demo.declare(files, {
          ...options(recipient),
          rotation: demo.rotation,
          paths: { central: 'trust/central' },
          now,
        }),
      sharedRoot: false,
      acceptOutage: demo.acceptsOutage?.(scenario) === true,
    },
    folder,
  )
  const world: World = { ...made, context: { ...made.context, keys: quickKeys } }
  const site = world.rehearsal.sites.get('central')
  if (site === undefined) throw new Error('no central cluster')
  const { gateway } = profileOf(scenario).profile
  const { signer } = demoKyma
  const values = (namespace: string, name: string): Readonly<Record<string, string>> =>
    Object.fromEntries(
      Object.entries(textsAt(site.store.get('', 'Secret', namespace, name), 'data')).map(([key, value]) => [
        key,
        Buffer.from(value, 'base64').toString(),
      ]),
    )
  return {
    world,
    said,
    kyma: kymaSiteOf(site.store),
    secrets: () => ({
      signer: values(signer.namespace, signer.secret),
      gateway: values(gateway.namespace, gateway.secret),
    }),
    deployment() {
      const found = site.store.get('apps', 'Deployment', gateway.namespace, gateway.deployment)
      if (found === null) throw new Error('no gateway')
      return found
    },
    async close() {
      await world.rehearsal.close()
      world.repository.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
