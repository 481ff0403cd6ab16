import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { stringify } from 'yaml'
import { output } from './components.ts'
import type { Manifest } from './objects.ts'

/** Who may read a repository, and by what its server is known. */
export interface RepositoryReader {
  readonly username: string
  readonly token: string
  /** PEM of the certificate that is trusted. */
  readonly certificate: string
}

/** A user's GitOps repository: a bare one, which Flux or Argo CD reads by its path, and the clone that the user works in. */
export interface FleetRepository {
  readonly bare: string
  readonly clone: string
  readonly url: string
  /** Age identity whose recipient `.sops.yaml` names; clusters get it as Secret (see `decryptionSecret`), the user keeps it in this file. */
  readonly identity: string
  readonly recipient: string
  /** A folder outside of the repository, for what must not lie in it. */
  readonly outside: string
  /** The user commits to main and pushes. Null takes a file away. Returns the commit. */
  commit(changes: Readonly<Record<string, string | null>>, message: string): Promise<string>
  /** Brings the clone to where main is. */
  pull(): Promise<void>
  git(...args: string[]): Promise<string>
  /** Brings `bare` to what a forge has, as source-controller does with its own clone. Absent: everybody pushes to `bare` itself. */
  readonly sync?: () => Promise<void>
  /** For Argo CD, which fetches by itself. Absent: `url` is a path that nobody guards. */
  readonly reader?: () => Promise<RepositoryReader>
  close(): Promise<void>
}

/** `makeRepository`, or what does the same elsewhere. */
export type RepositoryMaker<R extends FleetRepository> = (
  files: (url: string, recipient: string) => Readonly<Record<string, string>>,
) => Promise<R>

/** Makes the repository with its first commit. `files` gets the URL and the age recipient of the fleet. */
export async function makeRepository(
  files: (url: string, recipient: string) => Readonly<Record<string, string>>,
): Promise<FleetRepository> {
  const folder = await mkdtemp(join(tmpdir(), 'rf-'))
  const bare = join(folder, 'fleet.git')
  const clone = join(folder, 'fleet')
  const url = `file://${bare}`
  const identity = await generateX25519Identity()
  const recipient = await identityToRecipient(identity)
  await output('git', ['init', '--quiet', '--bare', '--initial-branch=main', bare])
  await output('git', ['clone', '--quiet', bare, clone])
  const git = (...args: string[]): Promise<string> => output('git', args, { cwd: clone })
  await git('config', 'user.name', 'Robin')
  await git('config', 'user.email', 'robin@example.com')
  await git('config', 'commit.gpgsign', 'false')

  async function write(changes: Readonly<Record<string, string | null>>, message: string): Promise<string> {
    for (const [path, text] of Object.entries(changes)) {
      const file = join(clone, path)
      if (text === null) {
        await rm(file, { force: true })
        continue
      }
      await mkdir(dirname(file), { recursive: true })
      await writeFile(file, text)
    }
    await git('add', '--all')
    await git('commit', '--quiet', '--message', message)
    await git('push', '--quiet', 'origin', 'HEAD:main')
    return (await git('rev-parse', 'HEAD')).trim()
  }

  async function pull(): Promise<void> {
    await git('fetch', '--quiet', 'origin')
    await git('reset', '--quiet', '--hard', 'origin/main')
  }

  await git('checkout', '--quiet', '-B', 'main')
  await write(files(url, recipient), 'The fleet as it is')
  // As a clone of a repository that had commits would know it.
  await git('remote', 'set-head', 'origin', '--auto')
  return {
    bare,
    clone,
    url,
    identity,
    recipient,
    outside: folder,
    async commit(changes, message) {
      await pull()
      return await write(changes, message)
    },
    pull,
    git,
    close: () => rm(folder, { recursive: true, force: true }),
  }
}

/** The Secret that Flux decrypts with; whoever bootstraps a cluster puts it there. */
export function decryptionSecret(repository: Pick<FleetRepository, 'identity'>): Manifest {
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 'sops-age', namespace: 'flux-system' },
    stringData: { 'age.agekey': `${repository.identity}\n` },
  }
}

export interface FleetSite {
  readonly name: string
  /** The Istio resource, as YAML. */
  readonly istio: string
  /** More of istio/<site>: mesh-wide objects, by name of the file. */
  readonly mesh?: Readonly<Record<string, string>>
}

export interface FluxFleetOptions {
  readonly sites: readonly FleetSite[]
  readonly recipient: string
}

/** A repository as `flux bootstrap` begins it: clusters/<site> leads to istio/<site>, and later to apps/<site>. */
export function fluxFleet(options: FluxFleetOptions): Record<string, string> {
  const { recipient } = options
  const files: Record<string, string> = {
    'README.md':
      '# Fleet\n\nFlux applies `clusters/<cluster>`, which leads to `istio/<cluster>` and `apps/<cluster>`.\n',
    '.sops.yaml': `creation_rules:
  # Private values only, so that reviews stay readable.
  - path_regex: ^(trust|apps|istio|rotations)/.*\\.yaml$
    encrypted_regex: ^(ca-key\\.pem|tls\\.key|canary|password)$
    mac_only_encrypted: true
    age: ${recipient}
`,
  }
  for (const { name, istio, mesh = {} } of options.sites) {
    files[`clusters/${name}/flux-system/gotk-sync.yaml`] = syncOf(name)
    files[`clusters/${name}/flux-system/kustomization.yaml`] = kustomization(['gotk-sync.yaml'])
    files[`clusters/${name}/istio.yaml`] = fluxKustomization('istio', `./istio/${name}`, 'The mesh.', '  wait: true\n')
    files[`istio/${name}/istio.yaml`] = `# The mesh of ${name}. Owned by the platform team.\n${istio}`
    files[`istio/${name}/kustomization.yaml`] = kustomization(['istio.yaml', ...Object.keys(mesh)])
    for (const [file, text] of Object.entries(mesh)) files[`istio/${name}/${file}`] = text
  }
  return files
}

