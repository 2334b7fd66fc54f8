// The failure catalogue of SYNC.md, case by case: the real service, both simulated gateways, a real PostgreSQL.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'

import { createWechatSandbox } from '../../src/sandbox/wechat.js'
import { createDatabase } from '../support/database.js'
import { breachesOf } from '../support/invariants.js'
import {
  newPaymentId,
  OPS_TOKEN,
  SECRET,
  type ServiceOptions,
  signedBody,
  startSandboxes,
  startService,
  type TestService,
} from '../support/service.js'
import { startServiceProcess } from '../support/service-process.js'
import { proxyDatabase } from '../support/tcp-proxy.js'

let service: TestService
beforeAll(async () => {
  service = await startService()
})
afterAll(async () => {
  await service.stop()
})
afterEach(async () => {
  expect(await breachesOf(service.pool)).toEqual([])
})

const past = (minutes: number) => new Date(Date.now() - minutes * 60_000).toISOString()
const EXPIRED = { expiredTime: past(1) }
const ALIPAY = { channel: 'ali_pay' }
const NOTIFIED = { notifyUrl: 'http://127.0.0.1:9/notices' }

const at = (channel: string | null | undefined, of: TestService = service) =>
  channel === 'ali_pay' ? of.alipay : of.wechat
const PAID = { wechat_pay: 'SUCCESS', ali_pay: 'TRADE_SUCCESS' } as const
const UNPAID = { wechat_pay: 'NOTPAY', ali_pay: 'WAIT_BUYER_PAY' } as const

/** The order is as it was, and nobody was told anything. */
async function expectUnchanged(id: string, status = 'progress', of = service) {
  const { order, repairs, notices } = await of.history(id)
  expect({ status: order.status, repairs, notices }).toEqual({ status, repairs: [], notices: [] })
}

/** Runs with a service of its own beside the shared one. */
async function withService<T>(options: ServiceOptions, use: (own: TestService) => Promise<T>): Promise<T> {
  const own = await startService(options)
  try {
    const result = await use(own)
    expect(await breachesOf(own.pool)).toEqual([])
    return result
  } finally {
    await own.stop()
  }
}

/** A node of its own on the shared database and gateways: many faults in a row would open the shared one's breaker. */
async function onFreshNode(use: (own: TestService) => Promise<void>) {
  const { database, wechat, alipay } = service
  await withService({ database, sandboxes: { wechat, alipay } }, use)
}

/** Seconds until the order comes due; null where it is at rest. */
async function dueInS(id: string, of = service): Promise<number | null> {
  const { rows } = await of.pool.query<{ due: number | null; failures: number }>(
    'SELECT extract(epoch FROM next_sync_at - clock_timestamp())::float8 AS due FROM orders WHERE id = $1',
    [id],
  )
  return rows[0]?.due ?? null
}

async function makeDue(ids: readonly string[], of = service) {
  await of.pool.query(`UPDATE orders SET next_sync_at = now() - interval '1 second' WHERE id = ANY($1::bigint[])`, [
    ids,
  ])
}

async function expireLease(id: string, of = service) {
  await of.pool.query(
    `UPDATE orders SET lease_expires_at = clock_timestamp() - interval '1 ms' WHERE id = $1 AND lease_token IS NOT NULL`,
    [id],
  )
}

it('1 not paid, then paid seconds later: first in progress, then settled', async () => {
  for (const channel of ['wechat_pay', 'ali_pay'] as const) {
    const id = await service.register({ channel, ...NOTIFIED })
    at(channel).putTrade(id, { state: UNPAID[channel], amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_progress', repair: false } })
    await expectUnchanged(id)
    at(channel).putTrade(id, { state: PAID[channel], amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: true } })
    expect((await service.history(id)).notices).toHaveLength(1)
  }
})

describe('2 an Alipay trade "does not exist" while the buyer is about to scan', () => {
  it('an order in time stays open, and is settled once he has paid', async () => {
    const id = await service.register(ALIPAY)
    expect(await service.sync(id)).toMatchObject({ data: { gatewayStatus: 'pay_not_found_unknown', repair: false } })
    await expectUnchanged(id)
    service.alipay.putTrade(id, { state: 'TRADE_SUCCESS', amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ data: { gatewayStatus: 'pay_success', repair: true } })
  })

  it('an expired one is closed and watched after 5 min, 1 h and 24 h; a payment with the old code is not lost', async () => {
    const id = await service.register({ ...ALIPAY, ...EXPIRED })
    expect(await service.sync(id)).toMatchObject({ data: { gatewayStatus: 'pay_timeout', repair: true } })
    for (const [closedForS, nextS] of [
      [0, 300],
      [300, 3300],
      [3600, 82_800],
    ] as const) {
      if (closedForS > 0) {
        await service.pool.query(
          `UPDATE orders SET close_time = clock_timestamp() - $2 * interval '1 second' WHERE id = $1`,
          [id, closedForS],
        )
        await makeDue([id])
        await service.sweep()
      }
      const dueS = await dueInS(id)
      expect(dueS).toBeGreaterThan(nextS - 5)
      expect(dueS).toBeLessThan(nextS * 1.1 + 5)
    }
    service.alipay.putTrade(id, { state: 'TRADE_SUCCESS', amount: 1000 })
    await makeDue([id])
    await service.sweep()
    const { order, exceptions } = await service.history(id)
    expect(order.status).toBe('success')
    expect(exceptions).toMatchObject([{ kind: 'paid_after_close', state: 'open' }])
  })

  it('the watch ends a day later, where nobody paid', async () => {
    const id = await service.register({ ...ALIPAY, ...EXPIRED })
    await service.sync(id)
    await service.pool.query(`UPDATE orders SET close_time = clock_timestamp() - interval '25 hours' WHERE id = $1`, [
      id,
    ])
    await makeDue([id])
    await service.sweep()
    expect(await dueInS(id)).toBeNull()
  })

  it('a failure in the middle of the watch does not end it', async () => {
    const id = await service.register({ ...ALIPAY, ...EXPIRED })
    await service.sync(id)
    service.alipay.addFaults([{ on: 'query', fault: 'html502', times: 3, outTradeNo: id }])
    await makeDue([id])
    await service.sweep()
    expect(await dueInS(id)).toBeLessThan(60)
    await expectWatchSurvivesThrow(id)
  })

  /** The sync itself throws: a creation time that no notice can tell. */
  async function expectWatchSurvivesThrow(id: string) {
    await service.pool.query(
      `UPDATE orders SET created_at = '-infinity', notify_url = 'http://127.0.0.1:9/' WHERE id = $1`,
      [id],
    )
    service.alipay.putTrade(id, { state: 'TRADE_SUCCESS', amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ code: 10001 })
    expect(await dueInS(id)).not.toBeNull()
    await service.pool.query(`UPDATE orders SET created_at = now(), notify_url = NULL WHERE id = $1`, [id])
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: true } })
  }
})

