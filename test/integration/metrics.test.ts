import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'

import { createAlipaySandbox } from '../../src/sandbox/alipay.js'
import { issueCertificate } from '../../src/sandbox/certificates.js'
import { newKeyPair } from '../../src/sandbox/keys.js'
import { createMerchantSandbox, type MerchantSandbox } from '../../src/sandbox/merchant.js'
import { createWechatSandbox } from '../../src/sandbox/wechat.js'
import { createDatabase } from '../support/database.js'
import { problemsOf, type Scrape, scrape } from '../support/exposition.js'
import { finishRounds, makeOrdersDue } from '../support/rounds.js'
import { newPaymentId, SECRET, signedBody, startService, type TestService } from '../support/service.js'
import { proxyDatabase } from '../support/tcp-proxy.js'

const DAY_S = 86_400
const PLACE = 'https://127.0.0.1:1/notify'

const started: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const stop of started.splice(0).toReversed()) await stop()
})

async function start(options: Parameters<typeof startService>[0] = {}): Promise<TestService> {
  const service = await startService(options)
  started.push(async () => await service.stop())
  return service
}

/** What a series grew by from one scrape to another. One that was not there before began at nothing. */
function growth(before: Scrape, after: Scrape) {
  return (name: string, labels: Record<string, string> = {}) =>
    (after.value(name, labels) ?? Number.NaN) - (before.value(name, labels) ?? 0)
}

