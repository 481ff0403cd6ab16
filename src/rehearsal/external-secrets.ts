import { createHash } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { renderedTemplate } from '../custody/go-template.ts'
import { listAt, type Manifest, recordAt, type StoredObject, textAt, textsAt } from './objects.ts'
import type { Site } from './site.ts'

const controller = 'external-secrets'
const group = 'external-secrets.io'
/** Marks of the controller on every Secret that it writes (external-secrets cc5bfbc, externalsecret_controller.go, mutationFunc). */
const managedLabel = 'reconcile.external-secrets.io/managed'
const hashAnnotation = 'reconcile.external-secrets.io/data-hash'
/** Its ExternalSecrets are looked at again this often; after a failure sooner, and twice as late each time. */
const refresh = 3_600_000
const [firstRetry, lastRetry] = [1_000, 5 * 60_000] as const

/** A store as Vault's KV engine, version 2, is one: putting a value under a name again makes a new version. It stands outside of all clusters. */
export class RemoteStore {
  readonly #versions = new Map<string, Readonly<Record<string, string>>[]>()

  put(key: string, properties: Readonly<Record<string, string>>): void {
    this.#versions.set(key, [...(this.#versions.get(key) ?? []), properties])
  }

  /** Null where there is no such version, or it has no such property. */
  read(key: string, version: string, property: string): string | null {
    return this.#versions.get(key)?.[Number(version) - 1]?.[property] ?? null
  }
}

/**
 * External Secrets, as far as ExternalSecrets go that reanchor writes: it fetches, renders and writes the Secret whole, without becoming its
 * owner. It looks when the object changes, and every hour: not when somebody edits or deletes the Secret (creationPolicy Orphan, isSecretValid).
 * A failure leaves the Secret as it was, and the version that was synced last in the status.
 */
export class ExternalSecrets {
  readonly #site: Site
  readonly #remote: RemoteStore

  constructor(site: Site, remote: RemoteStore) {
    this.#site = site
    this.#remote = remote
    site.store.onChange(({ object, before, what }) => {
      if (object.kind !== 'ExternalSecret' || what === 'deleted' || what === 'status') return
      if (what === 'created' || !isDeepStrictEqual(watched(before), watched(object))) this.#soon(object)
    })
  }

