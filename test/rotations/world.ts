import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { commitDeclaration, makeWorld, type World } from '../../src/commands/demo.ts'
import { readDeclaration } from '../../src/declaration/read.ts'
import { writeDeclaration } from '../../src/declaration/write.ts'
import { type KeySource, systemKeys } from '../../src/pki/keys.ts'
import { type ObjectStore, textsAt } from '../../src/rehearsal/objects.ts'
import type { SiteControls } from '../../src/rehearsal/rehearsal.ts'
import type { Declaration, FileTree, SystemName } from '../../src/rotation.ts'
import { systemOf } from '../../src/systems/systems.ts'
import { wholeMatrix } from './matrix.ts'

export interface TestWorld {
  readonly world: World
  readonly recipient: string
  /** Everything that the commands said. */
  readonly said: string[]
  /**
   * Declares another rotation in the same repository and the same clusters, and gives the world of it. `variant` is what the demo's
   * flag would be for it; that of the first rotation unless said otherwise.
   */
  declare(name: string, change?: Change, variant?: string): Promise<World>
  site(name: string): SiteControls
  store(site: string): ObjectStore
  /** Values of a live Secret, decoded; empty where there is none. */
  secret(site: string, namespace: string, name: string): Readonly<Record<string, string>>
  close(): Promise<void>
}

export type Change = (declaration: Declaration) => Declaration

export interface TestWorldOptions {
  /** @default istio */
  readonly system?: SystemName
  /** What `--install`, `--flow` or `--scenario` of the demo takes. @default the usual one */
  readonly variant?: string
  /** @default the first one of the demo's */
  readonly sites?: readonly string[]
  readonly seed?: string
  readonly sharedRoot?: boolean
  /** Where keys of generated CAs come from. @default the system's generator */
  readonly keys?: KeySource
  /** The demo's fleet, changed. */
  readonly fleet?: (fleet: FileTree) => FileTree
  /** The first rotation's declaration, as the demo wrote it, changed. */
  readonly change?: Change
  /** Plan with --accept-outage, and count what the plan says of handshakes as foretold. @default where the strategy is `emergency` */
  readonly acceptOutage?: boolean
  /** Days before now at which the clusters' time begins: OpenSSL must not take certificates of a later rotation for future ones. @default what the demo has, or 1 */
  readonly daysAgo?: number
  /**
   * Ordered pairs in one round of handshakes, beside those of which one side has changed. @default a third of what the rehearsal has, since
   * half the time of a rotation goes into handshakes of pairs that have not changed; all of it in the whole matrix
   */
  readonly roundLimit?: number
  /** What must be green before a step is merged. @default `reanchor/gate` */
  readonly requiredStatuses?: readonly string[]
}

/** The fleet of a system's demo with its rehearsal clusters, and a declared rotation `first`, ready for `plan`. */
export async function testWorld(options: TestWorldOptions = {}): Promise<TestWorld> {
  const system = await systemOf(options.system ?? 'istio').rehearsal()
  const { demo } = system
  const sites = options.sites ?? demo.sites.slice(0, 1)
  const variant = options.variant ?? null
  const folder = mkdtempSync(join(tmpdir(), 'reanchor-test-'))
  const said: string[] = []
  const roundLimit = options.roundLimit ?? (wholeMatrix ? undefined : 40)
  let recipient = ''
  let strategy: Declaration['strategy'] = 'graceful'
  const declare = async (files: FileTree, rotation: string, now: Date, change: Change | undefined, as = variant) => {
    const paths = Object.fromEntries(sites.map(name => [name, `trust/${name}`]))
    const fleet = { sites, ageRecipient: recipient, sealingCertificate: '', variant: as }
    const { path, text } = await demo.declare(files, { ...fleet, rotation, paths, now })
    const declaration = await readDeclaration(text, path)
    const changed = change === undefined ? declaration : change(declaration)
    strategy = changed.strategy
    return { path, text: change === undefined ? text : writeDeclaration(changed) }
  }
  const made = await makeWorld(
    {
      dir: folder,
      system,
      variant,
      fault: null,
      seed: options.seed ?? 'test',
      random: size => randomBytes(size),
      say: line => said.push(line),
      rotation: 'first',
      siteNames: sites,
      sealing: demo.byArgo(variant),
      fleet: (to, sealingCertificate) => {
        recipient = to
        const fleet = demo.fleet({ sites, ageRecipient: to, sealingCertificate, variant })
        return options.fleet === undefined ? fleet : options.fleet(fleet)
      },
      declare: (fleet, _to, now) => declare(fleet, 'first', now, options.change),
      sharedRoot: options.sharedRoot ?? (system.name !== 'istio' && sites.length > 1),
      begins: new Date(Date.now() - (options.daysAgo ?? system.demo.beginsDaysAgo ?? 1) * 24 * 3_600_000),
      ...(roundLimit === undefined ? {} : { roundLimit }),
      ...(options.requiredStatuses === undefined ? {} : { requiredStatuses: options.requiredStatuses }),
    },
    folder,
  )
  const context = { ...made.context, keys: options.keys ?? systemKeys }
  const accepts = () => options.acceptOutage ?? strategy === 'emergency'
  const world: World = { ...made, context, acceptOutage: accepts() }
  const site = (name: string): SiteControls => {
    const found = world.rehearsal.sites.get(name)
    if (found === undefined) throw new Error(`no site ${name}`)
    return found
  }
  return {
    world,
    recipient,
    said,
    async declare(name, change, as) {
      const snapshot = world.repository.snapshot(await world.repository.head('main'))
      const paths = [...(await snapshot.list()).keys()].filter(
        path => /\.(ya?ml|pem)$/.test(path) && !path.startsWith('rotations/'),
      )
      const files = await snapshot.readMany(paths)
      const declared = await declare(files, name, world.context.now(), change, as ?? variant)
      const other: World = { ...world, rotation: name, phases: [], acceptOutage: accepts() }
      await commitDeclaration(other, declared)
      return other
    },
    site,
    store: name => site(name).store,
    secret: (name, namespace, secret) =>
      Object.fromEntries(
        Object.entries(textsAt(site(name).store.get('', 'Secret', namespace, secret), 'data')).map(([key, value]) => [
          key,
          Buffer.from(value, 'base64').toString(),
        ]),
      ),
    async close() {
      await world.rehearsal.close()
      world.repository.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