describe('each metric moves when its thing happens', () => {
  let service: TestService
  let merchant: MerchantSandbox
  let notifyUrl: string
  beforeAll(async () => {
    service = await startService()
    merchant = createMerchantSandbox({ secrets: [SECRET], signType: 'MD5' })
    notifyUrl = (await merchant.listen()).url
  })
  afterAll(async () => {
    await service.stop()
    await merchant.close()
  })

  /** What every metric grew by while `work` ran. */
  async function during(work: () => Promise<unknown>) {
    const before = await scrape(service.url)
    await work()
    return growth(before, await scrape(service.url))
  }
  it.each([
    ['0', 'success', async () => await service.sync(await service.registerPaid())],
    ['10005', 'unreadable', async () => await service.post('{')],
    ['10006', 'invalid', async () => await service.post('{"businessNo":"B1"}')],
    ['20000', 'unsigned', async () => await service.post('{"businessNo":"B1","reqTime":1}')],
    ['20000', 'order_not_named', async () => await service.post(signedBody({}))],
    ['20000', 'order_not_found', async () => await service.sync(newPaymentId())],
    ['20000', 'no_channel', async () => await service.sync(await service.register({ channel: null }))],
    [
      '20000',
      'channel_not_configured',
      async () => await service.sync(await service.register({ channel: 'union_pay' })),
    ],
    [
      '28100',
      'amount_mismatch',
      async () => {
        const id = await service.register()
        service.wechat.putTrade(id, { state: 'SUCCESS', amount: 999 })
        await service.sync(id)
      },
    ],
    [
      '20000',
      'gateway_unknown',
      async () => {
        const id = await service.registerPaid()
        service.wechat.addFaults([{ on: 'query', fault: 'unsigned', outTradeNo: id }])
        await service.sync(id)
      },
    ],
    ['10010', 'no_such_route', async () => await fetch(`${service.url}/unipay/other`)],
    ['10010', 'no_such_route', async () => await fetch(`${service.url}/unipay/%zz`)],
  ])('a merchant’s request answered with %s, %s', async (code, result, work) => {
    const grew = await during(work)
    expect(grew('unipay_merchant_request_duration_seconds_count', { code, result })).toBe(1)
    expect(grew('unipay_merchant_request_duration_seconds_count')).toBe(1)
  })

  it('another’s request, by its route and status, and never by its path', async () => {
    const id = await service.register()
    const grew = await during(async () => {
      await service.ops('GET', `/ops/orders/${id}`)
      await service.ops('GET', '/ops/orders/1')
      await fetch(`${service.url}/ops/orders/${id}`)
      await fetch(`${service.url}/random/${id}`, { method: 'DELETE' })
      await fetch(`${service.url}/random/%zz`)
    })
    const name = 'unipay_http_request_duration_seconds_count'
    const route = '/ops/orders/:paymentId'
    expect(grew(name, { method: 'GET', route, status: '200' })).toBe(1)
    expect(grew(name, { method: 'GET', route, status: '404' })).toBe(1)
    expect(grew(name, { method: 'GET', route, status: '401' })).toBe(1)
    expect(grew(name, { method: 'other', route: 'other', status: '404' })).toBe(1)
    expect(grew(name, { method: 'other', route: 'other', status: '400' })).toBe(1)
  })

  it('a sync and its repair, by source, channel, outcome and way, with the order’s money and age', async () => {
    const id = await service.registerPaid()
    const grew = await during(async () => await service.sync(id))
    const labels = { source: 'merchant', channel: 'wechat_pay', outcome: 'synced' }
    expect(grew('unipay_sync_duration_seconds_count', labels)).toBe(1)
    expect(grew('unipay_repairs_total', { way: 'pay_success' })).toBe(1)
    expect(grew('unipay_repaired_fen_total', { way: 'pay_success' })).toBe(1000)
    expect(grew('unipay_time_to_truth_seconds_count', { way: 'pay_success' })).toBe(1)
    // Ten minutes old when it was registered.
    expect(grew('unipay_time_to_truth_seconds_bucket', { way: 'pay_success', le: '300' })).toBe(0)
    expect(grew('unipay_time_to_truth_seconds_bucket', { way: 'pay_success', le: '900' })).toBe(1)
    expect(grew('unipay_gateway_call_duration_seconds_count', { operation: 'query', outcome: 'ok' })).toBe(1)
    expect(grew('unipay_gateway_budget_wait_seconds_count', { channel: 'wechat_pay' })).toBe(1)
  })

  it('syncs by the sweeper and by operators, and an unknown outcome of the gateway', async () => {
    const id = await service.register({ channel: 'ali_pay' })
    service.alipay.putTrade(id, { state: 'WAIT_BUYER_PAY', amount: 1000 })
    service.alipay.addFaults([{ on: 'query', fault: 'tampered', times: 1, outTradeNo: id }])
    await makeOrdersDue(service.pool, [id])
    const grew = await during(async () => {
      await service.sweep()
      await service.ops('POST', `/ops/orders/${id}/sync`)
    })
    const name = 'unipay_sync_duration_seconds_count'
    expect(grew(name, { source: 'sweeper', channel: 'ali_pay', outcome: 'gateway_unknown' })).toBe(1)
    expect(grew(name, { source: 'operator', channel: 'ali_pay', outcome: 'synced' })).toBe(1)
    const calls = 'unipay_gateway_call_duration_seconds_count'
    expect(grew(calls, { channel: 'ali_pay', outcome: 'bad_signature' })).toBe(1)
  })

  it('an order of no channel, of a foreign one, and of none at all, by three fixed words', async () => {
    const grew = await during(async () => {
      await service.sync(await service.register({ channel: null }))
      await service.sync(await service.register({ channel: 'paid_by_shells' }))
      await service.sync(newPaymentId())
    })
    const name = 'unipay_sync_duration_seconds_count'
    expect(grew(name, { channel: 'none', outcome: 'no_channel' })).toBe(1)
    expect(grew(name, { channel: 'other', outcome: 'channel_not_configured' })).toBe(1)
    expect(grew(name, { channel: 'none', outcome: 'not_found' })).toBe(1)
  })

  it('a lease that another sync holds, and one that was lost on the way', async () => {
    const held = await service.registerPaid()
    const lost = await service.registerPaid()
    const lease = async (id: string, token: string) =>
      await service.pool.query(
        `UPDATE orders SET lease_token = $2, lease_expires_at = now() + interval '1 minute' WHERE id = $1`,
        [id, token],
      )
    await lease(held, 'a0000000-0000-4000-8000-000000000000')
    service.wechat.addFaults([{ on: 'query', fault: 'delay', ms: 400, outTradeNo: lost }])
    const grew = await during(async () => {
      expect(await service.sync(held)).toMatchObject({ code: 10007 })
      const answer = service.sync(lost)
      await expect.poll(async () => (await leased(lost)).lease_token).not.toBeNull()
      await lease(lost, 'b0000000-0000-4000-8000-000000000000')
      expect(await answer).toMatchObject({ code: 10007 })
    })
    expect(grew('unipay_lease_conflicts_total', { kind: 'held' })).toBe(1)
    expect(grew('unipay_lease_conflicts_total', { kind: 'lost' })).toBe(1)
    expect(grew('unipay_merchant_request_duration_seconds_count', { code: '10007', result: 'busy' })).toBe(2)
    async function leased(id: string) {
      const { rows } = await service.pool.query<{ lease_token: string | null }>(
        'SELECT lease_token FROM orders WHERE id = $1',
        [id],
      )
      return rows[0] ?? { lease_token: null }
    }
  })

  it('an exception, as it is opened', async () => {
    const id = await service.register()
    service.wechat.putTrade(id, { state: 'SUCCESS', amount: 1001 })
    const grew = await during(async () => {
      await service.sync(id)
      await service.sync(id)
    })
    expect(grew('unipay_exceptions_opened_total', { kind: 'amount_mismatch' })).toBe(1)
  })

  it('a notice: its sends, what it had waited, and its death', async () => {
    await service.sync(await service.registerPaid({ notifyUrl }))
    const delivered = await during(async () => await finishRounds(service.service.courier))
    expect(delivered('unipay_notice_attempt_duration_seconds_count', { outcome: 'delivered' })).toBe(1)
    expect(delivered('unipay_notice_delivery_lag_seconds_count')).toBe(1)
    const id = await service.registerPaid({ notifyUrl: PLACE })
    await service.sync(id)
    await service.pool.query('UPDATE notices SET attempts = 15 WHERE order_id = $1', [id])
    const died = await during(async () => await finishRounds(service.service.courier))
    expect(died('unipay_notice_attempt_duration_seconds_count', { outcome: 'unreachable' })).toBe(1)
    expect(died('unipay_notice_deaths_total')).toBe(1)
  })

  it('the event loop’s delay is there, under the name that the bench reads', async () => {
    expect((await scrape(service.url)).value('unipay_nodejs_eventloop_lag_p99_seconds')).toBeGreaterThan(0)
  })

  it('what promtool would accept, after all that', async () => {
    const { families, contentType } = await scrape(service.url)
    expect(problemsOf(families)).toEqual([])
    expect(contentType).toBe('text/plain; version=0.0.4; charset=utf-8')
    expect(families.length).toBeGreaterThan(40)
  })
})

