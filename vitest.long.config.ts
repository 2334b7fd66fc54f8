import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** These begin first: one that began last would have two cores to itself, and use one of them. */
const LONGEST = ['fuzz', 'histories', 'cardinality', 'incident', 'readme', 'alipay-envelope']
const rankOf = ({ moduleId }: TestSpecification) => {
  const rank = LONGEST.findIndex((name) => moduleId.endsWith(`/${name}.long.test.ts`))
  return rank === -1 ? LONGEST.length : rank
}
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    return files.toSorted((a, b) => rankOf(a) - rankOf(b))
  }
}

/** One core is enough for each of these, or they wait most of the time; none measures how quick something is. */
const TOGETHER = [
  'test/property/**/*.long.test.ts',
  'test/integration/**/*.long.test.ts',
  'test/e2e/{commands-in-container,commands-joined,console-looks,docs,incident,readme,runbook,slow-clients}.long.test.ts',
]

export default defineConfig({
  test: {
    globalSetup: ['test/support/global-setup.ts'],
    testTimeout: 600_000,
    hookTimeout: 120_000,
    pool: 'forks',
    isolate: false,
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        extends: true,
        // Three for two cores, as long as one of them waits.
        test: { name: 'together', include: TOGETHER, maxWorkers: 3, sequence: { groupOrder: 1 } },
      },
      {
        extends: true,
        test: {
          name: 'alone',
          include: ['test/**/*.long.test.ts'],
          exclude: TOGETHER,
          // One file after the other: these load both cores by themselves, or measure.
          maxWorkers: 1,
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
})
