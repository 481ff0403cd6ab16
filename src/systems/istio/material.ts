import type { Cluster, KubernetesObject } from '../../cluster/cluster.ts'
import { resources } from '../../cluster/resources.ts'
import { exitCodes, ReanchorError } from '../../errors.ts'
import { joinPem, readBundle } from '../../pki/bundle.ts'
import type { CurrentCa } from '../../plan/ca.ts'
import { checkKey, normalKey } from '../../plan/material.ts'
import { multirootSetting, xdsAgentSetting } from './phases.ts'
import type { IstioSettings } from './settings.ts'

/**
 * Reads the CA that istiod uses: a plugged `cacerts`, else the self-signed one in `istio-ca-secret`
 * (istio security/pkg/pki/ca/ca.go, BuildSecret; pilot istio_ca.go, createIstioCA).
 */
export async function currentFromCluster(cluster: Cluster, istio: IstioSettings): Promise<CurrentCa> {
  const settings = await liveSettings(cluster, istio)
  const plugged = await cluster.get(resources.secrets, istio.namespace, 'cacerts')
  if (plugged !== null) {
    const data = secretData(plugged)
    const object = `Secret ${istio.namespace}/cacerts`
    refuseOddKeys(data, object, istio.namespace)
    refuseOddBytes(data, object)
    return { ...caFromPem(data, object), source: 'plugged', settings, restarts: {} }
  }
  const own = await cluster.get(resources.secrets, istio.namespace, 'istio-ca-secret')
  if (own === null) {
    throw new ReanchorError({
      what: 'no CA of Istio in the cluster',
      where: { object: `namespace ${istio.namespace}` },
      expected: 'Secret cacerts (plugged CA) or istio-ca-secret (self-signed CA)',
      found: 'neither',
      todo: 'check spec.istio.namespace and the cluster of this site; for a CA kept elsewhere give spec.current.files',
    })
  }
  const data = secretData(own)
  const object = `Secret ${istio.namespace}/istio-ca-secret`
  const root = data['ca-cert.pem'] ?? ''
  // The Secret of the self-signed CA has the keys root-cert.pem and cert-chain.pem, and leaves them empty.
  const filled = {
    'ca-cert.pem': root,
    'ca-key.pem': data['ca-key.pem'] ?? '',
    'cert-chain.pem': root,
    'root-cert.pem': root,
  }
  return { ...caFromPem(filled, object), source: 'own', settings, restarts: {} }
}

function caFromPem(
  data: Readonly<Record<string, string>>,
  object: string,
): Pick<CurrentCa, 'issuer' | 'chain' | 'roots' | 'key'> {
  const text = (key: string): string => {
    const value = data[key]
    if (value !== undefined && value !== '') return value
    throw new ReanchorError({
      what: `no ${key}`,
      where: { object, field: `data["${key}"]` },
      expected: 'ca-cert.pem, ca-key.pem, cert-chain.pem and root-cert.pem, all filled',
      found: `the keys ${Object.keys(data).sort().join(', ') || '(none)'}`,
      todo: 'complete the Secret first: istiod 1.26 and later does not start without all four',
    })
  }
  const bundle = (key: string) => readBundle(text(key), { object: `${object} ${key}`, allowRepeats: true }).certificates
  const issuer = bundle('ca-cert.pem')[0]
  if (issuer === undefined) throw new Error('readBundle returned no certificate')
  const key = normalKey(text('ca-key.pem'), `${object} ca-key.pem`)
  checkKey(issuer, key, object)
  return { issuer, chain: bundle('cert-chain.pem'), roots: bundle('root-cert.pem'), key }
}

