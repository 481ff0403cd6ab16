/** What OpenSSL makes of the gateway's bundle in each phase, with clients of each neighbouring phase. Needs openssl. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readCertificate } from '../../src/pki/certificate.ts'
import { connectorLeaf, gatewayServer, setupJobCa } from '../../src/rehearsal/kyma/certificates.ts'
import type { Strategy } from '../../src/rotation.ts'
import { foretoldPairs } from '../../src/safety/price.ts'
import { stepLabel } from '../../src/safety/prove.ts'
import { bundleText } from '../../src/systems/kyma/material.ts'
import { generateKymaCa, type KymaCa, renewKymaCa } from '../../src/systems/kyma/next-ca.ts'
import { kymaPhases } from '../../src/systems/kyma/phases.ts'
import { kymaProfiles } from '../../src/systems/kyma/profile.ts'
import { planOf, quickKeys } from '../systems/kyma/material.ts'

const folder = mkdtempSync(join(tmpdir(), 'reanchor-kyma-openssl-'))
const day = 86_400_000
const life = {
  notBefore: new Date(Math.floor(Date.now() / 1000) * 1000 - day),
  notAfter: new Date(Math.floor(Date.now() / 1000) * 1000 + 200 * day),
}
const servers = new Map<string, { readonly process: ChildProcess; readonly port: number }>()

afterAll(() => {
  for (const { process } of servers.values()) process.kill()
  rmSync(folder, { recursive: true, force: true })
})

let count = 0
function file(text: string): string {
  count += 1
  const path = join(folder, `${count}.pem`)
  writeFileSync(path, text)
  return path
}

let old: KymaCa
let renewed: KymaCa
let fresh: KymaCa
let server: { readonly certificate: string; readonly key: string }
/** Certificate and key files of a client, by the CA that signed it. */
const clients = new Map<string, { readonly certificate: string; readonly key: string }>()

beforeAll(async () => {
  const made = await setupJobCa(life)
  old = { certificate: readCertificate(made.certificate), key: made.key }
  const means = { now: new Date(), random: (size: number) => Buffer.alloc(size, 9), keys: quickKeys }
  renewed = await renewKymaCa(old, 365, means)
  fresh = await generateKymaCa({ subject: 'CN=Kyma kyma-2026', validityDays: 365 }, means)
  const pair = await gatewayServer('gateway.kyma.example.com', life, size => Buffer.alloc(size, 3))
  server = { certificate: file(pair.certificate), key: file(pair.key) }
  for (const ca of [old, renewed, fresh]) {
    const leaf = await connectorLeaf({ certificate: ca.certificate.pem, key: ca.key }, 'shop', life)
    clients.set(ca.certificate.sha256, { certificate: file(leaf.certificate), key: file(leaf.key) })
  }
}, 300_000)

/** Starts a gateway that asks for a client certificate and verifies it with this bundle, as `tls.mode: MUTUAL` does. */
async function gateway(bundle: string): Promise<number> {
  const known = servers.get(bundle)
  if (known !== undefined) return known.port
  const process = spawn(
    'openssl',
    [
      ...['s_server', '-accept', '127.0.0.1:0', '-cert', server.certificate, '-key', server.key],
      ...['-CAfile', file(bundle), '-no-CApath', '-no-CAstore', '-Verify', '4', '-verify_return_error', '-tls1_2'],
    ],
    { stdio: ['pipe', 'pipe', 'pipe'] },
  )
  const port = await new Promise<number>((resolve, reject) => {
    let said = ''
    process.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString()
      const found = /ACCEPT \S*:(\d+)/.exec(said)
      if (found !== null) resolve(Number(found[1]))
    })
    process.once('exit', () => reject(new Error(`s_server ended: ${said}`)))
  })
  servers.set(bundle, { process, port })
  return port
}

/** Whether the gateway takes this client. Up to TLS 1.2 a refusal ends the handshake itself. */
async function takes(port: number, client: { readonly certificate: string; readonly key: string }): Promise<boolean> {
  return await new Promise(resolve => {
    const child = execFile(
      'openssl',
      [
        's_client',
        '-connect',
        `127.0.0.1:${port}`,
        '-cert',
        client.certificate,
        '-key',
        client.key,
        '-tls1_2',
        '-brief',
      ],
      error => resolve(error === null),
    )
    child.stdin?.end()
  })
}

const scenarios = [
  ['renew', () => renewed],
  ['graceful', () => fresh],
  ['emergency', () => renewed],
  ['emergency', () => fresh],
] as const satisfies readonly (readonly [Strategy, () => KymaCa])[]

describe('OpenSSL at the gateway', () => {
  it.each(scenarios)(
    'takes and refuses in every mix of neighbouring steps what the plan says (%s)',
    async (strategy, nextOf) => {
      const next = nextOf()
      const phases = kymaPhases(strategy, {
        profile: kymaProfiles.runbook,
        current: { issuer: old.certificate.sha256, bundle: [old.certificate.sha256], restarts: {} },
        next: next.certificate.sha256,
      })
      const plan = planOf(
        phases,
        [
          { certificate: old.certificate, role: 'old-root' },
          { certificate: next.certificate, role: 'new-root' },
        ],
        strategy,
      )
      const refused = new Set(
        foretoldPairs({ ...plan, createdAt: new Date().toISOString() }).map(({ from, to }) => `${from} ${to}`),
      )
      const steps = plan.phases.flatMap(phase =>
        phase.steps.map(step => ({ label: stepLabel(phase, step), state: step.sites.central?.state })),
      )
      const of = (sha256: string) => [old, next].find(({ certificate }) => certificate.sha256 === sha256)?.certificate
      let mixes = 0
      for (const [index, here] of steps.entries()) {
        for (const there of steps.slice(Math.max(0, index - 1), index + 2)) {
          const client = clients.get(here.state?.issuer ?? '')
          const bundle = (there.state?.bundle ?? []).flatMap(sha256 => of(sha256) ?? [])
          if (client === undefined) throw new Error('no client')
          const taken = await takes(await gateway(bundleText(bundle)), client)
          expect(`${here.label} ${there.label} ${taken}`).toBe(
            `${here.label} ${there.label} ${!refused.has(`${here.label} ${there.label}`)}`,
          )
          mixes += 1
        }
      }
      expect(mixes).toBe(steps.length * 3 - 2)
      // With the old key kept nothing is refused; with a new one both directions of the one step are.
      expect(refused.size).toBe(strategy === 'emergency' && next === fresh ? 2 : 0)
    },
    60_000,
  )

  it('refuses a leaf of the old CA with a new certificate under another subject, although the key is the same', async () => {
    const { createCertificate, basicConstraints, keyUsage, readPrivateKey } = await import('../../src/pki/authority.ts')
    const key = readPrivateKey(old.key)
    const other = await createCertificate({
      subject: 'O=Internet Widgits Pty Ltd,ST=Some-State,C=AU',
      issuer: 'O=Internet Widgits Pty Ltd,ST=Some-State,C=AU',
      publicKey: key,
      signingKey: key,
      serial: '03',
      ...life,
      extensions: [basicConstraints(null), keyUsage(['keyCertSign'])],
    })
    const client = clients.get(old.certificate.sha256)
    if (client === undefined) throw new Error('no client')
    expect(await takes(await gateway(other.pem), client)).toBe(false)
    expect(await takes(await gateway(renewed.certificate.pem), client)).toBe(true)
  })
})
