import { createSign } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseAllDocuments } from 'yaml'
import type { ControlPlane } from './control-plane.ts'
import type { Manifest } from './objects.ts'
import type { FleetRepository } from './repository.ts'

/** All that a command may not change while it waits: every ref of the shared repository, and the user's clone as its user left it. */
export async function stateOf(repository: FleetRepository): Promise<string> {
  const refs = await repository.git('ls-remote', 'origin')
  const head = await repository.git('rev-parse', '--symbolic-full-name', 'HEAD', 'HEAD~0')
  const dirty = await repository.git('status', '--porcelain')
  return `${refs}\n${head}\n${dirty}`
}

// --------------------------------------------------------------------------------------------- rights

/** A right, as a rule of roles/ grants it: all rules for this resource, or those for these names of it. */
export interface Right {
  readonly resource: string
  readonly name?: string
}

interface Rule {
  readonly resources: readonly string[]
  readonly resourceNames?: readonly string[]
}

/** kubeconfig of a ServiceAccount with all rights of the verifier but one. */
export async function verifierWithout(plane: ControlPlane, account: string, missing: Right): Promise<string> {
  let left = 0
  const rules = (all: readonly Rule[]): readonly Rule[] =>
    all.filter(rule => {
      const named = missing.name === undefined || rule.resourceNames?.includes(missing.name) === true
      const kept = !(rule.resources.includes(missing.resource) && named)
      if (!kept) left += 1
      return kept
    })
  for (const file of ['roles/istio.yaml', 'roles/istio-portforward.yaml']) {
    // Names of their own, so that the verifier that has all of it goes on beside this one.
    const text = (await readFile(file, 'utf8')).replaceAll('reanchor-verifier', account)
    for (const document of parseAllDocuments(text)) {
      const manifest = document.toJS() as Manifest & { readonly rules?: readonly Rule[] }
      await plane.objects.apply(
        manifest.rules === undefined ? manifest : ({ ...manifest, rules: rules(manifest.rules) } as Manifest),
      )
    }
  }
  if (left === 0) throw new Error(`no rule of roles/ grants ${missing.resource} ${missing.name ?? ''}`)
  return await plane.kubeconfigOf('reanchor', account)
}

interface Kubeconfig {
  readonly clusters: readonly { readonly name: string; readonly cluster: Readonly<Record<string, string>> }[]
  readonly users: readonly { readonly name: string; readonly user: Readonly<Record<string, string>> }[]
}

/** A kubeconfig like another, with another way to the cluster or another user. */
export async function kubeconfigLike(
  plane: ControlPlane,
  model: string,
  name: string,
  change: {
    readonly cluster?: Readonly<Record<string, string>>
    readonly user?: (user: Readonly<Record<string, string>>) => Readonly<Record<string, string>>
  },
): Promise<string> {
  const config = JSON.parse(await readFile(model, 'utf8')) as Kubeconfig
  const changed = {
    ...config,
    clusters: config.clusters.map(each => ({ ...each, cluster: { ...each.cluster, ...change.cluster } })),
    users: config.users.map(each => ({
      ...each,
      user: change.user === undefined ? each.user : change.user(each.user),
    })),
  }
  const file = join(plane.folder, `kubeconfig-${name}`)
  await writeFile(file, JSON.stringify(changed), { mode: 0o600 })
  return file
}

/** The same ServiceAccount with a token that the cluster itself signed and that ended an hour ago. */
export async function expiredToken(plane: ControlPlane, kubeconfig: string): Promise<string> {
  const key = await readFile(join(plane.folder, 'pki', 'sa.key'))
  return await kubeconfigLike(plane, kubeconfig, 'expired', {
    user({ token = '' }) {
      const [header = '', payload = ''] = token.split('.')
      const claims = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8')) as Record<string, number>
      const ended = Math.floor(Date.now() / 1000) - 3600
      const past = { ...claims, iat: ended - 3600, nbf: ended - 3600, exp: ended }
      const signed = `${header}.${Buffer.from(JSON.stringify(past)).toString('base64url')}`
      const signature = createSign('RSA-SHA256').update(signed).sign(key).toString('base64url')
      return { token: `${signed}.${signature}` }
    },
  })
}

