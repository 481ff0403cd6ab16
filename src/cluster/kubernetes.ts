import { createHash, type X509Certificate } from 'node:crypto'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest, type RequestOptions } from 'node:https'
import { connect as dial } from 'node:net'
import { Duplex } from 'node:stream'
import { createSecureContext, type SecureContext, type TLSSocket, connect as tlsConnect } from 'node:tls'
import type { KubeConfig, PortForward } from '@kubernetes/client-node'
import { ReanchorError } from '../errors.ts'
import type { ClusterChoice } from '../rotation.ts'
import { instantOf } from '../verify/values.ts'
import { acceptedAuthorities } from './accepted-authorities.ts'
import {
  type Cluster,
  ClusterError,
  credentialsRefused,
  type KubernetesObject,
  type ListOptions,
  type ResourceType,
  type ServedTls,
} from './cluster.ts'
import { listReader } from './list-reader.ts'
import { objectOf } from './object.ts'

export interface KubernetesOptions {
  /** Milliseconds that one request to the API server may take. @default 30000 */
  readonly requestTimeout?: number
  /** Milliseconds for one port-forward, answer included: one that reaches nothing stays silent for ever. @default 15000 */
  readonly forwardTimeout?: number
  /** Objects per page of a list. @default 500 */
  readonly pageSize?: number
}

interface Settings {
  readonly requestTimeout: number
  readonly forwardTimeout: number
  readonly pageSize: number
}

const defaults: Settings = { requestTimeout: 30_000, forwardTimeout: 15_000, pageSize: 500 }

/** Reads a cluster through its API server, with the credentials of a kubeconfig or of the pod that this runs in. */
export async function openKubernetesCluster(choice: ClusterChoice, options: KubernetesOptions = {}): Promise<Cluster> {
  const { KubeConfig: Config, PortForward: Forward } = await import('@kubernetes/client-node')
  const config = withSharedContext(loadConfig(new Config(), choice))
  const settings = { ...defaults, ...options }
  return kubernetesCluster(config, new Forward(withHandshakeTimeout(config, settings.forwardTimeout)), settings)
}

/**
 * The client's WebSockets wait for ever for an API server that takes the connection and says nothing (client-node 1.x, WebSocketHandler.connect),
 * and until then there is no socket to close: this option of `ws` ends them.
 */
function withHandshakeTimeout(config: KubeConfig, handshakeTimeout: number): KubeConfig {
  const patient = Object.create(config) as KubeConfig
  patient.applyToHTTPSOptions = async options => {
    await config.applyToHTTPSOptions(options)
    Object.assign(options, { handshakeTimeout })
  }
  return patient
}

/**
 * One TLS context for all connections with the same credentials. The client would make one for each, of some 70 KiB outside of V8's heap, which
 * therefore sees no reason to collect them: a few thousand port-forwards take hundreds of megabytes.
 */
function withSharedContext(config: KubeConfig): KubeConfig {
  const sharing = Object.create(config) as KubeConfig
  let shared: { readonly of: string; readonly context: SecureContext; readonly agent: RequestOptions['agent'] } | null =
    null
  sharing.applyToHTTPSOptions = async options => {
    await config.applyToHTTPSOptions(options)
    const { agent, ca, cert, key, pfx, passphrase } = options
    // Credentials may change while this runs: plugins and mounted tokens renew theirs.
    const of = digestOf([ca, cert, key, pfx, passphrase])
    if (shared?.of !== of)
      shared = { of, agent, context: createSecureContext(defined({ ca, cert, key, pfx, passphrase })) }
    Object.assign(options, { secureContext: shared.context, agent: shared.agent })
  }
  return sharing
}

function digestOf(values: readonly unknown[]): string {
  const hash = createHash('sha256')
  for (const value of values.flat()) {
    const bytes = Buffer.isBuffer(value) ? value : Buffer.from(typeof value === 'string' ? value : '')
    hash.update(`${bytes.length} `).update(bytes)
  }
  return hash.digest('hex')
}

