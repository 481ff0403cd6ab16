import { demoCluster } from '../../../src/rehearsal/cassandra/fleet.ts'
import type { StoredObject } from '../../../src/rehearsal/objects.ts'
import { type TestWorld, type TestWorldOptions, testWorld } from '../../rotations/world.ts'

export interface CassandraTestWorld extends Omit<TestWorld, 'secret'> {
  /** Values of the CA Secret in a region. */
  secret(site: string): Readonly<Record<string, string>>
  annotations(site: string): Readonly<Record<string, string>>
  pods(site: string): readonly StoredObject[]
}

/** A fleet with a Cassandra cluster over rehearsal regions, and a declared rotation `first`, ready for `plan`. */
export async function cassandraWorld(options: Omit<TestWorldOptions, 'system'> = {}): Promise<CassandraTestWorld> {
  const test = await testWorld({ ...options, system: 'cassandra' })
  const { namespace, secret } = demoCluster
  return {
    ...test,
    secret: site => test.secret(site, namespace, secret),
    annotations: site => test.store(site).get('', 'Secret', namespace, secret)?.metadata.annotations ?? {},
    pods: site =>
      test
        .store(site)
        .list('', 'Pod', namespace)
        .filter(pod => pod.metadata.labels?.['cassandra-cluster-component'] === 'cassandra'),
  }
}
