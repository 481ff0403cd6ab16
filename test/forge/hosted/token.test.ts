import { describe, expect, test } from 'vitest'
import { forgeOfRemote } from '../../../src/declaration/init.ts'
import { gitLoginFor, tokenFor, tokenForRemote } from '../../../src/forge/hosted/token.ts'

describe('the token of a forge', () => {
  test('is the one that is meant for reanchor, or the one that goes by the forge', () => {
    expect(tokenFor('github', {})).toBeNull()
    expect(tokenFor('github', { GITHUB_TOKEN: 'g', GH_TOKEN: 'h' })).toEqual({ from: 'GITHUB_TOKEN', value: 'g' })
    expect(tokenFor('github', { REANCHOR_TOKEN: ' r\n', GITHUB_TOKEN: 'g' })).toEqual({
      from: 'REANCHOR_TOKEN',
      value: 'r',
    })
    expect(tokenFor('gitlab', { GITHUB_TOKEN: 'g' })).toBeNull()
    expect(tokenFor('bitbucket', { BITBUCKET_TOKEN: 'b', BITBUCKET_EMAIL: 'ada@acme.example' })).toEqual({
      from: 'BITBUCKET_TOKEN',
      value: 'b',
      email: 'ada@acme.example',
    })
    expect(tokenFor('gitea', { FORGEJO_TOKEN: 'f', GITEA_TOKEN: '' })).toEqual({ from: 'FORGEJO_TOKEN', value: 'f' })
  })

  test('that can be none is refused without being quoted', () => {
    const error = ((): unknown => {
      try {
        return tokenFor('gitlab', { GITLAB_TOKEN: 's3cret\nX-Injected: 1' })
      } catch (one) {
        return one
      }
    })()
    expect(String(error)).toContain('GITLAB_TOKEN')
    expect(String(error)).not.toContain('s3cret')
  })
})

describe('the token that git is given', () => {
  const all = { GITHUB_TOKEN: 'hub', GITLAB_TOKEN: 'lab', GITEA_TOKEN: 'tea' }
  test.each([
    ['https://github.com/acme/fleet.git', all, 'hub'],
    ['https://gitlab.com/acme/fleet.git', all, 'lab'],
    ['https://codeberg.org/acme/fleet.git', all, 'tea'],
    // A token for one server is for no other.
    ['https://git.acme.example/acme/fleet.git', all, null],
    ['https://github.com.evil.example/acme/fleet.git', all, null],
    ['https://git.acme.example/acme/fleet.git', { ...all, GITHUB_SERVER_URL: 'https://git.acme.example' }, 'hub'],
    [
      'https://git.acme.example/acme/fleet.git',
      { ...all, GITHUB_SERVER_URL: 'https://git.acme.example', GITEA_ACTIONS: 'true' },
      'tea',
    ],
    ['https://git.acme.example/acme/fleet.git', { ...all, CI_SERVER_URL: 'https://git.acme.example' }, 'lab'],
    ['https://git.acme.example:8443/x.git', { REANCHOR_TOKEN: 'own' }, 'own'],
    ['https://ada:pw@git.acme.example/x.git', { REANCHOR_TOKEN: 'own' }, null],
    ['git@github.com:acme/fleet.git', all, null],
    ['http://github.com/acme/fleet.git', all, null],
    ['../fleet.git', { REANCHOR_TOKEN: 'own' }, null],
  ])('for %s', (url, environment, expected) => {
    expect(tokenForRemote(url, environment)?.value ?? null).toBe(expected)
  })
})

describe('what git logs in with', () => {
  test.each([
    ['https://github.com/acme/fleet.git', { REANCHOR_TOKEN: 'r' }, 'x-access-token', 'r'],
    ['https://bitbucket.org/acme/fleet.git', { BITBUCKET_TOKEN: 'b' }, 'x-token-auth', 'b'],
    ['https://bitbucket.org/acme/fleet.git', { REANCHOR_TOKEN: 'r' }, 'x-token-auth', 'r'],
    [
      'https://bitbucket.org/acme/fleet.git',
      { BITBUCKET_TOKEN: 'b', BITBUCKET_EMAIL: 'ada@acme.example' },
      'x-bitbucket-api-token-auth',
      'b',
    ],
  ])('at %s', (url, environment, username, password) => {
    expect(gitLoginFor(url, environment)).toEqual({ username, password })
  })

  test('nothing where no token is meant for the host', () => {
    expect(gitLoginFor('https://git.acme.example/x.git', { BITBUCKET_TOKEN: 'b' })).toBeNull()
    expect(gitLoginFor('git@bitbucket.org:acme/fleet.git', { BITBUCKET_TOKEN: 'b' })).toBeNull()
  })
})

describe('the forge that a remote tells', () => {
  test.each([
    ['https://bitbucket.org/acme/fleet.git', 'bitbucket', 'acme/fleet', null],
    ['https://github.com/acme/fleet.git', 'github', 'acme/fleet', null],
    ['git@gitlab.com:acme/platform/fleet.git', 'gitlab', 'acme/platform/fleet', null],
    ['ssh://git@codeberg.org/acme/fleet', 'gitea', 'acme/fleet', 'https://codeberg.org'],
  ])('%s', (url, kind, repository, server) => {
    expect(forgeOfRemote(url, {})).toMatchObject({ kind, repository, url: server, labels: [], draft: false })
  })

  test.each([
    'https://git.acme.example/acme/fleet.git',
    '/srv/fleet.git',
    'file:///srv/fleet.git',
    'https://github.com/fleet',
  ])('none for %s', url => {
    expect(forgeOfRemote(url, {})).toBeNull()
  })
})
