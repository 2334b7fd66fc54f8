import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'

import { createCaller, type Try } from '../../src/gateways/caller.js'
import type { Deadline } from '../../src/gateways/deadline.js'
import type { CallPriority, Exchange } from '../../src/gateways/gateway.js'
import { createLog, type Log } from '../../src/log.js'

const EXCHANGE: Exchange = { method: 'GET', host: 'h', path: '/', status: 200, durationMs: 1, body: '' }
const DONE: Try<string> = { kind: 'done', value: 'answer', exchange: EXCHANGE }
const unknown = (more: Partial<Extract<Try<never>, { kind: 'unknown' }>> = {}): Try<never> => ({
  kind: 'unknown',
  duty: 'retry',
  reason: 'gateway_error',
  message: 'm',
  again: false,
  isFault: true,
  exchange: EXCHANGE,
  ...more,
})
const by = (priority: CallPriority) => ({ priority, traceId: 't' })

function callerWith(
  options: Partial<{ timeoutMs: number; ratePerS: number; concurrency: number; random: number; log: Log }> = {},
) {
  const waits: number[] = []
  const states: string[] = []
  const outcomes: string[] = []
  const caller = createCaller({
    channel: 'wechat_pay',
    timeoutMs: options.timeoutMs ?? 2_000,
    ratePerS: options.ratePerS ?? 1_000,
    concurrency: options.concurrency ?? 10,
    log: options.log ?? createLog('silent'),
    observer: {
      call: (_channel, operation, outcome) => void outcomes.push(`${operation} ${outcome}`),
      breaker: (_channel, state) => void states.push(state),
      budgetWait: (_channel, seconds) => void waits.push(seconds),
      certificateEnds: () => undefined,
    },
    now: Date.now,
    random: () => options.random ?? 0,
  })
  return { caller, waits, states, outcomes }
}

/** A try that ends when told to. */
function held() {
  const waiting: (() => void)[] = []
  const started: string[] = []
  return {
    started,
    tryOnce: (name: string) => async (): Promise<Try<string>> => {
      started.push(name)
      await new Promise<void>((resolve) => waiting.push(resolve))
      return DONE
    },
    release: async (): Promise<void> => {
      await vi.waitFor(() => expect(waiting.length).toBeGreaterThan(0))
      waiting.shift()?.()
    },
  }
}

describe('the budget', () => {
  it('an operator goes before a merchant, and a merchant before the sweeper', async () => {
    const { caller } = callerWith({ concurrency: 1 })
    const { started, tryOnce, release } = held()
    const first = caller.call('query', by('sweeper'), tryOnce('first'))
    const rest = (['sweeper', 'merchant', 'operator', 'merchant'] as const).map(
      async (priority) => await caller.call('query', by(priority), tryOnce(priority)),
    )
    for (let released = 0; released < 5; released++) await release()
    await Promise.all([first, ...rest])
    expect(started).toEqual(['first', 'operator', 'merchant', 'merchant', 'sweeper'])
  })

  it('never more at once than allowed', async () => {
    const { caller } = callerWith({ concurrency: 3 })
    let running = 0
    let most = 0
    const tryOnce = async (): Promise<Try<string>> => {
      running += 1
      most = Math.max(most, running)
      await new Promise((resolve) => setImmediate(resolve))
      running -= 1
      return DONE
    }
    await Promise.all(Array.from({ length: 30 }, async () => await caller.call('query', by('merchant'), tryOnce)))
    expect(most).toBe(3)
  })

  it('a call whose time passes while it waits ends as unknown, is taken off, and never runs', async () => {
    const { caller, outcomes } = callerWith({ concurrency: 1, timeoutMs: 50 })
    const { started, tryOnce, release } = held()
    const first = caller.call('query', by('merchant'), tryOnce('first'))
    const late = await caller.call('query', by('operator'), tryOnce('late'))
    expect(late).toMatchObject({ kind: 'unknown', duty: 'back_off', reason: 'budget_exhausted', exchanges: [] })
    expect(caller.waiting()).toBe(0)
    await release()
    await first
    expect(started).toEqual(['first'])
    expect(outcomes).toContain('query budget_exhausted')
  })

  it('calls beyond the rate wait for the next second, which counts against their time', async () => {
    const { caller } = callerWith({ ratePerS: 5, timeoutMs: 200 })
    const all = await Promise.all(
      Array.from({ length: 8 }, async () => await caller.call('query', by('merchant'), async () => DONE)),
    )
    expect(all.filter(({ kind }) => kind === 'done')).toHaveLength(5)
    expect(all.filter(({ kind }) => kind === 'unknown')).toHaveLength(3)
  })

  it('every try takes its place in the rate, not only the first of a call', async () => {
    const { caller } = callerWith({ ratePerS: 4, timeoutMs: 900 })
    let requests = 0
    const fails = async () => {
      requests += 1
      return unknown({ again: true })
    }
    const outcomes = await Promise.all([1, 2, 3].map(async () => await caller.call('query', by('merchant'), fails)))
    // Three first tries, and one of the six that would follow within the second.
    expect(requests).toBe(4)
    for (const outcome of outcomes) expect(outcome).toMatchObject({ kind: 'unknown', reason: 'gateway_error' })
    expect(caller.waiting()).toBe(0)
  })

  it('where the gateway asks to slow down, who is not waited for goes one at a time for five seconds', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: 1_800_000_000_000 })
    try {
      const { caller } = callerWith()
      const limited = unknown({ duty: 'back_off', reason: 'rate_limited', isFault: false })
      expect(await caller.call('query', by('sweeper'), async () => limited)).toMatchObject({ reason: 'rate_limited' })
      expect(caller.availability()).toBe('half_open')
      // Whoever waits for an answer is not held up by it.
      expect(await caller.call('query', by('merchant'), async () => DONE)).toMatchObject({ kind: 'done' })
      vi.setSystemTime(Date.now() + 4_999)
      expect(caller.availability()).toBe('half_open')
      vi.setSystemTime(Date.now() + 1)
      expect(caller.availability()).toBe('closed')
    } finally {
      vi.useRealTimers()
    }
  })

  it('the wait is told, in seconds', async () => {
    const { caller, waits } = callerWith()
    await caller.call('query', by('merchant'), async () => DONE)
    expect(waits).toHaveLength(1)
    expect(waits[0]).toBeLessThan(1)
  })
})

