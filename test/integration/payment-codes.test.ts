// Orders paid by showing a code at the till: reversed instead of closed, which gives back what was paid meanwhile.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'

import { breachesOf } from '../support/invariants.js'
import { startService, type TestService } from '../support/service.js'

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

const EXPIRED = { expiredTime: new Date(Date.now() - 60_000).toISOString() }
const code = async (channel: 'wechat_pay' | 'ali_pay', more: object = EXPIRED) =>
  await service.register({ channel, payWay: 'bar_code', notifyUrl: 'http://127.0.0.1:9/notices', ...more })

async function expectUnchanged(id: string) {
  const { order, repairs, notices, exceptions } = await service.history(id)
  expect({ status: order.status, repairs, notices, exceptions }).toEqual({
    status: 'progress',
    repairs: [],
    notices: [],
    exceptions: [],
  })
}

/** As if the reversal had been so many seconds earlier. */
async function reversedBefore(id: string, seconds: number) {
  await service.pool.query(
    `UPDATE orders SET reversed_at = reversed_at - $2::int * interval '1 second',
       reversal_begun_at = reversal_begun_at - $2::int * interval '1 second' WHERE id = $1`,
    [id, seconds],
  )
}

/** What the trade turns into between the reverse and the query after it. */
async function syncWith(
  channel: 'wechat_pay' | 'ali_pay',
  id: string,
  trade: Parameters<TestService['wechat']['putTrade']>[1],
) {
  const sandbox = channel === 'ali_pay' ? service.alipay : service.wechat
  const hold = sandbox.holdNext('reverse', id)
  const call = service.sync(id)
  await hold.arrived
  sandbox.putTrade(id, trade)
  hold.release()
  return await call
}

