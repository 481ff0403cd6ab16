import { exitCodes, ReanchorError } from '../../errors.ts'
import {
  at,
  isManifest,
  isPlain,
  isYamlPath,
  listAt,
  type ManifestObject,
  parsedFile,
  stringsAt,
  textAt,
} from '../../gitops/manifests.ts'
import type { FileTree } from '../../rotation.ts'
import { caOverrides } from './overrides.ts'
import type { KymaProfile } from './profile.ts'

/** Something in the users' own repository that would undo a rotation behind its back. */
export interface Trap {
  readonly file: string
  /** 1-based. */
  readonly line: number
  readonly kind: 'override' | 'empty' | 'other-writer'
  readonly what: string
  readonly todo: string
}

/**
 * What in the repository writes to the two Secrets beside the rotation: overrides for the setup job, and manifests of those Secrets. The chart of Kyma 1.12
 * renders the gateway's Secret with an empty `cacert`; delivered from Git it makes the gateway refuse everybody (local-kyma#35). A manifest counts as pinned, and
 * is passed over, where its deliverer never writes that key to an object that is there.
 */
export function trapsIn(files: FileTree, profile: KymaProfile, owned: readonly string[]): readonly Trap[] {
  const traps: Trap[] = []
  for (const file of [...files.keys()].filter(isYamlPath).sort()) {
    if (file.startsWith('rotations/') || owned.some(folder => file.startsWith(`${folder}/`))) continue
    for (const { value, line } of parsedFile(files, file)?.documents ?? []) {
      const override = overrideIn(value)
      if (override !== null)
        traps.push({
          file,
          line,
          kind: 'override',
          what: `${override} holds a CA: Kyma's setup job writes it into both Secrets at the next upgrade, and the rotation is undone`,
          todo: 'take both overrides out: with both Secrets complete the job leaves them alone',
        })
      if (isManifest(value)) traps.push(...writerTraps(value, files, profile).map(trap => ({ file, line, ...trap })))
    }
  }
  return traps
}

/** Refuses a repository with such a trap: exit 5, the first one located, all of them named. */
export function refuseTraps(traps: readonly Trap[]): void {
  const [first] = traps
  if (first === undefined) return
  throw new ReanchorError({
    what: "something in this repository writes to Kyma's CA Secrets beside the rotation",
    where: { file: first.file, line: first.line },
    expected: 'no other writer: the connector and the gateway must hold what the plan says',
    found: traps.map(({ file, line, what }) => `${file}:${line}: ${what}`).join('\n'),
    todo: [...new Set(traps.map(({ todo }) => todo))].join('; '),
    exit: exitCodes.refused,
  })
}

/** `global.applicationConnectorCa`, as a nested Helm value or as the dotted key of an override ConfigMap, with something in it. */
function overrideIn(value: unknown): string | null {
  if (Array.isArray(value)) return value.map(overrideIn).find(found => found !== null) ?? null
  if (!isPlain(value)) return null
  for (const name of caOverrides) {
    const dotted = `global.${name}`
    if (isFilled(value[dotted]) || isFilled(at(value, 'global', name))) return dotted
  }
  return (
    Object.values(value)
      .map(overrideIn)
      .find(found => found !== null) ?? null
  )
}

function isFilled(value: unknown): boolean {
  return typeof value === 'string' && value.trim() !== ''
}

function writerTraps(
  object: ManifestObject,
  files: FileTree,
  { signer, gateway }: KymaProfile,
): readonly Pick<Trap, 'kind' | 'what' | 'todo'>[] {
  if (object.kind !== 'Secret' && object.kind !== 'SealedSecret') return []
  const { name, namespace } = object.metadata
  const keys =
    name === gateway.secret && (namespace ?? gateway.namespace) === gateway.namespace
      ? [gateway.key]
      : name === signer.secret && (namespace ?? signer.namespace) === signer.namespace
        ? [signer.certificateKey, signer.privateKey]
        : []
  const found = keys.filter(key => textOfKey(object, key) !== undefined)
  if (found.length === 0 || isPinned(object, files, found)) return []
  const empty = found.filter(key => !isFilled(textOfKey(object, key)))
  const id = `Secret ${namespace ?? ''}/${name}`
  const todo = `take ${found.join(', ')} out of that manifest, or pin it: kustomize.toolkit.fluxcd.io/ssa: IfNotPresent for Flux; ignoreDifferences of /data with RespectIgnoreDifferences=true for Argo CD`
  if (empty.length > 0)
    return [
      {
        kind: 'empty',
        what: `${id} is rendered with an empty ${empty.join(', ')}: whoever delivers it takes all trust away`,
        todo,
      },
    ]
  return [{ kind: 'other-writer', what: `${id} is declared with ${found.join(', ')}`, todo }]
}

function textOfKey(object: ManifestObject, key: string): unknown {
  return (
    at(object, 'data', key) ?? at(object, 'stringData', key) ?? at(object, 'spec', 'encryptedData', key) ?? undefined
  )
}

/** Whether its deliverer leaves the live value alone. */
function isPinned(object: ManifestObject, files: FileTree, keys: readonly string[]): boolean {
  if (object.metadata.annotations?.['kustomize.toolkit.fluxcd.io/ssa'] === 'IfNotPresent') return true
  return [...files.keys()].filter(isYamlPath).some(file =>
    (parsedFile(files, file)?.documents ?? []).some(
      ({ value }) =>
        isManifest(value) &&
        value.kind === 'Application' &&
        stringsAt(value, 'spec', 'syncPolicy', 'syncOptions').includes('RespectIgnoreDifferences=true') &&
        // The manifest's own `data` must not be null, or the ignored difference is not respected (argo-cd#9678).
        isPlain(at(object, 'data')) &&
        listAt(value, 'spec', 'ignoreDifferences').some(
          entry =>
            textAt(entry, 'kind') === 'Secret' &&
            (textAt(entry, 'name') ?? object.metadata.name) === object.metadata.name &&
            keys.every(key =>
              stringsAt(entry, 'jsonPointers').some(pointer => pointer === '/data' || pointer === `/data/${key}`),
            ),
        ),
    ),
  )
}
