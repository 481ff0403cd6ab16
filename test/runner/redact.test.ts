import { describe, expect, test } from 'vitest'
import { redactor } from '../../src/runner/redact.ts'

const secret = 'ghp_0123456789abcdefABCDEF/+=x'

describe('what is printed', () => {
  test.each([
    'GITHUB_TOKEN',
    'GITLAB_PAT',
    'DB_PASSWORD',
    'MY_SECRET',
    'AWS_SECRET_ACCESS_KEY',
    'APIKEY',
    'SOPS_AGE_KEY',
    'BASIC_AUTH',
  ])('holds no value of %s, in any form that URLs and headers have', name => {
    const redact = redactor({ [name]: secret })
    const forms = [
      secret,
      encodeURIComponent(secret),
      Buffer.from(secret).toString('base64'),
      Buffer.from(`x-access-token:${secret}`).toString('base64'),
      Buffer.from(`x-token-auth:${secret}`).toString('base64'),
    ]
    for (const form of forms) expect(redact(`before ${form} after`)).toBe(`before ***${name}*** after`)
  })

  test('holds no line of a key of several', () => {
    const key =
      '-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU\nAAAAC3NzaC1lZDI1NTE5AAAAIK\n-----END OPENSSH PRIVATE KEY-----\n'
    const redact = redactor({ REANCHOR_SIGNING_KEY: key })
    expect(redact(key)).not.toMatch(/b3Bl|AAAAC3/)
    expect(redact('cannot read AAAAC3NzaC1lZDI1NTE5AAAAIK')).toBe('cannot read ***REANCHOR_SIGNING_KEY***')
    expect(redact(JSON.stringify({ key }))).not.toMatch(/b3Bl|AAAAC3/)
  })

  test('holds no password of an address, whatever its variable is called', () => {
    const redact = redactor({ REPOSITORY: 'https://bot:hunter2hunter2@git.example.com/fleet.git' })
    expect(redact('fatal: https://bot:hunter2hunter2@git.example.com/fleet.git: hunter2hunter2')).not.toContain(
      'hunter2',
    )
  })

  test('keeps everything else: paths, short values, other variables', () => {
    const redact = redactor({
      REANCHOR_SIGNING_KEY_FILE: '/etc/reanchor/key',
      SSH_AUTH_SOCK: '/tmp/agent.1234567',
      SOME_KEY: 'short',
      HOME: '/home/runner-of-things',
      KEYBOARD_LAYOUT: 'us-international',
    })
    const text = '/etc/reanchor/key /tmp/agent.1234567 short /home/runner-of-things us-international'
    expect(redact(text)).toBe(text)
  })
})
