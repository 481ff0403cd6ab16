import { createHash } from 'node:crypto'
import { appendFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { output } from './components.ts'
import type { ControlPlane } from './control-plane.ts'
import type { Manifest, Place } from './objects.ts'
import type { FleetRepository } from './repository.ts'
import { freePort } from './server.ts'

/** One artifact that went into the status of a GitRepository. */
export interface Publication {
  /** `<namespace>/<name>` of the GitRepository. */
  readonly source: string
  readonly revision: string
  readonly commit: string
  /** When the status was written. */
  readonly at: Date
}

/** Stand-in for Flux's source-controller, which cannot be had as a Go module. */
export interface SourceController {
  readonly published: readonly Publication[]
  /** While held it looks at nothing, as a controller that is down; artifacts stay served. */
  hold(held: boolean): void
  stop(): Promise<void>
}

export interface SourceControllerOptions {
  /** Git folder that every GitRepository of this cluster stands for, whatever its `spec.url`. */
  readonly repository: string
  /** Where a GitRepository names none. */
  readonly branch: string
  /** Brings that folder up to its remote, before each look; what it throws is why nothing could be fetched. @default nothing to fetch */
  readonly fetch?: () => Promise<void>
}

/** A repository on a forge is fetched from there before each look; one of this machine is read as it is. */
export function sourceOf({ bare, sync }: FleetRepository): SourceControllerOptions {
  const source = { repository: bare, branch: 'main' }
  return sync === undefined ? source : { ...source, fetch: sync }
}

/** What no artifact holds (fluxcd/pkg/sourceignore: VCS, extensions, CI and extra patterns). */
const ignoredByDefault = [
  ...['.git/', '.gitignore', '.gitmodules', '.gitattributes'],
  ...['*.jpg', '*.jpeg', '*.gif', '*.png', '*.wmv', '*.flv', '*.tar.gz', '*.zip'],
  ...['.github/', '.circleci/', '.travis.yml', '.gitlab-ci.yml', 'appveyor.yml', '.drone.yml', 'cloudbuild.yaml'],
  ...['codeship-services.yml', 'codeship-steps.yml', '**/.goreleaser.yml', '**/.sops.yaml', '**/.flux.yaml'],
]

const apiVersion = 'source.toolkit.fluxcd.io/v1'
const pause = 200

interface Seen {
  readonly generation: number
  readonly requested: string
  readonly due: number
  readonly revision: string | null
}

/**
 * Publishes the head of the branch of each GitRepository at its `spec.interval`, at once when it is new, changed, or asked by
 * `reconcile.fluxcd.io/requestedAt`. Honours `suspend`, `ref.branch`, `ignore` and the root's `.sourceignore`; nothing else of the spec.
 */
export async function startSourceController(
  plane: ControlPlane,
  options: SourceControllerOptions,
): Promise<SourceController> {
  const folder = await mkdtemp(join(plane.folder, 'src-'))
  const server = createServer((request, response) => {
    // Names that this process wrote: `gitrepository/<namespace>/<name>/<commit>.tar.gz`.
    const path = decodeURIComponent(request.url ?? '').replace(/^\//, '')
    if (!/^gitrepository\/[a-z0-9.-]+\/[a-z0-9.-]+\/[0-9a-f]+\.tar\.gz$/.test(path)) {
      response.writeHead(404).end()
      return
    }
    readFile(join(folder, path)).then(
      bytes => response.writeHead(200, { 'Content-Type': 'application/gzip' }).end(bytes),
      () => response.writeHead(404).end(),
    )
  })
  const port = await freePort()
  await new Promise<void>(resolve => server.listen(port, '127.0.0.1', resolve))

  const log = join(plane.folder, 'log', 'source-controller.log')
  const seen = new Map<string, Seen>()
  const published: Publication[] = []
  let held = false
  let stopped = false

  async function look(object: Manifest): Promise<void> {
    const { name, namespace = 'default', generation, annotations } = object.metadata as unknown as Metadata
    const key = `${namespace}/${name}`
    const spec = object.spec as Spec
    const requested = annotations?.['reconcile.fluxcd.io/requestedAt'] ?? ''
    const before = seen.get(key)
    const asked = before === undefined || before.generation !== generation || before.requested !== requested
    if (spec.suspend === true || (!asked && Date.now() < before.due)) return
    const place: Place = { apiVersion, kind: 'GitRepository', namespace, name }
    const branch = spec.ref?.branch ?? options.branch
    const due = Date.now() + (milliseconds(spec.interval) ?? 2000)
    const handled = requested === '' ? {} : { lastHandledReconcileAt: requested }
    const fetched = await options.fetch?.().then(
      () => null,
      (cause: unknown) => String(cause),
    )
    const commit = typeof fetched === 'string' ? null : await headOf(options.repository, branch)
    if (commit === null) {
      const message =
        fetched ?? `failed to checkout and determine revision: couldn't find remote ref "refs/heads/${branch}"`
      const failed = [
        conditionOf('FetchFailed', 'True', 'GitOperationFailed', message, generation),
        conditionOf('Ready', 'False', 'GitOperationFailed', message, generation),
      ]
      if (asked) await plane.objects.mergeStatus(place, { ...handled, conditions: failed })
      seen.set(key, { generation, requested, due, revision: null })
      return
    }
    const revision = `${branch}@sha1:${commit}`
    const known = (object.status as Status | undefined)?.artifact
    // A cluster that was restored knows an older one.
    if (!asked && before.revision === revision && known?.revision === revision) {
      seen.set(key, { ...before, due })
      return
    }
    const path = `gitrepository/${namespace}/${name}/${commit}.tar.gz`
    const bytes = await archive(options.repository, commit, spec.ignore ?? '', folder)
    await mkdir(join(folder, path, '..'), { recursive: true })
    await writeFile(join(folder, path), bytes)
    const message = `stored artifact for revision '${revision}'`
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`
    const same = known?.digest === digest && known.revision === revision
    const lastUpdateTime = new Date().toISOString().replace(/\.\d+Z$/, 'Z')
    await plane.objects.mergeStatus(place, {
      ...handled,
      observedGeneration: generation,
      ...(same
        ? {}
        : {
            artifact: {
              path,
              url: `http://127.0.0.1:${port}/${path}`,
              revision,
              digest,
              size: bytes.length,
              lastUpdateTime,
            },
          }),
      conditions: [
        conditionOf('Ready', 'True', 'Succeeded', message, generation),
        conditionOf('ArtifactInStorage', 'True', 'Succeeded', message, generation),
      ],
    })
    seen.set(key, { generation, requested, due, revision })
    if (!same) published.push({ source: key, revision, commit, at: new Date() })
  }

  async function run(): Promise<void> {
    while (!stopped) {
      if (!held) {
        try {
          for (const object of await plane.objects.list(apiVersion, 'GitRepository')) {
            if (!stopped && !held) await look(object)
          }
        } catch (cause) {
          // The API server may be away, or the object gone: the next look finds out.
          await appendFile(log, `${new Date().toISOString()} ${String(cause)}\n`)
        }
      }
      await sleep(pause)
    }
  }
  const running = run()

  return {
    published,
    hold(value) {
      held = value
    },
    async stop() {
      stopped = true
      await running
      server.closeAllConnections()
      await new Promise<void>(resolve => server.close(() => resolve()))
      await rm(folder, { recursive: true, force: true })
    },
  }
}