it.each([
  ['wechat_pay', 'rate_limit'],
  ['wechat_pay', 'rate_limit_unsigned'],
  ['ali_pay', 'rate_limit'],
  ['ali_pay', 'rate_limit_unsigned'],
] as const)('3 rate-limited (%s, %s): asked once, backs off, nothing changes', async (channel, fault) => {
  const id = await service.register({ channel })
  at(channel).putTrade(id, { state: PAID[channel], amount: 1000 })
  at(channel).addFaults([{ on: 'query', fault, outTradeNo: id }])
  expect(await service.sync(id)).toMatchObject({ code: 20000, data: null })
  expect(at(channel).calls(id).query).toBe(1)
  await expectUnchanged(id)
  expect(await dueInS(id)).toBeGreaterThan(25)
})

it.each([
  ['wechat_pay', 'system_error'],
  ['wechat_pay', 'system_error_unsigned'],
  ['ali_pay', 'system_error'],
  ['ali_pay', 'system_error_unsigned'],
] as const)('4 %s, %s: asked again at once; where it lasts, we do not know', async (channel, fault) => {
  const id = await service.register({ channel })
  at(channel).putTrade(id, { state: PAID[channel], amount: 1000 })
  at(channel).addFaults([{ on: 'query', fault, times: 3, outTradeNo: id }])
  expect(await service.sync(id)).toMatchObject({ code: 20000 })
  expect(at(channel).calls(id).query).toBe(3)
  await expectUnchanged(id)
  at(channel).addFaults([{ on: 'query', fault, times: 1, outTradeNo: id }])
  expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: true } })
})

it.each(
  (['wechat_pay', 'ali_pay'] as const).flatMap((channel) =>
    (['unsigned', 'empty_sign', 'tampered', 'stale', 'unknown_serial', 'signtest'] as const).flatMap((fault) =>
      ([true, false] as const).map((isPaid) => ({ channel, fault, isPaid })),
    ),
  ),
)('5 $channel, an answer with signature $fault (paid: $isPaid): no state, nothing changes', async (given) => {
  const { channel, fault, isPaid } = given
  const id = await service.register({ channel, ...EXPIRED })
  at(channel).putTrade(id, { state: (isPaid ? PAID : UNPAID)[channel], amount: 1000 })
  at(channel).addFaults([{ on: 'any', fault, times: 5, outTradeNo: id }])
  await onFreshNode(async (own) => {
    expect(await own.sync(id)).toMatchObject({ code: 20000, data: null })
  })
  expect(at(channel).calls(id).close).toBe(0)
  await expectUnchanged(id)
})

it.each(['wechat_pay', 'ali_pay'] as const)(
  '6 paid between query and close (%s): settled, not closed',
  async (channel) => {
    const id = await service.register({ channel, ...EXPIRED, ...NOTIFIED })
    at(channel).putTrade(id, { state: UNPAID[channel], amount: 1000, payOn: 'close' })
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: true } })
    expect(at(channel).calls(id)).toMatchObject({ query: 2, close: 1 })
    const { order, repairs, notices, exceptions } = await service.history(id)
    expect(order.status).toBe('success')
    expect(repairs).toMatchObject([{ way: 'pay_success', statusBefore: 'progress', statusAfter: 'success' }])
    expect(notices).toMatchObject([{ payload: { status: 'success' } }])
    expect(exceptions).toEqual([])
  },
)

it('7 a 204 that closed something else: the trade is still payable, so nothing is closed here; later it is', async () => {
  const id = await service.register(EXPIRED)
  service.wechat.putTrade(id, { state: 'NOTPAY', amount: 1000 })
  const hold = service.wechat.holdNext('close', id)
  const call = service.sync(id)
  await hold.arrived
  service.wechat.putTrade(id, { state: 'NOTPAY', amount: 1000 })
  hold.release()
  expect(await call).toMatchObject({ code: 20000, data: null })
  await expectUnchanged(id)
  await makeDue([id])
  await service.sweep()
  const { order, repairs } = await service.history(id)
  expect(order.status).toBe('close')
  expect(repairs).toMatchObject([{ way: 'pay_close_gateway', gatewayStatus: 'pay_timeout' }])
})

