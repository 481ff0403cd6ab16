import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { createSopsByProgramCustody } from '../../src/custody/sops-by-program.ts'
import { readSealedSecret } from '../../src/custody/sops-document.ts'
import { type SopsProgram, systemSops } from '../../src/custody/sops-program.ts'
import { readSopsRules, type SopsRule } from '../../src/custody/sops-rules.ts'
import { standIn, temporary } from './program.ts'
import { cacerts, destination } from './secrets.ts'

function ruleOf(keys = 'pgp: ABCD'): SopsRule {
  const [rule] = readSopsRules(`creation_rules:\n  - path_regex: .*\n    ${keys}\n`, '.sops.yaml').rules
  if (rule === undefined) throw new Error('no rule')
  return rule
}

/** Seals in form alone: what a test looks at is what goes in and what is made of the answer. */
function formProgram(fingerprint = 'ABCD'): SopsProgram & { readonly asked: string[] } {
  const asked: string[] = []
  return {
    asked,
    async encrypt(document, _rule, encryptedRegex) {
      asked.push(document)
      const { data } = parse(document) as { data: Record<string, string> }
      const values = Object.keys(data).map(
        key =>
          `    "${key}": ENC[AES256_GCM,data:AA==,iv:${Buffer.from(`${asked.length}`).toString('base64')},tag:AA==,type:str]`,
      )
      return [
        'data:',
        ...values,
        'sops:',
        '    pgp:',
        `        - created_at: "2026-03-01T12:00:0${asked.length}Z"`,
        '          enc: |-',
        '            -----BEGIN PGP MESSAGE-----',
        '',
        '            hQEMA',
        '            -----END PGP MESSAGE-----',
        `          fp: ${fingerprint}`,
        `    encrypted_regex: ${encryptedRegex}`,
        '    lastmodified: "2026-03-01T12:00:00Z"',
        '    mac: ENC[AES256_GCM,data:AA==,iv:AA==,tag:AA==,type:str]',
        '    mac_only_encrypted: true',
        '    version: 3.13.3',
        '',
      ].join('\n')
    },
  }
}

const withData = (data: Readonly<Record<string, string>>) => cacerts({ data: { ...cacerts().data, ...data } })
const keyOf = (yaml: string) => readSealedSecret(yaml).sealed['ca-key.pem'] ?? ''

