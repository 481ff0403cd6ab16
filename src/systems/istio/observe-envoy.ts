import { at, either, list, record, text } from '../../verify/values.ts'

/** What istioctl asks for: both lists of secrets and nothing else (istio istioctl/pkg/proxyconfig). */
export const envoySecretsPath = '/config_dump?mask=dynamic_active_secrets,dynamic_warming_secrets'

/** Secrets of one Envoy. A name may stand several times, once per SDS configuration, and the entries may differ for a moment. */
export interface EnvoySecrets {
  /** Chain of each active `default`, PEM. */
  readonly chains: readonly string[]
  /** Bundle of each active `ROOTCA`, PEM. */
  readonly bundles: readonly string[]
  /** Names that are warming: asked for and not yet delivered. */
  readonly warming: readonly string[]
  /** A SPIFFE validator with bundles of its own (SPIRE): Istio's root does not decide there. */
  readonly ownTrustSource: boolean
  /** File of a revocation list, or null. */
  readonly crl: string | null
  /** When ROOTCA changed last, as Envoy says. */
  readonly rootsUpdated: string | null
}

/**
 * Reads the answer of Envoy's admin to /config_dump, in both shapes: whole (`configs[]` holds SecretsConfigDump) and with
 * `?resource=` (`configs[]` holds the secrets themselves), in snake_case (Envoy) or camelCase (`istioctl proxy-config -o json`).
 * Throws `SyntaxError` for what is not JSON. Secrets are taken by name; their place in the list is an accident.
 */
export function readEnvoySecrets(answer: string): EnvoySecrets {
  const chains: string[] = []
  const bundles: string[] = []
  let ownTrustSource = false
  let crl: string | null = null
  let rootsUpdated: string | null = null
  const { active, warming } = secretLists(JSON.parse(answer))
  for (const entry of active) {
    const secret = record(either(entry, 'secret'))
    const name = text(either(entry, 'name')) ?? text(secret.name)
    if (name === 'default') {
      const chain = bytes(
        at(either(secret, 'tls_certificate', 'tlsCertificate')),
        'certificate_chain',
        'certificateChain',
      )
      if (chain !== null) chains.push(chain)
    }
    if (name !== 'ROOTCA') continue
    const context = validationContext(secret)
    const bundle = bytes(context, 'trusted_ca', 'trustedCa')
    if (bundle !== null) bundles.push(bundle)
    if (either(context, 'custom_validator_config', 'customValidatorConfig') !== undefined) ownTrustSource = true
    crl = text(either(either(context, 'crl'), 'filename')) ?? crl
    const updated = text(either(entry, 'last_updated', 'lastUpdated'))
    if (updated !== null && (rootsUpdated === null || Date.parse(updated) > Date.parse(rootsUpdated)))
      rootsUpdated = updated
  }
  const names = warming
    .map(entry => text(either(entry, 'name')) ?? '')
    .filter(name => name === 'default' || name === 'ROOTCA')
  return { chains, bundles, warming: names, ownTrustSource, crl, rootsUpdated }
}

function secretLists(dump: unknown): { readonly active: readonly unknown[]; readonly warming: readonly unknown[] } {
  const active: unknown[] = []
  const warming: unknown[] = []
  // istioctl prints the SecretsConfigDump itself.
  for (const config of [dump, ...list(record(dump).configs)]) {
    active.push(...list(either(config, 'dynamic_active_secrets', 'dynamicActiveSecrets')))
    warming.push(...list(either(config, 'dynamic_warming_secrets', 'dynamicWarmingSecrets')))
    const secret = either(config, 'secret')
    if (secret === undefined) continue
    if (isWarming(config, secret)) warming.push(config)
    else active.push(config)
  }
  return { active, warming }
}

/** With `?resource=` nothing says which list an entry is from, but a warming one has no content yet. */
function isWarming(entry: unknown, secret: unknown): boolean {
  if (either(entry, 'version_info', 'versionInfo') === 'uninitialized') return true
  return either(secret, 'tls_certificate', 'tlsCertificate', 'validation_context', 'validationContext') === undefined
}

function validationContext(secret: unknown): unknown {
  return either(secret, 'validation_context', 'validationContext')
}

function bytes(holder: unknown, snake: string, camel: string): string | null {
  const inline = either(either(holder, snake, camel), 'inline_bytes', 'inlineBytes')
  const encoded = text(inline)
  if (encoded !== null && encoded !== '') return Buffer.from(encoded, 'base64').toString('latin1')
  return text(either(either(holder, snake, camel), 'inline_string', 'inlineString'))
}