it('6 refused since it is paid, and the query still says that it is not: asked again within the minute', async () => {
  const id = await service.register({ ...EXPIRED, createTime: new Date(Date.now() - 7_200_000).toISOString() })
  service.wechat.putTrade(id, { state: 'NOTPAY', amount: 1000 })
  service.wechat.addFaults([{ on: 'close', fault: 'error', status: 400, code: 'ORDER_PAID', outTradeNo: id }])
  expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_progress', repair: false } })
  await expectUnchanged(id)
  const { rows } = await service.pool.query<{ soon: boolean }>(
    "SELECT next_sync_at < now() + interval '1 minute' AS soon FROM orders WHERE id = $1",
    [id],
  )
  expect(rows).toEqual([{ soon: true }])
})

describe('8 a close refused as too early', () => {
  it('the gateway says so: in progress, no repair, and the sweeper closes it later', async () => {
    const id = await service.register(EXPIRED)
    service.wechat.putTrade(id, { state: 'NOTPAY', amount: 1000, createdAt: Date.now() })
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_progress', repair: false } })
    await expectUnchanged(id)
    service.wechat.putTrade(id, { state: 'NOTPAY', amount: 1000, createdAt: Date.now() - 600_000 })
    await makeDue([id])
    await service.sweep()
    expect((await service.history(id)).order.status).toBe('close')
  })

  it('an order that WeChat would refuse to close is not even tried, and a dry run says so', async () => {
    const id = await service.register({ createTime: past(2), ...EXPIRED })
    service.wechat.putTrade(id, { state: 'NOTPAY', amount: 1000 })
    const dry = await service.ops('POST', `/ops/orders/${id}/sync?dryRun=true`)
    expect(dry.body).toMatchObject({ gatewayStatus: 'pay_progress', repair: false, decision: { action: 'wait' } })
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_progress', repair: false } })
    expect(service.wechat.calls(id).close).toBe(0)
    expect(await dueInS(id)).toBeLessThan(200)
  })

  it('an order closed here that cannot be closed there yet is not left alone: somebody could still pay it', async () => {
    const id = await service.register({ status: 'close', createTime: past(2) })
    service.wechat.putTrade(id, { state: 'NOTPAY', amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_progress', repair: false } })
    expect(await dueInS(id)).toBeLessThan(200)
    await service.pool.query(`UPDATE orders SET created_at = now() - interval '6 min' WHERE id = $1`, [id])
    await makeDue([id])
    await service.sweep()
    expect(service.wechat.getTrade(id)).toMatchObject({ state: 'CLOSED' })
    expect(await dueInS(id)).toBeNull()
  })
})

it.each([
  ['wechat_pay', 'CLOSED', 'pay_closed'],
  ['wechat_pay', 'NOTPAY', 'pay_progress'],
  ['wechat_pay', 'REVOKED', 'pay_closed'],
  ['wechat_pay', null, 'pay_not_found'],
  ['ali_pay', 'TRADE_CLOSED', 'pay_closed'],
  ['ali_pay', null, 'pay_not_found_unknown'],
] as const)('9 %s reports %s for an order paid here: never un-paid, one exception', async (channel, state, told) => {
  const id = await service.register({ channel, status: 'success', payTime: past(5), ...NOTIFIED })
  if (state !== null) at(channel).putTrade(id, { state, amount: 1000 })
  for (let call = 0; call < 2; call++) {
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: told, repair: false } })
  }
  await expectUnchanged(id, 'success')
  expect(at(channel).calls(id).close).toBe(0)
  expect((await service.history(id)).exceptions).toMatchObject([
    { kind: 'paid_here_not_there', state: 'open', seenCount: 2 },
  ])
})

it.each([
  ['wechat_pay', 'SUCCESS', 300, 'pay_refund', []],
  ['wechat_pay', 'REFUND', 1000, 'pay_refund', []],
  ['ali_pay', 'TRADE_SUCCESS', 300, 'pay_success', []],
  ['ali_pay', 'TRADE_SUCCESS', 1000, 'pay_refund', []],
] as const)(
  '10 refunds: %s, %s, %i of 1000 fen given back: a paid order stays paid',
  async (channel, state, refunded, told, kinds) => {
    for (const status of ['success', 'refunding', 'partial_refund', 'refunded']) {
      const id = await service.register({ channel, status, payTime: past(5) })
      at(channel).putTrade(id, { state, amount: 1000, refunded })
      expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: told, repair: false } })
      await expectUnchanged(id, status)
      expect((await service.history(id)).exceptions).toEqual(kinds)
    }
  },
)

it('10 refunds: one that was never settled here is a human’s to look at', async () => {
  const id = await service.register()
  service.wechat.putTrade(id, { state: 'REFUND', amount: 1000, refunded: 1000 })
  expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_refund', repair: false } })
  await expectUnchanged(id)
  expect((await service.history(id)).exceptions).toMatchObject([{ kind: 'refunded_unsettled' }])
})

it('11 TRADE_FINISHED months later equals paid: no second repair, no second notice', async () => {
  const id = await service.register({ ...ALIPAY, ...NOTIFIED })
  service.alipay.putTrade(id, { state: 'TRADE_SUCCESS', amount: 1000 })
  await service.sync(id)
  service.alipay.putTrade(id, { state: 'TRADE_FINISHED', amount: 1000 })
  expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: false } })
  const { repairs, notices, exceptions } = await service.history(id)
  expect([repairs.length, notices.length, exceptions.length]).toEqual([1, 1, 0])
})

