import { createPrivateKey } from 'node:crypto'
import { valuesFile, valuesName } from '../../../phases/linkerd/files.ts'
import type { LinkerdChart } from '../../../phases/linkerd/props.ts'
import { exitCodes, ReanchorError } from '../../errors.ts'
import { type ChartNames, valueAt } from '../../gitops/helm.ts'
import type { Plain } from '../../gitops/manifests.ts'
import { trustAnnotation } from '../../names.ts'
import { joinPem } from '../../pki/bundle.ts'
import { type HelmInstall, helmCarrier, presentValues, valuesBeside } from '../../render/helm-wiring.ts'
import type { FileTree, Site, WiringPoint } from '../../rotation.ts'
import type { SitePlanInputs } from '../system.ts'
import { type IssuerScheme, issuerValuesName, schemeKeys } from './issuer-secret.ts'
import type { LinkerdSettings } from './settings.ts'
import { chartRestarts, type VersionRules } from './version.ts'

/** Linkerd's chart: one up to 2.11; from 2.12 on the control plane has one of its own, beside linkerd-crds. */
export const controlPlaneCharts: ChartNames = new Set(['linkerd-control-plane', 'linkerd2'])

const certificateValue = ['identity', 'issuer', 'tls', 'crtPEM'] as const
const keyValue = ['identity', 'issuer', 'tls', 'keyPEM'] as const
const expiryValue = ['identity', 'issuer', 'crtExpiry'] as const

/** One site whose control plane a chart installs. */
export interface ChartSite {
  readonly install: HelmInstall
  readonly chart: LinkerdChart
  /** The chart makes no ConfigMap of anchors: the site's folder delivers it. */
  readonly externalCa: boolean
  /** `values`: the chart makes the issuer Secret of two values. `secret`: the site's folder delivers it. */
  readonly issuerFrom: 'values' | 'secret'
  /** One apply brings new anchors and restarts the control plane. */
  readonly restarts: boolean
}

/** What installs Linkerd at a site, and which of its values reanchor's steps set. Throws where these cannot be carried. */
export function chartSite(inputs: SitePlanInputs, linkerd: LinkerdSettings, rules: VersionRules): ChartSite {
  const { declaration, site, files, current } = inputs
  const bare = bareInstall(linkerd)
  const { kind, namespace, under } = helmCarrier(bare, site, files)
  const { values } = presentValues(bare, site, files)
  const scheme: IssuerScheme = current.settings.scheme === 'kubernetes.io/tls' ? 'kubernetes.io/tls' : 'linkerd.io/tls'
  refuseOtherScheme(values, scheme, linkerd, site)
  if (kind === 'application' && scheme === 'linkerd.io/tls') throw keyInApplication(linkerd, site)
  const externalCa = isExternalCa(values)
  if (externalCa) refuseSwitch(inputs, linkerd)
  const restarts = chartRestarts(rules, externalCa)
  refuseMixture(declaration.sites[0] ?? site, site, restarts, linkerd, files, rules)
  const issuerFrom = scheme === 'linkerd.io/tls' ? 'values' : 'secret'
  const anchors = externalCa ? null : { path: rules.anchorsValue, present: textOf(valueAt(values, rules.anchorsValue)) }
  const chart: LinkerdChart = {
    kind,
    namespace: namespace ?? linkerd.namespace,
    under,
    anchors,
    podAnnotations: rules.podAnnotationsValue,
    issuerExpiry: rules.issuerExpiry && issuerFrom === 'values',
  }
  return { install: installOf(linkerd, managedOf(chart, issuerFrom)), chart, externalCa, issuerFrom, restarts }
}

/** The installation by itself, as far as a look at it goes. */
export function bareInstall(linkerd: LinkerdSettings): HelmInstall {
  return installOf(linkerd, [])
}

