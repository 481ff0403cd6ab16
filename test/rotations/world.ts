import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { commitDeclaration, makeWorld, type World } from '../../src/commands/demo.ts'
import { runInit } from '../../src/declaration/init.ts'
import { readDeclaration } from '../../src/declaration/read.ts'
import { writeDeclaration } from '../../src/declaration/write.ts'
import { demoFleet, type FleetInstall } from '../../src/rehearsal/fleet.ts'
import type { Declaration, FileTree } from '../../src/rotation.ts'

export interface TestWorld {
  readonly world: World
  readonly recipient: string
  /** Everything that the commands said. */
  readonly said: string[]
  /** Declares another rotation in the same repository and gives the world of it. */
  declare(name: string, change?: (declaration: Declaration) => Declaration): Promise<World>
  close(): Promise<void>
}

export interface TestWorldOptions {
  readonly sites?: readonly string[]
  readonly seed?: string
  readonly sharedRoot?: boolean
  /** How Istio is installed and delivered. @default Flux with the Sail operator */
  readonly install?: FleetInstall
  /** Annotation manifest-generate-paths of istiod's Application. @default none */
  readonly manifestPaths?: string
  /** The first rotation's declaration, as `init` wrote it, changed. */
  readonly change?: (declaration: Declaration) => Declaration
}

/** A fleet with rehearsal clusters and a declared rotation `first`, ready for `plan`. */
export async function testWorld(options: TestWorldOptions = {}): Promise<TestWorld> {
  const sites = options.sites ?? ['eu-1']
  const folder = mkdtempSync(join(tmpdir(), 'reanchor-test-'))
  const said: string[] = []
  let recipient = ''
  const { install = 'sail' } = options
  const byArgo = install === 'argocd' || install === 'argocdMultiSource'
  const delivery = (site: string) => (byArgo ? `argocd:argocd/trust-${site}` : 'flux:flux-system/trust')
  const world = await makeWorld(
    {
      dir: folder,
      fault: null,
      seed: options.seed ?? 'test',
      random: size => randomBytes(size),
      say: line => said.push(line),
      rotation: 'first',
      siteNames: sites,
      sealing: byArgo,
      fleet: (to, sealingCertificate) => {
        recipient = to
        const fleet = demoFleet({ sites, ageRecipient: to, install, sealingCertificate })
        return options.manifestPaths === undefined ? fleet : annotated(fleet, options.manifestPaths)
      },
      declare: async (fleet, to, now) => await declaration(fleet, sites, delivery, 'first', to, now, options.change),
      sharedRoot: options.sharedRoot ?? false,
      // Certificates of a second rotation are made hours of virtual time later, and OpenSSL must not take them for future ones.
      begins: new Date(Date.now() - 24 * 60 * 60 * 1000),
    },
    folder,
  )
  return {
    world,
    recipient,
    said,
    async declare(name, change) {
      const snapshot = world.repository.snapshot(await world.repository.head('main'))
      const paths = [...(await snapshot.list()).keys()].filter(
        path => /\.(ya?ml|pem)$/.test(path) && !path.startsWith('rotations/'),
      )
      const files = await snapshot.readMany(paths)
      const other: World = { ...world, rotation: name, phases: [] }
      await commitDeclaration(
        other,
        await declaration(files, sites, delivery, name, recipient, world.context.now(), change),
      )
      return other
    },
    async close() {
      await world.rehearsal.close()
      world.repository.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

async function declaration(
  files: FileTree,
  sites: readonly string[],
  delivery: (site: string) => string,
  name: string,
  recipient: string,
  now: Date,
  change: ((declaration: Declaration) => Declaration) | undefined,
): Promise<{ readonly path: string; readonly text: string }> {
  const written = await runInit({
    files,
    flags: {
      name,
      site: sites.map(site => `${site}=trust/${site}`),
      context: sites.map(site => `${site}=${site}`),
      delivery: sites.map(site => `${site}=${delivery(site)}`),
      age: [recipient],
      forge: 'local',
    },
    existing: () => null,
    now,
    ask: null,
  })
  if (change === undefined) return written
  return { path: written.path, text: writeDeclaration(change(await readDeclaration(written.text, written.path))) }
}

function annotated(fleet: FileTree, paths: string): FileTree {
  const note = `  annotations:\n    argocd.argoproj.io/manifest-generate-paths: ${paths}\nspec:\n`
  return new Map(
    [...fleet].map(([path, text]) => [path, path.endsWith('/istiod.yaml') ? text.replace('spec:\n', note) : text]),
  )
}