describe('12 paid after local close', () => {
  it('settle: the money is taken, and a human is told since the goods may be gone', async () => {
    const id = await service.register({ status: 'close', ...NOTIFIED })
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: true } })
    const { order, notices, exceptions } = await service.history(id)
    expect(order).toMatchObject({ status: 'success', closeTime: null })
    expect(notices).toMatchObject([{ payload: { status: 'success', closeTime: null } }])
    expect(exceptions).toMatchObject([{ kind: 'paid_after_close', atRisk: 1000 }])
  })

  it('hold: the order stays closed, and the exception is opened once', async () => {
    await withService({ environment: { LATE_PAYMENT: 'hold' } }, async (own) => {
      const id = await own.register({ status: 'close', ...NOTIFIED })
      own.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
      for (let call = 0; call < 2; call++) {
        expect(await own.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: false } })
      }
      await expectUnchanged(id, 'close', own)
      expect((await own.history(id)).exceptions).toMatchObject([{ kind: 'paid_after_close', seenCount: 2 }])
    })
  })

  it('closed here, still payable there: the trade is closed, nobody is told twice', async () => {
    const id = await service.register({ status: 'close', ...NOTIFIED })
    service.wechat.putTrade(id, { state: 'NOTPAY', amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ data: { gatewayStatus: 'pay_closed', repair: true } })
    expect(service.wechat.getTrade(id)).toMatchObject({ state: 'CLOSED' })
    expect((await service.history(id)).notices).toEqual([])
  })
})

describe('13 at the same moment', () => {
  it('two calls: the second is told 10007 at once, while the first still waits for the gateway', async () => {
    const id = await service.register()
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    const hold = service.wechat.holdNext('query', id)
    const first = service.sync(id)
    await hold.arrived
    expect(await service.sync(id)).toMatchObject({ code: 10007, data: null })
    hold.release()
    expect(await first).toMatchObject({ code: 0, data: { repair: true } })
    expect(service.wechat.calls(id)).toMatchObject({ query: 1, queriesInFlightMax: 1 })
  })

  it('a call and the sweeper: one of them asks, one repair is made', async () => {
    const id = await service.register(NOTIFIED)
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    const hold = service.wechat.holdNext('query', id)
    const call = service.sync(id)
    await hold.arrived
    await makeDue([id])
    await service.sweep()
    hold.release()
    expect(await call).toMatchObject({ code: 0, data: { repair: true } })
    await makeDue([id])
    await service.sweep()
    const { repairs, notices } = await service.history(id)
    expect([repairs.length, notices.length]).toEqual([1, 1])
    expect(service.wechat.calls(id).queriesInFlightMax).toBe(1)
    expect(await dueInS(id)).toBeNull()
  })
})

describe('14 the lease lost in mid-flight', () => {
  // A process knows what it is syncing itself, whatever became of the lease: who takes over is another one.
  it('commits nothing: who took over counts', async () => {
    const id = await service.register(NOTIFIED)
    service.wechat.putTrade(id, { state: 'NOTPAY', amount: 1000 })
    await onFreshNode(async (other) => {
      const hold = service.wechat.holdNext('query', id)
      const late = service.sync(id)
      await hold.arrived
      await expireLease(id)
      service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
      expect(await other.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: true } })
      hold.release()
      expect(await late).toMatchObject({ code: 10007, data: null })
    })
    const { order, syncs, repairs } = await service.history(id)
    expect(order.status).toBe('success')
    expect([syncs.length, repairs.length]).toEqual([1, 1])
  })

  it('also where the one that took over is still at work: its lease is not released by the late one', async () => {
    const id = await service.register()
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    await onFreshNode(async (other) => {
      const holds = [service.wechat.holdNext('query', id), service.wechat.holdNext('query', id)] as const
      const late = service.sync(id)
      await holds[0].arrived
      await expireLease(id)
      const heir = other.sync(id)
      await holds[1].arrived
      holds[0].release()
      expect(await late).toMatchObject({ code: 10007 })
      expect(await service.sync(id)).toMatchObject({ code: 10007 })
      holds[1].release()
      expect(await heir).toMatchObject({ code: 0, data: { repair: true } })
    })
  })
})

it.each([
  ['wechat_pay', 'wrong_amount', 'amount_mismatch'],
  ['wechat_pay', 'wrong_currency', 'amount_mismatch'],
  ['wechat_pay', 'wrong_merchant', 'identity_mismatch'],
  ['wechat_pay', 'wrong_app', 'identity_mismatch'],
  ['wechat_pay', 'wrong_order', 'identity_mismatch'],
  ['ali_pay', 'wrong_amount', 'amount_mismatch'],
  ['ali_pay', 'wrong_currency', 'amount_mismatch'],
  ['ali_pay', 'wrong_order', 'identity_mismatch'],
] as const)('15 %s, %s in a paid answer: 28100, one exception, nothing settled', async (channel, fault, kind) => {
  const id = await service.register({ channel, ...NOTIFIED })
  at(channel).putTrade(id, { state: PAID[channel], amount: 1000 })
  at(channel).addFaults([{ on: 'query', fault, times: 2, outTradeNo: id }])
  expect(await service.sync(id)).toMatchObject({ code: 28100, data: null })
  expect(await service.sync(id)).toMatchObject({ code: 28100, data: null })
  await expectUnchanged(id)
  expect((await service.history(id)).exceptions).toMatchObject([{ kind, state: 'open', seenCount: 2 }])
  expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: true } })
})

