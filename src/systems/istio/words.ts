import type { CurrentCa } from '../../plan/ca.ts'
import { stepsOf } from '../../plan/steps.ts'
import type { FittingStrategy, SystemWords } from '../system.ts'
import { multirootSetting } from './phases.ts'
import { istioOf } from './settings.ts'

const watching: Readonly<Record<string, readonly string[]>> = {
  adopt: [
    'The delivery object is ready at this revision, and the canary Secret holds its plain value: then decryption works.',
  ],
  'enable-multiroot': ['istiod rolls once; then every pod that a restart creates carries `PROXY_CONFIG_XDS_AGENT`.'],
  'trust-both': [
    '`istio-ca-root-cert` in every namespace comes to hold both roots, and `istioctl proxy-config secret` shows both under ROOTCA.',
  ],
  'issue-new': [
    'Many leaves are renewed at once: CPU of istiod and errors of certificate requests.',
    'Failed handshakes (`ssl.fail_verify_error`, response flag UF): only new connections show them, old ones live on.',
  ],
  'trust-new': [
    'A root that goes too early shows in new connections alone, and open ones may last for hours: `ssl.fail_verify_error` and response flag UF against the hours before.',
    'Consumers outside the mesh that hold a copy of the old root, such as virtual machines: ask whoever runs them. reanchor sees none that is not declared.',
  ],
}

export const istioWords: SystemWords = {
  watch: phase => watching[phase] ?? [],
  restarting: (before, after) =>
    before.settings[multirootSetting] === after.settings[multirootSetting] ? [] : ['istiod'],
  alarm:
    'Alarm: `ssl.fail_verify_error` or response flag UF that goes on growing at a workload for five minutes; where every mix is safe, nothing adds to it.',
  emergency:
    'this strategy cuts connections on purpose: from the restart of istiod on, proxies that have restarted and those that have not refuse one another, until the last workload has restarted',
  acceptOutage:
    'this strategy cuts connections on purpose, until every proxy has restarted: plan again with --accept-outage; `reanchor prove` then prints every pair of steps',
  nudge: 'the root stands in the bundle once more, so that proxies that kept an old leaf renew it now',
  cleanUp(declaration, plan) {
    const own = Object.values(stepsOf(plan)[0]?.step.sites ?? {}).some(site => site.state.source === 'own')
    if (!own) return []
    return [
      `delete the self-signed CA that nobody uses any more, or an istiod that loses cacerts returns to it: \`kubectl -n ${istioOf(declaration).namespace} delete secret istio-ca-secret\``,
    ]
  },
  places(declared, _site, current) {
    const secret = `Secret ${istioOf(declared).namespace}/${current.source === 'own' ? 'istio-ca-secret' : 'cacerts'}`
    return { anchors: `${secret}: root-cert.pem`, issuer: `${secret}: ca-cert.pem` }
  },
  fitting: strategiesFor,
  takeOvers: (declaration, _site, adopted) =>
    adopted.source === 'plugged'
      ? [{ namespace: istioOf(declaration).namespace, name: 'cacerts', file: 'cacerts.yaml' }]
      : [],
}

function strategiesFor(currents: readonly CurrentCa[], now: Date): readonly FittingStrategy[] {
  const expired = currents.flatMap(current => current.roots).find(root => Date.parse(root.notAfter) <= now.getTime())
  const own = currents.some(current => current.source === 'own')
  return [
    {
      strategy: 'graceful',
      fits: expired === undefined,
      why:
        expired === undefined
          ? 'a new root with a new key, and no outage'
          : `the root ${expired.subject} has expired: there is no overlap to keep`,
    },
    {
      strategy: 'issuer',
      fits: expired === undefined && !own,
      why: own
        ? 'needs a root whose key is at hand outside of istiod; this one is self-signed'
        : 'a new issuing CA under the root that everyone trusts; one phase',
    },
    {
      strategy: 'emergency',
      fits: true,
      why: 'only where the key is in foreign hands, or the root has expired: it cuts connections',
    },
  ]
}
