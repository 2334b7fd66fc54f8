import { createRateLimit } from '../rate-limit.js'

/** Wrong tokens from one address at once, and then one in 6 s. Operators mistype; guessing needs far more. */
const BURST = 10
const RATE_PER_S = 1 / 6

/** Counts wrong tokens by address. `now` is a clock that only goes forward, in milliseconds. */
export function createFailures(now: () => number) {
  const { take, waitS, size } = createRateLimit({ ratePerS: RATE_PER_S, burst: BURST, monotonicMs: now })
  return {
    /** Seconds until this address may try again; 0 where it may now. */
    waitS,
    failed: (address: string): void => void take(address),
    size,
  }
}
