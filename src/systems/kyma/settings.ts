import { type Finding, listAt, mapAt, textAt, unknownSite, valueAt } from '../../declaration/raw.ts'
import type { ClusterChoice, SystemPart } from '../../rotation.ts'
import type { SettingsRules } from '../system.ts'
import type { Compromised } from './next-ca.ts'
import { type KymaProfile, kymaProfiles, type ProfileName, unseenSecret } from './profile.ts'
import { type ConnectionKind, compassName } from './runtime.ts'

/** A runtime whose renewal is looked at in its own cluster. */
export interface KymaRuntime {
  readonly name: string
  /** Site whose connector signs for it; null: the only one. */
  readonly site: string | null
  readonly cluster: ClusterChoice
  readonly kind: ConnectionKind
  /** metadata.name of its CentralConnection or CompassConnection. */
  readonly connection: string
}

/** What `spec.kyma` says. */
export interface KymaSettings extends KymaProfile {
  /** The release's names, which the single ones above come from unless they are given. */
  readonly profile: ProfileName
  readonly runtimes: readonly KymaRuntime[]
  /** Whether applications hold client certificates: no resource lists them, so a person vouches for them. */
  readonly applications: boolean
  /** What an emergency is about; null: the strategy is another. */
  readonly compromised: Compromised | null
  /** Days that a client certificate lives, whatever signs it (connector-service, 92 by default). */
  readonly leafDays: number
}

/** Name under gates.attest that stands for all applications. */
export const applicationsAttested = 'applications'

export function kymaOf(part: SystemPart): KymaSettings {
  if (part.system === 'kyma') return part.kyma
  throw new Error(`spec.kyma was asked for in a rotation of ${part.system}`)
}

/** Runtimes that a site's connector signs for. */
export function runtimesOf(settings: KymaSettings, site: string): readonly KymaRuntime[] {
  return settings.runtimes.filter(runtime => runtime.site === null || runtime.site === site)
}

export const kymaSettings: SettingsRules = {
  defaults: { hold: '2m', algorithm: 'rsa-4096', validity: '730d' },
  stem: 'kyma',
  issuing: false,
  // The rotation's name keeps it apart from the CA before: two CAs of one Subject and two keys are told apart by no gateway (F8).
  subjects: rotation => ({ root: `CN=Kyma ${rotation}`, issuing: `CN=Kyma ${rotation}` }),
  checks,
  paths: spec =>
    listAt(spec, ['kyma', 'runtimes']).flatMap((runtime, index) => {
      const text = textAt(runtime, ['kubeconfig'])
      return text === null ? [] : [{ path: ['spec', 'kyma', 'runtimes', index, 'kubeconfig'], text }]
    }),
  fill(spec) {
    const { kyma } = spec
    if (kyma === undefined) throw new Error('a declaration without spec.kyma passed the checks')
    const base: KymaProfile = kymaProfiles[kyma.profile]
    const { signer, gateway } = kyma
    return {
      system: 'kyma',
      kyma: {
        profile: kyma.profile,
        signer: {
          namespace: signer?.namespace ?? base.signer.namespace,
          secret: signer?.secret ?? base.signer.secret,
          certificateKey: signer?.certificateKey ?? base.signer.certificateKey,
          privateKey: signer?.privateKey ?? base.signer.privateKey,
        },
        gateway: {
          namespace: gateway?.namespace ?? base.gateway.namespace,
          secret: gateway?.secret ?? base.gateway.secret,
          key: gateway?.key ?? base.gateway.key,
          form: gateway?.form ?? base.gateway.form,
          credential: gateway?.form === 'mount' ? null : (gateway?.credentialName ?? base.gateway.credential),
          deployment: gateway?.deployment ?? base.gateway.deployment,
        },
        runtimes: (kyma.runtimes ?? []).map(runtime => ({
          name: runtime.name,
          site: runtime.site ?? null,
          cluster:
            runtime.kubeconfig === undefined
              ? { kind: 'context', context: runtime.context ?? runtime.name }
              : { kind: 'kubeconfig', file: runtime.kubeconfig, context: runtime.context ?? null },
          kind: runtime.kind,
          connection: runtime.connection ?? compassName,
        })),
        applications: kyma.applications === 'attested',
        compromised: kyma.compromised ?? null,
        leafDays: kyma.leafDays,
      },
    }
  },
  write(out, part) {
    const settings = kymaOf(part)
    const base: KymaProfile = kymaProfiles[settings.profile]
    out.field('profile', settings.profile, 'names of Secrets and keys differ by release')
    writeChanged(out, 'signer', settings.signer, base.signer)
    const { credential, ...gateway } = settings.gateway
    const { credential: usual, ...usualGateway } = base.gateway
    const named = (of: Readonly<Record<string, string>>, name: string | null) => ({
      ...of,
      ...(name === null ? {} : { credentialName: name }),
    })
    writeChanged(out, 'gateway', named(gateway, credential), named(usualGateway, usual))
    if (settings.compromised !== null)
      out.field('compromised', settings.compromised, 'certificate: same key | key: a new one, and everybody is refused')
    out.field(
      'applications',
      settings.applications ? 'attested' : 'none',
      'attested: a person vouches that all have renewed | none: only runtimes hold certificates',
    )
    out.number('leafDays', settings.leafDays)
    if (settings.runtimes.length === 0) return
    out.comment('Every runtime that holds a client certificate, and how its own cluster is read.')
    out.list('runtimes', settings.runtimes, runtime => {
      out.field('name', runtime.name)
      if (runtime.site !== null) out.field('site', runtime.site)
      out.field('kind', runtime.kind, 'central: CentralConnection | compass: CompassConnection')
      if (runtime.kind === 'central' || runtime.connection !== compassName) out.field('connection', runtime.connection)
      if (runtime.cluster.kind === 'kubeconfig') out.field('kubeconfig', runtime.cluster.file)
      if (runtime.cluster.kind === 'context' || runtime.cluster.kind === 'kubeconfig') {
        if (runtime.cluster.context !== null) out.field('context', runtime.cluster.context)
      }
    })
  },
}

