import { defineConfig } from 'vitest/config'

/** Suites that need more than Node and Git: other people's tools (test/tools), data (test/data, REANCHOR_DATA), or more time (test/rotations). */
export default defineConfig({
  test: {
    // Minutes each: in the whole matrix (REANCHOR_ROTATIONS=all).
    exclude:
      process.env.REANCHOR_ROTATIONS === 'all'
        ? []
        : [
            'test/rotations/cassandra-clients.test.ts',
            'test/rotations/kyma-ways.test.ts',
            'test/rotations/linkerd-clusters.test.ts',
            'test/rotations/linkerd-strategies.test.ts',
            'test/rotations/linkerd-undo.test.ts',
            'test/rotations/linkerd-ways.test.ts',
            'test/rotations/rehearse-faults.test.ts',
            'test/rotations/sealed-secrets.test.ts',
          ],
    include: ['test/tools/**/*.test.ts', 'test/data/**/*.test.ts', 'test/rotations/**/*.test.ts'],
    testTimeout: 300_000,
    hookTimeout: 900_000,
    maxWorkers: 2,
  },
})
