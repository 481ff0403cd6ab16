import type { ResourceType } from './cluster.ts'

/** Every resource type that the verifier reads. `roles/istio.yaml` grants these and no more. */
export const resources = {
  namespaces: { group: '', version: 'v1', plural: 'namespaces', namespaced: false },
  pods: { group: '', version: 'v1', plural: 'pods', namespaced: true },
  secrets: { group: '', version: 'v1', plural: 'secrets', namespaced: true },
  configMaps: { group: '', version: 'v1', plural: 'configmaps', namespaced: true },
  deployments: { group: 'apps', version: 'v1', plural: 'deployments', namespaced: true },
  statefulSets: { group: 'apps', version: 'v1', plural: 'statefulsets', namespaced: true },
  daemonSets: { group: 'apps', version: 'v1', plural: 'daemonsets', namespaced: true },
  mutatingWebhooks: {
    group: 'admissionregistration.k8s.io',
    version: 'v1',
    plural: 'mutatingwebhookconfigurations',
    namespaced: false,
  },
  validatingWebhooks: {
    group: 'admissionregistration.k8s.io',
    version: 'v1',
    plural: 'validatingwebhookconfigurations',
    namespaced: false,
  },
  istios: { group: 'sailoperator.io', version: 'v1', plural: 'istios', namespaced: false },
  /** Served by every Istio since 1.8; v1 came with 1.22. */
  workloadEntries: { group: 'networking.istio.io', version: 'v1beta1', plural: 'workloadentries', namespaced: true },
  workloadEntriesV1: { group: 'networking.istio.io', version: 'v1', plural: 'workloadentries', namespaced: true },
  kustomizations: { group: 'kustomize.toolkit.fluxcd.io', version: 'v1', plural: 'kustomizations', namespaced: true },
  gitRepositories: { group: 'source.toolkit.fluxcd.io', version: 'v1', plural: 'gitrepositories', namespaced: true },
  helmReleases: { group: 'helm.toolkit.fluxcd.io', version: 'v2', plural: 'helmreleases', namespaced: true },
  sealedSecrets: { group: 'bitnami.com', version: 'v1alpha1', plural: 'sealedsecrets', namespaced: true },
  externalSecrets: { group: 'external-secrets.io', version: 'v1', plural: 'externalsecrets', namespaced: true },
  certificates: { group: 'cert-manager.io', version: 'v1', plural: 'certificates', namespaced: true },
  certificateRequests: { group: 'cert-manager.io', version: 'v1', plural: 'certificaterequests', namespaced: true },
  cassandraClusters: { group: 'db.ibm.com', version: 'v1alpha1', plural: 'cassandraclusters', namespaced: true },
  applications: { group: 'argoproj.io', version: 'v1alpha1', plural: 'applications', namespaced: true },
} as const satisfies Readonly<Record<string, ResourceType>>
