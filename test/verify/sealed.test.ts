import { describe, expect, it } from 'vitest'
import { judge } from '../../src/verify/judge.ts'
import { lookTwice, type Mesh, meshAt, planOf, sealedBy } from './mesh.ts'

const plan = await planOf()

async function judged(change: (mesh: Mesh) => void, phase = 2, step = 1) {
  const mesh = await meshAt(plan, phase, step)
  change(mesh)
  const evidence = await lookTwice(plan, mesh, { phase, step })
  const { gates } = judge(plan, [evidence], mesh.now)
  const gate = (id: string) => gates.find(each => each.id === id)
  return { evidence, secret: gate('istio/secret'), canary: gate('istio/canary') }
}

describe('a Secret that comes out of a SealedSecret', () => {
  it('holds once the controller has taken up its newest version', async () => {
    const { secret, canary } = await judged(mesh => sealedBy('controller', mesh))
    expect([secret?.verdict, canary?.verdict]).toEqual(['holds', 'holds'])
  })

  it('is waited for while the controller still has the version before: the restart after it would keep the old data (F23)', async () => {
    const { secret, canary } = await judged(mesh => sealedBy('controller', mesh, { observedGeneration: 1 }))
    expect(secret).toMatchObject({
      verdict: 'pending',
      because: ['SealedSecret/istio-system/cacerts: its newest version is not unsealed yet'],
    })
    expect(canary?.verdict).toBe('pending')
  })

  it('names the command that lets the controller take over a Secret that it did not make', async () => {
    const message = 'Resource "cacerts" already exists and is not managed by SealedSecret'
    const conditions = [{ type: 'Synced', status: 'False', message }]
    const { secret } = await judged(mesh => sealedBy('controller', mesh, { conditions }))
    expect(secret?.verdict).toBe('pending')
    expect(secret?.because[0]).toContain(message)
    expect(secret?.hint).toContain(
      'kubectl --namespace istio-system annotate secret cacerts sealedsecrets.bitnami.com/managed=true',
    )
    // That alone does nothing: the controller has given up by then.
    expect(secret?.hint).toMatch(/; then start the controller anew.*rollout restart/)
  })

  it('is waited for where the SealedSecret is gone', async () => {
    const { secret } = await judged(mesh => {
      sealedBy('controller', mesh)
      mesh.objects.set('sealedsecrets', [])
    })
    expect(secret?.because).toEqual(['SealedSecret/istio-system/cacerts does not exist'])
  })

  it('still may hold no other key than the four', async () => {
    const { secret } = await judged(mesh => {
      sealedBy('controller', mesh)
      const secrets = mesh.objects.get('secrets') ?? []
      const extra = { manager: 'kubectl-edit', operation: 'Update', fieldsV1: { 'f:data': { 'f:tls.crt': {} } } }
      mesh.objects.set(
        'secrets',
        secrets.map(each =>
          each.metadata.name === 'cacerts'
            ? {
                ...each,
                metadata: { ...each.metadata, managedFields: [...(each.metadata.managedFields ?? []), extra] },
              }
            : each,
        ),
      )
    })
    expect(secret).toMatchObject({ verdict: 'violated' })
    expect(secret?.because[0]).toContain('key tls.crt is not ours')
  })

  it('is not asked about where Secrets come by other ways', async () => {
    const mesh = await meshAt(plan, 2, 1)
    const evidence = await lookTwice(plan, mesh, { phase: 2, step: 1 })
    expect(evidence.objects.some(({ id }) => id.startsWith('SealedSecret/'))).toBe(false)
    expect([...mesh.asked].some(request => request.includes('bitnami.com'))).toBe(false)
  })
})
