import * as z from 'zod'
import { duration, folder, kubernetesName, namespaceName, repositoryPath, text } from '../../declaration/fields.ts'
import { subdomainPattern, subdomainProblem } from '../../declaration/values.ts'

/** The form of `spec.istio`. */
export const istioSchema = z
  .strictObject({
    install: z
      .enum(['sail', 'helmRelease', 'helmValues', 'argoApplication'])
      .default('sail')
      .meta({
        title: 'how Istio is installed',
        description:
          'sail: an `Istio` resource. helmRelease: Flux. helmValues: a values file of your own. argoApplication: a Helm chart by Argo CD.',
        examples: ['sail'],
      }),
    namespace: namespaceName('Namespace of the control plane.', 'istio-system').default('istio-system'),
    trustDomain: kubernetesName(
      'a trust domain',
      'Trust domain of the mesh (meshConfig.trustDomain).',
      'cluster.local',
    ).default('cluster.local'),
    leafTTL: duration(
      '1m',
      '90d',
      'How long a leaf lives (SECRET_TTL of the proxies); every wait for renewals is bounded by it.',
      '24h',
    ).default('24h'),
    ambient: z
      .boolean()
      .default(false)
      .meta({ title: 'true or false', description: 'The mesh has ztunnel or waypoints.', examples: [false] }),
    controlPlane: z
      .record(
        z.string(),
        z
          .strictObject({
            file: repositoryPath(
              'File that holds the Istio resource, HelmRelease, values or Application.',
              'clusters/eu-1/istio.yaml',
            ),
            name: text(
              {
                title: 'the name of an object',
                description: 'metadata.name of that object.',
                examples: ['default'],
                pattern: subdomainPattern,
              },
              subdomainProblem,
            ).default('default'),
            path: folder(
              'Folder whose kustomization takes the Component in. Default: the folder of `file`.',
              'clusters/eu-1',
            ).optional(),
          })
          .meta({
            title: "one site's control plane",
            description: 'Where this site declares its Istio.',
            examples: [{ file: 'clusters/eu-1/istio.yaml', name: 'default' }],
          }),
      )
      .meta({
        title: 'the control plane of each site',
        description: 'Where each site declares its Istio, by name of the site.',
        examples: [{ 'eu-1': { file: 'clusters/eu-1/istio.yaml', name: 'default' } }],
      }),
  })
  .meta({
    title: 'settings of Istio',
    description: 'What only Istio needs.',
    examples: [{ install: 'sail', controlPlane: { 'eu-1': { file: 'clusters/eu-1/istio.yaml', name: 'default' } } }],
  })