/** Refuses a `cacerts` in a form that would silently win over what reanchor writes, and names the command that frees it. */
function refuseOddKeys(data: Readonly<Record<string, string>>, object: string, namespace: string): void {
  const patch = (keys: readonly string[]) =>
    `kubectl -n ${namespace} patch secret cacerts --type=json -p '[${keys.map(key => `{"op":"remove","path":"/data/${key}"}`).join(',')}]'`
  if (data['tls.crt'] !== undefined) {
    throw new ReanchorError({
      what: 'the CA lies in tls.crt, tls.key and ca.crt',
      where: { object },
      expected: 'ca-cert.pem, ca-key.pem, cert-chain.pem and root-cert.pem',
      found: 'tls.crt, whose mere presence makes istiod ignore the others',
      todo: `add the four keys with the same material, restart istiod, then run: ${patch(['tls.crt', 'tls.key', 'ca.crt'])}`,
      exit: exitCodes.refused,
    })
  }
  if (data['istio-generated'] !== undefined) {
    throw new ReanchorError({
      what: 'istiod itself owns this Secret (USE_CACERTS_FOR_SELF_SIGNED_CA)',
      where: { object, field: 'data["istio-generated"]' },
      expected: 'a Secret that Git may own',
      found: 'the marker key istio-generated, which another field manager keeps',
      todo: `switch USE_CACERTS_FOR_SELF_SIGNED_CA off, then run: ${patch(['istio-generated'])}`,
      exit: exitCodes.refused,
    })
  }
}

/**
 * Refuses public files that are more than their certificates. Taken over as they are they could not be a byte prefix of what follows, and
 * istiod 1.20 to 1.29 would not take that up while it runs; written anew they would not be today's material unchanged.
 */
function refuseOddBytes(data: Readonly<Record<string, string>>, object: string): void {
  for (const key of ['ca-cert.pem', 'cert-chain.pem', 'root-cert.pem']) {
    const text = data[key] ?? ''
    const plain = joinPem(
      ...readBundle(text, { object: `${object} ${key}`, allowRepeats: true }).certificates.map(each => each.pem),
    )
    if (text === plain) continue
    throw new ReanchorError({
      what: `${key} holds more than its certificates`,
      where: { object, field: `data["${key}"]` },
      expected: 'CERTIFICATE blocks alone, lines of 64 characters, each with one newline at its end',
      found: 'comments, carriage returns, blank lines or a missing final newline',
      todo: `rewrite that key of the Secret with the blocks alone and restart istiod, then plan again`,
      exit: exitCodes.refused,
    })
  }
}

/** Both flags as the running control plane has them. What cannot be read counts as not set, which only adds a phase. */
async function liveSettings(cluster: Cluster, istio: IstioSettings): Promise<Record<string, string>> {
  const settings: Record<string, string> = {}
  const istiod = await cluster.get(resources.deployments, istio.namespace, 'istiod')
  const containers = (istiod?.spec as { template?: { spec?: { containers?: readonly Container[] } } } | undefined)
    ?.template?.spec?.containers
  const flag = containers
    ?.flatMap(container => container.env ?? [])
    .find(variable => variable.name === multirootSetting)
  if (flag?.value !== undefined) settings[multirootSetting] = flag.value
  const mesh = await cluster.get(resources.configMaps, istio.namespace, 'istio')
  const text = (mesh?.data as Record<string, string> | undefined)?.mesh
  if (text !== undefined) {
    const { parse } = await import('yaml')
    const value = (parse(text) as MeshConfig | null)?.defaultConfig?.proxyMetadata?.[xdsAgentSetting]
    if (value !== undefined) settings[xdsAgentSetting] = String(value)
  }
  return settings
}

interface Container {
  readonly env?: readonly { readonly name: string; readonly value?: string }[]
}

interface MeshConfig {
  readonly defaultConfig?: { readonly proxyMetadata?: Readonly<Record<string, unknown>> }
}

function secretData(secret: KubernetesObject): Record<string, string> {
  const data = (secret.data ?? {}) as Record<string, string | null>
  return Object.fromEntries(
    Object.entries(data).map(([key, value]) => [key, Buffer.from(value ?? '', 'base64').toString()]),
  )
}
