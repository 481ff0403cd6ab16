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

/** Volumes through which identity and the injector get what they read. */
export const anchorsVolume = 'trust-roots'
export const configVolume = 'config'
export const issuerVolume = 'identity-issuer'

export function literalAnchors(flow: LinkerdFlow): boolean {
  return rulesOf(linkerdVersion(demoVersions[flow])).literalAnchors
}

export function flowOf(variant: string | null): LinkerdFlow {
  return variant === 'upgrade' || variant === 'config-map' ? variant : 'trust-roots'
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
