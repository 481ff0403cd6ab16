import { type Guard, withoutGates } from './guard.ts'

export const kymaGuards: readonly Guard[] = [
  {
    name: 'kyma/gateway-trusts',
    prevents: 'the connector issues from the new CA while a pod of the gateway does not trust it',
    failures: ['F14', 'F21'],
    caughtBy: 'kyma-deaf-gateway',
    gates: ['kyma/gateway-trusts'],
  },
  {
    name: 'kyma/secrets',
    prevents: 'the connector issues from the new CA after the setup job has written the old one back for the gateway',
    failures: ['F21', 'F23'],
    caughtBy: 'kyma-setup-job',
    gates: ['kyma/secrets', 'kyma/gateway-trusts', 'delivery/applied'],
  },
  {
    name: 'kyma/runtimes-renewed',
    prevents: 'the gateway drops the old CA while a runtime still presents a certificate of it',
    failures: ['F1', 'F19'],
    caughtBy: 'kyma-stubborn-runtime',
    gates: ['kyma/runtimes-renewed'],
  },
  {
    name: 'kyma/attested',
    prevents: 'the gateway drops the old CA while applications, which no API shows, still present certificates of it',
    failures: ['F20'],
    caughtBy: 'kyma-applications',
    gates: ['kyma/attested'],
  },
  {
    name: 'kyma/runtimes-connected',
    prevents: 'the gateway drops the old CA while a runtime that reaches nothing still holds a certificate of it',
    failures: ['F1', 'F19'],
    caughtBy: 'kyma-cut-off',
    gates: ['kyma/runtimes-connected', 'kyma/runtimes-renewed'],
  },
  {
    name: 'kyma/consumers-seen',
    prevents: 'the gateway drops the old CA while nobody knows what a runtime presents',
    failures: ['F27'],
    caughtBy: 'kyma-unseen-runtime',
    gates: ['kyma/consumers-seen', 'kyma/runtimes-connected', 'kyma/runtimes-renewed'],
  },
  {
    name: 'evidence/complete',
    prevents:
      'the connector issues from the new CA while a pod of the gateway that a cut list left out does not trust it',
    failures: ['F14', 'F27'],
    caughtBy: 'kyma-cut-list',
    gates: ['kyma/consumers-seen', 'kyma/gateway-trusts'],
    removals: [
      {
        file: 'src/verify/judge.js',
        find: 'function judgeComplete(evidence) {',
        replace: 'function judgeComplete(evidence) {\n    return holding;',
      },
    ],
  },
  {
    name: 'kyma/overrides',
    prevents: 'the connector issues from the new CA until an upgrade writes the old one back',
    failures: ['F16', 'F21'],
    caughtBy: 'kyma-override',
    gates: ['kyma/overrides'],
  },
  {
    name: 'kyma/canary',
    prevents: 'a step opens although the cluster cannot open what was sealed for it',
    failures: ['F29', 'F30'],
    caughtBy: 'kyma-sealed',
    gates: ['kyma/canary', 'kyma/secrets', 'delivery/applied'],
  },
  {
    name: 'kyma/gateway-rolled',
    prevents: 'the rotation closes while the gateway’s roll-out is stuck and its pods trust the old CA',
    failures: ['F14', 'F24'],
    caughtBy: 'kyma-stuck-gateway',
    gates: ['kyma/gateway-rolled', 'kyma/gateway-trusts', 'delivery/applied'],
  },
  {
    name: 'kyma/gateway-surge',
    prevents: 'a restart takes all pods of the gateway down at once',
    failures: ['F14'],
    caughtBy: 'kyma-bare-gateway',
    gates: ['kyma/gateway-surge'],
  },
  {
    name: 'kyma/gateway-file',
    prevents: 'the gateway restarts while its nodes still have the old file, which its pods then keep',
    failures: ['F3', 'F24'],
    caughtBy: 'kyma-slow-node',
    removals: [withoutGates(['kyma/gateway-file'])],
    beside: {
      what: 'no gate looks at what the gateway has read, and none waits for runtimes',
      replacements: [
        withoutGates(['kyma/runtimes-connected']),
        {
          file: 'src/systems/kyma/gates.js',
          find: 'own.push(gatewayTrusts);',
          replace: 'void gatewayTrusts;',
        },
      ],
    },
  },
  {
    name: 'plan/own-cluster',
    prevents: 'a site adopts the CA of another, whose clients its gateway then refuses',
    failures: ['F27'],
    caughtBy: 'kyma-planned-elsewhere',
    removals: [{ file: 'src/commands/plan.js', find: 'if (twin !== undefined)', replace: 'if (false)' }],
  },
]
