import { generateKeyPairSync } from 'node:crypto'
import { beforeAll, describe, expect, it } from 'vitest'
import { createIssuing, createLeaf, createRoot, systemKeys } from '../../../src/pki/authority.ts'
import { checksJson, checksText, type IdentityView, identityChecks } from '../../../src/systems/linkerd/checks.ts'
import { acceptLinkerdCa, createLinkerdRoot, type LinkerdIssuer } from '../../../src/systems/linkerd/next-ca.ts'
import { linkerdVersion, refuseFlow, rulesOf } from '../../../src/systems/linkerd/version.ts'
import { linkerdCa, means, names, now } from './material.ts'

let old: LinkerdIssuer
let next: LinkerdIssuer
let aged: LinkerdIssuer

const seeds = rulesOf(linkerdVersion('stable-2.7.1'))
const modern = rulesOf(linkerdVersion('stable-2.14.10'))

beforeAll(async () => {
  ;[old, next, aged] = await Promise.all([
    linkerdCa('CN=root.linkerd.cluster.local', new Date('2026-02-01T00:00:00Z')),
    linkerdCa('CN=new'),
    // Made so that it ends in the middle of what the runbook shows.
    linkerdCa('CN=identity.linkerd.cluster.local', new Date('2025-12-20T09:11:30Z'), 365),
  ])
})

function view(more: Partial<IdentityView> = {}): IdentityView {
  return {
    now,
    rules: seeds,
    configProblem: null,
    anchors: [old.root],
    issuer: old.issuer,
    chain: [],
    pods: [{ name: 'emojivoto/web-1', anchors: [old.root.sha256] }],
    ...more,
  }
}

