import { readFile } from 'node:fs/promises'
import { connect } from 'node:tls'
import type { SeenRefusal } from '../../../src/safety/price.ts'
import { fingerprintOf } from './fingerprint.ts'
import type { Kubelet, RunningPod } from './kubelet.ts'
import { linkerdNamespace, shopNamespace } from './linkerd-fleet.ts'

/** Where a proxy serves its leaf. */
const adminPort = 4191

export interface HeldByProxies {
  readonly proxies: number
  /** Roots that any of them trusts, sorted; each by SHA-256 of DER. */
  readonly roots: readonly string[]
  /** Who signed the leaves that they serve, sorted. */
  readonly issuers: readonly string[]
  /** How many sets of roots there are: 1 where all trust the same. */
  readonly sets: number
}

/**
 * What every proxy holds, read past the product and past the API: anchors in the environment of the running process, where it read them at its start,
 * and the leaf from a handshake over the pods' own network.
 */
export async function heldByProxies(kubelet: Kubelet): Promise<HeldByProxies> {
  const found: { readonly roots: readonly string[]; readonly issuer: string }[] = []
  for (const pod of kubelet.pods()) {
    const environment = await environmentOfProxy(pod)
    if (environment === null) continue
    const roots = fingerprints(environment.get('LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS') ?? '')
    const issuer = await issuerServed(pod.address, environment.get('LINKERD2_PROXY_IDENTITY_LOCAL_NAME') ?? '')
    found.push({ roots, issuer })
  }
  const distinct = (list: readonly string[]): readonly string[] => [...new Set(list)].sort()
  return {
    proxies: found.length,
    roots: distinct(found.flatMap(({ roots }) => roots)),
    issuers: distinct(found.map(({ issuer }) => issuer)),
    sets: new Set(found.map(({ roots }) => [...roots].sort().join())).size,
  }
}

/** Null where the pod has no proxy, or it has ended. */
async function environmentOfProxy(pod: RunningPod): Promise<ReadonlyMap<string, string> | null> {
  const text = await pod.execIn('linkerd-proxy', ['cat', '/proc/1/environ']).catch(() => null)
  if (text === null) return null
  return new Map(
    text.split('\0').map(entry => {
      const at = entry.indexOf('=')
      return [entry.slice(0, at), entry.slice(at + 1)] as const
    }),
  )
}

function fingerprints(text: string): readonly string[] {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  return blocks.map(fingerprintOf)
}

function issuerServed(host: string, servername: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port: adminPort, servername, rejectUnauthorized: false, timeout: 5000 }, () => {
      const leaf = socket.getPeerX509Certificate()
      const issuer = leaf?.issuerCertificate
      socket.destroy()
      if (leaf === undefined || issuer === undefined || !leaf.verify(issuer.publicKey)) resolve('nobody')
      else resolve(fingerprintOf(issuer))
    })
    socket.on('error', reject)
    socket.on('timeout', () => socket.destroy(new Error(`${servername} does not answer`)))
  })
}

/** A handshake that a proxy of the rig refused. */
export interface Refusal {
  /** Milliseconds since 1970. */
  readonly at: number
  readonly pod: string
  /** inbound: it refused a client. outbound: it refused a server, or was told by it that it is refused. */
  readonly refused: 'inbound' | 'outbound'
  readonly peer: string
  readonly error: string
}

/** Every handshake that proxies of a namespace refused since a time, also of pods that have ended. */
export async function refusals(kubelet: Kubelet, namespace: string, since: number): Promise<readonly Refusal[]> {
  const lines = await proxyLines(kubelet, namespace)
  return lines.flatMap(({ pod, line }) =>
    line.refused === undefined || Number(line.at) < since ? [] : [{ ...(line as unknown as Refusal), pod }],
  )
}

/**
 * Whose leaf which proxies did not verify since a time, by what was presented and what they held; of pods that have ended too. Only the client tells: a
 * server's certificate comes first in a handshake, so where neither end trusts the other's root no server ever sees one.
 */
export async function unverified(kubelet: Kubelet, since: number): Promise<readonly SeenRefusal[]> {
  const found: SeenRefusal[] = []
  for (const namespace of [linkerdNamespace, shopNamespace]) {
    const holds = new Map<string, readonly string[]>()
    for (const { pod, line } of await proxyLines(kubelet, namespace)) {
      if (Array.isArray(line.roots)) holds.set(pod, line.roots.map(String))
      if (typeof line.unverified !== 'string' || Number(line.at) < since) continue
      found.push({
        client: line.unverified.includes(`.${linkerdNamespace}.serviceaccount.`) ? 'control-plane' : 'proxy',
        server: namespace === linkerdNamespace ? 'control-plane' : 'proxy',
        presents: String(line.presents),
        trusts: holds.get(pod) ?? [],
      })
    }
  }
  return found
}

/** What the proxies of a namespace wrote, one JSON object per line. */
async function proxyLines(kubelet: Kubelet, namespace: string) {
  const found: { readonly pod: string; readonly line: Readonly<Record<string, unknown>> }[] = []
  for (const pod of kubelet.everyPod()) {
    if (pod.namespace !== namespace) continue
    const text = await readFile(pod.log('linkerd-proxy'), 'utf8').catch(() => '')
    for (const line of text.split('\n')) {
      if (!line.startsWith('{') || !line.endsWith('}')) continue
      found.push({ pod: pod.name, line: JSON.parse(line) as Record<string, unknown> })
    }
  }
  return found
}
