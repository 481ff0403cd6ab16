import { describe, expect, it, onTestFinished } from 'vitest'
import { planAndMerge } from '../../src/commands/demo.ts'
import { smallFleet } from './linkerd-fleet.ts'
import { testWorld } from './world.ts'

describe('a Secret that the Sealed Secrets controller only adds keys to', () => {
  it('is refused by plan with the command that hands it over, after which plan goes on', async () => {
    const test = await testWorld({ system: 'linkerd', variant: 'trust-roots+argocd', fleet: smallFleet })
    onTestFinished(() => test.close())
    const store = test.store('eu-1')
    const annotated = (annotations: Readonly<Record<string, string>>) => {
      const secret = store.get('', 'Secret', 'linkerd', 'linkerd-identity-issuer')
      if (secret === null) throw new Error('no issuer')
      store.update(secret, 'kubectl-annotate', next => {
        next.metadata.annotations = { ...annotations }
      })
    }
    annotated({ 'sealedsecrets.bitnami.com/patch': 'true' })
    await expect(planAndMerge(test.world)).rejects.toMatchObject({
      exit: 5,
      found: 'sealedsecrets.bitnami.com/patch: "true"',
      todo: expect.stringContaining(
        'kubectl --namespace linkerd annotate secret linkerd-identity-issuer sealedsecrets.bitnami.com/managed=true sealedsecrets.bitnami.com/patch-',
      ),
    })
    expect(await test.world.repository.branches('reanchor/')).toEqual(new Map())
    annotated({ 'sealedsecrets.bitnami.com/managed': 'true' })
    await expect(planAndMerge(test.world)).resolves.toBeDefined()
  }, 300_000)
})
