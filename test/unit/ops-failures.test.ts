import { describe, expect, it } from 'vitest'

import { createFailures } from '../../src/http/ops/failures.js'

describe('wrong tokens', () => {
  it('one address refills by itself, one try each 6 s', () => {
    let now = 0
    const failures = createFailures(() => now)
    for (let count = 0; count < 10; count++) failures.failed('192.0.2.1')
    expect(failures.waitS('192.0.2.1')).toBe(6)
    expect(failures.waitS('192.0.2.2')).toBe(0)
    now = 6_000
    expect(failures.waitS('192.0.2.1')).toBe(0)
    failures.failed('192.0.2.1')
    expect(failures.waitS('192.0.2.1')).toBe(6)
  })

  it('all addresses of one IPv6 network count as one', () => {
    const failures = createFailures(() => 0)
    for (let count = 0; count < 10; count++) failures.failed(`2001:db8::${count.toString(16)}`)
    expect(failures.waitS('2001:db8:0:0:ffff::1')).toBeGreaterThan(0)
    expect(failures.waitS('2001:db8:0:1::1')).toBe(0)
  })

  it('a flood of addresses takes bounded memory', () => {
    const failures = createFailures(() => 0)
    for (let count = 0; count < 50_000; count++)
      failures.failed(`10.${count >> 16}.${(count >> 8) & 255}.${count & 255}`)
    expect(failures.size()).toBe(10_000)
  })
})
