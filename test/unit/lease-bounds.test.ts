import { expect, it } from 'vitest'

import { leaseMsFor } from '../../src/compose.js'
import type { Situation } from '../../src/domain/decide.js'
import type { Fen } from '../../src/domain/money.js'
import type { Order, OrderId } from '../../src/domain/order.js'
import type { Trade } from '../../src/domain/trade.js'
import type { Gateway } from '../../src/gateways/gateway.js'
import { createLog } from '../../src/log.js'
import { createMetrics } from '../../src/metrics.js'
import { STATEMENT_WAIT_MS_MAX } from '../../src/store/client.js'
import type { Lease, Leases } from '../../src/store/leases.js'
import type { CommitSync } from '../../src/store/sync-commit.js'
import { findOut, repairAtGateway } from '../../src/sync/repair.js'
import { createSyncOrder, type SyncDeps } from '../../src/sync/sync-order.js'

const boundsOf = (leaseMs: number, gatewayCallMs: number): SyncDeps => ({
  leases: {} as Leases,
  commitSync: {} as CommitSync,
  gateways: {},
  log: createLog('silent'),
  observer: createMetrics().sync,
  policy: { notFoundGraceS: 120, latePayment: 'settle' },
  bounds: { leaseMs, gatewayCallMs, statementMs: STATEMENT_WAIT_MS_MAX },
  monotonicMs: () => 0,
  random: () => 0,
})

it.each([100, 8000, 60_000])(
  'with a gateway deadline of %i ms, a lease outlives query, close and query again',
  (ms) => {
    expect(() => createSyncOrder(boundsOf(leaseMsFor(ms), ms))).not.toThrow()
    expect(() => createSyncOrder(boundsOf(STATEMENT_WAIT_MS_MAX + 3 * ms, ms))).toThrow(RangeError)
    expect(() => createSyncOrder(boundsOf(leaseMsFor(ms), ms + 1000))).toThrow(RangeError)
  },
)

const TRADE: Trade = {
  state: 'paying',
  gatewayState: 'NOTPAY',
  outTradeNo: '1',
  merchantId: null,
  appId: null,
  gatewayOrderNo: null,
  amountFen: null,
  currency: null,
  paidAt: null,
}
const SITUATION: Situation = {
  status: 'progress',
  expired: true,
  young: false,
  gatewayOrderNo: null,
  latePayment: 'settle',
  reversalForS: null,
}
const LEASE: Lease = {
  token: 't',
  order: { id: 1n as OrderId, outTradeNo: '1', payWay: 'normal', amountFen: 1n as Fen, currency: 'CNY' } as Order,
  takenAt: new Date(0),
  expired: true,
  ageS: 1000,
  expiresInS: -1,
  closedForS: null,
  reversedForS: null,
  reversalForS: null,
  reversalBegunAt: null,
  failures: 0,
}

it.each([
  [0, []],
  [1, ['query']],
  [2, ['query', 'close']],
  [3, ['query', 'close', 'query']],
] as const)('a sync that has time for %i calls makes no more of them', async (callsInTime, expected) => {
  const calls: string[] = []
  const gateway: Gateway = {
    channel: 'wechat_pay',
    account: { merchantId: null, appId: null },
    closeNotBeforeAgeS: () => 300,
    availability: () => 'closed',
    async queryOrder() {
      calls.push('query')
      return await Promise.resolve({ kind: 'trade', trade: TRADE, exchanges: [] })
    },
    async closeOrder() {
      calls.push('close')
      return await Promise.resolve({ kind: 'accepted', exchanges: [] })
    },
  }
  const hasTimeForCall = () => calls.length < callsInTime
  const options = { priority: 'merchant', traceId: 't' } as const
  const beginReversal = async () => await Promise.resolve(true)
  const investigation = { gateway, lease: LEASE, situation: SITUATION, options, hasTimeForCall, beginReversal }
  const finding = await repairAtGateway(investigation, await findOut(investigation))
  expect(calls).toEqual(expected)
  expect(finding.kind === 'unknown' && finding.unknown.reason).toBe(
    callsInTime === 3 ? 'close_unconfirmed' : 'lease_ending',
  )
})

it('a process that was stopped after it wrote that a reversal is begun reverses nothing, and says so', async () => {
  const calls: string[] = []
  let isInTime = true
  const gateway: Gateway = {
    channel: 'wechat_pay',
    account: { merchantId: null, appId: null },
    closeNotBeforeAgeS: () => 15,
    availability: () => 'closed',
    async queryOrder() {
      calls.push('query')
      return await Promise.resolve({ kind: 'trade', trade: TRADE, exchanges: [] })
    },
    async closeOrder() {
      calls.push('reverse')
      return await Promise.resolve({ kind: 'accepted', exchanges: [] })
    },
  }
  const investigation = {
    gateway,
    lease: { ...LEASE, order: { ...LEASE.order, payWay: 'bar_code' } } as const,
    situation: SITUATION,
    options: { priority: 'merchant', traceId: 't' } as const,
    hasTimeForCall: () => isInTime,
    async beginReversal() {
      isInTime = false
      return await Promise.resolve(true)
    },
  }
  const finding = await repairAtGateway(investigation, await findOut(investigation))
  expect(calls).toEqual(['query'])
  expect(finding).toMatchObject({ kind: 'unknown', unknown: { reason: 'lease_ending' }, reversal: 'not_done' })
})
