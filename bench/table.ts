import Table from 'cli-table3'

import type { Beside } from './beside.js'
import { type Comparison, METRICS, type Metric, type Spread } from './compare.js'

/** Without colours: tables are pasted into documents. */
export const PLAIN = { head: [], border: [] }

/** One row for each metric of each scenario: both sides, and their ratio with its spread over the rounds. */
export function comparisonTable(comparisons: readonly Comparison[]): string {
  const table = new Table({ head: ['metric', 'service', 'baseline', 'ratio (min to max)'], style: PLAIN })
  for (const comparison of comparisons) {
    table.push([{ colSpan: 4, content: `${comparison.scenario}, ${loadOf(comparison)}` }])
    for (const name of metricsOf(comparison)) {
      const { service, baseline, ratio } = comparison.metrics[name]
      table.push([name, number(service.median), number(baseline.median), spreadText(ratio)])
    }
  }
  return table.toString()
}

/** What a storm costs a request, as a part of a full sync, and what it does to others' p99. */
export function besideTable(beside: readonly Beside[], comparisons: readonly Comparison[]): string {
  const table = new Table({
    head: ['beside others', 'CPU of a full sync', 'others’ p99 alone, ms', 'beside it, ms', 'ratio (min to max)'],
    style: PLAIN,
  })
  const cpuOf = (name: string | undefined) =>
    comparisons.find(({ scenario }) => scenario === name)?.metrics['CPU µs'].service.median ?? Number.NaN
  for (const { storm, ratePerS, aloneMs, besideMs, ratio } of beside)
    table.push([
      `${storm}, ${ratePerS}/s each`,
      number(cpuOf(storm) / cpuOf(comparisons[0]?.scenario)),
      number(aloneMs.median),
      number(besideMs.median),
      spreadText(ratio),
    ])
  return table.toString()
}

/** Latency says nothing at saturation: the queue is as long as the load makes it. */
function metricsOf({ ratePerS }: Comparison): Metric[] {
  const names = Object.keys(METRICS) as Metric[]
  return names.filter((name) => (ratePerS === null ? !name.startsWith('added') : name !== 'throughput /s'))
}

function loadOf({ ratePerS }: Comparison): string {
  return ratePerS === null ? 'at saturation' : `at half of saturation (${ratePerS}/s)`
}

/** A median and the smallest and largest of the rounds; nothing of nothing has no ratio. */
export function spreadText({ median, min, max }: Spread): string {
  return Number.isFinite(median) ? `${number(median)} (${number(min)} to ${number(max)})` : '-'
}

export function number(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)
}
