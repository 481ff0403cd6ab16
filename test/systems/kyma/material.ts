import { generateKeyPairSync } from 'node:crypto'
import type { KubernetesObject } from '../../../src/cluster/cluster.ts'
import {
  basicConstraints,
  createCertificate,
  type KeySource,
  keyUsage,
  subjectKey,
} from '../../../src/pki/authority.ts'
import { type Certificate, certificateFacts, readCertificate } from '../../../src/pki/certificate.ts'
import { connectorLeaf } from '../../../src/rehearsal/kyma/certificates.ts'
import type { CertificateRole, Plan, PlannedCertificate, Strategy } from '../../../src/rotation.ts'
import type { KymaCa } from '../../../src/systems/kyma/next-ca.ts'
import type { KymaProfile } from '../../../src/systems/kyma/profile.ts'
import type { PhaseDraft } from '../../../src/systems/system.ts'

export const now = new Date('2026-11-22T06:00:00Z')
const day = 86_400_000

export function random(size: number): Buffer {
  return Buffer.alloc(size, 7)
}

/** RSA 2048 in place of 4096: forms are what is tested, and a minute of key making is not. */
export const quickKeys: KeySource = {
  generate: async () => generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey,
}

/** As Kyma's setup job makes it: CN=Kyma, serial 2, a subject key identifier that is not SHA-1 of the key (Go 1.25 and later). */
export async function kymaCa(
  options: { readonly ski?: string | null; readonly subject?: string } = {},
): Promise<KymaCa> {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const subject = options.subject ?? 'CN=Kyma'
  const ski = options.ski === undefined ? 'a1b2c3d4e5f60718293a4b5c6d7e8f9001122334' : options.ski
  const certificate = await createCertificate({
    subject,
    issuer: subject,
    publicKey: privateKey,
    signingKey: privateKey,
    serial: '02',
    notBefore: new Date(now.getTime() - 80 * day),
    notAfter: new Date(now.getTime() + 12 * day),
    extensions: [
      keyUsage(['keyEncipherment', 'keyCertSign', 'digitalSignature']),
      basicConstraints(null),
      ...(ski === null ? [] : [subjectKey(ski)]),
    ],
  })
  return { certificate, key: privateKey.export({ type: 'pkcs1', format: 'pem' }).toString() }
}

/** A client certificate as the connector signs it with this CA. */
export async function clientLeaf(ca: KymaCa): Promise<Certificate> {
  const life = { notBefore: now, notAfter: new Date(now.getTime() + 10 * day) }
  const { certificate } = await connectorLeaf({ certificate: ca.certificate.pem, key: ca.key }, 'runtime', life)
  return readCertificate(certificate)
}

export function secret(
  namespace: string,
  name: string,
  data: Readonly<Record<string, string>>,
  type = 'Opaque',
): KubernetesObject {
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { namespace, name },
    type,
    data: Object.fromEntries(Object.entries(data).map(([key, text]) => [key, Buffer.from(text).toString('base64')])),
  }
}

export function secretsOf(profile: KymaProfile, ca: KymaCa, more: Readonly<Record<string, string>> = {}) {
  const { signer, gateway } = profile
  return {
    signing: secret(signer.namespace, signer.secret, {
      [signer.certificateKey]: ca.certificate.pem,
      [signer.privateKey]: ca.key,
    }),
    verifying: secret(gateway.namespace, gateway.secret, { [gateway.key]: ca.certificate.pem, ...more }),
  }
}

/** A plan with nothing but what proof and price read. */
export function planOf(
  phases: readonly PhaseDraft[],
  certificates: readonly { readonly certificate: Certificate; readonly role: CertificateRole }[],
  strategy: Strategy,
): Plan {
  return {
    apiVersion: 'reanchor.dev/v1alpha1',
    kind: 'TrustPlan',
    metadata: { name: 'kyma-2026' },
    createdAt: now.toISOString().replace('.000', ''),
    system: 'kyma' as Plan['system'],
    strategy,
    base: 'main',
    inputs: { declaration: '', material: '', next: '' },
    certificates: certificates.map(
      ({ certificate, role }): PlannedCertificate => ({
        ...certificateFacts(certificate),
        role,
        sites: [],
        file: `certificates/${role}.pem`,
      }),
    ),
    sites: [{ name: 'central', path: 'trust/central' }],
    batches: [['central']],
    phases: phases.map((phase, number) => ({
      number,
      name: phase.name,
      title: phase.title,
      steps: phase.steps.map((step, index) => {
        const tree = (state: typeof step.state, way: string) => ({
          digest: `${phase.name}/${step.name}/${way}`.padEnd(64, '0'),
          state,
        })
        return {
          number: index + 1,
          name: step.name,
          what: step.what,
          sites: {
            central: {
              ...tree(step.state, 'step'),
              undo: step.undo === null ? null : tree(step.undo, 'undo'),
              nudge: step.nudge === null ? null : tree(step.nudge, 'nudge'),
            },
          },
        }
      }),
    })),
    wiring: [],
    canaries: { central: '' },
    gates: { hold: 0, fresh: 3_600_000, settle: 0, attest: [] },
    leafHours: 24,
    parties: ['runtime', 'application', 'connector', 'gateway'],
    formerDigests: {},
  }
}
