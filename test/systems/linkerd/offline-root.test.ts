import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { World } from '../../../src/commands/demo.ts'
import { type PlanOptions, plan } from '../../../src/commands/plan.ts'
import { decryptSopsSecret } from '../../../src/custody/sops.ts'
import { createIssuing, createRoot, readRequest } from '../../../src/pki/authority.ts'
import { joinPem } from '../../../src/pki/bundle.ts'
import { smallFleet } from '../../rotations/linkerd-fleet.ts'
import { testWorld } from '../../rotations/world.ts'

const day = 24 * 60 * 60 * 1000
const dns = 'identity.linkerd.cluster.local'

function optionsFor(world: World, chain: readonly string[] | null): PlanOptions {
  return { rotation: world.rotation, base: null, rootKeyOut: null, chain, acceptOutage: false }
}

describe('an offline root', () => {
  it('answers a request for identity’s issuer: P-256, its DNS name, and a key that is SEC1 under the key of the form in use', async () => {
    const test = await testWorld({
      system: 'linkerd',
      variant: 'upgrade',
      fleet: smallFleet,
      change: declaration => ({
        ...declaration,
        next: {
          from: 'csr',
          root: null,
          issuing: { algorithm: 'ecdsa-p256', subject: `CN=${dns},OU={site}`, validityDays: 300 },
        },
      }),
    })
    onTestFinished(() => test.close())
    const { world } = test
    await expect(plan(world.context, optionsFor(world, null))).rejects.toMatchObject({
      exit: 3,
      what: 'the offline root has to sign first',
    })
    const branch = (await world.repository.branch('reanchor/first/plan')) ?? ''
    const file = async (path: string, at = branch) =>
      (await world.repository.snapshot(at).read(`rotations/first/${path}`)) ?? ''
    const request = await readRequest(await file('certificates/eu-1.csr'))
    expect(request.subject).toBe(`CN=${dns},OU=eu-1`)
    // In the subject, and once more as the alternative name that identity verifies.
    const der = Buffer.from(request.pem.replace(/-----[^-]+-----/g, ''), 'base64').toString('latin1')
    expect(der.split(dns)).toHaveLength(3)
    expect(request.publicKey.asymmetricKeyDetails).toEqual({ namedCurve: 'prime256v1' })

    const rootKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
    const now = world.context.now()
    const dates = { notBefore: new Date(now.getTime() - 3_600_000), notAfter: new Date(now.getTime() + 3000 * day) }
    const root = await createRoot({ subject: 'CN=offline root', key: rootKey, pathLength: 1, ...dates, serial: '41' })
    const sign = async (key: KeyObject, names: readonly string[]) =>
      await createIssuing({
        subject: request.subject,
        key,
        issuer: { certificate: root, key: rootKey },
        dns: names,
        ...dates,
        notAfter: new Date(now.getTime() + 300 * day),
        serial: '51',
      })
    const answered = async (names: readonly string[]) => {
      const chain = joinPem((await sign(request.publicKey, names)).pem, root.pem)
      const readFile = (path: string) => (path === '/offline/eu-1.pem' ? chain : '')
      return await plan({ ...world.context, readFile }, optionsFor(world, ['/offline/eu-1.pem']))
    }
    // 2.7 verifies the issuer for that name, so an answer without it would stop identity.
    await expect(answered([])).rejects.toMatchObject({ exit: 5, what: `an issuer that is not for ${dns}` })
    const outcome = await answered([dns])

    const sealed = await file('phases/2-issue-new/1-data/eu-1/issuer.yaml', outcome.commit ?? '')
    const { data } = await decryptSopsSecret(sealed, readFileSync(world.ageKeyFile, 'utf8').trim())
    expect(Object.keys(data).sort()).toEqual(['crt.pem', 'key.pem'])
    const pem = Buffer.from(data['key.pem'] ?? '', 'base64').toString()
    expect(pem).toMatch(/^-----BEGIN EC PRIVATE KEY-----\n/)
    const spki = (key: KeyObject) => key.export({ type: 'spki', format: 'der' })
    expect(spki(createPublicKey(pem)).equals(spki(request.publicKey))).toBe(true)
  })
})
