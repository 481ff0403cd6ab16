import { defineConfig } from 'vitest/config'

/** Pages in a real browser (test/browser): they need Debian's chromium, or the one that CHROMIUM names. */
export default defineConfig({
  test: {
    include: ['test/browser/**/*.test.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    maxWorkers: 1,
  },
})