it('15 Alipay, another seller’s or app’s answer: its signature is another’s, so it proves nothing', async () => {
  for (const fault of ['wrong_merchant', 'wrong_app'] as const) {
    const id = await service.register(ALIPAY)
    service.alipay.putTrade(id, { state: 'TRADE_SUCCESS', amount: 1000 })
    service.alipay.addFaults([{ on: 'query', fault, outTradeNo: id }])
    expect(await service.sync(id)).toMatchObject({ code: 20000 })
    await expectUnchanged(id)
  }
})

it('16 a second, different transaction on a paid order: an exception over the second payment', async () => {
  const id = await service.register()
  service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
  await service.sync(id)
  service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000, transactionId: '4200001863202400000000000099' })
  expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: false } })
  const { order, repairs, exceptions } = await service.history(id)
  expect(order.gatewayOrderNo).not.toBe('4200001863202400000000000099')
  expect(repairs).toHaveLength(1)
  expect(exceptions).toMatchObject([{ kind: 'double_payment', state: 'open' }])
})

it('17 the gateway’s key rotated in flight: the known key is believed, the unknown one never', async () => {
  await withService({}, async (own) => {
    const id = await own.register()
    own.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    const hold = own.wechat.holdNext('query', id)
    const call = own.sync(id)
    await hold.arrived
    await own.wechat.rotateKeys('old')
    hold.release()
    expect(await call).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: true } })

    const next = await own.register()
    own.wechat.putTrade(next, { state: 'SUCCESS', amount: 1000 })
    await own.wechat.rotateKeys('new')
    expect(await own.sync(next)).toMatchObject({ code: 20000, data: null })
    await expectUnchanged(next, 'progress', own)
  })
})

it.each(
  (['wechat_pay', 'ali_pay'] as const).flatMap((channel) =>
    (
      [
        'html502',
        'empty',
        'cut',
        'wrong_length',
        'huge',
        'deep',
        'bad_json',
        'duplicate_key',
        'missing_fields',
        'unknown_state',
        'redirect',
        'reset',
      ] as const
    ).map((fault) => ({ channel, fault })),
  ),
)(
  '18 $channel, an answer that is $fault: nothing changes, and the next good one settles',
  async ({ channel, fault }) => {
    const id = await service.register({ channel })
    at(channel).putTrade(id, { state: PAID[channel], amount: 1000 })
    // More than one call's tries: a connection that was idle before is replaced beside them.
    at(channel).addFaults([{ on: 'query', fault, times: 6, outTradeNo: id }])
    await onFreshNode(async (own) => {
      const { code, data } = await own.sync(id)
      expect([20000, 28100]).toContain(code)
      expect(data).toBeNull()
      await expectUnchanged(id)
      // Whatever is left of the fault is used up first.
      let answer = await own.sync(id)
      for (let call = 0; call < 5 && answer.code !== 0; call++) answer = await own.sync(id)
      expect(answer).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: true } })
    })
  },
)

describe('19 connections and hosts', () => {
  it('idle connections that the gateway closed are noticed or replaced: no call fails because of it', async () => {
    for (let round = 0; round < 10; round++) {
      const id = await service.register()
      service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
      const call = service.sync(id)
      service.wechat.dropIdleConnections()
      expect(await call).toMatchObject({ code: 0, data: { repair: true } })
      service.wechat.dropIdleConnections()
    }
  })

  it('primary host down, backup up: answered by the backup within the deadline', async () => {
    const sandboxes = { ...(await startSandboxes()), wechat: createWechatSandbox({ backup: true }) }
    await sandboxes.wechat.listen()
    await withService({ sandboxes }, async (own) => {
      const id = await own.register()
      own.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
      await own.wechat.stopPrimary()
      expect(await own.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: true } })
      expect(own.wechat.calls(id).query).toBe(1)
    })
    await Promise.all([sandboxes.wechat.close(), sandboxes.alipay.close()])
  })
})

