/** Values by key, of which the `limit` that were used last are kept: for what is a pure function of its key and slow to make. */
export class Remembered<T> {
  readonly #limit: number
  readonly #kept = new Map<string, T>()

  constructor(limit: number) {
    this.#limit = limit
  }

  /** What `make` throws is not kept: it may tell where the key was found. */
  get(key: string, make: () => T): T {
    const value = this.peek(key) ?? make()
    this.set(key, value)
    return value
  }

  peek(key: string): T | undefined {
    return this.#kept.get(key)
  }

  set(key: string, value: T): void {
    this.#kept.delete(key)
    this.#kept.set(key, value)
    if (this.#kept.size > this.#limit) this.#kept.delete(this.#kept.keys().next().value as string)
  }
}
