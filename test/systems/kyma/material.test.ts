import { describe, expect, it, vi } from 'vitest'
import type { Cluster, KubernetesObject } from '../../../src/cluster/cluster.ts'
import { readBundle } from '../../../src/pki/bundle.ts'
import { bundleText, liveKyma, readKyma } from '../../../src/systems/kyma/material.ts'
import { kymaProfiles } from '../../../src/systems/kyma/profile.ts'
import { kymaCa, secret, secretsOf } from './material.ts'

// Each makes RSA keys of its own, which a busy machine takes its time for.
vi.setConfig({ testTimeout: 120_000 })

const { runbook } = kymaProfiles
const serving = kymaProfiles['1.18']

describe('today’s material', () => {
  it('is read from the two Secrets, each key’s text byte for byte', async () => {
    const ca = await kymaCa()
    const { signing, verifying } = secretsOf(runbook, ca)
    const live = readKyma(runbook, signing, verifying)
    expect(live.signer.sha256).toBe(ca.certificate.sha256)
    expect(live.key).toBe(ca.key)
    expect(live.bundle.map(({ sha256 }) => sha256)).toEqual([ca.certificate.sha256])
    expect(live.texts).toEqual({ signer: ca.certificate.pem, gateway: ca.certificate.pem })
  })

  it('names the other keys of the gateway’s Secret, which stay: tls.crt and tls.key of 1.18', async () => {
    const ca = await kymaCa()
    const { signing, verifying } = secretsOf(serving, ca, { 'tls.crt': 'server', 'tls.key': 'key' })
    expect(readKyma(serving, signing, verifying).otherKeys.gateway).toEqual(['tls.crt', 'tls.key'])
  })

  it('is refused where the connector’s Secret holds a bundle: it reads the first block only', async () => {
    const [one, two] = [await kymaCa(), await kymaCa({ subject: 'CN=Two' })]
    const { verifying } = secretsOf(runbook, one)
    const signing = secret('kyma-integration', 'connector-service-app-ca', {
      'ca.crt': one.certificate.pem + two.certificate.pem,
      'ca.key': one.key,
    })
    expect(() => readKyma(runbook, signing, verifying)).toThrow('more than one certificate')
  })

  it('is refused where the key is another one, which makes every CSR fail', async () => {
    const [one, two] = [await kymaCa(), await kymaCa()]
    const { verifying } = secretsOf(runbook, one)
    const signing = secret('kyma-integration', 'connector-service-app-ca', {
      'ca.crt': one.certificate.pem,
      'ca.key': two.key,
    })
    expect(() => readKyma(runbook, signing, verifying)).toThrow('key and certificate do not match')
  })

  it('is refused where the gateway does not trust what the connector signs', async () => {
    const [one, two] = [await kymaCa(), await kymaCa({ subject: 'CN=Two' })]
    const { signing } = secretsOf(runbook, one)
    const { verifying } = secretsOf(runbook, two)
    expect(() => readKyma(runbook, signing, verifying)).toThrow('does not trust the CA that the connector signs with')
  })

  it('is refused where cacert is empty, as the chart of 1.12 renders it', async () => {
    const ca = await kymaCa()
    const profile = kymaProfiles['1.11']
    const { signing } = secretsOf(profile, ca)
    const verifying = secret('istio-system', 'kyma-gateway-certs-cacert', { cacert: '' })
    expect(() => readKyma(profile, signing, verifying)).toThrow('key cacert is empty')
  })

  it('is refused where Istio reads cacert and the profile says ca.crt', async () => {
    const ca = await kymaCa()
    const profile = { ...serving, gateway: { ...serving.gateway, key: 'ca.crt' } }
    const { signing, verifying } = secretsOf(profile, ca, { cacert: 'x' })
    expect(() => readKyma(profile, signing, verifying)).toThrow('Istio reads another key of this Secret')
  })

  it('is refused where two blocks are glued together, as `cat` does without a final newline', async () => {
    const [one, two] = [await kymaCa(), await kymaCa({ subject: 'CN=Two' })]
    const { signing } = secretsOf(runbook, one)
    const glued = one.certificate.pem.trimEnd() + two.certificate.pem
    expect(glued).toContain('-----END CERTIFICATE----------BEGIN CERTIFICATE-----')
    const verifying = secret('istio-system', 'kyma-gateway-ca-certs', { 'ca.crt': glued })
    expect(() => readKyma(runbook, signing, verifying)).toThrow('glued together')
  })

  it.each([
    [{ annotations: { 'cert-manager.io/certificate-name': 'kyma-ca' } }, 'Certificate kyma-ca'],
    [{ ownerReferences: [{ kind: 'ExternalSecret', name: 'kyma-ca' }] }, 'ExternalSecret kyma-ca'],
    [{ labels: { 'reconcile.external-secrets.io/managed': 'true' } }, 'ExternalSecret '],
  ])(
    'is refused where a controller makes it again by itself, be it of either Secret (F16)',
    async (metadata, owner) => {
      const ca = await kymaCa()
      const { signing, verifying } = secretsOf(runbook, ca)
      const owned = (secret: KubernetesObject): KubernetesObject => ({
        ...secret,
        metadata: { ...secret.metadata, ...metadata },
      })
      expect(() => readKyma(runbook, owned(signing), verifying)).toThrow(owner)
      expect(() => readKyma(runbook, signing, owned(verifying))).toThrow(owner)
    },
  )

  it('is taken where External Secrets makes it of what a site’s folder has', async () => {
    const ca = await kymaCa()
    const { signing, verifying } = secretsOf(runbook, ca)
    const labels = { 'reconcile.external-secrets.io/managed': 'true' }
    const ours = { labels, annotations: { 'reanchor.dev/values': 'ca.key=aa' } }
    const read = readKyma(runbook, { ...signing, metadata: { ...signing.metadata, ...ours } }, verifying)
    expect(read).toEqual(readKyma(runbook, signing, verifying))
  })

  it('tells which release’s Secret is there where the profile’s is not', async () => {
    const ca = await kymaCa()
    const { signing } = secretsOf(runbook, ca)
    const { verifying } = secretsOf(kymaProfiles['1.11'], ca)
    await expect(liveKyma(clusterOf([signing, verifying]), runbook)).rejects.toThrow(
      /does not exist[\s\S]*kyma-gateway-certs-cacert \(profile 1\.11\)/,
    )
  })
})

describe('a bundle', () => {
  it('is never glued, whatever ends of lines its parts have, and keeps the order old, new', async () => {
    const [one, two] = [await kymaCa(), await kymaCa({ subject: 'CN=Two' })]
    const text = bundleText([one.certificate, two.certificate])
    expect(text.endsWith('-----END CERTIFICATE-----\n')).toBe(true)
    expect(text).not.toContain('\n\n')
    expect(readBundle(text, { allowRepeats: false }).certificates.map(({ sha256 }) => sha256)).toEqual([
      one.certificate.sha256,
      two.certificate.sha256,
    ])
  })
})

function clusterOf(objects: readonly KubernetesObject[]): Cluster {
  const find = (name: string) => objects.find(({ metadata }) => metadata.name === name) ?? null
  return {
    get: async (_type: unknown, _namespace: unknown, name: string) => find(name),
    metadata: async (_type: unknown, _namespace: unknown, name: string) => find(name),
  } as unknown as Cluster
}