describe('20 clock skew', () => {
  const FOUR_MIN_MS = 240_000
  it('expiry goes by the database’s clock, whatever the nodes’ clocks say', async () => {
    const { database, wechat, alipay } = service
    for (const skewMs of [-FOUR_MIN_MS, FOUR_MIN_MS]) {
      const now = () => Date.now() + skewMs
      await withService({ database, sandboxes: { wechat, alipay }, now }, async (own) => {
        const live = await own.register({ expiredTime: new Date(Date.now() + 60_000).toISOString() })
        wechat.putTrade(live, { state: 'NOTPAY', amount: 1000 })
        expect(await own.sync(live)).toMatchObject({ data: { gatewayStatus: 'pay_progress', repair: false } })
        const over = await own.register({ expiredTime: past(1) })
        wechat.putTrade(over, { state: 'NOTPAY', amount: 1000 })
        expect(await own.sync(over)).toMatchObject({ data: { gatewayStatus: 'pay_timeout', repair: true } })
      })
    }
  })

  it('an order is as old as the database says, also where a node with a slow clock registered it', async () => {
    const { database, wechat, alipay } = service
    const now = () => Date.now() - FOUR_MIN_MS
    await withService({ database, sandboxes: { wechat, alipay }, now }, async (own) => {
      const [one, other] = [newPaymentId(), newPaymentId()]
      const order = (paymentId: string) => ({
        paymentId,
        businessNo: `B${paymentId}`,
        channel: 'wechat_pay',
        amount: 1000,
      })
      expect(await own.ops('POST', '/ops/orders', order(one))).toMatchObject({ status: 201 })
      const imported = await fetch(`${own.url}/ops/orders/import`, {
        method: 'POST',
        headers: { 'content-type': 'application/x-ndjson', authorization: `Bearer ${OPS_TOKEN}` },
        body: JSON.stringify(order(other)),
      })
      expect(await imported.json()).toMatchObject({ created: 1 })
      for (const id of [one, other]) {
        // The pay call may still be on its way: it is not closed because WeChat Pay does not know it yet.
        expect(await own.sync(id)).toMatchObject({ data: { gatewayStatus: 'pay_not_found', repair: false } })
        await expectUnchanged(id, 'progress', own)
      }
    })
  })

  it('a notice that is to be sent again is due at once, whatever the clock of the node that was asked', async () => {
    const { database, wechat, alipay } = service
    const now = () => Date.now() + FOUR_MIN_MS
    await withService({ database, sandboxes: { wechat, alipay }, now }, async (own) => {
      const id = await service.register(NOTIFIED)
      wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
      await own.sync(id)
      const [notice] = (await own.history(id)).notices
      expect(await own.ops('POST', `/ops/notices/${notice?.id}/redeliver`)).toMatchObject({ status: 200 })
      const { rows } = await own.pool.query('SELECT next_attempt_at <= now() AS due FROM notices WHERE id = $1', [
        notice?.id,
      ])
      expect(rows).toEqual([{ due: true }])
    })
  })

  it('two skewed nodes: a lease that one took, the other one does not take', async () => {
    const { database, wechat, alipay } = service
    const now = () => Date.now() + FOUR_MIN_MS
    await withService({ database, sandboxes: { wechat, alipay }, now }, async (own) => {
      const id = await service.register()
      wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
      const hold = wechat.holdNext('query', id)
      const first = service.sync(id)
      await hold.arrived
      expect(await own.sync(id)).toMatchObject({ code: 10007 })
      hold.release()
      expect(await first).toMatchObject({ data: { repair: true } })
    })
  })

  it('a node more than five minutes off believes no answer', async () => {
    const { database, wechat, alipay } = service
    const now = () => Date.now() + 2 * FOUR_MIN_MS
    await withService({ database, sandboxes: { wechat, alipay }, now }, async (own) => {
      const id = await own.register()
      wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
      expect(await own.sync(id)).toMatchObject({ code: 20000 })
      await expectUnchanged(id, 'progress', own)
    })
  })
})

it('21 an order unknown here: told so, and the gateway is not asked', async () => {
  const id = newPaymentId()
  service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
  expect(await service.sync(id)).toMatchObject({ code: 20000, msg: '未查询到支付订单', data: null })
  expect(service.wechat.calls(id).query).toBe(0)
})

describe('22 one poisonous row', () => {
  it('does not stop the sweep: the others are settled, it is recorded and parked', async () => {
    const ids = await Promise.all(Array.from({ length: 12 }, async () => await service.register(NOTIFIED)))
    const [poisonous = '', ...sound] = ids
    for (const id of ids) service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    await service.pool.query(
      `UPDATE orders SET created_at = '-infinity', next_sync_at = now() - interval '1 day' WHERE id = $1`,
      [poisonous],
    )
    await makeDue(sound)
    await service.sweep()
    for (const id of sound) expect((await service.history(id)).order.status).toBe('success')
    const { rows } = await service.pool.query(
      `SELECT o.status, o.lease_token, o.sync_failures, s.outcome, s.error_code,
         o.next_sync_at >= s.created_at + interval '29 seconds' AS is_parked
       FROM orders o JOIN sync_records s ON s.order_id = o.id WHERE o.id = $1`,
      [poisonous],
    )
    expect(rows).toEqual([
      {
        status: 'progress',
        lease_token: null,
        sync_failures: 1,
        outcome: 'failed',
        error_code: 10001,
        is_parked: true,
      },
    ])
    await service.pool.query('UPDATE orders SET created_at = now() WHERE id = $1', [poisonous])
    expect(await service.sync(poisonous)).toMatchObject({ data: { repair: true } })
  })

  it('a notify URL that nothing can be sent to does not keep a paid order from being settled', async () => {
    const id = await service.register()
    await service.pool.query(`UPDATE orders SET notify_url = 'not a URL' WHERE id = $1`, [id])
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: true } })
    const { notices, syncs } = await service.history(id)
    expect(notices).toEqual([])
    expect(syncs).toMatchObject([{ outcome: 'synced', errorMsg: expect.stringContaining('notify URL') }])
    await service.pool.query('UPDATE orders SET notify_url = NULL WHERE id = $1', [id])
  })
})

