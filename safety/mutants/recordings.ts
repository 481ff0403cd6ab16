import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse } from 'yaml'
import type { JudgeOptions } from '../../src/index.ts'
import { readPlan } from '../../src/plan/lock.ts'
import type { Evidence, Plan, SystemName } from '../../src/rotation.ts'
import { readEvidence } from '../../src/verify/evidence-file.ts'

/** What a whole rotation of the demo wrote: `safety/recorded/README.md` says how. */
export interface Recording {
  readonly system: SystemName
  readonly plan: Plan
  /** As committed: the evidence of one step, of all sites that entered it together. */
  readonly looks: readonly Look[]
  readonly attestations: NonNullable<JudgeOptions['attestations']>
}

export interface Look {
  readonly file: string
  readonly evidence: readonly [Evidence, ...Evidence[]]
}

export function recordings(root = 'safety/recorded'): readonly Recording[] {
  const systems = readdirSync(root, { withFileTypes: true }).filter(entry => entry.isDirectory())
  return systems.map(({ name }) => {
    const folder = join(root, name)
    const plan = readPlan(readFileSync(join(folder, 'plan.yaml'), 'utf8'), `${folder}/plan.yaml`)
    const looks = filesIn(join(folder, 'evidence')).map((path): Look => {
      const [first, ...more] = readEvidence(readFileSync(path, 'utf8'), path)
      if (first === undefined) throw new Error(`${path} holds no evidence`)
      return { file: path, evidence: [first, ...more] }
    })
    const attestations = filesIn(join(folder, 'attestations')).map(path => parse(readFileSync(path, 'utf8')))
    return { system: plan.system, plan, looks, attestations }
  })
}

function filesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder)
      .sort()
      .map(file => join(folder, file))
  } catch {
    return []
  }
}
