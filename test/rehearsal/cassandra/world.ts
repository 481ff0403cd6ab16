import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { commitDeclaration, makeWorld, type World } from '../../../src/commands/demo.ts'
import { runInit } from '../../../src/declaration/init.ts'
import { readDeclaration } from '../../../src/declaration/read.ts'
import { writeDeclaration } from '../../../src/declaration/write.ts'
import { cassandraFleet, demoCluster } from '../../../src/rehearsal/cassandra/fleet.ts'
import { cassandraRehearsal } from '../../../src/rehearsal/cassandra/system.ts'
import { type StoredObject, textsAt } from '../../../src/rehearsal/objects.ts'
import type { Declaration, FileTree } from '../../../src/rotation.ts'

export interface CassandraTestWorld {
  readonly world: World
  /** Everything that the commands said. */
  readonly said: string[]
  /** Declares another rotation in the same repository and gives the world of it. */
  declare(name: string, change?: (declaration: Declaration) => Declaration): Promise<World>
  /** Values of the CA Secret in a region. */
  secret(site: string): Readonly<Record<string, string>>
  annotations(site: string): Readonly<Record<string, string>>
  pods(site: string): readonly StoredObject[]
  close(): Promise<void>
}

/** A fleet with a Cassandra cluster over rehearsal regions, and a declared rotation `first`, ready for `plan`. */
export async function cassandraWorld(
  options: {
    readonly sites?: readonly string[]
    readonly seed?: string
    readonly fleet?: (fleet: FileTree) => FileTree
    readonly change?: (declaration: Declaration) => Declaration
    readonly acceptOutage?: boolean
  } = {},
): Promise<CassandraTestWorld> {
  const sites = options.sites ?? ['eu-1']
  const folder = mkdtempSync(join(tmpdir(), 'reanchor-cassandra-'))
  const said: string[] = []
  let recipient = ''
  const written = async (files: FileTree, name: string, now: Date, change = options.change) => {
    const made = await runInit({
      system: 'cassandra',
      files,
      flags: {
        name,
        site: sites.map(site => `${site}=trust/${site}`),
        context: sites.map(site => `${site}=${site}`),
        delivery: sites.map(site => `${site}=flux:flux-system/trust`),
        age: [recipient],
        forge: 'local',
      },
      existing: () => null,
      now,
      ask: null,
    })
    if (change === undefined) return made
    return { path: made.path, text: writeDeclaration(change(await readDeclaration(made.text, made.path))) }
  }
  const world = await makeWorld(
    {
      dir: folder,
      system: cassandraRehearsal,
      fault: null,
      seed: options.seed ?? 'test',
      random: size => randomBytes(size),
      say: line => said.push(line),
      rotation: 'first',
      siteNames: sites,
      fleet: to => {
        recipient = to
        const fleet = cassandraFleet({ sites, ageRecipient: to })
        return options.fleet === undefined ? fleet : options.fleet(fleet)
      },
      declare: async (fleet, _to, now) => await written(fleet, 'first', now),
      sharedRoot: sites.length > 1,
      acceptOutage: options.acceptOutage ?? false,
      begins: new Date(Date.now() - 24 * 60 * 60 * 1000),
    },
    folder,
  )
  const store = (site: string) => {
    const found = world.rehearsal.sites.get(site)
    if (found === undefined) throw new Error(`no region ${site}`)
    return found.store
  }
  const caSecret = (site: string) => store(site).get('', 'Secret', demoCluster.namespace, demoCluster.secret)
  return {
    world,
    said,
    async declare(name, change) {
      const snapshot = world.repository.snapshot(await world.repository.head('main'))
      const paths = [...(await snapshot.list()).keys()].filter(
        path => /\.(ya?ml|pem)$/.test(path) && !path.startsWith('rotations/'),
      )
      const other: World = { ...world, rotation: name, phases: [] }
      await commitDeclaration(other, await written(await snapshot.readMany(paths), name, world.context.now(), change))
      return other
    },
    secret: site =>
      Object.fromEntries(
        Object.entries(textsAt(caSecret(site), 'data')).map(([key, value]) => [
          key,
          Buffer.from(value, 'base64').toString(),
        ]),
      ),
    annotations: site => caSecret(site)?.metadata.annotations ?? {},
    pods: site =>
      store(site)
        .list('', 'Pod', demoCluster.namespace)
        .filter(pod => pod.metadata.labels?.['cassandra-cluster-component'] === 'cassandra'),
    async close() {
      await world.rehearsal.close()
      world.repository.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
