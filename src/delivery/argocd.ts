import type { Cluster, KubernetesObject, ResourceType } from '../cluster/cluster.ts'
import { resources } from '../cluster/resources.ts'
import type { DeliveryChoice, DeliveryEvidence } from '../rotation.ts'
import { oneLine } from '../verify/exceptions.ts'
import { at, instant, instantOf, list, objectId, record, text } from '../verify/values.ts'
import { appliedTree, commitOf, type DeliveryQuestion, unseen } from './delivery.ts'

type Fields = Readonly<Record<string, unknown>>
type ArgoChoice = Extract<DeliveryChoice, { kind: 'argocd' }>

/**
 * Argo CD compares every 120 s, with up to 60 s of jitter (argo-cd, timeout.reconciliation), but its repository server keeps what a branch
 * points to for 180 s (reposerver/cache, revision-cache-expiration), and reconciledAt does not tell how old that was.
 */
const pollSpan = 180_000 + 180_000

/**
 * What an Argo CD Application synced last. operationState counts only where it is about the revision shown: a commit that changes nothing for
 * the Application runs no operation, and a failed one leaves its state behind.
 */
export async function observeArgo(question: DeliveryQuestion, delivery: ArgoChoice): Promise<DeliveryEvidence> {
  const { cluster, path } = question
  const found = await cluster.get(resources.applications, delivery.namespace, delivery.name)
  if (found === null) return { ...unseen(delivery), message: 'does not exist' }
  const { status } = found
  const source = sourceIndex(found.spec, path)
  const revision = revisionOf(at(status, 'sync'), source)
  const commit = commitOf(revision)
  const differing = await differences(question, found, revision, source)
  const problems = problemsOf(found, revision, source, differing)
  const automatic = syncsByItself(found.spec)
  const notes = [
    ...(differing.length > 0 && onlyKept(differing)
      ? [`${named(differing)} left the folder and stays, by Prune=false`]
      : []),
    ...(automatic ? [] : [problems.length === 0 ? 'synced by hand: automatic sync is off' : 'automatic sync is off']),
  ]
  const { treeDigest, problem } = await appliedTree(question, commit)
  const reconciled = instant(at(status, 'reconciledAt'))
  return {
    ...unseen(delivery),
    // Without automatic sync a merge reaches nothing until a person presses the button.
    suspended: !automatic,
    observed: at(found, 'operation') === undefined,
    ready: problems.length === 0,
    revision: commit,
    treeDigest,
    // What has left the folder is still listed until it is pruned.
    inventory: list(at(status, 'resources'))
      .filter(entry => record(entry).requiresPruning !== true)
      .map(resourceId)
      .sort(),
    message: oneLine([problem, ...problems, ...notes].filter(part => part !== '').join('; ')),
    nextDue: reconciled === null ? null : instantOf(new Date(Date.parse(reconciled) + pollSpan)),
    hurry: `kubectl --namespace ${delivery.namespace} annotate application ${delivery.name} argocd.argoproj.io/refresh=normal --overwrite`,
  }
}

/**
 * The commit that an Application is syncing at this moment, as a hook of that sync asks. Null: it is not syncing, or the sync does not say. `spec.source` and
 * `status.sync` may be of a newer commit than the operation (argo-cd pkg/apis/application/v1alpha1, OperationState).
 */
export async function syncingNow(
  cluster: Cluster,
  delivery: Pick<ArgoChoice, 'namespace' | 'name'>,
  path: string,
): Promise<string | null> {
  const found = await cluster.get(resources.applications, delivery.namespace, delivery.name)
  const state = at(found?.status, 'operationState')
  if (text(at(state, 'phase')) !== 'Running') return null
  return commitOf(revisionOf(at(state, 'syncResult'), sourceIndex(found?.spec, path)))
}

/** `automated: {}` switches it on, and `enabled: false` in it off again (argo-cd docs/user-guide/auto_sync.md). */
function syncsByItself(spec: unknown): boolean {
  const automated = at(spec, 'syncPolicy', 'automated')
  return automated !== undefined && automated !== null && at(automated, 'enabled') !== false
}

/** With several sources: which of them applies the site's folder, the nearest one above it. Null: it has one source; -1: none of them does. */
function sourceIndex(spec: unknown, path: string): number | null {
  const sources = list(at(spec, 'sources'))
  if (sources.length === 0) return null
  let found = -1
  let length = -1
  for (const [index, source] of sources.entries()) {
    const own = text(record(source).path)
    if (own === null || text(record(source).chart) !== null) continue
    const folder = own.replace(/^(\.?\/+|\.$)+|\/+$/g, '')
    if (folder !== '' && path !== folder && !path.startsWith(`${folder}/`)) continue
    if (folder.length > length) [found, length] = [index, folder.length]
  }
  return found
}

/** Argo CD fills `revisions` for several sources, and `revision` for one. */
function revisionOf(holder: unknown, source: number | null): string | null {
  return source === null ? text(at(holder, 'revision')) : text(list(at(holder, 'revisions'))[source])
}

/** An object that is not as Git declares it. */
interface Difference {
  readonly id: string
  /** `left`: Git declares it no longer, and it is not pruned; `kept`: so too, and it asks for that by Prune=false. */
  readonly how: 'differs' | 'left' | 'kept'
}

/**
 * What makes an Application OutOfSync. One object with Prune=false that left the folder does so for good, though all that Git declares is
 * applied (argo-cd controller/state.go, CompareAppState).
 */
