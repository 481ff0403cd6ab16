import { randomBytes } from 'node:crypto'
import { type FaultyRehearsal, rehearseUnderFaults } from '../../src/commands/faulty.ts'
import { type KeySource, systemKeys } from '../../src/pki/keys.ts'
import type { SystemName } from '../../src/rotation.ts'
import { systemOf } from '../../src/systems/systems.ts'
import { smallFleet } from './fleets.ts'

export interface RunOptions {
  readonly system: SystemName
  /** Variant of the system's demo: how Istio is installed, Linkerd's flow, a scenario of Kyma or Cassandra. Null: the usual one. */
  readonly flow: string | null
  readonly seed: number
  /** @default one; with some seeds two, where the system's demo has as many */
  readonly sites?: number
  /** Lines as they happen. */
  readonly say?: (line: string) => void
}

/** A run failed where `handshakes.failed` is not 0; `finished` and `stoppedBy` tell one that did not come to its end. */
export interface RunResult extends FaultyRehearsal {
  readonly system: SystemName
  readonly flow: string | null
  readonly sites: readonly string[]
}

/** A whole rotation of a small fleet while what the seed draws goes wrong. The same seed goes through the same steps to the same verdicts. */
export async function faultyRun({ system: name, flow, seed, ...options }: RunOptions): Promise<RunResult> {
  const system = await systemOf(name).rehearsal()
  const { demo } = system
  const sites = demo.sites.slice(0, options.sites ?? sitesOf(seed))
  const fleetOptions = { sites, variant: flow }
  const outcome = await rehearseUnderFaults(
    {
      system,
      variant: flow,
      random: randomBytes,
      keys: quickKeys,
      say: options.say ?? (() => {}),
      rotation: demo.rotation,
      siteNames: sites,
      sealing: demo.byArgo(flow),
      fleet: (ageRecipient, sealingCertificate) =>
        smallFleet(name, demo.fleet({ ...fleetOptions, ageRecipient, sealingCertificate })),
      declare: async (fleet, ageRecipient, now) => {
        const paths = Object.fromEntries(sites.map(site => [site, `trust/${site}`]))
        const where = { ...fleetOptions, ageRecipient, sealingCertificate: '' }
        return await demo.declare(fleet, { ...where, rotation: demo.rotation, paths, now })
      },
      sharedRoot: sites.length > 1,
      acceptOutage: demo.acceptsOutage?.(flow) ?? false,
      begins: new Date(Date.now() - daysAgo(name) * 86_400_000),
    },
    seed,
  )
  return { system: name, flow, sites, ...outcome }
}

/** OpenSSL judges dates by the machine's clock, and some certificates are made in the course of a rotation, which takes days for Kyma. */
const daysAgo = (system: SystemName): number => (system === 'kyma' ? 30 : 3)

/** Two sites take longer: one run in five. Those of Kyma do not meet each other, but go through the steps together. */
function sitesOf(seed: number): number {
  return seed % 5 === 0 ? 2 : 1
}

/** No RSA key of 4096 bits: making one takes longer than a run. */
const quickKeys: KeySource = {
  generate: algorithm => systemKeys.generate(algorithm === 'rsa-4096' ? 'rsa-2048' : algorithm),
}
