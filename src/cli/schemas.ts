import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import * as z from 'zod'
import type { DemoResult } from '../commands/demo.ts'
import type { PullRequest } from '../forge/forge.ts'
import { pathReasons } from '../pki/reasons.ts'
import type { PhaseTime, TimeLeft } from '../plan/time-left.ts'
import { faultNames } from '../rehearsal/faults.ts'
import type { InspectView } from '../report/inspect-text.ts'
import type { ReportView } from '../report/report-view.ts'
import type { StatusView } from '../report/status.ts'
import type { TrustChange } from '../report/trust-diff.ts'
import type { CertificateFacts, Evidence, GateResult, Plan, Proof } from '../rotation.ts'
import type { ChangeVerdict } from '../safety/check.ts'
import type { UndoWindow } from '../safety/until-when.ts'
import { consumerClasses } from '../systems/consumers.ts'
import { systemNames } from '../systems/systems.ts'
import type { Authorship } from '../verify/authorship.ts'
import type { Drain } from '../verify/drain.ts'

/**
 * JSON Schemas of everything that reanchor prints as JSON or writes as data. They are generated from here into schemas/
 * (`npm run schemas`); no command loads this module. The type arguments hold each schema to the type that the code writes.
 */

// ------------------------------------------------------------------------------------------------------ values

const text = z.string()
const count = z.int().min(0)
const digest = z.string().regex(/^[0-9a-f]{64}$/)
const fingerprint = digest.describe('SHA-256 of a certificate’s DER: 64 lower-case hex digits')
const instant = z
  .string()
  .regex(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z$/)
  .describe('RFC 3339 in UTC')
const commit = z
  .string()
  .regex(/^([0-9a-f]{40}|[0-9a-f]{64})$/)
  .describe('id of a Git commit')
const list = <T extends z.ZodType>(of: T) => z.array(of)
const map = <T extends z.ZodType>(of: T) => z.record(z.string(), of)
const verdict = z.enum(['holds', 'pending', 'violated', 'unknown'])
const strategy = z.enum(['graceful', 'renew', 'issuer', 'emergency'])
const certificateRole = z.enum(['old-root', 'old-issuing', 'new-root', 'new-issuing', 'chain'])

const certificateFields = {
  sha256: fingerprint,
  spki: digest.describe('SHA-256 of the SubjectPublicKeyInfo'),
  subject: text,
  issuer: text,
  serial: z.string().regex(/^[0-9a-f]*$/),
  notBefore: instant,
  notAfter: instant,
  key: text,
  ski: text.nullable(),
  aki: text.nullable(),
  ca: z.boolean(),
  pathLength: count.nullable(),
  pem: text,
}
const certificateFacts: z.ZodType<CertificateFacts> = z.strictObject(certificateFields)

// -------------------------------------------------------------------------------------------------------- plan

const trustState = z.strictObject({
  bundle: list(fingerprint).describe('root-cert.pem in its order, repeats kept'),
  issuer: fingerprint,
  chain: list(fingerprint),
  source: z.enum(['own', 'plugged']),
  settings: map(text),
  restarts: map(text),
})
const tree = z.strictObject({ digest, state: trustState })
const documentSelector = z.union([
  z.literal('single'),
  z.strictObject({ kind: text, name: text, namespace: text.nullable() }),
])
const wiringEdit = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('create'), content: text }),
  z.strictObject({ kind: z.literal('listItem'), document: documentSelector, at: list(text), value: z.unknown() }),
  z.strictObject({ kind: z.literal('set'), document: documentSelector, at: list(text), value: z.unknown() }),
  z.strictObject({ kind: z.literal('remove'), document: documentSelector, at: list(text) }),
  z.strictObject({
    kind: z.literal('dropItem'),
    document: documentSelector,
    at: list(text),
    key: text,
    value: text,
  }),
  z.strictObject({ kind: z.literal('intoList'), document: documentSelector, at: list(text), to: text }),
])
const gateSettings = z.strictObject({
  hold: count.describe('milliseconds'),
  fresh: count.describe('milliseconds'),
  settle: count.describe('milliseconds'),
  attest: list(z.strictObject({ name: text, why: text })),
})

