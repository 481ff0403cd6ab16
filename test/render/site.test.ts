import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { fixturePem } from '../../phases/fixtures/istio.ts'
import type { ControlPlaneCarrier } from '../../phases/istio/props.ts'
import { createSopsCustody } from '../../src/custody/sops.ts'
import { certificateFacts, readCertificate } from '../../src/pki/certificate.ts'
import { multirootSetting } from '../../src/systems/istio/phases.ts'
import { renderSite } from '../../src/systems/istio/render.ts'

const root = readCertificate(fixturePem('self-signed-root'))

async function folder(delivery: 'flux' | 'argocd', controlPlane: ControlPlaneCarrier) {
  const recipients = ['age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p']
  const files = await renderSite({
    header: {
      rotation: 'mesh-2026',
      phase: 1,
      phaseName: 'enable-multiroot',
      step: 1,
      stepName: 'data',
      variant: 'step',
      site: 'eu-1',
    },
    props: {
      rotation: 'mesh-2026',
      state: {
        bundle: [root.sha256],
        issuer: root.sha256,
        chain: [root.sha256],
        source: 'own',
        settings: { [multirootSetting]: 'true' },
        restarts: { istiod: 'abc' },
      },
      certificate: () => root.pem,
      issuerKey: null,
      canary: 'a value of no worth',
      namespace: 'istio-system',
      delivery,
      controlPlane,
    },
    facts: () => certificateFacts(root),
    custody: createSopsCustody({
      recipients,
      now: new Date('2026-03-01T00:00:00Z'),
      random: size => Buffer.alloc(size, 7),
    }),
    path: 'trust/eu-1',
  })
  return (path: string): unknown => (files.has(path) ? parse(files.get(path) ?? '') : null)
}

describe('a site’s folder', () => {
  test('that SOPS seals and Argo CD applies leaves the sealed files to KSOPS, and to nothing else', async () => {
    const file = await folder('argocd', { kind: 'values' })
    expect(file('kustomization.yaml')).toEqual({
      apiVersion: 'kustomize.config.k8s.io/v1beta1',
      kind: 'Kustomization',
      generators: ['ksops.yaml'],
    })
    expect(file('ksops.yaml')).toMatchObject({ apiVersion: 'viaduct.ai/v1', kind: 'ksops', files: ['./canary.yaml'] })
  })

  test('that Flux applies lists them: Flux decrypts by itself', async () => {
    const file = await folder('flux', { kind: 'helmRelease', name: 'istiod', namespace: 'istio-system' })
    expect(file('kustomization.yaml')).toMatchObject({ resources: ['canary.yaml', 'istiod-values.yaml'] })
    expect(file('ksops.yaml')).toBeNull()
  })

  test('puts istiod’s values below the name that a wrapping chart gives it', async () => {
    const values = { pilot: { env: { [multirootSetting]: 'true' }, podAnnotations: { 'reanchor.dev/trust': 'abc' } } }
    expect((await folder('argocd', { kind: 'values' }))('istiod-values.yaml')).toEqual(values)
    const wrapped = await folder('argocd', { kind: 'values', under: ['mesh'] })
    expect(wrapped('istiod-values.yaml')).toEqual({ mesh: values })
    const release = await folder('flux', { kind: 'helmRelease', name: 'istiod', namespace: 'mesh', under: ['mesh'] })
    const map = release('istiod-values.yaml') as { data: Record<string, string>; metadata: { namespace: string } }
    expect(map.metadata.namespace).toBe('mesh')
    expect(parse(map.data['values.yaml'] ?? '')).toEqual({ mesh: values })
  })
})