describe('what a human must mend', () => {
  it('is an error in the log, once a minute for each reason', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: 1_800_000_000_000 })
    try {
      const lines: string[] = []
      const { caller } = callerWith({ log: createLog('error', { write: (line) => lines.push(line) }) })
      const refused = async () =>
        unknown({ duty: 'alert', reason: 'configuration', message: 'no permission', isFault: false })
      for (let call = 0; call < 5; call++) await caller.call('query', by('merchant'), refused)
      await caller.call('query', by('merchant'), async () => unknown({ duty: 'alert', reason: 'unknown_code' }))
      await caller.call('query', by('merchant'), async () => unknown({ duty: 'retry' }))
      const told = () => lines.map((line) => JSON.parse(line) as Record<string, unknown>)
      expect(told()).toMatchObject([
        {
          level: 'error',
          event: 'gateway_refuses',
          channel: 'wechat_pay',
          operation: 'query',
          traceId: 't',
          reason: 'configuration',
          message: 'no permission',
        },
        { level: 'error', reason: 'unknown_code' },
      ])
      vi.setSystemTime(Date.now() + 60_000)
      await caller.call('query', by('merchant'), refused)
      expect(told()).toHaveLength(3)
    } finally {
      vi.useRealTimers()
    }
  })
})

describe('a clock that is set back', () => {
  const BACK_MS = 6 * 60_000
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['Date'], now: 1_800_000_000_000 })
  })
  afterEach(() => {
    vi.useRealTimers()
  })
  const works = async () => DONE

  it('holds back no call, however many turns were taken before', async () => {
    const { caller } = callerWith({ ratePerS: 2, timeoutMs: 2_000 })
    for (let call = 0; call < 2; call++) await caller.call('query', by('merchant'), works)
    vi.setSystemTime(Date.now() - BACK_MS)
    expect(await caller.call('query', by('merchant'), works)).toMatchObject({ kind: 'done' })
  })

  it('leaves no breaker open for as long: what it knew has no times any more', async () => {
    const { caller, states } = callerWith()
    for (let call = 0; call < 40; call++) await caller.call('query', by('merchant'), async () => unknown())
    expect(caller.availability()).toBe('open')
    vi.setSystemTime(Date.now() - BACK_MS)
    expect(caller.availability()).toBe('closed')
    expect(states).toEqual(['closed', 'open', 'closed'])
    expect(await caller.call('query', by('merchant'), works)).toMatchObject({ kind: 'done' })
    // It opens again as it did before.
    for (let call = 0; call < 40; call++) await caller.call('query', by('merchant'), async () => unknown())
    expect(caller.availability()).toBe('open')
    vi.setSystemTime(Date.now() + 5_000)
    expect(caller.availability()).toBe('half_open')
  })

  it('leaves the calls under way to the breaker they began with, which says nothing more to anybody', async () => {
    const { caller, states } = callerWith({ concurrency: 40 })
    const { started, tryOnce, release } = held()
    const calls = Array.from({ length: 40 }, async () => {
      const fails = async () => await tryOnce('call')().then(() => unknown())
      return await caller.call('query', by('merchant'), fails)
    })
    await vi.waitFor(() => expect(started).toHaveLength(40))
    vi.setSystemTime(Date.now() - BACK_MS)
    expect(caller.availability()).toBe('closed')
    for (let released = 0; released < 40; released++) await release()
    await Promise.all(calls)
    expect(states).toEqual(['closed', 'closed'])
  })

  it('slows nobody down for as long, and silences no alert', async () => {
    const lines: string[] = []
    const { caller } = callerWith({ log: createLog('error', { write: (line) => lines.push(line) }) })
    const alerts = async () => unknown({ duty: 'alert', reason: 'configuration', isFault: false })
    await caller.call('query', by('sweeper'), async () => unknown({ reason: 'rate_limited', isFault: false }))
    await caller.call('query', by('merchant'), alerts)
    vi.setSystemTime(Date.now() - BACK_MS)
    expect(caller.availability()).toBe('closed')
    await caller.call('query', by('merchant'), alerts)
    expect(lines).toHaveLength(2)
  })
})