const trustPlan: z.ZodType<Plan> = z
  .strictObject({
    apiVersion: z.literal('reanchor.dev/v1alpha1'),
    kind: z.literal('TrustPlan'),
    metadata: z.strictObject({ name: text }),
    createdAt: instant,
    system: z.enum(systemNames),
    strategy,
    base: text,
    follows: text.optional().describe('the rotation whose final folders are phase 0 of this one'),
    inputs: z.strictObject({ declaration: digest, material: digest, next: digest }),
    certificates: list(z.strictObject({ ...certificateFields, role: certificateRole, sites: list(text), file: text })),
    sites: list(z.strictObject({ name: text, path: text, cluster: text.optional() })),
    batches: list(list(text)),
    phases: list(
      z.strictObject({
        number: count,
        name: text,
        title: text,
        steps: list(
          z.strictObject({
            number: count,
            name: text,
            what: text,
            sites: map(z.strictObject({ digest, state: trustState, undo: tree.nullable(), nudge: tree.nullable() })),
          }),
        ),
      }),
    ),
    wiring: list(z.strictObject({ site: text, file: text, purpose: text, edit: wiringEdit })),
    canaries: map(digest),
    gates: gateSettings,
    leafHours: z.number(),
    parties: list(text),
    formerDigests: map(digest),
  })
  .describe('plan.yaml: the lock file of a rotation')

// ---------------------------------------------------------------------------------------- evidence and verdicts

const consumerClass = z.enum(consumerClasses)
const exceptionFields = {
  consumer: z.enum([...consumerClass.options, 'object', 'delivery']),
  reason: text,
  detail: text,
  verdict: z.enum(['pending', 'violated', 'unknown']),
}
const exception = z.strictObject({
  ...exceptionFields,
  name: text,
  ends: instant.optional().describe('when the old leaf ends that it presents; absent where many present one'),
})
const exceptionsAlike = z
  .strictObject({ ...exceptionFields, names: list(text) })
  .describe('many that differ in their name alone; `shop/cart-6d4cf56db6-{b2xkq,zv9wm}` stands for two names')
const evidenceFields = {
  apiVersion: z.literal('reanchor.dev/v1alpha1'),
  kind: z.literal('Evidence'),
  rotation: text,
  site: text,
  phase: count,
  step: count,
  treeDigest: digest,
  cluster: z.strictObject({ uid: text }),
  from: instant,
  to: instant,
  observation: digest,
  agreesWith: z.strictObject({ at: instant, observation: digest }).nullable(),
  lastChange: instant.nullable(),
  delivery: z.strictObject({
    kind: z.enum(['flux', 'argocd', 'none']),
    object: text,
    suspended: z.boolean(),
    observed: z.boolean(),
    ready: z.boolean(),
    revision: text.nullable(),
    treeDigest: digest.nullable(),
    inventory: list(text),
    message: text,
    nextDue: instant.nullable(),
    hurry: text.nullable(),
  }),
  objects: list(
    z.strictObject({
      id: text,
      present: z.boolean(),
      keys: list(text).nullable(),
      managers: map(list(text)),
      facts: map(text),
      lastChange: instant.nullable(),
    }),
  ),
  groups: list(
    z.strictObject({
      consumer: consumerClass,
      owner: text,
      count,
      members: digest,
      trusts: list(fingerprint).nullable(),
      presents: list(fingerprint).nullable(),
      bundleDigest: digest.nullable(),
      facts: map(text),
      leavesExpire: z.strictObject({ first: instant, last: instant }).nullable(),
    }),
  ),
  exceptions: list(exception),
  certificates: list(certificateFacts),
  complete: z.boolean(),
}
const evidence: z.ZodType<Evidence> = z.strictObject(evidenceFields)
const evidenceDocument = z
  .strictObject({
    ...evidenceFields,
    exceptions: list(z.union([exception, exceptionsAlike])),
    digest,
    signature: text.describe('an SSH signature (SSHSIG, namespace reanchor-evidence), armored').optional(),
  })
  .describe('one document of an evidence file: what was seen of one site, closed by a digest of the rest')

const authorshipFields = {
  kind: z
    .enum(['unsigned', 'signed', 'unchecked', 'refused'])
    .describe('unchecked: the signature holds, and rotation.yaml names no signers'),
  by: text.nullable().describe('name of the signer'),
  key: text.nullable().describe('fingerprint of the key, as ssh-keygen -l shows it'),
  why: text.nullable().describe('why it was refused'),
} satisfies Record<keyof Authorship, z.ZodType>

