import { describe, expect, it } from 'vitest'
import { keysInGoOrder, operatorChecksum } from '../../../src/systems/cassandra/checksum.ts'

describe("the operator's checksum of a CA Secret", () => {
  it('is the one that Go computed for the same data', () => {
    const data = { 'ca2.crt': 'b', 'ca.key': 'k', 'ca.crt': 'A\n' }
    expect(operatorChecksum(data)).toBe('1fa673dac70504828892192d9450de7491ea14bc')
  })

  it('sorts keys by bytes: the dot comes before the digit', () => {
    expect(keysInGoOrder({ 'ca2.crt': '', 'ca.key': '', 'ca.crt': '', 'Ca.crt': '' })).toEqual([
      'Ca.crt',
      'ca.crt',
      'ca.key',
      'ca2.crt',
    ])
  })

  it('changes with a name as well as with a value, and not with the order in which they are given', () => {
    const one = operatorChecksum({ 'ca.crt': 'a', 'ca.key': 'k' })
    expect(operatorChecksum({ 'ca.key': 'k', 'ca.crt': 'a' })).toBe(one)
    expect(operatorChecksum({ 'ca.crt': 'a', 'ca2.key': 'k' })).not.toBe(one)
    expect(operatorChecksum({ 'ca.crt': 'a\n', 'ca.key': 'k' })).not.toBe(one)
  })

  it('is computed of no data at all', () => {
    // printf 'map[]' | sha1sum
    expect(operatorChecksum({})).toBe('0e6ae3fec848d64b4647532abed2256acca56b85')
  })
})
