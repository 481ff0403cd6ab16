import { type Finding, mapAt, textAt, unknownSite } from '../../declaration/raw.ts'
import { formatDuration, millisecondsOf } from '../../declaration/values.ts'
import { folderOf } from '../../gitops/paths.ts'
import type { SystemPart } from '../../rotation.ts'
import type { SettingsRules } from '../system.ts'

export interface IstioSettings {
  readonly install: IstioInstall
  /** The control plane's namespace. */
  readonly namespace: string
  readonly trustDomain: string
  /** Where each site declares its Istio: the file and, for Sail, the resource's name. Keyed by site. */
  readonly controlPlane: Readonly<Record<string, IstioControlPlane>>
  readonly ambient: boolean
  /** Hours a leaf lives (SECRET_TTL), which bounds every wait for renewals. */
  readonly leafHours: number
}

/** sail: an `Istio` resource. helmRelease: Flux's. helmValues: a values file of the user's. argoApplication: a Helm Application. */
export type IstioInstall = 'sail' | 'helmRelease' | 'helmValues' | 'argoApplication'

export interface IstioControlPlane {
  /** File that holds the Istio resource, HelmRelease, values or Application. */
  readonly file: string
  /** metadata.name of that object. */
  readonly name: string
  /** Folder whose kustomization takes the Component in; for Sail the folder of `file` by default. */
  readonly path: string
}

/** The settings of a declaration, or of a part of one, that is Istio's. */
export function istioOf(part: SystemPart): IstioSettings {
  if (part.system === 'istio') return part.istio
  throw new Error(`spec.istio was asked for in a rotation of ${part.system}`)
}

export const istioSettings: SettingsRules = {
  defaults: {},
  stem: 'mesh',
  issuing: true,
  subjects(rotation, part) {
    const organisation = organisationOf(istioOf(part).trustDomain)
    return {
      // The rotation's name keeps it apart from the one before.
      root: `CN=${rotation} root${organisation}`,
      // L tells the CAs of several sites apart, as Istio's own tools do; it may be longer than CN (RFC 5280 appendix A.1).
      issuing: `CN=${rotation} issuing,L={site}${organisation}`,
    }
  },
  checks: controlPlanes,
  paths: spec =>
    Object.entries(mapAt(spec, ['istio', 'controlPlane']) ?? {}).flatMap(([name, plane]) =>
      ['file', 'path'].flatMap(field => {
        const text = textAt(plane, [field])
        return text === null ? [] : [{ path: ['spec', 'istio', 'controlPlane', name, field], text }]
      }),
    ),
  fill(spec) {
    const { istio } = spec
    if (istio === undefined) throw new Error('a declaration without spec.istio passed the checks')
    const planes = Object.entries(istio.controlPlane).map(
      ([site, plane]) =>
        [
          site,
          {
            file: plane.file,
            name: plane.name,
            path: plane.path === undefined ? folderOf(plane.file) : plane.path === '.' ? '' : plane.path,
          },
        ] as const,
    )
    return {
      system: 'istio',
      istio: {
        install: istio.install,
        namespace: istio.namespace,
        trustDomain: istio.trustDomain,
        controlPlane: Object.fromEntries(planes),
        ambient: istio.ambient,
        leafHours: millisecondsOf(istio.leafTTL) / 3_600_000,
      },
    }
  },
  write(out, part) {
    const istio = istioOf(part)
    out.field('install', istio.install, 'sail | helmRelease | helmValues | argoApplication')
    out.field('namespace', istio.namespace)
    out.field('trustDomain', istio.trustDomain)
    out.field(
      'leafTTL',
      formatDuration(Math.round(istio.leafHours * 3_600_000), ['h', 'm', 's', 'ms']),
      'how long a leaf lives',
    )
    out.flag('ambient', istio.ambient, 'true where ztunnel or waypoints run')
    out.comment('Where each site declares its Istio.')
    const planes = Object.entries(istio.controlPlane)
    if (planes.length === 0) {
      out.raw('controlPlane: {}')
      return
    }
    out.map('controlPlane', () => {
      for (const [site, plane] of planes) {
        out.map(site, () => {
          out.field('file', plane.file)
          out.field('name', plane.name)
          if (plane.path !== folderOf(plane.file)) out.field('path', plane.path === '' ? '.' : plane.path)
        })
      }
    })
  },
}

function organisationOf(trustDomain: string): string {
  return trustDomain.length > 64 ? '' : `,O=${trustDomain}`
}

function controlPlanes(spec: Readonly<Record<string, unknown>>, names: readonly string[]): readonly Finding[] {
  if (!Object.hasOwn(spec, 'istio')) {
    return [
      {
        path: ['spec', 'istio'],
        what: 'is missing',
        expected: 'where each site declares its Istio',
        example: `istio: {install: sail, controlPlane: {${names[0] ?? 'eu-1'}: {file: clusters/${names[0] ?? 'eu-1'}/istio.yaml}}}`,
      },
    ]
  }
  const planes = mapAt(spec, ['istio', 'controlPlane'])
  if (planes === null) return []
  const findings = Object.keys(planes)
    .filter(name => !names.includes(name))
    .map(name => ({ ...unknownSite(['spec', 'istio', 'controlPlane', name], name, names), atKey: true }))
  const missing = names.filter(name => !Object.hasOwn(planes, name))
  if (missing.length === 0) return findings
  return [
    ...findings,
    {
      path: ['spec', 'istio', 'controlPlane'],
      what: `says nothing of ${missing.join(', ')}`,
      expected: 'an entry for every site',
      example: `${missing[0]}: {file: clusters/${missing[0]}/istio.yaml}`,
      atKey: true,
    },
  ]
}
