import type { Fingerprint, Plan, TrustState } from '../../rotation.ts'

/**
 * Who meets whom in Kyma's application connectivity. The connector signs client certificates and verifies nobody; the ingress gateway verifies them;
 * runtimes and applications hold them, and renew them through that very gateway. Its own server certificate is another CA's, and no part of this.
 */
export type KymaParty = 'runtime' | 'application' | 'connector' | 'gateway'

export interface KymaPartyModel {
  /** As in a sentence. */
  readonly name: string
  readonly trust: 'when its Secret changes' | 'on restart where it reads files' | 'never'
  readonly leaf: 'on renewal' | 'by hand' | 'never'
  /** Where the fact is read: file of the upstream project. */
  readonly source: string
}

const kymaParties: Readonly<Record<KymaParty, KymaPartyModel>> = {
  runtime: {
    name: 'runtime',
    trust: 'never',
    // At less than 30 % of its validity, or when told.
    leaf: 'on renewal',
    source: 'kyma components/connectivity-certs-controller, compass-runtime-agent (certificate rotation)',
  },
  application: {
    name: 'application',
    trust: 'never',
    leaf: 'by hand',
    source:
      'kyma docs application-connector 08-09-renew-client-cert: whoever runs it renews it; no resource lists them',
  },
  connector: {
    name: 'connector',
    trust: 'never',
    leaf: 'never',
    source: 'kyma components/connector-service: reads its Secret through the API at every CSR',
  },
  gateway: {
    name: 'ingress gateway',
    trust: 'on restart where it reads files',
    leaf: 'never',
    source: 'istio pilot/pkg/credentials/kube/secrets.go (credential names); istio#33198 (files)',
  },
}

export interface KymaLink {
  readonly name: string
  readonly holder: KymaParty
  readonly verifier: KymaParty
  readonly acrossSites: boolean
}

/** The parties of a plan; without applications where the declaration says that there are none. */
export function kymaPartiesOf(applications: boolean): readonly KymaParty[] {
  return ['runtime', ...(applications ? (['application'] as const) : []), 'connector', 'gateway']
}

/** Every link that uses this CA: each holder of a client certificate to the gateway of its own site. */
export function kymaLinks(parties: readonly string[]): readonly KymaLink[] {
  const holders = (['runtime', 'application'] as const).filter(party => parties.includes(party))
  return (holders.length === 0 ? (['runtime'] as const) : holders).map(holder => ({
    name: `${holder} to gateway`,
    holder,
    verifier: 'gateway',
    acrossSites: false,
  }))
}

export function kymaPartyName(party: string): string {
  return Object.hasOwn(kymaParties, party) ? kymaParties[party as KymaParty].name : party
}

/**
 * The price of an emergency in words, for its pull request: one line for each pair that breaks. Every CA here is a root of its own, so a leaf is taken
 * where the gateway trusts a certificate of the key that signed it; price.ts finds the same by the path search.
 */
export function priceNotes(plan: Pick<Plan, 'certificates' | 'phases' | 'sites' | 'parties'>): readonly string[] {
  const keyOf = (sha256: Fingerprint): string =>
    plan.certificates.find(certificate => certificate.sha256 === sha256)?.spki ?? sha256
  const stands = plan.phases.flatMap(({ number, name, steps }) =>
    steps.flatMap((step): readonly { readonly label: string; readonly state: TrustState }[] => {
      const state = plan.sites.map(site => step.sites[site.name]?.state).find(found => found !== undefined)
      return state === undefined ? [] : [{ label: `${number}-${name}/${step.number}-${step.name}`, state }]
    }),
  )
  const lines = new Set<string>()
  for (const [index, after] of stands.entries()) {
    const before = stands[index - 1]
    if (before === undefined) continue
    for (const held of [before, after])
      for (const trusted of [before, after]) {
        if (trusted.state.bundle.some(anchor => keyOf(anchor) === keyOf(held.state.issuer))) continue
        for (const { holder, verifier } of kymaLinks(plan.parties))
          lines.add(
            `${holder} with a leaf of ${held.label} is refused by ${verifier} with the trust of ${trusted.label}`,
          )
      }
  }
  if (lines.size === 0) return ['the price: nobody is refused, as key, subject and key identifier stay.']
  return [...lines].map(line => `the price: ${line}, at every handshake until it has another certificate.`)
}