const gate: z.ZodType<GateResult> = z.strictObject({
  id: text,
  site: text,
  claim: text,
  verdict,
  because: list(text),
  hint: text.nullable(),
  retryAt: instant.nullable(),
  counted: z.strictObject({ of: count, conform: count }).nullable(),
})

// ------------------------------------------------------------------------------------------------------ safety

const counterexample = z.strictObject({
  link: text,
  holder: z.strictObject({ party: text, at: text, presents: fingerprint }),
  verifier: z.strictObject({ party: text, at: text, trusts: list(fingerprint) }),
  reason: text,
  sentence: text,
})
const proof: z.ZodType<Proof> = z.strictObject({
  safe: z.boolean(),
  transitions: list(
    z.strictObject({
      from: text,
      to: text,
      site: text,
      mixes: count,
      handshakes: count,
      counterexample: counterexample.nullable(),
      goodUntil: instant.nullable(),
    }),
  ),
  notes: list(text),
})

const trustChange: z.ZodType<TrustChange> = z.strictObject({
  none: z.boolean(),
  places: list(
    z.strictObject({
      file: text,
      object: text.nullable(),
      key: text.nullable(),
      role: z.enum(['trusted', 'issuer', 'chain', 'presented', 'key', 'other']),
      fate: z.enum(['added', 'removed', 'changed']),
      certificates: list(
        z.strictObject({
          fate: z.enum(['added', 'kept', 'removed', 'moved', 'repeated']),
          sha256: fingerprint,
          subject: text,
          key: text,
          notAfter: instant,
          count: z.strictObject({ before: count, after: count }),
          twins: list(fingerprint),
          remarks: list(text),
        }),
      ),
      setChanged: z.boolean(),
      orderChanged: z.boolean(),
      sealed: z.enum(['added', 'removed', 'changed']).nullable(),
      problems: list(text),
    }),
  ),
  affected: list(text),
})

const changeReason = z.enum([
  'no-change',
  'next-step',
  'every-mix-holds',
  'only-widens',
  'breaks',
  'skips',
  'out-of-order',
  'removes',
  'key-in-the-clear',
  'contradiction',
  'unreadable',
  'unknown',
])
const changeFields = {
  safe: z.boolean(),
  reason: changeReason,
  sentence: text,
  sites: list(
    z.strictObject({
      sites: list(text),
      from: text.nullable(),
      to: text.nullable(),
      safe: z.boolean(),
      reason: changeReason,
      sentence: text,
      counterexample: counterexample.nullable(),
      goodUntil: instant.nullable(),
    }),
  ),
  change: trustChange,
  goodUntil: instant.nullable(),
}
const changeVerdict: z.ZodType<ChangeVerdict> = z.strictObject(changeFields)

// ----------------------------------------------------------------------------------------------------- commands

const pullRequestFields = {
  number: z.int().min(1),
  title: text,
  state: z.enum(['open', 'merged', 'closed']),
  branch: text,
  base: text,
  head: commit,
  mergeCommit: commit.nullable(),
  url: text.nullable(),
}
const pullRequestSummary = z.strictObject(pullRequestFields)
const gateStatus = z
  .strictObject({ context: text, state: z.enum(['pending', 'success', 'failure']), description: z.string().max(140) })
  .describe('commit status `reanchor/gate` of its head')
const pullRequestListed = z.strictObject({ ...pullRequestFields, status: gateStatus.nullable() })
const pullRequestShown: z.ZodType<PullRequest> = z.strictObject({
  ...pullRequestFields,
  body: text,
  status: gateStatus.nullable(),
})
const pullRequestMark = z.strictObject({ number: z.int().min(1).nullable(), title: text, url: text.nullable() })

const sitePosition = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('absent') }),
  z.strictObject({ kind: z.literal('at'), phase: count, step: count, variant: z.enum(['step', 'undo', 'nudge']) }),
  z.strictObject({
    kind: z.literal('mixed'),
    files: list(z.strictObject({ path: text, matches: text.nullable() })),
    why: text,
  }),
  z.strictObject({
    kind: z.literal('unknown'),
    changed: list(z.strictObject({ path: text, what: z.enum(['added', 'removed', 'changed']) })),
  }),
])

