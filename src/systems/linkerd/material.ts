import type { Cluster, KubernetesObject } from '../../cluster/cluster.ts'
import { resources } from '../../cluster/resources.ts'
import { exitCodes, ReanchorError } from '../../errors.ts'
import { valuesAnnotation } from '../../names.ts'
import { readBundle } from '../../pki/bundle.ts'
import { type Certificate, readCertificate } from '../../pki/certificate.ts'
import { readPrivateKey } from '../../pki/keys.ts'
import type { CurrentCa } from '../../plan/ca.ts'
import type { CurrentSource } from '../../rotation.ts'
import { dataOwnership } from '../../verify/objects.ts'
import { at, text } from '../../verify/values.ts'
import { readAsGo } from './go-pem.ts'
import { type IssuerScheme, issuerKeyPem, issuerSecretName, readIssuer } from './issuer-secret.ts'
import { anchorsKey, configAnchors } from './linkerd-config.ts'
import type { LinkerdSettings } from './settings.ts'

export const trustRootsName = 'linkerd-identity-trust-roots'

/** Today's issuer with its key from Secret linkerd-identity-issuer, and the anchors from where the flow keeps them. */
export async function liveCa(cluster: Cluster, linkerd: LinkerdSettings): Promise<CurrentCa> {
  const { namespace } = linkerd
  const secret = await cluster.get(resources.secrets, namespace, issuerSecretName)
  if (secret === null) {
    throw new ReanchorError({
      what: 'no issuer of Linkerd in the cluster',
      where: { object: `Secret ${namespace}/${issuerSecretName}` },
      expected: 'a Secret with crt.pem and key.pem, or with ca.crt, tls.crt and tls.key',
      todo: 'check spec.linkerd.namespace and the cluster of this site',
    })
  }
  refuseController(secret, { kind: 'Secret', name: issuerSecretName, namespace })
  const read = readIssuer(secretData(secret), namespace)
  refuseOtherScheme(read.scheme, linkerd)
  const { anchors, helmOwns } = await liveAnchors(cluster, linkerd)
  refuseOtherCopy(read.anchors, anchors, namespace)
  return {
    issuer: read.issuer,
    chain: [read.issuer, ...read.chain],
    roots: anchorCertificates(anchors, namespace),
    key: read.key,
    source: 'plugged',
    settings: { scheme: read.scheme, secretType: text(secret.type) ?? 'Opaque', version: linkerd.version },
    restarts: {},
    ...(helmOwns ? { extra: { trustRootsOwner: 'helm' } } : {}),
  }
}

interface LiveAnchors {
  readonly anchors: string
  /** A Helm release made the ConfigMap, and takes it away once its chart makes it no more. */
  readonly helmOwns: boolean
}

async function liveAnchors(cluster: Cluster, { namespace, flow, trustManager }: LinkerdSettings): Promise<LiveAnchors> {
  const name = flow === 'trust-roots' ? trustRootsName : 'linkerd-config'
  const object = `ConfigMap ${namespace}/${name}`
  const map = await cluster.get(resources.configMaps, namespace, name)
  const byBundle = trustManager === true && map !== null && renewerOf(map)?.who === renewingKinds.Bundle
  if (map !== null && !byBundle) refuseController(map, { kind: 'ConfigMap', name, namespace })
  const key = flow === 'trust-roots' ? 'ca-bundle.crt' : anchorsKey(map?.data)
  const value = text(at(map?.data, key))
  if (value === null) {
    throw new ReanchorError({
      what: 'the trust anchors are not where this flow keeps them',
      where: { object, field: `data["${key}"]` },
      expected: flow === 'trust-roots' ? '2.11 or later' : '2.7 to 2.10',
      todo: 'check spec.linkerd.flow against the installed version',
    })
  }
  const { annotations = {} } = map?.metadata ?? {}
  const helmOwns =
    annotations['meta.helm.sh/release-name'] !== undefined && annotations['helm.sh/resource-policy'] !== 'keep'
  return { anchors: flow === 'trust-roots' ? value : configAnchors(map?.data), helmOwns }
}

/** Where the declaration says which form the Secret has, a request or files were made for that form. */
function refuseOtherScheme(live: IssuerScheme, { issuerScheme, namespace }: LinkerdSettings): void {
  if (issuerScheme === null || issuerScheme === live) return
  throw new ReanchorError({
    what: 'the issuer Secret has another form than the declaration says',
    where: { object: `Secret ${namespace}/${issuerSecretName}`, field: 'spec.linkerd.issuerScheme' },
    expected: issuerScheme,
    found: live,
    todo: 'correct spec.linkerd.issuerScheme, or leave it out where the cluster is read',
  })
}

/** Field managers of controllers that write certificates by their own clock: the prefix of each name. */
const renewers: readonly (readonly [prefix: string, name: string])[] = [
  ['cert-manager', 'cert-manager'],
  ['trust-manager', 'trust-manager'],
  ['external-secrets', 'External Secrets'],
  ['externalsecrets.external-secrets.io/', 'External Secrets'],
]
const renewingKinds: Readonly<Record<string, string>> = {
  Certificate: 'cert-manager',
  Bundle: 'trust-manager',
  ExternalSecret: 'External Secrets',
}

/**
 * Refuses what a controller owns: it renews in the middle of a rotation, in place and by its own clock (F16, cert-manager#5558), and a root that
 * no plan knows would appear, or an issuer of a root that nobody trusts yet. A field manager counts as well: its keys outlive the next apply.
 */
