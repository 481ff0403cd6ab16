import { beforeAll, describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { linkerdFixtures } from '../../../phases/fixtures/linkerd.ts'
import { planFixture } from '../../../phases/fixtures/render.ts'
import type { FileTree } from '../../../src/rotation.ts'
import { linkerdPod } from '../../../src/systems/linkerd/observe-pods.ts'
import { podObject } from './mesh.ts'

/**
 * Two read `$` in what a rotation delivers: Flux's postBuild replaces `${NAME}` in every manifest that does not refuse it, and the kubelet replaces
 * `$(NAME)` in environment variables, such as the anchors of a proxy that was injected by hand.
 */
const variables = /\$[({]/

const fixtures = linkerdFixtures()

describe.each(fixtures.map(fixture => [fixture.name, fixture] as const))('the phases of %s', (_name, fixture) => {
  let files: FileTree
  beforeAll(async () => {
    files = (await planFixture(fixture)).files
  }, 60_000)

  const rendered = (): readonly (readonly [string, string])[] =>
    [...files].filter(([path]) => path.includes('/phases/') && path.endsWith('.yaml'))

  it('keep Flux from replacing anything in objects of their own', () => {
    if (fixture.name.includes('argo')) return
    const own = rendered().filter(([path]) => !path.includes('/components/') && !path.endsWith('kustomization.yaml'))
    expect(own.length).toBeGreaterThan(0)
    for (const [path, text] of own)
      for (const document of parseAllDocuments(text)) {
        const { metadata } = document.toJS() as { metadata: { annotations?: Record<string, string> } }
        expect(metadata.annotations?.['kustomize.toolkit.fluxcd.io/substitute'], path).toBe('disabled')
      }
  })

  it('patch the user’s objects with nothing that Flux or the kubelet would replace', () => {
    const patches = rendered().filter(([path]) => path.includes('/components/'))
    for (const [path, text] of patches) expect(variables.test(text), path).toBe(false)
  })
})

describe('the name of a proxy', () => {
  const mesh = { namespace: 'linkerd', trustDomain: 'cluster.local' }
  const named = (env: readonly unknown[]) =>
    linkerdPod(podObject('web-1', { env, account: 'web' }), mesh)?.localName ?? null
  const localName = (value: string) => ({ name: 'LINKERD2_PROXY_IDENTITY_LOCAL_NAME', value })

  it('is expanded as the kubelet does: by variables that stand before it alone', () => {
    const field = { name: '_pod_ns', valueFrom: { fieldRef: { fieldPath: 'metadata.namespace' } } }
    expect(named([field, localName('web.$(_pod_ns).serviceaccount.identity.linkerd.mesh.example')])).toBe(
      'web.emojivoto.serviceaccount.identity.linkerd.mesh.example',
    )
  })

  it('is made of what is declared where a variable in it is not known, and never asked for with a variable in it', () => {
    const own = 'web.emojivoto.serviceaccount.identity.linkerd.cluster.local'
    const unknown = localName('web.$(_pod_ns).serviceaccount.identity.$(_l5d_ns).cluster.local')
    expect(named([unknown])).toBe(own)
    const later = { name: '_l5d_ns', value: 'elsewhere' }
    const before = { name: '_pod_ns', value: 'emojivoto' }
    expect(named([before, unknown, later])).toBe(own)
    const elsewhere = { name: '_l5d_ns', valueFrom: { configMapKeyRef: { name: 'names', key: 'ns' } } }
    expect(named([before, elsewhere, unknown])).toBe(own)
  })
})
