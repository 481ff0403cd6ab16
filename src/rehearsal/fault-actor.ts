import { isSignedBy, readCertificate } from '../pki/certificate.ts'
import { certificatesIn, companyRoot } from './certificates.ts'
import type { ClusterTrouble } from './fault-plan.ts'
import { atShare } from './fault-plan.ts'
import type { ApiFault } from './faults.ts'
import { sourcesOf } from './kubelet.ts'
import { type StoredObject, textAt } from './objects.ts'
import type { Rehearsal, SiteControls } from './rehearsal.ts'
import { nodeOf, ownerOf } from './site.ts'
import type { LiveBundle } from './system.ts'

/** Acts out what a plan of faults drew, at the virtual times that it says. */
export interface FaultActor {
  /** Sets the troubles up that follow this moment. */
  begin(troubles: readonly ClusterTrouble[]): void
  /** What is out of order now, one clause each. */
  readonly active: readonly string[]
  /** Which site's cluster a site's kubeconfig leads to now. */
  clusterOf(site: string): string
  /** Milliseconds by which the clock of reanchor's own machine is off. */
  readonly runnerSkew: number
}

/** One that began: what it is, as a trace tells it, and how it ends. */
interface Begun {
  readonly what: string
  end(): void
}

const minute = 60_000

export function faultActor(
  rehearsal: Rehearsal,
  bundles: readonly LiveBundle[],
  /**
   * `gates.hold` of the rotation, in milliseconds: what only a hold can wait for is never later than that. A kubelet that is later breaks handshakes, and
   * nothing could have told.
   */
  hold: number,
  tell: (line: string) => void,
): FaultActor {
  let runnerSkew = 0
  // Once a kubelet looks again, each of its pods has the file within a minute and a half.
  const unseen = Math.max(0, hold - 2 * minute)
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
    get runnerSkew() {
      return runnerSkew
    },
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
        const lag = mountsUnseen(site, owner) ? Math.min(measure, unseen) : measure
        faults.kubeletLag.set(owner, lag)
        const end = (): void => void faults.kubeletLag.delete(owner)
        return { what: `volumes of ${owner} follow ${minutes(lag)} late`, end }
      }
      case 'node-stale': {
        const node = atShare(site.workloads.nodes, share) ?? ''
        const remembered = volumesOf(site)
        faults.staleNodes.set(node, remembered)
        rehearsal.clock.after(unseen, () => {
          if (faults.staleNodes.get(node) !== remembered) return
          const seen = [...remembered].filter(([source]) => site.system.readsUnseen?.(source) !== true)
          faults.staleNodes.set(node, new Map(seen))
          if (seen.length < remembered.size) kubelets.resync(node)
        })
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
          what: `the API server’s clock is ${off(measure)}`,
          end() {
            faults.clockSkew = 0
          },
        }
      case 'runner-clock':
        runnerSkew = measure
        return {
          what: `the clock of reanchor’s machine is ${off(measure)}`,
          end() {
            runnerSkew = 0
          },
        }
      case 'node-clock': {
        const node = atShare(site.workloads.nodes, share) ?? ''
        faults.nodeSkew.set(node, measure)
        return { what: `the clock of ${node} is ${off(measure)}`, end: () => void faults.nodeSkew.delete(node) }
      }
      case 'trust-edit': {
        const edited = editBundle(rehearsal, site, bundles, share)
        if (edited === null) return null
        const deliverers = measure === 0 ? [] : deliverersOf(site, edited.object)
        for (const each of deliverers) suspend(store, each, true)
        return {
          what: `somebody ${edited.what} by hand${deliverers.length === 0 ? '' : ', and has suspended what delivers it'}`,
          end() {
            for (const each of deliverers) suspend(store, each, false)
          },
        }
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

/** Whether a pod of this workload has a file that nobody can ask for. */
function mountsUnseen({ store, system }: SiteControls, owner: string): boolean {
  const isUnseen = (pod: StoredObject): boolean =>
    sourcesOf(pod).some(({ kind, name }) => system.readsUnseen?.(`${kind}/${pod.metadata.namespace}/${name}`) === true)
  return store.list('', 'Pod').some(pod => ownerOf(store, pod) === owner && isUnseen(pod))
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
export function restart(workload: StoredObject, now: string): void {
  const template = (workload.spec as { template: { metadata?: { annotations?: Record<string, string> } } }).template
  const annotations = { ...template.metadata?.annotations, 'kubectl.kubernetes.io/restartedAt': now }
  template.metadata = { ...template.metadata, annotations }
}

function off(skew: number): string {
  return `${skew < 0 ? 'behind' : 'ahead'} by ${minutes(Math.abs(skew))}`
}

interface EditedBundle {
  readonly object: StoredObject
  readonly what: string
}

/**
 * What a person may do to a live bundle without breaking anything by that alone: a root of another company goes in, or the one that the site began with,
 * which may have left; or that one goes, where nobody presents a certificate of it any more.
 */
function editBundle(
  rehearsal: Rehearsal,
  site: SiteControls,
  bundles: readonly LiveBundle[],
  share: number,
): EditedBundle | null {
  const { store } = site
  const found = bundles.flatMap(bundle => {
    const object = store.get('', bundle.kind, bundle.namespace, bundle.name)
    const value = textAt(object, 'data', bundle.key)
    return object === null || value === undefined ? [] : [{ ...bundle, object, value }]
  })[0]
  if (found === undefined) return null
  const { kind, namespace, name, key, object, value } = found
  const sealed = kind === 'Secret'
  const roots = certificatesIn(sealed ? Buffer.from(value, 'base64').toString('utf8') : value)
  if (roots.length === 0) return null
  const { root } = site.startingCa()
  const [own = root] = certificatesIn(root)
  const there = roots.includes(own)
  const goes = share >= 2 / 3 && there && roots.length > 1 && !isNeeded(own, rehearsal.handshakes.presented)
  const comes = share >= 1 / 3 && !there ? own : stranger(rehearsal)
  const next = goes ? roots.filter(each => each !== own) : [...roots, comes]
  store.update(object, 'kubectl-edit', edited => {
    const data = edited.data as Record<string, string>
    data[key] = sealed ? Buffer.from(next.join('')).toString('base64') : next.join('')
  })
  const where = `${kind} ${namespace}/${name}`
  if (goes) return { object, what: `takes the old root out of ${where}` }
  return { object, what: `puts ${comes === own ? 'the old root back into' : 'a root of their own into'} ${where}` }
}

function stranger({ clock }: Rehearsal): string {
  const day = 86_400_000
  const begins = Math.min(clock.millis(), Date.now()) - day
  const life = { notBefore: new Date(begins), notAfter: new Date(begins + 3650 * day) }
  return companyRoot('Somebody else', life).certificate
}

/** Whether a root made one of these chains, or stands in it. */
function isNeeded(root: string, chains: readonly string[]): boolean {
  const wanted = readCertificate(root)
  return chains.some(chain =>
    certificatesIn(chain).some(each => {
      const certificate = readCertificate(each)
      return certificate.spki === wanted.spki || isSignedBy(certificate, wanted)
    }),
  )
}

/** The Kustomization of Flux that applies an object. Argo CD has no such switch. */
function deliverersOf({ store }: SiteControls, { metadata }: StoredObject): readonly string[] {
  const name = metadata.labels?.['kustomize.toolkit.fluxcd.io/name']
  return store
    .list('kustomize.toolkit.fluxcd.io', 'Kustomization')
    .map(each => each.metadata.name)
    .filter(each => each === name)
}

function suspend(store: SiteControls['store'], name: string, suspended: boolean): void {
  for (const each of store.list('kustomize.toolkit.fluxcd.io', 'Kustomization')) {
    if (each.metadata.name !== name) continue
    store.update(each, 'flux', next => {
      next.spec = { ...(next.spec as object), suspend: suspended }
    })
  }
}

function minutes(milliseconds: number): string {
  return milliseconds < 120_000 ? `${Math.round(milliseconds / 1000)} s` : `${Math.round(milliseconds / 60_000)} min`
}
