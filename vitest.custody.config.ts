import { defineConfig } from 'vitest/config'

/** Custody with the programs that users have: sops, age, GnuPG, kubeseal, SoftHSM, openssl. `npm run test:custody`. */
export default defineConfig({
  test: {
    include: ['test/custody/real/**/*.test.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    maxWorkers: 2,
  },
})