function installOf(linkerd: LinkerdSettings, managed: readonly (readonly string[])[]): HelmInstall {
  if (linkerd.install === 'manifests') throw new Error('manifests are installed by no chart')
  const places = Object.entries(linkerd.controlPlane).map(
    ([site, { path, file, name }]) => [site, { path, file: file ?? '', name: name ?? '' }] as const,
  )
  const takesKey = managed.some(path => path.join() === keyValue.join())
  const keys = schemeKeys['linkerd.io/tls']
  return {
    title: 'linkerd-control-plane',
    charts: controlPlaneCharts,
    field: 'linkerd.controlPlane',
    how: linkerd.install,
    places: Object.fromEntries(places),
    sets: 'the anchors, the issuer and the restart of the control plane',
    managed,
    valuesName,
    valuesFile,
    ...(takesKey
      ? {
          secret: {
            name: issuerValuesName,
            values: [
              { key: keys.certificate, path: certificateValue },
              { key: keys.key, path: keyValue },
            ],
          },
        }
      : {}),
    same,
  }
}

function managedOf(chart: LinkerdChart, issuerFrom: ChartSite['issuerFrom']): readonly (readonly string[])[] {
  return [
    ...(chart.anchors === null ? [] : [chart.anchors.path]),
    ...(chart.podAnnotations === null ? [] : [[...chart.podAnnotations, trustAnnotation]]),
    ...(issuerFrom === 'values' ? [certificateValue, keyValue] : []),
    ...(chart.issuerExpiry ? [expiryValue] : []),
  ]
}

/** Milliseconds by which a written end of the issuer may be beside the certificate's: `date -d '+8760 hour'` is run after the certificate is made. */
const expirySlack = 2 * 24 * 60 * 60 * 1000

/** Whether the chart makes the same of two values. Of the anchors each byte counts: their hash restarts the control plane. */
function same(path: readonly string[], before: unknown, after: unknown): boolean {
  const [old, now] = [String(before), String(after)]
  switch (path.join('.')) {
    case certificateValue.join('.'):
      return old.replace(/\s/g, '') === now.replace(/\s/g, '')
    case keyValue.join('.'):
      return sameKey(old, now)
    case expiryValue.join('.'):
      return Math.abs(Date.parse(old) - Date.parse(now)) <= expirySlack
    default:
      return old === now
  }
}

function sameKey(before: string, after: string): boolean {
  // What custody sealed before cannot be read; the plan that sealed it has compared it.
  if (!after.includes('-----BEGIN')) return true
  try {
    const [one, other] = [before, after].map(pem => createPrivateKey(pem).export({ type: 'pkcs8', format: 'der' }))
    return one !== undefined && other !== undefined && one.equals(other)
  } catch {
    // The cause may hold key material, so it is not kept.
    return false
  }
}

/** What a HelmRelease will read from the Secret of the step adopt. */
export function adoptedSecret({ current }: Pick<SitePlanInputs, 'current'>): Readonly<Record<string, string>> {
  const between = current.chain.filter(({ sha256 }) => sha256 !== current.issuer.sha256)
  const keys = schemeKeys['linkerd.io/tls']
  return {
    [keys.certificate]: joinPem(...[current.issuer, ...between].map(({ pem }) => pem)),
    ...(current.key === null ? {} : { [keys.key]: current.key }),
  }
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null
}

function isExternalCa(values: Plain): boolean {
  return String(valueAt(values, ['identity', 'externalCA'])) === 'true'
}

// ----------------------------------------------------------------------------------------------------- refusals

/** The chart makes the Secret in one scheme and leaves it to others in the other: values and cluster must agree on which. */
function refuseOtherScheme(values: Plain, live: IssuerScheme, linkerd: LinkerdSettings, site: Site): void {
  const declared = textOf(valueAt(values, ['identity', 'issuer', 'scheme'])) ?? 'linkerd.io/tls'
  if (declared === live) return
  throw new ReanchorError({
    what: 'the values of the chart and the issuer Secret in use have different schemes',
    where: { file: linkerd.controlPlane[site.name]?.file ?? '', field: 'identity.issuer.scheme' },
    expected: live,
    found: declared,
    todo: 'let the change of scheme be rolled out first (the type of a Secret cannot change: it is deleted and made anew), or correct spec.linkerd.issuerScheme where the CA in use comes from files',
    exit: exitCodes.refused,
  })
}

