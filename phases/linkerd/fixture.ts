import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Certificate, readCertificate } from '../../src/pki/certificate.ts'
import type { CurrentCa, NextCa } from '../../src/plan/ca.ts'
import { linkerdFleet } from '../../src/rehearsal/linkerd/fleet.ts'
import { demoVersions } from '../../src/rehearsal/linkerd/names.ts'
import type { FileTree } from '../../src/rotation.ts'
import type { IssuerScheme } from '../../src/systems/linkerd/issuer-secret.ts'
import type { LinkerdFlow } from '../../src/systems/linkerd/version.ts'

/** One rotation of Linkerd that `output/` shows. */
export interface LinkerdFixture {
  readonly name: string
  /** rotation.yaml */
  readonly declaration: string
  readonly files: FileTree
  readonly current: CurrentCa
  readonly next: NextCa
  readonly waysBack: boolean
}

const site = 'eu-1'
/** A public key whose private half nobody keeps. */
const recipient = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p'

/** Each flow once, the external form of the Secret once, and both other strategies. */
export function linkerdFixtures(): readonly LinkerdFixture[] {
  return [
    fixture('linkerd-graceful-trust-roots', 'trust-roots', { waysBack: true }),
    fixture('linkerd-graceful-upgrade', 'upgrade', {}),
    fixture('linkerd-graceful-config-map', 'config-map', { scheme: 'kubernetes.io/tls' }),
    fixture('linkerd-emergency-trust-roots', 'trust-roots', { strategy: 'emergency' }),
  ]
}

function fixture(
  name: string,
  flow: LinkerdFlow,
  parts: { readonly strategy?: string; readonly scheme?: IssuerScheme; readonly waysBack?: boolean },
): LinkerdFixture {
  const [root, issuer] = [certificate('old-root'), certificate('old-issuer')]
  const scheme = parts.scheme ?? 'linkerd.io/tls'
  const secretType = scheme === 'linkerd.io/tls' ? 'Opaque' : scheme
  return {
    name,
    declaration: declaration(flow, parts.strategy ?? 'graceful'),
    files: linkerdFleet({ sites: [site], ageRecipient: recipient, flow, root: root.pem }),
    current: {
      issuer,
      chain: [issuer],
      roots: [root],
      // Stand where private keys would: no key is in this repository, and synth neither makes nor signs anything.
      key: 'fixture: no key\n',
      source: 'plugged',
      settings: { scheme, secretType, version: demoVersions[flow] },
      restarts: {},
    },
    next: {
      root: certificate('new-root'),
      issuer: certificate('new-issuer'),
      chain: [certificate('new-issuer')],
      key: 'fixture: no key of new-issuer\n',
    },
    waysBack: parts.waysBack ?? false,
  }
}

function declaration(flow: LinkerdFlow, strategy: string): string {
  return `apiVersion: reanchor.dev/v1alpha1
kind: TrustRotation
metadata:
  name: mesh-2026
spec:
  system: linkerd
  strategy: ${strategy}
  forge: local
  custody:
    sops: {age: [${recipient}]}
  sites:
    - name: ${site}
      path: trust/${site}
      delivery:
        flux: {kustomization: flux-system/trust, file: clusters/${site}/trust.yaml}
  reload:
    workloads:
      - {site: ${site}, path: apps/${site}}
  linkerd:
    flow: ${flow}
    version: ${demoVersions[flow]}
    controlPlane: {${site}: {path: linkerd/${site}}}
`
}

/** Text of a public certificate. The PEM files lie in the sources alone, so the build looks back to them. */
function certificate(name: string): Certificate {
  const folders = ['./certificates/', '../../../phases/linkerd/certificates/'].map(
    path => new URL(path, import.meta.url),
  )
  const folder = folders.find(url => existsSync(fileURLToPath(url)))
  if (folder === undefined) throw new Error('phases/linkerd/certificates is missing: synth runs in a checkout only')
  return readCertificate(readFileSync(new URL(`${name}.pem`, folder), 'utf8'))
}
