import { createPrivateKey } from 'node:crypto'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Cluster, KubernetesObject, ResourceType } from '../../../src/cluster/cluster.ts'
import { readDeclaration } from '../../../src/declaration/read.ts'
import type { ReanchorError } from '../../../src/errors.ts'
import { createIssuing, createRoot, serialFrom, systemKeys } from '../../../src/pki/authority.ts'
import type { Strategy } from '../../../src/rotation.ts'
import { acceptLinkerd } from '../../../src/systems/linkerd/accept.ts'
import { anchorText } from '../../../src/systems/linkerd/go-pem.ts'
import { healthOf } from '../../../src/systems/linkerd/health.ts'
import { issuerKeyPem } from '../../../src/systems/linkerd/issuer-secret.ts'
import { caFromFiles, liveCa } from '../../../src/systems/linkerd/material.ts'
import { createLinkerdIssuer, type LinkerdIssuer } from '../../../src/systems/linkerd/next-ca.ts'
import type { LinkerdSettings } from '../../../src/systems/linkerd/settings.ts'
import { linkerdWords } from '../../../src/systems/linkerd/words.ts'
import { refusal } from './chart.ts'
import { globalJson, linkerdCa, means, names, now, selfMadeCa } from './material.ts'

let ca: LinkerdIssuer
let other: LinkerdIssuer

beforeAll(async () => {
  ;[ca, other] = await Promise.all([linkerdCa('CN=mesh'), linkerdCa('CN=other')])
})

const settings: LinkerdSettings = {
  flow: 'trust-roots',
  version: 'stable-2.14.10',
  namespace: 'linkerd',
  trustDomain: 'cluster.local',
  install: 'manifests',
  controlPlane: {},
  issuerScheme: null,
  leafHours: 24,
  leaves: 'renewal',
}
const legacy: LinkerdSettings = { ...settings, flow: 'upgrade', version: 'stable-2.7.1' }

/** A cluster that holds these objects by `plural/name`, and no other. */
function cluster(objects: Readonly<Record<string, KubernetesObject>>): Cluster {
  const get = async (type: ResourceType, _namespace: string | null, name: string) =>
    objects[`${type.plural}/${name}`] ?? null
  return { get } as unknown as Cluster
}

function secret(
  data: Readonly<Record<string, string>>,
  metadata: Partial<KubernetesObject['metadata']> = {},
): KubernetesObject {
  const encoded = Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString('base64')] as const)
  const type = data['tls.crt'] === undefined ? 'Opaque' : 'kubernetes.io/tls'
  return { metadata: { name: 'linkerd-identity-issuer', ...metadata }, type, data: Object.fromEntries(encoded) }
}

function map(
  name: string,
  data: Readonly<Record<string, string>>,
  metadata: Partial<KubernetesObject['metadata']> = {},
): KubernetesObject {
  return { metadata: { name, ...metadata }, data }
}

function objects(issuer: KubernetesObject, anchors: KubernetesObject): Record<string, KubernetesObject> {
  return { 'secrets/linkerd-identity-issuer': issuer, [`configmaps/${anchors.metadata.name}`]: anchors }
}

const rootsMap = 'linkerd-identity-trust-roots'
const own = () => secret({ 'crt.pem': ca.issuer.pem, 'key.pem': ca.key })
const roots = (text = ca.root.pem) => map(rootsMap, { 'ca-bundle.crt': text })

