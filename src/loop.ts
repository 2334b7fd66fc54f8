import type { Log } from './log.js'

export type LoopOptions = Readonly<{
  name: string
  /** Does one round; true where there may be more work at once. */
  runOnce: () => Promise<boolean>
  /** The pause after a round that found nothing more, in milliseconds, stretched by up to a fifth. */
  idleMs: number
  /** The pause after a round that threw. Milliseconds. */
  errorMs: number
  /** Ends a pause early: something may be done now that could not be done before. */
  sooner: () => Promise<void>
  log: Log
  random: () => number
}>

/**
 * Repeats `runOnce` until stopped. A round that throws is logged and the loop goes on: one bad moment must not end the
 * work for good. `stop` resolves once the running round is over.
 */
export function startLoop({ name, runOnce, idleMs, errorMs, sooner, log, random }: LoopOptions) {
  let isStopping = false
  let isWatching = false
  let endPause: () => void = () => undefined

  async function pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms * (1 + 0.2 * random()))
      endPause = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  /** One watch at a time: an idle loop must not leave another waiter behind at every pause. */
  function watch(): void {
    if (isWatching) return
    isWatching = true
    void sooner().then(() => {
      isWatching = false
      endPause()
    })
  }

  async function run(): Promise<void> {
    while (!isStopping) {
      try {
        if (await runOnce()) continue
        if (isStopping) return
        watch()
        await pause(idleMs)
      } catch (error) {
        log.error({ event: 'round_failed', loop: name, err: error })
        if (!isStopping) await pause(errorMs)
      }
    }
  }

  const running = run()
  return {
    async stop(): Promise<void> {
      isStopping = true
      endPause()
      await running
    },
  }
}

export type Loop = ReturnType<typeof startLoop>

/** How long work that is over may wait for some more, so that what comes next is fetched for all of it at once. Milliseconds. */
const GATHER_MS = 100

/**
 * A fixed number of places for work that is under way at once. `few`: so many that were freed are worth a look for more
 * work, at once.
 */
export function createPlaces(countMax: number, few: number) {
  const running = new Set<Promise<void>>()
  /** Places that were freed since the last look. */
  let freedCount = 0
  let hasGathered = false
  let onFreed: () => void = () => undefined
  let freed = nextFreed()
  let onRoom: () => void = () => undefined
  let nextRoom: Promise<void> | null = null

  // One promise for all who wait, renewed each time: work that hangs collects no waiters.
  function nextFreed(): Promise<void> {
    return new Promise((resolve) => {
      onFreed = resolve
    })
  }

  function tellRoom(): void {
    if (freedCount >= few || running.size === 0 || (hasGathered && running.size < countMax)) onRoom()
  }

  async function gather(): Promise<void> {
    hasGathered = false
    const timer = setTimeout(() => {
      hasGathered = true
      tellRoom()
    }, GATHER_MS)
    await new Promise<void>((resolve) => {
      onRoom = resolve
      tellRoom()
    })
    clearTimeout(timer)
    nextRoom = null
    freedCount = 0
  }

  return {
    left: () => countMax - running.size,
    isEmpty: () => running.size === 0,
    /** Takes a place until `work` is over; it must not reject. */
    occupy(work: Promise<void>): void {
      const occupied = work.finally(() => {
        running.delete(occupied)
        freedCount += 1
        tellRoom()
        onFreed()
        freed = nextFreed()
      })
      running.add(occupied)
    },
    /** Resolves when the next place becomes free. */
    freed: () => freed,
    /**
     * Resolves when it is worth looking for work again: a few places were freed since the last time, or any is free and a
     * moment has passed.
     */
    async room(): Promise<void> {
      nextRoom ??= gather()
      await nextRoom
    },
    /** Resolves once everything that was under way is over. */
    async empty(): Promise<void> {
      await Promise.allSettled(running)
    },
  }
}
