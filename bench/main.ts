import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { parseArgs } from 'node:util'

import { type Comparison, compare, type Pair } from './compare.js'
import { measure, type Scenario } from './measure.js'
import { newBlock, seed } from './orders.js'
import { openStage, type Stage } from './stage.js'
import { comparisonTable } from './table.js'

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    scale: { type: 'boolean', default: false },
    only: { type: 'string' },
    out: { type: 'string', default: 'reports/bench.json' },
  },
})

/** Durations in milliseconds. Quick ends within 90 s and says roughly; the full run takes some ten minutes. */
const SIZE = options.quick
  ? { rounds: 2, mainMs: 3_000, otherMs: 2_000, shortMs: 1_000, orders: 2_500 }
  : { rounds: 3, mainMs: 8_000, otherMs: 6_000, shortMs: 3_000, orders: 8_000 }
/** The gateway takes 20 ms: enough for many syncs under way at once, as in life. */
const LATENCY_MS = 20
const CONNECTIONS = 96

const WAIT = {
  name: 'nothing to repair, WeChat',
  block: newBlock('N', 'wechat_pay', SIZE.orders),
  isConsuming: false,
  codes: ['0'],
} as const satisfies Scenario
const SCENARIOS: readonly Scenario[] = [
  { ...WAIT, name: 'settle, WeChat', block: newBlock('P', 'wechat_pay', SIZE.orders), isConsuming: true },
  { ...WAIT, name: 'timeout-close, WeChat', block: newBlock('X', 'wechat_pay', SIZE.orders / 2), isConsuming: true },
  { ...WAIT, name: 'nothing to repair, Alipay', block: newBlock('N', 'ali_pay', SIZE.orders) },
  { ...WAIT, name: 'settle, Alipay', block: newBlock('P', 'ali_pay', SIZE.orders), isConsuming: true },
]
const STORM: Scenario = {
  name: 'storm on one order (10007)',
  block: newBlock('S', 'wechat_pay', 1),
  isConsuming: false,
  codes: ['0', '10007'],
}
const FORGED: Scenario = { ...WAIT, name: 'bad signatures', isForged: true, codes: ['20000'] }

const stage = await openStage()
try {
  const startedMs = performance.now()
  for (const { block } of [WAIT, ...SCENARIOS, STORM]) await seed(stage.pool, block)
  await stage.pool.query('ANALYZE')
  const pair: Pair = { baseline: await stage.start('baseline'), service: await stage.start('service') }
  const comparisons = await compareAll(stage, pair)
  console.log(comparisonTable(comparisons))
  const machine = { cpus: cpus().length, model: cpus()[0]?.model, memoryGib: Math.round(totalmem() / 2 ** 30) }
  mkdirSync('reports', { recursive: true })
  writeFileSync(options.out, JSON.stringify({ machine, node: process.version, comparisons }, null, 2))
  console.log(`\n${Math.round((performance.now() - startedMs) / 1000)} s; every run in ${options.out}`)
} finally {
  await stage.close()
}

async function compareAll(stage: Stage, pair: Pair): Promise<Comparison[]> {
  const saturation = { connections: CONNECTIONS, ratePerS: null, latencyMs: LATENCY_MS, rounds: SIZE.rounds }
  const done: Comparison[] = []
  for (const target of [pair.baseline, pair.service])
    await measure(stage, [target], WAIT, { ...saturation, durationMs: SIZE.otherMs })
  const chosen = (scenario: Scenario) => options.only === undefined || scenario.name.includes(options.only)
  done.push(await compare(stage, pair, WAIT, { ...saturation, durationMs: SIZE.mainMs }))
  const half = Math.floor((done[0]?.metrics['throughput /s'].service.median ?? 0) / 2)
  const halfLoad = { ...saturation, ratePerS: half, durationMs: SIZE.mainMs }
  done.push(await compare(stage, pair, WAIT, halfLoad))
  for (const scenario of SCENARIOS.filter(chosen))
    done.push(await compare(stage, pair, scenario, { ...saturation, durationMs: SIZE.otherMs }))
  for (const scenario of [STORM, FORGED].filter(chosen))
    done.push(await compare(stage, pair, scenario, { ...saturation, durationMs: SIZE.shortMs }))
  return done
}
