import { isIPv6 } from 'node:net'

/** An address may be wrong this often at once, and then once per refill. Operators mistype; guessing needs far more. */
const FAILURES_MAX = 10
const REFILL_MS = 6_000
/** Addresses remembered at once; past that the longest silent one is forgotten. About 1 MB. */
const ADDRESSES_MAX = 10_000

type Bucket = { tokens: number; atMs: number }

/** Counts wrong tokens by address, in bounded memory. `now` is a clock that only goes forward, in milliseconds. */
export function createFailures(now: () => number) {
  const buckets = new Map<string, Bucket>()

  function current(address: string): Bucket {
    const bucket = buckets.get(sourceOf(address))
    if (bucket === undefined) return { tokens: FAILURES_MAX, atMs: now() }
    const refilled = bucket.tokens + (now() - bucket.atMs) / REFILL_MS
    return { tokens: Math.min(FAILURES_MAX, refilled), atMs: now() }
  }

  return {
    /** Seconds until this address may try again; 0 where it may now. */
    waitS(address: string): number {
      const { tokens } = current(address)
      return tokens >= 1 ? 0 : Math.ceil(((1 - tokens) * REFILL_MS) / 1000)
    },
    failed(address: string): void {
      const source = sourceOf(address)
      const { tokens, atMs } = current(address)
      // Put at the end: a Map keeps the order of insertion, so its first one has been silent for the longest.
      buckets.delete(source)
      buckets.set(source, { tokens: Math.max(0, tokens - 1), atMs })
      if (buckets.size <= ADDRESSES_MAX) return
      const [oldest] = buckets.keys()
      if (oldest !== undefined) buckets.delete(oldest)
    },
    size: () => buckets.size,
  }
}

export type Failures = ReturnType<typeof createFailures>

/** One customer of an IPv6 provider has a /64 to change addresses in. */
function sourceOf(address: string): string {
  if (!isIPv6(address) || address.startsWith('::ffff:')) return address
  const [head = '', tail = ''] = address.split('::')
  const front = head === '' ? [] : head.split(':')
  const back = tail === '' ? [] : tail.split(':')
  const filled = address.includes('::')
    ? [...front, ...Array<string>(Math.max(0, 8 - front.length - back.length)).fill('0'), ...back]
    : front
  return filled.slice(0, 4).join(':')
}
