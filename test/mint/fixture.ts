import { generateKeyPairSync } from 'node:crypto'
import type { KubernetesObject } from '../../src/cluster/cluster.ts'
import { readDeclaration } from '../../src/declaration/read.ts'
import { type Mint, mintsOf } from '../../src/mint/certificate.ts'
import type { MintSeen, SeenCertificate } from '../../src/mint/observe.ts'
import { type Certificate, readCertificate } from '../../src/pki/certificate.ts'
import { certificateAuthority, companyRoot, issueLeaf, type Pair } from '../../src/rehearsal/certificates.ts'
import type { Declaration } from '../../src/rotation.ts'

const now = new Date('2026-11-30T09:00:00Z')
export const day = 86_400_000

const systems = {
  istio: 'istio: {controlPlane: {eu-1: {file: i/eu-1.yaml}, us-1: {file: i/us-1.yaml}}}',
  linkerd:
    'linkerd: {flow: trust-roots, version: stable-2.14.10, controlPlane: {eu-1: {path: l/eu-1}, us-1: {path: l/us-1}}}',
  cassandra: 'cassandra: {cluster: example, namespace: cassandra}',
} as const

/** Two sites; `mint` is what stands under next.certManager, as flow YAML without its braces. */
export async function declared(mint: string, system: keyof typeof systems = 'istio', more = ''): Promise<Declaration> {
  return await readDeclaration(
    `apiVersion: reanchor.dev/v1alpha1
kind: TrustRotation
metadata: {name: mesh-2026}
spec:
  system: ${system}
  ${more}
  next: {certManager: {issuer: {name: mesh-root-2026}, ${mint}}}
  custody: {sops: {age: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p]}}
  sites:
    - {name: eu-1, path: trust/eu-1, delivery: {flux: {kustomization: flux-system/trust-eu}}}
    - {name: us-1, path: trust/us-1, delivery: {flux: {kustomization: flux-system/trust-us}}}
  ${systems[system]}
`,
    'rotations/mesh-2026/rotation.yaml',
  )
}

export const usual = 'path: "clusters/{site}"'

export async function oneMint(): Promise<Mint> {
  const [mint] = mintsOf(await declared(usual))
  if (mint === undefined) throw new Error('no mint')
  return mint
}

/** From an hour before `now`, for so many days. */
function life(days: number) {
  return { notBefore: new Date(now.getTime() - 3_600_000), notAfter: new Date(now.getTime() + days * day) }
}

export const root: Pair = companyRoot('mint root', life(3650))

export interface MintedPair {
  readonly pair: Pair
  readonly certificate: Certificate
}

/** As cert-manager makes it under the root. */
export function issued(days = 730, curve: 'P-256' | 'P-384' = 'P-256', under: Pair = root): MintedPair {
  const pair = certificateAuthority({
    name: [['2.5.4.3', 'minted']],
    key: generateKeyPairSync('ec', { namedCurve: curve }).privateKey,
    issuer: under,
    dns: [],
    life: life(days),
  })
  return { pair, certificate: readCertificate(pair.certificate) }
}

/** What an issuer signs that signs no CAs. */
export function leaf(): Certificate {
  return readCertificate(issueLeaf(root, { dns: ['minted'], life: life(730) }).certificate)
}

/** Everything as it should be; parts of it changed. */
export function seen(
  mint: Mint,
  certificate: Certificate,
  change: Partial<SeenCertificate> = {},
  more: Partial<MintSeen> = {},
): MintSeen {
  return {
    mint,
    cluster: 'uid-eu-1',
    seenAt: '2026-11-30T09:00:00Z',
    certificate: {
      generation: 1,
      createdAt: '2026-11-30T08:59:00Z',
      deleted: false,
      spec: mint.manifest.spec,
      ready: { status: 'True', observedGeneration: 1, message: 'up to date' },
      issuing: null,
      revision: 1,
      notAfter: certificate.notAfter,
      renewalTime: certificate.notAfter,
      ...change,
    },
    requests: [{ name: 'x-1', revision: 1, chain: [certificate], root: readCertificate(root.certificate) }],
    ...more,
  }
}

/** The Secret that cert-manager writes. */
export function secretOf(
  mint: Mint,
  parts: Readonly<Record<string, string>>,
  createdAt = '2026-11-30T08:59:05Z',
): KubernetesObject {
  return {
    metadata: { name: mint.name, namespace: mint.namespace, creationTimestamp: createdAt },
    data: Object.fromEntries(Object.entries(parts).map(([key, text]) => [key, Buffer.from(text).toString('base64')])),
  }
}
