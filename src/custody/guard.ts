import type { PlainSecret } from './custody.ts'
import { assertNoPrivateKey } from './leak.ts'

/**
 * The last look at a manifest before custody gives it out: no private value stands in it, plain or as base64, and no public value holds
 * a private key. Remembers what it has looked into, since phases repeat their public values. Throws an internal error.
 * `isSealed` tells values that an earlier plan sealed, which must stand in the manifest.
 */
export function createGuard(
  isSealed: (value: string) => boolean,
): (text: string, secret: PlainSecret, destination: string) => void {
  const clean = new Set<string>()
  return (text, secret, destination) => {
    for (const key of secret.privateKeys) {
      const value = secret.data[key] ?? ''
      // Shorter values occur by chance.
      if (value.length < 8 || isSealed(value)) continue
      if (!text.includes(value) && !text.includes(Buffer.from(value).toString('base64'))) continue
      throw new Error(`the value of ${key} would stand in ${destination} in the clear; nothing was written`)
    }
    const shown = Object.entries(secret.data).filter(([key]) => !secret.privateKeys.includes(key))
    for (const [key, value] of [
      ...shown,
      ['labels', JSON.stringify(secret.labels)],
      ['annotations', JSON.stringify(secret.annotations)],
    ]) {
      if (value === undefined || clean.has(value)) continue
      assertNoPrivateKey(value, `${destination} (${key})`)
      clean.add(value)
    }
  }
}
