import * as z from 'zod'
import {
  duration,
  folder,
  kubernetesName,
  namespaceName,
  plainText,
  repositoryPath,
  text,
} from '../../declaration/fields.ts'
import { subdomainPattern, subdomainProblem } from '../../declaration/values.ts'
import { issuerSchemes } from './issuer-secret.ts'
import { linkerdInstalls } from './settings.ts'
import { linkerdFlows } from './version.ts'

/** The form of `spec.linkerd`. */
export const linkerdSchema = z
  .strictObject({
    flow: z.enum(linkerdFlows).meta({
      title: 'trust-roots, upgrade or config-map',
      description:
        'trust-roots: ConfigMap linkerd-identity-trust-roots, from 2.11 on. upgrade: what `linkerd upgrade` of 2.7 and 2.8 changes. config-map: the hand edit of linkerd-config with re-injection.',
      examples: ['trust-roots'],
    }),
    version: plainText(
      'a version of Linkerd',
      'The installed version: algorithms, key forms and words depend on it.',
      'stable-2.14.10',
    ),
    namespace: namespaceName('Namespace of the control plane.', 'linkerd').default('linkerd'),
    trustDomain: kubernetesName(
      'a trust domain',
      'Trust domain of the mesh (identityTrustDomain, or clusterDomain).',
      'cluster.local',
    ).default('cluster.local'),
    trustManager: z
      .boolean()
      .meta({
        title: 'true or false',
        description:
          "A Bundle of trust-manager, with the anchors inline, takes the ConfigMap's place in the site's folder. Only where that folder delivers the anchors by itself (`identity.externalCA`).",
        examples: [true],
      })
      .optional(),
    leafTTL: duration(
      '1m',
      '90d',
      'How long a leaf lives (identity.issuer.issuanceLifetime); every wait for renewals is bounded by it.',
      '24h',
    ).default('24h'),
    install: z
      .enum(linkerdInstalls)
      .default('manifests')
      .meta({
        title: 'manifests, helmRelease or argoApplication',
        description:
          'What declares the control plane in Git: the manifests that `linkerd install` has written, a HelmRelease of Flux, or an Argo CD Application of the chart.',
        examples: ['helmRelease'],
      }),
    issuerScheme: z
      .enum(issuerSchemes)
      .meta({
        title: 'linkerd.io/tls or kubernetes.io/tls',
        description:
          'Form of Secret linkerd-identity-issuer (identity.issuer.scheme). Needed where it is kubernetes.io/tls and the cluster is not asked: `current.files`, or an offline root. Default: as it is in the cluster, else linkerd.io/tls.',
        examples: ['kubernetes.io/tls'],
      })
      .optional(),
    controlPlane: z
      .record(
        z.string(),
        z
          .strictObject({
            path: folder(
              'Folder whose kustomization builds the control plane. Needed for manifests; default: the folder of `file`.',
              'linkerd/eu-1',
            ).optional(),
            file: repositoryPath(
              'File that holds the HelmRelease or the Application.',
              'linkerd/eu-1/release.yaml',
            ).optional(),
            name: text(
              {
                title: 'the name of an object',
                description: 'metadata.name of the HelmRelease or the Application.',
                examples: ['linkerd-control-plane'],
                pattern: subdomainPattern,
              },
              subdomainProblem,
            ).optional(),
          })
          .meta({
            title: "one site's control plane",
            description: 'Where this site declares its Linkerd.',
            examples: [{ path: 'linkerd/eu-1' }],
          }),
      )
      .meta({
        title: 'the control plane of each site',
        description: 'Where each site declares its Linkerd, by name of the site.',
        examples: [{ 'eu-1': { path: 'linkerd/eu-1' } }],
      }),
  })
  .meta({
    title: 'settings of Linkerd',
    description: 'What only Linkerd needs.',
    examples: [{ flow: 'trust-roots', version: 'stable-2.14.10', controlPlane: { 'eu-1': { path: 'linkerd/eu-1' } } }],
  })
