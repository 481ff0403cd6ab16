import { describe, expect, test } from 'vitest'
import { patientFetch, Refusal } from '../../../src/forge/hosted/http.ts'
import { longestWait, mostTries, waitFor } from '../../../src/forge/hosted/patience.ts'
import { refused } from '../../../src/forge/hosted/refused.ts'

const now = new Date('2026-11-22T10:00:00Z')
const seconds = (date: Date): string => String(date.getTime() / 1000)

function answered(method: string, status: number | null, headers: Readonly<Record<string, string>> = {}) {
  return { method, status, header: (name: string) => headers[name] ?? null }
}

describe('how long to wait before the same is asked again', () => {
  test.each([
    ['a passing failure of a read: a second, then twice that', answered('GET', 502), 1, { kind: 'again', after: 1000 }],
    ['its third', answered('GET', 502), 3, { kind: 'again', after: 4000 }],
    ['no answer to a read', answered('GET', null), 1, { kind: 'again', after: 1000 }],
    [
      'no answer to a post: it may have been taken',
      answered('POST', null),
      1,
      { kind: 'no', limited: false, until: null },
    ],
    ['a bad gateway after a post', answered('POST', 502), 1, { kind: 'no', limited: false, until: null }],
    ['a post that was turned away', answered('POST', 503, { 'retry-after': '3' }), 1, { kind: 'again', after: 3000 }],
    [
      'too many requests, with seconds',
      answered('POST', 429, { 'retry-after': '7' }),
      1,
      { kind: 'again', after: 7000 },
    ],
    [
      'too many requests, with a date',
      answered('GET', 429, { 'retry-after': 'Sun, 22 Nov 2026 10:00:30 GMT' }),
      1,
      { kind: 'again', after: 30_000 },
    ],
    [
      "GitHub's limit, which it answers with 403",
      answered('GET', 403, {
        'x-ratelimit-remaining': '0',
        'x-ratelimit-reset': seconds(new Date('2026-11-22T10:00:20Z')),
      }),
      1,
      { kind: 'again', after: 21_000 },
    ],
    [
      'a limit that lasts longer than a command should',
      answered('GET', 403, {
        'x-ratelimit-remaining': '0',
        'x-ratelimit-reset': seconds(new Date('2026-11-22T10:50:00Z')),
      }),
      1,
      { kind: 'no', limited: true, until: new Date('2026-11-22T10:50:01Z') },
    ],
    [
      'a right that lacks is no limit',
      answered('GET', 403, { 'x-ratelimit-remaining': '4999' }),
      1,
      { kind: 'no', limited: false, until: null },
    ],
    ['the last try', answered('GET', 503), mostTries, { kind: 'no', limited: false, until: null }],
    ['something else', answered('GET', 404), 1, { kind: 'no', limited: false, until: null }],
  ])('%s', (_, given, tries, expected) => {
    expect(waitFor(given, tries, now)).toEqual(expected)
  })

  test('never longer than bounded, however many tries', () => {
    for (let tries = 1; tries < mostTries; tries += 1) {
      const wait = waitFor(answered('GET', 500), tries, now)
      expect(wait.kind === 'again' && wait.after <= longestWait).toBe(true)
    }
  })
})

describe('a fetch with patience', () => {
  function server(...answers: readonly (Response | Error)[]) {
    const slept: number[] = []
    const asked: string[] = []
    const rest = [...answers]
    const ask: typeof fetch = async input => {
      const request = input as Request
      asked.push(`${request.method} ${await request.text()}`)
      const next = rest.shift()
      if (next === undefined || next instanceof Error) throw next ?? new Error('asked too often')
      return next
    }
    const patient = patientFetch({
      fetch: ask,
      now: () => now,
      sleep: async milliseconds => void slept.push(milliseconds),
    })
    return { patient, slept, asked }
  }

  test('asks again with the same body, and gives what comes at last', async () => {
    const { patient, slept, asked } = server(
      new Response('', { status: 502 }),
      new TypeError('fetch failed'),
      Response.json({ ok: 1 }),
    )
    const response = await patient('https://forge.example/x', { method: 'PATCH', body: 'b' })
    expect(await response.json()).toEqual({ ok: 1 })
    expect(slept).toEqual([1000, 2000])
    expect(asked).toEqual(['PATCH b', 'PATCH b', 'PATCH b'])
  })

  test('gives up after a bounded number of tries', async () => {
    const down = Array.from({ length: mostTries }, () => new Response('<h1>down</h1>', { status: 503 }))
    const { patient, slept, asked } = server(...down)
    await expect(patient('https://forge.example/x?token=none')).rejects.toMatchObject({ status: 503, path: '/x' })
    expect(slept).toHaveLength(mostTries - 1)
    expect(asked).toHaveLength(mostTries)
  })

  test('a certificate that is not trusted is not asked for again', async () => {
    const cause = Object.assign(new Error('self-signed certificate in certificate chain'), {
      code: 'SELF_SIGNED_CERT_IN_CHAIN',
    })
    const { patient, slept } = server(Object.assign(new TypeError('fetch failed'), { cause }))
    const error = await patient('https://forge.example/x').catch((one: unknown) => one)
    expect(error).toMatchObject({ status: null, said: expect.stringContaining('SELF_SIGNED_CERT_IN_CHAIN') })
    expect(slept).toEqual([])
    const asked = {
      kind: 'gitea',
      repository: 'acme/fleet',
      server: 'https://forge.example',
      tokenFrom: 'GITEA_TOKEN',
    } as const
    expect(refused(error as Refusal, { ...asked, use: 'read requests' })).toMatchObject({
      exit: 2,
      todo: expect.stringContaining('NODE_EXTRA_CA_CERTS'),
    })
  })

  test('a refusal says what the server said, and nothing that was sent', async () => {
    const { patient } = server(Response.json({ message: 'Bad credentials' }, { status: 401 }))
    const headers = { authorization: 'Bearer s3cret-token' }
    const error = await patient('https://forge.example/x', { headers }).catch((one: unknown) => one)
    expect(error).toBeInstanceOf(Refusal)
    expect(error).toMatchObject({ status: 401, said: 'Bad credentials' })
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error)) + String((error as Error).stack)).not.toContain(
      's3cret',
    )
  })
})
