import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import type { TradeState } from '../../src/domain/trade.js'
import type { CallOptions, CloseOutcome, Gateway, QueryOutcome, TradeRef } from '../../src/gateways/gateway.js'
import { FAULT_NAMES, type FaultInput, type FaultName } from '../../src/sandbox/faults.js'
import type { TradeInput } from '../../src/sandbox/trades.js'

/** What the suite needs of a simulated gateway; both sandboxes have it. */
export type SandboxUnderTest = Readonly<{
  putTrade: (outTradeNo: string, trade: TradeInput) => unknown
  addFaults: (faults: readonly FaultInput[]) => void
  calls: (outTradeNo: string) => Readonly<{ query: number; close: number; reverse: number }>
  reset: () => void
}>

export type Started = Readonly<{ gateway: Gateway; sandbox: SandboxUnderTest; stop: () => Promise<void> }>

export type GatewayExercise = Readonly<{
  /** Starts a gateway against a sandbox of its own, with this much time for each call. */
  start: (timeoutMs: number) => Promise<Started>
  /** The gateway's own word for a state, and what it means here. */
  states: Readonly<Record<string, TradeState>>
  /** Of a trade that nobody knows. */
  absent: TradeState
  /** A state that can be closed, and how it is told once it was. */
  open: string
  /** A paid state. */
  paid: string
}>

const TIMEOUT_MS = 700
/** The event loop of a loaded machine; far below what another try would take. */
const SLACK_MS = 1_000
const OPTIONS: CallOptions = { priority: 'merchant', traceId: 'exercise0001' }

/** These say, over the gateway's own signature, something else than what is so: nothing here could tell. The domain does. */
const SIGNED_LIES: ReadonlySet<FaultName> = new Set([
  'not_exist',
  'wrong_amount',
  'wrong_currency',
  'wrong_merchant',
  'wrong_app',
  'wrong_order',
])
const HOSTWIDE: ReadonlySet<FaultName> = new Set(['primary_down'])
const SHORT: Partial<Record<FaultName, number>> = { delay: 20, hang: 2_000 }

let orders = 0
function newRef(more: Partial<TradeRef> = {}): TradeRef {
  orders += 1
  return { outTradeNo: `X${Date.now()}${orders}`, gatewayOrderNo: null, payWay: 'qr_code', ...more }
}

function faultOf(fault: FaultName, on: FaultInput['on'], times: number): FaultInput {
  const ms = SHORT[fault]
  return { fault, on, times, ...(ms === undefined ? {} : { ms }) }
}

async function timed<T>(work: Promise<T>): Promise<{ outcome: T; ms: number }> {
  const startedMs = performance.now()
  const outcome = await work
  return { outcome, ms: performance.now() - startedMs }
}