it('a sync that threw is counted as failed, and its request as 10001', async () => {
  const { proxy, url } = await proxyDatabase((await createDatabase()).url)
  const service = await start({ environment: { DATABASE_URL: url } })
  started.unshift(async () => await proxy.close())
  proxy.setMode('closed')
  expect(await service.sync(newPaymentId())).toMatchObject({ code: 10001 })
  const after = await scrape(service.url)
  const labels = { source: 'merchant', channel: 'none', outcome: 'failed' }
  expect(after.value('unipay_sync_duration_seconds_count', labels)).toBe(1)
  expect(after.value('unipay_merchant_request_duration_seconds_count', { code: '10001' })).toBe(1)
  proxy.setMode('open')
})

it('a breaker that opens is shown, and what is refused while it is open', async () => {
  const service = await start({ environment: { GATEWAY_TIMEOUT_MS: '500' } })
  const closed = await scrape(service.url)
  expect(closed.value('unipay_gateway_breaker_state', { channel: 'wechat_pay', state: 'closed' })).toBe(1)
  const ids = await Promise.all(Array.from({ length: 45 }, async () => await service.register()))
  service.wechat.addFaults([{ on: 'query', fault: 'tampered', times: 100 }])
  await Promise.all(ids.map(async (id) => await service.sync(id)))
  await service.sync(ids[0] ?? '')
  const open = await scrape(service.url)
  expect(open.value('unipay_gateway_breaker_state', { channel: 'wechat_pay', state: 'open' })).toBe(1)
  expect(open.value('unipay_gateway_breaker_state', { channel: 'wechat_pay' })).toBe(1)
  const labels = { channel: 'wechat_pay', outcome: 'breaker_open' }
  expect(open.value('unipay_gateway_call_duration_seconds_count', labels)).toBeGreaterThan(0)
})