describe('tries', () => {
  it('at most three, with pauses between half and the whole of 200 and 400 ms', async () => {
    const times: number[] = []
    const { caller } = callerWith({ random: 0 })
    const outcome = await caller.call('query', by('merchant'), async () => {
      times.push(performance.now())
      return unknown({ again: true })
    })
    expect(outcome).toMatchObject({ kind: 'unknown', reason: 'gateway_error' })
    expect(outcome.exchanges).toHaveLength(3)
    const [first = 0, second = 0, third = 0] = times
    expect(second - first).toBeGreaterThanOrEqual(99)
    expect(third - second).toBeGreaterThanOrEqual(199)
  })

  it('tries at once are two more at most, and do not count as one of the three', async () => {
    const tryNos: number[] = []
    const { caller } = callerWith()
    await caller.call('query', by('merchant'), async (_deadline, tryNo) => {
      tryNos.push(tryNo)
      return unknown({ again: true, atOnce: true })
    })
    expect(tryNos).toEqual([0, 0, 0, 1, 2])
  })

  it('what may not be repeated is not', async () => {
    const tryOnce = vi.fn(async () => unknown({ again: false, atOnce: true }))
    await callerWith().caller.call('close', by('merchant'), tryOnce)
    expect(tryOnce).toHaveBeenCalledTimes(1)
  })

  it('none begins after the deadline', async () => {
    const tryOnce = vi.fn(async (deadline: Deadline) => {
      await new Promise<void>((resolve) => deadline.onOver(resolve))
      return unknown({ again: true, atOnce: true, reason: 'timeout' })
    })
    const outcome = await callerWith({ timeoutMs: 30 }).caller.call('query', by('merchant'), tryOnce)
    expect(outcome).toMatchObject({ kind: 'unknown', reason: 'timeout' })
    expect(tryOnce).toHaveBeenCalledTimes(1)
  })

  it('a pause ends with the deadline', async () => {
    const tryOnce = vi.fn(async () => unknown({ again: true }))
    const startedMs = performance.now()
    await callerWith({ timeoutMs: 40, random: 1 }).caller.call('query', by('merchant'), tryOnce)
    expect(performance.now() - startedMs).toBeLessThan(190)
    expect(tryOnce).toHaveBeenCalledTimes(1)
  })

  it('every exchange of a call is told, also of the tries that failed', async () => {
    let tries = 0
    const outcome = await callerWith().caller.call('query', by('merchant'), async () => {
      tries += 1
      return tries === 1 ? unknown({ again: true, exchange: { ...EXCHANGE, status: 500 } }) : DONE
    })
    expect(outcome).toMatchObject({ kind: 'done', exchanges: [{ status: 500 }, { status: 200 }] })
  })

  it('a bug in a try is thrown, not turned into an unknown', async () => {
    const { caller } = callerWith()
    await expect(
      caller.call('query', by('merchant'), async () => await Promise.reject(new TypeError('bug'))),
    ).rejects.toThrow('bug')
    expect(await caller.call('query', by('merchant'), async () => DONE)).toMatchObject({ kind: 'done' })
  })
})

