/** `check` of commits that people make by hand, over the rendered phases of profile 1.18 with a new key. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readPlan } from '../../../src/plan/lock.ts'
import { findStep, stepFolder } from '../../../src/plan/steps.ts'
import { checkChange, type LiveTrust } from '../../../src/safety/check.ts'

const root = 'output/kyma-graceful'
const plan = readPlan(readFileSync(`${root}/plan.yaml`, 'utf8'), `${root}/plan.yaml`)
const [site] = plan.sites
if (site === undefined) throw new Error('the fixture has no site')
const { name, path } = site

type Files = Readonly<Record<string, string>>

function folder(phase: number): Files {
  const from = join(root, stepFolder(at(phase)), name)
  return Object.fromEntries(readdirSync(from).map(file => [`${path}/${file}`, readFileSync(join(from, file), 'utf8')]))
}

function at(phase: number) {
  const found = findStep(plan, phase, 1)
  if (found === null) throw new Error(`no phase ${phase}`)
  return found
}

function stateOf(phase: number) {
  const state = at(phase).step.sites[name]?.state
  if (state === undefined) throw new Error('no state')
  return state
}

/** Everyone has taken up the phase; leaves are of these phases. */
function live(phase: number, leaves: readonly number[] = [phase]): LiveTrust {
  const seen = {
    at: stepFolder(at(phase)),
    presents: leaves.map(each => [stateOf(each).issuer]),
    trusts: [stateOf(phase).bundle],
  }
  return { at: plan.createdAt, plan, sites: { [name]: seen }, certificates: [] }
}

/** The folder with another bundle in the gateway's Secret and in the PEM beside it, as a person edits it. */
function withBundle(files: Files, pem: string): Files {
  const edited = `${path}/gateway-ca.yaml`
  const text = (files[edited] ?? '').replace(/cacert: .*/, `cacert: ${Buffer.from(pem).toString('base64')}`)
  return { ...files, [edited]: text, [`${path}/gateway-ca.pem`]: pem }
}

const [oldPem = '', bothPem = '', newPem = ''] = [0, 1, 3].map(phase => folder(phase)[`${path}/gateway-ca.pem`])

describe('check of a hand-made commit', () => {
  it('takes the next step', () => {
    expect(checkChange(folder(0), folder(1), live(0))).toMatchObject({ safe: true, reason: 'next-step' })
    expect(bothPem).toBe(oldPem + newPem)
  })

  it('refuses an edit of the gateway’s Secret that drops the old CA while clients hold its certificates', () => {
    const verdict = checkChange(folder(2), withBundle(folder(2), newPem), live(2, [1, 2]))
    expect(verdict).toMatchObject({ safe: false, reason: 'breaks' })
    const found = verdict.sites[0]?.counterexample
    expect(found).toMatchObject({ link: 'runtime to gateway', holder: { presents: stateOf(0).issuer } })
    expect(verdict.sentence).toMatch(/breaks runtime to gateway: .*runtime.*gateway/)
  })

  it('refuses the revert of trust-both once the connector issues from the new CA (F26)', () => {
    const verdict = checkChange(folder(2), withBundle(folder(2), oldPem), live(2))
    expect(verdict).toMatchObject({ safe: false, reason: 'breaks' })
    expect(verdict.sites[0]?.counterexample).toMatchObject({
      link: 'runtime to gateway',
      holder: { presents: stateOf(2).issuer },
    })
    const whole = checkChange(folder(2), folder(0), live(2))
    expect(whole.safe).toBe(false)
  })

  it('takes the revert of trust-both while the connector still issues from the old one', () => {
    expect(checkChange(folder(1), folder(0), live(1)).safe).toBe(true)
  })

  it('refuses one commit from adopt to trust-new, and the runbook’s order, in which the connector issues first (F6)', () => {
    const once = checkChange(folder(0), folder(3), live(0))
    expect(once).toMatchObject({ safe: false, reason: 'breaks' })
    expect(once.sites[0]?.counterexample?.link).toBe('runtime to gateway')
    const signerFirst = Object.fromEntries(
      Object.entries(folder(0)).map(([file, text]) => [
        file,
        /connector-ca/.test(file) ? (folder(2)[file] ?? text) : text,
      ]),
    )
    const early = checkChange(folder(0), signerFirst, live(0))
    expect(early).toMatchObject({ safe: false, reason: 'breaks' })
    expect(early.sites[0]?.counterexample).toMatchObject({
      link: 'runtime to gateway',
      holder: { presents: stateOf(2).issuer },
      verifier: { trusts: [stateOf(0).issuer] },
    })
  })

  it('refuses a file for readers that says something else than its Secret, whichever of the two was edited', () => {
    const lying = { ...folder(2), [`${path}/gateway-ca.pem`]: newPem }
    expect(checkChange(folder(2), lying, live(2))).toMatchObject({ safe: false, reason: 'contradiction' })
    const silent = { ...withBundle(folder(2), newPem), [`${path}/gateway-ca.pem`]: bothPem }
    expect(checkChange(folder(2), silent, live(2))).toMatchObject({ safe: false, reason: 'contradiction' })
    const signer = { ...folder(2), [`${path}/connector-ca.pem`]: oldPem }
    expect(checkChange(folder(2), signer, live(2))).toMatchObject({ safe: false, reason: 'contradiction' })
  })

  it('refuses an empty cacert, as the chart of Kyma 1.12 renders it', () => {
    expect(checkChange(folder(1), withBundle(folder(1), ''), live(1)).safe).toBe(false)
  })
})
