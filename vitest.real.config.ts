import { defineConfig } from 'vitest/config'

/** Suites on real components (test/real): they need Go, Python, openssl, network namespaces, and REANCHOR_DATA. `npm run test:real` runs them. */
export default defineConfig({
  test: {
    include: ['test/real/**/*.test.ts'],
    globalSetup: ['test/real/rig/setup.ts'],
    testTimeout: 600_000,
    hookTimeout: 300_000,
    // A cluster with real proxies takes both cores.
    fileParallelism: false,
  },
})