function defined<T extends object>(values: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const held = Object.entries(values).filter(([, value]) => value !== undefined)
  return Object.fromEntries(held) as { [K in keyof T]: Exclude<T[K], undefined> }
}

function loadConfig(config: KubeConfig, choice: ClusterChoice): KubeConfig {
  try {
    if (choice.kind === 'inCluster') config.loadFromCluster()
    if (choice.kind === 'kubeconfig') config.loadFromFile(choice.file)
    if (choice.kind === 'context') config.loadFromDefault()
  } catch (cause) {
    throw new ReanchorError({
      what: 'the credentials of the cluster cannot be read',
      where: choice.kind === 'kubeconfig' ? { file: choice.file } : { field: 'cluster' },
      found: cause instanceof Error ? (cause.message.split('\n')[0] ?? '') : String(cause),
      todo: 'check `cluster` of this site in rotation.yaml',
      cause,
    })
  }
  if (choice.kind === 'reports')
    throw new ReanchorError({
      what: 'the cluster of this site cannot be read from here: a Job in it reports what it sees',
      where: { field: 'cluster.reports' },
      expected: 'material from files, or a cluster that can be reached',
      found: `reports at refs/reanchor/${choice.ref}`,
      todo: "give today's CA to `plan` as current: {files: …}; or plan from where the cluster can be read, and write `reports` in the place of `context` afterwards",
    })
  const context = choice.kind === 'context' || choice.kind === 'kubeconfig' ? choice.context : null
  if (context !== null) chooseContext(config, context, choice)
  if (config.getCurrentCluster() === null) {
    throw new ReanchorError({
      what: 'no cluster is chosen',
      where: { field: 'cluster.context' },
      expected: 'a context of the kubeconfig, or a current one',
      todo: 'name a context for this site in rotation.yaml; `kubectl config get-contexts` lists them',
    })
  }
  return config
}

function chooseContext(config: KubeConfig, context: string, choice: ClusterChoice): void {
  const names = config.getContexts().map(({ name }) => name)
  if (names.includes(context)) {
    config.setCurrentContext(context)
    return
  }
  // What the client makes up where it finds no file at all (client-node, loadFromDefault).
  if (names.length === 1 && names[0] === 'loaded-context') {
    throw new ReanchorError({
      what: 'no kubeconfig was found',
      where: { field: 'cluster.context' },
      expected: `a kubeconfig with the context ${context}, at KUBECONFIG or in its usual place`,
      found: 'none',
      todo: 'set KUBECONFIG, or name the file: cluster: {kubeconfig: FILE}',
    })
  }
  throw new ReanchorError({
    what: 'the kubeconfig has no such context',
    where: { field: 'cluster.context', ...(choice.kind === 'kubeconfig' ? { file: choice.file } : {}) },
    expected: names.length === 0 ? 'a context; the kubeconfig has none' : `one of ${names.join(', ')}`,
    found: context,
    todo: 'correct the context in rotation.yaml, or add it to the kubeconfig',
  })
}

const wholeObjects = 'application/json'
const metadataOnly = 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1'
const metadataOnlyList = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1'

/** A hostile or broken answer ends here rather than in memory. A page of 500 pods is about 5 MiB. */
const largestAnswer = 256 * 1024 * 1024
const largestForwarded = 64 * 1024 * 1024

interface Answer {
  readonly status: number
  readonly date: string | undefined
  readonly body: string
}

type Ask = (path: string, accept: string, asked: string) => Promise<Reply>

/** Where etcd stands still the API server takes every request and answers none: a look of a dozen of them must not take a dozen time-outs. */
const afterSilence = 10

