import { readFileSync } from 'node:fs'
import { Ajv2020 } from 'ajv/dist/2020.js'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { rotationJsonSchema } from '../../src/declaration/json-schema.ts'
import { DeclarationErrors, readDeclaration } from '../../src/declaration/read.ts'
import { signerExample } from '../../src/declaration/values.ts'
import { writeDeclaration } from '../../src/declaration/write.ts'
import { ReanchorError } from '../../src/errors.ts'
import { declarations, recipients, shortest } from './declarations.ts'

const file = 'rotations/mesh-2026/rotation.yaml'

const complete = `apiVersion: reanchor.dev/v1alpha1
kind: TrustRotation
metadata:
  name: mesh-2026
spec:
  system: istio
  strategy: graceful
  base: main
  forge: {github: {repository: acme/fleet}}
  current: {from: cluster}
  next:
    files:
      root: ../material/root.pem
      issuing:
        eu-1: {certificate: ../material/eu-1.pem, key: ../keys/eu-1.pem}
        us-1: {certificate: ../material/us-1.pem, key: ../keys/us-1.pem}
  custody: {sops: {age: [${recipients[0]}]}}
  sites:
    - name: eu-1
      path: trust/eu-1
      cluster: {context: eu-1}
      delivery: {flux: {kustomization: flux-system/trust-eu}}
    - name: us-1
      path: trust/us-1
      cluster: {kubeconfig: ../kube/us-1.yaml, context: us}
      delivery: {flux: {kustomization: flux-system/trust-us}}
  rollout: {batches: [[eu-1], [us-1]]}
  gates: {hold: 10m, fresh: 1h, attest: [{name: partner-vms, why: they are outside}]}
  reload:
    workloads: [{site: eu-1, path: apps/eu-1}]
  istio:
    install: sail
    controlPlane:
      eu-1: {file: clusters/eu-1/istio.yaml}
      us-1: {file: clusters/us-1/istio.yaml, name: default}
`

async function errorsOf(text: string, name = file, repository?: string): Promise<readonly ReanchorError[]> {
  try {
    await readDeclaration(text, name, repository === undefined ? {} : { repository })
  } catch (error) {
    expect(error).toBeInstanceOf(DeclarationErrors)
    const errors = (error as DeclarationErrors).errors
    for (const each of errors) {
      expect(each.exit).toBe(2)
      expect(each.where.file).toBe(name)
      expect(each.where.line).toBeGreaterThan(0)
      expect(each.where.column).toBeGreaterThan(0)
      expect(each.expected).toBeDefined()
    }
    return errors
  }
  return []
}

test('fills in every default of the shortest declaration', async () => {
  expect(await readDeclaration(shortest, file)).toEqual({
    name: 'mesh-2026',
    system: 'istio',
    strategy: 'graceful',
    base: 'main',
    forge: { kind: 'none' },
    current: { from: 'cluster' },
    next: {
      from: 'generate',
      algorithm: 'ecdsa-p256',
      subject: 'CN=mesh-2026 root,O=cluster.local',
      validityDays: 3650,
      issuing: { algorithm: 'ecdsa-p256', subject: 'CN=mesh-2026 issuing,L={site},O=cluster.local', validityDays: 730 },
    },
    custody: { kind: 'sops', age: null, ksops: false, rootAge: [] },
    sites: [
      {
        name: 'eu-1',
        path: 'trust/eu-1',
        cluster: { kind: 'context', context: 'eu-1' },
        delivery: {
          kind: 'flux',
          namespace: 'flux-system',
          name: 'trust',
          file: null,
          source: { namespace: 'flux-system', name: 'flux-system' },
          decryptionSecret: 'sops-age',
        },
        current: null,
        custody: null,
        base: null,
      },
    ],
    rollout: { kind: 'parallel' },
    gates: { hold: 600_000, fresh: 3_600_000, settle: 15_000, attest: [] },
    evidence: { signers: [] },
    reload: [],
    istio: {
      install: 'sail',
      namespace: 'istio-system',
      trustDomain: 'cluster.local',
      ambient: false,
      leafHours: 24,
      controlPlane: { 'eu-1': { file: 'clusters/eu-1/istio.yaml', name: 'default', path: 'clusters/eu-1' } },
    },
    paused: false,
  })
})

test('reads what is declared', async () => {
  const declaration = await readDeclaration(complete, file)
  expect(declaration.forge).toEqual({
    kind: 'github',
    repository: 'acme/fleet',
    url: null,
    labels: [],
    reviewers: [],
    draft: false,
    dashboard: false,
  })
  expect(declaration.next).toMatchObject({
    from: 'files',
    issuing: { 'us-1': { key: '../keys/us-1.pem', chain: null } },
  })
  expect(declaration.sites[1]?.cluster).toEqual({ kind: 'kubeconfig', file: '../kube/us-1.yaml', context: 'us' })
  expect(declaration.rollout).toEqual({ kind: 'batches', batches: [['eu-1'], ['us-1']] })
  expect(declaration.reload).toEqual([
    { site: 'eu-1', path: 'apps/eu-1', kinds: ['Deployment', 'StatefulSet', 'DaemonSet'], batch: 1 },
  ])
})

test('reads the same from CRLF, with a byte order mark, and without a final newline', async () => {
  const plain = await readDeclaration(complete, file)
  expect(await readDeclaration(complete.replaceAll('\n', '\r\n'), file)).toEqual(plain)
  expect(await readDeclaration(`\ufeff${complete}`, file)).toEqual(plain)
  expect(await readDeclaration(complete.trimEnd(), file)).toEqual(plain)
})