describe('the nine identity checks', () => {
  it('say word for word what runbook 002 shows where all is well', () => {
    expect(checksText(identityChecks(view()))).toBe(`linkerd-identity
----------------
√ certificate config is valid
√ trust roots are using supported crypto algorithm
√ trust roots are within their validity period
√ trust roots are valid for at least 60 days
√ issuer cert is using supported crypto algorithm
√ issuer cert is within its validity period
√ issuer cert is valid for at least 60 days
√ issuer cert is issued by the trust root

linkerd-identity-data-plane
---------------------------
√ data plane proxies certificate match CA
`)
  })

  it('have the marks of linkerd check: U+221A, U+203C and U+00D7, and one space before “for hints” (trap 17)', () => {
    const text = checksText(
      identityChecks(view({ configProblem: 'no key', pods: [{ name: 'emojivoto/web-1', anchors: null }] })),
    )
    expect(text).toContain(
      '\u00d7 certificate config is valid\n    no key\n    see https://linkerd.io/checks/#l5d-identity-cert-config-valid for hints\n',
    )
    expect(text).toContain('\u203c data plane proxies certificate match CA\n    Some pods do not have')
    expect(checksText(identityChecks(view()))).toContain('\u221a certificate config is valid\n')
    // Nothing is judged from the text: the JSON of linkerd check has the same.
    expect(checksJson(identityChecks(view({ configProblem: 'no key' })))).toMatchObject({ success: false })
  })

  it('call roots anchors from 2.8 on, in texts and hints', () => {
    const checks = identityChecks(view({ rules: modern }))
    expect(checks.map(check => check.description)).toEqual([
      'certificate config is valid',
      'trust anchors are using supported crypto algorithm',
      'trust anchors are within their validity period',
      'trust anchors are valid for at least 60 days',
      'issuer cert is using supported crypto algorithm',
      'issuer cert is within its validity period',
      'issuer cert is valid for at least 60 days',
      'issuer cert is issued by the trust anchor',
      'data plane proxies certificate match CA',
    ])
    expect(checks.map(check => check.hint.replace('https://linkerd.io/checks/#', ''))).toEqual([
      'l5d-identity-cert-config-valid',
      'l5d-identity-trustAnchors-use-supported-crypto',
      'l5d-identity-trustAnchors-are-time-valid',
      'l5d-identity-trustAnchors-not-expiring-soon',
      'l5d-identity-issuer-cert-uses-supported-crypto',
      'l5d-identity-issuer-cert-is-time-valid',
      'l5d-identity-issuer-cert-not-expiring-soon',
      'l5d-identity-issuer-cert-issued-by-trust-anchor',
      'l5d-identity-data-plane-proxies-certs-match-ca',
    ])
    expect(identityChecks(view())[1]?.hint).toBe('https://linkerd.io/checks/#l5d-identity-roots-use-supported-crypto')
  })

  it('warn of pods that have another set of anchors, with their names as the runbook lists them', () => {
    const pods = [
      { name: 'emojivoto/emoji-d8d7d9c6b-8qwfx', anchors: [old.root.sha256] },
      { name: 'linkerd/linkerd-sp-validator-75f9d96dc-rch4x', anchors: [old.root.sha256] },
      { name: 'emojivoto/web-1', anchors: [old.root.sha256, next.root.sha256] },
    ]
    const check = identityChecks(view({ anchors: [next.root, old.root], pods })).at(-1)
    expect(check?.result).toBe('warning')
    expect(checksText([check as NonNullable<typeof check>])).toContain(`‼ data plane proxies certificate match CA
    Some pods do not have the current trust bundle and must be restarted:
        * emojivoto/emoji-d8d7d9c6b-8qwfx
        * linkerd/linkerd-sp-validator-75f9d96dc-rch4x
    see https://linkerd.io/checks/#l5d-identity-data-plane-proxies-certs-match-ca for hints
`)
  })

  it('compare sets: another order or a repeat is no reason to restart a pod', () => {
    const anchors = [next.root.sha256, old.root.sha256, next.root.sha256]
    const checks = identityChecks(view({ anchors: [old.root, next.root], pods: [{ name: 'a/b', anchors }] }))
    expect(checks.at(-1)?.result).toBe('success')
  })

  it('tell an expired issuer from an expired root, in the words of the runbook, and stop there (trap 16)', () => {
    const later = new Date('2026-12-20T09:11:31Z')
    const issuer = identityChecks(view({ now: later, issuer: aged.issuer }))
    expect(issuer.at(-2)?.result).toBe('error')
    expect(checksText(issuer)).toContain(`× issuer cert is within its validity period
    issuer certificate is not valid anymore. Expired on ${aged.issuer.notAfter}
    see https://linkerd.io/checks/#l5d-identity-issuer-cert-is-time-valid for hints
`)
    const root = identityChecks(view({ now: later, anchors: [aged.root], issuer: aged.issuer }))
    expect(checksText(root)).toContain(`× trust roots are within their validity period
    Invalid roots:
        * ${BigInt(`0x${aged.root.serial}`)} identity.linkerd.cluster.local not valid anymore. Expired on ${aged.root.notAfter}
    see https://linkerd.io/checks/#l5d-identity-roots-are-time-valid for hints
`)
    expect(root.map(check => check.description)).not.toContain('issuer cert is using supported crypto algorithm')
  })

  it('warn, and do not fail, where the issuer ends within 60 days (trap 14)', () => {
    const soon = new Date(Date.parse(aged.issuer.notAfter) - 59 * 86_400_000)
    const check = identityChecks(view({ now: soon, issuer: aged.issuer })).find(each => each.result !== 'success')
    expect([check?.result, check?.error]).toEqual([
      'warning',
      `issuer certificate will expire on ${aged.issuer.notAfter}`,
    ])
  })

  it.each([
    ['2.7', seeds, 'roots', 'Roots expiring soon:', 'Invalid roots:', 'Invalid roots:'],
    ['2.14', modern, 'anchors', 'Anchors expiring soon:', 'Invalid anchors:', 'Invalid trustAnchors:'],
  ] as const)(
    'head what is wrong with anchors in the words of %s',
    async (_version, rules, words, soon, period, crypto) => {
      const end = Date.parse(aged.root.notAfter)
      const of = (more: Partial<IdentityView>, from: string) =>
        identityChecks(view({ rules, anchors: [aged.root], issuer: aged.issuer, ...more })).find(
          ({ description }) => description === `trust ${words} ${from}`,
        )?.error
      const row = `    * ${BigInt(`0x${aged.root.serial}`)} identity.linkerd.cluster.local`
      expect(of({ now: new Date(end - 59 * 86_400_000) }, 'are valid for at least 60 days')).toBe(
        `${soon}\n${row} will expire on ${aged.root.notAfter}`,
      )
      expect(of({ now: new Date(end + 1000) }, 'are within their validity period')).toMatch(period)
      const early = new Date(Date.parse(aged.root.notBefore) - 1000)
      expect(of({ now: early }, 'are within their validity period')).toBe(
        `${period}\n${row} not valid before: ${aged.root.notBefore}`,
      )
      const key = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey
      const dates = { notBefore: new Date(now.getTime() - 86_400_000), notAfter: new Date(now.getTime() + 86_400_000) }
      const strong = await createRoot({ subject: 'CN=strong', key, serial: '31', ...dates })
      expect(of({ anchors: [strong] }, 'are using supported crypto algorithm')).toBe(
        `${crypto}\n    * 49 strong must use P-256 curve for public key, instead P-384 was used`,
      )
      const issuer = await createIssuing({
        subject: 'CN=identity.linkerd.cluster.local',
        key: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
        issuer: { certificate: strong, key },
        dns: [],
        serial: '32',
        ...dates,
      })
      const checks = identityChecks(view({ rules, anchors: [old.root], issuer }))
      expect(checks.find(({ result }) => result === 'error')?.error).toBe(
        'issuer certificate must be signed by an ECDSA P-256 key, instead ECDSA-SHA384 was used',
      )
    },
  )

  it('are held up front: an issuer that is no CA is refused in linkerd’s words, as identity would not start with it', async () => {
    const rootKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
    const dates = { notBefore: new Date(now.getTime() - 86_400_000), notAfter: new Date(now.getTime() + 86_400_000) }
    const root = await createRoot({ subject: 'CN=root', key: rootKey, serial: '41', ...dates })
    const leaf = await createLeaf({
      key: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
      issuer: { certificate: root, key: rootKey },
      dns: ['identity.linkerd.cluster.local'],
      serial: '42',
      ...dates,
    })
    expect(() => acceptLinkerdCa({ root, issuer: leaf }, names, modern)).toThrow('issuer cert is not a CA')
  })

  it('see an issuer that no anchor verifies', () => {
    const check = identityChecks(view({ anchors: [next.root], pods: [] })).find(each => each.result === 'error')
    expect([check?.description, check?.error]).toEqual([
      'issuer cert is issued by the trust root',
      'x509: certificate signed by unknown authority',
    ])
  })

  it('give the JSON of linkerd check: hint and error only where something is wrong', () => {
    const json = checksJson(identityChecks(view())) as { success: boolean; categories: { checks: object[] }[] }
    expect(json.success).toBe(true)
    expect(json.categories.map(each => each.checks.length)).toEqual([8, 1])
    expect(json.categories[0]?.checks[0]).toEqual({ description: 'certificate config is valid', result: 'success' })
  })
})

