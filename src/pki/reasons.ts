/**
 * Why a path is refused; docs/path-reasons.md says what each means. The order is from what is wrong with one certificate
 * to what is wrong with a whole path.
 */
export const pathReasons = [
  'input',
  'malformed',
  'version',
  'not-yet-valid',
  'expired',
  'unknown-critical-extension',
  'weak-key',
  'weak-signature',
  'not-a-ca',
  'key-usage',
  'profile',
  'wrong-name',
  'wrong-purpose',
  'untrusted',
  'bad-signature',
  'authority-key-mismatch',
  'path-length',
  'name-constraints',
  'work-limit',
] as const

export type PathReason = (typeof pathReasons)[number]
