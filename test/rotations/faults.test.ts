/** What goes wrong in a rotation of each system, and what stops it. Istio's are in test/tools/demo-faults.test.ts, through the built program. */
import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { demo } from '../../src/commands/demo.ts'
import { type ExitCode, exitCodes } from '../../src/errors.ts'
import type { FaultName } from '../../src/rehearsal/faults.ts'
import type { SystemName } from '../../src/rotation.ts'

interface Refusal {
  readonly culprit: RegExp
  readonly phase: string
  readonly command: 'next' | 'check'
  readonly exit: ExitCode
}

type Row = readonly [system: SystemName, fault: FaultName, what: string, refusal: Refusal]

const { waiting, violated, refused } = exitCodes
const variants: Readonly<Partial<Record<SystemName, string>>> = { kyma: 'graceful', linkerd: 'trust-roots' }

async function actedOut(system: SystemName, fault: FaultName) {
  const options = { dir: null, sites: 1, seed: '1', random: randomBytes, say: () => {} }
  return await demo({ ...options, system, variant: variants[system] ?? null, fault })
}

const guarded: readonly Row[] = [
  [
    'cassandra',
    'never-reloads',
    'the operator hangs (F3)',
    { culprit: /^cassandra\/example-cluster-manual-tls-ca$/, phase: '1-add/1-data', command: 'next', exit: waiting },
  ],
  [
    'cassandra',
    'replica-lags',
    'a node restarts with the keystore that its kubelet had (F19, F21)',
    { culprit: /^cassandra\/example-cassandra-eu-1-\d$/, phase: '2-swap/1-data', command: 'next', exit: waiting },
  ],
  [
    'cassandra',
    'edited-pr',
    'the old CA is edited out of an open pull request (F25)',
    { culprit: /edited by hand.*ca\.crt\.pem/, phase: '1-add/1-data', command: 'next', exit: refused },
  ],
  [
    'cassandra',
    'out-of-order',
    'nodes would sign before anyone trusts (F2, F25)',
    { culprit: /2-swap\/1-data breaks node to node/, phase: '0-adopt/1-adopt', command: 'check', exit: refused },
  ],
  [
    'cassandra',
    'revert-trust-both',
    'add is reverted after swap (F26)',
    { culprit: /going back from 2-swap/, phase: '2-swap/1-data', command: 'check', exit: refused },
  ],
  [
    'kyma',
    'never-reloads',
    'a runtime never renews (F1, F19)',
    { culprit: /^shop\/CentralConnection\/shop$/, phase: '2-issue-new/1-data', command: 'next', exit: waiting },
  ],
  [
    'kyma',
    'edited-pr',
    'the old CA is edited out of an open pull request (F25)',
    { culprit: /edited by hand.*gateway-ca\.pem/, phase: '1-trust-both/1-data', command: 'next', exit: refused },
  ],
  [
    'kyma',
    'out-of-order',
    'the connector would issue before the gateway trusts (F2, F25)',
    {
      culprit: /2-issue-new\/1-data breaks runtime to gateway/,
      phase: '0-adopt/1-adopt',
      command: 'check',
      exit: refused,
    },
  ],
  [
    'kyma',
    'replica-lags',
    'a pod of the gateway misses the new bundle (F14, F21)',
    {
      culprit: /^istio-system\/istio-ingressgateway-/,
      phase: '1-trust-both/1-data',
      command: 'next',
      exit: waiting,
    },
  ],
  [
    'linkerd',
    'never-reloads',
    'a proxy keeps its leaf, which ends (F1, linkerd2#4287)',
    { culprit: /^emojivoto\/Deployment\//, phase: '2-issue-new/1-data', command: 'next', exit: violated },
  ],
]

describe('demo --fault', () => {
  it.each(guarded)(
    '%s, %s: %s: stopped, the culprit named, and no handshake failed',
    async (system, fault, _what, { culprit, ...where }) => {
      const { result, exit } = await actedOut(system, fault)
      expect(result.fault).toEqual({ kind: fault, culprit: expect.stringMatching(culprit), refusedAt: where })
      expect(result.handshakes.attempted).toBeGreaterThan(30)
      expect(result.handshakes.failed).toBe(0)
      expect(exit).toBe(exitCodes.done)
    },
    600_000,
  )

  it.each(['cassandra', 'kyma'] as const)(
    '%s, one-step: the swap in one commit fails handshakes, so the rehearsal can tell the difference (F6)',
    async system => {
      const { result, exit } = await actedOut(system, 'one-step')
      expect(result.handshakes.failed).toBeGreaterThan(0)
      expect(result.fault).toEqual({ kind: 'one-step', culprit: null, refusedAt: null })
      expect(exit).toBe(refused)
    },
    600_000,
  )
})