const drain: z.ZodType<Drain> = z
  .strictObject({
    site: text,
    before: text.describe('the step that takes the roots away'),
    roots: list(fingerprint),
    begun: z.boolean().describe('leaves are issued that do without these roots'),
    leaves: count.describe('leaves that were seen'),
    left: count.describe('those that chain to these roots alone'),
    unseen: count.describe('who presents a leaf and was not seen with it'),
    clearedBy: instant
      .nullable()
      .describe(
        'when the last of these leaves has ended by itself; null: none is left, not begun, or one shows no end',
      ),
    stragglers: list(
      z.strictObject({
        consumer: consumerClass,
        owner: text,
        count,
        ends: z.strictObject({ first: instant, last: instant }).nullable(),
      }),
    ),
    named: list(z.strictObject({ consumer: consumerClass, name: text, ends: instant })),
  })
  .describe('how far a site’s leaves have left the roots that a step takes away')

const undoWindow: z.ZodType<UndoWindow> = z
  .strictObject({
    step: text.nullable(),
    sites: list(text),
    verdict: verdict.describe(
      'holds: safe if begun now; pending: it becomes safe by itself, at `from`; violated: not safe, or no way back; unknown: it depends on leaves that were not looked at',
    ),
    from: instant.nullable().describe('when the last leaf has ended that it would cut off'),
    until: instant
      .nullable()
      .describe('the last instant at which it can begin and be over in time; null: no date ends it'),
    before: text.nullable().describe('the step whose merge ends it, or `close`; null: there is no way back'),
    because: text,
    judged: z.enum(['plan', 'evidence']),
  })
  .describe('until when one step can be taken back')

const timeLeft: z.ZodType<TimeLeft> = z
  .strictObject({
    strategy,
    least: z.number().describe('milliseconds at the least until nobody needs the old CA'),
    usual: z
      .number()
      .describe('the same where holders renew by themselves and people have a day for each pull request'),
    requests: count.describe('pull requests until nobody needs the old CA'),
    ends: instant.nullable().describe('when the old CA ends; null: it is not needed any more, or not known'),
    startBy: instant.nullable().describe('`ends` less `usual`'),
    lastStart: instant.nullable().describe('`ends` less `least`'),
    daysLeft: z.int().nullable().describe('whole days until `startBy`; below 0: past'),
    state: z.enum(['in-time', 'hurry', 'too-late', 'none-needed']),
  })
  .describe('how long there is to start a rotation, or to go on with it')

const phaseTime: z.ZodType<PhaseTime> = z
  .strictObject({ gates: count, usual: count })
  .describe(
    'how long the phase may be expected to take, in milliseconds, and what of that its gates wait by themselves',
  )

const statusView: z.ZodType<StatusView> = z.strictObject({
  rotation: text,
  strategy: text,
  paused: z.boolean(),
  now: instant,
  phases: list(
    z.strictObject({
      number: count,
      name: text,
      title: text,
      mark: z.enum(['done', 'now', 'ahead']),
      steps: count,
      takes: phaseTime,
    }),
  ),
  sites: list(
    z.strictObject({ name: text, path: text, position: sitePosition, label: text.nullable(), wiring: list(text) }),
  ),
  pullRequests: list(
    z.strictObject({
      number: count,
      title: text,
      state: z.enum(['open', 'merged', 'closed']),
      url: text.nullable(),
      gate: text
        .nullable()
        .describe('state and description of `reanchor/gate`; null: none, or its forge is out of reach'),
    }),
  ),
  evidence: list(
    z.strictObject({
      site: text,
      file: text,
      at: instant,
      authorship: text.describe('`unsigned`, `signed by …`, or why it is not counted'),
    }),
  ).describe('newest committed evidence of each site'),
  gates: list(
    z.strictObject({ id: text, site: text, claim: text, verdict, because: list(text), hint: text.nullable() }),
  ),
  seen: z.strictObject({ from: z.enum(['live', 'evidence']), at: instant }).nullable(),
  time: timeLeft,
  drain: list(drain),
  undo: undoWindow,
  expires: list(z.strictObject({ role: certificateRole, subject: text, sha256: fingerprint, notAfter: instant })),
  next: text.nullable(),
})

