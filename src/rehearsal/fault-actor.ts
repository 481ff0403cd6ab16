import type { ClusterTrouble } from './fault-plan.ts'
import { atShare } from './fault-plan.ts'
import type { ApiFault } from './faults.ts'
import type { StoredObject } from './objects.ts'
import type { Rehearsal, SiteControls } from './rehearsal.ts'
import { nodeOf, ownerOf } from './site.ts'

/** Acts out what a plan of faults drew, at the virtual times that it says. */
export interface FaultActor {
  /** Sets the troubles up that follow this moment. */
  begin(troubles: readonly ClusterTrouble[]): void
  /** What is out of order now, one clause each. */
  readonly active: readonly string[]
  /** Which site's cluster a site's kubeconfig leads to now. */
  clusterOf(site: string): string
}

/** One that began: what it is, as a trace tells it, and how it ends. */
interface Begun {
  readonly what: string
  end(): void
}

export function faultActor(rehearsal: Rehearsal, tell: (line: string) => void): FaultActor {
  const active = new Set<string>()
  const leadsTo = new Map<string, string>()
  const sites = [...rehearsal.sites.values()]
  return {
    begin(troubles) {
      for (const trouble of troubles) rehearsal.clock.after(trouble.after, () => begin(trouble))
    },
    get active() {
      return [...active].sort()
    },
    clusterOf: site => leadsTo.get(site) ?? site,
  }

  function begin(trouble: ClusterTrouble): void {
    const site = sites[trouble.site]
    const begun = site === undefined ? null : act(trouble, site)
    if (site === undefined || begun === null) return
    const what = `${site.name}: ${begun.what}`
    tell(what)
    active.add(what)
    rehearsal.clock.after(trouble.lasts, () => {
      begun.end()
      active.delete(what)
      tell(`over: ${what}`)
    })
  }

  function act(trouble: ClusterTrouble, site: SiteControls): Begun | null {
    const { faults, store, kubelets } = site
    const { share, measure } = trouble
    switch (trouble.kind) {
      case 'kubelet-lags': {
        const owner = atShare(workloadsOf(site), share)?.key
        if (owner === undefined) return null
        faults.kubeletLag.set(owner, measure)
        const end = (): void => void faults.kubeletLag.delete(owner)
        return { what: `volumes of ${owner} follow ${minutes(measure)} late`, end }
      }
      case 'node-stale': {
        const node = atShare(site.workloads.nodes, share) ?? ''
        faults.staleNodes.set(node, volumesOf(site))
        return {
          what: `the kubelet of ${node} sees no change of Secrets and ConfigMaps`,
          end() {
            faults.staleNodes.delete(node)
            kubelets.resync(node)
          },
        }
      }
      case 'source-stalls':
        faults.sourceStalled = true
        return {
          what: 'the repository is not looked at',
          end() {
            faults.sourceStalled = false
          },
        }
      case 'consumer-hangs': {
        const owners = rehearsal.handshakes.parties.filter(each => each.site === site.name).map(({ owner }) => owner)
        const struck = site.system.strike?.('never-reloads', atShare([...new Set(owners)].sort(), share)) ?? null
        if (struck === null) return null
        return { what: `${struck.culprit() ?? 'a consumer'} takes up nothing`, end: () => struck.recover() }
      }
      case 'replica-lags': {
        const struck = site.system.strike?.('replica-lags', undefined) ?? null
        if (struck === null) return null
        return {
          // Its pod's name carries a hash of certificates.
          what: 'one of several replicas keeps what it had',
          end() {
            struck.recover()
            for (const node of site.workloads.nodes) kubelets.resync(node)
          },
        }
      }
      case 'never-ready': {
        const owner = atShare(workloadsOf(site), share)?.key
        if (owner === undefined) return null
        faults.neverReady.add(owner)
        return { what: `new pods of ${owner} do not get ready`, end: () => void faults.neverReady.delete(owner) }
      }
      case 'pod-evicted': {
        const pods = store.list('', 'Pod').filter(pod => pod.metadata.deletionTimestamp === undefined)
        const byOwner = pods.map(pod => ({ pod, key: `${ownerOf(store, pod)} ${nodeOf(pod)}` }))
        const found = atShare(byOwner.sort(byKey), share)
        if (found === undefined) return null
        site.workloads.evict(found.pod)
        return { what: `a pod of ${found.key.replace(' ', ' on ')} is evicted`, end: () => {} }
      }
      case 'live-restart': {
        const found = atShare(workloadsOf(site), share)
        if (found === undefined) return null
        store.update(found.object, 'kubectl-rollout', next => restart(next, rehearsal.clock.instant()))
        return { what: `somebody restarts ${found.key}`, end: () => {} }
      }
      case 'live-edit': {
        const deployments = workloadsOf(site).filter(({ object }) => object.kind === 'Deployment')
        const found = atShare(deployments, share)
        if (found === undefined) return null
        store.update(found.object, 'kubectl-scale', next => {
          const spec = next.spec as { replicas?: number }
          spec.replicas = (spec.replicas ?? 1) + 1
        })
        return { what: `somebody scales ${found.key} up`, end: () => {} }
      }
      case 'clock-skew':
        faults.clockSkew = measure
        return {
          what: `the API server’s clock is ${measure < 0 ? 'behind' : 'ahead'} by ${minutes(Math.abs(measure))}`,
          end() {
            faults.clockSkew = 0
          },
        }
      case 'stale-reads':
        faults.staleReads = structuredClone(store.everything())
        return {
          what: 'reads are answered from a cache that stands still',
          end() {
            faults.staleReads = null
          },
        }
      case 'api': {
        if (trouble.api === null) return null
        const { asked, failure, detail } = trouble.api
        const fault: ApiFault = { asked: new RegExp(asked), failure, detail }
        faults.api.push(fault)
        return {
          what: `requests like ${asked} fail: ${detail}`,
          end() {
            faults.api.splice(faults.api.indexOf(fault), 1)
          },
        }
      }
      case 'wrong-cluster': {
        const other = atShare(
          sites.filter(each => each !== site),
          share,
        )
        if (other === undefined) return null
        leadsTo.set(site.name, other.name)
        return { what: `its kubeconfig leads to ${other.name}`, end: () => void leadsTo.delete(site.name) }
      }
      case 'split-replicas':
        faults.splitReplicas = true
        return {
          what: 'CA channels reach other replicas than XDS streams',
          end() {
            faults.splitReplicas = false
          },
        }
      case 'split-entries': {
        const owner = atShare(workloadsOf(site), share)?.key
        if (owner === undefined) return null
        faults.splitEntries.add(owner)
        return {
          what: `one of two entries of ${owner} keeps its roots`,
          end: () => void faults.splitEntries.delete(owner),
        }
      }
    }
  }
}

