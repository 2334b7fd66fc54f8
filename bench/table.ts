import Table from 'cli-table3'

import { type Comparison, METRICS, type Metric } from './compare.js'

/** One row for each metric of each scenario: both sides, and their ratio with its spread over the rounds. */
export function comparisonTable(comparisons: readonly Comparison[]): string {
  const table = new Table({ head: ['scenario', 'metric', 'service', 'baseline', 'ratio (min to max)'] })
  for (const comparison of comparisons) {
    const title = `${comparison.scenario}\n${loadOf(comparison)}`
    for (const name of metricsOf(comparison)) {
      const { service, baseline, ratio } = comparison.metrics[name]
      table.push([
        title,
        name,
        number(service.median),
        number(baseline.median),
        `${ratio.median.toFixed(2)} (${ratio.min.toFixed(2)} to ${ratio.max.toFixed(2)})`,
      ])
    }
  }
  return table.toString()
}

/** Latency says nothing at saturation: the queue is as long as the load makes it. */
function metricsOf({ ratePerS }: Comparison): Metric[] {
  const names = Object.keys(METRICS) as Metric[]
  return names.filter((name) => (ratePerS === null ? !name.startsWith('added') : name !== 'throughput /s'))
}

function loadOf({ ratePerS }: Comparison): string {
  return ratePerS === null ? 'saturation' : `${ratePerS}/s`
}

export function number(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)
}
