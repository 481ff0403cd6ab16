import 'reflect-metadata'
import { createHash, webcrypto, X509Certificate } from 'node:crypto'
import * as x509 from '@peculiar/x509'
import type {
  CertificateFacts,
  CertificateRole,
  Plan,
  PlannedPhase,
  PlannedSite,
  TrustState,
} from '../../src/rotation.ts'

x509.cryptoProvider.set(webcrypto as never)

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }

export interface Authority {
  readonly facts: CertificateFacts
  readonly keys: webcrypto.CryptoKeyPair
}

export interface AuthorityOptions {
  readonly subject: string
  readonly issuer?: Authority
  readonly keys?: webcrypto.CryptoKeyPair
  readonly notBefore?: string
  readonly notAfter?: string
  readonly pathLength?: number
  readonly identifiers?: boolean
  readonly ca?: boolean
}

export async function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return (await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair
}

let serial = 1

export async function authority(options: AuthorityOptions): Promise<Authority> {
  const keys = options.keys ?? (await newKeys())
  const signer = options.issuer?.keys ?? keys
  const identifiers = options.identifiers ?? true
  const extensions: x509.Extension[] = [
    new x509.BasicConstraintsExtension(options.ca ?? true, options.pathLength, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
  ]
  if (identifiers) {
    extensions.push(await x509.SubjectKeyIdentifierExtension.create(keys.publicKey))
    extensions.push(await x509.AuthorityKeyIdentifierExtension.create(signer.publicKey))
  }
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: (serial++).toString(16).padStart(4, '0'),
    subject: options.subject,
    issuer: options.issuer?.facts.subject ?? options.subject,
    notBefore: new Date(options.notBefore ?? '2026-01-01T00:00:00Z'),
    notAfter: new Date(options.notAfter ?? '2036-01-01T00:00:00Z'),
    signingAlgorithm: algorithm,
    publicKey: keys.publicKey,
    signingKey: signer.privateKey,
    extensions,
  })
  return { facts: factsOf(Buffer.from(certificate.rawData), options), keys }
}

function factsOf(der: Buffer, options: AuthorityOptions): CertificateFacts {
  const read = new X509Certificate(der)
  const parsed = new x509.X509Certificate(der)
  return {
    sha256: createHash('sha256').update(der).digest('hex'),
    spki: createHash('sha256')
      .update(read.publicKey.export({ type: 'spki', format: 'der' }))
      .digest('hex'),
    subject: parsed.subject,
    issuer: parsed.issuer,
    serial: parsed.serialNumber.toLowerCase(),
    notBefore: parsed.notBefore.toISOString().replace('.000Z', 'Z'),
    notAfter: parsed.notAfter.toISOString().replace('.000Z', 'Z'),
    key: 'ECDSA P-256',
    ski: parsed.getExtension(x509.SubjectKeyIdentifierExtension)?.keyId ?? null,
    aki: parsed.getExtension(x509.AuthorityKeyIdentifierExtension)?.keyId ?? null,
    ca: options.ca ?? true,
    pathLength: options.pathLength ?? null,
    pem: read.toString(),
  }
}

/** A leaf as istiod makes it: the SKI of its issuer as AKI, a URI name. */
export async function leaf(
  issuer: Authority,
  notAfter = '2026-12-31T00:00:00Z',
): Promise<{ pem: string; key: string }> {
  const keys = await newKeys()
  const extensions: x509.Extension[] = [
    new x509.BasicConstraintsExtension(false, undefined, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment, true),
    new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
    new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: 'localhost' }]),
  ]
  if (issuer.facts.ski !== null) extensions.push(new x509.AuthorityKeyIdentifierExtension(issuer.facts.ski))
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: (serial++).toString(16).padStart(4, '0'),
    subject: 'CN=leaf',
    issuer: issuer.facts.subject,
    notBefore: new Date('2026-01-01T00:00:00Z'),
    notAfter: new Date(notAfter),
    signingAlgorithm: algorithm,
    publicKey: keys.publicKey,
    signingKey: issuer.keys.privateKey,
    extensions,
  })
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64')
  return {
    pem: new X509Certificate(Buffer.from(certificate.rawData)).toString(),
    key: `-----BEGIN PRIVATE KEY-----\n${pkcs8}\n-----END PRIVATE KEY-----\n`,
  }
}

export const now = '2026-11-22T06:00:00Z'

export function state(part: Partial<TrustState> & Pick<TrustState, 'bundle' | 'issuer'>): TrustState {
  return {
    chain: [part.issuer],
    source: 'plugged',
    settings: { ISTIO_MULTIROOT_MESH: 'true', PROXY_CONFIG_XDS_AGENT: 'true' },
    restarts: {},
    ...part,
  }
}

export interface StepOf {
  readonly name: string
  readonly sites: Readonly<Record<string, TrustState>>
  readonly undo?: Readonly<Record<string, TrustState>>
  readonly nudge?: Readonly<Record<string, TrustState>>
}

let digests = 0
function planned(own: TrustState): { digest: string; state: TrustState } {
  return { digest: createHash('sha256').update(String(digests++)).digest('hex'), state: own }
}