const inspectView: z.ZodType<InspectView> = z.strictObject({
  now: instant,
  within: count.nullable().describe('milliseconds of --within; null: not asked'),
  startWithin: count.nullable().describe('milliseconds of --start-within; null: not asked'),
  certificates: list(
    z.strictObject({
      sha256: fingerprint,
      subject: text,
      key: text,
      notBefore: instant,
      notAfter: instant,
      use: z.enum(['anchor', 'issuer', 'anchor and issuer']),
      places: list(text),
      usedBy: list(text),
      startBy: instant.nullable().describe('the last instant at which a graceful rotation has the usual time'),
      lastStart: instant.nullable().describe('the last instant at which it has the least time'),
      daysLeft: z.int().nullable().describe('whole days until `startBy`; below 0: past'),
      remarks: list(text),
    }),
  ),
  due: list(z.strictObject({ sha256: fingerprint, what: z.enum(['ends', 'start-by']), at: instant })).describe(
    'what falls within --within and --start-within; not empty: exit 4',
  ),
  strategies: list(z.strictObject({ strategy, fits: z.boolean(), why: text, time: timeLeft.nullable() })),
  remarks: list(text),
})

const nextResult = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('done') }),
  z.strictObject({ kind: z.literal('open'), pullRequest: pullRequestMark, gates: list(gate) }),
  z.strictObject({
    kind: z.enum(['opened', 'dry-run']),
    pullRequest: pullRequestMark,
    branch: text,
    body: text,
    gates: list(gate),
  }),
  z.strictObject({
    kind: z.literal('waiting'),
    verdict: z.enum(['pending', 'violated', 'unknown']),
    gates: list(gate),
  }),
])

const planResult = z.strictObject({
  kind: z.enum(['planned', 'unchanged', 'dry-run']),
  branch: text,
  commit: commit.nullable(),
  pullRequest: pullRequestMark.nullable(),
  certificates: list(z.strictObject({ role: certificateRole, subject: text, sha256: fingerprint, notAfter: instant })),
  safe: z.boolean(),
  written: list(text).describe('files written outside of the repository'),
  remarks: list(text),
})

const faultFields = z.strictObject({
  kind: z.enum(faultNames),
  culprit: text.nullable(),
  refusedAt: z.strictObject({ phase: text, command: text, exit: z.int().min(0).max(5) }).nullable(),
})

const handshakes = z.strictObject({ attempted: count, failed: count, foretold: count })
const restarts = list(z.strictObject({ consumer: text, site: text, count, planned: count }))
/** With --runs. */
const runHandshakes = z.strictObject({ attempted: count, failed: count })
const rehearsedRuns = z.strictObject({
  handshakes: runHandshakes,
  finished: count.describe('runs that came to the closed rotation'),
  runs: list(
    z.strictObject({
      seed: count,
      finished: z.boolean(),
      stoppedBy: text.nullable(),
      steps: list(text),
      waitedFor: list(text).describe('what people did because a message said so'),
      handshakes: runHandshakes,
    }),
  ),
  firstFailure: z
    .strictObject({
      seed: count,
      at: text.describe('virtual time since the run began'),
      step: text,
      link: text,
      client: text,
      clientLeaf: fingerprint.nullable(),
      clientTrusts: list(fingerprint),
      server: text,
      serverLeaf: fingerprint,
      serverChain: list(fingerprint),
      serverTrusts: list(fingerprint),
      error: text,
      faults: list(text).describe('what was out of order then'),
      trace: list(z.strictObject({ at: text, what: text })),
    })
    .nullable(),
  remarks: list(text),
})

const demoResult = z.strictObject({
  rotation: text,
  repository: text.describe('the bare repository’s path'),
  phases: list(
    z.strictObject({ number: count, name: text, step: text, site: text, pr: z.int().min(1), commit }),
  ).describe('adopt = 0, the closing pull request included, the plan’s not'),
  handshakes,
  restarts,
  ageKeyFile: text,
  fault: faultFields.optional(),
})

