import type { Instant } from '../../rotation.ts'
import { at, either, instant, list, record, text } from '../../verify/values.ts'

/** What istioctl asks for: secrets and nothing else (istio istioctl/pkg/proxyconfig). An Envoy that knows no mask answers with everything. */
export const gatewaySecretsPath = '/config_dump?mask=dynamic_active_secrets,dynamic_warming_secrets'
/** Certificates of every TLS context that is alive (envoy source/server/admin/server_info_handler.cc). */
export const gatewayCertsPath = '/certs'

export interface GatewayTrust {
  /** Bundle of each active validation context of that name, PEM: one for each context that asked, which need not have been answered alike. */
  readonly bundles: readonly string[]
  /** Some context asked and has no answer yet: it refuses everybody. */
  readonly warming: boolean
}

/**
 * What Envoy holds in memory under a credential name X. For `tls.mode: MUTUAL` the validation context is named `kubernetes://X-cacert` where istiod
 * answers (1.8 and later, istio pilot/pkg/model/credentials), and `X-cacert` where the gateway's own agent does (to 1.7, IngressGatewaySdsCaSuffix),
 * whichever of the two Secrets it comes from. Throws for an answer of another form.
 */
export function readGatewayTrust(answer: string, credential: string): GatewayTrust {
  const names = [`kubernetes://${credential}-cacert`, `${credential}-cacert`]
  return validationContexts(answer, name => names.includes(name))
}

/**
 * The same for a CA file: from 1.8 on Istio delivers files of a Gateway as secrets `file-root:PATH` too, so that Envoy tells them whole. No bundle: it
 * was configured with the path itself, and tells of it in `/certs` alone.
 */
export function readGatewayFile(answer: string, file: { readonly secret: string; readonly key: string }): GatewayTrust {
  return validationContexts(answer, name => name.startsWith('file-root:') && isFileOf(name, file))
}

function validationContexts(answer: string, isWanted: (name: string) => boolean): GatewayTrust {
  const { configs } = record(parsed(answer))
  if (!Array.isArray(configs)) throw new Error('Envoy answered with something else than a dump of its configuration')
  const bundles: string[] = []
  let warming = false
  for (const config of configs) {
    for (const entry of list(either(config, 'dynamic_active_secrets', 'dynamicActiveSecrets'))) {
      const name = nameOf(entry)
      if (name === null || !isWanted(name)) continue
      const context = either(either(entry, 'secret'), 'validation_context', 'validationContext')
      const bytes = text(either(either(context, 'trusted_ca', 'trustedCa'), 'inline_bytes', 'inlineBytes'))
      if (bytes === null || bytes === '' || !/^[A-Za-z0-9+/]+={0,2}$/.test(bytes))
        throw new Error(`Envoy holds ${name} in a form that is not known here`)
      bundles.push(Buffer.from(bytes, 'base64').toString('latin1'))
    }
    for (const entry of list(either(config, 'dynamic_warming_secrets', 'dynamicWarmingSecrets'))) {
      const name = nameOf(entry)
      if (name !== null && isWanted(name)) warming = true
    }
  }
  return { bundles, warming }
}

function nameOf(entry: unknown): string | null {
  return text(record(entry).name) ?? text(at(entry, 'secret', 'name'))
}

/** What `/certs` tells of a CA file: of the certificates in it the first one, and of that no fingerprint. */
export interface LoadedCa {
  /** Hexadecimal, lower case, without leading zeros. */
  readonly serial: string
  /** Null: an Envoy before 1.10, which tells the serial number alone. */
  readonly notBefore: Instant | null
  readonly notAfter: Instant | null
}

/**
 * The CA that each living TLS context has loaded from a file, once each. Several: contexts that were made before and after the file changed live side by side.
 * Throws for an answer of another form. (envoy api/envoy/admin/v3/certs.proto: snake_case names, `ca_cert` a list, times as in RFC 3339; up to 1.8 it was text.)
 */
export function readLoadedCas(
  answer: string,
  file: { readonly secret: string; readonly key: string },
): readonly LoadedCa[] {
  const found = isText(answer) ? textualCas(answer, file) : structuredCas(answer, file)
  const key = ({ serial, notBefore, notAfter }: LoadedCa) => `${serial} ${notBefore} ${notAfter}`
  return [...new Map(found.map(each => [key(each), each])).values()]
}

const textual = /Certificate Path: ([^,]+), Serial Number: ([^,]+), Days until Expiration: -?\d+/g

/** Objects one after the other, which as a whole are no JSON. */
function isText(answer: string): boolean {
  return answer.trim() === '' || /"ca_cert": "(Certificate Path: |")/.test(answer)
}

function textualCas(answer: string, file: { readonly secret: string; readonly key: string }): readonly LoadedCa[] {
  return [...answer.matchAll(textual)].flatMap(([, path = '', serial = '']) =>
    isFileOf(path, file) ? [{ serial: plainSerial(serial), notBefore: null, notAfter: null }] : [],
  )
}

function structuredCas(answer: string, file: { readonly secret: string; readonly key: string }): readonly LoadedCa[] {
  const { certificates } = record(parsed(answer))
  if (!Array.isArray(certificates))
    throw new Error('Envoy answered with something else than a list of its certificates')
  const found: LoadedCa[] = []
  for (const entry of certificates) {
    const { ca_cert: cas = [] } = record(entry)
    if (!Array.isArray(cas)) throw new Error('Envoy lists its certificates in a form that is not known here')
    for (const ca of cas) {
      const path = text(at(ca, 'path'))
      if (path === null || !isFileOf(path, file)) continue
      const { valid_from: from, expiration_time: until } = record(ca)
      const [notBefore, notAfter] = [instant(from), instant(until)]
      if ((from !== undefined && notBefore === null) || (until !== undefined && notAfter === null))
        throw new Error(`Envoy tells no dates that can be read of ${path}`)
      found.push({ serial: plainSerial(text(at(ca, 'serial_number')) ?? ''), notBefore, notAfter })
    }
  }
  return found
}

/** A volume is mounted under the Secret's name: `/etc/istio/SECRET/KEY`. */
function isFileOf(path: string, { secret, key }: { readonly secret: string; readonly key: string }): boolean {
  return path.endsWith(`/${secret}/${key}`)
}

export function plainSerial(serial: string): string {
  if (!/^[0-9a-fA-F]+$/.test(serial)) throw new Error('Envoy tells no serial number that can be read')
  return serial.toLowerCase().replace(/^0+(?=.)/, '')
}

function parsed(answer: string): unknown {
  try {
    return JSON.parse(answer) as unknown
  } catch (cause) {
    throw new Error('Envoy’s answer is no JSON', { cause })
  }
}
