import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'

import { compareBeside } from './beside.js'
import { type Comparison, compare, type Pair, spreadOf } from './compare.js'
import { measure, type Run, type Scenario } from './measure.js'
import { newBlock, seed } from './orders.js'
import { runScale, scaleText } from './scale.js'
import { openStage, type Stage, type Target } from './stage.js'
import { besideTable, comparisonTable, number, spreadText } from './table.js'

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    scale: { type: 'boolean', default: false },
    /** Orders per table, for a look at --scale that does not take minutes. */
    sizes: { type: 'string', default: '10000,1000000,5000000' },
    /** Syncs in a row, with a look at memory after each twentieth part: --steady 200000. */
    steady: { type: 'string' },
    instances: { type: 'boolean', default: false },
    only: { type: 'string' },
    out: { type: 'string', default: 'reports/bench.json' },
  },
})

/**
 * Durations in milliseconds. Quick ends within 90 s and says roughly; the full run takes thirteen minutes. A p99 takes more
 * and longer rounds than the rest: in eight seconds at some 170 a second, one stall of the disk would be all of it.
 */
const SIZE = options.quick
  ? {
      rounds: 2,
      warmMs: 5_000,
      mainMs: 2_500,
      otherMs: 1_500,
      shortMs: 1_000,
      p99Rounds: 2,
      p99Ms: 2_000,
      orders: 2_500,
    }
  : {
      rounds: 3,
      warmMs: 30_000,
      mainMs: 8_000,
      otherMs: 6_000,
      shortMs: 3_000,
      p99Rounds: 5,
      p99Ms: 15_000,
      orders: 8_000,
    }
/** The gateway takes 20 ms: enough for many syncs under way at once, as in life. */
const LATENCY_MS = 20
const CONNECTIONS = 96
const STEADY_PARTS = 20

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

const saturation = { connections: CONNECTIONS, ratePerS: null, latencyMs: LATENCY_MS, rounds: SIZE.rounds }
const stage = await openStage()
try {
  const startedMs = performance.now()
  const results = await chosenBench()
  const machine = { cpus: cpus().length, model: cpus()[0]?.model, memoryGib: Math.round(totalmem() / 2 ** 30) }
  mkdirSync(path.dirname(options.out), { recursive: true })
  writeFileSync(options.out, JSON.stringify({ machine, node: process.version, ...results }, null, 2))
  console.log(`\n${Math.round((performance.now() - startedMs) / 1000)} s; every run in ${options.out}`)
} finally {
  await stage.close()
}

async function chosenBench(): Promise<object> {
  if (options.scale) {
    const sizes = await runScale(stage, options.sizes.split(',').map(Number), {
      ...saturation,
      durationMs: SIZE.otherMs,
      warmMs: SIZE.warmMs,
    })
    console.log(scaleText(sizes))
    return { sizes }
  }
  for (const { block } of [WAIT, ...SCENARIOS, STORM]) await seed(stage.pool, block)
  // Tables that are still empty stay uncounted, as those of a new database are.
  await stage.pool.query('ANALYZE orders')
  if (options.steady !== undefined) return await steadyBench(Number(options.steady))
  if (options.instances) return await instancesBench()
  const pair: Pair = { baseline: await stage.start('baseline'), service: await stage.start('service') }
  const readyMs = { service: pair.service.readyMs, baseline: pair.baseline.readyMs }
  const comparisons = await compareAll(stage, pair)
  const half = comparisons.find(({ ratePerS }) => ratePerS !== null)?.ratePerS ?? 0
  const beside = await compareBeside(
    stage,
    pair.service,
    { others: WAIT, storms: [STORM, FORGED] },
    {
      ...saturation,
      ratePerS: half,
      rounds: SIZE.p99Rounds,
      durationMs: SIZE.p99Ms,
    },
  )
  console.log(comparisonTable(comparisons))
  console.log(besideTable(beside, comparisons))
  console.log(
    `Start to ready: ${number(readyMs.service)} ms. The service writes its log, at its default level, to a file; the`,
  )
  console.log('baseline writes none, checks no amount or identity, and bounds, retries and counts nothing.')
  return { readyMs, comparisons, beside }
}