const certificateName = z.strictObject({
  sha256: fingerprint,
  name: text,
  subject: text,
  side: z.enum(['old', 'new', 'other']),
})
const seenTrust = z.strictObject({
  count,
  presents: list(certificateName).nullable(),
  trusts: list(certificateName).nullable(),
})
const mark = z.enum(['done', 'now', 'ahead'])
const reportView: z.ZodType<ReportView> = z.strictObject({
  status: statusView,
  system: text,
  commit,
  base: text,
  plannedAt: instant,
  steps: list(
    z.strictObject({
      phase: count,
      label: text,
      title: text,
      what: text,
      mark,
      matrix: list(
        z.strictObject({
          sites: list(text),
          party: text,
          presents: list(certificateName).nullable().describe('one per site, where those have their own'),
          trusts: list(certificateName).nullable(),
          seen: list(seenTrust),
        }),
      ).describe('who presents and who trusts what once the step has reached everyone, and what was seen of it'),
    }),
  ),
  moves: list(
    z.strictObject({ site: text, label: text, variant: z.enum(['step', 'undo', 'nudge']), at: instant, commit }),
  ).describe('when each site’s folder came to a planned tree, oldest first'),
  consumers: list(
    z.strictObject({
      label: text,
      site: text,
      at: instant,
      live: z.boolean(),
      consumers: count,
      presents: z.strictObject({ old: count, new: count, other: count }),
      trusts: z.strictObject({ old: count, both: count, new: count, other: count }),
      exceptions: count,
    }),
  ),
  evidence: list(
    z.strictObject({
      site: text,
      label: text,
      file: text.nullable().describe('null: seen just now'),
      from: instant,
      to: instant,
      observation: digest,
      authorship: text,
      counts: z.boolean(),
      complete: z.boolean(),
      cluster: text,
      delivery: z.strictObject({
        kind: z.enum(['flux', 'argocd', 'none']),
        object: text,
        ready: z.boolean(),
        revision: text.nullable(),
        message: text,
      }),
      gates: list(
        z.strictObject({
          id: text,
          claim: text,
          verdict,
          because: list(text),
          hint: text.nullable(),
          counted: z.strictObject({ of: count, conform: count }).nullable(),
        }),
      ),
      groups: list(
        z.strictObject({
          consumer: consumerClass,
          owner: text,
          seen: seenTrust,
          leavesExpire: z.strictObject({ first: instant, last: instant }).nullable(),
        }),
      ),
      exceptions: list(exception),
    }),
  ),
  certificates: list(
    z.strictObject({
      ...certificateName.shape,
      key: text,
      notAfter: instant,
      daysLeft: z.int().describe('below 0 once it has ended'),
      file: text.nullable(),
    }),
  ),
  behind: list(
    z.strictObject({
      site: text,
      consumer: text,
      name: text,
      why: text,
      verdict: z.enum(['pending', 'violated', 'unknown']),
      ends: instant.nullable(),
    }),
  ).describe('of a look just now with --live, else of the newest evidence of each site'),
})

const failure = z.strictObject({
  error: z.strictObject({
    what: text,
    where: z
      .strictObject({
        file: text.optional(),
        line: z.int().min(1).optional(),
        column: z.int().min(1).optional(),
        field: text.optional(),
        object: text.optional(),
      })
      .optional(),
    expected: text.optional(),
    found: text.optional(),
    todo: text.optional(),
    example: text.optional(),
  }),
})

/** Result of each command with `--output json`; `demo`, which prints no envelope, is not among them. */
const results = {
  init: z.strictObject({ path: text, text, remarks: list(text), unchanged: z.boolean() }),
  inspect: inspectView,
  plan: planResult,
  prove: proof,
  rehearse: z.union([
    z.strictObject({
      phases: list(z.strictObject({ number: count, name: text, step: text, site: text })),
      handshakes,
      restarts,
      remarks: list(text),
    }),
    rehearsedRuns,
  ]),
  next: nextResult,
  verify: z.strictObject({
    verdict,
    gates: list(gate),
    drain: list(drain),
    evidence: list(evidence),
    authorship: list(z.strictObject({ site: text, ...authorshipFields })).describe(
      'of --evidence, and of sites whose report was taken',
    ),
  }),
  observe: z.strictObject({
    site: text,
    verdict,
    rotations: list(
      z.strictObject({
        rotation: text,
        verdict,
        gates: list(gate),
        evidence,
        pushed: z.strictObject({ ref: text, commit }).nullable().describe('null: nothing was pushed'),
      }),
    ),
    passed: list(z.strictObject({ rotation: text, why: text, verdict: z.enum(['holds', 'unknown']) })).describe(
      'rotations with nothing to look at now',
    ),
  }),
  status: statusView,
  report: reportView,
  check: z.strictObject({
    base: commit,
    head: commit,
    ...changeFields,
    evidence: list(
      z.strictObject({
        site: text,
        file: text,
        at: instant,
        authorship: z.strictObject(authorshipFields),
        refused: text.nullable().describe('why it counts for nothing; null: it counts'),
      }),
    ).describe('of the step that each site is at'),
  }),
  undo: nextResult,
  abandon: nextResult,
  attest: z.strictObject({ path: text, pullRequest: pullRequestMark.nullable() }),
  run: z.union([
    nextResult,
    z.strictObject({ kind: z.literal('stopped') }),
    z
      .strictObject({
        kind: z.literal('rotations'),
        rotations: list(
          z.strictObject({
            rotation: text.nullable(),
            exit: z.int().min(0).max(5),
            result: z.union([nextResult, failure]),
          }),
        ),
      })
      .describe('where several rotations were worked at'),
  ]),
  diff: z.union([trustChange, z.strictObject({ text })]),
  'pr list': list(pullRequestListed),
  'pr show': pullRequestShown,
  'pr diff': z.strictObject({ diff: text }),
  'pr merge': pullRequestSummary,
} satisfies Record<string, z.ZodType>

