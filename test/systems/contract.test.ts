/** What holds of every system and every strategy, looked for in what the fixtures render to. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { changed } from '../../safety/mutants/plans.ts'
import { findPrivateKeys } from '../../src/custody/leak.ts'
import { readBundle } from '../../src/pki/bundle.ts'
import { readPlan } from '../../src/plan/lock.ts'
import { type PlanStep, stepFolder, stepsOf } from '../../src/plan/steps.ts'
import { readTrustPlaces } from '../../src/report/trust-places.ts'
import type { Plan, TrustState } from '../../src/rotation.ts'
import { checkChange, type LiveTrust } from '../../src/safety/check.ts'
import { provePlan } from '../../src/safety/prove.ts'
import { systemOf } from '../../src/systems/systems.ts'
import { authority } from '../safety/material.ts'

interface Rendered {
  readonly name: string
  readonly plan: Plan
  /** Every file, by its path in the rendering. */
  readonly files: ReadonlyMap<string, string>
}

/** Not `output/runner`, which is no rotation. */
const rotations = readdirSync('output').filter(name => existsSync(join('output', name, 'plan.yaml')))

const all: readonly Rendered[] = rotations.map(name => {
  const entries = readdirSync(join('output', name), { recursive: true, withFileTypes: true })
  const paths = entries
    .filter(entry => entry.isFile())
    .map(entry => relative(join('output', name), join(entry.parentPath, entry.name)).replaceAll('\\', '/'))
  const files = new Map(paths.map(path => [path, readFileSync(join('output', name, path), 'utf8')]))
  return { name, files, plan: readPlan(files.get('plan.yaml') ?? '', `output/${name}/plan.yaml`) }
})

const each = (chosen: readonly Rendered[]) => chosen.map(rendered => [rendered.name, rendered] as const)
/** With a new key: every handshake depends on the order of the steps. */
const graceful = all.filter(({ plan }) => plan.strategy === 'graceful')
const withoutOutage = all.filter(({ plan }) => plan.strategy !== 'emergency')

function stateOf({ plan }: Rendered, at: PlanStep): TrustState {
  const state = at.step.sites[plan.sites[0]?.name ?? '']?.state
  if (state === undefined) throw new Error(`${stepFolder(at)} has no state`)
  return state
}

interface Turns {
  /** Before anything new is trusted. */
  readonly old: PlanStep
  /** The first step in whose state both are trusted. */
  readonly both: PlanStep
  /** The first that issues from the new CA, and the last before the old root goes. */
  readonly issue: PlanStep
  readonly issued: PlanStep
  readonly oldRoot: string
  readonly newRoot: string
}

function turnsOf(rendered: Rendered): Turns {
  const steps = stepsOf(rendered.plan)
  const [first] = steps
  const last = steps.at(-1)
  if (first === undefined || last === undefined) throw new Error('an empty plan')
  const oldRoot = stateOf(rendered, first).bundle[0] ?? ''
  const newRoot = stateOf(rendered, last).bundle[0] ?? ''
  const find = (is: (state: TrustState) => boolean): PlanStep => {
    const found = steps.find(at => is(stateOf(rendered, at)))
    if (found === undefined) throw new Error('no such step')
    return found
  }
  const both = find(state => state.bundle.includes(newRoot))
  const issue = find(state => state.issuer !== stateOf(rendered, first).issuer)
  const narrow = find(state => !state.bundle.includes(oldRoot))
  const before = (at: PlanStep): PlanStep => steps[at.index - 1] ?? at
  return { old: before(both), both, issue, issued: before(narrow), oldRoot, newRoot }
}

function folder({ plan, files }: Rendered, at: PlanStep, variant = ''): Record<string, string> {
  const [site] = plan.sites
  const prefix = `${stepFolder(at)}/${variant}${site?.name}/`
  const found = [...files].filter(([path]) => path.startsWith(prefix))
  return Object.fromEntries(found.map(([path, text]) => [`${site?.path}/${path.slice(prefix.length)}`, text]))
}

/** Everyone has taken up the step, and the branch carries it. */
function liveAt(rendered: Rendered, at: PlanStep): LiveTrust {
  const { issuer, chain, bundle } = stateOf(rendered, at)
  const site = { at: stepFolder(at), presents: [[issuer, ...chain]], trusts: [bundle] }
  const { plan } = rendered
  return { at: plan.createdAt, plan, sites: { [plan.sites[0]?.name ?? '']: site }, certificates: [] }
}

it('has renderings of every system', () => {
  const systems = new Set(graceful.map(({ plan }) => plan.system))
  expect([...systems].sort()).toEqual(['cassandra', 'istio', 'kyma', 'linkerd'])
})

describe.each(each(withoutOutage))('%s, the plan', (_name, rendered) => {
  it('is safe in every mix, undo and nudge included', () => {
    const { safe, transitions } = provePlan(rendered.plan)
    expect(transitions.filter(({ counterexample }) => counterexample !== null)).toEqual([])
    expect(safe).toBe(true)
  })

  it('is refused where any of its states trusts nothing (F17)', () => {
    for (const { index } of stepsOf(rendered.plan)) {
      const emptied = changed(rendered.plan, (state, at) => (at.index === index ? { ...state, bundle: [] } : state))
      const found = provePlan(emptied).transitions.find(({ counterexample }) => counterexample !== null)
      expect(found?.counterexample?.reason, `step ${index}`).toBe('it trusts nothing')
    }
  })
})

