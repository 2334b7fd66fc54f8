import type { OrderId } from '../domain/order.js'
import type { GatewayAvailability } from '../gateways/gateway.js'
import type { Log } from '../log.js'
import type { BatchClaim, Batches, BatchItem, FinishedItem } from '../store/batches.js'
import { AGAIN_DELAY_S, createBatchItem } from './batch-item.js'
import type { SyncOrder } from './sync-order.js'

export type BatchRunnerDeps = Readonly<{
  batches: Batches
  syncOrder: SyncOrder
  /** The channels that can be asked, and whether calls get through to each. */
  gateways: Readonly<Record<string, Readonly<{ availability: () => GatewayAvailability }>>>
  /** Syncs of one batch at once. */
  concurrency: number
  log: Log
  monotonicMs: () => number
}>

/**
 * Batches that one process runs at once; others wait for it or for another process. One that can do nothing, since its
 * gateway is down or not configured here or all that is left was put off, makes place for them.
 */
const RUNS_MAX = 4
/** Between two looks at a batch: results are written, the claim is renewed, a cancellation is seen. Milliseconds. */
const TICK_MS = 200

type Run = {
  readonly claim: BatchClaim
  readonly running: Set<Promise<void>>
  finished: FinishedItem[]
  /** To be asked for again. */
  postponed: OrderId[]
  /** Syncs that may start now; grows with time by the batch's rate, up to one second's worth. */
  allowance: number
  atMs: number
  /** Some of its orders were asked for. */
  hasBegun: boolean
  /** At the last look nothing was under way, and nothing could be asked for. */
  isIdle: boolean
}

/**
 * Runs operators' batches through the same door as everybody else. Progress is in the database: killed anywhere, another
 * runner goes on once the claim has run out, and finds by each item's trace id what had been committed.
 */
export function createBatchRunner(deps: BatchRunnerDeps) {
  const { batches, log } = deps
  const syncItem = createBatchItem(deps)
  const runs = new Map<bigint, Run>()
  /** Batches are claimed in turn, from here on, so that those which make place for each other keep nobody out. */
  let lastClaimedId = 0n

  /** One look at everything. True where a batch is under way. */
  async function runOnce(): Promise<boolean> {
    await admit()
    for (const run of runs.values()) await tick(run)
    if (runs.size === 0) return false
    await new Promise((resolve) => setTimeout(resolve, TICK_MS))
    return true
  }

  /** Claims one more batch where there is a place, or where one that idles gives its own: that which was claimed first. */
  async function admit(): Promise<void> {
    const idle = [...runs.values()].find(({ isIdle }) => isIdle)
    if (runs.size >= RUNS_MAX && idle === undefined) return
    const claim = await batches.claim(lastClaimedId)
    if (claim === null) return
    lastClaimedId = claim.batch.id
    runs.set(claim.batch.id, {
      claim,
      running: new Set(),
      finished: [],
      postponed: [],
      allowance: 1,
      atMs: deps.monotonicMs(),
      hasBegun: false,
      isIdle: false,
    })
    if (runs.size <= RUNS_MAX || idle === undefined) return
    runs.delete(idle.claim.batch.id)
    await batches.release(idle.claim)
  }

  async function tick(run: Run): Promise<void> {
    const state = await flush(run)
    if (state === 'running') {
      await start(run)
      if (run.running.size > 0 || run.finished.length > 0) return
      if (!(await batches.finishIfDone(run.claim))) return
      log.info({ event: 'batch_done', traceId: run.claim.batch.traceId, batchId: run.claim.batch.id.toString() })
      runs.delete(run.claim.batch.id)
    } else if (state === null) {
      // Somebody else runs it now. What is under way here ends, and they find it by its trace id.
      runs.delete(run.claim.batch.id)
    } else if (isQuiet(run)) {
      await batches.release(run.claim)
      runs.delete(run.claim.batch.id)
    }
  }

  /** Writes what was finished or put off since the last look. Where that fails, it is written at the next one. */
  async function flush(run: Run) {
    const finished = run.finished.slice()
    const postponed = run.postponed.slice()
    const state = await batches.renew(run.claim, finished, postponed, AGAIN_DELAY_S)
    run.finished.splice(0, finished.length)
    run.postponed.splice(0, postponed.length)
    return state
  }

  /** Where the database is away, the claim runs out by itself, and the results are found again by their trace ids. */
  async function leave(run: Run): Promise<void> {
    await Promise.allSettled(run.running)
    try {
      await flush(run)
      await batches.release(run.claim)
    } catch (error) {
      log.error({ event: 'batch_not_released', batchId: run.claim.batch.id.toString(), err: error })
    }
  }

  async function start(run: Run): Promise<void> {
    const { ratePerS } = run.claim.batch
    const nowMs = deps.monotonicMs()
    run.allowance = Math.min(ratePerS, run.allowance + ((nowMs - run.atMs) / 1000) * ratePerS)
    run.atMs = nowMs
    run.isIdle = false
    const room = Math.min(deps.concurrency - run.running.size, Math.floor(run.allowance))
    // While a gateway is known to be down its orders wait; burning through them would learn nothing.
    const open = Object.keys(deps.gateways).filter((channel) => deps.gateways[channel]?.availability() === 'closed')
    const probed = Object.keys(deps.gateways).filter(
      (channel) => deps.gateways[channel]?.availability() === 'half_open',
    )
    if (room < 1) return
    const items = open.length > 0 ? await batches.take(run.claim, open, room) : []
    if (probed.length > 0 && run.running.size === 0) items.push(...(await batches.take(run.claim, probed, 1)))
    run.allowance -= items.length
    run.isIdle = items.length === 0 && isQuiet(run)
    if (items.length > 0) tellBegun(run)
    for (const item of items) {
      const worked: Promise<void> = work(run, item).finally(() => run.running.delete(worked))
      run.running.add(worked)
    }
  }

  /** Not when it is claimed: a batch that can do nothing may be claimed again and again. */
  function tellBegun(run: Run): void {
    if (run.hasBegun) return
    run.hasBegun = true
    const { traceId, id } = run.claim.batch
    log.info({ event: 'batch_claimed', traceId, batchId: id.toString() })
  }

  async function work(run: Run, item: BatchItem): Promise<void> {
    const result = await syncItem(run.claim.batch, item)
    if (result === null) run.postponed.push(item.orderId)
    else run.finished.push({ orderId: item.orderId, result })
  }

  return {
    runOnce,
    /** Lets what is under way end, writes its results, and leaves the rest to others. */
    async drain(): Promise<void> {
      for (const run of runs.values()) await leave(run)
      runs.clear()
    },
  }
}

export type BatchRunner = ReturnType<typeof createBatchRunner>

/** Nothing is under way, and all that was is written. */
function isQuiet({ running, finished, postponed }: Run): boolean {
  return running.size === 0 && finished.length === 0 && postponed.length === 0
}
