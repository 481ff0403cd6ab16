import { readFileSync } from 'node:fs'
import { certificateFacts, readCertificate } from '../../src/pki/certificate.ts'
import type { CertificateFacts, Plan, TrustState } from '../../src/rotation.ts'
import { planOf, state } from '../safety/material.ts'

const read = (name: string): CertificateFacts =>
  certificateFacts(
    readCertificate(
      readFileSync(new URL(`../fixtures/pki/${name}`, import.meta.url), 'utf8')
        .trimEnd()
        .concat('\n'),
    ),
  )

/** The two certificates printed in the runbook for switching from Istio's self-signed CA. */
export const oldRoot = read('runbook-old-root.pem')
export const newRoot = read('runbook-new-root.pem')

/** A rotation between the two; the new root signs leaves itself, so that every text is the same on every run. */
export function runbookPlan(sites: readonly string[] = ['eu-1']): Plan {
  const [o, n] = [oldRoot.sha256, newRoot.sha256]
  const all = (own: TrustState): Record<string, TrustState> => Object.fromEntries(sites.map(site => [site, own]))
  const both = state({ bundle: [o, n], issuer: o })
  const issue = state({ bundle: [o, n, n], issuer: n })
  return planOf({
    certificates: [
      { facts: oldRoot, role: 'old-root' },
      { facts: newRoot, role: 'new-root' },
    ],
    sites,
    phases: [
      { name: 'adopt', steps: [{ name: 'adopt', sites: all(state({ bundle: [o], issuer: o, source: 'own' })) }] },
      {
        name: 'enable-multiroot',
        title: 'let proxies hold two roots',
        steps: [{ name: 'data', sites: all(state({ bundle: [o], issuer: o, source: 'own' })) }],
      },
      {
        name: 'trust-both',
        title: 'trust both roots',
        steps: [
          { name: 'data', sites: all(both), undo: all(state({ bundle: [o], issuer: o })) },
          {
            name: 'restart',
            sites: all({ ...both, restarts: { istiod: 'x' } }),
            undo: all(state({ bundle: [o], issuer: o })),
          },
        ],
      },
      {
        name: 'issue-new',
        title: 'issue from the new CA',
        steps: [{ name: 'data', sites: all(issue), undo: all(both), nudge: all({ ...issue, bundle: [o, n, n, n] }) }],
      },
      {
        name: 'trust-new',
        title: 'trust the new root only',
        steps: [{ name: 'data', sites: all(state({ bundle: [n], issuer: n })), undo: all(issue) }],
      },
      { name: 'close', title: 'close', steps: [{ name: 'close', sites: {} }] },
    ],
  })
}
