import type { LinkerdControlPlane, ProxyPlace } from '../../../phases/linkerd/props.ts'
import { exitCodes, ReanchorError } from '../../errors.ts'
import { at, isManifest, listAt, type ManifestObject, parsedFile, textAt } from '../../gitops/manifests.ts'
import type { FileTree } from '../../rotation.ts'
import { issuerSecretName } from './issuer-secret.ts'
import { globalAnchors } from './linkerd-config.ts'
import type { LinkerdFlow, VersionRules } from './version.ts'

/** Environment variable that a proxy reads its anchors from. */
export const anchorsVariable = 'LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS'

/** What the manifests under a folder say of the control plane, for a flow: where anchors stand, and what must restart. */
export function controlPlaneOf(
  files: FileTree,
  folder: string,
  namespace: string,
  flow: LinkerdFlow,
  rules: VersionRules,
): LinkerdControlPlane {
  const objects = objectsUnder(files, folder).filter(object => (object.metadata.namespace ?? namespace) === namespace)
  const map = (name: string) => objects.find(object => object.kind === 'ConfigMap' && object.metadata.name === name)
  const config = map('linkerd-config')
  const deployments = objects.flatMap(object => {
    const place = object.kind === 'Deployment' ? proxyPlace(object) : null
    return place === null ? [] : [place]
  })
  if (deployments.every(place => place.name !== 'linkerd-identity'))
    throw nothingThere(folder, 'Deployment linkerd-identity')
  const global = textAt(config, 'data', 'global')
  const values = textAt(config, 'data', 'values')
  const trustRoots = textAt(map('linkerd-identity-trust-roots'), 'data', 'ca-bundle.crt')
  if (flow !== 'trust-roots') {
    if (global === null) throw nothingThere(folder, 'ConfigMap linkerd-config with data.global')
    globalAnchors(global)
  }
  return {
    global: flow === 'trust-roots' ? null : global,
    values: flow === 'trust-roots' && values?.includes('identityTrustAnchorsPEM') === true ? values : null,
    trustRoots: flow === 'trust-roots' ? trustRoots : null,
    ownTrustRoots: flow === 'trust-roots' && trustRoots === null,
    deployments,
    literal: rules.literalAnchors,
    rootHash: rules.rootHash,
    chart: null,
  }
}

/** Workloads under a folder whose proxy was injected by hand: their anchors are a literal in Git, which no injector renews (trap 7). */
export function manualWorkloads(files: FileTree, folder: string): readonly ProxyPlace[] {
  return objectsUnder(files, folder).flatMap(object => {
    const place = proxyPlace(object)
    if (place === null) return []
    const proxy = listAt(object, 'spec', 'template', 'spec', place.list).find(
      each => textAt(each, 'name') === 'linkerd-proxy',
    )
    const literal = listAt(proxy, 'env').some(
      variable => textAt(variable, 'name') === anchorsVariable && textAt(variable, 'value') !== null,
    )
    return literal ? [place] : []
  })
}

/**
 * Refuses a repository that delivers the issuer Secret, or the anchors, by another way: two deliverers would write them in turns. cert-manager and
 * trust-manager are such deliverers too, and renew in the middle of a rotation (F16).
 */
export function refuseOtherOwners(
  files: FileTree,
  sites: readonly { readonly path: string }[],
  namespace: string,
): void {
  for (const file of files.keys()) {
    if (file.startsWith('rotations/') || sites.some(({ path }) => file.startsWith(`${path}/`))) continue
    const text = files.get(file) ?? ''
    if (!text.includes(issuerSecretName) && !text.includes('linkerd-identity-trust-roots')) continue
    for (const { value } of parsedFile(files, file)?.documents ?? []) {
      if (!isManifest(value)) continue
      const { kind, metadata } = value
      const here = (metadata.namespace ?? namespace) === namespace
      const issuer = secretOf(value) === issuerSecretName
      const bundle = kind === 'Bundle' && metadata.name === 'linkerd-identity-trust-roots'
      if (!(issuer && here) && !bundle) continue
      throw new ReanchorError({
        what: `${kind} ${metadata.name} is delivered from another file of this repository`,
        where: { file },
        expected: "the site's folder as the only place that delivers issuer and anchors",
        found:
          kind === 'Certificate' || kind === 'Bundle'
            ? `${kind}, which renews what this rotation is about in the middle of it`
            : kind,
        todo: 'keep the live object (prune: disabled, or for cert-manager a Secret without owner), take this one out of the repository, then plan again',
        exit: exitCodes.refused,
      })
    }
  }
}

/** Name of the Secret that an object is, or that its controller makes of it; null: it makes none. */
function secretOf(object: ManifestObject): string | null {
  const { name } = object.metadata
  switch (object.kind) {
    case 'Secret':
      return name
    case 'SealedSecret':
      return textAt(object, 'spec', 'template', 'metadata', 'name') ?? name
    case 'ExternalSecret':
      return textAt(object, 'spec', 'target', 'name') ?? name
    case 'Certificate':
      return textAt(object, 'spec', 'secretName') ?? name
    default:
      return null
  }
}

function nothingThere(folder: string, expected: string): ReanchorError {
  return new ReanchorError({
    what: 'the control plane is not declared in this folder',
    where: { file: folder, field: 'spec.linkerd.controlPlane' },
    expected,
    todo: 'name the folder that holds what `linkerd install` has written',
  })
}

function proxyPlace(object: ManifestObject): ProxyPlace | null {
  if (!/^(Deployment|StatefulSet|DaemonSet)$/.test(object.kind)) return null
  for (const list of ['containers', 'initContainers'] as const) {
    const found = listAt(object, 'spec', 'template', 'spec', list).some(each => at(each, 'name') === 'linkerd-proxy')
    if (!found) continue
    return { kind: object.kind, name: object.metadata.name, namespace: object.metadata.namespace ?? null, list }
  }
  return null
}

function objectsUnder(files: FileTree, folder: string): readonly ManifestObject[] {
  const prefix = folder === '' || folder === '.' ? '' : `${folder}/`
  const found: ManifestObject[] = []
  for (const file of [...files.keys()].sort()) {
    if (!file.startsWith(prefix) || !/\.ya?ml$/.test(file)) continue
    for (const { value } of parsedFile(files, file)?.documents ?? []) if (isManifest(value)) found.push(value)
  }
  return found
}
