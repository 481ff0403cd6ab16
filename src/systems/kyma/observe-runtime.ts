import { type Cluster, ClusterError, type KubernetesObject } from '../../cluster/cluster.ts'
import { resources } from '../../cluster/resources.ts'
import type { Fingerprint, Instant } from '../../rotation.ts'
import { oneLine, unreadable } from '../../verify/exceptions.ts'
import { inPool } from '../../verify/pool.ts'
import { at, instantOf, text } from '../../verify/values.ts'
import type { Looking } from './looking.ts'
import {
  clientSecret,
  connectionKinds,
  connectionResources,
  doubtOf,
  issuingDoubt,
  notReached,
  notRenewed,
  readConnection,
  renewsAt,
} from './runtime.ts'
import { type KymaRuntime, kymaOf, runtimesOf } from './settings.ts'

/** Since when the connector has had its CA, and the gateway its bundle, by the central cluster's own times; null: not to be told. */
export interface Since {
  readonly signer: Instant | null
  readonly gateway: Instant | null
}

interface Central {
  readonly uid: string
  readonly now: Instant
}

/** What each runtime of the site says of its certificate, each in its own cluster. */
export async function observeRuntimes(looking: Looking, since: Since): Promise<void> {
  const { options } = looking
  const runtimes = runtimesOf(kymaOf(options.declared), options.site)
  if (runtimes.length === 0) return
  let central: Central
  try {
    central = await options.cluster.identity()
  } catch (cause) {
    looking.incomplete('identity of the central cluster', cause)
    return
  }
  const clusters = new Map<string, string[]>()
  await inPool(runtimes, options.concurrency, async runtime => {
    const uid = await observeRuntime(looking, runtime, since, central)
    if (uid !== null) clusters.set(uid, [...(clusters.get(uid) ?? []), runtime.name])
  })
  for (const [uid, names] of clusters)
    for (const name of [...names].sort().slice(uid === central.uid ? 0 : 1))
      looking.exceptions.push({
        consumer: 'runtime',
        name,
        reason: 'same-cluster',
        detail:
          uid === central.uid
            ? 'its context leads to the central cluster itself: the runtime’s own cluster was not looked at'
            : `its context leads to the same cluster as that of ${[...names].sort()[0]}: one of the two was not looked at`,
        verdict: 'unknown',
      })
}

/** Gives the UID of the runtime's cluster; null: it could not be read, which is an exception. */
async function observeRuntime(
  looking: Looking,
  runtime: KymaRuntime,
  since: Since,
  central: Central,
): Promise<string | null> {
  const { openCluster } = looking.options
  const name = `${runtime.name}/${runtime.connection}`
  if (openCluster === undefined) {
    looking.exceptions.push(unreadable('runtime', name, new Error('its cluster cannot be opened here')))
    return null
  }
  try {
    const cluster = await openCluster(runtime.name, runtime.cluster)
    try {
      return await lookAtRuntime(looking, runtime, cluster, since, central)
    } finally {
      await cluster.close()
    }
  } catch (cause) {
    looking.exceptions.push(unreadable('runtime', name, cause))
    return null
  }
}

async function lookAtRuntime(
  looking: Looking,
  runtime: KymaRuntime,
  cluster: Cluster,
  since: Since,
  central: Central,
): Promise<string> {
  const name = `${runtime.name}/${runtime.connection}`
  const kind = connectionKinds[runtime.kind]
  const { uid, now } = await cluster.identity()
  const object = await cluster.get(connectionResources[runtime.kind], null, runtime.connection)
  if (object === null) {
    looking.exceptions.push({
      consumer: 'runtime',
      name,
      reason: 'no-connection',
      detail: `there is no ${kind} ${runtime.connection} in its cluster: it is not connected, or goes by another name`,
      verdict: 'unknown',
    })
    return uid
  }
  const connection = readConnection(runtime.kind, object)
  // Only what stays the same from one look to the next: a time of each synchronisation would make no two looks alike.
  const facts: Record<string, string> = { kind: runtime.kind }
  const doubt = doubtOf(connection, { runtime: now, central: central.now })
  if (doubt !== null) facts.doubt = oneLine(doubt)
  if (connection.notBefore === null) facts.dates = 'unknown'
  else facts.notBefore = connection.notBefore
  if (connection.notAfter !== null && Date.parse(connection.notAfter) <= Date.parse(now))
    facts.expired = connection.notAfter
  const renews = renewsAt(connection)
  if (renews !== null) facts.renewsAt = renews
  const waits =
    since.signer === null
      ? 'cannot be told: the Secret of the connector was not read'
      : notRenewed(connection, looking.expected.sameKey ? since.signer : afterDoubt(since.signer))
  facts.renewed = String(waits === null)
  if (waits !== null) facts.waits = oneLine(waits)
  const unreached = notReached(connection, since.gateway, now)
  if (unreached !== null) facts.unreached = oneLine(unreached)
  looking.add({
    consumer: 'runtime',
    owner: `${runtime.name}/${kind}/${runtime.connection}`,
    name,
    trusts: null,
    presents: await ownCertificate(looking, runtime, cluster),
    bundleDigest: null,
    facts,
    leafExpires: connection.notAfter === null ? null : new Date(connection.notAfter),
  })
  return uid
}

function afterDoubt(since: Instant): Instant {
  return instantOf(new Date(Date.parse(since) + issuingDoubt))
}

/**
 * Which CA signed the runtime's client certificate, by its signature; null: it could not be read, which a role need not allow, and then dates alone count.
 * Old and new of one key made the same signature: there the CA that came with the certificate tells them apart.
 */
async function ownCertificate(
  looking: Looking,
  runtime: KymaRuntime,
  cluster: Cluster,
): Promise<readonly Fingerprint[] | null> {
  for (const namespace of clientSecret.namespaces[runtime.kind]) {
    let secret: KubernetesObject | null
    try {
      secret = await cluster.get(resources.secrets, namespace, clientSecret.name)
    } catch (cause) {
      if (cause instanceof ClusterError && cause.failure === 'forbidden') continue
      throw cause
    }
    const data = at(secret, 'data')
    const decoded = (key: string): string => Buffer.from(text(at(data, key)) ?? '', 'base64').toString('latin1')
    const leaf = decoded('crt')
    if (leaf === '') continue
    const chain = decoded('crtChain')
    const came = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g
    const others = (chain.match(came) ?? []).filter(block => block.trim() !== leaf.trim())
    return looking.book.leaf([leaf.trim(), ...others.map(block => block.trim())].join('\n')).issuers
  }
  return null
}
