import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'

import { createBudget } from '../../src/gateways/budget.js'
import { createDeadline } from '../../src/gateways/deadline.js'
import type { CallPriority } from '../../src/gateways/gateway.js'

const PRIORITIES = ['operator', 'merchant', 'sweeper'] as const satisfies readonly CallPriority[]

/** Later than any history goes on. */
const NEVER_MS = 1e9

type Call = {
  priority: CallPriority
  deadline: ReturnType<typeof createDeadline>
  state: 'waiting' | 'in' | 'gave up' | 'left'
}
type Step =
  | Readonly<{ what: 'enter'; priority: CallPriority }>
  | Readonly<{ what: 'leave' | 'give up' | 'turn'; which: number }>
  | Readonly<{ what: 'time'; ms: number }>

const steps = fc.array(
  fc.oneof<fc.Arbitrary<Step>[]>(
    fc.record({ what: fc.constant('enter' as const), priority: fc.constantFrom(...PRIORITIES) }),
    fc.record({ what: fc.constantFrom('leave' as const, 'give up' as const, 'turn' as const), which: fc.nat(30) }),
    fc.record({ what: fc.constant('time' as const), ms: fc.integer({ min: 1, max: 1_500 }) }),
  ),
  { maxLength: 60 },
)

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
})
afterEach(() => {
  vi.useRealTimers()
})

/** A budget in use, step by step. `turnsMs`: when each turn was taken. */
function inUse(options: Readonly<{ concurrency: number; ratePerS: number }>) {
  const budget = createBudget(options)
  const calls: Call[] = []
  const turnsMs: number[] = []
  /** In the order in which they came in. */
  const cameIn: Call[] = []

  function enter(priority: CallPriority): void {
    const call: Call = { priority, deadline: createDeadline(NEVER_MS), state: 'waiting' }
    calls.push(call)
    void budget.enter(priority, call.deadline).then((isIn) => {
      call.state = isIn ? 'in' : 'gave up'
      if (!isIn) return
      cameIn.push(call)
      turnsMs.push(performance.now())
    })
  }
  function turn(call: Call): void {
    void budget.turn(call.priority, call.deadline).then((came) => came && turnsMs.push(performance.now()))
  }
  function leave(call: Call): void {
    call.state = 'left'
    budget.leave()
  }
  /** The `which`th of those in `state`, if there is any. */
  function nth(state: Call['state'], which: number): Call | undefined {
    const those = calls.filter((call) => call.state === state)
    return those[which % Math.max(1, those.length)]
  }
  async function take(step: Step): Promise<void> {
    if (step.what === 'enter') enter(step.priority)
    else if (step.what === 'time') await vi.advanceTimersByTimeAsync(step.ms)
    else {
      const call = nth(step.what === 'give up' ? 'waiting' : 'in', step.which)
      if (call !== undefined && step.what === 'leave') leave(call)
      if (call !== undefined && step.what === 'turn') turn(call)
      if (call !== undefined && step.what === 'give up') call.deadline.end()
    }
    await settled()
  }
  return { budget, calls, cameIn, turnsMs, leave, nth, take }
}

/** Until every promise that could be told something has been. */
async function settled(): Promise<void> {
  await vi.advanceTimersByTimeAsync(0)
}

describe('whatever is asked of a budget, and in whatever order', () => {
  it('never more are in than there are places, nor more turns in any second than the rate; and nobody waits for ever', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 5 }),
        steps,
        async (places, rate, all) => {
          const { budget, calls, turnsMs, leave, nth, take } = inUse({ concurrency: places, ratePerS: rate })
          for (const step of all) {
            await take(step)
            expect(calls.filter(({ state }) => state === 'in').length).toBeLessThanOrEqual(places)
          }
          // Whoever is in leaves, as often as anybody waits: then everybody comes in.
          for (let round = 0; round < 2 * all.length && budget.waiting() > 0; round++) {
            for (let call = nth('in', 0); call !== undefined; call = nth('in', 0)) leave(call)
            await vi.advanceTimersByTimeAsync(1_001)
          }
          expect(budget.waiting()).toBe(0)
          expect(calls.filter(({ state }) => state === 'waiting')).toEqual([])
          for (const [n, ms] of turnsMs.entries()) {
            const next = turnsMs[n + rate]
            if (next !== undefined) expect(next - ms).toBeGreaterThanOrEqual(1_000)
          }
          // Nothing was lost on the way: all turns of a second are there again, and in a while all places.
          for (let call = nth('in', 0); call !== undefined; call = nth('in', 0)) leave(call)
          await vi.advanceTimersByTimeAsync(1_001)
          for (let n = 0; n < places; n++) await take({ what: 'enter', priority: 'sweeper' })
          expect(calls.filter(({ state }) => state === 'in')).toHaveLength(Math.min(places, rate))
          await vi.advanceTimersByTimeAsync(4_000)
          expect(calls.filter(({ state }) => state === 'in')).toHaveLength(places)
        },
      ),
      { numRuns: 300 },
    )
  })

  it.each([
    ['places', { concurrency: 1, ratePerS: 10_000 }],
    ['turns', { concurrency: 10_000, ratePerS: 2 }],
  ])('for %s, those who wait go by priority, then as they came', async (_what, options) => {
    await fc.assert(
      fc.asyncProperty(steps, async (all) => {
        const { calls, cameIn, leave, nth, take } = inUse(options)
        const rank = (call: Call) => PRIORITIES.indexOf(call.priority) * 1_000 + calls.indexOf(call)
        const check = async (step: () => Promise<void>) => {
          const waiting = calls.filter(({ state }) => state === 'waiting')
          const before = cameIn.length
          await step()
          const through = cameIn.slice(before).filter((call) => waiting.includes(call))
          expect(through.map(rank)).toEqual(through.map(rank).toSorted((a, b) => a - b))
          const last = Math.max(-1, ...through.map(rank))
          for (const call of waiting) if (call.state === 'waiting') expect(rank(call)).toBeGreaterThan(last)
        }
        for (const step of all) if (step.what !== 'turn') await check(async () => await take(step))
        for (let round = 0; round < all.length; round++) {
          const call = nth('in', 0)
          await check(async () => {
            if (call !== undefined) leave(call)
            await vi.advanceTimersByTimeAsync(500)
          })
        }
      }),
      { numRuns: 200 },
    )
  })
})
