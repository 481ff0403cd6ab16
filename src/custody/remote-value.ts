import type { Digest } from '../rotation.ts'

/** A private value in a store outside of Git, as an ExternalSecret refers to it. Public. */
export interface RemoteValue {
  /** Its whole name in the store. A name holds one value only, ever. */
  readonly key: string
  readonly property: string
  /** Of the name's versions the one that counts: what is put under the same name later changes nothing. */
  readonly version: string
  /** SHA-256 of the value; null where that could tell the value: it is not known to be drawn at random. */
  readonly sha256: Digest | null
}

/** A value that the store does not hold yet. Private. */
export interface StoredValue extends RemoteValue {
  readonly value: string
}

const prefix = 'external-secrets:'

/** Stands for the value where one of another manifest is to be taken over: no plaintext begins like this. */
export function remoteReference({ key, property, version, sha256 }: RemoteValue): string {
  return `${prefix}${JSON.stringify({ key, property, version, sha256 })}`
}

export function isRemoteReference(value: string): boolean {
  return value.startsWith(prefix)
}

export function readRemoteReference(reference: string): RemoteValue {
  return JSON.parse(reference.slice(prefix.length)) as RemoteValue
}

/** Name of the file that `plan` writes a value to, so that its owner can put it into the store. */
export function remoteFile({ key }: Pick<RemoteValue, 'key'>): string {
  return key.slice(key.lastIndexOf('/') + 1)
}
