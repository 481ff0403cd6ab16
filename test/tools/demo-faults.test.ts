/** Every fault of the demo, in the whole matrix under several seeds. Takes minutes; needs the built program: npm run build. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { startProgram } from '../cli/program.ts'
import { wholeMatrix } from '../rotations/matrix.ts'

interface Json {
  readonly repository: string
  readonly phases: readonly { name: string; step: string; pr: number }[]
  readonly handshakes: { attempted: number; failed: number }
  readonly fault: {
    kind: string
    culprit: string | null
    refusedAt: { phase: string; command: string; exit: number } | null
  }
}

const seeds = wholeMatrix ? ['1', '2', '3'] : ['1']

/** What must be named, where it must stop, and with which exit codes. */
const guarded = {
  'never-reloads': {
    culprit: /^httpbin\/Deployment\/httpbin$/,
    phase: /^2-trust-both\//,
    command: 'next',
    exits: [3, 4],
  },
  'replica-lags': {
    culprit: /^istio-system\/istiod-/,
    phase: /^(2-trust-both|3-issue-new)\//,
    command: 'next',
    exits: [3, 4],
  },
  'out-of-order': {
    culprit: /eu-1: 3-issue-new\/1-data breaks sidecar to sidecar/,
    phase: /^2-trust-both\//,
    command: 'check',
    exits: [5],
  },
  'edited-pr': {
    culprit: /pull request #\d+ was edited by hand.*root-cert\.pem/,
    phase: /^2-trust-both\/1-data$/,
    command: 'next',
    exits: [5],
  },
  'revert-trust-both': {
    culprit: /eu-1: going back from 3-issue-new/,
    phase: /^3-issue-new\/2-restart$/,
    command: 'check',
    exits: [5],
  },
} as const

async function demoWith(
  fault: string,
  seed: string,
): Promise<{ readonly exit: number | null; readonly json: Json; readonly git: (...args: string[]) => string }> {
  const dir = mkdtempSync(join(tmpdir(), 'reanchor-fault-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  const ended = await startProgram([
    'demo',
    'istio',
    '--fault',
    fault,
    '--seed',
    seed,
    '--dir',
    dir,
    '--output',
    'json',
  ])
  expect(ended.stderr).toBe('')
  const json = JSON.parse(ended.stdout) as Json
  return {
    exit: ended.exit,
    json,
    git: (...args) => execFileSync('git', ['--git-dir', json.repository, ...args], { encoding: 'utf8' }),
  }
}

describe.each(Object.entries(guarded))('demo --fault %s', (fault, expected) => {
  test.each(seeds)(
    'is refused, the culprit named, no handshake failed, and no further pull request opened (seed %s)',
    { timeout: 240_000 },
    async seed => {
      const { exit, json, git } = await demoWith(fault, seed)
      expect(json.fault.kind).toBe(fault)
      expect(json.fault.culprit).toMatch(expected.culprit)
      expect(json.fault.refusedAt?.phase).toMatch(expected.phase)
      expect(json.fault.refusedAt?.command).toBe(expected.command)
      expect(expected.exits).toContain(json.fault.refusedAt?.exit)
      expect(json.handshakes.attempted).toBeGreaterThan(500)
      expect(json.handshakes.failed).toBe(0)
      expect(exit).toBe(0)
      expect(json.phases.map(phase => phase.name)).not.toContain('trust-new')
      // What the forge holds: nothing of reanchor's is open beyond what people left open themselves.
      const pulls = git('ls-tree', '--name-only', 'refs/reanchor/forge', 'pulls/').trim().split('\n')
      const open = pulls.map(
        path =>
          JSON.parse(git('show', `refs/reanchor/forge:${path}`)) as { state: string; number: number; branch: string },
      )
      const after = Math.max(...json.phases.map(phase => phase.pr))
      const left = open.filter(each => each.number > after && each.branch.startsWith('reanchor/'))
      const byPeople = { 'edited-pr': ['open'], 'out-of-order': ['open'], 'revert-trust-both': ['closed'] } as Readonly<
        Record<string, readonly string[]>
      >
      expect(left.map(each => each.state)).toEqual(byPeople[fault] ?? [])
    },
  )
})

describe('demo --fault one-step', () => {
  test.each(seeds)(
    'fails handshakes, so the rehearsal can tell the difference (seed %s)',
    { timeout: 240_000 },
    async seed => {
      const { exit, json } = await demoWith('one-step', seed)
      expect(json.handshakes.failed).toBeGreaterThan(0)
      expect(json.fault.refusedAt).toBeNull()
      expect(exit).toBe(5)
    },
  )
})
