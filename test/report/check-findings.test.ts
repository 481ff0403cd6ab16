import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { annotationsOf, findingsOf, sarifOf } from '../../src/report/check-findings.ts'
import type { PlaceChange } from '../../src/report/trust-diff.ts'
import type { ChangeReason, ChangeVerdict, SiteChange } from '../../src/safety/check.ts'

const folders = { 'eu-1': 'trust/eu-1', 'us-1': 'trust/us-1' }

function site(name: string, reason: ChangeReason, sentence: string, safe = false): SiteChange {
  return { sites: [name], from: null, to: null, safe, reason, sentence, counterexample: null, goodUntil: null }
}

function place(file: string): PlaceChange {
  return {
    file,
    object: null,
    key: null,
    role: 'trusted',
    fate: 'changed',
    certificates: [],
    setChanged: true,
    orderChanged: false,
    sealed: null,
    problems: [],
  }
}

function verdict(sites: readonly SiteChange[], files: readonly string[] = []): ChangeVerdict {
  const gravest = sites.find(({ safe }) => !safe) ?? sites[0]
  return {
    safe: sites.every(({ safe }) => safe),
    reason: gravest?.reason ?? 'no-change',
    sentence: gravest?.sentence ?? 'no change of trust',
    sites,
    change: { none: files.length === 0, places: files.map(place), affected: [] },
    goodUntil: null,
  }
}

describe('findings of a check', () => {
  test('there are none where the change is safe', () => {
    expect(
      findingsOf(verdict([site('eu-1', 'next-step', 'the next step', true)], ['trust/eu-1/a.pem']), folders),
    ).toEqual([])
  })

  test('each site that is not safe is one, at its own first file, with its name', () => {
    const unsafe = verdict(
      [
        site('eu-1', 'breaks', 'a handshake fails'),
        site('us-1', 'skips', 'us-1 leaves out trust-both'),
        site('ap-1', 'next-step', 'fine', true),
      ],
      ['trust/us-1/root-cert.pem', 'trust/eu-1/root-cert.pem'],
    )
    expect(findingsOf(unsafe, folders)).toEqual([
      { reason: 'breaks', sentence: 'eu-1: a handshake fails', file: 'trust/eu-1/root-cert.pem' },
      { reason: 'skips', sentence: 'us-1 leaves out trust-both', file: 'trust/us-1/root-cert.pem' },
    ])
  })

  test('a folder that is gone has no file left: the finding is at the folder', () => {
    expect(findingsOf(verdict([site('eu-1', 'removes', 'the folder goes away')]), folders)[0]?.file).toBe('trust/eu-1')
  })

  test('what belongs to no site is at the first changed file', () => {
    const loose: SiteChange = { ...site('', 'key-in-the-clear', 'a private key stands open'), sites: [] }
    expect(findingsOf(verdict([loose], ['apps/tls.yaml']), folders)[0]?.file).toBe('apps/tls.yaml')
  })
})

describe('SARIF', () => {
  test('has one result per finding, each with its rule, and paths as relative references', () => {
    const unsafe = verdict([site('eu-1', 'breaks', 'one'), site('us-1', 'breaks', 'two')], ['trust/eu-1/a b#c.pem'])
    const sarif = sarifOf(findingsOf(unsafe, folders), '1.2.3')
    expect(sarif).toMatchObject({
      version: '2.1.0',
      runs: [
        {
          tool: { driver: { name: 'reanchor check', semanticVersion: '1.2.3', rules: [{ id: 'breaks' }] } },
          results: [
            {
              ruleId: 'breaks',
              ruleIndex: 0,
              level: 'error',
              message: { text: 'eu-1: one' },
              locations: [{ physicalLocation: { artifactLocation: { uri: 'trust/eu-1/a%20b%23c.pem' } } }],
            },
            { ruleId: 'breaks', ruleIndex: 0, message: { text: 'us-1: two' } },
          ],
        },
      ],
    })
  })

  test('a run without results says that what was found before is gone', () => {
    expect(sarifOf([], '1.2.3')).toMatchObject({ runs: [{ results: [], tool: { driver: { rules: [] } } }] })
  })
})

describe('annotations', () => {
  test('one line per finding; the sentence cannot end its line, nor begin a command', () => {
    const texts = fc.string({ unit: fc.constantFrom('\n', '\r', ':', '%', ',', 'a', '::error::') })
    fc.assert(
      fc.property(texts, texts, (sentence, file) => {
        const unsafe = verdict([{ ...site('', 'breaks', sentence), sites: [] }], [`f${file}`])
        const text = annotationsOf(findingsOf(unsafe, folders), unsafe)
        expect(text.split(/[\r\n]/)).toEqual([expect.stringMatching(/^::error file=/), ''])
        const [, properties = '', message = ''] = /^::error (.*?)::(.*)\n$/.exec(text) ?? []
        const read = (escaped: string): string =>
          escaped.replace(/%(0D|0A|25|3A|2C)/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
        expect(read(message)).toBe(sentence)
        expect(properties.split(',').map(read)).toEqual([`file=f${file}`, 'title=reanchor check: breaks'])
      }),
    )
  })

  test('a safe change is a notice', () => {
    const safe = verdict([site('eu-1', 'next-step', 'the next step', true)])
    expect(annotationsOf([], safe)).toBe('::notice title=reanchor check::the next step\n')
  })
})
