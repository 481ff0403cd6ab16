import type { KubernetesObject } from '../../cluster/cluster.ts'
import { resources } from '../../cluster/resources.ts'
import { trustAnnotation } from '../../names.ts'
import type { ObjectEvidence } from '../../rotation.ts'
import { oneLine } from '../../verify/exceptions.ts'
import { absent, observeCanary, observed, observeSealed, present } from '../../verify/looking.ts'
import { condition, dataOwnership, isObserved, rollOutDetail, sharedEntries } from '../../verify/objects.ts'
import { at, list, objectId, record, text } from '../../verify/values.ts'
import type { Looking } from './observe.ts'
import { multirootSetting, xdsAgentSetting } from './phases.ts'

const cacertsName = 'cacerts'
/** ConfigMap that a HelmRelease takes values from. */
export const helmValuesName = 'reanchor-istiod-values'

/** Live objects that carry a phase: the Secrets, what declares the control plane, and what the injector reads. */
export async function observeObjects(looking: Looking): Promise<void> {
  const { istio, cluster } = looking.options
  const { namespace } = istio
  await observed(looking, objectId('Secret', namespace, cacertsName), async id => {
    const secret = await cluster.metadata(resources.secrets, namespace, cacertsName)
    return secret === null ? absent(id) : { ...present(id, secret, sharedEntries(secret)), ...dataOwnership(secret) }
  })
  const cacerts = looking.options.place.tree.state.source === 'plugged' ? [{ namespace, name: cacertsName }] : []
  await observeSealed(looking, await observeCanary(looking, namespace), cacerts)
  if (istio.install === 'sail') await observeIstioResource(looking)
  if (istio.install === 'helmRelease') await observeHelmRelease(looking)
  const revisions = await observeDeployments(looking)
  for (const revision of revisions) await observeMeshConfig(looking, revision)
}

async function observeIstioResource(looking: Looking): Promise<void> {
  const { istio, cluster, site } = looking.options
  const name = istio.controlPlane[site]?.name ?? 'default'
  await observed(looking, objectId('Istio', null, name), async id => {
    const found = await cluster.get(resources.istios, null, name)
    if (found === null) return absent(id)
    const values = at(found.spec, 'values')
    const facts: Record<string, string> = { observed: String(isObserved(found)) }
    put(facts, multirootSetting, at(values, 'pilot', 'env', multirootSetting))
    put(facts, xdsAgentSetting, at(values, 'meshConfig', 'defaultConfig', 'proxyMetadata', xdsAgentSetting))
    put(facts, 'restart', at(values, 'pilot', 'podAnnotations', trustAnnotation))
    put(facts, 'version', at(found.spec, 'version'))
    for (const type of ['Reconciled', 'Ready']) put(facts, type.toLowerCase(), condition(found, type)?.status)
    const failed = condition(found, 'Reconciled')
    if (failed?.status === 'False') put(facts, 'failure', oneLine(failed.message ?? ''))
    put(facts, 'reason', condition(found, 'Ready')?.reason)
    return present(id, found, facts)
  })
}

async function observeHelmRelease(looking: Looking): Promise<void> {
  const { istio, cluster, site } = looking.options
  const name = istio.controlPlane[site]?.name ?? 'istiod'
  await observed(looking, `HelmRelease/${name}`, async () => {
    const options = { fieldSelector: `metadata.name=${name}` }
    for await (const page of cluster.list(resources.helmReleases, options)) {
      for (const release of page) {
        if (release.metadata.name !== name) continue
        const sources = list(at(release.spec, 'valuesFrom')).map(source => text(record(source).name))
        const facts: Record<string, string> = { observed: String(isObserved(release)) }
        facts.wired = String(sources.includes(helmValuesName))
        put(facts, 'ready', condition(release, 'Ready')?.status)
        put(facts, 'reason', condition(release, 'Ready')?.reason)
        return present(objectId('HelmRelease', release.metadata.namespace ?? '', name), release, facts)
      }
    }
    return absent(`HelmRelease/${name}`)
  })
}

/** istiod and its revisions. All share one `cacerts`, so each counts. Returns their revisions. */
async function observeDeployments(looking: Looking): Promise<readonly string[]> {
  const { istio, cluster } = looking.options
  const revisions = new Set<string>()
  try {
    const options = { namespace: istio.namespace, labelSelector: 'app=istiod' }
    for await (const page of cluster.list(resources.deployments, options)) {
      for (const deployment of page) {
        // A cluster that does not know the selector gives all Deployments.
        if (deployment.metadata.labels?.app !== 'istiod') continue
        revisions.add(deployment.metadata.labels?.['istio.io/rev'] ?? 'default')
        const found = istiodDeployment(deployment)
        looking.objects.push(found)
        looking.changedAt(found.lastChange)
      }
    }
  } catch (cause) {
    looking.incomplete(`list Deployments of istiod in ${istio.namespace}`, cause)
  }
  return [...revisions].sort()
}

function istiodDeployment(deployment: KubernetesObject): ObjectEvidence {
  const { namespace, name } = deployment.metadata
  const containers = list(at(deployment.spec, 'template', 'spec', 'containers'))
  const container = containers.find(candidate => record(candidate).name === 'discovery') ?? containers[0]
  const env = list(record(container).env)
  const facts: Record<string, string> = {}
  put(facts, multirootSetting, record(env.find(variable => record(variable).name === multirootSetting)).value)
  put(facts, 'restart', at(deployment.spec, 'template', 'metadata', 'annotations', trustAnnotation))
  const rolling = rollOutDetail('Deployment', deployment)
  facts.rolled = String(rolling === null)
  if (rolling !== null) facts.rolling = rolling
  return present(objectId('Deployment', namespace ?? '', name), deployment, facts)
}

/** What istiod and its injector read: a pod injected before the flag stands here is without it for good. */
async function observeMeshConfig(looking: Looking, revision: string): Promise<void> {
  const { istio, cluster } = looking.options
  const name = revision === 'default' ? 'istio' : `istio-${revision}`
  await observed(looking, objectId('ConfigMap', istio.namespace, name), async id => {
    const found = await cluster.get(resources.configMaps, istio.namespace, name)
    if (found === null) return absent(id)
    const { parse } = await import('yaml')
    // Aliases are a bomb's fuse, and nobody writes a MeshConfig with them.
    const mesh: unknown = parse(text(at(found.data, 'mesh')) ?? '', { maxAliasCount: 0 })
    const facts: Record<string, string> = {}
    put(facts, xdsAgentSetting, at(mesh, 'defaultConfig', 'proxyMetadata', xdsAgentSetting))
    return present(id, found, facts)
  })
}

function put(facts: Record<string, string>, name: string, value: unknown): void {
  if (typeof value === 'string') facts[name] = value
  // Values that lost their quotes on the way are still what they say.
  if (typeof value === 'boolean' || typeof value === 'number') facts[name] = String(value)
}
