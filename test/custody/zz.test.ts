import { randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { it } from 'vitest'
import { createSealedSecretsCustody } from '../../src/custody/sealed-secrets.ts'
import { createSopsCustody } from '../../src/custody/sops.ts'
import { rsaPair, selfSigned } from './certificate.ts'
import { ageKey, cacerts } from './secrets.ts'

it('t', async () => {
  const p = rsaPair()
  const c = selfSigned(p.privateKey, p.publicKey, new Date(), new Date(Date.now() + 1e10))
  const s = cacerts({
    data: {
      'ca-key.pem': 'k'.repeat(20),
      'ca-cert.pem': c,
      'root-cert.pem': c + c,
      one: '  lead',
      two: 'x\n\n',
      tab: '\tx\n',
    },
  })
  mkdirSync('/tmp/s/k', { recursive: true })
  writeFileSync(
    '/tmp/s/k/a.yaml',
    await createSopsCustody({ recipients: [(await ageKey()).recipient], now: new Date(), random: randomBytes }).seal(
      s,
      'x',
    ),
  )
  writeFileSync(
    '/tmp/s/k/b.yaml',
    await createSealedSecretsCustody({
      certificatePem: c,
      scope: 'namespace-wide',
      now: new Date(),
      random: randomBytes,
    }).seal(s, 'x'),
  )
  writeFileSync('/tmp/s/k/kustomization.yaml', 'resources: [a.yaml, b.yaml]\n')
})
