import { type Spread, spreadOf } from './compare.js'
import { createHistogram } from './histogram.js'
import { runLoad } from './load.js'
import type { RunOptions, Scenario } from './measure.js'
import { outTradeNos, shots } from './orders.js'
import type { Stage, Target } from './stage.js'

/** p99 of others' syncs while something else is asked as often, and of the same syncs alone. */
export type Beside = Readonly<{ storm: string; ratePerS: number; aloneMs: Spread; besideMs: Spread; ratio: Spread }>

/** Others at `ratePerS`: alone, then with as many storming requests a second of each kind beside them; and so each round. */
export async function compareBeside(
  stage: Stage,
  target: Target,
  { others, storms }: Readonly<{ others: Scenario; storms: readonly Scenario[] }>,
  options: RunOptions & Readonly<{ rounds: number; ratePerS: number }>,
): Promise<readonly Beside[]> {
  const { connections, ratePerS, durationMs, latencyMs, rounds } = options
  const load = async (scenario: Scenario) => {
    const totalUs = createHistogram()
    const next = shots(target.port, scenario.block, { isEndless: true, isForged: scenario.isForged ?? false })
    const onAnswer = (_: unknown, us: number) => totalUs.record(us)
    await runLoad({ port: target.port, connections, ratePerS, durationMs, next, onAnswer })
    return totalUs.quantile(0.99) / 1000
  }
  const alone: number[] = []
  const beside = storms.map((): number[] => [])
  for (let round = 0; round < rounds; round++) {
    await stage.warm(others.block.channel, outTradeNos(others.block))
    await stage.gateway.tell(`latency?ms=${latencyMs}&holds=false`)
    alone.push(await load(others))
    for (const [index, storm] of storms.entries()) {
      const [p99Ms] = await Promise.all([load(others), load(storm)])
      beside[index]?.push(p99Ms)
    }
  }
  return storms.map((storm, index) => {
    const ms = beside[index] ?? []
    const ratio = spreadOf(ms.map((besideMs, round) => besideMs / (alone[round] ?? Number.NaN)))
    return { storm: storm.name, ratePerS, aloneMs: spreadOf(alone), besideMs: spreadOf(ms), ratio }
  })
}
