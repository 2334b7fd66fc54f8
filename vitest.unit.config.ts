import { defineConfig } from 'vitest/config'

/** The tests that need nothing but code: for quick runs and for mutation testing. */
export default defineConfig({ test: { include: ['test/unit/**/*.test.ts'], testTimeout: 30_000 } })