export interface PlanOf {
  readonly certificates: readonly (
    | CertificateFacts
    | { readonly facts: CertificateFacts; readonly role: CertificateRole }
  )[]
  readonly sites: readonly string[]
  readonly phases: readonly { readonly name: string; readonly title?: string; readonly steps: readonly StepOf[] }[]
  readonly parties?: readonly string[]
  readonly createdAt?: string
  readonly leafHours?: number
  readonly strategy?: Plan['strategy']
}

export function planOf(of: PlanOf): Plan {
  const phases: PlannedPhase[] = of.phases.map((phase, number) => ({
    number,
    name: phase.name,
    title: phase.title ?? phase.name,
    steps: phase.steps.map((step, index) => ({
      number: index + 1,
      name: step.name,
      what: `Does ${step.name}.`,
      sites: Object.fromEntries(
        Object.entries(step.sites).map(([site, own]): [string, PlannedSite] => {
          const undo = step.undo?.[site]
          const nudge = step.nudge?.[site]
          return [
            site,
            {
              ...planned(own),
              undo: undo === undefined ? null : planned(undo),
              nudge: nudge === undefined ? null : planned(nudge),
            },
          ]
        }),
      ),
    })),
  }))
  return {
    apiVersion: 'reanchor.dev/v1alpha1',
    kind: 'TrustPlan',
    metadata: { name: 'mesh-2026' },
    createdAt: of.createdAt ?? now,
    system: 'istio',
    strategy: of.strategy ?? 'graceful',
    base: 'main',
    inputs: { declaration: '0'.repeat(64), material: '0'.repeat(64), next: '0'.repeat(64) },
    certificates: of.certificates.map((certificate, index) => {
      const facts = 'facts' in certificate ? certificate.facts : certificate
      const role = 'facts' in certificate ? certificate.role : 'chain'
      return { ...facts, role, sites: [], file: `certificates/${index}.pem` }
    }),
    sites: of.sites.map(name => ({ name, path: `trust/${name}` })),
    batches: [of.sites],
    phases,
    wiring: [],
    canaries: {},
    gates: { hold: 600_000, fresh: 3_600_000, settle: 30_000, attest: [] },
    leafHours: of.leafHours ?? 24,
    parties: of.parties ?? ['sidecar', 'gateway', 'istiod', 'webhook'],
    formerDigests: {},
  }
}

export interface Material {
  readonly oldRoot: Authority
  readonly newRoot: Authority
  readonly issuing: Authority
}

export async function material(): Promise<Material> {
  const oldRoot = await authority({ subject: 'O=cluster.local' })
  const newRoot = await authority({ subject: 'CN=Root 2026, O=acme' })
  const issuing = await authority({ subject: 'CN=Istio eu-1, O=acme', issuer: newRoot, pathLength: 0 })
  return { oldRoot, newRoot, issuing }
}

/** The graceful rotation from the self-signed CA, as the renderer plans it. */
export function gracefulPlan(
  { oldRoot, newRoot, issuing }: Material,
  sites: readonly string[] = ['eu-1'],
  more: Partial<PlanOf> = {},
): Plan {
  const [o, n, i] = [oldRoot.facts.sha256, newRoot.facts.sha256, issuing.facts.sha256]
  const all = (own: TrustState): Record<string, TrustState> => Object.fromEntries(sites.map(site => [site, own]))
  const own = state({ bundle: [o], issuer: o, source: 'own', settings: {} })
  const flagged = state({ bundle: [o], issuer: o, source: 'own' })
  const back = state({ bundle: [o], issuer: o })
  const both = state({ bundle: [o, n], issuer: o })
  const issue = state({ bundle: [o, n, n], issuer: i, chain: [i, n] })
  const only = state({ bundle: [n], issuer: i, chain: [i, n] })
  const restarted = (to: TrustState, token: string): TrustState => ({ ...to, restarts: { istiod: token } })
  return planOf({
    certificates: [
      { facts: oldRoot.facts, role: 'old-root' },
      { facts: newRoot.facts, role: 'new-root' },
      { facts: issuing.facts, role: 'new-issuing' },
    ],
    sites,
    phases: [
      { name: 'adopt', steps: [{ name: 'adopt', sites: all(own) }] },
      {
        name: 'enable-multiroot',
        title: 'let proxies hold two roots',
        steps: [
          { name: 'data', sites: all(flagged), undo: all(own) },
          { name: 'restart', sites: all({ ...flagged, restarts: { workloads: 'a' } }) },
        ],
      },
      {
        name: 'trust-both',
        title: 'trust both roots',
        steps: [
          { name: 'data', sites: all(both), undo: all(back) },
          { name: 'restart', sites: all(restarted(both, 'b')), undo: all(back) },
        ],
      },
      {
        name: 'issue-new',
        title: 'issue from the new CA',
        steps: ['data', 'restart'].map(name => ({
          name,
          sites: all(name === 'data' ? issue : restarted(issue, 'c')),
          undo: all(state({ bundle: [o, n, n, n], issuer: o })),
          nudge: all({ ...issue, bundle: [o, n, n, n] }),
        })),
      },
      {
        name: 'trust-new',
        title: 'trust the new root only',
        steps: [
          { name: 'data', sites: all(only), undo: all(issue) },
          { name: 'restart', sites: all(restarted(only, 'd')), undo: all(issue) },
        ],
      },
      { name: 'close', title: 'close', steps: [{ name: 'close', sites: {} }] },
    ],
    ...more,
  })
}
