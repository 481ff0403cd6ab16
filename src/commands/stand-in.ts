import type { Declaration, NextSource } from '../rotation.ts'

/** A new CA of the declared shape that this machine can make by itself, whatever the real one comes from. */
export function generatedNext(declaration: Declaration): NextSource {
  const { next, name } = declaration
  if (next.from === 'generate') return next
  const issuing =
    next.from === 'csr' || next.from === 'certManager'
      ? next.issuing
      : { algorithm: 'ecdsa-p256' as const, subject: `CN=${name} issuing,L={site}`, validityDays: 730 }
  return { from: 'generate', algorithm: 'ecdsa-p256', subject: `CN=${name} stand-in root`, validityDays: 3650, issuing }
}
