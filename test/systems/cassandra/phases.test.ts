import { beforeAll, describe, expect, it } from 'vitest'
import { certificateFacts } from '../../../src/pki/certificate.ts'
import type { TrustState } from '../../../src/rotation.ts'
import { type CaSecret, dataOf, type NewCa, privateKeysOf } from '../../../src/systems/cassandra/ca-secret.ts'
import { operatorChecksum } from '../../../src/systems/cassandra/checksum.ts'
import { type CassandraPhaseDraft, cassandraPhases, entriesOf } from '../../../src/systems/cassandra/phases.ts'
import { caSecret, cassandraCa } from './material.ts'

let old: NewCa
let fresh: NewCa
let other: NewCa

beforeAll(async () => {
  ;[old, fresh, other] = await Promise.all([cassandraCa('O=ca'), cassandraCa('O=ca2'), cassandraCa('O=partner')])
}, 120_000)

function phasesOf(secret: CaSecret): readonly CassandraPhaseDraft[] {
  return cassandraPhases('graceful', { secret, next: fresh, restarts: {} })
}

function stateOf(phases: readonly CassandraPhaseDraft[], name: string): TrustState {
  return phases.find(phase => phase.name === name)?.steps[0]?.state as TrustState
}

function data(secret: CaSecret, state: TrustState, next = fresh): Readonly<Record<string, string>> {
  return dataOf({ entries: entriesOf(state), issuer: state.issuer }, secret, next)
}

describe('the runbook “Update TLS CA Secret without downtime”, single region', () => {
  it('has its steps 2, 4 and 6 as phases add, swap and drop, and the end state of the Secret is the same key by key', () => {
    const secret = caSecret(old)
    const phases = phasesOf(secret)
    expect(phases.map(phase => phase.name)).toEqual(['adopt', 'add', 'swap', 'drop'])
    expect(phases.every(phase => phase.steps.length === 1)).toBe(true)
    const runbook: Readonly<Record<string, Readonly<Record<string, string>>>> = {
      // What stands there before step 1.
      adopt: { 'ca.crt': old.certificate.pem, 'ca.key': old.key },
      // Step 2: add new CA certificate ca2.crt.
      add: { 'ca.crt': old.certificate.pem, 'ca.key': old.key, 'ca2.crt': fresh.certificate.pem },
      // Step 4: the new pair as main entries, the previous CA as ca2.crt.
      swap: { 'ca.crt': fresh.certificate.pem, 'ca.key': fresh.key, 'ca2.crt': old.certificate.pem },
      // Step 6: ca2.crt is removed.
      drop: { 'ca.crt': fresh.certificate.pem, 'ca.key': fresh.key },
    }
    for (const [name, expected] of Object.entries(runbook))
      expect(data(secret, stateOf(phases, name))).toEqual(expected)
  })

  it('puts no key of the new CA into the Secret before swap, and none of the old one from then on', () => {
    const secret = caSecret(old)
    const phases = phasesOf(secret)
    expect(Object.values(data(secret, stateOf(phases, 'add')))).not.toContain(fresh.key)
    for (const name of ['swap', 'drop'])
      expect(Object.values(data(secret, stateOf(phases, name)))).not.toContain(old.key)
  })

  it('foretells the checksum of every step: the operator’s own, over exactly the data of the step', () => {
    const secret = caSecret(old)
    for (const phase of phasesOf(secret)) {
      const state = phase.steps[0]?.state as TrustState
      expect(state.settings.checksum).toBe(operatorChecksum(data(secret, state)))
    }
    const checksums = phasesOf(secret).map(phase => phase.steps[0]?.state.settings.checksum)
    expect(new Set(checksums).size).toBe(4)
  })

  it('adopts the live Secret byte for byte, odd bytes and foreign keys included: no node restarts for it', () => {
    const odd = caSecret(old, {
      'ca.crt': `subject=O = ca\n${old.certificate.pem.trimEnd()}`,
      'readme.txt': 'made by utils/tls.sh',
      'partner.crt': other.certificate.pem,
    })
    const phases = phasesOf(odd)
    expect(data(odd, stateOf(phases, 'adopt'))).toEqual(odd.data)
    // The old certificate keeps its bytes where it moves to.
    expect(data(odd, stateOf(phases, 'swap'))['ca2.crt']).toBe(odd.data['ca.crt'])
    const dropped = data(odd, stateOf(phases, 'drop'))
    expect(Object.keys(dropped)).toEqual(['ca.crt', 'ca.key', 'partner.crt', 'readme.txt'])
    expect(dropped['partner.crt']).toBe(other.certificate.pem)
  })

  it('takes every copy of the old CA out in drop, under whatever name it stands', () => {
    const copied = caSecret(old, { 'ca.crt.bak': old.certificate.pem })
    const phases = phasesOf(copied)
    expect(stateOf(phases, 'swap').bundle).toContain(old.certificate.sha256)
    expect(Object.keys(data(copied, stateOf(phases, 'drop')))).toEqual(['ca.crt', 'ca.key'])
  })

  it('follows the names of keys that the CassandraCluster gives', () => {
    const renamed: CaSecret = {
      ...caSecret(old),
      certificateKey: 'tls-ca.crt',
      privateKey: 'tls-ca.pem',
      data: { 'tls-ca.crt': old.certificate.pem, 'tls-ca.pem': old.key },
    }
    const swapped = data(renamed, stateOf(phasesOf(renamed), 'swap'))
    expect(swapped).toEqual({
      'ca2.crt': old.certificate.pem,
      'tls-ca.crt': fresh.certificate.pem,
      'tls-ca.pem': fresh.key,
    })
    expect(privateKeysOf(swapped)).toEqual(['tls-ca.pem'])
  })

  it('rotates a second time from what the first one left: A to B to C', () => {
    const first = caSecret(old)
    const left: CaSecret = { ...first, data: data(first, stateOf(phasesOf(first), 'drop')) }
    const second = cassandraPhases('graceful', { secret: left, next: other, restarts: {} })
    expect(stateOf(second, 'adopt').settings.checksum).toBe(stateOf(phasesOf(first), 'drop').settings.checksum)
    expect(data(left, stateOf(second, 'drop'), other)).toEqual({ 'ca.crt': other.certificate.pem, 'ca.key': other.key })
  })
})

