import { defineConfig } from 'vitest/config'

/** Suites that need more than Node and Git: other people's tools (test/tools), data (test/data, REANCHOR_DATA), or more time (test/rotations). */
export default defineConfig({
  test: {
    include: ['test/tools/**/*.test.ts', 'test/data/**/*.test.ts', 'test/rotations/**/*.test.ts'],
    testTimeout: 300_000,
    hookTimeout: 900_000,
    maxWorkers: 2,
  },
})
