import { type Finding, mapAt, textAt, unknownSite } from '../../declaration/raw.ts'
import { formatDuration, millisecondsOf } from '../../declaration/values.ts'
import type { DeclarationWriter } from '../../declaration/write.ts'
import { folderOf } from '../../gitops/paths.ts'
import type { SystemPart } from '../../rotation.ts'
import type { SettingsRules } from '../system.ts'
import type { IssuerScheme } from './issuer-secret.ts'
import type { LinkerdFlow } from './version.ts'

/** What `spec.linkerd` says. */
export interface LinkerdSettings {
  readonly flow: LinkerdFlow
  /** The installed version, such as `stable-2.14.10`: algorithms, words and places depend on it. */
  readonly version: string
  /** The control plane's namespace. */
  readonly namespace: string
  readonly trustDomain: string
  readonly install: LinkerdInstall
  /** Where each site declares its control plane. Keyed by site. */
  readonly controlPlane: Readonly<Record<string, LinkerdPlane>>
  /** Form of the issuer Secret where the cluster is not asked for it; null: as it is there, or linkerd.io/tls. */
  readonly issuerScheme: IssuerScheme | null
  /** Hours a leaf lives (identity's -identity-issuance-lifetime), which bounds every wait for renewals. */
  readonly leafHours: number
  /** How leaves of the new issuer come to the workloads: by themselves within a leaf's life, or by a restart. */
  readonly leaves: 'renewal' | 'restart'
  /** A Bundle of trust-manager writes the ConfigMap of anchors, in place of the deliverer. @default false */
  readonly trustManager?: boolean
}

/** manifests: what `linkerd install` has written. helmRelease, argoApplication: what installs the chart. */
export const linkerdInstalls = ['manifests', 'helmRelease', 'argoApplication'] as const
export type LinkerdInstall = (typeof linkerdInstalls)[number]

export interface LinkerdPlane {
  /** Folder whose kustomization builds the manifests, or the object that installs the chart. */
  readonly path: string
  /** File and metadata.name of that object; null for manifests. */
  readonly file: string | null
  readonly name: string | null
}

export function linkerdOf(part: SystemPart): LinkerdSettings {
  if (part.system === 'linkerd') return part.linkerd
  throw new Error(`spec.linkerd was asked for in a rotation of ${part.system}`)
}

export const linkerdSettings: SettingsRules = {
  stem: 'mesh',
  defaults: { issuingValidity: '365d' },
  issuing: true,
  subjects(rotation, part) {
    const { namespace, trustDomain } = linkerdOf(part)
    return {
      // `root.…` and the rotation's name: never the name of the issuer, nor that of the root before (linkerd2#5350).
      root: `CN=root.${namespace}.${trustDomain},OU=${rotation}`,
      // The issuers of several clusters have keys of their own, so they are told apart (RFC 5280 §4.1.2.6); identity verifies the SAN alone.
      issuing: `CN=identity.${namespace}.${trustDomain},OU={site}`,
    }
  },
  checks: controlPlanes,
  paths: spec =>
    Object.entries(mapAt(spec, ['linkerd', 'controlPlane']) ?? {}).flatMap(([name, plane]) => {
      return ['file', 'path'].flatMap(field => {
        const text = textAt(plane, [field])
        return text === null ? [] : [{ path: ['spec', 'linkerd', 'controlPlane', name, field], text }]
      })
    }),
  leaves: part => (linkerdOf(part).leaves === 'restart' ? 'restart' : null),
  fill(spec) {
    const { linkerd } = spec
    if (linkerd === undefined) throw new Error('a declaration without spec.linkerd passed the checks')
    const { flow, version, namespace, trustDomain, install, controlPlane, leafTTL } = linkerd
    const planes = Object.entries(controlPlane).map(([site, plane]) => [site, planeOf(plane)] as const)
    return {
      system: 'linkerd',
      linkerd: {
        flow,
        version,
        namespace,
        trustDomain,
        install,
        controlPlane: Object.fromEntries(planes),
        issuerScheme: linkerd.issuerScheme ?? null,
        leafHours: millisecondsOf(leafTTL) / 3_600_000,
        leaves: spec.reload.leaves ?? 'renewal',
        ...(linkerd.trustManager === true ? { trustManager: true } : {}),
      },
    }
  },
  write(out, part) {
    const linkerd = linkerdOf(part)
    out.field('flow', linkerd.flow, 'trust-roots (2.11 and later) | upgrade | config-map (2.7 and 2.8)')
    out.field('version', linkerd.version)
    out.field('namespace', linkerd.namespace)
    out.field('trustDomain', linkerd.trustDomain)
    out.field(
      'leafTTL',
      formatDuration(Math.round(linkerd.leafHours * 3_600_000), ['h', 'm', 's', 'ms']),
      'how long a leaf lives',
    )
    if (linkerd.issuerScheme !== null) out.field('issuerScheme', linkerd.issuerScheme)
    if (linkerd.trustManager === true) out.flag('trustManager', true, 'a Bundle writes the anchors')
    out.field('install', linkerd.install, 'manifests | helmRelease | argoApplication')
    out.comment('Where each site declares its control plane.')
    out.map('controlPlane', () => {
      for (const [site, plane] of Object.entries(linkerd.controlPlane)) out.map(site, () => writePlane(out, plane))
    })
  },
}

