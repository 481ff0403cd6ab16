import type { Guard } from './guard.ts'

export const linkerdGuards: readonly Guard[] = [
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
]
