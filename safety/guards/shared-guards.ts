import { type Guard, withoutGates } from './guard.ts'

const unsealed = {
  file: 'src/custody/sops.js',
  find: "new Map(keys.map((key, index) => [key, sealed[index] ?? '']))",
  replace: "new Map(keys.map(key => [key, secret.data[key] ?? '']))",
}
const lastLook = { file: 'src/custody/sops.js', find: 'guard(text, secret, destination);', replace: '' }
const leakGuard = {
  file: 'src/custody/leak.js',
  find: 'export function assertNoPrivateKey(content, where, planted = []) {',
  replace: 'export function assertNoPrivateKey(content, where, planted = []) {\n    return;',
}

/** `check` lets a change pass that breaks a handshake. */
const brokenMixes = {
  file: 'src/safety/check.js',
  find: '    if (counterexample !== null) {',
  replace: '    if (false) {',
}

/** Guards that all systems share. */
export const sharedGuards: readonly Guard[] = [
  {
    name: 'next/gates',
    prevents: 'a step opens whatever its gates say',
    failures: ['F2', 'F14'],
    caughtBy: 'cassandra-operator-hangs',
    removals: [{ file: 'src/plan/advance.js', find: 'if (open.length > 0)', replace: 'if (false)' }],
  },
  {
    name: 'next/own-requests',
    prevents: 'a pull request of ours that was edited by hand is merged as if it were ours',
    failures: ['F25'],
    caughtBy: 'edited-request',
    removals: [
      { file: 'src/commands/next.js', find: '    await refuseEditedRequests(context, rotation, forge);', replace: '' },
    ],
  },
  {
    name: 'next/locked-bytes',
    prevents: 'a step carries other bytes than those that were proved, as somebody changed its rendering',
    failures: ['F25'],
    caughtBy: 'edited-rendering',
    removals: [{ file: 'src/commands/next.js', find: 'if (treeDigest(tree) !== wanted)', replace: 'if (false)' }],
  },
  {
    name: 'next/known-folder',
    prevents: 'an edit of the site’s folder that nobody has judged is written over',
    failures: ['F25'],
    caughtBy: 'edited-folder',
    removals: [
      {
        file: 'src/plan/advance.js',
        find: '        if (index === null)',
        replace: '        if (index === null) { progress.set(name, -1); continue; }\n        if (false)',
      },
    ],
  },
  {
    name: 'next/found-open',
    prevents: 'one step gets a second pull request while the first is open',
    failures: ['F25'],
    caughtBy: 'asked-twice',
    removals: [{ file: 'src/commands/next.js', find: "if (found?.state === 'open')", replace: 'if (false)' }],
  },
  {
    name: 'next/base-held',
    prevents: 'a runner that was overtaken opens a step a second time that another’s request has brought in meanwhile',
    failures: ['F25'],
    caughtBy: 'overtaken',
    removals: [
      {
        file: 'src/commands/requests.js',
        find: '{ ref: base, from: seen, to: seen },',
        replace: '',
      },
    ],
  },
  {
    name: 'next/paused',
    prevents: 'a step opens in a rotation that its owner has paused',
    failures: ['F25'],
    caughtBy: 'paused',
    removals: [{ file: 'src/commands/next.js', find: '    refusePaused(rotation);', replace: '' }],
  },
  {
    name: 'next/observes-anew',
    prevents: 'a pull request that opened hours ago is merged on what was seen then',
    failures: ['F27'],
    caughtBy: 'falls-behind',
    removals: [
      {
        file: 'src/commands/verify.js',
        find: 'return await gatherEvidence({',
        replace: 'return await seenBefore(gatherEvidence, {',
      },
      {
        file: 'src/commands/verify.js',
        find: 'async function lookOnce(',
        replace: `const known = new Map();
async function seenBefore(look, options) {
    const key = [options.site, options.phase, options.step, options.variant].join();
    const last = known.get(key);
    if (last !== undefined)
        return last;
    const evidence = await look(options);
    // Until two looks have agreed once: before that \`next\` opened nothing.
    if (evidence.agreesWith !== null)
        known.set(key, evidence);
    return evidence;
}
async function lookOnce(`,
      },
    ],
  },
  {
    name: 'gate/open-gates',
    prevents: 'a pull request is merged that was green when it opened, and whose gates hold no longer',
    failures: ['F27'],
    caughtBy: 'stale-green',
    beside: {
      what: 'the check of what is live finds no broken handshake',
      replacements: [brokenMixes],
    },
    removals: [{ file: 'src/commands/gate-status.js', find: 'if (open.length > 0)', replace: 'if (false)' }],
  },
  {
    name: 'next/unseen-site',
    prevents: 'a site whose cluster does not answer counts as one whose gates hold',
    failures: ['F27'],
    caughtBy: 'unseen-cluster',
    removals: [
      {
        file: 'src/commands/verify.js',
        find: "verdict: { verdict: 'unknown', gates: [gate] },",
        replace: "verdict: { verdict: 'holds', gates: [] },",
      },
    ],
  },
  {
    name: 'evidence/cluster',
    prevents: 'one cluster is looked at in the place of another',
    failures: ['F27'],
    caughtBy: 'other-cluster',
    beside: {
      what: 'no gate looks at what was delivered',
      replacements: [withoutGates(['delivery/applied', 'cassandra/canary'])],
    },
    removals: [
      {
        file: 'src/verify/judge.js',
        find: 'function judgeCluster(plan, evidence, all, clusters) {',
        replace: 'function judgeCluster(plan, evidence, all, clusters) {\n    return holding;',
      },
    ],
  },
  {
    name: 'evidence/fresh',
    prevents: 'a hold is reckoned by a clock that is ahead, so that a step opens too soon',
    failures: ['F27'],
    caughtBy: 'skewed-clock',
    removals: [
      {
        file: 'src/verify/judge.js',
        find: 'function judgeFresh(plan, evidence, now, live) {',
        replace: 'function judgeFresh(plan, evidence, now, live) {\n    return holding;',
      },
    ],
  },
  {
    name: 'evidence/settled',
    prevents: 'a step opens on one look, and what comes a second later is not seen',
    failures: ['F27'],
    caughtBy: 'unsettled',
    removals: [
      {
        file: 'src/verify/judge.js',
        find: 'function judgeSettled(plan, evidence) {',
        replace:
          "function judgeSettled(plan, evidence) {\n    if (plan !== null)\n        return result('evidence/settled', evidence.site, '', 'holds', [], null);",
      },
    ],
  },
  {
    name: 'evidence/intact',
    prevents: 'a step is merged on a file of evidence that somebody edited',
    failures: ['F27'],
    caughtBy: 'edited-evidence',
    removals: [
      {
        file: 'src/verify/judge.js',
        find: 'function damageOf(evidence) {',
        replace: 'function damageOf(evidence) {\n    if (evidence !== null)\n        return null;',
      },
    ],
  },
  {
    name: 'evidence/signed',
    prevents: 'a step is merged on evidence that nobody has seen who may say so',
    failures: ['F27'],
    caughtBy: 'unsigned-evidence',
    removals: [
      {
        file: 'src/verify/judge.js',
        find: 'function judgeSigned(evidence, { signers = [], signatures = {} }) {',
        replace: 'function judgeSigned(evidence, { signers = [], signatures = {} }) {\n    return holding;',
      },
    ],
  },
  {
    name: 'run/lock',
    prevents: 'two runners open two requests for one step on a forge that takes both',
    failures: ['F25'],
    caughtBy: 'two-runners',
    removals: [
      {
        file: 'src/commands/run.js',
        find: 'const locks = options.lock === undefined ? null : heldLocks({ ...context, ...options.lock });',
        replace: 'const locks = null;',
      },
    ],
  },
  {
    name: 'undo/waits',
    prevents: 'a second step back takes trust away while leaves of the new CA are still presented',
    failures: ['F26'],
    caughtBy: 'undone-twice',
    beside: {
      what: 'undo takes no look at leaves that are out',
      replacements: [
        {
          file: 'src/commands/next.js',
          find: 'await refuseUnsafeUndo(rotation, back, looks, now);',
          replace: 'void 0;',
        },
      ],
    },
    removals: [
      {
        file: 'src/commands/next.js',
        find: "if (ours.some(look => look.verdict.verdict !== 'holds'))",
        replace: 'if (false)',
      },
    ],
  },
  {
    name: 'check/steps',
    prevents: 'a pull request that skips a step is merged after its check',
    failures: ['F2', 'F25'],
    caughtBy: 'hurried-step',
    removals: [
      {
        file: 'src/safety/check.js',
        find: 'function orderFinding(',
        replace: 'function orderFinding() {\n    return null;\n}\nfunction orderFindingOf(',
      },
      brokenMixes,
    ],
  },
  {
    name: 'check/mixes',
    prevents: 'a revert that takes trust away from under leaves that are out is merged after its check',
    failures: ['F26'],
    caughtBy: 'reverted-step',
    removals: [brokenMixes],
  },
  {
    name: 'plan/key-belongs',
    prevents: 'a key is sealed beside a certificate that is not its own',
    failures: ['F30'],
    caughtBy: 'wrong-key',
    removals: [
      {
        file: 'src/systems/cassandra/ca-secret.js',
        find: 'if (certificate.x509.checkPrivateKey(key))',
        replace: 'if (key !== null)',
      },
    ],
  },
  {
    name: 'custody/last-look',
    prevents: 'a private key that sealing left open is committed',
    failures: ['F29'],
    caughtBy: 'unsealed-key',
    beside: {
      what: 'sealing leaves values as they are, and the leak guard is out',
      replacements: [unsealed, leakGuard],
    },
    removals: [lastLook],
  },
  {
    name: 'leak/guard',
    prevents: 'a private key that sealing left open is committed',
    failures: ['F29'],
    caughtBy: 'unsealed-key',
    beside: {
      what: 'sealing leaves values as they are, and the custody’s last look is out',
      replacements: [unsealed, lastLook],
    },
    removals: [leakGuard],
  },
  {
    name: 'proof/cassandra',
    prevents: 'a plan is carried out in which a CA signs nodes before anyone trusts it',
    failures: ['F2', 'F6'],
    caughtBy: 'cassandra-plain',
    beside: {
      what: 'the phase add adds nothing',
      replacements: [
        {
          file: 'src/systems/cassandra/phases.js',
          find: 'const both = state({ ...present, [second]: fresh }, old);',
          replace: 'const both = adopted;',
        },
      ],
    },
    removals: [{ file: 'src/commands/plan.js', find: '    if (proof.safe)', replace: '    if (true)' }],
  },
  {
    name: 'proof/kyma',
    prevents: 'a plan is carried out in which the connector issues before the gateway trusts',
    failures: ['F2', 'F6'],
    caughtBy: 'kyma-plain',
    beside: {
      what: 'the phase trust-both trusts nothing more',
      replacements: [
        {
          file: 'src/systems/kyma/phases.js',
          find: 'const both = { ...adopted, bundle: unique([...adopted.bundle, next]) };',
          replace: 'const both = { ...adopted };',
        },
      ],
    },
    removals: [{ file: 'src/commands/plan.js', find: '    if (proof.safe)', replace: '    if (true)' }],
  },
  {
    name: 'plan/accept-outage',
    prevents: 'an emergency is carried out although nobody has accepted what it breaks',
    failures: ['F15'],
    caughtBy: 'kyma-unaccepted-outage',
    removals: [
      {
        file: 'src/commands/plan.js',
        find: "if (made.strategy === 'emergency' && acceptOutage)",
        replace: "if (made.strategy === 'emergency')",
      },
    ],
  },
  {
    name: 'plan/equal-aliases',
    prevents: 'a CA is added whose alias in the truststores another has',
    failures: ['F8', 'F9', 'F10'],
    caughtBy: 'equal-subject',
    removals: [
      {
        file: 'src/systems/cassandra/accept.js',
        find: 'refuseEqualAliases(entries, fresh.issuer,',
        replace: 'void (entries, fresh.issuer,',
      },
    ],
  },
]