function kubernetesCluster(config: KubeConfig, forward: PortForward, settings: Settings): Cluster {
  let silent = false

  async function begin(path: string, accept: string, asked: string): Promise<Reply> {
    const server = config.getCurrentCluster()?.server ?? ''
    const options: RequestOptions = { headers: {} }
    await config.applyToHTTPSOptions(options)
    const url = new URL(`${server.replace(/\/+$/, '')}${path}`)
    const headers = { ...options.headers, Accept: accept }
    const timeout = silent ? settings.requestTimeout / afterSilence : settings.requestTimeout
    const reply = send(url, { ...options, method: 'GET', headers }, timeout, asked)
    reply.then(
      () => {
        silent = false
      },
      cause => {
        silent = cause instanceof ClusterError && cause.message.includes(noAnswer)
      },
    )
    return await reply
  }

  async function ask(path: string, accept: string, asked: string): Promise<Answer> {
    const reply = await begin(path, accept, asked)
    try {
      return await answerOf(reply, asked)
    } finally {
      reply.end()
    }
  }

  async function read(
    type: ResourceType,
    namespace: string | null,
    name: string,
    accept: string,
  ): Promise<KubernetesObject | null> {
    const asked = `get ${type.plural} ${namespace === null ? '' : `${namespace}/`}${name}`
    const answer = await ask(`${collectionPath(type, namespace)}/${encodeURIComponent(name)}`, accept, asked)
    if (answer.status === 404) return null
    refuse(answer, asked, 'get', type)
    return objectOf(parseJson(answer.body, asked), asked)
  }

  return {
    async identity() {
      const asked = 'get namespaces kube-system'
      const answer = await ask('/api/v1/namespaces/kube-system', metadataOnly, asked)
      refuse(answer, asked, 'get', namespaces)
      const uid = objectOf(parseJson(answer.body, asked), asked).metadata.uid
      const time = Date.parse(answer.date ?? '')
      if (uid === undefined || uid === '') throw new ClusterError('malformed', asked, 'the namespace has no uid')
      if (Number.isNaN(time)) throw new ClusterError('malformed', asked, 'the answer carries no Date')
      return { uid, now: instantOf(new Date(time)) }
    },
    get: (type, namespace, name) => read(type, namespace, name, wholeObjects),
    metadata: (type, namespace, name) => read(type, namespace, name, metadataOnly),
    list: (type, options = {}) => pages(begin, type, options, settings.pageSize),
    async httpGet(pod, port, path, timeout = settings.forwardTimeout) {
      const asked = `GET ${path} of pod ${pod.namespace}/${pod.name}:${port}`
      const within = Math.min(timeout, settings.forwardTimeout)
      return await forwarded(forward, pod, port, within, asked, stream => httpOver(stream, path, asked))
    },
    async servedTls(pod, port, serverName, timeout = settings.forwardTimeout) {
      const asked = `TLS handshake with pod ${pod.namespace}/${pod.name}:${port}`
      const within = Math.min(timeout, settings.forwardTimeout)
      const talk = (stream: Duplex): Promise<ServedTls> => tlsOver(stream, serverName, asked)
      const byForward = forwarded(forward, pod, port, within, asked, talk)
      const { address } = pod
      if (address === undefined) return await byForward
      return await otherwise(byForward, () => dialled(address, port, within, asked, talk))
    },
    async close() {},
  }
}

const namespaces: ResourceType = { group: '', version: 'v1', plural: 'namespaces', namespaced: false }

function collectionPath(type: ResourceType, namespace: string | null): string {
  const root = type.group === '' ? `/api/${type.version}` : `/apis/${type.group}/${type.version}`
  const scope = type.namespaced && namespace !== null ? `/namespaces/${encodeURIComponent(namespace)}` : ''
  return `${root}${scope}/${type.plural}`
}

// ------------------------------------------------------------------------------------------------ lists

/** Objects that are handed on together. A page is read in such pieces, so that no more of it is in memory at a time. */
const piece = 50

