import { execFileSync } from 'node:child_process'
import { createPrivateKey, createPublicKey } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { decryptSopsSecret } from '../../../src/custody/sops.ts'
import { readCertificate } from '../../../src/pki/certificate.ts'
import { userGit } from '../../repository/temporary.ts'
import { identity } from '../../scenarios/world.ts'
import { desk } from '../desk.ts'

// An offline root whose key was made in a token and cannot leave it: SoftHSM stands for the device, openssl reaches it by PKCS#11.

const folder = mkdtempSync(join(tmpdir(), 'reanchor-hsm-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const modules = [
  '/usr/lib/softhsm/libsofthsm2.so',
  '/usr/lib64/pkcs11/libsofthsm2.so',
  '/usr/local/lib/softhsm/libsofthsm2.so',
]
const pkcs11 = modules.find(existsSync) ?? ''
const pin = '482915'
const key = `pkcs11:token=root;object=mesh-root;type=private?pin-source=file:${join(folder, 'pin')}`

function run(program: string, ...args: readonly string[]): string {
  const env = { ...process.env, SOFTHSM2_CONF: join(folder, 'softhsm2.conf'), PKCS11_MODULE_PATH: pkcs11 }
  return execFileSync(program, args, { cwd: folder, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

function newToken(): void {
  mkdirSync(join(folder, 'tokens'))
  writeFileSync(join(folder, 'softhsm2.conf'), `directories.tokendir = ${join(folder, 'tokens')}\nlog.level = ERROR\n`)
  writeFileSync(join(folder, 'pin'), pin, { mode: 0o600 })
  run('softhsm2-util', '--init-token', '--free', '--label', 'root', '--so-pin', pin, '--pin', pin)
  const login = ['--module', pkcs11, '--token-label', 'root', '--login', '--pin', pin]
  run('pkcs11-tool', ...login, '--keypairgen', '--key-type', 'EC:secp384r1', '--label', 'mesh-root', '--id', '01')
}

/** As docs/custody.md has it. */
function makeRoot(): void {
  writeFileSync(
    join(folder, 'root.cnf'),
    `[req]
distinguished_name = dn
x509_extensions = root
prompt = no
[dn]
CN = mesh root
O = Example
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[issuing]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
`,
  )
  const engine = ['-engine', 'pkcs11', '-keyform', 'engine', '-key', key]
  run(
    'openssl',
    'req',
    '-x509',
    '-new',
    '-config',
    'root.cnf',
    ...engine,
    '-sha384',
    '-days',
    '3650',
    '-out',
    'root.pem',
  )
}

function sign(request: string, chain: string): void {
  const ca = ['-CA', 'root.pem', '-CAkeyform', 'engine', '-engine', 'pkcs11', '-CAkey', key, '-CAcreateserial']
  const extensions = ['-extfile', 'root.cnf', '-extensions', 'issuing']
  run('openssl', 'x509', '-req', '-in', request, ...ca, ...extensions, '-sha384', '-days', '700', '-out', 'issuing.pem')
  writeFileSync(
    join(folder, chain),
    readFileSync(join(folder, 'issuing.pem'), 'utf8') + readFileSync(join(folder, 'root.pem'), 'utf8'),
  )
}

describe('a root in a token', () => {
  it('signs the requests of plan, and plan goes on with the chain', async () => {
    newToken()
    makeRoot()
    const at = await desk('sops: {}', {}, 'csr: {}')
    const asked = await at.run('plan')
    expect(asked).toMatchObject({ exit: 3, stderr: expect.stringContaining('the offline root has to sign first') })
    const branch = 'reanchor/mesh-2026/plan'
    const request = userGit(at.bare, 'show', `${branch}:rotations/mesh-2026/certificates/eu-1.csr`)
    writeFileSync(join(folder, 'eu-1.csr'), `${request}\n`)
    sign('eu-1.csr', 'eu-1.pem')

    const planned = await at.run('plan', '--chain', join(folder, 'eu-1.pem'))
    expect(planned.exit, planned.stderr).toBe(0)
    expect(planned.stdout).toContain('every handshake succeeds')
    const files = userGit(at.bare, 'ls-tree', '-r', '--name-only', branch, 'rotations/mesh-2026/phases').split('\n')
    const last = files.filter(path => /\/4-trust-new\/2-restart\/eu-1\/cacerts\.yaml$/.test(path)).at(-1) ?? ''
    const { data } = await decryptSopsSecret(`${userGit(at.bare, 'show', `${branch}:${last}`)}\n`, identity)
    const decoded = (name: string) => Buffer.from(data[name] ?? '', 'base64').toString()
    const issuing = readCertificate(decoded('ca-cert.pem'))
    const root = readCertificate(readFileSync(join(folder, 'root.pem'), 'utf8'))
    expect(issuing.x509.verify(root.x509.publicKey)).toBe(true)
    expect(issuing.x509.checkPrivateKey(createPrivateKey(decoded('ca-key.pem')))).toBe(true)
    expect(decoded('root-cert.pem')).toBe(root.pem)
  })

  it('does not give its key away', () => {
    const login = ['--module', pkcs11, '--token-label', 'root', '--login', '--pin', pin]
    expect(run('pkcs11-tool', ...login, '--list-objects', '--type', 'privkey')).toMatch(/Access:.*never extractable/)
    const root = readFileSync(join(folder, 'root.pem'))
    expect(createPublicKey(root).asymmetricKeyDetails?.namedCurve).toBe('secp384r1')
  })
})
