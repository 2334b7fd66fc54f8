/** 64 steps per power of two: a value is kept to within 1.6 % of itself. */
const STEP_BITS = 6
const STEPS = 2 ** STEP_BITS
/** Up to 2^32 µs, which is over an hour. */
const SIZE = (33 - STEP_BITS) * STEPS

export type Histogram = ReturnType<typeof createHistogram>

/** Durations in whole microseconds, log-linear, in constant memory. */
export function createHistogram() {
  const counts = new Uint32Array(SIZE)
  let total = 0
  let max = 0

  function record(us: number): void {
    const value = Math.max(0, Math.min(2 ** 32 - 1, Math.round(us)))
    const index = indexOf(value)
    counts[index] = (counts[index] ?? 0) + 1
    total += 1
    if (value > max) max = value
  }

  /** The value that `part` (0 to 1) of all recorded ones do not exceed; 0 where nothing was recorded. Microseconds. */
  function quantile(part: number): number {
    let left = Math.ceil(total * part)
    for (let index = 0; index < SIZE; index++) {
      left -= counts[index] ?? 0
      if (left <= 0 && total > 0) return Math.min(upperEnd(index), max)
    }
    return max
  }

  return { record, quantile, count: () => total, max: () => max }
}

function indexOf(value: number): number {
  if (value < STEPS) return value
  const shift = 31 - Math.clz32(value) - STEP_BITS + 1
  return shift * (STEPS / 2) + (value >>> shift)
}

function upperEnd(index: number): number {
  if (index < STEPS) return index
  const shift = Math.floor(index / (STEPS / 2)) - 1
  const step = index - shift * (STEPS / 2)
  return (step + 1) * 2 ** shift - 1
}
