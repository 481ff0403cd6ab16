import type { FleetOptions } from '../system.ts'
import { demoCluster } from './fleet.ts'

/** rotation.yaml of the demo: what an engineer writes for its fleet. */
export async function cassandraDeclaration(
  _fleet: unknown,
  { sites, ageRecipient }: FleetOptions,
): Promise<{ readonly path: string; readonly text: string }> {
  const name = 'db-2026'
  return {
    path: `rotations/${name}/rotation.yaml`,
    text: `apiVersion: reanchor.dev/v1alpha1
kind: TrustRotation
metadata:
  name: ${name}
spec:
  system: cassandra
  strategy: graceful
  base: main
  forge: local
  current: {from: cluster}
  next:
    generate: {algorithm: rsa-4096, subject: 'O=${demoCluster.name}-ca-2026', validity: 3650d}
  custody:
    sops: {age: [${ageRecipient}]}
  sites:
${sites
  .map(
    site => `    - name: ${site}
      path: trust/${site}
      cluster: {context: ${site}}
      delivery: {flux: {kustomization: flux-system/trust, file: clusters/${site}/trust.yaml}}
`,
  )
  .join('')}  # One region after the other, with a barrier before each phase.
  rollout: serial
  gates: {hold: 2m}
  cassandra:
    cluster: ${demoCluster.name}
    namespace: ${demoCluster.namespace}
    ca: server
`,
  }
}
