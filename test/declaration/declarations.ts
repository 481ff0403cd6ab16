import fc from 'fast-check'
import { signerExample } from '../../src/declaration/values.ts'
import { folderOf } from '../../src/gitops/paths.ts'
import type {
  ClusterChoice,
  CurrentSource,
  CustodyChoice,
  Declaration,
  DeliveryChoice,
  ForgeChoice,
  IssuingSettings,
  NextSource,
  Rollout,
} from '../../src/rotation.ts'

const otherSigner =
  'b@acme.example valid-after="20260101Z" ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBFybBnxAmsdY2Egds7Wk8uqf1vbTK3ORUpOEEABXX1+oyK1PJMYt8yFzHa5S7kPL+25D7YDvr8AHaWkvlv/Bu0s='

export const recipients = [
  'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p',
  'age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg',
]

/** The shortest declaration: everything else has a default. */
export const shortest = `apiVersion: reanchor.dev/v1alpha1
kind: TrustRotation
metadata:
  name: mesh-2026
spec:
  system: istio
  sites:
    - name: eu-1
      path: trust/eu-1
      delivery: {flux: {kustomization: flux-system/trust}}
  istio:
    controlPlane:
      eu-1: {file: clusters/eu-1/istio.yaml}
`

const label = fc.stringMatching(/^[a-z]([a-z0-9-]{0,8}[a-z0-9])?$/).filter(text => text !== 'undo' && text !== 'nudge')
/** Also what YAML takes for numbers, booleans or nothing. */
const trickyLabel = fc.oneof(
  label,
  fc.constantFrom('1e3', '0x1f', '123', 'true', 'null', 'no', 'on', '0o17', '2026-01-02', '1-0'),
)
/** A name of one's own, a machine, or all of a namespace. */
const vouched = fc.oneof(
  trickyLabel,
  fc.tuple(label, fc.oneof(label, fc.constantFrom('*', 'vm-1.example'))).map(parts => parts.join('/')),
)
const segment = fc
  .stringMatching(/^[A-Za-z0-9_@+=][A-Za-z0-9_@+=-]{0,6}$/)
  .filter(text => text.toLowerCase() !== 'rotations')