/** The promises of `Gateway`, held against a simulated one over real HTTP. Every gateway's tests run it. */
export function exerciseGateway(name: string, exercise: GatewayExercise): void {
  describe(`${name} keeps the gateway's promises`, () => {
    let started: Started
    beforeAll(async () => {
      started = await exercise.start(TIMEOUT_MS)
    })
    afterAll(async () => {
      await started.stop()
    })

    async function queryUnder(state: string, fault: FaultName, times: number) {
      // A breaker that earlier faults opened would answer in the gateway's place: so each fault has a gateway of its own.
      const fresh = await exercise.start(TIMEOUT_MS)
      try {
        const ref = newRef()
        fresh.sandbox.putTrade(ref.outTradeNo, { state, amount: 1000 })
        fresh.sandbox.addFaults([faultOf(fault, 'query', times)])
        return await timed<QueryOutcome>(fresh.gateway.queryOrder(ref, OPTIONS))
      } finally {
        await fresh.stop()
      }
    }

    async function closeUnder(state: string, fault: FaultName) {
      const fresh = await exercise.start(TIMEOUT_MS)
      try {
        const ref = newRef()
        fresh.sandbox.putTrade(ref.outTradeNo, { state, amount: 1000 })
        fresh.sandbox.addFaults([faultOf(fault, 'close', 20)])
        const { outcome, ms } = await timed<CloseOutcome>(fresh.gateway.closeOrder(ref, OPTIONS))
        return { outcome, ms, asked: fresh.sandbox.calls(ref.outTradeNo).close }
      } finally {
        await fresh.stop()
      }
    }

    it.each(Object.entries(exercise.states))('a trade that is %s there is %s here', async (state, expected) => {
      const ref = newRef()
      started.sandbox.putTrade(ref.outTradeNo, { state, amount: 1000 })
      const outcome = await started.gateway.queryOrder(ref, OPTIONS)
      expect(outcome).toMatchObject({ kind: 'trade', trade: { state: expected, gatewayState: state } })
      expect(outcome.exchanges).toHaveLength(1)
    })

    it('a paid trade tells amount, number, time and transaction, and every trade that is told names its order', async () => {
      const ref = newRef()
      started.sandbox.putTrade(ref.outTradeNo, {
        state: exercise.paid,
        amount: 123_456,
        paidAt: '2026-11-24T03:04:05+08:00',
      })
      const outcome = await started.gateway.queryOrder(ref, OPTIONS)
      expect(outcome).toMatchObject({
        kind: 'trade',
        trade: {
          outTradeNo: ref.outTradeNo,
          amountFen: 123_456n,
          gatewayOrderNo: expect.stringMatching(/^\d{28}$/),
          paidAt: new Date('2026-11-23T19:04:05Z'),
        },
      })
    })

    it(`a trade that nobody knows is ${exercise.absent}`, async () => {
      expect(await started.gateway.queryOrder(newRef(), OPTIONS)).toMatchObject({
        kind: 'trade',
        trade: { state: exercise.absent, amountFen: null },
      })
    })

    it('a close that was accepted closed the trade', async () => {
      const ref = newRef()
      started.sandbox.putTrade(ref.outTradeNo, { state: exercise.open, amount: 1000 })
      expect(await started.gateway.closeOrder(ref, OPTIONS)).toMatchObject({ kind: 'accepted' })
      expect(await started.gateway.queryOrder(ref, OPTIONS)).toMatchObject({ trade: { state: 'closed' } })
    })

    it('a close of a paid trade is refused, and it stays paid', async () => {
      const ref = newRef()
      started.sandbox.putTrade(ref.outTradeNo, { state: exercise.paid, amount: 1000 })
      expect(await started.gateway.closeOrder(ref, OPTIONS)).toMatchObject({ kind: 'refused' })
      expect(await started.gateway.queryOrder(ref, OPTIONS)).toMatchObject({ trade: { state: 'paid' } })
    })

    const faults = FAULT_NAMES.filter((fault) => !HOSTWIDE.has(fault))

    it.each(faults.filter((fault) => !SIGNED_LIES.has(fault)))(
      'a query under the fault %s tells the truth or nothing, within its time',
      async (fault) => {
        const tellsTruth = async (state: string, truth: TradeState | undefined) => {
          const { outcome, ms } = await queryUnder(state, fault, 20)
          if (outcome.kind === 'trade') expect(outcome.trade.state).toBe(truth)
          expect(ms).toBeLessThan(TIMEOUT_MS + SLACK_MS)
          expect(outcome.exchanges.length).toBeGreaterThan(0)
        }
        await Promise.all([
          tellsTruth(exercise.paid, 'paid'),
          tellsTruth(exercise.open, exercise.states[exercise.open]),
        ])
      },
    )

    it.each(faults)('a close under the fault %s is sent once, and ends within its time', async (fault) => {
      const { outcome, ms, asked } = await closeUnder(exercise.open, fault)
      expect(['accepted', 'refused', 'unknown']).toContain(outcome.kind)
      expect(asked).toBeLessThanOrEqual(1)
      expect(ms).toBeLessThan(TIMEOUT_MS + SLACK_MS)
    })

    it.each<FaultName>(['unsigned', 'empty_sign', 'tampered', 'signtest'])(
      'an answer that is %s proves nothing, whatever it says',
      async (fault) => {
        const { outcome } = await queryUnder(exercise.open, fault, 20)
        expect(outcome).toMatchObject({ kind: 'unknown', duty: 'untrusted' })
        const closing = await closeUnder(exercise.open, fault)
        expect(closing.outcome).toMatchObject({ kind: 'unknown', duty: 'untrusted' })
      },
    )

    it.each<FaultName>(['system_error', 'html502'])('%s is tried again within a query’s time', async (fault) => {
      const { outcome } = await queryUnder(exercise.paid, fault, 1)
      expect(outcome).toMatchObject({ kind: 'trade', trade: { state: 'paid' } })
      expect(outcome.exchanges).toHaveLength(2)
    })

    it('a rate limit is not answered by more calls', async () => {
      const { outcome } = await queryUnder(exercise.paid, 'rate_limit', 20)
      expect(outcome).toMatchObject({ kind: 'unknown', duty: 'back_off' })
      expect(outcome.exchanges).toHaveLength(1)
    })

    it('an answer that never comes ends the call at its deadline, and its exchange says so', async () => {
      const { outcome, ms } = await queryUnder(exercise.paid, 'hang', 20)
      expect(outcome).toMatchObject({ kind: 'unknown', duty: 'retry', reason: 'timeout' })
      expect(outcome.exchanges.at(-1)).toMatchObject({ status: null })
      expect(ms).toBeGreaterThan(TIMEOUT_MS - 50)
    })

    it('an exchange holds neither a signature nor anybody’s id in full', async () => {
      const ref = newRef()
      started.sandbox.putTrade(ref.outTradeNo, { state: exercise.paid, amount: 1000 })
      const { exchanges } = await started.gateway.queryOrder(ref, OPTIONS)
      const stored = JSON.stringify(exchanges)
      expect(stored).toContain(ref.outTradeNo)
      expect(stored).not.toMatch(/"[A-Za-z0-9+/]{300,}={0,2}\\?"|Authorization|nonce_str=/i)
      expect(stored).not.toMatch(/o[0-9]{27}|20880\d{11}/)
    })

    it('a gateway that is not there is asked again later, and nothing is thrown', async () => {
      const fresh = await exercise.start(TIMEOUT_MS)
      await fresh.stop()
      const outcome = await fresh.gateway.queryOrder(newRef(), OPTIONS)
      expect(outcome).toMatchObject({ kind: 'unknown', duty: 'retry' })
      expect(outcome.exchanges.every(({ status }) => status === null)).toBe(true)
      const closing = await fresh.gateway.closeOrder(newRef(), OPTIONS)
      expect(closing).toMatchObject({ kind: 'unknown', duty: 'retry' })
      expect(closing.exchanges.every(({ status }) => status === null)).toBe(true)
    })
  })
}
