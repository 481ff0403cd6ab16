import { existsSync, readFileSync } from 'node:fs'
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
    expect(change.places.map(place => [place.key, place.sealed])).toEqual([
      ['spec.encryptedData.ca-key.pem', 'changed'],
    ])
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

it('a CA that changes places within one bundle is not said to lose trust, and one that leaves it is', () => {
  const folder = (step: string) =>
    Object.fromEntries(
      ['ca-secret.yaml', 'ca.crt.pem', 'ca2.crt.pem'].flatMap(name => {
        const file = `output/cassandra-graceful/${step}/1-data/eu-1/${name}`
        return existsSync(file) ? [[`trust/eu-1/${name}`, readFileSync(file, 'utf8')] as const] : []
      }),
    )
  const swap = describeChange(folder('1-add'), folder('2-swap')).affected.join('\n')
  expect(swap).toContain('change places within one bundle')
  expect(swap).not.toContain('is refused')
  expect(describeChange(folder('2-swap'), folder('3-drop')).affected.join('\n')).toContain('is refused')
})
