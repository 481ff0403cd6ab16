import { stringify } from 'yaml'
import { argoApplication, fluxKustomization, kustomization, syncOf } from './repository.ts'

/** The names that roles/cassandra.yaml has. */
export const cassandraNames = {
  cluster: 'example',
  namespace: 'cassandra',
  serverCa: 'example-cluster-tls-ca',
  clientCa: 'example-client-tls-ca',
} as const

/** A repository as `flux bootstrap` begins it: clusters/<region> leads to databases/<region>, which holds the region's CassandraCluster. */
export function cassandraFleet(
  recipient: string,
  regions: readonly string[],
  replicas: number,
): Record<string, string> {
  const files = withoutDeliverer(recipient, regions, replicas)
  for (const region of regions) {
    files[`clusters/${region}/flux-system/gotk-sync.yaml`] = syncOf(region)
    files[`clusters/${region}/flux-system/kustomization.yaml`] = kustomization(['gotk-sync.yaml'])
    files[`clusters/${region}/databases.yaml`] = fluxKustomization(
      'databases',
      `./databases/${region}`,
      'What stores our data.',
      '',
    )
  }
  return files
}

/** The same as an app of apps has it: `root` is applied by hand, once. */
export function cassandraArgoFleet(
  url: string,
  recipient: string,
  regions: readonly string[],
  replicas: number,
): Record<string, string> {
  const files = withoutDeliverer(recipient, regions, replicas)
  for (const region of regions) {
    const { namespace } = cassandraNames
    files[`clusters/${region}/root.yaml`] = argoApplication('root', url, `clusters/${region}`, 'argocd', {})
    files[`clusters/${region}/databases.yaml`] = argoApplication('databases', url, `databases/${region}`, namespace, {})
  }
  return files
}

function withoutDeliverer(recipient: string, regions: readonly string[], replicas: number): Record<string, string> {
  const files: Record<string, string> = {
    'README.md': '# Fleet\n\nOne Cassandra cluster over several regions.\n',
    '.sops.yaml': `creation_rules:
  - path_regex: ^(trust|databases|rotations)/.*\\.yaml$
    encrypted_regex: ^(ca\\.key|canary|password)$
    mac_only_encrypted: true
    age: ${recipient}
`,
  }
  for (const region of regions) {
    files[`databases/${region}/kustomization.yaml`] = kustomization(['cassandra.yaml'])
    files[`databases/${region}/cassandra.yaml`] = cassandraCluster(region, regions, replicas)
  }
  return files
}

function cassandraCluster(region: string, regions: readonly string[], replicas: number): string {
  const managed = regions.filter(other => other !== region).map(other => ({ domain: `${other}.example.com` }))
  return stringify({
    apiVersion: 'db.ibm.com/v1alpha1',
    kind: 'CassandraCluster',
    metadata: { name: cassandraNames.cluster, namespace: cassandraNames.namespace },
    spec: {
      dcs: [{ name: region, replicas }],
      adminRoleSecretName: 'example-admin-role',
      imagePullSecretName: 'registry',
      ...(managed.length === 0 ? {} : { externalRegions: { managed } }),
      encryption: {
        server: { internodeEncryption: 'all', caTLSSecret: { name: cassandraNames.serverCa } },
        client: { enabled: true, caTLSSecret: { name: cassandraNames.clientCa } },
      },
    },
  })
}
