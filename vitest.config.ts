import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/{unit,property,contract,integration,e2e}/**/*.test.ts'],
    exclude: ['test/**/*.long.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    // Bounds on every test; a test that needs longer belongs in test:long.
    testTimeout: 30_000,
    hookTimeout: 60_000,
    pool: 'forks',
    // One more than the two cores: some of the tests wait for deadlines.
    maxWorkers: 3,
    // A process loads the packages once, not for each of its files. What a file makes it closes, so that the next one finds
    // nothing of it.
    isolate: false,
    coverage: { provider: 'v8', include: ['src/**'], exclude: ['src/generated/**'] },
  },
})
