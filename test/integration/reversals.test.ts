// A payment code's trade is reversed, which gives its money back, and what became of that is not known: "paid" may be true for
// a moment only, and whoever has lost the order reverses nothing.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'

import { breachesOf } from '../support/invariants.js'
import { startService, type TestService } from '../support/service.js'

let service: TestService
beforeAll(async () => {
  service = await startService({ environment: { GATEWAY_TIMEOUT_MS: '2000' } })
})
afterAll(async () => {
  await service.stop()
})
afterEach(async () => {
  expect(await breachesOf(service.pool)).toEqual([])
})

type Channel = 'wechat_pay' | 'ali_pay'
const expiredCode = async (channel: Channel) =>
  await service.register({
    channel,
    payWay: 'bar_code',
    notifyUrl: 'http://127.0.0.1:9/notices',
    expiredTime: new Date(Date.now() - 60_000).toISOString(),
  })

async function expectUnsettled(id: string) {
  const { order, repairs, notices } = await service.history(id)
  expect({ status: order.status, repairs, notices }).toEqual({ status: 'progress', repairs: [], notices: [] })
}

/** As if so many seconds had gone by since it was begun. */
async function begunBefore(id: string, seconds: number) {
  await service.pool.query(
    `UPDATE orders SET reversal_begun_at = reversal_begun_at - $2::int * interval '1 second' WHERE id = $1`,
    [id, seconds],
  )
}

async function begunAt(id: string): Promise<Date | null> {
  const { rows } = await service.pool.query<{ at: Date | null }>(
    'SELECT reversal_begun_at AS at FROM orders WHERE id = $1',
    [id],
  )
  return rows[0]?.at ?? null
}

describe('the answer to a reversal is lost: "paid" settles nothing while it may be carried out yet', () => {
  it.each(['reset', 'hang', 'cut'] as const)('WeChat Pay, %s', async (fault) => {
    const id = await expiredCode('wechat_pay')
    service.wechat.putTrade(id, { state: 'USERPAYING', amount: 1000 })
    // It arrives and waits over there; the answer never comes.
    service.wechat.addFaults([{ on: 'reverse', fault, outTradeNo: id, performed: false, ms: 3000 }])
    expect(await service.sync(id)).toMatchObject({ code: 20000 })
    // The buyer's password was right in the meantime.
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ code: 20000, data: null })
    await expectUnsettled(id)
    // Now it is carried out.
    service.wechat.putTrade(id, { state: 'REFUND', amount: 1000, refunded: 1000 })
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_refund', repair: false } })
    await expectUnsettled(id)
  })

  it('WeChat Pay, which is at it and asks to be called again, to the last try', async () => {
    const id = await expiredCode('wechat_pay')
    service.wechat.putTrade(id, { state: 'USERPAYING', amount: 1000, recalls: 50 })
    expect(await service.sync(id)).toMatchObject({ code: 20000 })
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ code: 20000 })
    await expectUnsettled(id)
  })

  it('Alipay, carried out, while a query is still answered by what was', async () => {
    const id = await expiredCode('ali_pay')
    service.alipay.putTrade(id, { state: 'WAIT_BUYER_PAY', amount: 1000, payOn: 'close' })
    service.alipay.addFaults([{ on: 'reverse', fault: 'reset', outTradeNo: id }])
    expect(await service.sync(id)).toMatchObject({ code: 20000 })
    service.alipay.putTrade(id, { state: 'TRADE_SUCCESS', amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ code: 20000 })
    await expectUnsettled(id)
  })

  it('accepted, and the commit fails, since the row is locked', async () => {
    const id = await expiredCode('wechat_pay')
    service.wechat.putTrade(id, { state: 'USERPAYING', amount: 1000 })
    const hold = service.wechat.holdNext('reverse', id)
    const call = service.sync(id)
    await hold.arrived
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    const locker = await service.pool.connect()
    try {
      await locker.query('BEGIN')
      await locker.query('SELECT 1 FROM orders WHERE id = $1 FOR UPDATE', [id])
      hold.release()
      // The commit waits for three seconds and fails; so does the record of that.
      expect(await call).toMatchObject({ code: 10001 })
      await locker.query('ROLLBACK')
    } finally {
      locker.release()
    }
    await service.pool.query('UPDATE orders SET lease_expires_at = clock_timestamp() WHERE id = $1', [id])
    expect(await service.sync(id)).toMatchObject({ code: 20000 })
    await expectUnsettled(id)
  })

  it('a process that has to leave cuts it short: nor does another one settle', async () => {
    const other = await startService({ database: service.database, sandboxes: service })
    try {
      const id = await expiredCode('wechat_pay')
      service.wechat.putTrade(id, { state: 'USERPAYING', amount: 1000 })
      const hold = service.wechat.holdNext('reverse', id)
      const call = other.sync(id)
      await hold.arrived
      other.service.hurry()
      expect(await call).toMatchObject({ code: 20000 })
      service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
      hold.release()
      expect(await service.sync(id)).toMatchObject({ code: 20000 })
      await expectUnsettled(id)
    } finally {
      await other.stop()
    }
  })

  it('still paid after ten minutes, it was never carried out: settled, and a human looks', async () => {
    const id = await expiredCode('wechat_pay')
    service.wechat.putTrade(id, { state: 'USERPAYING', amount: 1000 })
    service.wechat.addFaults([{ on: 'reverse', fault: 'reset', outTradeNo: id, performed: false }])
    expect(await service.sync(id)).toMatchObject({ code: 20000 })
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    await begunBefore(id, 590)
    expect(await service.sync(id)).toMatchObject({ code: 20000 })
    await begunBefore(id, 20)
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: true } })
    expect((await service.history(id)).exceptions).toMatchObject([{ kind: 'paid_after_close' }])
  })
})

