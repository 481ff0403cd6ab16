import { generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto'
import { createIssuing, createRoot, privateKeyPem, serialFrom } from '../../../src/pki/authority.ts'
import { type Certificate, certificateFacts, readCertificate } from '../../../src/pki/certificate.ts'
import type { CertificateRole, Plan, PlannedPhase, TrustState } from '../../../src/rotation.ts'
import { sha256 } from '../../../src/verify/values.ts'
import type { ControlPlane } from './control-plane.ts'
import { istioNamespace } from './istio.ts'
import { until } from './server.ts'

/** A CA as `cacerts` holds it. For an own (self-signed) one, root and issuing certificate are the same. */
export interface MeshCa {
  readonly name: string
  readonly root: Certificate
  readonly issuing: Certificate
  readonly issuingKey: string
  /** What goes into cert-chain.pem. */
  readonly chain: readonly Certificate[]
}

const day = 86_400_000

/** A new root with an issuing CA under it, as reanchor makes them. */
export async function makeCa(name: string): Promise<MeshCa> {
  const now = Math.floor(Date.now() / 1000) * 1000
  const dated = { notBefore: new Date(now - 300_000), notAfter: new Date(now + 365 * day) }
  const serial = (): string => serialFrom(randomBytes)
  const rootKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
  const issuingKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
  const subject = `O=Istio,CN=Root ${name}`
  const root = await createRoot({ ...dated, subject, key: rootKey, serial: serial() })
  const issuing = await createIssuing({
    ...dated,
    subject: `O=Istio,CN=Issuing ${name}`,
    key: issuingKey,
    issuer: { certificate: root, key: rootKey },
    serial: serial(),
    dns: [`istiod.${istioNamespace}.svc`],
  })
  return { name, root, issuing, issuingKey: privateKeyPem(issuingKey), chain: [issuing, root] }
}

/** The CA that istiod made for itself, once it has. */
export async function ownCa(plane: ControlPlane): Promise<MeshCa> {
  const place = { apiVersion: 'v1', kind: 'Secret', namespace: istioNamespace, name: 'istio-ca-secret' }
  const secret = await until('istiod made its own CA', () => plane.objects.get(place), 60_000)
  const data = secret.data as Readonly<Record<string, string>>
  const text = (key: string): string => Buffer.from(data[key] ?? '', 'base64').toString('utf8')
  const certificate = readCertificate(new X509Certificate(text('ca-cert.pem')).toString())
  return {
    name: 'own',
    root: certificate,
    issuing: certificate,
    issuingKey: text('ca-key.pem'),
    chain: [certificate],
  }
}

/** Writes `cacerts`, as a deliverer would: `issuer` signs, `roots` are root-cert.pem in their order, repeats kept. */
export async function putCacerts(plane: ControlPlane, issuer: MeshCa, roots: readonly MeshCa[]): Promise<void> {
  const data = Object.entries({
    'ca-cert.pem': issuer.issuing.pem,
    'ca-key.pem': issuer.issuingKey,
    'cert-chain.pem': issuer.chain.map(({ pem }) => pem).join(''),
    'root-cert.pem': roots.map(({ root }) => root.pem).join(''),
  }).map(([key, text]) => [key, Buffer.from(text).toString('base64')])
  await plane.objects.apply(
    {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'cacerts', namespace: istioNamespace },
      type: 'Opaque',
      data: Object.fromEntries(data),
    },
    'kustomize-controller',
  )
}

/** Names for messages, by the fingerprints that Envoy shows. */
export function namesOf(...authorities: readonly MeshCa[]): ReadonlyMap<string, string> {
  const names = authorities.flatMap(({ name, root, issuing }): [string, string][] => [
    [issuing.sha256, name],
    [root.sha256, name],
  ])
  return new Map(names)
}

export const handSite = 'here'

/** What a folder would declare: the state that the verifier is asked about. */
export function stateOf(
  issuer: MeshCa,
  roots: readonly MeshCa[],
  more: Partial<Pick<TrustState, 'settings' | 'restarts' | 'source'>> = {},
): TrustState {
  return {
    bundle: roots.map(({ root }) => root.sha256),
    issuer: issuer.issuing.sha256,
    chain: issuer.chain.map(certificate => certificate.sha256),
    source: more.source ?? 'plugged',
    settings: more.settings ?? {},
    restarts: more.restarts ?? {},
  }
}

/** A plan whose phases declare these states, one step each, so that a gate can be asked about a state that a test made by hand. */
export function planOf(authorities: readonly MeshCa[], states: readonly TrustState[]): Plan {
  const certificates = new Map(
    authorities.flatMap(({ name, root, issuing }): [string, Plan['certificates'][number]][] => [
      [issuing.sha256, planned(issuing, 'new-issuing', `certificates/issuing-${name}.pem`)],
      [root.sha256, planned(root, 'new-root', `certificates/root-${name}.pem`)],
    ]),
  )
  const phases: PlannedPhase[] = states.map((state, number) => {
    const digest = sha256(`${number} ${JSON.stringify(state)}`)
    const sites = { [handSite]: { digest, state, undo: null, nudge: null } }
    const name = `phase-${number}`
    return { number, name, title: name, steps: [{ number: 1, name: 'data', what: name, sites }] }
  })
  return {
    apiVersion: 'reanchor.dev/v1alpha1',
    kind: 'TrustPlan',
    metadata: { name: 'by-hand' },
    createdAt: '2026-01-01T00:00:00Z',
    system: 'istio',
    strategy: 'graceful',
    base: 'main',
    inputs: { declaration: sha256('declaration'), material: sha256('material'), next: '0'.repeat(64) },
    certificates: [...certificates.values()],
    sites: [{ name: handSite, path: `trust/${handSite}` }],
    batches: [[handSite]],
    phases,
    wiring: [],
    canaries: { [handSite]: sha256('canary') },
    gates: { hold: 0, fresh: 3_600_000, settle: 0, attest: [] },
    leafHours: 24,
    parties: ['sidecar', 'gateway'],
    formerDigests: {},
  }
}

function planned(certificate: Certificate, role: CertificateRole, file: string): Plan['certificates'][number] {
  return { ...certificateFacts(certificate), role, sites: [handSite], file }
}
