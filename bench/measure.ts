import { createHistogram } from './histogram.js'
import { type LoadResult, runLoad } from './load.js'
import { type Block, outTradeNos, reset, shots } from './orders.js'
import { cpuUs, rssMib, treeCpuUs } from './process-stats.js'
import type { Stage, Target } from './stage.js'

/** One scenario: which orders, what is asked of them, and what right answers are. */
export type Scenario = Readonly<{
  name: string
  block: Block
  /** Orders are changed by a run and made anew before the next. */
  isConsuming: boolean
  isForged?: boolean
  /** The codes that answers may have; anything else makes the run worthless. */
  codes: readonly string[]
}>

export type Run = Readonly<{
  throughputPerS: number
  cpuUsPerAnswer: number
  databaseCpuUsPerAnswer: number
  gatewayCpuUsPerAnswer: number
  statementsPerAnswer: number
  statements: Readonly<Record<string, number>>
  /** Total minus what the gateway held it for. Microseconds. */
  addedUs: Readonly<{ p50: number; p99: number; p999: number }>
  totalUs: Readonly<{ p50: number; p99: number; p999: number }>
  generatorLateP99Us: number
  rssMib: number
  loopDelayP99Ms: number
  answered: number
  codes: Readonly<Record<string, number>>
}>

export type RunOptions = Readonly<{
  connections: number
  ratePerS: number | null
  durationMs: number
  latencyMs: number
}>

/** Runs one scenario against one process (or several instances of it, in turn) and says what it cost. */
export async function measure(
  stage: Stage,
  targets: readonly [Target, ...Target[]],
  scenario: Scenario,
  options: RunOptions,
): Promise<Run> {
  const { block } = scenario
  const isLatencyRun = options.ratePerS !== null
  if (scenario.isConsuming) await reset(stage.pool, block)
  await stage.gateway.tell('reset')
  if (scenario.isForged !== true) await stage.warm(block.channel, outTradeNos(block))
  await stage.gateway.tell(`latency?ms=${options.latencyMs}&holds=${String(isLatencyRun)}`)
  await Promise.all(targets.map(async (target) => await loopDelayP99Ms(target)))
  await stage.takeStatementCalls()

  const before = usage(stage, targets)
  const totals = new Map<string, number>()
  const loads = await Promise.all(
    partsOf(block, targets.length).map(async (part, index) => {
      const target = targets[index] ?? targets[0]
      return await runLoad({
        port: target.port,
        connections: Math.ceil(options.connections / targets.length),
        ratePerS: options.ratePerS === null ? null : options.ratePerS / targets.length,
        durationMs: options.durationMs,
        next: shots(target.port, part, {
          isEndless: !scenario.isConsuming && !isLatencyRun,
          isForged: scenario.isForged ?? false,
        }),
        onAnswer: (shot, totalUs) => isLatencyRun && totals.set(shot.outTradeNo, totalUs),
      })
    }),
  )
  const after = usage(stage, targets)
  const statements = await stage.takeStatementCalls()
  const holds = (await stage.gateway.tell('holds')) as Readonly<Record<string, number>>
  const load = merged(loads)
  const wrong = whatIsWrong(scenario, load)
  if (wrong !== null) throw new Error(`${wrong}\n${stage.complaints(targets[0].name)}`)
  const per = (used: number) => used / load.answered
  const added = createHistogram()
  for (const [outTradeNo, totalUs] of totals) added.record(totalUs - (holds[outTradeNo] ?? 0))
  return {
    throughputPerS: (load.answered / load.elapsedMs) * 1000,
    cpuUsPerAnswer: per(after.target - before.target),
    databaseCpuUsPerAnswer: per(after.database - before.database),
    gatewayCpuUsPerAnswer: per(after.gateway - before.gateway),
    statementsPerAnswer: per(Object.values(statements).reduce((sum, calls) => sum + calls, 0)),
    statements,
    addedUs: { p50: added.quantile(0.5), p99: added.quantile(0.99), p999: added.quantile(0.999) },
    totalUs: load.totalUs,
    generatorLateP99Us: load.lateP99Us,
    rssMib: Math.max(...targets.map(({ pid }) => rssMib(pid))),
    loopDelayP99Ms: Math.max(...(await Promise.all(targets.map(loopDelayP99Ms)))),
    answered: load.answered,
    codes: load.codes,
  }
}

function usage(stage: Stage, targets: readonly Target[]) {
  return {
    target: targets.reduce((sum, { pid }) => sum + cpuUs(pid), 0),
    database: treeCpuUs(stage.postgresPid),
    gateway: cpuUs(stage.gateway.pid),
  }
}

/** The block in as many neighbouring parts as there are instances. */
function partsOf(block: Block, count: number): Block[] {
  const size = Math.floor(block.count / count)
  if (size === 0) return Array.from({ length: count }, () => block)
  return Array.from({ length: count }, (_, part) => ({
    ...block,
    firstId: block.firstId + BigInt(part * size) * block.step,
    count: size,
  }))
}

function merged(loads: readonly LoadResult[]) {
  const codes: Record<string, number> = {}
  for (const load of loads)
    for (const [code, count] of Object.entries(load.codes)) codes[code] = (codes[code] ?? 0) + count
  const worst = (part: number) => Math.max(...loads.map(({ totalUs }) => totalUs.quantile(part)))
  return {
    codes,
    answered: loads.reduce((sum, { answered }) => sum + answered, 0),
    repaired: loads.reduce((sum, { repaired }) => sum + repaired, 0),
    failed: loads.reduce((sum, { failed }) => sum + failed, 0),
    elapsedMs: Math.max(...loads.map(({ elapsedMs }) => elapsedMs)),
    totalUs: { p50: worst(0.5), p99: worst(0.99), p999: worst(0.999) },
    lateP99Us: Math.max(...loads.map(({ lateUs }) => lateUs.quantile(0.99))),
  }
}

/** A fast wrong answer is worth nothing: the run counts only where every answer is a right one. */
function whatIsWrong(scenario: Scenario, load: ReturnType<typeof merged>): string | null {
  const others = Object.keys(load.codes).filter((code) => !scenario.codes.includes(code))
  const isRepairing = scenario.isConsuming && load.repaired !== load.answered
  if (load.failed === 0 && others.length === 0 && !isRepairing && load.answered > 0) return null
  const told = JSON.stringify({ codes: load.codes, repaired: load.repaired, failed: load.failed })
  return `${scenario.name}: answers that should not be: ${told}`
}

/** The event loop's delay since the last call. The sampling interval of 10 ms is part of it, on both sides. */
async function loopDelayP99Ms({ port }: Target): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  return Number(/^unipay_nodejs_eventloop_lag_p99_seconds ([\d.e+-]+)/m.exec(text)?.[1] ?? 'NaN') * 1000
}
