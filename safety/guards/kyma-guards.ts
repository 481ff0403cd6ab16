import type { Guard } from './guard.ts'

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
]
