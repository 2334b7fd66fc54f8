import { isIPv6 } from 'node:net'

/** Addresses remembered at a time; the one unheard of longest is forgotten first. About 1 MB. */
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

  function tokensOf(address: string): number {
    const bucket = buckets.get(address)
    if (bucket === undefined) return burst
    return Math.min(burst, bucket.tokens + ((monotonicMs() - bucket.filledAtMs) * ratePerS) / 1000)
  }
  const waitS = (tokens: number) => (tokens >= 1 ? 0 : Math.ceil((1 - tokens) / ratePerS))

  return {
    /** Takes one; 0 where there was one to take, else after how many seconds there will be. */
    take(address: string): number {
      const owner = ownerOf(address)
      const tokens = tokensOf(owner)
      const wait = waitS(tokens)
      // Put at the end: a Map keeps the order of insertion, so its first one is unheard of for the longest.
      buckets.delete(owner)
      buckets.set(owner, { tokens: wait === 0 ? tokens - 1 : tokens, filledAtMs: monotonicMs() })
      if (buckets.size > ADDRESSES_MAX) buckets.delete(buckets.keys().next().value ?? '')
      return wait
    },
    /** The same without taking, and without being remembered for it. */
    waitS: (address: string): number => waitS(tokensOf(ownerOf(address))),
    size: (): number => buckets.size,
  }
}

/** Whoever has one IPv6 address has its whole /64, so that is what counts as one. */
function ownerOf(address: string): string {
  if (!isIPv6(address) || address.startsWith('::ffff:')) return address
  const [head = '', tail] = address.split('%', 1)[0]?.split('::') ?? []
  const groups = head === '' ? [] : head.split(':')
  const rest = tail === undefined || tail === '' ? [] : tail.split(':')
  const zeros = Array.from({ length: 8 - groups.length - rest.length }, () => '0')
  return [...groups, ...zeros, ...rest].slice(0, 4).join(':')
}
