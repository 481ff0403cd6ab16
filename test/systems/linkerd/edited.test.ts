import { beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { linkerdFixtures } from '../../../phases/fixtures/linkerd.ts'
import { planFixture } from '../../../phases/fixtures/render.ts'
import type { MadePlan } from '../../../src/plan/make.ts'
import { readTrustPlaces } from '../../../src/report/trust-places.ts'
import type { TrustState } from '../../../src/rotation.ts'
import { type ChangeVerdict, checkChange } from '../../../src/safety/check.ts'
import { linkerd } from '../../../src/systems/linkerd/system.ts'

const now = '2026-11-22T12:00:00Z'
const names = ['linkerd-graceful-trust-roots', 'linkerd-graceful-upgrade', 'linkerd-graceful-config-map'] as const
const plans = new Map<string, MadePlan>()

beforeAll(async () => {
  for (const fixture of linkerdFixtures())
    if (names.some(name => name === fixture.name)) plans.set(fixture.name, await planFixture(fixture))
}, 120_000)

function made(name: string): MadePlan {
  const found = plans.get(name)
  if (found === undefined) throw new Error(`no plan ${name}`)
  return found
}

/** Files of a step, `1-trust-both/1-data`, as they lie in the site's folder. */
function folder({ files, plan }: MadePlan, step: string): Record<string, string> {
  const from = `rotations/${plan.metadata.name}/phases/${step}/eu-1/`
  return Object.fromEntries(
    [...files].flatMap(([path, text]) =>
      path.startsWith(from) ? [[`trust/eu-1/${path.slice(from.length)}`, text] as const] : [],
    ),
  )
}

function stateOf({ plan }: MadePlan, step: string): TrustState {
  const [phase = '', own = ''] = step.split('/').map(part => part.replace(/^\d+-/, ''))
  const found = plan.phases.find(({ name }) => name === phase)?.steps.find(({ name }) => name === own)?.sites['eu-1']
  if (found === undefined) throw new Error(`no step ${step}`)
  return found.state
}

/** Every consumer has taken up the step that stands there. */
function check(of: MadePlan, step: string, after: Record<string, string>): ChangeVerdict {
  const state = stateOf(of, step)
  const seen = { presents: [[state.issuer, ...state.chain]], trusts: [state.bundle] }
  return checkChange(folder(of, step), after, { at: now, plan: of.plan, sites: { 'eu-1': seen }, certificates: [] })
}

const steps = [
  '0-adopt/1-adopt',
  '1-trust-both/1-data',
  '1-trust-both/2-control-plane',
  '1-trust-both/3-data-plane',
  '2-issue-new/1-data',
  '3-trust-new/1-data',
  '3-trust-new/2-control-plane',
  '3-trust-new/3-data-plane',
]

describe.each(names)('a folder of %s', name => {
  it('declares, by its certificates alone, what its step declares', () => {
    for (const step of steps) {
      const files = folder(made(name), step)
      const places = Object.entries(files).flatMap(([path, text]) => readTrustPlaces(path, text))
      const state = stateOf(made(name), step)
      const declared = linkerd.declaredState(places, state)
      expect([step, declared?.issuer, declared?.bundle]).toEqual([step, state.issuer, state.bundle])
    }
  })

  it('holds each value of the Secret as base64 of its PEM, once, and never as stringData (trap 9)', () => {
    for (const step of steps) {
      const text = folder(made(name), step)['trust/eu-1/issuer.yaml'] ?? ''
      const { data, stringData } = parse(text) as { data: Record<string, string>; stringData?: unknown }
      expect([step, stringData]).toEqual([step, undefined])
      const certificates = Object.entries(data).filter(([key]) => /crt/.test(key))
      expect(certificates.length).toBeGreaterThan(0)
      for (const [key, value] of certificates)
        expect([step, key, Buffer.from(value, 'base64').toString().slice(0, 28)]).toEqual([
          step,
          key,
          '-----BEGIN CERTIFICATE-----\n',
        ])
    }
  })

  it('may be changed to the next step, and not past it', () => {
    for (const [index, step] of steps.entries()) {
      const next = steps[index + 1]
      if (next === undefined) continue
      expect([step, check(made(name), step, folder(made(name), next)).safe]).toEqual([step, true])
    }
    const hurried = check(made(name), '1-trust-both/1-data', folder(made(name), '2-issue-new/1-data'))
    expect(hurried.safe).toBe(false)
    const dropped = check(made(name), '1-trust-both/3-data-plane', folder(made(name), '3-trust-new/1-data'))
    expect([dropped.safe, dropped.sentence]).toEqual([false, expect.stringContaining('3-trust-new')])
  })

  it('from which somebody took the old root by hand is refused, in whichever of its files (F25)', () => {
    const step = '1-trust-both/3-data-plane'
    const files = folder(made(name), step)
    const old = made(name).plan.certificates.find(({ role }) => role === 'old-root')?.pem ?? ''
    const spellings = [
      old,
      old.replaceAll('\n', '\\n'),
      old.trimEnd().replaceAll('\n', '\n    '),
      Buffer.from(old).toString('base64'),
    ]
    let edited = 0
    for (const [path, text] of Object.entries(files)) {
      if (path.endsWith('trust.txt')) continue
      const without = spellings.reduce((kept, spelling) => kept.replace(spelling, ''), text)
      if (without === text) continue
      edited += 1
      expect([path, check(made(name), step, { ...files, [path]: without }).safe]).toEqual([path, false])
    }
    expect(edited).toBeGreaterThanOrEqual(2)
  })
})
