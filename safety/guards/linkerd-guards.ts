import { type Guard, withoutGates } from './guard.ts'

const heldByPods = [
  'linkerd/control-plane',
  'linkerd/control-plane-trusts',
  'linkerd/workloads-restarted',
  'linkerd/proxies-trust',
  'linkerd/issuer-loaded',
  'linkerd/leaves-issued',
]

const delivered = ['delivery/applied', 'linkerd/canary', 'linkerd/anchors-published', 'linkerd/identity-checks']

export const linkerdGuards: readonly Guard[] = [
  {
    name: 'linkerd/anchors-published',
    prevents: 'the rotation closes while the ConfigMap that everyone starts with holds the old root alone',
    failures: ['F2', 'F23'],
    caughtBy: 'linkerd-old-anchors',
    gates: ['linkerd/anchors-published', 'delivery/applied'],
    beside: {
      what: 'no gate looks at what pods hold, and none does the checks of `linkerd check`',
      replacements: [withoutGates([...heldByPods, 'linkerd/issuer-secret', 'linkerd/identity-checks'])],
    },
  },
  {
    name: 'linkerd/identity-checks',
    prevents: 'the rotation goes on with an issuer that the anchors in the cluster do not verify',
    failures: ['F2'],
    caughtBy: 'linkerd-old-anchors',
    gates: ['linkerd/identity-checks'],
    beside: {
      what: 'no gate looks at what pods hold, at the ConfigMap or at the delivery',
      replacements: [
        withoutGates([...heldByPods, 'linkerd/issuer-secret', 'linkerd/anchors-published', 'delivery/applied']),
      ],
    },
  },
  {
    name: 'linkerd/wiring',
    prevents: 'the rotation closes while nothing of it has reached the control plane',
    failures: ['F23'],
    caughtBy: 'linkerd-suspended',
    gates: ['linkerd/wiring'],
    beside: {
      what: 'no gate looks at the delivery, at the Secret or at what pods hold',
      replacements: [withoutGates([...heldByPods, ...delivered, 'linkerd/issuer-secret'])],
    },
  },
  {
    name: 'linkerd/issuer-secret',
    prevents: 'the rotation closes while identity’s Secret is still that of before',
    failures: ['F23'],
    caughtBy: 'linkerd-suspended',
    gates: ['linkerd/issuer-secret'],
    beside: {
      what: 'no gate looks at the delivery, the wiring or at what pods hold',
      replacements: [withoutGates([...heldByPods, ...delivered, 'linkerd/wiring'])],
    },
  },
  {
    name: 'linkerd/machines-declared',
    prevents:
      'identity issues from the new issuer while a machine that no API shows, and nobody declared, trusts the old root',
    failures: ['F20'],
    caughtBy: 'linkerd-stranger',
    gates: ['linkerd/machines-declared'],
  },
  {
    name: 'linkerd/leaves-issued',
    prevents: 'the old anchor goes while a proxy still presents a leaf of the old issuer',
    failures: ['F1'],
    caughtBy: 'linkerd-old-leaves',
    gates: ['linkerd/leaves-issued'],
  },
  {
    name: 'linkerd/issuer-loaded',
    prevents: 'the old anchor goes while a replica of identity still issues from the old issuer',
    failures: ['F1'],
    caughtBy: 'linkerd-deaf-identity',
    gates: ['linkerd/issuer-loaded', 'linkerd/leaves-issued'],
  },
  {
    name: 'linkerd/proxies-trust',
    prevents: 'identity issues from the new issuer while a proxy does not trust the new root',
    failures: ['F2', 'F14'],
    caughtBy: 'linkerd-stuck-workload',
    gates: ['linkerd/proxies-trust', 'linkerd/workloads-restarted'],
  },
  {
    name: 'linkerd/workloads-restarted',
    prevents: 'a step opens while a workload is still in the middle of its roll-out',
    failures: ['F14'],
    caughtBy: 'linkerd-stuck-workload',
    gates: ['linkerd/workloads-restarted', 'linkerd/proxies-trust'],
  },
  {
    name: 'linkerd/control-plane',
    prevents: 'the rotation closes while the roll-out of the control plane is stuck',
    failures: ['F14'],
    caughtBy: 'linkerd-stuck-control-plane',
    gates: ['linkerd/control-plane', 'linkerd/control-plane-trusts'],
  },
  {
    name: 'linkerd/control-plane-trusts',
    prevents: 'the rotation closes while a pod of the control plane still trusts the old root',
    failures: ['F14'],
    caughtBy: 'linkerd-stuck-control-plane',
    gates: ['linkerd/control-plane-trusts', 'linkerd/control-plane'],
  },
  {
    name: 'linkerd/control-links',
    prevents: 'the rotation goes on while proxies refuse identity, and lose their leaves one by one',
    failures: ['F12'],
    caughtBy: 'linkerd-cut-off-plane',
    gates: ['linkerd/control-links'],
    beside: {
      what: 'no gate asks what each pod trusts and presents by itself',
      replacements: [withoutGates([...heldByPods, 'linkerd/identity-checks'])],
    },
  },
  {
    name: 'linkerd/webhook',
    prevents: 'workloads restart while the API server refuses the injector',
    failures: ['F11'],
    caughtBy: 'linkerd-broken-webhook',
    gates: ['linkerd/webhook'],
  },
  {
    name: 'linkerd/consumers-seen',
    prevents: 'the old anchor goes while nobody knows what a proxy presents',
    failures: ['F27'],
    caughtBy: 'linkerd-unseen-leaf',
    gates: ['linkerd/consumers-seen', 'linkerd/leaves-issued'],
  },
  {
    name: 'linkerd/attested',
    prevents: 'identity issues from the new issuer while a machine that no API shows trusts the old root',
    failures: ['F20'],
    caughtBy: 'linkerd-unattested',
    gates: ['linkerd/attested'],
  },
  {
    name: 'linkerd/canary',
    prevents: 'a step opens although the cluster cannot open what was sealed for it',
    failures: ['F29', 'F30'],
    caughtBy: 'linkerd-sealed',
    gates: ['linkerd/canary', 'linkerd/issuer-secret', 'delivery/applied'],
  },
]