const path = fc.array(segment, { minLength: 1, maxLength: 3 }).map(parts => `user/${parts.join('/')}`)
const outside = path.map(text => `../${text}`)
const name = fc.stringMatching(/^[A-Za-z][A-Za-z0-9 .:#'"&*!|>%{}@`~-]{0,20}[A-Za-z0-9]$/)
const subject = name.map(text => `CN=${text},O=cluster.local`)
const orNull = <Value>(value: fc.Arbitrary<Value>): fc.Arbitrary<Value | null> => fc.oneof(fc.constant(null), value)
const algorithm = fc.constantFrom('ecdsa-p256' as const, 'ecdsa-p384' as const, 'rsa-4096' as const)
const ages = fc.subarray(recipients, { minLength: 1 })

const forge: fc.Arbitrary<ForgeChoice> = fc.oneof(
  fc.constantFrom({ kind: 'local' as const }, { kind: 'none' as const }),
  fc.record({
    kind: fc.constantFrom('github' as const, 'gitlab' as const, 'gitea' as const),
    repository: fc.constantFrom('acme/fleet', 'acme/platform/fleet'),
    url: orNull(fc.constantFrom('https://git.acme.example', 'https://git.acme.example:8443/x?y=z#a')),
    labels: fc.subarray(['trust', 'kind: certificates']),
    reviewers: fc.subarray(['ada', 'acme/platform']),
    draft: fc.boolean(),
    dashboard: fc.boolean(),
  }),
  fc.record({
    kind: fc.constant('bitbucket' as const),
    repository: fc.constant('acme/fleet'),
    url: fc.constant(null),
    labels: fc.constant([]),
    reviewers: fc.subarray(['{504c3b62-8120-4f0c-a7bc-87800b9d6f70}']),
    draft: fc.boolean(),
    dashboard: fc.constant(false),
  }),
)

const current: fc.Arbitrary<CurrentSource> = fc.oneof(
  fc.constant({ from: 'cluster' as const }),
  fc.record({
    from: fc.constant('files' as const),
    certificate: path,
    key: orNull(outside),
    chain: orNull(path),
    roots: orNull(outside),
  }),
)

const issuing: fc.Arbitrary<IssuingSettings> = fc.record({
  algorithm,
  subject: subject.map(text => `${text},L={site}`),
  validityDays: fc.integer({ min: 1, max: 1000 }),
})

function nextOf(sites: readonly string[]): fc.Arbitrary<NextSource> {
  const entry = fc.record({ certificate: path, key: outside, chain: orNull(path) })
  return fc.oneof(
    fc.record({
      from: fc.constant('generate' as const),
      algorithm,
      subject,
      validityDays: fc.integer({ min: 1000, max: 9125 }),
      issuing,
    }),
    fc.record({ from: fc.constant('csr' as const), root: orNull(path), issuing }),
    fc.record({
      from: fc.constant('certManager' as const),
      issuer: fc.record({
        name: label,
        kind: fc.constantFrom('ClusterIssuer', 'Issuer', 'VaultIssuer'),
        group: fc.constantFrom('cert-manager.io', 'awspca.cert-manager.io'),
      }),
      namespace: label,
      path: fc.constantFrom('certificates/{site}', 'mint-{site}/certificates'),
      root: orNull(path),
      site: orNull(fc.constantFrom(...sites)),
      issuing,
    }),
    fc.record({
      from: fc.constant('files' as const),
      root: outside,
      issuing: fc.oneof(
        entry.map(value => ({ '*': value })),
        fc
          .tuple(...sites.map(() => entry))
          .map(entries => Object.fromEntries(sites.map((site, index) => [site, entries[index]!]))),
      ),
    }),
  )
}

const custody: fc.Arbitrary<CustodyChoice> = fc.oneof(
  fc.record({
    kind: fc.constant('sops' as const),
    age: orNull(ages),
    ksops: fc.constant(true),
    rootAge: fc.oneof(fc.constant<string[]>([]), ages),
  }),
  fc.record({
    kind: fc.constant('sealedSecrets' as const),
    certificate: path,
    scope: fc.constantFrom('strict' as const, 'namespace-wide' as const, 'cluster-wide' as const),
    age: ages,
  }),
  fc.record({
    kind: fc.constant('externalSecrets' as const),
    store: label,
    storeKind: fc.constantFrom('SecretStore' as const, 'ClusterSecretStore' as const),
    prefix: fc.constantFrom('reanchor/', 'reanchor-', ''),
    version: fc.constantFrom('1', 'v2', '01'),
    vaultMount: orNull(fc.constantFrom('secret', 'kv/team')),
    age: ages,
  }),
)

const cluster: fc.Arbitrary<ClusterChoice> = fc.oneof(
  fc.record({ kind: fc.constant('context' as const), context: name }),
  fc.record({ kind: fc.constant('kubeconfig' as const), file: outside, context: orNull(name) }),
  fc.constant({ kind: 'inCluster' as const }),
  fc.record({
    kind: fc.constant('reports' as const),
    ref: label.map(name => `reports/${name}`),
    within: fc.constantFrom(60_000, 900_000, 7_200_000),
    signer: fc.constant(null),
  }),
)

const delivery: fc.Arbitrary<DeliveryChoice> = fc.oneof(
  fc.record({
    kind: fc.constant('flux' as const),
    namespace: trickyLabel,
    name: label,
    file: orNull(path),
    source: fc.record({ namespace: label, name: label }),
    decryptionSecret: trickyLabel,
  }),
  fc.record({
    kind: fc.constant('argocd' as const),
    namespace: label,
    name: trickyLabel,
    file: orNull(path),
    repoURL: orNull(fc.constantFrom('https://git.acme.example/acme/fleet.git', 'git@git.acme.example:acme/fleet.git')),
    project: trickyLabel,
  }),
)

/** Any legal declaration that differs from every other in what matters to a writer. */
export const declarations: fc.Arbitrary<Declaration> = fc
  .uniqueArray(trickyLabel, { minLength: 1, maxLength: 4 })
  .chain(names =>
    fc.record({
      name: trickyLabel,
      system: fc.constant('istio' as const),
      strategy: fc.constantFrom('graceful' as const, 'renew' as const, 'issuer' as const, 'emergency' as const),
      base: fc.constantFrom('main', 'release/2026', 'true', '1.0', 'a#b', "it's", '&x'),
      forge,
      current,
      next: nextOf(names),
      custody,
      sites: fc
        .tuple(
          ...names.map(site =>
            fc.record({
              name: fc.constant(site),
              path: fc.constant(`trust/${site}`),
              cluster,
              delivery,
              current: orNull(current),
              custody: orNull(custody),
              base: orNull(fc.constantFrom('main', 'null')),
            }),
          ),
        )
        // The same Kustomization twice would be a mistake, and so would the same reports.
        .map(sites =>
          sites.map((site, index) => ({
            ...site,
            cluster: site.cluster.kind === 'reports' ? { ...site.cluster, ref: `reports/r${index}` } : site.cluster,
            delivery: { ...site.delivery, name: `d${index}` },
          })),
        ),
      rollout: fc.oneof(
        fc.constantFrom<Rollout>({ kind: 'parallel' }, { kind: 'serial' }),
        fc.constant<Rollout>({ kind: 'batches', batches: names.map(site => [site]) }),
        fc.constant<Rollout>({ kind: 'batches', batches: [names] }),
      ),
      gates: fc.record({
        hold: fc.integer({ min: 0, max: 86_400_000 }),
        fresh: fc.integer({ min: 3_700_000, max: 86_400_000 }),
        settle: fc.integer({ min: 100, max: 3_600_000 }),
        attest: fc.uniqueArray(fc.record({ name: vouched, why: name }), {
          maxLength: 2,
          selector: entry => entry.name,
        }),
      }),
      evidence: fc.record({ signers: fc.subarray([signerExample, otherSigner]) }),
      reload: fc.array(
        fc.record({
          site: fc.constantFrom(...names),
          path: fc.oneof(path, fc.constant('')),
          kinds: fc.subarray(['Deployment' as const, 'StatefulSet' as const, 'DaemonSet' as const], { minLength: 1 }),
          batch: fc.integer({ min: 1, max: 99 }),
        }),
        { maxLength: 3 },
      ),
      istio: fc.record({
        install: fc.constantFrom(
          'sail' as const,
          'helmRelease' as const,
          'helmValues' as const,
          'argoApplication' as const,
        ),
        namespace: trickyLabel,
        trustDomain: fc.constantFrom('cluster.local', 'acme.example'),
        ambient: fc.boolean(),
        leafHours: fc.constantFrom(24, 1, 0.5, 0.25, 2160, 1.5),
        controlPlane: fc
          .tuple(
            ...names.map(() =>
              path.chain(file =>
                fc.record({
                  file: fc.constant(file),
                  name: label,
                  path: fc.oneof(fc.constant(folderOf(file)), path, fc.constant('')),
                }),
              ),
            ),
          )
          .map(planes => Object.fromEntries(names.map((site, index) => [site, planes[index]!]))),
      }),
      paused: fc.boolean(),
    }),
  )