function keyInApplication(linkerd: LinkerdSettings, site: Site): ReanchorError {
  return new ReanchorError({
    what: 'the chart makes the issuer Secret of values, and an Application can take values only from Git, where its private key would stand in the clear',
    where: { file: linkerd.controlPlane[site.name]?.file ?? '', field: 'identity.issuer.scheme' },
    expected: 'identity.issuer.scheme: kubernetes.io/tls, so that the site’s folder delivers the Secret, sealed',
    found: 'linkerd.io/tls',
    todo: 'make Secret linkerd-identity-issuer with tls.crt, tls.key and ca.crt of today’s issuer, set the scheme, take crtPEM and keyPEM out of the values, restart linkerd-identity, and plan again',
    exit: exitCodes.refused,
  })
}

/**
 * From `identity.externalCA: false` to true Helm takes the ConfigMap away that it has made, while every injector and identity read it, unless
 * the live object says that it stays.
 */
function refuseSwitch({ site, current }: SitePlanInputs, { namespace, controlPlane }: LinkerdSettings): void {
  if (current.extra?.trustRootsOwner !== 'helm') return
  throw new ReanchorError({
    what: 'the values say identity.externalCA, but the ConfigMap of anchors is still the release’s, which deletes it with its next upgrade',
    where: { file: controlPlane[site.name]?.file ?? '', object: `ConfigMap ${namespace}/linkerd-identity-trust-roots` },
    expected: 'annotation helm.sh/resource-policy: keep on the live object before the chart stops making it',
    found: 'meta.helm.sh/release-name, and no such annotation',
    todo: `run \`kubectl --namespace ${namespace} annotate configmap linkerd-identity-trust-roots helm.sh/resource-policy=keep\`, and plan again`,
    exit: exitCodes.refused,
  })
}

/** All sites of a rotation have the same steps, and a chart that restarts the control plane with the data has one less. */
function refuseMixture(
  first: Site,
  site: Site,
  restarts: boolean,
  linkerd: LinkerdSettings,
  files: FileTree,
  rules: VersionRules,
): void {
  if (first.name === site.name) return
  const { values } = presentValues(bareInstall(linkerd), first, files)
  if (chartRestarts(rules, isExternalCa(values)) === restarts) return
  throw new ReanchorError({
    what: `sites ${first.name} and ${site.name} differ in identity.externalCA, so their charts restart the control plane in different steps`,
    where: { file: linkerd.controlPlane[site.name]?.file ?? '', field: 'identity.externalCA' },
    expected: 'the same at every site of a rotation',
    todo: 'plan a rotation for each kind, one after the other: the first widens trust at its sites before the second issues',
    exit: exitCodes.refused,
  })
}

/** A private key that stays in Git in the clear whatever the site's folder delivers. Inline values have moved out by the wiring. */
export function refuseClearKey(
  { install, issuerFrom }: ChartSite,
  site: Site,
  files: FileTree,
  points: readonly WiringPoint[],
): void {
  const beside = valueAt(valuesBeside(install, site, files, points), keyValue)
  if (textOf(beside) === null) return
  throw new ReanchorError({
    what: 'a values file or ConfigMap of this repository holds the issuer’s private key in the clear',
    where: { file: install.places[site.name]?.file ?? '', field: keyValue.join('.') },
    expected:
      issuerFrom === 'values'
        ? 'no such value: the site’s folder delivers the key, sealed'
        : 'no such value: scheme kubernetes.io/tls takes none',
    found: '(a private key)',
    todo: 'take identity.issuer.tls.keyPEM out of the values in a change of its own; its history keeps it, which is one more reason to rotate',
    exit: exitCodes.refused,
  })
}
