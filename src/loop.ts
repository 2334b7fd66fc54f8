import type { Log } from './log.js'

export type LoopOptions = Readonly<{
  name: string
  /** Does one round; true where there may be more work at once. */
  runOnce: (signal: AbortSignal) => Promise<boolean>
  /** The pause after a round that found nothing more, in milliseconds, stretched by up to a fifth. */
  idleMs: number
  /** The pause after a round that threw. Milliseconds. */
  errorMs: number
  log: Log
  random: () => number
}>

/**
 * Repeats `runOnce` until stopped. A round that throws is logged and the loop goes on: one bad moment must not end the
 * work for good. `stop` resolves once the running round is over.
 */
export function startLoop({ name, runOnce, idleMs, errorMs, log, random }: LoopOptions) {
  const stopping = new AbortController()

  async function pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(done, ms * (1 + 0.2 * random()))
      function done() {
        clearTimeout(timer)
        stopping.signal.removeEventListener('abort', done)
        resolve()
      }
      stopping.signal.addEventListener('abort', done)
    })
  }

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        const isMore = await runOnce(stopping.signal)
        if (!isMore) await pause(idleMs)
      } catch (error) {
        log.error({ event: 'round_failed', loop: name, err: error })
        await pause(errorMs)
      }
    }
  }

  const running = run()
  return {
    async stop(): Promise<void> {
      stopping.abort()
      await running
    },
  }
}

export type Loop = ReturnType<typeof startLoop>
