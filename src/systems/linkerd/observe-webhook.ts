import { X509Certificate } from 'node:crypto'
import { resources } from '../../cluster/resources.ts'
import { unreadable } from '../../verify/exceptions.ts'
import { absent, observed, present } from '../../verify/looking.ts'
import { nameOf } from '../../verify/looks.ts'
import { at, list, objectId, text } from '../../verify/values.ts'
import type { Looking } from './observe.ts'
import type { LinkerdPod } from './observe-pods.ts'

export const webhookName = 'linkerd-proxy-injector-webhook-config'
/** Where the injector answers the API server. */
const webhookPort = 8443

/**
 * The injector's webhook, which the API server asks at each admission. Its certificates are a PKI of their own (Secret linkerd-proxy-injector-k8s-tls, which
 * is not read: what is served says as much), and a rotation of the mesh must leave them alone. But every restart of a rotation depends on them: where
 * they have ended, pods are refused, or come up without a proxy, and then no list of proxies tells (F12, linkerd2#4808).
 */
export async function observeWebhook(looking: Looking, pods: readonly LinkerdPod[]): Promise<void> {
  const id = objectId('MutatingWebhookConfiguration', null, webhookName)
  let bundle: string | null = null
  await observed(looking, id, async () => {
    const found = await looking.options.cluster.get(resources.mutatingWebhooks, null, webhookName)
    if (found === null) return absent(id)
    const [webhook] = list(found.webhooks)
    bundle = Buffer.from(text(at(webhook, 'clientConfig', 'caBundle')) ?? '', 'base64').toString('latin1')
    return present(id, found)
  })
  if (bundle === null) return
  addBundle(looking, bundle)
  for (const pod of pods) if (pod.injects && pod.proxy.notRunning === null) await observeServed(looking, pod, bundle)
}

function addBundle(looking: Looking, bundle: string): void {
  const owner = `MutatingWebhookConfiguration/${webhookName}`
  const base = { consumer: 'webhook', owner, name: webhookName, presents: null, bundleDigest: null, facts: {} } as const
  try {
    looking.add({ ...base, trusts: looking.book.roots(bundle), leafExpires: null })
  } catch (cause) {
    looking.exceptions.push({ ...unreadable('webhook', webhookName, cause), verdict: 'violated' })
  }
}

async function observeServed(looking: Looking, pod: LinkerdPod, bundle: string): Promise<void> {
  const { cluster, now } = looking.options
  const name = nameOf(pod)
  try {
    const server = `linkerd-proxy-injector.${looking.linkerd.namespace}.svc`
    const chain = await cluster.servedChain(pod, webhookPort, server)
    const { issuers, notBefore, notAfter } = looking.book.leafOfDer(chain)
    const [leaf] = chain
    const refused = leaf === undefined ? 'nothing was served' : refusal(new X509Certificate(leaf), bundle, server, now)
    looking.add({
      consumer: 'webhook',
      owner: pod.owner,
      name,
      trusts: null,
      presents: issuers,
      bundleDigest: null,
      facts: refused === null ? { accepted: 'true' } : { accepted: 'false', why: refused },
      leafExpires: notBefore < notAfter ? notAfter : null,
    })
  } catch (cause) {
    looking.exceptions.push(unreadable('webhook', name, cause))
  }
}

/** Why the API server refuses what the injector serves; null: it accepts it. The chart makes CA and leaf in one go, with nothing between. */
function refusal(leaf: X509Certificate, bundle: string, server: string, now: Date): string | null {
  const anchors = (bundle.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? []).map(
    pem => new X509Certificate(pem),
  )
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
