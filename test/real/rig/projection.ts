import { chmod, chown, mkdir, readdir, readlink, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import {
  contentsOf,
  type FileItem,
  fieldOf,
  type KnownObjects,
  type PodObject,
  type Projected,
  resourceOf,
  type VolumeSource,
  type VolumeSpec,
} from './pod-object.ts'

/** Gives the token of a pod's ServiceAccount, and when to ask for the next (milliseconds). */
export type TokenSource = (audience: string | undefined, seconds: number) => Promise<{ token: string; renewAt: number }>

/** The volumes of one pod, as folders of this machine that its containers mount. */
export interface Volumes {
  /** Brings every volume up to date. Throws, with the kubelet's words, while an object that is not optional is missing. */
  project(pod: PodObject): Promise<void>
  folder(volume: string): string
}

interface File {
  readonly bytes: Buffer
  readonly mode: number
}

type Files = Map<string, File>

export function openVolumes(folder: string, address: string, known: KnownObjects, tokenOf: TokenSource): Volumes {
  const shown = new Map<string, Files>()
  const tokens = new Map<string, { token: string; renewAt: number }>()
  const place = (volume: string): string => join(folder, volume)

  async function token(audience: string | undefined, seconds: number): Promise<string> {
    const key = `${audience ?? ''} ${seconds}`
    const held = tokens.get(key)
    if (held !== undefined && Date.now() < held.renewAt) return held.token
    try {
      const fresh = await tokenOf(audience, seconds)
      tokens.set(key, fresh)
      return fresh.token
    } catch (cause) {
      // As the kubelet: a token that has not expired serves on while the API server is away.
      if (held === undefined) throw cause
      return held.token
    }
  }

  async function add(files: Files, pod: PodObject, source: VolumeSource, defaultMode: number): Promise<void> {
    const { namespace } = pod.metadata
    const { secret, configMap, downwardAPI, serviceAccountToken } = source
    if (secret !== undefined) {
      const name = secret.secretName ?? secret.name ?? ''
      const object = known.secret(namespace, name)
      addContents(files, secret, `secret "${name}"`, object && contentsOf('Secret', object), defaultMode)
    }
    if (configMap !== undefined) {
      const name = configMap.name ?? ''
      const object = known.configMap(namespace, name)
      addContents(files, configMap, `configmap "${name}"`, object && contentsOf('ConfigMap', object), defaultMode)
    }
    for (const { path, mode, fieldRef, resourceFieldRef } of downwardAPI?.items ?? []) {
      let text = fieldRef === undefined ? '' : fieldOf(pod, address, fieldRef)
      if (resourceFieldRef !== undefined) text = resourceOf(pod, undefined, resourceFieldRef)
      files.set(path, { bytes: Buffer.from(text), mode: mode ?? defaultMode })
    }
    if (serviceAccountToken !== undefined) {
      const { audience, expirationSeconds = 3600, path } = serviceAccountToken
      // The kubelet gives the file to the container's user; here every user of the pod may read it.
      files.set(path, { bytes: Buffer.from(await token(audience, expirationSeconds)), mode: 0o644 })
    }
  }

  async function filesOf(pod: PodObject, volume: VolumeSpec): Promise<Files | null> {
    const files: Files = new Map()
    const sources = volume.projected?.sources ?? [volume]
    const given = volume.projected ?? volume.secret ?? volume.configMap ?? volume.downwardAPI
    if (given === undefined) return null
    for (const source of sources) await add(files, pod, source, given.defaultMode ?? 0o644)
    return files
  }

  return {
    folder: place,
    async project(pod) {
      for (const volume of pod.spec.volumes ?? []) {
        const { name } = volume
        const files = await filesOf(pod, volume)
        const before = shown.get(name)
        if (files === null) {
          if (before !== undefined) continue
          await mkdir(place(name), { recursive: true })
          // Whoever the containers run as.
          await chmod(place(name), 0o777)
          shown.set(name, new Map())
          continue
        }
        if (before !== undefined && equal(before, files)) continue
        await write(place(name), files, pod.spec.securityContext?.fsGroup ?? null)
        shown.set(name, files)
      }
    },
  }
}

function addContents(
  files: Files,
  { items, optional = false }: Projected,
  what: string,
  contents: ReadonlyMap<string, Buffer> | undefined,
  defaultMode: number,
): void {
  if (contents === undefined) {
    if (optional) return
    throw new Error(`${what} not found`)
  }
  const all: readonly FileItem[] = [...contents.keys()].map(key => ({ key, path: key }))
  for (const { key, path, mode } of items ?? all) {
    const bytes = contents.get(key)
    if (bytes !== undefined) files.set(path, { bytes, mode: mode ?? defaultMode })
    else if (!optional) throw new Error(`${what} references non-existent key: ${key}`)
  }
}

function equal(one: Files, other: Files): boolean {
  if (one.size !== other.size) return false
  for (const [path, { bytes, mode }] of one) {
    const file = other.get(path)
    if (file === undefined || file.mode !== mode || !file.bytes.equals(bytes)) return false
  }
  return true
}

let versions = 0

/**
 * As the kubelet's atomic writer (k8s.io/kubernetes pkg/volume/util/atomic_writer.go): a new folder, then `..data` moves to it in one rename,
 * so that a reader sees all files of one version or all of the next. What programs watch for is that rename.
 */
async function write(folder: string, files: Files, group: number | null): Promise<void> {
  await mkdir(folder, { recursive: true })
  const version = `..${new Date().toISOString().replace(/\D/g, '_')}${versions++}`
  await mkdir(join(folder, version))
  for (const [path, { bytes, mode }] of files) {
    const file = join(folder, version, path)
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, bytes)
    await chmod(file, mode)
    if (group !== null) await chown(file, -1, group)
  }
  const data = join(folder, '..data')
  const before = await readlink(data).catch(() => null)
  const namesBefore = before === null ? [] : await readdir(join(folder, before))
  await symlink(version, `${data}_tmp`)
  await rename(`${data}_tmp`, data)
  const namesNow = new Set([...files.keys()].map(path => path.split('/')[0] ?? path))
  for (const name of namesNow) {
    await symlink(join('..data', name), join(folder, name)).catch(ignoreExisting)
  }
  for (const name of namesBefore) if (!namesNow.has(name)) await rm(join(folder, name), { force: true })
  if (before !== null) await rm(join(folder, before), { recursive: true, force: true })
}

function ignoreExisting(cause: unknown): void {
  if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause
}