describe('algorithms by version', () => {
  it('refuse an RSA root before 2.12 and take it from then on, with the issuer P-256 in any case', async () => {
    const keys = { generate: async () => await systemKeys.generate('rsa-2048') }
    const rsa = await createLinkerdRoot(
      { subject: 'CN=rsa', algorithm: 'rsa-4096', validityDays: 100 },
      { ...means, keys },
    )
    expect(() => acceptLinkerdCa({ root: rsa.certificate, issuer: next.issuer }, names, seeds)).toThrow(
      'trust anchor must use ECDSA for public key algorithm, instead RSA was used',
    )
    expect(() => acceptLinkerdCa({ root: rsa.certificate, issuer: next.issuer }, names, modern)).not.toThrow()
    expect(() => acceptLinkerdCa({ root: next.root, issuer: rsa.certificate }, names, modern)).toThrow(
      'issuer certificate must use ECDSA for public key algorithm, instead RSA was used',
    )
  })

  it('refuse P-384 by its name, and an issuer without its DNS name where identity verifies it', async () => {
    const wide = await createLinkerdRoot({ subject: 'CN=wide', algorithm: 'ecdsa-p384', validityDays: 100 }, means)
    expect(() => acceptLinkerdCa({ root: wide.certificate, issuer: next.issuer }, names, modern)).toThrow(
      'must use P-256 curve for public key, instead P-384 was used',
    )
    const other = { ...names, namespace: 'mesh' }
    expect(() => acceptLinkerdCa(next, other, seeds)).toThrow(/not for identity\.mesh\.cluster\.local/)
    expect(() => acceptLinkerdCa(next, other, modern)).not.toThrow()
  })

  it('let a flow be only where its objects exist, and before 2.7 none (trap 18)', () => {
    const refused =
      (flow: Parameters<typeof refuseFlow>[0], version: string, chart = false) =>
      () =>
        refuseFlow(flow, linkerdVersion(version), chart)
    // 2.9 and 2.10 have the anchors in an argument of identity too, which only the chart sets.
    expect(refused('upgrade', 'stable-2.10.2')).toThrow(/anchors have left/)
    expect(refused('upgrade', 'stable-2.10.2', true)).not.toThrow()
    expect(refused('upgrade', 'stable-2.11.0', true)).toThrow(/choose trust-roots/)
    expect(refused('config-map', 'stable-2.9.4', true)).toThrow(/anchors have left/)
    expect(refused('trust-roots', 'stable-2.11.0')).not.toThrow()
    expect(refused('trust-roots', 'edge-26.8.1')).not.toThrow()
    expect(refused('upgrade', 'stable-2.7.1')).not.toThrow()
    expect(refused('config-map', 'stable-2.8.1')).not.toThrow()
    expect(refused('trust-roots', 'stable-2.8.1')).toThrow(/choose upgrade or config-map/)
    expect(refused('config-map', 'stable-2.14.10')).toThrow(/choose trust-roots/)
    expect(refused('upgrade', 'stable-2.6.0')).toThrow(/reads its issuer only at its start/)
  })
})
