import { describe, expect, it } from 'vitest'

import { createRateLimit } from '../../src/http/rate-limit.js'
import { overloadIn } from '../../src/http/shed-load.js'

describe('the rate of an address', () => {
  const at = (clock: { ms: number }) => createRateLimit({ ratePerS: 2, burst: 4, monotonicMs: () => clock.ms })

  it('lets a burst through, then its rate, and says when to come back', () => {
    const clock = { ms: 0 }
    const limit = at(clock)
    expect([1, 2, 3, 4, 5].map(() => limit.take('10.0.0.1'))).toEqual([0, 0, 0, 0, 1])
    clock.ms = 500
    expect([limit.take('10.0.0.1'), limit.take('10.0.0.1')]).toEqual([0, 1])
    clock.ms = 60_000
    expect([1, 2, 3, 4, 5].map(() => limit.take('10.0.0.1'))).toEqual([0, 0, 0, 0, 1])
  })

  it('is each address’s own, and an IPv6 network’s in common', () => {
    const limit = at({ ms: 0 })
    for (const _ of [1, 2, 3, 4]) limit.take('2001:db8::1')
    expect(limit.take('2001:db8:0:0:ffff::9')).toBe(1)
    expect(limit.take('2001:db8:0:1::1')).toBe(0)
    for (const _ of [1, 2, 3, 4]) limit.take('::ffff:10.0.0.1')
    expect(limit.take('::ffff:10.0.0.2')).toBe(0)
  })

  it('is remembered for a bounded number of addresses', () => {
    const limit = at({ ms: 0 })
    for (const _ of [1, 2, 3, 4]) limit.take('10.0.0.1')
    expect(limit.take('10.0.0.1')).toBe(1)
    for (let index = 0; index < 10_000; index++) limit.take(`11.0.${index >> 8}.${index & 255}`)
    expect(limit.take('10.0.0.1')).toBe(0)
  })
})

describe('too much work', () => {
  it.each([
    [{ loopDelayMs: 20, waiting: 0, handedOut: 0 }, null],
    [{ loopDelayMs: 600, waiting: 0, handedOut: 0 }, 'event_loop'],
    // A long queue that moves fast enough is none.
    [{ loopDelayMs: 20, waiting: 900, handedOut: 1000 }, null],
    [{ loopDelayMs: 20, waiting: 900, handedOut: 100 }, 'database_pool'],
    [{ loopDelayMs: 20, waiting: 1, handedOut: 0 }, 'database_pool'],
  ] as const)('%o is %s', (sample, overload) => {
    expect(overloadIn(sample)).toBe(overload)
  })
})
