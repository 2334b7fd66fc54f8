import { isIPv6 } from 'node:net'

/** Addresses remembered at a time; the one unheard of longest is forgotten first. */
const ADDRESSES_MAX = 10_000

export type RateLimitOptions = Readonly<{
  /** What an address may do in a second, over time. */
  ratePerS: number
  /** What it may do at once after a pause. */
  burst: number
  monotonicMs: () => number
}>

/** A token bucket for each address. Memory is bounded; an address that was forgotten starts afresh. */
export function createRateLimit({ ratePerS, burst, monotonicMs }: RateLimitOptions) {
  const buckets = new Map<string, { tokens: number; filledAtMs: number }>()

  function bucketOf(address: string) {
    const key = ownerOf(address)
    const nowMs = monotonicMs()
    const bucket = buckets.get(key) ?? { tokens: burst, filledAtMs: nowMs }
    bucket.tokens = Math.min(burst, bucket.tokens + ((nowMs - bucket.filledAtMs) * ratePerS) / 1000)
    bucket.filledAtMs = nowMs
    buckets.delete(key)
    buckets.set(key, bucket)
    if (buckets.size > ADDRESSES_MAX) buckets.delete(buckets.keys().next().value ?? '')
    return bucket
  }
  const waitS = (tokens: number) => (tokens >= 1 ? 0 : Math.ceil((1 - tokens) / ratePerS))

  return {
    /** Takes one; 0 where there was one to take, else after how many seconds there will be. */
    take(address: string): number {
      const bucket = bucketOf(address)
      const wait = waitS(bucket.tokens)
      if (wait === 0) bucket.tokens -= 1
      return wait
    },
    /** The same without taking. */
    waitS: (address: string): number => waitS(bucketOf(address).tokens),
  }
}

export type RateLimit = ReturnType<typeof createRateLimit>

/** Whoever has one IPv6 address has its whole /64, so that is what counts as one. */
function ownerOf(address: string): string {
  if (!isIPv6(address) || address.startsWith('::ffff:')) return address
  const [head = '', tail] = address.split('%', 1)[0]?.split('::') ?? []
  const groups = head === '' ? [] : head.split(':')
  const rest = tail === undefined || tail === '' ? [] : tail.split(':')
  const zeros = Array.from({ length: 8 - groups.length - rest.length }, () => '0')
  return [...groups, ...zeros, ...rest].slice(0, 4).join(':')
}