async function* pages(
  begin: Ask,
  type: ResourceType,
  options: ListOptions,
  pageSize: number,
): AsyncGenerator<readonly KubernetesObject[]> {
  const asked = `list ${type.plural}${options.namespace === undefined ? '' : ` in ${options.namespace}`}`
  const seen = new Set<string>()
  let restarted = false
  let token = ''
  for (;;) {
    const query = new URLSearchParams({ limit: String(pageSize) })
    if (options.labelSelector !== undefined) query.set('labelSelector', options.labelSelector)
    if (options.fieldSelector !== undefined) query.set('fieldSelector', options.fieldSelector)
    if (token !== '') query.set('continue', token)
    const accept = options.metadataOnly === true ? metadataOnlyList : wholeObjects
    const reply = await begin(`${collectionPath(type, options.namespace ?? null)}?${query}`, accept, asked)
    try {
      // The resource type itself is unknown here: an empty list, as `get` gives null.
      if (reply.status === 404 && token === '') return
      if (reply.status === 410 && token !== '') {
        // The snapshot that the token stands for was compacted away. Once more from the start, leaving out what was given already.
        if (restarted) throw new ClusterError('partial', asked, 'the list expired twice while it was read')
        restarted = true
        token = ''
        continue
      }
      if (reply.status >= 500 && token !== '')
        throw new ClusterError('partial', asked, `stopped half way with status ${reply.status}`)
      refuse(reply, asked, 'list', type)
      const reader = listReader()
      for await (const chunk of chunksOf(reply, asked)) {
        reader.push(chunk)
        yield* pieces(freshOf(wellFormed(asked, reader.items)))
      }
      token = restOf(wellFormed(asked, reader.end), asked)
      if (token === '') return
    } finally {
      reply.end()
    }
  }

  function freshOf(items: readonly unknown[]): readonly KubernetesObject[] {
    return items
      .map(item => objectOf(item, asked))
      .filter(item => {
        const key = keyOf(item)
        if (seen.has(key)) return false
        seen.add(key)
        return true
      })
  }
}

function* pieces(items: readonly KubernetesObject[]): Generator<readonly KubernetesObject[]> {
  for (let from = 0; from < items.length; from += piece) yield items.slice(from, from + piece)
}

function keyOf({ metadata }: KubernetesObject): string {
  return metadata.uid ?? `${metadata.namespace ?? ''}/${metadata.name}`
}

/** The token of the next page, from the list without its items; '' at the last. */
function restOf(parsed: unknown, asked: string): string {
  const { items, metadata } = recordOf(parsed)
  if (!Array.isArray(items)) throw new ClusterError('malformed', asked, 'the answer has no items')
  // Objects were taken out: what is left is none.
  for (const item of items) objectOf(item, asked)
  const token = recordOf(metadata).continue
  return typeof token === 'string' ? token : ''
}

function recordOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {}
}

function parseJson(body: string, asked: string): unknown {
  return wellFormed(asked, () => JSON.parse(body) as unknown)
}

function wellFormed<T>(asked: string, parse: () => T): T {
  try {
    return parse()
  } catch (cause) {
    throw new ClusterError('malformed', asked, 'the answer is not JSON', cause)
  }
}

// --------------------------------------------------------------------------------------------- requests

/** An answer whose body has not been read yet. It is to be ended, whether it was read or not. */
interface Reply {
  readonly status: number
  readonly response: IncomingMessage
  end(): void
}

const noAnswer = 'no answer within'

/** The time-out holds until `end`, so that a body that stops half way ends too. */
function send(url: URL, options: RequestOptions, timeout: number, asked: string): Promise<Reply> {
  const request = url.protocol === 'https:' ? httpsRequest : httpRequest
  return new Promise((resolve, reject) => {
    const sent = request(url, options, response => {
      const end = (): void => {
        clearTimeout(clock)
        if (!response.complete) sent.destroy()
      }
      resolve({ status: response.statusCode ?? 0, response, end })
    })
    const clock = setTimeout(() => {
      const silence = new ClusterError('unreachable', asked, `${noAnswer} ${timeout / 1000} s`)
      reject(silence)
      sent.destroy(silence)
    }, timeout)
    sent.on('error', cause => {
      clearTimeout(clock)
      reject(cause instanceof ClusterError ? cause : new ClusterError('unreachable', asked, reasonOf(cause), cause))
    })
    sent.end()
  })
}

