import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { type ValidatePathInput, validatePath } from '../../src/pki/validate.ts'

interface LimboCase {
  readonly id: string
  readonly features: readonly string[] | null
  readonly validation_kind: 'SERVER' | 'CLIENT'
  readonly trusted_certs: readonly string[]
  readonly untrusted_intermediates: readonly string[]
  readonly peer_certificate: string
  readonly validation_time: string | null
  readonly expected_result: 'SUCCESS' | 'FAILURE'
  readonly expected_peer_name: { readonly kind: string; readonly value: string } | null
}

const file = join(process.env.REANCHOR_DATA ?? '../shared/data', 'x509-limbo/limbo-half.json')
const { testcases } = JSON.parse(readFileSync(file, 'utf8')) as { testcases: LimboCase[] }

/**
 * Cases that are decided otherwise than the suite says, each with its reason. The table is exact: a case that comes to
 * agree fails the suite until its line is taken out.
 */
const declined: Readonly<Record<string, string>> = {
  'pathlen::max-chain-depth-0-exhausted':
    'feature max-chain-depth: validatePath takes no depth; path lengths in certificates are honoured',
  'rfc5280::nc::permitted-dns-match-noncritical':
    'feature rfc5280-incompatible-with-webpki: constraints that are not critical are enforced instead of refused, as webpki::nc::permitted-dns-match-noncritical asks',
  'webpki::ca-as-leaf':
    'conflicts with rfc5280::ca-as-leaf, which is followed: RFC 5280 §6.1 lets the last certificate be a CA',
  'webpki::cn::punycode-not-in-san':
    'a common name that is no subjectAltName is left alone; the suite itself asks for that in rfc5280::nc::permitted-dns-match-more',
  'webpki::cn::utf8-vs-punycode-mismatch':
    'its two names differ under IDNA too (the A-label decodes to another text), so this is a common name that is no subjectAltName',
  'webpki::eku::ee-anyeku': 'feature pedantic-webpki-eku: anyExtendedKeyUsage beside serverAuth is let pass',
  'webpki::eku::root-has-eku': 'feature pedantic-webpki-eku: the EKU of a root is honoured instead of refused',
  'webpki::san::public-suffix-multi-label-wildcard-san':
    'feature pedantic-public-suffix-wildcard: no public suffix list in a mesh',
  'webpki::san::public-suffix-private-namespace-wildcard-san':
    'feature pedantic-public-suffix-wildcard: no public suffix list in a mesh',
}

function inputOf(test: LimboCase): ValidatePathInput {
  const name = test.expected_peer_name
  return {
    leaf: test.peer_certificate,
    intermediates: test.untrusted_intermediates,
    anchors: test.trusted_certs,
    at: test.validation_time ?? new Date().toISOString(),
    purpose: test.validation_kind === 'SERVER' ? 'server' : 'client',
    ...(name === null ? {} : { name: { kind: name.kind as 'DNS' | 'IP', value: name.value } }),
  }
}

describe('validatePath against x509-limbo', () => {
  for (const test of testcases) {
    const reason = declined[test.id]
    it(`${reason === undefined ? '' : 'declines '}${test.id}: ${test.expected_result}`, () => {
      const result = validatePath(inputOf(test))
      const agrees = result.ok === (test.expected_result === 'SUCCESS')
      expect(agrees, JSON.stringify(result)).toBe(reason === undefined)
    })
  }

  it('declines only cases that exist', () => {
    const ids = new Set(testcases.map(test => test.id))
    expect(Object.keys(declined).filter(id => !ids.has(id))).toEqual([])
  })
})
