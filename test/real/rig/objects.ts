import { readFile } from 'node:fs/promises'
import { KubeConfig, KubernetesObjectApi, type KubernetesObject as Named, PatchStrategy } from '@kubernetes/client-node'
import { parseAllDocuments } from 'yaml'

/** A Kubernetes object, as loosely as the rig needs it. */
export interface Manifest {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly [field: string]: unknown
  }
  readonly [field: string]: unknown
}

/** `data` of a Secret, as whoever creates one with a client sends it: of `stringData` the API server notes no owner of a key. */
export function secretData(texts: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(texts).map(([key, text]) => [key, Buffer.from(text).toString('base64')]))
}

/** Where an object stands. */
export interface Place {
  readonly apiVersion: string
  readonly kind: string
  readonly namespace?: string
  readonly name: string
}

/** The rig's administrator at one API server: what makes and changes the world that reanchor then only reads. */
export interface Objects {
  /** Server-side apply, as field manager `rig` unless named otherwise; takes over fields of others. */
  apply(manifest: Manifest, manager?: string): Promise<Manifest>
  /** Applies every document of a YAML text, or of a file. */
  applyYaml(text: string, manager?: string): Promise<void>
  applyFile(file: string, manager?: string): Promise<void>
  /** Null where it does not exist. */
  get(place: Place): Promise<Manifest | null>
  list(
    apiVersion: string,
    kind: string,
    options?: { namespace?: string; labels?: string; fields?: string },
  ): Promise<readonly Manifest[]>
  /** JSON merge patch. */
  merge(place: Place, change: unknown): Promise<void>
  /** JSON merge patch of the status subresource. */
  mergeStatus(place: Place, change: unknown): Promise<void>
  /** True where it existed. */
  delete(place: Place, graceSeconds?: number): Promise<boolean>
  /** POST to a subresource, such as `token` of a ServiceAccount. Path from the server's root. */
  post(path: string, body: unknown): Promise<unknown>
}

export async function openObjects(kubeconfig: string): Promise<Objects> {
  const config = new KubeConfig()
  config.loadFromFile(kubeconfig)
  const api = KubernetesObjectApi.makeApiClient(config)
  const { request } = await import('node:https')
  const at = ({ apiVersion, kind, name, namespace }: Place): Named & { metadata: { name: string } } => ({
    apiVersion,
    kind,
    metadata: { name, ...(namespace === undefined ? {} : { namespace }) },
  })

  async function raw(method: string, path: string, body: unknown, type: string): Promise<unknown> {
    const options: import('node:https').RequestOptions = { method, headers: {} }
    await config.applyToHTTPSOptions(options)
    const url = new URL(`${config.getCurrentCluster()?.server ?? ''}${path}`)
    const sent = body === undefined ? '' : JSON.stringify(body)
    return await new Promise((resolve, reject) => {
      const asked = request(
        url,
        {
          ...options,
          headers: { ...options.headers, 'Content-Type': type, 'Content-Length': Buffer.byteLength(sent) },
        },
        response => {
          const chunks: Buffer[] = []
          response.on('data', (chunk: Buffer) => chunks.push(chunk))
          response.on('error', reject)
          response.on('end', () => {
            const text = Buffer.concat(chunks).toString('utf8')
            if ((response.statusCode ?? 500) >= 300)
              reject(new Error(`${method} ${path}: ${response.statusCode} ${text}`))
            else resolve(JSON.parse(text))
          })
        },
      )
      asked.on('error', reject)
      asked.end(sent)
    })
  }

  // As JSON of our own: the client's serializer drops what it has no model for, such as `x-kubernetes-*` in a CRD.
  async function apply(manifest: Manifest, manager = 'rig'): Promise<Manifest> {
    const { apiVersion, kind, metadata } = manifest
    const path = await resourcePath({ apiVersion, kind, ...metadata })
    const query = `fieldManager=${encodeURIComponent(manager)}&force=true`
    return (await raw('PATCH', `${path}?${query}`, manifest, 'application/apply-patch+yaml')) as Manifest
  }

  async function applyYaml(text: string, manager?: string): Promise<void> {
    for (const document of parseAllDocuments(text)) {
      const manifest = document.toJS() as Manifest | null
      if (manifest?.kind !== undefined) await apply(manifest, manager)
    }
  }

  return {
    apply,
    applyYaml,
    applyFile: async (file, manager) => await applyYaml(await readFile(file, 'utf8'), manager),
    async get(place) {
      try {
        return (await api.read(at(place))) as unknown as Manifest
      } catch (cause) {
        if (statusOf(cause) === 404) return null
        throw cause
      }
    },
    async list(apiVersion, kind, options = {}) {
      const { namespace, labels, fields } = options
      const found = await api.list(apiVersion, kind, namespace, undefined, undefined, undefined, fields, labels)
      return found.items.map(item => ({ apiVersion, kind, ...item })) as unknown as readonly Manifest[]
    },
    async merge(place, change) {
      const body = { ...at(place), ...(change as object) } as Named
      const metadata = { ...at(place).metadata, ...((change as { metadata?: object }).metadata ?? {}) }
      await api.patch({ ...body, metadata }, undefined, undefined, 'rig', undefined, PatchStrategy.MergePatch)
    },
    async mergeStatus(place, change) {
      const path = await resourcePath(place)
      await raw('PATCH', `${path}/status?fieldManager=rig`, { status: change }, 'application/merge-patch+json')
    },
    async delete(place, graceSeconds) {
      try {
        await api.delete(at(place), undefined, undefined, graceSeconds)
        return true
      } catch (cause) {
        if (statusOf(cause) === 404) return false
        throw cause
      }
    },
    post: (path, body) => raw('POST', path, body, 'application/json'),
  }

  async function resourcePath({ apiVersion, kind, namespace, name }: Place): Promise<string> {
    const root = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`
    const key = `${apiVersion} ${kind}`
    let resource = resources.get(key)
    if (resource === undefined) {
      const answer = (await raw('GET', root, undefined, 'application/json')) as { resources: readonly Resource[] }
      resource = answer.resources.find(served => served.kind === kind && !served.name.includes('/'))
      if (resource === undefined) throw new Error(`${apiVersion} has no ${kind}`)
      resources.set(key, resource)
    }
    const scope = resource.namespaced ? `/namespaces/${namespace ?? 'default'}` : ''
    return `${root}${scope}/${resource.name}/${name}`
  }
}

interface Resource {
  readonly name: string
  readonly kind: string
  readonly namespaced: boolean
}

const resources = new Map<string, Resource>()

function statusOf(cause: unknown): number | undefined {
  const code = (cause as { code?: unknown }).code
  return typeof code === 'number' ? code : undefined
}
