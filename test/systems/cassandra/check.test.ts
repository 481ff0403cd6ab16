import { beforeAll, describe, expect, it, vi } from 'vitest'
import { certificateFacts } from '../../../src/pki/certificate.ts'
import { trustText } from '../../../src/report/trust-txt.ts'
import { treeDigest } from '../../../src/repository/tree-digest.ts'
import type { CertificateFacts, Plan, TrustState } from '../../../src/rotation.ts'
import { type ChangeVerdict, checkChange, type LiveSite } from '../../../src/safety/check.ts'
import { type CaSecret, dataOf, isTrustedKey, type NewCa } from '../../../src/systems/cassandra/ca-secret.ts'
import { entriesOf } from '../../../src/systems/cassandra/phases.ts'
import { caSecret, cassandraCa } from './material.ts'
import { planOf } from './plan.ts'

// RSA keys take their time on a busy machine.
vi.setConfig({ testTimeout: 120_000 })

type Files = Record<string, string>

const regions = ['eu-1', 'us-1'] as const
const steps = ['0-adopt/1-data', '1-add/1-data', '2-swap/1-data', '3-drop/1-data'] as const
const at = '2026-11-22T12:00:00Z'

let old: NewCa
let next: NewCa
let twin: NewCa
let secret: CaSecret
let plan: Plan
/** Files of a region's folder at each step, without the folder's own path. */
let folders: readonly ReadonlyMap<string, string>[]

beforeAll(async () => {
  old = await cassandraCa('O=ca')
  next = await cassandraCa('O=example-db-2026')
  twin = await cassandraCa('O=CA')
  secret = caSecret(old)
  const bare = planOf({ secret, old: old.certificate, next, sites: regions })
  folders = bare.phases.map(({ steps: [step] }, index) =>
    folderOf(`reanchor db-2026 ${steps[index]} eu-1`, dataIn(step?.sites['eu-1']?.state as TrustState)),
  )
  plan = {
    ...bare,
    phases: bare.phases.map((phase, index) => ({
      ...phase,
      steps: phase.steps.map(step => ({
        ...step,
        sites: Object.fromEntries(
          regions.map(region => {
            const tree = step.sites[region]
            if (tree === undefined) throw new Error('no tree')
            return [region, { ...tree, digest: treeDigest(folders[index] ?? new Map()) }]
          }),
        ),
      })),
    })),
  }
}, 120_000)

function dataIn(state: TrustState): Readonly<Record<string, string>> {
  return dataOf({ entries: entriesOf(state), issuer: state.issuer }, secret, next)
}

/** As the renderer writes it, with stand-ins where ciphertext is. */
function folderOf(header: string, data: Readonly<Record<string, string>>): ReadonlyMap<string, string> {
  const trusted = Object.entries(data).filter(([key]) => isTrustedKey(key))
  const facts = (pem: string): CertificateFacts => certificateFacts(certificateOf(pem))
  return new Map([
    ['ca-secret.yaml', secretText(data)],
    ...trusted.map(([key, pem]) => [`${key}.pem`, pem] as const),
    [
      'trust.txt',
      trustText({
        header,
        places: trusted.map(([key, pem]) => ({
          place: `ca-secret.yaml:${key}`,
          role: key === 'ca.crt' ? 'issuer' : 'trusted',
          certificates: [facts(pem)],
        })),
      }),
    ],
  ])
}

function certificateOf(pem: string) {
  const found = [old, next, twin].find(({ certificate }) => certificate.pem === pem)
  if (found === undefined) throw new Error('no such certificate')
  return found.certificate
}

function secretText(data: Readonly<Record<string, string>>): string {
  const lines = Object.entries(data).map(([key, text]) =>
    isTrustedKey(key)
      ? `  ${key}: ${Buffer.from(text).toString('base64')}`
      : `  ${key}: ENC[AES256_GCM,data:${certificateOf(data['ca.crt'] ?? '').sha256.slice(0, 20)},type:str]`,
  )
  const head = [
    'apiVersion: v1',
    'kind: Secret',
    'metadata:',
    `  name: ${secret.name}`,
    `  namespace: ${secret.namespace}`,
  ]
  return [...head, 'data:', ...lines, 'sops:', '  mac: ENC[AES256_GCM,data:mac]', ''].join('\n')
}

function filesOf(region: string, folder: ReadonlyMap<string, string> | undefined): Files {
  return Object.fromEntries([...(folder ?? new Map())].map(([path, text]) => [`trust/${region}/${path}`, text]))
}

/** Every node of a region has taken up the step. */
function seen(step: number): LiveSite {
  const state = plan.phases[step]?.steps[0]?.sites['eu-1']?.state
  if (state === undefined) throw new Error('no state')
  return { at: steps[step] ?? null, presents: [[state.issuer]], trusts: [state.bundle] }
}