test("a site's own issuing CA takes its place beside those of spec.next", async () => {
  const text = complete
    .replace(/ {8}us-1: \{cert.*\n/, '')
    .replace(
      '      path: trust/us-1\n',
      '      path: trust/us-1\n      next: {issuing: {certificate: ../m/us.pem, key: ../k/us.pem, chain: ../m/c.pem}}\n',
    )
  const { next } = await readDeclaration(text, file)
  expect(next).toMatchObject({
    issuing: {
      'eu-1': { chain: null },
      'us-1': { certificate: '../m/us.pem', key: '../k/us.pem', chain: '../m/c.pem' },
    },
  })
})

test('a site whose cluster reports, with its limits and without', async () => {
  const read = async (cluster: string) =>
    (await readDeclaration(complete.replace('cluster: {context: eu-1}', cluster), file)).sites[0]?.cluster
  expect(await read('cluster: {reports: reports/eu-1}')).toEqual({
    kind: 'reports',
    ref: 'reports/eu-1',
    within: 900_000,
    signer: null,
  })
  const signers = `evidence: {signers: [${signerExample}]}\n  gates: {hold`
  const text = complete
    .replace('cluster: {context: eu-1}', 'cluster: {reports: reports/eu/1, within: 20m, signer: runner}')
    .replace('gates: {hold', signers)
  expect((await readDeclaration(text, file)).sites[0]?.cluster).toEqual({
    kind: 'reports',
    ref: 'reports/eu/1',
    within: 1_200_000,
    signer: 'runner',
  })
})

test('two sites may not report under one name', async () => {
  const text = complete
    .replace('cluster: {context: eu-1}', 'cluster: {reports: reports/all}')
    .replace('cluster: {kubeconfig: ../kube/us-1.yaml, context: us}', 'cluster: {reports: reports/all}')
  const errors = await errorsOf(text)
  expect(errors.map(error => `${error.where.field} ${error.what}`)).toEqual([
    'spec.sites[1].cluster.reports is what site eu-1 has already',
  ])
})

interface BadCase {
  readonly name: string
  readonly from: string
  readonly to: string
  readonly field: string
  readonly line: number
  readonly what: string
  readonly todo?: string
}

const cases: readonly BadCase[] = [
  // YAML itself
  { name: 'an anchor', from: 'base: main', to: 'base: &b main', field: 'spec.base', line: 8, what: 'anchor' },
  { name: 'an alias', from: 'base: main', to: 'base: *b', field: 'spec.base', line: 8, what: 'alias' },
  {
    name: 'an alias of an anchor',
    from: 'strategy: graceful\n  base: main',
    to: 'strategy: &b graceful\n  base: *b',
    field: 'spec.base',
    line: 8,
    what: 'alias',
  },
  {
    name: 'an anchor on a map',
    from: 'current: {',
    to: 'current: &c {',
    field: 'spec.current',
    line: 10,
    what: 'anchor',
  },
  {
    name: 'a merge key',
    from: 'current: {from: cluster}',
    to: 'current: {from: cluster, <<: {}}',
    field: 'spec.current',
    line: 10,
    what: 'merge key',
  },
  { name: 'a tag', from: 'base: main', to: 'base: !!str main', field: 'spec.base', line: 8, what: 'tag' },
  { name: 'a local tag', from: 'base: main', to: 'base: !x main', field: 'spec.base', line: 8, what: 'tag' },
  {
    name: 'a field given twice',
    from: 'base: main',
    to: 'base: main\n  system: istio',
    field: 'spec.system',
    line: 9,
    what: 'twice',
  },
  {
    name: 'a second document',
    from: 'kind: Tr',
    to: '---\nkind: Tr',
    field: '',
    line: 2,
    what: 'second YAML document',
  },
  {
    name: 'a directive',
    from: 'apiVersion:',
    to: '%YAML 1.1\n---\napiVersion:',
    field: '',
    line: 1,
    what: 'directive',
  },
  {
    name: 'an unclosed bracket',
    from: '[[eu-1], [us-1]]',
    to: '[[eu-1], [us-1]',
    field: '',
    line: 27,
    what: 'not readable as YAML',
  },
  {
    name: 'a tab as indent',
    from: '  base: main',
    to: '\tbase: main',
    field: '',
    line: 8,
    what: 'not readable as YAML',
  },
  {
    name: 'a field name that is a list',
    from: 'base: main',
    to: '? [a]\n  : main',
    field: 'spec',
    line: 8,
    what: 'plain word',
  },
  {
    name: 'a field named __proto__',
    from: 'base: main',
    to: '__proto__: {a: b}',
    field: 'spec',
    line: 8,
    what: '__proto__',
  },

  // form
  {
    name: 'another apiVersion',
    from: 'v1alpha1',
    to: 'v1',
    field: 'apiVersion',
    line: 1,
    what: 'none of the choices',
    todo: 'write reanchor.dev/v1alpha1',
  },
  { name: 'another kind', from: 'TrustRotation', to: 'Rotation', field: 'kind', line: 2, what: 'none of the choices' },
  {
    name: 'an unknown field',
    from: 'strategy:',
    to: 'stragety:',
    field: 'spec.stragety',
    line: 7,
    what: 'not a field',
    todo: 'write strategy',
  },
  {
    name: 'an unknown field deep inside',
    from: 'attest: [{name',
    to: 'attest: [{nmae',
    field: 'spec.gates.attest[0].nmae',
    line: 28,
    what: 'not a field',
    todo: 'write name',
  },
  {
    name: 'an unknown field like none',
    from: 'base: main',
    to: 'colour: blue',
    field: 'spec.colour',
    line: 8,
    what: 'not a field',
    todo: 'take it out',
  },
  {
    name: 'an unknown choice',
    from: 'graceful',
    to: 'gracefull',
    field: 'spec.strategy',
    line: 7,
    what: 'none of the choices',
    todo: 'write graceful',
  },
  {
    name: 'an unknown forge',
    from: '{github: {repository: acme/fleet}}',
    to: 'githb',
    field: 'spec.forge',
    line: 9,
    what: 'none of the choices',
  },
  {
    name: 'a forge misspelt',
    from: 'github:',
    to: 'gitub:',
    field: 'spec.forge.gitub',
    line: 9,
    what: 'not a field',
    todo: 'write github',
  },
  {
    name: 'two forges',
    from: 'acme/fleet}',
    to: 'acme/fleet}, local: {}',
    field: 'spec.forge',
    line: 9,
    what: 'github and local at once',
  },
  {
    name: 'a dashboard on a forge that has no issues',
    from: '{github: {repository: acme/fleet}}',
    to: '{bitbucket: {repository: acme/fleet, dashboard: true}}',
    field: 'spec.forge.bitbucket.dashboard',
    line: 9,
    what: 'is not a field that is known here',
    todo: 'take it out',
  },
  {
    name: 'a reviewer by name on a forge that knows nobody by name',
    from: '{github: {repository: acme/fleet}}',
    to: '{bitbucket: {repository: acme/fleet, reviewers: [ada]}}',
    field: 'spec.forge.bitbucket.reviewers[0]',
    line: 9,
    what: 'is not the UUID of an account',
  },
  {
    name: 'no custody',
    from: /custody: \{.*\}/.exec(complete)![0],
    to: 'custody: {}',
    field: 'spec.custody',
    line: 17,
    what: 'none of its choices',
  },
  { name: 'an empty value', from: 'base: main', to: 'base:', field: 'spec.base', line: 8, what: 'is not a text' },
  {
    name: 'a number for a name',
    from: 'name: mesh-2026',
    to: 'name: 2026',
    field: 'metadata.name',
    line: 4,
    what: 'is not a text',
    todo: 'quotes',
  },
  {
    name: 'a map for a list',
    from: 'workloads: [{site: eu-1, path: apps/eu-1}]',
    to: 'workloads: {}',
    field: 'spec.reload.workloads',
    line: 30,
    what: 'not a list',
  },
  {
    name: 'a list for a map',
    from: 'current: {from: cluster}',
    to: 'current: [cluster]',
    field: 'spec.current',
    line: 10,
    what: 'not a map',
  },
  {
    name: 'yes for true',
    from: 'base: main',
    to: 'paused: yes',
    field: 'spec.paused',
    line: 8,
    what: 'neither true nor false',
    todo: 'write true',
  },
  {
    name: 'a fraction',
    from: 'apps/eu-1}',
    to: 'apps/eu-1, batch: 1.5}',
    field: 'spec.reload.workloads[0].batch',
    line: 30,
    what: 'whole number',
  },
  {
    name: 'batch 0',
    from: 'apps/eu-1}',
    to: 'apps/eu-1, batch: 0}',
    field: 'spec.reload.workloads[0].batch',
    line: 30,
    what: 'too small',
  },
  {
    name: 'an unknown kind of workload',
    from: 'apps/eu-1}',
    to: 'apps/eu-1, kinds: [Deploymnet]}',
    field: 'spec.reload.workloads[0].kinds[0]',
    line: 30,
    what: 'none of the choices',
    todo: 'write Deployment',
  },
  {
    name: 'a system that is not known',
    from: 'system: istio',
    to: 'system: consul',
    field: 'spec.system',
    line: 6,
    what: 'is none of the choices',
  },

  // names
  {
    name: 'a rotation that begins with a dash',
    from: 'name: mesh-2026',
    to: 'name: -mesh',
    field: 'metadata.name',
    line: 4,
    what: 'begins with a dash',
    todo: 'write mesh',
  },
  {
    name: 'a rotation with a slash',
    from: 'name: mesh-2026',
    to: 'name: a/../b',
    field: 'metadata.name',
    line: 4,
    what: 'legal name',
    todo: 'write a-b',
  },
  {
    name: 'a rotation of 41 characters',
    from: 'name: mesh-2026',
    to: `name: ${'m'.repeat(41)}`,
    field: 'metadata.name',
    line: 4,
    what: 'longer than 40',
  },
  {
    name: 'a rotation in another folder',
    from: 'name: mesh-2026',
    to: 'name: mesh-2027',
    field: 'metadata.name',
    line: 4,
    what: 'differs from the folder',
    todo: 'write mesh-2026',
  },
  {
    name: 'a site named undo',
    from: 'name: eu-1',
    to: 'name: undo',
    field: 'spec.sites[0].name',
    line: 19,
    what: 'is taken',
  },
  {
    name: 'a site named nudge',
    from: 'name: eu-1',
    to: 'name: nudge',
    field: 'spec.sites[0].name',
    line: 19,
    what: 'is taken',
  },
  {
    name: 'a site in capitals',
    from: 'name: eu-1',
    to: 'name: EU-1',
    field: 'spec.sites[0].name',
    line: 19,
    what: 'legal name',
    todo: 'write eu-1',
  },
  {
    name: 'a site twice',
    from: 'name: us-1',
    to: 'name: eu-1',
    field: 'spec.sites[1].name',
    line: 23,
    what: 'spec.sites[0] too',
  },
  {
    name: 'a Kustomization without a namespace',
    from: 'flux-system/trust-eu',
    to: 'trust-eu',
    field: 'spec.sites[0].delivery.flux.kustomization',
    line: 22,
    what: 'does not name an object',
  },
  {
    name: 'a Kustomization for two sites of one cluster',
    from: '{kubeconfig: ../kube/us-1.yaml, context: us}\n      delivery: {flux: {kustomization: flux-system/trust-us}}',
    to: '{context: eu-1}\n      delivery: {flux: {kustomization: flux-system/trust-eu}}',
    field: 'spec.sites[1].delivery.flux.kustomization',
    line: 26,
    what: 'delivers site eu-1 already',
  },

  // branches
  ...[
    ['a branch with a leading dash', '--upload-pack=x', 'begins with a dash'],
    ['a branch with two dots', 'a..b', '..'],
    ['a branch with a blank', 'a b', 'blank'],
    ['a branch with a colon', 'a:b', 'blank or one of'],
    ['a branch that ends with .lock', 'a.lock', '.lock'],
    ['a full ref', 'refs/heads/main', 'full ref'],
    ['HEAD', 'HEAD', 'symbolic'],
    ["a branch of reanchor's own", 'reanchor/x', 'reanchor/'],
    ['a branch with an empty part', 'a//b', 'empty part'],
    ['a branch with a hidden part', 'a/.b', 'dot'],
    ['a branch with @{', 'a@{1}', '@{'],
  ].map(([name, to, what]) => ({
    name: name!,
    from: 'base: main',
    to: `base: "${to}"`,
    field: 'spec.base',
    line: 8,
    what: what!,
  })),

  // paths
  ...[
    ['a path that leaves the repository', '../trust', 'leaves the repository'],
    ['a path that leaves the repository after all', 'trust/../../x', 'leaves the repository'],
    ['an absolute path', '/trust/eu-1', 'absolute'],
    ['a path of another system', 'C:\\\\trust', 'absolute'],
    ['a path with backslashes', 'trust\\\\eu-1', 'backslash'],
    ['a path in a longer form', './trust/eu-1/', 'shortest form'],
    ['a path with a detour', 'trust/x/../eu-1', 'shortest form'],
    ['the root of the repository', '.', 'root of the repository'],
    ['an empty path', '', 'is empty'],
    ["Git's own folder", '.git/hooks', "Git's own folder"],
    ["Git's own folder in capitals", 'a/.GIT', "Git's own folder"],
    ['a path with a leading dash', '-rf', 'begins with a dash'],
    ['a path with a line break', 'a\\nb', 'characters'],
    ['a path inside another site', 'trust/us-1/eu', 'overlaps with trust/us-1'],
    ['a path inside another site but for capitals', 'trust/US-1/eu', 'overlaps with trust/us-1'],
    ['rotations/', 'rotations', 'overlaps with rotations/'],
    ['a path in rotations/', 'rotations/eu-1', 'overlaps with rotations/'],
    ['a path in Rotations/', 'Rotations/eu-1', 'overlaps with rotations/'],
  ].map(([name, to, what]) => ({
    name: name!,
    from: 'path: trust/eu-1',
    to: `path: "${to}"`,
    field: 'spec.sites[0].path',
    line: 20,
    what: what!,
  })),
  {
    name: 'a path that another site has',
    from: 'path: trust/eu-1',
    to: 'path: trust/us-1',
    field: 'spec.sites[1].path',
    line: 24,
    what: 'overlaps with trust/us-1, the path of site eu-1',
  },
  {
    name: 'a path that holds another site',
    from: 'path: trust/eu-1',
    to: 'path: trust',
    field: 'spec.sites[1].path',
    line: 24,
    what: 'overlaps with trust, the path of site eu-1',
  },
  {
    name: 'a control plane in a folder of reanchor',
    from: 'clusters/eu-1/istio.yaml',
    to: 'trust/us-1/istio.yaml',
    field: 'spec.istio.controlPlane.eu-1.file',
    line: 34,
    what: 'lies in trust/us-1, which reanchor owns',
  },
  {
    name: 'workloads in rotations/',
    from: 'path: apps/eu-1',
    to: 'path: rotations/x',
    field: 'spec.reload.workloads[0].path',
    line: 30,
    what: 'which reanchor owns',
  },
  {
    name: 'a Kustomization in the folder that it applies',
    from: '{kustomization: flux-system/trust-eu}',
    to: '{kustomization: flux-system/trust-eu, file: trust/eu-1/flux.yaml}',
    field: 'spec.sites[0].delivery.flux.file',
    line: 22,
    what: 'which reanchor owns',
  },
  {
    name: 'a control plane outside the repository',
    from: 'clusters/eu-1/istio.yaml',
    to: '../istio.yaml',
    field: 'spec.istio.controlPlane.eu-1.file',
    line: 34,
    what: 'leaves the repository',
  },
  {
    name: 'a private key inside the repository',
    from: '../keys/eu-1.pem',
    to: 'keys/eu-1.pem',
    field: 'spec.next.files.issuing.eu-1.key',
    line: 15,
    what: 'private key inside the repository',
  },
  {
    name: 'a private key inside the repository by a detour',
    from: '../keys/eu-1.pem',
    to: 'a/../keys/eu-1.pem',
    field: 'spec.next.files.issuing.eu-1.key',
    line: 15,
    what: 'private key inside the repository',
  },
  {
    name: "the present CA's key inside the repository",
    from: 'current: {from: cluster}',
    to: 'current: {files: {certificate: ca.pem, key: ca-key.pem}}',
    field: 'spec.current.files.key',
    line: 10,
    what: 'private key inside the repository',
  },
  {
    name: 'a file that only a shell finds',
    from: '../material/root.pem',
    to: '~/root.pem',
    field: 'spec.next.files.root',
    line: 13,
    what: 'begins with ~',
  },
  {
    name: 'a pasted PEM block (F30)',
    from: '../material/root.pem',
    to: '"-----BEGIN CERTIFICATE-----\\nMIIB"',
    field: 'spec.next.files.root',
    line: 13,
    what: 'line break',
  },

  // sites and batches
  {
    name: 'an unknown site in a batch',
    from: '[[eu-1], [us-1]]',
    to: '[[eu-1], [us-1, us-2]]',
    field: 'spec.rollout.batches[1][1]',
    line: 27,
    what: 'not the name of a site',
    todo: 'write',
  },
  {
    name: 'a site in two batches',
    from: '[[eu-1], [us-1]]',
    to: '[[eu-1], [us-1, eu-1]]',
    field: 'spec.rollout.batches[1][1]',
    line: 27,
    what: 'twice',
  },
  {
    name: 'a site in no batch',
    from: '[[eu-1], [us-1]]',
    to: '[[eu-1]]',
    field: 'spec.rollout.batches',
    line: 27,
    what: 'leave out us-1',
  },
  {
    name: 'an empty batch',
    from: '[[eu-1], [us-1]]',
    to: '[[eu-1], [us-1], []]',
    field: 'spec.rollout.batches[2]',
    line: 27,
    what: 'too few',
  },
  {
    name: 'workloads of an unknown site',
    from: 'site: eu-1',
    to: 'site: eu-2',
    field: 'spec.reload.workloads[0].site',
    line: 30,
    what: 'not the name of a site',
    todo: 'write eu-1',
  },
  {
    name: 'a control plane of an unknown site',
    from: 'eu-1: {file:',
    to: 'eu-1: {file: a.yaml}\n      eu-9: {file:',
    field: 'spec.istio.controlPlane.eu-9',
    line: 35,
    what: 'not the name of a site',
  },
  {
    name: 'a site without a control plane',
    from: '      us-1: {file: clusters/us-1/istio.yaml, name: default}\n',
    to: '',
    field: 'spec.istio.controlPlane',
    line: 33,
    what: 'says nothing of us-1',
  },
  {
    name: 'no settings of Istio',
    from: complete.slice(complete.indexOf('  istio:')),
    to: '',
    field: 'spec.istio',
    line: 5,
    what: 'is missing',
  },
  {
    name: 'a site without an issuing CA',
    from: /\n {8}us-1: \{cert.*/.exec(complete)![0],
    to: '',
    field: 'spec.next.files.issuing',
    line: 14,
    what: 'no issuing CA for us-1',
  },
  {
    name: 'an issuing CA of an unknown site',
    from: 'eu-1: {certificate',
    to: "'*': {certificate: a, key: ../b}\n        eu-3: {certificate",
    field: 'spec.next.files.issuing.eu-3',
    line: 16,
    what: 'not the name of a site',
  },

  // custody
  {
    name: 'SOPS under Argo CD without KSOPS',
    from: 'flux: {kustomization: flux-system/trust-us}',
    to: 'argocd: {application: argocd/trust}',
    field: 'spec.custody.sops',
    line: 17,
    what: 'Argo CD (site us-1) cannot open',
  },
  {
    name: 'SOPS of a site under Argo CD with ksops: false',
    from: 'flux: {kustomization: flux-system/trust-us}}',
    to: 'argocd: {application: argocd/trust}}\n      custody: {sops: {ksops: false}}',
    field: 'spec.sites[1].custody.sops.ksops',
    line: 27,
    what: 'Argo CD (site us-1) cannot open',
  },
  {
    name: 'a mistyped recipient',
    from: recipients[0]!,
    to: recipients[0]!.replace('ql3', 'ql4'),
    field: 'spec.custody.sops.age[0]',
    line: 17,
    what: 'checksum',
  },
  {
    name: 'an SSH key as a recipient',
    from: recipients[0]!,
    to: 'ssh-ed25519 AAAA',
    field: 'spec.custody.sops.age[0]',
    line: 17,
    what: 'not a recipient',
  },
  {
    name: 'no recipients',
    from: `[${recipients[0]}]`,
    to: '[]',
    field: 'spec.custody.sops.age',
    line: 17,
    what: 'too few',
  },

  // evidence
  {
    name: 'a signer without a key',
    from: 'gates: {hold',
    to: 'evidence: {signers: [runner]}\n  gates: {hold',
    field: 'spec.evidence.signers[0]',
    line: 28,
    what: 'holds no key',
    todo: 'write a name in front',
  },
  {
    name: 'a key without its signer',
    from: 'gates: {hold',
    to: `evidence: {signers: [${signerExample.slice('runner '.length)}]}\n  gates: {hold`,
    field: 'spec.evidence.signers[0]',
    line: 28,
    what: 'names nobody',
  },

  // reports
  {
    name: 'reports that are a path of the repository',
    from: 'cluster: {context: eu-1}',
    to: 'cluster: {reports: trust/reports}',
    field: 'spec.sites[0].cluster.reports',
    line: 21,
    what: 'is no name of reports',
  },
  {
    name: 'reports that are a lock',
    from: 'cluster: {context: eu-1}',
    to: 'cluster: {reports: reports/../lock/mesh-2026}',
    field: 'spec.sites[0].cluster.reports',
    line: 21,
    what: 'is no name of reports',
  },
  {
    name: 'a signer of reports whom nobody knows',
    from: 'cluster: {context: eu-1}',
    to: 'cluster: {reports: reports/eu-1, signer: eu-1}',
    field: 'spec.sites[0].cluster.signer',
    line: 21,
    what: 'is none of evidence.signers',
  },
  {
    name: 'a limit of age without reports',
    from: 'cluster: {context: eu-1}',
    to: 'cluster: {context: eu-1, within: 15m}',
    field: 'spec.sites[0].cluster.within',
    line: 21,
    what: 'is not a field that is known here',
  },

  // gates
  {
    name: 'a duration without a unit',
    from: 'hold: 10m',
    to: 'hold: 10',
    field: 'spec.gates.hold',
    line: 28,
    what: 'is not a text',
    todo: 'unit',
  },
  {
    name: 'a duration with an unknown unit',
    from: 'hold: 10m',
    to: 'hold: 10min',
    field: 'spec.gates.hold',
    line: 28,
    what: 'not a duration',
  },
  {
    name: 'a negative duration',
    from: 'hold: 10m',
    to: 'hold: -10m',
    field: 'spec.gates.hold',
    line: 28,
    what: 'not a duration',
  },
  {
    name: 'a hold of a year',
    from: 'hold: 10m',
    to: 'hold: 365d',
    field: 'spec.gates.hold',
    line: 28,
    what: 'too long',
  },
  {
    name: 'an observation that is stale at once',
    from: 'fresh: 1h',
    to: 'fresh: 1s',
    field: 'spec.gates.fresh',
    line: 28,
    what: 'too short',
  },
  {
    name: 'observations further apart than they last',
    from: 'fresh: 1h',
    to: 'fresh: 1m, settle: 1m',
    field: 'spec.gates.settle',
    line: 28,
    what: 'leaves no time',
  },
  {
    name: 'a reason left empty',
    from: 'why: they are outside',
    to: 'why: ""',
    field: 'spec.gates.attest[0].why',
    line: 28,
    what: 'is empty',
  },
  ...['shop/', '/till', 'shop/*/till', 'Shop/till', 'shop/till*'].map(name => ({
    name: `a word for ${name}, which is no machine`,
    from: 'name: partner-vms',
    to: `name: "${name}"`,
    field: 'spec.gates.attest[0].name',
    line: 28,
    what: 'is not a legal name',
  })),
  {
    name: 'one word for two groups',
    from: 'why: they are outside}',
    to: 'why: a}, {name: partner-vms, why: b}',
    field: 'spec.gates.attest[1].name',
    line: 28,
    what: 'given twice',
  },
  {
    name: 'a password in a URL',
    from: 'acme/fleet}',
    to: 'acme/fleet, url: "https://me:secret@git.acme.example"}',
    field: 'spec.forge.github.url',
    line: 9,
    what: 'holds a password',
  },
]

test('a field that one forge alone lacks is refused with the reason', async () => {
  const text = complete.replace(
    '{github: {repository: acme/fleet}}',
    '{bitbucket: {repository: acme/fleet, labels: [trust]}}',
  )
  await expect(readDeclaration(text, file)).rejects.toMatchObject({
    expected: 'no labels: pull requests of Bitbucket have none',
  })
})

describe('refuses', () => {
  test.each(cases)('$name', async ({ from, to, field, line, what, todo }) => {
    expect(complete).toContain(from)
    const errors = await errorsOf(complete.replace(from, to))
    const error = errors.find(each => (each.where.field ?? '') === field && each.what.includes(what))
    expect(error, errors.map(each => each.message).join('\n')).toBeDefined()
    expect(error!.where.line).toBe(line)
    if (todo !== undefined) expect(error!.todo).toContain(todo)
  })
})

const generated = complete.replace(/ {2}next:\n(?: {4}.*\n)+/, '  next: {generate: {NEXT}}\n')

describe('refuses a generated CA', () => {
  test.each([
    ['whose root is named after a site', 'subject: "CN=root,L={site}"', 'subject', 'one subject'],
    ['whose subject is no name', 'subject: root', 'subject', 'TYPE=value'],
    ['whose subject is empty', 'subject: ""', 'subject', 'RFC 4514'],
    ['with an unknown attribute', 'subject: "CN=a,CX=b"', 'subject', 'RFC 4514'],
    ['with a country of three letters', 'subject: "CN=a,C=DEU"', 'subject', 'RFC 4514'],
    ['with a common name of 65 characters', `subject: CN=${'a'.repeat(65)}`, 'subject', 'RFC 4514'],
    ['whose issuing CAs have one subject', 'issuing: {subject: CN=issuing}', 'issuing.subject', '{site}'],
    [
      'whose issuing CAs are too long with a site',
      `issuing: {subject: "CN=${'a'.repeat(61)}{site}"}`,
      'issuing.subject',
      'RFC 4514',
    ],
    [
      'whose issuing CAs are named as the root',
      'subject: "CN=a{site},O=b", issuing: {subject: "cn = a{site}, o=b"}',
      'issuing.subject',
      'its own',
    ],
    [
      'whose issuing CAs outlive the root',
      'validity: 100d, issuing: {validity: 101d}',
      'issuing.validity',
      'before their root',
    ],
    ['that ends before the default of the issuing CAs', 'validity: 100d', 'validity', 'before their root'],
    ['that is valid for half a day', 'validity: 12h', 'validity', '1d'],
    ['that is valid for a day and an hour', 'validity: 25h', 'validity', '1d'],
    ['of RSA-1024', 'algorithm: rsa-1024', 'algorithm', 'rsa-4096'],
  ])('%s', async (_, next, field, expected) => {
    const errors = await errorsOf(generated.replace('NEXT', next))
    const error = errors.find(each => each.where.field === `spec.next.generate.${field}`)
    expect(error, errors.map(each => each.message).join('\n')).toBeDefined()
    expect(`${error!.expected} ${error!.what}`.replace('a subject of its own', 'its own')).toContain(expected)
    expect(error!.where.line).toBe(11)
  })
})

test("refuses a site's own issuing CA where spec.next makes them", async () => {
  const text = generated
    .replace('NEXT', '')
    .replace(
      '      path: trust/us-1\n',
      '      path: trust/us-1\n      next: {issuing: {certificate: a.pem, key: ../b.pem}}\n',
    )
  expect((await errorsOf(text)).map(error => error.where.field)).toEqual(['spec.sites[1].next'])
})

test("refuses SealedSecrets without a recipient for the generated root's key", async () => {
  const text = generated.replace('NEXT', '').replace(/custody: .*/, 'custody: {sealedSecrets: {certificate: cert.pem}}')
  const [error, ...others] = await errorsOf(text)
  expect(error?.where).toMatchObject({ field: 'spec.custody.sealedSecrets', line: 12 })
  expect(others).toEqual([])
})

test('refuses an absolute path of a private key that lies in the repository, once the repository is known', async () => {
  const text = complete.replace('../keys/eu-1.pem', '/home/me/fleet/keys/eu-1.pem')
  expect(await errorsOf(text)).toEqual([])
  expect((await errorsOf(text, file, '/home/me/fleet')).map(error => error.where.field)).toEqual([
    'spec.next.files.issuing.eu-1.key',
  ])
  expect(await errorsOf(text, file, '/home/me/fle')).toEqual([])
})

test('reports all errors of a file at once, in their order, each with place, finding, and example', async () => {
  const text = complete
    .replace('strategy: graceful', 'strategy: fast')
    .replace('base: main', 'base: -main')
    .replace('path: trust/eu-1', 'path: ../trust')
    .replace('[[eu-1], [us-1]]', '[[eu-1]]')
    .replace('install: sail', 'instal: sail')
  const error = await readDeclaration(text, file).catch((caught: unknown) => caught)
  expect(error).toBeInstanceOf(ReanchorError)
  expect((error as ReanchorError).message).toBe(`${file}:7:13: spec.strategy: is none of the choices
  expected: one of: graceful, renew, issuer, emergency
  found:    "fast"
  example:  strategy: graceful
${file}:8:9: spec.base: begins with a dash, which Git would take for an option
  expected: a branch name that Git accepts
  found:    "-main"
  example:  base: main
${file}:20:13: spec.sites[0].path: leaves the repository
  expected: a path inside the repository, relative to its root
  found:    "../trust"
  example:  path: trust/eu-1
${file}:27:13: spec.rollout.batches: leave out us-1
  expected: every site in exactly one batch
  found:    a list of 1
  to do:    add a batch for what is left out
${file}:32:5: spec.istio.instal: is not a field that is known here
  expected: one of: install, namespace, trustDomain, leafTTL, ambient, controlPlane
  found:    "instal"
  to do:    write install`)
})

describe('refuses hostile YAML before it costs anything', () => {
  const laughs = `a: &a [x, x]\n${[...'bcdefghijklmnopqrst'].map((letter, index) => `${letter}: &${letter} [${`*${'abcdefghijklmnopqrst'[index]}, `.repeat(9)}x]`).join('\n')}\n`
  test.each([
    ['a billion laughs', laughs, 'alias'],
    ['an alias of itself', 'a: &a [*a]', 'alias'],
    ['100,000 open brackets', '['.repeat(100_000), 'nested too deeply'],
    ['100,000 open braces', '{a: '.repeat(100_000), 'nested too deeply'],
    ['100,000 lists in one line', '- '.repeat(100_000), 'nested too deeply'],
    ['100,000 question marks', '? '.repeat(100_000), 'nested too deeply'],
    [
      '17 levels of maps',
      Array.from({ length: 18 }, (_, level) => `${' '.repeat(level)}a:`).join('\n'),
      'nested too deeply',
    ],
    [
      '1,400 levels of maps',
      Array.from({ length: 1400 }, (_, level) => `${' '.repeat(level)}a:`).join('\n'),
      'nested too deeply',
    ],
    ['3 MiB', `a: ${'x'.repeat(3 * 1024 * 1024)}`, 'too large'],
    ['110,000 values', `a: [${'1,'.repeat(110_000)}]`, 'too many values'],
  ])('%s', async (_, text, what) => {
    const errors = await errorsOf(text)
    expect(
      errors.some(error => error.what.includes(what)),
      errors[0]?.message,
    ).toBe(true)
  })

  test('20,000 fields of one map are not compared pair by pair', async () => {
    // Quadratic work here would take minutes and run into the test's limit.
    const text = `${Array.from({ length: 20_000 }, (_, index) => `k${index}: 1`).join('\n')}\nk7: 2\n`
    const errors = await errorsOf(text)
    expect(errors.find(error => error.what.includes('twice'))?.where).toMatchObject({ line: 20_001, field: 'k7' })
  })

  test('an empty file', async () => {
    for (const text of ['', '\n', '# nothing\n', '---\n']) {
      expect((await errorsOf(text)).map(error => error.what)).toEqual(['the document is empty'])
    }
  })

  test('any text at all is either read or refused with a place', async () => {
    const fragments = fc.constantFrom(
      'a:',
      ' ',
      '\n',
      '- ',
      '[',
      ']',
      '{',
      '}',
      '&a',
      '*a',
      '!!x',
      '"',
      "'",
      '|',
      '>',
      '#',
      '%',
      '---',
      '?',
      ',',
      '\t',
      '\r',
      '\u0000',
      'spec',
      ': ',
      '<<',
    )
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(fragments, fc.string({ maxLength: 4 })), { maxLength: 40 }), async parts => {
        expect((await errorsOf(parts.join(''))).length).toBeGreaterThan(0)
      }),
      { numRuns: 150 },
    )
  })

  test('a change of any one character of a declaration is either read or refused with a place', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(complete.length - 1),
        fc.constantFrom(...'{}[]:,#&*!|>\'"%@`-? \n\t\0x1'),
        async (at, character) => {
          await errorsOf(`${complete.slice(0, at)}${character}${complete.slice(at + 1)}`)
        },
      ),
      { numRuns: 150 },
    )
  })
})

