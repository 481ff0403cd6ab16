import type { Guard } from './guard.ts'

export const linkerdGuards: readonly Guard[] = [
  {
    name: 'linkerd/leaves-issued',
    prevents: 'the old anchor goes while a proxy still presents a leaf of the old issuer',
    failures: ['F1'],
    caughtBy: 'linkerd-old-leaves',
    gates: ['linkerd/leaves-issued'],
  },
]