async function answerOf(reply: Reply, asked: string): Promise<Answer> {
  const chunks: Buffer[] = []
  for await (const chunk of chunksOf(reply, asked)) chunks.push(chunk)
  return {
    status: reply.status,
    date: reply.response.headers.date,
    body: Buffer.concat(chunks).toString('utf8'),
  }
}

async function* chunksOf({ response }: Reply, asked: string): AsyncGenerator<Buffer> {
  try {
    yield* bounded(response, largestAnswer)
  } catch (cause) {
    if (cause instanceof ClusterError) throw cause
    throw new ClusterError('partial', asked, 'the answer broke off', cause)
  }
}

/** Throws where the connection closes before the answer is whole: the iteration ends with `aborted` then. */
async function* bounded(response: IncomingMessage, largest: number): AsyncGenerator<Buffer> {
  let size = 0
  for await (const chunk of response) {
    const bytes = chunk as Buffer
    size += bytes.length
    if (size > largest) throw new Error(`the answer is larger than ${largest} bytes`)
    yield bytes
  }
}

async function collect(response: IncomingMessage, largest: number): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of bounded(response, largest)) chunks.push(chunk)
  return Buffer.concat(chunks).toString('utf8')
}

/** A system error's code says more than its message, which may hold nothing. */
function reasonOf(cause: unknown): string {
  const code = recordOf(cause).code
  const message = cause instanceof Error ? cause.message : ''
  return typeof code === 'string' && !message.includes(code) ? `${code} ${message}`.trim() : message || 'no connection'
}

function refuse(answer: Pick<Answer, 'status'>, asked: string, verb: string, type: ResourceType): void {
  if (answer.status >= 200 && answer.status < 300) return
  const group = type.group === '' ? 'core' : type.group
  if (answer.status === 401) throw new ClusterError('forbidden', asked, credentialsRefused)
  if (answer.status === 403) {
    throw new ClusterError(
      'forbidden',
      asked,
      `the role lacks verb ${verb} on ${type.plural} (API group ${group}); the file of its system in roles/ grants it`,
    )
  }
  if (answer.status === 429 || answer.status >= 500)
    throw new ClusterError('unreachable', asked, `status ${answer.status}`)
  throw new ClusterError('malformed', asked, `status ${answer.status}`)
}

// ---------------------------------------------------------------------------------------- port-forwards

interface PodName {
  readonly namespace: string
  readonly name: string
}

interface Socket {
  close(): void
  terminate?: () => void
  onclose?: unknown
  onerror?: unknown
}

/** Runs one conversation through a port-forward of its own, in bounded time, and closes it whatever happens. */
async function forwarded<T>(
  forward: PortForward,
  pod: PodName,
  port: number,
  timeout: number,
  asked: string,
  talk: (stream: Duplex) => Promise<T>,
): Promise<T> {
  const ends = forwardStreams()
  const problems: string[] = []
  ends.errors.on('data', (chunk: Buffer) => problems.push(chunk.toString('utf8')))
  let socket: Socket | null = null
  let clock: NodeJS.Timeout | undefined
  let over = false
  const silence = new Promise<never>((_resolve, reject) => {
    clock = setTimeout(
      () => reject(new ClusterError('timeout', asked, `no answer within ${timeout / 1000} s`)),
      timeout,
    )
  })
  const refused = new Promise<never>((_resolve, reject) => {
    ends.errors.on('data', () => reject(new ClusterError('unreachable', asked, problems.join('').trim())))
  })
  const conversation = open()
  try {
    return await Promise.race([conversation, silence, refused])
  } finally {
    over = true
    clearTimeout(clock)
    // What lost the race may still fail: it has been answered for.
    conversation.catch(() => {})
    silence.catch(() => {})
    refused.catch(() => {})
    ends.near.destroy()
    hangUp(socket)
  }

  async function open(): Promise<T> {
    try {
      socket = (await forward.portForward(
        encodeURIComponent(pod.namespace),
        encodeURIComponent(pod.name),
        [port],
        ends.output,
        ends.errors,
        ends.input,
      )) as Socket
    } catch (cause) {
      throw forwardFailure(cause, asked)
    }
    if (over) hangUp(socket)
    socket.onclose = () => ends.closed()
    socket.onerror = () => ends.closed()
    return await talk(ends.near)
  }
}

