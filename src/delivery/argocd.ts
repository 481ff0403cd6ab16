import { resources } from '../cluster/resources.ts'
import type { DeliveryChoice, DeliveryEvidence } from '../rotation.ts'
import { oneLine } from '../verify/exceptions.ts'
import { at, instant, instantOf, list, objectId, record, text } from '../verify/values.ts'
import { appliedTree, commitOf, type DeliveryQuestion, unseen } from './delivery.ts'

type ArgoChoice = Extract<DeliveryChoice, { kind: 'argocd' }>

/** Argo CD polls Git every 120 s, with up to 60 s of jitter (argo-cd, timeout.reconciliation). */
const pollSpan = 180_000

/**
 * What an Argo CD Application synced last. operationState counts only where it is about the revision shown: a commit that changes nothing for
 * the Application runs no operation, and a failed one leaves its state behind.
 */
export async function observeArgo(question: DeliveryQuestion, delivery: ArgoChoice): Promise<DeliveryEvidence> {
  const { cluster, path } = question
  const found = await cluster.get(resources.applications, delivery.namespace, delivery.name)
  if (found === null) return { ...unseen(delivery), message: 'does not exist' }
  const { status } = found
  const revision = syncedRevision(found.spec, status, path)
  const commit = commitOf(revision)
  const problems = problemsOf(found, revision)
  const { treeDigest, problem } = await appliedTree(question, commit)
  const reconciled = instant(at(status, 'reconciledAt'))
  return {
    ...unseen(delivery),
    // Without automatic sync a merge reaches nothing until a person presses the button.
    suspended: at(found.spec, 'syncPolicy', 'automated') === undefined,
    observed: at(found, 'operation') === undefined,
    ready: problems.length === 0,
    revision: commit,
    treeDigest,
    inventory: list(at(status, 'resources')).map(resourceId).sort(),
    message: oneLine([problem, ...problems].filter(part => part !== '').join('; ')),
    nextDue: reconciled === null ? null : instantOf(new Date(Date.parse(reconciled) + pollSpan)),
    hurry: `kubectl --namespace ${delivery.namespace} annotate application ${delivery.name} argocd.argoproj.io/refresh=normal --overwrite`,
  }
}

/** With several sources: the revision of the one whose path is the site's folder. */
function syncedRevision(spec: unknown, status: unknown, path: string): string | null {
  const sources = list(at(spec, 'sources'))
  if (sources.length === 0) return text(at(status, 'sync', 'revision'))
  const index = sources.findIndex(source => sameFolder(text(record(source).path) ?? '', path))
  return index === -1 ? null : text(list(at(status, 'sync', 'revisions'))[index])
}

function sameFolder(one: string, other: string): boolean {
  return one.replace(/^(\.?\/)+|\/+$/g, '') === other
}

function problemsOf(application: unknown, revision: string | null): readonly string[] {
  const status = at(application, 'status')
  const problems: string[] = []
  const sync = text(at(status, 'sync', 'status')) ?? 'Unknown'
  const health = text(at(status, 'health', 'status')) ?? 'Unknown'
  if (sync !== 'Synced') problems.push(`sync is ${sync}`)
  if (health !== 'Healthy') problems.push(`health is ${health}`)
  if (at(application, 'operation') !== undefined) problems.push('an operation is under way')
  const phase = text(at(status, 'operationState', 'phase'))
  const synced = text(at(status, 'operationState', 'syncResult', 'revision'))
  if ((phase === 'Failed' || phase === 'Error') && synced !== null && synced === revision) {
    problems.push(`the last sync ended as ${phase}: ${text(at(status, 'operationState', 'message')) ?? ''}`)
  }
  if (phase === 'Running') problems.push('a sync is running')
  return problems
}

function resourceId(resource: unknown): string {
  const { kind, namespace, name } = record(resource)
  return objectId(text(kind) ?? '', text(namespace), text(name) ?? '')
}
