import { beforeAll, describe, expect, it } from 'vitest'
import type { Plan } from '../../../src/rotation.ts'
import { generateKymaCa, type KymaCa } from '../../../src/systems/kyma/next-ca.ts'
import { kymaPhases } from '../../../src/systems/kyma/phases.ts'
import { kymaProfiles } from '../../../src/systems/kyma/profile.ts'
import { kymaWords } from '../../../src/systems/kyma/words.ts'
import { kymaCa, now, planOf, quickKeys, random } from './material.ts'

let old: KymaCa
let otherKey: KymaCa

beforeAll(async () => {
  old = await kymaCa()
  otherKey = await generateKymaCa({ subject: 'CN=Kyma 2', validityDays: 365 }, { now, random, keys: quickKeys })
}, 120_000)

function planned(next: KymaCa): Plan {
  const current = { issuer: old.certificate.sha256, bundle: [old.certificate.sha256], restarts: {} }
  const drafts = kymaPhases('graceful', {
    profile: kymaProfiles['1.11'],
    current,
    next: next.certificate.sha256,
  })
  return planOf(
    drafts,
    [
      { certificate: old.certificate, role: 'old-root' },
      { certificate: next.certificate, role: 'new-root' },
    ],
    'graceful',
  )
}

describe('what to watch in issue-new', () => {
  it('names the trap of a runtime’s own cacert: its agent writes the signer’s CA there, alone, so applications that call it renew first', () => {
    const text = kymaWords.watch('issue-new', planned(otherKey)).join('\n')
    expect(text).toContain('over what its own cluster trusts, and nothing beside it')
    expect(text).toContain('have their owners renew first')
  })

  it('says that nobody is refused by it where key and subject stay', () => {
    const text = kymaWords.watch('issue-new', planned(old)).join('\n')
    expect(text).toContain('go on being accepted')
    expect(text).not.toContain('renew first')
  })

  it('never tells anyone to delete the pods of the gateway, nor to scale it', () => {
    for (const phase of ['adopt', 'trust-both', 'issue-new', 'trust-new', 'replace'])
      expect(kymaWords.watch(phase, planned(otherKey)).join('\n')).not.toMatch(/delete po|scale /)
  })
})
