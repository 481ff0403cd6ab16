import { beforeAll, describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import type { Custody } from '../../../src/custody/custody.ts'
import { readDeclaration } from '../../../src/declaration/read.ts'
import type { Certificate } from '../../../src/pki/certificate.ts'
import type { CurrentCa } from '../../../src/plan/ca.ts'
import { linkerdDeclaration } from '../../../src/rehearsal/linkerd/declaration.ts'
import { linkerdFleet } from '../../../src/rehearsal/linkerd/fleet.ts'
import type { FileTree, TrustState } from '../../../src/rotation.ts'
import { anchorText, readAsGo } from '../../../src/systems/linkerd/go-pem.ts'
import { globalAnchors } from '../../../src/systems/linkerd/linkerd-config.ts'
import type { LinkerdIssuer } from '../../../src/systems/linkerd/next-ca.ts'
import { planLinkerdSite } from '../../../src/systems/linkerd/plan-site.ts'
import type { LinkerdFlow } from '../../../src/systems/linkerd/version.ts'
import type { SitePlan } from '../../../src/systems/system.ts'
import { linkerdCa } from './material.ts'

let old: LinkerdIssuer
let next: LinkerdIssuer

beforeAll(async () => {
  ;[old, next] = await Promise.all([linkerdCa('CN=old'), linkerdCa('CN=new')])
})

/** Seals nothing: what would be sealed can be read in the test. */
const open = {
  kind: 'sops',
  seal: async (secret: { readonly type: string; readonly data: Readonly<Record<string, string>> }) =>
    JSON.stringify({ kind: 'Secret', type: secret.type, data: secret.data }),
} as unknown as Custody

const recipient = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p'

async function planned(flow: LinkerdFlow, settings: Partial<CurrentCa['settings']> = {}): Promise<Planned> {
  const options = { sites: ['eu-1'], ageRecipient: recipient, sealingCertificate: '', variant: flow }
  const { text } = linkerdDeclaration(flow, { ...options, rotation: 'mesh-2026', paths: {}, now: new Date() })
  const declaration = await readDeclaration(text, 'rotation.yaml')
  const site = declaration.sites[0]
  if (site === undefined) throw new Error('no site')
  const files = linkerdFleet({ sites: ['eu-1'], ageRecipient: recipient, flow, root: old.root.pem })
  const current: CurrentCa = {
    issuer: old.issuer,
    chain: [old.issuer],
    roots: [old.root],
    key: old.key,
    source: 'plugged',
    settings: { scheme: 'linkerd.io/tls', secretType: 'Opaque', version: 'stable-2.7.1', ...settings },
    restarts: {},
  }
  return { plan: planLinkerdSite({ declaration, site, files, current, next, merged: null }), flow }
}

interface Planned {
  readonly plan: SitePlan
  readonly flow: LinkerdFlow
}

/** The files of a step, as `phase/step` names it. */
async function filesAt({ plan }: Planned, name: string): Promise<FileTree> {
  const [phaseName = '', stepName = ''] = name.split('/')
  const phase = plan.phases.findIndex(each => each.name === phaseName)
  const step = plan.phases[phase]?.steps.findIndex(each => each.name === stepName) ?? -1
  const state = plan.phases[phase]?.steps[step]?.state as TrustState
  return await plan.render({
    header: { rotation: 'mesh-2026', phase, phaseName, step: step + 1, stepName, variant: 'step', site: 'eu-1' },
    state,
    custody: open,
    canary: 'canary',
    certificate: sha256 => certificateOf(sha256),
  })
}

function certificateOf(sha256: string): Certificate {
  const found = [old.root, old.issuer, next.root, next.issuer].find(each => each.sha256 === sha256)
  if (found === undefined) throw new Error(`no certificate ${sha256}`)
  return found
}

interface EndState {
  /** `data` of Secret linkerd-identity-issuer. */
  readonly issuer: Readonly<Record<string, string>>
  /** Anchors where the injector reads them. */
  readonly anchors: string
  /** Anchors that the control plane's pods are told, as a literal or by what they restart for. */
  readonly controlPlane: string | null
  readonly dataPlane: string | null
}

async function endStateOf(planned: Planned, name: string): Promise<EndState> {
  const files = await filesAt(planned, name)
  const component = 'components/control-plane'
  const deployment = yaml(files, `${component}/linkerd-identity.yaml`)
  const literal = deployment?.spec?.template?.spec?.containers?.[0]?.env?.[0]?.value ?? null
  const config = yaml(files, `${component}/linkerd-config.yaml`)
  const roots = yaml(files, `${component}/trust-roots.yaml`)
  const manual = yaml(files, 'components/data-plane/deployment-emojivoto-voting.yaml')
  return {
    issuer: JSON.parse(files.get('issuer.yaml') ?? '{}').data,
    anchors: roots?.data?.['ca-bundle.crt'] ?? globalAnchors(config?.data?.global ?? ''),
    controlPlane: literal,
    dataPlane: manual?.spec?.template?.spec?.containers?.[0]?.env?.[0]?.value ?? null,
  }
}

interface Patch {
  readonly data?: Readonly<Record<string, string>>
  readonly spec?: {
    readonly template?: {
      readonly metadata?: { readonly annotations?: Readonly<Record<string, string>> }
      readonly spec?: { readonly containers?: readonly { readonly env?: readonly { readonly value?: string }[] }[] }
    }
  }
}

function yaml(files: FileTree, path: string): Patch | null {
  const text = files.get(path)
  return text === undefined ? null : (parseAllDocuments(text)[0]?.toJS() as Patch)
}

function steps({ plan }: Planned): readonly string[] {
  return plan.phases.flatMap(phase => phase.steps.map(step => `${phase.name}/${step.name}`))
}

describe('runbook 002, “Rotating your identity certificates” (linkerd upgrade)', () => {
  it('has its steps in ours, in its order', async () => {
    const runbook: readonly (readonly [string, string])[] = [
      ['linkerd upgrade --identity-trust-anchors-file=./bundle.crt | kubectl apply -f -', 'trust-both/data'],
      ['This will restart the proxies of the Linkerd components', 'trust-both/control-plane'],
      ['kubectl -n emojivoto rollout restart deploy', 'trust-both/data-plane'],
      ['linkerd upgrade --identity-issuer-certificate-file=./issuer-new.crt …', 'issue-new/data'],
      // The runbook has nothing here: it drops the old root while leaves of the old issuer live on for up to a day, which was an outage
      // (linkerd2#4287, F1). Ours is the gate of issue-new: every proxy's leaf is probed before the next step opens.
      ['linkerd upgrade --identity-trust-anchors-file=./ca-new.crt', 'trust-new/data'],
      ['(the same run restarts the Linkerd components)', 'trust-new/control-plane'],
      ['kubectl -n emojivoto rollout restart deploy', 'trust-new/data-plane'],
    ]
    expect(steps(await planned('upgrade')).slice(1)).toEqual(runbook.map(([, ours]) => ours))
  })

  it('ends with the same objects, key by key, at each of its stations', async () => {
    const plan = await planned('upgrade')
    const bundle = anchorText([next.root.pem, old.root.pem])
    const oldIssuer = { 'crt.pem': old.issuer.pem, 'key.pem': old.key }
    const newIssuer = { 'crt.pem': next.issuer.pem, 'key.pem': next.key }
    const stations: Readonly<Record<string, EndState>> = {
      'adopt/adopt': { issuer: oldIssuer, anchors: old.root.pem, controlPlane: null, dataPlane: null },
      'trust-both/data-plane': { issuer: oldIssuer, anchors: bundle, controlPlane: bundle, dataPlane: null },
      'issue-new/data': { issuer: newIssuer, anchors: bundle, controlPlane: bundle, dataPlane: null },
      'trust-new/data-plane': {
        issuer: newIssuer,
        anchors: next.root.pem,
        controlPlane: next.root.pem,
        dataPlane: null,
      },
    }
    for (const [name, expected] of Object.entries(stations))
      expect(await endStateOf(plan, name), name).toEqual(expected)
  })
})

describe('runbook 004, “Rotating the identity trust root” (linkerd-config by hand)', () => {
  it('has its steps in ours, in its order', async () => {
    const runbook: readonly (readonly [string, string])[] = [
      ['kubectl edit configmap linkerd-config: <old-trust-root><new-trust-root>', 'trust-both/data'],
      [
        'kubectl -n linkerd get deploy -o yaml | linkerd inject --manual - | kubectl apply -f -',
        'trust-both/control-plane',
      ],
      ['You need to do that for all injected resources', 'trust-both/data-plane'],
      ['kubectl edit secret linkerd-identity-issuer', 'issue-new/data'],
      // Nothing here either: see the runbook above (linkerd2#4287).
      ['kubectl edit configmap linkerd-config: <new-trust-root>', 'trust-new/data'],
      [
        'kubectl -n linkerd get deploy -o yaml | linkerd inject --manual - | kubectl apply -f -',
        'trust-new/control-plane',
      ],
      // It stops with the linkerd namespace; "all injected resources" holds as before (trap 19).
      ['(all injected resources)', 'trust-new/data-plane'],
    ]
    expect(steps(await planned('config-map')).slice(1)).toEqual(runbook.map(([, ours]) => ours))
  })

  it('ends with the same objects, key by key, in the default form of the Secret', async () => {
    const plan = await planned('config-map')
    const both = anchorText([old.root.pem, next.root.pem])
    const newIssuer = { 'crt.pem': next.issuer.pem, 'key.pem': next.key }
    expect(await endStateOf(plan, 'trust-both/data-plane')).toEqual({
      issuer: { 'crt.pem': old.issuer.pem, 'key.pem': old.key },
      anchors: both,
      controlPlane: both,
      // What was injected by hand has its anchors in Git.
      dataPlane: both,
    })
    expect(await endStateOf(plan, 'trust-new/data-plane')).toEqual({
      issuer: newIssuer,
      anchors: next.root.pem,
      controlPlane: next.root.pem,
      dataPlane: next.root.pem,
    })
  })

  it('keeps ca.crt equal to the anchors in the external form, in every step (trap 8)', async () => {
    const plan = await planned('config-map', { scheme: 'kubernetes.io/tls', secretType: 'kubernetes.io/tls' })
    for (const name of steps(plan)) {
      const { issuer, anchors } = await endStateOf(plan, name)
      const issuing = ['issue-new', 'trust-new'].some(phase => name.startsWith(phase)) ? next : old
      expect(issuer, name).toEqual({ 'ca.crt': anchors, 'tls.crt': issuing.issuer.pem, 'tls.key': issuing.key })
    }
  })

  it('changes trustAnchorsPem in the JSON and no other key of linkerd-config', async () => {
    const plan = await planned('config-map')
    const of = async (name: string) =>
      JSON.parse(yaml(await filesAt(plan, name), 'components/control-plane/linkerd-config.yaml')?.data?.global ?? '{}')
    const [before, after] = [await of('adopt/adopt'), await of('trust-both/data')]
    expect(after.identityContext.trustAnchorsPem).toBe(anchorText([old.root.pem, next.root.pem]))
    expect({ ...after, identityContext: { ...after.identityContext, trustAnchorsPem: '' } }).toEqual({
      ...before,
      identityContext: { ...before.identityContext, trustAnchorsPem: '' },
    })
  })
})

describe('flow trust-roots, from 2.11 on', () => {
  it('moves the ConfigMap and the copy in Helm’s values, and tells the control plane by a token and Linkerd’s own hash', async () => {
    const plan = await planned('trust-roots')
    const data = await filesAt(plan, 'trust-both/data')
    const both = anchorText([next.root.pem, old.root.pem])
    expect(yaml(data, 'components/control-plane/trust-roots.yaml')?.data).toEqual({ 'ca-bundle.crt': both })
    expect(yaml(data, 'components/control-plane/linkerd-config.yaml')?.data?.values).toContain(
      'identityTrustAnchorsPEM: |',
    )
    // Data first: no pod template changes with it.
    expect(yaml(data, 'components/control-plane/linkerd-identity.yaml')?.spec).toBeUndefined()
    const restart = yaml(
      await filesAt(plan, 'trust-both/control-plane'),
      'components/control-plane/linkerd-identity.yaml',
    )
    expect(Object.keys(restart?.spec?.template?.metadata?.annotations ?? {}).sort()).toEqual([
      'linkerd.io/trust-root-sha256',
      'reanchor.dev/trust',
    ])
  })

  it('changes no byte of anchors and no pod template at adopt', async () => {
    const plan = await planned('trust-roots')
    const files = await filesAt(plan, 'adopt/adopt')
    expect(yaml(files, 'components/control-plane/trust-roots.yaml')?.data?.['ca-bundle.crt']).toBe(
      old.root.pem.trimEnd(),
    )
    for (const [path, text] of files) if (path.startsWith('components/')) expect(text, path).not.toContain('template')
  })

  it('writes anchors that Go reads whole, in every step of every flow (F30)', async () => {
    for (const flow of ['trust-roots', 'upgrade', 'config-map'] as const) {
      const plan = await planned(flow)
      for (const name of steps(plan))
        expect(readAsGo((await endStateOf(plan, name)).anchors).ok, `${flow} ${name}`).toBe(true)
    }
  })
})
