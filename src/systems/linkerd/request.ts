import { helmCarrier } from '../../render/helm-wiring.ts'
import type { RequestScene, RequestSecret } from '../system.ts'
import { issuerKeyPem, issuerSecretName, issuerValuesName, schemeKeys } from './issuer-secret.ts'
import { bareInstall } from './linkerd-chart.ts'
import { issuerName, type LinkerdSettings } from './settings.ts'

/**
 * Where the key of a requested issuer waits: in the Secret that the site's folder will deliver, under the key that the form in use has, as SEC1, which every
 * version reads. The request asks for the DNS name that identity verifies up to 2.9.
 */
export async function requestedIssuer(
  linkerd: LinkerdSettings,
  { site, current, files }: RequestScene,
): Promise<RequestSecret> {
  const external = current.settings.scheme === 'kubernetes.io/tls'
  const { key } = schemeKeys[external ? 'kubernetes.io/tls' : 'linkerd.io/tls']
  const common = { file: 'issuer.yaml', key, keyPem: issuerKeyPem, dns: [issuerName(linkerd)] }
  if (linkerd.install !== 'helmRelease' || external)
    return { ...common, name: issuerSecretName, namespace: linkerd.namespace }
  const { namespace } = helmCarrier(bareInstall(linkerd), site, await files())
  return { ...common, name: issuerValuesName, namespace: namespace ?? linkerd.namespace }
}
