import { describe, expect, it } from 'vitest'
import { readGatewayFile, readGatewayTrust, readLoadedCas } from '../../../src/systems/kyma/gateway-envoy.ts'

const pem = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'
const file = { secret: 'kyma-gateway-ca-certs', key: 'ca.crt' }

function secret(name: string, text = pem) {
  const trusted_ca = { inline_bytes: Buffer.from(text).toString('base64') }
  return { name, last_updated: '2026-11-22T06:00:00Z', secret: { name, validation_context: { trusted_ca } } }
}

function dump(active: readonly unknown[], warming: readonly unknown[] = []): string {
  return JSON.stringify({
    configs: [
      {
        '@type': 'type.googleapis.com/envoy.admin.v3.SecretsConfigDump',
        dynamic_active_secrets: active,
        dynamic_warming_secrets: warming,
      },
    ],
  })
}

describe('what Envoy holds for a credential name', () => {
  it.each([
    'kubernetes://kyma-gateway-certs-cacert', // Istio 1.8 and later
    'kyma-gateway-certs-cacert', // the gateway's own agent, to 1.7
  ])('is found under %s', name => {
    const answer = dump([secret('kubernetes://other-cacert', 'x'), secret(name), secret('kyma-gateway-certs', 'y')])
    expect(readGatewayTrust(answer, 'kyma-gateway-certs')).toEqual({ bundles: [pem], warming: false })
  })

  it('is told for each context that asked: answers need not be alike (F14)', () => {
    const name = 'kubernetes://x-cacert'
    const answer = dump([secret(name), secret(name, `${pem}${pem}`)], [{ name }])
    expect(readGatewayTrust(answer, 'x')).toEqual({ bundles: [pem, `${pem}${pem}`], warming: true })
  })

  it.each([
    ['no JSON', '<html>'],
    ['no dump', '{"error": "unknown"}'],
    [
      'a bundle by the name of a file',
      dump([{ name: 'x-cacert', secret: { validation_context: { trusted_ca: { filename: '/ca' } } } }]),
    ],
    [
      'an empty bundle',
      dump([{ name: 'x-cacert', secret: { validation_context: { trusted_ca: { inline_bytes: '' } } } }]),
    ],
    [
      'no base64',
      dump([{ name: 'x-cacert', secret: { validation_context: { trusted_ca: { inline_bytes: '-----BEGIN' } } } }]),
    ],
  ])('is an error where the answer is %s, and never nothing', (_what, answer) => {
    expect(() => readGatewayTrust(answer, 'x')).toThrow('Envoy')
  })
})

describe('what Envoy holds of a CA file', () => {
  it('is told whole where Istio gives it files as secrets (1.8 and later)', () => {
    const answer = dump([
      secret('file-root:/etc/istio/kyma-gateway-ca-certs/ca.crt', `${pem}${pem}`),
      secret('file-root:/etc/istio/other/ca.crt'),
      secret('file-cert:/etc/istio/kyma-gateway-ca-certs/ca.crt'),
    ])
    expect(readGatewayFile(answer, file).bundles).toEqual([`${pem}${pem}`])
    expect(readGatewayFile(dump([]), file).bundles).toEqual([])
  })
})

describe('/certs', () => {
  // As envoy api/envoy/admin/v3/certs.proto has it, names kept and defaults written out.
  const details = (part: Readonly<Record<string, unknown>> = {}) => ({
    path: '/etc/istio/kyma-gateway-ca-certs/ca.crt',
    serial_number: '02',
    subject_alt_names: [],
    days_until_expiration: '12',
    valid_from: '2026-09-03T06:00:00Z',
    expiration_time: '2026-12-04T06:00:00Z',
    ...part,
  })
  const answer = (...cas: readonly unknown[]) =>
    JSON.stringify({ certificates: cas.map(ca => ({ ca_cert: [ca], cert_chain: [details({ path: '<inline>' })] })) })
  const loaded = { serial: '2', notBefore: '2026-09-03T06:00:00Z', notAfter: '2026-12-04T06:00:00Z' }

  it('tells serial number and dates of the first certificate of a file, once for all contexts that have it', () => {
    const other = details({ path: '/etc/certs/root-cert.pem', serial_number: 'aa' })
    expect(readLoadedCas(answer(details(), other, details()), file)).toEqual([loaded])
  })

  it('tells several where contexts from before and after a change live side by side', () => {
    expect(readLoadedCas(answer(details(), details({ serial_number: '0a1b' })), file)).toEqual([
      loaded,
      { ...loaded, serial: 'a1b' },
    ])
  })

  it('is told apart by its dates where the serial number is the same: the setup job gives 2 to every CA', () => {
    const again = details({ valid_from: '2026-11-22T06:00:00Z' })
    expect(readLoadedCas(answer(details(), again), file)).toHaveLength(2)
  })

  it('is read without dates from an Envoy that tells none, and as the text that it was up to 1.8', () => {
    const { valid_from: _from, expiration_time: _until, ...early } = details()
    const plain = { serial: '2', notBefore: null, notAfter: null }
    expect(readLoadedCas(answer(early), file)).toEqual([plain])
    const text = (path: string, serial: string) =>
      `{\n\t"ca_cert": "Certificate Path: ${path}, Serial Number: ${serial}, Days until Expiration: 12",\n\t"cert_chain": ""\n}\n`
    const whole = text('/etc/certs/root-cert.pem', 'aa') + text('/etc/istio/kyma-gateway-ca-certs/ca.crt', '02')
    expect(readLoadedCas(whole, file)).toEqual([plain])
  })

  it.each([
    ['no JSON', '<html>'],
    ['no list', '{"certificates": {}}'],
    ['a CA that is no list', '{"certificates": [{"ca_cert": "AAAA"}]}'],
    ['a date that is none', answer(details({ valid_from: 'soon' }))],
    ['a serial number that is none', answer(details({ serial_number: 'first' }))],
  ])('is an error where the answer is %s, and never nothing', (_what, text) => {
    expect(() => readLoadedCas(text, file)).toThrow('Envoy')
  })
})
