import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { linkerdFixtures } from '../../../phases/fixtures/linkerd.ts'
import { planFixture } from '../../../phases/fixtures/render.ts'
import { stepsOf, treeFolder, type Variant } from '../../../src/plan/steps.ts'
import { readTrustPlaces } from '../../../src/report/trust-places.ts'
import { linkerd } from '../../../src/systems/linkerd/system.ts'

function fixture(name: string) {
  const found = linkerdFixtures().find(each => each.name === name)
  if (found === undefined) throw new Error(`no fixture ${name}`)
  return found
}

const declared = fixture('linkerd-graceful-argo-trust-manager')

describe('a Bundle of trust-manager in the place of the ConfigMap of anchors', () => {
  it('has the anchors of every step inline, and no source that somebody else could change', async () => {
    const { plan, files } = await planFixture(declared)
    let looked = 0
    for (const at of stepsOf(plan)) {
      for (const variant of ['step', 'undo'] as const satisfies readonly Variant[]) {
        const folder = treeFolder(plan.metadata.name, at, variant, 'eu-1')
        const text = files.get(`${folder}/trust-roots.yaml`)
        if (text === undefined) continue
        const bundle = parse(text)
        expect([bundle.kind, bundle.metadata.name]).toEqual(['Bundle', 'linkerd-identity-trust-roots'])
        expect(bundle.spec.sources.map((source: object) => Object.keys(source))).toEqual([['inLine']])
        expect(bundle.spec.target).toEqual({
          configMap: { key: 'ca-bundle.crt' },
          namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'linkerd' } },
        })
        const site = at.step.sites['eu-1']
        const state = variant === 'step' ? site?.state : site?.undo?.state
        const [place] = readTrustPlaces(`${folder}/trust-roots.yaml`, text)
        expect(place?.certificates.map(({ sha256 }) => sha256)).toEqual(state?.bundle)
        looked += 1
      }
    }
    expect(looked).toBeGreaterThan(8)
  })

  it('is read back from an edited folder: another anchor in it is another state of trust', async () => {
    const { plan, files } = await planFixture(declared)
    const [adopt, both] = ['adopt', 'trust-both'].map(name => stepsOf(plan).find(({ phase }) => phase.name === name))
    if (adopt === undefined || both === undefined) throw new Error('the plan lacks a phase')
    const placesAt = (at: typeof adopt, only: RegExp) =>
      [...files]
        .filter(
          ([path]) => path.startsWith(`${treeFolder(plan.metadata.name, at, 'step', 'eu-1')}/`) && only.test(path),
        )
        .flatMap(([path, text]) => readTrustPlaces(path, text))
    const planned = adopt.step.sites['eu-1']?.state ?? null
    const widened = [...placesAt(adopt, /issuer\.yaml$/), ...placesAt(both, /trust-roots\.yaml$/)]
    expect(linkerd.declaredState(widened, planned)?.bundle).toEqual(both.step.sites['eu-1']?.state.bundle)
  })

  it('is refused beside manifests or a chart that make the ConfigMap themselves, and in flows that keep anchors elsewhere', async () => {
    for (const [name, found] of [
      ['linkerd-graceful-trust-roots', /manifests of the control plane/],
      ['linkerd-graceful-helm-release', /chart without identity\.externalCA/],
      ['linkerd-graceful-upgrade', /flow upgrade/],
    ] as const) {
      const other = fixture(name)
      const declaration = other.declaration.replace('  linkerd:\n', '  linkerd:\n    trustManager: true\n')
      const attempt = planFixture({ ...other, declaration })
      await expect(attempt).rejects.toMatchObject({
        exit: 5,
        what: 'a Bundle cannot write the anchors while something else does',
      })
      await expect(attempt).rejects.toThrow(found)
    }
  })
})