describe('"call again", and what is called again is refused: the first call may be what it is refused for', () => {
  const REFUSED = { on: 'reverse', fault: 'error', code: 'TRADE_ERROR' } as const

  it('carried out, while the query after it is still answered by what was', async () => {
    const id = await expiredCode('wechat_pay')
    service.wechat.putTrade(id, { state: 'USERPAYING', amount: 1000, payOn: 'close' })
    service.wechat.addFaults([
      { on: 'reverse', fault: 'recall', outTradeNo: id, performed: true },
      { ...REFUSED, outTradeNo: id },
    ])
    const first = service.wechat.holdNext('reverse', id)
    const call = service.sync(id)
    await first.arrived
    expect(service.wechat.getTrade(id)).toMatchObject({ state: 'REVOKED', refunded: 1000 })
    const second = service.wechat.holdNext('reverse', id)
    first.release()
    await second.arrived
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    second.release()
    expect(await call).toMatchObject({ code: 20000, data: null })
    await expectUnsettled(id)
  })

  it('under way: what is paid then is not settled yet', async () => {
    const id = await expiredCode('wechat_pay')
    service.wechat.putTrade(id, { state: 'USERPAYING', amount: 1000 })
    service.wechat.addFaults([
      { on: 'reverse', fault: 'recall', outTradeNo: id },
      { ...REFUSED, outTradeNo: id },
    ])
    expect(await service.sync(id)).toMatchObject({ code: 20000, data: null })
    expect(await begunAt(id)).not.toBeNull()
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ code: 20000, data: null })
    await expectUnsettled(id)
  })

  it('closed there after all: closed here', async () => {
    const id = await expiredCode('wechat_pay')
    service.wechat.putTrade(id, { state: 'USERPAYING', amount: 1000 })
    service.wechat.addFaults([
      { on: 'reverse', fault: 'recall', outTradeNo: id, performed: true },
      { ...REFUSED, outTradeNo: id },
    ])
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_timeout', repair: true } })
    expect((await service.history(id)).order.status).toBe('close')
  })
})