describe('today’s CA', () => {
  it('is read in both forms of the Secret: crt.pem and key.pem, or tls.crt, tls.key and ca.crt (trap 8)', async () => {
    const read = await liveCa(cluster(objects(own(), roots())), settings)
    expect([read.issuer.sha256, read.roots.map(each => each.sha256), read.key]).toEqual([
      ca.issuer.sha256,
      [ca.root.sha256],
      ca.key,
    ])
    expect(read.settings).toEqual({ scheme: 'linkerd.io/tls', secretType: 'Opaque', version: 'stable-2.14.10' })
    const data = { 'tls.crt': ca.issuer.pem, 'tls.key': ca.key, 'ca.crt': ca.root.pem }
    const external = await liveCa(cluster(objects(secret(data), roots())), settings)
    expect(external.settings).toMatchObject({ scheme: 'kubernetes.io/tls', secretType: 'kubernetes.io/tls' })
    const { 'ca.crt': _, ...without } = data
    const error = await refusal(() => liveCa(cluster(objects(secret(without), roots())), settings))
    expect(error.what).toBe(
      'key ca.crt containing the trust anchors needs to exist in secret linkerd-identity-issuer if --identity-external-issuer=true',
    )
  })

  it('is refused where ca.crt holds other anchors than proxies trust (linkerd2#5292)', async () => {
    const data = { 'tls.crt': ca.issuer.pem, 'tls.key': ca.key, 'ca.crt': other.root.pem }
    const error = await refusal(() => liveCa(cluster(objects(secret(data), roots())), settings))
    expect(error.what).toBe('IdentityContext.TrustAnchorsPem does not match ca.crt in linkerd-identity-issuer')
    // A bundle in another order is the same set.
    const both = anchorText([ca.root.pem, other.root.pem])
    const turned = { ...data, 'ca.crt': anchorText([other.root.pem, ca.root.pem]) }
    await liveCa(cluster(objects(secret(turned), roots(both))), settings)
  })

  it('is refused where the declared form is not the one in the cluster', async () => {
    const declared = { ...settings, issuerScheme: 'kubernetes.io/tls' } as const
    expect((await refusal(() => liveCa(cluster(objects(own(), roots())), declared))).found).toBe('linkerd.io/tls')
  })

  it('is found where each version keeps its anchors: JSON up to 2.8, values below global in 2.9, flat in 2.10', async () => {
    const block = (by: string) => `identityTrustAnchorsPEM: |\n${ca.root.pem.replace(/^(?=.)/gm, by)}`
    const forms = {
      global: globalJson(ca.root.pem),
      values: `global:\n  ${block('    ')}`,
      flat: block('  '),
    }
    for (const [form, text] of Object.entries(forms)) {
      const config = map('linkerd-config', form === 'global' ? { global: text } : { values: text })
      expect(
        (await liveCa(cluster(objects(own(), config)), legacy)).roots.map(each => each.sha256),
        form,
      ).toEqual([ca.root.sha256])
    }
    const wrong = await refusal(() =>
      liveCa(cluster(objects(own(), map('linkerd-config', { values: 'a: b' }))), legacy),
    )
    expect(wrong.what).toBe('linkerd-config holds no trust anchors')
  })

  it('with carriage returns and blank lines is read as awk would have (trap 4), unless Go itself could not', async () => {
    const crlf = ca.root.pem.replaceAll('\n', '\r\n')
    const read = await liveCa(cluster(objects(own(), map('linkerd-config', { global: globalJson(crlf) }))), legacy)
    expect(read.roots.map(each => each.sha256)).toEqual([ca.root.sha256])
    const error = await refusal(() => liveCa(cluster(objects(own(), roots(`${ca.root.pem}\n\n`))), settings))
    expect(error.what).toContain('not a PEM certificate')
  })

  it('goes on as bare PEM: text before a block, with what Flux or the kubelet would replace in it, goes nowhere (F30)', async () => {
    const written = `subject=/CN=mesh of \${cluster} $(_pod_ns)\n${ca.root.pem}`
    const read = await liveCa(cluster(objects(own(), roots(written))), settings)
    expect(read.roots.map(({ pem }) => pem)).toEqual([ca.root.pem])
    // A file is the user's, who can mend it.
    const texts: Readonly<Record<string, string>> = { '/r.pem': written, '/i.pem': ca.issuer.pem, '/i.key': ca.key }
    const source = { from: 'files', certificate: '/i.pem', key: '/i.key', chain: null, roots: '/r.pem' } as const
    const error = await refusal(() => caFromFiles(source, path => texts[path] ?? '', settings))
    expect(error.what).toBe('text outside a block')
  })

  it('may be one certificate that is root and issuer at once, as linkerd install makes it (trap 11)', async () => {
    const self = await selfMadeCa()
    const live = objects(secret({ 'crt.pem': self.certificate.pem, 'key.pem': self.key }), roots(self.certificate.pem))
    const read = await liveCa(cluster(live), settings)
    expect(read.roots.map(each => each.sha256)).toEqual([read.issuer.sha256])
    // Its key was thrown away with the installation, so an issuer under it cannot be made.
    const fitting = linkerdWords
      .fitting([read], now)
      .filter(each => each.fits)
      .map(each => each.strategy)
    expect(fitting).toEqual(['graceful', 'emergency'])
  })

  it('may have an RSA anchor, and a PKCS#8 key, which 2.9 and later read', async () => {
    const key = await systemKeys.generate('rsa-4096')
    const parts = {
      serial: serialFrom(means.random),
      notBefore: new Date('2026-01-01T00:00:00Z'),
      notAfter: new Date('2036-01-01T00:00:00Z'),
    }
    const certificate = await createRoot({ subject: 'CN=rsa', key, pathLength: 1, ...parts })
    const issuer = await createLinkerdIssuer({ certificate, key }, names, 365, means)
    const pkcs8 = createPrivateKey(issuer.key).export({ type: 'pkcs8', format: 'pem' }).toString()
    const live = objects(secret({ 'crt.pem': issuer.issuer.pem, 'key.pem': pkcs8 }), roots(certificate.pem))
    expect((await liveCa(cluster(live), settings)).roots[0]?.key).toBe('RSA 4096')
  })

  it('knows whether a release made the ConfigMap of anchors: its next upgrade may take it away', async () => {
    const helm = { annotations: { 'meta.helm.sh/release-name': 'linkerd-control-plane' } }
    const owned = map(rootsMap, { 'ca-bundle.crt': ca.root.pem }, helm)
    expect((await liveCa(cluster(objects(own(), owned)), settings)).extra).toEqual({ trustRootsOwner: 'helm' })
    const kept = { annotations: { ...helm.annotations, 'helm.sh/resource-policy': 'keep' } }
    const held = map(rootsMap, { 'ca-bundle.crt': ca.root.pem }, kept)
    expect((await liveCa(cluster(objects(own(), held)), settings)).extra).toBeUndefined()
  })

  it('from files has the declared form, else the chart’s own, and its key in SEC1', () => {
    const pkcs8 = createPrivateKey(ca.key).export({ type: 'pkcs8', format: 'pem' }).toString()
    const files: Readonly<Record<string, string>> = { crt: ca.issuer.pem, key: pkcs8, roots: ca.root.pem }
    const source = { from: 'files', certificate: 'crt', key: 'key', chain: null, roots: 'roots' } as const
    const read = caFromFiles(source, path => files[path] ?? '', settings)
    expect(read.settings.secretType).toBe('Opaque')
    expect(read.key).toBe(ca.key)
    expect(read.key).toContain('BEGIN EC PRIVATE KEY')
    const declared = caFromFiles(source, path => files[path] ?? '', { ...settings, issuerScheme: 'kubernetes.io/tls' })
    expect(declared.settings).toMatchObject({ scheme: 'kubernetes.io/tls', secretType: 'kubernetes.io/tls' })
  })
})

