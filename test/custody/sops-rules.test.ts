import { describe, expect, it } from 'vitest'
import { applyRule, readSopsRules } from '../../src/custody/sops-rules.ts'
import { ageKey } from './secrets.ts'

const one = (await ageKey()).recipient
const two = (await ageKey()).recipient
const three = (await ageKey()).recipient

function recipients(yaml: string, destination = 'trust/eu-1/cacerts.yaml'): readonly string[] {
  return applyRule(readSopsRules(yaml, '.sops.yaml'), destination).recipients
}

describe('the recipients of a destination', () => {
  it('come from the first rule whose path_regex matches, as sops chooses', () => {
    const yaml = `creation_rules:\n  - {path_regex: us-1, age: ${one}}\n  - {path_regex: ^trust/, age: ${two}}\n  - {age: ${three}}\n`
    expect(recipients(yaml)).toEqual([two])
    expect(recipients(yaml, 'trust/us-1/cacerts.yaml')).toEqual([one])
    expect(recipients(yaml, 'apps/db.yaml')).toEqual([three])
  })

  it.each([
    ['a text', () => `age: ${one}`, () => [one]],
    ['a text with commas, blanks and a last comma', () => `age: "${one}, ${two},"`, () => [one, two]],
    ['a folded text', () => `age: >-\n      ${one},\n      ${two}`, () => [one, two]],
    ['a list, repeats once', () => `age: [${one}, ${two}, ${one}]`, () => [one, two]],
    ['one key group', () => `key_groups: [{age: [${one}], merge: [{age: [${two}]}]}]`, () => [one, two]],
    [
      'a key group, which hides the keys beside it',
      () => `age: ${two}\n    key_groups: [{age: [${one}]}]`,
      () => [one],
    ],
  ])('are read from %s', (_, fields, expected) => {
    expect(recipients(`creation_rules:\n  - path_regex: .*\n    ${fields()}\n`)).toEqual(expected())
  })

  it.each([
    ['(?i)^TRUST/.*\\.YAML$', true],
    ['\\Atrust/(?P<site>[[:alnum:]-]+)/', true],
    ['cacerts\\.ya?ml\\z', true],
    ['trust\\/eu\\-1', true],
    ['^cacerts', false],
    ['', true],
  ])('follow the Go syntax of %s', (regex, matches) => {
    const rules = readSopsRules(`creation_rules:\n  - path_regex: '${regex}'\n    age: ${one}\n`, '.sops.yaml')
    expect(rules.rules[0]?.matches('trust/eu-1/cacerts.yaml')).toBe(matches)
  })

  it('come with a note where the rule says what to encrypt or names other keys', () => {
    const yaml = `creation_rules:\n  - encrypted_regex: ^(stringData)$\n    pgp: ABCD\n    age: ${one}\n`
    const { notes } = applyRule(readSopsRules(yaml, '.sops.yaml'), 'a.yaml')
    expect(notes).toHaveLength(2)
    expect(notes[0]).toContain('encrypted_regex')
    expect(notes[1]).toMatch(/pgp: the sops program seals to them/)
  })
})

describe('a rule is for the sops program', () => {
  it.each([
    ['where it names a KMS', () => 'kms: arn:aws:kms:eu-1:1:key/a', true, 0],
    ['where it names PGP beside age', () => `pgp: ABCD\n    age: ${one}`, true, 1],
    ['where it has several key groups', () => `key_groups: [{age: [${one}]}, {age: [${two}]}]`, true, 2],
    ['where its one key group names another key', () => `key_groups: [{age: [${one}], pgp: [ABCD]}]`, true, 1],
    ['never where age recipients are all', () => `age: [${one}, ${two}]`, false, 2],
    [
      'never for other keys beside its one key group, which hides them',
      () => `pgp: ABCD\n    key_groups: [{age: [${one}]}]`,
      false,
      1,
    ],
  ])('%s', (_, fields, byProgram, recipients) => {
    const applied = applyRule(
      readSopsRules(`creation_rules:\n  - path_regex: .*\n    ${fields()}\n`, '.sops.yaml'),
      'a.yaml',
    )
    expect(applied).toMatchObject({ byProgram })
    expect(applied.recipients).toHaveLength(recipients)
  })

  it('which gets the fields that name keys as they stand, aliases resolved, and no other', () => {
    const yaml = `all: &all {age: [${one}]}\ncreation_rules:\n  - {path_regex: ^a, encrypted_regex: ^data$, shamir_threshold: 2, key_groups: [*all, {pgp: [ABCD]}]}\n`
    expect(applyRule(readSopsRules(yaml, '.sops.yaml'), 'a.yaml').rule.keys).toEqual({
      shamir_threshold: 2,
      key_groups: [{ age: [one] }, { pgp: ['ABCD'] }],
    })
  })
})

describe('rules that cannot be used are refused', () => {
  it.each([
    [
      'no rule matches',
      () => `creation_rules:\n  - {path_regex: ^us/, age: ${one}}\n`,
      /no creation rule matches trust\/eu-1/,
    ],
    ['a rule without keys', () => 'creation_rules:\n  - path_regex: .*\n', /\.sops\.yaml:2:5: .*names no key/],
    [
      'an SSH recipient',
      () => 'creation_rules:\n  - age: ssh-ed25519 AAAA\n',
      /\.sops\.yaml:2:10: .*SSH recipients are not supported/,
    ],
    ['a plugin', () => 'creation_rules:\n  - age: age1yubikey1qqqq\n', /plugins/],
    [
      'a mistyped recipient',
      () => `creation_rules:\n  - age: ${one.slice(0, -1)}${one.endsWith('q') ? 'p' : 'q'}\n`,
      /checksum/,
    ],
    ['a text of another kind', () => 'creation_rules:\n  - age: FINGERPRINT\n', /not an age recipient/],
    ['a list of numbers', () => 'creation_rules:\n  - age: [12]\n', /:2:11: creation_rules\[0\]\.age.*cannot be read/],
    [
      'a regular expression with look-ahead',
      () => `creation_rules:\n  - {path_regex: '^(?!a)', age: ${one}}\n`,
      /regular expression cannot be read/,
    ],
    [
      'a regular expression that is none',
      () => `creation_rules:\n  - {path_regex: '(', age: ${one}}\n`,
      /:2:18: .*regular expression/,
    ],
    ['no rules', () => 'stores: {}\n', /creation_rules/],
    ['an empty file', () => '', /creation_rules/],
    ['broken YAML', () => 'creation_rules: [\n', /not well-formed YAML/],
  ])('%s', (_, yaml, message) => {
    expect(() => recipients(yaml())).toThrow(message)
  })

  it('a private identity in place of a recipient, without repeating it', async () => {
    const { identity } = await ageKey()
    const attempt = () => recipients(`creation_rules:\n  - age: ${identity}\n`)
    expect(attempt).toThrow(/private age identity/)
    expect(attempt).not.toThrow(new RegExp(identity.slice(0, 30)))
  })
})