interface Keyed {
  readonly key: string
  readonly object: StoredObject
}

/** By `namespace/kind/name`, sorted. */
function workloadsOf({ store }: SiteControls): readonly Keyed[] {
  return ['Deployment', 'StatefulSet', 'DaemonSet']
    .flatMap(kind => store.list('apps', kind))
    .map(object => ({ key: `${object.metadata.namespace}/${object.kind}/${object.metadata.name}`, object }))
    .sort(byKey)
}

function byKey(one: { readonly key: string }, other: { readonly key: string }): number {
  return one.key < other.key ? -1 : 1
}

/** What a kubelet would mount now, by `kind/namespace/name`. */
function volumesOf({ store }: SiteControls): ReadonlyMap<string, StoredObject | null> {
  const objects = ['Secret', 'ConfigMap'].flatMap(kind => store.list('', kind))
  return new Map(
    objects.map(object => [
      `${object.kind}/${object.metadata.namespace ?? ''}/${object.metadata.name}`,
      structuredClone(object),
    ]),
  )
}

/** `kubectl rollout restart` */
function restart(workload: StoredObject, now: string): void {
  const template = (workload.spec as { template: { metadata?: { annotations?: Record<string, string> } } }).template
  const annotations = { ...template.metadata?.annotations, 'kubectl.kubernetes.io/restartedAt': now }
  template.metadata = { ...template.metadata, annotations }
}

function minutes(milliseconds: number): string {
  return milliseconds < 120_000 ? `${Math.round(milliseconds / 1000)} s` : `${Math.round(milliseconds / 60_000)} min`
}
