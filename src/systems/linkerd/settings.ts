import { type Finding, mapAt, textAt, unknownSite } from '../../declaration/raw.ts'
import { formatDuration, millisecondsOf } from '../../declaration/values.ts'
import type { SystemPart } from '../../rotation.ts'
import type { SettingsRules } from '../system.ts'
import type { LinkerdFlow } from './version.ts'

/** What `spec.linkerd` says. */
export interface LinkerdSettings {
  readonly flow: LinkerdFlow
  /** The installed version, such as `stable-2.14.10`: algorithms, words and places depend on it. */
  readonly version: string
  /** The control plane's namespace. */
  readonly namespace: string
  readonly trustDomain: string
  /** Folder of each site whose kustomization builds the control plane's manifests, by site. */
  readonly controlPlane: Readonly<Record<string, { readonly path: string }>>
  /** Hours a leaf lives (identity's -identity-issuance-lifetime), which bounds every wait for renewals. */
  readonly leafHours: number
  /** How leaves of the new issuer come to the workloads: by themselves within a leaf's life, or by a restart. */
  readonly leaves: 'renewal' | 'restart'
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
      issuing: `CN=identity.${namespace}.${trustDomain}`,
    }
  },
  checks: controlPlanes,
  paths: spec =>
    Object.entries(mapAt(spec, ['linkerd', 'controlPlane']) ?? {}).flatMap(([name, plane]) => {
      const text = textAt(plane, ['path'])
      return text === null ? [] : [{ path: ['spec', 'linkerd', 'controlPlane', name, 'path'], text }]
    }),
  fill(spec) {
    const { linkerd } = spec
    if (linkerd === undefined) throw new Error('a declaration without spec.linkerd passed the checks')
    const { flow, version, namespace, trustDomain, controlPlane, leafTTL, leaves } = linkerd
    const planes = Object.entries(controlPlane).map(
      ([site, { path }]) => [site, { path: path === '.' ? '' : path }] as const,
    )
    return {
      system: 'linkerd',
      linkerd: {
        flow,
        version,
        namespace,
        trustDomain,
        controlPlane: Object.fromEntries(planes),
        leafHours: millisecondsOf(leafTTL) / 3_600_000,
        leaves,
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
    out.field('leaves', linkerd.leaves, 'renewal: by themselves | restart: workloads restart once more')
    out.comment('The folder of each site that builds the control plane.')
    out.map('controlPlane', () => {
      for (const [site, plane] of Object.entries(linkerd.controlPlane))
        out.map(site, () => out.field('path', plane.path === '' ? '.' : plane.path))
    })
  },
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
  if (planes === null) return []
  const findings = Object.keys(planes)
    .filter(name => !names.includes(name))
    .map(name => ({ ...unknownSite(['spec', 'linkerd', 'controlPlane', name], name, names), atKey: true }))
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
