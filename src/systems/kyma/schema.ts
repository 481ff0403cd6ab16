import * as z from 'zod'
import { file, kubernetesName, namespaceName, plainText, text } from '../../declaration/fields.ts'
import { labelPattern, labelProblem } from '../../declaration/values.ts'
import { type ProfileName, profileNames } from './profile.ts'

const key = (description: string, example: string) => plainText('the key of a Secret', description, example)

/** The form of `spec.kyma`. */
export const kymaSchema = z
  .strictObject({
    profile: z
      .enum(profileNames as readonly [ProfileName, ...ProfileName[]])
      .default('runbook')
      .meta({
        title: 'a release, or runbook',
        description:
          'Names of Secrets and keys differ by release: 1.2, 1.4 (to 1.10), 1.11 (to 1.14, and 2.x), 1.18 (to 1.24), or runbook for those of the 2019 document.',
        examples: ['1.11'],
      }),
    signer: z
      .strictObject({
        namespace: namespaceName('Namespace of the connector.', 'kyma-integration').optional(),
        secret: kubernetesName(
          'the name of a Secret',
          'Secret that the connector signs from.',
          'connector-service-app-ca',
        ).optional(),
        certificateKey: key('Its key with the CA certificate.', 'ca.crt').optional(),
        privateKey: key('Its key with the private key.', 'ca.key').optional(),
      })
      .optional()
      .meta({
        title: 'where the connector’s CA is',
        description: 'What differs from the profile.',
        examples: [{ secret: 'connector-service-app-ca' }],
      }),
    gateway: z
      .strictObject({
        namespace: namespaceName('Namespace of the ingress gateway.', 'istio-system').optional(),
        secret: kubernetesName(
          'the name of a Secret',
          'Secret that the gateway verifies clients with.',
          'kyma-gateway-certs-cacert',
        ).optional(),
        key: key('Its key with the CA certificates.', 'cacert').optional(),
        form: z
          .enum(['sds', 'mount'])
          .optional()
          .meta({
            title: 'sds or mount',
            description:
              'sds: the Gateway names a credential, and nothing restarts. mount: it names files, and the gateway is rolled after each change.',
            examples: ['sds'],
          }),
        credentialName: kubernetesName(
          'the name of a credential',
          'tls.credentialName of the Gateway, with form sds.',
          'kyma-gateway-certs',
        ).optional(),
        deployment: kubernetesName(
          'the name of a Deployment',
          'Deployment of the ingress gateway.',
          'istio-ingressgateway',
        ).optional(),
      })
      .optional()
      .meta({
        title: 'where the gateway’s trust is',
        description: 'What differs from the profile.',
        examples: [{ secret: 'kyma-gateway-certs-cacert', key: 'cacert' }],
      }),
    compromised: z
      .enum(['certificate', 'key'])
      .optional()
      .meta({
        title: 'certificate or key',
        description:
          'With strategy emergency: certificate keeps the key, and nobody is refused; key makes a new one, and every client is refused until it has a new certificate.',
        examples: ['key'],
      }),
    applications: z
      .enum(['attested', 'none'])
      .default('attested')
      .meta({
        title: 'attested or none',
        description:
          'attested: applications hold client certificates, and a person vouches that all have renewed. none: only runtimes do.',
        examples: ['attested'],
      }),
    leafDays: z
      .number()
      .int()
      .min(1)
      .max(825)
      .default(92)
      .meta({
        title: 'a whole number of days',
        description:
          'How long a client certificate lives (appCertificateValidityTime, runtimeCertificateValidityTime).',
        examples: [92],
      }),
    runtimes: z
      .array(
        z
          .strictObject({
            name: text(
              {
                title: 'a name',
                description: 'Name of the runtime, apart from those of the sites.',
                examples: ['shop'],
                pattern: labelPattern,
                maxLength: 63,
              },
              value => labelProblem(value, 63),
            ),
            site: plainText(
              'the name of a site',
              'Site whose connector signs for it. Default: the only one.',
              'central',
            ).optional(),
            kind: z
              .enum(['central', 'compass'])
              .default('central')
              .meta({
                title: 'central or compass',
                description:
                  'Which resource of its cluster tells the dates of its certificate: CentralConnection or CompassConnection.',
                examples: ['central'],
              }),
            connection: kubernetesName(
              'the name of a connection',
              'metadata.name of its CentralConnection; compass-connection for Compass.',
              'shop',
            ).optional(),
            context: plainText(
              'the name of a context',
              'Context of its cluster. Default: its name.',
              'shop',
            ).optional(),
            kubeconfig: file('A kubeconfig file of its own.', '../kubeconfigs/shop.yaml').optional(),
          })
          .meta({
            title: 'one runtime',
            description: 'A cluster that holds a client certificate of this CA.',
            examples: [{ name: 'shop', kind: 'central', connection: 'shop' }],
          }),
      )
      .optional()
      .meta({
        title: 'a list of runtimes',
        description: 'Every runtime, each read in its own cluster: the old CA goes only after all have renewed.',
        examples: [[{ name: 'shop', kind: 'central', connection: 'shop' }]],
      }),
  })
  .meta({
    title: 'settings of Kyma',
    description: 'What only Kyma needs.',
    examples: [{ profile: '1.11', runtimes: [{ name: 'shop', kind: 'central', connection: 'shop' }] }],
  })