describe('ways back', () => {
  it('lead from each phase to the one before, which drop’s does by trusting the old CA again', () => {
    const phases = phasesOf(caSecret(old))
    const undo = (name: string) => phases.find(phase => phase.name === name)?.steps[0]?.undo
    expect(undo('add')).toEqual(stateOf(phases, 'adopt'))
    expect(undo('swap')).toEqual(stateOf(phases, 'add'))
    expect(undo('drop')).toEqual(stateOf(phases, 'swap'))
  })
})

describe('strategies', () => {
  it('replaces the CA in one step in an emergency', () => {
    const secret = caSecret(old)
    const phases = cassandraPhases('emergency', { secret, next: fresh, restarts: {} })
    expect(phases.map(phase => phase.name)).toEqual(['adopt', 'replace'])
    expect(data(secret, stateOf(phases, 'replace'))).toEqual({ 'ca.crt': fresh.certificate.pem, 'ca.key': fresh.key })
  })

  it.each(['renew', 'issuer'] as const)('refuses %s with the reason and what to use', strategy => {
    expect(() => cassandraPhases(strategy, { secret: caSecret(old), next: fresh, restarts: {} })).toThrow(
      /does not exist for Cassandra: [\s\S]*choose graceful/,
    )
  })
})

it('holds only facts of public certificates and digests in a state, so that plan.yaml can show it', () => {
  for (const phase of phasesOf(caSecret(old))) {
    const text = JSON.stringify(phase)
    for (const key of [old.key, fresh.key]) expect(text).not.toContain(key.split('\n')[1])
    expect(text).not.toContain('PRIVATE')
  }
  expect(certificateFacts(old.certificate).ca).toBe(true)
})