describe('an owner besides Git (F16)', () => {
  const data = (key: string, manager: string) => ({
    managedFields: [{ manager, fieldsV1: { 'f:data': { [`f:${key}`]: {} } } }],
  })
  const issuers: Readonly<Record<string, Partial<KubernetesObject['metadata']>>> = {
    'by annotation': {
      annotations: { 'cert-manager.io/certificate-name': 'linkerd-identity-issuer', 'cert-manager.io/alt-names': 'x' },
    },
    'by owner reference': { ownerReferences: [{ kind: 'Certificate', name: 'linkerd-identity-issuer' }] },
    'by field manager alone, its marks taken away': data('tls.crt', 'cert-manager-certificates-issuing'),
  }
  const bundles: Readonly<Record<string, Partial<KubernetesObject['metadata']>>> = {
    'by hash': { annotations: { 'trust.cert-manager.io/hash': 'abc' } },
    'by label': { labels: { 'trust.cert-manager.io/bundle': rootsMap } },
    'by field manager alone': data('ca-bundle.crt', 'trust-manager'),
  }

  for (const [how, metadata] of Object.entries(issuers)) {
    it(`of the issuer is refused, told ${how}: cert-manager renews in mid-rotation`, async () => {
      const live = objects(
        secret({ 'tls.crt': ca.issuer.pem, 'tls.key': ca.key, 'ca.crt': ca.root.pem }, metadata),
        roots(),
      )
      const error = await refusal(() => liveCa(cluster(live), settings))
      expect([error.what, error.exit]).toEqual(['cert-manager renews this issuer', 5])
      expect(error.todo).toContain('"managedFields":[{}]')
      if (metadata.annotations !== undefined)
        expect(error.todo).toContain(
          'annotate --namespace linkerd secret linkerd-identity-issuer cert-manager.io/certificate-name- cert-manager.io/alt-names-',
        )
    })
  }

  for (const [how, metadata] of Object.entries(bundles)) {
    it(`of the anchors is refused, told ${how}: trust-manager writes them by its own clock`, async () => {
      const live = objects(own(), map(rootsMap, { 'ca-bundle.crt': ca.root.pem }, metadata))
      const error = await refusal(() => liveCa(cluster(live), settings))
      expect([error.what, error.exit]).toEqual(['trust-manager writes these anchors', 5])
      const declared = { ...settings, trustManager: true }
      expect((await liveCa(cluster(live), declared)).roots.map(each => each.sha256)).toEqual([ca.root.sha256])
    })
  }

  it('is External Secrets as well, unless the Secret carries the marks of a site’s folder', async () => {
    const labels = { 'reconcile.external-secrets.io/managed': 'true' }
    const theirs = data('crt.pem', 'externalsecrets.external-secrets.io/linkerd-identity-issuer')
    const keys = { 'crt.pem': ca.issuer.pem, 'key.pem': ca.key }
    const error = await refusal(() => liveCa(cluster(objects(secret(keys, { ...theirs, labels }), roots())), settings))
    expect([error.what, error.exit]).toEqual(['External Secrets renews this issuer', 5])
    const annotations = { 'reanchor.dev/values': 'key.pem=aa' }
    const ours = secret(keys, { ...theirs, labels, annotations })
    expect((await liveCa(cluster(objects(ours, roots())), settings)).key).toBe(ca.key)
  })

  it('that is Git’s own deliverer, or a person, is none of them', async () => {
    for (const manager of ['kustomize-controller', 'argocd-controller', 'kubectl', 'helm-controller'])
      await liveCa(
        cluster(objects(secret({ 'crt.pem': ca.issuer.pem, 'key.pem': ca.key }, data('crt.pem', manager)), roots())),
        settings,
      )
  })
})

