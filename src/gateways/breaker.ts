import { BrokenCircuitError, CircuitState, circuitBreaker, handleWhenResult, SamplingBreaker } from 'cockatiel'

import { hasPassed } from '../elapsed.js'
import type { GatewayAvailability } from './gateway.js'

/** It opens where more than half of at least 30 calls in 10 s were faults, and probes after 5 s. */
const WINDOW_MS = 10_000
const FAULT_PART = 0.5
const CALLS_PER_S_MIN = 3
const PROBE_AFTER_MS = 5_000
/** After the gateway asked to slow down: as long as after it broke down. Milliseconds. */
const SLOW_MS = 5_000
/** A clock that went back by more than this was set; less is a clock that is being trimmed. Milliseconds. */
const CLOCK_STEP_MS = 1_000

/** What one call came to. A fault is the gateway's trouble; a business answer, whatever it says, is none. */
type Ended = Readonly<{ isFault: boolean }>

export type BreakerOptions = Readonly<{
  now: () => number
  /** It opened: who waits for a turn waits in vain. */
  onOpen: () => void
  onState: (state: GatewayAvailability) => void
}>

/** Whether one channel's calls get through: not while its gateway is down, one at a time while that is to be found out. */
export function createBreaker({ now, onOpen, onState }: BreakerOptions) {
  let openedAtMs = 0
  let slowSinceMs = Number.NEGATIVE_INFINITY
  let seenAtMs = now()
  let breaker = begin()

  function begin() {
    const made = circuitBreaker(
      handleWhenResult((ended) => (ended as Ended).isFault),
      {
        halfOpenAfter: PROBE_AFTER_MS,
        breaker: new SamplingBreaker({
          threshold: FAULT_PART,
          duration: WINDOW_MS,
          minimumRps: CALLS_PER_S_MIN,
        }),
      },
    )
    // One that was exchanged still ends with the calls that began with it; it speaks for nobody else.
    made.onBreak(() => {
      if (made !== breaker) return
      openedAtMs = now()
      onOpen()
    })
    made.onStateChange(() => made === breaker && onState(availability()))
    onState('closed')
    return made
  }

  /** Its times are the system clock's: where that is set back, it would stay open for as long as the clock was off. */
  function heedClock(): void {
    const nowMs = now()
    if (nowMs < seenAtMs - CLOCK_STEP_MS) breaker = begin()
    seenAtMs = nowMs
  }

  /** `half_open`: one call at a time may find out whether the gateway is back, or can take more again. */
  function availability(): GatewayAvailability {
    heedClock()
    if (breaker.state === CircuitState.Closed) return hasPassed(SLOW_MS, slowSinceMs, now()) ? 'closed' : 'half_open'
    if (breaker.state === CircuitState.Open && hasPassed(PROBE_AFTER_MS, openedAtMs, now())) return 'half_open'
    return 'open'
  }

  return {
    availability,
    /** Does the work and counts how it ended; null where nothing gets through. */
    async execute<T extends Ended>(work: () => Promise<T>): Promise<T | null> {
      try {
        return await breaker.execute(work)
      } catch (error) {
        if (error instanceof BrokenCircuitError) return null
        throw error
      }
    },
    /** The gateway asked for fewer calls. */
    slowDown(): void {
      slowSinceMs = now()
    },
  }
}