async function compareAll(stage: Stage, pair: Pair): Promise<Comparison[]> {
  const done: Comparison[] = []
  // What is compiled for the first thousands of requests is no part of a sync's cost.
  for (const target of [pair.baseline, pair.service])
    await measure(stage, [target], WAIT, { ...saturation, durationMs: SIZE.warmMs })
  const chosen = (scenario: Scenario) => options.only === undefined || scenario.name.includes(options.only)
  done.push(await compare(stage, pair, WAIT, { ...saturation, durationMs: SIZE.mainMs }))
  const half = Math.floor((done[0]?.metrics['throughput /s'].service.median ?? 0) / 2)
  const halfLoad = { ...saturation, ratePerS: half, rounds: SIZE.p99Rounds, durationMs: SIZE.p99Ms }
  done.push(await compare(stage, pair, WAIT, halfLoad))
  for (const scenario of SCENARIOS.filter(chosen))
    done.push(await compare(stage, pair, scenario, { ...saturation, durationMs: SIZE.otherMs }))
  for (const scenario of [STORM, FORGED].filter(chosen))
    done.push(await compare(stage, pair, scenario, { ...saturation, durationMs: SIZE.shortMs }))
  return done
}

/** Memory over many syncs: what is kept for each would show as a slope. */
async function steadyBench(syncs: number): Promise<object> {
  const service = await stage.start('service')
  const runs: Run[] = []
  let done = 0
  while (done < syncs) {
    // A part is as many seconds as it takes at the pace of the last one.
    const paceS = syncs / STEADY_PARTS / (runs.at(-1)?.throughputPerS ?? 500)
    const run = await measure(stage, [service], WAIT, { ...saturation, durationMs: paceS * 1000 })
    done += run.answered
    runs.push(run)
    console.log(
      `${done} syncs: ${number(run.rssMib)} MiB, ${number(run.throughputPerS)}/s, ${number(run.cpuUsPerAnswer)} µs`,
    )
  }
  const later = runs.slice(Math.floor(runs.length / 4))
  const slope = slopeOf(later.map(({ rssMib }) => rssMib)) * STEADY_PARTS
  console.log(`slope of the last three quarters: ${number(slope)} MiB over ${syncs} syncs`)
  return { slopeMib: slope, runs }
}

/** Of a line through the values, by least squares; per step. */
function slopeOf(values: readonly number[]): number {
  const middle = (values.length - 1) / 2
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  const above = values.reduce((sum, value, step) => sum + (step - middle) * (value - mean), 0)
  return above / values.reduce((sum, _, step) => sum + (step - middle) ** 2, 0)
}

/** One, two and three processes on one PostgreSQL, in turn. They share this machine's cores with all the rest. */
async function instancesBench(): Promise<object> {
  const first = await stage.start('service')
  const all: [Target, ...Target[]] = [first, await stage.start('service'), await stage.start('service')]
  const groups = [1, 2, 3].map((count): [Target, ...Target[]] => [first, ...all.slice(1, count)])
  const runs = groups.map((): Run[] => [])
  for (let round = -1; round < SIZE.rounds; round++)
    for (const [index, group] of groups.entries()) {
      const run = await measure(stage, group, WAIT, { ...saturation, durationMs: SIZE.otherMs })
      if (round >= 0) runs[index]?.push(run)
    }
  for (const [index, group] of runs.entries()) {
    const told = (of: (run: Run) => number) => spreadText(spreadOf(group.map(of)))
    const [rate, cpu, database] = [
      told((run) => run.throughputPerS),
      told((run) => run.cpuUsPerAnswer),
      told((run) => run.databaseCpuUsPerAnswer),
    ]
    console.log(`${index + 1} instance(s): ${rate}/s, CPU ${cpu} µs per sync, database ${database} µs`)
  }
  return { instances: runs }
}
