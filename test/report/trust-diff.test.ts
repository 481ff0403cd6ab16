import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { textconv } from '../../src/report/textconv.ts'
import { describeChange, trustDiffMarkdown, trustDiffText } from '../../src/report/trust-diff.ts'
import { cacerts } from '../safety/folders.ts'
import { authority, newKeys } from '../safety/material.ts'
import { newRoot, oldRoot } from './runbook.ts'

const secret = (issuer: string, bundle: string, key = 'ENC[AES256_GCM,data:old]'): string =>
  cacerts({ 'ca-cert.pem': issuer, 'cert-chain.pem': issuer, 'root-cert.pem': bundle }, key)
const path = 'trust/eu-1/cacerts.yaml'
const old = { [path]: secret(oldRoot.pem, oldRoot.pem) }
const both = { [path]: secret(oldRoot.pem, oldRoot.pem + newRoot.pem) }
const issue = { [path]: secret(newRoot.pem, oldRoot.pem + newRoot.pem + newRoot.pem, 'ENC[AES256_GCM,data:new]') }
const only = { [path]: secret(newRoot.pem, newRoot.pem, 'ENC[AES256_GCM,data:new]') }

describe("the runbook's two roots", () => {
  it('are named as what they are when the new one is added', async () => {
    const change = describeChange(old, both)
    expect(change.places).toHaveLength(1)
    expect(change.places[0]).toMatchObject({
      object: 'Secret istio-system/cacerts',
      key: 'root-cert.pem',
      role: 'trusted',
      setChanged: true,
      orderChanged: false,
    })
    expect(change.places[0]?.certificates.map(certificate => [certificate.fate, certificate.sha256])).toEqual([
      ['kept', oldRoot.sha256],
      ['added', newRoot.sha256],
    ])
    await expect(trustDiffText(change)).toMatchFileSnapshot('golden/diff-trust-both.txt')
    await expect(trustDiffMarkdown(change)).toMatchFileSnapshot('golden/diff-trust-both.md')
  })

  it('show the switch of the issuer, the repeat and the sealed key', async () => {
    const change = describeChange(both, issue)
    expect(change.places.map(place => [place.key, place.sealed])).toEqual([
      ['ca-cert.pem', null],
      ['cert-chain.pem', null],
      ['root-cert.pem', null],
      ['ca-key.pem', 'changed'],
    ])
    expect(change.places[2]).toMatchObject({ setChanged: false })
    await expect(trustDiffText(change)).toMatchFileSnapshot('golden/diff-issue-new.txt')
  })

  it('say who is refused when the old one goes', () => {
    expect(describeChange(issue, only).affected[0]).toBe(
      `Whoever still presents a certificate that chains only to \`${oldRoot.subject}\` (${oldRoot.sha256.slice(0, 12)}) is refused by all that read this bundle.`,
    )
  })
})