describe('23 hours of backlog after an outage', () => {
  it('is drained oldest first, within the gateway’s rate', async () => {
    const RATE = 20
    await withService({ environment: { GATEWAY_RATE_PER_S: String(RATE) } }, async (own) => {
      const ids = await Promise.all(Array.from({ length: 3 * RATE }, async () => await own.register()))
      for (const [age, id] of ids.entries()) {
        own.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
        await own.pool.query(`UPDATE orders SET next_sync_at = now() - $2::int * interval '1 minute' WHERE id = $1`, [
          id,
          240 - age,
        ])
      }
      await own.sweep()
      const asked = own.wechat.requests().map(({ outTradeNo, at: time }) => ({
        age: ids.indexOf(outTradeNo ?? ''),
        timeMs: Date.parse(time),
      }))
      expect(asked).toHaveLength(ids.length)
      // At most a batch and its successor are under way at once; within them, who is first is chance.
      for (const [position, { age }] of asked.entries()) expect(Math.abs(age - position)).toBeLessThanOrEqual(2 * RATE)
      for (const { timeMs } of asked) {
        const within = asked.filter((other) => other.timeMs >= timeMs && other.timeMs < timeMs + 1000)
        expect(within.length).toBeLessThanOrEqual(2 * RATE)
      }
      expect((asked.at(-1)?.timeMs ?? 0) - (asked[0]?.timeMs ?? 0)).toBeGreaterThan(1500)
      const { rows } = await own.pool.query(`SELECT count(*)::int AS left FROM orders WHERE status <> 'success'`)
      expect(rows).toEqual([{ left: 0 }])
    })
  })

  it('what was not asked because the gateway was down comes due again at once, as if it had not been tried', async () => {
    await withService({ environment: { GATEWAY_TIMEOUT_MS: '1000' } }, async (own) => {
      const ids = await Promise.all(Array.from({ length: 80 }, async () => await own.register()))
      for (const id of ids) own.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
      const port = Number(new URL(own.wechat.merchantSettings()['WECHAT_BASE_URLS'] ?? '').port)
      await own.wechat.close()
      await makeDue(ids, own)
      await own.sweep()
      const skipped = await own.sync(ids[79] ?? '')
      expect(skipped).toMatchObject({ code: 20000 })
      const { rows } = await own.pool.query<{ reason: string; failures: number; due: number }>(
        `SELECT split_part(s.error_msg, ':', 1) AS reason, o.sync_failures AS failures,
           extract(epoch FROM o.next_sync_at - clock_timestamp())::float8 AS due
         FROM orders o JOIN sync_records s ON s.order_id = o.id`,
      )
      const unasked = rows.filter(({ reason }) => reason === 'breaker_open')
      expect(unasked.length).toBeGreaterThan(0)
      for (const { failures, due } of unasked) {
        expect(failures).toBe(0)
        expect(due).toBeLessThan(10)
      }
      await own.wechat.listen(port)
      await expect
        .poll(
          async () => {
            await makeDue(ids, own)
            await own.sweep()
            return (await own.pool.query(`SELECT id FROM orders WHERE status <> 'success'`)).rowCount
          },
          { timeout: 20_000, interval: 250 },
        )
        .toBe(0)
    })
  })
})

describe('24 killed (SIGKILL): the next sync finishes the job', () => {
  it.each([
    'while the query is answered',
    'after the gateway closed, before its answer came',
    'while the second query is answered',
    'when the commit is about to be sent',
    'after the commit, before its answer came',
  ] as const)('%s', async (moment) => {
    const [database, sandboxes] = await Promise.all([createDatabase(), startSandboxes()])
    const proxied = await proxyDatabase(database.url)
    const environment = {
      SIGN_SECRETS: SECRET,
      ROLES: 'api',
      ...sandboxes.wechat.merchantSettings(),
      ...sandboxes.alipay.merchantSettings(),
    }
    const doomed = await startServiceProcess({ ...environment, DATABASE_URL: proxied.url })
    try {
      await withService({ database, sandboxes }, async (own) => {
        const id = await own.register({ ...EXPIRED, ...NOTIFIED })
        own.wechat.putTrade(id, { state: 'NOTPAY', amount: 1000 })
        const struck = await strikeAt(moment, id, own, proxied.proxy)
        const call = fetch(`${doomed.url}/unipay/syncPay`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: signedBody({ paymentId: BigInt(id) }),
        }).then(
          () => 'answered',
          () => 'cut off',
        )
        await struck.reached
        await doomed.kill()
        struck.release()
        expect(await call).toBe('cut off')
        // Its lease is still there, unless it did commit: it expires, here at once.
        const isCommitted = moment.startsWith('after the commit')
        await expect.poll(async () => (await own.history(id)).syncs.length).toBe(isCommitted ? 1 : 0)
        if (!isCommitted) expect(await own.sync(id)).toMatchObject({ code: 10007 })
        await expireLease(id, own)
        expect(await own.sync(id)).toMatchObject({ code: 0, data: { repair: !isCommitted } })
        expect(await own.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_closed', repair: false } })
        const { order, repairs, notices } = await own.history(id)
        expect(order.status).toBe('close')
        expect([repairs.length, notices.length]).toEqual([1, 1])
        expect(own.wechat.calls(id).close).toBe(1)
      })
    } finally {
      await doomed.kill()
      await proxied.proxy.close()
      await Promise.all([sandboxes.wechat.close(), sandboxes.alipay.close()])
      await database.drop()
    }
  })

  async function strikeAt(
    moment: string,
    id: string,
    own: TestService,
    proxy: Awaited<ReturnType<typeof proxyDatabase>>['proxy'],
  ): Promise<{ reached: Promise<void>; release: () => void }> {
    const nothing = () => undefined
    if (moment.startsWith('when the commit')) return { reached: proxy.cutOn('commit_sync', 'before'), release: nothing }
    if (moment.startsWith('after the commit')) return { reached: proxy.cutOn('commit_sync', 'after'), release: nothing }
    if (moment.startsWith('while the query')) {
      const hold = own.wechat.holdNext('query', id)
      return { reached: hold.arrived, release: hold.release }
    }
    const close = own.wechat.holdNext('close', id)
    if (moment.startsWith('after the gateway closed')) return { reached: close.arrived, release: close.release }
    let release: () => void = nothing
    const reached = close.arrived.then(async () => {
      const again = own.wechat.holdNext('query', id)
      release = again.release
      close.release()
      await again.arrived
    })
    return { reached, release: () => release() }
  }
})

