import { createHash, createPrivateKey, createPublicKey, randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { fixturePem } from '../../phases/fixtures/istio.ts'
import type { Custody } from '../../src/custody/custody.ts'
import { createExternalSecretsCustody, readExternalSecret } from '../../src/custody/external-secrets.ts'
import { findPrivateKeys } from '../../src/custody/leak.ts'
import { readRemoteReference } from '../../src/custody/remote-value.ts'
import { createSealedSecretsCustody } from '../../src/custody/sealed-secrets.ts'
import { createSopsCustody } from '../../src/custody/sops.ts'
import { canaryName, valuesAnnotation } from '../../src/names.ts'
import { readTrustPlaces } from '../../src/report/trust-places.ts'
import { istio } from '../../src/systems/istio/system.ts'
import { ecPair, pem, rsaPair, selfSigned } from './certificate.ts'
import { ageKey, cacerts, destination, now } from './secrets.ts'

const sha256 = (content: string | Buffer) => createHash('sha256').update(content).digest('hex')
const pair = ecPair()
const key = pem(pair.privateKey)
const certificate = selfSigned(pair.privateKey, pair.publicKey, now, new Date(now.getTime() + 1e11))
const spki = createPublicKey(createPrivateKey(key)).export({ type: 'spki', format: 'der' })
const secret = (data: Readonly<Record<string, string>> = {}) =>
  cacerts({ data: { ...cacerts().data, 'ca-key.pem': key, 'ca-cert.pem': certificate, ...data } })

function custody(keep: readonly { destination: string; yaml: string }[] = [], prefix = 'reanchor/mesh-2026-eu-1-') {
  return createExternalSecretsCustody({
    store: 'vault',
    storeKind: 'ClusterSecretStore',
    prefix,
    version: '1',
    random: randomBytes,
    keep,
  })
}

const reference = (yaml: string) => readExternalSecret(yaml).sealed['ca-key.pem'] ?? ''

describe('a Secret whose private values lie in a store', () => {
  it('is an ExternalSecret that names the value by the digest of its public key, and pins the version', async () => {
    const sealing = custody()
    const yaml = await sealing.seal(secret(), destination)
    expect(findPrivateKeys(yaml)).toEqual([])
    const name = `reanchor/mesh-2026-eu-1-cacerts-${sha256(spki).slice(0, 32)}`
    const { spec, metadata } = parse(yaml)
    expect(spec.data).toEqual([
      { secretKey: 'ca-key.pem', remoteRef: expect.objectContaining({ key: name, property: 'value', version: '1' }) },
    ])
    expect(spec).toMatchObject({
      secretStoreRef: { kind: 'ClusterSecretStore', name: 'vault' },
      target: { name: 'cacerts', creationPolicy: 'Orphan', deletionPolicy: 'Retain' },
    })
    expect(spec.target.template.data['root-cert.pem']).toBe('old\n')
    const der = Buffer.from(certificate.replaceAll(/-----.*-----|\s/g, ''), 'base64')
    expect(metadata.annotations[valuesAnnotation]).toBe(`ca-key.pem=${sha256(key)} certificate=${sha256(der)}`)
    expect(sealing.values()).toEqual([{ key: name, property: 'value', version: '1', sha256: sha256(key), value: key }])
  })

  it('has a template that writes the value only if it is the planned one', async () => {
    const { spec } = parse(await custody().seal(secret(), destination))
    expect(spec.target.template.data['ca-key.pem']).toMatch(
      new RegExp(`^{{ if eq \\(index \\. "ca-key\\.pem" \\| sha256sum\\) "${sha256(key)}" }}.*{{ fail `),
    )
    expect(spec.target.template.metadata.annotations[valuesAnnotation]).toContain(
      '{{ index . "ca-key.pem" | sha256sum }}',
    )
  })

  it('leaves what looks like a template in a public value as it is', async () => {
    const text = 'a {{ template }} and {{{ more'
    const yaml = await custody().seal(secret({ 'cert-chain.pem': text }), destination)
    expect(parse(yaml).spec.target.template.data['cert-chain.pem']).not.toBe(text)
    expect(readExternalSecret(yaml).data['cert-chain.pem']).toBe(text)
  })

  it('refers to an equal value by the same name in every step, and to another by another', async () => {
    const sealing = custody()
    const first = await sealing.seal(secret(), destination)
    const both = await sealing.seal(secret({ 'root-cert.pem': 'old\nnew\n' }), destination)
    expect(reference(both)).toBe(reference(first))
    const other = await sealing.seal(secret({ 'ca-key.pem': pem(ecPair().privateKey) }), destination)
    expect(reference(other)).not.toBe(reference(first))
    expect(sealing.values()).toHaveLength(2)
  })

  it('takes a value of an earlier plan over by its reference, or by its digest, and asks nobody to put it again', async () => {
    const yaml = await custody().seal(secret(), destination)
    const later = custody([{ destination, yaml }], 'reanchor/mesh-2027-eu-1-')
    expect(reference(await later.seal(secret({ 'ca-key.pem': reference(yaml) }), destination))).toBe(reference(yaml))
    expect(reference(await later.seal(secret(), destination))).toBe(reference(yaml))
    expect(later.values()).toEqual([])
  })

  it('tells no digest of a value that may be guessed, but of the canary and of keys', async () => {
    const sealing = custody()
    const password = cacerts({ data: { password: 'changeit' }, privateKeys: ['password'] })
    const yaml = await sealing.seal(password, destination)
    expect(yaml).not.toContain(sha256('changeit'))
    expect(yaml).not.toContain('sha256sum')
    expect(readRemoteReference(readExternalSecret(yaml).sealed.password ?? '').sha256).toBeNull()
    const canary = cacerts({ name: canaryName, data: { canary: 'x'.repeat(24) }, privateKeys: ['canary'] })
    expect(await sealing.seal(canary, destination)).toContain(sha256('x'.repeat(24)))
  })

  it('gives the same key in two forms two names, since a name holds one value', async () => {
    const rsa = rsaPair().privateKey
    const forms = (['pkcs1', 'pkcs8'] as const).map(type => rsa.export({ type, format: 'pem' }).toString())
    const sealing = custody()
    for (const form of forms) await sealing.seal(secret({ 'ca-key.pem': form }), destination)
    expect(new Set(sealing.values().map(stored => stored.key)).size).toBe(2)
    expect(sealing.values().map(stored => stored.value)).toEqual(forms)
  })

  it('refuses marks that are the controller’s to set', async () => {
    const annotations = { 'reconcile.external-secrets.io/data-hash': 'x' }
    await expect(custody().seal({ ...secret(), annotations }, destination)).rejects.toThrow(/set by custody/)
  })

  it('refuses to read what it did not write', () => {
    expect(() => readExternalSecret('kind: Secret\n', 'a.yaml')).toThrow(
      /a\.yaml.*no ExternalSecret that reanchor wrote/,
    )
    const bare =
      'kind: ExternalSecret\nmetadata: {name: a, namespace: b}\nspec: {data: [{secretKey: k, remoteRef: {key: x}}]}\n'
    expect(() => readExternalSecret(bare)).toThrow(/a key, a property and a version/)
  })
})

describe('what a change of trust is read from', () => {
  const [root, issuing] = ['new-root', 'new-issuing-eu-1'].map(fixturePem)
  const plain = secret({
    'root-cert.pem': root ?? '',
    'ca-cert.pem': issuing ?? '',
    'cert-chain.pem': issuing ?? '',
  })
  const controller = rsaPair()
  const sealing = selfSigned(controller.privateKey, controller.publicKey, now, new Date(now.getTime() + 1e10))

  it('has the same places whichever custody delivers the Secret, and Istio’s declared state is the same', async () => {
    const age = await ageKey()
    const custodies: readonly Custody[] = [
      createSopsCustody({ recipients: [age.recipient], now, random: randomBytes }),
      createSealedSecretsCustody({ certificatePem: sealing, scope: 'strict', random: randomBytes, now }),
      custody(),
    ]
    for (const each of custodies) {
      const places = readTrustPlaces(destination, await each.seal(plain, destination))
      const told = places.map(({ key, role, certificates, sealed }) => [
        key,
        role,
        certificates.length,
        sealed !== null,
      ])
      expect(told.sort(), each.kind).toEqual([
        ['ca-cert.pem', 'issuer', 1, false],
        ['ca-key.pem', 'key', 0, true],
        ['cert-chain.pem', 'chain', 1, false],
        ['root-cert.pem', 'trusted', 1, false],
      ])
      const [, , , trusted] = told.map(([key]) => places.find(place => place.key === key))
      expect(istio.declaredState(places, null)).toMatchObject({
        bundle: trusted?.certificates.map(facts => facts.sha256),
        source: 'plugged',
      })
    }
  })
})