describe('WeChat Pay', () => {
  it('an expired one is reversed, never closed: revoked there, closed here', async () => {
    const id = await code('wechat_pay')
    service.wechat.putTrade(id, { state: 'USERPAYING', amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_timeout', repair: true } })
    expect(service.wechat.getTrade(id)).toMatchObject({ state: 'REVOKED' })
    expect(service.wechat.calls(id)).toMatchObject({ reverse: 1, close: 0, query: 2 })
    expect((await service.history(id)).order.status).toBe('close')
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_closed', repair: false } })
  })

  it('a young one is reversed once it is 15 s old; only a close has to wait for five minutes', async () => {
    const aged = (ageS: number) => ({ ...EXPIRED, createTime: new Date(Date.now() - ageS * 1000).toISOString() })
    const id = await code('wechat_pay', aged(5))
    service.wechat.putTrade(id, { state: 'USERPAYING', amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_progress', repair: false } })
    expect(service.wechat.calls(id).reverse).toBe(0)
    const older = await code('wechat_pay', aged(20))
    service.wechat.putTrade(older, { state: 'USERPAYING', amount: 1000 })
    expect(await service.sync(older)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_timeout', repair: true } })
  })

  it('PAYERROR is paying until the order’s time is over', async () => {
    const id = await code('wechat_pay', {})
    service.wechat.putTrade(id, { state: 'PAYERROR', amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_progress', repair: false } })
    expect(service.wechat.calls(id).reverse).toBe(0)
    await expectUnchanged(id)
  })

  it('PAYERROR after the reverse is closed', async () => {
    const id = await code('wechat_pay')
    service.wechat.putTrade(id, { state: 'PAYERROR', amount: 1000 })
    expect(await syncWith('wechat_pay', id, { state: 'PAYERROR', amount: 1000 })).toMatchObject({
      code: 0,
      data: { gatewayStatus: 'pay_timeout', repair: true },
    })
    expect((await service.history(id)).order.status).toBe('close')
  })

  it('PAYERROR after a close is not: the buyer of any other order may try again', async () => {
    const id = await service.register(EXPIRED)
    service.wechat.putTrade(id, { state: 'PAYERROR', amount: 1000 })
    const hold = service.wechat.holdNext('close', id)
    const call = service.sync(id)
    await hold.arrived
    service.wechat.putTrade(id, { state: 'PAYERROR', amount: 1000 })
    hold.release()
    expect(await call).toMatchObject({ code: 20000, data: null })
    await expectUnchanged(id)
  })

  it('"paid" after an accepted reverse settles nothing: the money is on its way back', async () => {
    const id = await code('wechat_pay')
    service.wechat.putTrade(id, { state: 'USERPAYING', amount: 1000 })
    expect(await syncWith('wechat_pay', id, { state: 'SUCCESS', amount: 1000 })).toMatchObject({ code: 20000 })
    await expectUnchanged(id)
    service.wechat.putTrade(id, { state: 'REVOKED', amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_closed', repair: true } })
  })

  it('and in no sync after it, until it has lasted for ten minutes: then it was never carried out, and a human looks', async () => {
    const id = await code('wechat_pay')
    service.wechat.putTrade(id, { state: 'USERPAYING', amount: 1000 })
    await syncWith('wechat_pay', id, { state: 'SUCCESS', amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ code: 20000, data: null })
    await reversedBefore(id, 590)
    expect(await service.sync(id)).toMatchObject({ code: 20000, data: null })
    await expectUnchanged(id)
    await reversedBefore(id, 20)
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: true } })
    const { order, exceptions } = await service.history(id)
    expect(order.status).toBe('success')
    expect(exceptions).toMatchObject([{ kind: 'paid_after_close', state: 'open' }])
  })

  it('one that reads PAYERROR after its reverse is closed once, and not again by every sync', async () => {
    const id = await code('wechat_pay')
    service.wechat.putTrade(id, { state: 'PAYERROR', amount: 1000 })
    await syncWith('wechat_pay', id, { state: 'PAYERROR', amount: 1000 })
    for (let again = 0; again < 3; again++) {
      expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_closed', repair: false } })
    }
    expect(service.wechat.calls(id).reverse).toBe(1)
    expect((await service.history(id)).repairs).toHaveLength(1)
  })
})

describe('Alipay', () => {
  it('an expired one is cancelled, never closed', async () => {
    const id = await code('ali_pay')
    service.alipay.putTrade(id, { state: 'WAIT_BUYER_PAY', amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_timeout', repair: true } })
    expect(service.alipay.calls(id)).toMatchObject({ reverse: 1, close: 0, query: 2 })
  })

  it('paid and given back by the cancel: neither settled nor closed as unpaid, and a human looks at it', async () => {
    const id = await code('ali_pay')
    service.alipay.putTrade(id, { state: 'WAIT_BUYER_PAY', amount: 1000, payOn: 'close' })
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_refund', repair: false } })
    const { order, repairs, notices, exceptions } = await service.history(id)
    expect([order.status, repairs, notices]).toEqual(['progress', [], []])
    expect(exceptions).toMatchObject([{ kind: 'refunded_unsettled', state: 'open' }])
  })

  it.each([
    ['still paid', { state: 'TRADE_SUCCESS', amount: 1000 }],
    ['still waiting', { state: 'WAIT_BUYER_PAY', amount: 1000 }],
    ['closed, as if it had never been paid', { state: 'TRADE_CLOSED', amount: 1000 }],
    ['unknown', { state: 'NOT_SCANNED', amount: 1000 }],
  ] as const)('given back by the cancel, and %s in the query after it: we do not know', async (_title, trade) => {
    const id = await code('ali_pay')
    service.alipay.putTrade(id, { state: 'WAIT_BUYER_PAY', amount: 1000, payOn: 'close' })
    expect(await syncWith('ali_pay', id, trade)).toMatchObject({ code: 20000, data: null })
    await expectUnchanged(id)
  })

  it('given back by the cancel, and paid in every query since: not settled while that may be an old word', async () => {
    const id = await code('ali_pay')
    service.alipay.putTrade(id, { state: 'WAIT_BUYER_PAY', amount: 1000, payOn: 'close' })
    await syncWith('ali_pay', id, { state: 'TRADE_SUCCESS', amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ code: 20000, data: null })
    await expectUnchanged(id)
  })
})