function refuseController(live: KubernetesObject, { kind, name, namespace }: LiveName): void {
  const found = renewerOf(live)
  // An ExternalSecret of a site's folder is Git's own: its versions are pinned.
  const ours = live.metadata.annotations?.[valuesAnnotation] !== undefined
  if (found === null || (ours && found.who === renewingKinds.ExternalSecret)) return
  const resource = `--namespace ${namespace} ${kind.toLowerCase()} ${name}`
  const annotations = Object.keys(live.metadata.annotations ?? {}).filter(isRenewing)
  const labels = Object.keys(live.metadata.labels ?? {}).filter(isRenewing)
  const steps = [
    `take ${found.by} out of Git with its object kept (\`kubectl delete --cascade=orphan\`, or pruning disabled)`,
    ...(annotations.length > 0
      ? [`\`kubectl annotate ${resource} ${annotations.map(key => `${key}-`).join(' ')}\``]
      : []),
    ...(labels.length > 0 ? [`\`kubectl label ${resource} ${labels.map(key => `${key}-`).join(' ')}\``] : []),
    `\`kubectl patch ${resource} --type=merge --patch '{"metadata":{"managedFields":[{}],"ownerReferences":null}}'\``,
  ]
  throw new ReanchorError({
    what: `${found.who} ${kind === 'Secret' ? 'renews this issuer' : 'writes these anchors'}`,
    where: { object: `${kind} ${namespace}/${name}` },
    expected: 'an object that only Git delivers for the time of the rotation',
    found: found.by,
    todo: `pin it first, as it is: ${steps.join('; then ')}; then plan again. Afterwards give it the new CA to go on with`,
    exit: exitCodes.refused,
  })
}

interface LiveName {
  readonly kind: 'Secret' | 'ConfigMap'
  readonly name: string
  readonly namespace: string
}

function isRenewing(key: string): boolean {
  return /^([a-z]+\.)*cert-manager\.io\/|^reconcile\.external-secrets\.io\//.test(key)
}

/** Who writes the object besides Git, and by which object or mark that was told. */
function renewerOf({ metadata }: KubernetesObject): { readonly who: string; readonly by: string } | null {
  const certificate = metadata.annotations?.['cert-manager.io/certificate-name']
  if (certificate !== undefined) return { who: 'cert-manager', by: `Certificate ${certificate}` }
  const bundle = metadata.labels?.['trust.cert-manager.io/bundle']
  if (bundle !== undefined) return { who: 'trust-manager', by: `Bundle ${bundle}` }
  if (metadata.annotations?.['trust.cert-manager.io/hash'] !== undefined)
    return { who: 'trust-manager', by: `Bundle ${metadata.name}` }
  for (const { kind, name } of metadata.ownerReferences ?? []) {
    const who = renewingKinds[kind]
    if (who !== undefined) return { who, by: `${kind} ${name}` }
  }
  const managers = Object.values(dataOwnership({ metadata }).managers).flat()
  for (const [prefix, who] of renewers) {
    const manager = managers.find(each => each.startsWith(prefix))
    if (manager !== undefined) return { who, by: `field manager ${manager}` }
  }
  return null
}

/** Up to 2.8 `linkerd check` compares the two as texts, and from then on reads ca.crt alone: they must be the same anchors. */
function refuseOtherCopy(copy: string | null, anchors: string, namespace: string): void {
  if (copy === null) return
  const [one, other] = [readAsGo(copy), readAsGo(anchors)]
  if (one.ok && other.ok && sameSet(one.anchors, other.anchors)) return
  throw new ReanchorError({
    what: `IdentityContext.TrustAnchorsPem does not match ca.crt in ${issuerSecretName}`,
    where: { object: `Secret ${namespace}/${issuerSecretName}`, field: 'data["ca.crt"]' },
    expected: 'the anchors that proxies trust',
    todo: 'put the same anchors into both before the rotation begins',
  })
}

function sameSet(one: readonly string[], other: readonly string[]): boolean {
  return [...new Set(one)].sort().join() === [...new Set(other)].sort().join()
}

function anchorCertificates(anchors: string, namespace: string): readonly Certificate[] {
  const object = `anchors of ${namespace}`
  const read = readAsGo(anchors)
  if (read.ok) return readBundle(anchors, { object }).certificates
  throw new ReanchorError({
    what: `Linkerd itself could not start with these anchors: ${read.reason}`,
    where: { object },
    expected: 'CERTIFICATE blocks alone, with nothing behind the last one but one newline',
    todo: 'rewrite them and restart the control plane, then plan again',
    exit: exitCodes.refused,
  })
}

function secretData(secret: KubernetesObject): Record<string, string> {
  const data = (secret.data ?? {}) as Record<string, string | null>
  return Object.fromEntries(
    Object.entries(data).map(([key, value]) => [key, Buffer.from(value ?? '', 'base64').toString()]),
  )
}

/** The same from PEM files. The Secret's form is then the declared one, else the chart's own. */
export function caFromFiles(
  source: Extract<CurrentSource, { from: 'files' }>,
  read: (path: string) => string,
  { version, issuerScheme }: Pick<LinkerdSettings, 'version' | 'issuerScheme'>,
): CurrentCa {
  const scheme = issuerScheme ?? 'linkerd.io/tls'
  const issuer = readCertificate(read(source.certificate), { file: source.certificate })
  const bundle = (path: string) => readBundle(read(path), { file: path, allowRepeats: false }).certificates
  const key = source.key === null ? null : issuerKeyPem(readPrivateKey(read(source.key), { file: source.key }))
  return {
    issuer,
    chain: source.chain === null ? [issuer] : bundle(source.chain),
    roots: source.roots === null ? [issuer] : bundle(source.roots),
    key,
    source: 'plugged',
    settings: { scheme, secretType: scheme === 'linkerd.io/tls' ? 'Opaque' : scheme, version },
    restarts: {},
  }
}
