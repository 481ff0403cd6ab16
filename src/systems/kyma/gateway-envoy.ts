import { at, either, list, record, text } from '../../verify/values.ts'

/** What istioctl asks for: secrets and nothing else (istio istioctl/pkg/proxyconfig). */
export const gatewaySecretsPath = '/config_dump?mask=dynamic_active_secrets,dynamic_warming_secrets'

export interface GatewayTrust {
  /** Bundle of each active validation context of the credential, PEM. */
  readonly bundles: readonly string[]
  /** Asked for and not yet delivered: the listener refuses everybody. */
  readonly warming: boolean
}

/**
 * Reads what an ingress gateway verifies the clients of a credential with from Envoy's own memory. For `tls.mode: MUTUAL` and credentialName X
 * istiod names the validation context `kubernetes://X-cacert`, whichever of the two Secrets it comes from (istio pilot/pkg/model/credentials).
 * Throws SyntaxError for what is not JSON.
 */
export function readGatewayTrust(answer: string, credential: string): GatewayTrust {
  const name = `kubernetes://${credential}-cacert`
  const bundles: string[] = []
  let warming = false
  for (const config of list(record(JSON.parse(answer)).configs)) {
    for (const entry of list(either(config, 'dynamic_active_secrets', 'dynamicActiveSecrets'))) {
      if (nameOf(entry) !== name) continue
      const context = either(either(entry, 'secret'), 'validation_context', 'validationContext')
      const bytes = text(either(either(context, 'trusted_ca', 'trustedCa'), 'inline_bytes', 'inlineBytes'))
      if (bytes !== null && bytes !== '') bundles.push(Buffer.from(bytes, 'base64').toString('latin1'))
    }
    if (list(either(config, 'dynamic_warming_secrets', 'dynamicWarmingSecrets')).some(entry => nameOf(entry) === name))
      warming = true
  }
  return { bundles, warming }
}

function nameOf(entry: unknown): string | null {
  return text(record(entry).name) ?? text(at(entry, 'secret', 'name'))
}
