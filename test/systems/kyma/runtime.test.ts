import { describe, expect, it } from 'vitest'
import {
  notRenewed,
  onboardingCommands,
  readConnection,
  renewalCommands,
  renewsAt,
} from '../../../src/systems/kyma/runtime.ts'

const since = '2026-11-22T06:00:00Z'
const later = '2026-11-22T07:00:00Z'
const before = '2026-11-01T00:00:00Z'

function central(status: unknown, spec: unknown = {}) {
  return readConnection('central', { metadata: { name: 'runtime-1' }, spec, status })
}

function compass(status: unknown) {
  return readConnection('compass', { metadata: { name: 'compass-connection' }, spec: {}, status })
}

const renewedStatus = {
  synchronizationStatus: { lastSync: later, lastSuccess: later },
  certificateStatus: { notBefore: later, notAfter: '2027-02-22T07:00:00Z' },
}

describe('a runtime', () => {
  it('has renewed where its certificate began, and it reached the gateway, after the connector’s Secret was seen', () => {
    expect(notRenewed(central(renewedStatus), since)).toBeNull()
  })

  it('has not where its certificate began before', () => {
    const status = { ...renewedStatus, certificateStatus: { notBefore: before, notAfter: later } }
    expect(notRenewed(central(status), since)).toContain(`holds a certificate of ${before}`)
  })

  it('has not where it has an error, although renewNow is false again: the controller resets it on failure too', () => {
    const status = { ...renewedStatus, error: { message: 'x509: certificate signed by unknown authority' } }
    const facts = central(status, { renewNow: false })
    expect(facts.asked).toBe(false)
    expect(notRenewed(facts, since)).toBe('says: x509: certificate signed by unknown authority')
  })

  it('has not where the dates are gone, which an error leaves behind', () => {
    expect(notRenewed(central({ synchronizationStatus: { lastSuccess: later } }), since)).toBe(
      'tells no dates of its certificate',
    )
  })

  it('has not where it has not reached the gateway since', () => {
    const status = { ...renewedStatus, synchronizationStatus: { lastSync: later, lastSuccess: before } }
    expect(notRenewed(central(status), since)).toBe(`has not reached the gateway since ${since}`)
  })

  it('of Compass has renewed where it is Synchronized or Connected, without an error', () => {
    const connectionStatus = {
      lastSuccess: later,
      error: '',
      certificateStatus: { acquired: later, notBefore: later, notAfter: '2026-11-23T07:00:00Z' },
    }
    expect(notRenewed(compass({ connectionState: 'Synchronized', connectionStatus }), since)).toBeNull()
    expect(notRenewed(compass({ connectionState: 'ConnectionMaintenanceFailed', connectionStatus }), since)).toBe(
      'is ConnectionMaintenanceFailed',
    )
  })

  it('renews by itself with less than 30 % of its validity left: after 64.4 of 92 days', () => {
    const facts = { notBefore: '2026-01-01T00:00:00Z', notAfter: '2026-04-03T00:00:00Z' }
    expect(renewsAt(facts)).toBe('2026-03-06T09:36:00Z')
    expect((Date.parse('2026-03-06T09:36:00Z') - Date.parse(facts.notBefore)) / 86_400_000).toBeCloseTo(64.4)
  })

  it('renews no later than two periods of synchronisation before its end, where leaves are short', () => {
    expect(renewsAt({ notBefore: '2026-01-01T00:00:00Z', notAfter: '2026-01-01T00:20:00Z' })).toBe(
      '2026-01-01T00:10:00Z',
    )
    expect(renewsAt({ notBefore: null, notAfter: null })).toBeNull()
  })

  it('is renewed by a command in its own cluster, never by a file in Git', () => {
    expect(renewalCommands('prod', 'central', 'app')).toContain('kubectl patch centralconnection app')
    expect(renewalCommands('prod', 'compass', 'compass-connection')).toContain('refreshCredentialsNow')
    expect(onboardingCommands('prod', 'central', 'app')).toContain('kubectl create')
    expect(onboardingCommands('prod', 'central', 'app')).toContain('10 minutes')
  })
})