/**
 * What the teams run, beside the Kustomization that brings it. For a repository whose mesh is up: to Flux an Istio without a status is
 * ready, and what is applied before the injector is asked stays without a proxy.
 */
export function fluxApps(site: string, apps: Readonly<Record<string, string>>): Record<string, string> {
  const about = 'What our teams run. Injection needs the mesh.'
  const files: Record<string, string> = {
    [`clusters/${site}/apps.yaml`]: fluxKustomization(
      'apps',
      `./apps/${site}`,
      about,
      '  dependsOn:\n    - name: istio\n',
    ),
    [`apps/${site}/kustomization.yaml`]: kustomization(Object.keys(apps)),
  }
  for (const [file, text] of Object.entries(apps)) files[`apps/${site}/${file}`] = text
  return files
}

/** The objects that `flux bootstrap` applies itself, once: everything else follows from them. */
export function syncOf(site: string): string {
  return `apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata:
  name: flux-system
  namespace: flux-system
spec:
  interval: 2s
  ref:
    branch: main
  url: ssh://git@git.example.com/platform/fleet.git
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata:
  name: flux-system
  namespace: flux-system
spec:
  interval: 10m0s
  path: ./clusters/${site}
  prune: true
  sourceRef:
    kind: GitRepository
    name: flux-system
`
}

export interface ArgoFleetOptions {
  readonly url: string
  /** Certificate of the Sealed Secrets controller. */
  readonly sealingCertificate: string
  /** Files of the chart `istiod`, by path in its folder: charts/mesh wraps it, as a vendored dependency. */
  readonly chart: Readonly<Record<string, string>>
  readonly sites: readonly {
    readonly name: string
    /** Values of istiod's chart. */
    readonly values: unknown
  }[]
}

/** A repository as an app of apps has it: clusters/<site> holds Applications, of which `root` is applied by hand, once. */
export function argoFleet(options: ArgoFleetOptions): Record<string, string> {
  const { url, chart } = options
  const version = /^version: (\S+)$/m.exec(chart['Chart.yaml'] ?? '')?.[1] ?? '0.0.0'
  const files: Record<string, string> = {
    'README.md': '# Fleet\n\nArgo CD applies `clusters/<cluster>`, whose Applications lead to the mesh and the apps.\n',
    'sealed-secrets.pem': options.sealingCertificate,
    'charts/mesh/Chart.yaml': `apiVersion: v2
name: mesh
description: istiod with what all our clusters share
version: 0.3.0
dependencies:
  - name: istiod
    version: ${version}
    repository: file://charts/istiod
`,
    'charts/mesh/values.yaml': '# For every cluster.\nistiod:\n  pilot:\n    env:\n      PILOT_ENABLE_STATUS: "true"\n',
  }
  for (const [path, text] of Object.entries(chart)) files[`charts/mesh/charts/istiod/${path}`] = text
  for (const { name, values } of options.sites) {
    files[`clusters/${name}/root.yaml`] = argoApplication('root', url, `clusters/${name}`, 'argocd', {})
    files[`clusters/${name}/istiod.yaml`] = argoApplication('istiod', url, 'charts/mesh', 'istio-system', {
      source: { helm: { valuesObject: { istiod: values } } },
      spec: { ignoreDifferences: istiodWrites },
    })
  }
  return files
}

/** What the teams run, beside the Application that brings it. */
export function argoApps(url: string, site: string, apps: Readonly<Record<string, string>>): Record<string, string> {
  const files: Record<string, string> = {
    [`clusters/${site}/apps.yaml`]: argoApplication('apps', url, `apps/${site}`, 'default', {}),
    [`apps/${site}/kustomization.yaml`]: kustomization(Object.keys(apps)),
  }
  for (const [file, text] of Object.entries(apps)) files[`apps/${site}/${file}`] = text
  return files
}

/** istiod itself writes these, and whoever delivers its chart with Argo CD has to say so (argo-cd#1487, istio#52785). */
const istiodWrites = ['MutatingWebhookConfiguration', 'ValidatingWebhookConfiguration'].map(kind => ({
  group: 'admissionregistration.k8s.io',
  kind,
  jqPathExpressions: ['.webhooks[]?.clientConfig.caBundle', '.webhooks[]?.failurePolicy'],
}))

export function argoApplication(
  name: string,
  repoURL: string,
  path: string,
  namespace: string,
  more: { readonly source?: object; readonly spec?: object },
): string {
  return stringify({
    apiVersion: 'argoproj.io/v1alpha1',
    kind: 'Application',
    metadata: { name, namespace: 'argocd' },
    spec: {
      project: 'default',
      source: { repoURL, targetRevision: 'main', path, ...more.source },
      destination: { server: 'https://kubernetes.default.svc', namespace },
      syncPolicy: {
        automated: { prune: true, selfHeal: true },
        retry: { limit: 5 },
        syncOptions: ['CreateNamespace=true', 'ServerSideApply=true', 'RespectIgnoreDifferences=true'],
      },
      ...more.spec,
    },
  })
}

export function fluxKustomization(name: string, path: string, about: string, more: string): string {
  return `# ${about}
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata:
  name: ${name}
  namespace: flux-system
spec:
  interval: 10m0s
  retryInterval: 10s
  path: ${path}
  prune: true
${more}  sourceRef:
    kind: GitRepository
    name: flux-system
`
}

export function kustomization(resources: readonly string[]): string {
  const lines = resources.map(file => `  - ${file}\n`)
  return `apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n${lines.join('')}`
}
