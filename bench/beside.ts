import { type Spread, spreadOf } from './compare.js'
import { createHistogram } from './histogram.js'
import { runLoad } from './load.js'
import type { RunOptions, Scenario } from './measure.js'
import { outTradeNos, shots } from './orders.js'
import type { Stage, Target } from './stage.js'

/** p99 of others' syncs while something else is asked as often, and of the same syncs alone. */
export type Beside = Readonly<{ storm: string; ratePerS: number; aloneMs: Spread; besideMs: Spread; ratio: Spread }>

/** Others at `ratePerS`, alone and with as many storming requests a second beside them, in turn. */
export async function compareBeside(
  stage: Stage,
  target: Target,
  { others, storms }: Readonly<{ others: Scenario; storms: readonly Scenario[] }>,
  options: RunOptions & Readonly<{ rounds: number; ratePerS: number }>,
): Promise<readonly Beside[]> {
  const { connections, ratePerS, durationMs, latencyMs, rounds } = options
  await stage.warm(others.block.channel, outTradeNos(others.block))
  await stage.gateway.tell(`latency?ms=${latencyMs}&holds=false`)
  const load = async (scenario: Scenario) => {
    const totalUs = createHistogram()
    const next = shots(target.port, scenario.block, { isEndless: true, isForged: scenario.isForged ?? false })
    const onAnswer = (_: unknown, us: number) => totalUs.record(us)
    await runLoad({ port: target.port, connections, ratePerS, durationMs, next, onAnswer })
    return totalUs.quantile(0.99) / 1000
  }
  const compared: Beside[] = []
  for (const storm of storms) {
    const alone: number[] = []
    const beside: number[] = []
    for (let round = 0; round < rounds; round++) {
      alone.push(await load(others))
      const [p99Ms] = await Promise.all([load(others), load(storm)])
      beside.push(p99Ms)
    }
    const ratio = spreadOf(beside.map((ms, round) => ms / (alone[round] ?? Number.NaN)))
    compared.push({ storm: storm.name, ratePerS, aloneMs: spreadOf(alone), besideMs: spreadOf(beside), ratio })
  }
  return compared
}
