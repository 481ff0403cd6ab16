import type { X509Certificate } from 'node:crypto'
import type { KubernetesObject } from '../../cluster/cluster.ts'
import { x509Of } from '../../verify/certificates.ts'
import { unreadable } from '../../verify/exceptions.ts'
import { absent, observed, present } from '../../verify/looking.ts'
import { nameOf } from '../../verify/looks.ts'
import { at, list, objectId, text } from '../../verify/values.ts'
import type { Looking } from './observe.ts'
import type { LinkerdPod } from './observe-pods.ts'
import { injectorWebhook, type LinkerdWebhook, otherWebhooks, webhookOwner } from './webhooks.ts'

/** Where the injector answers the API server. */
const injectorPort = 8443

/** What the API server asks, and by which CA. */
interface Asked {
  readonly bundle: string
  /** Whom it takes the answer from. */
  readonly server: string
  readonly namespace: string
}

/** One replica that answers the API server. */
interface Replica {
  readonly pod: LinkerdPod
  readonly port: number
}

/**
 * Linkerd's webhooks, which the API server asks by certificates of a PKI of their own (Secrets linkerd-*-k8s-tls, which are not read: what is served says
 * as much). A rotation of the mesh must leave them alone, but depends on some of them (F12, linkerd2#4808).
 */
export async function observeWebhooks(looking: Looking, pods: readonly LinkerdPod[]): Promise<void> {
  await observeInjector(looking, pods)
  for (const webhook of otherWebhooks) await observeOther(looking, webhook, pods)
}

/** Every restart depends on it: where its certificates have ended, pods are refused, or come up without a proxy, and then no list of proxies tells. */
async function observeInjector(looking: Looking, pods: readonly LinkerdPod[]): Promise<void> {
  const id = objectId(injectorWebhook.kind, null, injectorWebhook.name)
  let asked: Asked | null = null
  await observed(looking, id, async () => {
    const found = await looking.options.cluster.get(injectorWebhook.type, null, injectorWebhook.name)
    if (found === null) return absent(id)
    asked = askedBy(looking, injectorWebhook, found)
    return present(id, found)
  })
  if (asked === null) return
  addBundle(looking, asked)
  for (const pod of pods) {
    if (!pod.injects || pod.proxy.notRunning !== null) continue
    try {
      await observeServed(looking, { pod, port: injectorPort }, asked, {})
    } catch (cause) {
      looking.exceptions.push(unreadable('webhook', nameOf(pod), cause))
    }
  }
}

function addBundle(looking: Looking, { bundle }: Asked): void {
  const { name } = injectorWebhook
  const base = { consumer: 'webhook', owner: webhookOwner(injectorWebhook), name, presents: null } as const
  try {
    const trusts = looking.book.roots(bundle)
    looking.add({ ...base, trusts, bundleDigest: null, facts: {}, leafExpires: null })
  } catch (cause) {
    looking.exceptions.push({ ...unreadable('webhook', name, cause), verdict: 'violated' })
  }
}

/**
 * One beside the injector. With failurePolicy Ignore the API server goes on without its answer, so it stops nothing. A validator is a hint, and what cannot be
 * seen of it is none; pods that an injector stands before are a gate's matter, so there it is unknown.
 */
async function observeOther(looking: Looking, webhook: LinkerdWebhook, pods: readonly LinkerdPod[]): Promise<void> {
  const ports = (pod: LinkerdPod) => pod.webhookPorts.filter(({ name }) => name === webhook.port)
  const running = pods.filter(pod => pod.proxy.notRunning === null)
  const replicas = running.flatMap(pod => ports(pod).map(({ port }): Replica => ({ pod, port })))
  const unseen = (name: string, cause: unknown): void => {
    if (webhook.asks === 'pods') looking.exceptions.push(unreadable('webhook', name, cause))
  }
  // Nobody of the mesh answers: it is not installed.
  if (replicas.length === 0) return
  let asked: Asked | null = null
  try {
    const found = await looking.options.cluster.get(webhook.type, null, webhook.name)
    const [first] = list(found?.webhooks)
    if (found === null || text(at(first, 'failurePolicy')) === 'Ignore') return
    asked = askedBy(looking, webhook, found)
  } catch (cause) {
    unseen(webhook.name, cause)
    return
  }
  for (const replica of replicas) {
    if (replica.pod.namespace !== asked.namespace) continue
    try {
      await observeServed(looking, replica, asked, { webhook: webhook.name, asks: webhook.asks })
    } catch (cause) {
      unseen(nameOf(replica.pod), cause)
    }
  }
}

function askedBy(looking: Looking, { service }: LinkerdWebhook, found: KubernetesObject): Asked {
  const [webhook] = list(found.webhooks)
  const bundle = Buffer.from(text(at(webhook, 'clientConfig', 'caBundle')) ?? '', 'base64').toString('latin1')
  const namespace = text(at(webhook, 'clientConfig', 'service', 'namespace')) ?? looking.linkerd.namespace
  return { bundle, namespace, server: `${service}.${namespace}.svc` }
}

async function observeServed(
  looking: Looking,
  { pod, port }: Replica,
  { bundle, server }: Asked,
  facts: Readonly<Record<string, string>>,
): Promise<void> {
  const { cluster, now } = looking.options
  const { chain } = await cluster.servedTls(pod, port, server)
  const { issuers, notBefore, notAfter } = looking.book.leafOfDer(chain)
  const [leaf] = chain
  const refused = leaf === undefined ? 'nothing was served' : refusal(x509Of(leaf), bundle, server, now)
  looking.add({
    consumer: 'webhook',
    owner: pod.owner,
    name: nameOf(pod),
    trusts: null,
    presents: issuers,
    bundleDigest: null,
    facts: { ...facts, ...(refused === null ? { accepted: 'true' } : { accepted: 'false', why: refused }) },
    leafExpires: notBefore < notAfter ? notAfter : null,
  })
}

/** Why the API server refuses what a webhook serves; null: it accepts it. The chart makes CA and leaf in one go, with nothing between. */
function refusal(leaf: X509Certificate, bundle: string, server: string, now: Date): string | null {
  const anchors = (bundle.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? []).map(x509Of)
  const above = anchors.filter(anchor => anchor.raw.equals(leaf.raw) || signs(anchor, leaf))
  if (above.length === 0) return 'its certificate is not issued by caBundle'
  if (ended(leaf, now)) return `its certificate ended at ${leaf.validTo}`
  if (above.every(anchor => ended(anchor, now))) return `the CA in caBundle ended at ${above[0]?.validTo ?? ''}`
  return leaf.checkHost(server) === undefined ? `its certificate is not for ${server}` : null
}

function signs(anchor: X509Certificate, leaf: X509Certificate): boolean {
  try {
    return leaf.verify(anchor.publicKey)
  } catch {
    // A key of another type signed nothing here.
    return false
  }
}

function ended(certificate: X509Certificate, now: Date): boolean {
  return Date.parse(certificate.validTo) < now.getTime()
}
