import type { SystemWords } from '../system.ts'
import { kymaSetting } from './phases.ts'
import { gatewayId, signerId } from './profile.ts'
import { kymaOf } from './settings.ts'

/** What to watch while a phase rolls out. Commands only read. */
const watch: Readonly<Record<string, readonly string[]>> = {
  adopt: ['Nothing restarts, and no client notices: both Secrets keep the values that they had.'],
  'trust-both': [
    'Clients keep working throughout: `kubectl --namespace istio-system logs deployment/istio-ingressgateway` shows a refusal as a TLS error.',
  ],
  'issue-new': [
    'Runtimes renew when less than 30 % of the validity of their certificate is left, which with 92 days is after 64 days, or when told; the gate names each that has not, with the date and the command.',
    'A runtime that renews writes the CA that the connector now answers with over what its own cluster trusts: applications that call it with an old certificate are refused from then on.',
  ],
  'trust-new': [
    'From here on the old CA is not trusted: a client that was forgotten fails now, and comes back only with a new token.',
  ],
  replace: [
    'With a new key every client is refused from the moment at which the gateway has the new CA, until it was given a new token: the gate names each runtime and what to run in its cluster.',
  ],
}

export const kymaWords: SystemWords = {
  watch: phase => watch[phase] ?? [],
  emergency:
    'The gateway stops trusting the old CA at once. With a new key every runtime and application is refused until it was given a new token; with a new certificate for the same key nobody is.',
  acceptOutage:
    'run `reanchor plan --accept-outage`: with a new key every runtime and application is refused until it was given a new token, which renews nothing by itself',
  nudge: 'so that gateway pods that were made while their node still had the old file start once more',
  cleanUp: declaration => {
    const settings = kymaOf(declaration)
    return [
      'in runtime clusters the agent keeps its own copy of the CA: see that no one there still lists the old one',
      ...(settings.applications
        ? ['applications that were vouched for: delete what remains of their old certificates']
        : []),
    ]
  },
  places(declared) {
    const settings = kymaOf(declared)
    return {
      anchors: `${gatewayId(settings)}: ${settings.gateway.key}`,
      issuer: `${signerId(settings)}: ${settings.signer.certificateKey}`,
    }
  },
  fitting(currents, now) {
    const expired = currents.map(({ issuer }) => issuer).find(({ notAfter }) => Date.parse(notAfter) <= now.getTime())
    const ended =
      expired === undefined ? '' : `the CA ${expired.subject} has expired, and nobody can renew through the gateway`
    return [
      {
        strategy: 'renew',
        fits: expired === undefined,
        why: expired === undefined ? 'the same key, subject and key identifier: no client notices' : ended,
      },
      {
        strategy: 'graceful',
        fits: expired === undefined,
        why: expired === undefined ? 'a new key, and no outage: every client renews while both CAs are trusted' : ended,
      },
      {
        strategy: 'emergency',
        fits: true,
        why: 'only where certificate or key is in foreign hands, or the CA has expired: with a new key every client is refused',
      },
    ]
  },
  takeOvers(_declaration, _site, { settings }) {
    return [
      {
        namespace: settings[kymaSetting.signerNamespace] ?? '',
        name: settings[kymaSetting.signer] ?? '',
        file: 'connector-ca.yaml',
      },
    ]
  },
}