describe('where trust may stand', () => {
  const pem = oldRoot.pem + newRoot.pem
  const json = JSON.stringify({ identityContext: { trustAnchorsPem: pem } })
  it.each([
    ['a PEM file', 'ca/root.pem', pem, oldRoot.pem],
    [
      'stringData of a Secret',
      'a.yaml',
      `kind: Secret\nstringData:\n  ca.crt: ${JSON.stringify(pem)}\n`,
      `kind: Secret\nstringData:\n  ca.crt: ${JSON.stringify(oldRoot.pem)}\n`,
    ],
    [
      'a ConfigMap',
      'a.yaml',
      `kind: ConfigMap\ndata:\n  ca.crt: ${JSON.stringify(pem)}\n`,
      `kind: ConfigMap\ndata:\n  ca.crt: ${JSON.stringify(oldRoot.pem)}\n`,
    ],
    [
      'JSON in a ConfigMap',
      'a.yaml',
      `kind: ConfigMap\ndata:\n  global: ${JSON.stringify(json)}\n`,
      `kind: ConfigMap\ndata:\n  global: ${JSON.stringify(JSON.stringify({ identityContext: { trustAnchorsPem: oldRoot.pem } }))}\n`,
    ],
    [
      'values of a HelmRelease',
      'a.yaml',
      `kind: HelmRelease\nspec:\n  values:\n    identityTrustAnchorsPEM: ${JSON.stringify(pem)}\n`,
      `kind: HelmRelease\nspec:\n  values:\n    identityTrustAnchorsPEM: ${JSON.stringify(oldRoot.pem)}\n`,
    ],
    [
      'values as text in a ConfigMap',
      'a.yaml',
      `kind: ConfigMap\ndata:\n  values.yaml: ${JSON.stringify(`a:\n  pem: |\n    ${pem.replaceAll('\n', '\n    ')}\n`)}\n`,
      `kind: ConfigMap\ndata:\n  values.yaml: ${JSON.stringify(`a:\n  pem: |\n    ${oldRoot.pem.replaceAll('\n', '\n    ')}\n`)}\n`,
    ],
  ])('finds it in %s', (_, file, after, before) => {
    const change = describeChange({ [file]: before }, { [file]: after })
    expect(
      change.places.map(place => place.certificates.map(certificate => [certificate.fate, certificate.sha256])),
    ).toEqual([
      [
        ['kept', oldRoot.sha256],
        ['added', newRoot.sha256],
      ],
    ])
  })

  it('tells a sealed value only as sealed', () => {
    const sealed = (value: string): string =>
      `kind: SealedSecret\nmetadata: {name: cacerts}\nspec:\n  encryptedData:\n    ca-key.pem: ${value}\n    root-cert.pem: same\n`
    const change = describeChange({ 'a.yaml': sealed('AgA1') }, { 'a.yaml': sealed('AgA2') })
    expect(change.places.map(place => [place.key, place.sealed])).toEqual([['ca-key.pem', 'changed']])
  })

  it('is silent about what holds none, and about a YAML bomb', () => {
    const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\n${[...'bcdefghij'].map((name, index) => `${name}: &${name} [${Array.from({ length: 9 }, () => `*${'abcdefghij'[index]}`).join(',')}]`).join('\n')}\npem: ${JSON.stringify(oldRoot.pem)}\n`
    expect(describeChange({}, { 'README.md': 'x', 'bomb.yaml': bomb }).none).toBe(true)
  })
})

describe('what is easy to overlook', () => {
  it('names a root of the same subject and another key (F8), and one of the same key (F7)', async () => {
    const keys = await newKeys()
    const one = await authority({ subject: 'O=same', keys })
    const twin = await authority({ subject: 'O=same' })
    const renewed = await authority({ subject: 'O=same', keys })
    const remarks = (next: string): readonly string[] =>
      describeChange({ 'a.pem': one.facts.pem }, { 'a.pem': one.facts.pem + next }).places[0]?.certificates.find(
        certificate => certificate.fate === 'added',
      )?.remarks ?? []
    expect(remarks(twin.facts.pem)[0]).toContain('same subject as')
    expect(remarks(renewed.facts.pem)[0]).toContain('a renewal, not a new CA')
  })

  it('names a changed order, and a block that cannot be read', () => {
    const change = describeChange({ 'a.pem': oldRoot.pem + newRoot.pem }, { 'a.pem': newRoot.pem + oldRoot.pem })
    expect(change.places[0]).toMatchObject({ setChanged: false, orderChanged: true })
    const cut = describeChange({ 'a.pem': oldRoot.pem }, { 'a.pem': oldRoot.pem + newRoot.pem.slice(0, 400) })
    expect(cut.places[0]?.problems).toEqual(['certificate 2 cannot be read: its END line is missing'])
  })

  it('keeps a subject from breaking out of its cell or its line', async () => {
    const evil = await authority({ subject: 'CN=a`|<img src=x> @team #1 \u202e[x](http://e)\\, O=b' })
    const change = describeChange({}, { 'a.pem': evil.facts.pem })
    const row =
      trustDiffMarkdown(change)
        .split('\n')
        .find(line => line.includes(evil.facts.sha256)) ?? ''
    expect(row.split('|')).toHaveLength(8)
    expect(row.replace(/`[^`]*`/g, '')).not.toMatch(/[<@#[]/)
    expect(trustDiffText(change)).not.toContain('\u202e')
  })

  it('tells a thousand sites that change alike once', () => {
    const sites = (text: string): Record<string, string> =>
      Object.fromEntries(Array.from({ length: 1000 }, (_, index) => [`trust/s-${index}/root-cert.pem`, text]))
    const text = trustDiffMarkdown(describeChange(sites(oldRoot.pem), sites(oldRoot.pem + newRoot.pem)))
    expect(text).toContain('and 997 more places')
    expect(text.length).toBeLessThan(2000)
  })
})

describe('as a git textconv', () => {
  it('shows each certificate of a bundle, and a Secret with its sealed values by digest', async () => {
    await expect(textconv(oldRoot.pem + newRoot.pem, 'root-cert.pem')).toMatchFileSnapshot('golden/textconv-bundle.txt')
    await expect(textconv(both[path] ?? '', path)).toMatchFileSnapshot('golden/textconv-secret.txt')
  })

  it('leaves other files as they are, and never shows a private key', () => {
    expect(textconv('hello\n', 'README.md')).toBe('hello\n')
    const key = '-----BEGIN PRIVATE KEY-----\nMIGHAgEAsecret\n-----END PRIVATE KEY-----\n'
    for (const [text, file] of [
      [key, 'a.pem'],
      [`kind: Secret\nstringData:\n  tls.key: |\n    ${key.replaceAll('\n', '\n    ')}\n`, 'a.yaml'],
      [`kind: Secret\ndata:\n  tls.key: ${Buffer.from(key).toString('base64')}\n`, 'a.yaml'],
    ] as const) {
      const shown = textconv(text, file)
      expect(shown).toContain('a private key stands here in the clear')
      expect(shown).not.toContain('MIGHAgEAsecret')
      expect(shown).not.toContain(Buffer.from(key).toString('base64').slice(0, 40))
    }
  })
})

/** What a pull request that enters a step says of who is affected, from what `output/` holds of two neighbouring steps. */
function rendered(rotation: string, from: string, to: string): ReturnType<typeof describeChange> {
  const folder = (step: string) =>
    Object.fromEntries(
      readdirSync(`output/${rotation}/${step}/eu-1`, { recursive: true, encoding: 'utf8' })
        .filter(name => /\.(pem|yaml)$/.test(name))
        .map(name => [`trust/eu-1/${name}`, readFileSync(`output/${rotation}/${step}/eu-1/${name}`, 'utf8')] as const),
    )
  return describeChange(folder(from), folder(to))
}

const rolesOf = (change: ReturnType<typeof describeChange>): Record<string, string> =>
  Object.fromEntries(
    change.places
      .filter(place => place.sealed === null)
      .map(place => [`${place.file.slice(11)}:${place.key}`, place.role]),
  )

describe('what a certificate is for', () => {
  it('a CA of Cassandra that changes places within one bundle is not said to lose trust, but to sign; one that leaves it is', () => {
    const swap = rendered('cassandra-graceful', '1-add/1-data', '2-swap/1-data')
    expect(swap.affected).toEqual([
      expect.stringMatching(/^New leaves are signed by .* instead of .*: every peer must trust its root already\.$/),
      'The sealed private key of the CA changes.',
      expect.stringMatching(
        /^`.*`.* and `.*`.* only change places within one bundle: who trusts it goes on trusting them\.$/,
      ),
    ])
    expect(rolesOf(swap)).toMatchObject({ 'ca-secret.yaml:ca.crt': 'issuer', 'ca.crt.pem:null': 'issuer' })
    const drop = rendered('cassandra-graceful', '2-swap/1-data', '3-drop/1-data')
    expect(drop.affected.join('\n')).toContain('is refused by all that read this bundle')
  })

  it.each([
    [
      '1-add/1-data',
      '3-drop/1-data',
      /only to `(?!.*2026).*` \(\w+\) is refused/,
      /^`.*2026` \(\w+\) only changes its place/,
    ],
    [
      '2-swap/1-data',
      '0-adopt/1-adopt',
      /only to `.*2026` \(\w+\) is refused/,
      /^`(?!.*2026).*` \(\w+\) only changes its place/,
    ],
  ])(
    'a CA of Cassandra that stops to sign and stands nowhere else is refused, though another changes its place (%s to %s)',
    (from, to, gone, moved) => {
      const { affected } = rendered('cassandra-graceful', from, to)
      expect(affected[0]).toMatch(gone)
      expect(affected).toContainEqual(expect.stringMatching(moved))
    },
  )

  it("an issuer of Linkerd is no bundle: nobody is refused when it changes, and its chart's values are read place by place", () => {
    const issuing = rendered('linkerd-graceful-trust-roots', '1-trust-both/3-data-plane', '2-issue-new/1-data')
    expect(rolesOf(issuing)).toEqual({ 'issuer.pem:null': 'issuer', 'issuer.yaml:crt.pem': 'issuer' })
    expect(issuing.affected.join('\n')).not.toMatch(/refused|accept/)
    expect(issuing.affected).toContain('The sealed private key of the CA changes.')
    const both = rendered('linkerd-graceful-trust-roots', '0-adopt/1-adopt', '1-trust-both/1-data')
    expect(rolesOf(both)).toMatchObject({
      'components/control-plane/linkerd-config.yaml:values.identityTrustAnchorsPEM': 'trusted',
      'components/control-plane/trust-roots.yaml:ca-bundle.crt': 'trusted',
      'anchors.pem:null': 'trusted',
    })
    expect(both.affected).toEqual([expect.stringContaining('nobody loses trust')])
  })

  it("the CA that Kyma's connector signs with is no bundle either", () => {
    const issuing = rendered('kyma-graceful', '1-trust-both/1-data', '2-issue-new/1-data')
    expect(rolesOf(issuing)).toEqual({ 'connector-ca.pem:null': 'issuer', 'connector-ca.yaml:ca.crt': 'issuer' })
    expect(issuing.affected.join('\n')).not.toMatch(/refused|accept/)
  })

  it('a renewed CA that goes refuses nobody: the other has the same key and subject', () => {
    const last = rendered('kyma-renew', '2-issue-new/1-data', '3-trust-new/1-data')
    expect(last.affected.join('\n')).toContain('nobody is refused for it')
    expect(last.affected.join('\n')).not.toMatch(/is refused by/)
  })

  it('a place that the user named otherwise is for what trust.txt of its folder says', () => {
    const files = (pem: string, name: string) => ({
      'trust/c/signer.yaml': JSON.stringify({
        kind: 'Secret',
        metadata: { name: 'app' },
        data: { cert: Buffer.from(pem).toString('base64') },
      }),
      'trust/c/trust.txt': `reanchor kyma 1-a/1-b c\nsigner.yaml:cert  issuer  "CN=${name}" ${'0'.repeat(64)} RSA 2030-01-01T00:00:00Z\n`,
    })
    const change = describeChange(files(oldRoot.pem, 'a'), files(newRoot.pem, 'b'))
    expect(change.places).toMatchObject([{ key: 'cert', role: 'issuer' }])
    expect(change.affected).toEqual([expect.stringContaining('New leaves are signed by')])
  })

  it('an item of a list is known by its name, wherever it stands', () => {
    const application = (others: readonly string[], pem: string) =>
      JSON.stringify({
        kind: 'Application',
        metadata: { name: 'linkerd', namespace: 'argocd' },
        spec: {
          source: {
            helm: {
              parameters: [...others, 'identityTrustAnchorsPEM'].map(name => ({
                name,
                value: name === 'identityTrustAnchorsPEM' ? pem : 'x',
              })),
            },
          },
        },
      })
    const file = 'apps/linkerd.json'
    const before = { [file]: application([], oldRoot.pem) }
    expect(describeChange(before, { [file]: application(['a'], oldRoot.pem) }).none).toBe(true)
    expect(describeChange(before, { [file]: application(['a'], oldRoot.pem + newRoot.pem) }).places).toMatchObject([
      { key: 'spec.source.helm.parameters.identityTrustAnchorsPEM.value', role: 'trusted' },
    ])
  })

  it('a certificate of a server is no trust: whoever reads the change is not told that anyone loses it', async () => {
    const leaf = (await authority({ subject: 'CN=shop', ca: false })).facts.pem
    const tls = (pem: string) =>
      JSON.stringify({
        kind: 'Secret',
        metadata: { name: 'web-tls', namespace: 'shop' },
        data: { 'tls.crt': Buffer.from(pem).toString('base64'), 'tls.key': 'ENC[AES256_GCM,data:x]' },
      })
    const change = describeChange({ 'a.json': tls(oldRoot.pem) }, { 'a.json': tls(leaf) })
    expect(change.places[0]?.role).toBe('presented')
    expect(change.affected).toEqual([expect.stringContaining('its peers must trust what signed it')])
  })
})
