import { trustText } from '../../src/report/trust-txt.ts'
import { treeDigest } from '../../src/repository/tree-digest.ts'
import type { CertificateFacts, Plan, PlannedPhase, PlannedSite, TrustState } from '../../src/rotation.ts'

export type Files = Record<string, string>

/** A site's folder as the renderer writes it, without its sealing: the private key is a stand-in for ciphertext. */
function folderOf(
  header: string,
  own: TrustState,
  certificates: readonly CertificateFacts[],
): ReadonlyMap<string, string> {
  const pem = (list: readonly string[]): string => list.map(sha256 => find(certificates, sha256).pem).join('')
  const facts = (list: readonly string[]): CertificateFacts[] => list.map(sha256 => find(certificates, sha256))
  const files = new Map<string, string>()
  files.set(
    'components/istiod/patch.yaml',
    `spec: ${JSON.stringify({ settings: own.settings, restarts: own.restarts })}\n`,
  )
  files.set('root-cert.pem', pem(own.bundle))
  if (own.source === 'plugged') {
    files.set(
      'cacerts.yaml',
      cacerts(
        { 'ca-cert.pem': pem([own.issuer]), 'cert-chain.pem': pem(own.chain), 'root-cert.pem': pem(own.bundle) },
        `ENC[AES256_GCM,data:${own.issuer.slice(0, 20)},type:str]`,
      ),
    )
    files.set('ca-cert.pem', pem([own.issuer]))
  }
  files.set(
    'trust.txt',
    trustText({
      header,
      places:
        own.source === 'own'
          ? [{ place: 'root-cert.pem', role: 'trusted', certificates: facts(own.bundle) }]
          : [
              { place: 'cacerts.yaml:ca-cert.pem', role: 'issuer', certificates: facts([own.issuer]) },
              { place: 'cacerts.yaml:cert-chain.pem', role: 'chain', certificates: facts(own.chain) },
              { place: 'cacerts.yaml:root-cert.pem', role: 'trusted', certificates: facts(own.bundle) },
            ],
    }),
  )
  return files
}

export function cacerts(data: Readonly<Record<string, string>>, key: string): string {
  const lines = Object.entries(data).map(([name, text]) => `  ${name}: ${Buffer.from(text).toString('base64')}`)
  return [
    'apiVersion: v1',
    'kind: Secret',
    'metadata:',
    '  name: cacerts',
    '  namespace: istio-system',
    'type: Opaque',
    'data:',
    ...lines,
    `  ca-key.pem: ${key}`,
    'sops:',
    '  mac: ENC[AES256_GCM,data:mac]',
    '',
  ].join('\n')
}

export interface Rendered {
  readonly plan: Plan
  /** `2-trust-both/1-data` and its ` undo`, ` nudge` → files under the site's path. */
  readonly files: (site: string, place: string) => Files
}

/** The same plan with real folders behind its digests. */
export function rendered(plan: Plan): Rendered {
  const folders = new Map<string, ReadonlyMap<string, string>>()
  const tree = (site: string, place: string, own: TrustState): { digest: string; state: TrustState } => {
    const folder = folderOf(`reanchor ${plan.metadata.name} ${place} ${site}`, own, plan.certificates)
    folders.set(`${site} ${place}`, folder)
    return { digest: treeDigest(folder), state: own }
  }
  const phases: PlannedPhase[] = plan.phases.map(phase => ({
    ...phase,
    steps: phase.steps.map(step => ({
      ...step,
      sites: Object.fromEntries(
        Object.entries(step.sites).map(([site, own]): [string, PlannedSite] => {
          const place = `${phase.number}-${phase.name}/${step.number}-${step.name}`
          return [
            site,
            {
              ...tree(site, place, own.state),
              undo: own.undo === null ? null : tree(site, `${place} undo`, own.undo.state),
              nudge: own.nudge === null ? null : tree(site, `${place} nudge`, own.nudge.state),
            },
          ]
        }),
      ),
    })),
  }))
  return {
    plan: { ...plan, phases },
    files: (site, place) => {
      const folder = folders.get(`${site} ${place}`)
      if (folder === undefined) throw new Error(`no folder for ${site} ${place}`)
      return Object.fromEntries([...folder].map(([path, text]) => [`trust/${site}/${path}`, text]))
    },
  }
}

function find(certificates: readonly CertificateFacts[], sha256: string): CertificateFacts {
  const found = certificates.find(certificate => certificate.sha256 === sha256)
  if (found === undefined) throw new Error(`no certificate ${sha256}`)
  return found
}
