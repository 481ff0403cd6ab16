import { defineConfig } from 'vitest/config'

/** Suites on real and on described forges (test/forges): Gitea is built with Go. `npm run test:forges` runs them. */
export default defineConfig({
  test: {
    include: ['test/forges/**/*.test.ts'],
    // A rotation more of each, one of them for pages that are looked at: with REANCHOR_FORGES=all.
    exclude:
      process.env.REANCHOR_FORGES === 'all'
        ? []
        : ['test/forges/gitea-cassandra.test.ts', 'test/forges/gitea-render.test.ts'],
    globalSetup: ['test/forges/setup.ts'],
    pool: 'forks',
    testTimeout: 300_000,
    hookTimeout: 300_000,
    maxWorkers: 2,
  },
})