  #soon(external: StoredObject): void {
    const { namespace = '', name } = external.metadata
    const lag = this.#site.random
      .fork(`external/${namespace}/${name}/${this.#site.clock.elapsed()}`)
      .between(100, 1_000)
    this.#later(external, lag, firstRetry)
  }

  #later(external: StoredObject, delay: number, retry: number): void {
    const { uid } = external.metadata
    this.#site.clock.after(delay, () => {
      const live = this.#site.store.get(
        group,
        'ExternalSecret',
        external.metadata.namespace ?? '',
        external.metadata.name,
      )
      // Another change has come in between, which has a turn of its own.
      if (live === null || live.metadata.uid !== uid || versionOf(live) !== versionOf(external)) return
      const problem = this.#sync(live)
      this.#report(live, problem)
      if (problem === null) this.#later(live, refresh, firstRetry)
      else this.#later(live, retry, Math.min(retry * 2, lastRetry))
    })
  }

  /** What went wrong, as the condition says it; null where the Secret is as declared. */
  #sync(external: StoredObject): string | null {
    const { namespace = '', name } = external.metadata
    const values: Record<string, string> = {}
    for (const item of listAt(external, 'spec', 'data')) {
      const [key, version, property] = ['key', 'version', 'property'].map(
        field => textAt(item, 'remoteRef', field) ?? '',
      )
      const value = this.#remote.read(key ?? '', version ?? '', property ?? '')
      if (value === null) return 'could not get secret data from provider'
      values[textAt(item, 'secretKey') ?? ''] = value
    }
    const template = recordAt(external, 'spec', 'target', 'template')
    const rendered = (...path: readonly string[]): Record<string, string> =>
      Object.fromEntries(Object.entries(textsAt(template, ...path)).map(([key, text]) => [key, render(text, values)]))
    let secret: Manifest
    try {
      const data = Object.entries(rendered('data')).map(([key, value]) => [key, Buffer.from(value).toString('base64')])
      const hash = createHash('sha256').update(JSON.stringify(data)).digest('hex')
      secret = {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: {
          name: textAt(external, 'spec', 'target', 'name') ?? name,
          namespace,
          labels: { ...rendered('metadata', 'labels'), [managedLabel]: 'true' },
          annotations: { ...rendered('metadata', 'annotations'), [hashAnnotation]: hash },
        },
        type: textAt(template, 'type') ?? 'Opaque',
        data: Object.fromEntries(data),
      }
    } catch {
      // The text of a template that fails is its author's; nothing of a value is in it, and the condition has none of it either.
      return 'could not update secret'
    }
    this.#site.store.put(secret, `externalsecrets.external-secrets.io/${name}`)
    return null
  }

  #report(external: StoredObject, problem: string | null): void {
    const { namespace = '', name } = external.metadata
    if (problem !== null) this.#site.log(`ExternalSecret ${namespace}/${name}`, problem)
    const live = this.#site.store.get(group, 'ExternalSecret', namespace, name)
    if (live === null) return
    const status = problem === null ? 'True' : 'False'
    const said = listAt(live, 'status', 'conditions').find(entry => textAt(entry, 'type') === 'Ready')
    const since = textAt(said, 'status') === status ? textAt(said, 'lastTransitionTime') : this.#site.clock.instant()
    this.#site.store.setStatus(live, controller, {
      ...recordAt(live, 'status'),
      ...(problem === null ? { refreshTime: this.#site.clock.instant(), syncedResourceVersion: versionOf(live) } : {}),
      conditions: [
        {
          type: 'Ready',
          status,
          reason: problem === null ? 'SecretSynced' : 'SecretSyncedError',
          message: problem ?? 'secret synced',
          lastTransitionTime: since,
        },
      ],
    })
  }
}

function watched(object: StoredObject | null | undefined): unknown {
  return object == null ? null : [object.spec, object.metadata.labels, object.metadata.annotations]
}

/** As it stands in status.syncedResourceVersion: the generation, and a hash of labels and annotations. */
function versionOf({ metadata }: StoredObject): string {
  const marks = JSON.stringify([metadata.annotations ?? {}, metadata.labels ?? {}])
  return `${metadata.generation}-${createHash('sha256').update(marks).digest('hex').slice(0, 32)}`
}

// Of Go's templates what custody writes: a value, its digest, and a value that must have a given digest.
const value = /\{\{ index \. ("(?:[^"\\]|\\.)*") \}\}/g
const digest = /\{\{ index \. ("(?:[^"\\]|\\.)*") \| sha256sum \}\}/g
const checked =
  /^\{\{ if eq \(index \. ("(?:[^"\\]|\\.)*") \| sha256sum\) "([0-9a-f]{64})" \}\}(\{\{ index \. "(?:[^"\\]|\\.)*" \}\})\{\{ else \}\}\{\{ fail "[^"]*" \}\}\{\{ end \}\}$/

function render(text: string, values: Readonly<Record<string, string>>): string {
  const literal = renderedTemplate(text)
  if (literal !== null) return literal
  const of = (quoted: string | undefined): string => {
    const found = values[JSON.parse(quoted ?? '""') as string]
    if (found === undefined) throw new Error('a template asks for a value that was not fetched')
    return found
  }
  const guarded = checked.exec(text)
  if (guarded !== null) {
    if (sha256(of(guarded[1])) !== guarded[2]) throw new Error('the template calls fail')
    return render(guarded[3] ?? '', values)
  }
  const rest = text.replaceAll(digest, '').replaceAll(value, '')
  if (rest.includes('{{')) throw new Error('the rehearsal knows no such template')
  return text
    .replaceAll(digest, (_, quoted: string) => sha256(of(quoted)))
    .replaceAll(value, (_, quoted: string) => of(quoted))
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