async function differences(
  { cluster }: DeliveryQuestion,
  application: KubernetesObject,
  revision: string | null,
  source: number | null,
): Promise<readonly Difference[]> {
  const { status } = application
  if (at(status, 'sync', 'status') !== 'OutOfSync') return []
  const found = list(at(status, 'resources'))
    .map(record)
    .filter(({ status: its }) => (text(its) ?? 'Synced') !== 'Synced')
  // Where something else differs too, it is not through, whatever these are.
  const ask = found.every(({ requiresPruning }) => requiresPruning === true)
  const skipped = prunesSkipped(status, revision, source)
  const differing: Difference[] = []
  for (const resource of found) {
    const id = resourceId(resource)
    if (resource.requiresPruning !== true || resource.status !== 'OutOfSync') differing.push({ id, how: 'differs' })
    else if (skipped.has(resourceKey(resource)) || (ask && (await asksToStay(cluster, resource)))) {
      differing.push({ id, how: 'kept' })
    } else differing.push({ id, how: 'left' })
  }
  return differing
}

/** What the sync of this revision would have pruned, if it were not for Prune=false (gitops-engine pkg/sync, pruneObject). */
function prunesSkipped(status: unknown, revision: string | null, source: number | null): ReadonlySet<string> {
  const result = at(status, 'operationState', 'syncResult')
  if (at(status, 'operationState', 'phase') !== 'Succeeded' || revisionOf(result, source) !== revision) return new Set()
  const skipped = list(at(result, 'resources')).map(record)
  return new Set(
    skipped
      .filter(({ status: its, message }) => its === 'PruneSkipped' && message === 'ignored (no prune)')
      .map(resourceKey),
  )
}

/** Of the kinds that custody makes, the live object says whether it is to stay. What may not be read is not known to. */
async function asksToStay(cluster: Cluster, resource: Fields): Promise<boolean> {
  const type = custodyKinds.get(`${text(resource.group) ?? ''}/${text(resource.kind)}`)
  if (type === undefined) return false
  try {
    const found = await cluster.metadata(type, text(resource.namespace), text(resource.name) ?? '')
    const options = found?.metadata.annotations?.['argocd.argoproj.io/sync-options'] ?? ''
    return options.split(',').some(option => option.trim() === 'Prune=false')
  } catch {
    return false
  }
}

const custodyKinds: ReadonlyMap<string, ResourceType> = new Map<string, ResourceType>([
  ['bitnami.com/SealedSecret', resources.sealedSecrets],
  ['external-secrets.io/ExternalSecret', resources.externalSecrets],
  ['/Secret', resources.secrets],
])

function onlyKept(differing: readonly Difference[]): boolean {
  return differing.every(({ how }) => how === 'kept')
}

/** Why it is OutOfSync, by name. */
function outOfSync(differing: readonly Difference[]): string {
  const of = (which: Difference['how']): readonly Difference[] => differing.filter(({ how }) => how === which)
  const parts = [
    [of('differs'), ''],
    [of('left'), ' left the folder and is not pruned: delete it, or sync with prune'],
    [of('kept'), ' left the folder and stays, by Prune=false'],
  ] as const
  const texts = parts.filter(([which]) => which.length > 0).map(([which, what]) => `${named(which)}${what}`)
  return texts.length === 0 ? 'sync is OutOfSync' : `sync is OutOfSync: ${texts.join('; ')}`
}

function named(differing: readonly Difference[]): string {
  const ids = differing.map(({ id }) => id).sort()
  return ids.length <= namedAtMost
    ? ids.join(', ')
    : `${ids.slice(0, namedAtMost).join(', ')} and ${ids.length - namedAtMost} more`
}

const namedAtMost = 5

function problemsOf(
  application: unknown,
  revision: string | null,
  source: number | null,
  differing: readonly Difference[],
): readonly string[] {
  const status = at(application, 'status')
  const problems: string[] = []
  const sync = text(at(status, 'sync', 'status')) ?? 'Unknown'
  const health = text(at(status, 'health', 'status')) ?? 'Unknown'
  const applied = sync === 'Synced' || (differing.length > 0 && onlyKept(differing))
  if (!applied) problems.push(sync === 'OutOfSync' ? outOfSync(differing) : `sync is ${sync}`)
  if (health !== 'Healthy') problems.push(`health is ${health}`)
  if (at(application, 'operation') !== undefined) problems.push('an operation is under way')
  const phase = text(at(status, 'operationState', 'phase'))
  const synced = revisionOf(at(status, 'operationState', 'syncResult'), source)
  if ((phase === 'Failed' || phase === 'Error') && synced !== null && synced === revision) {
    problems.push(`the last sync ended as ${phase}: ${text(at(status, 'operationState', 'message')) ?? ''}`)
  }
  if (phase === 'Running' || phase === 'Terminating') {
    // What it waits for; or that it tries a failed sync again, which keeps a newer commit waiting.
    const message = text(at(status, 'operationState', 'message')) ?? ''
    problems.push(message === '' ? 'a sync is running' : `a sync is running: ${message}`)
  }
  if (sync !== 'Synced') {
    // Why it cannot compare, or does not try again.
    for (const entry of list(at(status, 'conditions'))) {
      const { type, message } = record(entry)
      if ((text(type) ?? '').endsWith('Error')) problems.push(`${text(type)}: ${text(message) ?? ''}`)
    }
  }
  return problems
}

function resourceKey({ group, kind, namespace, name }: Fields): string {
  return JSON.stringify([text(group) ?? '', kind, text(namespace), name])
}

function resourceId(resource: unknown): string {
  const { kind, namespace, name } = record(resource)
  return objectId(text(kind) ?? '', text(namespace), text(name) ?? '')
}
