import { issuerFile } from '../../../phases/linkerd/files.ts'
import type { SystemWords } from '../system.ts'
import { healthOf } from './health.ts'
import { deliveredIssuer, issuerSecretName } from './issuer-secret.ts'
import { linkerdOf } from './settings.ts'

/** What to watch while a phase rolls out. Commands only read. */
const watch: Readonly<Record<string, readonly string[]>> = {
  adopt: ['No pod restarts: anchors and pod templates have the bytes that they had.'],
  'trust-both': [
    '`linkerd check --proxy` warns that pods “do not have the current trust bundle and must be restarted” until the last step of this phase is through.',
    'Pods that nothing rolls (bare pods, running Jobs, OnDelete sets, paused Deployments) are named by the gate: their owners have to make them anew.',
  ],
  'issue-new': [
    '`kubectl --namespace linkerd get events --field-selector reason=IssuerUpdated` shows that identity has seen the new issuer; events of an earlier rotation match too, and one of several replicas makes it.',
    '`IssuerUpdateSkipped` means that identity refused it and goes on with the old one; do not restart identity then, it would not start.',
    'Leaves are renewed after 70 % of what is left of their life: with leaves of 24 hours the last one within 17 hours or so.',
  ],
  'trust-new': [
    'From here on a leaf of the old issuer is refused by every proxy that has restarted. The gate before this phase has seen none.',
  ],
  replace: ['Proxies that have restarted and those that have not refuse one another until the last one has.'],
}

export const linkerdWords: SystemWords = {
  watch: phase => watch[phase] ?? [],
  alarm:
    'Alarm: refreshes of a certificate that go on failing at a proxy (`control_identity_cert_refreshes_total{result="error"}`; of older ones the log says so), or a workload whose pods do not become ready within ten minutes of their restart.',
  emergency:
    'Proxies that have restarted with the new anchors and those that have not refuse one another, and those that have not get no leaf, until every workload has restarted.',
  acceptOutage:
    'run `reanchor plan --accept-outage`: proxies before and after their restart refuse one another, so requests between them fail until every workload is through',
  nudge:
    'restarts identity and the workloads, so that every replica reads the new issuer and every proxy asks for a new leaf now; the step that follows takes these annotations back, which restarts them once more',
  cleanUp(declaration) {
    const { namespace, flow } = linkerdOf(declaration)
    const own = `take the old certificate out of values and manifests of your own that still show it: the Component of the site’s folder stands over them`
    if (flow === 'trust-roots') return [own]
    return [
      own,
      `look at pods that were injected by hand outside of this repository: \`kubectl get pods --all-namespaces --selector linkerd.io/control-plane-ns=${namespace}\``,
    ]
  },
  places(declared) {
    const { namespace, flow } = linkerdOf(declared)
    const anchors =
      flow === 'trust-roots'
        ? `ConfigMap ${namespace}/linkerd-identity-trust-roots: ca-bundle.crt`
        : `ConfigMap ${namespace}/linkerd-config: data.global identityContext.trustAnchorsPem`
    return { anchors, issuer: `Secret ${namespace}/${issuerSecretName}` }
  },
  fitting(currents, now) {
    const states = currents.map(current => healthOf(current, now))
    const root = states.includes('root-expired')
    const issuer = states.includes('issuer-expired')
    const selfMade = currents.some(({ issuer: ca, roots }) => roots.some(each => each.sha256 === ca.sha256))
    return [
      {
        strategy: 'graceful',
        fits: !root && !issuer,
        why: root
          ? 'the root has expired: there is no overlap to keep'
          : issuer
            ? 'the issuer has expired: no leaf can be issued while both roots become trusted'
            : 'a new root with a new key, and no outage',
      },
      {
        strategy: 'issuer',
        fits: !root && !selfMade,
        why: selfMade
          ? 'root and issuer are one certificate, as linkerd install makes it, and its key is thrown away'
          : root
            ? 'the root has expired'
            : 'a new issuer under the root that everyone trusts, where the root’s key is at hand; one phase',
      },
      {
        strategy: 'emergency',
        fits: true,
        why: 'only where the key is in foreign hands, or the root has expired: it cuts connections',
      },
    ]
  },
  takeOvers(declaration, _site, adopted) {
    // What a HelmRelease takes values from is new; the Secret that the chart makes of them stays the chart's.
    if (deliveredIssuer(adopted.settings).name !== issuerSecretName) return []
    return [{ namespace: linkerdOf(declaration).namespace, name: issuerSecretName, file: issuerFile }]
  },
}