/** Not every API server passes a refusal on: after so many milliseconds of silence the other way is tried as well. */
const silence = 2000

/** What the port-forward brings, or where nothing answers to it, what the other way does. What the role withholds is not taken another way. */
async function otherwise<T>(byForward: Promise<T>, other: () => Promise<T>): Promise<T> {
  const quiet = new Promise<'quiet'>(resolve => setTimeout(resolve, silence, 'quiet').unref())
  const first = await Promise.race([
    byForward.then(
      value => ({ value }),
      (cause: unknown) => ({ cause }),
    ),
    quiet,
  ])
  if (first !== 'quiet') {
    if ('value' in first) return first.value
    if (!(first.cause instanceof ClusterError) || first.cause.failure !== 'unreachable') throw first.cause
    return await other()
  }
  const own = other()
  return await Promise.any([byForward, own]).catch(() => own)
}

/** What listens on a pod's own address alone is reached from where that address leads to the pod. */
async function dialled<T>(
  address: string,
  port: number,
  timeout: number,
  asked: string,
  talk: (stream: Duplex) => Promise<T>,
): Promise<T> {
  const stream = dial({ host: address, port })
  const at = `at ${address}, as nothing answers on the pod’s loopback`
  const failed = new Promise<never>((_resolve, reject) => {
    stream.once('error', cause => reject(new ClusterError('unreachable', asked, `${reasonOf(cause)} ${at}`, cause)))
    stream.setTimeout(timeout, () =>
      reject(new ClusterError('timeout', asked, `no answer within ${timeout / 1000} s ${at}`)),
    )
  })
  const conversation = talk(stream)
  try {
    return await Promise.race([conversation, failed])
  } finally {
    // What lost the race may still fail: it has been answered for.
    conversation.catch(() => {})
    failed.catch(() => {})
    stream.destroy()
  }
}

function hangUp(socket: Socket | null): void {
  if (socket === null) return
  // close() alone waits for the other side for up to 30 s, which keeps the process alive.
  if (socket.terminate === undefined) socket.close()
  else socket.terminate()
}

function forwardFailure(cause: unknown, asked: string): ClusterError {
  const told = recordOf(cause)
  const message = typeof told.message === 'string' ? told.message : cause instanceof Error ? cause.message : ''
  const status = /Unexpected server response: (\d+)/.exec(message)?.[1]
  if (status === '401') return new ClusterError('forbidden', asked, credentialsRefused, cause)
  if (status === '403') {
    const detail =
      'the role lacks verb get (and create) on pods/portforward; the port-forwards of its system in roles/ grant both'
    return new ClusterError('forbidden', asked, detail, cause)
  }
  return new ClusterError(
    'unreachable',
    asked,
    status === undefined ? reasonOf(told.error ?? cause) : `status ${status}`,
    cause,
  )
}

interface ForwardStreams {
  /** Our end: what TLS or HTTP speaks on. */
  readonly near: Duplex
  /** What arrives from the pod is written here. */
  readonly output: Duplex
  readonly errors: Duplex
  /** What goes to the pod is read from here. */
  readonly input: Duplex
  closed(): void
}