describe('what has ended (F15, trap 16)', () => {
  const day = 86_400_000
  const declared = async (strategy: Strategy) =>
    await readDeclaration(
      `apiVersion: reanchor.dev/v1alpha1
kind: TrustRotation
metadata: {name: mesh-2026}
spec:
  system: linkerd
  strategy: ${strategy}
  sites: [{name: eu-1, path: trust/eu-1, delivery: {flux: {kustomization: flux-system/trust}}}]
  linkerd: {flow: trust-roots, version: stable-2.14.10, controlPlane: {eu-1: {path: linkerd/eu-1}}}
`,
      'rotation.yaml',
    )

  /** A root that lives `rootDays` from now, and an issuer of it, both made a year ago. */
  async function aged(rootDays: number, issuerDays: number) {
    const key = await systemKeys.generate('ecdsa-p256')
    const dates = (days: number) => ({
      serial: serialFrom(means.random),
      notBefore: new Date(now.getTime() - 365 * day),
      notAfter: new Date(now.getTime() + days * day),
    })
    const root = await createRoot({ subject: 'CN=aged', key, pathLength: 1, ...dates(rootDays) })
    const own_ = await systemKeys.generate('ecdsa-p256')
    const issuer = await createIssuing({
      subject: 'CN=identity.linkerd.cluster.local',
      key: own_,
      issuer: { certificate: root, key },
      dns: ['identity.linkerd.cluster.local'],
      ...dates(issuerDays),
    })
    return {
      ca: {
        issuer,
        chain: [issuer],
        roots: [root],
        key: issuerKeyPem(own_),
        source: 'plugged',
        settings: {},
        restarts: {},
      } as const,
      root,
      key,
    }
  }

  it('is told apart: ok, expiring within 60 days, the issuer, the root, not yet valid', async () => {
    const health = async (root: number, issuer: number) => healthOf((await aged(root, issuer)).ca, now)
    expect(await health(900, 300)).toBe('ok')
    expect(await health(900, 59)).toBe('expiring')
    expect(await health(900, -1)).toBe('issuer-expired')
    expect(await health(-1, -1)).toBe('root-expired')
    const fresh = await linkerdCa('CN=fresh', new Date(now.getTime() + 10 * day))
    expect(healthOf({ issuer: fresh.issuer, roots: [fresh.root] }, now)).toBe('not-yet-valid')
  })

  it('as issuer is answered with strategy issuer: one step, and no pretended overlap', async () => {
    const { ca: current, root, key } = await aged(900, -1)
    const issued = await createLinkerdIssuer({ certificate: root, key }, names, 300, means)
    const next = (issuer: LinkerdIssuer) => ({ sites: { 'eu-1': issuer }, rootKey: null, root: issuer.root })
    acceptLinkerd(await declared('issuer'), { 'eu-1': current }, next(issued), now)
    const error = await refusal(async () =>
      acceptLinkerd(await declared('graceful'), { 'eu-1': current }, next(other), now),
    )
    expect(error.todo).toContain('choose strategy issuer if the root’s key is at hand')
    const fits = linkerdWords
      .fitting([current], now)
      .filter(each => each.fits)
      .map(each => each.strategy)
    expect(fits).toEqual(['issuer', 'emergency'])
  })

  it('as root is answered with an emergency alone: nothing verifies through it any more', async () => {
    const { ca: current } = await aged(-1, -1)
    const next = { sites: { 'eu-1': other }, rootKey: null, root: other.root }
    for (const strategy of ['graceful', 'issuer'] as const) {
      const error: ReanchorError = await refusal(async () =>
        acceptLinkerd(await declared(strategy), { 'eu-1': current }, next, now),
      )
      expect(error.todo, strategy).toContain('choose strategy emergency with --accept-outage')
    }
    acceptLinkerd(await declared('emergency'), { 'eu-1': current }, next, now)
    const fits = linkerdWords
      .fitting([current], now)
      .filter(each => each.fits)
      .map(each => each.strategy)
    expect(fits).toEqual(['emergency'])
  })
})
