import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import {
  createSealedSecretsCustody,
  readSealedSecretsManifest,
  type SealedSecretsOptions,
  type SealingScope,
  takeOverCommand,
  unseal,
} from '../../src/custody/sealed-secrets.ts'
import { ecPair, rsaPair, selfSigned } from './certificate.ts'
import { cacerts, destination, now, seededRandom } from './secrets.ts'

const day = 86_400_000
const controller = rsaPair()
const certificatePem = selfSigned(
  controller.privateKey,
  controller.publicKey,
  new Date(now.getTime() - day),
  new Date(now.getTime() + 3650 * day),
)

function custody(parts: Partial<SealedSecretsOptions> = {}) {
  return createSealedSecretsCustody({ certificatePem, scope: 'strict', random: randomBytes, now, ...parts })
}

const sealedKey = (yaml: string) => readSealedSecretsManifest(yaml).sealed['ca-key.pem'] ?? ''
const opened = (yaml: string) =>
  Object.fromEntries(
    Object.entries(unseal(yaml, controller.privateKey).data).map(([key, text]) => [
      key,
      Buffer.from(text, 'base64').toString(),
    ]),
  )

describe('a Secret sealed for Sealed Secrets', () => {
  it('seals only the private keys; public ones stand readable in the template', async () => {
    const yaml = await custody().seal(cacerts(), destination)
    const manifest = parse(yaml)
    expect(manifest.kind).toBe('SealedSecret')
    expect(Object.keys(manifest.spec.encryptedData)).toEqual(['ca-key.pem'])
    expect(manifest.spec.template.data).toEqual({
      'ca-cert.pem': 'the certificate\n',
      'cert-chain.pem': 'the chain\n',
      'root-cert.pem': 'old\n',
    })
    expect(opened(yaml)).toEqual(cacerts().data)
  })

  it('outlives its SealedSecret and can still be updated by the controller', async () => {
    const { metadata, spec } = parse(await custody().seal(cacerts(), destination))
    expect(spec.template.metadata.annotations).toEqual({
      'sealedsecrets.bitnami.com/managed': 'true',
      'sealedsecrets.bitnami.com/skip-set-owner-references': 'true',
    })
    expect(metadata.annotations['kustomize.toolkit.fluxcd.io/prune']).toBe('disabled')
    expect(spec.template.metadata.labels).toEqual(cacerts().labels)
  })

  it.each<[SealingScope, string | null]>([
    ['strict', null],
    ['namespace-wide', 'sealedsecrets.bitnami.com/namespace-wide'],
    ['cluster-wide', 'sealedsecrets.bitnami.com/cluster-wide'],
  ])('says its scope, %s, where the controller looks for it', async (scope, annotation) => {
    const yaml = await custody({ scope }).seal(cacerts(), destination)
    const names = Object.keys(parse(yaml).metadata.annotations).filter(name => name.startsWith('sealedsecrets'))
    expect(names).toEqual(annotation === null ? [] : [annotation])
    expect(opened(yaml)['ca-key.pem']).toBe('the private part\n')
  })

  it('keeps the ciphertext of an unchanged value, across phases and across plans', async () => {
    const sealing = custody()
    const before = await sealing.seal(cacerts(), destination)
    const data = { ...cacerts().data, 'root-cert.pem': 'old\nnew\n' }
    expect(sealedKey(await sealing.seal(cacerts({ data }), destination))).toBe(sealedKey(before))
    const again = custody({ keep: [{ destination, yaml: before }] })
    const rendered = await again.seal(cacerts({ data: { ...data, 'ca-key.pem': sealedKey(before) } }), destination)
    expect(sealedKey(rendered)).toBe(sealedKey(before))
    expect(opened(rendered)['ca-key.pem']).toBe('the private part\n')
  })

  it('refuses a kept value of another Secret or scope, rather than sealing it a second time', async () => {
    const before = await custody().seal(cacerts(), destination)
    const keep = [{ destination, yaml: before }]
    const data = { 'ca-key.pem': sealedKey(before) }
    await expect(custody({ keep }).seal(cacerts({ data, name: 'other' }), destination)).rejects.toThrow(
      /not one of this Secret/,
    )
    await expect(custody({ keep, scope: 'cluster-wide' }).seal(cacerts({ data }), destination)).rejects.toThrow(
      /not one of this Secret/,
    )
    await expect(custody().seal(cacerts({ data }), destination)).rejects.toThrow(/not one of this Secret/)
  })

  it('is the same file from the same randomness', async () => {
    const run = () => custody({ random: seededRandom('x') }).seal(cacerts(), destination)
    expect(await run()).toBe(await run())
  })

  it('gives back every value, template-like texts included (property)', async () => {
    const random = seededRandom('property')
    const text = fc.oneof(fc.string({ minLength: 1, unit: 'binary' }), fc.stringMatching(/^[{}a"]{1,12}$/))
    await fc.assert(
      fc.asyncProperty(text, text, async (hidden, shown) => {
        const yaml = await custody({ random }).seal(
          cacerts({ data: { hidden, shown }, privateKeys: ['hidden'] }),
          destination,
        )
        expect(opened(yaml)).toEqual({ hidden: Buffer.from(hidden).toString(), shown: Buffer.from(shown).toString() })
      }),
      { numRuns: 60 },
    )
  })

  it('refuses annotations by which dropped keys would stay', async () => {
    const annotations = { 'sealedsecrets.bitnami.com/patch': 'true' }
    await expect(custody().seal(cacerts({ annotations }), destination)).rejects.toThrow(/set by custody alone/)
  })

  it('refuses a value that was damaged or moved', async () => {
    const yaml = await custody().seal(cacerts(), destination)
    const key = sealedKey(yaml)
    expect(() => unseal(yaml.replace(key, `${key.slice(0, -8)}AAAAAAA=`), controller.privateKey)).toThrow(
      /does not open/,
    )
    expect(() => unseal(yaml.replace('namespace: istio-system', 'namespace: other'), controller.privateKey)).toThrow(
      /does not open/,
    )
    expect(() => unseal(yaml, rsaPair().privateKey)).toThrow(/does not open/)
  })
})

describe('the sealing certificate', () => {
  const dated = (from: number, to: number) =>
    selfSigned(
      controller.privateKey,
      controller.publicKey,
      new Date(now.getTime() + from * day),
      new Date(now.getTime() + to * day),
    )

  it('is remarked upon when it is older than the controller renews it', () => {
    expect(custody({ certificatePem: dated(-31, 3000) }).remarks.join()).toMatch(/31 days old/)
    expect(custody({ certificatePem: dated(-29, 3000) }).remarks.join()).not.toMatch(/days old/)
  })

  it('is remarked upon when it ends before a rotation can be sure to be through', () => {
    expect(custody({ certificatePem: dated(-1, 59.5) }).remarks.join()).toMatch(/expires in 59 days/)
    expect(custody({ certificatePem: dated(-1, 61) }).remarks.join()).not.toMatch(/expires/)
  })

  it.each([
    ['has expired', () => dated(-60, -1), /expired/],
    [
      'has an EC key',
      () => {
        const { privateKey, publicKey } = ecPair()
        return selfSigned(privateKey, publicKey, now, new Date(now.getTime() + day))
      },
      /RSA key/,
    ],
    ['is no certificate', () => 'x', /cannot be read/],
  ])('is refused when it %s', (_, pem, message) => {
    expect(() => custody({ certificatePem: pem() })).toThrow(message)
  })
})

it('names the command by which a user hands an existing Secret over', () => {
  expect(takeOverCommand(cacerts())).toBe(
    'kubectl --namespace istio-system annotate secret cacerts sealedsecrets.bitnami.com/managed=true sealedsecrets.bitnami.com/patch-',
  )
})
