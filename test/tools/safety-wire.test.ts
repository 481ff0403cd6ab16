/** The proof's verdict against real handshakes of OpenSSL, Go and Java. Needs Go and a JDK. */
import { beforeAll, describe, expect, it } from 'vitest'
import { type WireResult, wire } from '../../safety/wire/wire.ts'

let result: WireResult

beforeAll(async () => {
  result = await wire({ seed: 11, scale: 0.05, say: () => {} })
})

describe('random mixes on the wire', () => {
  it('end as the proof or the profile of the stack foretold, each of them', () => {
    expect(result.examples.filter(example => example.startsWith('DISAGREES'))).toEqual([])
    expect(result.disagreements).toBe(0)
    expect(result.mixes).toBe(300)
  })

  it('are taken and refused both, over every stack and system', () => {
    expect(result.accepted).toBeGreaterThan(60)
    expect(result.mixes - result.accepted).toBeGreaterThan(60)
    expect(Object.keys(result.byStack).sort()).toEqual([
      'go',
      'java-pkix',
      'java-sunx509',
      'openssl',
      'openssl-whole-chain',
    ])
    expect(Object.keys(result.bySystem).sort()).toEqual(['cassandra', 'istio', 'kyma', 'linkerd'])
  })

  it('name the links that no stack here can verify: those of rustls', () => {
    expect(result.notShaken).toContain('linkerd: proxy to proxy')
    expect(result.notShaken).toContain('istio: sidecar to ztunnel')
    expect(result.notShaken).not.toContain('linkerd: issuer to identity')
  })
})
