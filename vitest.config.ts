import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: [
      'test/data/**',
      'test/tools/**',
      'test/rotations/**',
      'test/real/**',
      'test/forges/**',
      'test/custody/real/**',
      'test/browser/**',
      'node_modules/**',
    ],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
  },
})