describe('a Secret sealed by the sops program', () => {
  it('shows the program the private values alone, and keeps the block that it wrote byte for byte', async () => {
    const program = formProgram()
    const yaml = await createSopsByProgramCustody({ program, rule: () => ruleOf() }).seal(cacerts(), destination)
    expect(program.asked.map(text => parse(text))).toEqual([
      { data: { 'ca-key.pem': Buffer.from('the private part\n').toString('base64') } },
    ])
    expect(yaml).toContain('\n            -----BEGIN PGP MESSAGE-----\n\n            hQEMA\n')
    expect(parse(yaml)).toMatchObject({
      kind: 'Secret',
      data: { 'root-cert.pem': Buffer.from('old\n').toString('base64'), 'ca-key.pem': expect.stringMatching(/^ENC\[/) },
      sops: { encrypted_regex: '^(ca-key\\.pem)$', mac_only_encrypted: true },
    })
  })

  it('asks the program once for each set of private values: phases differ in public bytes alone', async () => {
    const program = formProgram()
    const custody = createSopsByProgramCustody({ program, rule: () => ruleOf() })
    const first = await custody.seal(cacerts(), destination)
    const both = await custody.seal(withData({ 'root-cert.pem': 'old\nnew\n' }), destination)
    const other = await custody.seal(withData({ 'ca-key.pem': 'the next one\n' }), destination)
    const back = await custody.seal(cacerts(), destination)
    expect(program.asked).toHaveLength(2)
    expect(keyOf(both)).toBe(keyOf(first))
    expect(keyOf(other)).not.toBe(keyOf(first))
    expect(back).toBe(first)
  })

  it('keeps a sealed value of an earlier plan without opening it, as long as the rule has the same keys', async () => {
    const before = await createSopsByProgramCustody({ program: formProgram(), rule: () => ruleOf() }).seal(
      cacerts(),
      destination,
    )
    const keep = [{ destination, yaml: before }]
    const again = createSopsByProgramCustody({ program: formProgram(), rule: () => ruleOf(), keep })
    const rendered = await again.seal(withData({ 'ca-key.pem': keyOf(before), 'root-cert.pem': 'new\n' }), destination)
    expect(rendered.slice(rendered.indexOf('\nsops:'))).toBe(before.slice(before.indexOf('\nsops:')))

    const moved = createSopsByProgramCustody({ program: formProgram('EFGH'), rule: () => ruleOf('pgp: EFGH'), keep })
    await expect(moved.seal(withData({ 'ca-key.pem': keyOf(before) }), destination)).rejects.toThrow(
      /keys of the rule have changed[\s\S]*EFGH[\s\S]*ABCD/,
    )
    const elsewhere = again.seal(withData({ 'ca-key.pem': keyOf(before) }), 'trust/us-1/cacerts.yaml')
    await expect(elsewhere).rejects.toThrow(/kept and new private values/)
  })

  it('refuses an answer in which a private value is not sealed, without repeating it', async () => {
    const program: SopsProgram = {
      encrypt: async document =>
        `${document.trimEnd().slice(0, -1)}, sops: {mac: x, lastmodified: x, pgp: [{fp: A}]}}\n`,
    }
    const sealing = createSopsByProgramCustody({ program, rule: () => ruleOf() }).seal(cacerts(), destination)
    await expect(sealing).rejects.toThrow(/did not seal what it was told to/)
    await expect(sealing).rejects.not.toThrow(/private part|dGhlIHByaXZhdGU/)
  })
})

describe('the sops program of this machine', () => {
  const document = `${JSON.stringify({ data: { key: Buffer.from('a private value').toString('base64') } })}\n`
  const encrypt = async (environment: Readonly<Record<string, string | undefined>>) =>
    await systemSops(environment).encrypt(document, ruleOf(), '^(key)$')

  it('is asked for by name where it is missing, with what to install and the way without it', async () => {
    const attempt = encrypt({ PATH: temporary() })
    await expect(attempt).rejects.toMatchObject({
      exit: 2,
      found: 'no program of that name',
      where: { file: '.sops.yaml', line: 2 },
    })
    await expect(attempt).rejects.toThrow(/install sops[\s\S]*spec|custody: \{sops: \{age/)
  })

  it('is refused where it is too old to read standard input', async () => {
    const { path } = standIn('sops', 'echo "sops 3.9.4"')
    await expect(encrypt({ PATH: `${path}:${process.env.PATH}` })).rejects.toThrow(/sops 3\.10 or newer[\s\S]*3\.9\.4/)
  })

  it('gets the values by standard input and the rule by a file; neither is in its arguments, and the file is gone afterwards', async () => {
    const { path, calls } = standIn('sops', 'case "$1" in --version) echo "sops 3.13.3";; *) cat "$2"; cat;; esac')
    const answer = await encrypt({ PATH: `${path}:${process.env.PATH}` })
    const [rule = '', ...rest] = answer.split('\n')
    expect(JSON.parse(rule)).toEqual({
      creation_rules: [{ pgp: 'ABCD', encrypted_regex: '^(key)$', mac_only_encrypted: true }],
    })
    expect(rest.join('\n')).toBe(document)
    expect(calls()).not.toContain(Buffer.from('a private value').toString('base64'))
    const config = /--config (\S+)/.exec(calls())?.[1] ?? ''
    expect(config).toContain('reanchor-sops-')
    await expect(import('node:fs/promises').then(({ stat }) => stat(config))).rejects.toThrow(/ENOENT/)
  })

  it('is quoted when it fails, unless it quotes what was to be sealed', async () => {
    const saying = (line: string) =>
      standIn('sops', `case "$1" in --version) echo "sops 3.13.3";; *) ${line} >&2; exit 1;; esac`).path
    const failing = (line: string) => encrypt({ PATH: `${saying(line)}:${process.env.PATH}` })
    await expect(failing('echo "no KMS answers"')).rejects.toThrow(/no KMS answers/)
    const credential = encrypt({ PATH: `${saying('env')}:${process.env.PATH}`, STORE_TOKEN: 'hvs.planted-token' })
    await expect(credential).rejects.toThrow(/not shown/)
    await expect(credential).rejects.not.toThrow(/planted/)
    const leaking = failing('cat')
    await expect(leaking).rejects.toThrow(/not shown/)
    await expect(leaking).rejects.not.toThrow(new RegExp(Buffer.from('a private value').toString('base64')))
  })
})
