import { describe, expect, it } from 'vitest'
import { judge } from '../../src/verify/judge.ts'
import { lookTwice, type Mesh, meshAt, planOf, syncedFromStore } from './mesh.ts'

const plan = await planOf()

async function judged(change: (mesh: Mesh) => void) {
  const mesh = await meshAt(plan, 2, 1)
  change(mesh)
  const evidence = await lookTwice(plan, mesh, { phase: 2, step: 1 })
  const { gates } = judge(plan, [evidence], mesh.now)
  const gate = (id: string) => gates.find(each => each.id === id)
  return { mesh, evidence, secret: gate('istio/secret'), canary: gate('istio/canary') }
}

describe('a Secret that External Secrets makes', () => {
  it('holds once the newest version is synced and the values that arrived are the planned ones', async () => {
    const { secret, canary, mesh } = await judged(mesh => syncedFromStore(mesh))
    expect([secret?.verdict, canary?.verdict]).toEqual(['holds', 'holds'])
    expect([...mesh.asked].filter(request => request.includes('external-secrets.io')).sort()).toEqual([
      'get external-secrets.io/externalsecrets istio-system cacerts',
      'get external-secrets.io/externalsecrets istio-system reanchor-canary',
    ])
  })

  it.each([
    [
      'the store lacks a value',
      {
        conditions: [
          {
            type: 'Ready',
            status: 'False',
            reason: 'SecretSyncedError',
            message: 'could not get secret data from provider',
          },
        ],
      },
      /not synced: could not get secret data from provider/,
    ],
    [
      'the version before is the one that was synced',
      { syncedResourceVersion: '2-abc' },
      /its newest version is not synced yet/,
    ],
    ['nothing was synced at all', { syncedResourceVersion: undefined, conditions: [] }, /not synced/],
    [
      'Ready says something else than a synced Secret',
      { conditions: [{ type: 'Ready', status: 'True', reason: 'SecretMissing', message: 'no secret' }] },
      /not synced: SecretMissing/,
    ],
  ])('is waited for while %s', async (_, status, because) => {
    const { secret } = await judged(mesh => syncedFromStore(mesh, status))
    expect(secret?.verdict).toBe('pending')
    expect(secret?.because[0]).toMatch(because)
  })

  it('tells where the value belongs that is missing', async () => {
    const conditions = [{ type: 'Ready', status: 'False', reason: 'SecretSyncedError', message: 'no such secret' }]
    const { secret } = await judged(mesh => syncedFromStore(mesh, { conditions }))
    expect(secret?.hint).toMatch(/put the value into the store from the file that `plan` wrote/)
  })

  it('is violated where what arrived is not what was planned, or somebody else wrote it', async () => {
    const { secret } = await judged(mesh => syncedFromStore(mesh, {}, { arrived: 'ca-key.pem=cc certificate=bb' }))
    expect(secret).toMatchObject({
      verdict: 'violated',
      because: [expect.stringMatching(/holds ca-key\.pem=cc certificate=bb, planned ca-key\.pem=aa/)],
    })
  })

  it('is waited for where the ExternalSecret is gone', async () => {
    const { secret } = await judged(mesh => {
      syncedFromStore(mesh)
      mesh.objects.set('externalsecrets', [])
    })
    expect(secret?.because).toEqual(['ExternalSecret/istio-system/cacerts: does not exist'])
  })
})