/** A token that no cluster gave. */
export async function foreignToken(plane: ControlPlane, kubeconfig: string): Promise<string> {
  return await kubeconfigLike(plane, kubeconfig, 'foreign', { user: () => ({ token: 'bm9ib2R5.Z2F2ZQ.dGhpcw' }) })
}

// ------------------------------------------------------------------------------------------------ pods

interface PodObject extends Manifest {
  readonly status?: {
    readonly containerStatuses?: readonly { name: string; restartCount: number; ready: boolean }[]
  }
}

/** What the API server knows of a container. */
export async function containerOf(
  plane: ControlPlane,
  pod: { readonly namespace: string; readonly name: string },
  container: string,
): Promise<{ readonly restartCount: number; readonly ready: boolean }> {
  const { namespace, name } = pod
  const object = (await plane.objects.get({ apiVersion: 'v1', kind: 'Pod', namespace, name })) as PodObject | null
  const found = object?.status?.containerStatuses?.find(each => each.name === container)
  if (found === undefined) throw new Error(`${namespace}/${name} has no ${container}`)
  return found
}

// ---------------------------------------------------------------------------------- in the middle of it

/** A way to the API server on which a test acts in the middle of what a command asks. */
export interface Wire {
  readonly kubeconfig: string
  /** Does something when so many connections were made from now on; the one that is the last waits until it is done. */
  at(connection: number, act: () => Promise<void>): void
  /** Whether what `at` said was done. */
  acted(): boolean
  stop(): Promise<void>
}

export async function wireTo(plane: ControlPlane, kubeconfig: string): Promise<Wire> {
  const sockets = new Set<Socket>()
  let count = 0
  let due: { readonly connection: number; readonly act: () => Promise<void> } | null = null
  let done = false

  async function carry(near: Socket): Promise<void> {
    near.on('error', () => {})
    sockets.add(near)
    near.once('close', () => sockets.delete(near))
    count += 1
    if (due !== null && count === due.connection) {
      const { act } = due
      due = null
      await act()
      done = true
    }
    const far = connect({ host: plane.network.address, port: plane.apiPort })
    sockets.add(far)
    far.once('close', () => sockets.delete(far))
    far.on('error', () => near.destroy())
    near.once('close', () => far.destroy())
    near.pipe(far).pipe(near)
  }

  const server = createServer({ noDelay: true }, near => void carry(near))
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const bound = server.address()
  const port = typeof bound === 'object' && bound !== null ? bound.port : 0
  return {
    kubeconfig: await kubeconfigLike(plane, kubeconfig, 'wire', { cluster: { server: `https://127.0.0.1:${port}` } }),
    at(connection, act) {
      count = 0
      done = false
      due = { connection, act }
    },
    acted: () => done,
    async stop() {
      for (const socket of sockets) socket.destroy()
      await new Promise<void>(resolve => server.close(() => resolve()))
    },
  }
}

// ---------------------------------------------------------------------------------------------- clocks

/** Environment of a machine whose clock is wrong by so many milliseconds. What the cluster and Git say of time stays right. */
export async function clockOff(folder: string, milliseconds: number): Promise<Readonly<Record<string, string>>> {
  const file = join(folder, `clock${milliseconds}.mjs`)
  await writeFile(
    file,
    `const off = ${milliseconds}
const Right = Date
globalThis.Date = class extends Right {
  constructor(...given) {
    if (given.length === 0) super(Right.now() + off)
    else super(...given)
  }
  static now() {
    return Right.now() + off
  }
}
`,
  )
  return { NODE_OPTIONS: `--import ${pathToFileURL(file)}` }
}

/** Moments within so many milliseconds, at random within equal parts, so that none of the parts is left out. */
export function moments(count: number, from: number, to: number): readonly number[] {
  const part = (to - from) / count
  return Array.from({ length: count }, (_, index) => Math.round(from + part * (index + Math.random())))
}
