import { createPrivateKey, type KeyObject } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { stringify } from 'yaml'
import { unseal } from '../custody/sealed-secrets.ts'
import { listAt, type Manifest, numberAt, recordAt, type StoredObject, textAt } from './objects.ts'
import type { Site } from './site.ts'

/** Name of the controller's binary, and so its field manager. */
const controller = 'controller'
const group = 'bitnami.com'
const annotation = (name: string): string => `sealedsecrets.bitnami.com/${name}`

/** It tries again this often, first after 5 ms, and twice as long each time; then it gives up. */
const retries = 5

/**
 * The Sealed Secrets controller: makes the Secret that a SealedSecret stands for, and updates it in place where it is allowed to. It looks
 * again when the specification changes, when a Secret of its own is deleted, and when it starts; at nothing else, so an edit of the Secret stays
 * (bitnami-labs/sealed-secrets v0.36.6, pkg/controller/controller.go, unseal, watchSecrets).
 */
export class SealedSecrets {
  readonly #site: Site
  readonly #key: KeyObject

  constructor(site: Site, privateKeyPem: string) {
    this.#site = site
    this.#key = createPrivateKey(privateKeyPem)
    site.store.onChange(change => {
      const { object, before, what } = change
      if (object.kind === 'Secret' && what === 'deleted') this.#restore(object)
      if (object.kind !== 'SealedSecret') return
      if (what === 'deleted') this.#collect(object)
      else if (what === 'created' || !isDeepStrictEqual(before?.spec, object.spec)) this.#soon(object)
    })
  }

  /** What it does when its pod starts anew: it looks at everything. */
  restart(): void {
    for (const sealed of this.#site.store.list(group, 'SealedSecret')) this.#soon(sealed)
  }

  #soon(sealed: StoredObject): void {
    const { namespace = '', name } = sealed.metadata
    const lag = this.#site.random.fork(`unseal/${namespace}/${name}/${this.#site.clock.elapsed()}`).between(200, 2_000)
    this.#try(sealed, lag, 0)
  }

  #try(sealed: StoredObject, delay: number, failed: number): void {
    const { namespace = '', name } = sealed.metadata
    this.#site.clock.after(delay, () => {
      const live = this.#site.store.get(group, 'SealedSecret', namespace, name)
      if (live === null || this.#unseal(live) || failed >= retries) return
      this.#try(live, 5 * 2 ** failed, failed + 1)
    })
  }

  /** False where it failed and may be tried again. */
  #unseal(sealed: StoredObject): boolean {
    const { namespace = '', name } = sealed.metadata
    let opened: Manifest
    try {
      const { status: _status, ...manifest } = sealed
      opened = { ...unseal(stringify(manifest), this.#key) } as unknown as Manifest
    } catch (error) {
      const message = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)
      this.#report(sealed, `no key could decrypt secret (${message})`)
      return false
    }
    const owns = opened.metadata.annotations?.[annotation('skip-set-owner-references')] !== 'true'
    if (owns) opened.metadata.ownerReferences = [ownerReference(sealed)]
    const existing = this.#site.store.get('', 'Secret', namespace, name)
    const holds = (which: string): boolean => existing?.metadata.annotations?.[annotation(which)] === 'true'
    const isOwner = existing?.metadata.ownerReferences?.some(
      ({ uid, controller: is }) => is && uid === sealed.metadata.uid,
    )
    if (existing !== null && isOwner !== true && !holds('managed') && !holds('patch')) {
      this.#report(sealed, `failed update: Resource "${name}" already exists and is not managed by SealedSecret`)
      return false
    }
    if (existing !== null && textAt(existing, 'type') !== textAt(opened, 'type')) {
      this.#report(sealed, `Secret "${name}" is invalid: type: field is immutable`)
      return true
    }
    // With `patch` the keys that the Secret has besides stay.
    if (holds('patch')) opened.data = { ...recordAt(existing, 'data'), ...recordAt(opened, 'data') }
    this.#site.store.put(opened, controller)
    this.#report(sealed, null)
    return true
  }

  #restore(secret: StoredObject): void {
    const sealed = this.#site.store.get(group, 'SealedSecret', secret.metadata.namespace ?? '', secret.metadata.name)
    if (sealed === null) return
    const owned = secret.metadata.ownerReferences?.some(({ uid, controller: is }) => is && uid === sealed.metadata.uid)
    if (owned === true || secret.metadata.annotations?.[annotation('managed')] === 'true') this.#soon(sealed)
  }

  /** A Secret that its SealedSecret owns goes with it. */
  #collect(sealed: StoredObject): void {
    const secret = this.#site.store.get('', 'Secret', sealed.metadata.namespace ?? '', sealed.metadata.name)
    const owned = secret?.metadata.ownerReferences?.some(({ uid }) => uid === sealed.metadata.uid)
    if (secret !== null && owned === true) this.#site.store.delete(secret)
  }

  /** Writes only what is new: another status, or another generation. A message alone is not. */
  #report(sealed: StoredObject, problem: string | null): void {
    const { namespace = '', name, generation } = sealed.metadata
    const status = problem === null ? 'True' : 'False'
    const said = listAt(sealed, 'status', 'conditions').find(entry => textAt(entry, 'type') === 'Synced')
    if (textAt(said, 'status') === status && numberAt(sealed, 'status', 'observedGeneration') === generation) return
    if (problem !== null) this.#site.log(`SealedSecret ${namespace}/${name}`, problem)
    this.#site.store.setStatus(sealed, controller, {
      observedGeneration: generation,
      conditions: [
        {
          type: 'Synced',
          status,
          ...(problem === null ? {} : { message: problem }),
          lastUpdateTime: this.#site.clock.instant(),
        },
      ],
    })
  }
}

function ownerReference(sealed: StoredObject) {
  return {
    apiVersion: sealed.apiVersion,
    kind: sealed.kind,
    name: sealed.metadata.name,
    uid: sealed.metadata.uid,
    controller: true,
  }
}
