import { X509Certificate } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fingerprintOf } from './fingerprint.ts'
import { istioNamespace } from './istio.ts'
import type { Kubelet, RunningPod } from './kubelet.ts'
import { type Server, startServer } from './server.ts'

/** What an Envoy presents and trusts, from one moment on, as its admin says. Certificates by SHA-256 of DER. */
export interface ProxyCertificates {
  readonly pod: string
  readonly at: string
  /** One per entry of `default`: a name may stand several times, once per SDS configuration. */
  readonly leaves: readonly Leaf[]
  /** One set per entry of `ROOTCA`, each sorted. */
  readonly roots: readonly (readonly string[])[]
}

export interface Leaf {
  readonly sha256: string
  /** The certificate of the chain that signed it; null where none did. */
  readonly issuer: string | null
  readonly notBefore: string
  readonly notAfter: string
}

export interface TrafficFailure {
  readonly at: string
  /** Workload and pod that asked. */
  readonly from: string
  readonly pod: string
  readonly to: string
  readonly ms: number
  readonly error: string
  /** What the client's proxy held then; null where it has none, or had not been read. */
  readonly client: ProxyCertificates | null
  /** The same of every pod that the peer had then, and for how long it had been there. */
  readonly server: readonly (ProxyCertificates & { readonly ageMs: number })[]
}

/** Requests of one workload to one peer. */
export interface PairTraffic {
  readonly from: string
  readonly to: string
  readonly sent: number
  readonly failed: number
}

export interface Traffic {
  readonly sent: number
  readonly failed: number
  /** Failures before a new pod's first answer from a peer, and soon after its start: its proxy was not there yet. */
  readonly early: number
  readonly pairs: readonly PairTraffic[]
  readonly failures: readonly TrafficFailure[]
}

export interface TrafficWatch {
  /** Traffic of all pods that ran since the watch began, between two times (milliseconds since 1970), to the second that a report covers. */
  read(since?: number, to?: number): Promise<Traffic>
  /** Every change of what a pod's proxy holds, oldest first, as Envoy's admin answers to `/config_dump?resource=dynamic_active_secrets`. */
  dumps(pod: string): Promise<readonly { readonly at: string; readonly text: string }[]>
  /** What a pod's proxy held at any time between two (milliseconds since 1970), from the first time that it was read. */
  between(pod: string, from: number, to: number): Promise<readonly ProxyCertificates[]>
  /** What the pods of a namespace hold now, by pod. */
  present(namespace: string): Promise<ReadonlyMap<string, ProxyCertificates>>
  stop(): Promise<void>
}

interface Watched {
  readonly pod: RunningPod
  readonly from: number
  to: number | null
  readonly watcher: Server | null
}

/** Reads Envoy's admin in the pod's network namespace and writes a line whenever the secrets are others than before. */
const watchScript = `
import json, sys, time, urllib.request
last = None
while True:
    try:
        with urllib.request.urlopen("http://127.0.0.1:15000/config_dump?resource=dynamic_active_secrets", timeout=2) as answer:
            body = answer.read()
        if body != last:
            last = body
            print(json.dumps({"at": int(time.time() * 1000), "dump": json.loads(body)}), flush=True)
    except (OSError, ValueError):
        pass
    time.sleep(float(sys.argv[1]))
`

/**
 * Keeps the ledger of a mesh: finds the logs of all workloads while their pods run (they outlive them), and follows the certificates of
 * every proxy, so that a failure is told with those of both its ends at that time.
 *
 * @param interval Milliseconds between two looks at a proxy; null: no proxy is an Envoy, so none is looked at. @default 200
 */
