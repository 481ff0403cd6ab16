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
  const source = await sourceOf(question, delivery, found?.spec)
  if (found === null) {
    const from = delivery.file === null ? '' : `it comes from ${delivery.file}: look at what applies that file`
    const message = ['does not exist', whereItHangs(source), from].filter(part => part !== '').join('; ')
    return { ...unseen(delivery), message, hurry: source?.holdsMerge === false ? hurrySource(source) : null }
  }
  const revision = text(at(found.status, 'lastAppliedRevision'))
  // For an OCI artifact the Git commit stands here.
  const origin = text(at(found.status, 'lastAppliedOriginRevision'))
  const commit = commitOf(origin) ?? commitOf(revision)
  const ready = condition(found, 'Ready')
  const appliedPath = folder(text(at(found.spec, 'path')) ?? '')
  const wrongPath = appliedPath !== folder(path) && !folder(path).startsWith(`${appliedPath}/`) && appliedPath !== ''
  const { treeDigest, problem } = await appliedTree(question, wrongPath ? null : commit)
  const hangs = problem === '' ? '' : whereItHangs(source)
  // While it works, Ready says no more than that; what it is at stands in Reconciling.
  const doing = ready?.status === 'Unknown' ? condition(found, 'Reconciling')?.message : undefined
  const said = problem === '' || ready?.status !== 'True' ? (doing ?? ready?.message ?? '') : ''
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
      : oneLine([messageOf(said, commit, revision), problem, hangs].filter(part => part !== '').join('; ')),
    nextDue: nextDue(question.now, source, found.status),
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

/** The GitRepository that a Kustomization reads from. */
interface Source {
  readonly namespace: string
  readonly name: string
  readonly revision: string | null
  readonly interval: number | null
  /** When its artifact became what it is. */
  readonly fetched: Instant | null
  /** Whether what it fetched contains the merge of the step; null where that cannot be told. */
  readonly holdsMerge: boolean | null
}

/** Null where it cannot be read. A courtesy: without the right to read sources nothing but a hint and a time are lost. */
async function sourceOf(question: DeliveryQuestion, delivery: FluxChoice, spec: unknown): Promise<Source | null> {
  const reference = record(at(spec, 'sourceRef'))
  if (text(reference.kind) !== null && reference.kind !== 'GitRepository') return null
  const namespace = text(reference.namespace) ?? delivery.source.namespace
  const name = text(reference.name) ?? delivery.source.name
  try {
    const source = await question.cluster.get(resources.gitRepositories, namespace, name)
    if (source === null) return null
    const revision = text(at(source.status, 'artifact', 'revision'))
    return {
      namespace,
      name,
      revision,
      interval: durationOf(text(at(source.spec, 'interval')) ?? ''),
      fetched: instant(at(source.status, 'artifact', 'lastUpdateTime')),
      holdsMerge: await holdsMerge(question, commitOf(revision)),
    }
  } catch {
    return null
  }
}

async function holdsMerge({ repository, merged }: DeliveryQuestion, commit: string | null): Promise<boolean | null> {
  if (merged === null || commit === null) return null
  try {
    return await repository.isDescendant(commit, merged)
  } catch {
    // This clone does not hold the commit.
    return null
  }
}

/** Which of the two controllers has not done its part yet. */
function whereItHangs(source: Source | null): string {
  if (source === null || source.holdsMerge === null) return ''
  const object = `GitRepository/${source.namespace}/${source.name}`
  return source.holdsMerge
    ? `${object} has fetched the merge, and kustomize-controller has not applied it`
    : `${object} has not fetched the merge: it holds ${source.revision?.replace(/[0-9a-f]{40,}$/, commit => commit.slice(0, 12))}`
}

function hurrySource({ namespace, name }: Source): string {
  return `flux reconcile source git ${name} --namespace ${namespace}`
}

/**
 * When Git is looked at next: the source's last fetch plus its interval. The Kustomization follows its source at once.
 * Null where the source cannot be read or shows no time.
 */
function nextDue(now: Date, source: Source | null, status: unknown): Instant | null {
  if (source === null || source.interval === null || source.fetched === null) return null
  const { interval, fetched, revision } = source
  // lastUpdateTime moves with the content only, so the clock has ticked on in whole intervals since.
  const since = Math.max(0, now.getTime() - Date.parse(fetched))
  const due = Date.parse(fetched) + Math.ceil((since + 1) / interval) * interval
  const behind = revision !== text(at(status, 'lastAttemptedRevision'))
  return instantOf(behind ? now : new Date(due))
}

/** A Go duration such as `1h30m` or `90s` in milliseconds, or null. */
export function durationOf(written: string): number | null {
  const units: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 }
  const parts = [...written.matchAll(/(\d+(?:\.\d+)?)(ms|h|m|s)/g)]
  if (parts.length === 0 || parts.map(([whole]) => whole).join('') !== written) return null
  const total = parts.reduce((sum, [, amount, unit]) => sum + Number(amount) * (units[unit ?? ''] ?? 0), 0)
  return total > 0 ? total : null
}
