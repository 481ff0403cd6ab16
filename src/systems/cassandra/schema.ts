import * as z from 'zod'
import { kubernetesName, namespaceName } from '../../declaration/fields.ts'

/** The form of `spec.cassandra`. */
export const cassandraSchema = z
  .strictObject({
    cluster: kubernetesName(
      'the name of a CassandraCluster',
      'metadata.name of the CassandraCluster, which is the same in every region.',
      'example',
    ),
    namespace: namespaceName('Namespace of the CassandraCluster.', 'cassandra'),
    namespaces: z
      .record(z.string(), namespaceName('Namespace of the CassandraCluster in this region.', 'cassandra-us'))
      .optional()
      .meta({
        title: 'namespaces by site',
        description: 'Regions that have the CassandraCluster in another namespace, by site.',
        examples: [{ 'us-1': 'cassandra-us' }],
      }),
    ca: z
      .enum(['server', 'client'])
      .default('server')
      .meta({
        title: 'server or client',
        description:
          'Which of the two CAs is rotated: that of traffic between nodes, or that of CQL clients and JMX. Each is a rotation of its own.',
        examples: ['server'],
      }),
  })
  .meta({
    title: 'the settings of Cassandra',
    description:
      'What only a rotation of Cassandra needs. Names of Secrets and keys are read from the CassandraCluster.',
    examples: [{ cluster: 'example', namespace: 'cassandra' }],
  })