describe('what the database knows', () => {
  it('is shown to the fen: money and orders by channel and age, exceptions, lags, notices and batches', async () => {
    const service = await start()
    const ago = (seconds: number) => new Date(Date.now() - seconds * 1000).toISOString()
    await service.register({ amount: 1, createTime: ago(60) })
    await service.register({ amount: 20, createTime: ago(60) })
    await service.register({ amount: 300, channel: 'ali_pay', createTime: ago(7200) })
    await service.register({ amount: 4000, channel: 'union_pay', createTime: ago(2 * DAY_S) })
    await service.register({ amount: 50_000, channel: null, createTime: ago(2 * DAY_S) })
    const wrong = await service.register({ amount: 600_000, createTime: ago(1800) })
    service.wechat.putTrade(wrong, { state: 'SUCCESS', amount: 600_001 })
    await service.sync(wrong)
    const settled = await service.register({ notifyUrl: PLACE, createTime: ago(1800) })
    service.wechat.putTrade(settled, { state: 'SUCCESS', amount: 1000 })
    await service.sync(settled)
    await service.pool.query(`UPDATE notices SET next_attempt_at = now() - interval '100 seconds'`)
    await service.pool.query(
      `UPDATE orders SET next_sync_at = CASE WHEN amount_fen = 20 THEN now() - interval '200 seconds' END`,
    )
    await service.ops('POST', '/ops/batches', { channel: 'wechat_pay', status: 'progress' })

    const found = await scrape(service.url)
    expect(found.value('unipay_metrics_database_up')).toBe(1)
    const unsettled = (channel: string, age: string) =>
      (['orders', 'fen'] as const).map((unit) => found.value(`unipay_unsettled_${unit}`, { channel, age }))
    expect(unsettled('wechat_pay', '15m')).toEqual([2, 21])
    expect(unsettled('wechat_pay', '1h')).toEqual([1, 600_000])
    expect(unsettled('ali_pay', '6h')).toEqual([1, 300])
    expect(unsettled('other', 'older')).toEqual([1, 4000])
    expect(unsettled('none', 'older')).toEqual([1, 50_000])
    expect(unsettled('ali_pay', '15m')).toEqual([0, 0])
    expect([found.value('unipay_unsettled_orders'), found.value('unipay_unsettled_fen')]).toEqual([6, 654_321])
    expect(found.value('unipay_exceptions_open', { kind: 'amount_mismatch' })).toBe(1)
    expect(found.value('unipay_exceptions_at_risk_fen', { kind: 'amount_mismatch' })).toBe(600_001)
    expect(found.value('unipay_exceptions_open', { kind: 'double_payment' })).toBe(0)
    expect(found.value('unipay_sweeper_lag_seconds', { channel: 'wechat_pay' })).toBeCloseTo(200, -1)
    expect(found.value('unipay_sweeper_lag_seconds', { channel: 'ali_pay' })).toBe(0)
    expect(found.value('unipay_notice_lag_seconds')).toBeCloseTo(100, -1)
    expect(found.value('unipay_notices_pending')).toBe(1)
    expect(found.value('unipay_notices_dead')).toBe(0)
    expect(found.value('unipay_batches_running')).toBe(1)
    expect(found.value('unipay_batch_items_left')).toBe(3)
  })

  it('is asked for once for all who ask at the same time, and not again for some seconds', async () => {
    const service = await start()
    const { load } = service.service.database
    const before = load().handedOut
    await Promise.all(Array.from({ length: 50 }, async () => await scrape(service.url)))
    await scrape(service.url)
    // Five statements: unsettled, findings, the two lags, open work.
    expect(load().handedOut - before).toBe(5)
  })

  it.each(['closed', 'silent'] as const)(
    'is absent, and everything else there in time, while the database is away (%s); and is back with it',
    async (mode) => {
      const database = await createDatabase()
      started.push(async () => await database.drop())
      const { proxy, url } = await proxyDatabase(database.url)
      started.push(async () => await proxy.close())
      const service = await start({ environment: { DATABASE_URL: url } })
      proxy.setMode(mode)
      const startedMs = performance.now()
      const away = await scrape(service.url)
      expect(performance.now() - startedMs).toBeLessThan(4_000)
      expect(away.value('unipay_metrics_database_up')).toBe(0)
      for (const name of [
        'unsettled_fen',
        'exceptions_open',
        'sweeper_lag_seconds',
        'notices_pending',
        'batches_running',
      ])
        expect(away.value(`unipay_${name}`)).toBeNull()
      expect(away.value('unipay_merchant_request_duration_seconds_count')).toBe(0)
      expect(problemsOf(away.families)).toEqual([])
      proxy.setMode('open')
      await expect
        .poll(async () => (await scrape(service.url)).value('unipay_notices_pending'), { timeout: 20_000 })
        .toBe(0)
    },
  )

  it('keeps nobody waiting while a table is locked', async () => {
    const service = await start()
    const blocker = await service.pool.connect()
    await blocker.query('BEGIN')
    await blocker.query('LOCK TABLE orders IN ACCESS EXCLUSIVE MODE')
    const startedMs = performance.now()
    const scrapes = await Promise.all(Array.from({ length: 10 }, async () => await scrape(service.url)))
    expect(performance.now() - startedMs).toBeLessThan(4_000)
    expect(scrapes.map((found) => found.value('unipay_metrics_database_up'))).toEqual(scrapes.map(() => 0))
    await blocker.query('ROLLBACK')
    blocker.release()
  })
})

