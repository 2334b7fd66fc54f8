import { defineConfig } from 'vitest/config'

/** One core is enough for each of these, and none of them measures how quick something is. */
const IN_PAIRS = [
  'test/property/**/*.long.test.ts',
  'test/integration/**/*.long.test.ts',
  'test/e2e/{incident,runbook}.long.test.ts',
]

export default defineConfig({
  test: {
    globalSetup: ['test/support/global-setup.ts'],
    testTimeout: 600_000,
    hookTimeout: 120_000,
    pool: 'forks',
    projects: [
      {
        extends: true,
        test: { name: 'in pairs', include: IN_PAIRS, maxWorkers: 2, sequence: { groupOrder: 1 } },
      },
      {
        extends: true,
        test: {
          name: 'alone',
          include: ['test/**/*.long.test.ts'],
          exclude: IN_PAIRS,
          // One file after the other: these load both cores by themselves, or measure.
          maxWorkers: 1,
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
})
