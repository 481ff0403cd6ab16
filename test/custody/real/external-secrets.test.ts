import { randomBytes } from 'node:crypto'
import { beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { fixturePem } from '../../../phases/fixtures/istio.ts'
import type { PlainSecret } from '../../../src/custody/custody.ts'
import { createExternalSecretsCustody } from '../../../src/custody/external-secrets.ts'
import { valuesAnnotation } from '../../../src/names.ts'
import { ecPair, pem, rsaPair } from '../certificate.ts'
import { cacerts, destination } from '../secrets.ts'
import { rendered, templateProgram } from './template.ts'

// What External Secrets makes of the ExternalSecrets that plan writes: by its own engine of templates, without its controller.

let program: string
beforeAll(() => {
  program = templateProgram()
}, 900_000)

const key = pem(ecPair().privateKey)

async function sealed(secret: PlainSecret) {
  const custody = createExternalSecretsCustody({
    store: 'vault',
    storeKind: 'ClusterSecretStore',
    prefix: 'reanchor/',
    version: '1',
    random: randomBytes,
  })
  const manifest = parse(await custody.seal(secret, destination))
  const stored = new Map(custody.values().map(each => [each.key, each.value]))
  const fetched = manifest.spec.data.map((item: { secretKey: string; remoteRef: { key: string } }) => [
    item.secretKey,
    stored.get(item.remoteRef.key) ?? '',
  ])
  return { manifest, fetched: Object.fromEntries(fetched) as Record<string, string> }
}

const secretOf = (data: Readonly<Record<string, string>> = {}, privateKeys = ['ca-key.pem']) =>
  cacerts({
    data: {
      'ca-cert.pem': fixturePem('new-issuing-eu-1'),
      'root-cert.pem': fixturePem('new-root'),
      'ca-key.pem': key,
      ...data,
    },
    privateKeys,
  })

describe('the engine of External Secrets', () => {
  it.each([
    ['a key of an elliptic curve', key],
    ['a key in PKCS#1', rsaPair().privateKey.export({ type: 'pkcs1', format: 'pem' }).toString()],
    ['a key without a newline at its end', key.trimEnd()],
    ['a key with other ends of lines', key.replaceAll('\n', '\r\n')],
  ])('makes the planned Secret of %s, byte for byte, and marks it as the ExternalSecret says', async (_, value) => {
    const secret = secretOf({ 'ca-key.pem': value })
    const { manifest, fetched } = await sealed(secret)
    const made = rendered(program, manifest.spec.target.template, fetched)
    expect(made.said).toBe('')
    expect(made.secret?.data).toEqual(secret.data)
    expect(made.secret?.labels).toEqual(secret.labels)
    expect(made.secret?.annotations[valuesAnnotation]).toBe(manifest.metadata.annotations[valuesAnnotation])
    expect(made.secret?.annotations[valuesAnnotation]).toMatch(/^ca-key\.pem=[0-9a-f]{64} certificate=[0-9a-f]{64}$/)
  })

  it.each([
    ['another key', () => pem(ecPair().privateKey)],
    ['the key with a blank more', () => `${key} `],
    ['nothing', () => ''],
  ])('makes no Secret of %s, and does not say the value', async (_, other) => {
    const { manifest } = await sealed(secretOf())
    const value = other()
    const made = rendered(program, manifest.spec.target.template, { 'ca-key.pem': value })
    expect(made.secret).toBeNull()
    expect(made.said).toContain('the store holds another value than the one that was planned')
    for (const line of value.split('\n').filter(part => part.length > 20)) expect(made.said).not.toContain(line)
  })

  it('leaves public values as they are, whatever they look like, and odd names of keys', async () => {
    const odd = ['{{ a }}', '{{{ b', '{{"{{"}}', '{{- c -}}', '}} {{', '{{ fail "x" }}', '{{`{{`}}', '\\{{', '']
    const data = Object.fromEntries(odd.map((text, index) => [`k.${index}-_`, text]))
    const secret = secretOf({ ...data, '012': 'a value to seal', a_b: 'another' }, ['ca-key.pem', '012', 'a_b'])
    const { manifest, fetched } = await sealed({ ...secret, annotations: { 'example.com/t': '{{ d }}' } })
    const made = rendered(program, manifest.spec.target.template, fetched)
    expect(made.said).toBe('')
    expect(made.secret?.data).toEqual(secret.data)
    expect(made.secret?.annotations['example.com/t']).toBe('{{ d }}')
  })
})
