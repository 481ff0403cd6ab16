import { resources } from '../cluster/resources.ts'
import type { DeliveryChoice, DeliveryEvidence, Instant } from '../rotation.ts'
import { oneLine } from '../verify/exceptions.ts'
import { condition, isObserved } from '../verify/objects.ts'
import { at, instant, instantOf, list, objectId, record, text } from '../verify/values.ts'
import { appliedTree, commitOf, type DeliveryQuestion, unseen } from './delivery.ts'

type FluxChoice = Extract<DeliveryChoice, { kind: 'flux' }>

/**
 * What a Flux Kustomization applied last. kustomize-controller sets lastAppliedRevision after apply, prune and health checks, so it tells of a revision
 * that is in; Ready alone does not, as it can be true for an old revision while a new artifact waits.
 */
export async function observeFlux(question: DeliveryQuestion, delivery: FluxChoice): Promise<DeliveryEvidence> {
  const { cluster, path } = question
  const found = await cluster.get(resources.kustomizations, delivery.namespace, delivery.name)
  if (found === null) return { ...unseen(delivery), message: 'does not exist' }
  const revision = text(at(found.status, 'lastAppliedRevision'))
  // For an OCI artifact the Git commit stands here.
  const origin = text(at(found.status, 'lastAppliedOriginRevision'))
  const commit = commitOf(origin) ?? commitOf(revision)
  const ready = condition(found, 'Ready')
  const appliedPath = folder(text(at(found.spec, 'path')) ?? '')
  const wrongPath = appliedPath !== folder(path) && !folder(path).startsWith(`${appliedPath}/`) && appliedPath !== ''
  const { treeDigest, problem } = await appliedTree(question, wrongPath ? null : commit)
  return {
    ...unseen(delivery),
    suspended: at(found.spec, 'suspend') === true,
    observed: isObserved(found),
    ready: ready?.status === 'True',
    revision: commit,
    treeDigest,
    inventory: list(at(found.status, 'inventory', 'entries'))
      .map(entry => inventoryId(text(record(entry).id) ?? ''))
      .sort(),
    message: wrongPath
      ? oneLine(`applies ${appliedPath}, not ${path}`)
      : problem !== ''
        ? problem
        : messageOf(ready?.message ?? '', commit, revision),
    nextDue: await nextDue(question, delivery, found.spec, found.status),
    hurry: `flux reconcile kustomization ${delivery.name} --namespace ${delivery.namespace} --with-source`,
  }
}

function messageOf(message: string, commit: string | null, revision: string | null): string {
  if (commit !== null) return oneLine(message)
  if (revision === null) return oneLine(`nothing was applied yet${message === '' ? '' : `: ${message}`}`)
  return oneLine(`applied revision ${revision} names no commit`)
}

function folder(path: string): string {
  return path
    .replace(/^(\.?\/)+/, '')
    .replace(/^\.$/, '')
    .replace(/\/+$/, '')
}

/** `<namespace>_<name>_<group>_<kind>`; names hold no underscore, except RBAC's, where a colon is written as two. */
export function inventoryId(id: string): string {
  const parts = id.split('_')
  const kind = parts.at(-1) ?? ''
  const name = parts.slice(1, -2).join('_')
  return objectId(kind, parts[0] ?? '', name.replaceAll('__', ':'))
}

/**
 * When Git is looked at next: the source's last fetch plus its interval. The Kustomization follows its source at once.
 * Null where the source cannot be read or shows no time.
 */
async function nextDue(
  question: DeliveryQuestion,
  delivery: FluxChoice,
  spec: unknown,
  status: unknown,
): Promise<Instant | null> {
  const reference = record(at(spec, 'sourceRef'))
  if (text(reference.kind) !== null && reference.kind !== 'GitRepository') return null
  const namespace = text(reference.namespace) ?? delivery.source.namespace
  const name = text(reference.name) ?? delivery.source.name
  try {
    const source = await question.cluster.get(resources.gitRepositories, namespace, name)
    if (source === null) return null
    const interval = durationOf(text(at(source.spec, 'interval')) ?? '')
    const fetched = instant(at(source.status, 'artifact', 'lastUpdateTime'))
    if (interval === null || fetched === null) return null
    // lastUpdateTime moves with the content only, so the clock has ticked on in whole intervals since.
    const since = Math.max(0, question.now.getTime() - Date.parse(fetched))
    const due = Date.parse(fetched) + Math.ceil((since + 1) / interval) * interval
    const behind = text(at(source.status, 'artifact', 'revision')) !== text(at(status, 'lastAttemptedRevision'))
    return instantOf(behind ? question.now : new Date(due))
  } catch {
    // A courtesy: without the right to read sources there is no due time, and nothing else is lost.
    return null
  }
}

/** A Go duration such as `1h30m` or `90s` in milliseconds, or null. */
export function durationOf(written: string): number | null {
  const units: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 }
  const parts = [...written.matchAll(/(\d+(?:\.\d+)?)(ms|h|m|s)/g)]
  if (parts.length === 0 || parts.map(([whole]) => whole).join('') !== written) return null
  const total = parts.reduce((sum, [, amount, unit]) => sum + Number(amount) * (units[unit ?? ''] ?? 0), 0)
  return total > 0 ? total : null
}
