import { randomBytes } from 'node:crypto'
import { stringify } from 'yaml'
import type { Custody } from '../../src/custody/custody.ts'
import { createSopsCustody } from '../../src/custody/sops.ts'
import { certificatesIn, companyRoot, fingerprintOf, issuingCa, type Pair } from '../../src/rehearsal/certificates.ts'
import { Agent } from '../../src/rehearsal/istio/agent.ts'
import { demoFleet, type FleetOptions } from '../../src/rehearsal/istio/fleet.ts'
import { Istiod } from '../../src/rehearsal/istio/istiod.ts'
import { type Manifest, textAt } from '../../src/rehearsal/objects.ts'
import {
  type Rehearsal,
  type RehearsalOptions,
  type SiteControls,
  startRehearsal,
} from '../../src/rehearsal/rehearsal.ts'

// A pair made for these tests alone: no repository and no cluster has ever used it.
const { generateIdentity, identityToRecipient } = await import('age-encryption')
const identity = await generateIdentity()
const recipient = await identityToRecipient(identity)

export const minute = 60_000
export const hour = 60 * minute
export const bothFlags = { multiroot: true, xdsAgent: true }

/** A base branch in memory. */
export class Base {
  files: Map<string, string>
  #commit = 1

  constructor(fleet: Partial<FleetOptions> = {}) {
    this.files = new Map(demoFleet({ sites: ['eu-1'], ageRecipient: recipient, ...fleet }))
  }

  read = async (): Promise<{ commit: string; files: Map<string, string> }> => ({
    commit: this.#commit.toString(16).padStart(40, '0'),
    files: this.files,
  })

  merge(changes: Record<string, string | null>): void {
    this.files = new Map(this.files)
    for (const [path, text] of Object.entries(changes)) {
      if (text === null) this.files.delete(path)
      else this.files.set(path, text)
    }
    this.#commit += 1
  }

  edit(path: string, change: (text: string) => string): void {
    this.merge({ [path]: change(this.files.get(path) ?? '') })
  }
}

export function setFlags(base: Base, flags: { multiroot: boolean; xdsAgent: boolean }, site = 'eu-1'): void {
  base.edit(`istio/${site}/istio.yaml`, text => {
    const withEnv = flags.multiroot
      ? text.replace('      env:\n', '      env:\n        ISTIO_MULTIROOT_MESH: "true"\n')
      : text
    if (!flags.xdsAgent) return withEnv
    return withEnv.replace(
      '      defaultConfig:\n',
      '      defaultConfig:\n        proxyMetadata:\n          PROXY_CONFIG_XDS_AGENT: "true"\n',
    )
  })
}

/** Keeps the flag from one workload, as one that was injected before it was set. */
export function withoutAgentFlag(base: Base, path: string): void {
  base.edit(path, text =>
    text.replace(
      '    metadata:\n      labels:',
      '    metadata:\n      annotations:\n        proxy.istio.io/config: \'{"proxyMetadata": {"PROXY_CONFIG_XDS_AGENT": "false"}}\'\n      labels:',
    ),
  )
}

export function start(base: Base, options: Partial<RehearsalOptions> = {}): Promise<Rehearsal> {
  return startRehearsal({
    readBase: base.read,
    sites: ['eu-1'],
    ageIdentity: identity,
    seed: 1,
    now: new Date('2026-11-22T08:00:00Z'),
    ...options,
  })
}

export function onlySite(rehearsal: Rehearsal): SiteControls {
  return [...rehearsal.sites.values()][0]!
}

export interface NewCa {
  readonly root: string
  readonly issuing: Pair
}

export function newCa(site = 'eu-1'): NewCa {
  const life = { notBefore: new Date(Date.now() - hour), notAfter: new Date(Date.now() + 3650 * 24 * hour) }
  const root = companyRoot('Fleet Root 2', life)
  return {
    root: root.certificate,
    issuing: issuingCa(root, site, { ...life, notAfter: new Date(Date.now() + 1000 * 24 * hour) }),
  }
}

export interface CacertsFiles {
  readonly signer: Pair
  readonly chain: string
  readonly roots: string
}

export function cacerts(files: CacertsFiles): Manifest {
  const encode = (text: string): string => Buffer.from(text).toString('base64')
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 'cacerts', namespace: 'istio-system' },
    type: 'Opaque',
    data: {
      'ca-cert.pem': encode(files.signer.certificate),
      'ca-key.pem': encode(files.signer.key),
      'cert-chain.pem': encode(files.chain),
      'root-cert.pem': encode(files.roots),
    },
  }
}