interface Metadata {
  readonly name: string
  readonly namespace?: string
  readonly generation: number
  readonly annotations?: Readonly<Record<string, string>>
}

interface Spec {
  readonly interval: string
  readonly suspend?: boolean
  readonly ref?: { readonly branch?: string }
  readonly ignore?: string
}

interface Status {
  readonly artifact?: { readonly digest: string; readonly revision: string }
}

function conditionOf(
  type: string,
  status: string,
  reason: string,
  message: string,
  observedGeneration: number,
): object {
  return { type, status, reason, message, observedGeneration, lastTransitionTime: new Date().toISOString() }
}

async function headOf(repository: string, branch: string): Promise<string | null> {
  const ref = `refs/heads/${branch}`
  const commit = await output('git', ['-C', repository, 'rev-parse', '--verify', '--quiet', ref]).catch(() => '')
  return commit.trim() === '' ? null : commit.trim()
}

/** The files of a commit as source-controller packs them. Git itself judges what is ignored, in an index of its own. */
async function archive(repository: string, commit: string, ignore: string, folder: string): Promise<Buffer> {
  const work = await mkdtemp(join(folder, 'index-'))
  try {
    // `ls-files` asks for a work tree, and then looks at the index alone.
    const env = { ...process.env, GIT_INDEX_FILE: join(work, 'index'), GIT_WORK_TREE: work }
    const git = (args: readonly string[], input?: string): Promise<string> =>
      output('git', ['-C', repository, ...args], input === undefined ? { env } : { env, input })
    const own = await git(['show', `${commit}:.sourceignore`]).catch(() => '')
    await writeFile(join(work, 'exclude'), [...ignoredByDefault, own, ignore, ''].join('\n'))
    await git(['read-tree', commit])
    const ignored = await git(['ls-files', '--cached', '--ignored', '-z', `--exclude-from=${join(work, 'exclude')}`])
    if (ignored !== '') await git(['update-index', '--force-remove', '-z', '--stdin'], ignored)
    const tree = (await git(['write-tree'])).trim()
    const file = join(work, 'artifact.tar.gz')
    await git(['archive', '--format=tar.gz', `--output=${file}`, tree])
    return await readFile(file)
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

/** A Go duration such as `1m30s`. */
export function milliseconds(duration: string): number | null {
  const units: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 }
  const parts = [...duration.matchAll(/([\d.]+)(ms|h|m|s)/g)]
  if (parts.length === 0) return null
  return parts.reduce((sum, [, amount, unit]) => sum + Number(amount) * (units[unit ?? ''] ?? 0), 0)
}