function writeChanged(
  out: Parameters<SettingsRules['write']>[0],
  name: string,
  present: Readonly<Record<string, string>>,
  usual: Readonly<Record<string, string>>,
): void {
  const changed = Object.entries(present).filter(([key, value]) => usual[key] !== value)
  if (changed.length === 0) return
  out.map(name, () => {
    for (const [key, value] of changed) out.field(key, value)
  })
}

function checks(spec: Readonly<Record<string, unknown>>, siteNames: readonly string[]): readonly Finding[] {
  const kyma = mapAt(spec, ['kyma'])
  if (kyma === null)
    return [
      {
        path: ['spec', 'kyma'],
        what: 'is missing',
        expected: 'which release’s Secrets hold the CA, and the runtimes that hold its certificates',
        example: 'kyma: {profile: runbook, runtimes: [{name: shop, kind: central, connection: shop}]}',
      },
    ]
  return [
    ...emergencyFindings(spec),
    ...gatewayFindings(kyma),
    ...holderFindings(kyma),
    ...runtimeFindings(kyma, siteNames),
  ]
}

function emergencyFindings(spec: Readonly<Record<string, unknown>>): readonly Finding[] {
  const compromised = valueAt(spec, ['kyma', 'compromised'])
  if (spec.strategy === 'emergency' && compromised === undefined)
    return [
      {
        path: ['spec', 'kyma', 'compromised'],
        what: 'is missing',
        expected: 'certificate or key: a new certificate for the same key refuses nobody, a new key refuses everybody',
        example: 'compromised: key',
      },
    ]
  if (spec.strategy !== 'emergency' && compromised !== undefined)
    return [
      {
        path: ['spec', 'kyma', 'compromised'],
        what: 'stands beside a strategy without an outage',
        expected: 'strategy: emergency, or no such field',
      },
    ]
  return []
}

function gatewayFindings(kyma: Readonly<Record<string, unknown>>): readonly Finding[] {
  const name = textAt(kyma, ['profile']) ?? 'runbook'
  if (!Object.hasOwn(kymaProfiles, name)) return []
  const base: KymaProfile = kymaProfiles[name as ProfileName]
  const form = textAt(kyma, ['gateway', 'form']) ?? base.gateway.form
  const unseen = unseenSecret({
    ...base,
    gateway: {
      ...base.gateway,
      form: form === 'mount' ? 'mount' : 'sds',
      secret: textAt(kyma, ['gateway', 'secret']) ?? base.gateway.secret,
      key: textAt(kyma, ['gateway', 'key']) ?? base.gateway.key,
      credential: textAt(kyma, ['gateway', 'credentialName']) ?? base.gateway.credential,
    },
  })
  if (unseen === null) return []
  return [
    {
      path: ['spec', 'kyma', mapAt(kyma, ['gateway']) === null ? 'profile' : 'gateway'],
      what: `names a Secret that the gateway never reads: ${unseen}`,
      expected: 'the Secret, key and form of the Gateway kyma-gateway-application-connector',
      example:
        'gateway: {form: sds, credentialName: kyma-gateway-certs, secret: kyma-gateway-certs-cacert, key: cacert}',
    },
  ]
}

/** The old CA goes once every holder of its certificates has renewed: with none declared it would go at once (F20). */
function holderFindings(kyma: Readonly<Record<string, unknown>>): readonly Finding[] {
  if (textAt(kyma, ['applications']) !== 'none' || listAt(kyma, ['runtimes']).length > 0) return []
  return [
    {
      path: ['spec', 'kyma', 'runtimes'],
      what: 'names nobody who holds a certificate of this CA, and spec.kyma.applications says that no application does',
      expected: 'every runtime that holds one: the old CA goes only after all of them have renewed',
      example: 'runtimes: [{name: shop, kind: central, connection: shop}]',
    },
  ]
}

function runtimeFindings(kyma: Readonly<Record<string, unknown>>, siteNames: readonly string[]): readonly Finding[] {
  const names = new Set<string>(siteNames)
  return listAt(kyma, ['runtimes']).flatMap((runtime, index): readonly Finding[] => {
    const path = ['spec', 'kyma', 'runtimes', index] as const
    const findings: Finding[] = []
    const site = textAt(runtime, ['site'])
    if (site !== null && !siteNames.includes(site)) findings.push(unknownSite([...path, 'site'], site, siteNames))
    if (site === null && siteNames.length > 1)
      findings.push({
        path: [...path, 'site'],
        what: 'is missing where there are several sites',
        expected: `the site whose connector signs for it: ${siteNames.join(', ')}`,
      })
    if (textAt(runtime, ['kind']) !== 'compass' && textAt(runtime, ['connection']) === null)
      findings.push({
        path: [...path, 'connection'],
        what: 'is missing',
        expected: 'metadata.name of the CentralConnection in that cluster',
        example: 'connection: shop',
      })
    const name = textAt(runtime, ['name'])
    if (name !== null && names.has(name))
      findings.push({
        path: [...path, 'name'],
        what: 'is a name that another cluster of this rotation has',
        expected: 'a name of its own among sites and runtimes',
      })
    if (name !== null) names.add(name)
    return findings
  })
}
