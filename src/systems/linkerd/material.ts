import type { Cluster, KubernetesObject } from '../../cluster/cluster.ts'
import { resources } from '../../cluster/resources.ts'
import { exitCodes, ReanchorError } from '../../errors.ts'
import { readBundle } from '../../pki/bundle.ts'
import { type Certificate, readCertificate } from '../../pki/certificate.ts'
import { readPrivateKey } from '../../pki/keys.ts'
import type { CurrentCa } from '../../plan/ca.ts'
import type { CurrentSource } from '../../rotation.ts'
import { at, text } from '../../verify/values.ts'
import { readAsGo } from './go-pem.ts'
import { issuerKeyPem, issuerSecretName, readIssuer } from './issuer-secret.ts'
import { globalAnchors } from './linkerd-config.ts'
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
  refuseController(secret, `Secret ${namespace}/${issuerSecretName}`)
  const read = readIssuer(secretData(secret), namespace)
  const anchors = await liveAnchors(cluster, linkerd)
  refuseOtherCopy(read.anchors, anchors, namespace)
  return {
    issuer: read.issuer,
    chain: [read.issuer, ...read.chain],
    roots: anchorCertificates(anchors, namespace),
    key: read.key,
    source: 'plugged',
    settings: { scheme: read.scheme, secretType: text(secret.type) ?? 'Opaque', version: linkerd.version },
    restarts: {},
  }
}

async function liveAnchors(cluster: Cluster, { namespace, flow }: LinkerdSettings): Promise<string> {
  const [name, key] = flow === 'trust-roots' ? [trustRootsName, 'ca-bundle.crt'] : ['linkerd-config', 'global']
  const object = `ConfigMap ${namespace}/${name}`
  const map = await cluster.get(resources.configMaps, namespace, name)
  if (map !== null) refuseController(map, object)
  const value = text(at(map?.data, key))
  if (value === null) {
    throw new ReanchorError({
      what: 'the trust anchors are not where this flow keeps them',
      where: { object, field: `data["${key}"]` },
      expected: flow === 'trust-roots' ? '2.11 or later' : '2.7 or 2.8',
      todo: 'check spec.linkerd.flow against the installed version',
    })
  }
  return flow === 'trust-roots' ? value : globalAnchors(value)
}

/**
 * Refuses what a controller owns: it renews in the middle of a rotation, in place and by its own clock (F16, cert-manager#5558), and a root that
 * no plan knows would appear, or an issuer of a root that nobody trusts yet.
 */
function refuseController({ metadata }: KubernetesObject, object: string): void {
  const annotations = metadata.annotations ?? {}
  const certificate = annotations['cert-manager.io/certificate-name']
  const bundle = annotations['trust.cert-manager.io/hash'] ?? metadata.labels?.['trust.cert-manager.io/bundle']
  if (certificate === undefined && bundle === undefined) return
  throw new ReanchorError({
    what: certificate === undefined ? 'trust-manager writes these anchors' : 'cert-manager renews this issuer',
    where: { object },
    expected: 'an object that only Git delivers for the time of the rotation',
    found: certificate === undefined ? 'trust.cert-manager.io' : `Certificate ${certificate}`,
    todo: 'pin it first: delete the Certificate or Bundle with its object kept (`kubectl delete --cascade=orphan`, or prune disabled), take the annotation away, and plan again',
    exit: exitCodes.refused,
  })
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

/** The same from PEM files. The Secret's form is then the chart's own. */
export function caFromFiles(
  source: Extract<CurrentSource, { from: 'files' }>,
  read: (path: string) => string,
  version: string,
): CurrentCa {
  const issuer = readCertificate(read(source.certificate), { file: source.certificate })
  const bundle = (path: string) => readBundle(read(path), { file: path, allowRepeats: false }).certificates
  const key = source.key === null ? null : issuerKeyPem(readPrivateKey(read(source.key), { file: source.key }))
  return {
    issuer,
    chain: source.chain === null ? [issuer] : bundle(source.chain),
    roots: source.roots === null ? [issuer] : bundle(source.roots),
    key,
    source: 'plugged',
    settings: { scheme: 'linkerd.io/tls', secretType: 'Opaque', version },
    restarts: {},
  }
}
