import type { FileTree } from '../../rotation.ts'
import { fleetUrl, fluxBootstrap, fluxKustomization } from '../fleet-delivery.ts'

export interface CassandraFleetOptions {
  /** Regions by the name of their cluster: `eu-1`, `us-1`, … */
  readonly sites: readonly string[]
  /** Age recipient of `.sops.yaml`. */
  readonly ageRecipient: string
  readonly url?: string
  readonly branch?: string
  /** Replicas of each datacenter. @default 3 */
  readonly replicas?: number
  /** `client-ca`: clients connect by TLS too, with a CA of their own. `unmanaged-region`: a region without an operator belongs to the cluster. @default server-ca */
  readonly scenario?: Scenario
}

/** What the demo's CassandraCluster is called, in every region alike. */
export const demoCluster = {
  namespace: 'cassandra',
  name: 'example',
  secret: 'example-cluster-manual-tls-ca',
  clientSecret: 'example-client-manual-tls-ca',
} as const

/** Which CA the demo rotates, and with whom; the usual one first. */
export const scenarios = ['server-ca', 'client-ca', 'unmanaged-region'] as const

export type Scenario = (typeof scenarios)[number]

export function scenarioOf(variant: string | null): Scenario {
  return scenarios.find(each => each === variant) ?? 'server-ca'
}

/** Who connects to the demo's cluster without an API that shows it, and the name under which one person vouches for all of them. */
export const outsidersOf = {
  'client-ca': {
    attested: 'cql-clients',
    names: ['orders', 'billing'],
    why: 'owners of orders and billing have changed their truststores and keystores',
  },
  'unmanaged-region': {
    attested: 'on-premises',
    /** First seeds of the region, as the CassandraCluster names it. */
    names: ['10.20.0.11'],
    why: 'the nodes on our own premises were changed and restarted by hand',
  },
} as const

/**
 * A GitOps repository as an engineer has it before the first rotation: one folder of Flux objects per region, and a CassandraCluster. The CA
 * Secret is not in it: someone made it by hand, with the operator's utils/tls.sh.
 */
export function cassandraFleet(options: CassandraFleetOptions): FileTree {
  const files = new Map<string, string>()
  files.set('README.md', readme(options.sites))
  files.set('.sops.yaml', sopsRules(options.ageRecipient))
  for (const site of options.sites)
    for (const [path, text] of Object.entries(siteFiles(site, options))) files.set(path, text)
  return files
}

/** Domain of a region, as the operators of the others know it. */
function regionDomain(site: string): string {
  return `${site}.cassandra.example.com`
}

function readme(sites: readonly string[]): string {
  return `# Fleet

One Cassandra cluster over these regions: ${sites.join(', ')}. Flux applies \`clusters/<region>\`, which leads to \`databases/<region>\`.
Secrets are sealed with SOPS; the rules are in \`.sops.yaml\`.
`
}

function sopsRules(recipient: string): string {
  return `creation_rules:
  # Everything that Flux applies: private values only, so that reviews stay readable.
  - path_regex: ^(trust|databases|rotations)/.*\\.yaml$
    encrypted_regex: ^(ca\\.key|canary|password)$
    mac_only_encrypted: true
    age: ${recipient}
`
}

function siteFiles(site: string, options: CassandraFleetOptions): Record<string, string> {
  const url = options.url ?? fleetUrl
  const branch = options.branch ?? 'main'
  return {
    ...fluxBootstrap(site, url, branch),
    [`clusters/${site}/databases.yaml`]: fluxKustomization('databases', `./databases/${site}`, 'What stores our data.'),
    [`databases/${site}/kustomization.yaml`]: `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - cassandra.yaml
`,
    [`databases/${site}/cassandra.yaml`]: cassandraCluster(site, options),
  }
}

function cassandraCluster(site: string, options: CassandraFleetOptions): string {
  const others = options.sites.filter(other => other !== site)
  const scenario = options.scenario ?? 'server-ca'
  const managed =
    others.length === 0
      ? ''
      : `    managed:\n${others.map(other => `      - domain: ${regionDomain(other)}\n`).join('')}`
  const regions = `${managed}${scenario === 'unmanaged-region' ? unmanagedRegion : ''}`
  const external = regions === '' ? '' : `  externalRegions:\n${regions}`
  return `# The cluster's part in ${site}. Owned by the storage team.
apiVersion: db.ibm.com/v1alpha1
kind: CassandraCluster
metadata:
  name: ${demoCluster.name}
  namespace: ${demoCluster.namespace}
spec:
  dcs:
    - name: ${site}
      replicas: ${options.replicas ?? 3} # replication factor 3
  adminRoleSecretName: example-admin-role
  imagePullSecretName: registry
${external}  encryption:
    server:
      internodeEncryption: all
      caTLSSecret:
        name: ${demoCluster.secret}
${scenario === 'client-ca' ? clientEncryption : ''}`
}

const clientEncryption = `    client:
      enabled: true
      caTLSSecret:
        name: ${demoCluster.clientSecret}
`

const unmanagedRegion = `    unmanaged:
      - seeds: [${outsidersOf['unmanaged-region'].names[0]}]
        dcs: [{name: on-premises, replicas: 3}]
`
