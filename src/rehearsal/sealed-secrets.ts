import { createPrivateKey, type KeyObject } from 'node:crypto'
import { stringify } from 'yaml'
import { unseal } from '../custody/sealed-secrets.ts'
import { type Manifest, recordAt, type StoredObject, textAt } from './objects.ts'
import type { Site } from './site.ts'

/** Name of the controller's binary, and so its field manager. */
const controller = 'controller'
const group = 'bitnami.com'
const annotation = (name: string): string => `sealedsecrets.bitnami.com/${name}`

/**
 * The Sealed Secrets controller: makes the Secret that a SealedSecret stands for, and updates it in place where it is allowed to
 * (bitnami-labs/sealed-secrets v0.36.6, pkg/controller/controller.go, unseal).
 */
export class SealedSecrets {
  readonly #site: Site
  readonly #key: KeyObject

  constructor(site: Site, privateKeyPem: string) {
    this.#site = site
    this.#key = createPrivateKey(privateKeyPem)
    site.store.onChange(change => {
      const { object, before, what } = change
      if (object.kind !== 'SealedSecret') return
      if (what === 'deleted') this.#collect(object)
      else if (what !== 'status' && before?.metadata.generation !== object.metadata.generation) this.#soon(object)
    })
  }

  #soon(sealed: StoredObject): void {
    const { namespace = '', name } = sealed.metadata
    const lag = this.#site.random.fork(`unseal/${namespace}/${name}/${this.#site.clock.elapsed()}`).between(200, 2_000)
    this.#site.clock.after(lag, () => {
      const live = this.#site.store.get(group, 'SealedSecret', namespace, name)
      if (live !== null) this.#unseal(live)
    })
  }

  #unseal(sealed: StoredObject): void {
    const { namespace = '', name } = sealed.metadata
    let opened: Manifest
    try {
      const { status: _status, ...manifest } = sealed
      opened = { ...unseal(stringify(manifest), this.#key) } as unknown as Manifest
    } catch (error) {
      const message = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)
      this.#site.log(`SealedSecret ${namespace}/${name}`, message)
      this.#report(sealed, `no key could decrypt secret (${message})`)
      return
    }
    const owns = opened.metadata.annotations?.[annotation('skip-set-owner-references')] !== 'true'
    if (owns) opened.metadata.ownerReferences = [ownerReference(sealed)]
    const existing = this.#site.store.get('', 'Secret', namespace, name)
    const holds = (which: string): boolean => existing?.metadata.annotations?.[annotation(which)] === 'true'
    const isOwner = existing?.metadata.ownerReferences?.some(
      ({ uid, controller: is }) => is && uid === sealed.metadata.uid,
    )
    if (existing !== null && isOwner !== true && !holds('managed') && !holds('patch')) {
      const refused = `Resource "${name}" already exists and is not managed by SealedSecret`
      this.#site.log(`SealedSecret ${namespace}/${name}`, refused)
      this.#report(sealed, refused)
      return
    }
    if (existing !== null && textAt(existing, 'type') !== textAt(opened, 'type')) {
      this.#report(sealed, `Secret "${name}" is invalid: type: field is immutable`)
      return
    }
    // With `patch` the keys that the Secret has besides stay.
    if (holds('patch')) opened.data = { ...recordAt(existing, 'data'), ...recordAt(opened, 'data') }
    this.#site.store.put(opened, controller)
    this.#report(sealed, null)
  }

  /** A Secret that its SealedSecret owns goes with it. */
  #collect(sealed: StoredObject): void {
    const secret = this.#site.store.get('', 'Secret', sealed.metadata.namespace ?? '', sealed.metadata.name)
    const owned = secret?.metadata.ownerReferences?.some(({ uid }) => uid === sealed.metadata.uid)
    if (secret !== null && owned === true) this.#site.store.delete(secret)
  }

  #report(sealed: StoredObject, problem: string | null): void {
    this.#site.store.setStatus(sealed, controller, {
      observedGeneration: sealed.metadata.generation,
      conditions: [
        {
          type: 'Synced',
          status: problem === null ? 'True' : 'False',
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
