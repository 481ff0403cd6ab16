/** The demo's promise, checked from its repository alone with git, sops and openssl. Needs the built program: npm run build. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { startProgram } from '../cli/program.ts'

interface DemoJson {
  readonly rotation: string
  readonly repository: string
  readonly phases: readonly { number: number; name: string; step: string; site: string; pr: number; commit: string }[]
  readonly handshakes: { attempted: number; failed: number; foretold: number }
  readonly restarts: readonly { consumer: string; site: string; count: number; planned: number }[]
  readonly ageKeyFile: string
}

interface Cacerts {
  readonly manifest: {
    readonly metadata: { name: string; namespace: string; annotations: Record<string, string> }
    readonly data: Record<string, string>
  }
  readonly file: Readonly<Record<string, string>>
}

const begin = '-----BEGIN CERTIFICATE-----'

describe.each([1, 2])('demo istio with %i site(s)', count => {
  const dir = mkdtempSync(join(tmpdir(), 'reanchor-demo-test-'))
  const scratch = mkdtempSync(join(tmpdir(), 'reanchor-demo-open-'))
  let result: DemoJson
  const sites = ['eu-1', 'us-1'].slice(0, count)

  beforeAll(async () => {
    const words = ['demo', 'istio', '--dir', dir, '--output', 'json', '--sites', String(count)]
    const ended = await startProgram(words)
    expect(ended.stderr).toBe('')
    expect(ended.exit).toBe(0)
    result = JSON.parse(ended.stdout) as DemoJson
  }, 900_000)

  afterAll(() => {
    for (const each of [dir, scratch]) rmSync(each, { recursive: true, force: true })
  })

  function git(...args: string[]): string {
    return execFileSync('git', ['--git-dir', result.repository, ...args], { encoding: 'utf8', maxBuffer: 1 << 26 })
  }

  function openssl(...args: string[]): string {
    return execFileSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim()
  }

  function save(name: string, text: string): string {
    const file = join(scratch, name)
    writeFileSync(file, text, { mode: 0o600 })
    return file
  }

  function commitOf(site: string, name: string, step: string): string {
    const found = result.phases.find(phase => phase.site === site && phase.name === name && phase.step === step)
    if (found === undefined) throw new Error(`no ${name}/${step} at ${site}`)
    return found.commit
  }

  /** `sops -d` of what a commit holds. */
  function cacertsAt(commit: string, site: string): Cacerts {
    const sealed = save('cacerts.yaml', git('show', `${commit}:trust/${site}/cacerts.yaml`))
    const environment = { ...process.env, SOPS_AGE_KEY_FILE: result.ageKeyFile, SOPS_DISABLE_VERSION_CHECK: 'true' }
    const manifest = parse(
      execFileSync('sops', ['-d', sealed], { env: environment, encoding: 'utf8' }),
    ) as Cacerts['manifest']
    const file = Object.fromEntries(
      Object.entries(manifest.data).map(([key, value]) => [key, Buffer.from(value, 'base64').toString()]),
    )
    return { manifest, file }
  }

  function blocks(pem: string): readonly string[] {
    return (pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n/g) ?? []).map(block =>
      openssl('x509', '-in', save('one.pem', block), '-noout', '-fingerprint', '-sha256'),
    )
  }

  test('prints one object of the promised shape', () => {
    expect(Object.keys(result).sort()).toEqual([
      'ageKeyFile',
      'handshakes',
      'phases',
      'repository',
      'restarts',
      'rotation',
    ])
    expect(git('rev-parse', '--is-bare-repository').trim()).toBe('true')
    expect(readFileSync(result.ageKeyFile, 'utf8')).toContain('AGE-SECRET-KEY-1')
    expect(result.handshakes.attempted).toBeGreaterThan(2_000)
    expect(result.handshakes.failed).toBe(0)
    for (const phase of result.phases) {
      expect(Object.keys(phase)).toEqual(['number', 'name', 'step', 'site', 'pr', 'commit'])
      expect(phase.commit).toMatch(/^[0-9a-f]{40}$/)
      expect(phase.pr).toBeGreaterThan(1)
    }
    expect(new Set(result.phases.map(phase => phase.site))).toEqual(new Set(sites))
  })

  test('names each step of each site, from adopt as 0 to the closing pull request, in the order of the base branch', () => {
    const steps = (site: string) =>
      result.phases.filter(phase => phase.site === site).map(phase => `${phase.number}-${phase.name}/${phase.step}`)
    const enable = count === 1 ? ['1-enable-multiroot/data', '1-enable-multiroot/restart'] : []
    for (const site of sites) {
      const names = steps(site)
      expect(names[0]).toBe('0-adopt/adopt')
      for (const each of enable) expect(names).toContain(each)
      expect(names.map(name => name.replace(/^\d+-/, '')).slice(-7)).toEqual([
        'trust-both/data',
        'trust-both/restart',
        'issue-new/data',
        'issue-new/restart',
        'trust-new/data',
        'trust-new/restart',
        'close/close',
      ])
    }
    const main = git('rev-list', '--first-parent', '--reverse', 'main').trim().split('\n')
    const order = [...new Set(result.phases.map(phase => phase.commit))].map(commit => main.indexOf(commit))
    expect(order).not.toContain(-1)
    expect(order).toEqual([...order].sort((a, b) => a - b))
    expect(main.at(-1)).toBe(result.phases.at(-1)?.commit)
  })

  test('restarts each consumer as often as planned, and no oftener (F5)', () => {
    expect(result.restarts.length).toBeGreaterThan(5 * count)
    for (const { consumer, site, count: seen, planned } of result.restarts)
      expect(seen, `${site} ${consumer}`).toBe(planned)
    expect(result.restarts.some(each => each.consumer.endsWith('/istiod') && each.count >= 3)).toBe(true)
  })

  test('holds exactly the certificates that the runbook names, in its order, after each commit from trust-both on', () => {
    for (const site of sites) {
      const before = git('show', `${commitOf(site, 'adopt', 'adopt')}:trust/${site}/root-cert.pem`)
      const [old] = blocks(before)
      const both = cacertsAt(commitOf(site, 'trust-both', 'data'), site).file
      const roots = blocks(both['root-cert.pem'] ?? '')
      const made = roots[1]
      expect(roots).toEqual([old, made])
      expect(made).not.toBe(old)
      const wanted = { 'trust-both': [old, made], 'issue-new': [old, made, made], 'trust-new': [made] }
      for (const [phase, expected] of Object.entries(wanted)) {
        for (const step of ['data', 'restart']) {
          const { file } = cacertsAt(commitOf(site, phase, step), site)
          expect(Object.keys(file).sort()).toEqual(['ca-cert.pem', 'ca-key.pem', 'cert-chain.pem', 'root-cert.pem'])
          expect(blocks(file['root-cert.pem'] ?? ''), `${site} ${phase}/${step}`).toEqual(expected)
          const [issuer, ...others] = blocks(file['ca-cert.pem'] ?? '')
          expect(others).toEqual([])
          const chain = blocks(file['cert-chain.pem'] ?? '')
          expect(chain[0]).toBe(issuer)
          if (phase === 'trust-both') expect(file['ca-cert.pem']).toBe(both['ca-cert.pem'])
          else expect(chain).toEqual([issuer, made])
        }
      }
      // From Istio's self-signed CA the old issuer is the old root; a plugged one stays what it was.
      if (count === 1) expect(blocks(both['ca-cert.pem'] ?? '')).toEqual([old])
    }
  })

  test('has a key that matches and a chain that openssl verifies, after each of these commits', () => {
    for (const site of sites) {
      for (const phase of ['trust-both', 'issue-new', 'trust-new']) {
        for (const step of ['data', 'restart']) {
          const { file } = cacertsAt(commitOf(site, phase, step), site)
          const part = (key: string) => save(key, file[key] ?? '')
          const [certificate, key] = [part('ca-cert.pem'), part('ca-key.pem')]
          expect(openssl('pkey', '-in', key, '-pubout')).toBe(openssl('x509', '-in', certificate, '-noout', '-pubkey'))
          const args = [
            'verify',
            '-x509_strict',
            '-CAfile',
            part('root-cert.pem'),
            '-untrusted',
            part('cert-chain.pem'),
            certificate,
          ]
          // istiod's own root lacks what -x509_strict asks of a root (a subject key identifier that is not critical, say).
          const strict = phase !== 'trust-both'
          expect(openssl(...args.filter(arg => strict || arg !== '-x509_strict')), `${site} ${phase}`).toContain(': OK')
          execFileSync('rm', ['-f', key])
        }
      }
    }
  })

  test('keeps the earlier bundle as a byte prefix, and the last as a substring of the one before', () => {
    for (const site of sites) {
      const bundle = (phase: string) => cacertsAt(commitOf(site, phase, 'data'), site).file['root-cert.pem'] ?? ''
      const first = git('show', `${commitOf(site, 'adopt', 'adopt')}:trust/${site}/root-cert.pem`)
      const [both, issue, last] = [bundle('trust-both'), bundle('issue-new'), bundle('trust-new')]
      expect(first.startsWith(begin)).toBe(true)
      expect(both.startsWith(first)).toBe(true)
      expect(issue.startsWith(both)).toBe(true)
      expect(issue.includes(last)).toBe(true)
      for (const text of [both, issue, last]) expect(text.endsWith('-----END CERTIFICATE-----\n')).toBe(true)
      // The public file beside says the same.
      for (const [phase, text] of [
        ['trust-both', both],
        ['issue-new', issue],
        ['trust-new', last],
      ] as const)
        expect(git('show', `${commitOf(site, phase, 'restart')}:trust/${site}/root-cert.pem`)).toBe(text)
    }
  })

  test('updates the Secret in place, protected from pruning, sealing only its key (F18)', () => {
    const seen = new Map<string, string>()
    for (const site of sites) {
      const from = result.phases.findIndex(phase => phase.site === site && phase.name === 'trust-both')
      for (const phase of result.phases.slice(from).filter(each => each.site === site)) {
        const { manifest } = cacertsAt(phase.commit, site)
        expect(manifest.metadata).toMatchObject({ name: 'cacerts', namespace: 'istio-system' })
        expect(manifest.metadata.annotations['kustomize.toolkit.fluxcd.io/prune']).toBe('disabled')
        expect(git('show', `${phase.commit}:trust/${site}/kustomization.yaml`)).toContain('- cacerts.yaml')
        const sealed = parse(git('show', `${phase.commit}:trust/${site}/cacerts.yaml`)) as {
          data: Record<string, string>
        }
        const hidden = Object.entries(sealed.data).filter(([, value]) => value.startsWith('ENC['))
        expect(hidden.map(([key]) => key)).toEqual(['ca-key.pem'])
        // An unchanged key keeps its ciphertext.
        const digest = createHash('sha256')
          .update(manifest.data['ca-key.pem'] ?? '')
          .digest('hex')
        expect(seen.get(`${site} ${digest}`) ?? hidden[0]?.[1]).toBe(hidden[0]?.[1])
        seen.set(`${site} ${digest}`, hidden[0]?.[1] ?? '')
      }
    }
    expect(seen.size).toBe(2 * count)
  })

  test('brings data first and then the restart that depends on it, and nothing outside of the sites’ folders', () => {
    for (const phase of result.phases.filter(each => ['trust-both', 'issue-new', 'trust-new'].includes(each.name))) {
      const changed = git('diff', '--name-only', `${phase.commit}^1`, phase.commit).trim().split('\n')
      const outside = changed.filter(path => !sites.some(site => path.startsWith(`trust/${site}/`)))
      for (const path of outside) expect(path).toMatch(/^rotations\/mesh-2026\/evidence\/[^/]+\.yaml$/)
      const own = changed
        .filter(path => path.startsWith(`trust/${phase.site}/`))
        .map(path => path.slice(`trust/${phase.site}/`.length))
      if (phase.step === 'data') expect(own).toContain('cacerts.yaml')
      else expect(own.sort()).toEqual(['components/istiod/patch.yaml', 'trust.txt'])
    }
  })

  test('brings the evidence of each step in the pull request after it, and removes the sealed copies at the end', () => {
    const last = result.phases.at(-1)?.commit ?? ''
    const files = git('ls-tree', '-r', '--name-only', last, 'rotations/').trim().split('\n')
    expect(files.filter(path => path.includes('/phases/'))).toEqual([])
    const evidence = files.filter(path => path.includes('/evidence/'))
    const steps = new Set(
      result.phases.filter(phase => phase.name !== 'close').map(phase => `${phase.number}/${phase.step}`),
    )
    expect(evidence).toHaveLength(steps.size)
    for (const path of evidence)
      expect(git('log', '--format=%H', '--first-parent', last, '--', path).trim().split('\n'), path).toHaveLength(1)
  })
})