describe('never repeats key material (F29)', () => {
  const bytes = Buffer.from(Array.from({ length: 96 }, (_, index) => (index * 37 + 11) % 256)).toString('base64')
  const pem = `-----BEGIN PRIVATE KEY-----\n${bytes}\n-----END PRIVATE KEY-----`
  const identity = `AGE-SECRET-KEY-1${'Q'.repeat(58)}`
  test.each([
    ['a PEM key', `  key: |\n    ${pem.replaceAll('\n', '\n    ')}\n`, bytes],
    ['base64 of a PEM key', `  key: ${Buffer.from(pem).toString('base64')}\n`, Buffer.from(pem).toString('base64')],
    ['base64 of a key in DER', `  key: ${bytes}\n`, bytes],
    ['an identity of age', `  key: ${identity}\n`, identity],
    ['an identity of age as a recipient', `  custody: {sops: {age: [${identity}]}}\n`, identity],
    ['a key where a field name belongs', `  ${bytes}: x\n`, bytes],
    ['a key in broken YAML', `  key: "${bytes}\n`, bytes],
    ['a key as an alias', `  key: *${bytes.replaceAll(/[+/=]/g, '')}\n`, bytes.replaceAll(/[+/=]/g, '')],
    ['a key as a tag', `  key: !${bytes.replaceAll(/[+/=]/g, '')} x\n`, bytes.replaceAll(/[+/=]/g, '')],
  ])('%s', async (_, planted, secret) => {
    const errors = await errorsOf(`${complete}${planted}`)
    expect(errors.length).toBeGreaterThan(0)
    const message = errors.map(error => `${error.message} ${JSON.stringify(error)} ${error.stack}`).join('\n')
    for (let at = 0; at + 24 <= secret.length; at += 1) expect(message).not.toContain(secret.slice(at, at + 24))
  })
})

