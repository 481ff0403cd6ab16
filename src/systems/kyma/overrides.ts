import { type Cluster, ClusterError, type KubernetesObject } from '../../cluster/cluster.ts'
import { resources } from '../../cluster/resources.ts'
import { observed, present } from '../../verify/looking.ts'
import { dataOwnership } from '../../verify/objects.ts'
import { at, objectId, text } from '../../verify/values.ts'
import type { Looking } from './looking.ts'

/**
 * Helm values of Kyma that hold a CA. With them set, the setup job writes both Secrets anew at each upgrade of Kyma: it takes the old CA back
 * and drops the bundle (application-connectivity-certs-setup-job, certsetup.go). Unset, and with both Secrets complete, it leaves them alone.
 */
export const caOverrides = ['applicationConnectorCa', 'applicationConnectorCaKey'] as const

const overrideKeys = caOverrides.map(name => `global.${name}`)

/** Kyma 1 takes overrides from ConfigMaps and Secrets of this namespace that have this label. Kyma 2 has no installer, and no such namespace. */
const installer = { namespace: 'kyma-installer', labelSelector: 'installer=overrides' } as const

/**
 * The Secret that Kyma's own installer configuration brings. Its keys are there in every installation and empty in most (kyma
 * installation/resources/installer-config-cluster.yaml.tpl), so that only its values tell whether anything is set.
 */
const usualSecret = 'application-connector-certificate-overrides'

/** `Secret kyma-installer/…: global.applicationConnectorCa`, one for each override that holds a CA. Reads values, as `plan` and `inspect` may. Throws ClusterError. */
export async function overridesIn(cluster: Cluster): Promise<readonly string[]> {
  const found: string[] = []
  for (const type of ['configMaps', 'secrets'] as const) {
    const kind = type === 'secrets' ? 'Secret' : 'ConfigMap'
    try {
      for await (const page of cluster.list(resources[type], installer))
        for (const object of page) {
          const keys = filledKeys(object)
          if (keys.length > 0) found.push(`${kind} ${installer.namespace}/${object.metadata.name}: ${keys.join(', ')}`)
        }
    } catch (cause) {
      if (!(await isWithoutInstaller(cluster, cause))) throw cause
    }
  }
  return found.sort()
}

function isOverride({ metadata }: KubernetesObject): boolean {
  return metadata.labels?.installer === 'overrides'
}

function filledKeys(object: KubernetesObject): readonly string[] {
  if (!isOverride(object)) return []
  const { data } = object
  return overrideKeys.filter(key => (text(at(data, key)) ?? '').trim() !== '')
}

/** Forbidden to list in a namespace that is not there is no reason for doubt. */
async function isWithoutInstaller(cluster: Cluster, cause: unknown): Promise<boolean> {
  if (!(cause instanceof ClusterError) || cause.failure !== 'forbidden') return false
  try {
    return (await cluster.get(resources.namespaces, null, installer.namespace)) === null
  } catch {
    return false
  }
}

/**
 * As the verifier looks: ConfigMaps whole, and of Secrets their keys and the time of their last change. `plan` has read their values, so what has not changed since is
 * known; what a change brought is not. A role can grant the usual Secret by its name; Secrets of other names are looked at where it lets them be listed (F16).
 */
export async function observeOverrides(looking: Looking): Promise<void> {
  const { cluster } = looking.options
  const asked = `list configmaps with overrides in ${installer.namespace}`
  try {
    for await (const page of cluster.list(resources.configMaps, installer))
      for (const object of page) {
        const keys = filledKeys(object)
        if (keys.length === 0) continue
        const id = objectId('ConfigMap', installer.namespace, object.metadata.name)
        looking.objects.push(present(id, object, { override: keys.join(' ') }))
        looking.exceptions.push({
          consumer: 'object',
          name: id,
          reason: 'override',
          detail: `holds ${keys.join(' and ')}, which the next upgrade of Kyma writes over both Secrets`,
          verdict: 'violated',
        })
      }
  } catch (cause) {
    if (await isWithoutInstaller(cluster, cause)) return
    looking.incomplete(asked, cause)
    return
  }
  for (const secret of await overrideSecrets(looking)) await observeSecret(looking, secret)
}

/** Metadata of all Secrets of overrides, or of the usual one where the role does not let them be listed. */
async function overrideSecrets(looking: Looking): Promise<readonly KubernetesObject[]> {
  const { cluster } = looking.options
  const listed = `list secrets with overrides in ${installer.namespace}`
  try {
    const found: KubernetesObject[] = []
    for await (const page of cluster.list(resources.secrets, { ...installer, metadataOnly: true })) found.push(...page)
    return found.filter(isOverride)
  } catch (cause) {
    if (!(cause instanceof ClusterError) || cause.failure !== 'forbidden') {
      looking.incomplete(listed, cause)
      return []
    }
  }
  try {
    const usual = await cluster.metadata(resources.secrets, installer.namespace, usualSecret)
    return usual === null ? [] : [usual]
  } catch (cause) {
    const id = objectId('Secret', installer.namespace, usualSecret)
    if (!(await isWithoutInstaller(cluster, cause))) looking.incomplete(id, cause)
    return []
  }
}

async function observeSecret(looking: Looking, secret: KubernetesObject): Promise<void> {
  const { plan } = looking.options
  const id = objectId('Secret', installer.namespace, secret.metadata.name)
  const { keys, managers } = dataOwnership(secret)
  const mayHold = keys === null || overrideKeys.some(key => keys.includes(key))
  const seen = { ...present(id, secret, mayHold ? { unread: 'true' } : {}), keys, managers }
  await observed(looking, id, async () => seen)
  const { lastChange } = seen
  if (!mayHold || (lastChange !== null && Date.parse(lastChange) <= Date.parse(plan.createdAt))) return
  looking.exceptions.push({
    consumer: 'object',
    name: id,
    reason: 'override',
    detail: `changed at ${lastChange ?? 'a time that is not told'}, after the plan was made: whether it now holds a CA is not known, as its values are not read here`,
    verdict: 'unknown',
  })
}

/** What takes both overrides out, for the user. */
export function removalCommand(override: string): string {
  const [kind = 'Secret', object = ''] = override.split(/[ :]+/)
  const name = object.slice(object.indexOf('/') + 1)
  const patch = JSON.stringify({ data: Object.fromEntries(overrideKeys.map(key => [key, null])) })
  return `kubectl --namespace ${installer.namespace} patch ${kind.toLowerCase()} ${name} --type=merge --patch '${patch}'`
}