describe.each(each(graceful))('%s, the plan', (_name, rendered) => {
  let turns: Turns
  beforeAll(() => {
    turns = turnsOf(rendered)
  })

  it('never moves trust and issuer in one step, unless one Secret is both to its consumers; in one go it is refused (F6)', () => {
    const steps = stepsOf(rendered.plan)
    const { model } = systemOf(rendered.plan.system)
    for (const [index, at] of steps.entries()) {
      const before = steps[index - 1]
      if (before === undefined || model.movesBoth === true) continue
      const [was, is] = [stateOf(rendered, before), stateOf(rendered, at)]
      const roots = (of: TrustState) => [...new Set(of.bundle)].sort().join()
      const moved = [was.issuer !== is.issuer, roots(was) !== roots(is)].filter(Boolean)
      expect(moved.length, stepFolder(at)).toBeLessThan(2)
    }
    const kept = rendered.plan.phases.filter(({ number }) => number === 0 || number === rendered.plan.phases.length - 1)
    expect(provePlan({ ...rendered.plan, phases: kept }).safe).toBe(false)
  })

  it('is refused where leaves are signed anew the moment that the new root arrives (F13)', () => {
    const to = stateOf(rendered, turns.issue)
    const resigned = changed(rendered.plan, (state, at) =>
      at.phase === turns.both.phase ? { ...state, issuer: to.issuer, chain: to.chain } : state,
    )
    const found = provePlan(resigned).transitions.find(({ counterexample }) => counterexample !== null)
    expect(found?.from).toBe(stepFolder(turns.old))
    expect(found?.counterexample?.holder.presents).toBe(to.issuer)
  })

  it('is refused where another root of the same Subject stands in for the new one (F10)', async () => {
    const { newRoot } = turns
    const real = rendered.plan.certificates.find(({ sha256 }) => sha256 === newRoot)
    const twin = (await authority({ subject: real?.subject ?? '' })).facts
    const certificates = [
      ...rendered.plan.certificates,
      { ...twin, role: 'new-root', sites: [], file: 'twin.pem' },
    ] as Plan['certificates']
    const fooled = changed({ ...rendered.plan, certificates }, state => ({
      ...state,
      bundle: state.bundle.map(root => (root === newRoot ? twin.sha256 : root)),
    }))
    expect(provePlan(fooled).safe).toBe(false)
  })

  it.each([
    ['has ended (F15)', 1_000, 'ended'],
    ['ends before the rotation can be over, with the date (F28)', -1_000, 'ends'],
  ])('is refused where a CA that it needs %s', (_what, after, word) => {
    const [first = ''] = rendered.plan.certificates.map(({ notAfter }) => notAfter).sort()
    const at = new Date(Date.parse(first) + after)
    const reasons = provePlan(rendered.plan, { at }).transitions.map(({ counterexample }) => counterexample?.reason)
    expect(reasons.find(reason => reason?.includes(`${word} ${first}`))).toBeDefined()
    expect(provePlan(rendered.plan).safe).toBe(true)
  })

  it('lets no pull request skip the widening (F25), nor take it back while leaves of the new CA are out (F26)', () => {
    const skipped = checkChange(folder(rendered, turns.old), folder(rendered, turns.issue), liveAt(rendered, turns.old))
    expect(skipped).toMatchObject({ safe: false, reason: expect.stringMatching(/skips|breaks/) })
    const reverted = checkChange(
      folder(rendered, turns.issued),
      folder(rendered, turns.old),
      liveAt(rendered, turns.issued),
    )
    expect(reverted).toMatchObject({ safe: false, reason: expect.stringMatching(/out-of-order|breaks/) })
    const next = checkChange(folder(rendered, turns.old), folder(rendered, turns.both), liveAt(rendered, turns.old))
    expect(next.safe).toBe(true)
  })
})

describe.each(each(all))('%s, the rendered files', (_name, rendered) => {
  it('hold no private key in the clear, nor a value that would be taken unsealed (F29)', () => {
    for (const [path, text] of rendered.files) {
      expect(findPrivateKeys(text), path).toEqual([])
      expect(text, path).not.toContain('stringData')
    }
  })

  it('are PEM that every reader takes whole: blocks apart, a newline at the end, only CAs (F30)', () => {
    for (const [path, text] of rendered.files) {
      if (path.endsWith('.pem')) {
        expect(text, path).toMatch(/-----END CERTIFICATE-----\n$/)
        expect(text, path).not.toMatch(/\n\n|\r|-----BEGIN[^-]+-----[^\n]/)
        expect(readBundle(text, { file: path }).anchors.size, path).toBeGreaterThan(0)
      }
      if (!path.endsWith('.yaml') || path === 'plan.yaml') continue
      for (const { role, certificates } of readTrustPlaces(path, text))
        if (role === 'trusted' || role === 'issuer') expect(certificates.length, path).toBeGreaterThan(0)
    }
  })

  it('tell both deliverers not to prune what they deliver (F18)', () => {
    const lists = [...rendered.files.keys()].filter(path =>
      /^[^/]+\/[^/]+\/((undo|nudge)\/)?[^/]+\/kustomization\.yaml$/.test(path),
    )
    expect(lists.length).toBeGreaterThan(0)
    for (const list of lists) {
      const { resources = [] } = parse(rendered.files.get(list) ?? '') as { resources?: string[] }
      for (const file of resources) {
        const text = rendered.files.get(list.replace('kustomization.yaml', file)) ?? ''
        for (const document of parseAllDocuments(text)) {
          const { metadata } = document.toJS() as { metadata: { annotations?: Record<string, string> } }
          const { 'kustomize.toolkit.fluxcd.io/prune': flux, 'argocd.argoproj.io/sync-options': argo = '' } =
            metadata.annotations ?? {}
          expect(flux === 'disabled' || argo.includes('Prune=false'), `${list}: ${file}`).toBe(true)
        }
      }
    }
  })
})