export async function watchTraffic(kubelet: Kubelet, interval: number | null = 200): Promise<TrafficWatch> {
  const folder = await mkdtemp(join(tmpdir(), 'ra-t-'))
  const watched = new Map<string, Watched>()
  let stopped = false

  function look(): void {
    const living = new Set(kubelet.pods().map(({ uid }) => uid))
    for (const pod of kubelet.everyPod()) {
      if (watched.has(pod.uid)) continue
      // Where no Envoy ever answers, nothing is ever written. Of a pod that has ended already only its log is left.
      const silent = interval === null || pod.namespace === istioNamespace || !living.has(pod.uid)
      const watcher = silent ? null : watcherOf(pod, join(folder, `${watched.size}.log`), interval)
      watched.set(pod.uid, { pod, from: Date.now(), to: null, watcher })
    }
    for (const [uid, entry] of watched) {
      if (entry.to !== null || living.has(uid)) continue
      entry.to = Date.now()
      entry.watcher?.kill().catch(() => {})
    }
  }

  function watcherOf(pod: RunningPod, log: string, every: number): Server {
    const command = ['python3', '-c', watchScript, String(every / 1000)]
    return startServer(`certificates of ${pod.name}`, ['ip', 'netns', 'exec', pod.netns, ...command], { log })
  }

  async function loop(): Promise<void> {
    while (!stopped) {
      look()
      await sleep(250)
    }
  }

  async function linesOf({ watcher }: Watched): Promise<readonly Readonly<Record<string, unknown>>[]> {
    return watcher === null ? [] : wholeLines(await readFile(watcher.log, 'utf8').catch(() => ''))
  }

  async function historyOf(entry: Watched): Promise<readonly ProxyCertificates[]> {
    return (await linesOf(entry)).map(line => certificatesOf(entry.pod.name, line))
  }

  async function at(entry: Watched, time: number): Promise<ProxyCertificates | null> {
    const history = await historyOf(entry)
    return history.findLast(held => Date.parse(held.at) <= time) ?? history[0] ?? null
  }

  /** What each pod of a workload held at a time. Its pods are named after it. */
  async function serversAt(namespace: string, workload: string, time: number): Promise<TrafficFailure['server']> {
    const found: (ProxyCertificates & { readonly ageMs: number })[] = []
    for (const entry of watched.values()) {
      if (entry.pod.namespace !== namespace || !isOf(entry.pod.name, workload)) continue
      if (entry.from > time || (entry.to ?? Number.POSITIVE_INFINITY) < time) continue
      const held = await at(entry, time)
      if (held !== null) found.push({ ...held, ageMs: time - entry.from })
    }
    return found
  }

  const running = loop()
  return {
    async read(since = 0, to = Number.POSITIVE_INFINITY) {
      look()
      let sent = 0
      let failed = 0
      let early = 0
      const pairs = new Map<string, { from: string; to: string; sent: number; failed: number }>()
      const failures: TrafficFailure[] = []
      for (const entry of watched.values()) {
        const text = await readFile(entry.pod.log('app'), 'utf8').catch(() => '')
        for (const line of wholeLines(text)) {
          const time = Date.parse(String(line.at))
          if (Number.isNaN(time) || time < since || time > to) continue
          if (line.ok === false) {
            const { at: when, from, pod, to: peer, ms, error } = line as unknown as TrafficFailure
            const client = await at(entry, time)
            const server = await serversAt(entry.pod.namespace, peer, time)
            failures.push({ at: when, from, pod, to: peer, ms, error, client, server })
            continue
          }
          const counts = line as unknown as PairTraffic & { readonly early?: number }
          sent += counts.sent
          failed += counts.failed
          // Clients of Cassandra have no proxy to wait for.
          early += counts.early ?? 0
          const name = `${counts.from} ${counts.to}`
          const pair = pairs.get(name) ?? { from: counts.from, to: counts.to, sent: 0, failed: 0 }
          pair.sent += counts.sent
          pair.failed += counts.failed
          pairs.set(name, pair)
        }
      }
      failures.sort((one, other) => Date.parse(one.at) - Date.parse(other.at))
      return { sent, failed, early, pairs: [...pairs.values()], failures }
    },
    async dumps(name) {
      const found: { at: string; text: string }[] = []
      for (const entry of watched.values()) {
        if (entry.pod.name !== name) continue
        for (const { at: when, dump } of await linesOf(entry)) {
          found.push({ at: new Date(Number(when)).toISOString(), text: JSON.stringify(dump) })
        }
      }
      return found
    },
    async between(name, from, to) {
      const found: ProxyCertificates[] = []
      for (const entry of watched.values()) {
        if (entry.pod.name !== name) continue
        const history = await historyOf(entry)
        const until = (index: number): number => Date.parse(history[index + 1]?.at ?? '9999-01-01')
        found.push(...history.filter(({ at: since }, index) => Date.parse(since) <= to && until(index) >= from))
      }
      return found
    },
    async present(namespace) {
      const held = new Map<string, ProxyCertificates>()
      for (const entry of watched.values()) {
        if (entry.to !== null || entry.pod.namespace !== namespace) continue
        const last = (await historyOf(entry)).at(-1)
        if (last !== undefined) held.set(entry.pod.name, last)
      }
      return held
    },
    async stop() {
      stopped = true
      await running
      await Promise.all([...watched.values()].map(({ watcher }) => watcher?.kill()))
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** A pod of a Deployment is called by it, a hash and five characters more. */
function isOf(pod: string, workload: string): boolean {
  return pod.startsWith(`${workload}-`) && /^[a-z0-9]+-[a-z0-9]{5}$/.test(pod.slice(workload.length + 1))
}

/** Lines of a log that is being written: the last may be half there. What is no JSON was said by someone else. */
function wholeLines(text: string): readonly Readonly<Record<string, unknown>>[] {
  return text.split('\n').flatMap(line => {
    if (!line.startsWith('{')) return []
    try {
      return [JSON.parse(line) as Record<string, unknown>]
    } catch {
      return []
    }
  })
}

interface DumpedSecret {
  readonly name?: string
  readonly secret?: {
    readonly tls_certificate?: { readonly certificate_chain?: { readonly inline_bytes?: string } }
    readonly validation_context?: { readonly trusted_ca?: { readonly inline_bytes?: string } }
  }
}

function certificatesOf(pod: string, line: Readonly<Record<string, unknown>>): ProxyCertificates {
  const { configs = [] } = line.dump as { readonly configs?: readonly DumpedSecret[] }
  const leaves: Leaf[] = []
  const roots: (readonly string[])[] = []
  for (const { name, secret } of configs) {
    const chain = secret?.tls_certificate?.certificate_chain?.inline_bytes
    const bundle = secret?.validation_context?.trusted_ca?.inline_bytes
    if (name === 'default' && chain !== undefined) leaves.push(leafOf(certificates(chain)))
    if (name === 'ROOTCA' && bundle !== undefined)
      roots.push([...new Set(certificates(bundle).map(fingerprintOf))].sort())
  }
  return { pod, at: new Date(Number(line.at)).toISOString(), leaves, roots }
}

function certificates(base64: string): readonly X509Certificate[] {
  const text = Buffer.from(base64, 'base64').toString('latin1')
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  return blocks.map(block => new X509Certificate(block))
}

function leafOf([leaf, ...others]: readonly X509Certificate[]): Leaf {
  if (leaf === undefined) return { sha256: '', issuer: null, notBefore: '', notAfter: '' }
  const issuer = others.find(other => leaf.checkIssued(other) && leaf.verify(other.publicKey))
  return {
    sha256: fingerprintOf(leaf),
    issuer: issuer === undefined ? null : fingerprintOf(issuer),
    notBefore: new Date(leaf.validFrom).toISOString(),
    notAfter: new Date(leaf.validTo).toISOString(),
  }
}

/** A ledger in few lines, for a message of a test: certificates by the names given, or by their first digits. */
export function trafficText(traffic: Traffic, names: ReadonlyMap<string, string> = new Map(), most = 5): string {
  const name = (sha256: string | null): string =>
    sha256 === null ? 'nobody' : (names.get(sha256) ?? sha256.slice(0, 12))
  const end = (held: ProxyCertificates | null): string => {
    if (held === null) return 'no proxy'
    const leaves = held.leaves.map(leaf => name(leaf.issuer)).join('/')
    return `${held.pod}: leaf by ${leaves}, trusts ${held.roots.map(set => set.map(name).join('+')).join('/')}`
  }
  const lines = traffic.failures.slice(0, most).map(failure => {
    const servers = failure.server.map(held => `${end(held)}, ${held.ageMs} ms old`).join('; ')
    return `${failure.at} ${failure.from} → ${failure.to}: ${failure.error} [${end(failure.client)} | ${servers}]`
  })
  const left = traffic.failures.length - lines.length
  const rest = left > 0 ? [`and ${left} more`] : []
  return [`${traffic.failed} of ${traffic.sent} requests failed (${traffic.early} early)`, ...lines, ...rest].join('\n')
}
