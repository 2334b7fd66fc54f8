import { measure, type Run, type RunOptions, type Scenario } from './measure.js'
import type { Stage, Target } from './stage.js'

export type Pair = Readonly<{ service: Target; baseline: Target }>
/** The median of the rounds, and the smallest and largest of them. */
export type Spread = Readonly<{ median: number; min: number; max: number }>
export type Metric = keyof typeof METRICS
export type Comparison = Readonly<{
  scenario: string
  load: 'saturation' | 'half of saturation'
  ratePerS: number | null
  runs: Readonly<{ service: readonly Run[]; baseline: readonly Run[] }>
  metrics: Readonly<Record<Metric, Readonly<{ service: Spread; baseline: Spread; ratio: Spread }>>>
}>

/** What is compared of each run, with its unit. */
export const METRICS = {
  'throughput /s': (run: Run) => run.throughputPerS,
  'CPU µs': (run: Run) => run.cpuUsPerAnswer,
  'database CPU µs': (run: Run) => run.databaseCpuUsPerAnswer,
  'SQL statements': (run: Run) => run.statementsPerAnswer,
  'added p50 ms': (run: Run) => run.addedUs.p50 / 1000,
  'added p99 ms': (run: Run) => run.addedUs.p99 / 1000,
  'added p99.9 ms': (run: Run) => run.addedUs.p999 / 1000,
  'RSS MiB': (run: Run) => run.rssMib,
  'loop delay p99 ms': (run: Run) => run.loopDelayP99Ms,
} as const satisfies Record<string, (run: Run) => number>

/**
 * Runs one scenario on both, A B A B, so that what else the machine does meets both alike. Each round gives one ratio.
 */
export async function compare(
  stage: Stage,
  pair: Pair,
  scenario: Scenario,
  options: RunOptions & Readonly<{ rounds: number }>,
): Promise<Comparison> {
  const service: Run[] = []
  const baseline: Run[] = []
  for (let round = 0; round < options.rounds; round++) {
    baseline.push(await measure(stage, [pair.baseline], scenario, options))
    service.push(await measure(stage, [pair.service], scenario, options))
  }
  const metrics = Object.fromEntries(
    Object.entries(METRICS).map(([name, of]) => {
      const [ours, bare] = [service.map(of), baseline.map(of)]
      const ratios = ours.map((value, round) => value / (bare[round] ?? Number.NaN))
      return [name, { service: spreadOf(ours), baseline: spreadOf(bare), ratio: spreadOf(ratios) }]
    }),
  ) as Comparison['metrics']
  return {
    scenario: scenario.name,
    load: options.ratePerS === null ? 'saturation' : 'half of saturation',
    ratePerS: options.ratePerS,
    runs: { service, baseline },
    metrics,
  }
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const upper = sorted[middle] ?? Number.NaN
  const lower = sorted[sorted.length % 2 === 0 ? middle - 1 : middle] ?? upper
  return { median: (lower + upper) / 2, min: sorted[0] ?? Number.NaN, max: sorted.at(-1) ?? Number.NaN }
}