function planeOf(plane: {
  readonly path?: string | undefined
  readonly file?: string | undefined
  readonly name?: string | undefined
}): LinkerdPlane {
  const path = plane.path ?? (plane.file === undefined ? '' : folderOf(plane.file))
  return { path: path === '.' ? '' : path, file: plane.file ?? null, name: plane.name ?? null }
}

function writePlane(out: DeclarationWriter, { path, file, name }: LinkerdPlane): void {
  if (file !== null) out.field('file', file)
  if (name !== null) out.field('name', name)
  if (file === null || path !== folderOf(file)) out.field('path', path === '' ? '.' : path)
}

function controlPlanes(spec: Readonly<Record<string, unknown>>, names: readonly string[]): readonly Finding[] {
  const example = `${names[0] ?? 'eu-1'}: {path: linkerd/${names[0] ?? 'eu-1'}}`
  if (!Object.hasOwn(spec, 'linkerd')) {
    return [
      {
        path: ['spec', 'linkerd'],
        what: 'is missing',
        expected: 'the flow, the version, and where each site declares its control plane',
        example: `linkerd: {flow: trust-roots, version: stable-2.14.10, controlPlane: {${example}}}`,
      },
    ]
  }
  const planes = mapAt(spec, ['linkerd', 'controlPlane'])
  const algorithms = issuerAlgorithms(spec)
  if (planes === null) return algorithms
  const findings: Finding[] = Object.keys(planes)
    .filter(name => !names.includes(name))
    .map(name => ({ ...unknownSite(['spec', 'linkerd', 'controlPlane', name], name, names), atKey: true }))
  findings.push(...algorithms, ...incompletePlanes(planes, textAt(spec, ['linkerd', 'install']) ?? 'manifests'))
  const missing = names.filter(name => !Object.hasOwn(planes, name))
  if (missing.length === 0) return findings
  return [
    ...findings,
    {
      path: ['spec', 'linkerd', 'controlPlane'],
      what: `says nothing of ${missing.join(', ')}`,
      expected: 'an entry for every site',
      example,
      atKey: true,
    },
  ]
}

/** Said before an offline root has signed: identity starts with an issuer of P-256 alone (linkerd2 pkg/issuercerts/issuercerts.go). */
function issuerAlgorithms(spec: Readonly<Record<string, unknown>>): readonly Finding[] {
  return ['generate', 'csr', 'certManager'].flatMap(kind => {
    const path = ['next', kind, 'issuing', 'algorithm']
    const algorithm = textAt(spec, path)
    if (algorithm === null || algorithm === 'ecdsa-p256') return []
    return [{ path: ['spec', ...path], what: 'is no algorithm of an issuer of Linkerd', expected: 'ecdsa-p256' }]
  })
}

/** Manifests are found by their folder, what installs a chart by its file and its name. */
function incompletePlanes(planes: Readonly<Record<string, unknown>>, install: string): readonly Finding[] {
  const wanted = install === 'manifests' ? ['path'] : ['file', 'name']
  const unwanted = install === 'manifests' ? ['file', 'name'] : []
  const example =
    install === 'manifests' ? '{path: linkerd/eu-1}' : '{file: linkerd/eu-1/release.yaml, name: linkerd-control-plane}'
  return Object.entries(planes).flatMap(([site, plane]): Finding[] => {
    if (mapAt(plane, []) === null) return []
    const path = ['spec', 'linkerd', 'controlPlane', site]
    const missing = wanted.filter(field => textAt(plane, [field]) === null)
    const surplus = unwanted.filter(field => textAt(plane, [field]) !== null)
    if (missing.length > 0)
      return [
        {
          path,
          what: `lacks ${missing.join(' and ')}`,
          expected: `${wanted.join(' and ')} where install is ${install}`,
          example,
          atKey: true,
        },
      ]
    return surplus.map(field => ({
      path: [...path, field],
      what: 'is for a chart, but install is manifests',
      expected: 'path alone, or install: helmRelease or argoApplication',
      example: 'install: helmRelease',
      atKey: true,
    }))
  })
}

export interface LinkerdNames {
  /** Namespace of the control plane. */
  readonly namespace: string
  readonly trustDomain: string
}

/** Common name of the issuer, and its DNS name too: up to 2.9 identity verifies the issuer for it (pkg/identity/service.go). */
export function issuerName({ namespace, trustDomain }: LinkerdNames): string {
  return `identity.${namespace}.${trustDomain}`
}