describe('the JSON Schema', () => {
  const committed = readFileSync(new URL('../../schemas/rotation.schema.json', import.meta.url), 'utf8')
  const validate = new Ajv2020({ strict: true, strictTypes: false }).compile(JSON.parse(committed) as object)

  test('that is committed is current: build, then node dist/src/declaration/json-schema.js', () => {
    expect(committed).toBe(rotationJsonSchema())
  })

  test('accepts what readDeclaration accepts', () => {
    for (const text of [shortest, complete]) expect(validate(parse(text)), JSON.stringify(validate.errors)).toBe(true)
    fc.assert(
      fc.property(declarations, declaration => {
        expect(validate(parse(writeDeclaration(declaration))), JSON.stringify(validate.errors)).toBe(true)
      }),
      { numRuns: 100 },
    )
  })

  test('refuses unknown fields, missing ones, and two choices at once', () => {
    for (const [from, to] of [
      ['strategy:', 'stragety:'],
      ['  system: istio\n', ''],
      ['acme/fleet}', 'acme/fleet}, local: {}'],
      ['base: main', 'base: 1'],
      ['flux-system/trust-eu', 'trust-eu'],
    ] as const) {
      expect(complete).toContain(from)
      expect(validate(parse(complete.replace(from, to))), to).toBe(false)
    }
  })

  test('describes every field for editors', () => {
    const bare: string[] = []
    const visit = (node: unknown, path: string): void => {
      if (typeof node !== 'object' || node === null) return
      const { properties, additionalProperties, items, anyOf } = node as Record<string, unknown>
      for (const [name, field] of Object.entries((properties ?? {}) as Record<string, { description?: string }>)) {
        if (field.description === undefined) bare.push(`${path}.${name}`)
        visit(field, `${path}.${name}`)
      }
      visit(additionalProperties, `${path}.*`)
      visit(items, `${path}[]`)
      for (const branch of (anyOf ?? []) as unknown[]) visit(branch, path)
    }
    visit(JSON.parse(committed), '')
    expect(bare).toEqual([])
  })
})
