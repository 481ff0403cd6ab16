import { beforeAll, describe, expect, it } from 'vitest'
import { linkerdFixtures } from '../../../phases/fixtures/linkerd.ts'
import { planFixture } from '../../../phases/fixtures/render.ts'
import type { MadePlan } from '../../../src/plan/make.ts'
import { readTrustPlaces } from '../../../src/report/trust-places.ts'
import type { TrustState } from '../../../src/rotation.ts'
import { type ChangeVerdict, checkChange } from '../../../src/safety/check.ts'
import { provePlan } from '../../../src/safety/prove.ts'
import { linkerd } from '../../../src/systems/linkerd/system.ts'

const names = ['linkerd-graceful-helm-release', 'linkerd-graceful-argo-external-ca'] as const
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

interface Step {
  /** Folder under phases/: `1-trust-both/1-data`. */
  readonly folder: string
  readonly state: TrustState
}

function stepsOf({ plan }: MadePlan): readonly Step[] {
  return plan.phases.flatMap((phase, index) =>
    phase.steps.flatMap((step, place) => {
      const site = step.sites['eu-1']
      return site === undefined
        ? []
        : [{ folder: `${index}-${phase.name}/${place + 1}-${step.name}`, state: site.state }]
    }),
  )
}

function filesOf({ files, plan }: MadePlan, step: string): Record<string, string> {
  const from = `rotations/${plan.metadata.name}/phases/${step}/eu-1/`
  return Object.fromEntries(
    [...files].flatMap(([path, text]) =>
      path.startsWith(from) ? [[`trust/eu-1/${path.slice(from.length)}`, text] as const] : [],
    ),
  )
}

/** Every consumer has taken up the step that stands there. */
function check(of: MadePlan, { folder, state }: Step, after: Record<string, string>): ChangeVerdict {
  const seen = { presents: [[state.issuer, ...state.chain]], trusts: [state.bundle] }
  const live = { at: '2026-11-22T12:00:00Z', plan: of.plan, sites: { 'eu-1': seen }, certificates: [] }
  return checkChange(filesOf(of, folder), after, live)
}

describe.each(names)('a folder of %s', name => {
  it('declares, by its certificates alone, what its step declares, and may be changed to the next step', () => {
    const steps = stepsOf(made(name))
    expect(steps.length).toBeGreaterThan(4)
    for (const [index, step] of steps.entries()) {
      const places = Object.entries(filesOf(made(name), step.folder)).flatMap(([path, text]) =>
        readTrustPlaces(path, text),
      )
      const declared = linkerd.declaredState(places, step.state)
      expect([step.folder, declared?.issuer, declared?.bundle]).toEqual([
        step.folder,
        step.state.issuer,
        step.state.bundle,
      ])
      const next = steps[index + 1]
      if (next !== undefined)
        expect([step.folder, check(made(name), step, filesOf(made(name), next.folder)).safe]).toEqual([
          step.folder,
          true,
        ])
    }
  })

  it('may not be changed past a step, nor at the anchors alone where the chart or the injector reads them', () => {
    const steps = stepsOf(made(name))
    const at = (folder: string) => steps.find(step => step.folder === folder) as Step
    const widened = steps.filter(({ folder }) => folder.startsWith('1-trust-both')).at(-1) as Step
    expect(check(made(name), widened, filesOf(made(name), '3-trust-new/1-data')).safe).toBe(false)
    expect(check(made(name), at('0-adopt/1-adopt'), filesOf(made(name), '2-issue-new/1-data')).safe).toBe(false)
    // By hand: the old root goes from the one file that counts; what people read beside it stays.
    const file = name.endsWith('helm-release') ? 'trust/eu-1/linkerd-values.yaml' : 'trust/eu-1/trust-roots.yaml'
    const edited = {
      ...filesOf(made(name), widened.folder),
      [file]: filesOf(made(name), '3-trust-new/1-data')[file] ?? '',
    }
    expect(check(made(name), widened, edited).safe).toBe(false)
  })
})

describe('the proof', () => {
  it('of a chart that restarts the control plane with the data says so, and finds every handshake safe', () => {
    const { plan } = made('linkerd-graceful-helm-release')
    const proof = provePlan(plan)
    expect(proof.safe).toBe(true)
    expect(proof.notes.join('\n')).toMatch(/chart/)
    expect(stepsOf(made('linkerd-graceful-argo-external-ca')).map(({ folder }) => folder)).toContain(
      '1-trust-both/2-control-plane',
    )
  })
})