it('time until certificates end: of the settings, and of those that were downloaded; it runs down by itself', async () => {
  const sandboxes = {
    wechat: createWechatSandbox({ mode: 'certificate' }),
    alipay: createAlipaySandbox({ mode: 'certificate' }),
  }
  await Promise.all([sandboxes.wechat.listen(), sandboxes.alipay.listen()])
  started.push(async () => await Promise.all([sandboxes.wechat.close(), sandboxes.alipay.close()]))
  let laterMs = 0
  const service = await start({ sandboxes, now: () => Date.now() + laterMs })
  const left = async (certificate: string) =>
    (await scrape(service.url)).value('unipay_certificate_expiry_seconds', { certificate })
  expect(await left('wechat_platform')).toBeNull()
  await service.sync(await service.register())
  for (const name of ['wechat_platform', 'WECHAT_CLIENT_CERT', 'ALIPAY_APP_CERT', 'ALIPAY_CERT', 'ALIPAY_ROOT_CERT']) {
    laterMs = 0
    const now = await left(name)
    expect(now).toBeGreaterThan(DAY_S)
    laterMs = 3 * DAY_S * 1000
    expect(await left(name)).toBeCloseTo((now ?? 0) - 3 * DAY_S, -2)
  }
})

it('of the certificates in one file only those that are used count: a next app certificate raises no hope', async () => {
  const alipay = createAlipaySandbox({ mode: 'certificate' })
  const wechat = createWechatSandbox()
  await Promise.all([wechat.listen(), alipay.listen()])
  started.push(async () => await Promise.all([wechat.close(), alipay.close()]))
  const { privateKey, publicKey } = await newKeyPair()
  const issue = async (days: number, isAuthority: boolean) => {
    const notAfter = Date.now() + days * DAY_S * 1000
    const name = [['CN', 'Alipay']] as const
    const pair = { publicKey, issuerKey: privateKey }
    return await issueCertificate({
      ...pair,
      subject: name,
      issuer: name,
      serial: '0A',
      notBefore: 0,
      notAfter,
      isAuthority,
    })
  }
  const own = alipay.merchantSettings()['ALIPAY_APP_CERT'] ?? ''
  const service = await start({
    sandboxes: { wechat, alipay },
    environment: {
      ALIPAY_APP_CERT: `${own}${await issue(7300, false)}`,
      ALIPAY_CERT: `${await issue(5, false)}${await issue(7300, true)}`,
    },
  })
  const found = await scrape(service.url)
  const daysLeft = (certificate: string) =>
    (found.value('unipay_certificate_expiry_seconds', { certificate }) ?? Number.NaN) / DAY_S
  expect(daysLeft('ALIPAY_CERT')).toBeCloseTo(5, 1)
  expect(daysLeft('ALIPAY_APP_CERT')).toBeCloseTo(5 * 365, 1)
})