describe('the breaker', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['Date'], now: 1_800_000_000_000 })
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  async function calls(
    caller: ReturnType<typeof callerWith>['caller'],
    count: number,
    tryOnce: () => Promise<Try<string>>,
  ) {
    const outcomes = []
    for (let called = 0; called < count; called++) outcomes.push(await caller.call('query', by('merchant'), tryOnce))
    return outcomes
  }
  const fails = async () => unknown()
  const works = async () => DONE

  async function opened() {
    const parts = callerWith()
    await calls(parts.caller, 40, fails)
    expect(parts.caller.availability()).toBe('open')
    return parts
  }

  it('opens on faults, says so at once, and asks nobody', async () => {
    const { caller, states, outcomes } = await opened()
    const tryOnce = vi.fn(works)
    const outcome = await caller.call('query', by('operator'), tryOnce)
    expect(outcome).toMatchObject({ kind: 'unknown', duty: 'back_off', reason: 'breaker_open', exchanges: [] })
    expect(tryOnce).not.toHaveBeenCalled()
    expect(states).toEqual(['closed', 'open'])
    expect(outcomes.at(-1)).toBe('query breaker_open')
  })

  it('what waits for its turn when it opens is told so at once, and never runs', async () => {
    // The budget of this second is spent with the call that opens the breaker.
    const { caller, outcomes } = callerWith({ ratePerS: 30, timeoutMs: 10_000 })
    await calls(caller, 29, fails)
    const { started, tryOnce, release } = held()
    const last = caller.call('query', by('merchant'), async () => {
      await tryOnce('last')()
      return unknown()
    })
    await vi.waitFor(() => expect(started).toEqual(['last']))
    const waiting = (['operator', 'merchant', 'sweeper'] as const).map(
      async (priority) => await caller.call('query', by(priority), tryOnce(priority)),
    )
    const openedMs = performance.now()
    await release()
    expect(await Promise.all(waiting)).toMatchObject(
      Array.from({ length: 3 }, () => ({ kind: 'unknown', duty: 'back_off', reason: 'breaker_open', exchanges: [] })),
    )
    expect(performance.now() - openedMs).toBeLessThan(500)
    await last
    expect(caller.waiting()).toBe(0)
    expect(started).toEqual(['last'])
    expect(outcomes.slice(-3)).toContain('query breaker_open')
  })

  it('several that come in the moment of the probe share its fate', async () => {
    const { caller } = await opened()
    vi.setSystemTime(Date.now() + 5_000)
    const { started, tryOnce, release } = held()
    const probe = caller.call('query', by('merchant'), async () => {
      await tryOnce('probe')()
      return unknown()
    })
    const others = Array.from({ length: 3 }, async () => await caller.call('query', by('merchant'), tryOnce('other')))
    await release()
    expect(await probe).toMatchObject({ kind: 'unknown', reason: 'gateway_error' })
    for (const other of await Promise.all(others)) expect(other).toMatchObject({ reason: 'breaker_open' })
    expect(started).toEqual(['probe'])
  })

  it('business answers do not open it, whatever they say', async () => {
    const { caller } = callerWith()
    await calls(caller, 200, async () => unknown({ isFault: false, reason: 'configuration' }))
    expect(caller.availability()).toBe('closed')
  })

  it('a few faults among many answers do not open it', async () => {
    const { caller } = callerWith()
    for (let round = 0; round < 30; round++) {
      await calls(caller, 3, works)
      await calls(caller, 1, fails)
    }
    expect(caller.availability()).toBe('closed')
  })

  it('after five seconds one call finds out, and nobody else waits for it', async () => {
    const { caller } = await opened()
    vi.setSystemTime(Date.now() + 5_000)
    expect(caller.availability()).toBe('half_open')
    const { started, tryOnce, release } = held()
    const probe = caller.call('query', by('sweeper'), tryOnce('probe'))
    await vi.waitFor(() => expect(started).toEqual(['probe']))
    const others = await calls(caller, 3, works)
    expect(others.every((other) => other.kind === 'unknown' && other.reason === 'breaker_open')).toBe(true)
    await release()
    expect(await probe).toMatchObject({ kind: 'done' })
    expect(caller.availability()).toBe('closed')
    expect(await calls(caller, 1, works)).toMatchObject([{ kind: 'done' }])
  })

  it('a probe that fails keeps it open for another five seconds', async () => {
    const { caller } = await opened()
    vi.setSystemTime(Date.now() + 5_000)
    await calls(caller, 1, fails)
    expect(caller.availability()).toBe('open')
    vi.setSystemTime(Date.now() + 4_999)
    expect(caller.availability()).toBe('open')
    vi.setSystemTime(Date.now() + 1)
    expect(caller.availability()).toBe('half_open')
  })
})
