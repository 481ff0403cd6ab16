import { deliverersAt, mentions, question, type SiteAnswer } from '../../declaration/init.ts'
import { groupOf, parsedFile } from '../../gitops/manifests.ts'
import { at, list, text } from '../../verify/values.ts'
import type { InitPart, InitScene, Outcome } from '../init.ts'
import type { CassandraCa } from './model.ts'

interface FoundCluster {
  readonly file: string
  readonly name: string
  readonly namespace: string
  /** CAs of which the operator signs nodes. */
  readonly cas: readonly CassandraCa[]
  /** How many regions other operators look after. */
  readonly managedRegions: number
  readonly unmanagedRegions: number
}

/** Which CassandraCluster each region has, as the repository tells it. */
export function initCassandra(scene: InitScene): InitPart {
  const { answers } = scene
  const found = clustersIn(scene)
  const sites = answers.sites.map(site => clusterOf(scene, site, found))
  return {
    sites,
    sealedFile: 'ca-secret.yaml',
    // The operator restarts nodes itself, and reanchor restarts no one else.
    restartsWorkloads: false,
    finish() {
      const clusters = answers.sites.map(({ name }, index) => {
        const outcome = sites[index]
        if (outcome === undefined || 'ask' in outcome) throw new Error(`the CassandraCluster of ${name} is still open`)
        return { site: name, cluster: outcome.value }
      })
      const [first] = clusters
      if (first === undefined) throw new Error('init asked for no site')
      const { name, namespace } = first.cluster
      const remarks = clusters
        .filter(({ cluster }) => cluster.name !== name)
        .map(
          ({ site, cluster }) =>
            `${site}: its CassandraCluster is ${cluster.name}, and that of ${first.site} is ${name}: regions of one cluster have one name`,
        )
      const cas = first.cluster.cas
      const ca: CassandraCa = cas.includes('server') || cas.length === 0 ? 'server' : 'client'
      const notes: (readonly [string, string])[] = [['spec.cassandra.cluster', `Found in ${first.cluster.file}.`]]
      if (cas.length > 1)
        notes.push([
          'spec.cassandra.ca',
          'Clients connect by TLS too: their CA is a rotation of its own, after this one.',
        ])
      if (ca === 'client') remarks.push('declare your CQL clients under gates.attest: no API shows what they trust')
      for (const { site, cluster } of clusters) {
        if (cluster.managedRegions + 1 !== clusters.length)
          remarks.push(
            `${site}: its CassandraCluster has ${cluster.managedRegions + 1} regions with an operator, and ${clusters.length} ${clusters.length === 1 ? 'is' : 'are'} declared: \`plan\` takes all of them or none`,
          )
        if (cluster.unmanagedRegions > 0)
          remarks.push(
            `${site}: declare its unmanaged regions under gates.attest: no operator restarts their nodes, so a person says when they trust and present the new CA`,
          )
      }
      const namespaces = Object.fromEntries(
        clusters.filter(each => each.cluster.namespace !== namespace).map(each => [each.site, each.cluster.namespace]),
      )
      return {
        part: { system: 'cassandra', cassandra: { cluster: name, namespace, namespaces, ca } },
        notes,
        remarks,
        wired: {},
      }
    },
  }
}

function clustersIn({ files }: InitScene): readonly FoundCluster[] {
  const found: FoundCluster[] = []
  for (const [file, content] of files) {
    if (!/\.ya?ml$/.test(file) || !content.includes('kind: CassandraCluster')) continue
    for (const { value } of parsedFile(files, file)?.documents ?? []) {
      if (text(at(value, 'kind')) !== 'CassandraCluster') continue
      if (groupOf(text(at(value, 'apiVersion')) ?? '') !== 'db.ibm.com') continue
      const encryption = at(value, 'spec', 'encryption')
      const internode = text(at(encryption, 'server', 'internodeEncryption')) ?? 'none'
      // Of what the user brings no CA of the operator signs anything.
      const brought = (ca: CassandraCa): boolean => (text(at(encryption, ca, 'nodeTLSSecret', 'name')) ?? '') !== ''
      found.push({
        file,
        name: text(at(value, 'metadata', 'name')) ?? '',
        namespace: text(at(value, 'metadata', 'namespace')) ?? 'default',
        cas: [
          ...(internode === 'none' ? [] : (['server'] as const)),
          ...(at(encryption, 'client', 'enabled') === true ? (['client'] as const) : []),
        ].filter(ca => !brought(ca)),
        managedRegions: list(at(value, 'spec', 'externalRegions', 'managed')).length,
        unmanagedRegions: list(at(value, 'spec', 'externalRegions', 'unmanaged')).length,
      })
    }
  }
  return found
}

function clusterOf(scene: InitScene, site: SiteAnswer, found: readonly FoundCluster[]): Outcome<FoundCluster> {
  const { answers, findings } = scene
  const said = site.controlPlane
  const deliverers = [
    ...deliverersAt(findings.kustomizations, site, answers.sites),
    ...deliverersAt(findings.applications, site, answers.sites),
  ]
  const candidates = found.filter(cluster => {
    if (said !== null) return cluster.file === said.file && (said.name === null || cluster.name === said.name)
    if (answers.sites.length === 1) return true
    return mentions(cluster.file, site.name) || deliverers.some(each => each.files.has(cluster.file))
  })
  const own = candidates.filter(cluster => mentions(cluster.file, site.name))
  const cluster = candidates.length === 1 ? candidates[0] : own.length === 1 ? own[0] : undefined
  if (cluster !== undefined) return { value: cluster, note: null }
  return question(
    `--control-plane ${site.name}=FILE`,
    `Which file declares the CassandraCluster of ${site.name}?`,
    candidates.length === 0
      ? `no CassandraCluster was found for ${site.name}`
      : `more than one CassandraCluster was found for ${site.name}`,
    candidates.map(each => `${each.file}#${each.name}`),
    'controlPlane',
    site.name,
  )
}