export function restartIstiod(base: Base, token: string, site = 'eu-1'): void {
  base.edit(`istio/${site}/istio.yaml`, text =>
    text.includes('podAnnotations:')
      ? text.replace(/reanchor\.dev\/trust: .*/, `reanchor.dev/trust: ${token}`)
      : text.replace('    pilot:\n', `    pilot:\n      podAnnotations:\n        reanchor.dev/trust: ${token}\n`),
  )
}

export function restartWorkloads(base: Base, token: string, site = 'eu-1'): void {
  const patch = (kind: string): unknown => ({
    target: { kind },
    patch: stringify({
      apiVersion: 'apps/v1',
      kind,
      metadata: { name: 'any' },
      spec: { template: { metadata: { annotations: { 'reanchor.dev/trust': token } } } },
    }),
  })
  base.edit(
    `apps/${site}/kustomization.yaml`,
    text => `${text.split('patches:')[0]}${stringify({ patches: ['Deployment', 'StatefulSet'].map(patch) })}`,
  )
}

export function sopsCustody(): Custody {
  return createSopsCustody({
    recipients: [recipient],
    now: new Date('2026-11-22T08:00:00Z'),
    random: size => randomBytes(size),
  })
}

/** The site's folder with a sealed `cacerts`, and the Flux Kustomization that applies it. */
export async function trustFolder(
  custody: Custody,
  files: CacertsFiles,
  site = 'eu-1',
): Promise<Record<string, string>> {
  const sealed = await custody.seal(
    {
      name: 'cacerts',
      namespace: 'istio-system',
      type: 'Opaque',
      labels: { 'app.kubernetes.io/managed-by': 'reanchor' },
      annotations: { 'kustomize.toolkit.fluxcd.io/prune': 'disabled' },
      data: {
        'ca-cert.pem': files.signer.certificate,
        'ca-key.pem': files.signer.key,
        'cert-chain.pem': files.chain,
        'root-cert.pem': files.roots,
      },
      privateKeys: ['ca-key.pem'],
    },
    `trust/${site}/cacerts.yaml`,
  )
  return {
    [`trust/${site}/kustomization.yaml`]:
      'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n  - cacerts.yaml\n',
    [`trust/${site}/cacerts.yaml`]: sealed,
    [`clusters/${site}/trust.yaml`]: stringify({
      apiVersion: 'kustomize.toolkit.fluxcd.io/v1',
      kind: 'Kustomization',
      metadata: { name: 'trust', namespace: 'flux-system' },
      spec: {
        interval: '10m',
        path: `./trust/${site}`,
        prune: true,
        dependsOn: [{ name: 'istio' }],
        decryption: { provider: 'sops', secretRef: { name: 'sops-age' } },
        sourceRef: { kind: 'GitRepository', name: 'flux-system' },
      },
    }),
  }
}

export function agentsOf(site: SiteControls, owner: string): Agent[] {
  const [namespace, , name] = owner.split('/')
  return everyAgent(site).filter(
    agent =>
      agent.pod.metadata.namespace === namespace && agent.pod.metadata.name.startsWith(`${name}-`) && agent.running,
  )
}

export interface Held {
  readonly trusts: readonly string[]
  readonly leaf: string
  /** The certificate after the leaf, which signed it. */
  readonly issuer: string
}

export function heldBy(site: SiteControls, owner: string): Held {
  const material = agentsOf(site, owner)[0]!.endpoint!.material
  const served = certificatesIn(material.chain)
  return { trusts: material.trusts, leaf: material.leaf, issuer: fingerprintOf(served[1]!) }
}

export function rootConfigMapOf(site: SiteControls, namespace: string): string {
  return textAt(site.store.get('', 'ConfigMap', namespace, 'istio-ca-root-cert'), 'data', 'root-cert.pem') ?? ''
}

export function set(...certificates: readonly string[]): string[] {
  return [...new Set(certificates.map(fingerprintOf))].sort()
}

export function everyAgent(site: SiteControls): readonly Agent[] {
  return site.workloads.processes.filter(process => process instanceof Agent)
}

export function istiodsOf(site: SiteControls): readonly Istiod[] {
  return site.workloads.processes.filter(process => process instanceof Istiod)
}
