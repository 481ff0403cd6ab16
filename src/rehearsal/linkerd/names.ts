import { type LinkerdFlow, linkerdVersion, rulesOf } from '../../systems/linkerd/version.ts'
import { listAt, type StoredObject, textAt } from '../objects.ts'

/** Where and how the demo's Linkerd is installed, by flow. */
export const controlPlaneNamespace = 'linkerd'
export const trustDomain = 'cluster.local'

export const demoVersions: Readonly<Record<LinkerdFlow, string>> = {
  'trust-roots': 'stable-2.14.10',
  upgrade: 'stable-2.7.1',
  'config-map': 'stable-2.7.1',
}

/** Hours that a leaf lives in the demo: identity's own setting, an hour in place of a day, so that leaves drain while one looks on. */
export const demoLeafHours = 1
const lifetimeFlag = '-identity-issuance-lifetime='

/** What identity's container was told, by its flag; a day unless said otherwise. */
export function leafHoursOf(pod: StoredObject): number {
  const identity = listAt(pod, 'spec', 'containers').find(container => textAt(container, 'name') === 'identity')
  const flag = listAt(identity, 'args').find(
    (each): each is string => typeof each === 'string' && each.startsWith(lifetimeFlag),
  )
  const [, hours] = /^(\d+)h/.exec(flag?.slice(lifetimeFlag.length) ?? '') ?? []
  return hours === undefined ? 24 : Number(hours)
}

/** The flag as the chart writes it. */
export const lifetimeArgument = `${lifetimeFlag}${demoLeafHours}h0m0s`

/** Volumes through which identity and the injector get what they read. */
export const anchorsVolume = 'trust-roots'
export const configVolume = 'config'
export const issuerVolume = 'identity-issuer'

export function literalAnchors(flow: LinkerdFlow): boolean {
  return rulesOf(linkerdVersion(demoVersions[flow])).literalAnchors
}

/** Behind a flow's name: Argo CD delivers, and Sealed Secrets seals. For tests, as the demo's flag takes flows alone. */
const argo = '+argocd'

/** A HelmRelease installs Linkerd. */
const helm = '+helm'
/** Secret that the demo's HelmRelease takes the first issuer from. */
export const vaultSecret = 'issuer-from-vault'

export function isByHelm(variant: string | null): boolean {
  return variant?.endsWith(helm) === true
}

export function isByArgo(variant: string | null): boolean {
  return variant?.endsWith(argo) === true
}

export function variantFor(flow: LinkerdFlow, byArgoCd: boolean, byHelm: boolean): string {
  return byHelm ? `${flow}${helm}` : byArgoCd ? `${flow}${argo}` : flow
}

export function flowOf(variant: string | null): LinkerdFlow {
  const [flow] = variant?.split('+') ?? []
  return flow === 'upgrade' || flow === 'config-map' ? flow : 'trust-roots'
}

/** Name of a proxy in its certificate (linkerd2 pkg/k8s PodIdentity). */
export function proxyName(pod: StoredObject): string {
  const account = textAt(pod, 'spec', 'serviceAccountName') ?? 'default'
  return `${account}.${pod.metadata.namespace}.serviceaccount.identity.${controlPlaneNamespace}.${trustDomain}`
}

export function proxyContainer(pod: unknown): Record<string, unknown> | null {
  const containers = [...listAt(pod, 'spec', 'containers'), ...listAt(pod, 'spec', 'initContainers')]
  const found = containers.find(container => textAt(container, 'name') === 'linkerd-proxy')
  return (found as Record<string, unknown> | undefined) ?? null
}
