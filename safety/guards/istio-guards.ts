import type { Guard, Replacement } from './guard.ts'

const holdOut: Replacement = {
  file: 'src/verify/judge.js',
  find: 'function judgeHold(plan, evidence, now) {',
  replace:
    "function judgeHold(plan, evidence, now) {\n    if (plan !== null)\n        return result('evidence/hold', evidence.site, '', 'holds', [], null);",
}

const staleIstiod = {
  caughtBy: 'istio-stale-istiod',
  gates: ['istio/istiod-roots', 'istio/root-configmaps', 'istio/webhooks', 'istio/roots-trusted'],
}

export const istioGuards: readonly Guard[] = [
  {
    name: 'istio/istiod-roots',
    prevents: 'istiod issues from the new CA while one of its replicas hands out the old root alone',
    failures: ['F2', 'F24'],
    ...staleIstiod,
  },
  {
    name: 'istio/root-configmaps',
    prevents: 'istiod presents the new CA to proxies that verify it by a ConfigMap with the old root alone',
    failures: ['F12', 'F24'],
    ...staleIstiod,
  },
  {
    name: 'istio/webhooks',
    prevents: 'istiod presents the new CA to an API server whose caBundle holds the old root alone',
    failures: ['F11', 'F24'],
    ...staleIstiod,
  },
  {
    name: 'istio/secret',
    prevents:
      'an istiod that restarts plugs in a CA that nobody trusts, as a Secret cacerts stands beside the self-signed one',
    failures: ['F13'],
    caughtBy: 'istio-early-secret',
    gates: ['istio/secret'],
  },
  {
    name: 'istio/leaves-issued',
    prevents: 'the old root goes while a proxy still presents a leaf of the old CA',
    failures: ['F1', 'F3'],
    caughtBy: 'istio-old-issuer',
    // Leaves come and go between the two replicas, so that something has always just changed.
    beside: { what: 'there is no hold', replacements: [holdOut] },
    gates: ['istio/leaves-issued', 'istio/istiod-serves'],
  },
  {
    name: 'istio/istiod-serves',
    prevents: 'the old root goes while a replica of istiod signs by the old CA',
    failures: ['F3', 'F24'],
    caughtBy: 'istio-old-issuer',
    beside: { what: 'there is no hold', replacements: [holdOut] },
    gates: ['istio/istiod-serves', 'istio/leaves-issued'],
  },
  {
    name: 'evidence/hold',
    prevents: 'istiod presents the new CA to proxies whose files, which no API shows, are still the old ones',
    failures: ['F12', 'F24'],
    caughtBy: 'istio-slow-kubelet',
    removals: [holdOut],
  },
  {
    name: 'istio/roots-trusted',
    prevents: 'istiod issues from the new CA while a proxy does not trust it',
    failures: ['F2', 'F14'],
    caughtBy: 'istio-frozen-roots',
    gates: ['istio/roots-trusted', 'istio/consumers-seen', 'istio/proxies-subscribed'],
  },
  {
    name: 'istio/consumers-seen',
    prevents: 'a step opens while nobody knows what a proxy trusts',
    failures: ['F27'],
    caughtBy: 'istio-frozen-roots',
    gates: ['istio/consumers-seen', 'istio/roots-trusted', 'istio/proxies-subscribed'],
  },
  {
    name: 'istio/proxies-subscribed',
    prevents: 'a step opens while a proxy takes no pushed trust',
    failures: ['F3'],
    caughtBy: 'istio-frozen-roots',
    gates: ['istio/proxies-subscribed', 'istio/roots-trusted', 'istio/consumers-seen'],
  },
]
