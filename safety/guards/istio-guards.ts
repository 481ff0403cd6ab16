import { type Guard, type Replacement, withoutGates } from './guard.ts'

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

/** A control plane that stands still keeps every later step shut by what proxies hold. */
const heldByMesh = [
  'istio/istiod-serves',
  'istio/istiod-roots',
  'istio/root-configmaps',
  'istio/webhooks',
  'istio/roots-trusted',
  'istio/proxies-subscribed',
  'istio/leaves-issued',
  'istio/workloads-restarted',
  'istio/consumers-seen',
]

const unseenMesh: Guard['beside'] = {
  what: 'no gate looks at what replicas of istiod and proxies hold',
  replacements: [withoutGates(heldByMesh)],
}

export const istioGuards: readonly Guard[] = [
  {
    name: 'istio/wiring',
    prevents: 'the rotation closes while nothing of it has reached the control plane',
    failures: ['F23'],
    caughtBy: 'istio-suspended',
    gates: ['istio/wiring'],
    beside: {
      what: 'no gate looks at the delivery, the Secret or the mesh',
      replacements: [
        withoutGates([
          ...heldByMesh,
          'istio/control-plane',
          'istio/istiod-rolled',
          'istio/secret',
          'istio/canary',
          'delivery/applied',
        ]),
      ],
    },
  },
  {
    name: 'istio/control-plane',
    prevents: 'the rotation closes while the roll-out of istiod is stuck and everyone trusts the old root',
    failures: ['F14'],
    caughtBy: 'istio-stuck-istiod',
    gates: ['istio/control-plane', 'istio/istiod-rolled'],
    beside: unseenMesh,
  },
  {
    name: 'istio/istiod-rolled',
    prevents: 'the rotation closes while replicas of istiod run without the settings that it needs',
    failures: ['F3', 'F14'],
    caughtBy: 'istio-stuck-istiod',
    gates: ['istio/istiod-rolled', 'istio/control-plane'],
    beside: unseenMesh,
  },
  {
    name: 'istio/workloads-restarted',
    prevents: 'istiod issues from the new CA while old pods of a workload take no pushed trust',
    failures: ['F3', 'F14'],
    caughtBy: 'istio-stuck-workload',
    gates: ['istio/workloads-restarted', 'istio/consumers-seen', 'istio/proxies-subscribed'],
    beside: { what: 'no gate looks at the roots of proxies', replacements: [withoutGates(['istio/roots-trusted'])] },
  },
  {
    name: 'istio/machines-declared',
    prevents:
      'istiod issues from the new CA while a machine that no API shows, and nobody declared, trusts the old root',
    failures: ['F20'],
    caughtBy: 'istio-stranger',
    gates: ['istio/machines-declared'],
  },
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
  {
    name: 'istio/attested',
    prevents: 'istiod issues from the new CA while a machine that no API shows trusts the old root',
    failures: ['F20'],
    caughtBy: 'istio-unattested',
    gates: ['istio/attested'],
  },
  {
    name: 'istio/canary',
    prevents: 'a step opens although the cluster cannot open what was sealed for it',
    failures: ['F29', 'F30'],
    caughtBy: 'istio-sealed',
    gates: ['istio/canary', 'delivery/applied'],
  },
]