function envelope(command: string, result: z.ZodType): z.ZodType {
  return z
    .strictObject({
      command: z.literal(command),
      rotation: text.nullable(),
      exit: z.int().min(0).max(5),
      result: z.union([result, failure]),
    })
    .describe(`what \`reanchor ${command} --output json\` prints`)
}

// ------------------------------------------------------------------------------------------------------- library

const pem = z.string().describe('one CERTIFICATE block')
const validatePathInput = z.strictObject({
  leaf: pem,
  intermediates: list(pem),
  anchors: list(pem),
  at: instant,
  purpose: z.enum(['server', 'client']),
  name: z.strictObject({ kind: z.enum(['DNS', 'IP', 'URI']), value: text }).optional(),
  profile: z.enum(['strict', 'deployed']).optional(),
})
const validatePathResult = z.discriminatedUnion('ok', [
  z.strictObject({ ok: z.literal(true), path: list(fingerprint) }),
  z.strictObject({
    ok: z.literal(false),
    reason: z.enum(pathReasons),
    certificate: fingerprint.nullable(),
    detail: text,
  }),
])
const judgement = z.strictObject({ verdict, gates: list(gate), retryAt: instant.nullable() })
const liveTrust = z.strictObject({
  at: instant,
  plan: trustPlan.nullable(),
  sites: map(
    z.strictObject({
      at: text.nullable().optional(),
      presents: list(list(fingerprint)),
      trusts: list(list(fingerprint)),
      complete: z.boolean().optional(),
    }),
  ),
  certificates: list(certificateFacts),
})

// --------------------------------------------------------------------------------------------------------- files

/** Every schema by the name of its file, rotation.schema.json aside, which src/declaration makes. */
export function schemaFiles(): ReadonlyMap<string, string> {
  const schemas = new Map<string, z.ZodType>()
  for (const [command, result] of Object.entries(results))
    schemas.set(command.replace(' ', '-'), envelope(command, result))
  const demo: z.ZodType<DemoResult> = demoResult as z.ZodType<DemoResult>
  schemas.set('demo', demo.describe('what `reanchor demo --output json` prints'))
  schemas.set('trust-plan', trustPlan)
  schemas.set('evidence', evidenceDocument)
  schemas.set('validate-path-input', validatePathInput.describe('input of the library’s validatePath'))
  schemas.set('validate-path-result', validatePathResult.describe('result of the library’s validatePath'))
  schemas.set('proof', proof.describe('result of the library’s provePlan'))
  schemas.set('judgement', judgement.describe('result of the library’s judgeGate'))
  schemas.set('live-trust', liveTrust.describe('third argument of the library’s checkChange'))
  schemas.set('change-verdict', changeVerdict.describe('result of the library’s checkChange'))
  schemas.set('trust-change', trustChange.describe('result of the library’s describeChange'))
  return new Map([...schemas].map(([name, schema]) => [`${name}.schema.json`, schemaText(name, schema)]))
}

function schemaText(name: string, schema: z.ZodType): string {
  const { $schema, ...rest } = z.toJSONSchema(schema, { io: 'output', reused: 'ref' })
  // The id names the schema; it is no address. The files themselves ship in the package.
  return `${JSON.stringify({ $schema, $id: `https://reanchor.dev/v1alpha1/${name}.schema.json`, ...rest }, null, 2)}\n`
}

/** Run as a script in the package's folder, after a build, it writes them all. */
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  mkdirSync('schemas', { recursive: true })
  for (const [name, content] of schemaFiles()) writeFileSync(`schemas/${name}`, content)
}
