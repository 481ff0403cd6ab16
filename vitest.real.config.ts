import { defineConfig } from 'vitest/config'

const all = process.env.REANCHOR_REAL === 'all'
/** What needs a program that no registry has. */
const byHand = (process.env.REANCHOR_KSOPS ?? '') === '' ? ['test/real/ksops.test.ts'] : []

/** Suites on real components (test/real): they need Go, Python, openssl, network namespaces, and REANCHOR_DATA. `npm run test:real` runs them. */
export default defineConfig({
  test: {
    include: ['test/real/**/*.test.ts'],
    // Minutes each: `npm run test:real -- --all` runs them too.
    exclude: all
      ? byHand
      : [
          'test/real/controls.test.ts',
          'test/real/faults.test.ts',
          'test/real/forge-cassandra-regions.test.ts',
          'test/real/forge-cassandra.test.ts',
          'test/real/forge-clusters.test.ts',
          'test/real/forge-faults.test.ts',
          'test/real/forge-kyma-argocd.test.ts',
          'test/real/forge-kyma.test.ts',
          'test/real/forge-linkerd-argocd.test.ts',
          'test/real/forge-linkerd.test.ts',
          'test/real/gate-jobs.test.ts',
          'test/real/istio-traps.test.ts',
          'test/real/ksops.test.ts',
          'test/real/linkerd-narrow.test.ts',
          'test/real/linkerd-traps.test.ts',
          'test/real/pods.test.ts',
          'test/real/rotation-cassandra.test.ts',
        ],
    globalSetup: ['test/real/rig/setup.ts'],
    // Workers start after the set-up, and trust what it made.
    pool: 'forks',
    testTimeout: 600_000,
    hookTimeout: 300_000,
    // Two rigs at once: one waits while the other works.
    maxWorkers: 2,
  },
})
