import type { SystemName } from '../../src/rotation.ts'

/** What one of the pure functions said of an input: every reason that it gave, and whether it let the input through. */
export interface Answer {
  readonly passed: boolean
  /** In the function's own order, the gravest or first one first. */
  readonly reasons: readonly string[]
}

/** An unsafe variant of something valid. */
export interface Mutant {
  readonly system: SystemName
  /** What was done to it, such as `plan/early-narrow`. */
  readonly kind: string
  /** What tells it from others of its class, for a person who looks at one that was let through. */
  readonly name: string
  /** Reasons for which it may be refused, derived from what was broken: the answer must give one of them. */
  readonly expected: ReadonlySet<string>
  /** What may be said besides, as it follows from the same break. Nothing unless given. */
  readonly alongside?: RegExp
  answer(): Answer
}

/** A variant that is as safe as what it was made from. */
export interface Harmless extends Omit<Mutant, 'expected' | 'alongside'> {}

export interface Failure {
  readonly mutant: string
  readonly expected: readonly string[]
  readonly found: readonly string[]
}

/** Null: refused for a reason that was expected. */
export function failureOf(mutant: Mutant): Failure | null {
  const { passed, reasons } = mutant.answer()
  const named = reasons.filter(reason => mutant.expected.has(reason))
  const more = reasons.filter(reason => !mutant.expected.has(reason) && mutant.alongside?.test(reason) !== true)
  if (!passed && named.length > 0 && more.length === 0) return null
  return {
    mutant: `${mutant.system} ${mutant.kind}: ${mutant.name}`,
    expected: [...mutant.expected],
    found: passed ? ['let through'] : named.length === 0 ? reasons : more,
  }
}

/** Null: let through. */
export function refusalOf(harmless: Harmless): Failure | null {
  const { passed, reasons } = harmless.answer()
  if (passed) return null
  return { mutant: `${harmless.system} ${harmless.kind}: ${harmless.name}`, expected: ['let through'], found: reasons }
}
