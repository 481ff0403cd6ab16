import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ReanchorError } from '../../src/errors.ts'
import { readAllowedSigner } from '../../src/signature/allowed-signers.ts'
import { keyFingerprint } from '../../src/signature/public-key.ts'
import { openSigner } from '../../src/signature/signing-key.ts'
import { readSignature, signatureHolds, signMessage } from '../../src/signature/sshsig.ts'
import { authorshipOf, evidenceNamespace, evidenceStatement } from '../../src/verify/authorship.ts'
import { readEvidence, readWrittenEvidence, writeSignedEvidence } from '../../src/verify/evidence-file.ts'

const folder = mkdtempSync(join(tmpdir(), 'reanchor-ssh-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const kinds = [
  ['ed25519', ['-t', 'ed25519']],
  ['ecdsa-256', ['-t', 'ecdsa', '-b', '256']],
  ['ecdsa-384', ['-t', 'ecdsa', '-b', '384']],
  ['ecdsa-521', ['-t', 'ecdsa', '-b', '521']],
  ['rsa', ['-t', 'rsa', '-b', '2048']],
  ['rsa-pem', ['-t', 'rsa', '-b', '3072', '-m', 'PEM']],
  ['ecdsa-pkcs8', ['-t', 'ecdsa', '-b', '256', '-m', 'PKCS8']],
] as const

const text = readFileSync('safety/recorded/istio/evidence/2-trust-both-2-restart.yaml', 'utf8')
const evidence = readEvidence(text, 'evidence.yaml')

beforeAll(() => {
  for (const [kind, options] of kinds) keygen(...options, '-q', '-N', '', '-C', 'a comment', '-f', join(folder, kind))
})

function keygen(...words: readonly string[]): string {
  return execFileSync('ssh-keygen', words, { encoding: 'utf8' })
}

function file(name: string, content: string): string {
  writeFileSync(join(folder, name), content)
  return join(folder, name)
}

function given(kind: string, ending = '') {
  return { text: readFileSync(join(folder, `${kind}${ending}`), 'utf8'), from: `${kind}${ending}` }
}

function verifiedBySshKeygen(kind: string, signature: string, message: string, options = ''): number | null {
  const signers = file('allowed', `runner ${options}${given(kind, '.pub').text}`)
  const words = ['-Y', 'verify', '-f', signers, '-I', 'runner', '-n', evidenceNamespace, '-s', file('sig', signature)]
  return spawnSync('ssh-keygen', words, { input: message }).status
}

describe('the real ssh-keygen', () => {
  it.each(kinds)('takes what is signed here with its key of kind %s, and refuses another message', async kind => {
    const signer = openSigner(given(kind), null)
    const signature = await signMessage(signer, 'seen\n', evidenceNamespace)
    expect(verifiedBySshKeygen(kind, signature, 'seen\n')).toBe(0)
    expect(verifiedBySshKeygen(kind, signature, 'seen')).not.toBe(0)
    expect(keygen('-l', '-f', join(folder, `${kind}.pub`))).toContain(keyFingerprint(signer.publicKey.blob))
  })

  it.each(kinds)('signs with its key of kind %s what is taken here', kind => {
    for (const hash of ['sha256', 'sha512']) {
      const message = file('message', 'seen\n')
      rmSync(`${message}.sig`, { force: true })
      keygen('-q', '-Y', 'sign', '-f', join(folder, kind), '-n', evidenceNamespace, '-O', `hashalg=${hash}`, message)
      const read = readSignature(readFileSync(`${message}.sig`, 'utf8'))
      expect(signatureHolds(read, 'seen\n')).toBe(true)
      expect(signatureHolds(read, 'seen')).toBe(false)
      expect([read.namespace, read.hashAlgorithm]).toEqual([evidenceNamespace, hash])
    }
  })

  it('takes the signature that stands in a file of evidence, over the statement that the documentation gives', async () => {
    const signed = await writeSignedEvidence(evidence, openSigner(given('ed25519'), null))
    const written = readWrittenEvidence(signed, 'evidence.yaml')
    expect(written).toHaveLength(2)
    for (const { evidence: one, signature } of written) {
      expect(verifiedBySshKeygen('ed25519', signature ?? '', evidenceStatement(one))).toBe(0)
      const signers = [`runner ${given('ed25519', '.pub').text.trim()}`]
      expect(authorshipOf(one, signature, signers)).toMatchObject({ kind: 'signed', by: 'runner' })
    }
  })

  it('agrees on when a signer may sign, and for what', async () => {
    const [one] = evidence
    if (one === undefined) throw new Error('nothing is recorded')
    const signature = await signMessage(openSigner(given('rsa'), null), evidenceStatement(one), evidenceNamespace)
    for (const [options, allowed] of [
      ['namespaces="reanchor-evidence" ', true],
      ['namespaces="git,reanchor-*" ', false],
      ['namespaces="git" ', false],
      ['valid-after="20260101Z" ', true],
      ['valid-before="20260101Z" ', false],
      ['namespaces="git,reanchor-evidence",valid-before="20990101000000Z" ', true],
    ] as const) {
      const line = `runner ${options}${given('rsa', '.pub').text.trim()}`
      expect(authorshipOf(one, signature, [line]).kind, options).toBe(allowed ? 'signed' : 'refused')
      // Patterns of namespaces are ssh-keygen's own; here a name is a name, which allows less.
      if (options.includes('*')) continue
      const { status } = verify(line, signature, evidenceStatement(one), one.to)
      expect(status === 0, options).toBe(allowed)
    }
  })

  it('writes keys with a passphrase, which are refused', () => {
    for (const [name, more] of [
      ['locked', []],
      ['locked-pem', ['-m', 'PEM']],
    ] as const) {
      keygen('-t', 'rsa', '-b', '2048', ...more, '-q', '-N', 'a passphrase', '-f', join(folder, name))
      expect(() => openSigner(given(name), null)).toThrow(/passphrase/)
    }
  })

  it('writes public keys that are lines of signers with a name in front', () => {
    for (const [kind] of kinds)
      expect(readAllowedSigner(`ci ${given(kind, '.pub').text}`)).toMatchObject({ name: 'ci' })
  })
})

function verify(line: string, signature: string, message: string, at: string) {
  const time = at.replaceAll(/[-:TZ]/g, '')
  const words = ['-Y', 'verify', '-f', file('allowed', `${line}\n`), '-I', 'runner', '-n', evidenceNamespace]
  return spawnSync('ssh-keygen', [...words, '-s', file('sig', signature), '-O', `verify-time=${time}Z`], {
    input: message,
  })
}

describe('the real ssh-agent', () => {
  const socket = join(folder, 'agent')
  let agent: ReturnType<typeof spawn>

  beforeAll(async () => {
    agent = spawn('ssh-agent', ['-D', '-a', socket], { stdio: 'ignore' })
    while (!existsSync(socket)) await new Promise(resolve => setTimeout(resolve, 20))
    const environment = { ...process.env, SSH_AUTH_SOCK: socket }
    for (const kind of ['ed25519', 'ecdsa-384', 'rsa'])
      execFileSync('ssh-add', ['-q', join(folder, kind)], { env: environment, stdio: 'ignore' })
  })
  afterAll(() => agent.kill())

  it.each(['ed25519', 'ecdsa-384', 'rsa'])('signs with the key of kind %s that it keeps', async kind => {
    const signature = await signMessage(openSigner(given(kind, '.pub'), socket), 'seen', evidenceNamespace)
    expect(signatureHolds(readSignature(signature), 'seen')).toBe(true)
    expect(verifiedBySshKeygen(kind, signature, 'seen')).toBe(0)
  })

  it('that has not the key, or is not there, is an error that says what to do', async () => {
    const other = openSigner(given('ecdsa-256', '.pub'), socket)
    await expect(signMessage(other, 'seen', evidenceNamespace)).rejects.toThrow(/ssh-add/)
    const nobody = openSigner(given('ed25519', '.pub'), join(folder, 'nobody'))
    await expect(signMessage(nobody, 'seen', evidenceNamespace)).rejects.toThrow(ReanchorError)
  })
})