function forwardStreams(): ForwardStreams {
  let near: Duplex
  const far = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      near.push(chunk)
      done()
    },
  })
  near = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      far.push(chunk)
      done()
    },
    destroy(cause, done) {
      far.push(null)
      done(cause)
    },
  })
  const errors = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      if (chunk.length > 0) errors.push(chunk)
      done()
    },
  })
  // A stream that is torn down while a write is under way tells of it; the conversation has its own error by then.
  for (const stream of [near, far, errors]) stream.on('error', () => {})
  return {
    near,
    output: far,
    errors,
    input: far,
    closed() {
      if (!near.destroyed) near.push(null)
    },
  }
}

function httpOver(stream: Duplex, path: string, asked: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest({
      // The forward is the connection: nothing is dialled.
      createConnection: () => stream,
      method: 'GET',
      path,
      headers: { Host: 'localhost', Connection: 'close', Accept: 'application/json' },
    })
    sent.on('error', cause => reject(new ClusterError('unreachable', asked, reasonOf(cause), cause)))
    sent.on('response', response => {
      collect(response, largestForwarded).then(
        body => {
          const status = response.statusCode ?? 0
          if (status >= 200 && status < 300) resolve(body)
          else if (status === 401 || status === 403) reject(new ClusterError('forbidden', asked, `status ${status}`))
          else reject(new ClusterError('malformed', asked, `status ${status}`))
        },
        cause => reject(new ClusterError('partial', asked, 'the answer broke off', cause)),
      )
    })
    sent.end()
  })
}

let withoutRoots: SecureContext | null = null

/** Without roots of this machine, or OpenSSL would complete the chain by what was not served. One for all: making it takes as long as a handshake does. */
function nothingTrusted(): SecureContext {
  withoutRoots ??= createSecureContext({ ca: [] })
  return withoutRoots
}

function tlsOver(stream: Duplex, serverName: string, asked: string): Promise<ServedTls> {
  return new Promise((resolve, reject) => {
    const secure = tlsConnect({
      socket: stream,
      servername: serverName,
      // What is looked at is what is served; whether it is right is judged later, from the evidence.
      rejectUnauthorized: false,
      secureContext: nothingTrusted(),
      ALPNProtocols: ['h2'],
    })
    const authorities = acceptedAuthorities(stream, secure)
    secure.once('error', cause => {
      // Under TLS 1.2 a server that wants a client certificate ends the handshake after it has served its own chain.
      const chain = servedChain(secure)
      if (chain.length > 0) resolve({ chain, authorities: authorities() })
      else reject(new ClusterError('unreachable', asked, reasonOf(cause), cause))
    })
    // An error takes its stack with it, so none is made of the end of a look that went well.
    let looked = false
    secure.once('close', () => {
      if (!looked) reject(new ClusterError('unreachable', asked, 'the connection closed during the handshake'))
    })
    secure.once('secureConnect', () => {
      const served: ServedTls = { chain: servedChain(secure), authorities: authorities() }
      looked = true
      secure.destroy()
      if (served.chain.length === 0) reject(new ClusterError('malformed', asked, 'no certificate was served'))
      else resolve(served)
    })
  })
}

/**
 * Leaf first; empty before anything was served. Linked by issuer: what was served and links to nothing is left out. `getPeerCertificate` does that too, and
 * tells of every key and name besides, which is a fifth of what a look costs.
 */
function servedChain(secure: TLSSocket): readonly Buffer[] {
  const served: X509Certificate[] = []
  for (let next = secure.getPeerX509Certificate(); next !== undefined; next = next.issuerCertificate) served.push(next)
  const chain: X509Certificate[] = []
  let certificate = served[0]
  while (certificate !== undefined) {
    chain.push(certificate)
    const last: X509Certificate = certificate
    certificate = served.find(other => last.checkIssued(other) && !chain.some(({ raw }) => raw.equals(other.raw)))
  }
  return chain.map(({ raw }) => raw)
}