describe('a reversal that was verifiably not carried out is not remembered', () => {
  it('refused: what was paid then is settled at once, and nobody has to look', async () => {
    const id = await expiredCode('wechat_pay')
    service.wechat.putTrade(id, { state: 'USERPAYING', amount: 1000 })
    service.wechat.addFaults([{ on: 'reverse', fault: 'error', code: 'TRADE_ERROR', outTradeNo: id }])
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { repair: false } })
    expect(await begunAt(id)).toBeNull()
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: true } })
    expect((await service.history(id)).exceptions).toEqual([])
  })

  it('unless another one before it may have been', async () => {
    const id = await expiredCode('wechat_pay')
    service.wechat.putTrade(id, { state: 'USERPAYING', amount: 1000 })
    service.wechat.addFaults([{ on: 'reverse', fault: 'reset', outTradeNo: id, performed: false }])
    expect(await service.sync(id)).toMatchObject({ code: 20000 })
    const first = await begunAt(id)
    expect(first).not.toBeNull()
    service.wechat.addFaults([{ on: 'reverse', fault: 'error', code: 'TRADE_ERROR', outTradeNo: id }])
    expect(await service.sync(id)).toMatchObject({ code: 0, data: { repair: false } })
    expect(await begunAt(id)).toEqual(first)
  })
})

it.each([
  ['wechat_pay', 'USERPAYING', 'SUCCESS'],
  ['ali_pay', 'WAIT_BUYER_PAY', 'TRADE_SUCCESS'],
] as const)(
  '%s: who has lost the lease reverses nothing, since another sync has settled the order',
  async (channel, payable, paid) => {
    const other = await startService({ database: service.database, sandboxes: service })
    try {
      const gateway = channel === 'ali_pay' ? service.alipay : service.wechat
      const id = await expiredCode(channel)
      gateway.putTrade(id, { state: payable, amount: 1000 })
      const hold = gateway.holdNext('query', id)
      // "Not paid", says the answer, which is under way.
      const late = service.sync(id)
      await hold.arrived
      gateway.putTrade(id, { state: paid, amount: 1000 })
      // A standby took over that never saw the lease.
      await service.pool.query('UPDATE orders SET lease_token = NULL, lease_expires_at = NULL WHERE id = $1', [id])
      expect(await other.sync(id)).toMatchObject({ code: 0, data: { gatewayStatus: 'pay_success', repair: true } })
      hold.release()
      expect(await late).toMatchObject({ code: 10007 })
      expect(gateway.calls(id).reverse).toBe(0)
      expect(gateway.getTrade(id)).toMatchObject({ state: paid, refunded: 0 })
    } finally {
      await other.stop()
    }
  },
)

it('WeChat Pay says that it was reversed before: "paid" right after that settles nothing', async () => {
  const id = await expiredCode('wechat_pay')
  service.wechat.putTrade(id, { state: 'USERPAYING', amount: 1000 })
  service.wechat.addFaults([{ on: 'reverse', fault: 'error', code: 'ORDERREVERSED', outTradeNo: id }])
  const hold = service.wechat.holdNext('reverse', id)
  const call = service.sync(id)
  await hold.arrived
  service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1000 })
  hold.release()
  expect(await call).toMatchObject({ code: 20000 })
  expect(await service.sync(id)).toMatchObject({ code: 20000 })
  await expectUnsettled(id)
})

it('WeChat Pay, whose reversal has no settings here: an error in the log, and counted', async () => {
  const lines: string[] = []
  const unset = await startService({
    database: service.database,
    sandboxes: service,
    environment: { WECHAT_CLIENT_CERT: '', WECHAT_CLIENT_KEY: '', LOG_LEVEL: 'error' },
    onLogLine: (line) => lines.push(line),
  })
  try {
    const id = await expiredCode('wechat_pay')
    service.wechat.putTrade(id, { state: 'USERPAYING', amount: 1000 })
    expect(await unset.sync(id)).toMatchObject({ code: 20000 })
    expect(lines.map((line) => JSON.parse(line) as object)).toMatchObject([
      { event: 'gateway_refuses', operation: 'reverse', reason: 'configuration' },
    ])
    const metrics = await (await fetch(`${unset.url}/metrics`)).text()
    expect(metrics).toMatch(
      /unipay_gateway_call_duration_seconds_count\{[^}]*operation="reverse",outcome="configuration"\} 1/,
    )
  } finally {
    await unset.stop()
  }
})