/** A change in eu-1, while us-1 is where it is. */
function check(from: number, after: Files, us = from): ChangeVerdict {
  const sites = { 'eu-1': seen(from), 'us-1': seen(us) }
  return checkChange(filesOf('eu-1', folders[from]), after, { at, plan, sites, certificates: [] })
}

/** A folder that somebody edited by hand, its copies for readers with it. */
function edited(data: Readonly<Record<string, string>>): Files {
  return filesOf('eu-1', folderOf(`reanchor db-2026 ${steps[0]} eu-1`, data))
}

describe('a hand-made change of a region’s CA Secret', () => {
  it('is none where it is the next step: each is safe, region by region', () => {
    for (const step of [1, 2, 3]) {
      expect(check(step - 1, filesOf('eu-1', folders[step]))).toMatchObject({ safe: true, reason: 'next-step' })
      // The second region follows while the first is there already.
      const sites = { 'eu-1': seen(step), 'us-1': seen(step - 1) }
      expect(
        checkChange(filesOf('us-1', folders[step - 1]), filesOf('us-1', folders[step]), {
          at,
          plan,
          sites,
          certificates: [],
        }),
      ).toMatchObject({ safe: true, reason: 'next-step' })
    }
  })

  it('is refused where ca.crt is replaced before the new CA was added: nodes that trust the old one meet it', () => {
    const verdict = check(0, edited({ 'ca.crt': next.certificate.pem, 'ca.key': next.key }))
    expect(verdict).toMatchObject({ safe: false, reason: 'breaks' })
    expect(verdict.sentence).toMatch(/eu-1: .*breaks node to node: .*Cassandra node/)
    // Both ways fail alike: one end presents what the other has never heard of.
    const found = verdict.sites[0]?.counterexample
    expect(found?.verifier.trusts).not.toContain(found?.holder.presents)
  })

  it('is refused where the swap keeps the old CA but nobody trusts the new one yet', () => {
    const swapped = { 'ca.crt': next.certificate.pem, 'ca.key': next.key, 'ca2.crt': old.certificate.pem }
    expect(check(0, edited(swapped))).toMatchObject({ safe: false, reason: 'breaks' })
    // The same bytes after add are a step by hand, and every mix holds.
    expect(check(1, edited(swapped))).toMatchObject({ safe: true })
  })

  it('is refused where the old CA goes while nodes of this or of another region still present it', () => {
    const dropped = edited({ 'ca.crt': next.certificate.pem, 'ca.key': next.key })
    expect(check(1, dropped)).toMatchObject({ safe: false, reason: 'breaks' })
    const other = check(2, filesOf('eu-1', folders[3]), 1)
    expect(other.safe).toBe(false)
    expect(other.sentence).toMatch(/us-1/)
    expect(other.sites.map(({ reason }) => reason)).toContain('out-of-order')
  })

  it('is refused as a revert of add once nodes present the new CA, and free before (F26)', () => {
    const reverted = filesOf('eu-1', folders[0])
    const verdict = check(2, reverted)
    expect(verdict).toMatchObject({ safe: false, reason: 'breaks' })
    expect(verdict.sentence).toMatch(/going back from 2-swap\/1-data to 0-adopt\/1-data breaks node to node/)
    expect(check(1, reverted).safe).toBe(true)
  })

  it('is refused as two phases squashed into one (F6)', () => {
    for (const [from, to] of [
      [0, 2],
      [1, 3],
      [0, 3],
    ] as const) {
      const verdict = check(from, filesOf('eu-1', folders[to]))
      expect(verdict.safe).toBe(false)
      expect(verdict.sentence).toMatch(/breaks node to node|skips/)
    }
  })

  it('is refused where the Secret is taken out: for a moment without it the operator makes a CA up (F18)', () => {
    const without = filesOf('eu-1', new Map([...(folders[1] ?? [])].filter(([path]) => path !== 'ca-secret.yaml')))
    expect(check(1, without)).toMatchObject({ safe: false, reason: 'removes' })
    expect(check(1, {})).toMatchObject({ safe: false, reason: 'removes' })
  })

  it('is refused where two CAs get one Subject but for its case: a truststore holds one of them, by chance (F8, F9)', () => {
    const both = { 'ca.crt': old.certificate.pem, 'ca.key': old.key, 'ca2.crt': twin.certificate.pem }
    const verdict = check(0, edited(both))
    expect(verdict.safe).toBe(false)
    expect(verdict.sentence).toContain('trusts nothing')
  })

  it('is refused where the file for readers says something else than the Secret', () => {
    const lying = { ...edited(dataIn(plan.phases[1]?.steps[0]?.sites['eu-1']?.state as TrustState)) }
    lying['trust/eu-1/ca2.crt.pem'] = old.certificate.pem
    expect(check(0, lying)).toMatchObject({ safe: false, reason: 'contradiction' })
  })
})