describe('25 the database goes away', () => {
  async function behindProxy(
    use: (own: TestService, proxy: Awaited<ReturnType<typeof proxyDatabase>>['proxy']) => Promise<void>,
  ) {
    const { proxy, url } = await proxyDatabase(service.database.url)
    const { database, wechat, alipay } = service
    try {
      await withService(
        { database, sandboxes: { wechat, alipay }, environment: { DATABASE_URL: url } },
        async (own) => {
          await use(own, proxy)
        },
      )
    } finally {
      await proxy.close()
    }
  }
  it('before the lease: 10001 and nothing happened; once it is back, all is well by itself', async () => {
    await behindProxy(async (own, proxy) => {
      const id = await service.registerPaid(NOTIFIED)
      proxy.setMode('closed')
      expect(await own.sync(id)).toMatchObject({ code: 10001, msg: '系统错误', data: null })
      expect(service.wechat.calls(id).query).toBe(0)
      proxy.setMode('open')
      expect(await own.sync(id)).toMatchObject({ code: 0, data: { repair: true } })
    })
  })

  it('when the lease’s answer is lost: 10001, and the order is free again when the lease expires', async () => {
    await behindProxy(async (own, proxy) => {
      const id = await service.registerPaid(NOTIFIED)
      const cut = proxy.cutOn('lease_by_id', 'after')
      expect(await own.sync(id)).toMatchObject({ code: 10001 })
      await cut
      expect(await own.sync(id)).toMatchObject({ code: 10007 })
      await expireLease(id)
      expect(await own.sync(id)).toMatchObject({ code: 0, data: { repair: true } })
    })
  })

  it.each(['before', 'after'] as const)(
    'the connection breaks %s the commit: re-read on another, told as it is',
    async (moment) => {
      await behindProxy(async (own, proxy) => {
        const id = await service.registerPaid(NOTIFIED)
        const cut = proxy.cutOn('commit_sync', moment)
        const answer = await own.sync(id)
        await cut
        const { repairs, syncs, notices } = await service.history(id)
        expect(answer).toMatchObject({
          code: 0,
          data: { gatewayStatus: 'pay_success', repair: true, repairOrderNo: repairs[0]?.repairOrderNo },
        })
        expect([repairs.length, syncs.length, notices.length]).toEqual([1, 1, 1])
      })
    },
  )

  it.each(['before', 'after'] as const)(
    'it is gone from %s the commit on: 10001, and nothing is half done',
    async (moment) => {
      await behindProxy(async (own, proxy) => {
        const id = await service.registerPaid(NOTIFIED)
        const gone = proxy.cutOn('commit_sync', moment).then(() => proxy.setMode('closed'))
        expect(await own.sync(id)).toMatchObject({ code: 10001, data: null })
        await gone
        const isCommitted = moment === 'after'
        expect((await service.history(id)).repairs).toHaveLength(isCommitted ? 1 : 0)
        proxy.setMode('open')
        await expireLease(id)
        expect(await own.sync(id)).toMatchObject({ code: 0, data: { repair: !isCommitted } })
        const { repairs, notices } = await service.history(id)
        expect([repairs.length, notices.length]).toEqual([1, 1])
      })
    },
  )

  it('an exception whose commit lost its answer is counted and logged all the same', async () => {
    await behindProxy(async (own, proxy) => {
      const id = await service.register({ status: 'close' })
      service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
      const cut = proxy.cutOn('commit_sync', 'after')
      expect(await own.sync(id)).toMatchObject({ code: 0, data: { repair: true } })
      await cut
      const metrics = await (await fetch(`${own.url}/metrics`)).text()
      expect(metrics).toContain('unipay_exceptions_opened_total{kind="paid_after_close"} 1')
    })
  })

  it('a dry run that cannot give its lease back leaves no record, and the order is free when the lease expires', async () => {
    await behindProxy(async (own, proxy) => {
      const id = await service.registerPaid(NOTIFIED)
      const before = await dueInS(id)
      const cut = proxy.cutOn('release_lease', 'before')
      expect(await own.ops('POST', `/ops/orders/${id}/sync?dryRun=true`)).toMatchObject({ status: 500 })
      await cut
      expect((await service.history(id)).syncs).toEqual([])
      expect(Math.abs(((await dueInS(id)) ?? 0) - (before ?? 0))).toBeLessThan(5)
      await expireLease(id)
      expect(await own.sync(id)).toMatchObject({ code: 0, data: { repair: true } })
    })
  })

  it('a connection that breaks with EPIPE is lost like any other', async () => {
    await behindProxy(async (own) => {
      const id = await service.registerPaid(NOTIFIED)
      const { pool } = own.service.database
      pool.once('acquire', () => undefined)
      const hold = service.wechat.holdNext('query', id)
      const call = own.sync(id)
      await hold.arrived
      // The next connection that is taken writes into a socket whose writing side is broken.
      pool.once('acquire', (client) => {
        const { stream } = (client as unknown as { connection: { stream: import('node:net').Socket } }).connection
        stream.destroy(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }))
      })
      hold.release()
      expect(await call).toMatchObject({ code: 0, data: { repair: true } })
    })
  })

  it('the answer to a dry run or a failed sync is no exception: a lost one changes nothing', async () => {
    await behindProxy(async (own, proxy) => {
      const id = await service.registerPaid(NOTIFIED)
      service.wechat.addFaults([{ on: 'query', fault: 'unsigned', outTradeNo: id }])
      const cut = proxy.cutOn('commit_sync', 'after')
      expect(await own.sync(id)).toMatchObject({ code: 20000 })
      await cut
      await expectUnchanged(id)
      expect((await service.history(id)).syncs).toMatchObject([{ outcome: 'unknown' }])
    })
  })
})
