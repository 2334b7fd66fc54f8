import { monitorEventLoopDelay } from 'node:perf_hooks'

/** How often the signs of too much work are read. Milliseconds. */
const SAMPLE_MS = 250
/** One reading may be a start, a burst or a garbage collection; this many in a row (2 s) are too much work. */
const SAMPLES_IN_A_ROW = 8
/**
 * A timer of the event loop comes late by this much, on average. A request waits many times as long. On a machine that is
 * merely busy with other things it is less: merchants call in the middle of an incident, and refusing them is a last
 * resort. Milliseconds.
 */
const LOOP_DELAY_MS_MAX = 500
/**
 * Who asks for a connection to the database now would wait this long at the present pace; after 3 s it would fail.
 * Milliseconds.
 */
const POOL_WAIT_MS_MAX = 2_000

export type PoolLoad = Readonly<{
  /** Callers that wait for a connection now. */
  waiting: number
  /** Connections handed out since the start. */
  handedOut: number
}>

export type Overload = 'event_loop' | 'database_pool'

/**
 * Watches for more work than this process can do in time. Refusing early keeps the answers to the others quick, and it
 * costs nothing: the order waits, and the sweeper comes by anyway.
 */
export function watchLoad(poolLoad: () => PoolLoad) {
  const delay = monitorEventLoopDelay({ resolution: 20 })
  delay.enable()
  let handedOutBefore = poolLoad().handedOut
  let inARow = 0
  let overload: Overload | null = null
  const timer = setInterval(() => {
    const { waiting, handedOut } = poolLoad()
    const found = overloadIn({ loopDelayMs: delay.mean / 1e6, waiting, handedOut: handedOut - handedOutBefore })
    delay.reset()
    handedOutBefore = handedOut
    inARow = found === null ? 0 : inARow + 1
    overload = inARow >= SAMPLES_IN_A_ROW ? found : null
  }, SAMPLE_MS)
  timer.unref()
  return {
    /** What there is too much of now; null where there is room. */
    overload: (): Overload | null => overload,
    stop(): void {
      clearInterval(timer)
      delay.disable()
    },
  }
}

export type LoadWatch = ReturnType<typeof watchLoad>

/** One reading, over `SAMPLE_MS`. */
export function overloadIn(
  sample: Readonly<{ loopDelayMs: number; waiting: number; handedOut: number }>,
): Overload | null {
  if (sample.loopDelayMs > LOOP_DELAY_MS_MAX) return 'event_loop'
  if (sample.waiting === 0) return null
  const waitMs = sample.handedOut === 0 ? Number.POSITIVE_INFINITY : (sample.waiting / sample.handedOut) * SAMPLE_MS
  return waitMs > POOL_WAIT_MS_MAX ? 'database_pool' : null
}
